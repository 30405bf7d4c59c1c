"""What says that a process is alive."""

from __future__ import annotations

import threading

from tests.faults.server import PATIENCE
from workbench.store.sessions import Heart


def test_a_heart_beats_on_whatever_a_beat_runs_into() -> None:
    beats, again = [], threading.Event()

    async def beat() -> None:
        beats.append(len(beats))
        if len(beats) == 1:
            raise OSError(24, "Too many open files")
        again.set()

    heart = Heart(beat)
    try:
        while not beats:
            heart.beat_now()
        heart.beat_now()
        assert again.wait(PATIENCE)
    finally:
        heart.stop()
