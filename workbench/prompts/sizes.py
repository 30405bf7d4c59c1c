"""How many chats an experiment needs, said before it starts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workbench.errors import InvalidRequest
from workbench.prompts.assignment import shares
from workbench.prompts.outcomes import OUTCOMES, Scale, level_of
from workbench.prompts.statistics import LEAST, per_arm_for_change, per_arm_for_events, per_arm_for_rates, with_looks

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

EFFECTS: Mapping[Scale, tuple[float, ...]] = {
    Scale.LOG: (-0.1, -0.2, -0.3, -0.4),
    Scale.EVENTS: (2.0, 3.0, 5.0),
    Scale.SHARE: (0.05, 0.1, 0.15, 0.2, 0.25),
    Scale.PLAIN: (0.1, 0.2, 0.3, 0.5),
}
"""That are told: a part of the geometric mean, times as often, points, standard deviations."""
SPREAD, RATES = 1.2, {"errors": 0.02, "thumbs": 0.6}
"""Assumed where no chats tell: standard deviation of logarithms, and how often it happens."""


class Size(NamedTuple):
    """How many chats show an effect in 80 % of experiments."""

    effect: str
    at_once: int
    """Per arm, if it is looked at once, at the end."""
    at_most: int
    """Per arm, if it is looked at as often as one likes; mostly the verdict comes sooner."""
    in_all: int
    """Chats of all arms together, those that cannot be compared (not rated) with them."""


def sizes(outcome: str, arms: Mapping[str, float], before: pd.DataFrame | None = None) -> list[Size]:
    """Return how many chats it takes to see effects of several sizes.

    Args:
        outcome: The primary one.
        arms: Weights. In unequal arms "per arm" is the harmonic mean of two; ``in_all`` goes by the smallest arm.
        before: Chats of the prompt so far, with the columns that ``report_of`` takes: they tell how costs spread and how
            often thumbs go up. Without them costs spread by 1.2, 60 % of thumbs go up and 2 % of chats fail.

    Raises:
        InvalidRequest: no such outcome, or less than two arms.

    Example:
        >>> sizes("cost", {"v3": 1, "v4": 1})[1]
        Size(effect='-20 %', at_once=454, at_most=985, in_all=1970)
    """
    if outcome not in OUTCOMES:
        raise InvalidRequest(f"no outcome {outcome!r}; there are {', '.join(OUTCOMES)}")
    parts = {arm: part for arm, part in shares(arms).items() if part}
    if len(parts) < 2:
        raise InvalidRequest("there is one arm only, and nothing to compare it with")
    of, level = OUTCOMES[outcome], level_of(parts)
    first, *others = parts.values()
    values = np.empty(0) if before is None else of.values(before)
    known = len(values) >= LEAST
    compared = len(values) / len(before) if known and before is not None else 1.0
    seen = float(values.mean()) if known else 0.0
    middle = seen if 0 < seen < 1 else RATES.get(outcome, 0.0)
    spread = float(values.std(ddof=1)) if known and of.scale is Scale.LOG else SPREAD
    found = []
    for effect in EFFECTS[of.scale]:
        at_once = _at_once(of.scale, effect, middle, spread, level)
        if at_once:
            compared_by = (
                per_arm_for_events(middle, middle * effect, level=level) if of.scale is Scale.EVENTS else at_once
            )
            at_most = max(LEAST, with_looks(compared_by, level=level))
            per_arm = at_most / 2 * max(1 / first + 1 / other for other in others)
            found.append(Size(_words(of.scale, effect), at_once, at_most, math.ceil(per_arm / compared)))
    return found


def _at_once(scale: Scale, effect: float, middle: float, spread: float, level: float) -> int | None:
    """Units per arm at a fixed horizon; None if there is no such effect."""
    if scale is Scale.LOG:
        return per_arm_for_change(effect, spread, level=level) if spread else None
    if scale is Scale.PLAIN:
        return per_arm_for_change(math.expm1(effect), 1.0, level=level)
    after = middle * effect if scale is Scale.EVENTS else middle + effect
    return per_arm_for_rates(middle, after, level=level) if middle < after <= 1 else None


def _words(scale: Scale, effect: float) -> str:
    if scale is Scale.LOG:
        return f"{100 * effect:+.0f} %"
    if scale is Scale.SHARE:
        return f"{100 * effect:+.0f} points"
    return f"{effect:g} times" if scale is Scale.EVENTS else f"{effect:g} standard deviations"
