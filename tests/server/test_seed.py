"""The predecessor's own examples, with curl and the embedded model: shapes and history, never wording."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.upstream import fault, reply
from tests.server.live import LiveServer
from workbench.store import tenants
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from tests.faults.upstream import ScriptedUpstream

SCRIPT = Path(__file__).parents[2] / "server" / "test-claude.sh"


def _curl(server: LiveServer, path: str, body: dict[str, Any], *options: str) -> str:
    command = ["curl", "-sS", *options, "-X", "POST", f"{server.url}{path}", "-H", "Content-Type: application/json"]
    command += ["-H", f"x-org-id: {DEFAULT_ID}", "-H", f"x-user-id: {DEFAULT_ID}", "-d", json.dumps(body)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.timeout(600)
def test_a_chat_of_two_questions(keyless: LiveServer) -> None:
    first = json.loads(_curl(keyless, "/chat", {"message": "What is 2+2?", "max_tokens": 24}))
    second = json.loads(
        _curl(keyless, "/chat", {"message": "What was my question?", "chat_id": first["chat_id"], "max_tokens": 24})
    )

    for answer in (first, second):
        assert {"chat_id", "message_id", "reply", "created_at", "usage"} <= set(answer)
        assert isinstance(answer["reply"], str) and answer["reply"]
        usage = answer["usage"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert usage["input_tokens"] > 0 and 0 < usage["output_tokens"] <= 24
        assert (answer["model"], answer["cost_usd"]) == ("local", "0")
    assert second["chat_id"] == first["chat_id"]
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    messages = keyless.rows(
        "SELECT role, content, token_count FROM messages WHERE chat_id = $1 ORDER BY seq", first["chat_id"]
    )
    assert [(role, content) for role, content, _ in messages] == [
        ("user", "What is 2+2?"),
        ("assistant", first["reply"]),
        ("user", "What was my question?"),
        ("assistant", second["reply"]),
    ]
    assert messages[1][2] == first["usage"]["output_tokens"]
    sent = keyless.rows(
        "SELECT history_messages + 1 FROM usage WHERE chat_id = $1 ORDER BY started_at", first["chat_id"]
    )
    assert sent == [(1,), (3,)]


@pytest.mark.timeout(600)
def test_a_streamed_chat(keyless: LiveServer) -> None:
    output = _curl(keyless, "/chat/stream", {"message": "Write a haiku about coding", "max_tokens": 24}, "-N")

    told = [json.loads(line.removeprefix("data: ")) for line in output.splitlines() if line.startswith("data: ")]
    tokens = told[1:-1]
    assert all(set(event) == {"token", "done"} and event["done"] is False for event in tokens)
    assert len(tokens) > 1
    assert told[-1]["done"] is True
    assert told[-1]["fullText"] == "".join(event["token"] for event in told)
    assert {"input_tokens", "output_tokens", "total_tokens"} <= set(told[-1]["usage"])


def _script(url: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"BASE_URL": url} | more
    return subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)
def test_the_script_passes_and_shows_reply_and_usage(keyless: LiveServer) -> None:
    ran = _script(keyless.url, DEFAULT_ID, "ada")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("Token usage: input=") == 2
    assert keyless.rows("SELECT count(*) FROM usage WHERE user_id = 'ada' AND status = 'complete'") == [(2,)]


@pytest.mark.parametrize("right", [True, False])
def test_the_script_sends_a_key_where_one_is_wanted(upstream: ScriptedUpstream, tmp_path: Path, right: bool) -> None:
    with LiveServer(tmp_path, upstream=upstream.url, WORKBENCH_AUTH="keys") as server:
        backend = server.app.state.service.engine.store.backend
        key = asyncio.run(tenants.create_key(backend, DEFAULT_ID, datetime.now(UTC), user_id=DEFAULT_ID))
        ran = _script(server.url, DEFAULT_ID, DEFAULT_ID, WORKBENCH_KEY=key.text if right else "wb_no")

    assert ran.returncode == (0 if right else 1), ran.stdout + ran.stderr
    assert ("the key is mistyped" in ran.stderr) is not right


def test_the_script_fails_when_nobody_answers() -> None:
    ran = _script("http://127.0.0.1:9", DEFAULT_ID, "ada")

    assert ran.returncode == 1
    assert "cannot be reached" in ran.stderr


@pytest.mark.parametrize("fails", [1, 2])
def test_the_script_fails_when_a_question_does(server: LiveServer, upstream: ScriptedUpstream, fails: int) -> None:
    upstream.script(*([reply("Four.")] * (fails - 1)), fault("401"))

    ran = _script(server.url, DEFAULT_ID, "ada")

    assert ran.returncode == 1
    assert "failed: Claude refused the request" in ran.stderr


def test_the_script_wants_an_org_and_a_user() -> None:
    ran = _script("http://127.0.0.1:9")

    assert ran.returncode == 1
    assert "ORG_ID USER_ID" in ran.stderr
