"""What `/metrics` says after turns whose counts are known."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import httpx2
import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.exceptions import HTTPException
from starlette.requests import Request

from server.auth import Believed, GatewayUsers
from server.gateway import Gateway
from server.metrics import Metrics, error_types
from tests.faults.upstream import Usage, fault, reply
from tests.server.live import PATIENCE, LiveServer, events
from tests.test_classes import call
from workbench.claude import Claude
from workbench.errors import BudgetExceeded, RateLimited, StoreError
from workbench.ledger.demo import DEMO_ORG
from workbench.store import bulk
from workbench.turns import Caller
from workbench.turns import Usage as TurnUsage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from server.auth import Callers
    from tests.faults.upstream import ScriptedUpstream
    from workbench.store import Store
    from workbench.turns import LiveTurn

MODEL = "claude-haiku-5-5"
Samples = dict[str, float]
NAMES = {
    "requests_total",
    "request_seconds",
    "ttft_seconds",
    "overhead_seconds",
    "streams_active",
    "tokens_total",
    "cost_usd_total",
    "rate_limited_total",
    "budget_refused_total",
    "budget_nearly_spent_total",
    "upstream_errors_total",
    "client_disconnects_total",
    "usage_estimated_total",
    "forecast_usd",
    "holds_open",
    "store_queue",
    "store_commit_seconds",
    "event_loop_lag_seconds",
}
SCRAPE = 'requests_total{route="/metrics",status="200"}'


@pytest.fixture(scope="module")
def measured(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.engine.Claude", partial(Claude, pause=0.01))
        with LiveServer(tmp_path_factory.mktemp("measured"), upstream=running.url, CLAUDE_MODEL=MODEL) as server:
            yield server


@pytest.fixture
def quiet(measured: LiveServer, upstream: ScriptedUpstream) -> LiveServer:
    """The server, when nothing of an earlier test is still under way."""
    waiting_for(lambda: samples(measured)["streams_active"] == 0)
    return measured


def waiting_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def samples(server: LiveServer) -> Samples:
    """All values but those of buckets, by name and labels as they are written, the prefix left out."""
    found: Samples = {}
    for family in text_string_to_metric_families(server.client.get("/metrics").text):
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                found[sample.name.removeprefix("workbench_") + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


@contextmanager
def moved(server: LiveServer) -> Iterator[Samples]:
    """By how much each sample moved, those left out that depend on the clock or on scrapes alone."""
    before, result = samples(server), Samples()
    yield result
    after = samples(server)
    for name in after:
        difference = after[name] - before.get(name, 0)
        if difference and name != SCRAPE and not re.match(r"request_seconds|event_loop_lag|.*_sum$", name):
            result[name] = round(difference, 9)


def test_the_names_are_those_of_the_contract_and_each_has_a_help_text(quiet: LiveServer) -> None:
    families = list(text_string_to_metric_families(quiet.client.get("/metrics").text))

    named = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert named == {f"workbench_{name}" for name in NAMES}
    assert all(family.documentation for family in families)


def test_the_answer_says_which_format_it_is_in(quiet: LiveServer) -> None:
    answer = quiet.client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=")


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_a_turn_moves_exactly_what_it_caused(quiet: LiveServer, upstream: ScriptedUpstream, path: str) -> None:
    upstream.script(reply("2 + 2 equals 4.", usage=Usage(1000, 5000, 400, 200, output_tokens=8)))

    with moved(quiet) as by:
        answer = quiet.post(path, "What is 2+2?")

    assert answer.status_code == 200
    assert by == {
        f'requests_total{{route="{path}",status="200"}}': 1,
        "ttft_seconds_count": 1,
        "overhead_seconds_count": 1,
        f'tokens_total{{kind="uncached_input",model="{MODEL}"}}': 1000,
        f'tokens_total{{kind="cache_read",model="{MODEL}"}}': 5000,
        f'tokens_total{{kind="cache_write_5m",model="{MODEL}"}}': 400,
        f'tokens_total{{kind="cache_write_1h",model="{MODEL}"}}': 200,
        f'tokens_total{{kind="output",model="{MODEL}"}}': 8,
        f'cost_usd_total{{model="{MODEL}"}}': 0.000244,  # 0.10, 0.01, 0.125, 0.20 and 0.50 dollars a million
        "store_commit_seconds_count": 2,
    }


def test_a_failed_turn_counts_its_kind_of_error(quiet: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(fault("529"), fault("529"), fault("529"))

    with moved(quiet) as by:
        quiet.post("/chat", "hi")

    assert by == {
        'requests_total{route="/chat",status="503"}': 1,
        'upstream_errors_total{type="upstream_overloaded"}': 1,
        "overhead_seconds_count": 1,
        "store_commit_seconds_count": 2,
    }


def test_a_reply_that_breaks_off_is_estimated(quiet: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(fault("cut", after=1))

    with moved(quiet) as by:
        quiet.post("/chat/stream", "hi")

    assert by['requests_total{route="/chat/stream",status="200"}'] == 1
    assert by['upstream_errors_total{type="connection_failed"}'] == 1
    assert by["usage_estimated_total"] == 1


def test_a_client_that_leaves_is_counted_once(quiet: LiveServer) -> None:
    with moved(quiet) as by:
        with quiet.stream("[[fault=stall]]") as answer:
            told = events(answer)
            next(told)
            under_way = samples(quiet)
        waiting_for(lambda: samples(quiet)["client_disconnects_total"] > under_way["client_disconnects_total"])

    assert (under_way["streams_active"], under_way["holds_open"]) == (1, 1)
    assert by["client_disconnects_total"] == 1
    assert by["usage_estimated_total"] == 1
    assert "overhead_seconds_count" not in by
    assert not any(name.startswith("upstream_errors") for name in by)
    after = samples(quiet)
    assert (after["streams_active"], after["holds_open"], after["store_queue"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("error", "metric", "status"),
    [(RateLimited, "rate_limited_total", 429), (BudgetExceeded, "budget_refused_total", 402)],
)
def test_a_refusal_of_ours_is_counted_as_it_is_answered(
    quiet: LiveServer, monkeypatch: pytest.MonkeyPatch, error: type[Exception], metric: str, status: int
) -> None:
    made = error.__new__(error, "no")  # counted is what is answered, whatever else the errors carry
    made.__dict__ |= {"retry_after": 1.0, "limit": 1, "reset": 1.0, "resets_at": None}

    def refuse(*_: object, **__: object) -> None:
        raise made

    monkeypatch.setattr(quiet.app.state.service.engine, "turn", refuse)
    with moved(quiet) as by:
        assert quiet.post("/chat", "hi").status_code == status

    assert by == {metric: 1, f'requests_total{{route="/chat",status="{status}"}}': 1}


def test_what_is_no_http_is_counted_without_a_route(quiet: LiveServer) -> None:
    with moved(quiet) as by, quiet.send("/chat\x00", "hi", "request-1") as connection:
        while connection.recv(65536):
            pass

    assert by == {'requests_total{route="none",status="400"}': 1}


def test_labels_stay_few_whatever_paths_and_orgs_clients_name(quiet: LiveServer) -> None:
    quiet.client.get("/made-up")
    before = samples(quiet)

    for number in range(1000):
        headers = {"x-org-id": f"org-{number}", "x-user-id": f"user-{number}"}
        assert quiet.client.get(f"/made-up/{number}?a={number}", headers=headers).status_code == 404

    after = samples(quiet)
    assert set(after) == set(before)
    assert (
        after['requests_total{route="none",status="404"}'] == before['requests_total{route="none",status="404"}'] + 1000
    )


def test_labels_stay_few_whatever_models_orgs_and_errors_turns_have(
    quiet: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[LiveTurn] = []
    monkeypatch.setattr(quiet.app.state.metrics, "recorded", turns.append)
    quiet.post("/chat", "hi", model="made-up")
    (turn,) = turns
    made = Metrics(MODEL)

    for number in range(1000):
        caller = Caller(f"org-{number}", f"user-{number}")
        made.recorded(replace(turn, model=f"made-up-{number}", caller=caller, error_type=f"error-{number}"))

    families = text_string_to_metric_families(made.text().decode())
    labels = [sample.labels for family in families for sample in family.samples]
    assert {each["model"] for each in labels if "model" in each} == {"other"}
    assert {each["type"] for each in labels if "type" in each} == {"other"}
    assert {each["kind"] for each in labels if "kind" in each} <= {
        "uncached_input",
        "cache_read",
        "cache_write_5m",
        "cache_write_1h",
        "output",
    }
    assert {name for each in labels for name in each} == {"model", "kind", "type", "le"}
    assert made.registry.get_sample_value("workbench_upstream_errors_total", {"type": "other"}) == 1000


def test_a_dated_model_is_counted_under_the_name_it_is_listed_by(quiet: LiveServer) -> None:
    with moved(quiet) as by:
        quiet.post("/chat", "hi", model="claude-haiku-4-5-20251001")

    assert 'tokens_total{kind="output",model="claude-haiku-4-5"}' in by


def test_our_overhead_leaves_out_what_the_upstream_took(quiet: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("a b c", ttft=1.0, delay=0.1))
    before = samples(quiet)
    began = time.monotonic()
    quiet.post("/chat", "hi")
    took = time.monotonic() - began
    after = samples(quiet)

    ours = after["overhead_seconds_sum"] - before["overhead_seconds_sum"]
    assert 0 < ours < took - 1.0
    assert after["ttft_seconds_sum"] - before["ttft_seconds_sum"] >= 1.0


async def test_lag_is_how_late_the_loop_wakes() -> None:
    made = Metrics(MODEL)
    watching = asyncio.create_task(made.watch_loop())
    await asyncio.sleep(0)
    time.sleep(0.4)  # noqa: ASYNC251  # what it is to notice
    while not made.registry.get_sample_value("workbench_event_loop_lag_seconds_count"):
        await asyncio.sleep(0.01)
    watching.cancel()

    lag = made.registry.get_sample_value("workbench_event_loop_lag_seconds_sum")
    assert lag is not None
    assert lag >= 0.3


def test_a_store_that_does_not_answer_keeps_nothing_else_back(
    quiet: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("server.metrics.STORE_SECONDS", 0.05)
    monkeypatch.setattr(quiet.app.state.service.engine.store.backend._backend, "rows", never)

    found = samples(quiet)
    assert found["holds_open"] != found["holds_open"]  # not a number
    assert found["streams_active"] == 0


@pytest.mark.parametrize("client", [("203.0.113.9", 4711), ("2001:db8::1", 4711), ("a socket", 0), None])
@pytest.mark.parametrize("mode", [Believed(), GatewayUsers(Gateway({}))])
async def test_without_keys_only_programs_of_this_machine_may_read_them(
    mode: Callers, client: tuple[str, int] | None
) -> None:
    with pytest.raises(HTTPException) as refused:
        await mode.check_operator(Request({"type": "http", "client": client}))

    assert refused.value.status_code == 403


def test_a_client_that_reads_nothing_is_one_that_left(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(reply(["many words " * 1000] * 2000))
    silent = LiveServer(tmp_path, upstream=upstream.url, stall_seconds=0.2)
    with silent, silent.send("/chat/stream", "hi", "request-1"):
        waiting_for(lambda: samples(silent)["client_disconnects_total"] == 1)


def test_a_table_that_breaks_off_is_no_client_that_left(quiet: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaking(*_: object) -> AsyncIterator[pa.Table]:
        yield pa.table({"model": [MODEL]})
        raise StoreError("the disk is gone")

    monkeypatch.setattr("server.routes.usage.usage_pieces", breaking)
    with moved(quiet) as by, pytest.raises(httpx2.RemoteProtocolError):
        quiet.client.get("/usage")

    assert by == {'requests_total{route="/usage",status="200"}': 1}


def test_the_types_of_errors_are_those_the_server_answers_with() -> None:
    assert error_types() == {
        "upstream_error",
        "upstream_rate_limited",
        "upstream_overloaded",
        "upstream_timeout",
        "upstream_refused",
        "connection_failed",
        "broke_off",
    }


def bounds(metrics: Metrics) -> list[float | None]:
    names = ("low", "expected", "high")
    return [metrics.registry.get_sample_value("workbench_forecast_usd", {"bound": name}) for name in names]


async def test_how_the_month_ends_is_foreseen_for_all_orgs_together(file_store: Store) -> None:
    metrics, now = Metrics(MODEL), datetime.now(UTC)
    await metrics.look_into(file_store.backend)
    assert bounds(metrics) == [None, None, None]  # nobody can say yet

    usage = TurnUsage(uncached_input_tokens=250_000)
    calls = [call(now - timedelta(days=n), "claude-opus-5-5", usage, org_id=f"org{n % 2}") for n in range(1, 60)]
    calls += [call(now - timedelta(days=n), "claude-opus-5-5", usage, org_id=DEMO_ORG) for n in range(1, 60)]
    await bulk.add(file_store.backend, {"usage": calls})
    await metrics.look_into(file_store.backend)
    assert bounds(metrics) == [None, None, None]  # asked a moment ago

    metrics = Metrics(MODEL)
    await metrics.look_into(file_store.backend)
    low, expected, high = bounds(metrics)
    month = (now.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    assert low is not None and expected is not None and high is not None
    assert now.day - 1 <= low <= expected <= high
    assert expected == pytest.approx(month.day, rel=0.1)  # a dollar a day, the synthetic ones not counted
    text = metrics.text().decode()
    assert "org0" not in text

    file_store.close()
    metrics = Metrics(MODEL)
    await metrics.look_into(file_store.backend)
    assert bounds(metrics) == [None, None, None]
