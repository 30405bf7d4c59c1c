"""What PostgreSQL reports, as one sentence that says what to do."""

from __future__ import annotations

import re

import adbc_driver_postgresql.dbapi as adbc
import psycopg

from workbench.errors import StoreBusy, StoreError, StoreFull

PASSING = {
    "08",  # the connection
    "25P03",  # we were too slow: this process was paused
    "40001",  # a serialization failure
    "40P01",  # a deadlock
    "53300",  # too many connections
    "57P",  # the server shuts down, crashed or starts up
}
PASSING_WORDS = (
    "terminating connection",
    "is starting up",
    "is shutting down",
    "is not yet accepting",
    "too many clients",
    "connection slots",
    "recovery mode",
)


def passes(error: Exception) -> bool:
    """Whether trying again soon may help."""
    code: str | None = getattr(error, "sqlstate", None)
    if isinstance(error, psycopg.errors.UniqueViolation):
        # two who began one new chat at the same moment, neither had a row of it to lock: the second is now behind the first
        return error.diag.constraint_name == "messages_place"
    if code:
        return code.startswith(tuple(PASSING))
    if not isinstance(error, psycopg.OperationalError | adbc.OperationalError | OSError):
        return False
    text = str(error)
    # libpq gives no code when it cannot connect
    return "FATAL:" not in text or any(word in text for word in PASSING_WORDS)


def classified(error: Exception, path: str) -> StoreError:
    """Return the error to raise for one of PostgreSQL's."""
    text, code = reason(error), getattr(error, "sqlstate", None) or ""
    if code.startswith("53100") or "No space left" in text:
        return StoreFull(
            f"the store {path} cannot be written, its disk is full; free some space and go on, what was saved is safe",
            path,
        )
    if code.startswith("28") or any(word in text for word in ("authentication failed", "no password", "pg_hba.conf")):
        return StoreError(f"the store {path} refuses the user or the password; correct them in WORKBENCH_STORE", path)
    if "FATAL:" in text and "does not exist" in text:
        what = text.split("FATAL:")[-1].strip()
        return StoreError(f"the store {path} cannot be opened, {what}; create it, or correct WORKBENCH_STORE", path)
    if code == "42501" or "permission denied" in text:
        return StoreError(
            f"no permission to use the store {path} ({text}); GRANT the user the right, or use a database it owns", path
        )
    if code == "25006":
        return StoreError(
            f"the store {path} takes no writes, it is a standby; name the primary in WORKBENCH_STORE", path
        )
    if code == "42P07":
        return StoreError(
            f"{path} holds tables of its own with the names of the workbench's; set WORKBENCH_STORE to another database",
            path,
        )
    if passes(error):
        return StoreBusy(f"the store {path} does not answer ({text}); see that its server runs, and try again", path)
    return StoreError(f"the store {path} failed ({text}); try again, or look into the log of its server", path)


def reason(error: Exception) -> str:
    """What the server said, in one line; never the SQL that it was said about."""
    primary = dict(getattr(error, "details", None) or ()).get(b"PG_DIAG_MESSAGE_PRIMARY")
    if primary:
        return str(primary.decode())
    text = re.sub(r"^.*Failed to (?:execute|prepare) query(?: '.*')?: ", "", str(error).strip(), flags=re.DOTALL)
    text = re.sub(r"^(connection is bad|connection failed|IO: \[libpq\] Failed to connect): ", "", text)
    return text.splitlines()[0] if text else "no reason given"
