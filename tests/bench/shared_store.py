"""What it costs that several processes share the store.

Three figures: a turn kept through the owner's socket against one kept in the owner's process; four processes that write
at once against four that open, write and close the file by turns; and the usage rows as a DataFrame in a client, as Arrow
against the same rows as JSON, which is what an HTTP interface of our own would have sent.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd

from tests.bench.append_turn import a_turn, statements_of, write
from workbench.ids import new_id
from workbench.store import Store
from workbench.turns import ChatInfo

ROWS = 1_000_000
JSON_ROWS = 100_000
"""As many take long enough; the time for all of them is reckoned from these."""
ROUNDS, TURNS = 8, 15
PROCESSES, SECONDS = 4, 6.0

WRITER = """
import asyncio, sys
from tests.bench.shared_store import {what}
done = {what}(sys.argv[1], float(sys.argv[2]))
if done: asyncio.run(done)
"""


async def share(path: str, seconds: float) -> None:
    """Keep turns with others for a while; print how many."""
    store = await Store.open(path)
    ready()
    until, turns = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        turn = a_turn(ChatInfo(id=new_id()))
        await store.begin(turn)
        await store.record(turn)
        turns += 1
    print(turns, flush=True)
    store.close()


def take_turns(path: str, seconds: float) -> None:
    """Open, write and close for each transaction, waiting for the file to be free; print how many turns were kept."""
    ready()
    until, turns = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        for transaction in asyncio.run(statements_of(a_turn(ChatInfo(id=new_id())))):
            while time.monotonic() < until:
                try:
                    with duckdb.connect(path) as connection:
                        write(connection, [transaction])
                except duckdb.IOException:
                    time.sleep(0.002)
                else:
                    turns += 0.5
                    break
    print(turns, flush=True)


def ready() -> None:
    """All begin at once, when all have imported what they need."""
    print("ready", flush=True)
    sys.stdin.readline()


def together(what: str, path: Path) -> float:
    """Return how many turns a second several processes keep in one file."""
    command = [sys.executable, "-c", WRITER.format(what=what), str(path), str(SECONDS)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(PROCESSES)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in processes) / SECONDS


async def append(store: Store) -> float:
    turn = a_turn(ChatInfo(id=new_id()))
    begun = time.perf_counter()
    await store.begin(turn)
    await store.record(turn)
    return time.perf_counter() - begun


OWNING = """
import asyncio, sys
from workbench.store import Store
store = asyncio.run(Store.open(sys.argv[1]))
print("open", flush=True)
sys.stdin.readline()
store.close()
"""


class Owner:
    """Another process that owns a store and does nothing else."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OWNING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        self._process.communicate("\n")


async def compare_appending(folder: Path) -> tuple[float, float]:
    """Return the medians in milliseconds: through the socket, in-process. They alternate, so that both share the load."""
    times: tuple[list[float], list[float]] = ([], [])
    with Owner(folder / "other.duckdb"):
        client, own = [await Store.open(str(folder / name)) for name in ("other.duckdb", "own.duckdb")]
        for _ in range(ROUNDS):
            times[0].extend([await append(client) for _ in range(TURNS)])
            times[1].extend([await append(own) for _ in range(TURNS)])
        client.close()
        own.close()
    through, within = (median(seconds) * 1000 for seconds in times)
    return through, within


FILL = """INSERT INTO usage
SELECT uuid()::TEXT, uuid()::TEXT, 'org', 'user', 'chat-' || i % 20000, uuid()::TEXT, 'ask', 'claude-sonnet-5-5', NULL, NULL,
    NULL, NULL, TIMESTAMPTZ '2026-01-01' + INTERVAL (i) SECOND, 400 + i % 90, 3000, 900, 500, 400, 0, 0, 300 + i % 50, 0, 0,
    'standard', NULL, NULL, 'end_turn', 'complete', NULL, false, 0.004140000 + i % 100, 'bench', NULL, 4, 0
FROM range({rows}) r(i)"""


async def compare_tables(folder: Path) -> tuple[float, float]:
    """Return the seconds it takes a client to have all usage rows as a DataFrame, by Arrow and by JSON.

    JSON is charged only with writing and reading its text, not with the rows' way from the file to the other process.
    """
    path = folder / "rows.duckdb"
    (await Store.open(str(path))).close()
    with duckdb.connect(path) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(FILL.format(rows=ROWS))
    with Owner(path):
        client = await Store.open(str(path))
        begun = time.perf_counter()
        frame = (await client.arrow("SELECT * FROM usage")).to_pandas()
        by_arrow = time.perf_counter() - begun
        assert len(frame) == ROWS
        columns = list(frame.columns)
        rows = await client.backend.rows("SELECT * FROM usage LIMIT $1", JSON_ROWS)
        client.close()
    begun = time.perf_counter()
    text = json.dumps([dict(zip(columns, row, strict=True)) for row in rows], default=str)
    pd.DataFrame(json.loads(text))
    by_json = (time.perf_counter() - begun) * ROWS / JSON_ROWS
    return by_arrow, by_json


def main() -> None:
    """Print three lines and their ratios."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        through, within = asyncio.run(compare_appending(folder))
        asyncio.run(Store.open(str(folder / "shared.duckdb"))).close()
        asyncio.run(Store.open(str(folder / "turns.duckdb"))).close()
        shared = together("share", folder / "shared.duckdb")
        by_turns = together("take_turns", folder / "turns.duckdb")
        by_arrow, by_json = asyncio.run(compare_tables(folder))
    print(f"append: {through:.1f} ms a turn through the socket, {within:.1f} ms in-process")
    print(f"ratio: through the socket {through / within:.2f} times as long (goal: at most 2)")
    print(f"{PROCESSES} processes: {shared:.0f} turns/s shared, {by_turns:.1f} turns/s by open-write-close")
    print(f"ratio: {shared / by_turns:.1f} times as many shared (goal: at least 10)")
    print(f"{ROWS:,} usage rows to pandas in a client: {by_arrow:.2f} s by Arrow, {by_json:.1f} s by JSON")
    print(f"ratio: {by_json / by_arrow:.1f} times as fast by Arrow (goal: at least 10)")


if __name__ == "__main__":
    main()
