// What lies over the messages when it is asked for: the list of chats, or what there is to say of this one.

import { h, setText } from "../dom.js";
import { about, begin, exportAs, list, open, remove, rename, set } from "../protocol.js";
import { dollars } from "../wording.js";
import { icon } from "./icons.js";

const TYPED_MS = 250;

const tool = (name, label, onclick, more = {}) =>
  h("button", { class: "wb-tool", type: "button", title: label, "aria-label": label, onclick, ...more }, icon(name));
const button = (label, onclick, more = "") => h("button", { class: `wb-button ${more}`, type: "button", onclick }, label);

export class Desk {
  #session;
  #onOpen;
  #opener = null;
  #heading = h("h2");
  #inside = h("div", { class: "wb-inside" });
  #said = h("p", { class: "wb-said", role: "status" });

  /** `onOpen(isOpen)`: it covers the messages, or no longer, and then the focus is to go to the input. */
  constructor(session, onOpen) {
    this.#session = session;
    this.#onOpen = onOpen;
    this.lead = tool("chats", "Chats", () => this.#toggle(this.lead, "Chats", () => this.#showChats()), { "aria-expanded": "false" });
    this.more = tool("more", "About this chat", () => this.#toggle(this.more, "This chat", () => this.#showAbout()), { "aria-expanded": "false" });
    this.new = tool("plus", "New chat", () => this.#begin());
    this.tools = h("div", { class: "wb-tools" }, this.new, this.more);
    this.element = h(
      "div",
      { class: "wb-desk", role: "region", "aria-label": "Chats", hidden: true },
      h("div", { class: "wb-desk-head" }, this.#heading, tool("close", "Close", () => this.close())),
      this.#inside,
      this.#said,
    );
  }

  get isOpen() {
    return this.#opener !== null;
  }

  update() {
    this.new.disabled = !this.#session.canSend;
  }

  /** Take it away; the focus goes back to where it was opened. */
  close() {
    const opener = this.#opener;
    this.#hide();
    opener?.focus();
  }

  #hide() {
    this.#opener?.setAttribute("aria-expanded", "false");
    this.#opener = null;
    this.element.hidden = true;
    this.#onOpen(false);
  }

  #toggle(opener, title, show) {
    if (this.#opener === opener) return this.close();
    this.#opener?.setAttribute("aria-expanded", "false");
    this.#opener = opener;
    opener.setAttribute("aria-expanded", "true");
    setText(this.#heading, title);
    this.element.setAttribute("aria-label", title);
    this.element.hidden = false;
    this.#inside.replaceChildren();
    this.#say("");
    this.#onOpen(true);
    show();
  }

  #say(text) {
    setText(this.#said, text);
    this.#said.hidden = text === "";
  }

  /** Do something, and say here what went wrong. Return its answer, or null. */
  async #try(message) {
    try {
      const answer = await this.#session.ask(message);
      this.#say("");
      return answer;
    } catch (error) {
      this.#say(error.message);
      return null;
    }
  }

  async #begin() {
    this.#hide(); // at once: what is opened while the kernel takes its time is not to be closed again
    try {
      await this.#session.ask(begin());
    } catch (error) {
      this.#session.refuse(error);
    }
  }

  // The chats there are -----------------------------------------------------------------------------------------------

  #showChats() {
    const search = h("input", { class: "wb-search", type: "search", placeholder: "Search chats", "aria-label": "Search chats", maxlength: 200 });
    const listed = h("ul", { class: "wb-chats", role: "list" });
    const more = button("Show more", () => this.#more(view), "wb-more");
    more.hidden = true;
    const view = { search, listed, more, next: null, asked: 0 };
    let typing = null;
    search.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.#list(view), TYPED_MS);
    });
    this.#inside.replaceChildren(search, listed, more);
    search.focus();
    this.#list(view);
  }

  /** List from the first; what was listed is replaced at once, so nothing jumps. */
  async #list(view) {
    const asked = ++view.asked;
    const answer = await this.#try(list(view.search.value));
    if (answer === null || asked !== view.asked) return; // somebody typed on
    view.listed.replaceChildren(...answer.chats.map((chat) => this.#item(view, chat)));
    this.#paged(view, answer);
    if (answer.chats.length === 0) this.#say(view.search.value ? "No chat has that in its title or a message." : "No chats yet.");
  }

  async #more(view) {
    const asked = ++view.asked;
    const answer = await this.#try(list(view.search.value, view.next));
    if (answer === null || asked !== view.asked) return;
    const items = answer.chats.map((chat) => this.#item(view, chat));
    view.listed.append(...items);
    this.#paged(view, answer);
    items[0]?.querySelector("button").focus(); // the button moved down or went
  }

  #paged(view, { next }) {
    view.next = next;
    view.more.hidden = next === null;
  }

  #item(view, chat) {
    const item = h("li", { class: "wb-item" });
    this.#rest(view, item, chat);
    return item;
  }

  #rest(view, item, chat) {
    const { chat_id: id, updated_at, cost_usd, forked_from } = chat;
    const title = chat.title || "Untitled";
    const facts = [forked_from && "branch", day(updated_at), dollars(cost_usd)].filter(Boolean).join(" · ");
    const current = id === this.#session.chat.chatId;
    item.replaceChildren(
      h(
        "button",
        { class: "wb-open", type: "button", title, "aria-current": current && "true", onclick: () => this.#open(id) },
        h("span", { class: "wb-name" }, title),
        h("span", { class: "wb-facts" }, facts),
      ),
      tool("pencil", `Rename ${title}`, () => this.#rename(view, item, chat)),
      tool("bin", `Delete ${title}`, () => this.#confirm(view, item, chat)),
    );
  }

  async #open(id) {
    if ((await this.#try(open(id))) !== null && this.isOpen) this.#hide();
  }

  #rename(view, item, chat) {
    const input = h("input", { class: "wb-search", type: "text", "aria-label": "Title", maxlength: 200 });
    input.value = chat.title;
    const back = () => {
      this.#rest(view, item, chat);
      item.querySelector("button").focus();
    };
    const save = async (event) => {
      event.preventDefault();
      if ((await this.#try(rename(chat.chat_id, input.value))) === null) return;
      chat.title = input.value.trim();
      back();
    };
    item.replaceChildren(
      h("form", { class: "wb-ask", onsubmit: save }, input, h("button", { class: "wb-button", type: "submit" }, "Save"), button("Cancel", back)),
    );
    input.select();
    input.focus();
  }

  #confirm(view, item, chat) {
    const keep = button("Keep", () => {
      this.#rest(view, item, chat);
      item.querySelector("button").focus();
    });
    const sure = async () => {
      if ((await this.#try(remove(chat.chat_id))) === null) return;
      const next = item.nextElementSibling ?? item.previousElementSibling;
      item.remove();
      (next?.querySelector("button") ?? view.search).focus();
    };
    const question = `Delete “${chat.title || "Untitled"}”? Its messages will be gone for good.`;
    item.replaceChildren(
      h("div", { class: "wb-ask", role: "group", "aria-label": question }, h("span", { role: "alert" }, question), keep, button("Delete", sure, "wb-danger")),
    );
    keep.focus();
  }

  // This chat ---------------------------------------------------------------------------------------------------------

  async #showAbout() {
    const opener = this.#opener;
    const answer = await this.#try(about());
    if (answer === null || this.#opener !== opener) return;
    const exports = h(
      "div",
      { class: "wb-row", role: "group", "aria-label": "Export" },
      h("span", { class: "wb-label" }, "Export"),
      button("Markdown", () => this.#export("markdown")),
      button("Notebook", () => this.#export("notebook")),
    );
    this.#inside.replaceChildren(...(answer.open ? this.#choices(answer) : this.#facts(answer)), exports);
    this.#inside.querySelector("select, button").focus();
  }

  #choices({ model, system, models, default: standard }) {
    const priced = models.map(({ model: id, price }) => h("option", { value: id, selected: id === model }, `${id} – ${price}`));
    const usual = h("option", { value: "", selected: model === null }, standard ? `the usual one (${standard})` : "the usual one");
    const known = model === null || models.some(({ model: id }) => id === model);
    const chosen = h("select", { class: "wb-search" }, usual, !known && h("option", { value: model, selected: true }, model), ...priced);
    const text = h("textarea", { class: "wb-search", rows: 4, placeholder: "None" });
    text.value = system ?? "";
    const apply = async (event) => {
      event.preventDefault();
      if ((await this.#try(set(chosen.value || null, text.value.trim() || null))) !== null) this.#hide();
    };
    return [
      h(
        "form",
        { class: "wb-about", onsubmit: apply },
        h("label", {}, h("span", { class: "wb-label" }, "Model"), chosen),
        h("label", {}, h("span", { class: "wb-label" }, "System prompt"), text),
        h("div", { class: "wb-row" }, h("button", { class: "wb-button", type: "submit" }, "Use for this chat")),
      ),
    ];
  }

  #facts({ model, system, models, default: standard }) {
    const id = model ?? standard;
    const price = models.find((entry) => entry.model === id)?.price ?? "price unknown";
    return [
      fact("Model", id ? `${id} – ${price}` : "none is configured"),
      fact("System prompt", system || "None"),
      h("p", { class: "wb-said" }, "Both stay as they are once a chat has begun; a new chat can have others."),
    ];
  }

  async #export(kind) {
    const file = await this.#try(exportAs(kind));
    if (file) download(file);
  }
}

const fact = (label, text) =>
  h("div", {}, h("div", { class: "wb-label" }, label), h("div", { class: "wb-fact", tabindex: text.length > 300 && 0 }, text));

function download({ name, type, text }) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000); // some browsers read it later
}

function day(at) {
  const date = new Date(at);
  return date.toLocaleDateString(undefined, { day: "numeric", month: "short", year: date.getFullYear() === new Date().getFullYear() ? undefined : "numeric" });
}
