"""What was said and what it cost, as DataFrames."""

from workbench.ledger import plots
from workbench.ledger.bills import reconcile
from workbench.ledger.demo import demo_data
from workbench.ledger.frames import calls, chats, messages, sql, usage, usage_table
from workbench.ledger.imports import import_usage
from workbench.ledger.policies import history_costs

__all__ = [
    "calls",
    "chats",
    "demo_data",
    "history_costs",
    "import_usage",
    "messages",
    "plots",
    "reconcile",
    "sql",
    "usage",
    "usage_table",
]
