"""How often an org and its users may ask for turns: decided before anything is read, written or spent for one."""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING

from workbench.errors import RateLimited
from workbench.limits import Buckets, Rate, of_org, of_user

if TYPE_CHECKING:
    from workbench.settings import Settings
    from workbench.store import Store
    from workbench.turns import Caller

RATE_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
LONGEST_WAIT = 86_400.0
"""Seconds that a client is told to wait at most, also by a limit that lets nothing pass."""


class Rates:
    """The buckets of all callers: in the database when that is PostgreSQL, so that several servers share them."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._own = None if "://" in settings.store else Buckets()

    async def take(self, caller: Caller) -> dict[str, str]:
        """Take what one turn costs; return the headers that say what is left.

        Raises:
            RateLimited: a bucket is empty, and nothing was taken.
        """
        rates = await self._rates(caller)
        verdict = await self._store.take(rates) if self._own is None else self._own.take(rates, monotonic())
        limit, reset = verdict.rate.burst, min(verdict.reset, LONGEST_WAIT)
        if not verdict.passes:
            raise RateLimited(verdict.rate.key, min(verdict.retry_after, LONGEST_WAIT), limit, reset)
        return headers(limit, verdict.remaining, reset)

    async def _rates(self, caller: Caller) -> list[Rate]:
        org = Rate(of_org(caller.org_id), self._settings.rate_per_minute, self._settings.rate_burst)
        rates = [org]
        for of in await self._store.limits(caller):
            per_minute, burst = of.rate_per_minute, of.rate_burst
            if of.scope == "org":
                rates[0] = Rate(org.key, _or(per_minute, org.per_minute), _or(burst, org.burst))
            elif of.scope == "user" and per_minute is not None:
                key = of_user(caller.org_id, caller.user_id)
                rates.append(Rate(key, per_minute, _or(burst, max(1.0, per_minute / 3))))
        return rates


def headers(limit: float, remaining: float, reset: float) -> dict[str, str]:
    """Return the headers that tell of a bucket: how many may come at once, how many are left, seconds until it is full."""
    return dict(zip(RATE_HEADERS, map(str, (math.floor(limit), math.floor(remaining), math.ceil(reset))), strict=True))


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
