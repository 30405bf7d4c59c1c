"""`POST /chat` and what a body may be."""

from __future__ import annotations

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.faults.upstream import Usage, reply
from tests.server.live import PATIENCE

if TYPE_CHECKING:
    from tests.faults.upstream import ScriptedUpstream
    from tests.server.live import LiveServer

BOTH = pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
PROBLEM = {"error", "message", "type", "retryable", "request_id"}


def test_the_reply_has_the_shape_clients_of_the_predecessor_read(
    server: LiveServer, upstream: ScriptedUpstream
) -> None:
    counts = Usage(15, 5000, 100, output_tokens=8)
    upstream.script(reply("2 + 2 equals 4.", usage=counts))

    answer = server.post("/chat", "What is 2+2?", model="claude-haiku-5-5")

    body = answer.json()
    assert answer.status_code == 200
    assert list(body)[:5] == ["chat_id", "message_id", "reply", "created_at", "usage"]
    assert body["reply"] == "2 + 2 equals 4."
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["created_at"])
    assert body["usage"] == {
        "input_tokens": 5115,
        "output_tokens": 8,
        "total_tokens": 5123,
        "uncached_input_tokens": 15,
        "cache_read_tokens": 5000,
        "cache_write_tokens": 100,
    }
    assert (body["model"], body["stop_reason"], body["prompt"]) == ("claude-haiku-5-5", "end_turn", None)
    assert body["request_id"] == answer.headers["x-request-id"]


def test_the_cost_is_the_ledgers_as_a_decimal_string(server: LiveServer) -> None:
    answer = server.post("/chat", "hi")

    (cost,) = server.usage_of(answer.headers["x-request-id"], "cost_usd")
    said = answer.json()["cost_usd"]
    assert isinstance(said, str)
    assert re.fullmatch(r"0\.\d*[1-9]", said)
    assert f"{cost:f}".rstrip("0") == said


def test_an_unknown_price_is_null_and_not_zero(server: LiveServer) -> None:
    assert server.post("/chat", "hi", model="unheard-of-1").json()["cost_usd"] is None


def test_a_chat_goes_on_where_it_was(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("2 + 2 equals 4."), reply("You asked what 2 + 2 is."))
    first = server.post("/chat", "What is 2+2?").json()

    second = server.post("/chat", "What was my question?", chat_id=first["chat_id"]).json()

    assert second["chat_id"] == first["chat_id"]
    sent = [(m["role"], m["content"][0]["text"]) for m in upstream.last.body["messages"]]
    assert sent == [
        ("user", "What is 2+2?"),
        ("assistant", "2 + 2 equals 4."),
        ("user", "What was my question?"),
    ]


def test_the_ledger_says_that_the_server_asked(server: LiveServer) -> None:
    answer = server.post("/chat", "hi", headers={"x-org-id": "acme", "x-user-id": "ada"})

    row = server.usage_of(answer.headers["x-request-id"], "org_id, user_id, source, status")
    assert row == ("acme", "ada", "server", "complete")


@pytest.mark.parametrize(("asked", "given"), [(5, 5), (64.0, 64), (100_000, 4096), (1e30, 4096), (None, 4096)])
def test_a_request_may_ask_for_less_and_never_gets_more(
    server: LiveServer, upstream: ScriptedUpstream, asked: float | None, given: int
) -> None:
    server.post("/chat", "hi", max_tokens=asked)

    assert upstream.last.body["max_tokens"] == given


@BOTH
@pytest.mark.parametrize(
    ("body", "status", "error", "word"),
    [
        ('{"message": ""}', 400, "Bad Request", "empty"),
        ('{"message": " \\n\\t "}', 400, "Bad Request", "empty"),
        ('{"message": "a\\u0000b"}', 400, "Bad Request", "NUL"),
        ('{"message": "half \\ud800"}', 400, "Bad Request", "surrogate"),
        ('{"message": "hi", "model": "claude-sonnet-4-20250514"}', 400, "Bad Request", "claude-sonnet-5-5"),
        ("{", 400, "Bad Request", "JSON"),
        ("", 422, "Validation Error", "body"),
        ("[" * 100_000, 400, "Bad Request", "JSON"),
        ('{"message": "\xff"}', 400, "Bad Request", "JSON"),
        ('"hi"', 422, "Validation Error", "body"),
        ("{}", 422, "Validation Error", "message"),
        ('{"message": null}', 422, "Validation Error", "message"),
        ('{"message": 5}', 422, "Validation Error", "message"),
        ('{"message": "hi", "chat_id": 5}', 422, "Validation Error", "chat_id"),
        ('{"message": "hi", "chat_id": "a b"}', 422, "Validation Error", "chat_id"),
        ('{"message": "hi", "max_tokens": "5"}', 422, "Validation Error", "max_tokens"),
        ('{"message": "hi", "max_tokens": 0}', 422, "Validation Error", "max_tokens"),
        ('{"message": "hi", "max_tokens": 5.5}', 422, "Validation Error", "max_tokens"),
        ('{"message": "hi", "model": ""}', 422, "Validation Error", "model"),
        ('{"message": "hi", "prompt": "no-such"}', 404, "Not Found", "no prompt 'no-such'"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_in_one_shape_and_nothing_is_asked(
    server: LiveServer, upstream: ScriptedUpstream, path: str, body: str, status: int, error: str, word: str
) -> None:
    answer = server.client.post(path, content=body.encode("latin-1"), headers={"content-type": "application/json"})

    problem = answer.json()
    assert (answer.status_code, problem["error"]) == (status, error)
    assert set(problem) == PROBLEM
    assert word in problem["message"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert upstream.requests == []


def test_a_refusal_does_not_repeat_what_was_written(server: LiveServer) -> None:
    answer = server.client.post("/chat", json={"message": {"secret": "plan"}})

    assert "plan" not in answer.text


@BOTH
def test_what_is_no_json_by_its_type_is_refused(server: LiveServer, path: str) -> None:
    typed = server.client.post(path, content=b'{"message": "hi"}', headers={"content-type": "text/plain"})
    untyped = server.client.post(path, content=b'{"message": "hi"}')

    assert (typed.status_code, typed.json()["type"]) == (415, "unsupported_media_type")
    assert (untyped.status_code, untyped.json()["error"]) == (415, "Unsupported Media Type")


@BOTH
def test_a_body_that_does_not_come_is_waited_for_only_so_long(
    server: LiveServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.edge.BODY_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            'content-length: 100\r\n\r\n{"mess'.encode()
        )
        said = b"".join(iter(lambda: connection.recv(65536), b""))  # to the end: the server hangs up

    assert said.startswith(b"HTTP/1.1 408 ")
    assert b'"error":"Request Timeout","message":"no more of the body came for 0.2 s; send it again, whole"' in said


@BOTH
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_a_mebibyte_is_refused_whether_announced_or_not(
    server: LiveServer, path: str, chunked: bool
) -> None:
    body = b'{"message": "' + b"a" * (1 << 20) + b'"}'
    answer = server.client.post(
        path, content=iter([body]) if chunked else body, headers={"content-type": "application/json"}
    )

    assert (answer.status_code, answer.json()["error"]) == (413, "Payload Too Large")
    assert answer.json()["message"] == "the body is larger than 1 MiB; shorten it"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


def test_a_body_of_almost_a_mebibyte_is_answered(server: LiveServer) -> None:
    assert server.post("/chat", "a" * 1_000_000).status_code == 200


def test_fields_nobody_knows_are_ignored(server: LiveServer) -> None:
    assert server.post("/chat", "hi", temperature=1, stream=True).status_code == 200


@BOTH
def test_a_chat_that_is_not_there_is_not_found(server: LiveServer, path: str) -> None:
    answer = server.post(path, "hi", chat_id="no-such-chat")

    assert (answer.status_code, answer.json()["error"]) == (404, "Not Found")
    assert "leave chat_id out" in answer.json()["message"]


def test_wrong_paths_and_methods_are_problems_too(server: LiveServer) -> None:
    nowhere, slash, method = server.client.post("/nowhere"), server.client.post("/chat/"), server.client.get("/chat")

    assert (nowhere.status_code, nowhere.json()["error"]) == (404, "Not Found")
    assert slash.status_code == 404
    assert (method.status_code, method.json()["error"]) == (405, "Method Not Allowed")
    assert method.headers["allow"] == "POST"
    assert {*nowhere.json(), *method.json()} == PROBLEM


def test_the_clients_request_id_is_kept_in_answer_and_ledger(server: LiveServer) -> None:
    answer = server.post("/chat", "hi", headers={"x-request-id": "my-request_1"})

    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "my-request_1"
    assert server.usage_of("my-request_1") == ("complete",)


@pytest.mark.parametrize("sent", ["short", "a" * 65, "with space", "näher-als-gut"])
def test_a_request_id_that_does_not_fit_is_replaced(server: LiveServer, sent: str) -> None:
    answer = server.client.get("/healthz", headers=[(b"x-request-id", sent.encode())])

    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])


def test_two_clients_are_answered_at_once(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two", pause_after=1), reply("one two", pause_after=1))
    with ThreadPoolExecutor(2) as clients:
        answers = [clients.submit(server.post, "/chat", "hi") for _ in range(2)]
        upstream.wait_for(lambda u: u.paused == 2, 60)
        upstream.release(2)

        assert [answer.result().json()["reply"] for answer in answers] == ["one two", "one two"]


def test_a_client_that_leaves_before_its_reply_ends_the_turn(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two three", pause_after=1))
    request_id = "leaves-before-its-reply"
    leaving = server.send("/chat", "hi", request_id)
    upstream.wait_for(lambda u: u.paused, 60)
    leaving.close()
    upstream.wait_for(lambda u: u.disconnects, 60)

    assert server.usage_when_settled(request_id, "status, usage_estimated") == ("interrupted", True)
