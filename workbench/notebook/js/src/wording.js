// Numbers and sentences for people.

/** A cost as people read it, the same as in workbench/wording.py; `usd` is a decimal string or null (unknown). */
export function dollars(usd) {
  if (usd === null || usd === undefined) return "cost unknown";
  const amount = Number(usd);
  if (amount >= 9.995) return `$${count(Math.round(amount))}`;
  if (amount >= 0.0001) return `$${fixed(usd, amount >= 0.00995 ? 2 : 4)}`;
  return `$${amount.toFixed(9).replace(/\.?0+$/, "")}`;
}

// made once: to make one takes a hundred times as long as to use it, and every paint of a reply formats five numbers
const WHOLE = new Intl.NumberFormat("en-US");
const FIXED = Object.fromEntries(
  [2, 4].map((digits) => {
    const options = { minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven", useGrouping: false };
    return [digits, new Intl.NumberFormat("en-US", options)];
  }),
);

/** Rounded as Python rounds a Decimal, from its digits: 0.00155 as a binary number is less than that. */
const fixed = (usd, digits) => FIXED[digits].format(usd);

export const count = (n) => WHOLE.format(n ?? 0);

/** The footer of a reply that is still arriving: as Reply.footer in workbench/turns.py, so that nothing jumps at its end. */
export function usageLine(model, { input_tokens, output_tokens, cache_read, cost_usd }) {
  const tokens = `${count(input_tokens)} in + ${count(output_tokens)} out tokens`;
  return [modelName(model), tokens, cache_read ? `${count(cache_read)} from cache` : "", dollars(cost_usd)].filter(Boolean).join(" · ");
}

const modelName = (model) => (model === "local" ? "local (embedded model)" : model);

/** A footer in parts: [text, whether a narrow box leaves it out], for its header says the model, and a table what was cached. */
export function footerParts(line, model) {
  const parts = line.split(" · ");
  const told = parts.map((part) => part === modelName(model) || / from cache$|^[\d.]+ s$/.test(part));
  const first = told.indexOf(false);
  return parts.map((part, n) => [n < first ? `${part} · ` : n > first && n > 0 ? ` · ${part}` : part, told[n]]);
}

/** What sending would use and cost, about, as one line. */
export function estimateLine({ input_tokens, cached_tokens, cost_usd, local }) {
  const cached = cached_tokens ? ` (${count(cached_tokens)} from cache)` : "";
  const price = local ? "free" : cost_usd === null ? "price unknown" : `about ${dollars(cost_usd)}`;
  return `about ${count(input_tokens)} tokens${cached} · ${price}`;
}

/** How that was estimated. */
export function estimateDetail({ input_usd, cost_usd, reply_tokens, local }) {
  const rough = "An estimate before sending; what it really used is counted by who answers.";
  if (local) return `${rough} The embedded model charges nothing.`;
  if (cost_usd === null) return `${rough} The price of this model is not known.`;
  return `${rough} The input about ${dollars(input_usd)}, the rest a reply of ${count(reply_tokens)} tokens, as usual in this chat.`;
}

/** Whether input and reply are more than the model takes. */
export function tooLong({ input_tokens, reply_tokens, context_window }) {
  return Boolean(context_window) && input_tokens + reply_tokens > context_window;
}

export const TOO_LONG = "more than fits the context";

/** How full the context is: 12 % of 200k. */
export function contextLine({ used, window }) {
  if (!window) return `${count(used)} tokens of context`;
  const percent = (100 * used) / window;
  return `${percent > 0 && percent < 1 ? "<1" : Math.round(percent)} % of ${short(window)} context`;
}

const short = (n) => (n >= 1e6 ? `${+(n / 1e6).toFixed(1)}M` : n >= 1e3 ? `${Math.round(n / 1e3)}k` : String(n));

/** What a chip says of an attachment. */
export function chipLine({ name, kind, tokens, cost_usd, error }) {
  if (error) return `not attached: ${error}`;
  if (kind === undefined) return `${name} · reading…`;
  const price = cost_usd === null ? "price unknown" : cost_usd === "0" ? "free" : `about ${dollars(cost_usd)}`;
  return `${name} · ${kind} · about ${count(tokens)} tokens · ${price}`;
}

export const NOTHING_TO_ATTACH = "Nothing to attach. Run a cell that makes a table, array, text, dict, list or figure.";
export const NO_SUCH_VARIABLE = "No variable of that name can be attached.";
export const ASKING_FOR_VARIABLES = "asking the kernel for its variables…";
export const BUDGET = "Budget";

export const earlierLine = (n) => `Show ${count(n)} earlier message${n === 1 ? "" : "s"}`;

export const EMPTY = "Ask anything";
export const EMPTY_DETAIL = "Type @ to attach a table, value or plot of this notebook. Every reply is kept with its tokens and cost.";
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

/** Which question is being edited, by how it begins; undefined: it is among the earlier ones that are not here. */
export function editingLine(text) {
  const [...start] = text?.trim().replace(/\s+/g, " ") ?? "";
  const which = start.length > 48 ? `${start.slice(0, 47).join("")}…` : start.join("");
  return `Editing ${which ? `“${which}”` : "a question"}: the reply comes in a branch, and what was said stays.`;
}

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
