// Tokens and dollars on screen: how full the context is, what a reply was billed for.

import { h, setText } from "../dom.js";
import { contextLine, count, dollars, footerParts } from "../wording.js";

/** How full the context is after the last reply. */
export class ContextView {
  #bar = h("span", { class: "wb-bar", "aria-hidden": "true" }, h("span"));
  #text = h("span");
  element = h("span", { class: "wb-context", title: "What the last turn took of the model's context", hidden: true }, this.#bar, this.#text);

  update(context) {
    this.element.hidden = context === null;
    if (context === null) return;
    setText(this.#text, contextLine(context));
    this.#bar.hidden = !context.window;
    const part = context.window ? Math.min(1, context.used / context.window) : 0;
    this.#bar.firstChild.style.width = `${100 * part}%`;
    this.element.toggleAttribute("data-full", part >= 0.8);
  }
}

/** The footer of a reply: one line, and behind it what was billed. */
export class FooterView {
  #shown = "";
  element = h("div", { class: "wb-footer" });

  /** `model`: who answers in this chat, and is named above it. */
  update(line, counts, model) {
    const key = JSON.stringify([line, counts, model]);
    if (key === this.#shown) return;
    this.#shown = key;
    const said = (line ? footerParts(line, model) : []).map(([part, told]) => (told ? h("span", { class: "wb-told" }, part) : part));
    if (!counts || !line) return this.element.replaceChildren(...said);
    const details = h("details", { class: "wb-counts" }, h("summary", { title: "What was billed" }, ...said));
    // made when it is looked at: a long chat has hundreds
    details.addEventListener("toggle", () => details.open && details.children.length === 1 && details.append(table(counts)));
    this.element.replaceChildren(details);
  }
}

function table(counts) {
  const rows = counts.map(({ what, tokens, cost_usd }) =>
    h("tr", {}, h("th", { scope: "row" }, what), h("td", {}, count(tokens)), h("td", {}, cost_usd === null ? "unknown" : dollars(cost_usd))),
  );
  const head = ["Billed as", "Tokens", "Cost"].map((title) => h("th", { scope: "col" }, title));
  return h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows));
}
