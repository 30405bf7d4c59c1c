"""The messages between the chat box and Python, version 1; ``js/src/protocol.js`` explains every field."""

from __future__ import annotations

from datetime import datetime  # msgspec reads the annotation
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from workbench.attachments import summaries
from workbench.budgets import ends
from workbench.errors import BudgetExceeded, InvalidRequest, WorkbenchError
from workbench.history import question_blocks
from workbench.pricing import cost_and_source, costs_by_class
from workbench.wording import dollars

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal

    from workbench.budgets import Budget
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
    attachments: list[str] = []
    """Ids of ``attached`` messages, in the order in which they are sent."""


class Stop(_Command):
    """The reader wants no more of a turn; None: of whatever was asked last."""

    turn: str | None = None


class Retry(_Command):
    """The reader wants the question of a reply that did not end well asked again."""

    message_id: str


class Asset(_Command):
    """A view needs a part of the front end that is loaded only then."""

    name: str


class Estimate(_Command):
    """The reader types, and wants to know what that would cost."""

    text: str
    attachments: list[str] = []
    edit_of: str | None = None
    """The question in whose place it would be asked, with what went with that one."""


class Variables(_Command):
    """The reader wants to attach something, and to know what there is."""


class Attach(_Command):
    """The reader wants a variable attached."""

    name: str


class Older(_Command):
    """A reader has come to the first message shown."""

    before: str
    """Its id."""


class Again(_Command):
    """The reader wants another reply beside one that did end well: in a branch."""

    message_id: str


class Edit(_Command):
    """The reader asks otherwise than they did: in a branch, so that what was said stays."""

    message_id: str
    text: str
    attachments: list[str] = []
    """What goes with it besides what went with the question before."""


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


class Transcript(_Command):
    """A view wants what was said as text, for the notebook that is saved."""

    display: bool = False
    """It cannot write it there itself: the outputs are to be displayed anew."""


class About(_Command):
    """The reader looks at the model and the system prompt of the chat."""


class Prompt(_Command):
    """The reader looks at a prompt of the org."""

    reference: str


class Set(_Command):
    """The reader chooses the model, and a system prompt or a prompt, of a chat that has not begun; None: the default.

    A chat that has begun can be given another prompt.
    """

    model: str | None = None
    system: str | None = None
    prompt: str | None = None
    variables: dict[str, str] = {}


class Feedback(_Command):
    """The reader says what they think of a reply."""

    message_id: str
    score: Literal[1, -1]
    comment: str | None = None


class Export(_Command):
    """The reader wants the chat as a file."""

    kind: Literal["markdown", "notebook"]


Command: TypeAlias = (
    Hello
    | Send
    | Stop
    | Retry
    | Estimate
    | Variables
    | Attach
    | Asset
    | Older
    | Again
    | Edit
    | Branch
    | List
    | Open
    | New
    | Rename
    | Delete
    | Transcript
    | About
    | Prompt
    | Set
    | Feedback
    | Export
)


def parse(message: object) -> Command:
    """Return what a front end wants.

    Raises:
        InvalidRequest: it is none of our messages, or a field is missing or of another type.
    """
    try:
        command: Command = msgspec.convert(message, Command)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"the page sent a message that cannot be understood ({str(error)[:200]}); reload the page"
        ) from None
    return command


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
        "prompt": turn.prompt and str(turn.prompt),
        "attachments": summaries(question_blocks(turn.question, turn.attached)),
        "budget_left_usd": amount(turn.budget_left_usd),
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


def end_message(turn_id: str, reply: Reply, chat_cost_usd: Decimal | None, standing: Json) -> Json:
    """Return what ends a turn on screen; ``standing`` says how full context and budget are."""
    return {
        "t": "end",
        "turn": turn_id,
        "message_id": reply.message_id,
        "status": reply.status,
        "stop_reason": reply.stop_reason,
        "len": len(reply.text),
        "footer": reply.footer,
        "counts": counts(reply),
        **standing,
        "chat_cost_usd": amount(chat_cost_usd),
    }


COUNTS = {
    "uncached_input_tokens": "input",
    "cache_read_tokens": "input from cache",
    "cache_write_5m_tokens": "written to cache, 5 min",
    "cache_write_1h_tokens": "written to cache, 1 h",
    "output_tokens": "output",
}
"""The five disjoint counts of a call, and what people call them."""


def counts(reply: Reply) -> list[Json]:
    """Return what a call used and what each part cost; None where only the whole price is known."""
    usage = reply.usage
    costs = costs_by_class(reply.model, usage, reply.created_at)
    if costs is not None and sum(costs.values()) != reply.cost_usd:
        costs = None  # some of it was charged otherwise: the parts would not add up to what the ledger has
    rows = [
        {"what": what, "tokens": getattr(usage, name), "cost_usd": amount(None if costs is None else costs[name])}
        for name, what in COUNTS.items()
    ]
    if usage.thinking_tokens:
        rows[-1]["what"] = f"output, {usage.thinking_tokens:,} of it thinking"
    if usage.web_searches:
        cost = amount(None if costs is None else costs["web_searches"])
        rows.append({"what": "web searches, not tokens", "tokens": usage.web_searches, "cost_usd": cost})
    return rows


def standing_message(reply: Reply | None, context_window: int | None, budgets: Sequence[Budget], now: datetime) -> Json:
    """Return how full the context is after a reply, and what the tightest budget has left, with a warning from 80 % on."""
    used = None if reply is None else reply.usage.input_tokens + reply.usage.output_tokens
    context = None if used is None else {"used": used, "window": context_window}
    if not budgets:
        return {"context": context, "budget_left_usd": None, "budget_note": None}
    tightest = min(budgets, key=lambda budget: budget.left_usd)
    note = None
    if tightest.nearly_spent:
        part = (tightest.limit_usd - tightest.left_usd) / tightest.limit_usd if tightest.limit_usd else 1
        period = f" of this {tightest.period}" if tightest.period else ""
        whose = {"org": "your org's", "user": "your", "key": "this key's"}[tightest.scope]
        usd = dollars(tightest.limit_usd)
        note = f"{part:.0%} of {whose} budget of {usd}{period} is used{begins_anew(ends(tightest.period, now))}"
    return {"context": context, "budget_left_usd": amount(tightest.left_usd), "budget_note": note}


def begins_anew(at: datetime | None) -> str:
    """Return the end of a sentence on a budget: when it is whole again, and who can make it larger.

    >>> begins_anew(None)
    '; it has no period: only `workbench orgs set` makes it larger'
    """
    if at is None:
        return "; it has no period: only `workbench orgs set` makes it larger"
    return f"; it begins anew on {at.day} {at:%B %Y}, 00:00 UTC, and `workbench orgs set` makes it larger"


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
    title = "Chat failed"
    if isinstance(error, BudgetExceeded):
        title, sentence = "Budget exceeded", f"{sentence}{begins_anew(error.resets_at)}"
    return {
        "error": title,
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
