# ruff: noqa: F811  # fixtures of another module are parameters here
"""What a chat box does with prompts: which there are, what one says, and which one the chat uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import workbench as wb
from tests.faults.upstream import reply
from tests.test_widget import _workbench, upstream  # noqa: F401  # fixtures
from tests.test_widget_branches import do, now, talk

if TYPE_CHECKING:
    from tests.faults.upstream import ScriptedUpstream
    from tests.test_widget import FakeComm

SUPPORT = "You help {{customer}} with {{ product }}."


def about(page: FakeComm) -> dict[str, Any]:
    return page.next("about", c=page.ask("about"))


def head(page: FakeComm) -> tuple[str | None, str | None]:
    """What the head of the box says of prompts: the one that is used, and the one that will be."""
    snap = now(page)
    return snap["prompt"], snap["next_prompt"]


def choose(page: FakeComm, prompt: str, **variables: str) -> None:
    page.next("done", c=page.ask("set", prompt=prompt, variables=variables))


def refused(page: FakeComm, **fields: Any) -> str:
    message: str = page.next("err", c=page.ask("set", **fields))["message"]
    return message


def test_without_prompts_there_is_nothing_to_pick_from() -> None:
    page = wb.ChatWidget().comm
    told = about(page)

    assert (told["prompts"], told["prompt"], told["next_prompt"], told["variables"]) == ([], None, None, {})


def test_the_prompts_of_the_org_are_told_with_their_labels() -> None:
    for text in ("one", "two", "three"):
        wb.prompts.save("support", text)
    wb.prompts.label("support", "staging", 3)
    wb.prompts.save("greeting", "Hello")
    page = wb.ChatWidget().comm

    assert about(page)["prompts"] == [
        {"name": "greeting", "latest": 1, "labels": {"production": 1}},
        {"name": "support", "latest": 3, "labels": {"production": 1, "staging": 3}},
    ]


def test_a_prompt_is_read_before_it_is_used() -> None:
    wb.prompts.save("support", SUPPORT, note="first try", model="claude-haiku-5-5", effort="low")
    page = wb.ChatWidget().comm
    c = page.ask("prompt", reference="support@production")
    told = page.next("prompt", c=c)
    c = page.ask("prompt", reference="support@7")

    assert told == {
        "t": "prompt",
        "c": told["c"],
        "prompt": "support@1",
        "text": SUPPORT,
        "variables": ("customer", "product"),
        "note": "first try",
        "model": "claude-haiku-5-5",
        "effort": "low",
    }
    assert "the newest is support@1" in page.next("err", c=c)["message"]


def test_a_new_chat_begins_with_the_prompt_that_was_chosen(upstream: ScriptedUpstream) -> None:
    wb.prompts.save("support", SUPPORT, model="claude-haiku-5-5")
    widget = wb.ChatWidget()
    page = widget.comm
    choose(page, "support@production", customer="Ada", product="{{tea}}")
    before = head(page), now(page)["model"]
    upstream.script(reply("Hello"))
    mark = len(page.said)
    page.turn("hi")

    assert before == ((None, "support@production"), "claude-haiku-5-5")
    assert upstream.last.body["system"] == "You help Ada with {{tea}}."
    assert page.next("start", mark)["prompt"] == widget.chat.prompt == "support@1"
    assert head(page) == ("support@1", None)
    assert about(page)["variables"] == {"customer": "Ada", "product": "{{tea}}"}


def test_what_is_read_before_a_chat_is_what_an_experiment_gives_it(upstream: ScriptedUpstream) -> None:
    for text in ("You help.", "You help. Be brief."):
        wb.prompts.save("support", text)
    wb.experiments.start("tone", prompt="support", arms={"v1": 1, "v2": 1})
    read, sent = [], []
    for _ in range(8):
        page = wb.ChatWidget().comm
        read.append(page.next("prompt", c=page.ask("prompt", reference="support@production"))["text"])
        choose(page, "support@production")
        upstream.script(reply("Hello"))
        page.turn("hi")
        sent.append(upstream.last.body["system"])

    assert read == sent
    assert len(wb.sql("SELECT 1 FROM exposures")) == 8


def test_missing_variables_are_said_in_words_and_nothing_is_chosen_or_sent(
    upstream: ScriptedUpstream,
) -> None:
    wb.prompts.save("support", SUPPORT)
    page = wb.ChatWidget().comm

    assert "is missing 'product'" in refused(page, prompt="support", variables={"customer": "Ada"})
    assert "does not know 'age'" in refused(
        page, prompt="support", variables={"customer": "A", "product": "B", "age": "3"}
    )
    assert "there are: support" in refused(page, prompt="suport")
    assert "not both" in refused(page, prompt="support", system="Be terse.", variables={})
    assert head(page) == (None, None)
    assert upstream.requests == []


def test_a_chat_that_has_begun_changes_its_prompt_from_the_next_turn_on(upstream: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help {{customer}}.")
    chat = wb.Chat(prompt="support", variables={"customer": "Ada"})
    upstream.script(reply("1"), reply("2"))
    chat.ask("one?", show=False)
    wb.prompts.save("support", "You help {{customer}}. Be brief.")
    page, other = wb.ChatWidget(chat).comm, wb.ChatWidget(chat).comm
    mark = len(other.said)
    choose(page, "support@2", customer="Ada")
    both = (head(page), other.next("snap", mark)["next_prompt"])
    page.turn("two?")

    assert both == (("support@1", "support@2"), "support@2")
    assert upstream.last.body["system"] == "You help Ada. Be brief."
    assert head(page) == ("support@2", None)
    assert "stays" in refused(page, prompt="support@1", model="claude-haiku-5-5", variables={"customer": "Ada"})


def test_the_version_that_a_chat_has_already_changes_nothing(upstream: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help {{customer}}.")
    wb.prompts.save("support", "You help {{customer}}. Be brief.")
    chat = wb.Chat(prompt="support", variables={"customer": "Ada"})
    upstream.script(reply("1"))
    chat.ask("one?", show=False)
    page = wb.ChatWidget(chat).comm
    choose(page, "support@2", customer="Ada")
    choose(page, "support@1", customer="Ada")
    taken_back = head(page)
    choose(page, "support@1", customer="Bob")

    assert taken_back == ("support@1", None)
    assert head(page) == ("support@1", "support@1")


def test_while_a_reply_is_written_no_prompt_is_chosen(upstream: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help.")
    page = wb.ChatWidget().comm
    upstream.script(reply("1", pause_before=True))
    page.ask("send", text="one?")
    upstream.wait_for(lambda u: u.paused)

    assert "still being written" in refused(page, prompt="support")
    upstream.release()
    page.next("end")


@pytest.mark.parametrize("how", ["a model", "a system prompt", "nothing"])
def test_a_new_chat_takes_its_choice_back(how: str, upstream: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help.")
    page = wb.ChatWidget().comm
    choose(page, "support")
    more = {"a model": {"model": "claude-haiku-5-5"}, "a system prompt": {"system": "Be terse."}, "nothing": {}}[how]
    page.next("done", c=page.ask("set", **more))
    upstream.script(reply("Hello"))
    page.turn("hi")

    assert upstream.last.body.get("system") == more.get("system")
    assert head(page) == (None, None)


# --- Thumbs -----------------------------------------------------------------------------------------------------


def thumbs(page: FakeComm) -> list[Any]:
    return [m["feedback"] for m in now(page)["messages"] if m["role"] == "assistant"]


def rate(page: FakeComm, message_id: str, score: int, comment: str | None = None) -> None:
    page.next("done", c=page.ask("feedback", message_id=message_id, score=score, comment=comment))


def feedback_rows() -> list[tuple[Any, ...]]:
    current = wb.runtime.runtime()
    sql = "SELECT chat_id, message_id, score, comment FROM feedback ORDER BY created_at"
    return current.run(current.engine.store.backend.rows(sql))


def test_thumbs_are_kept_the_newest_counts_and_both_views_are_told(upstream: ScriptedUpstream) -> None:
    widget, page = talk(upstream, ("one?", "1"), ("two?", "2"))
    other = wb.ChatWidget(widget.chat).comm
    first, second = [m["message_id"] for m in now(page)["messages"] if m["role"] == "assistant"]
    before = thumbs(page)
    rate(page, first, 1)
    rate(page, second, -1)
    rate(page, second, -1, "too short")
    rate(other, first, -1)

    assert before == [None, None]
    assert thumbs(page) == thumbs(other) == [{"score": -1, "comment": None}, {"score": -1, "comment": "too short"}]
    assert page.next("feedback", message_id=first, score=-1) == other.next("feedback", message_id=first, score=-1)
    assert [row[2:] for row in feedback_rows()] == [(1, None), (-1, None), (-1, "too short"), (-1, None)]


def test_a_reply_that_branches_share_has_its_thumb_in_each_and_is_rated_where_it_was_asked(
    upstream: ScriptedUpstream,
) -> None:
    widget, page = talk(upstream, ("one?", "1"), ("two?", "2"))
    origin = widget.chat.id
    first, _ = [m["message_id"] for m in now(page)["messages"] if m["role"] == "assistant"]
    rate(page, first, 1)
    do(page, "edit", message_id=now(page)["messages"][2]["message_id"], text="II?")
    branch, shared = widget.chat.id, now(page)["messages"][1]["message_id"]
    seen = thumbs(page)
    rate(page, shared, -1, "in the branch")
    do(page, "open", chat_id=origin)

    assert branch != origin and shared != first
    assert seen == [{"score": 1, "comment": None}, None]
    assert thumbs(page) == [{"score": -1, "comment": "in the branch"}, None]
    assert [row[:2] for row in feedback_rows()] == [(origin, first)] * 2


def test_what_cannot_be_rated_is_said(upstream: ScriptedUpstream) -> None:
    stranger = wb.Chat(user="somebody-else")
    private = stranger.ask("private", show=False)
    _, page = talk(upstream, ("one?", "1"))
    question, reply_id = [m["message_id"] for m in now(page)["messages"]]
    said = []
    for wrong in ({"message_id": question, "score": 1}, {"message_id": private.message_id, "score": 1}):
        said.append(page.next("err", c=page.ask("feedback", **wrong))["type"])
    said.append(page.next("err", c=page.ask("feedback", message_id=reply_id, score=0))["type"])
    said.append(page.next("err", c=page.ask("feedback", message_id=reply_id, score=1, comment="x" * 3000))["type"])

    assert said == ["not_found", "not_found", "invalid_request", "invalid_request"]
    assert feedback_rows() == []
