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
from workbench.turns import DEFAULT_ID as DEFAULT_ORG
from workbench.turns import Message, Reply, Usage

if TYPE_CHECKING:
    from workbench import experiments as experiments
    from workbench import prompts as prompts
    from workbench.asking import ask_ledger
    from workbench.chat import Chat, ReplyStream, count_tokens
    from workbench.ledger import (
        cache_doctor,
        calls,
        chats,
        cost_by_class,
        demo_data,
        forecast,
        history_costs,
        history_lab,
        import_usage,
        messages,
        plots,
        reconcile,
        sql,
        usage,
        usage_table,
        what_if,
        why,
    )
    from workbench.mapping import MapEstimate, map_batches, map_cancel, map_estimate
    from workbench.mapping import map as map
    from workbench.notebook.magics import load_ipython_extension
    from workbench.notebook.panel import UsagePanel
    from workbench.notebook.widget import ChatWidget

__version__ = "0.1.0"

__all__ = [  # without map: `from workbench import *` must not take the place of Python's own
    "DEFAULT_ORG",
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
    "ask_ledger",
    "cache_doctor",
    "calls",
    "chats",
    "cost_by_class",
    "count_tokens",
    "demo_data",
    "experiments",
    "forecast",
    "history_costs",
    "history_lab",
    "import_usage",
    "load_ipython_extension",
    "map_batches",
    "map_cancel",
    "map_estimate",
    "messages",
    "plots",
    "prompts",
    "reconcile",
    "sql",
    "usage",
    "usage_table",
    "what_if",
    "why",
]

_LAZY = {
    "Chat": "workbench.chat",
    "ReplyStream": "workbench.chat",
    "ask_ledger": "workbench.asking",
    "cache_doctor": "workbench.ledger",
    "calls": "workbench.ledger",
    "chats": "workbench.ledger",
    "count_tokens": "workbench.chat",
    "cost_by_class": "workbench.ledger",
    "demo_data": "workbench.ledger",
    "history_costs": "workbench.ledger",
    "history_lab": "workbench.ledger",
    "map": "workbench.mapping",
    "map_batches": "workbench.mapping",
    "map_cancel": "workbench.mapping",
    "map_estimate": "workbench.mapping",
    "import_usage": "workbench.ledger",
    "messages": "workbench.ledger",
    "plots": "workbench.ledger",
    "reconcile": "workbench.ledger",
    "sql": "workbench.ledger",
    "usage": "workbench.ledger",
    "usage_table": "workbench.ledger",
    "why": "workbench.ledger",
    "forecast": "workbench.ledger",
    "what_if": "workbench.ledger",
    "load_ipython_extension": "workbench.notebook.magics",
    "MapEstimate": "workbench.mapping",
    "ChatWidget": "workbench.notebook.widget",
    "UsagePanel": "workbench.notebook.panel",
}


def __getattr__(name: str) -> Any:
    if name in ("experiments", "prompts"):
        return import_module(f"workbench.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__, *_LAZY})
