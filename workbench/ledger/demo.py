"""Ninety days of usage that nobody had: for trying the ledger out, and for its tests.

Made by rule and chance, the same every time. What people would ask and a model answer is only told by its length; prices,
prompt caching and the trimming of histories are real. Everything says that it is synthetic: the org, its users, the
titles of its chats and every message.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from workbench.errors import InvalidRequest
from workbench.history import first_sent
from workbench.pricing import cost_and_source
from workbench.prompts.text import digest
from workbench.runtime import runtime
from workbench.turns import Usage
from workbench.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from workbench.store.backend import Backend

    Rows = dict[str, list[dict[str, Any]]]

DEMO_ORG = "synthetic-demo"
DAYS = 90
EARLIEST = date(2000, 1, 1)
"""Ids begin with the time, and none is before 1970."""
EXPERIMENT_DAYS = range(40, 80)
"""Counted from the first day: a prompt is tried in two versions."""
PROMPT, TRIED, BY = "support", "tone", "synthetic-ana"
"""The prompt, the experiment on it, and who looks after both."""
BUDGET_USD = Decimal(60)
"""Of the org, a month."""
LIMIT = 20
SHORTEST_CACHED, CACHE_LASTS = 1024, timedelta(minutes=5)
SEED = 20261120
AT_ONCE = 5000
"""Chats or messages written in one transaction."""


@dataclass(frozen=True, slots=True)
class Habit:
    """How one of the users chats."""

    user: str
    source: str
    models: tuple[str, ...]
    chats: float
    """On a usual working day."""
    turns: float
    system: int
    question: float
    reply: float


HABITS = (
    Habit("synthetic-ana", "widget", ("claude-sonnet-5-5",) * 4 + ("claude-opus-5-5",), 5, 9, 1300, 420, 330),
    Habit("synthetic-ben", "ask", ("claude-sonnet-5-5", "claude-opus-5-5"), 2.5, 14, 2100, 650, 480),
    Habit("synthetic-chen", "magic", ("claude-haiku-5-5", "claude-sonnet-5-5"), 6, 4, 700, 260, 240),
    Habit("synthetic-support", "server", ("claude-haiku-5-5",) * 2 + ("claude-sonnet-5-5",), 9, 5, 1800, 110, 190),
)
SPEED = {"claude-haiku-5-5": (320, 160), "claude-sonnet-5-5": (620, 85), "claude-opus-5-5": (1100, 55)}
"""Milliseconds to the first token, and tokens a second after it."""
TOPICS = (
    "weekly revenue",
    "churn by cohort",
    "a slow query",
    "late deliveries",
    "the survey",
    "an invoice",
    "stock levels",
)


def demo_data(until: str | date | None = None, *, again: bool = False) -> str:
    """Write 90 days of synthetic usage into the store, and return the id of the org it belongs to.

    Args:
        until: The day after the last one; today in UTC if not given. Prices are those of each day.
        again: Write it anew where it is there already, for other days or not; else what is there stays.

    Returns:
        The org's id, ``synthetic-demo``, for the ``org`` of every function of the ledger. Nothing of any other org
        is touched.

    Raises:
        InvalidRequest: ``until`` is no day.

    Example::

        org = wb.demo_data()
        wb.usage(by="month", org=org)
    """
    return runtime().run(write(runtime().engine.store.backend, day_of(until), again=again))


def day_of(until: str | date | None) -> date:
    """Return the day that is meant, today if none is."""
    if until is None:
        return datetime.now(UTC).date()
    try:
        day = date.fromisoformat(until) if isinstance(until, str) else date(until.year, until.month, until.day)
    except (AttributeError, TypeError, ValueError):
        day = date.min
    if day < EARLIEST:
        raise InvalidRequest(f"{until!r} is no day from {EARLIEST} on; write it like 2026-11-20")
    return day


async def write(
    backend: Backend,
    until: date,
    *,
    again: bool = False,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> str:
    """Write the synthetic usage of the days before ``until``; see :func:`demo_data`."""
    from workbench.store import bulk, erase

    if await backend.rows("SELECT id FROM orgs WHERE id = $1", DEMO_ORG):
        ((calls,),) = await backend.rows("SELECT COUNT(*) FROM usage WHERE org_id = $1", DEMO_ORG)
        if calls and not again:
            return DEMO_ORG
        await erase.erase_org(backend, DEMO_ORG, lambda removed: None)
    rows = generate(until)
    # usage last, and all of it at once: where some is, everything is there
    for name in sorted(rows, key="usage".__eq__):
        total = len(rows[name])
        step = total if name == "usage" else AT_ONCE
        for first in range(0, total, step):
            await bulk.add(backend, {name: rows[name][first : first + step]})
            progress(name, min(first + step, total), total)
    return DEMO_ORG


def write_parquet(path: Path, until: date) -> int:
    """Write the synthetic calls to a Parquet file, and return how many there are.

    Columns as in the table ``usage``; times are UTC, costs DECIMAL(18, 9).
    """
    import pyarrow as pa
    from pyarrow import parquet

    calls = generate(until)["usage"]
    types = {"cost_usd": pa.decimal128(18, 9), "prompt_version": pa.int32(), "ttft_ms": pa.int32()}
    columns = {name: pa.array([call[name] for call in calls], types.get(name)) for name in calls[0]}
    table = pa.table(columns).replace_schema_metadata({"source": "synthetic; made by workbench demo-data"})
    parquet.write_table(table, path, compression="zstd", compression_level=19)
    return len(calls)


def generate(until: date, seed: int = SEED) -> Rows:
    """Return the rows of each table; the same for the same arguments."""
    return _Generator(until, Random(seed)).rows()


@dataclass(slots=True)
class _Chat:
    """A chat while it is made up."""

    id: str
    habit: Habit
    model: str
    system: int
    messages: int = 0
    sizes: list[int] = field(default_factory=list)
    """Tokens of those that are sent again."""
    prompt: tuple[str, int] | None = None
    variant: str | None = None
    cached: int = 0
    """Tokens that the next call can read from the prompt cache, if it comes in time."""
    cached_from: int = 0
    """The first message of the history they begin with."""
    ended: datetime | None = None


class _Generator:
    """Draws one day after the other."""

    def __init__(self, until: date, random: Random) -> None:
        self._begin = until - timedelta(days=DAYS)
        # the Wednesday two weeks ago, or up to six days before it
        self._spike = DAYS - 14 - (until.weekday() - 2) % 7
        self._random = random
        self._rows: Rows = defaultdict(list)

    def rows(self) -> Rows:
        begun = self._at(0)
        self._rows["orgs"] = [
            {"id": DEMO_ORG, "created_at": begun, "budget_usd": BUDGET_USD, "budget_period": "month"},
        ]
        users = sorted({habit.user for habit in HABITS})
        self._rows["users"] = [{"org_id": DEMO_ORG, "id": user, "created_at": begun} for user in users]
        for day in range(DAYS):
            self._day(day)
        drawn = {name: sorted(rows, key=_in_order) for name, rows in self._rows.items()}
        return drawn | self._experiment(drawn["chats"])

    def _day(self, day: int) -> None:
        today = self._begin + timedelta(days=day)
        week = (1.0, 1.1, 1.05, 1.0, 0.75, 0.12, 0.08)[today.weekday()]
        busy = week * (1 + day / 150) * self._about(1, 0.15)
        for habit in HABITS:
            steady = habit.source == "server"  # customers write at weekends too
            for _ in range(self._count(habit.chats * (max(busy, 0.5) if steady else busy))):
                self._chat(
                    day,
                    datetime.combine(today, time(8), UTC) + timedelta(seconds=self._random.random() * 36_000),
                    habit,
                )
        if day == self._spike:
            self._map(datetime.combine(today, time(13, 40), UTC))

    def _chat(self, day: int, at: datetime, habit: Habit) -> None:
        model = self._random.choice(habit.models)
        chat = _Chat(self._id(at), habit, model, habit.system)
        if habit.source == "server" and day in EXPERIMENT_DAYS:
            version = 4 if self._random.random() < 0.5 else 3
            chat.prompt, chat.variant = (PROMPT, version), f"v{version}"
            chat.system += 160 if version == 4 else 0
        begun = at
        for _ in range(1 + self._count(habit.turns - 1)):
            at = self._turn(chat, at)
            pause = self._about(75, 0.9) if self._random.random() < 0.88 else self._about(1100, 0.8)
            at += timedelta(seconds=pause)
        self._rows["chats"].append(
            {
                "id": chat.id,
                "org_id": DEMO_ORG,
                "user_id": habit.user,
                "title": f"Synthetic: {self._random.choice(TOPICS)}",
                "system": f"(synthetic system prompt of {chat.system} tokens)",
                "model": model,
                "prompt_name": chat.prompt[0] if chat.prompt else None,
                "prompt_version": chat.prompt[1] if chat.prompt else None,
                "created_at": begun,
                "updated_at": chat.ended or begun,
            }
        )

    def _experiment(self, chats: Sequence[Mapping[str, Any]]) -> Rows:
        """The prompt with its versions, and the experiment between two of them."""
        of, saved = {"org_id": DEMO_ORG, "name": PROMPT}, self._at(0)
        begun, ended = self._at(EXPERIMENT_DAYS.start), self._at(EXPERIMENT_DAYS.stop)
        texts = {n: f"(synthetic system prompt, version {n})" for n in range(1, 5)}
        version = {"author": BY, "created_at": saved}
        move = {"label": "production", "version": 3, "moved_at": saved, "moved_by": BY, "move": 1}
        tried = {
            "arms": '{"v3": 0.5, "v4": 0.5}', "outcome": "output_tokens", "unit": "chat", "coverage": 1.0, "guard": "{}",
            "salt": TRIED, "label": "production", "started_at": begun, "started_by": BY, "stopped_at": ended,
            "stopped_by": BY, "stop_reason": "its forty days were over",
        }  # fmt: skip
        return {
            "prompts": [of | {"created_at": saved}],
            "prompt_versions": [
                of | version | {"version": n, "text": text, "sha256": digest(text, None, None)}
                for n, text in texts.items()
            ],
            "prompt_labels": [of | move | {"id": f"{DEMO_ORG}-{PROMPT}-1"}],
            "experiments": [{"org_id": DEMO_ORG, "name": TRIED, "prompt_name": PROMPT} | tried],
            "exposures": [
                {
                    "id": chat["id"], "chat_id": chat["id"], "unit_id": chat["id"], "org_id": DEMO_ORG,
                    "user_id": chat["user_id"], "experiment": TRIED, "variant": f"v{chat['prompt_version']}",
                    "version": chat["prompt_version"], "exposed_at": chat["created_at"],
                }
                for chat in chats
                if chat["prompt_version"]
            ],
        }  # fmt: skip

    def _at(self, day: int) -> datetime:
        """When a day of the ninety begins."""
        return datetime.combine(self._begin + timedelta(days=day), time(), UTC)

    def _turn(self, chat: _Chat, at: datetime) -> datetime:
        """Add a question and its reply; return when it had ended."""
        habit, first = chat.habit, first_sent(len(chat.sizes) + 1, LIMIT)
        size = round(self._about(habit.question, 0.7)) + (3000 if self._random.random() < 0.05 else 0)
        question = size + (0 if chat.sizes else chat.system)  # counted with the first one
        kept = sum(chat.sizes[first:]) + (chat.system if first else 0)
        prompt = kept + question
        fails = self._random.random() < 0.006
        reply = 0 if fails else max(5, round(self._about(habit.reply * (0.72 if chat.variant == "v4" else 1), 0.6)))
        in_time = chat.ended is not None and at - chat.ended < CACHE_LASTS
        read = chat.cached if in_time and chat.cached_from == first else 0
        written = prompt - read if prompt >= SHORTEST_CACHED else 0
        usage = Usage(
            uncached_input_tokens=prompt - read - written,
            cache_read_tokens=read,
            cache_write_5m_tokens=written,
            output_tokens=reply,
        )
        wait, speed = SPEED[chat.model]
        ttft = round(self._about(wait * (1 + (prompt - read) / 30_000), 0.35))
        duration = ttft + round(1000 * reply / speed)
        interrupted = not fails and self._random.random() < 0.02
        status = "failed" if fails else "interrupted" if interrupted else "complete"
        if fails:
            usage, ttft = Usage(), 0
        message = self._messages(chat, at, question, reply, status)
        self._call(
            chat.habit,
            chat.model,
            at,
            usage,
            status,
            chat_id=chat.id,
            message_id=message,
            prompt=chat.prompt,
            variant=chat.variant,
            ttft_ms=ttft or None,
            duration_ms=duration,
            history_messages=len(chat.sizes) - first,
            left_out_messages=first,
        )
        chat.ended = at + timedelta(milliseconds=duration)
        if not fails:
            chat.sizes += (question, reply)
            chat.cached, chat.cached_from = read + written, first
        return chat.ended

    def _messages(self, chat: _Chat, at: datetime, question: int, reply: int, status: str) -> str:
        """Add both messages of a turn; return the id of the reply."""
        ids = self._id(at), self._id(at)
        for id, role, tokens, state in (
            (ids[0], "user", question, "complete"),
            (ids[1], "assistant", reply, status),
        ):
            chat.messages += 1
            text = f"(synthetic {'question' if role == 'user' else 'reply'} of {tokens} tokens)" if tokens else ""
            self._rows["messages"].append(
                {
                    "id": id,
                    "chat_id": chat.id,
                    "org_id": DEMO_ORG,
                    "seq": chat.messages,
                    "role": role,
                    "content": text,
                    "blocks": f'[{{"type":"text","text":"{text}"}}]' if text else "[]",
                    "token_count": tokens,
                    "status": state,
                    "model": chat.model if role == "assistant" else None,
                    "created_at": at,
                }
            )
        return ids[1]

    def _map(self, at: datetime) -> None:
        """One careless afternoon: a table classified row by row with the dearest model, every row a prompt of its own."""
        habit = Habit("synthetic-ben", "map", ("claude-opus-5-5",), 0, 1, 0, 0, 0)
        for _ in range(420):
            usage = Usage(
                uncached_input_tokens=round(self._about(3600, 0.2)), output_tokens=round(self._about(330, 0.4))
            )
            ttft = round(self._about(1200, 0.3))
            duration = ttft + usage.output_tokens * 18
            self._call(habit, "claude-opus-5-5", at, usage, "complete", ttft_ms=ttft, duration_ms=duration)
            at += timedelta(milliseconds=duration / 4)

    def _call(
        self,
        habit: Habit,
        model: str,
        at: datetime,
        usage: Usage,
        status: str,
        *,
        prompt: tuple[str, int] | None = None,
        variant: str | None = None,
        **columns: Any,
    ) -> None:
        cost, source = cost_and_source(model, usage, at)
        name, version = prompt or (None, None)
        row = {
            "id": self._id(at),
            "request_id": f"synthetic-{len(self._rows['usage']) + 1}",
            "org_id": DEMO_ORG,
            "user_id": habit.user,
            "chat_id": None,
            "message_id": None,
            "source": habit.source,
            "model": model,
            "prompt_name": name,
            "prompt_version": version,
            "experiment": TRIED if variant else None,
            "variant": variant,
            "started_at": at,
            "ttft_ms": None,
            "duration_ms": None,
            "input_tokens": usage.input_tokens,
            "uncached_input_tokens": usage.uncached_input_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "cache_write_5m_tokens": usage.cache_write_5m_tokens,
            "cache_write_1h_tokens": 0,
            "output_tokens": usage.output_tokens,
            "thinking_tokens": 0,
            "web_searches": 0,
            "service_tier": "standard",
            "stop_reason": "end_turn" if status == "complete" else None,
            "status": status,
            "error_type": "upstream_overloaded" if status == "failed" else None,
            "usage_estimated": False,
            "cost_usd": cost if cost is None else plain(cost),
            "price_source": source,
            "history_messages": None,
            "left_out_messages": None,
        }
        self._rows["usage"].append(row | columns)

    def _about(self, middle: float, spread: float) -> float:
        """Draw a number of which ``middle`` is the median, and ``spread`` the deviation of its logarithm."""
        return middle * math.exp(spread * self._random.gauss(0, 1))

    def _count(self, mean: float) -> int:
        """Draw how often something happens that happens by itself (Poisson)."""
        count, left = 0, math.exp(-max(mean, 0))
        draw = self._random.random()
        while draw > left and count < 200:
            draw *= self._random.random()
            count += 1
        return count

    def _id(self, at: datetime) -> str:
        """A UUIDv7 of that time."""
        high = int(at.timestamp() * 1000) << 16 | 0x7000 | self._random.getrandbits(12)
        return str(UUID(int=high << 64 | 0x8000_0000_0000_0000 | self._random.getrandbits(62)))


def _in_order(row: dict[str, Any]) -> tuple[Any, ...]:
    return row.get("started_at") or row["created_at"], row.get("seq", 0), row["id"]
