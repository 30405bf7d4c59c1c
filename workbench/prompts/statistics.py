"""Statistics of experiments that hold at every look, however often one looks and whenever one stops.

Counts, means and the like may be numbers, or arrays of them: the simulations of ``tests/bench/experiments.py`` run the
same lines as a report. Effects are always the second arm's minus the first's.

scipy is not needed: of it the tail of chi square would be used, which is six lines here, and it is 140 MB and 1.4 s to
import. Tests compare with figures of scipy 1.17.

Sources:
    [WS] Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, Time-uniform central limit theory and asymptotic confidence
        sequences, Annals of Statistics 52 (2024), arXiv:2103.06476.
    [H] Howard, Ramdas, McAuliffe, Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences, Annals of
        Statistics 49 (2021), arXiv:1810.08240.
    [JT] Jennison, Turnbull, Group sequential methods (2000), chapter 11.
    [R] Robbins, Statistical methods related to the law of the iterated logarithm, Annals of Mathematical Statistics 41
        (1970); Ville, Étude critique de la notion de collectif (1939).
    [C] Cohen, Statistical power analysis for the behavioral sciences (1988), chapter 6.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Floats = Any
    """A float or an array of them."""

LEVEL = 0.05
"""Chance of a verdict where there is no difference, over all looks together."""
LEAST = 30
"""Units per arm before which there is no verdict."""
TUNED_TO = 80
"""Units per arm at which the sequence is narrowest."""
LEAST_VARIANCE = 0.025
"""Of a proportion, per arm; where hardly anything has happened yet, less would be known than it seems."""
PRIOR = 4.0
"""Weight, in events, of the belief that both arms fail alike."""
RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 100.0)
"""How many times as often as allowed an arm may fail, as far as the guard is on the lookout."""
MOST_TIMES = 64.0
"""As much data again as is asked for at most."""


class Interval(NamedTuple):
    """An effect, and what holds it with 95 % at all looks together."""

    effect: Floats
    low: Floats
    high: Floats

    @property
    def differs(self) -> Floats:
        """Whether it leaves out zero."""
        return (self.low > 0) | (self.high < 0)


class Moments(NamedTuple):
    """Of the values of an arm."""

    n: Floats
    mean: Floats
    variance: Floats
    """Unbiased."""

    @classmethod
    def of(cls, values: Any) -> Moments:
        """Return those of some values."""
        values = np.asarray(values, float)
        n = len(values)
        return cls(n, values.mean() if n else math.nan, values.var(ddof=1) if n > 1 else math.nan)


def sample_ratio(counts: Sequence[int], weights: Sequence[float]) -> float:
    """Return how likely counts at least so far from their weights are by chance: chi square's tail.

    ``x = sum((count - expected)^2 / expected)`` with one degree of freedom less than there are arms. Below .001 something
    other than chance dealt the chats, and no outcome can be believed. It is made for one look; by simulation, looking 40
    times it is passed by chance in less than 1 % of experiments.

    >>> round(sample_ratio([118, 82], [0.5, 0.5]), 3)
    0.011

    Source: Fabijan et al., Diagnosing sample ratio mismatch in online controlled experiments, KDD 2019.
    """
    total, expected = sum(counts), np.asarray(weights) / sum(weights)
    if not total or len(counts) < 2:
        return 1.0
    return chi_square_tail(
        float(((np.asarray(counts) - total * expected) ** 2 / (total * expected)).sum()), len(counts) - 1
    )


def chi_square_tail(x: float, degrees: int) -> float:
    """Return the chance that chi square exceeds x: ``Q(degrees / 2, x / 2)``, a finite sum.

    Source: Abramowitz, Stegun, Handbook of mathematical functions (1964), 26.4.4 and 26.4.5.
    """
    odd = degrees % 2
    start = math.erfc(math.sqrt(x / 2)) if odd else 0.0
    terms = (math.exp(k * math.log(x / 2) - x / 2 - math.lgamma(k + 1)) for k in np.arange(odd / 2, degrees / 2))
    return min(1.0, start + sum(terms)) if x > 0 else 1.0


def sequence(a: Moments, b: Moments, level: float = LEVEL) -> Interval:
    """Return the difference of two means with an interval that holds at every look.

    ``half width = sqrt(V (1 + 1/m) 2 ln(sqrt(1 + m) / level))``: the asymptotic confidence sequence of [WS],
    whose t is the information ``1/V``. ``m = h r``, with h the harmonic mean of the two n, and ``r = (-2 ln level +
    ln(-2 ln level) + 1) / 80`` makes it narrowest at 80 per arm ([WS]). Means of growing arms have independent
    increments on the scale of their information, whatever the sizes of the arms ([JT]): so arms may differ in size, and
    with n each it is the usual one.

    V is the larger of ``variance_a / n_a + variance_b / n_b`` and the same with both variances pooled. With equal arms they
    are the same; with 30 against 270 the first alone knows too little of the small arm's spread, and says "different" too
    often.

    It is asymptotic: the promise for small arms is what the simulations show, not a proof. Of values as skewed as dollars
    (lognormal, 1.2) in one arm, and of even ones in the other, it held the truth at all looks in 86 % only: compare their
    logarithms. ``enough_for`` tells when skew matters.
    """
    a, b = Moments(*_arrays(*a)), Moments(*_arrays(*b))
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = ((a.n - 1) * a.variance + (b.n - 1) * b.variance) / (a.n + b.n - 2)
        variance = np.maximum(a.variance / a.n + b.variance / b.n, pooled * (1 / a.n + 1 / b.n))
        half = np.sqrt(variance) * _boundary(a.n, b.n, level)
        enough = (a.n > 1) & (b.n > 1)
    effect = (b.mean - a.mean)[()]
    low, high = (
        np.where(enough, bound, nothing)[()]
        for bound, nothing in ((effect - half, -math.inf), (effect + half, math.inf))
    )
    return Interval(effect, low, high)


def enough_for(values: Any) -> int:
    """Return how many values of an arm make its mean as good as normal, for their skew: Cochran's ``25 skewness^2``.

    Source: Cochran, Sampling techniques (1977), chapter 2, on the normal approximation.
    """
    from_mean = np.asarray(values, float) - np.mean(values)
    spread = float(np.sqrt(np.mean(from_mean**2)))
    return round(25 * float(np.mean((from_mean / spread) ** 3)) ** 2) if spread else 0


def proportions(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats, level: float = LEVEL) -> Interval:
    """Return the difference of two proportions with an interval that holds at every look.

    The sequence of ``sequence``, with ``p (1 - p)``, ``p = (hits + 1) / (n + 2)``, for the variance of an arm, and at least
    .025: an arm in which nothing has happened yet is not one without spread. By simulation it is wrong in 2 % of A/A
    experiments or less from p = .05 to .95. Where almost nothing ever happens it sees little: ``events`` is for that.

    Wilson's and Newcombe's intervals hold at one look, and shown beside a verdict they could contradict it. A Beta-Binomial
    Bayes factor above 20 says "different" about as rarely and sees a little less (60 % beside 65 % of +15 points with 200
    per arm), and has no interval.
    """
    hits_a, n_a, hits_b, n_b = _arrays(hits_a, n_a, hits_b, n_b)
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b, pooled = (
            np.maximum(p * (1 - p), LEAST_VARIANCE)
            for p in ((hits_a + 1) / (n_a + 2), (hits_b + 1) / (n_b + 2), (hits_a + hits_b + 1) / (n_a + n_b + 2))
        )
        variance = np.maximum(a / n_a + b / n_b, pooled * (1 / n_a + 1 / n_b))
        half = np.where((n_a > 0) & (n_b > 0), np.sqrt(variance) * _boundary(n_a, n_b, level), math.inf)[()]
        effect = (hits_b / n_b - hits_a / n_a)[()]
    return Interval(effect, np.fmax(effect - half, -1.0), np.fmin(effect + half, 1.0))


def events(
    hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats, share_b: float = 0.5, level: float = LEVEL
) -> Interval:
    """Return the difference of two rates of rare events with an interval that is exact at every look.

    Chats are dealt by chance, ``share_b`` of them to the second arm. So if both arms fail alike, each failure lies in the
    second one with the chance ``q = share_b``, whatever the rate: one simple hypothesis, and no assumption on the rate. In
    general ``q = w p_b / (w p_b + (1 - w) p_a)``, w for ``share_b``, so

    ``p_b - p_a = rate (q - w) / (w (1 - w))``, ``rate = (1 - w) p_a + w p_b``.

    q and the rate each get a confidence sequence of [R]: those values at which the Beta-Binomial likelihood ratio ``B(hits +
    x, misses + y) / B(x, y) / (q^hits (1 - q)^misses)`` is below 1 / level, for which Ville's inequality holds for any number
    of events. q gets 4/5 of the level (Beta(4 w, 4 (1 - w))), the rate 1/5 (Beta(1/2, 1/2)). Zero is left out just if q's
    sequence leaves out w.
    """
    hits_a, n_a, hits_b, n_b = _arrays(hits_a, n_a, hits_b, n_b)
    hits, n = hits_a + hits_b, n_a + n_b
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = hits_b / n_b - hits_a / n_a
    q = _beta_binomial(hits_b, hits_a, PRIOR * share_b, PRIOR * (1 - share_b), 0.8 * level)
    rate = _beta_binomial(hits, n - hits, 0.5, 0.5, 0.2 * level)
    low, high = ((bound - share_b) / (share_b * (1 - share_b)) for bound in q)
    low, high = (np.where(bound < 0, rate[1 - at], rate[at]) * bound for at, bound in enumerate((low, high)))
    # chats seen may be dealt a little unlike the weights, and then the plain difference may lie outside
    low, high = np.fmin(np.maximum(low, -1.0), effect), np.fmax(np.minimum(high, 1.0), effect)
    return Interval(effect[()], low[()], high[()])


def least_difference(a: Moments, b: Moments, level: float = LEVEL) -> Floats:
    """Return what the second mean exceeds the first by at least, at every look: one-sided, for guards.

    As ``sequence``, with the boundary ``2 ln(1 + sqrt(1 + m) / (2 level))`` of a normal mixture over positive effects only
    ([H], [WS]).
    """
    two_sided, doubled = sequence(a, b, level), 2 * level
    m = _harmonic(a.n, b.n) * _tuning(level)
    shrunk = np.sqrt(np.log1p(np.sqrt(1 + m) / doubled) / np.log(np.sqrt(1 + m) / level))
    return two_sided.effect - (two_sided.effect - two_sided.low) * shrunk


def evidence_of_more(hits_a: Floats, hits_b: Floats, share_b: float = 0.5, ratio: float = 1.0) -> Floats:
    """Return the evidence that the second arm fails more than ``ratio`` times as often as the first: one-sided, for guards.

    The mean of the likelihood ratios of 1.25, 1.5, 2, 3, 5, 10 and 100 times that ratio against it, failures lying in one arm
    or the other as in ``events``. While the arm fails no more often, it exceeds 20 at any look in 5 % of experiments at
    most (Ville, [R]): exact, from the first failure on.
    """
    hits_a, hits_b = _arrays(hits_a, hits_b)
    allowed = share_b * ratio / (share_b * ratio + 1 - share_b)
    odds = [share_b * ratio * times / (share_b * ratio * times + 1 - share_b) for times in RATIOS]
    logs = [hits_b * math.log(q / allowed) + hits_a * math.log((1 - q) / (1 - allowed)) for q in odds]
    return (np.exp(np.minimum(logs, 700)).sum(0) / len(RATIOS))[()]


def per_arm_for_rates(before: float, after: float, power: float = 0.8, level: float = LEVEL) -> int:
    """Return how many units per arm show a proportion to have changed, when looked at once, at the end.

    ``n = 2 ((z(1 - level/2) + z(power)) / h)^2``, ``h = 2 asin sqrt(after) - 2 asin sqrt(before)`` ([C]).

    >>> [per_arm_for_rates(0.6, after) for after in (0.7, 0.8)]
    [356, 81]
    """
    effect = 2 * math.asin(math.sqrt(after)) - 2 * math.asin(math.sqrt(before))
    return math.ceil(2 * (_both(power, level) / effect) ** 2)


def per_arm_for_change(change: float, spread: float = 1.2, power: float = 0.8, level: float = LEVEL) -> int:
    """Return how many units per arm show a geometric mean to have changed by a part, when looked at once, at the end.

    ``n = 2 (spread (z(1 - level/2) + z(power)) / ln(1 + change))^2``.

    Args:
        change: -0.2 is 20 % less.
        spread: Standard deviation of the logarithms; 1.2 is usual of the cost of chats.
        power: Chance to see it.
        level: Chance to see what is not there.

    >>> [per_arm_for_change(change) for change in (-0.2, -0.4)]
    [454, 87]
    """
    return math.ceil(2 * (spread * _both(power, level) / math.log1p(change)) ** 2)


def per_arm_for_events(before: float, after: float, power: float = 0.8, level: float = LEVEL) -> int:
    """Return the same where only the failures are compared, as ``events`` does: a little more, where they are not rare.

    ``n = (z(1 - level/2) + z(power))^2 (1/before + 1/after) / ln(after / before)^2``: the logarithm of a ratio of two counts
    has the variance ``1/(n before) + 1/(n after)``.

    >>> [per_arm_for_events(before, 2 * before) for before in (0.02, 0.2)], per_arm_for_rates(0.2, 0.4)
    ([1226, 123], 81)
    """
    return math.ceil(_both(power, level) ** 2 * (1 / before + 1 / after) / math.log(after / before) ** 2)


def with_looks(fixed: int, power: float = 0.8, level: float = LEVEL) -> int:
    """Return how many units per arm the sequence needs at most for what ``fixed`` of them show when looked at once.

    The least n with ``effect >= half width + z(power) standard errors``. Mostly the verdict comes sooner.

    >>> with_looks(80), with_looks(356)
    (156, 759)
    """

    def enough(times: float) -> bool:
        n = fixed * times
        return bool(math.sqrt(times) * _both(power, level) >= _boundary(n, n, level) + NormalDist().inv_cdf(power))

    return math.ceil(fixed * (times_needed(enough) or math.inf))


def times_needed(decided: Callable[[float], bool]) -> float | None:
    """Return how many times the data there is makes a verdict, if all goes on as it went; None: 64 times do not."""
    low, high = 1.0, 2.0
    while not decided(high):
        low, high = high, 2 * high
        if high > MOST_TIMES:
            return None
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def _arrays(*numbers: Floats) -> list[Floats]:
    return [np.asarray(each, float) for each in numbers]


def _both(power: float, level: float) -> float:
    return NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(power)


def _harmonic(n_a: Floats, n_b: Floats) -> Floats:
    return 2 / (1 / n_a + 1 / n_b)


def _tuning(level: float) -> float:
    return (-2 * math.log(level) + math.log(-2 * math.log(level)) + 1) / TUNED_TO


def _boundary(n_a: Floats, n_b: Floats, level: float) -> Floats:
    """Standard errors beyond which an effect is not zero."""
    m = _harmonic(n_a, n_b) * _tuning(level)
    return np.sqrt((1 + 1 / m) * 2 * np.log(np.sqrt(1 + m) / level))


_log_gamma = np.vectorize(math.lgamma, otypes=[float])


def _log_beta(x: Floats, y: Floats) -> Floats:
    return _log_gamma(x) + _log_gamma(y) - _log_gamma(x + y)


def _beta_binomial(hits: Floats, misses: Floats, x: float, y: float, level: float) -> tuple[Floats, Floats]:
    """Where the likelihood ratio of a Beta(x, y) mixture against a chance is below 1 / level, found by halving."""
    mixture = _log_beta(hits + x, misses + y) - _log_beta(np.float64(x), np.float64(y)) + math.log(level)
    with np.errstate(divide="ignore", invalid="ignore"):
        likeliest = np.where(hits + misses > 0, hits / (hits + misses), x / (x + y))
        bounds = []
        for outer in (0.0, 1.0):
            inside, outside = likeliest, np.full_like(likeliest, outer)
            for _ in range(40):
                middle = (inside + outside) / 2
                likely = hits * np.log(middle) + misses * np.log1p(-middle) > mixture
                inside, outside = np.where(likely, middle, inside), np.where(likely, outside, middle)
            bounds.append(outside)
    return bounds[0], bounds[1]
