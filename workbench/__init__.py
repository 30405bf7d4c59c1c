"""Chat with Claude inside Jupyter notebooks, with every turn, token and dollar in a DuckDB ledger.

Example::

    import workbench as wb

    chat = wb.Chat(system="You are terse.")
    reply = chat.ask("What is 2+2?")
    reply.text, reply.usage, reply.cost_usd
    wb.usage(by=["day", "model"])

What needs anthropic, duckdb, pandas or matplotlib is loaded when it is first used: importing takes milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.errors import (
    BudgetExceeded,
    ConfigurationError,
    InvalidRequest,
    ModelRetired,
    NotFound,
    PromptError,
    RateLimited,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    WorkbenchError,
)
from workbench.turns import Message, Reply, Usage

if TYPE_CHECKING:
    from workbench.chat import Chat, ReplyStream, count_tokens
    from workbench.ledger import calls, chats, demo_data, history_costs, messages, plots, sql, usage, usage_table
    from workbench.mapping import MapEstimate, map_estimate
    from workbench.mapping import map as map
    from workbench.notebook.magics import load_ipython_extension
    from workbench.notebook.panel import UsagePanel
    from workbench.notebook.widget import ChatWidget

__version__ = "0.1.0"

__all__ = [  # without map: `from workbench import *` must not take the place of Python's own
    "BudgetExceeded",
    "Chat",
    "ChatWidget",
    "ConfigurationError",
    "InvalidRequest",
    "MapEstimate",
    "Message",
    "ModelRetired",
    "NotFound",
    "PromptError",
    "RateLimited",
    "Reply",
    "ReplyStream",
    "StoreBusy",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "UpstreamError",
    "UpstreamOverloaded",
    "UpstreamRateLimited",
    "UpstreamRefused",
    "UpstreamTimeout",
    "Usage",
    "UsagePanel",
    "WorkbenchError",
    "calls",
    "chats",
    "count_tokens",
    "demo_data",
    "history_costs",
    "load_ipython_extension",
    "map_estimate",
    "messages",
    "plots",
    "sql",
    "usage",
    "usage_table",
]

_LAZY = {
    "Chat": "workbench.chat",
    "ReplyStream": "workbench.chat",
    "calls": "workbench.ledger",
    "chats": "workbench.ledger",
    "count_tokens": "workbench.chat",
    "demo_data": "workbench.ledger",
    "history_costs": "workbench.ledger",
    "map": "workbench.mapping",
    "map_estimate": "workbench.mapping",
    "messages": "workbench.ledger",
    "plots": "workbench.ledger",
    "sql": "workbench.ledger",
    "usage": "workbench.ledger",
    "usage_table": "workbench.ledger",
    "load_ipython_extension": "workbench.notebook.magics",
    "MapEstimate": "workbench.mapping",
    "ChatWidget": "workbench.notebook.widget",
    "UsagePanel": "workbench.notebook.panel",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LAZY})
