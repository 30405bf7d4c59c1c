"""`POST /chat` and `POST /chat/stream`: one turn, in one piece or as it comes."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Self

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from server import idempotency, shapes
from server.auth import ID_PATTERN, Identified
from server.routes.fields import NO_NUL, NOT_BLANK, whole
from server.service import Service, Shared
from server.stream import StreamedReply, TurnResponse, WholeReply, replayed
from workbench.prompts.choosing import asked_again
from workbench.turns import Caller, ChatInfo, PromptWanted, Reply

router = APIRouter(tags=["chat"])


REFERENCE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(@[A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$"
Value = Annotated[str, Field(json_schema_extra={"pattern": NO_NUL})]
Whole = Annotated[int, Field(ge=1), BeforeValidator(whole)]


class ChatRequest(BaseModel):
    """A message, and the chat it belongs to."""

    # what clients of the predecessor send besides is ignored; "5" is no number
    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        json_schema_extra={
            "examples": [
                {"message": "What is 2+2?"},
                {"message": "Why?", "chat_id": "…", "max_tokens": 64},
                {"message": "It is broken.", "prompt": "support@production", "variables": {"customer": "Ada"}},
            ],
            "dependentRequired": {"variables": ["prompt"]},
        },
    )

    message: str = Field(description="what to ask", json_schema_extra={"pattern": NOT_BLANK})
    chat_id: str | None = Field(
        None, pattern=ID_PATTERN, description="the chat to go on with; without it a new one begins"
    )
    model: str | None = Field(
        None, pattern=r"^[!-~]{1,200}$", description="who answers this turn; `local` is the embedded model"
    )
    max_tokens: Whole | None = Field(None, description="less than the server's bound; never more is given")
    prompt: str | None = Field(
        None,
        pattern=REFERENCE_PATTERN,
        description="a named prompt of the org: `support` (what its label production points at), `support@staging`, "
        "`support@3` or `support@latest`; found out when the chat begins, and kept. A chat that goes on changes its prompt "
        "when another one, another label or another version is named",
        examples=["support@production"],
    )
    variables: dict[str, Value] | None = Field(
        None, description="what to put in for the prompt's variables", examples=[{"customer": "Ada"}]
    )

    @model_validator(mode="after")
    def _for_a_prompt(self) -> Self:
        if self.variables is not None and self.prompt is None:
            raise ValueError("variables are for a prompt; name the prompt too")
        return self

    @property
    def wanted(self) -> PromptWanted | None:
        """The prompt asked for."""
        return None if self.prompt is None else PromptWanted(self.prompt, self.variables)


_RATE_HEADERS = {
    "retry-after": "seconds",
    "x-ratelimit-limit": "how many requests may come at once",
    "x-ratelimit-remaining": "how many of them are left",
    "x-ratelimit-reset": "seconds until all of them are",
}
_KEY = {
    "name": "idempotency-key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "sent again with the same body within a day, a request that was answered has the same answer again, unless its chat was deleted",
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: shapes.problem(
        "the message is empty or no text, the body is no JSON, the model is retired, the variables do not fit the prompt, "
        "or a header is wrong"
    ),
    402: shapes.problem("the budget of the org, the user or the key has no room for even a short reply"),
    403: shapes.problem("the request comes from a page of another origin"),
    404: shapes.problem("no such chat, or it belongs to somebody else; no such prompt, label or version"),
    408: shapes.problem("the rest of the body did not come"),
    409: shapes.problem("the request with the same `Idempotency-Key` is being answered"),
    413: shapes.problem("the body is larger than 1 MiB"),
    415: shapes.problem("the body is not `application/json`"),
    422: shapes.problem("a field does not fit, or the `Idempotency-Key` was used for another request"),
    429: shapes.problem("the rate limit of the org or the user is used up; Claude was not called")
    | {"headers": {name: {"description": text, "schema": {"type": "integer"}} for name, text in _RATE_HEADERS.items()}},
    502: shapes.problem("the upstream failed, or refused our key or the request"),
    503: shapes.problem(
        "no key is configured; the upstream is overloaded or its rate limit exceeded; the store fails or its disk is full"
    )
    | {"headers": {"retry-after": {"description": "seconds, when they are known", "schema": {"type": "integer"}}}},
    504: shapes.problem("the upstream did not answer in time"),
}
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "anyOf": [
                    shapes.REFERENCES[shape] for shape in (shapes.First, shapes.Token, shapes.Done, shapes.Failed)
                ]
            },
        }
    },
}
_EXAMPLE_STREAM = """data: {"token":"","done":false,"chat_id":"…","message_id":"…","model":"claude-sonnet-5-5","request_id":"…"}

data: {"token":"Code","done":false}

data: {"token":" flows","done":false}

data: {"token":"","done":true,"fullText":"Code flows","usage":{…},"cost_usd":"0.00021","chat_id":"…","message_id":"…","stop_reason":"end_turn"}

"""
_REPLY: dict[str, Any] = {
    "description": "the reply, once it is in the ledger",
    "content": {"application/json": {"schema": shapes.REFERENCES[shapes.ChatReply]}},
}
_STREAM: dict[str, Any] = {
    "description": (
        "Unnamed events, each with `token` and `done`: the first names the chat, then one event a piece, and exactly one "
        "last event, after the turn is in the ledger, or with `error` when it broke. `: ping` after 15 s of silence."
    ),
    "content": {"text/event-stream": {"itemSchema": _EVENT, "example": _EXAMPLE_STREAM}},
}


@router.post(
    "/chat",
    summary="Ask, and get the reply in one piece",
    status_code=200,
    response_class=WholeReply,
    responses={200: _REPLY, **_PROBLEMS},
    openapi_extra={"parameters": [_KEY]},
)
async def chat(body: ChatRequest, caller: Identified, request: Request, service: Shared) -> Response:
    """Ask in a new chat, or go on with the one named."""
    return await _answer(body, caller, request, service, WholeReply)


@router.post(
    "/chat/stream",
    summary="Ask, and get the reply as it comes",
    status_code=200,
    response_class=StreamedReply,
    responses={200: _STREAM, **_PROBLEMS},
    openapi_extra={"parameters": [_KEY]},
)
async def stream(body: ChatRequest, caller: Identified, request: Request, service: Shared) -> Response:
    """Ask in a new chat, or go on with the one named. What fails before the first event has a status of its own."""
    streamed = partial(StreamedReply, ping_seconds=service.ping_seconds, stall_seconds=service.stall_seconds)
    return await _answer(body, caller, request, service, streamed)


async def _answer(
    body: ChatRequest, caller: Caller, request: Request, service: Service, respond: Callable[..., TurnResponse]
) -> Response:
    """Return the answer of the turn that was asked for, not yet begun; or the one it had when it was asked before."""
    engine, path, request_id = service.engine, request.url.path, request.state.request_id
    headers = await service.rates.take(caller)
    known = await _chat(body, caller, service)
    message_id = None
    if key := idempotency.key_of(request):
        await engine.save_unsaved()  # the turn of this key may be among them: here it is told how that has ended
        claimed = await idempotency.claim(engine.store, caller, key, path, body.model_dump_json())
        if isinstance(claimed, Reply):
            return replayed(claimed, request_id, headers, streamed=path.endswith("/stream"))
        message_id = claimed
    turn = engine.turn(
        caller,
        known,
        body.message,
        model=body.model,
        max_tokens=body.max_tokens,
        request_id=request_id,
        message_id=message_id,
    )
    turn = service.streams.within(caller.org_id, turn)
    if message_id is not None:
        turn = idempotency.released(turn, engine.store, caller, message_id)
    return respond(turn, request_id, service.at_work, headers)


async def _chat(body: ChatRequest, caller: Caller, service: Service) -> ChatInfo:
    """Return a new chat, or the one that goes on; with the prompt it is to use from this turn on."""
    engine = service.engine
    if not body.chat_id:
        return engine.new_chat(prompt=body.wanted)
    known = await engine.store.chat(caller, body.chat_id)
    if body.wanted is not None:
        known.wanted = asked_again(known, body.wanted)
    return known
