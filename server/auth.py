"""Who calls: one of three modes, chosen by ``WORKBENCH_AUTH``.

In ``dev`` mode the headers ``x-org-id`` and ``x-user-id`` are believed. They are claims, not credentials, so only
programs of this machine may make them: the server listens on loopback alone, and what a web page elsewhere sends here
through its reader's browser is refused. In ``keys`` mode a key says which org calls, in ``gateway`` mode a proxy signs
the two headers; then the server may listen anywhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from fastapi import Depends, Header, Request
from pydantic import WithJsonSchema
from starlette.exceptions import HTTPException

from server import shapes
from server.gateway import Gateway
from workbench import ids, keys
from workbench.errors import ConfigurationError, StoreError
from workbench.settings import gateway_secrets
from workbench.store import tenants
from workbench.store.unchanged import Unchanged
from workbench.turns import DEFAULT_ID, Caller

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.datastructures import Headers

    from workbench.keys import ApiKey
    from workbench.settings import Settings
    from workbench.store.backend import Backend

log = logging.getLogger("server")

CREDENTIALS = ("x-org-id", "x-user-id", "authorization", "x-wb-signature")
READS_AT_ONCE = 2
"""The store has four threads that read; two are left for the histories of turns."""
MOST_USES = 10_000
"""Keys whose last hour of use is remembered, so that it is not written again."""

ID_PATTERN = ids.ID_PATTERN
_ID = re.compile(ID_PATTERN)
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)


# Whether to begin -----------------------------------------------------------------------------------------------------


def refuse_open_address(host: str) -> None:
    """Raise ConfigurationError when the server would listen to other machines."""
    if not _is_loopback(host):
        raise ConfigurationError(
            f"HOST is {host!r}, but with WORKBENCH_AUTH=dev anybody who reaches the server may name any org; "
            "set HOST to 127.0.0.1, or WORKBENCH_AUTH to keys or gateway"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def foreign(
    headers: Headers, allowed_origins: Collection[str], *, any_host: bool = False, page: bool = False
) -> str | None:
    """Return why a request comes from elsewhere than this machine's own programs, None when it does not.

    A page anywhere on the web can have its reader's browser send requests to loopback, and with a name that resolves
    to 127.0.0.1 even read the answers; the browser says so in these headers. A server of many names (``any_host``) need
    not mind what it is called: a page has no key. Whoever follows a link from elsewhere to a ``page`` of ours, which
    says nothing of anybody, may: the site with the link cannot read it.
    """
    hosts = headers.getlist("host")
    if len(hosts) != 1:
        return "the host header must be there once"
    if not any_host and not _LOOPBACK.fullmatch(hosts[0]):
        return "the host header must be localhost, 127.0.0.1 or [::1]; call the server by one of these"
    origins = headers.getlist("origin")
    if any(not _own(origin, hosts[0]) and origin not in allowed_origins for origin in origins):
        return "pages of another origin may not call this server; add theirs to WORKBENCH_CORS_ORIGINS"
    if page and not origins and _follows_link(headers):
        return None
    if not origins and headers.get("sec-fetch-site") == "cross-site":
        return "pages of another site may not call this server; add their origin to WORKBENCH_CORS_ORIGINS"
    return None


def _follows_link(headers: Headers) -> bool:
    # in a tab of its own: in a frame of another site our page could be clicked through
    return (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")


def _own(origin: str, host: str) -> bool:
    return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())


# The modes ----------------------------------------------------------------------------------------------------------


class Callers(Protocol):
    """Knows who calls."""

    security: ClassVar[dict[str, Any] | None]
    """How a caller proves it, as the OpenAPI document says it."""

    async def caller(self, request: Request, org_id: str | None, user_id: str | None, *scopes: str) -> Caller:
        """Return who calls, given the org and the user that were named; HTTPException when they may not.

        Any one of the scopes is enough; without any it is the one that the method needs.
        """

    async def is_admin(self, request: Request) -> bool:
        """Tell whether the caller has proved that they may administer the org."""

    async def check_operator(self, request: Request) -> None:
        """Raise HTTPException unless the caller may see what concerns all orgs."""


def callers(settings: Settings) -> Callers:
    """Return the mode that is set.

    Raises:
        ConfigurationError: these settings demand a protection that is not there.
    """
    match settings.auth:
        case "keys":
            return KeyHolders()
        case "gateway":
            if settings.gateway_keys is None:
                raise ConfigurationError(
                    "WORKBENCH_AUTH is gateway, but no gateway is known; set WORKBENCH_GATEWAY_KEYS to KID:SECRET"
                )
            return GatewayUsers(Gateway(gateway_secrets(settings.gateway_keys)))
        case "dev":
            if settings.env == "production":
                raise ConfigurationError(
                    "APP_ENV=production needs WORKBENCH_AUTH=keys or gateway, since with dev anybody may name any org; "
                    "set one of the two, or APP_ENV=development for this machine alone"
                )
            return Believed()


class Believed:
    """``dev``: whoever calls is who they say."""

    security: ClassVar[dict[str, Any] | None] = None

    async def caller(self, request: Request, org_id: str | None, user_id: str | None, *scopes: str) -> Caller:
        """Return who was named."""
        return Caller(DEFAULT_ID if org_id is None else org_id, DEFAULT_ID if user_id is None else user_id, "server")

    async def is_admin(self, request: Request) -> bool:
        """Nobody has proved anything."""
        return False

    async def check_operator(self, request: Request) -> None:
        """Let programs of this machine pass."""
        _check_local(request)


class KeptKeys:
    """Keys as they are in the store now, and not a moment ago: another process may just have revoked one.

    Where every change goes through this process they are read once, and again when somebody has changed any. Elsewhere
    each request reads. Requests that wait for the same key share a read that has yet to begin: for 64 at once it takes 2 ms and not 34.
    """

    def __init__(self) -> None:
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._about_to: dict[str, asyncio.Task[ApiKey | None]] = {}
        self._unchanged: Unchanged[ApiKey] = Unchanged()

    async def find(self, backend: Backend, key_id: str) -> ApiKey | None:
        """Return the key of an id, None when there is none."""
        if unchanged := self._unchanged.get(key_id, backend.tenants_version):
            return unchanged
        task = self._about_to.get(key_id)
        if task is None:
            task = self._about_to[key_id] = asyncio.create_task(self._read(backend, key_id))
        return await asyncio.shield(task)

    async def _read(self, backend: Backend, key_id: str) -> ApiKey | None:
        async with self._reading:
            del self._about_to[key_id]  # whoever comes from here on might be told what is true no longer
            version = backend.tenants_version
            found = await tenants.find_key(backend, key_id)
            if found is not None:
                self._unchanged.keep(key_id, version, found)
            return found


class KeyHolders:
    """``keys``: the key fixes the org, and what may be done."""

    security: ClassVar[dict[str, Any] | None] = {"type": "http", "scheme": "bearer", "bearerFormat": "wb_…"}

    def __init__(self) -> None:
        self._kept = KeptKeys()
        self._noted: dict[str, datetime] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def caller(self, request: Request, org_id: str | None, user_id: str | None, *scopes: str) -> Caller:
        """Return whom the key stands for."""
        backend = request.app.state.service.engine.store.backend
        key = await self._key(request, backend)
        if org_id not in (None, key.org_id):
            raise HTTPException(403, "the key is of another org than the header x-org-id; leave the header out")
        user = _user_of(key, user_id)
        _check_scope(key, *(scopes or (("read", "chat") if request.method in ("GET", "HEAD") else ("chat",))))
        self._note_use(backend, key)
        return Caller(key.org_id, user, "server", key.id)

    async def is_admin(self, request: Request) -> bool:
        """Tell whether the key has the scope ``admin``."""
        return "admin" in (await self._key(request, request.app.state.service.engine.store.backend)).scopes

    async def check_operator(self, request: Request) -> None:
        """Let a key with the scope ``admin`` pass; a proxy on this machine may bring anybody, so being local is no proof."""
        key = await self._key(request, request.app.state.service.engine.store.backend)
        _check_scope(key, "admin")

    async def _key(self, request: Request, backend: Backend) -> ApiKey:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise _unauthorized("Bearer", "send a key in the header `Authorization: Bearer wb_…`")
        shown = keys.read(text.strip())
        if shown is None:
            raise _unauthorized("Bearer", "the key is mistyped or cut off; send it as it was printed")
        known = await self._kept.find(backend, shown.id)
        why = keys.refusal(shown, known, datetime.now(UTC))
        if known is None or why is not None:
            _log_refusal(request, "Key refused", why, keyId=shown.id)
            raise _unauthorized("Bearer", "the key is not or no longer valid; send another one")
        return known

    def _note_use(self, backend: Backend, key: ApiKey) -> None:
        """Have the hour written, unless it is; the request does not wait for it."""
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        if hour in (key.last_used_at, self._noted.get(key.id)):
            return
        if len(self._noted) >= MOST_USES:
            self._noted.clear()
        self._noted[key.id] = hour
        task = asyncio.create_task(_noted(backend, key, hour))
        self._noting.add(task)  # the loop itself does not keep it alive
        task.add_done_callback(self._noting.discard)


async def _noted(backend: Backend, key: ApiKey, hour: datetime) -> None:
    try:
        await tenants.note_use(backend, key, hour)
    except StoreError as error:  # the next hour will do
        log.warning("Use of a key not noted", extra={"keyId": key.id, "error": error.type})


def _user_of(key: ApiKey, named: str | None) -> str:
    own = key.user_id or key.id
    if named not in (None, own) and "act-as-user" not in key.scopes:
        raise HTTPException(403, "the key may not act for other users; leave the header x-user-id out")
    return named or own


def _check_scope(key: ApiKey, *enough: str) -> None:
    if not set(enough) & set(key.scopes):
        raise HTTPException(403, f"the key lacks the scope {enough[0]}; send one that has it")


FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-real-ip", "x-wb-signature")
"""Headers of a request that a proxy brings, wherever that runs."""


class GatewayUsers:
    """``gateway``: a proxy has asked who calls, and signs what it says."""

    security: ClassVar[dict[str, Any] | None] = {"type": "apiKey", "in": "header", "name": "x-wb-signature"}

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def caller(self, request: Request, org_id: str | None, user_id: str | None, *scopes: str) -> Caller:
        """Return whom the gateway named."""
        signature = request.headers.get("x-wb-signature")
        if signature is None or org_id is None or user_id is None:
            raise _unauthorized("Signature", "the gateway must send x-org-id, x-user-id and x-wb-signature")
        query = request.scope["query_string"]
        target = (request.scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1")
        body = await request.body()
        if why := self._gateway.refusal(signature, request.method, target, org_id, user_id, body):
            _log_refusal(request, "Signature refused", why)
            raise _unauthorized("Signature", "the signature does not fit this request, or not any more; sign it anew")
        return Caller(org_id, user_id, "server")

    async def is_admin(self, request: Request) -> bool:
        """A gateway signs who calls, and not what they may do."""
        return False

    async def check_operator(self, request: Request) -> None:
        """Let programs of this machine pass, and nobody whom a gateway on it brings."""
        _check_local(request, but_not_with=FORWARDED)


def _check_local(request: Request, *, but_not_with: Collection[str] = ()) -> None:
    local = request.client is not None and _is_loopback(request.client.host)
    if not local or any(name in request.headers for name in but_not_with):
        raise HTTPException(403, "this is for programs on the server's own machine")


def _unauthorized(scheme: str, message: str) -> HTTPException:
    return HTTPException(401, message, {"www-authenticate": scheme})


def _log_refusal(request: Request, what: str, why: str | None, **more: str) -> None:
    log.warning(what, extra={"requestId": request.state.request_id, "reason": why, **more})


# For the routes -----------------------------------------------------------------------------------------------------

# only said here: what does not fit is answered with 400 and words of ours, in _identify
_ID_SCHEMA = WithJsonSchema({"type": "string", "pattern": ID_PATTERN, "examples": [DEFAULT_ID]})


_OrgId = Annotated[str | None, _ID_SCHEMA, Header(description="the org that asks")]
_UserId = Annotated[str | None, _ID_SCHEMA, Header(description="the user who asks")]


async def _identify(request: Request, x_org_id: _OrgId = None, x_user_id: _UserId = None) -> Caller:
    return await _named(request, x_org_id, x_user_id)


async def _identify_reader(request: Request, x_org_id: _OrgId = None, x_user_id: _UserId = None) -> Caller:
    return await _named(request, x_org_id, x_user_id, "read", "chat", "prompts", "admin")


async def _identify_keeper(request: Request, x_org_id: _OrgId = None, x_user_id: _UserId = None) -> Caller:
    return await _named(request, x_org_id, x_user_id, "prompts", "admin")


async def _named(request: Request, x_org_id: str | None, x_user_id: str | None, *scopes: str) -> Caller:
    _check_once(request)
    for name, value in (("x-org-id", x_org_id), ("x-user-id", x_user_id)):
        if value is not None and not _ID.fullmatch(value):
            raise HTTPException(400, f"the header {name} must be 1 to 64 letters, digits or . _ : -")
    known: Callers = request.app.state.callers
    return await known.caller(request, x_org_id, x_user_id, *scopes)


async def _is_admin(request: Request) -> bool:
    known: Callers = request.app.state.callers
    return await known.is_admin(request)


async def _check_operator(request: Request) -> None:
    _check_once(request)
    known: Callers = request.app.state.callers
    await known.check_operator(request)


def _check_once(request: Request) -> None:
    for name in CREDENTIALS:
        # of a repeated header the framework takes the first: behind a proxy that appends its own, the client's
        if len(request.headers.getlist(name)) > 1:
            raise HTTPException(400, f"the header {name} is there more than once; send it once")


Identified = Annotated[Caller, Depends(_identify)]
PromptReader = Annotated[Caller, Depends(_identify_reader)]
PromptKeeper = Annotated[Caller, Depends(_identify_keeper)]
Admin = Annotated[bool, Depends(_is_admin)]
"""Comes after the caller: whoever is nobody is refused there."""
Operator = Depends(_check_operator)


def describe(document: dict[str, Any], mode: str, known: Callers) -> None:
    """Say in the OpenAPI document how callers prove who they are, for every route that asks it."""
    if known.security is None:
        return
    document["components"]["securitySchemes"] = {mode: known.security}
    for path in document["paths"].values():
        for operation in path.values():
            if any(parameter["name"] == "x-org-id" for parameter in operation.get("parameters", ())):
                operation["security"] = [{mode: []}]
                operation["responses"]["401"] = shapes.problem("nobody, or nobody known, says who calls")
