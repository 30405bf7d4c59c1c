"""Experiments in the store: started once, frozen, stopped once; who is assigned, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from numbers import Real
from typing import TYPE_CHECKING, Any

import msgspec

from workbench.errors import Conflict, InvalidRequest, LabelProtected, NotFound, PromptError
from workbench.ids import new_id
from workbench.prompts import text as texts
from workbench.prompts import versions
from workbench.prompts.assignment import Experiment, arm_of, shares
from workbench.prompts.text import LATEST, PRODUCTION, Reference, version_number
from workbench.store.backend import Statement
from workbench.store.queries import query
from workbench.wording import instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import pyarrow as pa

    from workbench.store.backend import Backend, Row
    from workbench.turns import Caller

UNITS = ("chat", "user")
OUTCOMES = ("cost", "ttft", "duration", "output_tokens", "errors", "thumbs", "score")
"""As ``workbench.prompts.outcomes`` compares them; named here too, since a turn must not wait for numpy."""
GUARDED = ("errors", "cost")
LEAST_LIMIT, MOST_LIMIT = 0.001, 1e6
"""Of a guard; what is beyond leaves no room for chances."""
LARGEST = 1e15
"""Number that is taken; sums of squares of larger ones are no longer numbers."""
MOST_ARMS = 10
LEAST_PART = 1e-7
BEFORE = timedelta(days=30)
"""How far back the chats go that tell what to expect."""


@dataclass(frozen=True, kw_only=True, repr=False)
class StoredExperiment(Experiment):
    """An experiment as the store has it; only its end, its coverage and arms that a guard stops ever change."""

    label: str = PRODUCTION
    """Whose new chats are assigned."""
    coverage: float = 1.0
    """The part of all units that takes part."""
    guard: Mapping[str, float] = field(default_factory=dict, hash=False)
    note: str | None = None
    salt: str = field(default="", repr=False)
    started_by: str | None = None
    stopped_by: str | None = None
    winner: str | None = None
    """The arm that the label was moved to at the end, if it was."""
    stopped_arms: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Those that a guard stopped, in this order, and why."""
    stop_id: str | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"<Experiment {self.headline}>"

    @property
    def headline(self) -> str:
        """One line on what it compares, and how it ended."""
        arms = ", ".join(f"{arm} {weight:g}" for arm, weight in self.arms.items())
        parts = [self.name, f"{self.prompt}@{self.label}", arms, f"{self.outcome} decides"]
        parts += [f"coverage {self.coverage:.0%}"] if self.coverage != 1 else []
        parts += [f"{arm} stopped by its guard" for arm in self.stopped_arms]
        if self.stopped_at is not None:
            why = f": {self.stop_reason}" if self.stop_reason else ""
            parts.append(f"stopped {self.stopped_at:%Y-%m-%d %H:%M} UTC{why}")
        parts += [f"{self.winner} won"] if self.winner else []
        return " · ".join(parts)

    @property
    def control(self) -> str:
        """The arm that the others are compared with."""
        return next(iter(self.arms))

    @property
    def running(self) -> bool:
        """Whether it has not been stopped."""
        return self.stopped_at is None

    @property
    def compared(self) -> StoredExperiment:
        """The same with a weight of 0 for the arms that are compared no more.

        The control gets on with chats after a guard has stopped an arm, so that one's share is no longer what was meant.
        Once no other arm is left nobody is assigned, and the arm that was stopped last is still dealt as meant.
        """
        left = [arm for arm in self.arms if arm not in self.stopped_arms]
        kept = left if len(left) > 1 else [*left, *list(self.stopped_arms)[-1:]]
        return replace(self, arms={arm: weight if arm in kept else 0.0 for arm, weight in self.arms.items()})

    def arm_of(self, chat_id: str, user_id: str) -> tuple[str, str] | None:
        """Return the arm of a chat of a user and the unit it is of; None when it is not in the experiment."""
        unit_id = chat_id if self.unit == "chat" else user_id
        arm = arm_of(self.salt, unit_id, self.arms, self.coverage)
        return None if arm is None else (arm, unit_id)

    @property
    def portable(self) -> dict[str, Any]:
        """It as JSON says it."""
        return {
            "name": self.name,
            "state": "running" if self.running else "stopped",
            "prompt": self.prompt,
            "label": self.label,
            "arms": {**self.arms},
            "outcome": self.outcome,
            "unit": self.unit,
            "coverage": self.coverage,
            "guard": {**self.guard},
            "stopped_arms": {**self.stopped_arms},
            "note": self.note,
            "started_at": self.started_at and instant(self.started_at),
            "started_by": self.started_by,
            "stopped_at": self.stopped_at and instant(self.stopped_at),
            "stopped_by": self.stopped_by,
            "stop_reason": self.stop_reason,
            "winner": self.winner,
        }

    @property
    def assigns(self) -> bool:
        """Whether there is an arm left to compare the control with."""
        return any(arm not in self.stopped_arms for arm in list(self.arms)[1:])


# Start, stop, change ------------------------------------------------------------------------------------------------


async def prepared(backend: Backend, org_id: str, wanted: StoredExperiment) -> StoredExperiment:
    """Return an experiment as it would start, its versions written in any way.

    The control is the arm that the label points at, or else the first.

    Raises:
        InvalidRequest: it cannot work; the message says why.
        PromptError: there is no such prompt, label or version.
    """
    prompt, label = wanted.prompt, wanted.label
    _check_name(wanted.name)
    _check_terms(wanted)
    texts.check_note(wanted.note)
    texts.check_label(label)
    if label == LATEST:
        raise InvalidRequest(f"the newest version changes by itself; experiment on a label, such as {PRODUCTION}")
    texts.check_name(prompt)
    in_use = await versions.get(backend, org_id, Reference(prompt, label))
    weights = _weights(wanted.arms)
    for arm in weights:
        version = await versions.get(backend, org_id, Reference(prompt, None, version_number(arm)))
        if set(version.variables) != set(in_use.variables):
            raise InvalidRequest(
                f"the variables of {version} are {_listed(version.variables)}, those of {in_use}, which {label} points at, "
                f"{_listed(in_use.variables)}; chats are asked in with the same values whichever they get"
            )
    control = f"v{in_use.version}" if f"v{in_use.version}" in weights else next(iter(weights))
    arms = {control: weights.pop(control), **weights}
    guard = {name: limit if isinstance(limit, int) else float(limit) for name, limit in dict(wanted.guard).items()}
    return replace(wanted, arms=arms, coverage=float(wanted.coverage), guard=guard)


async def start(
    backend: Backend, org_id: str, experiment: StoredExperiment, now: datetime, by: str | None = None
) -> StoredExperiment:
    """Start what was prepared: from here on first turns that ask for its label are assigned, in every process.

    Raises:
        Conflict: the name was used, or another experiment runs on the label.
    """
    salt, place = new_id(), (experiment.prompt, experiment.label)
    of = (_json(experiment.arms), experiment.outcome, experiment.unit, experiment.coverage, _json(experiment.guard))
    await backend.write(
        [
            Statement(query("lock_prompt"), (org_id, experiment.prompt)),
            Statement(query("new_experiment"), (org_id, experiment.name, *place, *of, salt, experiment.note, now, by)),
        ]
    )
    found = await find(backend, org_id, experiment.name)
    if found is not None and found.salt == salt:
        return found
    if found is not None:
        raise Conflict("experiment", experiment.name, "each name is used once; choose another", "there already")
    other = await running(backend, org_id, *place)
    raise Conflict(
        "label",
        "@".join(place),
        "stop that first, or experiment on another label",
        f"under an experiment, {other.name}" if other else "under an experiment that has just been stopped",
    )


async def stop(
    backend: Backend,
    org_id: str,
    name: str,
    now: datetime,
    *,
    winner: int | str | None = None,
    why: str | None = None,
    by: str | None = None,
    force: bool = False,
) -> StoredExperiment:
    """Stop an experiment: new chats get what the label points at, which is the winner if one is named.

    Raises:
        NotFound: there is no such experiment.
        Conflict: it was stopped already.
        InvalidRequest: the winner is none of its arms.
        LabelProtected: the label is, and there is no ``force``; the experiment goes on.
    """
    texts.check_note(why)
    experiment = await get(backend, org_id, name)
    arm = None if winner is None else f"v{version_number(winner)}"
    if arm is not None and arm not in experiment.arms:
        raise InvalidRequest(f"{arm} is no arm of the experiment {name!r}; they are {', '.join(experiment.arms)}")
    id = new_id()
    statements = [
        Statement(query("lock_prompt"), (org_id, experiment.prompt)),
        Statement(query("stop_experiment"), (org_id, name, now, by, why, arm, id, force)),
    ]
    if arm is not None:
        note = f"won the experiment {name}" + (f": {why}" if why else "")
        place = (org_id, experiment.prompt, experiment.label, version_number(arm))
        statements.append(Statement(query("move_label_to_winner"), (id, *place, now, by, note, name)))
    await backend.write(statements)
    found = await get(backend, org_id, name)
    if found.running:
        raise LabelProtected(found.prompt, found.label)
    if found.stop_id != id:
        raise Conflict(
            "experiment", name, "its report is still there", f"stopped since {found.stopped_at:%Y-%m-%d %H:%M}"
        )
    return found


async def set_coverage(
    backend: Backend, org_id: str, name: str, coverage: float, now: datetime, by: str | None = None
) -> StoredExperiment:
    """Let another part of all units take part from now on; those that take part already keep their arm.

    Raises:
        NotFound: there is no such experiment.
        Conflict: it was stopped.
        InvalidRequest: the coverage is none.
    """
    _check_coverage(coverage)
    row = (new_id(), org_id, name, float(coverage), now, by)
    await backend.write([Statement(query("lock_experiment"), (org_id, name)), Statement(query("change_coverage"), row)])
    experiment = await get(backend, org_id, name)  # it may have been stopped just before: then nothing was written
    if not experiment.running:
        raise Conflict("experiment", name, "start another", "stopped")
    return experiment


async def stop_arm(backend: Backend, org_id: str, name: str, arm: str, why: str, now: datetime) -> bool:
    """Assign nobody to an arm any more; return whether it was this call that stopped it."""
    id = new_id()
    await backend.write([Statement(query("stop_arm"), (org_id, name, arm, id, why, now))])
    sql = "SELECT 1 FROM stopped_arms WHERE org_id = $1 AND experiment = $2 AND variant = $3 AND stop_id = $4"
    return bool(await backend.rows(sql, org_id, name, arm, id))


# What there is ------------------------------------------------------------------------------------------------------


async def get(backend: Backend, org_id: str, name: str) -> StoredExperiment:
    """Return an experiment; NotFound when there is none of the name."""
    found = await find(backend, org_id, name)
    if found is None:
        names = [each.name for each in await known(backend, org_id, limit=10)]
        raise NotFound("experiment", name, f"there are: {', '.join(names)}" if names else "there is none yet")
    return found


async def find(backend: Backend, org_id: str, name: str) -> StoredExperiment | None:
    """Return an experiment, or None."""
    rows = await backend.rows(query("experiments"), org_id, name, "", 1)
    return _experiment(rows[0]) if rows else None


async def known(backend: Backend, org_id: str, limit: int = 1_000_000, after: str = "") -> list[StoredExperiment]:
    """Return the experiments of an org by name, after one of them."""
    rows = await backend.rows(query("experiments"), org_id, None, after, limit)
    return [_experiment(row) for row in rows]


async def running(backend: Backend, org_id: str, prompt: str, label: str) -> StoredExperiment | None:
    """Return the experiment that runs on a label of a prompt, if one does."""
    rows = await backend.rows(query("running_experiment"), org_id, prompt, label)
    found = await find(backend, org_id, rows[0][0]) if rows else None
    return found if found is not None and found.running else None


async def units(backend: Backend, org_id: str, name: str) -> pa.Table:
    """Return a row for each unit that an experiment assigned, as ``report_of`` takes them; ``failed`` is 0 or 1."""
    return await backend.arrow(query("experiment_units"), org_id, name)


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Return units as a DataFrame."""
    frame: pd.DataFrame = table.to_pandas()
    return frame.assign(failed=frame["failed"].astype(bool))


async def chats_before(backend: Backend, org_id: str, prompt: str, label: str, now: datetime) -> pa.Table:
    """Return what became of the chats of the last month that asked for a label of a prompt."""
    return await backend.arrow(query("prompt_chats"), org_id, prompt, label, now - BEFORE)


async def score(backend: Backend, org_id: str, name: str, chat_id: str, value: float, now: datetime) -> str:
    """Record how good a chat was; the newest score of a chat counts. Return its id.

    Raises:
        NotFound: there is no such experiment, or it did not assign the chat.
        InvalidRequest: the value is no number.
    """
    if not _is_number(value):
        raise InvalidRequest(f"a score is a number from -{LARGEST:g} to {LARGEST:g}, not {_shown(value)}")
    await get(backend, org_id, name)
    id = new_id()
    await backend.write(
        [
            Statement(query("erase_lock"), ([chat_id], org_id)),  # or a score could outlive its chat
            Statement(query("new_score"), (id, org_id, name, chat_id, float(value), now)),
        ]
    )
    if not await backend.rows("SELECT 1 FROM experiment_scores WHERE id = $1 AND org_id = $2", id, org_id):
        raise NotFound("exposure of chat", chat_id, f"the experiment {name!r} has not assigned it")
    return id


async def feedback(
    backend: Backend, caller: Caller, message_id: str, score: int, now: datetime, comment: str | None = None
) -> str:
    """Record what a user thinks of a reply of theirs, 1 or -1; all is kept, the newest counts. Return its id.

    Raises:
        NotFound: the caller has no such reply.
        InvalidRequest: the score is neither, or the comment cannot be kept.
    """
    if score not in (1, -1) or isinstance(score, bool):
        raise InvalidRequest(f"the score is {score!r}; give 1 for a thumb up, -1 for one down")
    try:
        texts.check_note(comment)
    except PromptError as error:
        raise InvalidRequest(str(error).replace("the note", "the comment", 1)) from None
    id, who = new_id(), (caller.org_id, caller.user_id)
    await backend.write(
        [
            Statement(query("lock_chat_of"), (message_id, caller.org_id)),
            Statement(query("new_feedback"), (id, *who, message_id, int(score), comment, now)),
        ]
    )
    if not await backend.rows("SELECT 1 FROM feedback WHERE id = $1 AND org_id = $2", id, caller.org_id):
        raise NotFound("reply", message_id, "it was deleted, is another user's, or has not ended")
    return id


# Inside -------------------------------------------------------------------------------------------------------------


def _experiment(row: Row) -> StoredExperiment:
    name, prompt, label, arms, outcome, unit, coverage, guard, salt, note, *ends, winner, stop_id, stopped = row
    started_at, started_by, stopped_at, stopped_by, stop_reason = ends
    pairs = [pair.split("\x1f") for pair in stopped.split("\x1e")] if stopped else []
    return StoredExperiment(
        name=name,
        prompt=prompt,
        arms=msgspec.json.decode(arms),
        outcome=outcome,
        unit=unit,
        label=label,
        coverage=coverage,
        guard=msgspec.json.decode(guard) if guard else {},
        note=note,
        salt=salt,
        started_at=started_at.astimezone(UTC),
        started_by=started_by,
        stopped_at=stopped_at and stopped_at.astimezone(UTC),
        stopped_by=stopped_by,
        stop_reason=stop_reason,
        winner=winner,
        stop_id=stop_id,
        stopped_arms=dict(pairs),
    )


def _check_name(name: str) -> None:
    try:
        texts.check_name(name)
    except PromptError as error:
        raise InvalidRequest(str(error).partition(";")[0].replace("a prompt", "an experiment", 1)) from None


def _check_terms(of: StoredExperiment) -> None:
    if of.outcome not in OUTCOMES:
        raise InvalidRequest(f"no outcome {of.outcome!r}; there are {', '.join(OUTCOMES)}")
    if of.unit not in UNITS:
        raise InvalidRequest(f"the unit is {of.unit!r}; it must be {' or '.join(UNITS)}")
    _check_coverage(of.coverage)
    try:
        limits = dict(of.guard)
    except (TypeError, ValueError):
        raise InvalidRequest('a guard is outcomes with their limits, such as {"errors": 2}') from None
    for name, limit in limits.items():
        if name not in GUARDED or not _is_number(limit) or not LEAST_LIMIT <= limit <= MOST_LIMIT:
            raise InvalidRequest(
                f"no guard can be {name}={_shown(limit)}; give {' or '.join(GUARDED)}, and how many times the control's is "
                f"allowed, {LEAST_LIMIT:g} to {MOST_LIMIT:g}"
            )


def _check_coverage(coverage: float) -> None:
    if not _is_number(coverage) or not 0 <= coverage <= 1:
        raise InvalidRequest(f"a coverage of {_shown(coverage)} is none; give a part of all units, from 0 to 1")


def _weights(arms: Mapping[Any, float]) -> dict[str, float]:
    """The weights by ``v3``, whichever way the versions were written."""
    try:
        given = dict(arms)
    except (TypeError, ValueError):
        raise InvalidRequest('arms are versions with their weights, such as {"v3": 0.5, "v4": 0.5}') from None
    weights: dict[str, float] = {}
    for version, weight in given.items():
        arm = f"v{version_number(version)}"
        if arm in weights:
            raise InvalidRequest(f"the arm {arm} is there twice")
        if not _is_number(weight) or weight <= 0:
            raise InvalidRequest(
                f"the weight of {arm} is {_shown(weight)}; it must be a number above 0, {LARGEST:g} at most"
            )
        weights[arm] = float(weight)
    if not 2 <= len(weights) <= MOST_ARMS:
        number = "one arm" if len(weights) == 1 else f"{len(weights)} arms"
        raise InvalidRequest(f"there is nothing to compare in {number}; give 2 to {MOST_ARMS} versions")
    if tiny := [arm for arm, part in shares(weights).items() if part < LEAST_PART]:
        raise InvalidRequest(f"the weight of {tiny[0]} is so small beside the others that it would get nobody")
    return weights


def _is_number(value: object) -> bool:
    number: Any = value
    # those of NumPy are Real; compared as they are: math.isfinite fails with integers that no float can hold
    return isinstance(value, Real) and not isinstance(value, bool) and bool(-LARGEST <= number <= LARGEST)


def _shown(value: object) -> str:
    """A value in a message; Python refuses to write an integer of thousands of digits."""
    huge = isinstance(value, int) and abs(value) > LARGEST
    return "a huge number" if huge else repr(value)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def _json(value: Mapping[str, float]) -> str:
    return msgspec.json.encode(value).decode()
