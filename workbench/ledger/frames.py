"""The ledger as DataFrames. Times are UTC, costs exact Decimals in US dollars, unknown costs missing and never zero."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from workbench.errors import InvalidRequest
from workbench.pricing import CLASSES, costs_by_class
from workbench.runtime import runtime
from workbench.store.queries import query
from workbench.turns import DEFAULT_ID, Caller, Usage
from workbench.wording import plain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import tzinfo

    import pandas as pd
    import pyarrow as pa

    from workbench.chat import Chat
    from workbench.store import Store

    Moment = str | date | datetime
    """A time; a day is its first moment."""
    Where = Mapping[str, object]
    """Columns and the value each must have, or the values it may have."""

PIECE_ROWS = 20_000
"""Rows in a piece: of single calls some 7 MB."""
MOST_ROWS = 1_000_000_000
"""More than there are; what SQL counts with ends somewhere."""
PERIODS = {
    "hour": "date_trunc('hour', started_at AT TIME ZONE {zone})",
    "day": "CAST(date_trunc('day', started_at AT TIME ZONE {zone}) AS DATE)",
    "week": "CAST(date_trunc('week', started_at AT TIME ZONE {zone}) AS DATE)",
    "month": "CAST(date_trunc('month', started_at AT TIME ZONE {zone}) AS DATE)",
}
UTC_DAY = "DATE '1970-01-01' + CAST(FLOOR(EXTRACT(EPOCH FROM started_at) / 86400) AS INTEGER)"
"""The same as ``day`` in UTC, but for the others DuckDB asks a calendar: five times the CPU of the sums."""
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

PARTS = {
    "uncached_input_usd": ("uncached_input_tokens",),
    "cache_read_usd": ("cache_read_tokens",),
    "cache_write_usd": ("cache_write_5m_tokens", "cache_write_1h_tokens"),
    "output_usd": ("output_tokens",),
    "web_search_usd": ("web_searches",),
}
TERMS = ("service_tier", "inference_geo", "speed")
"""Of a call, on which its price depends."""
CATEGORIES = {*COLUMNS, "price_source"} - {"user_id", "chat_id", "prompt_version"}
"""Few values in many rows."""


def usage(
    since: Moment | None = None,
    until: Moment | None = None,
    by: str | Sequence[str] = (),
    where: Where | None = None,
    *,
    chat: Chat | str | None = None,
    tz: str = "UTC",
    org: str = DEFAULT_ID,
) -> pd.DataFrame:
    """Return what calls to models used and cost.

    Args:
        since: Calls from this moment on; a day means its first moment.
        until: Calls before this moment.
        by: ``hour``, ``day``, ``week``, ``month``, ``model``, ``source``, ``status``, ``user_id``, ``chat_id``, … to sum
            up; without it one row per call. The store sums, so millions of calls take no memory here.
        where: Only calls with these values: ``{"model": "claude-haiku-5-5", "status": ["failed", "lost"]}``; None is a
            missing one.
        chat: Only this chat's calls; a chat or its id.
        tz: Where days and hours begin, such as ``Europe/Berlin``; times without a zone are of there too.
        org: Whose calls.

    Returns:
        One row per call, oldest first: who, when (with time zone), the disjoint token counts, ``input_tokens`` (their
        inclusive sum), ``cost_usd`` and more. With ``by`` one row per group: the groups (days, weeks and months as
        their first midnight, without a zone), ``calls``, the sums of the counts, ``cost_usd`` of the calls whose price
        is known (missing if none is) and ``unpriced_calls``. ``cost_usd`` is an exact Decimal; ``cost`` is the same as
        a float, for plots. What has few values is categorical. Without calls the columns are the same.

    Raises:
        InvalidRequest: a time, a time zone or a column that there is not.

    Example::

        wb.usage(by=["day", "model"])
        wb.usage(since="2026-11-01", where={"source": ["map", "server"]})["cost_usd"].sum()
        wb.usage(by="day", tz="America/New_York").plot.bar("day", "cost")
    """
    return with_floats(frame_of(usage_table(since, until, by, where, chat=chat, tz=tz, org=org), tz))


def usage_table(
    since: Moment | None = None,
    until: Moment | None = None,
    by: str | Sequence[str] = (),
    where: Where | None = None,
    *,
    chat: Chat | str | None = None,
    tz: str = "UTC",
    org: str = DEFAULT_ID,
) -> pa.Table:
    """Return the same as :func:`usage` as an Arrow table, with costs as DECIMAL(18, 9): to write Parquet, for Polars.

    Example::

        pyarrow.parquet.write_table(wb.usage_table(since="2026-11-01"), "november.parquet")
    """
    zone = zone_of(tz)
    query, values = usage_query(([by] if isinstance(by, str) else by) if by else [], where or {}, tz)
    bounds = moment_of(since, zone), moment_of(until, zone)
    return runtime().run(runtime().engine.store.arrow(query, org, *bounds, chat_id_of(chat), *values))


def calls(chat: Chat | str, *, org: str = DEFAULT_ID) -> pd.DataFrame:
    """Return the calls of a chat as :func:`usage` does, and of each what it sent again and what every class cost.

    Args:
        chat: A chat or its id.
        org: Whose chat.

    Returns:
        The columns of ``usage`` and then: ``history_messages`` sent before the question, ``left_out_messages`` that
        were trimmed, ``gap_s`` (seconds since the call before had ended; missing for the first), and the Decimals
        ``uncached_input_usd``, ``cache_read_usd``, ``cache_write_usd``, ``output_usd`` and ``web_search_usd``, which are
        missing where no price is known.
    """
    import pandas as pd

    found = runtime().run(runtime().engine.store.arrow(query("calls"), chat_id_of(chat), org))
    frame = frame_of(found)
    costs = [_costs(row) for row in frame.to_dict("records")]
    return with_floats(frame).join(pd.DataFrame(costs, columns=list(PARTS), index=frame.index, dtype=object))


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
    _check_limit(limit, "chats")
    engine = runtime().engine
    return frame_of(runtime().run(engine.store.chats(Caller(org, user), search, min(limit, MOST_ROWS))))


def messages(
    chat: Chat | str | None = None,
    search: str = "",
    *,
    limit: int = 10_000,
    org: str = DEFAULT_ID,
    user: str = DEFAULT_ID,
) -> pd.DataFrame:
    """Return messages, chat by chat in the order of their chats' ids, each chat's oldest first.

    Args:
        chat: Only of this chat; a chat or its id.
        search: Only messages with this text, in capitals or not.
        limit: At most so many, the newest.
        org: Whose messages; an org's id.
        user: Whose messages; a user's id.

    Returns:
        ``chat_id``, ``title``, ``seq`` (1, 2, 3, … in the chat), ``role``, ``content``, ``token_count`` (of a reply its
        output tokens, of a question the input tokens it added), ``status``, ``stop_reason``, ``model``, ``created_at``
        (UTC) and ``id``.

    Raises:
        InvalidRequest: the limit is below zero.
    """
    _check_limit(limit, "messages")
    bounds = org, user, chat_id_of(chat), search, min(limit, MOST_ROWS)
    return frame_of(runtime().run(runtime().engine.store.arrow(query("said"), *bounds)))


def sql(query: str) -> pd.DataFrame:
    """Return the result of a query over the store; it can neither write nor touch files, network or Python objects.

    Raises:
        InvalidRequest: it is not one statement, cannot be run, would write, takes longer than 30 s or returns more
            than 1 GB.

    Example::

        wb.sql("SELECT role, content, token_count FROM messages")
    """
    return frame_of(runtime().run(runtime().engine.store.read_only(query)))


async def usage_pieces(
    store: Store, org: str, since: datetime | None, until: datetime | None, by: Sequence[str]
) -> AsyncIterator[pa.Table]:
    """Yield what ``usage`` returns, in pieces of some thousand rows and at least one: 1e6 calls are 340 MB.

    Between two pieces nothing of the store is held, so whoever reads slowly keeps nobody waiting. A call that is
    recorded meanwhile may be left out, none is there twice.
    """
    statement, _ = usage_query(by)
    bounds = [since, until]
    if not by:  # of sums each needs all calls
        cuts = await store.arrow(query("usage_cuts"), org, since, until, PIECE_ROWS)
        bounds[1:1] = cuts["started_at"].to_pylist()[1:]
    for begin, end in pairwise(bounds):
        piece = await store.arrow(statement, org, begin, end, "")
        for at in range(0, max(piece.num_rows, 1), PIECE_ROWS):
            yield piece.slice(at, PIECE_ROWS)


def usage_query(by: Sequence[str], where: Where | None = None, tz: str = "UTC") -> tuple[str, tuple[object, ...]]:
    """Return the query for single calls, or for their sums by one or more columns, and its values from $5 on.

    Raises:
        InvalidRequest: there is no such column.
    """
    calls, values = query("usage"), list[object]()
    if where:
        conditions = [_condition(name, wanted, values) for name, wanted in where.items()]
        # the query of single calls holds the WHERE, so that there is only one
        calls = calls.replace("\nORDER BY", "".join(f"\n  AND {condition}" for condition in conditions) + "\nORDER BY")
    if not by:
        return calls, tuple(values)
    if unknown := [name for name in by if name not in PERIODS and name not in COLUMNS]:
        raise InvalidRequest(f"usage cannot be summed by {unknown[0]!r}; use any of {', '.join((*PERIODS, *COLUMNS))}")
    by = list(dict.fromkeys(by))
    groups = ", ".join(str(n) for n in range(1, len(by) + 1))
    chosen = ", ".join(f"{group_of(name, tz)} AS {name}" for name in by)
    calls, _, _ = calls.rpartition("ORDER BY")  # DuckDB would really sort them
    sums = f"SELECT {chosen},{SUMS}\nFROM (\n{calls}\n) AS calls\nGROUP BY {groups}\nORDER BY {groups}"
    return sums, tuple(values)


def group_of(name: str, tz: str) -> str:
    """Return the SQL of a group: a period that begins where people are, or a column."""
    if name == "day" and tz == "UTC":
        return UTC_DAY
    # the name is one of zoneinfo's, which hold no quotes
    return PERIODS[name].format(zone=f"'{tz}'") if name in PERIODS else name


def _condition(name: str, wanted: object, values: list[object]) -> str:
    if name not in COLUMNS:
        raise InvalidRequest(f"usage has no column {name!r} to choose calls by; use any of {', '.join(COLUMNS)}")
    options = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    known = [option for option in options if option is not None]
    for option in known:
        if not isinstance(option, Integral if name == "prompt_version" else str) or isinstance(option, bool):
            raise InvalidRequest(f"{name} is never {option!r}, which is of type {type(option).__name__}")
    # a number out of a frame is one of NumPy's
    known = [int(option) if isinstance(option, Integral) else option for option in known]
    first = 5 + len(values)
    values += known
    chosen = [f"{name} IN ({', '.join(f'${first + n}' for n in range(len(known)))})"] if known else []
    missing = [f"{name} IS NULL"] if len(known) < len(options) else []
    return f"({' OR '.join(chosen + missing) or 'FALSE'})"


def moment_of(value: Moment | None, zone: tzinfo | None = None) -> datetime | None:
    """Return a time as the store knows it; one without a zone is taken for UTC, or of the zone named."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidRequest(f"{value!r} is no time; write it like 2026-11-25 or 2026-11-25T14:30+01:00") from None
    if value is None:
        return None
    # the missing time of pandas is a datetime of no year, and would be no bound
    if not isinstance(value, date) or not isinstance(value.year, int):
        raise InvalidRequest(f"{value!r} is no time; give a text like '2026-11-25', a date or a datetime")
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value if value.tzinfo else value.replace(tzinfo=zone or UTC)


def present(now: Moment | None, zone: tzinfo) -> datetime:
    """Return the moment at which is asked, in a zone; the present if none is given."""
    try:
        return (moment_of(now, zone) or datetime.now(UTC)).astimezone(zone)
    except OverflowError:
        raise InvalidRequest(f"{now} is outside the calendar in {zone}; give another time") from None


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone; InvalidRequest when there is none of that name."""
    try:
        zone = ZoneInfo(name)
    except (KeyError, TypeError, ValueError, OSError):  # none of that name; no text; no name; a folder
        zone = None
    # names of this machine, which the store does not know
    if zone is None or name in ("localtime", "posixrules") or name.startswith(("posix/", "right/")):
        raise InvalidRequest(f"there is no time zone {name!r}; write it like Europe/Berlin or UTC")
    return zone


def chat_id_of(chat: Chat | str | None) -> str:
    """Return the id of a chat, '' for none."""
    return chat if isinstance(chat, str) else chat.id if chat is not None else ""


def _check_limit(limit: int, what: str) -> None:
    if limit < 0:
        raise InvalidRequest(f"limit is {limit}; at least 0 {what} can be listed")


def _costs(call: Mapping[Any, Any]) -> list[Decimal | None]:
    """What each class of tokens of a call cost, in the order of ``PARTS``."""
    terms: dict[str, Any] = {name: call[name] if isinstance(call[name], str) else None for name in TERMS}
    usage = Usage(**{name: call[name] for name in CLASSES}, **terms)
    costs = costs_by_class(call["model"], usage, call["started_at"])
    if costs is None:
        return [None] * len(PARTS)
    return [sum((costs[name] for name in names), Decimal(0)) for names in PARTS.values()]


def with_floats(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with what a plot needs beside the exact cost, and less memory for texts of few values."""
    frame.insert(list(frame.columns).index("cost_usd") + 1, "cost", frame["cost_usd"].astype("float64"))
    return frame.astype({name: "category" for name in frame.columns if name in CATEGORIES})


def frame_of(table: pa.Table, tz: str = "UTC") -> pd.DataFrame:
    """Return a table of the store as a DataFrame, with plain Decimals and, if need be, times of another zone."""
    import pandas as pd  # with pyarrow 0.7 s: only whoever wants frames waits for it
    import pyarrow as pa

    names = table.column_names
    # two may have one name, and pyarrow mixes them up
    numbered = table.rename_columns([str(n) for n in range(len(names))])
    # counts are 64 bits and never missing; what may be missing is 32 bits wide and stays a whole number this way
    try:
        frame: pd.DataFrame = numbered.to_pandas(types_mapper={pa.int32(): pd.Int32Dtype()}.get, date_as_object=False)
    except (pa.ArrowException, ValueError) as error:  # of what a query made up, such as a UNION, or the time 24:00
        raise InvalidRequest(f"the result is no DataFrame, cast it to VARCHAR: {error}") from None
    for field in numbered.schema:
        if pa.types.is_decimal(field.type):
            frame[field.name] = frame[field.name].map(plain, na_action="ignore")
        elif tz != "UTC" and pa.types.is_timestamp(field.type) and field.type.tz:
            frame[field.name] = frame[field.name].dt.tz_convert(tz)
    frame.columns = pd.Index(names)
    return frame
