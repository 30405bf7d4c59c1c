// Is anybody there? Every message to Python is answered by an ack; its absence tells a busy kernel from a lost one.

export const QUEUED_AFTER_MS = 400;
export const LOST_AFTER_MS = 2000;

/**
 * The connection to Python, in one of three states:
 *   'ready'   every message was acknowledged
 *   'queued'  one is unacknowledged for 400 ms: the kernel is busy
 *   'lost'    and for 2 s nothing at all has come: the kernel is gone, or cannot hear us
 *
 * Python handles our messages in order, so an ack also settles all earlier ones; those without an ack of their own
 * were never delivered.
 */
export class Link {
  #transmit;
  #nextId;
  #onState;
  #clock;
  #unacked = []; // {c, t, at}, oldest first
  #heardAt = -Infinity;
  #timer = null;
  state = "ready";

  constructor({ transmit, nextId, onState, clock = systemClock }) {
    this.#transmit = transmit;
    this.#nextId = nextId;
    this.#onState = onState;
    this.#clock = clock;
  }

  /** Send a message; return the client id it was given. */
  post(message) {
    const c = this.#nextId();
    this.#unacked.push({ c, t: message.t, at: this.#clock.now() });
    try {
      this.#transmit({ ...message, c });
    } catch (error) {
      console.warn("workbench: the message could not be sent", error); // a closed comm: the timers will say so
    }
    this.#review();
    return c;
  }

  /** Note a message from Python. Return the client ids it settled: {c, delivered}. */
  heard(message) {
    this.#heardAt = this.#clock.now();
    const settled = this.#settle(message);
    this.#review();
    return settled;
  }

  #settle(message) {
    if (message.t === "snap") this.#unacked = this.#unacked.filter(({ t }) => t !== "hello"); // an answer is an ack
    if (message.t !== "ack") return [];
    const at = this.#unacked.findIndex(({ c }) => c === message.c);
    return this.#unacked.splice(0, at + 1).map(({ c }) => ({ c, delivered: c === message.c }));
  }

  #review() {
    this.#clock.clear(this.#timer);
    this.#timer = null;
    const now = this.#clock.now();
    const oldest = this.#unacked[0];
    let state = "ready";
    if (oldest) {
      const queuedAt = oldest.at + QUEUED_AFTER_MS;
      const lostAt = Math.max(oldest.at, this.#heardAt) + LOST_AFTER_MS;
      state = now >= lostAt ? "lost" : now >= queuedAt ? "queued" : "ready";
      const next = now < queuedAt ? queuedAt : lostAt;
      if (state !== "lost") this.#timer = this.#clock.after(next - now, () => this.#review());
    }
    if (state !== this.state) {
      const before = this.state;
      this.state = state;
      this.#onState(state, before);
    }
  }

  close() {
    this.#clock.clear(this.#timer);
    this.#unacked = [];
  }
}

const systemClock = {
  now: () => performance.now(),
  after: (ms, callback) => setTimeout(callback, Math.ceil(ms)),
  clear: (timer) => clearTimeout(timer),
};
