"""What was said and what it cost, as DataFrames."""

from workbench.ledger import plots
from workbench.ledger.frames import chats, sql, usage

__all__ = ["chats", "plots", "sql", "usage"]
