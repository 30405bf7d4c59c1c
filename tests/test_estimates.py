"""What a turn will use and cost, before it is asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.faults.upstream import ScriptedUpstream, reply
from tests.faults.upstream import Usage as Counts
from workbench import runtime
from workbench.attachments import attach
from workbench.errors import InvalidRequest
from workbench.estimates import TYPICAL_REPLY, Estimate, estimate_turn, text_tokens
from workbench.history import most_input_tokens, window
from workbench.turns import Caller, Message, Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workbench.history import Window

NOW = datetime(2026, 11, 28, 9, tzinfo=UTC)
ADA = Caller()
SONNET = "claude-sonnet-5-5"  # $2 in, $0.10 from cache, $2.50 into it, $10 out


def turn_of(n: int, question_tokens: int | None = 10, reply_tokens: int | None = 20) -> list[Message]:
    def message(seq: int, role: Any, tokens: int | None) -> Message:
        text = "word " * 10
        return Message(
            id=f"{role}-{n}",
            chat_id="c",
            seq=seq,
            role=role,
            content=text,
            blocks=[{"type": "text", "text": text}],
            token_count=tokens,
            model=SONNET if role == "assistant" else None,
            created_at=NOW,
        )

    return [message(2 * n, "user", question_tokens), message(2 * n + 1, "assistant", reply_tokens)]


def used(n: int, seconds_ago: float = 60, **counts: int) -> Reply:
    return Reply(
        text="",
        usage=Usage(**counts),
        cost_usd=Decimal(0),
        chat_id="c",
        message_id=f"assistant-{n}",
        request_id="r",
        model=SONNET,
        status="complete",
        stop_reason="end_turn",
        ttft_ms=1,
        duration_ms=0,
        created_at=NOW - timedelta(seconds=seconds_ago),
    )


def estimated(
    messages: list[Message],
    replies: list[Reply],
    question: str = "word " * 100,
    *,
    model: str = SONNET,
    system: str | None = None,
    limit: int = 20,
    max_tokens: int = 4096,
) -> Estimate:
    sent = window(messages, question, limit=limit, model=model)
    return estimate_turn(sent, model=model, system=system, replies=replies, limit=limit, max_tokens=max_tokens, now=NOW)


QUESTION = 7 + text_tokens("word " * 100)


def test_a_first_question_counts_with_the_system_prompt_and_a_typical_reply() -> None:
    system = "You are terse. " * 20
    first = estimated([], [], system=system)
    tokens = QUESTION + text_tokens(system)

    assert (first.input_tokens, first.cached_tokens, first.reply_tokens) == (tokens, 0, TYPICAL_REPLY)
    assert first.input_usd == tokens * Decimal("0.000002")
    assert first.cost_usd == first.input_usd + 300 * Decimal("0.00001")


def test_an_estimate_is_written_as_people_read_it() -> None:
    known = estimated([], [])
    assert str(known) == f"claude-sonnet-5-5 · about {QUESTION} in + 300 out tokens · $0.0033"
    assert str(replace(known, cached_tokens=1500, cost_usd=None)) == (
        f"claude-sonnet-5-5 · about {QUESTION} in + 300 out tokens · 1,500 from cache · unknown"
    )


def test_what_the_upstream_counted_is_not_estimated_again() -> None:
    messages = [*turn_of(0), *turn_of(1)]
    replies = [
        used(1, uncached_input_tokens=500, output_tokens=40),
        used(0, uncached_input_tokens=50, output_tokens=20),
    ]

    assert estimated(messages, replies).input_tokens == 540 + QUESTION


def test_a_reply_is_taken_to_be_as_long_as_the_median_of_the_chat_and_no_longer_than_allowed() -> None:
    messages = [*turn_of(0), *turn_of(1), *turn_of(2)]
    replies = [used(n, output_tokens=tokens) for n, tokens in enumerate((100, 900, 200))]

    assert estimated(messages, replies).reply_tokens == 200
    assert estimated(messages, replies, max_tokens=64).reply_tokens == 64


def test_what_the_last_turn_left_in_the_cache_is_read_from_it_for_five_minutes() -> None:
    counts = {"cache_read_tokens": 1000, "cache_write_5m_tokens": 500, "output_tokens": 100}
    warm = estimated(turn_of(0), [used(0, 200, **counts)])
    cold = estimated(turn_of(0), [used(0, 400, **counts)])
    new = 100 + QUESTION

    assert (warm.input_tokens, warm.cached_tokens) == (1500 + new, 1500)
    assert warm.input_usd == (1500 * Decimal("0.1") + new * Decimal("2.5")) / 1_000_000
    assert (cold.input_tokens, cold.cached_tokens) == (1500 + new, 0)
    assert cold.input_usd == (1500 + new) * Decimal("2.5") / 1_000_000


def test_after_the_front_of_the_chat_was_cut_nothing_of_it_is_in_the_cache() -> None:
    messages = [message for n in range(3) for message in turn_of(n)]
    replies = [used(2, cache_read_tokens=5000, output_tokens=20)]
    whole, cut = estimated(messages, replies, limit=20), estimated(messages, replies, limit=6)

    assert (whole.input_tokens, whole.cached_tokens) == (5020 + QUESTION, 5000)
    assert (cut.input_tokens, cut.cached_tokens) == (30 + QUESTION, 0)  # one turn of 10 + 20 is left


def test_messages_that_were_never_counted_are_estimated_and_the_system_prompt_with_them() -> None:
    messages = turn_of(0, None, None)
    system = "You are terse."
    uncounted = estimated(messages, [], system=system)

    assert uncounted.input_tokens == 2 * text_tokens("word " * 10) + text_tokens(system) + QUESTION
    assert estimated(turn_of(0), [], system=system).input_tokens == 30 + QUESTION


@pytest.mark.parametrize(
    "change",
    [{"model": "claude-haiku-5-5"}, {"status": "interrupted"}, {"usage": Usage(output_tokens=9, estimated=True)}],
)
def test_a_reply_of_another_model_or_that_broke_off_tells_nothing_of_the_cache(change: dict[str, Any]) -> None:
    last = replace(used(0, cache_read_tokens=5000, output_tokens=20), **change)

    assert (estimated(turn_of(0), [last]).input_tokens, estimated(turn_of(0), [last]).cached_tokens) == (
        30 + QUESTION,
        0,
    )


def test_an_unknown_price_is_unknown_and_the_embedded_model_is_free() -> None:
    assert estimated([], [], model="claude-9").cost_usd is None
    assert estimated([], [], model="local").cost_usd == 0


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        # by ctok 1.3 with the vocabulary of Opus 4.8 and later
        (
            "What is the average revenue by region, and why did the north drop in March? Explain it step by step, please.",
            36,
        ),
        ("地域ごとの平均売上はいくらですか。三月に北部の売上が減った理由を説明してください。" * 5, 186),
        ("🎉🚀😀👍" * 20, 206),
    ],
)
def test_texts_are_counted_nearly_as_claude_counts_them(text: str, counted: int) -> None:
    assert text_tokens(text) == pytest.approx(counted, rel=0.15)


def test_only_the_beginning_of_a_long_text_is_looked_at() -> None:
    assert text_tokens("word " * 1_000_000) == pytest.approx(250 * text_tokens("word " * 4000), rel=0.01)


def test_a_picture_counts_by_its_size_and_not_by_its_bytes() -> None:
    picture = attach("x", Image.new("RGB", (750, 100)))
    with_picture = window([], "why?", limit=20, model=SONNET, attached=picture.blocks)
    named = window([], "why?", limit=20, model=SONNET, attached=[picture.block])

    def tokens(sent: Window) -> int:
        told = estimate_turn(sent, model=SONNET, system=None, replies=[], limit=20, max_tokens=9, now=NOW)
        return told.input_tokens

    assert tokens(with_picture) == tokens(named) + 100
    # what is held for it covers the largest picture that is sent, 1568 x 1568 / 750 tokens, and no more by much
    assert 3279 <= most_input_tokens(with_picture.messages, None) - most_input_tokens(named.messages, None) < 3500
    assert 3279 <= (with_picture.characters - named.characters) / 2.5 < 4500


def test_the_embedded_model_is_sent_no_pictures_of_earlier_turns() -> None:
    question, answer = turn_of(0)
    seen = replace(question, blocks=[*attach("x", Image.new("L", (8, 8))).blocks, *question.blocks])
    sent = {model: window([seen, answer], "and?", limit=20, model=model).messages[0] for model in (SONNET, "local")}

    assert [block["type"] for block in sent[SONNET]["content"]] == ["text", "image", "text"]
    assert [block["type"] for block in sent["local"]["content"]] == ["text", "text"]


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", upstream.url)
        monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store.duckdb"))
        runtime.close()
        yield upstream
        runtime.close()


def test_the_engine_estimates_what_it_would_send_and_neither_asks_nor_writes(upstream: ScriptedUpstream) -> None:
    current = runtime.runtime()
    engine = current.engine
    chat = engine.new_chat(system="You are terse.")
    attached = [{"type": "text", "text": "a table " * 100}]
    alone = current.run(engine.estimate(Caller(), chat, [], [], "why?"))
    more = current.run(engine.estimate(Caller(), chat, [], [], "why?", attached))

    assert more.input_tokens - alone.input_tokens == text_tokens("a table " * 100)
    assert alone.context_window == 1_000_000
    assert upstream.requests == [] and not chat.stored
    assert current.run(engine.store.backend.rows("SELECT count(*) FROM usage")) == [(0,)]


def test_what_is_attached_is_sent_and_kept_before_the_question_and_sent_again_with_the_next(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script(reply("One.", usage=Counts(uncached_input_tokens=300, output_tokens=2)), reply("Two."))
    current = runtime.runtime()
    engine = current.engine
    chat = engine.new_chat()
    attached = [{"type": "text", "text": "a table"}]

    async def ask(question: str, attached: list[dict[str, Any]]) -> None:
        async with engine.turn(ADA, chat, question, attached=attached) as turn:
            async for _ in turn:
                pass

    current.run(ask("why?", attached))
    current.run(ask("and then?", []))
    asked = [*attached, {"type": "text", "text": "why?"}]
    first, second = (request.body["messages"] for request in upstream.requests)

    assert first == [{"role": "user", "content": asked}]
    assert second[0] == first[0]
    stored = current.run(engine.store.messages(ADA, chat.id))[0]
    assert (stored.content, stored.blocks, stored.token_count) == ("why?", asked, 300)


def test_the_embedded_model_is_asked_nothing_about_pictures(upstream: ScriptedUpstream) -> None:
    current = runtime.runtime()
    chat = current.engine.new_chat(model="local")

    async def ask() -> None:
        async with current.engine.turn(ADA, chat, "what is it?", attached=attach("x", Image.new("L", (8, 8))).blocks):
            pass

    with pytest.raises(InvalidRequest, match="the embedded model sees no pictures; ask Claude, or remove the picture"):
        current.run(ask())
    assert not chat.stored
