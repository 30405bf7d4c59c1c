"""What an analyst does in a notebook; one call of ``work`` is one cell."""

from __future__ import annotations

from itertools import count, cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import workbench as wb
from tests.together.diary import Diary, entries

if TYPE_CHECKING:
    from workbench import Chat, Reply

LONG = "[long]"
"""In a question: the reply takes more than two seconds, so that its beginning is saved meanwhile."""


class Analyst:
    """Asks, reads, forks and deletes, and looks after each whether what was there before still is."""

    def __init__(self, name: str, folder: str, shared_chat: str) -> None:
        before = entries(Path(folder), name)
        self.diary = Diary(Path(folder), name)
        self.shared_chat = shared_chat
        gone = {entry["chat_id"] for entry in before if entry["what"] == "delete"}
        asked = [e["chat_id"] for e in before if e["what"] == "ask in a fork" and "text" in e]
        self.forks = [chat_id for chat_id in asked if chat_id not in gone]
        self.questions = count(len(before))
        self.calls = 0
        tasks = [
            self.ask,
            self.look_at_usage,
            self.stream,
            self.look_at_messages,
            self.fork,
            self.query,
            self.ask_in_the_shared_chat,
            self.list_chats,
            self.leave,
            self.delete,
            self.ask_at_length,
            self.begin_anew,
        ]
        self._tasks = islice(cycle(tasks), len(before), None)
        self._go_on(before)
        for task in (self.ask, self.look_at_usage, self.query):  # loads libraries, which nobody should take for a stall
            task()

    def work(self) -> None:
        next(self._tasks)()

    def _go_on(self, before: list[dict]) -> None:
        """With the last chat there was, every turn of which must be there as it was told."""
        turns = [entry for entry in before if "text" in entry and entry["own"]]
        if not turns:
            self.begin_anew()
            return
        with self.diary.entry("open"):
            self.chat = wb.Chat.open(turns[-1]["chat_id"])
        kept = {message.id: message.content for message in self.chat.messages}
        assert [t for t in turns if t["chat_id"] == self.chat.id and kept.get(t["message_id"]) != t["text"]] == []

    # Turns ----------------------------------------------------------------------------------------------------------

    def ask(self, chat: Chat | None = None, what: str = "ask", more: str = "") -> None:
        chat = chat or self.chat
        question = f"{self.diary.who} asks {next(self.questions)} {more}"
        with self.diary.entry(what, question=question, own=chat is self.chat) as entry:
            entry |= told(chat.ask(question))

    def ask_at_length(self) -> None:
        self.ask(what="ask at length", more=LONG)

    def ask_in_the_shared_chat(self) -> None:
        self.ask(wb.Chat.open(self.shared_chat), "ask in the shared chat")

    def stream(self) -> None:
        question = f"{self.diary.who} streams {next(self.questions)}"
        with self.diary.entry("stream", question=question, own=True) as entry:
            stream = self.chat.stream(question)
            assert "".join(stream) == stream.reply.text
            entry |= told(stream.reply)

    def leave(self) -> None:
        question = f"{self.diary.who} leaves {next(self.questions)}"
        with self.diary.entry("leave", question=question, own=True) as entry:
            stream = self.chat.stream(question)
            for _ in stream:
                break
            stream.close()
            entry |= told(stream.reply)

    # Chats ----------------------------------------------------------------------------------------------------------

    def begin_anew(self) -> None:
        self.chat = wb.Chat(system="You are terse.")
        self.ask()

    def fork(self) -> None:
        with self.diary.entry("fork") as entry:
            fork = self.chat.fork(at=2)
            entry |= {"chat_id": fork.id, "texts": [message.content for message in fork.messages]}
        self.ask(fork, "ask in a fork")
        self.forks.append(fork.id)

    def delete(self) -> None:
        """Delete forks but for the latest: so one always stays."""
        for fork in self.forks[:-1]:
            with self.diary.entry("delete", chat_id=fork):
                wb.Chat.open(fork).delete()
            self.forks.remove(fork)

    # Looking --------------------------------------------------------------------------------------------------------

    def look_at_messages(self) -> None:
        with self.diary.entry("messages"):
            messages = self.chat.messages
        assert [m.seq for m in messages] == list(range(1, len(messages) + 1))

    def look_at_usage(self) -> None:
        with self.diary.entry("usage"):
            calls = wb.usage(by=["day", "model"])["calls"].sum()
        self._expect_no_fewer(calls)

    def query(self) -> None:
        with self.diary.entry("sql"):
            ((calls,),) = wb.sql("SELECT COUNT(*) FROM usage").to_numpy()
        self._expect_no_fewer(calls)

    def list_chats(self) -> None:
        with self.diary.entry("chats"):
            chats = wb.chats()
        assert {self.chat.id, self.shared_chat} <= set(chats["chat_id"])

    def _expect_no_fewer(self, calls: int) -> None:
        """Calls are never taken back, whoever keeps them."""
        assert calls >= self.calls
        self.calls = calls


def told(reply: Reply) -> dict:
    """What a reply says of itself, to be found in the store."""
    return {
        "chat_id": reply.chat_id,
        "message_id": reply.message_id,
        "text": reply.text,
        "status": reply.status,
        "input_tokens": reply.usage.input_tokens,
        "output_tokens": reply.usage.output_tokens,
        "cost_usd": str(reply.cost_usd),
    }
