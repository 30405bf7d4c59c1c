"""How far it is: in a notebook, on a terminal, or nowhere, where nobody is watching."""

from __future__ import annotations

import os
import sys
from html import escape
from typing import TYPE_CHECKING, Protocol

from workbench.show import kernel_shell

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from workbench.mapping.price import MapEstimate

UNWATCHED = ("CI", "PYTEST_CURRENT_TEST")
"""Set where notebooks run by themselves."""


class Progress(Protocol):
    """What is shown."""

    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def line(self) -> str: ...


class Bar(Protocol):
    """Where it is shown."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def tell(self, estimate: Callable[[], MapEstimate]) -> None:
        """Say what it will cost."""

    def update(self, run: Progress) -> None:
        """Show how far it is."""


class Nowhere:
    """Nobody is watching."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def tell(self, estimate: Callable[[], MapEstimate]) -> None:
        """Ignore it: counting takes its time."""

    def update(self, run: Progress) -> None:
        """Ignore it."""


class Cell(Nowhere):
    """In the output of a notebook's cell."""

    def __init__(self) -> None:
        from IPython.display import DisplayHandle

        self._handle = DisplayHandle()
        self._shown = ""

    def tell(self, estimate: Callable[[], MapEstimate]) -> None:
        print(estimate().line)

    def update(self, run: Progress) -> None:
        if run.line == self._shown:
            return
        bar = f'<progress value="{run.done}" max="{max(run.total, 1)}" aria-label="rows asked"></progress>'
        bundle = {"text/html": f"{bar} {escape(run.line)}", "text/plain": run.line}
        (self._handle.update if self._shown else self._handle.display)(bundle, raw=True)
        self._shown = run.line


class Terminal:
    """A line at the bottom of a terminal, which stays there at the end."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._progress = progress.Progress(
            progress.BarColumn(), progress.TextColumn("{task.description}"), console=Console(stderr=True)
        )
        self._task = self._progress.add_task("")

    def tell(self, estimate: Callable[[], MapEstimate]) -> None:
        say(estimate().line)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def update(self, run: Progress) -> None:
        self._progress.update(self._task, description=run.line, completed=run.done, total=max(run.total, 1))


def bar_for(show: bool | None) -> Bar:
    """Return where it is shown; None decides by who is watching."""
    in_notebook = kernel_shell() is not None
    watched = (in_notebook or sys.stderr.isatty()) and not any(os.environ.get(name) for name in UNWATCHED)
    if show is False or (show is None and not watched):
        return Nowhere()
    return Cell() if in_notebook else Terminal()


def say(text: str) -> None:
    """Say something that must be known, also where nobody watches a bar."""
    print(text, file=sys.stderr, flush=True)
