"""Budgets: what fits, and that turns at the same time never spend more than there is."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.faults.frames import Usage as Counts
from tests.faults.upstream import ScriptedUpstream, fault, reply
from tests.test_store import a_chat, a_turn, keep
from workbench.budgets import Budget, affordable, begun, ends
from workbench.engine import Engine
from workbench.errors import BudgetExceeded, InvalidRequest, UpstreamError
from workbench.settings import read_settings
from workbench.store import Store, tenants
from workbench.store.backend import Statement
from workbench.store.check import check
from workbench.store.queries import query
from workbench.turns import Caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workbench.turns import LiveTurn

D = Decimal
NOW = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)
ADA = Caller("acme", "ada", "server")
MODEL = "claude-sonnet-5-5"  # 2 in, 4 written to the one-hour cache, 10 out; US dollars per million tokens


def budget(limit: str, spent: str = "0", held: str = "0", **more: str) -> Budget:
    return Budget("org", "acme", D(limit), more.get("period"), D(spent), D(held))  # type: ignore[arg-type]


# What fits ----------------------------------------------------------------------------------------------------------


def test_a_reply_as_long_as_wanted_is_held_at_its_worst() -> None:
    assert affordable([budget("1")], MODEL, 1000, 500, NOW) == (500, D("0.009"))  # 1000 x 4 + 500 x 10 millionths


def test_a_reply_is_shortened_to_what_is_left() -> None:
    assert affordable([budget("0.02", "0.005", "0.005")], MODEL, 1000, 4096, NOW) == (600, D("0.01"))


def test_the_tightest_of_several_budgets_counts() -> None:
    assert affordable([budget("1"), budget("0.006"), budget("0.1")], MODEL, 1000, 4096, NOW)[0] == 200


@pytest.mark.parametrize(("left", "fits"), [("0.00464", True), ("0.004639999", False)])
def test_below_a_short_reply_nothing_is_begun(left: str, fits: bool) -> None:
    if fits:
        assert affordable([budget(left)], MODEL, 1000, 4096, NOW) == (64, D("0.00464"))
        return
    with pytest.raises(BudgetExceeded) as caught:
        affordable([budget(left, period="month")], MODEL, 1000, 4096, NOW)
    assert (caught.value.whose, caught.value.left_usd, caught.value.needed_usd) == ("org 'acme'", D(left), D("0.00464"))
    assert caught.value.resets_at == datetime(2026, 12, 1, tzinfo=UTC)


def test_a_reply_that_is_to_be_short_may_be_shorter_still() -> None:
    assert affordable([budget("0.0042")], MODEL, 1000, 20, NOW) == (20, D("0.0042"))


def test_an_overspent_budget_has_nothing_left() -> None:
    assert budget("1", "2").left_usd == 0
    with pytest.raises(BudgetExceeded, match=r"has \$0\.000000 left and even"):
        affordable([budget("1", "2")], MODEL, 1000, 4096, NOW)


def test_the_embedded_model_is_free_whatever_was_spent() -> None:
    assert affordable([budget("1", "2")], "local", 1000, 300, NOW) == (300, D(0))


def test_a_model_without_a_price_is_refused_by_name() -> None:
    with pytest.raises(
        InvalidRequest, match="the price of model 'some-model' is not known and org 'acme' has a budget"
    ):
        affordable([budget("1")], "some-model", 1000, 300, NOW)


@pytest.mark.parametrize(("spent", "held", "nearly"), [("0.7", "0.1", True), ("0.7", "0.0999", False)])
def test_from_four_fifths_on_it_is_nearly_spent(spent: str, held: str, nearly: bool) -> None:
    assert budget("1", spent, held).nearly_spent is nearly


@pytest.mark.parametrize(
    ("period", "first", "last"),
    [
        ("day", datetime(2026, 11, 25, tzinfo=UTC), datetime(2026, 11, 26, tzinfo=UTC)),
        ("month", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_periods_begin_and_end_in_utc(period: str, first: datetime, last: datetime) -> None:
    late = datetime.fromisoformat("2026-11-25T23:30:00-00:30")  # midnight in UTC, when the next day begins
    assert (begun(period, NOW), ends(period, NOW)) == (first, last)  # type: ignore[arg-type]
    assert begun("day", late) == datetime(2026, 11, 26, tzinfo=UTC)


# What stands in the store ---------------------------------------------------------------------------------------------


async def give(store: Store, table: str, whose: str, usd: str | None, period: str | None = None) -> None:
    where = "id = $3" if table == "orgs" else "org_id = 'acme' AND id = $3"
    sql = f"UPDATE {table} SET budget_usd = $1, budget_period = $2 WHERE {where}"
    await store.backend.write([Statement(sql, (None if usd is None else D(usd), period, whose))])


@pytest.fixture
async def acme(store: Store) -> Store:
    """A store that knows the org, its user and a key."""
    await store._begin_known("acme", "ada")
    await store.backend.write(
        [
            Statement(
                "INSERT INTO api_keys (id, org_id, secret_sha256, scopes, created_at) VALUES ('k', 'acme', 'x', 'chat', $1)",
                (NOW,),
            )
        ]
    )
    return store


async def test_without_a_budget_there_is_none(acme: Store) -> None:
    assert await acme.budgets(ADA, NOW) == []


async def test_what_was_spent_in_the_period_counts_by_org_user_and_key(acme: Store) -> None:
    await give(acme, "orgs", "acme", "10", "month")
    await give(acme, "users", "ada", "5", "day")
    await give(acme, "api_keys", "k", "2")
    with_key = Caller("acme", "ada", "server", "k")
    for caller, days, cost in [
        (ADA, 0, "0.1"),
        (with_key, 0, "0.02"),
        (Caller("acme", "bob"), 0, "0.003"),
        (with_key, 1, "0.0004"),
        (ADA, 40, "0.00005"),
        (Caller("other", "ada"), 0, "7"),
    ]:
        turn = a_turn(a_chat(), caller=caller, started_at=NOW - timedelta(days=days), cost_usd=D(cost))
        await keep(acme, turn)

    standing = {b.scope: (b.id, b.limit_usd, b.spent_usd, b.held_usd) for b in await acme.budgets(with_key, NOW)}
    assert standing == {
        "org": ("acme", 10, D("0.1234"), 0),
        "user": ("ada", 5, D("0.12"), 0),
        "key": ("k", 2, D("0.0204"), 0),
    }


async def test_open_holds_count_until_they_are_settled_or_expire(acme: Store) -> None:
    await give(acme, "orgs", "acme", "10")
    settled, running = [a_turn(a_chat(), caller=ADA, worst_case_usd=D("0.5"), cost_usd=D("0.01")) for _ in range(2)]
    await acme.begin(running)
    await keep(acme, settled)

    now = running.started_at
    assert [(b.spent_usd, b.held_usd) for b in await acme.budgets(ADA, now)] == [(D("0.01"), D("0.5"))]
    assert [b.held_usd for b in await acme.budgets(ADA, now, apart_from=running.id)] == [0]
    assert [b.held_usd for b in await acme.budgets(ADA, now + timedelta(hours=1))] == [0]


# Turns --------------------------------------------------------------------------------------------------------------


async def as_added_up(store: Store, caller: Caller) -> list[tuple[str, Decimal, Decimal]]:
    """What the database says of the budgets of a caller, each sum anew."""
    found = []
    for of in await store.limits(caller):
        user = caller.user_id if of.scope == "user" else None
        key = caller.key_id if of.scope == "key" else None
        counted = (caller.org_id, user, key, begun(of.budget_period, NOW), NOW, "")
        ((spent, held),) = await store.backend.rows(query("spent"), *counted)
        found.append((of.scope, spent, held))
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_writes_what_stands_on_a_budget_is_what_the_ledger_says(
    file_store: Store, path: str, seed: int
) -> None:
    chance = random.Random(seed)
    other = await Store.open(path)
    callers = [Caller("acme", user, "server", key) for user, key in (("ada", "k1"), ("ada", "k2"), ("bob", None))]
    await tenants.add_org(file_store.backend, "acme", NOW, {"budget_usd": D(100), "budget_period": "month"})
    for user in ("ada", "bob"):
        await tenants.add_user(file_store.backend, "acme", user, NOW, {"budget_usd": D(50)})
    running: list[LiveTurn] = []

    async def something() -> None:
        store = other if chance.random() < 0.1 else file_store
        if not running or chance.random() < 0.5:
            caller, at = chance.choice(callers), NOW - timedelta(seconds=chance.choice((0, 1000)))
            cost = chance.choice((D("0.123456789"), None))
            turn = a_turn(a_chat(), caller=caller, started_at=at, worst_case_usd=D("0.2"), cost_usd=cost)
            await store.begin(turn, await store.budgets(caller, at))
            running.append(turn)
        else:
            await store.record(running.pop(chance.randrange(len(running))))

    for _ in range(40):
        await asyncio.gather(*(something() for _ in range(chance.randint(1, 4))))
        for caller in callers:
            standing = await file_store.budgets(caller, NOW)
            assert [(of.scope, of.spent_usd, of.held_usd) for of in standing] == await as_added_up(file_store, caller)
    other.close()


async def test_a_turn_recorded_again_is_spent_once(file_store: Store) -> None:
    await tenants.add_org(file_store.backend, "acme", NOW, {"budget_usd": D(1)})
    turn = a_turn(a_chat(), caller=ADA, started_at=NOW, worst_case_usd=D("0.2"), cost_usd=D("0.1"))
    await file_store.begin(turn, await file_store.budgets(ADA, NOW))
    for _ in range(2):  # as when nobody could say whether it was written
        await file_store.record(turn)
        (standing,) = await file_store.budgets(ADA, NOW)

        assert [(standing.scope, standing.spent_usd, standing.held_usd)] == (await as_added_up(file_store, ADA))[:1]


async def test_of_turns_that_all_saw_the_same_budget_only_those_begin_that_fit(file_store: Store) -> None:
    await tenants.add_org(file_store.backend, "acme", NOW, {"budget_usd": D("0.5")})
    turns = [a_turn(a_chat(), caller=ADA, started_at=NOW, worst_case_usd=D("0.2")) for _ in range(5)]
    seen = await file_store.budgets(ADA, NOW)

    begun = await asyncio.gather(*(file_store.begin(turn, seen) for turn in turns), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in begun) == ["NoneType"] * 2 + ["Overspent"] * 3
    (after,) = await file_store.budgets(ADA, NOW)
    assert after.held_usd == D("0.4")


@pytest.fixture
async def engine(acme: Store, upstream: ScriptedUpstream) -> AsyncIterator[Engine]:
    upstream.default = lambda request: reply(
        "A reply", usage=Counts(10, output_tokens=min(300, request.body["max_tokens"]))
    )
    settings = read_settings(ANTHROPIC_API_KEY="sk-ant-x", ANTHROPIC_BASE_URL=upstream.url, CLAUDE_MAX_TOKENS=1000)
    engine = Engine(settings, acme)
    yield engine
    await engine.aclose()


async def ask(engine: Engine, caller: Caller = ADA) -> LiveTurn:
    async with engine.turn(caller, engine.new_chat(), "hi") as turn:
        async for _ in turn:
            pass
    return turn


async def spent(engine: Engine) -> Decimal:
    ((cost,),) = await engine.store.backend.rows("SELECT COALESCE(SUM(cost_usd), 0) FROM usage")
    return Decimal(cost)


async def test_a_turn_is_told_what_is_left_and_asked_no_longer_reply_than_that(
    engine: Engine, upstream: ScriptedUpstream
) -> None:
    await give(engine.store, "orgs", "acme", "0.0055")
    turn = await ask(engine)

    assert turn.shortened
    assert turn.budget == Budget("org", "acme", D("0.0055"), None)
    assert [request.body["max_tokens"] for request in upstream.requests] == [turn.max_tokens]
    assert 300 < turn.max_tokens < 550
    assert turn.cost_usd == D("0.00302")  # 10 x 2 + 300 x 10 millionths


async def test_a_turn_nobody_can_afford_is_not_asked_nor_written(engine: Engine, upstream: ScriptedUpstream) -> None:
    await give(engine.store, "orgs", "acme", "0.0001", "day")
    with pytest.raises(BudgetExceeded, match=r"org 'acme' has \$0.000100 left this day"):
        await ask(engine)

    assert upstream.requests == []
    assert await engine.store.backend.rows("SELECT (SELECT COUNT(*) FROM holds), (SELECT COUNT(*) FROM messages)") == [
        (0, 0)
    ]


async def test_a_failed_turn_gives_back_what_it_held(engine: Engine, upstream: ScriptedUpstream) -> None:
    await give(engine.store, "orgs", "acme", "0.02")
    upstream.script(fault("529"), fault("529"), fault("529"), fault("529"))
    with pytest.raises(UpstreamError):
        await ask(engine)

    ((standing),) = await engine.store.budgets(ADA, datetime.now(UTC))
    assert standing.held_usd == 0


async def test_64_at_once_never_spend_more_than_there_is_and_all_of_it_can_be_spent(engine: Engine) -> None:
    limit = D("0.0302")  # for ten
    await give(engine.store, "orgs", "acme", str(limit))
    ends = await asyncio.gather(*(ask(engine) for _ in range(64)), return_exceptions=True)
    refused = [end for end in ends if isinstance(end, BaseException)]
    at_once = await spent(engine)
    with pytest.raises(BudgetExceeded) as caught:
        while True:
            await ask(engine)

    assert {type(end) for end in refused} == {BudgetExceeded}
    assert at_once <= limit
    assert caught.value.left_usd == limit - await spent(engine)
    assert 0 <= caught.value.left_usd < caught.value.needed_usd < D("0.0011")
    assert [f.name for f in await check(engine.store.backend) if not f.ok] == []


async def test_a_budget_given_to_a_user_binds_that_user_alone(engine: Engine) -> None:
    await give(engine.store, "users", "ada", "0.0001")
    with pytest.raises(BudgetExceeded, match="user 'ada' has"):
        await ask(engine)

    assert (await ask(engine, Caller("acme", "bob"))).cost_usd == D("0.00302")
