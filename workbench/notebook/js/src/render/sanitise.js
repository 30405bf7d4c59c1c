// Model output is hostile until it has passed here. Only what our Markdown renderer itself produces may remain:
// no raw HTML gets this far (markdown.js escapes it), and what should slip through loses everything not listed.

import createDOMPurify from "dompurify";

/** An instance of our own: nobody else on the page can add hooks or settings to it, which are read once. */
function purifier(settings) {
  const purify = createDOMPurify(window);
  purify.setConfig(settings);
  return purify;
}

const markdown = purifier({
  ALLOWED_TAGS: (
    "p br hr h1 h2 h3 h4 h5 h6 strong em del a code pre blockquote ul ol li table thead tbody tr th td"
  ).split(" "),
  // no class, id, name, style, title, aria-*: nothing that could dress up as our own controls
  ALLOWED_ATTR: ["href", "align", "start", "data-lang", "data-tex"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ADD_URI_SAFE_ATTR: ["align", "start", "data-lang", "data-tex"], // no addresses: the line above is not for them
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
});

const coloured = purifier({
  ALLOWED_TAGS: ["span"],
  ALLOWED_ATTR: ["class"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
});

const LENGTH = /^\d{0,2}(?:\.\d+)?(?:em|ex|pt|px|%)?$/; // nothing moves backwards, and nothing far
const NAME = /^[a-z-]{1,24}$/;
const COLOUR = /^#[0-9a-f]{3,8}$/i;
const CLASSES = new Set(["tml-left", "tml-right", "tml-jot", "tml-tageqn", "tml-tag"]);

// What temml makes, apart from styles, which could put something over the rest of the page.
const VALUES = {
  accent: NAME,
  accentunder: NAME,
  columnalign: /^[a-z ]{1,60}$/,
  columnspan: /^\d{1,2}$/,
  display: NAME,
  displaystyle: NAME,
  fence: NAME,
  form: NAME,
  height: LENGTH,
  largeop: NAME,
  linethickness: LENGTH,
  lspace: LENGTH,
  mathbackground: COLOUR,
  mathcolor: COLOUR,
  mathvariant: NAME,
  maxsize: LENGTH,
  minsize: LENGTH,
  movablelimits: NAME,
  notation: /^[a-z ]{1,60}$/,
  rowspan: /^\d{1,2}$/,
  rspace: LENGTH,
  scriptlevel: /^\d$/,
  separator: NAME,
  stretchy: NAME,
  symmetric: NAME,
  width: LENGTH,
};

const math = purifier({
  ALLOWED_TAGS: (
    "math mrow mi mn mo ms mtext mspace mfrac msqrt mroot msub msup msubsup mover munder munderover mmultiscripts " +
    "mprescripts mtable mtr mtd mpadded mphantom mstyle menclose"
  ).split(" "),
  ALLOWED_ATTR: [...Object.keys(VALUES), "class"],
  ADD_URI_SAFE_ATTR: Object.keys(VALUES),
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
});

math.addHook("uponSanitizeAttribute", (_, attribute) => {
  const { attrName: name, attrValue: value } = attribute;
  if (name === "class") attribute.attrValue = value.split(/\s+/).filter((each) => CLASSES.has(each)).join(" ");
  attribute.keepAttr = name === "class" ? attribute.attrValue !== "" : Object.hasOwn(VALUES, name) && VALUES[name].test(value);
});

/** Return the MathML of a formula as a fragment of one `math`; null if it is none. */
export function sanitiseMath(mathml) {
  const fragment = math.sanitize(mathml);
  return fragment.childNodes.length === 1 && fragment.firstChild.nodeName === "math" ? fragment : null;
}

/** Return rendered Markdown as a fragment that can run nothing and load nothing. */
export const sanitise = (html) => markdown.sanitize(html);

/** Return highlighted code as a fragment of text and spans. */
export const sanitiseHighlighted = (html) => coloured.sanitize(html);
