// The browser page of the server: the widget's chat view beside the list of chats.

import { h } from "../dom.js";
import { ChatView } from "../view/chat.js";
import { Api } from "./api.js";
import { Confirm } from "./confirm.js";
import { Drawer } from "./drawer.js";
import { icon } from "./icons.js";
import { Identity } from "./identity.js";
import { ChatList } from "./list.js";
import { LiveChat } from "./live.js";
import { Prompts } from "./prompts.js";

const NAME = document.title;
const TOUCHED = matchMedia("(hover: none) and (pointer: coarse)");

class Page {
  #chats = new Map(); // id -> LiveChat, those that were shown since the page was opened
  #chat = null;
  #view = null;

  /** mode: how the server tells callers apart; model: who answers, '' if it does not say. */
  constructor({ auth: mode, model }) {
    this.identity = new Identity(mode, (first) => this.#becomeSomebody(first));
    this.api = new Api(this.identity.headers);
    this.confirm = new Confirm();
    this.prompts = new Prompts(this.api);
    const onRefused = (problem) => this.identity.open(problem.message);
    this.list = new ChatList(this.api, {
      onOpen: () => this.#show(this.#chat),
      onDelete: (chat) => this.#askToDelete(chat),
      onRefused,
    });
    this.listener = {
      model,
      known: () => this.list.ids,
      begun: (chat) => this.#begun(chat),
      changed: (chat) => this.#changed(chat),
      refused: onRefused,
    };
    this.main = h("main", { class: "pg-main", id: "main" });
    this.side = h(
      "nav",
      { class: "pg-side", id: "chats", "aria-label": "Chats" },
      h("div", { class: "pg-brand" }, h("img", { src: "static/icon.svg", alt: "", width: 22, height: 22 }), NAME),
      h("button", { class: "pg-new", type: "button", onclick: () => this.#new() }, icon("compose"), "New chat"),
      this.list.element,
      h("div", { class: "pg-below" }, this.identity.button, h("a", { class: "pg-quiet", href: "docs" }, icon("book"), "API")),
    );
    this.drawer = new Drawer(this.side, this.main);
    document.body.replaceChildren(
      h("a", { class: "pg-skip", href: "#main", onclick: (event) => this.#skip(event) }, "Skip to the message"),
      this.side,
      this.drawer.veil,
      this.main,
      this.confirm.dialog,
      this.prompts.dialog,
      this.identity.dialog,
    );
    addEventListener("hashchange", () => this.#follow());
    addEventListener("focus", () => this.#lookAgain());
    addEventListener("keydown", (event) => this.#onKey(event));
    this.#follow();
    if (this.identity.missing) this.identity.open();
    else this.list.update();
  }

  // Which chat ------------------------------------------------------------------------------------------------------

  /** Show the chat of the address. */
  #follow() {
    const id = new URLSearchParams(location.hash.slice(1)).get("chat");
    if (id !== null && id === this.#chat?.id) return;
    this.#show(id === null ? this.#unused() : (this.#chats.get(id) ?? this.#keep(new LiveChat(this.api, id, this.listener))));
  }

  #unused() {
    return this.#chat?.unused ? this.#chat : new LiveChat(this.api, null, this.listener);
  }

  #keep(chat) {
    this.#chats.set(chat.id, chat);
    return chat;
  }

  #show(chat) {
    this.drawer.close();
    if (chat !== this.#chat) {
      this.#view?.close();
      this.#chat = chat;
      this.#view = new ChatView(chat, this.main, {
        titleTag: "h1",
        lead: this.drawer.button,
        above: this.prompts.element,
        onPrompt: () => this.prompts.open(),
        onEarlier: () => chat.showEarlier(),
        copies: true,
        assets: (name) => import(new URL(name, import.meta.url)),
      });
    }
    this.list.mark(chat.id);
    this.prompts.show(chat);
    this.#entitle();
    this.#focusInput();
  }

  #new() {
    if (location.hash) history.pushState(null, "", location.pathname + location.search);
    this.#show(this.#unused());
  }

  #focusInput() {
    if (TOUCHED.matches || document.querySelector("dialog[open]")) return; // a keyboard would come over half the chat
    this.#view.composer.input.focus({ preventScroll: true });
  }

  #entitle() {
    document.title = this.#chat.title ? `${this.#chat.title} – ${NAME}` : NAME;
  }

  // What happens ----------------------------------------------------------------------------------------------------

  #begun(chat) {
    this.#keep(chat);
    if (chat !== this.#chat) return;
    history.replaceState(null, "", `#chat=${encodeURIComponent(chat.id)}`);
    this.list.mark(chat.id);
    this.prompts.show(chat);
  }

  #changed(chat) {
    if (chat === this.#chat) this.#entitle();
    this.list.update();
  }

  #lookAgain() {
    if (this.identity.missing) return;
    this.#chat.refresh();
    this.list.update();
  }

  #askToDelete({ chat_id, title, cost_usd }) {
    const kept = cost_usd === "0" ? "" : " What it cost stays in the ledger.";
    this.confirm.ask(`“${title}” and its messages will be gone for good.${kept}`, async () => {
      await this.api.delete(chat_id).catch((problem) => {
        if (problem.status !== 404) throw problem; // else it is gone already
      });
      this.#chats.get(chat_id)?.close();
      this.#chats.delete(chat_id);
      if (this.#chat.id === chat_id) this.#new();
      await this.list.update();
    });
  }

  /** Somebody else asks from now on, or somebody for the first time; Problem if they may not. */
  async #becomeSomebody(first) {
    await this.api.chats({ limit: 1 });
    for (const chat of [this.#chat, ...this.#chats.values()]) chat.close();
    this.#chats.clear();
    this.#chat = null;
    this.list.clear();
    if (!first) history.replaceState(null, "", location.pathname + location.search); // that chat was another's
    this.#follow();
    this.list.update();
  }

  #skip(event) {
    event.preventDefault();
    this.#view.composer.input.focus();
  }

  #onKey(event) {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, textarea, dialog")) return;
    event.preventDefault();
    this.drawer.open();
    this.list.search.focus();
  }
}

new Page(document.documentElement.dataset);
