import assert from "node:assert/strict";
import { test } from "node:test";
import { keep, putBack, writableOf } from "../src/saved.js";

const VIEW = "application/vnd.jupyter.widget-view+json";
const view = (id) => ({ version_major: 2, version_minor: 0, model_id: id });

/** A notebook with one code cell, as far as it is used: what is on screen, and what is saved. */
function notebookWith(outputs, { collaborative = false } = {}) {
  const screen = structuredClone(outputs);
  const saved = structuredClone(outputs);
  const writes = [];
  const sharedModel = {
    appendStreamOutput() {},
    getOutputs: () => structuredClone(saved),
    updateOutputs: (start, end, [output], origin) => (writes.push(origin), saved.splice(start, end - start, output)),
  };
  const cell = {
    type: "code",
    sharedModel,
    outputs: { length: screen.length, get: (at) => screen[at], set: (at, output) => (screen[at] = output) },
  };
  const cells = [{ type: "markdown" }, cell];
  return {
    collaborative,
    dirty: false,
    cells: { length: 2, get: (n) => cells[n] },
    sharedModel: { cells: [{}, sharedModel] },
    ...{ screen, saved, writes },
  };
}

const shown = (id, text) => ({ output_type: "display_data", data: { [VIEW]: view(id), "text/plain": text }, metadata: {} });

test("of a box its text is saved, in silence, and of other widgets everything", () => {
  const notebook = notebookWith([shown("ours", "old"), shown("theirs", "slider")]);
  keep(notebook, "ours", { "text/plain": "new" });
  assert.deepEqual(notebook.saved[0].data, { "text/plain": "new" });
  assert.deepEqual(notebook.saved[0].metadata, { workbench: { model_id: "ours" } });
  assert.deepEqual(notebook.saved[1], shown("theirs", "slider"));
  assert.deepEqual(notebook.screen, [shown("ours", "old"), shown("theirs", "slider")]);
  assert.deepEqual([notebook.writes, notebook.dirty], [["silent-change"], true]);
});

test("what is saved already does not make the notebook dirty", () => {
  const notebook = notebookWith([shown("ours", "old")]);
  keep(notebook, "ours", { "text/plain": "new" });
  notebook.dirty = false;
  keep(notebook, "ours", { "text/plain": "new" });
  assert.deepEqual([notebook.writes.length, notebook.dirty], [1, false]);
});

test("those who edit a notebook together keep the view", () => {
  const notebook = notebookWith([shown("ours", "old")], { collaborative: true });
  keep(notebook, "ours", { "text/plain": "new" });
  assert.deepEqual(notebook.saved[0].data, { "text/plain": "new", [VIEW]: view("ours") });
});

test("a box is put back where its kernel knows it, and what is saved stays text", () => {
  const text = { output_type: "display_data", data: { "text/plain": "said" }, metadata: { workbench: { model_id: "ours" } } };
  const gone = { ...text, metadata: { workbench: { model_id: "gone" } } };
  const notebook = notebookWith([text, gone]);
  putBack(notebook, { has_model: (id) => id === "ours" });
  assert.deepEqual(notebook.screen[0].data, { "text/plain": "said", [VIEW]: view("ours") });
  assert.deepEqual(notebook.screen[1], gone);
  assert.deepEqual(notebook.saved, [text, gone]);
  assert.equal(notebook.dirty, false);
});

test("a front end that has no notebook, or would redraw it, is left alone", () => {
  const notebook = notebookWith([shown("ours", "old")]);
  const old = { ...notebook, sharedModel: { cells: [{}] } };
  assert.equal(writableOf({ widget_manager: { context: { model: notebook } } }), notebook);
  assert.equal(writableOf({ widget_manager: { context: { model: old } } }), null);
  assert.equal(writableOf({ widget_manager: {} }), null);
  assert.equal(writableOf({}), null);
});
