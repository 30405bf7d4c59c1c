"""`/prompts`: the versions of the org's prompts, and where their labels point."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from server import shapes
from server.auth import Admin, PromptKeeper, PromptReader
from server.routes.fields import LABEL_PATTERN, NO_NUL, NOT_BLANK, Note, whole
from server.service import Shared
from workbench.prompts import labelling, versions
from workbench.prompts.labelling import Label
from workbench.prompts.text import NAME_PATTERN, PRODUCTION
from workbench.prompts.versions import Prompt
from workbench.wording import instant

router = APIRouter(tags=["prompts"])

MOST_PROMPTS = 200
MOST_VERSIONS = 50


Name = Annotated[str, Path(pattern=NAME_PATTERN, description="the prompt", examples=["support"])]
LabelName = Annotated[str, WithJsonSchema({"type": "string", "pattern": LABEL_PATTERN, "examples": ["production"]})]
Number = Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(whole)]


class _Body(BaseModel):
    # a mistyped `note` or `model` would be lost, and a version can never be mended
    model_config = ConfigDict(extra="forbid", strict=True)


class NewVersion(_Body):
    """A text to save."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "You help {{customer}}. Be brief.", "note": "shorter"}]}
    )

    text: str = Field(
        description="the system prompt; `{{customer}}` is a variable", json_schema_extra={"pattern": NOT_BLANK}
    )
    note: Note = Field(None, description="what it is for, or what changed")
    model: str | None = Field(
        None, pattern=r"^[!-~]{1,200}$", description="who answers chats with it that name nobody else"
    )
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="how hard the model is to think; left out, as hard as it does by itself"
    )


class LabelMove(_Body):
    """Where a label is to point."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 3, "note": "fewer questions back"}]})

    version: Number = Field(description="the version it points at from the next new chat on")
    note: Note = Field(None, description="why")


class Rollback(_Body):
    """Which label goes back."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"label": "production", "version": 4, "note": "complaints"}]}
    )

    label: LabelName = Field(default=PRODUCTION, description="which label")
    version: Number | None = Field(
        default=None,
        description="the version it points at and goes back from; with it, a request that is sent again goes no further back",
    )
    note: Note = Field(default=None, description="why")


class PromptsQuery(BaseModel):
    """Which prompts."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=MOST_PROMPTS, description="how many at most")
    after: str = Field(
        "",
        max_length=64,
        pattern=NO_NUL,
        description="`next` of the answer before: go on after that prompt",
        examples=["support"],
    )
    search: str = Field(
        "",
        max_length=200,
        pattern=NO_NUL,
        description="only prompts with this in their name, or in the text or note of a version",
    )


class VersionsQuery(BaseModel):
    """Which versions."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=MOST_VERSIONS, description="how many at most")
    before: int | None = Field(
        None, ge=1, le=2**31 - 1, description="`next` of the answer before: go on below that version", examples=[21]
    )


_EXAMPLE: dict[str, Any] = {
    "name": "support",
    "version": 3,
    "prompt": "support@3",
    "text": "You help {{customer}}. Be brief.",
    "variables": ["customer"],
    "labels": ["production"],
    "note": "shorter",
    "author": "ada",
    "model": None,
    "effort": "low",
    "sha256": "5f0c3f1d9a3e7c6b8a1d2e4f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293",
    "created_at": "2026-11-28T10:30:00.000Z",
}
_EXAMPLE_LABEL = {
    "label": "production",
    "version": 3,
    "protected": False,
    "moved_at": "2026-11-28T10:31:00.000Z",
    "moved_by": "ada",
    "note": "fewer questions back",
}
_EXAMPLE_HISTORY = {"name": "support", "labels": [_EXAMPLE_LABEL], "versions": [_EXAMPLE], "next": None}
_EXAMPLE_PAGE = {
    "prompts": [
        {
            "name": "support",
            "latest": 3,
            "labels": {"production": 3, "staging": 3},
            "note": "shorter",
            "author": "ada",
            "created_at": "2026-11-20T09:00:00.000Z",
            "updated_at": "2026-11-28T10:30:00.000Z",
        }
    ],
    "next": None,
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: shapes.problem("the org has no such prompt, label or version")}
_CHANGES = shapes.PROBLEMS_OF_BODIES | {
    400: shapes.problem("the body is no JSON or no text, the label cannot be moved, or a header is wrong"),
}
_MOVES = _CHANGES | {
    403: shapes.problem(
        "the label is protected, which needs a key with the scope `admin`; the key lacks the scope `prompts`; or the request "
        "comes from a page of another origin"
    ),
}


@router.get(
    "/prompts",
    summary="The prompts there are",
    response_class=Response,
    responses=shapes.answer("the prompts, by name", shapes.PromptPage, _EXAMPLE_PAGE) | shapes.PROBLEMS,
)
async def prompts(asked: Annotated[PromptsQuery, Query()], caller: PromptReader, service: Shared) -> Response:
    """List the org's prompts."""
    backend, org_id = service.engine.store.backend, caller.org_id
    async with service.tables:
        rows = (await versions.table(backend, org_id, asked.search, asked.limit + 1, asked.after)).to_pylist()
        labels = await labelling.labels(backend, org_id)
    shown = rows[: asked.limit]
    next = shown[-1]["name"] if len(rows) > len(shown) else None
    return shapes.response(shapes.PromptPage(prompts=[_summary(row, labels) for row in shown], next=next))


@router.get(
    "/prompts/{name}",
    summary="One prompt, with its labels and versions",
    response_class=Response,
    responses=shapes.answer("the labels, and the versions, the newest first", shapes.PromptHistory, _EXAMPLE_HISTORY)
    | _NOT_FOUND
    | shapes.PROBLEMS,
)
async def history(
    name: Name, asked: Annotated[VersionsQuery, Query()], caller: PromptReader, service: Shared
) -> Response:
    """Read the history of a prompt, texts included."""
    backend, org_id = service.engine.store.backend, caller.org_id
    async with service.tables:
        found = await versions.history(backend, org_id, name, asked.limit + 1, asked.before)
        labels = await labelling.labels(backend, org_id, name)
    kept = versions.from_table(found)
    shown = kept[: asked.limit]
    next = shown[-1].version if len(kept) > len(shown) else None
    told = [_label(label) for label in labels]
    return shapes.response(shapes.PromptHistory(name=name, labels=told, versions=[*map(_version, shown)], next=next))


@router.post(
    "/prompts/{name}",
    summary="Save a version",
    status_code=201,
    response_class=Response,
    responses=shapes.answer("the version it is now", shapes.PromptVersion, _EXAMPLE, 201)
    | shapes.answer(
        "the version with the same text, model and effort, which was there already", shapes.PromptVersion, _EXAMPLE
    )
    | _CHANGES,
)
async def save(name: Name, body: NewVersion, caller: PromptKeeper, service: Shared) -> Response:
    """Keep a text as the next version of a prompt. The first is labelled `production`; later ones move no label."""
    now = datetime.now(UTC)
    kept = await versions.save(
        service.engine.store.backend,
        caller.org_id,
        name,
        body.text,
        now,
        note=body.note,
        author=caller.user_id,
        model=body.model,
        effort=body.effort,
    )
    return shapes.response(_version(kept), 201 if kept.created_at == now else 200)


@router.put(
    "/prompts/{name}/labels/{label}",
    summary="Point a label at a version",
    response_class=Response,
    responses=shapes.answer("the version it points at now", shapes.PromptVersion, _EXAMPLE) | _NOT_FOUND | _MOVES,
)
async def move(
    name: Name,
    label: Annotated[LabelName, Path(description="the label; made if it is not there")],
    body: LabelMove,
    caller: PromptKeeper,
    admin: Admin,
    service: Shared,
) -> Response:
    """Move a label: every new chat of every server goes by it from its first question on. Chats that have begun go on."""
    backend, now = service.engine.store.backend, datetime.now(UTC)
    kept = await labelling.move(
        backend, caller.org_id, name, label, body.version, now, by=caller.user_id, note=body.note, force=admin
    )
    return shapes.response(_version(kept))


@router.post(
    "/prompts/{name}/rollback",
    summary="Point a label where it pointed before",
    response_class=Response,
    responses=shapes.answer("the version it points at now", shapes.PromptVersion, _EXAMPLE)
    | _NOT_FOUND
    | _MOVES
    | {409: shapes.problem("the label has pointed nowhere else before, or does not point at `version`")},
)
async def rollback(
    name: Name,
    caller: PromptKeeper,
    admin: Admin,
    service: Shared,
    body: Annotated[Rollback | None, Body()] = None,
) -> Response:
    """Take the last move of a label back; doing it again goes one further back, unless `version` says from where."""
    backend, now, asked = service.engine.store.backend, datetime.now(UTC), body or Rollback()
    kept = await labelling.rollback(
        backend,
        caller.org_id,
        name,
        asked.label,
        now,
        by=caller.user_id,
        note=asked.note,
        force=admin,
        version=asked.version,
    )
    return shapes.response(_version(kept))


# Inside -------------------------------------------------------------------------------------------------------------


def _summary(row: dict[str, Any], labels: list[Label]) -> shapes.PromptSummary:
    return shapes.PromptSummary(
        name=row["name"],
        latest=row["latest"],
        labels={label.label: label.version for label in labels if label.name == row["name"]},
        note=row["note"],
        author=row["author"],
        created_at=instant(row["created_at"]),
        updated_at=instant(row["updated_at"]),
    )


def _label(label: Label) -> shapes.PromptLabel:
    return shapes.PromptLabel(
        label=label.label,
        version=label.version,
        protected=label.protected,
        moved_at=instant(label.moved_at),
        moved_by=label.moved_by,
        note=label.note,
    )


def _version(kept: Prompt) -> shapes.PromptVersion:
    return shapes.PromptVersion(
        name=kept.name,
        version=kept.version,
        prompt=str(kept),
        text=kept.text,
        variables=[*kept.variables],
        labels=[*kept.labels],
        note=kept.note,
        author=kept.author,
        model=kept.model,
        effort=kept.effort,
        sha256=kept.sha256,
        created_at=instant(kept.created_at),
    )
