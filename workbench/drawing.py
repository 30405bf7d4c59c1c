"""What all plots have in common: colours that mean something, findings as titles, names on the data."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from workbench.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# the hues of Okabe and Ito, each bound to one meaning everywhere. In grey three of theirs for tokens are one (L* 61, 70, 71),
# and so are their green and red; here each step is told from the next by its lightness alone
INPUT, CACHE_WRITE, CACHE_READ, OUTPUT = "#00406B", "#B0568C", "#56B4E9", "#F5C04A"
INK, LOSS, SAVING, PALE = "#303336", "#C04F00", "#3DBE94", "#D5D8DC"
GREY = "#5F6368"
AS_TEXT = {CACHE_READ: "#1F78A8", OUTPUT: "#946300", CACHE_WRITE: "#A3487B", SAVING: "#007A59", LOSS: "#B84E00"}
"""The same hues darkened until they read on white, 4.5 to 1; for lines as well."""
INCHES = 6.4
"""640 pixels."""
TITLE_LETTERS, SUBTITLE_LETTERS = 60, 86
"""That fit in a line."""
MANY_DAYS = 300
"""Days from which on a date needs its year."""


def figure(rows: int = 1, height: float = 3.4, parts: Sequence[float] | None = None) -> tuple[Figure, tuple[Axes, ...]]:
    """Return a figure with axes below each other, as high as each other or in the parts given."""
    from matplotlib import pyplot as plt  # on use: 0.5 s
    from matplotlib.ticker import MaxNLocator

    drawn, axes = plt.subplots(
        rows, 1, figsize=(INCHES, height * rows), dpi=100, layout="constrained", squeeze=False, height_ratios=parts
    )
    for each in axes.flat:
        each.spines[["top", "right", "left"]].set_visible(False)
        each.spines["bottom"].set_color("#BBBBBB")
        each.grid(axis="y", color="#DDDDDD", linewidth=0.8)
        each.set_axisbelow(True)
        each.tick_params(length=0, labelsize=9, colors=GREY)
        each.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        each.tick_params(axis="x", pad=7)
    return drawn, tuple(axes.flat)


def head(axes: Axes, finding: str, subtitle: str) -> Axes:
    """Put the finding above the plot, and below it what is shown: units, whose, how many, where days begin.

    The figure's label says all its findings, for those who cannot see them.
    """
    under = _even_lines(subtitle, SUBTITLE_LETTERS, " · ")
    title = "\n".join(_even_lines(finding, TITLE_LETTERS, "; "))
    # parse_math: a pair of dollar signs would be read as mathematics
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=9 + 13 * len(under), parse_math=False)
    axes.annotate(
        "\n".join(under), (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", va="bottom",
        fontsize=9, color=GREY, parse_math=False,
    )  # fmt: skip
    titles = (each.get_title(loc="left").replace("\n", " ") for each in axes.figure.axes)
    axes.figure.set_label("; ".join(filter(None, titles)))
    return axes


def how_many(calls: float, unpriced: float = 0) -> str:
    """Return how many calls are shown, and how many are not since nobody knows their price.

    >>> how_many(1), how_many(13_860, 1), how_many(20, 20)
    ('1 call', '13,859 calls · 1 more of unknown price not shown', '20 calls of unknown price')
    """
    shown = calls - unpriced or calls
    told = counted(shown, "call")
    if not unpriced:
        return told
    return f"{told} · {unpriced:,.0f} more of unknown price not shown" if shown < calls else f"{told} of unknown price"


def end_labels(axes: Axes, x: Any, ends: Sequence[tuple[float, str, str]]) -> None:
    """Name lines or bars at their ends, the names kept apart where they come close, and below the subtitle."""
    top = axes.get_ylim()[1]
    gap, lowest, highest = 0.08 * top, float("-inf"), top
    named, places = sorted(ends), []
    for value, _, _ in named:
        places.append(lowest := max(value, lowest + gap))
    for (_, label, colour), place in zip(reversed(named), reversed(places), strict=True):
        y = min(place, highest)
        highest = y - gap
        axes.annotate(label, (x, y), fontsize=9, color=colour, va="center", parse_math=False, annotation_clip=False)


def side_labels(axes: Axes, labels: Sequence[tuple[str, str]]) -> None:
    """Name the parts of stacked bars beside them, in the order in which they lie, each with its colour."""
    for n, (label, colour) in enumerate(labels):
        place: dict[str, Any] = {
            "xy": (1, 0),
            "xycoords": "axes fraction",
            "textcoords": "offset points",
            "va": "center",
        }
        axes.annotate("\u25a0", xytext=(6, 10 + 26 * n), fontsize=11, color=colour, **place)
        words = AS_TEXT.get(colour, colour)
        axes.annotate(label, xytext=(18, 10 + 26 * n), fontsize=9, color=words, parse_math=False, **place)


def from_zero(axes: Axes, highest: float) -> None:
    """Let the y axis begin at zero; if there is nothing but zero, it is all that is written at it."""
    axes.set_ylim(0, 1.12 * highest or 1)
    if not highest:
        axes.set_yticks([0])


def dollar_axis(axis: Axis) -> None:
    """Write amounts of US dollars at an axis, all with as many decimals as tell them apart."""
    axis.set_major_formatter(lambda value, _: tick(value, axis.get_majorticklocs().tolist()))


def tick(amount: float, others: Sequence[float]) -> str:
    """Return an amount of US dollars as it is written at an axis beside the others.

    >>> [tick(amount, (0, 0.005, 0.01, 0.015)) for amount in (0, 0.005, 0.01)]
    ['$0', '$0.005', '$0.010']
    >>> [tick(amount, (0, 2.5, 5)) for amount in (2.5, 5)], tick(5, (0, 5, 10))
    (['$2.50', '$5.00'], '$5')
    """
    digits = next((n for n in (0, 2, 3, 4, 5, 6) if all(abs(round(each, n) - each) < 1e-9 for each in others)), 9)
    return "$0" if abs(amount) < 1e-9 else f"{'-' if amount < 0 else ''}${abs(amount):,.{digits}f}"


def turn_axis(axes: Axes, turns: int) -> None:
    """Number at most eight turns at the x axis; the first number has the unit, as a word below would need a line."""
    step = max(1, -(-turns // 8))
    at = range(step, turns + 1, step)
    axes.set_xticks(at, [f"turn {step}", *map(str, at[1:])])


def day_axis(axes: Axes) -> None:
    """Write at most six days at the x axis, or months where there are many."""
    from matplotlib.dates import AutoDateLocator, DayLocator, num2date

    first, last = axes.get_xlim()
    # of a few days it would name hours
    days: Any = DayLocator() if last - first < 6 else AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(days)
    name = "{:%b %Y}".format if last - first > MANY_DAYS else day_name
    axes.xaxis.set_major_formatter(lambda value, _: name(num2date(value).date()))  # type: ignore[no-untyped-call]


def day_name(day: date) -> str:
    """Return a day as people write it, without its year.

    >>> from datetime import date
    >>> day_name(date(2026, 11, 4))
    '4 Nov'
    """
    return f"{day.day} {day:%b}"


def many(count: float) -> str:
    """Return a count as people say it.

    >>> [many(n) for n in (950, 12_300, 4_560_000, 78_900_000)]
    ['950', '12,300', '4.6 million', '79 million']
    >>> many(2_000_000)
    '2 million'
    """
    if count < 1e6:
        return f"{count:,.0f}"
    size, word = (count / 1e9, "billion") if count >= 1e9 else (count / 1e6, "million")
    digits = f"{size:.1f}".removesuffix(".0") if size < 9.95 else f"{size:,.0f}"
    return f"{digits} {word}"


def _even_lines(text: str, letters: int, between: str) -> list[str]:
    """As few lines as fit, none much shorter than the others."""
    lines = _lines(text, letters, between)
    longest = max(map(len, text.split()))
    while letters > longest and len(narrower := _lines(text, letters - 1, between)) == len(lines):
        lines, letters = narrower, letters - 1
    return lines


def _lines(text: str, letters: int, between: str) -> list[str]:
    """The text in lines that end where its parts do, and never between a number and its unit or within a name.

    >>> _lines("US dollars · 6,698 calls", 15, " · "), _lines("no parts at all", 8, " · ")
    (['US dollars ·', '6,698 calls'], ['no parts', 'at all'])
    >>> _lines("opus-5-5 begins after 1.2 s", 23, "; ")
    ['opus-5-5 begins after', '1.2 s']
    """
    end = between.rstrip()
    lines: list[str] = []
    for part in re.sub(r"(?<![\w-])([\d.,]+) (?=[A-Za-z])", "\\1\u00a0", text).split(between):
        if lines and len(lines[-1]) + len(between) + len(part) <= letters - len(end):
            lines[-1] += between + part
        else:
            lines[-1:] = [line + end for line in lines[-1:]]
            lines += wrap(part, letters, break_on_hyphens=False)
    return [line.replace("\u00a0", " ") for line in lines]
