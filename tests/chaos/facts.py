"""What must be true of a store whenever processes that wrote to it were killed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from workbench.store.check import check

from . import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from workbench.store import Store

TURNS = """
SELECT
    h.id, h.message_id, h.session_id, h.state AS hold, COALESCE(u.calls, 0) AS calls, u.status AS billed,
    q.content AS question, r.content AS reply, r.status AS status
FROM holds h
LEFT JOIN messages r ON r.id = h.message_id
LEFT JOIN messages q ON q.chat_id = r.chat_id AND q.seq = r.seq - 1 AND q.role = 'user'
LEFT JOIN (
    SELECT message_id, COUNT(*) AS calls, MIN(status) AS status FROM usage GROUP BY message_id
) u ON u.message_id = h.message_id
"""
"""One row per turn: its hold, its two messages, and how often and as what it was billed."""


class FactViolated(Exception):
    """Something is not as it must be."""


@dataclass
class Told:
    """What the processes said before they died."""

    step: dict[str, str] = field(default_factory=dict)
    """The last word about each turn."""
    saved: dict[str, int] = field(default_factory=dict)
    """Characters of its reply that were written before its end."""
    kept: dict[str, str] = field(default_factory=dict)
    """The messages of the turns that were acknowledged."""


class Turn(NamedTuple):
    """One row of ``TURNS``."""

    id: str
    message_id: str
    session_id: str
    hold: str
    calls: int
    billed: str | None
    question: str | None
    reply: str | None
    status: str | None


ENDS = {("complete", "complete", "settled"), ("lost", "lost", "lost")}

FACTS: dict[str, Callable[[Turn, Told], bool]] = {
    "a turn has its question and its reply": lambda turn, _: None not in (turn.question, turn.reply),
    "an acknowledged turn is complete": lambda turn, told: (
        turn.id not in told.kept or (turn.message_id, turn.status) == (told.kept[turn.id], "complete")
    ),
    "a turn is billed exactly once": lambda turn, _: turn.calls == 1,
    "a turn is complete or lost, and its reply, its bill and its hold agree": lambda turn, _: (
        (turn.status, turn.billed, turn.hold) in ENDS
    ),
    "a complete reply is whole": lambda turn, _: turn.status != "complete" or turn.reply == answer(str(turn.question)),
    "a lost reply is the beginning of the whole one": lambda turn, _: answer(str(turn.question)).startswith(
        str(turn.reply)
    ),
    "what was saved of a reply is kept": lambda turn, told: len(str(turn.reply)) >= told.saved.get(turn.id, 0),
}
"""Of each turn, once it has ended or its process is dead."""


async def verify(store: Store, told: Told, alive: Collection[str] = ()) -> list[Turn]:
    """Return the turns that have ended. Those of the sessions that are ``alive`` may still be under way.

    Raises:
        FactViolated: naming the first fact that does not hold, and the first turn of which it does not.
    """
    kept = set(told.kept)  # what is said from now on may be too late for the query
    begun = {id for id, step in told.step.items() if step != "begin"}
    turns = [Turn(**row) for row in (await store.arrow(TURNS)).to_pylist()]
    present = {turn.id for turn in turns}
    _none("an acknowledged turn is in the store", kept - present)
    _none("a question is in the store before Claude is asked", begun - present)
    ended = [turn for turn in turns if turn.hold != "open" or turn.session_id not in alive or turn.id in kept]
    for fact, holds in FACTS.items():
        _none(fact, (turn for turn in ended if not holds(turn, told)))
    for finding in await check(store.backend):
        _none(f"the ledger holds together: {finding.rule}", finding.ids)
    return ended


def _none(fact: str, exceptions: Iterable[object]) -> None:
    for exception in exceptions:
        raise FactViolated(f"it does not hold that {fact}: {exception}")
