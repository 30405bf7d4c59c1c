import assert from "node:assert/strict";
import { test } from "node:test";
import { eventsOf } from "../src/page/events.js";
import { shown } from "../src/page/shown.js";
import { age, footer, sum, titleOf } from "../src/page/wording.js";

async function eventsFrom(...pieces) {
  const bytes = new TextEncoder().encode(pieces.join("|"));
  const cuts = pieces.map((piece) => new TextEncoder().encode(piece).length);
  let at = 0;
  const body = new ReadableStream({
    start(controller) {
      for (const length of cuts) {
        controller.enqueue(bytes.slice(at, at + length));
        at += length + 1;
      }
      controller.close();
    },
  });
  const found = [];
  for await (const batch of eventsOf(body)) found.push(batch.map(({ token }) => token));
  return found;
}

test("events that come together are told together, comments and empty lines are none", async () => {
  assert.deepEqual(await eventsFrom('data: {"token":"a"}\n\ndata: {"token":"b"}\n\n', ": ping\n\n", 'data: {"token":"c"}\n\n'), [
    ["a", "b"],
    ["c"],
  ]);
});

test("an event may be cut anywhere", async () => {
  assert.deepEqual(await eventsFrom("da", 'ta: {"tok', 'en":"a"}', "\n", "\n"), [["a"]]);
});

test("a letter may be cut in its middle", async () => {
  const bytes = new TextEncoder().encode('data: {"token":"é"}\n\n');
  const body = ReadableStream.from([bytes.slice(0, 17), bytes.slice(17)]);
  const found = [];
  for await (const batch of eventsOf(body)) found.push(...batch);
  assert.deepEqual(found, [{ token: "é" }]);
});

test("an event that is not whole is none", async () => {
  assert.deepEqual(await eventsFrom('data: {"token":"a"}\n\ndata: {"tok'), [["a"]]);
});

const message = (message_id, role, content, status = "complete") => ({ message_id, role, content, status });

test("of a question that was asked again only the last reply is shown", () => {
  const messages = [
    message("q1", "user", "hi"),
    message("a1", "assistant", "", "failed"),
    message("q2", "user", "hi"),
    message("a2", "assistant", "he", "interrupted"),
    message("q3", "user", "hi"),
    message("a3", "assistant", "hello"),
    message("q4", "user", "hi"),
    message("a4", "assistant", "again"),
  ];
  assert.deepEqual(shown(messages).map(({ message_id }) => message_id), ["q1", "a3", "q4", "a4"]);
});

test("another question after a failed reply leaves it there", () => {
  const messages = [message("q1", "user", "hi"), message("a1", "assistant", "", "failed"), message("q2", "user", "ho")];
  assert.equal(shown(messages).length, 3);
});

const REPLY = {
  model: "claude-sonnet-5-5",
  status: "complete",
  stop_reason: "end_turn",
  usage: { input_tokens: 1234, output_tokens: 50, cache_read_tokens: 0 },
  cost_usd: "0.002968",
  duration_ms: 1249,
};

test("the footer of a reply is that of Reply.footer", () => {
  assert.equal(footer(REPLY), "claude-sonnet-5-5 · 1,234 in + 50 out tokens · $0.0030 · 1.2 s");
  assert.equal(
    footer({ ...REPLY, model: "local", status: "interrupted", cost_usd: "0", usage: { ...REPLY.usage, cache_read_tokens: 1000 } }),
    "interrupted · local (embedded model) · 1,234 in + 50 out tokens · 1,000 from cache · $0 · 1.2 s",
  );
  assert.match(footer({ ...REPLY, stop_reason: "max_tokens" }), /^cut at max_tokens · /);
  assert.match(footer({ ...REPLY, stop_reason: "refusal" }), /^refused · /);
  assert.equal(footer({ ...REPLY, usage: null }), "");
});

test("amounts are added to the last digit", () => {
  assert.equal(sum("0.1", "0.2"), "0.300000000");
  assert.equal(sum("1234567.000000001", "0.999999999"), "1234568.000000000");
  assert.equal(sum("5", "0"), "5.000000000");
  assert.deepEqual([sum(null, "1"), sum("1", null)], [null, null]);
});

test("a chat is called as the server calls it", () => {
  assert.equal(titleOf("  What is\n 2+2?  "), "What is 2+2?");
  assert.equal(titleOf("a".repeat(60)), "a".repeat(60));
  assert.equal(titleOf("😀".repeat(61)), "😀".repeat(59) + "…");
});

test("chats stand under the day they were used", () => {
  const now = new Date(2026, 10, 28, 0, 5).getTime();
  const at = (...parts) => age(new Date(2026, ...parts).getTime(), now);
  assert.deepEqual(
    [at(10, 28, 0, 1), at(10, 27, 23, 59), at(10, 21, 12), at(10, 20, 12), at(9, 29), at(9, 28), at(0, 1)],
    ["Today", "Yesterday", "Previous 7 days", "Previous 30 days", "Previous 30 days", "Older", "Older"],
  );
});
