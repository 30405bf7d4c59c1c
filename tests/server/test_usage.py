"""`GET /usage`: the figures of `wb.usage()` as JSON, CSV and Arrow, of any size."""

from __future__ import annotations

import asyncio
import csv
import io
import socket
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx2
import pyarrow as pa
import pytest

import workbench as wb
from server.tables import accepted
from tests.faults.upstream import Usage, reply
from tests.server.live import PATIENCE, LiveServer
from workbench.errors import StoreError
from workbench.store.backend import Statement
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream

# CONTRACT: what was billed, one row per call
COLUMNS = [
    *("id", "request_id", "org_id", "user_id", "chat_id", "message_id", "source", "model", "prompt_name"),
    *("prompt_version", "experiment", "variant", "started_at", "ttft_ms", "duration_ms", "input_tokens"),
    *("uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens"),
    *("thinking_tokens", "web_searches", "service_tier", "stop_reason", "status", "error_type", "usage_estimated"),
    *("cost_usd", "price_source"),
]
SUMS = [
    *("calls", "input_tokens", "uncached_input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"),
    *("cost_usd", "unpriced_calls"),
]
ARROW = "application/vnd.apache.arrow.stream"
# a call a second; three at a time share their moment
CALL = """INSERT INTO usage
    (id, request_id, org_id, user_id, chat_id, source, model, started_at, input_tokens, uncached_input_tokens,
     cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, thinking_tokens, web_searches, status,
     usage_estimated, cost_usd, price_source)
SELECT 'call-' || i, 'request-' || i, $1, 'ann', 'chat-' || i % 7, 'server', $2,
    TIMESTAMPTZ '2026-11-01 00:00:00Z' + INTERVAL (i // 3) SECOND, 10, 10, 0, 0, 0, 5, 0, 0, 'complete', false,
    CAST($3 AS DECIMAL(18, 9)), 'test'
FROM range($4) calls(i)"""


def add_calls(
    server: LiveServer, calls: int, *, org: str, model: str = "claude-sonnet-5-5", cost: str | None = "0.00000002"
) -> None:
    store = server.app.state.service.engine.store
    asyncio.run(store.backend.write([Statement(CALL, (org, model, cost, calls))]))


def get(server: LiveServer, org: str = DEFAULT_ID, accept: str = "*/*", **parameters: Any) -> httpx2.Response:
    answer = server.client.get("/usage", params=parameters, headers={"x-org-id": org, "accept": accept})
    assert answer.status_code == 200, answer.text
    return answer


def table(answer: httpx2.Response) -> pa.Table:
    return pa.ipc.open_stream(answer.content).read_all()


def lines(answer: httpx2.Response) -> list[list[str]]:
    return list(csv.reader(io.StringIO(answer.text)))


@pytest.fixture
def own(upstream: ScriptedUpstream, tmp_path: Path) -> Iterator[LiveServer]:
    """A server whose store holds nothing yet."""
    with LiveServer(tmp_path, upstream=upstream.url) as server:
        yield server


@pytest.fixture
def two_calls(own: LiveServer, upstream: ScriptedUpstream) -> LiveServer:
    upstream.script(
        reply("Four", usage=Usage(uncached_input_tokens=1000, output_tokens=42)),
        reply("Five", usage=Usage(100, 1000, 300, 200, output_tokens=10)),
    )
    chat_id = own.post("/chat", "2+2?").json()["chat_id"]
    own.post("/chat", "And 2+3?", chat_id=chat_id)
    return own


# Figures ------------------------------------------------------------------------------------------------------------


def test_without_by_there_is_a_row_a_call_oldest_first(two_calls: LiveServer) -> None:
    answer = get(two_calls)

    assert answer.headers["content-type"] == "application/json"
    first, second = answer.json()
    assert list(first) == COLUMNS
    assert (first["uncached_input_tokens"], first["output_tokens"], first["source"]) == (1000, 42, "server")
    assert (second["input_tokens"], second["cache_read_tokens"]) == (1600, 1000)
    assert (first["prompt_version"], first["usage_estimated"]) == (None, False)


def test_costs_are_exact_and_times_are_utc(own: LiveServer) -> None:
    add_calls(own, 4, org="acme")

    rows = get(own, "acme").json()

    assert [row["cost_usd"] for row in rows] == ["0.00000002"] * 4
    assert [row["started_at"][-13:] for row in rows] == ["00:00:00.000Z"] * 3 + ["00:00:01.000Z"]
    assert get(own, "acme", by="model").json()[0]["cost_usd"] == "0.00000008"


def test_sums_are_by_the_columns_asked_for(own: LiveServer) -> None:
    add_calls(own, 6, org="acme")

    hours = get(own, "acme", by="hour, model").json()

    assert hours == [
        {
            "hour": "2026-11-01T00:00:00.000Z",
            "model": "claude-sonnet-5-5",
            "calls": 6,
            "input_tokens": 60,
            "uncached_input_tokens": 60,
            "cache_read_tokens": 0,
            "cache_write_tokens": 0,
            "output_tokens": 30,
            "cost_usd": "0.00000012",
            "unpriced_calls": 0,
        }
    ]
    repeated = own.client.get("/usage?by=hour&by=model&by=hour", headers={"x-org-id": "acme"})
    assert repeated.json() == hours
    assert [row["day"] for row in get(own, "acme", by="day").json()] == ["2026-11-01"]


@pytest.mark.parametrize("by", ["", "day,model", "chat_id"])
def test_the_figures_are_those_of_the_library(two_calls: LiveServer, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    store = two_calls.app.state.service.engine.store
    monkeypatch.setenv("WORKBENCH_STORE", store.backend.path)
    wb.runtime.close()
    frame = wb.usage(by=by.split(",") if by else ()).drop(columns="cost")
    wb.runtime.close()

    ours = table(get(two_calls, by=by, format="arrow"))

    assert ours.column_names == list(frame.columns)
    assert ours["cost_usd"].to_pylist() == [Decimal(f"{cost:.9f}") for cost in frame["cost_usd"]]
    assert ours["output_tokens"].to_pylist() == frame["output_tokens"].to_list()
    assert len(ours) == (1 if by else 2)


def test_a_cost_nobody_knows_is_missing_and_never_zero(own: LiveServer) -> None:
    add_calls(own, 1, org="acme", cost=None)

    (row,) = get(own, "acme", by="model").json()
    assert (row["cost_usd"], row["unpriced_calls"]) == (None, 1)
    header, line = lines(get(own, "acme", format="csv"))
    assert line[header.index("cost_usd")] == ""
    assert table(get(own, "acme", format="arrow"))["cost_usd"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("parameters", "calls"),
    [
        ("since=2026-11-01T00:00:02", 7),
        ("until=2026-11-01T00:00:02", 6),
        ("since=2026-11-01T00:00:01&until=2026-11-01T00:00:02", 3),
        ("since=2026-11-01T01:00:02%2B01:00", 7),
        ("since=2026-11-01T01:00:02+01:00", 7),  # as it is written by hand: in a query a + is a space
        ("since=2026-11-01 00:00:02", 7),
        ("until=2026-11-01", 0),
        ("since=2026-11-02&until=2026-11-01", 0),
    ],
)
def test_since_is_included_and_until_is_not(own: LiveServer, parameters: str, calls: int) -> None:
    add_calls(own, 13, org="acme")

    assert len(own.client.get(f"/usage?{parameters}", headers={"x-org-id": "acme"}).json()) == calls


def test_of_another_org_nothing_is_seen(own: LiveServer) -> None:
    add_calls(own, 3, org="acme")
    own.post("/chat", "hi", headers={"x-org-id": "globex", "x-user-id": "eve"})

    assert [row["org_id"] for row in get(own, "globex").json()] == ["globex"]
    assert [row["calls"] for row in get(own, "globex", by="model").json()] == [1]
    assert get(own).json() == []


# Formats ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("TEXT/CSV ; q=0.5, application/json;q=0.4", "text/csv; charset=utf-8"),
        ("application/json;q=0, text/*", "text/csv; charset=utf-8"),
        (ARROW, ARROW),
    ],
)
def test_the_accept_header_chooses_the_format(server: LiveServer, accept: str, media_type: str) -> None:
    assert get(server, accept=accept).headers["content-type"] == media_type


def test_the_parameter_goes_before_the_accept_header(server: LiveServer) -> None:
    answer = get(server, accept="application/json", format="arrow")

    assert answer.headers["content-type"] == ARROW
    assert answer.headers["content-disposition"] == 'attachment; filename="usage.arrow"'
    assert answer.headers["cache-control"] == "no-store"


def test_a_client_that_takes_none_of_the_formats_is_told_them(server: LiveServer) -> None:
    answer = server.client.get("/usage", headers={"accept": "image/png"})

    assert (answer.status_code, answer.json()["error"], answer.json()["type"]) == (
        406,
        "Not Acceptable",
        "not_acceptable",
    )
    assert "text/csv" in answer.json()["message"]


@pytest.mark.parametrize("accept", ["text/csv;q=high", "text/csv;q=0", "image/*, text/html"])
def test_no_format_is_liked(accept: str) -> None:
    assert accepted(accept) is None


@pytest.mark.parametrize(("by", "columns"), [("", COLUMNS), ("week,user_id", ["week", "user_id", *SUMS])])
def test_an_empty_report_has_its_columns(server: LiveServer, by: str, columns: list[str]) -> None:
    nobody = "nobody-asked"

    assert get(server, nobody, by=by).json() == []
    assert lines(get(server, nobody, by=by, format="csv")) == [columns]
    arrow = table(get(server, nobody, by=by, format="arrow"))
    assert (arrow.num_rows, arrow.column_names) == (0, columns)
    assert arrow.schema.field("cost_usd").type == pa.decimal128(18, 9)


@pytest.mark.parametrize("model", ['=HYPERLINK("http://example.com")', "@SUM(A1)", "+1", "-1", "＝1+1", " =1", "\t=1"])
def test_a_spreadsheet_gets_no_formula(own: LiveServer, model: str) -> None:
    add_calls(own, 1, org="acme", model=model)

    header, line = lines(get(own, "acme", format="csv", by="model"))
    assert line[header.index("model")] == "'" + model
    assert get(own, "acme", by="model").json()[0]["model"] == model


def test_what_is_no_formula_is_left_as_it_is(own: LiveServer) -> None:
    add_calls(own, 1, org="acme", model='a,"b"=\n-c', cost="-0.5")

    header, line = lines(get(own, "acme", format="csv", by="model"))
    assert (line[0], line[header.index("cost_usd")]) == ('a,"b"=\n-c', "-0.5")


# What does not fit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("since=yesterday", "since: 'yesterday' is no time; write it like 2026-11-25 or 2026-11-25T14:30+01:00"),
        ("until=", "until: '' is no time; write it like 2026-11-25 or 2026-11-25T14:30+01:00"),
        ("by=day,cost_usd", "by: usage cannot be summed by 'cost_usd'; use any of hour, day,"),
        ("by=1);DROP TABLE usage", "by: usage cannot be summed by '1);DROP TABLE usage'; use any of"),
        ("format=xml", "format: input should be 'json', 'csv' or 'arrow'"),
        ("untill=2026-11-01", "untill: extra inputs are not permitted"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(server: LiveServer, parameters: str, message: str) -> None:
    answer = server.client.get(f"/usage?{parameters}")

    assert (answer.status_code, answer.json()["error"]) == (422, "Validation Error")
    assert answer.json()["message"].startswith(message)


# Size ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["", "model,chat_id"])
def test_a_report_in_many_pieces_is_whole(own: LiveServer, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    monkeypatch.setattr("workbench.ledger.frames.PIECE_ROWS", 4)
    add_calls(own, 100, org="acme")

    whole = table(get(own, "acme", by=by, format="arrow")).to_pylist()
    ids = [row.get("id", row.get("chat_id")) for row in whole]

    assert len(set(ids)) == len(ids) == (7 if by else 100)
    name = "chat_id" if by else "id"
    assert [row[name] for row in get(own, "acme", by=by).json()] == ids
    header, *rest = lines(get(own, "acme", by=by, format="csv"))
    assert [line[header.index(name)] for line in rest] == ids


def held_up(server: LiveServer, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    """Have something done before the third read: that of the second piece of calls."""
    store = server.app.state.service.engine.store
    read, reads = store.arrow, []

    async def arrow(*asked: Any) -> pa.Table:
        reads.append(asked)
        if len(reads) == 3:
            await asyncio.to_thread(meanwhile)
        return await read(*asked)

    monkeypatch.setattr(store, "arrow", arrow)


@pytest.mark.parametrize("form", ["json", "csv", "arrow"])
def test_the_first_rows_arrive_before_the_last_are_read(
    own: LiveServer, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr("workbench.ledger.frames.PIECE_ROWS", 9)
    add_calls(own, 27, org="acme")
    arrived = threading.Event()
    held_up(own, monkeypatch, lambda: arrived.wait(PATIENCE))

    with own.client.stream("GET", "/usage", params={"format": form}, headers={"x-org-id": "acme"}) as answer:
        raw = answer.iter_raw()
        first = next(raw)
        assert b"call-8" in first and not arrived.is_set()
        arrived.set()
        rest = b"".join(raw)

    assert b"call-9" in rest and b"call-26" in rest


def test_a_store_that_fails_in_the_middle_cuts_the_answer_off(own: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.ledger.frames.PIECE_ROWS", 9)
    add_calls(own, 27, org="acme")

    def fail() -> None:
        raise StoreError("the disk is gone")

    held_up(own, monkeypatch, fail)

    with pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"):
        get(own, "acme", format="csv")
    assert get(own, "acme", by="model").json()[0]["calls"] == 27


def test_a_store_that_fails_at_once_is_a_503_without_its_words(
    own: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise StoreError("the disk /secret is gone")

    monkeypatch.setattr(own.app.state.service.engine.store, "arrow", fail)

    answer = own.client.get("/usage")

    assert (answer.status_code, answer.json()["type"]) == (503, "store_error")
    assert "secret" not in answer.text
    assert "turn" not in answer.json()["message"]


def asking(server: LiveServer) -> socket.socket:
    """A client that asks for 20 MB and reads none of it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(PATIENCE)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(b"GET /usage HTTP/1.1\r\nhost: 127.0.0.1\r\nx-org-id: acme\r\n\r\n")
    return connection


def rest_of(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 20), b""))


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_client_that_reads_nothing_is_taken_for_gone(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with LiveServer(tmp_path, upstream=upstream.url, stall_seconds=0.3) as server:
        add_calls(server, 30_000, org="acme")
        with asking(server) as stuck:
            at_work = server.app.state.service.at_work
            eventually(lambda: bool(at_work))
            eventually(lambda: not at_work)
            read = rest_of(stuck)

    assert read.startswith(b"HTTP/1.1 200") and not read.endswith(b"0\r\n\r\n")


def test_a_server_that_stops_waits_for_no_reader_for_ever(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with LiveServer(tmp_path, upstream=upstream.url, drain_seconds=0.2) as server:
        add_calls(server, 30_000, org="acme")
        with asking(server) as stuck:
            stuck.recv(1)
            server.stop()
            eventually(lambda: not server.app.state.service.at_work)
            read = rest_of(stuck)
        server.join()

    assert not read.endswith(b"0\r\n\r\n")
