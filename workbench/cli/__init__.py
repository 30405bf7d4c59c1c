"""The command line: ``workbench ask``, ``usage``, ``orgs``, ``store``, ``serve`` and the others.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Only what ``--help`` needs is imported here; each command
imports the rest when it runs.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from workbench import __version__
from workbench.cli import (
    ask,
    demo,
    demo_data,
    doctor,
    experiments,
    imports,
    lab,
    prompts,
    serve,
    store,
    tables,
    tenants,
    what_if,
)
from workbench.cli.terminal import complain
from workbench.errors import InvalidRequest, WorkbenchError

if TYPE_CHECKING:
    from types import FrameType


class Commands(TyperGroup):
    """The commands, whose failures are one sentence on stderr and never a traceback nobody asked for."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; ``ctx`` is typer's context."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise  # typer knows what to do
        except Exception as error:
            if ctx.params["traceback"]:
                raise
            complain(_sentence(error, ctx.invoked_subcommand))
            raise typer.Exit(2 if isinstance(error, InvalidRequest) else 1) from error


def _sentence(error: Exception, command: str) -> str:
    if isinstance(error, WorkbenchError):
        return " ".join([str(error), *getattr(error, "__notes__", ())])
    if isinstance(error, OSError):
        return f"{error.filename or 'input or output'} failed: {error.strerror or error}"
    last = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"this is a defect, please report it: {last} (`workbench --traceback {command} …` shows where it happened)"


app = typer.Typer(
    cls=Commands,
    name="workbench",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help takes half the time of help in boxes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"workbench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    store_: Annotated[
        str,
        typer.Option(
            "--store", metavar="PATH", help="Where chats and usage are kept; as WORKBENCH_STORE.", show_default=False
        ),
    ] = "",
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Chat with Claude; every turn, token and dollar is kept in a ledger of your own.

    Without a key a small model embedded in the workbench answers, which costs nothing.
    """
    if store_:
        # into the environment and not past it: the kernels that `lab` starts must find the same store
        as_it_is = "://" in store_ or store_.startswith("~")  # the settings know the home folder
        os.environ["WORKBENCH_STORE"] = store_ if as_it_is else str(Path(store_).absolute())


app.command(epilog=ask.EXAMPLES)(ask.ask)
app.command()(tables.usage)
app.command()(tables.chats)
app.command()(what_if.what_if)
app.command()(serve.serve)
app.command(context_settings={"ignore_unknown_options": True})(lab.lab)
app.command()(demo.demo)
app.command()(demo_data.demo_data)
app.command("import", epilog=imports.EXAMPLES)(imports.import_)
app.command()(imports.reconcile)
app.command()(doctor.doctor)
app.add_typer(prompts.prompts, name="prompts")
app.add_typer(experiments.experiments, name="experiments")
app.add_typer(store.app, name="store")
for group in ("orgs", "users", "keys"):
    app.add_typer(getattr(tenants, group), name=group)


def main() -> None:
    """Run the command line of this process."""
    for name in ("SIGTERM", "SIGHUP"):
        _end_orderly_on(getattr(signal, name, None))
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  # open to the end
        # a reply must not be lost because the terminal lacks one of its letters
        getattr(sys, name).reconfigure(errors="replace")
    try:
        app(prog_name="workbench")
    finally:
        _close_ledger()


def _close_ledger() -> None:
    """Close it before the interpreter ends: a Ctrl-C too many must neither cut that short nor end in a traceback."""
    named = (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP"))
    ours = [number for number in named if number is not None and signal.getsignal(number) != signal.SIG_IGN]
    for number in ours:
        signal.signal(number, signal.SIG_IGN)
    if runtime := sys.modules.get("workbench.runtime"):
        runtime.end()
    for number in ours:
        signal.signal(number, signal.SIG_DFL)  # whatever else would hold up the end may be cut short


def _end_orderly_on(number: signal.Signals | None) -> None:
    """Let a signal end the process as an exception does, so that a live turn is recorded."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # `nohup` has it ignored
        signal.signal(number, end)
