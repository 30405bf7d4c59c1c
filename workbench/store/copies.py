"""The store in another place: a snapshot, a backup and its way back, Parquet files, another database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from workbench.errors import StoreBusy, StoreError
from workbench.ids import new_id
from workbench.store.backend import Statement
from workbench.store.check import check
from workbench.store.duckdb_file import CONFIG, DuckDBFile, refuse_device
from workbench.store.faults import busy, classified
from workbench.store.queries import query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from workbench.store.backend import Backend, Row
    from workbench.store.check import Finding

    Progress = Callable[[str, int, int], None]
    """Told the table, how many of its rows are done, how many there are."""

BATCH = 50_000
"""Rows of a batch of an export; with their texts some 50 MB."""
MOST_VALUES = 50_000
"""Values of the rows that are copied in one transaction; of usage some 1,400 rows."""
EXPORTED = ("usage", "messages")
SESSIONS = "sessions"
"""Who has a store open: true of that one only, so it is not copied."""


def _silent(table: str, done: int, total: int) -> None:
    pass


# A file -------------------------------------------------------------------------------------------------------------


async def snapshot(backend: Backend, path: Path) -> None:
    """Write a copy of the store, as it is at one moment, to a file that is not there yet.

    Raises:
        StoreError: the file exists or cannot be written, or the store is no file.
    """
    refuse_existing(path)
    with _partial(path) as partial:
        await backend.snapshot(str(partial.absolute()))  # it may be written by a process in another folder
        _reveal(partial, path)


async def backup(backend: Backend, path: Path) -> list[Finding]:
    """Do as :func:`snapshot`, and try whether the copy opens; return the rules that its rows break, as a rule none.

    Raises:
        StoreError: the file exists or cannot be written, or the copy does not open; then none is left.
    """
    refuse_existing(path)
    with _partial(path) as partial:
        await backend.snapshot(str(partial.absolute()))  # it may be written by a process in another folder
        broken = await _broken(partial)
        _reveal(partial, path)
    return broken


async def restore(backup: Path, target: Path, *, force: bool = False) -> Path | None:
    """Put a backup in the place of the store file.

    Returns where the store that was there is now, None when there was none.

    Raises:
        StoreBusy: somebody has the store open.
        StoreError: the backup does not open; or, unless ``force`` is given, it does not hold together, or there is a
            store already.
    """
    if not backup.is_file():
        raise StoreError(f"there is no file {backup}; give the path of a backup", str(backup))
    if target.exists() and target.samefile(backup):
        raise StoreError(f"{backup} is the store itself; give the path of a backup", str(backup))
    if target.exists() and not force:
        raise StoreError(
            f"there is a store at {target}; with --force it is moved aside and the backup takes its place", str(target)
        )
    with _partial(target) as partial:
        # opening a store may change it: the backup itself is only read
        shutil.copyfile(backup, partial)
        if _journal(backup).exists():
            shutil.copyfile(_journal(backup), _journal(partial))
        broken = await _broken(partial)
        if broken and not force:
            raise StoreError(f"{backup} does not hold together: {sentence(broken)}; --force restores it as it is")
        async with _held(target):
            aside = _move_aside(target)
            partial.rename(target)
    return aside


def compact(target: Path) -> None:
    """Write the store file anew without the space of deleted rows.

    Raises:
        StoreBusy: somebody has the store open.
        StoreCorrupt: it is a pipe or a device.
        StoreError: there is no room for a second copy.
    """
    refuse_device(target)
    with _partial(target) as partial:
        try:
            with duckdb.connect(str(target), config=CONFIG) as connection:
                _copy_into(connection, partial)
                # by its lock nobody has opened the old file, and nobody is to find the new one half-way
                partial.replace(target)
        except duckdb.Error as error:
            raise classified(error, str(target)) from None


def _copy_into(connection: duckdb.DuckDBPyConnection, partial: Path) -> None:
    ((name, locked),) = connection.execute(
        "SELECT current_database(), current_setting('lock_configuration')"
    ).fetchall()
    if locked:  # not opened now, but the one that this process has open already
        raise busy(name, f"this very process, {sys.executable}", os.getpid())
    version = CONFIG["storage_compatibility_version"]
    connection.execute(f"ATTACH {_quoted(partial)} AS compacted (STORAGE_VERSION '{version}')")
    connection.execute(f'COPY FROM DATABASE "{name}" TO compacted')
    connection.execute("CHECKPOINT compacted")
    connection.execute("DETACH compacted")
    connection.execute("CHECKPOINT")  # or closing would write the journal of a file that is another by then


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def refuse_existing(path: Path) -> None:
    """Raise StoreError when something is at the path, other than an empty folder."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise StoreError(f"{path} exists already; choose another name, or move it away", str(path))


def sentence(broken: Sequence[Finding]) -> str:
    """Return in words which rules are broken."""
    return "; ".join(f"not so: {finding.rule} ({finding.broken:,})" for finding in broken)


async def _broken(copy: Path) -> list[Finding]:
    """Open a copy, which brings its tables up to date, and check it."""
    backend = await asyncio.to_thread(DuckDBFile, str(copy))
    try:
        return [finding for finding in await check(backend) if not finding.ok]
    finally:
        backend.close()


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; whatever still has it at the end is removed."""
    partial = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
    except OSError as error:
        raise _no_room(path, error) from None
    finally:
        _remove(partial)


def _reveal(partial: Path, path: Path) -> None:
    """Give what is whole its name."""
    refuse_existing(path)
    partial.rename(path)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial-{new_id()[-12:]}")


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial)
    for leftover in (partial, _journal(partial)):
        leftover.unlink(missing_ok=True)


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def _no_room(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path} cannot be written ({error.strerror or error}); make room there, or choose another place", str(path)
    )


@contextlib.asynccontextmanager
async def _held(target: Path) -> AsyncIterator[None]:
    """Hold the store's own lock, so that nobody opens a file that is about to be moved away."""
    if not target.exists():
        yield
        return
    try:
        held = await asyncio.to_thread(DuckDBFile, str(target))
    except StoreBusy:
        raise
    except StoreError:
        yield  # damaged, or not a store: a reason to restore, and nobody can have it open
        return
    try:
        await held.vacuum()  # empties the journal, or closing would write it once the file is another
        yield
    finally:
        held.close()


def _move_aside(target: Path) -> Path | None:
    """Move a store with its journal, which must not be taken for that of the file that comes in its place."""
    if not target.exists():
        _journal(target).unlink(missing_ok=True)
        return None
    aside = target.with_name(f"{target.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
    if _journal(target).exists():
        _journal(target).rename(_journal(aside))
    target.rename(aside)
    return aside


# Parquet ------------------------------------------------------------------------------------------------------------


async def export(
    backend: Backend,
    folder: Path,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Progress = _silent,
) -> dict[str, int]:
    """Write usage and messages as Parquet files, ``usage/day=2026-11-24/part-0.parquet``, for any engine.

    ``since`` is inclusive, ``until`` is not; days are UTC. Returns the rows of each table. The folder appears when
    everything is written, under a name of its own before.

    Raises:
        StoreError: the folder is there already, or cannot be written.
    """
    refuse_existing(folder)
    with _partial(folder) as partial:
        partial.mkdir()
        rows = {table: await _export_table(backend, table, partial, since, until, progress) for table in EXPORTED}
        _reveal(partial, folder)
    return rows


async def _export_table(
    backend: Backend, table: str, folder: Path, since: datetime | None, until: datetime | None, progress: Progress
) -> int:
    days = await backend.rows(query(f"export_{table}_days"), since, until)
    total, done = sum(rows for _, rows in days), 0
    (folder / table).mkdir()
    for day, _ in days:
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        span = (max(begin, since or begin), min(begin + timedelta(days=1), until or datetime.max.replace(tzinfo=UTC)))
        part = folder / table / f"day={day:%Y-%m-%d}" / "part-0.parquet"
        async for rows in _write_parquet(part, _batches(backend, table, *span)):
            done += rows
            progress(table, done, total)
    return done


async def _batches(backend: Backend, table: str, begin: datetime, end: datetime) -> AsyncIterator[pa.Table]:
    after = ""
    while (batch := await backend.arrow(query(f"export_{table}"), begin, end, after, BATCH)).num_rows:
        yield batch
        after = batch["id"][-1].as_py()


async def _write_parquet(part: Path, batches: AsyncIterator[pa.Table]) -> AsyncIterator[int]:
    import pyarrow.parquet as pq

    part.parent.mkdir()
    writer = None
    try:
        async for batch in batches:
            writer = writer or pq.ParquetWriter(part, batch.schema, compression="zstd")
            writer.write_table(batch)
            yield batch.num_rows
    finally:
        if writer is not None:
            writer.close()


# Another store ------------------------------------------------------------------------------------------------------


class Table(NamedTuple):
    """A table with its columns, those of its key first in their order."""

    name: str
    key: Sequence[str]
    columns: Sequence[str]
    types: dict[str, str]

    @property
    def select(self) -> str:
        """The beginning of a query for its rows."""
        names = ", ".join(f"CAST({c} AS TEXT) AS {c}" if self.types[c].upper() == "JSON" else c for c in self.columns)
        return f"SELECT {names} FROM {self.name}"


async def copy(source: Backend, target: Backend, progress: Progress = _silent) -> dict[str, int]:
    """Copy every row of one store into another; return the rows of each table.

    Doing it again, also after it was stopped half-way, goes over the same rows and changes nothing but what changed.

    Raises:
        StoreError: afterwards the two differ, since one of them is in use or held other rows before.
    """
    ours = await tables(source)
    types = {table.name: table.types for table in await tables(target)}
    for table in ours:
        await _copy_table(source, target, table, types[table.name], progress)
    return {table.name: await _same(source, target, table.name) for table in ours}


async def tables_of(backend: Backend) -> list[str]:
    """Return the names of the tables that are copied, all but those about the store itself."""
    return [table.name for table in await tables(backend)]


async def tables(backend: Backend) -> list[Table]:
    """The tables there are, so that none is forgotten when one is added."""
    columns: dict[str, dict[str, str]] = {}
    for name, column, kind in await backend.rows(query("table_columns")):
        columns.setdefault(name, {})[column] = kind
    keys: dict[str, list[str]] = {}
    for name, column in await backend.rows(query("table_keys")):
        keys.setdefault(name, []).append(column)
    return [
        Table(name, key, [*key, *(c for c in columns[name] if c not in key)], columns[name])
        for name, key in sorted(keys.items())
        if name != SESSIONS
    ]


async def _copy_table(
    source: Backend, target: Backend, table: Table, types: dict[str, str], progress: Progress
) -> None:
    ((total,),) = await source.rows(f"SELECT COUNT(*) FROM {table.name}")
    done = 0
    async for rows in _pages(source, table):
        await target.write([_upsert(table._replace(types=types), rows)])
        done += len(rows)
        progress(table.name, done, max(done, total))


async def _pages(source: Backend, table: Table) -> AsyncIterator[list[Row]]:
    size = MOST_VALUES // len(table.columns)
    key = ", ".join(table.key)
    order = f"ORDER BY {key} LIMIT {size}"
    rows = await source.rows(f"{table.select} {order}")
    places = ", ".join(f"${n}" for n in range(1, len(table.key) + 1))
    while rows:
        yield rows
        last = rows[-1][: len(table.key)]
        rows = await source.rows(f"{table.select} WHERE ({key}) > ({places}) {order}", *last)


def _upsert(table: Table, rows: Sequence[Row]) -> Statement:
    """One parameter for each column, a list: 20 times as fast in DuckDB as one for each value."""
    values = ", ".join(as_column(n, table.types[column]) for n, column in enumerate(table.columns, start=1))
    rest = [column for column in table.columns if column not in table.key]
    sql = (
        f"INSERT INTO {table.name} ({', '.join(table.columns)}) SELECT {values} ON CONFLICT ({', '.join(table.key)}) "
        f"DO UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in rest)}"
    )
    return Statement(sql, tuple([*column] for column in zip(*rows, strict=True)))


def as_column(place: int, kind: str) -> str:
    """Return the parameter of that number, a list, as a column of that type."""
    if kind.upper() == "JSON":
        return f"CAST(UNNEST(CAST(${place} AS TEXT[])) AS JSON)"
    return f"UNNEST(CAST(${place} AS {kind}[]))"


async def _same(source: Backend, target: Backend, table: str) -> int:
    """How many rows the table has, in both."""
    sql = f"SELECT COUNT(*) FROM {table}" if table != "usage" else query("totals")
    (ours,), (theirs,) = await source.rows(sql), await target.rows(sql)
    if [*map(_plain, ours)] != [*map(_plain, theirs)]:
        raise StoreError(
            f"the copy of {table} is not complete: {_listed(ours)} there, {_listed(theirs)} here; copy again while "
            "nobody uses either store, into one that holds nothing else"
        )
    return int(ours[0])


def _plain(value: Any) -> Any:
    return 0 if value is None else value


def _listed(totals: Row) -> str:
    names = ("rows", "input tokens", "output tokens", "US dollars")
    return ", ".join(f"{_plain(total):,} {name}" for total, name in zip(totals, names, strict=False))
