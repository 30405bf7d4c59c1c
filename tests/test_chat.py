"""Chat and ReplyStream: what a notebook or a script sees of a turn."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.faults.upstream import Usage, fault, reply
from workbench import runtime
from workbench.show import Nowhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

    from tests.faults.upstream import ScriptedUpstream

ROOT = Path(__file__).parents[1]


class Watcher(Nowhere):
    """Where replies are shown, and whether anything was: it is also told, now and then, that nothing comes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.saw = threading.Event()
        monkeypatch.setattr("workbench.chat.display_for", lambda show: self)

    def add(self, pieces: Sequence[str]) -> None:
        if pieces:
            self.saw.set()


def statuses(chat: wb.Chat) -> list[tuple[str, str, str]]:
    return [(m.role, m.status, m.content) for m in chat.messages]


def test_a_reply_tells_what_was_said_used_and_spent(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four it is", usage=Usage(uncached_input_tokens=1000, output_tokens=42)))

    said = wb.Chat(system="You are terse.").ask("What is 2+2?")

    assert str(said) == said.text == "Four it is"
    assert (said.usage.input_tokens, said.usage.output_tokens) == (1000, 42)
    assert said.cost_usd == Decimal("0.00242")  # 1000 x $2 + 42 x $10, a million
    assert (said.status, said.stop_reason, said.model) == ("complete", "end_turn", "claude-sonnet-5-5")
    assert scripted.last.body["system"] == "You are terse."


def test_claude_is_sent_what_was_said_before(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four"), reply("You asked for a sum"))
    chat = wb.Chat()
    chat.ask("What is 2+2?")
    chat.ask("What was my question?")

    sent = [(m["role"], m["content"][0]["text"]) for m in scripted.last.body["messages"]]
    assert sent == [("user", "What is 2+2?"), ("assistant", "Four"), ("user", "What was my question?")]


async def test_values_go_with_a_message_by_number_or_by_name(scripted: ScriptedUpstream) -> None:
    chat = wb.Chat()
    chat.ask("why?", show=False, attach=[[1, 2], "a text"])
    await chat.aask("and?", show=False, attach={"limits": {"low": 1}})
    first, second = (request.body["messages"][-1]["content"] for request in scripted.requests)

    assert [block["text"] for block in first] == [
        '<attachment name="attachment 1">\nattachment 1: list of 2 items\n[1, 2]\n</attachment>',
        '<attachment name="attachment 2">\nattachment 2: text of 6 characters\na text\n</attachment>',
        "why?",
    ]
    assert second[0]["text"] == "<attachment name=\"limits\">\nlimits: dict of 1 item\n{'low': 1}\n</attachment>"
    assert [message.content for message in chat.messages[::2]] == ["why?", "and?"]


def test_texts_of_numpy_are_texts(scripted: ScriptedUpstream) -> None:
    for name in np.unique(["Ada", "Bob"]):
        wb.Chat(system=name).ask(name)

    assert [request.prompt for request in scripted.requests] == ["Ada", "Bob"]
    assert wb.chats().title.tolist() == ["Bob", "Ada"]


def test_what_cannot_be_attached_is_refused_before_anything_is_asked(scripted: ScriptedUpstream) -> None:
    chat = wb.Chat()
    for wrong, told in ((pd.DataFrame(), "attach is of type DataFrame; put"), ([len], "which cannot be attached")):
        with pytest.raises(wb.InvalidRequest, match=told):
            chat.ask("why?", attach=wrong)  # type: ignore[arg-type]
    assert scripted.requests == []


def test_a_stream_yields_each_piece_before_the_next_is_written(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("one two three", pause_after=1))
    stream = wb.Chat().stream("count")
    pieces = iter(stream)

    assert (next(pieces), stream.reply.text) == ("one", "one")
    scripted.release()  # the upstream waits for this before it writes the next
    assert list(pieces) == [" two", " three"]
    assert stream.reply.status == "complete"


def test_leaving_a_stream_stops_claude_and_keeps_what_came(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("one two three", pause_after=1), reply("Fine"))
    chat = wb.Chat()
    stream = chat.stream("count")
    for _ in stream:
        break

    assert (stream.reply.status, stream.reply.text) == ("interrupted", "one")
    scripted.wait_for(lambda u: u.disconnects)
    assert chat.ask("go on").text == "Fine"
    assert statuses(chat)[:2] == [("user", "complete", "count"), ("assistant", "interrupted", "one")]


def test_a_stream_is_read_once(scripted: ScriptedUpstream) -> None:
    stream = wb.Chat().stream("hi")
    with pytest.raises(wb.InvalidRequest, match="nothing was asked yet"):
        _ = stream.reply
    list(stream)
    with pytest.raises(wb.InvalidRequest, match="read once"):
        list(stream)
    assert scripted.requests_total == 1


def test_an_interrupt_stops_claude_and_keeps_what_came(
    scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.script(reply("one two three", pause_after=1), reply("Fine"))
    chat, watcher = wb.Chat(), Watcher(monkeypatch)

    def interrupt() -> None:
        watcher.saw.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        chat.ask("count")
    interrupter.join()

    assert statuses(chat) == [("user", "complete", "count"), ("assistant", "interrupted", "one")]
    assert chat.ask("go on").text == "Fine"


def test_a_broken_stream_raises_with_what_came(scripted: ScriptedUpstream) -> None:
    scripted.script(fault("cut", "one two three", after=2), reply("Fine"))
    chat = wb.Chat()
    with pytest.raises(wb.UpstreamError) as caught:
        chat.ask("count")

    assert caught.value.reply is not None
    assert (caught.value.reply.text, caught.value.reply.status) == ("one two", "failed")
    assert chat.ask("again").text == "Fine"


async def test_async_code_streams_and_asks(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("one two"), reply("three"))
    chat = await asyncio.to_thread(wb.Chat)
    pieces = [piece async for piece in chat.stream("count")]
    said = await chat.aask("and then?")

    assert (pieces, said.text) == (["one", " two"], "three")


async def test_leaving_an_async_stream_keeps_what_came(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("one two three", pause_after=1))
    chat = await asyncio.to_thread(wb.Chat)
    async with chat.stream("count") as stream:
        async for _ in stream:
            break

    assert (stream.reply.status, stream.reply.text) == ("interrupted", "one")


async def test_cancelling_aask_keeps_what_came(scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted.script(reply("one two three", pause_after=1))
    chat, watcher = await asyncio.to_thread(wb.Chat), Watcher(monkeypatch)
    asking = asyncio.create_task(chat.aask("count"))
    await asyncio.to_thread(watcher.saw.wait)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    messages = await asyncio.to_thread(lambda: chat.messages)
    assert [(m.status, m.content) for m in messages] == [("complete", "count"), ("interrupted", "one")]


def test_chats_of_several_threads_do_not_mix(scripted: ScriptedUpstream) -> None:
    said: dict[int, list[str]] = {}

    def talk(n: int) -> None:
        chat = wb.Chat()
        said[n] = [chat.ask(f"[[tokens={n}]]").text for _ in range(3)]

    threads = [threading.Thread(target=talk, args=(n,)) for n in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {n: [len(text.split()) for text in texts] for n, texts in said.items()} == {n: [n] * 3 for n in range(1, 7)}


def test_a_chat_is_opened_again_and_goes_on(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four"), reply("Still four"))
    first = wb.Chat(system="You are terse.", title="Sums")
    first.ask("What is 2+2?")
    runtime.close()

    again = wb.Chat.open(first.id)
    again.ask("Sure?")

    assert (again.title, again.system) == ("Sums", "You are terse.")
    assert [m.content for m in again.messages] == ["What is 2+2?", "Four", "Sure?", "Still four"]
    assert len(scripted.last.body["messages"]) == 3


def test_a_chat_of_somebody_else_is_not_there(scripted: ScriptedUpstream) -> None:
    chat = wb.Chat(org="acme", user="ada")
    chat.ask("hi")

    for caller in ({"org": "acme", "user": "bob"}, {"org": "evil", "user": "ada"}, {}):
        with pytest.raises(wb.NotFound, match=f"no chat '{chat.id}'"):
            wb.Chat.open(chat.id, **caller)
    assert wb.Chat.open(chat.id, org="acme", user="ada").id == chat.id


def test_a_fork_shares_the_first_messages_and_goes_its_own_way(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("A"), reply("B"), reply("C"))
    chat = wb.Chat()
    chat.ask("one")
    chat.ask("two")
    fork = chat.fork(at=2)
    fork.ask("three")

    assert [m.content for m in fork.messages] == ["one", "A", "three", "C"]
    assert [m.content for m in chat.messages] == ["one", "A", "two", "B"]
    for at in (0, 1, 5):
        with pytest.raises(wb.InvalidRequest, match=f"one of 2, 4, not {at}"):
            chat.fork(at=at)


def test_a_fork_knows_what_the_replies_used_that_it_shares(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("A", usage=Usage(uncached_input_tokens=5000, output_tokens=42)), reply("B"))
    chat = wb.Chat()
    chat.ask("one")
    fork = chat.fork(at=2)
    fork.ask("two")

    for exported in (fork.to_markdown(), json.dumps(fork.to_notebook(), ensure_ascii=False)):
        assert exported.count(" out tokens · ") == 2
        assert "5,000 in + 42 out tokens" in exported
    assert chat.fork(at=2).estimate("two").input_tokens == chat.estimate("two").input_tokens > 5000


def test_what_cannot_be_asked_leaves_no_trace(scripted: ScriptedUpstream) -> None:
    chat = wb.Chat()
    with pytest.raises(wb.InvalidRequest, match="empty"):
        chat.ask("  ")
    with pytest.raises(wb.ModelRetired, match="claude-opus-5-5"):
        chat.ask("hi", model="claude-opus-4-20250514")

    assert (chat.messages, len(wb.chats()), scripted.requests_total) == ([], 0, 0)


def test_a_claude_model_by_name_needs_a_key(no_key: Path) -> None:
    with pytest.raises(wb.ConfigurationError, match=r"Please set ANTHROPIC_API_KEY\."):
        wb.Chat(model="claude-haiku-5-5")


def test_a_store_that_cannot_be_opened_is_one_sentence_and_tried_again(scripted: ScriptedUpstream) -> None:
    path = Path(os.environ["WORKBENCH_STORE"])
    path.write_text("no database, but long enough to look like one" * 100)
    with pytest.raises(wb.StoreCorrupt, match="is not a workbench store"):
        wb.Chat()

    path.unlink()
    assert wb.Chat().ask("hi").status == "complete"


def test_leaving_the_process_in_mid_reply_records_the_turn(scripted: ScriptedUpstream) -> None:
    script = "import workbench as wb; pieces = iter(wb.Chat().stream('[[tokens=50 delay=0.05]]')); print(next(pieces))"
    child = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert (child.stdout, child.stderr, child.returncode) == ("alpha\n", "", 0)
    rows = wb.usage()
    assert list(rows.status) == ["interrupted"]
    assert rows.output_tokens[0] >= 1


def test_importing_is_light() -> None:
    script = "import sys, workbench; print(sorted({'anthropic', 'pandas', 'matplotlib', 'duckdb', 'pydantic'} & {*sys.modules}))"
    child = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert child.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    missing = [name for name in wb.__all__ if not hasattr(wb, name)]
    assert missing == []
    assert {*wb.__all__} <= {*dir(wb)}


@pytest.mark.parametrize("module", [wb, wb.prompts, wb.experiments, wb.plots])
def test_tab_offers_what_is_public_and_nothing_else(module: ModuleType) -> None:
    assert {name for name in dir(module) if not name.startswith("_")} - {"map", "list"} == {*module.__all__} - {"list"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    "use",
    [
        lambda chat, pieces: wb.Chat(),
        lambda chat, pieces: chat.ask("hi"),
        lambda chat, pieces: chat.messages,
        lambda chat, pieces: list(pieces),
    ],
    ids=["new chat", "chat of the parent", "messages", "reply being read"],
)
def test_a_forked_child_is_told_that_it_cannot_ask(
    use: Callable[[wb.Chat, Iterator[str]], object], scripted: ScriptedUpstream
) -> None:
    scripted.script(reply("Fine"), reply("one two", pause_after=1))
    chat = wb.Chat()
    chat.ask("hi")
    pieces = iter(chat.stream("count"))
    next(pieces)
    child = os.fork()
    if child == 0:
        try:
            use(chat, pieces)
        except wb.ConfigurationError as error:
            os._exit(7 if "'spawn'" in str(error) else 2)
        os._exit(1)
    scripted.release()

    assert exit_code(child) == 7
    assert list(pieces) == [" two"]


def exit_code(child: int) -> int:
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
    return os.waitstatus_to_exitcode(ended[1])


def test_nothing_goes_on_for_a_caller_who_was_thrown_out(scripted: ScriptedUpstream) -> None:
    """By a display that breaks, or by what a signal's handler raises, such as a time limit."""
    stopped = threading.Event()

    async def ask_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    def broken() -> None:
        raise OSError("nobody reads the terminal any more")

    with pytest.raises(OSError, match="nobody reads"):
        runtime.runtime().run(ask_on(), broken)
    assert stopped.is_set()


def test_a_chat_is_called_otherwise_before_and_after_its_first_turn(scripted: ScriptedUpstream) -> None:
    chat = wb.Chat()
    chat.title = "  Before\nit begins "
    chat.ask("hi", show=False)
    assert wb.chats()["title"].tolist() == [chat.title] == ["Before it begins"]
    chat.rename("After")

    assert wb.chats()["title"].tolist() == [wb.Chat.open(chat.id).title] == ["After"]
    with pytest.raises(wb.InvalidRequest, match="nothing"):
        chat.title = " "


def test_what_asking_would_cost_is_told_and_nothing_is_sent(scripted: ScriptedUpstream) -> None:
    chat = wb.Chat()
    alone = chat.estimate("why?")
    with_table = chat.estimate("why?", attach={"numbers": list(range(100))})

    assert alone.model == "claude-sonnet-5-5"
    assert 0 < alone.input_tokens < with_table.input_tokens
    assert 0 < alone.cost_usd < with_table.cost_usd
    assert (scripted.requests, chat.messages) == ([], [])
