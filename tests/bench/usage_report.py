"""A million calls read from the server by `GET /usage`: seconds, and the memory that takes in the server.

The memory of a first reading includes what DuckDB keeps of the file in its cache; of a second one, only what the answer
itself needs.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb
import httpx2
import psutil

from tests.bench.shared_store import FILL, ROWS
from tests.server.process import ServerProcess
from workbench.store import Store


class Reading(NamedTuple):
    """One answer read to its end; sizes in MB."""

    size: float
    first: float
    seconds: float
    grown: float


def read(server: ServerProcess, form: str) -> Reading:
    """Read one report, watching the memory of the server."""
    memory = psutil.Process(server.process.pid).memory_info
    before = peak = memory().rss
    size, first = 0, 0.0
    begun = time.perf_counter()
    with server.client.stream("GET", "/usage", params={"format": form}, headers={"x-org-id": "org"}) as answer:
        for piece in answer.iter_raw():
            first = first or time.perf_counter() - begun
            size += len(piece)
            peak = max(peak, memory().rss)
    assert isinstance(answer, httpx2.Response) and answer.status_code == 200
    return Reading(size / 1e6, first, time.perf_counter() - begun, (peak - before) / 1e6)


def main() -> None:
    """Print a line for each format, then the ratios."""
    with TemporaryDirectory() as name:
        path = Path(name) / "store.duckdb"
        asyncio.run(Store.open(str(path))).close()
        with duckdb.connect(path) as connection:
            connection.execute("SET enable_progress_bar = false")
            connection.execute(FILL.format(rows=ROWS))
        with ServerProcess(path, ANTHROPIC_API_KEY="none", ANTHROPIC_BASE_URL="http://127.0.0.1:9") as server:
            first = read(server, "arrow")
            again = {form: read(server, form) for form in ("arrow", "csv", "json")}
    print(f"{ROWS:,} calls, arrow, first reading: {first.size:.0f} MB, the server grew by {first.grown:.0f} MB")
    for form, reading in again.items():
        print(
            f"{form}: {reading.size:.0f} MB in {reading.seconds:.1f} s, the first bytes after {reading.first:.2f} s, "
            f"the server grew by {reading.grown:.0f} MB"
        )
    arrow, as_json = again["arrow"], again["json"]
    print(f"ratio: arrow {as_json.seconds / arrow.seconds:.1f} times as fast as json")
    print(f"ratio: the server grew by {arrow.grown / arrow.size:.2f} of the answer's size (goal: at most 0.25)")


if __name__ == "__main__":
    main()
