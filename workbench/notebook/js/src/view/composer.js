// Where the reader writes: the input with its draft, Send and Stop.

import { h } from "../dom.js";
import { draftOf, inheritsFocus, leave } from "../drafts.js";

export class Composer {
  #draft = null;
  #refocus = false;

  /** onText: called when another text is there, whoever wrote it. */
  constructor({ onSend, onStop, onText = () => {} }) {
    this.onSend = onSend;
    this.onText = onText;
    this.input = h("textarea", {
      class: "wb-input",
      rows: 1,
      placeholder: "Write a message",
      "aria-label": "Message",
      autocomplete: "off",
      oninput: () => this.#keep(),
      onselect: () => this.#keep(),
      onkeyup: () => this.#keep(),
      onfocus: () => this.#keepFocus(true),
      onblur: () => setTimeout(() => this.input.isConnected && this.#keepFocus(false)), // not if merely re-rendered
    });
    this.send = h("button", { class: "wb-button wb-send", type: "submit", title: "Send (Enter)" }, "Send");
    this.stop = h(
      "button",
      { class: "wb-button wb-stop", type: "button", title: "Stop (Esc)", hidden: true, onclick: onStop },
      "Stop",
    );
    this.element = h(
      "form",
      { class: "wb-composer", onsubmit: (event) => (event.preventDefault(), this.submit()) },
      this.input,
      this.send,
      this.stop,
    );
  }

  submit() {
    const text = this.input.value;
    if (text.trim() && this.onSend(text)) this.#write("");
  }

  /** Show the draft of a chat, with caret and focus where they were. */
  open(chatId) {
    const draft = (this.#draft = draftOf(chatId));
    this.#write(draft.text, draft.start, draft.end);
    this.#refocus = inheritsFocus(draft);
    draft.goneAt = null;
    return draft;
  }

  close(scrollTop) {
    if (!this.#draft) return;
    this.#draft.scrollTop = scrollTop;
    leave(this.#draft);
  }

  /** A text could not be delivered: put it back, before anything written since. */
  restore(text) {
    const now = this.input.value;
    if (now === text) return;
    this.#write(now.trim() ? `${text}\n\n${now}` : text);
  }

  /** A text that was put back has been delivered after all. */
  discard(text) {
    if (this.input.value === text) this.#write("");
  }

  update({ busy, stopping, canSend, enabled }) {
    if (!enabled && !this.input.disabled) this.#refocus = this.#draft?.focused ?? false;
    this.input.disabled = !enabled;
    if (enabled && this.#refocus && this.input.isConnected) {
      this.#refocus = false;
      this.input.focus({ preventScroll: true });
    }
    this.send.hidden = busy;
    this.stop.hidden = !busy;
    this.stop.disabled = stopping || !enabled;
    this.send.disabled = !canSend || !this.input.value.trim();
    this.canSend = canSend;
  }

  #write(text, start = text.length, end = start) {
    this.input.value = text;
    this.input.setSelectionRange(start, end);
    this.#keep();
  }

  #keep() {
    const { value, selectionStart, selectionEnd } = this.input;
    if (this.#draft) Object.assign(this.#draft, { text: value, start: selectionStart, end: selectionEnd });
    this.send.disabled = !this.canSend || !value.trim();
    this.fit();
    this.onText();
  }

  #keepFocus(focused) {
    if (this.#draft) this.#draft.focused = focused;
  }

  /** Make the input as high as its text. */
  fit() {
    this.input.style.height = "auto";
    if (this.input.scrollHeight) this.input.style.height = `${this.input.scrollHeight + 2}px`; // 2: its border
  }
}
