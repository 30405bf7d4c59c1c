"""How long each plot takes on the demo ledger: asking the store, drawing, and the picture as a PNG.

Figures are medians of the plot drawn again and again, so that neither imports nor fonts are in them.
"""

from __future__ import annotations

import os
import time
from io import BytesIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import matplotlib as mpl

import workbench as wb
from workbench import runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

RUNS = 5
UNTIL = "2026-11-20"
OCTOBER, NOVEMBER = ("2026-10-01", "2026-10-20"), ("2026-11-01", "2026-11-20")
LONGEST = "SELECT chat_id FROM usage WHERE org_id = 'synthetic-demo' AND chat_id IS NOT NULL GROUP BY 1 ORDER BY COUNT(*) DESC, 1 LIMIT 1"


def plots(org: str, chat: str) -> dict[str, Callable[[], Figure]]:
    """Return what draws each plot."""
    return {
        "spend": lambda: wb.plots.spend(org=org).figure,
        "tokens": lambda: wb.plots.tokens(org=org).figure,
        "cache_hits": lambda: wb.plots.cache_hits(org=org).figure,
        "burn_down": lambda: wb.plots.burn_down(org, now=UNTIL).figure,
        "latency": lambda: wb.plots.latency(org=org).figure,
        "why": lambda: wb.plots.why(OCTOBER, NOVEMBER, org=org).figure,
        "context_growth": lambda: wb.plots.context_growth(chat, org=org)[0].figure,
        "history_policies": lambda: wb.plots.history_policies().figure,
        "what_if": lambda: wb.plots.what_if(org=org).figure,
        "history_lab": lambda: wb.plots.history_lab(org=org).figure,
    }  # type: ignore[dict-item]  # matplotlib: the figure of axes may be a part of one


def measured(draw: Callable[[], Figure]) -> tuple[float, float]:
    """Return wall and CPU milliseconds of a plot, from the call to its picture."""
    from matplotlib import pyplot as plt

    runs = []
    for _ in range(RUNS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        figure = draw()
        figure.savefig(BytesIO(), format="png")
        runs.append((time.perf_counter() - wall, time.process_time() - cpu))
        plt.close(figure)
    walls, cpus = zip(*runs[1:], strict=True)
    return median(walls) * 1000, median(cpus) * 1000


def main() -> None:
    """Print a line for each plot."""
    mpl.use("agg")
    with TemporaryDirectory() as folder:
        os.environ["WORKBENCH_STORE"] = str(Path(folder) / "store.duckdb")
        org = wb.demo_data(UNTIL)
        chat = wb.sql(LONGEST).chat_id[0]
        times = {name: measured(draw) for name, draw in plots(org, chat).items()}
        for name, (wall, cpu) in times.items():
            print(f"{name:17} {wall:4.0f} ms, of CPU {cpu:4.0f} ms")
        wall, cpu = map(max, zip(*times.values(), strict=True))
        print(f"slowest: {wall:.0f} ms, of CPU {cpu:.0f} ms (goal: under 300)")
        runtime.close()


if __name__ == "__main__":
    main()
