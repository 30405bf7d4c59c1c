"""The owner of a DuckDB file serves the user's other processes, with Arrow Flight over a unix socket.

SQL is run for whoever can connect, so only the user may: the socket lies in a folder that is closed to others. Where
there are no unix sockets it is a port of the loopback address, and callers show a token from a file in that folder.
"""

from __future__ import annotations

import contextlib
import hmac
import itertools
import os
import secrets
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
from pyarrow import flight

from workbench.errors import InvalidRequest, StoreBusy, StoreCorrupt, StoreError, StoreFull, WorkbenchError
from workbench.ids import new_id
from workbench.store import place as places
from workbench.store.analyst import Query
from workbench.store.faults import not_answering
from workbench.store.packing import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from workbench.store.backend import Row, Statement
    from workbench.store.duckdb_file import DuckDBFile
    from workbench.store.place import Place

PROTOCOL = 1

PATIENCE = 10.0
"""Seconds an owner may take for a write or a page of rows before it is reported as busy."""
LONGEST_TABLE = 600.0
"""Seconds for a table of any size, or a copy of the file."""
LAST_STREAMS = 0.5
"""Seconds an owner that ends waits for clients that are reading tables and do not go on."""

ERRORS: dict[str, type[WorkbenchError]] = {
    kind.__name__: kind for kind in (StoreError, StoreBusy, StoreFull, StoreCorrupt, InvalidRequest)
}


class OwnerGone(Exception):
    """The owner does not answer any more, or nobody does: whatever was asked may or may not have been done."""


class Greeting(msgspec.Struct, frozen=True):
    """Who serves which file."""

    protocol: int
    pid: int
    program: str
    device: int
    inode: int


# The owner --------------------------------------------------------------------------------------------------------------


class FlightOwner(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Serves an open file until it is closed. Runs in threads of its own."""

    def __init__(self, file: DuckDBFile, place: Place) -> None:
        self.file = file
        self.place = place
        self.greeting = Greeting(PROTOCOL, os.getpid(), places.program(), *place.identity())
        self._closing = False
        self._last: dict[str, int] = {}
        self._arriving = threading.Lock()
        self._queries: dict[str, Query] = {}
        self._reading: set[Generator[Any]] = set()
        """Tables that clients are reading."""
        self._to_stop: deque[str] = deque(maxlen=100)
        """What clients asked to stop lately; that may arrive before the query does."""
        if places.UNIX:
            super().__init__(f"grpc+unix://{place.socket}")
            place.socket.chmod(0o600)
        else:
            token = secrets.token_hex(32)
            super().__init__("grpc://127.0.0.1:0", middleware={"token": _Doorkeeper(token)})
            _write_private(place.address, f"{self.port} {token}")

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> list[flight.Result]:
        """Answer a greeting, write, return rows, or stop a query."""
        with self._errors_cross():
            return [flight.Result(self._answer(action.type, action.body.to_pybytes()))]

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.FlightDataStream:
        """Send the result of a query: of ours piece by piece, of an analyst once it is known to be small enough."""
        with self._errors_cross():
            kind, *rest = unpack(ticket.ticket)
            if kind == "arrow":
                pieces = self._pieces(*rest)
                return flight.GeneratorStream(next(pieces), self._sent(pieces))
            return flight.RecordBatchStream(self._read_only(*rest))

    def close(self) -> None:
        """Finish what clients have sent and send them away; they take over, or find who does."""
        self._closing = True
        self.file.stop_queries()
        # a client that is paused in the middle of a table would keep the server for ever
        ending = threading.Thread(target=self.shutdown, name="workbench-store-farewell", daemon=True)
        ending.start()
        ending.join(LAST_STREAMS)
        for pieces in list(self._reading):
            with contextlib.suppress(ValueError):  # it is just being read on, and ends by itself
                pieces.close()
        for path in (self.place.socket, self.place.address):
            path.unlink(missing_ok=True)

    def leave_to_parent(self) -> None:
        """In a forked child: do not wait at exit for threads that only the parent has."""
        for reference in weakref.getweakrefs(self):
            if isinstance(reference.__callback__, weakref.finalize):
                reference.__callback__.detach()

    def _answer(self, kind: str, body: bytes) -> bytes:
        if self._closing and kind == "hello":  # whoever connects now had better wait for the next owner
            raise _gone()
        if kind == "hello":
            return msgspec.msgpack.encode(self.greeting)
        values = unpack(body)
        match kind:
            case "write":
                self._write(*values)
            case "rows":
                return pack(self.file.begin_rows(*values).result())
            case "snapshot":
                self.file.snapshot_now(values)
            case "vacuum":
                self.file.checkpoint_now()
            case "stop":
                self._to_stop.append(values)
                if query := self._queries.get(values):
                    query.stop()
        return b""

    def _write(self, client: str, number: int, statements: list[Statement]) -> None:
        with self._arriving:
            # one that its sender has given up, and that was held up while this process was paused, would undo later ones
            if number <= self._last.get(client, 0):
                return
            self._last[client] = number
            written = self.file.begin_write(statements)
        written.result()

    def _sent(self, pieces: Generator[Any]) -> Iterator[Any]:
        """Batches as a client takes them. It may never take the next, and then they are let go of in the middle."""
        self._reading.add(pieces)
        try:
            while (batch := None if self._closing else next(pieces, None)) is not None and not self._closing:
                yield batch
            if self._closing:
                raise _gone()
        finally:
            self._reading.discard(pieces)

    def _pieces(self, sql: str, parameters: Sequence[Any]) -> Generator[Any]:
        """The schema, then the batches."""
        with self._errors_cross(), self.file.reader(sql, parameters) as reader:
            yield reader.schema
            yield from reader

    def _read_only(self, id: str, sql: str, seconds: float) -> pa.Table:
        query = self._queries[id] = Query(sql, seconds)
        if id in self._to_stop:
            query.stop()
        try:
            return self.file.begin_read_only(query).result()
        finally:
            del self._queries[id]

    @contextlib.contextmanager
    def _errors_cross(self) -> Iterator[None]:
        try:
            yield
        except WorkbenchError as error:
            if self._closing:  # that is why it failed
                raise _gone() from None
            raise flight.FlightServerError(type(error).__name__, extra_info=_packed(error)) from None


def _gone() -> flight.FlightUnavailableError:
    return flight.FlightUnavailableError("the owner is closing")


def _packed(error: WorkbenchError) -> bytes:
    values = {name: value for name, value in vars(error).items() if isinstance(value, (str, int))}
    return pack([type(error).__name__, str(error), values])


def _unpacked(packed: bytes) -> WorkbenchError:
    name, message, values = unpack(packed)
    error = ERRORS.get(name, StoreError)(message)
    vars(error).update(values)
    return error


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


class _Doorkeeper(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Refuses whoever does not show the token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def start_call(self, info: flight.CallInfo, headers: dict[str, list[str | bytes]]) -> None:
        shown = "".join(str(value) for value in headers.get("authorization", []))
        if not hmac.compare_digest(shown.encode(), self._token.encode()):
            raise flight.FlightUnauthenticatedError("the token of the store is missing or wrong")


# Its clients ------------------------------------------------------------------------------------------------------------


class Sender:
    """Numbers what one process writes, however often it has to connect anew."""

    def __init__(self) -> None:
        self.id = new_id()
        self.numbers = itertools.count(1)


class FlightClient:
    """Asks the owner of a file. Calls block and may come from any thread; every one may raise OwnerGone."""

    def __init__(self, place: Place, sender: Sender) -> None:
        """Connect and see who answers.

        Raises:
            OwnerGone: nobody does.
            StoreBusy: the owner is of another version, serves a file that is no longer there, or is paused.
        """
        self.place = place
        self.greeting: Greeting | None = None
        self._sender = sender
        self._headers: list[tuple[bytes, bytes]] = []
        try:
            self._connection = flight.FlightClient(self._location())
        except (OSError, ValueError) as error:
            raise OwnerGone(str(error)) from None
        try:
            self.greeting = self._greet()
        except BaseException:
            self.close()
            raise

    def write(self, statements: Sequence[Statement]) -> None:
        """Run the statements in one transaction. Only one thread may write: a later write overrules an earlier one."""
        self._act("write", [self._sender.id, next(self._sender.numbers), list(statements)])

    def rows(self, sql: str, parameters: Sequence[Any]) -> list[Row]:
        """Return the rows of a query."""
        return [tuple(row) for row in unpack(self._act("rows", [sql, list(parameters)]))]

    def arrow(self, sql: str, parameters: Sequence[Any]) -> pa.Table:
        """Return the result of a query as a table."""
        return self._get(["arrow", sql, list(parameters)], LONGEST_TABLE)

    def read_only(self, query: Query) -> pa.Table:
        """Return the result of an analyst's query; ``stop`` ends it."""
        return self._get(["read_only", query.id, query.sql, query.seconds], LONGEST_TABLE + query.seconds)

    def stop(self, query: Query) -> None:
        """End an analyst's query."""
        self._act("stop", query.id)

    def snapshot(self, path: str) -> None:
        """Have the owner copy the file."""
        self._act("snapshot", path, LONGEST_TABLE)

    def vacuum(self) -> None:
        """Have the owner free the space of deleted rows."""
        self._act("vacuum", None, LONGEST_TABLE)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _location(self) -> str:
        if places.UNIX:
            if not self.place.socket.exists():
                raise OwnerGone("nobody listens")
            return f"grpc+unix://{self.place.socket}"
        port, token = self.place.address.read_text().split()
        self._headers = [(b"authorization", token.encode())]
        return f"grpc://127.0.0.1:{port}"

    def _greet(self) -> Greeting:
        greeting = msgspec.msgpack.decode(self._act("hello", None), type=Greeting)
        who = f"{greeting.program} (PID {greeting.pid})"
        if greeting.protocol != PROTOCOL:
            raise StoreBusy(
                f"the store {self.place.path} is kept by {who}, which runs another version of the workbench; "
                "restart that one",
                self.place.path,
                greeting.pid,
            )
        if (greeting.device, greeting.inode) != self.place.identity():
            raise StoreBusy(
                f"the store {self.place.path} was moved or replaced while {who} keeps it; restart that one",
                self.place.path,
                greeting.pid,
            )
        return greeting

    def _act(self, kind: str, values: Any, seconds: float | None = None) -> bytes:
        with self._our_errors():
            action = flight.Action(kind, pack(values))
            (result,) = self._connection.do_action(action, self._options(seconds or PATIENCE))
            return bytes(result.body.to_pybytes())

    def _get(self, ticket: list[Any], seconds: float) -> pa.Table:
        self._act("hello", None)  # a table may take its time, an owner that is paused is noticed now
        with self._our_errors():
            return self._connection.do_get(flight.Ticket(pack(ticket)), self._options(seconds)).read_all()

    def _options(self, seconds: float) -> flight.FlightCallOptions:
        return flight.FlightCallOptions(timeout=seconds, headers=self._headers)

    @contextlib.contextmanager
    def _our_errors(self) -> Iterator[None]:
        try:
            yield
        except flight.FlightTimedOutError:
            raise self._no_answer() from None
        except flight.FlightServerError as error:
            if not error.extra_info:
                raise StoreError(f"the store {self.place.path} failed ({error}); try again", self.place.path) from None
            raise _unpacked(error.extra_info) from None
        except (flight.FlightError, pa.ArrowException, OSError) as error:
            raise OwnerGone(str(error)) from None

    def _no_answer(self) -> StoreBusy:
        if self.greeting is None:
            return not_answering(self.place.path, *self.place.holder())
        return not_answering(self.place.path, self.greeting.program, self.greeting.pid)
