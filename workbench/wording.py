"""How amounts are written for people, the same in notebooks, terminals, plots and the widget."""

from __future__ import annotations

from decimal import Decimal


def dollars(amount: Decimal | None) -> str:
    """Return an amount as people write it: whole dollars from $10, cents from one cent, else four digits or more.

    >>> [dollars(Decimal(x)) for x in ("12.4", "0.5", "0.0078", "0.00002", "0")], dollars(None)
    (['$12', '$0.50', '$0.0078', '$0.00002', '$0'], 'unknown')
    """
    if amount is None:
        return "unknown"
    if amount == 0:
        return "$0"
    if amount >= 10:
        return f"${amount:,.0f}"
    if amount >= Decimal("0.01"):
        return f"${amount:.2f}"
    if amount >= Decimal("0.0001"):
        return f"${amount:.4f}"
    return f"${amount:.9f}".rstrip("0")
