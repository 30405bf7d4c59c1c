"""Recorded chats column by column, so that a replay computes with all their calls at once.

One chat to look at is a :class:`Chat` with calls; thousands of them to compute with are :class:`Columns`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workbench.pricing import price_changes
from workbench.turns import LOCAL_MODEL, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

OFF, FIVE_MINUTES, HOUR = "off", "5m", "1h"
CACHES = (OFF, FIVE_MINUTES, HOUR)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
NANO = 9
"""Decimals of a dollar that the ledger keeps."""


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
    prompt: str = ""
    """The name and version of its system prompt, if it has one."""

    @property
    def input_tokens(self) -> int:
        """The whole prompt."""
        return self.usage.input_tokens


@dataclass(slots=True, kw_only=True)
class Chat:
    """A recorded chat: its calls, oldest first, and the messages that are sent again.

    Calls without a chat, of ``wb.map`` or imported, are those of a chat whose ``id`` is empty.
    """

    id: str
    calls: list[Call]
    sizes: list[int] = field(default_factory=list)
    """Tokens of the messages; of the first one without the system prompt."""
    places: list[int] = field(default_factory=list)
    """What number each of them has in the chat."""
    cache: str = OFF
    """How its prompts were cached."""


class Counts(NamedTuple):
    """What is billed of each call; the first four are its prompt."""

    uncached: Ints
    read: Ints
    short: Ints
    """Written to the cache for five minutes."""
    long: Ints
    """Written for an hour."""
    output: Ints
    searches: Ints

    @property
    def prompt(self) -> Ints:
        """The whole prompt."""
        return self.uncached + self.read + self.short + self.long


@dataclass(kw_only=True)
class Columns:
    """Calls chat by chat, each chat's oldest first, and the messages that are sent again."""

    names: list[str]
    """The ids of the chats; empty: its calls are without one."""
    caches: list[str]
    """How the prompts of each were cached."""
    starts: Ints
    """The first call of each chat, and how many calls there are."""
    sizes: Ints
    """Of all messages, in tokens."""
    places: Ints
    """What number each has in its chat."""
    size_starts: Ints
    """The first message of each chat, and how many messages there are."""

    ids: Sequence[str]
    models: list[str]
    model: Ints
    """Of each call; a place in ``models``. Times are microseconds since 1970."""
    at: Ints
    ended: Ints
    counts: Counts
    batch: Bools
    us: Bools
    fast: Bools
    nanos: Ints
    """The recorded cost in nanodollars, 0 where it is not known."""
    priced: Bools
    """Whether it is known."""
    count: Ints
    first: Ints
    answered: Bools
    in_period: Bools
    prompts: list[str]
    prompt: Ints
    """A place in ``prompts``."""

    @classmethod
    def of(cls, chats: Iterable[Chat]) -> Columns:
        """Return the columns of chats that are objects."""
        chats = list(chats)
        calls = [call for chat in chats for call in chat.calls]
        usages = [call.usage for call in calls]
        models = list(dict.fromkeys(call.model for call in calls))
        code = {model: n for n, model in enumerate(models)}
        prompts = list(dict.fromkeys(call.prompt for call in calls))
        version = {prompt: n for n, prompt in enumerate(prompts)}

        def ints(values: Iterable[int]) -> Ints:
            return np.fromiter(values, np.int64)

        def bools(values: Iterable[bool]) -> Bools:
            return np.fromiter(values, np.bool_)

        return cls(
            names=[chat.id for chat in chats],
            caches=[chat.cache for chat in chats],
            starts=ints(chain([0], (len(chat.calls) for chat in chats))).cumsum(),
            sizes=ints(size for chat in chats for size in chat.sizes),
            places=ints(place for chat in chats for place in chat.places),
            size_starts=ints(chain([0], (len(chat.sizes) for chat in chats))).cumsum(),
            ids=[call.id for call in calls],
            models=models,
            model=ints(code[call.model] for call in calls),
            at=ints((call.at - EPOCH) // MICROSECOND for call in calls),
            ended=ints((call.ended - EPOCH) // MICROSECOND for call in calls),
            counts=Counts(
                ints(usage.uncached_input_tokens for usage in usages),
                ints(usage.cache_read_tokens for usage in usages),
                ints(usage.cache_write_5m_tokens for usage in usages),
                ints(usage.cache_write_1h_tokens for usage in usages),
                ints(usage.output_tokens for usage in usages),
                ints(usage.web_searches for usage in usages),
            ),
            batch=bools(usage.service_tier == "batch" for usage in usages),
            us=bools(usage.inference_geo == "us" for usage in usages),
            fast=bools(usage.speed == "fast" for usage in usages),
            nanos=ints(int((call.cost_usd or Decimal(0)).scaleb(NANO)) for call in calls),
            priced=bools(call.cost_usd is not None for call in calls),
            count=ints(call.count for call in calls),
            first=ints(call.first for call in calls),
            answered=bools(call.answered for call in calls),
            in_period=bools(call.in_period for call in calls),
            prompts=prompts,
            prompt=ints(version[call.prompt] for call in calls),
        )

    @cached_property
    def chat(self) -> Ints:
        """The place in ``names`` of each call's chat."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.starts))

    @cached_property
    def input(self) -> Ints:
        """The whole prompt of each call."""
        return self.counts.prompt

    @cached_property
    def cached(self) -> Ints:
        """How much of each prompt was in the cache once the call had begun."""
        return self.counts.read + self.counts.short + self.counts.long

    @cached_property
    def local(self) -> Bools:
        """Whether the embedded model answered."""
        return np.array([model == LOCAL_MODEL for model in self.models], np.bool_)[self.model]

    @cached_property
    def talks(self) -> Bools:
        """Whether a call has a chat."""
        return np.array([bool(name) for name in self.names], np.bool_)[self.chat]

    @cached_property
    def cache(self) -> Ints:
        """How each prompt was cached, a place in ``CACHES``; -1 if like none of them."""
        known = [CACHES.index(cache) if cache in CACHES else -1 for cache in self.caches]
        return np.array(known, np.int64)[self.chat]

    @cached_property
    def before(self) -> Ints:
        """How many tokens the messages before each one have, those of other chats too."""
        return np.concatenate(([0], self.sizes.cumsum()))

    @cached_property
    def priced_from(self) -> Ints:
        """How many changes of price there had been before each call."""
        changes = [(change - EPOCH) // MICROSECOND for change in price_changes()]
        return np.searchsorted(np.array(changes, np.int64), self.at, side="right")

    @cached_property
    def in_chats(self) -> tuple[Ints, Ints]:
        """The calls of chats that used anything, in order; and where among them each chat begins."""
        order = np.flatnonzero(self.talks & (self.input > 0))
        return order, _begins(self.chat[order])

    @cached_property
    def in_chats_by_model(self) -> tuple[Ints, Ints]:
        """The same chat by chat, and in a chat model by model; and where each model of a chat begins."""
        order, _ = self.in_chats
        group = self.chat[order] * len(self.models) + self.model[order]
        sorted_ = np.argsort(group, kind="stable")
        return order[sorted_], _begins(group[sorted_])


def _begins(groups: Ints) -> Ints:
    """Where equal values begin."""
    return np.flatnonzero(np.diff(groups, prepend=-1))


def last_before(which: Bools) -> Ints:
    """The place of the last of them before each place; -1 if there is none."""
    return np.append(-1, last_of(which))[:-1]


def last_of(which: Bools) -> Ints:
    """The place of the last of them up to each place; -1 if there is none."""
    last: Ints = np.maximum.accumulate(np.where(which, np.arange(len(which)), -1))
    return last
