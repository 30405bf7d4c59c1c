"""The ledger beside a bill: every difference, and what explains most of them."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import workbench as wb
from tests.test_classes import call, write
from workbench.cli import app
from workbench.ledger import bills
from workbench.ledger.bills import BROKEN, ELSEWHERE, IMPORTED, MISSING, UNPRICED
from workbench.runtime import close
from workbench.turns import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

FIXTURES = Path(__file__).parent / "imports"
USAGE, COST = (FIXTURES / "anthropic" / f"{kind}_report.json" for kind in ("usage", "cost"))


@pytest.fixture(autouse=True)
def ledger(no_key: Path) -> None:
    """Two days of Claude Code: 0.0203 and 0.02 for searches on Sonnet 5.5, 0.0015 on Haiku, and a model without price."""
    wb.import_usage(FIXTURES / "claude-code")


def drifts(frame: pd.DataFrame, column: str) -> dict[tuple[str, str, str], Any]:
    changed = frame[frame[column].notna() & (frame[column] != 0)]
    names = zip(changed.day.dt.strftime("%d"), changed.model.fillna("-"), changed["class"], strict=True)
    return dict(zip(names, changed[column], strict=True))


def test_every_day_model_and_class_that_differs() -> None:
    frame = wb.reconcile([USAGE, COST])

    assert drifts(frame, "drift_tokens") == {
        ("20", "claude-sonnet-5-5", "output_tokens"): 80,  # the estimated reply was shorter
        ("21", "claude-opus-4-6", "uncached_input_tokens"): -1000,
        ("21", "claude-opus-4-6", "output_tokens"): -200,
    }
    assert drifts(frame, "drift_usd") == {
        ("20", "claude-sonnet-5-5", "output_tokens"): Decimal("0.0008"),  # 80 at $10 a million
        ("20", "claude-sonnet-5-5", "all"): Decimal("0.0008"),
        ("21", "claude-opus-4-6", "uncached_input_tokens"): Decimal("-0.005"),
        ("21", "claude-opus-4-6", "output_tokens"): Decimal("-0.005"),
        ("21", "claude-opus-4-6", "all"): Decimal("-0.01"),
    }
    unknown = frame[(frame.model == "claude-9") & (frame["class"] == "all")].iloc[0]
    assert (unknown.billed_usd, unknown.ledger_usd, unknown.drift_usd) == (Decimal("0.05"), None, None)
    searches = frame[(frame["class"] == "all") & frame.model.isna()].iloc[0]
    assert (searches.billed_usd, searches.ledger_usd) == (Decimal("0.02"), Decimal("0.02"))


def test_tokens_and_dollars_of_a_class_stand_side_by_side() -> None:
    frame = wb.reconcile([USAGE, COST])
    sonnet = frame[(frame.day == "2026-10-20") & (frame.model == "claude-sonnet-5-5")].set_index("class")

    # $2, $0.10, $2.50, $4 and $10 a million
    assert list(sonnet.ledger_tokens)[:6] == [25, 13_000, 1500, 2000, 720, 2]
    assert list(sonnet.ledger_usd)[:5] == list(map(Decimal, ("0.00005", "0.0013", "0.00375", "0.008", "0.0072")))
    assert list(sonnet.billed_usd)[:5] == list(map(Decimal, ("0.00005", "0.0013", "0.00375", "0.008", "0.0064")))
    searches = frame[(frame["class"] == "web_searches") & frame.model.isna()].iloc[0]
    assert (searches.billed_usd, searches.ledger_usd, searches.drift_usd) == (Decimal("0.02"), Decimal("0.02"), 0)
    unknown = frame[(frame.model == "claude-9") & (frame["class"] == "output_tokens")].iloc[0]
    assert (unknown.ledger_tokens, unknown.billed_usd, unknown.ledger_usd) == (8, Decimal("0.05"), None)


def test_a_bill_without_descriptions_has_no_classes(tmp_path: Path) -> None:
    def summed(report: Any) -> None:
        for bucket in report["data"]:
            total = str(sum(Decimal(row["amount"]) for row in bucket["results"]))
            bucket["results"] = [{"currency": "USD", "amount": total, "workspace_id": None}]

    frame = wb.reconcile(changed(COST, tmp_path, summed))
    assert list(frame["class"].unique()) == ["all"]
    assert drifts(frame, "drift_usd")["20", "-", "all"] == Decimal("0.0008")


def test_what_is_billed_beside_tokens_has_its_own_name(tmp_path: Path) -> None:
    def add(report: Any) -> None:
        extra = {"amount": "7", "cost_type": "code_execution", "token_type": None, "model": None, "workspace_id": None}
        report["data"][1]["results"].append(extra)

    assert drifts(wb.reconcile(changed(COST, tmp_path, add)), "drift_usd")["20", "-", "code_execution"] == Decimal(
        "-0.07"
    )


def test_what_was_recorded_at_other_prices_is_in_no_class() -> None:
    at = datetime(2026, 10, 20, 12, tzinfo=UTC)
    write([call(at, "claude-sonnet-5-5", Usage(uncached_input_tokens=1000), cost_usd=Decimal("0.5"))])

    frame = wb.reconcile(COST)
    sonnet = frame[(frame.model == "claude-sonnet-5-5") & (frame.day == "2026-10-20")].set_index("class").ledger_usd
    assert sonnet["all"] == Decimal("0.5203") == sonnet.drop("all").sum()
    assert sonnet["other"] == Decimal("0.498")  # less 1,000 at $2 a million


def test_a_sentence_says_what_explains_most_of_it() -> None:
    attributes = wb.reconcile([USAGE, COST]).attrs

    assert attributes["reasons"] == {UNPRICED: Decimal("0.05"), MISSING: Decimal("0.01"), BROKEN: Decimal("0.0008")}
    assert attributes["sentence"] == (
        "The ledger has $0.06 less than the $0.10 that were billed from 2026-10-19 to 2026-10-21 (58.6%). Most of the "
        f"difference, $0.05 of $0.06, is {UNPRICED}."
    )


def changed(path: Path, folder: Path, change: Callable[[Any], None]) -> Path:
    report = json.loads(path.read_text())
    change(report)
    (folder / path.name).write_text(json.dumps(report))
    return folder / path.name


def test_other_workspaces_explain_what_they_used(tmp_path: Path) -> None:
    def add(report: Any) -> None:
        sonnet = report["data"][1]["results"][0]
        report["data"][1]["results"].append(sonnet | {"workspace_id": "wrkspc_other", "output_tokens": 9000})

    path = changed(USAGE, tmp_path, add)
    assert wb.reconcile(path).attrs["reasons"][ELSEWHERE] == 25 + 13000 + 1500 + 2000 + 9000 + 2 - 80
    assert ELSEWHERE not in wb.reconcile(path, workspace="default").attrs["reasons"]
    assert wb.reconcile(path, workspace="wrkspc_other").billed_tokens.sum() == 25_527


def test_imported_calls_that_a_subscription_paid(tmp_path: Path) -> None:
    def free(report: Any) -> None:
        report["data"][1]["results"] = [row for row in report["data"][1]["results"] if "haiku" not in str(row["model"])]

    reasons = wb.reconcile(changed(COST, tmp_path, free)).attrs["reasons"]
    assert reasons[IMPORTED] == Decimal("0.0015")


def test_a_page_of_days_without_costs_is_of_the_cost_report(tmp_path: Path) -> None:
    """Nothing was billed on the 20th, on which the ledger has calls that somebody else paid: $0.0403 and $0.0015."""

    def without(report: Any) -> None:
        report["data"][1]["results"] = []

    days = json.loads(changed(COST, tmp_path, without).read_text())["data"]
    pages = [tmp_path / f"{n}.json" for n in range(2)]
    for page, data in zip(pages, (days[:2], days[2:]), strict=True):
        page.write_text(json.dumps({"data": data}))

    reasons = wb.reconcile(pages).attrs["reasons"]
    assert reasons == wb.reconcile(tmp_path / COST.name).attrs["reasons"]
    assert reasons[IMPORTED] == Decimal("0.0418")


def test_what_agrees_is_said_to_agree(tmp_path: Path) -> None:
    def same(report: Any) -> None:
        report["data"] = [report["data"][1] | {"results": report["data"][1]["results"][1:]}]

    wb.usage()
    path = changed(USAGE, tmp_path, same)
    report = json.loads(path.read_text())
    report["data"][0]["results"].append(
        json.loads(USAGE.read_text())["data"][1]["results"][0] | {"output_tokens": 720},
    )
    path.write_text(json.dumps(report))

    frame = wb.reconcile(path)
    assert drifts(frame, "drift_tokens") == {}
    assert frame.attrs["sentence"] == "The ledger agrees with the 18,347 tokens that were billed on 2026-10-20."


def test_the_newer_reports_say_the_same(tmp_path: Path) -> None:
    def newer(report: Any, kind: str) -> Any:
        names = ("model", "workspace_id")
        return {
            "data": [
                {
                    "starting_at": bucket["starting_at"],
                    "ending_at": bucket["ending_at"],
                    "group": {name: row[name] for name in names},
                    kind: {name: value for name, value in row.items() if name not in names},
                }
                for bucket in report["data"]
                for row in bucket["results"]
            ]
        }

    for path, kind in ((USAGE, "usage"), (COST, "cost")):
        pages = newer(json.loads(path.read_text()), kind)["data"]
        # a page on each line, as they come when one asks for the next
        (tmp_path / path.name).write_text("\n".join(json.dumps({"data": [row]}) for row in pages))
    old, new = wb.reconcile([USAGE, COST]), wb.reconcile(tmp_path)
    assert new.astype(str).equals(old.astype(str))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{}", 'it has no list of "data"'),
        ("nothing", "it is no JSON"),
        ('{"data": []}', "the reports are about no day"),
        (
            '{"data": [{"starting_at": "2026-10-01T00:00:00Z", "ending_at": "2026-11-01T00:00:00Z", "results": []}]}',
            "sums up 31 days at once; ask for it with bucket_width=1d",
        ),
        (
            '{"data": [{"starting_at": 1790000000, "ending_at": 1790000001, "results": [{"amount": "NaN"}]}]}',
            "it has an amount that cannot be",
        ),
        (
            '{"data": [{"starting_at": 1790000000, "ending_at": 1790000001, "results": [{"amount": "1e999999999"}]}]}',
            "it has an amount that cannot be",
        ),
    ],
)
def test_what_is_no_report_is_said(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(wb.InvalidRequest, match=sentence.replace("(", r"\(")):
        wb.reconcile(tmp_path / "report.json")


def test_a_report_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bills, "LONGEST", 2**20)
    (tmp_path / "report.json").write_bytes(gzip.compress(b" " * 2**22))
    with pytest.raises(wb.InvalidRequest, match="it is longer than 1 MB"):
        wb.reconcile(tmp_path / "report.json")


def test_postgresql_says_the_same(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = wb.reconcile([USAGE, COST])
    monkeypatch.setenv("WORKBENCH_STORE", postgres_url)
    close()
    wb.import_usage(FIXTURES / "claude-code")
    theirs = wb.reconcile([USAGE, COST])
    close()
    assert theirs.astype(str).equals(ours.astype(str))
    assert theirs.attrs == ours.attrs


def test_the_command_shows_what_differs() -> None:
    result = CliRunner().invoke(app, ["reconcile", str(USAGE), str(COST)], prog_name="workbench")

    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["2026-10-20", "claude-sonnet-5-5", "output", "tokens", "640", "720", "80"] in lines
    assert ["2026-10-21", "claude-9", "cost", "$0.05", "unknown", "unknown"] in lines
    assert ["2026-10-20", "claude-sonnet-5-5", "output", "cost", "$0.0064", "$0.0072", "$0.0008"] in lines
    assert len(lines) == 2 + 3 + 3 + 3  # tokens that differ, their costs, and those of models
    assert "58.6%" in result.stderr
    printed = CliRunner().invoke(app, ["reconcile", str(USAGE), "--json"], prog_name="workbench").stdout
    assert json.loads(printed)["rows"][0]["billed_tokens"] == 1000
