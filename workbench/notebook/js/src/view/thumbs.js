// What the reader thinks of a reply: a thumb up or down, and after one down why, if they like. The newest counts.

import { h } from "../dom.js";
import { button } from "./buttons.js";
import { icon } from "./icons.js";

const WHY = "What was wrong? (optional)";

export class Thumbs {
  #onRate;
  #id = null;
  #given = null; // {score, comment}
  #form = null; // that asks why, under the reply

  /** `onRate(id, score, comment)` returns a promise of whether it is kept; what went wrong is said elsewhere. */
  constructor(onRate) {
    this.#onRate = onRate;
    const thumb = (name, label, score) =>
      h("button", { class: `wb-thumb wb-${name}`, type: "button", title: label, "aria-label": label, "aria-pressed": "false", onclick: () => this.#press(score) }, icon("thumb"));
    this.up = thumb("up", "Good reply", 1);
    this.down = thumb("down", "Bad reply", -1);
    this.element = h("div", { class: "wb-thumbs", role: "group", "aria-label": "Your rating" }, this.up, this.down);
  }

  update(id, given, shown) {
    if (id !== this.#id || given?.score !== -1) this.#close();
    this.#id = id;
    this.#given = given;
    this.element.hidden = !shown;
    this.up.ariaPressed = String(given?.score === 1);
    this.down.ariaPressed = String(given?.score === -1);
  }

  #press(score) {
    const again = score === this.#given?.score;
    const open = this.#form !== null;
    const comment = (again && this.#given.comment) || "";
    if (!again) this.#onRate(this.#id, score, null);
    if (score === 1) return;
    if (again && open) this.#close();
    else this.#ask(comment);
  }

  #ask(comment) {
    this.#close();
    const why = h("input", { class: "wb-search", "aria-label": WHY, placeholder: WHY, maxlength: 2000, autocomplete: "off" });
    why.value = comment;
    const onsubmit = (event) => (event.preventDefault(), this.#explain(why.value.trim()));
    const send = h("button", { class: "wb-button", type: "submit" }, "Send");
    this.#form = h("form", { class: "wb-why", onsubmit, onkeydown: (event) => this.#onKey(event) }, why, send, button("No, thanks", () => this.#leave()));
    this.element.closest(".wb-message").append(this.#form);
    this.#form.scrollIntoView({ block: "nearest" });
  }

  async #explain(comment) {
    const id = this.#id;
    this.#leave();
    if (comment && !(await this.#onRate(id, -1, comment)) && id === this.#id) this.#ask(comment); // it is not lost
  }

  #close() {
    this.#form?.remove();
    this.#form = null;
  }

  #leave() {
    this.#close();
    this.down.focus();
  }

  #onKey(event) {
    if (event.key !== "Escape") return;
    event.stopPropagation(); // it would stop the reply that is being written
    this.#leave();
  }
}
