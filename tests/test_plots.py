"""The plots: their findings are computed, their axes carry the data."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import matplotlib as mpl
import pytest

import workbench as wb
from tests.faults.upstream import Usage, reply
from workbench.ledger.policies import BLOCKS, SLIDING, WHOLE, history_costs

mpl.use("agg")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.upstream import ScriptedUpstream


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def test_context_growth_says_how_much_more_is_sent_and_what_it_cost(scripted: ScriptedUpstream) -> None:
    scripted.script(
        reply("a", usage=Usage(uncached_input_tokens=100, output_tokens=50)),
        reply("b", usage=Usage(uncached_input_tokens=100, cache_read_tokens=300, output_tokens=50)),
    )
    chat = wb.Chat()
    chat.ask("one")
    chat.ask("two")
    tokens, money = wb.plots.context_growth(chat)

    assert tokens.get_title(loc="left") == "Turn 2 sent 4.0 times what turn 1 did; 60% of all input came from the cache"
    # turn 1: 100 x $2 + 50 x $10; turn 2: 100 x $2 + 300 x $0.10 + 50 x $10, a million
    assert money.get_title(loc="left") == "$0.0014 so far, $0.0007 for the last turn"
    assert [bar.get_height() for bar in money.patches] == pytest.approx([0.0007, 0.00143])
    assert [text.get_text() for text in tokens.texts[:3]] == ["from cache", "read anew", "reply"]


def test_context_growth_prices_a_free_chat_as_another_model(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("a", usage=Usage(uncached_input_tokens=1_000_000, output_tokens=0)))
    chat = wb.Chat(model="a-model-without-a-price")
    chat.ask("one")

    with pytest.raises(wb.InvalidRequest, match="name a model with priced_as"):
        wb.plots.context_growth(chat)
    _, money = wb.plots.context_growth(chat, priced_as="claude-opus-5-5")
    assert money.get_title(loc="left").startswith("$4.00 so far")
    with pytest.raises(wb.InvalidRequest, match="no price for model 'claude-9'"):
        wb.plots.context_growth(chat, priced_as="claude-9")


def test_a_chat_without_turns_has_nothing_to_show(scripted: ScriptedUpstream) -> None:
    with pytest.raises(wb.InvalidRequest, match="no turns yet"):
        wb.plots.context_growth(wb.Chat())


def test_policies_cost_what_a_sum_by_hand_says() -> None:
    costs = history_costs(3, system_tokens=1000, question_tokens=100, reply_tokens=200, limit=2)
    last = costs[costs.turn == 3].set_index(["policy", "cached"])

    # sonnet 5.5: input 2, write 2.5, read 0.1, output 10; turns send 1100, 1400, 1700 whole and 1100 each trimmed
    assert last.cost_so_far_usd[WHOLE, False] == Decimal("0.0144")  # 4200 x 2 + 600 x 10
    assert last.cost_so_far_usd[WHOLE, True] == Decimal("0.0105")  # 1700 x 2.5 + 2500 x 0.1 + 600 x 10
    assert last.cost_so_far_usd[SLIDING, True] == Decimal("0.01425")  # 3300 x 2.5 + 600 x 10
    assert last.messages[BLOCKS, True] == 1
    assert list(costs[(costs.policy == WHOLE) & costs.cached].cache_read_tokens) == [0, 1100, 1400]


def test_the_policies_plot_compares_sliding_with_ours() -> None:
    axes = wb.plots.history_policies(40)

    assert axes.get_title(loc="left") == "A window that slides costs 2.6 times as much as dropping blocks"
    assert len(axes.lines) == 5
    assert {text.get_text() for text in axes.texts} >= {
        "whole chat, cached $0.27",
        "dropped in blocks, cached (ours) $0.30",
        "sliding window, cached $0.78",
    }
    assert axes.figure.get_label() == axes.get_title(loc="left")
