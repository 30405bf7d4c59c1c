"""Prompts over HTTP: versions, labels and rollback, and turns that use them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.upstream import reply
from tests.server.live import LiveServer
from workbench.ids import new_id
from workbench.prompts import labelling
from workbench.store import tenants
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream

ADA = {"variables": {"customer": "Ada"}}


@pytest.fixture
def name(server: LiveServer) -> str:
    """A prompt of two versions, the first in production."""
    return two_versions(server)


def two_versions(server: LiveServer, **headers: str) -> str:
    name = f"support-{new_id()[-12:]}"
    for text in ("You help {{customer}}.", "You serve {{customer}}."):
        assert server.client.post(f"/prompts/{name}", json={"text": text}, headers=headers).status_code == 201
    return name


def move(server: LiveServer, name: str, version: int, label: str = "production", **headers: str) -> Any:
    return server.client.put(f"/prompts/{name}/labels/{label}", json={"version": version}, headers=headers)


def back(server: LiveServer, name: str, **headers: str) -> Any:
    return server.client.post(f"/prompts/{name}/rollback", headers=headers)


def asked(server: LiveServer, name: str, **more: Any) -> Any:
    answer = server.post("/chat", "hi", **{"prompt": name, **ADA, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def used(server: LiveServer, request_id: str) -> tuple[Any, ...]:
    return server.usage_of(request_id, "prompt_name, prompt_version")


# Turns --------------------------------------------------------------------------------------------------------------


def test_a_rollback_that_is_sent_again_goes_no_further_back(server: LiveServer) -> None:
    """Whoever got no answer, and says from which version, may ask again."""
    name = two_versions(server)
    for version in (2, 1, 2):
        move(server, name, version)
    answers = [server.client.post(f"/prompts/{name}/rollback", json={"version": 2}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 409]
    assert "is at version 1, not 2" in answers[1].json()["message"]
    assert server.client.get(f"/prompts/{name}").json()["labels"][0]["version"] == 1
    assert back(server, name).json()["version"] == 2  # as before, one further back


def test_a_moved_label_holds_for_the_next_request_and_a_rollback_too(
    server: LiveServer, upstream: ScriptedUpstream, name: str
) -> None:
    before = asked(server, name)
    moved = move(server, name, 2)
    after = asked(server, f"{name}@production")
    rolled = back(server, name)
    again = asked(server, name)

    assert [a["prompt"] for a in (before, after, again)] == [f"{name}@1", f"{name}@2", f"{name}@1"]
    assert [request.body["system"] for request in upstream.requests] == [
        "You help Ada.",
        "You serve Ada.",
        "You help Ada.",
    ]
    assert used(server, after["request_id"]) == (name, 2)
    assert (moved.json()["version"], moved.json()["labels"]) == (2, ["production"])
    assert (rolled.json()["version"], rolled.json()["labels"]) == (1, ["production"])


def test_a_chat_keeps_its_version_whatever_its_client_repeats(
    server: LiveServer, upstream: ScriptedUpstream, name: str
) -> None:
    first = asked(server, name)
    go_on = {"chat_id": first["chat_id"]}
    move(server, name, 2)
    plain = server.post("/chat", "and?", **go_on).json()
    repeated = asked(server, name, **go_on)
    sent_back = asked(server, first["prompt"], variables=None, **go_on)
    for_bob = asked(server, name, variables={"customer": "Bob"}, **go_on)
    other = asked(server, f"{name}@2", variables=None, **go_on)
    newest = asked(server, f"{name}@latest", **go_on)
    kept = server.client.get(f"/chats/{first['chat_id']}").json()

    assert [a["prompt"] for a in (plain, repeated, sent_back, for_bob)] == [f"{name}@1"] * 4
    assert [a["prompt"] for a in (other, newest)] == [f"{name}@2"] * 2
    assert [request.body["system"] for request in upstream.requests[-3:]] == [
        "You help Bob.",
        "You serve Bob.",
        "You serve Ada.",
    ]
    assert (kept["prompt"], kept["system"]) == (f"{name}@2", "You serve Ada.")


def test_a_stream_names_its_prompt_in_its_first_event(server: LiveServer, name: str) -> None:
    with server.stream("hi", prompt=name, **ADA) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data")]
    without = server.post("/chat/stream", "hi").text

    assert events[0]["prompt"] == f"{name}@1"
    assert events[-1]["done"] is True
    assert "prompt" not in without
    assert server.post("/chat", "hi").json()["prompt"] is None


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"prompt": "no-such"}, 404, "no prompt 'no-such'; there are: "),
        ({"prompt": "NAME@9", **ADA}, 404, "the newest is NAME@2"),
        ({"prompt": "NAME@staging", **ADA}, 404, "NAME has: production, latest"),
        ({"prompt": "NAME"}, 400, "the prompt NAME@1 is missing 'customer'; its variables are 'customer'"),
        ({"prompt": "NAME", "variables": {"customer": "a", "x": "b"}}, 400, "does not know 'x'"),
        ({"variables": {"customer": "a"}}, 422, "variables are for a prompt; name the prompt too"),
        ({"prompt": "a b"}, 422, "prompt: string should match pattern"),
        ({"prompt": "NAME", "variables": {"customer": 7}}, 422, "variables.customer: input should be a valid string"),
        ({"prompt": "NAME", "variables": {"customer": "\0"}}, 400, "the variable 'customer' holds characters"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_before_claude_is_asked(
    server: LiveServer, upstream: ScriptedUpstream, name: str, body: dict[str, Any], status: int, told: str
) -> None:
    body = json.loads(json.dumps(body).replace("NAME", name))
    for path in ("/chat", "/chat/stream"):
        answer = server.post(path, "hi", **body)
        assert (answer.status_code, told.replace("NAME", name) in answer.json()["message"]) == (status, True), (
            answer.text
        )
    assert upstream.requests == []


def test_the_same_key_has_the_same_answer_with_its_prompt(server: LiveServer, name: str) -> None:
    headers = {"idempotency-key": new_id()}
    first, again = (asked(server, name, headers=headers) for _ in range(2))

    assert again["prompt"] == first["prompt"] == f"{name}@1"
    assert again["message_id"] == first["message_id"]


def test_load_during_moves_loses_no_request(server: LiveServer, upstream: ScriptedUpstream, name: str) -> None:
    """Six clients ask while the label is moved 20 times or more: every request is answered, by one of the two versions."""
    upstream.script(*[reply("Fine")] * 400)
    answers: list[tuple[int, Any]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            answer = server.post("/chat", "hi", prompt=name, **ADA)
            answers.append((answer.status_code, answer.json().get("prompt")))

    clients = [threading.Thread(target=ask) for _ in range(6)]
    for client in clients:
        client.start()
    try:
        n, end = 0, time.monotonic() + 60
        while n < 20 or (len(answers) <= 12 and time.monotonic() < end):  # a busy machine needs longer
            assert (back(server, name) if n % 2 else move(server, name, 2)).status_code == 200
            n += 1
            time.sleep(0.02)
    finally:
        done.set()
        for client in clients:
            client.join()

    assert {status for status, _ in answers} == {200}
    assert {prompt for _, prompt in answers} == {f"{name}@1", f"{name}@2"}
    assert len(answers) > 12
    recorded = server.rows("SELECT COUNT(*) FROM usage WHERE prompt_name = $1 AND status = 'complete'", name)
    assert recorded == [(len(answers),)]


@pytest.mark.timeout(180)
def test_a_second_server_on_postgresql_goes_by_a_move_within_a_second(
    upstream: ScriptedUpstream, tmp_path: Path, postgres_url: str
) -> None:
    place = {"upstream": upstream.url, "WORKBENCH_STORE": postgres_url}
    with LiveServer(tmp_path, **place) as one, LiveServer(tmp_path, **place) as two:
        name = two_versions(one)
        seen, took = [asked(two, name)["prompt"]], []
        for change, other in ((lambda: move(one, name, 2), two), (lambda: back(two, name), one)):
            change()
            moved = time.monotonic()
            seen.append(asked(other, name)["prompt"])
            took.append(time.monotonic() - moved)

    assert seen == [f"{name}@1", f"{name}@2", f"{name}@1"]
    assert max(took) < 1


# Versions and labels ------------------------------------------------------------------------------------------------


def test_a_version_is_saved_once_and_read_in_the_history(server: LiveServer) -> None:
    name, body = f"tone-{new_id()[-12:]}", {"text": "Be {{how}}.", "note": "first", "effort": "low"}
    first = server.client.post(f"/prompts/{name}", json=body, headers={"x-user-id": "ada"})
    again = server.client.post(f"/prompts/{name}", json=body | {"note": "another"})
    other = server.client.post(f"/prompts/{name}", json=body | {"model": "claude-haiku-5-5"})
    history = server.client.get(f"/prompts/{name}").json()
    below = server.client.get(f"/prompts/{name}", params={"limit": 1}).json()
    rest = server.client.get(f"/prompts/{name}", params={"limit": 1, "before": below["next"]}).json()

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert first.json() == again.json()
    told = {key: first.json()[key] for key in ("version", "prompt", "variables", "labels", "note", "author", "effort")}
    assert told == {
        "version": 1,
        "prompt": f"{name}@1",
        "variables": ["how"],
        "labels": ["production"],
        "note": "first",
        "author": "ada",
        "effort": "low",
    }
    assert [version["version"] for version in history["versions"]] == [2, 1]
    assert history["versions"][1] == first.json()
    assert [(label["label"], label["version"], label["moved_by"]) for label in history["labels"]] == [
        ("production", 1, "ada")
    ]
    assert (below["next"], [v["version"] for v in rest["versions"]], rest["next"]) == (2, [1], None)


def test_prompts_are_listed_in_pages(server: LiveServer) -> None:
    org = {"x-org-id": new_id()}
    for name in ("tone", "billing", "support"):
        server.client.post(f"/prompts/{name}", json={"text": f"About {name}"}, headers=org)
    move(server, "tone", 1, "staging", **org)
    pages, after = [], ""
    while after is not None:
        page = server.client.get("/prompts", params={"limit": 2, "after": after}, headers=org).json()
        pages.append([(prompt["name"], prompt["latest"], prompt["labels"]) for prompt in page["prompts"]])
        after = page["next"]
    found = server.client.get("/prompts", params={"search": "ABOUT TO"}, headers=org).json()

    assert pages == [
        [("billing", 1, {"production": 1}), ("support", 1, {"production": 1})],
        [("tone", 1, {"production": 1, "staging": 1})],
    ]
    assert [prompt["name"] for prompt in found["prompts"]] == ["tone"]


def test_what_cannot_be_done_is_said_in_our_shape(server: LiveServer, name: str) -> None:
    put, post = server.client.put, server.client.post
    outcomes = {
        "unknown version": move(server, name, 9),
        "unknown prompt": move(server, "no-such", 1),
        "nothing before": back(server, name),
        "no label to go back": post(f"/prompts/{name}/rollback", json={"label": "staging"}),
        "latest": move(server, name, 1, "latest"),
        "like a version": move(server, name, 1, "v1"),
        "blank": post(f"/prompts/{name}", json={"text": " "}),
        "mistyped": post(f"/prompts/{name}", json={"text": "Hi", "notes": "x"}),
        "effort": post(f"/prompts/{name}", json={"text": "Hi", "effort": "extreme"}),
        "name": post("/prompts/a b", json={"text": "Hi"}),
        "no version": put(f"/prompts/{name}/labels/production", json={}),
        "retired": post(f"/prompts/{name}", json={"text": "Hi", "model": "claude-2"}),
    }

    assert {what: answer.status_code for what, answer in outcomes.items()} == {
        "unknown version": 404,
        "unknown prompt": 404,
        "nothing before": 409,
        "no label to go back": 404,
        "latest": 400,
        "like a version": 400,
        "blank": 400,
        "mistyped": 422,
        "effort": 422,
        "name": 422,
        "no version": 422,
        "retired": 400,
    }
    assert all(answer.json()["request_id"] and answer.json()["error"] for answer in outcomes.values())
    assert "where it has always been, at version 1" in outcomes["nothing before"].json()["message"]


# Who may ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("keys"), upstream=running.url, WORKBENCH_AUTH="keys") as server:
        yield server


def with_key(server: LiveServer, org: str, *scopes: str) -> dict[str, str]:
    backend = server.app.state.service.engine.store.backend
    made = asyncio.run(tenants.create_key(backend, org, datetime.now(UTC), scopes=scopes))
    return {"authorization": f"Bearer {made.text}"}


def test_each_scope_may_do_its_own(locked: LiveServer) -> None:
    """Chat and read keys read; prompts keys save and move; protected labels need admin."""
    backend = locked.app.state.service.engine.store.backend
    keeper, admin = (with_key(locked, DEFAULT_ID, scope) for scope in ("prompts", "admin"))
    name = two_versions(locked, **keeper)
    asyncio.run(labelling.protect(backend, DEFAULT_ID, name, "production", datetime.now(UTC)))

    def statuses(scope: str) -> list[int]:
        key = with_key(locked, DEFAULT_ID, scope)
        return [
            locked.client.get("/prompts", headers=key).status_code,
            locked.client.get(f"/prompts/{name}", headers=key).status_code,
            locked.client.post(f"/prompts/{name}", json={"text": "You help {{customer}}."}, headers=key).status_code,
            move(locked, name, 1, "staging", **key).status_code,
            move(locked, name, 2, **key).status_code,
            back(locked, name, **key).status_code,
        ]

    assert {scope: statuses(scope) for scope in ("chat", "read", "act-as-user", "prompts", "admin")} == {
        "chat": [200, 200, 403, 403, 403, 403],
        "read": [200, 200, 403, 403, 403, 403],
        "act-as-user": [403, 403, 403, 403, 403, 403],
        "prompts": [200, 200, 200, 200, 403, 409],
        "admin": [200, 200, 200, 200, 200, 200],
    }
    refused = move(locked, name, 2, **keeper).json()
    assert (refused["error"], refused["type"]) == ("Forbidden", "label_protected")
    assert "scope admin" in refused["message"]
    assert locked.client.get("/prompts").status_code == 401
    assert locked.client.post(f"/prompts/{name}/rollback").status_code == 401
    assert move(locked, name, 2, **admin).status_code == 200


def test_no_answer_shows_a_prompt_of_another_org(locked: LiveServer) -> None:
    backend, other = locked.app.state.service.engine.store.backend, f"globex-{new_id()}"
    asyncio.run(tenants.add_org(backend, other, datetime.now(UTC), {}))
    mine, theirs = (with_key(locked, org, "prompts", "chat") for org in (DEFAULT_ID, other))
    name = two_versions(locked, **mine)

    answers = [
        locked.client.get(f"/prompts/{name}", headers=theirs),
        move(locked, name, 2, **theirs),
        back(locked, name, **theirs),
        locked.post("/chat", "hi", prompt=name, headers=theirs, **ADA),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4
    told = f"no prompt '{name}'; there is none yet; save one with wb.prompts.save, `workbench prompts save` or POST /prompts/NAME"
    assert {answer.json()["message"] for answer in answers} == {told}
    assert locked.client.get("/prompts", headers=theirs).json() == {"prompts": [], "next": None}
    assert locked.client.post(f"/prompts/{name}", json={"text": "theirs"}, headers=theirs).json()["version"] == 1
    assert (
        locked.client.get(f"/prompts/{name}", headers=mine).json()["versions"][0]["text"] == "You serve {{customer}}."
    )
