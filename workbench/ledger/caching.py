"""Which calls missed the prompt cache, why, and what that cost."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workbench.errors import InvalidRequest
from workbench.ledger.columns import CACHES, EPOCH, FIVE_MINUTES, MICROSECOND, OFF, Counts, last_before
from workbench.ledger.costs import costs_of
from workbench.ledger.reading import columns_of
from workbench.ledger.recorded import chats_of, scope_of
from workbench.ledger.replay import LASTS, USUAL_SHORTEST, shortest_cached
from workbench.turns import DEFAULT_ID
from workbench.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    import pandas as pd

    from workbench.chat import Chat as AnyChat
    from workbench.ledger.columns import Chat, Columns, Ints
    from workbench.ledger.frames import Moment

FIRST, NOT_ASKED, MODEL, PROMPT = "first call", "caching off", "model changed", "system prompt changed"
GAP, TRIMMED, SHORT, EVICTED = "gap over the cache's time", "history trimmed", "prompt too short", "unknown: evicted"
REASONS = {
    FIRST: "nothing to do: a chat begins once",
    NOT_ASKED: "ask for caching",
    MODEL: "keep a chat with one model: each has a cache of its own",
    PROMPT: "change a prompt between chats rather than within one: it comes first, so all of the chat is sent anew",
    GAP: "an hour's cache bridges longer gaps but costs more to fill; whether it pays: wb.what_if(cache='1h')",
    TRIMMED: "trim less often, in larger blocks or not at all; whether that pays: wb.history_lab()",
    SHORT: "nothing to do: so short a prompt is not cached",
    EVICTED: "nothing known to do: the cache promises nothing",
}
"""In the order in which they are looked for, and what can be done."""


class Miss(NamedTuple):
    """A call that did not read what the prompts before it had in common with its own."""

    chat_id: str
    call_id: str
    started_at: datetime
    model: str
    reason: str
    changed_block: str | None
    gap_s: float | None
    lost_tokens: int
    lost_usd: Decimal


def cache_doctor(
    chat: AnyChat | str | None = None,
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    by: str | None = None,
    org: str = DEFAULT_ID,
) -> pd.DataFrame:
    """Return the calls that missed the prompt cache, why, and what that cost.

    Args:
        chat: Only of this chat; a chat or its id.
        since: Calls from this moment on.
        until: Calls before this moment.
        by: ``reason`` to sum up.
        org: Whose calls.

    Returns:
        One row per call that did not read from the cache all that its prompt had in common with the one before it in
        the chat: ``chat_id``, ``call_id``, ``started_at`` (UTC), ``model``, ``reason``, ``changed_block`` (where
        history was trimmed, the first message after the system prompt, else that prompt's version, now and before),
        ``gap_s`` (seconds since the call before began: from then a cache's time counts), ``lost_tokens``, and
        ``lost_usd``: what they cost beyond the price of reading them, a Decimal. With ``by="reason"`` one row per
        reason, the dearest first: ``reason``, ``calls``, ``lost_tokens``, ``lost_usd`` and ``what_to_do``.

        If several reasons apply, the first of these counts: first call (loses nothing), caching off, model changed,
        system prompt changed, gap, history trimmed, prompt too short, unknown. Calls of the embedded model, without a
        chat or of unknown price are left out. The block that changed is found from which messages, and which version of
        a prompt, were sent; texts are not compared.

    Raises:
        InvalidRequest: a time that is none, or another ``by``.

    Example::

        wb.cache_doctor(since="2026-11-01", by="reason")
    """
    import pandas as pd

    if by not in (None, "reason"):
        raise InvalidRequest(f"misses cannot be summed by {by!r}; use 'reason', or nothing for one row per call")
    found = list(misses(chats_of(scope_of(since, until, chat, org))))
    calls = pd.DataFrame(found, columns=list(Miss._fields))
    if by is None:
        texts = dict.fromkeys(("chat_id", "call_id", "model", "reason", "changed_block"), "str")
        return calls.astype(texts | {"started_at": "datetime64[us, UTC]", "gap_s": "float64", "lost_tokens": "int64"})
    rows = [
        (
            reason,
            len(those),
            sum(miss.lost_tokens for miss in those),
            sum((m.lost_usd for m in those), Decimal(0)),
            advice,
        )
        for reason, advice in REASONS.items()
        if (those := [miss for miss in found if miss.reason == reason])
    ]
    rows.sort(key=lambda row: -row[3])
    return pd.DataFrame(rows, columns=["reason", "calls", "lost_tokens", "lost_usd", "what_to_do"])


def misses(chats: Iterable[Chat]) -> Iterator[Miss]:
    """Yield the misses of chats, in order."""
    calls = columns_of(chats)
    found = _missed(calls)
    this, base, last = found.calls, found.base, found.last
    paid = _paid(calls, this, found.lost)
    for n, (call, reason, lost) in enumerate(zip(this.tolist(), found.reasons, found.lost.tolist(), strict=True)):
        changed = gap = None
        if reason == TRIMMED:
            now, before = (_place(calls, calls.chat[call], calls.first[which]) for which in (call, base[n]))
            changed = f"message {now} comes first, before it was message {before}"
        if reason == PROMPT:
            now, before = (calls.prompts[calls.prompt[which]] or "none" for which in (call, base[n]))
            changed = f"the system prompt is {now}, before it was {before}"
        if reason != FIRST:
            gap = int(calls.at[call] - calls.at[last[n]]) / 1_000_000
        at, chat, model = EPOCH + int(calls.at[call]) * MICROSECOND, calls.chat[call], calls.model[call]
        yield Miss(calls.names[chat], calls.ids[call], at, calls.models[model], reason, changed, gap, lost, paid[n])


def evicted_share(chats: Iterable[Chat]) -> float:
    """Return the part of the expected cache reads of recorded chats that failed for no known reason."""
    calls = columns_of(chats)
    failed = _missed(calls).reasons.count(EVICTED)
    succeeded = int(((calls.counts.read > 0) & calls.in_period).sum())
    return failed / max(1, failed + succeeded)


class _Missed(NamedTuple):
    """Calls that missed the cache, in order."""

    calls: Ints
    base: Ints
    """The last call of the chat before each, whose prompt is part of later ones; -1 of the first."""
    last: Ints
    """The last at all, which read it again."""
    lost: Ints
    reasons: list[str]


def _missed(calls: Columns) -> _Missed:
    order, _ = calls.in_chats
    order = order[~calls.local[order]]
    begins = np.searchsorted(calls.chat[order], calls.chat[order])
    places = last_before(calls.answered[order])
    base = np.where(places >= begins, order[places], -1)
    last = np.append(-1, order)[:-1]
    read, cached = calls.counts.read[order], calls.cached
    first = base < 0
    lost = np.where(first, 0, np.minimum(_common(calls, order, base), calls.input[order]) - read)
    missed = np.where(first, read == 0, lost > 0)  # the first call of a fork reads what the chat it came from wrote
    missed &= calls.in_period[order] & calls.priced[order]
    order, base, last, lost = (column[missed] for column in (order, base, last, lost))

    cache = calls.cache[order]
    lasts = np.array([LASTS.get(name, LASTS[FIVE_MINUTES]) // MICROSECOND for name in (*CACHES, "")])
    shortest = np.array([max(USUAL_SHORTEST, shortest_cached(model)) for model in calls.models], np.int64)
    why = {
        FIRST: base < 0,
        NOT_ASKED: cache == CACHES.index(OFF),
        MODEL: calls.model[base] != calls.model[order],
        PROMPT: calls.prompt[base] != calls.prompt[order],
        GAP: calls.at[order] - calls.at[last] >= lasts[cache],
        TRIMMED: calls.first[base] != calls.first[order],
        SHORT: (cached[base] == 0) & (calls.input[base] < shortest[calls.model[base]]),
    }
    return _Missed(order, base, last, lost, np.select(list(why.values()), list(why), EVICTED).tolist())


def _common(calls: Columns, this: Ints, base: Ints) -> Ints:
    """Tokens that prompts have in common with earlier ones, the system prompt included."""
    chat, count, first = calls.chat[this], calls.count, calls.first

    def said(start: Ints, end: Ints) -> Ints:
        least, most = calls.size_starts[chat], calls.size_starts[chat + 1]
        start, end = (np.minimum(least + place, most) for place in (start, end))
        tokens: Ints = np.maximum(calls.before[end] - calls.before[start], 0)
        return tokens

    new, older = said(count[base] + 1, count[this] + 1), said(first[this], first[base])  # some may be sent again
    otherwise = np.maximum(calls.input[this] - new - older, 0)
    cached = np.where(calls.cached[base] > 0, calls.cached[base], calls.input[base])
    common: Ints = np.where(first[this] == first[base], cached, otherwise)
    return common


def _place(calls: Columns, chat: int, first: int) -> int | str:
    places = calls.places[calls.size_starts[chat] : calls.size_starts[chat + 1]]
    return int(places[first]) if first < len(places) else "?"


def _paid(calls: Columns, this: Ints, lost: Ints) -> list[Decimal]:
    """What tokens cost beyond reading them from the cache: first of those that were written there, then of the rest."""
    was = Counts(*(count[this] for count in calls.counts))
    moved, left = {}, lost
    for name in ("short", "long", "uncached"):
        count = getattr(was, name)
        moved[name] = count - np.minimum(left, count)
        left = left - np.minimum(left, count)
    would = was._replace(read=was.read + lost - left, **moved)
    call = (calls.models, calls.model[this], calls.priced_from[this])
    terms = (calls.batch[this], calls.us[this], calls.fast[this])
    paid, least = (costs_of(*call, counts, *terms) for counts in (was, would))
    return [plain(Decimal(int(more)).scaleb(-paid.digits)) for more in paid.amounts - least.amounts]
