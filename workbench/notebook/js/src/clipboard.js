// Copy buttons.

import { setText } from "./dom.js";

const COPIED_MS = 1500;

/** Copy a text, and let the button that was pressed say so for a moment. */
export async function copyFrom(button, text) {
  const label = button.textContent;
  setText(button, (await copy(text)) ? "Copied" : "Select and copy by hand");
  setTimeout(() => setText(button, label), COPIED_MS);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // not allowed here, as on a page without https
  }
}
