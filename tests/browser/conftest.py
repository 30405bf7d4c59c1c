"""One headless Chromium for the tests of a module, and one JupyterLab for all of them."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import FLAGS, JupyterLab, Notebook
from tests.faults.upstream import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


def _chromium() -> str:
    """The path of Debian's Chromium; without it the test skips, but fails in CI."""
    if chromium := shutil.which("chromium"):
        return chromium
    missing = "no chromium on PATH; install it with: apt-get install chromium fonts-dejavu-core"
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


# Not session-scoped: Playwright's sync API keeps an event loop running in this thread until it is stopped, and every
# async test that follows would fail with "cannot be called from a running event loop".
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    chromium = _chromium()
    from playwright.sync_api import sync_playwright  # takes 0.2 s, and only these tests need it

    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        yield chrome
        chrome.close()


@pytest.fixture(scope="session")
def lab_upstream() -> Iterator[ScriptedUpstream]:
    """Who answers the kernels of ``lab``."""
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def lab(lab_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    """A JupyterLab whose kernels ask the scripted upstream and keep their chats in a folder of their own."""
    _chromium()
    folder = tmp_path_factory.mktemp("lab")
    with JupyterLab(folder, ANTHROPIC_BASE_URL=lab_upstream.url, ANTHROPIC_API_KEY="sk-ant-test") as lab:
        yield lab


@pytest.fixture(scope="module")
def shared_notebook(lab: JupyterLab, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    """A notebook of a module, named after it, whose kernel has the workbench and what else the module prepares."""
    name = f"{request.path.stem.removeprefix('test_')}.ipynb"
    prepare = getattr(request.module, "PREPARE", "import workbench as wb")
    notebook = Notebook(lab, browser, lab.new_notebook(name, prepare))
    notebook.outputs(notebook.run(prepare))
    yield notebook
    notebook.close()


@pytest.fixture
def notebook(shared_notebook: Notebook, lab_upstream: ScriptedUpstream) -> Iterator[Notebook]:
    """The notebook of the module; each test makes chats of its own in it."""
    lab_upstream.reset()
    yield shared_notebook
    lab_upstream.release(1000)
    shared_notebook.settle()
    shared_notebook.clear()
    assert lab_upstream.crashes == []
