// The one place for what concerns the whole chat: lost connection, wrong version, a refused turn.

import { h } from "../dom.js";
import { errorLine, INCOMPATIBLE, INCOMPATIBLE_DETAIL, LOST, LOST_DETAIL } from "../wording.js";

export class Notice {
  element = h("div", { class: "wb-notice", hidden: true });

  constructor({ onReconnect, onDismiss }) {
    this.actions = { reconnect: ["Try again", onReconnect], dismiss: ["Dismiss", onDismiss] };
  }

  update({ compatible, link, refusal }) {
    if (!compatible) this.#show("lost", INCOMPATIBLE, INCOMPATIBLE_DETAIL);
    else if (link === "lost") this.#show("lost", LOST, LOST_DETAIL, "reconnect");
    else if (refusal) this.#show("error", refusal.error, errorLine(refusal), "dismiss");
    else this.#show("", "", "");
  }

  #show(kind, title, detail, action) {
    const key = `${kind}|${title}|${detail}`;
    if (this.key === key) return;
    this.key = key;
    const [label, onclick] = this.actions[action] ?? [];
    this.element.dataset.kind = kind;
    this.element.hidden = kind === "";
    this.element.replaceChildren(
      h("span", { role: "alert" }, h("strong", {}, title), ` ${detail}`),
      label ? h("button", { class: "wb-button", type: "button", onclick }, label) : "",
    );
  }
}
