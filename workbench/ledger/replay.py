"""What stored chats would have cost otherwise: the same questions at the same times, sent in another way.

Where a call and the one before it would have sent what they did send, what happened is what happened, and its recorded
counts and cost are taken. Everything else is simulated, by these rules:

- A prompt is as long as it was, less the messages that would not have been sent, plus those that would.
- A prompt cache keeps a prompt for five minutes or an hour from the beginning of the call that wrote or read it. A later
  call of the same model reads it if it begins with it: the same first message after the system prompt, at most twenty
  messages ago. The rest of the prompt is written, unless the whole is too short to be kept. A fork reads nothing of the
  chat it came from.
- Prices are those of the day of the call.

Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching, and .../about-claude/pricing for prices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.ledger.policies import start_of
from workbench.pricing import LEDGER_DIGITS, cost_of, price_of
from workbench.turns import LOCAL_MODEL, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from workbench.pricing import Price

    Parts = tuple[int, int, int, int]
    """Of a prompt: not cached, read from the cache, written for five minutes, written for an hour."""

OFF, FIVE_MINUTES, HOUR = "off", "5m", "1h"
CACHES = (OFF, FIVE_MINUTES, HOUR)
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
NOT_LONG = 100_000
"""Tokens; some models charge more for prompts above it."""


@lru_cache(maxsize=256)
def shortest_cached(model: str) -> int:
    """Return how many tokens a prompt needs to be kept in the prompt cache.

    >>> [shortest_cached(name) for name in ("claude-haiku-4-5", "claude-sonnet-5", "claude-haiku-5-5", "claude-9")]
    [4096, 1024, 512, 1024]
    """
    return next((tokens for pattern, tokens in SHORTEST if pattern.match(model)), USUAL_SHORTEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call as it was recorded."""

    id: str
    model: str
    source: str
    at: datetime
    ended: datetime
    usage: Usage
    cost_usd: Decimal | None
    count: int = 0
    """Messages of the chat that could be sent again, before the question."""
    first: int = 0
    """So many of them were left out."""
    answered: bool = True
    """Whether question and reply are sent again later."""
    in_period: bool = True

    @property
    def input_tokens(self) -> int:
        """The whole prompt."""
        return self.usage.input_tokens

    @property
    def cached_tokens(self) -> int:
        """How much of the prompt was in the cache once the call had begun."""
        return self.usage.cache_read_tokens + self.usage.cache_write_tokens


@dataclass(slots=True, kw_only=True)
class Chat:
    """A recorded chat: its calls, oldest first, and the messages that are sent again.

    A call without a chat, of ``wb.map`` or imported, is a chat of its own whose ``id`` is empty.
    """

    id: str
    calls: list[Call]
    sizes: list[int] = field(default_factory=list)
    """Tokens of the messages; of the first one without the system prompt."""
    places: list[int] = field(default_factory=list)
    """What number each of them has in the chat."""
    cache: str = OFF
    """How its prompts were cached."""


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


@dataclass(slots=True)
class _Kept:
    """The newest prompt of a model in the cache."""

    first: int
    count: int
    tokens: int
    until: datetime


def replay(
    chats: Iterable[Chat], scenario: Scenario = Scenario(), assumptions: Assumptions = LIKELY
) -> Iterator[Replayed]:
    """Yield every call as it would have been, chat by chat, in order.

    A call that used nothing, since it failed before it was answered, stays so. So does, in history and caching, one
    without a chat; whether such prompts have a beginning in common is not known. One without a cost keeps none, whoever
    would have answered it: there would be nothing to compare with. One whose cost is known but not the price of its model
    stays as it was.

    Example:
        >>> from datetime import UTC
        >>> from decimal import Decimal
        >>> at = datetime(2026, 11, 20, tzinfo=UTC)
        >>> usage = Usage(cache_write_5m_tokens=1000, output_tokens=100)  # 1000 x $2.50 + 100 x $10, a million
        >>> call = Call(id="1", model="claude-sonnet-5-5", source="ask", at=at, ended=at, usage=usage, cost_usd=Decimal("0.0035"))
        >>> chat = Chat(id="c", calls=[call], sizes=[900, 100], places=[1, 2], cache="5m")
        >>> [str(would.cost_usd) for cache in CACHES for would in replay([chat], Scenario(cache=cache))]
        ['0.003000000', '0.0035', '0.005000000']
    """
    for chat in chats:
        if chat.id:
            yield from _chat(chat, scenario, assumptions)
        else:
            yield from (_alone(call, scenario, assumptions) for call in chat.calls)


def _chat(chat: Chat, scenario: Scenario, assumed: Assumptions) -> Iterator[Replayed]:
    start = start_of(scenario.history, scenario.limit) if scenario.history else None
    before = list(accumulate(chat.sizes, initial=0))
    kept: dict[str, _Kept] = {}
    as_it_was = True  # of the call before, for the first one there is nothing to differ
    for call in chat.calls:
        first = call.first if start is None else min(start(call.count + 1), call.count)
        if not call.input_tokens:
            yield Replayed(call, call.usage, call.cost_usd, first, True)
            continue
        model = scenario.model or call.model
        cache = scenario.cache or (FIVE_MINUTES if call.model == LOCAL_MODEL != model else chat.cache)
        same = model == call.model and first == call.first and cache == chat.cache and not scenario.all_in_batches
        if same and as_it_was:
            usage, cached = call.usage, call.cached_tokens
        else:
            length = _length(call, call.input_tokens + before[call.first] - before[first], scenario, assumed)
            parts = _divided(length, kept.get(model), call, first, model, cache, assumed)
            usage, cached = _simulated(call, parts, scenario, assumed), length - parts[0]
        _keep(kept, model, call, first, cached, cache, assumed)
        yield _priced(call, model, usage, first, recorded=same and as_it_was)
        as_it_was = same


def _alone(call: Call, scenario: Scenario, assumed: Assumptions) -> Replayed:
    model = scenario.model or call.model
    halved = (scenario.batch or scenario.all_in_batches) and call.usage.service_tier != "batch"
    uncached = scenario.cache == OFF and call.cached_tokens > 0
    if not call.input_tokens or (model == call.model and not halved and not uncached):
        return Replayed(call, call.usage, call.cost_usd, 0, True)
    usage = call.usage
    if uncached or model != call.model:
        length = _length(call, call.input_tokens, scenario, assumed)
        # else the same parts of the prompt are read and written
        share = 0.0 if uncached else length / call.input_tokens
        parts = (usage.cache_read_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens)
        read, short, long = (round(part * share) for part in parts)
        usage = _simulated(call, (max(0, length - read - short - long), read, short, long), scenario, assumed)
    return _priced(call, model, replace(usage, service_tier="batch") if halved else usage, 0, recorded=False)


def _length(call: Call, tokens: int, scenario: Scenario, assumed: Assumptions) -> int:
    """How long a prompt of so many of the recorded model's tokens is to the scenario's."""
    other = scenario.model not in (None, call.model)
    return round(max(0, tokens) * assumed.tokens.get(call.model, 1.0)) if other else max(0, tokens)


def _divided(
    length: int, kept: _Kept | None, call: Call, first: int, model: str, cache: str, assumed: Assumptions
) -> Parts:
    """Divide a prompt into what is not cached, read from the cache and written to it for five minutes or an hour."""
    if cache == OFF or model == LOCAL_MODEL or length < max(shortest_cached(model), assumed.shortest):
        return length, 0, 0, 0
    read = 0
    if kept is not None and kept.first == first and 0 < call.count - kept.count <= LOOKBACK and call.at < kept.until:
        read = round(min(kept.tokens, length) * (1 - assumed.missed))
    return (0, read, 0, length - read) if cache == HOUR else (0, read, length - read, 0)


def _simulated(call: Call, parts: Parts, scenario: Scenario, assumed: Assumptions) -> Usage:
    """The call with such a prompt."""
    recorded = call.usage
    other = scenario.model not in (None, call.model)
    output = recorded.output_tokens
    if other:
        output = round(output * assumed.tokens.get(call.model, 1.0) * assumed.reply)
    uncached, read, short, long = parts
    return Usage(
        uncached_input_tokens=uncached,
        cache_read_tokens=read,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=output,
        web_searches=recorded.web_searches,
        service_tier="batch" if scenario.all_in_batches else recorded.service_tier,
        inference_geo=recorded.inference_geo,
        speed=None if other else recorded.speed,
    )


def _keep(
    kept: dict[str, _Kept], model: str, call: Call, first: int, cached: int, cache: str, assumed: Assumptions
) -> None:
    """Note what a call leaves in the cache. A question that stays without a reply is in no later prompt."""
    if not cached or cache == OFF:
        return
    until = (call.ended if assumed.from_end else call.at) + LASTS[cache]
    last = kept.get(model)
    if call.answered:
        kept[model] = _Kept(first, call.count, cached, until)
    elif last is not None and last.first == first and call.at < last.until:
        last.until = until


def _priced(call: Call, model: str, usage: Usage, first: int, *, recorded: bool) -> Replayed:
    if recorded or call.cost_usd is None:
        return Replayed(call, usage, call.cost_usd, first, recorded)
    price = _price(model, call.at, usage.input_tokens, fast=usage.speed == "fast")
    if price is None:  # imported with its cost, of a model that is in no table
        return Replayed(call, call.usage, call.cost_usd, call.first, True)
    return Replayed(call, usage, cost_of(usage, price).quantize(LEDGER_DIGITS), first, False)


def _price(model: str, at: datetime, input_tokens: int, *, fast: bool) -> Price | None:
    usual = None
    if input_tokens <= NOT_LONG:  # looking it up is a quarter of a replay
        usual = _usual_price(model, at.replace(minute=0, second=0, microsecond=0), fast)
    return usual or price_of(model, at, input_tokens=input_tokens, fast=fast)


@lru_cache(maxsize=50_000)
def _usual_price(model: str, hour: datetime, fast: bool) -> Price | None:
    """The price of prompts that are not long, in an hour; None where it depends on their length."""
    short, longer = (price_of(model, hour, input_tokens=tokens, fast=fast) for tokens in (0, NOT_LONG))
    return short if short == longer else None


# Reading the ledger ---------------------------------------------------------------------------------------------------


def recorded_chats(
    calls: Sequence[Mapping[str, Any]], messages: Iterable[Mapping[str, Any]], systems: Mapping[str, str]
) -> list[Chat]:
    """Return the chats that rows of the ledger tell of, then each call without a chat.

    Args:
        calls: Rows of ``replay_calls.sql``, oldest first.
        messages: Rows of ``replay_messages.sql``, each chat's oldest first. Of a chat that was erased there are none;
            what was said is then as long as its prompts grew.
        systems: System prompts, by chat.
    """
    said: dict[str, list[Mapping[str, Any]]] = {}
    for message in messages:
        said.setdefault(message["chat_id"], []).append(message)
    called: dict[str, list[Mapping[str, Any]]] = {}
    alone: list[Chat] = []
    for call in calls:
        if call["chat_id"] is None:
            alone.append(Chat(id="", calls=[_call(call)]))
        else:
            called.setdefault(call["chat_id"], []).append(call)
    chats = [_recorded(id, rows, said.get(id, [])) for id, rows in called.items()]
    _take_systems_off(chats, systems)
    usual = next((chat.cache for chat in chats if chat.cache), OFF)
    for chat in chats:
        # a chat too short to be cached tells nothing of how it was asked for
        chat.cache = chat.cache or (OFF if all(call.model == LOCAL_MODEL for call in chat.calls) else usual)
    return chats + alone


def _call(row: Mapping[str, Any], count: int = 0, first: int = 0, *, answered: bool = True) -> Call:
    at = row["started_at"]
    counts = ("uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    terms = ("output_tokens", "thinking_tokens", "web_searches", "service_tier", "inference_geo", "speed")
    return Call(
        id=row["id"],
        model=row["model"],
        source=row["source"],
        at=at,
        ended=at + timedelta(milliseconds=row["duration_ms"]),
        usage=Usage(**{name: row[name] for name in counts + terms}),
        cost_usd=row["cost_usd"],
        count=count,
        first=first,
        answered=answered,
        in_period=row["in_period"],
    )


@dataclass(slots=True)
class _Turn:
    """A question and its reply."""

    place: int
    """The number of the question in the chat."""
    tokens: int | None
    """Of the question."""
    count: int
    """Messages that could be sent again before it."""
    answered: bool


def _recorded(id: str, rows: Sequence[Mapping[str, Any]], messages: Sequence[Mapping[str, Any]]) -> Chat:
    chat = Chat(id=id, calls=[])
    turns = _turns(messages, chat)
    unknown: list[int] = []
    for row in rows:
        turn = turns.get(row["message_id"])
        if turn is None:  # erased, or imported without its texts
            answered = row["status"] in ("complete", "interrupted") and row["output_tokens"] > 0
            turn = _Turn(len(chat.sizes) + 1, None, len(chat.sizes), answered)
            if answered and not messages:
                chat.sizes += (0, row["output_tokens"])
                chat.places += (turn.place, turn.place + 1)
                unknown.append(turn.count)
        count, first = _window(row, turn.count, len(chat.sizes))
        chat.calls.append(_call(row, count, first, answered=turn.answered))
    _measure_questions(chat, set(unknown))
    chat.cache = _caching(chat.calls)
    return chat


def _turns(messages: Sequence[Mapping[str, Any]], chat: Chat) -> dict[str, _Turn]:
    """Give the chat the messages that are sent again, and return its turns by the id of the reply.

    Which those are is what :func:`workbench.history.window` decides.
    """
    turns: dict[str, _Turn] = {}
    question: Mapping[str, Any] | None = None
    for message in messages:
        if message["role"] == "user":
            question = message
            continue
        if question is None:
            continue
        answered = message["has_text"] and message["status"] != "streaming" and message["stop_reason"] != "refusal"
        turns[message["id"]] = _Turn(question["seq"], question["token_count"], len(chat.sizes), answered)
        if answered:
            chat.sizes += (question["token_count"] or 0, message["token_count"] or 0)
            chat.places += (question["seq"], message["seq"])
            question = None
    return turns


def _window(row: Mapping[str, Any], count: int, most: int) -> tuple[int, int]:
    """How many messages there were to send before a question, and how many were left out."""
    sent, left_out = row["history_messages"], row["left_out_messages"] or 0
    if sent is not None and sent + left_out <= most:
        count = sent + left_out  # of two turns that ran at once neither sent the other
    return count, min(left_out, count)


def _measure_questions(chat: Chat, unknown: set[int]) -> None:
    """Take for a question's length by how much it made the prompt grow: what was counted of a trimmed chat is rough."""
    lengths: list[int] = []
    last: Call | None = None
    for call in chat.calls:
        if not (call.answered and call.input_tokens and call.count + 1 < len(chat.sizes)):
            continue
        if last is not None and (last.first, last.count + 2, last.model) == (call.first, call.count, call.model):
            grown = call.input_tokens - last.input_tokens - chat.sizes[last.count + 1]
            chat.sizes[call.count] = max(0, grown)
            unknown.discard(call.count)
            lengths.append(chat.sizes[call.count])
        elif call.count == 0:
            chat.sizes[0] = call.input_tokens  # with the system prompt, which is taken off later
            unknown.discard(0)
        last = call
    for place in unknown:
        chat.sizes[place] = round(median(lengths)) if lengths else 0


def _take_systems_off(chats: Sequence[Chat], systems: Mapping[str, str]) -> None:
    """Leave the first question without the system prompt, which is sent even when the question is not.

    A prompt that was trimmed tells how long it is; else another chat with the same one does, else its text.
    """
    from workbench.estimates import text_tokens

    told: dict[str, list[int]] = {}
    for chat in chats:
        before = list(accumulate(chat.sizes, initial=0))
        for call in chat.calls:
            if call.first and call.answered and call.input_tokens and call.count < len(chat.sizes):
                beside = call.input_tokens - (before[call.count + 1] - before[call.first])
                told.setdefault(systems.get(chat.id, ""), []).append(beside)
    known = {system: max(0, round(median(lengths))) for system, lengths in told.items()}
    for chat in chats:
        system = systems.get(chat.id, "")
        tokens = known[system] if system in known else text_tokens(system)
        if chat.sizes:
            chat.sizes[0] = max(0, chat.sizes[0] - tokens)


def _caching(calls: Iterable[Call]) -> str:
    """How prompts were cached; empty if they do not tell."""
    usages = [call.usage for call in calls]
    if any(usage.cache_write_1h_tokens for usage in usages):
        return HOUR
    return FIVE_MINUTES if any(usage.cache_write_5m_tokens or usage.cache_read_tokens for usage in usages) else ""
