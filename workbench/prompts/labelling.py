"""Labels: movable pointers to versions. Every move is kept, with who and why; a rollback is a move too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from workbench.errors import Conflict, LabelProtected, PromptError
from workbench.ids import new_id
from workbench.prompts import text as texts
from workbench.prompts import versions
from workbench.prompts.text import LATEST, PRODUCTION, Reference
from workbench.store.backend import Statement
from workbench.store.queries import query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.prompts.versions import Prompt
    from workbench.store.backend import Backend


class Label(NamedTuple):
    """Where a label points, and how it came to."""

    label: str
    version: int
    moved_at: datetime
    moved_by: str | None
    note: str | None
    protected: bool
    name: str
    """Of the prompt."""


class Move(NamedTuple):
    """One move of a label."""

    label: str
    move: int
    """1, 2, 3, … of the label."""
    version: int
    from_version: int | None
    moved_at: datetime
    moved_by: str | None
    note: str | None
    undid: int | None
    """Which move a rollback took back."""
    id: str


async def labels(backend: Backend, org_id: str, name: str | None = None) -> list[Label]:
    """Return the labels of a prompt, or of all prompts."""
    rows = await backend.rows(query("prompt_labels"), org_id, name)
    return [Label(label, version, at.astimezone(UTC), *rest) for label, version, at, *rest in rows]


async def moves(backend: Backend, org_id: str, name: str, label: str | None = None) -> list[Move]:
    """Return the moves of a prompt's labels, or of one of them, the newest first."""
    rows = await backend.rows(query("label_moves"), org_id, name, label)
    return [Move(*row)._replace(moved_at=row[4].astimezone(UTC)) for row in rows]


async def move(
    backend: Backend,
    org_id: str,
    name: str,
    label: str,
    version: int,
    now: datetime,
    *,
    by: str | None = None,
    note: str | None = None,
    force: bool = False,
) -> Prompt:
    """Point a label at a version, from the next first turn of every process on, and return the version.

    Where it points there already, nothing is written.

    Raises:
        PromptError: there is no such prompt or version, or the label cannot be moved; LabelProtected without ``force``.
    """
    _check_movable(label)
    texts.check_note(note)
    target = await versions.get(backend, org_id, Reference(name, None, version))
    await _write(backend, target, org_id, label, now, by, note, None, force=force)
    there = await versions.get(backend, org_id, Reference(name, None, version))
    if label not in there.labels and await _is_protected(backend, org_id, name, label) and not force:
        raise LabelProtected(name, label)
    return there


async def rollback(
    backend: Backend,
    org_id: str,
    name: str,
    label: str,
    now: datetime,
    *,
    by: str | None = None,
    note: str | None = None,
    force: bool = False,
    version: int | None = None,
) -> Prompt:
    """Point a label where it pointed before, and return that version; doing it again goes one further back.

    With the version it is to go back from, only from that one: a request that is sent again does nothing.

    Raises:
        PromptError: there is no such prompt or label; LabelProtected without ``force``.
        Conflict: it has pointed nowhere else before, points at another version than it is to go back from, or somebody else
            moved it meanwhile.
    """
    _check_movable(label)
    texts.check_note(note)
    await versions.get(backend, org_id, Reference(name, label))
    stack = standing(await moves(backend, org_id, name, label))
    if version not in (None, stack[-1].version):
        where = f"at version {stack[-1].version}, not {version}"
        raise Conflict("label", f"{name}@{label}", "it may have gone back already", where)
    if len(stack) < 2:
        where = f"where it has always been, at version {stack[-1].version}"
        raise Conflict("label", f"{name}@{label}", "move it to a version by its number", where)
    before, undone = stack[-2:]
    why = f"rollback from version {undone.version}" + (f": {note}" if note else "")
    target = await versions.get(backend, org_id, Reference(name, None, before.version))
    id = await _write(backend, target, org_id, label, now, by, why, undone.id, force=force)
    newest = max(await moves(backend, org_id, name, label), key=_number)
    if newest.id != id and newest.undid != undone.move:
        if not force and await _is_protected(backend, org_id, name, label):
            raise LabelProtected(name, label)
        raise Conflict("label", f"{name}@{label}", "look where it points and ask again", "moved meanwhile")
    return await versions.get(backend, org_id, Reference(name, None, before.version))


def standing(of_a_label: Sequence[Move]) -> list[Move]:
    """Return the moves of a label that no rollback took back, the oldest first; the last one is where it points.

    Example: a label was moved to 1, 2 and 3 and rolled back once.
        >>> at = datetime(2026, 11, 28)
        >>> def moved(move, version, undid=None): return Move("production", move, version, None, at, None, None, undid, "")
        >>> [each.version for each in standing([moved(4, 2, undid=3), moved(3, 3), moved(2, 2), moved(1, 1)])]
        [1, 2]
    """
    stack: list[Move] = []
    for each in sorted(of_a_label, key=_number):  # clocks of servers differ, and say less
        if each.undid is not None and len(stack) > 1 and stack[-1].move == each.undid:
            stack[-2:] = [each]  # it stands in the place of what it went back to
        else:
            stack.append(each)
    return stack


async def protect(backend: Backend, org_id: str, name: str, label: str, now: datetime, by: str | None = None) -> None:
    """Let nobody move a label without force, or over HTTP without the scope ``admin``. It need not be there yet.

    Raises:
        PromptError: there is no such prompt, or the label cannot be moved by anybody.
    """
    _check_movable(label)
    await versions.get(backend, org_id, Reference(name, LATEST))
    await backend.write([Statement(query("protect_label"), (org_id, name, label, now, by))])


async def unprotect(backend: Backend, org_id: str, name: str, label: str) -> None:
    """Let a label be moved again.

    Raises:
        PromptError: there is no such prompt.
    """
    await versions.get(backend, org_id, Reference(name, LATEST))
    sql = "DELETE FROM protected_labels WHERE org_id = $1 AND name = $2 AND label = $3"
    await backend.write([Statement(sql, (org_id, name, label))])


# Inside -------------------------------------------------------------------------------------------------------------


def _number(move: Move) -> int:
    return move.move


def _check_movable(label: str) -> None:
    texts.check_label(label)
    if label == LATEST:
        raise PromptError(
            f"{LATEST!r} is always the newest version and cannot be moved; use another label, such as {PRODUCTION}"
        )


async def _is_protected(backend: Backend, org_id: str, name: str, label: str) -> bool:
    sql = "SELECT 1 FROM protected_labels WHERE org_id = $1 AND name = $2 AND label = $3"
    return bool(await backend.rows(sql, org_id, name, label))


async def _write(
    backend: Backend,
    target: Prompt,
    org_id: str,
    label: str,
    now: datetime,
    by: str | None,
    note: str | None,
    undone: str | None,
    *,
    force: bool,
) -> str:
    """Write a move if it may be made; return the id it then has."""
    id = new_id()
    to = (id, org_id, target.name, label, target.version)
    await backend.write(
        [
            Statement(query("lock_prompt"), (org_id, target.name)),
            Statement(query("move_label"), (*to, now, by, note, undone, force)),
        ]
    )
    return id
