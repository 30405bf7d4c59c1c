"""Which branches there are of a chat, and at which question or reply they part. Pure: families in, choices out.

The store keeps each branch as a chat of its own that shares its first messages with the chat it was forked from. Two
chats agree as far as the least that is shared on the way from one to the other.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workbench.store.family import Branch


class Choice(NamedTuple):
    """The branches between which a reader can choose: one chat of each, and which of them is shown."""

    chat_ids: tuple[str, ...]
    at: int


class Choices(NamedTuple):
    """Where branches part: by the ``seq`` of a question, at itself or at its reply."""

    questions: dict[int, Choice]
    replies: dict[int, Choice]


def choices(chat_id: str, family: Sequence[Branch]) -> Choices:
    """Return where the branches of a chat part from it; those that ask the same part at the reply.

    The branches at one place are in the order in which they were made. Of a branch that parts again later, the chat
    that was used last stands for it.
    """
    found = Choices({}, {})
    here = next((branch for branch in family if branch.chat_id == chat_id), None)
    if here is None or len(family) == 1:
        return found
    for place in sorted({branch.shared for branch in family if branch.messages}):
        if here.messages <= place:
            continue
        alike = _together(family, place)[chat_id]
        beyond = [branch for branch in family if branch.chat_id in alike and branch.messages > place]
        groups = _grouped(beyond, _together(family, place + 1))
        _note(found, place + 1, here, groups)
    return found


def _note(found: Choices, seq: int, here: Branch, groups: list[list[Branch]]) -> None:
    by_question: dict[str, list[list[Branch]]] = defaultdict(list)
    for group in groups:
        by_question[group[0].asks[seq]].append(group)
    asked = [[branch for group in same for branch in group] for same in by_question.values()]
    if len(asked) > 1:
        found.questions[seq] = _choice(here, asked)
    same = by_question[here.asks[seq]]
    if len(same) > 1:
        found.replies[seq] = _choice(here, same)


def _choice(here: Branch, groups: Iterable[list[Branch]]) -> Choice:
    chosen = [here if here in group else max(group, key=lambda b: (b.updated_at, b.chat_id)) for group in groups]
    return Choice(tuple(branch.chat_id for branch in chosen), chosen.index(here))


def _grouped(branches: list[Branch], together: dict[str, frozenset[str]]) -> list[list[Branch]]:
    groups: dict[frozenset[str], list[Branch]] = defaultdict(list)
    for branch in sorted(branches, key=lambda b: (b.created_at, b.chat_id)):
        groups[together[branch.chat_id]].append(branch)
    return list(groups.values())


def _together(family: Sequence[Branch], least: int) -> dict[str, frozenset[str]]:
    """Return, for each chat, all that hang together when only the forks remain that share so many messages."""
    members: dict[str, set[str]] = {}
    for branch in family:
        mine = members.setdefault(branch.chat_id, {branch.chat_id})
        if branch.forked_from is not None and branch.shared >= least:
            theirs = members.setdefault(branch.forked_from, {branch.forked_from})
            if mine is not theirs:
                mine |= theirs
                members.update(dict.fromkeys(theirs, mine))
    return {id: frozenset(together) for id, together in members.items()}
