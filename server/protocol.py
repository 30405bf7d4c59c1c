"""HTTP before it is a request: what uvicorn alone would wait for without end, or answer in words of its own.

A connection has so long to send the headers of a request, and so many bytes. What is late, too large or no HTTP is
answered in the shape of all our errors, and its connection closed. The body of a request has its limits in
``server.edge``, where the answer can still be that of a route.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.shapes import Problem, encode
from workbench.ids import new_id

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn.config import Config
    from uvicorn.server import ServerState

log = logging.getLogger("server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a connection may take."""

    header_seconds: float = 10.0
    """From the connection, or the first byte of a later request, to the end of the headers."""
    header_bytes: int = 32 * 1024
    """Of the target and all headers together."""
    linger_seconds: float = 5.0
    """How long what still comes on a connection that was refused is read and thrown away. Closing at once would make
    the client's system drop the answer, as long as it sends."""
    flush_seconds: float = 30.0
    """How long a client may read nothing of an answer that does not fit the buffers, or of the last one."""
    most_waiting: int = 1000
    """Connections whose next request is still to come; one more, and the one that waits longest is closed. Who means to
    ask does it at once, so a flood of connections that say nothing is at its own expense."""


DEFAULT_LIMITS = Limits()


class Protocol(HttpToolsProtocol):
    """One connection of a client."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits = DEFAULT_LIMITS,
        refused: Callable[[int], None] = lambda status: None,
        waiting: dict[Protocol, None] | None = None,
    ) -> None:
        """Prepare, as uvicorn does for each connection.

        Args:
            config: uvicorn's, like the next two.
            server_state: Shared by all connections.
            app_state: For the scope of each request.
            _loop: The running one.
            limits: What the connection may take.
            refused: Is told the status of each answer that no application gave.
            waiting: Shared by all connections: those whose next request is still to come, longest waiting first.
        """
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._refused = refused
        self._waiting = {} if waiting is None else waiting
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._in_headers = False
        self._counted = 0  # bytes of the target and the headers that are whole
        self._received = 0  # bytes of reads that hold nothing but headers, whole or not
        self._too_large = False
        self._resuming = False  # the parser reads a head of ours, see _feed
        self._ended = False  # nothing that still comes is looked at

    # The connection -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._disarm()
        self._unstall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._ended:
            return
        self._unset_keepalive_if_required()
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            # even if these are only line ends, or the rest of a body whose request has its answer
            self._wait_for_headers()
        continues = self._in_headers
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(431 if self._too_large else 400)
            return
        if continues and self._in_headers:
            self._received += len(data)
            if self._received > self._limits.header_bytes:
                self._refuse(431)

    def pause_writing(self) -> None:
        """Give a client that does not read what is written a while to do so: the application waits for it."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self._limits.flush_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Write on."""
        super().resume_writing()
        self._unstall()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which nothing more is asked."""
        if not self.transport.is_closing():
            self._close()

    # What the parser finds ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Count from here."""
        if self._resuming:
            return
        super().on_message_begin()
        self._in_headers, self._counted, self._received = True, 0, 0
        if self._timer is None:
            self._wait_for_headers()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        if not self._resuming:
            self._count(len(url))
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what follows a body like one is none: no proxy before us has looked at it."""
        self._count(len(name) + len(value) + 4)
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        if self._resuming:
            self._resuming = False
            return
        self._in_headers = False
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Let another request come, also after one that was answered before its end."""
        if self.parser.should_upgrade() and self._framing():
            return  # its body is still to come
        super().on_message_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self.cycle.more_body = False
            self._disarm()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._arm(self._limits.flush_seconds, self.transport.abort)
        elif self.cycle.response_complete:  # else it has asked for more already
            self._wait()

    # Inside ---------------------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        """Parse. A client may ask for another protocol, as Java's and curl's do for HTTP/2, and nobody has to grant it.

        The parser takes what follows such a request for that protocol. It is the body and the next request, so the
        parser is told so: a body read as a request of its own would be one that no proxy before us has looked at.
        """
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if framing := self._framing():
                    self._resuming = True
                    self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")

    def _framing(self) -> bytes:
        """The header that says how long the body of the latest request is; empty if it has none."""
        names = (b"content-length", b"transfer-encoding")
        return next((name + b": " + value for name, value in self.headers if name in names and value != b"0"), b"")

    def _count(self, size: int) -> None:
        self._counted += size
        if self._counted > self._limits.header_bytes:
            self._too_large = True
            raise ValueError("headers too large")  # seen by the parser, which stops

    def _wait_for_headers(self) -> None:
        self._arm(self._limits.header_seconds, self._late)
        self._wait()

    def _wait(self) -> None:
        self._waiting[self] = None
        if len(self._waiting) > self._limits.most_waiting:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.transport.abort()

    def _late(self) -> None:
        if self._in_headers:
            self._refuse(408)
        else:
            self._close()  # browsers open connections to have them; there is no request to answer

    def _refuse(self, status: int) -> None:
        """Answer what is no request, unless an answer is on its way; read no more of the connection."""
        self._ended = True
        self._disarm()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or not cycle.more_body or self.pipeline:
                cycle.keep_alive = False  # the answers to what came before are not disturbed
                return
            cycle.disconnected = True  # it waits for the rest of its body, which is no body
            cycle.message_event.set()
        elif cycle is not None and cycle.more_body:  # it has its answer
            self._close()
            return
        if not self.transport.is_closing():
            self._answer(status)
            self.transport.write_eof()
            self._arm(self._limits.linger_seconds, self._close)

    def _answer(self, status: int) -> None:
        problem = self._problem(status)
        log.info("Request refused", extra={"requestId": problem.request_id, "status": status})
        self._refused(status)
        body = encode(problem)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {problem.request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)

    def _problem(self, status: int) -> Problem:
        title, kind, message = {
            400: ("Bad Request", "invalid_request", "this is no HTTP/1.1 request; see RFC 9112"),
            408: (
                "Request Timeout",
                "request_timeout",
                f"the headers did not come within {self._limits.header_seconds:g} s; send the request again, whole",
            ),
            431: (
                "Request Header Fields Too Large",
                "headers_too_large",
                f"the target and the headers have more than {self._limits.header_bytes:,} bytes; shorten them",
            ),
        }[status]
        return Problem(error=title, message=message, type=kind, retryable=status == 408, request_id=new_id())

    def _close(self) -> None:
        self.transport.close()
        self._arm(self._limits.flush_seconds, self.transport.abort)  # else it waits for a client that reads nothing

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        self._waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _unstall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
