"""Prompts and thumbs in a chat box, in a real JupyterLab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import JupyterLab, Notebook
from tests.browser.test_lab_branches import show_box, talk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.faults.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def shared_notebook(lab: JupyterLab, browser: Browser) -> Iterator[Notebook]:
    notebook = Notebook(lab, browser, lab.new_notebook("prompts.ipynb", "import workbench as wb"))
    notebook.outputs(notebook.run("import workbench as wb"))
    yield notebook
    notebook.close()


@pytest.fixture
def notebook(shared_notebook: Notebook, lab_upstream: ScriptedUpstream) -> Iterator[Notebook]:
    lab_upstream.reset()
    yield shared_notebook
    shared_notebook.settle()
    shared_notebook.clear()
    assert lab_upstream.crashes == []


def test_a_prompt_is_picked_before_a_chat_and_changed_within(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    texts = ["You help {{customer}}.", "You help {{customer}}. Be brief."]
    notebook.outputs(notebook.run(f"for text in {texts}:\n    wb.prompts.save('lab-support', text)"))
    box = show_box(notebook)
    box.get_by_role("button", name="About this chat").click()
    box.get_by_role("combobox", name="Prompt").select_option("lab-support")
    box.get_by_text("You help {{customer}}.").wait_for()
    assert box.get_by_role("textbox", name="System prompt").is_hidden()
    box.get_by_role("button", name="Use for this chat").click()
    box.get_by_text("Fill in customer.").wait_for()
    box.get_by_role("textbox", name="customer").fill("Ada")
    box.get_by_text("You help Ada.").wait_for()
    box.get_by_role("textbox", name="customer").press("Enter")
    box.locator(".wb-prompt", has_text="lab-support@production").wait_for()
    talk(box, lab_upstream, ("one?", "1"))
    begun = (lab_upstream.last.body["system"], box.locator(".wb-prompt").inner_text())
    box.locator(".wb-prompt").click()
    box.get_by_role("combobox", name="Version").select_option("2")
    box.get_by_text("You help Ada. Be brief.").wait_for()
    box.get_by_role("button", name="Use from the next turn on").click()
    box.locator(".wb-prompt", has_text="lab-support@1 → lab-support@2").wait_for()

    assert begun == ("You help Ada.", "lab-support@1")
    assert notebook.value("box.chat.ask('two?', show=False); box.chat.prompt") == "'lab-support@2'"
    assert lab_upstream.last.body["system"] == "You help Ada. Be brief."
    box.locator(".wb-prompt", has_text="lab-support@2").wait_for()
