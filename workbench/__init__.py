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
    from workbench.chat import Chat, ReplyStream
    from workbench.ledger import (
        calls,
        chats,
        demo_data,
        history_costs,
        import_usage,
        messages,
        plots,
        reconcile,
        sql,
        usage,
        usage_table,
    )
    from workbench.notebook.magics import load_ipython_extension
    from workbench.notebook.panel import UsagePanel
    from workbench.notebook.widget import ChatWidget

__version__ = "0.1.0"

__all__ = [
    "BudgetExceeded",
    "Chat",
    "ChatWidget",
    "ConfigurationError",
    "InvalidRequest",
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
    "demo_data",
    "history_costs",
    "import_usage",
    "load_ipython_extension",
    "messages",
    "plots",
    "reconcile",
    "sql",
    "usage",
    "usage_table",
]

_LAZY = {
    "Chat": "workbench.chat",
    "ReplyStream": "workbench.chat",
    "calls": "workbench.ledger",
    "chats": "workbench.ledger",
    "demo_data": "workbench.ledger",
    "history_costs": "workbench.ledger",
    "import_usage": "workbench.ledger",
    "messages": "workbench.ledger",
    "plots": "workbench.ledger",
    "reconcile": "workbench.ledger",
    "sql": "workbench.ledger",
    "usage": "workbench.ledger",
    "usage_table": "workbench.ledger",
    "load_ipython_extension": "workbench.notebook.magics",
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
    return sorted({*globals(), *__all__})
