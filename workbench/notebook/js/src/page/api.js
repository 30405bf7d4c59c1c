// The server, as this page asks it. Every failure is a Problem, with the fields the server gives one.

import { eventsOf } from "./events.js";

export class Problem extends Error {
  constructor({ error, message, type, retryable = false, retry_after = null, chat_id = null }, status = 0) {
    super(message);
    Object.assign(this, { error, type, retryable, retry_after, chatId: chat_id, status });
  }

  /** As the messages between view and Python tell an error. */
  get details() {
    const { error, message, type, retryable, retry_after } = this;
    return { error, message, type, retryable, retry_after };
  }
}

const NOT_REACHED = {
  error: "Not connected",
  message: "The server cannot be reached. Check that it runs and that you are online.",
  type: "not_connected",
  retryable: true,
};
const NOT_OURS = {
  error: "Unexpected answer",
  message: "What answered is not the workbench, or something between garbled it.",
  type: "unexpected_answer",
  retryable: true,
};

export class Api {
  /** `headers()`: who asks. */
  constructor(headers) {
    this.headers = headers;
  }

  chats({ before = null, search = "", limit = 30 } = {}) {
    const query = new URLSearchParams({ limit });
    if (before) query.set("before", before);
    if (search) query.set("search", search);
    return this.#json(`chats?${query}`);
  }

  chat(id) {
    return this.#json(`chats/${encodeURIComponent(id)}`);
  }

  async delete(id) {
    await this.#fetch(`chats/${encodeURIComponent(id)}`, { method: "DELETE" });
  }

  /** Say what the caller thinks of a reply of theirs. */
  async rate(messageId, score, comment) {
    await this.#fetch(`messages/${encodeURIComponent(messageId)}/feedback`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ score, ...(comment && { comment }) }),
    });
  }

  /** The org's prompts: [{name, latest, labels}]. */
  prompts() {
    return this.#all("prompts");
  }

  /** The org's experiments: [{name, state, prompt, label, arms}]. */
  experiments() {
    return this.#all("experiments");
  }

  async #all(what) {
    const found = [];
    for (let next = ""; next !== null; ) {
      const page = await this.#json(`${what}?${new URLSearchParams({ limit: 200, after: next })}`);
      found.push(...page[what]);
      next = page.next;
    }
    return found;
  }

  /** One version of a prompt. */
  async promptVersion(name, version) {
    const query = new URLSearchParams({ limit: 1, before: version + 1 });
    return (await this.#json(`prompts/${encodeURIComponent(name)}?${query}`)).versions[0];
  }

  /**
   * Ask, with what more the request is to say; return {budgetLeft, events}. Problem when nothing of a reply came; a
   * signal that is aborted ends the turn.
   */
  async ask(message, chatId, more, signal) {
    const response = await this.#fetch("chat/stream", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ message, ...(chatId && { chat_id: chatId }), ...more }),
      signal,
    });
    return { budgetLeft: response.headers.get("x-budget-remaining-usd"), events: eventsOf(response.body) };
  }

  async #json(path) {
    const response = await this.#fetch(path, {});
    return await response.json().catch(() => Promise.reject(new Problem(NOT_OURS, response.status)));
  }

  async #fetch(path, { headers = {}, ...options }) {
    let response;
    try {
      response = await fetch(new URL(path, document.baseURI), {
        ...options,
        headers: { ...headers, ...this.headers() },
        cache: "no-store",
        credentials: "same-origin", // a gateway may know its people by cookies
        redirect: "error",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(NOT_REACHED);
    }
    if (response.ok) return response;
    const body = await response.json().catch(() => null);
    throw new Problem(typeof body?.message === "string" ? body : NOT_OURS, response.status);
  }
}
