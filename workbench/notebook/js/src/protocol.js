// The messages between the widget and Python, version 1. All are custom messages of the widget's comm.
//
//   JS -> Python   every message has `c`, a client id which Python repeats in its ack
//     {t:'hello', c, have:{message_id: seq}}   send me a snap; what I have of the live reply
//     {t:'send', c, text}
//     {t:'stop', c, turn}                      turn null: whatever my last send started or will start
//     {t:'retry', c, message_id}               the assistant message to answer anew
//     {t:'asset', c, name}                     a part of the front end that is loaded when it is needed first
//     {t:'older', c, before}                   the messages before this one
//     {t:'estimate', c, text, attachments:[id], edit_of?}   what would it cost, in place of that question? }
//     {t:'variables', c}                          what is there?      } not waited for: whoever is busy does not answer
//     {t:'attach', c, name}                       read this variable  }
//     {t:'again', c, message_id}               another reply beside a complete one: in a branch
//     {t:'edit', c, message_id, text}          the user message to ask otherwise, with what went with it: in a branch
//     {t:'branch', c, message_id, index}       show another of the branches that part at a message
//     {t:'list', c, q, before}                 which chats there are; before is null or chats.next
//     {t:'open', c, chat_id} {t:'new', c} {t:'rename', c, chat_id, title} {t:'delete', c, chat_id}
//     {t:'about', c} {t:'prompt', c, reference} {t:'export', c, kind:'markdown'|'notebook'}
//     {t:'set', c, model, system, prompt?, variables?}   prompt: a reference; the one thing a chat that has begun can change
//     {t:'feedback', c, message_id, score: 1|-1, comment}   what the reader thinks of a reply; the newest counts
//     {t:'transcript', c, display}             what was said as text, for the notebook; display: show it there yourself
//   send and edit may say attachments:[id], of attached messages, in order
//
//   Python -> JS
//     {t:'ack', c}
//     {t:'snap', chat_id, title, model, local, earlier, messages:[{message_id, role, status, text, footer?, error?}],
//      asked:{c, text|null, retry_of|null, edit_of?}|null, live:{turn, message_id, seq, text}|null, cost_usd}
//     a message of a snap may have stop_reason, feedback:{score, comment}, and branch:{index, count} where branches part
//     snap may say prompt and next_prompt, the version that is used and what is asked for from the next turn on; start prompt
//     {t:'status', text}    what is being done before a turn begins, as fetching the embedded model; '' when done
//     {t:'start', turn, message_id, user_message_id, text, model, title}
//     {t:'d', turn, seq, k:'text'|'think', i, s}
//     start, end and snap may say budget_left_usd, when the chat counts against a budget; end and snap then budget_note,
//       a sentence from 80 % on, and context:{used, window|null}, tokens
//     end and the messages of a snap may say counts:[{what, tokens, cost_usd}], start and they attachments:[line]
//     {t:'usage', turn, input_tokens, output_tokens, cache_read, cache_write, cost_usd}
//     {t:'end', turn, message_id, status, stop_reason, len, footer, chat_cost_usd}
//     {t:'err', turn|null, error, message, type, retryable, retry_after?, c?}
//     {t:'older', before, earlier, messages}   as those of a snap
//     {t:'asset', name}     with the file as its one buffer: an ES module
//     {t:'estimate', c, input_tokens, cached_tokens, reply_tokens, input_usd, cost_usd, local, context_window}
//     {t:'variables', c, items:[{name, kind, size}]}
//     {t:'attached', c, name, attachment: id, kind, summary, text, image, tokens, cost_usd} or {t:'attached', c, name, error}
//     {t:'chats', c, chats:[{chat_id, title, updated_at, turns, cost_usd, forked_from}], next}
//     {t:'about', c, model, system, open, default, models:[{model, price}], prompts:[{name, latest, labels:{label: version}}],
//      prompt, next_prompt, variables:{name: value}}
//     {t:'prompt', c, prompt, text, variables:[name], note, model, effort}   the version the chat would get
//     {t:'file', c, name, type, text} {t:'done', c}
//     {t:'feedback', message_id, score, comment}   somebody said what they think of a reply, in this view or another
//     {t:'transcript', c, model_id, data:{mime type: text}}   model_id: of the widget, as its outputs name it
//
// The batches of a turn are numbered 1, 2, 3 …; snap.live.seq is the last one contained in snap.live.text, 0 if none.
// snap.asked is what was sent and has not begun; snap.earlier counts older messages that are only in the store. The
// error of a message has the fields of an err. A failed turn is told twice, by err and, once it is recorded, by end.
// A start for a user message that is there already replaces what follows it: that is a retry. A stop of what never
// began is answered by an err of type 'stopped'.
// A branch is a chat of its own: once its turn has begun, or another one was chosen or opened, the trait chat_id changes
// and a snap of that chat follows. An edit that is refused before leaves everything as it was. What is looked up or
// managed is answered under its own c, by chats, about, file, done or err.
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
export const older = (before) => ({ t: "older", before });
export const asset = (name) => ({ t: "asset", name });
export const estimate = (text, attachments, editOf) => ({ t: "estimate", text, attachments, edit_of: editOf });
export const variables = () => ({ t: "variables" });
export const attach = (name) => ({ t: "attach", name });
export const again = (messageId) => ({ t: "again", message_id: messageId });
export const edit = (messageId, text, attachments = []) => ({
  t: "edit", message_id: messageId, text, ...(attachments.length > 0 && { attachments }),
});
export const branch = (messageId, index) => ({ t: "branch", message_id: messageId, index });
export const list = (q, before = null) => ({ t: "list", q, before });
export const open = (chatId) => ({ t: "open", chat_id: chatId });
export const begin = () => ({ t: "new" });
export const rename = (chatId, title) => ({ t: "rename", chat_id: chatId, title });
export const remove = (chatId) => ({ t: "delete", chat_id: chatId });
export const about = () => ({ t: "about" });
export const prompt = (reference) => ({ t: "prompt", reference });
export const set = (model, system, { prompt = null, variables = {} } = {}) => ({ t: "set", model, system, prompt, variables });
export const feedback = (messageId, score, comment) => ({ t: "feedback", message_id: messageId, score, comment });
export const transcript = (display = false) => ({ t: "transcript", display });
export const exportAs = (kind) => ({ t: "export", kind });

const REQUIRED = {
  ack: { c: "string" },
  snap: { chat_id: "string", messages: "object" },
  status: { text: "string" },
  start: { turn: "string", message_id: "string", text: "string" },
  d: { turn: "string", seq: "number", s: "string" },
  usage: { turn: "string" },
  end: { turn: "string", message_id: "string", status: "string", len: "number" },
  err: { message: "string" },
  asset: { name: "string" },
  older: { before: "string", messages: "object" },
  estimate: { c: "string", input_tokens: "number" },
  variables: { c: "string", items: "object" },
  attached: { c: "string", name: "string" },
  chats: { c: "string", chats: "object" },
  about: { c: "string", models: "object", prompts: "object" },
  prompt: { c: "string", prompt: "string", text: "string", variables: "object" },
  feedback: { message_id: "string", score: "number" },
  file: { c: "string", name: "string", text: "string" },
  done: { c: "string" },
  transcript: { c: "string", model_id: "string", data: "object" },
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
