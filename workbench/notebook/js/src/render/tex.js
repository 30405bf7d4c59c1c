// Where formulas are in Markdown: $…$, $$…$$, \(…\) and \[…\]. Amounts of money are none, and code is never looked at.

const DISPLAY = /^(?:\$\$((?:(?!\n[ \t]*\n|\$\$)[^])+)(\$\$|$)|\\\[((?:(?!\n[ \t]*\n|\\\])[^])+)(\\\]|$))/;
const REST_OF_LINE = /^[ \t]*[.,;:]?[ \t]*(?:\n+|$)/;
const BEGINNING = /(?:^|\n) {0,3}(?:\$\$|\\\[)/;

const IN_LINE = [
  [/^\$\$([^$`]+)\$\$/, true],
  [/^\\\[([^`]+?)\\\]/, true],
  [/^\\\(([^`]+?)\\\)/, false],
  // as in pandoc: no space inside the dollars, no digit (and here no letter) behind them
  [/^\$((?![\s$])(?:\\[^]|[^\\$`])*?(?:\\\S|[^\s\\$`]))\$(?![\w$])/, false],
];
const MONEY = /^\d[^\\^_={}<>+]*\s[a-z]{2}/i; // "$5. The other one costs 6$" begins like a formula

/**
 * Display formulas that begin a line. One that is not closed yet is a formula too: while it streams, its lines must not
 * become lists or headings that would have to be taken back.
 */
const block = {
  name: "displayTex",
  level: "block",
  start(source) {
    const found = BEGINNING.exec(source);
    return found ? found.index + (found[0][0] === "\n" ? 1 : 0) : undefined;
  },
  tokenizer(source) {
    const indent = /^ {0,3}/.exec(source)[0];
    const found = DISPLAY.exec(source.slice(indent.length));
    if (!found) return undefined;
    let raw = indent + found[0];
    const closed = Boolean(found[2] || found[4]);
    const text = (found[1] ?? found[3]).trim();
    if (!text) return undefined;
    if (!closed) return { type: "displayTex", raw, text: raw, closed };
    const rest = REST_OF_LINE.exec(source.slice(raw.length));
    if (!rest) return undefined; // words follow on the line: it is within a paragraph
    raw += rest[0];
    return { type: "displayTex", raw, text, closed, after: rest[0].trim() };
  },
  renderer: ({ text, closed, after }) =>
    closed ? `<p><code data-tex="display">${escape(text)}</code>${after}</p>` : `<p>${escape(text.trim())}</p>`,
};

const inline = {
  name: "tex",
  level: "inline",
  start(source) {
    const at = source.search(/\$|\\[([]/);
    return at < 0 ? undefined : at;
  },
  tokenizer(source, tokens) {
    if (source[0] !== "$" && source[0] !== "\\") return undefined;
    if (source[0] === "$" && /[\w$]$/.test(tokens.at(-1)?.raw ?? "")) return undefined; // US$5
    for (const [pattern, display] of IN_LINE) {
      const found = pattern.exec(source);
      if (found?.[1].trim() && !MONEY.test(found[1])) return { type: "tex", raw: found[0], text: found[1].trim(), display };
    }
    return undefined;
  },
  renderer: ({ text, display }) => `<code data-tex="${display ? "display" : "inline"}">${escape(text)}</code>`,
};

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

export function escape(text) {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character]);
}

export const TEX = [block, inline];
