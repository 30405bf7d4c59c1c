// Copy buttons.

import { setText } from "./dom.js";

const SAID_MS = 1500;
const labels = new WeakMap(); // what a button says that says something else now

/** Copy a text, and let the button that was pressed say so for a moment. */
export async function copyFrom(button, text) {
  say(button, (await copy(text)) ? "Copied" : "Select and copy by hand");
}

/** Let a button that was pressed say for a moment what came of it. */
export function say(button, said) {
  if (!labels.has(button)) labels.set(button, button.textContent);
  setText(button, said);
  setTimeout(() => setText(button, labels.get(button)), SAID_MS);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // not allowed here, as on a page without https
  }
}
