"""What an org, a user or a key may still spend: the worst case of a turn is held before it and settled after it.

Budgets count what was spent in their period plus the open holds, so turns that run at the same time cannot spend the
same dollar twice. A turn that does not fit gets a shorter reply; when not even a short one fits it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Literal

from workbench.errors import BudgetExceeded, InvalidRequest
from workbench.pricing import LEDGER_DIGITS, MILLION, price_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORT_REPLY = 64
"""Tokens; a reply that would have to be shorter is not begun."""
SOFT_LIMIT = Decimal("0.8")
"""The part of a budget from which on every answer says so."""

Scope = Literal["org", "user", "key"]
Period = Literal["day", "month"]


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget as it stands: US dollars, of which some are spent and some held for turns that run."""

    scope: Scope
    id: str
    limit_usd: Decimal
    period: Period | None
    spent_usd: Decimal = Decimal(0)
    held_usd: Decimal = Decimal(0)

    @property
    def left_usd(self) -> Decimal:
        """What may still be spent, in US dollars; never below zero."""
        return max(Decimal(0), self.limit_usd - self.spent_usd - self.held_usd)

    @property
    def nearly_spent(self) -> bool:
        """Whether 80 % or more is spent or held."""
        return self.spent_usd + self.held_usd >= SOFT_LIMIT * self.limit_usd


def begun(period: Period | None, now: datetime) -> datetime:
    """Return when the period began that ``now`` lies in, in UTC; without a period, the beginning of all time.

    >>> begun("month", datetime(2026, 11, 25, 12, tzinfo=UTC)).isoformat()
    '2026-11-01T00:00:00+00:00'
    """
    if period is None:
        return datetime(1970, 1, 1, tzinfo=UTC)
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight if period == "day" else midnight.replace(day=1)


def ends(period: Period | None, now: datetime) -> datetime | None:
    """Return when the period ends that ``now`` lies in, in UTC; None without a period.

    >>> ends("day", datetime(2026, 12, 31, 12, tzinfo=UTC)).isoformat()
    '2027-01-01T00:00:00+00:00'
    """
    if period is None:
        return None
    first = begun(period, now).toordinal()
    days = range(first + 1, first + 33)
    return next(d for d in map(_midnight, days) if period == "day" or d.day == 1)


def _midnight(ordinal: int) -> datetime:
    return datetime.fromordinal(ordinal).replace(tzinfo=UTC)


def affordable(
    budgets: Sequence[Budget], model: str, input_tokens: int, max_tokens: int, now: datetime
) -> tuple[int, Decimal]:
    """Return how long a reply the tightest budget allows, in tokens, and the US dollars to hold for the turn.

    Args:
        budgets: All that apply, at least one.
        model: Who answers.
        input_tokens: An upper estimate of the whole prompt.
        max_tokens: The longest reply that is wanted.
        now: When the call is sent, with a time zone.

    Raises:
        BudgetExceeded: not even a short reply fits.
        InvalidRequest: the price of the model is not known, so nobody can say what fits.

    Example:
        >>> budget = Budget("org", "acme", limit_usd=Decimal("0.001"), period="day")
        >>> affordable([budget], "claude-haiku-5-5", 1000, 4096, datetime(2026, 11, 24, tzinfo=UTC))
        (1600, Decimal('0.001000000'))
    """
    price = price_of(model, now, input_tokens=input_tokens)
    tightest = min(budgets, key=lambda budget: budget.left_usd)
    whose = f"{tightest.scope} {tightest.id!r}"
    if price is None:
        raise InvalidRequest(
            f"the price of model {model!r} is not known and {whose} has a budget; choose a model whose price is known"
        )
    asking = input_tokens * max(price.cache_write_1h, price.input) / MILLION
    room = tightest.left_usd - asking
    fitting = int(room * MILLION / price.output) if price.output else max_tokens
    if fitting < min(SHORT_REPLY, max_tokens):
        needed = asking + min(SHORT_REPLY, max_tokens) * price.output / MILLION
        raise BudgetExceeded(whose, tightest.left_usd, needed, tightest.period, ends(tightest.period, now))
    tokens = min(fitting, max_tokens)
    held = asking + tokens * price.output / MILLION
    return tokens, held.quantize(LEDGER_DIGITS, ROUND_UP)
