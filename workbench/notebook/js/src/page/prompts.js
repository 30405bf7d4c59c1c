// The prompt of a chat: chosen before its first question, changed from the next one on.

import { h, setText } from "../dom.js";
import { PromptPicker } from "../view/picker.js";

const NONE = "No prompt";

export class Prompts {
  #api;
  #chat = null; // that is shown
  #prompts = [];
  #running = []; // experiments
  #picker = null;
  #fields = h("div");
  #error = h("p", { class: "pg-error", role: "alert" });
  #chosen = h("span");

  constructor(api) {
    this.#api = api;
    const open = h("button", { class: "pg-quiet", type: "button", "aria-haspopup": "dialog", onclick: () => this.open() }, "Prompt: ", this.#chosen);
    /** Stands before the input of a new chat. */
    this.element = h("div", { class: "pg-prompt", hidden: true }, open);
    this.dialog = h(
      "dialog",
      { class: "pg-dialog", "aria-labelledby": "pg-prompt" },
      h(
        "form",
        { onsubmit: (event) => (event.preventDefault(), this.#submit()) },
        h("h2", { id: "pg-prompt" }, "Prompt"),
        this.#fields,
        this.#error,
        h(
          "div",
          { class: "pg-actions" },
          h("button", { class: "pg-button", type: "button", onclick: () => this.dialog.close() }, "Cancel"),
          (this.use = h("button", { class: "pg-button pg-use", type: "submit" })),
        ),
      ),
    );
  }

  /** Another chat is shown, or the same has begun. */
  show(chat) {
    this.#chat = chat;
    this.#update();
    if (chat.unused) this.#look();
  }

  async open() {
    setText(this.#error, "");
    setText(this.use, this.#chat.unused ? "Use for this chat" : "Use from the next turn on");
    this.#picker = null;
    this.#fields.replaceChildren();
    this.dialog.showModal();
    const { prompt, variables } = this.#chat.prompt;
    const running = this.#api.experiments().catch(() => []); // who may not know is told nothing of them
    await this.#look((problem) => setText(this.#error, problem.message));
    this.#running = (await running).filter(({ state }) => state === "running");
    if (this.#prompts.length === 0) return;
    const none = this.#chat.unused ? NONE : null;
    this.#picker = new PromptPicker({ prompts: this.#prompts, read: (...version) => this.#read(...version), chosen: prompt, variables, none });
    this.#fields.replaceChildren(this.#picker.element);
    this.#fields.querySelector("select").focus();
  }

  /** Look which prompts there are. Who may not know has none. */
  async #look(onProblem = () => {}) {
    const chat = this.#chat;
    try {
      this.#prompts = await this.#api.prompts();
    } catch (problem) {
      this.#prompts = [];
      onProblem(problem);
    }
    if (chat === this.#chat) this.#update();
  }

  #update() {
    this.element.hidden = !this.#chat.unused || this.#prompts.length === 0;
    setText(this.#chosen, this.#chat.prompt.prompt ?? "none");
  }

  async #read(reference, name, version) {
    try {
      const found = await this.#api.promptVersion(name, version);
      setText(this.#error, "");
      const tried = this.#chat.unused && this.#running.find(({ prompt, label }) => `${prompt}@${label}` === reference);
      return tried ? { ...found, also: `the experiment ${tried.name} may give this chat ${Object.keys(tried.arms).join(" or ")}` } : found;
    } catch (problem) {
      setText(this.#error, problem.message);
      return null;
    }
  }

  #submit() {
    if (!this.#picker) return;
    const wanted = this.#picker.picked || !this.#chat.unused ? this.#picker.take() : undefined;
    if (wanted === null) return;
    // a label is found out by the server when the chat begins; a chat that goes on is asked for what was read here
    const { prompt, pinned, variables } = wanted ?? {};
    this.#chat.use(wanted ? { prompt: this.#chat.unused ? prompt : pinned, variables } : null);
    this.dialog.close();
    this.#update();
  }
}
