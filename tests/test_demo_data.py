"""The synthetic ledger."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import workbench as wb
from workbench.cli import app
from workbench.ledger import demo
from workbench.ledger.demo import DEMO_ORG
from workbench.runtime import runtime
from workbench.store.check import check
from workbench.store.postgres import PostgresBackend

UNTIL = date(2026, 11, 20)
DATA = Path(__file__).parents[1] / "data" / "demo_usage.parquet"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["demo-data", *arguments], prog_name="workbench")
    assert result.exit_code == 0, result.output
    return result.output


def test_ninety_days_that_hold_together_and_say_what_they_are(no_key: Path) -> None:
    org = wb.demo_data(UNTIL)

    calls = wb.usage(org=org)
    assert (str(calls.started_at.min().date()), str(calls.started_at.max().date())) == ("2026-08-22", "2026-11-19")
    assert set(calls.model) == {"claude-haiku-5-5", "claude-opus-5-5", "claude-sonnet-5-5"}
    assert set(calls.variant.dropna()) == {"v3", "v4"}
    assert 0.5 < calls.cache_read_tokens.sum() / calls.input_tokens.sum() < 0.75
    assert all(name.startswith("synthetic-") for name in calls.user_id)
    assert runtime().run(broken()) == []
    for user in set(calls.user_id):
        assert all(title.startswith("Synthetic: ") for title in wb.chats(org=org, user=user).title)
        assert all("synthetic" in text for text in wb.messages(org=org, user=user).content if text)
    assert wb.usage().empty


def test_its_experiment_has_the_report_that_the_readme_shows(no_key: Path) -> None:
    report = wb.experiments.report("tone", org=wb.demo_data(UNTIL))

    assert report.verdict == "v4 answers in fewer tokens: -25 % [-37, -10]"
    assert str(report) in (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert not wb.experiments.get("tone", org=DEMO_ORG).running


async def broken() -> list[str]:
    return [finding.rule for finding in await check(runtime().engine.store.backend) if not finding.ok]


def test_one_day_is_dear_and_sundays_are_cheap(no_key: Path) -> None:
    days = wb.usage(by="day", org=wb.demo_data(UNTIL)).set_index("day")

    assert days.cost_usd.idxmax().day_name() == "Wednesday"
    assert days.cost_usd.max() > 3 * days.cost.median()
    weekdays = days.cost.groupby(days.index.day_name()).median()
    assert weekdays["Sunday"] < weekdays["Tuesday"] / 4


def test_the_same_every_time_and_left_as_it_is(no_key: Path) -> None:
    assert demo.generate(UNTIL) == demo.generate(UNTIL)
    first = json.loads(run("--until", "2026-11-20", "--json"))
    assert json.loads(run("--json")) == first  # other days, but it is there
    assert (first["org"], first["first_day"], first["last_day"]) == (DEMO_ORG, "2026-08-22", "2026-11-19")
    assert "from 2026-08-15 to 2026-11-12" in run("--until", "2026-11-13", "--again")
    assert str(wb.usage(org=DEMO_ORG).started_at.max().date()) == "2026-11-12"


@pytest.mark.parametrize("table", ["messages", "usage"])
def test_what_was_broken_off_can_be_written_again(no_key: Path, table: str) -> None:
    class Enough(Exception):
        pass

    def stop(name: str, done: int, total: int) -> None:
        if name == table:
            raise Enough

    backend = runtime().engine.store.backend
    with pytest.raises(Enough):
        runtime().run(demo.write(backend, UNTIL, progress=stop))
    whole = len(demo.generate(UNTIL)["usage"])
    assert len(wb.usage(org=DEMO_ORG)) in (0, whole)

    assert len(wb.usage(org=wb.demo_data(UNTIL))) == whole
    assert runtime().run(broken()) == []


@pytest.mark.parametrize("day", ["tomorrow", 20261120, date.min, date(1, 5, 1), pd.NaT])
def test_no_day_is_told_how_to_write_one(no_key: Path, day: Any) -> None:
    with pytest.raises(wb.InvalidRequest, match=r"is no day from 2000-01-01 on; write it like 2026-11-20"):
        wb.demo_data(day)


def test_the_file_in_the_repository_is_what_the_command_writes(no_key: Path) -> None:
    assert "synthetic calls" in run("--until", "2026-11-20", "--parquet", "calls.parquet")
    ours, kept = pq.read_table("calls.parquet"), pq.read_table(DATA)
    assert ours.equals(kept)
    assert kept.schema.metadata[b"source"].startswith(b"synthetic")
    assert sum(kept["cost_usd"].to_pylist()) > Decimal(100)
    assert not (no_key / "store.duckdb").exists()


def test_postgresql_takes_it_too(no_key: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE", postgres_url)
    calls = wb.usage(org=wb.demo_data(UNTIL))
    assert isinstance(runtime().engine.store.backend, PostgresBackend)
    assert calls.cost_usd.sum() == sum(row["cost_usd"] for row in demo.generate(UNTIL)["usage"])
