import assert from "node:assert/strict";
import { test } from "node:test";
import { inserter } from "../src/insert.js";

const VIEW = "application/vnd.jupyter.widget-view+json";

/** A notebook as far as it is used: each cell by the ids of the widgets that it shows, null if it is no code. */
function notebookOf(...cells) {
  const inserted = [];
  const outputs = (ids) => ({ length: ids.length, get: (at) => ({ data: { [VIEW]: { model_id: ids[at] } } }) });
  const made = cells.map((ids) => (ids ? { type: "code", outputs: outputs(ids) } : { type: "markdown" }));
  const notebook = {
    cells: { length: made.length, get: (n) => made[n] },
    sharedModel: { insertCell: (at, cell) => inserted.push([at, cell]) },
  };
  return { comm: { widget_manager: { context: { model: notebook } } }, inserted };
}

/** An element in the cell that JupyterLab has numbered so; undefined: in no cell. */
const shownIn = (number) => ({
  closest: (of) => (of === ".jp-Cell" && number !== undefined ? { dataset: { windowedListIndex: `${number}` } } : null),
});

function placeIn(cells, number, modelId) {
  const { comm, inserted } = notebookOf(...cells);
  inserter(comm)("x = 1", shownIn(number), modelId);
  return inserted[0][0];
}

test("code becomes the source of a new code cell, letter by letter", () => {
  const { comm, inserted } = notebookOf(["box"]);
  inserter(comm)("%%bash\n!rm -r /\n\t</script>\u202e", shownIn(0), "box");
  const cell = { cell_type: "code", source: "%%bash\n!rm -r /\n\t</script>\u202e", metadata: { trusted: true } };
  assert.deepEqual(inserted, [[1, cell]]);
});

test("its place is below the cell that shows the box, of several the one that it was pressed in", () => {
  assert.equal(placeIn([null, ["box"], []], 1, "box"), 2);
  assert.equal(placeIn([["box"], [], ["other", "box"]], 2, "box"), 3);
});

test("a number that is not of such a cell is not believed", () => {
  assert.equal(placeIn([[], ["box"], []], 2, "box"), 2);
});

test("an output that is shown apart leads to its cell, and a box in another widget to the cell it is in", () => {
  assert.equal(placeIn([[], ["box"], []], undefined, "box"), 2);
  assert.equal(placeIn([[], ["tabs"], []], 1, "box"), 2);
  assert.equal(placeIn([[], ["box"], []], 1, null), 2);
});

test("where nothing tells, it is the notebook's end", () => {
  assert.equal(placeIn([[], ["tabs"], []], undefined, "box"), 3);
  assert.equal(placeIn([[], ["tabs"], []], 7, "box"), 3);
});

test("a front end that does not show its notebook has nothing to insert into", () => {
  for (const comm of [{}, { widget_manager: {} }, { widget_manager: { context: { model: {} } } }]) assert.equal(inserter(comm), null);
});
