"""Which version a turn goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import PromptError
from workbench.prompts import experiments, versions
from workbench.prompts.text import LATEST, Reference, as_texts, checked, render, version_number
from workbench.turns import ChatPrompt, Chosen, Exposure, PromptWanted

if TYPE_CHECKING:
    from workbench.prompts.versions import Prompt
    from workbench.store.backend import Backend
    from workbench.turns import Caller, ChatInfo


async def choose(
    backend: Backend, org_id: str, reference: Reference, chat_id: str, user_id: str, *, first: bool
) -> tuple[Prompt, Exposure | None]:
    """Return the version a reference means for a chat, and the exposure if an experiment assigned it.

    Read from the store every time, so that the move of a label, or the start of an experiment, holds for the next question
    everywhere. What a guard has stopped nobody gets any more: such a chat is in no experiment, and gets the control.

    Args:
        backend: Of the store.
        org_id: Whose prompt.
        reference: As it was asked for.
        chat_id: Of the chat, which need not be in the store yet.
        user_id: Who asks.
        first: Whether it is the chat's first turn; only then an experiment may assign it.

    Raises:
        PromptError: there is no such prompt, label or version.
    """
    label = reference.label if reference.label != LATEST else None
    experiment = await experiments.running(backend, org_id, reference.name, label) if first and label else None
    assigned = experiment.arm_of(chat_id, user_id) if experiment else None
    if experiment is None or assigned is None:
        return await versions.get(backend, org_id, reference), None
    arm, unit_id = assigned
    exposure = None
    if arm in experiment.stopped_arms:
        arm = experiment.control
    elif experiment.assigns:
        exposure = Exposure(experiment=experiment.name, variant=arm, unit_id=unit_id)
    return await versions.get(backend, org_id, Reference(reference.name, None, version_number(arm))), exposure


async def for_turn(backend: Backend, caller: Caller, chat: ChatInfo) -> Chosen | None:
    """Return the prompt of a chat from its next turn on, None when that changes nothing.

    No chat fails for an experiment: one whose values do not fit its arm gets what the label points at, and is in none.

    Raises:
        PromptError: there is no such prompt, label or version, or its variables do not fit.
    """
    wanted, has = chat.wanted, chat.prompt
    if wanted is None:
        return None
    reference = Reference.parse(wanted.reference)
    version, exposure = await choose(backend, caller.org_id, reference, chat.id, caller.user_id, first=not chat.stored)
    if wanted.variables is None and has is not None:  # those it has, as far as there still are such
        given = {name: value for name, value in has.variables.items() if name in version.variables}
    else:
        given = as_texts(wanted.variables or {})
    if not chat.stored and set(given) != set(version.variables):  # the label has moved to a version with others since
        version, exposure = await choose(backend, caller.org_id, reference, chat.id, caller.user_id, first=False)
    values = checked(version.variables, given, str(version))
    prompt = ChatPrompt(
        name=version.name,
        version=version.version,
        label=reference.label,
        variables=values,
        model=version.model,
        effort=version.effort,
    )
    return Chosen(render(version.text, values, str(version)), prompt, exposure)


def asked_again(chat: ChatInfo, wanted: PromptWanted) -> PromptWanted | None:
    """Return what a chat that goes on should change when it is asked for a prompt once more, None for nothing.

    Clients send the same body with every question. A chat keeps the version it began with, so the same label again
    changes nothing, wherever that points by now; another version, another label, another prompt and other values do.

    Raises:
        PromptError: the reference or the values are none.
    """
    has, reference = chat.prompt, Reference.parse(wanted.reference)
    if has is None or reference.name != has.name:
        return wanted
    same = reference.version == has.version if reference.label is None else reference.label == has.label
    if not same:
        return wanted
    if wanted.variables is None or as_texts(wanted.variables) == has.variables:
        return None
    return PromptWanted(str(has), wanted.variables)


def check_wanted(wanted: PromptWanted | None, system: str | None = None) -> None:
    """Raise PromptError when a prompt is wanted that cannot be one, or beside a system prompt."""
    if wanted is None:
        return
    if system is not None:
        raise PromptError("a chat has a prompt or a system prompt of its own, not both; leave one of them out")
    Reference.parse(wanted.reference)
    if wanted.variables is not None:
        as_texts(wanted.variables)
