"""Which processes have a store open, and which of them are still alive."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.store.place import program

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = logging.getLogger("workbench.store")

BEAT_SECONDS = 20.0
SILENCE = timedelta(seconds=60)
"""After this a session of another machine is taken for dead."""

_here: set[str] = set()
"""The sessions of this process that have not ended."""


class Session:
    """The part of this process that has a store open."""

    def __init__(self, id: str) -> None:
        self.id = id
        _here.add(id)

    def row(self) -> tuple[Any, ...]:
        """The parameters of ``beat.sql``."""
        pid = os.getpid()
        started = process_started(pid) if os.name == "posix" else ""
        return (self.id, pid, host(), program(), started, datetime.now(UTC))

    def end(self) -> None:
        """Turns that are still open were not recorded and will not be."""
        _here.discard(self.id)


class Known(NamedTuple):
    """A session as the store knows it."""

    id: str
    pid: int
    host: str
    process_started: str
    heartbeat_at: datetime

    def alive(self) -> bool:
        """Whether its process may still be at work."""
        if self.host != host() or os.name != "posix":  # Windows has no harmless way to ask
            return datetime.now(UTC) - self.heartbeat_at < SILENCE
        started = process_started(self.pid)
        if started is None or (self.process_started and started and started != self.process_started):
            return False
        return self.pid != os.getpid() or self.id in _here


@cache
def host() -> str:
    """Return this machine, and within it the container if there is one: PIDs mean nothing outside."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def process_started(pid: int) -> str | None:
    """When a process started, in a form of the system's own; '' if the system does not say, None if there is none."""
    with suppress(OSError, IndexError):  # no such process, or no such files in this system, or they are hidden
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # a process that has ended and that nobody has asked for its exit code is still listed
        return None if after_name[0] in "ZX" else f"{boot} {after_name[19]}"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # it is another user's
        return ""
    return ""


class Heart:
    """Calls a coroutine now and then, on a thread of its own: a notebook's loop may stand still."""

    def __init__(self, beat: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._beat = beat
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="workbench-store-heart", daemon=True)
        self._thread.start()

    def beat_now(self) -> None:
        """Beat without waiting for the next turn."""
        self._wake.set()

    def stop(self) -> None:
        """Beat no more."""
        self._stopped = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait(BEAT_SECONDS)
            self._wake.clear()
            if self._stopped:
                return
            try:
                asyncio.run(self._beat())
            except Exception as error:  # noqa: BLE001  # whatever it is: who beats no more is soon taken for dead
                kind = getattr(error, "type", type(error).__name__)
                log.warning("The store could not be looked after; it is tried again", extra={"error": kind})
