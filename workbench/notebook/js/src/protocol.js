// The messages between the widget and Python, version 1. All are custom messages of the widget's comm.
//
//   JS -> Python   every message has `c`, a client id which Python repeats in its ack
//     {t:'hello', c, have:{message_id: seq}}   send me a snap; what I have of the live reply
//     {t:'send', c, text}
//     {t:'stop', c, turn}                      turn null: whatever my last send started or will start
//     {t:'retry', c, message_id}               the assistant message to answer anew
//     {t:'estimate', c, text, attachments:[id]}   what would it cost? }
//     {t:'variables', c}                          what is there?      } not waited for: whoever is busy does not answer
//     {t:'attach', c, name}                       read this variable  }
//   send may say attachments:[id], of attached messages, in order
//
//   Python -> JS
//     {t:'ack', c}
//     {t:'snap', chat_id, title, model, local, earlier, messages:[{message_id, role, status, text, footer?, error?}],
//      asked:{c, text|null, retry_of|null}|null, live:{turn, message_id, seq, text}|null, cost_usd}
//     {t:'status', text}    what is being done before a turn begins, as fetching the embedded model; '' when done
//     {t:'start', turn, message_id, user_message_id, text, model, title}
//     {t:'d', turn, seq, k:'text'|'think', i, s}
//     start, end and snap may say budget_left_usd, when the chat counts against a budget; end and snap then budget_note,
//       a sentence from 80 % on, and context:{used, window|null}, tokens
//     end and the messages of a snap may say counts:[{what, tokens, cost_usd}], start and they attachments:[line]
//     {t:'usage', turn, input_tokens, output_tokens, cache_read, cache_write, cost_usd}
//     {t:'end', turn, message_id, status, stop_reason, len, footer, chat_cost_usd}
//     {t:'err', turn|null, error, message, type, retryable, retry_after?, c?}
//     {t:'estimate', c, input_tokens, cached_tokens, reply_tokens, input_usd, cost_usd, local, context_window}
//     {t:'variables', c, items:[{name, kind, size}]}
//     {t:'attached', c, name, attachment: id, kind, summary, text, image, tokens, cost_usd} or {t:'attached', c, name, error}
//
// The batches of a turn are numbered 1, 2, 3 …; snap.live.seq is the last one contained in snap.live.text, 0 if none.
// snap.asked is what was sent and has not begun; snap.earlier counts older messages that are only in the store. The
// error of a message has the fields of an err. A failed turn is told twice, by err and, once it is recorded, by end.
// A start for a user message that is there already replaces what follows it: that is a retry. A stop of what never
// began is answered by an err of type 'stopped'.
// end.len counts Unicode code points (Python's len), not UTF-16 units. Amounts of money are decimal strings or null
// (unknown). No message has a key `id` at its top: ipykernel reads a string there as an address.

export const VERSION = 1;

let views = 0;

/** Return a function that makes client ids, different from those of every other view. */
export function clientIds() {
  const prefix = `${Date.now().toString(36)}${(views++).toString(36)}`;
  let n = 0;
  return () => `${prefix}-${++n}`;
}

export const hello = (have) => ({ t: "hello", have });
export const send = (text, attachments = []) => ({ t: "send", text, ...(attachments.length > 0 && { attachments }) });
export const stop = (turn) => ({ t: "stop", turn });
export const retry = (messageId) => ({ t: "retry", message_id: messageId });
export const estimate = (text, attachments) => ({ t: "estimate", text, attachments });
export const variables = () => ({ t: "variables" });
export const attach = (name) => ({ t: "attach", name });

const REQUIRED = {
  ack: { c: "string" },
  snap: { chat_id: "string", messages: "object" },
  status: { text: "string" },
  start: { turn: "string", message_id: "string", text: "string" },
  d: { turn: "string", seq: "number", s: "string" },
  usage: { turn: "string" },
  end: { turn: "string", message_id: "string", status: "string", len: "number" },
  err: { message: "string" },
  estimate: { c: "string", input_tokens: "number" },
  variables: { c: "string", items: "object" },
  attached: { c: "string", name: "string" },
};

/** Return the message if it is one of ours and has what we rely on, else null: a newer Python may say more. */
export function parse(raw) {
  const required = Object.hasOwn(REQUIRED, raw?.t) ? REQUIRED[raw.t] : null;
  if (!required) return null;
  for (const [key, type] of Object.entries(required)) {
    const value = raw[key];
    if (value === null || typeof value !== type) {
      console.warn(`workbench: dropped a '${raw.t}' message without a valid '${key}'`);
      return null;
    }
  }
  return raw;
}

/** Compare the number of an arriving batch with the last one we have: 'next', 'old' (seen) or 'gap' (one is missing). */
export function sequence(have, seq) {
  if (seq === have + 1) return "next";
  return seq <= have ? "old" : "gap";
}

/** Count Unicode code points, as Python's len does. */
export function codePoints(text) {
  let n = text.length;
  for (let i = 0; i + 1 < text.length; i++) {
    if (text.charCodeAt(i) >= 0xd800 && text.charCodeAt(i) <= 0xdbff) {
      const low = text.charCodeAt(i + 1);
      if (low >= 0xdc00 && low <= 0xdfff) n--, i++;
    }
  }
  return n;
}
