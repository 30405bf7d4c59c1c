"""What users think of replies, as those see it who gave it, on every store."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.test_store import ADA, EVE, NOON, a_turn
from workbench.errors import NotFound
from workbench.ids import new_id
from workbench.prompts.feedback import Feedback, give, given
from workbench.turns import ChatInfo

if TYPE_CHECKING:
    from workbench.store import Store
    from workbench.turns import LiveTurn

MINUTE = timedelta(minutes=1)


async def asked(store: Store, chat: ChatInfo) -> LiveTurn:
    turn = a_turn(chat, caller=ADA)
    await store.begin(turn)
    await store.record(turn)
    return turn


async def copy_of(store: Store, chat: ChatInfo) -> str:
    """The id that the first reply has in a fork."""
    return (await store.messages(ADA, chat.id))[1].id


async def test_of_each_reply_the_newest_counts_and_only_ones_own(store: Store) -> None:
    turn = await asked(store, ChatInfo(id=new_id()))
    chat_id, id = turn.chat.id, turn.message_id
    before = await given(store.backend, ADA, chat_id)
    await give(store.backend, ADA, id, 1, NOON + MINUTE)
    await give(store.backend, ADA, id, -1, NOON, "older")
    with pytest.raises(NotFound):
        await give(store.backend, EVE, id, -1, NOON + 2 * MINUTE)

    assert before == {}
    assert await given(store.backend, ADA, chat_id) == {id: Feedback(1, None)}
    assert await given(store.backend, EVE, chat_id) == {}


async def test_what_forks_share_is_rated_where_it_was_asked_and_seen_in_each(store: Store) -> None:
    turn = await asked(store, ChatInfo(id=new_id()))
    fork = await store.fork(ADA, turn.chat, 2)
    await asked(store, fork)
    second = await store.fork(ADA, fork, 2)
    copy, copy_of_copy = await copy_of(store, fork), await copy_of(store, second)
    await give(store.backend, ADA, copy_of_copy, -1, NOON, "wrong")
    rated = await store.backend.rows("SELECT chat_id, message_id FROM feedback")

    assert len({turn.message_id, copy, copy_of_copy}) == 3
    assert rated == [(turn.chat.id, turn.message_id)]
    for chat, id in ((turn.chat, turn.message_id), (fork, copy), (second, copy_of_copy)):
        assert await given(store.backend, ADA, chat.id) == {id: Feedback(-1, "wrong")}


async def test_a_reply_whose_first_chat_is_gone_is_rated_where_it_is(store: Store) -> None:
    turn = await asked(store, ChatInfo(id=new_id()))
    fork = await store.fork(ADA, turn.chat, 2)
    await give(store.backend, ADA, turn.message_id, 1, NOON)
    await store.delete_chat(ADA, turn.chat.id)
    copy, left = await copy_of(store, fork), await given(store.backend, ADA, fork.id)
    await give(store.backend, ADA, copy, -1, NOON)

    assert left == {}
    assert await given(store.backend, ADA, fork.id) == {copy: Feedback(-1, None)}
