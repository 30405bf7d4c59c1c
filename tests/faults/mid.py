"""Faults in a started stream: it breaks off, stalls, reports an error or stops making sense (section 2 to 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .frames import block_delta, compact, error_frame, frame, plain
from .replies import Break, Ending, Reply, reply
from .table import Fault, Options

if TYPE_CHECKING:
    from collections.abc import Callable

HALF_FRAME = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"te'
FLOOD = HALF_FRAME + b'xt_delta","text":"'
BAD_JSON = HALF_FRAME + b"\n\n"
HALF_LETTER = FLOOD + "🦆".encode()[:2]
BAD_UTF8 = FLOOD + b'\xff\xfe\x80"}}\n\n'
LOST_BLOCK = plain(block_delta(7, {"type": "text_delta", "text": " astray"}))
NO_DELTA = plain(frame("content_block_delta", {"type": "content_block_delta", "index": 0}))
NOT_AN_OBJECT = b"event: content_block_delta\ndata: [1,2,3]\n\n"
LLAMA_ERROR = b"event: error\ndata: " + compact(
    {"error": {"code": 500, "message": "context shift is disabled", "type": "server_error"}}
).encode() + b"\n\n"  # fmt: skip


def _broken(
    name: str,
    what: str,
    ending: Ending,
    extra: bytes | Callable[[Options], bytes] = b"",
    *,
    at_end: bool = False,
    error_type: str | None = None,
    sdk: str = "",
) -> Fault:
    def make(options: Options) -> Reply:
        data = extra if isinstance(extra, bytes) else extra(options)
        after = None if at_end else options.after
        return reply(options.text, breaks=Break(after, data, ending, options.size, options.seconds))

    return Fault(name, "mid", what, make, error_type=error_type, sdk=sdk)


def _error(name: str, what: str, error_type: str, message: str, *, at_end: bool = False) -> Fault:
    def extra(options: Options) -> bytes:
        return plain(error_frame(error_type, message, options.request_id))

    return _broken(name, what, "finish", extra, at_end=at_end, error_type=error_type, sdk="bare APIStatusError, 200")


HANGS = "with aiohttp 3.14 the reader hangs for ever, read timeout or not; with httpx2 RemoteProtocolError"
SILENT = "no error; stop_reason None"
MID = [
    _broken("cut", "connection closed without the final chunk", "cut"),
    _broken("cut_clean", "the body ends properly, but early", "finish", sdk=SILENT),
    _broken("cut_in_frame", "the body ends properly within a frame", "finish", HALF_FRAME, sdk=SILENT),
    _broken("cut_in_letter", "connection closed within a letter of UTF-8", "cut", HALF_LETTER),
    _broken("no_stop", "everything but message_stop, then a proper end", "finish", at_end=True, sdk="no error"),
    _broken("cut_at_end", "everything but message_stop, then a cut", "cut", at_end=True),
    _broken("reset", "connection reset", "reset"),
    _broken("stall", "silence; the connection stays open", "stall"),
    _broken("stall_in_frame", "silence within a frame", "stall", HALF_FRAME),
    _error("overloaded", "error event: overloaded", "overloaded_error", "Overloaded"),
    _error("api_error", "error event: internal error", "api_error", "Internal server error"),
    _error("rate_limit", "error event: rate limit", "rate_limit_error", "Rate limited"),
    _error("timeout", "error event: timeout", "timeout_error", "Timed out"),
    _error("unknown_error", "error event of a type nobody knows", "quantum_error", "Superposed"),
    _error("error_at_end", "error event in place of message_stop", "api_error", "Internal server error", at_end=True),
    _broken(
        "llama_error",
        "llama.cpp's error event: no outer type",
        "finish",
        LLAMA_ERROR,
        error_type="server_error",
        sdk="bare APIStatusError, 200",
    ),
    _broken("bare_error", "an error event whose data is no JSON", "finish", b"event: error\ndata: overloaded\n\n"),
    _broken("bad_json", "a frame of broken JSON", "go_on", BAD_JSON, sdk="JSONDecodeError"),
    _broken("bad_utf8", "a frame that is not UTF-8", "go_on", BAD_UTF8, sdk="UnicodeDecodeError"),
    _broken("not_an_object", "a frame whose JSON is a list", "go_on", NOT_AN_OBJECT, sdk="AttributeError"),
    _broken("no_delta", "a content_block_delta without its delta", "go_on", NO_DELTA, sdk="delta is None"),
    _broken("wrong_index", "a delta for a block that never started", "go_on", LOST_BLOCK, sdk="helper: IndexError"),
    _broken("garbage", "bytes that are no server-sent event", "finish", bytes(range(1, 256)) * 4 + b"\n\n"),
    _broken("bad_chunk", "a chunk length that is no number", "bad_chunk", sdk=HANGS),
    _broken("endless_frame", "a frame without end (size=bytes), then a cut", "flood", FLOOD),
]
