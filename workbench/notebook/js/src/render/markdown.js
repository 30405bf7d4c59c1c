// Markdown that arrives in pieces. Finished blocks are rendered once; only the open tail is rendered again.

import { Lexer, Marked, Parser, Renderer } from "marked";
import { decorate } from "./decorate.js";
import { tooManyFormulas } from "./math.js";
import { sanitise } from "./sanitise.js";
import { escape, TEX } from "./tex.js";

const { extensions } = new Marked({ extensions: TEX }).defaults;
const LONGEST_LINE = 50_000; // with a longer one it is no text to read: it is shown as it is, which takes no time
const PIECE = 8_000; // characters of plain text that are laid out together
const LONGEST_OPEN_TAIL = 20_000; // beyond it the tail is plain text until its block ends

class ChatRenderer extends Renderer {
  #inLink = false;

  html({ text, block }) {
    if (/^<br\s*\/?>$/i.test(text.trim())) return "<br>"; // Claude's way to break a line in a table cell
    return block ? `<p>${escape(text.trim())}</p>` : escape(text);
  }

  link(token) {
    const outer = this.#inLink;
    this.#inLink = true;
    const text = this.parser.parseInline(token.tokens);
    this.#inLink = outer;
    return outer ? text : `<a href="${escape(token.href)}">${text}</a>`;
  }

  // never loaded by itself: an address chosen by a model can carry data out
  image({ href, text }) {
    const label = escape(`[image: ${text || "untitled"}]`);
    return this.#inLink ? label : `<a href="${escape(href)}">${label}</a>`;
  }

  code({ text, lang }) {
    return `<pre><code data-lang="${escape(languageOf(lang))}">${escape(text.replace(/\n$/, ""))}\n</code></pre>\n`;
  }

  checkbox({ checked }) {
    return checked ? "☑ " : "☐ ";
  }
}

/** The language that a fence names, as "rust" in "rust,no_run" and "{.rust}"; "" if it names none, "text" if none can be told. */
const languageOf = (info) => (info ? (/^(?:\{\.?)?([\w+#.-]{1,24})(?=[\s,:}]|$)/.exec(info)?.[1] ?? "text") : "");

/** Return the tokens of a source; `links` are the link references defined before it. */
function lex(source, links = {}) {
  const lexer = new Lexer({ gfm: true, extensions });
  Object.assign(lexer.tokens.links, links);
  return lexer.lex(source);
}

function fragmentOf(tokens, links, options) {
  tokens.links = links;
  return decorate(sanitise(Parser.parse(tokens, { renderer: new ChatRenderer(), extensions })), options);
}

/** Return a whole Markdown source as a safe fragment. */
export function render(source, cache, inserts = false) {
  const text = source.replace(/\r\n?/g, "\n");
  if (longestLine(text) > LONGEST_LINE) return plain(text);
  try {
    const tokens = lex(text);
    return fragmentOf(tokens, tokens.links, { closed: true, cache, inserts });
  } catch (error) {
    console.warn("workbench: shown as plain text, for its Markdown cannot be read", error);
    return plain(text);
  }
}

function plain(text) {
  const element = document.createElement("div");
  element.className = "wb-plain";
  element.append(...pieces(text));
  const fragment = document.createDocumentFragment();
  fragment.append(element);
  return fragment;
}

const lengthOf = (tokens) => tokens.reduce((length, { raw }) => length + raw.length, 0);

/** Whether a link reference is defined in the tokens, at whatever depth. */
function defines(tokens) {
  return tokens.some(({ type, tokens: inner = [], items = [] }) => type === "def" || defines(inner) || defines(items));
}

/** Plain text in pieces, so that what is out of sight need not be laid out, nor what came before when more comes. */
function pieces(text) {
  if (text.length <= PIECE) return [text];
  const all = [];
  for (let at = 0; at < text.length; ) {
    const line = text.lastIndexOf("\n", at + PIECE - 1);
    const end = at + PIECE < text.length && line > at ? line + 1 : at + PIECE;
    const piece = document.createElement("div");
    piece.textContent = text.slice(at, end);
    all.push(piece);
    at = end;
  }
  return all;
}

function longestLine(text) {
  let longest = 0;
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf("\n", at);
    longest = Math.max(longest, (end < 0 ? text.length : end) - at);
    at = end < 0 ? text.length : end + 1;
  }
  return longest;
}

/** How many of the tokens can no longer change, whatever follows. */
function settled(tokens, source) {
  const blocks = tokens.flatMap(({ type }, i) => (type === "space" ? [] : [i]));
  if (blocks.length < 2) return 0;
  // A block has ended once the next one shows a complete line: until then that line may still join it
  // (a setext underline, a deeper list item, a table row).
  const last = blocks.at(-1);
  // a formula that turns out to be none, by a blank line or by words behind it, belongs to the paragraph before it
  if (tokens[last].type === "displayTex" && !(tokens[last].closed && tokens[last].raw.endsWith("\n"))) return blocks.at(-2);
  const start = lengthOf(tokens.slice(0, last));
  if (source.includes("\n", start)) return last;
  const { type, codeBlockStyle } = tokens[blocks.at(-2)];
  // nothing joins a fence once it is closed; waiting would leave its code without colours for a whole paragraph
  return type === "code" && codeBlockStyle !== "indented" ? last : blocks.at(-2);
}

/** Renders one message into an element, paint by paint, while its text grows. */
export class MarkdownStream {
  #root;
  #tail = document.createElement("div");
  #source = "";
  #committed = 0; // characters of the source whose blocks are finished
  #links = {};
  #done = []; // the tokens of the finished blocks
  #cache = new Map();
  #lexAgainAt = 0; // length of the open tail at which a long one is looked at again
  #painted = -1;
  #inserts;

  /** `inserts`: whether code in it can be put into a notebook. */
  constructor(root, inserts = false) {
    this.#root = root;
    this.#inserts = inserts;
    this.#tail.className = "wb-tail";
    root.replaceChildren(this.#tail);
  }

  get length() {
    return this.#source.length;
  }

  push(text) {
    this.#source += text;
  }

  /** Bring the element up to date with the text so far. */
  paint() {
    if (this.#painted === this.#source.length) return;
    this.#painted = this.#source.length;
    // a lone carriage return at the end may be half of a line end
    const open = this.#source.slice(this.#committed).replace(/\r$/, "");
    if (open.length > LONGEST_OPEN_TAIL && open.length < this.#lexAgainAt) return this.#paintPlain(open);
    if (open.length > LONGEST_LINE && longestLine(open) > LONGEST_LINE) return this.#paintPlain(open);
    try {
      this.#paintBlocks(open);
    } catch {
      this.#lexAgainAt = open.length * 1.25;
      this.#paintPlain(open);
    }
  }

  #paintBlocks(open) {
    const text = open.replace(/\r\n?/g, "\n");
    const tokens = lex(text, this.#links);
    const count = settled(tokens, text);
    const rest = tokens.slice(count);
    const restLength = lengthOf(rest);
    if (count > 0) {
      const length = lengthOf(tokens.slice(0, count));
      // a definition that is still arriving has half an address: what is finished must not use it
      const done = defines(rest) ? lex(text.slice(0, length), this.#links) : tokens.slice(0, count);
      this.#links = done.links ?? tokens.links;
      this.#tail.before(this.#fragmentOf(done, this.#links, true));
      this.#done.push(...done);
      this.#committed += rawLength(open, length);
    }
    if (restLength > LONGEST_OPEN_TAIL) {
      this.#lexAgainAt = restLength * 1.25;
      return this.#paintPlain(text.slice(text.length - restLength));
    }
    patch(this.#tail, this.#fragmentOf(rest, tokens.links, false));
  }

  #fragmentOf(tokens, links, closed) {
    return fragmentOf(tokens, links, { closed, cache: this.#cache, inserts: this.#inserts });
  }

  #paintPlain(text) {
    const shown = this.#tail.querySelector(":scope > .wb-plain:only-child");
    const first = shown?.firstChild;
    if (text.length <= PIECE && first?.data !== undefined && text.startsWith(first.data)) first.appendData(text.slice(first.length));
    else if (shown) patch(shown, plain(text).firstChild);
    else patch(this.#tail, plain(text));
  }

  /** The text is complete: bring the element to what a rendering of the whole would be. */
  finish() {
    if (!this.#finishTail()) patch(this.#root, render(this.#source, this.#cache, this.#inserts));
    this.#cache.clear();
    this.#done = [];
  }

  /** Render what is open, if the finished blocks are those of the whole text; return whether they are. */
  #finishTail() {
    const text = this.#source.replace(/\r\n?/g, "\n");
    if (this.#done.length === 0 || tooManyFormulas(this.#root) || longestLine(text) > LONGEST_LINE) return false;
    try {
      const tokens = lex(text);
      const rest = tokens.splice(this.#done.length);
      // a link defined below may be used above
      if (Object.keys(tokens.links).length > 0 || JSON.stringify(tokens) !== JSON.stringify(this.#done)) return false;
      patch(this.#tail, this.#fragmentOf(rest, tokens.links, true));
    } catch {
      return false; // render() meets the same, and says so
    }
    this.#tail.replaceWith(...this.#tail.childNodes);
    return true;
  }
}

/** How many characters of a source with mixed line ends make up `length` characters with plain ones. */
function rawLength(source, length) {
  if (!source.includes("\r")) return length;
  let at = 0;
  for (let n = 0; n < length; n++) at += source[at] === "\r" && source[at + 1] === "\n" ? 2 : 1;
  return at;
}

/**
 * Give an element the children of a fragment. What is the same stays, down to a text to which words were added, so that
 * selections and scroll positions survive, and little is laid out again.
 */
function patch(element, fragment) {
  let old = element.firstChild;
  for (const fresh of [...fragment.childNodes]) {
    const next = old?.nextSibling ?? null;
    if (!old) element.append(fresh);
    else if (!old.isEqualNode(fresh)) {
      if (old.nodeType === Node.TEXT_NODE && fresh.nodeType === Node.TEXT_NODE) retext(old, fresh.data);
      else if (alike(old, fresh)) patch(old, fresh);
      else old.replaceWith(fresh);
    }
    old = next;
  }
  while (old) {
    const next = old.nextSibling;
    old.remove();
    old = next;
  }
}

function retext(node, text) {
  if (text.startsWith(node.data)) node.appendData(text.slice(node.length));
  else node.data = text;
}

/** Whether two elements differ in their children at most. A formula is one thing with its TeX. */
function alike(one, other) {
  return !one.dataset?.tex && one.nodeType === Node.ELEMENT_NODE && one.cloneNode().isEqualNode(other.cloneNode());
}
