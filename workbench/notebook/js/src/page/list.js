// The chats there are: search, pages, open, delete.

import { h, setText } from "../dom.js";
import { icon } from "./icons.js";
import { age, dollars } from "./wording.js";

const TYPED_MS = 250;

export class ChatList {
  #api;
  #chats = []; // as the server lists them
  #seen = new Set(); // ids of what was listed at any time, whatever was searched for
  #next = null;
  #current = null;
  #asked = 0;
  #typing = null;
  #listed = h("div", { class: "pg-listed" });
  #said = h("p", { class: "pg-said", role: "status" });

  /**
   * onOpen()           the chat that is shown already was chosen, which changes no address
   * onDelete(chat)     somebody wants that
   * onRefused(problem) nobody said who asks
   */
  constructor(api, { onOpen, onDelete, onRefused }) {
    this.#api = api;
    this.onOpen = onOpen;
    this.onDelete = onDelete;
    this.onRefused = onRefused;
    this.search = h("input", {
      class: "pg-search",
      type: "search",
      placeholder: "Search chats",
      "aria-label": "Search chats",
      maxlength: 200,
      oninput: () => this.#typed(),
    });
    this.more = h("button", { class: "pg-button pg-more", type: "button", hidden: true, onclick: () => this.#more() }, "Show more");
    this.element = h(
      "div",
      { class: "pg-list" },
      h("div", { class: "pg-find" }, icon("search"), this.search),
      h("div", { class: "pg-scroll" }, this.#listed, this.#said, this.more),
    );
  }

  /** The ids of the chats listed so far, searched for or not. */
  get ids() {
    return new Set(this.#seen);
  }

  /** Mark the chat that is shown. */
  mark(id) {
    this.#current = id;
    for (const link of this.#listed.querySelectorAll("a")) this.#markLink(link);
  }

  /** Read the first page again; what was listed after it stays. Problem if that fails. */
  async refresh() {
    const asked = ++this.#asked;
    const { chats, next } = await this.#api.chats({ search: this.search.value.trim() });
    if (asked !== this.#asked) return; // somebody typed on
    const first = new Set(chats.map(({ chat_id }) => chat_id));
    const oldest = chats.at(-1)?.updated_at ?? "";
    const rest = next === null ? [] : this.#chats.filter((c) => !first.has(c.chat_id) && c.updated_at < oldest);
    this.#chats = [...chats, ...rest];
    if (rest.length === 0) this.#next = next;
    this.#show();
  }

  /** The same, and say it here if it fails. */
  async update() {
    try {
      await this.refresh();
    } catch (problem) {
      if (problem.status === 401) this.onRefused(problem);
      setText(this.#said, problem.message);
    }
  }

  /** Take everything away: somebody else asks now. */
  clear() {
    this.#chats = [];
    this.#next = null;
    this.search.value = "";
    this.#show();
  }

  #typed() {
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => {
      this.#chats = [];
      this.#next = null;
      this.update();
    }, TYPED_MS);
  }

  async #more() {
    const asked = ++this.#asked;
    this.more.disabled = true;
    try {
      const { chats, next } = await this.#api.chats({ search: this.search.value.trim(), before: this.#next });
      if (asked !== this.#asked) return;
      const known = new Set(this.#chats.map(({ chat_id }) => chat_id));
      const fresh = chats.filter(({ chat_id }) => !known.has(chat_id));
      this.#chats.push(...fresh);
      this.#next = next;
      this.#show();
      // the button moved down or went: on with the first chat that was not there before
      if (fresh.length > 0) this.#listed.querySelector(`a[href="#chat=${CSS.escape(fresh[0].chat_id)}"]`)?.focus();
    } catch (problem) {
      setText(this.#said, problem.message);
    } finally {
      this.more.disabled = false;
    }
  }

  #show() {
    for (const { chat_id } of this.#chats) this.#seen.add(chat_id);
    const had = document.activeElement?.closest?.(".pg-listed a, .pg-listed button");
    const kept = had && [had.tagName, had.closest("li").dataset.id];
    const now = Date.now();
    const groups = Map.groupBy(this.#chats, (chat) => age(Date.parse(chat.updated_at), now));
    this.#listed.replaceChildren(
      ...[...groups].map(([name, chats]) => {
        const id = `pg-${name.replaceAll(" ", "-")}`;
        return h(
          "section",
          { "aria-labelledby": id },
          h("h2", { id }, name),
          h("ul", { role: "list" }, ...chats.map((chat) => this.#item(chat))),
        );
      }),
    );
    if (kept) this.#listed.querySelector(`li[data-id="${CSS.escape(kept[1])}"] ${kept[0]}`)?.focus();
    this.more.hidden = this.#next === null;
    const searched = this.search.value.trim() !== "";
    const none = searched ? "No chat has that in its title or a message." : "Your chats will be listed here.";
    setText(this.#said, this.#chats.length === 0 ? none : searched ? `${this.#chats.length}${this.#next ? "+" : ""} found` : "");
  }

  #item(chat) {
    const title = chat.title || "Untitled";
    const link = h(
      "a",
      { href: `#chat=${encodeURIComponent(chat.chat_id)}`, title },
      h("span", { class: "pg-name" }, title),
      h("span", { class: "pg-spent" }, dollars(chat.cost_usd)),
    );
    link.dataset.id = chat.chat_id;
    link.addEventListener("click", () => chat.chat_id === this.#current && this.onOpen());
    this.#markLink(link);
    const label = `Delete ${title}`;
    const button = h("button", { class: "pg-delete", type: "button", "aria-label": label, title: "Delete" }, icon("bin"));
    button.addEventListener("click", () => this.onDelete({ ...chat, title }));
    const item = h("li", {}, link, button);
    item.dataset.id = chat.chat_id;
    return item;
  }

  #markLink(link) {
    if (link.dataset.id === this.#current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}
