"""`GET /chats`, `GET /chats/{id}`, `DELETE /chats/{id}`: the caller's own chats, and nobody else's."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.upstream import Usage, fault, reply
from tests.server.live import LiveServer, events
from workbench.ids import new_id
from workbench.store import tenants
from workbench.store.backend import Statement
from workbench.turns import Caller

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from tests.faults.upstream import ScriptedUpstream
    from workbench.store import Store

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NOBODYS = "00000000-0000-7000-8000-000000000000"


def somebody() -> dict[str, str]:
    """The headers of a user who has no chats yet."""
    return {"x-org-id": "acme", "x-user-id": f"user-{new_id()}"}


def store_of(server: LiveServer) -> Store:
    store: Store = server.app.state.service.engine.store
    return store


def add_chats(server: LiveServer, who: dict[str, str], *used: datetime) -> None:
    """Write chats that were used at these moments."""
    sql = """INSERT INTO chats (id, org_id, user_id, title, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)"""
    rows = [(new_id(), who["x-org-id"], who["x-user-id"], f"chat {n}", at) for n, at in enumerate(used)]
    asyncio.run(store_of(server).backend.write([Statement(sql, row) for row in rows]))


def listed(server: LiveServer, who: dict[str, str], **asked: Any) -> dict[str, Any]:
    answer = server.client.get("/chats", params=asked, headers=who)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def all_pages(server: LiveServer, who: dict[str, str], limit: int) -> list[str]:
    """The ids on all pages, in their order."""
    found: list[str] = []
    page = listed(server, who, limit=limit)
    while True:
        assert len(page["chats"]) <= limit
        found += [chat["chat_id"] for chat in page["chats"]]
        if page["next"] is None:
            return found
        page = listed(server, who, limit=limit, before=page["next"])


def get(server: LiveServer, chat_id: str, who: dict[str, str]) -> httpx2.Response:
    return server.client.get(f"/chats/{chat_id}", headers=who)


def delete(server: LiveServer, chat_id: str, who: dict[str, str]) -> httpx2.Response:
    return server.client.delete(f"/chats/{chat_id}", headers=who)


# --- The list ---------------------------------------------------------------------------------------------------


def test_a_chat_is_listed_with_what_it_used_and_cost(server: LiveServer, upstream: ScriptedUpstream) -> None:
    who = somebody()
    # $2 and $10 per million tokens
    upstream.script(*(reply("Four", usage=Usage(1000, output_tokens=50)) for _ in range(2)))
    first = server.post("/chat", "What is   2+2?", headers=who).json()
    server.post("/chat", "Sure?", headers=who, chat_id=first["chat_id"])

    (chat,) = listed(server, who)["chats"]

    assert chat["created_at"] <= chat["updated_at"]
    assert chat == {
        "chat_id": first["chat_id"],
        "title": "What is 2+2?",
        "created_at": chat["created_at"],
        "updated_at": chat["updated_at"],
        "turns": 2,
        "total_tokens": 2100,
        "cost_usd": "0.005",
        "models": ["claude-sonnet-5-5"],
        "forked_from": None,
        "prompt": None,
    }


def test_the_chat_used_last_is_first(server: LiveServer) -> None:
    who = somebody()
    ids = [server.post("/chat", text, headers=who).json()["chat_id"] for text in ("one", "two", "three")]
    server.post("/chat", "one again", headers=who, chat_id=ids[0])

    assert all_pages(server, who, 50) == [ids[0], ids[2], ids[1]]


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
def test_page_by_page_every_chat_comes_once_even_of_one_moment(server: LiveServer, limit: int) -> None:
    who = somebody()
    within_a_millisecond = [LONG_AGO + timedelta(microseconds=n) for n in (1, 1, 2, 3, 3, 3)]
    add_chats(server, who, LONG_AGO, LONG_AGO, LONG_AGO, *within_a_millisecond)
    expected = server.rows(
        "SELECT id FROM chats WHERE user_id = $1 ORDER BY updated_at DESC, id DESC", who["x-user-id"]
    )

    assert all_pages(server, who, limit) == [id for (id,) in expected]


def test_the_last_page_says_so_even_when_it_is_full(server: LiveServer) -> None:
    who = somebody()
    add_chats(server, who, LONG_AGO, LONG_AGO)

    assert listed(server, who, limit=2)["next"] is None
    assert listed(server, somebody()) == {"chats": [], "next": None}


def test_a_chat_used_between_two_pages_is_not_listed_twice(server: LiveServer) -> None:
    who = somebody()
    add_chats(server, who, *(LONG_AGO + timedelta(days=n) for n in range(4)))
    page = listed(server, who, limit=2)
    server.post("/chat", "again", headers=who, chat_id=page["chats"][1]["chat_id"])

    rest = listed(server, who, limit=2, before=page["next"])

    titles = [chat["title"] for chat in page["chats"] + rest["chats"]]
    assert titles == ["chat 3", "chat 2", "chat 1", "chat 0"]


def test_a_search_finds_titles_and_messages_whatever_the_case(server: LiveServer, upstream: ScriptedUpstream) -> None:
    who = somebody()
    upstream.script(reply("Vögel sind Dinosaurier"), reply("50% off_season"), reply("no"))
    for text in ("What is an OSTRICH?", "prices", "else"):
        server.post("/chat", text, headers=who)

    def found(text: str) -> list[str]:
        return [chat["title"] for chat in listed(server, who, search=text)["chats"]]

    assert found("ostrich") == found("VÖGEL") == ["What is an OSTRICH?"]
    assert found("50% off_") == ["prices"]  # no wildcards
    assert found("5_%") == []
    assert len(found("")) == 3


def test_a_search_does_not_find_what_others_said(server: LiveServer) -> None:
    one, other = somebody(), somebody()
    server.post("/chat", "the secret word", headers=one)
    server.post("/chat", "nothing", headers=other)

    assert len(listed(server, one, search="secret")["chats"]) == 1
    assert listed(server, other, search="secret")["chats"] == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"limit": 0}, "limit: input should be greater than or equal to 1"),
        ({"limit": 201}, "limit: input should be less than or equal to 200"),
        ({"limit": "many"}, "limit: input should be a valid integer, unable to parse string as an integer"),
        ({"before": "yesterday"}, "before: this is no place in the list; send `next` of the answer before, as it is"),
        ({"before": ""}, "before: this is no place in the list; send `next` of the answer before, as it is"),
        (
            {"before": f"9{'9' * 16}.c"},
            "before: this is no place in the list; send `next` of the answer before, as it is",
        ),
        ({"search": "a" * 201}, "search: string should have at most 200 characters"),
        (
            {"search": "a\0b"},
            "search: the text holds characters that are no text (NUL or half a surrogate pair); remove them",
        ),
        ({"after": "x"}, "after: extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_listed_is_said(server: LiveServer, asked: dict[str, Any], message: str) -> None:
    answer = server.client.get("/chats", params=asked)

    assert (answer.status_code, answer.json()["error"]) == (422, "Validation Error")
    assert answer.json()["message"] == message


# --- One chat ---------------------------------------------------------------------------------------------------


def test_a_chat_is_read_with_what_each_reply_used_and_cost(server: LiveServer, upstream: ScriptedUpstream) -> None:
    who = somebody()
    upstream.script(reply("Four", usage=Usage(15, 5000, 100, output_tokens=8)), fault("cut", "one two three", after=2))
    asked = server.post("/chat", "What is 2+2?", headers=who).json()
    broken = server.post("/chat", "Count", headers=who, chat_id=asked["chat_id"])

    answer = get(server, asked["chat_id"], who)

    body = answer.json()
    messages = body.pop("messages")
    assert answer.headers["cache-control"] == "no-store"
    assert broken.status_code == 502
    assert body == {
        "chat_id": asked["chat_id"],
        "title": "What is 2+2?",
        "system": None,
        "model": None,
        "created_at": body["created_at"],
        "forked_from": None,
        "prompt": None,
        "variables": {},
        "cost_usd": body["cost_usd"],
    }
    assert [(m["seq"], m["role"], m["content"], m["status"]) for m in messages] == [
        (1, "user", "What is 2+2?", "complete"),
        (2, "assistant", "Four", "complete"),
        (3, "user", "Count", "complete"),
        (4, "assistant", "one two", "failed"),
    ]
    question, four, _, count = messages
    assert (question["usage"], question["cost_usd"], question["duration_ms"]) == (None, None, None)
    assert (four["message_id"], four["usage"], four["cost_usd"]) == (
        asked["message_id"],
        asked["usage"],
        asked["cost_usd"],
    )
    assert (four["token_count"], four["model"], four["stop_reason"]) == (8, "claude-sonnet-5-5", "end_turn")
    assert four["duration_ms"] >= 0
    assert Decimal(body["cost_usd"]) == Decimal(four["cost_usd"]) + Decimal(count["cost_usd"]) > 0


def test_a_reply_that_is_being_written_is_there_as_far_as_it_was_saved(
    server: LiveServer, upstream: ScriptedUpstream
) -> None:
    who = somebody()
    upstream.script(reply("one two", pause_after=1))
    with server.client.stream("POST", "/chat/stream", json={"message": "Count"}, headers=who) as answer:
        told = events(answer)
        chat_id = next(told)["chat_id"]
        reply_now = get(server, chat_id, who).json()["messages"][1]
        upstream.release()
        list(told)

    assert (reply_now["status"], reply_now["usage"], reply_now["cost_usd"]) == ("streaming", None, None)
    assert "one two".startswith(reply_now["content"])
    assert get(server, chat_id, who).json()["messages"][1]["status"] == "complete"


def test_a_fork_says_whose_it_is_and_cost_nothing_yet(server: LiveServer) -> None:
    who = somebody()
    caller = Caller(who["x-org-id"], who["x-user-id"])
    chat_id = server.post("/chat", "hi", headers=who).json()["chat_id"]

    async def fork() -> str:
        store = store_of(server)
        return (await store.fork(caller, await store.chat(caller, chat_id), 2)).id

    body = get(server, asyncio.run(fork()), who).json()

    assert (body["forked_from"], body["cost_usd"]) == (chat_id, "0")
    assert [(m["usage"], m["cost_usd"]) for m in body["messages"]] == [(None, None), (None, None)]


def test_replies_say_what_the_caller_thinks_of_them_in_a_fork_too(server: LiveServer) -> None:
    who = somebody()
    caller = Caller(who["x-org-id"], who["x-user-id"])
    asked = server.post("/chat", "hi", headers=who).json()

    def rate(message_id: str, **given: object) -> int:
        return server.client.post(f"/messages/{message_id}/feedback", json=given, headers=who).status_code

    def told(chat_id: str) -> list[object]:
        return [message["feedback"] for message in get(server, chat_id, who).json()["messages"]]

    async def fork() -> str:
        store = store_of(server)
        return (await store.fork(caller, await store.chat(caller, asked["chat_id"]), 2)).id

    before = told(asked["chat_id"])
    rated = [rate(asked["message_id"], score=1)]
    forked = asyncio.run(fork())
    shared = told(forked)
    copy = get(server, forked, who).json()["messages"][1]["message_id"]
    rated.append(rate(copy, score=-1, comment="on second thoughts"))

    assert rated == [201, 201] and before == [None, None]
    assert shared == [None, {"score": 1, "comment": None}]
    assert told(asked["chat_id"]) == told(forked) == [None, {"score": -1, "comment": "on second thoughts"}]


def test_a_chat_says_which_prompt_it_has_and_what_is_in_its_variables(server: LiveServer) -> None:
    who = somebody()
    server.client.post("/prompts/support", json={"text": "You help {{customer}}."}, headers=who)
    asked = server.post("/chat", "hi", headers=who, prompt="support", variables={"customer": "Ada"}).json()
    body = get(server, asked["chat_id"], who).json()

    assert (body["prompt"], body["variables"], body["system"]) == ("support@1", {"customer": "Ada"}, "You help Ada.")


# --- Deleting ---------------------------------------------------------------------------------------------------


def test_a_deleted_chat_is_gone_and_what_it_cost_stays(server: LiveServer) -> None:
    who = somebody()
    answered = server.post("/chat", "forget this", headers=who)
    chat_id = answered.json()["chat_id"]

    answer = delete(server, chat_id, who)

    assert (answer.status_code, answer.content) == (204, b"")
    assert get(server, chat_id, who).status_code == 404
    assert delete(server, chat_id, who).status_code == 404
    assert listed(server, who)["chats"] == []
    assert server.rows("SELECT COUNT(*) FROM messages WHERE chat_id = $1", chat_id) == [(0,)]
    sql = "SELECT cost_usd FROM usage WHERE request_id = $1"
    assert server.rows(sql, answered.headers["x-request-id"]) == [(Decimal(answered.json()["cost_usd"]),)]


def test_a_chat_is_not_deleted_while_a_turn_of_it_runs(server: LiveServer, upstream: ScriptedUpstream) -> None:
    who = somebody()
    upstream.script(reply("one two", pause_after=1))
    with server.client.stream("POST", "/chat/stream", json={"message": "Count"}, headers=who) as answer:
        told = events(answer)
        chat_id = next(told)["chat_id"]
        refused = delete(server, chat_id, who)
        upstream.release()
        list(told)

    assert (refused.status_code, refused.json()["error"], refused.json()["type"]) == (409, "Conflict", "turn_running")
    assert refused.json()["retryable"] is True
    assert refused.json()["message"] == (
        f"a turn of chat {chat_id} is still running and has to be billed; stop it, or wait, and do this again"
    )
    assert delete(server, chat_id, who).status_code == 204


# --- Whose ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("other", ["x-org-id", "x-user-id"])
def test_a_chat_of_somebody_else_is_as_if_it_did_not_exist(server: LiveServer, method: str, other: str) -> None:
    who = somebody()
    stranger = who | {other: f"other-{new_id()}"}
    chat_id = server.post("/chat", "mine", headers=who).json()["chat_id"]

    theirs = server.client.request(method, f"/chats/{chat_id}", headers=stranger)
    nobodys = server.client.request(method, f"/chats/{NOBODYS}", headers=stranger)

    assert theirs.status_code == nobodys.status_code == 404
    said, expected = ({**each.json(), "request_id": None} for each in (theirs, nobodys))
    assert said | {"message": said["message"].replace(chat_id, NOBODYS)} == expected
    assert "GET /chats lists yours" in expected["message"]
    assert listed(server, stranger)["chats"] == []
    assert get(server, chat_id, who).status_code == 200


def test_an_id_that_is_none_is_refused(server: LiveServer) -> None:
    answer = server.client.get("/chats/a%00b")

    assert answer.status_code == 422
    assert answer.json()["message"].startswith("chat_id: string should match pattern")


def test_every_method_of_a_path_is_named_to_who_uses_another(server: LiveServer) -> None:
    allowed = {path: server.client.put(path).headers["allow"] for path in ("/chats", f"/chats/{NOBODYS}", "/chat", "/")}

    assert allowed == {"/chats": "GET", f"/chats/{NOBODYS}": "DELETE, GET", "/chat": "POST", "/": "GET, HEAD"}


def test_a_key_that_may_only_read_deletes_nothing(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with LiveServer(tmp_path, upstream=upstream.url, WORKBENCH_AUTH="keys") as server:
        backend, now = store_of(server).backend, datetime.now(UTC)

        async def keys() -> list[dict[str, str]]:
            await tenants.add_org(backend, "acme", now, {})
            await tenants.add_user(backend, "acme", "ann", now, {})
            made = [
                await tenants.create_key(backend, "acme", now, user_id="ann", scopes=(s,)) for s in ("chat", "read")
            ]
            return [{"authorization": f"Bearer {key.text}"} for key in made]

        chatting, reading = asyncio.run(keys())
        chat_id = server.post("/chat", "hi", headers=chatting).json()["chat_id"]

        assert [chat["chat_id"] for chat in listed(server, reading)["chats"]] == [chat_id]
        assert get(server, chat_id, reading).status_code == 200
        refused = delete(server, chat_id, reading)
        assert (refused.status_code, refused.json()["message"]) == (
            403,
            "the key lacks the scope chat; send one that has it",
        )
        assert server.client.get("/chats").status_code == 401
        assert delete(server, chat_id, chatting).status_code == 204


# --- A first turn that fails ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_a_first_turn_that_fails_names_its_chat_so_that_asking_again_goes_on_in_it(
    server: LiveServer, upstream: ScriptedUpstream, path: str
) -> None:
    who = somebody()
    upstream.script(fault("529"), fault("529"), fault("529"), reply("Four"))
    failed = server.post(path, "What is 2+2?", headers=who)
    chat_id = failed.json()["chat_id"]
    server.post("/chat", "What is 2+2?", headers=who, chat_id=chat_id)

    assert failed.status_code == 503
    assert [chat["chat_id"] for chat in listed(server, who)["chats"]] == [chat_id]
    assert [(m["content"], m["status"]) for m in get(server, chat_id, who).json()["messages"]] == [
        ("What is 2+2?", "complete"),
        ("", "failed"),
        ("What is 2+2?", "complete"),
        ("Four", "complete"),
    ]


def test_a_turn_that_was_refused_before_it_began_names_no_chat(server: LiveServer) -> None:
    assert "chat_id" not in server.post("/chat", " ").json()
