"""What a notebook with chat boxes holds once it is saved, and what is seen when it is opened again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.upstream import ScriptedUpstream, Usage, reply, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from tests.browser.lab import Notebook

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def notebook(shared_notebook: Notebook, lab_upstream: ScriptedUpstream) -> Iterator[Notebook]:
    """A notebook whose kernel has the workbench, without cells."""
    lab_upstream.reset()
    shared_notebook.clear()
    yield shared_notebook
    assert lab_upstream.crashes == []


def show_chat(notebook: Notebook, code: str = "chat = wb.Chat()\nbox = chat.widget()\nbox") -> Locator:
    notebook.run(code)
    box = notebook.page.locator(".wb-chat")
    box.first.locator(".wb-title", has_text="New chat").wait_for()
    return box


def send(box: Locator, text: str) -> None:
    box.locator(".wb-input").fill(text)
    box.locator(".wb-input").press("Enter")
    reply = box.locator(".wb-message[data-role=user]", has_text=text).locator("+ [data-status=complete]")
    reply.locator(".wb-footer").wait_for()


def cells(notebook: Notebook) -> list[dict[str, Any]]:
    """What is written when the notebook is saved now."""
    return notebook.page.evaluate("jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells")


def wait_for_text(notebook: Notebook, text: str) -> None:
    """Wait until the notebook would be saved with this text; what a question says is there before its reply."""
    notebook.page.wait_for_function(
        """(text) => jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells.some((cell) =>
          cell.outputs?.some(({ data }) => String(data?.["text/markdown"]).includes(text)))""",
        arg=text,
    )


def save(notebook: Notebook) -> list[dict[str, Any]]:
    """Save, and return the outputs that are on disk."""
    notebook.page.wait_for_function(
        """async () => {
          await jupyterapp.commands.execute("docmanager:save");
          return !jupyterapp.shell.currentWidget.content.model.dirty;  // the text of a turn may come while it is saved
        }""",
        polling=100,
    )
    document = json.loads((notebook.lab.notebooks / "saved.ipynb").read_text())
    assert "widgets" not in document["metadata"]
    return [output for cell in document["cells"] for output in cell.get("outputs", [])]


def text_of(output: dict[str, Any], kind: str = "text/markdown") -> str:
    return "".join(output["data"][kind])


def views(notebook: Notebook) -> list[int]:
    """How many views each output holds, alive or not."""
    return notebook.page.evaluate(
        """() => jupyterapp.shell.currentWidget.content.widgets.flatMap((cell) => cell.outputArea?.widgets ?? [])
          .flatMap(({ widgets }) => widgets).filter(({ widgets }) => widgets).map(({ widgets }) => widgets.length)"""
    )


def test_after_a_turn_the_saved_notebook_holds_it_as_text_and_nothing_was_disturbed(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    usage = Usage(uncached_input_tokens=1000, output_tokens=50)
    lab_upstream.script(reply("It is **four**.", usage=usage), reply("And <script>six</script>.", usage=usage))
    box = show_chat(notebook)
    notebook.page.evaluate("window.first = document.querySelector('.wb-chat')")
    send(box, "What is 2+2?")
    box.locator(".wb-input").press_sequentially("half typ")
    wait_for_text(notebook, "50 out tokens")
    box.locator(".wb-input").press_sequentially("ed")
    [output] = save(notebook)

    footer = "claude-sonnet-5-5 · 1,000 in + 50 out tokens · $0.0025 · "
    assert set(output["data"]) == {"text/markdown", "text/plain"}
    assert text_of(output, "text/plain").startswith(f"You: What is 2+2?\n\nClaude: It is **four**.\n\n{footer}")
    assert f"<strong>four</strong>.</p>\n<p><em>{footer}".replace("$", "&#36;") in text_of(output)
    assert (
        notebook.page.evaluate("document.activeElement.matches('.wb-input') && document.activeElement.value")
        == "half typed"
    )
    assert notebook.page.evaluate("window.first === document.querySelector('.wb-chat') && window.first.isConnected")
    assert views(notebook) == [1]

    box.locator(".wb-input").fill("")
    send(box, "and 3+3?")
    wait_for_text(notebook, "&lt;script&gt;six")
    [output] = save(notebook)
    assert "&lt;script&gt;six" in text_of(output) and "<strong>four</strong>" in text_of(output)
    assert views(notebook) == [1]


def test_what_is_asked_in_another_cell_is_saved_where_its_box_is_and_each_box_has_its_own(notebook: Notebook) -> None:
    show_chat(notebook, "one, other = wb.Chat(), wb.Chat()\ndisplay(one.widget(), other.widget(), one.widget())")
    notebook.page.locator(".wb-chat").nth(2).locator(".wb-title", has_text="New chat").wait_for()
    notebook.outputs(notebook.run("one.ask('of the first', show=False)\nother.ask('of the other', show=False);"))
    notebook.page.wait_for_function(
        """() => JSON.stringify(jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON()).split("<p>of the").length === 4"""
    )
    outputs = save(notebook)

    assert [text_of(output, "text/plain").splitlines()[0] for output in outputs] == [
        "You: of the first",
        "You: of the other",
        "You: of the first",
    ]
    assert [set(output["data"]) for output in outputs] == [{"text/markdown", "text/plain"}] * 3
    assert views(notebook) == [1, 1, 1]


def test_a_page_finds_its_boxes_again_while_the_kernel_runs_and_wherever_their_cells_go(notebook: Notebook) -> None:
    box = show_chat(notebook)
    send(box, "remember me")
    wait_for_text(notebook, " out tokens")  # of the whole turn, or it is written after the reload
    save(notebook)
    notebook.save_and_reload()
    box.get_by_text("remember me", exact=True).first.wait_for()

    assert not notebook.page.evaluate("jupyterapp.shell.currentWidget.content.model.dirty")
    assert VIEW not in json.dumps(cells(notebook))
    send(box, "after the reload")
    wait_for_text(notebook, "after the reload")

    notebook.page.evaluate(
        """async () => {
          jupyterapp.shell.currentWidget.content.activeCellIndex = 1;
          await jupyterapp.commands.execute("notebook:move-cell-up");
        }"""
    )
    notebook.page.locator(".jp-Notebook-cell").first.locator(".wb-chat").wait_for()
    send(box, "after the move")
    wait_for_text(notebook, "after the move")
    assert VIEW not in json.dumps(save(notebook))
    assert box.count() == 1


UNREACHABLE = """() => {
  const { widgets } = jupyterapp.shell.currentWidget.content.widgets.at(-1).outputArea.widgets[0];
  const { widget_manager } = widgets[1].widgets[0]._view.model;
  Object.defineProperty(widget_manager, "context", { value: undefined, configurable: true });
  window.reachable = () => delete widget_manager.context;
}"""


def test_where_a_page_cannot_reach_the_notebook_python_displays_it_once_nobody_types(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply("first"), reply(words(10), delay=0.1))
    box = show_chat(notebook)
    notebook.page.evaluate(UNREACHABLE)
    try:
        send(box, "remember me")
        send(box, "and this, which takes a second")
        box.locator(".wb-input").press_sequentially("half typed")
        assert "remember me" not in json.dumps(cells(notebook))

        notebook.page.locator(".jp-Notebook-cell").first.click()
        wait_for_text(notebook, "which takes a second")
        box.get_by_text("remember me", exact=True).first.wait_for()
        assert box.locator(".wb-input").input_value() == "half typed"
    finally:
        notebook.page.evaluate("reachable()")


def test_without_its_kernel_a_notebook_shows_the_chat_as_text(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply("I *remember*."))
    box = show_chat(notebook)
    send(box, "remember me")
    wait_for_text(notebook, " out tokens")
    save(notebook)
    notebook.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    notebook.page.reload()
    notebook.page.get_by_text("remember me", exact=True).wait_for()
    assert notebook.page.evaluate("jupyterapp.shell.currentWidget.content.model.cells.get(1).trusted")
    [shown] = notebook.page.locator(".jp-OutputArea-output").all_inner_texts()
    assert shown.startswith("You\n\nremember me\n\nClaude\n\nI remember.\n\nclaude-sonnet-5-5 · ")

    notebook.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.changeKernel({ name: 'python3' })")
    notebook.wait_until_ready()
    assert notebook.page.locator(".jp-OutputArea-output").all_inner_texts() == [shown]
