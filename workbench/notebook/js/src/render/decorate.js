// What we add to the model's markup once it is safe: link targets, frames around code and tables.

import { h } from "../dom.js";
import { highlighted } from "./highlight.js";
import { typesetAll } from "./math.js";

const INSERT = "Put this into a new cell below, without running it";
// What a Python kernel may take as a cell. Other code would be a syntax error there, or need a magic that nobody wrote.
const FOR_A_CELL = /^(?:i?python3?|py3?)?$/i;

/**
 * Decorate a sanitised fragment. `closed`: its blocks are complete, so code may be highlighted; `cache`: a Map; `inserts`:
 * code can be put into a notebook.
 */
export function decorate(fragment, { closed, cache, inserts }) {
  for (const link of fragment.querySelectorAll("a")) decorateLink(link);
  for (const table of fragment.querySelectorAll("table")) frame(table, "wb-table");
  for (const code of fragment.querySelectorAll("pre > code")) decorateCode(code, closed, cache, inserts);
  typesetAll(fragment);
  return fragment;
}

function decorateLink(link) {
  if (!link.hasAttribute("href")) return link.replaceWith(...link.childNodes); // its address was not allowed
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  link.title = link.href; // where it really goes
  if (misleads(link)) link.append(` (${link.hostname})`);
}

const ADDRESS = /^\s*(?:https?:\/\/)?(?:www\.)?((?:[\p{L}\p{N}-]+\.)+\p{L}{2,})(?:[/:?#]|\s*$)/iu;
const REORDERS = /[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/;

/** Whether a link reads like an address of another host than the one it leads to. */
function misleads({ textContent: text, protocol, hostname }) {
  if (!protocol.startsWith("http")) return false;
  const named = ADDRESS.exec(text)?.[1].toLowerCase();
  return REORDERS.test(text) || (named !== undefined && named !== hostname.replace(/^www\./, ""));
}

/** Put an element that may be wider than the chat into a box that scrolls, by keyboard too. */
function frame(element, className) {
  const box = h("div", { class: className, tabindex: 0 });
  element.replaceWith(box);
  box.append(element);
}

function decorateCode(code, closed, cache, inserts) {
  const language = code.dataset.lang;
  const pre = code.parentElement;
  pre.tabIndex = 0;
  if (closed && language) colour(code, language, cache);
  const box = h("div", { class: "wb-code" });
  pre.replaceWith(box);
  box.append(
    h(
      "div",
      { class: "wb-code-head" },
      h("span", { class: "wb-code-lang" }, language || "text"),
      // of code that still arrives half would be put there
      inserts && FOR_A_CELL.test(language) && h("button", { class: "wb-copy wb-insert", type: "button", title: INSERT, disabled: !closed }, "Insert below"),
      h("button", { class: "wb-copy", type: "button" }, "Copy"),
    ),
    pre,
  );
}

function colour(code, language, cache) {
  const text = code.textContent;
  const key = `${language}\n${text}`;
  const coloured = cache?.get(key) ?? highlighted(text, language.toLowerCase());
  if (!coloured) return;
  cache?.set(key, coloured.cloneNode(true));
  code.replaceChildren(coloured);
}
