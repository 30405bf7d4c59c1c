"""Money in sight and variables as context in the chat box: the Python side, with a page that is a list of messages."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from tests.faults.upstream import ScriptedUpstream, Usage, fault, reply
from tests.test_estimates import used
from tests.test_widget import FakeComm, _workbench, page_of, upstream  # noqa: F401  # fixtures
from tests.test_widget_branches import do, now
from workbench import Chat, runtime
from workbench.notebook import context
from workbench.notebook.messages import counts
from workbench.store.tenants import set_org
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The variables of the notebook this process plays."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell = InteractiveShell.instance()
    yield shell.user_ns
    InteractiveShell.clear_instance()
    shell.history_manager.end_session()


def limit(usd: str) -> None:
    """Give the org a budget of this month."""
    current = runtime.runtime()
    limits = {"budget_usd": Decimal(usd), "budget_period": "month"}
    current.run(set_org(current.engine.store.backend, DEFAULT_ID, limits))


def attached(page: FakeComm, name: str) -> dict[str, Any]:
    return page.next("attached", c=page.ask("attach", name=name))


def estimate(page: FakeComm, text: str, **more: Any) -> dict[str, Any]:
    return page.next("estimate", c=page.ask("estimate", text=text, **more))


# --- Before sending ---------------------------------------------------------------------------------------------


def test_what_is_typed_is_estimated_and_nothing_is_asked_or_recorded(upstream: ScriptedUpstream) -> None:  # noqa: F811
    page = page_of()
    told = estimate(page, "What is 2+2?")

    assert told == {
        "t": "estimate",
        "c": told["c"],
        "input_tokens": 13,
        "cached_tokens": 0,
        "reply_tokens": 300,
        "input_usd": "0.000026",
        "cost_usd": "0.003026",
        "local": False,
        "context_window": 1_000_000,
    }
    assert upstream.requests == []


def test_the_next_estimate_knows_what_the_last_turn_used(upstream: ScriptedUpstream) -> None:  # noqa: F811
    page = page_of()
    estimate(page, "hi")
    upstream.script(reply("Hello", usage=Usage(cache_write_5m_tokens=2000, output_tokens=80)))
    page.turn()
    told = estimate(page, "What is 2+2?")

    assert (told["input_tokens"], told["cached_tokens"], told["reply_tokens"]) == (2093, 2000, 80)


def test_a_turn_of_a_cell_counts_in_the_next_estimate(upstream: ScriptedUpstream) -> None:  # noqa: F811
    chat = Chat()
    page = page_of(chat)
    before = estimate(page, "and?")
    upstream.script(reply("Hello", usage=Usage(uncached_input_tokens=500, output_tokens=80)))
    chat.ask("hi", show=False)
    page.next("snap")

    assert estimate(page, "and?")["input_tokens"] == before["input_tokens"] + 580


def test_an_unknown_price_is_told_as_unknown() -> None:
    told = estimate(page_of(Chat(model="claude-9")), "hi")

    assert (told["input_usd"], told["cost_usd"], told["context_window"]) == (None, None, None)


# --- Afterwards -------------------------------------------------------------------------------------------------


def test_the_end_of_a_turn_tells_its_counts_with_the_cost_of_each_and_how_full_the_context_is(
    upstream: ScriptedUpstream,  # noqa: F811
) -> None:
    usage = Usage(
        uncached_input_tokens=100,
        cache_read_tokens=1000,
        cache_write_5m_tokens=200,
        cache_write_1h_tokens=300,
        output_tokens=50,
    )
    upstream.script(reply("Hello", usage=usage))
    page = page_of()
    end = page.turn()

    assert end["counts"] == [
        {"what": "input", "tokens": 100, "cost_usd": "0.0002"},
        {"what": "input from cache", "tokens": 1000, "cost_usd": "0.0001"},
        {"what": "written to cache, 5 min", "tokens": 200, "cost_usd": "0.0005"},
        {"what": "written to cache, 1 h", "tokens": 300, "cost_usd": "0.0012"},
        {"what": "output", "tokens": 50, "cost_usd": "0.0005"},
    ]
    assert end["context"] == {"used": 1650, "window": 1_000_000}
    assert "1,000 from cache" in end["footer"]
    page.ask("hello", have={})
    snap = page.next("snap")
    assert (snap["messages"][1]["counts"], snap["context"]) == (end["counts"], end["context"])


def test_counts_have_no_price_where_it_is_unknown_or_their_sum_is_not_what_was_charged() -> None:
    known = replace(used(0, uncached_input_tokens=1000, output_tokens=10), cost_usd=Decimal("0.0021"))

    assert [row["cost_usd"] for row in counts(known)] == ["0.002", "0", "0", "0", "0.0001"]
    for unknown in (replace(known, model="claude-9", cost_usd=None), replace(known, cost_usd=Decimal("0.00105"))):
        assert {row["cost_usd"] for row in counts(unknown)} == {None}
        assert [row["tokens"] for row in counts(unknown)] == [1000, 0, 0, 0, 10]


def test_what_the_budget_has_left_is_told_and_from_80_percent_on_with_a_warning(
    upstream: ScriptedUpstream,  # noqa: F811
) -> None:
    chat = Chat(max_tokens=100)
    page = page_of(chat)
    upstream.script(
        reply("One", usage=Usage(uncached_input_tokens=1000, output_tokens=100)),
        reply("Two", usage=Usage(uncached_input_tokens=1000, output_tokens=100)),
    )
    page.turn()  # $0.003
    limit("0.0067")
    page.ask("hello", have={})
    snap = page.next("snap")
    assert (snap["budget_left_usd"], snap["budget_note"]) == ("0.0037", None)

    end = page.turn()
    assert end["budget_left_usd"] == "0.0007"
    assert end["budget_note"].startswith(
        "90% of your org's budget of $0.0067 of this month is used; it begins anew on 1 "
    )
    assert page.next("start", page.said.index(snap))["budget_left_usd"] is not None


def test_a_question_the_budget_does_not_allow_is_refused_with_who_resets_it_when() -> None:
    chat = Chat()
    page = page_of(chat)
    page.turn()
    limit("0.000001")
    mark = len(page.said)
    page.ask("send", text="more")
    error = page.next("err", mark)

    assert (error["error"], error["type"], error["retryable"]) == ("Budget exceeded", "budget_exceeded", False)
    assert "it begins anew on 1 " in error["message"]
    assert error["message"].endswith(", 00:00 UTC, and `workbench orgs set` makes it larger")


# --- Attachments ------------------------------------------------------------------------------------------------


def test_variables_of_the_notebook_are_listed_and_those_of_ipython_are_not(variables: dict[str, Any]) -> None:
    variables["df"] = pd.DataFrame({"a": range(3)})
    variables["_private"] = variables["number"] = 1
    page = page_of()

    assert page.next("variables", c=page.ask("variables"))["items"] == [
        {"name": "df", "kind": "DataFrame", "size": "3 × 1"}
    ]


def test_outside_of_a_notebook_there_are_no_variables() -> None:
    page = page_of()

    assert page.next("variables", c=page.ask("variables"))["items"] == []


def test_what_was_previewed_is_sent_and_kept_though_the_variable_changed(
    upstream: ScriptedUpstream,  # noqa: F811
    variables: dict[str, Any],
) -> None:
    variables["df"] = pd.DataFrame({"a": [1, 2]})
    upstream.script(reply("A small one."))
    page = page_of()
    seen = attached(page, "df")
    variables["df"] = None
    ids = [seen["attachment"]]
    more = estimate(page, "why?", attachments=ids)["input_tokens"] - estimate(page, "why?")["input_tokens"]
    page.ask("send", text="why?", attachments=ids)
    start, _ = page.next("start"), page.next("end")

    assert seen["summary"] == "df: DataFrame of 2 rows × 1 column, all of it"
    assert seen["tokens"] == more
    assert seen["cost_usd"] == f"{seen['tokens'] * 2 / 1e6:.6f}"
    sent = upstream.requests[0].body["messages"][0]["content"]
    assert sent == [
        {"type": "text", "text": f'<attachment name="df">\n{seen["text"]}\n</attachment>'},
        {"type": "text", "text": "why?"},
    ]
    assert (start["text"], start["attachments"]) == ("why?", [seen["summary"]])
    page.ask("hello", have={})
    question = page.next("snap")["messages"][0]
    assert (question["text"], question["attachments"]) == ("why?", [seen["summary"]])


def test_a_picture_is_shown_before_it_is_sent_and_goes_after_its_name(
    upstream: ScriptedUpstream,  # noqa: F811
    variables: dict[str, Any],
) -> None:
    variables["shot"] = Image.new("RGB", (30, 20))
    page = page_of()
    seen = attached(page, "shot")
    page.ask("send", text="what is it?", attachments=[seen["attachment"]])
    page.next("end")
    name, picture, question = upstream.requests[0].body["messages"][0]["content"]

    assert seen["image"] == f"data:image/png;base64,{picture['source']['data']}"
    assert name["text"] == '<attachment name="shot">\nshot: picture of 30 × 20 pixels\n</attachment>'
    assert question == {"type": "text", "text": "what is it?"}
    page.ask("hello", have={})
    assert page.next("snap")["messages"][0]["attachments"] == ["shot: picture of 30 × 20 pixels"]


def test_where_nobody_can_answer_a_variable_is_attached_at_an_unknown_price(
    variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLAUDE_MODEL", "claude-sonnet-5-5")
    variables["conf"] = {"a": 1}
    seen = attached(page_of(), "conf")

    assert (seen["kind"], seen["cost_usd"]) == ("dict", None)


def test_what_is_attached_to_a_long_chat_has_the_price_of_long_prompts(
    upstream: ScriptedUpstream,  # noqa: F811
    variables: dict[str, Any],
) -> None:
    variables["conf"] = {"a": 1}
    upstream.script(reply("Long.", usage=Usage(uncached_input_tokens=100_000, output_tokens=1)))
    page = page_of(Chat(model="claude-haiku-5-5"))
    short = attached(page, "conf")
    page.turn()
    long = attached(page, "conf")

    assert (short["cost_usd"], long["cost_usd"]) == tuple(
        f"{long['tokens'] * rate / 1e6:.10f}".rstrip("0") for rate in (0.1, 0.5)
    )


def test_asking_again_sends_what_was_attached_again(
    upstream: ScriptedUpstream,  # noqa: F811
    variables: dict[str, Any],
) -> None:
    variables["conf"] = {"a": 1}
    upstream.script(fault("cut"), reply("Better."))
    page = page_of()
    page.ask("send", text="why?", attachments=[attached(page, "conf")["attachment"]])
    failed = page.next("end", status="failed")
    page.ask("retry", message_id=failed["message_id"])
    page.next("end", status="complete")
    first, second = (request.body["messages"] for request in upstream.requests)

    assert first[-1] == second[-1] and len(first[-1]["content"]) == 2


def test_a_branch_sends_what_went_with_its_question_and_what_was_attached_since(
    upstream: ScriptedUpstream,  # noqa: F811
    variables: dict[str, Any],
) -> None:
    variables["conf"], variables["more"] = {"a": 1}, {"b": 2}
    page = page_of()
    page.ask("send", text="why?", attachments=[attached(page, "conf")["attachment"]])
    page.next("end")
    question, reply = now(page)["messages"]
    branch = do(page, "again", message_id=reply["message_id"])
    added = [attached(page, "more")["attachment"]]
    edited = do(page, "edit", message_id=branch["messages"][0]["message_id"], text="how?", attachments=added)
    first, second, third = (request.body["messages"][-1]["content"] for request in upstream.requests)

    assert branch["chat_id"] != edited["chat_id"]
    assert second == first
    assert [block["text"].split("\n")[0] for block in third] == [
        '<attachment name="conf">',
        '<attachment name="more">',
        "how?",
    ]
    assert branch["messages"][0]["attachments"] == question["attachments"]
    assert edited["messages"][0]["attachments"][:1] == question["attachments"]


def test_while_a_question_is_edited_the_estimate_is_of_what_is_sent_in_its_place(
    upstream: ScriptedUpstream,  # noqa: F811
    variables: dict[str, Any],
) -> None:
    variables["conf"] = {"a": "word " * 100}
    page = page_of()
    upstream.script(*(reply("Hello", usage=Usage(uncached_input_tokens=n, output_tokens=80)) for n in (500, 700)))
    page.turn("one?")
    first = estimate(page, "and?")["input_tokens"]
    conf = attached(page, "conf")
    mark = len(page.said)
    page.ask("send", text="two?", attachments=[conf["attachment"]])
    page.next("end", mark)
    second = now(page)["messages"][2]["message_id"]

    assert first == 500 + 80 + 9
    assert estimate(page, "and?")["input_tokens"] == 700 + 80 + 9
    assert estimate(page, "and?", edit_of=second)["input_tokens"] == first + conf["tokens"]


def test_an_estimate_is_of_the_chat_that_is_shown(upstream: ScriptedUpstream) -> None:  # noqa: F811
    page = page_of(Chat(system="word " * 400))
    before = estimate(page, "and?")["input_tokens"]
    page.turn()
    do(page, "new")
    begun = estimate(page, "and?")["input_tokens"]
    do(page, "set", model=None, system="word " * 400)

    assert begun < 100 < before == estimate(page, "and?")["input_tokens"]


def test_older_messages_have_their_branches_too(upstream: ScriptedUpstream) -> None:  # noqa: F811
    page = page_of()
    page.turn("one?")
    page.turn("two?")
    do(page, "edit", message_id=now(page)["messages"][0]["message_id"], text="I?")
    back = do(page, "branch", message_id=now(page)["messages"][0]["message_id"], index=0)
    page.ask("older", before=back["messages"][2]["message_id"])
    older = page.next("older")["messages"]

    assert older == back["messages"][:2]
    assert older[0]["branch"] == {"index": 0, "count": 2}


def test_what_cannot_be_attached_is_told_by_name(variables: dict[str, Any]) -> None:
    variables["number"] = 7
    page = page_of()

    assert attached(page, "number")["error"] == "number is of type int, which cannot be attached"
    assert attached(page, "nothing")["error"].startswith("there is no variable nothing in this notebook; ")
    assert attached(page, "get_ipython")["error"].startswith("there is no variable get_ipython")


def test_an_attachment_that_is_no_longer_known_is_not_left_out_silently(upstream: ScriptedUpstream) -> None:  # noqa: F811
    page = page_of()
    c = page.ask("send", text="why?", attachments=["gone"])

    assert page.next("err", c=c)["message"] == "an attachment is no longer there; remove it and attach it again"
    assert upstream.requests == []


def test_only_the_latest_attachments_are_kept(variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "MOST_KEPT", 2)
    variables["conf"] = {"a": 1}
    page = page_of()
    first, *_, last = [attached(page, "conf")["attachment"] for _ in range(3)]

    assert page.next("err", c=page.ask("estimate", text="", attachments=[first]))["type"] == "invalid_request"
    assert estimate(page, "", attachments=[last])["input_tokens"] > 7
