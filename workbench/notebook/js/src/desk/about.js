// What there is to say of this chat: its model, its system prompt or prompt, chosen before it begins; its exports.

import { h } from "../dom.js";
import { about, exportAs, prompt, set } from "../protocol.js";
import { button } from "../view/buttons.js";
import { PromptPicker } from "../view/picker.js";

export class About {
  #desk;

  constructor(desk) {
    this.#desk = desk;
    this.#show();
  }

  async #show() {
    const desk = this.#desk;
    const inside = h("div", { class: "wb-inside" });
    desk.inside.replaceChildren(inside);
    const answer = await desk.try(about());
    if (answer === null || !inside.isConnected) return;
    const exports = h(
      "div",
      { class: "wb-row", role: "group", "aria-label": "Export" },
      h("span", { class: "wb-label" }, "Export"),
      button("Markdown", () => this.#export("markdown")),
      button("Notebook", () => this.#export("notebook")),
    );
    inside.replaceChildren(...(answer.open ? this.#choices(answer) : this.#facts(answer)), exports);
    if (desk.isOpen) inside.querySelector("select, button").focus();
  }

  #choices({ model, system, models, default: standard, ...prompts }) {
    const priced = models.map(({ model: id, price }) => h("option", { value: id, selected: id === model }, `${id} – ${price}`));
    const usual = h("option", { value: "", selected: model === null }, standard ? `the usual one (${standard})` : "the usual one");
    const known = model === null || models.some(({ model: id }) => id === model);
    const chosen = h("select", { class: "wb-search" }, usual, !known && h("option", { value: model, selected: true }, model), ...priced);
    const text = h("textarea", { class: "wb-search", rows: 4, placeholder: "None" });
    text.value = system ?? "";
    const own = h("label", {}, h("span", { class: "wb-label" }, "System prompt"), text);
    const picker = this.#picker(prompts, "None", () => (own.hidden = picker.picked));
    const apply = () => {
      const wanted = picker?.picked ? picker.take() : {};
      if (wanted) this.#set(chosen.value || null, picker?.picked ? null : text.value.trim() || null, wanted);
    };
    return [form(apply, "Use for this chat", h("label", {}, h("span", { class: "wb-label" }, "Model"), chosen), picker?.element, own)];
  }

  #facts({ model, system, models, default: standard, ...prompts }) {
    const id = model ?? standard;
    const price = models.find((entry) => entry.model === id)?.price ?? "price unknown";
    const picker = this.#picker(prompts, prompts.prompt ? null : "None");
    const said = picker ? "The model stays as it is once a chat has begun; a new chat can have another one." : "Both stay as they are once a chat has begun; a new chat can have others.";
    const apply = () => {
      const { pinned, variables } = picker.take() ?? {};
      if (pinned) this.#set(null, null, { prompt: pinned, variables }); // the version whose text is on screen
    };
    return [
      fact("Model", id ? `${id} – ${price}` : "none is configured"),
      fact(prompts.prompt ? `System prompt, from ${prompts.prompt}` : "System prompt", system || "None"),
      h("p", { class: "wb-said" }, said),
      ...(picker ? [form(apply, "Use from the next turn on", picker.element)] : []),
    ];
  }

  /** What chooses one of the prompts there are; null: there are none. */
  #picker({ prompts, prompt: has, next_prompt: next, variables }, none, changed) {
    if (prompts.length === 0) return null;
    const read = (reference) => this.#desk.try(prompt(reference));
    return new PromptPicker({ prompts, read, chosen: next ?? has, variables, none, changed });
  }

  async #set(model, system, wanted) {
    if ((await this.#desk.try(set(model, system, wanted))) !== null && this.#desk.isOpen) this.#desk.hide();
  }

  async #export(kind) {
    const file = await this.#desk.try(exportAs(kind));
    if (file) download(file);
  }
}

function form(apply, label, ...fields) {
  const onsubmit = (event) => (event.preventDefault(), apply());
  const row = h("div", { class: "wb-row" }, h("button", { class: "wb-button", type: "submit" }, label));
  return h("form", { class: "wb-about", onsubmit, novalidate: true }, ...fields.filter(Boolean), row);
}

const fact = (label, text) =>
  h("div", {}, h("div", { class: "wb-label" }, label), h("div", { class: "wb-fact", tabindex: text.length > 300 && 0 }, text));

function download({ name, type, text }) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000); // some browsers read it later
}
