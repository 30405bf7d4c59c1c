"""DuckDB's journal (``<file>.wal``): what to do when it is damaged.

It holds the turns since the last checkpoint. DuckDB refuses a journal whose checksums do not fit, and then the store
would not open; of one whose lengths do not fit it silently drops the rest. Here what can be read is kept, the journal
is set aside as it was found, and the log says so.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("workbench.store")

LEAST_TRANSACTION = 100
"""Bytes; no transaction of the store is shorter. A checkpoint that failed leaves a mark of 49 that is dropped too."""


class Journal:
    """The journal as it was before the file was opened."""

    def __init__(self, path: str) -> None:
        self.path = Path(f"{path}.wal")
        self.found = self.path.read_bytes() if self.path.exists() else b""

    def open(self, connect: Callable[[], duckdb.DuckDBPyConnection]) -> duckdb.DuckDBPyConnection:
        """Return what ``connect`` returns, without the damaged end of the journal if there is one."""
        try:
            return connect()
        except duckdb.Error as error:
            damage = re.search(r"replaying WAL file.*?(?:Corrupt.*?position (\d+)|Corrupt|does not match)", str(error))
            if damage is None or not self.found:
                raise
            whole = int(damage[1]) if damage[1] else 0
        self._set_aside(len(self.found) - whole)
        # a journal that ends within an entry is read up to the one before
        self.found = self.found[:whole]
        self.path.write_bytes(self.found)
        connection = connect()
        self.found = b""
        return connection

    def check(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Report what DuckDB dropped without a word; measured by writing to ``schema_version``."""
        if not self.path.exists() or self.path.stat().st_size != len(self.found):
            return  # none, or reported already, or whoever had the file open closed it just now
        connection.execute("SET wal_autocheckpoint = '1TB'")
        sizes = []
        for _ in range(2):
            # the first write after opening cuts off what was not read; the second tells how long one such entry is
            connection.execute("INSERT INTO schema_version VALUES (0, 'to measure the journal', now())")
            sizes.append(self.path.stat().st_size)
        connection.execute("DELETE FROM schema_version WHERE version = 0")
        first, second = sizes
        dropped = len(self.found) - (first - (second - first))
        if dropped >= LEAST_TRANSACTION:
            self._set_aside(dropped)

    def _set_aside(self, dropped: int) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
        aside.write_bytes(self.found)
        log.error(
            "The last %s of %s bytes of the store's journal %s could not be read: they were damaged, or being written "
            "when the process died. Everything before them is kept. The journal as it was found is in %s",
            f"{dropped:,}",
            f"{len(self.found):,}",
            self.path,
            aside,
        )
