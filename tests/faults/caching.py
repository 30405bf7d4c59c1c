"""Prompt tokens and a simulated prompt cache (claude-api.md section 7).

A text of n characters counts ceil(n / 4) tokens; any other block, and each tool, counts by the length of its compact
JSON. There is no overhead per message, so expected counts can be worked out by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from time import monotonic
from typing import TYPE_CHECKING, Any

from .frames import Json, Usage, compact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOKBACK = 20
SECONDS = {"5m": 300.0, "1h": 3600.0}
KEY_FIELDS = ("model", "thinking", "output_config", "tool_choice", "speed", "_key")


def tokens_in(content: str) -> int:
    return -(-len(content) // 4)


@dataclass(frozen=True, slots=True)
class Segment:
    """One cacheable piece of a prompt: a tool, a system block, a block of a message."""

    content: str  # what the tokens are counted by
    identity: str
    ttl: str | None = None  # "5m" or "1h" where the request sets a breakpoint


def _ttl(block: Json) -> str | None:
    control = block.get("cache_control")
    return control.get("ttl", "5m") if isinstance(control, dict) else None


def _segment(place: str, block: Any) -> Segment:
    if isinstance(block, str):
        block = {"type": "text", "text": block}
    bare = {k: v for k, v in block.items() if k != "cache_control"}
    whole = compact(bare)
    content = bare["text"] if bare.get("type") == "text" else whole
    return Segment(content, f"{place}:{whole}", _ttl(block))


def _blocks(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content] if content else []


def segments(body: Json) -> Iterator[Segment]:
    """The prompt in cache order: tools, system, messages."""
    for tool in body.get("tools") or ():
        yield _segment("tool", tool)
    for block in _blocks(body.get("system")):
        yield _segment("system", block)
    for message in body.get("messages", ()):
        for block in _blocks(message["content"]):
            yield _segment(message["role"], block)


def prompt_tokens(body: Json) -> int:
    return sum(tokens_in(segment.content) for segment in segments(body))


@dataclass
class PromptCache:
    """Remembers prompt prefixes as the API does, and says how the prompt of a request is billed.

    Only breakpoints are remembered: the top-level ``cache_control`` (on the last block) and those of single blocks.
    """

    minimum: int = 0  # tokens a prefix must have to be cached
    clock: Callable[[], float] = monotonic
    _entries: dict[bytes, tuple[float, float]] = field(default_factory=dict)  # prefix: (expires, seconds it lives)

    def clear(self) -> None:
        """Forget everything, as after five minutes of silence."""
        self._entries.clear()

    def usage(self, body: Json, key: str = "") -> Usage:
        """Bill a prompt and remember its breakpoints."""
        prompt = list(segments(body))
        if "cache_control" in body and prompt:
            prompt[-1] = Segment(prompt[-1].content, prompt[-1].identity, _ttl(body))
        if not any(segment.ttl for segment in prompt):
            return Usage(uncached_input_tokens=sum(tokens_in(segment.content) for segment in prompt))
        return self._billed(prompt, self._prefixes(prompt, body | {"_key": key}))

    def _prefixes(self, prompt: list[Segment], body: Json) -> list[tuple[bytes, int]]:
        """The hash and the length in tokens of each prefix."""
        digest = sha256(compact({name: body.get(name) for name in KEY_FIELDS}).encode())
        total, prefixes = 0, []
        for segment in prompt:
            digest.update(f"{len(segment.identity)}:{segment.identity}".encode())
            total += tokens_in(segment.content)
            prefixes.append((digest.digest(), total))
        return prefixes

    def _billed(self, prompt: list[Segment], prefixes: list[tuple[bytes, int]]) -> Usage:
        now, total = self.clock(), prefixes[-1][1]
        points = [n for n, segment in enumerate(prompt) if segment.ttl and prefixes[n][1] >= self.minimum]
        read = max((self._longest_read(prefixes, point, now) for point in points), default=0)
        long = max((prefixes[n][1] for n in points if prompt[n].ttl == "1h"), default=0)
        short = max((prefixes[n][1] for n in points if prompt[n].ttl != "1h"), default=0)
        for n in points:
            seconds = SECONDS[prompt[n].ttl or "5m"]
            self._entries[prefixes[n][0]] = now + seconds, seconds
        written_1h = max(0, long - read)
        written_5m = max(0, short - max(read, long))
        return Usage(total - read - written_1h - written_5m, read, written_5m, written_1h)

    def _longest_read(self, prefixes: list[tuple[bytes, int]], point: int, now: float) -> int:
        for digest, tokens in reversed(prefixes[max(0, point - LOOKBACK) : point + 1]):
            expires, seconds = self._entries.get(digest, (0.0, 0.0))
            if expires > now:
                self._entries[digest] = now + seconds, seconds  # a read refreshes for free
                return tokens
        return 0
