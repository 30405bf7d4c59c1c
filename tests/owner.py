"""A process that owns store files for the tests, so that whoever else opens them is its client."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.store import Store

ROOT = Path(__file__).parents[1]


class OwnerProcess:
    """Owns any number of files at once."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.owner"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def open(self, path: str) -> None:
        self._ask(f"open {path}")

    def close(self, path: str) -> None:
        self._ask(f"close {path}")

    def end(self) -> None:
        with self._process as process:
            assert process.stdin
            process.stdin.close()
        assert process.returncode == 0

    def _ask(self, command: str) -> None:
        assert self._process.stdin
        assert self._process.stdout
        print(command, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n", command


async def main() -> None:
    """Do what is asked for on standard input, until that ends."""
    from workbench.store import Store

    owned: dict[str, Store] = {}
    for line in sys.stdin:
        command, path = line.rstrip("\n").split(" ", 1)
        if command == "open":
            owned[path] = await Store.open(path)
        else:
            owned.pop(path).close()
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
