"""A process that goes through turns until it is killed, and says how far each of them is.

A line is one write, and shorter than what a pipe takes in one piece: a kill tears none. Its first word is the step, its
second the turn. ``kept`` is the acknowledgement: by then the caller has the whole reply, and may rely on it.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anthropic  # noqa: F401  # it takes a second, and processes are forked from one that has imported this module

from workbench import engine as engines
from workbench.engine import Engine
from workbench.ids import new_id
from workbench.pricing import worst_case
from workbench.settings import read_settings
from workbench.store import Store, postgres, shared  # noqa: F401  # the same
from workbench.store.backend import Statement
from workbench.store.queries import query
from workbench.turns import Caller, ChatInfo, LiveTurn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from workbench.budgets import Budget

ADA = Caller()
LANES = 4
"""Turns at a time: a kill finds them at different steps."""
CHECKPOINT_SECONDS = 0.03
"""So that replies of a tenth of a second have their partial text saved, as those of a minute have."""
PULSE_SECONDS = 0.02

worst_case("claude-sonnet-5-5", 1, 1, datetime.now(UTC))  # so is the price table


class Mouth:
    """Where lines are said."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def say(self, *words: object) -> None:
        os.write(self._pipe.fileno(), (" ".join(map(str, words)) + "\n").encode())


class TellingStore(Store):
    """Says what it is about to write, and what has been written."""

    mouth: Mouth

    async def begin(self, turn: LiveTurn, budgets: Sequence[Budget] = ()) -> None:
        self.mouth.say("begin", turn.id)
        await super().begin(turn, budgets)
        self.mouth.say("began", turn.id)

    async def checkpoint(self, turn: LiveTurn) -> None:
        characters = len(turn.answer.text)
        self.mouth.say("save", turn.id)
        await super().checkpoint(turn)
        self.mouth.say("saved", turn.id, characters)

    async def record(self, turn: LiveTurn) -> None:
        self.mouth.say("record", turn.id)
        await super().record(turn)

    async def pulse(self) -> None:
        """Write something small all the time, and say how long it took: a stall is seen whenever it happens."""
        while True:
            begun = time.monotonic()
            await self.backend.write([Statement(query("beat"), self.session.row())])
            self.mouth.say("pulse", time.monotonic() - begun)
            await asyncio.sleep(PULSE_SECONDS)


def work(url: str, upstream: str, seed: float, mouth: Connection, life: Connection, log: str) -> None:
    """Work until killed, or until the harness is gone."""
    os.setsid()  # Ctrl-C is for the harness, which kills us
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    asyncio.run(_work(url, upstream, random.Random(seed), Mouth(mouth)))


def _end_with(life: Connection) -> None:
    life.poll(None)  # nothing is ever sent: it was closed
    os._exit(0)


async def _work(url: str, upstream: str, chance: random.Random, mouth: Mouth) -> None:
    engines.CHECKPOINT_SECONDS = CHECKPOINT_SECONDS
    settings = read_settings(ANTHROPIC_API_KEY="sk-ant-test", ANTHROPIC_BASE_URL=upstream, WORKBENCH_STORE=url)
    TellingStore.mouth = mouth
    store = await TellingStore.open(url)
    mouth.say("session", store.session.id)
    engine = Engine(settings, store)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store.pulse())
        for _ in range(LANES):
            tasks.create_task(_lane(engine, chance, mouth))


async def _lane(engine: Engine, chance: random.Random, mouth: Mouth) -> None:
    """Ask a few questions in a chat, then in another, without end."""
    while True:
        chat = await _a_chat(engine, chance)
        for _ in range(chance.randint(1, 4)):
            async with engine.turn(ADA, chat, f"question {new_id()}") as turn:
                async for _ in turn:
                    pass
            mouth.say("kept", turn.id, turn.message_id)


async def _a_chat(engine: Engine, chance: random.Random) -> ChatInfo:
    """A new one, or one that another process may have begun, and may be using."""
    known = (await engine.store.chats(ADA, limit=10))["chat_id"].to_pylist()
    if not known or chance.random() < 0.5:
        return engine.new_chat()
    return await engine.store.chat(ADA, chance.choice(known))
