"""Who did what, when, and what they were told: a line before it and a line after, which outlive the one who writes."""

from __future__ import annotations

import json
import os
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Entry = dict[str, Any]
"""``ended`` is there only when it was done, and with it what was told."""


class Diary:
    """What one of them writes down. Times are of the clock that all processes of a machine share."""

    def __init__(self, folder: Path, who: str) -> None:
        self.who = who
        self._file = os.open(folder / f"{who}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @contextmanager
    def entry(self, what: str, **facts: Any) -> Iterator[Entry]:
        """Note what is done in the block, which adds what it was told; what fails there is never said to have ended."""
        entry = {"id": str(uuid.uuid4()), "who": self.who, "what": what, "begun": time.monotonic(), **facts}
        self._write(entry)
        yield entry
        self._write(entry | {"ended": time.monotonic()})

    def _write(self, entry: Entry) -> None:
        os.write(self._file, json.dumps(entry).encode() + b"\n")  # not buffered: a kill loses nothing


def entries(folder: Path, who: str = "*") -> list[Entry]:
    """Return what was written down, the last that is known of each."""
    lines = [line for path in folder.glob(f"{who}.jsonl") for line in path.read_text().splitlines()]
    return list({entry["id"]: entry for entry in map(json.loads, lines)}.values())
