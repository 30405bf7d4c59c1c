"""What each class of tokens cost, for any group of calls: new input, cache reads, cache writes, replies, web searches.

A price depends on the model, the day, the length of the prompt, batch, fast mode and place. The store sums the calls for
which all of these are the same, and only those sums are priced here: millions of calls are some hundred sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from workbench.ledger.frames import (
    PARTS,
    TERMS,
    chat_id_of,
    frame_of,
    group_of,
    moment_of,
    usage_query,
    with_floats,
    zone_of,
)
from workbench.pricing import CLASSES, price_changes, tier_starts, unit_costs
from workbench.runtime import runtime
from workbench.turns import DEFAULT_ID, Usage
from workbench.wording import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import pyarrow as pa

    from workbench.chat import Chat
    from workbench.ledger.frames import Moment, Where

COUNTS = ("calls", "failed_calls", "lost_calls", "unpriced_calls")
_BY_PRICE = ("priced_model", "priced_from", "priced_above", *TERMS, "recorded")


@dataclass(slots=True)
class Spent:
    """A group of calls: how many, and of those whose cost is recorded the counts and the US dollars of each class."""

    calls: int = 0
    failed_calls: int = 0
    lost_calls: int = 0
    unpriced_calls: int = 0
    """Whose cost was not known when they were recorded; in none of the sums below."""
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    costs: dict[str, Decimal] = field(default_factory=lambda: dict.fromkeys(CLASSES, Decimal(0)))
    cost_usd: Decimal = Decimal(0)
    """As recorded, call by call."""

    @property
    def other_usd(self) -> Decimal:
        """What is recorded and belongs to no class."""
        return self.cost_usd - sum(self.costs.values())


def cost_by_class(
    since: Moment | None = None,
    until: Moment | None = None,
    by: str | Sequence[str] = (),
    where: Where | None = None,
    *,
    chat: Chat | str | None = None,
    tz: str = "UTC",
    org: str = DEFAULT_ID,
) -> pd.DataFrame:
    """Return what each class of tokens cost.

    Args:
        since: Calls from this moment on; a day means its first moment.
        until: Calls before this moment.
        by: Groups as in ``wb.usage``; without any there is one row of all calls, or none if there are no calls.
        where: Only calls with these values, as in ``wb.usage``.
        chat: Only this chat's calls; a chat or its id.
        tz: Where days begin.
        org: Whose calls.

    Returns:
        One row per group: the groups, ``calls``, of which ``failed_calls`` and ``lost_calls``, ``unpriced_calls``, and
        in exact US dollars ``uncached_input_usd``, ``cache_read_usd``, ``cache_write_usd``, ``output_usd``,
        ``web_search_usd``, ``other_usd`` and their sum ``cost_usd``, as recorded; ``cost`` is that as a float.

        ``other_usd`` is what the classes do not explain: every call's cost was rounded to nine digits when it was
        recorded (at most $0.0000000005 each), and some were recorded at prices that today's table does not have, such
        as imported ones. Calls of unknown price are in no sum; where a group has no others its amounts are missing.

    Raises:
        InvalidRequest: a time, a time zone or a column that there is not.

    Example::

        wb.cost_by_class(by="month")
        wb.cost_by_class(since="2026-11-01", by="user_id").set_index("user_id").cache_read_usd
    """
    import pandas as pd  # on use: 0.7 s with pyarrow

    names = list(dict.fromkeys([by] if isinstance(by, str) else by))
    groups, keys = spent_by(since, until, names, where, chat=chat, tz=tz, org=org)
    rows = [_row(spent) for spent in groups.values()]
    columns = [*COUNTS, *PARTS, "other_usd", "cost_usd"]
    amounts = pd.DataFrame(rows, columns=columns, dtype=object).astype(dict.fromkeys(COUNTS, "int64"))
    return with_floats(frame_of(keys).join(amounts) if names else amounts)


def spent_by(
    since: Moment | None,
    until: Moment | None,
    by: Sequence[str],
    where: Where | None = None,
    *,
    chat: Chat | str | None = None,
    tz: str = "UTC",
    org: str = DEFAULT_ID,
) -> tuple[dict[tuple[Any, ...], Spent], pa.Table]:
    """Return what was spent by the values of the groups, in their order, and those values as a table."""
    import pyarrow as pa

    chosen, parameters = calls_where(since, until, where, chat=chat, tz=tz, org=org)
    found = runtime().run(runtime().engine.store.arrow(_statement(by, chosen, tz), *parameters))
    groups: dict[tuple[Any, ...], Spent] = {}
    prices: dict[tuple[Any, ...], dict[str, Decimal] | None] = {}
    for row in found.to_pylist():
        spent = groups.setdefault(tuple(row[f"by_{name}"] for name in by), Spent())
        _add(spent, row, prices)
    fields = [found.schema.field(f"by_{name}") for name in by]
    columns = [[key[n] for key in groups] for n in range(len(by))]
    keys = [pa.array(column, known.type) for column, known in zip(columns, fields, strict=True)]
    return groups, pa.table(keys, names=list(by))


def calls_where(
    since: Moment | None,
    until: Moment | None,
    where: Where | None,
    *,
    chat: Chat | str | None = None,
    tz: str = "UTC",
    org: str = DEFAULT_ID,
) -> tuple[str, tuple[object, ...]]:
    """Return FROM and WHERE of a query over the calls that ``wb.usage`` would return, and its parameters."""
    zone = zone_of(tz)
    calls, values = usage_query([], where)
    _, _, chosen = calls.rpartition("ORDER BY")[0].partition("\nFROM usage")
    return f"FROM usage{chosen}", (org, moment_of(since, zone), moment_of(until, zone), chat_id_of(chat), *values)


def _statement(by: Sequence[str], chosen: str, tz: str) -> str:
    """The query for the sums of calls that have the same group and the same price."""
    usage_query(by)  # refuses a group that there is not
    above = "".join(f" WHEN input_tokens > {start} THEN {start + 1}" for start in reversed(tier_starts()))
    since = "".join(
        f" WHEN started_at >= TIMESTAMPTZ '{change.isoformat()}' THEN {n}"
        for n, change in reversed(list(enumerate(price_changes(), 1)))
    )
    groups = ", ".join(str(n + 1) for n in range(len(by) + len(_BY_PRICE)))
    sums = ", ".join(f"CAST(SUM({name}) AS BIGINT) AS {name}" for name in CLASSES)
    columns = [
        *(f"{group_of(name, tz)} AS by_{name}" for name in by),
        "model AS priced_model",
        f"CASE{since} ELSE 0 END AS priced_from",
        f"CASE{above} ELSE 0 END AS priced_above",
        *TERMS,
        "cost_usd IS NOT NULL AS recorded",
        "COUNT(*) AS calls",
        "CAST(SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS BIGINT) AS failed_calls",
        "CAST(SUM(CASE WHEN status = 'lost' THEN 1 ELSE 0 END) AS BIGINT) AS lost_calls",
        sums,
        "CAST(SUM(cost_usd) AS DECIMAL(18, 9)) AS cost_usd",
    ]
    return f"SELECT {', '.join(columns)}\n{chosen}\nGROUP BY {groups}\nORDER BY {groups}"


def _add(spent: Spent, row: Mapping[str, Any], prices: dict[tuple[Any, ...], dict[str, Decimal] | None]) -> None:
    spent.calls += row["calls"]
    spent.failed_calls += row["failed_calls"]
    spent.lost_calls += row["lost_calls"]
    if not row["recorded"]:
        spent.unpriced_calls += row["calls"]
        return
    spent.cost_usd += row["cost_usd"]
    key = tuple(row[name] for name in _BY_PRICE)
    if key not in prices:
        prices[key] = _price(row)
    price = prices[key]
    for name in CLASSES:
        spent.tokens[name] += row[name]
        if price is not None:
            spent.costs[name] += row[name] * price[name]


def _price(row: Mapping[str, Any]) -> dict[str, Decimal] | None:
    # before the first change any moment is as good as the others
    at = (datetime(2000, 1, 1, tzinfo=UTC), *price_changes())[row["priced_from"]]
    terms = Usage(**{name: row[name] for name in TERMS})
    return unit_costs(row["priced_model"], at, input_tokens=row["priced_above"], terms=terms)


def _row(spent: Spent) -> list[object]:
    counts = [getattr(spent, name) for name in COUNTS]
    if spent.unpriced_calls == spent.calls:
        return [*counts, *[None] * (len(PARTS) + 2)]
    parts = [sum((spent.costs[name] for name in names), Decimal(0)) for names in PARTS.values()]
    return [*counts, *map(plain, [*parts, spent.other_usd, spent.cost_usd])]
