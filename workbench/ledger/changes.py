"""Why two periods cost differently: an exact split of the difference into what changed."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from math import factorial
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequest
from workbench.ledger.classes import Spent, spent_by
from workbench.turns import DEFAULT_ID
from workbench.wording import counted, dollars, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from workbench.ledger.frames import Moment, Where

FACTORS = ("volume", "model mix", "input length", "reply length", "caching", "price", "web searches", "other")
INPUT = {
    "uncached_input_tokens": ("new input", "was new"),
    "cache_read_tokens": ("cache reads", "came from the cache"),
    "cache_write_5m_tokens": ("cache writes", "was written to the cache"),
    "cache_write_1h_tokens": ("one-hour cache writes", "was written to the one-hour cache"),
}
"""The classes of a prompt, and what is said of the part they have in it."""
_DIGITS = 15
"""Decimals to which a part is rounded; the largest part takes what that leaves, so that nothing is lost."""

_Two = tuple[int | Decimal | Fraction, int | Decimal | Fraction]
Parts = dict[tuple[str, str, str], Decimal]
"""US dollars by factor, model and class."""


def why(
    before: tuple[Moment | None, Moment | None],
    after: tuple[Moment | None, Moment | None],
    where: Where | None = None,
    *,
    tz: str = "UTC",
    org: str = DEFAULT_ID,
) -> pd.DataFrame:
    """Return why two periods cost differently: parts that add up to the difference exactly.

    Args:
        before: The first moment of a period and the first one after it; None: no bound.
        after: The same of the other period.
        where: Only calls with these values, as in ``wb.usage``.
        tz: Where days begin.
        org: Whose calls.

    Returns:
        A row per factor: ``factor``, ``usd`` (Decimal), ``share`` of the difference (a float; missing if there is none)
        and a ``sentence``. ``attrs`` has ``before_usd`` and ``after_usd``; ``usd`` adds up to their difference, to the
        last digit. The factors:

        - ``volume``: the number of calls,
        - ``model mix``: which part of the calls each model has,
        - ``input length`` and ``reply length``: tokens per call of a model,
        - ``caching``: which part of a model's input was new, read from the cache or written to it,
        - ``price``: what a token of a class of a model cost on average; batch, fast mode, place and the dearer prices
          of very long prompts are in it,
        - ``web searches``: how many per call of a model,
        - ``other``: what no class explains; see ``other_usd`` of ``wb.cost_by_class``.

        Calls of unknown price are in none of them; if there are any, a last row ``unknown price`` says how many, without
        an amount.

    Raises:
        InvalidRequest: a period is no pair of times, or what ``wb.usage`` does not know either.

    What a class of a model costs is a product: calls x part of the calls x tokens per call x part of the input x price.
    Replacing one after the other by its new value splits the difference exactly, but the split depends on the order. So
    each factor gets the mean over all orders, its Shapley value: it needs no order, adds up exactly, gives nothing to what
    did not change, and swapping the periods only turns the signs. It is calculated in fractions, not in floats. Where a
    period lacks a value, such as the tokens per call of a model not used in it, it takes that of the other.

    Example::

        wb.why(before=("2026-10-01", "2026-11-01"), after=("2026-11-01", "2026-12-01"))

    Source: A. F. Shorrocks, Decomposition procedures for distributional analysis: a unified framework based on the
    Shapley value, Journal of Economic Inequality 11 (2013) 99-126, doi:10.1007/s10888-011-9214-z
    """
    spent: list[dict[str, Spent]] = []
    for name, period in (("before", before), ("after", after)):
        if not isinstance(period, tuple | list) or len(period) != 2:
            raise InvalidRequest(
                f"{name} is {period!r}; give its first moment and the one after it: ('2026-10-01', None)"
            )
        groups, _ = spent_by(*period, ["model"], where, tz=tz, org=org)
        spent.append({str(model): each for (model,), each in groups.items()})
    return _explained(*spent)


def _explained(before: Mapping[str, Spent], after: Mapping[str, Spent]) -> pd.DataFrame:
    import pandas as pd  # on use: 0.7 s

    parts = split(before, after)
    totals = {factor: sum((usd for key, usd in parts.items() if key[0] == factor), Decimal(0)) for factor in FACTORS}
    periods = (before.values(), after.values())
    costs = [sum((each.cost_usd for each in period), Decimal(0)) for period in periods]
    difference = costs[1] - costs[0]
    rows: list[tuple[str, Decimal | None, float | None, str]] = [
        (
            factor,
            plain(usd),
            float(usd / difference) if difference else None,
            f"{signed(usd)}: {_reason(factor, parts, before, after)}",
        )
        for factor, usd in totals.items()
    ]
    unpriced = [sum(each.unpriced_calls for each in period) for period in periods]
    if any(unpriced):
        verbs = "has no known price and is" if sum(unpriced) == 1 else "have no known price and are"
        said = f"unknown: {counted(unpriced[1], 'call')} after and {unpriced[0]:,} before {verbs} not counted"
        rows.append(("unknown price", None, None, said))
    frame = pd.DataFrame(rows, columns=["factor", "usd", "share", "sentence"]).astype({"share": "float64"})
    frame.attrs |= {"before_usd": plain(costs[0]), "after_usd": plain(costs[1])}
    return frame


def split(before: Mapping[str, Spent], after: Mapping[str, Spent]) -> Parts:
    """Return the parts of the difference between two periods, given what was spent by model; they add up exactly."""
    models = list(dict.fromkeys([*before, *after]))
    olds, news = [[period.get(model, Spent()) for model in models] for period in (before, after)]
    volume = Fraction(sum(map(_priced, olds))), Fraction(sum(map(_priced, news)))
    parts: Parts = defaultdict(Decimal)
    for model, old, new in zip(models, olds, news, strict=True):
        calls = _priced(old), _priced(new)
        inputs = _input(old), _input(new)
        for name in old.tokens:
            counts, costs = (old.tokens[name], new.tokens[name]), (old.costs[name], new.costs[name])
            factors = {"volume": volume, "model mix": _ratios(calls, volume)}
            if name in INPUT:
                factors |= {"input length": _ratios(inputs, calls), "caching": _ratios(counts, inputs)}
            else:
                factors["web searches" if name == "web_searches" else "reply length"] = _ratios(counts, calls)
            factors["price"] = _ratios(costs, counts)
            for factor, usd in _exactly(shapley(factors), costs[1] - costs[0]).items():
                parts[factor, model, name] += usd
        parts["other", model, ""] += new.other_usd - old.other_usd
    return dict(parts)


def shapley(factors: Mapping[str, tuple[Fraction, Fraction]]) -> dict[str, Fraction]:
    """Return what each factor adds to the difference of a product, on average over all orders of replacing them.

    >>> one, two, three = Fraction(1), Fraction(2), Fraction(3)
    >>> [str(part) for part in shapley({"a": (one, two), "b": (one, three)}).values()]
    ['2', '3']
    """
    count = len(factors)
    weights = [Fraction(factorial(k) * factorial(count - 1 - k), factorial(count)) for k in range(count)]
    parts = {}
    for name, (old, new) in factors.items():
        # sums of the products of the others, by how many of them are new already
        sums = [Fraction(1)]
        for other, (before, after) in factors.items():
            if other != name:
                lower, higher = [each * before for each in sums], [each * after for each in sums]
                sums = [a + b for a, b in zip([*lower, Fraction(0)], [Fraction(0), *higher], strict=True)]
        parts[name] = (new - old) * sum((w * each for w, each in zip(weights, sums, strict=True)), Fraction(0))
    return parts


def signed(amount: Decimal) -> str:
    """Return an amount with its sign.

    >>> signed(Decimal("0.5")), signed(Decimal("-12")), signed(Decimal(0))
    ('+$0.50', '-$12', '$0')
    """
    size = dollars(abs(amount))
    return size if size == "$0" else f"{'-' if amount < 0 else '+'}{size}"


def _priced(spent: Spent) -> int:
    return spent.calls - spent.unpriced_calls


def _input(spent: Spent) -> int:
    return sum(spent.tokens[name] for name in INPUT)


def _ratios(above: _Two, below: _Two) -> tuple[Fraction, Fraction]:
    """A ratio before and after; one that has no denominator is that of the other."""
    old, new = [Fraction(a) / Fraction(b) if b else None for a, b in zip(above, below, strict=True)]
    if old is None:
        old = new or Fraction(0)
    return old, old if new is None else new


def _exactly(parts: Mapping[str, Fraction], total: Decimal) -> dict[str, Decimal]:
    """The parts as Decimals that add up to the total."""
    rounded = {name: Decimal(round(part * 10**_DIGITS)).scaleb(-_DIGITS) for name, part in parts.items()}
    rounded[max(rounded, key=lambda name: abs(rounded[name]))] += total - sum(rounded.values())
    return rounded


def _reason(factor: str, parts: Parts, before: Mapping[str, Spent], after: Mapping[str, Spent]) -> str:
    """What changed, told of the model and the class that matter most."""
    calls = [sum(map(_priced, period.values())) for period in (before, after)]
    if factor == "volume":
        return f"{counted(calls[1], 'call')} instead of {calls[0]:,}"
    if factor == "other":
        return "rounding of single calls, and costs recorded at prices that the table does not have"
    sizes: dict[str, Decimal] = defaultdict(Decimal)
    for (name, model, _), usd in parts.items():
        if name == factor:
            sizes[model] += usd
    if not any(sizes.values()):
        return "no change"
    model = max(sizes, key=lambda name: abs(sizes[name]))
    token = max((key for key in parts if key[:2] == (factor, model)), key=lambda key: abs(parts[key]))[2]
    old, new = before.get(model, Spent()), after.get(model, Spent())
    said = f"most by {model}, "
    match factor:
        case "model mix":
            old_part, new_part = _ratios((_priced(old), _priced(new)), (calls[0], calls[1]))
            return f"{said}{float(new_part):.0%} of the calls instead of {float(old_part):.0%}"
        case "input length" | "reply length" | "web searches":
            what = {"input length": "input tokens", "reply length": "output tokens"}.get(factor, "searches")
            count = _input if factor == "input length" else lambda spent: spent.tokens[token]
            each = _ratios((count(old), count(new)), (_priced(old), _priced(new)))
            digits = 2 if what == "searches" else 0
            return f"{said}{float(each[1]):,.{digits}f} {what} a call instead of {float(each[0]):,.{digits}f}"
        case "caching":
            part = _ratios((old.tokens[token], new.tokens[token]), (_input(old), _input(new)))
            return f"{said}{float(part[1]):.0%} of its input {INPUT[token][1]} instead of {float(part[0]):.0%}"
        case _:
            prices = _ratios((old.costs[token], new.costs[token]), (old.tokens[token], new.tokens[token]))
            unit = 1 if token == "web_searches" else 1_000_000
            was, now = (dollars(Decimal(str(float(price * unit)))) for price in prices)
            names = {name: words[0] for name, words in INPUT.items()} | {"output_tokens": "replies"}
            what = names.get(token, "searches")
            return f"{said}{what} at {now} {'each' if unit == 1 else 'a million'} instead of {was}"
