"""The Python side of the chat box, with a page that is a list of messages and an upstream that is scripted."""

from __future__ import annotations

import contextvars
import json
import logging
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from tests.faults.upstream import ScriptedUpstream, fault, reply, thinking, words
from workbench import Chat, ChatWidget, runtime
from workbench.errors import StoreError
from workbench.notebook import live, transcript, widget
from workbench.notebook.assets import STATIC
from workbench.notebook.batches import Batches
from workbench.store import Store
from workbench.turns import Delta, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 30
"""How long anything may take on a machine that does much else."""

HEARD_IN: contextvars.ContextVar[str] = contextvars.ContextVar("HEARD_IN", default="elsewhere")


class FakeComm:
    """What ipywidgets sends through: keeps everything, and plays the page."""

    kernel = "a kernel"

    def __init__(self, **_: Any) -> None:
        self.comm_id = f"comm-{id(self)}"
        self.said: list[dict[str, Any]] = []
        self.buffers: list[bytes] = []
        self.contexts: list[str] = []
        self.broken = False
        self._changed = threading.Condition()
        self._asked = 0

    def on_msg(self, callback: Callable[[Any], None]) -> None:
        self._hear = callback

    def send(self, data: Any = None, metadata: Any = None, buffers: Any = None) -> None:
        if self.broken:
            raise OSError("no such page")
        with self._changed:
            if data["method"] == "custom":
                self.said.append(data["content"])
                self.contexts.append(HEARD_IN.get())
                self.buffers += buffers or []
            self._changed.notify_all()

    def close(self, *_: Any, **__: Any) -> None:
        pass

    def post(self, message: Any) -> None:
        """Let the page say something."""
        self._hear({"content": {"data": {"method": "custom", "content": message}}, "buffers": []})

    def ask(self, t: str, **fields: Any) -> str:
        """Let the page say something in order; return its client id."""
        self._asked += 1
        c = f"{self.comm_id}-{self._asked}"
        self.post({"t": t, "c": c, **fields})
        return c

    def next(self, t: str, start: int = 0, **fields: Any) -> dict[str, Any]:
        """Wait for a message of this kind with these fields."""

        def found() -> dict[str, Any] | None:
            wanted = {"t": t, **fields}
            return next((m for m in self.said[start:] if wanted.items() <= m.items()), None)

        with self._changed:
            message = self._changed.wait_for(found, SECONDS)
        assert message is not None, f"no {t} {fields} came, only {self.said[start:]}"
        return message

    def kinds(self) -> list[str]:
        """What was said, without counting how the reply was cut into batches."""
        kinds = [message["t"] for message in self.said if message["t"] != "usage"]
        return [kind for at, kind in enumerate(kinds) if kind != "d" or kinds[at - 1] != "d"]

    def text(self, turn: str) -> str:
        return "".join(m["s"] for m in self.said if m["t"] == "d" and m["turn"] == turn and m["k"] == "text")

    def turn(self, question: str = "hi") -> dict[str, Any]:
        """Ask, and return what ended the turn."""
        mark = len(self.said)
        self.ask("send", text=question)
        return self.next("end", mark)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture(autouse=True)
def _workbench(upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", upstream.url)
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store.duckdb"))
    monkeypatch.setattr("comm.create_comm", FakeComm)
    runtime.close()
    yield
    ChatWidget.close_all()
    runtime.close()


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """What runs the cells of a notebook, without a page."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    shell.display_pub = CapturingDisplayPublisher()
    yield shell
    InteractiveShell.clear_instance()


def updates(shell: InteractiveShell) -> list[dict[str, Any]]:
    return [output for output in shell.display_pub.outputs if output["update"]]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def page_of(chat: Chat | None = None) -> FakeComm:
    page: FakeComm = ChatWidget(chat).comm
    return page


def usage_rows() -> list[tuple[Any, ...]]:
    current = runtime.runtime()
    return current.run(current.engine.store.backend.rows("SELECT source, status FROM usage ORDER BY started_at"))


# --- Hello ------------------------------------------------------------------------------------------------------


def test_hello_is_acknowledged_and_answered_by_a_snapshot() -> None:
    chat = Chat()
    page = page_of(chat)
    c = page.ask("hello", have={})
    page.next("snap")

    assert page.said == [
        {"t": "ack", "c": c},
        {
            "t": "snap",
            "chat_id": chat.id,
            "title": "",
            "model": "claude-sonnet-5-5",
            "local": False,
            "prompt": None,
            "next_prompt": None,
            "earlier": 0,
            "messages": [],
            "asked": None,
            "live": None,
            "cost_usd": "0",
            "context": None,
            "budget_left_usd": None,
            "budget_note": None,
        },
    ]


def test_without_a_chat_the_box_has_a_new_one_that_leaves_no_trace() -> None:
    one, other = ChatWidget(), ChatWidget()

    assert one.chat_id == one.chat.id != other.chat_id
    assert one.chat.messages == []
    assert (one.protocol, one.height) == (1, "480px")
    assert Chat().widget("300px").height == "300px"


def test_a_snapshot_brings_the_stored_messages_with_their_footers(upstream: ScriptedUpstream) -> None:
    chat = Chat()
    upstream.script(reply("Hello"))
    asked = chat.ask("hi")
    page = page_of(chat)
    page.ask("hello", have={})
    snap = page.next("snap")

    assert [(m["role"], m["status"], m["text"]) for m in snap["messages"]] == [
        ("user", "complete", "hi"),
        ("assistant", "complete", "Hello"),
    ]
    assert snap["messages"][1]["footer"] == asked.footer
    assert snap["title"] == "hi"
    assert snap["cost_usd"] == str(asked.cost_usd)


def test_a_long_chat_is_shown_from_its_end() -> None:
    def message(n: int, size: int = 1) -> Message:
        return Message(id=f"m{n}", chat_id="c", seq=n, role="user", content="x" * size, created_at=datetime.now(UTC))

    many = [message(n) for n in range(150)]
    assert [m.id for m in transcript.last(many, 1000, 100)] == [f"m{n}" for n in range(50, 150)]
    assert [m.id for m in transcript.last([message(1), message(2, 600), message(3, 400)], 1000)] == ["m2", "m3"]
    assert [m.id for m in transcript.last([message(1), message(2, 2000)], 1000)] == ["m2"]
    assert transcript.last([], 1000) == []


def test_older_messages_come_when_a_reader_has_come_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SNAP_MESSAGES", 2)
    monkeypatch.setattr(live, "OLDER_MESSAGES", 3)
    chat = Chat()
    for n in range(3):
        chat.ask(f"question {n}", show=False)
    page = page_of(chat)
    page.ask("hello")
    snap = page.next("snap")
    assert (snap["earlier"], snap["messages"][0]["text"]) == (4, "question 2")

    page.ask("older", before=snap["messages"][0]["message_id"])
    older = page.next("older", before=snap["messages"][0]["message_id"])
    assert (older["earlier"], [m["role"] for m in older["messages"]]) == (1, ["assistant", "user", "assistant"])
    assert older["messages"][0]["footer"].startswith("claude-sonnet-5-5")
    page.ask("older", before=older["messages"][0]["message_id"])
    oldest = page.next("older", before=older["messages"][0]["message_id"])
    assert (oldest["earlier"], [m["text"] for m in oldest["messages"]]) == (0, ["question 0"])


def test_who_asks_for_what_is_before_a_message_that_is_gone_is_told_what_there_is() -> None:
    page = page_of()
    page.ask("older", before="nobody")
    assert page.next("snap")["messages"] == []


def test_hello_during_a_turn_brings_what_was_sent_and_the_next_batch_goes_on(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two three four", pause_after=2))
    page = page_of()
    page.ask("send", text="count")
    turn = page.next("start")["turn"]
    upstream.wait_for(lambda u: u.paused)
    page.next("d")
    page.ask("hello", have={})
    snap = page.next("snap")
    mark = len(page.said)
    upstream.release()
    end = page.next("end")

    assert [m["text"] for m in snap["messages"] if m["role"] == "user"] == ["count"]
    assert snap["messages"][-1]["message_id"] == snap["live"]["message_id"] == end["message_id"]
    assert (snap["live"]["turn"], snap["live"]["text"], snap["asked"]) == (turn, "one two", None)
    after = [m for m in page.said[mark:] if m["t"] == "d"]
    assert after[0]["seq"] == snap["live"]["seq"] + 1
    assert snap["live"]["text"] + "".join(m["s"] for m in after) == "one two three four"


def test_hello_before_the_first_token_says_what_was_asked(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Hello", pause_before=True))
    page = page_of()
    c = page.ask("send", text="hi")
    upstream.wait_for(lambda u: u.paused)
    page.ask("hello", have={})
    snap = page.next("snap")
    upstream.release()
    page.next("end")

    assert (snap["asked"], snap["live"]) == ({"c": c, "text": "hi", "retry_of": None}, None)
    assert snap["messages"] == []


# --- A turn -----------------------------------------------------------------------------------------------------


def test_a_turn_from_send_to_end(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Hello brave new world", delay=0.05))
    chat = Chat()
    page = page_of(chat)
    c = page.ask("send", text="hi")
    end = page.next("end")
    start, batches = page.next("start"), [m for m in page.said if m["t"] == "d"]
    question, answer = chat.messages

    assert page.kinds() == ["ack", "start", "d", "end"]
    assert page.said[0] == {"t": "ack", "c": c}
    assert (start["text"], start["title"], start["model"]) == ("hi", "hi", "claude-sonnet-5-5")
    assert (start["user_message_id"], start["message_id"]) == (question.id, answer.id)
    assert [m["seq"] for m in batches] == list(range(1, len(batches) + 1))
    assert page.text(start["turn"]) == answer.content == "Hello brave new world"
    assert (end["turn"], end["message_id"]) == (start["turn"], answer.id)
    assert (end["status"], end["stop_reason"], end["len"]) == ("complete", "end_turn", 21)
    assert end["footer"].startswith("claude-sonnet-5-5 · 1 in + 4 out tokens · $0.0000")
    assert end["chat_cost_usd"] == str(chat.cost_usd)
    assert usage_rows() == [("widget", "complete")]


def test_usage_is_told_while_the_reply_arrives(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two", pause_after=1))
    page = page_of()
    page.ask("send", text="hi")
    usage = page.next("usage")
    upstream.release()
    page.next("end")

    assert (usage["input_tokens"], usage["cache_read"], usage["cache_write"]) == (1, 0, 1)
    assert 0 < float(usage["cost_usd"]) < 0.001


def test_the_end_is_told_only_after_the_turn_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of()
    record = Store.record

    async def recording(self: Store, turn: Any) -> None:
        await record(self, turn)
        page.said.append({"t": "recorded"})

    monkeypatch.setattr(Store, "record", recording)
    page.turn()

    assert page.kinds() == ["ack", "start", "d", "recorded", "end"]


def test_lengths_are_counted_in_code_points(upstream: ScriptedUpstream) -> None:
    upstream.script(reply(["naïve ", "😀", " 👩‍🚀"]))
    page = page_of()
    end = page.turn()

    assert end["len"] == 11
    assert page.text(end["turn"]) == "naïve 😀 👩‍🚀"


def test_thinking_travels_apart_from_text_and_tool_calls_not_at_all(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("", thinking("let me see"), *reply("Yes").blocks), fault("tool_use"))
    page = page_of()
    first, second = page.turn(), page.turn("again")

    batches = [(m["k"], m["i"], m["s"]) for m in page.said if m["t"] == "d" and m["turn"] == first["turn"]]
    assert "".join(s for k, i, s in batches if (k, i) == ("think", 0)) == "let me see"
    assert "".join(s for k, i, s in batches if (k, i) == ("text", 1)) == "Yes"
    assert {m["k"] for m in page.said if m["t"] == "d" and m["turn"] == second["turn"]} == {"text"}
    assert len(page.text(second["turn"])) == second["len"]


def test_a_turn_of_chat_ask_appears_in_the_box(upstream: ScriptedUpstream) -> None:
    chat = Chat()
    page = page_of(chat)
    page.ask("hello", have={})
    page.next("snap", messages=[])
    mark = len(page.said)
    upstream.script(reply("From a cell"))
    chat.ask("hi")

    assert [m["text"] for m in page.next("snap", mark)["messages"]] == ["hi", "From a cell"]


# --- Batches ----------------------------------------------------------------------------------------------------


class Clock:
    """A loop whose time the test makes."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None], Self]] = []
        self.cancelled = False

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        timer = Clock()
        self.timers.append((self.now + delay, callback, timer))
        return timer

    def cancel(self) -> None:
        self.cancelled = True

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, callback, timer in due:
            if not timer.cancelled:
                callback()


def batches_of() -> tuple[Batches, list[dict[str, Any]], Clock]:
    said: list[dict[str, Any]] = []
    clock = Clock()
    return Batches("t1", said.append, clock), said, clock


def test_the_first_delta_goes_at_once_and_the_next_ones_together() -> None:
    batches, said, clock = batches_of()
    for piece in ("a", "b", "c"):
        batches.add([Delta(piece)])
        clock.advance(0.01)
    assert [m["s"] for m in said] == ["a"]
    clock.advance(0.011)
    assert [(m["seq"], m["s"]) for m in said] == [(1, "a"), (2, "bc")]
    clock.advance(1)
    batches.add([Delta("d")])
    assert [m["s"] for m in said] == ["a", "bc", "d"]
    assert (batches.seq, batches.text) == (3, "abcd")


def test_four_thousand_characters_do_not_wait() -> None:
    batches, said, _ = batches_of()
    batches.add([Delta("a")])
    batches.add([Delta("x" * 4095)])
    assert len(said) == 1
    batches.add([Delta("y")])
    assert [len(m["s"]) for m in said] == [1, 4096]


ENVELOPE = 610
"""Bytes a Jupyter server adds to each message on the websocket; measured in JupyterLab 4.6."""


def test_5000_tokens_take_half_a_megabyte_and_100_times_less_than_the_whole_text() -> None:
    batches, said, clock = batches_of()
    whole = sent_whole = 0
    for word in words(5000).split():
        piece = f"{word[:3]} "  # 4 characters a token
        whole += len(piece)
        sent_whole += ENVELOPE + whole
        batches.add([Delta(piece)])
        clock.advance(1 / 200)
    batches.flush()
    sent = sum(ENVELOPE + len(json.dumps(message)) for message in said)

    assert sum(len(m["s"]) for m in said) == 20_000
    assert [m["seq"] for m in said] == list(range(1, len(said) + 1))
    assert len(said) <= 25 / 0.04 + 1
    assert sent <= 500_000
    assert sent_whole >= 100 * sent


# --- Stop -------------------------------------------------------------------------------------------------------


def test_stop_while_running_disconnects_from_claude_and_keeps_what_came(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two three", pause_after=1))
    chat = Chat()
    page = page_of(chat)
    page.ask("send", text="count")
    turn = page.next("d")["turn"]
    c = page.ask("stop", turn=turn)
    end = page.next("end")
    upstream.wait_for(lambda u: u.disconnects, SECONDS)

    assert page.next("ack", c=c)
    assert (end["status"], end["len"]) == ("interrupted", 3)
    assert end["footer"].startswith("interrupted · ")
    assert chat.messages[1].content == "one"
    assert usage_rows() == [("widget", "interrupted")]


def test_stop_before_the_first_token_disconnects_and_shows_the_turn_that_was_sent(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Hello", pause_before=True))
    page = page_of()
    page.ask("send", text="hi")
    upstream.wait_for(lambda u: u.paused, SECONDS)
    page.ask("stop", turn=None)
    snap = page.next("snap")
    upstream.wait_for(lambda u: u.disconnects, SECONDS)

    assert [(m["role"], m["status"], m["text"]) for m in snap["messages"]] == [
        ("user", "complete", "hi"),
        ("assistant", "interrupted", ""),
    ]
    assert (snap["asked"], snap["live"]) == (None, None)
    assert usage_rows() == [("widget", "interrupted")]


@pytest.fixture
def slow_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An embedded model that is fetched until the event is set, and then cannot be had."""
    arrived = threading.Event()

    def embedded_model(gguf: Any, *, progress: Callable[[int, int], None]) -> None:
        progress(23_000_000, 92_000_000)
        arrived.wait(SECONDS)
        raise OSError("no disk")

    monkeypatch.setattr(live, "embedded_model", embedded_model)
    yield arrived
    arrived.set()


def test_the_embedded_model_is_prepared_in_sight(slow_model: threading.Event) -> None:
    page = page_of(Chat(model="local"))
    page.ask("send", text="hi")
    page.next("status", text="fetching the embedded model, once: 25% of 92 MB")
    page.ask("hello", have={})  # the loop is free meanwhile

    assert page.next("snap")["local"] is True


def test_stop_before_anything_was_sent_gives_the_question_back(slow_model: threading.Event) -> None:
    chat = Chat(model="local")
    page = page_of(chat)
    c = page.ask("send", text="hi")
    page.next("status")
    page.ask("stop", turn=None)

    assert page.next("err")["type"] == "stopped"
    assert page.next("err")["c"] == c
    assert chat.messages == []


def test_stop_at_once_never_asks(upstream: ScriptedUpstream) -> None:
    page = page_of()
    held = threading.Event()
    runtime.runtime()._loop.call_soon_threadsafe(held.wait, SECONDS)  # both are heard before either is done
    page.ask("send", text="hi")
    page.ask("stop", turn=None)
    held.set()

    assert page.next("err")["type"] == "stopped"
    assert upstream.requests == []


def test_stop_of_what_does_not_run_is_answered(upstream: ScriptedUpstream) -> None:
    page = page_of()
    page.ask("stop", turn=None)
    assert page.next("err")["type"] == "stopped"
    page.ask("stop", turn="long gone")
    assert page.next("snap")


def test_stop_of_an_ended_turn_leaves_the_next_one_alone(upstream: ScriptedUpstream) -> None:
    page = page_of()
    old = page.turn()["turn"]
    upstream.script(reply("one two", pause_after=1))
    page.ask("send", text="again")
    upstream.wait_for(lambda u: u.paused, SECONDS)
    mark = len(page.said)
    page.ask("stop", turn=old)
    page.next("snap", mark)
    upstream.release()

    assert page.next("end", mark)["status"] == "complete"


def test_two_stops_are_one(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two", pause_after=1))
    page = page_of()
    page.ask("send", text="hi")
    turn = page.next("d")["turn"]
    page.ask("stop", turn=turn)
    page.ask("stop", turn=turn)

    assert page.next("end")["status"] == "interrupted"
    assert usage_rows() == [("widget", "interrupted")]


# --- Failures and retry -----------------------------------------------------------------------------------------


def test_a_reply_that_breaks_off_is_an_error_and_then_recorded(upstream: ScriptedUpstream) -> None:
    upstream.script(fault("overloaded", after=2))
    page = page_of()
    page.ask("send", text="hi")
    end = page.next("end")
    err = page.next("err")

    assert page.kinds() == ["ack", "start", "d", "err", "end"]
    assert (err["turn"], err["type"], err["retryable"]) == (end["turn"], "upstream_overloaded", True)
    assert "overloaded" in err["message"]
    assert (end["status"], end["len"]) == ("failed", len("Hello brave"))
    page.ask("hello", have={})
    assert page.next("snap")["messages"][1]["error"]["message"] == err["message"]


def test_a_turn_that_fails_before_its_first_token_is_shown_with_its_error(upstream: ScriptedUpstream) -> None:
    upstream.script(fault("401"))
    page = page_of()
    page.ask("send", text="hi")
    question, answer = page.next("snap")["messages"]

    assert (question["text"], answer["status"]) == ("hi", "failed")
    assert "ANTHROPIC_API_KEY" in answer["error"]["message"]
    assert answer["error"]["retryable"] is False
    assert "start" not in page.kinds()


def test_a_question_that_never_began_is_given_back_although_others_asked_meanwhile(
    slow_model: threading.Event, upstream: ScriptedUpstream
) -> None:
    chat = Chat(model="local")
    page = page_of(chat)
    c = page.ask("send", text="hi")
    page.next("status")
    upstream.script(reply("Hello"))
    chat.ask("from a cell", model="claude-sonnet-5-5", show=False)
    page.ask("hello", have={})
    snap = page.next("snap", asked={"c": c, "text": "hi", "retry_of": None})
    slow_model.set()
    page.next("err", c=c)
    mark = len(page.said)
    page.ask("hello", have={})

    assert [m["text"] for m in snap["messages"]] == ["from a cell", "Hello"]
    assert [m["error"] for m in page.next("snap", mark)["messages"]] == [None, None]


def test_retry_asks_the_same_question_and_shows_only_the_new_reply(upstream: ScriptedUpstream) -> None:
    upstream.script(fault("overloaded", after=1), fault("overloaded", after=1), reply("Fine now"))
    page = page_of()
    failed = page.turn("the question")
    for _ in range(2):
        mark = len(page.said)
        page.ask("retry", message_id=failed["message_id"])
        failed = end = page.next("end", mark)
    starts = [m for m in page.said if m["t"] == "start"]
    page.ask("hello", have={})

    assert end["status"] == "complete"
    assert [m["text"] for m in starts] == ["the question"] * 3
    assert len({m["user_message_id"] for m in starts}) == 1
    assert len({m["message_id"] for m in starts}) == 3
    assert [m["text"] for m in page.next("snap")["messages"]] == ["the question", "Fine now"]
    assert usage_rows() == [("widget", "failed"), ("widget", "failed"), ("widget", "complete")]


def test_a_retry_can_be_stopped_at_once(upstream: ScriptedUpstream) -> None:
    upstream.script(fault("overloaded", after=1))
    page = page_of()
    failed = page.turn()
    held = threading.Event()
    runtime.runtime()._loop.call_soon_threadsafe(held.wait, SECONDS)
    mark = len(page.said)
    c = page.ask("retry", message_id=failed["message_id"])
    page.ask("stop", turn=None)
    held.set()

    assert page.next("err", mark, c=c)["type"] == "stopped"


@pytest.mark.parametrize("which", ["complete", "unknown"])
def test_only_the_last_reply_that_did_not_end_well_is_retried(which: str, upstream: ScriptedUpstream) -> None:
    page = page_of()
    end = page.turn()
    c = page.ask("retry", message_id=end["message_id"] if which == "complete" else "m1")
    err = page.next("err")

    assert (err["c"], err["turn"], err["type"]) == (c, None, "invalid_request")
    assert len(upstream.requests) == 1


def test_a_second_question_while_one_is_answered_is_refused(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two", pause_after=1))
    page = page_of()
    page.ask("send", text="hi")
    page.next("d")
    c = page.ask("send", text="me too")
    err = page.next("err")
    upstream.release()

    assert (err["c"], err["type"]) == (c, "invalid_request")
    assert page.next("end")["status"] == "complete"


def test_nobody_to_answer_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.delenv("ANTHROPIC_BASE_URL")
    monkeypatch.setenv("CLAUDE_MODEL", "claude-sonnet-5-5")
    page = page_of()
    page.ask("hello", have={})
    assert page.next("snap")["model"] == ""
    c = page.ask("send", text="hi")
    err = page.next("err")

    assert err["message"] == "Claude API not configured. Please set ANTHROPIC_API_KEY."
    assert (err["c"], err["type"], err["retryable"]) == (c, "configuration_error", False)


@pytest.mark.parametrize(
    ("message", "acknowledged"),
    [
        (None, False),
        ("hello", False),
        ([], False),
        ({}, False),
        ({"t": "send"}, False),
        ({"t": "send", "c": 7, "text": "hi"}, False),
        ({"t": "send", "c": "c1"}, True),
        ({"t": "send", "c": "c1", "text": None}, True),
        ({"t": "send", "c": "c1", "text": ["hi"]}, True),
        ({"t": "send", "c": "c1", "text": "   "}, True),
        ({"t": "send", "c": "c1", "text": "half a pair \ud83d"}, True),
        ({"t": "stop", "c": "c1", "turn": 3}, True),
        ({"t": "retry", "c": "c1"}, True),
        ({"t": "__class__", "c": "c1"}, True),
        ({"t": {"t": "send"}, "c": "c1"}, True),
        ({"t": "x" * 1_000_000, "c": "c1"}, True),
    ],
)
def test_what_cannot_be_understood_is_answered_by_an_error(
    message: Any, acknowledged: bool, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    page = page_of()
    page.post(message)
    err = page.next("err")

    assert [m["t"] for m in page.said] == (["ack", "err"] if acknowledged else ["err"])
    assert (err["c"], err["turn"], err["type"]) == ("c1" if acknowledged else None, None, "invalid_request")
    assert len(err["message"]) < 400
    assert upstream.requests == []
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_a_part_of_the_front_end_comes_as_a_buffer_when_it_is_asked_for() -> None:
    page = page_of()
    page.ask("asset", name="math.js")
    page.next("asset", name="math.js")

    assert page.buffers == [(STATIC / "math.js").read_bytes()]


@pytest.mark.parametrize("name", ["chat.css", "../widget.py", "/etc/passwd", ""])
def test_no_other_file_can_be_asked_for(name: str) -> None:
    page = page_of()
    c = page.ask("asset", name=name)
    error = page.next("err", c=c)

    assert (error["type"], page.buffers) == ("invalid_request", [])


def test_a_text_too_long_to_send_is_refused() -> None:
    page = page_of()
    page.ask("send", text="x" * 10_000_001)

    assert "10,000,001 characters" in page.next("err")["message"]


def test_an_error_nobody_foresaw_is_answered_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret words")

    page = page_of()
    monkeypatch.setattr(Store, "begin", broken)
    c = page.ask("send", text="hi")
    err = page.next("err")

    assert (err["c"], err["type"]) == (c, "internal_error")
    assert "ZeroDivisionError" in err["message"] and "secret" not in err["message"]
    assert "A turn of the chat widget failed" in caplog.text


def test_a_turn_whose_end_cannot_be_told_ends_on_screen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    page = page_of()
    monkeypatch.setattr(live.LiveChat, "_cost", broken)
    page.ask("send", text="hi")

    assert page.next("err")["turn"] == page.next("start")["turn"]
    assert "The end of a turn was not reported" in caplog.text


def test_a_reply_that_is_saved_with_the_next_turn_is_shown_as_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    record, failures = Store.record, [StoreError("the disk is full")]

    async def recording(self: Store, turn: Any) -> None:
        if failures:
            raise failures.pop()
        await record(self, turn)

    monkeypatch.setattr(Store, "record", recording)
    page = page_of()
    page.ask("send", text="hi")
    assert page.next("err")["turn"] == page.next("start")["turn"]
    mark = len(page.said)
    page.ask("send", text="again")
    reply = page.next("snap", mark)["messages"][1]

    assert (reply["status"], reply["error"]) == ("complete", None)


def test_hello_is_answered_when_the_store_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Store, "arrow", broken)
    page = page_of()
    c = page.ask("hello", have={})

    assert page.next("err")["c"] == c


def test_a_page_that_cannot_be_reached_does_not_end_the_turn(caplog: pytest.LogCaptureFixture) -> None:
    chat = Chat()
    lost, other = page_of(chat), page_of(chat)
    lost.broken = True
    lost.ask("send", text="hi")

    assert other.next("end")["status"] == "complete"
    assert chat.messages[1].status == "complete"
    assert "was not sent" in caplog.text


# --- Several widgets, and their end -----------------------------------------------------------------------------


def test_two_widgets_on_one_chat_show_the_same_turn_and_either_stops_it(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two", pause_after=1))
    chat = Chat()
    one, other = page_of(chat), page_of(chat)
    c = one.ask("send", text="hi")
    turn = other.next("d")["turn"]
    refused = other.ask("send", text="me too")
    assert other.next("err")["c"] == refused
    other.ask("stop", turn=turn)
    ends = [page.next("end") for page in (one, other)]

    assert ends[0] == ends[1]
    assert one.text(turn) == other.text(turn) == "one"
    assert {"t": "ack", "c": c} not in other.said


def test_a_chat_opened_twice_is_one_chat() -> None:
    chat = Chat()
    first = page_of(chat)
    first.turn()
    second = page_of(Chat.open(chat.id))
    end = second.turn("again")

    assert first.next("end", turn=end["turn"])


def test_widgets_of_two_chats_hear_nothing_of_each_other() -> None:
    one, other = page_of(), page_of()
    one.turn()

    assert other.said == []


def test_closing_the_last_widget_stops_its_turn_and_records_it(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two", pause_after=1))
    chat = Chat()
    widgets = [ChatWidget(chat), ChatWidget(chat)]
    page = widgets[1].comm
    page.ask("send", text="hi")
    page.next("d")
    widgets[0].close()
    page.ask("hello", have={})
    assert page.next("snap")["live"] is not None
    widgets[1].close()
    upstream.wait_for(lambda u: u.disconnects, SECONDS)
    runtime.close()

    assert [m.status for m in Chat.open(chat.id).messages] == ["complete", "interrupted"]


def test_what_a_box_sends_as_it_is_closed_is_not_asked(upstream: ScriptedUpstream) -> None:
    chat = Chat()
    widget = ChatWidget(chat)
    held = threading.Event()
    runtime.runtime()._loop.call_soon_threadsafe(held.wait, SECONDS)
    widget.comm.ask("send", text="hi")
    widget.close()
    other = page_of(chat)
    other.ask("hello", have={})
    held.set()
    snap = other.next("snap")

    assert (snap["asked"], snap["messages"], upstream.requests) == (None, [], [])


def test_a_turn_that_runs_when_the_kernel_ends_is_recorded(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two", pause_after=1))
    chat = Chat()
    page = page_of(chat)
    page.ask("send", text="hi")
    page.next("d")
    runtime.close()

    assert [(m.status, m.content) for m in Chat.open(chat.id).messages] == [("complete", "hi"), ("interrupted", "one")]


# --- The kernel's routes ----------------------------------------------------------------------------------------


def test_it_speaks_in_the_context_in_which_it_heard_last(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two", pause_after=1))
    page = page_of()

    def heard_in(name: str, t: str, **fields: Any) -> None:
        HEARD_IN.set(name)
        page.ask(t, **fields)

    contextvars.copy_context().run(heard_in, "first", "send", text="hi")
    page.next("d")
    contextvars.copy_context().run(heard_in, "second", "hello", have={})
    page.next("snap")
    upstream.release()
    page.next("end")

    by_kind = dict(zip([m["t"] for m in page.said], page.contexts, strict=True))
    assert (by_kind["start"], by_kind["snap"], by_kind["end"]) == ("first", "second", "second")


def test_what_the_page_says_goes_where_the_page_sent_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class RoutingComm(FakeComm):
        def _reply_subshell_for(self, data: Any, default: Any) -> str:
            return "wherever was spoken last"

    monkeypatch.setattr("comm.create_comm", RoutingComm)
    widget = ChatWidget()
    assert widget.comm._reply_subshell_for({}, "where it was sent") == "where it was sent"
    widget.comm = RoutingComm()
    assert widget.comm._reply_subshell_for({}, "where it was sent") == "where it was sent"


# --- Where no widget can be -------------------------------------------------------------------------------------


def test_the_saved_output_holds_what_was_said(upstream: ScriptedUpstream) -> None:
    upstream.script(reply("It is **4**, or `x\n\ny`"))
    chat = Chat()
    widget = ChatWidget(chat)
    footer = widget.comm.turn("What is 2+2?")["footer"]
    data, _ = widget._repr_mimebundle_()

    assert set(data) == {"application/vnd.jupyter.widget-view+json", "text/plain", "text/markdown"}
    assert data["text/plain"] == f"You: What is 2+2?\n\nClaude: It is **4**, or `x\n\ny`\n\n{footer}"
    assert "<strong>4</strong>" in data["text/markdown"]
    assert len(json.dumps(data)) < 2000


def test_the_saved_output_of_an_empty_chat_is_its_name() -> None:
    widget = ChatWidget()
    data, _ = widget._repr_mimebundle_()

    assert set(data) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    assert data["text/plain"] == repr(widget) == f"<ChatWidget of <Chat {widget.chat_id} 'not begun'>>"


HOSTILE = """<script>alert(1)</script>

<img src=x onerror=alert(1)> ![b](https://evil.example/?q=1) [a](javascript:alert(1)) <javascript:alert(1)>

```
code

<form action=https://evil.example>
```

$x$</div>

<iframe srcdoc="<script>alert(1)</script>">
"""


def test_the_saved_output_is_one_block_of_harmless_html(upstream: ScriptedUpstream) -> None:
    upstream.script(reply([HOSTILE]))
    widget = ChatWidget()
    widget.comm.turn(HOSTILE)
    markdown = widget._repr_mimebundle_()[0]["text/markdown"]

    assert all(line.strip() for line in markdown.split("\n"))  # a blank line would end the block
    tags = {tag.split(">")[0].split()[0] for tag in markdown.split("<")[1:]}
    assert tags <= {
        "div",
        "/div",
        "p",
        "/p",
        "strong",
        "/strong",
        "a",
        "/a",
        "pre",
        "/pre",
        "code",
        "/code",
        "em",
        "/em",
    }
    assert 'href="javascript' not in markdown and "$" not in markdown
    assert "code\n&#10;&lt;form" in markdown


def test_the_saved_output_is_at_most_the_last_200_kb() -> None:
    def message(n: int, size: int) -> Message:
        return Message(id=f"m{n}", chat_id="c", seq=n, role="user", content="x" * size, created_at=datetime.now(UTC))

    three = [message(1, 10), message(2, 150_000), message(3, 100_000)]
    text = transcript.as_text(three, {})
    assert text == f"(2 earlier messages are in the store)\n\nYou: {'x' * 100_000}"
    assert len(transcript.as_text([message(1, 500_000)], {})) == 200_000 + len("You: ")
    assert "2 earlier messages" in transcript.as_markdown(three, {})


def test_the_saved_output_says_what_was_attached_and_what_it_cost(upstream: ScriptedUpstream) -> None:
    chat = Chat()
    asked = chat.ask("Why?", attach={"a_<b>": [1, 2]}, show=False)
    data, _ = ChatWidget(chat)._repr_mimebundle_()

    assert data["text/plain"].startswith("You: [a_<b>: list of 2 items]\nWhy?\n\nClaude: ")
    assert data["text/plain"].endswith(f"\n\n{asked.footer}")
    assert "<p><em>a_&lt;b&gt;: list of 2 items</em></p><p>Why?</p>" in data["text/markdown"]
    assert f"<p><em>{asked.footer}</em></p>".replace("$", "&#36;") in data["text/markdown"]


def test_a_view_that_can_write_is_told_what_to_and_nothing_is_displayed_anew(shell: InteractiveShell) -> None:
    widget = ChatWidget()
    shell.user_ns["widget"] = widget
    shell.run_cell("display(widget)")
    widget.comm.turn("hi")
    c = widget.comm.ask("transcript")
    answer = widget.comm.next("transcript")
    shell.run_cell("pass")

    assert (answer["c"], answer["model_id"]) == (c, widget.model_id)
    assert answer["data"] == {k: v for k, v in widget._repr_mimebundle_()[0].items() if k.startswith("text/")}
    assert updates(shell) == []


def test_an_older_text_of_a_chat_is_never_told_after_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of()
    begun, made = threading.Event(), threading.Event()

    def slow_at_first(messages: Any, used: Any) -> dict[str, str]:
        if not messages:
            begun.set()
            made.wait(SECONDS)
        return transcript.bundle(messages, used)

    monkeypatch.setattr(live, "bundle", slow_at_first)
    first = page.ask("transcript")
    assert begun.wait(SECONDS)
    page.turn()
    second = page.ask("transcript")
    for _ in range(5):  # time in which the second one could be answered
        mark = len(page.said)
        page.ask("hello", have={})
        page.next("snap", mark)
    made.set()
    page.next("transcript", c=first)
    page.next("transcript", c=second)

    assert [m["c"] for m in page.said if m["t"] == "transcript"] == [first, second]


def test_a_view_that_cannot_write_has_python_display_each_state_once(shell: InteractiveShell) -> None:
    widget = ChatWidget()
    shell.user_ns["widget"] = widget
    shell.run_cell("display(widget, widget)")
    for turn, question in enumerate(["first", "second"], 1):
        widget.comm.turn(question)
        widget.comm.ask("transcript", display=True)
        widget.comm.ask("transcript", display=True)
        until(lambda expected=2 * turn: len(updates(shell)) >= expected)

    shown = [update["data"]["text/plain"] for update in updates(shell)]
    assert [text.count("You: ") for text in shown] == [1, 1, 2, 2]


def test_a_page_may_say_its_first_word_while_a_cell_ends(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(WeakSet[ChatWidget]):
        def __iter__(self) -> Iterator[ChatWidget]:
            for shown in super().__iter__():
                shown.comm.ask("hello", have={})  # in another thread, where there are subshells
                yield shown

    monkeypatch.setattr(widget, "_on_display", Interrupted())
    shell.user_ns["boxes"] = [ChatWidget(), ChatWidget()]
    shell.run_cell("display(*boxes)")

    assert "Traceback" not in capsys.readouterr().out
    assert updates(shell) == []


def test_without_a_page_what_is_asked_in_cells_is_displayed_after_each(shell: InteractiveShell) -> None:
    shell.user_ns["chat"] = Chat()
    shell.run_cell("chat.widget()")
    shell.run_cell("chat.ask('hi', show=False);")
    shell.run_cell("pass")

    assert [update["data"]["text/plain"].split("\n")[0] for update in updates(shell)] == ["You: hi"]
