"""Which messages are sent: a bound, a front that rarely changes, and nothing the API would refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.history import Window, window
from workbench.pricing import Price, cost_of
from workbench.turns import Block, Message, Usage

SONNET = "claude-sonnet-5-5"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def text(words: str) -> list[Block]:
    return [{"type": "text", "text": words}]


def said(role: str, words: str, **changes: Any) -> Message:
    values = {
        "id": words,
        "chat_id": "c",
        "seq": 1,
        "role": role,
        "content": words,
        "blocks": text(words),
        "created_at": NOON,
        "model": SONNET if role == "assistant" else None,
    }
    return Message(**values | changes)


def turns(count: int, words: str = "") -> list[Message]:
    pairs = ((said("user", f"q{n}{words}"), said("assistant", f"a{n}{words}")) for n in range(1, count + 1))
    return [message for pair in pairs for message in pair]


def sent(messages: list[Message], question: str = "now", *, limit: int = 20, **options: Any) -> Window:
    return window(messages, question, limit=limit, model=options.pop("model", SONNET), **options)


def words(result: Window) -> list[str]:
    return ["".join(block.get("text", "") for block in message["content"]) for message in result.messages]


# How much ----------------------------------------------------------------------------------------------------------


def test_everything_is_sent_up_to_the_bound() -> None:
    result = sent(turns(9))

    assert len(result.messages) == 19
    assert words(result)[:2] == ["q1", "a1"]
    assert words(result)[-1] == "now"
    assert result.left_out == 0


def test_beyond_the_bound_half_is_dropped_at_once() -> None:
    result = sent(turns(10))

    assert len(result.messages) == 11
    assert words(result)[0] == "q6"
    assert result.left_out == 10


def test_over_sixty_turns_the_front_changes_only_every_ten_messages() -> None:
    fronts = [words(sent(turns(n)))[0] for n in range(1, 61)]
    changes = [n for n, (before, after) in enumerate(pairwise(fronts), start=2) if before != after]

    assert changes == [10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60]


def test_between_two_cuts_each_prompt_begins_with_the_one_before() -> None:
    prompts = [sent(turns(n)).messages for n in range(15, 20)]

    for before, after in pairwise(prompts):
        assert after[: len(before) - 1] == before[:-1]


@pytest.mark.parametrize(
    ("limit", "counts"),
    [
        (1, [1, 1, 1, 1, 1, 1, 1]),
        (2, [1, 1, 1, 1, 1, 1, 1]),
        (3, [1, 3, 3, 3, 3, 3, 3]),
        (4, [1, 3, 3, 3, 3, 3, 3]),
        (5, [1, 3, 5, 3, 5, 3, 5]),
        (6, [1, 3, 5, 3, 5, 3, 5]),
        (7, [1, 3, 5, 7, 5, 7, 5]),
        (9, [1, 3, 5, 7, 9, 5, 7]),
    ],
)
def test_small_and_odd_bounds_are_kept(limit: int, counts: list[int]) -> None:
    assert [len(sent(turns(n), limit=limit).messages) for n in range(7)] == counts


def test_a_small_window_is_kept_by_dropping_more() -> None:
    long = turns(9, " " + "x" * 320)  # about 110 tokens a message
    whole = sent(long)
    cut = sent(long, max_tokens=1000)

    assert whole.left_out == 0
    assert cut.left_out == 10
    assert cut.characters / 3.2 <= 1000
    assert words(cut)[0].startswith("q6")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("😀🎉🚀👩‍👩‍👧‍👦" * 40, 1080), ("你好世界这是一个测试" * 50, 800), ("1234567890" * 60, 600)],
    ids=["emoji", "Chinese", "digits"],
)
def test_a_small_window_holds_what_is_not_english_too(text: str, tokens: int) -> None:
    """``tokens`` is what SmolLM2 makes of the text."""
    result = sent(turns(20, text), text, limit=100, max_tokens=4000)

    assert 1 < len(result.messages) * tokens <= 4000


def test_a_window_too_small_for_any_history_still_gets_the_question() -> None:
    result = sent(turns(9, " " + "x" * 320), "y" * 4000, max_tokens=100)

    assert words(result) == ["y" * 4000]
    assert result.left_out == 18


def test_the_tokens_of_what_is_sent_are_known() -> None:
    counted = [said("user", "q", token_count=7), said("assistant", "a", token_count=5)]

    assert sent(counted).tokens == 12
    assert sent([]).tokens == 0


# What --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        said("assistant", "", blocks=[], status="failed"),
        said("assistant", "", blocks=[], status="interrupted"),
        said("assistant", "", blocks=[], status="lost"),
        said("assistant", "   ", status="interrupted"),
        said("assistant", "half", status="streaming"),
        said("assistant", "I cannot", stop_reason="refusal"),
        said("assistant", "", blocks=text(" \n")),
        said("assistant", "", blocks=[{"type": "tool_use", "id": "t", "name": "f", "input": {}}]),
    ],
    ids=["failed", "stopped", "lost", "blank", "streaming", "refused", "whitespace", "only a tool call"],
)
def test_a_turn_without_a_usable_reply_is_left_out(reply: Message) -> None:
    result = sent([*turns(1), said("user", "unanswered"), reply])

    assert words(result) == ["q1", "a1", "now"]


@pytest.mark.parametrize("status", ["interrupted", "failed", "lost"])
def test_a_reply_that_broke_off_is_sent_as_its_text_alone(status: str) -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "One, two"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ]
    result = sent([said("user", "count"), said("assistant", "One, two", blocks=blocks, status=status)])

    assert result.messages[1] == {"role": "assistant", "content": text("One, two")}


def test_a_question_nobody_answered_is_not_sent_twice() -> None:
    assert words(sent([said("user", "hello?")], "hello?")) == ["hello?"]


THOUGHT: list[Block] = [
    {"type": "thinking", "thinking": "", "signature": "sig"},
    {"type": "redacted_thinking", "data": "xx"},
    {"type": "text", "text": "So"},
]


def kinds(result: Window) -> list[str]:
    return [block["type"] for message in result.messages for block in message["content"]]


def test_thinking_is_sent_back_while_the_chat_is_whole_and_stays_with_its_model() -> None:
    chat = [said("user", "why"), said("assistant", "So", blocks=THOUGHT)]

    assert sent(chat).messages[1]["content"] == THOUGHT


def test_thinking_is_left_out_once_the_front_is_cut() -> None:
    chat = [*turns(9), said("user", "why"), said("assistant", "So", blocks=THOUGHT)]

    assert "thinking" not in kinds(sent(chat))
    assert "redacted_thinking" not in kinds(sent(chat))
    assert "thinking" in kinds(sent(chat, limit=40))


@pytest.mark.parametrize("asked", ["claude-opus-5-5", SONNET])
def test_thinking_is_left_out_once_another_model_takes_part(asked: str) -> None:
    chat = [said("user", "why"), said("assistant", "So", blocks=THOUGHT), *turns(1)]
    if asked == SONNET:
        chat[3] = said("assistant", "a1", model="claude-opus-5-5")

    assert kinds(sent(chat, model=asked)) == ["text"] * 5


def test_thinking_that_lost_its_signature_is_left_out() -> None:
    blocks = [{"type": "thinking", "thinking": "hm"}, *text("So")]

    assert kinds(sent([said("user", "why"), said("assistant", "So", blocks=blocks)])) == ["text", "text", "text"]


def test_a_tool_call_and_its_result_are_left_out_together() -> None:
    chat = [
        said("user", "weather?"),
        said("assistant", "", blocks=[{"type": "tool_use", "id": "t", "name": "f", "input": {}}]),
        said("user", "", blocks=[{"type": "tool_result", "tool_use_id": "t", "content": "rain"}]),
        said("assistant", "It rains"),
    ]

    assert words(sent(chat)) == ["weather?", "It rains", "now"]
    assert kinds(sent(chat)) == ["text", "text", "text"]


def test_the_search_results_inside_a_reply_stay_with_it() -> None:
    blocks = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        *text("Found"),
    ]

    assert sent([said("user", "find"), said("assistant", "Found", blocks=blocks)]).messages[1]["content"] == blocks


# What it saves -----------------------------------------------------------------------------------------------------

PRICE = Price(*map(Decimal, ("2", "0.10", "2.50", "4", "10")))


def cost_with_caching(windows: list[list[str]], tokens: int) -> Decimal:
    """What these prompts cost when each is cached and ``tokens`` long a message: the common front is read."""
    total, cached = Decimal(0), []
    for prompt in windows:
        common = next((n for n, (a, b) in enumerate(zip(cached, prompt, strict=False)) if a != b), len(cached))
        common = min(common, len(prompt))
        read = Usage(cache_read_tokens=common * tokens, cache_write_5m_tokens=(len(prompt) - common) * tokens)
        total += cost_of(read, PRICE)
        cached = prompt
    return total


def test_the_cost_of_three_turns_by_hand() -> None:
    # write 1; read 1, write 2; read 3, write 2: 5 written at $2.50 and 4 read at $0.10, 1000 tokens each
    prompts = [["q1"], ["q1", "a1", "q2"], ["q1", "a1", "q2", "a2", "q3"]]

    assert cost_with_caching(prompts, 1000) == Decimal("0.0129")
    # a front that moved is written again: 1 + 2 + 3, and 1 read
    assert cost_with_caching([*prompts[:2], ["q2", "a2", "q3"]], 1000) == Decimal("0.0151")


def test_cutting_in_blocks_costs_less_than_a_sliding_window_over_forty_turns() -> None:
    blocks = [words(sent(turns(n), f"q{n + 1}")) for n in range(40)]
    sliding = [words(sent(turns(n), f"q{n + 1}", limit=1000))[-19:] for n in range(40)]

    # 10 turns alike: 19 messages written, 81 read. Then 6 times: 11 + 4 x 2 written, 11 + 13 + 15 + 17 read.
    # 133 x $2.50 + 417 x $0.10, 375 tokens a message
    assert cost_with_caching(blocks, 375) == Decimal("0.140325")
    # Sliding writes all 19 anew 30 times: 589 x $2.50 + 81 x $0.10
    assert cost_with_caching(sliding, 375) == Decimal("0.555225")


PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Properties --------------------------------------------------------------------------------------------------------

some_text = st.sampled_from(["", " ", "hi", "Hello there", "x" * 500])
block = st.one_of(
    st.builds(lambda t: {"type": "text", "text": t}, some_text),
    st.sampled_from(
        [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "thinking", "thinking": "hm"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            {"type": "tool_result", "tool_use_id": "t", "content": "r"},
        ]
    ),
)
message = st.builds(
    said,
    st.sampled_from(["user", "assistant"]),
    some_text,
    blocks=st.lists(block, max_size=3),
    status=st.sampled_from(["complete", "interrupted", "failed", "lost", "streaming"]),
    stop_reason=st.sampled_from([None, "end_turn", "refusal"]),
    model=st.sampled_from([None, SONNET, "claude-opus-5-5"]),
)


@PATIENT
@given(st.lists(message, max_size=60), st.integers(1, 25), st.sampled_from([None, 1, 50, 400]))
def test_whatever_the_chat_the_request_is_one_the_api_takes(
    chat: list[Message], limit: int, max_tokens: int | None
) -> None:
    result = sent(chat, limit=limit, max_tokens=max_tokens)
    roles = [m["role"] for m in result.messages]

    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    assert len(roles) <= limit
    assert result.messages[-1]["content"] == text("now")
    for content in (m["content"] for m in result.messages):
        assert content != []
        assert all(b["text"].strip() for b in content if b["type"] == "text")
        assert not {"tool_use", "tool_result"} & {b["type"] for b in content}
        assert all(b.get("signature") for b in content if b["type"] == "thinking")


@PATIENT
@given(st.integers(0, 80), st.integers(1, 40))
def test_at_least_a_quarter_of_the_bound_is_used_once_there_is_that_much(count: int, limit: int) -> None:
    length = len(sent(turns(count), limit=limit).messages)

    assert length <= limit
    assert length >= min(2 * count + 1, limit // 2)
