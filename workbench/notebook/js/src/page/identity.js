// Who asks: an org and a user the server believes (dev), a key (keys), or whoever a gateway says (gateway). Kept for
// this tab only, and never in an address: addresses are logged, remembered and sent on.

import { h, setText } from "../dom.js";
import { Problem } from "./api.js";
import { icon } from "./icons.js";

const KEPT = "workbench-identity";
const NOBODY = { org: "", user: "", key: "" };

const EXPLAINED = {
  dev: "This server believes who you say you are. Left empty, it is the org and the user that exist from the start.",
  keys: "Your key says which org pays. It is kept in this tab until you close it, and nowhere else.",
};

export class Identity {
  #mode;
  #known;
  #fields;

  /** `onChange(first)`: it was changed; it returns a promise that is rejected with a Problem if it will not do. */
  constructor(mode, onChange) {
    this.#mode = mode;
    this.onChange = onChange;
    this.#known = { ...NOBODY, ...kept() };
    this.button = h("button", { class: "pg-quiet", type: "button", hidden: mode === "gateway", onclick: () => this.open() });
    this.button.append(icon("person"), h("span"));
    this.#fields =
      mode === "keys"
        ? { key: input("Key", { type: "password", placeholder: "wb_…", autocomplete: "off", required: true }) }
        : { org: input("Org", { ...PLAIN, placeholder: "the default org" }), user: input("User", { ...PLAIN, placeholder: "the default user" }) };
    this.error = h("p", { class: "pg-error", role: "alert" });
    this.dialog = h(
      "dialog",
      { class: "pg-dialog", "aria-labelledby": "pg-who" },
      h(
        "form",
        { onsubmit: (event) => (event.preventDefault(), this.#submit()) },
        h("h2", { id: "pg-who" }, mode === "keys" ? "Your key" : "Who asks"),
        h("p", {}, EXPLAINED[mode] ?? ""),
        ...Object.values(this.#fields).map(({ label }) => label),
        this.error,
        h(
          "div",
          { class: "pg-actions" },
          h("button", { class: "pg-button", type: "button", onclick: () => this.dialog.close() }, "Cancel"),
          (this.use = h("button", { class: "pg-button pg-use", type: "submit" }, "Use")),
        ),
      ),
    );
    this.#show();
  }

  /** The headers that say it. */
  headers = () => {
    const { org, user, key } = this.#known;
    if (this.#mode === "keys") return key ? { authorization: `Bearer ${key}` } : {};
    if (this.#mode === "gateway") return {};
    return { ...(org && { "x-org-id": org }), ...(user && { "x-user-id": user }) };
  };

  /** Whether nothing can be asked before somebody says who they are. */
  get missing() {
    return this.#mode === "keys" && !this.#known.key;
  }

  /** Ask who it is, and say why. */
  open(why = "") {
    if (this.#mode === "gateway" || this.dialog.open) return;
    for (const [name, { element }] of Object.entries(this.#fields)) element.value = this.#known[name];
    setText(this.error, why);
    this.dialog.showModal();
  }

  async #submit() {
    const [before, first] = [this.#known, this.missing];
    const given = Object.entries(this.#fields).map(([name, { element }]) => [name, element.value.trim()]);
    this.#known = { ...NOBODY, ...Object.fromEntries(given) };
    this.use.disabled = true;
    try {
      await this.onChange(first);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#known = before;
      return setText(this.error, `${error.error}: ${error.message}`);
    } finally {
      this.use.disabled = false;
    }
    keep(this.#known);
    this.#show();
    this.dialog.close();
  }

  #show() {
    const { org, user, key } = this.#known;
    const name = this.#mode === "keys" ? (key ? `Key ${key.slice(0, 11)}…` : "Enter a key") : user || org || "Default user";
    setText(this.button.lastChild, name);
    this.button.title = org && user ? `${user} of ${org}` : name;
  }
}

// a browser may forbid to keep anything; then it is known until the page is loaded anew
function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

function keep(known) {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(known));
  } catch {
    console.info("workbench: who asks cannot be kept in this browser");
  }
}

const PLAIN = { autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: 64, pattern: "[A-Za-z0-9._:\\-]+" };

function input(name, attributes) {
  const element = h("input", attributes);
  return { element, label: h("label", { class: "pg-field" }, h("span", {}, name), element) };
}
