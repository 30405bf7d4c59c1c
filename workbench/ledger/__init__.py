"""What was said and what it cost, as DataFrames."""

from workbench.ledger import plots
from workbench.ledger.frames import chats, sql, usage
from workbench.ledger.policies import history_costs

__all__ = ["chats", "history_costs", "plots", "sql", "usage"]
