// The list of messages: one element per message, kept as long as the message is there; follows new text only while
// the reader is at the bottom.

import { h, setText } from "../dom.js";
import { earlierLine, EMPTY, QUEUED, STOPPING, THINKING, UNDELIVERED } from "../wording.js";
import { MessageView } from "./message.js";

const NEAR = 24; // px from the bottom that still count as the bottom

export class MessageLog {
  #views = new Map(); // message id -> MessageView
  #pending = null;
  #waiting = h("div", { class: "wb-state wb-waiting", "data-kind": "waiting", hidden: true }, h("span"));
  #empty = h("p", { class: "wb-empty" }, EMPTY);
  #earlier;
  #height = null; // before older messages were asked for
  #following = true;
  #top = 0;
  #count = 0;
  #chatId = null;

  /** `onEarlier`: brings older messages; null where nobody can. */
  constructor({ onScroll, onResize, onRetry, onContinue, onEarlier = null, copies = false, tools = null }) {
    this.onRetry = onRetry;
    this.onContinue = onContinue;
    this.tools = tools;
    this.copies = copies;
    this.#earlier = onEarlier
      ? h("button", { class: "wb-button wb-earlier", type: "button", hidden: true, onclick: () => this.#bring(onEarlier) })
      : h("p", { class: "wb-earlier", hidden: true });
    this.element = h(
      "div",
      { class: "wb-log", role: "log", "aria-live": "polite", "aria-label": "Messages", tabindex: 0 },
      this.#earlier,
      this.#empty,
      this.#waiting,
    );
    this.element.addEventListener("scroll", () => {
      const { scrollTop } = this.element;
      // only the reader scrolls up; text that grows below moves nothing
      if (this.atBottom) this.#following = true;
      else if (scrollTop < this.#top) this.#following = false;
      this.#top = scrollTop;
      onScroll();
    });
    this.observer = new ResizeObserver(() => {
      this.follow();
      onResize();
    });
    this.observer.observe(this.element);
  }

  get atBottom() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  get following() {
    return this.#following;
  }

  scrollTo(top) {
    this.#following = top === null;
    if (top === null) this.follow();
    else this.element.scrollTop = top;
  }

  toBottom() {
    this.#following = true;
    this.follow();
  }

  /** Stay where the reader is, even at the bottom. */
  hold() {
    this.#following = false;
  }

  follow() {
    if (!this.#following) return;
    this.element.scrollTop = this.element.scrollHeight;
    this.#top = this.element.scrollTop;
  }

  update(chat, link) {
    if (this.#chatId !== chat.chatId) this.#turnTo(chat);
    const kept = new Map();
    let before = this.#empty;
    for (const message of chat.visible) {
      const view = this.#views.get(message.id) ?? new MessageView(message.role, this.copies, this.tools);
      kept.set(message.id, view);
      const live = chat.live?.messageId === message.id ? chat.live : null;
      const onRetry = chat.retryable === message ? () => this.onRetry(message.id) : null;
      const onContinue = chat.unfinished && message === chat.messages.at(-1) ? this.onContinue : null;
      view.update(message, { live, stopping: chat.stopping, onRetry, onContinue, busy: chat.busy });
      if (before.nextSibling !== view.element) before.after(view.element);
      before = view.element;
    }
    for (const [id, view] of this.#views) if (!kept.has(id)) view.element.remove();
    this.#views = kept;
    this.#updatePending(chat, link);
    setText(this.#earlier, earlierLine(chat.earlier));
    this.#earlier.hidden = chat.earlier === 0;
    if (this.#height !== null && chat.messages.length > this.#count) {
      this.element.scrollTop += this.element.scrollHeight - this.#height; // what was read stays where it is
      this.#height = null;
    }
    this.#count = chat.messages.length;
    this.#empty.hidden = !chat.loaded || chat.messages.length > 0 || chat.pending !== null;
    this.follow();
  }

  /** Another chat is shown: its messages take the places of those before, so that focus and place stay as one pages. */
  #turnTo({ chatId, messages }) {
    this.#chatId = chatId;
    const before = [...this.#views.values()];
    const other = messages.findIndex(({ role }, at) => before[at]?.element.dataset.role !== role);
    const alike = other < 0 ? messages : messages.slice(0, other);
    this.#views = new Map(alike.map(({ id }, at) => [id, before[at]]));
    for (const view of before.slice(alike.length)) view.element.remove();
  }

  #bring(onEarlier) {
    this.#height = this.element.scrollHeight;
    this.#following = false;
    onEarlier();
  }

  #updatePending({ pending, stopping, progress }, link) {
    const text = pending?.text ?? null;
    if (text === null) {
      this.#pending?.element.remove();
      this.#pending = null;
    } else {
      this.#pending ??= new MessageView("user");
      this.#pending.update({ role: "user", status: "complete", text, footer: "" }, { pending: true });
      if (this.#pending.element.nextSibling !== this.#waiting) this.#waiting.before(this.#pending.element);
    }
    const silent = pending && !pending.acked && link !== "ready";
    const waiting = silent ? (link === "lost" ? UNDELIVERED : QUEUED) : stopping ? STOPPING : progress || THINKING;
    setText(this.#waiting.firstChild, waiting);
    this.#waiting.hidden = pending === null;
  }

  close() {
    this.observer.disconnect();
  }
}
