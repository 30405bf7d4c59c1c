"""The statistics of experiments: by hand, exactly where that can be, else by simulation (``make bench`` has the long form)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.bench import experiments as bench
from workbench.prompts.statistics import (
    Moments,
    chi_square_tail,
    enough_for,
    events,
    evidence_of_more,
    least_difference,
    per_arm_for_change,
    per_arm_for_rates,
    proportions,
    sample_ratio,
    sequence,
    times_needed,
)

SHARES = (0.5, 0.1, 0.9)


def test_a_sequence_is_what_the_formula_says() -> None:
    # by hand, n = 100 each, variances 1 and 3: r = (5.9915 + 1.7903 + 1) / 80 = .109773, m = 10.9773, V = 4 / 100
    # w^2 = .04 x 1.091097 x 2 ln(sqrt(11.9773) / .05) = .04 x 1.091097 x 8.47446
    found = sequence(Moments(100, 5.0, 1.0), Moments(100, 6.0, 3.0))
    assert found == pytest.approx((1.0, 1 - 0.608158, 1 + 0.608158), abs=1e-5)


def test_an_unequal_split_counts_the_small_arm_and_the_larger_spread() -> None:
    # pooled: (269 x 1 + 29 x .01) / 298 x (1/270 + 1/30) = .033469; with the small arm's own it would be .004037
    found = sequence(Moments(270, 0.0, 1.0), Moments(30, 1.0, 0.01))
    m = 54 * 0.1097730
    assert (found.high - 1) ** 2 == pytest.approx(
        0.033469 * (1 + 1 / m) * 2 * math.log(math.sqrt(1 + m) / 0.05), rel=1e-4
    )


def test_too_little_says_nothing() -> None:
    everything = (-math.inf, math.inf)
    assert sequence(Moments.of([]), Moments.of([1.0]))[1:] == everything
    assert sequence(Moments.of([1.0]), Moments.of([1.0, 2.0]))[1:] == everything
    assert proportions(0, 0, 0, 0)[1:] == events(0, 0, 0, 0)[1:] == (-1, 1)
    assert not proportions(0, 5, 5, 5).differs
    assert not events(0, 3, 3, 3).differs


def test_turning_the_arms_turns_the_interval() -> None:
    a, b = Moments(40, 1.0, 2.0), Moments(300, 1.7, 1.0)
    assert sequence(b, a) == pytest.approx([-each for each in np.take(sequence(a, b), [0, 2, 1])])
    forth, back = proportions(10, 40, 200, 300), proportions(200, 300, 10, 40)
    assert back == pytest.approx([-each for each in np.take(forth, [0, 2, 1])])
    forth, back = events(3, 90, 9, 10, 0.1), events(9, 10, 3, 90, 0.9)
    assert back == pytest.approx([-each for each in np.take(forth, [0, 2, 1])], abs=1e-6)


def test_errors_differ_when_the_likelihood_ratio_passes_25() -> None:
    def ratio(b: int, a: int) -> float:
        """Beta(2, 2) mixture against one half, by hand: B(b + 2, a + 2) / B(2, 2) x 2^(a + b)."""
        return 6 * math.gamma(b + 2) * math.gamma(a + 2) / math.gamma(a + b + 4) * 2 ** (a + b)

    pairs = [(b, a) for b in range(40) for a in range(40)]
    told = events(*(np.array(each) for each in zip(*((a, 1000, b, 1000) for b, a in pairs), strict=True))).differs
    assert list(told) == [ratio(b, a) >= 25 for b, a in pairs]
    assert 0 < sum(told) < len(pairs)


@pytest.mark.parametrize("share", SHARES)
def test_errors_are_wrong_in_five_of_a_hundred_at_most_exactly(share: float) -> None:
    assert (
        0.001 < chance_to_pass(lambda a, b: events(a, 1e5 * (1 - share), b, 1e5 * share, share).differs, share) < 0.04
    )
    assert 0.001 < chance_to_pass(lambda a, b: evidence_of_more(a, b, share) > 20, share) < 0.05
    # a third more often, where a half more is allowed
    lies = share * 4 / 3 / (share * 4 / 3 + 1 - share)
    assert chance_to_pass(lambda a, b: evidence_of_more(a, b, share, 1.5) > 20, lies) < 0.05


def chance_to_pass(said, lies: float, most: int = 300) -> float:  # type: ignore[no-untyped-def]
    """Chance that it is said at any of the first failures, each of which lies in the second arm with some chance."""
    at, passed = np.ones(1), 0.0
    for failures in range(1, most + 1):
        at = np.append(at * (1 - lies), 0) + np.append(0, at * lies)
        stop = np.asarray(said(failures - np.arange(failures + 1), np.arange(failures + 1)))
        passed += at[stop].sum()
        at[stop] = 0
    return passed


def test_the_guard_stops_an_arm_that_always_fails_after_a_few_chats() -> None:
    # 7 failures, none in the other: (1.11^7 + 1.2^7 + 1.33^7 + 1.5^7 + 1.67^7 + 1.82^7 + 1.98^7) / 7 = 35.9
    assert evidence_of_more(0, 7) == pytest.approx(35.86, abs=0.01)
    assert evidence_of_more(0, 6) < 20 < evidence_of_more(0, 7)
    assert evidence_of_more(20, 10) < 0.05


def test_a_one_sided_bound_is_closer_than_the_interval() -> None:
    a, b = Moments(100, 0.0, 1.0), Moments(100, 1.0, 1.0)
    # w^2 = .02 x 1.091097 x 2 ln(1 + sqrt(11.9773) / .1) = .02 x 1.091097 x 7.14475
    assert least_difference(a, b) == pytest.approx(1 - math.sqrt(0.02 * 1.091097 * 7.14475), abs=1e-4)
    assert sequence(a, b).low < least_difference(a, b) < 1


def test_chi_square_is_scipys() -> None:
    # scipy 1.17.1, scipy.stats.chi2.sf
    found = [chi_square_tail(x, degrees) for x, degrees in ((6.48, 1), (3, 2), (10, 3), (10, 4), (0, 2), (800, 3))]
    assert found == pytest.approx([0.0109094984, 0.2231301601, 0.0185661355, 0.0404276820, 1, 4.3274708e-173], rel=1e-8)


def test_a_split_unlike_its_weights_is_seen() -> None:
    assert sample_ratio([118, 82], [1, 1]) == pytest.approx(0.011, abs=0.0005)
    assert sample_ratio([900, 100], [0.9, 0.1]) == 1
    assert sample_ratio([50, 50, 110], [1, 1, 1]) < 0.001
    assert sample_ratio([0, 0], [1, 1]) == sample_ratio([7], [1]) == 1


def test_sizes_before_the_start_are_those_of_the_tables() -> None:
    # arcsine: 1,470 355 151 80 48 and, with z = 1.96 and .84, 2,034 453 177 87 where rounded instead of up
    assert [per_arm_for_rates(0.6, 0.6 + more) for more in (0.05, 0.1, 0.15, 0.2, 0.25)] == [1471, 356, 152, 81, 48]
    assert [per_arm_for_change(-less) for less in (0.1, 0.2, 0.3, 0.4)] == [2037, 454, 178, 87]
    assert per_arm_for_change(-0.2, level=0.025) == 550  # three arms: two comparisons


def test_how_much_more_is_needed_is_how_much_more_makes_a_verdict() -> None:
    a, b = Moments(50, 0.0, 1.0), Moments(50, 0.4, 1.0)
    times = times_needed(lambda t: bool(sequence(Moments(50 * t, *a[1:]), Moments(50 * t, *b[1:])).differs))
    assert times is not None

    def told(factor: float) -> bool:
        n = 50 * times * factor
        return bool(sequence(Moments(n, *a[1:]), Moments(n, *b[1:])).differs)

    assert [told(0.999), told(1.001)] == [False, True]
    assert times_needed(lambda _: False) is None


@pytest.mark.parametrize("share", SHARES)
def test_looking_every_ten_chats_calls_equal_arms_different_in_five_of_a_hundred_at_most(share: float) -> None:
    random = np.random.default_rng(1)
    traffic = bench.Traffic.of(random, 2000 if share == 0.5 else 500, 200 if share == 0.5 else 60, share)
    wrong = {outcome.name: bench.false_verdicts(outcome, traffic, random) for outcome in bench.OUTCOMES}

    assert {name: part for name, part in wrong.items() if part > 0.05} == {}
    # and the simulation can tell: a z-test at each look does not keep the promise
    assert bench.false_verdicts_peeking(bench.OUTCOMES[0], traffic, random) > 0.15
    assert max(bench.false_guards(traffic, random)) < 0.05


def test_a_skewed_score_is_known_by_its_skew() -> None:
    # of nine zeros and a one: mean .1, skewness .8 / .3 = 2.667, squared 7.111
    assert enough_for([0] * 9 + [1]) == 178
    assert enough_for([1, 2, 3]) == enough_for([5, 5]) == 0
    random = np.random.default_rng(4)
    traffic = bench.Traffic.of(random, 300, 400)
    assert bench.coverage_of(bench.SKEWED, traffic, random).everywhere < 0.94  # so there is something to warn of


@pytest.mark.parametrize("share", SHARES)
def test_intervals_hold_the_truth_at_all_looks_together(share: float) -> None:
    random = np.random.default_rng(2)
    traffic = bench.Traffic.of(random, 500, 120 if share == 0.5 else 60, share)
    found = {each.name: bench.coverage_of(each, traffic, random) for each in bench.COVERED}
    assert {name: held for name, held in found.items() if min(held) < 0.94} == {}

    # and the simulation can tell: of a truth half a standard deviation away it is held by fewer
    away = bench.COVERED[0]._replace(truth=bench.COVERED[0].truth + 0.5)
    assert bench.coverage_of(away, traffic, random).everywhere < 0.94


@pytest.mark.parametrize("difference", bench.DIFFERENCES, ids=lambda each: each.name)
def test_the_size_said_before_the_start_is_enough(difference: bench.Difference) -> None:
    random, most = np.random.default_rng(3), difference.most
    traffic = bench.Traffic.of(random, 400, bench.EVERY * -(-most // bench.EVERY))
    found = difference.method(traffic, difference.values(traffic, random))
    power = bench.power_of(found.differs, traffic.judged(), traffic)

    assert power.seen > 0.76  # 80 % are meant, and 400 runs are off by 4 % at times
    assert power.mean_n < 0.8 * most
