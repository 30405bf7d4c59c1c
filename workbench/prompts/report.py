"""What an experiment has shown so far, in words that hold however often one looks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from workbench.prompts.assignment import Experiment, shares
from workbench.prompts.outcomes import OUTCOMES, Scale, arms_of, compare, level_of, share_of
from workbench.prompts.statistics import (
    LEAST,
    LEVEL,
    Moments,
    enough_for,
    proportions,
    sample_ratio,
    times_needed,
)
from workbench.wording import mean_dollars

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes

BLOCKS_BELOW = 0.001
"""Sample-ratio p below which no outcome is believed."""
TOO_WIDE = 1e5
"""An interval from which on there is nothing to tell."""
DEAREST = 0.1
"""Part of the chats whose part of the cost is told."""


@dataclass(frozen=True)
class Comparison:
    """An arm against the first, in one outcome."""

    outcome: str
    arm: str
    first: str
    n: tuple[int, int]
    """Chats that could be compared, of the first and of this arm."""
    levels: tuple[float, float]
    effect: float
    low: float
    high: float
    """In ``unit``: per cent of the geometric mean, points, or as the score is counted."""
    times: float | None
    """As much data as there is times this would leave out zero, if all goes on as it went; None: not soon, or not asked."""

    @property
    def unit(self) -> str:
        """Of the effect."""
        return OUTCOMES[self.outcome].unit

    @property
    def comparable(self) -> bool:
        """Whether there is an interval to speak of."""
        return math.isfinite(self.effect) and self.high - self.low < TOO_WIDE

    @property
    def enough(self) -> bool:
        """Whether there are chats enough for a verdict."""
        return min(self.n) >= LEAST

    @property
    def differs(self) -> bool:
        """Whether there are, and the interval leaves out zero."""
        return self.enough and (self.low > 0 or self.high < 0)

    @property
    def better(self) -> bool:
        """Whether the arm differs for the better."""
        return self.differs and (self.effect < 0) == OUTCOMES[self.outcome].less_is_better

    @property
    def in_words(self) -> str:
        """``-31 % [-46, -12]``."""
        if not self.comparable:
            return "too few to compare"
        effect, low, high = spelled((self.effect, self.low, self.high), self.unit)
        return f"{effect}{' ' if self.unit else ''}{self.unit} [{low}, {high}]"


@dataclass(frozen=True)
class Report:
    """What an experiment has shown so far. Intervals hold at every look; only the primary outcome has a verdict.

    ``str(report)`` is text, notebooks show a table, ``report.table`` is a DataFrame, ``report.plot()`` and
    ``report.plot_over_time()`` are figures.
    """

    experiment: Experiment
    counts: Mapping[str, int] = field(hash=False)
    """Units by arm, the first arm first."""
    ratio_p: float
    """How likely such counts are, dealt by their weights."""
    comparisons: tuple[Comparison, ...]
    verdict: str
    """What is known of the primary outcome, in words; a line for each arm but the first."""
    notes: tuple[str, ...]
    """What must be known to read it."""
    units: pd.DataFrame = field(repr=False, hash=False, compare=False)
    synthetic: bool = False
    """Whether nobody had these chats; the plots say so."""

    @property
    def primary(self) -> tuple[Comparison, ...]:
        """The comparisons that decide, one for each arm but the first."""
        return tuple(each for each in self.comparisons if each.outcome == self.experiment.outcome)

    @property
    def split_is_right(self) -> bool:
        """Whether the chats were dealt as they should have been; if not, nothing can be believed."""
        return self.ratio_p >= BLOCKS_BELOW

    @property
    def table(self) -> pd.DataFrame:
        """A row for each outcome and arm: where it stands, and its effect against the first arm.

        ``value`` is the geometric mean (US dollars, milliseconds, tokens), per cent (errors, thumbs up) or the mean score.
        ``effect``, ``low`` and ``high`` are in ``unit``: ``%`` of the geometric mean, ``points`` of per cent, or as the
        score is counted; missing where there are too few to compare. ``chats`` are those that could be compared.
        """
        import pandas as pd  # on use: 0.3 s

        rows = []
        for outcome in dict.fromkeys(each.outcome for each in self.comparisons):
            of = [each for each in self.comparisons if each.outcome == outcome]
            nothing = {"effect": math.nan, "low": math.nan, "high": math.nan}
            rows.append(
                {"outcome": outcome, "arm": of[0].first, "chats": of[0].n[0], "value": of[0].levels[0], **nothing}
            )
            rows += [
                {"outcome": outcome, "arm": each.arm, "chats": each.n[1], "value": each.levels[1]}
                | ({"effect": each.effect, "low": each.low, "high": each.high} if each.comparable else nothing)
                for each in of
            ]
        table = pd.DataFrame(rows, columns=["outcome", "arm", "chats", "value", "effect", "low", "high"])
        return table.assign(
            unit=[OUTCOMES[outcome].unit for outcome in table.outcome], decides=table.outcome == self.experiment.outcome
        )

    @property
    def heading(self) -> str:
        """What is compared, how many chats, and whether they were dealt as they should have been."""
        parts = shares({arm: self.experiment.arms[arm] for arm in self.counts})
        dealt = ", ".join(f"{arm} {n:,} ({parts[arm]:.0%} meant)" for arm, n in self.counts.items())
        fits = "the split is right" if self.split_is_right else "the split is wrong"
        return (
            f"experiment {self.experiment.name} · prompt {self.experiment.prompt} · {self.experiment.unit}s: {dealt}; "
            f"{fits} ({_p(self.ratio_p)})"
        )

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(row[n]) for row in cells) for n in range(len(cells[0]))]
        rows = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([self.heading, self.verdict, "", *rows, "", *self.notes])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head, *rows = self._cells()
        cell = '<td style="text-align:{}">{}</td>'.format
        body = "".join(
            f"<tr>{''.join(cell('left' if n == 0 else 'right', escape(text)) for n, text in enumerate(row))}</tr>"
            for row in rows
        )
        titles = "".join(f"<th>{escape(title)}</th>" for title in head)
        verdict = "<br>".join(escape(line) for line in self.verdict.split("\n"))
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return (
            f"<div><p>{escape(self.heading)}</p><p><strong>{verdict}</strong></p>"
            f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table><ul>{notes}</ul></div>"
        )

    def _cells(self) -> list[list[str]]:
        first, *others = self.counts
        table = [["outcome", first, *(text for arm in others for text in (arm, f"{arm} against {first}"))]]
        for name in dict.fromkeys(each.outcome for each in self.comparisons):
            outcome, of = OUTCOMES[name], [each for each in self.comparisons if each.outcome == name]
            row = [
                f"{name} (decides)" if name == self.experiment.outcome else name,
                outcome.level_in_words(of[0].levels[0]),
            ]
            for each in of:
                row += [outcome.level_in_words(each.levels[1]), each.in_words]
            table.append(row)
        return table

    def plot(self) -> tuple[Axes, ...]:
        """Show every effect with its interval, those in per cent and those in points on axes of their own."""
        from workbench.prompts.report_plots import forest  # on use: matplotlib takes 0.5 s

        return forest(self)

    def plot_over_time(self) -> tuple[Axes, ...]:
        """Show how the interval of the primary outcome formed, look by look; an axes for each arm but the first."""
        from workbench.prompts.report_plots import over_time

        return over_time(self)


def report_of(experiment: Experiment, units: pd.DataFrame) -> Report:
    """Return what an experiment has shown so far.

    Every arm is compared with the first. With k of them the level of each comparison is .05 / (k - 1), so that all
    intervals of an outcome together hold with 95 %. Arms of weight 0 are left out.

    Args:
        experiment: What is compared, and the outcome that decides.
        units: A row for each chat or user that was exposed: ``unit_id, variant, cost_usd, ttft_ms, duration_ms,
            output_tokens, calls, failed, thumb`` (1, -1 or none), ``score, first_exposed_at``.

    Raises:
        InvalidRequest: the primary outcome or an arm is unknown, a unit is there twice, or there are not two arms.
    """
    arms = arms_of(experiment, units)
    by_arm = {arm: units[units.variant == arm] for arm in arms}
    counts = {arm: len(of) for arm, of in by_arm.items()}
    p = sample_ratio(list(counts.values()), list(arms.values()))
    comparisons = tuple(
        each
        for name in sorted(OUTCOMES, key=lambda name: name != experiment.outcome)
        if name == experiment.outcome or units[OUTCOMES[name].column].notna().any()
        for each in _comparisons(name, by_arm, arms, ahead=name == experiment.outcome)
    )
    verdicts = [
        verdict_on(each, experiment, counts, two=len(arms) == 2)
        for each in comparisons
        if each.outcome == experiment.outcome
    ]
    if p < BLOCKS_BELOW:
        verdicts = [_wrong_split(experiment, counts, p)]
    return Report(experiment, counts, p, comparisons, "\n".join(verdicts), _notes(experiment, by_arm), units)


def verdict_on(of: Comparison, experiment: Experiment, counts: Mapping[str, int], two: bool) -> str:
    """Return in words what is known of an arm.

    "v4 is cheaper: -31 % [-46, -12]", "no verdict yet, about 60 more chats per arm (so far -12 % [-35, +18])".
    """
    than = "" if two else f" than {of.first}"
    who = "" if two else f"{of.arm}: "
    if of.differs:
        outcome = OUTCOMES[of.outcome]
        return f"{of.arm} {outcome.less if of.effect < 0 else outcome.more}{than}: {of.in_words}"
    if experiment.stopped_at is not None:
        return f"{who}no verdict; it was stopped with {of.in_words}"
    if not of.enough:
        return f"{who}no verdict yet, {_chats(_missing(of, counts, experiment), experiment, of, 'at least')}"
    if of.times is None:
        return f"{who}no verdict yet, and none in sight: so far {of.in_words}"
    more = (of.times - 1) * sum(counts.values())
    return f"{who}no verdict yet, {_chats(more, experiment, of, 'about')} (so far {of.in_words})"


def spelled(values: tuple[float, ...], unit: str) -> list[str]:
    """Return an effect and its bounds with signs, and digits enough to tell the bounds from zero and each other.

    >>> spelled((-31.2, -46.4, -12.1), "%"), spelled((0.22, -14.2, 12.3), "%"), spelled((-12.2, -24.0, -0.4), "%")
    (['-31', '-46', '-12'], ['0', '-14', '+12'], ['-12.2', '-24.0', '-0.4'])
    >>> spelled((12.3, 2.4, 22.0), "points"), spelled((2.0, 0.04, 5.96), "points"), spelled((0.42, 0.104, 0.7), "")
    (['+12', '+2', '+22'], ['+2.00', '+0.04', '+5.96'], ['+0.42', '+0.10', '+0.70'])
    """
    _, low, high = values
    digits = {"": 2, "points": 1}.get(unit, 0) if max(map(abs, values)) < 10 else 0

    def blurred(digits: int) -> bool:
        lost = any(bound and not round(bound, digits) for bound in (low, high))
        return lost or (low < high and round(low, digits) == round(high, digits))

    while blurred(digits) and digits < 6:
        digits += 1
    return [f"{value:+,.{digits}f}" if round(value, digits) else "0" for value in values]


def _comparisons(
    name: str, by_arm: Mapping[str, pd.DataFrame], arms: Mapping[str, float], ahead: bool
) -> list[Comparison]:
    outcome, (first, *others) = OUTCOMES[name], arms
    values, level = {arm: outcome.values(of) for arm, of in by_arm.items()}, level_of(arms)
    found = []
    for arm in others:
        share = share_of(arm, arms)
        a, b, interval = compare(name, values[first], values[arm], share, level)

        def told(times: float, a: Moments = a, b: Moments = b, share: float = share) -> bool:
            more_a, more_b = a._replace(n=a.n * times), b._replace(n=b.n * times)
            return bool(outcome.compared(more_a, more_b, share, level).differs)

        times = times_needed(told) if ahead and min(a.n, b.n) >= LEAST else None
        levels = (outcome.level(a), outcome.level(b))
        found.append(
            Comparison(
                name,
                arm,
                first,
                (int(a.n), int(b.n)),
                levels,
                float(interval.effect),
                float(interval.low),
                float(interval.high),
                times,
            )
        )
    return found


def _missing(of: Comparison, counts: Mapping[str, int], experiment: Experiment) -> float:
    """Chats in all until 30 of both arms can be compared; of an arm in which one in three can, three times as many."""
    parts = shares(experiment.arms)
    arms = zip((of.first, of.arm), of.n, strict=True)
    return max((LEAST - n) * max(1.0, counts[arm] / n if n else 1.0) / parts[arm] for arm, n in arms)


def _chats(in_all: float, experiment: Experiment, of: Comparison, about: str) -> str:
    """``about 60 more chats per arm``; where arms differ in size, in all."""
    parts = shares(experiment.arms)
    equal = math.isclose(parts[of.first], parts[of.arm])
    number = math.ceil(round(in_all * parts[of.arm] if equal else in_all, 6))
    if about == "about":
        size = 10 ** max(1, len(str(number)) - 2)  # more digits would pretend to know
        number = math.ceil(number / size) * size
    return f"{about} {number:,} more {experiment.unit}{'s' if number != 1 else ''} {'per arm' if equal else 'in all'}"


def _wrong_split(experiment: Experiment, counts: Mapping[str, int], p: float) -> str:
    got = " and ".join(f"{n:,} of {arm}" for arm, n in counts.items())
    return (
        f"no verdict: {got} are not the split that was set ({_p(p)}), so the arms are not alike; "
        f"look for what loses or repeats {experiment.unit}s of one arm"
    )


def _notes(experiment: Experiment, by_arm: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    """What must be known to read the report."""
    notes = [f"Only {experiment.outcome} decides; the other outcomes show what else changed, and have no verdict."]
    notes.append("Intervals hold with 95 % at all looks together, however often one looks.")
    if len(by_arm) > 2:
        notes.append(f"{len(by_arm) - 1} arms are compared with the first, each at a level of {level_of(by_arm):.3g}.")
    notes += filter(None, (_mean_cost(by_arm), _rated(experiment.unit, by_arm)))
    notes += _left_out(by_arm)
    notes += filter(None, (_skewed(by_arm),))
    if experiment.stopped_at is not None:
        why = f": {experiment.stop_reason}" if experiment.stop_reason else ""
        notes.append(f"Stopped {experiment.stopped_at:%Y-%m-%d %H:%M}{why}.")
    return tuple(notes)


def _mean_cost(by_arm: Mapping[str, pd.DataFrame]) -> str:
    costs = {arm: of.cost_usd.dropna().to_numpy(float) for arm, of in by_arm.items()}
    everything = np.sort(np.concatenate(list(costs.values())))[::-1]
    if not everything.sum():
        return ""
    means = ", ".join(f"{arm} {mean_dollars(of.mean())}" for arm, of in costs.items() if len(of))
    part = everything[: math.ceil(DEAREST * len(everything))].sum() / everything.sum()
    return f"Mean cost: {means}. Totals are driven by the tail (a tenth of all makes {part:.0%}), so there is no verdict on them."


def _rated(unit: str, by_arm: Mapping[str, pd.DataFrame]) -> str:
    """How many were rated, by arm: thumbs are not missing at random."""
    rated = {arm: (int(of.thumb.notna().sum()), len(of)) for arm, of in by_arm.items()}
    if not sum(n for n, _ in rated.values()):
        return ""
    told = ", ".join(f"{n / of if of else 0:.0%} of {arm}'s" for arm, (n, of) in rated.items())
    warning = (
        "; more of one arm, so beware: thumbs may speak for other people in each"
        if _uneven(list(rated.values()))
        else ""
    )
    return f"Rated {unit}s: {told}{warning}."


def _left_out(by_arm: Mapping[str, pd.DataFrame]) -> list[str]:
    """How many have no logarithm, by arm; outcomes of which that is said alike in one sentence."""
    told: dict[str, list[str]] = {}
    for name, outcome in OUTCOMES.items():
        left = {arm: (len(of) - len(outcome.values(of)), len(of)) for arm, of in by_arm.items()}
        if (
            outcome.scale is not Scale.LOG
            or not any(n for n, _ in left.values())
            or all(n == of for n, of in left.values())
        ):
            continue
        counts = ", ".join(f"{n:,} of {arm}" for arm, (n, _) in left.items())
        beware = "; more of one arm, so beware: those that are compared are not alike"
        told.setdefault(f"{counts}{beware if _uneven(list(left.values())) else ''}", []).append(name)
    return [f"Without {', '.join(names)} and left out of it (unknown or 0): {which}." for which, names in told.items()]


def _skewed(by_arm: Mapping[str, pd.DataFrame]) -> str:
    scores = [OUTCOMES["score"].values(of) for of in by_arm.values()]
    needed = max((enough_for(of) for of in scores if len(of)), default=0)
    if needed <= min(map(len, scores)):
        return ""
    return (
        f"Scores are skewed: with fewer than about {needed:,} per arm their interval may hold less often than 95 %; "
        "the logarithm of such a score is safer."
    )


def _uneven(parts: list[tuple[int, int]]) -> bool:
    """Whether a part of an arm's chats is not that of the first, and not by chance."""
    (hits, n), *others = parts
    return any(proportions(hits, n, *other, LEVEL / len(others)).differs for other in others)


def _p(p: float) -> str:
    return "p < .001" if p < 0.001 else f"p = {p:.2g}".replace("0.", ".")
