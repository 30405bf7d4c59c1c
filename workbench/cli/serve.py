"""``workbench serve``: the HTTP server."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.errors import ConfigurationError

if TYPE_CHECKING:
    from types import ModuleType


def serve(
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where to listen; by default HOST, or 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, metavar="N", help="Port; by default PORT, or 3000.")
    ] = None,
) -> None:
    """Serve chats over HTTP."""
    from workbench.settings import settings

    known = settings()
    server = _server()
    raise typer.Exit(server.serve(known, host or known.host, known.port if port is None else port))


def _server() -> ModuleType:
    try:
        # by name: the server is built on the workbench, which must load without it and without FastAPI
        return import_module("server.main")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("server", "workbench"):  # a hole in the installation, not an extra left out
            raise
        raise ConfigurationError(
            f'the server needs {missing}, which is not installed; run: pip install "claude-workbench[server]"'
        ) from error
