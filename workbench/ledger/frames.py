"""The ledger as DataFrames. Times are UTC, costs exact Decimals in US dollars, unknown costs missing and never zero."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequest
from workbench.runtime import runtime
from workbench.store.queries import query
from workbench.turns import DEFAULT_ID, Caller
from workbench.wording import plain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import pandas as pd
    import pyarrow as pa

    from workbench.chat import Chat
    from workbench.store import Store

    Moment = str | date | datetime
    """A time; without a time zone it is UTC, and a day is its first moment."""

PIECE_ROWS = 20_000
"""Rows in a piece: of single calls some 7 MB."""
MOST_CHATS = 1_000_000_000
"""More than there are; what SQL counts with ends somewhere."""
PERIODS = {
    "hour": "date_trunc('hour', started_at AT TIME ZONE 'UTC')",
    # in UTC like the others, but DuckDB asks a calendar for those: five times the CPU of the sums
    "day": "DATE '1970-01-01' + CAST(FLOOR(EXTRACT(EPOCH FROM started_at) / 86400) AS INTEGER)",
    "week": "CAST(date_trunc('week', started_at AT TIME ZONE 'UTC') AS DATE)",
    "month": "CAST(date_trunc('month', started_at AT TIME ZONE 'UTC') AS DATE)",
}
COLUMNS = (
    "model",
    "source",
    "status",
    "user_id",
    "chat_id",
    "prompt_name",
    "prompt_version",
    "experiment",
    "variant",
    "service_tier",
    "stop_reason",
    "error_type",
)
SUMS = """
    COUNT(*)                                                         AS calls,
    CAST(SUM(input_tokens) AS BIGINT)                                AS input_tokens,
    CAST(SUM(uncached_input_tokens) AS BIGINT)                       AS uncached_input_tokens,
    CAST(SUM(cache_read_tokens) AS BIGINT)                           AS cache_read_tokens,
    CAST(SUM(cache_write_5m_tokens + cache_write_1h_tokens) AS BIGINT) AS cache_write_tokens,
    CAST(SUM(output_tokens) AS BIGINT)                               AS output_tokens,
    CAST(SUM(cost_usd) AS DECIMAL(18, 9))                            AS cost_usd,
    CAST(SUM(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END) AS BIGINT) AS unpriced_calls"""


def usage(
    since: Moment | None = None,
    until: Moment | None = None,
    by: str | Sequence[str] = (),
    *,
    chat: Chat | str | None = None,
    org: str = DEFAULT_ID,
) -> pd.DataFrame:
    """Return what calls to models used and cost.

    Args:
        since: Calls from this moment on; a day means its first moment, and times are UTC.
        until: Calls before this moment.
        by: ``hour``, ``day``, ``week``, ``month``, ``model``, ``source``, ``status``, ``user_id``, ``chat_id``, … to sum
            up; without it one row per call.
        chat: Only this chat's calls; a chat or its id.
        org: Whose calls.

    Returns:
        One row per call, oldest first: who, when, the disjoint token counts, ``input_tokens`` (their inclusive sum),
        ``cost_usd`` and more. With ``by`` one row per group: the groups, ``calls``, the sums of the counts,
        ``cost_usd`` of the calls whose price is known (missing if none is) and ``unpriced_calls``.

    Raises:
        InvalidRequest: a time or a column that there is not.

    Example::

        wb.usage(by=["day", "model"])
        wb.usage(since="2026-11-01")["cost_usd"].sum()
    """
    chat_id = chat if isinstance(chat, str) else chat.id if chat is not None else ""
    statement = usage_query(([by] if isinstance(by, str) else by) if by else [])
    calls = runtime().engine.store.arrow(statement, org, moment_of(since), moment_of(until), chat_id)
    return _frame(runtime().run(calls))


def chats(search: str = "", *, limit: int = 1000, org: str = DEFAULT_ID, user: str = DEFAULT_ID) -> pd.DataFrame:
    """Return the chats, the one used last first: ``chat_id``, ``title``, ``turns``, ``total_tokens``, ``cost_usd``, ….

    Args:
        search: Only chats with this text in their title or in a message.
        limit: At most so many.
        org: Whose chats; an org's id.
        user: Whose chats; a user's id.

    Raises:
        InvalidRequest: the limit is below zero.
    """
    if limit < 0:
        raise InvalidRequest(f"limit is {limit}; at least 0 chats can be listed")
    engine = runtime().engine
    return _frame(runtime().run(engine.store.chats(Caller(org, user), search, min(limit, MOST_CHATS))))


def sql(query: str) -> pd.DataFrame:
    """Return the result of a query over the store; it can neither write nor touch files, network or Python objects.

    Raises:
        InvalidRequest: it is not one statement, cannot be run, would write, takes longer than 30 s or returns more
            than 1 GB.

    Example::

        wb.sql("SELECT role, content, token_count FROM messages")
    """
    return _frame(runtime().run(runtime().engine.store.read_only(query)))


async def usage_pieces(
    store: Store, org: str, since: datetime | None, until: datetime | None, by: Sequence[str]
) -> AsyncIterator[pa.Table]:
    """Yield what ``usage`` returns, in pieces of some thousand rows and at least one: 1e6 calls are 340 MB.

    Between two pieces nothing of the store is held, so whoever reads slowly keeps nobody waiting. A call that is
    recorded meanwhile may be left out, none is there twice.
    """
    statement = usage_query(by)
    bounds = [since, until]
    if not by:  # of sums each needs all calls
        cuts = await store.arrow(query("usage_cuts"), org, since, until, PIECE_ROWS)
        bounds[1:1] = cuts["started_at"].to_pylist()[1:]
    for begin, end in pairwise(bounds):
        piece = await store.arrow(statement, org, begin, end, "")
        for at in range(0, max(piece.num_rows, 1), PIECE_ROWS):
            yield piece.slice(at, PIECE_ROWS)


def usage_query(by: Sequence[str]) -> str:
    """Return the query for single calls, or for their sums by one or more columns.

    Raises:
        InvalidRequest: there is no such column.
    """
    if not by:
        return query("usage")
    if unknown := [name for name in by if name not in PERIODS and name not in COLUMNS]:
        raise InvalidRequest(f"usage cannot be summed by {unknown[0]!r}; use any of {', '.join((*PERIODS, *COLUMNS))}")
    by = list(dict.fromkeys(by))
    groups = ", ".join(str(n) for n in range(1, len(by) + 1))
    chosen = ", ".join(f"{PERIODS.get(name, name)} AS {name}" for name in by)
    # the query of single calls holds the WHERE, so that there is only one; DuckDB would really sort them
    calls, _, _ = query("usage").rpartition("ORDER BY")
    return f"SELECT {chosen},{SUMS}\nFROM (\n{calls}\n) AS calls\nGROUP BY {groups}\nORDER BY {groups}"


def moment_of(value: Moment | None) -> datetime | None:
    """Return a time as the store knows it: UTC, which a time without a zone is taken for."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidRequest(f"{value!r} is no time; write it like 2026-11-25 or 2026-11-25T14:30+01:00") from None
    if value is None:
        return None
    if not isinstance(value, date):
        raise InvalidRequest(f"{value!r} is no time; give a text like '2026-11-25', a date or a datetime")
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _frame(table: pa.Table) -> pd.DataFrame:
    import pandas as pd  # with pyarrow 0.7 s: only whoever wants frames waits for it
    import pyarrow as pa

    names = table.column_names
    # two may have one name, and pyarrow mixes them up
    numbered = table.rename_columns([str(n) for n in range(len(names))])
    # counts are 64 bits and never missing; what may be missing is 32 bits wide and stays a whole number this way
    frame: pd.DataFrame = numbered.to_pandas(types_mapper={pa.int32(): pd.Int32Dtype()}.get, date_as_object=False)
    for field in numbered.schema:
        if pa.types.is_decimal(field.type):
            frame[field.name] = frame[field.name].map(plain, na_action="ignore")
    frame.columns = pd.Index(names)
    return frame
