import assert from "node:assert/strict";
import { test } from "node:test";
import { Assets } from "../src/assets.js";

test("what was asked for and did not come is asked for again", () => {
  const assets = new Assets();
  let asked = 0;
  for (let n = 0; n < 2; n++) assets.want("some.js", () => asked++);
  assert.equal(asked, 2);
});
