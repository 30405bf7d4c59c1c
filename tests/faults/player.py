"""Plays a scripted reply into a connection: its pace, its pauses, and the way it breaks."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Protocol

from .connection import Connection, Request, chunk, head
from .frames import LIMIT_HEADERS, STREAM_HEADERS, Usage, compact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .replies import Answer, Break, Reply

BATCH = 32_768  # bytes per write of an unpaced stream
Piece = tuple[bytes, bool]  # the bytes of one frame; whether it is a delta


class Stage(Protocol):
    """What a player needs from the upstream: counting and gates."""

    def sent(self, request: Request, tokens: int) -> None: ...
    async def gate(self) -> None: ...


class Player:
    """One reply on its way to one client."""

    def __init__(self, stage: Stage, request: Request, connection: Connection, usage: Usage) -> None:
        assert request.reply is not None
        self.stage, self.request, self.connection, self.usage = stage, request, connection, usage
        self.reply: Reply = request.reply
        self.model = str((request.body or {}).get("model"))
        self.message_id = request.request_id.replace("req_", "msg_")

    async def play(self) -> None:
        reply = self.reply
        if reply.pause_before:
            await self.stage.gate()
        if reply.headers_after and not reply.opening:
            await asyncio.sleep(reply.headers_after)
        if reply.opening:
            await self._break_opening()
        elif reply.answer:
            await self._answer(reply.answer)
        elif self.request.body.get("stream") and reply.wire.transport != "json":
            await self._stream()
        else:
            await self._message()
        if reply.wire.close and self.request.status:
            self.connection.cut()

    def _headers(self, own: dict[str, str], *, request_id: bool = True) -> dict[str, str]:
        headers = dict(own)
        if request_id and self.reply.wire.dialect == "anthropic":
            headers |= {"request-id": self.request.request_id} | LIMIT_HEADERS
        if self.reply.wire.close == "announced":
            headers["connection"] = "close"
        return headers | dict(self.reply.headers)

    # before the stream

    async def _break_opening(self) -> None:
        match self.reply.opening:
            case "hang":
                await self._silence(self.reply.headers_after)
            case "half_headers":
                await self.connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-st")
            case "garbage":
                await self.connection.send(bytes(range(128, 256)) + b"\r\n\r\n")
        if self.reply.opening == "reset":
            self.connection.reset()
        else:
            self.connection.cut()

    async def _silence(self, seconds: float | None) -> None:
        """Wait, for ever if no time is given: then a client that leaves cancels us."""
        await (asyncio.sleep(seconds) if seconds else asyncio.Event().wait())

    async def _answer(self, answer: Answer) -> None:
        self.request.status = answer.status
        body = answer.body.replace(b"{request_id}", self.request.request_id.encode())
        body = body.replace(b"req_in_stream", self.request.request_id.encode())
        await self.connection.respond(
            answer.status, self._headers(dict(answer.headers), request_id=answer.request_id), body
        )

    # not streamed

    async def _message(self) -> None:
        """The reply as JSON; what breaks a stream breaks its body in the middle."""
        await asyncio.sleep(self.reply.ttft + self.reply.delay * self.reply.tokens)
        body = compact(self.reply.message(self.message_id, self.model, self.usage)).encode()
        headers = self._headers({"content-type": "application/json"})
        self.request.status = 200
        if self.reply.wire.transport == "gzip":
            body, headers["content-encoding"] = zlib.compress(body, wbits=31), "gzip"
        if self.reply.breaks is None:
            self.stage.sent(self.request, self.reply.tokens)
            await self.connection.respond(200, headers, body)
            return
        await self.connection.send(head(200, headers | {"content-length": str(len(body))}) + body[: len(body) // 2])
        await self._end("cut" if self.reply.breaks.ending == "finish" else self.reply.breaks.ending, self.reply.breaks)

    # streamed

    async def _stream(self) -> None:
        self.request.status = 200
        pieces, breaks = self._pieces()
        own = dict(STREAM_HEADERS)
        match self.reply.wire.transport:
            case "eof":
                own["connection"] = "close"
            case "gzip":
                own |= {"content-encoding": "gzip", "transfer-encoding": "chunked"}
            case _:
                own["transfer-encoding"] = "chunked"
        opening = head(200, self._headers(own))
        ending = breaks.ending if breaks else "finish"
        tail = b"0\r\n\r\n" if ending == "finish" and self.reply.wire.transport != "eof" else b""
        if self.reply.delay or self.reply.ttft or self.reply.pause_after:
            await self.connection.send(opening)
            await self._paced(pieces, tail)
        else:
            await self._unpaced(opening, pieces, tail)
        if not tail:
            await self._end(ending, breaks)

    def _pieces(self) -> tuple[list[Piece], Break | None]:
        """The frames to send, and the break that ends them."""
        pieces = self.reply.pieces(self.message_id, self.model, self.usage)
        breaks = self.reply.breaks
        if breaks is None:
            return pieces, None
        at = len(pieces) - 1 if breaks.after is None else _position(pieces, breaks.after)
        extra = breaks.extra.replace(b"req_in_stream", self.request.request_id.encode())
        if breaks.ending == "go_on":
            return [*pieces[:at], (extra, False), *pieces[at:]], None
        return [*pieces[:at], (extra, False)] if extra else pieces[:at], breaks

    async def _unpaced(self, opening: bytes, pieces: list[Piece], tail: bytes) -> None:
        """All at once, in few writes."""
        buffer, size, tokens = [opening], 0, 0
        wrapped = self._wrap(pieces)
        for data, token in wrapped:
            buffer.append(data)
            size += len(data)
            tokens += token
            if size > BATCH or self.reply.wire.transport in ("bytes", "halves"):
                self.stage.sent(self.request, tokens)
                await self.connection.send(b"".join(buffer))
                buffer, size, tokens = [], 0, 0
                await asyncio.sleep(0)  # other streams have their turn, and a client that left is noticed
        self.stage.sent(self.request, tokens)
        await self.connection.send(b"".join([*buffer, tail]))

    async def _paced(self, pieces: list[Piece], tail: bytes) -> None:
        """One write per delta, on a schedule that does not drift."""
        reply, loop = self.reply, asyncio.get_running_loop()
        pauses, tokens = set(reply.pause_after), 0
        due = loop.time() + reply.ttft
        buffer: list[bytes] = []
        for data, token in self._wrap(pieces):
            if token:
                await self._flush(buffer, 0)
                if tokens in pauses:
                    await self.stage.gate()
                    due = loop.time()
                await asyncio.sleep(due - loop.time())
                due += reply.delay
                tokens += 1
            buffer.append(data)
            if token:
                await self._flush(buffer, 1)
        if tokens in pauses:
            await self._flush(buffer, 0)
            await self.stage.gate()
        await self._flush([*buffer, tail], 0)

    async def _flush(self, buffer: list[bytes], tokens: int) -> None:
        if data := b"".join(buffer):
            buffer.clear()
            if tokens:
                self.stage.sent(self.request, tokens)
            await self.connection.send(data)

    def _wrap(self, pieces: list[Piece]) -> Iterator[Piece]:
        """Frames as they go over the wire: chunked, split, joined or compressed."""
        wire = self.reply.wire
        if wire.prefix:
            pieces = [(wire.prefix + pieces[0][0], pieces[0][1]), *pieces[1:]]
        match wire.transport:
            case "bytes":
                return _split(pieces, lambda data: [data[n : n + 1] for n in range(len(data))])
            case "halves":
                return _split(pieces, lambda data: [data[: len(data) // 2], data[len(data) // 2 :]])
            case "together":
                joined = b"".join(data for data, _ in pieces)
                return iter([(chunk(joined), False), *((b"", token) for _, token in pieces)])
            case "gzip":
                return _compressed(pieces)
            case "eof":
                return iter(pieces)
        return ((chunk(data), token) for data, token in pieces)

    async def _end(self, ending: str, breaks: Break | None) -> None:
        """The end of a body that has no proper one; the connection ends with it."""
        connection = self.connection
        match ending:
            case "reset":
                await asyncio.sleep(0.02)  # let the client read: a reset may discard what is under way
                return connection.reset()
            case "stall":
                await self._silence(breaks.seconds if breaks else None)
            case "flood":
                await connection.flood(breaks.size if breaks else 0)
            case "bad_chunk":
                await asyncio.sleep(0.02)  # aiohttp drops what it reads together with a bad chunk
                await connection.send(b"duck\r\nquack\r\n")
        connection.cut()
        return None


def _position(pieces: list[Piece], after: int) -> int:
    """Where to break: behind so many deltas, or behind the last one if there are fewer."""
    places = [0, *(n + 1 for n, (_, token) in enumerate(pieces) if token)]
    if after == 0:  # behind what precedes the first delta
        return places[1] - 1 if len(places) > 1 else 1
    return places[min(after, len(places) - 1)] or 1


def _split(pieces: list[Piece], cut: Callable[[bytes], list[bytes]]) -> Iterator[Piece]:
    for data, token in pieces:
        parts = [part for part in cut(data) if part]
        for part in parts[:-1]:
            yield chunk(part), False
        yield chunk(parts[-1]), token


def _compressed(pieces: list[Piece]) -> Iterator[Piece]:
    packer = zlib.compressobj(wbits=31)
    for data, token in pieces:
        yield chunk(packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)), token
    yield chunk(packer.flush()), False
