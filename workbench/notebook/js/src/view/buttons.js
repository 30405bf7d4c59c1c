// Buttons: with an icon, with a word.

import { h } from "../dom.js";
import { icon } from "./icons.js";

export const tool = (name, label, onclick, more = {}) =>
  h("button", { class: "wb-tool", type: "button", title: label, "aria-label": label, onclick, ...more }, icon(name));

export const button = (label, onclick, more = "") => h("button", { class: `wb-button ${more}`, type: "button", onclick }, label);
