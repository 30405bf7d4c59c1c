"""``workbench orgs``, ``users`` and ``keys``: who may call the server, and what each may spend and ask."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from workbench.cli.terminal import clean, example, note, show, write, write_json
from workbench.errors import InvalidRequest
from workbench.ids import ID_PATTERN
from workbench.keys import SCOPES
from workbench.wording import dollars, exact, instant, plain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from workbench.keys import ApiKey
    from workbench.store.backend import Backend
    from workbench.store.tenants import Tenant

T = TypeVar("T")

MOST_USD = Decimal(10) ** 9
"""The ledger's amounts have nine digits before the point."""
MOST_REQUESTS = 1e9
"""A limit that is infinite could be told to nobody, in a header or as JSON; --no-rate takes it away."""


def _app(what: str) -> typer.Typer:
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=what)


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is no amount; write US dollars such as 25 or 0.50") from None
    if not amount.is_finite() or not 0 <= amount < MOST_USD or amount != round(amount, 9):
        raise typer.BadParameter(f"{text!r} is no budget; it should be 0 or more, and less than {MOST_USD:,}")
    return amount


def _id(text: str) -> str:
    if not re.fullmatch(ID_PATTERN, text):
        raise typer.BadParameter(f"{text!r} is no id; it should be 1 to 64 letters, digits or . _ : -")
    return text


# not a float: 0.1 has no exact one
Budget = Annotated[
    Any, typer.Option(parser=_amount, metavar="N", help="What may be spent in US dollars.", show_default=False)
]
Period = Annotated[
    Literal["day", "month", "ever"] | None,
    typer.Option(help="When the budget begins anew: each day or month in UTC, or not ever.", show_default=False),
]
NoBudget = Annotated[bool, typer.Option("--no-budget", help="Take the budget away.")]
Rate = Annotated[
    float | None,
    typer.Option(min=0.001, max=MOST_REQUESTS, metavar="N", help="Requests a minute.", show_default=False),
]
Burst = Annotated[
    float | None,
    typer.Option(
        min=1, max=MOST_REQUESTS, metavar="N", help="Requests at once, before the rate counts.", show_default=False
    ),
]
NoRate = Annotated[bool, typer.Option("--no-rate", help="Take the limit of requests away.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Org = Annotated[str, typer.Argument(parser=_id, metavar="ORG", help="Id of the org.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Id of the key; it stands between wb_ and the next _.")]


# Orgs ---------------------------------------------------------------------------------------------------------------

orgs = _app("The orgs that may call, and what each may spend and ask. All work while the server runs.")


@orgs.command("add", epilog=example("orgs add acme --budget-usd 50 --period month"))
def add_org(
    org: Annotated[
        str | None, typer.Argument(parser=_id, metavar="ORG", help="Its id; without one a UUID is made.")
    ] = None,
    budget_usd: Budget = None,
    period: Period = None,
    rate_per_minute: Rate = None,
    burst: Burst = None,
    as_json: Json = False,
) -> None:
    """Add an org, and print its id."""
    from workbench.store import tenants

    id, limits = org or str(uuid.uuid4()), _limits(budget_usd, period, rate_per_minute, burst)
    _ask(lambda backend: tenants.add_org(backend, id, datetime.now(UTC), limits))
    _print_id(id, "org_id", as_json=as_json)


@orgs.command("set", epilog=example("orgs set acme --budget-usd 80 --rate-per-minute 120 --burst 40"))
def set_org(
    org: Org,
    budget_usd: Budget = None,
    period: Period = None,
    no_budget: NoBudget = False,
    rate_per_minute: Rate = None,
    burst: Burst = None,
    no_rate: NoRate = False,
) -> None:
    """Change what an org may spend and ask; the rest stays as it is."""
    from workbench.store import tenants

    limits = _changes(_limits(budget_usd, period, rate_per_minute, burst), no_budget=no_budget, no_rate=no_rate)
    _ask(lambda backend: tenants.set_org(backend, org, limits))
    note(f"Changed the org {org!r}.")


@orgs.command("list", epilog=example("orgs list --json"))
def list_orgs(
    org: Annotated[str | None, typer.Argument(metavar="ORG", help="Only this one.")] = None, as_json: Json = False
) -> None:
    """List the orgs: what each may spend, has spent, may ask."""
    from workbench.errors import NotFound
    from workbench.store import tenants

    known = [each for each in _ask(tenants.orgs) if org in (None, each.id)]
    if org is not None and not known:
        raise NotFound("org", org, f"add it with: workbench orgs add {org}")
    _print_tenants(known, _ask(lambda backend: _spent(backend, known)), as_json=as_json)


# Users --------------------------------------------------------------------------------------------------------------

users = _app("The users of an org, and what each may spend and ask. All work while the server runs.")


@users.command("add", epilog=example("users add acme --id ada --budget-usd 5 --period day"))
def add_user(
    org: Org,
    id: Annotated[
        str | None,
        typer.Option(parser=_id, metavar="ID", help="Without one a UUID is made.", show_default=False),
    ] = None,
    budget_usd: Budget = None,
    period: Period = None,
    rate_per_minute: Rate = None,
    burst: Burst = None,
    as_json: Json = False,
) -> None:
    """Add a user to an org, and print the id."""
    from workbench.store import tenants

    user, limits = id or str(uuid.uuid4()), _limits(budget_usd, period, rate_per_minute, burst)
    _ask(lambda backend: tenants.add_user(backend, org, user, datetime.now(UTC), limits))
    _print_id(user, "user_id", as_json=as_json)


@users.command("set", epilog=example("users set acme --id ada --no-budget"))
def set_user(
    org: Org,
    id: Annotated[str, typer.Option(parser=_id, metavar="ID", help="Which user.")],
    budget_usd: Budget = None,
    period: Period = None,
    no_budget: NoBudget = False,
    rate_per_minute: Rate = None,
    burst: Burst = None,
    no_rate: NoRate = False,
) -> None:
    """Change what a user may spend and ask; the rest stays as it is."""
    from workbench.store import tenants

    limits = _changes(_limits(budget_usd, period, rate_per_minute, burst), no_budget=no_budget, no_rate=no_rate)
    _ask(lambda backend: tenants.set_user(backend, org, id, limits))
    note(f"Changed the user {id!r} of {org!r}.")


@users.command("list", epilog=example("users list acme"))
def list_users(org: Org, as_json: Json = False) -> None:
    """List the users of an org, also those nobody added."""
    from workbench.store import tenants

    known = _ask(lambda backend: tenants.users(backend, org))
    _print_tenants(known, _ask(lambda backend: _spent(backend, known, org)), as_json=as_json)


# Keys ---------------------------------------------------------------------------------------------------------------

keys = _app("The keys with which programs call the server for an org. All work while the server runs.")


@keys.command("create", epilog=example("keys create acme --user ada --scope chat --expires-days 90"))
def create_key(
    org: Org,
    user: Annotated[
        str | None,
        typer.Option(
            parser=_id, metavar="ID", help="Whose; without a user the key is a user itself.", show_default=False
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help=f"What it may do, any of {', '.join(SCOPES)}; may be given more than once. By default chat and read. "
            "prompts saves prompts and moves their labels; admin moves protected ones too and reads /metrics, which are of all "
            "orgs; act-as-user names any user of its org.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="For people, such as where it is used.", show_default=False)
    ] = None,
    expires_days: Annotated[
        int | None,
        typer.Option(min=1, max=36_500, metavar="N", help="It works so long; by default for ever.", show_default=False),
    ] = None,
    budget_usd: Budget = None,
    period: Period = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once: only a hash of it is kept."""
    from workbench.store import tenants

    scopes = list(dict.fromkeys(scope or ("chat", "read")))
    if unknown := [each for each in scopes if each not in SCOPES]:
        raise InvalidRequest(f"there is no scope {unknown[0]!r}; choose from {', '.join(SCOPES)}")
    budget = _limits(budget_usd, period)
    if "budget_period" in budget and budget_usd is None:
        raise InvalidRequest("--period is for a budget; give --budget-usd too")
    made = _ask(
        lambda backend: tenants.create_key(
            backend,
            org,
            datetime.now(UTC),
            user_id=user,
            scopes=scopes,
            name=name,
            lifetime=None if expires_days is None else timedelta(days=expires_days),
            **budget,
        )
    )
    _print_new(made.id, made.text, as_json=as_json)


@keys.command("list", epilog=example("keys list acme --json"))
def list_keys(org: Org, as_json: Json = False) -> None:
    """List the keys of an org, those too that work no longer."""
    from workbench.store import tenants

    now, known = datetime.now(UTC), _ask(lambda backend: tenants.keys_of(backend, org))
    if as_json:
        write_json([_portable_key(key, now) for key in known])
    elif not known:
        note(f"The org {org!r} has no keys; make one: workbench keys create {org}")
    else:
        _print_keys(known, now)


@keys.command("rotate", epilog=example("keys rotate acme 0123456789abcdef"))
def rotate_key(
    org: Org,
    key: KeyId,
    grace_hours: Annotated[
        float, typer.Option(min=0, max=8_760, metavar="N", help="How long the old one still works.")
    ] = 24,
    as_json: Json = False,
) -> None:
    """Make a key that may do the same, and print it.

    The old one works a while longer. What the new one spends counts anew, if the key has a budget of its own.
    """
    from workbench.store import tenants

    grace = timedelta(hours=grace_hours)
    made = _ask(lambda backend: tenants.rotate_key(backend, org, key, datetime.now(UTC), grace))
    note(f"The old key {key} works for {grace_hours:g} more hours, unless it expires before.")
    _print_new(made.id, made.text, as_json=as_json)


@keys.command("revoke", epilog=example("keys revoke acme 0123456789abcdef"))
def revoke_key(org: Org, key: KeyId) -> None:
    """Let a key work no longer, from the next request on."""
    from workbench.store import tenants

    _ask(lambda backend: tenants.revoke_key(backend, org, key, datetime.now(UTC)))
    note(f"The key {key} of {org!r} works no longer.")


# Inside -------------------------------------------------------------------------------------------------------------


def _ask(work: Callable[[Backend], Awaitable[T]]) -> T:
    """What ``work`` returns for the store of the settings, which is made if need be."""
    from workbench.runtime import runtime

    async def run(backend: Backend) -> T:
        return await work(backend)

    return runtime().run(run(runtime().engine.store.backend))


def _limits(
    budget_usd: Decimal | None, period: str | None, rate: float | None = None, burst: float | None = None
) -> dict[str, Any]:
    """The limits that were named, by their columns."""
    named = {"budget_usd": budget_usd, "budget_period": period, "rate_per_minute": rate, "rate_burst": burst}
    given = {name: value for name, value in named.items() if value is not None}
    return given | ({"budget_period": None} if period == "ever" else {})


def _changes(limits: dict[str, Any], *, no_budget: bool, no_rate: bool) -> dict[str, Any]:
    taken = ({"budget_usd", "budget_period"} if no_budget else set()) | (
        {"rate_per_minute", "rate_burst"} if no_rate else set()
    )
    if taken & set(limits):
        raise InvalidRequest("a limit cannot be set and taken away at once; give one of the two")
    changes = limits | dict.fromkeys(sorted(taken))
    if not changes:
        raise InvalidRequest("nothing to change; name a limit, such as --budget-usd 50")
    return changes


def _print_id(id: str, name: str, *, as_json: bool) -> None:
    if as_json:
        write_json({name: id})
    else:
        write(f"{id}\n")


def _print_new(id: str, text: str, *, as_json: bool) -> None:
    if as_json:
        write_json({"id": id, "key": text})
        return
    write(f"{text}\n")
    note("Keep it in a safe place now: it is shown this once.")


async def _spent(backend: Backend, known: Sequence[Tenant], org: str | None = None) -> list[Decimal]:
    """What orgs, or users of one, have spent and hold, in the period of their budget or in this month."""
    from workbench.store import tenants

    now, found = datetime.now(UTC), []
    for each in known:
        period = "month" if each.budget_usd is None else each.budget_period
        spent, held = await tenants.spent(backend, org or each.id, each.id if org else None, period, now)
        found.append(spent + held)
    return found


def _print_tenants(known: Sequence[Tenant], spent: Sequence[Decimal], *, as_json: bool) -> None:
    if as_json:
        write_json([_portable_tenant(each) | {"spent_usd": exact(usd)} for each, usd in zip(known, spent, strict=True)])
        return
    rows = [
        (
            each.id,
            _day(each.created_at),
            _budget(each.budget_usd, each.budget_period),
            f"{dollars(usd)} ({usd / each.budget_usd:.0%})" if each.budget_usd else dollars(usd),
            "" if each.rate_per_minute is None else f"{each.rate_per_minute:g}",
            "" if each.rate_burst is None else f"{each.rate_burst:g}",
        )
        for each, usd in zip(known, spent, strict=True)
    ]
    _table(("id", "since", "budget", "spent", "a minute", "at once"), rows)
    note("Spent, with what is held for turns that run: in the period of the budget; without one, in this month.")


def _print_keys(known: Sequence[ApiKey], now: datetime) -> None:
    rows = [
        (
            key.id,
            key.state(now),
            key.name or "",
            key.user_id or "",
            " ".join(key.scopes),
            _budget(key.budget_usd, key.budget_period),
            _day(key.expires_at),
            _day(key.last_used_at),
        )
        for key in known
    ]
    _table(("id", "state", "name", "user", "scopes", "budget", "expires", "last used"), rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(*titles, box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column in table.columns:
        column.overflow = "fold"  # an id is there to be copied
    for row in rows:
        table.add_row(*map(clean, row))
    show(table)


def _budget(budget_usd: Decimal | None, period: str | None) -> str:
    return "" if budget_usd is None else f"${plain(budget_usd):,f} {f'a {period}' if period else 'in all'}"


def _day(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M}"


def _portable_tenant(each: Tenant) -> dict[str, Any]:
    return each._asdict() | {"created_at": instant(each.created_at), "budget_usd": exact(each.budget_usd)}


def _portable_key(key: ApiKey, now: datetime) -> dict[str, Any]:
    times = {name: getattr(key, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    return {
        "id": key.id,
        "org_id": key.org_id,
        "user_id": key.user_id,
        "name": key.name,
        "scopes": list(key.scopes),
        "state": key.state(now),
        "replaced_by": key.replaced_by,
        "budget_usd": exact(key.budget_usd),
        "budget_period": key.budget_period,
        **{name: time and instant(time) for name, time in times.items()},
    }
