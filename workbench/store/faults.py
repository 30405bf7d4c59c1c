"""What DuckDB or the file system reports, as one sentence that says what to do."""

from __future__ import annotations

import re

import duckdb

from workbench.errors import InvalidRequest, StoreBusy, StoreCorrupt, StoreError, StoreFull
from workbench.turns import NOT_TEXT

ANOTHER = "set WORKBENCH_STORE to another file"
FULL = ("No space left", "File too large", "Could not write file", "quota exceeded")
DENIED = ("Permission denied", "Operation not permitted", "Read-only file system")
DAMAGED = ("orrupt", "Could not read enough bytes", "replaying WAL")
NOT_OURS = ("not a valid DuckDB database file", "is an existing extension", "Is a directory")


def classified(error: Exception, path: str) -> StoreError | InvalidRequest:
    """Return the error to raise for one of DuckDB's or the file system's."""
    text = str(error)

    def says(words: tuple[str, ...]) -> bool:
        return any(word in text for word in words)

    if "Python Conversion Failure: cannot encode str" in text:
        return no_text()
    if "lock on file" in text:
        return _busy(text, path)
    if says(FULL):
        return StoreFull(
            f"the store {path} cannot be written, its disk is full; free some space and go on, what was saved is safe",
            path,
        )
    if says(DENIED):
        return StoreError(f"no permission to write the store {path}; {ANOTHER}, or run as its owner", path)
    if says(NOT_OURS):
        return not_ours(path)
    if "version number" in text:
        return StoreError(f"{path} was written by a newer DuckDB; update with: pip install -U duckdb", path)
    if says(DAMAGED) or isinstance(error, duckdb.SerializationException):
        return StoreCorrupt(
            f"the store {path} is damaged and was left as it is ({_first_line(text)}); "
            f"put a copy of it in its place, or {ANOTHER}",
            path,
        )
    if "already exists" in text:
        return StoreError(f"{path} holds tables of its own with the names of the workbench's; {ANOTHER}", path)
    return StoreError(f"the store {path} failed ({_first_line(text)}); try again, or {ANOTHER}", path)


def no_text() -> InvalidRequest:
    """Return the error of a parameter that is half a surrogate pair, which no store can be sent."""
    return InvalidRequest(f"a name or a text {NOT_TEXT}")


def not_ours(path: str) -> StoreCorrupt:
    """Return the error of what is no store of the workbench."""
    return StoreCorrupt(f"{path} is not a workbench store; {ANOTHER}, or move that one away", path)


def busy(path: str, program: str, pid: int | None) -> StoreBusy:
    """Return the error of a file that somebody else holds."""
    who = f"{program} (PID {pid})" if pid else program
    return StoreBusy(f"the store {path} is in use by {who}; close that one, or {ANOTHER}", path, pid)


def not_answering(path: str, program: str, pid: int | None) -> StoreBusy:
    """Return the error of a file whose owner is one of ours and does not answer."""
    who = f"{program} (PID {pid})" if pid else program
    return StoreBusy(
        f"the store {path} is kept by {who}, which does not answer: it is paused or very busy; let it go on or end it, "
        f"then try again, or {ANOTHER}",
        path,
        pid,
    )


def _busy(text: str, path: str) -> StoreBusy:
    holder = re.search(r"held in (.+?) \(PID (\d+)\)", text)
    return busy(path, holder[1], int(holder[2])) if holder else busy(path, "another process", None)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no reason given"
