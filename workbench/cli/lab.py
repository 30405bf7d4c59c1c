"""``workbench lab``: JupyterLab on a folder, with kernels of this environment."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from workbench.errors import ConfigurationError, InvalidRequest


def lab(
    folder: Annotated[
        str,
        typer.Argument(help="A folder or a notebook; by default notebooks/, or else this folder.", show_default=False),
    ] = "",
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="For JupyterLab, such as --port=8889 or --no-browser.", show_default=False),
    ] = None,
) -> None:
    """Open JupyterLab on a folder, at its first notebook."""
    passed_on = list(arguments or ())
    if folder.startswith("-"):
        passed_on.insert(0, folder)
        folder = ""
    root, notebook = _first_notebook(Path(folder or _default_folder()).expanduser())
    if find_spec("jupyterlab") is None:
        raise ConfigurationError('JupyterLab is not installed; run: pip install "claude-workbench[lab]"')
    sys.stdout.flush()
    # this process becomes JupyterLab: signals reach it, and nothing of ours is left to end
    os.execve(sys.executable, command(root, notebook, passed_on), environment())


def _default_folder() -> str:
    return "notebooks" if Path("notebooks").is_dir() else "."


def _first_notebook(place: Path) -> tuple[Path, str | None]:
    if place.is_file() and place.suffix == ".ipynb":
        return place.resolve().parent, place.name
    if not place.is_dir():
        raise InvalidRequest(f"{place} is neither a folder nor a notebook")
    names = sorted(path.name for path in place.glob("*.ipynb"))
    return place.resolve(), names[0] if names else None


def command(folder: Path, notebook: str | None, passed_on: list[str]) -> list[str]:
    """Return the command that starts JupyterLab; an option passed on takes the place of ours."""
    ours = {
        "--ServerApp.root_dir": str(folder),
        "--ServerApp.answer_yes": "True",  # Ctrl-C ends it without asking back
        "--LabApp.default_url": f"/lab/tree/{quote(notebook)}" if notebook else "/lab",
    }
    named = {argument.partition("=")[0] for argument in passed_on}  # twice the same is an error in JupyterLab
    line = [sys.executable, "-m", "jupyterlab", *(f"{name}={ours[name]}" for name in ours if name not in named)]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        line.append("--allow-root")
    return line + passed_on


def environment() -> dict[str, str]:
    """Return the environment of JupyterLab."""
    # else a kernel named python3 in the user's folder, of some other environment, goes before this one's
    return os.environ | {"JUPYTER_PREFER_ENV_PATH": "1"}
