// Which prompt a chat is to use: its name, a label or a version of it, a value for each of its variables, and the text
// that comes of them. Shared by the widget and the page.

import { h, setText } from "../dom.js";

const FIRST = "production"; // the label that is meant where none is named
const NEWEST = "latest";
const VARIABLE = /\{\{[ \t\n\r\f\v]*([A-Za-z_][A-Za-z0-9_]*)[ \t\n\r\f\v]*\}\}/; // as in workbench/prompts/text.py

export class PromptPicker {
  #prompts;
  #read;
  #values;
  #changed;
  #name;
  #which = h("select", { class: "wb-search" });
  #version = h("label", {}, h("span", { class: "wb-label" }, "Version"), this.#which);
  #fields = h("div", { class: "wb-fields" });
  #about = h("div", { class: "wb-label" });
  #text = h("div", { class: "wb-fact wb-rendered" });
  #missing = h("p", { class: "wb-missing", role: "alert", hidden: true });
  #shown = null; // the version whose text is on screen
  #asked = 0;

  /**
   * prompts    [{name, latest, labels: {label: version}}]; there is at least one
   * read       (reference, name, version) -> a promise of {prompt, text, variables, note, model, effort, also?}; null: not
   *            there, and it was said; also: what else is to be known
   * chosen     the reference that is chosen already, or null
   * variables  {name: value} to begin with
   * none       what it is called to choose none; null: one must be
   * changed    called when another one was chosen, or none
   */
  constructor({ prompts, read, chosen, variables, none, changed = () => {} }) {
    this.#prompts = prompts;
    this.#read = read;
    this.#values = { ...variables };
    this.#changed = changed;
    const [name, which = FIRST] = chosen?.split("@") ?? [];
    const known = prompts.some((prompt) => prompt.name === name);
    this.#name = h(
      "select",
      { class: "wb-search", onchange: () => this.#choose() },
      (none || !known) && h("option", { value: "" }, none ?? "Choose one"),
      ...prompts.map((prompt) => h("option", { value: prompt.name, selected: prompt.name === name }, prompt.name)),
    );
    this.#which.addEventListener("change", () => this.#show());
    const names = h("label", {}, h("span", { class: "wb-label" }, "Prompt"), this.#name);
    const pair = h("div", { class: "wb-pair" }, names, this.#version);
    this.element = h("div", { class: "wb-picker" }, pair, this.#fields, h("div", {}, this.#about, this.#text), this.#missing);
    queueMicrotask(() => this.#choose(which.replace(/^v(?=\d)/, ""))); // once whoever made it has it
  }

  /** Whether one is chosen. */
  get picked() {
    return this.#name.value !== "";
  }

  /** What is chosen: {prompt, pinned, variables}, pinned being the version on screen; null if something is missing, and that is said. */
  take() {
    if (!this.picked) return this.#miss("Choose a prompt.", this.#name);
    if (this.#shown === null) return null; // what it says is on its way, or why it cannot be read is said
    const empty = this.#inputs.filter(({ value }) => value === "");
    for (const input of this.#inputs) input.ariaInvalid = input.value === "" ? "true" : null;
    if (empty.length > 0) return this.#miss(`Fill in ${listed(empty.map(({ name }) => name))}.`, empty[0]);
    const variables = Object.fromEntries(this.#inputs.map(({ name, value }) => [name, value]));
    return { prompt: this.#reference, pinned: this.#shown.prompt, variables };
  }

  get #inputs() {
    return [...this.#fields.querySelectorAll("input")];
  }

  get #reference() {
    return `${this.#name.value}@${this.#which.value}`;
  }

  #choose(which = FIRST) {
    const prompt = this.#prompts.find(({ name }) => name === this.#name.value);
    this.#which.replaceChildren(...(prompt ? versions(prompt, which) : []));
    this.#version.hidden = !prompt;
    this.#show();
    this.#changed();
  }

  async #show() {
    const asked = ++this.#asked;
    this.#shown = null;
    this.#miss("");
    const version = Number(this.#which.selectedOptions[0]?.dataset.version);
    const found = this.picked ? await this.#read(this.#reference, this.#name.value, version) : null;
    if (asked !== this.#asked) return; // another one was chosen meanwhile
    this.#shown = found;
    this.#about.hidden = this.#text.hidden = !found;
    if (!found) return this.#fields.replaceChildren();
    const { prompt, note, model, effort, variables, also } = found;
    setText(this.#about, [prompt, note, model && `asks for ${model}`, effort && `effort ${effort}`, also].filter(Boolean).join(" · "));
    this.#fields.replaceChildren(...variables.map((name) => this.#field(name)));
    this.#render();
  }

  #field(name) {
    const oninput = () => {
      this.#values[name] = input.value;
      this.#miss("");
      this.#render();
    };
    const input = h("input", { class: "wb-search", name, autocomplete: "off", oninput });
    input.value = this.#values[name] ?? "";
    return h("label", {}, h("span", { class: "wb-label" }, name), input);
  }

  /** Show the text as it will be sent; what has no value yet stands out. */
  #render() {
    const parts = this.#shown.text.split(VARIABLE).map((part, n) => (n % 2 ? this.#values[part] || h("mark", {}, `{{${part}}}`) : part));
    this.#text.replaceChildren(...parts);
    if (this.#text.textContent.length > 300) this.#text.tabIndex = 0; // it may be scrolled, by keys too
    else this.#text.removeAttribute("tabindex");
  }

  #miss(sentence, field = null) {
    setText(this.#missing, sentence);
    this.#missing.hidden = sentence === "";
    field?.focus();
    return null;
  }
}

/** The options: what labels point at, production first, the newest, then each version. */
function versions({ latest, labels }, chosen) {
  const pointing = Object.keys(labels).sort((one, other) => (other === FIRST) - (one === FIRST) || (one < other ? -1 : 1));
  const named = [...pointing.map((label) => [label, labels[label]]), [NEWEST, latest]];
  const numbered = Array.from({ length: latest }, (_, n) => [String(latest - n), latest - n]);
  return [...named, ...numbered].map(([which, version]) => {
    const label = which === String(version) ? `version ${version}` : `${which} – version ${version}`;
    return h("option", { value: which, selected: which === chosen, "data-version": version }, label);
  });
}

const listed = (names) => (names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0]);
