"""How long the ledger takes to keep one turn: its beginning and its end, each a durable transaction.

Against two baselines that run the same statements: opening the file, writing and closing it for every turn, as programs do
that share a DuckDB file by taking turns; and the bare transactions on a connection that stays open, the floor.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import duckdb

from workbench.ids import new_id
from workbench.store import Store
from workbench.store.duckdb_file import without_conflict_clause
from workbench.turns import Answer, Caller, ChatInfo, LiveTurn, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.store.backend import Statement

ROUNDS = 10
TURNS = 10
"""In each round by our store and by the bare transactions; one by open-write-close, which is so much slower."""


class Paper:
    """A backend that notes what would be written."""

    tenants_version = ledger = None

    def __init__(self) -> None:
        self.transactions: list[Sequence[Statement]] = []

    async def write(self, statements: Sequence[Statement], *, since: int | None = None) -> None:
        self.transactions.append(statements)


def a_turn(chat: ChatInfo) -> LiveTurn:
    answer = Answer(
        usage=Usage(uncached_input_tokens=420, output_tokens=330),
        counted=True,
        started=True,
        stop_reason="end_turn",
        finished=True,
    )
    answer.open_block(0, {"type": "text", "text": "A reply of some length. " * 50})
    return LiveTurn(
        caller=Caller(),
        chat=chat,
        question="A question of some length? " * 10,
        model="claude-sonnet-5-5",
        max_tokens=4096,
        id=new_id(),
        request_id=new_id(),
        question_id=new_id(),
        message_id=new_id(),
        started_at=datetime.now(UTC),
        history_messages=0,
        left_out_messages=0,
        context_tokens=0,
        input_estimate=500,
        worst_case_usd=Decimal("0.05"),
        answer=answer,
        status="complete",
        cost_usd=Decimal("0.00414"),
        price_source="bench",
    )


async def statements_of(turn: LiveTurn) -> list[Sequence[Statement]]:
    paper = Paper()
    store = Store(paper)  # type: ignore[arg-type]
    await store.begin(turn)
    await store.record(turn)
    return paper.transactions[1:]  # the first makes sure that the org and the user have a row


def write(connection: duckdb.DuckDBPyConnection, transactions: list[Sequence[Statement]]) -> None:
    for transaction in transactions:
        connection.execute("BEGIN TRANSACTION")
        for sql, parameters in transaction:
            connection.execute(without_conflict_clause(sql), parameters)
        connection.execute("COMMIT")


async def ours(store: Store) -> float:
    turn = a_turn(ChatInfo(id=new_id()))
    begun = time.perf_counter()
    await store.begin(turn)
    await store.record(turn)
    return time.perf_counter() - begun


async def bare(connection: duckdb.DuckDBPyConnection) -> float:
    transactions = await statements_of(a_turn(ChatInfo(id=new_id())))
    begun = time.perf_counter()
    write(connection, transactions)
    return time.perf_counter() - begun


async def open_write_close(path: Path) -> float:
    transactions = await statements_of(a_turn(ChatInfo(id=new_id())))
    begun = time.perf_counter()
    with duckdb.connect(path) as connection:
        write(connection, transactions)
    return time.perf_counter() - begun


async def measure(folder: Path) -> tuple[float, float, float]:
    """Return the medians in milliseconds: ours, bare, open-write-close. They take turns, so that all share the load."""
    paths = [folder / name for name in ("ours.duckdb", "bare.duckdb", "reopened.duckdb")]
    for path in paths:
        (await Store.open(str(path))).close()
    times: tuple[list[float], list[float], list[float]] = ([], [], [])
    store = await Store.open(str(paths[0]))
    with duckdb.connect(paths[1]) as connection:
        for _ in range(ROUNDS):
            times[0].extend([await ours(store) for _ in range(TURNS)])
            times[1].extend([await bare(connection) for _ in range(TURNS)])
            times[2].append(await open_write_close(paths[2]))
    store.close()
    mine, floor, reopened = (median(seconds) * 1000 for seconds in times)
    return mine, floor, reopened


def main() -> None:
    """Print one line."""
    with TemporaryDirectory() as folder:
        mine, floor, reopened = asyncio.run(measure(Path(folder)))
    print(
        f"append_turn: {mine:.1f} ms a turn; open-write-close {reopened:.1f} ms ({reopened / mine:.1f} times as long), "
        f"bare DuckDB transactions {floor:.1f} ms (ours {mine / floor:.2f} times as long)"
    )


if __name__ == "__main__":
    main()
