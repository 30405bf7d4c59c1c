"""PostgreSQL's results with the types that DuckDB gives the same columns."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

WIDEST = 38
"""Digits of Arrow's largest usual decimal, and of DuckDB's."""


def portable(table: pa.Table) -> pa.Table:
    """Return a table whose decimals are decimals, and whose other columns are of plain Arrow types."""
    columns = [_column(table.column(n), field) for n, field in enumerate(table.schema)]
    return pa.table(columns, schema=pa.schema(list(zip(table.column_names, [c.type for c in columns], strict=True))))


def _column(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    column = column.cast(column.type.storage_type)
    if (field.metadata or {}).get(b"POSTGRESQL:type") != b"numeric":
        return column
    declared = int(field.metadata.get(b"POSTGRESQL:typmod", b"-1"))
    if declared >= 0:
        precision, scale = (declared - 4) >> 16 & 0xFFFF, (declared - 4) & 0x7FF
        if precision <= WIDEST and scale <= precision:
            return column.cast(pa.decimal128(precision, scale))
    return _undeclared(column)


def _undeclared(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The numbers of a sum or an average, of which PostgreSQL does not say how many digits they have."""
    point = pc.find_substring(column, ".")
    digits = pc.if_else(pc.equal(point, -1), 0, pc.subtract(pc.subtract(pc.utf8_length(column), point), 1))
    scale = pc.max(digits).as_py() or 0
    for exact in ([pa.int64()] if scale == 0 else []) + ([pa.decimal128(WIDEST, scale)] if scale <= WIDEST else []):
        try:
            return column.cast(exact)
        except pa.ArrowInvalid:
            continue
    return column.cast(pa.float64())  # too many digits, or NaN
