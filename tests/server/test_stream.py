"""`POST /chat/stream`: tokens as they come, one last event, and turns that cannot be saved."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from server.stream import _Writer
from tests.faults.upstream import Usage, fault, reply, thinking, tool_use
from tests.server.live import LiveServer, events, text_of
from workbench.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream
    from workbench.turns import LiveTurn


def test_the_events_are_those_clients_of_the_predecessor_read(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Code flows", usage=Usage(12, output_tokens=21)))

    with server.stream("Write a haiku about coding") as answer:
        lines = list(answer.iter_lines())

    ids = json.loads(lines[0].removeprefix("data: "))
    assert list(ids) == ["token", "done", "chat_id", "message_id", "model", "request_id"]
    assert (ids["token"], ids["done"], ids["model"]) == ("", False, "claude-sonnet-5-5")
    assert lines[1:5] == ["", 'data: {"token":"Code","done":false}', "", 'data: {"token":" flows","done":false}']
    last = json.loads(lines[6].removeprefix("data: "))
    assert lines[7:] == [""]
    assert last == {
        "token": "",
        "done": True,
        "fullText": "Code flows",
        "usage": {
            "input_tokens": 12,
            "output_tokens": 21,
            "total_tokens": 33,
            "uncached_input_tokens": 12,
            "cache_read_tokens": 0,
            "cache_write_tokens": 0,
        },
        "cost_usd": last["cost_usd"],
        "chat_id": ids["chat_id"],
        "message_id": ids["message_id"],
        "stop_reason": "end_turn",
    }
    (cost,) = server.usage_of(ids["request_id"], "cost_usd")
    assert f"{cost:f}".rstrip("0") == last["cost_usd"]


def test_the_headers_tell_proxies_to_keep_their_hands_off(server: LiveServer) -> None:
    with server.stream("hi") as answer:
        told = list(events(answer))

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"] == told[0]["request_id"]


def test_a_token_is_on_the_wire_before_the_next_exists(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("a b c", pause_after=[1, 2]))

    with server.stream("hi") as answer:
        told = events(answer)
        assert next(told)["done"] is False
        assert next(told) == {"token": "a", "done": False}
        upstream.release()
        assert next(told) == {"token": " b", "done": False}
        upstream.release()
        rest = list(told)

    assert text_of(rest) == " c"
    assert rest[-1]["fullText"] == "a b c"


def test_the_last_event_is_sent_when_the_turn_is_in_the_ledger(server: LiveServer) -> None:
    with server.stream("hi") as answer:
        for event in events(answer):
            if event["done"]:
                assert server.usage_of(answer.headers["x-request-id"]) == ("complete",)
                break
        else:
            pytest.fail("no last event")


def test_only_text_becomes_tokens(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("", thinking("let me see"), *reply("Four").blocks, tool_use("sum", {"a": 2})))

    with server.stream("hi") as answer:
        told = list(events(answer))

    assert [event["token"] for event in told] == ["", "Four", ""]
    assert told[-1]["fullText"] == "Four"


def test_what_came_together_is_passed_on_together(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(fault("together", "alpha bravo charlie delta"))

    with server.stream("hi") as answer:
        pieces = list(answer.iter_raw())

    (with_tokens,) = [piece for piece in pieces if b"alpha" in piece and b"fullText" not in piece]
    assert with_tokens.count(b"data: ") >= 4


@pytest.mark.parametrize("name", ["unicode", "separators", "big", "empty_content", "refusal", "max_tokens"])
def test_odd_but_legal_replies_arrive_whole(server: LiveServer, upstream: ScriptedUpstream, name: str) -> None:
    upstream.script(fault(name))

    with server.stream("hi") as answer:
        told = list(events(answer))

    assert upstream.last.reply is not None
    assert text_of(told) == told[-1]["fullText"] == upstream.last.reply.text
    assert told[-1]["stop_reason"] == upstream.last.reply.stop_reason
    assert [event["done"] for event in told].count(True) == 1


def test_silence_is_filled_with_comments(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with LiveServer(tmp_path, upstream=upstream.url, ping_seconds=0.05) as server:
        upstream.script(reply("a b", pause_after=1))
        with server.stream("hi") as answer:
            lines = answer.iter_lines()
            while next(lines) != ": ping":
                pass
            assert next(lines) == ""
            upstream.release()
            rest = [line for line in lines if line.startswith("data: ")]

    assert json.loads(rest[-1].removeprefix("data: "))["fullText"] == "a b"


def test_a_turn_that_cannot_be_saved_is_never_called_done(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LiveServer(tmp_path, upstream=upstream.url) as server:
        store = server.app.state.service.engine.store

        async def full(_: object) -> None:
            raise StoreError(f"the store {tmp_path} cannot be written, its disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(store, "record", full)
            with server.stream("hi") as answer:
                told = list(events(answer))
        with monkeypatch.context() as patch:
            patch.setattr(store, "record", full)
            whole = server.post("/chat", "hi")
        again = server.post("/chat", "hi")
        saved = server.rows("SELECT status FROM usage ORDER BY started_at")

    assert [event["done"] for event in told].count(True) == 1
    assert (told[-1]["error"], told[-1]["type"]) == ("Stream failed", "store_error")
    assert "fullText" not in told[-1]
    assert told[-1]["usage"]["output_tokens"] == 12
    assert (whole.status_code, whole.json()["type"]) == (503, "store_error")
    assert str(tmp_path) not in whole.text
    assert again.status_code == 200
    assert saved == [("complete",), ("complete",)]


def test_a_bug_in_mid_stream_is_a_last_event_without_its_words(
    server: LiveServer, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.stream._tokens", lambda batch: 1 / 0)
    upstream.script(reply("a b", pause_after=1))

    with server.stream("hi") as answer:
        told = list(events(answer))

    assert (told[-1]["error"], told[-1]["type"]) == ("Stream failed", "internal_error")
    assert "division" not in json.dumps(told)
    assert server.usage_of(answer.headers["x-request-id"]) == ("interrupted",)


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_a_turn_that_has_just_ended_when_the_server_stops_is_answered_once(
    server: LiveServer,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    path: str,
) -> None:
    service = server.app.state.service
    record = service.engine.store.record

    async def last_moment(turn: LiveTurn) -> None:
        await record(turn)
        service.end_turns()

    monkeypatch.setattr(service.engine.store, "record", last_moment)
    upstream.script(reply("Code flows"))
    answer = server.post(path, "hi")

    assert (answer.status_code, "Code flows" in answer.text, "server_draining" in answer.text) == (200, True, False)
    assert server.client.get("/healthz").status_code == 200
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_client_slow_to_read_the_last_event_has_it_also_when_the_server_stops(
    server: LiveServer, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = _Writer.write

    async def slow_at_last(self: _Writer, events: bytes, *, more: bool = True) -> None:
        if not more:
            server.app.state.service.end_turns()
            await asyncio.Event().wait()
        await write(self, events)

    monkeypatch.setattr(_Writer, "write", slow_at_last)
    upstream.script(reply("Code flows"))
    with server.stream("hi") as answer:
        told = list(events(answer))

    assert told[-1]["fullText"] == "Code flows"
    assert server.usage_of(answer.headers["x-request-id"]) == ("complete",)
