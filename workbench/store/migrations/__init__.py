"""Changes of the tables, in order. A file that has shipped never changes."""

from importlib.resources import files

MIGRATIONS = [
    (entry.name, entry.read_text(encoding="utf-8"))
    for entry in sorted(files(__name__).iterdir(), key=lambda entry: entry.name)
    if entry.name.endswith(".sql")
]


def number(name: str) -> int:
    """Return the version of the tables that a file makes; numbers rise, and may leave some out.

    >>> number("0004_tenants.sql")
    4
    """
    return int(name[:4])
