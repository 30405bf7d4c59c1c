// The front end of workbench.ChatWidget; anywidget calls render for each view.

import { ChatView } from "./view/chat.js";

function render({ model, el }) {
  const view = new ChatView(model, el);
  return () => view.close();
}

export default { render };
