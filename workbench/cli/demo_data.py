"""``workbench demo-data``: synthetic usage to try the ledger on."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.terminal import note, progress_bars, write_json

if TYPE_CHECKING:
    from datetime import date


def demo_data(
    until: Annotated[
        str | None,
        typer.Option(metavar="DAY", help="The day after the last one; today if not given.", show_default=False),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Write it anew if it is there already.")] = False,
    parquet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the calls to a Parquet file, and leave the store alone.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is there as JSON.")] = False,
) -> None:
    """Write 90 days of synthetic usage into the store.

    It belongs to an org of its own, synthetic-demo: `workbench usage --org synthetic-demo` shows it.
    """
    from workbench.ledger import demo

    last = demo.day_of(until)
    if parquet is not None:
        calls = demo.write_parquet(parquet, last)
        note(f"Wrote {calls:,} synthetic calls to {parquet}.")
        return
    found = _written(last, again=again)
    if as_json:
        write_json(found)
        return
    note(
        f"Org {found['org']!r} has {found['calls']:,} synthetic calls from {found['first_day']} to {found['last_day']}, "
        f"which cost {found['cost_usd']} US dollars. See them: workbench usage --by month --org {found['org']}, or in "
        f"Python wb.usage(by='month', org={found['org']!r}). To remove them: workbench store erase --org {found['org']}"
    )


def _written(until: date, *, again: bool) -> dict[str, object]:
    from workbench.ledger import demo
    from workbench.runtime import runtime

    backend = runtime().engine.store.backend
    with progress_bars() as progress:
        org = runtime().run(demo.write(backend, until, again=again, progress=progress))
    sums = "SELECT COUNT(*), MIN(started_at), MAX(started_at), SUM(cost_usd) FROM usage WHERE org_id = $1"
    ((calls, first, last, cost),) = runtime().run(backend.rows(sums, org))
    return {
        "org": org,
        "calls": calls,
        "first_day": f"{first:%Y-%m-%d}",
        "last_day": f"{last:%Y-%m-%d}",
        "cost_usd": f"{cost:.2f}",
    }
