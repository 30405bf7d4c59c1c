"""What was recorded elsewhere, in the ledger: totals known by hand, nothing twice, nothing that breaks it."""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import json
import os
import re
import shutil
import sqlite3
import tempfile
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import workbench as wb
from workbench.cli import app
from workbench.ledger import imports
from workbench.ledger.imports import reading
from workbench.runtime import close, runtime
from workbench.store.backend import Statement
from workbench.store.check import check
from workbench.turns import DEFAULT_ID, Caller

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
    assert "Skipped" in result.stderr
    assert "Imported 0 calls; 7 were there already" in run("auto", CLAUDE_CODE).stderr


def test_a_dry_run_writes_nothing() -> None:
    before = everything()["users"]
    found = json.loads(run("auto", CLAUDE_CODE, "--dry-run", "--json").stdout)

    assert (found["new_calls"], found["cost_usd"], found["malformed"]) == (5, "0.0418", 1)
    assert wb.usage().empty
    assert everything()["users"] == before


def test_a_dry_run_counts_what_is_in_two_files_once(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        shutil.copy(FIXTURES / "claude" / "conversations.json", tmp_path / name)
    looked, written = (wb.import_usage(tmp_path, dry_run=dry_run) for dry_run in (True, False))

    assert (looked.new_calls, looked.new_chats, looked.new_messages) == (3, 2, 6)
    assert (written.new_calls, written.new_chats, written.new_messages) == (3, 2, 6)


def test_budgets_bound_what_is_spent_here() -> None:
    store = runtime().engine.store
    set_budget = Statement("UPDATE orgs SET budget_usd = 0.02 WHERE id = $1", (DEFAULT_ID,))
    runtime().run(store.backend.write([set_budget]))
    wb.import_usage(CLAUDE_CODE)
    assert wb.usage().cost.sum() > 0.02

    (budget,) = runtime().run(store.budgets(Caller(), datetime.now(UTC)))
    assert (budget.limit_usd, budget.spent_usd) == (Decimal("0.02"), 0)
    wb.Chat(model="local").ask("hi", max_tokens=1)


def test_into_an_org_that_exists() -> None:
    assert run("auto", CLAUDE_CODE, "--org", "acme").exit_code == 1
    CliRunner().invoke(app, ["orgs", "add", "acme"])
    assert run("auto", CLAUDE_CODE, "--org", "acme", "--user", "ada").exit_code == 0

    assert len(wb.usage(org="acme", where={"user_id": "ada"})) == 5
    assert len(wb.import_usage(CLAUDE_CODE) and wb.usage()) == 5  # another org's are its own


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("llm", ""), "the path is empty; name a file or a folder"),
        (("claude-code", "nowhere"), "there is no file or folder 'nowhere'"),
        (("claude-code", "x" * 5000), "there is no file or folder"),
        (("claude-code", os.devnull), "there is no file or folder"),
        (("fortran", CLAUDE_CODE), "there is no format 'fortran'"),
        (("auto", FIXTURES / "README.md"), "of no format that is known"),
        (("auto", CLAUDE_CODE, "--user", "a b"), "'a b' is no id of a user"),
    ],
)
def test_what_cannot_be_imported_is_said(arguments: tuple[object, ...], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())


def test_pipes_and_links_to_nowhere_in_a_folder_are_left_alone(tmp_path: Path) -> None:
    shutil.copytree(CLAUDE_CODE, tmp_path / "projects")
    os.mkfifo(tmp_path / "projects" / "pipe.jsonl")  # to open it would wait for ever
    (tmp_path / "projects" / "gone.jsonl").symlink_to("nowhere")
    (tmp_path / "projects" / "self.jsonl").symlink_to("self.jsonl")
    assert wb.import_usage(tmp_path / "projects").new_calls == 5


def test_a_file_that_is_deleted_meanwhile_ends_no_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(CLAUDE_CODE, tmp_path / "projects")
    (tmp_path / "gone.jsonl").touch()

    def listed(path: Path) -> list[Path]:
        files = reading.files_at(path)
        (tmp_path / "gone.jsonl").unlink()
        return files

    monkeypatch.setattr(imports, "files_at", listed)
    found = wb.import_usage(tmp_path)

    assert found.new_calls == 5
    assert [problem.path for problem in found.problems if "cannot be read: " in problem.reason] == [
        str(tmp_path / "gone.jsonl")
    ]


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


def test_a_file_that_is_no_database_of_llm(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    path.write_bytes(b"no database")
    with pytest.raises(wb.InvalidRequest, match="is no SQLite database; `llm logs path` says where it is"):
        wb.import_usage(path, "llm")
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    (problem,) = wb.import_usage(path, "llm").problems

    assert problem.reason.startswith("cannot be read to its end")
    assert wb.usage().empty


def test_of_a_folder_what_is_something_else_is_left_alone(tmp_path: Path, logs_db: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE things (id TEXT)")
    (tmp_path / "package.json").write_text('{"name": "x"}')
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "a")

    found = wb.import_usage(tmp_path)
    assert (found.new_calls, found.left_out) == (5, {"files of no known format": 3})
    assert wb.import_usage(tmp_path, "claude").left_out == {
        "files of no known format": 2,
        "files of another format": 2,
    }
    with pytest.raises(wb.InvalidRequest, match="none of llm's tables"):
        wb.import_usage(tmp_path / "other.db")


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


def test_claude_messages_without_ids_are_all_there(tmp_path: Path) -> None:
    sides = ("human", "assistant") * 2
    chat = {"uuid": "c", "created_at": "2026-10-01T08:00:00Z", "chat_messages": [
        {"sender": side, "text": f"{side} {n}"} for n, side in enumerate(sides)
    ]}  # fmt: skip
    (tmp_path / "conversations.json").write_text(json.dumps([chat]))

    assert wb.import_usage(tmp_path).new_messages == 4
    assert wb.messages().content.tolist() == ["human 0", "assistant 1", "human 2", "assistant 3"]


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


def test_a_spend_that_no_call_can_have_is_unknown(tmp_path: Path) -> None:
    row = {"startTime": "2026-10-01T00:00:00Z", "model": "gpt-9", "custom_llm_provider": "openai", "prompt_tokens": 1}
    rows = [row | {"request_id": f"r{n}", "spend": 999_999.0} for n in range(1200)] + [
        row | {"request_id": "r", "spend": 9}
    ]
    (tmp_path / "spend.jsonl").write_text("\n".join(map(json.dumps, rows)))
    wb.import_usage(tmp_path / "spend.jsonl")
    # else they are more than the ledger can add up
    assert wb.usage(by="model")[["calls", "cost_usd", "unpriced_calls"]].to_numpy().tolist() == [
        [1201, Decimal(9), 1200]
    ]


# Everything, on both stores -----------------------------------------------------------------------------------------


@pytest.fixture(params=["file", "postgresql"])
def either_store(request: pytest.FixtureRequest, no_key: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "postgresql":
            patch.setenv("WORKBENCH_STORE", request.getfixturevalue("postgres_url"))
        yield
        assert broken() == []
        close()


@pytest.mark.usefixtures("either_store")
def test_all_formats_at_once_told_by_their_content(logs_db: Path) -> None:
    found = wb.import_usage([FIXTURES, logs_db])

    assert found.files == {"claude-code": 3, "llm": 1, "claude": 1, "chatgpt": 1, "litellm": 2}
    # of Claude Code, llm, ChatGPT, Claude and LiteLLM, whose rows are there twice
    cost = Decimal("0.0418") + Decimal("0.00722") + Decimal("0.000429") + Decimal("0.008223")
    assert totals(wb.usage()) == (
        5 + 5 + 2 + 3 + 4,
        17_532 + 3670 + 68 + 82 + 3810,
        828 + 100 + 17 + 16 + 190,
        cost,
    )
    assert (found.new_calls, found.cost_usd) == (19, cost)
    assert len(wb.chats()) == 4 + 1 + 2
    again([FIXTURES, logs_db])


HOSTILE: list[Any] = [
    None, True, -1, 10**30, 1e308, float("nan"), 0.5, "", "\x00", "\ud800", "x" * 100_000, "'); DROP TABLE usage; --",
    "0001-01-01", "9999-12-31T23:59:59-14:00", "2026-10-01", 1e18, -1e9, [], {}, [[]], {"a": None}, [None, {}, "a"],
    functools.reduce(lambda inner, _: [inner], range(400), []),
]  # fmt: skip


def spoiled(value: Any, chance: Random) -> Any:
    """The same with something in it that nobody expects."""
    if chance.random() < 0.04:
        return chance.choice(HOSTILE)
    if isinstance(value, dict):
        changed = {key: spoiled(each, chance) for key, each in value.items() if chance.random() > 0.01}
        return dict(chance.sample(list(changed.items()), len(changed)))
    return [spoiled(each, chance) for each in value] if isinstance(value, list) else value


IDS = re.compile(r"msg_01|68d0a1b2|0b000000|chatcmpl-000")


def copies(value: Any, chance: Random) -> list[Any]:
    """Many spoiled ones, of which some have an id in common."""
    text = json.dumps(value)
    return [spoiled(json.loads(IDS.sub(f"{n // 2:08d}", text)), chance) for n in range(80)]


def spoiled_file(path: Path, folder: Path, chance: Random) -> Path:
    file = folder / path.name
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        file.write_text("\n".join(json.dumps(copy) for line in lines for copy in copies(line, chance)))
    elif path.suffix == ".csv":
        rows = list(csv.DictReader(path.read_text().splitlines(keepends=True)))
        with file.open("w", errors="replace") as text:
            writer = csv.DictWriter(text, list(rows[0]), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(copy for row in rows for copy in copies(row, chance) if isinstance(copy, dict))
    else:
        values = json.loads(path.read_text())
        file.write_text(json.dumps([copy for value in values for copy in copies(value, chance)]))
    return file


SPOILED = {
    "claude-code": CLAUDE_CODE / "-home-ada-shop" / "5f0c2a34-0d5e-4f0b-9a53-0a4f3b1e7c11.jsonl",
    "claude": FIXTURES / "claude" / "conversations.json",
    "chatgpt": FIXTURES / "chatgpt" / "conversations.json",
    "litellm": FIXTURES / "litellm" / "spend_logs.json",
    "litellm as CSV": FIXTURES / "litellm" / "spend_logs.csv",
}


@pytest.mark.usefixtures("either_store")
@pytest.mark.parametrize("kind", SPOILED)
def test_nothing_in_a_file_breaks_the_import_or_the_ledger(tmp_path: Path, kind: str) -> None:
    format = kind.split()[0]
    for seed in range(3):  # the third once made a circle of branches
        file = spoiled_file(SPOILED[kind], tmp_path, Random(seed))
        found = wb.import_usage(file, format)
        assert found.malformed > 10 and found.calls > 10
        assert all(str(problem).startswith(str(file)) for problem in found.problems)
        again(file, format)
    assert wb.usage().cost_usd.dropna().map(lambda cost: cost >= 0).all()


@pytest.mark.usefixtures("either_store")
def test_nothing_in_a_database_breaks_the_import_or_the_ledger(logs_db: Path) -> None:
    chance = Random(1)
    values = [
        value.encode(errors="surrogatepass").decode(errors="replace") if isinstance(value, str) else value
        for value in (*HOSTILE, b"\xff\x00", "[" * 5000, '{"cache_creation": -1}')
        if isinstance(value, str | float | bytes | None)
    ]
    with contextlib.closing(sqlite3.connect(logs_db)) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(responses)")]
        rows = database.execute("SELECT * FROM responses").fetchall()
        for n in range(300):
            row = [chance.choice(values) if chance.random() < 0.1 else value for value in chance.choice(rows)]
            row[0] = f"r{n}"
            database.execute(f"INSERT INTO responses VALUES ({', '.join('?' * len(columns))})", row)
        database.commit()

    found = wb.import_usage(logs_db)
    assert found.malformed > 20 and found.calls > 100
    again(logs_db)


DEEP = b'{"type": "assistant", "message": ' + b"[" * 100_000 + b"}"


@pytest.mark.parametrize(
    "line", [DEEP, b"\xff\xfe", b"{", b"[]", b"9" * 5000, b'"\\ud800"', b"\x00", b'{"n": ' + b"9" * 5000 + b"}"]
)
def test_a_line_that_is_nothing_is_skipped(tmp_path: Path, line: bytes) -> None:
    good = next(CLAUDE_CODE.rglob("agent*.jsonl")).read_bytes()
    (tmp_path / "s.jsonl").write_bytes(good + line + b"\n" + good)

    found = wb.import_usage(tmp_path / "s.jsonl", "claude-code")
    assert (found.new_calls, [problem.line for problem in found.problems]) == (2, [3])


def test_a_line_that_is_too_long_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST", 2000)
    good = next(CLAUDE_CODE.rglob("agent*.jsonl")).read_bytes()
    (tmp_path / "s.jsonl").write_bytes(b'{"a": "' + b"x" * 9000 + b'"}\n' + good)
    (tmp_path / "conversations.json").write_bytes(b'[{"chat_messages": ["' + b"x" * 9_000_000)

    found = wb.import_usage(tmp_path / "s.jsonl", "claude-code")
    assert (found.new_calls, found.problems[0].line) == (2, 1)
    (problem,) = wb.import_usage(tmp_path / "conversations.json", "claude").problems
    assert "has no end, or is longer than" in problem.reason

    row = "2026-10-01T00:00:00Z,claude-sonnet-5-5,10"
    long = f"r1,{row},{'x' * 9000}"
    (tmp_path / "spend.csv").write_text(f"request_id,startTime,model,prompt_tokens,user\n{long}\nr2,{row},ada\n")
    found = wb.import_usage(tmp_path / "spend.csv")
    assert (found.new_calls, [(problem.line, problem.reason) for problem in found.problems]) == (
        1,
        [(2, "has no request_id")],
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(
    items=st.lists(st.dictionaries(st.text(), JSON), max_size=5),
    chunk=st.integers(1, 40),
    indent=st.none() | st.just(1),
)
def test_the_elements_of_an_array_are_found_wherever_it_is_cut(
    items: list[Any], chunk: int, indent: int | None
) -> None:
    with tempfile.NamedTemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "CHUNK", chunk)
        text = json.dumps(items, indent=indent, ensure_ascii=False)
        Path(file.name).write_bytes(text.encode(errors="replace"))

        found = list(reading.Source(Path(file.name)).elements())
        assert [json.loads(element) for _, element in found] == json.loads(text.encode(errors="replace"))
        lines = text.split("\n")
        assert all(lines[line - 1].lstrip(" [").startswith("{") for line, _ in found)
