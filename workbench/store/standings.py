"""What stands on each budget, kept from turn to turn by whoever writes all of them.

Asked of the database it is a sum over all calls of the period, twice a turn. The owner of a DuckDB file sees everything
that is written: it adds up once, then goes on with what its own turns hold and cost, until somebody else writes to the
ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from workbench.pricing import LEDGER_DIGITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from workbench.turns import Caller, LiveTurn

MOST = 10_000
"""Standings kept; budgets by the million must not fill the memory."""


class Whose(NamedTuple):
    """What counts: all of an org since a time, or only what a user, or a key, did."""

    org_id: str
    user_id: str | None
    key_id: str | None
    since: datetime


@dataclass(slots=True)
class Standing:
    """US dollars spent, and open holds with their amounts and ends."""

    version: int | None = None
    """Of the ledger when it was added up; None before that."""
    spent_usd: Decimal = Decimal(0)
    holds: dict[str, tuple[Decimal, datetime]] = field(default_factory=dict)
    later: list[Callable[[], None]] = field(default_factory=list)
    """What was queued for writing after the question how it stands."""

    def held_usd(self, now: datetime, apart_from: str) -> Decimal:
        """Return what holds that have not expired set aside, without one of them."""
        return sum((amount for id, (amount, ends) in self.holds.items() if ends > now and id != apart_from), Decimal(0))

    def add_up(self, version: int, spent: Decimal, holds: Iterable[tuple[str, Decimal | None, datetime]]) -> None:
        """Begin with what the database says, and go on with what was queued after it was asked."""
        self.spent_usd = spent
        self.holds = {id: (amount or Decimal(0), ends) for id, amount, ends in holds}
        for change in self.later:
            change()
        self.later.clear()
        self.version = version

    def change(self, how: Callable[[], None]) -> None:
        """Change it, at once or as soon as it is added up."""
        if self.version is None:
            self.later.append(how)
        else:
            how()


class Standings:
    """The standings of one store."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[Whose, Standing]] = {}

    def get(self, whose: Whose, version: int) -> Standing | None:
        """Return how it stands, None when that must be asked."""
        standing = self._kept.get(whose.org_id, {}).get(whose)
        return standing if standing is not None and standing.version == version else None

    def asking(self, whose: Whose) -> Standing:
        """Return a standing that is about to be asked for; from here on it hears of every turn."""
        if sum(map(len, self._kept.values())) >= MOST:
            self._kept.clear()
        of_org = self._kept.setdefault(whose.org_id, {})
        for old in [each for each in of_org if each[:3] == whose[:3] and each.since < whose.since]:
            del of_org[old]  # its period is over
        of_org[whose] = standing = Standing()
        return standing

    def forget(self, org_id: str) -> None:
        """Ask again: nobody knows what became of something that was to be written."""
        self._kept.pop(org_id, None)

    def hold(self, turn: LiveTurn, ends: datetime) -> None:
        """A turn's hold is on its way, or lasts longer."""
        amount = (turn.worst_case_usd or Decimal(0)).quantize(LEDGER_DIGITS)
        for _, standing in self._of(turn.caller):
            standing.change(lambda standing=standing: standing.holds.__setitem__(turn.id, (amount, ends)))  # type: ignore[misc]

    def settle(self, turn: LiveTurn) -> None:
        """A turn's end is on its way."""
        for whose, standing in self._of(turn.caller):
            cost = (turn.cost_usd or Decimal(0)) if turn.started_at >= whose.since else Decimal(0)
            standing.change(lambda standing=standing, cost=cost: _settle(standing, turn.id, cost))  # type: ignore[misc]

    def _of(self, caller: Caller) -> Iterator[tuple[Whose, Standing]]:
        for whose, standing in self._kept.get(caller.org_id, {}).items():
            if whose.user_id in (None, caller.user_id) and whose.key_id in (None, caller.key_id):
                yield whose, standing


def _settle(standing: Standing, hold_id: str, cost: Decimal) -> None:
    if standing.holds.pop(hold_id, None) is not None:  # else it is written already, and counted
        standing.spent_usd += cost
