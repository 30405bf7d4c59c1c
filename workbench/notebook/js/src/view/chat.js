// The whole chat box: header, messages, notice, composer, status line.

import { copyFrom, say } from "../clipboard.js";
import { h, setText } from "../dom.js";
import { draftOf } from "../drafts.js";
import { provideMath } from "../render/math.js";
import { Session } from "../session.js";
import { CONTINUE, dollars, EMBEDDED_MODEL, EMBEDDED_MODEL_DETAIL, QUEUED } from "../wording.js";
import { Composer } from "./composer.js";
import { MessageLog } from "./log.js";
import { ContextView } from "./money.js";
import { Notice } from "./notice.js";

// a phone has no Shift+Enter, and a button beside the text
const TOUCHED = matchMedia("(hover: none) and (pointer: coarse)");

const HISTORY = { ArrowUp: -1, ArrowDown: 1 };

export class ChatView {
  #comm;
  #session;
  #title;
  #model = h("span", { class: "wb-model", hidden: true });
  #prompt;
  #status = h("span", { class: "wb-status", role: "status" });
  #hint = h("span", { class: "wb-hint" });
  #budget = h("span", { class: "wb-budget", title: "What your budget has left" });
  #cost = h("span", { class: "wb-cost", title: "What this chat has cost so far, without what it shares with another branch" });
  #jump = h("button", { class: "wb-button wb-jump", type: "button", hidden: true, onclick: () => this.#toBottom() }, "↓ Latest");
  #frame = null;
  #width = 0;
  #height = "";
  #restoreScroll = null;
  #full = new ContextView();
  #context = null; // null on a page behind which there is no Python
  #insert;
  #withdraw; // from those who can load what draws formulas
  #keeper = null; // null on a page that is no notebook
  #noteHidden = false;
  #desk = null;
  #chatId = "";
  #paging = false; // through branches: what is read stays where it is

  /**
   * comm     the anywidget model, or what speaks its protocol
   * element  where to be shown
   * options  {titleTag, lead, above, onEarlier, onPrompt, copies, assets, Context, desk, Keeper, insert}: what the title is, what
   *          stands before it and before the input, who brings older messages, who changes the prompt and who loads what
   *          is needed seldom (else Python is asked), whether whole replies can be copied, what knows prices and
   *          variables, the class of what else there is: branches, a list of chats, exports; what keeps the saved
   *          notebook up to date; what puts code into it (null: nothing can)
   */
  constructor(
    comm,
    element,
    { titleTag = "span", lead, above, onEarlier, onPrompt, copies = false, assets, Context, desk, Keeper, insert = null } = {},
  ) {
    this.#comm = comm;
    this.#insert = insert;
    this.#title = h(titleTag, { class: "wb-title" });
    this.#session = new Session(comm, {
      changed: () => this.invalidate(),
      returned: (text, editOf) => (this.composer.restore(text, editOf), this.#context?.restore()),
      delivered: (text) => (this.composer.discard(text), this.#context?.discard()),
      answered: (message) => (this.#context?.answered(message), this.#keeper?.answered(message)),
      said: () => this.#keeper?.said(),
    });
    this.#withdraw = provideMath(() => (assets ? assets("math.js") : this.#session.asset("math.js")));
    this.log = new MessageLog({
      onScroll: () => this.#updateJump(),
      onResize: () => this.#resized(),
      onRetry: (id) => this.#session.canSend && this.#session.retry(id),
      onContinue: () => this.#send(CONTINUE, () => this.#context?.takeNone() ?? []),
      onEarlier: onEarlier ?? (() => this.#session.older()),
      onRate: (...rating) => this.#session.rate(...rating),
      copies,
      inserts: insert !== null,
      tools: desk
        ? {
            onEdit: (id) => this.#edit(this.#session.chat.find(id)),
            onAgain: (id) => this.#session.canSend && this.#session.again(id),
            onBranch: (id, index) => this.#page(id, index),
          }
        : null,
    });
    const change = onPrompt ?? (() => this.#desk.about(this.#prompt));
    this.#prompt = h("button", { class: "wb-prompt", type: "button", hidden: true, onclick: change });
    if (desk) this.#desk = new desk(this.#session, (open) => this.#covered(open));
    this.notice = new Notice({
      onReconnect: () => this.#session.reconnect(),
      onDismiss: () => this.#session.dismiss(),
      onRetry: () => this.composer.submit(),
      onHide: () => ((this.#noteHidden = true), this.invalidate()),
    });
    this.composer = new Composer({
      onSend: (text) => this.#send(text, this.#take),
      onStop: () => this.#session.stop(),
      onText: () => this.#context?.reckon(),
      onEditing: () => this.invalidate(),
      onEdit: (id, text) => this.#send(text, this.#take, id),
    });
    if (Context) {
      const changed = () => this.invalidate();
      const { input } = this.composer;
      this.#context = new Context({ session: this.#session, input, editing: () => this.composer.editing, changed });
    }
    this.root = h(
      "section",
      // JupyterLab's shortcuts must not fire while somebody types here
      { class: "wb-chat", "aria-label": "Chat", "data-lm-suppress-shortcuts": "true" },
      h("header", { class: "wb-head" }, lead ?? this.#desk?.lead ?? null, this.#title, this.#prompt, this.#model, this.#desk?.tools ?? null),
      h("div", { class: "wb-middle" }, this.log.element, this.#jump, this.#desk?.element ?? null),
      this.notice.element,
      this.#context?.element ?? above ?? null,
      this.composer.element,
      h("div", { class: "wb-foot" }, this.#status, this.#hint, this.#context?.line.element ?? null, this.#full.element, this.#budget, this.#cost),
    );
    if (Keeper) this.#keeper = new Keeper({ comm, inquire: (message) => this.#session.inquire(message), root: this.root });
    this.root.addEventListener("keydown", (event) => this.#onKey(event));
    for (const type of ["keyup", "keypress"]) this.root.addEventListener(type, (event) => event.stopPropagation());
    this.root.addEventListener("click", (event) => this.#onClick(event));
    this.#resize();
    element.replaceChildren(this.root);
    this.open();
  }

  open() {
    this.#comm.on("change:height", this.#resize);
    this.#chatId = this.#session.chat.chatId;
    this.#context?.open(draftOf(this.#chatId));
    this.#restoreScroll = this.composer.open(this.#chatId).scrollTop;
    this.#session.open();
    this.#paint();
  }

  close() {
    cancelAnimationFrame(this.#frame);
    this.#comm.off("change:height", this.#resize);
    this.composer.close(this.log.following ? null : this.log.element.scrollTop);
    this.log.close();
    this.#context?.close();
    this.#keeper?.close();
    this.#withdraw();
    this.#session.close();
  }

  /** Paint in the next frame, once, however many messages arrive before it. */
  invalidate() {
    this.#frame ??= requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#frame = null;
    const { chat, link, compatible, canSend } = this.#session;
    const focused = this.#focused;
    this.root.dataset.link = link;
    if (this.#chatId !== chat.chatId) this.#turnTo(chat.chatId);
    this.#updateHead(chat);
    const { editing } = this.composer;
    this.log.update(chat, link, editing);
    this.notice.update({ compatible, link, refusal: chat.refusal, canRetry: canSend && this.composer.input.value.trim() !== "", note: this.#noteHidden ? null : chat.budgetNote });
    this.composer.update({
      busy: chat.busy,
      stopping: chat.stopping,
      canSend,
      enabled: compatible && link !== "lost",
      question: chat.find(editing),
    });
    this.#context?.update({ enabled: compatible && link !== "lost" });
    this.#updateFoot(chat, link);
    this.#desk?.update();
    if (chat.loaded && this.#restoreScroll !== null && this.root.isConnected) {
      this.log.scrollTo(this.#restoreScroll);
      this.#restoreScroll = null;
    }
    this.#updateJump();
    // a button that vanished under the focus would leave the keys to JupyterLab
    if (focused && !(this.#focused?.getClientRects().length > 0)) this.composer.input.focus({ preventScroll: true });
  }

  /** Another chat is shown: with its own draft, and where its reader was. */
  #turnTo(chatId) {
    this.composer.close(this.log.following ? null : this.log.element.scrollTop);
    this.#chatId = chatId;
    this.#context?.open(draftOf(chatId));
    const { scrollTop } = this.composer.open(chatId, false);
    if (!this.#paging) {
      this.#restoreScroll = scrollTop;
      this.log.scrollTo(null);
    }
    this.#paging = false;
  }

  #covered(open) {
    this.log.element.inert = open;
    if (!open) this.composer.input.focus({ preventScroll: true });
    this.#updateJump();
  }

  #edit(question) {
    if (question && this.#session.canSend) this.composer.edit(question.id, question.text);
  }

  /** Go on to an earlier (-1) or later question, if the caret has nowhere to go; past the last one is the draft. */
  #leaf(step) {
    const { editing, input } = this.composer;
    const { questions } = this.#session.chat;
    const at = editing ? questions.findIndex(({ id }) => id === editing) : questions.length;
    if (input.value !== (questions[at]?.text ?? "")) return false; // somebody is writing
    const passed = step < 0 ? input.value.slice(0, input.selectionStart) : input.value.slice(input.selectionEnd);
    if (passed.includes("\n")) return false;
    if (questions[at + step]) this.#edit(questions[at + step]);
    else if (step > 0) this.composer.cancelEdit();
    return true;
  }

  #page(id, index) {
    this.#paging = true;
    this.log.hold();
    this.#session.page(id, index);
  }

  get #focused() {
    const active = this.root.getRootNode().activeElement;
    return this.root.contains(active) ? active : null;
  }

  #updateHead({ title, model, local, prompt, nextPrompt, loaded }) {
    setText(this.#prompt, [prompt, nextPrompt].filter(Boolean).join(" → "));
    this.#prompt.title = `Prompt ${this.#prompt.textContent}${prompt && nextPrompt ? " from the next turn on" : ""}: change it`;
    this.#prompt.hidden = !this.#prompt.textContent;
    setText(this.#title, title || (loaded ? "New chat" : "Chat"));
    this.#title.title = title; // it may be cut
    setText(this.#model, local ? EMBEDDED_MODEL : model);
    this.#model.title = local ? EMBEDDED_MODEL_DETAIL : `Model: ${model}`;
    this.#model.toggleAttribute("data-local", local);
    this.#model.hidden = !this.#model.textContent;
  }

  #updateFoot({ busy, loaded, pending, visible, totalCost, budgetLeft, context }, link) {
    const saidInLog = pending && !pending.acked;
    this.#full.update(context);
    this.#hint.hidden = this.#context?.told ?? false;
    setText(this.#status, link === "queued" && !saidInLog ? QUEUED : "");
    const keys = busy ? "Esc to stop" : "Enter to send, Shift+Enter for a new line";
    setText(this.#hint, link !== "ready" || TOUCHED.matches ? "" : keys);
    setText(this.#budget, budgetLeft === null ? "" : `${dollars(budgetLeft)} left`);
    setText(this.#cost, loaded && (visible.length > 0 || totalCost !== "0") ? dollars(totalCost) : "");
  }

  /** Also called when the host attaches us, which may be after render. */
  #resized() {
    const { height } = this.root.style;
    // dragged: the next view of this box is as high, but what Python was told stays
    if (height !== this.#height) this.#comm.set("height", height);
    if (this.#width === this.root.clientWidth) return;
    this.#width = this.root.clientWidth;
    this.composer.fit();
    this.invalidate();
  }

  #updateJump() {
    this.#jump.hidden = this.log.following || this.log.atBottom || this.#desk?.isOpen === true;
  }

  #toBottom() {
    this.log.toBottom();
    this.#updateJump();
    this.composer.input.focus({ preventScroll: true });
  }

  #send(text, take, editOf = null) {
    if (!this.#session.canSend) return false;
    const attachments = take();
    if (attachments === null) return false;
    if (editOf) this.#session.edit(editOf, text, attachments);
    else this.#session.send(text, attachments);
    this.log.toBottom();
    return true;
  }

  /** What goes with the message that is sent now; null: not yet. */
  #take = () => (this.#context ? this.#context.take() : []);

  #onKey(event) {
    event.stopPropagation();
    if (event.isComposing || event.keyCode === 229) return; // an input method is choosing characters
    if (this.#context?.onKey(event)) return;
    if (event.key === "Escape") {
      event.preventDefault();
      if (this.#desk?.isOpen) this.#desk.close();
      else if (this.composer.editing) this.composer.cancelEdit();
      else this.#session.stop();
    } else if (event.key in HISTORY && this.#desk && event.target === this.composer.input) {
      if (this.#leaf(HISTORY[event.key])) event.preventDefault();
    } else if (event.key === "Enter" && !event.shiftKey && !TOUCHED.matches && event.target === this.composer.input) {
      event.preventDefault();
      this.composer.submit();
    }
  }

  #onClick({ target, detail }) {
    const button = target.closest?.(".wb-code .wb-copy");
    if (!button) return;
    const code = button.closest(".wb-code").querySelector("code").textContent.replace(/\n$/, "");
    if (!button.matches(".wb-insert")) copyFrom(button, code);
    else if (detail < 2) this.#putBelow(code, button); // not twice by a double click
  }

  async #putBelow(code, button) {
    this.#insert(code, this.root, await this.#keeper.modelId());
    say(button, "Inserted");
  }

  #resize = () => {
    const height = this.#comm.get("height");
    this.root.style.height = height && CSS.supports("height", height) ? height : "480px";
    this.#height = this.root.style.height;
  };
}
