"""`workbench experiments`, from start to stop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import workbench as wb
from tests.faults.upstream import reply
from tests.test_cli_prompts import run

if TYPE_CHECKING:
    from tests.faults.upstream import ScriptedUpstream

ARMS = ("--prompt", "support", "--arm", "v1", "--arm", "2=3")


def done(*arguments: str) -> str:
    result = run("experiments", *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def as_json(*arguments: str) -> Any:
    return json.loads(done(*arguments, "--json"))


@pytest.fixture
def support(scripted: ScriptedUpstream) -> ScriptedUpstream:
    """A prompt of two versions."""
    for text in ("You help.", "You serve."):
        wb.prompts.save("support", text)
    return scripted


def test_an_experiment_from_start_to_stop(support: ScriptedUpstream) -> None:
    support.script(*[reply("Fine")] * 8)
    said = done("start", "tone", *ARMS, "--outcome", "thumbs", "--guard", "errors=2", "--note", "kinder?")
    for _ in range(8):
        wb.Chat(prompt="support").ask("hi", show=False)
    listed, units, report = as_json("list"), as_json("units", "tone"), as_json("report", "tone")
    shown = done("report", "tone")
    changed = as_json("coverage", "tone", "0.5")
    stopped = run("experiments", "stop", "tone", "--winner", "v2", "--note", "kinder")

    assert said.startswith("experiment tone runs on support@production: v1 25%, v2 75%; thumbs decides\n")
    assert "  +10 points: at most " in said
    assert [(each["name"], each["state"], each["arms"], each["note"]) for each in listed] == [
        ("tone", "running", "v1 1, v2 3", "kinder?")
    ]
    assert len(units) == 8 and all(unit["calls"] == 1 and unit["thumb"] is None for unit in units)
    assert sum(report["counts"].values()) == 8
    assert report["experiment"]["guard"] == {"errors": 2}
    assert {each["outcome"] for each in report["comparisons"]} >= {"thumbs", "cost"}
    # once in 2,600 times seven of eight get the arm of a quarter, which is called a wrong split
    told = "no verdict yet" if report["split_is_right"] else "no verdict: "
    assert told in shown and report["verdict"].startswith(told)
    assert changed["coverage"] == 0.5
    assert stopped.stderr.replace("\n", " ").strip() == "Stopped tone. support@production is v2 now."
    assert as_json("report", "tone")["experiment"]["winner"] == "v2"
    assert "tone" in done("list") and "stopped" in done("list")
    assert "v2" in done("units", "tone")


def test_the_size_is_said_before_a_start(support: ScriptedUpstream) -> None:
    plan = as_json("size", *ARMS, "--outcome", "cost")

    assert [size["effect"] for size in plan["sizes"]] == ["-10 %", "-20 %", "-30 %", "-40 %"]
    assert plan["chats_before"] == 0
    assert run("experiments", "list").stderr.startswith("No experiments yet")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--arm", "v1=x", "--arm", "v2"), "an arm is given as v4 or v4=0.2, not 'v1=x'"),
        (("--arm", "v1", "--arm", "v1=2"), "the arm v1 is there twice"),
        (("--arm", "v1"), "there is nothing to compare in one arm"),
        (("--arm", "v1", "--arm", "v2", "--guard", "errors"), "a guard is given as errors=2 or cost=1.5, not 'errors'"),
        (("--arm", "v1", "--arm", "v2", "--guard", "joy=2"), "no guard can be joy=2.0"),
    ],
)
def test_what_cannot_work_is_said_in_a_sentence(
    support: ScriptedUpstream, arguments: tuple[str, ...], told: str
) -> None:
    result = run("experiments", "start", "tone", "--prompt", "support", *arguments)

    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
