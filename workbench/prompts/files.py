"""Prompts as files, one each, to be reviewed in git: a head of a few lines in TOML, then the text as it is.

::

    +++
    version = 3
    note = "shorter"
    effort = "low"
    +++
    You help {{customer}}. Be brief.

``version`` is the one the file was made of; a file without it is a prompt to be. The newline at the end belongs to the
file and not to the text. Where git writes other line ends, the head has them too, and they are turned back.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.errors import InvalidRequest, PromptError, UnknownPrompt
from workbench.prompts import versions
from workbench.prompts.text import LATEST, MOST_VERSIONS, Reference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from workbench.prompts.versions import Prompt
    from workbench.store.backend import Backend

SUFFIX = ".md"
FENCE = "+++\n"
KEYS = {"version": int, "note": str, "model": str, "effort": str}
_FILE = re.compile(r"\+\+\+\n(.*?)^\+\+\+\n(.*)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """What a file holds."""

    name: str
    text: str
    version: int | None = None
    note: str | None = None
    model: str | None = None
    effort: str | None = None

    def is_version(self, kept: Prompt) -> bool:
        """Tell whether it holds just what a version does."""
        return (self.text, self.model, self.effort) == (kept.text, kept.model, kept.effort)


class Done(NamedTuple):
    """What became of one file or prompt."""

    name: str
    did: str
    """``written``, ``saved``, ``same`` or ``refused``."""
    version: int | None
    why: str = ""


def written(kept: Prompt) -> str:
    r"""Return the file of a version.

    Example:
        >>> from datetime import datetime
        >>> kept = versions.Prompt(name="support", version=3, text="Be brief.", variables=(), sha256="", note='now "short"',
        ...     author=None, model=None, effort=None, created_at=datetime(2026, 11, 28))
        >>> print(written(kept), end="")
        +++
        version = 3
        note = "now \"short\""
        +++
        Be brief.
    """
    head = [f"version = {kept.version}"]
    for key in ("note", "model", "effort"):
        if (value := getattr(kept, key)) is not None:
            head.append(f"{key} = {_toml(value)}")
    return "\n".join(["+++", *head, "+++", kept.text, ""])


def read(name: str, content: str) -> PromptFile:
    """Return what a file of a prompt holds; without a head it is all text.

    Raises:
        PromptError: the head cannot be read; its text cannot be a prompt's.
    """
    if content.startswith("\ufeff+++"):  # some editors mark UTF-8 so, and the head would become part of the prompt
        content = content[1:]
    if content.startswith("+++\r\n"):
        content = content.replace("\r\n", "\n")
    head, text = "", content
    if content.startswith(FENCE):
        found = _FILE.fullmatch(content)
        if found is None:
            raise PromptError(
                f"{name}{SUFFIX} begins with +++, but no other +++ ends its head; add one before the text"
            )
        head, text = found.groups()
    return PromptFile(name=name, text=text.removesuffix("\n"), **_head(name, head))


async def pull(
    backend: Backend, org_id: str, folder: Path, names: Sequence[str] = (), *, force: bool = False
) -> list[Done]:
    """Write the newest version of each prompt to a file. A file with changes that were never pushed is left alone.

    Raises:
        PromptError: there is no prompt of one of the names.
    """
    if not names:
        names = (await versions.table(backend, org_id, limit=1_000_000))["name"].to_pylist()
    newest = [await versions.get(backend, org_id, Reference(name, LATEST)) for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    return [await _pull(backend, org_id, folder / f"{kept.name}{SUFFIX}", kept, force=force) for kept in newest]


async def push(
    backend: Backend,
    org_id: str,
    folder: Path,
    names: Sequence[str],
    now: datetime,
    *,
    note: str | None = None,
    author: str | None = None,
    force: bool = False,
) -> list[Done]:
    """Save what the files hold that the store does not. What was saved since a file was pulled is not passed over.

    Raises:
        PromptError, ModelRetired: what a file holds cannot be kept; nothing is saved then.
        InvalidRequest: there is no such folder or file.
    """
    paths = [folder / f"{name}{SUFFIX}" for name in names] or sorted(folder.glob(f"*{SUFFIX}"))
    if missing := [path for path in (paths or [folder]) if not path.exists()]:
        raise InvalidRequest(f"there is no {missing[0]}; `workbench prompts pull` writes the prompts there are")
    files = [(path, read(path.stem, _content(path))) for path in paths]
    planned = [(path, each, *await _planned(backend, org_id, path, each, force=force)) for path, each in files]
    for _, each, there, own in planned:
        if there is None:
            versions.check(each.name, each.text, now, note=note or own, model=each.model, effort=each.effort)
    return [
        there or await _save(backend, org_id, path, each, now, note or own, author)
        for path, each, there, own in planned
    ]


# Inside -------------------------------------------------------------------------------------------------------------


async def _pull(backend: Backend, org_id: str, path: Path, kept: Prompt, *, force: bool) -> Done:
    content, there = written(kept), ""
    why = f"{path} has changes that were not pushed; push them, or pull with --force to drop them"
    if path.exists():
        try:
            there = _content(path)
            changed = there != content and await _is_changed(backend, org_id, read(kept.name, there))
        except PromptError as error:  # somebody has edited it, or git has left its marks in it
            changed, why = True, f"{error}; mend it, or pull with --force to drop it"
        if there == content:
            return Done(kept.name, "same", kept.version)
        if changed and not force:
            return Done(kept.name, "refused", kept.version, why)
    path.write_text(content, encoding="utf-8", newline="")
    return Done(kept.name, "written", kept.version)


async def _is_changed(backend: Backend, org_id: str, file: PromptFile) -> bool:
    if file.version is None:
        return True
    try:
        return not file.is_version(await versions.get(backend, org_id, Reference(file.name, None, file.version)))
    except UnknownPrompt:
        return True


async def _planned(
    backend: Backend, org_id: str, path: Path, file: PromptFile, *, force: bool
) -> tuple[Done | None, str | None]:
    """Return what becomes of a file that is not to be saved, or else None; and the note that is its own."""
    try:
        newest = await versions.get(backend, org_id, Reference(file.name, LATEST))
    except UnknownPrompt:
        return None, file.note
    if file.is_version(newest):
        return Done(file.name, "same", newest.version), None
    own = file.note
    if file.version is not None and file.version <= newest.version:
        pulled = await versions.get(backend, org_id, Reference(file.name, None, file.version))
        if file.is_version(pulled):
            return Done(file.name, "same", pulled.version), None
        own = file.note if file.note != pulled.note else None  # the old note says nothing of the new text
    if file.version != newest.version and not force:
        of = f"version {file.version}" if file.version is not None else "none of its versions"
        why = f"{path} was made of {of} and the store has {newest}; pull, or push with --force to save it on top"
        return Done(file.name, "refused", newest.version, why), None
    return None, own


async def _save(
    backend: Backend, org_id: str, path: Path, file: PromptFile, now: datetime, note: str | None, author: str | None
) -> Done:
    kept = await versions.save(
        backend, org_id, file.name, file.text, now, note=note, author=author, model=file.model, effort=file.effort
    )
    path.write_text(written(kept), encoding="utf-8", newline="")
    return Done(file.name, "saved", kept.version)


def _content(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:  # line ends as they are: a text may hold any
            return file.read()
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} is not UTF-8 text (byte {error.start:,}); convert it") from None


def _head(name: str, head: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(head)
    except ValueError as error:  # also of a number of thousands of digits
        raise PromptError(f"the head of {name}{SUFFIX} is no TOML: {error}") from None
    for key, value in values.items():
        if key not in KEYS:
            raise PromptError(f"the head of {name}{SUFFIX} has a key {key!r}; it may have {', '.join(KEYS)}")
        if type(value) is not KEYS[key]:
            raise PromptError(f"{key} in {name}{SUFFIX} is of type {type(value).__name__}, not {KEYS[key].__name__}")
    if not 1 <= values.get("version", 1) <= MOST_VERSIONS:
        raise PromptError(f"version in {name}{SUFFIX} is no number of a version; leave it as it was pulled")
    return values


def _toml(text: str) -> str:
    # JSON's strings are TOML's, but for a letter that TOML wants escaped
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
