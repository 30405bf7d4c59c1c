"""How amounts are written for people."""

from __future__ import annotations

from decimal import Decimal

import pytest

from workbench.wording import dollars


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("0", "$0"),
        ("0.000000001", "$0.000000001"),
        ("0.0000000001", "$0"),
        ("0.00002", "$0.00002"),
        ("0.0001", "$0.0001"),
        ("0.0078", "$0.0078"),
        ("0.009949", "$0.0099"),
        ("0.00996", "$0.01"),
        ("0.01", "$0.01"),
        ("0.5", "$0.50"),
        ("9.994", "$9.99"),
        ("9.996", "$10"),
        ("10", "$10"),
        ("1234567.8", "$1,234,568"),
        ("-0.5", "-$0.50"),
        ("-12", "-$12"),
        ("-0.00002", "-$0.00002"),
        ("1E-7", "$0.0000001"),
        ("1E+3", "$1,000"),
    ],
)
def test_an_amount_is_written_as_people_write_it(amount: str, written: str) -> None:
    assert dollars(Decimal(amount)) == written


def test_an_unknown_amount_is_unknown_and_never_zero() -> None:
    assert dollars(None) == "unknown"
