"""Whatever two orgs do at the same server, no answer shows anything of the other one."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.upstream import reply
from tests.server.live import LiveServer
from workbench.ids import new_id
from workbench.store import tenants

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from tests.faults.upstream import ScriptedUpstream

NOBODYS = "00000000-0000-7000-8000-000000000000"
SAID = re.compile(r"said-\d+|answered-\d+")


class Person(NamedTuple):
    """A user of an org; in both orgs there is an Ann."""

    org: str
    user: str
    headers: dict[str, str]


class Chat(NamedTuple):
    owner: Person
    texts: list[str]


class World:
    """A server with two new orgs, what was done at it, and what each may therefore see."""

    def __init__(self, server: LiveServer, upstream: ScriptedUpstream) -> None:
        self.server = server
        self.upstream = upstream
        self.chats: dict[str, Chat] = {}
        self.deleted: dict[str, Chat] = {}
        self.requests: dict[str, Person] = {}
        self._numbers = itertools.count()
        self.people = asyncio.run(self._settled())

    async def _settled(self) -> list[Person]:
        backend, now = self.server.app.state.service.engine.store.backend, datetime.now(UTC)
        people = []
        for org in (f"acme-{new_id()}", f"globex-{new_id()}"):
            await tenants.add_org(backend, org, now, {})
            await tenants.add_user(backend, org, "ann", now, {})
            anns = await tenants.create_key(backend, org, now, user_id="ann")
            anybodys = await tenants.create_key(backend, org, now, scopes=("chat", "act-as-user"))
            people += [
                Person(org, "ann", {"authorization": f"Bearer {anns.text}"}),
                Person(org, "bob", {"authorization": f"Bearer {anybodys.text}", "x-user-id": "bob"}),
            ]
        return people

    def ask(self, person: Person, path: str, chat_id: str | None) -> None:
        """Ask in a new chat, or go on with one of anybody's."""
        number = next(self._numbers)
        question, answered = f"said-{number}", f"answered-{number}"
        chat = self.chats.get(chat_id or "")
        mine = chat_id is None or (chat is not None and chat.owner == person)
        if mine:
            self.upstream.script(reply(answered))
        before = len(self.upstream.requests)

        answer = self._post(person, path, question, chat_id)

        if not mine:
            self._check_refused(answer, person, path, str(chat_id), before)
            return
        assert answer.status_code == 200
        id = re.findall(r'"chat_id":"([^"]+)"', answer.text)[0]
        texts = [*(chat.texts if chat else []), question]
        assert [_said(message) for message in self.upstream.last.body["messages"]] == texts
        assert set(SAID.findall(answer.text)) == {answered}
        self.chats.setdefault(id, Chat(person, [])).texts[:] = [*texts, answered]
        self.requests[answer.headers["x-request-id"]] = person

    def list_chats(self, person: Person, search: str) -> None:
        """List the chats of a person, in pages of two."""
        found, before = [], {}
        while before is not None:
            asked = {"limit": 2, "search": search, **before}
            answer = self.server.client.get("/chats", params=asked, headers=person.headers)
            assert answer.status_code == 200
            self._check_names_no_other(answer, person)
            found += [chat["chat_id"] for chat in answer.json()["chats"]]
            before = answer.json()["next"] and {"before": answer.json()["next"]}

        said = [id for id, chat in self.chats.items() if chat.owner == person and search in " ".join(chat.texts)]
        assert sorted(found) == sorted(said)

    def read(self, person: Person, chat_id: str) -> None:
        """Read a chat of anybody."""
        answer = self.server.client.get(f"/chats/{chat_id}", headers=person.headers)
        chat = self.chats.get(chat_id)
        if chat is None or chat.owner != person:
            nobodys = self.server.client.get(f"/chats/{NOBODYS}", headers=person.headers)
            self._check_like_nobodys(answer, nobodys, person, chat_id)
        else:
            assert [message["content"] for message in answer.json()["messages"]] == chat.texts
            self._check_names_no_other(answer, person)

    def delete(self, person: Person, chat_id: str) -> None:
        """Delete a chat of anybody; only its owner can."""
        answer = self.server.client.delete(f"/chats/{chat_id}", headers=person.headers)
        chat = self.chats.get(chat_id)
        if chat is None or chat.owner != person:
            nobodys = self.server.client.delete(f"/chats/{NOBODYS}", headers=person.headers)
            self._check_like_nobodys(answer, nobodys, person, chat_id)
        else:
            assert answer.status_code == 204
            del self.chats[chat_id]
            self.deleted[chat_id] = chat

    def usage(self, person: Person, format: str) -> None:
        """Read what was used, which is that of the whole org, and of no other."""
        answer = self.server.client.get("/usage", params={"format": format}, headers=person.headers)

        ours = {id for id, asker in self.requests.items() if asker.org == person.org}
        assert answer.status_code == 200
        assert {id for id in self.requests if id in answer.text} == ours
        ever = self.chats | self.deleted  # what a deleted chat cost stays
        assert {id for id in ever if id in answer.text} == {
            id for id, chat in ever.items() if chat.owner.org == person.org
        }
        assert SAID.findall(answer.text) == []
        self._check_names_no_other(answer, person)
        if format == "json":
            assert [row["org_id"] for row in answer.json()] == [person.org] * len(ours)

    def _post(self, person: Person, path: str, question: str, chat_id: str | None) -> httpx2.Response:
        more = {} if chat_id is None else {"chat_id": chat_id}
        return self.server.post(path, question, headers=person.headers, **more)

    def _check_refused(self, answer: httpx2.Response, person: Person, path: str, id: str, before: int) -> None:
        """A chat of somebody else is as if it were not there."""
        self._check_like_nobodys(answer, self._post(person, path, "hi", NOBODYS), person, id)
        assert len(self.upstream.requests) == before

    def _check_like_nobodys(self, answer: httpx2.Response, nobodys: httpx2.Response, person: Person, id: str) -> None:
        said, expected = ({**each.json(), "request_id": None} for each in (answer, nobodys))
        assert answer.status_code == nobodys.status_code == 404
        assert json.loads(json.dumps(said).replace(id, NOBODYS)) == expected
        self._check_names_no_other(answer, person)

    def _check_names_no_other(self, answer: httpx2.Response, person: Person) -> None:
        assert [each.org for each in self.people if each.org != person.org and each.org in answer.text] == []


def _said(message: dict[str, object]) -> str:
    (text,) = SAID.findall(json.dumps(message))
    return str(text)


@pytest.fixture(scope="module")
def open_to_keys(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("tenants"), upstream=running.url, WORKBENCH_AUTH="keys") as server:
        yield server


people, chats = st.integers(0, 3), st.integers(0, 99)
paths = st.sampled_from(["/chat", "/chat/stream"])
operations = st.one_of(
    st.tuples(st.just("ask"), people, paths, st.none() | chats),
    st.tuples(st.just("ask"), people, paths, chats),
    st.tuples(st.just("usage"), people, st.sampled_from(["json", "csv"]), st.none()),
    st.tuples(st.just("list"), people, st.sampled_from(["", "said-1", "answered"]), st.none()),
    st.tuples(st.just("read"), people, st.none(), chats),
    st.tuples(st.just("delete"), people, st.none(), chats),
)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(done=st.lists(operations, min_size=6, max_size=14))
def test_no_answer_shows_anything_of_another_org(
    open_to_keys: LiveServer, upstream: ScriptedUpstream, done: list[tuple[str, int, str, int | None]]
) -> None:
    world = World(open_to_keys, upstream)
    for what, who, how, which in done:
        person, known = world.people[who], [*world.chats, *world.deleted]
        chat_id = known[which % len(known)] if which is not None and known else None
        match what:
            case "usage":
                world.usage(person, how)
            case "list":
                world.list_chats(person, how)
            case "read":
                world.read(person, chat_id or NOBODYS)
            case "delete":
                world.delete(person, chat_id or NOBODYS)
            case "ask":
                world.ask(person, how, chat_id)
    for person in world.people:
        world.usage(person, "json")
        world.list_chats(person, "")


def test_a_key_of_one_org_opens_nothing_in_the_other(open_to_keys: LiveServer, upstream: ScriptedUpstream) -> None:
    world = World(open_to_keys, upstream)
    for person, other in itertools.permutations(world.people, 2):
        headers = person.headers | {"x-org-id": other.org}
        answer = open_to_keys.client.get("/usage", headers=headers)
        assert answer.status_code == (200 if person.org == other.org else 403)
