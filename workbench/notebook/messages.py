"""The messages between the chat box and Python, version 1; ``js/src/protocol.js`` explains every field."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # msgspec reads the annotation
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from workbench.errors import InvalidRequest, WorkbenchError
from workbench.pricing import cost_and_source

if TYPE_CHECKING:
    from decimal import Decimal

    from workbench.turns import LiveTurn, Reply

PROTOCOL = 1

Json = dict[str, Any]


class _Command(msgspec.Struct, tag_field="t", tag=str.lower):
    c: str
    """The front end's own id of the message, repeated in the ack."""


class Hello(_Command):
    """A view is there and wants to know everything."""


class Send(_Command):
    """The reader asks something."""

    text: str


class Stop(_Command):
    """The reader wants no more of a turn; None: of whatever was asked last."""

    turn: str | None = None


class Retry(_Command):
    """The reader wants the question of a reply that did not end well asked again."""

    message_id: str


class Again(_Command):
    """The reader wants another reply beside one that did end well: in a branch."""

    message_id: str


class Edit(_Command):
    """The reader asks otherwise than they did: in a branch, so that what was said stays."""

    message_id: str
    text: str


class Branch(_Command):
    """The reader wants to see another branch of those that part at a message."""

    message_id: str
    index: int


class List(_Command):
    """The reader looks for a chat."""

    q: str = ""
    before: tuple[datetime, str] | None = None
    """``next`` of the answer before."""


class Open(_Command):
    """The reader goes on with another chat."""

    chat_id: str


class New(_Command):
    """The reader begins another chat."""


class Rename(_Command):
    """The reader calls a chat otherwise."""

    chat_id: str
    title: str


class Delete(_Command):
    """The reader has confirmed that a chat is to be deleted."""

    chat_id: str


class About(_Command):
    """The reader looks at the model and the system prompt of the chat."""


class Set(_Command):
    """The reader chooses the model and the system prompt of a chat that has not begun; None: the default."""

    model: str | None = None
    system: str | None = None


class Export(_Command):
    """The reader wants the chat as a file."""

    kind: Literal["markdown", "notebook"]


Command = (
    Hello | Send | Stop | Retry | Again | Edit | Branch | List | Open | New | Rename | Delete | About | Set | Export
)


def parse(message: object) -> Command:
    """Return what a front end wants.

    Raises:
        InvalidRequest: it is none of our messages, or a field is missing or of another type.
    """
    try:
        command: Command = msgspec.convert(message, Command)
        return command
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"the page sent a message that cannot be understood ({str(error)[:200]}); reload the page"
        ) from None


def start_message(turn: LiveTurn, question_id: str) -> Json:
    """Return what begins a turn on screen; ``question_id`` is that of a message already there when asking again."""
    return {
        "t": "start",
        "turn": turn.id,
        "message_id": turn.message_id,
        "user_message_id": question_id,
        "text": turn.question,
        "model": turn.model,
        "title": turn.chat.title,
    }


def usage_message(turn: LiveTurn) -> Json:
    """Return what a running turn has used so far; output tokens are an estimate until the turn ends."""
    usage = turn.usage
    return {
        "t": "usage",
        "turn": turn.id,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
        "cost_usd": amount(cost_and_source(turn.model, usage, turn.started_at)[0]),
    }


def end_message(turn_id: str, reply: Reply, chat_cost_usd: Decimal | None) -> Json:
    """Return what ends a turn on screen."""
    return {
        "t": "end",
        "turn": turn_id,
        "message_id": reply.message_id,
        "status": reply.status,
        "stop_reason": reply.stop_reason,
        "len": len(reply.text),
        "footer": reply.footer,
        "chat_cost_usd": amount(chat_cost_usd),
    }


STOPPED: Json = {
    "error": "Stopped",
    "message": "it was stopped before anything was sent",
    "type": "stopped",
    "retryable": True,
    "retry_after": None,
}


def failure(error: BaseException) -> Json:
    """Return an error as the reader should see it."""
    if isinstance(error, WorkbenchError):
        sentence, kind, retryable = str(error), error.type, error.retryable
    else:
        sentence = f"the workbench itself failed ({type(error).__name__}); ask again, the kernel's log says more"
        kind, retryable = "internal_error", True
    return {
        "error": "Chat failed",
        "message": sentence,
        "type": kind,
        "retryable": retryable,
        "retry_after": getattr(error, "retry_after", None),
    }


def err_message(details: Json, *, turn: str | None = None, c: str | None = None) -> Json:
    """Return what reports a failure: of a turn, of the message ``c``, or of the chat as a whole."""
    return {"t": "err", "turn": turn, "c": c, **details}


def amount(usd: Decimal | None) -> str | None:
    """Return US dollars as they cross to the page: exact, never a float; None when unknown."""
    return None if usd is None else format(usd, "f")
