"""What differs between two versions: words, tokens, and dollars at the traffic there is."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from difflib import SequenceMatcher
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from workbench.estimates import text_tokens
from workbench.pricing import CLASSES, unit_costs
from workbench.prompts import versions
from workbench.prompts.text import LATEST, Reference
from workbench.store.queries import query
from workbench.turns import Usage
from workbench.wording import dollars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.prompts.versions import Prompt
    from workbench.store.backend import Backend

DAYS = 30
"""Of the calls that count as present traffic, and of a month."""
MOST_PAIRS = 2_000_000
"""Of the same word in both texts, up to which a diff is the finest there is; as of 1,400 words of prose."""
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


class Traffic(NamedTuple):
    """Calls with a prompt in the last 30 days to one model, and how their input was charged."""

    model: str
    calls: int
    tokens: tuple[int, ...]
    """Input tokens: new, from the cache, written to it for five minutes, and for an hour; the first of ``CLASSES``."""


class Piece(NamedTuple):
    """A stretch of words: kept, or only before, or only after."""

    kind: str
    """``same``, ``del`` or ``ins``."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """Two versions side by side. Tokens are estimates; ``usd_per_month`` is None when nothing is known to say it by."""

    before: Prompt
    after: Prompt
    tokens_before: int
    tokens_after: int
    traffic: Sequence[Traffic]
    usd_per_month: Decimal | None

    @property
    def words(self) -> list[Piece]:
        """The text, in stretches that were kept, taken out or put in."""
        return words(self.before.text, self.after.text)

    @property
    def calls(self) -> int:
        """Calls in the last 30 days."""
        return sum(each.calls for each in self.traffic)

    @property
    def cached_share(self) -> float | None:
        """The part of their input that came from the prompt cache; None without calls."""
        total = sum(sum(each.tokens) for each in self.traffic)
        return sum(each.tokens[1] for each in self.traffic) / total if total else None

    @property
    def summary(self) -> list[str]:
        """What differs beside the words, a line each."""
        more = self.tokens_after - self.tokens_before
        lines = [f"about {self.tokens_before:,} tokens -> {self.tokens_after:,} ({more:+,})", self._money()]
        for what in ("model", "effort"):
            old, new = getattr(self.before, what), getattr(self.after, what)
            if old != new:
                lines.append(f"{what}: {old or 'the default'} -> {new or 'the default'}, which is not in these dollars")
        return lines

    def _money(self) -> str:
        if not self.calls:
            return f"no traffic yet: no calls in the last {DAYS} days"
        share = self.cached_share
        cached = "" if share is None else f", {share:.0%} of their input from the cache"
        known = "cost unknown" if self.usd_per_month is None else f"{_signed(self.usd_per_month)} a month"
        calls = f"{self.calls:,} {'call' if self.calls == 1 else 'calls'}"
        return f"{known} at {calls} in the last {DAYS} days{cached}"

    def __str__(self) -> str:
        marks = {"same": "{}", "del": "[-{}-]", "ins": "{{+{}+}}"}
        text = "".join(marks[piece.kind].format(piece.text) for piece in self.words)
        return "\n".join([f"{self.before} -> {self.after}", *self.summary, "", text])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        marks = {"same": "{}", "del": _DEL, "ins": _INS}
        text = "".join(marks[piece.kind].format(escape(piece.text)) for piece in self.words)
        lines = "<br>".join(escape(line) for line in self.summary)
        return (
            f"<div><b>{escape(str(self.before))} → {escape(str(self.after))}</b>"
            f'<div style="opacity: 0.65; font-size: 85%">{lines}</div>'
            f'<pre style="white-space: pre-wrap">{text}</pre></div>'
        )


_DEL = '<del style="background: rgba(220, 50, 50, 0.22); margin-right: 0.2em">{}</del>'
_INS = '<ins style="background: rgba(40, 160, 80, 0.22); text-decoration: none">{}</ins>'


def words(before: str, after: str) -> list[Piece]:
    """Return what was kept, taken out and put in, by words; joined without ``ins`` it is before, without ``del`` after.

    >>> words("Be brief.", "Be very brief.")
    [Piece(kind='same', text='Be'), Piece(kind='ins', text=' very'), Piece(kind='same', text=' brief.')]
    """
    old, new = _WORD.findall(before), _WORD.findall(after)
    often = Counter(new)
    pairs = sum(count * often[word] for word, count in Counter(old).items())
    pieces = []
    # each change costs a look at all pairs: of long or monotonous texts what is there very often is no place to begin at
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=pairs > MOST_PAIRS).get_opcodes():
        if kind == "equal":
            pieces.append(Piece("same", "".join(old[a:b])))
            continue
        pieces += [Piece("del", "".join(old[a:b]))] if b > a else []
        pieces += [Piece("ins", "".join(new[c:d]))] if d > c else []
    return pieces


async def diff(backend: Backend, org_id: str, before: Reference, after: Reference, label: str, now: datetime) -> Diff:
    """Return what differs between two versions, with the traffic of the chats that asked for a label.

    Raises:
        PromptError: there is no such prompt, label or version.
    """
    old, new = [await versions.get(backend, org_id, each) for each in (before, after)]
    rows = await backend.rows(query("prompt_traffic"), org_id, new.name, label, now - timedelta(days=DAYS))
    traffic = [Traffic(model, calls, tuple(map(int, tokens))) for model, calls, *tokens in rows]
    tokens = text_tokens(old.text), text_tokens(new.text)
    return Diff(
        before=old,
        after=new,
        tokens_before=tokens[0],
        tokens_after=tokens[1],
        traffic=traffic,
        usd_per_month=_usd(traffic, tokens[1] - tokens[0], now),
    )


async def from_production(backend: Backend, org_id: str, name: str, label: str) -> Reference:
    """Return the version to compare the newest with: the label's, or the one before when that is the newest."""
    pointed = await versions.get(backend, org_id, Reference(name, label))
    newest = await versions.get(backend, org_id, Reference(name, LATEST))
    at = pointed.version if pointed.version < newest.version else max(1, newest.version - 1)
    return Reference(name, None, at)


def _usd(traffic: Sequence[Traffic], tokens: int, now: datetime) -> Decimal | None:
    """What so many more tokens cost at this traffic, charged as its input was; None where nobody knows a price."""
    total = Decimal(0)
    for model, calls, charged in traffic:
        if not sum(charged):
            continue
        # of prompts of this length: some models charge more for a token of a very long one
        prices = unit_costs(model, now.astimezone(UTC), input_tokens=sum(charged) // calls, terms=Usage())
        if prices is None:
            return None
        for name, count in zip(CLASSES, charged, strict=False):
            total += prices[name] * tokens * calls * count / sum(charged)
    return total if traffic else None


def _signed(usd: Decimal) -> str:
    return f"+{dollars(usd)}" if usd > 0 else dollars(usd)
