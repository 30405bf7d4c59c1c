"""Rate limits and budgets over HTTP: refused before Claude is called, with all a client needs to do better."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.faults.frames import Usage
from tests.faults.upstream import ScriptedUpstream, reply
from tests.server.live import LiveServer, events
from tests.server.process import ServerProcess
from workbench.budgets import begun

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx2

    from tests.faults.upstream import Reply, Request


ORG = {"x-org-id": "acme", "x-user-id": "ada"}
ONE = Decimal("0.00302")
"""What a turn costs: 10 input tokens at 2 and 300 output tokens at 10 US dollars per million."""

SHORT = Decimal("0.0011")
"""More than the worst case of a reply of 64 tokens to so short a question."""


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        upstream.default = a_reply
        yield upstream


def a_reply(request: Request) -> Reply:
    """300 tokens, or as many as are allowed."""
    return reply("A reply", usage=Usage(10, output_tokens=min(300, request.body["max_tokens"])))


def serving(tmp_path: Path, upstream: ScriptedUpstream, **environment: str) -> LiveServer:
    return LiveServer(tmp_path, upstream=upstream.url, CLAUDE_MAX_TOKENS="1000", **environment)


def ask(client: httpx2.Client, **headers: str) -> httpx2.Response:
    return client.post("/chat", json={"message": "hi"}, headers=ORG | headers)


def run(server: LiveServer, sql: str) -> list[tuple]:
    """In the store, which the server owns."""
    store = server.app.state.service.engine.store
    file = store.backend._host.file
    if sql.startswith("SELECT"):
        return file.begin_rows(sql, ()).result()
    file.begin_write([(sql, ())]).result()
    return []


# Rate limits --------------------------------------------------------------------------------------------------------


def test_over_the_limit_is_429_with_when_to_come_again_and_claude_is_not_called(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with serving(tmp_path, upstream, WORKBENCH_RATE_PER_MINUTE="1", WORKBENCH_RATE_BURST="2") as server:
        first, second, third = [ask(server.client) for _ in range(3)]
        stream = server.client.post("/chat/stream", json={"message": "hi"}, headers=ORG)
        other = ask(server.client, **{"x-org-id": "other"})

    assert [a.status_code for a in (first, second, third, stream, other)] == [200, 200, 429, 429, 200]
    limits = [(a.headers["x-ratelimit-limit"], a.headers["x-ratelimit-remaining"]) for a in (first, second, third)]
    assert limits == [("2", "1"), ("2", "0"), ("2", "0")]
    assert 100 < int(third.headers["x-ratelimit-reset"]) <= 120
    body = third.json()
    assert (body["error"], body["type"], body["retryable"]) == ("Rate Limited", "rate_limited", True)
    assert body["message"].startswith("org 'acme' is over its rate limit; retry in ")
    assert 50 <= body["retry_after"] == int(third.headers["retry-after"]) <= 60
    assert len(upstream.requests) == 3


def test_an_org_and_a_user_may_have_rates_of_their_own_at_once(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with serving(tmp_path, upstream, WORKBENCH_RATE_PER_MINUTE="0.001", WORKBENCH_RATE_BURST="1") as server:
        answers = [ask(server.client), ask(server.client)]
        run(server, "UPDATE orgs SET rate_per_minute = 6000000, rate_burst = 5 WHERE id = 'acme'")
        answers.append(ask(server.client, **{"x-user-id": "bob"}))
        run(server, "UPDATE users SET rate_per_minute = 0.001, rate_burst = 1 WHERE id = 'bob'")
        answers += [ask(server.client, **{"x-user-id": name}) for name in ("bob", "bob", "ada")]

    assert [a.status_code for a in answers] == [200, 429, 200, 200, 429, 200]
    assert answers[4].json()["message"].startswith("user 'bob' of org 'acme' is over its rate limit")


def test_a_limit_that_lets_nothing_pass_says_a_day(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with serving(tmp_path, upstream, WORKBENCH_RATE_PER_MINUTE="0", WORKBENCH_RATE_BURST="1") as server:
        ask(server.client)

        assert ask(server.client).json()["retry_after"] == 86_400


def test_all_that_come_at_once_share_the_burst(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    rates = {"WORKBENCH_RATE_PER_MINUTE": "0.001", "WORKBENCH_RATE_BURST": "7"}
    with serving(tmp_path, upstream, **rates) as server, ThreadPoolExecutor(30) as threads:
        statuses = Counter(threads.map(lambda _: ask(server.client).status_code, range(30)))

    assert statuses == {200: 7, 429: 23}


# Budgets ------------------------------------------------------------------------------------------------------------


def test_a_budget_is_told_in_the_answer_and_in_the_first_event(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with serving(tmp_path, upstream) as server:
        ask(server.client)
        run(server, "UPDATE orgs SET budget_usd = 0.02 WHERE id = 'acme'")
        answer = ask(server.client)
        stream = server.client.post("/chat/stream", json={"message": "hi"}, headers=ORG)

    left = Decimal("0.02") - ONE
    told = Decimal(answer.json()["budget_remaining_usd"])
    assert Decimal("0.0095") < left - told < Decimal("0.011")  # the worst case of a reply of 1,000 tokens
    assert answer.headers["x-budget-remaining-usd"] == answer.json()["budget_remaining_usd"]
    assert "budget_nearly_spent" not in answer.json()
    first = next(events(stream))
    assert Decimal(first["budget_remaining_usd"]) == told - ONE
    assert "max_tokens" not in first


def test_what_is_left_of_a_budget_is_told_in_digits_however_little(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with serving(tmp_path, upstream) as server:
        ask(server.client)
        run(server, "UPDATE orgs SET budget_usd = 1 WHERE id = 'acme'")
        held = 1 - ONE - Decimal(ask(server.client).json()["budget_remaining_usd"])
        run(server, f"UPDATE orgs SET budget_usd = {2 * ONE + held + Decimal('1E-9'):f} WHERE id = 'acme'")
        answer = ask(server.client)

    assert answer.headers["x-budget-remaining-usd"] == answer.json()["budget_remaining_usd"] == "0.000000001"


def test_a_budget_that_is_nearly_spent_shortens_the_reply_and_says_both(
    tmp_path: Path, upstream: ScriptedUpstream, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path, upstream) as server:
        ask(server.client)
        run(server, "UPDATE orgs SET budget_usd = 0.0075 WHERE id = 'acme'")
        ask(server.client)
        run(server, "UPDATE orgs SET budget_usd = 0.0075 WHERE id = 'acme'")
        answer = ask(server.client)
        metrics = server.client.get("/metrics").text

    assert answer.status_code == 200
    assert answer.json()["budget_nearly_spent"] is True
    assert "\nworkbench_budget_nearly_spent_total 1.0\n" in metrics
    assert answer.json()["max_tokens"] == upstream.requests[-1].body["max_tokens"] < 150


def test_without_room_for_a_short_reply_it_is_402_until_the_period_ends(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime.now(UTC)
    # at midnight what was spent before would be of another day
    monkeypatch.setattr("workbench.store.store.begun", lambda period, now: begun(period, at))
    with serving(tmp_path, upstream) as server:
        ask(server.client)
        run(server, "UPDATE orgs SET budget_usd = 0.003, budget_period = 'day' WHERE id = 'acme'")
        for path in ("/chat", "/chat/stream"):
            answer = server.client.post(path, json={"message": "hi"}, headers=ORG)
            body = answer.json()

            assert (answer.status_code, body["error"], body["type"], body["retryable"]) == (
                402, "Budget Exceeded", "budget_exceeded", False
            )  # fmt: skip
            assert body["message"].startswith(
                "org 'acme' has $0.000000 left this day and even a short reply may cost $"
            )
            resets = datetime.fromisoformat(body["resets_at"])
            assert 0 < (resets - datetime.now(UTC)).total_seconds() <= 86_400
        open_holds = run(server, "SELECT COUNT(*) FROM holds WHERE state = 'open'")
    assert len(upstream.requests) == 1
    assert open_holds == [(0,)]


def test_64_at_once_stay_within_the_budget_to_the_last_decimal(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with serving(tmp_path, upstream) as server, ThreadPoolExecutor(64) as threads:
        ask(server.client)
        run(server, f"UPDATE orgs SET budget_usd = {11 * ONE} WHERE id = 'acme'")
        statuses = Counter(threads.map(lambda _: ask(server.client).status_code, range(64)))
        one_by_one = 0
        while ask(server.client).status_code == 200:
            one_by_one += 1
        ((spent, calls),) = run(server, "SELECT SUM(cost_usd), COUNT(*) FROM usage")

    assert set(statuses) == {200, 402}
    assert calls == 1 + statuses[200] + one_by_one
    assert 11 * ONE - SHORT < spent <= 11 * ONE


@pytest.fixture
def two_servers(
    tmp_path: Path, upstream: ScriptedUpstream, postgres_url: str
) -> Iterator[tuple[httpx2.Client, httpx2.Client]]:
    ours = {"WORKBENCH_STORE": postgres_url, "ANTHROPIC_BASE_URL": upstream.url, "ANTHROPIC_API_KEY": "sk-ant-x"}
    more = {"CLAUDE_MAX_TOKENS": "1000", "WORKBENCH_RATE_PER_MINUTE": "0.001", "WORKBENCH_RATE_BURST": "70"}
    with ExitStack() as stack:
        servers = [stack.enter_context(ServerProcess(tmp_path / "unused.duckdb", **ours, **more)) for _ in range(2)]
        yield servers[0].client, servers[1].client


def test_two_servers_share_the_budget_and_the_rate(
    two_servers: tuple[httpx2.Client, httpx2.Client], postgres_url: str
) -> None:
    assert ask(two_servers[0]).status_code == 200
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE orgs SET budget_usd = %s WHERE id = 'acme'", (11 * ONE,))
    with ThreadPoolExecutor(64) as threads:
        statuses = Counter(threads.map(lambda n: ask(two_servers[n % 2]).status_code, range(80)))
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE orgs SET rate_per_minute = 1e6, rate_burst = 1e6 WHERE id = 'acme'")
    one_by_one = 0
    while ask(two_servers[one_by_one % 2]).status_code == 200:
        one_by_one += 1
    with psycopg.connect(postgres_url) as connection:
        ((spent, calls, open_holds),) = connection.execute(
            "SELECT SUM(cost_usd), COUNT(*), (SELECT COUNT(*) FROM holds WHERE state = 'open') FROM usage"
        ).fetchall()

    assert set(statuses) == {200, 402, 429}
    assert statuses[429] == 80 - 69
    assert calls == 1 + statuses[200] + one_by_one
    assert 11 * ONE - SHORT < spent <= 11 * ONE
    assert open_holds == 0
