"""Thousands of calls computed with at once: as exactly as one by one, and the same from rows as from objects."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from tests.test_replay import AT, HAIKU, SONNET, chat_of, counts
from workbench.ledger import demo
from workbench.ledger.columns import NANO, Call, Chat, Columns
from workbench.ledger.costs import costs_of
from workbench.ledger.reading import recorded_chats
from workbench.ledger.replay import Assumptions, Scenario, replayed
from workbench.pricing import CLASSES, cost_and_source, cost_of, price_of
from workbench.turns import Usage

MODELS = ("claude-sonnet-5-5", "claude-haiku-5-5", "claude-sonnet-4-6", "claude-opus-4-6", "local", "somebody-elses")


def costs(calls: list[Call]) -> tuple[list[Decimal | None], list[Decimal | None]]:
    """What the calls cost, unrounded and as the ledger keeps it."""
    columns = Columns.of([Chat(id="", calls=calls)])
    terms = (columns.counts, columns.batch, columns.us, columns.fast)
    found = costs_of(columns.models, columns.model, columns.priced_from, *terms)
    columns_of = ((found.amounts, found.digits), (found.nanos(), NANO))
    exact, kept = (
        [Decimal(int(n)).scaleb(-digits) if known else None for n, known in zip(amounts, found.known, strict=True)]
        for amounts, digits in columns_of
    )
    return exact, kept


def call(usage: Usage, model: str = SONNET, at: datetime = AT) -> Call:
    return Call(id="1", model=model, source="map", at=at, ended=at, usage=usage, cost_usd=None)


def test_many_costs_are_those_of_each_call_to_the_last_decimal() -> None:
    chance = random.Random(7)
    calls = [
        call(
            Usage(
                **{name: chance.choice([0, chance.randint(1, 120_000)]) for name in CLASSES[:5]},
                web_searches=chance.choice([0, 0, 3]),
                service_tier=chance.choice([None, "standard", "batch"]),
                inference_geo=chance.choice([None, "us"]),
                speed=chance.choice([None, None, "fast"]),
            ),
            chance.choice(MODELS),
            datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=chance.randint(0, 330 * 24)),
        )
        for _ in range(5000)
    ]
    exact, kept = costs(calls)

    def price(each: Call) -> Any:
        usage = each.usage
        return price_of(each.model, each.at, input_tokens=usage.input_tokens, fast=usage.speed == "fast")

    assert exact == [None if price(each) is None else cost_of(each.usage, price(each)) for each in calls]
    assert kept == [cost_and_source(each.model, each.usage, each.at)[0] for each in calls]
    assert 0 < exact.count(None) < 2500


def test_halves_of_the_last_decimal_go_to_the_even_one() -> None:
    # $0.01 a million, half in a batch, a tenth more in the US: 5.5 billionths of a dollar a token
    usages = [Usage(cache_read_tokens=n, service_tier="batch", inference_geo="us") for n in (1, 3, 5, 7)]
    exact, kept = costs([call(usage, HAIKU) for usage in usages])
    assert exact == [Decimal(n).scaleb(-10) for n in (55, 165, 275, 385)]
    assert kept == [Decimal(n).scaleb(-9) for n in (6, 16, 28, 38)]


def test_a_sum_of_counts_too_large_for_64_bits_is_exact_too() -> None:
    usage = Usage(uncached_input_tokens=3 * 10**15, output_tokens=10**15, service_tier="batch")
    exact, _ = costs([call(usage), call(Usage(output_tokens=1))])
    assert exact == [Decimal(3 * 10**15 * 2 + 10**15 * 10) / 2 / 10**6, Decimal("0.00001")]


def test_no_calls_cost_nothing() -> None:
    assert costs([]) == ([], [])
    assert len(replayed(Columns.of([]), Scenario(model=SONNET, history="blocks", cache="1h")).nanos) == 0


def test_what_is_kept_alive_too_late_is_not_revived() -> None:
    chat = chat_of(200, 200, 200, 200, cache="off")
    # turns 2 and 3 stay without a reply: both are in time, so is the last
    pair = [replace(chat.calls[n], answered=False) for n in (1, 2)]
    kept = replace(chat, calls=[chat.calls[0], *pair, replace(chat.calls[3], count=2)])
    assert counts(kept, Scenario(cache="5m"))[3] == (0, 1000, 6000, 0)
    # turn 2 comes 400 s after turn 1; turn 3 follows it at once, but there is nothing to keep
    late = [replace(each, at=each.at + timedelta(seconds=200)) for each in kept.calls[1:]]
    late[1] = replace(late[1], at=late[0].at + timedelta(seconds=1))
    late[2] = replace(late[2], at=late[0].at + timedelta(seconds=2))
    assert counts(replace(kept, calls=[kept.calls[0], *late]), Scenario(cache="5m"))[3] == (0, 0, 7000, 0)


def test_each_model_reads_what_it_wrote_itself() -> None:
    chat = chat_of(9, 9, 9, cache="off")
    chat.calls[1] = replace(chat.calls[1], model=MODELS[3])
    chat.calls[2] = replace(chat.calls[2], model=MODELS[3])
    # 4.6 Opus caches nothing below 4,096 tokens; the last call finds what the first one left
    assert counts(chat, Scenario(cache="5m")) == [(0, 0, 1000, 0), (3000, 0, 0, 0), (0, 0, 5000, 0), (0, 1000, 6000, 0)]


@pytest.mark.parametrize(
    "scenario",
    [Scenario(model="claude-opus-4-6"), Scenario(history="sliding window", cache="1h"), Scenario(all_in_batches=True)],
)
def test_rows_and_objects_give_the_same(scenario: Scenario) -> None:
    rows = demo.generate(date(2026, 11, 20))
    for each in rows["usage"]:
        each |= {"in_period": True, "inference_geo": None, "speed": None}
    for message in rows["messages"]:
        message |= {"has_text": bool(message["content"]), "stop_reason": None}
    read = recorded_chats(rows["usage"], rows["messages"], {chat["id"]: chat["system"] for chat in rows["chats"]})
    assumed = Assumptions(tokens={SONNET: 1.1}, missed=0.1)

    ours, theirs = (replayed(columns, scenario, assumed) for columns in (read.columns, Columns.of(read)))
    assert all(np.array_equal(one, other) for one, other in zip(ours.counts, theirs.counts, strict=True))
    assert np.array_equal(ours.nanos, theirs.nanos)
