"""Experiments over HTTP: chats that are assigned, feedback, scores, reports, and what each key may do."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.upstream import fault, reply
from tests.server.live import LiveServer
from tests.server.test_prompts import two_versions, with_key
from workbench.ids import new_id
from workbench.prompts import labelling
from workbench.store import tenants
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream

HALVES = {"arms": {"v1": 0.5, "v2": 0.5}}
ADA = {"variables": {"customer": "Ada"}}


def start(server: LiveServer, prompt: str, name: str | None = None, **more: Any) -> Any:
    headers = more.pop("headers", {})
    body = {"prompt": prompt, **HALVES, **more}
    return server.client.post(f"/experiments/{name or prompt}", json=body, headers=headers)


def post(server: LiveServer, path: str, body: Any, **headers: str) -> Any:
    return server.client.post(path, json=body, headers=headers)


def asked(server: LiveServer, prompt: str, **more: Any) -> Any:
    answer = server.post("/chat", "hi", prompt=prompt, **ADA, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def name(server: LiveServer) -> str:
    """A prompt of two versions, the first in production, under an experiment of the same name."""
    name = two_versions(server)
    begun = start(server, name)
    assert begun.status_code == 201, begun.text
    return name


def test_a_whole_experiment_ends_in_the_report_that_is_known(server: LiveServer, upstream: ScriptedUpstream) -> None:
    """40 chats of two turns and one that fails; every unit, cost, thumb and score by hand."""
    prompt = two_versions(server)
    begun = start(server, prompt, outcome="thumbs", guard={"errors": 3}, note="kinder?").json()
    upstream.script(*[reply("one two three")] * 80, *[fault("400")])
    chats: dict[str, dict[str, Any]] = {}
    for n in range(40):
        first = asked(server, prompt)
        second = asked(server, prompt, chat_id=first["chat_id"])
        assert (second["prompt"], second["experiment"], second["variant"]) == (
            first["prompt"],
            prompt,
            f"v{first['prompt'][-1]}",
        )
        given = {"score": 1 if n % 4 else -1, "comment": "so so"}
        for score in ({"score": -1}, given):  # the newest counts
            assert post(server, f"/messages/{first['message_id']}/feedback", score).status_code == 201
        assert (
            post(server, f"/experiments/{prompt}/scores", {"chat_id": first["chat_id"], "score": n}).status_code == 201
        )
        cost = Decimal(first["cost_usd"]) + Decimal(second["cost_usd"])
        chats[first["chat_id"]] = {"variant": first["variant"], "cost": cost, "thumb": given["score"], "score": n}
    failed = server.post("/chat", "hi", prompt=prompt, **ADA)
    units = server.rows("SELECT chat_id, variant FROM exposures WHERE experiment = $1 ORDER BY exposed_at, id", prompt)
    report = server.client.get(f"/experiments/{prompt}").json()
    stopped = post(server, f"/experiments/{prompt}/stop", {"winner": "v2", "why": "kinder"}).json()
    after = asked(server, prompt)

    assert (begun["state"], begun["arms"], begun["guard"]) == ("running", HALVES["arms"], {"errors": 3})
    assert begun["chats_before"] == 0 and begun["sizes"][0]["effect"] == "+5 points"
    assert failed.status_code == 502
    assert dict(units[:40]) == {id: chat["variant"] for id, chat in chats.items()}
    arms = {arm: [c for c in chats.values() if c["variant"] == arm] for arm in ("v1", "v2")}
    assert report["counts"] == {arm: len(of) + (units[40][1] == arm) for arm, of in arms.items()}
    found = {each["outcome"]: each for each in report["comparisons"]}
    sizes = [len(arms["v1"]), len(arms["v2"])]
    assert found["thumbs"]["chats"] == found["score"]["chats"] == sizes
    assert found["thumbs"]["decides"] and not found["cost"]["decides"]
    up = [100 * sum(chat["thumb"] == 1 for chat in of) / len(of) for of in arms.values()]
    assert found["thumbs"]["values"] == pytest.approx(up)
    assert found["score"]["values"] == pytest.approx([sum(c["score"] for c in of) / len(of) for of in arms.values()])
    costs = [geometric_mean(float(chat["cost"]) for chat in of) for of in arms.values()]
    assert found["cost"]["values"] == pytest.approx(costs, rel=1e-6)
    assert found["cost"]["chats"] == sizes  # the chat that failed cost nothing, which has no logarithm
    assert (stopped["state"], stopped["winner"], stopped["stop_reason"]) == ("stopped", "v2", "kinder")
    assert (after["prompt"], after["experiment"], after["variant"]) == (f"{prompt}@2", None, None)


def test_a_stream_names_its_arm_in_its_first_event(server: LiveServer, name: str) -> None:
    with server.stream("hi", prompt=name, **ADA) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data")]

    assert (events[0]["experiment"], events[0]["variant"]) == (name, f"v{events[0]['prompt'][-1]}")
    assert all("variant" not in event for event in events[1:])


def test_the_same_key_has_the_same_answer_with_its_arm(server: LiveServer, name: str) -> None:
    key = {"idempotency-key": new_id()}
    first, again = (server.post("/chat", "hi", prompt=name, headers=key, **ADA).json() for _ in range(2))

    assert first["experiment"] == name
    assert {**again, "request_id": ""} == {**first, "request_id": ""}


def test_a_guard_that_trips_gives_new_chats_the_control(
    server: LiveServer, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second version fails from its first chat on: a look after a turn stops it, and no turn waited for that."""
    monkeypatch.setattr("workbench.prompts.watch.SECONDS", 0.0)
    monkeypatch.setattr("workbench.prompts.watch.TIMES", 0)
    prompt = two_versions(server)
    start(server, prompt, guard={"errors": 1})
    deadline, stopped = time.monotonic() + 60, {}
    while not stopped:
        assert time.monotonic() < deadline
        upstream.reset()
        upstream.script(lambda request: fault("400") if "serve" in request.body["system"] else reply("Fine"))
        server.post("/chat", "hi", prompt=prompt, **ADA)
        stopped = next(
            each["stopped_arms"]
            for each in server.client.get("/experiments", params={"limit": 200}).json()["experiments"]
            if each["name"] == prompt
        )
    after = [asked(server, prompt) for _ in range(8)]

    assert list(stopped) == ["v2"]
    assert {(a["prompt"], a["experiment"]) for a in after} == {(f"{prompt}@1", None)}


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/experiments/{new}", {"prompt": "nobody", **HALVES}, 404, "no prompt 'nobody'"),
        ("/experiments/{new}", {"prompt": "{name}", "arms": {"v1": 1, "v9": 1}}, 404, "no version"),
        ("/experiments/{new}", {"prompt": "{name}", "arms": {"v1": 1, "2": 1}}, 422, "should match pattern"),
        ("/experiments/{new}", {"prompt": "{name}", "arms": {"v1": 1, "v2": 0}}, 422, "greater than or equal to 0.001"),
        ("/experiments/{new}", {"prompt": "{name}", "arms": {"v1": 1}}, 422, "at least 2"),
        ("/experiments/{new}", {"prompt": "{name}", **HALVES, "outcome": "joy"}, 422, "'cost'"),
        ("/experiments/{new}", {"prompt": "{name}", **HALVES, "salt": "x"}, 422, "salt"),
        ("/experiments/{new}", {"prompt": "{name}", **HALVES, "guard": {"joy": 1}}, 422, "joy"),
        ("/experiments/{new}", {"prompt": "{name}", **HALVES, "guard": {"errors": 5e-324}}, 422, "0.001"),
        ("/experiments/{new}", {"prompt": "{name}", **HALVES}, 409, "is under an experiment, {name}"),
        ("/experiments/{name}", {"prompt": "{name}", **HALVES}, 409, "each name is used once"),
        ("/experiments/{new}/stop", {}, 404, "no experiment '{new}'"),
        ("/experiments/{name}/stop", {"winner": "v3"}, 400, "v3 is no arm"),
        ("/experiments/{new}/scores", {"chat_id": "c", "score": 1}, 404, "no experiment '{new}'"),
        ("/experiments/{name}/scores", {"chat_id": "c", "score": 1}, 404, "no exposure of chat 'c'"),
        ("/experiments/{name}/scores", {"chat_id": "c", "score": "1"}, 422, "score"),
        ("/messages/m/feedback", {"score": 1}, 404, "no reply 'm'"),
        ("/messages/m/feedback", {"score": 0}, 422, "score"),
        ("/messages/m/feedback", {"score": True}, 422, "score"),
    ],
)
def test_what_cannot_be_done_is_said_in_our_shape(
    server: LiveServer, name: str, path: str, body: dict[str, Any], status: int, told: str
) -> None:
    names = {"name": name, "new": f"new-{name}"}

    def filled(value: Any) -> Any:
        return (
            value.replace("{name}", names["name"]).replace("{new}", names["new"]) if isinstance(value, str) else value
        )

    answer = post(server, filled(path), {key: filled(value) for key, value in body.items()})
    assert answer.status_code == status, answer.text
    assert filled(told) in answer.json()["message"]
    assert set(answer.json()) >= {"error", "message", "type", "retryable", "request_id"}


def test_coverage_is_all_that_can_be_changed(server: LiveServer, name: str) -> None:
    changed = server.client.put(f"/experiments/{name}/coverage", json={"coverage": 0})
    out = asked(server, name)
    post(server, f"/experiments/{name}/stop", {})
    late = server.client.put(f"/experiments/{name}/coverage", json={"coverage": 1})

    assert (changed.status_code, changed.json()["coverage"]) == (200, 0)
    assert (out["prompt"], out["experiment"]) == (f"{name}@1", None)
    assert (late.status_code, post(server, f"/experiments/{name}/stop", {}).status_code) == (409, 409)


@pytest.mark.timeout(180)
def test_a_second_server_on_postgresql_assigns_from_its_next_request_on(
    upstream: ScriptedUpstream, tmp_path: Path, postgres_url: str
) -> None:
    place = {"upstream": upstream.url, "WORKBENCH_STORE": postgres_url}
    with LiveServer(tmp_path, **place) as one, LiveServer(tmp_path, **place) as two:
        prompt = two_versions(one)
        before = asked(two, prompt)
        start(one, prompt)
        assigned = [asked(server, prompt) for server in (two, one) for _ in range(8)]
        kept = [asked(one, prompt, chat_id=each["chat_id"]) for each in assigned]
        post(two, f"/experiments/{prompt}/stop", {"winner": "v2"})
        after = asked(one, prompt)
        report = two.client.get(f"/experiments/{prompt}").json()

    assert (before["experiment"], after["experiment"], after["prompt"]) == (None, None, f"{prompt}@2")
    assert {each["experiment"] for each in assigned} == {prompt}
    assert [each["variant"] for each in kept] == [each["variant"] for each in assigned]
    arms = [each["variant"] for each in assigned]
    assert report["counts"] == {arm: arms.count(arm) for arm in ("v1", "v2")}


def test_experiments_are_listed_in_pages(server: LiveServer) -> None:
    names = sorted(f"page-{new_id()}" for _ in range(3))
    for name in names:
        start(server, two_versions(server), name)
    seen, after = [], names[0][:-1]
    while after is not None:
        page = server.client.get("/experiments", params={"limit": 2, "after": after}).json()
        seen += [each["name"] for each in page["experiments"]]
        after = page["next"]

    assert seen[:3] == names
    assert seen == sorted(set(seen))


# Whose they are -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that wants keys."""
    folder: Path = tmp_path_factory.mktemp("locked")
    with LiveServer(folder, upstream=running.url, WORKBENCH_AUTH="keys") as server:
        yield server


def test_each_scope_may_do_its_own(locked: LiveServer, upstream: ScriptedUpstream) -> None:
    """Chat and read keys read; prompts keys start, score and stop; chat keys rate; a protected label needs admin."""
    backend = locked.app.state.service.engine.store.backend
    keeper = with_key(locked, DEFAULT_ID, "prompts")
    chatter = with_key(locked, DEFAULT_ID, "chat")
    prompt = two_versions(locked, **keeper)
    asyncio.run(labelling.protect(backend, DEFAULT_ID, prompt, "production", datetime.now(UTC)))
    start(locked, prompt, headers=keeper)
    said = locked.post("/chat", "hi", prompt=prompt, headers=chatter, **ADA).json()

    def statuses(scope: str) -> list[int]:
        key = with_key(locked, DEFAULT_ID, scope)
        scored = {"chat_id": said["chat_id"], "score": 1}
        return [
            locked.client.get("/experiments", headers=key).status_code,
            locked.client.get(f"/experiments/{prompt}", headers=key).status_code,
            start(locked, prompt, f"new-{prompt}", headers=key).status_code,
            locked.client.put(f"/experiments/{prompt}/coverage", json={"coverage": 1}, headers=key).status_code,
            post(locked, f"/experiments/{prompt}/scores", scored, **key).status_code,
            post(locked, f"/messages/{said['message_id']}/feedback", {"score": 1}, **key).status_code,
            post(locked, f"/experiments/{prompt}/stop", {"winner": "v2"}, **key).status_code,
        ]

    assert {scope: statuses(scope) for scope in ("chat", "read", "act-as-user", "prompts", "admin")} == {
        "chat": [200, 200, 403, 403, 403, 404, 403],  # of another key's user it is as if there were no such reply
        "read": [200, 200, 403, 403, 403, 403, 403],
        "act-as-user": [403, 403, 403, 403, 403, 403, 403],
        "prompts": [200, 200, 409, 200, 201, 403, 403],
        "admin": [200, 200, 409, 200, 201, 403, 200],
    }
    assert post(locked, f"/messages/{said['message_id']}/feedback", {"score": 1}, **chatter).status_code == 201
    assert locked.client.get("/experiments").status_code == 401


def test_nobody_sees_or_touches_what_is_anothers(locked: LiveServer, upstream: ScriptedUpstream) -> None:
    backend, other = locked.app.state.service.engine.store.backend, f"globex-{new_id()}"
    asyncio.run(tenants.add_org(backend, other, datetime.now(UTC), {}))
    mine, theirs = (with_key(locked, org, "prompts", "chat") for org in (DEFAULT_ID, other))
    bob = with_key(locked, DEFAULT_ID, "chat", "act-as-user") | {"x-user-id": "bob"}
    prompt = two_versions(locked, **mine)
    start(locked, prompt, headers=mine)
    said = locked.post("/chat", "hi", prompt=prompt, headers=mine, **ADA).json()
    scored = {"chat_id": said["chat_id"], "score": 1}

    answers = [
        locked.client.get(f"/experiments/{prompt}", headers=theirs),
        start(locked, prompt, headers=theirs),
        post(locked, f"/experiments/{prompt}/stop", {}, **theirs),
        locked.client.put(f"/experiments/{prompt}/coverage", json={"coverage": 0}, headers=theirs),
        post(locked, f"/experiments/{prompt}/scores", scored, **theirs),
        post(locked, f"/messages/{said['message_id']}/feedback", {"score": 1}, **theirs),
        post(locked, f"/messages/{said['message_id']}/feedback", {"score": 1}, **bob),
    ]
    assert [answer.status_code for answer in answers] == [404] * 7
    assert locked.client.get("/experiments", headers=theirs).json() == {"experiments": [], "next": None}
    assert locked.client.get(f"/experiments/{prompt}", headers=mine).json()["experiment"]["state"] == "running"
    assert locked.rows("SELECT COUNT(*) FROM feedback WHERE message_id = $1", said["message_id"]) == [(0,)]
