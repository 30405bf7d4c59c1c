"""How long ``import workbench`` takes, against ``import anthropic`` in the same run, and what it loads.

Each import is measured inside a fresh interpreter, from before the statement until after it, the two taking turns;
figures are medians. ``workbench --help`` is measured from outside, interpreter and all.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

RUNS = 9
HEAVY = ("anthropic", "pandas", "matplotlib", "duckdb")
MEASURE = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
import {module}
print(time.perf_counter() - wall, time.process_time() - cpu, *({heavy!r} & sys.modules.keys()))
"""


def measured(module: str) -> tuple[float, float, list[str]]:
    """Return wall and CPU seconds of importing a module, and which heavy ones came with it."""
    program = MEASURE.format(module=module, heavy=set(HEAVY))
    wall, cpu, *loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    return float(wall), float(cpu), loaded


def help_seconds() -> float:
    """Return wall seconds of ``workbench --help``."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "workbench", "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    """Print one line per figure."""
    runs = [(measured("workbench"), measured("anthropic"), help_seconds()) for _ in range(RUNS)]
    ours, theirs, helps = zip(*runs, strict=True)
    wall, cpu = median(run[0] for run in ours), median(run[1] for run in ours)
    base_wall, base_cpu = median(run[0] for run in theirs), median(run[1] for run in theirs)
    print(f"import workbench   wall {wall * 1000:6.0f} ms   cpu {cpu * 1000:6.0f} ms   (median of {RUNS})")
    print(f"import anthropic   wall {base_wall * 1000:6.0f} ms   cpu {base_cpu * 1000:6.0f} ms   (baseline)")
    print(f"ratio              wall {wall / base_wall:6.3f}      cpu {cpu / base_cpu:6.3f}")
    print(f"loaded with it     {', '.join(sorted(ours[0][2])) or 'none'} of {', '.join(HEAVY)}")
    print(f"workbench --help   wall {median(helps) * 1000:6.0f} ms   (promised: under 300)")


if __name__ == "__main__":
    main()
