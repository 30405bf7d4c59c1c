"""A DuckDB file as the backend: one thread writes, other threads read, each with a cursor of its own.

DuckDB calls block and one connection used by two threads returns wrong rows without an error, so nothing here runs on
an event loop, and writes go through a queue to the only thread that writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import re
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from workbench.errors import InvalidRequest, StoreBusy, StoreCorrupt, StoreError
from workbench.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from workbench.store.backend import Row, Statement

READERS = 4
T = TypeVar("T")


class DuckDBFile:
    """Owns a DuckDB file. DuckDB lets one process open it: a second one gets StoreBusy, with the first one's PID."""

    def __init__(self, path: str) -> None:
        """Open the file, making it and its folder if need be, and bring its tables up to date.

        Raises:
            StoreBusy: another process holds the file.
            StoreCorrupt: it is not a DuckDB file, or damaged.
            StoreError: the file cannot be made, or was written by a newer workbench.
        """
        self.path = path
        with self._our_errors():
            if path != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            # readable by DuckDB 1.5 tools too
            self._connection = duckdb.connect(path, config={"storage_compatibility_version": "v1.5.0"})
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        self._queue: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_forever, name="workbench-store-writer", daemon=True)
        self._writer.start()
        self._cursors = threading.local()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="workbench-store-reader")
        self._open_cursors: list[duckdb.DuckDBPyConnection] = []
        self._closing = threading.Lock()
        self._closed = False

    def _prepare(self) -> None:
        self._connection.execute("SET GLOBAL TimeZone = 'UTC'")
        self._migrate()
        # from here on SQL reaches the tables and nothing else: no files, no network, no Python objects
        for setting in (
            "python_enable_replacements = false",
            "memory_limit = '2GB'",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")

    def _migrate(self) -> None:
        run = self._connection.execute
        run("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER, name TEXT, applied_at TIMESTAMPTZ)")
        row = run("SELECT COALESCE(MAX(version), 0) FROM schema_version").fetchone()
        have = row[0] if row else 0
        if have > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} was written by a newer workbench (its tables are version {have}, this one knows "
                f"{len(MIGRATIONS)}); update with: pip install -U claude-workbench",
                self.path,
            )
        for version, (name, sql) in enumerate(MIGRATIONS[have:], start=have + 1):
            run("BEGIN TRANSACTION")
            run(sql)
            run("INSERT INTO schema_version VALUES ($1, $2, now())", [version, name])
            run("COMMIT")
            run("CHECKPOINT")  # most bugs of DuckDB's journal follow changes of tables

    async def write(self, statements: Sequence[Statement]) -> None:
        """Run the statements in one transaction; on return they are durable."""

        def transaction() -> None:
            run = self._connection.execute
            run("BEGIN TRANSACTION")
            try:
                for sql, parameters in statements:
                    run(sql, parameters)
                run("COMMIT")
            except BaseException:
                with contextlib.suppress(duckdb.TransactionException):  # a commit that failed has rolled back
                    run("ROLLBACK")
                raise

        done: Future[None] = Future()
        with self._closing:
            if self._closed:
                raise self._is_closed()
            self._queue.put((transaction, done))
        # shielded: whoever waits may be cancelled, the transaction is not undone by that
        await asyncio.shield(asyncio.wrap_future(done))

    async def rows(self, sql: str, *parameters: Any) -> list[Row]:
        """Return the rows of a query."""
        return await self._read(lambda cursor: cursor.execute(sql, parameters).fetchall())

    async def arrow(self, sql: str, *parameters: Any) -> pa.Table:
        """Return the result of a query as a table."""
        return await self._read(lambda cursor: cursor.sql(sql, params=list(parameters)).to_arrow_table())

    async def read_only(self, sql: str, *, seconds: float) -> pa.Table:
        """Return the result of one statement that can neither write nor reach files or network."""

        def run(cursor: duckdb.DuckDBPyConnection) -> pa.Table:
            statements = _parsed(sql)
            if len(statements) != 1:
                raise InvalidRequest(f"one SQL statement is needed, this is {len(statements)}")
            # the kind of statement is no guard: a SELECT over an INSERT is a SELECT. The transaction is.
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            timer = threading.Timer(seconds, cursor.interrupt)
            timer.start()
            try:
                return cursor.execute(statements[0]).to_arrow_table()
            except duckdb.InterruptException:
                raise InvalidRequest(f"the query took longer than {seconds:g} s and was stopped; narrow it") from None
            except duckdb.Error as error:
                raise InvalidRequest(f"the query cannot be run: {error}") from None
            finally:
                timer.cancel()
                cursor.execute("ROLLBACK")

        return await self._read(run)

    def close(self) -> None:
        """Finish what is being written, write the journal into the file and let go of it."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        self._readers.shutdown(wait=True, cancel_futures=True)
        for cursor in self._open_cursors:
            cursor.close()
        self._connection.close()

    def _write_forever(self) -> None:
        while (job := self._queue.get()) is not None:
            transaction, done = job
            try:
                with self._our_errors():
                    transaction()
            except BaseException as error:  # noqa: BLE001  # handed to whoever waits
                done.set_exception(error)
            else:
                done.set_result(None)

    async def _read(self, query: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        def run() -> T:
            cursor = getattr(self._cursors, "cursor", None)
            if cursor is None:
                cursor = self._cursors.cursor = self._connection.cursor()
                self._open_cursors.append(cursor)
            with self._our_errors():
                return query(cursor)

        with self._closing:
            if self._closed:
                raise self._is_closed()
            future = self._readers.submit(run)
        return await asyncio.wrap_future(future)

    def _is_closed(self) -> StoreError:
        return StoreError(f"the store {self.path} is closed; start a new session to open it again", self.path)

    @contextlib.contextmanager
    def _our_errors(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError) as error:
            raise _classified(error, self.path) from None


def _parsed(sql: str) -> list[duckdb.Statement]:
    try:
        return duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise InvalidRequest(f"the query cannot be read: {error}") from None


def _classified(error: Exception, path: str) -> StoreError:
    """What DuckDB or the file system reports, as one sentence that says what to do."""
    text = str(error)
    if "lock on file" in text:
        holder = re.search(r"held in (\S+).*?\(PID (\d+)\)", text)
        who = f"{holder[1]} (PID {holder[2]})" if holder else "another process"
        return StoreBusy(
            f"the store {path} is in use by {who}; close that one, or set WORKBENCH_STORE to another file",
            path,
            int(holder[2]) if holder else None,
        )
    if "not a valid DuckDB database file" in text:
        return StoreCorrupt(
            f"{path} is not a workbench store; set WORKBENCH_STORE to another path, or move that file away", path
        )
    if isinstance(error, duckdb.SerializationException) or "orrupt" in text:
        return StoreCorrupt(f"the store {path} is damaged and was left as it is ({_first_line(text)})", path)
    if "No space left" in text or "File too large" in text or "Could not write file" in text:
        return StoreError(
            f"the store {path} cannot be written, its disk is full; free some space and go on, what was saved is safe",
            path,
        )
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return StoreError(f"no permission to open the store {path}; set WORKBENCH_STORE to a path of your own", path)
    return StoreError(f"the store {path} failed: {_first_line(text)}", path)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no reason given"
