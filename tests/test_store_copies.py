"""What is taken out of a store, on every backend: rows as Parquet, and all of it into another store."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.test_store import EVE, NOON, a_chat, a_turn, keep, two_turns
from workbench.errors import StoreError
from workbench.store import Store, bulk, copies
from workbench.store.backend import Statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from workbench.store.backend import Backend, Row


async def everything(backend: Backend) -> dict[str, list[str]]:
    """All rows by table; each backend has a UTC of its own."""

    def same(row: Row) -> list[Any]:
        return [value.astimezone(UTC) if isinstance(value, datetime) else value for value in row]

    tables = [table.name for table in await copies.tables(backend)]
    return {name: sorted(str(same(row)) for row in await backend.rows(f"SELECT * FROM {name}")) for name in tables}


async def unsettle(store: Store) -> None:
    """Break a rule."""
    await store.backend.write([Statement("UPDATE usage SET input_tokens = 99")])


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("store.duckdb"))


async def filled(store: Store) -> None:
    await two_turns(store)
    chat = await two_turns(store, EVE)
    await store.fork(EVE, chat, 2)
    await keep(store, a_turn(a_chat(), text='"quoted", \\ and ünïcode 🙂', status="failed", cost_usd=None))
    await store.begin(a_turn(a_chat()))
    await store.backend.write(
        [
            Statement(
                "INSERT INTO experiments (org_id, name, prompt_name, arms, outcome, salt, started_at, guard, coverage) "
                "VALUES ('evil', 't', 'p', '{\"a\": 0.5}', 'cost', 's', $1, '{\"errors\": 0.1}', 0.5)",
                (NOON,),
            ),
            Statement("UPDATE orgs SET budget_usd = 12.5, rate_per_minute = 0.1, retain_days = 3 WHERE id = 'evil'"),
        ]
    )


# Export -------------------------------------------------------------------------------------------------------------


async def three_days(store: Store) -> None:
    for days in (0, 1, 1, 3):
        await keep(store, a_turn(a_chat(), started_at=NOON + timedelta(days=days)))


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


async def test_an_export_has_a_file_for_every_day_with_rows(store: Store, tmp_path: Path) -> None:
    await three_days(store)

    assert await copies.export(store.backend, tmp_path / "out") == {"usage": 4, "messages": 8}
    assert files(tmp_path / "out") == [
        f"{table}/day=2026-11-{day}/part-0.parquet" for table in ("messages", "usage") for day in (24, 25, 27)
    ]
    assert left(tmp_path) == ["out"]


async def test_an_export_has_every_column_and_exact_amounts(store: Store, tmp_path: Path) -> None:
    await two_turns(store)
    await copies.export(store.backend, tmp_path / "out")

    usage = pq.read_table(tmp_path / "out" / "usage", partitioning=None)
    messages = pq.read_table(tmp_path / "out" / "messages", partitioning=None)
    for name, table in (("usage", usage), ("messages", messages)):
        columns = await store.backend.rows(
            "SELECT column_name FROM information_schema.columns WHERE table_name = $1", name
        )
        assert set(table.column_names) == {column for (column,) in columns}
    assert sorted(map(str, usage["cost_usd"].to_pylist())) == ["0.000070000", "0.000116000"]
    assert usage["started_at"].to_pylist() == [NOON, NOON]
    assert sorted(messages["content"].to_pylist()) == ["Fine", "Hello", "and you?", "hi"]


async def test_duckdb_reads_an_export_by_its_days(store: Store, tmp_path: Path) -> None:
    await three_days(store)
    await copies.export(store.backend, tmp_path / "out")

    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT day, COUNT(*) FROM read_parquet('{tmp_path}/out/usage/*/*.parquet') GROUP BY day ORDER BY day"
        ).fetchall()
    assert [(f"{day:%m-%d}", calls) for day, calls in found] == [("11-24", 1), ("11-25", 2), ("11-27", 1)]


@pytest.mark.parametrize(
    ("since", "until", "calls"),
    [
        (NOON, NOON + timedelta(days=1), 1),
        (NOON + timedelta(seconds=1), None, 3),
        (None, NOON + timedelta(days=3), 3),
        (NOON + timedelta(days=2), NOON + timedelta(days=2, hours=1), 0),
    ],
)
async def test_an_export_keeps_to_its_time(
    store: Store, tmp_path: Path, since: datetime | None, until: datetime | None, calls: int
) -> None:
    await three_days(store)

    assert await copies.export(store.backend, tmp_path / "out", since, until) == {"usage": calls, "messages": 2 * calls}
    assert bool(files(tmp_path / "out")) == bool(calls)


async def test_an_export_in_batches_is_the_same_and_says_how_far_it_is(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "BATCH", 2)
    for _ in range(5):
        await keep(store, a_turn(a_chat()))
    told: list[tuple[str, int, int]] = []

    await copies.export(store.backend, tmp_path / "out", progress=lambda *how_far: told.append(how_far))

    assert told[:3] == [("usage", 2, 5), ("usage", 4, 5), ("usage", 5, 5)]
    ids = pq.read_table(tmp_path / "out" / "usage", partitioning=None)["id"].to_pylist()
    assert sorted(ids) == [id for (id,) in await store.backend.rows("SELECT id FROM usage ORDER BY id")]


async def test_a_stopped_export_leaves_nothing(store: Store, tmp_path: Path) -> None:
    await three_days(store)

    def stop(table: str, done: int, total: int) -> None:
        if table == "messages":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await copies.export(store.backend, tmp_path / "out", progress=stop)
    assert left(tmp_path) == []


async def test_an_export_overwrites_nothing_but_takes_an_empty_folder(store: Store, tmp_path: Path) -> None:
    await three_days(store)
    (tmp_path / "out").mkdir()
    await copies.export(store.backend, tmp_path / "out")
    before = files(tmp_path / "out")

    with pytest.raises(StoreError, match="out exists already"):
        await copies.export(store.backend, tmp_path / "out")
    assert files(tmp_path / "out") == before


# From store to store ------------------------------------------------------------------------------------------------


@pytest.fixture
async def target(tmp_path: Path, empty: Path) -> AsyncIterator[Store]:
    shutil.copy(empty, tmp_path / "target.duckdb")
    other = await Store.open(str(tmp_path / "target.duckdb"))
    yield other
    other.close()


async def test_a_copy_is_the_same_to_the_last_row(store: Store, target: Store) -> None:
    await filled(store)

    counts = await copies.copy(store.backend, target.backend)

    assert await everything(target.backend) == await everything(store.backend)
    assert (counts["usage"], counts["messages"], counts["holds"], counts["feedback"]) == (5, 14, 6, 0)


async def test_every_table_but_that_of_the_schema_is_copied(store: Store) -> None:
    named = await store.backend.rows(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
    )
    assert {table.name for table in await copies.tables(store.backend)} | {"schema_version", "sessions"} == {
        n for (n,) in named
    }


async def test_a_copy_in_many_pages_is_the_same(store: Store, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MOST_VALUES", 80)
    for _ in range(6):
        await two_turns(store)
    told: list[tuple[str, int, int]] = []

    await copies.copy(store.backend, target.backend, lambda *how_far: told.append(how_far))

    assert await everything(target.backend) == await everything(store.backend)
    assert [done for name, done, _ in told if name == "usage"] == [2, 4, 6, 8, 10, 12]


async def test_a_stopped_copy_goes_on_and_takes_what_changed_meanwhile(
    store: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "MOST_VALUES", 80)
    await filled(store)
    turn = a_turn(a_chat())
    await store.begin(turn)

    def stop(table: str, done: int, total: int) -> None:
        if table == "messages" and done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await copies.copy(store.backend, target.backend, stop)
    await store.record(turn)
    await copies.copy(store.backend, target.backend)

    assert await everything(target.backend) == await everything(store.backend)


async def test_a_copy_that_lacks_rows_is_an_error(store: Store, target: Store) -> None:
    await two_turns(store)
    await two_turns(target)

    with pytest.raises(StoreError, match="the copy of chats is not complete: 1 rows there, 2 rows here"):
        await copies.copy(store.backend, target.backend)


async def test_a_copy_whose_sums_differ_is_an_error(store: Store, target: Store) -> None:
    await two_turns(store)
    await copies.copy(store.backend, target.backend)
    await unsettle(store)
    with pytest.raises(StoreError, match=r"2 rows, 198 input tokens, 12 output tokens, 0\.000186000 US dollars there"):
        await copies._same(store.backend, target.backend, "usage")


# Rows from elsewhere ------------------------------------------------------------------------------------------------


async def test_rows_are_added_once(store: Store) -> None:
    new = [{"id": f"org-{n}", "created_at": NOON, "budget_usd": Decimal("0.5")} for n in range(3)]
    users = [{"org_id": "org-1", "id": "o'hara 🙂", "created_at": NOON}]

    assert await bulk.add(store.backend, {"orgs": [*new[:2], new[0]], "users": []}) == {"orgs": 2, "users": 0}
    assert await bulk.add(store.backend, {"orgs": [new[1] | {"budget_usd": None}, new[2]], "users": users}) == {
        "orgs": 1,
        "users": 1,
    }
    rows = "SELECT id, budget_usd FROM orgs WHERE id LIKE 'org-%' ORDER BY id"
    assert [(id, float(usd)) for id, usd in await store.backend.rows(rows)] == [(f"org-{n}", 0.5) for n in range(3)]
    assert await store.backend.rows("SELECT id FROM users WHERE org_id = 'org-1'") == [("o'hara 🙂",)]


async def test_rows_are_added_all_or_none(store: Store) -> None:
    chat = {"id": "c", "org_id": "o", "user_id": "u", "title": None, "created_at": NOON, "updated_at": NOON}
    with pytest.raises(StoreError):
        await bulk.add(store.backend, {"orgs": [{"id": "o", "created_at": NOON}], "chats": [chat]})
    assert await store.backend.rows("SELECT id FROM orgs WHERE id = 'o'") == []
