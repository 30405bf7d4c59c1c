// Code of a reply as a new cell of the notebook, to be read there: it is text, and is not run.

import { notebookOf, VIEW } from "./saved.js";

/**
 * Return insert(text, element, modelId), which puts text into a new code cell below the one that shows the element; null
 * where the front end does not let us at its notebook. One "undo" of the notebook takes the cell back.
 */
export function inserter(comm) {
  const notebook = notebookOf(comm);
  if (!notebook) return null;
  return (text, element, modelId) => {
    // trusted as JupyterLab's own new cells are: the notebook would count as not trusted until it is run
    const cell = { cell_type: "code", source: text, metadata: { trusted: true } };
    notebook.sharedModel.undoManager?.stopCapturing(); // or it would be undone with whatever was done half a second before
    notebook.sharedModel.insertCell(below(notebook.cells, element, modelId), cell);
  };
}

/** The place below the cell that shows an element of the widget `modelId` (null: not known yet); else the notebook's end. */
function below(cells, element, modelId) {
  const showing = [];
  for (let n = 0; n < cells.length; n++) if (shows(cells.get(n), modelId)) showing.push(n);
  // JupyterLab numbers the cells that it has in the document, for it leaves out those that are out of sight
  const here = Number(element.closest(".jp-Cell")?.dataset.windowedListIndex ?? NaN);
  const known = showing.length > 0 ? showing.includes(here) : here < cells.length; // a box within a box is in no output
  return (known ? here : (showing[0] ?? cells.length - 1)) + 1; // an output shown apart is in no cell
}

function shows({ type, outputs }, modelId) {
  if (type !== "code" || !modelId) return false;
  for (let at = 0; at < outputs.length; at++) if (outputs.get(at).data[VIEW]?.model_id === modelId) return true;
  return false;
}
