"""Anthropic's server-sent events as frames, and the ways of writing a frame as bytes.

A frame is ``event: NAME\\ndata: JSON\\n\\n`` (claude-api.md section 2). The writers below are all legal by the
server-sent events standard; only ``plain`` is what the real API sends.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Json = dict[str, Any]

STREAM_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
LIMIT_HEADERS = {
    "anthropic-organization-id": "org_scripted",
    "anthropic-ratelimit-requests-limit": "4000",
    "anthropic-ratelimit-requests-remaining": "3999",
    "anthropic-ratelimit-requests-reset": "2026-11-23T12:00:00Z",
    "anthropic-ratelimit-tokens-limit": "2400000",
    "anthropic-ratelimit-tokens-remaining": "2399000",
    "anthropic-ratelimit-tokens-reset": "2026-11-23T12:00:00Z",
    "anthropic-ratelimit-input-tokens-limit": "2000000",
    "anthropic-ratelimit-input-tokens-remaining": "1999000",
    "anthropic-ratelimit-input-tokens-reset": "2026-11-23T12:00:00Z",
    "anthropic-ratelimit-output-tokens-limit": "400000",
    "anthropic-ratelimit-output-tokens-remaining": "399000",
    "anthropic-ratelimit-output-tokens-reset": "2026-11-23T12:00:00Z",
}


def compact(value: object) -> str:
    """JSON as the API writes it: no spaces, UTF-8 letters unescaped."""
    return _ENCODE(value)


_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one reply, disjoint as in the ledger; ``input_tokens`` is their inclusive prompt sum."""

    uncached_input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0  # part of output_tokens
    web_searches: int = 0
    service_tier: str = "standard"
    inference_geo: str = "global"

    @property
    def input_tokens(self) -> int:
        return self.uncached_input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def cache_write_tokens(self) -> int:
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    def at_start(self) -> Json:
        """The usage of message_start: all of the input, and a placeholder for the output."""
        started = replace(self, output_tokens=min(1, self.output_tokens), thinking_tokens=0, web_searches=0)
        usage = started.whole()
        del usage["output_tokens_details"]
        return usage

    def at_end(self) -> Json:
        """The cumulative usage of message_delta."""
        usage: Json = {
            "input_tokens": self.uncached_input_tokens,
            "cache_creation_input_tokens": self.cache_write_tokens,
            "cache_read_input_tokens": self.cache_read_tokens,
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"thinking_tokens": self.thinking_tokens},
        }
        if self.web_searches:
            usage["server_tool_use"] = {"web_search_requests": self.web_searches, "web_fetch_requests": 0}
        return usage

    def whole(self) -> Json:
        """The usage of a reply that was not streamed."""
        return self.at_end() | {
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write_5m_tokens,
                "ephemeral_1h_input_tokens": self.cache_write_1h_tokens,
            },
            "service_tier": self.service_tier,
            "inference_geo": self.inference_geo,
        }


@dataclass(frozen=True, slots=True)
class Frame:
    """One event. ``token`` marks the deltas that pauses, breaks and token counters count."""

    name: str
    data: str
    token: bool = False

    @property
    def payload(self) -> Json:
        payload: Json = json.loads(self.data)
        return payload


def frame(name: str, payload: Json, *, token: bool = False) -> Frame:
    return Frame(name, compact(payload), token)


PING = frame("ping", {"type": "ping"})
MESSAGE_STOP = frame("message_stop", {"type": "message_stop"})


def block_start(index: int, block: Json) -> Frame:
    return frame("content_block_start", {"type": "content_block_start", "index": index, "content_block": block})


def block_delta(index: int, delta: Json) -> Frame:
    token = delta["type"] in ("text_delta", "thinking_delta", "input_json_delta")
    return frame("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}, token=token)


def block_stop(index: int) -> Frame:
    return frame("content_block_stop", {"type": "content_block_stop", "index": index})


def message_delta(delta: Json, usage: Json) -> Frame:
    return frame("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})


def error_frame(error_type: str, message: str, request_id: str = "req_in_stream") -> Frame:
    error = {"details": None, "type": error_type, "message": message}
    return frame("error", {"type": "error", "error": error, "request_id": request_id})


Writer = Callable[[Frame], bytes]


def plain(f: Frame) -> bytes:
    return f"event: {f.name}\ndata: {f.data}\n\n".encode()


def crlf(f: Frame) -> bytes:
    return f"event: {f.name}\r\ndata: {f.data}\r\n\r\n".encode()


def carriage_return(f: Frame) -> bytes:
    return f"event: {f.name}\rdata: {f.data}\r\r".encode()


def data_only(f: Frame) -> bytes:
    return f"data: {f.data}\n\n".encode()


def multi_line(f: Frame) -> bytes:
    """The JSON spread over several data lines, which the reader joins with newlines."""
    lines = json.dumps(f.payload, ensure_ascii=False, indent=1).split("\n")
    return (f"event: {f.name}\n" + "".join(f"data: {line}\n" for line in lines) + "\n").encode()


def padded(f: Frame) -> bytes:
    return f"event: {f.name}\ndata: {f.data}{' ' * (1 + len(f.data) % 17)}\n\n".encode()


def commented(f: Frame) -> bytes:
    return f": keep-alive\n\nevent: {f.name}\n: between\ndata: {f.data}\n\n".encode()


def tight(f: Frame) -> bytes:
    """No space after the colons, data before event, and the fields a chat has no use for."""
    return f"id:7\nretry:1000\ndata:{f.data}\nevent:{f.name}\n\n".encode()


def escaped(f: Frame) -> bytes:
    """Every letter beyond ASCII as \\uXXXX, emoji as surrogate pairs."""
    return f"event: {f.name}\ndata: {json.dumps(f.payload)}\n\n".encode()
