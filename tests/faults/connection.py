"""HTTP/1.1 over one asyncio transport, with every way to mistreat it: cut, reset, stall, flood."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from .frames import Usage
    from .replies import Reply

REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass
class Request:
    """One request as it arrived, and what became of it."""

    method: str
    path: str  # without the query
    headers: dict[str, str]  # names in lower case
    raw: bytes
    at: float = field(default_factory=monotonic)  # when its last byte had arrived, time.monotonic()
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None  # the decoded JSON, None where there is none
    status: int | None = None  # sent; None: nothing was
    reply: Reply | None = None  # None: the checks refused it
    usage: Usage | None = None  # what the reply reports
    request_id: str = ""
    tokens_sent: int = 0  # counted just before they are written: no client has received more
    ended: str = ""  # while it runs; then "complete", "refused" (an error status), "broken", "left" (by the client)
    ended_at: float | None = None

    @property
    def prompt(self) -> str:
        """The words of the last user message."""
        for message in reversed(self.body["messages"]) if isinstance(self.body, dict) else ():
            if message["role"] == "user":
                content = message["content"]
                parts = [{"text": content}] if isinstance(content, str) else content
                return "\n".join(part["text"] for part in parts if "text" in part)
        return ""


class Host(Protocol):
    """What a connection needs from the upstream it belongs to."""

    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...
    async def serve(self, request: Request, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """Reads requests one after another; a request is cancelled when its client leaves."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.transport: asyncio.Transport
        self.left = False  # the client closed
        self.task: asyncio.Task[None] | None = None
        self.closing = False  # we closed, or are about to
        self._received = bytearray()
        self._room: asyncio.Future[None] | None = None

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.host.opened(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._next_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self.left = not self.closing
        if self.task:
            self.task.cancel()
        self.host.closed(self)

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._room and not self._room.done():
            self._room.set_result(None)
        self._room = None

    # reading

    @property
    def idle(self) -> bool:
        return self.task is None

    def _next_request(self) -> None:
        if self.task is None and not self.closing and (request := self._parse()):
            self.task = asyncio.get_running_loop().create_task(self.host.serve(request, self))
            self.task.add_done_callback(self._served)

    def _served(self, _: asyncio.Task[None]) -> None:
        self.task = None
        self._next_request()

    def _parse(self) -> Request | None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        line, *lines = self._received[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        size = int(headers.get("content-length", 0))
        if len(self._received) < end + 4 + size:
            if headers.get("expect", "").lower() == "100-continue" and len(self._received) == end + 4:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        raw = bytes(self._received[end + 4 : end + 4 + size])
        del self._received[: end + 4 + size]
        method, target, _ = line.split(" ")
        path, _, query = target.partition("?")
        request = Request(method, path, headers, raw, query=dict(parse_qsl(query)))
        try:
            request.body = json.loads(raw) if raw else None
        except ValueError:
            request.body = None
        return request

    # writing

    async def send(self, data: bytes) -> None:
        """Write, then wait while the client's buffers are full."""
        self.transport.write(data)
        if self._room:
            await self._room

    async def respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
        await self.send(head(status, headers | {"content-length": str(len(body))}) + body)

    async def flood(self, size: int) -> None:
        """Write this many bytes, without a line end, as one chunk."""
        block = b"duck" * 16_384
        await self.send(b"%x\r\n" % size)
        for start in range(0, size, len(block)):
            await self.send(block[: size - start])

    def cut(self) -> None:
        """Close after what was written has gone out."""
        self.closing = True
        self.transport.close()

    def abort(self) -> None:
        """Close at once, throwing away what is not yet sent."""
        self.closing = True
        self.transport.abort()

    def reset(self) -> None:
        """Close with a TCP reset; what the client has not received is lost."""
        self.closing = True
        raw: socket.socket = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()


def head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
