"""What is asked, once for all rows that ask the same, and what is known of it before."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from workbench.engine import with_schema
from workbench.history import most_input_tokens, text_blocks
from workbench.mapping.columns import NoFit, whole
from workbench.mapping.template import NoPrompt
from workbench.turns import LOCAL_MODEL, ChatInfo, estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.mapping.columns import Columns
    from workbench.store.store import Mapped
    from workbench.turns import Caller, ChatPrompt

CUT = ("max_tokens", "model_context_window_exceeded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What all questions of one call share."""

    caller: Caller
    model: str
    system: str | None
    max_tokens: int
    columns: Columns | None
    sent_schema: dict[str, Any] | None = None
    """The schema as the upstream takes it."""
    prompt: ChatPrompt | None = None
    """Where the system prompt comes from, if from a version of a prompt."""

    def chat_id(self, prompt: str) -> str:
        """Return the id of the chat in which this is asked: another one whenever another reply could come.

        It begins with ``map-`` and has 60 of the 64 digits of a SHA-256, since an id has 64 characters at most.
        """
        schema = self.columns.schema if self.columns else None
        named = [self.caller.org_id, self.caller.user_id, self.model, self.system, prompt, self.max_tokens, schema]
        named += [self.prompt.effort] if self.prompt and self.prompt.effort else []
        return f"map-{hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:60]}"

    @property
    def sent_system(self) -> str | None:
        """The system prompt as it is sent: the embedded model knows no schema but in words."""
        if self.columns is None or self.model != LOCAL_MODEL:
            return self.system
        told = (
            f"Reply with one JSON object and nothing else. It must fit this schema: {json.dumps(self.columns.schema)}"
        )
        return f"{self.system}\n\n{told}" if self.system else told

    def chat(self, question: Question) -> ChatInfo:
        """Return the chat in which a question is asked."""
        return ChatInfo(
            id=question.chat_id,
            system=self.sent_system,
            model=self.model,
            max_tokens=self.max_tokens,
            prompt=self.prompt,
            stored=question.stored,
        )

    def most_input_tokens(self, prompt: str) -> int:
        """Return an upper estimate of the input tokens of a question, as the engine makes it for budgets."""
        system = with_schema(self.sent_system, self.sent_schema)
        messages = [{"role": "user", "content": text_blocks(prompt)}]
        written = len(str(text_blocks(prompt)[0]))
        return max(estimate_tokens(written + len(system), 2.5) + 50, most_input_tokens(messages, system))

    def read(self, text: str, stop_reason: str | None, most: int | None = None) -> tuple[list[Any] | None, str | None]:
        """Return the values of a reply that has ended, and what is wrong with it.

        Args:
            text: The reply.
            stop_reason: Why it ended.
            most: Tokens it could have had, if fewer than asked for.
        """
        text = whole(text)
        wrong = None
        if stop_reason == "refusal":
            wrong = "the model refused to answer"
        elif stop_reason in CUT:
            allowed = f"{most:,} tokens, for a budget allowed no more" if most else f"max_tokens={self.max_tokens:,}"
            wrong = f"the reply was cut at {allowed if stop_reason == 'max_tokens' else 'the end of the context'}"
        if self.columns is None:
            return ([text] if text or wrong is None else None), wrong
        if wrong is not None:
            return None, wrong
        try:
            return self.columns.read(text), None
        except NoFit as error:
            return None, f"the reply does not fit: {error}"

    def answered(self, mapped: Mapped) -> tuple[list[Any] | None, str | None] | None:
        """Return what a stored reply says; None when it is worth asking again.

        Text that was cut or refused would be so again; of what should have been JSON nothing was had.
        """
        if mapped.content is None:
            return None
        if mapped.stop_reason == "max_tokens" and (mapped.output_tokens or 0) < self.max_tokens:
            return None  # a budget allowed no more
        values, wrong = self.read(mapped.content, mapped.stop_reason)
        return None if self.columns is not None and wrong is not None else (values, wrong)


@dataclass(slots=True, eq=False)
class Question:
    """One question, the rows that ask it, and what came of it."""

    prompt: str
    chat_id: str
    rows: list[int] = field(default_factory=list)
    stored: bool = False
    """Whether its chat is there, with or without a reply."""
    cached: bool = False
    values: list[Any] | None = None
    error: str | None = None
    cost_usd: Decimal | None = Decimal(0)
    """Of this call of wb.map; None when a price is not known."""
    worst_usd: Decimal = Decimal(0)
    attempts: int = 0
    waiting: bool = False
    """Whether it is in a batch that an earlier call began."""
    ended: bool = False
    terms: Terms | None = None
    """Its own, where the questions of a call share none."""

    def take(self, mapped: Mapped | None, terms: Terms) -> bool:
        """Take what its chat has, if that is an answer."""
        self.stored = mapped is not None
        answered = mapped and terms.answered(mapped)
        if answered:
            self.values, self.error = answered
            self.cached = self.ended = True
        return bool(answered)


def questions_of(prompts: Sequence[str | NoPrompt], terms: Terms) -> list[Question]:
    """Return the questions, each once, in the order in which they come."""
    questions: dict[str, Question] = {}
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, NoPrompt):
            question = questions.get(prompt) or questions.setdefault(prompt, Question(prompt, terms.chat_id(prompt)))
            question.rows.append(row)
    return list(questions.values())
