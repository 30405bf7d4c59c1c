"""What an export is read into: calls, and chats made of turns; and how its loose values become strict ones.

Whoever wrote the file is not trusted: every value is checked here before it comes near the store.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from workbench.attachments import clean
from workbench.estimates import AROUND_A_QUESTION, text_tokens
from workbench.turns import LOCAL_MODEL, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from workbench.turns import Status

MOST_TOKENS = 100_000_000
"""No call has more; a larger count is a mistake, and the sums of such would not fit the ledger."""
MOST_MS = 2**31 - 1
EARLIEST = datetime(2015, 1, 1, tzinfo=UTC)
LONGEST_NAME = 200
KEPT_PROBLEMS = 100
_NUMBER = re.compile(r"[-+.0-9eE]{1,30}")
_DIGITS = re.compile(r"[0-9]{1,18}")
_NAMESPACE = UUID("6ff6c4b9-6a0f-5d52-9d0c-1f5a1f0f7c1e")


class Malformed(Exception):
    """Something cannot be read as what it should be; the message completes "the line …"."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a file that was skipped, and why. ``line`` is where it begins, None where there are no lines."""

    path: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.path}{f':{self.line}' if self.line else ''}: {self.reason}"


@dataclass(slots=True)
class Notes:
    """What did not become a call: the first problems, how many there were, and what was left out on purpose."""

    problems: list[Problem] = field(default_factory=list)
    malformed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def problem(self, path: str, line: int | None, reason: object) -> None:
        """Count something that cannot be read."""
        self.malformed += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(Problem(path, line, str(reason)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call to a model. ``key`` tells it from all others of its format, for ever."""

    key: str
    model: str
    at: datetime
    usage: Usage
    request_id: str
    session: str | None = None
    """What it belongs to, where that is not a chat whose messages are known too."""
    user: str | None = None
    status: Status = "complete"
    error_type: str | None = None
    stop_reason: str | None = None
    ttft_ms: int | None = None
    duration_ms: int | None = None
    upstream_request_id: str | None = None
    priced: tuple[Decimal | None, str] | None = None
    """What it cost and who says so, where it is not for our price table to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question, its reply, and the call that made it."""

    call: Call
    question: str
    reply: str
    asked_at: datetime
    question_tokens: int
    attached: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A chat. ``key`` as of a call."""

    key: str
    title: str
    turns: list[Turn]
    begun_at: datetime
    system: str | None = None


@dataclass(slots=True, kw_only=True)
class Said:
    """One message of an export that tells no usage."""

    key: str
    role: str
    """``user``, or ``assistant`` for all that the model wrote."""
    at: datetime
    text: str = ""
    unseen: str = ""
    """What the model wrote but people do not read, such as code for a tool."""
    model: str | None = None
    attached: tuple[str, ...] = ()


def turns_of(said: Iterable[Said], model: str, priced: tuple[Decimal | None, str] | None = None) -> list[Turn]:
    """Return the turns of a chat whose usage nobody wrote down: every count is estimated, and marked so.

    Each call is taken to send the whole chat so far, and nothing of it to come from a cache. Messages in a row of the
    same side are one; a question without a reply is no turn.
    """
    turns: list[Turn] = []
    before = 0
    for questions, replies in _exchanges(said):
        question = "\n\n".join(one.text for one in questions if one.text)
        reply = "\n\n".join(one.text for one in replies if one.text)
        attached = tuple(text for one in questions for text in one.attached)
        asked = AROUND_A_QUESTION + text_tokens(question) + sum(map(text_tokens, attached))
        written = text_tokens(reply) + sum(text_tokens(one.unseen) for one in replies)
        usage = Usage(uncached_input_tokens=min(before + asked, MOST_TOKENS), output_tokens=written, estimated=True)
        first = replies[0]
        call = Call(
            key=first.key,
            model=next((one.model for one in replies if one.model), model),
            at=first.at,
            usage=usage,
            request_id=first.key,
            priced=priced,
        )
        asked_at = questions[0].at if questions else first.at
        turns.append(
            Turn(
                call=call,
                question=question,
                reply=reply,
                asked_at=asked_at,
                question_tokens=asked,
                attached=attached,
            )
        )
        before += asked + written
    return turns


def _exchanges(said: Iterable[Said]) -> Iterable[tuple[list[Said], list[Said]]]:
    questions: list[Said] = []
    replies: list[Said] = []
    for one in said:
        if one.role == "user" and replies:
            yield questions, replies
            questions, replies = [], []
        (questions if one.role == "user" else replies).append(one)
    if replies:
        yield questions, replies


def id_of(*parts: str) -> str:
    """Return the id that what these parts name has in every import: the same parts, the same UUID."""
    return str(uuid5(_NAMESPACE, "\x1f".join(parts)))


# Loose values -------------------------------------------------------------------------------------------------------


def text(value: object) -> str:
    """Return a text as every store takes it, '' for what is none."""
    return clean(value) if isinstance(value, str) else ""


def name(value: object) -> str:
    """Return a short text such as an id, '' for what is none."""
    return text(value)[:LONGEST_NAME].strip()


def or_none(value: object) -> str | None:
    """Return a short text, None for what is none."""
    return name(value) or None


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object of JSON, an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return an array of JSON, an empty one for what is none."""
    return value if isinstance(value, list) else []


def count(values: Mapping[str, Any], key: str) -> int:
    """Return how many of something there were; none when nothing says so.

    Raises:
        Malformed: it is no number, or one that cannot be.
    """
    value = values.get(key)
    if value is None or value == "":
        return 0
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and _DIGITS.fullmatch(value)):
        number = int(value)
    if number is None or not 0 <= number <= MOST_TOKENS:
        raise Malformed(f"has {_shown(value)} for {key}, which is no count")
    return number


def milliseconds(value: object) -> int | None:
    """Return a duration as the ledger keeps it, None where there is none that makes sense."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_MS:
        return None
    return round(value)


def moment(value: object) -> datetime:
    """Return a time, written as in ISO 8601 (UTC if it names no zone) or in seconds since 1970.

    Raises:
        Malformed: it is none, or one before 2015 or after tomorrow.
    """
    none = Malformed(f"has {_shown(value)} where its time should be")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise none
    try:
        at = datetime.fromisoformat(value.strip()) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
        at = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise none from None
    if not EARLIEST <= at <= datetime.now(UTC) + timedelta(days=1):
        raise Malformed(f"is of {at:%Y-%m-%d}, when there can have been no such call")
    return at


def _shown(value: object) -> str:
    """A value for a message, which must hold nothing that anybody said."""
    if value is None:
        return "nothing"
    number = isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value))
    return str(value)[:30] if number else f"a value of type {type(value).__name__}"


def model_name(value: object, otherwise: str) -> str:
    """Return the name of a model as the price table has it, without ``anthropic/`` before it."""
    model = name(value).removeprefix("anthropic/") or otherwise
    # our own embedded model costs nothing; who else calls one local may pay for it
    return f"imported-{LOCAL_MODEL}" if model == LOCAL_MODEL else model


def anthropic_usage(usage: Mapping[str, Any], *, estimated: bool = False) -> Usage:
    """Return the counts of a usage object of the Messages API.

    Raises:
        Malformed: a count that cannot be.
    """
    written = mapping(usage.get("cache_creation"))
    write_5m = count(written, "ephemeral_5m_input_tokens")
    write_1h = count(written, "ephemeral_1h_input_tokens")
    # older ones tell only the sum; an hour had to be asked for
    write_5m += max(0, count(usage, "cache_creation_input_tokens") - write_5m - write_1h)
    output = count(usage, "output_tokens")
    geo = or_none(usage.get("inference_geo"))
    return Usage(
        uncached_input_tokens=count(usage, "input_tokens"),
        cache_read_tokens=count(usage, "cache_read_input_tokens"),
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        output_tokens=output,
        thinking_tokens=min(output, count(mapping(usage.get("output_tokens_details")), "thinking_tokens")),
        web_searches=count(mapping(usage.get("server_tool_use")), "web_search_requests"),
        service_tier=or_none(usage.get("service_tier")),
        inference_geo=None if geo == "not_available" else geo,
        speed=or_none(usage.get("speed")),
        estimated=estimated,
    )
