"""The real client against every fault of the scripted upstream: nothing hangs, and every failure has its name."""

import asyncio
import gc
import re
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.before import error_answer
from tests.faults.frames import PING, error_frame, plain
from tests.faults.odd import CITATION, SEARCH_RESULT
from tests.faults.replies import SIGNATURE, Break
from tests.faults.replies import Answer as HttpAnswer
from tests.faults.upstream import Block, Reply, ScriptedUpstream, Wire, fault, names, reply
from workbench.claude import Claude, EventSplitter, Fold, StreamFault
from workbench.errors import (
    ConfigurationError,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from workbench.turns import Answer, Delta, Request, estimated

KEY = "sk-ant-test-5dK2"
HI = Request(model="claude-sonnet-5-5", max_tokens=100, messages=[{"role": "user", "content": "hi"}])
SHORT = 0.2  # seconds; a deadline for what must run into one, set once it has got there
Connect = Callable[..., Claude]


@pytest.fixture
def waits() -> list[float]:
    """The seconds waited before retries, none of them really."""
    return []


@pytest.fixture
async def connect(upstream: ScriptedUpstream, waits: list[float]) -> AsyncIterator[Connect]:
    made: list[Claude] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    def connect(base_url: str = upstream.url, *, read_timeout: float = 60, **more: Any) -> Claude:
        made.append(Claude(api_key=KEY, base_url=base_url, read_timeout=read_timeout, sleep=sleep, **more))
        return made[-1]

    yield connect
    for claude in made:
        await claude.aclose()


@pytest.fixture
def claude(connect: Connect) -> Claude:
    return connect()


async def read(claude: Claude, answer: Answer, seen: Callable[[], object] = lambda: None) -> list[Delta]:
    """Read a reply to its end, however that comes."""
    deltas: list[Delta] = []
    async with claude.stream(HI, answer) as batches:
        async for batch in batches:
            deltas += batch
            seen()
    return deltas


async def failure(reading: Awaitable[object]) -> UpstreamError:
    """The error a reading ends with, which never shows the key."""
    with pytest.raises(UpstreamError) as caught:
        await reading
    error: BaseException | None = caught.value
    assert KEY not in "".join(traceback.format_exception(caught.value))
    while error is not None:
        assert KEY not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__
    return caught.value


# Before the first event ----------------------------------------------------------------------------------------------


class Refusal(NamedTuple):
    """What becomes of a call that fails before its first event, and after how many requests."""

    kind: type[UpstreamError]
    type: str
    requests: int
    retryable: bool
    billed: bool = False
    retry_after: float | None = None


REFUSED = Refusal(UpstreamRefused, "upstream_refused", 1, False)
FAILED = Refusal(UpstreamError, "upstream_error", 3, True)
LIMITED = Refusal(UpstreamRateLimited, "upstream_rate_limited", 3, True)
OVERLOADED = Refusal(UpstreamOverloaded, "upstream_overloaded", 3, True)
TIMED_OUT = Refusal(UpstreamTimeout, "upstream_timeout", 3, True)
# the request went out and nothing tells whether it was charged
SILENT = Refusal(UpstreamError, "broke_off", 3, True, billed=True)
LOST = Refusal(UpstreamError, "connection_failed", 3, True, billed=True)
BEFORE = {
    "400": REFUSED,
    "400_spend_limit": REFUSED,
    "400_should_retry": REFUSED._replace(requests=3, retryable=True),
    "401": REFUSED,
    "402": REFUSED,
    "403": REFUSED,
    "404": REFUSED,
    "408": TIMED_OUT,
    "409": FAILED,
    "413": REFUSED,
    "422": REFUSED,
    "429": LIMITED,
    "429_retry_after": LIMITED._replace(retry_after=20),
    "429_retry_after_ms": LIMITED._replace(retry_after=20),
    "429_retry_after_date": LIMITED._replace(retry_after=20),
    "429_retry_after_hour": LIMITED._replace(retry_after=3600, requests=1),
    "429_bad_retry_after": LIMITED,
    "429_spend_limit": REFUSED,
    "500": FAILED,
    "502": FAILED,
    "503": OVERLOADED,
    "504": TIMED_OUT,
    "529": OVERLOADED,
    "529_no_retry": OVERLOADED._replace(requests=1, retryable=False),
    "llama_400": REFUSED,
    "llama_context": REFUSED,
    "llama_500": FAILED,
    "502_html": FAILED,
    "bad_json_error": FAILED,
    "empty_error": OVERLOADED,
    "odd_json_error": FAILED,
    "empty_200": SILENT,
    "empty_stream": SILENT,
    "html_200": REFUSED,
    "json_200": REFUSED._replace(billed=True),
    "error_first": OVERLOADED,
    "hang": TIMED_OUT._replace(billed=True),
    "reset_before": LOST,
    "close_before": LOST,
    "half_headers": LOST,
    "garbage_before": LOST,
}


@pytest.mark.parametrize("name", names("before"))
async def test_a_call_that_fails_before_its_first_event_has_its_error(
    name: str, upstream: ScriptedUpstream, connect: Connect
) -> None:
    upstream.default = fault(name, retry_after=20)
    answer = Answer()

    # on a slow machine, too, a request must be there before its time is up
    error = await failure(read(connect(read_timeout=1.5 if name == "hang" else 60), answer))

    assert Refusal(type(error), error.type, upstream.requests_total, error.retryable, error.billed) == BEFORE[
        name
    ]._replace(retry_after=None)
    # a date has whole seconds, and time passes between the answer and its reading
    assert error.retry_after == (
        pytest.approx(15, abs=5) if name == "429_retry_after_date" else BEFORE[name].retry_after
    )
    assert (answer.text, answer.started, answer.billed) == ("", False, BEFORE[name].billed)


def test_every_fault_has_an_expectation() -> None:
    assert [set(BEFORE), set(MID), set(ODD)] == [set(names("before")), set(names("mid")), set(names("odd"))]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("401", "check ANTHROPIC_API_KEY"),
        ("404", "no model 'claude-sonnet-5-5'"),
        ("429_spend_limit", "raise it in the Anthropic console"),
        ("llama_context", "start a new chat"),
        ("html_200", "'text/html' instead of a stream of events"),
        ("empty_stream", "answered without a word"),
    ],
)
async def test_an_error_says_what_to_do(name: str, words: str, upstream: ScriptedUpstream, claude: Claude) -> None:
    upstream.default = fault(name)

    assert words in str(await failure(read(claude, Answer())))


async def test_an_error_carries_the_upstreams_request_id_and_status(upstream: ScriptedUpstream, claude: Claude) -> None:
    upstream.script(fault("400"))

    error = await failure(read(claude, Answer()))

    assert (error.request_id, error.status) == ("req_00000001", 400)


async def test_a_refused_connection_was_not_billed(upstream: ScriptedUpstream, claude: Claude) -> None:
    upstream.refuse()
    try:
        error = await failure(read(claude, Answer()))
    finally:
        upstream.accept()

    assert (error.type, error.billed, error.retryable) == ("connection_failed", False, True)


async def test_a_call_lost_on_the_way_stays_billed_when_the_next_is_refused(
    upstream: ScriptedUpstream, claude: Claude
) -> None:
    upstream.script(fault("close_before"), fault("529"), fault("529"))

    error = await failure(read(claude, Answer()))

    assert (type(error), error.billed) == (UpstreamOverloaded, True)


HEADERS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
WRONG = b"HTTP/1.1 500 Oh\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "type"),
    [
        (HEADERS + b"\r\n", "upstream_timeout"),
        (HEADERS + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nducks", "connection_failed"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "upstream_timeout"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "upstream_timeout"),
        (WRONG + b'content-length: 99\r\n\r\n{"err', "upstream_timeout"),
        (WRONG + b"transfer-encoding: chunked\r\n\r\nduck\r\nquack", "connection_failed"),
        (WRONG + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nducks", "connection_failed"),
        (b"HTTP/1.1 307 Go\r\nlocation: /v1/messages\r\ncontent-length: 0\r\n\r\n", "connection_failed"),
    ],
    ids=["no event", "no gzip", "half headers", "only 100", "half error", "bad error", "bad gzip error", "circle"],
)
async def test_an_answer_that_stops_in_an_odd_place_ends_in_an_error(sent: bytes, type: str, connect: Connect) -> None:
    async with served(sent) as url:
        silent = type == "upstream_timeout"
        error = await failure(read(connect(url, read_timeout=0.3 if silent else 60), Answer()))

    assert error.type == type


@asynccontextmanager
async def served(sent: bytes) -> AsyncIterator[str]:
    """A server that sends these bytes for any request and then falls silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(65_536):
                writer.write(sent)
        except ConnectionError:
            pass  # the client left
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


# Retries -------------------------------------------------------------------------------------------------------------


async def test_two_refusals_are_overcome(upstream: ScriptedUpstream, claude: Claude, waits: list[float]) -> None:
    upstream.script(fault("529"), fault("reset_before"), reply("Fine now"))
    answer = Answer()

    await read(claude, answer)

    assert (answer.text, answer.finished, upstream.requests_total) == ("Fine now", True, 3)
    assert 0.375 <= waits[0] <= 0.5
    assert 0.75 <= waits[1] <= 1.0


async def test_waits_are_jittered(upstream: ScriptedUpstream, claude: Claude, waits: list[float]) -> None:
    upstream.script(*[fault("529"), reply("Fine now")] * 8)

    for _ in range(8):
        await read(claude, Answer())

    assert len(set(waits)) > 1


async def test_retry_after_is_obeyed(upstream: ScriptedUpstream, claude: Claude, waits: list[float]) -> None:
    upstream.script(fault("429_retry_after", retry_after=7), reply("Fine now"))

    await read(claude, Answer())

    assert len(waits) == 1
    assert 7 <= waits[0] <= 7.7


async def test_the_longest_wait_is_half_a_minute(
    upstream: ScriptedUpstream, claude: Claude, waits: list[float]
) -> None:
    upstream.script(fault("429_retry_after", retry_after=30), fault("429_retry_after", retry_after=30.5))

    error = await failure(read(claude, Answer()))

    assert (error.retry_after, len(waits), upstream.requests_total) == (30.5, 1, 2)


@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "Mon, 01 Jan 99999999999 00:00:00 GMT"])
async def test_a_retry_after_without_sense_is_none(value: str, upstream: ScriptedUpstream, claude: Claude) -> None:
    upstream.default = fault("429", headers={"retry-after": value})

    assert (await failure(read(claude, Answer()))).retry_after is None


# After the first event -----------------------------------------------------------------------------------------------


class Broken(NamedTuple):
    """What becomes of a reply that breaks, and whether its tokens were counted by then."""

    kind: type[UpstreamError]
    type: str
    text: str = "Hello brave"
    counted: bool = False


CUT = Broken(UpstreamError, "connection_failed")
BROKE_OFF = Broken(UpstreamError, "broke_off")
STALLED = Broken(UpstreamTimeout, "upstream_timeout")
NONSENSE = Broken(UpstreamError, "upstream_error")
ALL = "Hello brave new world"
MID = {
    "cut": CUT,
    "cut_clean": BROKE_OFF,
    "cut_in_frame": BROKE_OFF,
    "cut_in_letter": CUT,
    "no_stop": BROKE_OFF._replace(text=ALL, counted=True),
    "cut_at_end": CUT._replace(text=ALL, counted=True),
    "reset": CUT,
    "stall": STALLED,
    "stall_in_frame": STALLED,
    "overloaded": Broken(UpstreamOverloaded, "upstream_overloaded"),
    "api_error": NONSENSE,
    "rate_limit": Broken(UpstreamRateLimited, "upstream_rate_limited"),
    "timeout": STALLED,
    "unknown_error": NONSENSE,
    "error_at_end": NONSENSE._replace(text=ALL, counted=True),
    "llama_error": NONSENSE,
    "bare_error": NONSENSE,
    "bad_json": NONSENSE,
    "bad_utf8": NONSENSE,
    "not_an_object": NONSENSE,
    "no_delta": NONSENSE,
    "wrong_index": NONSENSE,
    "garbage": BROKE_OFF,
    "bad_chunk": STALLED,
    "endless_frame": CUT,
}
STALLS = ("stall", "stall_in_frame", "bad_chunk")


async def broken(name: str, upstream: ScriptedUpstream, claude: Claude, answer: Answer) -> UpstreamError:
    """Read a reply that breaks only after its first two words have been read: a reset may overtake what was sent."""
    upstream.script(fault(name, pause_after=2))

    released = False

    def seen() -> None:
        nonlocal released
        if answer.text == "Hello brave" and not released:
            released = True
            if name in STALLS:
                claude._read_timeout = SHORT
            upstream.release()

    return await failure(read(claude, answer, seen))


@pytest.mark.parametrize("name", names("mid"))
async def test_a_reply_that_breaks_keeps_what_came_and_is_not_asked_for_again(
    name: str, upstream: ScriptedUpstream, connect: Connect
) -> None:
    answer = Answer()

    error = await broken(name, upstream, connect(), answer)

    assert Broken(type(error), error.type, answer.text, answer.counted) == MID[name]
    assert (error.retryable, error.retry_after, error.billed, upstream.requests_total) == (True, None, True, 1)
    assert (answer.started, answer.finished, answer.usage.cache_write_5m_tokens) == (True, False, 1)
    # 11 characters at 3.2 a token; counted by the upstream, each of the four words is one
    assert estimated(answer).output_tokens == 4
    assert estimated(answer).estimated is not MID[name].counted


@pytest.mark.parametrize("words", [0, 2])
@pytest.mark.parametrize("kind", ["invalid_request_error", "authentication_error", "not_found_error"])
async def test_what_is_refused_within_a_stream_is_not_worth_asking_again(
    kind: str, words: int, upstream: ScriptedUpstream, claude: Claude
) -> None:
    event = plain(error_frame(kind, "no"))
    at_once = Reply(answer=HttpAnswer(200, event, {"content-type": "text/event-stream"}))
    upstream.script(*[reply("a b c", breaks=Break(words, event, "finish")) if words else at_once] * 3)

    error = await failure(read(claude, Answer()))

    assert (type(error), error.retryable, upstream.requests_total) == (UpstreamRefused, False, 1)
    assert kind != "not_found_error" or "'claude-sonnet-5-5'" in str(error)


async def test_an_event_without_end_is_not_kept_for_ever(
    upstream: ScriptedUpstream, claude: Claude, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.claude.LARGEST_EVENT", 1_000_000)
    upstream.script(fault("endless_frame"))

    error = await failure(read(claude, Answer()))

    assert "one event of more than 1,000,000 bytes" in str(error)


async def test_a_reply_that_stays_silent_after_its_first_event_times_out(
    upstream: ScriptedUpstream, connect: Connect
) -> None:
    upstream.script(reply("Hello", pause_after=0))
    answer, claude = Answer(), connect()

    def seen() -> None:
        claude._read_timeout = SHORT

    error = await failure(read(claude, answer, seen))

    assert (type(error), answer.started, answer.text) == (UpstreamTimeout, True, "")


async def test_pings_count_as_life(upstream: ScriptedUpstream, connect: Connect) -> None:
    """Eight seconds of pings, one every half a second, half of them before the first event."""
    pings = [replace(PING, token=True)] * 8
    wire = Wire(edit=lambda frames: [*pings, *frames[:1], *pings, *frames[1:]])
    upstream.script(reply("Hello", wire=wire, delay=0.5))
    answer = Answer()

    await read(connect(read_timeout=3), answer)

    assert (answer.text, upstream.requests_total) == ("Hello", 1)


async def test_what_follows_the_last_event_does_not_undo_it(upstream: ScriptedUpstream, claude: Claude) -> None:
    late = Wire(edit=lambda frames: [*frames, replace(PING, data="no JSON")], transport="together")
    upstream.script(reply("Hello", wire=late))
    answer = Answer()

    await read(claude, answer)

    assert answer.finished


async def test_a_count_between_two_ends_is_not_the_last(upstream: ScriptedUpstream, claude: Claude) -> None:
    """Of two message_delta the first has half the count; a cut between them leaves an estimate."""

    def only_the_first(stream: list[Any]) -> list[Any]:
        whole = fault("rising_usage").wire.edit
        assert whole is not None
        return whole(stream)[:-2]

    upstream.script(reply("Hello brave new world", wire=Wire(edit=only_the_first)))
    answer = Answer()

    await failure(read(claude, answer))

    assert (answer.usage.output_tokens, answer.counted, estimated(answer).output_tokens) == (2, False, 7)


# Odd but whole replies -----------------------------------------------------------------------------------------------


class Whole(NamedTuple):
    """A whole reply. ``usage``: uncached, read, written for 5 minutes, for an hour, output, thinking, searches."""

    text: str = ALL
    usage: tuple[int, int, int, int, int, int, int] = (0, 0, 1, 0, 4, 0, 0)
    stop_reason: str = "end_turn"
    blocks: list[dict[str, Any]] | None = None  # None: the text is the only one
    stop_details: dict[str, Any] | None = None
    estimated: bool = False


SAID = {"type": "text", "text": ALL}
UNICODE = "Grüße 🦆 日本語 नमस्ते é"
WEATHER = {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"place": "Oslo"}}
SEARCHED = [
    {"type": "server_tool_use", "id": "srvtoolu_01", "name": "web_search", "input": {"query": "ducks"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_01", "content": [SEARCH_RESULT]},
    SAID,
]
HIDDEN = {"type": "thinking", "thinking": "", "signature": SIGNATURE}
ODD = dict.fromkeys(names("odd"), Whole()) | {
    "unicode": Whole(UNICODE, (0, 0, 1, 0, 5, 0, 0)),
    "escaped": Whole(UNICODE, (0, 0, 1, 0, 5, 0, 0)),
    "separators": Whole("one\u2028two\u2029three\u0085four\x1cfive\x0bsix!", (0, 0, 1, 0, 2, 0, 0)),
    "big": Whole("duck" * 262_144, (0, 0, 1, 0, 1, 0, 0)),
    "unknown_field": Whole(blocks=[{**SAID, "new_field": "new"}]),
    "unknown_block": Whole(blocks=[{"type": "mood", "mood": "sunny"}, SAID]),
    "unknown_stop_reason": Whole(stop_reason="bored"),
    "no_usage": Whole(usage=(0, 0, 1, 0, 7, 0, 0), estimated=True),  # 21 characters at 3.2 a token
    "raised_input": Whole(usage=(125, 0, 0, 0, 4, 0, 0)),
    "thinking": Whole(usage=(0, 0, 1, 0, 9, 5, 0), blocks=[{**HIDDEN, "thinking": "Let me see about this"}, SAID]),
    "thinking_omitted": Whole(usage=(0, 0, 1, 0, 13, 9, 0), blocks=[HIDDEN, SAID]),
    "redacted_thinking": Whole(blocks=[{"type": "redacted_thinking", "data": "Em0="}, SAID]),
    "tool_only": Whole("", (0, 0, 1, 0, 3, 0, 0), "tool_use", [WEATHER]),
    "tool_use": Whole(usage=(0, 0, 1, 0, 7, 0, 0), stop_reason="tool_use", blocks=[SAID, WEATHER]),
    "citations": Whole(blocks=[{**SAID, "citations": [CITATION]}]),
    "server_tool": Whole(usage=(1025, 0, 0, 0, 40, 0, 2), blocks=SEARCHED),
    "two_texts": Whole(ALL + "Second block", (0, 0, 1, 0, 6, 0, 0), blocks=[SAID, {**SAID, "text": "Second block"}]),
    "empty_text": Whole("", (0, 0, 1, 0, 0, 0, 0), blocks=[{**SAID, "text": ""}]),
    "empty_content": Whole("", (25, 0, 0, 0, 2, 0, 0), blocks=[]),
    "refusal": Whole(
        "", (0, 0, 1, 0, 0, 0, 0), "refusal", [], {"type": "refusal", "category": "cyber", "explanation": None}
    ),
    "refusal_partial": Whole(
        stop_reason="refusal", stop_details={"type": "refusal", "category": None, "explanation": None}
    ),
    "max_tokens": Whole(stop_reason="max_tokens"),
    "max_tokens_thinking": Whole("", (0, 0, 1, 0, 64, 64, 0), "max_tokens", [HIDDEN]),
    "stop_sequence": Whole(stop_reason="stop_sequence"),
    "pause_turn": Whole(usage=(1025, 0, 0, 0, 40, 0, 2), stop_reason="pause_turn", blocks=SEARCHED),
    "context_window": Whole(stop_reason="model_context_window_exceeded"),
    "cache_usage": Whole(usage=(12, 5000, 300, 200, 4, 0, 0)),
    "llama": Whole(usage=(25, 0, 0, 0, 4, 0, 0)),
}


@pytest.mark.parametrize("name", names("odd"))
async def test_an_odd_reply_arrives_whole(name: str, upstream: ScriptedUpstream, claude: Claude) -> None:
    upstream.script(fault(name))
    answer = Answer()

    deltas = await read(claude, answer)

    usage = estimated(answer)
    whole = Whole(
        answer.text,
        (
            usage.uncached_input_tokens,
            usage.cache_read_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
            usage.output_tokens,
            usage.thinking_tokens,
            usage.web_searches,
        ),
        str(answer.stop_reason),
        answer.blocks,
        answer.stop_details,
        usage.estimated,
    )
    expected = ODD[name]
    if expected.blocks is None:
        expected = expected._replace(blocks=[{**SAID, "text": expected.text}])
    assert whole == expected
    assert "".join(delta.text for delta in deltas if delta.kind == "text") == expected.text
    assert (answer.finished, upstream.requests_total) == (True, 1)


async def test_thinking_and_tool_calls_are_no_text(upstream: ScriptedUpstream, claude: Claude) -> None:
    upstream.script(fault("thinking", "Hi"), fault("tool_only"))

    thought = await read(claude, Answer())
    called = await read(claude, Answer())

    assert [(d.kind, d.index) for d in thought if d.text] == [("thinking", 0)] * 5 + [("text", 1)]
    assert "".join(d.text for d in called if d.kind == "tool") == '{"place":"Oslo"}'


# Connections ---------------------------------------------------------------------------------------------------------


async def test_a_finished_stream_leaves_its_connection_for_the_next(upstream: ScriptedUpstream, claude: Claude) -> None:
    for _ in range(3):
        await read(claude, Answer())

    assert (upstream.requests_total, upstream.connections_total) == (3, 1)


async def test_a_body_that_ends_a_little_after_its_last_event_leaves_its_connection_too(
    upstream: ScriptedUpstream, claude: Claude, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.claude.DRAIN_SECONDS", 30)
    upstream.script(reply("Hello", pause_after=1), reply("Hello"))
    answer = Answer()
    reading = asyncio.create_task(read(claude, answer))
    await upstream.until(lambda u: u.paused)
    upstream.release()
    await reading
    await read(claude, Answer())

    assert (answer.finished, upstream.connections_total) == (True, 1)


async def test_a_body_that_never_ends_holds_up_nobody_after_its_last_event(
    upstream: ScriptedUpstream, claude: Claude
) -> None:
    upstream.script(reply("Hello", pause_after=1))
    answer = Answer()

    await read(claude, answer)

    assert answer.finished
    await upstream.until(lambda u: u.connections_open == 0)


async def test_a_connection_closed_unannounced_is_opened_again(upstream: ScriptedUpstream, claude: Claude) -> None:
    upstream.script(*[fault("close_silent", "Hi")] * 5)
    texts = []
    for _ in range(5):
        answer = Answer()
        await read(claude, answer)
        texts.append(answer.text)

    assert texts == ["Hi"] * 5


async def test_a_stale_connection_is_no_error(upstream: ScriptedUpstream, claude: Claude, waits: list[float]) -> None:
    """The pooled connection is closed as soon as the next request arrives on it."""
    upstream.script(reply("One"), fault("close_before"), reply("Two"))
    answer = Answer()

    await read(claude, Answer())
    await read(claude, answer)

    assert (answer.text, upstream.connections_total, len(waits)) == ("Two", 2, 1)


async def test_connections_cut_while_idle_are_replaced(upstream: ScriptedUpstream, claude: Claude) -> None:
    await read(claude, Answer())
    upstream.cut_all()
    answer = Answer()

    await read(claude, answer)

    assert answer.finished


async def test_broken_streams_leave_no_connection_behind(upstream: ScriptedUpstream, connect: Connect) -> None:
    claude = connect()
    for name in sorted(set(names("mid")) - set(STALLS)):
        await broken(name, upstream, claude, Answer())
    await upstream.until(lambda u: u.connections_open <= 1)

    await claude.aclose()

    await upstream.until(lambda u: u.connections_open == 0)
    gc.collect()  # an unclosed response or session would warn now, and a warning fails a test


async def test_leaving_early_closes_the_connection_at_once(upstream: ScriptedUpstream, claude: Claude) -> None:
    upstream.script(reply("a b c", pause_after=1))
    async with claude.stream(HI, Answer()) as batches:
        async for _ in batches:
            break

    await upstream.until(lambda u: u.disconnects, timeout=5)
    assert upstream.connections_open == 0


async def test_a_closed_client_opens_again(upstream: ScriptedUpstream, claude: Claude) -> None:
    await read(claude, Answer())
    await claude.aclose()
    answer = Answer()

    await read(claude, answer)

    assert answer.finished


# Keys and addresses --------------------------------------------------------------------------------------------------


async def test_a_key_the_upstream_repeats_is_blotted_out(upstream: ScriptedUpstream, claude: Claude) -> None:
    upstream.script(Reply(answer=error_answer(400, "invalid_request_error", f"what is {KEY}?")))

    assert str(await failure(read(claude, Answer()))) == "Claude refused the request (400): what is …?"


@pytest.mark.parametrize("key", ["sk-ant-\n-5dK2", "sk-ant-ü-5dK2", "sk-ant 5dK2"])
def test_a_key_that_is_none_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ConfigurationError, match="copy it again") as caught:
        Claude(api_key=key)

    assert "5dK2" not in "".join(traceback.format_exception(caught.value))


async def test_space_around_a_key_is_not_sent(upstream: ScriptedUpstream) -> None:
    claude = Claude(api_key=f" {KEY}\r\n", base_url=upstream.url)
    await read(claude, Answer())
    await claude.aclose()

    assert upstream.last.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "url", ["localhost:1234", "http://", "http://[::1", "ftp://host", "http://a b", "http://host:99999", "/path"]
)
def test_a_base_url_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(repr(url))):
        Claude(api_key=KEY, base_url=url)


def test_a_password_in_the_base_url_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError, match="a user or a password") as caught:
        Claude(api_key=KEY, base_url="http://ada:secret@host")

    assert "secret" not in str(caught.value)


# From bytes to events ------------------------------------------------------------------------------------------------


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lines=st.lists(st.sampled_from(["data: a", "data:b", "data:  c", "event: x", ": note", "id: 7", "", ""])),
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(0, 60)),
)
def test_events_are_the_same_wherever_the_bytes_are_cut(lines: list[str], ends: str, cuts: list[int]) -> None:
    stream = "".join(line + ends for line in ["", *lines, ""]).encode()
    edges = [0, *sorted(cuts), len(stream)]
    splitter = EventSplitter()

    found = [
        data for start, end in pairwise(edges) for data in splitter.feed(stream[start:end])
    ]  # fmt: skip

    assert found == _events(lines)


def _events(lines: list[str]) -> list[bytes]:
    """By https://html.spec.whatwg.org/multipage/server-sent-events.html, line by line."""
    found: list[bytes] = []
    data: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            found.append("\n".join(data).encode())
            data = []
    return found


def test_an_event_is_searched_for_its_end_only_once() -> None:
    """Two megabytes in pieces of ten bytes: searching all of it each time is 200 GB to compare, half a minute of CPU."""
    splitter = EventSplitter()
    begun = time.process_time()
    for _ in range(200_000):
        assert splitter.feed(b"data: quac") == []

    assert len(splitter.feed(b"\n\n")[0]) == 2_000_000 - 6
    assert time.process_time() - begun < 5


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("aé\0", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("aé\0", max_size=3), inner, max_size=2),
    max_leaves=4,
)
text = st.text("ab", max_size=3) | json
delta = st.sampled_from(["text_delta", "thinking_delta", "input_json_delta", "citations_delta", "mood_delta"])
event = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("content_block_start"),
            "index": st.integers(0, 1),
            "content_block": st.fixed_dictionaries(
                {"type": st.sampled_from(["text", "thinking", "tool_use", "mood"])},
                optional={"text": text, "thinking": text, "partial_json": text, "citations": json, "input": json},
            ),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("content_block_delta"),
            "index": st.integers(0, 1),
            "delta": st.fixed_dictionaries(
                {"type": delta}, optional={"text": text, "thinking": text, "partial_json": text, "citation": json}
            ),
        }
    ),
    st.fixed_dictionaries({"type": st.just("content_block_stop"), "index": st.integers(0, 1)}),
    st.fixed_dictionaries({"type": st.just("message_delta"), "delta": json, "usage": json}),
    json,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(events=st.lists(event, max_size=6))
def test_whatever_comes_is_a_fault_or_can_be_recorded(events: list[Any]) -> None:
    answer = Answer()
    with suppress(StreamFault):
        Fold(answer).apply([msgspec.json.encode(event) for event in events], [])

    assert isinstance(answer.text, str)
    assert estimated(answer).output_tokens >= 0
    assert msgspec.json.decode(msgspec.json.encode(answer.blocks)) is not None


async def test_signatures_are_not_counted_as_output(upstream: ScriptedUpstream, claude: Claude) -> None:
    upstream.script(fault("thinking_omitted"))
    answer = Answer()

    await read(claude, answer)

    assert answer.characters == 21


async def test_a_tool_call_cut_short_is_kept_as_it_came(upstream: ScriptedUpstream, claude: Claude) -> None:
    cut = Block(
        {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {}},
        ({"type": "input_json_delta", "partial_json": '{"place":"Os'},),
    )
    upstream.script(reply("Hello", cut, stop_reason="max_tokens"))
    answer = Answer()

    await read(claude, answer)

    assert (answer.finished, answer.counted, answer.text) == (True, True, "Hello")
    assert answer.blocks[1]["partial_json"] == '{"place":"Os'


async def test_citations_may_begin_as_null(upstream: ScriptedUpstream, claude: Claude) -> None:
    cited = Block({"type": "text", "text": "", "citations": None}, ({"type": "citations_delta", "citation": CITATION},))
    upstream.script(reply("", cited))
    answer = Answer()

    await read(claude, answer)

    assert answer.blocks == [{"type": "text", "text": "", "citations": [CITATION]}]


@pytest.mark.parametrize(
    "data",
    [
        b"[1]",
        b'{"type":"content_block_delta","delta":7,broken',
        b'{"type":"message_start","message":{"usage":{"input_tokens":-1}}}',
        b'{"type":"message_start","message":{"usage":{"input_tokens":1e300}}}',
        b'{"type":"content_block_start"}',
        b'{"type":"content_block_start","content_block":{"type":"text","text":7}}',
        b'{"type":"content_block_start","content_block":{"type":"text","citations":"none"}}',
        b'{"type":"content_block_stop","index":3}',
        b'{"type":"ping","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":null}}',
    ],
)
def test_nonsense_is_a_fault_and_nothing_else(data: bytes) -> None:
    with pytest.raises(StreamFault):
        Fold(Answer()).apply([data], [])
