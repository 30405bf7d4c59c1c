"""The plots: their findings are computed, their axes carry the data."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import matplotlib as mpl
import pytest

import workbench as wb
from tests.faults.upstream import Usage, reply
from tests.test_classes import call, write
from workbench import drawing
from workbench.ledger.policies import BLOCKS, SLIDING, WHOLE, history_costs
from workbench.turns import Usage as Counts

mpl.use("agg")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    from tests.faults.upstream import ScriptedUpstream


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def title(axes: Axes) -> str:
    return axes.get_title(loc="left").replace("\n", " ")


def words(axes: Axes) -> list[str]:
    """What is written in the plot, colours and the subtitle left out."""
    texts = [text.get_text().replace("\n", " ") for text in axes.texts]
    return [text for text in texts if text not in ("\u25a0", subtitle(axes))]


def subtitle(axes: Axes) -> str:
    (text,) = [text.get_text() for text in axes.texts if getattr(text, "xyann", None) == (0, 6)]
    return text.replace("\n", " ")


def heights(axes: Axes) -> list[list[float]]:
    """Of the parts of the bars, from the lowest to the topmost: where each ends, day by day."""
    return [[float(path.vertices[:, 1].max()) for path in each.get_paths()] for each in axes.collections]


def test_context_growth_says_how_much_more_is_sent_and_what_it_cost(scripted: ScriptedUpstream) -> None:
    scripted.script(
        reply("a", usage=Usage(uncached_input_tokens=100, output_tokens=50)),
        reply("b", usage=Usage(uncached_input_tokens=100, cache_read_tokens=300, output_tokens=50)),
    )
    chat = wb.Chat()
    chat.ask("one")
    chat.ask("two")
    tokens, money = wb.plots.context_growth(chat)

    assert title(tokens) == "Turn 2 sent 4.0 times what turn 1 did; 60% of all input came from the cache"
    # turn 1: 100 x $2 + 50 x $10; turn 2: 100 x $2 + 300 x $0.10 + 50 x $10, a million
    assert money.get_title(loc="left") == "$0.0014 so far, $0.0007 for the last turn"
    assert [bar.get_height() for bar in money.patches] == pytest.approx([0.0007, 0.00143])
    assert words(tokens)[:3] == ["new input", "cache reads", "replies"]
    assert subtitle(tokens) == "tokens of each turn · 2 calls"


def test_context_growth_prices_a_free_chat_as_another_model(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("a", usage=Usage(uncached_input_tokens=1_000_000, output_tokens=0)))
    chat = wb.Chat(model="a-model-without-a-price")
    chat.ask("one")

    with pytest.raises(wb.InvalidRequest, match="name a model with priced_as"):
        wb.plots.context_growth(chat)
    _, money = wb.plots.context_growth(chat, priced_as="claude-opus-5-5")
    assert money.get_title(loc="left").startswith("$4.00 so far")
    with pytest.raises(wb.InvalidRequest, match="no price for model 'claude-9'"):
        wb.plots.context_growth(chat, priced_as="claude-9")


def test_context_growth_prices_every_class_as_another_model(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("a", usage=Usage(10_000, cache_write_1h_tokens=1_000_000, web_searches=2, output_tokens=0)))
    chat = wb.Chat()
    chat.ask("one")

    _, money = wb.plots.context_growth(chat, priced_as="claude-opus-5-5")
    # 10,000 x $4 a million, 1,000,000 x $8 a million, 2 searches x $0.01
    assert [bar.get_height() for bar in money.patches] == pytest.approx([8.06])


def test_a_long_prompt_has_the_price_of_long_prompts(scripted: ScriptedUpstream) -> None:
    """Haiku 5.5 takes $0.10 a million tokens of input, $0.50 above 100,000 of them."""
    scripted.script(reply("a", usage=Usage(uncached_input_tokens=200_000, output_tokens=0)))
    chat = wb.Chat()
    chat.ask("one")
    _, money = wb.plots.context_growth(chat, priced_as="claude-haiku-5-5")
    costs = history_costs(2, model="claude-haiku-5-5", system_tokens=0, question_tokens=80_000, reply_tokens=0)
    whole = costs[(costs.policy == WHOLE) & ~costs.cached]

    assert [bar.get_height() for bar in money.patches] == pytest.approx([0.1])
    assert list(whole.cost_usd) == [Decimal("0.008"), Decimal("0.08")]


def test_a_chat_without_turns_has_nothing_to_show(scripted: ScriptedUpstream) -> None:
    with pytest.raises(wb.InvalidRequest, match="no turns yet"):
        wb.plots.context_growth(wb.Chat())


def test_policies_cost_what_a_sum_by_hand_says() -> None:
    costs = history_costs(3, system_tokens=1000, question_tokens=100, reply_tokens=200, limit=2)
    last = costs[costs.turn == 3].set_index(["policy", "cached"])

    # sonnet 5.5: input 2, write 2.5, read 0.1, output 10; turns send 1100, 1400, 1700 whole and 1100 each trimmed
    assert last.cost_so_far_usd[WHOLE, False] == Decimal("0.0144")  # 4200 x 2 + 600 x 10
    assert last.cost_so_far_usd[WHOLE, True] == Decimal("0.0105")  # 1700 x 2.5 + 2500 x 0.1 + 600 x 10
    assert last.cost_so_far_usd[SLIDING, True] == Decimal("0.01425")  # 3300 x 2.5 + 600 x 10
    assert last.messages[BLOCKS, True] == 1
    assert list(costs[(costs.policy == WHOLE) & costs.cached].cache_read_tokens) == [0, 1100, 1400]


@pytest.mark.parametrize("shape", [{"turns": 0}, {"limit": 0}])
def test_a_chat_of_nothing_has_no_policies(shape: dict[str, int]) -> None:
    with pytest.raises(wb.InvalidRequest, match="are no chat; give 1 or more of both"):
        wb.plots.history_policies(**shape)


def test_the_policies_plot_compares_sliding_with_ours() -> None:
    axes = wb.plots.history_policies(40)

    assert title(axes) == "With a cache, a sliding window costs 2.6 times as much as dropping blocks"
    assert len(axes.lines) == 5
    assert {text.get_text() for text in axes.texts} >= {
        "whole chat, cached $0.27",
        "dropped in blocks, cached (ours) $0.30",
        "sliding window, cached $0.78",
    }
    assert axes.figure.get_label() == title(axes)


# By day ---------------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
OPUS = "claude-opus-5-5"  # input $4, cache write $5, cache read $0.20, output $20 a million


@pytest.fixture
def ten_days(no_key: Path) -> None:
    """Of $1 of new input, $1 of replies, $1 of cache reads and one of $12; on the first day nobody knows."""
    usage = Counts(uncached_input_tokens=250_000, output_tokens=50_000, cache_read_tokens=5_000_000)
    days = [NOON - timedelta(days=n) for n in range(9, -1, -1)]
    write([call(days[0], "no-such-model", usage)])
    write([call(day, OPUS, usage, ttft_ms=400 + 100 * n) for n, day in enumerate(days[1:])])
    write([call(days[4], OPUS, Counts(uncached_input_tokens=2_250_000), ttft_ms=5000)])


def test_spend_shows_classes_by_day_and_calls_out_the_dear_one(ten_days: None) -> None:
    axes = wb.plots.spend(now=NOON)

    assert title(axes) == "$36 in 10 days; 15 Nov cost $12, 4.0 times a usual day"
    assert subtitle(axes) == (
        "US dollars a day by class of tokens · 10 calls · 1 more of unknown price not shown · days of UTC"
        " · hatched: today so far"
    )
    assert words(axes) == ["?", "new input 50%", "cache reads 25%", "replies 25%", "15 Nov $12"]
    inputs, today, reads, _, replies, _ = heights(axes)
    assert inputs == pytest.approx([0, 1, 1, 1, 10, 1, 1, 1, 1, 1])
    assert reads[1] == pytest.approx(2) and replies[1] == pytest.approx(3) and today == pytest.approx([1])
    assert [each.get_hatch() for each in axes.collections] == [None, "//////"] * 3
    assert axes.figure.get_label() == title(axes)


def test_spend_of_other_days_has_no_day_that_is_not_over(ten_days: None) -> None:
    axes = wb.plots.spend(until="2026-11-20", where={"model": OPUS}, now=NOON)
    assert "hatched" not in subtitle(axes) and "unknown" not in subtitle(axes)
    assert len(axes.collections) == 3
    assert title(wb.plots.spend("2026-11-18", now=NOON)) == "$9.00 in 3 days, 33% of it for new input"


def test_what_nobody_knows_is_no_bar_of_zero(ten_days: None) -> None:
    axes = wb.plots.spend(where={"model": "no-such-model"}, now=NOON)
    assert title(axes) == "What these calls cost is not known"
    assert words(axes) == ["?"]


def test_calls_that_cost_nothing_say_so_and_one_day_is_named_once(no_key: Path) -> None:
    write([call(NOON, "local", Counts(output_tokens=5))])
    axes = wb.plots.spend()
    assert title(axes) == "$0 in 1 day: nobody charged for these calls"
    axes.figure.canvas.draw()
    assert [label.get_text() for label in axes.get_xticklabels() if label.get_text()].count("20 Nov") == 1


ODD = {
    "one call": lambda: [call(NOON, OPUS, Counts(uncached_input_tokens=300, output_tokens=50), chat_id="c")],
    "free": lambda: [call(NOON - timedelta(days=n), "local", Counts(output_tokens=9), chat_id="c") for n in range(20)],
    "failed": lambda: [
        call(NOON - timedelta(days=n), OPUS, Counts(), chat_id="c", status="failed", ttft_ms=None) for n in range(20)
    ],
    "unknown": lambda: [
        call(NOON - timedelta(days=n), "mine", Counts(output_tokens=9), chat_id="c") for n in range(20)
    ],
    "large": lambda: [
        call(NOON - timedelta(days=n), model, Counts(uncached_input_tokens=90_000_000), chat_id="c", ttft_ms=300)
        for n in range(45)
        for model in (OPUS, "us.anthropic.claude-opus-4-6-v1:0")
    ],
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_ledgers_are_drawn_as_tidily_or_refused_in_words(no_key: Path, kind: str) -> None:
    org = "the-department-of-analytics-and-insights" if kind == "large" else "acme"
    write([row | {"org_id": org} for row in ODD[kind]()])
    drawn: dict[str, Callable[[], Axes]] = {
        "spend": lambda: wb.plots.spend(org=org, now=NOON, tz="America/Los_Angeles"),
        "tokens": lambda: wb.plots.tokens(org=org, now=NOON),
        "cache_hits": lambda: wb.plots.cache_hits(org=org, now=NOON),
        "burn_down": lambda: wb.plots.burn_down(org, 60, now=NOON),
        "latency": lambda: wb.plots.latency(org=org),
        "context_growth": lambda: wb.plots.context_growth("c", org=org)[0],
        "what_if": lambda: wb.plots.what_if(org=org),
        "history_lab": lambda: wb.plots.history_lab(org=org),
        "history_lab of a chat": lambda: wb.plots.history_lab("c", org=org),
    }
    titles = {}
    for name, draw in drawn.items():
        try:
            figure = draw().figure
        except wb.InvalidRequest as refused:
            titles[name] = str(refused)
            continue
        figure.canvas.draw()
        titles[name] = figure.get_label()
        boxes = dict(boxes_of(figure))
        for text, box in boxes.items():
            assert box.x0 >= 0 and box.x1 <= 640 and box.y0 >= 0 and box.y1 <= figure.bbox.height, (name, text)
        for (one, first), (other, second) in combinations(boxes.items(), 2):
            assert not first.overlaps(second), (name, one.get_text(), other.get_text())
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                low, high = axis.get_view_interval()
                at = [each.label1.get_text() for each in axis.get_major_ticks() if low <= each.get_loc() <= high]
                assert len(at) == len(set(at)), (name, at)
    assert not [title for title in titles.values() if " 0.0 times" in title or " 1.0 times" in title]
    if kind == "free":
        assert titles["history_lab of a chat"] == "These calls cost nothing, so nothing else would be cheaper"
    if kind == "unknown":
        assert titles["burn_down"] == "no call of this month has a known price; add one under [prices]"
        assert titles["spend"] == "What these calls cost is not known"
    if kind == "one call":
        assert titles["latency"] == f"Replies of {OPUS} begin within 0.3 s"
        assert titles["cache_hits"] == "Nothing of the input came from the cache"


def test_policies_that_cost_the_same_are_not_said_to_differ() -> None:
    assert title(wb.plots.history_policies(1)) == "A chat of 1 turn costs the same in a sliding window as in blocks"
    with pytest.raises(wb.InvalidRequest, match="local costs nothing"):
        wb.plots.history_policies(model="local")


def test_a_chat_with_two_models_is_not_said_to_have_one_price(no_key: Path) -> None:
    write([call(NOON, model, Counts(output_tokens=9), chat_id="c") for model in (OPUS, "claude-haiku-5-5")])
    _, money = wb.plots.context_growth("c")
    assert subtitle(money) == "US dollars so far · 2 models, each at its price"


def test_every_text_has_a_contrast_of_4_5_to_1() -> None:
    def luminance(colour: str) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(colour)]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for colour in (*drawing.AS_TEXT.values(), drawing.INPUT, drawing.GREY):
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5, colour


def test_classes_are_told_apart_in_grey() -> None:
    def grey(colour: str) -> float:
        return 255 * sum(w * c for w, c in zip((0.299, 0.587, 0.114), mpl.colors.to_rgb(colour), strict=True))

    # as they lie on each other in a bar, and as bars lie below each other
    for colours in (
        (drawing.INPUT, drawing.CACHE_WRITE, drawing.CACHE_READ, drawing.OUTPUT),
        (drawing.INK, drawing.LOSS, drawing.SAVING, drawing.PALE),
    ):
        steps = [grey(colour) for colour in (*colours, "white")]
        assert all(after - before >= 35 for before, after in pairwise(steps)), steps


def test_days_begin_where_people_are(ten_days: None) -> None:
    axes = wb.plots.spend(tz="Pacific/Kiritimati", now=NOON)  # it is 2 in the morning of the next day
    assert "16 Nov cost $12" in title(axes)
    assert "days of Pacific/Kiritimati" in subtitle(axes) and "hatched" in subtitle(axes)


def test_a_present_without_a_zone_is_of_the_zone_asked_for(ten_days: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not of the machine's, by which it would still be the 20th in UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        try:
            axes = wb.plots.spend("2026-11-20", now=datetime(2026, 11, 21, 1))
        finally:
            patch.undo()
            time.tzset()

    assert "hatched" not in subtitle(axes)


@pytest.mark.parametrize("now", ["0001-01-01T00:00+12:00", "9999-12-31T23:00-12:00"])
def test_a_present_beyond_the_calendar_is_refused(ten_days: None, now: str) -> None:
    with pytest.raises(wb.InvalidRequest, match="is outside the calendar in UTC; give another time"):
        wb.plots.spend(now=now)


def test_tokens_are_counted_whatever_they_cost(ten_days: None) -> None:
    axes = wb.plots.tokens(now=NOON)
    assert title(axes) == "55 million tokens: 90% read from the cache, 1% replies"
    assert heights(axes)[-2][0] == 5_300_000
    assert words(axes) == ["new input 9%", "cache reads 90%", "replies 1%"]


def test_cache_hits_name_the_worst_of_the_busy_days(ten_days: None) -> None:
    axes = wb.plots.cache_hits(now=NOON)
    assert title(axes) == "91% of all input came from the cache, on 15 Nov only 67%"
    assert heights(axes)[0] == pytest.approx([5 / 5.25] * 4 + [5 / 7.5] + [5 / 5.25] * 5)
    steady = wb.plots.cache_hits("2026-11-16", now=NOON)
    assert title(steady) == "95% of all input came from the cache, on busy days never less than 95%"


def test_latency_compares_the_medians_of_models(ten_days: None) -> None:
    axes = wb.plots.latency(where={"model": OPUS})
    assert title(axes) == f"Half of the replies of {OPUS} begin within 0.8 s, 95% within 5 s"
    assert axes.get_xscale() == "log"

    write([call(NOON, "claude-haiku-5-5", Counts(output_tokens=1), ttft_ms=200)])
    axes = wb.plots.latency(where={"model": [OPUS, "claude-haiku-5-5"]})
    assert title(axes) == f"{OPUS} takes 0.8 s to begin, 4.0 times as long as claude-haiku-5-5 (medians)"
    assert words(axes)[0] == "claude-haiku-5-5 half 0.2 s, 95% 0.2 s"
    assert subtitle(axes) == "share of the calls by time to the first token, on a logarithmic axis · 11 calls"

    long = "claude-of-a-very-long-name-indeed"
    write([call(NOON, model, Counts(output_tokens=1), ttft_ms=820) for model in (long, "a", "b", "b", "b")])
    axes = wb.plots.latency()
    assert len(axes.lines) == 4 * 3
    assert subtitle(axes).endswith("2 models with fewer calls not shown")
    axes = wb.plots.latency(where={"model": ["a", "b"]})
    assert title(axes) == "Half of the replies begin within 0.82 s, whichever the model"
    axes = wb.plots.latency(where={"model": [OPUS, long]})
    assert title(axes) == "Half of the replies begin within 0.82 s, whichever the model"
    assert words(axes)[1] == "claude-of-a-very-long-nam… half 0.82 s, 95% 0.82 s"


def test_why_is_a_waterfall_from_one_period_to_the_other(ten_days: None) -> None:
    before, after = ("2026-11-12", "2026-11-14"), ("2026-11-14", "2026-11-16")
    axes = wb.plots.why(before, after)
    split = wb.why(before, after)
    assert title(axes).startswith("$9.00 more, most of all by ")
    bars = {name.get_text(): bar for name, bar in zip(axes.get_yticklabels(), axes.patches, strict=True)}
    assert (bars["before"].get_width(), bars["after"].get_width()) == (6, 15)
    for factor, usd in zip(split.factor, split.usd, strict=True):
        assert factor in bars or abs(usd) < Decimal("0.015")
        if factor in bars:
            assert bars[factor].get_width() == pytest.approx(float(usd))
    assert sum(bar.get_width() for name, bar in bars.items() if name not in ("before", "after")) == pytest.approx(
        9, abs=0.1
    )
    assert "before: 2026-11-12 until 2026-11-14 · after: 2026-11-14 until 2026-11-16 · 5 calls" in subtitle(axes)
    days = wb.plots.why(("2026-11-14", "2026-11-15"), ("2026-11-15", "2026-11-16"))
    assert "before: 2026-11-14 · after: 2026-11-15 · 3 calls" in subtitle(days)
    weeks = wb.plots.why(
        ("2026-W45-1", "2026-W46-1"), ("2026-W46-1", "2026-W47-1")
    )  # of ISO 8601, as wb.why takes them
    assert "before: 2026-W45-1 until 2026-W46-1 · after: 2026-W46-1 until 2026-W47-1 · " in subtitle(weeks)


def test_a_waterfall_below_zero_is_seen_to_its_end(no_key: Path) -> None:
    ago = NOON - timedelta(days=5)
    write([call(ago, OPUS, Counts(uncached_input_tokens=1000)) for _ in range(100)])
    write([call(NOON, OPUS, Counts(uncached_input_tokens=1_000_000))])
    axes = wb.plots.why((None, "2026-11-18"), ("2026-11-18", None))
    left, right = axes.get_xlim()
    assert min(bar.get_x() + min(bar.get_width(), 0) for bar in axes.patches) < 0
    for bar in axes.patches:
        assert left < bar.get_x() < right and left < bar.get_x() + bar.get_width() < right
    assert title(axes).startswith("$3.60 more, most of all by input length (+$202), while volume went the other way")


def test_burn_down_gives_the_odds_and_says_what_is_an_estimate(no_key: Path) -> None:
    write(
        [call(NOON - timedelta(days=n, hours=h), OPUS, Counts(output_tokens=50_000)) for n in range(40) for h in (0, 5)]
    )
    axes = wb.plots.burn_down(budget=50, now=NOON)
    found = wb.forecast(budget=50, now=NOON)

    about = title(axes).removeprefix("November ends at about ")
    assert about.startswith(f"${found.expected_usd:.0f} and passes the budget of $50 with odds of ")
    assert {"budget $50", f"~${found.expected_usd:.0f}", f"${found.low_usd:.0f}"} <= set(words(axes))
    assert "band: 8 of 10 simulated months · 39 calls · days of UTC" in subtitle(axes)
    assert "budget" not in title(wb.plots.burn_down(now=NOON))
    assert title(wb.plots.burn_down(budget=20, now=NOON)).endswith("; the budget of $20 was passed on 11 Nov")


@pytest.mark.parametrize("plot", ["spend", "tokens", "cache_hits", "latency", "burn_down"])
def test_without_calls_it_is_said_that_there_are_none(no_key: Path, plot: str) -> None:
    with pytest.raises(wb.InvalidRequest, match=r"no calls? |has 0 whole days"):
        getattr(wb.plots, plot)()
    with pytest.raises(wb.InvalidRequest, match="neither period has a call that cost anything"):
        wb.plots.why((None, "2026-11-01"), ("2026-11-01", None))


# On the demo ledger -----------------------------------------------------------------------------------------------------


def test_at_640_pixels_every_text_is_on_the_page_and_none_on_another(no_key: Path) -> None:
    org = wb.demo_data("2026-11-20")
    chat = wb.usage(org=org, by="chat_id").dropna().nlargest(1, "calls").chat_id.iloc[0]
    periods = ("2026-10-01", "2026-10-20"), ("2026-11-01", "2026-11-20")
    drawn: dict[str, Callable[[], Axes]] = {
        "spend": lambda: wb.plots.spend(org=org),
        "spend of a month": lambda: wb.plots.spend("2026-11-01", org=org, now=NOON - timedelta(days=1)),
        "tokens": lambda: wb.plots.tokens(org=org),
        "cache_hits": lambda: wb.plots.cache_hits(org=org),
        "burn_down": lambda: wb.plots.burn_down(org, now="2026-11-13T15:00"),
        "latency": lambda: wb.plots.latency(org=org),
        "why": lambda: wb.plots.why(*periods, org=org),
        "context_growth": lambda: wb.plots.context_growth(chat, org=org)[0],
        "history_policies": wb.plots.history_policies,
    }
    for name, draw in drawn.items():
        figure = draw().figure
        figure.canvas.draw()
        assert figure.get_figwidth() * figure.dpi == 640
        assert "\n" not in figure.get_label() and len(figure.get_label()) > 20
        boxes = dict(boxes_of(figure))
        for text, box in boxes.items():
            assert box.x0 >= 0 and box.x1 <= 640 and box.y0 >= 0 and box.y1 <= figure.bbox.height, (name, text)
        for (one, first), (other, second) in combinations(boxes.items(), 2):
            assert not first.overlaps(second), (name, one.get_text(), other.get_text())
        if name != "history_policies":
            assert "synthetic data" in subtitle(figure.axes[0]), name


def boxes_of(figure: object) -> Iterator[tuple[Text, Bbox]]:
    from matplotlib.text import Text

    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for axes in figure.axes:  # type: ignore[attr-defined]
        ticks = []
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        for text in [*axes.texts, *ticks, axes.xaxis.label, axes._left_title]:
            if text.get_visible() and text.get_text().strip():
                yield text, Text.get_window_extent(text, renderer)  # of the words, without arrows
