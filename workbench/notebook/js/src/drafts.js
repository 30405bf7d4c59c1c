// What the reader is typing, kept over a re-render: JupyterLab rebuilds the view whenever the cell's output changes.

const FOCUS_KEPT_MS = 3000; // a view that appears later than this after the old one went is not its successor

// on globalThis: each widget's bundle is a module of its own
const drafts = (globalThis.__workbenchDrafts ??= new Map());

const EMPTY = { text: "", start: 0, end: 0, focused: false, goneAt: null, scrollTop: null, editing: null, aside: "", attachments: [] };

/** The draft of a chat: {text, start, end, focused, goneAt, scrollTop (null: at the bottom), attachments, editing (the
 *  id of the question that is being changed, or null), aside (what was being written before that)}. */
export function draftOf(chatId) {
  if (!drafts.has(chatId)) drafts.set(chatId, { ...EMPTY });
  return drafts.get(chatId);
}

/** Note that a view is gone. */
export function leave(draft) {
  draft.goneAt = Date.now();
}

/** Return whether a new view should take the focus over from the one it replaces. */
export function inheritsFocus(draft) {
  return draft.focused && (draft.goneAt === null || Date.now() - draft.goneAt < FOCUS_KEPT_MS);
}
