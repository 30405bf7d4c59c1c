// Model output is hostile until it has passed here. Only what our Markdown renderer itself produces may remain:
// no raw HTML gets this far (markdown.js escapes it), and what should slip through loses everything not listed.

import createDOMPurify from "dompurify";

// an instance of our own: nobody else on the page can add hooks or settings to it
const purify = createDOMPurify(window);

const MARKDOWN = {
  ALLOWED_TAGS: (
    "p br hr h1 h2 h3 h4 h5 h6 strong em del a code pre blockquote ul ol li table thead tbody tr th td"
  ).split(" "),
  // no class, id, name, style, title, aria-*: nothing that could dress up as our own controls
  ALLOWED_ATTR: ["href", "align", "start", "data-lang"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ADD_URI_SAFE_ATTR: ["align", "start", "data-lang"], // no addresses: the line above is not for them
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const HIGHLIGHTED = {
  ALLOWED_TAGS: ["span"],
  ALLOWED_ATTR: ["class"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** Return rendered Markdown as a fragment that can run nothing and load nothing. */
export const sanitise = (html) => purify.sanitize(html, MARKDOWN);

/** Return highlighted code as a fragment of text and spans. */
export const sanitiseHighlighted = (html) => purify.sanitize(html, HIGHLIGHTED);
