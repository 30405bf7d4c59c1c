import assert from "node:assert/strict";
import { test } from "node:test";
import { Link } from "../src/link.js";

/** A clock whose hands we move. */
class Clock {
  time = 0;
  due = [];
  now = () => this.time;
  after = (ms, callback) => this.due.push({ at: this.time + ms, callback });
  clear = () => (this.due = []);
  advance(ms) {
    const until = this.time + ms;
    for (;;) {
      const next = this.due.findIndex(({ at }) => at <= until);
      if (next < 0) break;
      const [{ at, callback }] = this.due.splice(next, 1);
      this.time = at;
      callback();
    }
    this.time = until;
  }
}

function linkWith(transmit = () => {}) {
  const clock = new Clock();
  const states = [];
  let n = 0;
  const link = new Link({ transmit, nextId: () => `c${++n}`, onState: (state) => states.push(state), clock });
  return { link, clock, states };
}

test("an ack within 400 ms changes nothing", () => {
  const { link, clock, states } = linkWith();
  const c = link.post({ t: "send" });
  clock.advance(399);
  assert.deepEqual(link.heard({ t: "ack", c }), [{ c, delivered: true }]);
  clock.advance(10_000);
  assert.deepEqual(states, []);
});

test("without an ack it is queued after 400 ms and lost after 2 s", () => {
  const { link, clock, states } = linkWith();
  link.post({ t: "send" });
  clock.advance(400);
  assert.deepEqual(states, ["queued"]);
  clock.advance(1599);
  assert.deepEqual(states, ["queued"]);
  clock.advance(1);
  assert.deepEqual(states, ["queued", "lost"]);
});

test("deltas keep it from being lost, though not from being queued", () => {
  const { link, clock, states } = linkWith();
  link.post({ t: "stop" });
  for (let i = 0; i < 10; i++) {
    clock.advance(1000);
    link.heard({ t: "d" });
  }
  assert.deepEqual(states, ["queued"]);
});

test("any message ends being lost", () => {
  const { link, clock } = linkWith();
  link.post({ t: "stop" });
  clock.advance(5000);
  assert.equal(link.state, "lost");
  link.heard({ t: "d" });
  assert.equal(link.state, "queued");
});

test("an ack settles earlier messages too, as not delivered", () => {
  const { link } = linkWith();
  const [first, second] = [link.post({ t: "send" }), link.post({ t: "hello" })];
  assert.deepEqual(link.heard({ t: "ack", c: second }), [
    { c: first, delivered: false },
    { c: second, delivered: true },
  ]);
});

test("acks of another view settle nothing", () => {
  const { link, clock } = linkWith();
  link.post({ t: "send" });
  assert.deepEqual(link.heard({ t: "ack", c: "theirs" }), []);
  clock.advance(400);
  assert.equal(link.state, "queued");
});

test("a snapshot answers hello without an ack", () => {
  const { link, clock, states } = linkWith();
  link.post({ t: "hello" });
  link.heard({ t: "snap" });
  clock.advance(5000);
  assert.deepEqual(states, []);
});

test("a closed comm ends as lost, not as an exception", (t) => {
  t.mock.method(console, "warn", () => {});
  const { link, clock } = linkWith(() => {
    throw new Error("comm closed");
  });
  link.post({ t: "send" });
  clock.advance(2000);
  assert.equal(link.state, "lost");
});
