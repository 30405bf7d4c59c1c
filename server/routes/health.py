"""Whether the server lives, and whether it can answer."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from server import shapes
from server.problems import refusal
from server.service import Shared

router = APIRouter(tags=["health"])

_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: shapes.problem("starting, stopping, or nobody is there who could answer")
}


@router.get("/healthz", summary="Alive?")
async def healthz() -> JSONResponse:
    """Answer at once, whatever else goes on."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", summary="Ready for chats?", responses=_NOT_READY)
async def readyz(request: Request, service: Shared) -> Response:
    """Answer 200 when the store and the connection to the model work."""
    if service.not_ready is not None:
        return refusal(503, service.not_ready, request.state.request_id)
    await service.engine.store.backend.write([])  # a file that was moved away can still be read
    return JSONResponse({"status": "ready"})
