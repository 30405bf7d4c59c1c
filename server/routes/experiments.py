"""`/experiments`: versions of a prompt compared on the org's chats; and feedback on replies."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from server import shapes
from server.auth import ID_PATTERN, Admin, Identified, PromptKeeper, PromptReader
from server.routes.fields import LABEL_PATTERN, NO_NUL, Note, whole
from server.service import Shared
from workbench.prompts import experiments as stored
from workbench.prompts import results
from workbench.prompts.experiments import LARGEST, LEAST_LIMIT, MOST_ARMS, MOST_LIMIT, StoredExperiment
from workbench.prompts.feedback import give
from workbench.prompts.text import LONGEST_NOTE, NAME_PATTERN, PRODUCTION

router = APIRouter(tags=["experiments"])

MOST_EXPERIMENTS = 200


def _number(value: object) -> object:
    """Neither `true` nor `"1"` is a number."""
    if isinstance(value, bool | str):
        raise ValueError("give a number")  # noqa: TRY004  # of this one a 422 is made
    return value


Name = Annotated[str, Path(pattern=NAME_PATTERN, description="the experiment", examples=["tone"])]
PromptName = Annotated[str, Field(pattern=NAME_PATTERN)]
LabelName = Annotated[str, WithJsonSchema({"type": "string", "pattern": LABEL_PATTERN})]
Arm = Annotated[str, Field(pattern=r"^v[1-9][0-9]{0,8}$")]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST), BeforeValidator(_number)]
Weight = Annotated[float, Field(ge=0.001, le=1000), BeforeValidator(_number)]
Coverage = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]
Limit = Annotated[float, Field(ge=LEAST_LIMIT, le=MOST_LIMIT), BeforeValidator(_number)]


class _Body(BaseModel):
    # a mistyped `guard` or `winner` would be lost, and an experiment can never be mended
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Guard(_Body):
    """How many times the control's an arm may have before it is stopped."""

    errors: Limit | None = Field(None, description="as often failed", examples=[2])
    cost: Limit | None = Field(None, description="as dear", examples=[1.5])


class NewExperiment(_Body):
    """What to compare; nothing but the coverage is ever changed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "support", "arms": {"v3": 0.5, "v4": 0.5}, "outcome": "cost", "guard": {"errors": 2}}
            ]
        }
    )

    prompt: PromptName = Field(description="whose versions", examples=["support"])
    arms: dict[Arm, Weight] = Field(
        min_length=2,
        max_length=MOST_ARMS,
        description="versions and their weights; the control is the one that the label points at, or else the first",
        examples=[{"v3": 0.5, "v4": 0.5}],
        json_schema_extra={"additionalProperties": False},
    )
    outcome: Literal["cost", "ttft", "duration", "output_tokens", "errors", "thumbs", "score"] = Field(
        "cost", description="what decides"
    )
    unit: Literal["chat", "user"] = Field("chat", description="what is assigned and counted")
    coverage: Coverage = Field(1.0, description="the part of all units that takes part")
    label: LabelName = Field(PRODUCTION, description="whose new chats are assigned")
    guard: Guard | None = Field(None, description="what stops an arm by itself")
    note: Note = Field(None, description="what it is to find out")


class End(_Body):
    """How an experiment ends."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"winner": "v4", "why": "a third cheaper"}]})

    winner: Arm | None = Field(None, description="the arm that the label is moved to at the same moment")
    why: Note = Field(None, description="for the record")


class NewCoverage(_Body):
    """Another part of all units."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"coverage": 0.5}]})

    coverage: Coverage = Field(description="the part of all units that takes part; none changes its arm")


class NewScore(_Body):
    """How good a chat was, by a measure of your own."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"chat_id": "019ac8f0-5c1e-7d64-9a51-2f6b0c9e4d10", "score": 4.5}]}
    )

    chat_id: str = Field(pattern=ID_PATTERN, description="a chat that the experiment assigned")
    score: Number = Field(description="the newest of a chat counts")


class NewFeedback(_Body):
    """What a user thinks of a reply."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"score": 1, "comment": "just what I needed"}]})

    score: Annotated[Literal[1, -1], BeforeValidator(_number), BeforeValidator(whole)] = Field(
        description="1 for a thumb up, -1 for one down"
    )
    comment: Annotated[str | None, Field(max_length=LONGEST_NOTE, json_schema_extra={"pattern": NO_NUL})] = Field(
        None, description="why"
    )


class ExperimentsQuery(BaseModel):
    """Which experiments."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=MOST_EXPERIMENTS, description="how many at most")
    after: str = Field(
        "",
        max_length=64,
        pattern=NO_NUL,
        description="`next` of the answer before: go on after that experiment",
        examples=["tone"],
    )


_EXAMPLE: dict[str, Any] = {
    "name": "tone",
    "state": "running",
    "prompt": "support",
    "label": "production",
    "arms": {"v3": 0.5, "v4": 0.5},
    "outcome": "cost",
    "unit": "chat",
    "coverage": 1.0,
    "guard": {"errors": 2.0},
    "stopped_arms": {},
    "note": None,
    "started_at": "2026-11-28T10:30:00.000Z",
    "started_by": "ada",
    "stopped_at": None,
    "stopped_by": None,
    "stop_reason": None,
    "winner": None,
}
_SIZE = {"effect": "-20 %", "at_once": 454, "at_most": 985, "in_all": 1970}
_EXAMPLE_STARTED = _EXAMPLE | {"chats_before": 120, "sizes": [_SIZE]}
_EXAMPLE_REPORT = {
    "experiment": _EXAMPLE,
    "counts": {"v3": 412, "v4": 398},
    "split_is_right": True,
    "ratio_p": 0.62,
    "verdict": "v4 is cheaper: -31 % [-46, -12]",
    "comparisons": [
        {
            "outcome": "cost",
            "arm": "v4",
            "against": "v3",
            "chats": [412, 398],
            "values": [0.0041, 0.0028],
            "effect": -31.2,
            "low": -46.4,
            "high": -12.1,
            "unit": "%",
            "differs": True,
            "decides": True,
        }
    ],
    "notes": ["Only cost decides; the other outcomes show what else changed, and have no verdict."],
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: shapes.problem("the org has no such experiment")}
_CHANGES = shapes.PROBLEMS_OF_BODIES | {
    400: shapes.problem("the body is no JSON or no text, it cannot work like this, or a header is wrong"),
}


_STATE = shapes.answer("the experiment as it is now", shapes.Experiment, _EXAMPLE)


@router.get(
    "/experiments",
    summary="The experiments there are",
    response_class=Response,
    responses=shapes.answer("by name", shapes.ExperimentPage, {"experiments": [_EXAMPLE], "next": None})
    | shapes.PROBLEMS,
)
async def experiments(asked: Annotated[ExperimentsQuery, Query()], caller: PromptReader, service: Shared) -> Response:
    """List the org's experiments, those that run and those that were stopped."""
    backend = service.engine.store.backend
    found = await stored.known(backend, caller.org_id, asked.limit + 1, asked.after)
    shown = found[: asked.limit]
    next = shown[-1].name if len(found) > len(shown) else None
    return shapes.response(shapes.ExperimentPage(experiments=[*map(_experiment, shown)], next=next))


@router.get(
    "/experiments/{name}",
    summary="What an experiment has shown so far",
    response_class=Response,
    responses=shapes.answer("its report, which holds however often one looks", shapes.ExperimentReport, _EXAMPLE_REPORT)
    | _NOT_FOUND
    | shapes.PROBLEMS,
)
async def report(name: Name, caller: PromptReader, service: Shared) -> Response:
    """Read the report. Effects are in `unit`: `%` of the geometric mean, `points` of per cent, or as the score is counted."""
    async with service.tables:
        made = await results.report(service.engine.store.backend, caller.org_id, name)
    return shapes.response(msgspec.convert(results.portable_report(made), shapes.ExperimentReport))


@router.post(
    "/experiments/{name}",
    summary="Start an experiment",
    status_code=201,
    response_class=Response,
    responses=shapes.answer("it runs; with how many chats it needs", shapes.ExperimentStarted, _EXAMPLE_STARTED, 201)
    | {404: shapes.problem("the org has no such prompt, label or version")}
    | {409: shapes.problem("the name was used, or another experiment runs on the label")}
    | _CHANGES,
)
async def start(name: Name, body: NewExperiment, caller: PromptKeeper, service: Shared) -> Response:
    """Assign new chats that ask for the label to the arms, by the hash of their ids; each keeps its version."""
    backend, org_id, now = service.engine.store.backend, caller.org_id, datetime.now(UTC)
    wanted = StoredExperiment(
        name=name,
        prompt=body.prompt,
        arms=body.arms,
        outcome=body.outcome,
        unit=body.unit,
        coverage=body.coverage,
        label=body.label,
        guard=body.guard.model_dump(exclude_none=True) if body.guard else {},
        note=body.note,
    )
    begun = await stored.start(backend, org_id, await stored.prepared(backend, org_id, wanted), now, caller.user_id)
    async with service.tables:
        plan = await results.plan(backend, org_id, begun, now, begun=True)
    return shapes.response(msgspec.convert(plan.portable, shapes.ExperimentStarted), 201)


@router.post(
    "/experiments/{name}/stop",
    summary="Stop an experiment",
    response_class=Response,
    responses=_STATE
    | _NOT_FOUND
    | _CHANGES
    | {
        403: shapes.problem(
            "the label is protected, and moving it to a winner needs a key with the scope `admin`; the key lacks the scope "
            "`prompts`; or the request comes from a page of another origin"
        ),
        409: shapes.problem("it was stopped already"),
    },
)
async def stop(name: Name, body: End, caller: PromptKeeper, admin: Admin, service: Shared) -> Response:
    """Assign nobody any more; with a winner the label is moved to it at the same moment. Chats keep their version."""
    ended = await stored.stop(
        service.engine.store.backend,
        caller.org_id,
        name,
        datetime.now(UTC),
        winner=body.winner,
        why=body.why,
        by=caller.user_id,
        force=admin,
    )
    return shapes.response(_experiment(ended))


@router.put(
    "/experiments/{name}/coverage",
    summary="Let another part of all units take part",
    response_class=Response,
    responses=_STATE | _NOT_FOUND | _CHANGES | {409: shapes.problem("it was stopped")},
)
async def cover(name: Name, body: NewCoverage, caller: PromptKeeper, service: Shared) -> Response:
    """Change the coverage, the only thing that can be changed; no unit changes its arm."""
    backend, now = service.engine.store.backend, datetime.now(UTC)
    changed = await stored.set_coverage(backend, caller.org_id, name, body.coverage, now, caller.user_id)
    return shapes.response(_experiment(changed))


@router.post(
    "/experiments/{name}/scores",
    summary="Score a chat",
    status_code=201,
    response_class=Response,
    responses=shapes.answer("it is kept", shapes.Kept, {"id": "0199…"}, 201)
    | {404: shapes.problem("the org has no such experiment, or it assigned no such chat")}
    | _CHANGES,
)
async def score(name: Name, body: NewScore, caller: PromptKeeper, service: Shared) -> Response:
    """Say how good a chat was, by a measure of your own."""
    backend, now = service.engine.store.backend, datetime.now(UTC)
    return shapes.response(
        shapes.Kept(id=await stored.score(backend, caller.org_id, name, body.chat_id, body.score, now)), 201
    )


@router.post(
    "/messages/{id}/feedback",
    tags=["chat"],
    summary="Rate a reply",
    status_code=201,
    response_class=Response,
    responses=shapes.answer("it is kept", shapes.Kept, {"id": "0199…"}, 201)
    | {404: shapes.problem("no such reply, or it belongs to somebody else, or has not ended")}
    | _CHANGES,
)
async def feedback(
    id: Annotated[
        str,
        Path(
            pattern=ID_PATTERN,
            description="`message_id` of the reply",
            examples=["019ac8f0-5c1e-7d64-9a51-2f6b0c9e4d10"],
        ),
    ],
    body: NewFeedback,
    caller: Identified,
    service: Shared,
) -> Response:
    """Keep what the caller thinks of a reply of theirs. All of it is kept; the newest of a reply counts."""
    backend, now = service.engine.store.backend, datetime.now(UTC)
    return shapes.response(shapes.Kept(id=await give(backend, caller, id, body.score, now, body.comment)), 201)


# Inside -------------------------------------------------------------------------------------------------------------


def _experiment(of: StoredExperiment) -> shapes.Experiment:
    return msgspec.convert(of.portable, shapes.Experiment)
