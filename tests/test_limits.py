"""Token buckets, with a clock that the tests set."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import limits
from workbench.limits import Buckets, Rate, wait

A = Rate("a", per_minute=60, burst=3)


@pytest.fixture
def buckets() -> Buckets:
    return Buckets()


def test_a_burst_passes_and_the_next_waits_for_a_token(buckets: Buckets) -> None:
    verdicts = [buckets.take([A], 100.0) for _ in range(4)]

    assert [(v.passes, v.remaining, v.retry_after) for v in verdicts] == [
        (True, 2, 0), (True, 1, 0), (True, 0, 0), (False, 0, 1.0)
    ]  # fmt: skip
    assert [v.reset for v in verdicts] == [1, 2, 3, 3]


def test_what_was_refused_took_nothing(buckets: Buckets) -> None:
    for _ in range(50):
        buckets.take([A], 0.0)

    assert buckets.take([A], 1.0).passes


def test_a_bucket_never_holds_more_than_its_burst(buckets: Buckets) -> None:
    buckets.take([A], 0.0)

    assert buckets.take([A], 1e9).remaining == 2


def test_a_request_that_weighs_more_takes_more_and_one_above_the_burst_never_passes(buckets: Buckets) -> None:
    assert buckets.take([A], 0.0, weight=2.5).remaining == 0.5
    assert buckets.take([A], 0.0, weight=1).retry_after == 0.5
    assert buckets.take([A], 0.0, weight=4).retry_after == math.inf


def test_if_one_bucket_refuses_none_is_touched_and_the_verdict_names_it(buckets: Buckets) -> None:
    user = Rate("user", per_minute=6, burst=1)
    first, second = buckets.take([A, user], 0.0), buckets.take([A, user], 0.0)

    assert (first.passes, first.rate, first.remaining) == (True, user, 0)
    assert (second.passes, second.rate, second.retry_after) == (False, user, 10.0)
    assert buckets.take([A], 0.0).remaining == 1


def test_a_new_rate_counts_at_once_for_what_is_in_the_bucket(buckets: Buckets) -> None:
    for _ in range(3):
        buckets.take([A], 0.0)

    assert buckets.take([Rate("a", per_minute=600, burst=3)], 0.1).passes


def test_made_up_callers_do_not_fill_the_memory_nor_free_anybody(
    buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SWEEP_AT", 100)
    buckets._sweep_at = 100
    slow = Rate("slow", per_minute=0.001, burst=1)
    buckets.take([slow], 0.0)
    for n in range(5000):
        buckets.take([Rate(f"made up {n}", per_minute=60, burst=20)], n / 10)

    assert len(buckets._held) <= 101
    assert not buckets.take([slow], 500.0).passes


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 3)), max_size=80))
def test_over_any_time_no_more_passes_than_the_burst_and_the_rate_allow_and_no_less(
    asked: list[tuple[int, int]],
) -> None:
    """Against the definition, in fractions."""
    rate, buckets = Rate("a", per_minute=30, burst=5), Buckets()
    tokens, before = Fraction(5), 0
    for now, weight in zip(accumulate(pause for pause, _ in asked), (weight for _, weight in asked), strict=True):
        tokens = min(Fraction(5), tokens + Fraction(now - before, 2000))
        before = now
        verdict = buckets.take([rate], now / 1000, weight)
        if abs(tokens - weight) < Fraction(1, 10**9):  # a float may fall to either side
            tokens = Fraction(verdict.remaining)
            continue
        assert verdict.passes == (tokens >= weight)
        tokens -= weight if verdict.passes else 0
        assert verdict.remaining == pytest.approx(float(tokens), abs=1e-9)


def test_without_a_rate_an_empty_bucket_stays_empty() -> None:
    assert wait(Rate("a", per_minute=0, burst=1), tokens=0, weight=1) == math.inf
