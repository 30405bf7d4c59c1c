"""What an experiment needs, said before it starts, and what it has shown, both from the store."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any

from workbench.prompts import experiments, watch
from workbench.prompts.assignment import shares
from workbench.prompts.experiments import StoredExperiment
from workbench.prompts.report import Report, report_of
from workbench.prompts.simulation import SYNTHETIC
from workbench.prompts.sizes import Size, sizes
from workbench.prompts.statistics import LEAST

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    import pyarrow as pa

    from workbench.store.backend import Backend


@dataclass(frozen=True)
class Plan:
    """How many units an experiment needs to show effects of several sizes; shown as a table."""

    experiment: StoredExperiment
    sizes: tuple[Size, ...]
    chats_before: int
    """Of the label in the last 30 days: with 30 or more they tell how outcomes spread."""
    begun: bool = field(default=False, repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """A row for each effect: ``effect``, units ``per_arm`` at most, ``if_looked_at_once``, and ``in_all``."""
        import pandas as pd  # on use: 0.3 s

        rows = [(size.effect, size.at_most, size.at_once, size.in_all) for size in self.sizes]
        return pd.DataFrame(rows, columns=["effect", "per_arm", "if_looked_at_once", "in_all"])

    @property
    def portable(self) -> dict[str, Any]:
        """It as JSON says it."""
        sizes = [size._asdict() for size in self.sizes]
        return self.experiment.portable | {"chats_before": self.chats_before, "sizes": sizes}

    @property
    def heading(self) -> str:
        """What is compared."""
        of = self.experiment
        parts = ", ".join(f"{arm} {part:.0%}" for arm, part in shares(of.arms).items())
        state = "runs" if self.begun else "would run"
        taking = "" if of.coverage == 1 else f" of {of.coverage:.0%} of all {of.unit}s"
        return f"experiment {of.name} {state} on {of.prompt}@{of.label}: {parts}{taking}; {of.outcome} decides"

    @property
    def basis(self) -> str:
        """Where the figures come from."""
        if self.chats_before >= LEAST:
            return f"By how much the {self.chats_before:,} chats of the last {experiments.BEFORE.days} days differ. {_LOOKS}"
        few = f"the label has had {self.chats_before:,} chats in {experiments.BEFORE.days} days, too few to go by"
        return f"By how much chats usually differ: {few}. {_LOOKS}"

    def __str__(self) -> str:
        unit = f"{self.experiment.unit}s"
        lines = [
            f"  {size.effect}: at most {size.at_most:,} {unit} per arm, {size.in_all:,} in all" for size in self.sizes
        ]
        return "\n".join([self.heading, "to show a change of", *lines, self.basis])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        table = self.table.rename(columns=lambda name: name.replace("_", " ")).to_html(index=False, border=0)
        return f"<div><p>{escape(self.heading)}</p>{table}<p>{escape(self.basis)}</p></div>"


_LOOKS = "With so many, four experiments in five show the change, however often one looks; most need fewer."


async def plan(backend: Backend, org_id: str, experiment: StoredExperiment, now: datetime, *, begun: bool) -> Plan:
    """Return what an experiment needs, by the chats that its label has had."""
    before = await experiments.chats_before(backend, org_id, experiment.prompt, experiment.label, now)
    found = await asyncio.to_thread(_sizes, experiment, before)
    return Plan(experiment, found, before.num_rows, begun)


async def report(backend: Backend, org_id: str, name: str) -> Report:
    """Return what an experiment has shown so far, after its guard was looked at.

    Raises:
        NotFound: there is no such experiment.
    """
    await watch.look(backend, org_id, name)
    experiment = await experiments.get(backend, org_id, name)
    table = await experiments.units(backend, org_id, name)
    made = await asyncio.to_thread(_report, experiment, table)
    return replace(made, synthetic=org_id.startswith(SYNTHETIC))


def portable_report(made: Report) -> dict[str, Any]:
    """Return a report as JSON says it; None is what is not known yet."""
    assert isinstance(made.experiment, StoredExperiment)
    return {
        "experiment": made.experiment.portable,
        "counts": {**made.counts},
        "split_is_right": bool(made.split_is_right),
        "ratio_p": float(made.ratio_p),
        "verdict": made.verdict,
        "comparisons": [
            {
                "outcome": each.outcome,
                "arm": each.arm,
                "against": each.first,
                "chats": [*map(int, each.n)],
                "values": [*map(_known, each.levels)],
                "effect": _known(each.effect),
                "low": _known(each.low),
                "high": _known(each.high),
                "unit": each.unit,
                "differs": bool(each.differs),
                "decides": each.outcome == made.experiment.outcome,
            }
            for each in made.comparisons
        ],
        "notes": [*made.notes],
    }


def _known(value: float) -> float | None:
    """JSON knows no infinity, and what is not a number is not known."""
    return float(value) if math.isfinite(value) else None


def _sizes(experiment: StoredExperiment, before: pa.Table) -> tuple[Size, ...]:
    return tuple(sizes(experiment.outcome, experiment.arms, experiments.frame_of(before)))


def _report(experiment: StoredExperiment, table: pa.Table) -> Report:
    made = report_of(experiment.compared, experiments.frame_of(table))
    stopped = tuple(f"{why[0].upper()}{why[1:]}." for why in experiment.stopped_arms.values())
    won = (f"{experiment.prompt}@{experiment.label} was moved to {experiment.winner}.",) if experiment.winner else ()
    return replace(made, experiment=experiment, notes=stopped + won + made.notes)
