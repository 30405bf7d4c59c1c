"""What users think of replies, as those see it who gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from workbench.prompts import experiments
from workbench.store.queries import query

if TYPE_CHECKING:
    from datetime import datetime

    from workbench.store.backend import Backend
    from workbench.turns import Caller


class Feedback(NamedTuple):
    """What a user thinks of a reply."""

    score: int
    """1 for a thumb up, -1 for one down."""
    comment: str | None


async def given(backend: Backend, caller: Caller, chat_id: str) -> dict[str, Feedback]:
    """Return what the caller thinks of the replies of a chat, the newest of each, by the reply's id.

    A reply that branches share has in each what was said of it in the chat it was asked in.
    """
    rows = await backend.rows(query("chat_feedback"), chat_id, caller.org_id, caller.user_id)
    return {message_id: Feedback(score, comment) for message_id, score, comment in rows}


async def give(
    backend: Backend, caller: Caller, message_id: str, score: int, now: datetime, comment: str | None = None
) -> str:
    """Record what the caller thinks of a reply of theirs; of one that branches share, where it was asked. Return its id.

    Raises:
        NotFound: the caller has no such reply.
        InvalidRequest: the score is neither 1 nor -1, or the comment cannot be kept.
    """
    billed = await backend.rows(query("billed_reply"), message_id, caller.org_id)
    return await experiments.feedback(backend, caller, billed[0][0] if billed else message_id, score, now, comment)
