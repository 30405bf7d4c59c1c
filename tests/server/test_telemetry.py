"""What a collector of OpenTelemetry is sent by the server, and what it is not."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from server.telemetry import exported
from tests.faults.upstream import ScriptedUpstream, Usage, fault, reply
from tests.server.live import events
from tests.server.process import ServerProcess
from workbench.errors import ConfigurationError
from workbench.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "the plan of the year"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CACHED = Usage(100, cache_read_tokens=2000, cache_write_5m_tokens=300, output_tokens=7)


class Collector(ThreadingHTTPServer):
    """Takes what it is sent, as OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.resources: list[dict[str, Any]] = []
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path == "/v1/traces":
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(values(group.resource.attributes))
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
        else:
            assert path == "/v1/metrics"
            for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics |= {metric.name: metric for scope in group.scope_metrics for metric in scope.metrics}

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.take(self.path, gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


def values(attributes: Any) -> dict[str, Any]:
    return {pair.key: value(pair.value) for pair in attributes}


def value(told: Any) -> Any:
    kind = told.WhichOneof("value")
    return [value(each) for each in told.array_value.values] if kind == "array_value" else getattr(told, kind)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, dict[str, Any], list[str]]]:
    """What is collected of one turn, one that breaks off and a body that does not fit; the first's end; the log."""
    with ScriptedUpstream() as upstream, collecting() as collector:
        upstream.script(reply(SECRET, usage=CACHED), fault("cut", after=1))
        environment = {
            "ANTHROPIC_API_KEY": "sk-ant-secret",
            "ANTHROPIC_BASE_URL": upstream.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        with ServerProcess(tmp_path_factory.mktemp("told") / "store.duckdb", **environment) as server:
            headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-org-id": "acme"}
            ask = {"message": SECRET, "model": "claude-haiku-5-5"}
            with server.client.stream("POST", "/chat/stream", json=ask, headers=headers) as answer:
                first, *_, last = events(answer)
            with server.client.stream("POST", "/chat/stream", json=ask) as answer:
                *_, broken = events(answer)
            assert "error" in broken
            server.client.post("/chat", json={"message": [SECRET]})
            server.client.get("/usage", params={"by": "model", "since": SECRET})
            server.client.get("/healthz")
            server.signal(signal.SIGTERM)
            assert server.ended() == 0
            yield collector, first | last, server.lines


def test_a_request_has_one_span_and_below_it_the_calls_one(told: tuple[Collector, dict[str, Any], list[str]]) -> None:
    collector, *_ = told
    first = collector.named("POST /chat/stream")[0]
    call = collector.named("anthropic.messages.create")[0]

    assert first.trace_id.hex() == TRACE  # the client's, who called with it
    assert call.parent_span_id == first.span_id
    assert sorted({span.name for span in collector.spans}) == [
        "GET /usage",
        "POST /chat",
        "POST /chat/stream",
        "anthropic.messages.create",
    ]


def test_the_span_of_a_turn_says_what_it_used(told: tuple[Collector, dict[str, Any], list[str]]) -> None:
    collector, last, _ = told
    said = values(collector.named("POST /chat/stream")[0].attributes)

    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-haiku-5-5",
        "gen_ai.request.max_tokens": 4096,
        "gen_ai.conversation.id": last["chat_id"],
        "gen_ai.usage.input_tokens": 2400,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 2000,
        "gen_ai.usage.cache_creation.input_tokens": 300,
        "gen_ai.response.finish_reasons": ["end_turn"],
        "workbench.org_id": "acme",
        "workbench.request_id": last["request_id"],
        "workbench.message_id": last["message_id"],
        "workbench.status": "complete",
        "workbench.usage_estimated": False,
        "workbench.cost_usd": last["cost_usd"],
        "http.response.status_code": 200,
    }
    assert {key: said[key] for key in expected} == expected


def test_a_turn_that_breaks_off_says_why(told: tuple[Collector, dict[str, Any], list[str]]) -> None:
    collector, *_ = told
    said = values(collector.named("POST /chat/stream")[1].attributes)

    assert (said["error.type"], said["workbench.status"]) == ("connection_failed", "failed")


def test_the_metrics_are_those_of_the_genai_conventions(told: tuple[Collector, dict[str, Any], list[str]]) -> None:
    collector, *_ = told
    tokens = collector.metrics["gen_ai.client.token.usage"].histogram.data_points
    by_type = {values(point.attributes)["gen_ai.token.type"]: point for point in tokens}

    assert by_type["input"].max == 2400
    assert by_type["input"].count == 2
    assert by_type["output"].max == 7
    assert collector.metrics["gen_ai.client.operation.duration"].unit == "s"
    assert collector.metrics["gen_ai.client.operation.time_to_first_chunk"].histogram.data_points[0].count == 2
    assert "http.server.request.duration" in collector.metrics


def test_no_text_and_no_key_is_sent(told: tuple[Collector, dict[str, Any], list[str]]) -> None:
    collector, *_ = told
    assert len(collector.bodies) >= 2
    secrets = (SECRET, SECRET.replace(" ", "+"), SECRET.replace(" ", "%20"), "sk-ant")
    assert [body for body in collector.bodies if any(secret.encode() in body for secret in secrets)] == []


def test_the_resource_is_named_and_the_environment_may_add_to_it(
    told: tuple[Collector, dict[str, Any], list[str]],
) -> None:
    collector, *_ = told
    assert collector.resources[0]["service.name"] == "workbench"
    assert collector.resources[0]["deployment.environment.name"] == "test"


def test_a_log_line_names_its_trace(told: tuple[Collector, dict[str, Any], list[str]]) -> None:
    collector, _, lines = told
    completed = [entry for line in lines if (entry := json.loads(line))["message"] == "Claude stream completed"]

    assert completed[0]["traceId"] == TRACE
    assert completed[0]["spanId"] == collector.named("POST /chat/stream")[0].span_id.hex()


def test_a_collector_that_is_away_costs_no_turn_and_does_not_keep_the_server_from_ending(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    with socket.socket() as nobody:  # bound, so nobody else takes the port; not listening
        nobody.bind(("127.0.0.1", 0))
        environment = {
            "ANTHROPIC_API_KEY": "sk-ant-x",
            "ANTHROPIC_BASE_URL": upstream.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{nobody.getsockname()[1]}",
        }
        with ServerProcess(tmp_path / "store.duckdb", **environment) as server:
            assert server.client.post("/chat", json={"message": "hi"}).status_code == 200
            server.signal(signal.SIGTERM)
            assert server.ended() == 0


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    settings = read_settings(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")

    with pytest.raises(ConfigurationError, match=r'pip install "claude-workbench\[otel\]"'), exported(settings):
        pass
