"""Versions tried on what was really asked: the first questions of chats, asked again of two versions, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from workbench.errors import InvalidRequest, NotFound, PromptError
from workbench.mapping import REPLY_TOKENS, usd_limit
from workbench.mapping.bar import bar_for, say
from workbench.mapping.price import estimated
from workbench.mapping.questions import Question, Terms
from workbench.mapping.run import Run
from workbench.pricing import worst_case
from workbench.prompts import versions
from workbench.prompts.differences import words
from workbench.prompts.text import PRODUCTION, Reference, checked, render
from workbench.runtime import runtime
from workbench.store.queries import query
from workbench.turns import DEFAULT_ID, Caller, ChatInfo, ChatPrompt
from workbench.wording import dollars, plain

if TYPE_CHECKING:
    import pandas as pd

    from workbench.engine import Engine
    from workbench.prompts.versions import Prompt

MOST_QUESTIONS = 1000
CONCURRENCY = 8


def backtest(
    prompt: str,
    against: str | None = None,
    *,
    last: int = 20,
    max_cost: Decimal | float | str | None = 1,
    model: str | None = None,
    max_tokens: int = REPLY_TOKENS,
    show: bool | None = None,
    org: str = DEFAULT_ID,
    user: str = DEFAULT_ID,
) -> pd.DataFrame:
    """Ask the last first questions of a prompt's chats again, of two versions, and return the replies side by side.

    Each question is asked by itself, with the values that its chat had for the prompt's variables. What was asked before
    is taken from the store, as :func:`workbench.map` does, so a call that was interrupted or stopped at ``max_cost`` goes
    on where it was. The calls are rows of the ledger with source ``map``; no chat and no experiment has them.

    Args:
        prompt: The version to try, such as ``support@4``.
        against: What to compare it with; by default where the label production points.
        last: How many of the newest questions. Those with attachments are left out.
        max_cost: US dollars that this call never spends more than; None for no bound.
        model: Who answers; by default each version's own, or the default.
        max_tokens: Upper bound of each reply in tokens.
        show: Whether progress is shown; by default if somebody is watching.
        org: Whose prompt and questions.
        user: Who asks, and pays.

    Returns:
        A row for each question: ``question``, ``before`` and ``after`` (the replies; before is what it is compared with),
        ``diff`` (words taken out as ``[-…-]`` and put in as ``{+…+}``), ``cost_before_usd``, ``cost_after_usd`` (what each
        reply cost when it was made, exact Decimals), ``ms_before``, ``ms_after``, ``error`` and ``chat_id`` (where it was
        asked first).

    Raises:
        PromptError: there is no such prompt, label or version.
        NotFound: no chat has asked it anything yet.
        InvalidRequest: it cannot be asked like this, or ``max_cost`` is too low; nothing was sent.
        ConfigurationError, BudgetExceeded, UpstreamError, StoreError: as :func:`workbench.map`.

    Example::

        wb.prompts.backtest("support@4", against="support@production", last=20, max_cost=1.0)
    """
    limit = usd_limit(max_cost)
    if not isinstance(last, int) or not 1 <= last <= MOST_QUESTIONS:
        raise InvalidRequest(f"last is {last!r}; it must be a whole number from 1 to {MOST_QUESTIONS:,}")
    after = Reference.parse(prompt)
    before = Reference(after.name, PRODUCTION) if against is None else Reference.parse(against)
    trial = Trial(runtime().engine, Caller(org, user, "map"), model, max_tokens)
    runtime().run(trial.prepare(before, after, last))
    trial.hold(limit)
    run = Run(trial.engine, trial.terms, trial.questions, max_cost=limit, concurrency=CONCURRENCY)
    if run.total:
        _ask(run, trial, show)
    return runtime().run(trial.side_by_side(run))


def _ask(run: Run, trial: Trial, show: bool | None) -> None:
    """Ask what is left, and say how far it is and where it stopped."""
    for answers in {each.terms.model for each in trial.questions if each.terms is not None}:
        runtime().make_ready(answers)
    kept = "What is done is kept; the same call goes on with the rest."
    bar = bar_for(show)
    with bar:
        try:
            runtime().run(run.run(), lambda: bar.update(run))
        except KeyboardInterrupt:
            say(f"Interrupted: {run.line}. {kept}")
            raise
        finally:
            bar.update(run)
    if run.stopped is not None:
        say(f"Stopped after {run.line}: {run.stopped}. {kept}")


@dataclass(slots=True)
class Asked:
    """One question of a chat, and how each version was asked it."""

    chat_id: str
    question: str
    sides: list[Question | None] = field(default_factory=list)
    """Before and after; None where the chat's values do not fit the version's variables."""
    error: str | None = None


class Trial:
    """Two versions and the questions they are asked."""

    def __init__(self, engine: Engine, caller: Caller, model: str | None, max_tokens: int) -> None:
        self.engine = engine
        self._caller = caller
        self._model = model
        self._max_tokens = max_tokens
        self._asked: list[Asked] = []
        self._known: dict[str, Question] = {}

    @property
    def questions(self) -> list[Question]:
        """Every question once, both versions' beside each other."""
        return list(self._known.values())

    @property
    def terms(self) -> Terms:
        """Those of the first question; each has its own."""
        terms = next((each.terms for each in self.questions if each.terms), None)
        assert terms is not None
        return terms

    async def prepare(self, before: Reference, after: Reference, last: int) -> None:
        """Find out what is asked, and take what was answered before."""
        backend, org_id = self.engine.store.backend, self._caller.org_id
        pair = [await versions.get(backend, org_id, each) for each in (before, after)]
        if (pair[0].name, pair[0].version) == (pair[1].name, pair[1].version):
            raise InvalidRequest(f"both are {pair[0]}; name another version to compare it with")
        rows = await backend.rows(query("first_questions"), org_id, after.name, last)
        if not rows:
            raise NotFound("question", str(after), "no chat has asked the prompt anything yet, without attachments")
        for chat_id, question, variables in rows:
            asked = Asked(chat_id, question)
            values = msgspec.json.decode(variables) if variables else {}
            for version in pair:
                try:
                    asked.sides.append(self._question(version, question, values))
                except PromptError as error:
                    asked.sides.append(None)
                    asked.error = f"not asked: {error}"
            self._asked.append(asked)
        if not self._known:
            raise InvalidRequest(f"the values of no chat fit: {self._asked[0].error}")
        await self._look_up()

    def _question(self, version: Prompt, question: str, values: dict[str, str]) -> Question:
        given = {name: value for name, value in values.items() if name in version.variables}
        system = render(version.text, checked(version.variables, given, str(version)), str(version))
        model = self.engine.model_for(self._model or version.model)
        chat = ChatInfo(id="", max_tokens=self._max_tokens)
        terms = Terms(
            caller=self._caller,
            model=model,
            system=system,
            max_tokens=self.engine.longest_reply(chat, model, self._max_tokens),
            columns=None,
            prompt=ChatPrompt(name=version.name, version=version.version, variables=given, effort=version.effort),
        )
        id = terms.chat_id(question)
        return self._known.setdefault(id, Question(question, id, terms=terms))

    async def _look_up(self) -> None:
        found = await self.engine.store.mapped(self._caller, list(self._known))
        for id, mapped in found.items():
            question = self._known[id]
            question.stored = True
            answered = question.terms.answered(mapped) if question.terms else None
            if answered:
                question.values, question.error = answered
                question.cached = question.ended = True

    def hold(self, limit: Decimal | None) -> None:
        """Find out the worst case of each question; InvalidRequest when even the least of all is more than the limit."""
        left = [question for question in self.questions if not question.ended]
        if limit is None or not left:
            return
        low, now = Decimal(0), datetime.now(UTC)
        for question in left:
            terms = question.terms or self.terms
            estimate = estimated(1, 0, [question], terms)
            if estimate.low_usd is None:
                raise InvalidRequest(
                    f"the price of model {terms.model!r} is not known, so max_cost cannot be kept; set it to None"
                )
            low += estimate.low_usd
            most = terms.most_input_tokens(question.prompt)
            question.worst_usd = worst_case(terms.model, most, terms.max_tokens, now) or Decimal(0)
        if low > limit:
            raise InvalidRequest(
                f"{len(left):,} questions will cost {dollars(low)} or more, and max_cost={dollars(limit)}; raise it, or "
                "take fewer with last"
            )

    async def side_by_side(self, run: Run) -> pd.DataFrame:
        """Return what came of it."""
        import pandas as pd  # on use: 0.7 s

        ids = [question.chat_id for question in self.questions]
        who = (self._caller.org_id, self._caller.user_id)
        rows = await self.engine.store.backend.rows(query("mapped_calls"), ids, *who)
        calls = {id: call for id, *call in rows}
        return pd.DataFrame([self._row(asked, calls, run) for asked in self._asked], columns=[*COLUMNS])

    def _row(self, asked: Asked, calls: dict[str, list[Any]], run: Run) -> dict[str, Any]:
        texts = [side.values[0] if side is not None and side.values else None for side in asked.sides]
        of = [calls.get(side.chat_id, NO_CALL) if side is not None else NO_CALL for side in asked.sides]
        errors = [asked.error, *(side.error for side in asked.sides if side is not None)]
        if run.stopped is not None and any(side is not None and not side.ended for side in asked.sides):
            errors.append(f"not asked: {run.stopped}")
        before, after = texts
        return {
            "question": asked.question,
            "before": before,
            "after": after,
            "diff": None if before is None or after is None else marked(before, after),
            "cost_before_usd": None if of[0][0] is None else plain(of[0][0]),
            "cost_after_usd": None if of[1][0] is None else plain(of[1][0]),
            "ms_before": of[0][2],
            "ms_after": of[1][2],
            "error": next(filter(None, errors), None),
            "chat_id": asked.chat_id,
        }


NO_CALL: list[Any] = [None, None, None, None]
COLUMNS = (
    "question",
    "before",
    "after",
    "diff",
    "cost_before_usd",
    "cost_after_usd",
    "ms_before",
    "ms_after",
    "error",
    "chat_id",
)


def marked(before: str, after: str) -> str:
    """Return one text with what was taken out and put in marked as git marks words.

    >>> marked("Be brief.", "Be very brief.")
    'Be{+ very+} brief.'
    """
    marks = {"same": "{}", "del": "[-{}-]", "ins": "{{+{}+}}"}
    return "".join(marks[piece.kind].format(piece.text) for piece in words(before, after))
