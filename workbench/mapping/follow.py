"""A batch until the end: finding it again, waiting for it without haste, and recording what it brought."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import msgspec

from workbench.batches import Counts, UpstreamBatch, cancel, newest, results, retrieve, take
from workbench.claude import StreamFault
from workbench.engine import to_the_end
from workbench.errors import NotFound, StoreBusy, UpstreamError
from workbench.mapping.run import ATTEMPTS, pause_before
from workbench.pricing import cost_and_source
from workbench.store import batches as kept
from workbench.store.store import TOGETHER
from workbench.wording import plain

if TYPE_CHECKING:
    from typing import Any

    from workbench.batches import Result
    from workbench.claude import Claude
    from workbench.engine import Engine
    from workbench.store.batches import Batch
    from workbench.store.store import Store
    from workbench.turns import Caller, LiveTurn

log = logging.getLogger("workbench.mapping")

SETTLED = timedelta(seconds=60)
"""After it was sent; by then a batch is in the API's list, or never will be."""
SKEW = timedelta(hours=2)
"""How far this machine's clock and the API's may be apart when a batch is looked for."""
SOONEST, LATEST = 2.0, 60.0
"""Seconds between two looks at a batch: at first, and at most; between, a tenth of the time that it has taken."""
LONGEST_PAUSE = 3600.0
"""Seconds; an upstream may ask for more, but a batch is not left alone for longer."""

LISTED = ("batch", "model", "questions", "created_at", "status", *Counts.__struct_fields__, "held_usd")
"""The columns of ``wb.map_batches``."""

being_sent: set[str] = set()
"""Batches that this process is sending at the moment."""

AGAIN = "; the same call asks again"
UNREAD = {
    "canceled": ("interrupted", "batch_canceled", f"the batch was canceled before this was answered{AGAIN}"),
    "expired": ("failed", "batch_expired", f"the batch expired, after 24 hours, before this was answered{AGAIN}"),
    "unreadable": ("failed", "no_result", f"its result in the batch cannot be read{AGAIN}"),
    None: ("failed", "no_result", f"the batch ended without a result for this{AGAIN}"),
}
"""Results that are no replies, and none at all: status, type of error, and what people are told."""


class Watcher(Protocol):
    """Who wants to know how far batches are."""

    def counted(self, batch: Batch, counts: Counts) -> None:
        """A batch was looked at."""

    def recorded(self, turn: LiveTurn, wrong: str | None) -> None:
        """A result is in the store."""


class Follow:
    """Follows batches of one caller."""

    def __init__(self, store: Store, upstream: Claude, caller: Caller, watcher: Watcher) -> None:
        self._store = store
        self._upstream = upstream
        self._caller = caller
        self._watcher = watcher

    # Finding --------------------------------------------------------------------------------------------------------

    async def batches(self) -> list[Batch]:
        """Return the caller's batches, once all that others are about to send are sent: no question is added to them."""
        while True:
            before = await kept.batches(self._store, self._caller)
            if any([each.id in being_sent or await kept.sent_by_living(self._store, each) for each in before]):
                await asyncio.sleep(SOONEST)
                continue
            after = await kept.batches(self._store, self._caller)  # it may have been sent between the two
            if {each.id for each in after} <= {each.id for each in before}:
                return after

    async def identified(self, batch: Batch) -> Batch | None:
        """Return a batch with the upstream's id; None when it was never there and is withdrawn.

        It waits until a batch that was sent must be in the upstream's list.
        """
        if batch.upstream_id is None and batch.sent_at is not None:
            found = await self._found(batch, batch.sent_at)
            if found is not None:
                await kept.sent(self._store, batch.id, found)
                batch = batch._replace(upstream_id=found)
        if batch.upstream_id is not None:
            return batch
        await kept.withdraw(self._store, self._caller, batch.id)
        there = await kept.batches(self._store, self._caller)  # after all, if another process has found it
        return next((each for each in there if each.id == batch.id), None)

    async def _found(self, batch: Batch, sent_at: datetime) -> str | None:
        """Look for a batch whose id nobody noted."""
        early = (sent_at + SETTLED - datetime.now(UTC)).total_seconds()
        await asyncio.sleep(max(0.0, min(early, SETTLED.total_seconds())))
        known = await kept.upstream_ids(self._store)
        turns = await kept.batch_turns(self._store, self._caller, batch.id)
        for each in reversed(await newest(self._upstream, sent_at - SKEW)):
            alike = each.request_counts.total == batch.questions and each.created_at <= sent_at + SKEW
            if each.id in known or not alike or each.archived_at is not None:
                continue
            await self.ended(batch, each.id)
            async with aclosing(results(self._upstream, each.id, batch.model)) as ended:
                async for result in ended:
                    if result.custom_id in turns:
                        return each.id
        return None

    # Waiting --------------------------------------------------------------------------------------------------------

    async def to_the_end(self, batch: Batch) -> None:
        """Wait until a batch has ended, and record its results."""
        assert batch.upstream_id is not None
        ended = await self.ended(batch, batch.upstream_id)
        await self.collect(batch, ended)

    async def ended(self, batch: Batch, upstream_id: str) -> UpstreamBatch:
        """Return a batch once it has ended. The upstream may be away meanwhile: the batch goes on without us."""
        clock = asyncio.get_running_loop().time
        begun, failures = clock(), 0
        while True:
            pause = min(LATEST, max(SOONEST, (clock() - begun) / 10))
            try:
                now = await retrieve(self._upstream, upstream_id)
            except UpstreamError as error:
                if not error.retryable:
                    raise
                failures = min(failures + 1, ATTEMPTS)
                pause = min(LONGEST_PAUSE, max(pause, pause_before(failures, error)))
            else:
                failures = 0
                self._watcher.counted(batch, now.request_counts)
                if now.ended:
                    return now
            await asyncio.sleep(pause)

    # Recording ------------------------------------------------------------------------------------------------------

    async def collect(self, batch: Batch, ended: UpstreamBatch) -> None:
        """Record every result of a batch that has ended. What another process has recorded stays as it is.

        Results that break off, or are fewer than there must be, are read again.
        """
        for attempt in range(1, ATTEMPTS + 1):
            turns = await kept.batch_turns(self._store, self._caller, batch.id)
            left = {id: turn for id, turn in turns.items() if turn is not None}
            failure = UpstreamError("results are missing")
            try:
                strangers = await self._read(ended.id, batch.model, turns, left)
            except UpstreamError as error:
                if attempt == ATTEMPTS or not error.retryable:
                    raise
                failure = error
            else:
                if not left or attempt == ATTEMPTS:
                    break
            await asyncio.sleep(pause_before(attempt, failure))
        if strangers:
            log.warning("Results of a batch that nobody asked for", extra={"batch": ended.id, "count": strangers})
        await self._record([(turn, settle(turn, None)) for turn in left.values()])

    async def _read(
        self, upstream_id: str, model: str, turns: dict[str, LiveTurn | None], left: dict[str, LiveTurn]
    ) -> int:
        """Record the results of turns that are left, each of them once; return how many are of no turn."""
        strangers, read = 0, []
        async with aclosing(results(self._upstream, upstream_id, model)) as found:
            async for result in found:
                strangers += result.custom_id not in turns
                if (turn := left.pop(result.custom_id, None)) is not None:
                    read.append((turn, settle(turn, result)))
                if len(read) >= TOGETHER:
                    await self._record(read)
                    read = []
        await self._record(read)
        return strangers

    async def _record(self, read: list[tuple[LiveTurn, str | None]]) -> None:
        cancelled = await to_the_end(lambda: self._store.record_batch([turn for turn, _ in read]))
        for turn, wrong in read:
            self._watcher.recorded(turn, wrong)
        if cancelled is not None:
            raise cancelled


class Nobody:
    """Nobody watches."""

    def counted(self, batch: Batch, counts: Counts) -> None:
        pass

    def recorded(self, turn: LiveTurn, wrong: str | None) -> None:
        pass


async def listed(engine: Engine, caller: Caller) -> list[dict[str, Any]]:
    """Return the caller's batches as ``wb.map_batches`` lists them, and record those that have ended."""
    rows = []
    for batch in await kept.batches(engine.store, caller):
        upstream, found = await engine.upstream(batch.model), None
        if batch.upstream_id is not None:
            try:
                found = await retrieve(upstream, batch.upstream_id)
            except UpstreamError as error:
                if error.status != 404:
                    raise
        counts = found.request_counts if found else Counts(processing=batch.questions)
        known = (batch.upstream_id or batch.id, batch.model, batch.questions, batch.created_at.astimezone(UTC))
        status = found.processing_status if found else "unknown"
        values = (*known, status, *msgspec.structs.astuple(counts), plain(batch.held_usd))
        rows.append(dict(zip(LISTED, values, strict=True)))
        if found is not None and found.ended:
            await Follow(engine.store, upstream, caller, Nobody()).collect(batch, found)
    return rows


async def canceled(engine: Engine, caller: Caller, id: str) -> None:
    """Cancel a batch of the caller, or give it up if the upstream does not know it, or nobody what it is called there.

    Raises:
        NotFound: the caller has no such batch, or its results are recorded.
    """
    running = {batch.upstream_id or batch.id: batch for batch in await kept.batches(engine.store, caller)}
    if id not in running:
        raise NotFound("batch", id, "wb.map_batches() lists those that run")
    batch = running[id]
    if batch.id in being_sent or await kept.sent_by_living(engine.store, batch):
        raise StoreBusy(f"the batch {id!r} is being sent; cancel it in a minute")
    try:
        there = batch.upstream_id is not None and await cancel(await engine.upstream(batch.model), id)
    except UpstreamError as error:
        if error.status != 404:
            raise
        there = False
    if not there:
        turns = await kept.batch_turns(engine.store, caller, batch.id)
        lost = [turn for turn in turns.values() if turn is not None]
        for turn in lost:
            settle(turn, None)
            turn.status, turn.error_type = "lost", "batch_unknown"
        await engine.store.record_batch(lost)


def settle(turn: LiveTurn, result: Result | None) -> str | None:
    """Fill a turn with its result, at the price of a batch; return what is wrong with it.

    Nobody pays for what errored, was canceled or expired. What cannot be read, or is missing, may have been charged: its
    input is estimated.
    """
    answer, wrong = turn.answer, None
    kind = None if result is None else result.kind
    if result is not None and kind == "succeeded":
        try:
            take(result, answer)
            turn.status = "complete"
        except StreamFault:
            kind = "unreadable"
    if result is not None and result.error is not None:
        turn.status, turn.error_type, wrong = "failed", result.error.type, str(result.error)
    elif kind != "succeeded":
        turn.status, turn.error_type, wrong = UNREAD[kind]  # type: ignore[assignment]
        answer.started = answer.billed = kind in ("unreadable", None)
    answer.usage = replace(answer.usage, service_tier="batch")
    turn.cost_usd, turn.price_source = cost_and_source(turn.model, turn.usage, turn.started_at)
    return wrong
