"""Chats that nobody had, to try reports of experiments on; the experiment's name says that they are synthetic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from workbench.prompts.assignment import Experiment, arm_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

BEGUN = datetime(2026, 11, 1, 8, tzinfo=UTC)
USUAL = {
    "cost": 0.004,
    "ttft": 900.0,
    "duration": 6000.0,
    "output_tokens": 350.0,
    "errors": 0.02,
    "thumbs": 0.6,
    "score": 3.5,
}
"""Of the first arm: geometric means (US dollars, milliseconds, tokens), chances, a mean."""


def synthetic_units(
    chats: int,
    arms: Mapping[str, float],
    effects: Mapping[str, Mapping[str, float]] | None = None,
    *,
    outcome: str = "cost",
    rated: float = 0.3,
    seed: int = 1,
) -> tuple[Experiment, pd.DataFrame]:
    """Return an experiment and its chats, as ``report_of`` takes them.

    Args:
        chats: How many, over 14 days; dealt by ``arm_of``, so arms differ a little.
        arms: Weights.
        effects: By arm and outcome, what is different from the usual: the factor of a geometric mean (``{"v4": {"cost":
            0.7}}``), else what is added to a chance (``{"errors": 0.02}``) or the mean score. None: nothing, an A/A test.
        outcome: The primary one.
        rated: Part of the chats with a thumb.
        seed: The same one gives the same chats.

    Example:
        >>> experiment, units = synthetic_units(100, {"v3": 1, "v4": 1})
        >>> experiment.name, len(units), sorted(set(units.variant))
        ('synthetic', 100, ['v3', 'v4'])
    """
    import pandas as pd  # on use: 0.3 s

    random = np.random.default_rng(seed)
    ids = [f"synthetic-{n}" for n in range(chats)]
    variant = np.array([arm_of(f"synthetic-{seed}", unit, arms) for unit in ids], dtype=object)

    def usual(name: str, plain: bool) -> np.ndarray:
        changes = {arm: (effects or {}).get(arm, {}).get(name, 0 if plain else 1) for arm in arms}
        change = np.array([changes[arm] for arm in variant], float)
        return USUAL[name] + change if plain else USUAL[name] * change

    def lognormal(name: str, spread: float) -> np.ndarray:
        return usual(name, plain=False) * random.lognormal(0, spread, chats)

    failed = random.random(chats) < usual("errors", plain=True)
    thumb = np.where(random.random(chats) < usual("thumbs", plain=True), 1.0, -1.0)
    units = pd.DataFrame(
        {
            "unit_id": ids,
            "variant": variant,
            "cost_usd": lognormal("cost", 1.2),
            "ttft_ms": lognormal("ttft", 0.6),
            "duration_ms": lognormal("duration", 0.7),
            "output_tokens": np.ceil(lognormal("output_tokens", 0.9)),
            "calls": 1 + random.poisson(3, chats),
            "failed": failed,
            "thumb": np.where(random.random(chats) < rated, thumb, np.nan),
            "score": usual("score", plain=True) + random.normal(0, 0.8, chats),
            "first_exposed_at": [BEGUN + timedelta(days=14) * (n / chats) for n in range(chats)],
        }
    )
    return Experiment("synthetic", "support", dict(arms), outcome, started_at=BEGUN), units
