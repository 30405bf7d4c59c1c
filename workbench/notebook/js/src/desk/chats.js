// The chats there are: search, pages, open, rename, delete.

import { h } from "../dom.js";
import { list, open, remove, rename } from "../protocol.js";
import { button, tool } from "../view/buttons.js";
import { dollars } from "../wording.js";
import { when } from "./when.js";

const TYPED_MS = 250;

export class Chats {
  #desk;

  constructor(desk) {
    this.#desk = desk;
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
    this.#desk.inside.replaceChildren(search, listed, more);
    search.focus();
    this.#list(view);
  }

  /** List from the first; what was listed is replaced at once, so nothing jumps. */
  async #list(view) {
    const asked = ++view.asked;
    const answer = await this.#desk.try(list(view.search.value));
    if (answer === null || asked !== view.asked) return; // somebody typed on
    view.listed.replaceChildren(...answer.chats.map((chat) => this.#item(view, chat)));
    this.#paged(view, answer);
    if (answer.chats.length === 0) this.#desk.say(view.search.value ? "No chat has that in its title or a message." : "No chats yet.");
  }

  async #more(view) {
    const asked = ++view.asked;
    const answer = await this.#desk.try(list(view.search.value, view.next));
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
    const facts = [forked_from && "branch", when(updated_at), dollars(cost_usd)].filter(Boolean).join(" · ");
    const current = id === this.#desk.session.chat.chatId;
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
    if ((await this.#desk.try(open(id))) !== null && this.#desk.isOpen) this.#desk.hide();
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
      if ((await this.#desk.try(rename(chat.chat_id, input.value))) === null) return;
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
      if ((await this.#desk.try(remove(chat.chat_id))) === null) return;
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
}
