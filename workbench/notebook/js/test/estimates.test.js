import assert from "node:assert/strict";
import { test } from "node:test";
import { Estimates } from "../src/estimates.js";

/** Time that passes only when told to. */
class Clock {
  #now = 0;
  #waiting = [];

  after = (ms, callback) => {
    const timer = { at: this.#now + ms, callback };
    this.#waiting.push(timer);
    return timer;
  };
  clear = (timer) => (this.#waiting = this.#waiting.filter((other) => other !== timer));

  pass(ms) {
    this.#now += ms;
    for (const timer of [...this.#waiting].sort((a, b) => a.at - b.at)) {
      if (timer.at > this.#now || !this.#waiting.includes(timer)) continue;
      this.clear(timer);
      timer.callback();
    }
  }
}

function made() {
  const clock = new Clock();
  const asked = [];
  const estimates = new Estimates({ ask: (text) => `c${asked.push(text)}`, changed: () => {}, clock });
  const write = (text, more = {}) => estimates.update({ text, attachments: [], state: 0, ready: true, ...more });
  const answer = (c) => estimates.heard({ t: "estimate", c, input_tokens: 1 });
  return { clock, asked, estimates, write, answer };
}

test("a question is asked once, after a pause in typing", () => {
  const { clock, asked, write } = made();
  write("h");
  clock.pass(100);
  write("hi");
  write("hi");
  clock.pass(149);
  assert.deepEqual(asked, []);
  clock.pass(1);
  write("hi");
  clock.pass(1000);
  assert.deepEqual(asked, ["hi"]);
});

test("an answer to what was written before is not shown", () => {
  const { clock, estimates, write, answer } = made();
  write("hi");
  clock.pass(150);
  write("hi there");
  answer("c1");
  assert.equal(estimates.shown, null);
  clock.pass(150);
  answer("c2");
  assert.equal(estimates.shown.c, "c2");
});

test("an estimate stands for a moment while somebody goes on typing, then not without an answer", () => {
  const { clock, estimates, write, answer } = made();
  write("hi");
  clock.pass(150);
  answer("c1");
  write("hi there");
  clock.pass(699);
  assert.equal(estimates.shown.c, "c1");
  clock.pass(1);
  assert.equal(estimates.shown, null);
  answer("c2"); // late, but of what is written
  assert.equal(estimates.shown.c, "c2");
});

test("nothing is shown or asked when nothing is written or nobody answers", () => {
  for (const [text, more] of [["", {}], ["  ", {}], ["hi", { ready: false }]]) {
    const { clock, asked, estimates, write, answer } = made();
    write("before");
    clock.pass(150);
    answer("c1");
    write(text, more);
    clock.pass(1000);
    assert.equal(estimates.shown, null);
    assert.deepEqual(asked, ["before"]);
  }
});

test("what cannot be estimated shows nothing", () => {
  const { clock, estimates, write, answer } = made();
  write("hi");
  clock.pass(150);
  answer("c1");
  write("hi?");
  clock.pass(150);
  estimates.heard({ t: "err", c: "c2", message: "nobody could answer" });
  assert.equal(estimates.shown, null);
});

test("the same text is estimated anew when the chat went on, and with an attachment", () => {
  const { clock, asked, write } = made();
  write("hi");
  clock.pass(150);
  write("hi", { state: 1 });
  clock.pass(150);
  write("hi", { state: 1, attachments: ["a"] });
  clock.pass(150);
  assert.deepEqual(asked, ["hi", "hi", "hi"]);
});
