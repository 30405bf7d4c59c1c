"""One server against one scripted upstream for the tests that need nothing special."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.server.live import LiveServer
from workbench.claude import Claude

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.upstream import ScriptedUpstream


@pytest.fixture(scope="session")
def _server(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.engine.Claude", partial(Claude, pause=0.01))  # retries wait less
        with LiveServer(tmp_path_factory.mktemp("server"), upstream=running.url) as server:
            yield server


@pytest.fixture
def server(_server: LiveServer, upstream: ScriptedUpstream) -> LiveServer:
    return _server


@pytest.fixture(scope="module")  # the tests of the embedded model stop it
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server without a key: the embedded model answers."""
    with LiveServer(tmp_path_factory.mktemp("keyless"), upstream=None) as server:
        yield server
