"""What every request passes first: an id, a look at where it comes from, a limit, and a last resort."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from server.auth import foreign
from server.problems import internal_error, refusal
from workbench.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("server")

LARGEST_BODY = 1 << 20
BODY_SECONDS = 10.0
"""Silence within a body; who sends no more of it would keep the server from stopping."""
_REQUEST_ID = re.compile(r"[\w-]{8,64}", re.ASCII)
_PROBES = ("/healthz", "/readyz")


class Edge:
    """Gives every request an id, and every answer, whatever becomes of the request, the same id."""

    def __init__(self, app: ASGIApp, allowed_origins: Collection[str], *, any_host: bool = False) -> None:
        self.app = app
        self.allowed_origins = allowed_origins
        self.any_host = any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        begun, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._answered(headers, scope, _limited(receive), send_with_id)
        except Exception as error:
            if status:
                raise  # too late for another answer: the connection is closed and the error logged
            await internal_error(error, request_id)(scope, receive, send_with_id)
        finally:
            log.log(
                logging.DEBUG if scope["path"] in _PROBES else logging.INFO,
                "Request",
                extra={
                    "requestId": request_id,
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status or 499,  # nobody was left to answer
                    "durationMs": round((time.monotonic() - begun) * 1000),
                },
            )

    async def _answered(self, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope["state"]["request_id"]
        if reason := foreign(headers, self.allowed_origins, any_host=self.any_host):
            await refusal(403, reason, request_id)(scope, receive, send)
        elif _announced(headers) > LARGEST_BODY:
            await refusal(413, None, request_id)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _request_id(headers: Headers) -> str:
    sent = headers.get("x-request-id", "")
    return sent if _REQUEST_ID.fullmatch(sent) else new_id()


def _announced(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def _limited(receive: Receive) -> Receive:
    """Return a receive that ends a body that is too large, though nobody announced it, or does not come."""
    total, whole = 0, False

    async def receive_limited() -> Message:
        nonlocal total, whole
        if whole:
            return await receive()  # tells, whenever that is, that the client has left
        try:
            async with asyncio.timeout(BODY_SECONDS):
                message = await receive()
        except TimeoutError:
            reason = f"no more of the body came for {BODY_SECONDS:g} s; send it again, whole"
            raise HTTPException(408, reason, {"connection": "close"}) from None
        total += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if total > LARGEST_BODY:
            raise HTTPException(413)
        return message

    return receive_limited
