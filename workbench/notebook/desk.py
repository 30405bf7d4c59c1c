"""What a chat box does besides asking: branches and other chats, their names, exports, the model, the system prompt."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequest, ModelRetired, TurnRunning, WorkbenchError
from workbench.exports import as_markdown, as_notebook, file_name, shown
from workbench.models import refuse_retired
from workbench.notebook import picker
from workbench.notebook.messages import (
    About,
    Branch,
    Delete,
    Export,
    Feedback,
    List,
    New,
    Open,
    Prompt,
    Rename,
    Set,
    amount,
)
from workbench.pricing import listed_models
from workbench.prompts import feedback
from workbench.turns import LOCAL_MODEL
from workbench.wording import dollars, instant

if TYPE_CHECKING:
    from workbench.notebook.live import Listener, LiveChat
    from workbench.notebook.messages import Command, Json

PAGE = 30
"""Chats told at a time."""


async def do(live: LiveChat, listener: Listener, command: Command) -> None:
    """Do what a front end wants and, where it waits for an answer, answer under the command's own id."""
    match command:
        case Branch(c=c, message_id=message_id, index=index):
            await _open(live, listener, await live.choice_at(message_id, index))
            listener.say({"t": "done", "c": c})
        case Open(c=c, chat_id=chat_id):
            await _open(live, listener, chat_id)
            listener.say({"t": "done", "c": c})
        case New(c=c):
            await _begin(live, listener)
            listener.say({"t": "done", "c": c})
        case List(c=c):
            listener.say({"t": "chats", "c": c, **await _chats(live, command)})
        case Rename(c=c, chat_id=chat_id, title=title):
            await _rename(live, chat_id, title)
            listener.say({"t": "done", "c": c})
        case Delete(c=c, chat_id=chat_id):
            await _delete(live, listener, chat_id)
            listener.say({"t": "done", "c": c})
        case About(c=c):
            listener.say({"t": "about", "c": c, **await _about(live)})
        case Prompt(c=c):
            listener.say({"t": "prompt", "c": c, **await picker.read(live, command)})
        case Set(c=c):
            await _set(live, command)
            listener.say({"t": "done", "c": c})
        case Feedback(c=c):
            await _rate(live, command)
            listener.say({"t": "done", "c": c})
        case Export(c=c, kind=kind):
            listener.say({"t": "file", "c": c, **await _file(live, kind)})


# Other chats --------------------------------------------------------------------------------------------------------


async def _open(live: LiveChat, listener: Listener, chat_id: str) -> None:
    live.refuse_unbegun()
    if chat_id == live.info.id:
        listener.say(await live.snap())
        return
    info = await live.engine.store.chat(live.caller, chat_id)
    live.refuse_unbegun()  # somebody may have asked meanwhile
    await live.beside(info).show_to(listener)


async def _begin(live: LiveChat, listener: Listener) -> None:
    live.refuse_unbegun()
    new = live if not live.info.stored else live.beside(live.engine.new_chat())
    await new.show_to(listener)


async def _chats(live: LiveChat, wanted: List) -> Json:
    if "\0" in wanted.q:
        raise InvalidRequest("chats cannot be searched for a NUL character; remove it")
    table = await live.engine.store.chats(live.caller, wanted.q.strip(), PAGE + 1, wanted.before)
    rows = table.to_pylist()
    told = rows[:PAGE]
    return {
        "chats": [
            {
                "chat_id": row["chat_id"],
                "title": row["title"],
                "updated_at": instant(row["updated_at"]),
                "turns": row["turns"],
                "cost_usd": amount(row["cost_usd"]),
                "forked_from": row["forked_from"],
            }
            for row in told
        ],
        "next": [told[-1]["updated_at"].isoformat(), told[-1]["chat_id"]] if len(rows) > PAGE else None,
    }


async def _rename(live: LiveChat, chat_id: str, title: str) -> None:
    shown_by = live.known(chat_id)
    info = shown_by.info if shown_by is not None else await live.engine.store.chat(live.caller, chat_id)
    await live.engine.rename(live.caller, info, title)
    if shown_by is not None:
        await shown_by.refresh()


async def _delete(live: LiveChat, listener: Listener, chat_id: str) -> None:
    shown_by = live.known(chat_id)
    if shown_by is not None and shown_by.busy:
        raise TurnRunning("a reply is still being written in that chat; stop it, or wait for its end, then delete it")
    family = await live.engine.store.family(live.caller, chat_id)
    await live.engine.store.delete_chat(live.caller, chat_id)
    if shown_by is not None:
        shown_by.forget()
        await shown_by.refresh()
    if chat_id == live.info.id:
        await live.beside(live.engine.new_chat()).show_to(listener)
    for relative in family:
        if relative.chat_id != chat_id and (box := live.known(relative.chat_id)) is not None:
            await box.refresh()


# This chat ----------------------------------------------------------------------------------------------------------


async def _about(live: LiveChat) -> Json:
    info = live.info
    return {
        "model": info.model,
        "system": info.system,
        "open": not info.stored and not live.busy,
        "default": _default(live),
        "models": await asyncio.to_thread(_models, datetime.now(UTC)),
        **await picker.about(live),
    }


def _default(live: LiveChat) -> str:
    try:
        return live.engine.model_for(None)
    except WorkbenchError:
        return ""  # nobody can answer: the first question is told why


def _models(at: datetime) -> list[Json]:
    known = [
        {
            "model": model,
            "price": f"{dollars(price.input)} in, {dollars(price.output)} out per million tokens",
        }
        for model, price in sorted(listed_models(at).items())
        if not _is_retired(model, at)
    ]
    return [*known, {"model": LOCAL_MODEL, "price": "embedded demonstration model, free"}]


def _is_retired(model: str, at: datetime) -> bool:
    try:
        refuse_retired(model, at.date())
    except ModelRetired:
        return True
    return False


async def _set(live: LiveChat, command: Set) -> None:
    live.refuse_busy()
    if command.prompt:
        await picker.use(live, command)
    elif live.info.stored:
        raise InvalidRequest(
            "the model and the system prompt of a chat that has begun stay; begin a new chat for others"
        )
    else:
        chosen = live.engine.new_chat(system=command.system or None, model=command.model or None)
        live.choose(chosen.system, chosen.model)
    await live.refresh()


async def _rate(live: LiveChat, command: Feedback) -> None:
    given = (command.message_id, command.score, datetime.now(UTC), command.comment)
    await feedback.give(live.engine.store.backend, live.caller, *given)
    told = {"message_id": command.message_id, "score": command.score, "comment": command.comment}
    live.rated({"t": "feedback", **told})
    if await live.engine.store.family(live.caller, live.info.id):
        await live.refresh_family()  # branches may share the reply


async def _file(live: LiveChat, kind: str) -> Json:
    info = live.info
    messages, used = shown(await live.engine.store.messages(live.caller, info.id)), await live.used()
    if kind == "markdown":
        return {"name": file_name(info, "md"), "type": "text/markdown", "text": as_markdown(info, messages, used)}
    text = json.dumps(as_notebook(info, messages, used), ensure_ascii=False, indent=1)
    return {"name": file_name(info, "ipynb"), "type": "application/x-ipynb+json", "text": text}
