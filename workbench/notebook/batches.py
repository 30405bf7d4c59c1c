"""The deltas of a turn on their way to the page."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from workbench.notebook.messages import Json
    from workbench.turns import Delta

FLUSH_SECONDS = 0.04
FLUSH_CHARACTERS = 4096

KINDS = {"text": "text", "thinking": "think"}


class Batches:
    """The deltas of one turn on their way to the page: numbered, and at most one message every 40 ms or 4 kB.

    Each message carries some 600 bytes of envelope, 20 times its text when every delta travels alone.
    """

    def __init__(self, turn_id: str, say: Callable[[Json], None], loop: asyncio.AbstractEventLoop) -> None:
        self.seq = 0
        self._turn_id = turn_id
        self._say = say
        self._loop = loop
        self._said: list[str] = []
        self._waiting: list[Delta] = []
        self._characters = 0
        self._flushed_at = -FLUSH_SECONDS
        self._timer: asyncio.TimerHandle | None = None

    @property
    def text(self) -> str:
        """The text of all batches so far."""
        self._said = ["".join(self._said)]
        return self._said[0]

    def add(self, deltas: Sequence[Delta]) -> None:
        """Send the deltas now if the last batch is long ago, else soon."""
        self._waiting += [delta for delta in deltas if delta.kind in KINDS]
        self._characters += sum(len(delta.text) for delta in deltas)
        wait = self._flushed_at + FLUSH_SECONDS - self._loop.time()
        if wait <= 0 or self._characters >= FLUSH_CHARACTERS:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(wait, self.flush)

    def flush(self) -> None:
        """Send what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting, self._characters = self._waiting, [], 0
        self._flushed_at = self._loop.time()
        for (kind, index), run in groupby(waiting, key=lambda delta: (delta.kind, delta.index)):
            self._batch(KINDS[kind], index, "".join(delta.text for delta in run))

    def _batch(self, kind: str, index: int, text: str) -> None:
        self.seq += 1
        if kind == "text":
            self._said.append(text)
        self._say({"t": "d", "turn": self._turn_id, "seq": self.seq, "k": kind, "i": index, "s": text})
