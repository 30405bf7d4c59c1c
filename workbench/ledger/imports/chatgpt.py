"""ChatGPT's export: ``conversations.json``, each chat a tree of which one branch is the current one.

It tells no usage, and the prices of its models are not known here: counts are estimated, costs unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.ledger.imports.exports import branch, chats, conversation, time_of
from workbench.ledger.imports.values import Conversation, Said, mapping, moment, name, sequence, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workbench.ledger.imports.reading import Source
    from workbench.ledger.imports.values import Notes

FORMAT = "chatgpt"
UNKNOWN = None, "unknown"
UNSEEN = ("code", "execution_output", "thoughts", "reasoning_recap")
"""Kinds of content that the model reads or writes beside the chat."""


def fits(value: Mapping[str, Any]) -> bool:
    """Tell whether an element is one of these."""
    return isinstance(value.get("mapping"), dict)


def read(source: Source, notes: Notes) -> Iterator[Conversation]:
    """Yield the chats of an export, as they were shown last."""
    return chats(source, notes, _chat)


def _chat(chat: Mapping[str, Any]) -> Conversation:
    nodes = mapping(chat.get("mapping"))
    begun = moment(chat.get("create_time"))
    leaf: object = chat.get("current_node")
    if not isinstance(leaf, str) or leaf not in nodes:
        leaf = max(nodes, key=lambda node: _time(nodes[node]), default=None)
    model = name(chat.get("default_model_slug")) or "chatgpt"
    said, at = [], begun
    for node in branch(nodes, leaf, "parent"):
        message = mapping(node.get("message"))
        if (one := _said(message, name(node.get("id")), at)) is not None:
            said.append(one)
            at = one.at
    key = chat.get("conversation_id") or chat.get("id")
    return conversation(key, chat.get("title"), said, begun, model, UNKNOWN)


def _time(node: object) -> float:
    at = mapping(mapping(node).get("message")).get("create_time")
    return at if isinstance(at, int | float) else 0.0


def _said(message: Mapping[str, Any], node: str, before: Any) -> Said | None:
    role = mapping(message.get("author")).get("role")
    about = mapping(message.get("metadata"))
    if role not in ("user", "assistant") or about.get("is_visually_hidden_from_conversation") is True:
        return None
    content = mapping(message.get("content"))
    words = _words(content)
    # what is for a tool is not shown
    unseen = role == "assistant" and (
        message.get("recipient") not in (None, "all") or content.get("content_type") in UNSEEN
    )
    if role == "user" and not words:
        return None
    return Said(
        key=name(message.get("id")) or node,
        role=role,
        at=time_of(message.get("create_time"), before),
        text="" if unseen else words,
        unseen=words if unseen else "",
        model=name(about.get("model_slug")) or None,
    )


def _words(content: Mapping[str, Any]) -> str:
    parts = content.get("parts")
    if isinstance(parts, list):
        return "\n\n".join(part for part in map(_part, parts) if part)
    thoughts = [text(mapping(thought).get("content")) for thought in sequence(content.get("thoughts"))]
    return text(content.get("text")) or text(content.get("content")) or "\n\n".join(filter(None, thoughts))


def _part(part: object) -> str:
    if isinstance(part, dict):
        return text(part.get("text")) or f"[{name(part.get('content_type')) or 'attachment'}]"
    return text(part)
