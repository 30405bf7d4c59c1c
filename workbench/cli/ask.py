"""``workbench ask``: one question, its reply streamed as it comes."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.terminal import note, write, write_json
from workbench.errors import InvalidRequest, NotFound, WorkbenchError
from workbench.wording import exact, instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.chat import Chat, ReplyStream
    from workbench.turns import Reply

EXAMPLES = """\b
Examples:
  workbench ask "What is 2+2?"
  workbench ask --continue "And 3+3?"
  git diff | workbench ask "What does this change?" > review.md"""
SHORT_ID = 8
"""The last characters of a chat's id tell chats apart; the first ones are the time."""


def ask(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to ask; `-` reads it from stdin.", show_default=False)
    ] = None,
    chat: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on with this chat; the end of its id will do.")
    ] = None,
    continue_: Annotated[bool, typer.Option("--continue", "-c", help="Go on with the chat used last.")] = False,
    system: Annotated[
        str | None, typer.Option("--system", "-s", metavar="TEXT", help="System prompt of a new chat.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", metavar="NAME[@WHICH]", help="A named prompt for a new chat, such as support@staging."
        ),
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option(
            "--var", metavar="NAME=VALUE", help="What to put in for a variable of the prompt; may be repeated."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="MODEL", help="Who answers: a model id, or `local` for the embedded model."
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Upper bound of the reply, in tokens.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply and what it used as JSON.")] = False,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Print the reply once it is whole.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out the line on tokens and cost.")] = False,
) -> None:
    """Ask one question; the reply appears as it comes, and is kept.

    Piped input is the question, or is put before it.
    """
    if chat and continue_:
        raise InvalidRequest("--chat and --continue both name a chat; give one of them")
    if system and (chat or continue_):
        raise InvalidRequest("a chat keeps its system prompt; --system is for a new chat")
    if prompt and (chat or continue_):
        raise InvalidRequest("a chat keeps its prompt; --prompt is for a new chat")
    question = _question(text)
    talk = _chat(chat, continue_, system=system, prompt=prompt, variables=_values(variables), model=model)
    stream = talk.stream(question, model=model, max_tokens=max_tokens)
    shown = Shown(as_json=as_json, streamed=not (as_json or no_stream), footer=not (quiet or as_json))
    raise typer.Exit(follow(stream, shown))


# The question -------------------------------------------------------------------------------------------------------


def _question(text: str | None) -> str:
    if (text is None and (sys.stdin is None or sys.stdin.isatty())) or (text == "-" and sys.stdin is None):
        raise InvalidRequest('there is nothing to ask; try: workbench ask "What is 2+2?"')
    if text in (None, "-"):
        return _piped()
    if _is_piped() and text is not None and (context := _piped()):
        return f"{context}\n\n{text}"
    return text or ""


def _is_piped() -> bool:
    """Whether stdin is a pipe or a file, and not a terminal, nothing, or a socket that its owner never closes."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:  # closed
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _piped() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"the input is not UTF-8 text (byte {error.start:,}); convert it, for example with iconv"
        ) from None


def _values(variables: Sequence[str] | None) -> dict[str, str] | None:
    from workbench.prompts.text import values_of

    return None if variables is None else values_of(variables)


# The chat -----------------------------------------------------------------------------------------------------------


def _chat(chat_id: str | None, newest: bool, **new: Any) -> Chat:
    from workbench.chat import Chat

    if newest:
        return Chat.open(_newest())
    if chat_id is not None:
        return Chat.open(whole(chat_id))
    return Chat(**new)


def _newest() -> str:
    ids = _chat_ids(1)
    if not ids:
        raise InvalidRequest('there is no chat to go on with; begin one: workbench ask "What is 2+2?"')
    return ids[0]


def whole(chat_id: str) -> str:
    """Return the id that ends like this."""
    found = [id for id in _chat_ids(1_000_000) if id.endswith(chat_id.lower())] if chat_id else []
    if not found:
        raise NotFound("chat", chat_id, "`workbench chats` lists the chats there are")
    if len(found) > 1:
        raise InvalidRequest(f"{len(found)} chats have an id that ends in {chat_id!r}; give more of it")
    return found[0]


def _chat_ids(limit: int) -> list[str]:
    from workbench.runtime import runtime
    from workbench.turns import Caller

    engine = runtime().engine
    table = runtime().run(engine.store.chats(Caller(), limit=limit))
    return [str(id) for id in table["chat_id"].to_pylist()]


# The reply ----------------------------------------------------------------------------------------------------------


class Shown:
    """How a reply appears: on stdout as it comes, whole, or as JSON; how it came about on stderr."""

    def __init__(
        self, *, as_json: bool = False, streamed: bool = True, footer: bool = True, chat_id: bool = True
    ) -> None:
        self._as_json, self._streamed, self._footer, self._chat_id = as_json, streamed, footer, chat_id
        self._last = ""

    def add(self, piece: str) -> None:
        if self._streamed:
            write(piece)
            self._last = piece[-1:] or self._last

    def end(self, reply: Reply) -> None:
        if self._as_json:
            write_json(reply_as_json(reply))
        elif not self._streamed:
            write(reply.text)
            self._last = reply.text[-1:]
        if self._last not in ("", "\n"):
            write("\n")
        if self._footer:
            note(reply.footer + (f" · chat {reply.chat_id[-SHORT_ID:]}" if self._chat_id else ""))


def follow(stream: ReplyStream, shown: Shown) -> int:
    """Show a reply to its end, however it ends, and return the exit code."""
    try:
        with stream:  # a closed pipe, too, must stop Claude and record the turn
            for piece in stream:
                shown.add(piece)
    except KeyboardInterrupt:
        _end_interrupted(stream, shown)
        return 130
    except WorkbenchError as error:
        if error.reply is not None:
            shown.end(error.reply)
        raise
    shown.end(stream.reply)
    return 0


def _end_interrupted(stream: ReplyStream, shown: Shown) -> None:
    try:
        reply = stream.reply
    except InvalidRequest:
        note("interrupted before anything came")
    else:
        shown.end(reply)


def reply_as_json(reply: Reply) -> dict[str, Any]:
    """Return a reply with the keys that the server's ``POST /chat`` has too."""
    usage = reply.usage
    return {
        "chat_id": reply.chat_id,
        "message_id": reply.message_id,
        "request_id": reply.request_id,
        "reply": reply.text,
        "model": reply.model,
        "status": reply.status,
        "stop_reason": reply.stop_reason,
        "prompt": reply.prompt,
        "created_at": instant(reply.created_at),
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "uncached_input_tokens": usage.uncached_input_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "cost_usd": exact(reply.cost_usd),
        "ttft_ms": reply.ttft_ms,
        "duration_ms": reply.duration_ms,
    }
