"""What the exports of chat applications have in common: an array of chats, each read by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidRequest
from workbench.ledger.imports.reading import parsed
from workbench.ledger.imports.values import Conversation, Malformed, Said, mapping, moment, name, turns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime
    from decimal import Decimal

    from workbench.ledger.imports.reading import Source
    from workbench.ledger.imports.values import Notes


def chats(source: Source, notes: Notes, chat_of: Callable[[Mapping[str, Any]], Conversation]) -> Iterator[Conversation]:
    """Yield the chats of an export, those without a reply left out.

    Raises:
        InvalidRequest: it is no array.
    """
    if not source.head(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        raise InvalidRequest(f"{source.path} is no array of chats; an export has them in conversations.json")
    for number, (line, text) in enumerate(source.elements(), start=1):
        try:
            value = parsed(text)
            if not isinstance(value, dict):
                raise Malformed("is no object")
            chat = chat_of(value)
        except Malformed as error:
            notes.problem(str(source.path), line, f"chat {number} {error}")
            continue
        if chat.turns:
            yield chat
        else:
            notes.left_out["chats without a reply"] += 1


def conversation(
    key: object,
    title: object,
    said: Iterable[Said],
    begun_at: datetime,
    model: str,
    priced: tuple[Decimal | None, str] | None = None,
) -> Conversation:
    """Return a chat whose usage is estimated.

    Raises:
        Malformed: it has no id.
    """
    if not name(key):
        raise Malformed("has no id")
    return Conversation(key=name(key), title=name(title), turns=turns_of(said, model, priced), begun_at=begun_at)


def time_of(value: object, otherwise: datetime) -> datetime:
    """Return a time, or that of what came before where there is none."""
    return otherwise if value is None else moment(value)


def branch(nodes: Mapping[str, Any], leaf: object, parent: str) -> list[Mapping[str, Any]]:
    """Return the nodes from the root of a tree to one of its leaves."""
    path: dict[str, Mapping[str, Any]] = {}
    while isinstance(leaf, str) and leaf in nodes and leaf not in path:  # a tree that is none has circles
        path[leaf] = mapping(nodes[leaf])
        leaf = path[leaf].get(parent)
    return list(reversed(path.values()))
