"""A question about every row of a table."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from workbench.batches import NoBatches
from workbench.claude import sendable_schema
from workbench.errors import InvalidRequest
from workbench.mapping.bar import bar_for, say
from workbench.mapping.batch import BatchRun
from workbench.mapping.columns import Columns
from workbench.mapping.follow import LISTED, canceled, listed
from workbench.mapping.price import MapEstimate, estimated
from workbench.mapping.questions import Terms, questions_of
from workbench.mapping.run import Run
from workbench.mapping.template import NoPrompt, columns_read, prompts_of
from workbench.pricing import worst_case
from workbench.runtime import runtime
from workbench.store.batches import waiting
from workbench.turns import DEFAULT_ID, LOCAL_MODEL, Caller
from workbench.wording import dollars

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from workbench.mapping.bar import Bar
    from workbench.mapping.columns import Out
    from workbench.mapping.template import Prompt
    from workbench.store.batches import Waiting

R = TypeVar("R", Run, BatchRun)

__all__ = ["MapEstimate", "map", "map_batches", "map_cancel", "map_estimate"]

REPLY_TOKENS = 2048
"""Upper bound of a reply, unless another is given. Newer models think first, and that counts too."""
MOST_AT_ONCE = 256
BOOKKEEPING = ("error", "cost_usd", "cached")


def map(
    df: pd.DataFrame,
    prompt: Prompt,
    out: Out | None = None,
    *,
    model: str | None = None,
    system: str | None = None,
    max_tokens: int = REPLY_TOKENS,
    max_cost: Decimal | float | str | None = None,
    batch: bool | Literal["auto"] = False,
    concurrency: int = 8,
    name: str = "reply",
    show: bool | None = None,
    org: str = DEFAULT_ID,
    user: str = DEFAULT_ID,
) -> pd.DataFrame:
    """Return the table with a reply to a question about every row.

    Each question is asked by itself, without the others. What was answered before, to the same user by the same model with
    the same prompts and bounds, is taken from the store and costs nothing: so a call that was interrupted, stopped at
    ``max_cost`` or had errors goes on where it was when it is made again. Rows that ask the same are asked once. Each
    call to the model is a row of the ledger, with source ``map``; the questions are in no list of chats.

    In a batch (``batch=True``) questions cost half and are answered within 24 hours, mostly within one. The call waits, but
    need not: interrupted, or in a process that dies, the batch runs on, and the same call takes up waiting where it was,
    whatever its ``batch`` says. :func:`map_batches` lists what runs and :func:`map_cancel` stops it. The worst case of a
    batch is held in budgets until its results are recorded.

    Args:
        df: A pandas DataFrame; it is not changed.
        prompt: What is asked: a text with the names of columns in braces (``{{`` is a brace; formats such as
            ``{price:.2f}`` work), or a function that makes one of a row.
        out: What each reply holds: nothing for text, a dict of columns and their types
            (``{"label": ["good", "bad"], "score": float}``) or a pydantic model. Claude's replies are made to fit; the
            embedded model is only told, and hardly ever does.
        model: Who answers; by default as for :class:`~workbench.chat.Chat`.
        system: The system prompt, the same for all.
        max_tokens: Upper bound of each reply in tokens, thinking included; at most CLAUDE_MAX_TOKENS.
        max_cost: US dollars that this call never spends more than. It asks nothing when even the least it could cost is
            more, and no question whose worst case does not fit in what is left; in a batch, where all are asked at once,
            in what is left beside the worst cases of the others.
        batch: Whether they are asked in Message Batches. ``"auto"``: if the server has them, else one by one.
        concurrency: How many questions are asked at once.
        name: What the column of replies is called, without ``out``.
        show: Whether progress is shown; by default if somebody is watching.
        org: On whose behalf; an org's id.
        user: On whose behalf; a user's id.

    Returns:
        The rows and columns of ``df`` and then: ``reply``, or the columns of ``out`` with types of their own (closed
        lists categorical, Int64, Float64, boolean, string; everything may be missing); ``error``, missing where there is
        none; ``cost_usd``, what this call paid for the row, an exact Decimal, None when a price is not known; ``cached``,
        whether the reply was there before or came with another row's. Columns of these names are replaced. A row that
        misses a value of a column the prompt uses, or whose prompt is empty or no text, is not asked and has an error. Text
        that was cut at ``max_tokens`` is kept, beside an error.

    Raises:
        InvalidRequest: it cannot be asked like this, or ``max_cost`` is too low; nothing was sent.
        ConfigurationError, BudgetExceeded, UpstreamError: all rows fail for this reason.
        StoreError: the store cannot be read or written.

    Example::

        reviews = wb.map(reviews, "Classify this review: {text}", out={"label": ["good", "bad"], "score": float}, max_cost=2)

    Source of the price of a batch: https://platform.claude.com/docs/en/build-with-claude/batch-processing
    """
    table = Table(df, prompt, out, model, system, max_tokens, name, org, user)
    limit = usd_limit(max_cost)
    if not isinstance(concurrency, int) or not 1 <= concurrency <= MOST_AT_ONCE:
        raise InvalidRequest(f"concurrency is {concurrency!r}; it must be a whole number from 1 to {MOST_AT_ONCE}")
    if batch not in (True, False, "auto"):
        raise InvalidRequest(f"batch is {batch!r}; it must be True, False or 'auto'")
    if batch is True and table.terms.model == LOCAL_MODEL:
        raise InvalidRequest("the embedded model has no batches; leave batch out, or name a Claude model")
    table.batch = bool(batch) and table.terms.model != LOCAL_MODEL
    table.look_up()
    table.hold(limit)
    if not all(question.ended for question in table.questions):
        table.runtime.make_ready(table.terms.model)
        bar = bar_for(show)
        bar.tell(table.estimate)
        with bar:
            run = table.ask(bar, limit, concurrency, may_do_without=batch == "auto")
        if run.stopped is not None:
            table.tell_left(run)
    return table.result()


def map_estimate(
    df: pd.DataFrame,
    prompt: Prompt,
    out: Out | None = None,
    *,
    model: str | None = None,
    system: str | None = None,
    max_tokens: int = REPLY_TOKENS,
    batch: bool = False,
    name: str = "reply",
    org: str = DEFAULT_ID,
    user: str = DEFAULT_ID,
) -> MapEstimate:
    """Return what :func:`map` would cost with the same arguments, as a range with its reasons. Nothing is sent.

    Example::

        print(wb.map_estimate(reviews, "Classify this review: {text}", out={"label": ["good", "bad"]}))
    """
    table = Table(df, prompt, out, model, system, max_tokens, name, org, user)
    table.batch = batch
    table.look_up()
    return table.estimate()


def map_batches(*, org: str = DEFAULT_ID, user: str = DEFAULT_ID) -> pd.DataFrame:
    """Return the batches of :func:`map` whose results are not in the ledger, and record those that have ended.

    Returns:
        A row per batch as it was found: ``batch`` (the upstream's id, or ours where nobody noted that: the call of map that
        it is from finds it), ``model``, ``questions``, ``created_at``, ``status`` (``in_progress``, ``canceling``, ``ended``,
        ``unknown``), how many questions are ``processing``, ``succeeded``, ``errored``, ``canceled`` and ``expired``, and
        ``held_usd``, what budgets hold for it. One that has ended is recorded and listed for the last time.

    Raises:
        UpstreamError: the server cannot say.
    """
    import pandas as pd

    running = runtime()
    found = running.run(listed(running.engine, Caller(org, user, "map")))
    return pd.DataFrame(found, columns=LISTED)


def map_cancel(batch: str, *, org: str = DEFAULT_ID, user: str = DEFAULT_ID) -> None:
    """Stop a batch of :func:`map`. What was answered by then is charged and recorded by the next call; the rest is not.

    A batch that the server does not know is given up: its questions are recorded as lost, at an estimated cost, and asked
    again by the next call.

    Raises:
        NotFound: no such batch runs.
        UpstreamError: the server cannot be asked.
    """
    running = runtime()
    running.run(canceled(running.engine, Caller(org, user, "map"), batch))


class Table:
    """A table and what is asked about its rows."""

    def __init__(
        self,
        df: pd.DataFrame,
        prompt: Prompt,
        out: Out | None,
        model: str | None,
        system: str | None,
        max_tokens: int,
        name: str,
        org: str,
        user: str,
    ) -> None:
        import pandas as pd

        if not isinstance(df, pd.DataFrame):
            raise InvalidRequest(f"df is of type {type(df).__name__}; it must be a pandas DataFrame")
        columns = None if out is None else Columns(out)
        self.names = columns.names if columns else [name]
        _check_names(self.names, prompt, df)
        self._df = df
        self._prompts = prompts_of(df, prompt)
        self.runtime = runtime()
        self.engine = self.runtime.engine
        system = system if system is None or system.strip() else None
        chat = self.engine.new_chat(system=system, model=model, max_tokens=max_tokens)
        answers = self.engine.model_for(model)
        self.terms = Terms(
            caller=Caller(org, user, "map"),
            model=answers,
            system=system,
            max_tokens=self.engine.longest_reply(chat, answers, max_tokens),
            columns=columns,
            sent_schema=sendable_schema(columns.schema) if columns and answers != LOCAL_MODEL else None,
        )
        self.questions = questions_of(self._prompts, self.terms)
        self.batch = False
        """Whether it is asked in batches."""
        self.waiting: dict[str, Waiting] = {}

    def look_up(self) -> None:
        """Take what was answered before, and note what waits for a batch."""
        left = [question for question in self.questions if not question.ended]
        asked = [question.chat_id for question in left]
        self.runtime.run(self.engine.save_unsaved())  # else what the last call could not write would be asked again
        # first: between the two a batch may end
        self.waiting = self.runtime.run(waiting(self.engine.store, self.terms.caller))
        found = self.runtime.run(self.engine.store.mapped(self.terms.caller, asked))
        for question in left:
            question.waiting = question.chat_id in self.waiting
            question.take(found.get(question.chat_id), self.terms)

    def ask(self, bar: Bar, limit: Decimal | None, concurrency: int, *, may_do_without: bool) -> Run | BatchRun:
        """Ask what is left, and wait for what is in batches."""
        spent, in_batch = Decimal(0), sum(question.waiting and not question.ended for question in self.questions)
        if in_batch and not self.batch:
            say(
                f"{in_batch:,} questions are in a batch that an earlier call began; waiting for it. wb.map_batches() lists "
                "what runs, wb.map_cancel(id) stops it."
            )
        if self.batch or in_batch:
            made = self._batch_run(limit)
            try:
                run = self._follow(made, bar)
            except NoBatches:
                if not may_do_without:
                    raise
                say("The server has no Message Batches; the questions are asked one by one.")
                self.batch = False
                bar.tell(self.estimate)
                run = self._follow(self._batch_run(limit), bar)
            self.look_up()  # another process may have recorded some
            if self.batch:
                return run
            spent = run.spent_usd
        alone = Run(self.engine, self.terms, self.questions, max_cost=limit, concurrency=concurrency, spent_usd=spent)
        return self._follow(alone, bar)

    def _batch_run(self, limit: Decimal | None) -> BatchRun:
        return BatchRun(self.engine, self.terms, self.questions, self.waiting, max_cost=limit, ask=self.batch)

    def _follow(self, run: R, bar: Bar) -> R:
        bar.update(run)
        try:
            self.runtime.run(run.run(), lambda: bar.update(run))
        except KeyboardInterrupt:
            say(f"Interrupted: {run.line}. {run.kept}")
            raise
        finally:
            bar.update(run)
        return run

    def estimate(self) -> MapEstimate:
        """Return what is left to ask will cost."""
        unaskable = sum(isinstance(prompt, NoPrompt) for prompt in self._prompts)
        return estimated(len(self._df), unaskable, self.questions, self.terms, batch=self.batch)

    def hold(self, limit: Decimal | None) -> None:
        """Find out the worst case of each question, of which no more are asked at once than fit the limit.

        Raises:
            InvalidRequest: even the least that it could cost is more, or nobody knows.
        """
        left = [question for question in self.questions if not question.ended]
        if limit is None or not left:
            return
        estimate = self.estimate()
        if estimate.low_usd is None:
            raise InvalidRequest(
                f"the price of model {self.terms.model!r} is not known, so max_cost cannot be kept; leave it out"
            )
        if estimate.low_usd > limit:
            raise InvalidRequest(
                f"{estimate.to_ask:,} questions will cost {estimate.range}, more than max_cost={dollars(limit)}; "
                "raise it, or ask about fewer rows"
            )
        now = datetime.now(UTC)
        for question in left:
            most = self.terms.most_input_tokens(question.prompt)
            question.worst_usd = worst_case(self.terms.model, most, self.terms.max_tokens, now) or Decimal(0)

    def tell_left(self, run: Run | BatchRun) -> None:
        """Say how many questions were not asked, why, and what it would cost to go on."""
        left = self.estimate()
        more, more_to_spend = "", " with a higher max_cost" if isinstance(run.stopped, str) else ""
        if run.done and run.spent_usd:
            more = f", about {dollars(run.spent_usd / run.done * left.to_ask)} at the cost of those so far"
        say(
            f"Stopped after {run.line}: {run.stopped}. {left.to_ask:,} questions are left, which will cost {left.range}{more}. "
            f"What is done is kept; the same call{more_to_spend} goes on with the rest."
        )
        for question in self.questions:
            if not question.ended:
                question.error = f"not asked: {run.stopped}"

    def result(self) -> pd.DataFrame:
        """Return the table with what came of it."""
        import pandas as pd

        values: list[Any] = [None] * len(self._df)
        errors: list[str | None] = [p.reason if isinstance(p, NoPrompt) else None for p in self._prompts]
        costs: list[Decimal | None] = [Decimal(0)] * len(self._df)
        cached = [False] * len(self._df)
        for question in self.questions:
            first, *others = question.rows
            costs[first] = question.cost_usd
            cached[first] = question.cached
            for row in question.rows:
                values[row], errors[row] = question.values, question.error
            for row in others:
                cached[row] = question.ended and question.values is not None
        result = self._df.copy(deep=False)
        if self.terms.columns is None:
            texts = [None if value is None else value[0] for value in values]
            result[self.names[0]] = pd.array(texts, dtype="string")
        else:
            for name, array in self.terms.columns.arrays(values).items():
                result[name] = array
        result["error"] = pd.array(errors, dtype="string")
        result["cost_usd"] = pd.Series(costs, dtype=object).array
        result["cached"] = pd.Series(cached, dtype=bool).array
        return result


def _check_names(names: Sequence[str], prompt: Prompt, df: pd.DataFrame) -> None:
    """Raise InvalidRequest when a column that comes of it would take the place of another, or of what it comes from."""
    if twice := [name for name in names if name in BOOKKEEPING or not isinstance(name, str)]:
        raise InvalidRequest(f"a column of replies cannot be called {twice[0]!r}; choose another name")
    if callable(prompt):
        return
    read = columns_read(prompt, list(df.columns))
    if lost := [name for name in (*names, *BOOKKEEPING) if name in read]:
        raise InvalidRequest(
            f"the prompt reads column {lost[0]!r}, whose place a column of the result would take; rename one of them"
        )


def usd_limit(amount: Decimal | float | str | None) -> Decimal | None:
    """Return ``max_cost`` as an exact amount; InvalidRequest when it is none."""
    if amount is None:
        return None
    try:
        limit = Decimal(str(amount))
    except InvalidOperation:
        limit = Decimal("NaN")
    if not limit.is_finite() or limit < 0:
        raise InvalidRequest(f"max_cost is {amount!r}; it must be an amount of US dollars, such as 0.50")
    return limit
