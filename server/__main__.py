"""`python -m server`: serve with the settings of the environment."""

from __future__ import annotations

import sys

from server.main import serve
from workbench.errors import ConfigurationError
from workbench.settings import settings


def main() -> int:
    """Return the exit code."""
    try:
        chosen = settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    return serve(chosen, chosen.host, chosen.port)


if __name__ == "__main__":
    sys.exit(main())
