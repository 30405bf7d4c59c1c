"""What a table will cost, before any of it is asked: a range, and why it is one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING

from workbench.estimates import AROUND_A_QUESTION, text_tokens
from workbench.pricing import MILLION, price_of
from workbench.tokens import offline_tokens
from workbench.wording import dollars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.mapping.questions import Question, Terms

COUNTED_EXACTLY = 1_000_000
"""Characters; ctok takes 18 s for as many, the rough count less than one."""
SHORTEST_CACHED = 512
"""Tokens of a system prompt, from which on the newest models may keep it in their cache; older ones want 1,024 or more."""
ROUGH = (Decimal("0.85"), Decimal("1.5"))
"""How far a rough count may be off: 12 % for English and code, a third for languages whose words it knows less well."""
CTOK = (Decimal("0.98"), Decimal("1.02"))
SCHEMA_TOKENS = (0, 300)
"""What the upstream adds beside the schema itself to say that the reply must fit it."""


WHEN = "answers within 24 hours, mostly within one"


@dataclass(frozen=True, slots=True, kw_only=True)
class MapEstimate:
    """What :func:`workbench.map` would use and cost.

    ``low_usd`` and ``high_usd`` are None when the price is not known; ``reasons`` say why there are two.
    """

    model: str
    rows: int
    to_ask: int
    """Questions: rows that ask the same count once."""
    answered: int
    """Rows whose reply is there from before, or comes with another row's."""
    unaskable: int
    """Rows that miss a value, or whose question cannot be sent."""
    waiting: int = 0
    """Questions that are in a batch already."""
    input_tokens: int
    """About, of all questions together."""
    low_usd: Decimal | None
    high_usd: Decimal | None
    reasons: tuple[str, ...]
    batch: bool = False
    """Whether it is the price of a batch."""

    @property
    def range(self) -> str:
        """Both ends, as people write them."""
        if self.low_usd is None or self.high_usd is None:
            return f"unknown, for the price of {self.model!r} is"
        if self.low_usd == self.high_usd:
            return dollars(self.low_usd)
        return f"{dollars(self.low_usd)} to {dollars(self.high_usd)}"

    @property
    def line(self) -> str:
        """The whole in one line."""
        parts = [f"{self.rows:,} rows", f"{self.to_ask:,} questions to {self.model}", f"cost: {self.range}"]
        if self.batch:
            parts[-1] += f" as a batch, {WHEN}"
        elif self.high_usd:
            parts[-1] += f"; as a batch half of it, {WHEN}"
        if self.waiting:
            parts.insert(1, f"{self.waiting:,} in a batch already")
        if self.answered:
            parts.insert(1, f"{self.answered:,} answered before or with another")
        if self.unaskable:
            parts.insert(1, f"{self.unaskable:,} that cannot be asked")
        return " · ".join(parts)

    def __str__(self) -> str:
        return "\n".join([self.line, *(f"- {reason}" for reason in self.reasons)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in self.reasons)
        return f"<p>{escape(self.line)}</p><ul>{reasons}</ul>"


def estimated(
    rows: int, unaskable: int, questions: Sequence[Question], terms: Terms, *, batch: bool = False
) -> MapEstimate:
    """Return what the questions that have not ended will cost; ``batch``: asked in batches, at half the price.

    Source: https://platform.claude.com/docs/en/build-with-claude/batch-processing
    """
    left = [question for question in questions if not question.ended]
    to_ask = [question for question in left if not question.waiting]
    now, most = datetime.now(UTC), terms.max_tokens
    shared = f"{terms.sent_system or ''}{terms.sent_schema or ''}"
    exact = sum(len(q.prompt) for q in to_ask) <= COUNTED_EXACTLY and offline_tokens(terms.model, ["a"]) is not None
    off_low, off_high = CTOK if exact else ROUGH

    def count(text: str) -> int:
        counted = offline_tokens(terms.model, [text]) if exact else None
        return text_tokens(text) + AROUND_A_QUESTION if counted is None else counted

    shared_tokens = count(shared) - count("")
    may_cache = terms.system is not None and text_tokens(terms.system) >= SHORTEST_CACHED
    least = text_tokens(terms.columns.shortest) // 2 if terms.columns else 1
    overhead = SCHEMA_TOKENS if terms.sent_schema else (0, 0)
    tokens, low, high, priced = 0, Decimal(0), Decimal(0), True
    for question in to_ask:
        asked = count(question.prompt)
        tokens += asked + shared_tokens
        price = price_of(terms.model, now, input_tokens=asked + shared_tokens)
        if price is None:
            priced = False
            continue
        least_shared, most_shared = (
            (price.cache_read, price.cache_write_5m) if may_cache else (price.input, price.input)
        )
        low += (asked * price.input + shared_tokens * least_shared) * off_low
        low += overhead[0] * price.input + min(least, most) * price.output
        high += (asked * price.input + shared_tokens * most_shared) * off_high
        high += overhead[1] * price.input + most * price.output
    return MapEstimate(
        model=terms.model,
        rows=rows,
        to_ask=len(to_ask),
        answered=rows - unaskable - len(left),
        unaskable=unaskable,
        waiting=len(left) - len(to_ask),
        input_tokens=tokens,
        low_usd=low / (MILLION * (2 if batch else 1)) if priced else None,
        high_usd=high / (MILLION * (2 if batch else 1)) if priced else None,
        batch=batch and priced and bool(high),
        reasons=_reasons(
            terms, exact=exact, may_cache=may_cache, asked=bool(to_ask), free=priced and not high, batch=batch
        ),
    )


def _reasons(terms: Terms, *, exact: bool, may_cache: bool, asked: bool, free: bool, batch: bool) -> tuple[str, ...]:
    if not asked:
        return ("nothing is left to ask",)
    if free:
        return ("nobody charges for the embedded model",)
    reasons = [f"how long replies will be is not known: up to {terms.max_tokens:,} tokens each (max_tokens)"]
    reasons.append(
        "input tokens are counted by ctok, within 2 %"
        if exact
        else "input tokens are a rough count, from 15 % too high to a third too low"
    )
    if may_cache:
        reasons.append("the system prompt may come from the cache, or be written to it")
    if batch:
        reasons.append("a batch costs half of every token; of a question that fails in it nothing is charged")
    else:
        reasons.append("calls that fail and are tried again may be charged too; max_cost counts them")
    return tuple(reasons)
