import assert from "node:assert/strict";
import { test } from "node:test";
import { clientIds, codePoints, parse, sequence } from "../src/protocol.js";

test("code points are counted as Python's len does", () => {
  assert.equal(codePoints("naïve"), 5);
  assert.equal(codePoints("a😀b"), 3);
  assert.equal(codePoints("👩‍🚀"), 3);
  assert.equal(codePoints("\ud83d"), 1); // half a pair
  assert.equal(codePoints(""), 0);
});

test("a batch is next, seen before, or shows a gap", () => {
  assert.equal(sequence(0, 1), "next");
  assert.equal(sequence(4, 4), "old");
  assert.equal(sequence(4, 6), "gap");
});

test("messages of another kind, or without what we rely on, are dropped", (t) => {
  t.mock.method(console, "warn", () => {});
  assert.equal(parse({ t: "chats" }), null);
  assert.equal(parse({ t: "toString" }), null);
  assert.equal(parse(undefined), null);
  assert.equal(parse({ t: "d", turn: "t1", seq: "1", s: "x" }), null);
  const good = { t: "d", turn: "t1", seq: 1, k: "text", i: 0, s: "x" };
  assert.equal(parse(good), good);
});

test("client ids differ between views", () => {
  const [one, other] = [clientIds(), clientIds()];
  assert.notEqual(one(), other());
  assert.notEqual(one(), one());
});
