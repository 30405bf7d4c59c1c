"""A DuckDB file as the backend: one thread writes, others read, each job with a cursor of its own.

DuckDB calls block and one connection used by two threads returns wrong rows without an error, so nothing here runs on
an event loop, and writes go through a queue to the only thread that writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import queue
import re
import shutil
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

import duckdb

from workbench.errors import InvalidRequest, StoreBusy, StoreError
from workbench.store.analyst import Query
from workbench.store.faults import busy, classified, no_text, not_ours
from workbench.store.journal import Journal
from workbench.store.migrations import MIGRATIONS, number
from workbench.store.together import CHECK, NEEDLESS, hopeful, together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from workbench.store.backend import Row, Statement

READERS = 4
ANALYSTS = 2
"""Threads of their own: slow queries of analysts never keep a turn waiting for its history."""
BATCH_ROWS = 50_000
"""In each piece of a result that is read in pieces: some 7 MB of usage rows."""

COPY_BYTES = 4_000_000

GROUP = 16
"""Transactions that are committed together at most."""
MOST_PARSED = 200
"""The workbench itself writes with some thirty statements."""

QUERY_PATIENCE = 60.0
"""Seconds that a copy of the file waits for queries to end, and its closing; an analyst's may take 30."""

JOURNAL = 1_000_000
"""Bytes of DuckDB's journal, some 125 turns, from which on it is written into the file. Whoever opens the file after a
crash first reads the journal, half a second per MB, while all others wait; DuckDB's own 16 MB take longer than they do.
Writing it into the file takes some 0.01 s, however much is there."""
DRAIN = 0.05
"""Seconds that new queries are kept waiting, per MB of the journal, for those that run to end."""
LONGEST_DRAIN = 2.0
INTERRUPT_SECONDS = 0.05
"""After so long a query is told again to end: between two pieces of a table it does not hear it."""

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # DuckDB 1.5 cannot read it; but in the older form a checkpoint writes the last 122,880 rows of a table anew, beside
    # 100,000 messages 58 times as long, and with 46 MB instead of 1 (tests/bench/checkpoint.py)
    "storage_compatibility_version": "v2.0.0",
    # else it would go to the network for whatever kind of file it finds
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "memory_limit": "2GB",
}
_TENANTS = re.compile(r"\b(orgs|users|api_keys)\b", re.IGNORECASE)
_LEDGER = re.compile(r"\b(usage|holds)\b", re.IGNORECASE)
_COMMENT = re.compile("--.*")
T = TypeVar("T")

log = logging.getLogger("workbench.store")


class DuckDBFile:
    """Owns a DuckDB file. DuckDB lets one process open it: a second one gets StoreBusy, with the first one's PID.

    Nobody else in this process may open the file, not even to copy it: closing it again would drop DuckDB's lock.
    """

    def __init__(self, path: str) -> None:
        """Open the file, making it and its folder if need be, and bring its tables up to date.

        Raises:
            StoreBusy: another process holds the file, or this one has it open already.
            StoreCorrupt: it is not a DuckDB file, or damaged.
            StoreError: the file cannot be made, or was written by a newer workbench.
        """
        self.path = path
        self._file: tuple[int, int] | None = None
        with self._our_errors():
            if path != ":memory:":
                for file in (path, f"{path}.wal"):
                    refuse_device(Path(file))
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._connection: duckdb.DuckDBPyConnection | None = self._open()
        self._cursors: set[duckdb.DuckDBPyConnection] = set()
        self._door = threading.Condition()
        self._shut = False
        self._next_checkpoint = JOURNAL
        self._writer = Workers("writer", 1)
        self._waiting: deque[_Waiting] = deque()
        self._parsed: dict[str, duckdb.Statement] = {}
        self.tenants_version = self.ledger_version = 0
        self._readers = Workers("reader", READERS)
        self._analysts = Workers("analyst", ANALYSTS)
        self._queries: set[Query] = set()
        self._reading: int | None = None
        self._closing = threading.Lock()
        self._closed = False
        _made.add(self)

    @property
    def ledger(self) -> DuckDBFile:
        """Usage and holds: nobody else writes to the file."""
        return self

    async def write(self, statements: Sequence[Statement], *, since: int | None = None) -> None:
        """Run the statements in one transaction; on return they are durable."""
        # shielded: whoever waits may be cancelled, the transaction is not undone by that
        await asyncio.shield(asyncio.wrap_future(self.begin_write(statements, since)))

    async def rows_in_order(self, *questions: Statement) -> tuple[int, list[list[Row]]]:
        """Return the rows of queries after all that was queued before, and before all that comes later."""

        def read() -> tuple[int, list[list[Row]]]:
            with self._our_errors(), self._cursor() as cursor:
                found = [cursor.execute(sql, parameters).fetchall() for sql, parameters in questions]
                return self.ledger_version, found

        asked: Future[tuple[int, list[list[Row]]]] = Future()
        self._queue(_Waiting([], None, asked, read))
        return await asyncio.wrap_future(asked)

    async def rows(self, sql: str, *parameters: Any) -> list[Row]:
        """Return the rows of a query."""
        return await asyncio.wrap_future(self.begin_rows(sql, parameters))

    async def arrow(self, sql: str, *parameters: Any) -> pa.Table:
        """Return the result of a query as a table."""
        return await asyncio.wrap_future(self.begin_arrow(sql, parameters))

    async def read_only(self, sql: str, *, seconds: float) -> pa.Table:
        """Return the result of one statement that can neither write nor reach files or network."""
        query = Query(sql, seconds)
        try:
            return await asyncio.wrap_future(self.begin_read_only(query))
        except asyncio.CancelledError:
            query.stop()
            raise

    # The same for threads, which have no event loop to wait on --------------------------------------------------------

    def begin_write(self, statements: Sequence[Statement], since: int | None = None) -> Future[None]:
        """Queue a transaction; what is queued first is written first, and durable together with what is queued by then."""
        done: Future[None] = Future()
        self._queue(_Waiting(statements, since, done))
        return done

    def begin_rows(self, sql: str, parameters: Sequence[Any]) -> Future[list[Row]]:
        """Queue a query for rows."""
        return self._read(self._readers, lambda cursor: cursor.execute(sql, parameters).fetchall())

    def begin_arrow(self, sql: str, parameters: Sequence[Any]) -> Future[pa.Table]:
        """Queue a query for a table."""
        return self._read(self._readers, lambda cursor: cursor.sql(sql, params=list(parameters)).to_arrow_table())

    def begin_read_only(self, query: Query) -> Future[pa.Table]:
        """Queue an analyst's query."""

        def run(cursor: duckdb.DuckDBPyConnection) -> pa.Table:
            self._queries.add(query)
            try:
                if self._closed:
                    raise self._is_closed()
                return query.run(cursor)
            except InvalidRequest:
                if self._closed:  # that is why it was stopped
                    raise self._is_closed() from None
                raise
            finally:
                self._queries.discard(query)

        return self._read(self._analysts, run)

    @contextlib.contextmanager
    def reader(self, sql: str, parameters: Sequence[Any]) -> Iterator[pa.RecordBatchReader]:
        """The result of a query in pieces, for whoever must not hold all of it at once."""
        with self._our_errors(), self._cursor() as cursor:
            yield cursor.sql(sql, params=list(parameters)).to_arrow_reader(BATCH_ROWS)

    def stop_queries(self) -> None:
        """End what analysts are reading."""
        for running in list(self._queries):
            running.stop()

    async def snapshot(self, path: str) -> None:
        """Write a copy of the store, as it is at one moment, to a file that is not there yet."""
        await asyncio.to_thread(self.snapshot_now, path)

    async def vacuum(self) -> None:
        """Free the space of deleted rows: the file does not get smaller, but uses it before it grows again."""
        await asyncio.to_thread(self.checkpoint_now)

    def snapshot_now(self, path: str) -> None:
        """Copy the file."""
        if self.path == ":memory:":
            raise StoreError("a store in memory has no file to copy; use `workbench store copy`", self.path)
        self.checkpoint_now(lambda: self._copy_file(path))

    def checkpoint_now(self, then: Callable[[], None] = lambda: None) -> None:
        """Write the journal into the file, and do something before anything else is written.

        It waits for queries to end; between its attempts others may read and write.

        Raises:
            StoreBusy: a query took longer than ``QUERY_PATIENCE``.
        """

        def attempt(seconds: float) -> bool:
            with self._our_errors():
                done = self._checkpoint(seconds)
                if done:
                    then()
                return done

        end, seconds = time.monotonic() + QUERY_PATIENCE, DRAIN
        # on the only thread that writes: nothing can come between the two
        while not self._submit(self._writer, partial(attempt, seconds)).result():
            if time.monotonic() > end:
                raise StoreBusy(f"a long query of {self.path} keeps its journal in use; try again after it", self.path)
            time.sleep(seconds)
            seconds = min(2 * seconds, LONGEST_DRAIN)

    def close(self) -> None:
        """Finish what is being written, stop what analysts are reading and let go of the file."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self.stop_queries()
        for workers in (self._writer, self._readers, self._analysts):
            workers.finish()
        end = time.monotonic() + QUERY_PATIENCE
        with self._door:
            # what is read for other processes runs in none of these threads, and DuckDB refuses to close under it
            while self._cursors and time.monotonic() < end:
                for cursor in self._cursors:
                    cursor.interrupt()
                self._door.wait(INTERRUPT_SECONDS)
        if self._connection is not None:
            self._connection.close()  # writes the journal into the file
        if self._reading is not None:
            os.close(self._reading)

    def _copy_file(self, path: str) -> None:
        if self._reading is None:
            # kept open: in POSIX, closing any descriptor of a file ends all locks the process has on it, and DuckDB's
            # lock is what keeps other processes from writing it too
            self._reading = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        os.lseek(self._reading, 0, os.SEEK_SET)
        try:
            with open(path, "xb") as copy:  # an existing file is left alone
                shutil.copyfileobj(os.fdopen(self._reading, "rb", closefd=False), copy, COPY_BYTES)
                copy.flush()
                os.fsync(copy.fileno())
        except FileExistsError:
            raise StoreError(f"{path} exists already; choose another name, or move it away", path) from None
        except OSError as error:
            Path(path).unlink(missing_ok=True)
            raise StoreError(
                f"the copy {path} cannot be written ({error.strerror}); choose another place", path
            ) from None

    # Inside ---------------------------------------------------------------------------------------------------------

    def _open(self) -> duckdb.DuckDBPyConnection:
        journal = Journal(self.path)
        connection = journal.open(lambda: duckdb.connect(self.path, config=CONFIG))
        try:
            self._prepare(connection, journal)
        except BaseException:
            connection.close()
            raise
        self._file = self._file_now()
        return connection

    def _file_now(self) -> tuple[int, int] | None:
        """What tells the file at the path from any other; None when there is none."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _check_in_place(self) -> None:
        """Raise StoreError when the file was deleted or moved: the system keeps it until it is closed, and no longer."""
        if self._file_now() != self._file:
            raise StoreError(
                f"the store {self.path} was deleted, moved or replaced while in use; "
                "put it back, or start a new session to begin another one",
                self.path,
            )

    def _prepare(self, connection: duckdb.DuckDBPyConnection, journal: Journal) -> None:
        run = connection.execute
        if run("SELECT current_setting('lock_configuration')").fetchone() == (True,):
            raise busy(self.path, f"this very process, {sys.executable}", os.getpid())
        run("SET GLOBAL TimeZone = 'UTC'")
        run("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER, name TEXT, applied_at TIMESTAMPTZ)")
        journal.check(connection)
        run("SET wal_autocheckpoint = '1TB'")  # never by itself: see _checkpoint
        self._migrate(connection)
        # from here on SQL reaches the tables and nothing else: no files, no network
        run("SET enable_external_access = false")
        run("SET lock_configuration = true")

    def _migrate(self, connection: duckdb.DuckDBPyConnection) -> None:
        run = connection.execute
        ((have,),) = run("SELECT COALESCE(MAX(version), 0) FROM schema_version").fetchall()
        if have > (knows := number(MIGRATIONS[-1][0])):
            raise StoreError(
                f"{self.path} was written by a newer workbench (its tables are version {have}, this one knows "
                f"{knows}); update with: pip install -U claude-workbench",
                self.path,
            )
        applied = {version for (version,) in run("SELECT version FROM schema_version").fetchall()}
        for name, sql in MIGRATIONS:
            if number(name) in applied:
                continue
            run("BEGIN TRANSACTION")
            run(sql)
            run("INSERT INTO schema_version VALUES ($1, $2, now())", [number(name), name])
            run("COMMIT")
            run("CHECKPOINT")  # most bugs of DuckDB's journal follow changes of tables

    def _write_waiting(self) -> None:
        """Write what waits in one transaction, since a commit of many costs what a commit of one does.

        If anything in it fails, each is written by itself, and only the one at fault fails.
        """
        group = self._next_group()
        if not group:  # written together with what came before
            return
        if len(group) == 1 and (read := group[0].read):
            _run(read, group[0].done)
            return
        for waiting in group:
            if waiting.since is None and any(changes_ledger(sql) for sql, _ in waiting.statements):
                self.ledger_version += 1  # first of all: what comes with it is no longer sure of its budgets
        if len(group) == 1 or not self._write_together(group):
            for waiting in group:
                _run(partial(self._transaction, self._needed(waiting), insist=True), waiting.done)
        self._shorten_journal()

    def _write_together(self, group: list[_Waiting]) -> bool:
        """Write transactions as one; return whether all of them have ended, one way or another."""
        try:
            self._transaction(together([hopeful(self._needed(waiting)) for waiting in group]))
        except (StoreError, InvalidRequest):
            return False
        except BaseException as error:  # noqa: BLE001  # handed to all who wait
            for waiting in group:
                waiting.done.set_exception(error)
        else:
            for waiting in group:
                waiting.done.set_result(None)
        return True

    def _queue(self, waiting: _Waiting) -> None:
        with self._closing:
            if self._closed:
                raise self._is_closed()
            self._waiting.append(waiting)
            self._writer.submit(self._write_waiting)

    def _next_group(self) -> list[_Waiting]:
        """Take what can be written together, or one read."""
        group: list[_Waiting] = []
        while self._waiting and len(group) < GROUP and not (group and self._waiting[0].read):
            group.append(self._waiting.popleft())
            if group[0].read:
                break
        return group

    def _needed(self, waiting: _Waiting) -> Sequence[Statement]:
        """Its statements, without looking at budgets of which its writer made sure."""
        if waiting.since is None or waiting.since != self.ledger_version:
            return waiting.statements
        return [statement for statement in waiting.statements if statement[0] != CHECK]

    def _transaction(self, statements: Sequence[Statement], *, insist: bool = False) -> None:
        """Write the statements; if told to, also what is there already and must not fail for that."""
        with self._our_errors(), self._cursor() as cursor:
            self._check_in_place()
            try:
                hoped = hopeful(statements) if insist else statements  # of several transactions each has been
                self._execute(cursor, [(without_conflict_clause(sql), parameters) for sql, parameters in hoped])
            except duckdb.ConstraintException:  # written again, or wrong either way
                if not insist:
                    raise
                cursor.execute("ROLLBACK")
                self._execute(cursor, statements)
            try:
                cursor.execute(self._parse(cursor, "COMMIT"))
            finally:  # before anybody is told that it is written, and also when nobody can tell whether it is
                if any(changes_tenants(sql) for sql, _ in statements):
                    self.tenants_version += 1

    def _execute(self, cursor: duckdb.DuckDBPyConnection, statements: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
        """Run the statements in a new transaction."""
        cursor.execute(self._parse(cursor, "BEGIN TRANSACTION"))
        for sql, parameters in statements:
            if sql != NEEDLESS:
                cursor.execute(self._parse(cursor, sql), parameters)

    def _parse(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
        """Return the statement, which is parsed the first time only: that is a sixth of its cost."""
        if sql not in self._parsed:
            if len(self._parsed) > MOST_PARSED:
                self._parsed.clear()
            (self._parsed[sql],) = cursor.extract_statements(sql)
        return self._parsed[sql]

    def _read(self, workers: Workers, job: Callable[[duckdb.DuckDBPyConnection], T]) -> Future[T]:
        def run() -> T:
            with self._our_errors(), self._cursor() as cursor:
                return job(cursor)

        return self._submit(workers, run)

    def _submit(self, workers: Workers, job: Callable[[], T]) -> Future[T]:
        with self._closing:
            if self._closed:
                raise self._is_closed()
            return workers.submit(job)

    def _checkpoint(self, seconds: float) -> bool:
        """Write the journal into the file, unless queries that run do not end in time; return whether it was.

        DuckDB lets queries go on meanwhile, but one that uses an index may then return the text of other rows (duckdb
        2.0.0: in one of four checkpoints with three readers, tests/test_store.py).
        """
        with self._door:
            self._shut = True
            try:
                if not self._door.wait_for(lambda: not self._cursors, seconds):
                    return False
            finally:
                self._shut = False
                self._door.notify_all()
            with self._cursor() as cursor:  # nobody else gets one before the door is let go of
                cursor.execute("CHECKPOINT")
        return True

    def _shorten_journal(self) -> None:
        """Write the journal into the file when it is long, or was deleted: it would be gone with this process."""
        try:
            size = os.stat(f"{self.path}.wal").st_size
        except OSError:
            if self._file_now() != self._file or self._file is None:  # moved away, or in memory
                return
            self._next_checkpoint = size = JOURNAL  # if nothing was written since the last time, it costs nothing
        if size < self._next_checkpoint:
            return
        self._next_checkpoint = size + JOURNAL
        try:
            if self._checkpoint(min(DRAIN * size / 1e6, LONGEST_DRAIN)):
                self._next_checkpoint = JOURNAL
        except duckdb.Error as error:  # nothing is lost by it: it is tried again when the journal has grown
            log.warning(str(classified(error, self.path)))

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor for one job. Closing it undoes a transaction that was not committed."""
        with self._door:
            self._door.wait_for(lambda: not self._shut)
            if self._connection is None:
                # as long as one of its cursors is open, DuckDB hands out the broken instance again
                self._door.wait_for(lambda: not self._cursors)
                self._connection = self._open()
            cursor = self._connection.cursor()
            self._cursors.add(cursor)
        try:
            yield cursor
        except (duckdb.FatalException, duckdb.InternalException):
            # a checkpoint that finds the disk full is one; DuckDB refuses everything until the file is opened anew
            with self._door:
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
            raise
        finally:
            with self._door:
                cursor.close()
                self._cursors.discard(cursor)
                self._door.notify_all()

    def _is_closed(self) -> StoreError:
        return StoreError(f"the store {self.path} is closed; start a new session to open it again", self.path)

    @contextlib.contextmanager
    def _our_errors(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError) as error:
            raise classified(error, self.path) from None


def refuse_device(path: Path) -> None:
    """Raise StoreCorrupt for a pipe, which would be waited for for ever, or anything else that is no file."""
    if path.exists() and not path.is_file():
        raise not_ours(str(path))


_made: WeakSet[DuckDBFile] = WeakSet()


def _leave_to_parent() -> None:
    """In a forked child: never touch the parent's files.

    DuckDB ends with its last connection, and then moves the journal into the file: under the parent, whose next turns
    would go to a journal that has no name any more.
    """
    import ctypes

    for file in _made:
        file._closing = threading.Lock()  # another thread of the parent may have held it
        file._closed = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(file))  # never freed, not even at exit


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def without_conflict_clause(sql: str) -> str:
    """Return an INSERT that fails when the key is there already.

    DuckDB makes a MERGE of ON CONFLICT, which costs four times as much CPU as the plain INSERT: 4 ms to 1. Only what is
    written a second time needs it.

    >>> without_conflict_clause("INSERT INTO orgs (id) VALUES ($1) ON CONFLICT (id) DO NOTHING")
    'INSERT INTO orgs (id) VALUES ($1) '
    """
    return sql.partition("ON CONFLICT")[0]


@dataclass(slots=True)
class _Waiting:
    """A transaction that is to be written, or what is to be read between two."""

    statements: Sequence[Statement]
    since: int | None
    done: Future[Any]
    read: Callable[[], Any] | None = None


@lru_cache(MOST_PARSED)
def changes_ledger(sql: str) -> bool:
    """Return whether a statement may change usage or holds."""
    return bool(_LEDGER.search(_COMMENT.sub("", sql)))


@lru_cache(MOST_PARSED)
def changes_tenants(sql: str) -> bool:
    """Return whether a statement may change an org, a user or a key.

    >>> changes_tenants("UPDATE api_keys SET revoked_at = $1"), changes_tenants("DELETE FROM chats  -- of all users")
    (True, False)
    """
    return sql != NEEDLESS and bool(_TENANTS.search(_COMMENT.sub("", sql)))


class Workers:
    """Threads that work off one queue.

    An executor would take no work once the interpreter ends, and that is when the last turns are recorded.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._queue: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"workbench-store-{name}", daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        done: Future[T] = Future()
        self._queue.put((job, done))
        return done

    def finish(self, seconds: float = math.inf) -> None:
        """Wait until everything submitted is done, or for so long."""
        for _ in self._threads:
            self._queue.put(None)
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if seconds == math.inf else max(0, end - time.monotonic()))

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            _run(*item)
            del item  # or its result would stay until the next one


def _run(job: Callable[[], T], done: Future[T]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        result = job()
    except UnicodeEncodeError:  # in whatever way a store would send the text
        done.set_exception(no_text())
    except BaseException as error:  # noqa: BLE001  # handed to whoever waits
        done.set_exception(error)
    else:
        done.set_result(result)
