"""Experiments: versions of a prompt compared on real chats, with a report that holds however often one looks.

Example::

    wb.experiments.start("tone", prompt="support", arms={"v3": 0.5, "v4": 0.5}, outcome="cost")
    wb.experiments.report("tone")
    wb.experiments.stop("tone", winner="v4", why="a third cheaper")
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from workbench.ledger.frames import chat_id_of
from workbench.prompts import experiments as stored
from workbench.prompts import results, simulation
from workbench.prompts.experiments import StoredExperiment
from workbench.prompts.face import ask_store, who
from workbench.prompts.report import Report
from workbench.prompts.results import Plan
from workbench.prompts.text import PRODUCTION
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from workbench.chat import Chat
    from workbench.store.backend import Backend

__all__ = [
    "Plan",
    "Report",
    "StoredExperiment",
    "get",
    "list",
    "report",
    "sample_size",
    "score",
    "set_coverage",
    "simulate",
    "start",
    "stop",
    "units",
]


def __dir__() -> list[str]:  # type: ignore[valid-type]  # Python's own list, not ours
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})


def start(
    name: str,
    *,
    prompt: str,
    arms: Mapping[str, float],
    outcome: str = "cost",
    unit: str = "chat",
    coverage: float = 1.0,
    label: str = PRODUCTION,
    guard: Mapping[str, float] | None = None,
    note: str | None = None,
    user: str | None = None,
    org: str = DEFAULT_ID,
) -> Plan:
    """Start an experiment and return how many chats it needs.

    From now on each new chat that asks for the label, of any process, gets a version by the hash of its id, and keeps it.
    Nothing but the coverage can be changed until it is stopped; a label that is moved meanwhile holds for the chats that do
    not take part.

    Args:
        name: What it is called; each name is used once.
        prompt: Whose versions.
        arms: Versions and their weights. The control is the one that the label points at, or else the first.
        outcome: What decides: ``cost``, ``ttft``, ``duration``, ``output_tokens``, ``errors``, ``thumbs`` or ``score``.
        unit: What is assigned and counted, ``chat``; or ``user``, who then gets the same arm in every chat.
        coverage: The part of all units that takes part; the others get what the label points at.
        label: Whose new chats are assigned.
        guard: How many times the control's ``errors`` or ``cost`` an arm may have before it is stopped: ``{"errors": 2,
            "cost": 1.5}``. Its new chats then get the control.
        note: What it is to find out.
        user: Who starts it; by default the name you are logged in with.
        org: Whose prompt.

    Raises:
        InvalidRequest: it cannot work; the message says why.
        PromptError: there is no such prompt, label or version.
        Conflict: the name was used, or another experiment runs on the label.

    Example::

        wb.experiments.start("tone", prompt="support", arms={"v3": 0.5, "v4": 0.5}, outcome="cost")
    """
    wanted = StoredExperiment(
        name=name, prompt=prompt, arms=arms, outcome=outcome, unit=unit,
        coverage=coverage, label=label, guard=guard or {}, note=note,
    )  # fmt: skip

    async def begun(backend: Backend) -> Plan:
        experiment = await stored.start(backend, org, await stored.prepared(backend, org, wanted), _now(), who(user))
        return await results.plan(backend, org, experiment, _now(), begun=True)

    return ask_store(begun)


def sample_size(
    prompt: str,
    arms: Mapping[str, float],
    outcome: str = "cost",
    *,
    unit: str = "chat",
    label: str = PRODUCTION,
    org: str = DEFAULT_ID,
) -> Plan:
    """Return how many chats an experiment would need, by those that the label has had in the last 30 days.

    Raises:
        InvalidRequest, PromptError: as :func:`start`.

    Example::

        wb.experiments.sample_size("support", {"v3": 0.5, "v4": 0.5}, "thumbs")
    """
    wanted = StoredExperiment(name="planned", prompt=prompt, arms=arms, outcome=outcome, unit=unit, label=label)

    async def planned(backend: Backend) -> Plan:
        return await results.plan(backend, org, await stored.prepared(backend, org, wanted), _now(), begun=False)

    return ask_store(planned)


def report(name: str, *, org: str = DEFAULT_ID) -> Report:
    """Return what an experiment has shown so far; it may be looked at every day.

    Raises:
        NotFound: there is no such experiment.
    """
    return ask_store(lambda backend: results.report(backend, org, name))


def units(name: str, *, org: str = DEFAULT_ID) -> pd.DataFrame:
    """Return a row for each chat or user that was assigned: its variant, what it cost and how it went.

    ``cost_usd`` and ``output_tokens`` are sums over its calls (the cost missing when a price is not known), ``ttft_ms`` and
    ``duration_ms`` means. ``failed`` is true if a call failed; ``thumb`` is 1 or -1 as most of its replies were rated;
    ``score`` is the mean of its chats' newest scores.

    Raises:
        NotFound: there is no such experiment.
    """

    async def found(backend: Backend) -> pd.DataFrame:
        await stored.get(backend, org, name)
        return stored.frame_of(await stored.units(backend, org, name))

    return ask_store(found)


def score(name: str, chat: Chat | str, value: float, *, org: str = DEFAULT_ID) -> None:
    """Say how good a chat was by a measure of your own, any number; the newest score of a chat counts.

    Raises:
        NotFound: there is no such experiment, or it did not assign the chat.
        InvalidRequest: the value is no number.

    Example::

        wb.experiments.score("tone", chat, 4.5)
    """
    id = chat_id_of(chat) or ""
    ask_store(lambda backend: stored.score(backend, org, name, id, value, _now()))


def simulate(
    name: str,
    chats: int,
    effects: Mapping[str, Mapping[str, float]] | None = None,
    *,
    seed: int = 1,
    org: str,
) -> int:
    """Write chats that nobody had into the ledger, dealt and recorded as real ones are, and return how many took part.

    For seeing how a report forms. Only in an org of its own, whose id begins with ``synthetic-``.

    Args:
        name: Of a running experiment.
        chats: How many; each has one or more calls.
        effects: By arm, what is different: factors of ``output_tokens`` and ``ttft``, and what is added to the chance of
            ``errors`` (0.02 without that) and of a thumb to be up (``thumbs``, 0.6). None: an A/A test.
        seed: The same one draws the same chats, which the experiment then deals.
        org: Whose experiment.

    Raises:
        NotFound: there is no such experiment.
        InvalidRequest: it was stopped, it is of another org, or there is no such arm or effect.

    Example::

        wb.experiments.simulate("tone", 100, {"v2": {"output_tokens": 0.6}}, org="synthetic-support")
    """

    async def written(backend: Backend) -> int:
        experiment = await stored.get(backend, org, name)
        return await simulation.simulate(backend, org, experiment, chats, effects or {}, _now(), seed)

    return ask_store(written)


def set_coverage(name: str, coverage: float, *, user: str | None = None, org: str = DEFAULT_ID) -> StoredExperiment:
    """Let another part of all units take part; no unit changes its arm.

    Raises:
        NotFound: there is no such experiment.
        Conflict: it was stopped.
    """
    return ask_store(lambda backend: stored.set_coverage(backend, org, name, coverage, _now(), who(user)))


def stop(
    name: str,
    winner: int | str | None = None,
    *,
    why: str | None = None,
    force: bool = False,
    user: str | None = None,
    org: str = DEFAULT_ID,
) -> StoredExperiment:
    """Stop an experiment; with a winner its label is moved to it at the same moment.

    Chats that have begun keep their version.

    Args:
        name: Of the experiment.
        winner: An arm, such as ``v4``.
        why: For the record.
        force: Move a protected label too.
        user: Who stops it; by default the name you are logged in with.
        org: Whose experiment.

    Raises:
        NotFound: there is no such experiment.
        Conflict: it was stopped already.
        InvalidRequest: the winner is none of its arms.
        PromptError: the label is protected; the experiment goes on.
    """
    return ask_store(
        lambda backend: stored.stop(backend, org, name, _now(), winner=winner, why=why, by=who(user), force=force)
    )


def get(name: str, *, org: str = DEFAULT_ID) -> StoredExperiment:
    """Return an experiment as it was started, and how it ended.

    Raises:
        NotFound: there is no such experiment.
    """
    return ask_store(lambda backend: stored.get(backend, org, name))


def list(*, org: str = DEFAULT_ID) -> pd.DataFrame:
    """Return the experiments, the newest first: what they compare, whether they run, how they ended."""
    import pandas as pd  # on use: 0.7 s

    found = ask_store(lambda backend: stored.known(backend, org))
    rows = [_row(each) for each in sorted(found, key=lambda each: each.started_at or _now(), reverse=True)]
    return pd.DataFrame(rows, columns=[*COLUMNS])


COLUMNS = (
    "name",
    "state",
    "prompt",
    "label",
    "arms",
    "outcome",
    "unit",
    "coverage",
    "stopped_arms",
    "started_at",
    "started_by",
    "stopped_at",
    "stopped_by",
    "stop_reason",
    "winner",
    "note",
)


def _row(of: StoredExperiment) -> dict[str, Any]:
    arms = ", ".join(f"{arm} {weight:g}" for arm, weight in of.arms.items())
    times = {"started_at": of.started_at, "stopped_at": of.stopped_at}
    return of.portable | times | {"arms": arms, "stopped_arms": ", ".join(of.stopped_arms)}


def _now() -> datetime:
    return datetime.now(UTC)
