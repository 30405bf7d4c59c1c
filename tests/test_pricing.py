"""What a call costs, against numbers worked out by hand and against a second price table."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from random import Random

import model_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.pricing import FREE, Price, cost_and_source, cost_of, costs_by_class, price_of, worst_case
from workbench.turns import Usage

D = Decimal
TODAY = datetime(2026, 11, 24, 12, tzinfo=UTC)
MILLION = 1_000_000


def cost(model: str, at: datetime = TODAY, **counts: object) -> Decimal | None:
    return cost_and_source(model, Usage(**counts), at)[0]  # type: ignore[arg-type]


# The table of claude-api facts: input, output, 5-minute write, 1-hour write, cache read; US dollars per million tokens.
TABLE = {
    "claude-fable-5-2": "8 40 10 16 0.20",
    "claude-mythos-5-2": "8 40 10 16 0.20",
    "claude-fable-5-1": "10 50 12.5 20 0.25",
    "claude-fable-5": "10 50 12.5 20 1.00",
    "claude-opus-5-5": "4 20 5 8 0.20",
    "claude-opus-5": "5 25 6.25 10 0.50",
    "claude-opus-4-8": "5 25 6.25 10 0.50",
    "claude-opus-4-7": "5 25 6.25 10 0.50",
    "claude-opus-4-6": "5 25 6.25 10 0.50",
    "claude-opus-4-5": "5 25 6.25 10 0.50",
    "claude-sonnet-5-5": "2 10 2.5 4 0.10",
    "claude-sonnet-5": "2 10 2.5 4 0.20",
    "claude-sonnet-4-6": "3 15 3.75 6 0.30",
    "claude-sonnet-4-5": "3 15 3.75 6 0.30",
    "claude-sonnet-4-5-20250929": "3 15 3.75 6 0.30",
    "claude-haiku-5-5": "0.10 0.50 0.125 0.20 0.01",
    "claude-haiku-4-5": "1 5 1.25 2 0.10",
    "claude-haiku-4-5-20251001": "1 5 1.25 2 0.10",
    # retired; for pricing old rows
    "claude-sonnet-4-20250514": "3 15 3.75 6 0.30",
    "claude-opus-4-20250514": "15 75 18.75 30 1.50",
}


@pytest.mark.parametrize(("model", "prices"), TABLE.items(), ids=TABLE)
def test_each_model_has_its_price(model: str, prices: str) -> None:
    tokens_in, out, write_5m, write_1h, read = map(D, prices.split())

    price = price_of(model, TODAY)
    assert price is not None
    assert (price.input, price.output) == (tokens_in, out)
    assert (price.cache_write_5m, price.cache_write_1h, price.cache_read) == (write_5m, write_1h, read)
    assert price.source == "genai-prices 0.2.3"


@pytest.mark.parametrize(
    ("model", "tokens_in", "out"), [("claude-fable-5-2", 16, 80), ("claude-opus-5-5", 8, 40), ("claude-opus-5", 10, 50)]
)
def test_fast_mode_has_prices_of_its_own(model: str, tokens_in: int, out: int) -> None:
    price = price_of(model, TODAY, fast=True)

    assert price is not None
    assert (price.input, price.output) == (tokens_in, out)
    assert cost(model, uncached_input_tokens=MILLION, output_tokens=MILLION, speed="fast") == tokens_in + out


def test_a_fast_mode_without_a_known_price_is_unknown() -> None:
    assert price_of("claude-opus-4-6", TODAY, fast=True) is None
    assert cost("claude-opus-4-6", uncached_input_tokens=1, speed="fast") is None
    assert cost("claude-opus-4-6", uncached_input_tokens=1, speed="standard") == D("0.000005")


OURS_ALONE = {
    "claude-2", "claude-v1", "claude-3-5-sonnet", "claude-3-haiku", "claude-3-opus-latest", "claude-3-sonnet",
    "claude-fable-5-2", "claude-mythos-5-2",
}  # fmt: skip
"""Models the second table does not know."""
CALLS = [
    ("claude-sonnet-5-5", datetime(2026, 10, 1, tzinfo=UTC)),
    *((m.id, TODAY) for provider in get_snapshot().providers if provider.id == "anthropic" for m in provider.models),
]


@pytest.mark.parametrize(("model", "at"), CALLS, ids=[f"{model}-{at:%Y%m%d}" for model, at in CALLS])
@pytest.mark.parametrize("fast", [False, True], ids=["standard", "fast"])
def test_a_second_price_table_agrees(model: str, at: datetime, fast: bool) -> None:
    theirs = model_prices.rates(model, at=at, provider="anthropic", mode="fast" if fast else None)
    if theirs is None:
        assert model in OURS_ALONE or (fast and price_of(model, at, fast=True) is None)
        return
    # of Sonnet 4.5 the second table lacks the price of long prompts, $6 and $22.50
    sizes = [1000, 150_000] if model == "claude-sonnet-4-5" else [1000, 150_000, 300_000]
    for size in sizes:
        rates = next((tier for tier in reversed(theirs.tiers) if size > tier.above), theirs)
        expected = [D(str(x)) for x in (rates.input, rates.cache_read, rates.cache_write, rates.output)]
        ours = price_of(model, at, input_tokens=size, fast=fast)

        assert ours is not None
        assert [ours.input, ours.cache_read, ours.cache_write_5m, ours.output] == expected
        assert ours.cache_write_1h == ours.input * D(str(theirs.cache_write_1h_multiple))


RECORDED_WELL = {"claude-haiku-4-5": "2025-10-16", "claude-opus-4-5": "2025-11-27"}
"""When the second package put its first record of a model right: Haiku 4.5 had Sonnet's prices in it, Opus 4.5 the cache
prices of Opus 4. Of all models it has no cache prices before June 24, 2025."""
LONG = {"claude-haiku-5-5": (100_000, 5, 5), "claude-sonnet-4-5": (200_000, 2, D("1.5"))}
"""Above how many input tokens input, and output, are so many times as dear; of Sonnet 4.5 the second package lacks that."""
SINCE_OCTOBER_7 = datetime(2026, 10, 7, tzinfo=UTC)
"""Since then all prices are those of the table at the top."""


def test_ten_thousand_random_usages_cost_what_a_formula_and_a_second_package_say() -> None:
    random = Random(20261128)
    models = sorted({*TABLE, *(model for model, _ in CALLS)})
    by_hand = by_package = 0
    for _ in range(10_000):
        model, usage = random.choice(models), _usage(random)
        days = random.choice([50, 690])
        at = TODAY - timedelta(days=days * random.random())
        price = price_of(model, at, input_tokens=usage.input_tokens)
        assert price is not None
        exact = cost_of(usage, price)

        assert cost_and_source(model, usage, at)[0] == exact.quantize(D("0.000000001"))
        assert sum((costs_by_class(model, usage, at) or {}).values()) == exact
        if model in TABLE and at > SINCE_OCTOBER_7:
            by_hand += 1
            assert exact == _formula(model, usage), (model, at, usage)
        if (theirs := _second_package(model, usage, at)) is not None:
            by_package += 1
            assert exact == theirs, (model, at, usage)
    assert by_hand > 3000 and by_package > 6000


def _usage(random: Random) -> Usage:
    def some() -> int:
        return random.choice([0, random.randrange(2000), random.randrange(120_000)])

    return Usage(
        uncached_input_tokens=some(),
        cache_read_tokens=some(),
        cache_write_5m_tokens=some(),
        cache_write_1h_tokens=some(),
        output_tokens=some(),
        service_tier=random.choice([None, "standard", "batch"]),
    )


def _formula(model: str, usage: Usage) -> Decimal:
    tokens_in, out, write_5m, write_1h, read = map(D, TABLE[model].split())
    bound, more_in, more_out = LONG.get(model.removesuffix("-20250929"), (MILLION, 1, 1))
    prompt = (
        usage.uncached_input_tokens * tokens_in
        + usage.cache_read_tokens * read
        + usage.cache_write_5m_tokens * write_5m
        + usage.cache_write_1h_tokens * write_1h
    )
    reply = usage.output_tokens * out
    if usage.input_tokens > bound:
        prompt, reply = prompt * more_in, reply * more_out
    return (prompt + reply) / MILLION / (2 if usage.service_tier == "batch" else 1)


def _second_package(model: str, usage: Usage, at: datetime) -> Decimal | None:
    name = model.removesuffix("-20250929").removesuffix("-20251001")
    if name == "claude-sonnet-4-5" and usage.input_tokens > LONG[name][0]:
        return None
    if at < datetime.fromisoformat(f"{RECORDED_WELL.get(name, '2025-06-24')}T00:00+00:00"):
        return None
    cost = model_prices.cost(
        model,
        input_tokens=usage.uncached_input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens,
        at=at,
        provider="anthropic",
        mode="batch" if usage.service_tier == "batch" else None,
    )
    if cost is None:
        assert model in OURS_ALONE
        return None
    return D(cost).quantize(D("1e-12"))  # its floats are that exact; no price per token has more digits


def test_long_prompts_of_sonnet_4_5_cost_more() -> None:
    assert cost("claude-sonnet-4-5", uncached_input_tokens=200_000, output_tokens=1000) == D("0.615")
    # 200,001 x 6 + 1,000 x 22.50
    assert cost("claude-sonnet-4-5", uncached_input_tokens=200_001, output_tokens=1000) == D("1.222506")


# Traps --------------------------------------------------------------------------------------------------------------


def test_the_predecessors_example_costs_what_its_handbook_says() -> None:
    # 100 in at $3 are $0.0003, 500 out at $15 are $0.0075
    assert cost("claude-sonnet-4-20250514", uncached_input_tokens=100, output_tokens=500) == D("0.0078")


def test_cached_tokens_are_not_charged_as_input_again() -> None:
    usage = Usage(uncached_input_tokens=200, cache_write_1h_tokens=500, cache_read_tokens=300, output_tokens=200)

    # 200 x 3 + 500 x 6 + 300 x 0.30 + 200 x 15 = 6690
    assert usage.input_tokens == 1000
    assert cost_and_source("claude-sonnet-4-6", usage, TODAY) == (D("0.00669"), "genai-prices 0.2.3")


def test_an_hour_in_the_cache_costs_more_than_five_minutes() -> None:
    assert cost("claude-sonnet-5-5", cache_write_5m_tokens=1000) == D("0.0025")
    assert cost("claude-sonnet-5-5", cache_write_1h_tokens=1000) == D("0.004")
    # 600 x 2.5 + 400 x 4 = 3100
    assert cost("claude-sonnet-5-5", cache_write_5m_tokens=600, cache_write_1h_tokens=400) == D("0.0031")


@pytest.mark.parametrize(
    ("model", "share"),
    [
        ("claude-opus-5-5", "0.05"),
        ("claude-sonnet-5-5", "0.05"),
        ("claude-sonnet-5", "0.1"),
        ("claude-fable-5-1", "0.025"),
    ],
)
def test_a_cache_read_is_no_fixed_share_of_the_input_price(model: str, share: str) -> None:
    price = price_of(model, TODAY)

    assert price is not None
    assert price.cache_read == price.input * D(share)


def test_a_long_prompt_of_haiku_makes_every_token_five_times_as_dear() -> None:
    counts = {"cache_read_tokens": 60_000, "cache_write_5m_tokens": 20_000, "output_tokens": 1000}

    # 20,000 x 0.10 + 60,000 x 0.01 + 20,000 x 0.125 + 1,000 x 0.50 = 5,600
    assert cost("claude-haiku-5-5", uncached_input_tokens=20_000, **counts) == D("0.0056")
    # one token more, and each of them five times: 5 x (20,001 x 0.10 + 600 + 2,500 + 500) = 28,000.5
    assert cost("claude-haiku-5-5", uncached_input_tokens=20_001, **counts) == D("0.0280005")
    assert cost("claude-haiku-5-5", uncached_input_tokens=90_000, output_tokens=20_000) == D("0.019")


def test_a_batch_halves_every_class_of_tokens_but_no_search() -> None:
    each = {
        "uncached_input_tokens": 1000,
        "cache_read_tokens": 1000,
        "cache_write_5m_tokens": 1000,
        "cache_write_1h_tokens": 1000,
        "output_tokens": 1000,
    }

    # 2 + 0.1 + 2.5 + 4 + 10 = 18.6 thousandths
    assert cost("claude-sonnet-5-5", **each) == D("0.0186")
    assert cost("claude-sonnet-5-5", **each, service_tier="batch") == D("0.0093")
    assert cost("claude-sonnet-5-5", **each, service_tier="batch", web_searches=1) == D("0.0193")


def test_staying_in_the_us_costs_a_tenth_more_but_no_search() -> None:
    assert cost("claude-sonnet-5-5", uncached_input_tokens=1000, inference_geo="us") == D("0.0022")
    assert cost("claude-sonnet-5-5", uncached_input_tokens=1000, inference_geo="global") == D("0.002")
    assert cost("claude-sonnet-5-5", uncached_input_tokens=1000, inference_geo="us", web_searches=2) == D("0.0222")
    assert cost("claude-sonnet-5-5", output_tokens=1000, inference_geo="us", service_tier="batch") == D("0.0055")


def test_a_web_search_costs_a_cent() -> None:
    assert cost("claude-sonnet-5-5", web_searches=3) == D("0.03")


def test_thinking_is_part_of_the_output() -> None:
    assert cost("claude-sonnet-5-5", output_tokens=1000, thinking_tokens=900) == D("0.01")


@pytest.mark.parametrize(("month", "expected"), [(3, "1.80"), (4, "0.90")])
def test_the_price_is_that_of_the_day_of_the_call(month: int, expected: str) -> None:
    at = datetime(2026, month, 1, tzinfo=UTC)

    assert cost("claude-sonnet-4-6", at, uncached_input_tokens=300_000) == D(expected)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2026, 10, 6, 23, 59, tzinfo=UTC), "0.20"),
        (datetime(2026, 10, 7, tzinfo=UTC), "0.10"),
        (datetime(2026, 10, 7, 1, tzinfo=timezone(timedelta(hours=2))), "0.20"),  # still the 6th in UTC
    ],
)
def test_cache_reads_of_sonnet_5_5_were_dearer_before_october_7(at: datetime, expected: str) -> None:
    assert cost("claude-sonnet-5-5", at, cache_read_tokens=MILLION) == D(expected)


@pytest.mark.parametrize(
    "model",
    ["claude-9", "claude-sonnet-6", "claude-sonnet-5-55", "claude-haiku-4-20250514", "gpt-5", "llama3", "claude", ""],
)
def test_an_unknown_price_is_unknown_and_never_zero(model: str) -> None:
    assert price_of(model, TODAY) is None
    assert cost_and_source(model, Usage(uncached_input_tokens=1000), TODAY) == (None, "unknown")
    assert worst_case(model, 1000, 1000, TODAY) is None


def test_the_embedded_model_costs_nothing_and_says_why() -> None:
    usage = Usage(uncached_input_tokens=5000, output_tokens=700, web_searches=1)

    assert cost_and_source("local", usage, TODAY) == (D(0), "embedded model: no charge")
    assert worst_case("local", 5000, 700, TODAY) == 0


def test_one_call_is_not_the_sum_of_its_parts_above_a_threshold() -> None:
    five = cost("claude-haiku-5-5", uncached_input_tokens=100_000)
    one = cost("claude-haiku-5-5", uncached_input_tokens=500_000)

    assert (five, one) == (D("0.01"), D("0.25"))


def test_the_ledger_keeps_nine_decimals() -> None:
    kept = cost("claude-haiku-5-5", cache_read_tokens=1, inference_geo="us", service_tier="batch")

    assert kept == D("0.000000006")  # 0.0000000055
    assert kept is not None
    assert kept.as_tuple().exponent == -9


def test_the_worst_case_is_every_token_written_for_an_hour_and_a_full_reply() -> None:
    # 1000 x 4 + 500 x 10
    assert worst_case("claude-sonnet-5-5", 1000, 500, TODAY) == D("0.009")
    # above the threshold: 100,001 x 1 + 500 x 2.50
    assert worst_case("claude-haiku-5-5", 100_001, 500, TODAY) == D("0.101251")


# Properties ---------------------------------------------------------------------------------------------------------

COUNTS = [
    "uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
    "web_searches",
]  # fmt: skip
usages = st.builds(
    Usage,
    **{name: st.integers(0, 2_000_000) for name in COUNTS},
    service_tier=st.sampled_from([None, "standard", "batch"]),
    inference_geo=st.sampled_from([None, "us", "global"]),
    speed=st.sampled_from([None, "standard", "fast"]),
)
models = st.sampled_from([*TABLE, "local"])
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SONNET = Price(D("2"), D("0.10"), D("2.50"), D("4"), D("10"))


@PATIENT
@given(models, usages, st.sampled_from(COUNTS), st.integers(1, 200_000))
def test_more_of_anything_never_costs_less(model: str, usage: Usage, count: str, more: int) -> None:
    before, _ = cost_and_source(model, usage, TODAY)
    after, _ = cost_and_source(model, replace(usage, **{count: getattr(usage, count) + more}), TODAY)

    assert (before is None) == (after is None)
    assert before is None or before <= after  # type: ignore[operator]


@PATIENT
@given(usages)
def test_a_cost_is_the_sum_of_its_classes(usage: Usage) -> None:
    parts = [replace(usage, **{name: 0 for name in COUNTS if name != kept}) for kept in COUNTS]

    assert cost_of(usage, SONNET) == sum(cost_of(part, SONNET) for part in parts)


@PATIENT
@given(models, usages)
def test_the_worst_case_covers_the_call(model: str, usage: Usage) -> None:
    plain = replace(usage, inference_geo=None, speed=None, web_searches=0)
    worst = worst_case(model, plain.input_tokens, plain.output_tokens, TODAY)
    spent, _ = cost_and_source(model, plain, TODAY)

    assert worst is not None
    assert spent is not None
    assert spent <= worst + D("0.000000001")


@PATIENT
@given(models, usages)
def test_money_is_exact_decimals_throughout(model: str, usage: Usage) -> None:
    price = price_of(model, TODAY, input_tokens=usage.input_tokens)

    assert price is not None
    assert {type(getattr(price, f.name)) for f in fields(Price) if f.name != "source"} == {Decimal}
    assert type(cost_of(usage, price)) is Decimal


def test_free_is_free_in_every_class() -> None:
    assert {getattr(FREE, f.name) for f in fields(Price) if f.name != "source"} == {D(0)}
