"""What it costs that several processes share the store.

Four figures: a turn kept through the owner's socket against one kept in the owner's process; four processes that write
at once against four that open, write and close the file by turns; the usage rows as a DataFrame in a client, as Arrow
against the same rows as JSON, which is what an HTTP interface of our own would have sent; and how much memory the owner
took for that.
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
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import duckdb
import pandas as pd

from tests.bench.append_turn import a_turn, statements_of, write
from workbench.ids import new_id
from workbench.store import Store
from workbench.turns import ChatInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.store.backend import Statement

ROWS = 1_000_000
JSON_ROWS = 100_000
"""As many take long enough; the time for all of them is reckoned from these."""
ROUNDS, TURNS = 8, 15
READINGS = 3
PROCESSES, CONTESTS, SECONDS = 4, 5, 2.0

WRITER = """
import asyncio, sys
from tests.bench.shared_store import {what}
asyncio.run({what}(sys.argv[1], float(sys.argv[2])))
"""


async def share(path: str, seconds: float) -> None:
    """Keep turns with others, as long as told each time; print how many."""
    store = await Store.open(path)
    while told():
        until, turns = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            turn = a_turn(ChatInfo(id=new_id()))
            await store.begin(turn)
            await store.record(turn)
            turns += 1
        print(turns, flush=True)
    store.close()


async def take_turns(path: str, seconds: float) -> None:
    """Open, write and close for each transaction, waiting for the file to be free; print how many turns were kept."""
    while told():
        until, turns = time.monotonic() + seconds, 0.0
        while time.monotonic() < until:
            for transaction in await statements_of(a_turn(ChatInfo(id=new_id()))):
                turns += 0.5 * once_free(path, transaction, until)
        print(turns, flush=True)


def once_free(path: str, transaction: Sequence[Statement], until: float) -> bool:
    """Whether the transaction was written in time."""
    while time.monotonic() < until:
        try:
            with duckdb.connect(path) as connection:
                write(connection, [transaction])
        except duckdb.IOException:
            time.sleep(0.002)
        else:
            return True
    return False


def told() -> bool:
    """All begin at once, when all have imported what they need; whether to begin once more."""
    print("ready", flush=True)
    return bool(sys.stdin.readline())


class Writers:
    """Several processes that write to one file when told to."""

    def __init__(self, what: str, path: Path) -> None:
        asyncio.run(Store.open(str(path))).close()
        command = [sys.executable, "-c", WRITER.format(what=what), str(path), str(SECONDS)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._processes = [subprocess.Popen(command, **pipes) for _ in range(PROCESSES)]
        self._answers()

    def contest(self) -> float:
        """Return how many turns a second they keep, all of them together."""
        for process in self._processes:
            process.stdin.write("\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        turns = sum(map(float, self._answers()))
        self._answers()
        return turns / SECONDS

    def end(self) -> None:
        for process in self._processes:
            process.communicate()

    def _answers(self) -> list[str]:
        return [process.stdout.readline() for process in self._processes]  # type: ignore[union-attr]


def compare_writing(folder: Path) -> tuple[float, float]:
    """Return the medians in turns a second: shared, by open-write-close. They alternate, so that both share the load."""
    both = [Writers("share", folder / "shared.duckdb"), Writers("take_turns", folder / "turns.duckdb")]
    rounds = [[writers.contest() for writers in both] for _ in range(CONTESTS)]
    for writers in both:
        writers.end()
    shared, by_turns = (median(turns) for turns in zip(*rounds, strict=True))
    return shared, by_turns


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

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def peak(self) -> float:
        """The most memory it has had so far, in MB; of Linux only."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

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
    'standard', NULL, NULL, 'end_turn', 'complete', NULL, false, 0.004140000 + i % 100, 'bench', NULL, 4, 0, NULL
FROM range({rows}) r(i)"""


class Tables(NamedTuple):
    """What it took a client to have all usage rows as a DataFrame."""

    by_arrow: float  # seconds
    by_json: float
    size: float  # MB
    growth: list[float]
    """By how many MB the owner's peak had grown after each reading."""


async def compare_tables(folder: Path) -> Tables:
    """Read the usage rows several times by Arrow, and reckon JSON.

    JSON is charged only with writing and reading its text, not with the rows' way from the file to the other process.
    """
    path = folder / "rows.duckdb"
    (await Store.open(str(path))).close()
    with duckdb.connect(path) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(FILL.format(rows=ROWS))
    with Owner(path) as owner:
        before, seconds, growth = owner.peak(), [], []
        client = await Store.open(str(path))
        for _ in range(READINGS):
            begun = time.perf_counter()
            table = await client.arrow("SELECT * FROM usage")
            frame = table.to_pandas()
            seconds.append(time.perf_counter() - begun)
            growth.append(owner.peak() - before)
            assert len(frame) == ROWS
        rows = await client.backend.rows("SELECT * FROM usage LIMIT $1", JSON_ROWS)
        client.close()
    begun = time.perf_counter()
    text = json.dumps([dict(zip(table.column_names, row, strict=True)) for row in rows], default=str)
    pd.DataFrame(json.loads(text))
    by_json = (time.perf_counter() - begun) * ROWS / JSON_ROWS
    return Tables(median(seconds), by_json, table.nbytes / 2**20, growth)


def main() -> None:
    """Print four figures with their ratios."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        through, within = asyncio.run(compare_appending(folder))
        shared, by_turns = compare_writing(folder)
        tables = asyncio.run(compare_tables(folder))
    grown = ", ".join(f"{growth:.0f}" for growth in tables.growth)
    print(f"append: {through:.1f} ms a turn through the socket, {within:.1f} ms in-process")
    print(f"ratio: through the socket {through / within:.2f} times as long (goal: at most 2)")
    print(f"{PROCESSES} processes: {shared:.0f} turns/s shared, {by_turns:.1f} turns/s by open-write-close")
    print(f"ratio: {shared / by_turns:.1f} times as many shared (goal: at least 10)")
    print(
        f"{ROWS:,} usage rows to pandas in a client: {tables.by_arrow:.2f} s by Arrow, {tables.by_json:.1f} s by JSON"
    )
    print(f"ratio: {tables.by_json / tables.by_arrow:.1f} times as fast by Arrow (goal: at least 10)")
    print(f"peak memory of the owner: {grown} MB more after 1, 2, 3 readings of these {tables.size:.0f} MB")
    print(f"ratio: {tables.growth[-1] / tables.size:.2f} of the table (goal: under 1, and no more with each reading)")


if __name__ == "__main__":
    main()
