"""What state machines over a store share: where each run has its store, and what can happen to it there."""

from __future__ import annotations

import asyncio
import shutil
from itertools import count
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from workbench.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import pytest

    from tests.owner import OwnerProcess
    from tests.postgres import PostgresServer


class Home:
    """Where the store of one run is, and what can happen to whoever serves it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def take_over(self) -> None:
        """Let somebody else serve the rows from now on."""

    def leave(self) -> None:
        """Tidy up."""


class OwnFile(Home):
    """A file of this process's own, which another process opens too, and keeps when this one closes it."""

    def __init__(self, path: str, other: OwnerProcess, *, other_first: bool) -> None:
        super().__init__(path)
        self.other = other
        self.other_has_it = False
        if other_first:
            self.take_over()

    def take_over(self) -> None:
        """The other process opens the file, as a client if this one owns it; or leaves it, and this one takes over."""
        (self.other.close if self.other_has_it else self.other.open)(self.address)
        self.other_has_it = not self.other_has_it

    def leave(self) -> None:
        if self.other_has_it:
            self.take_over()


class Database(Home):
    """A database whose server hangs up."""

    def __init__(self, server: PostgresServer, template: str) -> None:
        self.server, self.name = server, server.database(template)
        super().__init__(server.url(self.name))

    def take_over(self) -> None:
        self.server.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")

    def leave(self) -> None:
        self.server.drop(self.name)


class StoreMachine(RuleBasedStateMachine):
    """A store in a home of its own, which is opened again and served by others at any time."""

    home_of: Callable[[], Home]

    def __init__(self) -> None:
        super().__init__()
        self.home = type(self).home_of()
        self.runner = asyncio.Runner()
        self.store: Store = self.run_(Store.open(self.home.address))

    def run_(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.run_(Store.open(self.home.address))

    @rule()
    def take_over(self) -> None:
        self.home.take_over()

    def teardown(self) -> None:
        self.store.close()
        self.home.leave()
        self.runner.close()


def run_machine(machine: type[StoreMachine], backend: str, request: pytest.FixtureRequest, *, steps: int) -> None:
    """Run it eight times, each in a home of its own that the backend keeps."""
    numbers = count(1)
    if backend == "postgresql":
        server = request.getfixturevalue("postgres")
        template = request.getfixturevalue("postgres_tables")
    else:
        other, empty = request.getfixturevalue("owner"), request.getfixturevalue("empty")
        folder = request.getfixturevalue("tmp_path")

    def home() -> Home:
        if backend == "postgresql":
            return Database(server, template)
        path = folder / f"{next(numbers)}.duckdb"
        shutil.copy(empty, path)
        return OwnFile(str(path), other, other_first=backend == "client")

    class Here(machine):  # type: ignore[misc,valid-type]
        home_of = staticmethod(home)

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Here,
        settings=settings(
            max_examples=8, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
