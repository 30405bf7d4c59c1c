"""Start the server, and end it without losing a turn."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import logging
import math
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from server import logs
from server.app import create_app
from server.auth import refuse_open_address
from server.edge import MOST_REQUESTS
from server.metrics import NO_ROUTE
from server.protocol import DEFAULT_LIMITS, Limits, Protocol
from server.telemetry import exported
from workbench.errors import ConfigurationError, WorkbenchError

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

    from workbench.settings import Settings

log = logging.getLogger("server")

M_ARENA_MAX = -8  # of malloc.h
DRAIN_SECONDS = 30.0
"""How long turns at work may take to end after SIGTERM or Ctrl-C."""
RECORD_SECONDS = 10
"""How long turns that were ended may take to be recorded."""
MOST_FILES = 10_000
"""Open at the same time; systems start programs with as few as 256 or 1024, and let them raise it themselves."""


def serve(settings: Settings, host: str, port: int, *, drain_seconds: float = DRAIN_SECONDS) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code: 0 when it ended as asked, 1 when it could not start.

    Args:
        settings: Everything but the address.
        host: To listen on; only loopback in ``dev`` mode.
        port: 0 for any free one; the log says which.
        drain_seconds: How long turns at work may take to end.
    """
    logs.configure(settings)
    share_arenas()
    try:
        if settings.auth == "dev":
            refuse_open_address(host)
        most = places(open_files())
        app = create_app(settings, most_requests=most, most_waiting=most, warmed=keep_for_good)
        with exported(settings), listening_on(host, port) as listening:
            server = Server(app, settings.env, drain_seconds, Limits(most_waiting=most))
            with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
                runner.run(server.run_app(listening))
    except WorkbenchError as error:
        log.error(str(error))
        return 1
    except KeyboardInterrupt:  # before the server listened for it
        return 0
    finally:
        gc.unfreeze()  # or DuckDB, at the very end, would list what is left as leaked
    return 0


def share_arenas() -> None:
    """Let all threads take memory from two arenas of glibc's, where it is the C library.

    Each of some forty would get its own, and what one has freed is of no use to another: after a thousand turns they hold
    25 MB more.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, 2)


def keep_for_good() -> None:
    """Have the garbage collector look no more at what is there already: half a million objects that nobody lets go of."""
    gc.collect()
    gc.freeze()


def open_files() -> int:
    """Let this process open as many files as it may, up to ``MOST_FILES``; return how many. A connection is a file."""
    if sys.platform == "win32":  # without such a limit
        return MOST_FILES
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return wanted


def places(files: int) -> int:
    """Return how many requests may be answered, may wait for their bodies, and may be awaited, each.

    An answer takes two files, its own connection and one to the upstream; a third is left for the rest.

    >>> places(1024), places(MOST_FILES)
    (170, 1000)
    """
    return min(MOST_REQUESTS, files // 6)


def listening_on(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        ConfigurationError: the port is in use, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family, backlog=2048)
        # inherited by each connection; asyncio sets it only where the socket names its protocol, which this one does
        # not, and then every answer in two writes waits 40 ms for the client's acknowledgement
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"port {port} on {host} is in use; stop what uses it, or set PORT to another"
            ) from None
        raise ConfigurationError(
            f"cannot listen on {host}, port {port} ({error.strerror}); set HOST and PORT"
        ) from None


class Server(uvicorn.Server):
    """uvicorn around our app: it drains its turns, and a stop it was asked for is a success."""

    def __init__(
        self, app: FastAPI, env: str, drain_seconds: float = DRAIN_SECONDS, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.app = app
        self.env = env
        self.drain_seconds = drain_seconds
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(Protocol, limits=limits, refused=self._refused, waiting={}),  # type: ignore[arg-type]  # it is only ever called
                ws="none",
                lifespan="off",  # ours, in run_app: uvicorn prints a traceback when it fails
                log_config=None,
                access_log=False,  # it would log queries; the edge logs paths
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=math.ceil(drain_seconds) + RECORD_SECONDS,
            )
        )

    def _refused(self, status: int) -> None:
        self.app.state.metrics.answered(NO_ROUTE, status, 0.0)

    async def run_app(self, listening: socket.socket) -> None:
        """Serve until told to stop, then wait for the turns at work.

        Raises:
            StoreError: the store cannot be opened.
        """
        async with self.app.router.lifespan_context(self.app):
            await self.serve(sockets=[listening])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        port = sockets[0].getsockname()[1] if sockets else None
        log.info("Server running", extra={"port": port, "env": self.env})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note that it is time to go; a second Ctrl-C waits for nothing but the ledger.

        uvicorn's own would raise the signal again at the end, so that a clean stop looked like a kill.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True
        self.app.state.service.stopping = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, let the turns at work end, and end those that take too long."""
        service = self.app.state.service
        deadline = asyncio.get_running_loop().call_later(self.drain_seconds, service.end_turns)
        await super().shutdown(sockets)
        deadline.cancel()
        service.end_turns()  # after a second Ctrl-C uvicorn does not wait
        if tasks := set(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=RECORD_SECONDS)
