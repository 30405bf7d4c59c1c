// The front end of workbench.ChatWidget; anywidget calls initialize for each widget and render for each view.

import { Keeper, watch } from "./saved.js";
import { ChatView } from "./view/chat.js";
import { Context } from "./view/context.js";
import { Desk } from "./view/desk.js";

function initialize({ model }) {
  return watch(model);
}

function render({ model, el }) {
  const view = new ChatView(model, el, { Context, copies: true, desk: Desk, Keeper });
  return () => view.close();
}

export default { initialize, render };
