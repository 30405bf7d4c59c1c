// The one place for what concerns the whole chat: lost connection, wrong version, a refused turn.

import { h } from "../dom.js";
import { BUDGET, errorLine, INCOMPATIBLE, INCOMPATIBLE_DETAIL, LOST, LOST_DETAIL } from "../wording.js";
import { enableAfter } from "./wait.js";

export class Notice {
  element = h("div", { class: "wb-notice", hidden: true });

  constructor({ onReconnect, onDismiss, onRetry, onHide }) {
    this.actions = {
      reconnect: ["Try again", onReconnect],
      retry: ["Try again", onRetry],
      dismiss: ["Dismiss", onDismiss],
      hide: ["Hide", onHide],
    };
  }

  update({ compatible, link, refusal, canRetry, note }) {
    if (!compatible) this.#show("lost", INCOMPATIBLE, INCOMPATIBLE_DETAIL);
    else if (link === "lost") this.#show("lost", LOST, LOST_DETAIL, ["reconnect"]);
    else if (refusal) this.#refused(refusal, canRetry);
    else if (note) this.#show("note", BUDGET, note, ["hide"]);
    else this.#show("", "", "");
  }

  #refused(refusal, canRetry) {
    const actions = refusal.retryable && canRetry ? ["retry", "dismiss"] : ["dismiss"];
    this.#show("error", refusal.error, errorLine(refusal), actions, refusal.retryAfter);
  }

  #show(kind, title, detail, actions = [], seconds = null) {
    const key = `${kind}|${title}|${detail}|${actions}`;
    if (this.key === key) return;
    const said = this.said;
    this.key = key;
    this.said = `${title}|${detail}`;
    this.element.dataset.kind = kind;
    this.element.hidden = kind === "";
    const sentence = h("span", { role: "alert" }, h("strong", {}, title), ` ${detail}`);
    // what was read out already stays the same element, else it would be read out again
    if (said === this.said) this.element.replaceChildren(this.element.firstChild, ...this.#buttons(actions, seconds));
    else this.element.replaceChildren(sentence, ...this.#buttons(actions, seconds));
  }

  #buttons(names, seconds) {
    return names.map((name) => {
      const [label, onclick] = this.actions[name];
      const button = h("button", { class: "wb-button", type: "button", onclick }, label);
      if (name === "retry") enableAfter(button, seconds);
      return button;
    });
  }
}
