"""A chat with Claude, for notebooks and scripts: a thin face over the engine."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workbench.attachments import attach as attachment_of
from workbench.errors import InvalidRequest, PromptError
from workbench.exports import as_markdown, as_notebook, replies, shown
from workbench.prompts.choosing import check_wanted
from workbench.prompts.feedback import give
from workbench.runtime import INTERRUPT_SECONDS, refuse_forked, runtime
from workbench.show import Nowhere, display_for
from workbench.turns import DEFAULT_ID, Caller, ChatInfo, PromptWanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from decimal import Decimal
    from types import TracebackType
    from typing import Any, Self

    from workbench.estimates import Estimate
    from workbench.notebook.widget import ChatWidget
    from workbench.runtime import Running
    from workbench.show import Display
    from workbench.tokens import TokenCount
    from workbench.turns import Block, LiveTurn, Message, Reply, Source


def count_tokens(text: str, *, model: str | None = None, system: str | None = None) -> TokenCount:
    """Return the input tokens of a question in a new chat; see :meth:`Chat.count_tokens`.

    Example::

        wb.count_tokens("What is 2+2?", model="claude-sonnet-5-5")
    """
    chat = Chat.__new__(Chat)
    chat._runtime, chat._caller = runtime(), Caller()
    chat._info = ChatInfo(id="", system=system, model=model)  # asked of nobody, so it need not be able to answer
    return chat.count_tokens(text)


class Chat:
    """A chat: Claude is sent what was said before, and every turn is kept in the store.

    Args:
        system: The system prompt, the same for every turn.
        prompt: A named prompt instead, such as ``support@production`` (the same as ``support``), ``support@3`` or
            ``support@latest``. Which version that is, is found out at the first turn, and stays.
        variables: What to put in for the prompt's variables: ``{"customer": "Ada"}`` for ``{{customer}}``.
        model: Who answers, a model id or ``local``; by default CLAUDE_MODEL, and without a key the embedded model.
        max_tokens: Upper bound of each reply in tokens, at most CLAUDE_MAX_TOKENS.
        title: What lists call the chat; by default how its first question begins.
        org: Whose chat; an org's id.
        user: Whose chat; a user's id.

    Raises:
        ConfigurationError: nobody is configured who could answer; ModelRetired names a model's successor.
        PromptError: no prompt can be called so, or there is a system prompt too.
        StoreError: the store cannot be opened.

    Example::

        chat = wb.Chat(system="You are terse.")
        chat.ask("What is 2+2?")
        for delta in chat.stream("and 3+3?"):
            print(delta, end="")
    """

    def __init__(
        self,
        system: str | None = None,
        *,
        prompt: str | None = None,
        variables: Mapping[str, object] | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        title: str = "",
        org: str = DEFAULT_ID,
        user: str = DEFAULT_ID,
    ) -> None:
        self._runtime = runtime()
        self._caller = Caller(org, user)
        self._info = self._runtime.engine.new_chat(
            system=system, prompt=_wanted(prompt, variables), model=model, max_tokens=max_tokens, title=title
        )

    @classmethod
    def open(cls, chat_id: str, *, org: str = DEFAULT_ID, user: str = DEFAULT_ID) -> Self:
        """Return a chat of the store, to go on with it.

        Raises:
            NotFound: no chat of this org and user has the id.
        """
        chat = cls.__new__(cls)
        chat._runtime = runtime()
        chat._caller = Caller(org, user)
        chat._info = chat._runtime.run(chat._runtime.engine.store.chat(chat._caller, chat_id))
        return chat

    # Asking ---------------------------------------------------------------------------------------------------------

    def ask(
        self,
        message: str,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        show: bool | None = None,
        attach: Mapping[str, object] | Sequence[object] = (),
    ) -> Reply:
        """Ask, wait and return the reply; in a notebook or a terminal the text appears as it arrives.

        Interrupt (Ctrl-C, or a notebook's stop button) stops Claude; what had come is kept, and is billed.

        Args:
            message: What to ask.
            model: Who answers this turn; by default whoever answers the chat.
            max_tokens: Upper bound of this reply in tokens.
            show: Whether the text appears; by default if somebody is watching.
            attach: Values that are sent before the message and kept with it: tables, arrays, texts, dicts, lists,
                figures, pictures; what is large as a summary. A dict names them: ``attach={"df": df}``.

        Raises:
            InvalidRequest, PromptError, ConfigurationError, StoreError: before anything was sent.
            UpstreamError: Claude failed; ``.reply`` holds what had come.
        """
        stream = ReplyStream(self, message, model, max_tokens, display_for(show), attached=_blocks(attach))
        for _ in stream:
            pass
        return stream.reply

    async def aask(
        self,
        message: str,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        show: bool | None = None,
        attach: Mapping[str, object] | Sequence[object] = (),
    ) -> Reply:
        """Do as :meth:`ask`, for use with ``await``; cancelling it stops Claude."""
        stream = ReplyStream(self, message, model, max_tokens, display_for(show), attached=_blocks(attach))
        async with stream:
            async for _ in stream:
                pass
        return stream.reply

    def stream(
        self,
        message: str,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        attach: Mapping[str, object] | Sequence[object] = (),
    ) -> ReplyStream:
        """Return the reply as a stream of texts, for ``for`` or ``async for``; nothing is sent before it is read."""
        return ReplyStream(self, message, model, max_tokens, Nowhere(), attached=_blocks(attach))

    def count_tokens(
        self, message: str, *, model: str | None = None, attach: Mapping[str, object] | Sequence[object] = ()
    ) -> TokenCount:
        """Return the input tokens of asking this next: with what is sent of the chat, its system prompt and attachments.

        The model's own server counts, which is free; without one ``ctok`` does, if it is installed, and else the count
        is rough. ``counted_by`` tells who did.

        Args:
            message: What would be asked.
            model: Who would answer; by default whoever answers the chat.
            attach: Values that would be sent before the message.

        Raises:
            InvalidRequest, PromptError, ConfigurationError, UpstreamError: it could not be counted.

        Example::

            tokens, counted_by = chat.count_tokens("What is 2+2?", attach={"df": df})
        """
        asked = self._runtime.engine.count_tokens(
            self._caller, self._info, message, model=model, attached=_blocks(attach)
        )
        return self._runtime.run(asked)

    def estimate(self, message: str, *, attach: Mapping[str, object] | Sequence[object] = ()) -> Estimate:
        """Return about what asking this would use and cost, as the chat box says while one types. Nothing is sent.

        Raises:
            ConfigurationError: nobody could answer.
            PromptError: the chat's prompt is not there, or its variables do not fit.
        """
        return self._runtime.run(self._estimate(message, _blocks(attach)))

    async def _estimate(self, message: str, attached: Sequence[Block]) -> Estimate:
        engine = self._runtime.engine
        messages = await engine.store.messages(self._caller, self.id)
        used = replies(self.id, await engine.store.used(self._caller, self._info))
        return await engine.estimate(self._caller, self._info, messages, list(used.values()), message, attached)

    # What was said --------------------------------------------------------------------------------------------------

    @property
    def messages(self) -> list[Message]:
        """The messages so far, oldest first."""
        return self._runtime.run(self._runtime.engine.store.messages(self._caller, self.id))

    @property
    def cost_usd(self) -> Decimal | None:
        """What the chat has cost so far in US dollars, None when a price is not known."""
        return self._runtime.run(self._runtime.engine.store.chat_cost(self._caller, self.id))

    def fork(self, at: int) -> Chat:
        """Return a new chat that begins with the first ``at`` messages of this one.

        Raises:
            InvalidRequest: ``at`` is not the end of a turn of this chat.
        """
        return self.beside(self._runtime.run(self._runtime.engine.store.fork(self._caller, self._info, at)))

    def use_prompt(self, prompt: str, variables: Mapping[str, object] | None = None) -> None:
        """Go on with another prompt, or with the version its label points at by then, from the next turn on.

        Without variables those that the chat has are put in again. A prompt takes the place of a system prompt.

        Raises:
            PromptError: no prompt can be called so. What there is not is said by the next turn.
        """
        wanted = _wanted(prompt, variables)
        check_wanted(wanted)
        self._info.wanted = wanted

    def feedback(self, score: int, comment: str | None = None, *, message_id: str | None = None) -> None:
        """Rate a reply, 1 for a thumb up and -1 for one down; all ratings are kept, the newest of a reply counts.

        Args:
            score: 1 or -1.
            comment: Why, if you like.
            message_id: Which reply, ``reply.message_id``; by default the last one.

        Raises:
            InvalidRequest: there is no reply yet, or the score is neither.
            NotFound: the chat's user has no such reply.
        """
        id = message_id or next((said.id for said in reversed(self.messages) if said.role == "assistant"), None)
        if id is None:
            raise InvalidRequest("there is no reply to rate yet; ask first")
        store, now = self._runtime.engine.store, datetime.now(UTC)
        self._runtime.run(give(store.backend, self._caller, id, score, now, comment))

    def beside(self, info: ChatInfo) -> Chat:
        """Return another chat of the same org and user, as the engine knows it."""
        other = Chat.__new__(Chat)
        other._runtime, other._caller, other._info = self._runtime, self._caller, info
        return other

    def rename(self, title: str) -> None:
        """Call the chat otherwise in lists; ``chat.title = …`` does the same.

        Raises:
            InvalidRequest: the title is empty or cannot be kept.
            NotFound: the chat was deleted meanwhile.
        """
        self._runtime.run(self._runtime.engine.rename(self._caller, self._info, title))

    def to_markdown(self) -> str:
        """Return the chat as Markdown, each message as it was written; to keep it, not to show text of others safely."""
        return as_markdown(self._info, shown(self.messages), self._replies())

    def to_notebook(self) -> dict[str, Any]:
        """Return the chat as a Jupyter notebook, to be written with ``json.dump``: blocks of Python are code cells."""
        return as_notebook(self._info, shown(self.messages), self._replies())

    def _replies(self) -> dict[str, Reply]:
        return replies(self.id, self._runtime.run(self._runtime.engine.store.used(self._caller, self._info)))

    def delete(self) -> None:
        """Delete the chat with its messages; what it cost stays in the ledger, and its forks stay too.

        Asking in it again begins it anew.

        Raises:
            NotFound: it was not begun, or deleted already.
            StoreBusy: a turn of it is still running.
        """
        self._runtime.run(self._runtime.engine.store.delete_chat(self._caller, self.id))
        self._info.stored, self._info.title = False, ""  # the title is a piece of the first question
        self._info.exposure = None

    def widget(self, height: str = "480px") -> ChatWidget:
        """Return the chat box of this chat, for a notebook."""
        from workbench.notebook.widget import ChatWidget  # brings ipywidgets, which scripts do not need

        return ChatWidget(self, height=height)

    @property
    def id(self) -> str:
        """The id of the chat, a UUID: open it again with ``Chat.open(id)``."""
        return self._info.id

    @property
    def title(self) -> str:
        """What lists call the chat."""
        return self._info.title

    @title.setter
    def title(self, title: str) -> None:
        self.rename(title)

    @property
    def system(self) -> str | None:
        """The system prompt; of a prompt that the next turn will find out, what was used so far."""
        return self._info.system

    @property
    def prompt(self) -> str | None:
        """The prompt version it uses, such as ``support@3``; before the turn that finds it out what was asked for."""
        wanted, has = self._info.wanted, self._info.prompt
        return wanted.reference if wanted else str(has) if has else None

    @property
    def model(self) -> str:
        """Who answers, unless a turn says otherwise."""
        return self._runtime.run(self._runtime.engine.model_of(self._caller, self._info))

    @property
    def info(self) -> ChatInfo:
        """The chat as the engine knows it."""
        return self._info

    def caller(self, source: Source = "ask") -> Caller:
        """Return on whose behalf turns run that come from ``source``."""
        return Caller(self._caller.org_id, self._caller.user_id, source)

    def __repr__(self) -> str:
        return f"<Chat {self.id} {self.title or 'not begun'!r}>"


class ReplyStream:
    """The reply of one turn as it arrives: iterate it once, for the pieces of text.

    Leaving early, by ``break``, an error or an interrupt, stops Claude and records the turn with what had come. In
    async code use it in ``async with``, so that it is closed when the block is left and not some time later.
    """

    def __init__(
        self,
        chat: Chat,
        message: str,
        model: str | None = None,
        max_tokens: int | None = None,
        display: Display | None = None,
        source: Source = "ask",
        attached: Sequence[Block] = (),
    ) -> None:
        self._chat = chat
        self._attached = attached
        self._message = message
        self._model = model
        self._max_tokens = max_tokens
        self._display = display or Nowhere()
        self._source = source
        self._turn: LiveTurn | None = None
        self._running: Running[None] | None = None

    @property
    def reply(self) -> Reply:
        """The reply; while it is being read, the reply so far.

        Raises:
            InvalidRequest: the stream was not read yet, so nothing was asked.
        """
        if self._turn is None:
            raise InvalidRequest("nothing was asked yet; read the stream, then there is a reply")
        return self._turn.reply

    def __iter__(self) -> Iterator[str]:
        self._make_ready()
        arrived: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        running = self._begin(arrived.put)
        try:
            while (pieces := _next(arrived)) is not None:
                self._display.add(pieces)
                yield from pieces
        finally:
            self.close()
        running.ended.result()

    async def __aiter__(self) -> AsyncIterator[str]:
        await asyncio.to_thread(self._make_ready)
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[list[str] | None] = asyncio.Queue()
        running = self._begin(lambda pieces: loop.call_soon_threadsafe(arrived.put_nowait, pieces))
        try:
            while (pieces := await _anext(arrived)) is not None:
                self._display.add(pieces)
                for piece in pieces:
                    yield piece
        finally:
            await self.aclose()
        running.ended.result()

    def close(self) -> None:
        """Stop Claude if it is still writing, and wait until the turn is recorded."""
        if (running := self._running) is not None:
            running.cancel()
            running.wait()
            self._end()

    async def aclose(self) -> None:
        """Do as :meth:`close`, without holding up the event loop."""
        if (running := self._running) is not None:
            running.cancel()
            await asyncio.shield(asyncio.to_thread(running.wait))
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.aclose()

    def _make_ready(self) -> None:
        chat, runtime = self._chat, self._chat._runtime
        runtime.make_ready(runtime.run(runtime.engine.model_of(chat._caller, chat._info, self._model)))

    def _begin(self, put: Callable[[list[str] | None], object]) -> Running[None]:
        if self._running is not None:
            raise InvalidRequest("a stream can be read once; its reply is in .reply")
        self._running = self._chat._runtime.start(self._run(put))
        # wakes the reader also when the task was cancelled before its first line
        self._running.ended.add_done_callback(lambda _: put(None))
        return self._running

    async def _run(self, put: Callable[[list[str] | None], object]) -> None:
        chat = self._chat
        async with chat._runtime.engine.turn(
            chat.caller(self._source),
            chat._info,
            self._message,
            model=self._model,
            max_tokens=self._max_tokens,
            attached=self._attached,
        ) as turn:
            self._turn = turn
            async for deltas in turn.batches():
                if pieces := [delta.text for delta in deltas if delta.kind == "text" and delta.text]:
                    put(pieces)

    def _end(self) -> None:
        display, self._display = self._display, Nowhere()
        if self._turn is not None:
            display.end(self.reply)


def _blocks(values: Mapping[str, object] | Sequence[object]) -> list[Block]:
    """What is sent of the values that go with a message."""
    if not isinstance(values, (Mapping, list, tuple)):
        raise InvalidRequest(f"attach is of type {type(values).__name__}; put the value in a list or a dict")
    named = values if isinstance(values, Mapping) else {f"attachment {n}": value for n, value in enumerate(values, 1)}
    return [block for name, value in named.items() for block in attachment_of(name, value).blocks]


def _wanted(prompt: str | None, variables: Mapping[str, object] | None) -> PromptWanted | None:
    if prompt is None and variables is not None:
        raise PromptError("variables are for a prompt; name the prompt too")
    return None if prompt is None else PromptWanted(prompt, variables)


def _next(arrived: queue.SimpleQueue[list[str] | None]) -> list[str] | None:
    """What came next; nothing, when nothing comes: so an interrupt is noticed, and a display can catch up."""
    try:
        return arrived.get(timeout=INTERRUPT_SECONDS)
    except queue.Empty:
        refuse_forked()
        return []


async def _anext(arrived: asyncio.Queue[list[str] | None]) -> list[str] | None:
    try:
        async with asyncio.timeout(INTERRUPT_SECONDS):
            return await arrived.get()
    except TimeoutError:
        return []
