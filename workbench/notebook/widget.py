"""The chat box of a chat, for notebooks."""

from __future__ import annotations

import logging
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anywidget
import traitlets
from IPython.core.getipython import get_ipython
from IPython.display import display

from workbench.chat import Chat
from workbench.errors import WorkbenchError
from workbench.notebook.live import LiveChat
from workbench.notebook.messages import PROTOCOL
from workbench.notebook.pages import is_watched
from workbench.runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.display import DisplayHandle

log = logging.getLogger("workbench.notebook")

STATIC = Path(__file__).parent / "static"


class ChatWidget(anywidget.AnyWidget):
    """The chat box of one chat: the last value of a cell shows it.

    It answers while other cells run. Every turn is in the ledger, with source ``widget``. Its reader can go on with
    another chat or branch in it: ``chat`` is always the one that is shown. Closing the page stops nothing; :meth:`close`
    of a chat's last widget stops the reply that is being written, for nobody else could, and so of chats left in it.

    Args:
        chat: The chat; a new one by default.
        height: How high the box is at first, a CSS length; its lower right corner can be dragged.

    Example::

        wb.ChatWidget()
        wb.Chat(system="You are terse.").widget(height="600px")
    """

    _esm = STATIC / "chat.js"
    _css = STATIC / "chat.css"

    # Traits carry ids and settings; text travels as numbered deltas, 115 times fewer bytes than syncing it.
    chat_id = traitlets.Unicode().tag(sync=True)
    protocol = traitlets.Int(PROTOCOL).tag(sync=True)
    height = traitlets.Unicode("480px").tag(sync=True)

    def __init__(self, chat: Chat | None = None, *, height: str = "480px") -> None:
        self.chat = Chat() if chat is None else chat
        self._runtime = runtime()
        self._context = copy_context()
        self._displays: list[DisplayHandle] = []
        self._left: list[LiveChat] = []
        self._displayed: dict[str, Any] = {}
        self._has_view = False
        super().__init__(chat_id=self.chat.id, height=height)
        self._live = LiveChat.of(self.chat, self._runtime.engine)
        self._live.join(self)
        self.on_msg(self._heard)

    def open(self) -> None:
        """Tell the page, if there is one; else the box's 200 kB of JavaScript would be saved in the notebook."""
        if is_watched():
            super().open()

    def close(self) -> None:
        """Take the box off the page; a reply that only this box shows, or left, is stopped and recorded with what came."""
        for live in (*self._left, self._live):
            live.leave(self)
        _on_display.discard(self)
        super().close()

    def say(self, message: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Send a message to every view of this widget; on the engine's loop only."""
        self._speak(self.send, message, buffers)

    def turn_to(self, live: LiveChat) -> None:
        """Show another chat from now on, in every view; on the engine's loop only."""
        self._live.lose(self)
        # kept alive, to be found again and to be stopped with this box
        self._left = [left for left in (*self._left, self._live) if left.busy and left is not live]
        self.chat, self._live = self.chat.beside(live.info), live
        live.join(self)
        self._speak(self.set_trait, "chat_id", live.info.id)

    def write_down(self, c: str, data: dict[str, str], display: bool) -> None:
        """Give what was said to a view that writes it into the notebook; where none can, display it."""
        if display:
            self._speak(self._display_anew, data)
        else:
            text = {"text/plain": repr(self)} | data
            self.say({"t": "transcript", "c": c, "model_id": self.model_id, "data": text})

    def _speak(self, work: Callable[..., object], *arguments: object) -> None:
        try:
            # ipykernel gives what the page says next to whoever spoke last: this speaks as the thread that heard last.
            # Spoken from the loop's own context, Stop would wait for the cell that runs (6.5 s of a sleep of 8 s).
            self._context.run(work, *arguments)
        except Exception:  # a page that cannot be reached must not end a turn that is paid for
            log.exception("A message of the chat widget was not sent")

    def _heard(self, _: object, message: object, buffers: object) -> None:
        # in a thread of a kernel's subshell: hand over and return, touch nothing else
        self._context = copy_context()
        self._has_view = True
        self._runtime.start(self._live.handle(self, message))

    @traitlets.observe("comm")
    def _keep_route(self, change: Any) -> None:
        # The context alone does not help before the page has said anything, when one cell shows the widget and goes on.
        if hasattr(change["new"], "_reply_subshell_for"):
            change["new"]._reply_subshell_for = lambda data, default: default

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The box, and what was said until now for where there are no widgets: GitHub, nbconvert."""
        return self._bundle(self._runtime.run(self._live.transcript())), {}

    def _bundle(self, said: dict[str, str]) -> dict[str, Any]:
        text = {"text/plain": repr(self), **said}
        if self.comm is None:
            return text  # nbconvert would show a box that is dead, or nothing, before it showed the text
        data, _ = super()._repr_mimebundle_()  # type: ignore[misc]  # None only of a widget without a view
        return {**data, **text}

    def _ipython_display_(self, **_: Any) -> None:
        self._displayed, _ = self._repr_mimebundle_()
        self._displays.append(display(self._displayed, raw=True, display_id=True))
        self._has_view = False
        _on_display.add(self)
        if (shell := get_ipython()) is not None:
            shell.events.register("post_run_cell", _catch_up)

    def _display_anew(self, said: dict[str, str]) -> None:
        data = self._bundle(said)
        if data != self._displayed:
            self._displayed = data
            for shown in self._displays:
                shown.update(data, raw=True)

    def __repr__(self) -> str:
        return f"<ChatWidget of {self.chat!r}>"


_on_display: WeakSet[ChatWidget] = WeakSet()
"""Those without a view, of which no page has said a word, are executed without one, as nbconvert and papermill do."""


def _catch_up(_: object) -> None:
    """After each cell, display anew what was said in chats that no page looks after."""
    for widget in tuple(_on_display):
        if widget._has_view:
            continue
        try:
            widget._display_anew(widget._runtime.run(widget._live.transcript()))
        except WorkbenchError:  # the cell itself went well
            log.exception("A chat was not displayed anew")
