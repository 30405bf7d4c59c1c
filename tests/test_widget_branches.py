# ruff: noqa: F811  # fixtures of another module are parameters here
"""What a chat box does besides asking: branches, the list of chats, exports, the model and the system prompt."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import workbench as wb
from tests.faults.upstream import reply
from tests.test_widget import SECONDS, _workbench, until, upstream  # noqa: F401  # fixtures
from workbench import Chat, ChatWidget, runtime
from workbench.notebook import desk
from workbench.notebook.branches import Choice, choices
from workbench.store.family import Branch

if TYPE_CHECKING:
    from tests.faults.upstream import ScriptedUpstream
    from tests.test_widget import FakeComm

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


# --- Edit and other replies -------------------------------------------------------------------------------------


def texts(chat: Chat) -> list[str]:
    return [message.content for message in chat.messages]


def shown_in(snap: dict[str, Any]) -> list[tuple[str, Any]]:
    """The messages of a snapshot, with the place and number of the branches that part there."""
    return [(m["text"], tuple(m["branch"].values()) if "branch" in m else None) for m in snap["messages"]]


def talk(upstream: ScriptedUpstream, *turns: tuple[str, str]) -> tuple[ChatWidget, FakeComm]:
    """A box in which all this was said."""
    widget = ChatWidget()
    for question, answer in turns:
        upstream.script(reply([answer]))
        widget.comm.turn(question)
    return widget, widget.comm


def now(page: FakeComm) -> dict[str, Any]:
    mark = len(page.said)
    page.ask("hello", have={})
    return page.next("snap", mark)


def until_done(page: FakeComm, mark: int) -> dict[str, Any]:
    """Wait until the box shows a chat in which nothing runs and whose last reply has ended."""
    page.next("snap", mark)
    snap = now(page)
    while snap["live"] is not None or snap["asked"] is not None:
        snap = now(page)
    return snap


def do(page: FakeComm, t: str, **fields: Any) -> dict[str, Any]:
    mark = len(page.said)
    page.ask(t, **fields)
    return until_done(page, mark)


def test_an_edited_question_is_asked_in_a_branch_and_both_can_be_paged(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"), ("two?", "2"), ("three?", "3"))
    first = widget.chat
    second_question = now(page)["messages"][2]["message_id"]
    upstream.script(reply(["II"]))
    branch = do(page, "edit", message_id=second_question, text="II?")

    assert widget.chat_id == widget.chat.id == branch["chat_id"] != first.id
    assert texts(widget.chat) == ["one?", "1", "II?", "II"]
    assert texts(first) == ["one?", "1", "two?", "2", "three?", "3"]
    assert shown_in(branch) == [("one?", None), ("1", None), ("II?", (1, 2)), ("II", None)]
    assert upstream.last.body["messages"][-1]["content"][0]["text"] == "II?"
    assert len(upstream.last.body["messages"]) == 3

    back = do(page, "branch", message_id=branch["messages"][2]["message_id"], index=0)
    assert shown_in(back) == [("one?", None), ("1", None), ("two?", (0, 2)), ("2", None), ("three?", None), ("3", None)]
    assert widget.chat.id == first.id
    assert do(page, "branch", message_id=second_question, index=1)["chat_id"] == branch["chat_id"]


def test_replies_that_branches_share_have_their_footers_and_counts_in_each(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"), ("two?", "2"), ("three?", "3"))
    first, alone = now(page), widget.chat.id
    branch = do(page, "edit", message_id=first["messages"][4]["message_id"], text="III?")
    again = do(page, "again", message_id=branch["messages"][3]["message_id"])
    footers = [entry["footer"] for entry in first["messages"]]
    exported = page.next("file", c=page.ask("export", kind="markdown"))["text"]

    assert exported.count(" out tokens · ") == 2
    assert all(footers[1::2])
    assert [entry["footer"] for entry in branch["messages"]][:4] == footers[:4]
    assert [entry["footer"] for entry in again["messages"]][:2] == footers[:2]
    assert [entry["counts"] for entry in again["messages"]][:2] == [entry["counts"] for entry in first["messages"]][:2]
    assert all(entry["footer"] for entry in again["messages"][1::2])
    spent = wb.usage(by="chat_id").set_index("chat_id")["calls"]
    assert (spent[alone], spent[branch["chat_id"]], spent[again["chat_id"]]) == (3, 1, 1)


def test_the_first_question_can_be_edited_too(upstream: ScriptedUpstream) -> None:
    widget = ChatWidget(Chat(system="Be terse.", model="claude-haiku-5-5"))
    first, page = widget.chat, widget.comm
    page.turn("one?")
    branch = do(page, "edit", message_id=now(page)["messages"][0]["message_id"], text="I?")

    assert [entry[1] for entry in shown_in(branch)] == [(1, 2), None]
    assert (widget.chat.title, widget.chat.system, widget.chat.model) == ("I?", "Be terse.", "claude-haiku-5-5")
    assert widget.chat.info.forked_from == first.id


def test_another_reply_to_the_same_question_parts_at_the_reply(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"), ("two?", "2"))
    upstream.script(reply(["2, I said"]), reply(["it is 2"]))
    for _ in range(2):
        snap = do(page, "again", message_id=now(page)["messages"][3]["message_id"])

    assert shown_in(snap) == [("one?", None), ("1", None), ("two?", None), ("it is 2", (2, 3))]
    paged = do(page, "branch", message_id=snap["messages"][3]["message_id"], index=1)
    assert shown_in(paged)[3] == ("2, I said", (1, 3))
    assert texts(widget.chat)[3] == "2, I said"


def test_a_branch_is_shown_while_it_arrives(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"))
    mark = len(page.said)
    upstream.script(reply("one two three", pause_after=2))
    page.ask("edit", message_id=now(page)["messages"][0]["message_id"], text="count")
    upstream.wait_for(lambda u: u.paused, SECONDS)
    while (snap := now(page))["live"] is None or snap["live"]["text"] != "one two":
        pass
    upstream.release()
    end = page.next("end", mark)

    assert snap["chat_id"] == widget.chat_id
    assert snap["live"]["text"] == "one two"
    assert (end["turn"], end["status"], end["len"]) == (snap["live"]["turn"], "complete", len("one two three"))


def test_before_a_branch_begins_its_question_is_awaited_in_the_place_of_the_old_one(upstream: ScriptedUpstream) -> None:
    _, page = talk(upstream, ("one?", "1"))
    before = now(page)
    upstream.script(reply("I", pause_before=True))
    c = page.ask("edit", message_id=before["messages"][0]["message_id"], text="I?")
    upstream.wait_for(lambda u: u.paused, SECONDS)
    snap = now(page)
    upstream.release()

    question = before["messages"][0]["message_id"]
    assert snap["asked"] == {"c": c, "text": "I?", "retry_of": None, "edit_of": question}
    assert snap["chat_id"] == before["chat_id"]
    assert [m["text"] for m in snap["messages"]] == ["one?", "1"]


@pytest.mark.parametrize("place", [0, 2])
def test_a_branch_refused_before_it_began_leaves_nothing_behind(place: int, upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"), ("two?", "2"))
    before = now(page)
    c = page.ask("edit", message_id=before["messages"][place]["message_id"], text="  ")
    err = page.next("err", c=c)

    assert "empty" in err["message"]
    assert now(page) == before
    assert wb.chats()["chat_id"].tolist() == [widget.chat_id]


@pytest.mark.parametrize("place", [0, 2])
def test_a_branch_stopped_before_its_first_token_is_kept_as_it_was_sent(place: int, upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"), ("two?", "2"))
    mark = len(page.said)
    upstream.script(reply("I", pause_before=True))
    page.ask("edit", message_id=now(page)["messages"][place]["message_id"], text="I?")
    upstream.wait_for(lambda u: u.paused, SECONDS)
    page.ask("stop", turn=None)
    page.next("snap", mark, chat_id=wb.chats()["chat_id"].iloc[0])
    upstream.wait_for(lambda u: u.disconnects, SECONDS)

    assert [m.status for m in widget.chat.messages[place:]] == ["complete", "interrupted"]
    assert shown_in(now(page))[place] == ("I?", (1, 2))


def test_a_branch_stopped_at_once_is_never_made(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"), ("two?", "2"))
    before = now(page)
    held = threading.Event()
    runtime.runtime()._loop.call_soon_threadsafe(held.wait, SECONDS)
    c = page.ask("edit", message_id=before["messages"][2]["message_id"], text="II?")
    page.ask("stop", turn=None)
    held.set()

    assert page.next("err", c=c)["type"] == "stopped"
    assert now(page) == before
    assert wb.chats()["chat_id"].tolist() == [widget.chat_id]


def go(page: FakeComm, t: str, **fields: Any) -> dict[str, Any]:
    """Let the box show another chat, where a reply may be on its way."""
    mark = len(page.said)
    page.next("done", mark, c=page.ask(t, **fields))
    return page.next("snap", mark)


def count(upstream: ScriptedUpstream) -> tuple[ChatWidget, FakeComm]:
    """Return a box whose chat is in the middle of a reply."""
    widget, page = talk(upstream, ("one?", "1"))
    upstream.script(reply("one two", pause_after=1))
    page.ask("send", text="count")
    page.next("d", s="one")
    return widget, page


def test_a_reply_goes_on_in_a_chat_that_is_left_and_is_there_when_one_comes_back(upstream: ScriptedUpstream) -> None:
    widget, page = count(upstream)
    first = widget.chat
    new = go(page, "new")
    mark = len(page.said)
    page.turn("meanwhile")
    assert texts(widget.chat)[0] == "meanwhile"
    assert new["chat_id"] == widget.chat_id != first.id
    # nothing of the other reply comes here
    assert {m["turn"] for m in page.said[mark:] if m["t"] in ("start", "d", "end")} == {
        page.next("start", mark)["turn"]
    }

    back = go(page, "open", chat_id=first.id)
    assert (back["chat_id"], back["live"]["text"]) == (first.id, "one")
    mark = len(page.said)
    upstream.release()
    assert page.next("end", mark, status="complete", len=7)
    assert texts(first) == ["one?", "1", "count", "one two"]


def test_a_reply_that_was_left_is_recorded_and_its_box_may_ask_on(upstream: ScriptedUpstream) -> None:
    widget, page = count(upstream)
    first = widget.chat
    go(page, "new")
    upstream.release()
    until(lambda: list(wb.usage()["status"]) == ["complete", "complete"])
    runtime.close()

    assert texts(Chat.open(first.id)) == ["one?", "1", "count", "one two"]


def test_a_reply_that_was_left_is_stopped_when_one_is_back(upstream: ScriptedUpstream) -> None:
    widget, page = count(upstream)
    first = widget.chat.id
    go(page, "new")
    live = go(page, "open", chat_id=first)["live"]
    page.ask("stop", turn=live["turn"])

    assert page.next("end", status="interrupted")["message_id"] == live["message_id"]


def test_a_box_that_is_closed_stops_what_was_left_in_it_too(upstream: ScriptedUpstream) -> None:
    widget, page = count(upstream)
    go(page, "new")
    widget.close()
    upstream.wait_for(lambda u: u.disconnects, SECONDS)
    runtime.close()

    assert sorted(wb.usage()["status"]) == ["complete", "interrupted"]


def test_a_reply_that_another_box_shows_goes_on_when_the_one_it_was_left_in_is_closed(
    upstream: ScriptedUpstream,
) -> None:
    widget, page = count(upstream)
    other = ChatWidget(widget.chat)
    go(page, "new")
    widget.close()
    upstream.release()

    assert other.comm.next("end", status="complete", len=7)


def test_a_chat_whose_turn_has_not_begun_is_not_left(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"))
    held = threading.Event()
    runtime.runtime()._loop.call_soon_threadsafe(held.wait, SECONDS)
    page.ask("send", text="count")
    refused = [page.ask("new"), page.ask("open", chat_id=widget.chat_id)]
    held.set()

    for c in refused:
        assert "a reply is still being written in this chat" in page.next("err", c=c)["message"]
    assert page.next("end", status="complete", turn=page.next("start", text="count")["turn"])


def test_while_a_reply_is_written_nothing_else_is_asked_in_its_chat(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"))
    question = now(page)["messages"][0]["message_id"]
    upstream.script(reply("one two", pause_after=1))
    page.ask("send", text="count")
    upstream.wait_for(lambda u: u.paused, SECONDS)
    for t, fields in [
        ("edit", {"message_id": question, "text": "I?"}),
        ("again", {"message_id": question}),
        ("set", {"model": None, "system": "x"}),
    ]:
        c = page.ask(t, **fields)
        assert "a reply is still being written in this chat" in page.next("err", c=c)["message"]
    c = page.ask("delete", chat_id=widget.chat_id)
    assert page.next("err", c=c)["type"] == "turn_running"
    upstream.release()

    assert page.next("end", status="complete", len=7)
    assert texts(widget.chat) == ["one?", "1", "count", "one two"]


def test_another_box_on_the_chat_learns_of_the_branch_and_stays(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"))
    other = ChatWidget(widget.chat)
    mark = len(other.comm.said)
    snap = do(page, "edit", message_id=now(page)["messages"][0]["message_id"], text="I?")

    assert shown_in(other.comm.next("snap", mark))[0] == ("one?", (0, 2))
    assert other.chat_id != widget.chat_id == snap["chat_id"]
    assert shown_in(now(other.comm))[0] == ("one?", (0, 2))
    do(other.comm, "branch", message_id=now(other.comm)["messages"][0]["message_id"], index=1)
    assert other.chat_id == widget.chat_id
    assert now(other.comm) == now(page)


def test_a_branch_whose_box_is_closed_before_it_begins_is_stopped(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"))
    upstream.script(reply("I", pause_before=True))
    page.ask("edit", message_id=now(page)["messages"][0]["message_id"], text="I?")
    upstream.wait_for(lambda u: u.paused, SECONDS)
    widget.close()
    upstream.wait_for(lambda u: u.disconnects, SECONDS)
    runtime.close()

    assert sorted(wb.usage()["status"]) == ["complete", "interrupted"]


@pytest.mark.parametrize(
    ("t", "fields"),
    [
        ("edit", {"message_id": "m1", "text": "x"}),
        ("again", {"message_id": "m1"}),
        ("branch", {"message_id": "m1", "index": 0}),
        ("branch", {"message_id": None, "index": 0}),
        ("open", {"chat_id": "c1"}),
        ("rename", {"chat_id": "c1", "title": "x"}),
        ("delete", {"chat_id": "c1"}),
        ("list", {"q": "\0"}),
        ("list", {"q": "", "before": ["yesterday", "c1"]}),
        ("export", {"kind": "../../etc/passwd"}),
        ("set", {"model": "claude-2", "system": None}),
        ("set", {"model": "claude-sonnet-5-5\0", "system": None}),
    ],
)
def test_what_cannot_be_done_is_answered_and_changes_nothing(
    t: str, fields: dict[str, Any], upstream: ScriptedUpstream
) -> None:
    widget, page = talk(upstream, ("one?", "1")) if t != "set" else (ChatWidget(), None)
    page = page or widget.comm
    before = now(page)
    c = page.ask(t, **fields)

    assert page.next("err", c=c)["turn"] is None
    assert now(page) == before


def test_a_strangers_chat_cannot_be_opened_renamed_or_deleted(upstream: ScriptedUpstream) -> None:
    stranger = Chat(user="somebody-else", title="Mine")
    stranger.ask("private", show=False)
    page = ChatWidget().comm
    for t, more in (("open", {}), ("rename", {"title": "Yours"}), ("delete", {})):
        c = page.ask(t, chat_id=stranger.id, **more)
        assert page.next("err", c=c)["type"] == "not_found"
    c = page.ask("list", q="")

    assert page.next("chats", c=c)["chats"] == []
    assert (stranger.title, texts(stranger)[0]) == ("Mine", "private")


# --- The list of chats ------------------------------------------------------------------------------------------


def test_the_list_has_the_callers_chats_newest_first_in_pages(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "PAGE", 2)
    for title in ("first", "second", "third"):
        Chat(title=title).ask(f"about {title}", show=False)
    page = ChatWidget().comm
    c = page.ask("list", q="")
    told = page.next("chats", c=c)
    c = page.ask("list", q="", before=told["next"])
    rest = page.next("chats", c=c)
    c = page.ask("list", q=" ABOUT second ")

    assert [chat["title"] for chat in told["chats"] + rest["chats"]] == ["third", "second", "first"]
    assert rest["next"] is None
    assert [chat["title"] for chat in page.next("chats", c=c)["chats"]] == ["second"]
    assert told["chats"][0]["turns"] == 1 and float(told["chats"][0]["cost_usd"]) > 0


def test_a_chat_of_the_list_is_gone_on_with(upstream: ScriptedUpstream) -> None:
    chat = Chat()
    chat.ask("one?", show=False)
    widget = ChatWidget()
    mark = len(widget.comm.said)
    widget.comm.ask("open", chat_id=chat.id)
    snap = widget.comm.next("snap", mark)
    widget.comm.turn("two?")

    assert snap["chat_id"] == widget.chat.id == chat.id
    assert texts(chat)[0::2] == ["one?", "two?"]


def test_a_new_chat_is_begun_beside_the_one_that_is_shown(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"))
    first = widget.chat_id
    new = do(page, "new")

    assert (new["messages"], new["title"]) == ([], "")
    assert widget.chat_id == new["chat_id"] != first
    assert do(page, "new")["chat_id"] == new["chat_id"]
    assert do(page, "open", chat_id=first)["chat_id"] == first


def test_a_chat_is_renamed_on_every_box_that_shows_it(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"))
    other = ChatWidget(widget.chat).comm
    mark = len(other.said)
    c = page.ask("rename", chat_id=widget.chat_id, title=" Counting ")

    assert page.next("done", c=c)
    assert other.next("snap", mark)["title"] == widget.chat.title == "Counting"
    assert wb.chats()["title"].tolist() == ["Counting"]


def test_deleting_the_chat_that_is_shown_begins_a_new_one(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"))
    gone = widget.chat_id
    c = page.ask("delete", chat_id=gone)
    page.next("done", c=c)

    assert widget.chat_id != gone
    assert wb.chats().empty
    assert now(page)["messages"] == []
    assert len(wb.usage()) == 1


def test_a_deleted_branch_is_no_longer_paged_to(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"))
    first = widget.chat_id
    do(page, "edit", message_id=now(page)["messages"][0]["message_id"], text="I?")
    c = page.ask("delete", chat_id=first)
    page.next("done", c=c)

    assert shown_in(now(page))[0] == ("I?", None)


def test_a_branch_goes_on_with_the_prompt(upstream: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help {{customer}}.")
    widget = ChatWidget(Chat(prompt="support", variables={"customer": "Ada"}))
    page = widget.comm
    page.turn("one?")
    do(page, "edit", message_id=now(page)["messages"][0]["message_id"], text="two?")
    do(page, "again", message_id=now(page)["messages"][1]["message_id"])

    assert [request.body["system"] for request in upstream.requests] == ["You help Ada."] * 3
    assert wb.usage(by="prompt_version")["calls"].tolist() == [3]
    assert widget.chat.prompt == "support@1"


# --- Model, system prompt, exports ------------------------------------------------------------------------------


def test_a_chat_that_has_not_begun_is_given_a_model_and_a_system_prompt(upstream: ScriptedUpstream) -> None:
    widget = ChatWidget()
    page = widget.comm
    c = page.ask("about")
    about = page.next("about", c=c)
    prices = {entry["model"]: entry["price"] for entry in about["models"]}
    c = page.ask("set", model="claude-haiku-5-5", system="Be terse.")
    page.next("done", c=c)
    page.turn("hi")

    assert (about["open"], about["model"], about["system"]) == (True, None, None)
    assert about["default"] == "claude-sonnet-5-5"
    assert prices["claude-sonnet-5-5"] == "$2.00 in, $10 out per million tokens"
    assert "local" in prices and "claude-3-opus-latest" not in prices
    assert (upstream.last.body["model"], upstream.last.body["system"]) == ("claude-haiku-5-5", "Be terse.")
    assert (widget.chat.model, widget.chat.system) == ("claude-haiku-5-5", "Be terse.")


def test_the_model_and_the_system_prompt_of_a_chat_that_has_begun_stay(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"))
    c = page.ask("set", model=None, system="Be rude.")

    assert "begin a new chat" in page.next("err", c=c)["message"]
    assert widget.chat.system is None
    c = page.ask("about")
    assert page.next("about", c=c)["open"] is False


@pytest.mark.parametrize(("kind", "ending"), [("markdown", "md"), ("notebook", "ipynb")])
def test_a_chat_is_exported_as_python_exports_it(kind: str, ending: str, upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "```python\n1\n```"))
    c = page.ask("export", kind=kind)
    file = page.next("file", c=c)

    assert file["name"] == f"one.{ending}"
    if kind == "markdown":
        assert file["text"] == widget.chat.to_markdown()
        assert file["text"].startswith("# one?\n\n## You\n\none?\n\n## Claude (claude-sonnet-5-5)\n\n```python\n1\n```")
    else:
        assert json.loads(file["text"]) == widget.chat.to_notebook()


def test_a_snapshot_says_why_each_reply_ended(upstream: ScriptedUpstream) -> None:
    _, page = talk(upstream, ("one?", "1"))

    assert [message["stop_reason"] for message in now(page)["messages"]] == [None, "end_turn"]
