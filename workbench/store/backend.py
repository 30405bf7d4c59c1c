"""The port between the store and whatever keeps its rows.

Every backend runs the same SQL text: the dialect DuckDB and PostgreSQL share, with ``$1, $2, …`` for parameters. A
transaction is a list of statements, since a client of another process cannot hold one open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

Row = tuple[Any, ...]


class Statement(NamedTuple):
    """SQL with its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()


class CountedLedger(Protocol):
    """Usage and holds that only this process writes."""

    @property
    def ledger_version(self) -> int:
        """Another number whenever they may have changed, except by who told."""

    async def rows_in_order(self, *questions: Statement) -> tuple[int, list[list[Row]]]:
        """Return the rows of queries once all is written that was queued before, and nothing that is queued later.

        With the version of that moment.
        """


class Backend(Protocol):
    """Keeps rows. Safe to use from several threads and event loops at once.

    Every method raises :class:`~workbench.errors.StoreError` when the rows cannot be kept or had.
    """

    @property
    def tenants_version(self) -> int | None:
        """Another number whenever an org, a user or a key may have changed; None where only a look can tell."""

    @property
    def ledger(self) -> CountedLedger | None:
        """Usage and holds, where this process does all that is written; None where only a look can tell what changed."""

    async def write(self, statements: Sequence[Statement], *, since: int | None = None) -> None:
        """Run the statements in one transaction; on return they are durable.

        Args:
            statements: In order.
            since: Told by a writer who keeps count of all it writes to the ledger: the version of it by which it has made
                sure that no budget is overspent, so that this need not be looked at again if it still holds.
        """

    async def rows(self, sql: str, *parameters: Any) -> list[Row]:
        """Return the rows of a query; for results of a page or two."""

    async def arrow(self, sql: str, *parameters: Any) -> pa.Table:
        """Return the result of a query as a table; for results of any size."""

    async def read_only(self, sql: str, *, seconds: float) -> pa.Table:
        """Return the result of one statement of an analyst's own, which can neither write nor reach files or network.

        Raises:
            InvalidRequest: it is not one statement that reads, it fails, it takes longer than ``seconds``, or its result
                does not fit the memory.
        """

    async def snapshot(self, path: str) -> None:
        """Write a copy of the store, as it is at one moment, to a file that is not there yet.

        Raises:
            StoreError: also when this kind of store is no file and cannot be copied so.
        """

    async def vacuum(self) -> None:
        """Free the space of deleted rows for new ones, while the store is in use."""

    def close(self) -> None:
        """Finish what is being written and let go."""
