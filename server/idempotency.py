"""Requests that may be sent again: with the same `Idempotency-Key` a turn that was answered is not asked again."""

from __future__ import annotations

import hashlib
import logging
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from anyio import CancelScope
from starlette.exceptions import HTTPException

from workbench.errors import StoreError, WorkbenchError
from workbench.ids import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request

    from workbench.store import Store
    from workbench.turns import Caller, LiveTurn, Reply

log = logging.getLogger("server")

_KEY = re.compile(r"[!-~]{1,255}")


class InFlight(WorkbenchError):
    """The turn of the same key runs."""

    type = "idempotency_in_flight"
    retryable = True
    retry_after = 1.0


class Mismatch(WorkbenchError):
    """The key was used for another request."""

    type = "idempotency_mismatch"


def key_of(request: Request) -> str | None:
    """Return the key of a request, None if it has none."""
    keys = request.headers.getlist("idempotency-key")
    if len(keys) > 1 or (keys and not _KEY.fullmatch(keys[0])):
        raise HTTPException(
            400, "the header idempotency-key must be there once, with 1 to 255 letters, digits or signs"
        )
    return keys[0] if keys else None


async def claim(store: Store, caller: Caller, key: str, path: str, body: str) -> str | Reply:
    """Return the id that the reply of the turn is to have, or the reply if the turn was answered before.

    Raises:
        InFlight: the turn runs.
        Mismatch: the key was used for another path or body.
    """
    fingerprint, message_id = hashlib.sha256(f"{path}\n{body}".encode()).hexdigest(), new_id()
    claimed = await store.claim(caller, key, fingerprint, message_id)
    if claimed.message_id == message_id:
        return message_id
    if claimed.fingerprint != fingerprint:
        raise Mismatch("this idempotency key was used for another request; make a new one for each")
    if not claimed.done:
        raise InFlight("the request with this idempotency key is being answered; ask again in a moment")
    return await store.reply(caller, claimed.message_id)


@asynccontextmanager
async def released(
    turn: AbstractAsyncContextManager[LiveTurn], store: Store, caller: Caller, message_id: str
) -> AsyncIterator[LiveTurn]:
    """The turn; when it does not end well its key is given back, so that trying again asks again."""
    try:
        async with turn as live:
            yield live
    except BaseException as error:
        if isinstance(error, StoreError) and error.reply is not None:
            raise  # the turn has ended and is saved later: then it is known whether that was well
        with CancelScope(shield=True):
            try:
                await store.unclaim(caller, message_id)
            except StoreError as not_now:  # whoever comes with it next does so
                log.warning("Idempotency key not given back", extra={"error": not_now.type})
        raise
