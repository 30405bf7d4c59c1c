"""Usage that was recorded elsewhere, brought into the ledger: Claude Code, ``llm``, Claude, ChatGPT, LiteLLM.

Each module of a format reads its files into calls and chats (:mod:`.values`); the rest is common to all.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequest
from workbench.ids import ID_PATTERN
from workbench.ledger.imports import chatgpt, claude_code, claude_export, litellm, llm
from workbench.ledger.imports.reading import SQLITE, UNREADABLE, Source, files_at, parsed
from workbench.ledger.imports.rows import Whose, rows_of, write
from workbench.ledger.imports.values import Call, Conversation, Malformed, Notes, Problem
from workbench.runtime import runtime
from workbench.store.erase import known_org
from workbench.turns import DEFAULT_ID
from workbench.wording import counted, dollars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import ModuleType
    from typing import Any

    from workbench.ledger.imports.rows import Rows

FORMATS: dict[str, ModuleType] = {
    module.FORMAT: module for module in (claude_code, llm, claude_export, chatgpt, litellm)
}
AT_ONCE = 3000
"""Rows written in one transaction, about."""
LOOKED_AT = 50
"""Lines that are looked at to tell a format."""
STRANGE = "files of no known format"


@dataclass(slots=True)
class Imported:
    """What an import found, and what of it was new. ``str()`` says it in words."""

    dry_run: bool = False
    files: Counter[str] = field(default_factory=Counter)
    """How many there were of each format."""
    calls: int = 0
    new_calls: int = 0
    new_chats: int = 0
    new_messages: int = 0
    input_tokens: int = 0
    """Of the new calls, as all that follows."""
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    """Of those whose price is known."""
    unpriced_calls: int = 0
    estimated_calls: int = 0
    first: datetime | None = None
    last: datetime | None = None
    malformed: int = 0
    """Lines, elements or rows that were skipped."""
    problems: Sequence[Problem] = ()
    """The first hundred of those."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What is no call, or not yet, by its reason."""
    _seen: set[str] = field(default_factory=set, repr=False)

    def __str__(self) -> str:
        there = self.calls - self.new_calls
        parts = [f"{'Would import' if self.dry_run else 'Imported'} {counted(self.new_calls, 'call')}"]
        if self.new_chats:
            parts[0] += f" and {counted(self.new_chats, 'chat')}"
        if self.first and self.last:
            parts[0] += f" from {self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}"
            tokens = f"{self.input_tokens:,} in + {self.output_tokens:,} out tokens"
            priced = self.new_calls - self.unpriced_calls
            parts.append(f"{tokens}, {dollars(self.cost_usd if priced else None)}")
        if self.unpriced_calls:
            parts.append(f"of {self.unpriced_calls:,} the price is not known")
        if self.estimated_calls:
            parts.append(f"the counts of {self.estimated_calls:,} are estimates")
        if there:
            parts.append(f"{there:,} {'was' if there == 1 else 'were'} there already")
        parts += [f"left out {count:,} {reason}" for reason, count in self.left_out.items()]
        if self.malformed:
            parts.append(f"skipped {self.malformed:,} that cannot be read")
        return "; ".join(parts) + "."

    def _add(self, rows: Rows) -> None:
        new, chats, messages = (
            [row for row in rows[table] if row["id"] not in self._seen] for table in ("usage", "chats", "messages")
        )
        if self.dry_run:  # else they are in the store by now
            self._seen.update(row["id"] for row in (*new, *chats, *messages))
        self.new_calls += len(new)
        self.new_chats += len(chats)
        self.new_messages += len(messages)
        self.input_tokens += sum(row["input_tokens"] for row in new)
        self.output_tokens += sum(row["output_tokens"] for row in new)
        self.cost_usd += sum((row["cost_usd"] for row in new if row["cost_usd"] is not None), Decimal(0))
        self.unpriced_calls += sum(row["cost_usd"] is None for row in new)
        self.estimated_calls += sum(row["usage_estimated"] for row in new)
        if times := [row["started_at"] for row in new]:
            self.first = min(times) if self.first is None else min(self.first, *times)
            self.last = max(times) if self.last is None else max(self.last, *times)


def import_usage(
    path: str | Path | Iterable[str | Path],
    format: str | None = None,
    *,
    org: str = DEFAULT_ID,
    user: str | None = None,
    dry_run: bool = False,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Imported:
    """Bring usage that was recorded elsewhere into the ledger, and return what was found.

    What is there already is left as it is, so the same import again, or a newer export, adds only what is new. It is
    written batch by batch: one that was interrupted is resumed by doing it again. What cannot be read is skipped and
    reported.

    Args:
        path: A file or a folder, or several; ``.gz`` will do, and the ``.zip`` of an export.
        format: ``claude-code`` (transcripts: usage only, what was said stays there), ``llm`` (its ``logs.db``), ``claude``
            and ``chatgpt`` (their exports, whose counts are estimated, and marked so), ``litellm`` (spend logs as JSON or
            CSV). Told by the content of each file if not given.
        org: Whose it becomes; it must exist. What is imported does not count against its budgets.
        user: Whose it becomes; else whom the file names (LiteLLM), or the default user.
        dry_run: Only look.
        progress: Told how many kB of how many are read.

    Raises:
        InvalidRequest: there is no such file or format, or none that is known; or ``user`` is no id.
        NotFound: there is no such org.

    Example::

        print(wb.import_usage("~/.claude/projects"))
        wb.usage(by=["day", "model"], where={"source": "import"})
    """
    if format is not None and format not in FORMATS:
        raise InvalidRequest(f"there is no format {format!r}; use any of {', '.join(FORMATS)}")
    if user is not None and not re.fullmatch(ID_PATTERN, user):
        raise InvalidRequest(f"{user!r} is no id of a user; it should be 1 to 64 letters, digits or . _ : -")
    given = [path] if isinstance(path, str | Path) else list(path)
    if "" in given:  # what a shell makes of $(llm logs path) where there is no llm; as a path it is this folder
        raise InvalidRequest("the path is empty; name a file or a folder")
    roots = [Path(one).expanduser() for one in given]
    sources = [(Source(file), root.is_dir()) for root in roots for file in files_at(root)]
    found, notes = Imported(dry_run=dry_run), Notes()
    backend = runtime().engine.store.backend
    runtime().run(known_org(backend, org))
    total = sum(source.size for source, _ in sources) // 1000
    done = 0
    for source, one_of_many in sources:
        module = FORMATS[format] if format and not one_of_many else _told(source, notes, one_of_many=one_of_many)
        if module is not None and format not in (None, module.FORMAT):
            notes.left_out["files of another format"] += 1
            module = None
        if module is None:
            continue
        found.files[module.FORMAT] += 1
        for calls, chats in _batches(_records(module, source, notes, one_of_many=one_of_many)):
            rows = runtime().run(rows_of(backend, Whose(org, user, module.FORMAT), calls, chats))
            if not dry_run:
                runtime().run(write(backend, rows))
            found.calls += len(calls) + sum(len(chat.turns) for chat in chats)
            found._add(rows)
            progress("kB", done + source.done // 1000, total)
        done += source.size // 1000
        progress("kB", done, total)
    found.malformed, found.problems, found.left_out = notes.malformed, notes.problems, dict(notes.left_out)
    return found


def _records(module: ModuleType, source: Source, notes: Notes, *, one_of_many: bool) -> Iterator[Call | Conversation]:
    """What is in a file, up to where it cannot be read any further."""
    try:
        yield from module.read(source, notes)
    except UNREADABLE as error:
        notes.problem(str(source.path), None, f"cannot be read to its end: {error}")
    except InvalidRequest:
        if not one_of_many:
            raise
        notes.left_out[STRANGE] += 1
    finally:
        source.close()


def _batches(records: Iterable[Call | Conversation]) -> Iterator[tuple[list[Call], list[Conversation]]]:
    calls: list[Call] = []
    chats: dict[str, Conversation] = {}
    rows = 0
    for record in records:
        if isinstance(record, Call):
            calls.append(record)
            rows += 1
        else:
            if record.key in chats:  # in another version, which is to be compared with the rows of this one
                yield calls, list(chats.values())
                calls, chats, rows = [], {}, 0
            chats[record.key] = record
            rows += 1 + 3 * len(record.turns)
        if rows >= AT_ONCE:
            yield calls, list(chats.values())
            calls, chats, rows = [], {}, 0
    if calls or chats:
        yield calls, list(chats.values())


def _told(source: Source, notes: Notes, *, one_of_many: bool) -> ModuleType | None:
    """The format of a file by its content; of a folder's files, those of none are left alone."""
    try:
        module = next((FORMATS[name] for name in _guesses(source)), None)
    except UNREADABLE as error:
        notes.problem(str(source.path), None, f"cannot be read: {error}")
        return None
    except InvalidRequest:  # an archive of something else
        if not one_of_many:
            raise
        module = None
    if module is None and not one_of_many:
        raise InvalidRequest(
            f"{source.path} is of no format that is known ({', '.join(FORMATS)}); Anthropic's usage and cost reports are "
            "compared with the ledger by `workbench reconcile`"
        )
    if module is None:
        notes.left_out[STRANGE] += 1
    return module


def _guesses(source: Source) -> Iterator[str]:
    head = source.head()
    if head.startswith(SQLITE):
        yield "llm"
        return
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for value in _samples(source, begin):
        yield from (name for name, module in FORMATS.items() if module.fits(value))
    if b"request_id" in begin.split(b"\n", 1)[0]:
        yield "litellm"  # as CSV


def _samples(source: Source, begin: bytes) -> Iterator[Mapping[str, Any]]:
    texts = (text for _, text in source.elements()) if begin.startswith(b"[") else iter(begin.split(b"\n"))
    for _, text in zip(range(LOOKED_AT), texts, strict=False):
        try:
            value = parsed(text)
        except Malformed:
            continue
        if isinstance(value, dict):
            yield value


__all__ = ["FORMATS", "Imported", "import_usage"]
