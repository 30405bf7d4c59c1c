// Numbers and sentences for people.

/** A cost as people read it, the same as in workbench/wording.py; `usd` is a decimal string or null (unknown). */
export function dollars(usd) {
  if (usd === null || usd === undefined) return "cost unknown";
  const amount = Number(usd);
  if (amount >= 9.995) return `$${count(Math.round(amount))}`;
  if (amount >= 0.0001) return `$${amount.toFixed(amount >= 0.00995 ? 2 : 4)}`;
  return `$${amount.toFixed(9).replace(/\.?0+$/, "")}`;
}

const count = (n) => (n ?? 0).toLocaleString("en-US");

/** The footer of a reply that is still arriving. */
export function usageLine({ input_tokens, output_tokens, cost_usd }) {
  return `${count(input_tokens)} in · ${count(output_tokens)} out · ${dollars(cost_usd)}`;
}

export const earlierLine = (n) => `${count(n)} earlier message${n === 1 ? " is" : "s are"} in the store: chat.messages`;

export const EMPTY = "Ask anything. The reply, its tokens and its cost are kept in your ledger.";
export const THINKING = "thinking…";
export const STOPPING = "stopping…";
export const QUEUED = "kernel busy - queued";
export const UNDELIVERED = "not delivered yet";
export const LOST = "not connected - run the cell again";
export const LOST_DETAIL = "Your text is kept. If a cell is running, the kernel may answer when it ends.";
export const INCOMPATIBLE = "this page and the kernel run different versions of the workbench";
export const INCOMPATIBLE_DETAIL = "Restart the kernel, reload the page, then run the cell again.";
export const EMBEDDED_MODEL = "embedded demonstration model";
export const EMBEDDED_MODEL_DETAIL =
  "A very small model inside this kernel. It shows how the workbench works, not how Claude answers. " +
  "Set ANTHROPIC_API_KEY to chat with Claude.";

export const EDITING = "Editing a question: the reply comes in a branch, and what was said stays.";
export const NOT_DELIVERED = "It was not delivered: the kernel did not hear it. Try again.";
export const CONTINUE = "Continue where you stopped.";

/** Of a complete reply: what its stop_reason means for the reader. */
export const STOPPED_FOR = {
  max_tokens: "Cut off at its upper bound of tokens.",
  model_context_window_exceeded: "Cut off: the chat fills all that the model can read. Begin a new one.",
  refusal: "Claude declined to go on with this. Ask otherwise, or begin a new chat.",
};

export const ENDED = {
  interrupted: "Stopped before its end.",
  failed: "This reply failed.",
  lost: "Lost: the kernel ended during this reply.",
};

/** An error as a sentence. */
export function errorLine({ message, type, retryAfter }) {
  // our own limit says it in its message
  return retryAfter && type !== "rate_limited" ? `${message} (retry after ${Math.ceil(retryAfter)} s)` : message;
}
