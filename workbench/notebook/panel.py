"""What was spent, with filters, for notebooks."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import date, timedelta
from decimal import Decimal
from html import escape, unescape
from io import BytesIO
from typing import TYPE_CHECKING, Any

import ipywidgets

from workbench.errors import InvalidRequest
from workbench.ledger import forecast, plots, usage
from workbench.notebook.pages import is_watched
from workbench.notebook.transcript import one_block
from workbench.turns import DEFAULT_ID
from workbench.wording import counted, dollars

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FILTERS = ("model", "user_id", "source")
ALL = "all"
MOST_ROWS = 100
"""Of the table; the totals and the plot are of all."""


class UsagePanel(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The spend of an org by day and model, with filters, and how the month ends: the last value of a cell shows it.

    Days are those of UTC; the last one chosen is included. Costs are sums of the calls whose price is known, and how
    many are not is said.

    Args:
        since: The first day; None: all there are.
        until: The last day; None: up to now.
        org: Whose calls.

    Example::

        wb.UsagePanel()
    """

    def __init__(self, since: date | None = None, until: date | None = None, *, org: str = DEFAULT_ID) -> None:
        self._org = org
        self.since = ipywidgets.DatePicker(description="from", value=since)
        self.until = ipywidgets.DatePicker(description="to", value=until)
        self.filters = {
            name: ipywidgets.Dropdown(description=name.removesuffix("_id"), options=[ALL], value=ALL)
            for name in FILTERS
        }
        self.again = ipywidgets.Button(description="Read again", tooltip="Read the ledger again")
        self.totals = ipywidgets.HTML()
        self.forecast = ipywidgets.HTML()
        self.plot = ipywidgets.HTML()  # an Image has no words for those who cannot see it
        self.table = ipywidgets.HTML()
        choices = [self.since, self.until, *self.filters.values(), self.again]
        super().__init__(
            [
                ipywidgets.HBox(choices, layout={"flex_flow": "row wrap"}),
                self.totals,
                self.forecast,
                self.plot,
                self.table,
            ]
        )
        self._offering = False  # choices change, and nobody chose
        self.refresh()
        for day in (self.since, self.until):
            day.observe(lambda _: self.refresh(), "value")
        for choice in self.filters.values():
            choice.observe(self._chosen, "value")
        self.again.on_click(lambda _: self.refresh())

    def refresh(self) -> None:
        """Read the ledger again."""
        self._calls = self._read()
        self.forecast.value = _month_end(self._org)
        self._show()

    def _chosen(self, _: object) -> None:
        if not self._offering:
            self._show()

    def _read(self) -> pd.DataFrame:
        return usage(*self._days(), by=["day", *FILTERS], org=self._org)

    def _days(self) -> tuple[date | None, date | None]:
        until = self.until.value
        return self.since.value, None if until in (None, date.max) else until + timedelta(days=1)

    def _show(self) -> None:
        for name, choice in self.filters.items():
            # what is chosen stays, even if there is nothing of it in these days
            there = {*self._calls[name].dropna(), choice.value} - {ALL}
            options = [ALL, *sorted(there)]
            if list(choice.options) != options:
                chosen, self._offering = choice.value, True
                choice.options = options  # which chooses the first
                choice.value, self._offering = chosen, False
        calls = self._calls
        where = {name: choice.value for name, choice in self.filters.items() if choice.value != ALL}
        for name, value in where.items():
            calls = calls[calls[name] == value]
        self.totals.value = _totals(calls)
        self.table.value = _table(calls)
        plot = plots.spend if _spent(calls) else plots.tokens  # of what cost nothing, bars of dollars show nothing
        self.plot.value = "" if calls.empty else _picture(plot(*self._days(), where, org=self._org))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """The panel, and what it showed when it was displayed for where there are no widgets: GitHub, nbconvert."""
        # nbconvert would show the widget, which needs the network, before it showed the text
        data: dict[str, Any] = super()._repr_mimebundle_() if is_watched() else {}
        data["text/plain"] = unescape(re.sub(r"<[^>]*>", "", self.totals.value))
        data["text/markdown"] = one_block(
            f"{self.totals.value}{self.forecast.value}{self.plot.value}{self.table.value}"
        )
        return data

    def __repr__(self) -> str:
        return f"<UsagePanel of org {self._org!r}>"


def _month_end(org: str) -> str:
    """How the month ends, whatever is chosen; nothing while there are too few days to say."""
    try:
        return f"<p>{escape(str(forecast(org)))}</p>"
    except InvalidRequest:
        return ""


def _spent(calls: pd.DataFrame) -> Decimal:
    return sum(calls.cost_usd.dropna(), Decimal(0))


def _cost(calls: pd.DataFrame) -> str:
    unpriced = int(calls.unpriced_calls.sum())
    if unpriced == int(calls.calls.sum()):
        return "unknown"
    return dollars(_spent(calls)) + (f" and {counted(unpriced, 'call')} of unknown price" if unpriced else "")


def _totals(calls: pd.DataFrame) -> str:
    if calls.empty:
        return "<p>Nothing was asked here yet, or nothing that fits these filters.</p>"
    figures = f"{counted(calls.calls.sum(), 'call')} · {calls.input_tokens.sum():,} in + {calls.output_tokens.sum():,} out tokens"
    return f"<p><strong>{_cost(calls)}</strong> · {figures}</p>"


def _table(calls: pd.DataFrame) -> str:
    if calls.empty:
        return ""
    groups = list(calls.groupby(["day", "model"], dropna=False))
    names = ("day", "model", "calls", "tokens in", "tokens out", "cost")
    rows = [_row(f"{day:%Y-%m-%d}", str(model), rows) for (day, model), rows in reversed(groups[-MOST_ROWS:])]
    left_out = len(groups) - len(rows)
    note = f"<p>{left_out:,} earlier rows are not shown.</p>" if left_out else ""
    head = "".join(f"<th scope='col'>{name}</th>" for name in names)
    return f"<table class='wb-usage'><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{note}"


def _row(day: str, model: str, calls: pd.DataFrame) -> str:
    counts = (calls.calls.sum(), calls.input_tokens.sum(), calls.output_tokens.sum())
    cells = [day, model, *(f"{count:,}" for count in counts), _cost(calls)]
    # a model's name is whatever a base URL was asked for
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _picture(axes: Axes) -> str:
    """Return a plot as a picture, with what it shows in words, and forget the plot."""
    from matplotlib import pyplot as plt  # on use: 0.5 s

    picture, drawn = BytesIO(), axes.get_figure(root=True)
    assert drawn is not None
    drawn.savefig(picture, format="png")
    plt.close(drawn)  # a cell would show it once more at its end
    source = f"data:image/png;base64,{b64encode(picture.getvalue()).decode()}"
    return f'<img alt="{escape(str(drawn.get_label()))}" src="{source}" style="max-width: 100%">'
