"""Keys: how they are made and judged, and what every store keeps of them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from workbench import keys
from workbench.errors import Conflict, NotFound
from workbench.keys import ApiKey, ShownKey
from workbench.store import tenants
from workbench.store.erase import erase_org, erase_user

if TYPE_CHECKING:
    from workbench.store import Store

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ID, SECRET = "0123456789abcdef", "5" * 64
# crc32 of all before it
KEY = f"wb_{ID}_{SECRET}bd2ff043"


def kept(**changes: object) -> ApiKey:
    key = ApiKey(
        id=ID,
        org_id="acme",
        user_id=None,
        secret_sha256=hashlib.sha256(SECRET.encode()).hexdigest(),
        scopes=("chat",),
        created_at=NOON,
    )
    return replace(key, **changes)  # type: ignore[arg-type]


# Made and read ------------------------------------------------------------------------------------------------------


def test_a_key_is_one_word_with_its_id_and_256_secret_bits() -> None:
    assert re.fullmatch(r"wb_[0-9a-f]{16}_[0-9a-f]{64}[0-9a-f]{8}", keys.make().text)


def test_no_two_keys_share_an_id_or_a_secret() -> None:
    made = [keys.make() for _ in range(100)]

    assert len({key.id for key in made}) == len({key.secret_sha256 for key in made}) == 100


def test_a_new_key_is_read_as_what_is_kept_of_it() -> None:
    made = keys.make()

    assert keys.read(made.text) == ShownKey(made.id, made.secret_sha256)


def test_what_is_kept_is_the_sha256_of_the_secret_alone() -> None:
    assert keys.read(KEY) == ShownKey(ID, hashlib.sha256(SECRET.encode()).hexdigest())


def test_the_repr_of_a_new_key_does_not_show_it() -> None:
    made = keys.make()

    assert repr(made) == f"NewKey(id='{made.id}')"


@pytest.mark.parametrize("place", range(len(KEY)))
def test_one_wrong_letter_anywhere_is_known_without_the_store(place: int) -> None:
    other = "0" if KEY[place] != "0" else "1"

    assert keys.read(KEY[:place] + other + KEY[place + 1 :]) is None


@pytest.mark.parametrize("text", ["", "wb_", KEY[:-1], f"{KEY}0", KEY.upper(), f" {KEY}", f"{KEY}\n", "sk-ant-1"])
def test_what_is_no_whole_key_is_no_key(text: str) -> None:
    assert keys.read(text) is None


# Judged -------------------------------------------------------------------------------------------------------------

SHOWN = ShownKey(ID, hashlib.sha256(SECRET.encode()).hexdigest())
WRONG = ShownKey(ID, hashlib.sha256(b"other").hexdigest())


@pytest.mark.parametrize(
    ("shown", "known", "why"),
    [
        (SHOWN, kept(), None),
        (SHOWN, None, "unknown"),
        (ShownKey(ID, hashlib.sha256(b"").hexdigest()), None, "unknown"),
        (WRONG, kept(), "wrong secret"),
        (SHOWN, kept(revoked_at=NOON), "revoked"),
        (SHOWN, kept(expires_at=NOON), "expired"),
        (SHOWN, kept(expires_at=NOON + HOUR), None),
        (SHOWN, kept(replaced_by="another", expires_at=NOON + HOUR), None),
        (SHOWN, kept(replaced_by="another", expires_at=NOON), "expired"),
        # to whoever does not have the secret nothing is said about the key
        (WRONG, kept(revoked_at=NOON), "wrong secret"),
    ],
)
def test_a_key_is_good_unless_it_is_unknown_wrong_revoked_or_expired(
    shown: ShownKey, known: ApiKey | None, why: str | None
) -> None:
    assert keys.refusal(shown, known, NOON) == why


@pytest.mark.parametrize("known", [None, kept(), kept(revoked_at=NOON)])
def test_secrets_are_compared_in_constant_time_also_for_ids_nobody_has(
    known: ApiKey | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    real = hmac.compare_digest

    def compare(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr("workbench.keys.hmac.compare_digest", compare)
    keys.refusal(SHOWN, known, NOON)

    assert compared == [(64, 64)]


# Kept ---------------------------------------------------------------------------------------------------------------


async def test_a_new_key_is_found_with_all_that_was_said_of_it(store: Store) -> None:
    await tenants.add_org(store.backend, "acme", NOON, {})
    await tenants.add_user(store.backend, "acme", "ada", NOON, {})

    made = await tenants.create_key(
        store.backend,
        "acme",
        NOON,
        user_id="ada",
        scopes=("read", "act-as-user"),
        name="reports",
        lifetime=DAY,
        budget_usd=Decimal("0.123456789"),
        budget_period="month",
    )

    assert await tenants.find_key(store.backend, made.id) == ApiKey(
        id=made.id,
        org_id="acme",
        user_id="ada",
        secret_sha256=made.secret_sha256,
        scopes=("read", "act-as-user"),
        created_at=NOON,
        expires_at=NOON + DAY,
        name="reports",
        budget_usd=Decimal("0.123456789"),
        budget_period="month",
    )


async def test_the_store_holds_nothing_with_which_one_could_call(store: Store) -> None:
    await tenants.add_org(store.backend, "acme", NOON, {})
    made = await tenants.create_key(store.backend, "acme", NOON)

    kept = " ".join(map(str, *await store.backend.rows("SELECT * FROM api_keys")))

    assert made.text[20:84] not in kept
    assert made.secret_sha256 in kept


async def test_nobody_has_a_key_of_an_id_that_was_never_given(store: Store) -> None:
    assert await tenants.find_key(store.backend, ID) is None


async def test_after_a_rotation_both_keys_work_until_the_grace_period_ends(store: Store) -> None:
    await tenants.add_org(store.backend, "acme", NOON, {})
    old = await tenants.create_key(store.backend, "acme", NOON, scopes=("chat",), name="ci", budget_usd=Decimal(2))

    new = await tenants.rotate_key(store.backend, "acme", old.id, NOON + HOUR, DAY)

    before, after = [await tenants.find_key(store.backend, key.id) for key in (old, new)]
    assert before is not None
    assert after is not None
    assert (before.replaced_by, before.expires_at) == (new.id, NOON + HOUR + DAY)
    assert (after.scopes, after.name, after.budget_usd, after.expires_at) == (("chat",), "ci", Decimal(2), None)
    assert [key.state(NOON + DAY) for key in (before, after)] == ["replaced", "active"]
    assert [key.state(NOON + HOUR + DAY) for key in (before, after)] == ["expired", "active"]


@pytest.mark.parametrize("user", [None, "ada"])
async def test_a_rotated_key_stands_for_the_same_user(file_store: Store, user: str | None) -> None:
    backend = file_store.backend
    await tenants.add_org(backend, "acme", NOON, {})
    await tenants.add_user(backend, "acme", "ada", NOON, {})
    first = await tenants.create_key(backend, "acme", NOON, user_id=user)

    second = await tenants.rotate_key(backend, "acme", first.id, NOON, DAY)
    third = await tenants.rotate_key(backend, "acme", second.id, NOON, DAY)

    found = await tenants.find_key(backend, third.id)
    assert found is not None
    assert found.user_id == (user or first.id)


async def test_a_rotation_lets_no_key_live_longer_than_it_would_have(store: Store) -> None:
    await tenants.add_org(store.backend, "acme", NOON, {})
    old = await tenants.create_key(store.backend, "acme", NOON, lifetime=2 * HOUR)

    new = await tenants.rotate_key(store.backend, "acme", old.id, NOON + HOUR, DAY)

    expiries = [key and key.expires_at for key in [await tenants.find_key(store.backend, k.id) for k in (old, new)]]
    assert expiries == [NOON + 2 * HOUR, NOON + 3 * HOUR]


async def test_of_two_rotations_at_once_one_makes_a_key(store: Store) -> None:
    await tenants.add_org(store.backend, "acme", NOON, {})
    old = await tenants.create_key(store.backend, "acme", NOON)

    rotations = [tenants.rotate_key(store.backend, "acme", old.id, NOON, DAY) for _ in range(3)]
    made = await asyncio.gather(*rotations, return_exceptions=True)

    (new,) = [key for key in made if not isinstance(key, BaseException)]
    assert [type(error) for error in made if error is not new] == [Conflict, Conflict]
    assert {key.id for key in await tenants.keys_of(store.backend, "acme")} == {old.id, new.id}


@pytest.mark.parametrize("ended", ["revoked", "expired", "replaced"])
async def test_a_key_that_ended_is_not_rotated(file_store: Store, ended: str) -> None:
    backend = file_store.backend
    await tenants.add_org(backend, "acme", NOON, {})
    key = await tenants.create_key(backend, "acme", NOON, lifetime=HOUR if ended == "expired" else None)
    if ended == "revoked":
        await tenants.revoke_key(backend, "acme", key.id, NOON)
    if ended == "replaced":
        await tenants.rotate_key(backend, "acme", key.id, NOON, DAY)

    with pytest.raises(Conflict, match=f"is {ended}; ") as caught:
        await tenants.rotate_key(backend, "acme", key.id, NOON + HOUR, DAY)

    assert caught.value.state == ended


async def test_a_key_is_revoked_once_and_the_time_stays(store: Store) -> None:
    await tenants.add_org(store.backend, "acme", NOON, {})
    made = await tenants.create_key(store.backend, "acme", NOON)

    await tenants.revoke_key(store.backend, "acme", made.id, NOON)
    await tenants.revoke_key(store.backend, "acme", made.id, NOON + HOUR)

    (key,) = await tenants.keys_of(store.backend, "acme")
    assert (key.revoked_at, key.state(NOON)) == (NOON, "revoked")


async def test_the_last_use_only_goes_on(store: Store) -> None:
    await tenants.add_org(store.backend, "acme", NOON, {})
    made = await tenants.create_key(store.backend, "acme", NOON)
    (key,) = await tenants.keys_of(store.backend, "acme")

    for hour in (NOON, NOON + HOUR, NOON):
        await tenants.note_use(store.backend, key, hour)

    used = await tenants.find_key(store.backend, made.id)
    assert used is not None
    assert used.last_used_at == NOON + HOUR


async def test_a_key_of_another_org_is_as_if_not_there(file_store: Store) -> None:
    backend = file_store.backend
    for org in ("acme", "globex"):
        await tenants.add_org(backend, org, NOON, {})
    made = await tenants.create_key(backend, "acme", NOON)

    assert await tenants.keys_of(backend, "globex") == []
    with pytest.raises(NotFound):
        await tenants.revoke_key(backend, "globex", made.id, NOON)
    with pytest.raises(NotFound):
        await tenants.rotate_key(backend, "globex", made.id, NOON, DAY)
    found = await tenants.find_key(backend, made.id)
    assert found is not None
    assert found.state(NOON) == "active"


@pytest.mark.parametrize("erased", ["user", "org"])
async def test_the_keys_of_who_is_erased_are_gone(file_store: Store, erased: str) -> None:
    backend = file_store.backend
    await tenants.add_org(backend, "acme", NOON, {})
    await tenants.add_user(backend, "acme", "ada", NOON, {})
    made = await tenants.create_key(backend, "acme", NOON, user_id="ada")

    await (erase_user(backend, "acme", "ada") if erased == "user" else erase_org(backend, "acme"))

    assert await tenants.find_key(backend, made.id) is None


# Orgs and users -----------------------------------------------------------------------------------------------------


async def test_an_org_and_its_users_keep_their_limits(store: Store) -> None:
    limits = {"budget_usd": Decimal("12.5"), "budget_period": "month", "rate_per_minute": 90.0, "rate_burst": 7.0}

    await tenants.add_org(store.backend, "acme", NOON, limits)
    await tenants.add_user(store.backend, "acme", "ada", NOON, limits)

    (org,) = [org for org in await tenants.orgs(store.backend) if org.id == "acme"]
    assert org == ("acme", NOON, Decimal("12.5"), "month", 90.0, 7.0)
    assert await tenants.users(store.backend, "acme") == [("ada", NOON, Decimal("12.5"), "month", 90.0, 7.0)]


async def test_what_is_not_named_stays_and_none_takes_away(store: Store) -> None:
    limits = {"budget_usd": Decimal(5), "budget_period": "day", "rate_per_minute": 90.0, "rate_burst": 7.0}
    await tenants.add_org(store.backend, "acme", NOON, {})
    for user in ("ada", "bob"):
        await tenants.add_user(store.backend, "acme", user, NOON, limits)

    await tenants.set_user(store.backend, "acme", "ada", {"budget_usd": Decimal(6), "rate_burst": None})

    assert await tenants.users(store.backend, "acme") == [
        ("ada", NOON, Decimal(6), "day", 90.0, None),
        ("bob", NOON, Decimal(5), "day", 90.0, 7.0),
    ]


async def test_what_is_there_already_is_not_added(file_store: Store) -> None:
    backend = file_store.backend
    await tenants.add_org(backend, "acme", NOON, {"rate_burst": 7.0})
    await tenants.add_user(backend, "acme", "ada", NOON, {})

    with pytest.raises(Conflict, match="the org 'acme' is there already; change it with: workbench orgs set acme"):
        await tenants.add_org(backend, "acme", NOON, {"rate_burst": 8.0})
    with pytest.raises(Conflict, match="workbench users set acme --id ada"):
        await tenants.add_user(backend, "acme", "ada", NOON, {})

    assert [org.rate_burst for org in await tenants.orgs(backend) if org.id == "acme"] == [7.0]


async def test_nothing_is_done_for_an_org_or_a_user_that_is_not_there(file_store: Store) -> None:
    backend = file_store.backend
    await tenants.add_org(backend, "acme", NOON, {})
    attempts = [
        tenants.set_org(backend, "nobody", {}),
        tenants.users(backend, "nobody"),
        tenants.add_user(backend, "nobody", "ada", NOON, {}),
        tenants.set_user(backend, "acme", "nobody", {}),
        tenants.create_key(backend, "nobody", NOON),
        tenants.create_key(backend, "acme", NOON, user_id="nobody"),
        tenants.keys_of(backend, "nobody"),
    ]

    refused = await asyncio.gather(*attempts, return_exceptions=True)

    assert [type(error) for error in refused] == [NotFound] * 7
    assert await backend.rows("SELECT 1 FROM api_keys") == []
