"""A chat as text where no widget can be: in a notebook that is saved."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from workbench.attachments import summaries
from workbench.markdown import safe_html
from workbench.turns import LOCAL_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workbench.turns import Message, Reply

LONGEST = 200_000
"""Characters of a transcript; it is saved in the notebook."""


def last(messages: Sequence[Message], characters: int = LONGEST, count: int | None = None) -> Sequence[Message]:
    """Return the last messages that fit, at least one."""
    room, at = characters, len(messages)
    first = 0 if count is None else max(0, len(messages) - count)
    while at > first and (room := room - len(messages[at - 1].content)) >= 0:
        at -= 1
    return messages[min(at, max(0, len(messages) - 1)) :]


def bundle(messages: Sequence[Message], replies: Mapping[str, Reply]) -> dict[str, str]:
    """Return the end of a chat by its MIME type; nothing when nothing was said."""
    if not messages:
        return {}
    return {"text/plain": as_text(messages, replies), "text/markdown": as_markdown(messages, replies)}


def as_text(messages: Sequence[Message], replies: Mapping[str, Reply]) -> str:
    """Return the end of a chat as plain text, with what was attached, and what each reply used and cost."""
    kept = last(messages)
    parts = _left_out(messages, kept)
    for message in kept:
        attached = "".join(f"[{line}]\n" for line in _attached(message))
        parts.append(f"{_speaker(message)}: {attached}{message.content[-LONGEST:]}")
        parts += _footer(message, replies)
    return "\n\n".join(parts)


def as_markdown(messages: Sequence[Message], replies: Mapping[str, Reply]) -> str:
    """Return the same as Markdown that is safe to show.

    A notebook that is trusted shows Markdown with whatever HTML, scripts and images are in it, so what a model wrote
    cannot be handed on as it is: it is rendered here, and what is returned is HTML that Markdown leaves alone.
    """
    kept = last(messages)
    parts = [_quiet(line) for line in _left_out(messages, kept)]
    for message in kept:
        parts.append(f"<p><strong>{_speaker(message)}</strong></p>")
        parts += [_quiet(line) for line in _attached(message)]
        parts.append(safe_html(message.content[-LONGEST:]))
        parts += [_quiet(line) for line in _footer(message, replies)]
    return one_block("".join(parts))


def _quiet(line: str) -> str:
    return f"<p><em>{escape(line)}</em></p>"


def _attached(message: Message) -> list[str]:
    return summaries(message.blocks) if message.role == "user" else []


def _footer(message: Message, replies: Mapping[str, Reply]) -> list[str]:
    reply = replies.get(message.id)
    return [] if reply is None else [reply.footer]


def one_block(html: str) -> str:
    """Return HTML so that Markdown leaves it alone."""
    # to Markdown a blank line would end the HTML; between two dollar signs JupyterLab would look for a formula
    lines = html.replace("$", "&#36;").replace("\\", "&#92;").split("\n")
    inside = "".join(f"{line}\n" if line.strip() else "&#10;" for line in lines)
    return f'<div class="mathjax_ignore tex2jax_ignore">\n{inside}</div>'


def _left_out(messages: Sequence[Message], kept: Sequence[Message]) -> list[str]:
    count = len(messages) - len(kept)
    return [f"({count:,} earlier messages are in the store)"] if count else []


def _speaker(message: Message) -> str:
    if message.role == "user":
        return "You"
    return "The embedded model" if message.model == LOCAL_MODEL else "Claude"
