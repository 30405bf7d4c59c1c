"""``workbench usage`` and ``workbench chats``: the ledger as tables, JSON or CSV."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.ask import SHORT_ID, whole
from workbench.cli.terminal import agreed, clean, note, show, write, write_json
from workbench.turns import DEFAULT_ID
from workbench.wording import counted, dollars, exact, instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from rich.table import Table

    Row = dict[str, Any]

MOST_CALLS = 100
"""Single calls a table shows; nobody reads more, and JSON and CSV have all of them."""
DAYS = ("day", "week", "month")
COUNTS = {"input_tokens": "input", "cache_read_tokens": "cached", "output_tokens": "output"}


def usage(
    by: Annotated[
        str,
        typer.Option(
            metavar="COLUMNS",
            help="What to sum up by, such as `month,model`; hour, day, week, month, model, source, status, "
            "user_id, chat_id and more. `call` sums nothing up: one row per call.",
        ),
    ] = "day,model",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Calls from then on, such as 2026-11-01; times are UTC.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Calls before then.")] = None,
    org: Annotated[
        str, typer.Option(metavar="ORG", help="Whose calls; by default your own.", show_default=False)
    ] = DEFAULT_ID,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON, all columns.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV, all columns.")] = False,
) -> None:
    """Show what calls to models used and cost."""
    from workbench.ledger import usage

    groups = [] if by == "call" else list(dict.fromkeys(name.strip() for name in by.split(",") if name.strip()))
    frame = usage(since, until, groups, org=org).drop(columns="cost")  # for plots; as text the exact one is enough
    if as_json or as_csv:
        (print_json if as_json else _print_csv)(frame)
    elif frame.empty:
        which = "" if org == DEFAULT_ID else f" of the org {org!r}"
        which += " in that time" if since or until else ""
        note(f"No calls{which}." if which else 'No calls yet; make one: workbench ask "What is 2+2?"')
    else:
        print_usage(rows_of(frame), groups or ["started_at", "model", "status"])


def chats(
    search: Annotated[
        str, typer.Option(metavar="TEXT", help="Only chats with this in their title or a message.", show_default=False)
    ] = "",
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the chats as JSON, with their whole ids.")] = False,
    delete: Annotated[
        str,
        typer.Option(
            metavar="ID",
            help="Delete this chat instead; the end of its id will do. What it cost stays in the ledger.",
            show_default=False,
        ),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    rename: Annotated[
        tuple[str, str],
        typer.Option(metavar="ID TITLE", help="Call this chat so; the end of its id will do.", show_default=False),
    ] = ("", ""),
) -> None:
    """List the chats, the one used last first."""
    from workbench.ledger import chats

    if delete:
        _delete(delete, yes=yes)
        return
    if rename[0]:
        _rename(*rename)
        return

    frame = chats(search, limit=limit + 1)  # one more, to know whether there are more
    if as_json:
        print_json(frame[:limit])
    elif frame.empty:
        note(f"No chat holds {search!r}." if search else 'No chats yet; begin one: workbench ask "What is 2+2?"')
    else:
        _print_chats(rows_of(frame[:limit]))
        if len(frame) > limit:
            note(f"The newest {limit}; --limit shows more. Go on with one: workbench ask --chat ID …")


def _delete(chat_id: str, *, yes: bool) -> None:
    from workbench.chat import Chat

    chat = Chat.open(whole(chat_id))
    title, messages = chat.title, len(chat.messages)
    if not agreed(f"Delete the chat {title!r} with its {messages:,} messages?", yes=yes):
        note("Nothing was deleted.")
        raise typer.Exit(1)
    chat.delete()
    note(f"Deleted the chat {title!r} with {messages:,} messages; what it cost stays in the ledger.")


def _rename(chat_id: str, title: str) -> None:
    from workbench.chat import Chat

    chat = Chat.open(whole(chat_id))
    before = chat.title
    chat.rename(title)
    note(f"The chat {before!r} is now called {chat.title!r}.")


# For people ---------------------------------------------------------------------------------------------------------


def print_usage(rows: Sequence[Row], groups: Sequence[str]) -> None:
    """Print usage as a table with its totals."""
    single = "calls" not in rows[0]
    shown = rows[-MOST_CALLS:] if single else rows
    table = new_table()
    for group in groups:
        table.add_column(group.replace("_", " "), footer="total" if group == groups[0] else "", no_wrap=True)
    numbers = ({} if single else {"calls": "calls"}) | COUNTS
    for name, title in numbers.items():
        table.add_column(title, footer=f"{sum(row[name] for row in rows):,}", justify="right", no_wrap=True)
    table.add_column("cost", footer=_total(rows), justify="right", no_wrap=True)
    for row in shown:
        labels = [_label(row[group], group) for group in groups]
        table.add_row(*labels, *(f"{row[name]:,}" for name in numbers), _cost(row))
    show(table)
    if len(shown) < len(rows):
        remark(f"The newest {len(shown):,} of {len(rows):,} calls; --json and --csv have all of them.")
    if unpriced := sum(map(_unpriced, rows)):
        remark(f"* without {counted(unpriced, 'call')} whose price is not known")


def remark(text: str) -> None:
    """Print a line that matters less than the table above it."""
    from rich.text import Text

    show(Text(text, style="dim"))


def _print_chats(rows: Sequence[Row]) -> None:
    table = new_table(totals=False)
    for title in ("id", "used last", "title"):
        table.add_column(title, no_wrap=True)
    for title in ("turns", "tokens", "cost"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["chat_id"][-SHORT_ID:],
            f"{row['updated_at'].astimezone():%Y-%m-%d %H:%M}",
            clean(" ".join(row["title"].split())),
            f"{row['turns']:,}",
            f"{row['total_tokens']:,}",
            dollars(row["cost_usd"]),
        )
    show(table)


def new_table(*, totals: bool = True) -> Table:
    """Return an empty table as all of them look, with a row for totals or without."""
    from rich import box
    from rich.table import Table

    return Table(
        box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), show_footer=totals, header_style="dim"
    )


def print_rows(frame: pd.DataFrame, columns: dict[str, str], *, as_json: bool, none: str = "") -> None:
    """Print rows as JSON, or these columns of them under these titles; or say that there are none."""
    if as_json:
        print_json(frame)
        return
    if none and frame.empty:
        note(none)
        return
    table = new_table(totals=False)
    for column, title in columns.items():
        number = column in ("version", "from_version", "latest", "production")
        table.add_column(title, justify="right" if number else "left", no_wrap=column not in ("arms", "note"))
    for row in rows_of(frame):
        table.add_row(*(_cell(row[column]) for column in columns))
    show(table)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M}"
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else clean(" ".join(str(value).split()))


def _label(value: object, group: str) -> str:
    if isinstance(value, datetime):
        if group == "month":
            return f"{value:%Y-%m}"
        return f"{value:%Y-%m-%d}" if group in DAYS else f"{value:%Y-%m-%d %H:%M}"
    return "-" if value is None else clean(str(value))


def _unpriced(row: Row) -> int:
    return int(row.get("unpriced_calls", row["cost_usd"] is None))


def _cost(row: Row) -> str:
    return dollars(row["cost_usd"]) + ("*" if _unpriced(row) else "")


def _total(rows: Sequence[Row]) -> str:
    known = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
    total = sum(known, Decimal(0)) if known else None
    return dollars(total) + ("*" if any(map(_unpriced, rows)) else "")


# For programs -------------------------------------------------------------------------------------------------------


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Return the rows as plain Python values, None where nothing is known."""
    records: list[Row] = frame.astype(object).to_dict("records")  # type: ignore[assignment]  # the names are texts
    return [{name: _plain(value) for name, value in record.items()} for record in records]


def _plain(value: Any) -> Any:
    import pandas as pd

    if pd.isna(value):
        return None
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def print_json(frame: pd.DataFrame) -> None:
    """Print rows as JSON, exact amounts as texts."""
    write_json([{name: _portable(value, name) for name, value in row.items()} for row in rows_of(frame)])


def _print_csv(frame: pd.DataFrame) -> None:
    import csv
    import io

    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(frame.columns)
    lines.writerows([_portable(value, name) for name, value in row.items()] for row in rows_of(frame))
    write(text.getvalue())


def _portable(value: Any, name: str) -> Any:
    """A value as JSON and CSV have it: exact amounts as texts, times in UTC."""
    if isinstance(value, Decimal):
        return exact(value)
    if isinstance(value, datetime):
        # an hour comes without its time zone, which is UTC
        return f"{value:%Y-%m-%d}" if name in DAYS else instant(value if value.tzinfo else value.replace(tzinfo=UTC))
    return value
