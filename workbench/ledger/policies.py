"""What different ways to trim a chat's history cost, computed from list prices.

Every turn sends the chat again. Without trimming the input grows with the square of the turns; a window that slides by one
turn changes the front of the prompt every time, and a prompt cache only helps while the front stays the same. Growing to a
bound and then dropping half keeps the front for many turns at once: that is what the workbench does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequest
from workbench.history import first_sent
from workbench.pricing import cost_of, price_of
from workbench.turns import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    from workbench.pricing import Price

WHOLE, SLIDING, BLOCKS = POLICIES = "whole chat", "sliding window", "blocks"


def history_costs(
    turns: int = 40,
    *,
    model: str = "claude-sonnet-5-5",
    system_tokens: int = 1200,
    question_tokens: int = 420,
    reply_tokens: int = 330,
    limit: int = 20,
) -> pd.DataFrame:
    """Return what each policy costs, turn by turn, for a chat of this shape.

    Args:
        turns: How many questions are asked, each within five minutes of the one before, so that caches hold.
        model: Whose list prices, those of today.
        system_tokens: Length of the system prompt.
        question_tokens: Length of each question.
        reply_tokens: Length of each reply.
        limit: Most messages sent, of the policies that trim.

    Returns:
        One row per policy, with and without prompt cache, and turn: ``policy``, ``cached``, ``turn``, ``messages``
        sent, ``input_tokens``, ``cache_read_tokens``, ``cost_usd`` and ``cost_so_far_usd`` (Decimals).

    Raises:
        InvalidRequest: the model has no known price, or there is no turn, or no message to send.

    Example:
        >>> costs = history_costs(40)
        >>> last = costs[costs.turn == 40].set_index(["policy", "cached"]).cost_so_far_usd
        >>> [round(float(last[policy, True]), 2) for policy in ("whole chat", "sliding window", "blocks")]
        [0.27, 0.78, 0.3]

    Source: prices of https://platform.claude.com/docs/en/about-claude/pricing; a cached prefix is read at its read
    price and what follows it is written at 1.25 times the input price.
    """
    import pandas as pd

    if turns < 1 or limit < 1:
        raise InvalidRequest(f"{turns} turns with at most {limit} messages are no chat; give 1 or more of both")
    list_price(model)
    lengths = (system_tokens, question_tokens, reply_tokens)
    rows = [
        (policy, cached, *row)
        for policy in POLICIES
        for cached in (False, True)
        for row in _turns(turns, start_of(policy, limit), cached, lengths, model)
    ]
    names = ["policy", "cached", "turn", "messages", "input_tokens", "cache_read_tokens", "cost_usd", "cost_so_far_usd"]
    return pd.DataFrame(rows, columns=names)


def start_of(policy: str, limit: int) -> Callable[[int], int]:
    """Return what tells a policy's first message sent, of so many messages with the question.

    >>> [start_of(policy, 20)(25) for policy in POLICIES]
    [0, 6, 10]
    """
    starts: dict[str, Callable[[int], int]] = {
        WHOLE: lambda count: 0,
        SLIDING: lambda count: max(0, (count - limit + 1) // 2 * 2),
        BLOCKS: lambda count: first_sent(count, limit),
    }
    return starts[policy]


def list_price(model: str, input_tokens: int = 0) -> Price:
    """Return today's price of a model for so long a prompt; InvalidRequest when it has none that is known."""
    price = price_of(model, datetime.now(UTC), input_tokens=input_tokens)
    if price is None:
        raise InvalidRequest(f"there is no price for model {model!r}; name one of Claude's models")
    return price


def _turns(
    turns: int, start: Callable[[int], int], cached: bool, lengths: tuple[int, int, int], model: str
) -> Iterator[tuple[int, int, int, int, Decimal, Decimal]]:
    system, question, reply = lengths
    so_far = Decimal(0)
    before_start, before = -1, 0
    for turn in range(1, turns + 1):
        count = 2 * turn - 1
        first = start(count)
        older = (count - 1 - first) // 2
        prompt = system + older * (question + reply) + question
        read = before if cached and first == before_start else 0
        usage = (
            Usage(cache_read_tokens=read, cache_write_5m_tokens=prompt - read, output_tokens=reply)
            if cached
            else Usage(uncached_input_tokens=prompt, output_tokens=reply)
        )
        cost = cost_of(usage, list_price(model, prompt))
        so_far += cost
        before_start, before = first, prompt
        yield turn, count - first, prompt, read, cost, so_far
