"""What pytest needs: for the notebooks a store of their own and the embedded model, for the tests a Ctrl-C that works."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if item.path.suffix != ".ipynb":
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        folder = item.config._tmp_path_factory.mktemp("notebook")  # type: ignore[attr-defined]
        patch.setenv("WORKBENCH_STORE", os.fspath(folder / "store.duckdb"))
        patch.setenv("CLAUDE_MODEL", "local")
        return (yield)


def pytest_configure() -> None:
    # else a drawn example that takes 200 ms fails its test, and on a busy machine some do
    settings.register_profile("busy", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")
    # a shell that starts us in the background has Ctrl-C ignored, and so would every process that a test interrupts
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
