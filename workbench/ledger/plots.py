"""Plots of the ledger. Each is one message: its title is a finding computed from the data, never written by hand.

Colours have fixed meanings (Okabe-Ito, safe for colour-blind eyes), labels stand on the data instead of in a legend, and
everything is readable at 640 pixels and in grey. The axes are returned, for those who want to change them.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequest
from workbench.ledger.frames import usage
from workbench.ledger.policies import BLOCKS, SLIDING, WHOLE, history_costs, list_price
from workbench.pricing import cost_of
from workbench.turns import LOCAL_MODEL, Usage
from workbench.wording import dollars

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.chat import Chat

# Okabe and Ito, each bound to one meaning everywhere
INPUT, CACHE_WRITE, CACHE_READ, OUTPUT = "#0072B2", "#CC79A7", "#56B4E9", "#E69F00"
SAVING, LOSS, GREY = "#009E73", "#D55E00", "#5F6368"
# the same hues darkened until they read on white, 4.5 to 1
AS_TEXT = {CACHE_READ: "#1F78A8", OUTPUT: "#946300", CACHE_WRITE: "#A3487B", SAVING: "#007A59", LOSS: "#B84E00"}


def context_growth(chat: Chat | str, *, priced_as: str | None = None) -> tuple[Axes, Axes]:
    """Show how what is sent grows turn by turn, in tokens and in dollars.

    Args:
        chat: A chat or its id.
        priced_as: Price the same token counts as if this model had answered, at its list prices of today; of use
            for chats with the embedded model, which costs nothing.

    Returns:
        The axes of tokens per turn and of US dollars so far.

    Raises:
        InvalidRequest: the chat has no turns yet, or no price is known.
    """
    calls = usage(chat=chat)
    if calls.empty:
        raise InvalidRequest("this chat has no turns yet; ask something first")
    costs = _costs(calls, priced_as)
    figure, (tokens, money) = _figure(2)
    turns = range(1, len(calls) + 1)
    parts = {
        "from cache": (CACHE_READ, calls.cache_read_tokens),
        "read anew": (INPUT, calls.input_tokens - calls.cache_read_tokens),
        "reply": (OUTPUT, calls.output_tokens),
    }
    _stacked_bars(tokens, turns, parts)
    _head(tokens, _growth_finding(calls), f"tokens of each turn, {len(calls)} turns")
    so_far = list(accumulate(costs))
    money.bar(turns, [float(amount) for amount in so_far], color=GREY, width=0.72)
    asked = priced_as or calls.model.iloc[-1]
    whose = "the embedded model, which is free" if asked == LOCAL_MODEL else f"list prices of {asked}"
    _head(money, f"{dollars(so_far[-1])} so far, {dollars(costs[-1])} for the last turn", f"US dollars so far, {whose}")
    _dollar_axis(money)
    for axes in (tokens, money):
        _turn_axis(axes, len(calls), 0.4, len(calls) * 1.15 + 0.6)
    _describe(figure, tokens, money)
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
    figure, (axes,) = _figure(1)
    styles = {
        (WHOLE, False): (GREY, ":", "whole chat, no cache"),
        (SLIDING, True): (LOSS, "-", "sliding window, cached"),
        (SLIDING, False): (LOSS, ":", "sliding window, no cache"),
        (WHOLE, True): (GREY, "-", "whole chat, cached"),
        (BLOCKS, True): (SAVING, "-", "dropped in blocks, cached (ours)"),
    }
    ends = []
    for (policy, cached), (colour, style, label) in styles.items():
        line = costs[(costs.policy == policy) & (costs.cached == cached)]
        values = line.cost_so_far_usd.astype(float)
        axes.plot(line.turn, values, color=colour, linestyle=style, linewidth=2)
        ends.append((values.iloc[-1], f"{label} {dollars(line.cost_so_far_usd.iloc[-1])}", AS_TEXT.get(colour, colour)))
    _end_labels(axes, turns * 1.015, ends)
    total = costs[costs.turn == turns].set_index(["policy", "cached"]).cost_so_far_usd
    ratio = float(total[SLIDING, True] / total[BLOCKS, True])
    limit = shape.get("limit", 20)
    finding = f"A window that slides costs {ratio:.1f} times as much as dropping blocks"
    _head(axes, finding, f"US dollars so far, list prices of {model}, at most {limit} messages sent, {turns} turns")
    _dollar_axis(axes)
    _turn_axis(axes, turns, 1, turns * 1.62)
    _describe(figure, axes)
    return axes


def _costs(calls: pd.DataFrame, priced_as: str | None) -> list[Decimal]:
    if priced_as is None:
        costs: list[Decimal] = list(calls.cost_usd)
        if calls.cost_usd.isna().any():
            raise InvalidRequest("the price of a turn is not known; name a model with priced_as")
        return costs
    price = list_price(priced_as)
    counts = calls[["uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "output_tokens"]]
    return [cost_of(Usage(**dict(zip(counts.columns, row, strict=True))), price) for row in counts.to_numpy().tolist()]


def _growth_finding(calls: pd.DataFrame) -> str:
    first, last = calls.input_tokens.iloc[0], calls.input_tokens.iloc[-1]
    if len(calls) == 1:
        return f"Turn 1 sent {first:,} tokens"
    cached = calls.cache_read_tokens.sum() / max(1, calls.input_tokens.sum())
    grown = f"Turn {len(calls)} sent {last / max(1, first):.1f} times what turn 1 did"
    return f"{grown}; {cached:.0%} of all input came from the cache"


def _figure(rows: int) -> tuple[Figure, tuple[Axes, ...]]:
    from matplotlib import pyplot as plt  # on use: 0.5 s

    figure, axes = plt.subplots(rows, 1, figsize=(7.2, 3.4 * rows), dpi=100, layout="constrained", squeeze=False)
    for ax in axes.flat:
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.grid(axis="y", color="#DDDDDD", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.tick_params(length=0, labelsize=9, colors=GREY)
        ax.locator_params(axis="y", nbins=5)
    return figure, tuple(axes.flat)


def _head(axes: Axes, finding: str, subtitle: str) -> None:
    # a pair of dollar signs would be read as mathematics
    axes.set_title(finding, loc="left", fontsize=11, fontweight="bold", pad=22, parse_math=False)
    axes.text(0, 1.03, subtitle, transform=axes.transAxes, fontsize=9, color=GREY, parse_math=False)


def _stacked_bars(axes: Axes, turns: range, parts: dict[str, tuple[str, pd.Series]]) -> None:
    below, ends = [0.0] * len(turns), []
    for label, (colour, counts) in parts.items():
        values = counts.astype(float).tolist()
        axes.bar(turns, values, bottom=below, color=colour, width=0.72)
        if any(values):
            ends.append((below[-1] + values[-1] / 2, label, AS_TEXT.get(colour, colour)))
        below = [b + v for b, v in zip(below, values, strict=True)]
    _end_labels(axes, turns[-1] + 0.42, ends)


def _end_labels(axes: Axes, x: float, ends: list[tuple[float, str, str]]) -> None:
    """Name lines or bars at their ends, the names kept apart where they come close."""
    gap = 0.07 * axes.get_ylim()[1]
    lowest = float("-inf")
    for value, label, colour in sorted(ends):
        lowest = max(value, lowest + gap)
        axes.annotate(label, (x, lowest), fontsize=9, color=colour, va="center", parse_math=False)


def _turn_axis(axes: Axes, turns: int, left: float, right: float) -> None:
    step = max(1, -(-turns // 8))
    axes.set_xlim(left, right)
    axes.set_xticks(range(step, turns + 1, step))
    axes.set_xlabel("turn", fontsize=9, color=GREY, loc="left")


def _dollar_axis(axes: Axes) -> None:
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: dollars(Decimal(str(round(value, 9)))))


def _describe(figure: Figure, *axes: Axes) -> None:
    """Say in words what the figure shows, for those who cannot see it."""
    figure.set_label("; ".join(ax.get_title(loc="left") for ax in axes))


from workbench.ledger.whatif_plots import history_lab, what_if  # noqa: F401  # which draw with what is above
