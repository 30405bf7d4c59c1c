"""``workbench what-if``: what recorded calls would have cost otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.ask import whole
from workbench.cli.tables import new_table, print_json, remark, rows_of
from workbench.cli.terminal import show
from workbench.turns import DEFAULT_ID
from workbench.wording import dollars

if TYPE_CHECKING:
    from workbench.cli.tables import Row


def what_if(
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another model for all calls; may be given again.")
    ] = None,
    cache: Annotated[list[str] | None, typer.Option(metavar="off|5m|1h", help="Another prompt cache.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            metavar="whole|sliding|blocks", help="Send whole chats, a window that slides, or one cut to half when full."
        ),
    ] = None,
    batch: Annotated[bool, typer.Option("--batch", help="Send what nobody waits for through the Batch API.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Calls from then on, such as 2026-11-01; times are UTC.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Calls before then.")] = None,
    chat: Annotated[
        str,
        typer.Option(metavar="ID", help="Only this chat; of your own the end of its id will do.", show_default=False),
    ] = "",
    org: Annotated[str, typer.Option(metavar="ORG", help="Whose calls.", show_default=False)] = DEFAULT_ID,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON, all columns.")] = False,
) -> None:
    """Show what recorded calls would have cost otherwise.

    In ranges that say where they come from. Without any change the usual ones are shown.
    """
    from workbench.ledger import what_if

    asked = whole(chat) if chat and org == DEFAULT_ID else chat or None  # ids are looked up among one's own
    frame = what_if(model, cache, history, batch, since=since, until=until, chat=asked, org=org)
    if as_json:
        print_json(frame)
    else:
        _print(rows_of(frame))


def _print(rows: list[Row]) -> None:
    table = new_table(totals=False)
    table.add_column("scenario")
    for title in ("least", "likely", "most", "difference"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        amounts = [row[name] for name in ("low_usd", "likely_usd", "high_usd")]
        table.add_row(row["scenario"], *map(dollars, amounts), dollars(row["difference_usd"]))
    show(table)
    for row in rows:
        remark(f"{row['scenario']}: {row['why']}")
