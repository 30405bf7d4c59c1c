"""What was read before and still holds, since nobody has changed anything it could depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T")

MOST = 10_000
"""Things remembered; callers by the million must not fill the memory."""


class Unchanged(Generic[T]):
    """Values by key, each with the version of the store in which it was read."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[int, T]] = {}

    def get(self, key: Hashable, version: int | None) -> T | None:
        """Return what was kept, None when there is nothing or the version is another now.

        >>> kept = Unchanged[str]()
        >>> kept.keep("acme", 1, "$5")
        >>> kept.get("acme", 1), kept.get("acme", 2), kept.get("acme", None)
        ('$5', None, None)
        """
        kept = self._kept.get(key)
        return kept[1] if kept is not None and kept[0] == version else None

    def keep(self, key: Hashable, version: int | None, value: T) -> None:
        """Keep a value that was read after the version was; without a version nothing can be kept."""
        if version is None:
            return
        if len(self._kept) >= MOST:
            self._kept.clear()
        self._kept[key] = (version, value)
