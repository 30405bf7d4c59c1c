"""Run the benchmarks of this folder, or those named: ``python -m tests.bench [NAME …]``.

Each runs in a process of its own, so that none pays for what another has imported. Figures are not judged here: the
exit code is 0 unless a benchmark cannot run.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def benchmarks() -> list[str]:
    """The names of the modules with a ``main()``, found without running them."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py") if _has_main(path))


def _has_main(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


def run(name: str) -> bool:
    """Run one benchmark; whether it could."""
    print(f"== {name}", flush=True)
    command = [sys.executable, "-c", f"from tests.bench.{name} import main; main()"]
    return subprocess.run(command, cwd=FOLDER.parent.parent, check=False).returncode == 0


def main(wanted: list[str]) -> int:
    if unknown := set(wanted) - set(benchmarks()):
        print(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(benchmarks())}")
        return 2
    ran = [run(name) for name in wanted or benchmarks()]
    return 0 if all(ran) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
