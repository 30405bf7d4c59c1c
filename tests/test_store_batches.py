"""Turns that are asked in a batch, in every kind of store."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.test_store import ADA, NOON, a_chat, a_turn
from workbench.budgets import Budget
from workbench.store import batches as kept
from workbench.store import tenants
from workbench.store.batches import IN_BATCH
from workbench.store.check import check
from workbench.store.store import Overspent
from workbench.turns import Caller

if TYPE_CHECKING:
    from workbench.store import Store
    from workbench.turns import LiveTurn

BOB = Caller(ADA.org_id, "bob", "map")
LATER = NOON + timedelta(days=29)


def turns(count: int) -> list[LiveTurn]:
    """Turns in chats of their own."""
    return [a_turn(a_chat(), f"question {n}") for n in range(count)]


async def ids(store: Store) -> list[str]:
    return [batch.id for batch in await kept.batches(store, ADA)]


async def test_a_batch_is_there_until_all_its_results_are(store: Store) -> None:
    asked = turns(3)
    await store.begin_batch("b", asked, (), LATER)

    (batch,) = await kept.batches(store, ADA)
    assert (batch.questions, batch.open_questions, batch.upstream_id, batch.sent_at) == (3, 3, None, None)
    assert batch.held_usd == sum(turn.worst_case_usd or 0 for turn in asked)
    assert set(await kept.waiting(store, ADA)) == {turn.chat.id for turn in asked}
    assert await kept.batches(store, BOB) == [] and await kept.waiting(store, BOB) == {}
    await kept.sending(store, "b")
    await kept.sent(store, "b", "msgbatch_1")
    await kept.sent(store, "b", None)  # what is known is not forgotten
    (batch,) = await kept.batches(store, ADA)
    assert (batch.upstream_id, batch.session_id) == ("msgbatch_1", None) and batch.sent_at is not None
    assert await kept.upstream_ids(store) == {"msgbatch_1"}

    found = await kept.batch_turns(store, ADA, "b")
    first = found[asked[0].id]
    assert (first is not None and first.usage == IN_BATCH) or (first is not None and first.answer.usage == IN_BATCH)
    assert (first.message_id, first.question_id, first.started_at) == (
        asked[0].message_id, asked[0].question_id, asked[0].started_at,
    )  # fmt: skip
    await store.record_batch(asked[:2])
    await store.record_batch(asked[:2])  # as if two processes did
    assert [turn is None for turn in (await kept.batch_turns(store, ADA, "b")).values()].count(True) == 2
    await store.record_batch(asked)
    assert await ids(store) == [] and await kept.waiting(store, ADA) == {}
    assert await store.backend.rows("SELECT COUNT(*), COUNT(duration_ms) FROM usage") == [(3, 0)]
    assert [finding.name for finding in await check(store.backend) if not finding.ok] == []


async def test_a_batch_that_never_was_leaves_only_what_was_there_before(store: Store) -> None:
    old, *new = asked = turns(3)
    await store.begin(old)
    await store.record(old)
    again = a_turn(old.chat, "once more")
    await store.begin_batch("b", [again, *new], (), LATER)
    await store.begin_batch("other", turns(1), (), LATER)
    await kept.withdraw(store, ADA, "b")

    await kept.sent(store, "other", "msgbatch_1")
    await kept.withdraw(store, ADA, "other")  # which is there, as another process has found out
    assert await ids(store) == ["other"]
    assert len(await store.messages(ADA, old.chat.id)) == 2
    assert [await store.messages(ADA, turn.chat.id) for turn in asked[1:]] == [[], []]
    assert await store.backend.rows("SELECT COUNT(*) FROM holds WHERE state = 'open'") == [(1,)]
    assert [finding.name for finding in await check(store.backend) if not finding.ok] == []


async def test_a_batch_above_the_budget_is_refused(store: Store) -> None:
    asked = turns(5)
    worst = asked[0].worst_case_usd
    assert worst is not None
    await store.begin_batch("fits", asked[:2], [Budget("org", ADA.org_id, worst * 4, None)], LATER)
    with pytest.raises(Overspent):
        await store.begin_batch("does not", asked[2:], [Budget("org", ADA.org_id, worst * 4, None)], LATER)
    await kept.withdraw(store, ADA, "does not")

    assert await ids(store) == ["fits"]
    (held,) = await store.backend.rows("SELECT SUM(amount_usd) FROM holds")
    assert held == (Decimal(2) * worst,)


async def test_what_a_batch_holds_is_what_budgets_count(store: Store) -> None:
    await store.begin(turns(1)[0])
    await tenants.set_org(store.backend, ADA.org_id, {"budget_usd": Decimal(5), "budget_period": "day"})
    asked = turns(2)
    await store.begin_batch("b", asked, (), LATER)

    (budget,) = await store.budgets(ADA, NOON)
    assert budget.held_usd == sum(turn.worst_case_usd or 0 for turn in asked) * 3 / 2
    (budget,) = await store.budgets(ADA, NOON + timedelta(hours=23))  # others hold for 15 minutes
    assert budget.held_usd == sum(turn.worst_case_usd or 0 for turn in asked)
    await store.record_batch(asked)
    (budget,) = await store.budgets(ADA, NOON + timedelta(hours=1))
    assert budget.held_usd == 0 and budget.spent_usd == sum(turn.cost_usd or 0 for turn in asked)
