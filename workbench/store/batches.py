"""What was asked in batches: which of them are on their way, and what becomes of those that are not there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from workbench.store.backend import Statement
from workbench.store.queries import query
from workbench.store.sessions import Known
from workbench.turns import Answer, Caller, ChatInfo, LiveTurn, Usage

if TYPE_CHECKING:
    from decimal import Decimal

    from workbench.store.store import Store

IN_BATCH = Usage(service_tier="batch")


class Batch(NamedTuple):
    """A batch with questions whose results are not recorded."""

    id: str
    model: str
    questions: int
    created_at: datetime
    session_id: str | None
    sent_at: datetime | None
    upstream_id: str | None
    open_questions: int
    held_usd: Decimal


class Waiting(NamedTuple):
    """A question that waits for the result of a batch."""

    batch_id: str
    held_usd: Decimal


async def batches(store: Store, caller: Caller) -> list[Batch]:
    """Return the caller's batches of which not every result is recorded, oldest first."""
    return [Batch(*row) for row in await store.backend.rows(query("batches"), caller.org_id, caller.user_id)]


async def waiting(store: Store, caller: Caller) -> dict[str, Waiting]:
    """Return which questions of the caller wait for a batch, by the id of their chat."""
    table = await store.backend.arrow(query("in_batches"), caller.org_id, caller.user_id)
    return {chat: Waiting(*rest) for chat, *rest in zip(*(c.to_pylist() for c in table.columns), strict=True)}


async def batch_turns(store: Store, caller: Caller, batch_id: str) -> dict[str, LiveTurn | None]:
    """Return the turns of a batch by their ids, None for those that are recorded."""
    table = await store.backend.arrow(query("batch_turns"), batch_id, caller.org_id)
    turns: dict[str, LiveTurn | None] = {}
    for row in zip(*(c.to_pylist() for c in table.columns), strict=True):
        id, request_id, user, key, chat, message, model, at, tokens, held, state, most, question = row
        turns[id] = None
        if state == "open":
            turns[id] = LiveTurn(
                caller=Caller(caller.org_id, user, "map", key),
                chat=ChatInfo(id=chat, max_tokens=most, stored=True),
                question="",
                model=model,
                max_tokens=most or 0,
                id=id,
                request_id=request_id,
                question_id=question,
                message_id=message,
                started_at=at.astimezone(UTC),
                history_messages=0,
                left_out_messages=0,
                context_tokens=0,
                input_estimate=tokens,
                worst_case_usd=held,
                answer=Answer(usage=IN_BATCH),
            )
    return turns


async def upstream_ids(store: Store) -> set[str]:
    """Return the upstream's ids of all batches that are known, of all orgs."""
    rows = await store.backend.rows("SELECT upstream_id FROM batches WHERE upstream_id IS NOT NULL")
    return {id for (id,) in rows}


async def sent_by_living(store: Store, batch: Batch) -> bool:
    """Whether another process that is alive has yet to say what became of a batch it sends."""
    if batch.session_id is None or batch.session_id == store.session.id:
        return False
    sessions = [Known(*row) for row in await store.backend.rows(query("sessions"))]
    return any(session.alive() for session in sessions if session.id == batch.session_id)


async def sending(store: Store, batch_id: str) -> None:
    """Note that a batch is sent now: from here on it may be there."""
    sql = "UPDATE batches SET sent_at = $2 WHERE id = $1"
    await store.backend.write([Statement(sql, (batch_id, datetime.now(UTC)))])


async def sent(store: Store, batch_id: str, upstream_id: str | None) -> None:
    """Note what a batch that was sent is called upstream; None when nobody knows whether it is there."""
    sql = "UPDATE batches SET upstream_id = COALESCE(upstream_id, $2), session_id = NULL WHERE id = $1"
    await store.backend.write([Statement(sql, (batch_id, upstream_id))])


async def withdraw(store: Store, caller: Caller, batch_id: str) -> None:
    """Take back a batch that was never there: nothing was asked, so nothing of it is kept.

    One whose upstream id somebody has noted meanwhile is left alone.
    """
    which = (batch_id, caller.org_id)
    names = ("withdraw_questions", "withdraw_replies", "withdraw_holds")
    gone = "DELETE FROM batches WHERE id = $1 AND org_id = $2 AND upstream_id IS NULL"
    await store.backend.write([*(Statement(query(name), which) for name in names), Statement(gone, which)])
