// The chat as text in the notebook: what is saved of the box, and read where there is no kernel.
//
// JupyterLab has each output twice: in the cell's output area, which is on screen, and in the shared document, which is
// saved. What is written to the document with the origin "silent-change" does not come back to the screen; so JupyterLab
// itself writes down what it shows. In that way the text is kept up to date here and the box is not touched. (An
// update_display_data would make a second view, with focus and place lost, and never end the first.)
//
// Only text is saved. Beside the view of a widget whose kernel is gone text would be of no use: in a notebook that it
// trusts, as it does its reader's own, JupyterLab says "Error displaying widget: model not found" and shows no other
// form. In return the box is put back here when a page finds its kernel running.

import { transcript } from "./protocol.js";

export const VIEW = "application/vnd.jupyter.widget-view+json";
const SILENT = "silent-change";
const ASK_MS = 100; // the box is painted first
const TOLD_MS = 1000;

/** The notebook that is open, where the front end lets us at it: JupyterLab and Notebook 7; else null. */
export function notebookOf(comm) {
  const notebook = comm.widget_manager?.context?.model;
  return notebook?.cells && notebook.sharedModel ? notebook : null;
}

/** The same if it can be changed in silence: what came with JupyterLab 4.3, together with this method. */
export function writableOf(comm) {
  const notebook = notebookOf(comm);
  return notebook?.sharedModel.cells.some((cell) => cell.appendStreamOutput) ? notebook : null;
}

function* outputsOf(notebook) {
  for (let n = 0; n < notebook.cells.length; n++) {
    const cell = notebook.cells.get(n);
    if (cell.type !== "code") continue;
    for (let at = 0; at < cell.outputs.length; at++) yield { cell, at, output: cell.outputs.get(at) };
  }
}

/** Have the notebook save `data` where it shows a widget. */
export function keep(notebook, modelId, data) {
  for (const { cell, at, output } of outputsOf(notebook)) {
    const view = output.data[VIEW];
    if (view?.model_id !== modelId) continue;
    const before = cell.sharedModel.getOutputs()[at];
    // those who edit a notebook together see the document itself: without the view they would lose the box
    const now = notebook.collaborative ? { ...data, [VIEW]: view } : data;
    if (same(before.data, now)) continue;
    const metadata = { ...before.metadata, workbench: { model_id: modelId } };
    cell.sharedModel.updateOutputs(at, at + 1, [{ ...before, data: now, metadata }], SILENT);
    notebook.dirty = true;
  }
}

/** Show the boxes again whose place holds their text only, as after a reload or when a cell was moved. */
export function putBack(notebook, manager) {
  const { dirty } = notebook;
  for (const { cell, at, output } of outputsOf(notebook)) {
    const id = output.metadata?.workbench?.model_id;
    if (typeof id !== "string" || output.data[VIEW] || !manager.has_model(id)) continue;
    const saved = cell.sharedModel.getOutputs()[at];
    const view = { version_major: 2, version_minor: 0, model_id: id };
    cell.outputs.set(at, { ...saved, data: { ...saved.data, [VIEW]: view } });
    cell.sharedModel.updateOutputs(at, at + 1, [saved], SILENT);
  }
  notebook.dirty = dirty;
}

/** Put boxes back now and whenever cells come; return what ends that. */
export function watch(comm) {
  const notebook = notebookOf(comm);
  if (!notebook) return undefined;
  const look = () => notebook.isDisposed || putBack(notebook, comm.widget_manager);
  const soon = () => queueMicrotask(look); // within the change that brings the cells, ours would not be silent
  look();
  notebook.cells.changed.connect(soon);
  return () => notebook.isDisposed || notebook.cells.changed.disconnect(soon);
}

const same = (one, other) =>
  [...new Set([...Object.keys(one), ...Object.keys(other)])].every((key) => textOf(one[key]) === textOf(other[key]));

const textOf = (value) => (Array.isArray(value) ? value.join("") : typeof value === "object" ? JSON.stringify(value) : value);

/** Keeps what is saved up to date with what a view shows. */
export class Keeper {
  #comm;
  #inquire;
  #root;
  #timer = null;
  #waiting = null; // for the focus to leave
  #modelId = null; // of the widget, once Python has said it
  #told = null; // for who waits for that

  constructor({ comm, inquire, root }) {
    this.#comm = comm;
    this.#inquire = inquire;
    this.#root = root;
  }

  /** Something was said, or another chat is shown. */
  said() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), ASK_MS);
  }

  answered(message) {
    if (message.t !== "transcript") return;
    this.#modelId = message.model_id;
    this.#told?.();
    const notebook = writableOf(this.#comm);
    if (notebook) keep(notebook, message.model_id, message.data);
  }

  /** The id of the widget, also of a view that has only just been opened; null where Python does not say it in a second. */
  async modelId() {
    if (this.#modelId === null) await new Promise((told) => ((this.#told = told), setTimeout(told, TOLD_MS)));
    return this.#modelId;
  }

  close() {
    clearTimeout(this.#timer);
    this.#waiting?.abort();
  }

  /** Elsewhere only Python can change the output, and the view may be made anew: not while somebody writes in it. */
  #ask() {
    this.#waiting?.abort();
    if (writableOf(this.#comm)) this.#inquire(transcript());
    else if (!this.#root.contains(this.#root.getRootNode().activeElement)) this.#inquire(transcript(true));
    else {
      this.#waiting = new AbortController();
      this.#root.addEventListener("focusout", () => this.said(), { once: true, signal: this.#waiting.signal });
    }
  }
}
