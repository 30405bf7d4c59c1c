"""Kill -9 at random moments of turns, again and again, and see after each that the ledger holds together."""

from __future__ import annotations

from tests.faults.upstream import words

EVENTS = 24
"""Deltas of a reply, at least."""


def answer(question: str) -> str:
    """The reply to a question: whoever knows the question knows the whole text."""
    return f"To {question}: {words(EVENTS)}"
