"""The store in PostgreSQL: what differs from a file. What is the same for both is in test_store.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.test_store import a_chat, keep, a_turn, two_turns, ADA
from workbench.store import Store

async def test_a(postgres_url: str) -> None:
    store = await Store.open(postgres_url)
    chat = await two_turns(store)
    print(await store.messages(ADA, chat.id))
    print((await store.arrow("SELECT * FROM usage")).schema)
    print((await store.arrow("SELECT SUM(cost_usd), SUM(input_tokens), AVG(cost_usd) FROM usage")))
    print((await store.read_only("SELECT * FROM usage")).schema)
    store.close()
