"""What it would have cost otherwise: another model, cache or history policy, or in batches.

Every stored chat is replayed with its real gaps, see :mod:`workbench.ledger.replay`. What nobody can know is a range, and
the range says where it comes from.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import InvalidRequest
from workbench.ledger.caching import evicted_share
from workbench.ledger.columns import CACHES, EPOCH, FIVE_MINUTES, HOUR, MICROSECOND, NANO, OFF
from workbench.ledger.policies import BLOCKS, POLICIES, SLIDING, WHOLE, list_price
from workbench.ledger.recorded import Scope, chats_of, scope_of, texts_of
from workbench.ledger.replay import USUAL_SHORTEST, Assumptions, Scenario, replayed
from workbench.ledger.retokenising import Ratio, token_ratio
from workbench.models import SUCCESSORS, refuse_retired
from workbench.pricing import context_window
from workbench.runtime import runtime
from workbench.turns import DEFAULT_ID, LOCAL_MODEL
from workbench.wording import counted, dollars, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from workbench.chat import Chat as AnyChat
    from workbench.ledger.columns import Ints
    from workbench.ledger.frames import Moment
    from workbench.ledger.reading import Chats
    from workbench.ledger.replay import Replay

    Some = str | Sequence[str] | None

SHORTER, LONGER = 0.8, 1.25
"""What another model's replies may be of the recorded ones. Assumed: no ledger can tell."""
MOST_TEXTS = 400
LEAST_MISSED = 0.02
"""The part of expected cache reads that may fail, even if none did so far. Assumed: the cache promises nothing."""
WORTH_IT = Decimal("0.05")
"""The least part of the cost for which a change of policy is recommended."""
CACHE_WORDS = {OFF: "no cache", FIVE_MINUTES: "a cache of 5 minutes", HOUR: "a cache of an hour"}
SHORT_NAMES = {"whole": WHOLE, "sliding": SLIDING, "blocks": BLOCKS}
AS_IT_WAS = "as it was"
COLUMNS = ("scenario", "model", "cache", "history", "batch", "calls")
AMOUNTS = ("low_usd", "likely_usd", "high_usd", "difference_usd")


def what_if(
    model: Some = None,
    cache: Some = None,
    history: Some = None,
    batch: bool = False,
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    chat: AnyChat | str | None = None,
    limit: int | None = None,
    org: str = DEFAULT_ID,
) -> pd.DataFrame:
    """Return what recorded calls would have cost otherwise, as ranges.

    Args:
        model: Another model for all of them, or several.
        cache: ``off``, ``5m`` or ``1h``, or several.
        history: ``whole``, ``sliding`` or ``blocks``, or several: the whole chat is sent, a window that slides with every
            turn, or one that is cut to half when it is full, as the workbench does.
        batch: Send through the Batch API, at half the price, what nobody waits for: the calls without a chat.
        since: Calls from this moment on.
        until: Calls before this moment.
        chat: Only this chat's; a chat or its id.
        limit: Most messages sent, by the histories that are trimmed; as configured if not given.
        org: Whose calls.

    Returns:
        A row for what was, one for each change by itself and, if several are given, one for each combination of them.
        Without any, the usual ones. ``scenario`` in words, ``model``, ``cache``, ``history`` (missing: as it was),
        ``batch``, ``calls``; ``low_usd``, ``likely_usd``, ``high_usd`` and ``difference_usd`` (likely, less what was) are
        Decimals in US dollars; ``why`` says where the range comes from. Calls whose price is unknown are in no row but
        counted in the first one's ``why``.

    Raises:
        InvalidRequest: a value that there is not, a model without a price, or a time that is none.
        ModelRetired: nobody can ask that model any more; the error names its successor.

    Example::

        wb.what_if(model="claude-haiku-5-5", cache="1h", since="2026-11-01")

    Source: token ratios measured with ctok 1.3 (:mod:`workbench.ledger.retokenising`); rules of caching from
    https://platform.claude.com/docs/en/build-with-claude/prompt-caching; half of every token's price in batches from
    https://platform.claude.com/docs/en/build-with-claude/batch-processing
    """
    past = Past.read(scope_of(since, until, chat, org))
    return _frame(outcomes(past, model, cache, history, batch, limit))


def outcomes(
    past: Past,
    model: Some = None,
    cache: Some = None,
    history: Some = None,
    batch: bool = False,
    limit: int | None = None,
) -> list[Outcome]:
    """Return what was and what would have been, as :func:`what_if` does."""
    most = most_messages(limit)
    changes: dict[str, list[Any]] = {
        "model": _several(model),
        "cache": [_one_of(name, CACHES, "cache") for name in _several(cache)],
        "history": [_history(name) for name in _several(history)],
        "batch": [True] if batch else [],
    }
    for name in changes["model"]:
        refuse_retired(name, datetime.now(UTC).date())
        list_price(name)
    was = past.outcome(Scenario())
    if any(changes.values()):
        return [was, *(past.outcome(Scenario(limit=most, **change)) for change in _combinations(changes))]
    usual = [past.outcome(scenario) for scenario in _usual(past, most)]
    return [was, *(outcome for outcome in usual if not outcome.unchanged)]


def history_lab(
    chat: AnyChat | str | None = None,
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: int | None = None,
    org: str = DEFAULT_ID,
) -> pd.DataFrame:
    """Return what each way to send a chat's history would have cost, each with and without a prompt cache.

    Args:
        chat: Only this chat; a chat or its id.
        since: Calls from this moment on.
        until: Calls before this moment.
        limit: Most messages sent, by the histories that are trimmed; as configured if not given.
        org: Whose calls.

    Returns:
        A row for what was and one for each history (``whole chat``, ``sliding window``, ``blocks``) with each cache
        (``off``, ``5m``, ``1h``), the columns of ``wb.what_if`` and before ``why``: ``longest_input_tokens`` (the longest
        prompt) and ``recommended`` (true in one row, whose ``why`` begins with the reason in words). The recommendation is
        the cheapest, unless it would save less than 5 % or what it saves is within its range: then what was.

    Raises:
        InvalidRequest: a time that is none, or a limit below 1.

    Example::

        wb.history_lab(since="2026-11-01")
    """
    tried = policies(Past.read(scope_of(since, until, chat, org)), limit)
    best, verdict = recommended(tried)
    frame = _frame([replace(o, why=f"{verdict}; {o.why}") if o is best else o for o in tried])
    frame.insert(len(frame.columns) - 1, "longest_input_tokens", [outcome.longest for outcome in tried])
    frame.insert(len(frame.columns) - 1, "recommended", [outcome is best for outcome in tried])
    return frame


def policies(past: Past, limit: int | None = None) -> list[Outcome]:
    """Return what was and what each history with each cache would have cost."""
    most = most_messages(limit)
    tried = [Scenario(history=history, cache=cache, limit=most) for history in POLICIES for cache in CACHES]
    return [past.outcome(scenario) for scenario in (Scenario(), *tried)]


def recommended(tried: Sequence[Outcome]) -> tuple[Outcome, str]:
    """Return the outcome to go for, of which the first is what was, and the reason in words."""
    was, cheapest = tried[0], min(tried, key=lambda outcome: outcome.likely)
    saved, name = was.likely - cheapest.likely, in_words(cheapest.scenario)
    if not was.likely:
        return was, "Recommended: nothing, these calls cost nothing"
    if saved > WORTH_IT * was.likely and cheapest.high < was.likely:
        forgets = ", and forgets nothing" if cheapest.scenario.history == WHOLE else ""
        return cheapest, f"Recommended: {name} would have saved {dollars(saved)}, {saved / was.likely:.0%}{forgets}"
    if saved <= 0:
        return was, "Recommended: go on so, nothing else would have been cheaper"
    small = f"would have saved only {dollars(saved)}, {saved / was.likely:.1%}"
    return was, f"Recommended: go on so; the cheapest, {name}, {small}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a scenario would have cost."""

    scenario: Scenario
    low: Decimal
    likely: Decimal
    high: Decimal
    was: Decimal
    calls: int
    why: str
    unchanged: bool
    """Whether every call would have been as it was."""
    longest: int
    """Tokens of the longest prompt."""


class Past:
    """The recorded chats of a scope, and what can be assumed of them."""

    def __init__(self, chats: Chats, said: Sequence[dict[str, Any]] = ()) -> None:
        self._all, self._said = chats.columns, said
        in_period, priced = self._all.in_period, self._all.priced
        self._counted = in_period & priced
        self.unpriced = int((in_period & ~priced).sum())
        self.calls = int(self._counted.sum())
        used = self._all.model[self._counted & (self._all.input > 0)]
        numbers = np.bincount(used, minlength=len(self._all.models))
        self.models = Counter({name: int(n) for name, n in zip(self._all.models, numbers, strict=True) if n})
        at = self._all.at[self._counted]
        self.days = (_moment(at.min()), _moment(at.max())) if self.calls else None
        self.was = self._sum(self._all.nanos)
        self.alone = int((self._counted & ~self._all.talks).sum())
        self.missed = max(evicted_share(chats), LEAST_MISSED)

    @classmethod
    def read(cls, scope: Scope) -> Past:
        """Return what the store has of a scope."""
        return cls(chats_of(scope), texts_of(scope, MOST_TEXTS))

    def outcome(self, scenario: Scenario) -> Outcome:
        """Return what a scenario would have cost, at least, likely and at most, and why it is a range."""
        model = scenario.model
        ratios = {name: token_ratio(name, model, self._said) for name in self.models} if model else {}
        middle = {name: ratio.likely for name, ratio in ratios.items()}
        likely = replayed(self._all, scenario, Assumptions(tokens=middle))
        costs = [self._sum(likely.nanos)]
        simulated = self._counted & ~likely.recorded
        cached = bool((likely.counts.uncached < likely.counts.prompt)[simulated].any())
        if simulated.any() and (model or scenario.batch or cached):
            low = {name: ratio.low for name, ratio in ratios.items()}
            high = {name: ratio.high for name, ratio in ratios.items()}
            least = replace(scenario, all_in_batches=scenario.batch)
            at_least = Assumptions(tokens=low, reply=SHORTER, from_end=True)
            at_most = Assumptions(tokens=high, reply=LONGER, shortest=USUAL_SHORTEST, missed=self.missed)
            costs += [
                self._sum(replayed(self._all, which, assumed).nanos)
                for which, assumed in ((least, at_least), (scenario, at_most))
            ]
        return Outcome(
            scenario=scenario,
            low=min(costs),
            likely=costs[0],
            high=max(costs),
            was=self.was,
            calls=self.calls,
            why=self._why(scenario, likely, int(simulated.sum()), cached, ratios, costs),
            unchanged=not simulated.any(),
            longest=int(likely.counts.prompt[self._counted].max(initial=0)),
        )

    def costs(self, scenario: Scenario) -> list[Decimal]:
        """Return what every call of the scope would likely have cost; those without a price are left out."""
        return [Decimal(nanos).scaleb(-NANO) for nanos in replayed(self._all, scenario).nanos[self._counted].tolist()]

    def _sum(self, nanos: Ints) -> Decimal:
        return plain(Decimal(int(nanos[self._counted].sum())).scaleb(-NANO))

    def _why(
        self,
        scenario: Scenario,
        likely: Replay,
        simulated: int,
        cached: bool,
        ratios: dict[str, Ratio],
        costs: Sequence[Decimal],
    ) -> str:
        if scenario == Scenario():
            return self._what_was()
        if not simulated:
            waited = "people wait for every one of these calls, so no batch; " if scenario.batch else ""
            return f"{waited}nothing would have been sent otherwise"
        reasons = list[str]()
        if scenario.model is not None:
            reasons += self._why_model(scenario.model, likely, ratios)
        if scenario.batch:
            reasons.append(
                f"in batches half of every token's price, but only for the {counted(self.alone, 'call')} without a chat: people wait "
                f"for chats; all of them in batches would be {dollars(costs[1])}, the low end"
            )
        if cached:
            failing = "assumed" if self.missed == LEAST_MISSED else "as so far"
            reasons.append(
                "cache: its time counted from the beginning of a call or from its end, the shortest prompt as documented or "
                f"1,024 tokens, none or {self.missed:.0%} of the reads failing ({failing})"
            )
        if scenario.history is not None:
            reasons.append("replies taken to be as they were, though more or less of the chat was sent")
        if simulated < self.calls:
            reasons.append(f"{self.calls - simulated:,} of {self.calls:,} calls as they were")
        return "; ".join(reasons)

    def _what_was(self) -> str:
        parts = [f"recorded: {counted(self.calls, 'call')} of {counted(len(self.models), 'model')}"]
        if self.alone:
            parts.append(f"{self.alone:,} of them without a chat, which only another model or batches would change")
        if self.unpriced:
            parts.append(
                f"{self.unpriced:,} more whose price is not known {'is' if self.unpriced == 1 else 'are'} left out"
            )
        return "; ".join(parts)

    def _why_model(self, model: str, likely: Replay, ratios: dict[str, Ratio]) -> list[str]:
        if model == LOCAL_MODEL:
            return ["the embedded model costs nothing, and is no Claude"]
        told: Counter[str] = Counter()
        for name, count in self.models.items():
            if name != model:
                told[ratios[name].why] += count
        words = [f"{why} for {counted(count, 'call')}" for why, count in told.most_common()]
        words.append(f"replies {1 - SHORTER:.0%} shorter to {LONGER - 1:.0%} longer (assumed)")
        room = context_window(model)
        lengths = (likely.counts.prompt + likely.counts.output)[self._counted]
        if room and (too_long := int((lengths > room).sum())):
            words.append(
                f"{counted(too_long, 'call', ('is', 'are'))} longer than the {room:,} tokens it takes and would be refused"
            )
        return words


def _moment(microseconds: int) -> datetime:
    return EPOCH + int(microseconds) * MICROSECOND


def _frame(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for outcome in outcomes:
        scenario = outcome.scenario
        named = (in_words(scenario), scenario.model, scenario.cache, scenario.history, scenario.batch, outcome.calls)
        amounts = (outcome.low, outcome.likely, outcome.high, plain(outcome.likely - outcome.was))
        rows.append((*named, *amounts, outcome.why))
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *AMOUNTS, "why"])
    return frame.astype(dict.fromkeys(("scenario", "model", "cache", "history", "why"), "str"))


def in_words(scenario: Scenario) -> str:
    """Return a scenario as people say it.

    >>> in_words(Scenario(model="claude-haiku-5-5", history=BLOCKS, cache="1h"))
    'claude-haiku-5-5, blocks of 20, a cache of an hour'
    >>> in_words(Scenario())
    'as it was'
    """
    parts = [scenario.model or ""]
    if scenario.history:
        parts.append(scenario.history if scenario.history == WHOLE else f"{scenario.history} of {scenario.limit}")
    parts += [CACHE_WORDS.get(scenario.cache or "", ""), "in batches" if scenario.batch else ""]
    return ", ".join(filter(None, parts)) or AS_IT_WAS


def _combinations(changes: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Each change by itself, then all that can be made of one of every kind."""
    given = {kind: values for kind, values in changes.items() if values}
    single = [{kind: value} for kind, values in given.items() for value in values]
    combined = [dict(zip(given, values, strict=True)) for values in product(*given.values())]
    return single + (combined if len(given) > 1 else [])


def _usual(past: Past, limit: int) -> list[Scenario]:
    """What people ask first. Those that would change nothing are left out later."""
    models = [model for model in SUCCESSORS.values() if set(past.models) != {model}]
    return [
        *(Scenario(model=model) for model in models),
        *(Scenario(cache=cache) for cache in CACHES),
        *(Scenario(history=history, limit=limit) for history in POLICIES),
        Scenario(batch=True),
    ]


def _several(value: Some) -> list[str]:
    return [] if value is None else list(dict.fromkeys([value] if isinstance(value, str) else value))


def _one_of(name: str, known: Sequence[str], what: str) -> str:
    if name not in known:
        raise InvalidRequest(f"there is no {what} {name!r}; use any of {', '.join(known)}")
    return name


def _history(name: str) -> str:
    return name if name in POLICIES else SHORT_NAMES[_one_of(name, [*SHORT_NAMES], "history")]


def most_messages(limit: int | None) -> int:
    """Return the most messages sent, as configured if not given; InvalidRequest when it is below 1."""
    if limit is None:
        return runtime().settings.history_messages
    if limit < 1:
        raise InvalidRequest(f"limit is {limit}; at least 1 message is sent")
    return limit
