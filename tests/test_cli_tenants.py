"""`workbench orgs`, `users` and `keys`, as whoever runs a server meets them."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.test_classes import call, write
from workbench import keys
from workbench.cli import app
from workbench.store import Store
from workbench.turns import DEFAULT_ID, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

pytestmark = pytest.mark.usefixtures("no_key")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="workbench")


def done(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def as_json(*arguments: str) -> Any:
    return json.loads(done(*arguments, "--json"))


@pytest.fixture
def acme() -> str:
    """An org with a user."""
    done("orgs", "add", "acme")
    done("users", "add", "acme", "--id", "ada")
    return "acme"


def limits(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["budget_usd"], row["budget_period"], row["rate_per_minute"], row["rate_burst"]


# Orgs and users -----------------------------------------------------------------------------------------------------

ALL = ("--budget-usd", "0.10", "--period", "month", "--rate-per-minute", "90", "--burst", "7")


def test_an_org_without_an_id_gets_a_uuid_which_is_printed_alone() -> None:
    printed = done("orgs", "add")

    assert str(uuid.UUID(printed.strip())) == printed.removesuffix("\n")
    assert [row["id"] for row in as_json("orgs", "list")] == sorted([DEFAULT_ID, printed.strip()])


def test_a_user_without_an_id_gets_a_uuid_which_is_printed_alone(acme: str) -> None:
    printed = done("users", "add", acme)

    assert str(uuid.UUID(printed.strip())) == printed.removesuffix("\n")
    assert {row["id"] for row in as_json("users", "list", acme)} == {"ada", printed.strip()}


def test_ids_are_printed_as_json_too() -> None:
    assert as_json("orgs", "add", "acme") == {"org_id": "acme"}
    assert as_json("users", "add", "acme", "--id", "ada") == {"user_id": "ada"}


def test_the_limits_of_an_org_are_kept_to_the_last_digit() -> None:
    done("orgs", "add", "acme", *ALL)

    (row,) = as_json("orgs", "list", "acme")
    assert limits(row) == ("0.1", "month", 90.0, 7.0)
    limited = {"budget_usd", "budget_period", "rate_per_minute", "rate_burst"}
    assert set(row) == {"id", "created_at", "spent_usd", *limited}


def test_the_limits_of_a_user_are_kept_to_the_last_digit(acme: str) -> None:
    done("users", "add", acme, "--id", "bob", *ALL)

    bob = next(row for row in as_json("users", "list", acme) if row["id"] == "bob")
    assert limits(bob) == ("0.1", "month", 90.0, 7.0)


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        (("--budget-usd", "2"), ("2", "month", 90.0, 7.0)),
        (("--period", "day"), ("0.1", "day", 90.0, 7.0)),
        (("--period", "ever"), ("0.1", None, 90.0, 7.0)),
        (("--no-budget",), (None, None, 90.0, 7.0)),
        (("--no-rate", "--budget-usd", "0"), ("0", "month", None, None)),
        (("--rate-per-minute", "0.5"), ("0.1", "month", 0.5, 7.0)),
    ],
)
@pytest.mark.parametrize("group", ["orgs", "users"])
def test_set_changes_what_is_named_and_leaves_the_rest(
    group: str, changes: tuple[str, ...], after: tuple[Any, ...]
) -> None:
    done("orgs", "add", "acme", *ALL)
    done("users", "add", "acme", "--id", "ada", *ALL)

    done(group, "set", "acme", *(("--id", "ada") if group == "users" else ()), *changes)

    (org,), (user,) = as_json("orgs", "list", "acme"), as_json("users", "list", "acme")
    changed, other = (org, user) if group == "orgs" else (user, org)
    assert limits(changed) == after
    assert limits(other) == ("0.1", "month", 90.0, 7.0)


def test_tables_say_the_same_to_people() -> None:
    done("orgs", "add", "acme", *ALL)
    done("users", "add", "acme", "--id", "ada", "--budget-usd", "12.5")

    (org,) = [line.split() for line in done("orgs", "list").splitlines() if line.startswith("acme")]
    (user,) = [line.split() for line in done("users", "list", "acme").splitlines() if line.startswith("ada")]
    assert [org[0], *org[3:]] == ["acme", "$0.1", "a", "month", "$0", "(0%)", "90", "7"]
    assert [user[0], *user[3:]] == ["ada", "$12.5", "in", "all", "$0", "(0%)"]


def test_lists_say_what_is_spent_of_budgets_and_without_one_in_this_month(monkeypatch: pytest.MonkeyPatch) -> None:
    done("orgs", "add", "acme", "--budget-usd", "12", "--period", "month")
    done("users", "add", "acme", "--id", "ada", "--budget-usd", "20")  # in all
    done("users", "add", "acme", "--id", "bob")
    now, million = datetime(2026, 11, 28, 12, tzinfo=UTC), Usage(uncached_input_tokens=1_000_000)
    last_month = datetime(2026, 10, 31, 23, 59, tzinfo=UTC)

    class Then(datetime):  # no month must end between the calls and the list
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return now

    monkeypatch.setattr("workbench.cli.tenants.datetime", Then)
    calls = [("ada", now), ("ada", last_month), ("bob", last_month), ("bob", now), ("bob", now)]
    write([call(at, "claude-opus-5-5", million, org_id="acme", user_id=user) for user, at in calls])  # $4 each

    spent = {row["id"]: row["spent_usd"] for row in as_json("users", "list", "acme") + as_json("orgs", "list", "acme")}
    assert spent == {"ada": "8", "bob": "8", "acme": "12"}
    assert "$12 (100%)" in done("orgs", "list", "acme") and "$8.00 (40%)" in done("users", "list", "acme")


# Keys ---------------------------------------------------------------------------------------------------------------


def test_a_new_key_is_alone_on_stdout_and_nowhere_again(acme: str) -> None:
    result = run("keys", "create", acme)
    text = result.stdout.removesuffix("\n")

    shown = keys.read(text)
    assert shown is not None
    assert "shown this once" in result.stderr
    later = run("keys", "list", acme).output + run("keys", "list", acme, "--json").output
    assert shown.id in later
    assert text[20:] not in later + result.stderr
    assert shown.secret_sha256 not in later


def test_a_key_may_chat_and_read_unless_it_is_said_otherwise(acme: str) -> None:
    id = as_json("keys", "create", acme)["id"]

    (row,) = as_json("keys", "list", acme)
    assert row == {
        "id": id,
        "org_id": "acme",
        "user_id": None,
        "name": None,
        "scopes": ["chat", "read"],
        "state": "active",
        "replaced_by": None,
        "budget_usd": None,
        "budget_period": None,
        "created_at": row["created_at"],
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }


def test_a_key_is_as_the_options_say(acme: str) -> None:
    options = ("--user", "ada", "--scope", "read", "--scope", "act-as-user", "--name", "reports")
    done("keys", "create", acme, *options, "--expires-days", "30", "--budget-usd", "0.000000001", "--period", "day")

    (row,) = as_json("keys", "list", acme)
    assert (row["user_id"], row["scopes"], row["name"]) == ("ada", ["read", "act-as-user"], "reports")
    assert (row["budget_usd"], row["budget_period"]) == ("0.000000001", "day")
    lives = datetime.fromisoformat(row["expires_at"]) - datetime.fromisoformat(row["created_at"])
    assert lives == timedelta(days=30)


def test_rotate_prints_the_new_key_and_lets_the_old_one_work_a_day(acme: str) -> None:
    old = as_json("keys", "create", acme, "--name", "ci")["id"]

    new = keys.read(done("keys", "rotate", acme, old).removesuffix("\n"))

    assert new is not None
    rows = {row["id"]: row for row in as_json("keys", "list", acme)}
    assert [(rows[id]["state"], rows[id]["name"]) for id in (old, new.id)] == [("replaced", "ci"), ("active", "ci")]
    assert rows[old]["replaced_by"] == new.id
    grace = datetime.fromisoformat(rows[old]["expires_at"]) - datetime.fromisoformat(rows[new.id]["created_at"])
    assert grace == timedelta(days=1)


def test_without_grace_the_old_key_works_no_longer(acme: str) -> None:
    old = as_json("keys", "create", acme)["id"]

    done("keys", "rotate", acme, old, "--grace-hours", "0")

    assert [row["state"] for row in as_json("keys", "list", acme) if row["id"] == old] == ["expired"]


def test_revoke_says_so_and_may_be_done_again(acme: str) -> None:
    id = as_json("keys", "create", acme)["id"]

    assert run("keys", "revoke", acme, id).stderr == f"The key {id} of 'acme' works no longer.\n"
    assert run("keys", "revoke", acme, id).exit_code == 0
    assert [row["state"] for row in as_json("keys", "list", acme)] == ["revoked"]


def test_the_table_of_keys_says_what_each_is_for(acme: str) -> None:
    id = as_json("keys", "create", acme, "--user", "ada", "--name", "ci\x1b[31m", "--budget-usd", "0.0000003")["id"]

    (line,) = [line for line in done("keys", "list", acme).splitlines() if line.startswith(id)]
    assert line.split() == [id, "active", "ci[31m", "ada", "chat", "read", "$0.0000003", "in", "all"]


# While it is in use ---------------------------------------------------------------------------------------------------


@pytest.fixture
def in_use(no_key: Path) -> Iterator[Store]:
    """The same store, open before the commands and after them."""
    store = asyncio.run(Store.open(str(no_key / "store.duckdb")))
    yield store
    store.close()


def test_all_is_seen_at_once_by_who_has_the_store_open(in_use: Store) -> None:
    from workbench import runtime
    from workbench.store import tenants

    done("orgs", "add", "acme", "--burst", "3")
    made = as_json("keys", "create", "acme")
    runtime.close()

    found = asyncio.run(tenants.find_key(in_use.backend, made["id"]))
    assert found is not None
    assert found.org_id == "acme"


# What does not fit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("orgs", "add", "acme"), 1, "the org 'acme' is there already; change it with: workbench orgs set acme"),
        (("users", "add", "acme", "--id", "ada"), 1, "the user 'ada' is there already"),
        (("orgs", "set", "nobody", "--burst", "2"), 1, "no org 'nobody'; add it with: workbench orgs add nobody"),
        (("orgs", "list", "nobody"), 1, "no org 'nobody'"),
        (("users", "list", "nobody"), 1, "no org 'nobody'"),
        (("users", "set", "acme", "--id", "bob", "--burst", "2"), 1, "workbench users add acme --id bob"),
        (("keys", "create", "acme", "--user", "bob"), 1, "no user 'bob'"),
        (("keys", "revoke", "acme", "0123"), 1, "no key '0123'; workbench keys list acme shows the ids"),
        (("keys", "rotate", "acme", "0123"), 1, "no key '0123'"),
        (("orgs", "set", "acme"), 2, "nothing to change; name a limit"),
        (("orgs", "set", "acme", "--no-budget", "--period", "day"), 2, "set and taken away at once"),
        (("orgs", "add", "a b"), 2, "'a b' is no id"),
        (("users", "add", "acme", "--id", "a/b"), 2, "'a/b' is no id"),
        (("orgs", "add", "--budget-usd", "much"), 2, "'much' is no amount"),
        (("orgs", "add", "--budget-usd", "-1"), 2, "'-1' is no budget"),
        (("orgs", "add", "--budget-usd", "nan"), 2, "'nan' is no budget"),
        (("orgs", "add", "--budget-usd", "1000000000"), 2, "less than 1,000,000,000"),
        (("orgs", "add", "--budget-usd", "0.0000000001"), 2, "is no budget"),
        (("orgs", "add", "--period", "year"), 2, "'year' is not one of 'day', 'month', 'ever'"),
        (("orgs", "add", "--rate-per-minute", "0"), 2, "should be greater than or equal to 0.001"),
        (("orgs", "set", "acme", "--rate-per-minute", "inf"), 2, "should be less than or equal to 1000000000"),
        (("orgs", "set", "acme", "--burst", "inf"), 2, "should be less than or equal to 1000000000"),
        (
            ("keys", "create", "acme", "--scope", "all"),
            2,
            "there is no scope 'all'; choose from chat, read, prompts, admin",
        ),
        (("keys", "create", "acme", "--period", "day"), 2, "--period is for a budget"),
        (("keys", "create", "acme", "--expires-days", "0"), 2, "should be greater than or equal to 1"),
        (("keys", "create"), 2, "Missing argument 'ORG'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_fails_is_a_sentence_and_a_code(acme: str, arguments: tuple[str, ...], code: int, says: str) -> None:
    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (code, "")
    assert says in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "command",
    [
        *(("orgs", name) for name in ("add", "set", "list")),
        *(("users", name) for name in ("add", "set", "list")),
        *(("keys", name) for name in ("create", "list", "rotate", "revoke")),
    ],
    ids=" ".join,
)
def test_help_has_an_example_that_names_the_command(command: tuple[str, str]) -> None:
    said = done(*command, "--help")

    assert f"Example:\n    workbench {' '.join(command)}" in said
