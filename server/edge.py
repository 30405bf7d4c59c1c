"""What every request passes first: an id, a look at where it comes from, limits, and a last resort."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from server import telemetry
from server.auth import foreign
from server.metrics import NO_ROUTE, upstream_seconds
from server.pages import PAGES
from server.problems import internal_error, refusal
from workbench.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from server.metrics import Metrics

log = logging.getLogger("server")

LARGEST_BODY = 1 << 20
BODY_SECONDS = 10.0
"""Silence within a body; who sends no more of it would keep the server from stopping."""
WHOLE_BODY_SECONDS = 30.0
"""For all of a body, however busily it comes: a byte now and then is no way to keep a connection."""
MOST_REQUESTS = 1000
"""At the same time; more would only wait for each other, and each takes a connection to the upstream."""
MOST_WAITING = 1000
"""Requests whose body is still to come; one more, and the one that has waited longest is refused."""
_REQUEST_ID = re.compile(r"[\w-]{8,64}", re.ASCII)
_PROBES = ("/healthz", "/readyz", "/metrics")


class Edge:
    """Gives every request an id, and every answer, whatever becomes of the request, the same id."""

    def __init__(
        self,
        app: ASGIApp,
        allowed_origins: Collection[str],
        metrics: Metrics,
        most_requests: int = MOST_REQUESTS,
        *,
        any_host: bool = False,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.app = app
        self.allowed_origins = allowed_origins
        self.metrics = metrics
        self.most_requests = most_requests
        self.any_host = any_host
        self.most_waiting = most_waiting
        self._open = 0
        self._waiting: dict[_Exchange, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = _Exchange(_request_id(headers), receive, send, self._waiting)
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        telemetry.begun(scope, exchange.request_id)
        upstream: list[float] = []
        upstream_seconds.set(upstream)
        self._open += 1
        try:
            await self._answered(headers, scope, exchange)
            if exchange.left:
                self.metrics.client_disconnects.inc()
        except Exception as error:
            if exchange.status:
                raise  # too late for another answer: the connection is closed and the error logged
            await internal_error(error, exchange.request_id)(scope, exchange.receive, exchange.send)
        finally:
            self._open -= 1
            self._waiting.pop(exchange, None)
            self._note(scope, exchange, upstream)

    async def _answered(self, headers: Headers, scope: Scope, exchange: _Exchange) -> None:
        receive, send = exchange.receive, exchange.send
        page = scope["method"] in ("GET", "HEAD") and scope["path"] in PAGES
        if reason := foreign(headers, self.allowed_origins, any_host=self.any_host, page=page):
            await refusal(403, reason, exchange.request_id)(scope, receive, send)
        elif self._open - len(self._waiting) > self.most_requests and scope["path"] not in _PROBES:
            reason = f"the server answers {self.most_requests} requests already; ask again in a moment"
            response = refusal(503, reason, exchange.request_id)
            response.headers["retry-after"] = "1"
            await response(scope, receive, send)
        elif _announced(headers) > LARGEST_BODY:
            await refusal(413, None, exchange.request_id)(scope, receive, send)
        else:
            if "content-length" in headers or "transfer-encoding" in headers:
                self._wait_for_the_body(exchange)
            await self.app(scope, receive, send)

    def _wait_for_the_body(self, exchange: _Exchange) -> None:
        """Count the request among those whose client has the next move; it costs nobody else an answer."""
        self._waiting[exchange] = None
        if len(self._waiting) > self.most_waiting:
            next(iter(self._waiting)).give_up()

    def _note(self, scope: Scope, exchange: _Exchange, upstream: list[float]) -> None:
        ended = time.monotonic()
        status = exchange.status or 499  # nobody was left to answer
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        self.metrics.answered(route, status, ended - exchange.begun)
        if upstream and exchange.complete:
            self.metrics.overhead_seconds.observe(max(0.0, ended - exchange.arrived - sum(upstream)))
        log.log(
            logging.DEBUG if scope["path"] in _PROBES else logging.INFO,
            "Request",
            extra={
                "requestId": exchange.request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "durationMs": round((ended - exchange.begun) * 1000),
            },
        )


class _Exchange:
    """One request as it comes, within limits, and its answer as it goes."""

    def __init__(self, request_id: str, receive: Receive, send: Send, waiting: dict[_Exchange, None]) -> None:
        self.request_id = request_id
        self.status = 0
        self.complete = False
        self._disconnected = False
        self._sending = False
        self.begun = self.arrived = time.monotonic()
        self._receive = receive
        self._send = send
        self._size = 0
        self._whole = False
        self._waiting = waiting
        self._patience: asyncio.Timeout | None = None
        self._given_up = False

    @property
    def left(self) -> bool:
        """Whether the client went away before the answer's end, or read so little of it that it was given up."""
        return self._disconnected or self._sending

    async def send(self, message: Message) -> None:
        """Send on, with the id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self.request_id
        self._sending = True  # and so it stays when whoever sends has waited long enough
        await self._send(message)
        self._sending = False
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.complete = True

    async def receive(self) -> Message:
        """Receive, but end a body that is too large, though nobody announced it, or does not come."""
        # of a body that is here whole it tells, whenever that is, that the client has left
        message = await (self._receive() if self._whole else self._more())
        if message["type"] == "http.disconnect":
            self._disconnected = not self.complete
            return message
        if self._whole:
            return message
        self._size += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._whole:
            self._waiting.pop(self, None)
        self.arrived = time.monotonic()
        if self._size > LARGEST_BODY:
            raise HTTPException(413)
        return message

    def give_up(self) -> None:
        """Wait no longer for the rest of the body."""
        del self._waiting[self]
        self._given_up = True
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(0.0)

    async def _more(self) -> Message:
        left = max(0.0, self.begun + WHOLE_BODY_SECONDS - time.monotonic())
        try:
            async with asyncio.timeout(0.0 if self._given_up else min(BODY_SECONDS, left)) as self._patience:
                return await self._receive()
        except TimeoutError:
            raise self._late(left) from None
        finally:
            self._patience = None

    def _late(self, left: float) -> HTTPException:
        closing = {"connection": "close"}
        if self._given_up:
            reason = "too many requests wait for the rest of their bodies; send it again, whole"
            return HTTPException(503, reason, closing | {"retry-after": "1"})
        if left < BODY_SECONDS:
            reason = f"the body was not here after {WHOLE_BODY_SECONDS:g} s; send it again, faster"
        else:
            reason = f"no more of the body came for {BODY_SECONDS:g} s; send it again, whole"
        return HTTPException(408, reason, closing)


def _request_id(headers: Headers) -> str:
    sent = headers.get("x-request-id", "")
    return sent if _REQUEST_ID.fullmatch(sent) else new_id()


def _announced(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0
