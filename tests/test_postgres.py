"""The store in PostgreSQL: what differs from a file. What holds for both is in test_store.py."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import tempfile
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import psycopg
import pyarrow as pa
import pytest

import workbench as wb
from tests.faults.upstream import reply
from tests.server.live import LiveServer
from tests.test_shared_store import LIVE
from tests.test_store import (
    ADA,
    ENDLESS,
    FORGOTTEN,
    LOOP_CLOSED_WHILE_WRITING,
    NOON,
    RECORDED_AT_EXIT,
    a_chat,
    a_turn,
    child,
    keep,
    outcome,
    still_works,
    two_turns,
)
from workbench import runtime
from workbench.errors import ConfigurationError, InvalidRequest, StoreBusy, StoreError
from workbench.ledger import frames
from workbench.store import Store, analyst, copies, postgres_analyst
from workbench.store import postgres as backend
from workbench.store.migrations import MIGRATIONS
from workbench.store.migrations import number as version_of
from workbench.store.postgres_types import portable
from workbench.store.queries import query
from workbench.turns import DEFAULT_ID, ChatInfo, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream
    from tests.postgres import PostgresServer

SECRET = "s3cret"


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = await Store.open(postgres_url)
    yield store
    store.close()


@pytest.fixture
def fresh(postgres: PostgresServer) -> Iterator[str]:
    """A database without tables."""
    name = postgres.database()
    yield name
    postgres.drop(name)


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(sql).fetchall()  # type: ignore[arg-type]


# The same as in a file ----------------------------------------------------------------------------------------------


async def fill(store: Store) -> None:
    """The same rows for every store: three calls at three times, one of them of unknown cost."""
    chat = a_chat()
    for number, cost in enumerate([Decimal("0.00007"), None, Decimal("1234567.000000001")]):
        turn = a_turn(chat, id=f"u{number}", request_id="r", message_id=f"m{number}", question_id=f"q{number}")
        turn.started_at, turn.cost_usd = NOON + timedelta(days=3 * number, microseconds=number), cost
        turn.answer.usage = Usage(uncached_input_tokens=10**number, cache_read_tokens=number, output_tokens=5)
        turn.chat.id, turn.ttft_ms = "c", 100 if number else None
        await keep(store, turn)


GROUPINGS = [["hour"], ["day", "model"], ["week"], ["month", "status"], ["prompt_version"], ["error_type", "user_id"]]


@pytest.mark.parametrize("sql", [frames.usage_query(by)[0] for by in ([], *GROUPINGS)])
@pytest.mark.parametrize("since", [None, NOON + timedelta(days=1), NOON + timedelta(days=100)])
async def test_usage_is_the_same_frame_as_from_a_file(store: Store, sql: str, since: datetime | None) -> None:
    with closing(await Store.open(":memory:")) as file:
        both = [store, file]
        for one in both:
            await fill(one)
        tables = [await one.arrow(sql, DEFAULT_ID, since, None, "") for one in both]

    here, there = map(frames.frame_of, tables)
    pd.testing.assert_frame_equal(here, there)
    # DuckDB's day of a timestamp and PostgreSQL's have the same type; so has all else
    assert [field.type for field in tables[0].schema] == [field.type for field in tables[1].schema]


@pytest.mark.parametrize("until", [None, NOON + timedelta(days=5)])
async def test_usage_is_read_in_slices_as_from_a_file(store: Store, until: datetime | None) -> None:
    with closing(await Store.open(":memory:")) as file:
        for one in (store, file):
            await fill(one)
        here, there = [await one.backend.rows(query("usage_cuts"), DEFAULT_ID, None, until, 1) for one in (store, file)]

    assert here == there
    assert len(here) == (2 if until else 3)


async def test_chats_are_the_same_frame_as_from_a_file(store: Store) -> None:
    with closing(await Store.open(":memory:")) as file:
        for one in (store, file):
            await fill(one)
        here, there = [frames.frame_of(await one.chats(ADA)) for one in (store, file)]

    pd.testing.assert_frame_equal(here, there)


async def test_chats_of_one_moment_come_once_page_by_page(store: Store) -> None:
    for _ in range(5):
        turn = a_turn(a_chat())
        turn.started_at = NOON
        await keep(store, turn)
    found, after = [], None
    while rows := (await store.chats(ADA, limit=2, after=after)).to_pylist():
        found += [row["chat_id"] for row in rows]
        after = (rows[-1]["updated_at"], found[-1])

    assert found == sorted(found, reverse=True)
    assert len(found) == len({*found}) == 5


async def test_rows_are_of_the_same_python_types_as_from_a_file(store: Store) -> None:
    with closing(await Store.open(":memory:")) as file:
        for one in (store, file):
            await fill(one)
        chosen = """SELECT m.id, m.seq, m.content, m.blocks, m.token_count, u.usage_estimated, u.cost_usd, u.ttft_ms
            FROM messages m JOIN usage u ON u.message_id = m.id ORDER BY m.id"""
        here, there = [await one.backend.rows(chosen) for one in (store, file)]
        ((time,),) = await store.backend.rows("SELECT MIN(started_at) FROM usage")

    assert here == there
    assert [list(map(type, row)) for row in here] == [list(map(type, row)) for row in there]
    assert (time, time.utcoffset()) == (NOON, timedelta())


@pytest.mark.parametrize(
    ("expression", "kind", "value"),
    [
        ("SUM(x) FROM (VALUES (CAST(1 AS BIGINT)), (2)) v(x)", pa.int64(), 3),
        ("CAST('1.50' AS NUMERIC(5, 2))", pa.decimal128(5, 2), Decimal("1.50")),
        ("CAST('0.000000001' AS NUMERIC)", pa.decimal128(38, 9), Decimal("1e-9")),
        ("CAST('99999999999999999999' AS NUMERIC)", pa.decimal128(38, 0), Decimal(99999999999999999999)),
        ("CAST('1e50' AS NUMERIC)", pa.float64(), 1e50),
        ("CAST(NULL AS NUMERIC)", pa.int64(), None),
        ("CAST('{\"a\": 1}' AS JSON)", pa.string(), '{"a": 1}'),
        ("CAST('2026-11-24' AS DATE)", pa.date32(), NOON.date()),
        ("ARRAY[1, 2]", pa.list_(pa.int32()), [1, 2]),
    ],
)
async def test_every_value_arrives_exactly(store: Store, expression: str, kind: pa.DataType, value: object) -> None:
    for table in (await store.arrow(f"SELECT {expression}"), await store.read_only(f"SELECT {expression}")):
        assert (table.schema.field(0).type, table.column(0).to_pylist()) == (kind, [value])


def test_columns_of_the_same_name_and_no_columns_are_tables_too() -> None:
    twice = pa.table([[1], [2]], schema=pa.schema([("a", pa.int64()), ("a", pa.int64())]))

    assert portable(twice).column_names == ["a", "a"]
    assert portable(pa.table({})).num_columns == 0


async def test_a_nul_in_a_reply_costs_one_character_and_not_the_reply(store: Store) -> None:
    turn = await keep(store, a_turn(a_chat(), "q\0", "before\0after"))
    question, answer = await store.messages(ADA, turn.chat.id)

    assert (question.content, answer.content) == ("q\ufffd", "before\ufffdafter")
    assert answer.blocks == [{"type": "text", "text": "before\0after"}]


async def test_a_nul_in_a_file_does_not_keep_it_from_being_copied_here(store: Store, file_store: Store) -> None:
    turn = await keep(file_store, a_turn(a_chat(), "q", "before\0after"))
    await copies.copy(file_store.backend, store.backend)

    _, answer = await store.messages(ADA, turn.chat.id)
    assert answer.content == "before\ufffdafter"
    assert answer.blocks == [{"type": "text", "text": "before\0after"}]


# Through the faces --------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(scripted: ScriptedUpstream, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> ScriptedUpstream:
    """The workbench of this process over PostgreSQL."""
    monkeypatch.setenv("WORKBENCH_STORE", postgres_url)
    runtime.close()
    return scripted


def test_a_chat_of_two_turns_is_remembered_and_counted(shared: ScriptedUpstream) -> None:
    shared.script(reply("4"), reply("6"))
    chat = wb.Chat(system="You are terse.", model="claude-sonnet-5-5")
    assert [chat.ask("2+2?").text, chat.ask("3+3?").text] == ["4", "6"]
    runtime.close()

    again = wb.Chat.open(chat.id)
    assert [m.content for m in again.messages] == ["2+2?", "4", "3+3?", "6"]
    assert again.cost_usd == wb.usage()["cost_usd"].sum()
    assert wb.usage(by="model")["calls"].tolist() == [2]
    assert wb.chats("3+3")["chat_id"].tolist() == [chat.id]


def test_wb_sql_reads_what_was_said(shared: ScriptedUpstream) -> None:
    shared.script(reply("4"))
    wb.Chat().ask("2+2?")
    frame = wb.sql("SELECT role, content FROM messages ORDER BY seq")

    assert frame.to_dict("records") == [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


def test_the_server_answers_and_records(postgres_url: str, scripted: ScriptedUpstream, tmp_path: Path) -> None:
    scripted.script(reply("2 + 2 equals 4."))
    with LiveServer(tmp_path, upstream=scripted.url, WORKBENCH_STORE=postgres_url) as server:
        answer = server.post("/chat", "What is 2+2?")

    assert (answer.status_code, answer.json()["reply"]) == (200, "2 + 2 equals 4.")
    assert rows(postgres_url, "SELECT request_id, source, status FROM usage") == [
        (answer.headers["x-request-id"], "server", "complete")
    ]


# Many at once -------------------------------------------------------------------------------------------------------

TALKING = """
async def main():
    store = await Store.open(sys.argv[1])
    chat = ChatInfo(id=sys.argv[2], stored=True)
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(15): await keep(store, a_turn(chat, f"q{n} of {sys.argv[3]}", f"r{n} of {sys.argv[3]}"))
    store.close()
asyncio.run(main())
"""


async def test_processes_that_talk_in_one_chat_get_places_of_their_own(store: Store, postgres_url: str) -> None:
    chat = a_chat()
    await keep(store, a_turn(chat))
    talking = [child(TALKING, postgres_url, chat.id, name) for name in "ab"]
    for process in talking:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    ends = await asyncio.gather(*(asyncio.to_thread(process.communicate, "\n") for process in talking))
    messages = await store.messages(ADA, chat.id)

    assert [err for _, err in ends] == ["", ""]
    assert [m.seq for m in messages] == list(range(1, 63))
    pairs = zip(messages[::2], messages[1::2], strict=True)
    assert all(q.role == "user" and q.content[1:] == r.content[1:] for q, r in list(pairs)[1:])


async def test_first_questions_at_once_in_a_new_chat_get_places_of_their_own(postgres_url: str) -> None:
    stores = [await Store.open(postgres_url) for _ in range(4)]
    chats = [f"new {n}" for n in range(12)]  # where two meet is a matter of luck
    for chat in chats:
        turns = [a_turn(ChatInfo(id=chat)) for _ in range(8)]
        await asyncio.gather(*(keep(stores[n % 4], turn) for n, turn in enumerate(turns)))
    messages = {chat: await stores[0].messages(ADA, chat) for chat in chats}
    for store in stores:
        store.close()

    assert {chat: [m.seq for m in kept] for chat, kept in messages.items()} == {key: [*range(1, 17)] for key in chats}


async def test_of_those_that_begin_together_one_makes_the_tables(postgres: PostgresServer, fresh: str) -> None:
    for store in await asyncio.gather(*(Store.open(postgres.url(fresh)) for _ in range(6))):
        store.close()

    assert rows(postgres.url(fresh), "SELECT version, name FROM schema_version ORDER BY version") == [
        (version_of(name), name) for name, _ in MIGRATIONS
    ]


# Opening ------------------------------------------------------------------------------------------------------------


async def test_a_migration_that_fails_leaves_nothing_behind(
    postgres: PostgresServer, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ("0999_broken.sql", "CREATE TABLE half (a INTEGER); INSERT INTO nowhere VALUES (1)")
    monkeypatch.setattr(backend, "MIGRATIONS", [*MIGRATIONS, broken])
    with pytest.raises(StoreError, match="nowhere"):
        await Store.open(postgres.url(fresh))

    assert rows(postgres.url(fresh), "SELECT MAX(version) FROM schema_version") == [(version_of(MIGRATIONS[-1][0]),)]
    assert rows(postgres.url(fresh), "SELECT to_regclass('half')") == [(None,)]


async def test_a_later_migration_keeps_the_rows(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(await Store.open(postgres_url)) as store:
        await two_turns(store)
    note = ("0999_note.sql", "ALTER TABLE chats ADD COLUMN note TEXT")
    monkeypatch.setattr(backend, "MIGRATIONS", [*MIGRATIONS, note])
    (await Store.open(postgres_url)).close()

    assert rows(postgres_url, "SELECT note, (SELECT COUNT(*) FROM messages) FROM chats") == [(None, 4)]


async def test_a_store_of_a_newer_workbench_is_refused(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("INSERT INTO schema_version VALUES (999, '0999_later.sql', now())")

    knows = version_of(MIGRATIONS[-1][0])
    with pytest.raises(
        StoreError, match=rf"newer workbench \(its tables are version 999, this one knows {knows}\); update"
    ):
        await Store.open(postgres_url)


async def test_tables_of_the_same_names_are_left_alone(postgres: PostgresServer, fresh: str) -> None:
    with psycopg.connect(postgres.url(fresh)) as connection:
        connection.execute("CREATE TABLE usage (mine INTEGER)")

    with pytest.raises(StoreError, match="holds tables of its own"):
        await Store.open(postgres.url(fresh))
    assert rows(postgres.url(fresh), "SELECT COUNT(*) FROM usage") == [(0,)]


async def refused(url: str) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await Store.open(url)
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.path} {caught.getrepr(style='short')}"
    assert "\n" not in str(caught.value)
    return caught.value


async def test_what_keeps_a_store_from_opening_is_said_without_the_password(
    postgres: PostgresServer, fresh: str
) -> None:
    def url(database: str, user: str) -> str:
        return postgres.url(database, f"{user}:{SECRET}")

    shown = url(fresh, "guarded").replace(SECRET, "***")
    assert str(await refused(url(fresh, "guarded"))) == (
        f"the store {shown} refuses the user or the password; correct them in WORKBENCH_STORE"
    )
    assert "refuses the user or the password" in str(await refused(postgres.url(fresh, "guarded")))
    assert 'cannot be opened, database "nope" does not exist; create it' in str(await refused(url("nope", "guest")))
    assert 'cannot be opened, role "nobody" does not exist' in str(await refused(url(fresh, "nobody")))
    assert "permission denied for schema public" in str(await refused(url(fresh, "guest")))


async def test_a_store_of_somebody_else_needs_his_permission(postgres: PostgresServer, postgres_url: str) -> None:
    error = await refused(postgres_url.replace("workbench@", f"guest:{SECRET}@"))

    assert "permission denied for table schema_version" in str(error)
    assert "GRANT the user the right" in str(error)


@pytest.mark.parametrize("place", ["127.0.0.1:1", "localhost:1", "unknown.invalid"])
async def test_a_server_that_is_not_there_is_named_with_what_to_do(place: str) -> None:
    error = await refused(f"postgresql://ada:{SECRET}@{place}/ledger")

    assert isinstance(error, StoreBusy)
    assert str(error).startswith(f"the store postgresql://ada:***@{place}/ledger does not answer (")
    assert str(error).endswith("; see that its server runs, and try again")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ada:{SECRET}@ho:st@db/ledger",
        f"postgresql://ada:x@{SECRET}@db/ledger",
        f"postgresql://ada:x/{SECRET}@db/ledger",
        f"postgresql://ada:{SECRET}/x@db/ledger",
        f"postgresql://ada:{SECRET}",
        f"postgresql://ada:{SECRET}@db:port/ledger",
        f"postgresql://ada:{SECRET}@[db/ledger",
        f"postgresql://ada:{SECRET}@db/ledger?nope=1",
        f"postgresql://ada@db/ledger?nope=1&password={SECRET}",
        f"postgres://ada:{SECRET}%zz@db/ledger",
    ],
)
async def test_an_address_that_cannot_be_read_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await Store.open(url)

    assert str(caught.value).startswith("WORKBENCH_STORE cannot be read as an address (postgres")
    assert SECRET not in f"{caught.value} {caught.getrepr(style='short')}"


async def test_a_standby_is_named(postgres: PostgresServer, fresh: str) -> None:
    postgres.run(f"ALTER DATABASE {fresh} SET default_transaction_read_only = on")

    assert "takes no writes, it is a standby" in str(await refused(postgres.url(fresh)))


WITHOUT_DRIVER = """
sys.modules["psycopg"] = None
try: asyncio.run(Store.open("postgresql://ada@db/ledger"))
except ConfigurationError as error: print(error)
"""


def test_an_installation_without_the_driver_says_what_to_install() -> None:
    assert outcome(WITHOUT_DRIVER) == (
        "a store in PostgreSQL needs psycopg; install it with: pip install 'claude-workbench[postgres]'\n",
        "",
        0,
    )


# A server that goes away --------------------------------------------------------------------------------------------


async def test_a_connection_lost_while_a_table_is_read_is_made_anew(store: Store) -> None:
    tries = []

    def read() -> str:
        tries.append(1)
        if len(tries) == 1:  # as Arrow says it
            raise OSError("[libpq] Failed to execute query: server closed the connection unexpectedly")
        return "read"

    assert await store.backend._submit(store.backend._readers, read) == "read"
    assert len(tries) == 2


async def test_a_turn_that_ends_while_no_file_can_be_opened_fails_as_a_store_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = a_turn(a_chat())
    await store.begin(turn)

    def too_many() -> None:  # as the driver says it when it is to wait for a connection
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(store.backend, "_connection", too_many)
        with pytest.raises(StoreError, match="Too many open files"):
            await store.record(turn)
    await store.record(turn)

    assert await store.backend.rows("SELECT status FROM usage") == [("complete",)]


async def test_turns_go_on_over_restarts_of_the_server(store: Store, postgres: PostgresServer) -> None:
    over = asyncio.Event()

    async def talk() -> int:
        chat, count = a_chat(), 0
        while not over.is_set():
            await keep(store, a_turn(chat, f"q{count}"))
            count += 1
            assert len(await store.messages(ADA, chat.id)) == 2 * count
            assert (await store.chats(ADA)).num_rows >= 1
        return count

    talks = [asyncio.create_task(talk()) for _ in range(3)]
    for mode in ("immediate", "fast"):
        before = (await store.backend.rows("SELECT COUNT(*) FROM usage"))[0][0]
        while (await store.backend.rows("SELECT COUNT(*) FROM usage"))[0][0] < before + 20:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(postgres.stop, mode)
        await asyncio.to_thread(postgres.start)
    over.set()
    counts = await asyncio.gather(*talks)

    assert await store.backend.rows("SELECT status, COUNT(*) FROM usage GROUP BY status") == [("complete", sum(counts))]
    assert await store.backend.rows("SELECT COUNT(*) FROM holds WHERE state = 'open'") == [(0,)]
    assert await store.backend.rows("SELECT COUNT(*), COUNT(DISTINCT (chat_id, seq)) FROM messages") == [
        (2 * sum(counts), 2 * sum(counts))
    ]


async def test_a_server_that_stays_away_is_an_error_and_not_the_end(
    store: Store, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "PATIENCE", 0.3)
    turn = a_turn(a_chat())
    await store.begin(turn)
    await asyncio.to_thread(postgres.stop)
    try:
        for call in (
            store.record(turn),
            store.messages(ADA, turn.chat.id),
            store.chats(ADA),
            store.read_only("TABLE orgs"),
        ):
            with pytest.raises(StoreBusy, match=r"does not answer .*; see that its server runs, and try again"):
                await call
    finally:
        await asyncio.to_thread(postgres.start)
    await store.record(turn)

    assert await store.backend.rows("SELECT status FROM usage") == [("complete",)]


class Wire:
    """A way to the server that breaks when asked to: a COMMIT arrives, and its answer does not."""

    def __init__(self, target: Path) -> None:
        self.losses = 0
        self.lost = 0
        self._target = target
        self._folder = tempfile.TemporaryDirectory(prefix="wb-wire-", dir="/tmp")
        self.host = self._folder.name
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(f"{self.host}/.s.PGSQL.5432")
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._folder.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self._target))
            losing = False
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(65536)
                    if not data or (losing and end is server):
                        return
                    if end is client and b"COMMIT" in data and self.losses:
                        self.losses, self.lost, losing = self.losses - 1, self.lost + 1, True
                    (server if end is client else client).sendall(data)


@pytest.fixture
def wire(postgres: PostgresServer) -> Iterator[Wire]:
    with Wire(postgres.socket) as wire:
        yield wire


async def test_a_commit_whose_answer_was_lost_is_not_done_twice(postgres_url: str, wire: Wire) -> None:
    everything = """SELECT m.seq, m.role, m.content, m.status, m.token_count, u.status, h.state
        FROM messages m LEFT JOIN usage u ON u.message_id = m.id LEFT JOIN holds h ON h.id = u.id ORDER BY m.chat_id, m.seq"""
    store = await Store.open(
        f"postgresql://workbench@/{psycopg.conninfo.conninfo_to_dict(postgres_url)['dbname']}?host={wire.host}"
    )
    first = a_turn(a_chat())
    second = a_turn(first.chat, "again")
    for work in (
        lambda: store.begin(first),
        lambda: store.checkpoint(first),
        lambda: store.record(first),
        lambda: store.begin(second),
        lambda: store.record(second),
        lambda: store.fork(ADA, first.chat, 2),
    ):
        wire.losses = 2
        await work()
        assert wire.losses == 0
    store.close()

    pair = [(1, "user", "hi", "complete", 10), (2, "assistant", "Hello", "complete", 5)]
    assert wire.lost == 12
    assert rows(postgres_url, everything) == [
        (*pair[0], None, None),
        (*pair[1], "complete", "settled"),
        (3, "user", "again", "complete", 10, None, None),
        (4, "assistant", "Hello", "complete", 5, "complete", "settled"),
        (*pair[0], None, None),
        (*pair[1], None, None),
    ]
    assert rows(postgres_url, "SELECT COUNT(*) FROM usage") == [(2,)]


async def test_a_partial_reply_that_arrives_late_does_not_undo_the_whole_one(store: Store) -> None:
    turn = await keep(store, a_turn(a_chat(), text="the whole reply"))
    turn.answer.blocks[0]["text"] = "the"
    await store.checkpoint(turn)

    assert [(m.content, m.status) for m in await store.messages(ADA, turn.chat.id)][1] == (
        "the whole reply",
        "complete",
    )


# Processes that die -------------------------------------------------------------------------------------------------


async def test_the_turn_of_a_killed_process_is_lost_and_that_of_a_living_one_goes_on(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = await Store.open(postgres_url)
    alive = a_turn(a_chat(), started_at=datetime.now(UTC))
    await store.begin(alive)
    with child(LIVE, postgres_url) as process:
        assert process.stdout is not None
        dead, chat = process.stdout.readline().split()
        process.kill()
    for _ in range(2):
        (await Store.open(postgres_url)).close()
    _, reply = await store.messages(ADA, chat)
    await store.record(alive)
    store.close()

    assert (reply.content, reply.status) == ("Once upon a time", "lost")
    assert dict(rows(postgres_url, "SELECT id, status FROM usage")) == {dead: "lost", alive.id: "complete"}
    assert dict(rows(postgres_url, "SELECT id, state FROM holds")) == {dead: "lost", alive.id: "settled"}
    assert [r.message for r in caplog.records].count("Turn of a dead process recorded as lost") == 1


@pytest.mark.parametrize("script", [FORGOTTEN, RECORDED_AT_EXIT, LOOP_CLOSED_WHILE_WRITING])
def test_a_program_that_never_closes_its_store_ends_quietly_with_everything_kept(
    postgres_url: str, script: str
) -> None:
    _, err, code = outcome(script, postgres_url)

    assert (err, code) == ("", 0)
    assert rows(postgres_url, "SELECT status, COUNT(*) FROM usage GROUP BY status") == [("complete", 2)]


async def test_closing_joins_every_thread_and_every_connection(postgres: PostgresServer, postgres_url: str) -> None:
    before = {*threading.enumerate()}
    store = await Store.open(postgres_url)
    await asyncio.gather(*(two_turns(store) for _ in range(8)))
    await store.read_only("SELECT 1")
    name = (await store.backend.rows("SELECT CAST(current_database() AS TEXT)"))[0][0]
    store.close()

    assert {t for t in threading.enumerate() if t.name.startswith("workbench-store")} - before == set()
    while postgres.run(f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}'"):
        await asyncio.sleep(0.01)  # the server notices in its own time


# SQL of an analyst's own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO orgs (id, created_at) VALUES ('x', now())",
        "WITH new AS (INSERT INTO orgs (id, created_at) VALUES ('x', now()) RETURNING id) SELECT * FROM new",
        "EXPLAIN ANALYZE INSERT INTO orgs (id, created_at) VALUES ('x', now())",
        "EXPLAIN ANALYZE WITH a AS (DELETE FROM orgs RETURNING id) SELECT * FROM a",
        "UPDATE orgs SET id = 'x'",
        "DELETE FROM orgs",
        "TRUNCATE orgs",
        "MERGE INTO orgs USING (SELECT 1) ON true WHEN MATCHED THEN DELETE",
        "DROP TABLE orgs",
        "ALTER TABLE orgs ADD COLUMN x TEXT",
        "CREATE TABLE x (a INTEGER)",
        "CREATE TEMP TABLE x (a INTEGER)",
        "SELECT 1 AS a INTO x",
        "SELECT * FROM orgs FOR UPDATE",
        "LOCK orgs",
        "COPY orgs TO STDOUT",
        "COPY orgs TO '/tmp/x'",
        "COPY orgs FROM '/etc/passwd'",
        "COPY (SELECT 1) TO PROGRAM 'touch /tmp/x'",
        "SELECT 1) TO PROGRAM 'touch /tmp/x' --",
        "DO $$ BEGIN DELETE FROM orgs; END $$",
        "CALL nothing()",
        "SET statement_timeout = 0",
        "SET ROLE postgres",
        "SET TRANSACTION READ WRITE",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT set_config('role', 'postgres', false)",
        "SELECT set_config('session_authorization', 'postgres', false)",
        "SELECT * FROM ts_stat('DELETE FROM orgs RETURNING to_tsvector(id)')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_read_binary_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT pg_stat_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_create(0)",
        "SELECT lo_export(1, '/tmp/x')",
        "SELECT pg_reload_conf()",
        "SELECT dblink('host=/tmp', 'SELECT 1')",
        "LISTEN x",
        "NOTIFY x",
        "VACUUM",
        "CHECKPOINT",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DECLARE c CURSOR FOR SELECT 1",
        "FETCH 1 FROM analyst",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "LOAD 'x'",
        "CREATE EXTENSION vector",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT $1",
        "SELECT 1; SELECT 2",
        "SELECT 1; COMMIT; DROP TABLE orgs",
        "/* */ -- (\n DELETE FROM orgs",
        "",
        "-- nothing",
        ";",
        "SELECT 1\0; DROP TABLE orgs",
    ],
)
async def test_an_analysts_query_reads_tables_and_nothing_else(store: Store, sql: str) -> None:
    seen = "SELECT COUNT(*), (SELECT COUNT(*) FROM orgs) FROM information_schema.tables"
    before = await store.backend.rows(seen)

    with pytest.raises(InvalidRequest):
        await store.read_only(sql)

    assert await store.backend.rows(seen) == before
    await still_works(store)


@pytest.mark.parametrize("sql", ["EXPLAIN SELECT 1", "SHOW search_path", "VALUES (1)", "TABLE orgs", "((SELECT 1))"])
async def test_looking_around_is_allowed(store: Store, sql: str) -> None:
    assert (await store.read_only(sql)).num_rows > 0


async def test_a_table_made_by_explaining_how_is_gone_at_once(store: Store) -> None:
    await store.read_only("EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1")

    assert await store.backend.rows("SELECT to_regclass('x')") == [(None,)]


async def test_a_superusers_queries_are_refused_with_what_to_do(postgres: PostgresServer, fresh: str) -> None:
    # a role for the time of the query does not hold, as this shows: it is undone and used in one statement
    escape = """WITH back AS MATERIALIZED (SELECT set_config('role', 'none', true) AS role)
        SELECT role, (SELECT COUNT(*) FROM ts_stat(
            'SELECT to_tsvector(pg_read_file(''PG_VERSION''))')) FROM back"""
    assert postgres.run("BEGIN READ ONLY", "SET LOCAL ROLE guest", escape) == [("none", 1)]
    store = await Store.open(postgres.url(fresh, "postgres"))
    turn = await keep(store, a_turn(a_chat()))  # all else works
    with pytest.raises(InvalidRequest, match=r"not run as 'postgres', who may read files .*; make a user"):
        await store.read_only("SELECT 1")

    assert (await store.chats(ADA))["chat_id"].to_pylist() == [turn.chat.id]
    store.close()


async def test_a_database_with_a_way_to_the_network_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_analyst, "POWERS", postgres_analyst.POWERS.replace("dblink", "plpgsql"))

    with pytest.raises(InvalidRequest, match="reaches the network; give the workbench a database of its own"):
        await store.read_only("SELECT 1")


async def test_what_a_query_sets_or_locks_ends_with_it(store: Store) -> None:
    await store.read_only("SELECT set_config('statement_timeout', '1', false), pg_advisory_lock(1)")
    ((locks,),) = await store.backend.rows("SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory'")

    assert locks == 0
    assert (await store.read_only("SELECT pg_sleep(0.05), current_setting('statement_timeout') AS t")).num_rows == 1


async def test_a_query_cannot_give_itself_more_time(store: Store) -> None:
    longer = "SELECT set_config('statement_timeout', '0', false), pg_sleep(g * 0.001) FROM generate_series(1, 100000) g"
    with pytest.raises(InvalidRequest, match=r"took longer than 0\.3 s and was stopped"):
        await store.read_only(longer, seconds=0.3)


async def test_a_query_that_ends_the_stores_sessions_stops_nothing(store: Store) -> None:
    await two_turns(store)
    await store.read_only(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'workbench' AND pid <> pg_backend_pid()"
    )

    await still_works(store)


async def test_a_query_that_loses_its_session_is_not_run_again(store: Store) -> None:
    with pytest.raises(StoreBusy, match=r"does not answer \(.*terminating connection .*\); see that"):
        await store.read_only("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)")

    await still_works(store)


async def test_a_large_result_arrives_whole_and_a_larger_one_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = await store.read_only("SELECT g, REPEAT('x', 100) AS t FROM generate_series(1, 200000) g")
    assert table["g"].to_pylist() == list(range(1, 200_001))
    monkeypatch.setattr(analyst, "LARGEST_RESULT", 20_000_000)

    with pytest.raises(InvalidRequest, match=r"the result is larger than 0\.02 GB; narrow the query"):
        await store.read_only("SELECT g, REPEAT('x', 100) AS t FROM generate_series(1, 200000) g")


async def test_an_error_in_mid_result_is_said(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="the query cannot be run: division by zero"):
        await store.read_only("SELECT 1 / (5000 - g) FROM generate_series(1, 10000) g")


async def test_analysts_of_a_closing_store_are_told(postgres_url: str) -> None:
    store = await Store.open(postgres_url)
    reading = asyncio.create_task(store.read_only(ENDLESS, seconds=1000))
    while not store.backend._queries:  # type: ignore[attr-defined]
        await asyncio.sleep(0.001)
    await asyncio.to_thread(store.close)

    with pytest.raises(StoreError, match="is closed"):
        await reading
