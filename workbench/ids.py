"""Ids of everything the workbench makes."""

from uuid6 import uuid7

ID_PATTERN = r"^[A-Za-z0-9._:-]{1,64}$"
"""Ids of orgs and users, which others may choose, and of chats."""


def new_id() -> str:
    """Return a UUIDv7: made by whoever writes the row, so that writing it twice is harmless, and sorted by time."""
    return str(uuid7())
