"""Many rows at once, for what is brought in from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.store.backend import Statement
from workbench.store.copies import as_column, tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from workbench.store.backend import Backend
    from workbench.store.copies import Table


async def add(backend: Backend, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    """Add rows to tables in one transaction, and return how many of each were new.

    A row whose key is there already is left as it is, so adding again what was added before changes nothing.

    Args:
        backend: The store.
        rows: By the name of their table; every row of a table has the same columns, those of the key among them.
    """
    known = {table.name: table for table in await tables(backend)}
    new: dict[str, Sequence[Mapping[str, Any]]] = {}
    for name, each in rows.items():
        found = await _there(backend, known[name], each) if each else set()
        unique = {tuple(row[column] for column in known[name].key): row for row in each}
        new[name] = [row for key, row in unique.items() if key not in found]
    if statements := [_insert(known[name], each) for name, each in new.items() if each]:
        await backend.write(statements)
    return {name: len(each) for name, each in new.items()}


async def _there(backend: Backend, table: Table, rows: Sequence[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    keys = ", ".join(table.key)
    places = _unnested(table, table.key)
    values = tuple([row[column] for row in rows] for column in table.key)
    return set(await backend.rows(f"SELECT {keys} FROM {table.name} WHERE ({keys}) IN (SELECT {places})", *values))


def _insert(table: Table, rows: Sequence[Mapping[str, Any]]) -> Statement:
    columns = list(rows[0])
    sql = (
        f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {_unnested(table, columns)} "
        f"ON CONFLICT ({', '.join(table.key)}) DO NOTHING"
    )
    return Statement(sql, tuple([row[column] for row in rows] for column in columns))


def _unnested(table: Table, columns: Sequence[str]) -> str:
    return ", ".join(as_column(n, table.types[column]) for n, column in enumerate(columns, start=1))
