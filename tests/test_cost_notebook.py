"""The cost notebook keeps its promise: with one line changed, it tells of one's own ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pytest

import workbench as wb
from tests.test_classes import call, write
from workbench.turns import Usage

mpl.use("agg")

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "03_cost_analysis.ipynb"
SYNTHETIC, YOURS = 'org, now = wb.demo_data("2026-11-20"), datetime(2026, 11, 20, tzinfo=UTC)\n# yours: ', ""


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def run_on_ones_own() -> dict[str, Any]:
    """Run its code with the line for one's own ledger in place of the other; return what it has in the end."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert code.count(SYNTHETIC) == 1
    names: dict[str, Any] = {}
    exec(compile(code.replace(SYNTHETIC, YOURS), NOTEBOOK.name, "exec"), names)
    return names


def test_a_ledger_of_two_days_gets_every_finding_but_the_forecast(
    no_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now, usage = datetime.now(UTC), Usage(uncached_input_tokens=3000, output_tokens=300)
    models = ("claude-sonnet-5-5", "claude-haiku-5-5", "a-model-without-a-price", "claude-sonnet-5-5")
    write([call(now - timedelta(hours=10 * n, minutes=1), model, usage) for n, model in enumerate(models)])
    findings = run_on_ones_own()["findings"]

    assert "a forecast needs 14" in capsys.readouterr().out
    assert list(findings) == ["Spent", "Dearest day", "Cache", "Otherwise", "History", "Waiting"]


def test_an_empty_ledger_and_a_free_one_say_what_is_missing(no_key: Path) -> None:
    with pytest.raises(wb.InvalidRequest, match="there are no calls to show"):
        run_on_ones_own()
    write([call(datetime.now(UTC) - timedelta(minutes=1), "local", Usage(output_tokens=5))])
    with pytest.raises(wb.InvalidRequest, match="neither period has a call that cost anything"):
        run_on_ones_own()
