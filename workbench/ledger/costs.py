"""What many calls cost at once, as exactly as one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workbench.ledger.columns import NANO
from workbench.pricing import CLASSES, price_changes, tier_starts, unit_costs
from workbench.turns import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.ledger.columns import Bools, Counts, Ints

MOST = 2**62
"""Above it, sums might not fit into 64 bits."""


class Costs(NamedTuple):
    """Dollars times ten to the power of ``digits``, unrounded."""

    amounts: Any
    digits: int
    known: Bools
    """Whether there is a price; without one the amount is 0."""

    def nanos(self) -> Ints:
        """Return them as the ledger keeps them, in nanodollars: halves go to the even one."""
        step = 10 ** (self.digits - NANO)
        whole, rest = self.amounts // step, self.amounts % step
        up = (2 * rest > step) | ((2 * rest == step) & (whole % 2 == 1))
        nanos: Ints = (whole + up).astype(np.int64)
        return nanos


def costs_of(
    models: Sequence[str], model: Ints, priced_from: Ints, counts: Counts, batch: Bools, us: Bools, fast: Bools
) -> Costs:
    """Return what calls cost.

    Args:
        models: Names of models.
        model: Of each call, a place in ``models``.
        priced_from: How many changes of price there had been before it.
        counts: Its tokens and searches.
        batch: Whether it went through the Batch API.
        us: Whether it was kept in the US.
        fast: Whether it ran in fast mode.
    """
    tiers = np.array(tier_starts(), np.int64)
    above = np.searchsorted(tiers, counts.prompt)
    shape = (len(models), len(price_changes()) + 1, len(tiers) + 1, 2, 2, 2)
    key = np.ravel_multi_index((model, priced_from, above, batch + 0, us + 0, fast + 0), shape)
    found = np.flatnonzero(np.bincount(key))
    row = np.searchsorted(found, key)
    units = [_units(models[n], *map(int, terms)) for n, *terms in zip(*np.unravel_index(found, shape), strict=True)]
    digits = max([NANO, *(-int(unit.as_tuple().exponent) for known in units for unit in known or ())])
    scaled = [[int(unit.scaleb(digits)) for unit in known or [Decimal(0)] * len(CLASSES)] for known in units]
    most = sum(int(count.max(initial=0)) for count in counts) * max((max(each) for each in scaled), default=0)
    prices = np.array(scaled, np.int64 if most < MOST else object).reshape(len(units), len(CLASSES))
    amounts = sum(count * prices[row, n] for n, count in enumerate(counts))
    return Costs(amounts, digits, np.array([known is not None for known in units], np.bool_)[row])


@lru_cache(maxsize=10_000)
def _units(model: str, priced_from: int, above: int, batch: int, us: int, fast: int) -> tuple[Decimal, ...] | None:
    """What one of each of ``CLASSES`` costs."""
    # before the first change any moment is as good as the others
    at = (datetime(2000, 1, 1, tzinfo=UTC), *price_changes())[priced_from]
    terms = Usage(
        service_tier="batch" if batch else None, inference_geo="us" if us else None, speed="fast" if fast else None
    )
    units = unit_costs(model, at, input_tokens=(-1, *tier_starts())[above] + 1, terms=terms)
    return None if units is None else tuple(units[name] for name in CLASSES)
