// The front end of workbench.ChatWidget; anywidget calls render for each view.

import { ChatView } from "./view/chat.js";
import { Context } from "./view/context.js";
import { Desk } from "./view/desk.js";

function render({ model, el }) {
  const view = new ChatView(model, el, { Context, copies: true, desk: Desk });
  return () => view.close();
}

export default { render };
