"""Who may call: orgs, their users and their keys, and what each may spend and ask.

Whoever runs the workbench does this; what is written here holds for the next request of every process of the store.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench import keys
from workbench.budgets import begun
from workbench.errors import Conflict, NotFound
from workbench.keys import ApiKey
from workbench.store.backend import Statement
from workbench.store.queries import query
from workbench.wording import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from workbench.budgets import Period
    from workbench.keys import NewKey
    from workbench.store.backend import Backend, Row

LIMITS = ("budget_usd", "budget_period", "rate_per_minute", "rate_burst")
"""What may be set of an org and of a user; None takes it away."""


class Tenant(NamedTuple):
    """An org, or a user of one, with its limits; None where it has none of its own."""

    id: str
    created_at: datetime
    budget_usd: Decimal | None
    budget_period: Period | None
    rate_per_minute: float | None
    rate_burst: float | None


# Orgs ---------------------------------------------------------------------------------------------------------------


async def orgs(backend: Backend) -> list[Tenant]:
    """Return all orgs."""
    return [_tenant(row) for row in await backend.rows(query("orgs"))]


async def spent(
    backend: Backend, org_id: str, user_id: str | None, period: Period | None, now: datetime
) -> tuple[Decimal, Decimal]:
    """Return the US dollars that an org, or a user of it, has spent in the period that runs, and those held for its turns."""
    ((spent, held),) = await backend.rows(query("spent"), org_id, user_id, None, begun(period, now), now, "")
    return plain(spent), plain(held)


async def add_org(backend: Backend, org_id: str, now: datetime, limits: Mapping[str, Any]) -> None:
    """Add an org.

    Raises:
        Conflict: there is one of this id.
    """
    if await backend.rows("SELECT 1 FROM orgs WHERE id = $1", org_id):
        raise Conflict("org", org_id, f"change it with: workbench orgs set {org_id}")
    new = "INSERT INTO orgs (id, created_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING"
    await backend.write([Statement(new, (org_id, now)), *_set("orgs", {"id": org_id}, limits)])


async def set_org(backend: Backend, org_id: str, limits: Mapping[str, Any]) -> None:
    """Change the limits that are named, and leave the others.

    Raises:
        NotFound: there is no such org.
    """
    await _known_org(backend, org_id)
    await backend.write(_set("orgs", {"id": org_id}, limits))


# Users --------------------------------------------------------------------------------------------------------------


async def users(backend: Backend, org_id: str) -> list[Tenant]:
    """Return the users of an org, those too that were never added but have asked.

    Raises:
        NotFound: there is no such org.
    """
    await _known_org(backend, org_id)
    return [_tenant(row) for row in await backend.rows(query("users"), org_id)]


async def add_user(backend: Backend, org_id: str, user_id: str, now: datetime, limits: Mapping[str, Any]) -> None:
    """Add a user to an org.

    Raises:
        NotFound: there is no such org.
        Conflict: it has a user of this id.
    """
    await _known_org(backend, org_id)
    if await _has_user(backend, org_id, user_id):
        raise Conflict("user", user_id, f"change it with: workbench users set {org_id} --id {user_id}")
    new = "INSERT INTO users (org_id, id, created_at) VALUES ($1, $2, $3) ON CONFLICT (org_id, id) DO NOTHING"
    which = {"org_id": org_id, "id": user_id}
    await backend.write([Statement(new, (org_id, user_id, now)), *_set("users", which, limits)])


async def set_user(backend: Backend, org_id: str, user_id: str, limits: Mapping[str, Any]) -> None:
    """Change the limits that are named, and leave the others.

    Raises:
        NotFound: there is no such user, or no such org.
    """
    await _known_user(backend, org_id, user_id)
    await backend.write(_set("users", {"org_id": org_id, "id": user_id}, limits))


# Keys ---------------------------------------------------------------------------------------------------------------


async def find_key(backend: Backend, key_id: str) -> ApiKey | None:
    """Return the key of an id, as it is now in the store."""
    rows = await backend.rows(query("key"), key_id)
    return _key(rows[0]) if rows else None


async def keys_of(backend: Backend, org_id: str) -> list[ApiKey]:
    """Return the keys of an org, revoked and expired ones too.

    Raises:
        NotFound: there is no such org.
    """
    await _known_org(backend, org_id)
    return [_key(row) for row in await backend.rows(query("keys"), org_id)]


async def create_key(
    backend: Backend,
    org_id: str,
    now: datetime,
    *,
    user_id: str | None = None,
    scopes: Sequence[str] = ("chat", "read"),
    name: str | None = None,
    lifetime: timedelta | None = None,
    budget_usd: Decimal | None = None,
    budget_period: str | None = None,
) -> NewKey:
    """Return a new key of an org; its text is kept nowhere.

    Raises:
        NotFound: there is no such org, or it has no such user.
    """
    await (_known_org(backend, org_id) if user_id is None else _known_user(backend, org_id, user_id))
    made = keys.make()
    key = ApiKey(
        id=made.id,
        org_id=org_id,
        user_id=user_id,
        secret_sha256=made.secret_sha256,
        scopes=scopes,
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
        name=name,
        budget_usd=budget_usd,
        budget_period=budget_period,
    )
    await backend.write([_insert(key)])
    return made


async def rotate_key(backend: Backend, org_id: str, key_id: str, now: datetime, grace: timedelta) -> NewKey:
    """Return a new key that may do what an old one may; the old one works for as long as ``grace``.

    A key that would have expired is replaced by one that lives as long as it was meant to. Its budget begins anew.

    Raises:
        NotFound: the org has no such key.
        Conflict: it was revoked, has expired or was replaced before.
    """
    old = await _known_key(backend, org_id, key_id)
    if (state := old.state(now)) != "active":
        raise Conflict("key", key_id, _instead(old), state)
    made = keys.make()
    new = ApiKey(
        id=made.id,
        org_id=org_id,
        user_id=old.user_id or old.id,  # the same user, who goes on with the same chats
        secret_sha256=made.secret_sha256,
        scopes=old.scopes,
        created_at=now,
        expires_at=old.expires_at and now + (old.expires_at - old.created_at),
        name=old.name,
        budget_usd=old.budget_usd,
        budget_period=old.budget_period,
    )
    await backend.write(
        [
            _insert(new),
            Statement(query("replace_key"), (org_id, key_id, made.id, now + grace)),
            Statement(query("drop_unneeded_key"), (org_id, key_id, made.id)),
        ]
    )
    now_old = await _known_key(backend, org_id, key_id)
    if now_old.replaced_by != made.id:
        raise Conflict("key", key_id, _instead(now_old), now_old.state(now))
    return made


async def revoke_key(backend: Backend, org_id: str, key_id: str, now: datetime) -> None:
    """Let a key work no longer, from the next request on; when it was revoked before, that is left as it is.

    Raises:
        NotFound: the org has no such key.
    """
    await _known_key(backend, org_id, key_id)
    sql = "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE org_id = $1 AND id = $2"
    await backend.write([Statement(sql, (org_id, key_id, now))])


async def note_use(backend: Backend, key: ApiKey, hour: datetime) -> None:
    """Write that a key was used in an hour, or later."""
    sql = "UPDATE api_keys SET last_used_at = GREATEST(COALESCE(last_used_at, $3), $3) WHERE org_id = $1 AND id = $2"
    await backend.write([Statement(sql, (key.org_id, key.id, hour))])


# Inside -------------------------------------------------------------------------------------------------------------


async def _known_org(backend: Backend, org_id: str) -> None:
    if not await backend.rows("SELECT 1 FROM orgs WHERE id = $1", org_id):
        raise NotFound("org", org_id, f"add it with: workbench orgs add {org_id}")


async def _has_user(backend: Backend, org_id: str, user_id: str) -> bool:
    return bool(await backend.rows("SELECT 1 FROM users WHERE org_id = $1 AND id = $2", org_id, user_id))


async def _known_user(backend: Backend, org_id: str, user_id: str) -> None:
    await _known_org(backend, org_id)
    if not await _has_user(backend, org_id, user_id):
        raise NotFound("user", user_id, f"add it with: workbench users add {org_id} --id {user_id}")


async def _known_key(backend: Backend, org_id: str, key_id: str) -> ApiKey:
    known = await find_key(backend, key_id)
    if known is None or known.org_id != org_id:
        raise NotFound("key", key_id, f"workbench keys list {org_id} shows the ids of those there are")
    return known


def _instead(key: ApiKey) -> str:
    if key.replaced_by is not None:
        return f"go on with the one that replaced it, {key.replaced_by}"
    return f"make a new one: workbench keys create {key.org_id}"


def _set(table: str, which: Mapping[str, str], limits: Mapping[str, Any]) -> list[Statement]:
    """The statement that sets the limits named; the names of columns are ours, never a caller's."""
    assert set(limits) <= set(LIMITS)
    if not limits:
        return []
    values = [*limits.values(), *which.values()]
    names = [f"{name} = ${place}" for place, name in enumerate([*limits, *which], start=1)]
    changes, condition = ", ".join(names[: len(limits)]), " AND ".join(names[len(limits) :])
    return [Statement(f"UPDATE {table} SET {changes} WHERE {condition}", tuple(values))]


def _insert(key: ApiKey) -> Statement:
    scopes = " ".join(key.scopes)
    who = (key.id, key.org_id, key.user_id, key.secret_sha256, scopes)
    return Statement(
        query("new_key"), (*who, key.created_at, key.expires_at, key.name, key.budget_usd, key.budget_period)
    )


def _tenant(row: Row) -> Tenant:
    id, created_at, *limits = row
    return Tenant(id, created_at.astimezone(UTC), *limits)


def _key(row: Row) -> ApiKey:
    id, org_id, user_id, secret_sha256, scopes, *times, replaced_by, name, budget_usd, budget_period = row
    created_at, expires_at, revoked_at, last_used_at = (time and time.astimezone(UTC) for time in times)
    return ApiKey(
        id=id,
        org_id=org_id,
        user_id=user_id,
        secret_sha256=secret_sha256,
        scopes=tuple(scopes.split()),
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
        last_used_at=last_used_at,
        replaced_by=replaced_by,
        name=name,
        budget_usd=budget_usd,
        budget_period=budget_period,
    )
