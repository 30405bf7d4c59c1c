"""wb.map: every row asked once, whatever breaks, whoever interrupts; never more spent than allowed."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel, field_validator

import workbench as wb
from tests.faults.upstream import Request, ScriptedUpstream, Usage, fault, reply, words
from workbench.mapping import run as run_module
from workbench.mapping.columns import Columns, NoFit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.upstream import Reply

FAULTS = [
    "429", "500", "502_html", "503", "504", "529", "error_first", "reset_before", "empty_200", "half_headers",
    "cut", "cut_clean", "no_stop", "reset", "overloaded", "rate_limit", "bad_json", "bad_utf8", "unknown_error",
]  # fmt: skip
"""What asking again can cure."""
D = Decimal


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
    """Replies that say the question again, some of them broken."""
    chance = random.Random(seed)

    def answer(request: Request) -> Reply:
        if chance.random() < share:
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
    with pytest.raises(wb.InvalidRequest, match="nothing to ask about any row: .* of type int"):
        wb.map(df, lambda row: 5)


def test_a_row_that_misses_a_value_is_not_asked(upstream: ScriptedUpstream) -> None:
    df = pd.DataFrame({"text": ["a", None, "c", " "], "other": [None, "x", None, None]})
    result = wb.map(df, "{text}")

    assert result["error"].tolist()[1] == "column 'text' has no value here"
    assert result["error"].tolist()[3] == "the message is empty; write something to ask"
    assert result["reply"].isna().tolist() == [False, True, False, True]
    assert set(prompts(upstream)) == {"a", "c"}


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
