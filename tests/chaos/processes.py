"""Processes to be killed, and what they said before."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections import Counter
from typing import TYPE_CHECKING

from .facts import FactViolated, Told

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from multiprocessing.connection import Connection
    from pathlib import Path
    from typing import Any

PATIENCE = 60.0
"""Seconds for what takes a fraction of one on an idle machine."""
CONTEXT = multiprocessing.get_context("forkserver")
"""Forks from a process without threads or open stores that has done all importing."""
CONTEXT.set_forkserver_preload(["tests.chaos.worker"])


class Worker:
    """One process; it works at once."""

    def __init__(self, url: str, upstream: str, seed: float, log: Path, told: Told) -> None:
        self.log = log
        self.session = ""
        self.said: Counter[str] = Counter()
        self.open: set[str] = set()
        """Turns that it began and did not acknowledge."""
        self.pulses: list[float] = []
        self._told = told
        self._news = asyncio.Event()
        ears, mouth = CONTEXT.Pipe(duplex=False)
        theirs, self._life = CONTEXT.Pipe(duplex=False)
        log.touch()
        arguments = (url, upstream, seed, mouth, theirs, os.fspath(log))
        self.process = CONTEXT.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        mouth.close()
        theirs.close()
        self._listening = asyncio.create_task(self._listen(ears))

    async def until(self, what: str, true: Callable[[], bool]) -> None:
        """Wait for something; FactViolated if it does not come."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not true():
                    if self._listening.done():
                        raise FactViolated(f"a process went away by itself while it should {what}; {self._complaint()}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise FactViolated(
                f"a process did not {what} within {PATIENCE:.0f} s; it said {dict(self.said)}; {self._complaint()}"
            ) from None

    async def goes_on(self) -> None:
        """Wait until it has acknowledged more turns, and until no write is under way that was when this was called."""
        kept, pulses = self.said["kept"], self.said["pulse"]
        await self.until("go on", lambda: self.said["kept"] > kept + 1 and self.said["pulse"] > pulses + 1)

    async def end(self) -> None:
        """Kill it, and hear what it had said by then."""
        self.process.kill()
        await asyncio.to_thread(self.process.join)
        await self._listening
        self.process.close()
        self._life.close()
        if self.log.stat().st_size and "Traceback" in self.log.read_text():
            raise FactViolated(f"a process failed; {self._complaint()}")

    async def _listen(self, ears: Connection) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), ears
        )
        async for line in reader:
            if line.endswith(b"\n"):
                self._hear(*line.decode().split())
                self._news.set()
        transport.close()
        self._news.set()

    def _hear(self, word: str, subject: str, value: str = "") -> None:
        self.said[word] += 1
        match word:
            case "session":
                self.session = subject
            case "pulse":
                self.pulses.append(float(subject))
            case _:
                self._hear_of_turn(word, subject, value)

    def _hear_of_turn(self, word: str, turn: str, value: str) -> None:
        self._told.step[turn] = word
        match word:
            case "begin":
                self.open.add(turn)
            case "saved":
                self._told.saved[turn] = int(value)
            case "kept":
                self._told.kept[turn] = value
                self.open.discard(turn)

    def _complaint(self) -> str:
        lines = [line for line in self.log.read_text().splitlines() if line.strip(" +-|")]
        return f"its log ends: {lines[-1]}" if lines else "its log is empty"


def _work(*arguments: Any) -> None:
    from .worker import work  # needed there alone

    work(*arguments)


async def end(workers: Collection[Worker]) -> None:
    """Kill them all at once."""
    failures = await asyncio.gather(*(worker.end() for worker in workers), return_exceptions=True)
    for failure in filter(None, failures):  # once all of them have ended
        raise failure
