"""``workbench import`` and ``workbench reconcile``: usage that was recorded elsewhere."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path  # noqa: TC003  # typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.tables import rows_of
from workbench.cli.terminal import clean, note, progress_bars, show, write_json
from workbench.turns import DEFAULT_ID
from workbench.wording import dollars, exact, instant

if TYPE_CHECKING:
    from workbench.ledger.imports import Imported

SHOWN = 20
"""Lines that could not be read that are named."""
EXAMPLES = (
    "\b\nExamples:\n  workbench import claude-code ~/.claude/projects\n  workbench import auto conversations.json"
)


def import_(
    format: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT", help="claude-code, llm, claude, chatgpt or litellm; `auto` tells by the content."
        ),
    ],
    # no Path, which is this folder when it is empty
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files or folders; .gz will do.")],
    org: Annotated[str, typer.Option(metavar="ID", help="The org whose it becomes.", show_default=False)] = DEFAULT_ID,
    user: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The user whose it becomes; else whom the file names.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be imported.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Bring usage that was recorded elsewhere into the ledger.

    Nothing is imported twice: do it again for what is new, or after an interruption. What cannot be read is skipped and
    named. It does not count against budgets: they bound what is spent here.
    """
    from workbench.ledger.imports import import_usage
    from workbench.ledger.imports.values import KEPT_PROBLEMS

    with progress_bars() as progress:
        found = import_usage(
            paths, None if format == "auto" else format, org=org, user=user, dry_run=dry_run, progress=progress
        )
    if as_json:
        write_json(_portable(found))
        return
    for problem in found.problems[:SHOWN]:
        note(f"Skipped {problem}")
    if found.malformed > SHOWN:
        note(f"Skipped {found.malformed - SHOWN:,} more; --json names the first {KEPT_PROBLEMS}.")
    note(str(found))


def reconcile(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Usage and cost reports of the Admin API, as JSON.")
    ],
    org: Annotated[str, typer.Option(metavar="ID", help="Whose calls of the ledger.", show_default=False)] = DEFAULT_ID,
    workspace: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only this workspace of the reports; `default` has no id.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every row, and the reasons, as JSON.")] = False,
) -> None:
    """Compare the ledger with Anthropic's usage and cost reports.

    Shows the days, models and classes of tokens that differ, and says what explains most of it.
    """
    from workbench.ledger.bills import reconcile

    frame = reconcile(paths, workspace=workspace, org=org)
    rows = [{**row, "day": f"{row['day']:%Y-%m-%d}"} for row in rows_of(frame)]
    if as_json:
        reasons = {reason: str(amount) for reason, amount in frame.attrs["reasons"].items()}
        exactly = [{n: exact(v) if isinstance(v, Decimal) else v for n, v in row.items()} for row in rows]
        write_json({"sentence": frame.attrs["sentence"], "reasons": reasons, "rows": exactly})
        return
    unknown = [row["class"] == "all" and row["ledger_usd"] is None for row in rows]
    _print_drifts([row for row, no in zip(rows, unknown, strict=True) if no or row["drift_tokens"] or row["drift_usd"]])
    note(frame.attrs["sentence"])


def _print_drifts(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for title in ("day", "model", "class"):
        table.add_column(title, no_wrap=True)
    for title in ("billed", "ledger", "drift"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        total, name = row["class"] == "all", row["class"].replace("_", " ")
        if row["drift_tokens"]:
            counts = [f"{row[f'{side}_tokens']:,}" for side in ("billed", "ledger", "drift")]
            table.add_row(row["day"], clean(row["model"] or "-"), clean(name), *counts)
        if total or row["drift_usd"]:
            costs = [dollars(row[f"{side}_usd"]) for side in ("billed", "ledger", "drift")]
            what = "cost" if total else f"{name.removesuffix(' tokens')} cost"
            table.add_row(row["day"], clean(row["model"] or "-"), clean(what), *costs)
    show(table)


def _portable(found: Imported) -> dict[str, Any]:
    return {
        "dry_run": found.dry_run,
        "files": dict(found.files),
        "calls": found.calls,
        "new_calls": found.new_calls,
        "new_chats": found.new_chats,
        "new_messages": found.new_messages,
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "cost_usd": exact(found.cost_usd),
        "unpriced_calls": found.unpriced_calls,
        "estimated_calls": found.estimated_calls,
        "first_call": found.first and instant(found.first),
        "last_call": found.last and instant(found.last),
        "malformed": found.malformed,
        "problems": [{"path": p.path, "line": p.line, "reason": p.reason} for p in found.problems],
        "left_out": dict(found.left_out),
    }
