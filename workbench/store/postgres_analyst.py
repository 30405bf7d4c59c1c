"""A query of an analyst's own on PostgreSQL: it may read the tables, and nothing else.

What holds, and by what:

- One statement: PostgreSQL prepares no more than one.
- No writing: the transaction is READ ONLY, which cannot be undone once a statement has run, and the statement is a
  cursor's, which can be nothing but a query. What follows EXPLAIN may be something else; the transaction never commits.
- No files, programs or network of the server: its own rule for users who are no superusers. A superuser is refused
  here. Taking the rights away for the time of the query does not hold: ``set_config('role', 'none', true)`` gives them
  back, and functions that run a text as SQL, such as ``ts_stat``, then use them within the same statement.
- Time: every part of the result is fetched with the time that is left. Memory: in parts, and not beyond a limit.
- What it sets or locks for its session ends with its connection, which is its own.

It can see whatever its user can see in the database, and end sessions of that user; the store connects again.
"""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Any

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa

from workbench.errors import InvalidRequest
from workbench.store import analyst
from workbench.store.postgres_faults import reason
from workbench.store.postgres_types import portable

if TYPE_CHECKING:
    from collections.abc import Iterator

QUERIES = ("SELECT", "WITH", "VALUES", "TABLE")
ABOUT = ("EXPLAIN", "SHOW")
FIRST_WORD = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*([a-z]*)", re.DOTALL | re.IGNORECASE)
PART = 8_000_000
"""Bytes of the result that are fetched at once, about."""

POWERS = """
SELECT
    pg_has_role(session_user, 'pg_read_server_files', 'MEMBER')
    OR pg_has_role(session_user, 'pg_write_server_files', 'MEMBER')
    OR pg_has_role(session_user, 'pg_execute_server_program', 'MEMBER') AS files,
    EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'dblink') AS network,
    CAST(session_user AS TEXT) AS name
"""


class Query:
    """One statement, to be run once; ``stop`` may be called from any thread."""

    def __init__(self, sql: str, seconds: float) -> None:
        self.sql = sql
        self.seconds = seconds
        self._stopped = threading.Event()
        self._running: adbc.Connection | None = None
        self._lock = threading.Lock()

    def run(self, connection: adbc.Connection) -> pa.Table:
        """Return the result; ``connection`` is good for nothing else afterwards.

        Raises:
            InvalidRequest: it is not one statement that reads, it fails, it takes too long or returns too much, or the
                user could reach files or the network with it.
        """
        if "\0" in self.sql:  # where PostgreSQL would stop reading
            raise InvalidRequest("the query has a NUL in it")
        _powerless(connection)
        self._running = connection
        self._until = time.monotonic() + self.seconds
        try:
            return self._read(connection)
        except adbc.Error as error:
            if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
                raise  # the server is lost, not the query wrong
            if error.sqlstate == "57014":
                raise self._too_long() from None
            raise InvalidRequest(f"the query cannot be run: {_said(error)}") from None
        finally:
            with self._lock:
                self._running = None

    def stop(self) -> None:
        """End the query, whether it is running or about to."""
        self._stopped.set()
        with self._lock:  # or it could be closed meanwhile
            if self._running is not None:
                self._running.adbc_cancel()

    def _read(self, connection: adbc.Connection) -> pa.Table:
        word = _first_word(self.sql)
        self._run(connection, "BEGIN TRANSACTION READ ONLY")
        with connection.cursor() as cursor:
            # first as it is, for errors that show the place
            if cursor.adbc_prepare(self.sql):
                raise InvalidRequest("the query has $ parameters, and there is nothing to put in their place")
        if word in ABOUT:
            return portable(self._timed(connection, self.sql))
        if word not in QUERIES:
            raise InvalidRequest(f"{word} is not allowed here; only queries that read, such as SELECT, are")
        self._timed(connection, f"DECLARE analyst NO SCROLL CURSOR FOR\n{self.sql}")
        return portable(pa.concat_tables(self._parts(connection)))

    def _parts(self, connection: adbc.Connection) -> Iterator[pa.Table]:
        count, size = 100, 0
        while True:
            part = self._timed(connection, f"FETCH {count} FROM analyst")
            size += part.nbytes
            if size > analyst.LARGEST_RESULT:
                raise InvalidRequest(
                    f"the result is larger than {analyst.LARGEST_RESULT / 1e9:g} GB; narrow the query, or add up in SQL"
                )
            yield part
            if part.num_rows < count:
                return
            count = max(1, min(10 * count, PART * part.num_rows // max(part.nbytes, 1)))

    def _timed(self, connection: adbc.Connection, sql: str) -> pa.Table:
        left = self._until - time.monotonic()
        if left <= 0 or self._stopped.is_set():
            raise self._too_long()
        # before each part: the query could have set it to something else
        self._run(connection, f"SET LOCAL statement_timeout = {max(1, int(left * 1000))}")
        return self._run(connection, sql)

    @staticmethod
    def _run(connection: adbc.Connection, sql: str) -> pa.Table:
        with connection.cursor() as cursor:
            # by COPY it would be faster, but COPY puts the text between brackets, and text can close brackets
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

    def _too_long(self) -> InvalidRequest:
        return InvalidRequest(f"the query took longer than {self.seconds:g} s and was stopped; narrow it")


def _first_word(sql: str) -> str:
    found = FIRST_WORD.match(sql)
    if not found or not found[1]:
        raise InvalidRequest("one SQL statement is needed, and this is none")
    return found[1].upper()


def _powerless(connection: adbc.Connection) -> None:
    """Refuse users with whose rights a query could leave the database."""
    with connection.cursor() as cursor:
        cursor.execute(POWERS)
        (powers,) = cursor.fetch_arrow_table().to_pylist()
    if powers["files"]:
        raise InvalidRequest(
            f"queries of your own are not run as {powers['name']!r}, who may read files of the database server; make a "
            "user for the workbench that is no superuser and owns its database, and name it in WORKBENCH_STORE"
        )
    if powers["network"]:
        raise InvalidRequest(
            "queries of your own are not run in a database with the extension dblink, which reaches the network; "
            "give the workbench a database of its own"
        )


def _said(error: Any) -> str:
    """What PostgreSQL said, with the line and the mark under it if it gave one."""
    placed = re.search(r"Failed to prepare query: (.*?)\s*\n\nQuery was: ", str(error), re.DOTALL)
    if placed:
        return placed[1]
    return reason(error)
