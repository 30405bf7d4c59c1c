"""Erasure and retention: what people said goes, what it cost stays, and nobody else notices."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import workbench as wb
from tests.faults.upstream import reply
from tests.test_store import ADA, BOB, EVE, NOON, a_chat, a_turn, keep, two_turns
from workbench.errors import NotFound, StoreBusy
from workbench.ids import new_id
from workbench.limits import of_org, of_user
from workbench.prompts import labelling, versions
from workbench.store import Store, erase, tenants
from workbench.store.backend import Statement
from workbench.store.check import check
from workbench.turns import DEFAULT_ID, Caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.upstream import ScriptedUpstream

LATER = NOON + timedelta(days=31)
GONE_WITH_IT = ("messages", "feedback", "exposures", "experiment_scores")


@pytest.fixture
async def store(store: Store) -> AsyncIterator[Store]:
    """Sound at the end of every test."""
    yield store
    assert [finding.name for finding in await check(store.backend) if not finding.ok] == []


async def count(store: Store, table: str, where: str = "TRUE") -> int:
    ((found,),) = await store.backend.rows(f"SELECT COUNT(*) FROM {table} WHERE {where}")
    return int(found)


async def all_of(store: Store, caller: Caller) -> list[Any]:
    """Every row an org has."""
    return [
        (table, sorted(map(str, await store.backend.rows(f"SELECT * FROM {table} WHERE org_id = $1", caller.org_id))))
        for table in erase.ORG_TABLES
    ]


async def with_feedback(store: Store, chat_id: str, caller: Caller = ADA) -> None:
    """Feedback of the caller on the chat, an exposure of it to an experiment and its score."""
    given = (new_id(), caller.org_id, caller.user_id, chat_id, NOON)
    await store.backend.write(
        [
            Statement("INSERT INTO feedback VALUES ($1, $2, $3, $4, 'm', 1, 'so kind', $5)", given),
            Statement(
                "INSERT INTO exposures (id, org_id, user_id, unit_id, chat_id, exposed_at, experiment, variant, version) "
                "VALUES ($1, $2, $3, $4, $4, $5, 'tone', 'v3', 3)",
                given,
            ),
            Statement("INSERT INTO experiment_scores VALUES ($1, $2, 'tone', $3, 0.5, $4)", (*given[:2], *given[3:])),
        ]
    )


# A chat -------------------------------------------------------------------------------------------------------------


async def test_a_deleted_chat_is_gone_but_for_its_usage(store: Store) -> None:
    chat = await two_turns(store)
    other = await two_turns(store)
    await with_feedback(store, chat.id)
    before = await store.backend.rows("SELECT * FROM usage ORDER BY id")

    await store.delete_chat(ADA, chat.id)

    assert [c["chat_id"] for c in (await store.chats(ADA)).to_pylist()] == [other.id]
    gone = f"chat_id = '{chat.id}'"
    assert [await count(store, t, gone) for t in (*GONE_WITH_IT, "holds")] == [0, 0, 0, 0, 0]
    assert await store.backend.rows("SELECT * FROM usage ORDER BY id") == before
    assert await count(store, "usage", f"{gone} AND message_id IS NOT NULL") == 2
    assert len(await store.messages(ADA, other.id)) == 4


async def test_deleting_a_chat_twice_says_that_it_is_not_there(store: Store) -> None:
    chat = await two_turns(store)
    await store.delete_chat(ADA, chat.id)

    with pytest.raises(NotFound, match=f"no chat '{chat.id}'"):
        await store.delete_chat(ADA, chat.id)
    assert await count(store, "usage") == 2


@pytest.mark.parametrize("stranger", [BOB, EVE], ids=["another user", "another org"])
async def test_a_stranger_cannot_delete_a_chat(store: Store, stranger: Caller) -> None:
    chat = await two_turns(store)

    with pytest.raises(NotFound):
        await store.delete_chat(stranger, chat.id)
    assert len(await store.messages(ADA, chat.id)) == 4


async def test_a_fork_outlives_the_chat_it_came_from(store: Store) -> None:
    chat = await two_turns(store)
    fork = await store.fork(ADA, chat, 4)

    await store.delete_chat(ADA, chat.id)

    assert [m.content for m in await store.messages(ADA, fork.id)] == ["hi", "Hello", "and you?", "Fine"]


async def test_a_chat_in_which_a_turn_runs_is_not_deleted(store: Store) -> None:
    chat = await two_turns(store)
    turn = a_turn(chat)
    await store.begin(turn)

    with pytest.raises(StoreBusy, match=f"a turn of chat {chat.id} is still running and has to be billed"):
        await store.delete_chat(ADA, chat.id)
    await store.record(turn)

    assert len(await store.messages(ADA, chat.id)) == 6
    await store.delete_chat(ADA, chat.id)
    assert await count(store, "usage") == 3


def test_a_chat_object_deletes_its_chat_and_begins_anew_when_asked_again(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four"), reply("Blue"))
    chat = wb.Chat()
    chat.ask("2+2?")
    chat.delete()
    assert (chat.messages, chat.title, len(wb.chats())) == ([], "", 0)

    chat.ask("What colour?")

    assert [m["role"] for m in scripted.last.body["messages"]] == ["user"]
    assert ([m.content for m in chat.messages], chat.title) == (["What colour?", "Blue"], "What colour?")
    assert len(wb.usage()) == 2


def test_a_chat_that_was_not_begun_cannot_be_deleted(scripted: ScriptedUpstream) -> None:
    with pytest.raises(NotFound):
        wb.Chat().delete()


# A user -------------------------------------------------------------------------------------------------------------


async def test_an_erased_user_leaves_counts_and_costs_and_no_name(store: Store) -> None:
    for _ in range(3):
        await two_turns(store, BOB)
    mine = await two_turns(store)
    await with_feedback(store, mine.id, BOB)
    spent = "SELECT COUNT(*), SUM(cost_usd), SUM(input_tokens) FROM usage"
    before = await store.backend.rows(spent)

    removed = await erase.erase_user(store.backend, DEFAULT_ID, "bob")

    assert removed == erase.Removed(chats=3, messages=12, usage=6)
    assert await store.backend.rows(spent) == before
    for table in ("chats", "messages", "usage", "holds", "feedback", "exposures"):
        rows = await store.backend.rows(f"SELECT * FROM {table}")
        assert [row for row in rows if "bob" in map(str, row)] == []
    assert await count(store, "users", "id = 'bob'") == 0
    names = await store.backend.rows(
        "SELECT user_id, COUNT(*) FROM usage WHERE user_id LIKE 'erased-%' GROUP BY user_id"
    )
    assert [n for _, n in names] == [6]
    assert len(await store.messages(ADA, mine.id)) == 4


async def test_an_erased_users_keys_and_prompts_name_them_no_more(store: Store) -> None:
    await keep(store, a_turn(a_chat(), caller=BOB))
    await store.backend.write(
        [
            Statement(
                "INSERT INTO api_keys (id, org_id, user_id, secret_sha256, scopes, created_at) "
                "VALUES ('k', $1, 'bob', 'x', 'chat', $2)",
                (DEFAULT_ID, NOON),
            ),
            Statement(
                "INSERT INTO prompt_versions (org_id, name, version, text, sha256, author, created_at) "
                "VALUES ($1, 'p', 1, 'Hi', 'x', 'bob', $2)",
                (DEFAULT_ID, NOON),
            ),
            Statement(
                "INSERT INTO prompt_labels (id, org_id, name, label, version, moved_at, moved_by, move) "
                "VALUES ('l', $1, 'p', 'x', 1, $2, 'bob', 1)",
                (DEFAULT_ID, NOON),
            ),
            Statement("INSERT INTO protected_labels VALUES ($1, 'p', 'x', $2, 'bob')", (DEFAULT_ID, NOON)),
            Statement(
                "INSERT INTO experiments (org_id, name, prompt_name, arms, outcome, salt, started_at, started_by, stopped_by) "
                "VALUES ($1, 'e', 'p', '{}', 'cost', 's', $2, 'bob', 'bob')",
                (DEFAULT_ID, NOON),
            ),
        ]
    )
    await erase.erase_user(store.backend, DEFAULT_ID, "bob")

    assert await count(store, "api_keys") == 0
    assert await count(store, "prompt_versions", "author LIKE 'erased-%'") == 1
    assert await count(store, "prompt_labels", "moved_by LIKE 'erased-%'") == 1
    assert await count(store, "protected_labels", "protected_by LIKE 'erased-%'") == 1
    assert await count(store, "experiments", "started_by LIKE 'erased-%' AND stopped_by LIKE 'erased-%'") == 1


async def test_a_key_that_is_its_own_user_is_erased_as_one(store: Store) -> None:
    made = await tenants.create_key(store.backend, DEFAULT_ID, NOON, name="Bob's laptop")
    await keep(store, a_turn(a_chat(), caller=Caller(DEFAULT_ID, made.id, "server", made.id)))

    await erase.erase_user(store.backend, DEFAULT_ID, made.id)

    for table in ("usage", "holds", "users", "api_keys"):
        rows = await store.backend.rows(f"SELECT * FROM {table}")
        assert [row for row in rows if made.id in map(str, row)] == []


async def test_the_key_of_a_user_is_none_itself(store: Store) -> None:
    await keep(store, a_turn(a_chat()))  # so that there is the user
    made = await tenants.create_key(store.backend, DEFAULT_ID, NOON, user_id=ADA.user_id)
    await keep(store, a_turn(a_chat(), caller=Caller(DEFAULT_ID, ADA.user_id, "server", made.id)))
    before = await all_of(store, ADA)

    with pytest.raises(NotFound, match=f"no user '{made.id}'"):
        await erase.erase_user(store.backend, DEFAULT_ID, made.id)
    assert await all_of(store, ADA) == before  # what the key has spent still counts against its budget


async def test_who_only_ever_saved_a_prompt_can_be_erased(store: Store) -> None:
    await keep(store, a_turn(a_chat()))  # so that there is the org
    await versions.save(store.backend, DEFAULT_ID, "support", "Hi", NOON, author="carol")

    await erase.erase_user(store.backend, DEFAULT_ID, "carol")

    kept = await versions.get(store.backend, DEFAULT_ID, "support")
    assert str(kept.author).startswith("erased-")
    with pytest.raises(NotFound):
        await erase.erase_user(store.backend, DEFAULT_ID, "carol")


async def test_an_erased_org_takes_its_prompts_along(store: Store) -> None:
    await keep(store, a_turn(a_chat(), caller=EVE))
    for org in (EVE.org_id, DEFAULT_ID):
        await versions.save(store.backend, org, "support", "Hi", NOON)

    await erase.erase_org(store.backend, EVE.org_id)

    assert (await versions.table(store.backend, EVE.org_id)).num_rows == 0
    assert (await versions.get(store.backend, DEFAULT_ID, "support")).labels == ("production",)


async def test_a_user_who_only_protected_a_label_can_be_erased(store: Store) -> None:
    await versions.save(store.backend, DEFAULT_ID, "support", "Hi", NOON, author="carol")
    await labelling.protect(store.backend, DEFAULT_ID, "support", "production", NOON, "dora")
    await erase.erase_user(store.backend, DEFAULT_ID, "dora")

    assert await count(store, "protected_labels", "protected_by LIKE 'erased-%'") == 1


async def test_the_same_user_of_another_org_is_not_touched(store: Store) -> None:
    theirs = Caller("acme", "bob")
    chat = await two_turns(store, theirs)
    await with_feedback(store, chat.id, theirs)
    await two_turns(store, BOB)
    before = await all_of(store, theirs)

    await erase.erase_user(store.backend, DEFAULT_ID, "bob")

    assert await all_of(store, theirs) == before


async def test_erasing_a_user_twice_changes_nothing(store: Store) -> None:
    await two_turns(store, BOB)
    await erase.erase_user(store.backend, DEFAULT_ID, "bob")
    before = await all_of(store, ADA)

    with pytest.raises(NotFound, match="no user 'bob'"):
        await erase.erase_user(store.backend, DEFAULT_ID, "bob")
    assert await all_of(store, ADA) == before


async def test_a_user_with_a_running_turn_is_erased_but_for_that_chat(store: Store) -> None:
    await two_turns(store, BOB)
    turn = a_turn(a_chat(), caller=BOB)
    await store.begin(turn)

    with pytest.raises(StoreBusy, match=r"a turn of user 'bob' of org .* is still running"):
        await erase.erase_user(store.backend, DEFAULT_ID, "bob")
    assert [c["chat_id"] for c in (await store.chats(BOB)).to_pylist()] == [turn.chat.id]
    await store.record(turn)

    assert (await erase.erase_user(store.backend, DEFAULT_ID, "bob")).usage == 3


# An org -------------------------------------------------------------------------------------------------------------


async def test_an_erased_org_leaves_nothing_and_others_are_not_touched(store: Store) -> None:
    chat = await two_turns(store, EVE)
    await with_feedback(store, chat.id, EVE)
    await two_turns(store)
    before = await all_of(store, ADA)

    removed = await erase.erase_org(store.backend, "evil")

    assert removed == erase.Removed(chats=1, messages=4, usage=2)
    assert [rows for _, rows in await all_of(store, EVE)] == [[]] * len(erase.ORG_TABLES)
    assert await count(store, "orgs", "id = 'evil'") == 0
    assert await all_of(store, ADA) == before


@pytest.mark.parametrize("what", ["org", "user"])
async def test_who_asks_again_after_being_erased_is_known_again(store: Store, what: str) -> None:
    await two_turns(store, EVE)
    who = (EVE.org_id,) if what == "org" else (EVE.org_id, EVE.user_id)
    await getattr(erase, f"erase_{what}")(store.backend, *who)

    assert await store.budgets(EVE, NOON) == []  # looked at before every turn
    await two_turns(store, EVE)

    assert await count(store, "orgs", f"id = '{EVE.org_id}'") == 1
    assert await count(store, "users", f"org_id = '{EVE.org_id}' AND id = '{EVE.user_id}'") == 1


async def test_an_org_with_a_running_turn_keeps_its_usage_until_the_turn_is_billed(store: Store) -> None:
    await two_turns(store, EVE)
    turn = a_turn(a_chat(), caller=EVE)
    await store.begin(turn)

    with pytest.raises(StoreBusy, match="a turn of org 'evil' is still running"):
        await erase.erase_org(store.backend, "evil")
    await store.record(turn)
    assert await count(store, "usage", "org_id = 'evil'") == 3

    await erase.erase_org(store.backend, "evil")
    assert await count(store, "usage") == 0


async def test_erasing_an_org_twice_says_that_it_is_not_there(store: Store) -> None:
    await two_turns(store, EVE)
    await erase.erase_org(store.backend, "evil")

    with pytest.raises(NotFound, match="no org 'evil'"):
        await erase.erase_org(store.backend, "evil")


async def test_no_rate_limit_names_who_was_erased(store: Store) -> None:
    """In PostgreSQL servers share the buckets; in a file there are none, and no harm in looking."""
    whose = [of_user("evil", "bob"), of_user("evil", "eve"), of_org("evil"), of_org("vil"), of_user("e_il", "bob")]
    new = "INSERT INTO rate_buckets (id, tokens, taken, updated_at) VALUES ($1, 1, 1, $2)"
    await store.backend.write([Statement(new, (key, NOON)) for key in whose])
    await two_turns(store, EVE)
    await two_turns(store, Caller("evil", "bob"))

    await erase.erase_user(store.backend, "evil", "bob")
    left = await store.backend.rows("SELECT id FROM rate_buckets")
    assert {id for (id,) in left} == set(whose[1:])
    await erase.erase_org(store.backend, "evil")
    left = await store.backend.rows("SELECT id FROM rate_buckets")
    assert {id for (id,) in left} == set(whose[3:])


async def test_every_table_of_an_org_is_among_those_erased(store: Store) -> None:
    tables = await store.backend.rows(
        "SELECT table_name FROM information_schema.columns WHERE column_name = 'org_id' AND table_schema = current_schema()"
    )
    assert {name for (name,) in tables} == set(erase.ORG_TABLES)


# Retention ----------------------------------------------------------------------------------------------------------


async def test_chats_unused_for_longer_than_their_org_keeps_them_are_pruned(store: Store) -> None:
    old, used = await two_turns(store), await two_turns(store)
    await keep(store, a_turn(used, started_at=NOON + timedelta(days=1)))
    await erase.retain(store.backend, DEFAULT_ID, 30)

    removed = await erase.prune(store.backend, NOON + timedelta(days=30, seconds=1))

    assert removed == {DEFAULT_ID: erase.Removed(chats=1, messages=4)}
    assert [c["chat_id"] for c in (await store.chats(ADA)).to_pylist()] == [used.id]
    assert await store.messages(ADA, old.id) == []
    assert await count(store, "usage") == 5


async def test_a_chat_used_exactly_so_long_ago_is_kept(store: Store) -> None:
    await two_turns(store)
    await erase.retain(store.backend, DEFAULT_ID, 30)

    assert await erase.prune(store.backend, NOON + timedelta(days=30)) == {DEFAULT_ID: erase.Removed()}


async def test_each_org_has_its_own_time_and_by_default_keeps_everything(store: Store) -> None:
    await two_turns(store)
    await two_turns(store, EVE)
    await two_turns(store, Caller("acme", "x"))
    await erase.retain(store.backend, "evil", 1)
    await erase.retain(store.backend, "acme", 60)
    before = await all_of(store, ADA)

    removed = await erase.prune(store.backend, LATER)

    assert removed == {"acme": erase.Removed(), "evil": erase.Removed(chats=1, messages=4)}
    assert await all_of(store, ADA) == before


async def test_kept_for_ever_again_nothing_is_pruned(store: Store) -> None:
    await two_turns(store)
    await erase.retain(store.backend, DEFAULT_ID, 1)
    await erase.retain(store.backend, DEFAULT_ID, None)

    assert await erase.prune(store.backend, LATER) == {}


async def test_an_unknown_org_cannot_be_told_how_long_to_keep(store: Store) -> None:
    with pytest.raises(NotFound, match="no org 'nobody'"):
        await erase.retain(store.backend, "nobody", 3)


async def test_pruning_goes_in_chunks_and_says_how_far_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "CHUNK", 2)
    for _ in range(5):
        await keep(store, a_turn(a_chat()))
    await erase.retain(store.backend, DEFAULT_ID, 30)
    told: list[int] = []

    await erase.prune(store.backend, LATER, lambda removed: told.append(removed.chats))

    assert told == [2, 4, 5]


async def test_a_live_turn_survives_a_prune(store: Store) -> None:
    chat = await two_turns(store)
    await two_turns(store)
    turn = a_turn(chat)  # long ago, by its own clock
    await store.begin(turn)
    await erase.retain(store.backend, DEFAULT_ID, 30)

    removed = await erase.prune(store.backend, LATER)
    await store.record(turn)

    assert removed == {DEFAULT_ID: erase.Removed(chats=1, messages=4)}
    assert [m.seq for m in await store.messages(ADA, chat.id)] == [1, 2, 3, 4, 5, 6]


async def test_turns_begun_while_a_prune_runs_are_kept_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "CHUNK", 3)
    chats = [(await keep(store, a_turn(a_chat()))).chat for _ in range(12)]
    await erase.retain(store.backend, DEFAULT_ID, 30)

    pruning = asyncio.create_task(erase.prune(store.backend, LATER))
    turns = [await keep(store, a_turn(chat, started_at=LATER)) for chat in reversed(chats)]
    await pruning

    assert await count(store, "usage") == 24
    for turn in turns:
        assert [m.id for m in await store.messages(ADA, turn.chat.id)][-2:] == [turn.question_id, turn.message_id]


async def test_a_chat_used_between_being_found_and_being_deleted_stays(store: Store) -> None:
    chat = await two_turns(store)
    turn = a_turn(chat, started_at=LATER)
    deletion = erase._deletion([chat.id], DEFAULT_ID, NOON + timedelta(days=1))
    await keep(store, turn)

    await store.backend.write(deletion)

    assert len(await store.messages(ADA, chat.id)) == 6
