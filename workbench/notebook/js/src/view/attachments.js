// What goes with the next message: the list of variables while somebody types "@", and a chip for each that was chosen.

import { h, setText } from "../dom.js";
import { attach, variables } from "../protocol.js";
import { ASKING_FOR_VARIABLES, chipLine, NO_SUCH_VARIABLE, NOTHING_TO_ATTACH } from "../wording.js";

const MENTION = /(^|[\s([{"'])@([A-Za-z_]?\w*)$/;

let views = 0;

export class Attachments {
  #id = `wb-attach-${++views}`;
  #input;
  #inquire;
  #changed;
  #draft = null;
  #asked = null; // the client id of the question for variables
  #items = null; // [{name, kind, size}]; null: not answered yet
  #found = [];
  #active = 0;
  #opened = null; // the chip whose text is shown
  #shown = ""; // what the chips on screen say

  /**
   * input     the textarea in which somebody types
   * inquire   sends a message, returns its client id
   * changed   called when what is attached changes
   */
  constructor({ input, inquire, changed }) {
    this.#input = input;
    this.#inquire = inquire;
    this.#changed = changed;
    this.button = h(
      "button",
      { class: "wb-button wb-attach", type: "button", title: "Attach a variable (@)", "aria-label": "Attach a variable", onclick: () => this.#begin() },
      "@",
    );
    this.options = h("ul", { class: "wb-options", id: `${this.#id}-options`, role: "listbox", "aria-label": "Variables to attach", hidden: true });
    this.note = h("div", { class: "wb-options-note", role: "status" });
    this.chips = h("ul", { class: "wb-chips", "aria-label": "Attached", hidden: true });
    this.preview = h("pre", { class: "wb-preview", id: `${this.#id}-preview`, tabindex: 0, role: "region", hidden: true });
    this.element = h("div", { class: "wb-attachments" }, this.options, this.note, this.chips, this.preview);
    input.setAttribute("aria-autocomplete", "list");
    input.setAttribute("aria-controls", this.options.id);
    input.addEventListener("input", () => this.#look());
    input.addEventListener("blur", () => this.#close());
  }

  /** What can be sent: [{attachment, name, summary, …}]. */
  get list() {
    return this.#all.filter(({ attachment }) => attachment);
  }

  /** Whether one of them is still being read. */
  get reading() {
    return this.#all.some(({ attachment, error }) => !attachment && !error);
  }

  get #all() {
    return this.#draft?.attachments ?? [];
  }

  open(draft) {
    this.#close();
    this.#draft = draft;
    this.paint();
  }

  /** They were sent, or belong back into the draft. */
  set(list) {
    if (!this.#draft) return;
    this.#draft.attachments = list;
    this.paint();
    this.#changed();
  }

  update({ enabled }) {
    this.button.disabled = !enabled;
    if (!enabled) this.#close();
  }

  /** Take in what Python answered. */
  heard(message) {
    if (message.t === "variables" && message.c === this.#asked) {
      this.#items = message.items;
      this.#look();
    } else if (message.t === "err" && message.c === this.#asked) {
      this.#items = undefined;
      setText(this.note, message.message);
    } else if (this.#all.some(({ c }) => c === message.c)) {
      const heard = (each) => (message.t === "err" ? { ...each, error: message.message } : { ...message, t: undefined });
      this.set(this.#all.map((each) => (each.c === message.c ? heard(each) : each)));
    }
  }

  // The list ----------------------------------------------------------------------------------------------------------

  get #listing() {
    return !this.options.hidden || this.note.textContent !== "";
  }

  /** Write the @ for whoever does not type it. */
  #begin() {
    const { value, selectionStart, selectionEnd } = this.#input;
    const before = value.slice(0, selectionStart);
    const mention = MENTION.test(before) ? "" : before === "" || /\s$/.test(before) ? "@" : " @";
    this.#input.focus();
    this.#input.setRangeText(mention, selectionStart, selectionEnd, "end");
    this.#input.dispatchEvent(new Event("input", { bubbles: true }));
  }

  #mention() {
    const { value, selectionStart, selectionEnd } = this.#input;
    const found = selectionStart === selectionEnd && MENTION.exec(value.slice(0, selectionStart));
    return found ? found[2] : null;
  }

  #look() {
    const written = this.#mention();
    if (written === null) return this.#close();
    if (!this.#listing || this.#items === undefined) {
      this.#items = null;
      this.#asked = this.#inquire(variables());
    }
    const wanted = written.toLowerCase();
    const rank = ({ name }) => (name.toLowerCase().startsWith(wanted) ? 0 : name.toLowerCase().includes(wanted) ? 1 : 2);
    this.#found = (this.#items ?? []).filter((item) => rank(item) < 2).sort((a, b) => rank(a) - rank(b));
    this.#active = 0;
    this.#paintOptions();
  }

  #paintOptions() {
    const say = this.#items === null ? ASKING_FOR_VARIABLES : this.#items.length === 0 ? NOTHING_TO_ATTACH : this.#found.length === 0 ? NO_SUCH_VARIABLE : "";
    setText(this.note, say);
    this.options.hidden = this.#found.length === 0;
    this.options.replaceChildren(
      ...this.#found.map(({ name, kind, size }, at) =>
        h(
          "li",
          {
            class: "wb-option",
            id: `${this.#id}-${at}`,
            role: "option",
            "aria-selected": String(at === this.#active),
            onmousedown: (event) => event.preventDefault(), // the input keeps the focus
            onclick: () => this.#choose(at),
          },
          h("strong", {}, name),
          h("span", {}, [kind, size].filter(Boolean).join(" · ")),
        ),
      ),
    );
    if (this.options.hidden) this.#input.removeAttribute("aria-activedescendant");
    else this.#mark();
  }

  #mark() {
    this.#input.setAttribute("aria-activedescendant", `${this.#id}-${this.#active}`);
    [...this.options.children].forEach((option, at) => option.setAttribute("aria-selected", String(at === this.#active)));
    this.options.children[this.#active].scrollIntoView({ block: "nearest" });
  }

  #close() {
    if (!this.#listing) return;
    this.#asked = null;
    this.#found = [];
    this.options.hidden = true;
    setText(this.note, "");
    this.#input.removeAttribute("aria-activedescendant");
  }

  /** Return whether the key was for the list. */
  onKey(event) {
    if (!this.#listing || event.target !== this.#input) return false;
    const last = this.#found.length - 1;
    if (event.key === "Escape") this.#close();
    else if (this.options.hidden) return false;
    else if (event.key === "ArrowDown") this.#active = this.#active === last ? 0 : this.#active + 1;
    else if (event.key === "ArrowUp") this.#active = this.#active === 0 ? last : this.#active - 1;
    else if (event.key === "Enter" || (event.key === "Tab" && !event.shiftKey)) this.#choose(this.#active);
    else return false;
    event.preventDefault();
    if (!this.options.hidden) this.#mark();
    return true;
  }

  #choose(at) {
    const { name } = this.#found[at];
    const { selectionStart } = this.#input;
    this.#close();
    this.#input.setRangeText(name, selectionStart - this.#mention().length - 1, selectionStart, "end"); // for the @ as well
    this.#input.dispatchEvent(new Event("input", { bubbles: true }));
    const c = this.#inquire(attach(name));
    this.set([...this.#all.filter((each) => each.name !== name), { c, name }]);
  }

  // The chips ---------------------------------------------------------------------------------------------------------

  paint() {
    const key = JSON.stringify([this.#all.map((each) => [each.c, chipLine(each)]), this.#opened]);
    if (key === this.#shown) return;
    this.#shown = key;
    this.chips.replaceChildren(...this.#all.map((each) => this.#chip(each)));
    this.chips.hidden = this.#all.length === 0;
    const opened = this.#all.find(({ c }) => c === this.#opened);
    this.preview.hidden = !opened;
    this.preview.replaceChildren(opened?.image ? h("img", { src: opened.image, alt: opened.summary }) : (opened?.text ?? ""));
    this.preview.setAttribute("aria-label", `What is sent of ${opened?.name ?? "it"}`);
  }

  #chip(each) {
    const { c, name, summary, attachment, error } = each;
    const opened = c === this.#opened;
    const label = chipLine(each);
    const about = attachment
      ? h(
          "button",
          { class: "wb-chip-open", type: "button", title: summary, "aria-expanded": String(opened), "aria-controls": this.preview.id, onclick: () => this.#toggle(c) },
          label,
        )
      : h("span", { class: "wb-chip-open" }, label);
    const remove = h("button", { class: "wb-chip-remove", type: "button", "aria-label": `Remove ${name}`, title: `Remove ${name}`, onclick: () => this.#remove(c) }, "×");
    return h("li", { class: "wb-chip", "data-kind": error ? "error" : attachment ? "ready" : "reading" }, about, remove);
  }

  #toggle(c) {
    this.#opened = this.#opened === c ? null : c;
    this.paint();
    const at = this.#all.findIndex((each) => each.c === c);
    this.chips.children[at].firstChild.focus();
  }

  #remove(c) {
    if (this.#opened === c) this.#opened = null;
    this.set(this.#all.filter((each) => each.c !== c));
    this.#input.focus();
  }
}
