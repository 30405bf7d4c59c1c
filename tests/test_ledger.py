"""The ledger as DataFrames."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow.parquet as pq
import pytest

import workbench as wb
from tests.faults.upstream import Usage, fault, reply
from workbench.ledger.frames import PARTS
from workbench.runtime import runtime
from workbench.store.backend import Statement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream

# CONTRACT: what was billed, one row per call
COLUMNS = [
    "id",
    "request_id",
    "org_id",
    "user_id",
    "chat_id",
    "message_id",
    "source",
    "model",
    "prompt_name",
    "prompt_version",
    "experiment",
    "variant",
    "started_at",
    "ttft_ms",
    "duration_ms",
    "input_tokens",
    "uncached_input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "thinking_tokens",
    "web_searches",
    "service_tier",
    "stop_reason",
    "status",
    "error_type",
    "usage_estimated",
    "cost_usd",
    "cost",
    "price_source",
]


@pytest.fixture
def two_turns(scripted: ScriptedUpstream) -> wb.Chat:
    scripted.script(
        reply("Four", usage=Usage(uncached_input_tokens=1000, output_tokens=42)),
        reply("Five", usage=Usage(100, 1000, 300, 200, output_tokens=10)),
    )
    chat = wb.Chat(title="Sums")
    chat.ask("What is 2+2?")
    chat.ask("What is 2+3?", model="claude-haiku-5-5")
    return chat


def test_one_row_per_call_with_disjoint_counts_and_exact_cost(two_turns: wb.Chat) -> None:
    calls = wb.usage()

    assert list(calls.columns) == COLUMNS
    assert list(calls.input_tokens) == [1000, 1600]
    row = calls.iloc[1]
    assert (row.uncached_input_tokens, row.cache_read_tokens, row.cache_write_5m_tokens, row.cache_write_1h_tokens) == (
        100,
        1000,
        300,
        200,
    )
    # haiku 5.5: 100 x 0.10 + 1000 x 0.01 + 300 x 0.125 + 200 x 0.20 + 10 x 0.50, a million
    assert list(calls.cost_usd) == [Decimal("0.00242"), Decimal("0.0001025")]
    assert calls.started_at.dt.tz is UTC or str(calls.started_at.dt.tz) == "UTC"


def test_sums_by_model_keep_cost_exact(two_turns: wb.Chat) -> None:
    by_model = wb.usage(by="model").set_index("model")

    assert list(by_model.index) == ["claude-haiku-5-5", "claude-sonnet-5-5"]
    assert by_model.cost_usd.sum() == Decimal("0.0025225")
    assert by_model.loc["claude-haiku-5-5"].cache_write_tokens == 500


def test_a_day_is_a_timestamp_and_groups_nest(two_turns: wb.Chat) -> None:
    noon = Statement("UPDATE usage SET started_at = $1", (datetime(2026, 11, 24, 12, tzinfo=UTC),))
    runtime().run(runtime().engine.store.backend.write([noon]))  # else midnight could lie between the two
    by = wb.usage(by=["day", "status"])

    assert list(by.columns[:3]) == ["day", "status", "calls"]
    assert (by.day[0].date(), by.status[0], by.calls[0]) == (date(2026, 11, 24), "complete", 2)


def test_a_day_begins_at_midnight_in_utc_to_the_microsecond(two_turns: wb.Chat) -> None:
    store = runtime().engine.store
    last = datetime(2026, 11, 24, 23, 59, 59, 999_999, tzinfo=UTC)
    for model, moment in (("claude-sonnet-5-5", last), ("claude-haiku-5-5", last + timedelta(microseconds=1))):
        statement = Statement("UPDATE usage SET started_at = $1 WHERE model = $2", (moment, model))
        runtime().run(store.backend.write([statement]))

    days = wb.usage(by=["day", "model"])
    assert [(str(day.date()), model) for day, model in zip(days.day, days.model, strict=True)] == [
        ("2026-11-24", "claude-sonnet-5-5"),
        ("2026-11-25", "claude-haiku-5-5"),
    ]


def test_bounds_of_time_and_chat_leave_out_the_rest(two_turns: wb.Chat) -> None:
    first, second = wb.usage().started_at

    assert len(wb.usage(since=second)) == 1  # from: inclusive
    assert len(wb.usage(until=second)) == 1  # until: not
    assert len(wb.usage(since=first, until=second + timedelta(seconds=1))) == 2
    assert len(wb.usage(since=date.today() - timedelta(days=2))) == 2
    assert len(wb.usage(chat=two_turns)) == len(wb.usage(chat=two_turns.id)) == 2
    assert len(wb.usage(chat="another")) == len(wb.usage(org="another")) == 0


def test_nothing_has_the_right_columns(no_key: Path) -> None:
    assert list(wb.usage().columns) == COLUMNS
    assert list(wb.usage(by=["day", "model"]).columns[:2]) == ["day", "model"]
    assert list(wb.chats().columns) == [
        "chat_id",
        "title",
        "created_at",
        "updated_at",
        "turns",
        "total_tokens",
        "cost_usd",
        "models",
        "forked_from",
        "prompt",
    ]


def test_an_unknown_price_is_missing_and_counted(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("a"), reply("b"))
    chat = wb.Chat()
    chat.ask("one", model="some-other-model")
    chat.ask("two")

    assert list(wb.usage().cost_usd.isna()) == [True, False]
    assert list(wb.usage(by="month").unpriced_calls) == [1]
    assert wb.chats().cost_usd.isna().all()
    assert chat.cost_usd is None


def test_a_failed_call_is_in_the_ledger_with_its_kind(scripted: ScriptedUpstream) -> None:
    scripted.script(fault("529_no_retry"))
    with pytest.raises(wb.UpstreamOverloaded):
        wb.Chat().ask("hi")

    (row,) = wb.usage().itertuples()
    assert (row.status, row.error_type, row.cost_usd) == ("failed", "upstream_overloaded", 0)


def test_only_calls_with_the_values_asked_for(two_turns: wb.Chat) -> None:
    models = [["claude-haiku-5-5"], ["claude-haiku-5-5", "claude-sonnet-5-5"], [], "claude-haiku-5-5", None]
    assert [len(wb.usage(where={"model": model})) for model in models] == [1, 2, 0, 1, 0]
    assert len(wb.usage(where={"error_type": None, "prompt_version": [None, 3], "status": {"complete", "lost"}})) == 2
    assert wb.usage(by="model", where={"model": "claude-haiku-5-5"}).calls.tolist() == [1]
    assert wb.usage(where={"model": "' OR 1=1 --"}).empty


def test_a_number_out_of_a_frame_is_a_value_to_look_for(no_key: Path) -> None:
    org = wb.demo_data("2026-11-20")
    version = wb.usage(org=org).prompt_version.dropna().iloc[0]
    chosen = wb.usage(where={"prompt_version": version}, org=org)
    assert len(chosen) > 0 and set(chosen.prompt_version) == {int(version)}


def test_days_begin_where_people_are(two_turns: wb.Chat) -> None:
    store = runtime().engine.store
    evening = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    for model, moment in (("claude-sonnet-5-5", evening), ("claude-haiku-5-5", evening + timedelta(days=1))):
        runtime().run(
            store.backend.write([Statement("UPDATE usage SET started_at = $1 WHERE model = $2", (moment, model))])
        )

    def begun(by: str, tz: str) -> list[str]:
        return [str(begin) for begin in wb.usage(by=by, tz=tz)[by]]

    assert begun("day", "UTC") == ["2026-10-24 00:00:00", "2026-10-25 00:00:00"]
    # summer time ends between the two
    assert begun("hour", "Europe/Berlin") == ["2026-10-25 01:00:00", "2026-10-26 00:00:00"]
    assert begun("day", "Europe/Berlin") == ["2026-10-25 00:00:00", "2026-10-26 00:00:00"]
    assert begun("month", "Asia/Kathmandu") == ["2026-10-01 00:00:00"]
    assert begun("week", "Europe/Berlin") == ["2026-10-19 00:00:00", "2026-10-26 00:00:00"]
    assert len(wb.usage(until="2026-10-26", tz="Europe/Berlin")) == 1
    assert len(wb.usage(until="2026-10-26")) == 2
    assert [str(time) for time in wb.usage(tz="Europe/Berlin").started_at][:1] == ["2026-10-25 01:30:00+02:00"]


def test_frames_are_ready_to_plot_to_group_and_to_write(two_turns: wb.Chat, tmp_path: Path) -> None:
    calls = wb.usage()
    assert calls.cost.tolist() == [0.00242, 0.0001025]
    assert [str(calls[name].dtype) for name in ("model", "status", "cost_usd", "ttft_ms")] == [
        "category",
        "category",
        "object",
        "Int32",
    ]
    assert calls.groupby("model").cost.sum().to_dict() == {"claude-haiku-5-5": 0.0001025, "claude-sonnet-5-5": 0.00242}
    pq.write_table(wb.usage_table(), tmp_path / "usage.parquet")
    again = pq.read_table(tmp_path / "usage.parquet")
    assert str(again.schema.field("cost_usd").type) == "decimal128(18, 9)"
    assert again["cost_usd"].to_pylist() == list(calls.cost_usd)


def test_calls_of_a_chat_tell_what_each_class_cost_and_the_gap(two_turns: wb.Chat) -> None:
    calls = wb.calls(two_turns)

    assert [calls[name].isna().any() for name in PARTS] == [False] * len(PARTS)
    assert list(calls[list(PARTS)].sum(axis=1)) == list(calls.cost_usd)
    # haiku 5.5: 300 x 0.125 + 200 x 0.20, a million
    assert calls.cache_write_usd.iloc[1] == Decimal("0.0000775")
    assert list(calls.history_messages) == [0, 2]
    assert calls.gap_s.isna().tolist() == [True, False] and 0 <= calls.gap_s.iloc[1] < 60
    assert wb.calls("no such chat").columns.equals(calls.columns)


def test_messages_of_one_chat_and_of_all(two_turns: wb.Chat, scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Six"))
    wb.Chat(title="More").ask("What is 3+3?")

    assert list(wb.messages(two_turns).content) == ["What is 2+2?", "Four", "What is 2+3?", "Five"]
    assert list(wb.messages(two_turns).seq) == [1, 2, 3, 4]
    assert list(wb.messages(search="SIX").title) == ["More"]
    assert list(wb.messages(limit=1).content) == ["Six"]
    assert wb.messages(org="another").empty and wb.messages(user="another").empty
    with pytest.raises(wb.InvalidRequest, match="limit is -1; at least 0 messages can be listed"):
        wb.messages(limit=-1)


def test_chats_are_found_by_what_was_said(two_turns: wb.Chat) -> None:
    assert list(wb.chats("FIVE").chat_id) == [two_turns.id]
    assert list(wb.chats("sums").turns) == [2]
    assert wb.chats("nothing like it").empty


def test_a_limit_below_zero_is_refused_and_none_is_too_large(two_turns: wb.Chat) -> None:
    with pytest.raises(wb.InvalidRequest, match="limit is -1; at least 0 chats can be listed"):
        wb.chats(limit=-1)
    assert len(wb.chats(limit=10**30)) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda text: wb.usage(org=text),
        lambda text: wb.usage(where={"model": text}),
        lambda text: wb.chats(text),
        lambda text: wb.messages(search=text),
        lambda text: wb.prompts.search(text),
        lambda text: wb.prompts.save("support", "Be brief.", org=text),
        lambda text: wb.experiments.list(org=text),
        lambda text: wb.sql(f"SELECT '{text}'"),
    ],
)
def test_what_is_no_text_is_refused_and_the_store_not_blamed(no_key: Path, ask: Callable[[str], object]) -> None:
    with pytest.raises(wb.InvalidRequest, match="a name or a text holds characters that are no text"):
        ask("a\ud800")


def test_a_group_named_twice_counts_once(two_turns: wb.Chat) -> None:
    assert list(wb.usage(by=["status", "status"]).columns[:2]) == ["status", "calls"]


def test_columns_of_one_name_keep_their_own_values(no_key: Path) -> None:
    both = wb.sql("SELECT 1.50 AS a, 'x' AS a, 2.0 AS a")

    assert both.to_numpy().tolist() == [[Decimal("1.5"), "x", Decimal(2)]]


def test_sql_reads_and_cannot_write(two_turns: wb.Chat) -> None:
    assert list(wb.sql("SELECT role, content, token_count FROM messages").role) == ["user", "assistant"] * 2
    with pytest.raises(wb.InvalidRequest, match="DELETE is not allowed here"):
        wb.sql("DELETE FROM usage")
    assert len(wb.usage()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"by": "colour"}, "cannot be summed by 'colour'; use any of hour, day"),
        ({"since": "yesterday"}, "'yesterday' is no time; write it like 2026-11-25"),
        ({"until": 5}, "5 is no time; give a text like '2026-11-25', a date or a datetime"),
        ({"tz": "Atlantis/City"}, "there is no time zone 'Atlantis/City'; write it like Europe/Berlin or UTC"),
        ({"tz": "../../etc/passwd"}, "there is no time zone"),
        ({"where": {"colour": 1}}, "usage has no column 'colour' to choose calls by; use any of model, source"),
        ({"tz": "posix/UTC"}, "there is no time zone 'posix/UTC'"),
        ({"tz": ZoneInfo("Europe/Berlin")}, "there is no time zone .*; write it like Europe/Berlin"),
        ({"since": pd.NaT}, "NaT is no time"),
        ({"where": {"model": [1]}}, "model is never 1, which is of type int"),
        ({"where": {"prompt_version": True}}, "prompt_version is never True, which is of type bool"),
    ],
)
def test_wrong_arguments_say_what_to_write(no_key: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(wb.InvalidRequest, match=said):
        wb.usage(**arguments)
