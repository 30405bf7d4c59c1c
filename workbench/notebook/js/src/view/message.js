// One message on screen.

import { copyFrom } from "../clipboard.js";
import { h, setText } from "../dom.js";
import { MarkdownStream } from "../render/markdown.js";
import { ENDED, errorLine, STOPPING, THINKING, usageLine } from "../wording.js";
import { FooterView } from "./money.js";
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

  /** `copies`: whether its text can be copied as it was written. */
  constructor(role, copies = false) {
    this.element = h(
      "article",
      { class: "wb-message", "data-role": role },
      h("span", { class: "wb-hidden" }, `${SPEAKER[role] ?? role}:`),
      this.#body,
      this.#attached,
      this.#state,
      this.#footer.element,
    );
    if (role !== "assistant") return;
    this.#body.classList.add("wb-md");
    if (copies) this.element.append(this.#copy);
  }

  /** Show the message; `live` holds what is known of the running turn, `onRetry` is null if retry makes no sense. */
  update(message, { live = null, stopping = false, pending = false, onRetry = null }) {
    const { role, status, text } = message;
    this.element.dataset.status = status;
    this.element.toggleAttribute("data-pending", pending);
    if (role === "assistant") this.#updateReply(text, status);
    else this.#updateQuestion(message);
    this.#updateState(message, stopping, onRetry);
    this.#footer.update(live?.usage ? usageLine(live.usage) : message.footer, live ? null : message.counts);
  }

  #updateQuestion({ text, attachments = [] }) {
    setText(this.#body, text);
    if (attachments.length === this.#attached.children.length) return;
    this.#attached.replaceChildren(...attachments.map((line) => h("li", {}, line)));
    this.#attached.hidden = attachments.length === 0;
  }

  #updateReply(text, status) {
    const streaming = status === "streaming";
    if (!this.#stream || !text.startsWith(this.#shown) || (this.#finished && text !== this.#shown)) {
      this.#stream = new MarkdownStream(this.#body);
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
    this.#copy.hidden = streaming || text === "";
  }

  #updateState({ role, status, text, error }, stopping, onRetry) {
    const say = (kind, ...parts) => this.#show(kind, parts, onRetry, error?.retryAfter);
    if (role !== "assistant" || status === "complete") say("");
    else if (status === "streaming") say("waiting", stopping ? STOPPING : text === "" ? THINKING : "");
    else if (error) say("error", h("strong", {}, error.error), ` ${errorLine(error)}`);
    else say(status === "interrupted" ? "note" : "error", ENDED[status] ?? "");
  }

  #show(kind, parts, onRetry, seconds) {
    const next = h("div", { class: "wb-state", "data-kind": kind }, h("span", {}, ...parts));
    if (onRetry) next.append(h("button", { class: "wb-button wb-retry", type: "button" }, "Retry"));
    next.hidden = next.textContent === "";
    const key = next.outerHTML;
    if (key !== this.#said) {
      this.#said = key;
      this.#state.replaceWith(next);
      this.#state = next;
      if (onRetry) enableAfter(next.lastChild, seconds);
    }
    if (onRetry) this.#state.lastChild.onclick = onRetry;
  }
}
