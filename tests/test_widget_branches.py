"""What a chat box does besides asking: branches, the list of chats, exports, the model and the system prompt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workbench.notebook.branches import Choice, choices
from workbench.store.family import Branch

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def branch(id: str, forked_from: str | None, messages: int, shared: int, minute: int, **asks: str) -> Branch:
    return Branch(
        chat_id=id,
        forked_from=forked_from,
        created_at=NOON + timedelta(minutes=minute),
        updated_at=NOON + timedelta(minutes=minute),
        messages=messages,
        shared=shared,
        asks={int(place[1:]): question for place, question in asks.items()},
    )


# --- Where branches part ----------------------------------------------------------------------------------------


def test_a_chat_alone_has_no_branches() -> None:
    assert choices("a", [branch("a", None, 4, 0, 0)]) == ({}, {})
    assert choices("new", []) == ({}, {})
    assert choices("b", [branch("b", "gone", 4, 2, 0, _3="x"), branch("c", "gone", 0, 0, 1)]) == ({}, {})


def test_another_question_parts_at_the_question_and_the_same_one_at_its_reply() -> None:
    family = [
        branch("a", None, 4, 0, 0, _1="hi", _3="why?"),
        branch("b", "a", 4, 2, 1, _1="hi", _3="how?"),
        branch("c", "b", 4, 2, 2, _1="hi", _3="how?"),
    ]
    assert choices("a", family) == ({3: Choice(("a", "c"), 0)}, {})
    assert choices("b", family) == ({3: Choice(("a", "b"), 1)}, {3: Choice(("b", "c"), 0)})
    assert choices("c", family) == ({3: Choice(("a", "c"), 1)}, {3: Choice(("b", "c"), 1)})


def test_forks_of_forks_agree_as_far_as_the_least_shared_between_them() -> None:
    family = [
        branch("a", None, 6, 0, 0, _1="x", _3="y", _5="z"),
        branch("b", "a", 6, 4, 1, _1="x", _3="y", _5="z2"),
        branch("c", "b", 4, 2, 2, _1="x", _3="y2"),
        branch("d", "c", 2, 0, 3, _1="x2"),
    ]
    assert choices("a", family).questions == {
        1: Choice(("a", "d"), 0),
        3: Choice(("a", "c"), 0),
        5: Choice(("a", "b"), 0),
    }
    assert choices("c", family).questions == {1: Choice(("c", "d"), 0), 3: Choice(("b", "c"), 1)}
    assert choices("d", family).questions == {1: Choice(("c", "d"), 1)}


def test_a_fork_that_was_not_asked_in_is_no_branch() -> None:
    family = [branch("a", None, 4, 0, 0, _1="x", _3="y"), branch("b", "a", 2, 2, 1, _1="x")]
    assert choices("a", family) == ({}, {})
    assert choices("b", family) == ({}, {})


def test_the_forks_of_a_deleted_chat_are_branches_of_one_another() -> None:
    family = [branch("b", "gone", 4, 2, 1, _1="x", _3="y"), branch("c", "gone", 4, 2, 2, _1="x", _3="z")]
    assert choices("c", family).questions == {3: Choice(("b", "c"), 1)}
