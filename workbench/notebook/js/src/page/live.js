// One chat over HTTP, in the place of the widget's comm: it understands what the view sends to Python and answers as
// workbench/notebook/live.py does. It lives on while another chat is shown, so that a reply goes on meanwhile.

import { codePoints, VERSION } from "../protocol.js";
import { Problem } from "./api.js";
import { shown } from "./shown.js";
import { footer, sum, titleOf } from "./wording.js";

const SHOWN_AT_FIRST = 60;
const LOOK_AGAIN_MS = [50, 300, 1000]; // for a turn that was stopped: the server may not have noted its end yet
// for a reply not asked for here: it ends at once if it is one of this page before it was loaded anew, else it goes on
// somewhere and is saved every 2 s
const WATCH_MS = [300, 1500];

const STOPPED = { error: "Stopped", message: "it was stopped before anything was sent", type: "stopped", retryable: true };
const BROKEN_OFF = {
  error: "Connection lost",
  message: "The connection to the server broke in the middle of the reply. What had come is kept.",
  type: "connection_lost",
  retryable: true,
};
const GONE = {
  error: "No such chat",
  message: "It was deleted, or belongs to somebody else. Begin a new chat, or open another one.",
  type: "not_found",
  retryable: false,
};

let made = 0;

export class LiveChat {
  #api;
  #listener;
  #handlers = new Map();
  #chat = null; // as the server told it last
  #failures = new Map(); // message id -> why it failed; the server tells that once
  #asked = null;
  #loading = null;
  #watching = null;
  #watched = 0; // how often in a row
  #shownAtMost = SHOWN_AT_FIRST;
  #budgetLeft = null;
  #wanted = null; // {prompt, variables} from the next turn on
  #changes = 0; // turns begun and replies rated here
  #rated = Promise.resolve(); // once the server has the ratings given so far
  #hopeless = false;
  #closed = false;

  /**
   * api       whom to ask
   * id        null: a chat that begins with its first question
   * listener  {model, known(), begun(chat), changed(chat), refused(problem)}: who answers a new chat, '' if nobody tells;
   *           the ids of the chats there are; it has an id now; it was asked in; nobody said who asks
   */
  constructor(api, id, listener) {
    this.#api = api;
    this.#listener = listener;
    this.id = id;
    this.key = id ?? `new-${++made}`; // drafts are kept under it, so it does not change when a new chat begins
  }

  // What a view asks of a comm --------------------------------------------------------------------------------------

  get(name) {
    return { chat_id: this.key, protocol: VERSION, height: "100%" }[name];
  }

  on(name, handler) {
    this.#handlers.set(name, [...(this.#handlers.get(name) ?? []), handler]);
  }

  off(name, handler) {
    this.#handlers.set(name, (this.#handlers.get(name) ?? []).filter((other) => other !== handler));
  }

  send(message) {
    // not at once: the view has yet to note what it sent
    queueMicrotask(() => {
      this.#say({ t: "ack", c: message.c });
      if (message.t === "hello") this.#hello();
      else if (message.t === "stop") this.#stop();
      else if (message.t === "feedback") this.#rated = this.#rated.then(() => this.#rate(message)); // the newest counts
      else this.#ask(message);
    });
  }

  // What the page asks ------------------------------------------------------------------------------------------------

  get busy() {
    return this.#asked !== null;
  }

  get title() {
    return this.#chat?.title ?? "";
  }

  /** Whether nothing was ever asked in it. */
  get unused() {
    return this.id === null && !this.busy;
  }

  /** The prompt version that it uses, and its variables' values; or what is asked for from the next turn on. */
  get prompt() {
    return { prompt: this.#chat?.prompt ?? null, variables: this.#chat?.variables, ...this.#wanted };
  }

  /** Use a prompt from the next turn on; null: none, or the one it has. */
  use(wanted) {
    const { prompt = null, variables } = this.#chat ?? {};
    const values = (of) => JSON.stringify(Object.entries(of).sort());
    const same = prompt !== null && prompt === wanted?.prompt && values(variables) === values(wanted.variables);
    this.#wanted = same ? null : wanted;
    this.#snap();
  }

  /** Read it again: others may have asked in it. */
  refresh() {
    this.#hopeless = false;
    if (this.id !== null && !this.busy) this.#load();
  }

  showEarlier() {
    this.#shownAtMost *= 4;
    this.#snap();
  }

  /** End what runs; nobody looks any more. */
  close() {
    this.#closed = true;
    clearTimeout(this.#watching);
    this.#asked?.controller.abort();
  }

  // Reading ---------------------------------------------------------------------------------------------------------

  #hello() {
    if (this.id === null || this.#chat !== null || this.busy) this.#snap();
    if (this.id !== null && !this.busy && !this.#hopeless) this.#load();
  }

  /** Read the chat and show it; however often it is asked for meanwhile, once. */
  #load() {
    this.#loading ??= this.#read()
      .then(() => this.#snap())
      .catch((error) => this.busy || this.#tell(error)) // what is asked meanwhile has an end of its own
      .finally(() => (this.#loading = null));
    return this.#loading;
  }

  async #read() {
    const changes = this.#changes;
    const chat = await this.#api.chat(this.id);
    if (changes !== this.#changes) return; // it is older than what is on screen
    this.#chat = chat;
    this.#watch();
  }

  #tell(error) {
    this.#hopeless = error.status >= 400 && error.status < 500; // the view asks again and again, the answer is the same
    if (error.status === 401) this.#listener.refused(error);
    this.#say({ t: "err", turn: null, ...detailsOf(error) });
  }

  /** A reply that is written, but not for us: look how far it is. */
  #watch() {
    clearTimeout(this.#watching);
    const last = this.#chat.messages.at(-1);
    if (last?.status !== "streaming") this.#watched = 0;
    else if (!this.#closed && !this.busy && this.#handlers.get("msg:custom")?.length) {
      const wait = WATCH_MS[Math.min(this.#watched++, 1)];
      this.#watching = setTimeout(() => this.busy || this.#load(), wait);
    }
  }

  #snap() {
    const messages = shown(this.#chat?.messages ?? []);
    const { began, text, c, retryOf } = this.#asked ?? {};
    const kept = messages.slice(-this.#shownAtMost);
    const model = messages.findLast(({ role }) => role === "assistant")?.model ?? this.#chat?.model ?? this.#listener.model;
    this.#say({
      t: "snap",
      chat_id: this.key,
      title: this.title,
      model,
      local: model === "local",
      prompt: this.#chat?.prompt ?? null,
      next_prompt: this.#wanted?.prompt ?? null,
      earlier: messages.length - kept.length,
      messages: kept.map((message) => this.#entry(message)),
      asked: this.#asked && !began ? { c, text, retry_of: retryOf } : null,
      live: began ? { turn: began.turn, message_id: began.messageId, seq: began.seq, text: began.text } : null,
      cost_usd: this.#chat?.cost_usd ?? (this.id === null ? "0" : null),
      budget_left_usd: this.#budgetLeft,
    });
  }

  #entry(message) {
    const { message_id, role, status, content, stop_reason, feedback } = message;
    const error = this.#failures.get(message_id) ?? null;
    const line = role === "assistant" ? footer(message) : "";
    return { message_id, role, status, text: content, footer: line, error, stop_reason: stop_reason ?? null, feedback };
  }

  async #rate({ c, message_id, score, comment }) {
    try {
      await this.#api.rate(message_id, score, comment);
    } catch (error) {
      if (error.status === 401) this.#listener.refused(error);
      return this.#say({ t: "err", turn: null, c, ...(error instanceof Problem ? error.details : detailsOf(error)) });
    }
    this.#changes++;
    const reply = this.#chat?.messages.find((message) => message.message_id === message_id);
    if (reply) reply.feedback = { score, comment };
    this.#say({ t: "done", c });
  }

  // Asking ----------------------------------------------------------------------------------------------------------

  #ask({ c, text = null, message_id: retryOf = null }) {
    if (this.busy) {
      const message = "A reply is still being written in this chat. Wait for its end, or stop it.";
      return this.#say({ t: "err", turn: null, c, error: "Not yet", message, type: "busy", retryable: true });
    }
    clearTimeout(this.#watching);
    const question = text ?? shown(this.#chat.messages).at(-2).content;
    const known = this.#listener.known();
    this.#asked = { c, text, retryOf, question, before: null, known, began: null, stopped: false, controller: new AbortController() };
    this.#turn(this.#asked);
  }

  #stop() {
    if (!this.#asked) return this.#say({ t: "err", turn: null, ...STOPPED });
    this.#asked.stopped = true;
    this.#asked.controller.abort(); // the server notes that we left, ends the turn and keeps what came
  }

  async #turn(asked) {
    asked.at = performance.now();
    let ended = null;
    let failure = null;
    try {
      if (this.id !== null) this.#chat ??= await this.#api.chat(this.id);
      asked.before = new Set(this.#chat?.messages.map(({ message_id }) => message_id));
      const { budgetLeft, events } = await this.#api.ask(asked.question, this.id, this.#wanted, asked.controller.signal);
      this.#budgetLeft = budgetLeft ?? this.#budgetLeft;
      for await (const batch of events) ended = this.#heard(asked, batch) ?? ended;
    } catch (error) {
      if (!(error instanceof Problem) && error.name !== "AbortError") console.warn("workbench:", error);
      failure = error instanceof Problem ? error : new Problem(BROKEN_OFF);
    }
    if (this.#closed) return;
    if (ended) await this.#ended(asked, ended);
    else if (asked.began) await this.#brokeOff(asked);
    else await this.#neverBegan(asked, failure ?? new Problem(BROKEN_OFF));
  }

  /** Take in some events; return the last one, if it is among them. */
  #heard(asked, batch) {
    let text = "";
    let last = null;
    for (const event of batch) {
      if (event.done) last = event;
      else if (!asked.began) this.#begin(asked, event);
      else text += event.token;
    }
    if (text) {
      asked.began.text += text;
      this.#say({ t: "d", turn: asked.began.turn, seq: ++asked.began.seq, k: "text", i: 0, s: text });
    }
    return last;
  }

  #begin(asked, { chat_id, message_id, model, request_id, prompt = null, budget_remaining_usd }) {
    const title = this.title || titleOf(asked.question);
    const created_at = new Date().toISOString();
    this.#adopt(chat_id, title, created_at);
    Object.assign(this.#chat, { prompt }, prompt !== null && this.#wanted && { variables: this.#wanted.variables });
    this.#wanted = null;
    this.#budgetLeft = budget_remaining_usd ?? this.#budgetLeft;
    const questionId = asked.retryOf ? shown(this.#chat.messages).at(-2).message_id : `question-of-${message_id}`;
    const question = { message_id: `question-of-${message_id}`, role: "user", content: asked.question, status: "complete" };
    const reply = { message_id, role: "assistant", content: "", status: "streaming", model, usage: null, cost_usd: null };
    this.#chat.messages.push(question, reply);
    this.#changes++;
    asked.began = { turn: request_id, messageId: message_id, text: "", seq: 0, reply };
    this.#say({
      t: "start",
      turn: request_id,
      message_id,
      user_message_id: questionId,
      text: asked.question,
      model,
      title,
      prompt,
      budget_left_usd: this.#budgetLeft,
    });
    this.#listener.changed(this);
  }

  #adopt(id, title, created_at) {
    this.#chat ??= { chat_id: id, title, model: null, prompt: null, variables: {}, created_at, cost_usd: "0", messages: [] };
    if (this.id !== null) return;
    this.id = id;
    this.#listener.begun(this);
  }

  /** The last event came: the turn is in the ledger. */
  async #ended(asked, event) {
    const { began } = asked;
    if (!began) return await this.#neverBegan(asked, new Problem(event));
    if (event.error) {
      this.#failures.set(began.messageId, new Problem(event).details);
      this.#say({ t: "err", turn: began.turn, ...new Problem(event).details });
    }
    Object.assign(began.reply, {
      content: event.fullText ?? began.text,
      status: event.error ? "failed" : "complete",
      stop_reason: event.stop_reason ?? null,
      usage: event.usage,
      cost_usd: event.cost_usd,
      duration_ms: performance.now() - asked.at,
    });
    this.#chat.cost_usd = sum(this.#chat.cost_usd, event.cost_usd);
    this.#sayEnd(asked);
    if (event.error) await this.#look(asked); // stopped by the server it is interrupted and not failed
    this.#listener.changed(this);
  }

  /** No last event: stopped here, or the connection is gone. The server keeps what it had sent. */
  async #brokeOff(asked) {
    const { began } = asked;
    Object.assign(began.reply, { content: began.text, status: asked.stopped ? "interrupted" : "failed" });
    if (!asked.stopped) {
      this.#failures.set(began.messageId, BROKEN_OFF);
      this.#say({ t: "err", turn: began.turn, ...BROKEN_OFF });
    }
    this.#sayEnd(asked);
    await this.#look(asked); // what it used and cost
    this.#listener.changed(this);
  }

  #sayEnd(asked) {
    const { turn, messageId, reply } = asked.began;
    this.#asked = null;
    this.#say({
      t: "end",
      turn,
      message_id: messageId,
      status: reply.status,
      stop_reason: reply.stop_reason ?? null,
      len: codePoints(reply.content),
      footer: footer(reply),
      chat_cost_usd: this.#chat.cost_usd,
    });
  }

  /** Nothing came. It may be in the ledger all the same: then it is shown from there, else the question is given back. */
  async #neverBegan(asked, error) {
    const problem = asked.stopped ? new Problem(STOPPED) : error;
    if (problem.status === 401) this.#listener.refused(problem);
    // a refusal says so; what was cut off, by us, the network or a server that ends, may have begun
    const cutOff = problem.status < 400 || problem.chatId !== null || problem.type === "server_draining";
    const mayBeThere = asked.before !== null && cutOff; // else the chat could not be read, and nothing was sent
    if (problem.chatId !== null) this.#adopt(problem.chatId, titleOf(asked.question), new Date().toISOString());
    const found = mayBeThere && (await this.#look(asked));
    if (this.#closed) return;
    this.#asked = null;
    if (!found) return this.#say({ t: "err", turn: null, c: asked.c, ...detailsOf(problem) });
    if (!asked.stopped) this.#failures.set(this.#chat.messages.at(-1).message_id, detailsOf(problem));
    this.#snap();
    this.#listener.changed(this);
  }

  /** Read the chat until the turn that was asked for has ended there; return whether it is there. */
  async #look(asked) {
    let there = false;
    for (const wait of LOOK_AGAIN_MS) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (this.#closed || (this.busy && this.#asked !== asked)) return false; // asked again already
      try {
        if (this.id === null) await this.#find(asked);
        if (this.id === null) continue;
        const chat = await this.#api.chat(this.id);
        if (this.#closed || (this.busy && this.#asked !== asked)) return false;
        const [question, reply] = chat.messages.slice(-2);
        if (asked.before.has(reply?.message_id) || question?.content !== asked.question) continue;
        this.#chat = chat;
        this.#wanted = null;
        there = true;
        if (reply.status !== "streaming") break;
      } catch (error) {
        if (!(error instanceof Problem)) throw error; // asked once more, then given up: what is on screen stays
      }
    }
    if (there && !this.busy) {
      this.#snap();
      this.#watch();
    }
    return there;
  }

  /** A new chat that was stopped before we were told its id: it is the one that was not there before. */
  async #find(asked) {
    const { chats } = await this.#api.chats({ limit: 5 });
    const chat = chats.find(({ chat_id, title }) => !asked.known.has(chat_id) && title === titleOf(asked.question));
    if (chat) this.#adopt(chat.chat_id, chat.title, chat.created_at);
  }

  #say(message) {
    for (const handler of this.#handlers.get("msg:custom") ?? []) handler(message);
  }
}

function detailsOf(error) {
  if (error.status === 404) return GONE;
  if (error instanceof Problem) return error.details;
  console.error(error);
  return { error: "Page error", message: "Something in this page went wrong. Reload it.", type: "page_error", retryable: true };
}
