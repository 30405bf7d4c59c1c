"""Start and end of the server as a process: drained, killed, refused."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import duckdb
import httpx2
import pytest

from server.main import listening_on
from server.service import Service
from tests.faults.upstream import reply
from tests.server.live import LiveServer, events, text_of
from tests.server.process import ROOT, ServerProcess
from workbench.errors import StoreError
from workbench.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream


def _rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Open the store as the next start does, and look."""

    async def look() -> list[tuple[Any, ...]]:
        store = await Store.open(str(path))
        try:
            return await store.backend.rows(sql)
        finally:
            store.close()

    return asyncio.run(look())


def _claude(upstream: ScriptedUpstream) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": "sk-ant-test", "ANTHROPIC_BASE_URL": upstream.url}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_is_read_out_before_the_server_ends(
    upstream: ScriptedUpstream, tmp_path: Path, number: signal.Signals
) -> None:
    upstream.script(reply("a b c", pause_after=1))
    store = tmp_path / "w.duckdb"
    with ServerProcess(store, **_claude(upstream)) as server:
        with server.client.stream("POST", "/chat/stream", json={"message": "hi"}) as answer:
            told = events(answer)
            next(told)
            assert next(told)["token"] == "a"
            server.signal(number)
            server.logged("Shutting down")
            with pytest.raises(httpx2.ConnectError):
                while True:  # until it takes no new connections
                    httpx2.get(f"{server.url}/healthz", trust_env=False)
            upstream.release()
            rest = list(told)
        code = server.ended()

    assert rest[-1]["fullText"] == "a b c"
    assert code == 0
    assert _rows(store, "SELECT status FROM usage") == [("complete",)]


def test_a_stream_that_takes_too_long_is_told_and_recorded(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(reply("a b c", pause_after=1))
    store = tmp_path / "w.duckdb"
    with ServerProcess(store, seconds={"drain_seconds": 0.2}, **_claude(upstream)) as server:
        with server.client.stream("POST", "/chat/stream", json={"message": "hi"}) as answer:
            told = events(answer)
            next(told)
            assert next(told)["token"] == "a"
            server.signal(signal.SIGTERM)
            rest = list(told)
        code = server.ended()

    assert [(event["error"], event["type"], event["retryable"]) for event in rest] == [
        ("Stream failed", "server_draining", True)
    ]
    assert code == 0
    assert _rows(store, "SELECT status, usage_estimated FROM usage") == [("interrupted", True)]
    assert _rows(store, "SELECT content, status FROM messages WHERE role = 'assistant'") == [("a", "interrupted")]


def test_a_whole_reply_that_takes_too_long_has_a_status(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(reply("a b c", pause_after=1))
    with ServerProcess(tmp_path / "w.duckdb", seconds={"drain_seconds": 0.2}, **_claude(upstream)) as server:
        with ThreadPoolExecutor(1) as client:
            asked = client.submit(server.client.post, "/chat", json={"message": "hi"})
            upstream.wait_for(lambda u: u.paused, 60)
            server.signal(signal.SIGTERM)
            answer = asked.result()
        code = server.ended()

    assert (answer.status_code, answer.json()["error"]) == (503, "Chat failed")
    assert answer.json()["type"] == "server_draining"
    assert code == 0


def test_a_server_that_was_told_to_stop_is_no_longer_ready(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    server = LiveServer(tmp_path, upstream=upstream.url)
    server.start()
    server.stop()
    server.app.state.service.starting = None  # as when the connection to the model is made after the signal

    assert server.app.state.service.not_ready == "the server is stopping"
    server.join()
    server.client.close()


def test_a_task_that_has_failed_keeps_nothing_from_being_closed(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Service) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Service, "keep_saving", broken)
    with LiveServer(tmp_path, upstream=upstream.url) as server:
        store = server.app.state.service.engine.store

    with pytest.raises(StoreError, match="is closed"):
        asyncio.run(store.backend.rows("SELECT 1"))


def _refusal(server: ServerProcess) -> tuple[int, str]:
    """The exit code, and the only line that is an error."""
    code = server.ended()
    lines = [json.loads(line) for line in server.lines]
    (said,) = [line["message"] for line in lines if line["level"] == "error"]
    assert "Traceback" not in "".join(server.lines)
    return code, said


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = _refusal(ServerProcess(tmp_path / "w.duckdb", PORT=str(port)))

    assert code == 1
    assert said == f"port {port} on 127.0.0.1 is in use; stop what uses it, or set PORT to another"


def test_a_store_in_use_is_one_sentence_with_the_process(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    store = tmp_path / "w.duckdb"
    with duckdb.connect(store):
        code, said = _refusal(ServerProcess(store, **_claude(upstream)))

    assert code == 1
    assert f"(PID {os.getpid()})" in said


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"HOST": "0.0.0.0"}, "set HOST to 127.0.0.1"),
        ({"APP_ENV": "production"}, "WORKBENCH_AUTH=keys or gateway"),
        ({"HOST": "::1%nowhere"}, "set HOST"),
        ({"WORKBENCH_AUTH": "gateway"}, "set WORKBENCH_GATEWAY_KEYS"),
        # allowed, but no address of this machine
        ({"WORKBENCH_AUTH": "keys", "HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
    ],
)
def test_what_would_be_unsafe_is_refused_in_one_sentence(
    tmp_path: Path, environment: dict[str, str], word: str
) -> None:
    code, said = _refusal(ServerProcess(tmp_path / "w.duckdb", **environment))

    assert code == 1
    assert word in said


def test_a_setting_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "w.duckdb", PORT="many")

    assert server.ended() == 1
    assert len(server.lines) == 1
    assert server.lines[0].startswith("a setting does not fit: PORT")


def test_the_log_has_the_lines_and_keys_of_the_predecessor(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "w.duckdb", **_claude(upstream)) as server:
        server.client.post("/chat", json={"message": "a secret plan"}, headers={"x-request-id": "my-request"})
        server.client.post("/chat", json={"message": "[[fault=402]]"})
        server.client.post("/chat", json={"message": ["a secret plan"]})
        server.signal(signal.SIGTERM)
        server.ended()

    text = "".join(server.lines)
    logged = {line["message"]: line for line in map(json.loads, server.lines)}
    assert "secret" not in text
    assert "sk-ant" not in text
    assert all(list(json.loads(line))[:3] == ["time", "level", "message"] for line in server.lines)
    first = ["time", "level", "message"]
    assert list(logged["Claude service initialized"]) == [*first, "model", "maxTokens"]
    assert list(logged["Server running"]) == [*first, "port", "env"]
    assert logged["Server running"]["env"] == "development"
    started = ["requestId", "chatId", "messageCount", "model", "maxTokens"]
    assert list(logged["Starting Claude stream"]) == first + started
    completed = ["requestId", "chatId", "inputTokens", "outputTokens", "totalTokens", "responseLength"]
    assert list(logged["Claude stream completed"]) == [*first, *completed, "ttftMs", "costUsd"]
    assert logged["Claude stream completed"]["requestId"] == "my-request"
    failed = logged["Claude stream error"]
    assert (failed["level"], failed["error"]) == ("error", "Claude refused the request")
    assert {"requestId", "chatId"} <= set(failed)


def test_a_bug_is_logged_with_its_traceback_and_answered_without(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server.app.state.service.engine, "new_chat", lambda: 1 / 0)

    answer = server.post("/chat", "hi")

    assert answer.status_code == 500
    assert answer.json() == {
        "error": "Internal Server Error",
        "message": "something went wrong here; the server's log says what",
        "type": "internal_error",
        "retryable": False,
        "request_id": answer.headers["x-request-id"],
    }
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is not None
    assert record.__dict__["requestId"] == answer.headers["x-request-id"]


def test_two_streams_at_once_end_whole(server: LiveServer, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("a b", pause_after=1), reply("a b", pause_after=1))

    with server.stream("one") as one, server.stream("two") as two:
        first, second = events(one), events(two)
        assert [next(first)["done"], next(second)["done"]] == [False, False]
        assert [next(first)["token"], next(second)["token"]] == ["a", "a"]
        upstream.release(2)
        assert [text_of(list(first)), text_of(list(second))] == [" b", " b"]


def test_short_answers_do_not_wait_for_an_acknowledgement() -> None:
    with listening_on("127.0.0.1", 0) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


ARENAS = """
import ctypes, sys, threading
from server.main import share_arenas
if sys.argv[1] == "share":
    share_arenas()
libc, together = ctypes.CDLL(None), threading.Barrier(16)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
def take():
    together.wait()
    libc.malloc(50_000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's")
def test_threads_share_two_arenas(tmp_path: Path) -> None:
    def arenas(how: str) -> int:
        told = tmp_path / how
        subprocess.run([sys.executable, "-c", ARENAS, how, told], check=True, cwd=ROOT)
        return told.read_text().count("<heap nr=")

    assert arenas("share") <= 2 < arenas("as glibc does")
