"""`GET /usage`: what calls to models used and cost."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator
from starlette.exceptions import HTTPException

from server import shapes
from server.auth import Identified
from server.service import Shared
from server.tables import FORMATS, TableResponse, accepted
from workbench.ledger.frames import COLUMNS, PERIODS, moment_of, usage_pieces, usage_query

router = APIRouter(tags=["usage"])


def _moment(value: Any) -> datetime | None:
    # in a query a + is a space, and few clients write %2B
    day, space, zone = str(value).rpartition(" ")
    return moment_of(f"{day}+{zone}" if space and ":" in day else str(value))


Time = Annotated[
    datetime | None,
    BeforeValidator(_moment),
    # what is written in some other way and yet understood is nothing to rely on
    WithJsonSchema({"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}),
]
_NAMES = rf" *({'|'.join((*PERIODS, *COLUMNS))})? *"
Names = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{_NAMES}(,{_NAMES})*$"})]


class UsageQuery(BaseModel):
    """What to report."""

    model_config = ConfigDict(extra="forbid")  # a mistyped `until` would report too much

    since: Time = Field(
        None,
        description="calls from this moment on; a day means its first moment, a time without a zone is UTC",
        examples=["2026-11-01"],
    )
    until: Time = Field(None, description="calls before this moment", examples=["2026-11-25T14:30:00+01:00"])
    by: list[Names] = Field(
        [],
        description=f"what to sum up by, with commas between or repeated: any of {', '.join((*PERIODS, *COLUMNS))}; without it one row per call",
        examples=[["day,model"]],
    )
    format: Literal["json", "csv", "arrow"] | None = Field(
        None, description="goes before the `accept` header; without either it is JSON"
    )

    @field_validator("by")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        names = [name.strip(" ") for part in value for name in part.split(",") if name.strip(" ")]
        usage_query(names)
        return names


_OFFERED = ", ".join(kind.media_type for kind in FORMATS.values())
_EXAMPLE = [
    {
        "day": "2026-11-23",
        "model": "claude-sonnet-5-5",
        "calls": 3,
        "input_tokens": 4100,
        "uncached_input_tokens": 1100,
        "cache_read_tokens": 2000,
        "cache_write_tokens": 1000,
        "output_tokens": 310,
        "cost_usd": "0.00824",
        "unpriced_calls": 0,
    }
]
_EXAMPLE_CSV = """"day","model","calls","input_tokens","uncached_input_tokens","cache_read_tokens","cache_write_tokens",\
"output_tokens","cost_usd","unpriced_calls"
2026-11-23,"claude-sonnet-5-5",3,4100,1100,2000,1000,310,"0.00824",0
"""
_ANSWER: dict[str, Any] = {
    "description": (
        "One row per group, in the order of the groups: the groups, `calls`, the sums of the token counts, `cost_usd` of "
        "the calls whose price is known (null if none is) and `unpriced_calls`. Without `by` one row per call, oldest "
        "first. Costs are exact decimals, in JSON and CSV as text; times are UTC. In CSV a text that a spreadsheet would "
        "run as a formula has a `'` before it."
    ),
    "content": {
        "application/json": {
            "schema": {"type": "array", "items": {"type": "object"}},
            "example": _EXAMPLE,
        },
        "text/csv": {
            "schema": {"type": "string"},
            "example": _EXAMPLE_CSV,
        },
        "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: shapes.problem("a header is wrong"),
    403: shapes.problem("the request comes from a page of another origin"),
    406: shapes.problem("the `accept` header takes none of the three formats"),
    422: shapes.problem("a parameter does not fit, or there is no such parameter"),
    503: shapes.problem("the store fails, or the server stops"),
}


@router.get(
    "/usage",
    summary="What calls to models used and cost",
    status_code=200,
    response_class=TableResponse,
    responses={200: _ANSWER, **_PROBLEMS},
)
async def usage(
    asked: Annotated[UsageQuery, Query()], caller: Identified, request: Request, service: Shared
) -> TableResponse:
    """Report the calls of the caller's org; the same figures as `wb.usage()`."""
    name = asked.format or accepted(",".join(request.headers.getlist("accept")))
    if name is None:
        raise HTTPException(
            406, f"the accept header takes none of {_OFFERED}; send one of these, or the parameter format"
        )
    return TableResponse(
        "usage",
        usage_pieces(service.engine.store, caller.org_id, asked.since, asked.until, asked.by),
        FORMATS[name](),
        service.at_work,
        service.tables,
        service.stall_seconds,
    )
