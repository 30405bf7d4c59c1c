"""Pictures of the chat box in JupyterLab, of notebooks and of the server's page.

``python -m tools.screenshots FOLDER [NOTEBOOK ...]``: the chat box is taken in the middle of a reply of the embedded
model, in JupyterLab's light and dark theme, wide and as narrow as a phone. Notebooks are copied, run from top to bottom
and taken in full length. ``--states``: instead, the chat box in each state people see it in, 480 and 900 px wide, light
and dark. ``--page``: the server's page instead, wide and light, as a phone and dark, and its list there.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

from tests.browser.lab import FLAGS, JupyterLab, Notebook
from tests.browser.states import PREPARE, STATES, THEMES, set_theme, set_width
from tests.faults.upstream import ScriptedUpstream, Usage, reply
from tests.server.live import LiveServer
from workbench.store.backend import Statement

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = (480, 900)
CELL = """import workbench as wb

chat = wb.Chat(system="You are a helpful teacher of Python.")
chat.widget()"""
QUESTIONS = ["What is pandas, in one sentence?", "How do I read a CSV file with pandas? Show the code."]
SCRIPTED = [
    "pandas is a Python library for **tables**: it reads, cleans, groups and plots them.",
    """Use `read_csv`; it returns a `DataFrame`:

```python
import pandas as pd

orders = pd.read_csv("orders.csv", parse_dates=["day"])
orders.head()  # the first five rows
```

| argument | what it does |
|---|---|
| `sep=";"` | another separator |
| `usecols=["day"]` | only these columns |

A file of several gigabytes is better read in parts: pass `chunksize` and you get an iterator of small tables, """,
]


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("notebooks", type=Path, nargs="*", help="run and taken in full length")
    parser.add_argument("--scripted", action="store_true", help="a written reply instead of the embedded model's")
    parser.add_argument("--states", action="store_true", help="the chat box in each of its states and nothing else")
    parser.add_argument("--page", action="store_true", help="the server's page and nothing else")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or parser.error("no chromium on PATH")
    if options.page:
        _pages(chromium, options.folder)
        return
    with (
        tempfile.TemporaryDirectory() as scratch,
        ScriptedUpstream() as upstream,
        JupyterLab(Path(scratch), **(_asking(upstream) if options.scripted or options.states else NOBODY)) as lab,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        if options.states:
            _states(lab, browser, options.folder, upstream)
        else:
            for notebook in options.notebooks:
                _notebook(lab, browser, notebook, options.folder)
            for theme in THEMES:
                _chat(lab, browser, theme, options.folder, upstream if options.scripted else None)
        browser.close()


NOBODY = {"ANTHROPIC_API_KEY": "", "ANTHROPIC_BASE_URL": ""}


def _asking(upstream: ScriptedUpstream) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": "sk-ant-none", "ANTHROPIC_BASE_URL": upstream.url}


def _states(lab: JupyterLab, browser: Browser, folder: Path, upstream: ScriptedUpstream) -> None:
    """Take the chat box in each of its states."""
    notebook = Notebook(lab, browser, lab.new_notebook("states.ipynb", ""), device_scale_factor=1.5)
    notebook.page.evaluate("jupyterapp.shell.collapseLeft(); jupyterapp.shell.collapseRight()")
    notebook.outputs(notebook.run(PREPARE))
    for name, made in STATES.items():
        box = made(notebook, upstream)
        for theme in THEMES:
            set_theme(notebook, theme)
            for width in WIDTHS:
                set_width(box, width)
                box.screenshot(path=folder / f"{name}-{width}-{theme}.png")
        upstream.release(1000)
        notebook.clear()
        upstream.reset()
    notebook.close()


def _chat(lab: JupyterLab, browser: Browser, theme: str, folder: Path, upstream: ScriptedUpstream | None) -> None:
    """Take the chat box in mid-reply, wide and narrow."""
    name = lab.new_notebook(f"chat-{theme}.ipynb", CELL)
    notebook = Notebook(lab, browser, name, viewport={"width": 1200, "height": 720})
    page = notebook.page
    set_theme(notebook, theme)
    page.evaluate("jupyterapp.shell.collapseLeft(); jupyterapp.shell.collapseRight()")
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    box = page.locator(".wb-chat")
    if upstream is not None:
        upstream.script(reply(SCRIPTED[0]), reply(SCRIPTED[1], pause_after=60))
    for question in QUESTIONS:
        box.locator(".wb-send").wait_for()
        box.locator(".wb-input").fill(question)
        box.locator(".wb-input").press("Enter")
        if question is not QUESTIONS[-1]:
            box.locator(".wb-message[data-role=assistant][data-status=complete]").first.wait_for()
    last = box.locator(".wb-message[data-role=assistant]").nth(len(QUESTIONS) - 1)
    page.wait_for_function("(element) => element.innerText.length > 290", arg=last.element_handle())
    page.screenshot(path=folder / f"widget-{theme}.png")
    page.set_viewport_size({"width": 440, "height": 720})
    page.screenshot(path=folder / f"widget-{theme}-narrow.png")
    box.locator(".wb-input").press("Escape")  # a short reply may have ended by now
    box.locator(".wb-send").wait_for()
    page.screenshot(path=folder / f"widget-{theme}-ended.png")
    notebook.close()


ASKED = {
    # what was asked, tokens of the prompt and of the reply, days ago
    "Plan a week in Lisbon with two children": (900, 2400, 0),
    "Explain the cache discount in one table": (3200, 650, 0),
    "Review this SQL: which index would help?": (5400, 1800, 1),
    "Draft a polite refusal to the vendor": (700, 420, 1),
    "Why is the sky blue, and the sunset red?": (300, 510, 3),
    "Regular expression for ISO dates": (450, 380, 5),
    "Summarise the minutes of Monday": (8800, 900, 6),
    "Unit tests for the importer": (6100, 3900, 12),
    "Names for a small bakery": (210, 460, 19),
}


def _pages(chromium: str, folder: Path) -> None:
    """Take the server's page in mid-reply: wide and light, as a phone and dark."""
    wide = {"viewport": {"width": 1280, "height": 800}, "device_scale_factor": 1.5}
    phone = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True}
    with (
        tempfile.TemporaryDirectory() as scratch,
        ScriptedUpstream() as upstream,
        LiveServer(Path(scratch), upstream=upstream.url) as server,
        ThreadPoolExecutor(1) as thread,  # Playwright keeps a loop running in this one
    ):
        thread.submit(_ask, server, upstream).result()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
            page = _page(server, upstream, browser, folder / "page.png", color_scheme="light", **wide)
            chat_id = page.url.partition("#chat=")[2]
            while server.client.delete(f"/chats/{chat_id}").status_code == 409:
                page.wait_for_timeout(50)  # its reply has not ended
            page = _page(server, upstream, browser, folder / "page-phone.png", color_scheme="dark", **phone)
            page.locator(".pg-menu").click()
            page.wait_for_timeout(500)  # the drawer slides in
            page.screenshot(path=folder / "page-phone-list.png")
            browser.close()


def _ask(server: LiveServer, upstream: ScriptedUpstream) -> None:
    """Fill the list with chats of the last weeks."""
    for question, (inputs, outputs, days) in ASKED.items():
        upstream.script(reply("…", usage=Usage(uncached_input_tokens=inputs, output_tokens=outputs)))
        chat_id = server.post("/chat", question).json()["chat_id"]
        used = datetime.now(UTC) - timedelta(days=days, minutes=len(ASKED))
        statement = Statement("UPDATE chats SET created_at = $2, updated_at = $2 WHERE id = $1", (chat_id, used))
        asyncio.run(server.app.state.service.engine.store.backend.write([statement]))


def _page(server: LiveServer, upstream: ScriptedUpstream, browser: Browser, path: Path, **options: Any) -> Page:
    page = browser.new_context(**options).new_page()
    page.goto(server.url)
    usage = Usage(uncached_input_tokens=61, output_tokens=58)
    upstream.script(reply(SCRIPTED[0], usage=usage), reply(SCRIPTED[1], pause_after=60))
    for question in QUESTIONS:
        page.locator(".wb-send").wait_for()
        page.locator(".wb-input").fill(question)
        page.locator(".wb-send").click()
        if question is not QUESTIONS[-1]:
            page.locator(".wb-message[data-role=assistant][data-status=complete]").first.wait_for()
    page.get_by_text("and you get an iterator").wait_for()
    page.mouse.move(640, 500)
    page.wait_for_timeout(300)  # the list has heard of it too
    page.screenshot(path=path)
    upstream.release()
    return page


def _notebook(lab: JupyterLab, browser: Browser, path: Path, folder: Path) -> None:
    """Run a notebook and take it from top to bottom."""
    shutil.copy(path, lab.notebooks)
    notebook = Notebook(lab, browser, path.name)
    page = notebook.page
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    notebook.wait_until_done()
    bottom = page.evaluate(
        "document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0,"
        " [...document.querySelectorAll('.jp-Notebook-cell')].at(-1).getBoundingClientRect().bottom"
    )
    page.set_viewport_size({"width": 1200, "height": round(bottom) + 50})
    page.screenshot(path=folder / f"{path.stem}.png")
    notebook.close()


if __name__ == "__main__":
    main()
