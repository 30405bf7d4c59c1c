"""How many tokens a text is to Claude, counted offline.

``ctok`` reconstructs Claude's two vocabularies; of 26 calls recorded from the API it counts 25 alike and one a token apart.
It is an extra (``pip install "claude-workbench[tokens]"``) and needs Python 3.12.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_VERSION = re.compile(r"(?<!\d)(\d{1,2})(?:-(\d{1,2}))?(?!\d)")
AROUND_A_TURN = 6
"""Tokens that each complete reply adds for who speaks (recorded calls on Sonnet 4.5 and 4.6, Opus 4.6, Haiku 4.5)."""


class TokenCount(NamedTuple):
    """Input tokens of a request, and who counted them."""

    tokens: int
    counted_by: str
    """``claude`` or ``local``: the model's own server; ``ctok``: offline; ``estimate``: nobody, it is rough."""


def offline_tokens(model: str, texts: Iterable[str], replies: int = 0) -> int | None:
    """Return the input tokens of a request, None when nobody here can count them.

    Args:
        model: A Claude model; which vocabulary it has is told by its number.
        texts: Of the system prompt and all messages.
        replies: How many of the messages are replies.

    Source: ctok counts a single message; the sum over several was found from recorded calls.
    """
    version = vocabulary(model)
    if version is None or find_spec("ctok") is None:
        return None
    frame = _count("a", version) - 1
    return sum(_count(text, version) - frame for text in texts if text) + frame + AROUND_A_TURN * replies


def vocabulary(model: str) -> str | None:
    """Return the number of a Claude model, by which ctok knows its vocabulary; None if it has none.

    >>> [vocabulary(model) for model in ("claude-3-5-haiku-latest", "claude-sonnet-4-20250514", "claude-opus-5-5", "local")]
    ['3.5', '4.0', '5.5', None]
    """
    found = _VERSION.search(model) if model.startswith("claude-") else None
    if found is None or int(found[1]) < 3:
        return None
    return f"{int(found[1])}.{int(found[2] or 0)}"


@lru_cache(maxsize=2000)  # 57 kB a second
def _count(text: str, version: str) -> int:
    from ctok import token_count

    count: int = token_count(text, version)
    return count
