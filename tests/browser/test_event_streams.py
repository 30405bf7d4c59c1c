"""Three independent readers of our event stream, and text that would break it: all see the same events.

httpx-sse, eventsource-parser (of which most clients in JavaScript are made), and a few lines around `fetch` and
`TextDecoder`, as people write them by hand; the latter two in Chromium.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import httpx_sse
import pytest

from tests.faults.frames import error_frame, plain
from tests.faults.replies import Break
from tests.faults.upstream import Reply, ScriptedUpstream, Wire, reply
from tests.server.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent
READ = (HERE / "event_streams.js").read_text(encoding="utf-8")
PARSER = HERE / "eventsource-parser"
PIECES = [1, 2, 3, 7]


class Hostile(NamedTuple):
    """A reply, delta by delta, and how it comes."""

    deltas: list[str]
    more: dict[str, Any] = {}
    pieces: list[int] = PIECES  # how many bytes are read at a time, besides as they come

    def reply(self) -> Reply:
        return reply(self.deltas, **self.more)


DONE = '{"token":"","done":true}'
REPLIES = {
    "letters that end lines elsewhere": Hostile(
        ["one\u2028two", "\u2029three\u0085", "\u0085", "\x0b\x0c\x1c\x1d\x1e!"]
    ),
    "line ends": Hostile(["a\r", "\nb\n", "\r", "\r\n", "\r\n\r\n", "\n\n", "\r\r", "c"]),
    "fields": Hostile(
        ["data: x\n\n", f"\ndata: {DONE}\n\n", "event: error\ndata: {}\n\n", "id: 7\nretry: 1\n\n", "data"]
    ),
    "comments": Hostile([": ping\n\n", "\n: ping\n\n", ":", "\n:\n"]),
    "nul and other signs": Hostile(
        ["a\0b\x01\x1f\x7f\x80\x9f", "\ufffe\uffff\ufffd", '"\\', "\\u2028\\n", "</script><!--"]
    ),
    "byte order marks": Hostile(["\ufeff", "\ufeffdata: a", "b\ufeff\n\n\ufeffc"]),
    "emoji": Hostile(["🦆", "👩‍👩‍👧‍👦", "e\u0301", "日本語", "🏳️‍🌈\U0010ffff"]),
    "emoji in pieces": Hostile(["🦆👩‍👩‍👧‍👦", "\u2028🦆", "é"], {"wire": Wire(transport="bytes")}),
    "all in one read": Hostile(["data: a\n\n", "🦆\u2028", "\r\n"], {"wire": Wire(transport="together")}),
    "only spaces": Hostile([" ", "  ", "\t", " \n "]),
    "very long lines": Hostile(["x" * 1_000_000, "\u2028" * 50_000, "🦆\n\n" * 50_000], pieces=[]),
    "pings between": Hostile(["a\n\n", ": ping\n\n", "🦆"], {"delay": 0.2, "ttft": 0.2}),
}


@pytest.fixture(scope="module")
def server(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that is silent for a twentieth of a second at most."""
    claude = {"ANTHROPIC_API_KEY": "sk-ant-test", "ANTHROPIC_BASE_URL": running.url}
    store = tmp_path_factory.mktemp("streams") / "store.duckdb"
    with ServerProcess(store, seconds={"ping_seconds": 0.05}, **claude) as server:
        yield server


@pytest.fixture(scope="module")
def page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    """A page of the server's own origin, to which it also serves the parser."""
    page = browser.new_page()
    page.route(
        "**/eventsource-parser/*.js", lambda route: route.fulfill(path=PARSER / route.request.url.split("/")[-1])
    )
    page.goto(f"{server.url}/healthz")
    yield page
    page.close()


@pytest.mark.parametrize("name", REPLIES)
def test_hostile_text_is_read_alike_by_every_reader(
    server: ServerProcess, page: Page, upstream: ScriptedUpstream, name: str
) -> None:
    hostile = REPLIES[name]
    upstream.default = hostile.reply()

    for read in all_reads(server, page, hostile.pieces):
        _, *tokens, last = told(read)
        assert [event["token"] for event in tokens] == hostile.deltas
        assert (last["fullText"], last["stop_reason"]) == ("".join(hostile.deltas), "end_turn")


def test_a_stream_that_breaks_is_read_alike_by_every_reader(
    server: ServerProcess, page: Page, upstream: ScriptedUpstream
) -> None:
    broken = Break(2, plain(error_frame("overloaded_error", "\n\ndata: {}\n\n")), "finish")
    upstream.default = reply(["\ndata: a\n\n", "🦆\u2028", "never sent"], breaks=broken)

    for read in all_reads(server, page, PIECES):
        _, *tokens, last = told(read)
        assert [event["token"] for event in tokens] == ["\ndata: a\n\n", "🦆\u2028"]
        assert (last["error"], last["type"]) == ("Stream failed", "upstream_overloaded")


def all_reads(server: ServerProcess, page: Page, pieces: list[int]) -> list[list[dict[str, Any]]]:
    """The events of a stream, as often as it was read."""
    with_httpx = read_with_httpx(server, {})
    browser = page.evaluate(READ, pieces)
    assert (browser["status"], browser["type"]) == (200, "text/event-stream; charset=utf-8")
    one_line_each(browser["raw"])
    in_pieces = browser["parsed_in_pieces"] + browser["by_hand_in_pieces"]
    assert len(in_pieces) == 2 * len(pieces)
    return [with_httpx, browser["parsed"], browser["by_hand"], *in_pieces]


def read_with_httpx(server: ServerProcess, headers: dict[str, str]) -> list[dict[str, Any]]:
    with (
        httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False) as client,
        httpx_sse.connect_sse(client, "POST", "/chat/stream", json={"message": "hi"}) as source,
    ):
        return [{"event": each.event, "id": each.id or None, "data": each.data} for each in source.iter_sse()]


def one_line_each(raw: str) -> None:
    """The bytes themselves: to whoever takes any letter for a line end, every event is still one line of data."""
    assert raw.endswith("\n\n")
    assert {line.split(" ")[0] for line in raw.splitlines()} <= {"data:", ":", ""}
    assert "\r" not in raw


def told(read: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the events say, none of which has a name or an id."""
    assert {(each["event"], each.get("id")) for each in read} == {("message", None)}
    events = [json.loads(each["data"]) for each in read]
    assert list(events[0]) == ["token", "done", "chat_id", "message_id", "model", "request_id"]
    assert [event["done"] for event in events] == [False] * (len(events) - 1) + [True]
    assert (events[0]["token"], events[-1]["token"]) == ("", "")
    return events


@pytest.mark.parametrize("name", [name for name in REPLIES if name != "pings between"])
def test_an_answer_told_again_reads_as_the_first(server: ServerProcess, upstream: ScriptedUpstream, name: str) -> None:
    upstream.script(REPLIES[name].reply())
    key = {"idempotency-key": f"again-{list(REPLIES).index(name)}"}

    first, again = (told(read_with_httpx(server, key)) for _ in range(2))

    assert again[0] | {"request_id": ""} == first[0] | {"request_id": ""}
    assert [event["token"] for event in again[1:-1]] == ["".join(REPLIES[name].deltas)]
    assert again[-1] == first[-1]
    assert upstream.requests_total == 1


def test_pings_come_between_the_events(server: ServerProcess, page: Page, upstream: ScriptedUpstream) -> None:
    upstream.default = REPLIES["pings between"].reply()

    read = page.evaluate(READ, PIECES)

    assert read["raw"].count(": ping\n\n") > 3
    assert told(read["parsed"])[-1]["fullText"] == "a\n\n: ping\n\n🦆"
