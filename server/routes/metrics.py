"""`GET /metrics`: for Prometheus."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from server.auth import Operator
from server.service import Shared

router = APIRouter()


@router.get("/metrics", include_in_schema=False, dependencies=[Operator])
async def metrics(service: Shared) -> Response:
    """Show what the server measures of itself, all orgs together, to whoever runs it."""
    measured = service.metrics
    await measured.look_into(service.engine.store.backend)
    return Response(measured.text(), media_type=CONTENT_TYPE_LATEST)
