"""Faults before the stream starts: statuses, unreadable answers, broken connections (claude-api.md section 3)."""

from __future__ import annotations

from email.utils import formatdate
from time import time
from typing import TYPE_CHECKING

from .frames import STREAM_HEADERS, Json, compact, error_frame, plain
from .replies import Answer, Reply, Wire, reply
from .table import Fault, Options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REQUEST_ID = "{request_id}"  # filled in when the answer is sent
JSON_HEADERS = {"content-type": "application/json"}
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


def error_answer(
    status: int,
    error_type: str,
    message: str,
    details: Json | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """An error as the API words it."""
    error: Json = {"type": error_type, "message": message} | ({"details": details} if details else {})
    body = compact({"type": "error", "error": error, "request_id": REQUEST_ID}).encode()
    return Answer(status, body, JSON_HEADERS | dict(headers or {}))


def _refused(
    name: str,
    what: str,
    status: int,
    error_type: str,
    message: str,
    details: Json | None = None,
    headers: Callable[[Options], dict[str, str]] = lambda _: {},
) -> Fault:
    def make(options: Options) -> Reply:
        return Reply(answer=error_answer(status, error_type, message, details, headers(options)))

    return Fault(name, "before", what, make, status, error_type)


def _answered(name: str, what: str, answer: Answer, error_type: str | None = None, sdk: str = "") -> Fault:
    status = None if answer.status == 200 else answer.status
    return Fault(name, "before", what, lambda _: Reply(answer=answer), status, error_type, sdk)


def _llama(name: str, what: str, status: int, error_type: str, message: str, **more: int) -> Fault:
    error = {"code": status, "message": message, "type": error_type, **more}
    return _answered(name, what, Answer(status, compact({"error": error}).encode(), JSON_HEADERS, False), error_type)


def _after(seconds: float) -> str:
    return f"{seconds:g}"


LIMIT = "This request would exceed your organization's rate limit of 2,000,000 input tokens per minute."
SPEND = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
CONTEXT = "the request exceeds the available context size, try increasing it"

STATUSES = [
    _refused("400", "invalid request", 400, "invalid_request_error", "messages: Input is not valid"),
    _refused("400_spend_limit", "the key's own spend limit is reached", 400, "invalid_request_error", SPEND),
    _refused(
        "400_should_retry",
        "a 400 whose x-should-retry: true overrules the table",
        400,
        "invalid_request_error",
        "try again",
        headers=lambda _: {"x-should-retry": "true"},
    ),
    _refused("401", "wrong key", 401, "authentication_error", "invalid x-api-key"),
    _refused("402", "billing", 402, "billing_error", "Your credit balance is too low to access the Anthropic API."),
    _refused("403", "forbidden", 403, "permission_error", "Your API key does not have permission to use this model."),
    _refused("404", "no such model", 404, "not_found_error", "model: claude-nonesuch"),
    _refused("408", "request timeout", 408, "timeout_error", "Request timed out"),
    _refused("409", "conflict", 409, "conflict_error", "The resource is being changed by another request"),
    _refused("413", "too large", 413, "request_too_large", "Request exceeds the maximum size"),
    _refused("422", "unprocessable", 422, "invalid_request_error", "The request could not be processed"),
    _refused("429", "rate limit without retry-after", 429, "rate_limit_error", LIMIT),
    _refused(
        "429_retry_after",
        "rate limit with retry-after in seconds",
        429,
        "rate_limit_error",
        LIMIT,
        headers=lambda o: {"retry-after": _after(o.retry_after)},
    ),
    _refused(
        "429_retry_after_ms",
        "rate limit with retry-after-ms, which wins over a retry-after of an hour",
        429,
        "rate_limit_error",
        LIMIT,
        headers=lambda o: {"retry-after-ms": _after(o.retry_after * 1000), "retry-after": "3600"},
    ),
    _refused(
        "429_retry_after_date",
        "rate limit with retry-after as an HTTP date",
        429,
        "rate_limit_error",
        LIMIT,
        headers=lambda o: {"retry-after": formatdate(time() + o.retry_after, usegmt=True)},
    ),
    _refused(
        "429_retry_after_hour",
        "rate limit with a retry-after of an hour, which nobody should sit out",
        429,
        "rate_limit_error",
        LIMIT,
        headers=lambda _: {"retry-after": "3600"},
    ),
    _refused(
        "429_bad_retry_after",
        "rate limit with a retry-after that is no number and no date",
        429,
        "rate_limit_error",
        LIMIT,
        headers=lambda _: {"retry-after": "soon"},
    ),
    _refused(
        "429_spend_limit",
        "enforced spend cap: a 429 that retrying cannot cure",
        429,
        "rate_limit_error",
        SPEND,
        details={"error_code": "enforced_spend_limit_reached"},
    ),
    _refused("500", "internal error", 500, "api_error", "Internal server error"),
    _refused("502", "bad gateway, as JSON", 502, "api_error", "Bad gateway"),
    _refused("503", "unavailable", 503, "api_error", "Service unavailable"),
    _refused("504", "gateway timeout", 504, "timeout_error", "Gateway timeout"),
    _refused("529", "overloaded", 529, "overloaded_error", "Overloaded"),
    _refused(
        "529_no_retry",
        "overloaded, with x-should-retry: false",
        529,
        "overloaded_error",
        "Overloaded",
        headers=lambda _: {"x-should-retry": "false"},
    ),
]

LLAMA = [
    _llama("llama_400", "llama.cpp's error body: no outer type, no request id", 400, "invalid_request_error", "bad"),
    _llama(
        "llama_context",
        "llama.cpp: prompt longer than its context",
        400,
        "exceed_context_size_error",
        CONTEXT,
        n_prompt_tokens=5042,
        n_ctx=4096,
    ),
    _llama("llama_500", "llama.cpp: a 500 for a request that can never work", 500, "server_error", "missing messages"),
]

UNREADABLE = [
    _answered("502_html", "a proxy's HTML page", Answer(502, HTML, {"content-type": "text/html"}, False)),
    _answered("bad_json_error", "a 500 whose body is broken JSON", Answer(500, b'{"type":"error","err', JSON_HEADERS)),
    _answered("empty_error", "a 503 without a body", Answer(503, b"", {}, False)),
    _answered("odd_json_error", "a 500 whose JSON is a list", Answer(500, b'["overloaded"]', JSON_HEADERS)),
    _answered("empty_200", "200 without body or type", Answer(200, b""), sdk="no error, no events"),
    _answered("empty_stream", "an event stream without an event", Answer(200, b"", STREAM_HEADERS), sdk="no error"),
    _answered("html_200", "200 with an HTML page", Answer(200, HTML, {"content-type": "text/html"}), sdk="no error"),
    Fault(
        "json_200",
        "before",
        "200 with a JSON message although a stream was asked for",
        lambda o: reply(o.text, wire=Wire(transport="json")),
        sdk="no error, no events",
    ),
    Fault(
        "error_first",
        "before",
        "an overloaded error as the very first event of a 200 stream",
        lambda o: Reply(
            answer=Answer(200, plain(error_frame("overloaded_error", "Overloaded", o.request_id)), STREAM_HEADERS)
        ),
        error_type="overloaded_error",
        sdk="bare APIStatusError with status_code 200, not retried",
    ),
]

CONNECTIONS = [
    Fault("hang", "before", "no answer at all", lambda o: Reply(opening="hang", headers_after=o.seconds or 0)),
    Fault("reset_before", "before", "connection reset before the status line", lambda _: Reply(opening="reset")),
    Fault("close_before", "before", "connection closed before the status line", lambda _: Reply(opening="cut")),
    Fault("half_headers", "before", "closed within the headers", lambda _: Reply(opening="half_headers")),
    Fault("garbage_before", "before", "bytes that are not HTTP", lambda _: Reply(opening="garbage")),
]

BEFORE = [*STATUSES, *LLAMA, *UNREADABLE, *CONNECTIONS]
