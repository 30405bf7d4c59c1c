"""Who may call in `dev` mode, and whose chats they see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from server.auth import refuse_open_address
from tests.server.live import LiveServer
from workbench.errors import ConfigurationError
from workbench.settings import NOT_CONFIGURED
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream


def test_without_headers_the_default_org_and_user_ask(server: LiveServer) -> None:
    answer = server.post("/chat", "hi")

    row = server.usage_of(answer.headers["x-request-id"], "org_id, user_id")
    assert row == (DEFAULT_ID, DEFAULT_ID)


@pytest.mark.parametrize(
    "headers", [{"x-org-id": "globex"}, {"x-user-id": "eve"}, {"x-org-id": "globex", "x-user-id": "eve"}]
)
@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_a_chat_of_somebody_else_is_as_if_not_there(server: LiveServer, path: str, headers: dict[str, str]) -> None:
    chat_id = server.post("/chat", "hi").json()["chat_id"]

    theirs = server.post(path, "hi", chat_id=chat_id, headers=headers)
    nobodys = server.post(path, "hi", chat_id="no-such-chat", headers=headers)

    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.json()["message"].replace(chat_id, "no-such-chat") == nobodys.json()["message"]


@pytest.mark.parametrize("name", ["x-org-id", "x-user-id"])
@pytest.mark.parametrize("value", ["", "a b", "a/b", "a" * 65, "ü", "acme,globex"])
def test_an_id_that_is_no_id_is_refused(server: LiveServer, name: str, value: str) -> None:
    answer = server.client.post("/chat", json={"message": "hi"}, headers=[(name.encode(), value.encode())])

    assert (answer.status_code, answer.json()["error"]) == (400, "Bad Request")
    assert name in answer.json()["message"]


@pytest.mark.parametrize("name", ["x-org-id", "x-user-id"])
def test_a_repeated_identity_header_is_refused(server: LiveServer, name: str) -> None:
    answer = server.client.post("/chat", json={"message": "hi"}, headers=[(name, "acme"), (name, "acme")])

    assert answer.status_code == 400
    assert "more than once" in answer.json()["message"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:3000", "[::1]:3000", "LOCALHOST:1"])
def test_a_loopback_host_is_answered(server: LiveServer, host: str) -> None:
    assert server.client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:3000", "10.0.0.1"])
@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/chat"])
def test_a_foreign_host_is_refused_on_every_path(server: LiveServer, host: str, path: str) -> None:
    answer = server.client.get(path, headers={"host": host})

    assert (answer.status_code, answer.json()["error"]) == (403, "Forbidden")
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:8080"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_a_page_of_another_origin_is_refused_and_nothing_is_asked(
    server: LiveServer, upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    answer = server.post("/chat", "hi", headers=headers)

    assert (answer.status_code, answer.json()["error"]) == (403, "Forbidden")
    assert upstream.requests == []


def test_the_servers_own_pages_are_answered(server: LiveServer) -> None:
    headers = {"origin": server.url, "sec-fetch-site": "same-origin"}

    assert server.post("/chat", "hi", headers=headers).status_code == 200


def test_exactly_the_origins_that_are_set_may_call(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    origins = "https://app.example, http://localhost:8080"
    with LiveServer(tmp_path, upstream=upstream.url, WORKBENCH_CORS_ORIGINS=origins) as server:
        page = {"origin": "https://app.example", "sec-fetch-site": "cross-site"}
        answer = server.post("/chat", "hi", headers=page)
        failed = server.post("/chat", "", headers=page)
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-org-id"}
        before = server.client.options("/chat", headers=page | asked)
        other = server.client.options("/chat", headers={"origin": "https://app.example.evil"} | asked)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert failed.headers["access-control-allow-origin"] == "https://app.example"
    assert before.status_code == 200
    assert "x-org-id" in before.headers["access-control-allow-headers"]
    assert other.status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.10", "example.org", ""])
def test_an_address_other_machines_reach_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"set HOST to 127\.0\.0\.1"):
        refuse_open_address(host)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "127.0.0.2"])
def test_a_loopback_address_is_fine(host: str) -> None:
    refuse_open_address(host)


def test_production_is_refused_until_callers_can_prove_who_they_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="WORKBENCH_AUTH=keys or gateway"):
        LiveServer(tmp_path, upstream="http://127.0.0.1:9", APP_ENV="production")


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_without_a_key_a_claude_model_asked_for_by_name_is_the_configuration_error(
    keyless: LiveServer, path: str
) -> None:
    answer = keyless.post(path, "hi", model="claude-sonnet-5-5")

    assert answer.status_code == 503
    assert answer.json() == {
        "error": "Configuration Error",
        "message": "Claude API not configured. Please set ANTHROPIC_API_KEY.",
        "type": "configuration_error",
        "retryable": False,
        "request_id": answer.headers["x-request-id"],
    }
    assert keyless.rows("SELECT 1 FROM usage WHERE request_id = $1", answer.headers["x-request-id"]) == []


def test_the_predecessors_words_are_kept_to_the_letter() -> None:
    assert NOT_CONFIGURED == "Claude API not configured. Please set ANTHROPIC_API_KEY."
