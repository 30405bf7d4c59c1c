"""`GET /chats`, `GET /chats/{id}` and `DELETE /chats/{id}`: the caller's own chats."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from server import shapes
from server.auth import ID_PATTERN, Identified
from server.service import Shared
from workbench.prompts import feedback
from workbench.prompts.feedback import Feedback
from workbench.turns import NOT_TEXT, Message, Usage
from workbench.wording import exact, instant

router = APIRouter(tags=["chats"])

MOST_CHATS = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE = re.compile(r"(\d{1,16})\.([A-Za-z0-9._:-]{1,64})", re.ASCII)

ChatId = Annotated[
    str, Path(pattern=ID_PATTERN, description="the chat", examples=["019ac8f0-5c1e-7d64-9a51-2f6b0c9e4d10"])
]


class ChatsQuery(BaseModel):
    """Which chats."""

    model_config = ConfigDict(extra="forbid")  # a mistyped `before` would begin from the first again

    limit: int = Field(50, ge=1, le=MOST_CHATS, description="how many at most")
    before: str | None = Field(
        None,
        description="`next` of the answer before: go on after its last chat",
        examples=["1795861800123456.019ac8f0-5c1e-7d64-9a51-2f6b0c9e4d10"],
    )
    search: str = Field(
        "", max_length=200, description="only chats with this in their title or a message, in upper or lower case"
    )

    @field_validator("before")
    @classmethod
    def _a_place(cls, value: str | None) -> str | None:
        if value is not None and not _PLACE.fullmatch(value):
            raise ValueError("this is no place in the list; send `next` of the answer before, as it is")
        return value

    @field_validator("search")
    @classmethod
    def _text(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError(f"the text {NOT_TEXT}")
        return value

    @property
    def place(self) -> tuple[datetime, str] | None:
        """When the chat was used after which to go on, and its id."""
        found = _PLACE.fullmatch(self.before or "")
        return (_EPOCH + timedelta(microseconds=int(found[1])), found[2]) if found else None


def _place_of(row: dict[str, Any]) -> str:
    # whole microseconds, as the store keeps them: with less, chats used in the same millisecond would be left out
    return f"{(row['updated_at'] - _EPOCH) // timedelta(microseconds=1)}.{row['chat_id']}"


_CHAT: dict[str, Any] = {
    "chat_id": "019ac8f0-5c1e-7d64-9a51-2f6b0c9e4d10",
    "title": "What is 2+2?",
    "created_at": "2026-11-23T10:30:00.000Z",
}
_QUESTION: dict[str, Any] = {
    "message_id": "019ac8f0-5c20-7d64-9a51-2f6b0c9e4d11",
    "seq": 1,
    "role": "user",
    "content": "What is 2+2?",
    "status": "complete",
    "token_count": 14,
    "created_at": "2026-11-23T10:30:00.000Z",
    "model": None,
    "stop_reason": None,
    "usage": None,
    "cost_usd": None,
    "duration_ms": None,
}
_REPLY = _QUESTION | {
    "message_id": "019ac8f0-5c20-7d64-9a51-2f6b0c9e4d12",
    "seq": 2,
    "role": "assistant",
    "content": "2 + 2 equals 4.",
    "token_count": 12,
    "model": "claude-sonnet-5-5",
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 14,
        "output_tokens": 12,
        "total_tokens": 26,
        "uncached_input_tokens": 14,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
    },
    "cost_usd": "0.000148",
    "duration_ms": 812,
    "feedback": {"score": 1, "comment": None},
}
_EXAMPLE_PAGE = {
    "chats": [
        _CHAT
        | {
            "updated_at": "2026-11-23T10:30:00.000Z",
            "turns": 1,
            "total_tokens": 26,
            "cost_usd": "0.000148",
            "models": ["claude-sonnet-5-5"],
            "forked_from": None,
            "prompt": None,
        }
    ],
    "next": None,
}
_EXAMPLE_CHAT = _CHAT | {
    "system": None,
    "model": None,
    "forked_from": None,
    "prompt": None,
    "variables": {},
    "cost_usd": "0.000148",
    "messages": [_QUESTION, _REPLY],
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: shapes.problem("no such chat, or it belongs to somebody else")}


@router.get(
    "/chats",
    summary="The chats there are",
    response_class=Response,
    responses=shapes.answer("the chats, the one used last first", shapes.ChatPage, _EXAMPLE_PAGE) | shapes.PROBLEMS,
)
async def chats(asked: Annotated[ChatsQuery, Query()], caller: Identified, service: Shared) -> Response:
    """List the caller's own chats. Page by page each comes once; one that is asked in meanwhile is on the first page."""
    async with service.tables:
        table = await service.engine.store.chats(caller, asked.search, asked.limit + 1, asked.place)
    rows = table.to_pylist()
    shown = rows[: asked.limit]
    next = _place_of(shown[-1]) if len(rows) > len(shown) else None
    return shapes.response(shapes.ChatPage(chats=[_summary(row) for row in shown], next=next))


@router.get(
    "/chats/{chat_id}",
    summary="One chat, with its messages",
    response_class=Response,
    responses=shapes.answer("the chat, with all its messages", shapes.ChatWithMessages, _EXAMPLE_CHAT)
    | _NOT_FOUND
    | shapes.PROBLEMS,
)
async def chat(chat_id: ChatId, caller: Identified, service: Shared) -> Response:
    """Read a chat of the caller; what is being answered right now is there as far as it was saved."""
    store = service.engine.store
    async with service.tables:
        info = await store.chat(caller, chat_id)
        messages = await store.messages(caller, chat_id)
        used = {row["message_id"]: row for row in (await store.chat_usage(caller, chat_id)).to_pylist()}
        cost = await store.chat_cost(caller, chat_id)
        rated = await feedback.given(store.backend, caller, chat_id)
    return shapes.response(
        shapes.ChatWithMessages(
            chat_id=info.id,
            title=info.title,
            system=info.system,
            model=info.model,
            created_at=instant(info.created_at or _EPOCH),
            forked_from=info.forked_from,
            prompt=None if info.prompt is None else str(info.prompt),
            variables={} if info.prompt is None else dict(info.prompt.variables),
            cost_usd=exact(cost),
            messages=[_message(message, used.get(message.id), rated.get(message.id)) for message in messages],
        )
    )


@router.delete(
    "/chats/{chat_id}",
    summary="Delete a chat",
    status_code=204,
    response_class=Response,
    responses={
        204: {"description": "it is gone"},
        409: shapes.problem("a turn of it is running and has to be billed; stop it, or wait"),
    }
    | _NOT_FOUND
    | shapes.PROBLEMS,
)
async def delete(chat_id: ChatId, caller: Identified, service: Shared) -> None:
    """Delete a chat of the caller with its messages. What it cost stays in the ledger, and chats forked from it stay."""
    await service.engine.store.delete_chat(caller, chat_id)


def _summary(row: dict[str, Any]) -> shapes.ChatSummary:
    return shapes.ChatSummary(
        chat_id=row["chat_id"],
        title=row["title"],
        created_at=instant(row["created_at"]),
        updated_at=instant(row["updated_at"]),
        turns=row["turns"],
        total_tokens=row["total_tokens"],
        cost_usd=exact(row["cost_usd"]),
        models=row["models"].split(", ") if row["models"] else [],
        forked_from=row["forked_from"],
        prompt=row["prompt"],
    )


def _message(message: Message, used: dict[str, Any] | None, rated: Feedback | None) -> shapes.ChatMessage:
    return shapes.ChatMessage(
        message_id=message.id,
        seq=message.seq,
        role=message.role,
        content=message.content,
        status=message.status,
        token_count=message.token_count,
        created_at=instant(message.created_at),
        model=message.model,
        stop_reason=message.stop_reason,
        usage=None if used is None else shapes.usage(_counts(used)),
        cost_usd=None if used is None else exact(used["cost_usd"]),
        duration_ms=None if used is None else used["duration_ms"],
        feedback=None if rated is None else shapes.Feedback(score=rated.score, comment=rated.comment),
    )


def _counts(used: dict[str, Any]) -> Usage:
    names = ("uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    return Usage(**{name: used[name] for name in (*names, "output_tokens")})
