"""Parameters and rows as bytes, and back without a change."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

if TYPE_CHECKING:
    from collections.abc import Callable

# MessagePack's own types hold these only in part: its times forget their zone, its integers end at 64 bits
_KINDS: list[tuple[type, Callable[[Any], str], Callable[[str], Any]]] = [
    (Decimal, str, Decimal),
    (datetime, datetime.isoformat, datetime.fromisoformat),
    (date, date.isoformat, date.fromisoformat),
    (time, time.isoformat, time.fromisoformat),
    (timedelta, lambda t: f"{t.days} {t.seconds} {t.microseconds}", lambda s: timedelta(*map(int, s.split()))),
    (UUID, str, UUID),
    (int, str, int),
]
_SMALL = range(-(2**63), 2**64)


def pack(value: Any) -> bytes:
    """Return bytes for text, numbers, times, bytes, None, and lists and dicts of them; tuples become lists.

    Example:
        >>> unpack(pack([Decimal("0.10"), "a", 2**70]))
        [Decimal('0.10'), 'a', 1180591620717411303424]

    Raises:
        TypeError: there is something else in it.
    """
    return msgspec.msgpack.encode(_plain(value))


def unpack(packed: bytes) -> Any:
    """Return what was packed."""
    return msgspec.msgpack.decode(packed, ext_hook=_special)


def _plain(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (str, bytes, bool, float) or (kind is int and value in _SMALL):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if kind is dict:
        return {key: _plain(item) for key, item in value.items()}
    code = next((code for code, (known, _, _) in enumerate(_KINDS) if isinstance(value, known)), None)
    if code is None:
        raise TypeError(f"a {kind.__name__} cannot be kept; give text, a number, a time or bytes")
    return Ext(code, _KINDS[code][1](value).encode())


def _special(code: int, data: memoryview) -> Any:
    return _KINDS[code][2](str(data, "utf-8"))
