"""PostgreSQL as the backend, for when one machine is not enough: several servers and notebooks, one ledger.

Threads with a connection each do the work, as with a DuckDB file, so any thread and any event loop may ask. A lost
connection is made anew and the job done again. A COMMIT whose answer was lost may have happened, so this is right only
because every statement may run twice: ids are made by the client, what is there already is left alone, and updates
set values instead of adding to them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import adbc_driver_postgresql.dbapi as adbc
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.string import TextLoader

from workbench.errors import ConfigurationError, InvalidRequest, StoreError
from workbench.settings import without_password
from workbench.store.duckdb_file import Workers
from workbench.store.migrations import MIGRATIONS, number
from workbench.store.postgres_analyst import Query
from workbench.store.postgres_faults import classified, passes
from workbench.store.postgres_types import portable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    import pyarrow as pa

    from workbench.store.backend import Row, Statement

WRITERS = 4
READERS = 4
ANALYSTS = 2
PATIENCE = 15.0
"""Seconds for which a lost server is waited for: a restart takes a few, and a turn can wait so long."""

MIGRATING = 0x776F726B62656E63
"""The advisory lock of whoever changes tables; the letters "workbenc"."""

INDEXES = """
CREATE UNIQUE INDEX IF NOT EXISTS messages_place ON messages (chat_id, seq);
CREATE INDEX IF NOT EXISTS chats_used ON chats (org_id, user_id, updated_at);
CREATE INDEX IF NOT EXISTS usage_started ON usage (org_id, started_at);
CREATE INDEX IF NOT EXISTS usage_chat ON usage (chat_id);
CREATE INDEX IF NOT EXISTS holds_open ON holds (started_at) WHERE state = 'open';
"""
"""PostgreSQL needs them where DuckDB does not, and by the first no two messages ever share a place."""

DEFAULTS = {
    "application_name": "workbench",
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "tcp_user_timeout": "15000",  # milliseconds: a server that vanished from the network is noticed
}
T = TypeVar("T")


class PostgresBackend:
    """Keeps rows in a PostgreSQL database, which any number of processes may use at the same time."""

    def __init__(self, url: str) -> None:
        """Connect and bring the tables up to date.

        Raises:
            ConfigurationError: the address cannot be read.
            StoreBusy: the server does not answer.
            StoreError: it refuses the user, has no such database, gives no right to make tables, or its tables were
                written by a newer workbench.
        """
        self.path = without_password(url)
        self._conninfo = _conninfo(url, self.path)
        self._own = _Own()
        self._queries: set[Query] = set()
        self._closing = threading.Lock()
        self._ending = threading.Event()
        self._first()
        self._writers = _Connected("writer", WRITERS, self._own)
        self._readers = _Connected("reader", READERS, self._own)
        self._analysts = _Connected("analyst", ANALYSTS, self._own)

    @property
    def tenants_version(self) -> None:
        """Anybody may change them at any time."""

    @property
    def ledger(self) -> None:
        """As above."""

    async def write(self, statements: Sequence[Statement], *, since: int | None = None) -> None:
        """Run the statements in one transaction; on return they are durable."""

        def transaction() -> None:
            connection = self._connection()
            with connection.transaction():
                for sql, parameters in statements:
                    connection.execute(sql, tuple(map(_storable, parameters)))

        # shielded: whoever waits may be cancelled, the transaction is not undone by that
        await asyncio.shield(self._submit(self._writers, transaction))

    async def rows(self, sql: str, *parameters: Any) -> list[Row]:
        """Return the rows of a query."""
        return await self._submit(self._readers, lambda: self._connection().execute(sql, parameters).fetchall())

    async def arrow(self, sql: str, *parameters: Any) -> pa.Table:
        """Return the result of a query as a table."""

        def read() -> pa.Table:
            with self._bulk_connection().cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return portable(cursor.fetch_arrow_table())

        return await self._submit(self._readers, read)

    async def read_only(self, sql: str, *, seconds: float) -> pa.Table:
        """Return the result of one statement that can neither write nor reach files or network."""
        query = Query(sql, seconds)

        def run() -> pa.Table:
            self._queries.add(query)
            try:
                if self._ending.is_set():
                    raise self._is_closed()
                # a connection for it alone: what it sets or locks goes with it
                with adbc.connect(self._conninfo, autocommit=True) as connection:
                    try:
                        return query.run(connection)
                    except adbc.Error as error:  # not again: it may be what brought the server down
                        raise classified(error, self.path) from None
            except InvalidRequest:
                if self._ending.is_set():  # that is why it was stopped
                    raise self._is_closed() from None
                raise
            finally:
                self._queries.discard(query)

        try:
            return await self._submit(self._analysts, run)
        except asyncio.CancelledError:
            query.stop()
            raise

    async def snapshot(self, path: str) -> None:
        """Raise StoreError: a database is no file."""
        raise StoreError(f"{self.path} is no file; use `workbench store copy`, or pg_dump", self.path)

    async def vacuum(self) -> None:
        """Do nothing: PostgreSQL frees the space of deleted rows by itself."""

    def close(self) -> None:
        """Finish what is being written, stop what analysts are reading and disconnect."""
        with self._closing:
            if self._ending.is_set():
                return
            self._ending.set()
        while self._queries:
            for query in list(self._queries):
                query.stop()
            time.sleep(0.02)  # one that was just about to begin missed it
        for workers in (self._writers, self._readers, self._analysts):
            workers.finish()

    # Inside ---------------------------------------------------------------------------------------------------------

    def _submit(self, workers: Workers, job: Callable[[], T]) -> asyncio.Future[T]:
        with self._closing:
            if self._ending.is_set():
                raise self._is_closed()
            done: Future[T] = workers.submit(lambda: self._patiently(job))
        return asyncio.wrap_future(done)

    def _patiently(self, job: Callable[[], T]) -> T:
        """Do a job, again and again while the server is away, but not for ever."""
        until, pause = time.monotonic() + PATIENCE, 0.05
        while True:
            try:
                return job()
            except (psycopg.Error, adbc.Error, OSError) as error:
                if isinstance(error, OSError) and "[libpq]" not in str(error):
                    # not a connection that was lost while Arrow read from it
                    raise classified(error, self.path) from None
                self._own.hang_up()  # in doubt new ones are made
                # while closing, once more and no longer
                if not passes(error) or self._ending.is_set() or time.monotonic() > until:
                    raise classified(error, self.path) from None
            self._ending.wait(pause)
            pause = min(2 * pause, 1)

    def _connection(self) -> psycopg.Connection[Row]:
        """The connection of this thread."""
        if self._own.single is None:
            self._own.single = self._connect()
        return self._own.single

    def _bulk_connection(self) -> adbc.Connection:
        """The connection of this thread for tables; making one takes 50 ms, for it asks for all types there are."""
        if self._own.bulk is None:
            self._own.bulk = adbc.connect(self._conninfo, autocommit=True)
        return self._own.bulk

    def _connect(self) -> psycopg.Connection[Row]:
        connection = psycopg.connect(self._conninfo, autocommit=True, cursor_factory=psycopg.RawCursor)
        connection.adapters.register_loader("json", TextLoader)  # text, as DuckDB returns it
        return connection

    def _first(self) -> None:
        """Open the store: bring its tables up to date, one migration and one transaction at a time."""
        try:
            with self._connect() as connection:
                while self._migrated(connection):
                    pass
        except psycopg.Error as error:
            raise classified(error, self.path) from None

    def _migrated(self, connection: psycopg.Connection[Row]) -> bool:
        """Apply the next migration there is; return whether there was one."""
        run = connection.execute
        with connection.transaction():
            # until the end of the transaction: of processes that begin together one changes the tables
            run("SELECT pg_advisory_xact_lock($1)", (MIGRATING,))
            if run("SELECT to_regclass('schema_version')").fetchone() == (None,):
                run("CREATE TABLE schema_version (version INTEGER, name TEXT, applied_at TIMESTAMPTZ)")
            applied = {version for (version,) in run("SELECT version FROM schema_version").fetchall()}
            have, knows = max(applied, default=0), number(MIGRATIONS[-1][0])
            if have > knows:
                raise StoreError(
                    f"{self.path} was written by a newer workbench (its tables are version {have}, this one knows "
                    f"{knows}); update with: pip install -U claude-workbench",
                    self.path,
                )
            for name, sql in [each for each in MIGRATIONS if number(each[0]) not in applied][:1]:
                run(sql)
                run(INDEXES)
                run("INSERT INTO schema_version VALUES ($1, $2, now())", (number(name), name))
                return True
        return False

    def _is_closed(self) -> StoreError:
        return StoreError(f"the store {self.path} is closed; start a new session to open it again", self.path)


class _Own(threading.local):
    """The connections of the thread that asks."""

    single: psycopg.Connection[Row] | None = None
    bulk: adbc.Connection | None = None

    def hang_up(self) -> None:
        with suppress(psycopg.Error, adbc.Error):  # lost ones may not say goodbye
            if self.single is not None:
                self.single.close()
            if self.bulk is not None:
                self.bulk.close()
        self.single = self.bulk = None


class _Connected(Workers):
    """Threads that take their connections with them when they end."""

    def __init__(self, name: str, threads: int, own: _Own) -> None:
        self._own = own
        super().__init__(name, threads)

    def _work(self) -> None:
        super()._work()
        self._own.hang_up()


def _conninfo(url: str, shown: str) -> str:
    """Return what libpq takes; its own errors would show parts of a password that was not escaped."""
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.Error:
        given = None
    authority, _, rest = url.split("://", 1)[1].partition("/")
    unescaped = authority.count("@") > 1 or "@" in rest.partition("?")[0]
    ports = (given or {}).get("port", "").split(",")
    if given is None or unescaped or not all(port.isdigit() or not port for port in ports):
        raise ConfigurationError(
            f"WORKBENCH_STORE cannot be read as an address ({shown}); write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
            "and in the password %40 for @, %2F for /, %3A for :, %3F for ?, %23 for #, %25 for %"
        )
    # whoever stops in the middle of a transaction, a paused notebook say, must not keep others from its chat for ever
    options = f"{given.pop('options', '')} -c TimeZone=UTC -c idle_in_transaction_session_timeout=30s".strip()
    return make_conninfo(**(DEFAULTS | given | {"options": options}))


def _storable(value: Any) -> Any:
    """PostgreSQL keeps no NUL in a text: better the sign for "unreadable" in its place than no reply at all."""
    if isinstance(value, list):  # a column of many rows
        return [*map(_storable, value)]
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value
