"""What was said and what it cost, as DataFrames."""

from workbench.ledger import plots
from workbench.ledger.bills import reconcile
from workbench.ledger.caching import cache_doctor
from workbench.ledger.changes import why
from workbench.ledger.classes import cost_by_class
from workbench.ledger.demo import demo_data
from workbench.ledger.forecasts import forecast
from workbench.ledger.frames import calls, chats, messages, sql, usage, usage_table
from workbench.ledger.imports import import_usage
from workbench.ledger.policies import history_costs
from workbench.ledger.whatif import history_lab, what_if

__all__ = [
    "cache_doctor",
    "calls",
    "chats",
    "cost_by_class",
    "demo_data",
    "forecast",
    "history_costs",
    "history_lab",
    "import_usage",
    "messages",
    "plots",
    "reconcile",
    "sql",
    "usage",
    "usage_table",
    "what_if",
    "why",
]
