"""How amounts and times are written: for people in notebooks, terminals and plots, for programs in JSON and CSV."""

from __future__ import annotations

import math
from datetime import UTC
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def plain(amount: Decimal) -> Decimal:
    """Return the same amount without the zeros at its end, which say nothing to a reader.

    >>> plain(Decimal("0E-9")), plain(Decimal("10.000")), plain(Decimal("0.002420000"))
    (Decimal('0'), Decimal('10'), Decimal('0.00242'))
    """
    digits = f"{amount:f}"
    return Decimal(digits.rstrip("0").rstrip(".")) if "." in digits else Decimal(digits)


def dollars(amount: Decimal | None) -> str:
    """Return an amount as people write it: whole dollars from $10, cents from one cent, else four digits or more.

    >>> [dollars(Decimal(x)) for x in ("12.4", "0.5", "0.0078", "0.00002", "0")], dollars(None)
    (['$12', '$0.50', '$0.0078', '$0.00002', '$0'], 'unknown')
    """
    if amount is None:
        return "unknown"
    sign, size = ("-", -amount) if amount < 0 else ("", amount)
    for least, digits in (("9.995", 0), ("0.00995", 2), ("0.0001", 4)):
        if size >= Decimal(least):
            return f"{sign}${size:,.{digits}f}"
    small = f"{size:.9f}".rstrip("0").rstrip(".")
    return "$0" if small == "0" else f"{sign}${small}"


def mean_dollars(amount: float) -> str:
    """Return a mean as people compare it with another: with three digits that count below a dollar.

    >>> mean_dollars(0.0104), mean_dollars(0.00627), mean_dollars(12.345), mean_dollars(0)
    ('$0.0104', '$0.00627', '$12.35', '$0.00')
    """
    digits = 2 - math.floor(math.log10(amount)) if 0 < amount < 1 else 2
    return f"${amount:,.{digits}f}"


def apart(low: Decimal, high: Decimal) -> tuple[str, str]:
    """Return the ends of a range as people write them, with as many digits as it takes to see that they differ.

    >>> apart(Decimal("200.1"), Decimal("200.4")), apart(Decimal(20), Decimal(90)), apart(Decimal(9), Decimal(9))
    (('$200.10', '$200.40'), ('$20', '$90'), ('$9.00', '$9.00'))
    """
    written = dollars(low), dollars(high)
    for digits in (2, 4, 6, 9):
        if written[0] != written[1] or low == high:
            break
        written = f"${low:,.{digits}f}", f"${high:,.{digits}f}"
    return written


def counted(number: float, noun: str, verb: tuple[str, str] | None = None) -> str:
    """Return a number of things, with a verb in the singular or the plural if both are given.

    >>> counted(1, "call"), counted(1200, "call"), counted(0, "query/queries"), counted(1, "call", ("is", "are"))
    ('1 call', '1,200 calls', '0 queries', '1 call is')
    """
    one, _, many = noun.partition("/")
    words = [one if number == 1 else many or f"{noun}s", *([verb[number != 1]] if verb else [])]
    return " ".join([f"{number:,.0f}", *words])


def exact(amount: Decimal | None) -> str | None:
    """Return an amount for programs, as a text: a JSON number would be read as a float.

    >>> [exact(Decimal(x)) for x in ("0.001819000", "0E-9", "2E-8", "100")], exact(None)
    (['0.001819', '0', '0.00000002', '100'], None)
    """
    return None if amount is None else f"{plain(amount):f}"


def instant(at: datetime) -> str:
    """Return a time for programs, as JavaScript writes it: UTC, milliseconds, Z.

    >>> from datetime import datetime
    >>> instant(datetime.fromisoformat("2026-11-23T11:30:00.123456+01:00"))
    '2026-11-23T10:30:00.123Z'
    """
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
