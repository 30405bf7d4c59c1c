"""Odd but legal replies: the client must report them whole (section 2, 5, 11)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import frames
from .frames import MESSAGE_STOP, PING, Frame, Json, Usage, frame
from .replies import Block, Reply, Wire, reply, text, thinking, tool_use, whole_block
from .table import Fault, Options

if TYPE_CHECKING:
    from collections.abc import Callable

UNICODE = "Grüße 🦆 日本語 नमस्ते é"
SEPARATORS = "one\u2028two\u2029three\u0085four\x1cfive\x0bsix"
CITATION: Json = {
    "type": "char_location",
    "cited_text": "Hell",
    "document_index": 0,
    "document_title": "t",
    "start_char_index": 0,
    "end_char_index": 4,
}
SEARCH_RESULT: Json = {
    "type": "web_search_result",
    "url": "https://example.com/",
    "title": "Example",
    "encrypted_content": "AbC=",
    "page_age": None,
}


def _odd(name: str, what: str, make: Callable[[Options], Reply], sdk: str = "") -> Fault:
    return Fault(name, "odd", what, make, sdk=sdk)


def _wire(name: str, what: str, *, sdk: str = "", **wire: Any) -> Fault:
    return _odd(name, what, lambda o: reply(o.text, wire=Wire(**wire)), sdk)


def _said(name: str, what: str, *blocks: Block, sdk: str = "", **more: Any) -> Fault:
    """A reply of these blocks, the text coming last."""
    return _odd(name, what, lambda o: Reply((*blocks, text(o.text)), **more), sdk)


def _exactly(name: str, what: str, *blocks: Block, **more: Any) -> Fault:
    return _odd(name, what, lambda o: Reply(blocks, **more))


def _stopped(name: str, what: str, *, sdk: str = "", **more: Any) -> Fault:
    return _odd(name, what, lambda o: reply(o.text, **more), sdk)


def _changed(f: Frame, change: Callable[[Json], None]) -> Frame:
    payload = f.payload
    change(payload)
    return frame(f.name, payload, token=f.token)


def pinged(stream: list[Frame]) -> list[Frame]:
    return [PING, PING, *(item for f in stream for item in (f, PING, PING))]


def with_unknown_events(stream: list[Frame]) -> list[Frame]:
    unknown = frame("model_mood", {"type": "model_mood", "mood": "sunny", "index": 0})
    return [unknown, *(item for f in stream for item in (f, unknown))]


def with_unknown_delta(stream: list[Frame]) -> list[Frame]:
    unknown = frames.block_delta(0, {"type": "mood_delta", "mood": "sunny"})
    return [item for f in stream for item in ((f, unknown) if f.token else (f,))]


def with_unknown_fields(stream: list[Frame]) -> list[Frame]:
    def change(payload: Json) -> None:
        payload["new_field"] = {"nested": [1, None]}
        for part in ("message", "delta", "usage", "content_block"):
            if part in payload:
                payload[part]["new_field"] = "new"

    return [_changed(f, change) for f in stream]


def _deltas_changed(*changes: Callable[[Json], None]) -> Callable[[list[Frame]], list[Frame]]:
    """Replace message_delta by one copy per change."""

    def edit(stream: list[Frame]) -> list[Frame]:
        kept = [f for f in stream if f.name not in ("message_delta", "message_stop")]
        last = next(f for f in stream if f.name == "message_delta")
        return [*kept, *(_changed(last, change) for change in changes), MESSAGE_STOP]

    return edit


def _keep(_: Json) -> None:
    pass


def _without_usage(payload: Json) -> None:
    del payload["usage"]


def _output_only(payload: Json) -> None:
    payload["usage"] = {"output_tokens": payload["usage"]["output_tokens"]}


def _null_usage(payload: Json) -> None:
    payload["usage"] = dict.fromkeys(payload["usage"]) | {"output_tokens": payload["usage"]["output_tokens"]}


def _half_way(payload: Json) -> None:
    payload["usage"]["output_tokens"] //= 2
    payload["delta"]["stop_reason"] = None


def starting_lower(stream: list[Frame]) -> list[Frame]:
    """A message_start with fewer input tokens than message_delta, as when a server tool adds to the prompt."""

    def lower(payload: Json) -> None:
        payload["message"]["usage"]["input_tokens"] = 25

    return [_changed(stream[0], lower), *stream[1:]]


def _searched(o: Options) -> Reply:
    query = tool_use("web_search", {"query": "ducks"}, "srvtoolu_01", "server_tool_use")
    result = whole_block({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_01", "content": [SEARCH_RESULT]})
    usage = Usage(uncached_input_tokens=1025, output_tokens=40, web_searches=2)
    return Reply((query, result, text(o.text)), usage, wire=Wire(edit=starting_lower))


def _raised(o: Options) -> Reply:
    usage = Usage(uncached_input_tokens=125, output_tokens=4)
    return reply(o.text, usage=usage, wire=Wire(edit=starting_lower))


def _refusal(category: str | None) -> Json:
    return {"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": category, "explanation": None}}


CACHED = Usage(12, 5000, 300, 200, output_tokens=4)
COUNTED = Usage(uncached_input_tokens=25, output_tokens=4)
FLAWED = "strict validation refuses it; without, the stream() helper fails with AttributeError"
STRICT = "strict validation refuses it; without, it passes through"
REUSED = "the next request on the pooled connection may fail with APIConnectionError, which default retries hide"
BOMBED = "loses message_start, so that the stream() helper fails with AssertionError"

ODD = [
    _wire("crlf", "lines end in CR LF", write=frames.crlf),
    _wire("cr", "lines end in a bare CR", write=frames.carriage_return),
    _wire("bom", "the stream starts with a byte order mark", prefix=b"\xef\xbb\xbf", sdk=BOMBED),
    _wire("split", "every byte in its own chunk and write", transport="bytes"),
    _wire("halves", "every frame in two writes", transport="halves"),
    _wire("together", "the whole stream in one chunk", transport="together"),
    _wire("eof", "no chunks, no length: the end of the connection is the end", transport="eof"),
    _wire("gzip", "compressed, flushed at each frame", transport="gzip"),
    _wire("close", "connection: close after the reply", close="announced"),
    _wire(
        "close_silent", "the kept-alive connection is closed after the reply, unannounced", close="silent", sdk=REUSED
    ),
    _wire("data_only", "frames without their event line", write=frames.data_only, sdk="ignores every frame"),
    _wire("multi_line", "JSON spread over several data lines", write=frames.multi_line),
    _wire("padding", "trailing spaces after the JSON", write=frames.padded),
    _wire("comments", "comment lines between and within frames", write=frames.commented),
    _wire("tight", "no space after colons, data first, id and retry lines", write=frames.tight),
    _odd("unicode", "letters of 2 to 4 bytes, cut within", lambda _: reply(UNICODE, wire=Wire(transport="bytes"))),
    _odd("escaped", "letters as \\uXXXX, surrogate pairs", lambda _: reply(UNICODE, wire=Wire(write=frames.escaped))),
    _odd("separators", "U+2028, U+2029, U+0085 in the text: no line ends here", lambda _: reply([SEPARATORS, "!"])),
    _odd("big", "a megabyte of text in one delta", lambda _: reply(["duck" * 262_144])),
    _wire("pings", "pings everywhere, even before message_start", edit=pinged),
    _wire("unknown_event", "events nobody knows", edit=with_unknown_events, sdk=STRICT),
    _wire("unknown_delta", "deltas of an unknown type", edit=with_unknown_delta, sdk=STRICT),
    _wire("unknown_field", "fields nobody knows, in every object", edit=with_unknown_fields),
    _said("unknown_block", "a block of an unknown type", whole_block({"type": "mood", "mood": "sunny"}), sdk=STRICT),
    _stopped("unknown_stop_reason", "a stop_reason nobody knows", stop_reason="bored", sdk=STRICT),
    _odd(
        "no_usage",
        "message_delta without usage",
        lambda o: reply(o.text, wire=Wire(edit=_deltas_changed(_without_usage)), usage_reported=False),
        FLAWED,
    ),
    _wire("output_usage", "message_delta reports output_tokens only", edit=_deltas_changed(_output_only)),
    _wire("null_usage", "message_delta reports nulls for all but the output", edit=_deltas_changed(_null_usage)),
    _wire("dup_delta", "message_delta twice: cumulative, not to be added", edit=_deltas_changed(_keep, _keep)),
    _wire("rising_usage", "two message_delta with rising output", edit=_deltas_changed(_half_way, _keep)),
    _odd("raised_input", "message_delta raises input_tokens from 25 to 125", _raised),
    _said("thinking", "thinking that is shown", thinking("Let me see about this")),
    _said("thinking_omitted", "thinking whose text is omitted", thinking(), thinking_tokens=9),
    _said(
        "redacted_thinking", "thinking that is encrypted", whole_block({"type": "redacted_thinking", "data": "Em0="})
    ),
    _exactly("tool_only", "a tool call without text", tool_use("weather", {"place": "Oslo"}), stop_reason="tool_use"),
    _odd(
        "tool_use",
        "text, then a tool call",
        lambda o: reply(o.text, tool_use("weather", {"place": "Oslo"}), stop_reason="tool_use"),
    ),
    _odd("citations", "text with a citation", lambda o: Reply((text(o.text, [CITATION]),))),
    _odd("server_tool", "a web search: server tool blocks, raised input, 2 searches counted", _searched),
    _odd("two_texts", "two text blocks", lambda o: Reply((text(o.text), text("Second block")))),
    _exactly("empty_text", "a text block without text", text("")),
    _exactly("empty_content", "no content at all", usage=Usage(uncached_input_tokens=25, output_tokens=2)),
    _exactly("refusal", "a refusal without content", **_refusal("cyber")),
    _stopped("refusal_partial", "a refusal after some text", **_refusal(None)),
    _stopped("max_tokens", "cut off by max_tokens", stop_reason="max_tokens"),
    _exactly(
        "max_tokens_thinking",
        "max_tokens spent on thinking: no text at all",
        thinking(),
        stop_reason="max_tokens",
        thinking_tokens=64,
    ),
    _stopped("stop_sequence", "ended by a stop sequence", stop_reason="stop_sequence", stop_sequence="END"),
    _odd("pause_turn", "a server tool paused the turn", lambda o: replace(_searched(o), stop_reason="pause_turn")),
    _stopped("context_window", "the context window is full", stop_reason="model_context_window_exceeded"),
    _stopped("cache_usage", "cache read, 5 minute and 1 hour writes", usage=CACHED),
    _odd(
        "llama",
        "llama.cpp's stream: no request-id, chatcmpl id, partial usage, stop_sequence with end_turn",
        lambda o: reply(o.text, usage=COUNTED, stop_sequence="END", wire=Wire(dialect="llama")),
    ),
    _odd("slow", "a long wait for the first delta and between deltas", lambda o: reply(o.text, ttft=0.2, delay=0.05)),
]
