"""One turn against the scripted upstream: recorded however it ends, whoever cancels it, whatever fails."""

import asyncio
import gc
import logging
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from tests.faults.upstream import FAULTS, ScriptedUpstream, Usage, fault, names, reply
from workbench import engine as engine_module
from workbench.claude import Claude
from workbench.engine import Engine
from workbench.errors import ConfigurationError, InvalidRequest, StoreBusy, StoreError, UpstreamError
from workbench.settings import read_settings
from workbench.store import Store, flight
from workbench.store.backend import Backend, Statement
from workbench.store.queries import query
from workbench.turns import Caller, ChatInfo, LiveTurn

ADA = Caller()
KEY = "sk-ant-test-5dK2"


class Troubled:
    """A backend whose writes wait or fail on demand, by what of a turn they write: begin, checkpoint or record."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.failing: set[str] = set()
        self._gates: dict[str, asyncio.Event] = {}
        self._arrived: dict[str, asyncio.Event] = {}

    def stop_at(self, step: str) -> None:
        self._gates[step], self._arrived[step] = asyncio.Event(), asyncio.Event()

    def end(self) -> None:
        """Let go of everything, or a test that fails would wait for its turns for ever."""
        self.failing.clear()
        for step in list(self._gates):
            self.go_on(step)

    def has_arrived(self, step: str) -> bool:
        return self._arrived[step].is_set()

    async def arrived(self, step: str) -> None:
        await asyncio.wait_for(self._arrived[step].wait(), 30)

    def go_on(self, step: str) -> None:
        self._gates.pop(step).set()

    async def write(self, statements: Sequence[Statement], *, since: int | None = None) -> None:
        # as in every backend: who waits may be cancelled, the transaction is not undone by that
        await asyncio.shield(asyncio.ensure_future(self._write(statements, since)))

    async def _write(self, statements: Sequence[Statement], since: int | None) -> None:
        step = _step(statements)
        if gate := self._gates.get(step):
            self._arrived[step].set()
            await gate.wait()
        if step in self.failing:
            raise StoreError("the disk is full")
        await self._backend.write(statements, since=since)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def _step(statements: Sequence[Statement]) -> str:
    texts = [statement.sql for statement in statements]
    if query("new_hold") in texts:
        return "begin"
    if query("new_usage") in texts:
        return "record"
    return "checkpoint" if query("end_message") in texts else "other"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds waited before retries, none of them really."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(engine_module, "Claude", partial(Claude, sleep=sleep))
    return waits


@pytest.fixture
async def engine(upstream: ScriptedUpstream, tmp_path: Path, waits: list[float]) -> AsyncIterator[Engine]:
    engine = await opened(upstream, tmp_path)
    yield engine
    await engine.aclose()
    engine.store.close()


@pytest.fixture
def backend(engine: Engine) -> Iterator[Troubled]:
    engine.store.backend = troubled = Troubled(engine.store.backend)
    yield troubled
    troubled.end()


@pytest.fixture
def chat(engine: Engine) -> ChatInfo:
    return engine.new_chat()


async def opened(upstream: ScriptedUpstream, folder: Path) -> Engine:
    path = str(folder / "store.duckdb")
    settings = read_settings(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=upstream.url, WORKBENCH_STORE=path)
    return Engine(settings, await Store.open(path))


async def ask(engine: Engine, chat: ChatInfo, question: str = "hi") -> LiveTurn:
    """Run a turn to its end."""
    async with engine.turn(ADA, chat, question) as turn:
        async for _ in turn:
            pass
    return turn


async def ledger(engine: Engine) -> list[tuple[Any, ...]]:
    """Status, error, whether estimated, input and output tokens, cost of every call, in order."""
    return await engine.store.backend.rows(
        "SELECT status, error_type, usage_estimated, input_tokens, output_tokens, cost_usd FROM usage ORDER BY started_at"
    )


async def open_holds(engine: Engine) -> int:
    ((count,),) = await engine.store.backend.rows("SELECT COUNT(*) FROM holds WHERE state = 'open'")
    return int(count)


async def said(engine: Engine, chat: ChatInfo) -> list[tuple[str, str]]:
    return [(message.status, message.content) for message in await engine.store.messages(ADA, chat.id)]


def sent(upstream: ScriptedUpstream) -> list[str]:
    """The texts the last request held."""
    return [block["text"] for message in upstream.last.body["messages"] for block in message["content"]]


async def turns_of_the_loop(count: int) -> None:
    """Let everything happen that needs no more than so many."""
    for _ in range(count):
        await asyncio.sleep(0)


async def cancelled(task: "asyncio.Task[Any]") -> None:
    with pytest.raises(asyncio.CancelledError):
        await task


FREE = Decimal(0)

# How a turn ends -----------------------------------------------------------------------------------------------------


async def test_a_whole_turn_is_recorded_with_its_cost(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    upstream.script(reply("Hello world", usage=Usage(12, 5000, 300, 200, output_tokens=40)))

    turn = await ask(engine, chat)

    # 12 x 2 + 5,000 x 0.10 + 300 x 2.50 + 200 x 4 + 40 x 10 dollars per million
    assert await ledger(engine) == [("complete", None, False, 5512, 40, Decimal("0.002474"))]
    assert await said(engine, chat) == [("complete", "hi"), ("complete", "Hello world")]
    assert (turn.reply.text, turn.reply.cost_usd, turn.reply.status) == ("Hello world", Decimal("0.002474"), "complete")
    assert turn.reply.ttft_ms is not None
    assert 0 <= turn.reply.ttft_ms <= turn.reply.duration_ms


async def test_every_fault_leaves_one_row_and_no_open_hold(upstream: ScriptedUpstream, engine: Engine) -> None:
    silent = {"hang", "stall", "stall_in_frame", "bad_chunk"}  # run into a deadline, see test_claude.py
    tried = [name for name in names() if name not in silent]
    shown = ""
    for name in tried:
        upstream.reset()
        upstream.default = fault(name)
        try:
            await ask(engine, engine.new_chat())
        except UpstreamError as error:
            shown += "".join(traceback.format_exception(error))

    found = [(status, error is None) for status, error, *_ in await ledger(engine)]
    assert found == [
        ("complete", True) if FAULTS[name].phase == "odd" else ("failed", False) for name in tried
    ]  # fmt: skip
    assert await open_holds(engine) == 0
    assert shown
    assert KEY not in shown


@pytest.mark.parametrize("name", ["cut", "reset", "overloaded", "no_stop", "bad_json"])
async def test_a_stream_that_breaks_is_recorded_with_its_text_and_the_next_turn_works(
    name: str, upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    upstream.script(fault(name, pause_after=2), reply("Fine now"))
    with pytest.raises(UpstreamError) as caught:
        async with engine.turn(ADA, chat, "hi") as turn:
            async for _ in turn:
                upstream.release()
    await ask(engine, chat, "again")

    assert caught.value.reply is not None
    assert caught.value.reply.text.startswith("Hello brave")
    assert [status for status, _ in await said(engine, chat)] == ["complete", "failed", "complete", "complete"]
    assert (await said(engine, chat))[3] == ("complete", "Fine now")


@pytest.mark.parametrize(
    ("name", "error_type", "input_tokens", "cost"),
    [
        ("401", "upstream_refused", 0, FREE),
        ("429", "upstream_rate_limited", 0, FREE),
        ("500", "upstream_error", 0, FREE),
        ("504", "upstream_timeout", 0, FREE),
        ("529", "upstream_overloaded", 0, FREE),
        ("error_first", "upstream_overloaded", 0, FREE),
        ("html_200", "upstream_refused", 0, FREE),
        # nobody can tell whether these were charged: 2 characters at 2.5 a token and 50 for what surrounds them
        ("reset_before", "connection_failed", 51, Decimal("0.000102")),
        ("empty_stream", "broke_off", 51, Decimal("0.000102")),
        ("json_200", "upstream_refused", 51, Decimal("0.000102")),
    ],
)
async def test_a_turn_that_fails_before_its_first_event_is_recorded_and_not_sent_again(
    name: str,
    error_type: str,
    input_tokens: int,
    cost: Decimal,
    upstream: ScriptedUpstream,
    engine: Engine,
    chat: ChatInfo,
) -> None:
    upstream.default = fault(name)
    with pytest.raises(UpstreamError) as caught:
        await ask(engine, chat, "hi")
    recorded = await ledger(engine)
    upstream.default = None
    await ask(engine, chat, "again")

    assert recorded == [("failed", error_type, input_tokens > 0, input_tokens, 0, cost)]
    assert (await said(engine, chat))[:2] == [("complete", "hi"), ("failed", "")]
    assert sent(upstream) == ["again"]
    assert caught.value.reply is not None
    assert (caught.value.reply.status, caught.value.reply.text, caught.value.reply.cost_usd) == ("failed", "", cost)


async def test_a_refused_connection_costs_nothing(upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo) -> None:
    upstream.refuse()
    try:
        with pytest.raises(UpstreamError):
            await ask(engine, chat)
    finally:
        upstream.accept()

    assert await ledger(engine) == [("failed", "connection_failed", False, 0, 0, FREE)]


@pytest.mark.parametrize(
    ("name", "stop_reason", "text", "sent_next"),
    [
        ("refusal", "refusal", "", ["again"]),
        ("refusal_partial", "refusal", "Hello brave new world", ["again"]),
        ("empty_content", "end_turn", "", ["again"]),
        ("empty_text", "end_turn", "", ["again"]),
        ("max_tokens", "max_tokens", "Hello brave new world", ["hi", "Hello brave new world", "again"]),
        ("max_tokens_thinking", "max_tokens", "", ["again"]),
    ],
)
async def test_an_unusual_reply_is_complete_and_sent_again_only_if_it_can_be(
    name: str,
    stop_reason: str,
    text: str,
    sent_next: list[str],
    upstream: ScriptedUpstream,
    engine: Engine,
    chat: ChatInfo,
) -> None:
    upstream.script(fault(name))
    turn = await ask(engine, chat, "hi")
    await ask(engine, chat, "again")

    assert (turn.reply.status, turn.reply.stop_reason, turn.reply.text) == ("complete", stop_reason, text)
    assert sent(upstream) == sent_next


async def test_an_error_of_the_reader_records_the_turn_as_interrupted(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=1))
    with pytest.raises(ZeroDivisionError):
        async with engine.turn(ADA, chat, "hi") as turn:
            async for _ in turn:
                raise ZeroDivisionError

    assert await said(engine, chat) == [("complete", "hi"), ("interrupted", "Hello")]


async def test_two_turns_at_once_on_one_chat_are_both_recorded(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    upstream.script(reply("One", pause_before=True), reply("Two", pause_before=True))
    first = asyncio.create_task(ask(engine, chat, "first"))
    await upstream.until(lambda u: u.paused == 1)
    second = asyncio.create_task(ask(engine, chat, "second"))
    await upstream.until(lambda u: u.paused == 2)
    upstream.release(2)
    await asyncio.gather(first, second)

    assert [text for _, text in await said(engine, chat)] == ["first", "One", "second", "Two"]
    assert sent(upstream) == ["second"]
    assert [status for status, *_ in await ledger(engine)] == ["complete", "complete"]


# Leaving and cancelling ----------------------------------------------------------------------------------------------


async def test_leaving_early_records_what_came_with_its_exact_input(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    usage = Usage(12, 5000, 300, 200, output_tokens=400)
    upstream.script(reply("Hello brave new world", usage=usage, pause_after=1))
    async with engine.turn(ADA, chat, "hi") as turn:
        async for _ in turn:
            break

    # 5 characters at 3.2 a token are 2: 12 x 2 + 5,000 x 0.10 + 300 x 2.50 + 200 x 4 + 2 x 10 dollars per million
    assert await ledger(engine) == [("interrupted", None, True, 5512, 2, Decimal("0.002094"))]
    assert await said(engine, chat) == [("complete", "hi"), ("interrupted", "Hello")]
    assert turn.reply.text == "Hello"
    assert await open_holds(engine) == 0


async def test_a_row_of_a_table_is_asked_by_itself_and_once(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    mapped, chat.system = Caller(source="map"), "You are terse."
    upstream.script(fault("cut"), fault("529"), reply("Four"))
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}}
    for _ in range(2):
        with pytest.raises(UpstreamError):
            async with engine.turn(mapped, chat, "2+2?", schema=schema) as turn:
                async for _ in turn:
                    pass
    async with engine.turn(mapped, chat, "2+2?", schema=schema) as turn:
        async for _ in turn:
            pass

    assert [(len(request.body["messages"]), sent(upstream)) for request in upstream.requests] == 3 * [(1, ["2+2?"])]
    assert upstream.last.body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    # the question is not worth keeping in a cache, what all of them share may be
    assert "cache_control" not in upstream.last.body
    assert upstream.last.body["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert [status for status, _ in (await said(engine, chat))[1::2]] == ["failed", "failed", "complete"]


async def test_leaving_early_closes_the_upstream_before_anything_is_written(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo, backend: Troubled
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=1))

    async def leave() -> None:
        async with engine.turn(ADA, chat, "hi") as turn:
            async for _ in turn:
                break

    backend.stop_at("record")
    leaving = asyncio.create_task(leave())
    await backend.arrived("record")
    await upstream.until(lambda u: u.disconnects)
    backend.go_on("record")
    await leaving


async def test_an_iterator_kept_for_later_ends_with_the_turn(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=1))
    async with engine.turn(ADA, chat, "hi") as turn:
        deltas = aiter(turn)
        await anext(deltas)

    assert [delta async for delta in deltas] == []
    assert await said(engine, chat) == [("complete", "hi"), ("interrupted", "Hello")]
    gc.collect()


async def test_a_live_turn_can_be_read_once(engine: Engine, chat: ChatInfo) -> None:
    async with engine.turn(ADA, chat, "hi") as turn:
        async for _ in turn:
            break
        with pytest.raises(RuntimeError, match="read once"):
            turn.batches()


async def test_cancelling_while_the_question_is_written_records_a_turn_that_cost_nothing(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo, backend: Troubled
) -> None:
    backend.stop_at("begin")
    task = asyncio.create_task(ask(engine, chat))
    await backend.arrived("begin")
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    backend.go_on("begin")
    await cancelled(task)

    assert upstream.requests == []
    assert await ledger(engine) == [("interrupted", None, False, 0, 0, FREE)]
    assert await said(engine, chat) == [("complete", "hi"), ("interrupted", "")]
    assert await open_holds(engine) == 0


async def test_cancelling_while_the_question_cannot_be_written_records_nothing(
    engine: Engine, chat: ChatInfo, backend: Troubled
) -> None:
    backend.stop_at("begin")
    backend.failing.add("begin")
    task = asyncio.create_task(ask(engine, chat))
    await backend.arrived("begin")
    task.cancel()
    backend.go_on("begin")
    with pytest.raises(StoreError):
        await task

    assert await ledger(engine) == []
    assert await said(engine, chat) == []


async def test_cancelling_while_the_end_is_written_does_not_lose_it(
    engine: Engine, chat: ChatInfo, backend: Troubled
) -> None:
    backend.stop_at("record")
    task = asyncio.create_task(ask(engine, chat))
    await backend.arrived("record")
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await turns_of_the_loop(20)
    assert not task.done()
    backend.go_on("record")
    await cancelled(task)

    assert [status for status, *_ in await ledger(engine)] == ["complete"]


async def test_cancelling_before_the_first_event_records_an_estimate_of_the_input(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    upstream.script(reply("Hello", pause_before=True))
    task = asyncio.create_task(ask(engine, chat))
    await upstream.until(lambda u: u.paused)
    task.cancel()
    await cancelled(task)

    await upstream.until(lambda u: u.disconnects)
    assert await ledger(engine) == [("interrupted", None, True, 51, 0, Decimal("0.000102"))]


async def test_cancelling_between_two_attempts_costs_nothing(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(engine_module, "Claude", partial(Claude, sleep=sleep))
    upstream.script(fault("529"))
    task = asyncio.create_task(ask(engine, chat))
    await waiting.wait()
    task.cancel()
    await cancelled(task)

    assert await ledger(engine) == [("interrupted", None, False, 0, 0, FREE)]


async def test_cancelling_in_mid_reply_records_what_came(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=1))
    reading = asyncio.Event()

    async def read() -> None:
        async with engine.turn(ADA, chat, "hi") as turn:
            async for _ in turn:
                reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    await cancelled(task)

    await upstream.until(lambda u: u.disconnects)
    assert await said(engine, chat) == [("complete", "hi"), ("interrupted", "Hello")]


async def test_a_scope_of_anyio_that_is_cancelled_records_the_turn(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=1))
    with anyio.CancelScope() as scope:
        async with engine.turn(ADA, chat, "hi") as turn:
            async for _ in turn:
                scope.cancel()

    assert scope.cancelled_caught
    assert await said(engine, chat) == [("complete", "hi"), ("interrupted", "Hello")]


async def test_a_scope_of_anyio_does_not_cancel_again_and_again_while_the_end_is_written(
    engine: Engine, chat: ChatInfo, backend: Troubled
) -> None:
    async def leave() -> None:
        with anyio.CancelScope() as scope:
            async with engine.turn(ADA, chat, "hi"):
                scope.cancel()

    backend.stop_at("record")
    task = asyncio.create_task(leave())
    await backend.arrived("record")
    await turns_of_the_loop(50)
    assert task.cancelling() <= 1
    backend.go_on("record")
    await task


async def test_a_timeout_around_a_turn_is_still_a_timeout(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as deadline, engine.turn(ADA, chat, "hi") as turn:
            async for _ in turn:
                deadline.reschedule(asyncio.get_running_loop().time())

    assert await said(engine, chat) == [("complete", "hi"), ("interrupted", "Hello")]


def test_a_loop_that_shuts_down_records_its_turns(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """``asyncio.run`` cancels every task at once, also the one that is to write the end of a turn."""
    upstream.script(reply("Hello brave new world", pause_after=1))

    async def run_on(engine: Engine, reading: asyncio.Event) -> None:
        try:
            async with engine.turn(ADA, engine.new_chat(), "hi") as turn:
                async for _ in turn:
                    reading.set()
        finally:
            await engine.aclose()
            engine.store.close()

    async def leave_it_running() -> None:
        reading = asyncio.Event()
        task = asyncio.create_task(run_on(await opened(upstream, tmp_path), reading))
        await reading.wait()
        assert not task.done()

    async def look() -> list[tuple[Any, ...]]:
        engine = await opened(upstream, tmp_path)
        found = await ledger(engine)
        engine.store.close()
        return found

    asyncio.run(leave_it_running())

    assert [(status, tokens) for status, _, _, _, tokens, _ in asyncio.run(look())] == [("interrupted", 2)]


async def test_work_whose_own_task_is_cancelled_is_done_once_more() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(len(done))

    task = asyncio.create_task(engine_module.to_the_end(work))
    await asyncio.sleep(0)  # it has made the task of the work, which has not begun
    (inner,) = asyncio.all_tasks() - {task, asyncio.current_task()}
    inner.cancel()

    assert await task is None
    assert done == [0]


# The store fails -----------------------------------------------------------------------------------------------------


async def test_a_question_that_cannot_be_written_is_not_asked(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo, backend: Troubled
) -> None:
    backend.failing.add("begin")
    with pytest.raises(StoreError):
        await ask(engine, chat, "hi")
    backend.failing.clear()
    await ask(engine, chat, "again")

    assert upstream.requests_total == 1
    assert [text for _, text in await said(engine, chat)][:1] == ["again"]


async def test_an_end_that_cannot_be_written_is_in_the_error_and_written_with_the_next_turn(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo, backend: Troubled
) -> None:
    upstream.script(reply("Hello world"))
    backend.failing.add("record")
    with pytest.raises(StoreError) as caught:
        await ask(engine, chat, "hi")
    with pytest.raises(StoreError):
        await ask(engine, chat, "too early")
    backend.failing.clear()
    await ask(engine, chat, "again")

    assert caught.value.reply is not None
    assert (caught.value.reply.text, caught.value.reply.status) == ("Hello world", "complete")
    assert sent(upstream) == ["hi", "Hello world", "again"]
    assert [status for status, *_ in await ledger(engine)] == ["complete", "complete"]
    assert await open_holds(engine) == 0


async def test_a_turn_that_cannot_be_written_is_in_the_log(
    engine: Engine, chat: ChatInfo, backend: Troubled, caplog: pytest.LogCaptureFixture
) -> None:
    backend.failing.add("record")
    with pytest.raises(StoreError):
        async with engine.turn(ADA, chat, "hi", request_id="r1"):
            pass
    backend.failing.clear()

    ids = {"requestId": "r1", "chatId": chat.id}
    assert lines(caplog)[-1] == ("ERROR", "Turn not saved yet", {**ids, "error": "store_error"})


async def test_letters_no_text_should_hold_are_recorded_all_the_same(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    upstream.script(reply(["a\0b", "\u202e", "\ufffe"]))

    await ask(engine, chat)

    assert await said(engine, chat) == [("complete", "hi"), ("complete", "a\0b\u202e\ufffe")]


async def test_a_failed_turn_that_cannot_be_written_either_keeps_its_first_error_in_view(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo, backend: Troubled
) -> None:
    upstream.script(fault("cut"))
    backend.failing.add("record")
    with pytest.raises(StoreError) as caught:
        await ask(engine, chat)
    backend.failing.clear()

    assert isinstance(caught.value.__context__, UpstreamError)
    assert caught.value.reply is not None
    assert (caught.value.reply.text, caught.value.reply.status) == ("Hello brave", "failed")


async def test_ends_kept_back_are_written_once_each_by_turns_that_begin_together(
    upstream: ScriptedUpstream, engine: Engine, backend: Troubled
) -> None:
    upstream.default = reply("Hello", pause_before=True)
    kept_back = [asyncio.create_task(ask(engine, engine.new_chat())) for _ in range(3)]
    await upstream.until(lambda u: u.paused == 3)
    backend.failing.add("record")
    upstream.release(3)
    failures = await asyncio.gather(*kept_back, return_exceptions=True)
    backend.failing.clear()
    upstream.default = None
    await asyncio.gather(*[ask(engine, engine.new_chat()) for _ in range(3)])

    assert [type(failure) for failure in failures] == [StoreError] * 3
    assert [status for status, *_ in await ledger(engine)] == ["complete"] * 6


async def test_closing_writes_what_could_not_be_written(engine: Engine, chat: ChatInfo, backend: Troubled) -> None:
    backend.failing.add("record")
    with pytest.raises(StoreError):
        await ask(engine, chat)
    backend.failing.clear()
    await engine.aclose()

    assert [status for status, *_ in await ledger(engine)] == ["complete"]


# Partial replies -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partial replies are saved every hundredth of a second instead of every two."""
    monkeypatch.setattr(engine_module, "CHECKPOINT_SECONDS", 0.01)


async def until(claim: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await claim():
            await asyncio.sleep(0.005)


@pytest.mark.usefixtures("hasty")
async def test_a_partial_reply_is_saved_though_the_stream_is_silent(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=1))

    async def saved() -> bool:
        return await said(engine, chat) == [("complete", "hi"), ("streaming", "Hello")]

    async with engine.turn(ADA, chat, "hi") as turn:
        deltas = aiter(turn)
        await anext(deltas)
        await until(saved)


@pytest.mark.usefixtures("hasty")
async def test_saving_a_partial_reply_holds_up_no_delta(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo, backend: Troubled
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=1))
    backend.stop_at("checkpoint")
    async with engine.turn(ADA, chat, "hi") as turn:
        deltas = aiter(turn)
        texts = [(await anext(deltas)).text]
        await backend.arrived("checkpoint")
        upstream.release()
        texts += [delta.text async for delta in deltas]
        backend.go_on("checkpoint")

    assert texts == ["Hello", " brave", " new", " world"]


@pytest.mark.usefixtures("hasty")
async def test_a_partial_reply_is_never_written_over_the_whole_one(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo, backend: Troubled
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=1))
    backend.stop_at("checkpoint")
    backend.stop_at("record")

    async def leave() -> None:
        async with engine.turn(ADA, chat, "hi") as turn:
            async for _ in turn:
                await backend.arrived("checkpoint")
                return

    task = asyncio.create_task(leave())
    await backend.arrived("checkpoint")
    await upstream.until(lambda u: u.disconnects)
    await turns_of_the_loop(20)
    assert not backend.has_arrived("record")
    backend.go_on("checkpoint")
    await backend.arrived("record")
    backend.go_on("record")
    await task

    assert await said(engine, chat) == [("complete", "hi"), ("interrupted", "Hello")]


@pytest.mark.usefixtures("hasty")
async def test_a_partial_reply_that_cannot_be_saved_ends_no_turn(
    upstream: ScriptedUpstream,
    engine: Engine,
    chat: ChatInfo,
    backend: Troubled,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=1))
    backend.failing.add("checkpoint")

    async def warned() -> bool:
        return "Partial reply not saved" in caplog.messages

    async with engine.turn(ADA, chat, "hi") as turn:
        deltas = aiter(turn)
        await anext(deltas)
        await until(warned)
        upstream.release()
        async for _ in deltas:
            pass

    assert await said(engine, chat) == [("complete", "hi"), ("complete", "Hello brave new world")]


@pytest.mark.usefixtures("hasty")
async def test_a_partial_reply_that_cannot_be_saved_any_more_holds_up_no_end(
    upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo, backend: Troubled
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=1))
    backend.stop_at("checkpoint")
    backend.failing.add("checkpoint")

    async def leave() -> None:
        async with engine.turn(ADA, chat, "hi") as turn:
            async for _ in turn:
                await backend.arrived("checkpoint")
                return

    task = asyncio.create_task(leave())
    await upstream.until(lambda u: u.disconnects)
    backend.go_on("checkpoint")
    await asyncio.wait_for(task, 30)

    assert await said(engine, chat) == [("complete", "hi"), ("interrupted", "Hello")]


# Refused before anything is written ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "max_tokens", "words"),
    [("  ", None, "empty"), ("a\x00b", None, "NUL"), ("\ud83d", None, "surrogate"), ("hi", 0, "max_tokens is 0")],
)
async def test_a_question_that_cannot_be_sent_is_refused_and_nothing_is_written(
    question: str, max_tokens: int | None, words: str, upstream: ScriptedUpstream, engine: Engine, chat: ChatInfo
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        async with engine.turn(ADA, chat, question, max_tokens=max_tokens):
            pass

    assert await engine.store.backend.rows("SELECT COUNT(*) FROM chats") == [(0,)]
    assert upstream.requests == []


@pytest.mark.parametrize("question", [None, 5, b"hi", ["hi"]])
async def test_a_question_that_is_no_text_is_refused(question: Any, engine: Engine, chat: ChatInfo) -> None:
    with pytest.raises(InvalidRequest, match=f"the message is of type {type(question).__name__}; it must be a text"):
        async with engine.turn(ADA, chat, question):
            raise AssertionError


@pytest.mark.parametrize(
    ("caller", "model", "words"),
    [
        (Caller(org_id="\ud83d"), None, "the id of the org holds characters that are no text"),
        (Caller(user_id=None), None, "the id of the user is of type NoneType"),  # type: ignore[arg-type]
        (ADA, "claude\x00", "the model holds characters that are no text"),
    ],
)
async def test_what_else_is_no_text_is_refused(
    caller: Caller, model: str | None, words: str, engine: Engine, chat: ChatInfo
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        async with engine.turn(caller, chat, "hi", model=model):
            raise AssertionError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"system": "\udcff"}, "the system prompt holds characters"),
        ({"title": "a\x00b"}, "the title holds characters"),
        ({"model": "\udcff"}, "the model holds characters"),
        ({"max_tokens": -1}, "max_tokens is -1; a reply needs a whole number of at least 1"),
        ({"max_tokens": 1.5}, r"max_tokens is 1\.5"),
    ],
)
async def test_a_chat_that_could_not_be_kept_or_asked_is_refused(
    options: dict[str, Any], words: str, engine: Engine
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        engine.new_chat(**options)


async def test_a_chats_bound_beyond_any_is_the_settings_bound(upstream: ScriptedUpstream, engine: Engine) -> None:
    upstream.script(reply("Hello"))
    async with engine.turn(ADA, engine.new_chat(max_tokens=10**20), "hi") as turn:
        async for _ in turn:
            pass

    assert upstream.last.body["max_tokens"] == 4096


@pytest.mark.parametrize("case", ["no file", "no model", "no package", "no start"])
async def test_an_embedded_model_that_cannot_be_had_is_refused_and_nothing_is_written(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = tmp_path / "model.gguf"
    if case != "no file":
        gguf.write_bytes(b"ducks" if case == "no model" else b"GGUF and nothing more")
    if case == "no package":
        monkeypatch.setitem(sys.modules, "xllamacpp", None)
    settings = read_settings(CLAUDE_MODEL="local", WORKBENCH_LOCAL_GGUF=str(gguf), WORKBENCH_STORE=":memory:")
    engine = Engine(settings, await Store.open(":memory:"))

    with pytest.raises(ConfigurationError, match=r"model\.gguf|xllamacpp"):
        await ask(engine, engine.new_chat())

    assert await engine.store.backend.rows("SELECT COUNT(*) FROM chats") == [(0,)]
    engine.store.close()


# The log -------------------------------------------------------------------------------------------------------------


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, Any]]]:
    usual = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
    return [
        (record.levelname, record.message, {k: v for k, v in vars(record).items() if k not in usual})
        for record in caplog.records
    ]


async def test_the_log_of_a_turn_has_the_lines_of_the_contract(
    engine: Engine, upstream: ScriptedUpstream, chat: ChatInfo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "workbench")
    upstream.script(reply("Hello world", usage=Usage(25, output_tokens=40)))
    async with engine.turn(ADA, chat, "a secret question", request_id="r1") as turn:
        async for _ in turn:
            pass

    ids = {"requestId": "r1", "chatId": chat.id}
    assert lines(caplog) == [
        ("INFO", "Claude service initialized", {"model": "claude-sonnet-5-5", "maxTokens": 4096}),
        (
            "INFO",
            "Starting Claude stream",
            {**ids, "messageCount": 1, "model": "claude-sonnet-5-5", "maxTokens": 4096},
        ),
        (
            "INFO",
            "Claude stream completed",
            {
                **ids,
                "inputTokens": 25,
                "outputTokens": 40,
                "totalTokens": 65,
                "responseLength": 11,
                "ttftMs": turn.ttft_ms,
                "costUsd": "0.00045",
            },
        ),
    ]


@pytest.mark.parametrize(("name", "error"), [("400", "Claude refused the request"), ("cut", "Connection failed")])
async def test_the_log_of_a_failed_turn_names_the_error_without_the_upstreams_words(
    name: str,
    error: str,
    engine: Engine,
    upstream: ScriptedUpstream,
    chat: ChatInfo,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream.script(fault(name))
    with pytest.raises(UpstreamError):
        await ask(engine, chat)

    level, message, values = lines(caplog)[-1]
    assert (level, message) == ("ERROR", "Claude stream error")
    assert values == {"requestId": values["requestId"], "chatId": chat.id, "error": error}


async def test_neither_texts_nor_keys_are_logged(
    engine: Engine, upstream: ScriptedUpstream, chat: ChatInfo, backend: Troubled, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "workbench")
    upstream.script(reply("a confidential reply"), fault("400"), fault("cut", "a confidential reply"))
    await ask(engine, chat, "a secret question")
    for _ in range(2):
        with pytest.raises(UpstreamError):
            await ask(engine, chat, "a secret question")

    logged = repr(lines(caplog))
    assert not [word for word in ("secret", "confidential", KEY, "Input is not valid") if word in logged]


@pytest.mark.parametrize("stored", [False, True])
async def test_a_turn_that_a_slow_store_began_after_it_was_given_up_counts_for_nothing(
    upstream: ScriptedUpstream, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    owner = await Store.open(str(tmp_path / "store.duckdb"))
    engine = await opened(upstream, tmp_path)
    chat, busy = engine.new_chat(), threading.Event()
    upstream.script(*[reply("Hello")] * 2)
    before = [(await ask(engine, chat)).id] if stored else []
    await engine.store._begin_known(ADA.org_id, ADA.user_id)

    with monkeypatch.context() as patch:
        patch.setattr(flight, "PATIENCE", 0.5)
        cast("Any", owner.backend)._host.file._writer.submit(lambda: busy.wait(60))
        with pytest.raises(StoreBusy, match="does not answer"):
            await ask(engine, chat)
    busy.set()
    turn = await ask(engine, chat)

    assert len(upstream.requests) == len(before) + 1
    for sql in ("SELECT id FROM holds ORDER BY started_at", "SELECT id FROM usage ORDER BY started_at"):
        assert [id for (id,) in await owner.backend.rows(sql)] == [*before, turn.id]
    assert {message.status for message in await engine.store.messages(ADA, chat.id)} == {"complete"}
    await engine.aclose()
    await asyncio.to_thread(engine.store.close)
    owner.close()


async def test_all_who_wait_for_turns_to_be_saved_hear_at_once_that_they_cannot(
    engine: Engine, backend: Troubled, chat: ChatInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.failing = {"record"}
    with pytest.raises(StoreError):
        await ask(engine, chat)
    record, attempts = engine.store.record, list[LiveTurn]()

    async def counted(turn: LiveTurn) -> None:
        attempts.append(turn)
        await record(turn)

    monkeypatch.setattr(engine.store, "record", counted)
    backend.stop_at("record")
    asking = [asyncio.create_task(ask(engine, engine.new_chat())) for _ in range(5)]
    await backend.arrived("record")
    backend.go_on("record")
    failed = await asyncio.gather(*asking, return_exceptions=True)

    assert [str(error) for error in failed] == ["the disk is full"] * 5
    assert len(attempts) == 1
    backend.failing.clear()
    assert (await ask(engine, chat)).status == "complete"
    assert [status for status, *_ in await ledger(engine)] == ["complete"] * 2
