// The widget's words, and the page's own where a kernel was meant. build.mjs gives the page these.

import { usageLine } from "../wording.js";

export * from "../wording.js";

export const EMPTY = "What would you like to ask?";
export const EMPTY_DETAIL = "";
export const QUEUED = "waiting for the server";
export const EMBEDDED_MODEL_DETAIL =
  "A very small model inside the server. It shows how the workbench works, not how Claude answers. " +
  "Set ANTHROPIC_API_KEY to chat with Claude.";

export const ENDED = {
  interrupted: "Stopped before its end.",
  failed: "This reply failed.",
  lost: "Lost: the server ended during this reply.",
};

/** One quiet line on how a reply came about, as Reply.footer in workbench/turns.py. */
export function footer({ model, status, stop_reason, usage, cost_usd, duration_ms }) {
  if (!usage) return "";
  const ending = status !== "complete" ? status : { max_tokens: "cut at max_tokens", refusal: "refused" }[stop_reason];
  const used = usageLine(model, { ...usage, cache_read: usage.cache_read_tokens, cost_usd });
  const seconds = duration_ms === null ? null : `${(duration_ms / 1000).toFixed(1)} s`;
  return [ending, used, seconds].filter(Boolean).join(" · ");
}

const NANO = 1_000_000_000n;

/** The sum of two amounts of money, decimal strings, to the last digit; null if one is unknown. */
export function sum(one, other) {
  if (one === null || other === null) return null;
  const total = nano(one) + nano(other);
  return `${total / NANO}.${String(total % NANO).padStart(9, "0")}`;
}

function nano(amount) {
  const [whole, part = ""] = amount.split(".");
  return BigInt(whole) * NANO + BigInt(part.padEnd(9, "0").slice(0, 9));
}

/** How a chat is called that was not named: as Store.begin calls it. */
export function titleOf(question) {
  const line = question.trim().split(/\s+/).join(" ");
  const letters = [...line];
  return letters.length <= 60 ? line : `${letters.slice(0, 59).join("")}…`;
}

const DAY = 86_400_000;

/** Under which heading of the list a chat stands that was used at a time. */
export function age(at, now) {
  const days = Math.round((midnight(now) - midnight(at)) / DAY);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  return days <= 7 ? "Previous 7 days" : days <= 30 ? "Previous 30 days" : "Older";
}

const midnight = (at) => new Date(at).setHours(0, 0, 0, 0);
