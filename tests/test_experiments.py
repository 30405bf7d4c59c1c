"""Experiments: frozen once started, units that keep their arm, and what is counted of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.test_prompts import moved, pointed, saved
from tests.test_store import ADA, EVE, NOON, a_turn, child
from workbench.errors import Conflict, InvalidRequest, LabelProtected, NotFound, PromptError
from workbench.ids import new_id
from workbench.prompts import experiments, labelling, versions
from workbench.prompts.choosing import choose, for_turn
from workbench.prompts.text import Reference
from workbench.store import Store
from workbench.turns import DEFAULT_ID, Caller, ChatInfo, PromptWanted

if TYPE_CHECKING:
    from workbench.prompts.experiments import StoredExperiment
    from workbench.turns import LiveTurn

HALVES = {"v1": 0.5, "v2": 0.5}
SUPPORT = Reference("support")


async def started(store: Store, name: str = "tone", arms: Any = HALVES, **more: Any) -> StoredExperiment:
    wanted = await experiments.prepared(store.backend, DEFAULT_ID, name, more.pop("prompt", "support"), arms, **more)
    return await experiments.start(store.backend, DEFAULT_ID, wanted, NOON, "ada")


async def stopped(store: Store, name: str = "tone", **more: Any) -> StoredExperiment:
    return await experiments.stop(store.backend, DEFAULT_ID, name, NOON, by="bob", **more)


async def turn_in(store: Store, caller: Caller = ADA, chat: ChatInfo | None = None, **changes: Any) -> LiveTurn:
    """A whole turn of a chat that asks for the label, as the engine chooses and keeps it."""
    chat = chat or ChatInfo(id=new_id(), wanted=PromptWanted("support"))
    chosen = await for_turn(store.backend, caller, chat)
    turn = a_turn(chat, caller=caller, chosen=chosen, **changes)
    await store.begin(turn)
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
        ({"arms": 7}, InvalidRequest, "arms are versions with their weights"),
        ({"arms": {"v1": 1, "v9": 1}}, PromptError, "the newest is support@3"),
        ({"arms": {"v1": 1, "staging": 1}}, PromptError, "'staging' is no version"),
        ({"arms": {"v1": 1, "v3": 1}}, InvalidRequest, "the variables of support@3 are customer, those of support@1"),
        ({"outcome": "joy"}, InvalidRequest, "no outcome 'joy'; there are cost, ttft"),
        ({"unit": "message"}, InvalidRequest, "the unit is 'message'; it must be chat or user"),
        ({"coverage": 1.5}, InvalidRequest, "a coverage of 1.5 is none"),
        ({"guard": {"joy": 1}}, InvalidRequest, "no guard can be joy=1"),
        ({"guard": {"cost": 0}}, InvalidRequest, "no guard can be cost=0"),
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
    await started(store)
    turns = [await turn_in(store) for _ in range(12)]
    later = [await turn_in(store, chat=turn.chat) for turn in turns]
    on = await turn_in(store, chat=before.chat)
    by_number = await turn_in(store, chat=ChatInfo(id=new_id(), wanted=PromptWanted("support@1")))
    await stopped(store, winner="v2")
    kept = [await turn_in(store, chat=await store.chat(ADA, turn.chat.id)) for turn in turns]
    after = await turn_in(store)

    arms = {seen(turn)[2] for turn in turns}
    assert arms == {"v1", "v2"}
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


async def test_a_user_gets_the_same_arm_in_every_chat(store: Store) -> None:
    await saved(store, "one", "two")
    await started(store, unit="user")
    users = [Caller(DEFAULT_ID, f"user-{n}") for n in range(10)]
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
    dealt = [experiment.arm_of(f"chat-{n}", "ada") for n in range(100_000)]
    some = range(0, 100_000, 997)
    chosen = [await choose(file_store.backend, DEFAULT_ID, SUPPORT, f"chat-{n}", "ada", first=True) for n in some]
    narrower = await experiments.set_coverage(file_store.backend, DEFAULT_ID, "tone", 0.3, NOON, "ada")
    fewer = [narrower.arm_of(f"chat-{n}", "ada") for n in range(100_000)]

    taking = [each[0] for each in dealt if each]
    assert abs(len(taking) / 100_000 - 0.8) < 0.005
    for arm, weight in {"v1": 0.5, "v2": 0.3, "v3": 0.2}.items():
        assert abs(taking.count(arm) / len(taking) - weight) < 0.005
    assert [exposure and (exposure.variant, exposure.unit_id) for _, exposure in chosen] == [dealt[n] for n in some]
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
