"""What all requests share while the server runs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from server.rates import Rates
from server.stream import PING_SECONDS, STALL_SECONDS, Work
from server.streams import Streams
from workbench.errors import StoreError, WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.metrics import Metrics
    from workbench.engine import Engine

log = logging.getLogger("server")

WARM_AGAIN_SECONDS = 30.0
SAVE_AGAIN_SECONDS = 5.0
"""After a full disk got space, its turns are saved within this time, whether or not anybody asks anything."""
TABLES_AT_ONCE = 2
"""The store has four threads that read; two are left for the histories of turns."""


class Service:
    """The engine, the turns at work, and whether new ones are welcome."""

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        *,
        ping_seconds: float = PING_SECONDS,
        stall_seconds: float = STALL_SECONDS,
        warmed: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine = engine
        self.rates = Rates(engine.settings, engine.store)
        self.metrics = metrics
        self.ping_seconds = ping_seconds
        self.stall_seconds = stall_seconds
        self.at_work: set[Work] = set()
        self.streams = Streams(engine.settings.max_streams_per_org)
        self.tables = asyncio.Semaphore(TABLES_AT_ONCE)
        self.stopping = False
        self._warmed = warmed
        self.starting: str | None = "the server is starting"
        """What a turn would still have to wait for, or why it would fail."""

    @property
    def not_ready(self) -> str | None:
        """Why new turns should go elsewhere, None when they are welcome."""
        return "the server is stopping" if self.stopping else self.starting

    async def warm(self) -> None:
        """Connect to whoever answers, and try again while that fails."""
        while True:
            try:
                await self.engine.warm()
            except WorkbenchError as error:
                self.starting = str(error)
                log.error("Nobody can answer yet", extra={"error": str(error)})
                await asyncio.sleep(WARM_AGAIN_SECONDS)
            else:
                self._warmed()
                self.starting = None
                return

    async def keep_saving(self) -> None:
        """Save the turns whose end could not be written, as soon as it can."""
        while True:
            await asyncio.sleep(SAVE_AGAIN_SECONDS)
            try:
                await self.engine.save_unsaved()
            except StoreError as error:
                log.error("Turns not saved yet", extra={"error": str(error)})

    def end_turns(self) -> None:
        """End the turns that are still at work; each is recorded, and its client told."""
        for work in list(self.at_work):
            work.end("server")


async def _service(request: Request) -> Service:  # a plain function would be called in a thread
    service: Service = request.app.state.service
    return service


Shared = Annotated[Service, Depends(_service)]
