"""Deleting what people said, and keeping what it cost.

Content is the chats with their messages, feedback, exposures to experiments and scores. Usage rows hold no text, and bills must add up
afterwards: they stay, unless a whole org is erased. A chat in which a turn runs is never deleted, since the turn has yet
to be billed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from workbench.errors import NotFound, TurnRunning
from workbench.limits import of_org, of_user
from workbench.store.backend import Statement
from workbench.store.queries import query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from workbench.store.backend import Backend

CHUNK = 200
"""Chats deleted in one transaction: turns that run meanwhile wait for one such at most."""

TABLES_OF_CHATS = ("idempotency_keys", "messages", "feedback", "exposures", "experiment_scores", "holds")
"""The first is found by its messages."""
ORG_TABLES = (
    "users",
    "api_keys",
    "chats",
    "messages",
    "usage",
    "holds",
    "prompts",
    "prompt_versions",
    "prompt_labels",
    "protected_labels",
    "experiments",
    "coverage_changes",
    "stopped_arms",
    "exposures",
    "experiment_scores",
    "feedback",
    "idempotency_keys",
    "batches",
)

NAMED_IN = (
    ("usage", "user_id"),
    ("usage", "key_id"),  # a key without a user is a user itself, by its id
    ("holds", "user_id"),
    ("holds", "key_id"),
    ("prompt_versions", "author"),
    ("prompt_labels", "moved_by"),
    ("protected_labels", "protected_by"),
    ("experiments", "started_by"),
    ("experiments", "stopped_by"),
    ("coverage_changes", "changed_by"),
)
"""Where the name of an erased user is replaced, in a row that stays."""


@dataclass
class Removed:
    """How much was deleted; ``usage`` counts the usage rows that were deleted, or rid of the user they named."""

    chats: int = 0
    messages: int = 0
    usage: int = 0

    def add(self, chats: int, messages: int) -> None:
        """Count chats with their messages."""
        self.chats += chats
        self.messages += messages


def _nothing(removed: Removed) -> None:
    pass


async def delete_chat(backend: Backend, org_id: str, user_id: str, chat_id: str) -> None:
    """Delete a chat of a user; its forks are chats of their own and stay.

    Raises:
        NotFound: the user has no such chat.
        TurnRunning: a turn runs in it.
    """
    if not await backend.rows(query("chat"), chat_id, org_id, user_id):
        raise NotFound("chat", chat_id, "wb.chats() lists the chats there are")
    await backend.write(_deletion([chat_id], org_id, None))
    if await backend.rows(query("chat"), chat_id, org_id, user_id):
        raise _running(f"chat {chat_id}", 1)


async def erase_user(
    backend: Backend, org_id: str, user_id: str, progress: Callable[[Removed], None] = _nothing
) -> Removed:
    """Delete a user and everything they said; their usage rows stay, under a name that nobody can trace back.

    Raises:
        NotFound: the org has no such user and nothing of one, also when it was erased before.
        TurnRunning: turns of theirs run; the rest is deleted.
    """
    await _known_user(backend, org_id, user_id)
    removed = await _erase_chats(backend, org_id, user_id, None, progress)
    await _refuse_running(backend, org_id, user_id, f"user {user_id!r} of org {org_id!r}")
    ((removed.usage,),) = await backend.rows(
        "SELECT COUNT(*) FROM usage WHERE org_id = $1 AND user_id = $2", org_id, user_id
    )
    who = (org_id, user_id)
    # made up and kept nowhere: a hash of the id could be found again by trying ids
    name = f"erased-{secrets.token_hex(8)}"
    await backend.write(
        [
            *(
                Statement(f"UPDATE {table} SET {column} = $3 WHERE org_id = $1 AND {column} = $2", (*who, name))
                for table, column in NAMED_IN
            ),
            Statement("DELETE FROM exposures WHERE org_id = $1 AND user_id = $2", who),
            Statement("DELETE FROM batches WHERE org_id = $1 AND user_id = $2", who),
            Statement("DELETE FROM feedback WHERE org_id = $1 AND user_id = $2", who),
            Statement("DELETE FROM idempotency_keys WHERE org_id = $1 AND user_id = $2", who),
            Statement("DELETE FROM api_keys WHERE org_id = $1 AND COALESCE(user_id, id) = $2", who),
            Statement("DELETE FROM users WHERE org_id = $1 AND id = $2", who),
            Statement("DELETE FROM rate_buckets WHERE id = $1", (of_user(*who),)),
        ]
    )
    return removed


async def erase_org(backend: Backend, org_id: str, progress: Callable[[Removed], None] = _nothing) -> Removed:
    """Delete an org and everything of it, its usage included.

    Raises:
        NotFound: there is no such org.
        TurnRunning: turns of it run; other chats are deleted, the org and its usage are still there.
    """
    await known_org(backend, org_id)
    removed = await _erase_chats(backend, org_id, None, None, progress)
    ((removed.usage,),) = await backend.rows("SELECT COUNT(*) FROM usage WHERE org_id = $1", org_id)
    idle = "NOT EXISTS (SELECT 1 FROM holds h WHERE h.org_id = $1 AND h.state = 'open')"
    gone = "NOT EXISTS (SELECT 1 FROM orgs o WHERE o.id = $1)"
    await backend.write(
        [
            Statement(f"DELETE FROM orgs WHERE id = $1 AND {idle}", (org_id,)),
            *(Statement(f"DELETE FROM {table} WHERE org_id = $1 AND {gone}", (org_id,)) for table in ORG_TABLES),
            Statement(
                f"DELETE FROM rate_buckets WHERE (id = $2 OR RIGHT(id, LENGTH($3)) = $3) AND {gone}",
                (org_id, of_org(org_id), f" of {of_org(org_id)}"),  # its own, and those of its users
            ),
        ]
    )
    await _refuse_running(backend, org_id, None, f"org {org_id!r}")
    return removed


async def prune(backend: Backend, now: datetime, progress: Callable[[Removed], None] = _nothing) -> dict[str, Removed]:
    """Delete the chats nobody used for longer than their org keeps them; return what was deleted of each org."""
    kept = [(org_id, days) for org_id, days in await backend.rows(query("retention")) if days is not None]
    return {
        org_id: await _erase_chats(backend, org_id, None, now - timedelta(days=days), progress) for org_id, days in kept
    }


async def retain(backend: Backend, org_id: str, days: int | None) -> None:
    """Set how many days after its last use the content of a chat is kept; None for ever.

    Raises:
        NotFound: there is no such org.
    """
    await known_org(backend, org_id)
    await backend.write([Statement("UPDATE orgs SET retain_days = $2 WHERE id = $1", (org_id, days))])


async def known_org(backend: Backend, org_id: str) -> None:
    """Raise NotFound unless there is such an org."""
    if not await backend.rows("SELECT 1 FROM orgs WHERE id = $1", org_id):
        raise NotFound("org", org_id, "`workbench store retain` lists the orgs there are")


# Inside -------------------------------------------------------------------------------------------------------------


async def _erase_chats(
    backend: Backend,
    org_id: str,
    user_id: str | None,
    unused_since: datetime | None,
    progress: Callable[[Removed], None],
) -> Removed:
    removed = Removed()
    while chats := await backend.rows(query("erasable_chats"), org_id, user_id, unused_since, CHUNK):
        ids = [id for id, _ in chats]
        await backend.write(_deletion(ids, org_id, unused_since))
        left = {
            id for (id,) in await backend.rows("SELECT id FROM chats WHERE id = ANY($1) AND org_id = $2", ids, org_id)
        }
        removed.add(len(ids) - len(left), sum(messages for id, messages in chats if id not in left))
        progress(removed)
    return removed


def _deletion(ids: Sequence[str], org_id: str, unused_since: datetime | None) -> list[Statement]:
    """One transaction. What belongs to a chat goes only if the chat went: a turn may have begun in it."""
    which = (list(ids), org_id)
    return [
        Statement(query("erase_lock"), which),
        Statement(query("erase_chats"), (*which, unused_since)),
        *(Statement(query(f"erase_{table}"), which) for table in TABLES_OF_CHATS),
    ]


async def _known_user(backend: Backend, org_id: str, user_id: str) -> None:
    await known_org(backend, org_id)
    # a key may be a user's: only what was done as a user makes it one
    places = (("users", "id"), ("chats", "user_id"), *(place for place in NAMED_IN if place[1] != "key_id"))
    named = (f"SELECT 1 FROM {table} WHERE org_id = $1 AND {column} = $2" for table, column in places)
    found = await backend.rows(f"{' UNION ALL '.join(named)} LIMIT 1", org_id, user_id)
    if not found:
        raise NotFound("user", user_id, f"org {org_id!r} has none of that id, or no longer")


async def _refuse_running(backend: Backend, org_id: str, user_id: str | None, whose: str) -> None:
    ((turns,),) = await backend.rows(query("running_turns"), org_id, user_id, None)
    if turns:
        raise _running(whose, turns)


def _running(whose: str, turns: int) -> TurnRunning:
    what = "a turn of" if turns == 1 else f"{turns:,} turns of"
    verb = "is" if turns == 1 else "are"
    return TurnRunning(f"{what} {whose} {verb} still running and has to be billed; stop it, or wait, and do this again")
