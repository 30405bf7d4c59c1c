// Formulas on screen. What turns TeX into MathML is loaded with the first one; until then, and whenever TeX cannot be
// read, it is shown as it was written.

import { sanitiseMath } from "./sanitise.js";

const LONGEST = 2_000; // characters of one formula
const MOST = 500; // formulas of one reply, and those remembered

let toMathML = null;
const loaders = new Set();
let asked = null; // the loader that was asked last
const waiting = new Set(); // elements that show TeX for want of it
const made = new Map(); // formulas are painted again and again while the paragraph around them grows

/**
 * Tell how to load it: `loader` returns a promise of the module. The last one told is asked, once. Return what withdraws
 * it: of a view that is closed nothing comes any more.
 */
export function provideMath(loader) {
  loaders.add(loader);
  if (waiting.size > 0) begin(loader);
  return () => {
    loaders.delete(loader);
    if (waiting.size > 0 && asked === loader) begin([...loaders].at(-1));
  };
}

async function begin(loader) {
  if (!loader || loader === asked) return;
  asked = loader;
  try {
    ({ toMathML } = await loader());
  } catch (error) {
    console.warn("workbench: formulas are shown as TeX, for what draws them did not come", error);
    return;
  }
  const logs = new Set();
  for (const code of waiting) {
    logs.add(code.closest(".wb-log"));
    if (code.isConnected) typeset(code);
  }
  waiting.clear();
  for (const log of logs) log?.dispatchEvent(new Event("grown")); // formulas are higher than their TeX
}

/** Put formulas where the TeX of a fragment is. */
export function typesetAll(fragment) {
  let room = MOST;
  for (const code of fragment.querySelectorAll("code[data-tex]")) {
    code.className = "wb-tex";
    if (code.textContent.length > LONGEST || room-- <= 0) continue;
    if (toMathML) typeset(code);
    else wait(code);
  }
}

/** Whether a reply that was rendered in parts shows more than if it had been rendered at once. */
export const tooManyFormulas = (element) => element.querySelectorAll(".wb-math, .wb-tex").length > MOST;

function wait(code) {
  if (waiting.size > MOST) for (const old of waiting) if (!old.isConnected) waiting.delete(old);
  waiting.add(code);
  begin([...loaders].at(-1));
}

function typeset(code) {
  const display = code.dataset.tex === "display";
  const formula = formulaOf(code.textContent, display);
  if (!formula) return;
  const box = document.createElement("span");
  box.className = display ? "wb-math wb-math-display" : "wb-math";
  if (display) box.tabIndex = 0; // it may be wider than the chat, and scrolls
  box.append(formula.cloneNode(true));
  code.replaceWith(box);
}

function formulaOf(tex, display) {
  const key = `${display}${tex}`;
  if (!made.has(key)) {
    if (made.size >= MOST) made.clear();
    made.set(key, drawn(tex, display));
  }
  return made.get(key);
}

function drawn(tex, display) {
  try {
    return sanitiseMath(toMathML(tex, display));
  } catch {
    return null; // not TeX, or TeX that asks for what it may not
  }
}
