"""`GET /metrics`: for Prometheus."""

import ipaddress

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response

from server.service import Shared

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request, service: Shared) -> Response:
    """Show what the server measures of itself, to programs of this machine."""
    if request.client is None or not ipaddress.ip_address(request.client.host).is_loopback:
        raise HTTPException(403, "metrics are for programs on the server's own machine")
    measured = service.metrics
    await measured.look_into(service.engine.store.backend)
    return Response(measured.text(), media_type=CONTENT_TYPE_LATEST)
