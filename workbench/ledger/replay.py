"""What stored chats would have cost otherwise: the same questions at the same times, sent in another way.

Where a call and the one before it would have sent what they did send, what happened is what happened, and its recorded
counts and cost are taken. Everything else is simulated, by these rules:

- A prompt is as long as it was, less the messages that would not have been sent, plus those that would.
- A prompt cache keeps a prompt for five minutes or an hour from the beginning of the call that wrote or read it. A later
  call of the same model reads it if it begins with it: the same version of the system prompt, the same first message
  after it, at most twenty messages ago. The rest of the prompt is written, unless the whole is too short to be kept. A
  fork reads nothing of the chat it came from.
- Prices are those of the day of the call.

Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching, and .../about-claude/pricing for prices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workbench.ledger.columns import CACHES, FIVE_MINUTES, HOUR, MICROSECOND, NANO, OFF, Counts, last_before
from workbench.ledger.costs import costs_of
from workbench.ledger.policies import start_of
from workbench.ledger.reading import columns_of
from workbench.pricing import CLASSES
from workbench.turns import LOCAL_MODEL, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from workbench.ledger.columns import Bools, Call, Chat, Columns, Ints

LASTS = {FIVE_MINUTES: timedelta(minutes=5), HOUR: timedelta(hours=1)}
LOOKBACK = 20
"""Blocks before its end in which a prompt is looked for in the cache; a message has at least one."""
SHORTEST = (
    # as the documentation has it; which of the names of a model counts is told by the first that fits
    (re.compile(r"claude-(opus-4-[56]|haiku-4-5)"), 4096),
    (re.compile(r"claude-opus-4-7"), 2048),
    (re.compile(r"claude-(sonnet-5(?!-)|sonnet-4|opus-4)"), 1024),
    (re.compile(r"claude-(\w+-5-5|opus-5|fable-5)"), 512),
)
USUAL_SHORTEST = 1024


@lru_cache(maxsize=256)
def shortest_cached(model: str) -> int:
    """Return how many tokens a prompt needs to be kept in the prompt cache.

    >>> [shortest_cached(name) for name in ("claude-haiku-4-5", "claude-sonnet-5", "claude-haiku-5-5", "claude-9")]
    [4096, 1024, 512, 1024]
    """
    return next((tokens for pattern, tokens in SHORTEST if pattern.match(model)), USUAL_SHORTEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What would have been otherwise; None: as it was."""

    model: str | None = None
    cache: str | None = None
    history: str | None = None
    limit: int = 20
    """Most messages sent, of the policies that trim."""
    batch: bool = False
    """The calls that nobody waits for go through the Batch API: those without a chat."""
    all_in_batches: bool = False
    """Every call does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What nobody knows for certain, in the simulated calls."""

    tokens: Mapping[str, float] = field(default_factory=dict)
    """How many tokens the scenario's model makes of one token of the recorded one; 1 if not given."""
    reply: float = 1.0
    """How long another model's replies are, of the recorded ones."""
    shortest: int = 0
    """Least tokens that are cached, whatever the documentation says of a model."""
    from_end: bool = False
    """The cache's time is counted from the end of a call, not from its beginning."""
    missed: float = 0.0
    """The part of expected cache reads that fail."""


LIKELY = Assumptions()


class Replayed(NamedTuple):
    """A call as it would have been."""

    call: Call
    usage: Usage
    cost_usd: Decimal | None
    first: int
    recorded: bool
    """Whether it is as it was."""


class Replay(NamedTuple):
    """All calls as they would have been."""

    counts: Counts
    batch: Bools
    fast: Bools
    nanos: Ints
    """Nanodollars; without a meaning where the recorded cost is not known."""
    first: Ints
    recorded: Bools
    """Whether a call is as it was."""


def replay(
    chats: Iterable[Chat], scenario: Scenario = Scenario(), assumptions: Assumptions = LIKELY
) -> Iterator[Replayed]:
    """Yield every call as it would have been, chat by chat, in order.

    A call that used nothing, since it failed before it was answered, stays so. So does, in history and caching, one
    without a chat; whether such prompts have a beginning in common is not known. One without a cost keeps none, whoever
    would have answered it: there would be nothing to compare with. One whose cost is known but not the price of its model
    stays as it was.

    Example:
        >>> from datetime import UTC, datetime
        >>> from decimal import Decimal
        >>> from workbench.ledger.columns import Call, Chat
        >>> at = datetime(2026, 11, 20, tzinfo=UTC)
        >>> usage = Usage(cache_write_5m_tokens=1000, output_tokens=100)  # 1000 x $2.50 + 100 x $10, a million
        >>> call = Call(id="1", model="claude-sonnet-5-5", source="ask", at=at, ended=at, usage=usage, cost_usd=Decimal("0.0035"))
        >>> chat = Chat(id="c", calls=[call], sizes=[900, 100], places=[1, 2], cache="5m")
        >>> [str(would.cost_usd) for cache in CACHES for would in replay([chat], Scenario(cache=cache))]
        ['0.003000000', '0.0035', '0.005000000']
    """
    chats = list(chats)
    would = replayed(columns_of(chats), scenario, assumptions)
    for n, call in enumerate(call for chat in chats for call in chat.calls):
        usage, cost, recorded = call.usage, call.cost_usd, bool(would.recorded[n])
        if not recorded:
            counts: dict[str, Any] = {name: int(count[n]) for name, count in zip(CLASSES, would.counts, strict=True)}
            usage = Usage(
                **counts,
                service_tier="batch" if would.batch[n] else usage.service_tier,
                inference_geo=usage.inference_geo,
                speed="fast" if would.fast[n] else None,
            )
            cost = None if cost is None else Decimal(int(would.nanos[n])).scaleb(-NANO)
        yield Replayed(call, usage, cost, int(would.first[n]), recorded)


class _Asked(NamedTuple):
    """How calls would have been sent."""

    models: list[str]
    model: Ints
    other: Bools
    """Whether that is another one than it was."""
    cache: Ints
    first: Ints
    batch: Bools


def replayed(calls: Columns, scenario: Scenario = Scenario(), assumptions: Assumptions = LIKELY) -> Replay:
    """Return what :func:`replay` yields, in columns."""
    asked = _asked(calls, scenario)
    recorded = _as_they_were(calls, asked, scenario)
    fast = calls.fast & ~asked.other
    if recorded.all():
        return Replay(calls.counts, asked.batch, fast, calls.nanos, asked.first, recorded)
    told = np.array([assumptions.tokens.get(model, 1.0) for model in calls.models])[calls.model]
    simulated = _simulated(calls, asked, scenario, assumptions, told, recorded)

    sent = np.flatnonzero(~recorded & calls.priced)
    some = Counts(*(count[sent] for count in simulated))
    terms = asked.batch[sent], calls.us[sent], fast[sent]
    costs = costs_of(asked.models, asked.model[sent], calls.priced_from[sent], some, *terms)
    nanos = calls.nanos.copy()
    nanos[sent] = np.where(costs.known, costs.nanos(), nanos[sent])
    recorded[sent[~costs.known]] = True  # imported with its cost, of a model that is in no table
    first = asked.first.copy()
    first[sent[~costs.known]] = calls.first[sent[~costs.known]]
    counts = (np.where(recorded, was, would) for was, would in zip(calls.counts, simulated, strict=True))
    return Replay(Counts(*counts), asked.batch, fast, nanos, first, recorded)


def _asked(calls: Columns, scenario: Scenario) -> _Asked:
    models, model, first = calls.models, calls.model, calls.first
    if scenario.model is not None:
        models = models if scenario.model in models else [*models, scenario.model]
        model = np.full_like(model, models.index(scenario.model))
    if scenario.history is not None:
        starts = _starts(scenario.history, scenario.limit, int(calls.count.max(initial=0)))
        first = np.where(calls.talks, np.minimum(starts[calls.count], calls.count), first)
    if scenario.cache is not None:
        cache = np.full_like(calls.cache, CACHES.index(scenario.cache))
    else:
        claude = np.array([name != LOCAL_MODEL for name in models], np.bool_)[model]
        cache = np.where(calls.local & claude, CACHES.index(FIVE_MINUTES), calls.cache)
    batch = calls.batch | (scenario.batch & ~calls.talks) | scenario.all_in_batches
    return _Asked(models, model, model != calls.model, cache, first, batch)


@lru_cache(maxsize=64)
def _starts(history: str, limit: int, most: int) -> Ints:
    """The first message sent, by how many there are before the question."""
    start = start_of(history, limit)
    return np.fromiter((start(count + 1) for count in range(most + 1)), np.int64)


def _as_they_were(calls: Columns, asked: _Asked, scenario: Scenario) -> Bools:
    """Which calls used nothing, or would have been sent as they were and so the one before them in the chat."""
    same = ~asked.other & (asked.first == calls.first) & (asked.cache == calls.cache)
    if scenario.all_in_batches:
        same[:] = False
    order, begins = calls.in_chats
    before = np.append(True, same[order])[:-1]
    before[begins] = True  # there is nothing to differ
    recorded: Bools = calls.input == 0
    recorded[order] = same[order] & before
    uncached = (calls.cached > 0) & (scenario.cache == OFF)
    changed = calls.talks | asked.other | uncached | (asked.batch != calls.batch)
    recorded |= ~changed
    return recorded


def _simulated(
    calls: Columns,
    asked: _Asked,
    scenario: Scenario,
    assumed: Assumptions,
    told: NDArray[np.float64],
    recorded: Bools,
) -> Counts:
    """What would be counted of each call, were it not as it was."""
    length, output = calls.input, calls.counts.output
    if scenario.history is not None:
        of_chat = calls.size_starts[calls.chat]
        length = length + calls.before[of_chat + calls.first] - calls.before[of_chat + asked.first]
        length = np.maximum(length, 0)
    if scenario.model is not None:
        length = np.where(asked.other, _rounded(length * told), length)
        output = np.where(asked.other, _rounded(output * told * assumed.reply), output)
    shortest = np.array([max(shortest_cached(model), assumed.shortest) for model in asked.models])[asked.model]
    claude = np.array([model != LOCAL_MODEL for model in asked.models])[asked.model]
    kept = (asked.cache != CACHES.index(OFF)) & claude & (length >= shortest)
    left = np.where(recorded, calls.cached, np.where(kept, length, 0))
    left[asked.cache == CACHES.index(OFF)] = 0
    read = np.where(kept, _read(calls, asked, scenario, assumed, length, left), 0)
    written = np.where(kept, length - read, 0)
    for_an_hour = asked.cache == CACHES.index(HOUR)
    parts = [read, np.where(for_an_hour, 0, written), np.where(for_an_hour, written, 0)]
    if not calls.talks.all():
        # whether prompts without a chat have a beginning in common is not known: the same parts are read and written
        share = 0.0 if scenario.cache == OFF else length / np.maximum(calls.input, 1)
        alone = (_rounded(count * share) for count in calls.counts[1:4])
        parts = [np.where(calls.talks, part, its) for part, its in zip(parts, alone, strict=True)]
    read, short, long = parts
    return Counts(np.maximum(length - read - short - long, 0), read, short, long, output, calls.counts.searches)


def _read(calls: Columns, asked: _Asked, scenario: Scenario, assumed: Assumptions, length: Ints, left: Ints) -> Ints:
    """How much of each prompt is read from the cache, where each call leaves so many tokens in it.

    The newest prompt counts. A question that stays without a reply is in no later prompt, and keeps alive what it read.
    """
    # a model reads what it wrote itself
    order, begins = calls.in_chats if scenario.model is not None else calls.in_chats_by_model
    of = np.repeat(begins, np.diff(np.append(begins, len(order))))
    at, count, first = (column[order] for column in (calls.at, calls.count, asked.first))
    lasts = np.array([LASTS.get(cache, timedelta()) // MICROSECOND for cache in CACHES])
    until = (calls.ended if assumed.from_end else calls.at)[order] + lasts[asked.cache[order]]
    leaves, answered = left[order] > 0, calls.answered[order]
    alive = leaves & answered
    last = last_before(alive)
    prompt = calls.prompt[order]
    found = (last >= of) & (first[last] == first) & (prompt[last] == prompt)
    if (again := leaves & ~answered & found).any():
        events = np.flatnonzero(alive | again)
        late = again[events] & (at[events] >= np.roll(until[events], 1))
        # once it was too late, nothing is kept alive until the next reply
        so_far = np.arange(len(events))
        died = np.maximum.accumulate(np.where(late, so_far, -1))
        began = np.maximum.accumulate(np.where(again[events], -1, so_far))
        alive[events] = died <= began
    in_time = at < until[last_before(alive)]
    new = count - count[last]
    found &= in_time & (new > 0) & (new <= LOOKBACK)
    read = np.minimum(left[order][last], length[order])
    if assumed.missed:
        read = _rounded(read * (1 - assumed.missed))
    reads = np.zeros_like(length)
    reads[order] = np.where(found, read, 0)
    return reads


def _rounded(numbers: NDArray[np.floating[Any]]) -> Ints:
    rounded: Ints = np.rint(numbers).astype(np.int64)
    return rounded
