"""What the server says, as types: they are encoded to answers and described in the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from fastapi import Response
from msgspec import UNSET, Meta, UnsetType

if TYPE_CHECKING:
    from workbench import turns

encode = msgspec.json.Encoder().encode

ChatId = Annotated[str, Meta(description="name it in the next request to go on with this chat")]
MessageId = Annotated[str, Meta(description="of the reply")]
Cost = Annotated[
    str | None, Meta(description="US dollars, decimal; null when the price is not known", examples=["0.0078"])
]
PromptUsed = Annotated[
    str | None,
    Meta(
        description="the prompt version it was asked with, to be sent back as it is; null without one",
        examples=["support@3"],
    ),
]
InExperiment = Annotated[
    str | None, Meta(description="the experiment that chose the prompt version; null when none did", examples=["tone"])
]
Variant = Annotated[str | None, Meta(description="which arm of it the chat is", examples=["v3"])]
RequestId = Annotated[str, Meta(description="also in the x-request-id header, the log and the ledger")]
Time = Annotated[str, Meta(description="UTC", examples=["2026-11-23T10:30:00.000Z"])]
RetryAfter = Annotated[int, Meta(description="seconds")] | UnsetType
BudgetRemaining = (
    Annotated[
        str, Meta(description="US dollars of the tightest budget that no turn has spent or holds; if there is one")
    ]
    | UnsetType
)
NearlySpent = Annotated[bool, Meta(description="80 % of that budget is spent or held")] | UnsetType
Shortened = Annotated[int, Meta(description="the bound of the reply, when the budget allows no longer one")] | UnsetType


class Usage(msgspec.Struct, kw_only=True):
    """Tokens of one turn; `input_tokens` is the whole prompt, the sum of uncached, cache reads and cache writes."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    uncached_input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


class ChatReply(msgspec.Struct, kw_only=True):
    """The reply to `POST /chat`."""

    chat_id: ChatId
    message_id: MessageId
    reply: Annotated[str, Meta(examples=["2 + 2 equals 4."])]
    created_at: Annotated[str, Meta(description="UTC", examples=["2026-11-23T10:30:00.000Z"])]
    usage: Usage
    cost_usd: Cost
    model: Annotated[str, Meta(description="who answered; `local` is the embedded model, not Claude")]
    stop_reason: str | None
    prompt: PromptUsed
    experiment: InExperiment
    variant: Variant
    request_id: RequestId
    budget_remaining_usd: BudgetRemaining = UNSET
    budget_nearly_spent: NearlySpent = UNSET
    max_tokens: Shortened = UNSET


class First(msgspec.Struct, kw_only=True):
    """The first event of a stream: the turn has begun."""

    token: Literal[""] = ""
    done: Literal[False] = False
    chat_id: ChatId
    message_id: MessageId
    model: str
    request_id: RequestId
    prompt: (
        Annotated[str, Meta(description="the prompt version, if there is one", examples=["support@3"])] | UnsetType
    ) = UNSET
    experiment: (
        Annotated[str, Meta(description="the experiment that chose it, if one did", examples=["tone"])] | UnsetType
    ) = UNSET
    variant: Annotated[str, Meta(description="which arm of it", examples=["v3"])] | UnsetType = UNSET
    budget_remaining_usd: BudgetRemaining = UNSET
    budget_nearly_spent: NearlySpent = UNSET
    max_tokens: Shortened = UNSET


class Token(msgspec.Struct, kw_only=True):
    """A piece of the reply."""

    token: Annotated[str, Meta(examples=["Code"])]
    done: Literal[False] = False


class Done(msgspec.Struct, kw_only=True):
    """The last event of a stream that went well; the turn is in the ledger."""

    token: Literal[""] = ""
    done: Literal[True] = True
    fullText: str  # noqa: N815  # the predecessor's name, which its clients read
    usage: Usage
    cost_usd: Cost
    chat_id: ChatId
    message_id: MessageId
    stop_reason: str | None


class Failed(msgspec.Struct, kw_only=True):
    """The last event of a stream that broke; what had come is in the ledger."""

    token: Literal[""] = ""
    done: Literal[True] = True
    error: Annotated[str, Meta(examples=["Stream failed"])]
    message: Annotated[str, Meta(examples=["Rate limit exceeded"])]
    type: str
    retryable: bool
    retry_after: RetryAfter = UNSET
    usage: Usage
    cost_usd: Cost
    chat_id: ChatId
    message_id: MessageId
    request_id: RequestId


class ChatSummary(msgspec.Struct, kw_only=True):
    """A chat as the list shows it."""

    chat_id: ChatId
    title: Annotated[str, Meta(description="how its first question begins", examples=["What is 2+2?"])]
    created_at: Time
    updated_at: Annotated[str, Meta(description="when it was asked in last, UTC")]
    turns: Annotated[int, Meta(description="calls to a model that have ended, also those that failed")]
    total_tokens: int
    cost_usd: Cost
    models: Annotated[list[str], Meta(description="who answered in it")]
    forked_from: Annotated[str | None, Meta(description="the chat whose first messages it began with")]
    prompt: PromptUsed


class ChatPage(msgspec.Struct, kw_only=True):
    """Some of the caller's chats, the one used last first."""

    chats: list[ChatSummary]
    next: Annotated[str | None, Meta(description="send it as `before` for the chats after these; null: there are none")]


class Feedback(msgspec.Struct, kw_only=True):
    """What the caller thinks of a reply, as they said last."""

    score: Annotated[int, Meta(description="1: a thumb up, -1: one down")]
    comment: str | None


class ChatMessage(msgspec.Struct, kw_only=True):
    """One message of a chat; what a reply used and cost is `null` for questions, and until the reply has ended."""

    message_id: str
    seq: Annotated[int, Meta(description="1, 2, 3, … within the chat")]
    role: Literal["user", "assistant"]
    content: Annotated[str, Meta(description="the text people read")]
    status: Annotated[
        Literal["streaming", "complete", "interrupted", "failed", "lost"],
        Meta(description="`streaming` until the reply has ended; `lost`: its server died"),
    ]
    token_count: Annotated[
        int | None, Meta(description="of a reply its output tokens, of a question the input tokens it added")
    ]
    created_at: Time
    model: str | None
    stop_reason: str | None
    usage: Usage | None
    cost_usd: Cost
    duration_ms: int | None
    feedback: Annotated[Feedback | None, Meta(description="of the caller; null: none was given")]


class ChatWithMessages(msgspec.Struct, kw_only=True):
    """A chat and all that was said in it."""

    chat_id: ChatId
    title: str
    system: Annotated[str | None, Meta(description="the system prompt, if the chat has one of its own")]
    model: Annotated[str | None, Meta(description="who answers, unless a request says otherwise; null: the default")]
    created_at: Time
    forked_from: str | None
    prompt: PromptUsed
    variables: Annotated[dict[str, str], Meta(description="what was put in for the prompt's variables")]
    cost_usd: Cost
    messages: Annotated[list[ChatMessage], Meta(description="oldest first")]


class PromptVersion(msgspec.Struct, kw_only=True):
    """One version of a prompt; it never changes."""

    name: str
    version: Annotated[int, Meta(description="1, 2, 3, …")]
    prompt: Annotated[str, Meta(description="how a chat asks for just this version", examples=["support@3"])]
    text: Annotated[str, Meta(examples=["You help {{customer}}. Be brief."])]
    variables: Annotated[list[str], Meta(description="what `{{…}}` in the text asks for", examples=[["customer"]])]
    labels: Annotated[list[str], Meta(description="that point at it", examples=[["production"]])]
    note: str | None
    author: Annotated[str | None, Meta(description="the user who saved it")]
    model: Annotated[str | None, Meta(description="who answers where nobody else is named; null: the default")]
    effort: Annotated[str | None, Meta(description="how hard the model is to think; null: its own default")]
    sha256: Annotated[str, Meta(description="of text, model and effort; the same again is no new version")]
    created_at: Time


class PromptLabel(msgspec.Struct, kw_only=True):
    """A label of a prompt, as it was moved last."""

    label: Annotated[str, Meta(examples=["production"])]
    version: Annotated[int, Meta(description="where it points")]
    protected: Annotated[bool, Meta(description="only a key with the scope `admin` moves it")]
    moved_at: Time
    moved_by: Annotated[str | None, Meta(description="a user")]
    note: Annotated[str | None, Meta(description="why")]


class PromptSummary(msgspec.Struct, kw_only=True):
    """A prompt as the list shows it."""

    name: str
    latest: Annotated[int, Meta(description="the newest version")]
    labels: Annotated[dict[str, int], Meta(description="where they point")]
    note: Annotated[str | None, Meta(description="of the newest version")]
    author: str | None
    created_at: Time
    updated_at: Annotated[str, Meta(description="when the newest version was saved, UTC")]


class PromptPage(msgspec.Struct, kw_only=True):
    """Some of the org's prompts, by name."""

    prompts: list[PromptSummary]
    next: Annotated[
        str | None, Meta(description="send it as `after` for the prompts after these; null: there are none")
    ]


class PromptHistory(msgspec.Struct, kw_only=True):
    """A prompt with its labels and versions."""

    name: str
    labels: list[PromptLabel]
    versions: Annotated[list[PromptVersion], Meta(description="the newest first")]
    next: Annotated[
        int | None, Meta(description="send it as `before` for the versions before these; null: there are none")
    ]


class Experiment(msgspec.Struct, kw_only=True):
    """Versions of a prompt compared on the chats that ask for a label."""

    name: str
    state: Literal["running", "stopped"]
    prompt: Annotated[str, Meta(description="whose versions")]
    label: Annotated[str, Meta(description="whose new chats are assigned")]
    arms: Annotated[dict[str, float], Meta(description="versions and their weights, the control first")]
    outcome: Annotated[str, Meta(description="what decides")]
    unit: Annotated[Literal["chat", "user"], Meta(description="what is assigned and counted")]
    coverage: Annotated[float, Meta(description="the part of all units that takes part")]
    guard: Annotated[dict[str, float], Meta(description="how many times the control's stops an arm")]
    stopped_arms: Annotated[dict[str, str], Meta(description="arms that the guard stopped, and why")]
    note: str | None
    started_at: Time
    started_by: Annotated[str | None, Meta(description="a user")]
    stopped_at: Annotated[str | None, Meta(description="UTC; null while it runs")]
    stopped_by: str | None
    stop_reason: str | None
    winner: Annotated[str | None, Meta(description="the arm that the label was moved to when it was stopped")]


class SampleSize(msgspec.Struct, kw_only=True):
    """How many units show an effect in 80 % of experiments."""

    effect: str
    at_once: Annotated[int, Meta(description="per arm, if it is looked at once, at the end")]
    at_most: Annotated[int, Meta(description="per arm, if it is looked at as often as one likes; most need fewer")]
    in_all: int


class ExperimentStarted(Experiment, kw_only=True):
    """An experiment that has just begun, and how many chats it needs."""

    chats_before: Annotated[
        int, Meta(description="of the label in the last 30 days; 30 or more tell how outcomes spread")
    ]
    sizes: list[SampleSize]


class ExperimentPage(msgspec.Struct, kw_only=True):
    """Some of the org's experiments, by name."""

    experiments: list[Experiment]
    next: Annotated[
        str | None, Meta(description="send it as `after` for the experiments after these; null: there are none")
    ]


class Comparison(msgspec.Struct, kw_only=True):
    """An arm against the control, in one outcome; `null` is what is not known yet."""

    outcome: str
    arm: str
    against: Annotated[str, Meta(description="the control")]
    chats: Annotated[list[int], Meta(description="that could be compared, of the control and of the arm")]
    values: Annotated[
        list[float | None],
        Meta(description="of both: geometric mean (US dollars, milliseconds, tokens), per cent, or mean score"),
    ]
    effect: float | None
    low: Annotated[float | None, Meta(description="of an interval that holds at every look with 95 %")]
    high: float | None
    unit: Annotated[
        str, Meta(description="`%` of the geometric mean, `points` of per cent, or as the score is counted")
    ]
    differs: Annotated[bool, Meta(description="30 chats per arm or more, and an interval without zero")]
    decides: Annotated[bool, Meta(description="it is the primary outcome")]


class ExperimentReport(msgspec.Struct, kw_only=True):
    """What an experiment has shown so far."""

    experiment: Experiment
    counts: Annotated[dict[str, int], Meta(description="units by arm")]
    split_is_right: Annotated[bool, Meta(description="if not, no outcome can be believed")]
    ratio_p: Annotated[float, Meta(description="how likely such counts are, dealt by their weights")]
    verdict: Annotated[str, Meta(description="of the primary outcome; a line for each arm but the control")]
    comparisons: list[Comparison]
    notes: list[str]


class Kept(msgspec.Struct, kw_only=True):
    """Something was kept."""

    id: str


class Problem(msgspec.Struct, kw_only=True):
    """Why a request was not answered."""

    error: Annotated[str, Meta(examples=["Validation Error"])]
    message: Annotated[str, Meta(description="what to do")]
    type: Annotated[str, Meta(description="stable code of the kind of error", examples=["validation_error"])]
    retryable: Annotated[bool, Meta(description="whether asking the same again later can help")]
    retry_after: RetryAfter = UNSET
    resets_at: Annotated[str, Meta(description="when the budget begins anew, UTC")] | UnsetType = UNSET
    chat_id: (
        Annotated[
            str,
            Meta(description="of a turn that failed but is in the ledger: name it to ask again in the same chat"),
        ]
        | UnsetType
    ) = UNSET
    request_id: RequestId


_SHAPES = (
    ChatReply,
    First,
    Token,
    Done,
    Failed,
    Problem,
    ChatPage,
    ChatWithMessages,
    PromptPage,
    PromptHistory,
    PromptVersion,
    Experiment,
    ExperimentPage,
    ExperimentReport,
    ExperimentStarted,
    Kept,
)
_references, COMPONENTS = msgspec.json.schema_components(_SHAPES, ref_template="#/components/schemas/{name}")
REFERENCES: dict[type, dict[str, Any]] = dict(zip(_SHAPES, _references, strict=True))


def problem(description: str) -> dict[str, Any]:
    """Return what the OpenAPI document says of an answer that is a problem."""
    return {"description": description, "content": {"application/json": {"schema": REFERENCES[Problem]}}}


def answer(description: str, shape: type, example: object, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of an answer of this shape."""
    content = {"application/json": {"schema": REFERENCES[shape], "example": example}}
    return {status: {"description": description, "content": content}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: problem("a header is wrong"),
    403: problem("the request comes from a page of another origin, or the key lacks the scope"),
    422: problem("a parameter does not fit, or there is no such parameter"),
    503: problem("the store fails"),
}
"""Of requests without a body."""
PROBLEMS_OF_BODIES = PROBLEMS | {
    408: problem("the rest of the body did not come"),
    413: problem("the body is larger than 1 MiB"),
    415: problem("the body is not `application/json`"),
    422: problem("a field does not fit, or there is no such field"),
}


def response(shape: msgspec.Struct, status: int = 200) -> Response:
    """Return an answer that no cache keeps."""
    return Response(encode(shape), status, {"cache-control": "no-store"}, media_type="application/json")


def usage(counted: turns.Usage) -> Usage:
    """Return the counts of a turn as the server says them."""
    return msgspec.convert(counted, Usage, from_attributes=True)
