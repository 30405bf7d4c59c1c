"""The ledger beside Anthropic's own figures: where the two differ, and what explains most of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidRequest
from workbench.ledger.classes import spent_by
from workbench.ledger.imports.reading import LONGEST, UNREADABLE, Source, files_at, parsed
from workbench.ledger.imports.values import Malformed, count, mapping, moment, or_none, sequence
from workbench.pricing import CLASSES, listed_name, price_of
from workbench.runtime import runtime
from workbench.store.erase import known_org
from workbench.store.queries import query
from workbench.turns import DEFAULT_ID
from workbench.wording import dollars, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pandas as pd

    from workbench.ledger.classes import Spent

    Key = tuple[date, str | None]
    """A day, and a model; None for all of them together, or for what belongs to none."""

COLUMNS = (
    "day",
    "model",
    "class",
    "billed_tokens",
    "ledger_tokens",
    "drift_tokens",
    "billed_usd",
    "ledger_usd",
    "drift_usd",
)
ALL, OTHER = "all", "other"
"""What is in no class: all that was billed or recorded, and what was recorded at prices the table does not have."""
BILLED_CLASSES = {
    "uncached_input_tokens": "uncached_input_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    "output_tokens": "output_tokens",
    "web_search": "web_searches",
    "tokens": ALL,
}
"""Our names of the types of tokens, and of costs, that a cost report by description tells."""
ROUNDED = Decimal("0.0000000005")
"""Most that is lost when the cost of a call is recorded."""
MOST_USD = Decimal(10) ** 9
DEFAULT_WORKSPACE = "default"
"""The name of the workspace that has none."""

UNPRICED = "calls whose price the ledger does not know"
MISSING = "usage of which the ledger has no call that day: made elsewhere, or not imported yet"
ELSEWHERE = "other workspaces"
BROKEN = "calls that failed or broke off, whose counts are estimates"
IMPORTED = "imported calls that this account did not pay for, such as those of a subscription"
REST = "what nothing here explains, such as a discount"


@dataclass(slots=True)
class _Bill:
    """One kind of report: per day and model how many tokens of each class, or how many dollars."""

    days: set[date] = field(default_factory=set)
    """Those it is about, also where nothing was used."""
    amounts: dict[Key, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_workspace: dict[str, dict[Key, Decimal]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Decimal))
    )
    by_model: bool = False
    by_class: bool = False

    def add(self, key: Key, amounts: Mapping[str, Any], workspace: str) -> None:
        """Count a row of the report."""
        self.by_model = self.by_model or key[1] is not None
        self.by_class = self.by_class or not {*CLASSES[:5]}.isdisjoint(amounts)
        self.amounts[key].update(amounts)
        self.by_workspace[workspace][key] += Decimal(sum(amounts.values()))


def reconcile(
    path: str | Path | Iterable[str | Path], *, workspace: str | None = None, org: str = DEFAULT_ID
) -> pd.DataFrame:
    """Compare the ledger with Anthropic's usage and cost reports, and return where the two differ.

    Args:
        path: Answers of the Admin API as JSON, one or several files, pages or lists of pages: of the usage report, the cost
            report, or both, also those of the Usage and Cost Analytics API. Ask for a ``bucket_width`` of a day or less,
            grouped by model (cost: by description); by workspace too, if there are several.
        workspace: Only what the reports have of this one, ``default`` for the one without an id.
        org: Whose calls of the ledger.

    Returns:
        One row per UTC day, model and class of tokens (or ``web_searches``, whose counts stand where tokens do), with
        tokens and dollars, and one of class ``all`` with the dollars as billed and as recorded. ``drift_…`` is what the
        ledger has more than was billed. Dollars by class need a cost report by description; the ledger's are computed
        from the price table, and of class ``other`` is what was recorded at prices that are not in it. Rows without any
        of both are left out; what a report does not tell, or the ledger does not know, is missing.
        ``.attrs["sentence"]`` says what explains most of it, ``.attrs["reasons"]`` how much each reason explains, in
        dollars if there is a cost report, else in tokens.

    Raises:
        InvalidRequest: a file is no such report, or sums up more than a day at once.
        NotFound: there is no such org.

    Example::

        bill = wb.reconcile(["usage_report.json", "cost_report.json"])
        print(bill.attrs["sentence"])
    """
    usage, cost, idle = _Bill(), _Bill(), set[date]()
    given = [path] if isinstance(path, str | Path) else list(path)
    for file in (file for root in given for file in files_at(Path(root).expanduser())):
        _read(file, usage, cost, idle, workspace)
    for bill in [bill for bill in (usage, cost) if bill.days] or [usage]:
        bill.days |= idle
    backend = runtime().engine.store.backend
    runtime().run(known_org(backend, org))
    days = usage.days | cost.days
    if not days:
        raise InvalidRequest("the reports are about no day; ask for one with starting_at and ending_at")
    begin = datetime(*min(days).timetuple()[:3], tzinfo=UTC)
    end = datetime(*max(days).timetuple()[:3], tzinfo=UTC) + timedelta(days=1)
    found = runtime().run(backend.arrow(query("billed"), org, begin, end)).to_pylist()
    ledger = [_Day(**row) for row in found]
    spent, _ = spent_by(begin, end, ["day", "model"], org=org)
    rows = _joined([*_token_rows(usage, ledger), *_class_rows(cost, spent), *_dollar_rows(cost, ledger)])
    return _frame(rows, *_reasons(usage, cost, ledger, workspace), days, cost)


# Reports ------------------------------------------------------------------------------------------------------------


def _read(file: Path, usage: _Bill, cost: _Bill, idle: set[date], workspace: str | None) -> None:
    try:
        for page in _pages(file):
            _add(page, usage, cost, idle, workspace)
    except (Malformed, *UNREADABLE) as error:
        raise InvalidRequest(f"{file} is no usage or cost report that can be read: it {error}") from None


def _pages(file: Path) -> Iterator[Mapping[str, Any]]:
    source = Source(file)
    stream = source.open()
    try:
        text = stream.read(LONGEST + 1)
    finally:
        source.close()
    if len(text) > LONGEST:
        raise Malformed(f"is longer than {LONGEST // 2**20} MB")
    try:
        values = [parsed(text)]
    except Malformed:  # a page on each line, perhaps
        values = [parsed(line) for line in text.splitlines() if line.strip()]
    for value in values:
        yield from map(mapping, value) if isinstance(value, list) else [mapping(value)]


def _add(page: Mapping[str, Any], usage: _Bill, cost: _Bill, idle: set[date], workspace: str | None) -> None:
    if not isinstance(page.get("data"), list):
        raise Malformed('has no list of "data"')
    days = [(_day(bucket), _results(bucket)) for bucket in map(mapping, sequence(page["data"]))]
    if not any(results for _, results in days):  # of which kind it is cannot be told: of both, where nothing was used
        idle.update(day for day, _ in days)
        return
    bill = cost if any("amount" in result for _, results in days for result in results) else usage
    for day, results in days:
        bill.days.add(day)
        for result in results:
            whose = or_none(result.get("workspace_id")) or DEFAULT_WORKSPACE
            if workspace in (None, whose):
                model = or_none(result.get("model"))
                amounts = {_class(result): _amount(result.get("amount"))} if bill is cost else _counts(result)
                bill.add((day, model and _model(model)), amounts, whose)


def _day(bucket: Mapping[str, Any]) -> date:
    begin, end = moment(bucket.get("starting_at")), moment(bucket.get("ending_at"))
    if end - begin > timedelta(days=1):
        raise Malformed(f"sums up {(end - begin).days} days at once; ask for it with bucket_width=1d")
    return begin.date()


def _results(bucket: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a bucket; in the newer API a bucket is a row."""
    if isinstance(bucket.get("results"), list):
        return [mapping(result) for result in bucket["results"]]
    return [{**mapping(bucket.get("group")), **mapping(bucket.get("usage")), **mapping(bucket.get("cost"))}]


def _model(model: str) -> str:
    return listed_name(model) or model


def _class(result: Mapping[str, Any]) -> str:
    told = or_none(result.get("token_type")) or or_none(result.get("cost_type"))
    return ALL if told is None else BILLED_CLASSES.get(told, told)


def _amount(cents: object) -> Decimal:
    try:
        amount = Decimal(str(cents))
    except InvalidOperation:
        raise Malformed("has an amount that is none") from None
    if not amount.is_finite() or amount.copy_abs() >= 100 * MOST_USD:
        raise Malformed("has an amount that cannot be")
    return amount / 100


def _counts(result: Mapping[str, Any]) -> dict[str, int]:
    written = mapping(result.get("cache_creation"))
    counts = (
        _sum(result, "uncached_input_tokens"),
        _sum(result, "cache_read_input_tokens"),
        _sum(written, "ephemeral_5m_input_tokens"),
        _sum(written, "ephemeral_1h_input_tokens"),
        _sum(result, "output_tokens"),
        count(mapping(result.get("server_tool_use")), "web_search_requests"),
    )
    return dict(zip(CLASSES, counts, strict=True))


def _sum(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**15:
        raise Malformed(f"has no count of {key}")
    return value


# Both sides ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Day:
    """What the ledger has of a day and a model."""

    day: date
    model: str
    calls: int
    uncached_input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    web_searches: int
    cost_usd: Decimal | None
    unpriced_calls: int
    imported_calls: int
    estimated_tokens: int
    estimated_usd: Decimal

    @property
    def searches_usd(self) -> Decimal:
        """What the searches cost, which a bill by description has apart."""
        price = price_of(self.model, datetime(*self.day.timetuple()[:3], tzinfo=UTC))
        return self.web_searches * price.web_search if price else Decimal(0)


def _ledger_tokens(usage: _Bill, ledger: Iterable[_Day]) -> dict[Key, Counter[str]]:
    sums: dict[Key, Counter[str]] = defaultdict(Counter)
    for row in ledger:
        if row.day in usage.days:
            key = row.day, _model(row.model) if usage.by_model else None
            sums[key].update({name: getattr(row, name) for name in CLASSES})
    return sums


def _ledger_dollars(cost: _Bill, ledger: Iterable[_Day]) -> dict[Key, Decimal | None]:
    sums: dict[Key, Decimal | None] = {}
    apart = cost.by_model and any(model is None for _, model in cost.amounts)
    for row in ledger:
        if row.day not in cost.days:
            continue
        key = row.day, _model(row.model) if cost.by_model else None
        known = row.cost_usd
        if known is not None and apart and row.searches_usd:
            known -= row.searches_usd
            sums[row.day, None] = (sums.get((row.day, None)) or Decimal(0)) + row.searches_usd
        before = sums.setdefault(key, None)
        sums[key] = before if known is None else (before or Decimal(0)) + known
    return sums


def _token_rows(usage: _Bill, ledger: list[_Day]) -> Iterator[dict[str, Any]]:
    ours = _ledger_tokens(usage, ledger)
    for day, model in sorted({*usage.amounts, *ours}, key=_order):
        billed, known = usage.amounts.get((day, model), Counter()), ours.get((day, model), Counter())
        for name in CLASSES:
            if billed[name] or known[name]:
                row = {"day": day, "model": model, "class": name}
                counts = billed[name], known[name], known[name] - billed[name]
                yield row | dict(zip(COLUMNS[3:6], counts, strict=True))


def _ledger_classes(cost: _Bill, spent: Mapping[tuple[Any, ...], Spent]) -> dict[Key, Counter[str] | None]:
    """Dollars by class; None where the ledger knows no price of any call."""
    sums: dict[Key, Counter[str] | None] = {}
    for (day, model), found in spent.items():
        if day not in cost.days or not model.startswith("claude"):
            continue
        key = day, _model(model) if cost.by_model else None
        sums.setdefault(key, None)
        if found.unpriced_calls == found.calls:
            continue
        other = found.other_usd if abs(found.other_usd) > found.calls * ROUNDED else Decimal(0)
        for name, amount in (*found.costs.items(), (OTHER, other)):
            # a bill by description has the searches of all models in one sum
            whose = (day, None) if name == "web_searches" else key
            sums[whose] = sums.get(whose) or Counter()
            sums[whose].update({name: amount})  # type: ignore[union-attr]
    return sums


def _class_rows(cost: _Bill, spent: Mapping[tuple[Any, ...], Spent]) -> Iterator[dict[str, Any]]:
    if not cost.by_class:
        return
    ours = _ledger_classes(cost, spent)
    for key in {*cost.amounts, *ours}:
        billed, known = cost.amounts.get(key, Counter()), ours.get(key, Counter())
        if ALL in billed:  # and nobody knows of what
            continue
        for name in {*billed, *(known or ())}:
            if billed[name] or (known and known[name]):
                yield _dollars(key, name, Decimal(billed[name]), None if known is None else Decimal(known[name]))


def _dollar_rows(cost: _Bill, ledger: list[_Day]) -> Iterator[dict[str, Any]]:
    ours = _ledger_dollars(cost, ledger)
    for key in sorted({*cost.amounts, *ours}, key=_order):
        billed, known = _billed(cost, key), ours.get(key, Decimal(0))
        if billed or known is None or known:
            yield _dollars(key, ALL, billed, known)


def _dollars(key: Key, name: str, billed: Decimal, known: Decimal | None) -> dict[str, Any]:
    amounts = (plain(billed), None, None) if known is None else (plain(billed), plain(known), plain(known - billed))
    return {"day": key[0], "model": key[1], "class": name} | dict(zip(COLUMNS[6:], amounts, strict=True))


def _billed(cost: _Bill, key: Key) -> Decimal:
    return sum(map(Decimal, cost.amounts[key].values()), Decimal(0)) if key in cost.amounts else Decimal(0)


def _joined(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tokens and dollars of the same class in one row, class by class."""
    joined: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        joined.setdefault(tuple(row[name] for name in COLUMNS[:3]), {}).update(row)
    order = {name: n for n, name in enumerate((*CLASSES, "", OTHER, ALL))}
    return sorted(joined.values(), key=lambda row: (order.get(row["class"], len(CLASSES)), row["class"]))


def _order(key: Key) -> tuple[date, str]:
    return key[0], key[1] or ""


# What explains it ---------------------------------------------------------------------------------------------------


def _reasons(
    usage: _Bill, cost: _Bill, ledger: list[_Day], workspace: str | None
) -> tuple[Counter[str], Decimal, Decimal]:
    """How much each reason explains; what was billed; what the ledger has. In dollars, or in tokens without a cost."""
    bill = cost if cost.days else usage
    known: dict[Key, Decimal]
    if bill is cost:
        known = {key: amount or Decimal(0) for key, amount in _ledger_dollars(cost, ledger).items()}
    else:
        known = {key: Decimal(sum(sums.values())) for key, sums in _ledger_tokens(usage, ledger).items()}
    billed = {key: Decimal(sum(amounts.values())) for key, amounts in bill.amounts.items()}
    others = {} if workspace else _others(bill, sum(known.values(), Decimal(0)))
    behind: dict[Key, list[_Day]] = defaultdict(list)
    for row in ledger:
        behind[row.day, _model(row.model) if bill.by_model else None].append(row)
    reasons: Counter[str] = Counter()
    for key in {*billed, *known}:
        gap = billed.get(key, Decimal(0)) - known.get(key, Decimal(0))
        other = min(max(gap, Decimal(0)), others.get(key, Decimal(0)))
        if other:
            reasons[ELSEWHERE] += other  # type: ignore[assignment]  # a Counter counts dollars as well
        if rest := abs(gap) - other:
            reasons[_reason(gap, behind[key], usd=bill is cost)] += rest  # type: ignore[assignment]
    return reasons, sum(billed.values(), Decimal(0)), sum(known.values(), Decimal(0))


def _reason(gap: Decimal, rows: list[_Day], *, usd: bool) -> str:
    if gap > 0 and not rows:
        return MISSING
    if gap > 0 and usd and any(row.unpriced_calls for row in rows):
        return UNPRICED
    estimated = sum((row.estimated_usd if usd else Decimal(row.estimated_tokens) for row in rows), Decimal(0))
    if estimated >= abs(gap) or (gap > 0 and estimated):  # too low an estimate can be so by any amount
        return BROKEN
    return IMPORTED if gap < 0 and any(row.imported_calls for row in rows) else REST


def _others(bill: _Bill, known: Decimal) -> dict[Key, Decimal]:
    """What other workspaces used; ours is the one whose sum is nearest to what the ledger has."""
    sums = {name: sum(amounts.values(), Decimal(0)) for name, amounts in bill.by_workspace.items()}
    if len(sums) < 2:
        return {}
    ours = min(sums, key=lambda name: abs(sums[name] - known))
    others: dict[Key, Decimal] = defaultdict(Decimal)
    for name, amounts in bill.by_workspace.items():
        for key, amount in amounts.items() if name != ours else ():
            others[key] += amount
    return others


def _sentence(reasons: Counter[str], billed: Decimal, known: Decimal, days: set[date], *, usd: bool) -> str:
    def of(amount: Decimal) -> str:
        return dollars(amount) if usd else f"{amount:,.0f} tokens"

    span = f"from {min(days)} to {max(days)}" if len(days) > 1 else f"on {min(days)}"
    if not reasons:
        return f"The ledger agrees with the {of(billed)} that were billed {span}."
    drift = known - billed
    share = f" ({abs(drift) / billed:.1%})" if billed else ""
    first = f"The ledger has {of(abs(drift))} {'more' if drift > 0 else 'less'} than the {of(billed)}"
    ((reason, most),) = reasons.most_common(1)
    whole = sum(map(Decimal, reasons.values()), Decimal(0))
    return f"{first} that were billed {span}{share}. Most of the difference, {of(Decimal(most))} of {of(whole)}, is {reason}."


def _frame(
    rows: list[dict[str, Any]], reasons: Counter[str], billed: Decimal, known: Decimal, days: set[date], cost: _Bill
) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["day"] = pd.to_datetime(frame["day"])
    frame = frame.astype(dict.fromkeys(COLUMNS[3:6], "Int64") | dict.fromkeys(COLUMNS[6:], object))
    frame = frame.astype({"model": "str", "class": "category"}).sort_values(["day", "model"], kind="stable")
    usd = bool(cost.days)
    frame.attrs["sentence"] = _sentence(reasons, billed, known, days, usd=usd)
    frame.attrs["reasons"] = {reason: plain(Decimal(amount)) for reason, amount in reasons.most_common()}
    return frame.reset_index(drop=True)
