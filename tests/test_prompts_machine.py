"""Prompts against a model of them in plain Python: whatever is done in whatever order, nothing saved changes or is lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.machine import StoreMachine, run_machine
from tests.test_experiments import turn_in
from workbench.errors import Conflict, InvalidRequest, LabelProtected
from workbench.ids import new_id
from workbench.prompts import experiments, labelling, versions
from workbench.prompts.experiments import StoredExperiment
from workbench.prompts.text import variables_of
from workbench.turns import DEFAULT_ID, Caller, ChatInfo, PromptWanted

NAMES = st.sampled_from(["support", "tone"])
LABELS = st.sampled_from(["production", "staging"])
TEXTS = st.sampled_from(["a", "b", "b ", "{{x}}", "ä\n", "'; --"]) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8
).filter(lambda text: text.strip())
EXPERIMENTS = st.sampled_from(["first", "second", "third"])
EFFORTS = st.sampled_from([None, "low", "max"])


class Machine(StoreMachine):
    """Saves, moves, rollbacks, protection, experiments and chats, reopened stores and other owners, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: dict[str, list[tuple[str, str | None]]] = {}
        """Text and effort of every version, by name."""
        self.stacks: dict[tuple[str, str], list[int]] = {}
        """Where each label points, and before that, and so on, the last one first."""
        self.moves: dict[tuple[str, str], list[int]] = {}
        """Every version a label was ever moved to, in order."""
        self.protected: set[tuple[str, str]] = set()
        self.experiments: dict[str, StoredExperiment] = {}
        """As each was started, with its end and its coverage once those were changed."""
        self.chats: dict[str, tuple[str, str, tuple[str, str] | None]] = {}
        """The user and the version of every chat, and the experiment and arm that assigned it."""

    @initialize(coverage=st.sampled_from([0.5, 1.0]), users=st.lists(st.sampled_from(["ada", "bob"]), max_size=4))
    def begin(self, coverage: float, users: list[str]) -> None:
        """Two versions under an experiment, and chats: by chance most runs would hardly get there."""
        for text in ("a", "b"):
            self.save("support", text, None)
        starting = self._start("first", "support", "production", {1: 1.0, 2: 1.0}, coverage, "chat")
        self.experiments["first"] = self.run_(starting)
        for user in users:
            self.ask_in("support", "production", user)

    @rule(name=NAMES, text=TEXTS, effort=EFFORTS)
    def save_any(self, name: str, text: str, effort: str | None) -> None:
        self.save(name, text, effort)

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

    @precondition(lambda self: any(len(self.saved[name]) > 1 for name, _ in self.stacks))
    @rule(
        data=st.data(), name=EXPERIMENTS, coverage=st.sampled_from([0.5, 1.0]), unit=st.sampled_from(["chat", "user"])
    )
    def start(self, data: st.DataObject, name: str, coverage: float, unit: str) -> None:
        prompt, label = data.draw(st.sampled_from(sorted(at for at in self.stacks if len(self.saved[at[0]]) > 1)))
        numbers = st.lists(st.integers(1, len(self.saved[prompt])), min_size=2, max_size=3, unique=True)
        arms = dict.fromkeys(data.draw(numbers), 1.0)
        variables = {variables_of(self.saved[prompt][n - 1][0]) for n in [*arms, self.stacks[prompt, label][0]]}
        starting = self._start(name, prompt, label, arms, coverage, unit)
        if len(variables) > 1:
            with pytest.raises(InvalidRequest, match="the variables of"):
                self.run_(starting)
        elif name in self.experiments or self.running_on(prompt, label):
            with pytest.raises(Conflict):
                self.run_(starting)
        else:
            self.experiments[name] = started = self.run_(starting)
            assert {int(arm[1:]) for arm in started.arms} == set(arms)

    async def _start(
        self, name: str, prompt: str, label: str, arms: dict[int, float], coverage: float, unit: str
    ) -> StoredExperiment:
        backend = self.store.backend
        wanted = StoredExperiment(
            name, prompt, arms, "cost", label=label, coverage=coverage, unit=unit, guard={"errors": 2}
        )
        ready = await experiments.prepared(backend, DEFAULT_ID, wanted)
        return await experiments.start(backend, DEFAULT_ID, ready, datetime.now(UTC), "ada")

    def running_on(self, prompt: str, label: str) -> StoredExperiment | None:
        found = [e for e in self.experiments.values() if e.running and (e.prompt, e.label) == (prompt, label)]
        return found[0] if found else None

    @precondition(lambda self: self.experiments)
    @rule(data=st.data(), force=st.booleans())
    def stop(self, data: st.DataObject, *, force: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.experiments)))
        known = self.experiments[name]
        winner = data.draw(st.sampled_from([None, *known.arms]))
        which, now = (known.prompt, known.label), datetime.now(UTC)
        stopping = experiments.stop(self.store.backend, DEFAULT_ID, name, now, winner=winner, by="bob", force=force)
        if not known.running:
            with pytest.raises(Conflict):
                self.run_(stopping)
        elif winner and which in self.protected and not force:
            with pytest.raises(LabelProtected):
                self.run_(stopping)
        else:
            ended = self.run_(stopping)
            ends = {"stopped_at": ended.stopped_at, "stop_id": ended.stop_id, "stopped_by": "bob", "winner": winner}
            self.experiments[name] = replace(known, **ends)
            if winner and self.stacks[which][0] != int(winner[1:]):
                self.stacks[which] = [int(winner[1:]), *self.stacks[which]]
                self.moves[which].append(int(winner[1:]))

    @precondition(lambda self: self.experiments)
    @rule(data=st.data(), coverage=st.sampled_from([0.0, 0.3, 1.0]))
    def cover(self, data: st.DataObject, coverage: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.experiments)))
        changing = experiments.set_coverage(self.store.backend, DEFAULT_ID, name, coverage, datetime.now(UTC))
        if self.experiments[name].running:
            self.experiments[name] = replace(self.experiments[name], coverage=coverage)
            assert self.run_(changing) == self.experiments[name]
        else:
            with pytest.raises(Conflict):
                self.run_(changing)

    @precondition(lambda self: self.stacks)
    @rule(data=st.data(), user=st.sampled_from(["ada", "bob"]))
    def ask(self, data: st.DataObject, user: str) -> None:
        """A new chat, which its experiment's frozen terms assign, or one that goes on as it began."""
        self.ask_in(*data.draw(st.sampled_from(sorted(self.stacks))), user)

    def ask_in(self, prompt: str, label: str, user: str) -> None:
        def variables(version: int) -> tuple[str, ...]:
            return variables_of(self.saved[prompt][version - 1][0])

        version = in_use = self.stacks[prompt, label][0]
        wanted = PromptWanted(f"{prompt}@{label}", {"x": "1"} if variables(in_use) else None)
        chat, experiment = ChatInfo(id=new_id(), wanted=wanted), None
        if (running := self.running_on(prompt, label)) and (assigned := running.arm_of(chat.id, user)):
            version, experiment = int(assigned[0][1:]), (running.name, assigned[0])
        if variables(version) != variables(in_use):  # the label was moved to a version with others since the start
            version, experiment = in_use, None
        said = self.run_(turn_in(self.store, Caller(DEFAULT_ID, user), chat)).reply
        self.chats[chat.id] = (user, f"{prompt}@{version}", experiment)
        assert (said.prompt, said.experiment) == (f"{prompt}@{version}", experiment and experiment[0])

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

    @invariant()
    def experiments_are_frozen_and_chats_keep_their_arm(self) -> None:
        backend = self.store.backend
        assert self.run_(experiments.known(backend, DEFAULT_ID)) == [
            self.experiments[name] for name in sorted(self.experiments)
        ]
        exposed = self.run_(backend.rows("SELECT chat_id, user_id, experiment, variant FROM exposures"))
        assert sorted(exposed) == sorted(
            (id, user, *experiment) for id, (user, _, experiment) in self.chats.items() if experiment
        )
        for id, (user, prompt, experiment) in list(self.chats.items())[-3:]:
            chat = self.run_(self.store.chat(Caller(DEFAULT_ID, user), id))
            kept = None if chat.exposure is None else (chat.exposure.experiment, chat.exposure.variant)
            assert (str(chat.prompt), kept) == (prompt, experiment)


def test_prompts_are_what_their_model_says(backend: str, request: pytest.FixtureRequest) -> None:
    run_machine(Machine, backend, request, steps=30)
