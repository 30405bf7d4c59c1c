"""Whether the statistics of experiments keep their promises, by simulation: what a report says at every look.

Chats are dealt by chance, as by ``arm_of``, and looked at after every 10 per arm (of the smaller arm, where arms differ).
A/A: how often two arms that are the same are called different at any look. Power: how often a difference is seen, after how
many chats per arm, beside a z-test that is looked at once (fixed horizon) and one that is stopped at the first p < .05
(peeking). Coverage: how often the interval holds the truth at all looks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workbench.prompts.statistics import (
    LEAST,
    Interval,
    Moments,
    events,
    evidence_of_more,
    least_difference,
    per_arm_for_change,
    per_arm_for_events,
    per_arm_for_rates,
    proportions,
    sample_ratio,
    sequence,
    with_looks,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]
    Draw = Callable[[np.random.Generator, tuple[int, int]], Array]

RUNS = 2000
EVERY = 10
"""Chats per arm between two looks."""
SEED = 2026
SIGMA = 1.2
"""Of the logarithm of what a chat costs."""


@dataclass(frozen=True)
class Traffic:
    """Experiments side by side, a row each: which of its chats went to the second arm."""

    second: Array
    share: float
    per_look: int

    @classmethod
    def of(cls, random: np.random.Generator, runs: int, per_arm: int, share: float = 0.5) -> Traffic:
        """Deal until the smaller arm has about so many chats."""
        per_look = round(EVERY / min(share, 1 - share))
        return cls(random.random((runs, per_look * (per_arm // EVERY))) < share, share, per_look)

    def at_looks(self, values: Any) -> tuple[Array, Array]:
        """Sums of each arm up to each look."""
        return self._sums(np.where(self.second, 0, values)), self._sums(np.where(self.second, values, 0))

    def _sums(self, values: Array) -> Array:
        runs, chats = values.shape
        return values.reshape(runs, chats // self.per_look, self.per_look).sum(2, dtype=float).cumsum(1)

    def moments(self, values: Array) -> tuple[Moments, Moments]:
        """Of each arm at each look."""
        both = []
        for n, total, squares in zip(self.at_looks(1), self.at_looks(values), self.at_looks(values**2), strict=True):
            n = np.maximum(n, 1)
            spread = np.maximum(squares - total**2 / n, 0) / np.maximum(n - 1, 1)
            both.append(Moments(n, total / n, spread))
        return both[0], both[1]

    def judged(self) -> Array:
        """Whether each look has chats enough in both arms for a verdict."""
        return np.minimum(*self.at_looks(1)) >= LEAST


def by_sequence(traffic: Traffic, values: Array) -> Interval:
    """Means, as of score and of the logarithms of cost, duration and tokens."""
    return sequence(*traffic.moments(values))


def by_proportions(traffic: Traffic, values: Array) -> Interval:
    """Thumbs."""
    (n_a, n_b), (hits_a, hits_b) = traffic.at_looks(1), traffic.at_looks(values)
    return proportions(hits_a, n_a, hits_b, n_b)


def by_events(traffic: Traffic, values: Array) -> Interval:
    """Errors."""
    (n_a, n_b), (hits_a, hits_b) = traffic.at_looks(1), traffic.at_looks(values)
    return events(hits_a, n_a, hits_b, n_b, traffic.share)


def by_peeking(traffic: Traffic, values: Array) -> Array:
    """Whether a z-test says p < .05, look by look."""
    a, b = traffic.moments(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(b.mean - a.mean) / np.sqrt(a.variance / a.n + b.variance / b.n) > 1.96


def normal(mean: float = 0.0, spread: float = 1.0) -> Draw:
    """Logarithms of what is lognormal, or a score."""
    return lambda random, shape: random.normal(mean, spread, shape)


def chance(p: float) -> Draw:
    """Thumbs up, or chats with a failed call."""
    return lambda random, shape: (random.random(shape) < p).astype(float)


def tokens(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Logarithms of whole tokens, some replies cut off at 4,096."""
    return np.log(np.clip(np.ceil(random.lognormal(6, 1.3, shape)), 1, 4096))


def two_kinds(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Logarithms of costs of short chats and, one in ten, of very long ones."""
    return random.normal(0, 0.7, shape) + 4 * (random.random(shape) < 0.1)


def stars(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """A score of 1 to 5, most of them 5."""
    return random.choice(np.arange(1.0, 6.0), shape, p=[0.03, 0.02, 0.05, 0.2, 0.7])


class Outcome(NamedTuple):
    """How an outcome is drawn where nothing differs, and the method that judges it."""

    name: str
    draw: Draw
    method: Callable[[Traffic, Array], Interval]


OUTCOMES = (
    Outcome("cost", normal(spread=SIGMA), by_sequence),
    Outcome("cost, two kinds of chats", two_kinds, by_sequence),
    Outcome("ttft", normal(spread=0.6), by_sequence),
    Outcome("output tokens", tokens, by_sequence),
    *(Outcome(f"errors, p = {p:g}", chance(p), by_events) for p in (0.005, 0.01, 0.05, 0.2)),
    *(Outcome(f"thumbs, p = {p:g}", chance(p), by_proportions) for p in (0.05, 0.2, 0.5, 0.8, 0.95)),
    Outcome("score, normal", normal(), by_sequence),
    Outcome("score, 1 to 5", stars, by_sequence),
    Outcome("score, 0 or 1, p = .02", chance(0.02), by_sequence),
    Outcome("score, lognormal", lambda random, shape: random.lognormal(0, SIGMA, shape), by_sequence),
)
SPLITS = (0.5, 0.1, 0.9)
"""The second arm's share."""


def false_verdicts(outcome: Outcome, traffic: Traffic, random: np.random.Generator) -> float:
    """Return in which part of A/A experiments any look says "different"."""
    found = outcome.method(traffic, outcome.draw(random, traffic.second.shape))
    return float((found.differs & traffic.judged()).any(1).mean())


def false_verdicts_peeking(outcome: Outcome, traffic: Traffic, random: np.random.Generator) -> float:
    """Return the same of a z-test at every look."""
    return float(by_peeking(traffic, outcome.draw(random, traffic.second.shape)).any(1).mean())


class Difference(NamedTuple):
    """An A/B experiment: how each arm is drawn, and how many chats per arm a test at a fixed horizon needs."""

    name: str
    first: Draw
    second: Draw
    method: Callable[[Traffic, Array], Interval]
    fixed: int
    truth: float
    by_failures: int = 0
    """What a test of the failures alone needs, where that is how we judge."""

    @property
    def most(self) -> int:
        """How many chats per arm are said to be enough, before the start."""
        return with_looks(self.by_failures or self.fixed)

    def values(self, traffic: Traffic, random: np.random.Generator) -> Array:
        """Draw what happened to every chat."""
        shape = traffic.second.shape
        return np.where(traffic.second, self.second(random, shape), self.first(random, shape))


def rates(kind: str, before: float, after: float, method: Callable[[Traffic, Array], Interval]) -> Difference:
    """Two rates of the arms."""
    name = f"{kind} {before:.0%} to {after:.0%}"
    fixed, counted = per_arm_for_rates(before, after), per_arm_for_events(before, after)
    difference = Difference(name, chance(before), chance(after), method, fixed, after - before)
    return difference._replace(by_failures=counted) if method is by_events else difference


def cheaper(change: float) -> Difference:
    """Costs less by so much."""
    log, fixed = np.log1p(change), per_arm_for_change(change, SIGMA)
    return Difference(f"cost {change:.0%}", normal(0, SIGMA), normal(log, SIGMA), by_sequence, fixed, log)


DIFFERENCES = (
    cheaper(-0.2),
    cheaper(-0.39),
    rates("thumbs", 0.6, 0.75, by_proportions),
    rates("thumbs", 0.6, 0.85, by_proportions),
    rates("errors", 0.01, 0.03, by_events),
    rates("errors", 0.05, 0.15, by_events),
    rates("errors", 0.2, 0.4, by_events),
    Difference("score +0.3 sd", normal(), normal(0.3), by_sequence, 175, 0.3),
)


class Power(NamedTuple):
    """Of a method: the part of experiments in which it saw the difference, and mean chats per arm when it stopped."""

    seen: float
    mean_n: float


def power_of(said: Array, least: Array, traffic: Traffic) -> Power:
    """Return how often one of the looks at which a verdict may be given says "different", and when."""
    said = said & least
    seen, looks = said.any(1), said.shape[1]
    stopped = np.where(seen, said.argmax(1) + 1, looks)
    return Power(float(seen.mean()), float(stopped.mean() * traffic.per_look * min(traffic.share, 1 - traffic.share)))


class Coverage(NamedTuple):
    """Parts of experiments whose interval holds the truth: at all looks together, and when the smaller arm has 40."""

    everywhere: float
    at_40: float


def coverage_of(difference: Difference, traffic: Traffic, random: np.random.Generator) -> Coverage:
    """Return how often the interval of a difference holds it."""
    found = difference.method(traffic, difference.values(traffic, random))
    holds = (found.low <= difference.truth) & (difference.truth <= found.high)
    return Coverage(float((holds | ~traffic.judged()).all(1).mean()), float(holds[:, 3].mean()))


COVERED = (
    Difference(
        "cost -39 %, spread 1.2 and 0.8", normal(0, SIGMA), normal(np.log(0.61), 0.8), by_sequence, 0, np.log(0.61)
    ),
    Difference(
        "cost +60 %, spread 0.8 and 1.2", normal(0, 0.8), normal(np.log(1.6), SIGMA), by_sequence, 0, np.log(1.6)
    ),
    rates("thumbs", 0.6, 0.75, by_proportions),
    rates("thumbs", 0.9, 0.98, by_proportions),
    rates("errors", 0.01, 0.05, by_events),
    rates("errors", 0.1, 0.3, by_events),
    Difference("score +0.3, spread 1 and 2", normal(), normal(0.3, 2), by_sequence, 0, 0.3),
)


SKEWED = Difference(
    "",
    lambda random, shape: random.lognormal(0, SIGMA, shape),
    normal(float(np.exp(SIGMA**2 / 2)), 0.5),
    by_sequence,
    0,
    0,
)
"""A score as skewed as dollars, in one arm only: of this the report warns."""


def false_guards(traffic: Traffic, random: np.random.Generator) -> tuple[float, float]:
    """Return how often guards stop an arm that is as good as the first: for errors (p = .02), for cost."""
    errors = evidence_of_more(*traffic.at_looks(chance(0.02)(random, traffic.second.shape)), traffic.share)
    dearer = least_difference(*traffic.moments(normal(0, SIGMA)(random, traffic.second.shape)))
    return float((errors > 20).any(1).mean()), float(((dearer > 0) & traffic.judged()).any(1).mean())


def false_alarms(traffic: Traffic) -> float:
    """Return how often the sample-ratio check blocks an experiment whose chats were dealt by their weights."""
    first, second = traffic.at_looks(1)
    weights = (1 - traffic.share, traffic.share)
    unlikely = [
        [sample_ratio(n, weights) < 0.001 for n in zip(*run, strict=True)]
        for run in zip(first[:1000], second[:1000], strict=True)
    ]
    return float(np.any(unlikely, axis=1).mean())


def main() -> None:
    """Print the tables."""
    began, random = time.perf_counter(), np.random.default_rng(SEED)
    print(f"{RUNS} runs each, a look after every {EVERY} chats per arm\n")
    worst = print_false_verdicts(random)
    print_power(random)
    least = print_coverage(random)
    traffic = Traffic.of(random, RUNS, 400)
    print(
        "\nguards that stop an arm as good as the first: errors {:.1%}, cost {:.1%}".format(
            *false_guards(traffic, random)
        )
    )
    print(f"sample-ratio checks that block a fair experiment, 40 looks: {false_alarms(traffic):.1%}")
    print(
        f"coverage of a score as skewed as dollars in one arm: {coverage_of(SKEWED, traffic, random).everywhere:.1%} (warned of)"
    )
    print(f"worst A/A {worst:.1%} (goal: at most 5 %), least coverage {least:.1%} (goal: at least 94 %)")
    print(f"{time.perf_counter() - began:.0f} s")


def print_false_verdicts(random: np.random.Generator) -> float:
    """Print how often A/A is called different, for every outcome and split; return the worst."""
    print(
        f"{'A/A called different':27}"
        + "".join(f"{1 - share:>9.0%}/{share:.0%}" for share in SPLITS)
        + f"{'z, peeking':>13}"
    )
    dealt = [Traffic.of(random, RUNS, 400 if share == 0.5 else 150, share) for share in SPLITS]
    worst = 0.0
    for outcome in OUTCOMES:
        found = [false_verdicts(outcome, traffic, random) for traffic in dealt]
        peeking = false_verdicts_peeking(outcome, dealt[0], random)
        print(f"{outcome.name:27}" + "".join(f"{each:13.1%}" for each in found) + f"{peeking:13.1%}", flush=True)
        worst = max(worst, *found)
    return worst


def print_power(random: np.random.Generator) -> None:
    """Print power and mean chats per arm: any look up to the n said before the start, fixed horizon, peeking."""
    print(f"\n{'power, mean n per arm':20}{'any look, at most n':>24}{'fixed horizon':>20}{'z, peeking':>18}")
    for difference in DIFFERENCES:
        most = difference.most
        traffic = Traffic.of(random, RUNS, EVERY * -(-most // EVERY))
        values = difference.values(traffic, random)
        ours = power_of(difference.method(traffic, values).differs, traffic.judged(), traffic)
        tested, always = by_peeking(traffic, values), np.ones_like(traffic.judged())
        peeking, once = power_of(tested, always, traffic), tested[:, -(-difference.fixed // EVERY) - 1].mean()
        print(
            f"{difference.name:20}{ours.seen:9.1%} {ours.mean_n:5.0f} of {most:5}{once:13.1%} {difference.fixed:5}"
            f"{peeking.seen:12.1%} {peeking.mean_n:5.0f}",
            flush=True,
        )


def print_coverage(random: np.random.Generator) -> float:
    """Print how often intervals hold the truth at all looks (and when the smaller arm has 40); return the least."""
    print(f"\n{'coverage, all looks (40)':32}" + "".join(f"{1 - share:>14.0%}/{share:.0%}" for share in SPLITS))
    dealt = [Traffic.of(random, RUNS, 400 if share == 0.5 else 150, share) for share in SPLITS]
    least = 1.0
    for difference in COVERED:
        found = [coverage_of(difference, traffic, random) for traffic in dealt]
        print(
            f"{difference.name:32}" + "".join(f"{f'{each.everywhere:.1%} ({each.at_40:.1%})':>18}" for each in found),
            flush=True,
        )
        least = min(least, *(each.everywhere for each in found))
    return least


if __name__ == "__main__":
    main()
