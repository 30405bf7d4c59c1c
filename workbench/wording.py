"""How amounts are written for people, the same in notebooks, terminals, plots and the widget."""

from __future__ import annotations

from decimal import Decimal


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
