"""A DuckDB file that several processes use at once.

DuckDB lets one process open a file. The first to do so owns it and serves the others; when it goes away, the others
elect a new one: whoever gets the lock. What was asked meanwhile is asked again, which is harmless: every row has a key
made by its writer, and an update sets a value, never adds to it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import math
import os
import random
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from workbench.errors import InvalidRequest, StoreBusy, StoreError
from workbench.store.analyst import Query
from workbench.store.duckdb_file import ANALYSTS, READERS, DuckDBFile, Workers
from workbench.store.faults import classified, not_answering
from workbench.store.flight import FlightClient, FlightOwner, OwnerGone, Sender
from workbench.store.place import Lock, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from workbench.store.backend import Row, Statement

ELECTION_SECONDS = 10.0
"""How long an owner may take to open the file, or to close it, before others give up."""
FOREIGN_SECONDS = 1.0
"""The same for a program that is none of ours: it will hardly let go."""
RETRY_SECONDS = (0.005, 0.03)
LAST_WRITES = 20.0
"""Seconds that what a client still writes has when it closes: enough for an election and one write."""
LAST_READS = 0.5
"""The same for what it reads, which whoever closes hardly waits for; an owner that is paused would take minutes."""
MOST_OWNERS = 20
"""An operation that outlives so many owners may be what kills them."""
T = TypeVar("T")

_all: weakref.WeakSet[SharedFile] = weakref.WeakSet()
_in_a_child = False
"""Whether this process was forked from one that had a store open: its connections do not work here."""


class Owner:
    """What this process is to a file that it owns."""

    def __init__(self, place: Place, lock: Lock) -> None:
        self.lock = lock
        self.file = DuckDBFile(place.path)
        try:
            self.server = FlightOwner(self.file, place)
        except BaseException:
            self.file.close()
            raise

    def write(self, statements: Sequence[Statement]) -> None:
        self.file.begin_write(statements).result()

    def rows(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        return self.file.begin_rows(sql, parameters).result()

    def arrow(self, sql: str, parameters: Sequence[Any]) -> pa.Table:
        return self.file.begin_arrow(sql, parameters).result()

    def read_only(self, query: Query) -> pa.Table:
        return self.file.begin_read_only(query).result()

    def stop(self, query: Query) -> None:
        """Nothing more to do: it runs here."""

    def snapshot(self, path: str) -> None:
        self.file.snapshot_now(path)

    def vacuum(self) -> None:
        self.file.checkpoint_now()

    def close(self) -> None:
        """Hand over: clients find the file free as soon as they are sent away."""
        self.server.close()
        self.file.close()
        self.lock.release()


class SharedFile:
    """Keeps rows in a DuckDB file, as its owner or through it."""

    def __init__(self, path: str) -> None:
        """Open the file, making it and its folder if need be, or connect to the process that has it open.

        Raises:
            StoreBusy: a program that shares nothing holds the file, or the owner does not answer.
            StoreCorrupt, StoreError: see :class:`~workbench.store.duckdb_file.DuckDBFile`.
        """
        self.took_over: Callable[[], None] = lambda: None
        """Called after another process that owned the file went away, and this one owns it now."""
        try:
            self._place = Place.of(path)
        except OSError as error:
            raise classified(error, path) from None
        self._forked = _in_a_child
        if self._forked:
            raise self._is_closed()
        self._sender = Sender()
        self._electing = threading.Lock()
        self._host: Owner | FlightClient | None = self._elect()
        self._writer = Workers("sender", 1)
        self._readers = Workers("asker", READERS)
        self._analysts = Workers("researcher", ANALYSTS)
        self._queries: set[Query] = set()
        self._closing = threading.Lock()
        self._closed = False
        self._left = False
        """Whether the owner is asked no more, and nobody is elected."""
        _all.add(self)

    @property
    def path(self) -> str:
        return self._place.path

    @property
    def owner(self) -> tuple[str, int]:
        """The program that owns the file at the moment, and its PID."""
        host = self._current()
        greeting = host.server.greeting if isinstance(host, Owner) else host.greeting
        assert greeting is not None
        return greeting.program, greeting.pid

    @property
    def tenants_version(self) -> int | None:
        """Another number whenever an org, a user or a key may have changed; None while another process owns the file."""
        host = self._host
        return host.file.tenants_version if isinstance(host, Owner) else None

    @property
    def ledger(self) -> DuckDBFile | None:
        """Usage and holds, while this process owns the file."""
        host = self._host
        return host.file if isinstance(host, Owner) else None

    async def write(self, statements: Sequence[Statement], *, since: int | None = None) -> None:
        """Run the statements in one transaction; on return they are durable."""
        # shielded: whoever waits may be cancelled, the transaction is not undone by that
        await asyncio.shield(asyncio.wrap_future(self._begin_write(statements, since)))

    async def rows(self, sql: str, *parameters: Any) -> list[Row]:
        """Return the rows of a query."""
        return await asyncio.wrap_future(self._begin_rows(sql, parameters))

    async def arrow(self, sql: str, *parameters: Any) -> pa.Table:
        """Return the result of a query as a table."""
        return await asyncio.wrap_future(self._submit(self._readers, lambda host: host.arrow(sql, parameters)))

    async def read_only(self, sql: str, *, seconds: float) -> pa.Table:
        """Return the result of one statement that can neither write nor reach files or network."""
        query = Query(sql, seconds)

        def run(host: Owner | FlightClient) -> pa.Table:
            if self._closed:  # while it waited for its turn
                raise self._is_closed()
            try:
                return host.read_only(query)
            except (InvalidRequest, StoreError):
                if self._closed:  # that is why it was stopped
                    raise self._is_closed() from None
                raise

        self._queries.add(query)
        try:
            return await asyncio.wrap_future(self._submit(self._analysts, run))
        except asyncio.CancelledError:
            query.stop()
            with contextlib.suppress(StoreError):  # closed meanwhile, which has stopped it
                self._submit(self._readers, lambda host: host.stop(query))
            raise
        finally:
            self._queries.discard(query)

    async def snapshot(self, path: str) -> None:
        """Write a copy of the store, as it is at one moment, to a file that is not there yet."""
        ours = not os.path.lexists(path)

        def copy(host: Owner | FlightClient) -> None:
            try:
                host.snapshot(path)
            except OwnerGone:  # perhaps in the middle of it: the next one begins anew
                if ours:
                    Path(path).unlink(missing_ok=True)
                raise

        # a reader's thread: it may have to wait for queries, and what is written meanwhile must not
        await asyncio.shield(asyncio.wrap_future(self._submit(self._readers, copy)))

    async def vacuum(self) -> None:
        """Free the space of deleted rows: the file does not get smaller, but uses it before it grows again."""
        await asyncio.shield(asyncio.wrap_future(self._submit(self._readers, lambda host: host.vacuum())))

    def close(self) -> None:
        """Finish what is being written, stop what analysts are reading and let go; an owner hands over."""
        with self._closing:
            if self._closed or self._forked:
                return
            self._closed = True
        host = self._host
        for query in list(self._queries):
            query.stop()
            if host is not None:
                with contextlib.suppress(OwnerGone, StoreError):  # then there is nothing to stop
                    host.stop(query)
        asked = isinstance(host, FlightClient)
        self._writer.finish(LAST_WRITES if asked else math.inf)
        for workers in (self._readers, self._analysts):
            workers.finish(LAST_READS if asked else math.inf)
        with self._electing:
            self._left = True
        if self._host is not None:
            self._host.close()

    def leave_to_parent(self) -> None:
        """In a forked child: never touch what belongs to the parent's threads, not even to destroy it."""
        import ctypes  # rarely needed

        self._closing = threading.Lock()  # another thread may have held it
        self._forked = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._host))
        if isinstance(self._host, Owner):
            self._host.lock.forget()
            self._host.server.leave_to_parent()

    # Inside ---------------------------------------------------------------------------------------------------------

    def _begin_write(self, statements: Sequence[Statement], since: int | None) -> Future[None]:
        """Queue a transaction: an owner's own at once, so that those of many turns become one commit."""
        if file := self._own_file():
            return file.begin_write(statements, since)
        return self._submit(self._writer, lambda host: host.write(statements))

    def _begin_rows(self, sql: str, parameters: Sequence[Any]) -> Future[list[Row]]:
        if file := self._own_file():
            return file.begin_rows(sql, parameters)
        return self._submit(self._readers, lambda host: host.rows(sql, parameters))

    def _own_file(self) -> DuckDBFile | None:
        """The file, if this process owns it: that never ends before it is closed, so no thread need insist."""
        host = self._host
        with self._closing:
            if self._closed or self._forked:
                raise self._is_closed()
        return host.file if isinstance(host, Owner) else None

    def _submit(self, workers: Workers, job: Callable[[Owner | FlightClient], T]) -> Future[T]:
        with self._closing:
            if self._closed or self._forked:
                raise self._is_closed()
            return workers.submit(lambda: self._insist(job))

    def _insist(self, job: Callable[[Owner | FlightClient], T]) -> T:
        """Run the job, with another owner if the one that was asked goes away."""
        for _ in range(MOST_OWNERS):
            host = self._current()
            try:
                return job(host)
            except OwnerGone:
                self._dismiss(host)
        raise StoreError(f"the store {self.path} lost {MOST_OWNERS} owners in a row; try again", self.path)

    def _current(self) -> Owner | FlightClient:
        with self._electing:
            if self._left:
                raise self._is_closed()
            if self._host is None:
                self._host = self._elect()
                if isinstance(self._host, Owner):
                    self.took_over()
            return self._host

    def _dismiss(self, host: Owner | FlightClient) -> None:
        with self._electing:
            if self._host is host:
                self._host = None
                host.close()

    def _elect(self) -> Owner | FlightClient:
        begun = time.monotonic()
        while True:
            try:
                return FlightClient(self._place, self._sender)
            except OwnerGone:
                pass  # or there has never been one
            try:
                return self._own()
            except _Held as held:
                patience = FOREIGN_SECONDS if held.foreign else ELECTION_SECONDS
                if time.monotonic() - begun > patience:
                    raise held.error from None
            time.sleep(random.uniform(*RETRY_SECONDS))

    def _own(self) -> Owner:
        lock = Lock(self._place)
        try:
            taken = lock.take()
        except OSError as error:
            raise classified(error, str(self._place.lock)) from None
        if not taken:
            raise _Held(not_answering(self.path, *self._place.holder()), foreign=False)
        try:
            return Owner(self._place, lock)
        except StoreBusy as error:
            lock.release()
            raise _Held(error, foreign=True) from None
        except (OSError, pa.ArrowException) as error:
            lock.release()
            raise classified(error, self.path) from None
        except BaseException:
            lock.release()
            raise

    def _is_closed(self) -> StoreError:
        if self._forked:
            return StoreError(
                f"the store {self.path} is in use in the process this one was forked from and cannot be used here; "
                "start processes with the 'spawn' method",
                self.path,
            )
        return StoreError(f"the store {self.path} is closed; start a new session to open it again", self.path)


class _Held(Exception):
    """Somebody else has the file."""

    def __init__(self, error: StoreBusy, *, foreign: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.foreign = foreign


def _in_child() -> None:
    global _in_a_child
    for shared in list(_all):
        shared.leave_to_parent()
    if _all and not _in_a_child:
        _in_a_child = True
        atexit.register(_hush)


def _hush() -> None:
    """At the very end of a forked child DuckDB would list what was left to the parent as leaked."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
