"""Log lines on stderr: one JSON object a line, or lines for people. No message text and no key is ever in one."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import trace

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from workbench.settings import Settings

OURS = ("workbench", "server", "uvicorn")


def configure(settings: Settings) -> None:
    """Send every log line of this process to stderr, in the format and from the level that are set.

    Libraries below the server speak from warnings on, whatever the level: their debug lines hold what was asked.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(settings.log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(settings.log_level.upper())
    logging.captureWarnings(True)


def formatter(log_format: str) -> logging.Formatter:
    """Return the formatter for ``json`` or ``text``."""
    shared: list[Processor] = [
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _ordered,
        _traced,
    ]
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        # format_exc_info, not the structured one: that writes the values of local variables, the message among them
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        last += [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                event_key="message",
                timestamp_key="time",
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    return structlog.stdlib.ProcessorFormatter(processors=last, foreign_pre_chain=shared)


def _ordered(logger: Any, method: str, line: EventDict) -> EventDict:
    line.pop("color_message", None)  # uvicorn's own second copy of its message
    return {"time": line.pop("time"), "level": line.pop("level"), "message": line.pop("event"), **line}


def _traced(logger: Any, method: str, line: EventDict) -> EventDict:
    """Name the span that was open, so that a line leads to its trace."""
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        line["traceId"], line["spanId"] = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    return line
