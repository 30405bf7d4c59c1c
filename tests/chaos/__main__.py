"""Kill processes with -9 at random moments of turns, and verify the ledger after each: ``python -m tests.chaos``.

Ends with 1, and the first fact that does not hold, if one does not; the store is then kept. A stall is the longest time
that a process which survives waits for a small write when its owner is killed, or its connections to PostgreSQL are
ended; the goal is 2 s.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tests.postgres import PostgresServer

from .facts import FactViolated
from .run import BACKENDS, Figures, chaos

if TYPE_CHECKING:
    from collections.abc import Iterator


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=_positive, default=200, metavar="N", help="for each backend (default: 200)")
    parser.add_argument("--backend", choices=[*BACKENDS, "all"], default="all", help="(default: all)")
    parser.add_argument(
        "--seed",
        type=int,
        default=random.randrange(10**6),
        help="of who is killed and when (default: another each time)",
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return number


@contextmanager
def _server(backend: str) -> Iterator[PostgresServer | None]:
    if backend != "postgresql":
        yield None
        return
    server = PostgresServer()
    try:
        yield server
    finally:
        server.end()


def _run(figures: Figures, kills: int, seed: int) -> None:
    def progress(figures: Figures, what: str) -> None:
        so_far = f"{figures.acknowledged} acknowledged, {figures.lost} lost"
        print(f"{figures.backend} {figures.kills}/{kills}: {what}; {so_far}", flush=True)

    folder = Path(tempfile.mkdtemp(prefix="wb-chaos-"))
    with _server(figures.backend) as server:
        try:
            asyncio.run(chaos(figures, kills, seed, folder, server, progress))
        except FactViolated:
            print(f"the store and what the processes said of errors are in {folder}", file=sys.stderr)
            raise
        except BaseException:
            shutil.rmtree(folder)
            raise
    shutil.rmtree(folder)


def _summary(all_figures: list[Figures]) -> str:
    head = ("backend", "kills", "processes killed", "acknowledged", "turns cut", "lost", "longest stall", "time")
    lines = [head, *map(_line, all_figures)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _line(figures: Figures) -> tuple[str, ...]:
    disconnected = [f"{figures.disconnected} connections"] if figures.disconnected else []
    stalls = figures.stalls
    shown = f"{max(stalls):.2f} s (median {median(stalls):.2f} of {len(stalls)})" if stalls else "-"
    return (
        figures.backend,
        str(figures.kills),
        ", ".join([*(f"{n} {who}" for who, n in sorted(figures.killed.items())), *disconnected]),
        str(figures.acknowledged),
        ", ".join(f"{n} in {where}" for where, n in sorted(figures.cut.items())),
        str(figures.lost),
        shown,
        f"{figures.seconds:.0f} s",
    )


def main() -> int:
    arguments = _arguments()
    logging.getLogger("workbench").addHandler(logging.NullHandler())  # each lost turn is a warning
    print(f"seed {arguments.seed}", flush=True)
    all_figures: list[Figures] = []
    try:
        for backend in BACKENDS if arguments.backend == "all" else [arguments.backend]:
            all_figures.append(Figures(backend))
            _run(all_figures[-1], arguments.kills, arguments.seed)
        code, end = 0, "Of what was acknowledged nothing was lost; no turn is half; every check was clean."
    except FactViolated as violated:
        code, end = 1, str(violated)
    except KeyboardInterrupt:
        code, end = 130, "Interrupted; nothing wrong so far."
    print(f"\n{_summary(all_figures)}\n\n{end}")
    return code


if __name__ == "__main__":
    sys.exit(main())
