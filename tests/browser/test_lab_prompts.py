"""Prompts and thumbs in a chat box, in a real JupyterLab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.test_lab_branches import show_box, talk

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.lab import Notebook
    from tests.faults.upstream import ScriptedUpstream


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


def test_thumbs_are_given_by_keys_and_there_in_every_view_and_after_a_reload(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    box = show_box(notebook, "display(box)")
    talk(box, lab_upstream, ("one?", "1"), ("two?", "2"))
    other = notebook.page.locator(".wb-chat").nth(1)
    box.get_by_role("button", name="Good reply").first.press("Enter")
    box.get_by_role("button", name="Bad reply").nth(1).press("Space")
    box.get_by_role("textbox", name="What was wrong?").fill("too short")
    box.get_by_role("textbox", name="What was wrong?").press("Enter")
    assert box.get_by_role("button", name="Bad reply").nth(1).evaluate("thumb => thumb === document.activeElement")
    until_pressed(other, "true false false true")
    sql = "f\"SELECT score, comment FROM feedback WHERE chat_id = '{box.chat.id}' ORDER BY created_at\""
    notebook.outputs(notebook.run(f"while len(kept := wb.sql({sql})) < 3:\n    pass"))  # the last one is under way
    kept = notebook.value("kept.values.tolist()")
    notebook.save_and_reload()
    again = notebook.page.locator(".wb-chat").first
    until_pressed(again, "true false false true")
    again.get_by_role("button", name="Bad reply").nth(1).click()

    assert kept in ("[[1, None], [-1, None], [-1, 'too short']]", "[[1, nan], [-1, nan], [-1, 'too short']]")
    assert again.get_by_role("textbox", name="What was wrong?").input_value() == "too short"


def until_pressed(box: Locator, states: str) -> None:
    """Wait until the thumbs of the replies, up and down, are pressed like this."""
    box.page.wait_for_function(
        "([box, states]) => [...box.querySelectorAll('.wb-thumb')].map((thumb) => thumb.ariaPressed).join(' ') === states",
        arg=[box.element_handle(), states],
    )
