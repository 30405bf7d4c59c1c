"""Plots of the ledger. Each is one message: its title is a finding computed from the data, never written by hand.

Colours have fixed meanings: hues of Okabe and Ito, safe for colour-blind eyes, from dark to light, so that they are told
apart in grey too. Labels stand on the data instead of in a legend, and everything is readable at 640 pixels. The axes are
returned, for those who want to change them; the figure's label says in words what it shows.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from workbench.drawing import (
    AS_TEXT,
    CACHE_READ,
    CACHE_WRITE,
    GREY,
    INK,
    INPUT,
    LOSS,
    OUTPUT,
    SAVING,
    day_axis,
    day_name,
    dollar_axis,
    end_labels,
    figure,
    from_zero,
    head,
    how_many,
    many,
    side_labels,
    turn_axis,
)
from workbench.errors import InvalidRequest
from workbench.ledger import changes
from workbench.ledger.classes import calls_where, cost_by_class
from workbench.ledger.demo import DEMO_ORG
from workbench.ledger.forecasts import forecast, percent
from workbench.ledger.frames import moment_of, present, usage
from workbench.ledger.policies import BLOCKS, SLIDING, WHOLE, history_costs, list_price
from workbench.ledger.whatif_plots import history_lab, what_if
from workbench.pricing import CLASSES, cost_of
from workbench.runtime import runtime
from workbench.turns import DEFAULT_ID, LOCAL_MODEL, Usage
from workbench.wording import apart, counted, dollars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.chat import Chat
    from workbench.ledger.forecasts import Forecast
    from workbench.ledger.frames import Moment, Where

__all__ = [
    "burn_down",
    "cache_hits",
    "context_growth",
    "history_lab",
    "history_policies",
    "latency",
    "spend",
    "tokens",
    "what_if",
    "why",
]

UNUSUAL = 3
"""Times the median of days with calls from which on a day is called out."""
DENSE = 150
"""Days from which on bars are so thin that they are not told apart."""
ALIKE = 1.25
"""Times another median up to which nobody notices the difference."""
MOST_LETTERS = 26
"""Of a model's name beside a plot; claude-sonnet-4-5-20250929 fits."""
LEAST_SHARE = 0.005
"""Of all days from which on a class can be seen in bars."""
MOST_MODELS = 4
"""Lines that can be told apart in one plot."""


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})


def spend(
    since: Moment | None = None,
    until: Moment | None = None,
    where: Where | None = None,
    *,
    tz: str = "UTC",
    org: str = DEFAULT_ID,
    now: datetime | None = None,
) -> Axes:
    """Show what was spent on each day, and on which class of tokens.

    Args:
        since: Calls from this moment on.
        until: Calls before this moment.
        where: Only calls with these values, as in ``wb.usage``.
        tz: Where days begin.
        org: Whose calls.
        now: The present, if not that of the clock; today is hatched, as it is not over yet.

    Returns:
        The axes: US dollars by day. Days on which no price is known have a question mark instead of a bar.

    Raises:
        InvalidRequest: there are no calls, or what ``wb.usage`` does not know.
    """
    costs = _some(cost_by_class(since, until, "day", where, tz=tz, org=org))
    costs["other"] = costs[["web_search_usd", "other_usd"]].sum(axis=1)
    _, (axes,) = figure()
    parts = {
        "new input": (INPUT, costs.uncached_input_usd),
        "cache writes": (CACHE_WRITE, costs.cache_write_usd),
        "cache reads": (CACHE_READ, costs.cache_read_usd),
        "replies": (OUTPUT, costs.output_usd),
        "searches, other": (GREY, costs.other),
    }
    for day in costs.day[costs.cost.isna()]:
        axes.annotate("?", (day, 0), ha="center", va="bottom", fontsize=9, color=GREY)
    shares, hatched = _classes_by_day(axes, costs.day, parts, _today(now, tz))
    dollar_axis(axes.yaxis)
    counted = _scope(org, costs.calls.sum(), costs.unpriced_calls.sum(), tz)
    return head(axes, _spend_finding(axes, costs, shares), f"US dollars a day by class of tokens · {counted}{hatched}")


def tokens(
    since: Moment | None = None,
    until: Moment | None = None,
    where: Where | None = None,
    *,
    tz: str = "UTC",
    org: str = DEFAULT_ID,
    now: datetime | None = None,
) -> Axes:
    """Show how many tokens went each day, by class; arguments and errors are those of :func:`spend`.

    Returns:
        The axes: tokens by day, also those of calls whose price is unknown.
    """
    sums = _some(usage(since, until, "day", where, tz=tz, org=org))
    _, (axes,) = figure()
    parts = {
        "new input": (INPUT, sums.uncached_input_tokens),
        "cache writes": (CACHE_WRITE, sums.cache_write_tokens),
        "cache reads": (CACHE_READ, sums.cache_read_tokens),
        "replies": (OUTPUT, sums.output_tokens),
    }
    shares, hatched = _classes_by_day(axes, sums.day, parts, _today(now, tz))
    axes.yaxis.set_major_formatter(lambda value, _: many(value))
    total = sums.input_tokens.sum() + sums.output_tokens.sum()
    finding = f"{many(total)} tokens: {shares['cache reads']:.0%} read from the cache, {shares['replies']:.0%} replies"
    return head(
        axes,
        finding if total else "No tokens at all",
        f"tokens a day by class · {_scope(org, sums.calls.sum(), tz=tz)}{hatched}",
    )


def cache_hits(
    since: Moment | None = None,
    until: Moment | None = None,
    where: Where | None = None,
    *,
    tz: str = "UTC",
    org: str = DEFAULT_ID,
    now: datetime | None = None,
) -> Axes:
    """Show which share of each day's input came from the prompt cache; arguments and errors are those of :func:`spend`.

    Returns:
        The axes: per cent of the input tokens by day; the dashed line is that of all days together.
    """
    sums = _some(usage(since, until, "day", where, tz=tz, org=org))
    sums = sums[sums.input_tokens > 0]
    if sums.empty:
        raise InvalidRequest("none of these calls has input tokens; choose other days")
    share = sums.cache_read_tokens / sums.input_tokens
    whole = sums.cache_read_tokens.sum() / sums.input_tokens.sum()
    _, (axes,) = figure()
    hatched = _stacked_days(axes, sums.day, {"": (CACHE_READ, share)}, _today(now, tz))
    axes.axhline(whole, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        f"all days\n{whole:.0%}", (1, whole), (6, 0), xycoords=("axes fraction", "data"),
        textcoords="offset points", va="center", fontsize=9, color=GREY,
    )  # fmt: skip
    axes.set_ylim(0, 1.1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    # a Sunday with three calls is no finding
    busy = share[sums.input_tokens >= sums.input_tokens.median()]
    low, at = float(busy.min()), sums.day[busy.index][busy == busy.min()].iloc[0]
    finding = f"{whole:.0%} of all input came from the cache"
    if not whole:
        finding = "Nothing of the input came from the cache"
    elif whole - low > 0.05:
        axes.annotate(
            f"{day_name(at)} {low:.0%}", (at, low), (at, 1.02), ha="center", fontsize=9, color="black",
            arrowprops={"arrowstyle": "-", "color": "black", "linewidth": 0.8},
        )  # fmt: skip
        if at != _today(now, tz):  # that is hatched
            axes.bar(at, low, color=AS_TEXT[CACHE_READ], width=0.9, edgecolor="white", linewidth=0.6, zorder=2)
        finding += f", on {day_name(at)} only {low:.0%}"
    elif len(sums) > 1:
        finding += f", on busy days never less than {low:.0%}"
    counted = _scope(org, sums.calls.sum(), tz=tz)
    return head(axes, finding, f"share of the input tokens read from the cache · {counted}{hatched}")


def burn_down(org: str = DEFAULT_ID, budget: Decimal | float | str | None = None, *, now: Moment | None = None) -> Axes:
    """Show what the month has cost so far, where it ends, and the odds of passing the budget.

    Args:
        org: Whose calls.
        budget: US dollars a month; the org's own without it, if it has one.
        now: The moment at which to ask; the present if not given.

    Returns:
        The axes: US dollars since the first of the month; the band holds 80 % of what may come. See ``wb.forecast``.

    Raises:
        InvalidRequest: there are too few days to say how the month ends, or no price is known.
    """
    found = forecast(org, budget, now=now)
    if found.unpriced_calls and not found.high_usd:
        raise InvalidRequest("no call of this month has a known price; add one under [prices]")
    days, one = found.days, timedelta(days=1)
    _, (axes,) = figure()
    today = found.now.date()
    over = [day.date() < today for day in days.day]
    spent = [0.0, *days.spent_usd[over].astype(float), float(found.spent_usd)]
    axes.plot(
        [days.day.iloc[0], *(days.day[over] + one), found.now.replace(tzinfo=None)], spent, color="black", linewidth=2
    )
    ahead = days.dropna(subset=["expected"])
    at = [found.now.replace(tzinfo=None), *(ahead.day + one)]
    low, expected, high = ([spent[-1], *ahead[name]] for name in ("low", "expected", "high"))
    axes.fill_between(at, low, high, color="#C9CDD2", linewidth=0)
    axes.plot(at, expected, color="black", linestyle=(0, (4, 2)), linewidth=1.5)
    axes.plot(at[0], spent[-1], "o", color="black", markersize=5)
    limit = None if found.budget_usd is None else float(found.budget_usd)
    from_zero(axes, max(high[-1], limit or 0))
    # below the point, unless the dates are there
    place, side = ((-4, 6), "right") if spent[-1] < 0.1 * axes.get_ylim()[1] else ((7, -8), "left")
    axes.annotate(
        f"{dollars(found.spent_usd)} so far", (at[0], spent[-1]), place, textcoords="offset points", fontsize=9,
        ha=side, parse_math=False,
    )  # fmt: skip
    axes.set_xlim(days.day.iloc[0], at[-1])
    finding = f"{found.now:%B} ends at about {dollars(found.expected_usd)}"
    if found.budget_usd is not None:
        finding += _budget(axes, found, found.budget_usd)
    least, most = apart(found.low_usd, found.high_usd)
    ends = [(float(found.expected_usd), f"~{dollars(found.expected_usd)}", "black")]
    if least != most:
        ends = [(float(found.low_usd), least, GREY), *ends, (float(found.high_usd), most, GREY)]
    end_labels(axes, at[-1] + one / 4, ends)
    dollar_axis(axes.yaxis)
    day_axis(axes)
    calls = usage(days.day.iloc[0], found.now, by="month", org=org)
    counted = _scope(org, calls.calls.sum(), found.unpriced_calls, "UTC")
    return head(axes, finding, f"US dollars since the first of the month · band: 8 of 10 simulated months · {counted}")


def _budget(axes: Axes, found: Forecast, budget: Decimal) -> str:
    """Draw the budget as a line; return what the title says of it."""
    limit = float(budget)
    axes.axhline(limit, color=LOSS, linewidth=1.5)
    # where the spend is not: it begins below a budget that is large, and ends above one that is small
    where, side = ((0, limit), "left") if limit > float(found.expected_usd) / 2 else ((1, limit), "right")
    axes.annotate(
        f"budget {dollars(budget)}", where, (4 if side == "left" else -4, 5), ha=side,
        xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=9, color=AS_TEXT[LOSS],
        parse_math=False,
    )  # fmt: skip
    day = found.over_on and day_name(found.over_on)
    if day and found.spent_usd > budget:
        return f"; the budget of {dollars(budget)} was passed on {day}"
    odds = percent(found.odds_over or 0)
    return f" and passes the budget of {dollars(budget)} with odds of {odds}{f', about {day}' if day else ''}"


def latency(
    since: Moment | None = None,
    until: Moment | None = None,
    where: Where | None = None,
    *,
    tz: str = "UTC",
    org: str = DEFAULT_ID,
) -> Axes:
    """Show how long the first token took, by model: the part of the calls that had it by then.

    Args:
        since: Calls from this moment on.
        until: Calls before this moment.
        where: Only calls with these values, as in ``wb.usage``.
        tz: Of times without a zone.
        org: Whose calls.

    Returns:
        The axes: per cent of the calls by seconds, on a logarithmic axis; dots at half and at 95 %. Of more than four
        models those with the fewest calls are left out.

    Raises:
        InvalidRequest: no call had a first token, or what ``wb.usage`` does not know.
    """
    counts = _waits(since, until, where, tz, org)
    by_calls = counts.groupby("model").calls.sum().sort_values(ascending=False)
    lines = {model: _cumulated(counts[counts.model == model]) for model in by_calls.index[:MOST_MODELS]}
    middles = {model: _by_then(line, 0.5) for model, line in lines.items()}
    _, (axes,) = figure()
    # colours have other meanings, so that lines differ by their dashes; from the fastest to the slowest
    dashes: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
    for n, model in enumerate(sorted(lines, key=lambda each: middles[each])):
        line, style = lines[model], {"color": "black", "linestyle": dashes[n], "linewidth": 1.7}
        # from zero up to the fastest: of calls that took equally long, that is all there is
        axes.step([line.ttft_ms.iloc[0] / 1000, *line.ttft_ms / 1000], [0, *line.part], where="post", **style)
        half, most = middles[model], _by_then(line, 0.95)
        axes.plot([half, most], [0.5, 0.95], "o", color="black", markersize=4.5)
        y = 0.94 - 0.25 * n  # below the line of 100 %
        axes.plot([1.02, 1.09], [y, y], transform=axes.transAxes, clip_on=False, **style)
        axes.annotate(
            f"{_short(model)}\nhalf {_seconds(half)}, 95% {_seconds(most)}", (1.02, y - 0.02), (0, -2),
            xycoords="axes fraction", textcoords="offset points", va="top", fontsize=9, annotation_clip=False,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    _seconds_axis(axes, counts)
    left_out = len(by_calls) - len(lines)
    told = f" · {counted(left_out, 'model')} with fewer calls not shown" if left_out else ""
    shown = int(by_calls.iloc[:MOST_MODELS].sum())
    return head(
        axes,
        _wait_finding(middles, lines),
        f"share of the calls by time to the first token, on a logarithmic axis · {_scope(org, shown)}{told}",
    )


def why(
    before: tuple[Moment | None, Moment | None],
    after: tuple[Moment | None, Moment | None],
    where: Where | None = None,
    *,
    tz: str = "UTC",
    org: str = DEFAULT_ID,
) -> Axes:
    """Show why two periods cost differently, factor by factor; arguments and errors are those of ``wb.why``.

    Returns:
        The axes: US dollars, from what the first period cost to what the second did.

    Raises:
        InvalidRequest: neither period has a call of known price.
    """
    from matplotlib.ticker import MaxNLocator  # on use, as all of matplotlib

    split = changes.why(before, after, where, tz=tz, org=org)
    old, new = split.attrs["before_usd"], split.attrs["after_usd"]
    if not old and not new:
        raise InvalidRequest("neither period has a call that cost anything; choose others")
    known = split.dropna(subset=["usd"])
    # what is nothing beside the larger bill is left out, and said to be
    seen = known.usd.map(lambda usd: abs(usd) >= max(old, new) / 1000)
    shown, small = known[seen], known.factor[~seen & known.usd.map(lambda usd: dollars(abs(usd)) != "$0")]
    steps = [("before", Decimal(0), old), *_steps(shown, old), ("after", Decimal(0), new)]
    _, (axes,) = figure(height=1.4 + 0.3 * len(steps))
    for n, (name, begin, end) in enumerate(steps):
        whole = name in ("before", "after")
        colour = INK if whole else LOSS if end > begin else SAVING
        axes.barh(n, float(end - begin), left=float(begin), height=0.62, color=colour)
        label = dollars(end) if whole else changes.signed(end - begin)
        axes.annotate(
            label, (float(max(begin, end)), n), (4, 0), textcoords="offset points", va="center", fontsize=9,
            color=AS_TEXT.get(colour, colour), parse_math=False,
        )  # fmt: skip
        if n + 1 < len(steps):
            axes.plot([float(end)] * 2, [n - 0.31, n + 1.31], color="#999999", linewidth=0.8)
    axes.set_yticks(range(len(steps)), [name for name, _, _ in steps])
    axes.tick_params(axis="y", labelcolor="black")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color="#DDDDDD", linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    # fewer calls can take more away than there was, and longer ones bring it back
    ends = [float(end) for _, begin, end in steps]
    axes.set_xlim(1.12 * min(0.0, *ends), 1.14 * max(ends))
    dollar_axis(axes.xaxis)
    periods = " · ".join(f"{name}: {_period(each)}" for name, each in (("before", before), ("after", after)))
    calls = sum(int(usage(*each, by="month", where=where, tz=tz, org=org).calls.sum()) for each in (before, after))
    unpriced = f" · {split.sentence.iloc[-1].removeprefix('unknown: ')}" if split.usd.isna().any() else ""
    hidden = f" · too little to show: {', '.join(small)}" if len(small) else ""
    counted = _scope(org, calls, tz=tz)
    return head(axes, _change_finding(shown, old, new), f"US dollars · {periods} · {counted}{unpriced}{hidden}")


def context_growth(chat: Chat | str, *, priced_as: str | None = None, org: str = DEFAULT_ID) -> tuple[Axes, Axes]:
    """Show how what is sent grows turn by turn, in tokens and in dollars.

    Args:
        chat: A chat or its id.
        priced_as: Price the same token counts as if this model had answered, at its list prices of today; of use
            for chats with the embedded model, which costs nothing.
        org: Whose chat.

    Returns:
        The axes of tokens per turn and of US dollars so far.

    Raises:
        InvalidRequest: the chat has no turns yet, or no price is known.
    """
    calls = usage(chat=chat, org=org)
    if calls.empty:
        raise InvalidRequest("this chat has no turns yet; ask something first")
    costs = _costs(calls, priced_as)
    _, (tokens, money) = figure(2)
    turns = range(1, len(calls) + 1)
    parts = {
        "new input": (INPUT, calls.uncached_input_tokens),
        "cache writes": (CACHE_WRITE, calls.cache_write_5m_tokens + calls.cache_write_1h_tokens),
        "cache reads": (CACHE_READ, calls.cache_read_tokens),
        "replies": (OUTPUT, calls.output_tokens),
    }
    shown = {name: part for name, part in parts.items() if part[1].any()}
    below = [0] * len(calls)
    for colour, counts in shown.values():
        tokens.bar(turns, counts, bottom=below, color=colour, width=0.8, edgecolor="white", linewidth=0.6)
        below = [b + count for b, count in zip(below, counts, strict=True)]
    side_labels(tokens, [(name, colour) for name, (colour, _) in shown.items()])
    tokens.yaxis.set_major_formatter(lambda value, _: many(value))
    head(tokens, _growth_finding(calls), f"tokens of each turn · {_scope(org, len(calls))}")
    so_far = list(accumulate(costs))
    money.bar(turns, [float(amount) for amount in so_far], color=GREY, width=0.72)
    asked = [priced_as] if priced_as else list(calls.model.unique())
    whose = f"list prices of {asked[0]}" if len(asked) == 1 else f"{len(asked)} models, each at its price"
    if asked == [LOCAL_MODEL]:
        whose = "the embedded model, which is free"
    head(money, f"{dollars(so_far[-1])} so far, {dollars(costs[-1])} for the last turn", f"US dollars so far · {whose}")
    from_zero(tokens, float(max(below)))
    from_zero(money, float(so_far[-1]))
    dollar_axis(money.yaxis)
    for axes in (tokens, money):
        axes.set_xlim(0.4, len(calls) + 0.6)
        turn_axis(axes, len(calls))
    return tokens, money


def history_policies(turns: int = 40, *, model: str = "claude-sonnet-5-5", **shape: int) -> Axes:
    """Show what trimming a chat's history costs or saves, with and without a prompt cache.

    Args:
        turns: How many turns the chat has.
        model: Whose list prices.
        shape: ``system_tokens``, ``question_tokens``, ``reply_tokens``, ``limit``; see ``wb.history_costs``.

    Returns:
        The axes: US dollars so far by turn, a line per policy.
    """
    costs = history_costs(turns, model=model, **shape)
    total = costs[costs.turn == turns].set_index(["policy", "cached"]).cost_so_far_usd
    if not total[BLOCKS, True]:
        raise InvalidRequest(f"{model} costs nothing, whatever is sent; name another model")
    _, (axes,) = figure()
    bad, good = AS_TEXT[LOSS], AS_TEXT[SAVING]
    styles = {
        (WHOLE, False): (GREY, ":", "whole chat, no cache"),
        (SLIDING, True): (bad, "-", "sliding window, cached"),
        (SLIDING, False): (bad, ":", "sliding window, no cache"),
        (WHOLE, True): (GREY, "--", "whole chat, cached"),
        (BLOCKS, True): (good, "-", "dropped in blocks, cached (ours)"),
    }
    ends, marker = [], "o" if turns == 1 else ""
    for (policy, cached), (colour, style, label) in styles.items():
        line = costs[(costs.policy == policy) & (costs.cached == cached)]
        values = line.cost_so_far_usd.astype(float)
        axes.plot(line.turn, values, color=colour, linestyle=style, linewidth=2, marker=marker)
        ends.append((values.iloc[-1], f"{label} {dollars(line.cost_so_far_usd.iloc[-1])}", colour))
    from_zero(axes, max(value for value, _, _ in ends))
    end_labels(axes, turns * 1.015, ends)
    ratio = float(total[SLIDING, True] / total[BLOCKS, True])
    limit = shape.get("limit", 20)
    finding = f"With a cache, a sliding window costs {ratio:.1f} times as much as dropping blocks"
    if abs(ratio - 1) < 0.05:
        finding = f"A chat of {counted(turns, 'turn')} costs the same in a sliding window as in blocks"
    shown = f"list prices of {model} · {counted(turns, 'turn')} · trimmed to at most {counted(limit, 'message')}"
    head(axes, finding, f"US dollars so far · {shown}")
    dollar_axis(axes.yaxis)
    axes.set_xlim(min(1, turns - 0.5), turns * 1.62)
    turn_axis(axes, turns)
    return axes


def _costs(calls: pd.DataFrame, priced_as: str | None) -> list[Decimal]:
    if priced_as is None:
        costs: list[Decimal] = list(calls.cost_usd)
        if calls.cost_usd.isna().any():
            raise InvalidRequest("the price of a turn is not known; name a model with priced_as")
        return costs
    usages = [Usage(**dict(zip(CLASSES, row, strict=True))) for row in calls[[*CLASSES]].to_numpy().tolist()]
    return [cost_of(usage, list_price(priced_as, usage.input_tokens)) for usage in usages]


def _growth_finding(calls: pd.DataFrame) -> str:
    first, last = calls.input_tokens.iloc[0], calls.input_tokens.iloc[-1]
    if len(calls) == 1:
        return f"Turn 1 sent {first:,} tokens"
    cached = calls.cache_read_tokens.sum() / max(1, calls.input_tokens.sum())
    grown = f"Turn {len(calls)} sent {last / max(1, first):.1f} times what turn 1 did"
    if not first or not last:
        grown = f"Turn {len(calls)} sent {last:,} tokens, turn 1 sent {first:,}"
    elif abs(last / first - 1) < 0.05:
        grown = f"Turn {len(calls)} sent about as much as turn 1"
    return f"{grown}; {cached:.0%} of all input came from the cache"


def _some(frame: pd.DataFrame) -> pd.DataFrame:
    if frame.empty:
        raise InvalidRequest("there are no calls to show; choose other days, or ask something first")
    return frame


def _today(now: datetime | None, tz: str) -> pd.Timestamp:
    import pandas as pd

    return pd.Timestamp(present(now, ZoneInfo(tz)).date())


def _classes_by_day(
    axes: Axes, days: pd.Series[Any], parts: Mapping[str, tuple[str, Any]], today: pd.Timestamp
) -> tuple[dict[str, float], str]:
    """Draw days of parts and label those that can be seen; return all shares, and what to say of today."""
    amounts = {name: values.astype(float).fillna(0) for name, (_, values) in parts.items()}
    total = sum(values.sum() for values in amounts.values())
    shares = {name: values.sum() / total if total else 0.0 for name, values in amounts.items()}
    shown = {name: (colour, amounts[name]) for name, (colour, _) in parts.items() if abs(shares[name]) > LEAST_SHARE}
    hatched = _stacked_days(axes, days, shown, today)
    side_labels(axes, [(f"{name}\n{shares[name]:.0%}", colour) for name, (colour, _) in shown.items()])
    return shares, hatched


def _stacked_days(
    axes: Axes, days: pd.Series[Any], parts: Mapping[str, tuple[str, pd.Series[Any]]], today: pd.Timestamp
) -> str:
    """Draw a bar for each day, of parts; today's is hatched, since it is not over. Return what is to be said of that."""
    import numpy as np
    from matplotlib.collections import PolyCollection
    from matplotlib.dates import date2num

    at = date2num(days)  # type: ignore[no-untyped-call]
    below = np.zeros(len(at))
    dense = at[-1] - at[0] > DENSE
    half = 0.5 if dense else 0.45  # gaps of less than a pixel would make stripes
    for colour, values in parts.values():
        above = below + values.to_numpy(dtype=float)
        # one artist for all days: a patch for each would take half a second
        corners = [at - half, below, at - half, above, at + half, above, at + half, below]
        bars: Any = np.stack(corners, axis=1).reshape(-1, 4, 2)
        axes.add_collection(PolyCollection(bars, facecolor=colour, edgecolor="white", linewidth=0 if dense else 0.6))
        if dense:
            # a white line between parts that are alike in grey; around every bar it would leave nothing of them
            axes.step(at, above, where="mid", color="white", linewidth=0.8)
        if today in days.to_numpy():
            unfinished = bars[days == today]
            # strokes of the class on white, as white ones would not be seen on the pale classes
            axes.add_collection(
                PolyCollection(unfinished, facecolor="white", edgecolor=colour, hatch="//////", linewidth=0.8)
            )
        below = above
    axes.set_xlim(at[0] - 0.8, at[-1] + 0.8)
    from_zero(axes, below.max())
    day_axis(axes)
    return " · hatched: today so far" if today in days.to_numpy() else ""


def _spend_finding(axes: Axes, costs: pd.DataFrame, shares: dict[str, float]) -> str:
    """What the plot of the spend says; a day that stands out gets its name in it."""
    known = costs.dropna(subset=["cost"])
    if known.empty:
        return "What these calls cost is not known"
    count = counted(len(costs), "day")
    finding = f"{dollars(sum(known.cost_usd, Decimal(0)))} in {count}"
    most, usual = known.nlargest(1, "cost").iloc[0], float(known.cost[known.cost > 0].median())
    if len(known) >= 7 and most.cost > UNUSUAL * usual:
        said = f"{day_name(most.day)} {dollars(most.cost_usd)}"
        axes.annotate(said, (most.day, most.cost), (0, 3), textcoords="offset points", ha="center", fontsize=9)
        times = most.cost / usual
        return f"{finding}; {day_name(most.day)} cost {dollars(most.cost_usd)}, {times:.1f} times a usual day"
    if not any(shares.values()):
        return f"{finding}: nobody charged for these calls"
    dearest = max(shares, key=lambda name: shares[name])
    return f"{finding}, {shares[dearest]:.0%} of it for {dearest}"


def _waits(since: Moment | None, until: Moment | None, where: Where | None, tz: str, org: str) -> pd.DataFrame:
    """How many calls of each model had their first token after so many milliseconds; the store counts."""
    chosen, parameters = calls_where(since, until, where, tz=tz, org=org)
    statement = f"SELECT model, ttft_ms, COUNT(*) AS calls {chosen} AND ttft_ms > 0 GROUP BY 1, 2 ORDER BY 1, 2"
    counts: pd.DataFrame = runtime().run(runtime().engine.store.arrow(statement, *parameters)).to_pandas()
    if counts.empty:
        raise InvalidRequest("no call here had a first token; choose other days, or ask something first")
    return counts


def _cumulated(counts: pd.DataFrame) -> pd.DataFrame:
    so_far = counts.calls.cumsum()
    return counts.assign(part=so_far / so_far.iloc[-1])


def _by_then(line: pd.DataFrame, part: float) -> float:
    """Seconds after which so many of the calls had their first token."""
    return float(line.ttft_ms[line.part >= part].iloc[0]) / 1000


def _seconds(seconds: float) -> str:
    return (
        f"{seconds * 1000:.0f} ms" if seconds < 0.0995 else f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    )


def _seconds_axis(axes: Axes, counts: pd.DataFrame) -> None:
    """Ticks at round seconds, from the fastest of a hundred calls to the slowest of a thousand."""
    from matplotlib.ticker import FixedLocator, NullLocator

    line = _cumulated(counts[["ttft_ms", "calls"]].groupby("ttft_ms").sum().reset_index())
    low, high = _by_then(line, 0.001), _by_then(line, 0.9995)
    axes.set_xlim(low * 0.85, max(high, low * 3) * 1.15)
    steps = [step * 10**power for power in range(-3, 4) for step in (1, 2, 5)]
    within = [step for step in steps if low * 0.85 <= step <= max(high, low * 3) * 1.15]
    axes.xaxis.set_major_locator(FixedLocator(within[:: max(1, -(-len(within) // 6))]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: _seconds(value))


def _wait_finding(middles: dict[str, float], lines: dict[str, pd.DataFrame]) -> str:
    fast, slow = min(middles, key=lambda each: middles[each]), max(middles, key=lambda each: middles[each])
    if len(lines) == 1:
        most = _seconds(_by_then(lines[fast], 0.95))
        half = _seconds(middles[fast])
        if half == most:
            return f"Replies of {fast} begin within {half}"
        return f"Half of the replies of {fast} begin within {half}, 95% within {most}"
    ratio = middles[slow] / middles[fast]
    if ratio < ALIKE:
        return f"Half of the replies begin within {_seconds(middles[slow])}, whichever the model"
    return f"{slow} takes {_seconds(middles[slow])} to begin, {ratio:.1f} times as long as {fast} (medians)"


def _short(model: str) -> str:
    return model if len(model) <= MOST_LETTERS else f"{model[: MOST_LETTERS - 1]}…"


def _steps(shown: pd.DataFrame, begin: Decimal) -> list[tuple[str, Decimal, Decimal]]:
    ends = list(accumulate(shown.usd, initial=begin))
    return list(zip(shown.factor, ends[:-1], ends[1:], strict=True))


def _period(period: Sequence[Moment | None]) -> str:
    since, until = period
    begin, end = map(moment_of, period)
    if begin and end and begin.time() == time.min and end - begin == timedelta(days=1):
        return f"{begin.date()}"
    return f"{since or 'the beginning'} until {until or 'now'}"


def _change_finding(shown: pd.DataFrame, old: Decimal, new: Decimal) -> str:
    change = f"{dollars(abs(new - old))} {'more' if new > old else 'less'}"
    if new == old or shown.empty:
        return f"Both periods cost {dollars(new)}"
    sizes = shown.set_index("factor").usd
    same = sizes[sizes.map(lambda usd: (usd > 0) == (new > old))]
    other = sizes.drop(same.index)
    first = max(same.index, key=lambda name: abs(same[name]))
    said = f"{change}, most of all by {first} ({changes.signed(same[first])})"
    if len(other):
        against = max(other.index, key=lambda name: abs(other[name]))
        said += f", while {against} went the other way ({changes.signed(other[against])})"
    return said


def _scope(org: str, calls: float, unpriced: float = 0, tz: str | None = None) -> str:
    """Return the end of a subtitle: whose calls, how many, where days begin."""
    whose = {DEMO_ORG: "synthetic data", DEFAULT_ID: ""}.get(org, f"org {org}")
    return " · ".join(filter(None, (whose, how_many(calls, unpriced), f"days of {tz}" if tz else "")))
