"""Probes and the OpenAPI document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from server import shapes
from tests.faults.upstream import fault, reply
from tests.server.live import LiveServer, events

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream


def test_a_server_that_can_answer_is_alive_and_ready(server: LiveServer) -> None:
    assert server.client.get("/healthz").json() == {"status": "ok"}
    assert server.client.get("/readyz").json() == {"status": "ready"}


def test_a_server_that_stops_is_alive_and_not_ready(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.app.state.service, "stopping", True)

    assert server.client.get("/healthz").status_code == 200
    answer = server.client.get("/readyz")
    assert (answer.status_code, answer.json()["message"]) == (503, "the server is stopping")


def test_a_server_without_anybody_who_answers_says_so(tmp_path: Path) -> None:
    server = LiveServer(tmp_path, upstream=None, CLAUDE_MODEL="claude-sonnet-5-5")
    server.start()
    while "starting" in (ready := server.client.get("/readyz")).text:
        assert ready.status_code == 503
    answer = server.post("/chat", "hi")
    server.__exit__()

    assert ready.status_code == 503
    assert ready.json()["message"] == "Claude API not configured. Please set ANTHROPIC_API_KEY."
    assert answer.json()["error"] == "Configuration Error"


def test_a_server_whose_store_was_moved_away_is_not_ready_until_it_is_back(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with LiveServer(tmp_path, upstream=upstream.url) as server:
        store = (tmp_path / "store.duckdb").rename(tmp_path / "elsewhere.duckdb")
        away, asked = server.client.get("/readyz"), server.post("/chat", "hi")
        store.rename(tmp_path / "store.duckdb")
        back = server.client.get("/readyz")

    assert (away.status_code, away.json()["type"], asked.status_code) == (503, "store_error", 503)
    assert back.status_code == 200


@pytest.fixture(scope="module")
def document(_server: LiveServer) -> dict[str, Any]:
    return _server.client.get("/openapi.json").json()


def test_every_route_is_documented_with_its_problems(document: dict[str, Any]) -> None:
    assert set(document["paths"]) == {
        *("/chat", "/chat/stream", "/chats", "/chats/{chat_id}", "/usage", "/healthz", "/readyz"),
        *("/prompts", "/prompts/{name}", "/prompts/{name}/labels/{label}", "/prompts/{name}/rollback"),
        *("/experiments", "/experiments/{name}", "/experiments/{name}/coverage", "/experiments/{name}/scores"),
        *("/experiments/{name}/stop", "/messages/{id}/feedback"),
    }
    for path in ("/chat", "/chat/stream"):
        responses = document["paths"][path]["post"]["responses"]
        assert " ".join(sorted(responses)) == "200 400 402 403 404 408 409 413 415 422 429 502 503 504"
        names = {parameter["name"] for parameter in document["paths"][path]["post"]["parameters"]}
        assert names == {"x-org-id", "x-user-id", "idempotency-key"}
        problem = responses["422"]["content"]["application/json"]["schema"]
        assert problem == {"$ref": "#/components/schemas/Problem"}


def test_the_document_refers_to_nothing_that_is_not_in_it(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}

    assert named <= set(document["components"]["schemas"])
    assert {"ChatRequest", "ChatReply", "First", "Token", "Done", "Failed", "Problem", "Usage"} <= named


def test_the_stream_is_documented_as_events(document: dict[str, Any]) -> None:
    content = document["paths"]["/chat/stream"]["post"]["responses"]["200"]["content"]

    assert list(content) == ["text/event-stream"]
    schema = content["text/event-stream"]["itemSchema"]["properties"]["data"]["contentSchema"]
    assert len(schema["anyOf"]) == 4


def test_requests_are_documented_with_examples(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["ChatRequest"]["examples"][0] == {"message": "What is 2+2?"}


def test_what_is_said_is_what_is_documented(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("a b"), reply("a b"), fault("cut"))
    whole = server.post("/chat", "hi")
    with server.stream("hi") as answer:
        told = list(events(answer))
    with server.stream("hi") as answer:
        failed = list(events(answer))[-1]
    problem = server.post("/chat", "").json()

    for said, shape in (
        (whole.json(), shapes.ChatReply),
        (told[0], shapes.First),
        (told[1], shapes.Token),
        (told[-1], shapes.Done),
        (failed, shapes.Failed),
        (problem, shapes.Problem),
    ):
        assert msgspec.to_builtins(msgspec.convert(said, shape)) == said
