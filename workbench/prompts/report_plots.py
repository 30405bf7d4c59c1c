"""Plots of the report of an experiment."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from workbench.drawing import AS_TEXT, GREY, INK, LOSS, SAVING, figure, head
from workbench.errors import InvalidRequest
from workbench.prompts.assignment import shares
from workbench.prompts.outcomes import OUTCOMES, compare, level_of, share_of
from workbench.prompts.statistics import LEAST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.prompts.report import Comparison, Report

UNITS = {"%": "% of the geometric mean", "points": "points of per cent", "": "score"}
WIDE = 150.0
"""Per cent beyond which an interval ends in an arrow, unless effects are as large."""
ROW_INCHES, HEAD_INCHES = 0.46, 0.95
LOOKS = 80


def forest(report: Report) -> tuple[Axes, ...]:
    """Show every effect against the first arm with its interval: an axes for each unit, that of the primary one first."""
    panels = _panels(report)
    heights = [HEAD_INCHES + ROW_INCHES * len(rows) for _, rows in panels]
    _, axes = figure(len(panels), sum(heights) / len(panels), heights)
    for n, (each, (unit, rows)) in enumerate(zip(axes, panels, strict=True)):
        _rows(each, report, unit, rows)
        first = rows[0].first
        subtitle = f"{UNITS[unit]}, against {first}"
        if n == 0:
            head(each, _first_line(report), f"{subtitle} · {_counts(report)} · 95 % at all looks together")
        else:
            head(each, _what_else(report, rows), subtitle)
    return axes


def over_time(report: Report) -> tuple[Axes, ...]:
    """Show the effect of the primary outcome and its interval at each look so far; an axes for each arm but the first."""
    looks = {of: _looks(report, of) for of in report.primary}
    if not all(map(len, looks.values())):
        unit, outcome = report.experiment.unit, report.experiment.outcome
        raise InvalidRequest(f"fewer than two {unit}s of an arm can be compared by {outcome} so far; look again later")
    _, axes = figure(len(looks), 3.2)
    verdicts = report.verdict.split("\n") if report.split_is_right else [report.verdict] * len(looks)
    for each, of, verdict in zip(axes, looks, verdicts, strict=True):
        _band(each, looks[of], of, report.split_is_right)
        subtitle = f"{of.outcome} of {of.arm} against {of.first}, {UNITS[of.unit]}, by {report.experiment.unit}s so far"
        head(
            each,
            verdict[:1].upper() + verdict[1:] if verdict.startswith("no ") else verdict,
            f"{subtitle} · {_counts(report)} · 95 % at all looks together · hatched: under {LEAST} per arm",
        )
    return axes


def _counts(report: Report) -> str:
    whose = "synthetic data · " if report.synthetic else ""
    return f"{whose}{report.experiment.unit}s: {', '.join(f'{arm} {n:,}' for arm, n in report.counts.items())}"


def _panels(report: Report) -> list[tuple[str, list[Comparison]]]:
    units = list(dict.fromkeys(each.unit for each in report.comparisons))
    ordered = sorted(report.comparisons, key=lambda each: units.index(each.unit))
    return [(unit, list(rows)) for unit, rows in groupby(ordered, lambda each: each.unit)]


def _first_line(report: Report) -> str:
    verdict = report.verdict.replace("\n", "; ")
    return "No" + verdict[2:] if verdict.startswith("no ") else verdict


def _what_else(report: Report, rows: Sequence[Comparison]) -> str:
    """Which of the outcomes that do not decide have changed."""
    if not report.split_is_right:
        return "Not to be believed either"
    many = len(report.counts) > 2
    changed = [f"{each.outcome} of {each.arm}" if many else each.outcome for each in rows if each.differs]
    names = ", ".join(dict.fromkeys(each.outcome for each in rows))
    if not any(each.comparable for each in rows):
        return f"Too few chats to compare {names}".replace("_", " ")
    found = f"What else changed: {', '.join(changed)}" if changed else f"No change is seen in {names}"
    return found.replace("_", " ")


def _rows(axes: Axes, report: Report, unit: str, rows: Sequence[Comparison]) -> None:
    """A line for each comparison, its words above it, and zero as a line down."""
    many = len(report.counts) > 2
    finite = [bound for each in rows if each.comparable for bound in (each.low, each.high)]
    low, high = (
        min([*finite, 0.0]),
        min(_widest(unit, [each.effect for each in rows if each.comparable]), max([*finite, 0.0])),
    )
    room = 0.06 * (high - low or 1)
    for row, each in enumerate(rows):
        decides = each.outcome == report.experiment.outcome
        colour = (
            (AS_TEXT[SAVING] if each.better else AS_TEXT[LOSS] if each.differs else INK)
            if decides and report.split_is_right
            else GREY
        )
        name = f"{each.outcome}{f', {each.arm}' if many else ''}{', decides' if decides else ''}"
        words = axes.annotate(
            f"{name}: {each.in_words}", (0, row - 0.4), xycoords=("axes fraction", "data"), fontsize=9, va="center",
            color=INK if decides else GREY, fontweight="bold" if decides else "normal", parse_math=False,
        )  # fmt: skip
        words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        if not each.comparable:
            continue
        ends = (max(each.low, low), min(each.high, high))
        axes.plot(ends, [row, row], color=colour, linewidth=2.6 if decides else 1.6, solid_capstyle="butt", label=name)
        for bound, end, arrow in ((each.low, ends[0], "<"), (each.high, ends[1], ">")):
            axes.plot(end, row, marker=arrow if bound != end else "|", color=colour, markersize=8, clip_on=False)
        axes.plot(np.clip(each.effect, low, high), row, "o", color=colour, markersize=6)
    axes.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (2, 3)), zorder=1.5)
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(len(rows) - 0.6, -0.75)
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    axes.locator_params(axis="x", nbins=5)
    if high == low:
        axes.set_xticks([0])
    axes.xaxis.set_major_formatter(lambda value, _: _signed(value, unit))


def _looks(report: Report, of: Comparison) -> pd.DataFrame:
    """The effect and its interval after so many chats of both arms, at 80 looks or fewer."""
    import pandas as pd  # on use: 0.3 s

    units = report.units[report.units.variant.isin((of.first, of.arm))].sort_values("first_exposed_at", kind="stable")
    arms = {arm: part for arm, part in shares(report.experiment.arms).items() if part}
    outcome, looks = OUTCOMES[of.outcome], []
    for chats in np.unique(np.linspace(2, len(units), LOOKS).round().astype(int)) if len(units) > 1 else ():
        so_far = units.iloc[:chats]
        values = [outcome.values(so_far[so_far.variant == arm]) for arm in (of.first, of.arm)]
        a, b, found = compare(of.outcome, values[0], values[1], share_of(of.arm, arms), level_of(arms))
        if min(a.n, b.n) > 1:
            looks.append((chats, min(a.n, b.n), *found))
    return pd.DataFrame(looks, columns=["chats", "least", "effect", "low", "high"])


def _band(axes: Axes, looks: pd.DataFrame, of: Comparison, believed: bool) -> None:
    """The interval as a band that narrows, the effect as a line; where it is too early for a verdict, hatched."""
    judged = looks[looks.least >= LEAST]
    shown = judged if len(judged) else looks
    low, high = 1.3 * min(shown.low.min(), 0), min(_widest(of.unit, shown.effect), 1.3 * max(shown.high.max(), 0))
    if of.unit:
        low, high = max(low, -100.0), high if of.unit == "%" else min(high, 100.0)
    said = judged[(judged.low > 0) | (judged.high < 0)] if believed else judged[:0]
    if len(said):  # room for a line beyond zero
        room = 0.15 * (high - low)
        low, high = (low, max(high, room)) if said.effect.iloc[0] < 0 else (min(low, -room), high)
    colour = GREY if not (believed and of.differs) else SAVING if of.better else LOSS
    axes.fill_between(
        looks.chats, looks.low.clip(low, high), looks.high.clip(low, high), color=colour, alpha=0.22, linewidth=0
    )
    axes.plot(looks.chats, looks.low.clip(low, high), color=AS_TEXT.get(colour, colour), linewidth=0.8)
    axes.plot(looks.chats, looks.high.clip(low, high), color=AS_TEXT.get(colour, colour), linewidth=0.8)
    axes.plot(looks.chats, looks.effect.clip(low, high), color=INK, linewidth=1.8)
    axes.axhline(0, color=INK, linewidth=0.9, linestyle=(0, (2, 3)))
    axes.set_ylim(low, high if high > low else low + 1)  # all alike: nothing but zero
    end = looks.chats.iloc[-1]
    axes.set_xlim(0, end)
    early = judged.chats.iloc[0] if len(judged) else end
    axes.axvspan(0, early, facecolor="white", alpha=0.65, edgecolor="#BBBBBB", hatch="///", linewidth=0, zorder=2.5)
    if len(said):
        at = said.iloc[0]
        axes.plot(at.chats, at.effect, "o", color=INK, markersize=6, zorder=4)
        # beyond zero, where the band is no more; the line leads to it
        side, right = (1, "top") if at.effect < 0 else (0, "bottom"), at.chats > 0.6 * end
        axes.annotate(
            f"first seen after {at.chats:,.0f}", (at.chats, at.effect), (at.chats, side[0]),
            textcoords=("data", "axes fraction"), ha="right" if right else "left", va=side[1], fontsize=9, color=INK,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8, "relpos": (float(right), 0.5)}, zorder=4,
        )  # fmt: skip
    axes.yaxis.set_major_formatter(lambda value, _: _signed(value, of.unit))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _widest(unit: str, effects: Iterable[float]) -> float:
    """Where the axis ends: a ratio that is known badly may be a thousandfold, and hide all others."""
    return max([WIDE, *(2 * effect for effect in effects)]) if unit == "%" else math.inf


def _signed(value: float, unit: str) -> str:
    """A tick as it is written at an axis.

    >>> _signed(-20, "%"), _signed(0, "points"), _signed(0.25, "")
    ('-20 %', '0', '+0.25')
    """
    return f"{value:+,g}{' ' + unit if unit == '%' else ''}" if abs(value) > 1e-9 else "0"
