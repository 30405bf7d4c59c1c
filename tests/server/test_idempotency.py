"""`Idempotency-Key`: a request that is sent again is not answered by Claude again, unless it has failed."""

from __future__ import annotations

import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.faults.upstream import ScriptedUpstream, fault, reply
from tests.server.live import LiveServer, events
from tests.server.process import ServerProcess
from workbench.errors import StoreBusy
from workbench.ids import new_id

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

KEY = {"idempotency-key": "of the test"}
STILL = {"request_id"}
"""What differs from answer to answer."""


@pytest.fixture(autouse=True)
def _a_new_key() -> None:
    KEY["idempotency-key"] = new_id()  # the server stays the same from test to test


def ask(client: httpx2.Client, path: str = "/chat", message: str = "hi", **more: str) -> httpx2.Response:
    return client.post(path, json={"message": message}, headers=KEY | more)


def told(answer: httpx2.Response) -> dict:
    return {name: value for name, value in answer.json().items() if name not in STILL}


def test_the_same_request_has_the_same_answer_and_claude_is_asked_once(
    server: LiveServer, upstream: ScriptedUpstream
) -> None:
    upstream.script(reply("Four: \u2028 ünïcode"))
    first, again = ask(server.client), ask(server.client)

    assert (first.status_code, again.status_code) == (200, 200)
    assert told(again) == told(first)
    assert again.json()["reply"] == "Four: \u2028 ünïcode"
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert again.json()["request_id"] == again.headers["x-request-id"] != first.json()["request_id"]
    assert len(upstream.requests) == 1


def test_a_stream_is_told_again_with_one_last_event(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Code flows"))
    first, again = [list(events(ask(server.client, "/chat/stream"))) for _ in range(2)]

    assert [event["token"] for event in again] == ["", "Code flows", ""]
    assert again[-1] == first[-1]
    assert [event["done"] for event in again] == [False, False, True]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(("path", "message"), [("/chat", "something else"), ("/chat/stream", "hi")])
def test_a_key_is_for_one_request_only(server: LiveServer, upstream: ScriptedUpstream, path: str, message: str) -> None:
    ask(server.client)
    answer = ask(server.client, path, message)

    assert (answer.status_code, answer.json()["error"], answer.json()["type"]) == (
        422, "Conflict", "idempotency_mismatch"
    )  # fmt: skip
    assert len(upstream.requests) == 1


def test_keys_of_others_are_theirs(server: LiveServer, upstream: ScriptedUpstream) -> None:
    answers = [ask(server.client), ask(server.client, **{"x-org-id": "o"}), ask(server.client, **{"x-user-id": "u"})]

    assert len({answer.json()["message_id"] for answer in answers}) == 3
    assert len(upstream.requests) == 3


def test_of_many_at_once_one_is_answered_and_the_others_are_told_to_wait(
    server: LiveServer, upstream: ScriptedUpstream
) -> None:
    upstream.script(reply("Slowly", headers_after=1.0))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: ask(server.client), range(8)))

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 7}
    conflict = next(answer for answer in answers if answer.status_code == 409)
    assert (conflict.json()["error"], conflict.json()["type"], conflict.json()["retryable"]) == (
        "Conflict", "idempotency_in_flight", True
    )  # fmt: skip
    assert conflict.headers["retry-after"] == "1"
    assert ask(server.client).status_code == 200
    assert len(upstream.requests) == 1


def test_what_failed_is_asked_anew(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(fault("400"), reply("Now"))
    failed, again = ask(server.client), ask(server.client)

    assert (failed.status_code, again.status_code, again.json()["reply"]) == (502, 200, "Now")


def test_what_was_refused_before_it_began_is_asked_anew(server: LiveServer) -> None:
    refused = server.client.post("/chat", json={"message": "hi", "model": "claude-2"}, headers=KEY)

    assert (refused.status_code, ask(server.client).status_code) == (400, 200)


def test_a_client_that_left_asks_anew(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(reply(["One", " two"], pause_after=1), reply("Again"))
    with server.client.stream("POST", "/chat/stream", json={"message": "hi"}, headers=KEY) as answer:
        next(events(answer))
    while (again := ask(server.client, "/chat/stream")).status_code == 409:  # until the server has noticed
        pass

    assert list(events(again))[-1]["fullText"] == "Again"


def test_a_key_that_could_not_be_given_back_is_free_once_the_store_works_again(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script(reply(["One", " two"], pause_after=1), reply("Again"))
    with LiveServer(tmp_path, upstream=upstream.url) as server:
        with server.client.stream("POST", "/chat/stream", json={"message": "hi"}, headers=KEY) as answer:
            next(events(answer))
            store = (tmp_path / "store.duckdb").rename(tmp_path / "elsewhere.duckdb")
        while server.app.state.service.at_work:
            time.sleep(0.01)
        store.rename(tmp_path / "store.duckdb")
        again = ask(server.client, "/chat/stream")

    assert again.status_code == 200, again.text
    assert list(events(again))[-1]["fullText"] == "Again"


def test_a_reply_that_could_not_be_saved_at_once_is_not_asked_again(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script(reply("One"))
    with LiveServer(tmp_path, upstream=upstream.url) as server:

        async def busy(_: object) -> None:
            raise StoreBusy("it is paused")

        with monkeypatch.context() as patch:
            patch.setattr(server.app.state.service.engine.store, "record", busy)
            failed = ask(server.client)
        again = ask(server.client)

    assert (failed.status_code, failed.json()["retryable"]) == (503, True)
    assert (again.status_code, again.json()["reply"]) == (200, "One")
    assert len(upstream.requests) == 1


def test_a_key_whose_chat_was_deleted_is_free_again(server: LiveServer, upstream: ScriptedUpstream) -> None:
    first = ask(server.client).json()
    kept = KEY["idempotency-key"]
    KEY["idempotency-key"] = new_id()
    of_another_chat = ask(server.client)

    server.client.delete(f"/chats/{first['chat_id']}").raise_for_status()

    assert told(ask(server.client)) == told(of_another_chat)
    KEY["idempotency-key"] = kept
    again = ask(server.client)
    assert again.status_code == 200, again.text
    assert again.json()["chat_id"] != first["chat_id"]
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ü"])
def test_a_key_that_is_none_is_refused(server: LiveServer, key: str) -> None:
    answer = server.client.post("/chat", json={"message": "hi"}, headers=[("idempotency-key", key.encode())])

    assert (answer.status_code, answer.json()["type"]) == (400, "invalid_request")


def test_a_key_whose_server_was_killed_is_free_again(tmp_path: Path) -> None:
    store = tmp_path / "store.duckdb"
    with ScriptedUpstream() as upstream:
        upstream.script(reply(["One", " two"], pause_after=1), reply("Again"))
        ours = {"ANTHROPIC_API_KEY": "sk-ant-x", "ANTHROPIC_BASE_URL": upstream.url}
        with (
            ServerProcess(store, **ours) as server,
            server.client.stream("POST", "/chat/stream", json={"message": "hi"}, headers=KEY) as answer,
        ):
            next(events(answer))
            server.signal(signal.SIGKILL)
            server.ended()
        with ServerProcess(store, **ours) as server:
            again = ask(server.client, "/chat/stream")

    assert list(events(again))[-1]["fullText"] == "Again"


def test_after_a_day_a_key_is_forgotten(server: LiveServer, upstream: ScriptedUpstream) -> None:
    ask(server.client)
    store = server.app.state.service.engine.store
    old = "UPDATE idempotency_keys SET created_at = created_at - INTERVAL '25' HOUR"
    store.backend._host.file.begin_write([(old, ())]).result()
    store._heart.beat_now()
    file = store.backend._host.file
    while file.begin_rows("SELECT COUNT(*) FROM idempotency_keys", ()).result() != [(0,)]:
        pass

    assert ask(server.client).headers.get("idempotent-replayed") is None
    assert len(upstream.requests) == 2
