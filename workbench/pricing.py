"""What a call to a model costs, in US dollars, exactly.

Prices are data with a date: they come from the offline table of ``genai-prices`` and from the corrections below, and
every ledger row keeps the counts and the source of its price, so any row can be priced again. A price that is not
known is None, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workbench.turns import LOCAL_MODEL, Usage
from workbench.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_prices.types import ModelInfo

MILLION = Decimal(1_000_000)
CLASSES = (
    "uncached_input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "web_searches",
)
"""What is counted, and billed, apart."""
LEDGER_DIGITS = Decimal("0.000000001")
"""The ledger keeps nine decimals of a dollar: a tenth of the cheapest token there is."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, of one model on one day; ``web_search`` is US dollars per search."""

    input: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    output: Decimal
    web_search: Decimal = Decimal("0.01")
    source: str = ""


_ZERO = Decimal(0)
FREE = Price(_ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, source="embedded model: no charge")


def cost_of(usage: Usage, price: Price) -> Decimal:
    """Return the US-dollar cost of one call, exact and unrounded.

    Args:
        usage: Counts of a single call. Never a sum: above a long-context tier tokens cost more, so five
            calls of 100k input tokens and one of 500k have different costs.
        price: In force when the call was sent; see :func:`price_of`.

    A batch costs half of every token class; a call kept in the US costs a tenth more (``inference_geo``).

    Example:
        >>> from workbench.turns import Usage
        >>> sonnet = Price(*map(Decimal, ("2", "0.10", "2.50", "4", "10")))
        >>> cost_of(Usage(uncached_input_tokens=1000, output_tokens=42), sonnet)
        Decimal('0.00242')

    Source: https://platform.claude.com/docs/en/about-claude/pricing
    """
    tokens = (
        usage.uncached_input_tokens * price.input
        + usage.cache_read_tokens * price.cache_read
        + usage.cache_write_5m_tokens * price.cache_write_5m
        + usage.cache_write_1h_tokens * price.cache_write_1h
        + usage.output_tokens * price.output
    ) / MILLION
    if usage.service_tier == "batch":
        tokens /= 2
    if usage.inference_geo == "us":
        tokens *= Decimal("1.1")
    return tokens + usage.web_searches * price.web_search


def price_of(model: str, at: datetime, *, input_tokens: int = 0, fast: bool = False) -> Price | None:
    """Return the price of a model for a call sent at that time, or None when it is not known.

    Args:
        model: The model that was asked for, or ``local``.
        at: When the call was sent, with a time zone: prices change.
        input_tokens: The whole prompt; above a threshold some models charge every token more.
        fast: Whether the call ran in fast mode, which has prices of its own.

    Example:
        >>> price_of("claude-haiku-5-5", datetime(2026, 11, 24, tzinfo=UTC), input_tokens=100_001).input
        Decimal('0.5')
    """
    if model == LOCAL_MODEL:
        return FREE
    info = _model_info(model)
    if info is None:
        return None
    listed = info.get_prices(at)
    if fast:
        normal, listed = listed, info.get_prices(at, {"speed": "fast"})
        if listed == normal:  # the table answers so for a model whose fast mode it does not know
            return None

    def per_million(key: str) -> Decimal | None:
        price: Any = getattr(listed, key)
        tiers = getattr(price, "tiers", ())
        tier: Decimal | None = next((t.price for t in reversed(tiers) if input_tokens > t.start), None)
        return getattr(price, "base", price) if tier is None else tier

    def or_else(key: str, otherwise: Decimal) -> Decimal:
        price = per_million(key)
        return otherwise if price is None else price

    tokens_in, out = per_million("input_mtok"), per_million("output_mtok")
    if tokens_in is None or out is None:
        return None
    return Price(
        tokens_in,
        _correction(info.id, at) or or_else("cache_read_mtok", tokens_in),
        # 1.25 and 2 times the input price where the table has no price of its own
        or_else("cache_write_mtok", tokens_in * Decimal("1.25")),
        or_else("cache_write_1h_mtok", tokens_in * 2),
        out,
        source=_source(),
    )


_CHEAPER_READS = date(2026, 10, 7)


def _correction(model: str, at: datetime) -> Decimal | None:
    """Cache-read prices that the table holds only in their newest form."""
    if model == "claude-sonnet-5-5" and at.astimezone(UTC).date() < _CHEAPER_READS:
        return Decimal("0.20")
    return None


@lru_cache(maxsize=256)
def _model_info(model: str) -> ModelInfo | None:
    # imported on use: 0.4 s, and a ledger that is only read needs no price
    from genai_prices.data_snapshot import get_snapshot

    claude = next(p for p in get_snapshot().providers if p.id == "anthropic")
    return claude.find_model(model)


def listed_name(model: str) -> str | None:
    """Return the name under which the price table lists a model, dated or not; None when it does not.

    Example:
        >>> listed_name("claude-haiku-5-5-20260901")
        'claude-haiku-5-5'
    """
    info = _model_info(model)
    return None if info is None else info.id


def context_window(model: str) -> int | None:
    """Return how many tokens a model takes at most, prompt and reply together; None when the table does not say.

    >>> context_window("claude-haiku-4-5"), context_window("claude-9")
    (200000, None)
    """
    info = _model_info(model)
    return None if info is None else info.context_window


def costs_by_class(model: str, usage: Usage, at: datetime) -> dict[str, Decimal] | None:
    """Return what each class of tokens of a call cost in US dollars, by the name of its count; None without a price.

    Together with ``web_searches`` they are what :func:`cost_of` returns.
    """
    price = price_of(model, at, input_tokens=usage.input_tokens, fast=usage.speed == "fast")
    if price is None:
        return None
    terms = Usage(service_tier=usage.service_tier, inference_geo=usage.inference_geo)
    return {name: plain(cost_of(replace(terms, **{name: getattr(usage, name)}), price)) for name in CLASSES}


def unit_costs(model: str, at: datetime, *, input_tokens: int = 0, terms: Usage) -> dict[str, Decimal] | None:
    """Return what one token of each class, and one web search, costs in US dollars; None without a price.

    Args:
        model: The model that was asked for.
        at: When the calls were sent.
        input_tokens: Any length of prompt above the same of ``tier_starts()`` as theirs.
        terms: Their service tier, speed and place; its counts are not looked at.
    """
    price = price_of(model, at, input_tokens=input_tokens, fast=terms.speed == "fast")
    if price is None:
        return None
    bare = Usage(service_tier=terms.service_tier, inference_geo=terms.inference_geo)
    one: dict[str, Any] = dict.fromkeys(CLASSES, 1)
    return {name: plain(cost_of(replace(bare, **{name: one[name]}), price)) for name in CLASSES}


@lru_cache(maxsize=1)
def tier_starts() -> tuple[int, ...]:
    """Return the lengths of a prompt, in tokens, above which some model has other prices; shortest first."""
    return tuple(sorted({tier.start for _, price in _listed() for tier in getattr(price.input_mtok, "tiers", ())}))


@lru_cache(maxsize=1)
def price_changes() -> tuple[datetime, ...]:
    """Return the moments at which the price of some model changed, oldest first."""
    days = {getattr(constraint, "start_date", None) for constraint, _ in _listed()} | {_CHEAPER_READS}
    return tuple(datetime(day.year, day.month, day.day, tzinfo=UTC) for day in sorted(filter(None, days)))


def _listed() -> Iterator[tuple[Any, Any]]:
    """Every price of the table, and from when on it holds if it has not always."""
    from genai_prices.data_snapshot import get_snapshot  # 0.4 s

    claude = next(p for p in get_snapshot().providers if p.id == "anthropic")
    for model in claude.models:
        prices: Any = model.prices
        for price in prices if isinstance(prices, list) else [prices]:
            yield getattr(price, "constraint", None), getattr(price, "prices", price)


def listed_models(at: datetime) -> dict[str, Price]:
    """Return the models of the price table with their prices at that time, by the name under which it lists them."""
    from genai_prices.data_snapshot import get_snapshot  # 0.4 s

    claude = next(p for p in get_snapshot().providers if p.id == "anthropic")
    priced = {model.id: price_of(model.id, at) for model in claude.models if model.name}
    return {model: price for model, price in priced.items() if price is not None}


@lru_cache(maxsize=1)
def _source() -> str:
    from importlib.metadata import version

    return f"genai-prices {version('genai-prices')}"


def cost_and_source(model: str, usage: Usage, at: datetime) -> tuple[Decimal | None, str]:
    """Return what a call cost, as the ledger keeps it, and where the price comes from.

    (None, ``unknown``) when there is no price.
    """
    price = price_of(model, at, input_tokens=usage.input_tokens, fast=usage.speed == "fast")
    if price is None:
        return None, "unknown"
    return plain(cost_of(usage, price).quantize(LEDGER_DIGITS)), price.source


def worst_case(model: str, input_tokens: int, max_tokens: int, at: datetime) -> Decimal | None:
    """Return the most a call can cost in US dollars: every input token written to the one-hour cache, a full reply."""
    price = price_of(model, at, input_tokens=input_tokens)
    if price is None:
        return None
    return (input_tokens * max(price.cache_write_1h, price.input) + max_tokens * price.output) / MILLION


def longest_reply(model: str, input_tokens: int, held_usd: Decimal | None, at: datetime) -> int | None:
    """Return how many tokens a reply can have had for which that much was held.

    None when the price is not known or nobody charges: then no reply is bounded by what was held for it.

    Example:
        >>> longest_reply("claude-sonnet-5-5", 51, Decimal("0.041164"), datetime(2026, 11, 24, tzinfo=UTC))
        4096
    """
    asking = worst_case(model, input_tokens, 0, at)
    one_more = worst_case(model, input_tokens, 1, at)
    if held_usd is None or asking is None or one_more is None or asking == one_more:
        return None
    return max(0, int((held_usd - asking) / (one_more - asking)))
