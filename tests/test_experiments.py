"""Experiments: frozen once started, units that keep their arm, and what is counted of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import workbench as wb
from tests.faults.upstream import fault, reply
from tests.test_prompts import moved, pointed, saved
from tests.test_store import ADA, EVE, NOON, a_turn, child
from workbench.errors import Conflict, InvalidRequest, LabelProtected, NotFound, PromptError
from workbench.ids import new_id
from workbench.prompts import experiments, labelling, results, versions, watch
from workbench.prompts.choosing import choose, for_turn
from workbench.prompts.experiments import StoredExperiment
from workbench.prompts.sizes import sizes
from workbench.prompts.text import Reference
from workbench.store import Store, erase
from workbench.turns import DEFAULT_ID, Caller, ChatInfo, Exposure, PromptWanted

if TYPE_CHECKING:
    from tests.faults.upstream import ScriptedUpstream
    from workbench.store.backend import Statement
    from workbench.turns import LiveTurn

HALVES = {"v1": 0.5, "v2": 0.5}
SUPPORT = Reference("support")


async def started(
    store: Store, name: str = "tone", arms: Any = HALVES, by: str = "ada", **more: Any
) -> StoredExperiment:
    wanted = StoredExperiment(name=name, arms=arms, **{"prompt": "support", "outcome": "cost"} | more)
    ready = await experiments.prepared(store.backend, DEFAULT_ID, wanted)
    return await experiments.start(store.backend, DEFAULT_ID, ready, NOON, by)


async def stopped(store: Store, name: str = "tone", **more: Any) -> StoredExperiment:
    return await experiments.stop(store.backend, DEFAULT_ID, name, NOON, by="bob", **more)


async def turn_in(store: Store, caller: Caller = ADA, chat: ChatInfo | None = None, **changes: Any) -> LiveTurn:
    """A whole turn of a chat that asks for the label, as the engine chooses and keeps it."""
    chat = chat or ChatInfo(id=new_id(), wanted=PromptWanted("support"))
    chosen = await for_turn(store.backend, caller, chat)
    turn = a_turn(chat, caller=caller, chosen=chosen, **changes)
    await store.begin(turn)
    chat.wanted = None
    await store.record(turn)
    return turn


def seen(turn: LiveTurn) -> tuple[str | None, str | None, str | None]:
    return turn.reply.prompt, turn.reply.experiment, turn.reply.variant


# Start, stop, change ------------------------------------------------------------------------------------------------


async def test_an_experiment_is_kept_as_it_was_started(store: Store) -> None:
    await saved(store, "one", "two")
    found = await started(
        store, arms={2: 1, "v1": 3}, outcome="errors", unit="user", coverage=0.5, guard={"errors": 2}, note="why not"
    )
    again = await experiments.get(store.backend, DEFAULT_ID, "tone")

    assert found == again
    assert list(found.arms.items()) == [("v1", 3.0), ("v2", 1.0)]  # production is at 1: that is the control
    assert (found.outcome, found.unit, found.coverage, found.guard) == ("errors", "user", 0.5, {"errors": 2.0})
    assert (found.label, found.note, found.started_at, found.started_by) == ("production", "why not", NOON, "ada")
    assert found.running and len(found.salt) == 36
    assert repr(found) == "<Experiment tone · support@production · v1 3, v2 1 · errors decides · coverage 50%>"


async def test_numbers_out_of_a_frame_are_numbers(file_store: Store) -> None:
    await saved(file_store, "one", "two")
    found = await started(
        file_store,
        arms={np.int32(1): np.int64(3), np.int64(2): np.float32(1)},
        coverage=np.float64(0.5),
        guard={"errors": np.int64(2), "cost": np.float64(1.5)},
    )

    assert (found.arms, found.coverage, found.guard) == ({"v1": 3, "v2": 1}, 0.5, {"errors": 2, "cost": 1.5})
    with pytest.raises(NotFound, match="has not assigned it"):
        await experiments.score(file_store.backend, DEFAULT_ID, "tone", "c", np.int64(4), NOON)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"arms": {"v1": 1}}, InvalidRequest, "nothing to compare in one arm"),
        ({"arms": {}}, InvalidRequest, "nothing to compare in 0 arms"),
        ({"arms": {"v1": 1, 1: 1}}, InvalidRequest, "the arm v1 is there twice"),
        ({"arms": {"v1": 1, "v2": 0}}, InvalidRequest, "the weight of v2 is 0; it must be a number above 0"),
        ({"arms": {"v1": 1, "v2": -1}}, InvalidRequest, "above 0"),
        ({"arms": {"v1": 1, "v2": float("nan")}}, InvalidRequest, "above 0"),
        ({"arms": {"v1": 1, "v2": True}}, InvalidRequest, "above 0"),
        ({"arms": {"v1": 1e9, "v2": 1e-9}}, InvalidRequest, "the weight of v2 is so small beside the others"),
        ({"arms": 7}, InvalidRequest, "arms are versions with their weights"),
        ({"arms": {"v1": 1, "v9": 1}}, PromptError, "the newest is support@3"),
        ({"arms": {"v1": 1, "staging": 1}}, PromptError, "'staging' is no version"),
        ({"arms": {"v1": 1, "v3": 1}}, InvalidRequest, "the variables of support@3 are customer, those of support@1"),
        ({"outcome": "joy"}, InvalidRequest, "no outcome 'joy'; there are cost, ttft"),
        ({"unit": "message"}, InvalidRequest, "the unit is 'message'; it must be chat or user"),
        ({"coverage": 1.5}, InvalidRequest, "a coverage of 1.5 is none"),
        ({"guard": {"joy": 1}}, InvalidRequest, "no guard can be joy=1"),
        ({"guard": {"cost": 0}}, InvalidRequest, "no guard can be cost=0"),
        ({"guard": {"errors": 5e-324}}, InvalidRequest, "0.001 to 1e.06"),  # of the smallest no part is above 0
        ({"guard": {"errors": 1e300}}, InvalidRequest, "0.001 to 1e.06"),
        ({"guard": {"cost": 10**400}}, InvalidRequest, "no guard can be cost=a huge number"),
        ({"guard": ["cost"]}, InvalidRequest, "a guard is outcomes with their limits"),
        ({"guard": 2}, InvalidRequest, "a guard is outcomes with their limits"),
        ({"arms": {"v1": 1, "v2": 10**400}}, InvalidRequest, "the weight of v2 is a huge number"),
        ({"arms": {"v1": 1e308, "v2": 1e308}}, InvalidRequest, "above 0, 1e.15 at most"),
        ({"arms": {"v1": 1, 10**5000: 1}}, PromptError, "the newest is support@3"),
        ({"coverage": 10**400}, InvalidRequest, "a coverage of a huge number is none"),
        ({"label": "latest"}, InvalidRequest, "the newest version changes by itself"),
        ({"label": "staging"}, PromptError, "support has: production, latest"),
        ({"prompt": "other"}, PromptError, "no prompt 'other'"),
        ({"name": "a b"}, InvalidRequest, "an experiment cannot be called 'a b'"),
        ({"note": "\0"}, PromptError, "the note"),
    ],
)
async def test_what_cannot_work_is_refused(
    file_store: Store, changes: dict[str, Any], error: type[Exception], told: str
) -> None:
    await saved(file_store, "one", "two", "Hi {{customer}}")
    with pytest.raises(error, match=told):
        await started(file_store, **changes)
    assert await experiments.known(file_store.backend, DEFAULT_ID) == []


async def test_one_experiment_runs_on_a_label_and_each_name_is_used_once(store: Store) -> None:
    await saved(store, "one", "two")
    await moved(store, 1, "staging")
    first = await started(store)
    with pytest.raises(Conflict, match="'support@production' is under an experiment, tone; stop that first"):
        await started(store, "other")
    staging = await started(store, "staged", label="staging")
    with pytest.raises(Conflict, match="the experiment 'tone' is there already; each name is used once"):
        await started(store)
    await stopped(store)
    with pytest.raises(Conflict, match="there already"):
        await started(store)
    second = await started(store, "other")

    assert len({first.salt, second.salt, staging.salt}) == 3
    assert [each.name for each in await experiments.known(store.backend, DEFAULT_ID)] == ["other", "staged", "tone"]


async def test_of_two_that_start_at_once_one_wins(address: str) -> None:
    stores = [await Store.open(address) for _ in range(3)]
    await saved(stores[0], "one", "two")
    outcomes = await asyncio.gather(
        *(started(store, f"tone{n}") for n, store in enumerate(stores)), return_exceptions=True
    )
    (running,) = await experiments.known(stores[0].backend, DEFAULT_ID)
    for store in stores:
        await asyncio.to_thread(store.close)

    assert [type(each) for each in outcomes].count(Conflict) == 2
    assert running in outcomes


async def test_stopping_with_a_winner_moves_the_label_at_the_same_moment(store: Store) -> None:
    await saved(store, "one", "two")
    await started(store)
    with pytest.raises(InvalidRequest, match="v3 is no arm of the experiment 'tone'; they are v1, v2"):
        await stopped(store, winner="v3")
    ended = await stopped(store, winner="v2", why="cheaper")
    newest, _ = await labelling.moves(store.backend, DEFAULT_ID, "support")

    assert (ended.stopped_at, ended.stopped_by, ended.stop_reason, ended.winner) == (NOON, "bob", "cheaper", "v2")
    assert (newest.version, newest.from_version, newest.moved_by) == (2, 1, "bob")
    assert repr(ended).endswith("cost decides · stopped 2026-11-24 12:00 UTC: cheaper · v2 won>")
    assert newest.note == "won the experiment tone: cheaper"
    assert await pointed(store) == 2
    with pytest.raises(Conflict, match="the experiment 'tone' is stopped since 2026-11-24 12:00"):
        await stopped(store, winner="v1")
    with pytest.raises(NotFound, match="no experiment 'other'; there are: tone"):
        await stopped(store, "other")
    assert await pointed(store) == 2
    assert (await labelling.rollback(store.backend, DEFAULT_ID, "support", "production", NOON)).version == 1


async def test_a_protected_label_is_moved_to_a_winner_by_force_only(store: Store) -> None:
    await saved(store, "one", "two")
    await labelling.protect(store.backend, DEFAULT_ID, "support", "production", NOON)
    await started(store)
    with pytest.raises(LabelProtected):
        await stopped(store, winner="v2")
    goes_on = await experiments.get(store.backend, DEFAULT_ID, "tone")
    assert goes_on.running and await pointed(store) == 1
    assert (await stopped(store, winner="v2", force=True)).winner == "v2"
    assert await pointed(store) == 2


async def test_of_two_that_stop_at_once_one_moves_the_label(address: str) -> None:
    stores = [await Store.open(address) for _ in range(2)]
    await saved(stores[0], "one", "two", "three")
    await started(stores[0], arms={"v1": 1, "v2": 1, "v3": 1})
    outcomes = await asyncio.gather(
        *(stopped(store, winner=f"v{n}") for n, store in enumerate(stores, 2)), return_exceptions=True
    )
    points = await pointed(stores[0])
    moves = await labelling.moves(stores[0].backend, DEFAULT_ID, "support")
    for store in stores:
        await asyncio.to_thread(store.close)

    (won,) = [each for each in outcomes if not isinstance(each, BaseException)]
    assert [type(each) for each in outcomes].count(Conflict) == 1
    assert (won.winner, len(moves)) == (f"v{points}", 2)


# Who is assigned ----------------------------------------------------------------------------------------------------


async def test_a_chat_is_assigned_at_its_first_turn_and_keeps_its_arm(store: Store) -> None:
    await saved(store, "one", "two")
    before = await turn_in(store)
    running = await started(store)
    turns = [await turn_in(store, chat=await chat_of(store, arm, running)) for arm in ("v1", "v2") * 6]
    later = [await turn_in(store, chat=turn.chat) for turn in turns]
    on = await turn_in(store, chat=before.chat)
    by_number = await turn_in(store, chat=ChatInfo(id=new_id(), wanted=PromptWanted("support@1")))
    await stopped(store, winner="v2")
    kept = [await turn_in(store, chat=await store.chat(ADA, turn.chat.id)) for turn in turns]
    after = await turn_in(store)

    assert [seen(turn)[2] for turn in turns] == ["v1", "v2"] * 6
    assert all(seen(turn) == (f"support@{seen(turn)[2][1:]}", "tone", seen(turn)[2]) for turn in turns)
    assert [seen(turn) for turn in later] == [seen(turn) for turn in kept] == [seen(turn) for turn in turns]
    assert {turn.system for turn in turns if seen(turn)[2] == "v2"} == {"two"}
    assert [seen(turn) for turn in (before, on, by_number)] == [("support@1", None, None)] * 3
    assert seen(after) == ("support@2", None, None)
    exposed = await store.backend.rows(
        "SELECT chat_id, unit_id, user_id, experiment, variant, version FROM exposures ORDER BY exposed_at, id"
    )
    assert sorted(exposed) == sorted(
        (turn.chat.id, turn.chat.id, DEFAULT_ID, "tone", seen(turn)[2], int(seen(turn)[2][1:])) for turn in turns
    )
    rows = await store.backend.rows("SELECT chat_id, experiment, variant FROM usage WHERE experiment IS NOT NULL")
    assert sorted(rows) == sorted((turn.chat.id, "tone", seen(turn)[2]) for turn in turns * 3)
    (again,) = {(await store.reply(ADA, turns[0].message_id)).variant}
    assert again == seen(turns[0])[2]


async def test_no_chat_fails_for_an_experiment(store: Store) -> None:
    """The label is moved meanwhile to a version that wants a value: who gives it gets that version."""
    await saved(store, "one", "two", "Hi {{customer}}")
    await started(store)
    await moved(store, 3)
    with_value = PromptWanted("support", {"customer": "Ada"})
    turns = [await turn_in(store, chat=ChatInfo(id=new_id(), wanted=with_value)) for _ in range(4)]
    without = [await turn_in(store) for _ in range(4)]

    assert {seen(turn) for turn in turns} == {("support@3", None, None)}
    assert {turn.system for turn in turns} == {"Hi Ada"}
    assert {seen(turn)[1] for turn in without} == {"tone"}
    with pytest.raises(PromptError, match="the prompt support@3 does not know 'price'"):
        await turn_in(store, chat=ChatInfo(id=new_id(), wanted=PromptWanted("support", {"customer": "A", "price": 1})))


async def test_a_user_gets_the_same_arm_in_every_chat(store: Store) -> None:
    await saved(store, "one", "two")
    running = await started(store, unit="user")
    ids = {
        arm: [id for id in map("user-{}".format, range(1000)) if running.arm_of("", id) == (arm, id)] for arm in HALVES
    }
    users = [Caller(DEFAULT_ID, id) for each in ids.values() for id in each[:5]]
    turns = [await turn_in(store, user) for user in users * 3]
    arms = {user.user_id: {seen(t)[2] for t in turns if t.caller == user} for user in users}
    table = await experiments.units(store.backend, DEFAULT_ID, "tone")

    assert {len(each) for each in arms.values()} == {1}
    assert len(set.union(*arms.values())) == 2
    assert dict(zip(table["unit_id"].to_pylist(), table["variant"].to_pylist(), strict=True)) == {
        user: next(iter(each)) for user, each in arms.items()
    }
    assert table["calls"].to_pylist() == [3] * 10


ARMS = """
async def main(path, ids):
    from workbench.prompts.choosing import choose
    from workbench.prompts.text import Reference
    store = await Store.open(path)
    for id in ids:
        _, exposure = await choose(store.backend, DEFAULT_ID, Reference("support"), id, "ada", first=True)
        print(exposure.variant if exposure else "-", flush=True)
    store.close()
asyncio.run(main(sys.argv[1], sys.argv[2:]))
"""


async def test_another_process_and_a_restart_deal_the_same(address: str) -> None:
    ids = [new_id() for _ in range(60)]
    store = await Store.open(address)
    await saved(store, "one", "two")
    await started(store, coverage=0.5)
    here = [await choose(store.backend, DEFAULT_ID, SUPPORT, id, "ada", first=True) for id in ids]
    arms = [exposure.variant if exposure else "-" for _, exposure in here]
    with child(ARMS, address, *ids) as other:
        there = other.communicate()[0].split()
    await asyncio.to_thread(store.close)
    with child(ARMS, address, *ids) as restarted:
        later = restarted.communicate()[0].split()

    assert there == later == arms
    assert set(arms) == {"v1", "v2", "-"}


async def test_a_hundred_thousand_chats_split_within_half_a_point_of_the_weights(file_store: Store) -> None:
    """At the level of the choice, with the store's part of it done once: 100,000 queries would test DuckDB."""
    await saved(file_store, "one", "two", "three")
    experiment = await started(file_store, arms={"v1": 0.5, "v2": 0.3, "v3": 0.2}, coverage=0.8)
    # with a salt of its own an experiment in a hundred would be further off, by chance
    dealt = [replace(experiment, salt="tone").arm_of(f"chat-{n}", "ada") for n in range(100_000)]
    some = range(0, 100_000, 997)
    chosen = [await choose(file_store.backend, DEFAULT_ID, SUPPORT, f"chat-{n}", "ada", first=True) for n in some]
    narrower = await experiments.set_coverage(file_store.backend, DEFAULT_ID, "tone", 0.3, NOON, "ada")
    fewer = [replace(narrower, salt="tone").arm_of(f"chat-{n}", "ada") for n in range(100_000)]

    taking = [each[0] for each in dealt if each]
    assert abs(len(taking) / 100_000 - 0.8) < 0.005
    for arm, weight in {"v1": 0.5, "v2": 0.3, "v3": 0.2}.items():
        assert abs(taking.count(arm) / len(taking) - weight) < 0.005
    assert [exposure and (exposure.variant, exposure.unit_id) for _, exposure in chosen] == [
        experiment.arm_of(f"chat-{n}", "ada") for n in some
    ]
    assert abs(sum(map(bool, fewer)) / 100_000 - 0.3) < 0.005
    assert all(now in (None, before) for before, now in zip(dealt, fewer, strict=True))


async def test_changes_of_coverage_are_recorded_and_end_with_the_experiment(store: Store) -> None:
    await saved(store, "one", "two")
    await started(store)
    for coverage in (0.2, 0.0):
        found = await experiments.set_coverage(store.backend, DEFAULT_ID, "tone", coverage, NOON, "bob")
        assert found.coverage == coverage
    assert seen(await turn_in(store)) == ("support@1", None, None)
    await stopped(store)
    with pytest.raises(Conflict, match="the experiment 'tone' is stopped"):
        await experiments.set_coverage(store.backend, DEFAULT_ID, "tone", 1.0, NOON)
    with pytest.raises(InvalidRequest, match="a coverage of 2 is none"):
        await experiments.set_coverage(store.backend, DEFAULT_ID, "tone", 2, NOON)

    rows = await store.backend.rows("SELECT change, coverage, changed_by FROM coverage_changes ORDER BY change")
    assert rows == [(1, 0.2, "bob"), (2, 0.0, "bob")]
    assert (await store.backend.rows("SELECT coverage FROM experiments")) == [(1.0,)]


async def test_a_coverage_that_comes_just_after_the_end_is_refused(
    file_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await saved(file_store, "one", "two")
    await started(file_store)
    write = file_store.backend.write

    async def later(statements: list[Statement]) -> None:
        monkeypatch.undo()
        await stopped(file_store)
        await write(statements)

    monkeypatch.setattr(file_store.backend, "write", later)
    with pytest.raises(Conflict, match="the experiment 'tone' is stopped"):
        await experiments.set_coverage(file_store.backend, DEFAULT_ID, "tone", 0.2, NOON)


async def test_an_org_knows_nothing_of_the_experiments_of_another(store: Store) -> None:
    await saved(store, "one", "two")
    await versions.save(store.backend, EVE.org_id, "support", "evil", NOON)
    await started(store)
    turn = await turn_in(store, EVE)

    assert seen(turn) == ("support@1", None, None)
    assert await experiments.known(store.backend, EVE.org_id) == []
    with pytest.raises(NotFound):
        await experiments.get(store.backend, EVE.org_id, "tone")
    with pytest.raises(NotFound):
        await experiments.stop(store.backend, EVE.org_id, "tone", NOON)
    assert (await experiments.units(store.backend, EVE.org_id, "tone")).num_rows == 0
    assert (await experiments.get(store.backend, DEFAULT_ID, "tone")).running


# What is counted ----------------------------------------------------------------------------------------------------


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


async def chat_of(store: Store, arm: str, experiment: StoredExperiment, caller: Caller = ADA) -> ChatInfo:
    """A chat that will get the arm."""
    ids = (new_id() for _ in range(1000))
    id = next(id for id in ids if experiment.arm_of(id, caller.user_id) == (arm, id))
    return ChatInfo(id=id, wanted=PromptWanted("support"))


async def units_of(store: Store, name: str = "tone") -> list[dict[str, Any]]:
    return (await experiments.units(store.backend, DEFAULT_ID, name)).to_pylist()


async def thumb(store: Store, message_id: str, score: int, minute: int, caller: Caller = ADA) -> str:
    return await experiments.feedback(store.backend, caller, message_id, score, at(minute), "so so")


async def test_a_unit_is_one_row_of_what_its_calls_cost_and_how_they_went(store: Store) -> None:
    """By hand: two calls that went well, one that failed, one that was left; a chat whose price is not known."""
    await saved(store, "one", "two")
    running = await started(store)
    long, other = await chat_of(store, "v1", running), await chat_of(store, "v2", running)
    turns = [
        await turn_in(store, chat=long, ttft_ms=100, duration_ms=1000),
        await turn_in(store, chat=long, ttft_ms=300, duration_ms=3000, started_at=at(1), cost_usd=Decimal("0.00013")),
        await turn_in(
            store, chat=long, started_at=at(2), status="failed", duration_ms=9, cost_usd=Decimal(0), error_type="x"
        ),
        await turn_in(store, chat=long, started_at=at(3), status="interrupted", ttft_ms=200, duration_ms=50),
    ]
    await turn_in(store, chat=other, started_at=at(4), cost_usd=None, ttft_ms=None, duration_ms=700)
    await thumb(store, turns[0].message_id, -1, 5)
    await thumb(store, turns[0].message_id, 1, 6)  # the newest of a user and message counts
    await thumb(store, turns[1].message_id, 1, 6)
    await thumb(store, turns[3].message_id, -1, 7)
    for minute, value in enumerate((2.0, 4.5)):
        await experiments.score(store.backend, DEFAULT_ID, "tone", long.id, value, at(minute))
    fork = await store.fork(ADA, long, 2)
    await turn_in(store, chat=fork, started_at=at(9))  # no unit of its own, and none of the experiment's calls

    first, second = await units_of(store)
    assert first == {
        "unit_id": long.id, "variant": "v1", "cost_usd": pytest.approx(0.00027), "ttft_ms": 200.0, "duration_ms": 2000.0,
        "output_tokens": 20.0, "calls": 4, "failed": 1, "thumb": 1.0, "score": 4.5, "first_exposed_at": NOON,
    }  # fmt: skip
    assert second == {
        "unit_id": other.id, "variant": "v2", "cost_usd": None, "ttft_ms": None, "duration_ms": 700.0,
        "output_tokens": 5.0, "calls": 1, "failed": 0, "thumb": None, "score": None, "first_exposed_at": at(4),
    }  # fmt: skip
    assert await store.backend.rows("SELECT COUNT(*) FROM feedback") == [(4,)]


async def test_a_turn_begun_or_recorded_twice_is_counted_once(store: Store) -> None:
    await saved(store, "one", "two")
    await started(store)
    chat = ChatInfo(id=new_id(), wanted=PromptWanted("support"))
    turn = a_turn(chat, chosen=await for_turn(store.backend, ADA, chat))
    for _ in range(2):
        await store.begin(turn)
    for _ in range(2):
        await store.record(turn)

    (unit,) = await units_of(store)
    assert (unit["calls"], unit["cost_usd"]) == (1, pytest.approx(0.00007))
    assert await store.backend.rows("SELECT COUNT(*) FROM exposures") == [(1,)]


async def test_first_turns_that_are_written_together_are_all_exposed(store: Store) -> None:
    await saved(store, "one", "two")
    await started(store)
    turns = await asyncio.gather(*(turn_in(store) for _ in range(24)))

    found = {unit["unit_id"]: unit["variant"] for unit in await units_of(store)}
    assert found == {turn.chat.id: seen(turn)[2] for turn in turns}


async def test_what_a_chat_asks_with_another_prompt_is_no_longer_the_arms(store: Store) -> None:
    await saved(store, "one", "two")
    await started(store)
    turn = await turn_in(store)
    turn.chat.wanted = PromptWanted("support@1" if seen(turn)[2] == "v2" else "support@2")
    assert seen(await turn_in(store, chat=turn.chat, started_at=at(1)))[1:] == (None, None)

    (unit,) = await units_of(store)
    assert (unit["calls"], unit["variant"]) == (1, seen(turn)[2])


async def test_as_many_thumbs_up_as_down_are_no_vote(store: Store) -> None:
    await saved(store, "one", "two")
    await started(store)
    turn = await turn_in(store)
    second = await turn_in(store, chat=turn.chat, started_at=at(1))
    await thumb(store, turn.message_id, 1, 2)
    await thumb(store, second.message_id, -1, 2)

    (unit,) = await units_of(store)
    assert unit["thumb"] is None


async def test_feedback_is_for_ones_own_replies_only(store: Store) -> None:
    turn = await turn_in(store, chat=ChatInfo(id=new_id()))
    for caller, id in ((EVE, turn.message_id), (Caller(DEFAULT_ID, "bob"), turn.message_id), (ADA, turn.question_id)):
        with pytest.raises(NotFound, match=f"no reply '{id}'"):
            await experiments.feedback(store.backend, caller, id, 1, NOON)
    for score in (0, 2, True, "1"):
        with pytest.raises(InvalidRequest, match="give 1 for a thumb up"):
            await experiments.feedback(store.backend, ADA, turn.message_id, score, NOON)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="the comment"):
        await experiments.feedback(store.backend, ADA, turn.message_id, 1, NOON, "\0")
    id = await experiments.feedback(store.backend, ADA, turn.message_id, np.int64(-1), NOON, "wrong")  # type: ignore[arg-type]

    assert await store.backend.rows("SELECT id, user_id, chat_id, message_id, score, comment FROM feedback") == [
        (id, DEFAULT_ID, turn.chat.id, turn.message_id, -1, "wrong")
    ]


async def test_a_score_is_for_a_chat_of_the_experiment(store: Store) -> None:
    await saved(store, "one", "two")
    outside = await turn_in(store)
    await started(store)
    for value in (float("inf"), True, "4", 10**400, 1e300):
        with pytest.raises(InvalidRequest, match="a score is a number"):
            await experiments.score(store.backend, DEFAULT_ID, "tone", outside.chat.id, value, NOON)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="the experiment 'tone' has not assigned it"):
        await experiments.score(store.backend, DEFAULT_ID, "tone", outside.chat.id, 1, NOON)
    with pytest.raises(NotFound, match="no experiment 'other'"):
        await experiments.score(store.backend, DEFAULT_ID, "other", outside.chat.id, 1, NOON)


async def test_no_thumb_and_no_score_outlives_its_chat(address: str) -> None:
    """They come while the chat is being deleted, from two processes."""
    stores = [await Store.open(address) for _ in range(3)]
    await saved(stores[0], "one", "two")
    await started(stores[0])

    async def rated(store: Store, turn: LiveTurn, minute: int) -> None:
        with contextlib.suppress(NotFound):
            for _ in range(4):
                await thumb(store, turn.message_id, 1, minute)
                await experiments.score(store.backend, DEFAULT_ID, "tone", turn.chat.id, 1, NOON)

    async def deleted(store: Store, turn: LiveTurn, after: float) -> None:
        await asyncio.sleep(after)
        await erase.delete_chat(store.backend, DEFAULT_ID, ADA.user_id, turn.chat.id)

    for n in range(40):
        turn = await turn_in(stores[0])
        await asyncio.gather(
            rated(stores[0], turn, 1), rated(stores[1], turn, 2), deleted(stores[2], turn, 0.002 * (n % 4))
        )
    left = [
        await stores[0].backend.rows(f"SELECT COUNT(*) FROM {table}")
        for table in ("feedback", "experiment_scores", "exposures")
    ]
    for store in stores:
        await asyncio.to_thread(store.close)

    assert left == [[(0,)], [(0,)], [(0,)]]


# Guards -------------------------------------------------------------------------------------------------------------


async def failing(store: Store, running: StoredExperiment, arm: str, failures: int, of: int) -> None:
    """Chats of an arm, some of which fail, written at once."""
    chats = [await chat_of(store, arm, running) for _ in range(of)]
    await asyncio.gather(
        *(turn_in(store, chat=chat, status="failed" if n < failures else "complete") for n, chat in enumerate(chats))
    )


async def test_a_guard_stops_an_arm_once_whoever_looks(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    await saved(store, "one", "two")
    running = await started(store, guard={"errors": 2})
    await failing(store, running, "v1", 0, 20)
    await failing(store, running, "v2", 14, 20)
    caplog.set_level(logging.WARNING, "workbench.experiments")
    goes_on = await asyncio.gather(*(watch.look(store.backend, DEFAULT_ID, "tone") for _ in range(5)))
    found = await experiments.get(store.backend, DEFAULT_ID, "tone")
    after = [await turn_in(store) for _ in range(6)]
    report = await results.report(store.backend, DEFAULT_ID, "tone")

    assert list(found.stopped_arms) == ["v2"]
    assert found.stopped_arms["v2"].startswith("the guard on errors stopped v2: 70.0 %, v1 0.0 %, and 2 times as much")
    assert [(r.getMessage(), r.variant) for r in caplog.records] == [("Guard stopped an arm", "v2")]  # type: ignore[attr-defined]
    assert goes_on == [True] * 5
    assert not await watch.look(store.backend, DEFAULT_ID, "tone")  # there is nothing left to stop
    assert {seen(turn) for turn in after} == {("support@1", None, None)}  # the control, and no more of it are compared
    assert found.running and report.counts == {"v1": 20, "v2": 20}
    assert report.notes[0].startswith("The guard on errors stopped v2")


async def test_with_three_arms_the_others_go_on(file_store: Store) -> None:
    store = file_store
    await saved(store, "one", "two", "three")
    running = await started(store, arms={"v1": 1, "v2": 1, "v3": 1}, guard={"errors": 2})
    for arm in ("v1", "v3"):
        await failing(store, running, arm, 0, 20)
    await failing(store, running, "v2", 14, 20)
    await watch.look(store.backend, DEFAULT_ID, "tone")
    doomed = await turn_in(store, chat=await chat_of(store, "v2", running))
    others = [await turn_in(store, chat=await chat_of(store, arm, running)) for arm in ("v1", "v3")]
    report = await results.report(store.backend, DEFAULT_ID, "tone")

    assert seen(doomed) == ("support@1", None, None)
    assert [seen(turn)[2] for turn in others] == ["v1", "v3"]
    assert report.counts == {"v1": 21, "v3": 21}  # the control got on: beside v2 its share would be wrong
    assert "v2" in report.notes[0]


async def test_a_guard_that_allows_it_stops_nothing(file_store: Store) -> None:
    store = file_store
    await saved(store, "one", "two")
    running = await started(store, guard={"errors": 2, "cost": 1.5})
    await failing(store, running, "v1", 3, 20)
    await failing(store, running, "v2", 4, 20)

    assert await watch.look(store.backend, DEFAULT_ID, "tone")
    assert (await experiments.get(store.backend, DEFAULT_ID, "tone")).stopped_arms == {}


async def test_turns_wait_for_no_look_and_one_is_enough_for_many(
    file_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a look runs, and 5 s after it, no other begins; where nothing is left to stop none ever does again."""
    looks: list[str] = []
    going_on = asyncio.Event()

    async def slow(backend: object, org_id: str, name: str) -> bool:
        looks.append(name)
        await going_on.wait()
        return name == "tone"

    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(watch, "look", slow)
    guards = watch.Guards(file_store)
    turns = [
        a_turn(ChatInfo(id=new_id(), exposure=Exposure(experiment=name, variant="v1")), caller=caller)
        for name in ("tone", "unguarded")
        for caller in (ADA, EVE)
    ]
    for turn in [*turns * 50, a_turn(ChatInfo(id=new_id()))]:
        guards.recorded(turn)
    await asyncio.sleep(0)
    assert sorted(looks) == ["tone", "tone", "unguarded", "unguarded"]  # an org's each
    going_on.set()
    await guards.aclose()
    clock.now += 4.9
    for turn in turns:
        guards.recorded(turn)
    await guards.aclose()
    assert len(looks) == 4

    clock.now += 0.2
    for turn in turns:
        guards.recorded(turn)
    await guards.aclose()
    assert sorted(looks[4:]) == ["tone", "tone"]


async def test_a_look_that_fails_is_not_the_last(file_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    async def fails(backend: object, org_id: str, name: str) -> bool:
        looks.append(name)
        raise RuntimeError("can't start new thread")

    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(watch, "look", fails)
    guards = watch.Guards(file_store)
    for _ in range(2):
        guards.recorded(a_turn(ChatInfo(id=new_id(), exposure=Exposure(experiment="tone", variant="v1"))))
        await guards.aclose()
        clock.now += 5.1

    assert looks == ["tone", "tone"]


async def test_an_experiment_without_a_guard_is_not_looked_at_again(file_store: Store) -> None:
    await saved(file_store, "one", "two")
    await started(file_store)
    assert not await watch.look(file_store.backend, DEFAULT_ID, "tone")
    assert not await watch.look(file_store.backend, DEFAULT_ID, "other")


# From notebooks -----------------------------------------------------------------------------------------------------


def test_an_experiment_from_a_notebook(scripted: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help.")
    wb.prompts.save("support", "You serve.")
    plan = wb.experiments.start(
        "tone", prompt="support", arms={"v1": 0.5, "v2": 0.5}, outcome="thumbs", guard={"errors": 3}, note="kinder?"
    )
    scripted.script(*[reply("Fine")] * 11, *[fault("400")])
    chats = [wb.Chat(prompt="support") for _ in range(12)]
    replies = [chat.ask("hi", show=False) for chat in chats[:11]]
    with pytest.raises(wb.UpstreamError):
        chats[11].ask("hi", show=False)
    for n, (chat, said) in enumerate(zip(chats[:6], replies, strict=False)):
        chat.feedback(1 if n % 2 else -1, "so so", message_id=said.message_id if n else None)
    wb.experiments.score("tone", chats[0], 4.5)
    wb.experiments.score("tone", chats[1].id, 2)
    units = wb.experiments.units("tone").set_index("unit_id")
    report = wb.experiments.report("tone")
    listed = wb.experiments.list()
    changed = wb.experiments.set_coverage("tone", 0.5)
    ended = wb.experiments.stop("tone", winner="v2", why="kinder")

    assert str(plan).startswith(
        "experiment tone runs on support@production: v1 50%, v2 50%; thumbs decides\nto show a change of\n"
    )
    assert plan.table["effect"].tolist() == ["+5 points", "+10 points", "+15 points", "+20 points", "+25 points"]
    assert "the label has had 0 chats in 30 days" in plan._repr_html_()
    assert [(said.experiment, said.variant) for said in replies] == [
        ("tone", f"v{said.prompt[-1]}") for said in replies if said.prompt
    ]
    assert set(units.index) == {chat.id for chat in chats}
    assert units["thumb"].reindex([chat.id for chat in chats[:7]]).tolist()[:6] == [-1.0, 1.0] * 3
    assert units["failed"].tolist() == [chat is chats[11] for chat in chats]
    assert units.loc[chats[0].id, "score"] == 4.5
    assert sum(report.counts.values()) == 12
    assert report.experiment.outcome == "thumbs"
    # once in 2,000 times all twelve get one arm, which is called a wrong split
    assert report.verdict.startswith("no verdict yet" if report.split_is_right else "no verdict: 12 of v")
    assert listed.loc[0, ["name", "state", "arms", "outcome"]].tolist() == [
        "tone",
        "running",
        "v1 0.5, v2 0.5",
        "thumbs",
    ]
    assert changed.coverage == 0.5
    assert (ended.winner, wb.prompts.get("support").version) == ("v2", 2)
    assert wb.experiments.get("tone") == ended
    assert wb.experiments.report("tone").notes[0] == "support@production was moved to v2."


def test_the_size_is_said_by_the_chats_so_far(scripted: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help.")
    wb.prompts.save("support", "You serve.")
    scripted.script(*[reply("Fine " * (n % 7 + 1)) for n in range(30)])
    for _ in range(30):
        wb.Chat(prompt="support").ask("hi", show=False)
    plan = wb.experiments.sample_size("support", {"v1": 1, "v2": 1}, "output_tokens")

    assert plan.chats_before == 30
    assert plan.basis.startswith("By how much the 30 chats of the last 30 days differ.")
    assert (
        plan.sizes[1].at_once < sizes("output_tokens", {"v1": 1, "v2": 1})[1].at_once
    )  # they spread less than is usual
    assert wb.experiments.list().empty


def test_an_experiment_without_chats_has_a_report(no_key: Any) -> None:
    wb.prompts.save("support", "You help.")
    wb.prompts.save("support", "You serve.")
    wb.experiments.start("tone", prompt="support", arms={"v1": 1, "v2": 1})
    report = wb.experiments.report("tone")

    assert report.counts == {"v1": 0, "v2": 0}
    assert "no verdict yet" in str(report)
    with pytest.raises(InvalidRequest, match="no reply to rate yet"):
        wb.Chat(prompt="support").feedback(1)


# What is erased -----------------------------------------------------------------------------------------------------


LEFT_BY_USERS = ("exposures", "experiment_scores", "feedback")
OF_AN_ORG = (*LEFT_BY_USERS, "experiments", "coverage_changes", "stopped_arms")


async def counted(store: Store, tables: tuple[str, ...], org_id: str = DEFAULT_ID) -> list[int]:
    found = [await store.backend.rows(f"SELECT COUNT(*) FROM {table} WHERE org_id = $1", org_id) for table in tables]
    return [int(count) for ((count,),) in found]


async def an_experiment_of_two(store: Store) -> tuple[LiveTurn, LiveTurn]:
    """A chat of Ada's and one of Bob's, each rated and scored; coverage was changed, and an arm stopped."""
    await saved(store, "one", "two")
    await started(store, by="bob", unit="user")
    bob = Caller(DEFAULT_ID, "bob")
    turns = await turn_in(store, ADA), await turn_in(store, bob)
    for turn, caller in zip(turns, (ADA, bob), strict=True):
        await thumb(store, turn.message_id, 1, 1, caller)
        await experiments.score(store.backend, DEFAULT_ID, "tone", turn.chat.id, 3, NOON)
    await experiments.set_coverage(store.backend, DEFAULT_ID, "tone", 0.5, NOON, "bob")
    await experiments.stop_arm(store.backend, DEFAULT_ID, "tone", "v2", "too dear", NOON)
    return turns


async def test_an_erased_user_takes_exposures_feedback_and_scores_along(store: Store) -> None:
    ada, _ = await an_experiment_of_two(store)
    await erase.erase_user(store.backend, DEFAULT_ID, "bob")
    found = await experiments.get(store.backend, DEFAULT_ID, "tone")

    assert await counted(store, LEFT_BY_USERS) == [1, 1, 1]
    assert [unit["unit_id"] for unit in await units_of(store)] == [DEFAULT_ID]
    assert await store.backend.rows("SELECT chat_id FROM exposures") == [(ada.chat.id,)]
    assert found.started_by is not None and found.started_by.startswith("erased-")
    assert await store.backend.rows("SELECT COUNT(*) FROM coverage_changes WHERE changed_by = 'bob'") == [(0,)]
    assert (found.coverage, list(found.stopped_arms)) == (0.5, ["v2"])


async def test_who_only_ever_started_an_experiment_is_erased_too(store: Store) -> None:
    await saved(store, "one", "two")
    await started(store)
    await erase.erase_user(store.backend, DEFAULT_ID, "ada")

    assert (await experiments.get(store.backend, DEFAULT_ID, "tone")).started_by != "ada"


async def test_an_erased_org_takes_its_experiments_along(store: Store) -> None:
    await an_experiment_of_two(store)
    assert await counted(store, OF_AN_ORG) == [2, 2, 2, 1, 1, 1]
    await erase.erase_org(store.backend, DEFAULT_ID)

    assert await counted(store, OF_AN_ORG) == [0] * 6


async def test_chats_that_are_kept_no_longer_are_no_units(store: Store) -> None:
    await saved(store, "one", "two")
    await started(store)
    old = await turn_in(store)
    await thumb(store, old.message_id, 1, 1)
    await experiments.score(store.backend, DEFAULT_ID, "tone", old.chat.id, 3, NOON)
    await turn_in(store, started_at=NOON + timedelta(days=20))
    await erase.retain(store.backend, DEFAULT_ID, 30)
    await erase.prune(store.backend, NOON + timedelta(days=31))

    (kept,) = await units_of(store)
    assert kept["first_exposed_at"] == NOON + timedelta(days=20)
    assert await counted(store, LEFT_BY_USERS) == [1, 0, 0]
    assert (await experiments.get(store.backend, DEFAULT_ID, "tone")).running
