"""What it would have cost otherwise, in ranges that say where they come from."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import matplotlib as mpl
import pytest
from typer.testing import CliRunner

import workbench as wb
from tests.faults.upstream import Usage, fault, reply
from tests.test_classes import call, write
from tests.test_replay import HAIKU, SONNET, chat_of, counts
from workbench import runtime, tokens, turns
from workbench.cli import app
from workbench.ledger import caching
from workbench.ledger.caching import EVICTED, FIRST, GAP, MODEL, NOT_ASKED, PROMPT, SHORT, TRIMMED, misses
from workbench.ledger.replay import Scenario
from workbench.ledger.retokenising import token_ratio
from workbench.wording import dollars, exact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from tests.faults.upstream import ScriptedUpstream
    from workbench.ledger.columns import Chat

mpl.use("agg")

DEMO = "synthetic-demo"
NOVEMBER = {"since": "2026-11-01", "org": DEMO}


@pytest.fixture(scope="module")
def demo_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The demo ledger, written once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_STORE", str(tmp_path_factory.mktemp("demo") / "store.duckdb"))
        patch.setenv("CLAUDE_MODEL", "local")
        runtime.close()
        wb.demo_data(date(2026, 11, 20))
        yield
        runtime.close()


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def row(frame: pd.DataFrame, scenario: str) -> pd.Series:
    (found,) = [row for _, row in frame.iterrows() if row.scenario == scenario]
    return found


# On the demo ledger -----------------------------------------------------------------------------------------------------


def test_the_first_row_is_what_was_and_every_change_has_its_own(demo_ledger: None) -> None:
    frame = wb.what_if([HAIKU, "claude-sonnet-4-6"], "1h", **NOVEMBER)

    assert list(frame.scenario) == [
        "as it was",
        HAIKU,
        "claude-sonnet-4-6",
        "a cache of an hour",
        f"{HAIKU}, a cache of an hour",
        "claude-sonnet-4-6, a cache of an hour",
    ]
    was = frame.iloc[0]
    assert was.low_usd == was.likely_usd == was.high_usd == wb.usage(**NOVEMBER).cost_usd.sum()
    assert was.why == (
        "recorded: 3,863 calls of 3 models; 420 of them without a chat, which only another model or batches would change"
    )
    assert all(frame.difference_usd == frame.likely_usd - was.likely_usd)


def test_another_model_is_never_one_number(demo_ledger: None) -> None:
    frame = wb.what_if([HAIKU, "claude-opus-5-5", "claude-sonnet-4-6"], **NOVEMBER)

    for _, other in frame[1:].iterrows():
        assert other.low_usd < other.likely_usd < other.high_usd
        assert "replies 20% shorter to 25% longer (assumed)" in other.why
    assert "the same vocabulary" in frame.why[1]
    assert "a newer vocabulary made 1.0 to 1.4 times the tokens (texts not known)" in frame.why[3]
    assert "1,024 tokens, none or 2% of the reads failing (assumed)" in frame.why[1]


def test_a_batch_is_only_for_what_nobody_waits_for(demo_ledger: None) -> None:
    was, batch = (row for _, row in wb.what_if(batch=True, **NOVEMBER).iterrows())
    alone = wb.usage(where={"source": "map"}, org=DEMO).cost_usd.sum()

    assert batch.likely_usd == batch.high_usd == was.likely_usd - alone / 2
    assert batch.low_usd < was.likely_usd * Decimal("0.51")
    assert (
        "only for the 420 calls without a chat: people wait for chats; all of them in batches would be $" in batch.why
    )


def test_the_usual_questions_are_asked_when_none_is(demo_ledger: None) -> None:
    frame = wb.what_if(**NOVEMBER)
    assert list(frame.scenario[1:]) == [
        "claude-haiku-5-5",
        "claude-sonnet-5-5",
        "claude-opus-5-5",
        "no cache",
        "a cache of an hour",
        "whole chat",
        "sliding window of 20",
        "in batches",
    ]  # five minutes and blocks were in force
    assert row(frame, "sliding window of 20").difference_usd > 5


def test_the_policy_in_force_costs_what_was_recorded(demo_ledger: None) -> None:
    frame = wb.history_lab(**NOVEMBER)

    in_force = row(frame, "blocks of 20, a cache of 5 minutes")
    assert in_force.low_usd == in_force.high_usd == frame.likely_usd[0] == wb.usage(**NOVEMBER).cost_usd.sum()
    assert in_force.why == "nothing would have been sent otherwise"
    assert len(frame) == 10
    assert row(frame, "whole chat, no cache").longest_input_tokens > in_force.longest_input_tokens
    assert list(frame.scenario[frame.recommended]) == ["as it was"]
    assert frame.why[0].startswith(
        "Recommended: go on so; the cheapest, whole chat, a cache of an hour, would have saved only"
    )


def test_the_lab_recommends_what_is_cheaper_for_a_chat(demo_ledger: None) -> None:
    calls = wb.usage(where={"model": "claude-opus-5-5"}, **NOVEMBER)
    longest = calls.chat_id.value_counts().index[0]
    frame = wb.history_lab(longest, org=DEMO)
    best = frame[frame.recommended].iloc[0]

    assert frame.calls[0] == (calls.chat_id == longest).sum()
    assert best.likely_usd <= frame.likely_usd.min() * Decimal("1.06")
    assert best.why.startswith("Recommended: ")


def test_the_doctor_sums_up_what_misses_cost(demo_ledger: None) -> None:
    reasons = wb.cache_doctor(by="reason", org=DEMO).set_index("reason")
    calls = wb.cache_doctor(org=DEMO)

    assert list(reasons.calls) == [1860, 307, 229, 2055]
    assert list(reasons.index) == [GAP, TRIMMED, SHORT, "first call"]
    assert reasons.lost_usd.sum() == calls.lost_usd.sum()
    assert all(
        calls[calls.reason == TRIMMED].changed_block.str.fullmatch(
            r"message \d+ comes first, before it was message \d+"
        )
    )
    assert calls[calls.reason != TRIMMED].changed_block.isna().all()
    assert calls[calls.reason == GAP].gap_s.min() >= 300
    with pytest.raises(wb.InvalidRequest, match="cannot be summed by 'model'; use 'reason'"):
        wb.cache_doctor(by="model")


def test_bars_say_what_would_have_been_cheaper(demo_ledger: None) -> None:
    axes = wb.plots.what_if([HAIKU, "claude-opus-5-5"], **NOVEMBER)
    frame = wb.what_if([HAIKU, "claude-opus-5-5"], **NOVEMBER)

    haiku, was = frame.iloc[1], frame.iloc[0]
    finding = f"{HAIKU}: {dollars(haiku.low_usd)} to {dollars(haiku.high_usd)} instead of {dollars(was.likely_usd)}"
    assert axes.get_title(loc="left").replace("\n", " ") == axes.figure.get_label() == finding
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(frame.likely_usd.astype(float).tolist())
    whiskers = [list(line.get_xdata()) for line in axes.lines[:2]]
    assert whiskers == [[float(row.low_usd), float(row.high_usd)] for _, row in frame[1:].iterrows()]
    labels = [text.get_text().replace("\n", " ") for text in axes.texts]
    assert labels[0] == f"as it was: {dollars(was.likely_usd)}"
    assert (
        "US dollars, likely (change), least to most; pale: no clear difference · 3,863 calls · 1 Nov to 19 Nov 2026 UTC · synthetic data"
        in labels
    )
    assert wb.plots.what_if(history="sliding", **NOVEMBER).figure.get_label() == (
        "None of these would certainly have cost less than $44"
    )


def test_policies_are_drawn_for_real_chats_too(demo_ledger: None) -> None:
    month = wb.plots.history_lab(**NOVEMBER)
    assert len(month.patches) == 10
    assert month.figure.get_label() == "At best $2.17 of $44 saved; whole chat, no cache: 1.7 times as much"
    assert "blocks of 20, a cache of 5 minutes: $44 (as it was)" in [text.get_text() for text in month.texts]

    longest = wb.usage(**NOVEMBER).chat_id.value_counts().index[0]
    with pytest.raises(wb.InvalidRequest, match="limit is 0"):
        wb.plots.history_lab(longest, limit=0, org=DEMO)
    chat = wb.plots.history_lab(longest, org=DEMO)
    costs = wb.usage(chat=longest, org=DEMO).cost.cumsum()
    assert len(chat.lines) == 4
    assert list(chat.lines[3].get_ydata()) == pytest.approx(costs.tolist())
    assert any("(as it was)" in text.get_text() for text in chat.texts)


def test_the_command_prints_ranges_and_reasons(demo_ledger: None) -> None:
    arguments = ["what-if", "--model", HAIKU, "--since", "2026-11-01", "--org", DEMO]
    shown = CliRunner().invoke(app, arguments, prog_name="workbench", env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "least" in shown.output and "as it was: recorded: 3,863 calls of 3 models" in shown.output

    rows = json.loads(CliRunner().invoke(app, [*arguments, "--json"], prog_name="workbench").output)
    assert [row["scenario"] for row in rows] == ["as it was", HAIKU]
    assert rows[0]["likely_usd"] == exact(wb.usage(**NOVEMBER).cost_usd.sum())
    assert rows[0]["model"] is None
    wrong = CliRunner().invoke(app, ["what-if", "--cache", "2h"], prog_name="workbench")
    assert wrong.exit_code == 2 and "there is no cache '2h'" in wrong.output


# By hand ----------------------------------------------------------------------------------------------------------------


def reasons(chat: Chat) -> list[tuple[str, int, Decimal]]:
    return [(miss.reason, miss.lost_tokens, miss.lost_usd) for miss in misses([chat])][1:]


def test_why_a_call_missed_and_what_that_cost() -> None:
    # turn 2 has 3000 tokens, of which 1000 could have been read at $0.10 a million but were written at $2.50
    lost = (1000, Decimal("0.0024"))
    assert reasons(chat_of(9)) == []
    assert reasons(chat_of(300)) == [(GAP, *lost)]

    def rewritten() -> Chat:
        chat = chat_of(9)
        return replace(chat, calls=[chat.calls[0], replace(chat.calls[1], usage=chat_of(300).calls[1].usage)])

    assert reasons(rewritten()) == [(EVICTED, *lost)]
    changed = rewritten()
    changed.calls[0] = replace(changed.calls[0], model=HAIKU)
    assert reasons(changed) == [(MODEL, *lost)]

    off = [(NOT_ASKED, 1000, Decimal("0.0019"))]  # new at $2
    assert reasons(chat_of(9, cache="off")) == off
    short = replace(chat_of(9, cache="off"), cache="5m")
    assert reasons(short) == [(SHORT, 1000, Decimal("0.0019"))]


def test_what_was_trimmed_and_which_message_then_came_first() -> None:
    chat = chat_of(9, 9, system=5000)
    whole = chat.calls[2]
    # the first two messages, 2000 tokens, are left out: 8000 remain, the last reply and the question in them new
    trimmed = replace(whole, first=2, usage=replace(whole.usage, cache_read_tokens=0, cache_write_5m_tokens=8000))
    chat.calls[2] = trimmed
    (miss,) = list(misses([chat]))[1:]

    assert (miss.reason, miss.lost_tokens, miss.lost_usd) == (TRIMMED, 6000, Decimal("0.0144"))
    assert miss.changed_block == "message 3 comes first, before it was message 1"


def test_another_version_of_the_system_prompt_is_named() -> None:
    chat = chat_of(9, 9)
    again = replace(chat.calls[2], usage=chat_of(9, 300).calls[2].usage)
    first, second, third = chat.calls[0], chat.calls[1], replace(again, prompt="support version 2")
    chat.calls[:] = [replace(first, prompt="support version 1"), replace(second, prompt="support version 1"), third]
    (miss,) = list(misses([chat]))[1:]

    assert (miss.reason, miss.lost_tokens, miss.lost_usd) == (PROMPT, 3000, Decimal("0.0072"))
    assert miss.changed_block == "the system prompt is support version 2, before it was support version 1"
    # and no other way to send it would have found it in the cache
    assert counts(replace(chat, cache="off"), Scenario(cache="5m"))[2] == (0, 0, 5000, 0)


def test_the_ledger_tells_which_version_was_sent(no_key: Path) -> None:
    sent = turns.Usage(cache_write_5m_tokens=3000, output_tokens=100)
    named = {"chat_id": "c", "prompt_name": "support"}
    times = [datetime(2026, 11, 20, 9, n, tzinfo=UTC) for n in range(4)]
    write([call(at, SONNET, sent, **named, prompt_version=1 if n < 2 else 2) for n, at in enumerate(times)])
    frame = wb.cache_doctor()

    assert list(frame.reason) == [FIRST, EVICTED, PROMPT, EVICTED]
    assert frame.changed_block[2] == "the system prompt is support version 2, before it was support version 1"
    assert wb.cache_doctor(by="reason").set_index("reason").what_to_do[PROMPT].startswith("change a prompt between")


def test_reads_that_failed_so_far_are_expected_to_go_on_failing() -> None:
    chat = chat_of(9, 9, 9)
    chat.calls[3] = replace(chat.calls[3], usage=chat_of(9, 9, 300).calls[3].usage)
    assert caching.evicted_share([chat]) == pytest.approx(1 / 3)


# Through the engine -----------------------------------------------------------------------------------------------------


def test_one_chat_with_a_failed_turn_and_a_model_without_a_price(scripted: ScriptedUpstream) -> None:
    scripted.script(
        reply("Four", usage=Usage(1000, output_tokens=100)),
        fault("400"),
        reply("Five", usage=Usage(2000, output_tokens=100)),
        reply("Six", usage=Usage(10, output_tokens=1)),
    )
    chat = wb.Chat()
    chat.ask("What is 2+2?")
    with pytest.raises(wb.UpstreamError):
        chat.ask("What is 2+3?")
    chat.ask("What is 2+3?")
    wb.Chat(model="a-model-without-a-price").ask("What is 2+4?")

    frame = wb.what_if(HAIKU, chat=chat)
    assert frame.likely_usd[0] == Decimal("0.008")  # 3000 x 2 + 200 x 10
    assert frame.likely_usd[1] == Decimal("0.0004")  # 3000 x 0.10 + 200 x 0.50
    assert frame.calls[0] == 3
    batch = wb.what_if(batch=True, chat=chat).iloc[1]
    assert (batch.low_usd, batch.high_usd) == (Decimal("0.008"), Decimal("0.008"))
    assert batch.why.startswith("people wait for every one of these calls")
    assert wb.what_if(HAIKU).why[0] == "recorded: 3 calls of 1 model; 1 more whose price is not known is left out"
    assert wb.what_if(HAIKU, since="2020-01-01", until="2020-01-02").likely_usd.tolist() == [0, 0]


def test_postgresql_tells_the_same(
    scripted: ScriptedUpstream, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[pd.DataFrame]:
        scripted.cache.clear()
        chat = wb.Chat("You are terse.")
        for n in range(3):
            scripted.script(reply("Four it is"))
            chat.ask(f"{n}" * 3000)
        return [wb.what_if([HAIKU, "claude-sonnet-4-6"]), wb.history_lab(chat, limit=2), wb.cache_doctor(by="reason")]

    in_a_file = told()
    runtime.close()
    monkeypatch.setenv("WORKBENCH_STORE", postgres_url)
    for ours, theirs in zip(told(), in_a_file, strict=True):
        assert ours.equals(theirs)
        assert len(ours) > 0


def test_what_there_is_not(no_key: Path) -> None:
    for arguments, words in (
        ({"cache": "2h"}, "there is no cache '2h'; use any of off, 5m, 1h"),
        ({"history": "none"}, "there is no history 'none'; use any of whole, sliding, blocks$"),
        ({"model": "claude-9"}, "no price for model 'claude-9'"),
        ({"limit": 0}, "limit is 0"),
        ({"since": "tomorrow"}, "'tomorrow' is no time"),
    ):
        with pytest.raises(wb.InvalidRequest, match=words):
            wb.what_if(**arguments)  # type: ignore[arg-type]
    with pytest.raises(wb.ModelRetired, match="claude-sonnet-5-5"):
        wb.what_if("claude-sonnet-4-20250514")


def test_an_empty_ledger_has_the_same_columns(no_key: Path) -> None:
    frame = wb.what_if()
    assert frame.scenario.tolist() == ["as it was"]
    with pytest.raises(wb.InvalidRequest, match="no calls whose price is known"):
        wb.plots.what_if()
    assert (
        wb.cache_doctor().columns.tolist() == wb.cache_doctor(since=datetime(2026, 1, 1, tzinfo=UTC)).columns.tolist()
    )
    assert wb.cache_doctor(by="reason").empty
    assert wb.history_lab().recommended.sum() == 1


# Vocabularies -----------------------------------------------------------------------------------------------------------

OLD = "claude-sonnet-4-6"


def said(text: str, tokens: int) -> list[dict[str, object]]:
    return [{"role": "assistant", "status": "complete", "content": text, "token_count": tokens}]


def test_texts_tell_how_many_tokens_a_newer_vocabulary_makes() -> None:
    prose = "The quick brown fox jumps over the lazy dog. " * 50
    ratio = token_ratio(OLD, SONNET, said(prose, 600))
    assert (ratio.low, ratio.likely, ratio.high) == pytest.approx((1.29, 1.33, 1.38))
    back = token_ratio(SONNET, OLD, said(prose, 600))
    assert (back.low, back.high) == pytest.approx((1 / 1.38, 1 / 1.29))
    digits = token_ratio(OLD, SONNET, said("123,456.78\n" * 200, 1200))
    assert (digits.low, digits.high) == pytest.approx((1.0, 1.02))
    # a synthetic text is not what was counted
    assert token_ratio(OLD, SONNET, said(prose, 60_000)).why.endswith("(texts not known)")


def test_the_extra_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ctok.py").write_text(
        "def token_count(text, version):\n    return len(text.split()) * (1 if float(version) < 4.7 else 2) + 6\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("ctok", None)
    tokens._count.cache_clear()
    ratio = token_ratio(OLD, SONNET, said("one two three four " * 200, 800))
    sys.modules.pop("ctok", None)
    tokens._count.cache_clear()

    # a frame, which "a" tells, of 6 tokens in the old one and 7 in the new, and 800 words of one and of two
    assert (ratio.low, ratio.likely, ratio.high) == pytest.approx([x * 1607 / 806 for x in (0.98, 1, 1.02)], abs=0.002)
    assert ratio.why == "1.99 times the tokens, counted in 3,800 characters of the texts"


def test_the_embedded_model_counts_in_its_own_way() -> None:
    assert token_ratio("local", SONNET).why.startswith("the embedded model counts otherwise")
    ratio = token_ratio("local", SONNET, said("The quick brown fox. " * 100, 500))
    assert ratio.low < ratio.likely < ratio.high
    assert ratio.why == "about 1.3 times the tokens, estimated from the texts"
