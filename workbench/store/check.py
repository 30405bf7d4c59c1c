"""Whether the ledger holds together: what must be true of its rows, whatever happened to the processes that wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.store.queries import query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.store.backend import Backend

SHOWN = 5
"""Ids named of the rows that break a rule; enough to begin looking."""

RULES = {
    "turn_without_question": "every reply follows its question",
    "turn_without_reply": "every question has its reply",
    "reply_without_usage": "every reply that ended is billed once",
    "reply_nobody_writes": "every reply on its way has an open hold",
    "usage_without_reply": "every call of a chat has its reply",
    "message_without_chat": "every message belongs to a chat of its org",
    "usage_without_org": "every call belongs to an org",
    "hold_without_message": "every hold belongs to a reply",
    "hold_left_open": "no hold is open once its turn is billed",
    "hold_settled_unbilled": "every settled hold is billed",
    "gap_in_chat": "messages of a chat are numbered without gaps",
    "input_not_its_sum": "input tokens are the sum of their parts",
    "thinking_above_output": "thinking is part of the output",
    "negative_amount": "no count and no cost is negative",
    "sums_differ": "replies have as many tokens as were billed",
    "chat_used_before_begun": "no chat was used before it was begun",
}
"""What must hold, by the name of what breaks it: ``queries/check_<name>.sql`` returns the ids of those rows."""


@dataclass(frozen=True)
class Finding:
    """One rule: how many rows break it, and the ids of the first."""

    name: str
    rule: str
    broken: int
    ids: Sequence[str]

    @property
    def ok(self) -> bool:
        """Whether the rule holds."""
        return not self.broken


async def check(backend: Backend) -> list[Finding]:
    """Return what was found for every rule. Each is one query, so turns that run meanwhile disturb nothing."""
    return [await _finding(backend, name, rule) for name, rule in RULES.items()]


async def _finding(backend: Backend, name: str, rule: str) -> Finding:
    sql = f"SELECT id, COUNT(*) OVER () FROM ({query(f'check_{name}')}) broken ORDER BY id LIMIT {SHOWN}"
    rows = await backend.rows(sql)
    return Finding(name, rule, rows[0][1] if rows else 0, [id for id, _ in rows])
