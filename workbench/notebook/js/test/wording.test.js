import assert from "node:assert/strict";
import { test } from "node:test";
import { contextLine, dollars, earlierLine, editingLine, estimateDetail, estimateLine, footerParts } from "../src/wording.js";

test("amounts are written as in Python", () => {
  const written = ["1234.5", "12.4", "9.996", "0.5", "0.00996", "0.0078", "0.00002", "0", "0E-9", null].map(dollars);
  assert.deepEqual(written, ["$1,235", "$12", "$10", "$0.50", "$0.01", "$0.0078", "$0.00002", "$0", "$0", "cost unknown"]);
});

test("half a digit is rounded as in Python", () => {
  assert.deepEqual(["0.00155", "0.00145", "0.125", "1.005"].map(dollars), ["$0.0016", "$0.0014", "$0.12", "$1.00"]);
});

test("a question that is edited is named by its beginning", () => {
  const rest = ": the reply comes in a branch, and what was said stays.";
  assert.equal(editingLine(" two?\nplease "), `Editing “two? please”${rest}`);
  assert.equal(editingLine("🎈".repeat(48)), `Editing “${"🎈".repeat(48)}”${rest}`);
  assert.equal(editingLine("🎈".repeat(49)), `Editing “${"🎈".repeat(47)}…”${rest}`);
  assert.deepEqual(["", undefined].map(editingLine), Array(2).fill(`Editing a question${rest}`));
});

test("what is sent is told with tokens and price", () => {
  const told = { input_tokens: 1240, cached_tokens: 0, reply_tokens: 300, input_usd: "0.001", cost_usd: "0.004", local: false };
  assert.equal(estimateLine(told), "about 1,240 tokens · about $0.0040");
  assert.equal(estimateLine({ ...told, cost_usd: null }), "about 1,240 tokens · price unknown");
  assert.equal(estimateLine({ ...told, cost_usd: "0", local: true }), "about 1,240 tokens · free");
  assert.match(estimateDetail(told), /The input about \$0\.0010, the rest a reply of 300 tokens/);
});

test("the context is told as a part of what the model takes", () => {
  const lines = [[0, 200_000], [24_350, 200_000], [1500, 1_000_000], [1500, 8192], [1500, null]].map(([used, window]) => contextLine({ used, window }));
  assert.deepEqual(lines, ["0 % of 200k context", "12 % of 200k context", "<1 % of 1M context", "18 % of 8k context", "1,500 tokens of context"]);
});

test("one message is, two messages are", () => {
  assert.equal(earlierLine(1), "Show 1 earlier message");
  assert.equal(earlierLine(1200), "Show 1,200 earlier messages");
});

test("of a footer a narrow box leaves out what its header says, what was cached, and the seconds", () => {
  const short = (line, model) => footerParts(line, model).filter(([, told]) => !told).map(([text]) => text).join("");
  const line = "claude-sonnet-5-5 · 1,204 in + 2 out tokens · 9,200 from cache · $0.0030 · 1.2 s";

  assert.equal(short(line, "claude-sonnet-5-5"), "1,204 in + 2 out tokens · $0.0030");
  assert.equal(short(line, "claude-opus-5"), "claude-sonnet-5-5 · 1,204 in + 2 out tokens · $0.0030");
  assert.equal(short(`interrupted · ${line}`, "claude-sonnet-5-5"), "interrupted · 1,204 in + 2 out tokens · $0.0030");
  assert.equal(short("local (embedded model) · 1 in + 1 out tokens · $0 · 0.1 s", "local"), "1 in + 1 out tokens · $0");
  for (const each of [line, `refused · ${line}`, "claude-sonnet-5-5 · 1.2 s", "12 in"])
    assert.equal(footerParts(each, "claude-sonnet-5-5").map(([text]) => text).join(""), each);
});
