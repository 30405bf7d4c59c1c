"""One turn as an HTTP answer: a stream of server-sent events, or one JSON object folded from the same turn.

The turn runs inside the answer. It is entered before anything is sent, so what is refused or fails before the
upstream's first event keeps its real status; it ends with the answer, whether that is read out, fails, is left by its
client or cut short because the server stops; and only a turn that is in the ledger is said to be done.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, Self

from anyio import CancelScope
from msgspec import UNSET
from starlette.responses import Response

from server import shapes
from server.problems import Stopping, described
from server.shapes import encode
from workbench.wording import exact, instant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from starlette.types import Receive, Scope, Send

    from workbench.turns import Delta, LiveTurn, Reply

PING_SECONDS = 15.0
"""Silence after which a comment is sent: proxies cut connections that are silent for 29 to 60 s."""
STALL_SECONDS = 30.0
"""A client that reads nothing for so long is taken for gone; it would hold the upstream and the budget for ever."""
STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}
_LINE_ENDS = [(letter.encode(), b"\\u%04x" % ord(letter)) for letter in "\u0085\u2028\u2029"]


class Work:
    """The work for one request: cancelled when its client leaves, or when the server can wait no longer."""

    def __init__(self, receive: Receive, at_work: set[Work]) -> None:
        self.ended_by: Literal["client", "server"] | None = None
        self._receive = receive
        self._at_work = at_work
        self._scope = CancelScope()

    async def __aenter__(self) -> Self:
        self._scope.__enter__()
        self._at_work.add(self)
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._watching.cancel()
        self._at_work.discard(self)
        swallowed = self._scope.__exit__(kind, error, traceback)
        if not self._scope.cancelled_caught:
            self.ended_by = None  # it had come to its end by itself, and its answer is said
        return swallowed

    def end(self, by: Literal["client", "server"]) -> None:
        """Stop the work; the turn is closed and recorded at once."""
        self.ended_by = self.ended_by or by
        self._scope.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.end("client")


class TurnResponse(Response):
    """The answer of one turn."""

    def __init__(
        self,
        turn: AbstractAsyncContextManager[LiveTurn],
        request_id: str,
        at_work: set[Work],
        more_headers: Mapping[str, str],
    ) -> None:
        """Prepare; the turn is entered when the answer is sent.

        Args:
            turn: Not entered yet.
            request_id: Of the request it answers.
            at_work: Where the work for all requests is known, so that the server can end it.
            more_headers: Of the answer, besides those that every one has.
        """
        super().__init__()
        self.turn = turn
        self.request_id = request_id
        self.at_work = at_work
        self.more_headers = more_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the turn and answer with it."""
        async with Work(receive, self.at_work) as work:
            await self.run(send, work)
        if work.ended_by == "server":
            await self.stopped(send)

    async def run(self, send: Send, work: Work) -> None:
        raise NotImplementedError

    async def stopped(self, send: Send) -> None:
        """Say that the server stops; nothing was said so far."""
        raise Stopping


class WholeReply(TurnResponse):
    """The reply in one piece, when the turn has ended."""

    media_type = "application/json"

    async def run(self, send: Send, work: Work) -> None:
        """Fold the stream, then answer."""
        async with self.turn as turn:
            async for _ in turn.batches():
                pass
        headers = {**self.more_headers, **_budget_headers(turn)}
        response = Response(
            encode(_chat_reply(turn.reply, self.request_id, **_budget(turn))), 200, headers, self.media_type
        )
        await send({"type": "http.response.start", "status": 200, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})


class StreamedReply(TurnResponse):
    """The reply as server-sent events, one write for all that one read from the upstream brought."""

    media_type = "text/event-stream"

    def __init__(
        self,
        turn: AbstractAsyncContextManager[LiveTurn],
        request_id: str,
        at_work: set[Work],
        more_headers: Mapping[str, str],
        *,
        ping_seconds: float = PING_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        super().__init__(turn, request_id, at_work, more_headers)
        self.ping_seconds = ping_seconds
        self.stall_seconds = stall_seconds
        self.live: LiveTurn | None = None
        """Known from when the headers are sent."""
        self.last: shapes.Done | shapes.Failed | None = None
        """The last event, once the turn has ended."""

    async def run(self, send: Send, work: Work) -> None:
        """Stream the turn; its last event is sent when the turn is in the ledger."""
        writer = _Writer(send, work, self.ping_seconds, self.stall_seconds)
        try:
            async with self.turn as turn:
                self.live = turn
                headers = {**STREAM_HEADERS, **self.more_headers, **_budget_headers(turn)}
                await writer.open(headers, _event(_first(turn, self.request_id)))
                async for batch in turn.batches():
                    if events := _tokens(batch):
                        await writer.write(events)
            self.last = _done(turn.reply)
        except Exception as error:
            if self.live is None:
                raise
            self.last = self._failed(self.live, error)
        finally:
            writer.close()
        await writer.write(_event(self.last), more=False)

    async def stopped(self, send: Send) -> None:
        """Say that the server stops, with a status of its own or as the last event."""
        if self.live is None:
            raise Stopping
        last = self.last or self._failed(self.live, Stopping())  # the client may just not have read it yet
        await send({"type": "http.response.body", "body": _event(last)})

    def _failed(self, turn: LiveTurn, error: Exception) -> shapes.Failed:
        _, problem = described(error, "Stream failed", self.request_id)
        return shapes.Failed(
            error="Stream failed",
            message=problem.message,
            type=problem.type,
            retryable=problem.retryable,
            retry_after=problem.retry_after,
            usage=shapes.usage(turn.usage),
            cost_usd=exact(turn.cost_usd),
            chat_id=turn.chat.id,
            message_id=turn.message_id,
            request_id=self.request_id,
        )


def replayed(reply: Reply, request_id: str, headers: Mapping[str, str], *, streamed: bool) -> Response:
    """Return the answer of a turn that was answered before."""
    headers = {**headers, "idempotent-replayed": "true"}
    if not streamed:
        return Response(encode(_chat_reply(reply, request_id)), 200, headers, WholeReply.media_type)
    first = shapes.First(chat_id=reply.chat_id, message_id=reply.message_id, model=reply.model, request_id=request_id)
    events = _event(first) + _event(shapes.Token(token=reply.text)) + _event(_done(reply))
    return Response(events, 200, {**headers, **STREAM_HEADERS})


class _Writer:
    """Writes events, and a comment when there was none for a while."""

    def __init__(self, send: Send, work: Work, ping_seconds: float, stall_seconds: float) -> None:
        self._send = send
        self._work = work
        self._ping_seconds = ping_seconds
        self._stall_seconds = stall_seconds
        self._pinging: asyncio.Task[None] | None = None

    async def open(self, headers: Mapping[str, str], first: bytes) -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        await self.write(first)
        self._pinging = asyncio.create_task(self._ping())

    async def write(self, events: bytes, *, more: bool = True) -> None:
        if not events.isascii():
            events = _on_its_lines(events)
        self._wrote_at = monotonic()
        try:
            async with asyncio.timeout(self._stall_seconds):
                await self._send({"type": "http.response.body", "body": events, "more_body": more})
        except TimeoutError:
            self._work.end("client")

    def close(self) -> None:
        """Ping no more: after the last event nothing may be written."""
        if self._pinging is not None:
            self._pinging.cancel()

    async def _ping(self) -> None:
        while True:
            wait = self._wrote_at + self._ping_seconds - monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            else:
                await self.write(b": ping\n\n")


def _event(shape: shapes.First | shapes.Token | shapes.Done | shapes.Failed) -> bytes:
    return b"data: " + _on_its_lines(encode(shape)) + b"\n\n"


def _tokens(batch: list[Delta]) -> bytes:
    return b"".join(
        b'data: {"token":' + encode(delta.text) + b',"done":false}\n\n'  # a Token, four times as fast
        for delta in batch
        if delta.kind == "text" and delta.text
    )


def _on_its_lines(events: bytes) -> bytes:
    """Escape what is a letter in an event stream and a line end to many a reader: Python's splitlines for one."""
    for raw, escaped in _LINE_ENDS:
        events = events.replace(raw, escaped)
    return events


def _budget_headers(turn: LiveTurn) -> dict[str, str]:
    left = exact(turn.budget_left_usd)
    return {} if left is None else {"x-budget-remaining-usd": left}


def _budget(turn: LiveTurn) -> dict[str, Any]:
    """What the client is told when there is a budget."""
    if turn.budget is None:
        return {}
    told: dict[str, Any] = {"budget_remaining_usd": exact(turn.budget_left_usd)}
    if turn.budget.nearly_spent:
        told["budget_nearly_spent"] = True
    if turn.shortened:
        told["max_tokens"] = turn.max_tokens
    return told


def _first(turn: LiveTurn, request_id: str) -> shapes.First:
    return shapes.First(
        chat_id=turn.chat.id,
        message_id=turn.message_id,
        model=turn.model,
        request_id=request_id,
        prompt=UNSET if turn.prompt is None else str(turn.prompt),
        experiment=UNSET if turn.exposure is None else turn.exposure.experiment,
        variant=UNSET if turn.exposure is None else turn.exposure.variant,
        **_budget(turn),
    )


def _done(reply: Reply) -> shapes.Done:
    return shapes.Done(
        fullText=reply.text,
        usage=shapes.usage(reply.usage),
        cost_usd=exact(reply.cost_usd),
        chat_id=reply.chat_id,
        message_id=reply.message_id,
        stop_reason=reply.stop_reason,
    )


def _chat_reply(reply: Reply, request_id: str, **budget: Any) -> shapes.ChatReply:
    return shapes.ChatReply(
        chat_id=reply.chat_id,
        message_id=reply.message_id,
        reply=reply.text,
        created_at=instant(reply.created_at),
        usage=shapes.usage(reply.usage),
        cost_usd=exact(reply.cost_usd),
        model=reply.model,
        stop_reason=reply.stop_reason,
        prompt=reply.prompt,
        experiment=reply.experiment,
        variant=reply.variant,
        request_id=request_id,
        **budget,
    )
