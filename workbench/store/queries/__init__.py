"""The questions the store is asked, one file each, in the SQL that DuckDB and PostgreSQL share."""

from functools import cache
from importlib.resources import files


@cache
def query(name: str) -> str:
    """Return the SQL of ``name.sql``."""
    return (files(__name__) / f"{name}.sql").read_text(encoding="utf-8")
