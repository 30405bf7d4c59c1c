"""Who calls.

In ``dev`` mode the headers ``x-org-id`` and ``x-user-id`` are believed. They are claims, not credentials, so only
programs of this machine may make them: the server listens on loopback alone, and what a web page elsewhere sends here
through its reader's browser is refused.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Header, Request
from starlette.exceptions import HTTPException

from workbench.errors import ConfigurationError
from workbench.turns import DEFAULT_ID, Caller

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.datastructures import Headers

    from workbench.settings import Settings

ID_PATTERN = r"^[A-Za-z0-9._:-]{1,64}$"
_ID = re.compile(ID_PATTERN)
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)


def refuse_production(settings: Settings) -> None:
    """Raise ConfigurationError when callers must prove who they are, which they cannot yet."""
    if settings.env == "production":
        raise ConfigurationError(
            "APP_ENV=production needs WORKBENCH_AUTH=keys or gateway, which this version does not have; "
            "run the server with APP_ENV=development, for this machine alone"
        )


def refuse_open_address(host: str) -> None:
    """Raise ConfigurationError when the server would listen to other machines."""
    if not _is_loopback(host):
        raise ConfigurationError(
            f"HOST is {host!r}, but with WORKBENCH_AUTH=dev anybody who reaches the server may name any org; "
            "set HOST to 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def foreign(headers: Headers, allowed_origins: Collection[str]) -> str | None:
    """Return why a request comes from elsewhere than this machine's own programs, None when it does not.

    A page anywhere on the web can have its reader's browser send requests to loopback, and with a name that resolves
    to 127.0.0.1 even read the answers; the browser says so in these headers.
    """
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0]):
        return "the host header must be localhost, 127.0.0.1 or [::1]; call the server by one of these"
    origins = headers.getlist("origin")
    if any(not _own(origin, hosts[0]) and origin not in allowed_origins for origin in origins):
        return "pages of another origin may not call this server; add theirs to WORKBENCH_CORS_ORIGINS"
    if not origins and headers.get("sec-fetch-site") == "cross-site":
        return "pages of another site may not call this server; add their origin to WORKBENCH_CORS_ORIGINS"
    return None


def _own(origin: str, host: str) -> bool:
    return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())


async def _identify(
    request: Request,
    x_org_id: Annotated[str, Header(description="the org that asks", examples=[DEFAULT_ID])] = DEFAULT_ID,
    x_user_id: Annotated[str, Header(description="the user who asks", examples=[DEFAULT_ID])] = DEFAULT_ID,
) -> Caller:
    for name, value in (("x-org-id", x_org_id), ("x-user-id", x_user_id)):
        # of a repeated header the framework takes the first: behind a proxy that appends its own, the client's
        if len(request.headers.getlist(name)) > 1:
            raise HTTPException(400, f"the header {name} is there more than once; send it once")
        if not _ID.fullmatch(value):
            raise HTTPException(400, f"the header {name} must be 1 to 64 letters, digits or . _ : -")
    return Caller(x_org_id, x_user_id, "server")


Identified = Annotated[Caller, Depends(_identify)]
