"""What a streamed token costs us in CPU time, and how that compares with the bare SDK.

The reply comes from the scripted upstream, which runs in a process of its own; counted is the CPU time of this one,
all threads included, so other work on the machine does not count. Every round runs every variant once and the median
of the rounds is taken. ``each``: the upstream writes every token by itself, as Claude does, so every token is a read;
``burst``: it writes 32 kB at once, as when a busy machine falls behind.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import aiohttp
import anthropic

from workbench.claude import Claude
from workbench.engine import Engine
from workbench.settings import read_settings
from workbench.store import Store
from workbench.turns import Answer, Caller, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Variant = Callable[[str, int], Awaitable[None]]

TOKENS = 2000
ROUNDS = 7
DELAY = 0.0004  # seconds between tokens, more than any variant takes for one
PROMISED = 60  # µs a token, of the engine above reading the bytes
MODEL = "claude-sonnet-5-5"
BARE = "SDK create(stream=True)"
WHOLE = "Engine.turn, with its store"
BYTES = "aiohttp, bytes unread"


@contextmanager
def upstream() -> Iterator[str]:
    """The URL of a scripted upstream in another process."""
    command = [sys.executable, "-m", "tests.faults.upstream", "--keep", "10"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def prompt(tokens: int, pace: str) -> str:
    return f"[[tokens={tokens}]]" + (f" [[delay={DELAY}]]" if pace == "each" else "")


def body(content: str, tokens: int) -> dict[str, object]:
    return {"model": MODEL, "max_tokens": tokens, "messages": [{"role": "user", "content": content}]}


class Variants:
    """The ways of reading one reply, each on a connection that is kept."""

    def __init__(self, url: str, store: Store) -> None:
        self.url = url
        self.session = aiohttp.ClientSession()
        self.sdk = anthropic.AsyncAnthropic(api_key="sk-bench", base_url=url, max_retries=0)
        self.claude = Claude(api_key="sk-bench", base_url=url)
        settings = read_settings(ANTHROPIC_API_KEY="sk-bench", ANTHROPIC_BASE_URL=url, CLAUDE_MAX_TOKENS=100_000)
        self.engine = Engine(settings, store)

    def all(self) -> dict[str, Variant]:
        return {
            BYTES: self.bytes,
            BARE: self.create,
            "SDK messages.stream()": self.stream,
            "Claude.stream": self.ours,
            WHOLE: self.turn,
        }

    async def bytes(self, content: str, tokens: int) -> None:
        headers = {"authorization": "Bearer sk-bench", "anthropic-version": "2026-10-21"}
        request = body(content, tokens) | {"stream": True}
        async with self.session.post(f"{self.url}/v1/messages", json=request, headers=headers) as response:
            response.raise_for_status()
            async for _ in response.content.iter_any():
                pass

    async def create(self, content: str, tokens: int) -> None:
        async with await self.sdk.messages.create(**body(content, tokens), stream=True) as stream:  # type: ignore[call-overload]
            count = sum([event.type == "content_block_delta" async for event in stream])
        assert count == tokens

    async def stream(self, content: str, tokens: int) -> None:
        async with self.sdk.messages.stream(**body(content, tokens)) as stream:  # type: ignore[arg-type]
            count = sum([1 async for _ in stream.text_stream])
        assert count == tokens

    async def ours(self, content: str, tokens: int) -> None:
        request = Request(model=MODEL, max_tokens=tokens, messages=[{"role": "user", "content": content}])
        count = 0
        async with self.claude.stream(request, Answer()) as batches:
            async for batch in batches:
                count += len(batch)
        assert count == tokens

    async def turn(self, content: str, tokens: int) -> None:
        count = 0
        async with self.engine.turn(Caller(), self.engine.new_chat(), content) as turn:
            async for batch in turn.batches():
                count += len(batch)
        assert count == tokens

    async def aclose(self) -> None:
        await self.session.close()
        await self.sdk.close()
        await self.claude.aclose()
        await self.engine.aclose()


async def cpu(variant: Variant, tokens: int, pace: str) -> float:
    """CPU seconds of one reply."""
    begun = time.process_time()
    await variant(prompt(tokens, pace), tokens)
    return time.process_time() - begun


async def per_token(variants: dict[str, Variant], pace: str) -> dict[str, float]:
    """Microseconds of CPU time a token, by variant."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, variant in variants.items():
            seconds[name].append(await cpu(variant, TOKENS, pace))
    return {name: median(values) / TOKENS * 1e6 for name, values in seconds.items()}


async def growth(variant: Variant) -> tuple[float, float]:
    """CPU seconds of a turn apart from its tokens, and how much longer twice as many tokens take."""
    sizes = (1, 20_000, 40_000)
    rounds = [[await cpu(variant, tokens, "burst") for tokens in sizes] for _ in range(ROUNDS)]
    turn, single, double = (median(seconds) for seconds in zip(*rounds, strict=True))
    return turn, (double - turn) / (single - turn)


async def measure(url: str, store: Store) -> None:
    variants = Variants(url, store)
    every = variants.all()
    try:
        for variant in every.values():
            await variant(prompt(10, "burst"), 10)  # imports, connections, tables
        each, burst = await per_token(every, "each"), await per_token(every, "burst")
        turn, double = await growth(every[WHOLE])
    finally:
        await variants.aclose()
    print(f"CPU µs per token, {TOKENS} tokens a reply        each    burst")
    for name in every:
        print(f"  {name:38}{each[name]:9.1f}{burst[name]:9.1f}")
    print(f"the engine above the bytes: {each[WHOLE] - each[BYTES]:.1f} µs a token; promised: at most {PROMISED}")
    print(f"a turn apart from its tokens: {turn * 1e3:.1f} ms, most of it the two commits")
    print(f"twice the tokens take {double:.2f} times as long; 2 is linear, 4 would be the square")
    print(f"ratio: {each[WHOLE] / each[BARE]:.2f} of the CPU time of the {BARE}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, upstream() as url:

        async def run() -> None:
            store = await Store.open(str(Path(folder) / "store.duckdb"))
            try:
                await measure(url, store)
            finally:
                store.close()

        asyncio.run(run())
