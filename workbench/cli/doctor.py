"""``workbench doctor``: whether everything is there and works, and how to mend what does not.

It makes no store, fetches no model and, unless asked to, calls nobody.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from workbench.cli.terminal import clean, show, write_json
from workbench.errors import ConfigurationError, StoreBusy, StoreError, WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.requirements import Requirement

    from workbench.settings import Settings

    State = Literal["ok", "warn", "fail"]

SIGNS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
EXTRAS = {
    "lab": "`workbench lab` needs them",
    "local": "answers without a key need them",
    "server": "`workbench serve` needs them",
    "postgres": "a store in PostgreSQL needs them",
}
CONTENTS = """
SELECT
    (SELECT MAX(version) FROM schema_version),
    (SELECT COUNT(*) FROM chats),
    (SELECT COUNT(*) FROM usage)
"""
LITTLE_SPACE = 500_000_000
NO_SPACE = 20_000_000
"""Bytes: below the first a long chat log may not fit, below the second the next turn may not."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``mend`` says what to do about it, if anything."""

    name: str
    state: State
    detail: str
    mend: str = ""


def doctor(
    online: Annotated[
        bool, typer.Option("--online", help="Also ask Claude for one token, which costs about $0.00005.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check that everything works, and say how to mend it."""
    findings = list(examine(online=online))
    broken = [finding for finding in findings if finding.state == "fail"]
    if as_json:
        write_json({"ok": not broken, "checks": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
    raise typer.Exit(1 if broken else 0)


def examine(*, online: bool = False) -> Iterator[Finding]:
    """Yield what is found, line by line."""
    yield from _installation()
    try:
        from workbench.settings import settings

        known = settings()
    except ConfigurationError as error:
        yield Finding("settings", "fail", str(error))
        return
    yield _settings_file()
    yield _who_answers(known)
    if online:
        yield _answer(known)
    yield from _embedded_model(known)
    yield from _store(known.store)
    yield _kernel()
    yield _chromium()


def _print(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in findings:
        sign, colour = SIGNS[finding.state]
        detail = Text(clean(finding.detail))
        if finding.mend:
            detail.append(f"\n→ {clean(finding.mend)}", style="bold")
        table.add_row(Text(f"{sign} {finding.state}", style=colour), finding.name, detail)
    show(table)
    count = {state: sum(finding.state == state for finding in findings) for state in SIGNS}
    verdict = f"{count['fail']} broken" if count["fail"] else "Everything needed works"
    warnings = f", {count['warn']} worth a look" if count["warn"] else ""
    show(Text(f"\n{verdict}{warnings}.", style="bold"))


# The installation ---------------------------------------------------------------------------------------------------


def _installation() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, distribution

    python = f"{sys.version.split()[0]} ({sys.executable})"
    try:
        installed = distribution("claude-workbench")
    except PackageNotFoundError:
        yield Finding("Python", "ok", python)
        yield Finding("workbench", "fail", "is not installed in this Python", "pip install claude-workbench")
        return
    yield _python(python, installed.metadata["Requires-Python"])
    needed = installed.requires or []
    yield _packages("workbench", needed, "", f"{installed.version} with ", "it needs them")
    for extra, why in EXTRAS.items():
        yield _packages(f"extra {extra}", needed, extra, "", why)


def _python(found: str, needed: str) -> Finding:
    from packaging.specifiers import SpecifierSet

    if SpecifierSet(needed).contains(sys.version.split()[0]):
        return Finding("Python", "ok", found)
    return Finding("Python", "fail", f"{found}, needs {needed}", "install another Python, and the workbench with it")


def _packages(name: str, needed: list[str], extra: str, lead: str, why: str) -> Finding:
    """Whether the packages that one extra adds are installed, in versions that will do."""
    from packaging.requirements import Requirement

    wanted = [requirement for requirement in map(Requirement, needed) if _belongs(requirement, extra)]
    found = {requirement.name: _version(requirement.name) for requirement in wanted}
    wrong = []
    for requirement in wanted:
        version = found[requirement.name]
        if version is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version} and has to be {requirement.specifier}")
    if wrong:
        package = f'"claude-workbench[{extra}]"' if extra else "--force-reinstall claude-workbench"
        return Finding(name, "warn" if extra else "fail", f"{'; '.join(wrong)}; {why}", f"pip install {package}")
    return Finding(name, "ok", lead + ", ".join(f"{package} {version}" for package, version in found.items()))


def _belongs(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    if marker is None:
        return not extra
    return marker.evaluate({"extra": extra}) and not (extra and marker.evaluate({"extra": ""}))


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _kernel() -> Finding:
    """Which Python a notebook's kernel would be."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return Finding("notebooks", "warn", "JupyterLab is not installed", 'pip install "claude-workbench[lab]"')
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return Finding("notebooks", "warn", "there is no kernel python3", 'pip install "claude-workbench[lab]"')
    program = spec.argv[0] if spec.argv else ""
    # a bare name stands for the Python that starts the kernel
    if program.startswith("python") or Path(program).resolve() == Path(sys.executable).resolve():
        return Finding("notebooks", "ok", f"the kernel python3 is {sys.executable}")
    return Finding(
        "notebooks",
        "warn",
        f"the kernel python3 is {program}, another Python than this one",
        "start notebooks with `workbench lab`, or set JUPYTER_PREFER_ENV_PATH=1",
    )


def _chromium() -> Finding:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return Finding("chromium", "ok", path or "not found; only the browser tests need it (apt-get install chromium)")


# Who answers --------------------------------------------------------------------------------------------------------


def _settings_file() -> Finding:
    from workbench.settings import project_root

    file = project_root(Path.cwd()) / ".env"
    return Finding("settings", "ok", f"from {file} and the environment" if file.exists() else "from the environment")


def _who_answers(known: Settings) -> Finding:
    from workbench.models import refuse_retired
    from workbench.turns import LOCAL_MODEL

    try:
        model = known.choose_model()
        refuse_retired(model, datetime.now(UTC).date())
    except ConfigurationError as error:
        return Finding("Claude", "fail", str(error))
    if model == LOCAL_MODEL:
        hint = "unset CLAUDE_MODEL" if known.has_upstream else "set ANTHROPIC_API_KEY"
        return Finding("Claude", "ok", f"the embedded model answers, not Claude; {hint} to ask Claude")
    key = f"with the key {masked(known.api_key.get_secret_value())}" if known.api_key else "without a key"
    where = f" at {_without_password(known.base_url)}" if known.base_url else ""
    return Finding("Claude", "ok", f"{model}{where}, {key}")


def _is_local(known: Settings) -> bool:
    from workbench.turns import LOCAL_MODEL

    try:
        return known.choose_model() == LOCAL_MODEL
    except ConfigurationError:
        return False


def masked(key: str) -> str:
    """Return enough of a key to tell it from another, and too little to use it.

    >>> masked("sk-ant-" + "abcdefgh" * 3 + "WXYZ"), masked("secret")
    ('sk-ant-…WXYZ', '…')
    """
    return f"{key[:7]}…{key[-4:]}" if len(key) >= 24 else "…"


def _without_password(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _answer(known: Settings) -> Finding:
    """Whether Claude answers: one request for one token, which is no turn and not in the ledger."""
    if not known.has_upstream or _is_local(known):
        why = "CLAUDE_MODEL is local" if known.has_upstream else "neither a key nor a base URL is set"
        return Finding("answer", "ok", f"nobody to ask online: {why}")
    import asyncio

    try:
        return Finding("answer", "ok", asyncio.run(_one_token(known)))
    except WorkbenchError as error:
        return Finding("answer", "fail", str(error))


async def _one_token(known: Settings) -> str:
    import time

    from workbench.claude import Claude
    from workbench.pricing import cost_and_source
    from workbench.turns import Answer, Request
    from workbench.wording import dollars

    key, answer, begun = known.api_key, Answer(), time.monotonic()
    request = Request(model=known.model, max_tokens=1, messages=[{"role": "user", "content": "Hi"}])
    claude = Claude(api_key=key.get_secret_value() if key else None, base_url=known.base_url)
    try:
        async with claude.stream(request, answer) as batches:
            async for _ in batches:
                pass
    finally:
        await claude.aclose()
    cost, _ = cost_and_source(known.model, answer.usage, datetime.now(UTC))
    used = f"{answer.usage.input_tokens} in + {answer.usage.output_tokens} out tokens"
    return f"{known.model} answered in {time.monotonic() - begun:.1f} s ({used}, {dollars(cost)}, not in the ledger)"


def _embedded_model(known: Settings) -> Iterator[Finding]:
    from workbench import local

    needed = _is_local(known)
    for check in local.check(known.local_gguf):
        if check.ok:
            yield Finding(check.name, "ok", check.detail)
        else:
            # weights that are not there yet come by themselves
            broken = needed and (check.name == "local engine" or known.local_gguf is not None)
            yield Finding(check.name, "fail" if broken else "warn", check.detail)
    try:
        yield _space("cache disk", local.weights_path().parent)
    except ConfigurationError:  # where it would be is known to the extra that is missing
        return


# The store ----------------------------------------------------------------------------------------------------------


def _store(url: str) -> Iterator[Finding]:
    from workbench.settings import without_password

    if url.startswith(("postgresql://", "postgres://")):
        yield Finding("store", "ok", f"{without_password(url)}; whether it answers was not asked")
        return
    if "://" in url:
        scheme = url.split("://", 1)[0]
        yield Finding("store", "fail", f"{scheme} addresses are not understood", "set WORKBENCH_STORE to a file")
        return
    path = Path(url)
    yield _store_file(path) if path.exists() else Finding("store", "ok", f"{path} is not there yet; made on first use")
    yield _space("store disk", path.parent)


def _store_file(path: Path) -> Finding:
    import duckdb

    from workbench.store.duckdb_file import refuse_device
    from workbench.store.faults import classified
    from workbench.store.migrations import MIGRATIONS, number

    try:
        refuse_device(path)
        with duckdb.connect(str(path), read_only=True) as connection:
            ((version, chats, calls),) = connection.execute(CONTENTS).fetchall()
    except duckdb.CatalogException:
        mend = "set WORKBENCH_STORE to another path, or move that file away"
        return Finding("store", "fail", f"{path} is a DuckDB file of something else", mend)
    except StoreError as error:
        return Finding("store", "fail", str(error))
    except duckdb.Error as error:
        reason = classified(error, str(path))
        return _in_use(path, reason) if isinstance(reason, StoreBusy) else Finding("store", "fail", str(reason))
    if version > number(MIGRATIONS[-1][0]):
        return Finding("store", "fail", f"{path} is of a newer workbench", "pip install -U claude-workbench")
    size = path.stat().st_size / 1e6
    return Finding("store", "ok", f"{path}, {size:,.1f} MB; chats: {chats:,}, calls: {calls:,}, schema: {version}")


def _in_use(path: Path, reason: StoreBusy) -> Finding:
    """What another process has open: one of ours shares it."""
    from workbench.store.shared import SharedFile

    try:
        shared = SharedFile(str(path))
    except StoreError:
        return Finding("store", "warn", str(reason))
    try:
        program, pid = shared.owner
    finally:
        shared.close()
    return Finding("store", "ok", f"{path}, shared by {program} (PID {pid})")


def _space(name: str, folder: Path) -> Finding:
    """Whether there is room in a folder that may not be there yet, and leave to write."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(there, os.W_OK):
        return Finding(name, "fail", f"{there} cannot be written", "make it writable, or choose another place")
    free = shutil.disk_usage(there).free
    detail = f"{free / 1e9:,.1f} GB free in {there}"
    if free >= LITTLE_SPACE:
        return Finding(name, "ok", detail)
    return Finding(name, "fail" if free < NO_SPACE else "warn", detail, "make room there")
