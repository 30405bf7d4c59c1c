"""The store against a model of it in plain Python: whatever is done in whatever order, both hold the same."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.owner import OwnerProcess
from tests.test_store import ADA, a_turn
from workbench.errors import NotFound, StoreBusy
from workbench.ids import new_id
from workbench.store import Store
from workbench.store.check import check
from workbench.turns import ChatInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from decimal import Decimal
    from pathlib import Path

    from tests.postgres import PostgresServer
    from workbench.turns import LiveTurn

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@dataclass
class Model:
    """What the store should hold: the messages of each chat, and of each call its chat, status and cost."""

    chats: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    usage: dict[str, tuple[str, str, Decimal | None]] = field(default_factory=dict)
    live: dict[str, LiveTurn] = field(default_factory=dict)
    """Turns that are on their way, by chat."""


class Home:
    """Where the store of one run is, and what can happen to whoever serves it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def take_over(self) -> None:
        """Let somebody else serve the rows from now on."""

    def leave(self) -> None:
        """Tidy up."""


class Machine(RuleBasedStateMachine):
    """Turns, forks, deletions, reopened stores and other owners, in any order."""

    chats = Bundle("chats")
    home_of: Callable[[], Home]

    def __init__(self) -> None:
        super().__init__()
        self.home = type(self).home_of()
        self.model = Model()
        self.runner = asyncio.Runner()
        self.store: Store = self.run_(Store.open(self.home.address))

    def run_(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize(target=chats, question=WORDS, text=WORDS)
    def first(self, question: str, text: str) -> ChatInfo:
        return self.new_chat(question, text)

    @rule(target=chats, question=WORDS, text=WORDS)
    def new_chat(self, question: str, text: str) -> ChatInfo:
        chat = ChatInfo(id=new_id())
        self.model.chats[chat.id] = []
        self._begin(chat, question, text)
        self.end_turn(chat, "complete", again=False)
        return chat

    @rule(chat=chats, question=WORDS, text=WORDS)
    def begin_turn(self, chat: ChatInfo, question: str, text: str) -> None:
        if chat.id not in self.model.live:
            self._begin(chat, question, text)

    @rule(chat=chats, status=st.sampled_from(["complete", "interrupted", "failed"]), again=st.booleans())
    def end_turn(self, chat: ChatInfo, status: Any, *, again: bool) -> None:
        """Record how the turn ended, perhaps twice: whoever got no answer asks again."""
        if turn := self.model.live.pop(chat.id, None):
            turn.status = status
            for _ in range(2 if again else 1):
                self.run_(self.store.record(turn))
            self.model.chats[chat.id][-1] = ("assistant", turn.answer.text, status)
            self.model.usage[turn.id] = (chat.id, status, turn.cost_usd)

    @rule(chat=chats)
    def checkpoint(self, chat: ChatInfo) -> None:
        if turn := self.model.live.get(chat.id):
            self.run_(self.store.checkpoint(turn))
            self.model.chats[chat.id][-1] = ("assistant", turn.answer.text, "streaming")

    @rule(target=chats, chat=chats, data=st.data())
    def fork(self, chat: ChatInfo, data: st.DataObject) -> Any:
        messages = self.model.chats[chat.id]
        ends = [n for n, (role, _, status) in enumerate(messages, 1) if role == "assistant" and status != "streaming"]
        if not ends:
            return multiple()
        at = data.draw(st.sampled_from(ends))
        fork: ChatInfo = self.run_(self.store.fork(ADA, chat, at))
        self.model.chats[fork.id] = messages[:at]
        return fork

    @rule(chat=chats)
    def delete_in_a_turn(self, chat: ChatInfo) -> None:
        if chat.id in self.model.live:
            with pytest.raises(StoreBusy):
                self.run_(self.store.delete_chat(ADA, chat.id))

    @rule(chat=consumes(chats))
    def delete(self, chat: ChatInfo) -> None:
        self.end_turn(chat, "complete", again=False)
        self.run_(self.store.delete_chat(ADA, chat.id))
        del self.model.chats[chat.id]
        with pytest.raises(NotFound):
            self.run_(self.store.chat(ADA, chat.id))

    @rule()
    def reopen(self) -> None:
        """What was on its way is lost, but not what had come of it."""
        self.store.close()
        self.store = self.run_(Store.open(self.home.address))
        for id, turn in self.model.live.items():
            role, text, _ = self.model.chats[id][-1]
            self.model.chats[id][-1] = (role, text, "lost")
            self.model.usage[turn.id] = (id, "lost", None)
        self.model.live.clear()

    @rule()
    def take_over(self) -> None:
        self.home.take_over()

    @invariant()
    def holds_what_it_should(self) -> None:
        for id, expected in self.model.chats.items():
            kept = self.run_(self.store.messages(ADA, id))
            assert [(message.role, message.content, message.status) for message in kept] == expected
        calls = self.run_(self.store.backend.rows("SELECT id, chat_id, status, cost_usd FROM usage"))
        # what a lost call cost is an estimate, with tests of its own
        assert {id: (c, s, None if s == "lost" else cost) for id, c, s, cost in calls} == self.model.usage
        assert len(calls) == len(self.model.usage)

    @precondition(lambda self: not self.model.live)
    @invariant()
    def is_sound(self) -> None:
        assert [f.name for f in self.run_(check(self.store.backend)) if not f.ok] == []
        assert self.run_(self.store.backend.rows("SELECT id FROM holds WHERE state = 'open'")) == []

    def teardown(self) -> None:
        self.store.close()
        self.home.leave()
        self.runner.close()

    def _begin(self, chat: ChatInfo, question: str, text: str) -> None:
        turn = a_turn(chat, question, text, started_at=datetime.now(UTC))
        self.run_(self.store.begin(turn))
        self.model.live[chat.id] = turn
        self.model.chats[chat.id] += [("user", question, "complete"), ("assistant", "", "streaming")]


# The three homes ----------------------------------------------------------------------------------------------------


class OwnFile(Home):
    """A file of this process's own, which another process opens too, and keeps when this one closes it."""

    def __init__(self, path: str, other: OwnerProcess, *, other_first: bool) -> None:
        super().__init__(path)
        self.other = other
        self.other_has_it = False
        if other_first:
            self.take_over()

    def take_over(self) -> None:
        """The other process opens the file, as a client if this one owns it; or leaves it, and this one takes over."""
        (self.other.close if self.other_has_it else self.other.open)(self.address)
        self.other_has_it = not self.other_has_it

    def leave(self) -> None:
        if self.other_has_it:
            self.take_over()


class Database(Home):
    """A database whose server hangs up."""

    def __init__(self, server: PostgresServer, template: str) -> None:
        self.server, self.name = server, server.database(template)
        super().__init__(server.url(self.name))

    def take_over(self) -> None:
        self.server.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")

    def leave(self) -> None:
        self.server.drop(self.name)


@pytest.fixture(scope="module")
def other() -> Iterator[OwnerProcess]:
    process = OwnerProcess()
    yield process
    process.end()


@pytest.mark.parametrize("backend", ["file", "client", "postgresql"])
def test_the_store_does_what_its_model_does(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    numbers = count(1)
    if backend == "postgresql":
        server = request.getfixturevalue("postgres")
        template = request.getfixturevalue("postgres_tables")
    else:
        other = request.getfixturevalue("other")
        empty = tmp_path / "empty.duckdb"
        asyncio.run(Store.open(str(empty))).close()

    def home() -> Home:
        if backend == "postgresql":
            return Database(server, template)
        path = tmp_path / f"{next(numbers)}.duckdb"
        shutil.copy(empty, path)
        return OwnFile(str(path), other, other_first=backend == "client")

    class Here(Machine):
        home_of = staticmethod(home)

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Here,
        settings=settings(
            max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
