"""A chat as people read it: which messages are shown, and how they look where no widget can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.markdown import safe_html
from workbench.turns import LOCAL_MODEL, Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from workbench.turns import Message

LONGEST = 200_000
"""Characters of a transcript; it is saved in the notebook."""


def replies(chat_id: str, rows: Iterable[dict[str, Any]]) -> dict[str, Reply]:
    """Return each reply by its id, without its text, from the rows of ``chat_usage.sql``."""
    return {row["message_id"]: _reply(chat_id, row) for row in rows}


def _reply(chat_id: str, row: dict[str, Any]) -> Reply:
    counts = (
        "uncached_input_tokens",
        "cache_read_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "output_tokens",
        "thinking_tokens",
    )
    return Reply(
        text="",
        usage=Usage(**{name: row[name] for name in counts}, estimated=row["usage_estimated"]),
        chat_id=chat_id,
        created_at=row["started_at"],
        **{
            name: row[name]
            for name in (
                "message_id",
                "request_id",
                "model",
                "status",
                "stop_reason",
                "ttft_ms",
                "duration_ms",
                "cost_usd",
            )
        },
    )


def last(messages: Sequence[Message], characters: int = LONGEST, count: int | None = None) -> Sequence[Message]:
    """Return the last messages that fit, at least one."""
    room, at = characters, len(messages)
    first = 0 if count is None else max(0, len(messages) - count)
    while at > first and (room := room - len(messages[at - 1].content)) >= 0:
        at -= 1
    return messages[min(at, max(0, len(messages) - 1)) :]


def as_text(messages: Sequence[Message]) -> str:
    """Return the end of a chat as plain text."""
    kept = last(messages)
    return "\n\n".join([*_left_out(messages, kept), *(f"{_speaker(m)}: {m.content[-LONGEST:]}" for m in kept)])


def as_markdown(messages: Sequence[Message]) -> str:
    """Return the end of a chat as Markdown that is safe to show.

    A notebook that is trusted shows Markdown with whatever HTML, scripts and images are in it, so what a model wrote
    cannot be handed on as it is: it is rendered here, and what is returned is HTML that Markdown leaves alone.
    """
    kept = last(messages)
    parts = [f"<p><em>{line}</em></p>" for line in _left_out(messages, kept)]
    for message in kept:
        parts += [f"<p><strong>{_speaker(message)}</strong></p>", safe_html(message.content[-LONGEST:])]
    return _one_block("".join(parts))


def _one_block(html: str) -> str:
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
