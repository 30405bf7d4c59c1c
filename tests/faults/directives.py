"""Scripting by words in the last user message: ``[[fault=cut after=3]] [[tokens=50]] [[delay=0.02]]``."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .faults import fault
from .replies import Reply, text, thinking, words

if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTIVE = re.compile(r"\[\[([^\[\]]*=[^\[\]]*)\]\]")


def _steps(value: str) -> tuple[int, ...]:
    return tuple(int(each) for each in value.split(","))


# word: (how its value is read, what it does)
WORDS_UNDERSTOOD: dict[str, tuple[Callable[[str], Any], str]] = {
    "fault": (str, "one of FAULTS"),
    "times": (int, "how often the fault strikes for this very message; afterwards the reply is ordinary"),
    "tokens": (int, "length of the reply in words"),
    "thinking": (int, "tokens of omitted thinking before the text"),
    "ttft": (float, "seconds from message_start to the first delta"),
    "delay": (float, "seconds between deltas"),
    "headers_after": (float, "seconds before the status line"),
    "pause_after": (_steps, "deltas after which to wait for release(), as 2 or 2,5"),
    "after": (int, "deltas sent before a stream breaks"),
    "retry_after": (float, "seconds in the header of 429_retry_after and its kin"),
    "seconds": (float, "how long a hang or stall lasts"),
    "size": (int, "bytes of an endless frame"),
}
OF_FAULTS = ("after", "retry_after", "seconds", "size")
OF_REPLIES = ("ttft", "delay", "headers_after", "pause_after")


def read(prompt: str) -> dict[str, Any]:
    """The values set in a message. A word nobody understands raises ValueError."""
    values = {}
    for directive in DIRECTIVE.findall(prompt):
        for pair in directive.split():
            word, _, value = pair.partition("=")
            if word not in WORDS_UNDERSTOOD:
                raise ValueError(f"scripted upstream: {word!r} in [[{directive}]] is none of {list(WORDS_UNDERSTOOD)}")
            values[word] = WORDS_UNDERSTOOD[word][0](value)
    return values


def reply_to(values: dict[str, Any], tokens: int, most: int) -> Reply:
    """The reply these values ask for, of ``tokens`` words unless they say otherwise, within max_tokens."""
    wanted = values.get("tokens", tokens)
    count = min(wanted, most)
    pace = {word: values[word] for word in OF_REPLIES if word in values}
    if "fault" not in values:
        stop_reason = "end_turn" if wanted <= most else "max_tokens"
        return _ordinary(count, stop_reason, values.get("thinking", 0), tuple(pace.items()))
    more = {word: values[word] for word in OF_FAULTS if word in values}
    name = values["fault"]
    if name == "429" and "retry_after" in values:
        name = "429_retry_after"
    if "tokens" in values:
        more["text"] = words(count)
    return replace(fault(name, **more), **pace)


@lru_cache(maxsize=64)  # the same object each time, with its frames already written
def _ordinary(count: int, stop_reason: str, hidden: int, pace: tuple[tuple[str, Any], ...]) -> Reply:
    said = (text(words(count)),) if count else ()
    blocks = (thinking(), *said) if hidden else said
    return Reply(blocks, stop_reason=stop_reason, thinking_tokens=hidden, **dict(pace))
