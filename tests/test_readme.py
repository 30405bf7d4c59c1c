"""What the README says is true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import workbench as wb

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def test_the_first_lines_run_as_they_are(no_key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PYTHON[0], "README.md", "exec"), {})

    printed = capsys.readouterr().out
    assert re.search(r"^local \(embedded model\) · \d+ in \+ \d+ out tokens", printed, re.MULTILINE)
    assert printed.splitlines()[-1].split()[:2] == ["1", "local"]


def test_every_name_of_the_reference_exists() -> None:
    named = set(re.findall(r"\bwb\.(\w+(?:\.\w+)?)", README))
    assert len(named) >= 6
    for name in named:
        value = wb
        for part in name.split("."):
            value = getattr(value, part)
    ast.parse(PYTHON[1])


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_commands_exist() -> None:
    commands = {line.split()[1] for block in SHELL for line in block.splitlines() if line.startswith("workbench ")}
    targets = {line.split()[1] for block in SHELL for line in block.splitlines() if line.startswith("make ")}
    shown = subprocess.run(
        [sys.executable, "-m", "workbench", "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert commands <= set(re.findall(r"^  ([\w-]+)  ", shown, re.MULTILINE))
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_first_screen_is_where_it_should_be() -> None:
    lines = README.splitlines()
    assert next(n for n, line in enumerate(lines, 1) if line.startswith("make ")) <= 20
    assert next(n for n, line in enumerate(lines, 1) if line.startswith("import workbench")) <= 35


def test_the_prompts_run_as_they_are(no_key: Path) -> None:
    block = next(block for block in PYTHON if "prompts.save(" in block)
    exec(compile(block, "README.md", "exec"), {"wb": wb})

    assert [wb.prompts.get("support").version, wb.prompts.get("support@latest").version] == [1, 2]
