"""Traces and metrics for OpenTelemetry, sent to a collector when ``OTEL_EXPORTER_OTLP_ENDPOINT`` names one.

The spans are FastAPI's own, one a request, and below it the Anthropic SDK's own, one a call. Since we read the reply's
bytes ourselves, the SDK never learns what they cost: what is known when a turn is in the ledger is added to the span of
its request, by the names of OpenTelemetry's GenAI conventions. No text of a message is ever sent.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace

from workbench import __version__
from workbench.errors import ConfigurationError
from workbench.turns import LOCAL_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi.telemetry import TelemetryConfig
    from starlette.types import Scope

    from workbench.settings import Settings
    from workbench.turns import LiveTurn

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines; their spans would bury all others."""
LAST_EXPORT_SECONDS = 5
"""How long the end of the server may wait for a collector that does not answer."""


@contextmanager
def exported(settings: Settings) -> Iterator[None]:
    """Send spans and metrics to the collector until the end of the block; without one do nothing.

    Other variables of the standard (``OTEL_SERVICE_NAME``, ``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_TRACES_SAMPLER``, …)
    are read by OpenTelemetry itself, from the environment.

    Raises:
        ConfigurationError: a collector is named, but the packages that speak to one are not installed.
    """
    if settings.otel_endpoint is None:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but {error.name} is not installed; "
            'run: pip install "claude-workbench[otel]", or unset it'
        ) from None
    ours = Resource.create({"service.name": "workbench", "service.version": __version__})
    resource = ours.merge(OTELResourceDetector().detect())  # what the environment says comes first
    tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{settings.otel_endpoint}/v1/traces")))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{settings.otel_endpoint}/v1/metrics"))
    measuring = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(measuring)
    try:
        yield
    finally:
        _ended(tracing.shutdown, measuring.shutdown)


def _ended(*shutdowns: Callable[[], None]) -> None:
    """Send what is left. To a collector that is away it is tried for up to 30 s, longer than anybody waits for a stop."""
    threads = [Thread(target=shutdown, daemon=True) for shutdown in shutdowns]
    for thread in threads:
        thread.start()
    deadline = monotonic() + LAST_EXPORT_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))


def fastapis() -> TelemetryConfig:
    """Return what FastAPI may tell: no log records, since those of a body that does not fit hold the body."""
    return {
        "auto_configure": False,
        "logs": False,
        "operation_spans": False,  # they end before a stream begins, and double what a request costs
        "exclude": lambda scope: scope.get("path") in PROBES,
    }


def begun(scope: Scope, request_id: str) -> None:
    """Name the request to its span, and take from it what somebody searched for."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attribute("workbench.request_id", request_id)
        if scope["query_string"]:
            span.set_attribute("url.query", "REDACTED")


class Turns:
    """Tells what each turn used, when it is in the ledger."""

    def __init__(self) -> None:
        meter = metrics.get_meter("workbench", __version__)
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used"
        )
        self.duration = meter.create_histogram("gen_ai.client.operation.duration", "s", "GenAI operation duration")
        self.first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "From the request to the first token"
        )

    def recorded(self, turn: LiveTurn) -> None:
        """Add to the span of the request, and count."""
        usage, reply = turn.usage, turn.reply
        common: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": LOCAL_MODEL if turn.model == LOCAL_MODEL else "anthropic",
            "gen_ai.request.model": turn.model,
        }
        failed = {} if turn.error_type is None else {"error.type": turn.error_type}
        self.tokens.record(usage.input_tokens, {**common, "gen_ai.token.type": "input"})
        self.tokens.record(usage.output_tokens, {**common, "gen_ai.token.type": "output"})
        self.duration.record(turn.duration_ms / 1000, {**common, **failed})
        span_only: dict[str, Any] = {
            "gen_ai.conversation.id": turn.chat.id,
            "gen_ai.request.max_tokens": turn.max_tokens,
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
            "workbench.org_id": turn.caller.org_id,
            "workbench.message_id": turn.message_id,
            "workbench.status": turn.status,
            "workbench.usage_estimated": usage.estimated,
        }
        if reply.stop_reason is not None:
            span_only["gen_ai.response.finish_reasons"] = [reply.stop_reason]
        if turn.cost_usd is not None:
            span_only["workbench.cost_usd"] = str(turn.cost_usd)
        if turn.ttft_ms is not None:
            self.first_chunk.record(turn.ttft_ms / 1000, common)
            span_only["gen_ai.response.time_to_first_chunk"] = turn.ttft_ms / 1000
        trace.get_current_span().set_attributes({**common, **failed, **span_only})
