"""All faults by name, and ``fault()``, which scripts one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .before import BEFORE
from .mid import MID
from .odd import ODD
from .table import Fault, Options, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .replies import Reply

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (*BEFORE, *MID, *ODD)}

ALIASES = {
    "overloaded_before": "529",
    "rate_limited_before": "429",
    "html": "502_html",
    "html_502": "502_html",
    "bad_json_body": "bad_json_error",
    "error_event": "overloaded",
    "ping_storm": "pings",
    "batch": "together",
    "tool": "tool_use",
    "cache": "cache_usage",
    "endless": "endless_frame",
    "refusal_empty": "refusal",
}


def find_fault(name: str) -> Fault:
    """Return the fault of this name; hyphens and the aliases are understood."""
    key = name.replace("-", "_")
    try:
        return FAULTS[ALIASES.get(key, key)]
    except KeyError:
        raise ValueError(f"no fault is called {name!r}; the names are {', '.join(FAULTS)}") from None


def names(phase: Phase | None = None) -> list[str]:
    """The names of all faults, or of one phase, for ``pytest.mark.parametrize``."""
    return [fault.name for fault in FAULTS.values() if phase in (None, fault.phase)]


def fault(
    name: str,
    text: str = "Hello brave new world",
    *,
    after: int = 2,
    retry_after: float = 1.0,
    seconds: float | None = None,
    size: int = 8_000_000,
    pause_after: int | Sequence[int] = (),
    **more: Any,
) -> Reply:
    """Return the reply that breaks in this way.

    Args:
        name: One of `FAULTS`.
        text: The visible text, where the fault does not bring its own.
        after: Deltas sent before a stream breaks.
        retry_after: Seconds in the header of the 429s that have one.
        seconds: How long a hang or stall lasts before the connection is closed; None: until the client leaves.
        size: Bytes of an endless frame.
        more: Further fields of `Reply`, such as ``usage``, ``ttft``, ``delay``, ``headers_after``.
    """
    kind = find_fault(name)
    scripted = kind.make(Options(text, after, retry_after, seconds, size))
    if pause_after != ():
        more["pause_after"] = (pause_after,) if isinstance(pause_after, int) else tuple(pause_after)
    return replace(scripted, fault=kind, **more)
