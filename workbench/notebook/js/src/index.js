// The front end of workbench.ChatWidget; anywidget calls initialize for each widget and render for each view.

import { inserter } from "./insert.js";
import { Keeper, watch } from "./saved.js";
import { ChatView } from "./view/chat.js";
import { Context } from "./view/context.js";
import { Desk } from "./view/desk.js";

function initialize({ model }) {
  return watch(model);
}

function render({ model, el }) {
  const view = new ChatView(model, el, { Context, copies: true, desk: Desk, Keeper, insert: inserter(model) });
  return () => view.close();
}

export default { initialize, render };
