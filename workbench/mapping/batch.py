"""Asking many questions in Message Batches: half the price, answers within 24 hours, and no question twice.

A batch is begun in the store before it is sent: its questions, what is held for them, and a row for itself. Each question
goes under the id of its turn, which no other has, so whoever finds results knows whose they are, and recording them a
second time changes nothing. What is held stays held until the results are recorded, however long that takes, for the
money is spent by then, whether anybody looks or not; only after 29 days, when the results are gone, is a turn lost.

A process that dies between sending a batch and noting its id leaves a row without one. The API has no name to ask for, so
the next process waits until such a batch would be there, looks through those of that time which have as many questions,
and knows by the ids in the results whether one is it. Only if none is, are its questions asked again.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from workbench.batches import Counts, create, encoded, split, surely_not_created, total
from workbench.budgets import ends
from workbench.engine import to_the_end
from workbench.errors import BudgetExceeded, InvalidRequest, StoreBusy, UpstreamError, WorkbenchError
from workbench.ids import new_id
from workbench.mapping.follow import Follow, being_sent
from workbench.mapping.run import ATTEMPTS, pause_before, worth_another
from workbench.store import batches as kept
from workbench.store.batches import Batch
from workbench.store.store import Overspent
from workbench.wording import dollars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workbench.batches import UpstreamBatch
    from workbench.budgets import Budget
    from workbench.claude import Claude
    from workbench.engine import Engine
    from workbench.mapping.questions import Question, Terms
    from workbench.store.batches import Waiting
    from workbench.turns import LiveTurn, Request

KEPT = timedelta(days=29)
"""So long the API keeps results."""


class BatchRun:
    """One call of ``wb.map`` that asks in batches, or waits for those of an earlier one. It belongs to the engine's loop."""

    def __init__(
        self,
        engine: Engine,
        terms: Terms,
        questions: Sequence[Question],
        waiting: Mapping[str, Waiting],
        *,
        max_cost: Decimal | None = None,
        ask: bool = True,
    ) -> None:
        """Prepare; ``waiting`` are the questions that are in a batch already, and without ``ask`` all it is about."""
        todo = [question for question in questions if not question.ended]
        self._engine = engine
        self._terms = terms
        self._questions = {q.chat_id: q for q in todo if ask or q.chat_id in waiting}
        self._waiting = {id: each for id, each in waiting.items() if id in self._questions}
        self._max_cost = max_cost
        self._ask = ask
        self._held_usd = sum((each.held_usd for each in self._waiting.values()), Decimal(0))
        self._counts: dict[str, Counts] = {}
        self._doing = ""
        self._since = time.monotonic()
        self.total = len(self._questions)
        self.done = 0
        self.errors = 0
        self.spent_usd = Decimal(0)
        self.unpriced = False
        self.stopped: WorkbenchError | str | None = None

    @property
    def line(self) -> str:
        """How far it is, in a line."""
        cost = "cost unknown" if self.unpriced else f"{dollars(self.spent_usd)} so far"
        parts = [f"{self.done:,} of {self.total:,} questions", cost]
        if self._doing:
            parts.append(self._doing)
        elif self._counts and self.done < self.total:
            counts, many = total(self._counts.values()), len(self._counts)
            some = "1 batch" if many == 1 else f"{many} batches"
            told = f"{counts.processing:,} processing, {counts.succeeded:,} succeeded, {counts.errored:,} errored"
            parts.append(f"{some}, {(time.monotonic() - self._since) / 60:.0f} min: {told}")
        if self.errors:
            parts.append(f"{self.errors:,} errors")
        return " · ".join(parts)

    @property
    def kept(self) -> str:
        """What becomes of it when somebody interrupts."""
        if not self._counts:
            return "What was sent goes on by itself, and the same call finds it."
        first, more = next(iter(self._counts)), len(self._counts) - 1
        others = f" and {more} more" if more else ""
        return (
            f"The batch {first}{others} runs on: the same call goes on waiting and asks nothing again, also from another "
            f"process. wb.map_cancel({first!r}) stops it, wb.map_batches() lists what runs."
        )

    async def run(self) -> None:
        """Ask all that is left and wait for the results.

        Raises:
            NoBatches: the server has none; nothing was asked.
            WorkbenchError: nothing could be asked, or the results cannot be had.
        """
        upstream = await self._engine.upstream(self._terms.model)
        follow = Follow(self._engine.store, upstream, self._terms.caller, self)
        batches = await self._found(follow)
        if self._ask:
            batches += await self._begin(upstream, {id for batch in batches for id in self._of(batch)})
        self._doing = ""
        tasks = [asyncio.create_task(follow.to_the_end(batch)) for batch in batches]
        try:
            for task in asyncio.as_completed(tasks):
                await task
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _of(self, batch: Batch) -> list[str]:
        return [chat_id for chat_id, each in self._waiting.items() if each.batch_id == batch.id]

    async def _found(self, follow: Follow) -> list[Batch]:
        """Return the batches that have some of the questions; what was never sent is none."""
        self._doing = "looking for what was sent before"
        found: list[Batch] = []
        batches = await follow.batches()
        now = await kept.waiting(self._engine.store, self._terms.caller)
        self._waiting |= {id: each for id, each in now.items() if id in self._questions}
        for batch in batches:
            if not self._of(batch):
                continue
            identified = await follow.identified(batch)
            if identified is not None:
                found.append(identified)
                self.counted(identified, Counts(processing=identified.questions))
        if batches or self._waiting:
            await self._look_again({id for batch in found for id in self._of(batch)})
        return found

    async def _look_again(self, in_batches: set[str]) -> None:
        """Others wait for nothing: their batch was never there, or another process has recorded it meanwhile."""
        others = list(self._questions.keys() - in_batches)
        for chat_id, mapped in (await self._engine.store.mapped(self._terms.caller, others)).items():
            if self._questions[chat_id].take(mapped, self._terms):
                self.done += 1
        self._waiting = {id: each for id, each in self._waiting.items() if id in in_batches}
        self._held_usd = sum((each.held_usd for each in self._waiting.values()), Decimal(0))

    # Asking ---------------------------------------------------------------------------------------------------------

    async def _begin(self, upstream: Claude, waiting: set[str]) -> list[Batch]:
        self._doing = "preparing"
        turns: list[LiveTurn] = []
        requests: list[Request] = []
        sizes: list[int] = []  # the bodies repeat the system prompt: all of them at once may be gigabytes
        for question in [q for id, q in self._questions.items() if id not in waiting and not q.ended]:
            try:
                turn, request = await self._engine.in_batch(
                    self._terms.caller, self._terms.chat(question), question.prompt, self._terms.sent_schema
                )
            except InvalidRequest as error:
                question.error = str(error)
                self._end(question)
                continue
            turns.append(turn)
            requests.append(request)
            sizes.append(len(encoded(upstream, request)))
            if len(turns) % 100 == 0:
                await asyncio.sleep(0)
        begun: list[Batch] = []
        for part in split(sizes):
            try:
                begun.append(await self._one(upstream, turns[part], requests[part]))
            except (InvalidRequest, BudgetExceeded, UpstreamError, _Nothing) as error:
                if not isinstance(error, _Nothing) and not begun and not waiting:
                    raise
                self.stopped = self.stopped or error  # type: ignore[assignment]
            if self.stopped is not None:
                break
        return begun

    async def _one(self, upstream: Claude, turns: list[LiveTurn], requests: list[Request]) -> Batch:
        """Begin a batch of as many of these questions as may be asked."""
        store, caller = self._engine.store, self._terms.caller
        for _ in range(ATTEMPTS):
            batch_id, now = new_id(), datetime.now(UTC)
            budgets = await store.budgets(caller, now)
            fitting = self._fitting(turns, budgets, now)
            asked = turns[:fitting]
            being_sent.add(batch_id)
            try:
                await store.begin_batch(batch_id, asked, budgets, now + KEPT)
                pairs = zip(asked, requests[:fitting], strict=True)
                bodies = {turn.id: encoded(upstream, request) for turn, request in pairs}
                created = await self._sent(upstream, batch_id, bodies)
            except Overspent:  # somebody else took it
                await kept.withdraw(store, caller, batch_id)
                continue
            except BaseException:  # others need not wait for this process to say what became of it
                await to_the_end(lambda id=batch_id: kept.sent(store, id, None))  # type: ignore[misc]
                raise
            finally:
                being_sent.discard(batch_id)
            held = sum((turn.worst_case_usd or Decimal(0) for turn in asked), Decimal(0))
            self._held_usd += held
            return Batch(batch_id, self._terms.model, fitting, now, None, now, created.id, fitting, held)
        raise StoreBusy("too many turns begin at once on the same budget; ask again")

    def _fitting(self, turns: Sequence[LiveTurn], budgets: Sequence[Budget], now: datetime) -> int:
        """Return how many of the turns, from the first on, may be asked now.

        Raises:
            BudgetExceeded: not even the first.
            _Nothing: it might pass ``max_cost``.
        """
        self.stopped = None
        tightest = min(budgets, key=lambda budget: budget.left_usd, default=None)
        room = None if self._max_cost is None else self._max_cost - self.spent_usd - self._held_usd
        left = None if tightest is None else tightest.left_usd
        if tightest is not None and turns[0].worst_case_usd is None:
            raise InvalidRequest(
                f"the price of model {self._terms.model!r} is not known and {tightest.scope} {tightest.id!r} has a "
                "budget; choose a model whose price is known"
            )
        asked = Decimal(0)
        for n, turn in enumerate(turns):
            worst = turn.worst_case_usd or Decimal(0)
            asked += worst
            if room is not None and asked > room:
                self.stopped = f"max_cost={dollars(self._max_cost)} might have been passed"
            elif left is not None and tightest is not None and asked > left:
                whose, period = f"{tightest.scope} {tightest.id!r}", tightest.period
                self.stopped = BudgetExceeded(whose, left - (asked - worst), worst, period, ends(period, now))
            else:
                continue
            if n:
                return n
            raise self.stopped if isinstance(self.stopped, WorkbenchError) else _Nothing(self.stopped)
        return len(turns)

    async def _sent(self, upstream: Claude, batch_id: str, requests: Mapping[str, bytes]) -> UpstreamBatch:
        created = await self._created(upstream, batch_id, requests)
        self._counts[created.id] = created.request_counts
        if cancelled := await to_the_end(lambda: kept.sent(self._engine.store, batch_id, created.id)):
            raise cancelled
        return created

    async def _created(self, upstream: Claude, batch_id: str, requests: Mapping[str, bytes]) -> UpstreamBatch:
        self._doing = f"sending a batch of {len(requests):,}"
        attempt = 0
        while True:
            attempt += 1
            await kept.sending(self._engine.store, batch_id)
            try:
                return await create(upstream, requests)
            except UpstreamError as error:
                if not surely_not_created(error):
                    raise UpstreamError(
                        f"{error}. It is not known whether the batch was begun; make the same call again: it looks for "
                        "the batch first",
                        retry_after=error.retry_after,
                    ) from None
                if not worth_another(error) or attempt == ATTEMPTS:
                    await kept.withdraw(self._engine.store, self._terms.caller, batch_id)
                    raise
                await asyncio.sleep(pause_before(attempt, error))

    # What came of it ------------------------------------------------------------------------------------------------

    def counted(self, batch: Batch, counts: Counts) -> None:
        """How far a batch is."""
        if batch.upstream_id is not None:
            self._counts[batch.upstream_id] = counts

    def recorded(self, turn: LiveTurn, wrong: str | None) -> None:
        """The result of a question of a batch is in the store."""
        question = self._questions.get(turn.chat.id)
        if question is None or question.ended:
            return
        self._held_usd -= turn.worst_case_usd or Decimal(0)
        self.spent_usd += turn.cost_usd or 0
        self.unpriced = self.unpriced or turn.cost_usd is None
        question.cost_usd, question.stored = turn.cost_usd, True
        if wrong is None:
            question.values, wrong = self._terms.read(turn.answer.text, turn.answer.stop_reason)
        question.error = wrong
        self._end(question)

    def _end(self, question: Question) -> None:
        question.ended = True
        self.done += 1
        self.errors += question.error is not None


class _Nothing(Exception):
    """No question may be asked."""
