"""What the server measures of itself, for Prometheus; the help text of each metric says what is in it.

No label grows with what clients send: a path is its route's template, a model one that has a price or is set, an error
one of ours. Nothing here runs per token.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from workbench.errors import StoreError, UpstreamError
from workbench.ledger.forecasts import month_end, month_totals, spend_history
from workbench.pricing import listed_name
from workbench.turns import LOCAL_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workbench.store.backend import Backend, Statement
    from workbench.turns import LiveTurn

log = logging.getLogger("server")

LAG_SECONDS = 0.1
"""How long the task sleeps that measures how late it is woken."""
FORECAST_SECONDS = 300.0
"""How long a forecast is good for: it reads the calls of eight weeks."""
STORE_SECONDS = 2.0
"""How long a scrape waits for the store; the other metrics must not miss while its disk hangs."""
NO_ROUTE = "none"
OTHER = "other"
KINDS = {
    "uncached_input": "uncached_input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "output": "output_tokens",
}
SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

upstream_seconds: ContextVar[list[float]] = ContextVar("upstream_seconds")
"""Of the request that runs: how long each of its turns was the upstream's."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks for


class Metrics:
    """The metrics of one application."""

    def __init__(self, model: str) -> None:
        """Begin at zero.

        Args:
            model: The one that is set; it keeps its name whatever server answers by it.
        """
        self._known = {model, LOCAL_MODEL}
        self.registry = CollectorRegistry()
        self.requests = self._counter(
            "requests",
            "Requests, by the template of their route; 'none': nothing is there, or refused before a route was found",
            "route",
            "status",
        )
        self.request_seconds = self._histogram("request_seconds", "From a request's headers to its last byte", LONG)
        self.ttft_seconds = self._histogram(
            "ttft_seconds", "From when a turn was handed to the upstream to its first token", LONG
        )
        self.overhead_seconds = self._histogram(
            "overhead_seconds",
            "Our own part of a turn: from the last byte of the request to when it was handed to the upstream, and from "
            "the upstream's end to the last byte of the answer. What is done while the upstream sends is not in it.",
            SHORT,
        )
        self.streams_active = self._gauge("streams_active", "Turns whose reply is coming")
        self.tokens = self._counter("tokens", "Tokens by disjoint kind", "model", "kind")
        self.cost_usd = self._counter("cost_usd", "US dollars, of turns whose price is known", "model")
        self.rate_limited = self._counter("rate_limited", "Requests refused by a limit of ours (429)")
        self.budget_refused = self._counter("budget_refused", "Requests that an org could not afford (402)")
        self.budget_nearly_spent = self._counter(
            "budget_nearly_spent", "Turns begun when a budget of theirs was spent or held to 80 % or more"
        )
        self.upstream_errors = self._counter("upstream_errors", "Turns that failed upstream", "type")
        self.client_disconnects = self._counter("client_disconnects", "Clients that left before their answer's end")
        self.usage_estimated = self._counter("usage_estimated", "Turns whose tokens are an estimate")
        self.holds_open = self._gauge(
            "holds_open", "Turns not settled yet, in the whole store; NaN: it does not answer"
        )
        self.store_queue = self._gauge("store_queue", "Transactions of this server that are not durable yet")
        self.store_commit_seconds = self._histogram(
            "store_commit_seconds", "From when a transaction was handed to the store until it was durable", SHORT
        )
        self.forecast_usd = self._gauge(
            "forecast_usd",
            "US dollars that this month (UTC) comes to, all orgs together: with odds of 80% between 'low' and 'high', as "
            "likely above 'expected' as below. Asked anew every five minutes; not there before 14 whole days of calls, or "
            "while the store does not answer.",
            "bound",
        )
        self._forecast_due = -math.inf
        self.event_loop_lag_seconds = self._histogram(
            "event_loop_lag_seconds", "How late the event loop wakes a task that sleeps for 0.1 s", SHORT
        )

    # What happens ---------------------------------------------------------------------------------------------------

    def recorded(self, turn: LiveTurn) -> None:
        """Count a turn that is in the store."""
        usage, model = turn.usage, self._model(turn.model)
        for kind, field in KINDS.items():
            if count := getattr(usage, field):
                self.tokens.labels(model, kind).inc(count)
        if turn.cost_usd:
            self.cost_usd.labels(model).inc(float(turn.cost_usd))
        if turn.ttft_ms is not None:
            self.ttft_seconds.observe(turn.ttft_ms / 1000)
        if turn.error_type is not None:
            self.upstream_errors.labels(turn.error_type if turn.error_type in error_types() else OTHER).inc()
        if turn.budget is not None and turn.budget.nearly_spent:
            self.budget_nearly_spent.inc()
        if usage.estimated:
            self.usage_estimated.inc()
        upstream_seconds.get([]).append(turn.duration_ms / 1000)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has its answer, or whose client has left."""
        self.requests.labels(route, str(status)).inc()
        self.request_seconds.observe(seconds)
        if status == 429:
            self.rate_limited.inc()
        elif status == 402:
            self.budget_refused.inc()

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, for as long as it runs."""
        while True:
            due = time.monotonic() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.event_loop_lag_seconds.observe(max(0.0, time.monotonic() - due))

    # What is read ---------------------------------------------------------------------------------------------------

    async def look_into(self, backend: Backend) -> None:
        """Read what only the store knows."""
        try:
            async with asyncio.timeout(STORE_SECONDS):
                ((holds,),) = await backend.rows("SELECT COUNT(*) FROM holds WHERE state = 'open'")
        except (StoreError, TimeoutError) as error:
            log.warning("Open holds not counted", extra={"error": str(error) or type(error).__name__})
            holds = math.nan
        self.holds_open.set(holds)
        if not math.isnan(holds) and time.monotonic() >= self._forecast_due:
            self._forecast_due = time.monotonic() + FORECAST_SECONDS
            await self._look_ahead(backend)

    def text(self) -> bytes:
        """Return all in Prometheus' text format."""
        return generate_latest(self.registry)

    # Inside ---------------------------------------------------------------------------------------------------------

    async def _look_ahead(self, backend: Backend) -> None:
        self.forecast_usd.clear()
        try:
            async with asyncio.timeout(STORE_SECONDS):
                history = await spend_history(backend, datetime.now(UTC))
        except (StoreError, TimeoutError) as error:
            log.warning("No forecast", extra={"error": str(error) or type(error).__name__})
            self._forecast_due = -math.inf
            return
        if history.enough:
            # 20 ms, in which every stream would stand still
            ends = await asyncio.to_thread(lambda: month_end(month_totals(history)))
            for bound, usd in zip(("low", "expected", "high"), ends, strict=True):
                self.forecast_usd.labels(bound).set(float(usd))

    def _model(self, model: str) -> str:
        return model if model in self._known else listed_name(model) or OTHER

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, labels, "workbench", registry=self.registry)

    def _gauge(self, name: str, help: str, *labels: str) -> Gauge:
        return Gauge(name, help, labels, "workbench", registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, help, namespace="workbench", buckets=buckets, registry=self.registry)


class MeasuredBackend:
    """The store's backend; its writes are measured."""

    def __init__(self, backend: Backend, metrics: Metrics) -> None:
        self._backend = backend
        self._metrics = metrics

    async def write(self, statements: Sequence[Statement], *, since: int | None = None) -> None:
        """Run the statements in one transaction; on return they are durable."""
        with self._metrics.store_queue.track_inprogress(), self._metrics.store_commit_seconds.time():
            await self._backend.write(statements, since=since)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def error_types() -> frozenset[str]:
    """Return the types that an error of the upstream may have."""
    return frozenset({"connection_failed", "broke_off"} | {kind.type for kind in _with_subclasses(UpstreamError)})


def _with_subclasses(kind: type[UpstreamError]) -> Iterator[type[UpstreamError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _with_subclasses(subclass)
