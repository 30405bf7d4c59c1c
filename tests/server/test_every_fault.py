"""Every fault of the upstream, and what clients and kills do, against the server as a process, seen from outside.

Of each request: the status and the problem, or the events; the usage row and what it cost, to the last decimal; the
settled hold; how often the upstream was asked; and that nothing of the upstream's own words comes through.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx2
import pytest

from tests.faults.faults import find_fault
from tests.faults.table import Options
from tests.faults.upstream import FAULTS, ScriptedUpstream, fault, names, reply
from tests.server.live import PATIENCE
from tests.server.outcomes import (
    BEFORE,
    HELD_USD,
    MID,
    NAMED_BY_THE_ACCEPTANCE,
    NOT_OURS,
    NOTHING,
    ODD,
    PERHAPS,
    RICH,
    Broken,
    Counts,
    Refused,
    Whole,
)
from tests.server.process import ServerProcess
from workbench.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.replies import Reply

KEY = "sk-ant-secret-5dK2"
PATHS = ("/chat", "/chat/stream")
SILENT = ("hang", "stall", "stall_in_frame", "bad_chunk")
"""Faults that only a deadline ends."""
OVERTAKING = ("reset", "bad_chunk")
"""What may overtake the words before it, which are therefore waited for."""
QUICK = {"pause": 0.01, "checkpoint_seconds": 0.05}


def claude(upstream: ScriptedUpstream) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": upstream.url}


class Row(NamedTuple):
    """The row of one call in `GET /usage`, and the state and the amount of its hold."""

    status: str
    error_type: str | None
    counts: Counts
    stop_reason: str | None
    hold: str
    held_usd: Decimal
    thinking: int
    searches: int


class Ledger:
    """The store of a server, as another process sees it."""

    def __init__(self, path: Path) -> None:
        self.store = asyncio.run(Store.open(str(path)))

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return asyncio.run(self.store.backend.rows(sql, *parameters))

    def until(self, sql: str, parameter: str, expected: list[tuple[Any, ...]]) -> None:
        """Wait until a query has this result."""
        deadline = time.monotonic() + PATIENCE
        while (rows := self.rows(sql, parameter)) != expected:
            assert time.monotonic() < deadline, rows
            time.sleep(0.01)

    def until_came(self, org: str, text: str) -> None:
        """Wait until the reply that is being written has this text."""
        self.until("SELECT content FROM messages WHERE org_id = $1 AND status = 'streaming'", org, [(text,)])


class Watched(NamedTuple):
    """A server and its store."""

    server: ServerProcess
    ledger: Ledger

    def ask(self, path: str, org: str, message: str = "hi") -> httpx2.Response:
        return self.server.client.post(path, json={"message": message}, headers={"x-org-id": org})

    def calls(self, org: str) -> list[Row]:
        """The calls of an org, oldest first."""
        told = self.server.client.get("/usage", headers={"x-org-id": org}).json()
        holds = self.ledger.rows("SELECT request_id, state, amount_usd FROM holds WHERE org_id = $1", org)
        by_request = {request: hold for request, *hold in holds}
        assert len(told) == len(holds) == len(by_request)
        return [_row(call, *by_request[call["request_id"]]) for call in told]


def _row(call: dict[str, Any], hold: str, held_usd: Decimal) -> Row:
    names = ("uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    counts = [call[name] for name in (*names, "output_tokens")]
    assert call["input_tokens"] == sum(counts[:4])
    return Row(
        call["status"],
        call["error_type"],
        Counts(*counts, call["cost_usd"], call["usage_estimated"]),
        call["stop_reason"],
        hold,
        held_usd,
        call["thinking_tokens"],
        call["web_searches"],
    )


@pytest.fixture(scope="module")
def _patient(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    yield from _watched(running, tmp_path_factory.mktemp("patient"), QUICK)


@pytest.fixture(scope="module")
def _impatient(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    yield from _watched(running, tmp_path_factory.mktemp("impatient"), QUICK | {"read_timeout": 1.0})


def _watched(upstream: ScriptedUpstream, folder: Path, seconds: dict[str, float]) -> Iterator[Watched]:
    store = folder / "store.duckdb"
    with ServerProcess(store, seconds=seconds, **claude(upstream)) as server:
        ledger = Ledger(store)
        yield Watched(server, ledger)
        ledger.store.close()
        assert KEY not in "".join(server.lines)
        assert not [line for line in server.lines if "Unhandled error" in line or "Traceback" in line]


@pytest.fixture
def patient(_patient: Watched, upstream: ScriptedUpstream) -> Watched:
    return _patient


@pytest.fixture
def watched(request: pytest.FixtureRequest, upstream: ScriptedUpstream) -> Watched:
    """The server that waits long enough for the fault named by the test, and no longer."""
    silent = request.node.callspec.params["name"] in SILENT
    watched: Watched = request.getfixturevalue("_impatient" if silent else "_patient")
    return watched


def scripted(name: str, **more: Any) -> Reply:
    """The fault as every test here has it: what waits does so briefly, floods are small."""
    return fault(name, retry_after=40 if name == "429_retry_after_date" else 0.01, size=200_000, **more)


# What is expected, and that nothing is forgotten --------------------------------------------------------------------


def test_each_fault_has_an_outcome() -> None:
    assert [set(BEFORE), set(MID), set(ODD)] == [set(names("before")), set(names("mid")), set(names("odd"))]


@pytest.mark.parametrize("name", NAMED_BY_THE_ACCEPTANCE.split())
def test_the_faults_of_the_acceptance_are_in_the_table(name: str) -> None:
    assert find_fault(name).name in FAULTS


def test_of_all_the_upstream_says_something_is_known_as_not_ours() -> None:
    said = set()
    for each in FAULTS.values():
        made = each.make(Options())
        for body in (made.answer.body if made.answer else b"", made.breaks.extra if made.breaks else b""):
            data = body.removeprefix(b"event: error\ndata: ")
            try:
                error = json.loads(data)["error"]
            except (ValueError, TypeError):
                continue  # no JSON, or no object
            said.add(error["message"])

    assert len(said) > 20
    assert [message for message in said if not any(piece.strip('"') in message for piece in NOT_OURS)] == []


def nothing_of_theirs(answer: httpx2.Response) -> None:
    text = answer.text + "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
    assert [piece for piece in NOT_OURS if piece in text] == []


# Before the first event ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BEFORE)
def test_what_fails_before_the_first_event_is_a_problem_with_its_status(
    watched: Watched, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.default = scripted(name)
    expected = BEFORE[name]

    for n, path in enumerate(PATHS, 1):
        answer = watched.ask(path, name)

        assert_problem(watched, answer, expected, "Stream failed" if path == "/chat/stream" else "Chat failed")
        assert upstream.requests_total == expected.calls * n
    assert watched.calls(name) == [failed(expected.type, expected.counts)] * 2


def assert_problem(watched: Watched, answer: httpx2.Response, expected: Refused | Broken, title: str) -> None:
    nothing_of_theirs(answer)
    body = answer.json()
    request_id = answer.headers["x-request-id"]
    assert watched.ledger.rows("SELECT chat_id FROM usage WHERE request_id = $1", request_id) == [(body["chat_id"],)]
    retry_after = body.pop("retry_after", None)
    retryable = expected.retryable if isinstance(expected, Refused) else True
    assert answer.headers["content-type"] == "application/json"
    assert (answer.status_code, body) == (
        expected.status,
        {
            "error": title,
            "message": expected.message,
            "type": expected.type,
            "retryable": retryable,
            "chat_id": body["chat_id"],
            "request_id": request_id,
        },
    )
    assert retry_after in (expected.retry_after if isinstance(expected, Refused) else (None,))
    assert answer.headers.get("retry-after") == (None if retry_after is None else str(retry_after))


def failed(kind: str, counts: Counts, stop_reason: str | None = None) -> Row:
    return Row("failed", kind, counts, stop_reason, "settled", Decimal(HELD_USD), 0, 0)


def test_a_connection_that_is_refused_costs_nothing(patient: Watched, upstream: ScriptedUpstream) -> None:
    expected = BEFORE["close_before"]._replace(counts=NOTHING)
    upstream.refuse()
    try:
        for path, title in zip(PATHS, ("Chat failed", "Stream failed"), strict=True):
            assert_problem(patient, patient.ask(path, "refuse"), expected, title)
    finally:
        upstream.accept()

    assert patient.calls("refuse") == [failed(expected.type, NOTHING)] * 2


def test_a_fault_that_passes_is_never_seen(patient: Watched, upstream: ScriptedUpstream) -> None:
    upstream.script(scripted("529"), scripted("502_html"), reply("Fine now", usage=RICH))

    answer = patient.ask("/chat", "passing")

    assert (answer.status_code, answer.json()["reply"], upstream.requests_total) == (200, "Fine now", 3)
    assert patient.calls("passing")[0].counts == ODD["crlf"].counts


# In mid-stream ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MID)
def test_what_breaks_a_reply_is_told_once_and_what_came_is_kept(
    watched: Watched, upstream: ScriptedUpstream, name: str
) -> None:
    waiting = {"pause_after": 2} if name in OVERTAKING else {}
    upstream.default = scripted(name, usage=RICH, **waiting)
    expected = MID[name]

    with ThreadPoolExecutor(1) as client:
        for n, path in enumerate(PATHS, 1):
            asked = client.submit(watched.ask, path, name)
            if waiting:
                watched.ledger.until_came(name, expected.text)
                upstream.release()
            answer = asked.result()
            if path == "/chat":
                assert_problem(watched, answer, expected, "Chat failed")
            else:
                assert_broken(answer, expected)
            assert upstream.requests_total == n

    assert watched.calls(name) == [failed(expected.type, expected.counts, expected.stop_reason)] * 2
    replies = "SELECT content, status FROM messages WHERE org_id = $1 AND role = 'assistant'"
    assert watched.ledger.rows(replies, name) == [(expected.text, "failed")] * 2


def assert_broken(answer: httpx2.Response, expected: Broken) -> None:
    nothing_of_theirs(answer)
    first, *tokens, last = events(answer)
    assert "".join(event["token"] for event in tokens) == expected.text
    assert last == {
        "token": "",
        "done": True,
        "error": "Stream failed",
        "message": expected.message,
        "type": expected.type,
        "retryable": True,
        "usage": usage_of(expected.counts),
        "cost_usd": expected.counts.cost_usd,
        "chat_id": first["chat_id"],
        "message_id": first["message_id"],
        "request_id": first["request_id"],
    }


def events(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The events of a stream that was read to its end: the first as it must be, and one last one."""
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *pieces, rest = answer.text.split("\n\n")
    assert rest == ""
    assert all(piece.startswith(("data: ", ": ping")) and "\n" not in piece for piece in pieces)
    told = [json.loads(piece[6:]) for piece in pieces if not piece.startswith(":")]
    assert list(told[0]) == ["token", "done", "chat_id", "message_id", "model", "request_id"]
    assert (told[0]["token"], told[0]["model"]) == ("", "claude-sonnet-5-5")
    assert told[0]["request_id"] == answer.headers["x-request-id"]
    assert all(list(event) == ["token", "done"] and event["token"] for event in told[1:-1])
    assert [event["done"] for event in told] == [False] * (len(told) - 1) + [True]
    return told


def usage_of(counts: Counts) -> dict[str, int]:
    whole = counts.uncached + counts.read + counts.written_5m + counts.written_1h
    return {
        "input_tokens": whole,
        "output_tokens": counts.output,
        "total_tokens": whole + counts.output,
        "uncached_input_tokens": counts.uncached,
        "cache_read_tokens": counts.read,
        "cache_write_tokens": counts.written_5m + counts.written_1h,
    }


# Odd but whole ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD)
def test_an_odd_reply_arrives_whole_and_is_billed_to_the_token(
    watched: Watched, upstream: ScriptedUpstream, name: str
) -> None:
    expected = ODD[name]
    upstream.default = scripted(name, **({} if expected.own_usage else {"usage": RICH}))

    for n, path in enumerate(PATHS, 1):
        upstream.cache.clear()  # the second is to pay as the first did
        answer = watched.ask(path, name)
        nothing_of_theirs(answer)
        (assert_reply if path == "/chat" else assert_streamed)(answer, expected)
        assert upstream.requests_total == n

    told = (expected.counts, expected.stop_reason, "settled", Decimal(HELD_USD), expected.thinking, expected.searches)
    assert watched.calls(name) == [Row("complete", None, *told)] * 2
    replies = "SELECT content, status FROM messages WHERE org_id = $1 AND role = 'assistant'"
    assert watched.ledger.rows(replies, name) == [(expected.text, "complete")] * 2


def assert_reply(answer: httpx2.Response, expected: Whole) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    body = answer.json()
    assert body == {
        "chat_id": body["chat_id"],
        "message_id": body["message_id"],
        "reply": expected.text,
        "created_at": body["created_at"],
        "usage": usage_of(expected.counts),
        "cost_usd": expected.counts.cost_usd,
        "model": "claude-sonnet-5-5",
        "stop_reason": expected.stop_reason,
        "prompt": None,
        "experiment": None,
        "variant": None,
        "request_id": answer.headers["x-request-id"],
    }


def assert_streamed(answer: httpx2.Response, expected: Whole) -> None:
    first, *tokens, last = events(answer)
    assert "".join(event["token"] for event in tokens) == expected.text
    assert last == {
        "token": "",
        "done": True,
        "fullText": expected.text,
        "usage": usage_of(expected.counts),
        "cost_usd": expected.counts.cost_usd,
        "chat_id": first["chat_id"],
        "message_id": first["message_id"],
        "stop_reason": expected.stop_reason,
    }


# Clients that leave or do not read ----------------------------------------------------------------------------------

# words that came, and what they cost: 2,090.6 and 10 a token of output, of 3.2 letters each; one is announced at once
LEFT_AFTER = [
    (None, "", PERHAPS),
    (0, "", Counts(13, 5001, 301, 203, 1, "0.0021006", estimated=True)),
    (1, "Hello", Counts(13, 5001, 301, 203, 2, "0.0021106", estimated=True)),
    (3, "Hello brave new", Counts(13, 5001, 301, 203, 5, "0.0021406", estimated=True)),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("words", "text", "counts"), LEFT_AFTER)
def test_a_client_that_leaves_ends_the_turn_and_pays_for_what_came(
    patient: Watched, upstream: ScriptedUpstream, path: str, words: int | None, text: str, counts: Counts
) -> None:
    """Never less than the prompt and what was delivered, a word of it a token."""
    pause = {"pause_before": True} if words is None else {"pause_after": words}
    upstream.script(reply("Hello brave new world", usage=RICH, **pause))
    org = f"leaves{path.replace('/', '.')}.{words}"

    with leaving(patient, path, org) as client:
        upstream.wait_for(lambda u: u.paused, PATIENCE)
        if path == "/chat/stream" and words is not None:
            read_tokens(client, text)
        if text:
            patient.ledger.until_came(org, text)
    upstream.wait_for(lambda u: u.disconnects, PATIENCE)
    patient.ledger.until("SELECT state FROM holds WHERE org_id = $1", org, [("settled",)])

    (row,) = patient.calls(org)
    if path == "/chat" and words == 0:  # whether it had read the first event nobody can see
        assert row.counts in (counts, PERHAPS)
    else:
        assert row.counts == counts
    assert (row.status, row.error_type, upstream.requests_total) == ("interrupted", None, 1)
    if words is not None and row.counts != PERHAPS:
        assert Decimal(row.counts.cost_usd) >= (Decimal("2090.6") + 10 * words) / 1_000_000
    replies = "SELECT content, status FROM messages WHERE org_id = $1 AND role = 'assistant'"
    assert patient.ledger.rows(replies, org) == [(text, "interrupted")]


class leaving:  # noqa: N801  # reads as a sentence
    """A client that has asked, and closes its connection at the end of the block, whatever is under way."""

    def __init__(self, watched: Watched, path: str, org: str, **more: int) -> None:
        self.url, self.path, self.org = httpx2.URL(watched.server.url), path, org
        self.body = json.dumps({"message": "hi"} | more).encode()

    def __enter__(self) -> socket.socket:
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"x-org-id: {self.org}\r\ncontent-length: {len(self.body)}\r\n\r\n"
        )
        self.socket = socket.create_connection(("127.0.0.1", self.url.port or 0), PATIENCE)
        self.socket.sendall(head.encode() + self.body)
        return self.socket

    def __exit__(self, *error: object) -> None:
        self.socket.close()


def read_tokens(client: socket.socket, text: str) -> None:
    """Read until the events say this text, and nothing more."""
    received = ""
    while True:
        data = client.recv(65_536)
        assert data, received
        received += data.decode()
        told = [json.loads(line[6:]) for line in received.split("\n") if line.startswith("data: ") and "}" in line]
        if told and "".join(event["token"] for event in told) == text:
            return


def test_a_client_that_reads_nothing_is_cut_at_the_deadline(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    store = tmp_path / "store.duckdb"
    words = ["x" * 1_000_000] * 30
    upstream.script(reply(words, usage=RICH))
    with ServerProcess(store, seconds={"stall_seconds": 0.3}, **claude(upstream)) as server:
        ledger = Ledger(store)
        watched = Watched(server, ledger)
        with leaving(watched, "/chat/stream", "slow") as client:
            upstream.wait_for(lambda u: u.disconnects, PATIENCE)
            ledger.until("SELECT state FROM holds WHERE org_id = $1", "slow", [("settled",)])
            received = b""
            try:
                while data := client.recv(1 << 20):
                    received += data
            except ConnectionResetError:
                pass  # cut, as it should be
        (row,) = watched.calls("slow")
        ledger.store.close()

    assert b'"done":true' not in received
    assert not received.endswith(b"0\r\n\r\n")
    delivered = received.count(b"x") / 1_000_000
    assert delivered < len(words)
    assert (row.status, row.counts.estimated) == ("interrupted", True)
    assert Decimal(row.counts.cost_usd) >= (Decimal("2090.6") + 10 * int(delivered)) / 1_000_000


# Signals ------------------------------------------------------------------------------------------------------------


def test_sigterm_cuts_none_of_sixteen_streams(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.default = reply("Hello brave new world", usage=RICH, pause_after=2)
    store = tmp_path / "store.duckdb"
    with ServerProcess(store, **claude(upstream)) as server, ThreadPoolExecutor(16) as clients:
        watched = Watched(server, Ledger(store))
        asked = [clients.submit(watched.ask, "/chat/stream", f"org{n}") for n in range(16)]
        upstream.wait_for(lambda u: u.paused == 16, PATIENCE)
        server.signal(signal.SIGTERM)
        server.logged("Shutting down")
        upstream.release(16)
        for answer in asked:
            assert_streamed(answer.result(), ODD["crlf"])
        code = server.ended()
        rows = watched.ledger.rows(
            "SELECT u.status, h.state, COUNT(*) FROM usage u JOIN holds h USING (id) GROUP BY 1, 2"
        )
        watched.ledger.store.close()

    assert code == 0
    assert rows == [("complete", "settled", 16)]


@pytest.mark.parametrize(("words", "bound", "saved"), [(60, 60, False), (60, 60, True), (300, 4096, False)])
def test_a_killed_turn_is_lost_and_charged_no_less_than_was_delivered(
    upstream: ScriptedUpstream, tmp_path: Path, words: int, bound: int, saved: bool
) -> None:
    """Whether or not some of the reply was saved before, and never more than was held."""
    text = " ".join(["ducks"] * words)
    upstream.script(reply(f"{text} quack", pause_after=words))
    store = tmp_path / "store.duckdb"
    seconds = {"checkpoint_seconds": 0.05 if saved else 3600.0}
    with ServerProcess(store, seconds=seconds, **claude(upstream)) as killed:
        watched = Watched(killed, Ledger(store))
        with leaving(watched, "/chat/stream", "killed", max_tokens=bound) as client:
            read_tokens(client, text)
            if saved:
                watched.ledger.until_came("killed", text)
            watched.ledger.store.close()
            killed.signal(signal.SIGKILL)
            while client.recv(1 << 20):
                pass
    with ServerProcess(store, **claude(upstream)) as next_one:
        watched = Watched(next_one, Ledger(store))
        (row,) = watched.calls("killed")
        messages = "SELECT role, content, status FROM messages WHERE org_id = $1 ORDER BY seq"
        kept = watched.ledger.rows(messages, "killed")
        watched.ledger.store.close()

    assert (row.status, row.error_type, row.hold, row.counts.estimated) == ("lost", "process_died", "lost", True)
    assert kept == [("user", "hi", "complete"), ("assistant", text if saved else "", "lost")]
    # one token of prompt, written to the cache, and one a word
    assert (Decimal("2.5") + 10 * words) / 1_000_000 <= Decimal(row.counts.cost_usd) <= row.held_usd
