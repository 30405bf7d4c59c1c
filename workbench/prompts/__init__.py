"""Named system prompts: immutable versions, labels that point at them, and how both are used.

Example::

    wb.prompts.save("support", "You help {{customer}}.", note="first try")
    chat = wb.Chat(prompt="support", variables={"customer": "Ada"})
    wb.prompts.label("support", "production", 2, note="shorter")
    wb.prompts.rollback("support")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.prompts.backtests import backtest
    from workbench.prompts.differences import Diff
    from workbench.prompts.face import (
        diff,
        get,
        history,
        label,
        labels,
        moves,
        protect,
        render,
        rollback,
        save,
        search,
    )
    from workbench.prompts.face import list as list
    from workbench.prompts.versions import Prompt

__all__ = [  # without list: `from workbench.prompts import *` must not take the place of Python's own
    "Diff",
    "Prompt",
    "backtest",
    "diff",
    "get",
    "history",
    "label",
    "labels",
    "moves",
    "protect",
    "render",
    "rollback",
    "save",
    "search",
]

_LAZY = dict.fromkeys([*__all__, "list"], "workbench.prompts.face") | {"backtest": "workbench.prompts.backtests"}
"""On use: the engine needs a part of this package, and the face needs the engine."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'workbench.prompts' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:  # type: ignore[valid-type]  # Python's own list, not ours
    return sorted({*(name for name in globals() if name.startswith("__")), *_LAZY})
