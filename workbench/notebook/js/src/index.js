// The front end of workbench.ChatWidget; anywidget calls render for each view.

import { ChatView } from "./view/chat.js";
import { Context } from "./view/context.js";

function render({ model, el }) {
  const view = new ChatView(model, el, { Context });
  return () => view.close();
}

export default { render };
