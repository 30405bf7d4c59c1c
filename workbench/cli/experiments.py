"""``workbench experiments``: versions of a prompt compared on real chats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.tables import print_rows
from workbench.cli.terminal import example, tell, write, write_json
from workbench.errors import InvalidRequest
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.experiments import Plan

experiments = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Versions of a prompt, compared on real chats. All processes of the store take part, and the report may be "
    "read on any day.",
)


def _names(incomplete: str) -> list[str]:
    """The experiments there are, for the shell to complete."""
    from workbench import experiments

    return [name for name in experiments.list()["name"] if name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment.", autocompletion=_names)]
Prompt = Annotated[str, typer.Option("--prompt", "-p", metavar="PROMPT", help="Whose versions.", show_default=False)]
Arms = Annotated[
    list[str],
    typer.Option(
        "--arm",
        "-a",
        metavar="VERSION[=WEIGHT]",
        help="A version, such as v4 or v4=0.2; repeat it.",
        show_default=False,
    ),
]
Outcome = Annotated[
    str,
    typer.Option(metavar="OUTCOME", help="What decides: cost, ttft, duration, output_tokens, errors, thumbs or score."),
]
Unit = Annotated[str, typer.Option(metavar="UNIT", help="What is assigned and counted: chat or user.")]
Label = Annotated[str, typer.Option("--label", metavar="LABEL", help="Whose new chats are assigned.")]
Org = Annotated[str, typer.Option("--org", metavar="ORG", help="Whose experiments.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@experiments.command(
    "start", epilog=example("experiments start tone --prompt support --arm v3 --arm v4 --guard errors=2")
)
def start(
    name: Name,
    prompt: Prompt,
    arms: Arms,
    outcome: Outcome = "cost",
    unit: Unit = "chat",
    coverage: Annotated[float, typer.Option(metavar="PART", help="The part of all units that takes part.")] = 1.0,
    label: Label = "production",
    guards: Annotated[
        list[str] | None,
        typer.Option(
            "--guard",
            metavar="errors|cost=TIMES",
            help="Stops an arm that has more than so many times the control's; may be repeated.",
            show_default=False,
        ),
    ] = None,
    why: Annotated[
        str | None, typer.Option("--note", "-n", metavar="TEXT", help="What for.", show_default=False)
    ] = None,
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Start an experiment, and say how many chats it needs. Nothing can be changed until it is stopped."""
    from workbench import experiments

    plan = experiments.start(
        name,
        prompt=prompt,
        arms=_weights(arms),
        outcome=outcome,
        unit=unit,
        coverage=coverage,
        label=label,
        guard=_numbers(guards or (), "a guard is given as errors=2 or cost=1.5"),
        note=why,
        org=org,
    )
    _print_plan(plan, as_json=as_json)


@experiments.command("size", epilog=example("experiments size --prompt support --arm v3 --arm v4 --outcome thumbs"))
def size(
    prompt: Prompt,
    arms: Arms,
    outcome: Outcome = "cost",
    unit: Unit = "chat",
    label: Label = "production",
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Say how many chats an experiment would need.

    By those that the label has had.
    """
    from workbench import experiments

    plan = experiments.sample_size(prompt, _weights(arms), outcome, unit=unit, label=label, org=org)
    _print_plan(plan, as_json=as_json)


@experiments.command("list", epilog=example("experiments list --json"))
def list_experiments(org: Org = DEFAULT_ID, as_json: Json = False) -> None:
    """List the experiments, the newest first."""
    from workbench import experiments

    columns = {
        "name": "name",
        "state": "state",
        "prompt": "prompt",
        "label": "label",
        "arms": "arms",
        "outcome": "decides",
        "stopped_arms": "stopped by guard",
        "started_at": "started",
        "winner": "winner",
    }
    none = "No experiments yet; start one: workbench experiments start tone --prompt support --arm v1 --arm v2"
    print_rows(experiments.list(org=org), columns, as_json=as_json, none=none)


@experiments.command("report", epilog=example("experiments report tone"))
def report(name: Name, org: Org = DEFAULT_ID, as_json: Json = False) -> None:
    """Print what an experiment has shown so far.

    It may be looked at as often as you like.
    """
    from workbench import experiments

    found = experiments.report(name, org=org)
    if as_json:
        from workbench.prompts.results import portable_report

        write_json(portable_report(found))
    else:
        write(f"{found}\n")


@experiments.command("units", epilog=example("experiments units tone --json"))
def units(name: Name, org: Org = DEFAULT_ID, as_json: Json = False) -> None:
    """List the chats or users that were assigned, and how they went."""
    from workbench import experiments

    columns = (
        *("unit_id", "variant", "cost_usd", "ttft_ms", "duration_ms", "output_tokens"),
        *("calls", "failed", "thumb", "score", "first_exposed_at"),
    )
    frame = experiments.units(name, org=org)
    print_rows(frame, dict(zip(columns, columns, strict=True)), as_json=as_json, none="Nobody was assigned yet.")


@experiments.command("coverage", epilog=example("experiments coverage tone 0.5"))
def coverage(
    name: Name,
    part: Annotated[float, typer.Argument(metavar="PART", help="Of all units, 0 to 1.")],
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Let another part of all units take part; none changes its arm."""
    from workbench import experiments

    changed = experiments.set_coverage(name, part, org=org)
    tell(changed.portable, f"{changed.coverage:.0%} of all {changed.unit}s take part in {name} now.", as_json=as_json)


@experiments.command("stop", epilog=example('experiments stop tone --winner v4 --note "a third cheaper"'))
def stop(
    name: Name,
    winner: Annotated[
        str | None,
        typer.Option(
            "--winner", "-w", metavar="ARM", help="Move the label to it at the same moment.", show_default=False
        ),
    ] = None,
    why: Annotated[str | None, typer.Option("--note", "-n", metavar="TEXT", help="Why.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Move a protected label too.")] = False,
    org: Org = DEFAULT_ID,
    as_json: Json = False,
) -> None:
    """Stop an experiment; chats that have begun keep their version."""
    from workbench import experiments

    ended = experiments.stop(name, winner, why=why, force=force, org=org)
    rolled = f" {ended.prompt}@{ended.label} is {ended.winner} now." if ended.winner else ""
    tell(ended.portable, f"Stopped {name}.{rolled}", as_json=as_json)


# Inside -------------------------------------------------------------------------------------------------------------


def _weights(arms: Sequence[str]) -> dict[str, float]:
    """Arms without a weight have one of 1."""
    texts = [arm if "=" in arm else f"{arm}=1" for arm in arms]
    versions = [text.partition("=")[0] for text in texts]
    if twice := [version for version in versions if versions.count(version) > 1]:
        raise InvalidRequest(f"the arm {twice[0]} is there twice")
    return _numbers(texts, "an arm is given as v4 or v4=0.2")


def _numbers(pairs: Sequence[str], how: str) -> dict[str, float]:
    found = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise InvalidRequest(f"{how}, not {pair!r}") from None
    return found


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        write_json(plan.portable)
    else:
        write(f"{plan}\n")
