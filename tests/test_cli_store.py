"""`workbench store` and `workbench chats --delete`, as somebody at a terminal or a script meets them."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from typer.testing import CliRunner

import workbench as wb
from tests.test_store import NOON, a_chat, a_turn, keep, two_turns
from workbench import runtime
from workbench.cli import app, store, terminal
from workbench.store import Store
from workbench.turns import DEFAULT_ID, Caller

if TYPE_CHECKING:
    from typer.testing import Result

ROOT = Path(__file__).parents[1]
BOB = Caller(DEFAULT_ID, "bob")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="workbench")


def run_store(*arguments: str) -> Result:
    return run("store", *arguments)


def as_json(*arguments: str) -> Any:
    result = run_store(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def ledger(no_key: Path) -> Path:
    """A store with two turns of the default user and two of Bob's, which nobody has open."""
    path = no_key / "store.duckdb"

    async def fill() -> None:
        store = await Store.open(str(path))
        await two_turns(store)
        await two_turns(store, BOB)
        store.close()

    asyncio.run(fill())
    return path


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    runtime.close()
    with duckdb.connect(str(path)) as connection:
        return connection.execute(sql).fetchall()


# Looking ------------------------------------------------------------------------------------------------------------


def test_check_of_a_healthy_ledger_ends_with_0(ledger: Path) -> None:
    result = run_store("check")

    assert result.exit_code == 0
    assert "✓ every reply that ended is billed once\n" in result.stdout
    assert result.stdout.endswith("\nThe ledger holds together.\n")


def test_check_of_a_broken_ledger_names_rule_and_rows_and_ends_with_1(ledger: Path) -> None:
    rows(ledger, "UPDATE usage SET thinking_tokens = 100 WHERE output_tokens = 7")
    ids = sorted(id for (id,) in rows(ledger, "SELECT id FROM usage WHERE output_tokens = 7"))

    result = run_store("check")

    assert result.exit_code == 1
    assert f"✗ thinking is part of the output: broken by 2 ({ids[0]}, {ids[1]})\n" in result.stdout
    assert result.stdout.endswith("\n1 of 16 rules are broken.\n")


def test_check_as_json_says_the_same_to_programs(ledger: Path) -> None:
    rows(ledger, "UPDATE usage SET thinking_tokens = 100 WHERE output_tokens = 7")

    result = run_store("check", "--json")
    said = json.loads(result.stdout)

    assert (result.exit_code, said["ok"], len(said["checks"])) == (1, False, 16)
    (broken,) = [finding for finding in said["checks"] if not finding["ok"]]
    assert (broken["name"], broken["broken"], len(broken["ids"])) == ("thinking_above_output", 2, 2)


def test_info_says_where_how_large_how_old_and_how_much(ledger: Path) -> None:
    known = as_json("info")

    assert known["store"] == str(ledger)
    assert known["bytes"] == ledger.stat().st_size
    assert known["owner_pid"] == os.getpid()
    assert known["schema_version"] >= 1
    assert (known["engine"], known["file_version"]) == (f"DuckDB v{duckdb.__version__}", "v2.0.0+")
    assert (known["rows"]["usage"], known["rows"]["messages"], known["rows"]["chats"]) == (4, 8, 2)
    assert (known["first_call"], known["last_call"]) == ("2026-11-24T12:00:00.000Z", "2026-11-24T12:00:00.000Z")
    assert known["open_holds"] == 0


def test_info_for_people_has_a_line_for_each(ledger: Path) -> None:
    lines = run_store("info").stdout.splitlines()

    assert [line.split("  ")[0] for line in lines[:2]] == ["store", "bytes"]
    assert [line.split()[-1] for line in lines if line.startswith("rows of usage")] == ["4"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check",),
        ("info",),
        ("snapshot", "x"),
        ("backup", "x"),
        ("export", "x"),
        ("vacuum",),
        ("prune",),
        ("retain",),
        ("erase", "--org", "o", "--yes"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_where_there_is_no_store_none_is_made(no_key: Path, arguments: tuple[str, ...]) -> None:
    result = run_store(*arguments)

    path = no_key / "store.duckdb"
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: there is no store at {path} yet; it is made by the first question\n"
    assert [entry.name for entry in no_key.iterdir()] == [".env"]


def test_a_store_of_a_newer_version_is_left_alone_with_a_sentence(ledger: Path) -> None:
    rows(ledger, "INSERT INTO schema_version VALUES (99, 'new', now())")

    result = run_store("check")

    assert result.exit_code == 1
    assert "was written by a newer workbench (its tables are version 99" in result.stderr


def test_the_store_named_on_the_command_line_is_looked_at(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE", "elsewhere.duckdb")

    assert run("--store", str(ledger), "store", "check").exit_code == 0


def test_every_command_has_help_with_an_example() -> None:
    for command in store.app.registered_commands:
        assert command.callback is not None
        name = command.callback.__name__
        result = run_store(name, "--help")
        assert (result.exit_code, f"Example:\n    workbench store {name}" in result.stdout) == (0, True)


# Copying ------------------------------------------------------------------------------------------------------------


def test_a_backup_is_made_and_restored_and_says_where_the_old_store_is(ledger: Path, tmp_path: Path) -> None:
    made = run_store("backup", str(tmp_path / "b.duckdb"))
    assert (made.exit_code, "it opens and holds together" in made.stderr) == (0, True)
    runtime.close()

    refused = run_store("restore", str(tmp_path / "b.duckdb"))
    assert (refused.exit_code, "with --force it is moved aside" in refused.stderr) == (1, True)

    done = run_store("restore", str(tmp_path / "b.duckdb"), "--force")
    (aside,) = tmp_path.glob("store.duckdb.before-restore-*")
    assert (done.exit_code, f"What was there is in {aside}." in done.stderr) == (0, True)
    assert rows(ledger, "SELECT COUNT(*) FROM usage") == [(4,)]


def test_a_backup_of_a_broken_ledger_is_made_and_ends_with_1(ledger: Path, tmp_path: Path) -> None:
    rows(ledger, "UPDATE usage SET cost_usd = -1")

    result = run_store("backup", str(tmp_path / "b.duckdb"))

    assert (result.exit_code, (tmp_path / "b.duckdb").exists()) == (1, True)
    assert "was made and opens, but the ledger does not hold together: not so: no count and no cost" in result.stderr


@pytest.mark.parametrize("command", ["snapshot", "backup", "export"])
def test_what_is_there_is_not_overwritten(ledger: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "mine").write_text("mine")

    result = run_store(command, str(tmp_path / "mine"))

    assert (result.exit_code, (tmp_path / "mine").read_text()) == (1, "mine")
    assert result.stderr == f"Error: {tmp_path / 'mine'} exists already; choose another name, or move it away\n"


def test_a_snapshot_by_a_relative_path_lands_in_the_folder_one_is_in(ledger: Path, tmp_path: Path) -> None:
    assert run_store("snapshot", "here.duckdb").exit_code == 0
    assert rows(tmp_path / "here.duckdb", "SELECT COUNT(*) FROM messages") == [(8,)]


def test_export_counts_its_rows(ledger: Path, tmp_path: Path) -> None:
    assert as_json("export", str(tmp_path / "out"), "--since", "2026-11-24") == {"usage": 4, "messages": 8}
    assert (tmp_path / "out" / "usage" / "day=2026-11-24" / "part-0.parquet").exists()


def test_export_of_no_time_at_all_is_wrong_usage(ledger: Path, tmp_path: Path) -> None:
    result = run_store("export", str(tmp_path / "out"), "--since", "2026-11-25", "--until", "2026-11-24")

    assert (result.exit_code, (tmp_path / "out").exists()) == (2, False)
    assert "nothing is between 2026-11-25 and 2026-11-24; swap the two" in result.stderr


def test_copy_makes_a_store_that_is_the_same(ledger: Path, tmp_path: Path) -> None:
    counts = as_json("copy", str(ledger), str(tmp_path / "new" / "store.duckdb"))

    assert (counts["usage"], counts["messages"], counts["chats"]) == (4, 8, 2)
    everything = "SELECT * FROM usage ORDER BY id"
    assert rows(tmp_path / "new" / "store.duckdb", everything) == rows(ledger, everything)


@pytest.mark.parametrize(
    ("source", "target", "code", "sentence"),
    [
        ("store.duckdb", "./store.duckdb", 2, "FROM and TO are the same store"),
        ("nowhere.duckdb", "new.duckdb", 1, "there is no store at nowhere.duckdb yet"),
    ],
)
def test_a_copy_of_nothing_or_onto_itself_is_refused(
    ledger: Path, source: str, target: str, code: int, sentence: str
) -> None:
    result = run_store("copy", source, target)

    assert (result.exit_code, sentence in result.stderr) == (code, True)
    assert not Path("new.duckdb").exists()


def test_vacuum_says_how_many_bytes_there_were_and_are(ledger: Path) -> None:
    before = ledger.stat().st_size

    result = run_store("vacuum")

    assert result.exit_code == 0
    assert result.stderr == f"{before:,} bytes before, {ledger.stat().st_size:,} bytes after.\n"
    assert rows(ledger, "SELECT COUNT(*) FROM usage") == [(4,)]


def test_vacuum_of_a_store_in_use_frees_space_for_new_rows(ledger: Path) -> None:
    assert len(wb.usage()) == 4  # this process has it open from here on

    result = run_store("vacuum")

    assert (result.exit_code, "The store is in use" in result.stderr) == (0, True)
    assert len(wb.usage()) == 4


def test_vacuum_leaves_a_postgresql_store_to_the_server(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE", "postgresql://localhost:1/ledger")
    result = run_store("vacuum")

    assert (result.exit_code, result.stderr[:55]) == (0, "PostgreSQL frees the space of deleted rows by itself; t")


# Erasing ------------------------------------------------------------------------------------------------------------


def test_a_chat_is_deleted_by_the_end_of_its_id(ledger: Path) -> None:
    chat_id = json.loads(run("chats", "--json").stdout)[0]["chat_id"]

    result = run("chats", "--delete", chat_id[-8:], "--yes")

    assert result.exit_code == 0
    assert result.stderr == "Deleted the chat 'hi' with 4 messages; what it cost stays in the ledger.\n"
    assert rows(ledger, "SELECT COUNT(*) FROM usage") == [(4,)]
    assert rows(ledger, f"SELECT COUNT(*) FROM messages WHERE chat_id = '{chat_id}'") == [(0,)]


def test_a_chat_is_renamed_by_the_end_of_its_id(ledger: Path) -> None:
    chat_id = json.loads(run("chats", "--json").stdout)[0]["chat_id"]

    result = run("chats", "--rename", chat_id[-8:], "Greetings")

    assert (result.exit_code, result.stderr) == (0, "The chat 'hi' is now called 'Greetings'.\n")
    assert rows(ledger, f"SELECT title FROM chats WHERE id = '{chat_id}'") == [("Greetings",)]
    assert run("chats", "--rename", chat_id[-8:], " ").exit_code == 2


def test_an_unknown_chat_is_not_deleted(ledger: Path) -> None:
    result = run("chats", "--delete", "0123456789ab", "--yes")

    assert result.exit_code == 1
    assert result.stderr == "Error: no chat '0123456789ab'; `workbench chats` lists the chats there are\n"


def test_an_erased_user_is_counted(ledger: Path) -> None:
    removed = as_json("erase", "--org", DEFAULT_ID, "--user", "bob", "--yes")

    assert removed == {"chats": 1, "messages": 4, "usage": 2}
    assert as_json("check")["ok"]
    assert rows(ledger, "SELECT COUNT(*) FROM usage WHERE user_id = 'bob'") == [(0,)]


def test_an_erased_org_is_counted(ledger: Path) -> None:
    assert as_json("erase", "--org", DEFAULT_ID, "--yes") == {"chats": 2, "messages": 8, "usage": 4}
    assert rows(ledger, "SELECT COUNT(*) FROM usage") == [(0,)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("erase", "--org", "nobody", "--yes"), "no org 'nobody'; `workbench store retain` lists the orgs there are"),
        (("erase", "--org", DEFAULT_ID, "--user", "eve", "--yes"), "no user 'eve'; org"),
        (("retain", "--org", "nobody", "--days", "3"), "no org 'nobody'"),
    ],
)
def test_an_unknown_org_or_user_is_said_to_be_that(ledger: Path, arguments: tuple[str, ...], sentence: str) -> None:
    result = run_store(*arguments)

    assert (result.exit_code, sentence in result.stderr) == (1, True)
    assert rows(ledger, "SELECT COUNT(*) FROM messages") == [(8,)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("store", "erase", "--org", DEFAULT_ID),
        ("store", "erase", "--org", DEFAULT_ID, "--user", "bob"),
        ("chats", "--delete", "CHAT"),
    ],
)
def test_where_nobody_can_be_asked_nothing_is_erased(ledger: Path, arguments: tuple[str, ...]) -> None:
    chat_id = json.loads(run("chats", "--json").stdout)[0]["chat_id"]

    result = run(*(argument.replace("CHAT", chat_id) for argument in arguments))

    assert (result.exit_code, "Nobody is there to be asked; --yes goes ahead" in result.stderr) == (2, True)
    assert rows(ledger, "SELECT COUNT(*) FROM messages") == [(8,)]


@pytest.mark.parametrize(
    ("answers", "code", "left"), [("y\ny\n", 0, 0), ("y\nn\n", 1, 8), ("\n", 1, 8), ("yes\nYES\n", 0, 0)]
)
def test_an_org_is_erased_once_both_questions_are_answered_with_yes(
    ledger: Path, answers: str, code: int, left: int
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answers.encode())
    ended = subprocess.run(
        [sys.executable, "-m", "workbench", "store", "erase", "--org", DEFAULT_ID],
        stdin=theirs,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    os.close(ours)
    os.close(theirs)

    assert ended.returncode == code, ended.stderr
    assert ended.stderr.startswith(f"Erase org '{DEFAULT_ID}' with all its users, chats, prompts and usage? [y/N] ")
    assert rows(ledger, "SELECT COUNT(*) FROM messages") == [(left,)]


def test_yes_said_beforehand_asks_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.agreed("Erase it?", yes=True)
    assert capsys.readouterr() == ("", "")


def test_retention_is_set_shown_and_lifted(ledger: Path) -> None:
    assert as_json("retain", "--org", DEFAULT_ID, "--days", "30") == [{"org_id": DEFAULT_ID, "retain_days": 30}]
    assert run_store("retain").stderr == f"{DEFAULT_ID}: kept 30 days after the last use\n"
    assert as_json("retain", "--org", DEFAULT_ID, "--forever") == [{"org_id": DEFAULT_ID, "retain_days": None}]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--days", "3"),
        ("--org", "o"),
        ("--forever",),
        ("--org", "o", "--days", "3", "--forever"),
        ("--org", "o", "--days", "0"),
        ("--org", "o", "--days", "1000000"),  # before the first year there is
    ],
)
def test_a_retention_half_said_is_wrong_usage(ledger: Path, arguments: tuple[str, ...]) -> None:
    assert run_store("retain", *arguments).exit_code == 2


def test_prune_says_what_it_deleted(ledger: Path) -> None:
    asyncio.run(begin_today(ledger))
    rows(
        ledger,
        "UPDATE chats SET updated_at = updated_at - INTERVAL 9 DAY, created_at = created_at - INTERVAL 9 DAY "
        "WHERE title = 'hi'",
    )
    as_json("retain", "--org", DEFAULT_ID, "--days", "5")

    assert as_json("prune") == [{"org_id": DEFAULT_ID, "chats": 2, "messages": 8}]
    assert run_store("prune").stderr == f"{DEFAULT_ID}: deleted 0 chats with 0 messages\n"
    assert rows(ledger, "SELECT content FROM messages ORDER BY seq") == [("today",), ("Hello",)]


async def begin_today(path: Path) -> None:
    from datetime import UTC, datetime

    store = await Store.open(str(path))
    await keep(store, a_turn(a_chat(), "today", started_at=max(NOON, datetime.now(UTC))))
    store.close()


def test_prune_without_any_retention_says_how_to_set_one(ledger: Path) -> None:
    result = run_store("prune")

    assert (result.exit_code, result.stderr) == (
        0,
        "Every org keeps its chats for ever; `workbench store retain` sets how long.\n",
    )
