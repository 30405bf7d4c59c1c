"""What the report of an experiment says, shows and draws."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.prompts.assignment import Experiment
from workbench.prompts.guards import stopped_by_guard
from workbench.prompts.outcomes import OUTCOMES
from workbench.prompts.report import report_of
from workbench.prompts.sizes import sizes
from workbench.prompts.statistics import Moments, per_arm_for_rates, proportions, sequence
from workbench.prompts.synthetic import synthetic_units

mpl.use("agg")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

    from workbench.prompts.report import Report

BEGUN = datetime(2026, 11, 1, tzinfo=UTC)
TONE = Experiment("tone", "support", {"v3": 0.5, "v4": 0.5}, "cost", started_at=BEGUN)


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def chats(arm: str, n: int, **columns: Any) -> pd.DataFrame:
    """Chats of an arm, all alike but for the columns given; what has no column is 1."""
    usual: dict[str, Any] = {name: np.ones(n) for name in ("ttft_ms", "duration_ms", "output_tokens", "calls", "score")}
    usual |= {"cost_usd": spread(0.01, n), "failed": np.zeros(n, bool), "thumb": [None] * n}
    exposed = [BEGUN + timedelta(minutes=k) for k in range(n)]
    ids = [f"{arm}-{k}" for k in range(n)]
    return pd.DataFrame({"unit_id": ids, "variant": arm, **usual, **columns, "first_exposed_at": exposed})


def spread(middle: float, n: int) -> np.ndarray[Any, Any]:
    """Half of them e times as much, half of them an e-th: the logarithms have a variance of n / (n - 1)."""
    return middle * np.exp(np.where(np.arange(n) % 2, 1.0, -1.0))


def two(n: int = 100, first: dict[str, Any] | None = None, second: dict[str, Any] | None = None) -> pd.DataFrame:
    return pd.concat([chats("v3", n, **(first or {})), chats("v4", n, **(second or {}))], ignore_index=True)


def some(hits: int, n: int, rated: int | None = None) -> list[int | None]:
    """Thumbs up, thumbs down, and not rated."""
    rated = n if rated is None else rated
    return [1] * hits + [-1] * (rated - hits) + [None] * (n - rated)


def test_a_cheaper_arm_is_called_cheaper_with_its_interval() -> None:
    report = report_of(TONE, two(second={"cost_usd": spread(0.005, 100)}))

    # ln .5 = -.6931; V = 2 x (100 / 99) / 100, w = sqrt(V x 1.091097 x 8.474463) = .432195, so -67.5 % and -23.0 %
    assert report.verdict == "v4 is cheaper: -50 % [-68, -23]"
    assert report.primary[0].low == pytest.approx(100 * math.expm1(math.log(0.5) - 0.432195), abs=0.01)
    assert repr(report) == str(report)
    assert str(report).splitlines()[0] == (
        "experiment tone · prompt support · chats: v3 100 (50% meant), v4 100 (50% meant); the split is right (p = 1)"
    )
    assert "cost (decides) $0.0100 $0.00500 -50 % [-68, -23]" in re.sub(" +", " ", str(report))
    assert "Mean cost: v3 $0.0154, v4 $0.00772. Totals are driven by the tail (a tenth of all makes 23%)" in str(report)


@pytest.mark.parametrize(
    ("outcome", "column", "less", "more", "says"),
    [
        ("cost", "cost_usd", spread(1, 200), spread(2, 200), ("is cheaper: -50 % [", "is dearer: +100 % [")),
        ("ttft", "ttft_ms", spread(1, 200), spread(2, 200), ("begins sooner: -50 % [", "begins later: +100 % [")),
        ("duration", "duration_ms", spread(1, 200), spread(2, 200), ("is faster: -50 % [", "is slower: +100 % [")),
        (
            "output_tokens",
            "output_tokens",
            spread(100, 200),
            spread(200, 200),
            ("answers in fewer tokens: -50 % [", "answers in more tokens: +100 % ["),
        ),
        (
            "errors",
            "failed",
            np.arange(200) < 2,
            np.arange(200) < 40,
            ("fails less often: -19 points [", "fails more often: +19 points ["),
        ),
        (
            "thumbs",
            "thumb",
            some(40, 200),
            some(140, 200),
            ("is liked less: -50 points [", "is liked more: +50 points ["),
        ),
        ("score", "score", spread(1, 200), spread(2, 200), ("scores lower: -1.54 [", "scores higher: +1.54 [")),
    ],
)
def test_every_outcome_has_its_words_for_less_and_more(
    outcome: str, column: str, less: Any, more: Any, says: tuple[str, str]
) -> None:
    experiment = replace(TONE, outcome=outcome)
    falls = report_of(experiment, two(200, {column: more}, {column: less}))
    rises = report_of(experiment, two(200, {column: less}, {column: more}))

    assert (falls.verdict.startswith(f"v4 {says[0]}"), rises.verdict.startswith(f"v4 {says[1]}")) == (True, True)
    better = outcome not in ("thumbs", "score")
    assert (falls.primary[0].better, rises.primary[0].better) == (better, not better)


def test_intervals_are_those_of_the_statistics() -> None:
    units = two(80, {"thumb": some(20, 80, 50)}, {"thumb": some(30, 80, 40), "score": spread(3, 80)})
    table = report_of(TONE, units).table.set_index(["outcome", "arm"])

    assert [*table.loc[("thumbs", "v4"), ["effect", "low", "high"]]] == pytest.approx(
        [100 * each for each in proportions(20, 50, 30, 40)]
    )
    assert [*table.loc[("score", "v4"), ["effect", "low", "high"]]] == pytest.approx(
        list(sequence(Moments(80, 1, 0), Moments.of(spread(3, 80))))
    )
    assert table.loc[("thumbs", "v3"), "value"] == 40 and table.loc[("thumbs", "v4"), "value"] == 75
    assert table.loc[("cost", "v3"), "value"] == pytest.approx(0.01)


def test_there_is_no_verdict_before_thirty_of_each_arm() -> None:
    units = two(30, second={"cost_usd": spread(1e-5, 30)})
    early = report_of(TONE, units.drop(units.index[-1]))

    assert early.verdict == "no verdict yet, at least 1 more chat per arm"
    assert not early.primary[0].differs
    assert report_of(TONE, units).verdict == "v4 is cheaper: -99.9 % [-100.0, -99.8]"
    assert report_of(TONE, units[:0]).verdict == "no verdict yet, at least 30 more chats per arm"


def test_with_few_ratings_more_chats_are_asked_for() -> None:
    units = two(100, {"thumb": some(5, 100, 10)}, {"thumb": some(9, 100, 20)})
    # 20 ratings are missing, and one chat in ten of v3 is rated
    assert (
        report_of(replace(TONE, outcome="thumbs"), units).verdict == "no verdict yet, at least 200 more chats per arm"
    )


def test_as_many_more_chats_as_said_make_a_verdict() -> None:
    units = two(60, second={"cost_usd": spread(0.0065, 60)})
    report = report_of(TONE, units)
    said = re.fullmatch(
        r"no verdict yet, about (\d+) more chats per arm \(so far -35 % \[-63, \+14\]\)", report.verdict
    )
    assert said is not None
    more = int(said[1])

    def after(n: int) -> Report:
        return report_of(TONE, two(n, second={"cost_usd": spread(0.0065, n)}))

    assert more % 10 == 0 and after(60 + more).primary[0].differs
    assert not after(60 + more - 12).primary[0].differs


def test_with_unequal_arms_chats_are_asked_for_in_all() -> None:
    experiment = replace(TONE, arms={"v3": 0.9, "v4": 0.1})
    units = pd.concat([chats("v3", 90), chats("v4", 10)])
    # v4 lacks 20, and gets one chat in ten; where 2 of v3's are rated it lacks 28, of one chat in 45, nine of ten its own
    assert report_of(experiment, units).verdict == "no verdict yet, at least 200 more chats in all"
    rated = pd.concat([chats("v3", 90, thumb=some(1, 90, 2)), chats("v4", 10, thumb=some(5, 10))])
    assert report_of(replace(experiment, outcome="thumbs"), rated).verdict == (
        "no verdict yet, at least 1,400 more chats in all"
    )


def test_what_will_not_be_seen_soon_is_said_to_be_out_of_sight() -> None:
    report = report_of(TONE, two(second={"cost_usd": spread(0.0101, 100)}))
    assert report.verdict == "no verdict yet, and none in sight: so far +1 % [-34, +56]"


def test_what_cannot_be_compared_yet_has_no_effect_in_the_table() -> None:
    report = report_of(TONE, pd.concat([chats("v3", 1), chats("v4", 1)]))

    assert "too few to compare" in str(report)
    costs = report.table.loc[report.table.outcome == "cost", ["effect", "low", "high"]]
    assert len(costs) == 2 and costs.isna().all(axis=None)


def test_a_wrong_split_blocks_the_verdict() -> None:
    units = pd.concat([chats("v3", 200), chats("v4", 120, cost_usd=spread(0.001, 120))])
    report = report_of(TONE, units)

    assert report.primary[0].differs and not report.split_is_right
    assert report.verdict == (
        "no verdict: 200 of v3 and 120 of v4 are not the split that was set (p < .001), so the arms are not alike; "
        "look for what loses or repeats chats of one arm"
    )
    assert "is cheaper" not in str(report) + report._repr_html_()
    assert [title(axes).startswith(("No verdict: 200", "Not to be believed")) for axes in report.plot()] == [True] * 3
    # 118 to 82 is p = .011: it may be chance
    assert report_of(TONE, pd.concat([chats("v3", 118), chats("v4", 82)])).split_is_right


def test_what_cost_nothing_or_is_unknown_is_left_out_and_said() -> None:
    free = spread(0.01, 100)
    free[:4] = 0
    unknown = spread(0.01, 100)
    unknown[:2] = np.nan
    report = report_of(TONE, two(first={"cost_usd": free}, second={"cost_usd": unknown}))
    note = "Without cost and left out of it (unknown or 0): 4 of v3, 2 of v4."
    assert note in report.notes and report.primary[0].n == (96, 98)

    free[:50] = 0
    (warned,) = [note for note in report_of(TONE, two(first={"cost_usd": free})).notes if "left out" in note]
    assert warned.endswith("50 of v3, 0 of v4; more of one arm, so beware: those that are compared are not alike.")


def test_how_many_rated_is_told_with_a_warning_where_arms_differ() -> None:
    alike = report_of(TONE, two(second={"thumb": some(10, 100, 31)}, first={"thumb": some(10, 100, 29)}))
    assert "Rated chats: 29% of v3's, 31% of v4's." in alike.notes

    unlike = report_of(TONE, two(second={"thumb": some(40, 100, 70)}, first={"thumb": some(10, 100, 20)}))
    assert (
        "Rated chats: 20% of v3's, 70% of v4's; more of one arm, so beware: thumbs may speak for other people in each."
        in unlike.notes
    )
    assert not any(note.startswith("Rated") for note in report_of(TONE, two()).notes)


def test_of_three_arms_each_is_compared_with_the_first_at_half_the_level() -> None:
    experiment = replace(TONE, arms={"v3": 1, "v4": 1, "v5": 1, "off": 0})
    cheap, dear = chats("v4", 100, cost_usd=spread(0.005, 100)), chats("v5", 100, cost_usd=spread(0.0101, 100))
    report = report_of(experiment, pd.concat([chats("v3", 100), cheap, dear]))

    assert report.verdict.split("\n") == [
        "v4 is cheaper than v3: -50 % [-69, -20]",
        "v5: no verdict yet, and none in sight: so far +1 % [-37, +61]",
    ]
    half = sequence(Moments.of(np.log(spread(0.01, 100))), Moments.of(np.log(spread(0.005, 100))), 0.025)
    assert report.primary[0].low == pytest.approx(100 * math.expm1(half.low))
    assert "2 arms are compared with the first, each at a level of 0.025." in report.notes
    assert list(report.counts) == ["v3", "v4", "v5"]


def test_a_stopped_experiment_says_why_and_asks_for_nothing() -> None:
    stopped = replace(
        TONE, stopped_at=datetime(2026, 11, 9, 14, 5, tzinfo=UTC), stop_reason="the guard on errors stopped v4"
    )
    report = report_of(stopped, two(second={"cost_usd": spread(0.0101, 100)}))
    assert report.verdict == "no verdict; it was stopped with +1 % [-34, +56]"
    assert report.notes[-1] == "Stopped 2026-11-09 14:05: the guard on errors stopped v4."


def test_the_table_has_a_row_for_each_outcome_and_arm() -> None:
    table = report_of(TONE, two(second={"failed": np.arange(100) < 9})).table

    assert list(table.columns) == ["outcome", "arm", "chats", "value", "effect", "low", "high", "unit", "decides"]
    assert list(zip(table.outcome, table.arm, strict=True))[:4] == [
        ("cost", "v3"),
        ("cost", "v4"),
        ("ttft", "v3"),
        ("ttft", "v4"),
    ]
    assert "thumbs" not in set(table.outcome)  # nobody rated
    assert set(table[table.decides].outcome) == {"cost"}
    units = dict(zip(table.outcome, table.unit, strict=True))
    assert units == {"cost": "%", "ttft": "%", "duration": "%", "output_tokens": "%", "errors": "points", "score": ""}
    compared = table[table.arm == "v4"]
    assert ((compared.low <= compared.effect) & (compared.effect <= compared.high)).all()
    assert table[table.arm == "v3"].effect.isna().all()


def test_the_html_is_a_table_and_no_name_breaks_out_of_it() -> None:
    hostile = "<script>alert(1)</script>"
    experiment = Experiment(hostile, hostile, {"v3": 1, hostile: 1}, "cost", stopped_at=BEGUN, stop_reason=hostile)
    shown = report_of(experiment, pd.concat([chats("v3", 40), chats(hostile, 40)]))._repr_html_()

    assert "<script" not in shown and shown.count("&lt;script&gt;") >= 4
    assert shown.count("<tr>") == 1 + 6
    assert '<td style="text-align:right">$0.0100</td>' in shown


@pytest.mark.parametrize(
    ("experiment", "units", "says"),
    [
        (replace(TONE, outcome="joy"), two(), "no outcome 'joy'; there are cost, ttft"),
        (replace(TONE, arms={"v3": 1}), chats("v3", 5), "has one arm only"),
        (replace(TONE, arms={"v3": 1, "v4": 0}), two(), "has one arm only"),
        (TONE, pd.concat([two(), chats("v9", 1)]), "no arm v9 in the experiment 'tone'"),
        (TONE, pd.concat([two(), chats("v3", 1)]), "a unit is there twice"),
    ],
)
def test_what_cannot_be_reported_is_refused(experiment: Experiment, units: pd.DataFrame, says: str) -> None:
    with pytest.raises(wb.InvalidRequest) as refused:
        report_of(experiment, units)
    assert says in str(refused.value)


def test_a_guard_stops_an_arm_that_fails_more_often() -> None:
    bad = two(60, second={"failed": np.arange(60) < 12})
    assert stopped_by_guard(TONE, bad, {"errors": 1}) == (
        "v4", "the guard on errors stopped v4: 20.0 %, v3 0.0 %, and no more is allowed"
    )  # fmt: skip
    assert stopped_by_guard(TONE, bad, {"errors": 50}) is None
    assert stopped_by_guard(TONE, two(60, second={"failed": np.arange(60) < 2}), {"errors": 1}) is None
    assert stopped_by_guard(TONE, two(60, first={"failed": np.arange(60) < 12}), {"errors": 1}) is None
    assert stopped_by_guard(TONE, bad[:0], {"errors": 1, "cost": 1}) is None


def test_a_guard_stops_an_arm_that_costs_too_much() -> None:
    dear = two(60, second={"cost_usd": spread(0.03, 60)})
    assert stopped_by_guard(TONE, dear, {"errors": 1, "cost": 1.5}) == (
        "v4", "the guard on cost stopped v4: $0.0300, v3 $0.0100, and 1.5 times as much is allowed"
    )  # fmt: skip
    assert stopped_by_guard(TONE, dear, {"cost": 2.5}) is None
    assert stopped_by_guard(TONE, two(29, second={"cost_usd": spread(9, 29)}), {"cost": 1}) is None
    with pytest.raises(wb.InvalidRequest, match=r"no guard can be \{'thumbs': 1\}"):
        stopped_by_guard(TONE, dear, {"thumbs": 1})


def test_skewed_scores_are_warned_of() -> None:
    def warnings(scores: Any) -> list[str]:
        return [note for note in report_of(TONE, two(100, second={"score": scores})).notes if "skewed" in note]

    assert warnings(np.arange(100.0)) == []
    # 2 of 100: skewness .96 / .14 = 6.857
    (warning,) = warnings(np.arange(100) < 2)
    assert warning.startswith(
        "Scores are skewed: with fewer than about 1,176 per arm their interval may hold less often"
    )


def test_sizes_are_said_before_the_start() -> None:
    cost = sizes("cost", {"v3": 1, "v4": 1})
    assert [(each.effect, each.at_once) for each in cost] == [
        ("-10 %", 2037),
        ("-20 %", 454),
        ("-30 %", 178),
        ("-40 %", 87),
    ]
    assert [each.at_once for each in sizes("thumbs", {"v3": 1, "v4": 1})] == [1471, 356, 152, 81, 48]
    assert all(each.at_once < each.at_most and each.in_all == 2 * each.at_most for each in cost)

    # nine tenths and one: the harmonic mean of 90 and 10 is 18
    unequal = sizes("cost", {"v3": 9, "v4": 1})
    assert unequal[1].in_all == math.ceil(unequal[1].at_most / 0.18)
    # three arms: two comparisons, each at half the level
    assert sizes("cost", {"v3": 1, "v4": 1, "v5": 1})[1].at_once == 550
    with pytest.raises(wb.InvalidRequest, match="one arm only"):
        sizes("cost", {"v3": 1, "v4": 0})
    with pytest.raises(wb.InvalidRequest, match="no outcome 'joy'"):
        sizes("joy", {"v3": 1, "v4": 1})


def test_sizes_go_by_the_chats_there_were() -> None:
    # logarithms of +1 and -1: a spread of 1 instead of 1.2; one chat in four rated, 80 % of them up
    before = chats("v3", 1000, thumb=some(200, 1000, 250), failed=np.arange(1000) < 100)
    assert sizes("cost", {"v3": 1, "v4": 1}, before)[1].at_once == pytest.approx(454 / 1.44, abs=1)
    thumbs = sizes("thumbs", {"v3": 1, "v4": 1}, before)
    assert [each.effect for each in thumbs] == ["+5 points", "+10 points", "+15 points", "+20 points"]  # not over 100 %
    assert thumbs[1].in_all == 2 * 4 * thumbs[1].at_most
    assert sizes("errors", {"v3": 1, "v4": 1}, before)[0].at_once == per_arm_for_rates(0.1, 0.2)


def title(axes: Axes) -> str:
    return axes.get_title(loc="left").replace("\n", " ")


def ticks(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def inside(axes: Axes) -> bool:
    """Whether every word lies within the picture."""
    figure: Any = axes.figure
    figure.canvas.draw()
    words = [text for text in (*axes.texts, axes._left_title) if text.get_text()]  # type: ignore[attr-defined]
    boxes = [text.get_window_extent() for text in words]
    return all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 641 and box.y1 <= figure.bbox.height + 1 for box in boxes)


CASES: list[tuple[int, dict[str, float], dict[str, dict[str, float]], str]] = [
    (400, {"v3": 1, "v4": 1}, {"v4": {"cost": 0.5, "errors": 0.2}}, "cost"),
    (900, {"v3": 1, "v4": 1, "v5": 1}, {"v5": {"cost": 3}}, "cost"),
    (100, {"v3": 8, "v4": 2}, {}, "thumbs"),
    (3, {"v3": 1, "v4": 1}, {}, "errors"),
]


@pytest.mark.parametrize(("count", "arms", "effects", "outcome"), CASES)
def test_the_forest_says_the_verdict_and_mixes_no_units(
    count: int, arms: dict[str, float], effects: dict[str, dict[str, float]], outcome: str
) -> None:
    report = report_of(*synthetic_units(count, arms, effects, outcome=outcome))
    axes = report.plot()

    assert title(axes[0]).lower() == report.verdict.replace("\n", "; ").lower()
    assert axes[0].figure.get_label() == "; ".join(map(title, axes))
    assert len(axes) == len(dict.fromkeys(OUTCOMES[each.outcome].unit for each in report.comparisons))
    percents = [[" %" in tick for tick in ticks(each) if tick != "0"] for each in axes]
    assert [all(each) or not any(each) for each in percents] == [True] * len(axes)
    shown = [text.get_text() for each in axes for text in each.texts]
    assert all(any(each.in_words in words for words in shown) for each in report.comparisons)
    assert [inside(each) for each in axes] == [True] * len(axes)


def test_the_forest_draws_each_interval_where_it_lies() -> None:
    report = report_of(TONE, two(second={"cost_usd": spread(0.005, 100)}))
    (line,) = [line for line in report.plot()[0].lines if line.get_label() == "cost, decides"]
    assert list(line.get_xdata()) == pytest.approx([report.primary[0].low, report.primary[0].high])


@pytest.mark.parametrize(("count", "arms", "effects", "outcome"), CASES[:3])
def test_the_plot_over_time_ends_where_the_report_does(
    count: int, arms: dict[str, float], effects: dict[str, dict[str, float]], outcome: str
) -> None:
    report = report_of(*synthetic_units(count, arms, effects, outcome=outcome))
    drawn = report.plot_over_time()

    assert len(drawn) == len(report.primary)
    for axes, of, verdict in zip(drawn, report.primary, report.verdict.split("\n"), strict=True):
        low, high, effect = (line.get_ydata()[-1] for line in axes.lines[:3])
        assert (low, high, effect) == pytest.approx((of.low, of.high, of.effect))
        assert title(axes).lower() == verdict.lower()
        assert any("first seen after" in text.get_text() for text in axes.texts) or not of.differs
        assert inside(axes)


def test_there_is_nothing_over_time_before_there_are_chats() -> None:
    from matplotlib import pyplot as plt

    with pytest.raises(wb.InvalidRequest, match="fewer than two chats of an arm can be compared by cost"):
        report_of(TONE, two()[:1]).plot_over_time()
    assert plt.get_fignums() == []  # a notebook would show an empty one


def test_chats_that_are_all_alike_can_be_drawn() -> None:
    report = report_of(replace(TONE, outcome="score"), two())
    assert report.primary[0].in_words == "0 [0, 0]"
    assert inside(report.plot()[0]) and inside(report.plot_over_time()[0])


def test_synthetic_chats_say_so_and_have_the_effects_asked_for() -> None:
    experiment, units = synthetic_units(20_000, {"v3": 1, "v4": 1}, {"v4": {"cost": 0.7, "errors": 0.05, "score": 0.5}})
    table = report_of(experiment, units).table.set_index(["outcome", "arm"]).xs("v4", level="arm")

    assert experiment.name == "synthetic" and units.unit_id.str.startswith("synthetic-").all()
    assert table.effect[["cost", "errors", "score"]].tolist() == pytest.approx([-30, 5, 0.5], abs=2.5)
    assert table.low["ttft"] < 0 < table.high["ttft"] and table.low["thumbs"] < 0 < table.high["thumbs"]
    again = synthetic_units(20_000, {"v3": 1, "v4": 1}, {"v4": {"cost": 0.7, "errors": 0.05, "score": 0.5}})[1]
    pd.testing.assert_frame_equal(units, again)
