// What lies over the messages when it is asked for: the list of chats, or what there is to say of this one. Here is the
// frame; what stands in it is loaded when it is opened first.

import { h, setText } from "../dom.js";
import { begin } from "../protocol.js";
import { tool } from "./buttons.js";

const CLOSED = { "aria-expanded": "false" };

export class Desk {
  #onOpen;
  #opener = null;
  #heading = h("h2");
  #said = h("p", { class: "wb-said", role: "status" });
  inside = h("div", { class: "wb-inside" });

  /** `onOpen(isOpen)`: it covers the messages, or no longer, and then the focus is to go to the input. */
  constructor(session, onOpen) {
    this.session = session;
    this.#onOpen = onOpen;
    this.lead = tool("chats", "Chats", () => this.#toggle(this.lead, "Chats"), CLOSED);
    this.more = tool("more", "About this chat", () => this.about(this.more), CLOSED);
    this.new = tool("plus", "New chat", () => this.#begin());
    this.tools = h("div", { class: "wb-tools" }, this.new, this.more);
    this.element = h(
      "div",
      { class: "wb-desk", role: "region", "aria-label": "Chats", hidden: true },
      h("div", { class: "wb-desk-head" }, this.#heading, tool("close", "Close", () => this.close())),
      this.inside,
      this.#said,
    );
  }

  get isOpen() {
    return this.#opener !== null;
  }

  /** Say what there is to say of this chat; `opener` was pressed for it. */
  about(opener) {
    this.#toggle(opener, "This chat");
  }

  update() {
    this.new.disabled = !this.session.canLeave;
  }

  /** Take it away; the focus goes back to where it was opened. */
  close() {
    const opener = this.#opener;
    this.hide();
    opener?.focus();
  }

  hide() {
    this.#leave();
    this.element.hidden = true;
    this.#onOpen(false);
  }

  #leave() {
    this.#opener?.setAttribute("aria-expanded", "false");
    this.#opener = null;
  }

  async #toggle(opener, title) {
    if (this.#opener === opener) return this.close();
    this.#leave();
    this.#opener = opener;
    opener.setAttribute("aria-expanded", "true");
    setText(this.#heading, title);
    this.element.setAttribute("aria-label", title);
    this.element.hidden = false;
    this.inside.replaceChildren();
    this.say("");
    this.#onOpen(true);
    const { Chats, About } = await this.session.asset("desk.js");
    if (this.#opener === opener) new (opener === this.lead ? Chats : About)(this);
  }

  say(text) {
    setText(this.#said, text);
    this.#said.hidden = text === "";
  }

  /** Do something, and say here what went wrong. Return its answer, or null. */
  async try(message) {
    try {
      const answer = await this.session.ask(message);
      this.say("");
      return answer;
    } catch (error) {
      this.say(error.message);
      return null;
    }
  }

  async #begin() {
    this.hide(); // at once: what is opened while the kernel takes its time is not to be closed again
    try {
      await this.session.ask(begin());
    } catch (error) {
      this.session.refuse(error);
    }
  }
}
