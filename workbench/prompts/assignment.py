"""Which arm of an experiment a chat gets: the same one every time, on every machine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

BITS = 52
"""Of the hash: as many as a float holds exactly."""


@dataclass(frozen=True)
class Experiment:
    """What is compared, and which outcome decides; fixed when it starts."""

    name: str
    prompt: str
    arms: Mapping[str, float] = field(hash=False)
    """Variants and their weights, relative to each other; the first is the control, the one in use."""
    outcome: str
    """The primary one, the only one with a verdict."""
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    stop_reason: str | None = None
    unit: str = "chat"
    """What is assigned and counted: ``chat`` or ``user``."""


def arm_of(salt: str, unit_id: str, arms: Mapping[str, float], coverage: float = 1.0) -> str | None:
    """Return the arm of a unit, or None if it is not in the experiment.

    The first 52 bits of ``sha256(f"{salt}:{unit_id}")``, as a part of 2^52, are looked up in the cumulative weights. Arms
    are gone through by name, since not every store keeps the order of keys. Whether a unit takes part is told by a hash
    of its own, so another coverage takes units in or out and moves none between arms.

    Args:
        salt: The experiment's own; another one deals anew.
        unit_id: Of the chat or user.
        arms: Weights of the variants. They are relative: 1 and 1, or 50 and 50, are halves. One of 0 gets nobody.
        coverage: Part of all units that takes part, 0 to 1.

    Raises:
        InvalidRequest: there is no arm, a weight is not a number of 0 or more, none is above 0, or the coverage is not
            between 0 and 1.

    Example:
        >>> arm_of("salt", "chat-1", {"v3": 0.5, "v4": 0.5})
        'v4'
        >>> arm_of("salt", "chat-1", {"v3": 0.5, "v4": 0.5}, coverage=0) is None
        True

    Source: Kohavi, Tang, Xu, Trustworthy Online Controlled Experiments (2020), on assigning variants.
    """
    parts = shares(arms)
    if not 0 <= coverage <= 1:
        raise InvalidRequest(f"a coverage of {coverage} is none; give a part of all units, from 0 to 1")
    if _point(f"coverage:{salt}:{unit_id}") >= coverage:
        return None
    at, reached = _point(f"{salt}:{unit_id}"), 0.0
    names = sorted(arm for arm, part in parts.items() if part)
    for arm in names:
        reached += parts[arm]
        if at < reached:
            return arm
    return names[-1]  # the sum of the parts may end a rounding error below 1


def shares(arms: Mapping[str, float]) -> dict[str, float]:
    """Return the parts of all units that the arms get, in the order given.

    >>> shares({"v3": 3, "v4": 1})
    {'v3': 0.75, 'v4': 0.25}

    Raises:
        InvalidRequest: the weights are none, see ``arm_of``.
    """
    wrong = {arm: weight for arm, weight in arms.items() if not (math.isfinite(weight) and weight >= 0)}
    if wrong:
        raise InvalidRequest(f"a weight must be a number of 0 or more, unlike {wrong}")
    total = math.fsum(arms.values())
    if not total:
        raise InvalidRequest("no arm has a weight above 0; give at least one, such as {'v3': 0.5, 'v4': 0.5}")
    return {arm: weight / total for arm, weight in arms.items()}


def _point(text: str) -> float:
    """Where the hash of a text lies between 0 and 1."""
    # surrogatepass: half of a surrogate pair in an id is no reason to fail a chat
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return int(digest[: BITS // 4], 16) / (1 << BITS)
