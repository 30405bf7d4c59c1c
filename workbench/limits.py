"""How often somebody may ask: token buckets, which allow a burst and then a steady rate.

A bucket holds ``burst`` tokens at most, gets ``per_minute`` tokens a minute, and every request takes some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SWEEP_AT = 10_000
"""Buckets, from which on those that are full are forgotten."""


def of_org(org_id: str) -> str:
    """Return what the bucket of an org is called."""
    return f"org {org_id!r}"


def of_user(org_id: str, user_id: str) -> str:
    """Return what the bucket of a user is called.

    >>> of_user("acme", "ada")
    "user 'ada' of org 'acme'"
    """
    return f"user {user_id!r} of {of_org(org_id)}"


@dataclass(frozen=True, slots=True)
class Rate:
    """What a bucket is: whose, how much it gets a minute, how much it holds."""

    key: str
    per_minute: float
    burst: float

    def refilled(self, tokens: float, seconds: float) -> float:
        """Return what a bucket of so many tokens holds so many seconds later."""
        return min(self.burst, tokens + max(0.0, seconds) * self.per_minute / 60)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass, and what the tightest of its buckets holds now.

    ``retry_after`` are seconds until it would pass, 0 if it does, infinite if it never will; ``reset`` seconds until
    the bucket is full.
    """

    rate: Rate
    remaining: float
    retry_after: float

    @property
    def passes(self) -> bool:
        return self.retry_after == 0

    @property
    def reset(self) -> float:
        return (self.rate.burst - self.remaining) * 60 / self.rate.per_minute if self.rate.per_minute else float("inf")


def wait(rate: Rate, tokens: float, weight: float) -> float:
    """Return the seconds until a bucket of so many tokens has ``weight``; infinite when it never will.

    >>> wait(Rate("acme", per_minute=60, burst=20), tokens=0.5, weight=1)
    0.5
    """
    if tokens >= weight:
        return 0.0
    if weight > rate.burst or not rate.per_minute:
        return float("inf")
    return (weight - tokens) * 60 / rate.per_minute


class Buckets:
    """The buckets of one process. Deciding takes no wait, so on an event loop nobody comes in between."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Rate, float, float]] = {}
        """Its rate, its tokens and when they were counted, by key; whoever is not here has a full bucket."""
        self._sweep_at = SWEEP_AT

    def take(self, rates: Sequence[Rate], now: float, weight: float = 1) -> Verdict:
        """Take ``weight`` from all buckets, or from none when one of them holds less.

        Args:
            rates: At least one; of the tightest the verdict tells.
            now: Seconds of a clock that never goes back.
            weight: How many tokens the request takes.

        Example:
            >>> buckets, rate = Buckets(), Rate("acme", per_minute=60, burst=2)
            >>> [buckets.take([rate], now).retry_after for now in (0.0, 0.0, 0.25, 1.0)]
            [0.0, 0.0, 0.75, 0.0]
        """
        held = [self._tokens(rate, now) for rate in rates]
        waits = [wait(rate, tokens, weight) for rate, tokens in zip(rates, held, strict=True)]
        taken = weight if not any(waits) else 0
        left = [tokens - taken for tokens in held]
        self._held |= {rate.key: (rate, tokens, now) for rate, tokens in zip(rates, left, strict=True)}
        if len(self._held) > self._sweep_at:
            self._forget_full(now)
        worst = max(range(len(rates)), key=lambda n: (waits[n], -left[n]))
        return Verdict(rates[worst], left[worst], waits[worst])

    def _tokens(self, rate: Rate, now: float) -> float:
        _, tokens, counted = self._held.get(rate.key, (rate, rate.burst, now))
        return rate.refilled(tokens, now - counted)

    def _forget_full(self, now: float) -> None:
        """Drop what is as good as not here; made-up callers by the million must not fill the memory."""
        self._held = {key: held for key, held in self._held.items() if self._tokens(held[0], now) < held[0].burst}
        self._sweep_at = max(SWEEP_AT, 2 * len(self._held))
