"""API keys: how they are made, read and judged.

A key is one word, ``wb_<id>_<secret><checksum>``, and is shown once. The store keeps its id and the SHA-256 of its
secret: no slow hash, since 256 random bits cannot be guessed. By the checksum a key that was mistyped or cut off is
known without the store. Nothing here touches a clock, a file or a socket.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal

SCOPES = ("chat", "read", "prompts", "admin", "act-as-user")
"""To ask; to read what was asked and used; to save prompts and move their labels; to move protected ones too, and look
after experiments; to ask for any user of the org."""

State = Literal["active", "replaced", "expired", "revoked"]
"""A replaced key works until it expires."""
Refusal = Literal["unknown", "wrong secret", "revoked", "expired"]

_KEY = re.compile(r"wb_([0-9a-f]{16})_([0-9a-f]{64})([0-9a-f]{8})")
_NOBODYS = hashlib.sha256(b"").hexdigest()
"""Compared with when there is no such key, so that both take the same steps. No secret is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is kept of a key. Without a user it is a user itself, by its id."""

    id: str
    org_id: str
    user_id: str | None
    secret_sha256: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """To the hour."""
    replaced_by: str | None = None
    name: str | None = None
    budget_usd: Decimal | None = None
    budget_period: str | None = None

    def state(self, now: datetime) -> State:
        """Return what has become of it."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active" if self.replaced_by is None else "replaced"


class NewKey(NamedTuple):
    """A key as it is made; ``text`` is for its holder alone."""

    id: str
    text: str
    secret_sha256: str

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r})"  # a traceback must not show it


class ShownKey(NamedTuple):
    """A key as somebody shows it."""

    id: str
    secret_sha256: str


def make() -> NewKey:
    """Return a new key."""
    start = f"wb_{secrets.token_hex(8)}_{secrets.token_hex(32)}"
    text = start + _checksum(start)
    shown = read(text)
    assert shown is not None
    return NewKey(shown.id, text, shown.secret_sha256)


def read(text: str) -> ShownKey | None:
    """Return which key a text is, None when it is mistyped, cut off or no key at all."""
    match = _KEY.fullmatch(text)
    if match is None or _checksum(text[:-8]) != match[3]:
        return None
    return ShownKey(match[1], hashlib.sha256(match[2].encode()).hexdigest())


def refusal(shown: ShownKey, known: ApiKey | None, now: datetime) -> Refusal | None:
    """Return why a key that was shown is not good, None when it is.

    Args:
        shown: What was sent.
        known: What is kept under its id, if anything.
        now: When it was sent.
    """
    kept = _NOBODYS if known is None else known.secret_sha256
    right = hmac.compare_digest(shown.secret_sha256, kept)  # always, known or not
    if known is None:
        return "unknown"
    if not right:
        return "wrong secret"
    match known.state(now):
        case "revoked" | "expired" as ended:
            return ended
    return None


def _checksum(start: str) -> str:
    return f"{zlib.crc32(start.encode()):08x}"
