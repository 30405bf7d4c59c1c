"""The panel of what was spent."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import workbench as wb
from tests.faults.upstream import Usage, reply
from workbench.runtime import runtime
from workbench.store.backend import Statement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    import ipywidgets

    yield
    ipywidgets.Widget.close_all()


@pytest.fixture
def today(scripted: ScriptedUpstream) -> date:
    """One call of $0.00242 on this day, one of $0.0001025 on the one before, one of unknown price before that."""
    scripted.script(
        reply("Four", usage=Usage(uncached_input_tokens=1000, output_tokens=42)),
        reply("Five", usage=Usage(100, 1000, 300, 200, output_tokens=10)),
        reply("Six", usage=Usage(uncached_input_tokens=7, output_tokens=8)),
    )
    chat = wb.Chat()
    chat.ask("a", show=False)
    chat.ask("b", show=False, model="claude-haiku-5-5")
    chat.ask("c", show=False, model="<img src=x>")
    now = datetime.now(UTC)  # once: midnight may come at any line
    for days, model in enumerate(("claude-sonnet-5-5", "claude-haiku-5-5", "<img src=x>")):
        moment = now - timedelta(days=days)
        write = runtime().engine.store.backend.write
        runtime().run(write([Statement("UPDATE usage SET started_at = $1 WHERE model = $2", (moment, model))]))
    return now.date()


def test_of_calls_that_cost_nothing_it_shows_the_tokens(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four", usage=Usage(uncached_input_tokens=1000, output_tokens=42)))
    wb.Chat().ask("a", show=False)
    assert "% of it for new input" in wb.UsagePanel().plot.value
    runtime().run(runtime().engine.store.backend.write([Statement("UPDATE usage SET cost_usd = 0")]))
    assert "1,042 tokens: 0% read" in wb.UsagePanel().plot.value


def test_it_shows_totals_a_row_for_each_day_and_model_and_a_plot(today: date) -> None:
    panel = wb.UsagePanel()

    assert panel.totals.value == (
        "<p><strong>$0.0025 and 1 call of unknown price</strong> · 3 calls · 2,607 in + 60 out tokens</p>"
    )
    rows = panel.table.value.split("<tr>")[2:]
    assert [row.split("</td>")[0].removeprefix("<td>") for row in rows] == [
        str(today - timedelta(days=n)) for n in range(3)
    ]
    assert "<td>claude-sonnet-5-5</td><td>1</td><td>1,000</td><td>42</td><td>$0.0024</td>" in rows[0]
    words = "$0.0025 in 3 days, 80% of it for new input"
    assert panel.plot.value.startswith(f'<img alt="{words}" src="data:image/png;base64,iVBOR')


def test_names_of_models_are_text(today: date) -> None:
    table = wb.UsagePanel().table.value
    assert "<img" not in table
    assert "<td>&lt;img src=x&gt;</td>" in table
    assert table.split("&lt;img src=x&gt;")[1].startswith("</td><td>1</td><td>7</td><td>8</td><td>unknown</td>")


def test_days_are_from_and_to_the_last_one_included(today: date) -> None:
    panel = wb.UsagePanel()
    yesterday = today - timedelta(days=1)
    panel.since.value = panel.until.value = yesterday

    assert panel.totals.value.startswith("<p><strong>$0.0001</strong> · 1 call")
    assert wb.UsagePanel(yesterday, yesterday).totals.value == panel.totals.value


def test_filters_leave_out_the_rest(today: date) -> None:
    panel = wb.UsagePanel()
    assert panel.filters["model"].options == ("all", "<img src=x>", "claude-haiku-5-5", "claude-sonnet-5-5")
    panel.filters["model"].value = "claude-haiku-5-5"
    assert panel.totals.value.startswith("<p><strong>$0.0001</strong> · 1 call")
    assert "claude-sonnet-5-5" not in panel.table.value

    panel.filters["model"].value = "all"
    assert panel.filters["source"].options == ("all", "ask")
    panel.filters["source"].value = "ask"
    assert " 3 calls " in panel.totals.value


def test_what_is_chosen_stays_when_these_days_have_none_of_it(today: date) -> None:
    panel = wb.UsagePanel()
    panel.filters["model"].value = "claude-haiku-5-5"
    panel.since.value = today

    assert panel.filters["model"].value == "claude-haiku-5-5"
    assert "Nothing was asked" in panel.totals.value


def test_any_days_can_be_chosen(today: date) -> None:
    panel = wb.UsagePanel(date.min, date.max)
    assert " 3 calls " in panel.totals.value
    panel.since.value = date.max
    assert "Nothing was asked" in panel.totals.value


def test_reading_again_shows_what_was_asked_meanwhile(today: date) -> None:
    panel = wb.UsagePanel()
    wb.Chat().ask("d", show=False)
    panel.again.click()
    assert " 4 calls " in panel.totals.value


def test_an_empty_ledger_says_so(no_key: Path) -> None:
    panel = wb.UsagePanel()
    assert "Nothing was asked" in panel.totals.value
    assert (panel.table.value, panel.plot.value) == ("", "")


def test_another_org_sees_nothing_of_it(today: date) -> None:
    assert "Nothing was asked" in wb.UsagePanel(org="another").totals.value


def test_where_there_are_no_widgets_it_is_totals_plot_and_table(today: date) -> None:
    panel = wb.UsagePanel()
    data = panel._repr_mimebundle_()

    assert data["text/plain"] in panel.totals.value.replace("<strong>", "").replace("</strong>", "")
    assert " calls · " in data["text/plain"] and data["text/plain"].startswith("$")
    assert data["text/markdown"].count("<td>claude-") == panel.table.value.count("<td>claude-") > 0
    assert '<img alt="&#36;0.0025 in 3 days' in data["text/markdown"] and "$" not in data["text/markdown"]


def test_how_the_month_ends_is_said_once_there_are_enough_days(today: date) -> None:
    assert wb.UsagePanel().forecast.value == ""

    org = wb.demo_data()
    before = datetime.now(UTC)
    panel = wb.UsagePanel(org=org)
    months = {f"{at:%B %Y}" for at in (before, datetime.now(UTC))}
    assert panel.forecast.value.removeprefix("<p>").partition(" ends between $")[0] in months
    assert " ends between &#36;" in panel._repr_mimebundle_()["text/markdown"]
