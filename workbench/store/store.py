"""What the workbench keeps: chats, their messages, and what every call used."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from workbench.budgets import Budget, begun
from workbench.errors import ConfigurationError, InvalidRequest, NotFound, StoreBusy, StoreError
from workbench.history import question_blocks
from workbench.ids import new_id
from workbench.limits import Verdict, wait
from workbench.pricing import cost_and_source, longest_reply
from workbench.store import erase, family
from workbench.store.backend import Statement
from workbench.store.queries import query
from workbench.store.sessions import Heart, Known, Session
from workbench.store.standings import Standings, Whose
from workbench.store.unchanged import Unchanged
from workbench.turns import DEFAULT_ID, ChatInfo, ChatPrompt, Exposure, Message, Reply, Usage, estimate_tokens
from workbench.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from workbench.budgets import Period, Scope
    from workbench.limits import Rate
    from workbench.store.backend import Backend, Row
    from workbench.store.family import Branch
    from workbench.store.shared import SharedFile
    from workbench.turns import Block, Caller, Chosen, LiveTurn, Status

log = logging.getLogger("workbench.store")

TITLE_LENGTH = 60
HOLD_SECONDS = 900
"""After this a hold no longer counts against a budget, whatever became of its turn."""
UNSAVED_TOKENS = 600
"""What a fast model says in the two seconds after which a partial reply is saved again. Of a turn whose process was
killed nobody knows it; it was delivered and is charged, so it counts as spent."""

NO_BUDGET = -1
"""The version of a ledger by which nobody has made sure of any budget."""
KEYS_KEPT = timedelta(days=1)
"""How long a request may be sent again without being done again."""
MOST_MAPPED = 50_000
"""Chats looked up at once: 3 MB of ids."""
TOGETHER = 250
"""Turns of a batch that are written at once."""
MOST_CLAIMS = 20
"""Of one key by one request; each that fails means that another turn with the key has failed meanwhile."""
OVER_BUDGET = re.compile(r"check constraint.*holds", re.IGNORECASE)
"""How either database says that refuse_overspent.sql has undone a transaction."""

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
        return _file(url)
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


def _file(path: str) -> Backend:
    if path == ":memory:":
        from workbench.store.duckdb_file import DuckDBFile

        return DuckDBFile(path)
    from workbench.store.shared import SharedFile

    return SharedFile(path)


def _text(value: list[Block] | Mapping[str, str]) -> str:
    return _json.encode(value).decode()


class Limits(NamedTuple):
    """What bounds an org, a user or a key; None where nothing does."""

    scope: Scope
    id: str
    budget_usd: Decimal | None
    budget_period: Period | None
    rate_per_minute: float | None
    rate_burst: float | None


class Claim(NamedTuple):
    """Which turn a key stands for, and how far it is."""

    fingerprint: str
    session_id: str
    message_id: str
    status: Status | None
    """Of the reply; None before it has begun."""

    @property
    def done(self) -> bool:
        return self.status == "complete"


class Mapped(NamedTuple):
    """What ``wb.map`` has in a chat; without a whole reply all are None."""

    content: str | None
    stop_reason: str | None
    output_tokens: int | None


class Overspent(Exception):
    """Somebody else took what a turn was to hold."""


class Store:
    """The ledger over a backend. Every question is asked for one org; rows of another are as if they were not."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.session = Session(new_id())
        self._heart: Heart | None = None
        self._known: set[tuple[str, str]] = set()
        self._standings = Standings()
        self._limits: Unchanged[list[Limits]] = Unchanged()
        self._claims: set[str] = set()
        """The replies to come for which this process has claimed a key."""

    @classmethod
    async def open(cls, url: str) -> Store:
        """Open the store at a path or an address and record the turns that dead processes left behind as ``lost``.

        Raises:
            ConfigurationError: an address nothing here understands.
            StoreError: see :class:`~workbench.store.shared.SharedFile` and
                :class:`~workbench.store.postgres.PostgresBackend`.
        """
        store = cls(await asyncio.to_thread(_backend, url))
        _open.add(store)
        try:
            await store._begin_known(DEFAULT_ID, DEFAULT_ID)
            await store._look_after()
        except BaseException:
            store.close()
            raise
        if url != ":memory:":
            store._heart = Heart(store._look_after)
            if "://" not in url:  # an owner that goes away may have died in the middle of turns
                cast("SharedFile", store.backend).took_over = store._heart.beat_now
        return store

    def close(self) -> None:
        """Finish what is being written and let go of the file."""
        _open.discard(self)
        if self._heart is not None:
            self._heart.stop()
        self.session.end()
        self.backend.close()

    # Chats ----------------------------------------------------------------------------------------------------------

    async def chat(self, caller: Caller, chat_id: str) -> ChatInfo:
        """Return a chat of the caller; NotFound for any other."""
        rows = await self.backend.rows(query("chat"), chat_id, caller.org_id, caller.user_id)
        if not rows:
            raise NotFound("chat", chat_id, "wb.chats() lists the chats there are")
        id, title, system, model, max_tokens, forked_from, created_at, name, *prompt, experiment, variant = rows[0]
        return ChatInfo(
            id=id,
            title=title,
            system=system,
            model=model,
            max_tokens=max_tokens,
            prompt=None if name is None else _prompt(name, *prompt),
            exposure=None if experiment is None else Exposure(experiment=experiment, variant=variant),
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
            prompt=chat.prompt,  # and not the exposure: an experiment assigns chats that it sees from the beginning
            wanted=chat.wanted,
            forked_from=chat.id,
            created_at=datetime.now(UTC),
            stored=True,
        )
        await self.backend.write(
            [
                Statement(query("new_chat"), _chat_row(caller, fork, fork.created_at, chat.title, _prompt_of(fork))),
                Statement(query("fork_messages"), (fork.id, caller.org_id, chat.id, at, new_id())),
            ]
        )
        return fork

    async def family(self, caller: Caller, chat_id: str) -> list[Branch]:
        """Return the chats that are branches of a chat of the caller, itself among them, the oldest first."""
        return await family.family(self.backend, caller, chat_id)

    async def rename_chat(self, caller: Caller, chat_id: str, title: str) -> None:
        """Call a chat of the caller otherwise.

        Raises:
            NotFound: the caller has no such chat.
        """
        await self.chat(caller, chat_id)
        parameters = (chat_id, caller.org_id, caller.user_id, title)
        await self.backend.write([Statement(query("rename_chat"), parameters)])

    async def delete_chat(self, caller: Caller, chat_id: str) -> None:
        """Delete a chat of the caller with its messages; what it cost stays in the ledger.

        Raises:
            NotFound: the caller has no such chat.
            StoreBusy: a turn runs in it.
        """
        await erase.delete_chat(self.backend, caller.org_id, caller.user_id, chat_id)

    async def chats(
        self, caller: Caller, search: str = "", limit: int = 1000, after: tuple[datetime, str] | None = None
    ) -> pa.Table:
        """Return the caller's chats, the one used last first; ``after`` one, by its ``updated_at`` and id."""
        used, id = after or (None, None)
        return await self.backend.arrow(query("chats"), caller.org_id, caller.user_id, search, limit, used, id)

    async def mapped(self, caller: Caller, chat_ids: Sequence[str]) -> dict[str, Mapped]:
        """Return what ``wb.map`` has in those of the chats that the caller has."""
        found: dict[str, Mapped] = {}
        for at in range(0, len(chat_ids), MOST_MAPPED):
            ids = list(chat_ids[at : at + MOST_MAPPED])
            table = await self.backend.arrow(query("mapped"), ids, caller.org_id, caller.user_id)
            found |= {id: Mapped(*reply) for id, *reply in zip(*(c.to_pylist() for c in table.columns), strict=True)}
        return found

    async def chat_usage(self, caller: Caller, chat_id: str) -> pa.Table:
        """Return what each reply of a chat used and cost; of a fork only what it asked itself."""
        return await self.arrow(query("chat_usage"), chat_id, caller.org_id)

    async def shared_usage(self, caller: Caller, chat_id: str) -> pa.Table:
        """Return what the replies used and cost that a fork shares with the chats it was forked from, as ``chat_usage``.

        Nothing is known of what was asked in a chat that has been deleted.
        """
        return await self.arrow(query("shared_usage"), chat_id, caller.org_id)

    async def used(self, caller: Caller, chat: ChatInfo) -> list[dict[str, Any]]:
        """Return what each reply that is in a chat used and cost, as rows of ``chat_usage``; of a fork the shared ones too."""
        rows: list[dict[str, Any]] = (await self.chat_usage(caller, chat.id)).to_pylist()
        if chat.forked_from is not None:
            rows += (await self.shared_usage(caller, chat.id)).to_pylist()
        return rows

    async def chat_cost(self, caller: Caller, chat_id: str) -> Decimal | None:
        """Return what a chat has cost in US dollars, None when the price of a call was not known."""
        ((cost, unpriced),) = await self.backend.rows(query("chat_cost"), chat_id, caller.org_id)
        return None if unpriced else plain(cost)

    # One turn -------------------------------------------------------------------------------------------------------

    async def begin(self, turn: LiveTurn, budgets: Sequence[Budget] = ()) -> None:
        """Write the question, an empty reply and the hold, in one transaction: from here on the turn is never lost.

        Raises:
            Overspent: one of the budgets has no longer room for the hold.
        """
        caller, chat = turn.caller, turn.chat
        await self._begin_known(caller.org_id, caller.user_id)
        expires_at = turn.started_at + timedelta(seconds=HOLD_SECONDS)
        statements = self._within(budgets, turn, self._beginning(turn, expires_at))
        since = self._sure_of(turn, budgets)
        self._standings.hold(turn, expires_at)  # and queued before anybody comes in between
        try:
            with self._forgetting(caller.org_id):
                await self.backend.write(statements, since=since)
        except StoreError as error:
            if budgets and OVER_BUDGET.search(str(error)):
                raise Overspent from None
            raise
        chat.stored = True
        chat.title = chat.title or _title(turn.question)
        if turn.chosen is not None:
            chat.system, chat.prompt, chat.exposure = turn.system, turn.prompt, turn.exposure

    async def withdraw(self, turn: LiveTurn) -> None:
        """Take a turn back that was never asked, if it was written all the same."""
        which = (turn.id, turn.caller.org_id)
        written = "EXISTS (SELECT 1 FROM holds WHERE id = $1 AND org_id = $2 AND state = 'open')"
        messages = f"DELETE FROM messages WHERE id IN ($3, $4) AND org_id = $2 AND {written}"
        await self.backend.write(
            [
                Statement(messages, (*which, turn.question_id, turn.message_id)),
                Statement(f"DELETE FROM exposures WHERE id = $1 AND org_id = $2 AND {written}", which),
                Statement("DELETE FROM holds WHERE id = $1 AND org_id = $2 AND state = 'open'", which),
            ]
        )

    async def begin_batch(
        self, batch_id: str, turns: Sequence[LiveTurn], budgets: Sequence[Budget], expires_at: datetime
    ) -> None:
        """Write many turns that are asked together, each as :meth:`begin` writes one.

        Raises:
            Overspent: one of the budgets has no longer room for all; some may be written.
        """
        first = turns[0]
        caller = first.caller
        await self._begin_known(caller.org_id, caller.user_id)
        row = (batch_id, caller.org_id, caller.user_id, first.model, len(turns), first.started_at, self.session.id)
        await self.backend.write([Statement(query("new_batch"), row)])
        try:
            await self._write_each(
                turns, lambda turn: self._within(budgets, turn, self._beginning(turn, expires_at, batch_id))
            )
        except StoreError as error:
            if budgets and OVER_BUDGET.search(str(error)):
                raise Overspent from None
            raise
        for turn in turns:
            turn.chat.stored = True

    async def record_batch(self, turns: Sequence[LiveTurn]) -> None:
        """Write how turns of a batch ended, as :meth:`record` writes one."""
        await self._write_each(turns, lambda turn: self._ending(turn, timed=False))

    async def _write_each(self, turns: Sequence[LiveTurn], made: Callable[[LiveTurn], list[Statement]]) -> None:
        """Write a transaction of each turn: whoever has the file writes some at a time, as when turns end at once."""
        for at in range(0, len(turns), TOGETHER):
            writing = [self.backend.write(made(turn)) for turn in turns[at : at + TOGETHER]]
            for failed in await asyncio.gather(*writing, return_exceptions=True):
                if failed is not None:
                    raise failed

    async def checkpoint(self, turn: LiveTurn) -> None:
        """Write what has come of the reply so far, for the case that this process dies."""
        answer, org_id = turn.answer, turn.caller.org_id
        later = datetime.now(UTC) + timedelta(seconds=HOLD_SECONDS)
        statements = [
            self._reply(turn.message_id, org_id, answer.text, answer.blocks, "streaming", None, None),
            Statement("UPDATE holds SET expires_at = $3 WHERE id = $1 AND org_id = $2", (turn.id, org_id, later)),
        ]
        self._standings.hold(turn, later)
        with self._forgetting(org_id):
            await self.backend.write(statements, since=NO_BUDGET)

    async def record(self, turn: LiveTurn) -> None:
        """Write how a turn ended: its reply, its usage row and the settled hold, in one transaction.

        The transaction is on its way before this first waits, so cancelling the caller does not undo it.
        """
        statements = self._ending(turn)
        self._standings.settle(turn)
        with self._forgetting(turn.caller.org_id):
            await self.backend.write(statements, since=NO_BUDGET)
        self._claims.discard(turn.message_id)

    # Requests that may be sent again --------------------------------------------------------------------------------

    async def claim(self, caller: Caller, key: str, fingerprint: str, message_id: str) -> Claim:
        """Claim a key for the turn whose reply will have that id, unless a turn that ended well or still runs has it.

        Returns:
            Who has the key now: the turn of ``message_id``, or an earlier one.
        """
        self._claims.add(message_id)  # before it is written, when others may see it
        claim = None
        try:
            claim = await self._claim(caller, key, fingerprint, message_id)
            return claim
        finally:
            if claim is None or claim.message_id != message_id:
                self._claims.discard(message_id)

    async def _claim(self, caller: Caller, key: str, fingerprint: str, message_id: str) -> Claim:
        who = (caller.org_id, caller.user_id)
        now = datetime.now(UTC)
        new = Statement(query("claim"), (*who, key, fingerprint, self.session.id, message_id, now))
        for _ in range(MOST_CLAIMS):
            await self.backend.write([new])
            claim = await self._claimed(*who, key)
            if claim is None:  # given back between the two
                continue
            if claim.done or await self._at_work(claim):
                return claim
            # its process died, or could not say that the turn failed
            await self.backend.write([Statement(query("unclaim"), (*who, claim.message_id))])
        raise StoreBusy("turns with the same key begin and fail one after another; ask again")

    async def unclaim(self, caller: Caller, message_id: str) -> None:
        """Give the key of a turn back, unless the turn ended well."""
        self._claims.discard(message_id)  # the next one with the key gives it back if this cannot be written
        await self.backend.write([Statement(query("unclaim"), (caller.org_id, caller.user_id, message_id))])

    async def reply(self, caller: Caller, message_id: str) -> Reply:
        """Return the reply of a turn of the caller that has ended; NotFound for any other."""
        rows = await self.backend.rows(query("reply"), message_id, caller.org_id, caller.user_id)
        if not rows:
            raise NotFound("reply", message_id, "it was deleted, or its turn has not ended")
        *row, prompt, version, experiment, variant = rows[0]
        text, status, stop_reason, chat_id, request_id, model, at, ttft_ms, duration_ms, cost, *counts = row
        names = ("uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
        named = zip((*names, "output_tokens", "thinking_tokens", "estimated"), counts, strict=True)
        return Reply(
            text=text,
            usage=Usage(**dict(named)),
            cost_usd=None if cost is None else plain(cost),
            chat_id=chat_id,
            message_id=message_id,
            request_id=request_id,
            model=model,
            status=status,
            stop_reason=stop_reason,
            ttft_ms=ttft_ms,
            duration_ms=duration_ms or 0,
            created_at=at.astimezone(UTC),
            prompt=None if prompt is None else f"{prompt}@{version}",
            experiment=experiment,
            variant=variant,
        )

    async def _claimed(self, org_id: str, user_id: str, key: str) -> Claim | None:
        rows = await self.backend.rows(query("claimed"), org_id, user_id, key)
        return Claim(*rows[0]) if rows else None

    async def _at_work(self, claim: Claim) -> bool:
        if claim.session_id == self.session.id:
            return claim.message_id in self._claims
        rows = await self.backend.rows(query("sessions"))
        return any(session.alive() for session in (Known(*row) for row in rows) if session.id == claim.session_id)

    # Limits ---------------------------------------------------------------------------------------------------------

    async def limits(self, caller: Caller) -> list[Limits]:
        """Return what bounds the caller's org, user and key, as far as they are known."""
        whose, version = (caller.org_id, caller.user_id, caller.key_id), self.backend.tenants_version
        limits = self._limits.get(whose, version)
        if limits is None:
            limits = [Limits(*row) for row in await self.backend.rows(query("limits"), *whose)]
            self._limits.keep(whose, version, limits)
            if not {of.scope for of in limits} >= {"org", "user"}:
                self._known.discard((caller.org_id, caller.user_id))  # erased meanwhile, if they ever had a row
        return limits

    async def budgets(self, caller: Caller, now: datetime, *, apart_from: str = "") -> list[Budget]:
        """Return the budgets a turn of the caller counts against, as they stand without the hold of that id."""
        bounded = [of for of in await self.limits(caller) if of.budget_usd is not None]
        return [await self._standing(caller, of, now, apart_from) for of in bounded]

    async def _standing(self, caller: Caller, of: Limits, now: datetime, apart_from: str) -> Budget:
        budget = Budget(of.scope, of.id, plain(of.budget_usd or Decimal(0)), of.budget_period)
        counted = _counted(caller, budget, now)
        if (ledger := self.backend.ledger) is None:
            ((spent, held),) = await self.backend.rows(query("spent"), *counted, apart_from)
            return replace(budget, spent_usd=plain(spent), held_usd=plain(held))
        whose = Whose(*counted[:4])
        standing = self._standings.get(whose, ledger.ledger_version)
        if standing is None:
            standing = self._standings.asking(whose)
            questions = Statement(query("spent"), (*counted, "")), Statement(query("held"), counted[:3])
            version, (((spent, _),), holds) = await ledger.rows_in_order(*questions)
            standing.add_up(version, spent, holds)
        held = standing.held_usd(now, apart_from)
        return replace(budget, spent_usd=plain(standing.spent_usd), held_usd=plain(held))

    def _sure_of(self, turn: LiveTurn, budgets: Sequence[Budget]) -> int:
        """Return the version of the ledger by which a turn's hold fits all budgets; NO_BUDGET when nobody is sure.

        Raises:
            Overspent: it does not, since another turn began meanwhile.
        """
        version = None if (ledger := self.backend.ledger) is None else ledger.ledger_version
        for budget in budgets:
            whose = Whose(*_counted(turn.caller, budget, turn.started_at)[:4])
            standing = None if version is None else self._standings.get(whose, version)
            if standing is None:
                return NO_BUDGET
            counted = standing.spent_usd + standing.held_usd(turn.started_at, turn.id) + (turn.worst_case_usd or 0)
            if counted > budget.limit_usd:
                raise Overspent
        return NO_BUDGET if version is None else version

    @contextlib.contextmanager
    def _forgetting(self, org_id: str) -> Iterator[None]:
        """What stands on the budgets of an org is asked anew when a transaction in the block may or may not be written."""
        try:
            yield
        except BaseException:
            self._standings.forget(org_id)
            raise

    async def take(self, rates: Sequence[Rate], weight: float = 1) -> Verdict:
        """Take from buckets that all servers of a PostgreSQL store share; from none when one of them holds less."""
        taken: list[Rate] = []
        tightest: Verdict | None = None
        for rate in rates:
            ((tokens, took),) = await self._take(rate, weight)
            verdict = Verdict(rate, tokens, 0.0 if took else wait(rate, tokens, weight))
            if not verdict.passes:
                for each in taken:
                    await self._take(each, -weight)
                return verdict
            taken.append(rate)
            tightest = verdict if tightest is None or tokens < tightest.remaining else tightest
        assert tightest is not None
        return tightest

    async def _take(self, rate: Rate, weight: float) -> list[Row]:
        parameters = (rate.key, float(rate.per_minute), float(rate.burst), float(weight))
        return await self.backend.rows(query("take_rate"), *parameters)

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

    def _beginning(self, turn: LiveTurn, expires_at: datetime, batch_id: str | None = None) -> list[Statement]:
        caller, chat, now = turn.caller, turn.chat, turn.started_at
        question = _text(question_blocks(turn.question, turn.attached))
        place = (chat.id, caller.org_id, now)
        prompt = _prompt_of(turn)
        new = _chat_row(caller, chat, now, chat.title or _title(turn.question), prompt)
        going_on = [Statement(query("use_chat"), place), Statement(query("renew_chat"), new)]
        if turn.chosen is not None:
            going_on.append(Statement(query("use_prompt"), (chat.id, caller.org_id, *prompt)))
        exposed = [] if turn.chosen is None or turn.chosen.exposure is None else [_exposure_row(turn, turn.chosen)]
        held = (expires_at, turn.worst_case_usd, turn.input_estimate, self.session.id, batch_id)
        return [
            *(going_on if chat.stored else [Statement(query("new_chat"), new)]),
            Statement(
                query("new_messages"),
                (*place, turn.question_id, turn.question, question, turn.message_id, turn.model),
            ),
            Statement(query("new_hold"), (*_call(turn), *held)),
            *(Statement(query("new_exposure"), row) for row in exposed),
        ]

    @staticmethod
    def _within(budgets: Sequence[Budget], last: LiveTurn, statements: list[Statement]) -> list[Statement]:
        """The same transaction, undone if a budget has no room for it; ``last`` is the turn that is begun last in it."""
        if not budgets:
            return statements
        caller, now = last.caller, last.started_at
        return [
            Statement(query("budget_lock"), (caller.org_id,)),
            *statements,
            *(
                Statement(query("refuse_overspent"), (*_counted(caller, budget, now), budget.limit_usd, last.id))
                for budget in budgets
            ),
        ]

    def _ending(self, turn: LiveTurn, *, timed: bool = True) -> list[Statement]:
        answer, caller, usage = turn.answer, turn.caller, turn.usage
        return [
            self._reply(
                turn.message_id,
                caller.org_id,
                answer.text,
                answer.blocks,
                turn.status,
                answer.stop_reason,
                usage.output_tokens,
            ),
            Statement(query("count_question"), (turn.question_tokens, turn.question_id, caller.org_id)),
            _usage_row(
                _call(turn),
                usage,
                status=turn.status,
                ttft_ms=turn.ttft_ms,
                duration_ms=turn.duration_ms if timed else None,
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

    @staticmethod
    def _reply(
        id: str, org_id: str, text: str, blocks: list[Block], status: str, stop_reason: str | None, tokens: int | None
    ) -> Statement:
        return Statement(query("end_message"), (id, org_id, text, _text(blocks), status, stop_reason, tokens))

    @staticmethod
    def _settled(id: str, org_id: str, state: str) -> Statement:
        return Statement(query("settle"), (state, id, org_id))

    async def _look_after(self) -> None:
        """Say that this process is alive, and record the turns of those that no longer are."""
        yesterday = datetime.now(UTC) - KEYS_KEPT
        old_keys = Statement("DELETE FROM idempotency_keys WHERE created_at < $1", (yesterday,))
        await self.backend.write([Statement(query("beat"), self.session.row()), old_keys])
        # in this order: whoever has a turn has had a session before
        with_turns = {id for (id,) in await self.backend.rows(query("open_sessions"), datetime.now(UTC))}
        sessions = [Known(*row) for row in await self.backend.rows(query("sessions"))]
        alive = {session.id for session in sessions if session.alive()}
        for id in with_turns - alive:
            await self._record_lost(id)
        await self.backend.write(
            [Statement("DELETE FROM sessions WHERE id = $1", (s.id,)) for s in sessions if s.id not in alive]
        )

    async def _record_lost(self, session_id: str) -> None:
        """Record the turns of a dead process; two survivors may both do so. What it wrote itself stands, however late."""
        for row in await self.backend.rows(query("open_holds"), session_id, datetime.now(UTC)):
            *call, tokens, held_usd, batch_id, text, encoded = row
            id, request_id, org_id, _, chat_id, message_id, _, model, started_at, *_ = call
            blocks = msgspec.json.decode(encoded)
            said = estimate_tokens(_characters(blocks))
            if held_usd != 0:  # somebody charges
                held_usd = held_usd and held_usd * (2 if batch_id else 1)  # as if it were charged in full
                most = longest_reply(model, tokens, held_usd, started_at)
                said = min(said + UNSAVED_TOKENS, said + UNSAVED_TOKENS if most is None else most)
            tier = "batch" if batch_id else None
            usage = Usage(uncached_input_tokens=tokens, output_tokens=said, service_tier=tier, estimated=True)
            cost, price_source = cost_and_source(model, usage, started_at)
            await self.backend.write(
                [
                    self._reply(message_id, org_id, text, blocks, "lost", None, usage.output_tokens),
                    _usage_row(
                        call,
                        usage,
                        status="lost",
                        error_type="process_died",
                        cost_usd=cost,
                        price_source=price_source,
                    ),
                    self._settled(id, org_id, "lost"),
                ]
            )
            log.warning("Turn of a dead process recorded as lost", extra={"requestId": request_id, "chatId": chat_id})


def _characters(blocks: list[Block]) -> int:
    """Of all that was generated: text, thinking and the arguments of tool calls, whole or so far."""
    pieces = [block.get(key) for block in blocks for key in ("text", "thinking", "partial_json", "input")]
    return sum(len(piece if isinstance(piece, str) else _json.encode(piece)) for piece in pieces if piece)


def _counted(caller: Caller, budget: Budget, now: datetime) -> tuple[Any, ...]:
    """What counts against a budget: the first parameters of ``spent.sql`` and ``refuse_overspent.sql``."""
    user = caller.user_id if budget.scope == "user" else None
    key = caller.key_id if budget.scope == "key" else None
    return caller.org_id, user, key, begun(budget.period, now), now


def _title(question: str) -> str:
    line = " ".join(question.split())
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1] + "…"


def _prompt(name: str, version: int, label: str | None, variables: str, *asks_for: str | None) -> ChatPrompt:
    model, effort = asks_for
    values = msgspec.json.decode(variables)
    return ChatPrompt(name=name, version=version, label=label, variables=values, model=model, effort=effort)


def _prompt_of(of: ChatInfo | LiveTurn) -> tuple[Any, ...]:
    """The system prompt, and where it comes from: the last parameters of ``use_prompt.sql``."""
    prompt, exposure = of.prompt, of.exposure
    return (
        of.system,
        *((None,) * 4 if prompt is None else (prompt.name, prompt.version, prompt.label, _text(prompt.variables))),
        *((None,) * 2 if exposure is None else (exposure.experiment, exposure.variant)),
    )


def _chat_row(
    caller: Caller, chat: ChatInfo, now: datetime | None, title: str, prompt: tuple[Any, ...]
) -> tuple[Any, ...]:
    system, *named = prompt
    return (
        chat.id,
        caller.org_id,
        caller.user_id,
        title,
        system,
        chat.model,
        chat.max_tokens,
        chat.forked_from,
        now,
        *named,
    )


def _exposure_row(turn: LiveTurn, chosen: Chosen) -> tuple[Any, ...]:
    """With the id of the turn, so that it is one row however often the turn is begun."""
    caller, exposure = turn.caller, chosen.exposure
    assert exposure is not None
    what = (exposure.experiment, exposure.variant, chosen.prompt.version, exposure.unit_id)
    return (turn.id, caller.org_id, *what, turn.chat.id, caller.user_id, turn.started_at)


def _call(turn: LiveTurn) -> tuple[Any, ...]:
    """Which call it is: the columns with which a hold and its usage row both begin."""
    caller, prompt, exposure = turn.caller, turn.prompt, turn.exposure
    return (
        turn.id,
        turn.request_id,
        caller.org_id,
        caller.user_id,
        turn.chat.id,
        turn.message_id,
        caller.source,
        turn.model,
        turn.started_at,
        caller.key_id,
        *((None, None) if prompt is None else (prompt.name, prompt.version)),
        *((None, None) if exposure is None else (exposure.experiment, exposure.variant)),
    )


def _usage_row(
    call: Sequence[Any],
    usage: Usage,
    *,
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
            *call,
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
