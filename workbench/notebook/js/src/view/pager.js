// "‹ 2/3 ›": the branches that part at a message.

import { h, setText } from "../dom.js";
import { icon } from "./icons.js";

export class Pager {
  #at = null; // {index, count}
  #seen = h("span", { "aria-hidden": "true" });
  #said = h("span", { class: "wb-hidden" });

  /** `onPage(index)`: the reader wants that branch. */
  constructor(onPage) {
    const step = (name, label, by) =>
      h("button", { class: `wb-tool wb-${name}`, type: "button", title: label, "aria-label": label, onclick: ({ currentTarget }) => currentTarget.ariaDisabled || onPage(this.#at.index + by) }, icon(name));
    this.back = step("back", "Previous branch", -1);
    this.forth = step("forth", "Next branch", 1);
    this.element = h("div", { class: "wb-pager", role: "group", "aria-label": "Branches", hidden: true }, this.back, this.#seen, this.#said, this.forth);
  }

  update(branch, busy) {
    this.#at = branch;
    this.element.hidden = !branch;
    if (!branch) return;
    const { index, count } = branch;
    setText(this.#seen, `${index + 1}/${count}`);
    setText(this.#said, `Branch ${index + 1} of ${count}`);
    // not `disabled`: at the last branch the button under the focus would lose it
    this.#allow(this.back, index > 0 && !busy);
    this.#allow(this.forth, index < count - 1 && !busy);
  }

  #allow(button, allowed) {
    button.ariaDisabled = allowed ? null : "true";
  }
}
