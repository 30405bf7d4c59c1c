"""A chat as a document of its own: Markdown, or a Jupyter notebook. Pure: messages in, texts out."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from workbench.attachments import summaries
from workbench.turns import LOCAL_MODEL, Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from markdown_it import MarkdownIt

    from workbench.turns import ChatInfo, Message

RETRYABLE = ("interrupted", "failed", "lost")
PYTHON = re.compile(r"(?:\{\.?)?(?:i?python3?|py3?)(?=[\s,:}]|$)", re.IGNORECASE)
"""How what stands after the three backticks begins if it names Python; as in ``js/src/render``."""
LONGEST_NAME = 60


def shown(messages: Iterable[Message]) -> list[Message]:
    """Return the messages people see: of a question that was asked again, only the last reply.

    The others stay in the store, where they were billed. The question keeps the id of its first asking.
    """
    kept: list[Message] = []
    for message in messages:
        if message.role == "user" and len(kept) >= 2 and _asks_again(message, *kept[-2:]):
            kept.pop()
        else:
            kept.append(message)
    return kept


def _asks_again(message: Message, question: Message, reply: Message) -> bool:
    return reply.status in RETRYABLE and (question.role, question.content) == ("user", message.content)


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


def as_markdown(chat: ChatInfo, messages: Sequence[Message], replies: Mapping[str, Reply]) -> str:
    """Return a chat as Markdown, each message as it was written under a heading that says whose it is.

    With a question goes what was attached to it, in one line each; with a reply what it used and cost.
    """
    parts = _head(chat)
    for message in messages:
        parts.append(f"## {_speaker(message)}")
        parts += _attached(message)
        parts.append(message.content.strip("\n"))
        parts += _footer(message, replies)
    return "\n\n".join(parts) + "\n"


def as_notebook(chat: ChatInfo, messages: Sequence[Message], replies: Mapping[str, Reply]) -> dict[str, Any]:
    """Return a chat as a Jupyter notebook, in nbformat 4.5: blocks of Python are code cells, all else is Markdown."""
    cells = [("markdown", "\n\n".join(_head(chat)))]
    for message in messages:
        cells.append(("markdown", "\n\n".join([f"## {_speaker(message)}", *_attached(message)])))
        if message.role == "user":
            cells.append(("markdown", message.content))
        else:
            cells += _pieces(message.content)
        cells += [("markdown", line) for line in _footer(message, replies)]
    return {
        "cells": [_cell(f"cell-{n}", kind, source) for n, (kind, source) in enumerate(cells, 1) if source.strip()],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def file_name(chat: ChatInfo, ending: str) -> str:
    """Return what a file of the chat may be called on any system.

    >>> from workbench.turns import ChatInfo
    >>> file_name(ChatInfo(id="c1", title="What is 2+2?"), "md")
    'What-is-2-2.md'
    """
    name = "-".join(re.findall(r"\w+", chat.title))[:LONGEST_NAME].strip("-")
    return f"{name or 'chat'}.{ending}"


def _head(chat: ChatInfo) -> list[str]:
    parts = [f"# {chat.title or 'Chat'}"]
    if chat.system:
        quoted = "\n".join(f"> {line}".rstrip() for line in chat.system.splitlines())
        parts.append(f"System prompt:\n\n{quoted}")
    return parts


def _speaker(message: Message) -> str:
    if message.role == "user":
        return "You"
    name = "The embedded model" if message.model == LOCAL_MODEL else f"Claude ({message.model or 'model unknown'})"
    return name if message.status == "complete" else f"{name}, {message.status}"


def _attached(message: Message) -> list[str]:
    return [f"*Attached: {_plain(line)}*" for line in summaries(message.blocks)] if message.role == "user" else []


def _footer(message: Message, replies: Mapping[str, Reply]) -> list[str]:
    reply = replies.get(message.id)
    return [] if reply is None else [f"*{_plain(reply.footer)}*"]


def _plain(line: str) -> str:
    """A line of ours in which no letter means anything to Markdown, such as the underscores of a variable's name."""
    return re.sub(r"([\\`*_\[\]<>$])", r"\\\1", line)


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Cut a reply into Markdown and the code of its Python blocks."""
    lines, done = re.split(r"\r\n?|\n", text), 0  # where the parser ends lines; str.splitlines knows more places
    for token in _parser().parse(text):
        if token.type == "fence" and token.level == 0 and token.map and PYTHON.match(token.info.strip()):
            first, end = token.map
            yield "markdown", "\n".join(lines[done:first]).strip("\n")
            yield "code", token.content.rstrip("\n")
            done = end
    yield "markdown", "\n".join(lines[done:]).strip("\n")


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # takes a while, and few chats are exported

    return MarkdownIt("commonmark")


def _cell(id: str, kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"id": id, "cell_type": kind, "metadata": {}, "source": source}
    return cell | {"execution_count": None, "outputs": []} if kind == "code" else cell
