"""Two notebooks, the server and the commands, all on one file for a minute; then the same while its owner is killed.

Each of them writes down what it was told is done. What is in the store in the end is compared with that.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.together.office import Call, Kept, Office, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.together.diary import Entry

SECONDS = 60.0
LONGEST_STALL = 2.0
COMMAND_SECONDS = 1.2
"""What `workbench store info` takes in these tests on a machine with two cores that has nothing else to do."""
EVERYTHING = {
    "ask",
    "ask at length",
    "ask in a fork",
    "ask in the shared chat",
    "chats",
    "delete",
    "fork",
    "leave",
    "messages",
    "post",
    "sql",
    "stream",
    "stream over HTTP",
    "usage",
    "workbench store check",
    "workbench store info",
    "workbench store snapshot",
}

pytestmark = pytest.mark.timeout(900)  # a minute of work, on a slow machine and with everybody's start and end


@pytest.fixture(scope="module", params=["undisturbed", "owner killed"])
def office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """Where everybody has worked and gone home."""
    with Office(tmp_path_factory.mktemp("office")) as office:
        office.work(SECONDS, killing=request.param == "owner killed")
        yield office


@pytest.fixture(scope="module")
def kept(office: Office) -> Kept:
    return office.kept(office.store)


@pytest.fixture
def turns(office: Office) -> list[Entry]:
    """Every turn of which somebody was told that it is done."""
    return [entry for entry in office.done if "text" in entry]


def test_nobody_meets_an_error(office: Office) -> None:
    assert office.errors == []
    assert {entry["who"] for entry in office.cut_off} <= {kill.who for kill in office.kills}
    assert {entry["what"] for entry in office.done} >= EVERYTHING


def test_the_ledger_holds_together(office: Office) -> None:
    assert office.checked(office.store) == 0


def test_every_turn_is_kept_once_with_its_text(office: Office, kept: Kept, turns: list[Entry]) -> None:
    assert len(turns) > 20
    assert _missing(_not_deleted(turns, office), kept) == []


def test_every_reply_follows_its_question(office: Office, kept: Kept, turns: list[Entry]) -> None:
    asked = kept.questions()
    wrong = [turn for turn in _not_deleted(turns, office) if asked[turn["message_id"]] != turn["question"]]
    assert wrong == []


def test_what_was_deleted_is_gone(office: Office, kept: Kept) -> None:
    deleted = _deleted(office.done)
    assert deleted
    assert deleted & set(kept.messages) == set()


def test_a_fork_keeps_what_it_began_with(office: Office, kept: Kept) -> None:
    forks = _not_deleted([entry for entry in office.done if entry["what"] == "fork"], office)
    assert forks
    assert [
        fork for fork in forks if [row.content for row in kept.messages[fork["chat_id"]][:2]] != fork["texts"]
    ] == []


def test_every_turn_is_billed_once_as_was_told(kept: Kept, turns: list[Entry]) -> None:
    calls = Counter(kept.calls)
    told = [
        Call(t["message_id"], t["status"], t["input_tokens"], t["output_tokens"], Decimal(t["cost_usd"])) for t in turns
    ]
    assert [call for call in told if calls[call] != 1] == []


def test_nothing_is_billed_but_what_was_told_or_cut_off(office: Office, kept: Kept, turns: list[Entry]) -> None:
    told = {turn["message_id"] for turn in turns}
    asked = kept.questions()
    others = Counter(asked[call.message_id] for call in kept.calls if call.message_id not in told)

    assert set(others) <= {entry["question"] for entry in office.cut_off if "question" in entry}
    assert [question for question, calls in others.items() if calls != 1] == []


def test_a_snapshot_holds_what_was_told_before_it(office: Office, turns: list[Entry]) -> None:
    snapshot = [entry for entry in office.done if entry["what"] == "workbench store snapshot"][-1]
    before = [turn for turn in turns if turn["ended"] < snapshot["begun"]]

    assert office.checked(office.folder / snapshot["file"]) == 0
    assert before
    assert _missing(_not_deleted(before, office), office.kept(office.folder / snapshot["file"])) == []


@pytest.mark.parametrize("office", ["owner killed"], indirect=True)
def test_nobody_waits_long_for_the_next_owner(office: Office) -> None:
    stalls = office.stalls()
    killed = Counter(kill.who for kill in office.kills)
    slowness = max(1.0, office.usual("workbench store info") / COMMAND_SECONDS)
    print(f"{killed}, on a machine {slowness:.1f} times slower; the longest stalls:", *stalls[:5], sep="\n")

    assert {"server", "notebook-1"} <= {who.replace("-2", "-1") for who in killed}
    assert stalls[0].seconds < LONGEST_STALL * slowness


def _deleted(entries: list[Entry]) -> set[str]:
    return {entry["chat_id"] for entry in entries if entry["what"] == "delete"}


def _not_deleted(told: list[Entry], office: Office) -> list[Entry]:
    """Without chats that are gone, or may be: whoever was to delete them was killed before saying so."""
    deleted = _deleted(office.done + office.cut_off)
    return [entry for entry in told if entry["chat_id"] not in deleted]


def _missing(turns: list[Entry], kept: Kept) -> list[Entry]:
    """The turns that are not there just once, as they were told."""
    rows = Counter((chat_id, row) for chat_id, rows in kept.messages.items() for row in rows)
    return [t for t in turns if rows[t["chat_id"], Row(t["message_id"], "assistant", t["text"], t["status"])] != 1]
