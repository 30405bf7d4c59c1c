"""The store against a model of it in plain Python: whatever is done in whatever order, both hold the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, initialize, invariant, multiple, precondition, rule

from tests.machine import StoreMachine, run_machine
from tests.test_store import ADA, a_turn
from workbench.errors import NotFound, StoreBusy
from workbench.ids import new_id
from workbench.store.check import check
from workbench.turns import ChatInfo

if TYPE_CHECKING:
    from decimal import Decimal

    from workbench.turns import LiveTurn

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@dataclass
class Model:
    """What the store should hold: the messages of each chat, and of each call its chat, status and cost."""

    chats: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    usage: dict[str, tuple[str, str, Decimal | None]] = field(default_factory=dict)
    live: dict[str, LiveTurn] = field(default_factory=dict)
    """Turns that are on their way, by chat."""


class Machine(StoreMachine):
    """Turns, forks, deletions, reopened stores and other owners, in any order."""

    chats = Bundle("chats")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

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
        super().reopen()
        for id, turn in self.model.live.items():
            role, text, _ = self.model.chats[id][-1]
            self.model.chats[id][-1] = (role, text, "lost")
            self.model.usage[turn.id] = (id, "lost", None)
        self.model.live.clear()

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

    def _begin(self, chat: ChatInfo, question: str, text: str) -> None:
        turn = a_turn(chat, question, text, started_at=datetime.now(UTC))
        self.run_(self.store.begin(turn))
        self.model.live[chat.id] = turn
        self.model.chats[chat.id] += [("user", question, "complete"), ("assistant", "", "streaming")]


def test_the_store_does_what_its_model_does(backend: str, request: pytest.FixtureRequest) -> None:
    run_machine(Machine, backend, request, steps=25)
