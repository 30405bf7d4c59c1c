"""One file, several processes: who owns it, what becomes of the others when that one goes away, and who must not come in."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import flight as pa_flight

from tests.test_store import ADA, a_chat, a_turn, child, keep, outcome, rows
from workbench.errors import InvalidRequest, StoreBusy, StoreCorrupt, StoreError, StoreFull
from workbench.store import Store, duckdb_file, flight, place, sessions
from workbench.store.backend import Statement
from workbench.store.flight import FlightClient, FlightOwner, OwnerGone, Sender
from workbench.store.migrations import MIGRATIONS
from workbench.store.packing import pack, unpack
from workbench.store.place import Lock, Place
from workbench.store.shared import Owner, SharedFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ENDLESS = "SELECT COUNT(*) FROM range(10000000) a, range(10000000) b"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.duckdb")


OWNING = """
async def main():
    store = await Store.open(sys.argv[1])
    print("open", flush=True)
    sys.stdin.readline()
    store.close()
asyncio.run(main())
"""


@pytest.fixture
def owner(path: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the file, until a line is written to it."""
    with child(OWNING, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


@pytest.fixture
async def client(path: str, owner: subprocess.Popen[str]) -> AsyncIterator[Store]:
    store = await Store.open(path)
    yield store
    await asyncio.to_thread(store.close)


def backend_of(store: Store) -> SharedFile:
    assert isinstance(store.backend, SharedFile)
    return store.backend


def owned_by(store: Store) -> int:
    return backend_of(store).owner[1]


# Packing ------------------------------------------------------------------------------------------------------------

zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11)), None])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.builds(lambda when, zone: when.replace(tzinfo=zone), st.datetimes(), zones),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def kinds(value: object) -> object:
    if isinstance(value, list):
        return [kinds(item) for item in value]
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    if isinstance(value, datetime):
        return type(value), value.utcoffset()
    return type(value), str(value)


@given(values)
@settings(max_examples=300, deadline=None)
def test_what_is_packed_comes_back_with_its_types_zones_and_digits(value: Any) -> None:
    back = unpack(pack(value))

    assert back == value
    assert kinds(back) == kinds(value)


def test_what_cannot_be_packed_is_named() -> None:
    with pytest.raises(TypeError, match="a object cannot be kept"):
        pack([object()])


# Two processes ------------------------------------------------------------------------------------------------------

TALKING = """
async def main():
    store = await Store.open(sys.argv[1])
    chat = a_chat()
    for n in range(int(sys.argv[2])):
        await keep(store, a_turn(chat, f"question {n}", f"reply {n}"))
    print(await store.backend.rows("SELECT COUNT(*) FROM sessions") >= [(1,)])
asyncio.run(main())
"""


async def unsound(store: Store) -> dict[str, list[Any]]:
    """Whatever of the store's invariants does not hold."""
    checks = {
        "turns without both messages": "SELECT chat_id FROM messages GROUP BY chat_id HAVING COUNT(*) % 2 = 1",
        "places taken twice": "SELECT chat_id, seq FROM messages GROUP BY chat_id, seq HAVING COUNT(*) > 1",
        "gaps": "SELECT chat_id FROM messages GROUP BY chat_id HAVING COUNT(*) <> MAX(seq)",
        "open": "SELECT id FROM holds WHERE state = 'open'",
        "streaming": "SELECT id FROM messages WHERE status = 'streaming'",
        "without usage": "SELECT id FROM holds WHERE id NOT IN (SELECT id FROM usage)",
        "unlike": "SELECT u.id FROM usage u JOIN messages m ON m.id = u.message_id WHERE m.status <> u.status",
    }
    found = {name: await store.backend.rows(sql) for name, sql in checks.items()}
    return {name: wrong for name, wrong in found.items() if wrong}


async def test_two_processes_keep_turns_in_one_file_at_the_same_time(path: str, client: Store) -> None:
    with child(TALKING, path, "20") as other:
        chat = a_chat()
        for n in range(20):
            await keep(client, a_turn(chat, f"question {n}"))
        out, err = await asyncio.to_thread(other.communicate, timeout=120)

    assert (out, err) == ("True\n", "")
    assert await client.backend.rows("SELECT COUNT(*), COUNT(DISTINCT chat_id) FROM usage") == [(40, 2)]
    assert await unsound(client) == {}


@pytest.fixture
async def both(path: str) -> AsyncIterator[tuple[Store, Store]]:
    """Two stores of this process: the owner, and one that asks it through the socket like any other."""
    first, second = await Store.open(path), await Store.open(path)
    assert isinstance(backend_of(first)._host, Owner)
    assert isinstance(backend_of(second)._host, FlightClient)
    yield first, second
    second.close()
    first.close()


TABLES = [f"SELECT * FROM {name}" for name in ("usage", "messages", "holds", "chats", "orgs", "sessions")]
ODD = """SELECT 170141183460469231731687303715884105000::HUGEINT, [1, NULL], {'a': DATE '2026-01-02'}, 'a'::BLOB, NULL,
    TIMESTAMP '2026-01-02 03:04:05.678901', TIMESTAMPTZ '2026-01-02 03:04:05.678901+07', TIME '01:02:03', 1e300, true,
    INTERVAL 3 DAY, '0192d9c0-0000-7000-8000-000000000000'::UUID, SUM(i::BIGINT) FROM range(3) r(i)"""


@pytest.mark.parametrize("sql", [*TABLES, ODD])
async def test_a_client_gets_the_very_rows_and_tables_the_owner_has(both: tuple[Store, Store], sql: str) -> None:
    own, asked = (store.backend for store in both)
    await keep(both[1], a_turn(a_chat(), ttft_ms=120))
    here, there = await own.rows(sql), await asked.rows(sql)

    assert there == here
    assert [[type(value) for value in row] for row in there] == [[type(value) for value in row] for row in here]
    assert (await asked.arrow(sql)).equals(await own.arrow(sql))
    assert len(here) >= 1


async def test_parameters_reach_the_owner_as_they_were_given(both: tuple[Store, Store]) -> None:
    given = (
        "ä\x01",
        2**62,
        1.5,
        True,
        None,
        Decimal("0.000000001"),
        datetime(2026, 1, 2, tzinfo=UTC),
        date(2026, 1, 2),
        b"\0",
    )
    (row,) = await both[1].backend.rows("SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9", *given)

    assert row == given


async def test_one_failing_statement_of_a_client_undoes_its_whole_transaction(client: Store) -> None:
    good = Statement("INSERT INTO orgs (id, created_at) VALUES ('o', now())")
    with pytest.raises(StoreError, match="nowhere") as caught:
        await client.backend.write([good, Statement("INSERT INTO nowhere VALUES (1)")])

    assert caught.value.path == backend_of(client).path
    assert await client.backend.rows("SELECT COUNT(*) FROM orgs WHERE id = 'o'") == [(0,)]


@pytest.mark.parametrize(
    "error",
    [
        StoreError("a", "/x"),
        StoreBusy("b", "/x", 42),
        StoreFull("e", "/x"),
        StoreCorrupt("c", "/x"),
        InvalidRequest("d"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_with_their_class_message_and_values(error: StoreError) -> None:
    back = flight._unpacked(flight._packed(error))

    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


async def test_a_result_of_many_pieces_arrives_whole(both: tuple[Store, Store]) -> None:
    rows = 3 * duckdb_file.BATCH_ROWS + 1
    table = await both[1].backend.arrow("SELECT i, i::VARCHAR AS t FROM range($1) r(i)", rows)

    assert table.num_rows == rows
    assert table["i"].to_pylist() == list(range(rows))


async def half_read(client: Store) -> Any:
    """A table of which one piece has been read, and no more will be."""
    asked = backend_of(client)._host
    assert isinstance(asked, FlightClient)
    ticket = flight.flight.Ticket(pack(["arrow", "SELECT i FROM range(100000000) r(i)", []]))
    table = await asyncio.to_thread(asked._connection.do_get, ticket)
    await asyncio.to_thread(table.read_chunk)
    return table


async def test_a_client_that_leaves_a_table_half_read_leaves_no_cursor_open(both: tuple[Store, Store]) -> None:
    owner = backend_of(both[0])._host
    assert isinstance(owner, Owner)
    table = await half_read(both[1])
    assert len(owner.file._cursors) == 1
    table.cancel()
    del table
    while owner.file._cursors:
        await asyncio.sleep(0.001)


async def test_an_owner_that_ends_does_not_wait_for_a_client_that_no_longer_reads(both: tuple[Store, Store]) -> None:
    table = await half_read(both[1])
    await asyncio.to_thread(both[0].close)
    table.cancel()
    del table

    await keep(both[1], a_turn(a_chat()))
    assert isinstance(backend_of(both[1])._host, Owner)


ASLEEP = """
from pyarrow import flight
from workbench.store.packing import pack
store = asyncio.run(Store.open(sys.argv[1]))
ticket = flight.Ticket(pack(["arrow", "SELECT i FROM range(100000000) r(i)", []]))
table = store.backend._host._connection.do_get(ticket)
table.read_chunk()
print("asleep", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
try: table.read_all()
except flight.FlightUnavailableError: print("told", flush=True)
os._exit(0)
"""


async def test_an_owner_that_ends_lets_go_of_the_file_though_a_client_sleeps_over_a_table(path: str) -> None:
    store = await Store.open(path)
    file = backend_of(store).ledger
    assert file is not None
    with child(ASLEEP, path) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "asleep\n"
        try:
            await asyncio.to_thread(store.close)
            # with one left DuckDB would wait for ever for whoever opens the file here again
            assert file._cursors == set()
            (await Store.open(path)).close()
        finally:
            reader.send_signal(signal.SIGCONT)
        out, err = await asyncio.to_thread(reader.communicate)

    assert (out, err) == ("told\n", "")


HEIR = """
import time
store = asyncio.run(Store.open(sys.argv[1]))
threading.Thread(target=lambda: asyncio.run(store.arrow(sys.argv[2])), daemon=True).start()
while store.backend.owner[1] != os.getpid():
    time.sleep(0.01)
print("mine", flush=True)
os._exit(0)
"""


async def test_an_owner_that_ends_does_not_wait_for_a_table_that_takes_long(path: str) -> None:
    store = await Store.open(path)
    file = backend_of(store).ledger
    assert file is not None
    with child(HEIR, path, ENDLESS) as reader:
        assert reader.stdout is not None
        try:
            seen: set[object] = set()
            while not seen & file._cursors:  # one that is there for so long is no beat of a heart
                seen = set(file._cursors)
                await asyncio.sleep(0.5)
            await asyncio.to_thread(store.close)

            assert await asyncio.to_thread(reader.stdout.readline) == "mine\n"
        finally:
            reader.kill()


async def test_of_a_table_nothing_more_is_sent_once_its_owner_ends(path: str) -> None:
    store = await Store.open(path)
    owner = backend_of(store)._host
    assert isinstance(owner, Owner)

    def pieces() -> Iterator[str]:
        yield "sent"
        owner.server._closing = True
        yield "too late: its reader may be asleep, and would keep the file"

    sent = owner.server._sent(pieces())  # type: ignore[arg-type]
    assert next(sent) == "sent"
    with pytest.raises(pa_flight.FlightUnavailableError):
        next(sent)
    store.close()


async def test_a_snapshot_is_begun_anew_when_the_owner_dies_in_the_middle_of_it(
    client: Store, owner: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(client: FlightClient, path: str) -> None:
        Path(path).write_text("half of it")
        owner.kill()
        owner.wait()
        raise OwnerGone

    monkeypatch.setattr(FlightClient, "snapshot", half)
    await keep(client, a_turn(a_chat()))
    await client.backend.snapshot(str(tmp_path / "copy"))

    assert owned_by(client) == os.getpid()
    assert rows(str(tmp_path / "copy"), "SELECT status FROM usage") == [("complete",)]


async def test_an_error_in_the_middle_of_a_table_is_ours(both: tuple[Store, Store]) -> None:
    with pytest.raises(StoreError, match="Could not convert string"):
        await both[1].backend.arrow(
            "SELECT CAST(CASE WHEN i = 200000 THEN 'x' ELSE '1' END AS INTEGER) FROM range(300000) r(i)"
        )


async def test_a_write_that_arrives_after_a_later_one_is_dropped(path: str) -> None:
    """As when its sender gave it up because the owner was paused."""
    file = duckdb_file.DuckDBFile(path)
    owner = FlightOwner(file, Place.of(path))
    late, newer = (
        [Statement("INSERT INTO orgs (id, created_at) VALUES ($1, now())", (name,))] for name in ("late", "newer")
    )
    owner._write("ada", 2, newer)
    owner._write("ada", 1, late)
    owner._write("bob", 1, late[:0])

    assert await file.rows("SELECT id FROM orgs") == [("newer",)]
    owner.close()
    file.close()


# Analysts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO orgs (id, created_at) VALUES ('x', now())",
        "WITH x AS (INSERT INTO orgs (id, created_at) VALUES ('x', now()) RETURNING id) SELECT * FROM x",
        "COPY orgs TO '/tmp/orgs.csv'",
        "SELECT * FROM read_text('/etc/passwd')",
        "ATTACH '/tmp/x.duckdb'",
        "SET enable_external_access = true",
        "SELECT 1; SELECT 2",
        "SELECT nope",
    ],
)
async def test_a_clients_own_query_is_held_as_tightly_as_the_owners(both: tuple[Store, Store], sql: str) -> None:
    said = []
    for store in both:
        with pytest.raises(InvalidRequest) as caught:
            await store.read_only(sql)
        said.append(str(caught.value))

    assert said[0] == said[1]
    assert await both[0].backend.rows("SELECT COUNT(*) FROM orgs") == [(1,)]


async def test_a_clients_endless_query_is_stopped_after_its_time(client: Store) -> None:
    with pytest.raises(InvalidRequest, match=r"took longer than 0.2 s and was stopped"):
        await client.read_only(ENDLESS, seconds=0.2)


async def test_a_cancelled_query_of_a_client_ends_in_the_owner(both: tuple[Store, Store]) -> None:
    owner = backend_of(both[0])._host
    assert isinstance(owner, Owner)
    asking = asyncio.create_task(both[1].read_only(ENDLESS, seconds=100))
    while not owner.file._queries:
        await asyncio.sleep(0.001)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    while owner.file._queries:
        await asyncio.sleep(0.001)


# Owners that go away ------------------------------------------------------------------------------------------------


async def test_when_the_owner_exits_its_client_takes_over_within_a_second(
    client: Store, owner: subprocess.Popen[str]
) -> None:
    await keep(client, a_turn(a_chat()))
    assert owned_by(client) == owner.pid
    out, err = await asyncio.to_thread(owner.communicate, "\n")
    begun = time.monotonic()
    await keep(client, a_turn(a_chat()))
    took = time.monotonic() - begun

    assert (out, err, owner.returncode) == ("", "", 0)
    assert owned_by(client) == os.getpid()
    assert await client.backend.rows("SELECT COUNT(*) FROM usage") == [(2,)]
    assert took < 5  # 0.1 s on an idle machine, and this one may be busy


async def test_an_owner_that_exits_finishes_what_clients_have_sent_or_they_send_it_again(
    client: Store, owner: subprocess.Popen[str]
) -> None:
    chat = a_chat()
    await keep(client, a_turn(chat))
    writing = [asyncio.create_task(keep(client, a_turn(chat, f"q{n}"))) for n in range(30)]
    reading = asyncio.create_task(client.read_only("SELECT COUNT(*) AS n FROM range(300000000)", seconds=100))
    await asyncio.to_thread(owner.communicate, "\n")
    await asyncio.gather(*writing)

    assert (await reading).to_pylist() == [{"n": 300_000_000}]
    assert await client.backend.rows("SELECT COUNT(*) FROM usage") == [(31,)]
    assert await unsound(client) == {}


async def test_a_client_survives_an_owner_that_is_killed(client: Store, owner: subprocess.Popen[str]) -> None:
    turn = a_turn(a_chat())
    await client.begin(turn)
    owner.kill()
    await client.record(turn)

    assert owned_by(client) == os.getpid()
    assert await client.backend.rows("SELECT status FROM usage") == [("complete",)]
    assert await unsound(client) == {}


async def test_a_paused_owner_is_named_and_once_it_goes_on_so_do_its_clients(
    client: Store, owner: subprocess.Popen[str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = a_turn(a_chat())
    await client.begin(turn)
    monkeypatch.setattr(flight, "PATIENCE", 0.5)
    owner.send_signal(signal.SIGSTOP)
    try:
        said = []
        for asking in (client.record(turn), client.messages(ADA, turn.chat.id), client.chats(ADA), Store.open(path)):
            with pytest.raises(StoreBusy, match="does not answer: it is paused or very busy") as caught:
                await asking
            said.append(caught.value.pid)
    finally:
        owner.send_signal(signal.SIGCONT)
    monkeypatch.setattr(flight, "PATIENCE", 60)
    await client.record(turn)

    assert said == [owner.pid] * 4
    assert f"(PID {owner.pid})" in str(caught.value)
    assert await client.backend.rows("SELECT COUNT(*) FROM usage") == [(1,)]
    assert owned_by(client) == owner.pid
    assert await unsound(client) == {}


async def test_a_client_that_ends_waits_for_no_table_and_is_not_elected_any_more(
    client: Store, owner: subprocess.Popen[str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, options = threading.Event(), FlightClient._options

    def noted(self: FlightClient, seconds: float) -> Any:
        if seconds == flight.LONGEST_TABLE:
            asked.set()
        return options(self, seconds)

    monkeypatch.setattr(FlightClient, "_options", noted)
    reading = asyncio.create_task(client.backend.arrow(ENDLESS))
    await asyncio.to_thread(asked.wait)
    await asyncio.wait_for(asyncio.to_thread(client.close), 60)
    owner.kill()
    with pytest.raises(StoreError, match="is closed"):
        await reading
    next_one = await Store.open(path)

    assert isinstance(backend_of(next_one)._host, Owner)
    next_one.close()


LIVE = """
async def main():
    store = await Store.open(sys.argv[1])
    turn = a_turn(a_chat(), "Tell me", "Once upon a time")
    await store.begin(turn)
    await store.checkpoint(turn)
    print(turn.id, turn.chat.id, flush=True)
    sys.stdin.readline()
    await store.record(turn)
    print(await store.backend.rows("SELECT COUNT(*) FROM sessions"), flush=True)
asyncio.run(main())
"""


async def test_the_turn_of_a_killed_owner_is_lost_and_that_of_its_client_goes_on(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with child(LIVE, path) as owner:
        assert owner.stdout is not None
        dead, dead_chat = owner.stdout.readline().split()
        store = await Store.open(path)
        turn = a_turn(a_chat())
        await store.begin(turn)
        owner.kill()
    await store.backend.write([])
    await until_lost(store)
    states = dict(await store.backend.rows("SELECT id, state FROM holds"))
    await store.record(turn)
    _, reply = await store.messages(ADA, dead_chat)

    assert states == {dead: "lost", turn.id: "open"}
    assert (reply.content, reply.status) == ("Once upon a time", "lost")
    assert dict(await store.backend.rows("SELECT id, status FROM usage")) == {dead: "lost", turn.id: "complete"}
    assert await unsound(store) == {}
    store.close()  # waits for the heart, which says so only after it is there to be seen
    assert [r.message for r in caplog.records] == ["Turn of a dead process recorded as lost"]


async def until_lost(store: Store) -> None:
    async with asyncio.timeout(60):
        while await store.backend.rows("SELECT COUNT(*) FROM usage WHERE status = 'lost'") == [(0,)]:
            await asyncio.sleep(0.01)


async def test_opening_leaves_the_live_turns_of_others_alone(path: str) -> None:
    with child(LIVE, path) as owner:
        assert owner.stdout is not None
        id, _ = owner.stdout.readline().split()
        store = await Store.open(path)
        seen = await store.backend.rows("SELECT id, state FROM holds")
        out, err = await asyncio.to_thread(owner.communicate, "\n")

    assert seen == [(id, "open")]
    assert (out, err) == ("[(2,)]\n", "")
    assert await store.backend.rows("SELECT id, status FROM usage") == [(id, "complete")]
    store.close()


async def test_a_turn_of_a_store_that_was_closed_in_this_very_process_is_lost(path: str) -> None:
    store = await Store.open(path)
    await store.begin(a_turn(a_chat()))
    store.close()
    store = await Store.open(path)

    assert await store.backend.rows("SELECT state FROM holds") == [("lost",)]
    store.close()


@pytest.mark.parametrize(
    ("host", "pid", "started", "silent", "alive"),
    [
        ("here", "ours", "ours", 1000, False),  # this very process, but of a store that is closed
        ("here", "parent", "its", 1000, True),
        ("here", "parent", "another time", 0, False),
        ("here", "parent", "", 1000, True),  # the system does not say when processes started
        ("here", "nobody", "", 0, False),
        ("elsewhere", "nobody", "", 50, True),
        ("elsewhere", "parent", "its", 70, False),
    ],
)
def test_a_session_is_dead_when_its_process_is_or_its_machine_is_silent(
    host: str, pid: str, started: str, silent: int, alive: bool
) -> None:
    number = {"ours": os.getpid(), "parent": os.getppid(), "nobody": 2**22 + 1}[pid]
    began = {"ours": sessions.process_started(os.getpid()), "its": sessions.process_started(number)}.get(
        started, started
    )
    known = sessions.Known(
        "s",
        number,
        sessions.host() if host == "here" else host,
        began or "",
        datetime.now(UTC) - timedelta(seconds=silent),
    )

    assert known.alive() is alive


def test_a_process_that_has_ended_and_that_nobody_waited_for_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)
        assert sessions.process_started(ended.pid) is None


async def test_a_store_of_version_1_is_migrated_and_its_open_turn_is_lost(path: str) -> None:
    name, sql = MIGRATIONS[0]
    with duckdb.connect(path, config={"storage_compatibility_version": "v1.5.0"}) as old:
        old.execute("CREATE TABLE schema_version (version INTEGER, name TEXT, applied_at TIMESTAMPTZ)")
        old.execute(sql)
        old.execute("INSERT INTO schema_version VALUES (1, $1, now())", [name])
        old.execute(
            """INSERT INTO messages (id, chat_id, org_id, seq, role, content, blocks, status, created_at)
            VALUES ('q', 'c', 'o', 1, 'user', 'hi', '[]', 'complete', now()),
                ('r', 'c', 'o', 2, 'assistant', 'Hel', '[]', 'streaming', now())"""
        )
        old.execute(
            """INSERT INTO holds (id, request_id, org_id, user_id, chat_id, message_id, source, model, started_at, expires_at,
                input_tokens, state) VALUES ('t', 'r', 'o', 'u', 'c', 'r', 'ask', 'claude-sonnet-5-5', now(), now(), 9, 'open')"""
        )
    store = await Store.open(path)

    assert await store.backend.rows("SELECT version FROM schema_version ORDER BY version") == [
        (int(name[:4]),) for name, _ in MIGRATIONS
    ]
    assert await store.backend.rows("SELECT id, state, session_id FROM holds") == [("t", "lost", None)]
    assert await store.backend.rows("SELECT id, status FROM usage") == [("t", "lost")]
    assert await store.backend.rows("SELECT status FROM messages ORDER BY seq") == [("complete",), ("lost",)]
    store.close()


CHURNING = """
import time
async def main():
    store = await Store.open(sys.argv[1])
    chat = a_chat()
    while not os.path.exists(sys.argv[2]):
        begun = time.monotonic()
        turn = a_turn(chat, "question", "reply")
        await store.begin(turn)
        await store.record(turn)
        print("kept", turn.id, store.backend.owner[1], time.monotonic() - begun, flush=True)
asyncio.run(main())
"""


async def test_no_acknowledged_turn_is_lost_while_owner_after_owner_is_killed(path: str, tmp_path: Path) -> None:
    writers, kills = 4, 3
    lines: list[list[str]] = []

    def listen(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.split())

    processes = {p.pid: p for p in (child(CHURNING, path, str(tmp_path / "stop")) for _ in range(writers + kills))}
    listeners = [threading.Thread(target=listen, args=(process,)) for process in processes.values()]
    for listener in listeners:
        listener.start()
    alive = dict(processes)
    for _ in range(kills):
        seen = len(lines)
        while len(lines) < seen + 40 or int(lines[-1][2]) not in alive:
            await asyncio.sleep(0.01)
        alive.pop(int(lines[-1][2])).kill()
    seen = len(lines)
    while len(lines) < seen + 40:
        await asyncio.sleep(0.01)
    (tmp_path / "stop").touch()
    for listener in listeners:
        await asyncio.to_thread(listener.join)
    errors = {pid: process.communicate()[1] for pid, process in processes.items()}
    store = await Store.open(path)
    kept = dict(await store.backend.rows("SELECT id, status FROM usage"))
    acknowledged = [line for line in lines if len(line) == 4]
    longest = max(float(seconds) for *_, seconds in acknowledged)
    print(f"{len(acknowledged)} turns while {kills} owners were killed, longest stall {longest:.2f} s")

    assert {id for _, id, _, _ in acknowledged if kept.get(id) != "complete"} == set()
    assert [errors[pid] for pid in alive if "Traceback" in errors[pid]] == []
    assert [processes[pid].returncode for pid in alive] == [0] * writers
    assert await unsound(store) == {}
    store.close()


# Who may come in ----------------------------------------------------------------------------------------------------


async def test_the_socket_is_for_its_user_alone_and_nothing_listens_on_tcp(
    client: Store, owner: subprocess.Popen[str]
) -> None:
    where = backend_of(client)._place.socket
    connections = psutil.Process(owner.pid).net_connections("inet")  # whoever serves

    assert stat.S_ISSOCK(where.lstat().st_mode)
    assert stat.S_IMODE(where.lstat().st_mode) == 0o600
    assert stat.S_IMODE(where.parent.lstat().st_mode) == 0o700
    assert [c for c in connections if c.status == psutil.CONN_LISTEN] == []


def test_a_deep_folder_still_has_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a folder with a long name"] * 8, "store.duckdb")

    assert len(os.fsencode(Place.of(str(deep)).socket)) < 100


def test_a_link_to_the_file_is_the_same_place(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "store.duckdb")

    assert Place.of(str(tmp_path / "link")) == Place.of(str(tmp_path / "store.duckdb"))


@pytest.mark.parametrize("how", ["open to others", "a link"])
def test_a_folder_for_sockets_that_is_not_ours_alone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = tmp_path / f"workbench-{os.getuid()}"
    if how == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o755)
    monkeypatch.setattr(place, "FOLDER", tmp_path)

    with pytest.raises(StoreError, match="is not a folder of yours alone"):
        Place.of(str(tmp_path / "store.duckdb"))


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where there are no unix sockets."""
    monkeypatch.setattr(place, "UNIX", False)
    monkeypatch.setattr(place.tempfile, "gettempdir", lambda: str(tmp_path))


@pytest.mark.usefixtures("loopback")
async def test_without_unix_sockets_the_token_opens_the_door(both: tuple[Store, Store]) -> None:
    address = backend_of(both[0])._place.address
    await keep(both[1], a_turn(a_chat()))

    assert stat.S_IMODE(address.stat().st_mode) == 0o600
    assert await both[0].backend.rows("SELECT COUNT(*) FROM usage") == [(1,)]


@pytest.mark.usefixtures("loopback")
async def test_without_unix_sockets_nobody_comes_in_without_the_token(both: tuple[Store, Store]) -> None:
    address = backend_of(both[0])._place.address
    port, token = address.read_text().split()
    for shown in ("", "0" * 64, token[:-1]):
        stranger = flight.flight.FlightClient(f"grpc://127.0.0.1:{port}")
        options = flight.flight.FlightCallOptions(headers=[(b"authorization", shown.encode())], timeout=30)
        with pytest.raises(flight.flight.FlightUnauthenticatedError):
            list(stranger.do_action(flight.flight.Action("rows", pack(["SELECT 1", []])), options))
        stranger.close()


# Sockets that mislead -----------------------------------------------------------------------------------------------


async def test_a_socket_that_a_dead_owner_left_is_replaced(path: str) -> None:
    where = Place.of(path).socket
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(os.fspath(where))
    store = await Store.open(path)
    second = await Store.open(path)

    assert isinstance(backend_of(second)._host, FlightClient)
    second.close()
    store.close()


async def test_an_owner_of_another_version_is_named(path: str, both: tuple[Store, Store]) -> None:
    owner = backend_of(both[0])._host
    assert isinstance(owner, Owner)
    owner.server.greeting = msgspec.structs.replace(owner.server.greeting, protocol=99)

    with pytest.raises(StoreBusy, match="another version of the workbench; restart that one") as caught:
        FlightClient(Place.of(path), Sender())
    assert caught.value.pid == os.getpid()


async def test_an_owner_whose_file_was_replaced_is_not_taken_for_the_new_ones(
    path: str, both: tuple[Store, Store]
) -> None:
    Path(path).rename(path + ".old")
    with pytest.raises(StoreBusy, match="was moved or replaced while") as caught:
        await Store.open(path)

    assert caught.value.pid == os.getpid()
    Path(path + ".old").rename(path)


async def test_reading_the_file_in_its_owners_process_lets_no_second_owner_in(path: str) -> None:
    """It drops DuckDB's lock: two processes would write the file at once."""
    with child(OWNING.replace('print("open"', 'open(sys.argv[1], "rb").close(); print("open"'), path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        store = await Store.open(path)
        assert owned_by(store) == owner.pid
        store.close()
        owner.communicate("\n")


def test_nobody_answers_where_no_owner_is(path: str) -> None:
    with pytest.raises(OwnerGone):
        FlightClient(Place.of(path), Sender())


async def test_a_program_whose_folder_has_no_name_in_unicode_opens_a_store(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [os.fsdecode(b"/tmp/caf\xe9/run.py")])
    store = await Store.open(path)
    second = await Store.open(path)

    assert backend_of(second).owner == ("/tmp/caf\ufffd/run.py", os.getpid())
    second.close()
    store.close()


async def test_an_election_that_finds_no_room_for_its_lock_fails_as_a_store_does(
    client: Store, owner: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = a_turn(a_chat())
    await client.begin(turn)
    await asyncio.to_thread(owner.communicate, "\n")
    write = os.write

    def full(descriptor: int, text: bytes) -> int:
        if text.startswith(b"%d " % os.getpid()):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, text)

    with monkeypatch.context() as patch:
        patch.setattr(place.os, "write", full)
        with pytest.raises(StoreFull, match=r"\.lock cannot be written, its disk is full"):
            await client.record(turn)
    await client.record(turn)

    assert owned_by(client) == os.getpid()
    assert await client.backend.rows("SELECT status FROM usage") == [("complete",)]


def test_a_lock_is_held_by_one_and_says_by_whom(path: str) -> None:
    here = Place.of(path)
    first, second = Lock(here), Lock(here)

    assert (first.take(), second.take()) == (True, False)
    assert here.holder()[1] == os.getpid()
    first.release()
    assert second.take()
    second.release()
    assert not here.lock.exists()


# Ends of processes --------------------------------------------------------------------------------------------------

LEAVING = """
store = asyncio.run(Store.open(sys.argv[1]))
second = asyncio.run(Store.open(sys.argv[1])) if "twice" in sys.argv else None
asyncio.run(keep(second or store, a_turn(a_chat())))
print("leaving", flush=True)
"""


@pytest.mark.parametrize("how", ["owner", "twice", "client"])
async def test_a_process_ends_quietly_with_a_store_still_open(path: str, how: str) -> None:
    other = await Store.open(path) if how == "client" else None
    out, err, code = await asyncio.to_thread(outcome, LEAVING, path, how)

    assert (out, err, code) == ("leaving\n", "", 0)
    if other is not None:
        other.close()
    assert rows(path, "SELECT status FROM usage") == [("complete",)]


FORKING = """
store = asyncio.run(Store.open(sys.argv[1]))
asyncio.run(keep(store, a_turn(a_chat())))
child = os.fork()
if child == 0:
    for ask in (store.backend.rows("SELECT 1"), Store.open(sys.argv[1])):
        try: asyncio.run(ask)
        except StoreError as error: print("'spawn'" in str(error), flush=True)
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
asyncio.run(keep(store, a_turn(a_chat())))
"""


@pytest.mark.parametrize("how", ["owner", "client"])
async def test_a_forked_child_keeps_its_hands_off_and_ends_quietly(path: str, how: str) -> None:
    other = await Store.open(path) if how == "client" else None
    out, err, code = await asyncio.to_thread(outcome, FORKING, path)

    assert (out, err, code) == ("True\nTrue\n3\n", "", 0)
    if other is not None:
        other.close()
    assert rows(path, "SELECT status FROM usage") == [("complete",), ("complete",)]
