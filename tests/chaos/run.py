"""Start processes that go through turns, kill some, look at the store, start others in their place; and so on."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.upstream import ScriptedUpstream, reply
from workbench.errors import StoreError
from workbench.store import Store
from workbench.store.place import Place

from . import answer
from .facts import FactViolated, Told, verify
from .processes import Worker, end

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
LONGEST_WAIT = 0.8
"""Seconds between the first turns of a process and the kill, at most: a few turns."""
DELAY = 0.004
"""Seconds between two deltas."""
WHERE = {"begin": "begin", "save": "checkpoint", "record": "record"}
"""What a process was doing for a turn, by the last word about it; else it waited for deltas."""


@dataclass
class Figures:
    """What happened so far."""

    backend: str
    kills: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    """Processes killed, by what they were."""
    disconnected: int = 0
    """Connections ended under a process that went on."""
    acknowledged: int = 0
    lost: int = 0
    cut: Counter[str] = field(default_factory=Counter)
    """Turns that a kill interrupted, by what was being done for them."""
    stalls: list[float] = field(default_factory=list)
    """Seconds that a survivor waited for the longest of its writes, for each time the store was taken from it."""
    seconds: float = 0.0


class Run:
    """One store, and the processes that use it."""

    team = 1
    """How many at a time."""

    def __init__(self, figures: Figures, folder: Path, url: str, upstream: str, chance: random.Random) -> None:
        self.figures, self.folder, self.url, self.upstream, self.chance = figures, folder, url, upstream, chance
        self.told = Told()
        self.workers: list[Worker] = []
        self._started = 0

    async def round(self) -> str:
        """Bring the team to its full number, kill some of it, and see that the store is as it must be."""
        await self._fill()
        await self._disturb()
        await asyncio.sleep(self.chance.uniform(0, LONGEST_WAIT))
        victims = self._victims()
        before = {worker: len(worker.pulses) for worker in self.workers}
        await end(victims.values())
        self.workers = [worker for worker in self.workers if worker not in victims.values()]
        self.figures.kills += 1
        self.figures.killed.update(victims.keys())
        cut = Counter(WHERE.get(self.told.step[id], "stream") for w in victims.values() for id in w.open)
        self.figures.cut += cut
        await asyncio.gather(*(worker.goes_on() for worker in self.workers))
        if "owner" in victims:
            self._note_stall(before)
        await self.look()
        found = ", ".join(f"{n} in {where}" for where, n in sorted(cut.items())) or "none"
        return f"killed {' and '.join(victims)}; turns cut: {found}"

    async def look(self) -> None:
        """Open the store, which records the turns of the dead as lost, and verify it."""
        try:
            store = await Store.open(self.url)
            try:
                ended = await verify(store, self.told, [worker.session for worker in self.workers])
            finally:
                await asyncio.to_thread(store.close)
        except StoreError as error:
            raise FactViolated(f"it does not hold that the store opens and can be read: {error}") from error
        self.figures.acknowledged = len(self.told.kept)
        self.figures.lost = sum(turn.status == "lost" for turn in ended)

    async def end(self) -> None:
        everybody, self.workers = self.workers, []
        await end(everybody)

    def _victims(self) -> dict[str, Worker]:
        """Whom to kill, by what they are."""
        return {"writer": self.workers[0]}

    async def _disturb(self) -> None:
        """Do something else that must do no harm."""

    def _note_stall(self, before: dict[Worker, int]) -> None:
        self.figures.stalls += [max(w.pulses[before[w] :]) for w in self.workers]

    async def _fill(self) -> None:
        while len(self.workers) < self.team:
            self._started += 1
            log = self.folder / f"process-{self._started}.log"
            self.workers.append(Worker(self.url, self.upstream, self.chance.random(), log, self.told))
        for worker in self.workers:
            await worker.until("acknowledge its first turns", lambda worker=worker: worker.said["kept"] > 1)


class OwnFile(Run):
    """The process that writes owns the file."""


class Client(Run):
    """An owner and two clients of it, who all write; one of the three survives every kill."""

    team = 3

    def _victims(self) -> dict[str, Worker]:
        _, pid = Place.of(self.url).holder()
        owner = next(worker for worker in self.workers if worker.process.pid == pid)
        client = self.chance.choice([worker for worker in self.workers if worker is not owner])
        return self.chance.choice([{"owner": owner}, {"client": client}, {"owner": owner, "client": client}])


class Postgres(Run):
    """The process that writes, and now and then its connections, which it must survive."""

    def __init__(self, *arguments: Any, server: PostgresServer, database: str) -> None:
        super().__init__(*arguments)
        self._server, self._database = server, database

    async def _disturb(self) -> None:
        if self.chance.random() > 0.25:
            return
        await asyncio.sleep(self.chance.uniform(0, LONGEST_WAIT))
        before = {worker: len(worker.pulses) for worker in self.workers}
        ended = await asyncio.to_thread(
            self._server.run,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._database}'",
        )
        self.figures.disconnected += len(ended)
        await asyncio.gather(*(worker.goes_on() for worker in self.workers))
        self._note_stall(before)


BACKENDS = {"own": OwnFile, "client": Client, "postgresql": Postgres}


async def chaos(
    figures: Figures,
    kills: int,
    seed: int,
    folder: Path,
    server: PostgresServer | None = None,
    progress: Callable[[Figures, str], None] = lambda figures, what: None,
) -> None:
    """Kill so often, noting what happens; FactViolated at the first thing that is not as it must be."""
    begun = time.monotonic()
    with ScriptedUpstream(keep=1) as upstream:
        upstream.default = lambda request: reply(answer(request.prompt), delay=DELAY)
        run = _run(figures, folder, upstream.url, random.Random(f"{figures.backend} {seed}"), server)
        try:
            while figures.kills < kills:
                what = await run.round()
                figures.seconds = time.monotonic() - begun
                progress(figures, what)
        finally:
            await run.end()
        await run.look()  # nobody is left
        await _check_by_command(run.url, folder)


def _run(figures: Figures, folder: Path, upstream: str, chance: random.Random, server: PostgresServer | None) -> Run:
    if server is not None:
        database = server.database()
        return Postgres(figures, folder, server.url(database), upstream, chance, server=server, database=database)
    return BACKENDS[figures.backend](figures, folder, str(folder / "store.duckdb"), upstream, chance)


async def _check_by_command(url: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workbench", "store", "check"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT), "WORKBENCH_STORE": url},
        cwd=folder,
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise FactViolated(f"`workbench store check` ends with {process.returncode}: {said.decode()}")
