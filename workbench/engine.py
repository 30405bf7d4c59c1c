"""One turn, in order: check, choose the model, load the history, write the question, stream, price, record."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import ROUND_UP
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from anyio import CancelScope

from workbench.budgets import affordable
from workbench.claude import Claude
from workbench.errors import InvalidRequest, StoreBusy, StoreError, UpstreamError
from workbench.estimates import AROUND_A_QUESTION, estimate_turn, text_tokens
from workbench.history import most_input_tokens, small_model_tokens, window
from workbench.ids import new_id
from workbench.models import refuse_retired
from workbench.pricing import LEDGER_DIGITS, context_window, cost_and_source, worst_case
from workbench.prompts.choosing import check_wanted, for_turn
from workbench.prompts.watch import Guards
from workbench.store.store import Overspent
from workbench.tokens import TokenCount, offline_tokens
from workbench.turns import LOCAL_MODEL, NOT_TEXT, ChatInfo, LiveTurn, Request, estimate_tokens, is_text, visible_text
from workbench.wording import exact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from decimal import Decimal
    from typing import Any

    from workbench.estimates import Estimate
    from workbench.history import Window
    from workbench.settings import Settings
    from workbench.store import Store
    from workbench.turns import Block, Caller, Chosen, Delta, Message, PromptWanted, Reply

log = logging.getLogger("workbench.engine")

CHECKPOINT_SECONDS = 2.0
LONGEST_QUESTION = 10_000_000
"""Characters; the API takes 32 MB of JSON."""
LONGEST_TITLE = 200
MOST_ATTEMPTS = 200
"""To hold what a budget has left; each that fails means that another turn has begun."""
AROUND_A_SCHEMA = " " * 1000
"""As much as the upstream may add to a schema to say what it is."""
LOCAL_REPLY_TOKENS = 1024
"""The embedded model's window holds 8,192 tokens; a longer reply would leave no room for the next question."""


class Observer(Protocol):
    """Somebody who shows chats and wants to know what others add to them."""

    def recorded(self, turn: LiveTurn) -> None:
        """A turn has ended and is in the store."""


class Engine:
    """Runs turns for any number of callers. It belongs to the event loop it is first used on."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self._upstreams: dict[str, Claude] = {}
        self._connecting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._unsaved: list[LiveTurn] = []
        self._in_doubt: list[LiveTurn] = []
        """Turns that were never asked, since the store did not answer, but that it may have written."""
        self._saving = asyncio.Lock()
        self._not_saved: StoreError | None = None
        """How the last attempt to save them failed, if it did."""
        self._priced = False
        self._local_context: int | None = None
        self.observers: WeakSet[Observer] = WeakSet()
        self._guards = Guards(store)
        self.observers.add(self._guards)

    # Chats ----------------------------------------------------------------------------------------------------------

    def new_chat(
        self,
        *,
        system: str | None = None,
        prompt: PromptWanted | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        title: str = "",
    ) -> ChatInfo:
        """Return a new chat. Nothing is written before its first turn; which version its prompt is, is found out then.

        Raises:
            InvalidRequest: a text cannot be kept or sent, or the bound is no bound.
            PromptError: the prompt cannot be one, or there is a system prompt too.
            ConfigurationError: the model cannot answer; ModelRetired names its successor.
        """
        _check_text("system prompt", system or "")
        _check_text("title", title)
        _check_bound(max_tokens)
        check_wanted(prompt, system)
        if model is not None:
            _check_text("model", model)
            self.model_for(model)
        if max_tokens is not None:
            max_tokens = min(max_tokens, self.settings.max_tokens)
        return ChatInfo(id=new_id(), title=title, system=system, wanted=prompt, model=model, max_tokens=max_tokens)

    async def rename(self, caller: Caller, chat: ChatInfo, title: str) -> None:
        """Call a chat otherwise.

        Raises:
            InvalidRequest: the title is empty or cannot be kept.
            NotFound: the chat was deleted meanwhile.
        """
        title = " ".join(title.split())[:LONGEST_TITLE]
        if not title:
            raise InvalidRequest("a chat cannot be called nothing; give it a title of at least one letter")
        _check_text("title", title)
        if chat.stored:
            await self.store.rename_chat(caller, chat.id, title)
        chat.title = title

    async def model_of(self, caller: Caller, chat: ChatInfo, asked: str | None = None) -> str:
        """Return the model that answers the next question of a chat: the one asked for, the chat's or its prompt's.

        Raises:
            ConfigurationError: it cannot answer.
            PromptError: the chat's next prompt is not there.
        """
        if asked or chat.model:  # nobody else is looked at
            return self.model_for(asked or chat.model)
        return self.model_for(_named_model(None, chat, await for_turn(self.store.backend, caller, chat)))

    def model_for(self, asked: str | None) -> str:
        """Return the model that answers when ``asked`` for one by name, or for none."""
        refuse_retired(asked or self.settings.model, datetime.now(UTC).date())
        return self.settings.choose_model(asked)

    # One turn -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def turn(
        self,
        caller: Caller,
        chat: ChatInfo,
        question: str,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        request_id: str | None = None,
        message_id: str | None = None,
        attached: Sequence[Block] = (),
        schema: dict[str, Any] | None = None,
    ) -> AsyncIterator[LiveTurn]:
        """Run one turn and record it, however it ends.

        Use it as ``async with engine.turn(...) as turn: async for delta in turn: ...``. Inside, the first event has
        arrived. After the block ``turn.reply`` is final: text, usage (tokens) and cost (US dollars). Leaving early
        stops the upstream and records the turn as interrupted; its output tokens are then a lower bound.

        ``attached`` are blocks, text or pictures, that are sent before the question, and kept with it; ``schema`` is the
        JSON schema that the reply must fit. A caller whose source is ``map`` asks each question by itself: nothing said
        before is sent, and what fails is not tried again here.

        Raises before anything is spent: InvalidRequest, PromptError, ConfigurationError, BudgetExceeded, StoreError. Raises after recording what
        was spent: UpstreamError. Raises StoreError when the end could not be written: the reply is in the error's
        ``reply``, and is written with the next turn.
        """
        _check(caller, question, model, max_tokens, attached)
        await self.save_unsaved()
        wanted, chosen = chat.wanted, await for_turn(self.store.backend, caller, chat)
        model = self.model_for(_named_model(model, chat, chosen))
        if model == LOCAL_MODEL and any(block["type"] == "image" for block in attached):
            raise InvalidRequest("the embedded model sees no pictures; ask Claude, or remove the picture")
        upstream = await self.upstream(model)  # before anything is written: the embedded model may have to be fetched
        turn, messages = await self._prepared(
            caller, chat, chosen, question, model, max_tokens, request_id, message_id, attached, schema
        )
        async with self._recorded(turn, messages) as begun:
            if chat.wanted is wanted:  # and not another one since
                chat.wanted = None
            async with upstream.stream(_request(turn, messages), turn.answer) as batches:
                turn.upstream = _timed(turn, batches, begun)
                yield turn

    async def in_batch(
        self, caller: Caller, chat: ChatInfo, question: str, schema: dict[str, Any] | None
    ) -> tuple[LiveTurn, Request]:
        """Return a turn that is to be asked in a batch, at its worst case there, and its request; nothing is written.

        Raises:
            InvalidRequest: the question cannot be sent.
            ConfigurationError: the model cannot answer.
        """
        _check(caller, question, None, None, ())
        chosen = await for_turn(self.store.backend, caller, chat)
        model = self.model_for(_named_model(None, chat, chosen))
        turn, messages = await self._prepared(caller, chat, chosen, question, model, None, None, None, (), schema)
        most = max(turn.input_estimate, most_input_tokens(messages, with_schema(turn.system, schema)))
        turn.input_estimate = most
        worst = await self._worst_case(model, most, turn.max_tokens, turn.started_at)
        turn.worst_case_usd = None if worst is None else (worst / 2).quantize(LEDGER_DIGITS, ROUND_UP)
        return turn, _request(turn, messages)

    @asynccontextmanager
    async def _recorded(self, turn: LiveTurn, messages: list[dict[str, Any]]) -> AsyncIterator[float]:
        """Write the question and, at the end, the outcome, whatever happens in the block; give the time it began."""
        cancelled = await to_the_end(lambda: self._begin(turn, messages))
        begun = time.monotonic()
        self._log_start(turn, len(messages))
        saving = asyncio.create_task(self._checkpoints(turn))
        failure: UpstreamError | None = None
        try:
            if cancelled is not None:
                raise cancelled
            yield begun
        except UpstreamError as error:
            failure = error
            turn.status, turn.error_type = "failed", error.type
            raise
        finally:
            turn.duration_ms = round((time.monotonic() - begun) * 1000)
            if turn.answer.finished:
                turn.status = "complete"
            turn.cost_usd, turn.price_source = cost_and_source(turn.model, turn.usage, turn.started_at)
            if failure is not None:
                failure.reply = turn.reply
            self._log_end(turn, failure)
            saving.cancel()
            cancelled = await to_the_end(lambda: self._record(turn, saving))
            if cancelled is not None:
                raise cancelled

    async def _begin(self, turn: LiveTurn, messages: list[dict[str, Any]]) -> None:
        """Write the question; if there are budgets, with what they allow held until the turn ends.

        What is left may be taken by other turns between looking and holding, then it is looked at again.
        """
        wanted, most_tokens = turn.max_tokens, 0
        for _ in range(MOST_ATTEMPTS):
            budgets = await self.store.budgets(turn.caller, turn.started_at, apart_from=turn.id)
            if budgets:
                system = with_schema(turn.system, turn.schema)
                most_tokens = most_tokens or max(turn.input_estimate, most_input_tokens(messages, system))
                turn.max_tokens, turn.worst_case_usd = affordable(
                    budgets, turn.model, most_tokens, wanted, turn.started_at
                )
                turn.budget = min(budgets, key=lambda budget: budget.left_usd)
                turn.shortened = turn.max_tokens < wanted
            with contextlib.suppress(Overspent):
                try:
                    await self.store.begin(turn, budgets)
                except StoreBusy:
                    # it may be written yet, and then it would be held, and in the end charged, for nothing
                    self._in_doubt.append(turn)
                    raise
                self._log_budget(turn)
                return
        raise StoreBusy("too many turns begin at once on the same budget; ask again", self.settings.store)

    async def _prepared(
        self,
        caller: Caller,
        chat: ChatInfo,
        chosen: Chosen | None,
        question: str,
        model: str,
        max_tokens: int | None,
        request_id: str | None,
        message_id: str | None,
        attached: Sequence[Block],
        schema: dict[str, Any] | None,
    ) -> tuple[LiveTurn, list[dict[str, Any]]]:
        bound = self.longest_reply(chat, model, max_tokens)
        alone = caller.source == "map" or not chat.stored
        messages = [] if alone else await self.store.messages(caller, chat.id)
        system = chat.system if chosen is None else chosen.system
        sent = self._window(system, messages, question, attached, model, bound)
        now = datetime.now(UTC)
        input_estimate = estimate_tokens(sent.characters + len(with_schema(system, schema)), 2.5) + 50
        turn = LiveTurn(
            caller=caller,
            chat=chat,
            chosen=chosen,
            question=question,
            attached=attached,
            schema=schema,
            model=model,
            max_tokens=bound,
            id=new_id(),
            request_id=request_id or new_id(),
            question_id=new_id(),
            message_id=message_id or new_id(),
            started_at=now,
            history_messages=len(sent.messages) - 1,
            left_out_messages=sent.left_out,
            context_tokens=sent.tokens,
            input_estimate=input_estimate,
            worst_case_usd=await self._worst_case(model, input_estimate, bound, now),
        )
        return turn, sent.messages

    def longest_reply(self, chat: ChatInfo, model: str, max_tokens: int | None) -> int:
        """Return the upper bound of a reply, in tokens, before any budget is looked at."""
        most = self.settings.max_tokens
        bound = min(max_tokens or most, chat.max_tokens or most, most)
        return min(bound, LOCAL_REPLY_TOKENS) if model == LOCAL_MODEL else bound

    def _window(
        self,
        system: str | None,
        messages: Sequence[Message],
        question: str,
        attached: Sequence[Block],
        model: str,
        max_tokens: int,
    ) -> Window:
        room = None
        if model == LOCAL_MODEL and self._local_context is not None:
            room = self._local_context - max_tokens - small_model_tokens(system or "") - 256
        limit = self.settings.history_messages
        return window(messages, question, limit=limit, model=model, max_tokens=room, attached=attached)

    async def estimate(
        self,
        caller: Caller,
        chat: ChatInfo,
        messages: Sequence[Message],
        replies: Sequence[Reply],
        question: str,
        attached: Sequence[Block] = (),
    ) -> Estimate:
        """Return what asking would use and cost, about. Nothing is sent, written or held.

        ``messages`` are those of the chat and ``replies`` what each of its replies used: whoever asks at every key
        stroke reads them once.

        Raises:
            ConfigurationError: nobody could answer.
            PromptError: the chat's next prompt is not there.
        """
        chosen, now = await for_turn(self.store.backend, caller, chat), datetime.now(UTC)
        system, model = (
            chat.system if chosen is None else chosen.system,
            self.model_for(_named_model(None, chat, chosen)),
        )
        await self._worst_case(model, 0, 0, now)  # looks at the price table in a thread, the first time
        max_tokens = self.longest_reply(chat, model, None)
        return estimate_turn(
            self._window(system, messages, question, attached, model, max_tokens),
            model=model,
            system=system,
            system_before=chat.system,
            replies=replies,
            limit=self.settings.history_messages,
            max_tokens=max_tokens,
            now=now,
            context_window=self.context_window(model),
        )

    async def count_tokens(
        self, caller: Caller, chat: ChatInfo, question: str, *, model: str | None = None, attached: Sequence[Block] = ()
    ) -> TokenCount:
        """Return the input tokens of asking a question in a chat: counted by the model's own server, where there is one.

        Nothing is written, and nobody charges for it. Where no server is configured that knows the model, ctok counts
        if it is installed, and else the count is an estimate; both leave pictures out.

        Raises:
            InvalidRequest: the question cannot be sent.
            ConfigurationError: the model is retired.
            UpstreamError: the server did not count it.
        """
        _check(caller, question, model, None, attached)
        chosen = await for_turn(self.store.backend, caller, chat)
        system, named = chat.system if chosen is None else chosen.system, _named_model(model, chat, chosen)
        asked = named or self.settings.model
        refuse_retired(asked, datetime.now(UTC).date())
        answers = asked if asked == LOCAL_MODEL or self.settings.has_upstream else None
        if answers is None and named is None:
            answers = self.model_for(None)  # the embedded model, if nobody else is named
        messages = await self.store.messages(caller, chat.id) if chat.stored else []
        upstream = await self.upstream(answers) if answers else None
        counted_as = answers or asked
        bound = self.longest_reply(chat, counted_as, None)
        sent = self._window(system, messages, question, attached, counted_as, bound)
        if upstream is not None:
            request = Request(model=counted_as, max_tokens=1, messages=sent.messages, system=system)
            by = LOCAL_MODEL if counted_as == LOCAL_MODEL else "claude"
            return TokenCount(await upstream.count_tokens(request), by)
        texts = [system or "", *(visible_text(message["content"]) for message in sent.messages)]
        exact = await asyncio.to_thread(offline_tokens, counted_as, texts, len(sent.messages) // 2)
        if exact is not None:
            return TokenCount(exact, "ctok")
        rough = sum(map(text_tokens, texts)) + AROUND_A_QUESTION * len(sent.messages)
        return TokenCount(rough, "estimate")

    def context_window(self, model: str) -> int | None:
        """Return how many tokens a model takes at most; None when nobody tells, or not yet."""
        return self._local_context if model == LOCAL_MODEL else context_window(model)

    async def _worst_case(self, model: str, input_tokens: int, max_tokens: int, now: datetime) -> Decimal | None:
        """The first look at the price table takes 0.4 s, in a thread; each later one less than going there."""
        if self._priced:
            return worst_case(model, input_tokens, max_tokens, now)
        worst = await asyncio.to_thread(worst_case, model, input_tokens, max_tokens, now)
        self._priced = True
        return worst

    async def _checkpoints(self, turn: LiveTurn) -> None:
        """Save every two seconds what has come, for the case that this process dies."""
        saved = 0
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            if turn.answer.characters == saved:
                continue
            saved = turn.answer.characters
            cancelled = await to_the_end(lambda: self._checkpoint(turn))
            if cancelled is not None:
                raise cancelled

    async def _checkpoint(self, turn: LiveTurn) -> None:
        try:
            await self.store.checkpoint(turn)
        except StoreError as error:  # the end of the turn is written again, and reports it
            log.warning("Partial reply not saved", extra={"requestId": turn.request_id, "error": error.type})

    async def _record(self, turn: LiveTurn, saving: asyncio.Task[None]) -> None:
        await asyncio.wait([saving])  # a partial reply written after the whole one would undo it
        try:
            await self.store.record(turn)
        except StoreError as error:
            self._unsaved.append(turn)
            error.reply = turn.reply
            ids = {"requestId": turn.request_id, "chatId": turn.chat.id}
            log.error("Turn not saved yet", extra={**ids, "error": error.type})
            raise
        self._tell(turn)

    def _tell(self, turn: LiveTurn) -> None:
        for observer in tuple(self.observers):
            observer.recorded(turn)

    async def save_unsaved(self) -> None:
        """Write the turns that could not be written when they ended; no new one begins before that succeeds.

        Nor before those are taken back that were given up when they began, and may have been written since.

        Raises:
            StoreError: that is still so; they are kept.
        """
        waited = self._saving.locked()
        async with self._saving:
            if waited and self._not_saved is not None:  # each may take 15 s to fail, and many may wait here
                raise self._not_saved
            self._not_saved = None
            try:
                while self._in_doubt:
                    await self.store.withdraw(self._in_doubt[0])
                    self._in_doubt.pop(0)
                while self._unsaved:
                    await self.store.record(self._unsaved[0])
                    self._tell(self._unsaved.pop(0))
            except StoreError as error:
                self._not_saved = error
                raise

    # Who answers ----------------------------------------------------------------------------------------------------

    async def upstream(self, model: str) -> Claude:
        """Return the connection to who answers as that model, made on first use."""
        where = LOCAL_MODEL if model == LOCAL_MODEL else "claude"
        async with self._connecting[where]:  # fetching the embedded model takes minutes, and keeps up nobody else
            if where not in self._upstreams:
                self._upstreams[where] = await (self._embedded() if where == LOCAL_MODEL else self._claude())
                shown = {"model": model, "maxTokens": self.settings.max_tokens}
                log.info("Claude service initialized", extra=shown)
                if where == LOCAL_MODEL:
                    log.warning("The embedded model answers, not Claude", extra={"model": model})
            return self._upstreams[where]

    async def _claude(self) -> Claude:
        key = self.settings.api_key
        return Claude(api_key=key.get_secret_value() if key else None, base_url=self.settings.base_url)

    async def _embedded(self) -> Claude:
        from workbench.local import embedded_model  # brings a native library; most installations never need it

        model = await asyncio.to_thread(embedded_model, self.settings.local_gguf)
        self._local_context = model.context_tokens
        return Claude(
            api_key=model.api_key,
            base_url=model.base_url,
            name="the embedded model",
            caching=False,  # it reuses what it has read by itself, and nobody charges
            read_timeout=600,  # a loaded machine takes its time over a long question
        )

    async def warm(self) -> None:
        """Connect now what the first turn would otherwise wait for."""
        model = self.model_for(None)
        upstream = await self.upstream(model)
        await upstream.connect()
        await self._worst_case(model, 0, 0, datetime.now(UTC))

    async def aclose(self) -> None:
        """Close the connections. Live turns must have ended.

        Raises:
            StoreError: turns that could not be written when they ended cannot be written now either.
        """
        for upstream in self._upstreams.values():
            await upstream.aclose()
        self._upstreams.clear()
        await self.save_unsaved()
        await self._guards.aclose()

    # The log --------------------------------------------------------------------------------------------------------

    def _log_budget(self, turn: LiveTurn) -> None:
        budget = turn.budget
        if budget is not None and budget.nearly_spent:
            shown = {"scope": budget.scope, "id": budget.id, "leftUsd": exact(turn.budget_left_usd)}
            log.warning("Budget nearly spent", extra={"requestId": turn.request_id, **shown})

    def _log_start(self, turn: LiveTurn, message_count: int) -> None:
        log.info(
            "Starting Claude stream",
            extra={
                "requestId": turn.request_id,
                "chatId": turn.chat.id,
                "messageCount": message_count,
                "model": turn.model,
                "maxTokens": turn.max_tokens,
            },
        )

    def _log_end(self, turn: LiveTurn, failure: UpstreamError | None) -> None:
        ids = {"requestId": turn.request_id, "chatId": turn.chat.id}
        if failure is not None:
            log.error("Claude stream error", extra={**ids, "error": failure.summary})
            return
        usage = turn.usage
        log.info(
            "Claude stream completed" if turn.status == "complete" else "Claude stream interrupted",
            extra={
                **ids,
                "inputTokens": usage.input_tokens,
                "outputTokens": usage.output_tokens,
                "totalTokens": usage.total_tokens,
                "responseLength": len(turn.answer.text),
                "ttftMs": turn.ttft_ms,
                "costUsd": exact(turn.cost_usd),
            },
        )


async def to_the_end(work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.CancelledError | None:
    """Do work that must not be left half done; return the cancellation that arrived meanwhile, if one did.

    If the work fails, its error is raised and takes the place of a cancellation.

    A browser that goes away, a stop button and a loop that shuts down all cancel, some of them twice. The last one
    cancels the work's own task too: it is then done once more, so doing it twice must be harmless.
    """
    cancelled = None
    with CancelScope(shield=True):  # a scope of anyio's cancels at every turn of the loop, not once
        for _ in range(2):
            task = asyncio.create_task(work())
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError as error:
                    cancelled = error
            if not task.cancelled():
                break
        task.result()
    return cancelled


async def _timed(turn: LiveTurn, batches: AsyncIterator[list[Delta]], begun: float) -> AsyncIterator[list[Delta]]:
    """Note when the first token came."""
    async for batch in batches:
        if batch:
            if turn.ttft_ms is None:
                turn.ttft_ms = round((time.monotonic() - begun) * 1000)
            yield batch


def _check(caller: Caller, question: str, model: str | None, max_tokens: int | None, attached: Sequence[Block]) -> None:
    _check_bound(max_tokens)
    for name, text in (("model", model or ""), ("id of the org", caller.org_id), ("id of the user", caller.user_id)):
        _check_text(name, text)
    check_question(question, attached)


def check_question(question: str, attached: Sequence[Block] = ()) -> None:
    """Raise InvalidRequest when a question can be sent by nobody to no model."""
    for name, text in (("message", question), *(("attachment", block.get("text", "")) for block in attached)):
        _check_text(name, text)
    if not question.strip():
        raise InvalidRequest("the message is empty; write something to ask")
    characters = len(question) + sum(len(block.get("text") or block["source"]["data"]) for block in attached)
    if characters > LONGEST_QUESTION:
        raise InvalidRequest(
            f"the message has {characters:,} characters, more than the {LONGEST_QUESTION:,} that can be sent; shorten it"
        )


def _check_bound(max_tokens: int | None) -> None:
    if max_tokens is not None and not (isinstance(max_tokens, int) and max_tokens >= 1):
        raise InvalidRequest(f"max_tokens is {max_tokens!r}; a reply needs a whole number of at least 1")


def _check_text(name: str, text: str) -> None:
    if not isinstance(text, str):
        raise InvalidRequest(f"the {name} is of type {type(text).__name__}; it must be a text")
    if not is_text(text):
        raise InvalidRequest(f"the {name} {NOT_TEXT}")


def with_schema(system: str | None, schema: dict[str, Any] | None) -> str:
    """A text that counts for as much as the system prompt and what the upstream adds to it for a schema."""
    return f"{system or ''}{f'{schema}{AROUND_A_SCHEMA}' if schema else ''}"


def _request(turn: LiveTurn, messages: list[dict[str, Any]]) -> Request:
    return Request(
        model=turn.model,
        max_tokens=turn.max_tokens,
        messages=messages,
        system=turn.system,
        user=_opaque(turn.caller),
        schema=turn.schema,
        effort=turn.prompt.effort if turn.prompt else None,
        alone=turn.caller.source == "map",
    )


def _named_model(asked: str | None, chat: ChatInfo, chosen: Chosen | None) -> str | None:
    """The model that somebody named: for this turn, for the chat, or with its prompt."""
    prompt = chat.prompt if chosen is None else chosen.prompt
    return asked or chat.model or (prompt.model if prompt else None)


def _opaque(caller: Caller) -> str:
    """An id of the user that tells the upstream nothing but that it is the same one."""
    return hashlib.sha256(f"{caller.org_id}\n{caller.user_id}".encode()).hexdigest()[:32]
