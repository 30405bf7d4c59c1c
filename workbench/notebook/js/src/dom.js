/** Make an element. Strings become text, never markup; null and false are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== false));
  return element;
}

/** Change a text only if it differs: an unchanged node keeps selections, and screen readers stay silent. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
