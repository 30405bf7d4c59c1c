"""Chats that nobody had: dealt, priced and counted as real ones, and never among them."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

import workbench as wb
from tests.test_experiment_report import closed_figures, inside  # noqa: F401  # fixture
from workbench.prompts import experiments, simulation
from workbench.runtime import runtime
from workbench.store.check import check

if TYPE_CHECKING:
    from pathlib import Path

ORG = "synthetic-test"


@pytest.fixture
def tone(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment whose salt and chats are always the same: once in a thousand times chance deals a wrong split."""
    ids = (str(UUID(int=n)) for n in count(1))
    for module in (experiments, simulation):
        monkeypatch.setattr(module, "new_id", lambda: next(ids))
    for text in ("Explain every step.", "Be brief."):
        wb.prompts.save("support", text, org=ORG)
    wb.experiments.start("tone", prompt="support", arms={"v1": 0.5, "v2": 0.5}, coverage=0.8, org=ORG)


def test_simulated_chats_are_dealt_priced_and_counted_as_real_ones(tone: None) -> None:
    taken = wb.experiments.simulate("tone", 400, {"v2": {"output_tokens": 0.4, "errors": 0.2}}, org=ORG)

    units, calls = wb.experiments.units("tone", org=ORG), wb.usage(org=ORG)
    assert 280 < taken < 360 and len(units) == taken  # 0.8 of 400
    by_arm = units.groupby("variant")
    assert by_arm.output_tokens.median()["v2"] < 0.7 * by_arm.output_tokens.median()["v1"]
    assert by_arm.failed.mean()["v2"] > by_arm.failed.mean()["v1"] + 0.1
    assert float(calls.cost_usd.sum()) == pytest.approx(units.cost_usd.sum())
    assert units.thumb.notna().mean() == pytest.approx(0.3, abs=0.1)
    assert wb.experiments.report("tone", org=ORG).verdict.startswith("v2 is cheaper")
    assert [each.ids for each in runtime().run(check(runtime().engine.store.backend)) if each.ids] == []


def test_plots_of_simulated_chats_say_that_they_are_synthetic(tone: None) -> None:
    wb.experiments.simulate("tone", 100, org=ORG)
    report = wb.experiments.report("tone", org=ORG)

    for axes in (report.plot()[0], report.plot_over_time()[0]):
        assert any("synthetic data · chats: v1 " in text.get_text().replace("\n", " ") for text in axes.texts)
        assert inside(axes)


def test_they_are_refused_where_they_would_be_counted_with_real_ones(tone: None) -> None:
    for text in ("Explain every step.", "Be brief."):
        wb.prompts.save("support", text)
    wb.experiments.start("tone", prompt="support", arms={"v1": 0.5, "v2": 0.5})
    with pytest.raises(wb.InvalidRequest, match="would be counted with the real ones"):
        wb.experiments.simulate("tone", 10, org="00000000-0000-0000-0000-000000000001")
    assert wb.usage().empty


@pytest.mark.parametrize(
    ("chats", "effects", "said"),
    [
        (0, {}, "whole number of at least 1"),
        (1.5, {}, "whole number"),
        (10, {"v3": {}}, "no arm v3 in tone; it has v1, v2"),
        (10, {"v2": {"cost": 0.5}}, "no effect on cost; there are errors, output_tokens, thumbs, ttft"),
    ],
)
def test_what_cannot_be_simulated_is_said(tone: None, chats: int, effects: dict, said: str) -> None:
    with pytest.raises(wb.InvalidRequest, match=said):
        wb.experiments.simulate("tone", chats, effects, org=ORG)


def test_a_stopped_experiment_takes_no_more(tone: None) -> None:
    wb.experiments.stop("tone", org=ORG)
    with pytest.raises(wb.InvalidRequest, match="was stopped"):
        wb.experiments.simulate("tone", 10, org=ORG)


def test_an_arm_that_its_guard_stopped_gets_no_more(no_key: Path) -> None:
    for text in ("Explain every step.", "Be brief."):
        wb.prompts.save("support", text, org=ORG)
    wb.experiments.start("tone", prompt="support", arms={"v1": 0.5, "v2": 0.5}, guard={"errors": 2}, org=ORG)
    wb.experiments.simulate("tone", 300, {"v2": {"errors": 0.5}}, org=ORG)
    report = wb.experiments.report("tone", org=ORG)
    assert list(wb.experiments.get("tone", org=ORG).stopped_arms) == ["v2"]

    assert 0 < wb.experiments.simulate("tone", 100, org=ORG) < 100
    assert wb.experiments.report("tone", org=ORG).counts["v2"] == report.counts["v2"]
