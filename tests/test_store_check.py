"""`workbench store check`: a healthy store is clean, and each way of breaking one is found by its own rule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.test_store import ADA, EVE, a_chat, a_turn, keep, two_turns
from workbench.errors import StoreError
from workbench.store.backend import Statement
from workbench.store.check import RULES, check
from workbench.store.queries import query

if TYPE_CHECKING:
    from workbench.store import Store
    from workbench.turns import LiveTurn

QUERIES = Path(__file__).parents[1] / "workbench" / "store" / "queries"


async def broken(store: Store) -> list[str]:
    return [finding.name for finding in await check(store.backend) if not finding.ok]


async def one_turn(store: Store) -> LiveTurn:
    return await keep(store, a_turn(a_chat()))


async def test_an_empty_store_is_clean(store: Store) -> None:
    assert await broken(store) == []


async def test_a_store_with_turns_of_every_kind_is_clean(store: Store) -> None:
    chat = await two_turns(store)
    await two_turns(store, EVE)
    for status in ("interrupted", "failed", "lost"):
        await keep(store, a_turn(chat, status=status, error_type="upstream_error"))
    fork = await store.fork(ADA, chat, 4)
    await keep(store, a_turn(fork))
    await store.begin(a_turn(a_chat()))  # still running

    statuses = await store.backend.rows("SELECT DISTINCT status FROM messages ORDER BY status")
    assert statuses == [("complete",), ("failed",), ("interrupted",), ("lost",), ("streaming",)]
    assert await broken(store) == []


async def test_a_chat_begun_anew_after_it_was_deleted_is_clean(store: Store) -> None:
    turn = await one_turn(store)
    for table, key in (("messages", "chat_id"), ("holds", "chat_id"), ("chats", "id")):
        await store.backend.write([Statement(f"DELETE FROM {table} WHERE {key} = $1", (turn.chat.id,))])
    await keep(store, a_turn(turn.chat, started_at=turn.started_at.replace(hour=13)))

    assert await store.backend.rows("SELECT COUNT(*) FROM usage") == [(2,)]
    assert [message.seq for message in await store.messages(ADA, turn.chat.id)] == [1, 2]
    assert await broken(store) == []


COLUMNS = {
    "usage": """id, request_id, org_id, user_id, chat_id, message_id, source, model, started_at, input_tokens,
        uncached_input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens,
        thinking_tokens, web_searches, status, usage_estimated, price_source""",
    "holds": """id, request_id, org_id, user_id, chat_id, message_id, source, model, started_at, expires_at, input_tokens,
        state""",
}


def again(table: str, **changes: str) -> str:
    """A row once more, under the id x, with some columns changed."""
    columns = [column.strip() for column in COLUMNS[table].split(",")]
    values = [({"id": "'x'"} | changes).get(column, column) for column in columns]
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {table}"


# $1 is the chat, $2 the reply, $3 the call, which is the hold's id too
BREAKS = {
    "the question became a reply": ("turn_without_question", "UPDATE messages SET role = 'assistant' WHERE seq = 1"),
    "a question at the end": (
        "turn_without_reply",
        """INSERT INTO messages SELECT 'x', chat_id, org_id, 3, 'user', '', '[]', NULL, 'complete', NULL, NULL, created_at
        FROM messages WHERE id = $2""",
    ),
    "a fork's copy without its question": (
        "turn_without_question",
        """INSERT INTO messages SELECT '01234567-0123-0123-0123-0123456789ab-3', chat_id, org_id, 3, 'assistant', '', '[]',
        NULL, 'complete', NULL, NULL, created_at FROM messages WHERE id = $2""",
    ),
    "billed twice": (
        "reply_without_usage",
        again("usage", output_tokens="0", usage_estimated="TRUE"),
    ),
    "a reply without an end": ("reply_nobody_writes", "UPDATE messages SET status = 'streaming' WHERE id = $2"),
    "a call of a reply that is not there": (
        "usage_without_reply",
        again("usage", message_id="'nowhere'"),
    ),
    "the chat is gone": ("message_without_chat", "DELETE FROM chats WHERE id = $1"),
    "the chat is another org's": ("message_without_chat", "UPDATE chats SET org_id = 'evil' WHERE id = $1"),
    "the org is gone": ("usage_without_org", "DELETE FROM orgs"),
    "a hold for nothing": (
        "hold_without_message",
        again("holds", message_id="'nowhere'", state="'open'"),
    ),
    "a hold forgotten": ("hold_left_open", "UPDATE holds SET state = 'open' WHERE id = $3"),
    "a hold settled for nothing": ("hold_settled_unbilled", again("holds")),
    "numbers begin at 2": ("gap_in_chat", "UPDATE messages SET seq = seq + 1"),
    "input above its parts": ("input_not_its_sum", "UPDATE usage SET input_tokens = 11"),
    "more thinking than output": ("thinking_above_output", "UPDATE usage SET thinking_tokens = 6"),
    "a cost below nothing": ("negative_amount", "UPDATE usage SET cost_usd = -0.000000001"),
    "searches below nothing": ("negative_amount", "UPDATE usage SET web_searches = -1"),
    "a reply longer than billed": ("sums_differ", "UPDATE messages SET token_count = 6 WHERE id = $2"),
    "a reply without a count": ("sums_differ", "UPDATE messages SET token_count = NULL WHERE id = $2"),
    "used before begun": ("chat_used_before_begun", "UPDATE chats SET updated_at = updated_at - INTERVAL '1' DAY"),
}


@pytest.mark.parametrize("how", BREAKS)
async def test_a_broken_store_is_found_by_exactly_the_rule_it_breaks(store: Store, how: str) -> None:
    rule, sql = BREAKS[how]
    turn = await one_turn(store)
    if "question became" in how:  # the two messages of another turn stay right
        sql += " AND chat_id = $1"
    await store.backend.write([fitted(sql, turn)])

    expected = {rule} | ALSO.get(how, set())
    assert set(await broken(store)) == expected


ALSO = {
    # a reply in the place of the question is itself one that was never billed
    "the question became a reply": {"reply_without_usage"},
}


def fitted(sql: str, turn: LiveTurn) -> Statement:
    """The statement with the parameters it uses, in its order."""
    values = {"1": turn.chat.id, "2": turn.message_id, "3": turn.id}
    used = sorted(set(re.findall(r"\$(\d)", sql)))
    for place, name in enumerate(used, 1):
        sql = sql.replace(f"${name}", f"${place}")
    return Statement(sql, tuple(values[name] for name in used))


async def test_a_reply_that_was_never_billed_is_found_as_that(store: Store) -> None:
    turn = await one_turn(store)
    await store.backend.write(
        [Statement("DELETE FROM usage WHERE id = $1", (turn.id,)), Statement("DELETE FROM holds", ())]
    )

    assert await broken(store) == ["reply_without_usage"]


async def test_a_finding_counts_all_and_names_the_first_five(store: Store) -> None:
    for _ in range(7):
        await one_turn(store)
    await store.backend.write([Statement("UPDATE usage SET input_tokens = 1")])
    ids = sorted(id for (id,) in await store.backend.rows("SELECT id FROM usage"))

    (found,) = [finding for finding in await check(store.backend) if not finding.ok]
    assert (found.name, found.broken, list(found.ids)) == ("input_not_its_sum", 7, ids[:5])


async def test_an_estimate_may_differ_from_the_count_of_its_reply(store: Store) -> None:
    turn = await one_turn(store)
    await store.backend.write(
        [Statement("UPDATE usage SET usage_estimated = TRUE, output_tokens = 9 WHERE id = $1", (turn.id,))]
    )

    assert await broken(store) == []


async def test_a_check_of_a_closed_store_is_an_error_and_not_a_clean_bill(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError):
        await check(store.backend)


def test_every_rule_has_its_query_and_every_query_its_rule_and_its_break() -> None:
    named = {path.stem.removeprefix("check_") for path in QUERIES.glob("check_*.sql")}

    assert named == set(RULES)
    assert {rule for rule, _ in BREAKS.values()} == named
    assert all(query(f"check_{name}").startswith("-- ") for name in named)
