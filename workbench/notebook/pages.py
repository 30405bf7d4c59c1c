"""Whether anybody sees a notebook while it runs."""

from __future__ import annotations

import os
from typing import Any

from workbench.show import kernel_shell


def is_watched() -> bool:
    """Return whether a page shows this cell; not so where nbconvert, papermill, nbmake or Quarto execute a notebook.

    Every page lets a cell ask its reader (``input()``), and says so with each cell it runs; nbclient, which is in all
    of those, says that nobody could answer. Voilà uses it too, and has a page all the same.
    """
    kernel: Any = getattr(kernel_shell(), "kernel", None)
    if kernel is None or os.environ.get("SERVER_SOFTWARE", "").startswith("voila/"):
        return True
    return bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin", True))
