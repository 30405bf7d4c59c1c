"""The server on a real socket, in a thread of this process, and what a client reads from it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import httpx2

from server.app import create_app
from server.edge import MOST_REQUESTS, MOST_WAITING
from server.main import Server, listening_on
from server.protocol import DEFAULT_LIMITS, Limits
from workbench.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI

UNLIMITED = {"WORKBENCH_RATE_PER_MINUTE": "1e9", "WORKBENCH_RATE_BURST": "1e9"}
"""Tests ask faster than people; those of the limits set their own."""
PATIENCE = 60.0
"""Seconds; a loaded machine takes its time."""


class _Announced(Server):
    """Says when it has begun."""

    def __init__(self, app: FastAPI, env: str, drain_seconds: float, limits: Limits) -> None:
        super().__init__(app, env, drain_seconds, limits)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


class LiveServer:
    """Runs the server and looks into its store."""

    def __init__(
        self,
        folder: Path,
        *,
        upstream: str | None,
        ping_seconds: float = 15.0,
        stall_seconds: float = 30.0,
        drain_seconds: float = 30.0,
        most_requests: int = MOST_REQUESTS,
        most_waiting: int = MOST_WAITING,
        limits: Limits = DEFAULT_LIMITS,
        **environment: object,
    ) -> None:
        key = "sk-ant-test" if upstream else None
        settings = read_settings(
            ANTHROPIC_API_KEY=key,
            ANTHROPIC_BASE_URL=upstream,
            **{"WORKBENCH_STORE": str(folder / "store.duckdb")} | UNLIMITED | environment,
        )
        self.app = create_app(
            settings,
            ping_seconds=ping_seconds,
            stall_seconds=stall_seconds,
            most_requests=most_requests,
            most_waiting=most_waiting,
        )
        self.server = _Announced(self.app, settings.env, drain_seconds, limits)
        self.listening = listening_on("127.0.0.1", 0)
        self.port = self.listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx2.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)
        self._thread = threading.Thread(target=asyncio.run, args=(self.server.run_app(self.listening),), daemon=True)

    def __enter__(self) -> Self:
        self.start()
        while self.client.get("/readyz").status_code != 200:
            assert self._thread.is_alive()
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()
        self.stop()
        self.join()

    def start(self) -> None:
        """Begin, and wait only until it listens for a stop; `with` waits until it is ready."""
        self._thread.start()
        assert self.server.listens.wait(PATIENCE)

    def stop(self) -> None:
        """Ask it to end, as a signal does."""
        self.server.handle_exit(0, None)

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def post(self, path: str, message: str, **more: Any) -> httpx2.Response:
        headers = more.pop("headers", {})
        return self.client.post(path, json={"message": message, **more}, headers=headers)

    def stream(self, message: str, **more: Any) -> Any:
        """Open a stream, to be read with `events`."""
        return self.client.stream("POST", "/chat/stream", json={"message": message, **more})

    def send(self, path: str, message: str, request_id: str) -> socket.socket:
        """Send a request; whoever closes the socket returned before reading the answer is a client that left."""
        body = json.dumps({"message": message}).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"x-request-id: {request_id}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        return connection

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return asyncio.run(self.app.state.service.engine.store.backend.rows(sql, *parameters))

    def usage_of(self, request_id: str, columns: str = "status") -> tuple[Any, ...]:
        """The one usage row of a request, whose hold must be settled."""
        assert self._holds(request_id) == [("settled",)]
        (row,) = self.rows(f"SELECT {columns} FROM usage WHERE request_id = $1", request_id)
        return row

    def usage_when_settled(self, request_id: str, columns: str = "status") -> tuple[Any, ...]:
        """The usage row of a request whose client is not there to be told when it is written."""
        deadline = time.monotonic() + PATIENCE
        while self._holds(request_id) != [("settled",)]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return self.usage_of(request_id, columns)

    def _holds(self, request_id: str) -> list[tuple[Any, ...]]:
        return self.rows("SELECT state FROM holds WHERE request_id = $1", request_id)


def events(response: httpx2.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream, as they come; each must be one unnamed `data:` line."""
    for line in response.iter_lines():
        if line and not line.startswith(":"):
            assert line.startswith("data: ")
            yield json.loads(line.removeprefix("data: "))


def text_of(told: list[dict[str, Any]]) -> str:
    return "".join(event["token"] for event in told)
