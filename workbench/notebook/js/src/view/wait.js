// Buttons that would be refused if they were pressed too early.

/** Disable a button for so many seconds. Its label stays, or a screen reader would count down aloud. */
export function enableAfter(button, seconds) {
  if (!seconds) return;
  button.disabled = true;
  setTimeout(() => (button.disabled = false), seconds * 1000);
}
