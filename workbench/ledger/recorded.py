"""The stored chats of a period, as a replay needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.ledger.frames import chat_id_of, moment_of
from workbench.ledger.reading import recorded_chats
from workbench.runtime import runtime
from workbench.store.queries import query
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from workbench.chat import Chat as AnyChat
    from workbench.ledger.frames import Moment
    from workbench.ledger.reading import Chats


class Scope(NamedTuple):
    """Whose calls, and which: those from ``since`` on and before ``until``, or of one chat."""

    org: str = DEFAULT_ID
    since: datetime | None = None
    until: datetime | None = None
    chat: str = ""


def scope_of(since: Moment | None, until: Moment | None, chat: AnyChat | str | None, org: str) -> Scope:
    """Return the scope that the arguments of a function of the ledger name."""
    return Scope(org, moment_of(since), moment_of(until), chat_id_of(chat))


def chats_of(scope: Scope) -> Chats:
    """Return the chats with a call in the scope, with all their calls before its end, then the calls without a chat."""
    calls, messages, systems = (_table(f"replay_{name}", *scope) for name in ("calls", "messages", "systems"))
    return recorded_chats(calls, messages, {row["chat_id"]: row["system"] for row in systems.to_pylist()})


def texts_of(scope: Scope, most: int) -> list[dict[str, Any]]:
    """Return ``role``, ``content``, ``token_count`` and ``status`` of the newest messages of the scope's chats."""
    texts: list[dict[str, Any]] = _table("replay_texts", *scope, most).to_pylist()
    return texts


def _table(name: str, *values: object) -> pa.Table:
    return runtime().run(runtime().engine.store.arrow(query(name), *values))
