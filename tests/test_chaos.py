"""A short form of ``make chaos``, and that it would notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos import answer
from tests.chaos.facts import FactViolated, Told, verify
from tests.chaos.run import Figures, chaos
from tests.test_store import a_chat, a_turn, keep
from workbench.store import Store
from workbench.store.backend import Statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KILLS, SEED = 6, 24
"""With this one owners, clients and both are killed, and connections are ended twice."""


async def after_kills(backend: str, folder: Path, **options: Any) -> Figures:
    figures = Figures(backend)
    await chaos(figures, KILLS, SEED, folder, **options)
    print(figures)
    return figures


async def test_own_file_loses_nothing_acknowledged_and_halves_no_turn_when_its_process_is_killed(
    tmp_path: Path,
) -> None:
    figures = await after_kills("own", tmp_path)

    assert figures.killed == {"writer": KILLS}
    assert figures.acknowledged >= 2 * KILLS
    assert figures.lost > 0


async def test_a_shared_file_loses_nothing_acknowledged_when_owners_and_clients_are_killed(tmp_path: Path) -> None:
    figures = await after_kills("client", tmp_path)

    assert figures.killed == {"owner": 5, "client": 4}
    assert figures.acknowledged >= 2 * KILLS
    assert figures.lost > 0


async def test_postgresql_loses_nothing_acknowledged_when_processes_are_killed_and_connections_ended(
    tmp_path: Path, postgres: Any
) -> None:
    figures = await after_kills("postgresql", tmp_path, server=postgres)

    assert figures.killed == {"writer": KILLS}
    assert figures.disconnected > 0
    assert figures.acknowledged >= 2 * KILLS


# That it would notice -----------------------------------------------------------------------------------------------


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """Two turns: one was acknowledged, of the other the beginning was saved before its process died."""
    store = await Store.open(":memory:")
    await keep(store, a_turn(a_chat(), "Q", answer("Q"), id="t1", message_id="m1"))
    cut = a_turn(a_chat(), "Q", "To Q: alpha", id="t2", message_id="m2")
    await store.begin(cut)
    await store.checkpoint(cut)
    await store._record_lost(store.session.id)
    yield store
    store.close()


def told() -> Told:
    return Told({"t1": "kept", "t2": "saved"}, {"t2": len("To Q: alpha")}, {"t1": "m1"})


async def test_a_sound_store_is_found_to_be_so(store: Store) -> None:
    assert {turn.id: turn.status for turn in await verify(store, told())} == {"t1": "complete", "t2": "lost"}


@pytest.mark.parametrize(
    ("damage", "noticed"),
    [
        ("DELETE FROM holds WHERE id = 't1'", "an acknowledged turn is in the store: t1"),
        ("DELETE FROM holds WHERE id = 't2'", "a question is in the store before Claude is asked: t2"),
        ("DELETE FROM messages WHERE role = 'user'", "a turn has its question and its reply"),
        ("DELETE FROM messages WHERE id = 'm1'", "a turn has its question and its reply"),
        ("UPDATE messages SET status = 'lost' WHERE id = 'm1'", "an acknowledged turn is complete"),
        ("UPDATE messages SET id = 'm3' WHERE id = 'm1'; UPDATE holds SET message_id = 'm3' WHERE id = 't1'",
         "an acknowledged turn is complete"),
        ("DELETE FROM usage WHERE id = 't1'", "a turn is billed exactly once"),
        ("INSERT INTO usage SELECT * REPLACE ('t3' AS id) FROM usage WHERE id = 't1'", "a turn is billed exactly once"),
        ("UPDATE holds SET state = 'open' WHERE id = 't1'", "its reply, its bill and its hold agree"),
        ("UPDATE usage SET status = 'lost' WHERE id = 't1'", "its reply, its bill and its hold agree"),
        ("UPDATE messages SET content = 'To Q: alpha' WHERE id = 'm1'", "a complete reply is whole"),
        ("UPDATE messages SET content = 'To R: alpha' WHERE id = 'm2'", "a lost reply is the beginning of the whole one"),
        ("UPDATE messages SET content = 'To Q: alph' WHERE id = 'm2'", "what was saved of a reply is kept"),
        ("UPDATE messages SET seq = seq + 1 WHERE id IN (SELECT id FROM messages WHERE chat_id = (SELECT chat_id FROM messages WHERE id = 'm1'))",
         "the ledger holds together: messages of a chat are numbered without gaps"),
    ],
)  # fmt: skip
async def test_what_is_not_as_it_must_be_is_named(store: Store, damage: str, noticed: str) -> None:
    await store.backend.write([Statement(sql, ()) for sql in damage.split("; ")])

    with pytest.raises(FactViolated) as violated:
        await verify(store, told())
    assert noticed in str(violated.value)


async def test_a_turn_may_be_under_way_only_while_its_process_lives(store: Store) -> None:
    await store.begin(a_turn(a_chat(), "Q", id="t3"))

    assert {turn.id for turn in await verify(store, told(), {store.session.id})} == {"t1", "t2"}
    with pytest.raises(FactViolated, match=r"a turn is billed exactly once: .*t3"):
        await verify(store, told())
