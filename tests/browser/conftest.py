"""One headless Chromium for the tests of a module."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Not session-scoped: Playwright's sync API keeps an event loop running in this thread until it is stopped, and every
# async test that follows would fail with "cannot be called from a running event loop".
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless; skips without it, but fails in CI."""
    chromium = shutil.which("chromium")
    if chromium is None:
        missing = "no chromium on PATH; install it with: apt-get install chromium fonts-dejavu-core"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)

    from playwright.sync_api import sync_playwright  # takes 0.2 s, and only these tests need it

    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        yield chrome
        chrome.close()
