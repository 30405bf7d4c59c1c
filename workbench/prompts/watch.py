"""Guards of running experiments, looked after by every process that records their turns."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workbench.errors import StoreError
from workbench.prompts import experiments

if TYPE_CHECKING:
    import pyarrow as pa

    from workbench.prompts.experiments import StoredExperiment
    from workbench.store import Store
    from workbench.store.backend import Backend
    from workbench.turns import LiveTurn

log = logging.getLogger("workbench.experiments")

SECONDS = 5.0
"""Between two looks of this process at the same experiment."""
TIMES = 20
"""And so many times as long as the last look took, so that looking is never more than a small part of the work."""
MOST_WATCHED = 10_000
LAST_LOOK = 10.0
"""Seconds that a process which ends waits for a look that has begun."""


class Guards:
    """Looks, after a turn of an arm was recorded, whether its experiment's guard stops the arm; no turn waits for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next: dict[tuple[str, str], float] = {}
        """By org and experiment, when to look again; never where there is no guard, or nothing left to stop."""
        self._looks: set[asyncio.Task[None]] = set()

    def recorded(self, turn: LiveTurn) -> None:
        """Look after the experiment of a turn, unless that was done a moment ago."""
        if turn.exposure is None:
            return
        key = (turn.caller.org_id, turn.exposure.experiment)
        if self._next.get(key, 0.0) > time.monotonic():
            return
        if len(self._next) > MOST_WATCHED:
            self._next.clear()
        self._next[key] = math.inf  # until this look has ended
        look = asyncio.get_running_loop().create_task(self._look(*key))
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def aclose(self) -> None:
        """Let the looks that have begun come to their end."""
        if self._looks:
            _, late = await asyncio.wait(self._looks, timeout=LAST_LOOK)
            for look in late:
                look.cancel()

    async def _look(self, org_id: str, name: str) -> None:
        begun, again = time.monotonic(), True
        try:
            again = await look(self._store.backend, org_id, name)
        except StoreError as error:
            log.warning("Guard not looked at", extra={"experiment": name, "error": error.type})
        finally:  # whatever else it failed of, such as a thread that could not be started: it is looked at again
            ended = time.monotonic()
            self._next[org_id, name] = ended + max(SECONDS, TIMES * (ended - begun)) if again else math.inf


async def look(backend: Backend, org_id: str, name: str) -> bool:
    """Stop the arm of an experiment that its guard no longer allows; return whether it is worth looking again."""
    found = await experiments.find(backend, org_id, name)
    if found is None or not (found.guard and found.running and found.assigns):
        return False
    table = await experiments.units(backend, org_id, name)
    tripped = await asyncio.to_thread(_tripped, found, table)
    if tripped is None:
        return True
    arm, why = tripped
    if await experiments.stop_arm(backend, org_id, name, arm, why, datetime.now(UTC)):
        log.warning("Guard stopped an arm", extra={"experiment": name, "variant": arm, "reason": why})
    return True


def _tripped(experiment: StoredExperiment, table: pa.Table) -> tuple[str, str] | None:
    from workbench.prompts.guards import stopped_by_guard  # on use, in a thread: with numpy and pandas 0.7 s

    return stopped_by_guard(experiment.compared, experiments.frame_of(table), experiment.guard)
