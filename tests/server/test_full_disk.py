"""A disk without space, in a real server process: refused with a 503, nothing lost, and it goes on by itself.

As on a full disk, no file of the process can grow: a limit that is set, and lifted again, from outside.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.upstream import reply
from tests.server.live import PATIENCE
from tests.server.process import ServerProcess
from workbench.store import Store
from workbench.store.check import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx2

    from tests.faults.upstream import ScriptedUpstream

resource = pytest.importorskip("resource")
if not hasattr(resource, "prlimit"):
    pytest.skip("limits of another process can be set on Linux only", allow_module_level=True)

FAILED = {"/chat": "Chat failed", "/chat/stream": "Stream failed"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.duckdb"


@pytest.fixture
def server(upstream: ScriptedUpstream, path: Path) -> Iterator[ServerProcess]:
    upstream.default = reply("Hello world")
    with ServerProcess(path, ANTHROPIC_API_KEY="sk-ant-test", ANTHROPIC_BASE_URL=upstream.url) as server:
        ask(server, "/chat", "one")  # who answers is known, and the tables are there
        yield server


def ask(server: ServerProcess, path: str, message: str) -> httpx2.Response:
    return server.client.post(path, json={"message": message})


def fill(server: ServerProcess, path: Path) -> None:
    room(server, path.with_name(f"{path.name}.wal").stat().st_size + 50)


def room(server: ServerProcess, bytes: int = resource.RLIM_INFINITY) -> None:
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (bytes, resource.RLIM_INFINITY))


def statuses(server: ServerProcess) -> list[str]:
    answer = server.client.get("/usage")
    assert answer.status_code == 200
    return [row["status"] for row in answer.json()]


def kept(path: Path) -> list[tuple[str, str]]:
    """The messages in the store of a server that is gone; nothing in it may contradict another."""

    async def read() -> list[tuple[Any, ...]]:
        store = await Store.open(str(path))
        try:
            assert [finding for finding in await check(store.backend) if not finding.ok] == []
            return await store.backend.rows("SELECT content, status FROM messages ORDER BY created_at, chat_id, seq")
        finally:
            store.close()

    return asyncio.run(read())


@pytest.mark.parametrize("endpoint", ["/chat", "/chat/stream"])
def test_a_full_disk_is_a_503_before_anything_is_asked_and_then_the_server_goes_on(
    server: ServerProcess, upstream: ScriptedUpstream, path: Path, endpoint: str
) -> None:
    fill(server, path)
    refused = ask(server, endpoint, "two")

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert refused.json() == {
        "error": FAILED[endpoint],
        "message": "the server's disk is full: nothing was asked or charged; ask again once there is space",
        "type": "store_full",
        "retryable": True,
        "retry_after": 10,
        "request_id": refused.headers["x-request-id"],
    }
    assert "its disk is full; free some space" in server.logged("Store error")["error"]
    assert upstream.requests_total == 1
    assert statuses(server) == ["complete"]  # reading goes on
    assert server.client.get("/healthz").status_code == 200

    room(server)
    assert ask(server, endpoint, "three").status_code == 200
    assert statuses(server) == ["complete"] * 2
    server.process.kill()
    server.ended()
    assert kept(path) == [(text, "complete") for text in ("one", "Hello world", "three", "Hello world")]


@pytest.mark.parametrize("endpoint", ["/chat", "/chat/stream"])
def test_a_reply_that_found_the_disk_full_is_saved_when_there_is_space_without_being_asked(
    server: ServerProcess, upstream: ScriptedUpstream, path: Path, endpoint: str
) -> None:
    upstream.script(reply("It is four", pause_after=1))
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask, server, endpoint, "two")
        upstream.wait_for(lambda u: u.paused, PATIENCE)
        fill(server, path)
        upstream.release()
        answer = asking.result(PATIENCE)

    if endpoint == "/chat":
        said = answer.json()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    else:
        *_, last = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
        said = last
        assert (answer.status_code, last["done"], "fullText" in last) == (200, True, False)
    assert (said["error"], said["type"]) == (FAILED[endpoint], "store_full")
    assert said["message"] == "the server's disk is full: the reply is kept and saved once there is space"
    assert (said["retryable"], said["retry_after"]) == (True, 10)
    assert statuses(server) == ["complete"]
    refused = ask(server, endpoint, "three")
    assert (refused.status_code, upstream.requests_total) == (503, 2)

    room(server)
    deadline = time.monotonic() + PATIENCE
    while len(statuses(server)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert statuses(server) == ["complete"] * 2
    output = next(line for line in server.client.get("/metrics").text.splitlines() if 'kind="output"' in line)
    assert float(output.split()[-1]) == sum(row["output_tokens"] for row in server.client.get("/usage").json())
    server.process.kill()
    server.ended()
    assert kept(path) == [(text, "complete") for text in ("one", "Hello world", "two", "It is four")]


def test_a_disk_that_fills_while_the_journal_is_moved_is_survived_by_the_same_process(
    server: ServerProcess, path: Path
) -> None:
    room(server, 20_000_000)  # DuckDB moves its journal into the file at 16 MB
    answered, refused = 1, 0
    while refused < 3:
        answer = ask(server, "/chat", os.urandom(450_000).hex())
        if answer.status_code == 200:
            answered += 1
        else:
            assert (answer.status_code, answer.json()["type"]) == (503, "store_full")
            refused += 1

    room(server)
    assert ask(server, "/chat", "at last").status_code == 200
    complete = statuses(server)
    server.process.kill()
    server.ended()

    # a turn that was answered and found no space for its end was kept, and saved before the next one
    assert answered + 1 <= len(complete) <= answered + 1 + refused
    assert set(complete) == {"complete"}
    assert len(kept(path)) == 2 * len(complete)
