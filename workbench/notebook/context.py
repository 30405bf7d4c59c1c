"""What a chat box shows before sending: what the question would cost, and which variables can go with it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from workbench.attachments import attach, attachable, image_tokens
from workbench.errors import InvalidRequest, WorkbenchError
from workbench.estimates import text_tokens
from workbench.ids import new_id
from workbench.notebook.messages import amount
from workbench.pricing import cost_of, price_of
from workbench.turns import LOCAL_MODEL, Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from decimal import Decimal

    from workbench.attachments import Attachment
    from workbench.engine import Engine
    from workbench.notebook.messages import Json
    from workbench.turns import Block, Caller, ChatInfo, Message, Reply

T = TypeVar("T")

READ_AGAIN_SECONDS = 10.0
"""Another process may have added to the chat."""
MOST_VARIABLES = 500
MOST_KEPT = 50
"""Attachments that can be sent, by chat; of more, the oldest are forgotten."""
LOOKING_SECONDS = 10.0


def notebook_variables() -> Mapping[str, object]:
    """Return the variables of the notebook this process runs, without those that IPython put there."""
    with suppress(ImportError):  # a widget can be made in a plain Python process too
        from IPython.core.getipython import get_ipython

        if (shell := get_ipython()) is not None:
            own = getattr(shell, "user_ns_hidden", {})
            missing = object()
            return {name: value for name, value in dict(shell.user_ns).items() if own.get(name, missing) is not value}
    return {}


@dataclass(slots=True)
class Past:
    """What a chat holds, read once while somebody types."""

    at: float
    messages: Sequence[Message]
    replies: Sequence[Reply]


class Context:
    """Estimates and attachments of one chat; on the engine's loop only."""

    def __init__(self, engine: Engine, caller: Caller, chat: ChatInfo, read: Callable[[], Awaitable[Past]]) -> None:
        self._engine = engine
        self._caller = caller
        self._chat = chat
        self._read = read
        self._past: Past | None = None
        self._changes = 0
        self._attachments: dict[str, Attachment] = {}

    def forget(self) -> None:
        """Read the chat anew for the next estimate: it has changed."""
        self._past = None
        self._changes += 1

    async def estimate(self, c: str, text: str, ids: Sequence[str], edit_of: str | None = None) -> Json:
        """Return what sending this text would use and cost, about; ``edit_of``: in the place of that question."""
        past = await self._known()
        messages, attached = past.messages, self.blocks(ids)
        at = next((n for n, message in enumerate(messages) if message.id == edit_of), None)
        if at is not None:
            messages, attached = messages[:at], [*messages[at].blocks[:-1], *attached]
        told = await self._engine.estimate(self._caller, self._chat, messages, past.replies, text, attached)
        return {
            "t": "estimate",
            "c": c,
            "input_tokens": told.input_tokens,
            "cached_tokens": told.cached_tokens,
            "reply_tokens": told.reply_tokens,
            "input_usd": amount(told.input_usd),
            "cost_usd": amount(told.cost_usd),
            "local": told.model == LOCAL_MODEL,
            "context_window": told.context_window,
        }

    async def variables(self, c: str) -> Json:
        """Return what can be attached."""
        found = await self._looked(lambda: list(attachable(notebook_variables())))
        items = [{"name": name, "kind": kind, "size": size} for name, kind, size in found[:MOST_VARIABLES]]
        return {"t": "variables", "c": c, "items": items}

    async def attach(self, c: str, name: str) -> Json:
        """Read a variable; what is sent later is what is returned here, whatever becomes of the variable.

        Raises:
            InvalidRequest: there is no such variable, or it cannot be attached.
        """
        try:
            attachment = await self._looked(lambda: _read_variable(name))
        except InvalidRequest as error:
            return {"t": "attached", "c": c, "name": name, "error": str(error)}
        id = new_id()
        self._attachments[id] = attachment
        for old in list(self._attachments)[:-MOST_KEPT]:
            del self._attachments[old]
        picture = attachment.image
        tokens = text_tokens(attachment.block["text"]) + (0 if picture is None else image_tokens(picture))
        return {
            "t": "attached",
            "c": c,
            "attachment": id,
            "name": attachment.name,
            "kind": attachment.kind,
            "summary": attachment.summary,
            "text": attachment.text,
            "image": None if picture is None else data_url(picture),
            "tokens": tokens,
            "cost_usd": amount(await self._price(tokens)),
        }

    def blocks(self, ids: Sequence[str]) -> list[Block]:
        """Return what is sent of these attachments.

        Raises:
            InvalidRequest: one of them is no longer known.
        """
        try:
            return [block for id in ids for block in self._attachments[id].blocks]
        except KeyError:
            raise InvalidRequest("an attachment is no longer there; remove it and attach it again") from None

    async def _known(self) -> Past:
        past = self._past
        if past is None or asyncio.get_running_loop().time() - past.at > READ_AGAIN_SECONDS:
            changes = self._changes
            past = await self._read()
            self._past = past if changes == self._changes else None
        return past

    async def _price(self, tokens: int) -> Decimal | None:
        """Return what so many tokens cost after what is in the chat, which may have made its prompt a long one."""
        try:
            past = await self._known()
            told = await self._engine.estimate(self._caller, self._chat, past.messages, past.replies, "")
        except WorkbenchError:
            return None  # nobody can answer: the first question is told why
        price = price_of(told.model, datetime.now(UTC), input_tokens=told.input_tokens + tokens)
        return None if price is None else cost_of(Usage(uncached_input_tokens=tokens), price)

    async def _looked(self, look: Callable[[], T]) -> T:
        """Look at the notebook's variables in a thread: they may be large, and replies go on meanwhile."""
        try:
            return await asyncio.wait_for(asyncio.to_thread(look), LOOKING_SECONDS)
        except TimeoutError:
            raise InvalidRequest(
                f"the variables could not be read within {LOOKING_SECONDS:.0f} s; attach a smaller one"
            ) from None


def data_url(block: Block) -> str:
    """Return the address under which a page shows a picture without asking anybody for it."""
    source = block["source"]
    return f"data:{source['media_type']};base64,{source['data']}"


def _read_variable(name: str) -> Attachment:
    variables = notebook_variables()
    if name not in variables:
        raise InvalidRequest(f"there is no variable {name} in this notebook; run the cell that makes it")
    return attach(name, variables[name])
