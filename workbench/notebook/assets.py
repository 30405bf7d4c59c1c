"""Parts of the front end that are large and seldom needed: sent when a view asks for one, not with every widget."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import InvalidRequest

STATIC = Path(__file__).parent / "static"
ASSETS = ("math.js", "desk.js")


def asset(name: str) -> bytes:
    """Return a file that views may ask for.

    Raises:
        InvalidRequest: there is no such file, or it is none of those.
    """
    if name not in ASSETS:
        raise InvalidRequest(f"the page asked for {name!r}, which this version of the workbench lacks; reload the page")
    return (STATIC / name).read_bytes()
