"""What each class of tokens cost."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

import workbench as wb
from workbench.ids import new_id
from workbench.ledger.demo import generate
from workbench.ledger.frames import PARTS
from workbench.pricing import CLASSES, cost_and_source, costs_by_class, listed_models, price_changes, price_of
from workbench.runtime import runtime
from workbench.store import bulk
from workbench.turns import DEFAULT_ID, Usage

if TYPE_CHECKING:
    from pathlib import Path

MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-4-6", "claude-opus-5", "no-such-model", "local")


def call(at: datetime, model: str, usage: Usage, **columns: Any) -> dict[str, Any]:
    """A row of the ledger."""
    cost, source = cost_and_source(model, usage, at)
    counts = {name: getattr(usage, name) for name in (*CLASSES, "input_tokens", "thinking_tokens")}
    terms = {name: getattr(usage, name) for name in ("service_tier", "inference_geo", "speed")}
    row = {"id": new_id(), "request_id": new_id(), "org_id": DEFAULT_ID, "user_id": "ada", "chat_id": None}
    row |= {"message_id": None, "source": "ask", "model": model, "started_at": at, "ttft_ms": 300, "duration_ms": 900}
    row |= {"status": "complete", "usage_estimated": False, "cost_usd": cost, "price_source": source}
    return row | counts | terms | columns


def random_calls(random: Random, count: int) -> list[dict[str, Any]]:
    calls = []
    for _ in range(count):
        usage = Usage(
            **{name: random.choice((0, random.randrange(2_000), random.randrange(150_000))) for name in CLASSES[:4]},
            output_tokens=random.randrange(5_000),
            web_searches=random.choice((0, 0, 3)),
            service_tier=random.choice((None, "standard", "batch")),
            inference_geo=random.choice((None, "us")),
            speed=random.choice((None, None, "fast")),
        )
        at = datetime(2026, 3, 10, tzinfo=UTC) + timedelta(seconds=random.randrange(250 * 86400))
        user, status = random.choice(("ada", "ben")), random.choice(("complete", "failed", "lost"))
        calls.append(call(at, random.choice(MODELS), usage, user_id=user, status=status))
    return calls


def write(calls: list[dict[str, Any]]) -> None:
    names = {name for row in calls for name in row}
    runtime().run(bulk.add(runtime().engine.store.backend, {"usage": [dict.fromkeys(names) | row for row in calls]}))


def test_the_classes_of_random_calls_are_those_of_each_call_summed(no_key: Path) -> None:
    calls = random_calls(Random(1), 2000)
    write(calls)
    expected: dict[tuple[str, str], dict[str, Decimal]] = {}
    for row in calls:
        usage = Usage(**{name: row[name] for name in (*CLASSES, "service_tier", "inference_geo", "speed")})
        costs = costs_by_class(row["model"], usage, row["started_at"])
        group = expected.setdefault((row["user_id"], row["model"]), dict.fromkeys(PARTS, Decimal(0)))
        for part, names in PARTS.items():
            group[part] += sum(costs[name] for name in names) if costs else 0

    found = wb.cost_by_class(by=["user_id", "model"])
    for row in found[found.model != "no-such-model"].to_dict("records"):
        assert {part: row[part] for part in PARTS} == expected[row["user_id"], row["model"]]
        assert sum(row[part] for part in PARTS) + row["other_usd"] == row["cost_usd"]
        assert abs(row["other_usd"]) <= row["calls"] * Decimal("0.0000000005")
    usage = wb.usage(by=["user_id", "model"])
    for name in ("calls", "unpriced_calls", "cost_usd"):
        assert found[name].dropna().tolist() == usage[name].dropna().tolist()


def test_a_call_of_unknown_price_is_missing_and_a_failed_or_lost_one_is_counted(no_key: Path) -> None:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    usage = Usage(uncached_input_tokens=1_000_000, output_tokens=100_000)
    write(
        [
            call(at, "no-such-model", usage, status="lost"),
            call(at, "claude-opus-5-5", usage),
            call(at, "claude-opus-5-5", Usage(), status="failed"),
        ]
    )
    dear, unknown = wb.cost_by_class(by="model").to_dict("records")

    assert (dear["calls"], dear["failed_calls"], dear["uncached_input_usd"], dear["output_usd"]) == (2, 1, 4, 2)
    assert (unknown["lost_calls"], unknown["unpriced_calls"]) == (1, 1)
    assert all(unknown[name] is None for name in (*PARTS, "other_usd", "cost_usd"))
    (all_of_it,) = wb.cost_by_class().to_dict("records")
    assert (all_of_it["cost_usd"], all_of_it["cost"], all_of_it["unpriced_calls"]) == (6, 6.0, 1)


def test_what_was_recorded_at_another_price_is_told_apart(no_key: Path) -> None:
    usage = Usage(uncached_input_tokens=1_000_000)
    write([call(datetime(2026, 11, 20, tzinfo=UTC), "claude-opus-5-5", usage, cost_usd=Decimal(7))])
    (row,) = wb.cost_by_class().to_dict("records")

    assert (row["uncached_input_usd"], row["other_usd"], row["cost_usd"]) == (4, 3, 7)


def test_groups_bounds_zones_and_values_are_those_of_usage(no_key: Path) -> None:
    write(random_calls(Random(2), 300))
    asked: dict[str, Any] = {"since": "2026-04-01", "until": date(2026, 10, 1), "where": {"user_id": "ada"}}
    for by in ("hour", "day", "week", "month", "model", "user_id", "prompt_version", "variant", ["month", "model"]):
        ours, usage = wb.cost_by_class(by=by, tz="Asia/Tokyo", **asked), wb.usage(by=by, tz="Asia/Tokyo", **asked)
        names = [by] if isinstance(by, str) else by
        assert ours[[*names, "calls", "cost"]].equals(usage[[*names, "calls", "cost"]])


def test_without_calls_the_columns_are_the_same(no_key: Path) -> None:
    empty = wb.cost_by_class(by=["day", "model"])
    assert empty.empty
    assert list(empty.columns)[:6] == ["day", "model", "calls", "failed_calls", "lost_calls", "unpriced_calls"]
    assert wb.cost_by_class().empty
    with pytest.raises(wb.InvalidRequest, match="cannot be summed by 'colour'"):
        wb.cost_by_class(by="colour")


def test_prices_change_only_when_it_is_said() -> None:
    changes, last = set(price_changes()), {}
    for n in range(365 * 2):
        at = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=n)
        for model in listed_models(at):
            price = price_of(model, at, input_tokens=300_000)
            assert last.get(model, price) == price or at in changes
            last[model] = price


def test_the_demo_org_is_explained_to_nine_digits_a_call(no_key: Path) -> None:
    org = wb.demo_data("2026-11-20")
    (row,) = wb.cost_by_class(org=org).to_dict("records")

    assert row["cost_usd"] == sum(call["cost_usd"] for call in generate(date(2026, 11, 20))["usage"])
    assert abs(row["other_usd"]) < Decimal("0.00001")
    assert row["cache_read_usd"] > 0


def test_postgresql_says_the_same(no_key: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE", postgres_url)
    calls = random_calls(Random(3), 200)
    write(calls)

    found = wb.cost_by_class(by=["day", "model"])
    assert found.cost_usd.dropna().sum() == sum(row["cost_usd"] for row in calls if row["cost_usd"] is not None)
    assert found.other_usd.dropna().map(abs).max() < Decimal("0.0000001")
