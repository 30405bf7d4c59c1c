"""Which messages of a chat are sent with the next question.

A window that slides by one turn changes the front of the prompt every turn, and a prompt cache only helps while the
front stays the same: over 40 turns that costs 2.9 times as much as never trimming. So the history grows to its bound
and is then cut to half at once; the next turns share their front again. Where to cut depends only on how many
messages there are, so every process decides alike and nothing needs to be remembered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.turns import LOCAL_MODEL, estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.turns import Block, Message


@dataclass(frozen=True, slots=True)
class Window:
    """The messages sent, oldest first, and how many older ones were left out."""

    messages: list[dict[str, Any]]
    left_out: int
    characters: int
    tokens: int
    """What the messages before the question count for, as far as known."""
    history: list[Message]
    """The stored messages among those sent: all but the question."""


def window(
    messages: Sequence[Message],
    question: str,
    *,
    limit: int,
    model: str,
    max_tokens: int | None = None,
    attached: Sequence[Block] = (),
) -> Window:
    """Return what to send for ``question`` after ``messages``.

    Args:
        messages: The whole chat so far, oldest first.
        question: The new user message.
        limit: Most messages sent, the question included; beyond it the older half is dropped at once.
        model: The model asked now. Thinking blocks are bound to the model that made them and to everything before
            them, so they are sent only while the chat is whole and stayed with one model.
        max_tokens: Most tokens sent, roughly, for models with a small window.
        attached: Blocks, text or pictures, that go before the question in its message.

    A turn without a usable reply (failed before any text, refused, still running) is not sent.

    Example:
        >>> window([], "hi", limit=20, model="claude-sonnet-5-5").messages
        [{'role': 'user', 'content': [{'type': 'text', 'text': 'hi'}]}]
    """
    turns, asked = _answered(messages), question_blocks(question, attached)
    new = [block["text"] if block["type"] == "text" else countable(block) for block in asked]
    step = _step(limit)
    start = first_sent(len(turns) + 1, limit)
    sizes = [sum(len(countable(block)) for block in message.blocks) for message in turns]
    if max_tokens is not None:
        room = max_tokens - sum(map(small_model_tokens, new))
        tokens = [sum(small_model_tokens(countable(block)) for block in message.blocks) for message in turns[start:]]
        first = start
        while start < len(turns) and sum(tokens[start - first :]) > room:
            start += 2 if len(turns) - start <= step else step
    sent = turns[start:]
    whole = start == 0 and all(m.model in (None, model) for m in turns)
    blind = model == LOCAL_MODEL  # it fails where there are pictures
    wire: list[dict[str, Any]] = [
        {"role": m.role, "content": _without_pictures(blocks) if blind else blocks}
        for m in sent
        for blocks in [replayable(m, keep_thinking=whole)]
    ]
    wire.append({"role": "user", "content": asked})
    return Window(
        wire,
        left_out=start,
        characters=sum(sizes[start:]) + sum(map(len, new)),
        tokens=sum(message.token_count or 0 for message in sent),
        history=sent,
    )


def small_model_tokens(text: str) -> int:
    """Tokens of a text to a small model, roughly: words it knows, of all else hardly more than the bytes.

    Of SmolLM2's, 1.5 times as many for English, between 0.9 and 2 times for digits, tables, code, Chinese and emoji;
    the length alone makes a tenth of emoji's.
    """
    plain = sum(map(len, _PLAIN.findall(text)))
    return estimate_tokens(plain) + len(text.encode(errors="replace")) - plain


def most_input_tokens(messages: list[dict[str, Any]], system: str | None) -> int:
    """Return an upper estimate of the tokens of all that is sent, for what must not cost more than was thought."""
    told = [
        {**message, "content": [countable(b) if b.get("type") == "image" else b for b in message["content"]]}
        for message in messages
    ]
    return small_model_tokens(f"{system or ''}{told}") + 50


_PLAIN = re.compile(r"[A-Za-z\s]+", re.ASCII)


def countable(block: Block) -> str:
    """Return a text that counts for at least as many tokens as the block: of a picture not its bytes, each a token.

    >>> small_model_tokens(countable({"type": "image", "source": {"data": "…"}}))
    3300
    """
    return "picture " * 1320 if block.get("type") == "image" else str(block)


def text_blocks(text: str) -> list[Block]:
    """Return a user's text as it is sent and stored: the same bytes now and when it is sent again as history."""
    return [{"type": "text", "text": str.__str__(text)}]  # NumPy's own kind of text is none to an encoder of JSON


def question_blocks(question: str, attached: Sequence[Block] = ()) -> list[Block]:
    """Return a question as it is sent and stored: what is attached first, then what is asked about it."""
    return [*attached, *text_blocks(question)]


def first_sent(count: int, limit: int) -> int:
    """Return the first message sent of ``count``: 0 up to the limit, then in steps, so that at most ``limit`` remain.

    >>> [first_sent(n, 20) for n in (1, 20, 21, 29, 30, 31)]
    [0, 0, 10, 10, 10, 20]
    """
    over, step = count - max(limit, 1), _step(limit)
    return 0 if over <= 0 else -(-over // step) * step


def _step(limit: int) -> int:
    """Half the limit, in whole turns of two messages."""
    return max(2, -(-limit // 4) * 2)


def _answered(messages: Sequence[Message]) -> list[Message]:
    """Pairs of question and usable reply, in order."""
    kept: list[Message] = []
    question: Message | None = None
    for message in messages:
        if message.role == "user":
            if replayable(message, keep_thinking=False):  # else it is the result of a tool, within a turn
                question = message
        elif question is not None and _usable(message):
            kept += (question, message)
            question = None
    return kept


def _usable(reply: Message) -> bool:
    # a refused question would be refused again; a reply without content is an error on the wire
    return (
        reply.status != "streaming" and reply.stop_reason != "refusal" and bool(replayable(reply, keep_thinking=False))
    )


def replayable(message: Message, *, keep_thinking: bool) -> list[Block]:
    """Return the blocks of a message as they may be sent again.

    They are sent as they came, except what the API would refuse: empty text, thinking that lost its signature, and of
    a reply that broke off everything but its text.
    """
    if message.role == "assistant" and message.status != "complete":
        return [{"type": "text", "text": message.content}] if message.content.strip() else []
    return [block for block in message.blocks if _sendable(block, keep_thinking)]


def _without_pictures(blocks: list[Block]) -> list[Block]:
    return [block for block in blocks if block.get("type") != "image"]


def _sendable(block: Block, keep_thinking: bool) -> bool:
    kind = block.get("type")
    if kind == "text":
        return bool(str(block.get("text", "")).strip())
    if kind == "thinking":
        return keep_thinking and bool(block.get("signature"))
    if kind == "redacted_thinking":
        return keep_thinking
    # a call without its result and a result without its call are refused; this engine runs no tools of its own
    return kind not in ("tool_use", "tool_result")
