"""What reaches people's terminals: text without control characters, quiet notes, tables."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from functools import cache
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType
    from rich.progress import TaskID

WIDE = 200
"""Columns of a table that goes to a file or a pipe: nothing is cut there to fit a screen nobody looks at."""

# all of C0 and C1 but tab and newline: they move the cursor, ring, rename the window, hide or fake what stands there
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    r"""Return a text as a terminal may have it, whoever wrote it.

    >>> clean("a\x1b[31mred\x07\tb\r\n")
    'a[31mred\tb\n'
    """
    return _CONTROLS.sub("", text)


def write(text: str) -> None:
    """Write to stdout, at once: as it is into a file or a pipe, cleaned onto a terminal."""
    sys.stdout.write(clean(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_json(value: object) -> None:
    """Write a value as JSON for other programs."""
    write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def note(text: str) -> None:
    """Say something beside the output, quietly, on stderr."""
    _say(text, style="dim")


def complain(text: str) -> None:
    """Say on stderr, in one line, what went wrong."""
    _say(text, lead="Error: ")


def _say(text: str, *, lead: str = "", style: str = "") -> None:
    from rich.text import Text

    line = Text.assemble((lead, "bold red"), (" ".join(clean(text).split()), style))
    stderr().print(line, soft_wrap=True)


def agreed(question: str, *, yes: bool) -> bool:
    """Ask whether to go on, unless ``yes`` was said beforehand.

    Raises:
        InvalidRequest: nobody is there to be asked.
    """
    if yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise InvalidRequest(f"{question} Nobody is there to be asked; --yes goes ahead")
    stderr().print(f"{clean(question)} [y/N] ", end="", markup=False, soft_wrap=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def example(line: str) -> str:
    """Return what stands below the help of a command: how it is called."""
    return f"\b\nExample:\n  workbench {line}"


def tell(value: object, said: str, *, as_json: bool) -> None:
    """Tell what was done: as JSON for programs, in words for people."""
    if as_json:
        write_json(value)
    else:
        note(said)


@cache
def stderr() -> Console:
    """Return the console of stderr; it knows whether colours are wanted."""
    from rich.console import Console  # 50 ms that `--help` need not wait for

    return Console(stderr=True, highlight=False)


def show(what: RenderableType) -> None:
    """Show a table or a styled text on stdout."""
    from rich.console import Console

    fitted = sys.stdout.isatty() or "COLUMNS" in os.environ
    # not rich's own look: to it COLUMNS=0, which some editors set, means that nothing fits
    width = shutil.get_terminal_size((WIDE, 24)).columns if fitted else WIDE
    console = Console(highlight=False, width=width)
    with console.capture() as captured:
        console.print(what)
    # rich pads every line to the width of the table
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """How far it is, on a terminal: to be told of what, how many are done, how many there are."""
    if not stderr().is_terminal:
        yield lambda name, done, total: None
        return
    from rich.progress import MofNCompleteColumn, Progress

    bars: dict[str, TaskID] = {}
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=stderr(), transient=True) as shown:

        def tell(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = shown.add_task(name)
            shown.update(bars[name], completed=done, total=total)

        yield tell
