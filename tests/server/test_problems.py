"""Errors that only need to be translated."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from server.problems import answer, described
from workbench.errors import BudgetExceeded, PromptError, RateLimited


def test_our_own_rate_limit_is_429_with_whole_seconds_to_wait() -> None:
    said = answer(*described(RateLimited("org 'acme'", 2.3, limit=20, reset=20), "Chat failed", "request-1"))

    assert (said.status_code, said.headers["retry-after"]) == (429, "3")
    assert msgspec.json.decode(said.body) == {
        "error": "Rate Limited",
        "message": "org 'acme' is over its rate limit; retry in 2.3 s",
        "type": "rate_limited",
        "retryable": True,
        "retry_after": 3,
        "request_id": "request-1",
    }


def test_a_budget_that_is_spent_is_402_with_the_time_it_begins_anew() -> None:
    resets_at = datetime(2026, 12, 1, tzinfo=UTC)
    error = BudgetExceeded("org 'acme'", Decimal("0.01"), Decimal("0.1"), "month", resets_at)

    status, problem = described(error, "Chat failed", "request-1")

    assert (status, problem.error, problem.retryable) == (402, "Budget Exceeded", False)
    assert problem.resets_at == "2026-12-01T00:00:00.000Z"


def test_a_prompt_that_does_not_fit_is_a_bad_request() -> None:
    status, problem = described(PromptError("no prompt 'support'"), "Chat failed", "request-1")

    assert (status, problem.error, problem.type) == (400, "Bad Request", "prompt_error")
