"""Chats replayed: as they were, to the last decimal; otherwise, by sums made by hand and by chats really sent otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import workbench as wb
from tests.faults.upstream import reply
from workbench import runtime
from workbench.ledger import demo
from workbench.ledger.caching import FIRST, TRIMMED, misses
from workbench.ledger.columns import Call, Chat
from workbench.ledger.policies import BLOCKS, SLIDING, WHOLE, history_costs
from workbench.ledger.reading import recorded_chats
from workbench.ledger.recorded import Scope, chats_of
from workbench.ledger.replay import LIKELY, Assumptions, Scenario, replay
from workbench.turns import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.upstream import ScriptedUpstream

AT = datetime(2026, 11, 20, 9, tzinfo=UTC)
SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"


@pytest.fixture(scope="module")
def demo_chats() -> list[Chat]:
    rows = demo.generate(date(2026, 11, 20))
    for call in rows["usage"]:
        call |= {"in_period": True, "inference_geo": None, "speed": None}
    for message in rows["messages"]:
        message |= {"has_text": bool(message["content"]), "stop_reason": None}
    return recorded_chats(rows["usage"], rows["messages"], {chat["id"]: chat["system"] for chat in rows["chats"]})


@pytest.mark.parametrize("scenario", [Scenario(), Scenario(history=BLOCKS, limit=20, cache="5m")])
def test_the_policy_in_force_gives_what_is_recorded(demo_chats: list[Chat], scenario: Scenario) -> None:
    replayed = list(replay(demo_chats, scenario))

    assert len(replayed) == 13_860
    assert all(would.cost_usd == would.call.cost_usd and would.usage == would.call.usage for would in replayed)
    assert sum(would.cost_usd for would in replayed if would.cost_usd) == Decimal("144.82921833")


def test_the_rules_give_what_is_recorded_even_where_nothing_recorded_is_used(
    demo_chats: list[Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    # the demo's rules: a cache that lasts from the end of a call, and no prompt below 1,024 tokens in it
    as_the_demo = Assumptions(shortest=1024, from_end=True)
    differing = calls = 0
    for chat in demo_chats:
        failed = False
        for would in replay([replace(chat, cache="unlike any")] if chat.id else [], Scenario(cache="5m"), as_the_demo):
            calls += 1
            if would.usage != replace(would.call.usage, service_tier="standard", thinking_tokens=0):
                differing += 1
                assert failed  # to the demo a call that failed keeps the cache alive, here it used nothing
            failed = failed or not would.call.input_tokens

    assert (calls, differing) == (13_440, 8)


def test_the_demo_costs_more_with_a_window_that_slides(demo_chats: list[Chat]) -> None:
    def cost(**scenario: Any) -> float:
        return float(sum(would.cost_usd or 0 for would in replay(demo_chats, Scenario(**scenario))))

    assert cost(history=SLIDING) > 1.2 * cost(history=BLOCKS)
    assert cost(cache="off") > 1.5 * cost()
    assert cost(model=HAIKU) < 0.1 * cost()


# By hand: Sonnet 5.5 costs $2 a million, read $0.10, written $2.50 (an hour $4), replies $10 -----------------------------


def chat_of(*gaps: float, system: int = 0, size: int = 1000, cache: str = "5m") -> Chat:
    """A chat of questions and replies of equal size, each question so many seconds after the beginning of the last."""
    calls, at, cached = [], AT, 0
    for n, gap in enumerate((0, *gaps)):
        at += timedelta(seconds=gap)
        prompt = system + size * (2 * n + 1)
        read = cached if gap < 300 and cache == "5m" else 0
        usage = Usage(cache_read_tokens=read, cache_write_5m_tokens=prompt - read, output_tokens=size)
        if cache == "off":
            usage = Usage(uncached_input_tokens=prompt, output_tokens=size)
        cost = Decimal(1)  # nothing that could be computed
        call = Call(id=str(n), model=SONNET, source="ask", at=at, ended=at, usage=usage, cost_usd=cost, count=2 * n)
        calls.append(call)
        cached = prompt
    sizes = [size] * (2 * len(calls))
    return Chat(id="c", calls=calls, sizes=sizes, places=list(range(1, len(sizes) + 1)), cache=cache)


def counts(chat: Chat, scenario: Scenario, assumptions: Assumptions = LIKELY) -> list[tuple[int, int, int, int]]:
    return [
        (u.uncached_input_tokens, u.cache_read_tokens, u.cache_write_5m_tokens, u.cache_write_1h_tokens)
        for u in (would.usage for would in replay([chat], scenario, assumptions))
    ]


def test_without_a_cache_all_input_is_new() -> None:
    chat = chat_of(60)
    assert counts(chat, Scenario(cache="off")) == [(1000, 0, 0, 0), (3000, 0, 0, 0)]
    costs = [would.cost_usd for would in replay([chat], Scenario(cache="off"))]
    assert costs == [Decimal("0.012"), Decimal("0.016")]  # 1000 x 2 + 1000 x 10; 3000 x 2 + 1000 x 10


def test_a_cache_lasts_from_the_beginning_of_the_call_that_used_it_last() -> None:
    chat = chat_of(299, 299, 300, cache="off")
    assert counts(chat, Scenario(cache="5m")) == [
        (0, 0, 1000, 0),
        (0, 1000, 2000, 0),
        (0, 3000, 2000, 0),
        (0, 0, 7000, 0),
    ]
    later = replace(chat, calls=[replace(call, ended=call.at + timedelta(seconds=9)) for call in chat.calls])
    assert counts(later, Scenario(cache="5m"), Assumptions(from_end=True))[-1] == (0, 5000, 2000, 0)
    assert counts(chat_of(3599, 3600), Scenario(cache="1h")) == [(0, 0, 0, 1000), (0, 1000, 0, 2000), (0, 0, 0, 5000)]


def test_what_is_too_short_is_not_cached() -> None:
    assert counts(chat_of(9, size=170, cache="off"), Scenario(cache="5m")) == [(170, 0, 0, 0), (510, 0, 0, 0)]
    assert counts(chat_of(9, size=171, cache="off"), Scenario(cache="5m")) == [(171, 0, 0, 0), (0, 0, 513, 0)]
    assert counts(chat_of(9, size=171, cache="off"), Scenario(cache="5m"), Assumptions(shortest=514))[1][0] == 513


def test_a_front_that_changes_is_written_anew() -> None:
    chat = chat_of(9, 9, 9, system=5000)
    # at most 5 messages with the question: turn 4 has 7, so the first two go, 2 x 1000 tokens of 12,000
    sliding = counts(chat, Scenario(history=SLIDING, limit=5))
    assert sliding == [(0, 0, 6000, 0), (0, 6000, 2000, 0), (0, 8000, 2000, 0), (0, 0, 10_000, 0)]
    assert counts(chat, Scenario(history=WHOLE))[-1] == (0, 10_000, 2000, 0)


def test_what_would_not_differ_keeps_its_cost_and_what_follows_a_difference_does_not() -> None:
    replayed = list(replay([chat_of(9, 9, 9)], Scenario(history=SLIDING, limit=5)))
    assert [would.recorded for would in replayed] == [True, True, True, False]
    assert [would.cost_usd for would in replayed[:3]] == [1, 1, 1]
    assert replayed[3].cost_usd == Decimal("0.0225")  # 5000 x 2.50 + 1000 x 10

    mixed = chat_of(9, 9, 9)
    mixed.calls[1] = replace(mixed.calls[1], model=HAIKU)
    asked = list(replay([mixed], Scenario(model=SONNET)))
    assert [would.recorded for would in asked] == [True, False, False, True]
    assert [would.usage.cache_read_tokens for would in asked] == [0, 1000, 3000, 5000]


def test_a_question_without_a_reply_keeps_what_it_read_alive_and_adds_nothing() -> None:
    chat = chat_of(200, 200, cache="off")
    chat.calls[1] = replace(chat.calls[1], answered=False)
    chat.calls[2] = replace(chat.calls[2], count=2)
    assert counts(chat, Scenario(cache="5m"))[2] == (0, 1000, 4000, 0)


def test_a_prompt_is_looked_for_twenty_messages_back() -> None:
    chat = chat_of(*[9] * 11, cache="off")
    for far, read in ((20, 1000), (22, 0)):
        pair = replace(chat, calls=[chat.calls[0], replace(chat.calls[-1], count=far)])
        assert counts(pair, Scenario(cache="5m"))[1][1] == read


def test_another_model_makes_other_tokens_of_the_same_text_at_its_own_price() -> None:
    (would,) = replay([chat_of()], Scenario(model=HAIKU), Assumptions(tokens={SONNET: 1.3}, reply=0.5))
    assert (would.usage.cache_write_5m_tokens, would.usage.output_tokens) == (1300, 650)
    assert would.cost_usd == Decimal("0.0004875")  # 1300 x 0.125 + 650 x 0.50


def test_asked_of_claude_a_chat_with_the_embedded_model_is_cached_as_the_workbench_does() -> None:
    chat = chat_of(9, cache="off")
    chat.calls[:] = [replace(call, model="local", cost_usd=Decimal(0)) for call in chat.calls]
    assert counts(chat, Scenario(model=SONNET)) == [(0, 0, 1000, 0), (0, 1000, 2000, 0)]
    assert [would.cost_usd for would in replay([chat], Scenario(model="local", cache="5m"))] == [0, 0]


def test_a_long_prompt_has_the_price_of_a_long_prompt() -> None:
    chat = chat_of(9, size=100_001, cache="off")
    first, _ = replay([replace(chat, cache="unlike any")], Scenario(model=HAIKU, cache="off"), Assumptions(reply=0))
    assert first.cost_usd == Decimal("0.0500005")  # five times $0.10 a million
    chat = chat_of(9, size=100_000, cache="off")
    first, _ = replay([replace(chat, cache="unlike any")], Scenario(model=HAIKU, cache="off"), Assumptions(reply=0))
    assert first.cost_usd == Decimal("0.01")


def test_a_cache_that_fails_now_and_then() -> None:
    assert counts(chat_of(9, cache="off"), Scenario(cache="5m"), Assumptions(missed=0.1))[1] == (0, 900, 2100, 0)


@pytest.mark.parametrize("policy", [WHOLE, SLIDING, BLOCKS])
def test_a_chat_costs_what_the_formula_for_chats_of_its_shape_says(policy: str) -> None:
    turns, at = 40, datetime.now(UTC)
    calls = [
        Call(
            id=str(n), model=SONNET, source="ask", at=at, ended=at, count=2 * n, cost_usd=Decimal(1),
            usage=Usage(uncached_input_tokens=1200 + 750 * n + 420, output_tokens=330),
        )
        for n in range(turns)
    ]  # fmt: skip
    chat = Chat(id="c", calls=calls, sizes=[420, 330] * turns)
    formula = history_costs(turns)

    for cache, cached in (("off", False), ("5m", True)):
        replayed = replay([replace(chat, cache="unlike any")], Scenario(history=policy, cache=cache))
        expected = formula[(formula.policy == policy) & (formula.cached == cached)]
        assert [would.cost_usd for would in replayed] == list(expected.cost_usd)


def test_calls_without_a_chat_know_models_and_batches_and_no_history() -> None:
    alone = Chat(id="", calls=chat_of(cache="off").calls)

    def cost(**scenario: Any) -> Decimal | None:
        return next(replay([alone], Scenario(**scenario))).cost_usd

    assert cost(history=WHOLE, cache="5m") == 1  # as it was
    assert cost(batch=True) == Decimal("0.006")
    assert cost(model=HAIKU) == Decimal("0.0006")  # 1000 x 0.10 + 1000 x 0.50
    (chat,) = replay([chat_of()], Scenario(batch=True))
    assert chat.recorded  # somebody waits for it
    (chat,) = replay([chat_of(cache="off")], Scenario(all_in_batches=True))
    assert chat.cost_usd == Decimal("0.006")


def test_without_a_price_there_is_no_cost() -> None:
    chat = chat_of(9)
    chat.calls[1] = replace(chat.calls[1], cost_usd=None)
    assert [would.cost_usd for would in replay([chat], Scenario(model=HAIKU))][1] is None


def test_what_no_price_is_known_of_stays_as_it_was() -> None:
    chat = chat_of(9)
    chat.calls[:] = [replace(call, model="somebody-elses") for call in chat.calls]
    assert [would.cost_usd for would in replay([chat], Scenario(cache="off"))] == [1, 1]


# Through the engine -----------------------------------------------------------------------------------------------------


@pytest.fixture
def talk(scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Asks the same questions, sending so many messages at most, and returns the chat as the ledger has it."""

    def ask(limit: int, **chat: Any) -> Chat:
        runtime.close()
        monkeypatch.setenv("CLAUDE_HISTORY_MESSAGES", str(limit))
        scripted.cache.clear()
        asked = wb.Chat(**chat)
        for n in range(9):
            scripted.script(reply("abc " * (150 + n) + "end"))  # as many tokens sent again as received
            asked.ask(f"{n}" * 4 * (600 + n))
        return chats_of(Scope(chat=asked.id))[0]

    yield ask
    runtime.close()


def test_chats_through_the_engine_give_what_is_recorded(talk: Any) -> None:
    chat = talk(6, system="You are terse.")

    assert [call.first for call in chat.calls] == [0, 0, 0, 4, 4, 8, 8, 12, 12]
    for scenario in (Scenario(), Scenario(history=BLOCKS, limit=6, cache="5m", model=SONNET)):
        assert all(would.recorded and would.cost_usd == would.call.cost_usd for would in replay([chat], scenario))
    assert [(miss.reason, miss.changed_block) for miss in misses([chat])] == [
        (FIRST, None),
        *((TRIMMED, f"message {n + 4} comes first, before it was message {n}") for n in (1, 5, 9)),
    ]
    # and the rules agree with the upstream's cache where nothing recorded is used
    for would in replay([replace(chat, cache="unlike any")], Scenario(cache="5m")):
        assert not would.recorded
        assert (would.cost_usd, would.usage.cache_read_tokens) == (
            would.call.cost_usd,
            would.call.usage.cache_read_tokens,
        )


def test_the_replay_of_a_whole_chat_in_blocks_is_what_blocks_really_cost(talk: Any) -> None:
    whole, blocks = talk(100), talk(6)

    replayed = [would.cost_usd for would in replay([whole], Scenario(history=BLOCKS, limit=6))]
    assert replayed == [call.cost_usd for call in blocks.calls]
    assert replayed != [call.cost_usd for call in whole.calls]


def test_an_erased_chat_is_as_long_as_its_prompts_grew(talk: Any) -> None:
    chat = talk(100)
    wb.Chat.open(chat.id).delete()
    (erased,) = chats_of(Scope())

    assert erased.sizes == chat.sizes
    assert [(call.count, call.first) for call in erased.calls] == [(call.count, call.first) for call in chat.calls]
