"""What can be compared of the chats of an experiment, and how."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workbench.errors import InvalidRequest
from workbench.prompts.assignment import shares
from workbench.prompts.statistics import LEVEL, Interval, Moments, events, proportions, sequence
from workbench.wording import mean_dollars

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from workbench.prompts.assignment import Experiment


class Scale(Enum):
    """How an outcome is compared."""

    LOG = "the ratio of geometric means"
    EVENTS = "the difference of rates of what is rare"
    SHARE = "the difference of parts"
    PLAIN = "the difference of means"


class Outcome(NamedTuple):
    """What can be compared of chats."""

    column: str
    scale: Scale
    less: str
    more: str
    """What is said of an arm."""
    less_is_better: bool = True

    @property
    def unit(self) -> str:
        """Of the effect: ``%``, ``points`` (of per cent), or none."""
        return {Scale.LOG: "%", Scale.PLAIN: ""}.get(self.scale, "points")

    def values(self, units: pd.DataFrame) -> np.ndarray[Any, Any]:
        """Return the values that can be compared: known ones and, where the logarithm is compared, above zero.

        A chat that cost nothing, or has no first token, has no place on a scale of ratios, and any small amount put in its
        stead would decide the mean. It is left out; the report says how many are, and whether more of one arm.
        """
        known: np.ndarray[Any, Any] = units[self.column].to_numpy(float, na_value=math.nan)
        if self.scale is Scale.LOG:
            return np.asarray(np.log(known[known > 0]))
        known = known[~np.isnan(known)]
        return (known > 0).astype(float) if self.scale is Scale.SHARE else known

    def compared(self, a: Moments, b: Moments, share: float, level: float) -> Interval:
        """Return the second arm's effect in ``unit``, with an interval that holds at every look."""
        if self.scale in (Scale.LOG, Scale.PLAIN):
            found = sequence(a, b, level)
            if self.scale is Scale.PLAIN:
                return found
            return Interval(*(100 * np.expm1(np.minimum(each, 700)) for each in found))
        (hits_a, n_a), (hits_b, n_b) = ((arm.n * arm.mean if arm.n else 0, arm.n) for arm in (a, b))
        if self.scale is Scale.EVENTS:
            found = events(hits_a, n_a, hits_b, n_b, share, level)
        else:
            found = proportions(hits_a, n_a, hits_b, n_b, level)
        return Interval(*(100 * each for each in found))

    def level(self, of: Moments) -> float:
        """Return where an arm stands: geometric mean, per cent, or mean."""
        return float(
            np.exp(of.mean) if self.scale is Scale.LOG else of.mean if self.scale is Scale.PLAIN else 100 * of.mean
        )

    def level_in_words(self, level: float) -> str:
        """Return the same as people write it."""
        if math.isnan(level):
            return "-"
        if self.column == "cost_usd":
            return mean_dollars(level)
        if self.column.endswith("_ms"):
            return f"{level / 1000:.2f} s"
        return f"{level:.1f} %" if self.unit == "points" else f"{level:,.{0 if level >= 100 else 2}f}"


OUTCOMES: Mapping[str, Outcome] = {
    "cost": Outcome("cost_usd", Scale.LOG, "is cheaper", "is dearer"),
    "ttft": Outcome("ttft_ms", Scale.LOG, "begins sooner", "begins later"),
    "duration": Outcome("duration_ms", Scale.LOG, "is faster", "is slower"),
    "output_tokens": Outcome("output_tokens", Scale.LOG, "answers in fewer tokens", "answers in more tokens"),
    "errors": Outcome("failed", Scale.EVENTS, "fails less often", "fails more often"),
    "thumbs": Outcome("thumb", Scale.SHARE, "is liked less", "is liked more", less_is_better=False),
    "score": Outcome("score", Scale.PLAIN, "scores lower", "scores higher", less_is_better=False),
}


def compare(outcome: str, a: Any, b: Any, share: float, level: float = LEVEL) -> tuple[Moments, Moments, Interval]:
    """Return the moments of two arms' values, and the effect of the second, of whose chats it gets a share."""
    first, second = Moments.of(a), Moments.of(b)
    return first, second, OUTCOMES[outcome].compared(first, second, share, level)


def share_of(arm: str, arms: Mapping[str, float]) -> float:
    """Return the part of an arm in what it and the first get."""
    return arms[arm] / (arms[next(iter(arms))] + arms[arm])


def level_of(arms: Mapping[str, object]) -> float:
    """Return the level of each comparison with the first arm."""
    return LEVEL / (len(arms) - 1)


def arms_of(experiment: Experiment, units: pd.DataFrame) -> dict[str, float]:
    """Return the parts of the arms that get chats, the control first.

    Raises:
        InvalidRequest: the primary outcome or an arm is unknown, a unit is there twice, or there are not two arms.
    """
    if experiment.outcome not in OUTCOMES:
        raise InvalidRequest(f"no outcome {experiment.outcome!r}; there are {', '.join(OUTCOMES)}")
    arms = {arm: part for arm, part in shares(experiment.arms).items() if part}
    if len(arms) < 2:
        raise InvalidRequest(
            f"the experiment {experiment.name!r} has one arm only; there is nothing to compare it with"
        )
    if unknown := sorted(map(str, set(units.variant) - set(experiment.arms))):
        raise InvalidRequest(f"no arm {', '.join(unknown)} in the experiment {experiment.name!r}, but chats of it")
    if units.unit_id.duplicated().any():
        raise InvalidRequest("a unit is there twice; give one row for each")
    return arms
