"""A scripted upstream, the workbench of this process answered by one, with a store of its own; a PostgreSQL server."""

from __future__ import annotations

import asyncio
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.upstream import ScriptedUpstream
from tests.owner import OwnerProcess
from tests.postgres import PostgresServer
from workbench import runtime, tokens
from workbench.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CLAUDE_MODEL", "CLAUDE_MAX_TOKENS", "APP_ENV")


@pytest.fixture(scope="session")
def running() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(running: ScriptedUpstream) -> Iterator[ScriptedUpstream]:
    """The one scripted upstream of all tests, forgetful between them."""
    running.reset()
    yield running
    assert running.crashes == []


@pytest.fixture
def no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No key and no .env: a folder of its own, whose store nothing has opened yet."""
    for name in (*VARIABLES, "COLUMNS"):  # the last is set by pytest-xdist, for itself
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store.duckdb"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").touch()
    runtime.close()
    yield tmp_path
    runtime.close()


@pytest.fixture
def ctok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the package ctok were installed: it counts words, and a frame around them."""
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "ctok.py").write_text(
        "def token_count(text, version):\n    return len(text.split()) + (7 if float(version) < 4.7 else 6)\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "extra")
    sys.modules.pop("ctok", None)
    tokens._count.cache_clear()
    yield
    sys.modules.pop("ctok", None)  # else it counts in every later test
    tokens._count.cache_clear()


@pytest.fixture
def scripted(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedUpstream]:
    """The upstream that answers."""
    with ScriptedUpstream() as upstream:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", upstream.url)
        yield upstream
        runtime.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server, stopped at the end."""
    server = PostgresServer()
    yield server
    server.end()


@pytest.fixture(scope="session")
def postgres_tables(postgres: PostgresServer) -> str:
    """A database that has the tables already, to be copied: making them takes most of the time of a test."""
    name = postgres.database()
    asyncio.run(Store.open(postgres.url(name))).close()
    return name


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_tables: str) -> Iterator[str]:
    """The address of a store of its own."""
    name = postgres.database(postgres_tables)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.duckdb")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has its tables already, to be copied: making them takes most of the time of a test."""
    path = tmp_path_factory.mktemp("empty") / "store.duckdb"
    asyncio.run(Store.open(str(path))).close()
    return path


@pytest.fixture(scope="module")
def owner() -> Iterator[OwnerProcess]:
    owner = OwnerProcess()
    yield owner
    owner.end()


@pytest.fixture(params=["file", "client", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """What keeps the rows; a test that asks for ``store`` or ``address`` holds for each."""
    return str(request.param)


@pytest.fixture
def address(backend: str, path: str, empty: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Where an empty store with tables is, to be opened."""
    if backend == "postgresql":
        yield request.getfixturevalue("postgres_url")
        return
    shutil.copy(empty, path)
    if backend == "file":
        yield path
        return
    owner: OwnerProcess = request.getfixturevalue("owner")
    owner.open(path)
    yield path
    owner.close(path)


@pytest.fixture
async def store(address: str) -> AsyncIterator[Store]:
    store = await Store.open(address)
    yield store
    store.close()


@pytest.fixture
async def file_store(path: str, empty: Path) -> AsyncIterator[Store]:
    shutil.copy(empty, path)
    store = await Store.open(path)
    yield store
    store.close()
