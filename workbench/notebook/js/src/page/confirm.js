// The question before something that cannot be undone.

import { h, setText } from "../dom.js";

export class Confirm {
  #question = h("p", { id: "pg-sure-why" });
  #error = h("p", { class: "pg-error", role: "alert" });

  constructor() {
    this.dialog = h(
      "dialog",
      { class: "pg-dialog", role: "alertdialog", "aria-labelledby": "pg-sure", "aria-describedby": "pg-sure-why" },
      h("h2", { id: "pg-sure" }, "Delete this chat?"),
      this.#question,
      this.#error,
      h(
        "div",
        { class: "pg-actions" },
        h("button", { class: "pg-button", type: "button", onclick: () => this.dialog.close() }, "Cancel"),
        (this.yes = h("button", { class: "pg-button pg-danger", type: "button" }, "Delete")),
      ),
    );
  }

  /** Ask; on yes do it, and stay open with the reason if that fails. */
  ask(question, work) {
    setText(this.#question, question);
    setText(this.#error, "");
    this.yes.onclick = async () => {
      this.yes.disabled = true;
      try {
        await work();
        this.dialog.close();
      } catch (error) {
        setText(this.#error, error.message);
      } finally {
        this.yes.disabled = false;
      }
    };
    this.dialog.showModal();
  }
}
