"""A query of an analyst's own: it may read the tables, and nothing else."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from workbench.errors import InvalidRequest
from workbench.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_RESULT = 1_000_000_000
"""Bytes; a forgotten join condition must not take the memory of the process that keeps the ledger."""

READS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI}
"""SELECT, SHOW, DESCRIBE, SUMMARIZE; EXPLAIN; PIVOT."""

READ_ONLY = "BEGIN TRANSACTION READ ONLY"


class Query:
    """One statement, to be run once; ``stop`` may be called from any thread."""

    def __init__(self, sql: str, seconds: float) -> None:
        self.id = new_id()
        self.sql = sql
        self.seconds = seconds
        self._over = threading.Event()

    def run(self, cursor: duckdb.DuckDBPyConnection) -> pa.Table:
        """Return the result; ``cursor`` is good for nothing else afterwards.

        Raises:
            InvalidRequest: it is not one statement that reads, it fails, or it takes too long or returns too much.
        """
        statement = self._statement()
        with self._time_limit(cursor):
            # the kind of statement is no guard: a SELECT over an INSERT is a SELECT. The transaction is.
            try:
                cursor.execute(READ_ONLY)
                return _table(cursor.sql(statement))
            except (duckdb.FatalException, duckdb.InternalException):
                raise  # not the query's fault, and the file has to be opened anew
            except (duckdb.BinderException, duckdb.CatalogException) as error:
                raise InvalidRequest(f"the query cannot be run: {self._with_place(error, cursor)}") from None
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                if "INTERRUPT" in str(error):
                    raise InvalidRequest(
                        f"the query took longer than {self.seconds:g} s and was stopped; narrow it"
                    ) from None
                raise InvalidRequest(f"the query cannot be run: {error}") from None

    @property
    def stopped(self) -> bool:
        return self._over.is_set()

    def stop(self) -> None:
        """End the query, whether it is running or about to."""
        self._over.set()

    def _statement(self) -> duckdb.Statement:
        self.sql.encode()  # of half a surrogate pair DuckDB would only say that its arguments are of wrong types
        try:
            statements = duckdb.extract_statements(self.sql)
        except duckdb.Error as error:
            raise InvalidRequest(f"the query cannot be read: {error}") from None
        if len(statements) != 1:
            raise InvalidRequest(f"one SQL statement is needed, this is {len(statements)}; run them one by one")
        if statements[0].type not in READS:
            kind = statements[0].type.name.replace("_", " ")
            raise InvalidRequest(f"{kind} is not allowed here; only queries that read, such as SELECT, are")
        return statements[0]

    @contextlib.contextmanager
    def _time_limit(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
        ended = threading.Event()

        def watch() -> None:
            self._over.wait(self.seconds)
            while not ended.is_set():
                cursor.interrupt()  # has no effect on a query that is just about to begin: again
                ended.wait(0.05)

        watcher = threading.Thread(target=watch, name="workbench-store-watcher", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            self._over.set()
            watcher.join()

    def _with_place(self, error: duckdb.Error, cursor: duckdb.DuckDBPyConnection) -> str:
        """The same error with the line and the mark under it, which DuckDB leaves out when asked for a relation."""
        cursor.execute("ROLLBACK")
        cursor.execute(READ_ONLY)
        try:
            cursor.execute(self.sql)  # fails again before anything runs: its names do not fit
        except duckdb.Error as placed:
            return str(placed)
        return str(error)


def _table(result: duckdb.DuckDBPyRelation) -> pa.Table:
    reader = result.to_arrow_reader()
    batches: list[pa.RecordBatch] = []
    size = 0
    for batch in reader:
        size += batch.nbytes
        if size > LARGEST_RESULT:
            raise InvalidRequest(
                f"the result is larger than {LARGEST_RESULT / 1e9:g} GB; narrow the query, or add up in SQL"
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, schema=reader.schema)
