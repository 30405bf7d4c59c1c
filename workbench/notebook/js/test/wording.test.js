import assert from "node:assert/strict";
import { test } from "node:test";
import { dollars, earlierLine } from "../src/wording.js";

test("amounts are written as in Python", () => {
  const written = ["1234.5", "12.4", "9.996", "0.5", "0.00996", "0.0078", "0.00002", "0", "0E-9", null].map(dollars);
  assert.deepEqual(written, ["$1,235", "$12", "$10", "$0.50", "$0.01", "$0.0078", "$0.00002", "$0", "$0", "cost unknown"]);
});

test("one message is, two messages are", () => {
  assert.equal(earlierLine(1), "Show 1 earlier message");
  assert.equal(earlierLine(1200), "Show 1,200 earlier messages");
});
