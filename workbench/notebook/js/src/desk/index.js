// Built into desk.js, which a page loads once, when somebody opens the first of these.

export { About } from "./about.js";
export { Chats } from "./chats.js";
