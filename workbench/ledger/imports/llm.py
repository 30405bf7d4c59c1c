"""The ``logs.db`` of the command-line tool ``llm``: SQLite, in its older tables and, since 0.32, in newer ones.

``responses`` belong to ``conversations``; ``turns`` to ``threads``, with what was said found by ``turn_search``. A
database can have both, and a response in both at once.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidRequest
from workbench.estimates import AROUND_A_QUESTION, text_tokens
from workbench.ledger.imports.reading import SQLITE, parsed
from workbench.ledger.imports.values import (
    MOST_TOKENS,
    Call,
    Conversation,
    Malformed,
    Turn,
    anthropic_usage,
    count,
    mapping,
    milliseconds,
    model_name,
    moment,
    name,
    or_none,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workbench.ledger.imports.reading import Source
    from workbench.ledger.imports.values import Notes
    from workbench.turns import Usage

FORMAT = "llm"
OLDER = {
    "id": "r.id",
    "chat": "r.conversation_id",
    "title": "(SELECT c.name FROM conversations c WHERE c.id = r.conversation_id)",
    "model": "r.model",
    "resolved_model": "r.resolved_model",
    "prompt": "r.prompt",
    "system": "r.system",
    "response": "r.response",
    "input_tokens": "r.input_tokens",
    "output_tokens": "r.output_tokens",
    "token_details": "r.token_details",
    "duration_ms": "r.duration_ms",
    "at": "r.datetime_utc",
}
NEWER = OLDER | {
    "chat": "r.thread_id",
    "title": "(SELECT t.name FROM threads t WHERE t.id = r.thread_id)",
    "prompt": "(SELECT s.prompt FROM turn_search s WHERE s.turn_id = r.id)",
    "system": "NULL",
    "response": "(SELECT s.response FROM turn_search s WHERE s.turn_id = r.id)",
}
LATER_COLUMNS = ("resolved_model", "input_tokens", "output_tokens", "token_details")
"""That older databases lack."""


def fits(value: Mapping[str, Any]) -> bool:
    """Tell whether a line is one of these: a database has none."""
    return False


def read(source: Source, notes: Notes) -> Iterator[Conversation]:
    """Yield the chats of a database, their turns in order.

    Raises:
        InvalidRequest: it is none of ``llm``'s.
    """
    if not source.head(len(SQLITE)).startswith(SQLITE):
        raise InvalidRequest(f"{source.path} is no SQLite database; `llm logs path` says where it is")
    # read only, and beside a program that writes to it
    database = sqlite3.connect(f"{source.path.absolute().as_uri()}?mode=ro", uri=True)
    database.text_factory = lambda data: data.decode(errors="replace")
    database.row_factory = sqlite3.Row
    try:
        for chat, rows in groupby(database.execute(_query(database, source)), key=lambda row: row["chat_key"]):
            if turns := list(_turns(rows, source, notes)):
                first = turns[0][1]
                yield Conversation(
                    key=name(str(chat)),
                    title=name(first["title"]) or name(first["prompt"]).split("\n")[0],
                    system=text(first["system"]) or None,
                    turns=[turn for turn, _ in turns],
                    begun_at=turns[0][0].asked_at,
                )
    finally:
        database.close()
    source.done = source.size


def _query(database: sqlite3.Connection, source: Source) -> str:
    """Every response, chat by chat, with the columns that this database has."""
    names = {row["name"] for row in database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    parts: list[str] = []
    for table, columns in (("turns", NEWER), ("responses", OLDER)):
        if table in names:
            there = {row["name"] for row in database.execute(f"PRAGMA table_info({table})")}
            missing = dict.fromkeys((column for column in LATER_COLUMNS if column not in there), "NULL")
            chosen = ", ".join(f"{value} AS {column}" for column, value in (columns | missing).items())
            twice = " WHERE r.id NOT IN (SELECT id FROM turns)" if parts else ""
            parts.append(f"SELECT {chosen} FROM {table} r{twice}")
    if not parts:
        raise InvalidRequest(f"{source.path} has none of llm's tables")
    both = " UNION ALL ".join(parts)
    return f"SELECT *, COALESCE(chat, id) AS chat_key FROM ({both}) ORDER BY chat_key, at, id"


def _turns(rows: Iterator[sqlite3.Row], source: Source, notes: Notes) -> Iterator[tuple[Turn, sqlite3.Row]]:
    before = 0
    for row in rows:
        try:
            turn = _turn(row, before)
        except Malformed as error:
            notes.problem(str(source.path), None, f"the response {name(str(row['id']))!r} {error}")
            continue
        before = turn.call.usage.total_tokens
        yield turn, row


def _turn(row: sqlite3.Row, before: int) -> Turn:
    question, reply, at = text(row["prompt"]), text(row["response"]), moment(row["at"])
    usage = _usage(row)
    # not every model tells; a call is then taken to send the chat so far
    if row["input_tokens"] is None:
        asked = before + AROUND_A_QUESTION + text_tokens(question)
        usage = replace(usage, uncached_input_tokens=min(asked, MOST_TOKENS), estimated=True)
    if row["output_tokens"] is None:
        usage = replace(usage, output_tokens=text_tokens(reply), estimated=True)
    id = name(str(row["id"]))
    return Turn(
        call=Call(
            key=id,
            model=model_name(row["resolved_model"] or row["model"], "unknown"),
            at=at,
            usage=usage,
            request_id=id,
            duration_ms=milliseconds(row["duration_ms"]),
        ),
        question=question,
        reply=reply,
        asked_at=at,
        question_tokens=max(0, usage.input_tokens - before),
    )


def _usage(row: sqlite3.Row) -> Usage:
    """Anthropic's details leave the cache out of the input, OpenAI's are about a part of it."""
    counts = {column: row[column] for column in ("input_tokens", "output_tokens")}
    details = mapping(parsed(row["token_details"].encode()) if isinstance(row["token_details"], str) else None)
    usage = anthropic_usage({**details, **counts})
    of_input = mapping(details.get("prompt_tokens_details") or details.get("input_tokens_details"))
    of_output = mapping(details.get("completion_tokens_details") or details.get("output_tokens_details"))
    cached = min(usage.uncached_input_tokens, count(of_input, "cached_tokens"))
    return replace(
        usage,
        uncached_input_tokens=usage.uncached_input_tokens - cached,
        cache_read_tokens=usage.cache_read_tokens + cached,
        thinking_tokens=min(usage.output_tokens, usage.thinking_tokens + count(of_output, "reasoning_tokens")),
        service_tier=or_none(details.get("service_tier")),
    )
