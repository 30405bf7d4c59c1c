"""What a fault is: its name, its phase, one line about it, and the reply that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from .replies import Reply

Phase = Literal["before", "mid", "odd"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a script may set on a fault; each fault reads what concerns it."""

    text: str = "Hello brave new world"
    after: int = 2  # deltas sent before a stream breaks
    retry_after: float = 1.0  # seconds, of the 429s that carry a header
    seconds: float | None = None  # of a hang or stall; None: until the client leaves
    size: int = 8_000_000  # bytes of an endless frame
    request_id: str = "req_in_stream"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break, or to be odd.

    ``before``: no message_start arrives, so a gateway can still answer with a real status.
    ``mid``: the stream has started and the reply is lost in part; a client must not report it as complete.
    ``odd``: legal, if strange; the reply is complete and a client must report all of it.
    """

    name: str
    phase: Phase
    what: str
    make: Callable[[Options], Reply]
    status: int | None = None  # HTTP status, where one is sent and it is not 200
    error_type: str | None = None  # error.type in the body or the error event
    sdk: str = ""  # what anthropic 2.12 does where that is a surprise
