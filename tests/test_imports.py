"""What was recorded elsewhere, in the ledger: totals known by hand, nothing twice, nothing that breaks it."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import sqlite3
import zipfile
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


# llm ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def logs_db(tmp_path: Path) -> Path:
    path = tmp_path / "logs.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript((FIXTURES / "llm" / "logs.sql").read_text())
    return path


def test_llm_has_its_chats_of_both_kinds_of_tables(logs_db: Path) -> None:
    found = wb.import_usage(logs_db)

    calls = wb.usage()
    # sonnet 0.00018 and 0.00627, haiku 0.00002 (estimated) and 0.00075; the price of gpt-4o-mini is not known here
    assert totals(calls) == (5, 3670, 100, Decimal("0.00722"))
    assert (found.unpriced_calls, found.estimated_calls, found.malformed) == (1, 1, 1)
    assert "'01k40000000000000000000015' has -5 for input_tokens" in found.problems[0].reason
    written = calls[calls.cache_write_1h_tokens > 0].iloc[0]
    assert written[["cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"]].tolist() == [2000, 400, 600]
    cached = calls[calls.model == "gpt-4o-mini"].iloc[0]
    assert cached[["uncached_input_tokens", "cache_read_tokens", "thinking_tokens"]].tolist() == [36, 64, 4]
    said = wb.messages(search="turnover").iloc[0]
    assert (said.title, said.seq) == ("What is stock?", 3)
    assert wb.messages(said.chat_id).content.tolist()[1::2] == ["Goods kept for sale.", "How often it sells in a year."]
    assert wb.Chat.open(said.chat_id).messages[3].token_count == 30
    again(logs_db)


def test_a_chat_that_went_on_in_llm_goes_on_here(logs_db: Path) -> None:
    wb.import_usage(logs_db)
    with contextlib.closing(sqlite3.connect(logs_db)) as database:
        database.executescript(
            """INSERT INTO turns VALUES ('01k40000000000000000000017', '01k40000000000000000000002', 'h5', 'h6',
                   'claude-haiku-4-5', NULL, '{}', NULL, 700, 70, NULL, 900, '2026-10-02T08:00:00.000000+00:00');
            INSERT INTO turn_search VALUES (3, '01k40000000000000000000017', 'Twice', '84')"""
        )

    found = wb.import_usage(logs_db)
    assert (found.new_calls, found.new_chats, found.new_messages) == (1, 0, 2)
    chat = wb.chats("Count the rows").iloc[0]
    assert str(chat.updated_at) == "2026-10-02 08:00:00+00:00"
    assert wb.messages(chat.chat_id).seq.tolist() == [1, 2, 3, 4]


def test_an_old_database_lacks_columns(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.executescript(
            """CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
            CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, prompt_json TEXT,
                options_json TEXT, response TEXT, response_json TEXT, conversation_id TEXT, duration_ms INTEGER,
                datetime_utc TEXT);
            INSERT INTO responses VALUES ('a', 'gpt-4', 'Hi', NULL, NULL, NULL, 'Hello', NULL, NULL, 5,
                '2023-11-07T05:00:00.123456')"""
        )

    assert wb.import_usage(tmp_path / "old.db").estimated_calls == 1


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_database_of_llm(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "logs.db").write_bytes(content)
    with contextlib.suppress(wb.InvalidRequest):
        assert wb.import_usage(tmp_path / "logs.db", "llm").problems[0].reason.startswith("cannot be read to its end")
    assert wb.usage().empty


# ChatGPT and Claude -------------------------------------------------------------------------------------------------


def test_chatgpt_has_the_current_branch_estimated_and_its_cost_unknown() -> None:
    found = wb.import_usage(FIXTURES / "chatgpt")

    calls = wb.usage()
    # 10 + 7, then 18 + 7 after these and the first reply; the second is 4 and code for a tool, 4 too
    assert totals(calls) == (2, 17 + 51, 9 + 8, Decimal(0))
    assert calls.cost_usd.isna().all() and calls.usage_estimated.all() and set(calls.model) == {"gpt-5"}
    assert (found.unpriced_calls, found.left_out) == (2, {"chats without a reply": 1})
    assert str(found.problems[0]).endswith(": chat 3 has a value of type str where its time should be")
    assert wb.messages().content.tolist() == [
        "Which prices are older than a year",
        "Two of them are from last spring",
        "[image_asset_pointer]\n\nDraw the others as a line",
        "Here is the line",
    ]
    again(FIXTURES / "chatgpt")


def test_another_branch_of_a_chat_becomes_a_branch_here(tmp_path: Path) -> None:
    wb.import_usage(FIXTURES / "chatgpt")
    chats = json.loads((FIXTURES / "chatgpt" / "conversations.json").read_text())
    nodes = chats[0]["mapping"]
    nodes["n9"] = json.loads(json.dumps(nodes["n8"]).replace('"n8"', '"n9"').replace("Here is", "This is"))
    nodes["n9"]["parent"] = "n5"
    chats[0]["current_node"] = "n9"
    export = tmp_path / "conversations.json"
    export.write_text(json.dumps(chats))

    found = wb.import_usage(export)
    assert (found.new_calls, found.new_chats, found.new_messages) == (1, 1, 4)
    branch = wb.chats().iloc[0]
    assert branch.forked_from == wb.chats().iloc[1].chat_id
    assert wb.messages(branch.chat_id).content.tolist()[3] == "This is the line"
    again(export)
    again(FIXTURES / "chatgpt")  # the older export is still all there


def test_claude_has_attachments_and_thinking_in_its_counts() -> None:
    wb.import_usage(FIXTURES / "claude" / "conversations.json")

    calls = wb.usage()
    # 8 + 10 + 7, then 4 + 7 after these and 6 + 6 of the first reply; the other chat 2 + 7
    assert totals(calls) == (3, 25 + 48 + 9, 12 + 2 + 2, Decimal("0.000429"))
    assert calls.model.tolist() == ["claude-sonnet-4-5", "claude-sonnet-4-5", "claude.ai"]
    assert calls.cost_usd.isna().tolist() == [False, False, True]
    chat = wb.Chat.open(wb.chats("deliveries").iloc[0].chat_id)
    assert chat.messages[0].content == "Which deliveries are late"
    assert [block["text"] for block in chat.messages[0].blocks] == [
        "orders.csv\norder due arrived",
        "Which deliveries are late",
    ]
    again(FIXTURES / "claude")


def test_an_export_can_stay_in_its_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.write(FIXTURES / "claude" / "conversations.json", "data/conversations.json")
        archive.writestr("data/users.json", "[]")

    assert wb.import_usage(tmp_path / "export.zip").files == {"claude": 1}
    assert len(wb.usage()) == 3


# LiteLLM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["spend_logs.json", "spend_logs.csv", "spend_logs.jsonl"])
def test_litellm_says_what_others_cost(tmp_path: Path, file: str) -> None:
    path = FIXTURES / "litellm" / file
    if file.endswith(".jsonl"):
        rows = json.loads(path.with_suffix(".json").read_text())
        path = tmp_path / file
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = wb.import_usage(path)

    calls = wb.usage()
    # ours: 0.0081, a failed one 0; theirs: 0.000123; what they wrote down as 0 without knowing a price is unknown
    assert totals(calls) == (4, 3810, 190, Decimal("0.008223"))
    assert calls.cost_usd.isna().tolist() == [False, False, True, False]
    assert calls.price_source[1] == "LiteLLM's spend log" and calls.price_source[0].startswith("genai-prices")
    counts = ["uncached_input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"]
    assert calls.loc[0, [*counts, "thinking_tokens"]].tolist() == [300, 2000, 400, 600, 30]
    assert calls.loc[0, ["user_id", "ttft_ms", "duration_ms"]].tolist() == ["ada.example.com", 1250, 3500]
    assert calls.loc[3, ["status", "error_type"]].tolist() == ["failed", "RateLimitError"]
    assert (found.malformed, found.left_out) == (1, {"that LiteLLM answered from its own cache": 1})
    assert found.problems[0].reason == "has -1 for prompt_tokens, which is no count"
    again(FIXTURES / "litellm")
