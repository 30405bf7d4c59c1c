"""A chat while chat boxes show it: at most one running turn, and everything said to all of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from workbench.errors import InvalidRequest, StoreError, WorkbenchError
from workbench.exports import RETRYABLE, shown
from workbench.local import embedded_model
from workbench.notebook.batches import Batches
from workbench.notebook.messages import (
    STOPPED,
    Hello,
    Retry,
    Send,
    Stop,
    amount,
    end_message,
    err_message,
    failure,
    parse,
    start_message,
    usage_message,
)
from workbench.notebook.transcript import footers, last
from workbench.turns import LOCAL_MODEL

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from decimal import Decimal
    from typing import Protocol

    from workbench.chat import Chat
    from workbench.engine import Engine
    from workbench.notebook.messages import Json
    from workbench.turns import LiveTurn, Message

    class Listener(Protocol):
        def say(self, message: Json) -> None: ...


log = logging.getLogger("workbench.notebook")

USAGE_SECONDS = 1.0
SNAP_MESSAGES = 100
SNAP_CHARACTERS = 1_000_000


@dataclass(slots=True, eq=False)
class Asked:
    """What a reader asked, from the moment of sending until its turn is recorded."""

    c: str
    text: str | None
    """None: the question of the reply ``retry_of``."""
    retry_of: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    task: asyncio.Task[None] | None = None
    question_id: str | None = None
    turn: LiveTurn | None = None
    batches: Batches | None = None
    stopped: bool = False
    ending: bool = False

    def stop(self) -> None:
        """End the turn, once: a second cancellation, or a late one, would hit the recording of its end."""
        if self.task is not None and not self.stopped and not self.ending:
            self.stopped = True
            self.task.cancel()

    @property
    def pending(self) -> Json:
        """What a view needs to show that something was asked and has not begun."""
        return {"c": self.c, "text": self.text, "retry_of": self.retry_of}


class LiveChat:
    """A chat and the chat boxes that show it. All but ``of``, ``join`` and ``leave`` happens on the engine's loop.

    Shared by all widgets of a chat, for a cell that is run again makes another widget: that one must show, and be able
    to stop, the reply its predecessor asked for.
    """

    def __init__(self, chat: Chat, engine: Engine) -> None:
        self._caller = chat.caller("widget")
        self._info = chat.info
        self._engine = engine
        self._listeners: list[Listener] = []
        self._asked: Asked | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: dict[str, Json] = {}
        self._changes = 0
        self._model_ready = False

    @classmethod
    def of(cls, chat: Chat, engine: Engine) -> LiveChat:
        """Return the one live chat of a chat, from any thread."""
        with _lock:
            live = _live_chats.get((engine, chat.id))
            if live is None:
                live = _live_chats[engine, chat.id] = cls(chat, engine)
            return live

    def join(self, listener: Listener) -> None:
        """Let a widget hear everything from now on."""
        self._listeners = [*self._listeners, listener]

    def leave(self, listener: Listener) -> None:
        """Forget a widget. When the last one goes, nobody could stop what is being paid for any more: it is stopped."""
        self._listeners = [other for other in self._listeners if other is not listener]
        asked = self._asked
        if not self._listeners and asked is not None and asked.task is not None and not asked.task.done():
            log.info("Chat widget closed, its turn is stopped", extra={"chatId": self._info.id})
            asked.task.get_loop().call_soon_threadsafe(asked.stop)

    def say(self, message: Json) -> None:
        """Say something to everybody."""
        for listener in self._listeners:
            listener.say(message)

    # What is asked --------------------------------------------------------------------------------------------------

    async def handle(self, listener: Listener, message: object) -> None:
        """Do what a front end wants. It is acknowledged first, and whatever goes wrong is answered."""
        c = message.get("c") if isinstance(message, dict) else None
        c = c if isinstance(c, str) else None
        if c is not None:
            listener.say({"t": "ack", "c": c})
        self._engine.observers.add(self)  # there is a page, so what others add to the chat matters
        try:
            match parse(message):
                case Hello():
                    listener.say(await self._snap())
                case Send(c=c, text=text):
                    self._ask(Asked(c, text))
                case Retry(c=c, message_id=message_id):
                    self._ask(Asked(c, None, retry_of=message_id))
                case Stop(turn=turn):
                    await self._stop(listener, turn)
        except WorkbenchError as error:
            listener.say(err_message(failure(error), c=c))
        except Exception as error:
            log.exception("A message of the chat widget was not handled")
            listener.say(err_message(failure(error), c=c))

    def _ask(self, asked: Asked) -> None:
        if self._asked is not None:
            raise InvalidRequest("a reply is still being written in this chat; wait for its end, or stop it")
        self._asked = asked
        asked.task = asyncio.create_task(self._turn(asked))
        self._begin(self._follow(asked, asked.task))

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)  # the loop alone would not keep it
        task.add_done_callback(self._tasks.discard)

    async def _stop(self, listener: Listener, turn_id: str | None) -> None:
        asked = self._asked
        if asked is not None and turn_id in (None, asked.turn and asked.turn.id):
            asked.stop()
        elif asked is None and turn_id is None:
            listener.say(err_message(STOPPED))
        else:  # it ended meanwhile, or was never ours
            listener.say(await self._snap())

    # One turn -------------------------------------------------------------------------------------------------------

    async def _follow(self, asked: Asked, task: asyncio.Task[None]) -> None:
        """Report the end of a turn. Apart from the turn's own task: Stop cancels that one, at any moment."""
        await asyncio.wait([task])
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, WorkbenchError):
            log.error("A turn of the chat widget failed", exc_info=error)
        try:
            if asked.turn is not None and asked.batches is not None:
                asked.batches.flush()
                await self._ended(asked.turn, error)
            else:
                await self._never_began(asked, error)
        except Exception as problem:
            log.exception("The end of a turn was not reported")
            self._clear()
            self.say(err_message(failure(error or problem), c=asked.c))

    async def _turn(self, asked: Asked) -> None:
        question = await self._question(asked)
        await self._prepare(asked)
        loop = asyncio.get_running_loop()
        async with self._engine.turn(self._caller, self._info, question) as turn:
            asked.turn = turn
            asked.batches = batches = Batches(turn.id, self.say, loop)
            self._changes += 1
            self.say(start_message(turn, asked.question_id or turn.question_id))
            usage_at = loop.time()
            async for deltas in turn.batches():
                batches.add(deltas)
                if loop.time() >= usage_at:
                    usage_at = loop.time() + USAGE_SECONDS
                    self.say(usage_message(turn))
            asked.ending = True

    async def _question(self, asked: Asked) -> str:
        if asked.text is not None:
            return asked.text
        messages = shown(await self._messages())
        if len(messages) < 2 or messages[-1].id != asked.retry_of or messages[-1].status not in RETRYABLE:
            raise InvalidRequest("only the last reply can be asked for again, and only when it did not end well")
        asked.question_id = messages[-2].id
        return messages[-2].content

    async def _prepare(self, asked: Asked) -> None:
        """Fetch and start the embedded model, if that is the one, and say so meanwhile."""
        if self._model_ready or self._engine.model_for(self._info.model) != LOCAL_MODEL:
            return
        loop, gguf = asyncio.get_running_loop(), self._engine.settings.local_gguf

        def status(text: str) -> None:
            if self._asked is asked:
                self.say({"t": "status", "text": text})

        def report(done: int, total: int) -> None:
            text = f"fetching the embedded model, once: {done / total:.0%} of {total / 1e6:.0f} MB"
            loop.call_soon_threadsafe(status, text)

        status("starting the embedded model…")
        await asyncio.to_thread(embedded_model, gguf, progress=report)
        self._model_ready = True
        status("")

    async def _ended(self, turn: LiveTurn, error: BaseException | None) -> None:
        reply = turn.reply
        if error is not None:
            self._failures[reply.message_id] = failure(error)
        cost = await self._cost()
        self._clear()
        if error is not None:
            self.say(err_message(failure(error), turn=turn.id))
        if not isinstance(error, StoreError):  # then it is not recorded yet: the engine writes it with the next turn
            self.say(end_message(turn.id, reply, cost))

    async def _never_began(self, asked: Asked, error: BaseException | None) -> None:
        """Report a turn of which nothing came: it may have been sent, and then it is in the store."""
        messages = await self._messages()
        details = STOPPED if error is None else failure(error)
        self._clear()
        if not messages or messages[-1].created_at < asked.at:
            self.say(err_message(details, c=asked.c))
            return
        if error is not None:
            self._failures[messages[-1].id] = details
        self.say(await self._snap())

    def _clear(self) -> None:
        self._asked = None
        self._changes += 1

    # What is there --------------------------------------------------------------------------------------------------

    async def _messages(self) -> list[Message]:
        if not self._info.stored:
            return []
        return await self._engine.store.messages(self._caller, self._info.id)

    async def _footers(self) -> dict[str, str]:
        rows = await self._engine.store.chat_usage(self._caller, self._info.id)
        return footers(self._info.id, rows.to_pylist())

    async def _cost(self) -> Decimal | None:
        try:
            return await self._engine.store.chat_cost(self._caller, self._info.id)
        except StoreError as error:  # a turn must end on screen all the same; an unknown cost is shown as unknown
            log.warning("Cost of a chat not read", extra={"chatId": self._info.id, "error": str(error)})
            return None

    async def _snap(self) -> Json:
        while True:
            changes = self._changes
            messages, lines, cost = await self._messages(), await self._footers(), await self._cost()
            if changes == self._changes:  # else a turn began or ended meanwhile, and what was read is of both times
                return self._snap_of(messages, lines, cost)

    def _snap_of(self, messages: list[Message], lines: dict[str, str], cost: Decimal | None) -> Json:
        asked, live = self._asked, None
        if asked is not None and asked.turn is not None and asked.batches is not None:
            asked.batches.flush()
            live = {
                "turn": asked.turn.id,
                "message_id": asked.turn.message_id,
                "seq": asked.batches.seq,
                "text": asked.batches.text,
            }
        elif asked is not None:  # its question may be in the store already, but on screen it begins with `start`
            messages = [message for message in messages if message.created_at < asked.at]
        messages = shown(messages)
        kept = last(messages, SNAP_CHARACTERS, SNAP_MESSAGES)
        model = self._model()
        return {
            "t": "snap",
            "chat_id": self._info.id,
            "title": self._info.title,
            "model": model,
            "local": model == LOCAL_MODEL,
            "earlier": len(messages) - len(kept),
            "messages": [self._entry(message, lines) for message in kept],
            "asked": asked.pending if asked is not None and live is None else None,
            "live": live,
            "cost_usd": amount(cost),
        }

    def _entry(self, message: Message, lines: dict[str, str]) -> Json:
        return {
            "message_id": message.id,
            "role": message.role,
            "status": message.status,
            "text": message.content,
            "footer": lines.get(message.id, ""),
            "error": self._failures.get(message.id),
        }

    def _model(self) -> str:
        try:
            return self._engine.model_for(self._info.model)
        except WorkbenchError:
            return ""  # nobody can answer: the first question is told why

    # What others add ------------------------------------------------------------------------------------------------

    def recorded(self, turn: LiveTurn) -> None:
        """Show a turn that did not come from here, such as one of ``chat.ask()`` in a cell."""
        if turn.chat.id == self._info.id and turn.caller is not self._caller:
            self._begin(self._refresh())

    async def _refresh(self) -> None:
        try:
            self.say(await self._snap())
        except StoreError as error:  # the next snap shows it
            log.warning("Chat not shown anew", extra={"chatId": self._info.id, "error": str(error)})


_lock = threading.Lock()
_live_chats: WeakValueDictionary[tuple[Engine, str], LiveChat] = WeakValueDictionary()
