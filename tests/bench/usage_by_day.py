"""``wb.usage(by=["day", "model"])`` over ten million calls, against the bare query in DuckDB over the same file.

Twice: as one would write it, and the very SQL that ours runs, which finds the day without asking a calendar. Ours goes through the store's thread, Arrow and pandas, and has exact Decimals; the bare query fetches its rows as tuples.
Both run in this process, one after the other, since a file is open once.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import duckdb

import workbench as wb
from tests.bench.big_ledger import in_duckdb
from workbench.ledger.frames import usage_query
from workbench.runtime import close
from workbench.store import Store
from workbench.turns import DEFAULT_ID

ROWS = 10_000_000
TIMES = 5
BARE = """
SELECT CAST(started_at AS DATE) AS day, model, COUNT(*), SUM(input_tokens), SUM(uncached_input_tokens),
    SUM(cache_read_tokens), SUM(cache_write_5m_tokens + cache_write_1h_tokens), SUM(output_tokens), SUM(cost_usd),
    COUNT(*) FILTER (WHERE cost_usd IS NULL)
FROM usage
GROUP BY ALL
ORDER BY ALL"""


def bare(path: Path, sql: str, *parameters: object) -> tuple[float, list[tuple[object, ...]]]:
    """Return the median in seconds, and the rows."""
    seconds = []
    with duckdb.connect(path) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        for _ in range(1 + TIMES):
            begun = time.perf_counter()
            rows = connection.execute(sql, parameters).fetchall()
            seconds.append(time.perf_counter() - begun)
    return median(seconds[1:]), rows


def ours(path: Path) -> tuple[float, list[tuple[object, ...]]]:
    """Return the same of ours."""
    os.environ["WORKBENCH_STORE"] = str(path)
    seconds = []
    for _ in range(1 + TIMES):
        begun = time.perf_counter()
        frame = wb.usage(by=["day", "model"])
        seconds.append(time.perf_counter() - begun)
    close()
    frame["day"] = frame["day"].dt.date
    return median(seconds[1:]), list(frame.drop(columns="cost").itertuples(index=False, name=None))


def main() -> None:
    """Print both and their ratio."""
    with TemporaryDirectory() as name:
        path = Path(name) / "store.duckdb"
        asyncio.run(Store.open(str(path))).close()
        in_duckdb(path, ROWS, 20)
        written, expected = bare(path, BARE)
        same, _ = bare(path, usage_query(["day", "model"])[0], DEFAULT_ID, None, None, "")
        mine, rows = ours(path)
    assert [row[:9] for row in rows] == [row[:9] for row in expected]
    print(
        f"{ROWS:,} calls into {len(rows):,} days and models: {mine:.2f} s by wb.usage; in DuckDB {written:.2f} s as one would "
        f"write it, {same:.2f} s by our SQL"
    )
    print(f"ratio: {mine / written:.2f} times as long as one would write it (goal: under 1.5)")
    print(f"ratio: {mine / same:.2f} times as long as our SQL alone (goal: under 1.5)")


if __name__ == "__main__":
    main()
