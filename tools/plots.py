"""Pictures of all plots on the demo ledger, to be looked at.

``python -m tools.plots FOLDER``: each is 640 pixels wide, once in colour and once in grey.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
from PIL import Image

import workbench as wb
from tests.bench.plots import LONGEST, UNTIL, plots
from workbench import runtime


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(prog="python -m tools.plots", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="where the pictures go")
    folder = parser.parse_args().folder
    mpl.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as store:
        os.environ["WORKBENCH_STORE"] = str(Path(store) / "store.duckdb")
        org = wb.demo_data(UNTIL)
        for name, draw in plots(org, wb.sql(LONGEST).chat_id[0]).items():
            figure = draw()
            figure.savefig(folder / f"{name}.png")
            Image.open(folder / f"{name}.png").convert("L").save(folder / f"{name}-grey.png")
            print(f"{name}: {figure.get_label()}")
        runtime.close()


if __name__ == "__main__":
    main()
