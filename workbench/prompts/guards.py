"""Stopping an arm that does harm, before there is a verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequest
from workbench.prompts.outcomes import OUTCOMES, arms_of, share_of
from workbench.prompts.statistics import LEAST, LEVEL, Moments, evidence_of_more, least_difference

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from workbench.prompts.assignment import Experiment


def stopped_by_guard(experiment: Experiment, units: pd.DataFrame, guard: Mapping[str, float]) -> tuple[str, str] | None:
    """Return the arm that a guard stops and why, or None.

    Looked at as often as one likes, a guard stops an arm that is within its limit in at most 5 % of experiments. Errors are
    judged exactly and from the first on, costs from 30 chats per arm on.

    Args:
        experiment: Its arms but the first are guarded.
        units: As for ``report_of``.
        guard: Of ``errors`` and ``cost``, how many times the first arm's an arm may have: ``{"errors": 1, "cost": 1.5}``
            stops an arm that fails more often, or whose chats cost more than half as much again (geometric mean).

    Raises:
        InvalidRequest: a guard is of another outcome, or not above 0; or as ``report_of``.
    """
    if wrong := {
        name: limit for name, limit in guard.items() if name not in ("errors", "cost") or not 0 < limit < math.inf
    }:
        raise InvalidRequest(
            f"no guard can be {wrong}; give errors or cost, and how many times the first arm's is allowed"
        )
    arms = arms_of(experiment, units)
    first, *others = arms
    level = LEVEL / len(others) / max(1, len(guard))
    for arm in others:
        for name, limit in guard.items():
            a, b = (Moments.of(OUTCOMES[name].values(units[units.variant == of])) for of in (first, arm))
            if name == "errors":
                hits_a, hits_b = (of.n * of.mean if of.n else 0 for of in (a, b))
                passed = evidence_of_more(hits_a, hits_b, share_of(arm, arms), limit) > 1 / level
            else:
                passed = min(a.n, b.n) >= LEAST and least_difference(a, b, level) > math.log(limit)
            if passed:
                told = [OUTCOMES[name].level_in_words(OUTCOMES[name].level(of)) for of in (a, b)]
                allowed = "no more" if limit == 1 else f"{limit:g} times as much"
                return arm, f"the guard on {name} stopped {arm}: {told[1]}, {first} {told[0]}, and {allowed} is allowed"
    return None
