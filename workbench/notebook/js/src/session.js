// One view's conversation with Python: joins the state of the chat, the link and the comm.

import { Assets } from "./assets.js";
import { Link } from "./link.js";
import { ChatState } from "./model.js";
import { again, asset, branch, clientIds, edit, feedback, hello, older, parse, retry, send, stop, VERSION } from "./protocol.js";
import { NOT_DELIVERED } from "./wording.js";

const ANSWERS = ["chats", "about", "prompt", "file", "done"];
const ASK_AGAIN_MS = 3000; // a snapshot may be dropped on the way (jupyter_server limits messages per second)

const INQUIRED = ["estimate", "variables", "attached", "transcript"];

export class Session {
  #comm;
  #link;
  #listener;
  #askAgain = null;
  #older = { id: null, until: 0 }; // asked for, and not again before
  #assets = new Assets();
  #nextInquiry = clientIds();
  #awaited = new Map(); // client id -> {resolve, reject} of what is answered under it

  /**
   * comm      the anywidget model
   * listener  {changed(), returned(text, editOf), delivered(text), answered(message), said()}: returned when a text could not be
   *           delivered and belongs back into the input, there to be asked in place of a question or (null) after all
   *           others; delivered when it arrived after all; answered when Python answers an inquiry, or cannot; said when a turn has ended, or
   *           what was said is told anew
   */
  constructor(comm, listener) {
    this.#comm = comm;
    this.#listener = listener;
    this.chat = new ChatState();
    this.chat.chatId = comm.get("chat_id") ?? "";
    this.#link = new Link({
      transmit: (message) => comm.send(message),
      nextId: clientIds(),
      onState: (state, before) => this.#linkChanged(state, before),
    });
  }

  /** Return a promise of a module that is loaded when it is needed first. */
  asset(name) {
    return this.#assets.want(name, () => this.#link.post(asset(name)));
  }

  get link() {
    return this.#link.state;
  }

  /** False when the kernel runs a version of the workbench that speaks another protocol. */
  get compatible() {
    return (this.#comm.get("protocol") ?? VERSION) === VERSION;
  }

  get canSend() {
    return this.compatible && this.link !== "lost" && !this.chat.busy;
  }

  /** Whether another chat may be shown: a reply that arrives goes on in its own; a text on its way may come back to the input. */
  get canLeave() {
    return this.compatible && this.link !== "lost" && this.chat.pending === null;
  }

  open() {
    this.#comm.on("msg:custom", this.#receive);
    this.#comm.on("change:chat_id", this.#ask);
    this.#ask();
  }

  close() {
    this.#comm.off("msg:custom", this.#receive);
    this.#comm.off("change:chat_id", this.#ask);
    clearTimeout(this.#askAgain);
    this.#link.close();
  }

  /** `attachments`: [{attachment, summary}], what goes with the text. */
  send(text, attachments = []) {
    const ids = attachments.map(({ attachment }) => attachment);
    this.chat.asked(this.#link.post(send(text, ids)), { text, attachments: attachments.map(({ summary }) => summary) });
    this.#listener.changed();
  }

  /** Ask what nothing depends on: no ack is waited for, so a busy kernel disturbs nobody. Return the client id. */
  inquire(message) {
    const c = this.#nextInquiry();
    try {
      this.#comm.send({ ...message, c });
    } catch (error) {
      console.warn("workbench: the message could not be sent", error); // a closed comm: there will be no answer
    }
    return c;
  }

  retry(messageId) {
    this.chat.asked(this.#link.post(retry(messageId)), { retryOf: messageId });
    this.#listener.changed();
  }

  /** Ask in the place of a question, in a branch; what went with it goes with this too, before `attachments`. */
  edit(messageId, text, attachments = []) {
    const ids = attachments.map(({ attachment }) => attachment);
    const kept = this.chat.find(messageId)?.attachments ?? [];
    const shown = [...kept, ...attachments.map(({ summary }) => summary)];
    this.chat.asked(this.#link.post(edit(messageId, text, ids)), { text, attachments: shown, editOf: messageId });
    this.#listener.changed();
  }

  /** Ask for another reply beside a complete one, in a branch. */
  again(messageId) {
    const question = this.chat.questionOf(messageId);
    const { text, attachments } = question ?? {};
    const shown = question ? { text, attachments, editOf: question.id } : {}; // else it is among the earlier ones
    this.chat.asked(this.#link.post(again(messageId)), { retryOf: messageId, ...shown });
    this.#listener.changed();
  }

  /** Say what the reader thinks of a reply. Return whether it is kept. */
  async rate(messageId, score, comment) {
    const before = this.chat.find(messageId).feedback;
    const now = { message_id: messageId, score, comment };
    this.chat.rated(now); // at once; back if that fails
    this.#listener.changed();
    try {
      await this.ask(feedback(messageId, score, comment));
      return true;
    } catch (error) {
      const reply = this.chat.find(messageId);
      if (reply) reply.feedback = before;
      this.refuse(error);
      return false;
    }
  }

  /** Show another of the branches that part at a message. */
  page(messageId, index) {
    this.ask(branch(messageId, index)).catch((error) => this.refuse(error));
  }

  /** Ask for something that is answered; rejected with what went wrong, in words. */
  ask(message) {
    return new Promise((resolve, reject) => this.#awaited.set(this.#link.post(message), { resolve, reject }));
  }

  /** Say what could not be done. */
  refuse(error) {
    this.chat.refusal = { error: "Not done", message: error.message, type: "refused", retryable: false, retryAfter: null };
    this.#listener.changed();
  }

  stop() {
    if (!this.chat.busy || this.chat.stopping) return;
    this.chat.stopping = true;
    this.#link.post(stop(this.chat.live?.turn ?? null));
    this.#listener.changed();
  }

  /** Ask for the messages before those that are there. */
  older() {
    const [first] = this.chat.messages;
    const now = performance.now();
    if (!first || this.chat.earlier === 0 || (this.#older.id === first.id && now < this.#older.until)) return;
    this.#older = { id: first.id, until: now + ASK_AGAIN_MS };
    this.#link.post(older(first.id));
  }

  /** Ask again whether Python is there. */
  reconnect() {
    this.#ask();
    this.#listener.changed();
  }

  dismiss() {
    this.chat.refusal = null;
    this.#listener.changed();
  }

  #ask = (wait = ASK_AGAIN_MS) => {
    if (typeof wait !== "number") wait = ASK_AGAIN_MS; // called as an event handler
    this.chat.resyncing = true;
    this.#link.post(hello(this.chat.have));
    clearTimeout(this.#askAgain);
    this.#askAgain = setTimeout(() => {
      if (this.chat.resyncing && this.link !== "lost") this.#ask(wait * 2);
    }, wait);
  };

  #receive = (raw, buffers) => {
    const message = parse(raw);
    if (!message) return;
    for (const settled of this.#link.heard(message)) this.#settle(settled);
    if (message.t === "asset") return this.#assets.came(message.name, buffers?.[0]);
    if (this.#resolve(message)) return;
    if (INQUIRED.includes(message.t) || (message.t === "err" && message.c)) this.#listener.answered(message);
    const verdict = this.chat.apply(message);
    if (verdict === "resync") this.#ask();
    if (verdict === "refused") this.#refused();
    if (["end", "snap"].includes(message.t) && !this.chat.live) this.#listener.said();
    if (message.t === "start" && this.chat.stopping && !this.chat.pending) this.#link.post(stop(message.turn));
    this.#listener.changed();
  };

  #resolve(message) {
    const awaited = this.#awaited.get(message.c);
    if (!awaited || !(message.t === "err" || ANSWERS.includes(message.t))) return false;
    this.#awaited.delete(message.c);
    if (message.t === "err") awaited.reject(new Error(message.message));
    else awaited.resolve(message);
    return true;
  }

  #settle({ c, delivered }) {
    if (!delivered) this.#resolve({ t: "err", c, message: NOT_DELIVERED });
    if (c !== this.chat.pending?.c) return;
    if (delivered) {
      this.chat.acknowledged(c);
      if (this.chat.pending.text) this.#listener.delivered(this.chat.pending.text);
    } else this.#return();
  }

  #refused() {
    if (this.chat.pending) this.#return();
    if (this.chat.refusal.type === "stopped") this.chat.refusal = null; // Stop came before the turn began: no error
  }

  #return() {
    const editOf = this.chat.pending.editOf;
    const text = this.chat.withdraw();
    if (text) this.#listener.returned(text, editOf);
  }

  #linkChanged(state, before) {
    const { pending } = this.chat;
    // kept where a view of a re-run cell will find it; still pending, for the kernel may only be busy
    if (state === "lost" && pending && !pending.acked && pending.text && !pending.retryOf) {
      this.#listener.returned(pending.text, pending.editOf);
    }
    if (before === "lost" && !this.chat.resyncing) this.#ask();
    this.#listener.changed();
  }
}
