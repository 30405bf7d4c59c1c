"""How a reply appears while it arrives: as rendered Markdown in a notebook, as text in a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from workbench.markdown import safe_html
from workbench.turns import Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

UPDATE_SECONDS = 0.1
UPDATE_GROWTH = 1.03
"""A display is replaced whole, so it is replaced only when the text has grown by 3 %: the bytes sent stay in proportion
to the length of the reply instead of growing with its square."""


class Display(Protocol):
    """Where a reply appears."""

    def add(self, pieces: Sequence[str]) -> None:
        """Show what has come; no pieces mean that nothing comes for the moment."""

    def end(self, reply: Reply) -> None:
        """Show the whole reply and how it came about."""


class Nowhere:
    """Nobody is watching."""

    def add(self, pieces: Sequence[str]) -> None:
        """Ignore it."""

    def end(self, reply: Reply) -> None:
        """Ignore it."""


class Terminal:
    """Text as it comes, then the footer on a line of its own."""

    def add(self, pieces: Sequence[str]) -> None:
        sys.stdout.writelines(pieces)
        sys.stdout.flush()

    def end(self, reply: Reply) -> None:
        dim, plain = ("\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "")
        print(f"\n{dim}{reply.footer}{plain}", flush=True)


class Cell:
    """The output of a notebook's cell."""

    def __init__(self, shell: Any) -> None:
        from IPython.display import DisplayHandle

        self._shell = shell
        self._handle = DisplayHandle()
        self._parts: list[str] = []
        self._length = self._shown_length = 0
        self._shown_at: float | None = None

    def add(self, pieces: Sequence[str]) -> None:
        self._parts += pieces
        self._length += sum(map(len, pieces))
        due = self._shown_at is None or time.monotonic() - self._shown_at >= UPDATE_SECONDS
        enough = self._shown_length * UPDATE_GROWTH if pieces else self._shown_length + 1
        if due and self._length >= enough:
            self._parts = ["".join(self._parts)]
            self._show(self._parts[0])
            self._shown_length = self._length

    def end(self, reply: Reply) -> None:
        self._show(reply.text, reply.footer)
        _note_shown(self._shell, reply)

    def _show(self, text: str, footer: str = "") -> None:
        bundle = {
            "text/html": safe_html(text, footer),
            "text/markdown": f"{text}\n\n*{footer}*" if footer else text,
            "text/plain": f"{text}\n\n{footer}" if footer else text,
        }
        (self._handle.display if self._shown_at is None else self._handle.update)(bundle, raw=True)
        self._shown_at = time.monotonic()


def display_for(show: bool | None) -> Display:
    """Return where a reply is shown; None decides by who is watching: a notebook, a terminal, or nobody."""
    shell = kernel_shell()
    if show is False or (show is None and shell is None and not sys.stdout.isatty()):
        return Nowhere()
    return Terminal() if shell is None else Cell(shell)


def kernel_shell() -> Any | None:
    """The shell of the kernel this runs in, None outside of one."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return shell if shell is not None and hasattr(shell, "kernel") else None


_shown: tuple[int, set[str]] = (0, set())
"""A cell's number, and the replies that appeared while it ran."""


def _note_shown(shell: Any, reply: Reply) -> None:
    """Keep a reply from appearing a second time as the value of the cell it appeared in."""
    global _shown
    if _shown[0] != shell.execution_count:
        _shown = (shell.execution_count, set())
    _shown[1].add(reply.message_id)  # a turn's reply is another object each time it is asked for

    def unless_shown(reply: Reply) -> None:
        if _shown[0] != shell.execution_count or reply.message_id not in _shown[1]:
            raise NotImplementedError  # IPython's word for: show it the ordinary way

    shell.display_formatter.ipython_display_formatter.for_type(Reply, unless_shown)
