"""The scripted upstream refuses what the real API refuses, and bills a cached prompt as the API does."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.faults.caching import PromptCache
from tests.faults.upstream import Usage, reply
from tests.faults.wire import ask

USER = {"role": "user", "content": "hi"}
CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"}]}
POINT = {"type": "ephemeral"}
UNSIGNED = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm", "signature": ""}]}
PAUSED = {
    "role": "assistant",
    "content": [{"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}],
}
BLANK = [{"type": "text", "text": " "}]
EMPTY = [{"type": "text", "text": ""}]
CACHED_TEXT = {"type": "text", "text": "x", "cache_control": POINT}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
    ({"top_p": 0.9}, "top_p: Extra inputs are not permitted"),
    ({"messages": []}, "messages: at least one message is required"),
    ({"messages": [{"role": "assistant", "content": "hi"}, USER]}, 'first message must use the "user" role'),
    ({"messages": [USER, {"role": "assistant", "content": "Sure,"}]}, "does not support assistant message prefill"),
    ({"messages": [{"role": "user", "content": ""}]}, "must have non-empty content"),
    ({"messages": [{"role": "user", "content": EMPTY}]}, "messages: text content blocks must be non-empty"),
    ({"messages": [{"role": "user", "content": BLANK}]}, "must contain non-whitespace text"),
    ({"messages": [{"role": "robot", "content": "hi"}]}, "messages.0.role"),
    ({"messages": [USER | {"id": 7}]}, "messages.0.id: Extra inputs are not permitted"),
    ({"messages": [RESULT]}, "unexpected `tool_use_id` found in `tool_result` blocks: toolu_1"),
    ({"messages": [USER, CALL, USER]}, "`tool_use` ids were found without `tool_result` blocks"),
    ({"messages": [USER, UNSIGNED, USER]}, "Invalid `signature` in `thinking` block"),
    ({"system": EMPTY}, "system: text content blocks must be non-empty"),
    ({"system": [CACHED_TEXT] * 5}, "A maximum of 4 blocks with cache_control may be provided. Found 5."),
    ({"system": [CACHED_TEXT] * 4, "cache_control": POINT}, "Found 5."),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, '"enabled" is not supported'),
    ({"thinking": {"type": "disabled"}}, '"disabled" is not supported'),
    ({"tool_choice": {"type": "any"}}, "forcing tool use is not supported"),
    ({"output_config": {"effort": "extreme"}}, "output_config.effort"),
    ({"max_tokens": 128_001}, "128001 > 128000"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"stop_sequences": ["END", " "]}, "stop_sequences.1: each stop sequence must contain non-whitespace"),
    ({"metadata": {"user_id": "ada@example.com"}}, "appears to contain an email address"),
    ({"metadata": {"org": "acme"}}, "metadata.org: Extra inputs are not permitted"),
    ({"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "x" * 800_004}]}, "prompt is too long"),
]
ACCEPTED: list[dict[str, Any]] = [
    {"messages": [USER, CALL, RESULT]},
    {"messages": [USER, PAUSED]},
    {"messages": [USER, {"role": "system", "content": "Be terse."}]},
    {"messages": [USER, USER]},
    {"max_tokens": 0},
    {"thinking": {"type": "between_tools"}, "output_config": {"effort": "low"}},
    {"model": "claude-haiku-5-5", "thinking": {"type": "disabled"}},
    {"model": "some-local-model"},
    {"system": [CACHED_TEXT] * 3, "cache_control": POINT},
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
async def test_a_wrong_request_is_refused(upstream, claude, change, message):
    upstream.script(reply("never sent"))

    with pytest.raises(anthropic.BadRequestError) as caught:
        await claude.messages.create(max_tokens=9, model="", messages=[], extra_body=ask() | change)

    assert message in caught.value.api_message
    assert upstream.scripted == 1


@pytest.mark.parametrize("change", ACCEPTED, ids=str)
async def test_a_strange_request_is_accepted(claude, change):
    await claude.messages.create(max_tokens=9, model="", messages=[], extra_body=ask() | change)


@pytest.mark.parametrize("model", ["claude-sonnet-4-20250514", "claude-haiku-4-20250514", "claude-opus-4-1"])
async def test_a_retired_or_invented_model_is_not_found(claude, model):
    with pytest.raises(anthropic.NotFoundError, match=model):
        await claude.messages.create(max_tokens=9, model="", messages=[], extra_body=ask(model=model))


@pytest.mark.parametrize("header", ["authorization", "anthropic-version"])
async def test_both_headers_are_required(claude, header):
    headers = {header: anthropic.omit}
    with pytest.raises((anthropic.AuthenticationError, anthropic.BadRequestError), match="header is required"):
        await claude.messages.create(**ask(), extra_headers=headers)


async def test_either_way_of_sending_the_key_will_do(upstream, claude):
    await claude.messages.create(**ask(), extra_headers={"authorization": anthropic.omit, "x-api-key": "k"})

    assert "authorization" not in upstream.last.headers


# caching; a text of n characters counts ceil(n / 4) tokens


def turns(*texts: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[n % 2], "content": each} for n, each in enumerate(texts)]


async def test_a_conversation_reads_what_the_last_turn_wrote(claude):
    first = await claude.messages.create(**ask(system="s" * 400, cache_control=POINT))
    history = turns("hi", first.content[0].text, "and now?")
    second = await claude.messages.create(**ask(system="s" * 400, messages=history, cache_control=POINT))

    assert (first.usage.input_tokens, first.usage.cache_creation_input_tokens) == (0, 101)
    assert second.usage.cache_read_input_tokens == 101
    assert second.usage.cache_creation_input_tokens == 19 + 2  # the reply of 73 characters, the question
    assert second.usage.input_tokens == 0


async def test_without_cache_control_nothing_is_cached(claude):
    for _ in range(2):
        usage = (await claude.messages.create(**ask(system="s" * 400))).usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (101, 0, 0)


def body(system: str, *texts: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "system": system, "messages": turns(*texts), "cache_control": POINT} | more


def test_a_block_of_its_own_is_cached_for_an_hour():
    cache = PromptCache()
    system = [{"type": "text", "text": "s" * 400, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]

    assert cache.usage({**body("", "a" * 40), "system": system}) == Usage(0, 0, 10, 100)
    assert cache.usage({**body("", "b" * 40), "system": system}) == Usage(0, 100, 10, 0)


@pytest.mark.parametrize(
    "change", [{"model": "n"}, {"system": "t" * 40}, {"thinking": {"type": "adaptive"}}, {"messages": turns("b")}]
)
def test_what_differs_misses(change):
    cache = PromptCache()
    cache.usage(body("s" * 40, "a"))

    assert cache.usage(body("s" * 40, "a") | change).cache_read_tokens == 0


def test_keys_do_not_share_a_cache():
    cache = PromptCache()
    cache.usage(body("s" * 40, "a"), "key 1")

    assert cache.usage(body("s" * 40, "a"), "key 2").cache_read_tokens == 0
    assert cache.usage(body("s" * 40, "a"), "key 1").cache_read_tokens == 11


def test_an_entry_lives_five_minutes_from_its_last_use():
    now = 0.0
    cache = PromptCache(clock=lambda: now)
    reads = []
    for now in (0.0, 299.0, 598.0, 899.0):  # noqa: B007, the clock reads it
        reads.append(cache.usage(body("s" * 40, "a")).cache_read_tokens)

    assert reads == [0, 11, 11, 0]


def test_a_short_prefix_is_silently_not_cached():
    cache = PromptCache(minimum=512)

    assert cache.usage(body("s" * 40, "a")) == Usage(uncached_input_tokens=11)
    assert cache.usage(body("s" * 2048, "a")) == Usage(cache_write_5m_tokens=513)


def test_only_the_last_twenty_blocks_are_searched():
    cache = PromptCache()
    cache.usage(body("s" * 40, "a"))

    assert cache.usage(body("s" * 40, *"a" * 21)).cache_read_tokens == 11
    cache.clear()
    cache.usage(body("s" * 40, "a"))
    assert cache.usage(body("s" * 40, *"a" * 23)).cache_read_tokens == 0
