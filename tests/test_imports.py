"""What was recorded elsewhere, in the ledger: totals known by hand, nothing twice, nothing that breaks it."""

from __future__ import annotations

import gzip
import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import workbench as wb
from workbench.cli import app
from workbench.ledger import imports
from workbench.runtime import runtime
from workbench.store.check import check

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

FIXTURES = Path(__file__).parent / "imports"
CLAUDE_CODE = FIXTURES / "claude-code" / "projects"


@pytest.fixture(autouse=True)
def whole(no_key: Path) -> Iterator[None]:
    """Whatever was imported, the ledger holds together afterwards."""
    yield
    assert broken() == []


def broken() -> list[str]:
    findings = runtime().run(check(runtime().engine.store.backend))
    return [finding.name for finding in findings if not finding.ok]


def everything() -> dict[str, list[Any]]:
    backend = runtime().engine.store.backend
    tables = ("usage", "chats", "messages", "users")
    return {name: sorted(map(str, runtime().run(backend.rows(f"SELECT * FROM {name}")))) for name in tables}


def again(*arguments: Any, **options: Any) -> None:
    """A second import changes nothing."""
    before = everything()
    found = wb.import_usage(*arguments, **options)
    assert (found.new_calls, found.new_chats, found.new_messages) == (0, 0, 0)
    assert everything() == before


def totals(frame: pd.DataFrame) -> tuple[int, int, int, Decimal]:
    known = frame.cost_usd.dropna()
    return len(frame), frame.input_tokens.sum(), frame.output_tokens.sum(), sum(known, Decimal(0))


# Claude Code --------------------------------------------------------------------------------------------------------


def test_claude_code_counts_each_reply_once() -> None:
    found = wb.import_usage(CLAUDE_CODE)

    calls = wb.usage()
    # 0.015224 with writes for 5 minutes and an hour, 0.024056 with two searches, 0.00102 estimated, 0.0015 of haiku
    assert totals(calls) == (5, 17_532, 828, Decimal("0.0418"))
    assert (found.files, found.calls, found.malformed) == ({"claude-code": 3}, 7, 1)
    assert set(calls.source) == {"import"}
    first = calls.iloc[0]
    assert (first.uncached_input_tokens, first.cache_read_tokens) == (12, 5000)
    assert (first.cache_write_5m_tokens, first.cache_write_1h_tokens) == (1000, 2000)
    assert first.cost_usd == Decimal("0.015224")
    assert str(first.started_at) == "2026-10-20 09:00:04.100000+00:00"
    assert calls.iloc[1][["cache_write_5m_tokens", "thinking_tokens", "web_searches"]].tolist() == [500, 50, 2]
    assert wb.usage(by="chat_id").calls.tolist() in ([4, 1], [1, 4])  # a session each, a subagent in its parent's
    again(CLAUDE_CODE)


def test_a_price_that_is_not_known_is_never_zero() -> None:
    wb.import_usage(CLAUDE_CODE)

    unknown = wb.usage(where={"model": "claude-9"})
    assert unknown.cost_usd.isna().all() and unknown.price_source.tolist() == ["unknown"]


def test_a_reply_without_its_final_counts_is_estimated() -> None:
    wb.import_usage(CLAUDE_CODE)

    estimated = wb.usage()[lambda calls: calls.usage_estimated]
    assert estimated[["output_tokens", "cost_usd"]].values.tolist() == [[100, Decimal("0.00102")]]


def test_what_cannot_be_read_is_named_with_its_line() -> None:
    found = wb.import_usage(CLAUDE_CODE, "claude-code")

    (problem,) = found.problems
    assert problem.path.endswith("5f0c2a34-0d5e-4f0b-9a53-0a4f3b1e7c11.jsonl")
    assert (problem.line, problem.reason.split(":")[0]) == (8, "is no JSON")


def test_a_session_that_grew_adds_what_is_new(tmp_path: Path) -> None:
    file = next(CLAUDE_CODE.rglob("5f0c*.jsonl"))
    lines = file.read_text().splitlines(keepends=True)
    growing = tmp_path / "session.jsonl"
    growing.write_text("".join(lines[:5]))
    assert wb.import_usage(growing).new_calls == 1

    growing.write_text("".join(lines))
    assert wb.import_usage(growing).new_calls == 2
    assert len(wb.usage()) == 3


def test_gzipped_it_is_the_same(tmp_path: Path) -> None:
    for file in CLAUDE_CODE.rglob("*.jsonl"):
        (tmp_path / f"{file.stem}.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))

    assert totals(wb.import_usage(tmp_path) and wb.usage()) == (5, 17_532, 828, Decimal("0.0418"))


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    file = next(CLAUDE_CODE.rglob("7d9e*.jsonl"))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(file.read_bytes())[:-8])  # without its checksum
    shutil.copy(next(CLAUDE_CODE.rglob("agent*.jsonl")), tmp_path / "b.jsonl")

    (problem,) = wb.import_usage(tmp_path, "claude-code").problems
    assert (problem.path[-10:], problem.line) == ("a.jsonl.gz", None)
    assert problem.reason.startswith("cannot be read to its end")
    assert len(wb.usage()) == 4


# On the command line ------------------------------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["import", *map(str, arguments)], prog_name="workbench")


def test_the_command_says_what_was_imported_and_what_was_skipped() -> None:
    result = run("claude-code", CLAUDE_CODE)

    assert result.exit_code == 0
    assert "Imported 5 calls from 2026-10-20 to 2026-10-21; 17,532 in + 828 out tokens, $0.04; " in result.stderr
    assert "of 1 the price is not known; the counts of 1 are estimates" in result.stderr
    assert ".jsonl:8: is no JSON" in result.stderr.replace("\n", "")
    assert "Imported 0 calls; 7 were there already" in run("auto", CLAUDE_CODE).stderr


def test_a_dry_run_writes_nothing() -> None:
    before = everything()["users"]
    found = json.loads(run("auto", CLAUDE_CODE, "--dry-run", "--json").stdout)

    assert (found["new_calls"], found["cost_usd"], found["malformed"]) == (5, "0.0418", 1)
    assert wb.usage().empty
    assert everything()["users"] == before


def test_into_an_org_that_exists() -> None:
    assert run("auto", CLAUDE_CODE, "--org", "acme").exit_code == 1
    CliRunner().invoke(app, ["orgs", "add", "acme"])
    assert run("auto", CLAUDE_CODE, "--org", "acme", "--user", "ada").exit_code == 0

    assert len(wb.usage(org="acme", where={"user_id": "ada"})) == 5
    assert len(wb.import_usage(CLAUDE_CODE) and wb.usage()) == 5  # another org's are its own


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("claude-code", "nowhere"), "there is no file or folder 'nowhere'"),
        (("fortran", CLAUDE_CODE), "there is no format 'fortran'"),
        (("auto", FIXTURES / "README.md"), "of no format that is known"),
    ],
)
def test_what_cannot_be_imported_is_said(arguments: tuple[object, ...], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())


def test_an_interrupted_import_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "AT_ONCE", 1)

    def stop(name: str, done: int, total: int) -> None:
        if len(wb.usage()) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wb.import_usage(CLAUDE_CODE, progress=stop)
    assert len(wb.usage()) == 2
    assert broken() == []

    wb.import_usage(CLAUDE_CODE)
    assert totals(wb.usage()) == (5, 17_532, 828, Decimal("0.0418"))
