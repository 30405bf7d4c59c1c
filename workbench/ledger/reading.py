"""From rows of the ledger to the chats they tell of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from workbench.ledger.columns import FIVE_MINUTES, HOUR, NANO, OFF, Call, Chat, Columns, Counts, last_before, last_of
from workbench.pricing import CLASSES
from workbench.turns import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from workbench.ledger.columns import Bools, Ints

TERMS = ("thinking_tokens", "service_tier", "inference_geo", "speed")


class Chats(Sequence[Chat]):
    """Chats read from the ledger: columns to compute with, objects to look at."""

    def __init__(self, columns: Columns, rows: pa.Table) -> None:
        self.columns = columns
        self._rows = rows

    def __len__(self) -> int:
        return len(self.columns.names)

    @overload
    def __getitem__(self, index: int) -> Chat: ...
    @overload
    def __getitem__(self, index: slice) -> list[Chat]: ...
    def __getitem__(self, index: int | slice) -> Chat | list[Chat]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        n, c = range(len(self))[index], self.columns
        start, end = c.starts[n : n + 2]
        said = slice(*c.size_starts[n : n + 2])
        return Chat(
            id=c.names[n],
            calls=[self._call(start + k, row) for k, row in enumerate(self._rows[start:end].to_pylist())],
            sizes=c.sizes[said].tolist(),
            places=c.places[said].tolist(),
            cache=c.caches[n],
        )

    def _call(self, n: int, row: Mapping[str, Any]) -> Call:
        c = self.columns
        return Call(
            id=row["id"],
            model=row["model"],
            source=row["source"],
            at=row["started_at"],
            ended=row["started_at"] + timedelta(milliseconds=row["duration_ms"]),
            usage=Usage(**{name: row[name] for name in (*CLASSES, *TERMS)}),
            cost_usd=row["cost_usd"],
            count=int(c.count[n]),
            first=int(c.first[n]),
            answered=bool(c.answered[n]),
            in_period=bool(c.in_period[n]),
            prompt=c.prompts[c.prompt[n]],
        )


def recorded_chats(
    calls: pa.Table | Sequence[Mapping[str, Any]],
    messages: pa.Table | Sequence[Mapping[str, Any]],
    systems: Mapping[str, str],
) -> Chats:
    """Return the chats that rows of the ledger tell of; last, as one whose id is empty, the calls without a chat.

    Args:
        calls: Rows of ``replay_calls.sql``, oldest first.
        messages: Rows of ``replay_messages.sql``, each chat's oldest first. Of a chat that was erased there are none;
            what was said is then as long as its prompts grew.
        systems: System prompts, by chat.
    """
    import pyarrow.compute as pc  # on use: it is slow to import

    rows = _table(calls)
    ids = pc.unique(rows["chat_id"].drop_null())
    chat = _places(rows["chat_id"], ids)
    chat[chat < 0] = len(ids)
    order = np.argsort(chat, kind="stable")
    rows, chat = rows.take(order), chat[order]
    names = [*ids.to_pylist(), *([""] if len(chat) and chat[-1] == len(ids) else [])]
    starts = np.searchsorted(chat, np.arange(len(names) + 1))
    model, models = _coded(rows["model"])
    prompt, prompts = _prompts(rows)
    at = _ints(rows, "started_at")
    tier, place, speed = (rows[name].to_numpy() for name in ("service_tier", "inference_geo", "speed"))
    columns = Columns(
        names=names,
        caches=[],
        starts=starts,
        sizes=np.zeros(0, np.int64),
        places=np.zeros(0, np.int64),
        size_starts=np.zeros(len(names) + 1, np.int64),
        ids=rows["id"].to_numpy(),
        models=models,
        model=model,
        at=at,
        ended=at + 1000 * _ints(rows, "duration_ms"),
        counts=Counts(*(_ints(rows, name) for name in CLASSES)),
        batch=tier == "batch",
        us=place == "us",
        fast=speed == "fast",
        nanos=_nanos(rows["cost_usd"]),
        priced=rows["cost_usd"].is_valid().to_numpy(),
        count=np.zeros(len(chat), np.int64),
        first=np.zeros(len(chat), np.int64),
        answered=np.ones(len(chat), np.bool_),
        in_period=rows["in_period"].to_numpy(),
        prompts=prompts,
        prompt=prompt,
    )
    untold = _tell_turns(columns, rows, _said(_table(messages), ids))
    _measure_questions(columns, untold)
    _take_systems_off(columns, [systems.get(name, "") for name in names])
    columns.caches = _caching(columns)
    return Chats(columns, rows)


def columns_of(chats: Iterable[Chat]) -> Columns:
    """Return the columns of chats, read or made by hand."""
    return chats.columns if isinstance(chats, Chats) else Columns.of(chats)


class _Said(NamedTuple):
    """Messages, chat by chat, then one that is none."""

    ids: pa.Array
    chat: Ints
    replies: Bools
    """Whether a message is a reply to a question."""
    answered: Bools
    """Whether both are sent again later."""
    sent: Ints
    """How many could be sent again before them."""
    pairs: Ints
    """Question and reply of those that are sent again, as places among the messages."""
    tokens: Ints
    seq: Ints


def _said(messages: pa.Table, chats: pa.Array) -> _Said:
    """Find the turns of chats. Which of them are sent again is what :func:`workbench.history.window` decides."""
    chat = _places(messages["chat_id"], chats)
    order = np.argsort(chat, kind="stable")
    order = order[np.searchsorted(chat[order], 0) :]  # those before are of chats that were not called
    messages, chat = messages.take(order), np.append(chat[order], -1)
    role, status, stop = (
        np.append(messages[name].to_numpy(zero_copy_only=False), "") for name in ("role", "status", "stop_reason")
    )
    asked = role == "user"
    usable = ~asked & (status != "streaming") & (stop != "refusal")
    usable[:-1] &= messages["has_text"].to_numpy()
    usable[-1] = False
    question, before = last_of(asked), last_before(usable)
    replies = ~asked & (question > before) & (question >= 0) & (chat[question] == chat)
    answered = replies & usable
    pairs = np.flatnonzero(answered)
    so_far = answered.cumsum() - answered
    return _Said(
        ids=messages["id"].combine_chunks(),
        chat=chat,
        replies=replies,
        answered=answered,
        sent=2 * (so_far - so_far[np.searchsorted(chat[:-1], chat)]),
        pairs=np.column_stack((question[pairs], pairs)).ravel(),
        tokens=_ints(messages, "token_count"),
        seq=_ints(messages, "seq"),
    )


def _tell_turns(columns: Columns, rows: pa.Table, said: _Said) -> Ints:
    """Say of every call what could be sent and what was; return the messages whose length no message tells."""
    chat, chats = columns.chat, len(columns.names)
    talks = columns.talks
    turn = _places(rows["message_id"], said.ids)
    turn[~(said.replies[turn] & (said.chat[turn] == chat))] = -1
    known = turn >= 0
    # of what was erased, or imported without its texts, the calls tell what was answered
    status = rows["status"].to_numpy(zero_copy_only=False)
    answered = np.where(
        known, said.answered[turn], ((status == "complete") | (status == "interrupted")) & (columns.counts.output > 0)
    )
    told = np.bincount(said.chat[:-1], minlength=chats + 1)[chat] > 0
    untold = talks & answered & ~told
    so_far = untold.cumsum() - untold
    so_far -= so_far[columns.starts[chat]]
    sizes_of = np.concatenate((said.chat[said.pairs], np.repeat(chat[untold], 2)))
    lengths = np.bincount(sizes_of, minlength=chats)
    count = np.where(told, np.where(known, said.sent[turn], lengths[chat]), 2 * so_far)
    most = np.where(told, lengths[chat], 2 * (so_far + untold))

    order = np.argsort(sizes_of, kind="stable")
    replies = columns.counts.output[untold]
    sizes = np.column_stack((np.zeros_like(replies), replies)).ravel()
    places = np.column_stack((count[untold] + 1, count[untold] + 2)).ravel()
    columns.sizes = np.concatenate((said.tokens[said.pairs], sizes))[order]
    columns.places = np.concatenate((said.seq[said.pairs], places))[order]
    columns.size_starts = np.concatenate(([0], lengths.cumsum()))
    unknown = (columns.size_starts[chat] + count)[untold]

    sent, left_out = _ints(rows, "history_messages", -1), _ints(rows, "left_out_messages")
    # of two turns that ran at once neither sent the other
    count = np.where((sent >= 0) & (sent + left_out <= most), sent + left_out, count)
    columns.count = np.where(talks, count, 0)
    columns.first = np.minimum(left_out, columns.count)
    columns.answered = answered | ~talks
    return unknown


def _measure_questions(columns: Columns, unknown: Ints) -> None:
    """Take for a question's length by how much it made the prompt grow: what was counted of a trimmed chat is rough."""
    chat, count, sizes = columns.chat, columns.count, columns.sizes
    start, lengths = columns.size_starts[chat], np.diff(columns.size_starts)[chat]
    calls = np.flatnonzero(columns.answered & (columns.input > 0) & columns.talks & (count + 1 < lengths))
    last, this = calls[:-1], calls[1:]
    follows = (chat[last] == chat[this]) & (columns.first[last] == columns.first[this])
    follows &= (count[last] + 2 == count[this]) & (columns.model[last] == columns.model[this])
    last, this = last[follows], this[follows]
    begins = calls[count[calls] == 0]
    replies = sizes[start[last] + count[last] + 1]
    grown = np.maximum(columns.input[this] - columns.input[last] - replies, 0)
    sizes[start[begins]] = columns.input[begins]  # with the system prompt, which is taken off later
    sizes[start[this] + count[this]] = grown
    unknown = np.setdiff1d(unknown, np.concatenate((start[begins], start[this] + count[this])))
    if len(unknown):
        of = np.searchsorted(columns.size_starts, unknown, side="right") - 1
        for n in np.unique(of):
            mine = grown[slice(*np.searchsorted(chat[this], (n, n + 1)))]
            sizes[unknown[of == n]] = round(np.median(mine)) if len(mine) else 0


def _take_systems_off(columns: Columns, systems: Sequence[str]) -> None:
    """Leave the first question without the system prompt, which is sent even when the question is not.

    A prompt that was trimmed tells how long it is; else another chat with the same one does, else its text.
    """
    from workbench.estimates import text_tokens

    distinct = {system: n for n, system in enumerate(dict.fromkeys(systems))}
    system = np.array([distinct[system] for system in systems], np.int64)
    start, lengths = columns.size_starts[:-1], np.diff(columns.size_starts)
    chat, count, before = columns.chat, columns.count, columns.before
    calls = np.flatnonzero(
        (columns.first > 0) & columns.answered & (columns.input > 0) & columns.talks & (count < lengths[chat])
    )
    at = start[chat[calls]]
    beside = columns.input[calls] - (before[at + count[calls] + 1] - before[at + columns.first[calls]])
    order = np.argsort(system[chat[calls]], kind="stable")
    beside, of = beside[order], system[chat[calls]][order]
    known = {int(n): mine for n in np.unique(of) if len(mine := beside[slice(*np.searchsorted(of, (n, n + 1)))])}
    tokens = [
        max(0, round(np.median(known[n]))) if n in known else text_tokens(system) for system, n in distinct.items()
    ]
    told = lengths > 0
    columns.sizes[start[told]] = np.maximum(columns.sizes[start[told]] - np.array(tokens, np.int64)[system][told], 0)
    del columns.before  # they are shorter now


def _caching(columns: Columns) -> list[str]:
    """How each chat's prompts were cached; a chat too short to be cached tells nothing of how it was asked for."""
    counts, starts = columns.counts, columns.starts[:-1]
    if not len(starts):
        return []
    an_hour = np.logical_or.reduceat(counts.long > 0, starts)
    at_all = np.logical_or.reduceat(columns.cached > 0, starts)
    local = np.logical_and.reduceat(columns.local, starts)
    told = [HOUR if long else FIVE_MINUTES if some else "" for long, some in zip(an_hour, at_all, strict=True)]
    usual = next((cache for name, cache in zip(columns.names, told, strict=True) if name and cache), OFF)
    return [
        (cache or (OFF if alone else usual)) if name else OFF
        for name, cache, alone in zip(columns.names, told, local, strict=True)
    ]


def _table(rows: pa.Table | Sequence[Mapping[str, Any]]) -> pa.Table:
    import pyarrow as pa

    return rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows))


def _places(values: pa.ChunkedArray, known: pa.Array) -> Ints:
    """Where among the known ones each value is; -1 where it is none of them."""
    import pyarrow.compute as pc

    found = pc.index_in(values.cast("string"), known.cast("string"), skip_nulls=True)
    places: Ints = found.fill_null(-1).to_numpy().astype(np.int64)
    return places


def _ints(rows: pa.Table, name: str, missing: int = 0) -> Ints:
    ints: Ints = rows[name].cast("int64").fill_null(missing).to_numpy()
    return ints


def _nanos(costs: pa.ChunkedArray) -> Ints:
    import pyarrow as pa
    import pyarrow.compute as pc

    one = pa.scalar(10**NANO, pa.decimal128(NANO + 1, 0))
    nanos: Ints = pc.multiply(costs.cast(pa.decimal128(18, NANO)), one).cast("int64").fill_null(0).to_numpy()
    return nanos


def _coded(values: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """The place of each in the list of all that there are."""
    import pyarrow.compute as pc

    distinct = pc.unique(values)
    return _places(values, distinct), distinct.to_pylist()


def _prompts(rows: pa.Table) -> tuple[Ints, list[str]]:
    """The name and version of each call's system prompt, as a place in the list of all that there are."""
    name, names = _coded(rows["prompt_name"])
    version, versions = _coded(rows["prompt_version"])
    names, versions = ["", *names], ["", *(f" version {version}" for version in versions)]
    pairs, place = np.unique((name + 1) * len(versions) + version + 1, return_inverse=True)
    told = [divmod(int(pair), len(versions)) for pair in pairs]
    return place, [f"{names[name]}{versions[version]}" if name else "" for name, version in told]
