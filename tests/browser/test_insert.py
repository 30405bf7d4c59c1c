"""Code of a reply put into the notebook that shows the chat box, in a real JupyterLab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.states import ask, show_box
from tests.faults.upstream import ScriptedUpstream, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from tests.browser.lab import Notebook

CODE = "import os\n\n!touch ran.txt\nopen('ran.txt', 'w')  # </code></pre><script>window.__pwn = 1</script>"
SOURCES = "jupyterapp.shell.currentWidget.content.model.sharedModel.cells.map((cell) => cell.source)"
SHOW = "box = wb.Chat().widget()\nbox"  # as show_box runs it
EXECUTED = "jupyterapp.shell.currentWidget.content.model.sharedModel.cells.map((cell) => cell.execution_count ?? null).filter(Boolean)"
ACTIVE = "jupyterapp.shell.currentWidget.content.activeCell.model.id"


@pytest.fixture
def notebook(shared_notebook: Notebook, lab_upstream: ScriptedUpstream) -> Iterator[Notebook]:
    """A notebook whose kernel has the workbench, with one empty cell."""
    lab_upstream.reset()
    set_windowing(shared_notebook, "none")
    shared_notebook.clear()
    yield shared_notebook
    assert shared_notebook.page.evaluate("window.__pwn") is None
    assert not (shared_notebook.lab.notebooks / "ran.txt").exists()
    assert lab_upstream.crashes == []


def set_windowing(notebook: Notebook, mode: str) -> None:
    """Have JupyterLab hold all cells in the document (`none`), or only those in sight (`full`)."""
    notebook.page.evaluate(
        "(windowingMode) => { const c = jupyterapp.shell.currentWidget.content;"
        " c.notebookConfig = {...c.notebookConfig, windowingMode} }",
        mode,
    )


def answered(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """Show a box with code in it."""
    upstream.script(reply([f"So:\n\n```python\n{CODE}\n```\n\nDone."]))
    box = show_box(notebook)
    ask(box, "how?")
    return box


def add_cells(notebook: Notebook, *sources: str) -> None:
    notebook.page.evaluate(
        """(sources) => {
          const { sharedModel } = jupyterapp.shell.currentWidget.content.model;
          for (const source of sources) sharedModel.insertCell(sharedModel.cells.length, { cell_type: "code", source });
        }""",
        sources,
    )


def sources(notebook: Notebook) -> list[str]:
    return notebook.page.evaluate(SOURCES)


def until_sources(notebook: Notebook, *wanted: str) -> None:
    notebook.page.wait_for_function(f"(wanted) => JSON.stringify({SOURCES}) === JSON.stringify(wanted)", arg=wanted)


@pytest.mark.parametrize("mode", ["none", "full"])
def test_code_comes_into_a_new_cell_below_the_box_and_one_undo_takes_it_back(
    mode: str, notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    box = answered(notebook, lab_upstream)
    add_cells(notebook, *(f"cell_{n} = {n}" for n in range(20)))
    set_windowing(notebook, mode)
    before = sources(notebook)
    insert = box.get_by_role("button", name="Insert below")
    insert.focus()
    insert.scroll_into_view_if_needed()
    place = insert.bounding_box()
    executed = notebook.page.evaluate(EXECUTED)
    active = notebook.page.evaluate(ACTIVE)
    insert.press("Enter")
    said = box.locator(".wb-insert", has_text="Inserted")
    said.wait_for()

    assert sources(notebook) == [*before[:2], CODE, *before[2:]]
    notebook.page.locator(".jp-Notebook .jp-Cell", has_text="touch ran.txt").last.wait_for()
    assert said.evaluate("button => button === document.activeElement")
    assert notebook.page.evaluate(ACTIVE) == active
    assert notebook.page.evaluate(EXECUTED) == executed
    assert said.bounding_box()["y"] == pytest.approx(place["y"], abs=1)
    assert notebook.page.evaluate("jupyterapp.shell.currentWidget.content.model.cells.get(2).trusted")
    notebook.page.evaluate("jupyterapp.commands.execute('notebook:undo-cell-action')")
    until_sources(notebook, *before)
    assert box.get_by_text("Done.").is_visible()


def test_of_two_cells_with_the_box_it_is_the_one_that_it_was_pressed_in_wherever_that_went(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    box = answered(notebook, lab_upstream)
    notebook.outputs(notebook.run("box"))
    second = box.nth(1)
    second.get_by_role("button", name="Insert below").click()
    until_sources(notebook, "", SHOW, "box", CODE)
    notebook.page.evaluate(
        """async () => {
          jupyterapp.shell.currentWidget.content.activeCellIndex = 2;
          await jupyterapp.commands.execute("notebook:move-cell-up");
        }"""
    )
    until_sources(notebook, "", "box", SHOW, CODE)
    notebook.page.locator(".jp-Notebook-cell").nth(1).get_by_role("button", name="Insert below").click()

    until_sources(notebook, "", "box", CODE, SHOW, CODE)


def test_a_box_in_another_widget_inserts_below_the_cell_it_is_in(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply([f"```\n{CODE}\n```"]))
    code = "import ipywidgets\nipywidgets.VBox([wb.Chat().widget()])"
    notebook.run(code)
    box = notebook.page.locator(".wb-chat")
    box.locator(".wb-title", has_text="New chat").wait_for()
    add_cells(notebook, "after = 1")
    ask(box, "how?")
    box.get_by_role("button", name="Insert below").click()

    until_sources(notebook, "", code, CODE, "after = 1")


# --- Last, as the output stays on the page ----------------------------------------------------------------------


def test_a_box_shown_apart_inserts_below_its_cell(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    answered(notebook, lab_upstream)
    add_cells(notebook, "after = 1")
    notebook.page.evaluate(
        """async () => {
          window.panel = jupyterapp.shell.currentWidget;
          panel.content.activeCellIndex = 1;
          await jupyterapp.commands.execute("notebook:create-output-view");
        }"""
    )
    apart = notebook.page.locator(".jp-LinkedOutputView")
    apart.get_by_role("button", name="Insert below").click()
    apart.locator(".wb-insert", has_text="Inserted").wait_for()
    notebook.page.evaluate("jupyterapp.shell.activateById(panel.id)")
    notebook.page.wait_for_function("jupyterapp.shell.currentWidget === panel")

    until_sources(notebook, "", SHOW, CODE, "after = 1")
