"""Claude, or any server that speaks the Anthropic Messages API. The only module that imports ``anthropic``.

The client keeps authentication, timeouts and typed errors; the body of a stream is read raw, split into server-sent
events and decoded here, which costs a sixth of the client's own path per token. Every way a call can fail becomes one
of ours, in the table at the end. Three are easy to miss: a dropped connection surfaces as a transport error, not as
``anthropic.APIError``; an overload in mid-stream is an ``error`` event in a response whose status was 200; a body that
just stops raises nothing and only lacks ``message_stop``.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import random
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from workbench.errors import (
    ConfigurationError,
    InvalidRequest,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from workbench.turns import Answer, Delta, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    import anthropic

    from workbench.turns import Request

T = TypeVar("T")

ATTEMPTS = 3
LONGEST_WAIT = 30.0
"""Seconds a retry may wait; an upstream that asks for more is reported instead, with its ``retry_after``."""
DRAIN_SECONDS = 0.05
"""How long the end of a body may take after the last event of a reply."""
LARGEST_EVENT = 32 * 1024 * 1024
"""Bytes; the API's own limit of a body."""
STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
}
"""Of errors that are no use asking again; in mid-stream and in a batch they come without."""


class Claude:
    """A connection to one upstream. It belongs to the event loop it is first used on."""

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None = None,
        name: str = "Claude",
        caching: bool = True,
        read_timeout: float = 300,
        pause: float = 0.5,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Prepare; nothing is sent and ``anthropic`` not imported before the first call.

        Args:
            api_key: Sent as a bearer token; servers on one's own machine take any.
            base_url: Without ``/v1``; the public API when None.
            name: What messages call the upstream.
            caching: Ask for prompt caching; pointless where nobody charges.
            read_timeout: Seconds without a byte after which the call counts as lost. Claude pings more often.
            pause: Seconds before the first retry, doubled for the next.
            sleep: What waits before a retry.

        Raises:
            ConfigurationError: the key cannot be sent as it is, or the base URL is no address.
        """
        self.name = name
        self._api_key = _sendable(api_key or "") or "none"
        self._base_url = _address(base_url) if base_url else None
        self._caching = caching
        self._read_timeout = read_timeout
        self._pause = pause
        self._sleep = sleep
        self._client: anthropic.AsyncAnthropic | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def stream(self, request: Request, answer: Answer) -> AsyncIterator[AsyncIterator[list[Delta]]]:
        """Send a request; once inside, its first event has arrived and ``answer`` fills as the stream is read.

        Each item is what one read from the upstream brought, possibly nothing. Leaving closes the connection.

        Raises:
            UpstreamError: after up to two retries before the first event, never after it.
        """
        async with AsyncExitStack() as stack:
            yield await self._opened(request, answer, stack)

    async def count_tokens(self, request: Request) -> int:
        """Return how many input tokens a request has. It costs nothing, but has a rate limit of its own.

        Raises:
            UpstreamError: it was not counted.
        """
        body = {name: value for name, value in self.body(request).items() if name in ("model", "messages", "system")}
        counted = await self._call(lambda client: client.messages.count_tokens(**body), request.model)
        return counted.input_tokens

    async def json(self, method: Literal["get", "post"], path: str, **sent: Any) -> bytes:
        """Return the body of an answer that is no stream.

        Args:
            method: How it is asked for.
            path: With its ``/v1``.
            sent: ``content`` (JSON, of a post) and ``options`` (``params``).

        Raises:
            UpstreamError: there is none.
        """
        import httpx2

        if "content" in sent:
            sent["options"] = {"headers": {"content-type": "application/json"}}
        response = await self._call(lambda client: getattr(client, method)(path, cast_to=httpx2.Response, **sent))
        return bytes(response.content)

    async def lines(self, path: str) -> AsyncGenerator[bytes]:
        """Give the lines of an answer, whole, as they arrive.

        Raises:
            UpstreamError: it broke off, or a line has no end.
        """
        headers = {"Accept": "application/binary", "X-Stainless-Raw-Response": "stream"}
        response: Any = await self._call(lambda client: client.get(path, cast_to=object, options={"headers": headers}))
        rest, nothing = b"", Answer()
        try:
            async with aclosing(response.http_response.aiter_bytes()) as body:
                while (piece := await self._piece(body, nothing)) is not None:
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        yield line
                    if len(rest) > LARGEST_EVENT:
                        raise UpstreamError(f"{self.name} sent a line of more than {LARGEST_EVENT:,} bytes")
        finally:
            await response.close()
        if rest:
            yield rest

    async def _call(self, ask: Callable[[anthropic.AsyncAnthropic], Awaitable[T]], model: str = "") -> T:
        client = await self.connect()
        import anthropic

        try:
            async with asyncio.timeout(self._read_timeout):
                return await ask(client)
        except anthropic.APIStatusError as error:
            failed = self._refusal(error, model)
        except _transport_errors() as error:
            failed = self._unreachable(error)
        raise failed  # without its context, as above

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _opened(self, request: Request, answer: Answer, stack: AsyncExitStack) -> AsyncIterator[list[Delta]]:
        for attempt in range(1, ATTEMPTS + 1):
            billed = answer.billed
            try:
                async with AsyncExitStack() as trial:
                    batches = await self._attempt(request, answer, trial)
                    stack.push_async_callback(trial.pop_all().aclose)
                    return batches
            except UpstreamError as error:
                error.billed = answer.billed = billed or error.billed
                wait = None if request.alone else self._wait(attempt, error)
                if wait is None:
                    raise
            await self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _wait(self, attempt: int, error: UpstreamError) -> float | None:
        """Seconds before the next attempt, None when there should be none."""
        if attempt == ATTEMPTS or not error.retryable:
            return None
        if error.retry_after is not None:
            return error.retry_after * random.uniform(1, 1.1) if error.retry_after <= LONGEST_WAIT else None
        return self._pause * (1 << attempt - 1) * random.uniform(0.75, 1)

    async def _attempt(self, request: Request, answer: Answer, stack: AsyncExitStack) -> AsyncIterator[list[Delta]]:
        response = await self._response(request, answer, stack)
        answer.request_id = response.headers.get("request-id")
        kind = response.headers.get("content-type", "text/event-stream").lower()
        if not kind.startswith("text/event-stream"):
            raise self._no_stream(kind.split(";")[0], response.status_code)
        batches = self._batches(response, request.model, answer)
        stack.push_async_callback(batches.aclose)
        first: list[Delta] = []
        while not answer.started:
            first += await anext(batches)
        return _resumed(first, batches)

    async def _response(
        self, request: Request, answer: Answer, stack: AsyncExitStack
    ) -> anthropic.AsyncAPIResponse[Any]:
        client = await self.connect()
        import anthropic

        sent = client.messages.with_streaming_response.create(**self.body(request), stream=True)
        answer.billed = True  # it may be, from here on, unless the answer says that it is not
        try:
            async with asyncio.timeout(self._read_timeout):
                return await stack.enter_async_context(sent)
        except anthropic.APIStatusError as error:
            failed = self._refusal(error, request.model)
        except _transport_errors() as error:
            failed = self._unreachable(error)
        raise failed  # out here, without a context: the original error holds the request, and so the key

    def body(self, request: Request) -> dict[str, Any]:
        """Return a request as the Messages API takes it, but for whether it is streamed."""
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.max_tokens,
            "messages": request.messages,
        }
        if request.system:
            body["system"] = request.system
        config: dict[str, Any] = {"effort": request.effort} if request.effort else {}
        if request.schema:
            config["format"] = {"type": "json_schema", "schema": request.schema}
        if config:
            body["output_config"] = config
        if request.user:
            body["metadata"] = {"user_id": request.user}
        if self._caching and not request.alone:
            body["cache_control"] = {"type": "ephemeral"}
        elif self._caching and request.system:
            body["system"] = [{"type": "text", "text": request.system, "cache_control": {"type": "ephemeral"}}]
        return body

    async def connect(self) -> anthropic.AsyncAnthropic:
        """Return the client, made on first use."""
        async with self._opening:
            if self._client is None:
                # 1.3 s and 76 MB: in a thread, so that a server goes on answering meanwhile
                await asyncio.to_thread(__import__, "anthropic")
                import anthropic

                self._client = anthropic.AsyncAnthropic(
                    api_key=self._api_key,
                    base_url=self._base_url,
                    max_retries=0,  # ours: the client would obey any retry-after, however long
                    timeout=anthropic.Timeout(None, connect=5.0),  # reads have a deadline of ours, see _read
                    http_client=anthropic.DefaultAioHttpClient(),
                )
            return self._client

    async def _batches(
        self, response: anthropic.AsyncAPIResponse[Any], model: str, answer: Answer
    ) -> AsyncGenerator[list[Delta]]:
        split, fold = EventSplitter(), Fold(answer)
        async with aclosing(response.http_response.aiter_bytes()) as body:
            while not answer.finished:
                deltas: list[Delta] = []
                try:
                    fold.apply(split.feed(await self._read(body, answer)), deltas)
                except StreamFault as fault:
                    if answer.started:
                        yield deltas  # what came before the fault counts, and from here on nothing is tried again
                    raise self._fault(fault, model, answer) from None
                yield deltas
                await asyncio.sleep(0)  # a stream with data waiting would never let others run
            await _drain(body)

    async def _read(self, body: AsyncIterator[bytes], answer: Answer) -> bytes:
        """Return what came next. The deadline is ours since after a malformed chunk aiohttp waits for ever."""
        piece = await self._piece(body, answer)
        if piece is None:
            raise self._broken_off(answer)
        return piece

    async def _piece(self, body: AsyncIterator[bytes], answer: Answer) -> bytes | None:
        try:
            async with asyncio.timeout(self._read_timeout):
                return await anext(body, None)
        except _transport_errors() as error:
            failed = self._broken(error, answer)
        raise failed

    # How a call can fail, and what each failure is called here ------------------------------------------------------

    def _refusal(self, error: anthropic.APIStatusError, model: str) -> UpstreamError:
        headers = error.response.headers
        retry = headers.get("x-should-retry")
        made = self._classified(
            error.type,
            error.status_code,
            self._detail(error),
            model=model,
            spend_limit=error.error_code == "enforced_spend_limit_reached",
        )
        made.status = error.status_code
        made.request_id = error.request_id
        made.retry_after = retry_after(headers)
        made.billed = False
        if retry in ("true", "false"):
            made.retryable = retry == "true"
        return made

    def _no_stream(self, kind: str, status: int) -> UpstreamError:
        return UpstreamRefused(
            f"{self.name} answered with {kind!r} instead of a stream of events; "
            "is ANTHROPIC_BASE_URL the address of a server that speaks the Anthropic Messages API?",
            status=status,
            billed=kind == "application/json",  # a reply after all, from a server that cannot stream
        )

    def _fault(self, fault: StreamFault, model: str, answer: Answer) -> UpstreamError:
        if fault.kind is None:
            return UpstreamError(f"{self.name} sent something that is no event stream: {fault.message}")
        made = self.reported(fault.kind, fault.message, model)
        made.billed = answer.started
        return made

    def reported(self, kind: str, message: str, model: str) -> UpstreamError:
        """Return an error that came without a status of its own, by the API's name of its kind."""
        return self._classified(kind, STATUSES.get(kind), self._quoted(message), model=model)

    def _classified(
        self, kind: str | None, status: int | None, detail: str, *, model: str, spend_limit: bool = False
    ) -> UpstreamError:
        code = f" ({status})" if status else ""
        if spend_limit:
            return UpstreamRefused(f"{self.name}'s spend limit is reached{code}; raise it in the Anthropic console")
        if kind == "rate_limit_error" or status == 429:
            return UpstreamRateLimited(f"{self.name}'s rate limit is exceeded{code}; wait and ask again")
        if kind == "overloaded_error" or status in (503, 529):
            return UpstreamOverloaded(f"{self.name} is overloaded{code}; ask again in a minute")
        if kind == "timeout_error" or status in (408, 504):
            return UpstreamTimeout(f"{self.name} ran out of time{code}; ask again, or for a shorter reply")
        if status == 401:
            return UpstreamRefused(f"{self.name} does not accept the key{code}; check ANTHROPIC_API_KEY")
        if status == 403:
            return UpstreamRefused(
                f"the key has no permission for this{code}; check the key's workspace and model access"
            )
        if status == 402:
            return UpstreamRefused(
                f"{self.name}'s account has a billing problem{code}; mend it in the Anthropic console"
            )
        if status == 404:
            return UpstreamRefused(
                f"{self.name} knows no model {model!r} at this address{code}; check the model's name and ANTHROPIC_BASE_URL"
            )
        if kind == "exceed_context_size_error":
            return UpstreamRefused(f"the chat is too long for the model{code}{detail}; start a new chat")
        if status == 413:
            return UpstreamRefused(f"the request is too large{code}{detail}; shorten it")
        if status == 409 or (status or 500) >= 500 or kind in ("api_error", "conflict_error"):
            return UpstreamError(f"{self.name} failed{code}{detail}; ask again")
        return UpstreamRefused(f"{self.name} refused the request{code}{detail}")

    def _detail(self, error: anthropic.APIStatusError) -> str:
        # bodies of proxies are pages, not sentences: only a message in the API's own shape is passed on
        return self._quoted(error.api_message) if isinstance(error.api_message, str) else ""

    def _quoted(self, text: str) -> str:
        if self._api_key != "none":
            text = text.replace(self._api_key, "…")
        line = " ".join(text.split())
        return f": {line[:300]}" if line else ""

    def _unreachable(self, error: Exception) -> UpstreamError:
        billed = not _never_sent(error)
        if "Timeout" in type(error).__name__:
            return UpstreamTimeout(
                f"{self.name} did not answer in time; check the connection and ask again", billed=billed
            )
        return UpstreamError(
            f"{self.name} cannot be reached; check the network, ANTHROPIC_BASE_URL and any proxy",
            type="connection_failed",
            summary="Connection failed",
            billed=billed,
        )

    def _broken_off(self, answer: Answer) -> UpstreamError:
        what = "'s reply broke off before its end" if answer.started else " answered without a word"
        return UpstreamError(
            f"{self.name}{what}; {_next(answer)}", type="broke_off", summary="Claude's reply broke off"
        )

    def _broken(self, error: Exception, answer: Answer) -> UpstreamError:
        where = "in mid-reply" if answer.started else "before the first word"
        if isinstance(error, TimeoutError):
            return UpstreamTimeout(f"{self.name} stopped sending {where}; {_next(answer)}")
        return UpstreamError(
            f"the connection to {self.name} broke {where}; {_next(answer)}",
            type="connection_failed",
            summary="Connection failed",
        )


def sendable_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema as the API takes it: what it cannot enforce, such as a maximum, is told in descriptions.

    Raises:
        InvalidRequest: a part of it could be anything.
    """
    from anthropic import transform_schema  # 1.3 s, which the first call needs anyway

    try:
        return transform_schema(schema)
    except (ValueError, AssertionError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"the reply cannot be asked to fit this schema: {error}") from None


def _next(answer: Answer) -> str:
    return "what came is kept, ask again to go on" if answer.started else "ask again"


def _sendable(key: str) -> str:
    """Return the key without the space around it; what cannot stand in a header must not end up in a traceback."""
    key = key.strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigurationError(
            "ANTHROPIC_API_KEY holds characters that no key has (spaces, line ends or letters beyond ASCII); "
            "copy it again from the Anthropic console"
        )
    return key


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and " " not in url
    except ValueError:  # a port that is no number, half a pair of brackets
        fine = False
    if "@" in url:
        raise ConfigurationError("ANTHROPIC_BASE_URL holds a user or a password; only ANTHROPIC_API_KEY is sent")
    if not fine:
        raise ConfigurationError(f"ANTHROPIC_BASE_URL is {url!r}, which is no address; write http://HOST:PORT")
    return url


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds an upstream asks to wait: ``retry-after-ms``, ``retry-after`` in seconds or as a date.

    >>> retry_after({"retry-after": "3"}), retry_after({"retry-after-ms": "250"}), retry_after({"retry-after": "soon"})
    (3.0, 0.25, None)
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    seconds = _number(headers.get("retry-after"))
    return _until(headers.get("retry-after", "")) if seconds is None else seconds


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _until(text: str) -> float | None:
    try:
        date = email.utils.parsedate_tz(text)
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError):  # a date that no calendar has
        return None


def _never_sent(error: BaseException | None) -> bool:
    """Whether there was no connection, so that nothing can have been charged."""
    import aiohttp
    import httpx2

    while error is not None:
        if isinstance(
            error,
            aiohttp.ClientConnectorError
            | aiohttp.ConnectionTimeoutError
            | aiohttp.InvalidURL
            | httpx2.UnsupportedProtocol,
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _transport_errors() -> tuple[type[Exception], ...]:
    import aiohttp
    import anthropic
    import httpx2

    return (
        anthropic.APIConnectionError,
        httpx2.HTTPError,
        httpx2.StreamError,
        aiohttp.ClientError,
        TimeoutError,
        OSError,
    )


async def _resumed(first: list[Delta], rest: AsyncIterator[list[Delta]]) -> AsyncGenerator[list[Delta]]:
    yield first
    async for batch in rest:
        yield batch


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Read what follows the last event, so that the connection can be used again; not for long."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in body:
                pass
    except _transport_errors():  # a timeout is one of them
        return  # the reply is complete; a new connection is opened next time


# From bytes to events -----------------------------------------------------------------------------------------------


class EventSplitter:
    r"""Splits a stream of bytes into the data of its server-sent events, wherever the bytes were cut.

    >>> EventSplitter().feed(b'event: ping\ndata: {"type":"ping"}\n\nda')
    [b'{"type":"ping"}']
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._after_return = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of every event that is complete now."""
        if b"\r" in chunk or self._after_return:
            chunk = self._with_newlines(chunk)
        buffer = self._buffer
        buffer += chunk
        end = buffer.rfind(b"\n\n", self._searched)
        if end < 0:
            self._searched = max(0, len(buffer) - 1)
            if len(buffer) > LARGEST_EVENT:
                raise StreamFault(None, f"one event of more than {LARGEST_EVENT:,} bytes")
            return []
        events = bytes(buffer[:end])
        del buffer[: end + 2]
        self._searched = 0
        if self._at_start:
            events = events.removeprefix(b"\xef\xbb\xbf")
            self._at_start = False
        return [data for event in events.split(b"\n\n") if (data := _data(event))]

    def _with_newlines(self, chunk: bytes) -> bytes:
        """Lines may end in CR LF, LF or CR, and CR LF may be cut in two."""
        if not chunk:
            return chunk
        if self._after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_return = chunk.endswith(b"\r")  # of a LF alone that belonged to it nothing is left
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data(event: bytes) -> bytes:
    name, _, data = event.partition(b"\ndata: ")
    if name.startswith(b"event:") and b"\n" not in name and b"\n" not in data:
        return data  # as Claude writes every event
    return b"\n".join(
        line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:") or line == b"data"
    )


class StreamFault(Exception):  # becomes an UpstreamError, which knows the upstream's name
    """The upstream reported an error in mid-stream (``kind``), or what it sent makes no sense (None)."""

    def __init__(self, kind: str | None, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


# a count that is negative or absurd is a broken upstream, not a bill
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] | None


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: Count = None
    ephemeral_1h_input_tokens: Count = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: Count = None


class _ServerTools(msgspec.Struct):
    web_search_requests: Count = None


class WireUsage(msgspec.Struct):
    """``usage`` as the Messages API sends it; anything may be absent or null."""

    input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation: _CacheCreation | None = None
    output_tokens: Count = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None


class _Message(msgspec.Struct):
    usage: WireUsage | None = None


class WholeMessage(msgspec.Struct):
    """A reply that was not streamed."""

    content: list[dict[str, Any]]
    usage: WireUsage
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    citation: dict[str, Any] | None = None
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: dict[str, Any] | None = None
    message: _Message | None = None
    usage: WireUsage | None = None
    error: _Error | None = None


class _Named(msgspec.Struct):
    type: str = ""


class _DeltaNamed(msgspec.Struct):
    delta: _Named = msgspec.field(default_factory=_Named)


_decode = msgspec.json.Decoder(_Event).decode
_decode_name = msgspec.json.Decoder(_Named).decode
_decode_delta_name = msgspec.json.Decoder(_DeltaNamed).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_KNOWN = {
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "error",
}
# type of a delta -> the key of the block it extends, and as what kind of Delta people see it
_GROWS: dict[str, tuple[str, Literal["text", "thinking", "tool"] | None]] = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "tool"),
    "signature_delta": ("signature", None),
}
_STRINGS = ("type", *(key for key, _ in _GROWS.values()))


class Fold:
    """Folds events into an :class:`~workbench.turns.Answer`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def apply(self, events: list[bytes], deltas: list[Delta]) -> None:
        """Apply the data of events up to the last one of a reply; what people may see of it is added to ``deltas``.

        Raises:
            StreamFault: an ``error`` event, or data that is not in the API's format.
        """
        for data in events:
            if self._answer.finished:
                return
            self._apply(data, deltas)

    def _apply(self, data: bytes, deltas: list[Delta]) -> None:
        event = self._decoded(data)
        if event is None:
            return
        if event.type != "error":
            self._answer.started = True
        match event.type:
            case "content_block_delta":
                self._extend(event.index, _present(event.delta, event), deltas)
            case "content_block_start":
                self._open(event.index, _present(event.content_block, event), deltas)
            case "content_block_stop":
                self._close(event.index)
            case "message_start":
                self._count(event.message.usage if event.message else None)
            case "message_delta":
                self._end(event)
            case "message_stop":
                self._answer.finished = True
            case "error":
                error = event.error or _Error()
                raise StreamFault(error.type or "api_error", error.message)

    def whole(self, message: WholeMessage) -> None:
        """Apply a reply that was not streamed.

        Raises:
            StreamFault: a block is none.
        """
        answer = self._answer
        answer.started = answer.billed = True
        self._count(message.usage)
        for index, block in enumerate(message.content):
            self._open(index, block, [])
        answer.stop_reason, answer.stop_details = message.stop_reason, message.stop_details
        answer.counted = message.usage.output_tokens is not None
        answer.finished = True

    def _decoded(self, data: bytes) -> _Event | None:
        try:
            event = _decode(data)
        except msgspec.ValidationError as error:
            if _of_the_future(data):
                return None
            raise StreamFault(None, str(error)) from None
        except _UNREADABLE as error:
            raise StreamFault(None, str(error)) from None
        if not event.type and event.error is not None:
            event.type = "error"  # llama.cpp's shape
        return event if event.type in _KNOWN else None

    def _open(self, index: int, block: dict[str, Any], deltas: list[Delta]) -> None:
        if not isinstance(block.get("citations", []), list | None):
            raise StreamFault(None, "a block whose citations are no list")
        for key in _STRINGS:  # what is not one now could not be joined with what follows, nor recorded
            if not isinstance(block.get(key, ""), str | None):
                raise StreamFault(None, f"a block whose {key} is no text")
        self._answer.open_block(index, block)
        if block.get("type") in ("thinking", "redacted_thinking"):
            deltas.append(Delta(str(block.get("thinking") or ""), "thinking", index))
        elif block.get("type") == "text" and block.get("text"):
            deltas.append(Delta(str(block["text"]), "text", index))

    def _extend(self, index: int, delta: _Delta, deltas: list[Delta]) -> None:
        try:
            if grows := _GROWS.get(delta.type):
                key, kind = grows
                piece = getattr(delta, key)
                self._answer.add(index, key, piece)
                if kind is not None:
                    deltas.append(Delta(piece, kind, index))
            elif delta.type == "citations_delta" and delta.citation is not None:
                block = self._answer.block(index)
                if not block.get("citations"):  # it may begin as null
                    block["citations"] = []
                block["citations"].append(delta.citation)
        except KeyError:
            raise StreamFault(None, f"a piece of block {index}, which was never opened") from None

    def _close(self, index: int) -> None:
        """The arguments of a tool call arrive as pieces of JSON and are kept as what they mean."""
        try:
            block = self._answer.close_block(index)
        except KeyError:
            raise StreamFault(None, f"the end of block {index}, which was never opened") from None
        arguments = block.pop("partial_json", None)
        if arguments is not None:
            try:
                block["input"] = msgspec.json.decode(arguments or "{}")
            except _UNREADABLE:  # cut short by max_tokens, and no reason to lose the rest
                block["partial_json"] = arguments

    def _end(self, event: _Event) -> None:
        if event.delta is not None:
            self._answer.stop_reason = event.delta.stop_reason or self._answer.stop_reason
            self._answer.stop_details = event.delta.stop_details or self._answer.stop_details
        if event.usage is not None:
            self._count(event.usage)
            # there may be several such events; the last one says why it stopped
            self._answer.counted = event.usage.output_tokens is not None and self._answer.stop_reason is not None

    def _count(self, wire: WireUsage | None) -> None:
        if wire is not None:
            self._answer.usage = updated(self._answer.usage, wire)


def _present(part: T | None, event: _Event) -> T:
    if part is None:
        raise StreamFault(None, f"a {event.type} that lacks its content")
    return part


def _of_the_future(data: bytes) -> bool:
    """Whether an event that does not fit is of a type, or holds a delta of a type, that came after this was written."""
    try:
        if _decode_name(data).type not in _KNOWN:
            return True
        name = _decode_delta_name(data).delta.type
    except _UNREADABLE:
        return False
    return bool(name) and name not in (*_GROWS, "citations_delta")


def updated(usage: Usage, wire: WireUsage) -> Usage:
    """Return usage with the counts of a newer event. They are cumulative: overwritten, never added.

    Only the first event splits cache writes into five minutes and an hour; later ones carry their sum.

    >>> updated(Usage(uncached_input_tokens=5, output_tokens=1), WireUsage(output_tokens=42)).output_tokens
    42
    """
    counts: dict[str, Any] = {
        "uncached_input_tokens": wire.input_tokens,
        "cache_read_tokens": wire.cache_read_input_tokens,
        "output_tokens": wire.output_tokens,
        "thinking_tokens": wire.output_tokens_details and wire.output_tokens_details.thinking_tokens,
        "web_searches": wire.server_tool_use and wire.server_tool_use.web_search_requests,
        "service_tier": wire.service_tier,
        "inference_geo": wire.inference_geo,
        "speed": wire.speed,
    }
    written = wire.cache_creation_input_tokens
    hour = (wire.cache_creation and wire.cache_creation.ephemeral_1h_input_tokens) or usage.cache_write_1h_tokens
    if wire.cache_creation is not None and wire.cache_creation.ephemeral_5m_input_tokens is not None:
        counts["cache_write_5m_tokens"] = wire.cache_creation.ephemeral_5m_input_tokens
        counts["cache_write_1h_tokens"] = hour
    elif written is not None:
        counts["cache_write_1h_tokens"] = min(hour, written)
        counts["cache_write_5m_tokens"] = written - min(hour, written)
    return replace(usage, **{name: value for name, value in counts.items() if value is not None})
