"""How many replies may come at once: one org must not take what all need."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from workbench.errors import RateLimited, WorkbenchError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from workbench.turns import LiveTurn

RETRY_SECONDS = 1.0
"""Nobody knows when a reply ends; the next one of so many is likely to soon."""


class TooManyStreams(RateLimited):
    """The org has as many replies under way as it may; nothing was spent."""

    def __init__(self, org_id: str, most: int) -> None:
        message = f"org {org_id!r} has {most} replies under way, as many as it may; ask again when one has ended"
        WorkbenchError.__init__(self, message)
        self.whose = f"org {org_id!r}"
        self.limit = most
        self.retry_after = self.reset = RETRY_SECONDS


class Streams:
    """The turns under way, in this process."""

    def __init__(self, most_per_org: int) -> None:
        self._most = most_per_org
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many there are, of all orgs."""
        return self._open.total()

    @asynccontextmanager
    async def within(self, org_id: str, turn: AbstractAsyncContextManager[LiveTurn]) -> AsyncIterator[LiveTurn]:
        """Run a turn that counts while it runs.

        Raises TooManyStreams before the turn is entered, and so before anything is spent.
        """
        if self._open[org_id] >= self._most:
            raise TooManyStreams(org_id, self._most)
        self._open[org_id] += 1
        try:
            async with turn as live:
                yield live
        finally:
            self._open[org_id] -= 1
            if not self._open[org_id]:
                del self._open[org_id]  # made-up orgs must not fill the memory
