"""Claude Code's transcripts: ``~/.claude/projects/**/*.jsonl``, a line for each event of a session.

A reply is on as many lines as it had blocks, each with the usage known when it was written; the same reply is in other
files too, where a session was resumed or a side question began with a copy of its parent. Only usage is taken: what was
said, which includes whole files, stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from workbench.ledger.imports.reading import UNREADABLE, parsed
from workbench.ledger.imports.values import (
    Call,
    Malformed,
    anthropic_usage,
    mapping,
    model_name,
    moment,
    name,
    or_none,
    sequence,
)
from workbench.turns import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workbench.ledger.imports.reading import Source
    from workbench.ledger.imports.values import Notes
    from workbench.turns import Usage

FORMAT = "claude-code"
STILL_WRITTEN = timedelta(minutes=10)
"""A reply without an end that is younger may yet get one."""
API_ID = 20
"""Letters of an id that the API made up, at least; they are unique, those of other upstreams may not be."""
_TYPES = {"user", "assistant", "system", "summary", "progress", "attachment", "file-history-snapshot", "custom-title"}


@dataclass(slots=True)
class _Reply:
    """What the lines of one reply say together."""

    session: str
    request_id: str | None
    message_id: str
    model: str
    at: datetime
    usage: Usage
    sidechain: bool
    stop_reason: str | None = None
    characters: int = 0


def fits(value: Mapping[str, Any]) -> bool:
    """Tell whether a line is one of these."""
    return "sessionId" in value or name(value.get("type")) in _TYPES


def read(source: Source, notes: Notes) -> Iterator[Call]:
    """Yield the calls of a file; those of one reply are merged."""
    replies: dict[str, _Reply] = {}
    broken: Exception | None = None
    try:
        for line, text in source.lines():
            try:
                value = parsed(text)
                if not isinstance(value, dict):
                    raise Malformed("is no object")
                _add(replies, value)
            except Malformed as error:
                notes.problem(str(source.path), line, error)
    except UNREADABLE as error:
        broken = error
    for key, reply in replies.items():
        if reply.stop_reason is None and datetime.now(UTC) - reply.at < STILL_WRITTEN:
            notes.left_out["replies that may still be written"] += 1
        else:
            yield _call(key, reply)
    if broken is not None:
        raise broken


def _add(replies: dict[str, _Reply], entry: Mapping[str, Any]) -> None:
    if entry.get("type") == "progress":  # what a subagent says, told to its parent
        entry = {"sessionId": entry.get("sessionId"), **mapping(mapping(entry.get("data")).get("message"))}
    message = mapping(entry.get("message"))
    usage = message.get("usage")
    model = model_name(message.get("model"), "")
    # no model was called for what Claude Code says itself, such as that a call failed
    if entry.get("type") != "assistant" or not isinstance(usage, dict) or model in ("", "<synthetic>"):
        return
    reply = _Reply(
        session=name(entry.get("sessionId")),
        request_id=or_none(entry.get("requestId")),
        message_id=name(message.get("id")),
        model=model,
        at=moment(entry.get("timestamp")),
        usage=anthropic_usage(usage),
        sidechain=entry.get("isSidechain") is True,
        stop_reason=or_none(message.get("stop_reason")),
        characters=_characters(message),
    )
    key = _key(reply, name(entry.get("uuid")))
    replies[key] = _merged(replies[key], reply) if key in replies else reply


def _key(reply: _Reply, line: str) -> str:
    if len(reply.message_id) >= API_ID:
        return reply.message_id
    if reply.message_id:
        return "\x1f".join((reply.session, reply.message_id, reply.request_id or ""))
    if line:
        return line
    raise Malformed("has no id")


def _merged(before: _Reply, now: _Reply) -> _Reply:
    """Counts only grow while a reply is written: the larger ones are its own. A copy in a side question adds nothing."""
    if before.sidechain != now.sidechain:
        return now if before.sidechain else before
    larger = now if _size(now) >= _size(before) else before
    return _Reply(
        session=before.session,
        request_id=before.request_id or now.request_id,
        message_id=before.message_id,
        model=larger.model,
        at=min(before.at, now.at),
        usage=larger.usage,
        sidechain=before.sidechain,
        stop_reason=now.stop_reason or before.stop_reason,
        characters=before.characters + now.characters,
    )


def _size(reply: _Reply) -> int:
    return reply.usage.total_tokens


def _characters(message: Mapping[str, Any]) -> int:
    total = 0
    for block in map(mapping, sequence(message.get("content"))):
        parts = (block.get("text"), block.get("thinking"), *mapping(block.get("input")).values())
        total += sum(len(part) for part in parts if isinstance(part, str))
    return total


def _call(key: str, reply: _Reply) -> Call:
    usage = reply.usage
    if reply.stop_reason is None:
        # the final counts were never written down; the output is what had been counted by then, a token or a few
        written = max(usage.output_tokens, estimate_tokens(reply.characters))
        usage = replace(usage, output_tokens=written, estimated=True)
    return Call(
        key=key,
        model=reply.model,
        at=reply.at,
        usage=usage,
        request_id=reply.request_id or reply.message_id or key,
        session=reply.session or None,
        stop_reason=reply.stop_reason,
        upstream_request_id=reply.request_id,
    )
