"""What browsers show: the chat page at `/`, the reference at `/docs`, and the files both are made of.

They hold nobody's data, so they are given to everybody; what the chat page shows it asks for like any other client. It
runs the scripts of this server and nothing else, talks to this server and to nobody else.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

import workbench
from server import reference
from workbench.errors import ConfigurationError

if TYPE_CHECKING:
    from workbench.engine import Engine

router = APIRouter(include_in_schema=False)

PAGES = ("/", "/docs")
STATIC = Path(__file__).parent / "static"
FORMULAS = Path(workbench.__file__).parent / "notebook" / "static" / "math.js"
"""What draws formulas, in the notebook too."""
# the last two: no text becomes markup but through the sanitiser; browsers that do not know them leave them out
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify 'allow-duplicates'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
_READ_AGAIN = "no-cache"
_NEVER_CHANGES = "public, max-age=31536000, immutable"


class Asset(NamedTuple):
    """A file as it is sent."""

    body: bytes
    zipped: bytes
    media_type: str
    version: str
    """Of its content: with it in the address a browser need never ask again."""


def _asset(body: bytes, media_type: str) -> Asset:
    return Asset(body, gzip.compress(body, mtime=0), media_type, hashlib.sha256(body).hexdigest()[:16])


@cache
def assets() -> dict[str, Asset]:
    """Return the files there are, by name."""
    files = [FORMULAS, *(path for path in sorted(STATIC.iterdir()) if path.suffix in _TYPES)]
    return {path.name: _asset(path.read_bytes(), _TYPES[path.suffix]) for path in files}


@cache
def _page(mode: str, model: str) -> Asset:
    html = (STATIC / "page.html").read_text(encoding="utf-8").replace("{auth}", mode).replace("{model}", escape(model))
    return _asset(_with_versions(html).encode(), "text/html")


def _with_versions(html: str) -> str:
    for name, asset in assets().items():
        html = html.replace(f'"static/{name}"', f'"static/{name}?v={asset.version}"')
    return html


def _sent(request: Request, asset: Asset, caching: str) -> Response:
    """Return an asset, or that the browser has it already."""
    headers = HEADERS | {"etag": f'"{asset.version}"', "cache-control": caching, "vary": "accept-encoding"}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {headers["etag"], "*"}:
        return Response(None, 304, headers)
    body = asset.body
    if "gzip" in request.headers.get("accept-encoding", "").lower():
        body, headers["content-encoding"] = asset.zipped, "gzip"
    return Response(body, 200, headers, asset.media_type)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The chat page."""
    state = request.app.state
    return _sent(request, _page(state.auth, _model(state.service.engine) if state.auth == "dev" else ""), _READ_AGAIN)


def _model(engine: Engine) -> str:
    """Who answers a new chat, to say from the first sight that it is the embedded model."""
    try:
        return engine.model_for(None)
    except ConfigurationError:
        return ""  # nobody can answer: the first question is told why


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> Response:
    """The reference."""
    state = request.app.state
    if not hasattr(state, "reference"):
        state.reference = _asset(_with_versions(reference.html(request.app.openapi())).encode(), "text/html")
    return _sent(request, state.reference, _READ_AGAIN)


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static(name: str, request: Request) -> Response:
    """A file of the two pages."""
    asset = assets().get(name)
    if asset is None:
        raise HTTPException(404)
    return _sent(request, asset, _NEVER_CHANGES if request.query_params.get("v") == asset.version else _READ_AGAIN)
