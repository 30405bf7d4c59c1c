"""Ids of everything the workbench makes."""

from uuid6 import uuid7


def new_id() -> str:
    """Return a UUIDv7: made by whoever writes the row, so that writing it twice is harmless, and sorted by time."""
    return str(uuid7())
