// Where the reader writes: the input with its draft, Send and Stop.

import { h, setText } from "../dom.js";
import { draftOf, inheritsFocus, leave } from "../drafts.js";
import { editingLine } from "../wording.js";

export class Composer {
  #draft = null;
  #refocus = false;
  #editing = h(
    "div",
    { class: "wb-editing", hidden: true },
    h("span", { role: "status" }),
    h("button", { class: "wb-button", type: "button", title: "Cancel (Esc)", onclick: () => this.cancelEdit() }, "Cancel"),
  );

  /**
   * onText          called when another text is there, whoever wrote it
   * onEditing       called when another question is being edited, or none any more
   * onEdit(id, text) asks in the place of a question; as onSend, it returns whether it is on its way
   */
  constructor({ onSend, onStop, onText = () => {}, onEditing = () => {}, onEdit = null }) {
    this.onSend = onSend;
    this.onText = onText;
    this.onEditing = onEditing;
    this.onEdit = onEdit;
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
      this.#editing,
      this.input,
      this.send,
      this.stop,
    );
  }

  submit() {
    const text = this.input.value;
    if (!text.trim()) return;
    if (this.editing) {
      if (this.onEdit(this.editing, text)) this.cancelEdit();
    } else if (this.onSend(text)) this.#write("");
  }

  /** The id of the question that is being edited, or null. */
  get editing() {
    return this.#draft?.editing ?? null;
  }

  /** Let the reader change a question; what they were writing is put aside meanwhile. */
  edit(id, text) {
    if (!this.#draft) return;
    if (!this.editing) this.#draft.aside = this.input.value;
    this.#draft.editing = id;
    this.#write(text);
    this.#showEditing();
    this.input.focus({ preventScroll: true });
  }

  /** Go back to what was being written before. */
  cancelEdit() {
    if (!this.editing) return;
    const { aside } = this.#draft;
    Object.assign(this.#draft, { editing: null, aside: "" });
    this.#write(aside);
    this.#showEditing();
    this.input.focus({ preventScroll: true });
  }

  #showEditing() {
    this.#editing.hidden = !this.editing;
    this.element.toggleAttribute("data-editing", this.editing !== null);
    this.onEditing();
  }

  /** Show the draft of a chat, with caret and focus where they were; the focus only if the view is a new one. */
  open(chatId, isNew = true) {
    const draft = (this.#draft = draftOf(chatId));
    this.#write(draft.text, draft.start, draft.end);
    this.#showEditing();
    this.#refocus = isNew && inheritsFocus(draft);
    draft.goneAt = null;
    return draft;
  }

  close(scrollTop) {
    if (!this.#draft) return;
    this.#draft.scrollTop = scrollTop;
    leave(this.#draft);
  }

  /** A text could not be delivered: put it back, before anything written since. */
  restore(text, editOf = null) {
    if (editOf) return this.edit(editOf, text);
    const now = this.input.value;
    if (now === text) return;
    this.#write(now.trim() ? `${text}\n\n${now}` : text);
  }

  /** A text that was put back has been delivered after all. */
  discard(text) {
    if (this.input.value !== text) return;
    if (this.editing) this.cancelEdit();
    else this.#write("");
  }

  /** `question`: the one that is being edited, if it is here. */
  update({ busy, stopping, canSend, enabled, question }) {
    setText(this.#editing.firstChild, this.editing ? editingLine(question?.text) : "");
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
    const { scrollHeight, offsetHeight, clientHeight } = this.input;
    if (scrollHeight) this.input.style.height = `${scrollHeight + offsetHeight - clientHeight}px`; // with its border
  }
}
