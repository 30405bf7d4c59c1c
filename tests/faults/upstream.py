"""A scripted Anthropic API on loopback: everything a test needs, and a program.

In a test::

    with ScriptedUpstream() as upstream:
        upstream.script(reply("Hello world"), fault("529"), fault("cut", after=1))
        client = anthropic.AsyncAnthropic(base_url=upstream.url, api_key="sk-ant-test")

As a process, for benchmarks: ``python -m tests.faults.upstream --port 0`` prints its URL on the first line and serves
until SIGTERM, or until its stdin, if that is a pipe, is closed. ``--list`` prints the table of faults.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import stat
import sys

from .caching import PromptCache, tokens_in
from .connection import Request
from .directives import WORDS_UNDERSTOOD
from .faults import ALIASES, FAULTS, fault, names
from .frames import Frame, Usage, frame
from .replies import Answer, Block, Break, Reply, Wire, reply, text, thinking, tool_use, whole_block, words
from .server import Disconnect, ScriptedUpstream
from .table import Fault, Phase

__all__ = [
    "ALIASES",
    "FAULTS",
    "WORDS_UNDERSTOOD",
    "Answer",
    "Block",
    "Break",
    "Disconnect",
    "Fault",
    "Frame",
    "Phase",
    "PromptCache",
    "Reply",
    "Request",
    "ScriptedUpstream",
    "Usage",
    "Wire",
    "fault",
    "frame",
    "names",
    "reply",
    "text",
    "thinking",
    "tokens_in",
    "tool_use",
    "whole_block",
    "words",
]


def _arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.upstream", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=12, help="words of a reply")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds between deltas")
    parser.add_argument("--ttft", type=float, default=0.0, help="seconds before the first delta")
    parser.add_argument("--min-prefix", type=int, default=0, help="tokens a prefix must have to be cached")
    parser.add_argument("--keep", type=int, default=1000, help="requests remembered")
    parser.add_argument("--no-checks", dest="checks", action="store_false", help="accept any request")
    parser.add_argument("--list", action="store_true", help="print the table of faults")
    return parser.parse_args(arguments)


async def _serve(upstream: ScriptedUpstream) -> None:
    loop = asyncio.get_running_loop()

    def read_or_stop() -> None:
        if not os.read(0, 4096):
            upstream.stop()

    def started(upstream: ScriptedUpstream) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, upstream.stop)
        if stat.S_ISFIFO(os.fstat(0).st_mode):  # /dev/null or a terminal would end us at once
            loop.add_reader(0, read_or_stop)
        print(upstream.url, flush=True)

    await upstream.run(started)


def main() -> None:
    options = vars(_arguments())
    if options.pop("list"):
        for entry in FAULTS.values():
            print(f"{entry.phase:7}{entry.name:22}{entry.what}{f'  [SDK: {entry.sdk}]' if entry.sdk else ''}")
        sys.exit()
    asyncio.run(_serve(ScriptedUpstream(**options)))


if __name__ == "__main__":
    main()
