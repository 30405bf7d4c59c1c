"""Every way the upstream fails, through both endpoints: status or last event, usage row, settled hold."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.faults.upstream import names
from tests.server.live import LiveServer, events, text_of
from workbench.claude import Claude

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from tests.faults.upstream import ScriptedUpstream

REFUSED = (502, "Claude refused the request", "upstream_refused")
FAILED = (502, "Claude failed", "upstream_error")
LIMITED = (503, "Rate limit exceeded", "upstream_rate_limited")
OVERLOADED = (503, "Claude is overloaded", "upstream_overloaded")
LATE = (504, "Connection timeout", "upstream_timeout")
CUT = (502, "Connection failed", "connection_failed")
BROKE_OFF = (502, "Claude's reply broke off", "broke_off")

BEFORE = {
    "400": REFUSED,
    "400_spend_limit": REFUSED,
    "400_should_retry": REFUSED,
    "401": REFUSED,
    "402": REFUSED,
    "403": REFUSED,
    "404": REFUSED,
    "408": LATE,
    "409": FAILED,
    "413": REFUSED,
    "422": REFUSED,
    "429": LIMITED,
    "429_retry_after": LIMITED,
    "429_retry_after_ms": LIMITED,
    "429_retry_after_date": LIMITED,
    "429_retry_after_hour": LIMITED,
    "429_bad_retry_after": LIMITED,
    "429_spend_limit": REFUSED,
    "500": FAILED,
    "502": FAILED,
    "503": OVERLOADED,
    "504": LATE,
    "529": OVERLOADED,
    "529_no_retry": OVERLOADED,
    "llama_400": REFUSED,
    "llama_context": REFUSED,
    "llama_500": FAILED,
    "502_html": FAILED,
    "bad_json_error": FAILED,
    "empty_error": OVERLOADED,
    "odd_json_error": FAILED,
    "empty_200": BROKE_OFF,
    "empty_stream": BROKE_OFF,
    "html_200": REFUSED,
    "json_200": REFUSED,
    "error_first": OVERLOADED,
    "hang": CUT,
    "reset_before": CUT,
    "close_before": CUT,
    "half_headers": CUT,
    "garbage_before": CUT,
}
MID = {
    "cut": CUT,
    "cut_clean": BROKE_OFF,
    "cut_in_frame": BROKE_OFF,
    "cut_in_letter": CUT,
    "no_stop": BROKE_OFF,
    "cut_at_end": CUT,
    "reset": CUT,
    "stall": CUT,
    "stall_in_frame": CUT,
    "overloaded": OVERLOADED,
    "api_error": FAILED,
    "rate_limit": LIMITED,
    "timeout": LATE,
    "unknown_error": FAILED,
    "error_at_end": FAILED,
    "llama_error": FAILED,
    "bare_error": FAILED,
    "bad_json": FAILED,
    "bad_utf8": FAILED,
    "not_an_object": FAILED,
    "no_delta": FAILED,
    "wrong_index": FAILED,
    "garbage": BROKE_OFF,
    "endless_frame": CUT,
}
SILENT = {"hang": 0, "stall": 1, "stall_in_frame": 1, "bad_chunk": 1}
"""Faults that only a deadline ends, and how many events a stream has before its last."""
WHOLE = {"no_stop", "cut_at_end", "error_at_end"}
"""What breaks after the last word."""


def _message(name: str) -> str:
    """Hangs and stalls end by a cut after a fifth of a second, floods after 200 kB."""
    return f"[[fault={name} seconds=0.2 size=200000 retry_after=0.01]]"


def _problem(answer: httpx2.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert {"error", "message", "type", "retryable", "request_id"} <= set(body)
    return answer.status_code, body["message"], body["type"]


def test_every_fault_is_in_these_tables() -> None:
    assert set(BEFORE) == set(names("before"))
    assert set(MID) | {"bad_chunk"} == set(names("mid"))


@pytest.mark.parametrize("name", BEFORE)
def test_what_fails_before_the_first_event_has_a_real_status(server: LiveServer, name: str) -> None:
    whole, streamed = (server.post(path, _message(name)) for path in ("/chat", "/chat/stream"))

    assert _problem(whole) == _problem(streamed) == BEFORE[name]
    assert (whole.json()["error"], streamed.json()["error"]) == ("Chat failed", "Stream failed")
    for answer in (whole, streamed):
        assert server.usage_of(answer.headers["x-request-id"], "status, error_type, output_tokens") == (
            "failed",
            BEFORE[name][2],
            0,
        )


@pytest.mark.parametrize("name", MID)
def test_what_breaks_in_mid_stream_is_one_last_event_and_a_failed_turn(server: LiveServer, name: str) -> None:
    status, message, kind = MID[name]

    whole = server.post("/chat", _message(name))
    with server.stream(_message(name)) as answer:
        told = list(events(answer))

    assert _problem(whole) == (status, message, kind)
    assert answer.status_code == 200
    assert text_of(told) == ("Hello brave new world" if name in WHOLE else "Hello brave")
    assert [event["done"] for event in told] == [False] * (len(told) - 1) + [True]
    last = told[-1]
    assert (last["error"], last["message"], last["type"]) == ("Stream failed", message, kind)
    assert last["retryable"] is True
    assert "fullText" not in last
    for request_id in (whole.headers["x-request-id"], answer.headers["x-request-id"]):
        assert server.usage_of(request_id, "status, error_type") == ("failed", kind)
    assert last["usage"]["output_tokens"] == server.usage_of(answer.headers["x-request-id"], "output_tokens")[0]


@pytest.mark.parametrize("name", SILENT)
def test_what_only_goes_silent_ends_at_a_deadline(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("workbench.engine.Claude", partial(Claude, pause=0.01, read_timeout=0.5))
    with LiveServer(tmp_path, upstream=upstream.url) as server:
        whole = server.post("/chat", f"[[fault={name} after=0]]")
        streamed = server.post("/chat/stream", f"[[fault={name} after=0]]")
        told = [streamed.json()] if SILENT[name] == 0 else list(events(streamed))

    assert _problem(whole) == LATE
    assert len(told) == SILENT[name] + 1
    assert (told[-1]["error"], told[-1]["message"]) == ("Stream failed", "Connection timeout")


def test_how_long_to_wait_is_passed_on(server: LiveServer) -> None:
    answer = server.post("/chat/stream", "[[fault=429_retry_after_hour]]")

    assert answer.headers["retry-after"] == "3600"
    assert answer.json()["retry_after"] == 3600
    assert answer.json()["retryable"] is True


def test_an_upstream_that_is_not_there_is_a_bad_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.engine.Claude", partial(Claude, pause=0.01))
    with LiveServer(tmp_path, upstream="http://127.0.0.1:9") as server:
        answer = server.post("/chat", "hi")

        assert _problem(answer) == CUT
        assert server.usage_of(answer.headers["x-request-id"], "status, cost_usd") == ("failed", 0)


def test_the_upstreams_own_words_are_not_passed_on(server: LiveServer) -> None:
    answer = server.post("/chat", "[[fault=402]]")

    assert "credit" not in answer.text
