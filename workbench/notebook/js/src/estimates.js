// What sending would cost, asked of Python while somebody types. Nothing is waited for: without an answer nothing is shown.

const TYPING_MS = 150; // a pause this long is worth a question
const STALE_MS = 700; // so long an estimate may stand that was made for what was there a moment ago

export class Estimates {
  #ask;
  #changed;
  #clock;
  #key = null;
  #asked = null;
  #timer = null;
  #stale = null;
  shown = null; // the latest estimate, null: none for what is written now

  /** ask(text, attachments) returns the client id of the question; changed() is called when `shown` changes. */
  constructor({ ask, changed, clock = systemClock }) {
    this.#ask = ask;
    this.#changed = changed;
    this.#clock = clock;
  }

  /** Note what is written; `state` tells apart what the chat was when it was asked, `ready` whether anybody answers. */
  update({ text, attachments, state, ready }) {
    if (!ready || (!text.trim() && attachments.length === 0)) return this.forget();
    const key = JSON.stringify([text, attachments, state]);
    if (key === this.#key) return;
    this.#key = key;
    this.#asked = null;
    this.#clock.clear(this.#timer);
    this.#timer = this.#clock.after(TYPING_MS, () => (this.#asked = this.#ask(text, attachments)));
    this.#stale ??= this.#clock.after(STALE_MS, () => this.#show(null));
  }

  heard(message) {
    if (message.c !== this.#asked) return; // of what was written before
    this.#show(message.t === "estimate" ? message : null);
  }

  close() {
    this.#clock.clear(this.#timer);
    this.#clock.clear(this.#stale);
  }

  /** Show nothing until something else is written; an answer on its way is of no use. */
  forget() {
    this.#key = this.#asked = null;
    this.#clock.clear(this.#timer);
    this.#show(null);
  }

  #show(message) {
    this.#clock.clear(this.#stale);
    this.#stale = null;
    if (this.shown === message) return;
    this.shown = message;
    this.#changed();
  }
}

const systemClock = {
  after: (ms, callback) => setTimeout(callback, ms),
  clear: (timer) => clearTimeout(timer),
};
