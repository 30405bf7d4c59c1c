"""What is known of Claude's models without asking: which are retired, and what replaces them."""

from __future__ import annotations

from datetime import date

from workbench.errors import ModelRetired

SUCCESSORS = {"haiku": "claude-haiku-5-5", "sonnet": "claude-sonnet-5-5", "opus": "claude-opus-5-5"}

# First day on which requests fail. Source: https://platform.claude.com/docs/en/about-claude/model-deprecations
RETIRED = {
    "claude-1": date(2024, 11, 6),
    "claude-instant": date(2024, 11, 6),
    "claude-2": date(2025, 7, 21),
    "claude-3": date(2026, 2, 19),
    "claude-sonnet-4-0": date(2026, 6, 15),
    "claude-sonnet-4-2025": date(2026, 6, 15),
    "claude-opus-4-0": date(2026, 6, 15),
    "claude-opus-4-2025": date(2026, 6, 15),
    # never existed, but the predecessor's handbook told people to set it
    "claude-haiku-4-2025": date(2026, 6, 15),
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
    for prefix, retired in RETIRED.items():
        if (model == prefix or model.startswith(prefix + "-") or _dated(model, prefix)) and today >= retired:
            raise ModelRetired(model, _successor(model))


def _dated(model: str, prefix: str) -> bool:
    return prefix.endswith("2025") and model.startswith(prefix)


def _successor(model: str) -> str:
    return next((new for family, new in SUCCESSORS.items() if family in model), SUCCESSORS["sonnet"])
