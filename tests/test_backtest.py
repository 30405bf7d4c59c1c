"""Backtests: what was really asked, asked again of two versions, side by side and never dearer than allowed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import workbench as wb
from tests.faults.upstream import fault, reply
from tests.test_cli_prompts import run
from tests.test_experiments import at, turn_in
from tests.test_prompts import saved
from tests.test_store import ADA, EVE
from workbench.errors import InvalidRequest, NotFound, PromptError
from workbench.ids import new_id
from workbench.store.queries import query
from workbench.turns import DEFAULT_ID, Caller, ChatInfo, PromptWanted

if TYPE_CHECKING:
    from tests.faults.upstream import ScriptedUpstream
    from workbench.store import Store


@pytest.fixture
def support(scripted: ScriptedUpstream) -> ScriptedUpstream:
    """Two versions, the first in production, and two chats of it, the first with two questions."""
    wb.prompts.save("support", "You help {{customer}}.")
    wb.prompts.save("support", "You serve {{customer}}.", effort="low")
    ada = wb.Chat(prompt="support", variables={"customer": "Ada"})
    ada.ask("hi", show=False)
    ada.ask("and?", show=False)
    wb.Chat(prompt="support", variables={"customer": "Bob"}).ask("It is broken", show=False)
    scripted.requests.clear()
    return scripted


def system_of(request: Any) -> str:
    (block,) = request.body["system"]
    return str(block["text"])


def sent(scripted: ScriptedUpstream) -> list[tuple[str, str]]:
    return sorted((system_of(each), each.body["messages"][0]["content"][0]["text"]) for each in scripted.requests)


def test_the_first_questions_are_asked_of_both_versions(support: ScriptedUpstream) -> None:
    support.script(*[lambda request: reply("Gladly, Ada" if "serve" in system_of(request) else "Yes, Ada")] * 4)
    frame = wb.prompts.backtest("support@2", max_cost=1)
    calls = wb.sql("SELECT source, prompt_version, cost_usd FROM usage WHERE source = 'map' ORDER BY prompt_version")
    efforts = [request.body.get("output_config") for request in support.requests if "serve" in system_of(request)]

    assert sent(support) == [
        ("You help Ada.", "hi"),
        ("You help Bob.", "It is broken"),
        ("You serve Ada.", "hi"),
        ("You serve Bob.", "It is broken"),
    ]
    assert efforts == [{"effort": "low"}] * 2
    assert frame["question"].tolist() == ["It is broken", "hi"]  # the newest first
    assert frame["before"].tolist() == ["Yes, Ada"] * 2
    assert frame["after"].tolist() == ["Gladly, Ada"] * 2
    assert frame["diff"].tolist() == ["[-Yes-]{+Gladly+}, Ada"] * 2
    assert frame["error"].isna().all()
    assert (frame["ms_before"] >= 0).all() and (frame["ms_after"] >= 0).all()
    assert calls["prompt_version"].tolist() == [1, 1, 2, 2]
    assert sum(frame["cost_before_usd"]) + sum(frame["cost_after_usd"]) == sum(calls["cost_usd"], Decimal(0))
    assert not any(str(cost).endswith("0") for cost in frame["cost_before_usd"])  # as people write them
    assert len(wb.chats()) == 2  # the questions asked again are no chats of anybody's


def test_what_was_asked_before_costs_nothing_again(support: ScriptedUpstream) -> None:
    first = wb.prompts.backtest("support@2", last=1)
    support.requests.clear()
    again = wb.prompts.backtest("support@2", last=2)

    assert {text for _, text in sent(support)} == {"hi"}
    assert again.iloc[0].to_dict() == first.iloc[0].to_dict()


def test_no_more_is_spent_than_allowed(support: ScriptedUpstream) -> None:
    with pytest.raises(InvalidRequest, match=r"4 questions will cost .* or more, and max_cost"):
        wb.prompts.backtest("support@2", max_cost="0.0001")
    assert support.requests == []

    support.script(*[reply("word " * 1000)] * 4)
    limit = Decimal("0.025")  # the worst case of one question is $0.021, and a reply of 1,000 words costs $0.01
    frame = wb.prompts.backtest("support@2", max_cost=limit)
    spent = wb.sql("SELECT cost_usd FROM usage WHERE source = 'map'")["cost_usd"].tolist()
    assert len(spent) == 1 and Decimal("0.005") < spent[0] <= limit
    assert frame["error"].tolist() == ["not asked: max_cost=$0.02 might have been passed"] * 2
    assert (frame["before"].notna().sum(), frame["after"].notna().sum()) == (1, 0)


def test_values_that_do_not_fit_a_version_are_said_in_its_row(support: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help {{customer}} in {{language}}.")
    frame = wb.prompts.backtest("support@3")

    assert frame["after"].isna().all() and frame["before"].notna().all()
    assert set(frame["error"]) == {
        "not asked: the prompt support@3 is missing 'language'; its variables are 'customer', 'language'"
    }


def test_a_failure_is_in_its_row(support: ScriptedUpstream) -> None:
    support.script(*[lambda request: fault("400") if "Bob" in system_of(request) else reply("Fine")] * 8)
    frame = wb.prompts.backtest("support@2").set_index("question")

    assert frame.loc["hi", ["before", "after"]].tolist() == ["Fine", "Fine"]
    assert frame.loc["It is broken", "error"]
    assert frame["before"].isna().to_dict() == {"It is broken": True, "hi": False}


def test_what_cannot_be_compared_is_refused(support: ScriptedUpstream) -> None:
    wb.prompts.save("tone", "Be kind.")
    for arguments, error, told in (
        (("support@1",), InvalidRequest, "both are support@1"),
        (("support@9",), PromptError, "the newest is support@2"),
        (("tone@1", "support@1"), NotFound, "no chat has asked the prompt anything yet"),
    ):
        with pytest.raises(error, match=told):
            wb.prompts.backtest(*arguments)
    for last in (0, 1001, 2.5):
        with pytest.raises(InvalidRequest, match="last is"):
            wb.prompts.backtest("support@2", last=last)  # type: ignore[arg-type]
    assert support.requests == []


def test_a_backtest_from_the_command_line(support: ScriptedUpstream) -> None:
    support.script(*[lambda request: reply("Gladly" if "serve" in system_of(request) else "Yes")] * 4)
    as_json = run("prompts", "backtest", "support@2", "--against", "support@1", "--last", "1", "--json")
    shown = run("prompts", "backtest", "support@2", "--last", "1")

    (row,) = json.loads(as_json.stdout)
    assert (row["question"], row["before"], row["after"]) == ("It is broken", "Yes", "Gladly")
    assert Decimal(row["cost_after_usd"]) > 0
    assert shown.stdout == "> It is broken\n\n[-Yes-]{+Gladly+}\n\n"
    assert "before $0.00" in shown.stderr


async def test_the_questions_are_first_ones_of_the_orgs_own_chats(store: Store) -> None:
    await saved(store, "one", "two")
    wanted = PromptWanted("support")
    chats = [ChatInfo(id=new_id(), wanted=wanted) for _ in range(5)]
    await turn_in(store, chat=chats[0], question="first")
    await turn_in(store, chat=chats[0], question="second", started_at=at(1))
    await turn_in(store, chat=chats[1], question="newest", started_at=at(9))
    await turn_in(store, chat=chats[2], question="map", started_at=at(2), caller=Caller(source="map"))
    picture: Any = [{"type": "text", "text": "a table"}]
    await turn_in(store, chat=chats[3], question="with a table", started_at=at(3), attached=picture)
    await turn_in(store, chat=ChatInfo(id=new_id()), question="no prompt", started_at=at(4))
    fork = await store.fork(ADA, await store.chat(ADA, chats[0].id), 2)
    await turn_in(store, chat=fork, question="in a fork", started_at=at(5))

    rows = await store.backend.rows(query("first_questions"), DEFAULT_ID, "support", 10)
    assert [(id, question, json.loads(values)) for id, question, values in rows] == [
        (chats[1].id, "newest", {}),
        (chats[0].id, "first", {}),
    ]
    assert await store.backend.rows(query("first_questions"), EVE.org_id, "support", 10) == []
    assert len(await store.backend.rows(query("first_questions"), DEFAULT_ID, "support", 1)) == 1
