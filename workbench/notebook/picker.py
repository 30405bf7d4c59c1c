"""Prompts in a chat box: which there are, what one says, and which one the chat is to use."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequest
from workbench.prompts import labelling, versions
from workbench.prompts.choosing import check_wanted, choose, for_turn
from workbench.prompts.text import Reference
from workbench.turns import PromptWanted

if TYPE_CHECKING:
    from workbench.notebook.live import LiveChat
    from workbench.notebook.messages import Json, Prompt, Set
    from workbench.turns import ChatPrompt, Chosen


async def about(live: LiveChat) -> Json:
    """Return the prompts of the org, by name, and what the chat has of them."""
    backend, org_id = live.engine.store.backend, live.caller.org_id
    known = (await versions.table(backend, org_id)).to_pylist()
    labels = await labelling.labels(backend, org_id)
    pointing: dict[str, dict[str, int]] = {}
    for label in labels:
        pointing.setdefault(label.name, {})[label.label] = label.version
    has, wanted = live.info.prompt, live.info.wanted
    variables = dict(has.variables) if has is not None else {}
    if wanted is not None and wanted.variables is not None:
        variables = {name: str(value) for name, value in wanted.variables.items()}
    return {
        "prompts": [
            {"name": row["name"], "latest": row["latest"], "labels": pointing.get(row["name"], {})} for row in known
        ],
        **named(live),
        "variables": variables,
    }


def named(live: LiveChat) -> Json:
    """Return the prompt version that the chat uses, and the prompt that it is to use from its next turn on."""
    has, wanted = live.info.prompt, live.info.wanted
    return {"prompt": has and str(has), "next_prompt": wanted and wanted.reference}


async def read(live: LiveChat, command: Prompt) -> Json:
    """Return the version that the chat would get for a reference.

    Raises:
        PromptError: there is no such prompt, label or version.
    """
    info, reference = live.info, Reference.parse(command.reference)
    who = (live.caller.org_id, reference, info.id, live.caller.user_id)
    found, _ = await choose(live.engine.store.backend, *who, first=not info.stored)
    return {
        "prompt": str(found),
        "text": found.text,
        "variables": found.variables,
        "note": found.note,
        "model": found.model,
        "effort": found.effort,
    }


async def use(live: LiveChat, command: Set) -> None:
    """Have a chat use a prompt from its next turn on; one that has not begun another model too.

    Raises:
        PromptError: there is no such version, or its variables do not fit; nothing is changed then.
        InvalidRequest: the model of a chat that has begun would be another one.
    """
    if live.info.stored and command.model is not None:
        raise InvalidRequest("the model of a chat that has begun stays; begin a new chat for another one")
    wanted = PromptWanted(command.prompt or "", command.variables)
    check_wanted(wanted, command.system or None)
    chosen = await for_turn(live.engine.store.backend, live.caller, replace(live.info, wanted=wanted))
    live.refuse_busy()  # somebody may have asked meanwhile
    if live.info.stored:
        live.use(None if _same(chosen, live.info.prompt) else wanted)
    else:
        new = live.engine.new_chat(prompt=wanted, model=command.model or None)
        live.choose(None, new.model)
        live.use(wanted)


def _same(chosen: Chosen | None, has: ChatPrompt | None) -> bool:
    """Whether the chat has that version already, with these values."""
    if chosen is None or has is None:
        return False
    return (str(chosen.prompt), chosen.prompt.variables) == (str(has), has.variables)
