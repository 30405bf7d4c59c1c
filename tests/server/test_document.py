"""The OpenAPI document against a running server: schemathesis asks what it allows, and what it forbids."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.server.process import ROOT, ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream

EXAMPLES = 15
"""Made up for each operation and phase; with 150 and two other seeds, 3,400 requests, nothing more was found."""
SEED = 1
OPTIONS = f"""--max-examples {EXAMPLES} --seed {SEED} --generation-database none --request-timeout 20
--continue-on-failure --no-color"""


@pytest.mark.timeout(300)
def test_every_operation_takes_and_answers_what_is_documented(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """No 5xx, no status, header or body that is not documented; valid requests are taken, others refused.

    All of them: what is added to the document is asked here without being named.
    """
    claude = {"ANTHROPIC_API_KEY": "sk-ant-test", "ANTHROPIC_BASE_URL": upstream.url}
    with ServerProcess(tmp_path / "store.duckdb", **claude) as server:
        document = server.client.get("/openapi.json").json()
        operations = sum(len(methods) for methods in document["paths"].values())
        run = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", *OPTIONS.split()],
            cwd=tmp_path,  # it leaves a folder behind
            env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.server.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        errors = server.errors()

    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}\n{errors}"
    assert f"{operations} selected / {operations} total" in run.stdout
    assert f"Tested: {operations}" in run.stdout
    assert upstream.requests_total > EXAMPLES
