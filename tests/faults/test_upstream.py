"""The scripted upstream speaks the truth: the real SDK accepts its replies and meets its faults as documented."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import pytest

from tests.faults.upstream import FAULTS, ScriptedUpstream, Usage, fault, names, reply, text, thinking, words
from tests.faults.wire import ask, chunks, decoded, events, exchange, request_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    Connect = Callable[..., anthropic.AsyncAnthropic]

SDK_ERRORS: dict[int, type[anthropic.APIStatusError]] = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    402: anthropic.PaymentRequiredError,
    403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError,
    408: anthropic.RequestTimeoutError,
    409: anthropic.ConflictError,
    413: anthropic.ContentTooLargeError,
    422: anthropic.UnprocessableEntityError,
    429: anthropic.RateLimitError,
    500: anthropic.InternalServerError,
    502: anthropic.InternalServerError,
    503: anthropic.ServiceUnavailableError,
    504: anthropic.GatewayTimeoutError,
    529: anthropic.OverloadedError,
}
STATUSES = [name for name in names("before") if FAULTS[name].status]
WITHOUT_STATUS: dict[str, type[Exception] | None] = {
    "empty_200": None,
    "empty_stream": None,
    "html_200": None,
    "json_200": None,
    "error_first": anthropic.APIStatusError,
    "hang": anthropic.APITimeoutError,
    "reset_before": anthropic.APIConnectionError,
    "close_before": anthropic.APIConnectionError,
    "half_headers": anthropic.APIConnectionError,
    "garbage_before": anthropic.APIConnectionError,
}
# what create(stream=True) raises on the aiohttp transport; None: nothing, the loss is silent
BROKEN: dict[str, type[Exception] | None] = {
    "cut": httpx2.ReadError,
    "cut_clean": None,
    "cut_in_frame": None,
    "cut_in_letter": httpx2.ReadError,
    "no_stop": None,
    "cut_at_end": httpx2.ReadError,
    "reset": httpx2.ReadError,
    "stall": httpx2.ReadTimeout,
    "stall_in_frame": httpx2.ReadTimeout,
    "overloaded": anthropic.APIStatusError,
    "api_error": anthropic.APIStatusError,
    "rate_limit": anthropic.APIStatusError,
    "timeout": anthropic.APIStatusError,
    "unknown_error": anthropic.APIStatusError,
    "error_at_end": anthropic.APIStatusError,
    "llama_error": anthropic.APIStatusError,
    "bare_error": anthropic.APIStatusError,
    "bad_json": ValueError,
    "bad_utf8": UnicodeDecodeError,
    "not_an_object": anthropic.APIResponseValidationError,
    "no_delta": anthropic.APIResponseValidationError,
    "wrong_index": None,
    "garbage": UnicodeDecodeError,
    "bad_chunk": TimeoutError,  # ours: aiohttp hangs for ever
    "endless_frame": httpx2.ReadError,
}
LENIENT = ("unknown_event", "unknown_delta", "unknown_block", "unknown_stop_reason", "no_usage")
LOST = ("data_only", "bom")  # frames the SDK does not see


async def read(client: anthropic.AsyncAnthropic, seen: list[Any]) -> None:
    """Collect the raw events of one stream, also of one that breaks."""
    async with asyncio.timeout(2), await client.messages.create(**ask(), stream=True) as stream:
        async for event in stream:
            seen.append(event)


def text_of(seen: list[Any]) -> str:
    deltas = [event.delta for event in seen if event.type == "content_block_delta"]
    return "".join(delta.text for delta in deltas if delta.type == "text_delta")


# ordinary replies


async def test_the_typed_sdk_accepts_an_ordinary_stream(upstream, claude):
    said = Usage(20, 5000, 300, 200, output_tokens=15, thinking_tokens=9)
    upstream.script(reply("", thinking("Let me see"), text("Hello world"), usage=said))

    async with claude.messages.stream(**ask()) as stream:
        message = await stream.get_final_message()

    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[1].text == "Hello world"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (20, 5000)
    assert message.usage.cache_creation_input_tokens == 500
    assert message.usage.cache_creation.ephemeral_1h_input_tokens == 200
    assert (message.usage.output_tokens, message.usage.output_tokens_details.thinking_tokens) == (15, 9)
    assert (message.stop_reason, stream.request_id) == ("end_turn", "req_00000001")


async def test_stream_and_json_say_the_same(upstream, claude):
    upstream.script(*[reply("", thinking("Hm"), text("Hello world"))] * 2)

    async with claude.messages.stream(**ask()) as stream:
        streamed = (await stream.get_final_message()).to_dict()
    plain = (await claude.messages.create(**ask())).to_dict()

    for message in (streamed, plain):
        del message["id"]
        for block in message["content"]:  # the helper adds what it parsed, and leaves null citations out
            block.pop("parsed_output", None), block.pop("citations", None)
    assert streamed == plain


def test_the_synchronous_sdk_is_served_too(upstream):
    upstream.script(reply(["He", "llo"]))
    with (
        anthropic.Anthropic(base_url=upstream.url, api_key="k", _strict_response_validation=True) as client,
        client.messages.stream(**ask()) as stream,
    ):
        assert list(stream.text_stream) == ["He", "llo"]


async def test_an_unscripted_reply_counts_its_words(upstream, claude):
    message = await claude.messages.create(**ask("four letters each"))

    assert message.content[0].text == words(12)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (5, 12)  # ceil(17 / 4)


async def test_batches_have_the_documented_shape(upstream, claude):
    upstream.batches.outcome = lambda request: {"two": "expired", "three": "canceled"}.get(request.prompt)
    upstream.default = lambda request: fault("400") if request.prompt == "four" else reply("Hello")
    asked = [{"custom_id": name, "params": ask(name)} for name in ("one", "two", "three", "four")]
    created = await claude.messages.batches.create(requests=asked)
    assert created.processing_status == "in_progress" and created.request_counts.processing == 4
    assert [batch.id async for batch in claude.messages.batches.list()] == [created.id]
    for _ in range(2):
        batch = await claude.messages.batches.retrieve(created.id)
    results = [each async for each in await claude.messages.batches.results(created.id)]

    assert batch.processing_status == "ended" and batch.request_counts.succeeded == 1
    found = {each.custom_id: each.result for each in results}
    assert {name: result.type for name, result in found.items()} == {
        "one": "succeeded", "two": "expired", "three": "canceled", "four": "errored",
    }  # fmt: skip
    assert found["one"].message.content[0].text == "Hello" and found["one"].message.usage.service_tier == "batch"
    assert found["four"].error.error.type == "invalid_request_error"
    other = await claude.messages.batches.create(requests=asked)
    assert (await claude.messages.batches.cancel(other.id)).processing_status == "canceling"
    for wrong in ([], [asked[0], asked[0]], [{"custom_id": "a b", "params": ask("x")}]):
        with pytest.raises(anthropic.BadRequestError):
            await claude.messages.batches.create(requests=wrong)
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.batches.retrieve("msgbatch_none")
    pages = [batch.id async for batch in claude.messages.batches.list(limit=1)]
    assert pages == [other.id, created.id]


async def test_models_and_token_counts_have_the_documented_shape(claude):
    listed = {model.id: model async for model in claude.models.list()}
    counted = await claude.messages.count_tokens(model="claude-sonnet-5-5", messages=ask()["messages"], system="Hello")

    assert listed["claude-sonnet-5-5"].lifecycle == "active"
    assert (await claude.models.retrieve("claude-haiku-5-5")).max_input_tokens == 1_000_000
    assert counted.input_tokens == 1 + 2


# faults before the stream


@pytest.mark.parametrize("name", STATUSES)
async def test_a_status_becomes_the_exception_of_the_table(upstream, claude, name):
    upstream.script(fault(name))

    with pytest.raises(SDK_ERRORS[FAULTS[name].status]) as caught:
        await claude.messages.create(**ask(), stream=True)

    assert caught.value.status_code == FAULTS[name].status
    await upstream.until(lambda u: u.last.ended == "refused")
    if not name.startswith("llama"):
        assert caught.value.type == FAULTS[name].error_type


RETRIED = {name for name in STATUSES if FAULTS[name].status in (408, 409, 429) or FAULTS[name].status >= 500}


@pytest.mark.parametrize("name", STATUSES)
async def test_the_sdk_retries_as_the_table_says(upstream, connect, name):
    upstream.script(fault(name, headers={"retry-after-ms": "1"}))

    async with connect(max_retries=1) as client:
        try:
            await client.messages.create(**ask())
        except anthropic.APIStatusError:
            assert upstream.requests_total == 1

    assert (upstream.requests_total == 2) == (name in RETRIED - {"529_no_retry"} | {"400_should_retry"})


async def test_a_spend_cap_has_its_own_exception(upstream, claude):
    upstream.script(fault("429_spend_limit"))

    with pytest.raises(anthropic.RateLimitError) as caught:
        await claude.messages.create(**ask())

    assert type(caught.value).__name__ == "EnforcedSpendLimitReachedError"
    assert (caught.value.error_code, caught.value.response.headers.get("retry-after")) == (
        "enforced_spend_limit_reached",
        None,
    )


async def test_an_error_names_the_request_in_header_and_body(upstream, claude):
    upstream.script(fault("429_retry_after", retry_after=2.5))

    with pytest.raises(anthropic.RateLimitError) as caught:
        await claude.messages.create(**ask())

    assert caught.value.request_id == caught.value.body["request_id"] == upstream.last.request_id
    assert caught.value.response.headers["retry-after"] == "2.5"
    assert caught.value.response.headers["anthropic-ratelimit-requests-limit"] == "4000"


async def test_a_context_overflow_of_llama_carries_its_numbers(upstream, claude):
    upstream.script(fault("llama_context"))

    with pytest.raises(anthropic.BadRequestError) as caught:
        await claude.messages.create(**ask())

    assert caught.value.request_id is None
    assert (caught.value.body["error"]["n_prompt_tokens"], caught.value.body["error"]["n_ctx"]) == (5042, 4096)


@pytest.mark.parametrize("name", sorted(set(names("before")) - set(STATUSES)))
async def test_what_has_no_status_fails_as_documented(upstream, connect, name):
    upstream.script(fault(name))
    seen: list[Any] = []

    async with connect(timeout=0.3) as client:
        error = await raised(read(client, seen))

    assert (error and type(error)) == WITHOUT_STATUS[name]
    assert seen == []


async def raised(work: Any) -> Exception | None:
    try:
        await work
    except Exception as error:
        return error
    return None


# faults in the stream


@pytest.mark.parametrize("name", names("mid"))
async def test_a_broken_stream_fails_as_documented(upstream, connect, name):
    upstream.script(scripted := fault(name, size=100_000))
    seen: list[Any] = []

    async with connect(timeout=0.3) as client:
        error = await raised(read(client, seen))

    expected = BROKEN[name]
    assert error is None if expected is None else isinstance(error, expected)
    if name == "wrong_index":
        assert text_of(seen) == "Hello brave astray new world"
    else:
        assert text_of(seen) == scripted.sent_text
        assert [event.type for event in seen].count("message_stop") == 0
    if FAULTS[name].error_type:
        assert isinstance(error, anthropic.APIStatusError)
        assert error.status_code == 200
        assert error.body["error"]["type"] == FAULTS[name].error_type


async def test_after_says_where_a_stream_breaks(upstream, claude):
    upstream.script(*(fault("cut", "a b c", after=after) for after in (0, 1, 3, 9)))

    texts = []
    for _ in range(4):
        seen: list[Any] = []
        await raised(read(claude, seen))
        assert seen[0].type == "message_start"
        texts.append(text_of(seen))

    assert texts == ["", "a", "a b c", "a b c"]


def test_a_cut_ends_the_connection_and_a_reset_resets_it(upstream):
    upstream.script(fault("cut"), fault("reset"))
    for expected in ("end", "reset"):
        with socket.create_connection((upstream.host, upstream.port), timeout=5) as sock:
            sock.sendall(request_bytes(ask(stream=True)))
            try:
                while sock.recv(1 << 16):
                    pass
                assert expected == "end"
            except ConnectionResetError:
                assert expected == "reset"


async def test_what_breaks_a_stream_breaks_a_json_reply(upstream, claude):
    upstream.script(fault("cut"), fault("reset"))
    for _ in range(2):
        with pytest.raises((anthropic.APIConnectionError, httpx2.ReadError)):
            await claude.messages.create(**ask())


# odd replies


@pytest.mark.parametrize("name", sorted(set(names("odd")) - set(LOST)))
async def test_the_sdk_accepts_an_odd_reply(upstream, connect, name):
    upstream.script(scripted := fault(name))
    seen: list[Any] = []

    async with connect(strict=name not in LENIENT) as client:
        assert await raised(read(client, seen)) is None

    last = [event for event in seen if event.type == "message_delta"][-1]
    assert text_of(seen) == scripted.text
    assert last.delta.stop_reason == scripted.stop_reason
    if scripted.usage_reported:
        assert last.usage.output_tokens == upstream.last.usage.output_tokens


@pytest.mark.parametrize("name", names("odd"))
def test_an_odd_reply_is_legal_on_the_wire(upstream, name):
    upstream.script(scripted := fault(name))

    found = events(decoded(*exchange(upstream, ask(stream=True))))

    deltas = [event["delta"] for event in found if event["type"] == "content_block_delta"]
    started = [event["message"] for event in found if event["type"] == "message_start"]
    assert len(started) == 1
    assert "".join(delta.get("text", "") for delta in deltas) == scripted.text
    assert [event["type"] for event in found if event["type"] != "ping"][-1] in ("message_stop", "model_mood")
    ends = [event for event in found if event["type"] == "message_delta"]
    assert ends[-1]["delta"]["stop_reason"] == scripted.stop_reason
    if scripted.usage_reported:
        assert ends[-1]["usage"]["output_tokens"] == upstream.last.usage.output_tokens
    upstream.wait_for(lambda u: u.last.ended == "complete")


def test_split_puts_every_byte_in_its_own_chunk(upstream):
    upstream.script(fault("split"))

    _, body = exchange(upstream, ask(stream=True))

    assert {len(each) for each in chunks(body)} == {1}


@pytest.mark.parametrize("name", LOST)
async def test_the_sdk_loses_frames(upstream, connect, name):
    upstream.script(fault(name))
    seen: list[Any] = []

    async with connect() as client:
        await read(client, seen)

    assert "message_start" not in [event.type for event in seen]


def test_every_fault_is_tested():
    assert set(WITHOUT_STATUS) == set(names("before")) - set(STATUSES)
    assert set(BROKEN) == set(names("mid"))
    assert all(fault(name).complete == (FAULTS[name].phase == "odd") for name in names())


def test_the_usage_of_a_web_search_rises(upstream):
    upstream.script(fault("server_tool"))

    found = events(decoded(*exchange(upstream, ask(stream=True))))

    end = next(event for event in found if event["type"] == "message_delta")
    assert found[0]["message"]["usage"]["input_tokens"] == 25
    assert end["usage"]["input_tokens"] == 1025
    assert end["usage"]["server_tool_use"] == {"web_search_requests": 2, "web_fetch_requests": 0}


# gates, counters, control


async def test_a_pause_holds_the_stream_until_it_is_released(upstream, claude):
    upstream.script(reply("a b c", pause_after=2))

    async with claude.messages.stream(**ask()) as stream:
        deltas = aiter(stream.text_stream)
        assert [await anext(deltas), await anext(deltas)] == ["a", " b"]
        await upstream.until(lambda u: u.paused == 1)
        assert upstream.last.tokens_sent == 2
        upstream.release()
        assert [delta async for delta in deltas] == [" c"]


async def test_many_requests_are_held_and_released_together(upstream, claude):
    upstream.default = reply("ok", pause_before=True)
    calls = [asyncio.create_task(claude.messages.create(**ask())) for _ in range(20)]

    await upstream.until(lambda u: u.paused == 20)
    assert upstream.streams_open == 20
    upstream.release(20)

    assert [(await call).content[0].text for call in calls] == ["ok"] * 20


async def test_a_client_that_leaves_is_seen(upstream, claude):
    upstream.script(reply("a b c", pause_after=1))

    async with claude.messages.stream(**ask()) as stream:
        async for _ in stream.text_stream:
            break

    await upstream.until(lambda u: u.disconnects)
    left = upstream.disconnects[0]
    assert (left.tokens_sent, left.request.ended, upstream.streams_open) == (1, "left", 0)


async def test_a_client_that_leaves_in_silence_is_seen(upstream, connect):
    upstream.script(fault("hang"))

    async with connect(timeout=0.1) as client:
        with pytest.raises(anthropic.APITimeoutError):
            await client.messages.create(**ask())

    await upstream.until(lambda u: u.last.ended == "left")


async def test_requests_are_recorded(upstream, claude):
    await claude.messages.create(**ask("hi", system="Be terse."))

    request = upstream.last
    assert (request.method, request.path, request.prompt) == ("POST", "/v1/messages", "hi")
    assert request.headers["authorization"] == "Bearer sk-ant-test"
    assert request.body["system"] == "Be terse."
    await upstream.until(lambda u: u.last.ended == "complete")
    assert (request.status, upstream.tokens_sent) == (200, 12)


async def test_refused_connections_come_back_on_the_same_port(upstream, claude):
    await claude.messages.create(**ask())
    upstream.refuse()
    with pytest.raises(anthropic.APIConnectionError):
        await claude.messages.create(**ask())

    upstream.accept()

    assert (await claude.messages.create(**ask())).stop_reason == "end_turn"


async def test_open_streams_can_be_reset_from_outside(upstream, claude):
    upstream.script(reply("a b", pause_after=1))

    with pytest.raises(httpx2.HTTPError):
        async with claude.messages.stream(**ask()) as stream:
            async for _ in stream.text_stream:
                upstream.cut_all()

    assert upstream.disconnects == []


def test_waiting_for_what_never_comes_shows_the_counters(upstream):
    with pytest.raises(TimeoutError, match="'streams_open': 0"):
        upstream.wait_for(lambda u: u.streams_open, timeout=0.01)


# words in the message


async def test_words_in_the_last_user_message_script_the_reply(upstream, claude):
    message = await claude.messages.create(**ask("say [[tokens=3 thinking=7]] please"))

    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[1].text == "alpha bravo charlie"
    assert (message.usage.output_tokens, message.usage.output_tokens_details.thinking_tokens) == (10, 7)


async def test_words_script_faults(upstream, claude):
    with pytest.raises(anthropic.RateLimitError) as caught:
        await claude.messages.create(**ask("[[fault=429 retry_after=7]]"))
    assert caught.value.response.headers["retry-after"] == "7"

    with pytest.raises(httpx2.ReadError):
        async with claude.messages.stream(**ask("[[fault=cut after=3]] [[tokens=5]] [[delay=0.001]]")) as stream:
            await stream.until_done()
    assert stream.current_message_snapshot.content[0].text == "alpha bravo charlie"


async def test_a_fault_may_strike_a_few_times_only(upstream, claude):
    for _ in range(2):
        with pytest.raises(anthropic.OverloadedError):
            await claude.messages.create(**ask("[[fault=529 times=2]]"))
    assert (await claude.messages.create(**ask("[[fault=529 times=2]]"))).stop_reason == "end_turn"


async def test_max_tokens_cuts_the_reply(claude):
    message = await claude.messages.create(**ask("[[tokens=50]]", max_tokens=2))

    assert (message.content[0].text, message.stop_reason) == ("alpha bravo", "max_tokens")


@pytest.mark.parametrize("words", ["[[fualt=cut]]", "[[fault=cutt]]", "[[tokens=many]]"])
async def test_a_misspelt_word_is_refused(claude, words):
    with pytest.raises(anthropic.BadRequestError):
        await claude.messages.create(**ask(words))


# as a process


def test_it_runs_as_a_program_and_ends_with_its_stdin():
    command = [sys.executable, "-W", "error", "-m", "tests.faults.upstream", "--tokens", "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin
        url = process.stdout.readline().strip()
        with anthropic.Anthropic(base_url=url, api_key="k") as client:
            assert client.messages.create(**ask()).content[0].text == "alpha bravo charlie"
        with urllib.request.urlopen(f"{url}/_upstream/state") as response:
            assert b'"tokens_sent":3' in response.read()
        process.stdin.close()
        assert process.wait(5) == 0


def test_two_upstreams_do_not_meet(upstream):
    with ScriptedUpstream(tokens=1) as other:
        exchange(other, ask(stream=True))
        assert (other.tokens_sent, upstream.tokens_sent) == (1, 0)
