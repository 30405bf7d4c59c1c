// Built into a file of its own, which is loaded with the first formula: it is larger than all the rest.

import temml from "temml";

const OPTIONS = {
  throwOnError: true, // what cannot be read is shown as it was written
  trust: false,
  maxSize: [20, 20], // em
  maxExpand: 300, // of macros: \def can double itself
};

// the sanitiser lets none pass, but to read one is an error in the console where the page's policy forbids them
const STYLE = / style="[^"]*"/g;

/** Return TeX as MathML without inline styles, for the sanitiser; throws what is wrong with it. */
export const toMathML = (tex, displayMode) =>
  temml.renderToString(tex, { ...OPTIONS, macros: {}, displayMode }).replace(STYLE, "");
