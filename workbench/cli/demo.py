"""``workbench demo``: a short chat, and what it used."""

from __future__ import annotations

import sys
from os.path import relpath
from shutil import which
from typing import TYPE_CHECKING

import typer

from workbench.cli.ask import SHORT_ID, Shown, follow
from workbench.cli.terminal import show, write

if TYPE_CHECKING:
    from workbench.chat import Chat

QUESTIONS = ("What is 2+2?", "What was my question?", "Can you explain why?")
MOST_TOKENS = 80
"""A small model explains itself at length; this ends it within seconds."""


def demo() -> None:
    """Show a short chat, what it used and where it is kept."""
    from rich.text import Text

    from workbench.chat import Chat
    from workbench.turns import LOCAL_MODEL

    chat = Chat(system="Answer in one short sentence.", title="Demo")
    if chat.model == LOCAL_MODEL:
        write("A small embedded model answers, not Claude; it needs no key and costs nothing.\n\n")
    for question in QUESTIONS:
        show(Text(f"> {question}", style="bold"))
        if code := follow(chat.stream(question, max_tokens=MOST_TOKENS), Shown(chat_id=False)):
            raise typer.Exit(code)
        write("\n")
    _show_usage(chat)


def _show_usage(chat: Chat) -> None:
    from workbench.cli.tables import print_usage, rows_of
    from workbench.ledger import usage
    from workbench.settings import settings, without_password

    calls = [{"turn": n, **row} for n, row in enumerate(rows_of(usage(chat=chat)), start=1)]
    print_usage(calls, ["turn", "model", "status"])
    write(f"\nKept in {without_password(settings().store)}\n\n")
    program = "workbench" if which("workbench") else f"{relpath(sys.executable)} -m workbench"  # as after `make demo`
    for command, shows in (
        (f'ask --chat {chat.id[-SHORT_ID:]} "And 3+3?"', "go on with this chat"),
        ("chats", "all chats"),
        ("usage", "what all of them used and cost"),
        ("lab", "the same in notebooks"),
    ):
        write(f"  {program} {command:<32} {shows}\n")
