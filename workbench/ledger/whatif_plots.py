"""Plots of what recorded chats would have cost otherwise."""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING

from workbench.drawing import (
    AS_TEXT,
    GREY,
    INK,
    LOSS,
    PALE,
    SAVING,
    dollar_axis,
    end_labels,
    figure,
    from_zero,
    head,
    how_many,
    turn_axis,
)
from workbench.errors import InvalidRequest
from workbench.ledger.columns import FIVE_MINUTES, OFF
from workbench.ledger.demo import DEMO_ORG
from workbench.ledger.policies import BLOCKS, SLIDING, WHOLE
from workbench.ledger.recorded import scope_of
from workbench.ledger.replay import Scenario
from workbench.ledger.whatif import AS_IT_WAS, Past, in_words, most_messages, outcomes, policies, recommended
from workbench.turns import DEFAULT_ID
from workbench.wording import dollars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from workbench.chat import Chat as AnyChat
    from workbench.ledger.frames import Moment
    from workbench.ledger.whatif import Outcome, Some

FREE = "These calls cost nothing, so nothing else would be cheaper"
ROW_INCHES = 0.5
BAR = 0.34
"""Of the height of a row; the words above it take the rest."""


def what_if(
    model: Some = None,
    cache: Some = None,
    history: Some = None,
    batch: bool = False,
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    chat: AnyChat | str | None = None,
    limit: int | None = None,
    org: str = DEFAULT_ID,
) -> Axes:
    """Show what recorded calls would have cost otherwise: bars to the likely cost, lines from least to most.

    Args:
        model: As all others, what ``wb.what_if`` takes.
        cache: ``off``, ``5m`` or ``1h``, or several.
        history: ``whole``, ``sliding`` or ``blocks``, or several.
        batch: Whether what nobody waits for goes through the Batch API.
        since: Calls from this moment on.
        until: Calls before this moment.
        chat: Only this chat's; a chat or its id.
        limit: Most messages sent, by the histories that are trimmed.
        org: Whose calls.

    Returns:
        The axes: US dollars by scenario, the first what was. Green is less than it, orange more, grey within the range.

    Raises:
        InvalidRequest: there are no calls with a price, or what ``wb.what_if`` refuses.

    Example::

        wb.plots.what_if(["claude-haiku-5-5", "claude-opus-5-5"], since="2026-11-01")
    """
    past = _past(since, until, chat, org)
    shown = outcomes(past, model, cache, history, batch, limit)
    return _bars(past, shown, _finding(shown), org)


def history_lab(
    chat: AnyChat | str | None = None,
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: int | None = None,
    org: str = DEFAULT_ID,
) -> Axes:
    """Show what each way to send the history of real chats would have cost, with and without a prompt cache.

    Args:
        chat: Only this chat, turn by turn; a chat or its id.
        since: Calls from this moment on.
        until: Calls before this moment.
        limit: Most messages sent, by the histories that are trimmed; as configured if not given.
        org: Whose calls.

    Returns:
        The axes. Of a chat: US dollars so far by turn, a line per policy. Else: US dollars by policy and cache, as bars.

    Raises:
        InvalidRequest: there are no calls with a price, or a limit below 1.

    Example::

        wb.plots.history_lab(since="2026-11-01")
    """
    past = _past(since, until, chat, org)
    if chat is not None:
        return _lines(past, most_messages(limit), org)
    tried = policies(past, limit)
    return _bars(past, tried, _verdict(tried), org)


def _past(since: Moment | None, until: Moment | None, chat: AnyChat | str | None, org: str) -> Past:
    past = Past.read(scope_of(since, until, chat, org))
    if not past.calls:
        raise InvalidRequest("there are no calls whose price is known; ask something first, or choose other days")
    return past


def _bars(past: Past, shown: Sequence[Outcome], finding: str, org: str) -> Axes:
    drawn, (axes,) = figure(1)
    drawn.set_figheight(0.9 + ROW_INCHES * len(shown))
    was = shown[0].likely
    for row, outcome in enumerate(shown):
        low, likely, high = (float(amount) for amount in (outcome.low, outcome.likely, outcome.high))
        axes.barh(row, likely, BAR, color=_colour(outcome, was))
        if high > low:
            axes.plot(
                [low, high], [row, row], color=INK, linewidth=1.6, marker="|", markersize=9, solid_capstyle="butt"
            )
        words = axes.text(0, row - 0.43, _label(outcome, was), fontsize=9, color=INK, va="center", parse_math=False)
        words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.axvline(float(was), color=INK, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1.5)
    axes.set_ylim(len(shown) - 0.6, -0.75)
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    most = max(float(outcome.high) for outcome in shown)
    axes.set_xlim(0, 1.04 * most or 1)
    axes.locator_params(axis="x", nbins=5)
    if not most:
        axes.set_xticks([0])
    dollar_axis(axes.xaxis)
    return head(
        axes, finding, _subtitle("US dollars, likely (change), least to most; pale: no clear difference", past, org)
    )


def _lines(past: Past, limit: int, org: str) -> Axes:
    """Cost so far by turn; what was is one of the lines, if the policy is."""
    styles = {
        Scenario(history=WHOLE, cache=OFF, limit=limit): ("whole chat, no cache", GREY, ":"),
        Scenario(history=SLIDING, cache=FIVE_MINUTES, limit=limit): (f"sliding window of {limit}", LOSS, "-"),
        Scenario(history=WHOLE, cache=FIVE_MINUTES, limit=limit): ("whole chat", GREY, "--"),
        Scenario(history=BLOCKS, cache=FIVE_MINUTES, limit=limit): (f"blocks of {limit}", SAVING, "-"),
    }
    was, turns = _so_far(past, Scenario()), past.calls
    lines = {scenario: _so_far(past, scenario) for scenario in styles}
    if was not in lines.values():
        styles[Scenario()], lines[Scenario()] = (AS_IT_WAS, INK, "-"), was
    _, (axes,) = figure(1)
    ends = []
    for scenario, costs in lines.items():
        name, colour, style = styles[scenario]
        values = [float(cost) for cost in costs]
        colour = AS_TEXT.get(colour, colour)
        axes.plot(
            range(1, turns + 1), values, color=colour, linestyle=style, linewidth=2, marker="o" if turns == 1 else ""
        )
        same = f" ({AS_IT_WAS})" if costs == was and scenario != Scenario() else ""
        ends.append((values[-1], f"{name} {dollars(costs[-1])}{same}", colour))
    from_zero(axes, max(value for value, _, _ in ends))
    dollar_axis(axes.yaxis)
    end_labels(axes, turns * 1.02, ends)
    axes.set_xlim(min(1, turns - 0.5), turns * 1.7)
    turn_axis(axes, turns)
    dearest, cheapest = (choose(lines, key=lambda scenario: lines[scenario][-1]) for choose in (max, min))
    finding = FREE
    if lines[dearest][-1]:
        ratio = float(lines[dearest][-1] / (lines[cheapest][-1] or 1))
        finding = f"{_capital(styles[dearest][0])}: {ratio:.1f} times the cost of {styles[cheapest][0]}"
        if ratio < 1.05:
            finding = "This chat costs about the same, however its history is sent"
    return head(axes, finding, _subtitle("US dollars so far · cached for 5 minutes if not said", past, org))


def _so_far(past: Past, scenario: Scenario) -> list[Decimal]:
    return list(accumulate(past.costs(scenario)))


def _colour(outcome: Outcome, was: Decimal) -> str:
    if outcome.unchanged:
        return INK
    if outcome.high < was:
        return SAVING
    return LOSS if outcome.low > was else PALE


def _label(outcome: Outcome, was: Decimal) -> str:
    name, likely = in_words(outcome.scenario), dollars(outcome.likely)
    if name == AS_IT_WAS:
        return f"{name}: {likely}"
    if outcome.unchanged:
        return f"{name}: {likely} ({AS_IT_WAS})"
    change = f" ({outcome.likely / was - 1:+.0%})".replace("-0%", "+0%").replace("+0%", "±0%") if was else ""
    low, high = dollars(outcome.low), dollars(outcome.high)
    between = f", {low} to {high}" if low != high else ""
    return f"{name}: {likely}{change}{between}"


def _finding(shown: Sequence[Outcome]) -> str:
    was = shown[0].likely
    if not was:
        return FREE
    less = [outcome for outcome in shown[1:] if outcome.high < was]
    if less:
        best = min(less, key=lambda outcome: outcome.likely)
        low, high = dollars(best.low), dollars(best.high)
        cost = low if low == high else f"{low} to {high}"
        return f"{_capital(in_words(best.scenario))}: {cost} instead of {dollars(was)}"
    return f"None of these would certainly have cost less than {dollars(was)}"


def _verdict(tried: Sequence[Outcome]) -> str:
    best, _ = recommended(tried)
    was = tried[0]
    if not was.likely:
        return FREE
    if best is not was:
        least, most = dollars(was.likely - best.high), dollars(was.likely - best.low)
        saved = most if least == most else f"{least} to {most}"
        return f"{_capital(in_words(best.scenario))}: {saved} of {dollars(was.likely)} saved"
    dearest, rest = max(tried, key=lambda outcome: outcome.likely), was.likely - min(each.low for each in tried)
    at_best = f"At best {dollars(rest)} of {dollars(was.likely)} saved" if rest else "Nothing else is cheaper"
    if dearest.likely < Decimal("1.05") * was.likely:
        return at_best
    return f"{at_best}; {in_words(dearest.scenario)}: {dearest.likely / was.likely:.1f} times as much"


def _subtitle(unit: str, past: Past, org: str) -> str:
    first, last = past.days or (None, None)
    days = ""
    if first and last:
        year = "" if first.year == last.year else f" {first.year}"
        days = f"{first.day} {first:%b}{year} to {last.day} {last:%b %Y}"
    if first and last and first.date() == last.date():
        days = f"{last.day} {last:%b %Y}"
    whose = {DEMO_ORG: "synthetic data", DEFAULT_ID: ""}.get(org, f"org {org}")
    counted = how_many(past.calls + past.unpriced, past.unpriced)
    return " · ".join(filter(None, (unit, counted, f"{days} UTC" if days else "", whose)))


def _capital(words: str) -> str:
    return words if words.startswith("claude-") else words[:1].upper() + words[1:]
