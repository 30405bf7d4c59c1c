"""What clients do to a server that are slow, broken or hostile, over raw sockets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx2
import pytest
from starlette.exceptions import HTTPException

from server.edge import _Exchange
from server.protocol import Limits
from tests.faults.upstream import reply
from tests.server.live import PATIENCE, LiveServer, events
from tests.server.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Message

    from tests.faults.upstream import ScriptedUpstream

LIMITS = Limits(header_seconds=1.0, linger_seconds=0.5, flush_seconds=0.5)
PROBE = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
CHAT = b"POST /chat HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
QUESTION = b'{"message": "hi"}'


class Answer(NamedTuple):
    """What came back for one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The body, which must be in the shape of all errors, and close the connection if no route gave it."""
        assert self.headers["content-type"] == "application/json"
        said: dict[str, Any] = json.loads(self.body)
        assert set(said) == {"error", "message", "type", "retryable", "request_id"}
        assert said["request_id"] == self.headers["x-request-id"]
        return said


@pytest.fixture(scope="module")
def hasty(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that waits for a second at most."""
    with LiveServer(tmp_path_factory.mktemp("hasty"), upstream=running.url, limits=LIMITS) as server:
        yield server


@pytest.fixture
def connection(hasty: LiveServer, upstream: ScriptedUpstream) -> Iterator[socket.socket]:
    with connected(hasty) as connection:
        yield connection


@pytest.fixture
def patient(server: LiveServer) -> Iterator[socket.socket]:
    """A connection to a server with the ordinary deadlines."""
    with connected(server) as connection:
        yield connection


def connected(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE)


def to_the_end(connection: socket.socket) -> bytes:
    """Everything until the server hangs up; reset counts as that, since some bytes may have come too late for it."""
    said = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return said
        if not piece:
            return said
        said += piece


def drip(connection: socket.socket, byte: bytes) -> bytes:
    """Send the same byte again and again until the server hangs up; return what it said."""
    said = b""
    connection.settimeout(0.05)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            connection.sendall(byte)
            piece = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return said
        if not piece:
            return said
        said += piece
    raise AssertionError("the server never hung up")


def answers(said: bytes, *, bodies: bool = True) -> list[Answer]:
    """Take the answers apart, each with a content-length."""
    found = []
    while said:
        head, said = said.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        headers = dict(re.split(r": ", line, maxsplit=1) for line in lines)
        size = int(headers["content-length"]) if bodies else 0
        found.append(Answer(int(first.split()[1]), headers, said[:size]))
        said = said[size:]
    return found


def one(said: bytes) -> Answer:
    (answer,) = answers(said)
    return answer


def next_answer(connection: socket.socket) -> Answer:
    """The next answer on a connection that stays."""
    said = b""
    while b"\r\n\r\n" not in said or len(said.split(b"\r\n\r\n", 1)[1]) < int(
        re.findall(rb"content-length: (\d+)", said)[0]
    ):
        piece = connection.recv(65536)
        assert piece
        said += piece
    return one(said)


def said_to(connection: socket.socket, request: bytes) -> Answer:
    """The only answer on a connection that the server closes."""
    connection.sendall(request)
    return one(to_the_end(connection))


def post(*headers: bytes, body: bytes = QUESTION) -> bytes:
    return CHAT + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


# Silence and drips ---------------------------------------------------------------------------------------------------


def test_a_silent_connection_is_closed_without_a_word(connection: socket.socket) -> None:
    assert to_the_end(connection) == b""


def test_half_a_header_is_waited_for_only_so_long(connection: socket.socket) -> None:
    answer = said_to(connection, b"GET /healthz HTTP/1.1\r\nhost: loc")

    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert answer.problem["error"] == "Request Timeout"
    assert answer.problem["message"] == "the headers did not come within 1 s; send the request again, whole"
    assert answer.problem["retryable"] is True


def test_headers_that_drip_are_cut_at_the_same_deadline(connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nx-slow: ")

    assert one(drip(connection, b"a")).status == 408


def test_line_ends_that_drip_are_no_request(connection: socket.socket) -> None:
    assert drip(connection, b"\r\n") == b""


def test_the_headers_of_a_second_request_have_the_same_deadline(connection: socket.socket) -> None:
    connection.sendall(PROBE + PROBE[:20])

    assert [answer.status for answer in answers(to_the_end(connection))] == [200, 408]


def test_line_ends_that_drip_after_a_request_keep_no_connection(connection: socket.socket) -> None:
    connection.sendall(PROBE)

    assert one(drip(connection, b"\r\n")).status == 200


def test_a_connection_may_be_idle_between_requests_for_longer_than_headers_may_take(connection: socket.socket) -> None:
    connection.sendall(PROBE)
    assert next_answer(connection).status == 200
    time.sleep(2 * LIMITS.header_seconds)
    connection.sendall(PROBE)

    assert next_answer(connection).status == 200


def test_half_a_body_is_waited_for_only_so_long(patient: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.edge.BODY_SECONDS", 0.2)

    answer = said_to(patient, post(b"content-length: 100"))

    assert answer.status == 408
    assert answer.problem["message"] == "no more of the body came for 0.2 s; send it again, whole"


@pytest.mark.parametrize(
    ("header", "piece"), [(b"content-length: 100000", b" "), (b"transfer-encoding: chunked", b"1\r\n \r\n")]
)
def test_a_body_that_drips_is_cut_at_a_deadline_of_its_own(
    patient: socket.socket, monkeypatch: pytest.MonkeyPatch, header: bytes, piece: bytes
) -> None:
    monkeypatch.setattr("server.edge.WHOLE_BODY_SECONDS", 0.4)
    patient.sendall(post(header, body=b""))

    answer = one(drip(patient, piece))

    assert answer.status == 408
    assert answer.problem["message"] == "the body was not here after 0.4 s; send it again, faster"


@pytest.mark.parametrize("path", [b"GET /healthz", b"POST /nowhere", b"DELETE /chat"])
def test_a_body_nobody_reads_keeps_the_connection_only_for_a_while(connection: socket.socket, path: bytes) -> None:
    connection.sendall(path + b" HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n")

    assert one(drip(connection, b"a")).status in (200, 404, 405)


def test_a_connection_goes_on_after_a_body_nobody_read(connection: socket.socket) -> None:
    connection.sendall(b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\na")
    assert next_answer(connection).status == 404
    connection.sendall(b"bc" + PROBE)

    assert next_answer(connection).status == 200


def test_a_client_that_does_not_read_its_answer_is_let_go(hasty: LiveServer, connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    request = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
    connection.settimeout(0.2)
    with pytest.raises((TimeoutError, ConnectionError)):  # until it takes no more requests, or has let go already
        while True:
            connection.sendall(request * 100)
    before = hasty.client.get("/healthz")

    deadline = time.monotonic() + PATIENCE
    while len(hasty.server.server_state.connections) > 1:  # the client of the probe stays
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert before.status_code == 200


# Size ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"x-large: " + b"a" * 33_000 + b"\r\n\r\n",
        b"x-large: " + b"a" * 200_000 + b"\r\n\r\n",
        b"".join(b"x-%d: a\r\n" % number for number in range(4000)) + b"\r\n",
    ],
    ids=["one", "huge", "many"],
)
def test_headers_over_32_kb_are_refused(patient: socket.socket, head: bytes) -> None:
    answer = said_to(patient, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n" + head)

    assert (answer.status, answer.headers["connection"]) == (431, "close")
    assert answer.problem["error"] == "Request Header Fields Too Large"
    assert answer.problem["message"] == "the target and the headers have more than 32,768 bytes; shorten them"


def test_a_target_over_32_kb_is_refused(patient: socket.socket) -> None:
    assert said_to(patient, b"GET /" + b"a" * 33_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n").status == 431


def test_a_header_without_an_end_is_refused_once_it_is_too_large(patient: socket.socket) -> None:
    patient.sendall(b"GET /healthz HTTP/1.1\r\nx-large: ")

    assert one(drip(patient, b"a" * 4096)).status == 431


def test_headers_of_30_kb_are_read_and_a_body_does_not_count_as_one(patient: socket.socket) -> None:
    body = b'{"message": "' + b"a" * 100_000 + b'"}'
    patient.sendall(post(b"x-large: " + b"a" * 30_000, b"content-length: %d" % len(body), body=body))

    assert next_answer(patient).status == 200


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_a_mebibyte_is_refused(patient: socket.socket, announced: bool) -> None:
    body = b" " * ((1 << 20) + 1)
    if announced:
        patient.sendall(post(b"connection: close", b"content-length: %d" % len(body), body=b""))
    else:
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        patient.sendall(post(b"connection: close", b"transfer-encoding: chunked", body=chunked))

    answer = one(to_the_end(patient))
    assert (answer.status, answer.problem["error"]) == (413, "Payload Too Large")


# What is no HTTP -----------------------------------------------------------------------------------------------------

MALFORMED = {
    "bare line feeds": b"GET /healthz HTTP/1.1\nhost: localhost\n\n",
    "length and chunks": post(
        b"content-length: 17", b"transfer-encoding: chunked", body=b"11\r\n" + QUESTION + b"\r\n0\r\n\r\n"
    ),
    "two lengths": post(b"content-length: 17", b"content-length: 5"),
    "the same length twice": post(b"content-length: 17", b"content-length: 17"),
    "a length that is none": post(b"content-length: +17"),
    "a chunk that is none": post(b"transfer-encoding: chunked", body=b"zz\r\n"),
    "unknown method": b"BREW /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a space before the colon": b"GET /healthz HTTP/1.1\r\nhost : localhost\r\n\r\n",
    "a folded header": b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\tand: more\r\nx\x00: a\r\n\r\n",
    "letters in the target": "GET /ü HTTP/1.1\r\nhost: localhost\r\n\r\n".encode(),
    "a tunnel": b"CONNECT localhost:22 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.7": b"GET /healthz HTTP/3.7\r\nhost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no protocol": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_http_is_refused_in_our_shape(
    patient: socket.socket, upstream: ScriptedUpstream, request_: bytes
) -> None:
    answer = said_to(patient, request_)

    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert (answer.problem["error"], answer.problem["type"]) == ("Bad Request", "invalid_request")
    assert upstream.requests == []


def test_what_is_no_http_does_not_disturb_the_answer_before_it(
    server: LiveServer, upstream: ScriptedUpstream, patient: socket.socket
) -> None:
    upstream.script(reply("Hello brave new world", delay=0.05))
    body = post(b"content-length: %d" % len(QUESTION))

    answer = said_to(patient, body + b"garbage\r\n\r\n")

    assert (answer.status, json.loads(answer.body)["reply"]) == (200, "Hello brave new world")


# What is unusual and allowed -----------------------------------------------------------------------------------------


def test_http_1_0_is_answered_and_the_connection_closed(patient: socket.socket) -> None:
    answer = said_to(patient, b"GET /healthz HTTP/1.0\r\nhost: localhost\r\n\r\n")

    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_http_1_0_without_a_host_is_refused(patient: socket.socket) -> None:
    assert said_to(patient, b"GET /healthz HTTP/1.0\r\n\r\n").problem["error"] == "Forbidden"


def test_pipelined_requests_are_answered_in_their_order(patient: socket.socket) -> None:
    last = b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    patient.sendall(PROBE + post(b"content-length: %d" % len(QUESTION)) + PROBE + last)

    statuses = [(answer.status, b"reply" in answer.body) for answer in answers(to_the_end(patient))]
    assert statuses == [(200, False), (200, True), (200, False), (404, False)]


def test_head_has_no_body(patient: socket.socket) -> None:
    patient.sendall(b"HEAD /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    (answer,) = answers(to_the_end(patient), bodies=False)

    assert (answer.status, answer.body) == (405, b"")


@pytest.mark.parametrize("method", [b"PUT", b"PROPFIND", b"TRACE"])
def test_a_method_no_route_knows_is_not_allowed(patient: socket.socket, method: bytes) -> None:
    answer = said_to(patient, method + b" /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")

    assert (answer.status, answer.problem["error"]) == (405, "Method Not Allowed")
    assert answer.headers["allow"] == "GET"


def test_a_target_with_scheme_and_host_is_its_path(patient: socket.socket) -> None:
    request = b"GET http://localhost/healthz?a=1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"

    assert said_to(patient, request).status == 200


@pytest.mark.parametrize(
    "path", [b"/%", b"/%zz", b"/%00", b"/%ff%fe", b"/%2e%2e/%2e%2e/etc/passwd", b"//", b"/\\", b"*"]
)
def test_a_path_of_nonsense_is_not_found(patient: socket.socket, path: bytes) -> None:
    answer = said_to(patient, b"GET " + path + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")

    assert (answer.status, answer.problem["error"]) == (404, "Not Found")


UPGRADE = (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQCAAAAAAIAAAAA")


def test_another_protocol_that_is_asked_for_is_not_granted(patient: socket.socket) -> None:
    asking = PROBE.replace(b"\r\n\r\n", b"\r\n" + b"\r\n".join(UPGRADE) + b"\r\n\r\n")
    patient.sendall(asking + asking + PROBE.replace(b"host: ", b"connection: close\r\nhost: "))

    assert [answer.status for answer in answers(to_the_end(patient))] == [200, 200, 200]


@pytest.mark.parametrize("pieces", ["whole", "head and body", "bytes"])
@pytest.mark.parametrize("chunked", [False, True])
def test_who_asks_for_another_protocol_is_answered_with_body_and_all(
    patient: socket.socket, upstream: ScriptedUpstream, chunked: bool, pieces: str
) -> None:
    framing, body = b"content-length: %d" % len(QUESTION), QUESTION
    if chunked:
        framing, body = b"transfer-encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(QUESTION), QUESTION)
    head = post(*UPGRADE, framing, body=b"")
    patient.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in {"whole": [head + body], "head and body": [head, body]}.get(pieces) or [
        bytes([byte]) for byte in head + body
    ]:
        patient.sendall(piece)
        time.sleep(0.001)  # so that most arrive by themselves; it holds whether they do or not

    assert next_answer(patient).status == 200
    patient.sendall(PROBE)
    assert next_answer(patient).status == 200
    assert len(upstream.requests) == 1


def test_a_body_is_never_a_request_of_its_own(patient: socket.socket) -> None:
    inner = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    patient.sendall(post(*UPGRADE, b"content-length: %d" % len(inner), body=b""))
    patient.sendall(inner)

    assert next_answer(patient).status == 400  # no JSON
    patient.sendall(PROBE.replace(b"healthz", b"nowhere"))
    assert next_answer(patient).status == 404  # of the next one, with nothing between


def test_a_header_after_the_body_is_none(server: LiveServer, patient: socket.socket) -> None:
    body = b"%x\r\n%s\r\n0\r\nx-org-id: globex\r\n\r\n" % (len(QUESTION), QUESTION)
    answer = said_to(patient, post(b"connection: close", b"transfer-encoding: chunked", body=body))

    assert answer.status == 200
    assert server.usage_of(answer.headers["x-request-id"], "org_id") == ("00000000-0000-0000-0000-000000000001",)


# How many at once ----------------------------------------------------------------------------------------------------


def test_more_requests_than_the_server_may_answer_at_once_are_refused(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("full")
    with LiveServer(folder, upstream=upstream.url, most_requests=1) as server, server.stream("[[fault=stall]]") as held:
        told = events(held)
        next(told)
        refused = server.post("/chat", "hi")
        probe = server.client.get("/healthz")

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"] == "Service Unavailable"
    assert refused.json()["message"] == "the server answers 1 requests already; ask again in a moment"
    assert refused.json()["retryable"] is True
    assert probe.status_code == 200


def test_who_waits_longest_for_nothing_makes_room(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("crowded")
    with LiveServer(folder, upstream=upstream.url, limits=Limits(most_waiting=2)) as server:
        server.client.close()  # its own connection waits too
        silent, half, idle = connected(server), connected(server), connected(server)
        with silent, half, idle:
            half.sendall(PROBE[:20])
            idle.sendall(PROBE)
            assert next_answer(idle).status == 200  # of three that wait, one has waited longest
            assert silent.recv(1) == b""
            half.sendall(PROBE[20:])
            assert next_answer(half).status == 200
            idle.sendall(PROBE)
            assert next_answer(idle).status == 200


def test_who_has_asked_for_more_already_does_not_wait_for_nothing(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("crowded")
    upstream.script(reply("Slowly but whole", pause_after=1))
    with LiveServer(folder, upstream=upstream.url, limits=Limits(most_waiting=1)) as server:
        server.client.close()
        with connected(server) as busy:
            busy.sendall(PROBE + post(b"content-length: %d" % len(QUESTION)))
            assert next_answer(busy).status == 200
            upstream.wait_for(lambda u: u.paused, PATIENCE)
            with connected(server) as idle:
                idle.sendall(PROBE)
                assert next_answer(idle).status == 200  # and waits for its next request
                upstream.release()
                assert json.loads(next_answer(busy).body)["reply"] == "Slowly but whole"


async def test_a_body_that_is_late_at_the_moment_it_is_given_up_disturbs_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.edge.BODY_SECONDS", 0.01)
    waiting: dict[_Exchange, None] = {}
    given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def nobody(_: Message) -> None:
        raise AssertionError

    late = _Exchange("request-1", never, nobody, waiting)
    waiting[late] = None

    def give_up() -> None:
        try:
            late.give_up()
        except BaseException as error:  # of the request that needs the room
            given_up.set_exception(error)
        else:
            given_up.set_result(None)

    receiving = asyncio.create_task(late.receive())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.02, give_up)
    time.sleep(0.1)  # noqa: ASYNC251  # so that both are due at once
    with pytest.raises(HTTPException) as refused:
        await receiving

    await given_up
    assert refused.value.status_code == 503


def test_of_too_many_half_bodies_the_oldest_is_given_up(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("crowded")
    half = post(b"content-length: 17", body=QUESTION[:5])
    with (
        LiveServer(folder, upstream=upstream.url, most_requests=1, most_waiting=2) as server,
        connected(server) as first,
        connected(server) as second,
        connected(server) as third,
    ):
        for connection in (first, second, third):
            connection.sendall(half)
            time.sleep(0.1)  # so that they come in this order
        given_up = one(to_the_end(first))
        assert server.client.get("/usage").status_code == 200  # those that wait are not counted as answered
        for connection in (second, third):
            connection.sendall(QUESTION[5:])
            assert next_answer(connection).status == 200

    assert (given_up.status, given_up.problem["retryable"]) == (503, True)
    assert given_up.headers["retry-after"] == "1"
    assert given_up.problem["message"] == "too many requests wait for the rest of their bodies; send it again, whole"


def half_open(server: ServerProcess, seconds: float, at_once: int) -> tuple[list[int], int]:
    """Open connections that send half of a request, or half its body, without end; what others are answered meanwhile."""
    port = int(server.url.rsplit(":", 1)[1])
    halves = (
        b"",
        PROBE[:30],
        post(b"content-length: 17", body=QUESTION[:5]),
        post(b"transfer-encoding: chunked", body=b"5"),
    )
    statuses, opened = [], 0
    end = time.monotonic() + seconds
    with ExitStack() as flood:
        held = deque[socket.socket]()
        while time.monotonic() < end:
            for _ in range(at_once // 10):
                held.append(flood.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE)))
                held[-1].sendall(halves[opened % len(halves)])
                opened += 1
                if len(held) > at_once:
                    held.popleft().close()
            with httpx2.Client(base_url=server.url, timeout=PATIENCE, trust_env=False) as client:
                asked = client.get("/readyz"), client.post("/chat", json={"message": "hi"})
                statuses += [answer.status_code for answer in asked]
    return statuses, opened


def test_half_open_connections_without_end_keep_nobody_else_from_an_answer(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    environment = {"ANTHROPIC_API_KEY": "sk-ant-x", "ANTHROPIC_BASE_URL": upstream.url}
    with ServerProcess(tmp_path / "store.duckdb", files=300, **environment) as server:
        while server.client.get("/readyz").status_code != 200:
            time.sleep(0.05)
        statuses, opened = half_open(server, seconds=12.0, at_once=400)

    assert set(statuses) == {200}
    assert opened > 800


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_an_org_has_only_so_many_replies_under_way(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory, path: str
) -> None:
    folder = tmp_path_factory.mktemp("streams")
    with LiveServer(folder, upstream=upstream.url, WORKBENCH_MAX_STREAMS_PER_ORG=1) as server:
        with server.stream("[[fault=stall]]") as held:
            told = events(held)
            next(told)
            refused = server.post(path, "hi")
            other = server.post(path, "hi", headers={"x-org-id": "globex"})
            asked = len(upstream.requests)
        while server.app.state.service.streams.open:  # its client has left
            time.sleep(0.01)
        again = server.post(path, "hi")

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert (refused.json()["error"], refused.json()["type"]) == ("Rate Limited", "rate_limited")
    assert "has 1 replies under way" in refused.json()["message"]
    assert (other.status_code, again.status_code, asked) == (200, 200, 2)
