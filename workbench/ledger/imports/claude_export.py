"""Claude's export: ``conversations.json`` of claude.ai, chats with their messages.

It tells no usage, and seldom a model: counts are estimated, and a cost is what the API would charge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.ledger.imports.exports import branch, chats, conversation, time_of
from workbench.ledger.imports.values import (
    Conversation,
    Said,
    mapping,
    model_name,
    moment,
    name,
    sequence,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workbench.ledger.imports.reading import Source
    from workbench.ledger.imports.values import Notes

FORMAT = "claude"
SIDES = {"human": "user", "user": "user", "assistant": "assistant"}


def fits(value: Mapping[str, Any]) -> bool:
    """Tell whether an element is one of these."""
    return isinstance(value.get("chat_messages"), list)


def read(source: Source, notes: Notes) -> Iterator[Conversation]:
    """Yield the chats of an export, as they were shown last."""
    return chats(source, notes, _chat)


def _chat(chat: Mapping[str, Any]) -> Conversation:
    begun = moment(chat.get("created_at"))
    said, at = [], begun
    for message in _shown(chat):
        role = SIDES.get(name(message.get("sender")))
        if role is not None:
            said.append(_said(message, role, at))
            at = said[-1].at
    return conversation(chat.get("uuid"), chat.get("name"), said, begun, model_name(chat.get("model"), "claude.ai"))


def _shown(chat: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The messages of the current branch, where the export tells of branches."""
    messages = [mapping(message) for message in sequence(chat.get("chat_messages"))]
    by_id = {name(message.get("uuid")): message for message in messages}
    current = name(chat.get("current_leaf_message_uuid"))
    # a message without an id would be the branch of an export that names none
    return branch(by_id, current, "parent_message_uuid") if current and current in by_id else messages


def _said(message: Mapping[str, Any], role: str, before: Any) -> Said:
    blocks = [mapping(block) for block in sequence(message.get("content"))]
    words = [text(block.get("text")) for block in blocks if block.get("type") == "text"]
    unseen = [text(block.get("thinking")) for block in blocks if block.get("type") == "thinking"]
    attached = [
        f"{name(file.get('file_name'))}\n{text(file.get('extracted_content'))}".strip()
        for file in map(mapping, sequence(message.get("attachments")))
    ]
    return Said(
        key=name(message.get("uuid")),
        role=role,
        at=time_of(message.get("created_at"), before),
        text="\n\n".join(filter(None, words)) or text(message.get("text")),
        unseen="\n\n".join(filter(None, unseen)),
        model=model_name(message.get("model"), "") or None,
        attached=tuple(filter(None, attached)),
    )
