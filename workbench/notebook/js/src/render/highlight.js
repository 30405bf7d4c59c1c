// Colours for code: twelve languages, and the two session forms that build on them.

import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import diff from "highlight.js/lib/languages/diff";
import dockerfile from "highlight.js/lib/languages/dockerfile";
import ini from "highlight.js/lib/languages/ini";
import json from "highlight.js/lib/languages/json";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import pythonRepl from "highlight.js/lib/languages/python-repl";
import r from "highlight.js/lib/languages/r";
import shell from "highlight.js/lib/languages/shell";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { sanitiseHighlighted } from "./sanitise.js";

const LARGEST = 50_000;

const LANGUAGES = { bash, diff, dockerfile, ini, json, markdown, python, r, shell, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language);
hljs.registerLanguage("python-repl", pythonRepl);
// its grammar covers JavaScript too, which spares 6 kB
hljs.registerAliases(["javascript", "js", "jsx", "mjs"], { languageName: "typescript" });

/** Return the code as a highlighted fragment, or null if it stays plain (language unknown, too long). */
export function highlighted(code, language) {
  if (code.length > LARGEST || !hljs.getLanguage(language)) return null;
  const fragment = sanitiseHighlighted(hljs.highlight(code, { language, ignoreIllegals: true }).value);
  return fragment.textContent === code ? fragment : null; // never change what is copied
}
