// The list of messages: one element per message, kept as long as the message is shown; follows new text only while the
// reader is at the bottom. Of a long chat so many messages are in the document as a reader sees and some more; scrolling
// takes the next ones in at one end and leaves as many out at the other, and what is read stays where it is.

import { h, setText } from "../dom.js";
import { earlierLine, EMPTY, EMPTY_DETAIL, QUEUED, STOPPING, THINKING, UNDELIVERED } from "../wording.js";
import { MessageView } from "./message.js";

const NEAR = 24; // px from the bottom that still count as the bottom
const MOST = 60; // messages in the document
const STEP = 10; // that come and go at a time
const AHEAD = 800; // px before the end of what is there at which more comes
const QUIET_MS = 200; // screen readers need not be told what comes back

export class MessageLog {
  #views = new Map(); // message id -> MessageView
  #pending = null;
  #waiting = h("div", { class: "wb-state wb-waiting", "data-kind": "waiting", hidden: true }, h("span"));
  #empty = h("div", { class: "wb-empty" }, h("strong", {}, EMPTY), ` ${EMPTY_DETAIL}`);
  #earlier;
  #following = true;
  #top = 0;
  #chat = null; // as it was shown last
  #chatId = null;
  #link = null;
  #editing = null; // the id of the question that is being edited
  #from = 0; // which of its messages are in the document
  #to = 0;
  #first = null; // the id of the first one
  #place = 0; // its number in the whole chat
  #onEarlier;
  #quiet = null;

  /** `onEarlier`: brings older messages, sooner or later. */
  constructor({ onScroll, onResize, onRetry, onContinue, onEarlier, onRate = null, copies = false, inserts = false, tools = null }) {
    this.onRetry = onRetry;
    this.onContinue = onContinue;
    this.onRate = onRate;
    this.tools = tools;
    this.copies = copies;
    this.inserts = inserts;
    this.#onEarlier = onEarlier;
    this.#earlier = h("button", { class: "wb-button wb-earlier", type: "button", hidden: true, onclick: () => this.#bring() });
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
      this.#slide();
      onScroll();
    });
    this.element.addEventListener("grown", () => this.follow());
    this.observer = new ResizeObserver(() => {
      this.follow();
      onResize();
    });
    this.observer.observe(this.element);
  }

  get atBottom() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    return this.#atEnd && scrollHeight - scrollTop - clientHeight < NEAR;
  }

  /** Whether the last message is in the document. */
  get #atEnd() {
    return this.#to >= (this.#chat?.visible.length ?? 0);
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
    if (!this.#atEnd) this.update(this.#chat, this.#link);
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

  update(chat, link, editing = this.#editing) {
    const turned = this.#chatId !== chat.chatId;
    let anchor = turned && !this.#following ? this.#read() : null;
    if (turned) this.#turnTo(chat);
    this.#chat = chat;
    this.#link = link;
    this.#editing = editing;
    const all = chat.visible;
    const at = this.#following ? -1 : all.findIndex(({ id }) => id === this.#first);
    const from = at < 0 ? Math.max(0, all.length - MOST) : at;
    const other = from !== this.#from || all[from]?.id !== this.#first || chat.earlier > 0 !== !this.#earlier.hidden;
    if (other && !this.#following) anchor ??= this.#read();
    this.#show(from);
    this.#updatePending(chat, link);
    setText(this.#earlier, earlierLine(chat.earlier));
    this.#earlier.hidden = chat.earlier === 0 || from > 0;
    this.#empty.hidden = !chat.loaded || all.length > 0 || chat.pending !== null;
    anchor?.();
    this.follow();
    if (anchor) this.#slide();
  }

  /** Bring a part of the chat into the document. */
  #show(from) {
    const chat = this.#chat;
    const all = chat.visible;
    this.#from = from;
    this.#to = Math.min(all.length, from + MOST);
    this.#first = all[from]?.id ?? null;
    this.#place = chat.earlier + from;
    const shown = all.slice(this.#from, this.#to);
    const ids = new Set(shown.map(({ id }) => id));
    // first what goes: those that stay must stay where they are, for one that is moved is laid out anew
    for (const [id, view] of this.#views) if (!ids.has(id)) view.element.remove();
    const kept = new Map();
    let before = this.#empty;
    for (const message of shown) {
      const view = this.#views.get(message.id) ?? new MessageView(message.role, this.copies, this.tools, this.onRate, this.inserts);
      kept.set(message.id, view);
      const live = chat.live?.messageId === message.id ? chat.live : null;
      const onRetry = chat.retryable === message ? () => this.onRetry(message.id) : null;
      const onContinue = chat.unfinished && message === chat.messages.at(-1) ? this.onContinue : null;
      view.update(message, { live, stopping: chat.stopping, onRetry, onContinue, busy: chat.busy, model: chat.model, editing: message.id === this.#editing });
      if (before.nextSibling !== view.element) before.after(view.element);
      before = view.element;
    }
    this.#views = kept;
  }

  /** Note what is read; return a function that puts it back where it was on screen. */
  #read() {
    const top = this.element.getBoundingClientRect().top;
    const view = [...this.#views.values()].find(({ element }) => element.getBoundingClientRect().bottom > top);
    const at = view?.element.getBoundingClientRect().top;
    return () => {
      if (!view?.element.isConnected) return;
      this.element.scrollTop += view.element.getBoundingClientRect().top - at;
      this.#top = this.element.scrollTop;
    };
  }

  /** Near an end of what is in the document, take in what comes next. */
  #slide() {
    if (this.#following || !this.#chat) return;
    const all = this.#chat.visible;
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    let from = this.#from;
    if (scrollTop < AHEAD) from = Math.max(0, from - STEP);
    else if (!this.#atEnd && scrollHeight - scrollTop - clientHeight < AHEAD) from = Math.min(from + STEP, all.length - MOST);
    if (scrollTop < AHEAD && from === 0) this.#onEarlier();
    if (from === this.#from) return;
    this.#hush();
    this.#first = all[from]?.id ?? null;
    this.#from = -1; // other messages than now
    this.update(this.#chat, this.#link);
  }

  #hush() {
    this.element.ariaLive = "off";
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => (this.element.ariaLive = "polite"), QUIET_MS);
  }

  /** Another chat is shown: its messages take the places of those before, so that focus and place stay as one pages. */
  #turnTo({ chatId, earlier, visible }) {
    this.#chatId = chatId;
    const before = [...this.#views.values()];
    const most = Math.max(0, visible.length - MOST);
    const from = this.#following ? most : Math.min(Math.max(0, this.#place - earlier), most);
    this.#first = visible[from]?.id ?? null;
    const alike = visible.slice(from, from + MOST).flatMap(({ id, role }, n) => {
      const view = before[earlier + from + n - this.#place];
      return view?.element.dataset.role === role ? [[id, view]] : [];
    });
    this.#views = new Map(alike);
    const kept = new Set(this.#views.values());
    for (const view of before) if (!kept.has(view)) view.element.remove();
  }

  #bring() {
    this.#following = false;
    this.#hush();
    this.#onEarlier();
  }

  #updatePending({ pending, stopping, progress }, link) {
    const text = this.#atEnd ? (pending?.text ?? null) : null;
    if (text === null) {
      this.#pending?.element.remove();
      this.#pending = null;
    } else {
      this.#pending ??= new MessageView("user");
      this.#pending.update({ role: "user", status: "complete", text, attachments: pending.attachments, footer: "" }, { pending: true });
      if (this.#pending.element.nextSibling !== this.#waiting) this.#waiting.before(this.#pending.element);
    }
    const silent = pending && !pending.acked && link !== "ready";
    const waiting = silent ? (link === "lost" ? UNDELIVERED : QUEUED) : stopping ? STOPPING : progress || THINKING;
    setText(this.#waiting.firstChild, waiting);
    this.#waiting.hidden = pending === null || !this.#atEnd;
  }

  close() {
    clearTimeout(this.#quiet);
    this.observer.disconnect();
  }
}
