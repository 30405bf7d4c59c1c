"""A chat while chat boxes show it: at most one running turn, and everything said to all of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from workbench.attachments import summaries
from workbench.errors import InvalidRequest, StoreError, WorkbenchError
from workbench.exports import RETRYABLE, replies, shown
from workbench.ids import new_id
from workbench.local import embedded_model
from workbench.notebook import desk, picker
from workbench.notebook.assets import asset
from workbench.notebook.batches import Batches
from workbench.notebook.branches import choices
from workbench.notebook.context import Context, Past
from workbench.notebook.messages import (
    STOPPED,
    Again,
    Asset,
    Attach,
    Edit,
    Estimate,
    Hello,
    Older,
    Retry,
    Send,
    Stop,
    Transcript,
    Variables,
    amount,
    counts,
    end_message,
    err_message,
    failure,
    parse,
    standing_message,
    start_message,
    usage_message,
)
from workbench.notebook.transcript import bundle, last
from workbench.prompts.feedback import given
from workbench.turns import LOCAL_MODEL, ChatInfo

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from decimal import Decimal
    from typing import Protocol

    from workbench.chat import Chat
    from workbench.engine import Engine
    from workbench.notebook.branches import Choice
    from workbench.notebook.messages import Json
    from workbench.prompts.feedback import Feedback
    from workbench.turns import Block, Caller, LiveTurn, Message, PromptWanted, Reply

    class Listener(Protocol):
        def say(self, message: Json, buffers: list[bytes] | None = None) -> None: ...

        def turn_to(self, live: LiveChat) -> None: ...

        def write_down(self, c: str, data: dict[str, str], display: bool) -> None: ...


log = logging.getLogger("workbench.notebook")

USAGE_SECONDS = 1.0
SNAP_MESSAGES = 100
OLDER_MESSAGES = 400
SNAP_CHARACTERS = 1_000_000


@dataclass(slots=True, eq=False)
class Asked:
    """What a reader asked, from the moment of sending until its turn is recorded."""

    c: str
    text: str | None
    """None: the question of the reply ``retry_of``."""
    retry_of: str | None = None
    message_id: str = field(default_factory=new_id)
    """That of its reply: whether anything of the turn is in the store, others asking in the chat or not."""
    attached: list[Block] = field(default_factory=list)
    task: asyncio.Task[Any] | None = None
    question_id: str | None = None
    turn: LiveTurn | None = None
    batches: Batches | None = None
    stopped: bool = False
    ending: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """It is on screen, or will never be."""
    refusal: Json | None = None
    """Why it never began, if nothing of it is in the store."""
    edit_of: str | None = None
    """The question in whose place it is asked, in a branch."""
    forking: bool = False
    in_branch: Asked | None = None

    def stop(self) -> None:
        """End the turn, once: a second cancellation, or a late one, would hit the recording of its end."""
        if self.in_branch is not None:
            self.in_branch.stop()
        elif self.task is not None and not self.stopped and not self.ending:
            self.stopped = True
            if not self.forking:  # else a fork would be left behind in which nobody asks
                self.task.cancel()

    @property
    def pending(self) -> Json:
        """What a view needs to show that something was asked and has not begun."""
        pending = {"c": self.c, "text": self.text, "retry_of": self.retry_of}
        return pending if self.edit_of is None else pending | {"edit_of": self.edit_of}


class LiveChat:
    """A chat and the chat boxes that show it. All but ``of``, ``join`` and ``leave`` happens on the engine's loop.

    Shared by all widgets of a chat, for a cell that is run again makes another widget: that one must show, and be able
    to stop, the reply its predecessor asked for.
    """

    def __init__(self, caller: Caller, info: ChatInfo, engine: Engine) -> None:
        self._caller = caller
        self._info = info
        self._engine = engine
        self._listeners: list[Listener] = []
        self._asked: Asked | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: dict[str, Json] = {}
        self._changes = 0
        self._model_ready = False
        self._context = Context(engine, caller, info, self._past)
        self._writing_down = asyncio.Lock()

    @classmethod
    def of(cls, chat: Chat, engine: Engine) -> LiveChat:
        """Return the one live chat of a chat, from any thread."""
        return cls._of(chat.caller("widget"), chat.info, engine)

    @classmethod
    def _of(cls, caller: Caller, info: ChatInfo, engine: Engine) -> LiveChat:
        with _lock:
            live = _live_chats.get((engine, info.id))
            if live is None:
                live = _live_chats[engine, info.id] = cls(caller, info, engine)
            return live

    @property
    def info(self) -> ChatInfo:
        """The chat as the engine knows it."""
        return self._info

    @property
    def caller(self) -> Caller:
        """On whose behalf the chat boxes ask."""
        return self._caller

    @property
    def engine(self) -> Engine:
        """Who answers."""
        return self._engine

    @property
    def busy(self) -> bool:
        """Whether a reply is awaited that was asked for here."""
        return self._asked is not None

    def beside(self, info: ChatInfo) -> LiveChat:
        """Return the one live chat of another chat of the same caller."""
        return self._of(self._caller, info, self._engine)

    def known(self, chat_id: str) -> LiveChat | None:
        """Return the live chat of another chat of the same caller, if a box shows it."""
        live = _live_chats.get((self._engine, chat_id))
        whose = (self._caller.org_id, self._caller.user_id)
        return live if live is not None and (live._caller.org_id, live._caller.user_id) == whose else None

    def join(self, listener: Listener) -> None:
        """Let a widget hear everything from now on."""
        with _lock:  # from any thread, at the same time as others
            self._listeners = [*self._listeners, listener]

    def lose(self, listener: Listener) -> None:
        """Say nothing more to a widget, which shows another chat now and may come back: what is asked here goes on."""
        with _lock:
            self._listeners = [other for other in self._listeners if other is not listener]

    def leave(self, listener: Listener) -> None:
        """Forget a widget. When the last one goes, nobody could stop what is being paid for any more: it is stopped."""
        self.lose(listener)
        asked = self._asked
        if not self._listeners and asked is not None and asked.task is not None and not asked.task.done():
            log.info("Chat widget closed, its turn is stopped", extra={"chatId": self._info.id})
            asked.task.get_loop().call_soon_threadsafe(asked.stop)

    async def show_to(self, listener: Listener) -> None:
        """Let a box show this chat from now on."""
        listener.turn_to(self)
        listener.say(await self.snap())

    def say(self, message: Json) -> None:
        """Say something to everybody."""
        for listener in self._listeners:
            listener.say(message)

    def rated(self, message: Json) -> None:
        """Tell everybody what the reader thinks of a reply."""
        self._changes += 1  # what is being read for a snap may lack it
        self.say(message)

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
                    listener.say(await self.snap())
                case Send(c=c, text=text, attachments=attachments):
                    self._refuse_gone(listener)
                    self._ask(Asked(c, text, attached=self._context.blocks(attachments)))
                case Retry(c=c, message_id=message_id):
                    self._refuse_gone(listener)
                    self._ask(Asked(c, None, retry_of=message_id))
                case Again(c=c, message_id=message_id):
                    self._part(listener, Asked(c, None, retry_of=message_id))
                case Edit(c=c, message_id=message_id, text=text, attachments=attachments):
                    attached = self._context.blocks(attachments)
                    self._part(listener, Asked(c, text, edit_of=message_id, attached=attached))
                case Stop(turn=turn):
                    await self._stop(listener, turn)
                case Asset(name=name):
                    listener.say({"t": "asset", "name": name}, [asset(name)])
                case Older(before=before):
                    listener.say(await self._older(before))
                case Estimate(c=c, text=text, attachments=attachments, edit_of=edit_of):
                    listener.say(await self._context.estimate(c, text, attachments, edit_of))
                case Variables(c=c):
                    listener.say(await self._context.variables(c))
                case Attach(c=c, name=name):
                    listener.say(await self._context.attach(c, name))
                case Transcript(c=c, display=display):
                    async with self._writing_down:  # else an older text, slower to make, could be the last one
                        listener.write_down(c, await self.transcript(), display)
                case command:
                    await desk.do(self, listener, command)
        except WorkbenchError as error:
            listener.say(err_message(failure(error), c=c))
        except Exception as error:
            log.exception("A message of the chat widget was not handled")
            listener.say(err_message(failure(error), c=c))

    def refuse_unbegun(self) -> None:
        """Raise InvalidRequest while a turn has not begun: if it is refused, its text must find its way back to the input."""
        if self._asked is not None and self._asked.turn is None:
            self.refuse_busy()

    def refuse_busy(self) -> None:
        """Raise InvalidRequest while a reply is awaited: a chat has one turn at a time, under the settings it began with."""
        if self._asked is not None:
            raise InvalidRequest("a reply is still being written in this chat; wait for its end, or stop it")

    def _refuse_gone(self, listener: Listener) -> None:
        """Raise InvalidRequest for a box that was closed or shows another chat by now: there nobody could stop the reply."""
        if listener not in self._listeners:
            raise InvalidRequest("this chat is no longer shown here; open it again, then ask")

    def _ask(self, asked: Asked) -> None:
        self.refuse_busy()
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
            listener.say(await self.snap())

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
            asked.refusal = failure(error or problem)
            turn_id = None if asked.turn is None else asked.turn.id  # else a box would wait for its end
            self.say(err_message(asked.refusal, turn=turn_id, c=asked.c))
        finally:
            asked.begun.set()

    async def _turn(self, asked: Asked) -> None:
        question = await self._question(asked)
        await self._prepare(asked)
        loop = asyncio.get_running_loop()
        async with self._engine.turn(
            self._caller, self._info, question, message_id=asked.message_id, attached=asked.attached
        ) as turn:
            asked.turn = turn
            asked.batches = batches = Batches(turn.id, self.say, loop)
            self._changes += 1
            self.say(start_message(turn, asked.question_id or turn.question_id))
            asked.begun.set()
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
        asked.attached = list(messages[-2].blocks[:-1])
        return messages[-2].content

    async def _prepare(self, asked: Asked) -> None:
        """Fetch and start the embedded model, if that is the one, and say so meanwhile."""
        if self._model_ready or await self._engine.model_of(self._caller, self._info) != LOCAL_MODEL:
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
        cost, standing = await self._cost(), await self._standing(reply)
        self._clear()
        if error is not None:
            self.say(err_message(failure(error), turn=turn.id))
        if not isinstance(error, StoreError):  # then it is not recorded yet: the engine writes it with the next turn
            self.say(end_message(turn.id, reply, cost, standing))

    async def _never_began(self, asked: Asked, error: BaseException | None) -> None:
        """Report a turn of which nothing came: it may have been sent, and then it is in the store."""
        messages = await self._messages()
        details = STOPPED if error is None else failure(error)
        self._clear()
        if all(message.id != asked.message_id for message in messages):
            asked.refusal = details
            self.say(err_message(details, c=asked.c))
            return
        if error is not None:
            self._failures[asked.message_id] = details
        self.say(await self.snap())

    def _clear(self) -> None:
        self._asked = None
        self._changes += 1
        self._context.forget()

    # Branches -------------------------------------------------------------------------------------------------------

    def _part(self, listener: Listener, asked: Asked) -> None:
        """Ask in a branch, which is shown once its turn has begun; if it never does, there is no branch."""
        self._refuse_gone(listener)
        self.refuse_busy()
        self._asked = asked
        asked.task = task = asyncio.create_task(self._branch(asked))
        self._begin(self._follow_branch(listener, asked, task))

    async def _branch(self, asked: Asked) -> LiveChat:
        place = await self._place(asked)
        await self._prepare(asked)
        asked.forking = True
        branch = self.beside(await self._fork(place))
        asked.in_branch = inside = Asked(asked.c, asked.text, attached=asked.attached)
        branch._ask(inside)
        if asked.stopped:
            inside.stop()
        await inside.begun.wait()
        if inside.refusal is not None:
            asked.refusal = inside.refusal
            await branch._forget(place)
        return branch

    async def _place(self, asked: Asked) -> int:
        """Return how many messages the branch shares with this chat."""
        messages = shown(await self._messages())
        if asked.edit_of is None:
            replies = {reply.id: question for question, reply in pairwise(messages) if reply.role == "assistant"}
            question = replies.get(asked.retry_of or "")
        else:
            question = next((m for m in messages if m.id == asked.edit_of and m.role == "user"), None)
        if question is None:
            raise InvalidRequest("this message is no longer in the chat, so it cannot be asked or answered otherwise")
        asked.edit_of, asked.text = question.id, question.content if asked.text is None else asked.text
        asked.attached = [*question.blocks[:-1], *asked.attached]
        at = messages.index(question)
        return messages[at - 1].seq if at else 0

    async def _fork(self, place: int) -> ChatInfo:
        if place:
            return await self._engine.store.fork(self._caller, self._info, place)
        here = self._info
        return ChatInfo(
            id=new_id(),
            system=here.system,
            model=here.model,
            max_tokens=here.max_tokens,
            prompt=here.prompt,
            wanted=here.wanted,
            forked_from=here.id,
        )

    async def _forget(self, place: int) -> None:
        """Delete this branch, in which nothing was asked."""
        if self._info.stored and len(await self._messages()) == place:
            await self._engine.store.delete_chat(self._caller, self._info.id)

    async def _follow_branch(self, listener: Listener, asked: Asked, task: asyncio.Task[LiveChat]) -> None:
        await asyncio.wait([task])
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, WorkbenchError):
            log.error("A branch of a chat was not made", exc_info=error)
        self._clear()
        if task.cancelled() or error is not None or asked.refusal is not None:
            details = failure(error) if error is not None else asked.refusal or STOPPED
            self.say(err_message(details, c=asked.c))
            return
        branch = task.result()
        if listener in self._listeners:
            await branch.show_to(listener)
        elif asked.in_branch is not None:  # its box was closed meanwhile, and no other could stop it
            asked.in_branch.stop()
        await branch.refresh_family()

    async def refresh_family(self) -> None:
        """Show on all boxes with a branch of this chat which branches there are."""
        for relative in await self._engine.store.family(self._caller, self._info.id):
            live = self.known(relative.chat_id)
            if live is not None and live is not self and live._listeners:
                await live._refresh()

    async def choices(self, messages: list[Message]) -> dict[str, Choice]:
        """Return where branches part, by the id of the question or reply at which they do."""
        if not self._info.stored:
            return {}
        family = await self._engine.store.family(self._caller, self._info.id)
        questions, replies = choices(self._info.id, family)
        found: dict[str, Choice] = {}
        for at, message in enumerate(messages):
            if (message.role == "user" and (choice := questions.get(message.seq))) or (
                message.role == "assistant" and at and (choice := replies.get(messages[at - 1].seq))
            ):
                found[message.id] = choice
        return found

    async def choice_at(self, message_id: str, index: int) -> str:
        """Return the id of the chat that shows one of the branches that part at a message."""
        choice = (await self.choices(shown(await self._messages()))).get(message_id)
        if choice is None or not 0 <= index < len(choice.chat_ids):
            raise InvalidRequest("this branch is no longer there; it was deleted, or the page is older than the chat")
        return choice.chat_ids[index]

    # What is there --------------------------------------------------------------------------------------------------

    async def _messages(self) -> list[Message]:
        if not self._info.stored:
            return []
        return await self._engine.store.messages(self._caller, self._info.id)

    async def used(self) -> dict[str, Reply]:
        """Return what each reply used and cost, by its id; of a branch those too that it shares."""
        return replies(self._info.id, await self._engine.store.used(self._caller, self._info))

    async def _feedback(self) -> dict[str, Feedback]:
        return await given(self._engine.store.backend, self._caller, self._info.id) if self._info.stored else {}

    async def _past(self) -> Past:
        messages, used = await self._messages(), await self.used()
        return Past(asyncio.get_running_loop().time(), messages, list(used.values()))

    async def _standing(self, reply: Reply | None) -> Json:
        """How full context and budget are."""
        now = datetime.now(UTC)
        try:
            budgets = await self._engine.store.budgets(self._caller, now)
        except StoreError as error:  # as with the cost of the chat
            log.warning("Budget not read", extra={"chatId": self._info.id, "error": str(error)})
            budgets = []
        window = None if reply is None else self._engine.context_window(reply.model)
        return standing_message(reply, window, budgets, now)

    async def _cost(self) -> Decimal | None:
        try:
            return await self._engine.store.chat_cost(self._caller, self._info.id)
        except StoreError as error:  # a turn must end on screen all the same; an unknown cost is shown as unknown
            log.warning("Cost of a chat not read", extra={"chatId": self._info.id, "error": str(error)})
            return None

    async def snap(self) -> Json:
        """Return everything a view needs."""
        while True:
            changes = self._changes
            messages, used, cost = await self._messages(), await self.used(), await self._cost()
            latest = next((used[m.id] for m in reversed(messages) if m.id in used), None)
            standing, model = await self._standing(latest), await self._model()
            branches, rated = await self.choices(shown(messages)), await self._feedback()
            if changes == self._changes:  # else a turn began or ended meanwhile, and what was read is of both times
                return self._snap_of(messages, used, cost, branches, rated, model) | standing

    def _snap_of(
        self,
        messages: list[Message],
        used: dict[str, Reply],
        cost: Decimal | None,
        branches: dict[str, Choice],
        rated: dict[str, Feedback],
        model: str,
    ) -> Json:
        asked, live = self._asked, None
        if asked is not None and asked.turn is not None and asked.batches is not None:
            asked.batches.flush()
            live = {
                "turn": asked.turn.id,
                "message_id": asked.turn.message_id,
                "seq": asked.batches.seq,
                "text": asked.batches.text,
            }
        elif asked is not None:  # it may be in the store already, but on screen it begins with `start`
            at = next((n for n, message in enumerate(messages) if message.id == asked.message_id), None)
            messages = messages if at is None else [*messages[: at - 1], *messages[at + 1 :]]
        messages = shown(messages)
        kept = last(messages, SNAP_CHARACTERS, SNAP_MESSAGES)
        return {
            "t": "snap",
            "chat_id": self._info.id,
            "title": self._info.title,
            "model": model,
            "local": model == LOCAL_MODEL,
            **picker.named(self),
            "earlier": len(messages) - len(kept),
            "messages": [self._entry(message, used, branches, rated) for message in kept],
            "asked": asked.pending if asked is not None and live is None else None,
            "live": live,
            "cost_usd": amount(cost),
        }

    async def transcript(self) -> dict[str, str]:
        """Return what was said as text, by its MIME type; nothing of a chat that has not begun."""
        messages, used = shown(await self._messages()), await self.used()
        return await asyncio.to_thread(bundle, messages, used)  # long ones take 0.1 s, and replies go on meanwhile

    async def _older(self, before: str) -> Json:
        messages = shown(await self._messages())
        at = next((n for n, message in enumerate(messages) if message.id == before), None)
        if at is None:  # what the view shows is no longer there
            return await self.snap()
        used, branches, rated = await self.used(), await self.choices(messages), await self._feedback()
        kept = last(messages[:at], SNAP_CHARACTERS, OLDER_MESSAGES)
        entries = [self._entry(message, used, branches, rated) for message in kept]
        return {"t": "older", "before": before, "earlier": at - len(kept), "messages": entries}

    def _entry(
        self, message: Message, used: dict[str, Reply], branches: dict[str, Choice], rated: dict[str, Feedback]
    ) -> Json:
        reply, choice, feedback = used.get(message.id), branches.get(message.id), rated.get(message.id)
        entry = {
            "message_id": message.id,
            "role": message.role,
            "status": message.status,
            "text": message.content,
            "footer": "" if reply is None else reply.footer,
            "counts": None if reply is None else counts(reply),
            "attachments": summaries(message.blocks) if message.role == "user" else [],
            "error": self._failures.get(message.id),
            "stop_reason": message.stop_reason,
            "feedback": None if feedback is None else feedback._asdict(),
        }
        return entry if choice is None else entry | {"branch": {"index": choice.at, "count": len(choice.chat_ids)}}

    async def _model(self) -> str:
        try:
            return await self._engine.model_of(self._caller, self._info)
        except WorkbenchError:
            return ""  # nobody can answer: the first question is told why

    # What others add ------------------------------------------------------------------------------------------------

    def recorded(self, turn: LiveTurn) -> None:
        """Show a turn that did not come from here, as one of ``chat.ask()`` in a cell, or that is saved after its end."""
        if turn.chat.id != self._info.id:
            return
        self._context.forget()
        late = self._failures.pop(turn.message_id, None) is not None
        if late or turn.caller is not self._caller:
            self._begin(self._refresh())

    async def refresh(self) -> None:
        """Show the chat anew, on all its boxes."""
        self._changes += 1
        await self._refresh()

    def forget(self) -> None:
        """Note that the chat was deleted: asking in it begins it anew."""
        self._info.stored, self._info.title, self._info.exposure = False, "", None
        self._context.forget()

    def choose(self, system: str | None, model: str | None) -> None:
        """Have a chat that has not begun answered by a model, under a system prompt."""
        self._info.system, self._info.model = system, model
        self._info.prompt = self._info.exposure = self._info.wanted = None
        self._model_ready = False
        self._context.forget()

    def use(self, wanted: PromptWanted | None) -> None:
        """Have the chat use another prompt from its next turn on; None: none other."""
        self._info.wanted = wanted
        self._model_ready = False
        self._context.forget()

    async def _refresh(self) -> None:
        try:
            self.say(await self.snap())
        except StoreError as error:  # the next snap shows it
            log.warning("Chat not shown anew", extra={"chatId": self._info.id, "error": str(error)})


_lock = threading.RLock()  # a box may be thrown away, and leave, while another is made
_live_chats: WeakValueDictionary[tuple[Engine, str], LiveChat] = WeakValueDictionary()
