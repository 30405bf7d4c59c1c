"""Message Batches: many questions in one request, answered within 24 hours at half the price.

Source: https://platform.claude.com/docs/en/build-with-claude/batch-processing and anthropic 2.12,
``resources/messages/batches.py``.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import msgspec

from workbench.claude import Fold, StreamFault, WholeMessage
from workbench.errors import UpstreamError, UpstreamRefused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence

    from workbench.claude import Claude
    from workbench.turns import Answer, Request

PATH = "/v1/messages/batches"
MOST_REQUESTS = 100_000
"""Of one batch; the API's own limit."""
MOST_BYTES = 128 * 1024 * 1024
"""Of one batch; the API takes 256 MB, which a slow line does not send in time."""
PAGE = 100
"""Batches asked for at once, newest first."""
NO_BATCHES = (404, 405, 501)
"""How servers answer that have none."""
T = TypeVar("T")
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Counts(msgspec.Struct, frozen=True):
    """Questions of a batch by what became of them; all are ``processing`` until the whole batch has ended."""

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired

    def __add__(self, other: Counts) -> Counts:
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return Counts(*(mine + theirs for mine, theirs in pairs))


class UpstreamBatch(msgspec.Struct, frozen=True):
    """A batch as the API tells of it."""

    id: str
    processing_status: str
    created_at: Instant
    request_counts: Counts
    archived_at: Instant | None = None

    @property
    def ended(self) -> bool:
        return self.processing_status == "ended"


class _Page(msgspec.Struct):
    data: list[UpstreamBatch]
    has_more: bool = False


class _Error(msgspec.Struct):
    type: str = "api_error"
    message: str = ""


class _ErrorResponse(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


class _Result(msgspec.Struct):
    type: str
    message: WholeMessage | None = None
    error: _ErrorResponse | None = None


class _Named(msgspec.Struct):
    custom_id: str


class _Line(msgspec.Struct):
    result: _Result


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one question."""

    custom_id: str
    kind: Literal["succeeded", "errored", "canceled", "expired", "unreadable"]
    message: WholeMessage | None = None
    error: UpstreamError | None = None


class NoBatches(UpstreamRefused):
    """The server has no Message Batches."""


async def create(upstream: Claude, requests: Mapping[str, bytes]) -> UpstreamBatch:
    """Ask questions together; each is an encoded body by the id under which its result comes back.

    Raises:
        NoBatches: this server cannot.
        UpstreamError: :func:`surely_not_created` says of it whether the batch may be there all the same.
    """
    parts = (b'{"custom_id":' + msgspec.json.encode(id) + b',"params":' + body + b"}" for id, body in requests.items())
    content = b'{"requests":[' + b",".join(parts) + b"]}"
    try:
        answer = await upstream.json("post", PATH, content=content)
    except UpstreamError as error:
        if error.status in NO_BATCHES:
            raise NoBatches(
                f"{upstream.name} has no Message Batches at this address ({error.status}); leave batch out, or "
                "check ANTHROPIC_BASE_URL",
                status=error.status,
                billed=False,
            ) from None
        raise
    return _decoded(answer, UpstreamBatch)


def surely_not_created(error: UpstreamError) -> bool:
    """Whether a batch that could not be created is certainly not there: it was refused, or never sent."""
    if error.billed:
        return False
    return error.status is None or error.status in (*NO_BATCHES, 529) or (error.status < 500 and error.status != 408)


async def retrieve(upstream: Claude, id: str) -> UpstreamBatch:
    """Return how far a batch is."""
    try:
        return _decoded(await upstream.json("get", _path(id)), UpstreamBatch)
    except UpstreamError as error:
        raise _unknown(upstream, id, error) from None


async def cancel(upstream: Claude, id: str) -> UpstreamBatch:
    """Stop a batch; what is being answered is, and what was answered can be had."""
    try:
        return _decoded(await upstream.json("post", f"{_path(id)}/cancel", content=b"{}"), UpstreamBatch)
    except UpstreamError as error:
        raise _unknown(upstream, id, error) from None


async def newest(upstream: Claude, since: datetime) -> list[UpstreamBatch]:
    """Return the batches created since then, newest first."""
    found: list[UpstreamBatch] = []
    params: dict[str, Any] = {"limit": PAGE}
    while True:
        page = _decoded(await upstream.json("get", PATH, options={"params": params}), _Page)
        recent = [batch for batch in page.data if batch.created_at >= since]
        found += recent
        if not page.has_more or not recent or len(recent) < len(page.data) or recent[-1].id == params.get("after_id"):
            return found
        params["after_id"] = recent[-1].id


async def results(upstream: Claude, id: str, model: str) -> AsyncGenerator[Result]:
    """Give what became of each question to a model, in any order; lines that say of none are left out.

    Raises:
        UpstreamError: it broke off, or the results are no longer there.
    """
    try:
        async with aclosing(upstream.lines(f"{_path(id)}/results")) as lines:
            async for line in lines:
                if (result := _result(upstream, line, model)) is not None:
                    yield result
    except UpstreamError as error:
        raise _unknown(upstream, id, error) from None


def encoded(upstream: Claude, request: Request) -> bytes:
    """Return the body of a question in a batch."""
    return msgspec.json.encode(upstream.body(request), enc_hook=str.__str__)  # NumPy's own kind of text


def split(sizes: Sequence[int]) -> Iterator[slice]:
    """Give the parts of questions that fit into one batch each, by the bytes of their bodies.

    >>> list(split([1] * 3))
    [slice(0, 3, None)]
    """
    begin = size = 0
    for at, bytes_of_one in enumerate(sizes):
        if at > begin and (at - begin == MOST_REQUESTS or size + bytes_of_one > MOST_BYTES):
            yield slice(begin, at)
            begin, size = at, 0
        size += bytes_of_one + 100  # its id, and what is around it
    if sizes:
        yield slice(begin, len(sizes))


def take(result: Result, answer: Answer) -> None:
    """Fill an answer with the message of a result.

    Raises:
        StreamFault: it is none.
    """
    if result.message is None:
        raise StreamFault(None, "a result without its message")
    Fold(answer).whole(result.message)


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum."""
    return sum(counts, Counts())


def _result(upstream: Claude, line: bytes, model: str) -> Result | None:
    try:
        custom_id = _decode_named(line).custom_id
    except UNREADABLE:
        return None
    try:
        result = _decode_line(line).result
    except UNREADABLE:
        return Result(custom_id, "unreadable")
    match result.type:
        case "succeeded" if result.message is not None:
            return Result(custom_id, "succeeded", result.message)
        case "errored":
            error = (result.error or _ErrorResponse()).error
            made = upstream.reported(error.type, error.message, model)
            return Result(custom_id, "errored", error=made)
        case "canceled" | "expired":
            return Result(custom_id, result.type)
    return Result(custom_id, "unreadable")


_decode_named = msgspec.json.Decoder(_Named).decode
_decode_line = msgspec.json.Decoder(_Line).decode


def _decoded(answer: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except UNREADABLE:
        raise UpstreamError(
            "the server's answer about a batch is not in the API's format; is ANTHROPIC_BASE_URL the address of a "
            "server that speaks the Anthropic Messages API?"
        ) from None


def _path(id: str) -> str:
    return f"{PATH}/{quote(id, safe='')}"


def _unknown(upstream: Claude, id: str, error: UpstreamError) -> UpstreamError:
    """The same error, but for a batch that is not there."""
    if error.status != 404:
        return error
    return UpstreamRefused(
        f"{upstream.name} does not know the batch {id!r}, or no longer has its results (404); use the key it was made "
        f"with, or give it up: wb.map_cancel({id!r})",
        status=404,
    )
