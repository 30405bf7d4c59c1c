"""Versions of prompts: saved once, numbered without gaps, never changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from workbench.errors import PromptError, UnknownPrompt
from workbench.ids import new_id
from workbench.models import refuse_retired
from workbench.prompts import text as texts
from workbench.prompts.text import LATEST, PRODUCTION, Reference
from workbench.store.backend import Statement
from workbench.store.queries import query
from workbench.turns import is_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from workbench.store.backend import Backend, Row

MOST_NAMED = 10
"""Names that an error lists of what there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One version of a prompt. ``labels`` are those that pointed at it when it was read."""

    name: str
    version: int
    text: str = field(repr=False)
    variables: tuple[str, ...]
    sha256: str = field(repr=False)
    note: str | None
    author: str | None
    model: str | None
    """Who answers where nobody else is named; None: the default."""
    effort: str | None
    created_at: datetime
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def __repr__(self) -> str:
        return f"<Prompt {self.headline}>\n{self.text}"

    def _repr_html_(self) -> str:
        quiet = '<div style="opacity: 0.65; font-size: 85%">'
        note = f"{quiet}{escape(self.note)}</div>" if self.note else ""
        body = f'<pre style="white-space: pre-wrap">{escape(self.text)}</pre>'
        return f"<div><b>{escape(str(self))}</b> {quiet}{escape(self.headline)}</div>{note}{body}</div>"

    @property
    def headline(self) -> str:
        """One line on where it comes from and what it asks for."""
        parts = [str(self), *([", ".join(self.labels)] if self.labels else [])]
        parts += [f"{self.created_at:%Y-%m-%d %H:%M} UTC", *([f"by {self.author}"] if self.author else [])]
        parts += [f"model {self.model}"] if self.model else []
        parts += [f"effort {self.effort}"] if self.effort else []
        parts += [f"variables {', '.join(self.variables)}"] if self.variables else []
        return " · ".join(parts)

    def render(self, variables: Mapping[str, object] | None = None) -> str:
        """Return the text with its variables filled in.

        Raises:
            PromptError: values are missing, or for variables that there are not.
        """
        return texts.render(self.text, variables or {}, str(self))


def check(
    name: str, text: str, now: datetime, *, note: str | None = None, model: str | None = None, effort: str | None = None
) -> None:
    """Raise what :func:`save` would: PromptError for what cannot be kept, ModelRetired for a model that answers no more."""
    texts.check_name(name)
    texts.check_text(text)
    texts.check_note(note)
    texts.check_effort(effort)
    if model is not None:
        if not isinstance(model, str) or not model.strip() or not is_text(model):
            raise PromptError(f"the model is {model!r}; give a model's id, or none for whichever is the default")
        refuse_retired(model, now.date())


async def save(
    backend: Backend,
    org_id: str,
    name: str,
    text: str,
    now: datetime,
    *,
    note: str | None = None,
    author: str | None = None,
    model: str | None = None,
    effort: str | None = None,
) -> Prompt:
    """Keep a text as the next version; the same text with the same model and effort is the version it was before.

    The first version of a prompt is labelled production at once; later ones move nothing.

    Raises:
        PromptError: the name or the text cannot be kept.
        ModelRetired: the model answers no more.
    """
    check(name, text, now, note=note, model=model, effort=effort)
    sha256 = texts.digest(text, model, effort)
    await backend.write(
        [
            Statement(query("new_prompt"), (org_id, name, now)),
            Statement(query("new_prompt_version"), (org_id, name, text, sha256, note, author, model, effort, now)),
            Statement(query("first_label"), (new_id(), org_id, name, PRODUCTION, now, author)),
        ]
    )
    (row,) = await backend.rows(query("prompt_by_digest"), org_id, name, sha256)
    return _prompt(row)


async def get(backend: Backend, org_id: str, reference: str | Reference) -> Prompt:
    """Return the version a reference means now.

    Raises:
        PromptError: there is no such prompt, label or version; the message says what there is.
    """
    wanted = reference if isinstance(reference, Reference) else Reference.parse(reference)
    label = None if wanted.label == LATEST else wanted.label
    rows = await backend.rows(query("prompt"), org_id, wanted.name, wanted.version, label)
    if not rows:
        raise await _missing(backend, org_id, wanted)
    return _prompt(rows[0])


async def table(backend: Backend, org_id: str, search: str = "", limit: int = 1000, after: str = "") -> pa.Table:
    """Return the prompts by name, after one of them; with the text searched for in any version's text, note or name."""
    return await backend.arrow(query("prompts"), org_id, search, limit, after)


async def history(
    backend: Backend, org_id: str, name: str, limit: int = 1_000_000, before: int | None = None
) -> pa.Table:
    """Return the versions of a prompt, the newest first, perhaps only those before one.

    Raises:
        PromptError: there is no such prompt.
    """
    texts.check_name(name)
    found = await backend.arrow(query("prompt_history"), org_id, name, limit, before)
    if not found.num_rows and not await backend.rows(query("prompt"), org_id, name, None, None):
        raise await _missing(backend, org_id, Reference(name))
    return found


def from_table(table: pa.Table) -> list[Prompt]:
    """Return the versions of a history."""
    return [_prompt(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


async def found_in(backend: Backend, org_id: str, search: str, limit: int = 1000) -> pa.Table:
    """Return the versions whose text, note or name holds a text, prompt by prompt, the newest first."""
    return await backend.arrow(query("prompt_search"), org_id, search, limit)


async def _missing(backend: Backend, org_id: str, wanted: Reference) -> UnknownPrompt:
    """The error that says what there is instead."""
    known = await backend.rows(query("prompt"), org_id, wanted.name, None, None)
    if not known:
        names = [name for (name,) in await backend.rows(query("prompt_names"), org_id, MOST_NAMED + 1)]
        hint = (
            f"there are: {_some(names)}"
            if names
            else "there is none yet; save one with wb.prompts.save, `workbench prompts save` or POST /prompts/NAME"
        )
        return UnknownPrompt("prompt", wanted.name, hint)
    newest = _prompt(known[0]).version
    if wanted.version is not None:
        return UnknownPrompt("version", str(wanted), f"the newest is {wanted.name}@{newest}")
    labels = [label for label, *_ in await backend.rows(query("prompt_labels"), org_id, wanted.name)]
    return UnknownPrompt("label", str(wanted), f"{wanted.name} has: {_some([*labels, LATEST])}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")


def _prompt(row: Row) -> Prompt:
    name, version, text, sha256, note, author, model, effort, created_at, labels = row
    return Prompt(
        name=name,
        version=version,
        text=text,
        variables=texts.variables_of(text),
        sha256=sha256,
        note=note,
        author=author,
        model=model,
        effort=effort,
        created_at=created_at.astimezone(UTC),
        labels=tuple(labels.split(", ")) if labels else (),
    )
