"""What the workbench keeps: chats, their messages, and what every call used."""

from __future__ import annotations

import asyncio
import atexit
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from workbench.errors import ConfigurationError, InvalidRequest, NotFound
from workbench.ids import new_id
from workbench.pricing import cost_and_source
from workbench.store.backend import Statement
from workbench.store.queries import query
from workbench.turns import DEFAULT_ID, ChatInfo, Message, Usage, estimate_tokens
from workbench.wording import plain

if TYPE_CHECKING:
    from decimal import Decimal

    import pyarrow as pa

    from workbench.store.backend import Backend
    from workbench.turns import Block, Caller, LiveTurn, Status

log = logging.getLogger("workbench.store")

TITLE_LENGTH = 60
HOLD_SECONDS = 900
"""After this a hold no longer counts against a budget, whatever became of its turn."""

_json = msgspec.json.Encoder()
_open: set[Store] = set()


@atexit.register
def _close_all() -> None:
    """Let go of every file nobody closed.

    Registered when this module is imported and so before anybody can use a store: exit handlers run last come, first
    served, and whoever ends turns in one of his own still finds the store open.
    """
    for store in list(_open):
        store.close()


def _backend(url: str) -> Backend:
    scheme, is_address, _ = url.partition("://")
    if not is_address:
        from workbench.store.duckdb_file import DuckDBFile

        return DuckDBFile(url)
    if scheme not in ("postgresql", "postgres"):
        raise ConfigurationError(
            f"WORKBENCH_STORE cannot be a {scheme} address; set it to the path of a DuckDB file or to postgresql://…"
        )
    try:
        from workbench.store.postgres import PostgresBackend
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"a store in PostgreSQL needs {error.name}; install it with: pip install 'claude-workbench[postgres]'"
        ) from None
    return PostgresBackend(url)


def _blocks(blocks: list[Block]) -> str:
    return _json.encode(blocks).decode()


class Store:
    """The ledger over a backend. Every question is asked for one org; rows of another are as if they were not."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._known: set[tuple[str, str]] = set()

    @classmethod
    async def open(cls, url: str) -> Store:
        """Open the store at a path or an address and record the turns a dead process left behind as ``lost``.

        Raises:
            ConfigurationError: an address nothing here understands.
            StoreError: see :class:`~workbench.store.duckdb_file.DuckDBFile` and
                :class:`~workbench.store.postgres.PostgresBackend`.
        """
        store = cls(await asyncio.to_thread(_backend, url))
        _open.add(store)
        try:
            await store._begin_known(DEFAULT_ID, DEFAULT_ID)
            # other processes may be in the middle of turns in PostgreSQL: only an expired hold is surely of a dead one
            await store._record_lost(expired_by=datetime.now(UTC) if "://" in url else None)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Finish what is being written and let go of the file."""
        _open.discard(self)
        self.backend.close()

    # Chats ----------------------------------------------------------------------------------------------------------

    async def chat(self, caller: Caller, chat_id: str) -> ChatInfo:
        """Return a chat of the caller; NotFound for any other."""
        rows = await self.backend.rows(query("chat"), chat_id, caller.org_id, caller.user_id)
        if not rows:
            raise NotFound("chat", chat_id, "wb.chats() lists the chats there are")
        id, title, system, model, max_tokens, _, _, forked_from, created_at = rows[0]
        return ChatInfo(
            id=id,
            title=title,
            system=system,
            model=model,
            max_tokens=max_tokens,
            forked_from=forked_from,
            created_at=created_at.astimezone(UTC),
            stored=True,
        )

    async def messages(self, caller: Caller, chat_id: str) -> list[Message]:
        """Return the messages of a chat of the caller, oldest first; none of any other."""
        rows = await self.backend.rows(query("messages"), chat_id, caller.org_id, caller.user_id)
        return [
            Message(
                id=id,
                chat_id=chat_id,
                seq=seq,
                role=role,
                content=content,
                blocks=msgspec.json.decode(blocks),
                token_count=token_count,
                status=status,
                stop_reason=stop_reason,
                model=model,
                created_at=created_at.astimezone(UTC),
            )
            for id, seq, role, content, blocks, token_count, status, stop_reason, model, created_at in rows
        ]

    async def fork(self, caller: Caller, chat: ChatInfo, at: int) -> ChatInfo:
        """Return a new chat that begins with the first ``at`` messages of another.

        Raises:
            InvalidRequest: ``at`` is not the end of a turn of this chat.
        """
        messages = await self.messages(caller, chat.id)
        ends = [message.seq for message in messages if message.role == "assistant" and message.status != "streaming"]
        if at not in ends:
            choice = f"one of {', '.join(map(str, ends))}" if ends else "given once the first turn has ended"
            raise InvalidRequest(f"a chat is forked after a whole turn, so at must be {choice}, not {at}")
        fork = ChatInfo(
            id=new_id(),
            title=chat.title,
            system=chat.system,
            model=chat.model,
            max_tokens=chat.max_tokens,
            forked_from=chat.id,
            created_at=datetime.now(UTC),
            stored=True,
        )
        await self.backend.write(
            [
                self._new_chat(caller, fork, fork.created_at, chat.title),
                Statement(query("fork_messages"), (fork.id, caller.org_id, chat.id, at, new_id())),
            ]
        )
        return fork

    async def chats(self, caller: Caller, search: str = "", limit: int = 1000) -> pa.Table:
        """Return the caller's chats, the one used last first."""
        return await self.backend.arrow(query("chats"), caller.org_id, caller.user_id, search, limit)

    async def chat_cost(self, caller: Caller, chat_id: str) -> Decimal | None:
        """Return what a chat has cost in US dollars, None when the price of a call was not known."""
        ((cost, unpriced),) = await self.backend.rows(query("chat_cost"), chat_id, caller.org_id)
        return None if unpriced else plain(cost)

    # One turn -------------------------------------------------------------------------------------------------------

    async def begin(self, turn: LiveTurn) -> None:
        """Write the question, an empty reply and the hold, in one transaction: from here on the turn is never lost."""
        caller, chat, now = turn.caller, turn.chat, turn.started_at
        await self._begin_known(caller.org_id, caller.user_id)
        statements = []
        if not chat.stored:
            statements.append(self._new_chat(caller, chat, now, chat.title or _title(turn.question)))
        else:
            # in PostgreSQL this also locks the chat, so that two turns cannot take the same place in it
            statements.append(
                Statement(
                    "UPDATE chats SET updated_at = $1 WHERE id = $2 AND org_id = $3", (now, chat.id, caller.org_id)
                )
            )
        question = _blocks([{"type": "text", "text": turn.question}])
        place = (chat.id, caller.org_id)
        statements += [
            Statement(
                query("new_message"),
                (turn.question_id, *place, "user", turn.question, question, "complete", None, now),
            ),
            Statement(
                query("new_message"), (turn.message_id, *place, "assistant", "", "[]", "streaming", turn.model, now)
            ),
            Statement(
                query("new_hold"),
                (
                    turn.id,
                    turn.request_id,
                    caller.org_id,
                    caller.user_id,
                    chat.id,
                    turn.message_id,
                    caller.source,
                    turn.model,
                    now,
                    now + timedelta(seconds=HOLD_SECONDS),
                    turn.worst_case_usd,
                    turn.input_estimate,
                ),
            ),
        ]
        await self.backend.write(statements)
        chat.stored = True
        chat.title = chat.title or _title(turn.question)

    async def checkpoint(self, turn: LiveTurn) -> None:
        """Write what has come of the reply so far, for the case that this process dies."""
        answer = turn.answer
        await self.backend.write(
            [self._reply(turn.message_id, turn.caller.org_id, answer.text, answer.blocks, "streaming", None, None)]
        )

    async def record(self, turn: LiveTurn) -> None:
        """Write how a turn ended: its reply, its usage row and the settled hold, in one transaction.

        The transaction is on its way before this first waits, so cancelling the caller does not undo it.
        """
        answer, caller, usage = turn.answer, turn.caller, turn.usage
        await self.backend.write(
            [
                self._reply(
                    turn.message_id,
                    caller.org_id,
                    answer.text,
                    answer.blocks,
                    turn.status,
                    answer.stop_reason,
                    usage.output_tokens,
                ),
                Statement(
                    "UPDATE messages SET token_count = $1 WHERE id = $2 AND org_id = $3",
                    (turn.question_tokens, turn.question_id, caller.org_id),
                ),
                _usage_row(
                    id=turn.id,
                    request_id=turn.request_id,
                    org_id=caller.org_id,
                    user_id=caller.user_id,
                    chat_id=turn.chat.id,
                    message_id=turn.message_id,
                    source=caller.source,
                    model=turn.model,
                    started_at=turn.started_at,
                    usage=usage,
                    status=turn.status,
                    ttft_ms=turn.ttft_ms,
                    duration_ms=turn.duration_ms,
                    stop_reason=answer.stop_reason,
                    error_type=turn.error_type,
                    cost_usd=turn.cost_usd,
                    price_source=turn.price_source,
                    upstream_request_id=answer.request_id,
                    history_messages=turn.history_messages,
                    left_out_messages=turn.left_out_messages,
                ),
                self._settled(turn.id, caller.org_id, "settled"),
            ]
        )

    # The ledger -----------------------------------------------------------------------------------------------------

    async def arrow(self, sql: str, *parameters: Any) -> pa.Table:
        """Return the result of one of the workbench's own queries."""
        return await self.backend.arrow(sql, *parameters)

    async def read_only(self, sql: str, *, seconds: float = 30) -> pa.Table:
        """Return the result of an analyst's own query, which cannot write or reach files or network."""
        return await self.backend.read_only(sql, seconds=seconds)

    # Inside ---------------------------------------------------------------------------------------------------------

    async def _begin_known(self, org_id: str, user_id: str) -> None:
        """Make sure that the org and the user have a row."""
        if (org_id, user_id) in self._known:
            return
        now = datetime.now(UTC)
        await self.backend.write(
            [
                Statement(
                    "INSERT INTO orgs (id, created_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING", (org_id, now)
                ),
                Statement(
                    "INSERT INTO users (org_id, id, created_at) VALUES ($1, $2, $3) ON CONFLICT (org_id, id) DO NOTHING",
                    (org_id, user_id, now),
                ),
            ]
        )
        if len(self._known) > 10_000:  # a stream of made-up users must not fill the memory
            self._known.clear()
        self._known.add((org_id, user_id))

    @staticmethod
    def _new_chat(caller: Caller, chat: ChatInfo, now: datetime | None, title: str) -> Statement:
        return Statement(
            query("new_chat"),
            (
                chat.id,
                caller.org_id,
                caller.user_id,
                title,
                chat.system,
                chat.model,
                chat.max_tokens,
                chat.forked_from,
                now,
            ),
        )

    @staticmethod
    def _reply(
        id: str, org_id: str, text: str, blocks: list[Block], status: str, stop_reason: str | None, tokens: int | None
    ) -> Statement:
        return Statement(query("end_message"), (id, org_id, text, _blocks(blocks), status, stop_reason, tokens))

    @staticmethod
    def _settled(id: str, org_id: str, state: str) -> Statement:
        return Statement("UPDATE holds SET state = $1 WHERE id = $2 AND org_id = $3", (state, id, org_id))

    async def _record_lost(self, expired_by: datetime | None) -> None:
        """Record turns whose process died. A file has one owner, so at its start no open turn is alive."""
        for row in await self.backend.rows(query("open_holds"), expired_by):
            id, request_id, org_id, user_id, chat_id, message_id, source, model, started_at, tokens, text, blocks = row
            usage = Usage(uncached_input_tokens=tokens, output_tokens=estimate_tokens(len(text)), estimated=True)
            cost, price_source = cost_and_source(model, usage, started_at)
            await self.backend.write(
                [
                    self._reply(
                        message_id, org_id, text, msgspec.json.decode(blocks), "lost", None, usage.output_tokens
                    ),
                    _usage_row(
                        id=id,
                        request_id=request_id,
                        org_id=org_id,
                        user_id=user_id,
                        chat_id=chat_id,
                        message_id=message_id,
                        source=source,
                        model=model,
                        started_at=started_at,
                        usage=usage,
                        status="lost",
                        error_type="process_died",
                        cost_usd=cost,
                        price_source=price_source,
                    ),
                    self._settled(id, org_id, "lost"),
                ]
            )
            log.warning("Turn of a dead process recorded as lost", extra={"requestId": request_id, "chatId": chat_id})


def _title(question: str) -> str:
    line = " ".join(question.split())
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1] + "…"


def _usage_row(
    *,
    id: str,
    request_id: str,
    org_id: str,
    user_id: str,
    chat_id: str,
    message_id: str,
    source: str,
    model: str,
    started_at: datetime,
    usage: Usage,
    status: Status,
    cost_usd: Decimal | None,
    price_source: str,
    ttft_ms: int | None = None,
    duration_ms: int | None = None,
    stop_reason: str | None = None,
    error_type: str | None = None,
    upstream_request_id: str | None = None,
    history_messages: int | None = None,
    left_out_messages: int | None = None,
) -> Statement:
    return Statement(
        query("new_usage"),
        (
            id,
            request_id,
            org_id,
            user_id,
            chat_id,
            message_id,
            source,
            model,
            started_at,
            ttft_ms,
            duration_ms,
            usage.input_tokens,
            usage.uncached_input_tokens,
            usage.cache_read_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
            usage.output_tokens,
            usage.thinking_tokens,
            usage.web_searches,
            usage.service_tier,
            usage.inference_geo,
            usage.speed,
            stop_reason,
            status,
            error_type,
            usage.estimated,
            cost_usd,
            price_source,
            upstream_request_id,
            history_messages,
            left_out_messages,
        ),
    )
