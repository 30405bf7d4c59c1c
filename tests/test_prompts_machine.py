"""Prompts against a model of them in plain Python: whatever is done in whatever order, nothing saved changes or is lost."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.owner import OwnerProcess
from tests.test_store_machine import Database, OwnFile
from workbench.errors import Conflict, LabelProtected
from workbench.prompts import labelling, versions
from workbench.store import Store
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from tests.test_store_machine import Home

NAMES = st.sampled_from(["support", "tone"])
LABELS = st.sampled_from(["production", "staging"])
TEXTS = st.sampled_from(["a", "b", "b ", "{{x}}", "ä\n", "'; --"]) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8
).filter(lambda text: text.strip())
EFFORTS = st.sampled_from([None, "low", "max"])


class Machine(RuleBasedStateMachine):
    """Saves, moves, rollbacks, protection, reopened stores and other owners, in any order."""

    home_of: Callable[[], Home]

    def __init__(self) -> None:
        super().__init__()
        self.home = type(self).home_of()
        self.runner = asyncio.Runner()
        self.store: Store = self.run_(Store.open(self.home.address))
        self.saved: dict[str, list[tuple[str, str | None]]] = {}
        """Text and effort of every version, by name."""
        self.stacks: dict[tuple[str, str], list[int]] = {}
        """Where each label points, and before that, and so on, the last one first."""
        self.moves: dict[tuple[str, str], list[int]] = {}
        """Every version a label was ever moved to, in order."""
        self.protected: set[tuple[str, str]] = set()

    def run_(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @rule(name=NAMES, text=TEXTS, effort=EFFORTS)
    def save(self, name: str, text: str, effort: str | None) -> None:
        kept = self.run_(versions.save(self.store.backend, DEFAULT_ID, name, text, datetime.now(UTC), effort=effort))
        known = self.saved.setdefault(name, [])
        if (text, effort) not in known:
            known.append((text, effort))
        if len(known) == 1:
            for kinds in (self.stacks, self.moves):
                kinds.setdefault((name, "production"), [1])
        assert kept.version == known.index((text, effort)) + 1

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), label=LABELS, force=st.booleans())
    def move(self, data: st.DataObject, label: str, *, force: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.saved)))
        version = data.draw(st.integers(1, len(self.saved[name])))
        stack = self.stacks.get((name, label), [])
        moving = labelling.move(self.store.backend, DEFAULT_ID, name, label, version, datetime.now(UTC), force=force)
        if (name, label) in self.protected and not force and stack[:1] != [version]:
            with pytest.raises(LabelProtected):
                self.run_(moving)
            return
        self.run_(moving)
        if stack[:1] != [version]:
            self.stacks[name, label] = [version, *stack]
            self.moves.setdefault((name, label), []).append(version)

    @precondition(lambda self: self.stacks)
    @rule(data=st.data(), force=st.booleans())
    def roll_back(self, data: st.DataObject, *, force: bool) -> None:
        name, label = which = data.draw(st.sampled_from(sorted(self.stacks)))
        stack = self.stacks[which]
        rolling = labelling.rollback(self.store.backend, DEFAULT_ID, name, label, datetime.now(UTC), force=force)
        if len(stack) < 2 or (which in self.protected and not force):
            with pytest.raises(Conflict if len(stack) < 2 else LabelProtected):
                self.run_(rolling)
            return
        assert self.run_(rolling).version == stack[1]
        self.stacks[which] = stack[1:]
        self.moves[which].append(stack[1])

    @precondition(lambda self: self.stacks)
    @rule(data=st.data())
    def protect_or_not(self, data: st.DataObject) -> None:
        name, label = which = data.draw(st.sampled_from(sorted(self.stacks)))
        if which in self.protected:
            self.run_(labelling.unprotect(self.store.backend, DEFAULT_ID, name, label))
        else:
            self.run_(labelling.protect(self.store.backend, DEFAULT_ID, name, label, datetime.now(UTC)))
        self.protected ^= {which}

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.run_(Store.open(self.home.address))

    @rule()
    def take_over(self) -> None:
        self.home.take_over()

    @invariant()
    def holds_what_it_should(self) -> None:
        backend = self.store.backend
        for name, known in self.saved.items():
            kept = versions.from_table(self.run_(versions.history(backend, DEFAULT_ID, name)))
            assert [(each.version, each.text, each.effort) for each in reversed(kept)] == [
                (n, *each) for n, each in enumerate(known, 1)
            ]
        for (name, label), stack in self.stacks.items():
            assert self.run_(versions.get(backend, DEFAULT_ID, f"{name}@{label}")).version == stack[0]
            moves = self.run_(labelling.moves(backend, DEFAULT_ID, name, label))
            assert [move.version for move in reversed(moves)] == self.moves[name, label]
        labels = self.run_(labelling.labels(backend, DEFAULT_ID))
        assert {(each.name, each.label): each.version for each in labels} == {
            which: stack[0] for which, stack in self.stacks.items()
        }
        assert {(each.name, each.label) for each in labels if each.protected} == self.protected

    def teardown(self) -> None:
        self.store.close()
        self.home.leave()
        self.runner.close()


@pytest.fixture(scope="module")
def other() -> Iterator[OwnerProcess]:
    process = OwnerProcess()
    yield process
    process.end()


@pytest.mark.parametrize("backend", ["file", "client", "postgresql"])
def test_prompts_are_what_their_model_says(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    numbers = count(1)
    if backend == "postgresql":
        server = request.getfixturevalue("postgres")
        template = request.getfixturevalue("postgres_tables")
    else:
        other = request.getfixturevalue("other")
        empty = tmp_path / "empty.duckdb"
        asyncio.run(Store.open(str(empty))).close()

    def home() -> Home:
        if backend == "postgresql":
            return Database(server, template)
        path = tmp_path / f"{next(numbers)}.duckdb"
        shutil.copy(empty, path)
        return OwnFile(str(path), other, other_first=backend == "client")

    class Here(Machine):
        home_of = staticmethod(home)

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Here,
        settings=settings(
            max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
