"""Chats that are branches of one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING

from workbench.store.queries import query

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.store.backend import Backend
    from workbench.turns import Caller


@dataclass(slots=True, kw_only=True)
class Branch:
    """A chat beside those it was forked from or that were forked from it."""

    chat_id: str
    forked_from: str | None
    created_at: datetime
    updated_at: datetime
    messages: int = 0
    shared: int = 0
    """How many messages it began with when it was forked."""
    asks: dict[int, str] = field(default_factory=dict)
    """A digest of what it asks at the places where branches part, by ``seq``."""


async def family(backend: Backend, caller: Caller, chat_id: str) -> list[Branch]:
    """Return the branches of a chat of the caller, itself among them, the oldest first; none of any other chat."""
    rows = await backend.rows(query("family"), chat_id, caller.org_id, caller.user_id)
    branches = {
        id: Branch(
            chat_id=id,
            forked_from=forked_from,
            created_at=created_at.astimezone(UTC),
            updated_at=updated_at.astimezone(UTC),
        )
        for id, forked_from, created_at, updated_at in rows
    }
    if len(branches) > 1:
        for id, messages, shared, seq, digest in await backend.rows(query("partings"), list(branches), caller.org_id):
            branch = branches[id]
            branch.messages, branch.shared = messages, shared
            if seq is not None:
                branch.asks[seq] = digest
    return list(branches.values())
