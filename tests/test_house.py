"""What the repository may hold."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
ADDRESS = re.compile(r"\w+://([A-Za-z0-9.-]*)")
ADDRESSES = {
    "",  # made up at run time
    "127.0.0.1",
    "localhost",
    "example.com",
    "platform.claude.com",
    "www.w3.org",  # the name of SVG
    "HOST",  # in examples
    "USER",
    "ada",
}
BUNDLES = ("chat.js", "desk.js", "math.js", "page.js")
MAY_BE_LARGE = ("workbench/notebook/static/", "server/static/", "docs/", "data/")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_notebooks_hold_no_outputs(tracked: list[Path]) -> None:
    notebooks = [path for path in tracked if path.suffix == ".ipynb"]
    cells = [cell for path in notebooks for cell in json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"]]

    assert len(notebooks) >= 2
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_a_page_of_640_pixels_shows_the_code_of_notebooks_whole(tracked: list[Path]) -> None:
    notebooks = [path for path in tracked if path.suffix == ".ipynb"]
    cells = [cell for path in notebooks for cell in json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"]]
    code = [line.rstrip("\n") for cell in cells if cell["cell_type"] == "code" for line in cell["source"]]
    assert [line for line in code if len(line) > 74] == []  # nbconvert's page cannot be scrolled to their ends


def test_no_file_is_large_but_those_that_may_be(tracked: list[Path]) -> None:
    large = [path for path in tracked if (ROOT / path).stat().st_size > 1_000_000]
    assert [path for path in large if not path.as_posix().startswith(MAY_BE_LARGE)] == []


def test_constraints_are_names_and_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []


@pytest.mark.parametrize("folder", ["workbench", "server", "notebooks", "tools"])
def test_the_product_names_no_address_but_known_ones(tracked: list[Path], folder: str) -> None:
    texts = [
        p for p in tracked if p.parts[0] == folder and p.suffix in (".py", ".sql", ".js", ".json", ".ipynb", ".sh")
    ]
    named = {
        m[1] for p in texts if p.name not in BUNDLES for m in ADDRESS.finditer((ROOT / p).read_text(encoding="utf-8"))
    }
    assert named - ADDRESSES == set()


def test_no_drawn_example_fails_because_the_machine_is_busy() -> None:
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check
