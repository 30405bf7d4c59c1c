"""Asking many questions at once: never more than may be spent, patient with rate limits, stopped at any moment."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING

from workbench.errors import (
    BudgetExceeded,
    ConfigurationError,
    InvalidRequest,
    StoreBusy,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRefused,
    WorkbenchError,
)
from workbench.wording import dollars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.engine import Engine
    from workbench.mapping.questions import Question, Terms
    from workbench.turns import LiveTurn

ATTEMPTS = 5
"""Of one question; the client itself does not try again."""
PAUSE = 0.5
"""Seconds before the second attempt, doubled for each further one."""
LONGEST_PAUSE = 60.0
"""Seconds; nobody sits out an upstream that asks for more."""
FEW, MANY = 5, 20
"""So many failures in a row for the same reason are a matter of all questions: before any was answered, and after."""
OF_THE_KEY = (401, 402, 403, 404)
"""What the upstream answers about the key, the account or the model, and so to every question."""


class Run:
    """One call of ``wb.map``: what is asked, what came of it, what it cost. It belongs to the engine's loop."""

    def __init__(
        self,
        engine: Engine,
        terms: Terms,
        questions: Sequence[Question],
        *,
        max_cost: Decimal | None = None,
        concurrency: int = 8,
        spent_usd: Decimal = Decimal(0),
    ) -> None:
        self._engine = engine
        self._terms = terms
        self._todo = deque(question for question in questions if not question.ended)
        self._max_cost = max_cost
        self._concurrency = concurrency
        self.total = len(self._todo)
        self.done = 0
        """Questions that have ended, well or not."""
        self.errors = 0
        self.spent_usd = spent_usd
        self.unpriced = False
        self.stopped: WorkbenchError | str | None = None
        """Why questions are left that were not asked: an error they would share, or what ``max_cost`` means for them."""
        self._held_usd = Decimal(0)
        self._in_flight = self._begun = 0
        self._settled = asyncio.Event()
        self._resume_at = 0.0
        self._answered = any(question.ended for question in questions)
        self._alike: tuple[str, int] = ("", 0)
        """How the last questions failed, and how many of them in a row."""

    kept = "What is done is kept; the same call goes on with the rest."
    """What becomes of it when somebody interrupts."""

    @property
    def line(self) -> str:
        """How far it is, in a line."""
        parts = [f"{self.done:,} of {self.total:,} questions", f"{dollars(self.spent_usd)} so far"]
        if self.unpriced:
            parts[1] = "cost unknown"
        elif 0 < self.done < self.total and self.spent_usd:
            parts[1] += f", about {dollars(self.spent_usd / self.done * self.total)} in all"
        if self.errors:
            parts.append(f"{self.errors:,} errors")
        return " · ".join(parts)

    async def run(self) -> None:
        """Ask all that is left.

        Raises:
            WorkbenchError: the first ones fail for a reason that all have; or the store does.
        """
        workers = [asyncio.create_task(self._work()) for _ in range(min(self._concurrency, self.total))]
        try:
            for worker in asyncio.as_completed(workers):
                await worker
        finally:
            for each in workers:
                each.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self) -> None:
        goes_on = True
        while goes_on and (question := await self._next()):
            goes_on = await self._ask(question)

    async def _next(self) -> Question | None:
        """Wait for a question that may be asked now; None when there is none left."""
        while self._todo and self.stopped is None:
            pause = self._resume_at - asyncio.get_running_loop().time()
            if pause > 0:
                await asyncio.sleep(pause)
            elif self._fits(self._todo[0]):
                question = self._todo.popleft()
                self._held_usd += question.worst_usd
                self._in_flight += 1
                self._begun += 1
                return question
            elif self._in_flight:
                self._settled.clear()
                await self._settled.wait()
            else:
                self.stopped = f"max_cost={dollars(self._max_cost)} might have been passed"
        return None

    def _fits(self, question: Question) -> bool:
        return self._max_cost is None or self.spent_usd + self._held_usd + question.worst_usd <= self._max_cost

    async def _ask(self, question: Question) -> bool:
        """Ask a question; return whether there is room for this worker to go on."""
        terms, turn, cost = question.terms or self._terms, None, None
        others, begun = self._in_flight > 1, self._begun
        failure: WorkbenchError | None = None
        chat = terms.chat(question)
        try:
            async with self._engine.turn(terms.caller, chat, question.prompt, schema=terms.sent_schema) as turn:
                async for _ in turn.batches():
                    pass
            cost = turn.cost_usd
        except (InvalidRequest, ConfigurationError, BudgetExceeded, StoreBusy, UpstreamError) as error:
            # that cannot be written yet is answered all the same, and kept by the engine: asked again it would be paid twice
            failure = None if turn is not None and turn.answer.finished else error
            cost = error.reply.cost_usd if error.reply else Decimal(0)
        question.stored = chat.stored
        self._settle(question, cost)
        if isinstance(failure, BudgetExceeded) and (others or self._begun > begun):
            # what the others hold, or one that began later and was faster, may be given back: fewer at once
            self._todo.appendleft(question)
            return self._in_flight == 0
        if failure is not None:
            await self._failed(question, failure)
        elif turn is not None:
            self._ended(question, turn)
        return True

    def _settle(self, question: Question, cost: Decimal | None) -> None:
        self._in_flight -= 1
        self._held_usd -= question.worst_usd
        self.spent_usd += cost or 0
        self.unpriced = self.unpriced or cost is None
        known = cost is not None and question.cost_usd is not None
        question.cost_usd = question.cost_usd + cost if known else None  # type: ignore[operator]
        self._settled.set()

    def _ended(self, question: Question, turn: LiveTurn) -> None:
        allowed = turn.max_tokens if turn.shortened else None
        terms = question.terms or self._terms
        question.values, question.error = terms.read(turn.answer.text, turn.answer.stop_reason, allowed)
        self._end(question)
        self._answered, self._alike = True, ("", 0)

    def _end(self, question: Question) -> None:
        question.ended = True
        self.done += 1
        self.errors += question.error is not None

    async def _failed(self, question: Question, error: WorkbenchError) -> None:
        question.attempts += 1
        if worth_another(error) and question.attempts < ATTEMPTS:
            await self._pause(question, error)
            self._todo.appendleft(question)
            return
        question.error = str(error)
        reason = f"{type(error).__name__}: {error}"
        self._alike = (reason, self._alike[1] + 1 if self._alike[0] == reason else 1)
        for_all = _is_of_all(error)
        if not self._answered and (for_all or self._alike[1] >= FEW):
            raise error
        if for_all or self._alike[1] >= MANY:
            self.stopped = error
        self._end(question)

    async def _pause(self, question: Question, error: WorkbenchError) -> None:
        """Wait before another attempt; when the upstream has too much to do, everybody waits."""
        seconds = pause_before(question.attempts, error)
        if isinstance(error, UpstreamRateLimited | UpstreamOverloaded):
            self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + seconds)
        else:
            await asyncio.sleep(seconds)


def pause_before(attempts: int, error: WorkbenchError) -> float:
    """Return the seconds to wait after so many attempts, of which the last failed like this."""
    seconds = PAUSE * (1 << attempts - 1) * random.uniform(0.75, 1)
    asked = getattr(error, "retry_after", None)
    return seconds if asked is None else max(seconds, asked * random.uniform(1, 1.1))


def worth_another(error: WorkbenchError) -> bool:
    """Whether asking again soon may help."""
    return error.retryable and (getattr(error, "retry_after", None) or 0) <= LONGEST_PAUSE


def _is_of_all(error: WorkbenchError) -> bool:
    """Whether every other question would fail like this."""
    if isinstance(error, ConfigurationError | BudgetExceeded):
        return True
    if isinstance(error, UpstreamRateLimited):
        return not worth_another(error)
    return isinstance(error, UpstreamRefused) and (error.status in OF_THE_KEY or "spend limit" in str(error))
