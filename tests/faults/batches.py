"""The Message Batches API as anthropic 2.12 has it (``resources/messages/batches.py``, ``types/messages/message_batch*``)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from .checks import Refused
from .connection import Request
from .frames import Json, Usage, compact

if TYPE_CHECKING:
    from collections.abc import Callable

    from .replies import Reply

BATCHES = "/v1/messages/batches"
CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
KINDS = ("processing", "succeeded", "errored", "canceled", "expired")

Outcome = Literal["canceled", "expired"]


@dataclass
class ScriptedBatch:
    """One batch: what was asked, and how far it is."""

    id: str
    requests: list[Json]
    headers: dict[str, str]
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    looks: int = 0  # how often somebody looked
    status: str = "in_progress"
    canceled_at: datetime | None = None
    ended_at: datetime | None = None
    lines: list[bytes] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def told(self) -> Json:
        ended = self.status == "ended"
        counts = self.counts if ended else {"processing": len(self.requests)}
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self.status,
            "request_counts": {kind: counts.get(kind, 0) for kind in KINDS},
            "ended_at": _instant(self.ended_at),
            "created_at": _instant(self.created_at),
            "expires_at": _instant(self.created_at + timedelta(hours=24)),
            "archived_at": None,
            "cancel_initiated_at": _instant(self.canceled_at),
            "results_url": f"http://{self.headers['host']}{BATCHES}/{self.id}/results" if ended else None,
        }


class Batches:
    """All batches of an upstream. Each ends at the look of that number, or, with None, when ``end`` is called."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self._answer = answer
        self.clear()

    def clear(self) -> None:
        self.there = True  # False: like llama.cpp, which has no batches
        self.all: list[ScriptedBatch] = []
        self.ends_at_look: int | None = 2
        self.outcome: Callable[[Request], Outcome | None] = lambda request: None  # None: as asked by itself
        self.edit: Callable[[list[bytes]], list[bytes]] = lambda lines: lines  # of the results
        self.lost_answers = 0  # so many batches are created without anybody being told

    @property
    def prompts(self) -> list[str]:
        """What was asked in all batches."""
        return [_asked(batch, each).prompt for batch in self.all for each in batch.requests]

    def serve(self, request: Request) -> tuple[bytes, str]:
        """Return the body of the answer and its type."""
        id, _, what = request.path.removeprefix(BATCHES).removeprefix("/").partition("/")
        if request.method == "POST" and not id:
            return _json(self._create(request))
        if request.method == "GET" and not id:
            return _json(self._page(request.query))
        batch = next((batch for batch in self.all if batch.id == id), None)
        if batch is None:
            raise Refused(f"Message batch {id} not found", 404, "not_found_error")
        if request.method == "POST" and what == "cancel":
            return _json(self._cancel(batch))
        if request.method == "GET" and not what:
            batch.looks += 1
            if batch.looks == self.ends_at_look:
                self.end(batch)
            return _json(batch.told)
        if request.method == "GET" and what == "results":
            if batch.status != "ended":
                raise Refused(f"Batch {id} has no results available", 404, "not_found_error")
            return b"".join(line + b"\n" for line in self.edit(batch.lines)), "application/x-jsonl"
        raise Refused("Not found", 404, "not_found_error")

    def _page(self, query: dict[str, str]) -> Json:
        """The newest first."""
        newest = [batch.told for batch in reversed(self.all)]
        after = next((n for n, each in enumerate(newest, 1) if each["id"] == query.get("after_id")), 0)
        limit = int(query.get("limit", 20))
        page = newest[after : after + limit]
        ids = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return {"data": page, "has_more": len(newest) > after + limit} | ids

    def _create(self, request: Request) -> Json:
        asked = request.body.get("requests") if isinstance(request.body, dict) else None
        if not isinstance(asked, list) or not asked:
            raise Refused("requests: List should have at least 1 item after validation, not 0")
        if len(asked) > 100_000:
            raise Refused("requests: List should have at most 100000 items after validation")
        seen: set[str] = set()
        for n, each in enumerate(asked):
            if set(each) != {"custom_id", "params"} or not CUSTOM_ID.fullmatch(each["custom_id"]):
                raise Refused(f"requests.{n}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
            if each["custom_id"] in seen:
                raise Refused(f"requests.{n}.custom_id: Duplicate custom_id {each['custom_id']}")
            seen.add(each["custom_id"])
        batch = ScriptedBatch(f"msgbatch_{len(self.all) + 1:08d}", asked, request.headers)
        self.all.append(batch)
        return batch.told

    def _cancel(self, batch: ScriptedBatch) -> Json:
        if batch.status == "ended":
            raise Refused("Batch has already ended", 400)
        batch.status, batch.canceled_at = "canceling", datetime.now(UTC)
        return batch.told

    def end(self, batch: ScriptedBatch) -> None:
        """End a batch: its questions are answered now, last one first; those of a canceled one are not."""
        if batch.status == "ended":
            return
        for each in reversed(batch.requests):
            result = {"type": "canceled"} if batch.status == "canceling" else self._result(batch, each)
            batch.counts[result["type"]] = batch.counts.get(result["type"], 0) + 1
            batch.lines.append(compact({"custom_id": each["custom_id"], "result": result}).encode())
        batch.status, batch.ended_at = "ended", datetime.now(UTC)

    def _result(self, batch: ScriptedBatch, each: Json) -> Json:
        request = _asked(batch, each)
        outcome = self.outcome(request)
        if outcome is not None:
            return {"type": outcome}
        try:
            reply = self._answer(request)
        except Refused as refused:
            return _errored(refused.answer.body)
        if reply.answer is not None:
            return _errored(reply.answer.body)
        usage = replace(request.usage or Usage(), service_tier="batch")
        return {"type": "succeeded", "message": reply.message(f"msg_{batch.id}", each["params"]["model"], usage)}


def _asked(batch: ScriptedBatch, each: Json) -> Request:
    return Request("POST", "/v1/messages", batch.headers, b"", body=each["params"])


def _errored(body: bytes) -> Json:
    return {"type": "errored", "error": json.loads(body)}


def _json(value: Json) -> tuple[bytes, str]:
    return compact(value).encode(), "application/json"


def _instant(at: datetime | None) -> Any:
    return at and at.isoformat().replace("+00:00", "Z")
