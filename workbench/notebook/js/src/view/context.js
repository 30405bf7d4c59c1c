// What only a chat box with Python behind it has: what sending would cost, and variables that go with a message.

import { Estimates } from "../estimates.js";
import { estimate } from "../protocol.js";
import { Attachments } from "./attachments.js";
import { EstimateView } from "./estimate.js";

export class Context {
  #session;
  #input;
  #editing;
  #estimates;
  #attachments;
  #sent = []; // what went with the last message
  #restored = false; // that is in the draft again
  line = new EstimateView();

  /** `editing()`: the id of the question in whose place is asked, or null. */
  constructor({ session, input, editing, changed }) {
    const inquire = (message) => session.inquire(message);
    this.#session = session;
    this.#input = input;
    this.#editing = editing;
    this.#estimates = new Estimates({ ask: (text, attachments) => inquire(estimate(text, attachments, editing())), changed });
    this.#attachments = new Attachments({ input, inquire, changed });
    input.before(this.#attachments.button);
    input.setAttribute("aria-describedby", this.line.element.id);
  }

  /** The list, the chips, the preview. */
  get element() {
    return this.#attachments.element;
  }

  /** Whether an estimate is shown. */
  get told() {
    return this.#estimates.shown !== null;
  }

  /** Another draft is shown, that of another chat maybe: what was reckoned for the one before says nothing of it. */
  open(draft) {
    this.#sent = [];
    this.#restored = false;
    this.#estimates.forget();
    this.#attachments.open(draft);
  }

  close() {
    this.#estimates.close();
  }

  update({ enabled }) {
    this.#attachments.update({ enabled });
    this.reckon();
    this.line.update(this.#estimates.shown);
  }

  /** Have what is written estimated, if it is not yet. */
  reckon() {
    const { chat, link } = this.#session;
    const attachments = this.#attachments.list.map(({ attachment }) => attachment);
    const state = [chat.chatId, chat.messages.length, chat.messages.at(-1)?.status, chat.model, chat.prompt, chat.nextPrompt, this.#editing()];
    this.#estimates.update({ text: this.#input.value, attachments, state, ready: chat.loaded && !chat.busy && link === "ready" });
  }

  answered(message) {
    this.#estimates.heard(message);
    this.#attachments.heard(message);
  }

  onKey(event) {
    return this.#attachments.onKey(event);
  }

  /** Return what goes with the message that is sent now; null while something is still being read: it is shown first. */
  take() {
    if (this.#attachments.reading) return null;
    this.#sent = this.#attachments.list;
    this.#restored = false;
    this.#attachments.set([]);
    return this.#sent;
  }

  /** Note that nothing goes with the message that is sent now. */
  takeNone() {
    this.#sent = [];
    this.#restored = false;
    return [];
  }

  /** The message could not be delivered. */
  restore() {
    if (this.#sent.length === 0) return;
    this.#restored = true;
    this.#attachments.set(this.#sent);
  }

  /** It was, after all. */
  discard() {
    if (this.#restored) this.#attachments.set([]);
    this.#restored = false;
  }
}
