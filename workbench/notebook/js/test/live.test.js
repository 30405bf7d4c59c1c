import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem } from "../src/page/api.js";
import { LiveChat } from "../src/page/live.js";

const GONE_WRONG = new Problem({ error: "Not connected", message: "no", type: "not_connected", retryable: true });
const TURN = [
  { chat_id: "c1", message_id: "a2", model: "m", request_id: "r", token: "", done: false },
  { token: "4", done: false },
  { token: "", done: true, fullText: "4", usage: null, cost_usd: "0", stop_reason: "end_turn" },
];
const CHAT = {
  ...{ chat_id: "c1", title: "t", model: "m", prompt: null, variables: {}, cost_usd: "0" },
  messages: [
    { message_id: "q1", role: "user", status: "complete", content: "2+2?" },
    { message_id: "a1", role: "assistant", status: "complete", content: "four", model: "m", usage: null },
  ],
};

/** A chat that is shown; what it says is kept. `api` answers. */
function shownChat(api) {
  const listener = { model: "m", known: () => new Set(), begun() {}, changed() {}, refused() {} };
  const chat = new LiveChat(api, "c1", listener);
  const said = [];
  chat.on("msg:custom", (message) => said.push(message));
  const until = async (t) => {
    for (let n = 0; n < 500 && !said.some((message) => message.t === t); n++) await new Promise((go) => setTimeout(go, 10));
    return said.find((message) => message.t === t);
  };
  return { chat, said, until };
}

test("a look that fails while something is asked says nothing: what is asked tells how it ends", async () => {
  let fail;
  let answers = [Promise.resolve(structuredClone(CHAT)), new Promise((_, reject) => (fail = reject))];
  let go;
  const events = (async function* () {
    await new Promise((resolve) => (go = resolve));
    yield TURN;
  })();
  const { chat, said, until } = shownChat({ chat: () => answers.shift(), ask: async () => ({ budgetLeft: null, events }) });
  chat.send({ t: "hello", c: "1" });
  await until("snap");
  chat.refresh();
  chat.send({ t: "send", c: "2", text: "and 3+3?" });
  await until("ack");
  while (!go) await new Promise((turn) => setTimeout(turn, 1));
  fail(GONE_WRONG);
  await new Promise((turn) => setTimeout(turn));
  go();
  await until("end");
  assert.deepEqual(said.filter(({ t }) => t === "err"), []);
});

test("a question that was never sent is not taken for an older one of the same words", async () => {
  const answers = [Promise.reject(GONE_WRONG)];
  const { chat, until } = shownChat({ chat: async () => answers.shift() ?? structuredClone(CHAT) });
  chat.send({ t: "send", c: "1", text: "2+2?" });
  assert.equal((await until("err"))?.c, "1");
});

test("a question that failed is not taken for an older one of the same words", async () => {
  const { chat, until } = shownChat({ chat: async () => structuredClone(CHAT), ask: () => Promise.reject(GONE_WRONG) });
  chat.send({ t: "send", c: "1", text: "2+2?" }); // before the chat was read
  assert.equal((await until("err"))?.c, "1");
});

test("of two ratings of a reply the server hears the second one last", async () => {
  const heard = [];
  let go;
  const first = new Promise((resolve) => (go = resolve));
  const rate = async (id, score) => (score > 0 && (await first), heard.push(score));
  const { chat, said } = shownChat({ rate });
  for (const score of [1, -1]) chat.send({ t: "feedback", c: `${score}`, message_id: "a1", score, comment: null });
  setTimeout(go, 20);
  for (let n = 0; n < 500 && heard.length < 2; n++) await new Promise((turn) => setTimeout(turn, 10));
  assert.deepEqual(heard, [1, -1]);
  assert.deepEqual(said.filter(({ t }) => t === "err"), []);
});
