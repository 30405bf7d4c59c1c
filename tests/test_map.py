"""wb.map: every row asked once, whatever breaks, whoever interrupts; never more spent than allowed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel, field_validator

import workbench as wb
from tests.faults.upstream import Request, ScriptedUpstream, Usage, fault, reply, words
from workbench import runtime
from workbench.engine import Engine
from workbench.mapping import Table
from workbench.mapping import run as run_module
from workbench.mapping.bar import Cell, Nowhere, bar_for
from workbench.mapping.columns import Columns, NoFit
from workbench.store import Store, tenants

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.upstream import Reply
    from workbench.turns import LiveTurn

FAULTS = [
    "429", "500", "502_html", "503", "504", "529", "error_first", "reset_before", "empty_200", "half_headers",
    "cut", "cut_clean", "no_stop", "reset", "overloaded", "rate_limit", "bad_json", "bad_utf8", "unknown_error",
]  # fmt: skip
"""What asking again can cure."""
D = Decimal
ROOT = Path(__file__).parents[1]


@pytest.fixture
def upstream(scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> ScriptedUpstream:
    """The upstream that answers; nobody waits long before trying again."""
    monkeypatch.setattr(run_module, "PAUSE", 0.002)
    return scripted


def rows(*texts: Any) -> pd.DataFrame:
    return pd.DataFrame({"text": list(texts)})


def numbered(count: int, start: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"n": range(start, start + count)})


def says(text: str) -> Callable[[Request], Reply]:
    """A reply that says the question again."""
    return lambda request: reply(f"{text} {request.prompt}")


def breaking(seed: int, share: float) -> Callable[[Request], Reply]:
    """Replies that say the question again, some of them broken; of no question as many as it may be asked."""
    chance, broken = random.Random(seed), Counter[str]()

    def answer(request: Request) -> Reply:
        if chance.random() < share and broken[request.prompt] < run_module.ATTEMPTS - 1:
            broken[request.prompt] += 1
            return fault(chance.choice(FAULTS))
        return reply(f"echo {request.prompt}")

    return answer


def spent() -> Decimal:
    """What the ledger says that map has cost."""
    (cost,) = wb.sql("SELECT COALESCE(SUM(cost_usd), 0) AS cost FROM usage WHERE source = 'map'")["cost"]
    return D(cost)


def prompts(upstream: ScriptedUpstream) -> Counter[str]:
    return Counter(request.prompt for request in upstream.requests)


# What comes of it ---------------------------------------------------------------------------------------------------


def test_every_row_gets_its_reply_beside_what_it_had(upstream: ScriptedUpstream) -> None:
    upstream.default = lambda request: reply(f"re {request.prompt}", usage=Usage(1000, output_tokens=100))
    df = pd.DataFrame({"text": ["a", "b"], "price": [1.5, 2.0]}, index=["x", "y"])

    result = wb.map(df, "{text!r} at {price:.2f} {{}}", system="You are terse.", name="said")

    assert list(result.columns) == ["text", "price", "said", "error", "cost_usd", "cached"]
    assert result.index.equals(df.index)
    assert result["said"].tolist() == ["re 'a' at 1.50 {}", "re 'b' at 2.00 {}"]
    assert result["error"].isna().all()
    assert result["cost_usd"].tolist() == [D("0.003"), D("0.003")]  # 1,000 x $2 + 100 x $10, a million
    assert result["cached"].tolist() == [False, False]
    assert list(df.columns) == ["text", "price"]
    assert {request.body["system"][0]["text"] for request in upstream.requests} == {"You are terse."}
    calls = wb.usage()
    assert (calls["source"] == "map").all() and calls["cost_usd"].sum() == result["cost_usd"].sum() == D("0.006")
    assert wb.chats().empty


def test_rows_that_ask_the_same_are_asked_once_and_again_for_nothing(upstream: ScriptedUpstream) -> None:
    upstream.default = says("re")
    df = rows("a", "b", "a", "a")
    first = wb.map(df, "{text}")
    again = wb.map(df, "{text}")
    more = wb.map(rows("b", "c"), "{text}")

    assert prompts(upstream) == {"a": 1, "b": 1, "c": 1}
    assert first["cached"].tolist() == [False, False, True, True]
    assert first["cost_usd"].tolist()[2:] == [0, 0] and first["cost_usd"].sum() + more["cost_usd"].sum() == spent()
    assert again["reply"].tolist() == first["reply"].tolist() == ["re a", "re b", "re a", "re a"]
    assert again["cached"].all() and again["cost_usd"].sum() == 0
    assert more["cached"].tolist() == [True, False]


def test_another_question_is_asked_whatever_differs(upstream: ScriptedUpstream) -> None:
    ways: list[dict[str, Any]] = [
        {}, {"model": "claude-haiku-5-5"}, {"system": "terse"}, {"max_tokens": 99}, {"user": "bob"}, {"org": "acme"},
        {"out": {"a": int}},
    ]  # fmt: skip
    upstream.default = reply('{"a": 1}')
    for way in ways:
        assert wb.map(rows("x"), "{text}", **way)["cached"].tolist() == [False]
    for way in ways:
        assert wb.map(rows("x"), "{text}", **way)["cached"].tolist() == [True]
    assert len(upstream.requests) == len(ways)


def test_a_function_makes_prompts_of_rows_as_they_are(upstream: ScriptedUpstream) -> None:
    upstream.default = says("re")
    df = pd.DataFrame({"n": [1, 2], "x": [0.5, 0.5]})

    def asked(row: pd.Series) -> Any:
        return f"{row.n} of {row.name}" if row["n"] == 1 else 1 / 0

    result = wb.map(df, asked)
    assert result["reply"].tolist()[0] == "re 1 of 0"
    assert result["error"][1] == "the prompt of this row cannot be made: ZeroDivisionError: division by zero"
    with pytest.raises(wb.InvalidRequest, match=r"nothing to ask about any row: .* of type int"):
        wb.map(df, lambda row: 5)


@pytest.mark.parametrize("batch", [False, True])
def test_a_prompt_may_be_a_text_of_numpy(upstream: ScriptedUpstream, batch: bool) -> None:
    upstream.default = says("re")
    result = wb.map(rows("a", "b"), lambda row: np.str_(row.text), system=np.str_("terse"), batch=batch)

    assert result["reply"].tolist() == ["re a", "re b"]


def test_a_row_that_misses_a_value_is_not_asked(upstream: ScriptedUpstream) -> None:
    df = pd.DataFrame({"text": ["a", None, "c", " "], "other": [None, "x", None, None]})
    result = wb.map(df, "{text}")

    assert result["error"].tolist()[1] == "column 'text' has no value here"
    assert result["error"].tolist()[3] == "the message is empty; write something to ask"
    assert result["reply"].isna().tolist() == [False, True, False, True]
    assert set(prompts(upstream)) == {"a", "c"}
    assert wb.map(df.tail(2), "{other}")["error"].tolist() == ["column 'other' has no value here"] * 2


def test_rows_that_cannot_be_sent_end_nothing_for_the_others(upstream: ScriptedUpstream) -> None:
    """However many come first: they fail at once, and before anything was answered five failures end all."""
    upstream.default = says("re")
    result = wb.map(rows(*(f"a\x00{n}" for n in range(6)), *(" " * n for n in range(1, 7)), "good"), "{text}")

    assert result["error"].str.contains("holds characters that are no text").tolist()[:6] == [True] * 6
    assert (result["error"][6:12] == "the message is empty; write something to ask").all()
    assert result["reply"].tolist()[12] == "re good"
    assert wb.map_estimate(rows("a\x00", "b"), "{text}").unaskable == 1


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("{txet}", "there is no column 'txet', only: text, n, n"),
        ("{text.upper}", "there is no column 'text.upper'"),
        ("{text[0]}", r"there is no column 'text\[0\]'"),
        ("{}", "there is no column ''"),
        ("{n}", "2 columns are called 'n'"),
        ("{text", "the prompt cannot be read"),
        ("{text:{n}}", "holds another column"),
        ("{text!x}", "conversion that there is not"),
        ("hello", "the prompt names no column"),
        ("{text:d}", "there is nothing to ask about any row: column 'text' cannot be written"),
        (5, "the prompt is of type int"),
    ],
)
def test_a_prompt_that_cannot_be_made_is_refused(prompt: Any, told: str, upstream: ScriptedUpstream) -> None:
    with pytest.raises(wb.InvalidRequest, match=told):
        wb.map(pd.DataFrame([["a", 1, 2]], columns=["text", "n", "n"]), prompt)
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"df": [1]}, "df is of type list"),
        ({"name": "error"}, "cannot be called 'error'"),
        ({"name": "text"}, "reads column 'text', whose place"),
        ({"out": {"cached": bool}}, "cannot be called 'cached'"),
        ({"out": {}}, "out must be a dict"),
        ({"out": {"a": []}}, "must list different texts"),
        ({"out": {"a": "no type"}}, "cannot be read as a schema"),
        ({"out": {"a": object}}, "cannot be asked to fit this schema"),
        ({"max_cost": "much"}, "max_cost is 'much'"),
        ({"max_cost": -1}, "max_cost is -1"),
        ({"max_cost": float("nan")}, "max_cost is nan"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"model": "claude-3-opus"}, "is retired"),
    ],
)
def test_what_else_cannot_be_asked_is_refused(wrong: dict[str, Any], told: str, upstream: ScriptedUpstream) -> None:
    arguments: dict[str, Any] = {"df": rows("a"), "prompt": "{text}"} | wrong
    with pytest.raises((wb.InvalidRequest, wb.ModelRetired), match=told):
        wb.map(**arguments)
    assert upstream.requests == []


def test_a_table_without_rows_has_the_columns(upstream: ScriptedUpstream) -> None:
    result = wb.map(rows(), "{text}", out={"label": ["a", "b"], "n": int}, max_cost=0)

    assert result.dtypes.astype(str).to_dict() == {
        "text": "float64", "label": "category", "n": "Int64", "error": "string", "cost_usd": "object", "cached": "bool",
    }  # fmt: skip


def test_a_map_of_a_map_keeps_the_first_column(upstream: ScriptedUpstream) -> None:
    upstream.default = says("re")
    result = wb.map(wb.map(rows("a"), "{text}", name="one"), "{one}!", name="two")

    assert result.loc[0, ["one", "two"]].tolist() == ["re a", "re re a!"]


def test_importing_everything_leaves_pythons_own_map_alone() -> None:
    names: dict[str, Any] = {}
    exec("from workbench import *", names)

    assert "map" not in names and "map_estimate" in names
    assert "map" in dir(wb) and callable(wb.map)


# Typed columns ------------------------------------------------------------------------------------------------------


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Review(BaseModel):
    mood: Mood
    stars: Literal[1, 2, 3] | None
    tags: list[str]
    on: date | None = None


def test_replies_become_columns_of_their_types(upstream: ScriptedUpstream) -> None:
    said = [
        {"label": "bad", "score": 0.25, "n": 3, "sure": True, "why": "slow", "not a name": None},
        {"label": "good", "score": 1, "n": -3, "sure": False, "why": "", "not a name": 4},
    ]
    upstream.default = lambda request: reply(json.dumps(said[int(request.prompt)]))
    out = {"label": ["good", "bad"], "score": float, "n": int, "sure": bool, "why": str, "not a name": int | None}

    result = wb.map(numbered(2).rename(columns={"n": "row"}), "{row}", out=out)

    assert result[list(out)].dtypes.astype(str).tolist() == [
        "category", "Float64", "Int64", "boolean", "string", "Int64",
    ]  # fmt: skip
    assert result["label"].cat.categories.tolist() == ["good", "bad"]
    assert result["label"].tolist() == ["bad", "good"] and result["score"].tolist() == [0.25, 1.0]
    assert result["n"].tolist() == [3, -3] and result["sure"].tolist() == [True, False]
    assert result["not a name"].isna().tolist() == [True, False]
    asked = upstream.last.body["output_config"]["format"]
    assert asked["type"] == "json_schema" and asked["schema"]["additionalProperties"] is False
    assert asked["schema"]["required"] == list(out)
    assert asked["schema"]["properties"]["label"]["enum"] == ["good", "bad"]


def test_a_pydantic_model_says_what_a_reply_holds(upstream: ScriptedUpstream) -> None:
    upstream.default = reply('{"mood": "bad", "stars": 2, "tags": ["a"], "on": "2026-11-28"}')
    result = wb.map(rows("a"), "{text}", out=Review)

    assert result.loc[0, ["mood", "stars", "tags", "on"]].tolist() == ["bad", 2, ["a"], date(2026, 11, 28)]
    assert result["mood"].cat.categories.tolist() == ["good", "bad"]
    assert result["stars"].cat.categories.tolist() == [1, 2, 3]


GOOD = '{"label": "good", "score": 0.5, "n": 1, "why": "w"}'
HOSTILE = {
    "": "it is no JSON",
    "Sure! Here you are: " + GOOD: "it is no JSON",
    GOOD + GOOD: "it is no JSON",
    GOOD[:-4]: "it is no JSON",
    "[" * 100_000: "it is no JSON",
    GOOD.replace('"w"', '"\\ud800"'): "it is no JSON",
    "null": "the whole: input should be an object",
    "[" + GOOD + "]": "the whole: input should be an object",
    '{"label": "good"}': "score: field required, and 2 more",
    GOOD.replace("good", "DROP TABLE"): "label: input should be 'good' or 'bad'",
    GOOD.replace("0.5", "NaN"): "score: input should be a finite number",
    GOOD.replace("0.5", "1e999"): "score: input should be a finite number",
    GOOD.replace("0.5", '{"__class__": "os.system"}'): "score: input should be a valid number",
    GOOD.replace("1,", "99999999999999999999,"): "n: a whole number of more than 64 bits",
    GOOD.replace("1,", "1.5,"): "n: input should be a valid integer, got a number with a fractional part",
    GOOD[:-1] + ', "error": "none"}': "it holds what nobody asked for",
}


@pytest.mark.parametrize("said", HOSTILE, ids=lambda text: text[:20])
def test_a_reply_that_does_not_fit_is_told_without_its_words(said: str) -> None:
    columns = Columns({"label": ["good", "bad"], "score": float, "n": int, "why": str})
    with pytest.raises(NoFit) as caught:
        columns.read(said)
    assert str(caught.value) == HOSTILE[said]


def test_json_in_a_fence_is_read_as_it_is_meant() -> None:
    columns = Columns({"label": ["good", "bad"], "score": float, "n": int, "why": str})
    assert columns.read(f"```json\n{GOOD}\n```") == columns.read(GOOD) == ["good", 0.5, 1, "w"]


def test_a_validator_that_breaks_is_an_error_of_the_row() -> None:
    class Broken(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def _broken(cls, n: int) -> int:
            raise KeyError(n)

    with pytest.raises(NoFit, match="KeyError: 1"):
        Columns(Broken).read('{"n": 1}')


def test_a_row_that_did_not_fit_is_asked_again_by_the_next_call(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("no JSON"), reply('{"n": 7}'), reply('{"n": 8', stop_reason="max_tokens"), reply('{"n": 8}'))
    first = wb.map(rows("a"), "{text}", out={"n": int}, concurrency=1)
    second = wb.map(rows("a", "b"), "{text}", out={"n": int}, concurrency=1)
    third = wb.map(rows("a", "b"), "{text}", out={"n": int}, concurrency=1)

    assert first["error"].tolist() == ["the reply does not fit: it is no JSON"] and first["n"].isna().all()
    assert second["n"].tolist()[0] == 7 and second["error"][1] == "the reply was cut at max_tokens=2,048"
    assert third["n"].tolist() == [7, 8] and third["cached"].tolist() == [True, False]
    assert first["cost_usd"].sum() + second["cost_usd"].sum() + third["cost_usd"].sum() == spent()


def test_text_that_was_cut_or_refused_is_kept_beside_its_error_and_not_asked_again(upstream: ScriptedUpstream) -> None:
    cut = reply(words(9), stop_reason="max_tokens", usage=Usage(10, output_tokens=64))
    upstream.script(cut, fault("refusal"), fault("refusal_partial"), reply("", stop_reason="end_turn"))
    df = rows("a", "b", "c", "d")
    first, again = (wb.map(df, "{text}", max_tokens=64, concurrency=1) for _ in range(2))

    for result in (first, again):
        assert result["error"].fillna("").tolist() == [
            "the reply was cut at max_tokens=64", "the model refused to answer", "the model refused to answer", "",
        ]  # fmt: skip
        assert result["reply"].tolist()[0] == words(9) and result["reply"].isna().tolist() == [
            False,
            True,
            False,
            False,
        ]
    assert again["cached"].all() and len(upstream.requests) == 4


# Whatever breaks ----------------------------------------------------------------------------------------------------


def interrupting(answer: Callable[[Request], Reply], after: int) -> Callable[[Request], Reply]:
    """The same, with a Ctrl-C while the request of that number waits for its reply."""
    seen = 0

    def either(request: Request) -> Reply:
        nonlocal seen
        seen += 1
        if seen == after:
            os.kill(os.getpid(), signal.SIGINT)
            return reply(pause_before=True)
        return answer(request)

    return either


def test_a_thousand_rows_through_faults_and_interrupts(upstream: ScriptedUpstream) -> None:
    """One in twenty calls breaks and four times somebody interrupts: every row is answered, and none twice."""
    df, chance = numbered(1000), random.Random(6)
    for _ in range(4):
        upstream.default = interrupting(breaking(chance.randrange(1000), 0.05), chance.randrange(50, 300))
        with pytest.raises(KeyboardInterrupt):
            wb.map(df, "{n}", concurrency=16)
    before = spent()
    had = wb.sql("SELECT COUNT(DISTINCT chat_id) AS n FROM usage WHERE status = 'complete'")["n"][0]
    upstream.default = breaking(7, 0.05)
    result = wb.map(df, "{n}", concurrency=16)

    assert result["error"].isna().all()
    assert result["reply"].tolist() == [f"echo {n}" for n in df["n"]]
    assert result["cached"].sum() == had > 200
    assert result["cost_usd"].sum() == spent() - before > 0
    calls = wb.usage()
    assert len(calls) > 1010
    assert calls[calls["status"] == "complete"].groupby("chat_id").size().tolist() == [1] * 1000
    assert (calls.groupby("chat_id")["status"].last() == "complete").all()  # none was asked after it was answered
    assert wb.map(df, "{n}")["cached"].all()


def test_a_process_that_is_killed_leaves_what_it_had_to_the_next(upstream: ScriptedUpstream) -> None:
    upstream.default = lambda request: reply(f"echo {request.prompt}", delay=0.005)
    script = "import pandas as pd, workbench as wb; wb.map(pd.DataFrame({'n': range(200)}), '{n}')"
    with subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        upstream.wait_for(lambda upstream: upstream.requests_total >= 60, 60)
        process.kill()
    result = wb.map(numbered(200), "{n}")

    assert result["reply"].tolist() == [f"echo {n}" for n in range(200)]
    assert result["cached"].sum() >= 40
    calls = wb.usage()
    assert calls[calls["status"] == "complete"].groupby("chat_id").size().tolist() == [1] * 200
    assert set(calls["status"]) <= {"complete", "lost"}


def test_no_row_is_asked_more_often_than_five_times(upstream: ScriptedUpstream) -> None:
    upstream.default = lambda request: fault("500") if request.prompt == "b" else reply("fine")
    result = wb.map(rows("a", "b", "c"), "{text}", concurrency=1)

    assert prompts(upstream) == {"a": 1, "b": 5, "c": 1}
    assert result["error"].fillna("").tolist() == ["", "Claude failed (500): Internal server error; ask again", ""]
    assert result["reply"].isna().tolist() == [False, True, False]


def test_what_a_failed_attempt_cost_is_in_the_cost_of_its_row(upstream: ScriptedUpstream) -> None:
    upstream.script(fault("cut"), fault("reset_before"), reply("fine", usage=Usage(1000, output_tokens=100)))
    result = wb.map(rows("a"), "{text}")

    assert result["cost_usd"].tolist() == [spent()]
    assert spent() > D("0.003")  # which the last attempt cost by itself


def test_what_cannot_be_written_at_once_is_not_asked_again(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.default = says("re")
    record, calls = Store.record, iter(range(3))

    async def busy_at_first(store: Store, turn: LiveTurn) -> None:
        if next(calls, None) is not None:
            raise wb.StoreBusy("the owner of the store does not answer")
        await record(store, turn)

    monkeypatch.setattr(Store, "record", busy_at_first)
    first = wb.map(rows("a", "b"), "{text}", concurrency=1)  # b finds a not written yet, then waits for it
    monkeypatch.setattr(Store, "record", record)
    again = wb.map(rows("a", "b"), "{text}")

    assert first["reply"].tolist() == again["reply"].tolist() == ["re a", "re b"]
    assert prompts(upstream) == {"a": 1, "b": 1}
    assert again["cached"].all() and first["cost_usd"].sum() == spent()


def test_the_reply_of_the_last_row_is_kept_for_the_next_call(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(store: Store, turn: LiveTurn) -> None:
        raise wb.StoreBusy("the owner of the store does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "record", busy)
        assert wb.map(rows("a"), "{text}")["reply"].notna().all()
    assert wb.map(rows("a"), "{text}")["cached"].tolist() == [True]
    assert len(upstream.requests) == 1


def test_a_rate_limit_pauses_everybody(upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three that were on their way are answered once the limit is known, and nobody asks on before it ends."""
    upstream.script(fault("429_retry_after", retry_after=2), *[reply("fine", pause_before=True)] * 3)
    upstream.default = reply("fine")
    pause, known, ends = run_module.Run._pause, list[float](), list[float]()

    async def noted(run: run_module.Run, *failed: Any) -> None:
        known.append(asyncio.get_running_loop().time())
        await pause(run, *failed)
        ends.append(run._resume_at)
        upstream.release(3)

    monkeypatch.setattr(run_module.Run, "_pause", noted)
    result = wb.map(numbered(40), "{n}", concurrency=4)

    assert result["error"].isna().all()
    assert ends[0] - known[0] >= 2
    assert sum(request.at < ends[0] for request in upstream.requests) <= 4
    assert len(upstream.requests) == 41


# Nothing in order, for all ------------------------------------------------------------------------------------------


def test_without_a_key_nothing_is_asked(no_key: Path) -> None:
    with pytest.raises(wb.ConfigurationError, match="ANTHROPIC_API_KEY"):
        wb.map(rows("a"), "{text}", model="claude-haiku-5-5")


def test_a_key_that_is_not_accepted_is_an_error_at_once(upstream: ScriptedUpstream) -> None:
    upstream.default = fault("401")
    with pytest.raises(wb.UpstreamRefused, match="does not accept the key"):
        wb.map(numbered(100), "{n}", concurrency=2)
    assert len(upstream.requests) <= 4


def test_the_same_failure_of_the_first_rows_is_an_error(upstream: ScriptedUpstream) -> None:
    upstream.default = fault("400")
    with pytest.raises(wb.UpstreamRefused, match="refused the request"):
        wb.map(numbered(100), "{n}", concurrency=1)
    assert len(upstream.requests) == 5
    few = wb.map(numbered(4), "{n}", concurrency=1)  # too few to tell
    assert few["error"].str.contains("refused the request").all()


def test_what_was_answered_is_kept_when_all_others_fail(
    upstream: ScriptedUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.default = lambda request: reply("fine") if int(request.prompt) < 3 else fault("402")
    result = wb.map(numbered(50), "{n}", concurrency=1)

    assert result["reply"].notna().tolist() == [True] * 3 + [False] * 47
    assert "billing problem" in result["error"][3]
    assert result["error"][4:].str.startswith("not asked: Claude's account has a billing problem").all()
    assert len(upstream.requests) == 4
    told = capsys.readouterr().err
    assert "46 questions are left" in told and "the same call goes on with the rest" in told
    upstream.default = reply("fine")
    assert wb.map(numbered(50), "{n}")["cached"].tolist() == [True] * 3 + [False] * 47


def test_a_limit_nobody_sits_out_ends_it(upstream: ScriptedUpstream) -> None:
    upstream.default = fault("429_retry_after_hour")
    with pytest.raises(wb.UpstreamRateLimited):
        wb.map(numbered(100), "{n}", concurrency=2)


def budget(org: str, usd: str) -> None:
    engine = runtime.runtime().engine
    runtime.runtime().run(tenants.set_org(engine.store.backend, org, {"budget_usd": D(usd), "budget_period": None}))


def test_the_budget_of_the_org_holds(upstream: ScriptedUpstream) -> None:
    def answer(request: Request) -> Reply:
        most = request.body["max_tokens"]  # $0.0011, or less where the budget has less
        return reply(
            "fine", usage=Usage(50, output_tokens=most), stop_reason="end_turn" if most == 100 else "max_tokens"
        )

    upstream.default = answer
    wb.map(rows("first"), "{text}", max_tokens=100)
    budget("00000000-0000-0000-0000-000000000001", "0.0115")
    result = wb.map(numbered(20), "{n}", max_tokens=100, concurrency=8)

    # what the others hold for the moment ends nothing: it stops where not even 64 tokens fit, $0.000844
    assert D("0.0115") - D("0.000844") < spent() <= D("0.0115")
    assert result["reply"].notna().sum() >= 9
    without = result["error"][result["reply"].isna()]
    assert (
        without.str.contains(r"has \$0\.000\d+ left").all()
        and without.str.startswith("not asked: ").sum() == len(without) - 1
    )
    with pytest.raises(wb.BudgetExceeded):
        wb.map(numbered(20, start=100), "{n}", max_tokens=100)


def test_the_first_question_may_be_overtaken_on_a_budget(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins alone, but those that begin after it hold what is left before it does."""
    upstream.default = short = reply("fine", usage=Usage(50, output_tokens=10))
    wb.map(rows("first"), "{text}", max_tokens=100)
    budget("00000000-0000-0000-0000-000000000001", str(spent() + D("0.0015")))  # one question is held at $0.0011
    begin, begun = Engine._begin, asyncio.Event()

    async def late(self: Engine, turn: LiveTurn, messages: list[dict[str, Any]]) -> None:
        if messages[-1]["content"] == "0":
            await begun.wait()
        await begin(self, turn, messages)
        begun.set()

    monkeypatch.setattr(Engine, "_begin", late)
    upstream.script(replace(short, ttft=0.5))
    assert wb.map(numbered(8), "{n}", max_tokens=100, concurrency=8)["reply"].eq("fine").all()


# What it costs ------------------------------------------------------------------------------------------------------


def test_max_cost_is_never_passed(upstream: ScriptedUpstream) -> None:
    """64 small tables with prompts, replies, faults and limits at random."""
    stops = finished = 0
    for seed in range(64):
        chance = random.Random(seed)
        df = rows(*(f"{seed} {n} {'word ' * chance.randrange(200)}" for n in range(12)))
        share = chance.choice([0, 0.1, 0.4])

        def answer(request: Request, chance: random.Random = chance, share: float = share) -> Reply:
            if chance.random() < share:
                return fault(chance.choice(FAULTS))
            return reply(words(chance.randrange(1, request.body["max_tokens"] + 1)))

        upstream.default = answer
        limit = D(chance.randrange(2, 60)) / 1000
        before = spent()
        try:
            result = wb.map(df, "{text}", max_tokens=400, max_cost=limit, concurrency=chance.choice([1, 3, 8]))
        except (wb.InvalidRequest, wb.UpstreamError):
            assert spent() - before <= limit
            continue
        cost = spent() - before
        assert cost <= limit, seed
        assert result["cost_usd"].sum() == cost, seed
        left = result["error"].fillna("").str.startswith("not asked: max_cost=")
        stops += left.any()
        finished += result["error"].isna().all()
    assert stops >= 10 and finished >= 10, (stops, finished)


def test_where_max_cost_stops_the_next_call_goes_on(
    upstream: ScriptedUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.default = reply("fine", usage=Usage(10, output_tokens=100))  # $0.00102
    # the worst case of a question is 100 x $10 and 51 x $4, a million: $0.001204
    first = wb.map(numbered(10), "{n}", max_tokens=100, max_cost="0.005", concurrency=3)

    assert first["reply"].notna().sum() == 4 and spent() == D("0.00408")
    assert first["error"][4:].tolist() == ["not asked: max_cost=$0.0050 might have been passed"] * 6
    told = capsys.readouterr().err
    assert told.startswith(
        "Stopped after 4 of 10 questions · $0.0041 so far, about $0.01 in all: max_cost=$0.0050 might"
    )
    assert (
        "6 questions are left, which will cost $0.000" in told and "about $0.0061 at the cost of those so far" in told
    )
    assert "the same call with a higher max_cost goes on" in told
    second = wb.map(numbered(10), "{n}", max_tokens=100, max_cost=1)
    assert second["cached"].tolist() == [True] * 4 + [False] * 6 and second["error"].isna().all()


def test_a_max_cost_below_the_least_it_can_cost_asks_nothing(upstream: ScriptedUpstream) -> None:
    with pytest.raises(
        wb.InvalidRequest, match=r"100 questions will cost \$0.05 to \$2.\d+, more than max_cost=\$0.01"
    ):
        wb.map(numbered(100), "{n}" + "word " * 200, max_cost=0.01)
    assert upstream.requests == []


def test_max_cost_needs_a_price(upstream: ScriptedUpstream) -> None:
    upstream.default = reply("fine")
    with pytest.raises(wb.InvalidRequest, match="price of model 'some-model' is not known, so max_cost cannot be kept"):
        wb.map(rows("a"), "{text}", model="some-model", max_cost=1)
    assert wb.map(rows("a"), "{text}", model="some-model")["cost_usd"].tolist() == [None]
    assert wb.map_estimate(rows("b"), "{text}", model="some-model").low_usd is None


def test_the_estimate_is_a_range_that_holds_what_it_costs(upstream: ScriptedUpstream) -> None:
    upstream.default = reply("fine", usage=Usage(52, output_tokens=30))
    df = rows(*(f"{n}: The quick brown fox jumps over the lazy dog. " * 4 for n in range(20)), None, "x", "x")
    system = "You are terse. " * 400
    wb.map(rows("x"), "{text}", system=system, max_tokens=300)
    estimate = wb.map_estimate(df, "{text}", system=system, max_tokens=300)
    asked = len(upstream.requests)
    cost = wb.map(df, "{text}", system=system, max_tokens=300)["cost_usd"].sum()

    assert asked == 1
    assert (estimate.rows, estimate.to_ask, estimate.answered, estimate.unaskable) == (23, 20, 2, 1)
    assert estimate.low_usd is not None and estimate.high_usd is not None
    assert estimate.low_usd < cost < estimate.high_usd
    told = str(estimate)
    assert told.startswith(
        "23 rows · 1 that cannot be asked · 2 answered before or with another · 20 questions to claude"
    )
    for reason in ("up to 300 tokens each", "rough count", "may come from the cache", "tried again"):
        assert reason in told
    assert "<li>" in estimate._repr_html_()
    assert wb.map_estimate(rows("x"), "{text}", system=system, max_tokens=300).range == "$0"


def test_where_ctok_counts_the_range_is_as_narrow_as_replies_allow(upstream: ScriptedUpstream, ctok: None) -> None:
    estimate = wb.map_estimate(rows("one two three", "four"), "{text}", system="be terse", max_tokens=100)

    assert estimate.input_tokens == (6 + 3 + 2) + (6 + 1 + 2)
    assert estimate.low_usd == D("0.98") * 20 * 2 / 1_000_000 + D(2 * 10) / 1_000_000  # $2 in; $10 out, one token each
    assert estimate.high_usd == D("1.02") * 20 * 2 / 1_000_000 + D(200 * 10) / 1_000_000
    assert "input tokens are counted by ctok, within 2 %" in estimate.reasons


# Who watches --------------------------------------------------------------------------------------------------------


def test_progress_is_shown_to_those_who_watch(upstream: ScriptedUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    upstream.default = reply("fine")
    wb.map(numbered(3), "{n}")
    assert capsys.readouterr() == ("", "")
    wb.map(numbered(3, start=3), "{n}", show=True)
    told = capsys.readouterr().err
    assert "3 rows · 3 questions to claude-sonnet-5-5 · cost: $0.00" in told
    assert "3 of 3 questions · $0.00" in told


def test_in_a_notebook_it_is_a_bar_that_moves(upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, dict[str, str]]] = []

    class Handle:
        def display(self, bundle: dict[str, str], *, raw: bool) -> None:
            shown.append(("new", bundle))

        def update(self, bundle: dict[str, str], *, raw: bool) -> None:
            shown.append(("same", bundle))

    monkeypatch.setattr("IPython.display.DisplayHandle", Handle)
    monkeypatch.setattr("workbench.mapping.bar.kernel_shell", object)
    upstream.default = reply("fine")
    wb.map(numbered(3), "{n}", show=True)

    assert [kind for kind, _ in shown] == ["new", *["same"] * (len(shown) - 1)] and len(shown) >= 2
    assert shown[0][1]["text/plain"] == "0 of 3 questions · $0 so far"
    assert '<progress value="3" max="3"' in shown[-1][1]["text/html"]


def test_nobody_is_shown_anything_where_notebooks_run_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.mapping.bar.kernel_shell", object)
    monkeypatch.setenv("CI", "true")
    assert type(bar_for(None)) is Nowhere
    monkeypatch.delenv("CI")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert type(bar_for(None)) is Cell
    assert type(bar_for(False)) is Nowhere


def test_an_interrupt_says_what_is_kept(upstream: ScriptedUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    upstream.default = interrupting(says("re"), 7)
    with pytest.raises(KeyboardInterrupt):
        wb.map(numbered(20), "{n}", concurrency=1)

    assert "Interrupted: 6 of 20 questions · " in capsys.readouterr().err
    assert wb.usage()["status"].value_counts().to_dict()["complete"] == 6
    assert wb.map(numbered(20), "{n}")["cached"].sum() == 6


# The embedded model -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_the_embedded_model_answers_rows_and_is_told_the_schema(no_key: Path) -> None:
    df = rows("Loved it", "Broke after a day", "It is fine")
    result = wb.map(df, "Is this review good? {text}", max_tokens=8, max_cost=0)
    typed = wb.map(df.head(1), "Is this good? {text}", out={"label": ["good", "bad"]}, max_tokens=16)

    assert result["reply"].str.len().gt(0).all()
    assert result["cost_usd"].tolist() == [0, 0, 0] and wb.usage()["model"].unique().tolist() == ["local"]
    assert wb.map_estimate(df, "Really? {text}").range == "$0"
    # whether it obeys is chance: a label or an error, never neither
    assert typed["label"].notna().tolist() != typed["error"].notna().tolist()


def test_two_processes_at_work_on_one_table_do_not_disturb_each_other(upstream: ScriptedUpstream) -> None:
    upstream.default = says("re")
    first, second = (Table(numbered(20), "{n}", None, None, None, 99, "r", "o", "u") for _ in range(2))

    async def both() -> None:
        await asyncio.gather(*(run_module.Run(t.engine, t.terms, t.questions).run() for t in (first, second)))

    first.runtime.run(both())
    assert first.result()["r"].tolist() == second.result()["r"].tolist() == [f"re {n}" for n in range(20)]
