// The list beside the chat; on a narrow screen it comes over it.

import { h } from "../dom.js";
import { icon } from "./icons.js";

const NARROW = matchMedia("(max-width: 760px)");

export class Drawer {
  #open = false;

  /** side: what comes and goes; main: what is out of reach meanwhile. */
  constructor(side, main) {
    this.side = side;
    this.main = main;
    const label = "Chats";
    this.button = h(
      "button",
      { class: "pg-menu", type: "button", "aria-label": label, title: label, "aria-expanded": "false", "aria-controls": side.id },
      icon("menu"),
    );
    this.button.addEventListener("click", () => this.open());
    this.veil = h("div", { class: "pg-veil", hidden: true, onclick: () => this.close() });
    side.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#open) this.close();
    });
    NARROW.addEventListener("change", () => this.#apply(false));
    this.#apply(false);
  }

  open() {
    this.#apply(true);
    this.side.querySelector("button, a, input")?.focus();
  }

  close() {
    const focused = this.side.contains(document.activeElement);
    this.#apply(false);
    if (focused && NARROW.matches) this.button.focus();
  }

  #apply(open) {
    this.#open = open && NARROW.matches;
    this.side.toggleAttribute("data-open", this.#open);
    this.side.inert = NARROW.matches && !this.#open;
    this.main.inert = this.#open;
    this.veil.hidden = !this.#open;
    this.button.setAttribute("aria-expanded", String(this.#open));
  }
}
