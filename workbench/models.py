"""What is known of Claude's models without asking: which are retired, and what replaces them."""

from __future__ import annotations

import re
from datetime import date

from workbench.errors import ModelRetired

SUCCESSORS = {"haiku": "claude-haiku-5-5", "sonnet": "claude-sonnet-5-5", "opus": "claude-opus-5-5"}

# First day on which requests fail. A name stands for every model it begins, dated or not.
# Source: https://platform.claude.com/docs/en/about-claude/model-deprecations
RETIRED = {
    "claude-1": date(2024, 11, 6),
    "claude-instant": date(2024, 11, 6),
    "claude-2": date(2025, 7, 21),
    "claude-3": date(2026, 2, 19),
    "claude-sonnet-4-0": date(2026, 6, 15),
    "claude-sonnet-4-20250514": date(2026, 6, 15),
    "claude-opus-4-0": date(2026, 6, 15),
    "claude-opus-4-20250514": date(2026, 6, 15),
    # never existed, but the predecessor's handbook told people to set it
    "claude-haiku-4-20250514": date(2026, 6, 15),
    "claude-mythos-preview": date(2026, 6, 30),
    "claude-opus-4-1": date(2026, 8, 5),
    "claude-sonnet-4-5": date(2026, 11, 30),
}


def refuse_retired(model: str, today: date) -> None:
    """Raise ModelRetired, naming the successor, when requests to the model fail by now.

    >>> refuse_retired("claude-sonnet-4-20250514", date(2026, 11, 24))
    Traceback (most recent call last):
    workbench.errors.ModelRetired: model 'claude-sonnet-4-20250514' is retired; use 'claude-sonnet-5-5', its successor
    """
    for name, retired in RETIRED.items():
        # claude-opus-4-1 and claude-opus-4-1-20250805, but not a claude-opus-4-10
        if re.match(rf"{name}(?!\d)", model) and today >= retired:
            raise ModelRetired(model, _successor(model))


def _successor(model: str) -> str:
    return next((new for family, new in SUCCESSORS.items() if family in model), SUCCESSORS["sonnet"])
