"""``workbench prompts``: versions of named system prompts, the labels that point at them, and both as files."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.tables import print_json, print_rows, remark, rows_of
from workbench.cli.terminal import clean, example, note, show, tell, write, write_json
from workbench.errors import InvalidRequest
from workbench.turns import DEFAULT_ID
from workbench.wording import dollars, exact, instant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from workbench.prompts import Diff, Prompt
    from workbench.prompts.files import Done
    from workbench.store.backend import Backend

prompts = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Named system prompts: versions, labels, rollback. A label is a name that points at one version; chats that name "
    "neither go by the label production. A running server goes by a label's new target at once.",
)


def _names(incomplete: str) -> list[str]:
    """The prompts there are, for the shell to complete."""
    from workbench import prompts

    return [name for name in prompts.list()["name"] if name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(metavar="NAME", help="The prompt.", autocompletion=_names)]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@WHICH]",
        help="The prompt; which version of it is a label, a number or `latest`, by default the label production.",
        autocompletion=_names,
    ),
]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these; by default all.", show_default=False)
]
Folder = Annotated[Path, typer.Option("--dir", metavar="FOLDER", help="Where the files are.")]
Note = Annotated[str | None, typer.Option("--note", "-n", metavar="TEXT", help="Why.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Move a protected label too.")]
Label = Annotated[str, typer.Argument(metavar="LABEL", help="Which label, of any name; a new one is made.")]
Org = Annotated[str, typer.Option("--org", metavar="ORG", help="Whose prompts.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


# What there is ------------------------------------------------------------------------------------------------------


@prompts.command("list", epilog=example("prompts list --json"))
def list_prompts(
    search: Annotated[
        str, typer.Option(metavar="TEXT", help="Only those with this in name, text or a note.", show_default=False)
    ] = "",
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """List the prompts."""
    from workbench import prompts

    print_rows(
        prompts.list(search, org=org),
        {"name": "name", "latest": "latest", "production": "production", "updated_at": "saved", "note": "note"},
        as_json=as_json,
        none="No prompt holds that." if search else "No prompts yet; save one: workbench prompts save support FILE",
    )


@prompts.command("show", epilog=example("prompts show support@staging"))
def show_prompt(
    reference: Reference,
    variables: Annotated[
        list[str] | None,
        typer.Option(
            "--var", metavar="NAME=VALUE", help="Show it with this filled in; may be repeated.", show_default=False
        ),
    ] = None,
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Print the text of a version, and on stderr where it comes from."""
    from workbench import prompts
    from workbench.prompts.text import values_of

    found = prompts.get(reference, org=org)
    text = found.text if variables is None else found.render(values_of(variables))
    if as_json:
        write_json(_portable(found) | {"text": text})
        return
    write(text if text.endswith("\n") else f"{text}\n")
    note(found.headline + (f" · {found.note}" if found.note else ""))


@prompts.command("history", epilog=example("prompts history support"))
def history(name: Name, org: Org = DEFAULT_ID, as_json: Json = False) -> None:
    """List the versions of a prompt, the newest first."""
    from workbench import prompts

    columns = {"version": "version", "labels": "labels", "created_at": "saved", "author": "by", "note": "note"}
    print_rows(prompts.history(name, org=org), columns, as_json=as_json)


@prompts.command("search", epilog=example('prompts search "be brief"'))
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for, in capitals or not.")],
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """List the versions of any prompt that hold a text."""
    from workbench import prompts

    columns = {"name": "name", "version": "version", "labels": "labels", "created_at": "saved", "note": "note"}
    print_rows(prompts.search(text, org=org), columns, as_json=as_json, none=f"No version holds {text!r}.")


@prompts.command("diff", epilog=example("prompts diff support 3 4"))
def diff(
    name: Name,
    before: Annotated[
        str | None,
        typer.Argument(
            metavar="BEFORE", help="A version or a label; by default where production points.", show_default=False
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Argument(metavar="AFTER", help="A version or a label; by default the newest.", show_default=False),
    ] = None,
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Show what differs between two versions.

    Words, tokens, and dollars a month at present traffic.
    """
    from workbench import prompts

    found = prompts.diff(name, before, after, org=org)
    if as_json:
        write_json(_portable_diff(found))
    else:
        _print_diff(found)


@prompts.command("labels", epilog=example("prompts labels support --moves"))
def labels(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The prompt; by default all.", autocompletion=_names)
    ] = None,
    moves: Annotated[bool, typer.Option("--moves", help="Every move of them instead, the newest first.")] = False,
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """List where labels point, or how they were moved."""
    from workbench import prompts

    if moves and name is None:
        raise InvalidRequest("--moves are those of one prompt; name it")
    if moves and name:
        frame = prompts.moves(name, org=org)
        columns = {
            "label": "label",
            "from_version": "from",
            "version": "to",
            "moved_at": "when",
            "moved_by": "by",
            "note": "note",
        }
    else:
        frame = prompts.labels(name, org=org)
        columns = {
            "name": "name",
            "label": "label",
            "version": "version",
            "protected": "protected",
            "moved_at": "moved",
            "moved_by": "by",
        }
    print_rows(frame.astype({"version": "Int64"}), columns, as_json=as_json)


@prompts.command("backtest", epilog=example("prompts backtest support@4 --last 20 --max-cost 1"))
def backtest(
    reference: Reference,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[@WHICH]", help="What to compare it with; by default the label production.", show_default=False
        ),
    ] = None,
    last: Annotated[int, typer.Option(metavar="N", help="How many of the newest first questions.")] = 20,
    max_cost: Annotated[str, typer.Option(metavar="USD", help="Never spend more.")] = "1",
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="Who answers.", show_default=False)
    ] = None,
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Ask old questions again, of two versions.

    They are the last first questions of its chats; the replies are shown side by side.
    """
    from workbench import prompts

    frame = prompts.backtest(reference, against, last=last, max_cost=max_cost, model=model, org=org)
    if as_json:
        print_json(frame)
        return
    for row in rows_of(frame):
        write(f"> {clean(row['question'])}\n\n{clean(row['diff'] or row['after'] or '')}\n\n")
        note(_told(row))


# What changes -------------------------------------------------------------------------------------------------------


@prompts.command("save", epilog=example('prompts save support support.txt --note "shorter"'))
def save(
    name: Name,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The text, as UTF-8; `-` reads it from stdin.")],
    why: Note = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="Who answers chats with it.", show_default=False),
    ] = None,
    effort: Annotated[
        str | None, typer.Option(metavar="EFFORT", help="low, medium, high, xhigh or max.", show_default=False)
    ] = None,
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Save a text as the next version.

    The newline at its end is not part of it. The first one is labelled production.
    """
    from workbench import prompts

    kept = prompts.save(name, _text(file), note=why, model=model, effort=effort, org=org)
    tell(
        _portable(kept),
        f"{kept} is {', '.join(kept.labels)}." if kept.labels else f"Saved {kept}; no label points at it.",
        as_json=as_json,
    )


@prompts.command("label", epilog=example('prompts label support production 3 --note "fewer questions back"'))
def label(
    name: Name,
    label: Label,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Its number.")],
    why: Note = None,
    force: Force = False,
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Point a label at a version, for every new chat of every process."""
    from workbench import prompts

    kept = prompts.label(name, label, version, note=why, force=force, org=org)
    tell(_portable(kept), f"{name}@{label} is {kept} now.", as_json=as_json)


@prompts.command("rollback", epilog=example('prompts rollback support --note "complaints"'))
def rollback(
    name: Name,
    label: Annotated[str, typer.Argument(metavar="[LABEL]", help="Which label.")] = "production",
    why: Note = None,
    force: Force = False,
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Point a label where it pointed before.

    Doing it again goes one further back.
    """
    from workbench import prompts

    kept = prompts.rollback(name, label, note=why, force=force, org=org)
    tell(_portable(kept), f"{name}@{label} is {kept} again.", as_json=as_json)


@prompts.command("protect", epilog=example("prompts protect support production"))
def protect(
    name: Name,
    label: Annotated[str, typer.Argument(metavar="[LABEL]", help="Which label.")] = "production",
    off: Annotated[bool, typer.Option("--off", help="Let it be moved by anybody again.")] = False,
    org: Org = DEFAULT_ID,
) -> None:
    """Let a label be moved only with --force.

    Over HTTP that takes a key with the scope admin.
    """
    from workbench import prompts

    prompts.protect(name, label, not off, org=org)
    note(f"{name}@{label} is {'no longer ' if off else ''}protected.")


# As files -----------------------------------------------------------------------------------------------------------


@prompts.command("pull", epilog=example("prompts pull --dir prompts"))
def pull(
    names: Names = None,
    folder: Folder = Path("prompts"),
    force: Annotated[bool, typer.Option("--force", help="Drop changes of files that were not pushed.")] = False,
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Write the newest version of each prompt to a file.

    To NAME.md, for review in git.
    """
    from workbench.prompts import files

    _report(_ask(lambda backend: files.pull(backend, org, folder, names or (), force=force)), as_json=as_json)


@prompts.command("push", epilog=example('prompts push --dir prompts --note "after review"'))
def push(
    names: Names = None,
    folder: Folder = Path("prompts"),
    why: Note = None,
    force: Annotated[
        bool, typer.Option("--force", help="Save on top of what was saved since a file was pulled.")
    ] = False,
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Save changed files as new versions. No label is moved but that of a new prompt."""
    from workbench.prompts import files
    from workbench.prompts.face import me

    now, author = datetime.now(UTC), me()
    done = _ask(
        lambda backend: files.push(backend, org, folder, names or (), now, note=why, author=author, force=force)
    )
    _report(done, as_json=as_json)


# Inside -------------------------------------------------------------------------------------------------------------


def _told(row: dict[str, Any]) -> str:
    """What a question cost each version and how long it took."""
    parts = [
        f"{side} {dollars(row[f'cost_{side}_usd'])}, {row[f'ms_{side}'] / 1000:.1f} s"
        for side in ("before", "after")
        if row[f"ms_{side}"] is not None
    ]
    return " · ".join([*parts, *([row["error"]] if row["error"] else [])])


def _text(file: str) -> str:
    if file == "-" and sys.stdin is None:
        raise InvalidRequest("there is no input to read the text from; name a file")
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file} is not UTF-8 text (byte {error.start:,}); convert it") from None
    return text.removesuffix("\n").removesuffix("\r")


def _ask(work: Callable[[Backend], Awaitable[list[Done]]]) -> list[Done]:
    from workbench.prompts.face import ask_store

    return ask_store(work)


def _report(done: Sequence[Done], *, as_json: bool) -> None:
    if as_json:
        write_json([each._asdict() for each in done])
    elif not done:
        note("There is nothing to do: no prompts, and no files.")
    else:
        for each in done:
            text = {"written": "written", "saved": "saved", "same": "unchanged", "refused": "refused"}[each.did]
            note(f"{each.name}@{each.version}: {text}" + (f": {each.why}" if each.why else ""))
    if any(each.did == "refused" for each in done):
        raise typer.Exit(1)


def _print_diff(found: Diff) -> None:
    from rich.text import Text

    styles = {"same": "", "del": "red strike", "ins": "green"}
    if sys.stdout.isatty():
        show(Text.assemble(*((clean(piece.text), styles[piece.kind]) for piece in found.words)))
        remark("\n".join([f"{found.before} -> {found.after}", *found.summary]))
    else:
        write(f"{found}\n")


def _portable(kept: Prompt) -> dict[str, Any]:
    return {
        "name": kept.name,
        "version": kept.version,
        "prompt": str(kept),
        "labels": [*kept.labels],
        "variables": [*kept.variables],
        "note": kept.note,
        "author": kept.author,
        "model": kept.model,
        "effort": kept.effort,
        "sha256": kept.sha256,
        "created_at": instant(kept.created_at),
        "text": kept.text,
    }


def _portable_diff(found: Diff) -> dict[str, Any]:
    return {
        "before": str(found.before),
        "after": str(found.after),
        "words": [piece._asdict() for piece in found.words],
        "tokens_before": found.tokens_before,
        "tokens_after": found.tokens_after,
        "calls": found.calls,
        "cached_share": found.cached_share,
        "usd_per_month": exact(found.usd_per_month),
    }
