"""The scripted upstream itself: a thread with its own event loop, a queue of replies, and what it has seen."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Self

from .batches import BATCHES, Batches
from .caching import PromptCache, prompt_tokens
from .checks import LARGEST_BODY, MODELS, Refused, check_body, check_headers, model_info, model_list
from .connection import Connection, Request
from .directives import read, reply_to
from .frames import LIMIT_HEADERS, Json, Usage, compact
from .player import Player
from .replies import Answer, Reply

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
PATIENCE = 60.0
"""Seconds for a claim to come true: the first request of a process waits for its imports, 6 s on a loaded machine."""
Script = Reply | Callable[[Request], Reply]


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A client that left before its answer was complete."""

    request: Request
    at: float  # time.monotonic()
    tokens_sent: int


class ScriptedUpstream:
    """A loopback server that speaks the Anthropic Messages API and breaks on request.

    Use it as ``with ScriptedUpstream() as upstream: ... upstream.url ...``. The next request takes the next reply of
    the `script`; without one, directives in the last user message decide; without those, `default`, or else a reply
    of ``tokens`` words.

    Args:
        tokens: Words of an unscripted reply.
        delay, ttft: Pace of an unscripted reply in seconds, see `Reply`.
        checks: Refuse what the real API refuses. Off: as lenient as llama.cpp.
        min_prefix: Tokens a prefix must have to be cached; the real API wants 512 to 4096.
        keep: Requests remembered in `requests`; the oldest go first.
    """

    def __init__(
        self,
        *,
        tokens: int = 12,
        delay: float = 0.0,
        ttft: float = 0.0,
        checks: bool = True,
        min_prefix: int = 0,
        keep: int = 20_000,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.tokens, self.delay, self.ttft, self.checks, self.keep = tokens, delay, ttft, checks, keep
        self.host, self.port = host, port
        self.default: Script | None = None
        self.cache = PromptCache(min_prefix)
        self.batches = Batches(self.answered)
        self.requests: list[Request] = []
        self.disconnects: list[Disconnect] = []
        self.crashes: list[BaseException] = []  # errors of the double itself; raised when it is closed
        self.requests_total = self.connections_total = self.tokens_sent = 0
        self.streams_open = 0  # message requests being answered, streamed or not
        self.paused = 0  # of these, how many wait for release()
        self._scripts: defaultdict[str, deque[Script]] = defaultdict(deque)
        self._struck: defaultdict[str, int] = defaultdict(int)
        self._connections: set[Connection] = set()
        self._permits = 0
        self._gates: deque[asyncio.Future[None]] = deque()
        self._watch = threading.Condition()
        self._watchers = 0
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failed: BaseException | None = None

    # life

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="scripted-upstream", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failed:
            raise self._failed
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        if self.crashes and exc[0] is None:
            raise self.crashes[0]

    def close(self) -> None:
        """Stop serving; open connections are cut."""
        if self._thread and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self.run())
        except BaseException as error:
            self._failed = error
            self._ready.set()
            raise

    async def run(self, started: Callable[[Self], None] = lambda _: None) -> None:
        """Serve on the running loop until `stop`."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._server: asyncio.Server | None = None
        await self._listen()
        self._ready.set()
        started(self)
        try:
            await self._stop.wait()
        finally:
            await self._shut()

    def stop(self) -> None:
        """Make `run` return; to be called on its loop."""
        self._stop.set()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(
            lambda: Connection(self), self.host, self.port, backlog=1024, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._server:
            self._server.close()
        tasks = [connection.task for connection in self._connections if connection.task]
        for connection in list(self._connections):
            connection.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports report their end

    @property
    def url(self) -> str:
        """The base URL, without ``/v1``."""
        return f"http://{self.host}:{self.port}"

    # scripting, from any thread

    def script(self, *replies: Script, path: str = MESSAGES) -> None:
        """Queue replies: each of the next requests to ``path`` takes one. Requests the checks refuse take none."""
        self._scripts[path].extend(replies)

    @property
    def scripted(self) -> int:
        """How many queued replies nobody has taken yet."""
        return sum(map(len, self._scripts.values()))

    def release(self, count: int = 1) -> None:
        """Let so many pauses go on: those waiting, else the next to come."""
        self._call(lambda: self._release(count))

    def refuse(self) -> None:
        """Refuse connections until `accept`: close the listening socket and the idle connections."""
        self._call(self._refuse)

    def accept(self) -> None:
        """Listen again, on the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)

    def cut_all(self) -> None:
        """Reset every open connection, as when a proxy restarts."""
        self._call(self._cut_all)

    def reset(self) -> None:
        """Forget scripts, requests, counters, permits and the cache."""
        self._call(self._reset)

    def _call(self, function: Callable[[], Any]) -> None:
        """Run on the loop of the upstream and wait, unless this is its thread."""
        if threading.current_thread() is self._thread or self._thread is None:
            function()
            return

        async def run() -> None:
            function()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(5)

    def _release(self, count: int) -> None:
        self._permits += count
        while self._permits and self._gates:
            gate = self._gates.popleft()
            if not gate.done():
                gate.set_result(None)
                self._permits -= 1

    def _refuse(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            if connection.idle:
                connection.abort()

    def _cut_all(self, spared: Connection | None = None) -> None:
        for connection in self._connections - {spared}:
            connection.reset()

    def _reset(self) -> None:
        self._scripts.clear()
        self._struck.clear()
        self.cache.clear()
        self.requests.clear()
        self.disconnects.clear()
        self.requests_total = self.connections_total = self.tokens_sent = self._permits = 0
        self.default = None
        self.batches.clear()

    # watching, from any thread

    @property
    def connections_open(self) -> int:
        return len(self._connections)

    @property
    def last(self) -> Request:
        """The latest request."""
        return self.requests[-1]

    def state(self) -> dict[str, int]:
        """All counters."""
        return {
            "requests_total": self.requests_total,
            "connections_total": self.connections_total,
            "connections_open": self.connections_open,
            "streams_open": self.streams_open,
            "paused": self.paused,
            "tokens_sent": self.tokens_sent,
            "disconnects": len(self.disconnects),
            "scripted": self.scripted,
        }

    def wait_for(self, claim: Callable[[Self], object], timeout: float = PATIENCE) -> None:
        """Block until the claim is true; TimeoutError with all counters if it does not become true."""
        with self._watch:
            self._watchers += 1
            try:
                if not self._watch.wait_for(lambda: claim(self), timeout):
                    raise TimeoutError(f"not true within {timeout} s; the upstream is at {self.state()}")
            finally:
                self._watchers -= 1

    async def until(self, claim: Callable[[Self], object], timeout: float = PATIENCE) -> None:
        """`wait_for` for async tests: their loop runs on."""
        await asyncio.to_thread(self.wait_for, claim, timeout)

    def _changed(self) -> None:
        if self._watchers:
            with self._watch:
                self._watch.notify_all()

    # what connections and players call, on the loop

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        self.connections_total += 1
        self._changed()

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._changed()

    def sent(self, request: Request, tokens: int) -> None:
        request.tokens_sent += tokens
        self.tokens_sent += tokens
        self._changed()

    async def gate(self) -> None:
        if self._permits:
            self._permits -= 1
            return
        gate = self._loop.create_future()
        self._gates.append(gate)
        self.paused += 1
        self._changed()
        try:
            await gate
        finally:
            self.paused -= 1
            if gate in self._gates:
                self._gates.remove(gate)
            self._changed()

    async def serve(self, request: Request, connection: Connection) -> None:
        if request.path.startswith("/_upstream/"):
            await self._control(request, connection)
            return
        self.requests_total += 1
        request.request_id = f"req_{self.requests_total:08d}"
        self.requests.append(request)
        if len(self.requests) > self.keep:
            del self.requests[: self.keep // 2]
        try:
            await self._serve(request, connection)
        except asyncio.CancelledError:
            if connection.left:
                self.disconnects.append(Disconnect(request, monotonic(), request.tokens_sent))
            request.ended = "left" if connection.left else "broken"
            raise
        except Exception as error:
            self.crashes.append(error)
            request.ended = "broken"
            connection.reset()
        finally:
            request.ended_at = monotonic()
            request.ended = request.ended or _end_of(request)
            self._changed()

    async def _serve(self, request: Request, connection: Connection) -> None:
        self._changed()
        try:
            key = self._check(request)
            match request.method, request.path:
                case "POST", "/v1/messages":
                    await self._converse(request, connection, key)
                case "POST", "/v1/messages/count_tokens":
                    await self._plainly(request, connection, {"input_tokens": prompt_tokens(request.body)})
                case "GET", "/v1/models":
                    await self._plainly(request, connection, model_list())
                case _, path if path.startswith(BATCHES) and self.batches.there:
                    await self._batch(request, connection)
                case "GET", path if path.removeprefix("/v1/models/") in MODELS:
                    await self._plainly(request, connection, model_info(path.removeprefix("/v1/models/")))
                case _:
                    raise Refused("Not found", 404, "not_found_error")
        except Refused as refused:
            await self._say(request, connection, refused.answer)

    def _check(self, request: Request) -> str:
        """The API key of a request the API would answer; raises Refused for others."""
        if not self.checks:
            return ""
        key = check_headers(request.headers)
        if len(request.raw) > LARGEST_BODY * (8 if request.path == BATCHES else 1):
            raise Refused("Request exceeds the maximum size", 413, "request_too_large")
        if request.method == "POST" and request.path in (MESSAGES, COUNT):
            check_body(request.body, counting=request.path == COUNT)
        return key

    async def _converse(self, request: Request, connection: Connection, key: str) -> None:
        reply = self._reply(request)
        usage = reply.usage or reply.counted(self.cache.usage(request.body, key))
        request.reply, request.usage = reply, usage
        self.streams_open += 1
        try:
            await Player(self, request, connection, usage).play()
        finally:
            self.streams_open -= 1

    def answered(self, request: Request) -> Reply:
        """The reply to a question of a batch, with its usage."""
        if self.checks:
            check_body(request.body)
        reply = self._reply(request)
        request.usage = reply.usage or reply.counted(Usage(uncached_input_tokens=prompt_tokens(request.body)))
        return reply

    async def _batch(self, request: Request, connection: Connection) -> None:
        """The Message Batches API, unless the script has another answer for this path."""
        if self._scripts[request.path]:
            await self._plainly(request, connection, {})
            return
        content, kind = self.batches.serve(request)
        if self.batches.lost_answers and request.path == BATCHES and request.method == "POST":
            self.batches.lost_answers -= 1
            connection.reset()
            return
        await self._say(request, connection, Answer(200, content, {"content-type": kind}))

    def _reply(self, request: Request) -> Reply:
        """The next of the script, else what the message asks for, else the default."""
        if queue := self._scripts[MESSAGES]:
            return _made(queue.popleft(), request)
        most = request.body.get("max_tokens", self.tokens)
        try:
            values = read(request.headers.get("x-scripted", "") + request.prompt)
        except ValueError as error:
            raise Refused(str(error)) from None
        if not values and self.default is not None:
            return _made(self.default, request)
        if "times" in values:
            self._struck[request.prompt] += 1
            if self._struck[request.prompt] > values["times"]:
                values.pop("fault", None)
        try:
            return reply_to({"ttft": self.ttft, "delay": self.delay} | values, self.tokens, most)
        except ValueError as error:
            raise Refused(str(error)) from None

    async def _plainly(self, request: Request, connection: Connection, body: Json) -> None:
        """A JSON answer, unless the script has another for this path."""
        if queue := self._scripts[request.path]:
            request.reply = _made(queue.popleft(), request)
            await Player(self, request, connection, request.reply.usage or Usage()).play()
        else:
            answer = Answer(200, compact(body).encode(), {"content-type": "application/json"})
            await self._say(request, connection, answer)

    async def _say(self, request: Request, connection: Connection, answer: Answer) -> None:
        request.status = answer.status
        headers = {**answer.headers, "request-id": request.request_id, **LIMIT_HEADERS}
        body = answer.body.replace(b"{request_id}", request.request_id.encode())
        await connection.respond(answer.status, headers, body)

    async def _control(self, request: Request, connection: Connection) -> None:
        """``GET /_upstream/state``, ``POST /_upstream/release|reset|cut_all`` for tests in other processes."""
        match request.path.rpartition("/")[2]:
            case "release":
                self._release((request.body or {}).get("count", 1))
            case "reset":
                self._reset()
            case "cut_all":
                self._cut_all(spared=connection)
        await connection.respond(200, {"content-type": "application/json"}, compact(self.state()).encode())


def _end_of(request: Request) -> str:
    """How a request ended that was answered as scripted."""
    if request.status not in (None, 200):
        return "refused"
    return "complete" if request.reply is None or request.reply.complete else "broken"


def _made(script: Script, request: Request) -> Reply:
    return script if isinstance(script, Reply) else script(request)
