// Line icons on a grid of 24, drawn in the colour of the text.

const PATHS = {
  chats: "M4 7h16M4 12h16M4 17h10",
  plus: "M12 5v14M5 12h14",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  pencil: "M16.5 3.9a2.1 2.1 0 0 1 3 3L7.5 18.9 3.5 20l1.1-4z",
  bin: "M4 7h16M9.5 7V4h5v3M6.5 7l1 13h9l1-13M10.5 11v5.5M13.5 11v5.5",
  close: "M6 6l12 12M18 6L6 18",
  back: "M14.5 6l-6 6 6 6",
  forth: "M9.5 6l6 6-6 6",
  thumb: "M7 11v9H4v-9zl4-8a2.4 2.4 0 0 1 2.4 2.4V9H19a2 2 0 0 1 2 2.3l-1.1 7a2 2 0 0 1-2 1.7H7",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "wb-icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
