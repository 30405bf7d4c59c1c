"""Why two periods cost differently."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from math import prod
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from tests.test_classes import call, random_calls, write
from workbench.ledger.changes import FACTORS, shapley, split
from workbench.ledger.classes import Spent
from workbench.pricing import CLASSES
from workbench.turns import Usage

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

OCTOBER, NOVEMBER = ("2026-10-01", "2026-11-01"), ("2026-11-01", "2026-12-01")
AT = datetime(2026, 10, 10, tzinfo=UTC)
COUNTS = st.integers(0, 10**9)
PRICES = st.decimals(0, "0.0001", places=12, allow_nan=False)


@st.composite
def spent(draw: st.DrawFn) -> Spent:
    """A group of calls whose costs are some tokens times some price, or a cost that no class explains."""
    tokens = {name: draw(st.just(0) | COUNTS) for name in CLASSES}
    costs = {name: count * draw(PRICES) for name, count in tokens.items()}
    calls = draw(st.integers(1, 10**6)) if any(tokens.values()) else draw(st.integers(0, 5))
    other = draw(st.just(Decimal(0)) | st.decimals(-100, 100, places=9))
    unpriced = draw(st.integers(0, 3))
    return Spent(calls + unpriced, 0, 0, unpriced, tokens, costs, sum(costs.values()) + other)


LEDGERS = st.dictionaries(st.sampled_from("abcde"), spent(), max_size=5)


@given(LEDGERS, LEDGERS)
def test_the_parts_add_up_exactly_for_any_two_ledgers(before: dict[str, Spent], after: dict[str, Spent]) -> None:
    parts = split(before, after)
    cost = [sum((each.cost_usd for each in period.values()), Decimal(0)) for period in (before, after)]
    assert sum(parts.values()) == cost[1] - cost[0]
    # turned round, only the signs change
    assert split(after, before).keys() == parts.keys()
    assert all(abs(usd + parts[key]) < Decimal("1e-12") for key, usd in split(after, before).items())
    assert not any(split(before, before).values())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5))
def test_a_part_is_the_mean_over_all_orders_of_replacing(values: list[tuple[int, int]]) -> None:
    factors = {str(n): (Fraction(old), Fraction(new)) for n, (old, new) in enumerate(values)}
    orders = list(permutations(factors))
    expected = dict.fromkeys(factors, Fraction(0))
    for order in orders:
        now = {name: old for name, (old, _) in factors.items()}
        for name in order:
            before = prod(now.values())
            now[name] = factors[name][1]
            expected[name] += Fraction(prod(now.values()) - before, len(orders))
    assert shapley(factors) == expected


def month(at: datetime, count: int, model: str, **counts: int) -> list[dict[str, object]]:
    return [call(at + timedelta(minutes=n), model, Usage(**counts)) for n in range(count)]  # type: ignore[arg-type]


def parts_of(frame: pd.DataFrame) -> dict[str, Decimal]:
    assert frame.usd.dropna().sum() == frame.attrs["after_usd"] - frame.attrs["before_usd"]
    return {factor: usd for factor, usd in zip(frame.factor, frame.usd, strict=True) if usd}


@pytest.mark.parametrize(
    ("count", "model", "counts", "factor", "usd", "said"),
    [
        (15, "claude-opus-5-5", {}, "volume", "4", "+$4.00: 15 calls instead of 10"),
        (1, "claude-opus-5-5", {}, "volume", "-7.2", "-$7.20: 1 call instead of 10"),
        (10, "claude-opus-5-5", {"uncached_input_tokens": 300_000}, "input length", "4",
         "+$4.00: most by claude-opus-5-5, 300,000 input tokens a call instead of 200,000"),
        (10, "claude-opus-5-5", {"uncached_input_tokens": 50_000, "cache_read_tokens": 150_000}, "caching", "-5.7",
         "-$5.70: most by claude-opus-5-5, 25% of its input was new instead of 100%"),
        (10, "claude-opus-5-5", {"web_searches": 2}, "web searches", "0.2",
         "+$0.20: most by claude-opus-5-5, 2.00 searches a call instead of 0.00"),
        (10, "claude-opus-5-5", {"output_tokens": 1000}, "reply length", "0.2",
         "+$0.20: most by claude-opus-5-5, 1,000 output tokens a call instead of 0"),
    ],
)  # fmt: skip
def test_one_change_alone_gets_the_whole_difference(
    no_key: Path, count: int, model: str, counts: dict[str, int], factor: str, usd: str, said: str
) -> None:
    same = {"uncached_input_tokens": 200_000}
    write(month(AT, 10, "claude-opus-5-5", **same) + month(AT + timedelta(days=30), count, model, **same | counts))

    frame = wb.why(OCTOBER, NOVEMBER)
    assert parts_of(frame) == {factor: Decimal(usd)}
    assert frame.sentence[frame.factor == factor].item() == said
    assert frame.share[frame.factor == factor].item() == 1


def test_a_dearer_model_is_mix_and_a_cheaper_price_is_price(no_key: Path) -> None:
    ago = AT - timedelta(days=9)
    write(month(ago, 5, "claude-sonnet-5-5", cache_read_tokens=10**6))
    write(
        month(AT, 4, "claude-sonnet-5-5", cache_read_tokens=10**6)
        + month(AT, 1, "claude-opus-5-5", cache_read_tokens=10**6)
    )

    frame = wb.why(("2026-10-01", "2026-10-05"), ("2026-10-05", "2026-10-15"))
    # mix: a fifth of five calls at $0.20 instead of $0.15, the mean; price: $0.10 less for 4.5 calls, the mean of 5 and 4
    assert parts_of(frame) == {"model mix": Decimal("0.05"), "price": Decimal("-0.45")}
    assert frame.sentence[5] == "-$0.45: most by claude-sonnet-5-5, cache reads at $0.10 a million instead of $0.20"
    assert frame.sentence[1].endswith("most by claude-opus-5-5, 20% of the calls instead of 0%")


def test_calls_without_a_price_are_apart(no_key: Path) -> None:
    write(month(AT, 3, "no-such-model", output_tokens=5) + month(AT, 1, "claude-opus-5-5", output_tokens=50_000))

    frame = wb.why(NOVEMBER, OCTOBER)
    assert parts_of(frame) == {"volume": 1}
    assert frame.factor.tolist() == [*FACTORS, "unknown price"]
    assert frame.usd.iloc[-1] is None
    assert frame.sentence.iloc[-1] == "unknown: 3 calls after and 0 before have no known price and are not counted"


def test_what_the_store_holds_adds_up_to_the_last_digit(no_key: Path) -> None:
    write(random_calls(Random(7), 1500))
    for where in (None, {"user_id": "ada"}):
        frame = wb.why(("2026-03-10", "2026-06-01"), ("2026-06-01", None), where)
        parts_of(frame)
        total = wb.usage(since="2026-06-01", by="month", where=where).cost_usd.sum()
        assert frame.attrs["after_usd"] == total


def test_nothing_differs_in_an_empty_ledger(no_key: Path) -> None:
    frame = wb.why(OCTOBER, NOVEMBER)
    assert frame.usd.tolist() == [0] * len(FACTORS)
    assert frame.share.isna().all() and frame.share.dtype == "float64"
    with pytest.raises(wb.InvalidRequest, match="before is '2026-10'; give its first moment and the one after it"):
        wb.why("2026-10", NOVEMBER)  # type: ignore[arg-type]
