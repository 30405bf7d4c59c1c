"""What developers run by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("tool", ["plots", "screenshots"])
def test_a_tool_that_is_asked_for_help_says_what_it_takes_and_makes_nothing(tool: str, tmp_path: Path) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", f"tools.{tool}", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert asked.stdout.startswith(f"usage: python -m tools.{tool} [-h]")
    assert list(tmp_path.iterdir()) == []
