"""``wb.prompts``: versions and labels from notebooks and scripts, over the runtime."""

from __future__ import annotations

import builtins
import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.errors import InvalidRequest
from workbench.ledger.frames import frame_of
from workbench.prompts import differences, labelling, versions
from workbench.prompts.differences import Diff
from workbench.prompts.text import LATEST, PRODUCTION, Reference, check_name, variables_of, version_number
from workbench.prompts.versions import Prompt
from workbench.runtime import runtime
from workbench.turns import DEFAULT_ID, NOT_TEXT, is_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import pandas as pd
    import pyarrow as pa

    from workbench.store.backend import Backend

T = TypeVar("T")

__all__ = [
    "Diff",
    "Prompt",
    "diff",
    "get",
    "history",
    "label",
    "labels",
    "list",
    "moves",
    "protect",
    "render",
    "rollback",
    "save",
    "search",
]


# Versions -----------------------------------------------------------------------------------------------------------


def save(
    name: str,
    text: str,
    *,
    note: str | None = None,
    model: str | None = None,
    effort: str | None = None,
    user: str | None = None,
    org: str = DEFAULT_ID,
) -> Prompt:
    """Keep a text as the next version of a prompt and return it; it never changes.

    The same text with the same model and effort is not saved again: the version it was before is returned. The first
    version of a prompt is labelled ``production`` at once, later ones move no label.

    Args:
        name: What the prompt is called: letters, digits and ``_ . -``.
        text: The system prompt; ``{{customer}}`` is a variable.
        note: What it is for, or what changed.
        model: Who answers chats with it that name nobody else.
        effort: How hard the model is to think: ``low``, ``medium``, ``high``, ``xhigh`` or ``max``.
        user: Who saves it; by default the name you are logged in with.
        org: Whose prompt.

    Raises:
        PromptError: the name or the text cannot be kept.

    Example::

        wb.prompts.save("support", "You help {{customer}}. Be brief.", note="shorter")
    """
    return ask_store(
        lambda backend: versions.save(
            backend, org, name, text, _now(), note=note, author=who(user), model=model, effort=effort
        )
    )


def get(reference: str, *, org: str = DEFAULT_ID) -> Prompt:
    """Return a version: ``support`` (what ``production`` points at), ``support@staging``, ``support@3``, ``support@latest``.

    Raises:
        PromptError: there is no such prompt, label or version; the message says what there is.
    """
    return ask_store(lambda backend: versions.get(backend, org, reference))


def render(reference: str, variables: Mapping[str, object] | None = None, *, org: str = DEFAULT_ID) -> str:
    """Return the text of a version with its variables filled in, as a chat would send it.

    Raises:
        PromptError: there is no such version, or values are missing or for no variable.
    """
    return get(reference, org=org).render(variables)


def list(search: str = "", *, org: str = DEFAULT_ID) -> pd.DataFrame:
    """Return the prompts: ``name``, ``latest`` and ``production`` (versions), the newest one's ``note`` and more.

    Args:
        search: Only prompts with this text in the name, or in the text or note of a version.
        org: Whose prompts.
    """
    return _frame(lambda backend: versions.table(backend, org, search, 1_000_000))


def history(name: str, *, org: str = DEFAULT_ID) -> pd.DataFrame:
    """Return the versions of a prompt, the newest first, with labels, notes, variables and texts.

    Raises:
        PromptError: there is no such prompt.
    """
    return _versions(_frame(lambda backend: versions.history(backend, org, name)))


def search(text: str, *, org: str = DEFAULT_ID) -> pd.DataFrame:
    """Return the versions of any prompt that hold a text, in capitals or not, as :func:`history` does."""
    return _versions(_frame(lambda backend: versions.found_in(backend, org, text)))


def diff(
    name: str,
    before: int | str | None = None,
    after: int | str | None = None,
    *,
    label: str = PRODUCTION,
    org: str = DEFAULT_ID,
) -> Diff:
    """Return what differs between two versions: words, tokens, and dollars a month at present traffic.

    Args:
        name: Of the prompt.
        before: A version or a label; by default where ``label`` points, or the version before the newest.
        after: A version or a label; by default the newest version.
        label: Whose calls of the last 30 days are the traffic: those of chats that asked for it.
        org: Whose prompt.

    Raises:
        PromptError: there is no such prompt, label or version.

    Example::

        wb.prompts.diff("support", 3, 4)
    """
    check_name(name)

    async def compare(backend: Backend) -> Diff:
        new = Reference(name, LATEST) if after is None else _of(name, after)
        old = await differences.from_production(backend, org, name, label) if before is None else _of(name, before)
        return await differences.diff(backend, org, old, new, label, _now())

    return ask_store(compare)


# Labels -------------------------------------------------------------------------------------------------------------


def label(
    name: str,
    label: str,
    version: int | str,
    *,
    note: str | None = None,
    force: bool = False,
    user: str | None = None,
    org: str = DEFAULT_ID,
) -> Prompt:
    """Point a label at a version, for every process from its next new chat on; return the version.

    Args:
        name: Of the prompt.
        label: ``production``, ``staging`` or any other; made if it is not there.
        version: Which one: ``3`` or ``"v3"``.
        note: Why.
        force: Move a protected label too.
        user: Who moves it; by default the name you are logged in with.
        org: Whose prompt.

    Raises:
        PromptError: there is no such version, or the label is protected.

    Example::

        wb.prompts.label("support", "production", 3, note="fewer questions back")
    """
    number = version_number(version)
    return ask_store(
        lambda backend: labelling.move(backend, org, name, label, number, _now(), by=who(user), note=note, force=force)
    )


def rollback(
    name: str,
    label: str = PRODUCTION,
    *,
    note: str | None = None,
    force: bool = False,
    user: str | None = None,
    org: str = DEFAULT_ID,
) -> Prompt:
    """Point a label where it pointed before, and return that version; twice goes two back.

    Args:
        name: Of the prompt.
        label: Which label.
        note: Why.
        force: Move a protected label too.
        user: Who does it; by default the name you are logged in with.
        org: Whose prompt.

    Raises:
        PromptError: there is no such prompt or label, or it is protected.
        Conflict: it has pointed nowhere else before, or somebody else moved it meanwhile.
    """
    return ask_store(
        lambda backend: labelling.rollback(backend, org, name, label, _now(), by=who(user), note=note, force=force)
    )


def labels(name: str | None = None, *, org: str = DEFAULT_ID) -> pd.DataFrame:
    """Return where the labels of a prompt, or of all, point: ``name``, ``label``, ``version``, ``protected`` and more.

    Raises:
        PromptError: there is no such prompt.
    """

    async def found(backend: Backend) -> builtins.list[labelling.Label]:
        if name is not None:
            await versions.get(backend, org, f"{name}@{LATEST}")
        return await labelling.labels(backend, org, name)

    columns = ["name", "label", "version", "protected", "moved_at", "moved_by", "note"]
    return _frame_of(ask_store(found), labelling.Label._fields)[columns]


def moves(name: str, label: str | None = None, *, org: str = DEFAULT_ID) -> pd.DataFrame:
    """Return every move of a prompt's labels, the newest first: from where to where, when, who, why, what it undid.

    Raises:
        PromptError: there is no such prompt.
    """

    async def found(backend: Backend) -> builtins.list[labelling.Move]:
        await versions.get(backend, org, f"{name}@{LATEST}")
        return await labelling.moves(backend, org, name, label)

    numbers = ["move", "version", "from_version", "undid"]
    frame = _frame_of(ask_store(found), labelling.Move._fields).drop(columns="id")
    return frame.astype(dict.fromkeys(numbers, "Int64"))


def protect(
    name: str,
    label: str = PRODUCTION,
    protected: bool = True,
    *,
    user: str | None = None,
    org: str = DEFAULT_ID,
) -> None:
    """Let nobody move a label without force, or over HTTP without the scope ``admin``; with False let them again.

    Raises:
        PromptError: there is no such prompt, or the label cannot be moved by anybody.
    """
    if protected:
        ask_store(lambda backend: labelling.protect(backend, org, name, label, _now(), who(user)))
    else:
        ask_store(lambda backend: labelling.unprotect(backend, org, name, label))


# Inside -------------------------------------------------------------------------------------------------------------


def ask_store(work: Callable[[Backend], Awaitable[T]]) -> T:
    """Return what is found in the store of this process."""
    backend = runtime().engine.store.backend  # opened here, since its own loop cannot wait for that

    async def done() -> T:
        return await work(backend)

    return runtime().run(done())


def _frame(work: Callable[[Backend], Awaitable[pa.Table]]) -> pd.DataFrame:
    return frame_of(ask_store(work))


def _frame_of(rows: builtins.list[Any], fields: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd  # on use: 0.7 s

    return pd.DataFrame(rows, columns=builtins.list(fields))


def _versions(frame: pd.DataFrame) -> pd.DataFrame:
    frame["variables"] = [", ".join(variables_of(text)) for text in frame["text"]]
    order = [
        "name",
        "version",
        "labels",
        "note",
        "author",
        "created_at",
        "variables",
        "model",
        "effort",
        "text",
        "sha256",
    ]
    return frame[order]


def _of(name: str, version: int | str) -> Reference:
    return Reference.parse(f"{name}@{version}")


def who(user: str | None) -> str:
    """Return the user who is named, or else me.

    Raises:
        InvalidRequest: the name is one that not every store can keep.
    """
    if user and not is_text(str(user)):
        raise InvalidRequest(f"the user {NOT_TEXT}")
    return user or me()


def me() -> str:
    """Return the name this process is logged in with: a team shares a store, and should see who moved a label."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return DEFAULT_ID


def _now() -> datetime:
    return datetime.now(UTC)
