"""From errors to statuses and bodies: every failure is said in one shape, on every path."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from msgspec import UNSET
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from server import rates, shapes
from server.idempotency import InFlight, Mismatch
from workbench.errors import (
    BudgetExceeded,
    ConfigurationError,
    Conflict,
    InvalidRequest,
    LabelProtected,
    ModelRetired,
    NotFound,
    PromptError,
    RateLimited,
    StoreError,
    StoreFull,
    TurnRunning,
    UnknownPrompt,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamTimeout,
    WorkbenchError,
)
from workbench.turns import NOT_TEXT
from workbench.wording import instant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI
    from starlette.requests import Request

log = logging.getLogger("server")

FAILED = {"/chat": "Chat failed", "/chat/stream": "Stream failed"}
"""The predecessor's titles for what fails upstream, by path."""

METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")

# status: title, type, what to say when nothing better is known
_STATUSES = {
    400: ("Bad Request", "invalid_request", 'the body cannot be read as JSON; send an object like {"message": "Hi"}'),
    401: ("Unauthorized", "unauthenticated", "send a key in the Authorization header"),
    403: ("Forbidden", "forbidden", "this is not allowed"),
    404: ("Not Found", "not_found", "there is nothing at this path; /docs lists the paths there are"),
    405: ("Method Not Allowed", "method_not_allowed", "use one of the methods in the allow header"),
    406: ("Not Acceptable", "not_acceptable", "the accept header takes none of the formats there are"),
    408: ("Request Timeout", "request_timeout", "the request did not come in time; send it again"),
    413: ("Payload Too Large", "payload_too_large", "the body is larger than 1 MiB; shorten it"),
    415: ("Unsupported Media Type", "unsupported_media_type", "send JSON with `content-type: application/json`"),
    422: ("Validation Error", "validation_error", "a field does not fit"),
    500: ("Internal Server Error", "internal_error", "something went wrong here; the server's log says what"),
    503: ("Service Unavailable", "unavailable", "the server cannot answer now; ask again later"),
}


class Stopping(WorkbenchError):
    """The server is about to end and has waited as long as it may."""

    type = "server_draining"
    retryable = True


def _described(error: WorkbenchError, failed: str) -> tuple[int, str, str]:
    """Return the status, the title and the message; of an upstream's own words, none."""
    match error:
        case UnknownPrompt():
            return 404, "Not Found", str(error)
        case LabelProtected():
            return 403, "Forbidden", str(error)
        case Conflict():
            return 409, "Conflict", str(error)
        case ModelRetired() | InvalidRequest() | PromptError():
            return 400, "Bad Request", str(error)
        case ConfigurationError():
            return 503, "Configuration Error", str(error)
        case NotFound(kind="chat", id=id):
            return 404, "Not Found", f"no chat {id!r}; leave chat_id out to begin a new one, GET /chats lists yours"
        case NotFound():
            return 404, "Not Found", str(error)
        case InFlight():
            return 409, "Conflict", str(error)
        case Mismatch():
            return 422, "Conflict", str(error)
        case RateLimited():
            return 429, "Rate Limited", str(error)
        case BudgetExceeded():
            return 402, "Budget Exceeded", str(error)
        case UpstreamTimeout():
            return 504, failed, error.summary
        case UpstreamRateLimited() | UpstreamOverloaded():
            return 503, failed, error.summary
        case UpstreamError():
            return 502, failed, error.summary
        case StoreFull():
            fate = "the reply is kept and saved" if error.reply else "nothing was asked or charged; ask again"
            return 503, failed, f"the server's disk is full: {fate} once there is space"
        case TurnRunning():
            return 409, "Conflict", str(error)
        case StoreError():
            fate = "; the reply is kept and saved as soon as it can be" if error.reply else ""
            return 503, failed, f"the ledger cannot be read or written{fate}; the server's log says why"
        case Stopping():
            return 503, failed, "the server is stopping; ask again in a moment"
        case _:
            return 500, failed, str(error)


def described(error: Exception, failed: str, request_id: str) -> tuple[int, shapes.Problem]:
    """Return the status and the body for an error; what only the log may say is logged."""
    if not isinstance(error, WorkbenchError):
        log.error("Unhandled error", exc_info=error, extra={"requestId": request_id})
        return _plain(500, request_id)
    if isinstance(error, StoreError) and not isinstance(error, TurnRunning):
        log.error("Store error", extra={"requestId": request_id, "error": str(error)})
    status, title, message = _described(error, failed)
    seconds = getattr(error, "retry_after", None)
    resets_at = getattr(error, "resets_at", None)
    return status, shapes.Problem(
        error=title,
        message=message,
        type=error.type,
        retryable=error.retryable,
        retry_after=UNSET if seconds is None else math.ceil(seconds),
        resets_at=UNSET if resets_at is None else instant(resets_at),
        chat_id=UNSET if error.reply is None else error.reply.chat_id,
        request_id=request_id,
    )


def _plain(status: int, request_id: str, message: str | None = None) -> tuple[int, shapes.Problem]:
    title, kind, otherwise = _STATUSES.get(status, _STATUSES[500 if status >= 500 else 400])
    return status, shapes.Problem(
        error=title, message=message or otherwise, type=kind, retryable=status in (408, 503), request_id=request_id
    )


def answer(status: int, problem: shapes.Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that says a problem."""
    headers = dict(headers or {})
    if problem.retry_after is not UNSET:
        headers["retry-after"] = str(problem.retry_after)
    return Response(shapes.encode(problem), status, headers, media_type="application/json")


def internal_error(error: Exception, request_id: str) -> Response:
    """Return the answer to what nobody expected; the traceback goes to the log and nowhere else."""
    return answer(*described(error, "", request_id))


def refusal(status: int, message: str | None, request_id: str) -> Response:
    """Return the answer to a request that is refused before it reaches a route; without a message, the status's own."""
    return answer(*_plain(status, request_id, message))


def install(app: FastAPI) -> None:
    """Let the app say every error in our shape."""
    app.add_exception_handler(WorkbenchError, _on_workbench_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)


async def _on_workbench_error(request: Request, error: Exception) -> Response:
    failed = FAILED.get(request.scope["path"], "Service Unavailable")
    headers = rates.headers(error.limit, 0, error.reset) if isinstance(error, RateLimited) else None
    return answer(*described(error, failed, request.state.request_id), headers)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # the library's own words for 400 ("error parsing the body") and these say less than ours
    message = None if error.status_code in (404, 405, 413) or error.detail.startswith("There was") else error.detail
    headers = {"allow": _allowed(request)} if error.status_code == 405 else error.headers
    return answer(*_plain(error.status_code, request.state.request_id, message), headers)


def _allowed(request: Request) -> str:
    """The methods of a path; the framework knows only those of the first of its routes."""
    routes, scope = request.app.routes, request.scope
    return ", ".join(
        each for each in METHODS if any(route.matches({**scope, "method": each})[0] is Match.FULL for route in routes)
    )


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    status, message = _complaint(request, error.errors())
    return answer(*_plain(status, request.state.request_id, message))


def _complaint(request: Request, errors: Sequence[Any]) -> tuple[int, str | None]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kinds = {each["type"] for each in errors}
    of_body = any(each["loc"][0] == "body" for each in errors)
    if of_body and kind != "application/json" and not kind.endswith("+json"):
        return 415, None  # read as bytes, which fit no model
    if "json_invalid" in kinds:
        return 400, None
    if "string_unicode" in kinds:
        return 400, f"the message {NOT_TEXT}"
    # never the values: they are what somebody wrote to Claude
    return 422, "; ".join(_sentence(each["loc"], each["msg"]) for each in errors)


def _sentence(where: Sequence[str | int], message: str) -> str:
    name = ".".join(str(part) for part in where[1:]) or "the body"
    message = message.removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}"
