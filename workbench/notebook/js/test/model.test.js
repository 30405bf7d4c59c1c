import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatState } from "../src/model.js";

const SNAP = { t: "snap", chat_id: "c1", title: "T", model: "m", local: false, messages: [], live: null, cost_usd: "0.5" };
const START = { t: "start", turn: "t1", message_id: "a1", user_message_id: "u1", text: "hi", model: "m" };
const delta = (seq, s, k = "text") => ({ t: "d", turn: "t1", seq, k, i: 0, s });
const end = (more) => ({
  t: "end", turn: "t1", message_id: "a1", status: "complete", stop_reason: "end_turn", len: 5, footer: "f", chat_cost_usd: "0.75", ...more,
});

function chatAfter(...messages) {
  const chat = new ChatState();
  chat.verdicts = [SNAP, ...messages].map((message) => chat.apply(message)).slice(1);
  return chat;
}

const reply = (chat) => chat.messages.at(-1);

test("a turn from start to end", () => {
  const chat = chatAfter(START, delta(1, "hel"), delta(2, "lo"), end());
  assert.deepEqual(chat.messages.map(({ id, role, status, text }) => [id, role, status, text]), [
    ["u1", "user", "complete", "hi"],
    ["a1", "assistant", "complete", "hello"],
  ]);
  assert.deepEqual([chat.live, chat.costUsd, reply(chat).footer], [null, "0.75", "f"]);
});

test("thinking is not part of the reply", () => {
  const chat = chatAfter(START, delta(1, "hmm", "think"), delta(2, "hello"), end());
  assert.equal(reply(chat).text, "hello");
  assert.equal(chat.verdicts.at(-1), "ok");
});

test("a batch seen before is not shown twice", () => {
  assert.equal(reply(chatAfter(START, delta(1, "a"), delta(1, "a"), delta(2, "b"))).text, "ab");
});

test("a gap asks for a snapshot and waits for it", () => {
  const chat = chatAfter(START, delta(1, "a"), delta(3, "c"), delta(4, "d"));
  assert.deepEqual(chat.verdicts, ["ok", "ok", "resync", "ok"]);
  assert.equal(reply(chat).text, "a");
  assert.deepEqual(chat.have, { a1: 1 });
  chat.apply({ ...SNAP, messages: [{ message_id: "u1", role: "user", status: "complete", text: "hi" }], live: { turn: "t1", message_id: "a1", seq: 4, text: "abcd" } });
  chat.apply(delta(5, "e"));
  assert.equal(reply(chat).text, "abcde");
});

test("a wrong length asks for a snapshot, once", () => {
  const chat = chatAfter(START, delta(1, "hell"), end());
  assert.equal(chat.verdicts.at(-1), "resync");
  chat.apply({ ...SNAP, messages: [{ message_id: "a1", role: "assistant", status: "complete", text: "hell" }] });
  assert.equal(chat.apply(end()), "ok");
});

test("the length counts code points", () => {
  assert.deepEqual(chatAfter(START, delta(1, "😀"), end({ len: 1 })).verdicts, ["ok", "ok", "ok"]);
});

test("batches of an unknown turn ask for a snapshot, late ones of an ended turn do not", () => {
  assert.deepEqual(chatAfter(delta(1, "x")).verdicts, ["resync"]);
  assert.deepEqual(chatAfter(START, delta(1, "hello"), end(), delta(2, "x")).verdicts, ["ok", "ok", "ok", "ok"]);
});

test("a pending message becomes the user message of the turn it started", () => {
  const chat = chatAfter();
  chat.asked("c9", { text: "hi" });
  assert.equal(chat.busy, true);
  chat.apply(START);
  assert.deepEqual([chat.pending, chat.messages.length], [null, 2]);
});

test("a turn of the embedded model says so", () => {
  const chat = chatAfter({ ...START, model: "local" });
  assert.equal(chat.local, true);
  chat.apply(end());
  chat.apply({ ...START, turn: "t2", message_id: "m9", user_message_id: "q9", model: "claude-sonnet-5-5" });
  assert.equal(chat.local, false);
});

test("what a budget has left is known once somebody tells, and stays known", () => {
  const chat = chatAfter();
  assert.equal(chat.budgetLeft, null);
  chat.apply({ ...START, budget_left_usd: "1.5" });
  chat.apply(end());
  assert.equal(chat.budgetLeft, "1.5");
});

test("a turn of another view leaves what is pending here", () => {
  const chat = chatAfter();
  chat.asked("c9", { text: "mine" });
  chat.apply(START);
  assert.equal(chat.pending.text, "mine");
});

test("a refusal is kept apart from the messages", () => {
  const chat = chatAfter();
  chat.asked("c9", { text: "hi" });
  chat.apply({ t: "err", turn: null, error: "Budget Exceeded", message: "m", type: "budget_exceeded", retryable: false });
  assert.equal(chat.refusal.error, "Budget Exceeded");
  assert.equal(chat.withdraw(), "hi");
  assert.equal(chat.busy, false);
});

test("a lost connection is forgotten once something comes, another refusal is not", () => {
  const chat = chatAfter();
  const refusal = { t: "err", turn: null, error: "E", message: "m", type: "not_connected", retryable: true };
  chat.apply(refusal);
  assert.equal(chat.refusal.type, "not_connected");
  chat.apply(SNAP);
  assert.equal(chat.refusal, null);
  chat.apply({ ...refusal, type: "rate_limited" });
  chat.apply(SNAP);
  assert.equal(chat.refusal.type, "rate_limited");
});

test("a refusal meant for another view is none of ours", () => {
  const chat = chatAfter();
  chat.asked("c9", { text: "hi" });
  chat.apply({ t: "err", turn: null, c: "theirs", error: "E", message: "m", type: "t", retryable: false });
  assert.equal(chat.refusal, null);
});

test("an error in a turn fails it; a retry replaces the failed reply", () => {
  const chat = chatAfter(START, delta(1, "he"), { t: "err", turn: "t1", error: "E", message: "m", type: "t", retryable: true }, end({ status: "failed", len: 2 }));
  assert.deepEqual(chat.verdicts, ["ok", "ok", "ok", "ok"]);
  assert.equal(chat.retryable.id, "a1");
  chat.asked("c9", { retryOf: "a1" });
  assert.equal(chat.retryable, null);
  chat.apply({ ...START, turn: "t2", message_id: "a2" });
  assert.deepEqual(chat.messages.map(({ id }) => id), ["u1", "a2"]);
  assert.equal(chat.pending, null);
});

test("a snapshot brings what was asked and the errors of messages", () => {
  const chat = new ChatState();
  const failed = { message_id: "a0", role: "assistant", status: "failed", text: "", error: { message: "m", type: "t", retryable: false } };
  chat.apply({ ...SNAP, messages: [failed], asked: { c: "theirs", text: "hi", retry_of: null } });
  assert.deepEqual([reply(chat).error.message, reply(chat).error.error], ["m", "Chat failed"]);
  assert.deepEqual([chat.busy, chat.pending.text], [true, "hi"]);
  chat.apply({ t: "err", turn: null, c: "theirs", message: "m", type: "t", retryable: false });
  assert.equal(chat.withdraw(), "hi");
});

test("what another view asked does not push out what was not delivered yet", () => {
  const chat = chatAfter();
  chat.asked("c9", { text: "mine" });
  chat.apply({ ...SNAP, asked: { c: "theirs", text: "theirs", retry_of: null } });
  assert.equal(chat.pending.text, "mine");
});

test("progress is told until the turn begins", () => {
  const chat = chatAfter();
  chat.asked("c9", { text: "hi" });
  chat.apply({ t: "status", text: "fetching" });
  assert.equal(chat.progress, "fetching");
  chat.apply(START);
  assert.equal(chat.progress, "");
});

test("an error that will come again offers no retry", () => {
  const chat = chatAfter(START, { t: "err", turn: "t1", error: "E", message: "m", type: "t", retryable: false });
  assert.equal(chat.retryable, null);
});

test("the running turn counts towards the cost, and an unknown cost stays unknown", () => {
  const usage = { t: "usage", turn: "t1", input_tokens: 10, output_tokens: 1, cost_usd: "0.25" };
  assert.equal(chatAfter(START, usage).totalCost, "0.75");
  assert.equal(chatAfter(START, { ...usage, cost_usd: null }).totalCost, null);
});

const told = (...ids) => ids.map((message_id) => ({ message_id, role: "user", status: "complete", text: message_id }));
const ids = (chat) => chat.messages.map(({ id }) => id).join(" ");

test("older messages come before those that are there, once", () => {
  const older = { t: "older", before: "m3", earlier: 1, messages: told("m1", "m2") };
  const chat = chatAfter({ ...SNAP, messages: told("m3", "m4"), earlier: 3 }, older, older);
  assert.deepEqual([ids(chat), chat.earlier], ["m1 m2 m3 m4", 1]);
});

test("a snapshot keeps the older messages that were brought", () => {
  const chat = chatAfter(
    { ...SNAP, messages: told("m3", "m4"), earlier: 3 },
    { t: "older", before: "m3", earlier: 1, messages: told("m1", "m2") },
    { ...SNAP, messages: told("m4", "m5"), earlier: 4 },
  );
  assert.deepEqual([ids(chat), chat.earlier], ["m1 m2 m3 m4 m5", 1]);
});

test("a snapshot of another past replaces what was brought", () => {
  const chat = chatAfter({ ...SNAP, messages: told("m1", "m2", "m3"), earlier: 0 }, { ...SNAP, messages: told("m2", "m3"), earlier: 0 });
  assert.equal(ids(chat), "m2 m3");
});

// Branches -----------------------------------------------------------------------------------------------------------

const MESSAGES = [
  { message_id: "u1", role: "user", status: "complete", text: "one?" },
  { message_id: "a1", role: "assistant", status: "complete", text: "1", stop_reason: "end_turn" },
  { message_id: "u2", role: "user", status: "complete", text: "two?", branch: { index: 0, count: 2 } },
  { message_id: "a2", role: "assistant", status: "complete", text: "2", stop_reason: "max_tokens" },
];
const TALK = { ...SNAP, messages: MESSAGES };
const idsOf = (messages) => messages.map(({ id }) => id);

test("where branches part is told with the message", () => {
  const chat = chatAfter(TALK);
  assert.deepEqual(chat.messages.map(({ branch }) => branch), [null, null, { index: 0, count: 2 }, null]);
  assert.deepEqual([chat.questionOf("a2").id, chat.questions.at(-1).id], ["u2", "u2"]);
  assert.equal(chatAfter({ ...TALK, messages: MESSAGES.slice(1), earlier: 1 }).questionOf("a1"), null);
});

test("while a question is asked otherwise what follows it is out of sight, and back when that is refused", () => {
  const chat = chatAfter(TALK);
  chat.asked("c1", { text: "II?", editOf: "u2" });
  assert.deepEqual(idsOf(chat.visible), ["u1", "a1"]);
  assert.equal(chat.apply({ t: "err", turn: null, c: "c1", message: "no", type: "invalid_request" }), "refused");
  assert.equal(chat.withdraw(), "II?");
  assert.deepEqual(idsOf(chat.visible), ["u1", "a1", "u2", "a2"]);
});

test("a question asked again as it was does not come back into the input", () => {
  const chat = chatAfter(TALK);
  chat.asked("c1", { text: "two?", retryOf: "a2", editOf: "u2" });
  assert.equal(chat.withdraw(), "");
});

test("a snapshot of another chat takes the place of all that was known", () => {
  const chat = chatAfter(TALK);
  chat.asked("c1", { text: "II?", editOf: "u2" });
  chat.acknowledged("c1");
  chat.stopping = true;
  chat.apply({ ...SNAP, chat_id: "c2", messages: MESSAGES.slice(0, 2), live: { turn: "t1", message_id: "a3", seq: 1, text: "I" } });
  assert.deepEqual([chat.chatId, chat.pending, chat.stopping, chat.refusal], ["c2", null, false, null]);
  assert.deepEqual(idsOf(chat.visible), ["u1", "a1", "a3"]);
});

test("an edit of another box is awaited here too, and forgotten once it went on there", () => {
  const chat = chatAfter({ ...TALK, asked: { c: "x", text: "II?", retry_of: null, edit_of: "u2" } });
  assert.deepEqual([chat.busy, idsOf(chat.visible)], [true, ["u1", "a1"]]);
  chat.apply(TALK);
  assert.deepEqual([chat.busy, idsOf(chat.visible)], [false, ["u1", "a1", "u2", "a2"]]);
});

test("an edit that is on its way is not forgotten over a snapshot", () => {
  const chat = chatAfter(TALK);
  chat.asked("c1", { text: "II?", editOf: "u2" });
  chat.apply(TALK);
  assert.equal(chat.pending.text, "II?");
});

test("only a last reply that was cut at its bound can be gone on with", () => {
  assert.equal(chatAfter(TALK).unfinished, true);
  assert.equal(chatAfter({ ...TALK, messages: MESSAGES.slice(0, 2) }).unfinished, false);
  assert.equal(chatAfter(TALK, START).unfinished, false);
  assert.equal(chatAfter(START, delta(1, "hello"), end({ stop_reason: "max_tokens" })).unfinished, true);
});

test("what was brought of one chat is not shown of another", () => {
  const older = { t: "older", before: "u1", earlier: 0, messages: [{ message_id: "u0", role: "user", status: "complete", text: "zero?" }] };
  const chat = chatAfter({ ...TALK, earlier: 1 }, older, { ...TALK, chat_id: "c2", earlier: 1 });
  assert.deepEqual([idsOf(chat.messages), chat.earlier], [["u1", "a1", "u2", "a2"], 1]);
});

test("what went with a question is told of it, and that of another chat's budget forgotten", () => {
  const asked = { ...MESSAGES[0], attachments: ["table df"] };
  const chat = chatAfter({ ...SNAP, messages: [asked], budget_left_usd: "1" }, { ...SNAP, chat_id: "c2", messages: [asked] });
  assert.deepEqual([chat.messages[0].attachments, chat.budgetLeft], [["table df"], null]);
});

test("a prompt that is wanted is in use once the next turn has begun", () => {
  const chat = chatAfter({ ...SNAP, prompt: "support@1", next_prompt: "support@2" });
  assert.deepEqual([chat.prompt, chat.nextPrompt], ["support@1", "support@2"]);
  chat.apply({ ...START, prompt: "support@2" });
  assert.deepEqual([chat.prompt, chat.nextPrompt], ["support@2", null]);
});

test("what the reader thinks of a reply comes with it and changes", () => {
  const message = { message_id: "a1", role: "assistant", status: "complete", text: "hi", feedback: { score: 1, comment: null } };
  const chat = chatAfter({ ...SNAP, messages: [message] });
  assert.deepEqual(reply(chat).feedback, { score: 1, comment: null });
  chat.apply({ t: "feedback", message_id: "a1", score: -1, comment: "too short" });
  chat.apply({ t: "feedback", message_id: "another", score: 1, comment: null });
  assert.deepEqual(reply(chat).feedback, { score: -1, comment: "too short" });
});
