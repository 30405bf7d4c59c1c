"""One turn against the scripted upstream: recorded however it ends."""

from pathlib import Path

import pytest

from tests.faults.upstream import ScriptedUpstream, fault, reply
from workbench.engine import Engine
from workbench.errors import InvalidRequest, UpstreamError
from workbench.settings import read_settings
from workbench.store import Store
from workbench.turns import Caller

ADA = Caller()


async def _engine(upstream: ScriptedUpstream, folder: Path) -> Engine:
    path = str(folder / "store.duckdb")
    settings = read_settings(ANTHROPIC_API_KEY="sk-test", ANTHROPIC_BASE_URL=upstream.url, WORKBENCH_STORE=path)
    return Engine(settings, await Store.open(path))


async def _end(engine: Engine) -> None:
    await engine.aclose()
    engine.store.close()


@pytest.mark.parametrize("name", ["cut", "reset", "overloaded", "no_stop", "bad_json"])
async def test_a_stream_that_breaks_is_recorded_with_its_text_and_the_next_turn_works(
    name: str, tmp_path: Path
) -> None:
    with ScriptedUpstream() as upstream:
        engine = await _engine(upstream, tmp_path)
        chat = engine.new_chat()
        upstream.script(fault(name, after=2), reply("Fine now"))
        with pytest.raises(UpstreamError) as caught:
            async with engine.turn(ADA, chat, "hi") as turn:
                async for _ in turn:
                    pass
        async with engine.turn(ADA, chat, "again") as turn:
            async for _ in turn:
                pass
        messages = await engine.store.messages(ADA, chat.id)
        await _end(engine)

    assert caught.value.reply is not None
    assert [m.status for m in messages] == ["complete", "failed", "complete", "complete"]
    assert messages[1].content.startswith("Hello")
    assert messages[3].content == "Fine now"


async def test_leaving_early_records_what_came(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream:
        engine = await _engine(upstream, tmp_path)
        upstream.script(reply("Hello brave new world", pause_after=1))
        async with engine.turn(ADA, engine.new_chat(), "hi") as turn:
            async for _ in turn:
                break
        rows = await engine.store.backend.rows("SELECT status, usage_estimated FROM usage")
        holds = await engine.store.backend.rows("SELECT state FROM holds")
        await _end(engine)

    assert turn.reply.text == "Hello"
    assert rows == [("interrupted", True)]
    assert holds == [("settled",)]


async def test_an_empty_message_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream:
        engine = await _engine(upstream, tmp_path)
        with pytest.raises(InvalidRequest, match="empty"):
            async with engine.turn(ADA, engine.new_chat(), "  "):
                pass
        rows = await engine.store.backend.rows("SELECT COUNT(*) FROM chats")
        await _end(engine)

    assert rows == [(0,)]
    assert upstream.requests == []
