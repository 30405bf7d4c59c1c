"""Everything the workbench raises.

::

    WorkbenchError
    ├── ConfigurationError        a setting is missing or wrong
    │   └── ModelRetired          .model, .successor
    ├── InvalidRequest            the question itself cannot be sent (also a ValueError)
    ├── NotFound                  .kind, .id
    ├── Conflict                  .kind, .id, .state
    ├── PromptError               a prompt, its label or its variables do not fit
    │   ├── UnknownPrompt         .kind, .id (also a NotFound)
    │   └── LabelProtected        .name, .label
    ├── RateLimited               .whose, .retry_after (seconds)
    ├── BudgetExceeded            .whose, .left_usd, .needed_usd, .resets_at
    ├── StoreError                .path
    │   ├── StoreBusy             .pid: of the process that has the file and does not share it or answer
    │   │   └── TurnRunning       what is to be deleted is still written to
    │   ├── StoreFull             its disk is full; .retry_after (seconds)
    │   └── StoreCorrupt
    └── UpstreamError             .type, .status, .retryable, .retry_after, .request_id, .reply
        ├── UpstreamRateLimited
        ├── UpstreamOverloaded
        ├── UpstreamTimeout
        └── UpstreamRefused       asking the same again will not help

Each message says what happened, with the values, and what to do next; the values are attributes too, so no
caller parses text. A message never holds a key, a prompt or a reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from workbench.turns import Reply


class WorkbenchError(Exception):
    """The root of every error the workbench raises on purpose."""

    type = "workbench_error"
    """Stable code of the kind of error, the same in Python, HTTP and the ledger's ``error_type``."""
    retryable = False
    """Whether asking the same again later can help."""

    reply: Reply | None = None
    """What had been answered before the error, if anything; it is recorded too."""


class ConfigurationError(WorkbenchError):
    """A setting is missing or wrong; the message names it and what to set."""

    type = "configuration_error"


class ModelRetired(ConfigurationError):
    """The model was withdrawn by its maker."""

    type = "model_retired"

    def __init__(self, model: str, successor: str) -> None:
        super().__init__(f"model {model!r} is retired; use {successor!r}, its successor")
        self.model = model
        self.successor = successor


class InvalidRequest(WorkbenchError, ValueError):
    """The question cannot be sent as it is; nothing was sent or recorded."""

    type = "invalid_request"


class NotFound(WorkbenchError, LookupError):
    """There is no such thing, or it belongs to somebody else: the two look alike on purpose."""

    type = "not_found"

    def __init__(self, kind: str, id: str, hint: str) -> None:
        super().__init__(f"no {kind} {id!r}; {hint}")
        self.kind = kind
        self.id = id


class Conflict(WorkbenchError):
    """What is there already, or what became of it meanwhile, is in the way."""

    type = "conflict"

    def __init__(self, kind: str, id: str, hint: str, state: str = "there already") -> None:
        super().__init__(f"the {kind} {id!r} is {state}; {hint}")
        self.kind = kind
        self.id = id
        self.state = state


class PromptError(WorkbenchError):
    """A named prompt, its version or its variables do not fit."""

    type = "prompt_error"


class UnknownPrompt(PromptError, NotFound):
    """There is no such prompt, label or version; the message says what there is."""

    type = "prompt_not_found"


class LabelProtected(PromptError):
    """Only whoever may administer moves this label."""

    type = "label_protected"

    def __init__(self, name: str, label: str) -> None:
        super().__init__(
            f"the label {label!r} of the prompt {name!r} is protected; move it with force=True (--force), or over HTTP "
            "with a key that has the scope admin"
        )
        self.name = name
        self.label = label


class RateLimited(WorkbenchError):
    """Our own limit refused the turn before anything was spent."""

    type = "rate_limited"
    retryable = True

    def __init__(self, whose: str, retry_after: float, limit: float, reset: float) -> None:
        super().__init__(f"{whose} is over its rate limit; retry in {retry_after:.1f} s")
        self.whose = whose
        self.retry_after = retry_after
        self.limit = limit
        """How many requests may come at once."""
        self.reset = reset
        """Seconds until so many may come again."""


class BudgetExceeded(WorkbenchError):
    """An org, a user or a key cannot afford this turn; nothing was spent."""

    type = "budget_exceeded"

    def __init__(
        self, whose: str, left_usd: Decimal, needed_usd: Decimal, period: str | None, resets_at: datetime | None
    ) -> None:
        this = f" this {period}" if period else ""
        super().__init__(
            f"{whose} has ${left_usd:.6f} left{this} and even a short reply may cost ${needed_usd:.6f}; "
            "shorten the question or raise the budget"
        )
        self.whose = whose
        self.left_usd = left_usd
        self.needed_usd = needed_usd
        self.resets_at = resets_at


class StoreError(WorkbenchError):
    """The store cannot be opened, read or written."""

    type = "store_error"

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class StoreBusy(StoreError):
    """A program that does not share the store file holds it, or the one that shares it does not answer."""

    type = "store_busy"
    retryable = True

    def __init__(self, message: str, path: str = "", pid: int | None = None) -> None:
        super().__init__(message, path)
        self.pid = pid


class TurnRunning(StoreBusy):
    """What is to be deleted holds a turn that has yet to end and to be billed."""

    type = "turn_running"


class StoreFull(StoreError):
    """There is no space left where the store is kept; what was saved is safe, and it goes on once there is space."""

    type = "store_full"
    retryable = True
    retry_after = 10.0


class StoreCorrupt(StoreError):
    """The file is not a store, or no longer one."""

    type = "store_corrupt"


class UpstreamError(WorkbenchError):
    """The server that answers (Claude, a proxy, a local model) failed; what it had sent is recorded."""

    type = "upstream_error"
    retryable = True
    summary = "Claude failed"
    """What the server tells its clients and its log: never a word of the upstream's own."""

    def __init__(
        self,
        message: str,
        *,
        summary: str | None = None,
        type: str | None = None,
        status: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        billed: bool = True,
    ) -> None:
        super().__init__(message)
        if summary is not None:
            self.summary = summary
        if type is not None:
            self.type = type
        if retryable is not None:
            self.retryable = retryable
        self.status = status
        self.retry_after = retry_after
        self.request_id = request_id
        self.billed = billed
        """False when the answer itself says that nothing was generated, so nothing was charged."""


class UpstreamRateLimited(UpstreamError):
    """Claude's own rate limit (429), after our retries."""

    type = "upstream_rate_limited"
    summary = "Rate limit exceeded"


class UpstreamOverloaded(UpstreamError):
    """Claude is overloaded (529, 503), after our retries."""

    type = "upstream_overloaded"
    summary = "Claude is overloaded"


class UpstreamTimeout(UpstreamError):
    """No answer, or no more of it, in time."""

    type = "upstream_timeout"
    summary = "Connection timeout"


class UpstreamRefused(UpstreamError):
    """The upstream understood and refused (bad request, key, permission, size); the same again will fail too."""

    type = "upstream_refused"
    summary = "Claude refused the request"
    retryable = False
