"""How the month ends: what was spent goes on as it went, drawn a thousand times from the days there were."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, NamedTuple

from workbench.budgets import ends
from workbench.errors import InvalidRequest
from workbench.ledger.demo import DEMO_ORG
from workbench.ledger.frames import present, usage
from workbench.runtime import runtime
from workbench.store.queries import query
from workbench.turns import DEFAULT_ID, Caller
from workbench.wording import apart, counted, dollars, plain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from workbench.ledger.frames import Moment
    from workbench.store.backend import Backend

    Floats = npt.NDArray[np.float64]

LEAST_DAYS, MOST_DAYS = 14, 56
"""Whole days of history: two weeks show every weekday twice, and what is older than eight weeks says little."""
SIMULATIONS = 2000
HALF_LIFE = 28
"""Days after which a day counts half."""
LIKE_THE_OTHERS = 3
"""A weekday is believed to be like the others of its kind, working days or weekend, as if seen so often."""
LEAST_WEEKDAY = 0.05
"""A weekday's part of a mean day; less would make one call on a Sunday a spike."""
MOST_TREND = 0.012
"""Change a day that is usual: of a level that seems to change faster, so much more must have been seen."""
LEVEL_ERROR, DRIFT = 0.12, 0.03
"""How far the level may be off, and how far it wanders in a day; with both, 80 % intervals of simulated ledgers hold
81 % of the truths, without them 75 %."""
DRIVERS = 3
"""Named of each kind."""


class History(NamedTuple):
    """What was spent by day, oldest first, up to the moment of the forecast."""

    today: date
    days: tuple[Decimal, ...]
    """Whole days, the last of which was yesterday; from the first one with calls on, those without are 0."""
    later: tuple[Decimal, ...]
    """Of each of them what was spent after the time of the day that it is now."""
    so_far: Decimal
    """What was spent today."""
    unpriced_calls: int = 0
    """Of this month; they are not in the sums."""

    @property
    def month_usd(self) -> Decimal:
        """What was spent since the first of the month."""
        return self.so_far + sum(self.days[len(self.days) - min(len(self.days), self.today.day - 1) :], Decimal(0))

    @property
    def enough(self) -> bool:
        """Whether it is long enough to say how the month ends."""
        return len(self.days) >= LEAST_DAYS

    @property
    def days_left(self) -> int:
        """Whole days of this month after today."""
        following = ends("month", datetime(self.today.year, self.today.month, self.today.day, tzinfo=UTC))
        return (following.date() - self.today).days - 1 if following else 0


@dataclass(frozen=True)
class Forecast:
    """How a month ends. Amounts are US dollars; what is not over yet is an estimate and says so in its name."""

    org: str
    now: datetime
    spent_usd: Decimal
    """From the first of the month until now."""
    expected_usd: Decimal
    """At the end of the month: as likely more as less."""
    low_usd: Decimal
    high_usd: Decimal
    """With odds of 80 % the month ends between these two, or better odds where most months end alike: they are the same
    only if nothing can be spent any more, or nothing ever was."""
    budget_usd: Decimal | None
    odds_over: float | None
    """That the month ends above the budget, 0 to 1; None without one."""
    over_on: date | None
    """The day on which the budget is passed, or was; None if that is less likely than not."""
    over_from: date | None
    """The first day by which the odds of that are 10 %."""
    history_days: int
    """Whole days that it is drawn from."""
    unpriced_calls: int
    """Calls of this month whose price is not known; they are in none of the amounts."""
    days: pd.DataFrame = field(repr=False, compare=False)
    """A row per day of the month: ``day``, ``spent_usd`` from the first on (Decimal; missing after today), ``expected``,
    ``low`` and ``high`` (floats; missing before today)."""
    drivers: pd.DataFrame = field(repr=False, compare=False)
    """What most was spent on this month: ``kind`` (user_id, model, chat_id), ``name``, ``usd`` and ``share``."""

    def __str__(self) -> str:
        month = f"{self.now:%B %Y}"
        low, high = apart(self.low_usd, self.high_usd)
        said = f"{month} ends between {low} and {high} with odds of 80%, about {dollars(self.expected_usd)}"
        if self.low_usd == self.high_usd:
            said = f"{month} ends at {low}"
        said += f"; {dollars(self.spent_usd)} so far"
        if self.budget_usd is not None and self.odds_over is not None:
            said += f". The budget of {dollars(self.budget_usd)} "
            on = f"{self.over_on.day} {self.over_on:%B}" if self.over_on else ""
            if self.spent_usd > self.budget_usd:
                said += f"was passed on {on}"
            else:
                said += f"is passed with odds of {percent(self.odds_over)}" + (f", about {on}" if on else "")
        if self.unpriced_calls:
            verbs = ("has no known price and is", "have no known price and are")
            said += f". {counted(self.unpriced_calls, 'call', verbs)} not counted"
        return f"{said}."

    def __repr__(self) -> str:
        return str(self)


def forecast(
    org: str = DEFAULT_ID, budget: Decimal | float | str | None = None, *, now: Moment | None = None
) -> Forecast:
    """Return how this month ends, with an interval, the odds of passing the budget and when, and what drives the spend.

    Args:
        org: Whose calls.
        budget: US dollars a month; without it the org's own, if it has one a month. Turns that a budget refuses are not
            foreseen: it is about what would be spent.
        now: The moment at which to ask; until it, the ledger is looked at. The present if not given. Months and days
            are those of UTC, as for budgets.

    Raises:
        InvalidRequest: there are fewer than 14 whole days since the first call of the last eight weeks: nobody can say.
            Or the budget is no amount.

    Every remaining day is drawn from the days there were, recent ones more often: its weekday's usual part of a mean
    day, times the level (with a trend as far as the days bear it out), times how much one of the past days differed
    from what the others had said of it. Where there are days without spend, one more day with it counts as seen. The
    rest of today is drawn from what was spent after this time on past days. The level is estimated anew for each of
    2,000 months, so that what few days do not tell makes the interval wider.

    Example::

        print(wb.forecast(budget=60))
    """
    at = present(now, UTC)
    store = runtime().engine.store
    history = runtime().run(spend_history(store.backend, at, org))
    if not history.enough:
        whose = "the ledger" if org == DEFAULT_ID else f"org {org!r}"
        raise InvalidRequest(
            f"{whose} has {counted(len(history.days), 'whole day')} since its first call of the last {MOST_DAYS} days; "
            f"a forecast needs {LEAST_DAYS}: ask again later, see wb.usage(by='day'), or try it on org=wb.demo_data()"
        )
    limit = runtime().run(_budget_of(org)) if budget is None else _dollars(budget)
    totals = month_totals(history)
    low, expected, high = month_end(totals)
    odds, on, early = _overrun(history, totals, limit)
    return Forecast(
        org=org,
        now=at,
        spent_usd=plain(history.month_usd),
        expected_usd=expected,
        low_usd=low,
        high_usd=high,
        budget_usd=limit,
        odds_over=odds,
        over_on=on,
        over_from=early,
        history_days=len(history.days),
        unpriced_calls=history.unpriced_calls,
        days=_days(history, totals),
        drivers=_drivers(org, history.today.replace(day=1), at),
    )


async def spend_history(backend: Backend, now: datetime, org: str | None = None) -> History:
    """Return what an org has spent by day until ``now``, which is of UTC; of all orgs but the synthetic without one."""
    today = now.date()
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
    since = min(midnight - timedelta(days=min(MOST_DAYS, today.toordinal() - 1)), midnight.replace(day=1))
    rows = await backend.rows(query("daily_spend"), org, since, now, (now - midnight).total_seconds(), DEMO_ORG)
    found = {date(1970, 1, 1) + timedelta(days=day): amounts for day, *amounts in rows}
    nothing = [Decimal(0), Decimal(0), 0]
    first = min(found, default=today)
    whole = [found.get(first + timedelta(days=n), nothing) for n in range((today - first).days)]
    unpriced = sum(amounts[2] for day, amounts in found.items() if day >= today.replace(day=1))
    spent, later = tuple(each[0] for each in whole), tuple(each[1] for each in whole)
    return History(today, spent, later, found.get(today, nothing)[0], unpriced)


def month_totals(history: History, simulations: int = SIMULATIONS) -> Floats:
    """Return what will have been spent since the first of the month at the end of today and of each day left.

    A row per simulated month, the same ones for the same history; see :func:`forecast` for how they are drawn.
    """
    import numpy as np  # on use: 0.1 s

    random = np.random.default_rng(1)  # nothing is secret, and asking again must not change the answer
    spent = np.array(history.days[-MOST_DAYS:], dtype=np.float64)
    later = np.array(history.later[-MOST_DAYS:], dtype=np.float64)
    if history.so_far and not spent.any():  # paid for the first time today, which is all that is known
        spent[-1] = later[-1] = float(history.so_far)
    ages = np.arange(len(spent), 0, -1.0)
    weekdays = (history.today.weekday() - ages.astype(int)) % 7
    usual, by_others = _weekdays(spent, weekdays)

    # what each day was beside what the others say of its weekday; a day that counts for little is seldom drawn
    weights = by_others * 0.5 ** (ages / HALF_LIFE)
    weights /= weights.sum()
    size = max(7, round(1 / float((weights**2).sum())))  # as many as equal weights would be worth
    drawn = random.choice(len(spent), (simulations, size), p=weights)
    levels, whens = (spent / by_others)[drawn], -ages[drawn]
    level, when = levels.mean(1, keepdims=True), whens.mean(1, keepdims=True)
    off = whens - when
    with np.errstate(divide="ignore", invalid="ignore"):  # a level of 0 has no trend
        noise = levels.var(1, keepdims=True) / level**2
        trend = (off * levels).sum(1, keepdims=True) / level / ((off**2).sum(1, keepdims=True) + noise / MOST_TREND**2)
    trend = np.nan_to_num(trend)
    then = np.maximum(1 + trend * off, 0.2)

    ahead = np.arange(history.days_left + 1)
    days, rests = levels / then, (later / by_others)[drawn] / then
    if 0 < (dear := np.flatnonzero(spent)).size < len(spent):
        # of days that are seldom dear few were seen: one more may come, as by Laplace's rule of succession
        more = random.choice(dear, (simulations, 1), p=weights[dear] / weights[dear].sum())
        days, rests = (np.hstack((known, (each / by_others)[more])) for known, each in ((days, spent), (rests, later)))
    picked = random.integers(days.shape[1], size=(simulations, len(ahead)))
    amounts = np.take_along_axis(days, picked, 1)
    amounts[:, 0] = np.take_along_axis(rests, picked[:, :1], 1)[:, 0]
    wander = random.normal(0, DRIFT, amounts.shape).cumsum(1) + random.normal(0, LEVEL_ERROR, (simulations, 1))
    amounts *= np.clip(1 + trend * (ahead - when), 0.2, 5) * np.exp(wander)
    amounts *= usual[(history.today.weekday() + ahead) % 7]
    totals: Floats = float(history.month_usd) + amounts.cumsum(1)
    return totals


def month_end(totals: Floats) -> tuple[Decimal, Decimal, Decimal]:
    """Return the low, the middle and the high end of simulated months; at least 80 % of them end between low and high.

    Where 90 % end alike, as nothing more is spent, the high end is the middle of what the others come to.
    """
    import numpy as np

    ends = totals[:, -1]
    low, middle, high = np.quantile(ends, (0.1, 0.5, 0.9))
    if low == high and (ends > high).any():
        high = np.median(ends[ends > high])
    low, middle, high = (plain(Decimal(f"{each:.9f}")) for each in (low, middle, high))
    return low, middle, high


def percent(odds: float) -> str:
    """Return odds as people write them; a simulation never knows for certain.

    >>> percent(0.243), percent(0.0), percent(0.999)
    ('24%', 'under 1%', 'over 99%')
    """
    return "under 1%" if odds < 0.01 else "over 99%" if odds > 0.99 else f"{odds:.0%}"


def _weekdays(spent: Floats, weekdays: npt.NDArray[np.int_]) -> tuple[Floats, Floats]:
    """The part of a mean day that each weekday has; and for each day that of its weekday, the day itself left out."""
    import numpy as np

    known = spent[spent > 0]
    # one wild Wednesday does not make Wednesdays dear
    tame = np.minimum(spent, np.quantile(known, 0.95)) if len(known) else spent
    mean = tame.mean() or 1.0
    is_day = weekdays[:, None] == np.arange(7)
    kinds = np.array([0] * 5 + [1] * 2)
    sums, counts = tame @ is_day, is_day.sum(0)
    kind_sums, kind_counts = np.bincount(kinds, sums), np.bincount(kinds, counts)

    def part(sums: Floats, counts: Floats, kind_sums: Floats, kind_counts: Floats) -> Floats:
        kind = kind_sums / np.maximum(kind_counts, 1)
        shrunk = (sums + LIKE_THE_OTHERS * kind) / (counts + LIKE_THE_OTHERS)
        parts: Floats = np.maximum(shrunk / mean, LEAST_WEEKDAY)
        return parts

    own = kinds[weekdays]
    usual = part(sums, counts, kind_sums[kinds], kind_counts[kinds])
    return usual, part(sums[weekdays] - tame, counts[weekdays] - 1, kind_sums[own] - tame, kind_counts[own] - 1)


def _so_far(history: History) -> list[tuple[date, Decimal]]:
    """What was spent from the first of the month to the end of each day, today until now."""
    days, total = [], Decimal(0)
    for n in range(history.today.day - 1, -1, -1):
        at = len(history.days) - n
        total += history.so_far if n == 0 else history.days[at] if at >= 0 else Decimal(0)
        days.append((history.today - timedelta(days=n), total))
    return days


def _overrun(history: History, totals: Floats, budget: Decimal | None) -> tuple[float | None, date | None, date | None]:
    """The odds of passing the budget, the day by which they are even, and the one by which they are one in ten."""
    if budget is None:
        return None, None, None
    for day, total in _so_far(history):
        if total > budget:
            return 1.0, day, day
    over = (totals > float(budget)).mean(0)

    def first(odds: float) -> date | None:
        return next((history.today + timedelta(days=n) for n, each in enumerate(over) if each >= odds), None)

    return float(over[-1]), first(0.5), first(0.1)


def _days(history: History, totals: Floats) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    spent = [(day, plain(total), np.nan, np.nan, np.nan) for day, total in _so_far(history)]
    ranges = np.quantile(totals, (0.5, 0.1, 0.9), axis=0).T.tolist()
    today, *left = [(history.today + timedelta(days=n), None, *each) for n, each in enumerate(ranges)]
    rows = [*spent[:-1], (*spent[-1][:2], *today[2:]), *left]
    frame = pd.DataFrame(rows, columns=["day", "spent_usd", "expected", "low", "high"])
    return frame.astype({"day": "datetime64[s]", "spent_usd": object})


def _drivers(org: str, since: date, until: datetime) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for kind in ("user_id", "model", "chat_id"):
        spent = usage(since, until, by=kind, org=org).dropna(subset=[kind, "cost_usd"])
        total = spent.cost.sum()
        for name, usd, cost in spent.nlargest(DRIVERS, "cost")[[kind, "cost_usd", "cost"]].itertuples(index=False):
            rows.append((kind, name, usd, cost / total if total else None))
    return pd.DataFrame(rows, columns=["kind", "name", "usd", "share"]).astype({"share": "float64"})


def _dollars(budget: Decimal | float | str) -> Decimal:
    try:
        amount = Decimal(str(budget))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise InvalidRequest(f"the budget is {budget!r}; give US dollars a month, such as 60")
    return amount


async def _budget_of(org: str) -> Decimal | None:
    """What an org may spend a month; None without such a budget."""
    limits = await runtime().engine.store.limits(Caller(org, DEFAULT_ID))
    monthly = (of.budget_usd for of in limits if of.scope == "org" and of.budget_period == "month")
    return next((plain(usd) for usd in monthly if usd is not None), None)
