"""Who may call in each mode, and whose chats they see."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from server.auth import KeptKeys, refuse_open_address
from server.gateway import WINDOW_SECONDS, Gateway, Seen, sign, signed
from tests.server.live import PATIENCE, LiveServer
from workbench.errors import ConfigurationError
from workbench.settings import NOT_CONFIGURED
from workbench.store import tenants
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from tests.faults.upstream import ScriptedUpstream
    from workbench.keys import NewKey

ROOT = Path(__file__).parents[2]
OLD, NEW = "o" * 32, "n" * 32


# dev ----------------------------------------------------------------------------------------------------------------


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


def test_in_production_callers_must_prove_who_they_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="APP_ENV=production needs WORKBENCH_AUTH=keys or gateway"):
        LiveServer(tmp_path, upstream="http://127.0.0.1:9", APP_ENV="production")


@pytest.mark.parametrize("mode", ["keys", "gateway"])
def test_production_begins_where_callers_prove_who_they_are(tmp_path: Path, mode: str) -> None:
    secrets = {"APP_ENV": "production", "WORKBENCH_AUTH": mode, "WORKBENCH_GATEWAY_KEYS": f"new:{NEW}"}
    with LiveServer(tmp_path, upstream="http://127.0.0.1:9", **secrets) as server:
        assert server.client.get("/usage").status_code == 401


def test_without_secrets_no_gateway_is_served(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set WORKBENCH_GATEWAY_KEYS to KID:SECRET"):
        LiveServer(tmp_path, upstream="http://127.0.0.1:9", WORKBENCH_AUTH="gateway")


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


# keys ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _key_server(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("keys")
    with LiveServer(folder, upstream=running.url, WORKBENCH_AUTH="keys") as server:
        for org in ("acme", "globex"):
            asyncio.run(tenants.add_org(_store(server), org, datetime.now(UTC), {}))
        asyncio.run(tenants.add_user(_store(server), "acme", "ada", datetime.now(UTC), {}))
        yield server


@pytest.fixture
def locked(_key_server: LiveServer, upstream: ScriptedUpstream) -> LiveServer:
    """A server that wants a key."""
    return _key_server


def _store(server: LiveServer) -> Any:
    return server.app.state.service.engine.store.backend


def a_key(server: LiveServer, org: str = "acme", **more: Any) -> NewKey:
    return asyncio.run(tenants.create_key(_store(server), org, more.pop("now", datetime.now(UTC)), **more))


def bearer(key: NewKey, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key.text}", **{name.replace("_", "-"): value for name, value in more.items()}}


def refused(answer: httpx2.Response) -> tuple[int, str, str]:
    return answer.status_code, answer.json()["error"], answer.headers["www-authenticate"]


def test_a_key_says_which_org_and_user_ask(locked: LiveServer) -> None:
    key = a_key(locked, user_id="ada")

    answer = locked.post("/chat", "hi", headers=bearer(key))

    row = locked.usage_of(answer.headers["x-request-id"], "org_id, user_id, key_id, source")
    assert row == ("acme", "ada", key.id, "server")


def test_a_key_without_a_user_is_one_itself(locked: LiveServer) -> None:
    key = a_key(locked)

    answer = locked.post("/chat", "hi", headers=bearer(key))

    row = locked.usage_of(answer.headers["x-request-id"], "org_id, user_id, key_id")
    assert row == ("acme", key.id, key.id)


def test_two_keys_without_users_see_nothing_of_each_others_chats(locked: LiveServer) -> None:
    one, other = a_key(locked), a_key(locked)
    chat_id = locked.post("/chat", "hi", headers=bearer(one)).json()["chat_id"]

    assert locked.post("/chat", "hi", chat_id=chat_id, headers=bearer(other)).status_code == 404
    assert locked.post("/chat", "hi", chat_id=chat_id, headers=bearer(one)).status_code == 200


@pytest.mark.parametrize("path", ["/chat", "/chat/stream", "/usage"])
@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic YTpi", "wb_0123"])
def test_without_a_key_nothing_is_answered(
    locked: LiveServer, upstream: ScriptedUpstream, path: str, header: str | None
) -> None:
    headers = {} if header is None else {"authorization": header}
    answer = locked.client.get(path, headers=headers) if path == "/usage" else locked.post(path, "hi", headers=headers)

    assert refused(answer) == (401, "Unauthorized", "Bearer")
    assert answer.json()["message"] == "send a key in the header `Authorization: Bearer wb_…`"
    assert upstream.requests == []


def test_who_has_no_key_is_not_told_what_else_is_wrong(locked: LiveServer) -> None:
    answers = [
        locked.client.post("/chat", json={"message": 5}),
        locked.client.get("/usage?by=nonsense"),
        locked.client.post("/chat", json={"message": "hi"}, headers={"x-org-id": "globex"}),
    ]

    assert [answer.status_code for answer in answers] == [401, 401, 401]


def test_a_mistyped_key_is_told_from_a_wrong_one(locked: LiveServer) -> None:
    text = a_key(locked).text

    answer = locked.client.get("/usage", headers={"authorization": f"Bearer {text[:-1]}"})

    assert refused(answer) == (401, "Unauthorized", "Bearer")
    assert "mistyped or cut off" in answer.json()["message"]


def test_unknown_expired_and_revoked_keys_get_one_answer_and_the_log_says_which(
    locked: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    unknown, revoked = a_key(locked), a_key(locked)
    expired = a_key(locked, now=now - timedelta(days=2), lifetime=timedelta(days=1))
    replaced = a_key(locked)
    asyncio.run(tenants.revoke_key(_store(locked), "acme", revoked.id, now))
    asyncio.run(tenants.rotate_key(_store(locked), "acme", replaced.id, now, timedelta(0)))
    asyncio.run(_store(locked).write([("DELETE FROM api_keys WHERE id = $1", (unknown.id,))]))

    shown = {"unknown": unknown, "revoked": revoked, "expired": expired, "expired ": replaced}
    with caplog.at_level(logging.WARNING, "server"):
        answers = [locked.client.get("/usage", headers=bearer(key)) for key in shown.values()]

    assert {refused(answer) for answer in answers} == {(401, "Unauthorized", "Bearer")}
    assert len({answer.json()["message"] for answer in answers}) == 1
    lines = [record for record in caplog.records if record.message == "Key refused"]
    assert [(line.reason, line.keyId) for line in lines] == [(why.strip(), key.id) for why, key in shown.items()]  # type: ignore[attr-defined]
    said = " ".join(str(vars(record)) for record in caplog.records)
    assert [key.text[20:] in said or key.secret_sha256 in said for key in shown.values()] == [False] * 4


def test_a_replaced_key_works_during_its_grace_period(locked: LiveServer) -> None:
    old = a_key(locked)
    new = asyncio.run(tenants.rotate_key(_store(locked), "acme", old.id, datetime.now(UTC), timedelta(days=1)))

    assert [locked.client.get("/usage", headers=bearer(key)).status_code for key in (old, new)] == [200, 200]


def test_with_the_new_key_the_chats_of_the_old_one_go_on(locked: LiveServer) -> None:
    old = a_key(locked)
    chat_id = locked.post("/chat", "hi", headers=bearer(old)).json()["chat_id"]

    new = asyncio.run(tenants.rotate_key(_store(locked), "acme", old.id, datetime.now(UTC), timedelta(0)))

    assert locked.post("/chat", "hi", chat_id=chat_id, headers=bearer(new)).status_code == 200


def test_a_revoked_key_fails_on_the_very_next_request(locked: LiveServer) -> None:
    key = a_key(locked)
    before = locked.client.get("/usage", headers=bearer(key)).status_code

    asyncio.run(tenants.revoke_key(_store(locked), "acme", key.id, datetime.now(UTC)))

    assert (before, locked.client.get("/usage", headers=bearer(key)).status_code) == (200, 401)


def test_so_does_one_that_another_process_revoked(locked: LiveServer) -> None:
    key = a_key(locked)
    before = locked.post("/chat", "hi", headers=bearer(key)).status_code

    place = {"WORKBENCH_STORE": locked.app.state.service.engine.settings.store, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "workbench", "keys", "revoke", "acme", key.id]
    subprocess.run(command, env=os.environ | place, check=True, capture_output=True, timeout=PATIENCE)

    assert (before, locked.post("/chat", "hi", headers=bearer(key)).status_code) == (200, 401)


def test_servers_that_share_a_database_share_revocations(
    running: ScriptedUpstream, postgres_url: str, tmp_path: Path
) -> None:
    shared: dict[str, object] = {"WORKBENCH_STORE": postgres_url, "WORKBENCH_AUTH": "keys"}
    with (
        LiveServer(tmp_path, upstream=running.url, **shared) as one,
        LiveServer(tmp_path, upstream=running.url, **shared) as other,
    ):
        asyncio.run(tenants.add_org(_store(one), "acme", datetime.now(UTC), {}))
        key = a_key(one)
        before = other.client.get("/usage", headers=bearer(key)).status_code
        asyncio.run(tenants.revoke_key(_store(one), "acme", key.id, datetime.now(UTC)))

        assert (before, other.client.get("/usage", headers=bearer(key)).status_code) == (200, 401)


class SlowStore:
    """Answers with what was true when it was asked, as soon as it may."""

    def __init__(self) -> None:
        self.row = ("0123", "acme", None, "hash", "chat", datetime.now(UTC), None, None, None, None, None, None, None)
        self.asked = 0
        self.tenants_version: int | None = None
        self.may_answer = asyncio.Event()

    async def rows(self, sql: str, key_id: str) -> list[tuple[Any, ...]]:
        self.asked += 1
        known = self.row
        await self.may_answer.wait()
        return [known]

    def revoke(self) -> None:
        self.row = (*self.row[:7], datetime.now(UTC), *self.row[8:])


async def test_no_request_is_judged_by_what_was_read_before_it_came() -> None:
    keys, store = KeptKeys(), SlowStore()
    before = asyncio.create_task(keys.find(store, "0123"))  # type: ignore[arg-type]
    while not store.asked:
        await asyncio.sleep(0)

    store.revoke()
    after = [asyncio.create_task(keys.find(store, "0123")) for _ in range(50)]  # type: ignore[arg-type]
    store.may_answer.set()
    found = await asyncio.gather(before, *after)

    assert [key is not None and key.revoked_at is not None for key in found] == [False, *[True] * 50]
    assert store.asked == 2


async def test_a_key_is_read_again_only_when_somebody_has_changed_any() -> None:
    keys, store = KeptKeys(), SlowStore()
    store.may_answer.set()
    store.tenants_version = 1
    before = [await keys.find(store, "0123") for _ in range(3)]  # type: ignore[arg-type]
    asked = store.asked

    store.revoke()
    store.tenants_version = 2
    after = [await keys.find(store, "0123") for _ in range(3)]  # type: ignore[arg-type]

    assert [key is not None and key.revoked_at is not None for key in (*before, *after)] == [False] * 3 + [True] * 3
    assert (asked, store.asked) == (1, 2)


def test_the_org_of_a_key_may_be_named_and_no_other(locked: LiveServer) -> None:
    key = a_key(locked)

    own = locked.post("/chat", "hi", headers=bearer(key, x_org_id="acme"))
    other = locked.post("/chat", "hi", headers=bearer(key, x_org_id="globex"))

    assert (own.status_code, other.status_code) == (200, 403)
    assert "x-org-id" in other.json()["message"]


@pytest.mark.parametrize(
    ("key", "named", "asks"),
    [
        ({"user_id": "ada"}, "ada", "ada"),
        ({"user_id": "ada"}, "bob", None),
        ({}, "ada", None),
        ({"scopes": ("chat", "act-as-user")}, "bob", "bob"),
        ({"user_id": "ada", "scopes": ("chat", "act-as-user")}, "bob", "bob"),
        ({"user_id": "ada", "scopes": ("chat", "act-as-user")}, None, "ada"),
    ],
)
def test_another_user_takes_the_scope_to_act_as_one(
    locked: LiveServer, key: dict[str, Any], named: str | None, asks: str | None
) -> None:
    made = a_key(locked, **key)

    answer = locked.post("/chat", "hi", headers=bearer(made, **({"x_user_id": named} if named else {})))

    assert answer.status_code == (403 if asks is None else 200)
    rows = locked.rows("SELECT user_id, key_id FROM usage WHERE request_id = $1", answer.headers["x-request-id"])
    assert rows == ([] if asks is None else [(asks, made.id)])


@pytest.mark.parametrize(
    ("scopes", "reads", "chats"),
    [(("chat",), 200, 200), (("read",), 200, 403), (("admin", "act-as-user"), 403, 403), (("chat", "read"), 200, 200)],
)
def test_a_key_does_what_its_scopes_say(locked: LiveServer, scopes: tuple[str, ...], reads: int, chats: int) -> None:
    key = a_key(locked, scopes=scopes)

    assert locked.client.get("/usage", headers=bearer(key)).status_code == reads
    for path in ("/chat", "/chat/stream"):
        assert locked.post(path, "hi", headers=bearer(key)).status_code == chats


@pytest.mark.parametrize(("scopes", "status"), [(("chat", "read"), 403), (("admin",), 200)])
def test_metrics_are_for_keys_of_whoever_runs_the_server(
    locked: LiveServer, scopes: tuple[str, ...], status: int
) -> None:
    key = a_key(locked, scopes=scopes)

    assert locked.client.get("/metrics", headers=bearer(key)).status_code == status
    assert locked.client.get("/metrics").status_code == 401  # from this machine too: a proxy on it may bring anybody
    twice = [("authorization", f"Bearer {key.text}")] * 2
    assert locked.client.get("/metrics", headers=twice).status_code == 400


@pytest.mark.parametrize("name", ["authorization", "x-org-id", "x-user-id"])
def test_repeated_credentials_are_refused(locked: LiveServer, name: str) -> None:
    key = a_key(locked, user_id="ada")
    value = {"authorization": f"Bearer {key.text}", "x-org-id": "acme", "x-user-id": "ada"}[name]
    headers = [*({"authorization": f"Bearer {key.text}"} | {name: value}).items(), (name, value)]

    answer = locked.client.get("/usage", headers=headers)

    assert (answer.status_code, "more than once" in answer.json()["message"]) == (400, True)


def test_the_hour_of_the_last_use_is_written_once_and_not_waited_for(
    locked: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, noted = a_key(locked), []
    real, begun = tenants.note_use, datetime.now(UTC).replace(minute=0, second=0, microsecond=0)

    async def note_use(*arguments: Any) -> None:
        noted.append(arguments[1].id)
        await real(*arguments)

    monkeypatch.setattr(tenants, "note_use", note_use)
    for _ in range(3):
        assert locked.client.get("/usage", headers=bearer(key)).status_code == 200

    used = None
    deadline = time.monotonic() + PATIENCE
    while used is None:
        assert time.monotonic() < deadline
        ((used,),) = locked.rows("SELECT last_used_at FROM api_keys WHERE id = $1", key.id)
    ended = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    assert used in (begun, ended)
    assert noted == [key.id] or begun != ended


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
def test_what_tells_nothing_of_anybody_needs_no_key(locked: LiveServer, path: str) -> None:
    assert locked.client.get(path).status_code == 200


@pytest.mark.parametrize("host", ["chat.example.com", "10.0.0.1:3000"])
def test_a_server_that_wants_keys_may_be_called_by_any_name(locked: LiveServer, host: str) -> None:
    assert locked.client.get("/usage", headers=bearer(a_key(locked), host=host)).status_code == 200


def test_origins_are_judged_as_without_keys(locked: LiveServer) -> None:
    headers = bearer(a_key(locked), host="chat.example.com")

    own = locked.client.get("/usage", headers=headers | {"origin": "https://chat.example.com"})
    other = locked.client.get("/usage", headers=headers | {"origin": "https://evil.example.com"})

    assert (own.status_code, other.status_code) == (200, 403)


def test_the_document_says_how_to_send_a_key(locked: LiveServer, server: LiveServer) -> None:
    document = locked.client.get("/openapi.json").json()

    assert document["components"]["securitySchemes"]["keys"]["scheme"] == "bearer"
    for operation in (document["paths"]["/chat"]["post"], document["paths"]["/usage"]["get"]):
        assert operation["security"] == [{"keys": []}]
        assert "401" in operation["responses"]
    assert "security" not in document["paths"]["/healthz"]["get"]
    assert "securitySchemes" not in server.client.get("/openapi.json").json()["components"]


# gateway ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _gateway_server(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("gateway")
    secrets = f"old:{OLD}, new:{NEW}"
    with LiveServer(folder, upstream=running.url, WORKBENCH_AUTH="gateway", WORKBENCH_GATEWAY_KEYS=secrets) as server:
        yield server


@pytest.fixture
def behind(_gateway_server: LiveServer, upstream: ScriptedUpstream) -> LiveServer:
    """A server behind a gateway."""
    return _gateway_server


_ticks = itertools.count(1)


def asked(
    message: str = "hi", *, kid: str = "new", secret: str = NEW, seconds: float = 0, target: str = "/chat", **more: str
) -> tuple[dict[str, str], bytes]:
    """The headers and the body a gateway sends; each call has a time of its own."""
    body = json.dumps({"message": message}).encode()
    org, user = more.get("org", "acme"), more.get("user", "ada")
    t = f"{time.time() + seconds + next(_ticks) / 1e6:.6f}"
    v1 = sign(secret.encode(), signed(t, more.get("method", "POST"), target, org, user, body))
    headers = {"x-org-id": org, "x-user-id": user, "x-wb-signature": f"t={t},kid={kid},v1={v1}"}
    return headers | {"content-type": "application/json"}, body


def send(server: LiveServer, headers: dict[str, str], body: bytes, target: str = "/chat") -> httpx2.Response:
    return server.client.post(target, content=body, headers=headers)


@pytest.mark.parametrize(("kid", "secret"), [("old", OLD), ("new", NEW)])
@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_whom_either_secret_signs_for_asks(behind: LiveServer, kid: str, secret: str, path: str) -> None:
    answer = send(behind, *asked(kid=kid, secret=secret, target=path), path)

    row = behind.usage_of(answer.headers["x-request-id"], "org_id, user_id, key_id")
    assert (answer.status_code, row) == (200, ("acme", "ada", None))


def test_the_text_that_is_signed_is_seven_lines() -> None:
    assert signed("1764072000", "POST", "/chat?a=b", "acme", "ada", b"{}").decode() == (
        "1764072000\nPOST\n/chat?a=b\nacme\nada\n44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )


def test_a_signature_is_a_plain_hmac() -> None:
    # RFC 4231, test case 2
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert sign(b"Jefe", b"what do ya want for nothing?") == expected


@pytest.mark.parametrize("target", ["/usage?by=model&since=2026-11-01", "/usage"])
def test_path_and_query_are_signed_as_they_are_sent(behind: LiveServer, target: str) -> None:
    headers, _ = asked(method="GET", target=target)
    t, kid = headers["x-wb-signature"].split(",")[:2]
    v1 = sign(NEW.encode(), signed(t.removeprefix("t="), "GET", target, "acme", "ada", b""))
    headers["x-wb-signature"] = f"{t},{kid},v1={v1}"

    assert (
        behind.client.get(target + "&by=day" if "?" in target else "/usage?by=day", headers=headers).status_code == 401
    )
    assert behind.client.get(target, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "forged",
    [
        {"x-org-id": "globex"},
        {"x-user-id": "eve"},
        {"x-wb-signature": ""},
        {"x-wb-signature": "t=1,kid=new"},
        {"kid": "old"},
        {"kid": "nobody"},
        {"t": "1764072000"},
    ],
    ids=str,
)
def test_what_was_not_signed_so_is_refused(
    behind: LiveServer, upstream: ScriptedUpstream, forged: dict[str, str]
) -> None:
    headers, body = asked()
    parts = dict(part.split("=") for part in headers["x-wb-signature"].split(","))
    parts |= {name: value for name, value in forged.items() if name in parts}
    headers["x-wb-signature"] = ",".join(f"{name}={value}" for name, value in parts.items())
    headers |= {name: value for name, value in forged.items() if name not in parts}

    answer = send(behind, headers, body)

    assert refused(answer) == (401, "Unauthorized", "Signature")
    assert upstream.requests == []


def test_another_body_or_path_is_refused(behind: LiveServer, upstream: ScriptedUpstream) -> None:
    headers, body = asked()

    assert send(behind, headers, body + b" ").status_code == 401
    assert send(behind, headers, body, "/chat/stream").status_code == 401
    assert upstream.requests == []
    assert send(behind, headers, body).status_code == 200


@pytest.mark.parametrize("missing", ["x-org-id", "x-user-id", "x-wb-signature"])
def test_all_three_headers_are_needed(behind: LiveServer, missing: str) -> None:
    headers, body = asked()
    del headers[missing]

    assert refused(send(behind, headers, body)) == (401, "Unauthorized", "Signature")


def test_a_signature_is_good_once(behind: LiveServer, upstream: ScriptedUpstream) -> None:
    headers, body = asked()

    assert [send(behind, headers, body).status_code for _ in range(3)] == [200, 401, 401]
    assert len(upstream.requests) == 1


def test_why_a_signature_was_refused_is_in_the_log_alone(behind: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "server"):
        answers = [
            send(behind, *asked(secret=OLD)),
            send(behind, *asked(kid="nobody")),
            send(behind, *asked(seconds=-3600)),
        ]

    assert len({answer.json()["message"] for answer in answers}) == 1
    reasons = [record.reason for record in caplog.records if record.message == "Signature refused"]  # type: ignore[attr-defined]
    assert reasons == ["wrong", "unknown kid", "too old or too new"]


@pytest.mark.parametrize(
    ("seconds", "why"), [(-60, None), (60, None), (-60.5, "too old or too new"), (61, "too old or too new")]
)
def test_a_signature_is_good_for_a_minute(seconds: float, why: str | None) -> None:
    now = 1_764_072_000.0
    gateway = Gateway({"new": NEW.encode()}, clock=lambda: now)
    t = str(now + seconds)
    v1 = sign(NEW.encode(), signed(t, "GET", "/usage", "acme", "ada", b""))

    assert gateway.refusal(f"t={t},kid=new,v1={v1}", "GET", "/usage", "acme", "ada", b"") == why


def test_what_is_remembered_is_bounded_and_what_is_forgotten_is_not_taken_again() -> None:
    seen, now = Seen(most=3), 1000.0

    assert [seen.first(str(n), now + n, now + n) for n in range(5)] == [True] * 5
    assert [seen.first(str(n), now + n, now + 5) for n in range(5)] == [False] * 5
    assert seen.first("new", now + 1, now + 5) is False  # as old as one that was forgotten
    assert seen.first("new", now + 5, now + 5) is True


def test_signatures_that_are_too_old_anyway_are_forgotten() -> None:
    seen = Seen(most=3)
    for n in range(3):
        seen.first(str(n), 1000.0, 1000.0)
    later = 1000.0 + WINDOW_SECONDS + 1

    assert [seen.first(f"later {n}", later, later) for n in range(3)] == [True] * 3


def test_metrics_are_for_this_machine_and_not_for_whom_its_gateway_brings(behind: LiveServer) -> None:
    assert behind.client.get("/metrics").status_code == 200
    headers, _ = asked(method="GET", target="/metrics")
    assert behind.client.get("/metrics", headers=headers).status_code == 403
    assert behind.client.get("/metrics", headers={"x-forwarded-for": "192.0.2.1"}).status_code == 403


def test_the_document_says_what_a_gateway_sends(behind: LiveServer) -> None:
    scheme = behind.client.get("/openapi.json").json()["components"]["securitySchemes"]["gateway"]

    assert scheme == {"type": "apiKey", "in": "header", "name": "x-wb-signature"}
