"""How many tokens another model makes of the same text.

Claude has had two vocabularies: that of Opus 4.7 and later, Sonnet 5 and later makes more tokens of most texts than the one
before. So a model with a lower price a token need not be cheaper.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from workbench.estimates import text_tokens
from workbench.tokens import offline_tokens, vocabulary
from workbench.turns import LOCAL_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

MOST_CHARACTERS = 40_000
"""That are looked at, of the newest texts: ctok counts 57 kB a second."""
FEWEST_CHARACTERS = 2_000
"""Less says nothing about the rest."""
LETTERS, CODE, JSON, FIGURES = (1.29, 1.33, 1.38), (1.28, 1.30, 1.32), (1.14, 1.16, 1.18), (1.0, 1.0, 1.02)
"""Tokens of the newer vocabulary for one of the older: least, likely, most. Measured with ctok 1.3: prose 1.29, German 1.36,
chat 1.38; Python 1.30; JSON 1.16; digits, Japanese, Hindi 1.00."""
NOTHING_KNOWN = (1.0, 1.3, 1.4)


class Ratio(NamedTuple):
    """Tokens of one model for each of another's, and how that is known."""

    low: float
    likely: float
    high: float
    why: str


def token_ratio(source: str, target: str, said: Sequence[Mapping[str, Any]] = ()) -> Ratio:
    """Return how many tokens ``target`` makes of what was one token of ``source``.

    Args:
        source: The model that counted.
        target: The model that would have.
        said: What was said, as rows of ``replay_texts.sql``: with ctok it is counted as both do.

    Example:
        >>> token_ratio("claude-sonnet-5", "claude-opus-5-5").likely
        1.0
        >>> token_ratio("claude-sonnet-4-6", "claude-sonnet-5-5").why
        'a newer vocabulary makes 1.0 to 1.4 times the tokens (texts not known)'
    """
    if source == target:
        return Ratio(1.0, 1.0, 1.0, "the same model")
    said = said if _were_counted(said) else ()
    if LOCAL_MODEL in (source, target):
        return _of_the_embedded_model(said, to_it=target == LOCAL_MODEL)
    newer = [_newer(model) for model in (source, target)]
    if None in newer:
        return Ratio(1 / 1.4, 1.0, 1.4, "not known which vocabulary one of the models has")
    if newer[0] == newer[1]:
        return Ratio(1.0, 1.0, 1.0, "the same vocabulary")
    texts = _newest(said)
    if counted := _counted(source, target, texts):
        return counted
    low, likely, high = _by_kind(texts)
    how = "texts not known" if not texts else "by the kind of the texts; the extra tokens would count them"
    word = "makes" if newer[1] else "made"
    why = f"a newer vocabulary {word} {low:.1f} to {high:.1f} times the tokens ({how})"
    return Ratio(low, likely, high, why) if newer[1] else Ratio(1 / high, 1 / likely, 1 / low, why)


def _newer(model: str) -> bool | None:
    version = vocabulary(model)
    return None if version is None else tuple(map(int, version.split("."))) >= (4, 7)


def _were_counted(said: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the texts are those whose tokens are in the ledger: synthetic and erased ones are not."""
    replies = [m for m in said if m["role"] == "assistant" and m["status"] == "complete" and m["token_count"]]
    counted, looked = sum(m["token_count"] for m in replies), sum(text_tokens(m["content"]) for m in replies)
    return bool(counted / 5 < looked < counted * 5)


def _newest(said: Sequence[Mapping[str, Any]]) -> list[str]:
    texts, characters = list[str](), 0
    for message in said:
        text = message["content"][: MOST_CHARACTERS - characters]
        characters += len(text)
        if text:
            texts.append(text)
    return texts if characters >= FEWEST_CHARACTERS else []


def _counted(source: str, target: str, texts: Sequence[str]) -> Ratio | None:
    """By ctok, within 2 % for what was not looked at; None where it is not installed."""
    counts = [(offline_tokens(source, [text]), offline_tokens(target, [text])) for text in texts]
    if not counts or None in counts[0]:
        return None
    old, new = (sum(count or 0 for count in column) for column in zip(*counts, strict=True))
    ratio = new / old
    characters = sum(map(len, texts))
    return Ratio(
        ratio * 0.98,
        ratio,
        ratio * 1.02,
        f"{ratio:.2f} times the tokens, counted in {characters:,} characters of the texts",
    )


def _by_kind(texts: Sequence[str]) -> tuple[float, float, float]:
    """Of all texts, each weighed by its length."""
    if not texts:
        return NOTHING_KNOWN
    total = sum(map(len, texts))
    kinds = [(kind_of(text), len(text) / total) for text in texts]
    low, likely, high = (sum(kind[n] * share for kind, share in kinds) for n in range(3))
    return low, likely, high


def kind_of(text: str) -> tuple[float, float, float]:
    r"""Return what the newer vocabulary makes of a text of this kind.

    >>> [kind_of(t)[1] for t in ("How are you today?", '{"a": 1}', "1,2.5,3.25,4", "def f(x):\n    return x", "今日は")]
    [1.33, 1.16, 1.0, 1.3, 1.0]
    """
    if re.match(r"\s*[\[{]", text):
        return JSON
    letters = len(re.findall(r"[A-Za-z\u00c0-\u024f]", text))
    if letters < 0.4 * len(re.sub(r"\s", "", text)):
        return FIGURES
    return CODE if re.search(r"^\s*(def|class|import|SELECT) .*\n", text, re.MULTILINE) else LETTERS


def _of_the_embedded_model(said: Sequence[Mapping[str, Any]], *, to_it: bool) -> Ratio:
    replies = [m for m in said if m["role"] == "assistant" and m["status"] == "complete" and m["token_count"]]
    counted = sum(m["token_count"] for m in replies)
    if counted < FEWEST_CHARACTERS / 10:
        return Ratio(0.6, 1.0, 1.6, "the embedded model counts otherwise, 0.6 to 1.6 times (texts not known)")
    ratio = sum(text_tokens(m["content"]) for m in replies) / counted
    ratio = 1 / ratio if to_it else ratio
    return Ratio(ratio / 1.25, ratio, ratio * 1.25, f"about {ratio:.1f} times the tokens, estimated from the texts")
