"""Signatures of a gateway: a proxy that knows who calls, and says so in a way that nobody else can.

It sends ``x-org-id`` and ``x-user-id``, and with them ``x-wb-signature: t=…,kid=…,v1=…``: seconds since 1970 in UTC, the
name of the secret, and in hex the HMAC-SHA256 of what :func:`signed` says. A signature is good for 60 seconds and for one
request, so two requests that are the same need different times: seconds may have decimals.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WINDOW_SECONDS = 60.0
"""How far the clocks of gateway and server may be apart, and how long a request may be under way."""
MOST_SEEN = 100_000
"""Signatures remembered, some 20 MB; with more than 800 requests a second the window gets shorter, and stays safe."""

_SIGNATURE = re.compile(r"t=(\d{1,12}(?:\.\d{1,9})?),kid=([A-Za-z0-9._-]{1,64}),v1=([0-9a-f]{64})", re.ASCII)


def signed(t: str, method: str, target: str, org_id: str, user_id: str, body: bytes) -> bytes:
    """Return the text that is signed, one thing a line.

    Args:
        t: The time as it is written in the header.
        method: In capitals.
        target: The path as it is sent, and the query with its ``?`` if there is one.
        org_id: Of the header ``x-org-id``.
        user_id: Of the header ``x-user-id``.
        body: Of which the SHA-256 in hex is the last line.
    """
    return "\n".join((t, method, target, org_id, user_id, hashlib.sha256(body).hexdigest())).encode("latin-1")


def sign(secret: bytes, text: bytes) -> str:
    """Return the signature of a text."""
    return hmac.new(secret, text, hashlib.sha256).hexdigest()


class Seen:
    """The signatures of the last minutes, so that none is taken twice. Those of other processes are not known here."""

    def __init__(self, most: int = MOST_SEEN) -> None:
        self._most = most
        self._times: OrderedDict[str, float] = OrderedDict()
        self._forgotten = 0.0
        """No signature of this time or before is taken: it may be one of those forgotten."""

    def first(self, signature: str, at: float, now: float) -> bool:
        """Remember a signature; return whether it is surely a new one."""
        while self._times and (len(self._times) >= self._most or self._oldest() < now - WINDOW_SECONDS):
            _, forgotten = self._times.popitem(last=False)
            self._forgotten = max(self._forgotten, forgotten)
        if at <= self._forgotten or signature in self._times:
            return False
        self._times[signature] = at
        return True

    def _oldest(self) -> float:
        return next(iter(self._times.values()))


class Gateway:
    """Judges signatures."""

    def __init__(self, secrets: Mapping[str, bytes], clock: Callable[[], float] = time.time) -> None:
        self._secrets = secrets
        self._clock = clock
        self._seen = Seen()

    def refusal(self, signature: str, method: str, target: str, org_id: str, user_id: str, body: bytes) -> str | None:
        """Return why a signature is not good, None when it is; it then is no more."""
        match = _SIGNATURE.fullmatch(signature)
        if match is None:
            return "unreadable"
        t, kid, shown = match.groups()
        secret = self._secrets.get(kid)
        right = sign(secret or bytes(32), signed(t, method, target, org_id, user_id, body))
        same = hmac.compare_digest(shown, right)  # always, whatever the kid
        now = self._clock()
        if secret is None:
            return "unknown kid"
        if not same:
            return "wrong"
        if abs(now - float(t)) > WINDOW_SECONDS:
            return "too old or too new"
        return None if self._seen.first(shown, float(t), now) else "used before"
