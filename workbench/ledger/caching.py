"""Which calls missed the prompt cache, why, and what that cost."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from workbench.errors import InvalidRequest
from workbench.ledger.recorded import chats_of, scope_of
from workbench.ledger.replay import FIVE_MINUTES, LASTS, OFF, USUAL_SHORTEST, shortest_cached
from workbench.pricing import cost_of, price_of
from workbench.turns import DEFAULT_ID, LOCAL_MODEL
from workbench.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    import pandas as pd

    from workbench.chat import Chat as AnyChat
    from workbench.ledger.frames import Moment
    from workbench.ledger.replay import Call, Chat

FIRST, NOT_ASKED, MODEL, GAP = "first call", "caching off", "model changed", "gap over the cache's time"
TRIMMED, SHORT, EVICTED = "history trimmed", "prompt too short", "unknown: evicted"
REASONS = {
    FIRST: "nothing to do: a chat begins once",
    NOT_ASKED: "ask for caching",
    MODEL: "keep a chat with one model: each has a cache of its own",
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
        One row per call that did not read from the cache all that its prompt had in common with the one before it in the
        chat: ``chat_id``, ``call_id``, ``started_at`` (UTC), ``model``, ``reason``, ``changed_block`` (where history was
        trimmed, the first message after the system prompt, now and before), ``gap_s`` (seconds since the call before
        began: from then a cache's time counts), ``lost_tokens``, and ``lost_usd``: what they cost beyond the price of
        reading them, a Decimal. With ``by="reason"`` one row per reason, the dearest first: ``reason``, ``calls``,
        ``lost_tokens``, ``lost_usd`` and ``what_to_do``.

        If several reasons apply, the first of these counts: first call (loses nothing), caching off, model changed, gap,
        history trimmed, prompt too short, unknown. Calls of the embedded model, without a chat or of unknown price are
        left out. The block that changed is found from which messages were sent; texts are not compared, so a system prompt
        that was edited counts as unknown.

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
    for chat in chats:
        if chat.id:
            yield from _misses(chat)


def evicted_share(chats: Iterable[Chat]) -> float:
    """Return the part of the expected cache reads of recorded chats that failed for no known reason."""
    chats = list(chats)
    failed = sum(miss.reason == EVICTED for miss in misses(chats))
    succeeded = sum(call.usage.cache_read_tokens > 0 for chat in chats for call in chat.calls if call.in_period)
    return failed / max(1, failed + succeeded)


def _misses(chat: Chat) -> Iterator[Miss]:
    base: Call | None = None
    last: Call | None = None
    for call in chat.calls:
        if not call.input_tokens or call.model == LOCAL_MODEL:
            continue
        if call.in_period and call.cost_usd is not None and (miss := _miss(chat, call, base, last)):
            yield miss
        if call.answered:
            base = call
        last = call


def _miss(chat: Chat, call: Call, base: Call | None, last: Call | None) -> Miss | None:
    """``base`` is the last call whose prompt is part of later ones, ``last`` the last at all, which read it again."""
    if base is None or last is None:
        if call.usage.cache_read_tokens:  # of a chat that it was forked from
            return None
        return Miss(chat.id, call.id, call.at, call.model, FIRST, None, None, 0, Decimal(0))
    lost = min(_common(chat, call, base), call.input_tokens) - call.usage.cache_read_tokens
    if lost <= 0:
        return None
    gap = call.at - last.at
    changed = None
    if chat.cache == OFF:
        reason = NOT_ASKED
    elif base.model != call.model:
        reason = MODEL
    elif gap >= LASTS.get(chat.cache, LASTS[FIVE_MINUTES]):
        reason = GAP
    elif base.first != call.first:
        reason = TRIMMED
        now, before = (chat.places[first] if first < len(chat.places) else "?" for first in (call.first, base.first))
        changed = f"message {now} comes first, before it was message {before}"
    elif not base.cached_tokens and base.input_tokens < max(USUAL_SHORTEST, shortest_cached(base.model)):
        reason = SHORT
    else:
        reason = EVICTED
    return Miss(chat.id, call.id, call.at, call.model, reason, changed, gap.total_seconds(), lost, _paid(call, lost))


def _common(chat: Chat, call: Call, base: Call) -> int:
    """Tokens that a prompt has in common with an earlier one, the system prompt included."""
    if call.first == base.first:
        return base.cached_tokens or base.input_tokens
    new = chat.sizes[base.count + 1 : call.count + 1]
    older = chat.sizes[call.first : base.first]  # a policy may also send more again
    return max(0, call.input_tokens - sum(new) - sum(older))


def _paid(call: Call, lost: int) -> Decimal:
    """What tokens cost beyond reading them from the cache: first of those that were written there, then of the rest."""
    usage, read = call.usage, call.usage.cache_read_tokens + lost
    moved = {}
    for name in ("cache_write_5m_tokens", "cache_write_1h_tokens", "uncached_input_tokens"):
        moved[name] = getattr(usage, name) - min(lost, getattr(usage, name))
        lost -= getattr(usage, name) - moved[name]
    price = price_of(call.model, call.at, input_tokens=usage.input_tokens, fast=usage.speed == "fast")
    if price is None:
        return Decimal(0)
    return plain(cost_of(usage, price) - cost_of(replace(usage, cache_read_tokens=read - lost, **moved), price))
