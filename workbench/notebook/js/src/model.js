// What the widget knows of its chat. No DOM, no clock, no comm: messages from Python go in, state comes out.

import { codePoints, sequence } from "./protocol.js";

const RETRYABLE = ["interrupted", "failed", "lost"];

/**
 * A chat as one view sees it.
 *
 *   messages  [{id, role, status, text, footer, counts, attachments, thinking, error, stopReason, branch, feedback}], oldest
 *             first; the last may be streaming; branch is {index, count} where branches part, else null; feedback what the
 *             reader thinks of a reply, {score, comment}, or null
 *   live      {turn, messageId, seq, usage} of the reply that is arriving, else null
 *   pending   {c, text, attachments, retryOf, editOf, acked}: asked and not yet started by Python, else null; a retry has
 *             no text; editOf is the question in whose place it is asked, in a branch
 *   stopping  the reader pressed Stop and the turn has not ended yet
 *   progress  what Python does before what is pending can begin, '' if nothing to speak of
 *   earlier   how many older messages are in the store only
 *   prompt    the version its system prompt comes from, such as support@3, or null; nextPrompt from the next turn on
 *   refusal   {error, message, type, retryable, retryAfter} of a turn refused before it began, else null
 *   resyncing a snapshot was asked for; until it comes, deltas are of no use
 */
export class ChatState {
  chatId = "";
  title = "";
  model = "";
  local = false;
  prompt = null;
  nextPrompt = null;
  loaded = false;
  messages = [];
  live = null;
  pending = null;
  progress = "";
  earlier = 0;
  stopping = false;
  refusal = null;
  costUsd = null;
  budgetLeft = null; // US dollars, decimal; null: nobody told
  budgetNote = null; // a sentence, once most of it is used
  context = null; // {used, window} in tokens, after the last reply; null: nobody told
  resyncing = true;
  #ended = null; // the last turn that ended: its late batches are no gap
  #distrusted = null; // message whose length was wrong once: one resync each, never a loop

  get busy() {
    return this.live !== null || this.pending !== null;
  }

  /** What the chat has cost so far, the running turn included; null if unknown. */
  get totalCost() {
    const running = this.live?.usage;
    if (!running) return this.costUsd;
    if (this.costUsd === null || running.cost_usd === null) return null;
    return String(Number(this.costUsd) + Number(running.cost_usd));
  }

  /** The seq of each message of which we have a part, for hello. */
  get have() {
    return this.live ? { [this.live.messageId]: this.live.seq } : {};
  }

  /** The last message, if answering it anew makes sense. */
  get retryable() {
    const last = this.messages.at(-1);
    if (this.busy || !last || last.role !== "assistant" || !RETRYABLE.includes(last.status)) return null;
    return last.error?.retryable === false ? null : last;
  }

  /** The messages on screen: what follows a question that is being asked otherwise is of another branch. */
  get visible() {
    const at = this.messages.findIndex(({ id }) => id === this.pending?.editOf);
    return at < 0 ? this.messages : this.messages.slice(0, at);
  }

  /** Whether the last reply was cut at its bound and can be gone on with. */
  get unfinished() {
    const last = this.messages.at(-1);
    return !this.busy && last?.role === "assistant" && last.status === "complete" && last.stopReason === "max_tokens";
  }

  /** The question a reply answers; null if only the store has it. */
  questionOf(id) {
    return this.messages[this.messages.findIndex((message) => message.id === id) - 1] ?? null;
  }

  get questions() {
    return this.messages.filter(({ role }) => role === "user");
  }

  find(id) {
    return this.messages.find((message) => message.id === id);
  }

  /** The reader sent a text (or asked to answer a message anew), and it is on its way. */
  asked(c, { text = null, attachments = [], retryOf = null, editOf = null }) {
    this.pending = { c, text, attachments, retryOf, editOf, acked: false };
    this.stopping = false;
    this.refusal = null;
  }

  acknowledged(c) {
    if (this.pending?.c === c) this.pending.acked = true;
  }

  /** What is pending never arrived, or was refused: forget it and return its text. */
  withdraw() {
    const text = (!this.pending?.retryOf && this.pending?.text) || ""; // what was asked again was not written anew
    this.#settle();
    this.stopping = false;
    return text;
  }

  #settle() {
    this.pending = null;
    this.progress = "";
  }

  /**
   * Take in one message. Return 'resync' if something is missing and a snapshot is needed, 'refused' if what is
   * pending will not be done, else 'ok'.
   */
  apply(message) {
    const verdict = APPLY[message.t]?.(this, message) ?? "ok";
    if (verdict === "resync") this.resyncing = true;
    return verdict;
  }

  snap({ chat_id, title, model, local, prompt, next_prompt, earlier, messages, asked, live, cost_usd, ...standing }) {
    if (this.chatId !== chat_id) this.#turnTo(chat_id);
    this.title = title ?? "";
    this.model = model ?? "";
    this.local = Boolean(local);
    this.prompt = prompt ?? null;
    this.nextPrompt = next_prompt ?? null;
    this.loaded = true;
    this.earlier = earlier ?? 0;
    this.costUsd = cost_usd ?? null;
    this.#stands(standing);
    this.resyncing = false;
    if (this.refusal?.type === "not_connected") this.refusal = null; // whoever tells this is there
    const older = this.messages; // those that were brought before stay
    this.messages = messages.map(messageOf);
    const joint = older.findIndex(({ id }) => id === this.messages[0]?.id);
    if (joint > 0 && joint <= this.earlier) {
      this.messages.unshift(...older.slice(0, joint));
      this.earlier -= joint;
    }
    this.live = null;
    if (live) {
      const reply = this.find(live.message_id) ?? this.#append(newMessage(live.message_id, "assistant"));
      Object.assign(reply, { status: "streaming", text: live.text, error: null });
      this.live = { turn: live.turn, messageId: live.message_id, seq: live.seq, usage: null };
    }
    if (asked) {
      // what another view asked; our own, if Python does not know it yet, must not be forgotten over it
      if (!this.pending || this.pending.acked) {
        const { c, text = null, retry_of: retryOf = null, edit_of: editOf = null } = asked;
        this.pending = { c, text, attachments: [], retryOf, editOf, acked: true };
      }
    } else if (this.pending?.acked && this.pending.editOf) this.#settle(); // it went on in another box
    else if (this.pending?.acked && this.#contains(this.pending)) this.#settle(); // its start was missed
    if (!this.busy) this.stopping = false;
  }

  older({ before, earlier, messages }) {
    if (this.messages[0]?.id !== before) return; // another view asked, or it was asked for twice
    this.messages.unshift(...messages.map(messageOf));
    this.earlier = earlier ?? 0;
  }

  /** Another chat is shown from now on; what was said of the one before is of no use. */
  #turnTo(chatId) {
    this.chatId = chatId;
    this.messages = [];
    this.#settle();
    this.stopping = false;
    this.refusal = null;
    this.budgetLeft = null;
    this.#ended = this.#distrusted = null;
  }

  #contains({ text, retryOf }) {
    if (retryOf) return this.messages.at(-1)?.id !== retryOf;
    return this.messages.findLast(({ role }) => role === "user")?.text === text;
  }

  start({ turn, message_id, user_message_id, text, model, title, prompt, budget_left_usd, attachments }) {
    this.budgetLeft = budget_left_usd ?? this.budgetLeft;
    if (this.live?.turn === turn) return "ok"; // a snapshot brought it already
    const missed = this.live !== null;
    const at = this.messages.findIndex(({ id }) => id === user_message_id);
    if (at >= 0) this.messages.length = at + 1; // a retry: the failed reply gives way to the new one
    else this.#append(newMessage(user_message_id, "user", "complete", text, { attachments }));
    if (this.pending?.text === text || (this.pending?.retryOf && at >= 0)) this.#settle();
    this.#append(newMessage(message_id, "assistant"));
    this.live = { turn, messageId: message_id, seq: 0, usage: null };
    this.model = model || this.model;
    this.local = this.model === "local";
    this.title = title || this.title;
    this.prompt = prompt ?? null;
    this.nextPrompt = this.refusal = null;
    return missed ? "resync" : "ok";
  }

  delta({ turn, seq, k, s }) {
    if (turn === this.#ended) return "ok";
    if (this.live?.turn !== turn) return this.resyncing ? "ok" : "resync";
    if (this.resyncing) return "ok"; // the snapshot will contain it
    const order = sequence(this.live.seq, seq);
    if (order === "gap") return "resync";
    if (order === "old") return "ok";
    this.live.seq = seq;
    const reply = this.find(this.live.messageId);
    if (k === "think") reply.thinking = true;
    else reply.text += s;
    return "ok";
  }

  usage(message) {
    if (this.live?.turn === message.turn) this.live.usage = message;
  }

  end({ turn, message_id, status, stop_reason, len, footer, counts, chat_cost_usd, ...standing }) {
    const reply = this.find(message_id);
    if (this.live?.turn === turn) {
      this.live = null;
      this.stopping = false;
    }
    this.#ended = turn;
    this.costUsd = chat_cost_usd ?? null;
    this.#stands(standing);
    if (!reply) return "resync";
    Object.assign(reply, { status, footer: footer ?? "", counts: counts ?? null, stopReason: stop_reason ?? null });
    if (this.resyncing || codePoints(reply.text) === len || this.#distrusted === message_id) return "ok";
    this.#distrusted = message_id;
    return "resync";
  }

  rated({ message_id, score, comment }) {
    const reply = this.find(message_id);
    if (reply) reply.feedback = { score, comment };
  }

  status({ text }) {
    this.progress = text;
  }

  error({ turn, c, ...rest }) {
    const details = detailsOf(rest);
    if (turn === null || turn === undefined) {
      const mine = c === undefined || c === null || c === this.pending?.c;
      if (!mine) return "ok";
      this.refusal = details;
      return "refused";
    }
    if (this.live?.turn === turn) {
      Object.assign(this.find(this.live.messageId), { status: "failed", error: details });
      this.live = null;
      this.stopping = false;
      this.#ended = turn;
    }
    return "ok";
  }

  #stands({ budget_left_usd, budget_note, context }) {
    this.budgetLeft = budget_left_usd ?? this.budgetLeft;
    this.budgetNote = budget_note ?? null;
    this.context = context ?? null;
  }

  #append(message) {
    this.messages.push(message);
    return message;
  }
}

const APPLY = {
  snap: (chat, message) => chat.snap(message),
  older: (chat, message) => chat.older(message),
  start: (chat, message) => chat.start(message),
  d: (chat, message) => chat.delta(message),
  status: (chat, message) => chat.status(message),
  usage: (chat, message) => chat.usage(message),
  feedback: (chat, message) => chat.rated(message),
  end: (chat, message) => chat.end(message),
  err: (chat, message) => chat.error(message),
};

const detailsOf = ({ error, message, type, retryable, retry_after }) => ({
  error: error || "Chat failed", message, type, retryable, retryAfter: retry_after ?? null,
});

const messageOf = ({ message_id, role, status, text, error, stop_reason, ...more }) =>
  newMessage(message_id, role, status, text, { ...more, error: error ? detailsOf(error) : null, stopReason: stop_reason });

function newMessage(id, role, status = "streaming", text = "", more = {}) {
  const { footer, counts, attachments, error, stopReason, branch, feedback } = more;
  return {
    ...{ id, role, status, text, footer: footer ?? "", counts: counts ?? null, attachments: attachments ?? [] },
    ...{ thinking: false, error: error ?? null, stopReason: stopReason ?? null, branch: branch ?? null, feedback: feedback ?? null },
  };
}
