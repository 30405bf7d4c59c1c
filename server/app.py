"""The application: routes around one engine over one store."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from server import auth, pages, problems, shapes, telemetry
from server.edge import MOST_REQUESTS, MOST_WAITING, Edge
from server.metrics import MeasuredBackend, Metrics
from server.rates import RATE_HEADERS
from server.routes import chat, chats, experiments, health, metrics, prompts, usage
from server.service import Service
from server.stream import PING_SECONDS, STALL_SECONDS
from workbench import __version__
from workbench.engine import Engine
from workbench.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.types import Lifespan

    from workbench.settings import Settings
    from workbench.store.backend import Backend

DESCRIPTION = """Chat with Claude over HTTP; every turn, token and dollar is kept in a ledger.

Callers name their org and user in the headers `x-org-id` and `x-user-id`, unless a key says it. Every answer carries
`x-request-id`; every failure, on any path, is a `Problem`.
"""


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["components"]["schemas"].update(shapes.COMPONENTS)
        for path in ("/chat", "/chat/stream"):
            # what the framework says of an answer it knows nothing of
            content = document["paths"][path]["post"]["responses"]["200"]["content"]
            for described in content.values():
                if described.pop("schema", {}).get("$ref"):
                    described["schema"] = shapes.REFERENCES[shapes.ChatReply]
        auth.describe(document, self.state.auth, self.state.callers)
        return document


def create_app(
    settings: Settings,
    *,
    ping_seconds: float = PING_SECONDS,
    stall_seconds: float = STALL_SECONDS,
    most_requests: int = MOST_REQUESTS,
    most_waiting: int = MOST_WAITING,
    warmed: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Return the server's ASGI application; its lifespan opens and closes the store.

    Args:
        settings: Whose model, store and origins.
        ping_seconds: Silence in a stream after which a comment is sent.
        stall_seconds: How long a client may read nothing before it is taken for gone.
        most_requests: How many requests are answered at the same time.
        most_waiting: How many may wait for the rest of their bodies.
        warmed: Is called when everything is there that the first turn needs.

    Raises:
        ConfigurationError: these settings demand a protection that is not there.
    """
    known = auth.callers(settings)
    measured = Metrics(settings.model)
    turns = _turns(settings, measured, ping_seconds, stall_seconds, warmed)
    app = _Api(
        title="Claude workbench",
        version=__version__,
        description=DESCRIPTION,
        lifespan=turns,
        redirect_slashes=False,
        docs_url=None,  # it loads its scripts from a CDN; pages has one of our own
        redoc_url=None,
        telemetry=telemetry.fastapis(),
        middleware=[
            Middleware(
                Edge,
                settings.cors_origins,
                measured,
                most_requests,
                any_host=settings.auth != "dev",
                most_waiting=most_waiting,
            ),
            _cors(settings.cors_origins),
        ],
    )
    app.state.auth, app.state.callers = settings.auth, known
    app.state.metrics = measured
    problems.install(app)
    app.include_router(chat.router)
    app.include_router(chats.router)
    app.include_router(usage.router)
    app.include_router(prompts.router)
    app.include_router(experiments.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(pages.router)
    return app


def _turns(
    settings: Settings,
    measured: Metrics,
    ping_seconds: float,
    stall_seconds: float,
    warmed: Callable[[], None],
) -> Lifespan[FastAPI]:
    """Return what opens store and engine when the server starts, and closes them when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = await Store.open(settings.store)
        store.backend = cast("Backend", MeasuredBackend(store.backend, measured))
        engine = Engine(settings, store)
        engine.observers.add(measured)
        if settings.otel_endpoint is not None:
            app.state.telemetry = told = telemetry.Turns()  # kept: the engine itself does not keep it alive
            engine.observers.add(told)
        app.state.service = service = Service(
            engine, measured, ping_seconds=ping_seconds, stall_seconds=stall_seconds, warmed=warmed
        )
        measured.streams_active.set_function(lambda: service.streams.open)
        tasks = [asyncio.create_task(work) for work in (service.warm(), service.keep_saving(), measured.watch_loop())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            try:
                await asyncio.wait(tasks)  # asyncio logs what one of them has failed with
                await engine.aclose()
            finally:
                await asyncio.to_thread(store.close)

    return lifespan


def _cors(origins: Sequence[str]) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["authorization", "x-org-id", "x-user-id", "x-request-id", "idempotency-key"],
        expose_headers=["x-request-id", "retry-after", "x-budget-remaining-usd", *RATE_HEADERS],
    )
