"""The store: what it keeps, how it opens after the worst, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from workbench.errors import (
    ConfigurationError,
    InvalidRequest,
    NotFound,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
)
from workbench.ids import new_id
from workbench.store import Store, analyst, duckdb_file
from workbench.store.backend import Statement
from workbench.store.faults import classified
from workbench.store.migrations import MIGRATIONS, number
from workbench.store.queries import query
from workbench.store.shared import Owner, SharedFile
from workbench.turns import DEFAULT_ID, Answer, Caller, ChatInfo, LiveTurn, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workbench.store.backend import Row

ROOT = Path(__file__).parents[1]
ADA = Caller()
BOB = Caller(org_id=DEFAULT_ID, user_id="bob")
EVE = Caller(org_id="evil", user_id=DEFAULT_ID)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def a_turn(chat: ChatInfo, question: str = "hi", text: str = "Hello", **changes: Any) -> LiveTurn:
    """A turn whose reply has come: 10 tokens in and 5 out of Sonnet 5.5, $0.00007."""
    answer = Answer(
        usage=Usage(uncached_input_tokens=10, output_tokens=5),
        counted=True,
        started=True,
        stop_reason="end_turn",
        finished=True,
    )
    answer.open_block(0, {"type": "text", "text": text})
    values: dict[str, Any] = {
        "caller": ADA,
        "chat": chat,
        "question": question,
        "model": "claude-sonnet-5-5",
        "max_tokens": 100,
        "id": new_id(),
        "request_id": new_id(),
        "question_id": new_id(),
        "message_id": new_id(),
        "started_at": NOON,
        "history_messages": 0,
        "left_out_messages": 0,
        "context_tokens": 0,
        "input_estimate": 60,
        "worst_case_usd": Decimal("0.00124"),
        "answer": answer,
        "status": "complete",
        "cost_usd": Decimal("0.00007"),
        "price_source": "by hand",
    }
    return LiveTurn(**values | changes)


def a_chat() -> ChatInfo:
    return ChatInfo(id=new_id())


async def keep(store: Store, turn: LiveTurn) -> LiveTurn:
    await store.begin(turn)
    await store.record(turn)
    return turn


async def two_turns(store: Store, caller: Caller = ADA) -> ChatInfo:
    """A chat of two turns: 10 in, 5 out; then 23 in (those 15 again and 8 new), 7 out."""
    chat = a_chat()
    await keep(store, a_turn(chat, caller=caller))
    second = a_turn(chat, "and you?", "Fine", caller=caller, context_tokens=15, cost_usd=Decimal("0.000116"))
    second.answer.usage = Usage(uncached_input_tokens=23, output_tokens=7)
    await keep(store, second)
    return chat


def child(script: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A process that runs the script with this module's names."""
    head = "import asyncio, os, resource, signal, sys, threading\nfrom tests.test_store import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + script, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def outcome(script: str, *arguments: str) -> tuple[str, str, int]:
    with child(script, *arguments) as process:
        out, err = process.communicate(timeout=120)
    return out, err, process.returncode


def own_file(store: Store) -> duckdb_file.DuckDBFile:
    assert isinstance(store.backend, SharedFile)
    assert isinstance(store.backend._host, Owner)
    return store.backend._host.file


def rows(path: str, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(path) as connection:
        return connection.execute(sql).fetchall()


# What it keeps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT role, content, token_count FROM messages",
            [("user", "hi", 10), ("assistant", "Hello", 5), ("user", "and you?", 8), ("assistant", "Fine", 7)],
        ),
        (
            "SELECT chat_id, role, SUM(token_count) AS total_tokens FROM messages GROUP BY chat_id, role",
            [("CHAT", "user", 18), ("CHAT", "assistant", 12)],
        ),
        (
            """SELECT c.org_id, SUM(m.token_count) AS total_tokens FROM messages m
            JOIN chats c ON m.chat_id = c.id GROUP BY c.org_id""",
            [(DEFAULT_ID, 30)],
        ),
    ],
)
async def test_the_predecessors_queries_run_unchanged(store: Store, sql: str, expected: list[Any]) -> None:
    chat = await two_turns(store)
    table = await store.read_only(sql)

    got = [tuple(row.values()) for row in table.to_pylist()]
    assert sorted(got, key=str) == sorted(
        [tuple(chat.id if v == "CHAT" else v for v in row) for row in expected], key=str
    )


COLUMNS = {
    "messages": "id chat_id org_id seq role content blocks token_count status created_at",
    "usage": """id request_id org_id user_id chat_id message_id source model prompt_name prompt_version experiment
        variant started_at ttft_ms duration_ms input_tokens uncached_input_tokens cache_read_tokens
        cache_write_5m_tokens cache_write_1h_tokens output_tokens thinking_tokens web_searches service_tier stop_reason
        status error_type usage_estimated cost_usd price_source""",
    "chats": "id org_id",
} | dict.fromkeys(
    [
        "users",
        "api_keys",
        "holds",
        "prompts",
        "prompt_versions",
        "prompt_labels",
        "protected_labels",
        "experiments",
        "exposures",
        "experiment_scores",
        "feedback",
    ],
    "org_id",
)


async def test_only_a_turn_that_runs_is_withdrawn(store: Store) -> None:
    chat = await two_turns(store)
    turn = a_turn(chat)
    await store.begin(turn)
    begun = await store.messages(ADA, chat.id)
    await store.withdraw(turn)
    await store.withdraw(turn)  # nothing is left of it
    kept = await store.messages(ADA, chat.id)
    last = await keep(store, turn)
    await store.withdraw(last)

    assert (len(begun), len(kept), len(await store.messages(ADA, chat.id))) == (6, 4, 6)
    assert await store.backend.rows("SELECT state, COUNT(*) FROM holds GROUP BY state") == [("settled", 3)]


async def test_every_table_and_column_of_the_contract_is_there(store: Store) -> None:
    found = await store.backend.rows("SELECT table_name, column_name FROM information_schema.columns")

    have = set(found)
    assert {(table, column) for table, names in COLUMNS.items() for column in names.split()} - have == set()
    assert ("orgs", "id") in have
    assert str((await store.arrow("SELECT cost_usd FROM usage")).schema.field(0).type) == "decimal128(18, 9)"


async def test_a_turn_is_kept_whole(store: Store) -> None:
    chat = a_chat()
    turn = await keep(store, a_turn(chat, ttft_ms=120, duration_ms=900))

    (row,) = (await store.arrow("SELECT * FROM usage")).to_pylist()
    assert (row["id"], row["request_id"], row["message_id"]) == (turn.id, turn.request_id, turn.message_id)
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (10, 5, Decimal("0.000070000"))
    assert (row["status"], row["stop_reason"], row["ttft_ms"], row["duration_ms"]) == ("complete", "end_turn", 120, 900)
    assert row["started_at"] == NOON
    assert await store.backend.rows("SELECT id, state, amount_usd FROM holds") == [
        (turn.id, "settled", Decimal("0.001240000"))
    ]


async def test_recording_a_turn_twice_changes_nothing(store: Store) -> None:
    turn = await keep(store, a_turn(a_chat()))
    everything = "SELECT * FROM usage JOIN holds USING (id) JOIN messages ON messages.id = usage.message_id"
    before = await store.backend.rows(everything)

    await store.begin(turn)
    await store.record(turn)

    assert await store.backend.rows(everything) == before
    assert len(await store.messages(ADA, turn.chat.id)) == 2


async def test_what_is_new_is_kept_beside_what_was_there_already(store: Store) -> None:
    chat = await two_turns(store)
    again = Statement(query("use_chat"), (chat.id, DEFAULT_ID, NOON.replace(hour=13)))
    statement = "INSERT INTO users (org_id, id, created_at) VALUES ($1, $2, $3) ON CONFLICT (org_id, id) DO NOTHING"
    users = [Statement(statement, (DEFAULT_ID, name, NOON)) for name in ("new", DEFAULT_ID, "newer")]
    await store.backend.write([again, *users])

    assert await store.backend.rows("SELECT id FROM users ORDER BY id") == [(DEFAULT_ID,), ("new",), ("newer",)]
    assert await store.backend.rows("SELECT updated_at FROM chats") == [(NOON.replace(hour=13),)]


async def test_a_row_that_a_rule_forbids_is_refused_and_the_next_is_kept(store: Store) -> None:
    turn = a_turn(a_chat())
    await store.begin(turn)
    with pytest.raises(StoreError, match=r"CHECK constraint failed|violates check constraint"):
        await store.backend.write([Statement("UPDATE holds SET state = 'odd' WHERE id = $1", (turn.id,))])
    await store.record(turn)

    assert await store.backend.rows("SELECT state FROM holds") == [("settled",)]


async def test_a_chat_is_as_new_as_its_newest_turn(store: Store) -> None:
    chat = a_chat()
    await keep(store, a_turn(chat, started_at=NOON.replace(hour=13)))
    await keep(store, a_turn(chat))

    assert await store.backend.rows("SELECT created_at, updated_at FROM chats") == [(NOON.replace(hour=13),) * 2]


async def test_a_running_turn_shows_its_question_and_what_was_saved_of_its_reply(store: Store) -> None:
    turn = a_turn(a_chat(), "Tell me", "Once upon")
    await store.begin(turn)
    await store.checkpoint(turn)

    shown = [(m.role, m.content, m.status) for m in await store.messages(ADA, turn.chat.id)]
    assert shown == [("user", "Tell me", "complete"), ("assistant", "Once upon", "streaming")]


async def test_one_failing_statement_undoes_its_whole_transaction(store: Store) -> None:
    good = Statement("INSERT INTO orgs (id, created_at) VALUES ('o', now())")
    with pytest.raises(StoreError):
        await store.backend.write([good, Statement("INSERT INTO nowhere VALUES (1)")])
    await store.backend.write([])

    assert await store.backend.rows("SELECT COUNT(*) FROM orgs WHERE id = 'o'") == [(0,)]


async def test_a_cancelled_caller_does_not_undo_what_is_being_written(store: Store) -> None:
    turn = a_turn(a_chat())
    await store.begin(turn)
    recording = asyncio.create_task(store.record(turn))
    await asyncio.sleep(0)
    recording.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recording

    while await store.backend.rows("SELECT status FROM usage") != [("complete",)]:
        await asyncio.sleep(0.01)  # the test's time limit says when it is undone


@contextlib.contextmanager
def writer_kept_waiting(file: duckdb_file.DuckDBFile) -> Iterator[None]:
    """What is queued in the block is there together when the writer comes to it."""
    go_on = threading.Event()
    file._writer.submit(go_on.wait)
    try:
        yield
    finally:
        go_on.set()


async def test_what_is_queued_together_is_committed_together(
    file_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = own_file(file_store)
    sizes = []
    transaction = file._transaction
    monkeypatch.setattr(file, "_transaction", lambda all, **how: (sizes.append(len(all)), transaction(all, **how)))
    users = [
        Statement("INSERT INTO users (org_id, id, created_at) VALUES ('o', $1, $2)", (f"{n}", NOON)) for n in range(40)
    ]
    with writer_kept_waiting(file):
        written = [file.begin_write([user]) for user in users]
    await asyncio.gather(*map(asyncio.wrap_future, written))

    assert sizes == [16, 16, 8]
    assert await file_store.backend.rows("SELECT COUNT(*) FROM users WHERE org_id = 'o'") == [(40,)]


@pytest.mark.parametrize(
    "wrong", ["INSERT INTO nowhere VALUES (1)", "this is no SQL", "UPDATE users SET created_at = NULL"]
)
async def test_of_those_queued_together_only_the_one_at_fault_fails(file_store: Store, wrong: str) -> None:
    file = own_file(file_store)
    insert = "INSERT INTO users (org_id, id, created_at) VALUES ('o', $1, $2) ON CONFLICT (org_id, id) DO NOTHING"
    await file_store.backend.write([Statement(insert, ("there already", NOON))])
    with writer_kept_waiting(file):
        good = [file.begin_write([Statement(insert, (name, NOON))]) for name in ("a", "there already", "b")]
        bad = file.begin_write([Statement(insert, ("with the bad one", NOON)), Statement(wrong, ())])
        good.append(file.begin_write([Statement(insert, ("c", NOON))]))
    await asyncio.gather(*map(asyncio.wrap_future, good))

    with pytest.raises(StoreError):
        await asyncio.wrap_future(bad)
    kept = await file_store.backend.rows("SELECT id FROM users WHERE org_id = 'o' ORDER BY id")
    assert kept == [("a",), ("b",), ("c",), ("there already",)]


async def test_half_a_surrogate_pair_is_refused_wherever_it_is_sent(store: Store) -> None:
    backend, of_it = store.backend, "SELECT id FROM chats WHERE org_id = $1"
    asked = (
        backend.rows(of_it, "\ud800"),
        backend.arrow(of_it, "\ud800"),
        backend.rows("SELECT id FROM chats WHERE id = ANY($1)", ["\ud800"]),
        backend.write([Statement("DELETE FROM chats WHERE org_id = $1", ("\ud800",))]),
        store.read_only("SELECT '\ud800'"),
    )
    for each in asked:
        with pytest.raises(InvalidRequest, match=r"no text \(NUL or half a surrogate pair\); remove them"):
            await each


async def test_half_a_surrogate_pair_keeps_nothing_from_being_written_that_is_queued_beside_it(
    file_store: Store,
) -> None:
    file, insert = own_file(file_store), "INSERT INTO users (org_id, id, created_at) VALUES ('o', $1, $2)"
    with writer_kept_waiting(file):
        bad, good = [file.begin_write([Statement(insert, (name, NOON))]) for name in ("\ud800", "a")]
    await asyncio.wrap_future(good)

    with pytest.raises(InvalidRequest):
        await asyncio.wrap_future(bad)
    assert await file_store.backend.rows("SELECT id FROM users WHERE org_id = 'o'") == [("a",)]


TURN_TABLES = (
    "SELECT * FROM chats ORDER BY id",
    "SELECT * FROM messages ORDER BY id",
    "SELECT * FROM usage ORDER BY id",
    "SELECT * EXCLUDE (session_id) FROM holds ORDER BY id",
)


def the_same_turns() -> list[LiveTurn]:
    """Nine in six chats, each with ids, words and an end of its own."""
    chats = [ChatInfo(id=f"chat {n}") for n in range(6)]
    ids = ("id", "request_id", "question_id", "message_id")
    turns = [
        a_turn(
            chats[n % 6],
            f"question {n}",
            f"reply {n} ünd",
            worst_case_usd=None if n == 1 else Decimal(n),
            cost_usd=None if n == 1 else Decimal(n),
            ttft_ms=None if n == 2 else n,
            status=("complete", "interrupted", "failed")[n % 3],
            **{name: f"{name} {n}" for name in ids},
        )
        for n in range(9)
    ]
    turns[3].answer.stop_reason = None
    return turns


async def test_turns_written_together_are_as_turns_written_one_by_one(file_store: Store) -> None:
    store = await Store.open(":memory:")
    for turn in the_same_turns():
        await keep(store, turn)
    turns, file = the_same_turns(), own_file(file_store)
    await file_store._begin_known(ADA.org_id, ADA.user_id)
    for work in (
        [file_store.begin(turn) for turn in turns[:5]],
        [file_store.begin(turn) for turn in turns[5:]],  # the first in its chat, and the second in others
        [file_store.record(turn) for turn in reversed(turns)],
    ):
        with writer_kept_waiting(file):
            tasks = [asyncio.create_task(each) for each in work]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    for sql in TURN_TABLES:
        assert await file_store.backend.rows(sql) == await store.backend.rows(sql)
    store.close()


async def test_turns_that_begin_together_in_new_chats_take_one_statement_a_table(
    file_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, sizes = own_file(file_store), []
    transaction = file._transaction
    monkeypatch.setattr(file, "_transaction", lambda all, **how: (sizes.append(len(all)), transaction(all, **how)))
    turns = the_same_turns()[:6]
    await file_store._begin_known(ADA.org_id, ADA.user_id)

    with writer_kept_waiting(file):
        tasks = [asyncio.create_task(file_store.begin(turn)) for turn in turns]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)

    assert sizes == [3]


async def test_what_is_in_a_journal_that_was_deleted_is_written_into_the_file(
    file_store: Store, path: str, tmp_path: Path
) -> None:
    await keep(file_store, a_turn(a_chat()))
    os.unlink(f"{path}.wal")
    await keep(file_store, a_turn(a_chat()))
    await file_store.backend.ledger.rows_in_order(Statement("SELECT 1"))  # comes after the writer's work

    left_by_a_crash = str(tmp_path / "left.duckdb")
    for part in ("", ".wal"):
        shutil.copy(path + part, left_by_a_crash + part)
    assert rows(left_by_a_crash, "SELECT COUNT(*) FROM usage") == [(2,)]


async def test_the_journal_is_written_into_the_file_when_no_query_runs_and_none_runs_meanwhile(
    file_store: Store, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, journal = own_file(file_store), f"{path}.wal"
    with file._cursor():  # a query that is in the middle of it
        await keep(file_store, a_turn(a_chat(), text="x" * 600_000))  # 1.2 MB in the journal
        await file_store.backend.write([])
        before = os.path.getsize(journal)
        await keep(file_store, a_turn(a_chat(), text="x" * 600_000))
        await file_store.backend.write([])
        with_a_query = os.path.getsize(journal)
    asked = []
    cursor = file._cursor

    def while_it_is_written() -> contextlib.AbstractContextManager[Any]:
        if file._door._is_owned() and not asked:  # by the writer, for the checkpoint
            asked.append(file.begin_rows("SELECT COUNT(*) FROM usage", ()))
            with pytest.raises(TimeoutError):
                asked[0].result(0.1)
        return cursor()

    monkeypatch.setattr(file, "_cursor", while_it_is_written)
    await keep(file_store, a_turn(a_chat(), text="x" * 600_000))
    await file_store.backend.write([])

    assert 1_000_000 < before < with_a_query
    assert not os.path.exists(journal) or os.path.getsize(journal) < 10_000
    assert asked[0].result() == [(3,)]


def test_queries_speak_the_dialect_both_databases_share() -> None:
    names = [p.stem for p in (ROOT / "workbench" / "store" / "queries").glob("*.sql")]
    foreign = ("?", "::", "now()", "EXCLUDE", "QUALIFY", "LIST(", "strftime", "epoch", "INSERT OR")

    assert len(names) >= 11
    assert [(n, word) for n in names for word in foreign if word in query(n).split("\n--")[-1]] == []


@pytest.mark.parametrize("name", ["messages", "new_messages"])
async def test_the_messages_of_a_chat_are_found_without_reading_all_others(path: str, name: str) -> None:
    store = await Store.open(path)
    place = ((await two_turns(store)).id, DEFAULT_ID)
    store.close()
    more = [NOON, "q", "hi", "[]", "r", None] if name == "new_messages" else [DEFAULT_ID]
    with duckdb.connect(path) as connection:
        ((_, plan),) = connection.execute(f"EXPLAIN ANALYZE {query(name)}", [*place, *more]).fetchall()

    assert re.search(r"messages\b[^╰]*Type: Index Scan", plan), plan


# Chats --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stranger", [BOB, EVE], ids=["another user", "another org"])
async def test_a_strangers_chat_is_as_if_it_were_not_there(store: Store, stranger: Caller) -> None:
    chat = await two_turns(store)

    with pytest.raises(NotFound):
        await store.chat(stranger, chat.id)
    assert await store.messages(stranger, chat.id) == []
    assert (await store.chats(stranger)).num_rows == 0
    with pytest.raises(InvalidRequest):
        await store.fork(stranger, chat, 2)


async def test_a_chat_comes_back_as_it_was(store: Store) -> None:
    chat = ChatInfo(id=new_id(), system="Be terse.", model="claude-haiku-5-5", max_tokens=50)
    await keep(store, a_turn(chat, "What  is\n this? " + "x" * 60))
    back = await store.chat(ADA, chat.id)

    assert (back.system, back.model, back.max_tokens, back.stored) == ("Be terse.", "claude-haiku-5-5", 50, True)
    assert back.title == "What is this? " + "x" * 45 + "…"
    assert back.created_at == NOON


async def test_a_fork_has_the_first_turns_and_lives_on_its_own(store: Store) -> None:
    chat = await two_turns(store)
    fork = await store.fork(ADA, chat, 2)
    await keep(store, a_turn(fork, "otherwise?", "Yes"))

    kept = [(m.seq, m.role, m.content, m.token_count, m.status) for m in await store.messages(ADA, fork.id)]
    assert kept == [
        (1, "user", "hi", 10, "complete"),
        (2, "assistant", "Hello", 5, "complete"),
        (3, "user", "otherwise?", 10, "complete"),
        (4, "assistant", "Yes", 5, "complete"),
    ]
    assert (await store.chat(ADA, fork.id)).forked_from == chat.id
    assert len(await store.messages(ADA, chat.id)) == 4
    assert await store.chat_cost(ADA, fork.id) == Decimal("0.00007")
    ids = await store.backend.rows("SELECT COUNT(DISTINCT id), COUNT(*) FROM messages")
    assert ids == [(8, 8)]


async def test_a_fork_of_a_fork_tells_what_the_replies_it_shares_used(store: Store) -> None:
    chat = await two_turns(store)
    fork = await store.fork(ADA, chat, 4)
    await keep(store, a_turn(fork, "otherwise?", "Yes"))
    last = await store.fork(ADA, fork, 4)
    own = await keep(store, a_turn(last, "and now?", "No", started_at=datetime(2026, 11, 23, 13, tzinfo=UTC)))
    shared = {row["message_id"]: row for row in (await store.shared_usage(ADA, last.id)).to_pylist()}
    replies = [message for message in await store.messages(ADA, last.id) if message.role == "assistant"]

    assert [shared.pop(reply.id)["uncached_input_tokens"] for reply in replies[:2]] == [10, 23]
    assert (shared, replies[2].id) == ({}, own.message_id)
    assert (await store.chat_usage(ADA, last.id))["message_id"].to_pylist() == [own.message_id]


@pytest.mark.parametrize("at", [-2, 0, 1, 3, 5, 6])
async def test_a_fork_is_made_after_a_whole_turn_only(store: Store, at: int) -> None:
    chat = await two_turns(store)

    with pytest.raises(InvalidRequest, match=f"at must be one of 2, 4, not {at}"):
        await store.fork(ADA, chat, at)
    assert (await store.chats(ADA)).num_rows == 1


async def fork_at(store: Store, chat: ChatInfo, at: int, question: str) -> ChatInfo:
    fork = await store.fork(ADA, chat, at)
    await keep(store, a_turn(fork, question, "Yes"))
    return fork


async def test_the_family_of_a_chat_is_every_fork_with_how_much_it_shares(store: Store) -> None:
    chat = await two_turns(store)
    await two_turns(store)
    fork = await fork_at(store, chat, 2, "otherwise?")
    of_fork = await fork_at(store, fork, 4, "and then?")
    early = await fork_at(store, of_fork, 2, "otherwise?")

    for whose in (chat, fork, of_fork, early):
        family = {branch.chat_id: branch for branch in await store.family(ADA, whose.id)}
        assert {id: (b.forked_from, b.messages, b.shared) for id, b in family.items()} == {
            chat.id: (None, 4, 0),
            fork.id: (chat.id, 4, 2),
            of_fork.id: (fork.id, 6, 4),
            early.id: (of_fork.id, 4, 2),
        }
    assert family[fork.id].asks[3] == family[early.id].asks[3] != family[chat.id].asks[3]


async def test_the_forks_of_a_deleted_chat_stay_a_family(store: Store) -> None:
    chat = await two_turns(store)
    forks = [await fork_at(store, chat, 2, question) for question in ("one", "two")]
    await store.delete_chat(ADA, chat.id)

    assert {branch.chat_id for branch in await store.family(ADA, forks[0].id)} == {fork.id for fork in forks}
    assert await store.family(ADA, chat.id) == []


@pytest.mark.parametrize("stranger", [BOB, EVE], ids=["another user", "another org"])
async def test_a_family_has_no_strangers(store: Store, stranger: Caller) -> None:
    chat = await two_turns(store)
    await keep(store, a_turn(ChatInfo(id=new_id(), forked_from=chat.id), caller=stranger))

    assert [branch.chat_id for branch in await store.family(ADA, chat.id)] == [chat.id]
    assert await store.family(stranger, chat.id) == []


async def test_a_chat_is_called_otherwise_by_whose_it_is_alone(store: Store) -> None:
    chat = await two_turns(store)
    await store.rename_chat(ADA, chat.id, "Greetings")
    assert (await store.chat(ADA, chat.id)).title == "Greetings"

    for stranger in (BOB, EVE):
        with pytest.raises(NotFound):
            await store.rename_chat(stranger, chat.id, "Mine")
    assert (await store.chat(ADA, chat.id)).title == "Greetings"


async def test_a_turn_that_still_runs_is_not_forked(store: Store) -> None:
    turn = a_turn(a_chat())
    await store.begin(turn)

    with pytest.raises(InvalidRequest, match="once the first turn has ended"):
        await store.fork(ADA, turn.chat, 2)


async def test_chats_lists_the_last_used_first_with_their_cost(store: Store) -> None:
    first = await two_turns(store)
    second = a_chat()
    await keep(store, a_turn(second, "later", started_at=NOON.replace(hour=13), cost_usd=None))
    listed = (await store.chats(ADA)).to_pylist()

    assert [row["chat_id"] for row in listed] == [second.id, first.id]
    assert [row["turns"] for row in listed] == [1, 2]
    assert [row["total_tokens"] for row in listed] == [15, 45]
    assert [row["cost_usd"] for row in listed] == [None, Decimal("0.000186")]
    assert listed[1]["models"] == "claude-sonnet-5-5"
    assert await store.chat_cost(ADA, second.id) is None


@pytest.mark.parametrize(("search", "found"), [("HELLO", 1), ("hi", 1), ("100%", 0), ("_", 0), ("nothing", 0), ("", 1)])
async def test_chats_searches_titles_and_messages_whatever_the_case(store: Store, search: str, found: int) -> None:
    await two_turns(store)

    assert (await store.chats(ADA, search)).num_rows == found


async def test_rows_of_a_table_are_found_again_and_are_in_no_list_of_chats(store: Store) -> None:
    mapped = Caller(source="map")
    answered, failed = ChatInfo(id="map-0"), ChatInfo(id="map-1")
    for chat, text, status in (
        (answered, "Fo", "failed"),
        (answered, "Four", "complete"),
        (answered, "Five", "complete"),
        (failed, "", "failed"),
    ):
        await keep(store, a_turn(chat, "2+2?", text, caller=mapped, status=status))
    ids = ["map-0", "map-1", "map-2"]

    assert await store.mapped(ADA, ids) == {"map-0": ("Five", "end_turn", 5), "map-1": (None, None, None)}
    assert await store.mapped(BOB, ids) == await store.mapped(EVE, ids) == await store.mapped(ADA, []) == {}
    assert (await store.chats(ADA)).num_rows == 0


async def test_a_row_asked_by_two_at_once_is_numbered_on(store: Store) -> None:
    for _ in range(2):  # neither knows that the other has begun the chat
        await keep(store, a_turn(ChatInfo(id="map-0"), caller=Caller(source="map")))

    assert [message.seq for message in await store.messages(ADA, "map-0")] == [1, 2, 3, 4]


async def test_what_is_said_in_the_chat_of_a_row_later_is_not_taken_for_its_reply(store: Store) -> None:
    chat = ChatInfo(id="map-0")
    await keep(store, a_turn(chat, "Classify: …", "good", caller=Caller(source="map")))
    await keep(store, a_turn(chat, "Why?", "Because"))

    assert (await store.mapped(ADA, ["map-0"]))["map-0"].content == "good"


async def test_no_chats_is_a_table_with_its_columns(store: Store) -> None:
    empty = await store.chats(ADA)

    assert empty.num_rows == 0
    assert empty.column_names == [
        "chat_id", "title", "created_at", "updated_at", "turns", "total_tokens", "cost_usd", "models", "forked_from", "prompt",
    ]  # fmt: skip
    assert str(empty.schema.field("cost_usd").type) == "decimal128(18, 9)"


# Many at once -------------------------------------------------------------------------------------------------------


async def test_threads_and_event_loops_share_a_store_without_a_wrong_row(store: Store) -> None:
    turns, loops = 12, 4
    wrong: list[object] = []

    async def talk(number: int) -> None:
        caller = Caller(org_id=f"org-{number}", user_id=f"user-{number}")
        chat = a_chat()
        for count in range(1, turns + 1):
            await keep(
                store, a_turn(chat, f"question {count} of {number}", f"reply {count} of {number}", caller=caller)
            )
            messages, table, own = await asyncio.gather(
                store.messages(caller, chat.id),
                store.read_only(
                    f"SELECT COUNT(*) AS n, SUM(output_tokens) AS o FROM usage WHERE org_id = 'org-{number}'"
                ),
                store.chats(caller, f"reply {count} of"),
            )
            said = [f"{what} {n} of {number}" for n in range(1, count + 1) for what in ("question", "reply")]
            if [m.content for m in messages] != said or [m.seq for m in messages] != list(range(1, 2 * count + 1)):
                wrong.append(messages)
            if table.to_pylist() != [{"n": count, "o": 5 * count}] or own.num_rows != 1:
                wrong.append((table, own))

    def run(number: int) -> None:
        try:
            asyncio.run(talk(number))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(loops)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)

    assert wrong == []
    assert await store.backend.rows("SELECT COUNT(*), SUM(output_tokens) FROM usage") == [(48, 240)]


async def test_two_questions_at_once_in_one_chat_get_places_of_their_own(store: Store) -> None:
    chat = a_chat()
    await keep(store, a_turn(chat))
    await asyncio.gather(*(keep(store, a_turn(chat, f"q{n}", f"r{n}")) for n in range(8)))
    messages = await store.messages(ADA, chat.id)

    assert [m.seq for m in messages] == list(range(1, 19))
    pairs = list(zip(messages[2::2], messages[3::2], strict=True))
    assert [question.content[1:] for question, _ in pairs] == [reply.content[1:] for _, reply in pairs]


async def test_slow_analysts_keep_no_turn_waiting(store: Store) -> None:
    slow = [asyncio.create_task(store.read_only(ENDLESS, seconds=60)) for _ in range(duckdb_file.ANALYSTS + 6)]
    await asyncio.sleep(0)
    turn = await keep(store, a_turn(a_chat()))

    assert len(await store.messages(ADA, turn.chat.id)) == 2
    assert not any(task.done() for task in slow)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


# Opening and changing tables ----------------------------------------------------------------------------------------


async def test_opening_again_changes_no_tables(path: str) -> None:
    (await Store.open(path)).close()
    first = rows(path, "SELECT * FROM schema_version")
    (await Store.open(path)).close()

    assert rows(path, "SELECT * FROM schema_version") == first
    assert [(version, name) for version, name, _ in first] == [
        (1, "0001_ledger.sql"),
        (2, "0002_sessions.sql"),
        (3, "0003_messages_of_a_chat.sql"),
        (4, "0004_tenants.sql"),
        (5, "0005_prompts.sql"),
        (6, "0006_batches.sql"),
    ]


NUMBERS = [(number(name),) for name, _ in MIGRATIONS]


def test_no_two_migrations_have_a_number() -> None:
    assert sorted(set(NUMBERS)) == NUMBERS


async def test_a_migration_that_another_branch_had_first_is_applied_when_it_arrives(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = ("0999_late.sql", "ALTER TABLE chats ADD COLUMN late TEXT")
    monkeypatch.setattr(duckdb_file, "MIGRATIONS", [*MIGRATIONS, later])
    (await Store.open(path)).close()
    before = ("0998_before.sql", "ALTER TABLE chats ADD COLUMN before TEXT")
    monkeypatch.setattr(duckdb_file, "MIGRATIONS", [*MIGRATIONS, before, later])
    (await Store.open(path)).close()

    assert rows(path, "SELECT late, before FROM chats") == []
    assert rows(path, "SELECT version FROM schema_version ORDER BY version") == [*NUMBERS, (998,), (999,)]


KILLED_IN_MIGRATION = """
import workbench.store.duckdb_file as file
connect = file.duckdb.connect
class Connection:
    def __init__(self, real): self.real = real
    def __getattr__(self, name): return getattr(self.real, name)
    def execute(self, sql, *rest):
        if sql.startswith(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)
        return self.real.execute(sql, *rest)
file.duckdb.connect = lambda *a, **k: Connection(connect(*a, **k))
asyncio.run(Store.open(sys.argv[1]))
"""


@pytest.mark.parametrize("before", ["BEGIN", "INSERT INTO schema_version", "COMMIT", "CHECKPOINT"])
async def test_a_migration_killed_at_any_point_is_repaired_by_the_next_open(path: str, before: str) -> None:
    assert outcome(KILLED_IN_MIGRATION, path, before)[2] == -signal.SIGKILL
    store = await Store.open(path)
    await two_turns(store)
    store.close()

    assert rows(path, "SELECT version FROM schema_version") == NUMBERS
    assert rows(path, "SELECT COUNT(*) FROM usage") == [(2,)]


async def test_a_migration_that_fails_leaves_nothing_behind(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ("0999_broken.sql", "CREATE TABLE half (a INTEGER); INSERT INTO nowhere VALUES (1)")
    monkeypatch.setattr(duckdb_file, "MIGRATIONS", [*MIGRATIONS, broken])
    with pytest.raises(StoreError, match="nowhere"):
        await Store.open(path)

    assert rows(path, "SELECT version FROM schema_version") == NUMBERS
    assert rows(path, "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'half'") == [(0,)]


async def test_a_later_migration_keeps_the_rows(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await Store.open(path)
    await two_turns(store)
    store.close()
    monkeypatch.setattr(
        duckdb_file, "MIGRATIONS", [*MIGRATIONS, ("0999_note.sql", "ALTER TABLE chats ADD COLUMN note TEXT")]
    )
    store = await Store.open(path)

    assert await store.backend.rows("SELECT note FROM chats") == [(None,)]
    assert await store.backend.rows("SELECT COUNT(*) FROM messages") == [(4,)]
    store.close()


async def test_a_store_of_a_newer_workbench_is_refused_and_left_alone(path: str) -> None:
    (await Store.open(path)).close()
    with duckdb.connect(path) as connection:
        connection.execute("INSERT INTO schema_version VALUES (7, '0007_later.sql', now())")

    with pytest.raises(
        StoreError, match=r"newer workbench \(its tables are version 7, this one knows 6\); update with"
    ):
        await Store.open(path)
    assert rows(path, "SELECT COUNT(*) FROM schema_version") == [(len(NUMBERS) + 1,)]


@pytest.mark.parametrize("url", ["mysql://localhost/x", "s3://bucket/x"])
async def test_an_address_nothing_understands_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="WORKBENCH_STORE"):
        await Store.open(url)


# Requests that may be sent again -------------------------------------------------------------------------------------


async def test_a_key_that_is_given_back_while_it_is_claimed_is_free(address: str) -> None:
    """Its turn fails between the attempt to claim it and the look at who has it."""
    store = await Store.open(address)
    await store.claim(ADA, "key", "fingerprint", "first")
    rows_of = store.backend.rows

    async def given_back_then_rows(sql: str, *parameters: Any) -> list[Row]:
        store.backend.rows = rows_of  # type: ignore[method-assign]
        await store.unclaim(ADA, "first")
        return await rows_of(sql, *parameters)

    store.backend.rows = given_back_then_rows  # type: ignore[method-assign]
    claim = await store.claim(ADA, "key", "fingerprint", "second")
    store.close()

    assert (claim.message_id, claim.done) == ("second", False)


# Processes that die -------------------------------------------------------------------------------------------------


async def test_a_turn_that_is_recorded_while_it_is_being_found_lost_stays_complete(address: str) -> None:
    """The last write of a dying process may arrive after its turn was seen to be open."""
    dying, finder = await Store.open(address), await Store.open(address)
    turn = a_turn(a_chat(), "Tell me", "Once upon a time")
    await dying.begin(turn)
    rows_of = finder.backend.rows

    async def rows_then_record(sql: str, *parameters: Any) -> list[Row]:
        found = await rows_of(sql, *parameters)
        await dying.record(turn)
        return found

    finder.backend.rows = rows_then_record  # type: ignore[method-assign]
    await finder._record_lost(dying.session.id)
    _, reply = await dying.messages(ADA, turn.chat.id)
    billed = await dying.backend.rows("SELECT status FROM usage")
    held = await dying.backend.rows("SELECT state FROM holds")
    for store in (finder, dying):
        store.close()

    assert (reply.content, reply.status, reply.token_count) == ("Once upon a time", "complete", 5)
    assert (billed, held) == ([("complete",)], [("settled",)])


async def test_what_a_lost_turn_thought_and_called_counts_as_what_it_said(address: str) -> None:
    dying, finder = await Store.open(address), await Store.open(address)
    turn = a_turn(a_chat(), "Tell me", "x" * 320, worst_case_usd=Decimal("0.10024"), max_tokens=10_000)
    turn.answer.open_block(1, {"type": "thinking", "thinking": "x" * 3200, "signature": "x" * 1000})
    turn.answer.open_block(2, {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"place": "Oslo"}})
    await dying.begin(turn)
    await dying.checkpoint(turn)

    await finder._record_lost(dying.session.id)
    (billed,) = await dying.backend.rows("SELECT uncached_input_tokens, output_tokens, cost_usd FROM usage")
    for store in (finder, dying):
        store.close()

    # 100 tokens of text, 1,000 of thinking, 16 characters of arguments, and 600 that may have come since
    assert billed == (60, 1705, Decimal("0.01717"))


DYING = """
async def main():
    store = await Store.open(sys.argv[1])
    turn = a_turn(a_chat(), "Tell me", "Once upon a time")
    await store.begin(turn)
    await store.checkpoint(turn)
    print(turn.id, turn.chat.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_a_turn_whose_process_died_is_lost_with_its_text_and_an_estimate(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    out, _, _ = outcome(DYING, path)
    id, chat_id = out.split()
    store = await Store.open(path)
    question, reply = await store.messages(ADA, chat_id)
    (usage,) = (await store.arrow("SELECT * FROM usage")).to_pylist()
    holds = await store.backend.rows("SELECT id, state FROM holds")
    store.close()
    (await Store.open(path)).close()  # and only once

    assert (question.content, reply.content, reply.status) == ("Tell me", "Once upon a time", "lost")
    assert reply.blocks == [{"type": "text", "text": "Once upon a time"}]
    # 60 tokens in were estimated; 16 characters of reply are 5 tokens, and more may have come since, up to the
    # bound of 100: 60 x $2 + 100 x $10 a million
    assert (usage["id"], usage["status"], usage["error_type"]) == (id, "lost", "process_died")
    assert (usage["input_tokens"], usage["output_tokens"], usage["usage_estimated"]) == (60, 100, True)
    assert usage["cost_usd"] == Decimal("0.00112")
    assert holds == [(id, "lost")]
    assert rows(path, "SELECT COUNT(*) FROM usage") == [(1,)]
    assert [r.message for r in caplog.records].count("Turn of a dead process recorded as lost") == 1


# Faults -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"hello", b"hello " * 5000, b"SQLite format 3\0" + b"\0" * 9000])
async def test_a_file_that_is_no_store_is_named_and_left_alone(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)

    with pytest.raises(StoreCorrupt, match="is not a workbench store; set WORKBENCH_STORE to another file, or move"):
        await Store.open(path)
    assert Path(path).read_bytes() == content


async def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match="is not a workbench store"):
        await Store.open(str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("journal", ["", ".wal"])
async def test_a_pipe_is_no_store_and_nobody_waits_for_it(path: str, journal: str) -> None:
    os.mkfifo(path + journal)
    out, err, _ = outcome(
        "try: asyncio.run(asyncio.wait_for(Store.open(sys.argv[1]), 10))\n"
        "except StoreError as error: print(error)\n"
        "finally: sys.stdout.flush(); os._exit(0)  # a thread that waits for the pipe would keep the process",
        path,
    )

    assert out.startswith(f"{path}{journal} is not a workbench store; set WORKBENCH_STORE to another file"), err


async def test_a_database_with_tables_of_the_same_names_is_left_alone(path: str) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE usage (mine INTEGER)")

    with pytest.raises(StoreError, match="holds tables of its own"):
        await Store.open(path)
    assert rows(path, "SELECT COUNT(*) FROM usage") == [(0,)]


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ('IO Error: Cannot open file "/x/s.duckdb": Permission denied', StoreError, "no permission to write the store"),
        ('IO Error: Cannot open file "/x/s.duckdb": Read-only file system', StoreError, "no permission to write"),
        ('IO Error: Cannot open file "/x/s.duckdb": Operation not permitted', StoreError, "no permission to write"),
        ("[Errno 28] No space left on device", StoreFull, "its disk is full; free some space"),
        (
            "IO Error: Trying to read a database file with version number 999, but we can only read 64 to 68.",
            StoreError,
            "newer DuckDB; update with: pip install -U duckdb",
        ),
        ('IO Error: Could not set lock on file "/x/s.duckdb": Resource busy', StoreBusy, "in use by another process"),
        (
            'IO Error: Could not set lock on file "/x/s": Conflicting lock is held in /usr/bin/my python (PID 42) by ada.',
            StoreBusy,
            "in use by /usr/bin/my python (PID 42); close that one, or set WORKBENCH_STORE",
        ),
        ("IO Error: Could not read enough bytes from file: attempted to read", StoreCorrupt, "left as it is"),
        ("Something new\nwith a second line", StoreError, "failed (Something new); try again"),
    ],
)
def test_each_fault_is_one_sentence_that_says_what_to_do(text: str, kind: type[StoreError], says: str) -> None:
    error = classified(duckdb.IOException(text), "/x/s.duckdb")

    assert type(error) is kind
    assert says in str(error)
    assert "/x/s.duckdb" in str(error)
    assert "\n" not in str(error)
    assert error.path == "/x/s.duckdb"


FORBIDDEN = """
asyncio.run(Store.open(":memory:"))  # imports all there is to import
if os.geteuid() == 0: os.setuid(65534)  # root may write anywhere
try: asyncio.run(Store.open(sys.argv[1]))
except StoreError as error: print(type(error).__name__, error)
"""


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    out, err, _ = outcome(FORBIDDEN, str(folder / "store.duckdb"))

    assert err == ""
    assert out.startswith(f"StoreError no permission to write the store {folder / 'store.duckdb'}; set WORKBENCH_STORE")


HOLDING = """
with duckdb.connect(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.read()
"""


async def test_a_file_held_by_a_program_that_does_not_share_names_it_and_its_pid(path: str) -> None:
    with child(HOLDING, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreBusy) as caught:
            await Store.open(path)
        holder.communicate("")
    (await Store.open(path)).close()

    assert caught.value.pid == holder.pid
    assert f"(PID {holder.pid}); close that one" in str(caught.value)
    assert "python" in str(caught.value)


async def test_a_second_store_in_the_same_process_shares_the_file_and_outlives_the_first(
    file_store: Store, path: str
) -> None:
    second = await Store.open(path)
    turn = await keep(file_store, a_turn(a_chat()))
    file_store.close()
    await keep(second, a_turn(turn.chat))

    assert await second.backend.rows("SELECT status FROM usage") == [("complete",), ("complete",)]
    second.close()


FULL = """
def room(bytes): resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, resource.RLIM_INFINITY))
async def refused(writing):
    try: await writing
    except StoreError as error: print(error)
async def main():
    store = await Store.open(sys.argv[1])
    turn = await keep(store, a_turn(a_chat(), "one"))
    used = os.path.getsize(sys.argv[1] + ".wal")
    second = a_turn(turn.chat, "two")
    room(used + 50)
    await refused(store.begin(second))
    room(resource.RLIM_INFINITY)
    await store.begin(second)
    room(os.path.getsize(sys.argv[1] + ".wal") + 50)
    await refused(store.record(second))
    print(await store.backend.rows("SELECT COUNT(*) FROM usage"))
    room(resource.RLIM_INFINITY)
    await store.record(second)
    await keep(store, a_turn(turn.chat, "three"))
    print([m.content for m in await store.messages(ADA, turn.chat.id)])
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def test_a_full_disk_refuses_the_turn_and_once_there_is_room_the_store_goes_on(path: str) -> None:
    out, err, _ = outcome(FULL, path)
    full = f"the store {path} cannot be written, its disk is full; free some space and go on, what was saved is safe"

    assert err == ""
    assert out.splitlines() == [full, full, "[(1,)]", "['one', 'Hello', 'two', 'Hello', 'three', 'Hello']"]
    assert rows(path, "SELECT status, COUNT(*) FROM usage GROUP BY ALL") == [("complete", 3)]


FULL_AT_CHECKPOINT = """
async def main():
    store = await Store.open(sys.argv[1])
    chat, kept, errors = a_chat(), 0, []
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, resource.RLIM_INFINITY))
    while len(errors) < 3:  # the journal is moved into the file again and again
        try:
            await keep(store, a_turn(chat, os.urandom(1_000_000).hex()))
            kept += 1
        except StoreError as error:
            errors.append(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await keep(store, a_turn(chat))
    print(*set(errors), sep="\\n")
    ((complete,),) = await store.backend.rows("SELECT COUNT(*) FROM usage WHERE status = 'complete'")
    print(kept > 0, complete == kept + 1)
    store.close()
asyncio.run(main())
"""


def test_a_disk_that_fills_while_the_journal_is_moved_loses_nothing_either(path: str) -> None:
    out, err, _ = outcome(FULL_AT_CHECKPOINT, path)

    full = f"the store {path} cannot be written, its disk is full; free some space and go on, what was saved is safe"
    assert set(err.splitlines()) <= {full}
    assert out.splitlines() == [full, "True True"]


# A damaged journal --------------------------------------------------------------------------------------------------

KILLED = """
async def main():
    store = await Store.open(sys.argv[1])
    for n in range(20): await keep(store, a_turn(a_chat(), f"question {n}"))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose process was killed after 20 turns, all of them in its journal."""
    path = tmp_path_factory.mktemp("killed") / "store.duckdb"
    outcome(KILLED, str(path))
    return path


def damaged(killed: Path, path: str, journal: bytes) -> None:
    shutil.copy(killed, path)
    Path(f"{path}.wal").write_bytes(journal)


async def turns_after_opening(path: str) -> int:
    store = await Store.open(path)
    ((count,),) = await store.backend.rows("SELECT COUNT(*) FROM usage WHERE status = 'complete'")
    await keep(store, a_turn(a_chat()))
    store.close()
    assert rows(path, "SELECT COUNT(*) FROM usage WHERE status = 'complete'") == [(count + 1,)]
    return int(count)


def aside(path: str) -> list[Path]:
    return list(Path(path).parent.glob("*.wal.damaged-*"))


async def test_a_whole_journal_is_read_without_a_word(
    killed: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    damaged(killed, path, Path(f"{killed}.wal").read_bytes())

    assert await turns_after_opening(path) == 20
    assert aside(path) == []
    assert caplog.records == []


@pytest.mark.parametrize(
    ("where", "least", "most"),
    [(0.002, 0, 0), (0.5, 8, 12), (0.995, 18, 19)],
    ids=["start", "middle", "end"],
)
@pytest.mark.parametrize("how", ["zeroed", "length", "cut"])
async def test_a_damaged_journal_is_read_as_far_as_it_goes_and_set_aside(
    killed: Path, path: str, caplog: pytest.LogCaptureFixture, where: float, least: int, most: int, how: str
) -> None:
    whole = Path(f"{killed}.wal").read_bytes()
    at = int(len(whole) * where)
    journal = {
        "zeroed": whole[:at] + bytes(40) + whole[at + 40 :],
        "length": whole[:at] + b"\xff" * 8 + whole[at + 8 :],
        "cut": whole[:at] + b"\x01",
    }[how]
    damaged(killed, path, journal)

    assert least <= await turns_after_opening(path) <= most
    (kept,) = aside(path)
    assert kept.read_bytes() == journal
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert str(kept) in record.getMessage()
    assert "Everything before them is kept" in record.getMessage()
    assert await turns_after_opening(path) >= least + 1  # and the next open finds nothing amiss
    assert aside(path) == [kept]


async def test_the_journal_stays_short_so_that_opening_after_a_crash_takes_no_seconds(path: str, killed: Path) -> None:
    shutil.copy(killed, path)
    shutil.copy(f"{killed}.wal", f"{path}.wal")
    store = await Store.open(path)
    for text in ("x" * 600_000, "short"):
        await keep(store, a_turn(a_chat(), text=text))
    size = os.path.getsize(f"{path}.wal")
    store.close()

    assert size < 100_000  # the long turn alone takes 1.2 MB of it


async def test_the_journal_of_another_file_is_set_aside(
    killed: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    (await Store.open(path)).close()
    shutil.copy(f"{killed}.wal", f"{path}.wal")

    assert await turns_after_opening(path) == 0
    assert aside(path)[0].read_bytes() == Path(f"{killed}.wal").read_bytes()
    assert [r.levelno for r in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("at", [0, 4096, 12288])
async def test_a_damaged_file_is_left_as_it_was(path: str, at: int) -> None:
    store = await Store.open(path)
    await two_turns(store)
    store.close()
    content = bytearray(Path(path).read_bytes())
    content[at : at + 8] = bytes(8)  # the checksum of a header
    if at == 4096:
        content[8192:8200] = bytes(8)  # there are two of these, and one is enough
    Path(path).write_bytes(content)

    with pytest.raises(StoreCorrupt, match="damaged and was left as it is"):
        await Store.open(path)
    assert Path(path).read_bytes() == bytes(content)


def taken_away(path: Path, aside: Path) -> None:
    path.rename(aside)


def replaced(path: Path, aside: Path) -> None:
    taken_away(path, aside)
    shutil.copy(aside, path)


@pytest.mark.parametrize("spoil", [taken_away, replaced])
async def test_a_file_that_is_not_in_its_place_any_more_is_not_written(
    spoil: Callable[[Path, Path], None], file_store: Store, path: str, tmp_path: Path
) -> None:
    store = file_store
    chat = await two_turns(store)
    spoil(Path(path), tmp_path / "aside")

    with pytest.raises(StoreError, match="was deleted, moved or replaced while in use; put it back, or start a new"):
        await store.begin(a_turn(chat))
    (tmp_path / "aside").replace(path)
    await keep(store, a_turn(chat))
    assert len(await store.messages(ADA, chat.id)) == 6


async def test_half_a_file_is_damaged(path: str) -> None:
    (await Store.open(path)).close()
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])

    with pytest.raises(StoreCorrupt, match="damaged and was left as it is"):
        await Store.open(path)


# SQL of an analyst's own --------------------------------------------------------------------------------------------

MANY = "generate_series(1, 10000) a(i), generate_series(1, 10000) b(i), generate_series(1, 10000) c(i)"
ENDLESS = f"SELECT SUM(a.i * b.i * c.i) FROM {MANY}"


async def still_works(store: Store) -> None:
    assert (await store.read_only("SELECT 1 AS one")).to_pylist() == [{"one": 1}]
    await keep(store, a_turn(a_chat()))


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO orgs (id, created_at) VALUES ('x', now())",
        "WITH new AS (INSERT INTO orgs (id, created_at) VALUES ('x', now()) RETURNING id) SELECT * FROM new",
        "EXPLAIN ANALYZE INSERT INTO orgs (id, created_at) VALUES ('x', now())",
        "SELECT * FROM query('INSERT INTO orgs (id, created_at) VALUES (''x'', now())')",
        "UPDATE orgs SET id = 'x'",
        "DELETE FROM orgs",
        "TRUNCATE orgs",
        "MERGE INTO orgs USING (SELECT 1 AS a) ON true WHEN MATCHED THEN DELETE",
        "DROP TABLE orgs",
        "ALTER TABLE orgs ADD COLUMN x TEXT",
        "CREATE TABLE x (a INTEGER)",
        "CREATE TEMP TABLE orgs AS SELECT 'x' AS id",
        "CREATE TEMP VIEW orgs AS SELECT 'x' AS id",
        "PRAGMA enable_profiling",
        "PRAGMA database_list",
        "SET threads = 1",
        "SET enable_external_access = true",
        "SET VARIABLE x = 1",
        "RESET threads",
        "ATTACH ':memory:' AS other",
        "DETACH store",
        "USE temp",
        "COPY orgs TO 'out.csv'",
        "COPY (SELECT 1) TO '/dev/stdout'",
        "COPY orgs FROM 'in.csv'",
        "EXPORT DATABASE 'out'",
        "IMPORT DATABASE 'in'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CALL enable_logging()",
        "CHECKPOINT",
        "VACUUM",
        "PREPARE p AS SELECT 1",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "CREATE SECRET s (TYPE s3)",
        "SELECT * FROM read_csv('FILE')",
        "SELECT * FROM read_text('FILE')",
        "SELECT * FROM read_blob('FILE')",
        "SELECT * FROM read_json('FILE')",
        "SELECT * FROM read_parquet('FILE')",
        "SELECT * FROM sniff_csv('FILE')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM 'FILE'",
        "SELECT * FROM 'https://example.com/x.csv'",
        "SELECT * FROM read_duckdb('FILE')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM frame",
        "SELECT getenv('HOME')",
        "SELECT $1",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE orgs",
        "",
        "-- nothing",
        "SELECT\x00 1",
    ],
)
async def test_an_analysts_query_reads_tables_and_nothing_else(
    file_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    store = file_store
    monkeypatch.chdir(tmp_path)
    frame = duckdb.sql("SELECT 1 AS a").df()  # within reach of a query that looks for Python variables
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    tables = "SELECT table_name FROM information_schema.tables ORDER BY ALL"
    before = await store.backend.rows(tables), await store.backend.rows("SELECT id FROM orgs")

    with pytest.raises(InvalidRequest):
        await store.read_only(sql.replace("FILE", file.name))

    assert len(frame) == 1
    assert (await store.backend.rows(tables), await store.backend.rows("SELECT id FROM orgs")) == before
    assert await store.backend.rows("SELECT database_name FROM duckdb_databases() WHERE NOT internal") == [("store",)]
    assert {p.name for p in tmp_path.iterdir()} <= {"secret.csv", "store.duckdb", "store.duckdb.wal"}
    await still_works(store)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) AS n FROM usage",
        "SELECT COUNT(*) AS n FROM usage;",
        "SELECT COUNT(*) AS n FROM usage ;; ;\n",
        "/* how many */ SELECT COUNT(*) AS n FROM usage -- so many",
        "WITH u AS (SELECT * FROM usage) SELECT COUNT(*) AS n FROM u",
    ],
)
async def test_comments_and_semicolons_do_not_matter(store: Store, sql: str) -> None:
    assert (await store.read_only(sql)).to_pylist() == [{"n": 0}]


@pytest.mark.parametrize(
    "sql",
    [
        "SHOW TABLES",
        "DESCRIBE usage",
        "SUMMARIZE usage",
        "EXPLAIN SELECT 1",
        "PIVOT users ON org_id USING COUNT(*)",
        "FROM usage SELECT COUNT(*) AS n",
    ],
)
async def test_looking_around_is_allowed(file_store: Store, sql: str) -> None:
    assert (await file_store.read_only(sql)).num_rows > 0


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        ("SELECT id\nFROM orgs\nWHERE nope = 1", "LINE 3: WHERE nope = 1\n              ^"),
        ("SELECT id\nFROM nope", "LINE 2: FROM nope\n             ^"),
        ("SELEC 1", "LINE 1: SELEC 1\n        ^"),
        ("SELECT 1\n/ 'x'::INT", "LINE 2: / 'x'::INT\n          "),  # then they differ by three columns
    ],
)
async def test_the_error_of_a_query_shows_where(store: Store, sql: str, place: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await store.read_only(sql)

    assert place in str(caught.value)
    await still_works(store)


@pytest.mark.parametrize("sql", [ENDLESS, f"SELECT a.i FROM {MANY} WHERE a.i + b.i + c.i < 0"])
async def test_a_query_that_takes_too_long_is_stopped(store: Store, sql: str) -> None:
    with pytest.raises(InvalidRequest, match=r"took longer than 0\.2 s and was stopped; narrow it"):
        await store.read_only(sql, seconds=0.2)
    await still_works(store)


async def test_a_result_too_large_for_the_memory_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyst, "LARGEST_RESULT", 1_000_000)
    with pytest.raises(InvalidRequest, match="result is larger than"):
        await store.read_only(f"SELECT a.i FROM {MANY}")
    await still_works(store)


async def test_a_cancelled_query_is_stopped(file_store: Store) -> None:
    store = file_store
    asked = [asyncio.create_task(store.read_only(ENDLESS, seconds=100)) for _ in range(duckdb_file.ANALYSTS)]
    backend = own_file(store)
    while len(backend._queries) < duckdb_file.ANALYSTS:
        await asyncio.sleep(0.001)
    for task in asked:
        task.cancel()
    await asyncio.wait(asked)
    await still_works(store)  # which an endless query would keep waiting


async def test_many_bad_queries_leave_no_cursor_open(file_store: Store) -> None:
    for _ in range(30):
        with pytest.raises(InvalidRequest):
            await file_store.read_only("SELECT nope")

    backend = own_file(file_store)
    assert backend._cursors == set()
    assert backend._queries == set()


# Closing ------------------------------------------------------------------------------------------------------------


async def test_closing_finishes_what_is_being_written(path: str) -> None:
    store = await Store.open(path)
    turns = [a_turn(a_chat()) for _ in range(20)]
    writing = [asyncio.create_task(keep(store, turn)) for turn in turns]
    while len(await store.backend.rows("SELECT id FROM holds")) < 20:
        await asyncio.sleep(0)
    await asyncio.gather(*writing)
    last = a_turn(a_chat())
    await store.begin(last)
    submitted = asyncio.create_task(store.checkpoint(last))
    await asyncio.sleep(0)
    store.close()
    await submitted

    assert rows(path, "SELECT COUNT(*) FROM usage") == [(20,)]
    assert rows(path, "SELECT content FROM messages WHERE status = 'streaming'") == [("Hello",)]
    assert not Path(f"{path}.wal").exists()


async def test_a_closed_store_says_so_and_closing_again_is_harmless(address: str) -> None:
    store = await Store.open(address)
    store.close()
    store.close()

    for call in (
        store.messages(ADA, "c"),
        store.begin(a_turn(a_chat())),
        store.chats(ADA),
        store.read_only("SELECT 1"),
    ):
        with pytest.raises(StoreError, match="is closed; start a new session to open it again"):
            await call


async def test_closing_under_readers_ends_them_at_once_and_tells_them(address: str) -> None:
    store = await Store.open(address)
    reading = [asyncio.create_task(store.read_only(ENDLESS, seconds=1000)) for _ in range(6)]
    await asyncio.sleep(0)
    await asyncio.to_thread(store.close)
    ends = await asyncio.gather(*reading, return_exceptions=True)

    assert {(type(end), str(end)) for end in ends} == {
        (StoreError, f"the store {address} is closed; start a new session to open it again")
    }


async def test_closing_joins_every_thread_and_frees_the_file(path: str) -> None:
    before = {*threading.enumerate()}
    store = await Store.open(path)
    await two_turns(store)
    assert {t for t in threading.enumerate() if t.name.startswith("workbench-store")} - before
    store.close()

    assert {t for t in threading.enumerate() if t.name.startswith("workbench-store")} - before == set()
    assert outcome("asyncio.run(Store.open(sys.argv[1]))", path) == ("", "", 0)


FORGOTTEN = """
async def main():
    store = await Store.open(sys.argv[1])
    await two_turns(store)
    await store.read_only("SELECT * FROM usage")
    return store
store = asyncio.run(main())
"""
FORGOTTEN_WHILE_READING = """
async def main():
    store = await Store.open(sys.argv[1])
    await two_turns(store)
    reading = store.backend._submit(store.backend._readers, lambda c: print("reading", flush=True))
    reading.result()
    return store, store.backend.read_only(ENDLESS, seconds=1000)
store, query = asyncio.run(main())
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(query, loop)
while not store.backend._queries: pass
"""
RECORDED_AT_EXIT = """
import atexit
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
def call(work): return asyncio.run_coroutine_threadsafe(work, loop).result()
turns = []
@atexit.register
def end():
    for turn in turns: call(store.record(turn))
    loop.call_soon_threadsafe(loop.stop)
store = call(Store.open(sys.argv[1]))
for _ in range(2):
    turns.append(a_turn(a_chat()))
    call(store.begin(turns[-1]))
"""
LOOP_CLOSED_WHILE_WRITING = """
async def main():
    store = await Store.open(sys.argv[1])
    turns = [await keep(store, a_turn(a_chat())) for _ in range(2)]
    for turn in turns:
        task = asyncio.create_task(store.record(turn))
        await asyncio.sleep(0)
        task.cancel()
asyncio.run(main())
"""


@pytest.mark.parametrize("script", [FORGOTTEN, FORGOTTEN_WHILE_READING, RECORDED_AT_EXIT, LOOP_CLOSED_WHILE_WRITING])
def test_a_program_that_never_closes_its_store_ends_quietly_with_everything_kept(path: str, script: str) -> None:
    _, err, code = outcome(script, path)

    assert (err, code) == ("", 0)
    assert rows(path, "SELECT status, COUNT(*) FROM usage GROUP BY ALL") == [("complete", 2)]
    assert not Path(f"{path}.wal").exists()


FORKED_WHILE_OPEN = """
store = asyncio.run(Store.open(sys.argv[1]))
asyncio.run(two_turns(store))
child = os.fork()
if child == 0:
    sys.exit()
ended = os.waitpid(child, 0)[1]
asyncio.run(two_turns(store))
print(os.waitstatus_to_exitcode(ended), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_that_ends_leaves_the_file_to_its_parent(path: str) -> None:
    childs_code, _, code = outcome(
        FORKED_WHILE_OPEN, path
    )  # DuckDB complains on stderr of what the child leaves to the system

    assert (childs_code, code) == ("0\n", -signal.SIGKILL)
    assert rows(path, "SELECT status, COUNT(*) FROM usage GROUP BY ALL") == [("complete", 4)]


def test_a_store_in_memory_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> int:
        with contextlib.closing(await Store.open(":memory:")) as store:
            await two_turns(store)
            return len(await store.backend.rows("SELECT id FROM usage"))

    assert asyncio.run(main()) == 2
    assert list(tmp_path.iterdir()) == []
