"""``workbench store``: look after the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from workbench.cli.terminal import agreed, clean, example, note, progress_bars, show, write, write_json
from workbench.errors import InvalidRequest, StoreBusy, StoreError
from workbench.wording import instant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from workbench.store.backend import Backend
    from workbench.store.check import Finding
    from workbench.store.erase import Removed

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Go ahead without asking.")]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look after the ledger: check, copy, export, erase. All but restore work while it is in use.",
)


# Looking ------------------------------------------------------------------------------------------------------------


@app.command(epilog=example("store check"))
def check(as_json: Json = False) -> None:
    """Check that the ledger holds together.

    Every turn is whole and billed once, nothing lacks its owner, sums agree. Ends with 1 if not.
    """
    from workbench.store import check as rules

    findings = _ask(rules.check)
    broken = [finding for finding in findings if not finding.ok]
    if as_json:
        write_json({"ok": not broken, "checks": [{"ok": f.ok, **asdict(f)} for f in findings]})
    else:
        _print_findings(findings)
    raise typer.Exit(1 if broken else 0)


@app.command(epilog=example("store info --json"))
def info(as_json: Json = False) -> None:
    """Show where the store is, and what is in it.

    Its size, the process that owns it, its versions, its rows, its first and last call.
    """
    known = _ask(_known)
    if as_json:
        write_json(known)
    else:
        _print_known(known)


async def _known(backend: Backend) -> dict[str, Any]:
    from workbench.store.copies import tables_of
    from workbench.store.queries import query

    ((schema, first, last, holds),) = await backend.rows(query("contents"))
    counted = {name: await backend.rows(f"SELECT COUNT(*) FROM {name}") for name in await tables_of(backend)}
    place = getattr(backend, "path", _url())
    # who owns a shared file is known to those who share it; a file opened alone is ours
    program, pid = getattr(backend, "owner", (None, os.getpid() if Path(place).exists() else None))
    return {
        "store": place,
        **_sizes(Path(place)),
        "owner_pid": pid,
        "owner_program": program,
        "schema_version": schema,
        **await _versions(backend),
        "rows": {name: rows[0][0] for name, rows in counted.items()},
        "first_call": first and instant(first),
        "last_call": last and instant(last),
        "open_holds": holds,
    }


def _sizes(file: Path) -> dict[str, int | None]:
    journal = file.with_name(f"{file.name}.wal")
    return {
        "bytes": file.stat().st_size if file.exists() else None,
        "journal_bytes": journal.stat().st_size if journal.exists() else None,
    }


async def _versions(backend: Backend) -> dict[str, str | None]:
    ((engine,),) = await backend.rows("SELECT VERSION()")
    if engine.startswith("PostgreSQL"):
        return {"engine": engine.split(" on ")[0], "file_version": None}
    ((version,),) = await backend.rows(
        "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = current_database()"
    )
    return {"engine": f"DuckDB {engine}", "file_version": version}


def _print_findings(findings: list[Finding]) -> None:
    for finding in findings:
        more = ", …" if finding.broken > len(finding.ids) else ""
        rows = "" if finding.ok else f": broken by {finding.broken:,} ({', '.join(finding.ids)}{more})"
        # not as a table: ids are there to be copied, and none may be cut to fit the screen
        write(f"{'✓' if finding.ok else '✗'} {finding.rule}{rows}\n")
    broken = sum(not finding.ok for finding in findings)
    write(f"\n{broken} of {len(findings)} rules are broken.\n" if broken else "\nThe ledger holds together.\n")


def _print_known(known: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    for name, value in known.items():
        if name == "rows":
            for rows_of, rows in value.items():
                table.add_row(f"rows of {rows_of.replace('_', ' ')}", f"{rows:,}")
        elif value is not None:
            shown = f"{value:,}" if name.endswith(("bytes", "holds")) else clean(str(value))
            table.add_row(name.replace("_", " "), shown)
    show(table)


# Copying ------------------------------------------------------------------------------------------------------------


@app.command(epilog=example("store snapshot /tmp/ledger.duckdb"))
def snapshot(path: Annotated[Path, typer.Argument(metavar="PATH", help="A file that is not there yet.")]) -> None:
    """Copy the store to a file, while it is in use.

    For tools of DuckDB, which cannot open a store that somebody has open.
    """
    from workbench.store import copies

    _ask(lambda backend: copies.snapshot(backend, path))
    note(f"The store as it was is in {path} ({path.stat().st_size:,} bytes).")


@app.command(epilog=example("store backup ledger-backup.duckdb"))
def backup(path: Annotated[Path, typer.Argument(metavar="PATH", help="A file that is not there yet.")]) -> None:
    """Copy the store to a file, and check the copy.

    It is kept if it opens, and said to be broken if it does not hold together.
    """
    from workbench.store import copies

    broken = _ask(lambda backend: copies.backup(backend, path))
    if broken:
        raise StoreError(
            f"the backup {path} was made and opens, but the ledger does not hold together: {copies.sentence(broken)}; "
            "see `workbench store check`",
            str(path),
        )
    note(f"The backup is in {path} ({path.stat().st_size:,} bytes); it opens and holds together.")


@app.command(epilog=example("store restore ledger-backup.duckdb --force"))
def restore(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A backup or a snapshot.")],
    force: Annotated[
        bool, typer.Option("--force", help="Move the store that is there aside, and take the backup as it is.")
    ] = False,
) -> None:
    """Put a backup in the place of the store.

    Nobody may have the store open.
    """
    from workbench.store import copies

    url = _url()
    if "://" in url:
        raise InvalidRequest("a database is not restored from a file; fill it with: workbench store copy FILE ADDRESS")
    aside = asyncio.run(copies.restore(path, Path(url), force=force))
    note(f"{url} is now {path}." + (f" What was there is in {aside}." if aside else ""))


@app.command(epilog=example("store export ledger-parquet --since 2026-11-01"))
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is not there yet.")],
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on, such as 2026-11-01; times are UTC.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")] = None,
    as_json: Json = False,
) -> None:
    """Write usage and messages as Parquet files.

    Of all orgs, with a folder for each day. The whole appears at the end, or nothing.
    """
    from workbench.ledger.frames import moment_of
    from workbench.store import copies

    begin, end = moment_of(since), moment_of(until)
    if begin and end and begin >= end:
        raise InvalidRequest(f"nothing is between {since} and {until}; swap the two")
    with progress_bars() as progress:
        rows = _ask(lambda backend: copies.export(backend, folder, begin, end, progress))
    _report(rows, f"Exported to {folder}", as_json=as_json)


@app.command(epilog=example("store vacuum"))
def vacuum() -> None:
    """Give the space of deleted rows back.

    While the store is in use it is only freed for new rows.
    """
    from workbench.store import copies

    url = _there(_url())
    if "://" in url:
        note("PostgreSQL frees the space of deleted rows by itself; to make its files smaller: VACUUM FULL.")
        return
    file = Path(url)
    before = _bytes(file)
    try:
        copies.compact(file)
    except StoreBusy:
        _ask(lambda backend: backend.vacuum())
        note("The store is in use: the space of deleted rows is free for new ones, the file keeps its size.")
    note(f"{before:,} bytes before, {_bytes(file):,} bytes after.")


@app.command(epilog=example("store copy data/workbench.duckdb elsewhere.duckdb"))
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A store: a file or a postgresql:// address.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The store to fill; a file is made if need be.")],
    as_json: Json = False,
) -> None:
    """Copy every row of a store into another.

    After an interruption do it again: rows that are there already are left as they are, or brought up to date.
    """
    _there(source)
    if source == target or ("://" not in source + target and Path(source).resolve() == Path(target).resolve()):
        raise InvalidRequest("FROM and TO are the same store; name two")
    with progress_bars() as progress:
        rows = asyncio.run(_copied(source, target, progress))
    _report(rows, "Copied", as_json=as_json)


async def _copied(source: str, target: str, progress: Callable[[str, int, int], None]) -> dict[str, int]:
    from workbench.store import copies

    async with _open(source) as ours, _open(target) as theirs:
        return await copies.copy(ours, theirs, progress)


# Erasing ------------------------------------------------------------------------------------------------------------


@app.command(epilog=example("store erase --org acme --user ada"))
def erase(
    org: Annotated[str, typer.Option(metavar="ID", help="The org, or the org of the user.")],
    user: Annotated[str | None, typer.Option(metavar="ID", help="Only what this user said.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Erase a user, or a whole org.

    Of a user everything they said goes, and what it cost stays, under no name. Without --user the org goes, its usage
    too.
    """
    from workbench.store import erase

    questions = [f"Erase user {user!r} of org {org!r}, and everything they said?"]
    if user is None:
        questions = [f"Erase org {org!r} with all its users, chats, prompts and usage?", "It cannot be undone. Really?"]
    _ask(lambda backend: erase.known_org(backend, org))  # before asking for leave
    if not all(agreed(question, yes=yes) for question in questions):
        note("Nothing was erased.")
        raise typer.Exit(1)
    with progress_bars() as progress:

        def told(removed: Removed) -> None:
            progress("chats", removed.chats, removed.chats)

        if user is None:
            removed = _ask(lambda backend: erase.erase_org(backend, org, told))
        else:
            removed = _ask(lambda backend: erase.erase_user(backend, org, user, told))
    _report(asdict(removed), f"Erased {f'user {user!r}' if user else f'org {org!r}'}", as_json=as_json)


@app.command(epilog=example("store retain --org acme --days 90"))
def retain(
    org: Annotated[str | None, typer.Option(metavar="ID", help="Whose chats.")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, metavar="N", help="Keep them so long after their last use.")
    ] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Keep them for ever.")] = False,
    as_json: Json = False,
) -> None:
    """Set or show how long chats are kept.

    `prune` deletes those of an org that were not used for longer. Without options, show it for every org.
    """
    from workbench.store import erase
    from workbench.store.queries import query

    if (org is not None) != (days is not None or forever) or (days is not None and forever):
        raise InvalidRequest("give --org together with --days or --forever, or nothing to see what is set")
    if org is not None:
        _ask(lambda backend: erase.retain(backend, org, days))
    kept = [row for row in _ask(lambda backend: backend.rows(query("retention"))) if org in (None, row[0])]
    if as_json:
        write_json([{"org_id": id, "retain_days": kept_days} for id, kept_days in kept])
        return
    for id, kept_days in kept:
        note(f"{id}: " + ("kept for ever" if kept_days is None else f"kept {kept_days:,} days after the last use"))


@app.command(epilog=example("store prune"))
def prune(as_json: Json = False) -> None:
    """Delete the chats that are kept no longer.

    Those nobody used for longer than their org keeps them; what they cost stays in the ledger.
    """
    from workbench.store import erase

    with progress_bars() as progress:
        removed = _ask(
            lambda backend: erase.prune(
                backend, datetime.now(UTC), lambda so_far: progress("chats", so_far.chats, so_far.chats)
            )
        )
    if as_json:
        write_json([{"org_id": org, "chats": r.chats, "messages": r.messages} for org, r in removed.items()])
        return
    for org, r in removed.items():
        note(f"{org}: deleted {r.chats:,} chats with {r.messages:,} messages")
    if not removed:
        note("Every org keeps its chats for ever; `workbench store retain` sets how long.")


# Inside -------------------------------------------------------------------------------------------------------------


def _url() -> str:
    from workbench.settings import settings

    return settings().store


def _there(url: str) -> str:
    """The same address, unless there is no store: none is made only to be looked at."""
    if "://" not in url and not Path(url).exists():
        raise StoreError(f"there is no store at {url} yet; it is made by the first question", url)
    return url


def _ask(work: Callable[[Backend], Awaitable[T]]) -> T:
    """What ``work`` returns for the store of the settings."""
    from workbench.runtime import runtime

    _there(_url())

    async def run(backend: Backend) -> T:
        return await work(backend)

    return runtime().run(run(runtime().engine.store.backend))


@contextlib.asynccontextmanager
async def _open(url: str) -> AsyncIterator[Backend]:
    from workbench.store import Store

    store = await Store.open(url)
    try:
        yield store.backend
    finally:
        store.close()


def _bytes(file: Path) -> int:
    return sum(size or 0 for size in _sizes(file).values())


def _report(rows: dict[str, int], what: str, *, as_json: bool) -> None:
    if as_json:
        write_json(rows)
    else:
        note(f"{what}: " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in rows.items()) + ".")
