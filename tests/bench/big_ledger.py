"""How reading the ledger fares as it grows: the messages of one chat among 1e6, and sums over 1e6 calls.

Two figures: the messages of a chat out of a hundred times as many, by the query that every turn begins with; and what
``wb.usage(by=["day", "model"])`` asks, against the same sums over the same rows in SQLite.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import duckdb

from workbench.ledger.frames import usage_query
from workbench.store import Store
from workbench.turns import DEFAULT_ID, Caller

FEW, MANY = 10_000, 1_000_000
A_CHAT = 20
"""Messages of each chat: as many as are sent with a question. Chats go on side by side, which spreads them out."""
READINGS = 100
MODELS = ("claude-haiku-4-5", "claude-sonnet-5-5", "claude-opus-5")
SUMMINGS = 5

CHATS = """INSERT INTO chats (id, org_id, user_id, title, created_at, updated_at)
SELECT '019b0000-0000-7000-8000-' || printf('%012d', i), $1, $1, '', TIMESTAMPTZ '2026-01-01', TIMESTAMPTZ '2026-01-01'
FROM range($2) r(i)"""

MESSAGES = """INSERT INTO messages (id, chat_id, org_id, seq, role, content, blocks, status, created_at)
SELECT '019b0000-0000-7000-9000-' || printf('%012d', i), '019b0000-0000-7000-8000-' || printf('%012d', i % $2), $1,
    1 + i // $2, CASE WHEN i // $2 % 2 = 0 THEN 'user' ELSE 'assistant' END, repeat('word ' || i || ' ', 20),
    '[{"type":"text","text":"' || repeat('word ' || i || ' ', 20) || '"}]', 'complete',
    TIMESTAMPTZ '2026-01-01' + to_seconds(i)
FROM range($3) r(i)"""

USAGE = """INSERT INTO usage (id, request_id, org_id, user_id, chat_id, message_id, source, model, started_at, ttft_ms,
    duration_ms, input_tokens, uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    output_tokens, thinking_tokens, web_searches, service_tier, stop_reason, status, usage_estimated, cost_usd,
    price_source)
SELECT printf('019b0000-0000-7000-a000-%012d', i), printf('019b0000-0000-7000-b000-%012d', i), $1, $1,
    printf('019b0000-0000-7000-8000-%012d', i % 20000), printf('019b0000-0000-7000-9000-%012d', i), 'ask',
    CASE i % 3 WHEN 0 THEN '{0}' WHEN 1 THEN '{1}' ELSE '{2}' END, {started}, 400 + i % 90, 3000 + i % 1000,
    900 + i % 700, 400 + i % 700, 500, 0, 0, 300 + i % 50, 0, 0, 'standard', 'end_turn', 'complete', {false},
    0.00414 + i % 100, 'bench'
FROM {rows}"""
"""Of 90 days; in the words of DuckDB and of SQLite."""


def in_duckdb(path: Path, calls: int, messages: int) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(CHATS, [DEFAULT_ID, messages // A_CHAT])
        connection.execute(MESSAGES, [DEFAULT_ID, messages // A_CHAT, messages])
        started = "TIMESTAMPTZ '2026-01-01' + to_seconds(i * 7)"
        words = {"started": started, "false": "false", "rows": f"range({calls}) r(i)"}
        connection.execute(USAGE.format(*MODELS, **words), [DEFAULT_ID])


def in_sqlite(path: Path, columns: list[str]) -> None:
    """The same calls, with the index that this question asks for."""
    numbers = f"(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT {MANY}) SELECT i FROM n)"
    started = "strftime('%Y-%m-%d %H:%M:%S', 1767225600 + i * 7, 'unixepoch')"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE usage ({', '.join(columns)}, PRIMARY KEY (id))")
        connection.execute(USAGE.format(*MODELS, started=started, false="0", rows=numbers), [DEFAULT_ID])
        connection.execute("CREATE INDEX usage_started ON usage (org_id, started_at)")
        connection.execute("ANALYZE")
        connection.commit()


SUMS_IN_SQLITE = """SELECT substr(started_at, 1, 10), model, COUNT(*), SUM(input_tokens), SUM(uncached_input_tokens),
    SUM(cache_read_tokens), SUM(cache_write_5m_tokens + cache_write_1h_tokens), SUM(output_tokens), SUM(cost_usd),
    SUM(cost_usd IS NULL)
FROM usage WHERE org_id = ? GROUP BY 1, 2 ORDER BY 1, 2"""


async def compare_chats(small: Store, large: Store) -> tuple[float, float]:
    """Return the medians in milliseconds: a chat out of few messages, out of many. They alternate."""
    caller = Caller()
    times: tuple[list[float], list[float]] = ([], [])
    for n in range(READINGS):
        for store, rows, seconds in ((small, FEW, times[0]), (large, MANY, times[1])):
            chat_id = f"019b0000-0000-7000-8000-{n * 7919 % (rows // A_CHAT):012d}"
            begun = time.perf_counter()
            messages = await store.messages(caller, chat_id)
            seconds.append(time.perf_counter() - begun)
            assert len(messages) == A_CHAT
    few, many = (median(seconds) * 1000 for seconds in times)
    return few, many


async def compare_sums(store: Store, sqlite: Path) -> tuple[float, float]:
    """Return the medians in seconds: by our store, by SQLite. They alternate, so that both share the load."""
    sql, _ = usage_query(["day", "model"])
    times: tuple[list[float], list[float]] = ([], [])
    with closing(sqlite3.connect(sqlite)) as connection:
        for _ in range(SUMMINGS):
            begun = time.perf_counter()
            ours = (await store.arrow(sql, DEFAULT_ID, None, None, "")).to_pylist()
            times[0].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            theirs = connection.execute(SUMS_IN_SQLITE, [DEFAULT_ID]).fetchall()
            times[1].append(time.perf_counter() - begun)
            assert [(str(r["day"]), r["model"], r["calls"], r["input_tokens"]) for r in ours] == [r[:4] for r in theirs]
    mine, others = map(median, times)
    return mine, others


async def measure(folder: Path) -> None:
    paths = {rows: folder / f"{rows}.duckdb" for rows in (FEW, MANY)}
    for rows, path in paths.items():
        (await Store.open(str(path))).close()
        in_duckdb(path, rows, rows)
    small, large = [await Store.open(str(path)) for path in paths.values()]
    columns = (await large.arrow("SELECT * FROM usage LIMIT 0")).column_names
    in_sqlite(folder / "usage.sqlite", columns)
    few, many = await compare_chats(small, large)
    ours, theirs = await compare_sums(large, folder / "usage.sqlite")
    small.close()
    large.close()
    print(f"last {A_CHAT} messages of a chat: {few:.1f} ms out of {FEW:,}, {many:.1f} ms out of {MANY:,}")
    print(f"ratio: {many / few:.2f} times as long out of a hundred times as many (goal: under 3)")
    print(f"sums of {MANY:,} calls by day and model: {ours * 1000:.0f} ms, in SQLite {theirs * 1000:.0f} ms")
    print(f"ratio: {theirs / ours:.1f} times as fast (goal: at least 20)")


def main() -> None:
    """Print two figures with their ratios."""
    with TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    main()
