"""What was read, as rows of the ledger: the same for the same file, so that nothing is there twice.

An import writes whole batches, each in one transaction; a row that is there is left as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from workbench.ledger.imports.values import id_of
from workbench.pricing import LEDGER_DIGITS, cost_and_source
from workbench.store import bulk
from workbench.store.backend import Statement
from workbench.turns import DEFAULT_ID
from workbench.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workbench.ledger.imports.values import Call, Conversation, Turn
    from workbench.store.backend import Backend

    Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Whose:
    """To whom the rows belong. Without a user it is whom the file names, or the default one."""

    org: str
    user: str | None
    format: str

    def user_of(self, call: Call) -> str:
        """Return the user of a call."""
        return self.user or call.user or DEFAULT_ID

    def id(self, *parts: str) -> str:
        """Return the id of what these parts name."""
        return id_of(self.format, self.org, *parts)


async def rows_of(backend: Backend, whose: Whose, calls: Iterable[Call], chats: Sequence[Conversation]) -> Rows:
    """Return the rows that are not there yet."""
    rows: Rows = {"users": [], "chats": [], "messages": [], "usage": []}
    for call in calls:
        session = call.session and whose.id("session", call.session)
        rows["usage"].append(_usage(whose, call, whose.id("call", call.key), session, None))
    there = await _messages_there(backend, [whose.id("chat", chat.key) for chat in chats])
    plans = [plan for chat in chats if (plan := await _planned(backend, whose, chat, there)).new]
    # a message is in one chat: of one that was deleted, a branch may have kept the end
    taken = await _there(backend, "messages", [message for plan in plans for message in plan.new])
    for plan in plans:
        _add_chat(whose, plan, taken, rows)
    new = await _not_there(backend, "usage", rows["usage"])
    users = {row["user_id"]: row for row in new}
    return {
        "users": [{"org_id": whose.org, "id": user, "created_at": row["started_at"]} for user, row in users.items()],
        "chats": await _not_there(backend, "chats", rows["chats"]),
        "messages": await _not_there(backend, "messages", rows["messages"]),
        "usage": new,
    }


async def write(backend: Backend, rows: Rows) -> None:
    """Write rows in one transaction, and tell chats that have grown so."""
    await bulk.add(backend, rows)
    if grown := sorted({row["chat_id"] for row in rows["messages"]}):
        sql = """UPDATE chats SET updated_at = newest.at
            FROM (SELECT chat_id, MAX(created_at) AS at FROM messages
                  WHERE chat_id IN (SELECT UNNEST(CAST($1 AS TEXT[]))) GROUP BY chat_id) AS newest
            WHERE chats.id = newest.chat_id AND chats.updated_at < newest.at"""
        await backend.write([Statement(sql, (grown,))])


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a chat is to be stored: under which id, with which messages, and how many of them are there."""

    chat: Conversation
    keys: list[str]
    """Of the turns."""
    id: str
    messages: list[str]
    before: int
    shared: int = 0
    """Turns at its beginning that are copies, of the chat that it is a branch of."""
    from_chat: str | None = None

    @property
    def new(self) -> list[str]:
        """The ids of the messages that are not there yet."""
        return self.messages[self.before :]


async def _planned(backend: Backend, whose: Whose, chat: Conversation, there: dict[str, list[str]]) -> _Plan:
    """Find the chat that goes on as this one does.

    Where one that is there went on in another way, in the export by a retry or an edit, or here, the rest becomes a
    branch: a chat of its own, with copies of the messages they share, which are billed once.
    """
    keys = _distinct(turn.call.key for turn in chat.turns)
    id, shared, from_chat = whose.id("chat", chat.key), 0, None
    before = there[id]
    while True:
        # copies have such ids everywhere
        copies = [f"{id}-{n}" for n in range(1, 2 * shared + 1)]
        own = [whose.id(kind, chat.key, key) for key in keys[shared:] for kind in ("question", "reply")]
        messages = copies + own
        parted = next((n for n, (a, b) in enumerate(zip(before, messages, strict=False)) if a != b), None)
        if parted is None:
            return _Plan(chat, keys, id, messages, min(len(before), len(messages)), shared, from_chat)
        shared, from_chat = parted // 2, id
        id = whose.id("branch", chat.key, *keys[: shared + 1])  # by its whole path: so each round shares more turns
        before = (await _messages_there(backend, [id]))[id]


def _add_chat(whose: Whose, plan: _Plan, taken: set[str], rows: Rows) -> None:
    """Add the rows of a chat that are new, up to the first message that is in another chat already."""
    end = next((n for n, message in enumerate(plan.new) if message in taken), len(plan.new)) + plan.before
    if end <= 2 * plan.shared:
        end = plan.before  # nothing of its own would be in the branch
    else:
        rows["chats"].append(_chat(whose, plan.chat, plan.id, plan.from_chat))
    for n, turn in enumerate(plan.chat.turns):
        ids = plan.messages[2 * n : 2 * n + 2]
        if plan.before <= 2 * n < end:
            rows["messages"] += _messages(whose, turn, plan.id, ids, 2 * n + 1)
        if n >= plan.shared:
            reply = ids[1] if 2 * n < end else None
            rows["usage"].append(
                _usage(whose, turn.call, whose.id("turn", plan.chat.key, plan.keys[n]), plan.id, reply)
            )


def _distinct(keys: Iterable[str]) -> list[str]:
    """The same keys, and those that are there already with a number."""
    seen: Counter[str] = Counter()
    distinct = []
    for key in keys:
        seen[key] += 1
        distinct.append(key if seen[key] == 1 else f"{key}\x1f{seen[key]}")
    return distinct


async def _messages_there(backend: Backend, chats: Sequence[str]) -> dict[str, list[str]]:
    """The ids of the messages of those chats that are there, in order; of the others an empty list."""
    there: dict[str, list[str]] = {id: [] for id in chats}
    sql = """SELECT chat_id, id FROM messages WHERE chat_id IN (SELECT UNNEST(CAST($1 AS TEXT[])))
        ORDER BY chat_id, seq"""
    for chat, id in await backend.rows(sql, list(chats)) if chats else ():
        there[chat].append(id)
    return there


async def _not_there(backend: Backend, table: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    unique = {row["id"]: row for row in reversed(rows)}  # of several the first
    there = await _there(backend, table, list(unique))
    return [row for id, row in reversed(unique.items()) if id not in there]


async def _there(backend: Backend, table: str, ids: list[str]) -> set[str]:
    if not ids:
        return set()
    sql = f"SELECT id FROM {table} WHERE id IN (SELECT UNNEST(CAST($1 AS TEXT[])))"
    return {id for (id,) in await backend.rows(sql, ids)}


def _chat(whose: Whose, chat: Conversation, id: str, from_chat: str | None) -> dict[str, Any]:
    times = [chat.begun_at, *(turn.asked_at for turn in chat.turns), *(turn.call.at for turn in chat.turns)]
    return {
        "id": id,
        "org_id": whose.org,
        "user_id": whose.user_of(chat.turns[0].call),
        "title": chat.title or "Imported chat",
        "system": chat.system,
        "forked_from": from_chat,
        "created_at": min(times),
        "updated_at": max(times),
    }


def _messages(whose: Whose, turn: Turn, chat: str, ids: Sequence[str], seq: int) -> list[dict[str, Any]]:
    question = [*turn.attached, turn.question] if turn.question else turn.attached
    call = turn.call
    common = {"chat_id": chat, "org_id": whose.org}
    return [
        common
        | {
            "id": ids[0],
            "seq": seq,
            "role": "user",
            "content": turn.question,
            "blocks": _blocks(question),
            "token_count": turn.question_tokens,
            "status": "complete",
            "stop_reason": None,
            "model": None,
            "created_at": turn.asked_at,
        },
        common
        | {
            "id": ids[1],
            "seq": seq + 1,
            "role": "assistant",
            "content": turn.reply,
            "blocks": _blocks([turn.reply] if turn.reply else []),
            "token_count": call.usage.output_tokens,
            "status": call.status,
            "stop_reason": call.stop_reason,
            "model": call.model,
            "created_at": call.at,
        },
    ]


def _blocks(texts: Iterable[str]) -> str:
    return json.dumps([{"type": "text", "text": text} for text in texts], ensure_ascii=False)


def _usage(whose: Whose, call: Call, id: str, chat: str | None, message: str | None) -> dict[str, Any]:
    usage = call.usage
    cost, source = call.priced or cost_and_source(call.model, usage, call.at)
    return {
        "id": id,
        "request_id": call.request_id,
        "org_id": whose.org,
        "user_id": whose.user_of(call),
        "chat_id": chat,
        "message_id": message,
        "source": "import",
        "model": call.model,
        "started_at": call.at,
        "ttft_ms": call.ttft_ms,
        "duration_ms": call.duration_ms,
        "input_tokens": usage.input_tokens,
        "uncached_input_tokens": usage.uncached_input_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "output_tokens": usage.output_tokens,
        "thinking_tokens": usage.thinking_tokens,
        "web_searches": usage.web_searches,
        "service_tier": usage.service_tier,
        "inference_geo": usage.inference_geo,
        "speed": usage.speed,
        "stop_reason": call.stop_reason,
        "status": call.status,
        "error_type": call.error_type,
        "usage_estimated": usage.estimated,
        "cost_usd": None if cost is None else plain(Decimal(cost).quantize(LEDGER_DIGITS)),
        "price_source": source,
        "upstream_request_id": call.upstream_request_id,
    }
