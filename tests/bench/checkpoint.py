"""What it costs to write the journal into the file, while all queries wait: seconds and memory, a hundred messages at a time.

Against the same ledger in the form of files that DuckDB 1.5 can read, which is what a file has that an older workbench
began.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Self

import duckdb
import psutil

from tests.bench.big_ledger import in_duckdb
from workbench.store import Store
from workbench.store.duckdb_file import CONFIG

MESSAGES, NEW, ROUNDS = 100_000, 100, 5
OLDER = "v1.5.0"
WRITE = """INSERT INTO messages (id, chat_id, org_id, seq, role, content, blocks, status, created_at)
SELECT concat($1, '-', i), 'c', 'o', i, 'user', repeat('word ', 200), '[]', 'complete', now() FROM range($2) r(i)"""


class Peak:
    """The most memory this process has in the block beyond what it had before, in MB."""

    def __enter__(self) -> Self:
        self._process, self._done = psutil.Process(), threading.Event()
        self._before = self._most = self._process.memory_info().rss
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self._most = max(self._most, self._process.memory_info().rss)

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._watcher.join()
        self.mb = (self._most - self._before) / 1e6


def measure(path: Path) -> tuple[float, float]:
    """The median of the seconds, and the most MB."""
    seconds, most = [], 0.0
    with duckdb.connect(path) as connection:
        connection.execute("SET wal_autocheckpoint = '1TB'")
        for n in range(ROUNDS):
            connection.execute(WRITE, [str(n), NEW])
            with Peak() as peak:
                begun = time.perf_counter()
                connection.execute("CHECKPOINT")
                seconds.append(time.perf_counter() - begun)
            most = max(most, peak.mb)
    return median(seconds), most


def main() -> None:
    """Print a line for each form."""
    with TemporaryDirectory() as folder:
        ours, older = Path(folder) / "ours.duckdb", Path(folder) / "older.duckdb"
        asyncio.run(Store.open(str(ours))).close()
        in_duckdb(ours, 1, MESSAGES)
        with duckdb.connect(ours) as connection:
            connection.execute(f"ATTACH '{older}' AS older (STORAGE_VERSION '{OLDER}')")
            connection.execute("COPY FROM DATABASE ours TO older")
        measured = {
            version: measure(path)
            for version, path in ((OLDER, older), (CONFIG["storage_compatibility_version"], ours))
        }
    for version, (seconds, mb) in measured.items():
        print(
            f"checkpoint of {NEW} messages beside {MESSAGES:,}, {version}: {seconds * 1000:.0f} ms, {mb:.0f} MB at most"
        )
    print(f"checkpoint: {measured[OLDER][0] / seconds:.0f} times as fast as in the older form")


if __name__ == "__main__":
    main()
