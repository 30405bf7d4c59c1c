"""A table as an HTTP answer: JSON, CSV or Arrow, written piece by piece, so that its size does not matter."""

from __future__ import annotations

import asyncio
import io
import logging
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pyarrow as pa
from starlette.responses import Response

from server.problems import Stopping
from server.stream import STALL_SECONDS, Work
from workbench.errors import StoreError
from workbench.wording import exact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

log = logging.getLogger("server")

ROWS_AT_ONCE = 1000
"""Rows turned into JSON without a pause: some 10 ms, in which no other thread runs."""
FORMULA = r"^\s*[=+\-@＝＋－＠]|^[\t\r\n]"
"""The beginning of a text that spreadsheets run as a formula."""
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class Format(Protocol):
    """Turns one table, piece by piece, into bytes."""

    media_type: str

    def head(self, schema: pa.Schema) -> bytes:
        """What comes before the rows."""

    def rows(self, piece: pa.Table) -> bytes:
        """Some rows."""

    def tail(self) -> bytes:
        """What comes after the rows; without it the table is not whole."""


class Json:
    """An array with an object a row."""

    media_type = "application/json"

    def __init__(self) -> None:
        self._between = b""

    def head(self, schema: pa.Schema) -> bytes:
        return b"["

    def rows(self, piece: pa.Table) -> bytes:
        return b"".join(self._objects(batch) for batch in _portable(piece).to_batches(ROWS_AT_ONCE))

    def tail(self) -> bytes:
        return b"]\n"

    def _objects(self, batch: pa.RecordBatch) -> bytes:
        if not batch.num_rows:
            return b""
        between, self._between = self._between, b","
        return between + msgspec.json.encode(batch.to_pylist())[1:-1]


class Csv:
    """A line with the names, then a line a row. A text that a spreadsheet would run has a ``'`` before it."""

    media_type = "text/csv"

    def head(self, schema: pa.Schema) -> bytes:
        return _lines(schema.empty_table(), names=True)

    def rows(self, piece: pa.Table) -> bytes:
        return _lines(_portable(_harmless(piece)), names=False)

    def tail(self) -> bytes:
        return b""


class Arrow:
    """An Arrow IPC stream."""

    media_type = "application/vnd.apache.arrow.stream"

    def head(self, schema: pa.Schema) -> bytes:
        return bytes(schema.serialize())

    def rows(self, piece: pa.Table) -> bytes:
        return b"".join(bytes(batch.serialize()) for batch in piece.to_batches())

    def tail(self) -> bytes:
        return END_OF_STREAM


FORMATS: dict[str, type[Json | Csv | Arrow]] = {"json": Json, "csv": Csv, "arrow": Arrow}


def accepted(accept: str) -> str | None:
    """Return the name of the format a client likes best by its ``accept`` header, None when it takes none of ours.

    Example:
        >>> accepted("text/html, */*;q=0.8"), accepted("text/csv;q=0.5, application/*;q=0.1"), accepted("image/png")
        ('json', 'csv', None)
    """
    likes = dict(_like(part) for part in accept.split(",") if part.strip()) or {"*/*": 1.0}

    def liking(name: str) -> float:
        kind = FORMATS[name].media_type
        return next((likes[r] for r in (kind, f"{kind.partition('/')[0]}/*", "*/*") if r in likes), 0.0)

    best = max(FORMATS, key=liking)
    return best if liking(best) > 0 else None


def _like(part: str) -> tuple[str, float]:
    kind, *parameters = (each.strip().lower() for each in part.split(";"))
    weight = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    try:
        return kind, float(weight)
    except ValueError:
        return kind, 0.0


class TableResponse(Response):
    """Writes the pieces of a table as they are made; the client sets the pace."""

    def __init__(
        self,
        name: str,
        pieces: AsyncIterator[pa.Table],
        format: Format,
        at_work: set[Work],
        limit: asyncio.Semaphore,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        """Prepare; nothing is read before the answer is sent.

        Args:
            name: What a browser calls the file.
            pieces: At least one; all with the same columns.
            format: Not used yet.
            at_work: Where the work for all requests is known, so that the server can end it.
            limit: How many tables may be read at once. It is not held while a client is written to.
            stall_seconds: A client that reads nothing for so long is taken for gone.
        """
        suffix = next(key for key, kind in FORMATS.items() if isinstance(format, kind))
        headers = {"cache-control": "no-store", "vary": "accept"}
        if suffix != "json":
            headers["content-disposition"] = f'attachment; filename="{name}.{suffix}"'
        super().__init__(headers=headers, media_type=format.media_type)
        del self.headers["content-length"]  # nobody knows it yet
        self.pieces = pieces
        self.format = format
        self.at_work = at_work
        self.limit = limit
        self.stall_seconds = stall_seconds
        self.begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the table. What fails before the first piece has a status of its own; later the answer is cut off."""
        async with Work(receive, self.at_work) as work:
            try:
                await self._write_all(send)
            except StoreError as error:
                if not self.begun:
                    raise
                log.error("Store error", extra={"requestId": scope["state"]["request_id"], "error": str(error)})
            except TimeoutError:
                work.end("client")
        if work.ended_by == "server" and not self.begun:
            raise Stopping

    async def _write_all(self, send: Send) -> None:
        while (body := await self._next()) is not None:
            if not self.begun:
                self.begun = True
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._write(send, body)
        await self._write(send, self.format.tail(), more=False)

    async def _write(self, send: Send, body: bytes, *, more: bool = True) -> None:
        async with asyncio.timeout(self.stall_seconds):
            await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _next(self) -> bytes | None:
        async with self.limit:
            piece = await anext(self.pieces, None)
            return None if piece is None else await asyncio.to_thread(self._bytes, piece)

    def _bytes(self, piece: pa.Table) -> bytes:
        head = b"" if self.begun else self.format.head(piece.schema)
        return head + self.format.rows(piece)


def _lines(table: pa.Table, *, names: bool) -> bytes:
    from pyarrow import csv  # like the next two: 8 MB that only tables need

    text = io.BytesIO()
    csv.write_csv(table, text, csv.WriteOptions(include_header=names))
    return text.getvalue()


def _portable(table: pa.Table) -> pa.Table:
    """The same with amounts as exact decimal texts, and times as ``instant`` writes them."""
    return pa.table([_text(column) for column in table.columns], table.column_names)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    kind: Any = column.type
    if pa.types.is_decimal(kind):
        return pa.chunked_array([[exact(value) for value in column.to_pylist()]], pa.string())
    if pa.types.is_timestamp(kind):  # in UTC; an hour comes without saying so
        text = column.cast(pa.timestamp("ms"), safe=False).cast(pa.string())
        return pc.binary_join_element_wise(pc.replace_substring(text, " ", "T"), "Z", "")
    if pa.types.is_date(kind):
        return column.cast(pa.string())
    return column


def _harmless(table: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    for at, name in enumerate(table.column_names):
        column = table.column(at)
        if pa.types.is_string(column.type):
            guarded = pc.binary_join_element_wise("'", column, "")
            column = pc.if_else(pc.match_substring_regex(column, FORMULA), guarded, column)
            table = table.set_column(at, name, column)
    return table
