"""What the scripted upstream answers: a reply, its pace, and how it breaks.

``reply("Hello world")`` is an ordinary one. Each word is one delta and one token, so ``"Hello world"`` arrives as
``"Hello"``, ``" world"``; a list of strings gives the deltas themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from .frames import (
    MESSAGE_STOP,
    PING,
    Frame,
    Json,
    Usage,
    Writer,
    block_delta,
    block_start,
    block_stop,
    compact,
    frame,
    message_delta,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .table import Fault

ALPHABET = """alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec
romeo sierra tango uniform victor whiskey xray yankee zulu"""
WORDS = tuple(ALPHABET.split())
SIGNATURE = "EqQBCgIYAhIkc2NyaXB0ZWQ="


def words(count: int) -> str:
    """A text of ``count`` words, always the same: ``alpha bravo charlie ...``."""
    return " ".join(WORDS[n % len(WORDS)] for n in range(count))


@dataclass(frozen=True)
class Block:
    """One content block: as it starts, the deltas that fill it, and as a whole."""

    start: Json
    deltas: tuple[Json, ...] = ()
    whole: Json = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.whole["text"] if self.whole.get("type") == "text" else ""

    def frames(self, index: int) -> list[Frame]:
        return [block_start(index, self.start), *(block_delta(index, d) for d in self.deltas), block_stop(index)]


def text(content: str | Sequence[str], citations: Sequence[Json] = ()) -> Block:
    """A text block; one delta a word, or the strings given."""
    pieces = re.findall(r"\s*\S+|\s+$", content) if isinstance(content, str) else list(content)
    deltas: list[Json] = [{"type": "text_delta", "text": piece} for piece in pieces]
    deltas += [{"type": "citations_delta", "citation": citation} for citation in citations]
    start: Json = {"type": "text", "text": ""} | ({"citations": []} if citations else {})
    whole: Json = {"type": "text", "text": "".join(pieces)} | ({"citations": list(citations)} if citations else {})
    return Block(start, tuple(deltas), whole)


def thinking(content: str = "", signature: str = SIGNATURE) -> Block:
    """A thinking block; without content its text is omitted, as the API does by default."""
    pieces = re.findall(r"\s*\S+|\s+$", content)
    deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    deltas.append({"type": "signature_delta", "signature": signature})
    whole = {"type": "thinking", "thinking": content, "signature": signature}
    return Block({"type": "thinking", "thinking": "", "signature": ""}, tuple(deltas), whole)


def tool_use(name: str, arguments: Json, use_id: str = "toolu_01", kind: str = "tool_use") -> Block:
    """A call of a tool (or, with ``kind="server_tool_use"``, of a server tool), its JSON in three pieces."""
    encoded = compact(arguments)
    pieces = ["", encoded[: len(encoded) // 2], encoded[len(encoded) // 2 :]]
    deltas: tuple[Json, ...] = tuple({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
    start: Json = {"type": kind, "id": use_id, "name": name, "input": {}}
    return Block(start, deltas, start | {"input": arguments})


def whole_block(block: Json) -> Block:
    """A block that arrives complete in its content_block_start: redacted_thinking, results of server tools."""
    return Block(block, (), block)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response sent instead of the reply."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: bool = True  # real API; llama.cpp and proxies have no such header


Transport = Literal["chunked", "bytes", "halves", "together", "gzip", "eof", "json"]
Ending = Literal["go_on", "finish", "cut", "reset", "stall", "flood", "bad_chunk"]


@dataclass(frozen=True, slots=True)
class Break:
    """Where and how a started stream breaks: after so many deltas, with these bytes, in this way."""

    after: int | None = 2  # None: after message_delta, so that only message_stop is missing
    extra: bytes = b""
    ending: Ending = "cut"
    size: int = 8_000_000  # bytes of a flood
    seconds: float | None = None  # of a stall; None: until the client leaves


@dataclass(frozen=True, slots=True)
class Wire:
    """How frames become bytes, and bytes become writes. The defaults are the real API's."""

    write: Writer = plain
    edit: Callable[[list[Frame]], list[Frame]] | None = None
    transport: Transport = "chunked"
    prefix: bytes = b""
    close: Literal["", "announced", "silent"] = ""
    dialect: Literal["anthropic", "llama"] = "anthropic"


@dataclass(frozen=True)
class Reply:
    """One scripted reply and what is true of it: ``text``, ``usage``, ``stop_reason``, ``complete``."""

    blocks: tuple[Block, ...] = ()
    usage: Usage | None = None  # None: counted from the request and the deltas, with simulated caching
    stop_reason: str | None = "end_turn"
    stop_sequence: str | None = None
    stop_details: Json | None = None
    model: str | None = None  # None: the model asked for
    thinking_tokens: int = 0  # of omitted thinking, when usage is None

    ttft: float = 0.0  # seconds from message_start to the first delta
    delay: float = 0.0  # seconds between deltas
    headers_after: float = 0.0  # seconds before the status line
    pause_after: tuple[int, ...] = ()  # block after so many deltas until upstream.release()
    pause_before: bool = False  # block before the status line until upstream.release()

    fault: Fault | None = None
    wire: Wire = Wire()
    answer: Answer | None = None
    opening: Literal["", "hang", "cut", "reset", "half_headers", "garbage"] = ""  # instead of an HTTP response
    breaks: Break | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    usage_reported: bool = True  # False: message_delta carries no usage, so nobody can know it

    @cached_property
    def text(self) -> str:
        """The visible text of the whole reply."""
        return "".join(block.text for block in self.blocks)

    @property
    def sent_text(self) -> str:
        """The visible text that is sent: all of it, or what comes before the break."""
        if self.breaks is None:
            return self.text if self.complete else ""
        if self.breaks.after is None:
            return self.text
        deltas = [f.payload["delta"] for f in self.middle if f.token]
        return "".join(delta.get("text", "") for delta in deltas[: self.breaks.after])

    @property
    def complete(self) -> bool:
        """Whether a client must report this reply as complete."""
        return self.fault is None or self.fault.phase == "odd"

    @cached_property
    def tokens(self) -> int:
        return sum(f.token for f in self.middle)

    @cached_property
    def _thinking_shown(self) -> int:
        return sum("thinking_delta" in f.data for f in self.middle if f.token)

    @cached_property
    def middle(self) -> list[Frame]:
        """The frames between message_start and message_delta."""
        frames = [f for index, block in enumerate(self.blocks) for f in block.frames(index)]
        return [*frames[:1], PING, *frames[1:]] if self.wire.dialect == "anthropic" else frames

    @cached_property
    def written_middle(self) -> list[tuple[bytes, bool]]:
        return [(self.wire.write(f), f.token) for f in self.middle]

    def counted(self, prompt: Usage) -> Usage:
        """The usage of this reply when the script does not say: the prompt's input, one token a delta."""
        spent = self.thinking_tokens or self._thinking_shown
        return replace(prompt, output_tokens=self.tokens - self._thinking_shown + spent, thinking_tokens=spent)

    def pieces(self, message_id: str, model: str, usage: Usage) -> list[tuple[bytes, bool]]:
        """The stream as (bytes of one frame, whether it is a delta), before it breaks."""
        first, last = self._first(message_id, model, usage), self._last(usage)
        write = self.wire.write
        if self.wire.edit:
            return [(write(f), f.token) for f in self.wire.edit([first, *self.middle, *last])]
        return [(write(first), False), *self.written_middle, *((write(f), False) for f in last)]

    def message(self, message_id: str, model: str, usage: Usage) -> Json:
        """The reply as one JSON message, for a request that did not ask for a stream."""
        content = [block.whole for block in self.blocks]
        return self._envelope(message_id, model, content, usage.whole()) | self._stop()

    def _envelope(self, message_id: str, model: str, content: list[Json], usage: Json) -> Json:
        if self.wire.dialect == "llama":
            message_id, model = message_id.replace("msg_", "chatcmpl-"), "/models/SmolLM2-135M.gguf"
            usage = {k: usage[k] for k in ("input_tokens", "output_tokens", "cache_read_input_tokens")}
        kind = {"id": message_id, "type": "message", "role": "assistant", "model": self.model or model}
        return kind | {"content": content} | dict.fromkeys(self._stop()) | {"usage": usage}

    def _stop(self) -> Json:
        stop = {"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence}
        return stop if self.wire.dialect == "llama" else stop | {"stop_details": self.stop_details}

    def _first(self, message_id: str, model: str, usage: Usage) -> Frame:
        start = usage.at_start()
        if self.wire.dialect == "llama":
            start["output_tokens"] = 0
        message = self._envelope(message_id, model, [], start)
        return frame("message_start", {"type": "message_start", "message": message})

    def _last(self, usage: Usage) -> list[Frame]:
        end = usage.at_end()
        if self.wire.dialect == "llama":
            end = {"output_tokens": usage.output_tokens}
        return [message_delta(self._stop(), end), MESSAGE_STOP]


def reply(
    content: str | Sequence[str] = "Hello world",
    *blocks: Block,
    usage: Usage | None = None,
    stop_reason: str | None = "end_turn",
    ttft: float = 0.0,
    delay: float = 0.0,
    headers_after: float = 0.0,
    pause_after: int | Sequence[int] = (),
    pause_before: bool = False,
    **more: Any,
) -> Reply:
    """Return an ordinary reply: this text, then any further blocks.

    With an empty ``content`` only ``blocks`` are sent. ``more`` are further fields of `Reply`.
    """
    first = (text(content),) if content else ()
    return Reply(
        (*first, *blocks),
        usage,
        stop_reason,
        ttft=ttft,
        delay=delay,
        headers_after=headers_after,
        pause_after=(pause_after,) if isinstance(pause_after, int) else tuple(pause_after),
        pause_before=pause_before,
        **more,
    )
