// One message on screen.

import { copyFrom } from "../clipboard.js";
import { h, setText } from "../dom.js";
import { MarkdownStream } from "../render/markdown.js";
import { ENDED, errorLine, STOPPED_FOR, STOPPING, THINKING, usageLine } from "../wording.js";
import { icon } from "./icons.js";
import { FooterView } from "./money.js";
import { Pager } from "./pager.js";
import { Thumbs } from "./thumbs.js";
import { enableAfter } from "./wait.js";

const SPEAKER = { user: "You", assistant: "Claude" };

export class MessageView {
  #body = h("div", { class: "wb-body" });
  #state = h("div", { class: "wb-state" });
  #footer = new FooterView();
  #attached = h("ul", { class: "wb-attached", "aria-label": "Attached", hidden: true });
  #copy = h("button", { class: "wb-copy wb-copy-reply", type: "button", onclick: () => copyFrom(this.#copy, this.#shown) }, "Copy");
  #stream = null;
  #shown = ""; // the text on screen
  #finished = false;
  #said = ""; // what the state on screen says
  #attachedNow = ""; // and what is attached
  #tools = null;
  #thumbs = null;
  #inserts;
  #id = null;
  #now = []; // what is on screen was made from

  /**
   * copies  whether its text can be copied as it was written
   * tools   {onEdit(id), onAgain(id), onBranch(id, index)}: what else the reader can do; null where nothing of it can be
   *         done
   * onRate  says what the reader thinks of a reply; null where nobody asks
   * inserts whether code in it can be put into a notebook
   */
  constructor(role, copies = false, tools = null, onRate = null, inserts = false) {
    this.#inserts = inserts;
    this.element = h(
      "article",
      { class: "wb-message", "data-role": role },
      h("span", { class: "wb-hidden" }, `${SPEAKER[role] ?? role}:`),
      this.#body,
      this.#attached,
      this.#state,
      this.#footer.element,
    );
    if (role === "assistant") this.#body.classList.add("wb-md");
    if (role === "assistant" && onRate) this.#thumbs = new Thumbs(onRate);
    if (tools) this.#equip(role, copies, tools);
    else if (role === "assistant" && copies) this.element.append(this.#copy);
    if (this.#thumbs && !tools) this.element.append(this.#thumbs.element);
  }

  #equip(role, copies, { onEdit, onAgain, onBranch }) {
    const own = (...attributes) => h("button", { type: "button", ...attributes[0] }, ...attributes.slice(1));
    const asked = role === "user";
    const act = asked
      ? own({ class: "wb-tool wb-edit", title: "Edit", "aria-label": "Edit this question", onclick: () => onEdit(this.#id) }, icon("pencil"))
      : own({ class: "wb-copy wb-again", title: "Another reply, in a branch", onclick: () => onAgain(this.#id) }, "Retry");
    const pager = new Pager((index) => onBranch(this.#id, index));
    this.#tools = { act, pager };
    this.element.append(h("div", { class: "wb-actions" }, !asked && copies && this.#copy, act, this.#thumbs?.element ?? null, pager.element));
  }

  /**
   * Show the message; `live` holds what is known of the running turn, `onRetry` is null if retry makes no sense, and
   * `onContinue` if there is nothing to go on with. `busy`: nothing else can be asked now; `model` is who answers. `editing`:
   * it is asked otherwise just now.
   */
  update(message, { live = null, stopping = false, pending = false, onRetry = null, onContinue = null, busy = false, model = "", editing = false }) {
    const { role, status, text, footer, counts, attachments, error, stopReason, branch, feedback } = message;
    const now = [message.id, status, text, footer, counts, attachments, error, stopReason, branch, feedback, model];
    now.push(live?.usage, live === null, stopping, pending, onRetry === null, onContinue === null, busy, editing);
    // of a long chat all messages but one are as they were, paint after paint
    if (now.every((each, n) => each === this.#now[n]) && this.#now.length > 0) return;
    this.#now = now;
    this.#id = message.id;
    if (this.#tools) {
      // while a reply arrives its buttons take their room unseen, so that nothing jumps when they come
      this.#tools.act.hidden = pending || (role === "assistant" && !["streaming", "complete"].includes(status));
      this.#tools.act.disabled = busy;
      this.#tools.pager.update(message.branch, busy);
    }
    this.#thumbs?.update(message.id, feedback, status === "complete" || (status === "streaming" && this.#tools !== null));
    this.element.dataset.status = status;
    this.element.ariaCurrent = editing ? "true" : null;
    this.element.toggleAttribute("data-pending", pending);
    if (role === "assistant") this.#updateReply(text, status);
    else this.#updateQuestion(message);
    this.#updateState(message, stopping, onRetry, onContinue);
    this.#footer.update(live?.usage ? usageLine(model, live.usage) : message.footer, live ? null : message.counts, model);
  }

  #updateQuestion({ text, attachments = [] }) {
    setText(this.#body, text);
    const now = attachments.join("\n");
    if (now === this.#attachedNow) return;
    this.#attachedNow = now;
    this.#attached.replaceChildren(...attachments.map((line) => h("li", {}, line)));
    this.#attached.hidden = attachments.length === 0;
  }

  #updateReply(text, status) {
    const streaming = status === "streaming";
    if (!this.#stream || !text.startsWith(this.#shown) || (this.#finished && text !== this.#shown)) {
      this.#stream = new MarkdownStream(this.#body, this.#inserts);
      this.#shown = "";
      this.#finished = false;
    }
    this.#stream.push(text.slice(this.#shown.length));
    this.#shown = text;
    if (streaming) this.#stream.paint();
    else if (!this.#finished) {
      this.#stream.finish();
      this.#finished = true;
    }
    // screen readers hear the reply once, when it is there
    this.element.ariaBusy = streaming ? "true" : null;
    this.#body.hidden = text === "";
    this.#copy.hidden = (streaming && !this.#tools) || text === "";
  }

  #updateState({ role, status, text, error, stopReason }, stopping, onRetry, onContinue) {
    const action = onRetry ? ["retry", "Retry", onRetry] : onContinue ? ["continue", "Continue", onContinue] : null;
    const say = (kind, said, title = "") => this.#show(kind, said, title, action, error?.retryAfter);
    if (role === "assistant" && status === "complete") say("note", STOPPED_FOR[stopReason] ?? "");
    else if (role !== "assistant") say("", "");
    else if (status === "streaming") say("waiting", stopping ? STOPPING : text === "" ? THINKING : "");
    else if (error) say("error", ` ${errorLine(error)}`, error.error);
    else say(status === "interrupted" ? "note" : "error", ENDED[status] ?? "");
  }

  #show(kind, said, title, action, seconds) {
    const [name, label, onclick] = action ?? [];
    const key = JSON.stringify([kind, said, title, name]);
    if (key !== this.#said) {
      this.#said = key;
      const next = h("div", { class: "wb-state", "data-kind": kind }, h("span", {}, title && h("strong", {}, title), said));
      if (action) next.append(h("button", { class: `wb-button wb-${name}`, type: "button" }, label));
      next.hidden = next.textContent === "";
      this.#state.replaceWith(next);
      this.#state = next;
      if (action) enableAfter(next.lastChild, seconds);
    }
    if (action) this.#state.lastChild.onclick = onclick;
  }
}
