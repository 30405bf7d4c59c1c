"""Branches, the list of chats and what else there is to a chat box, in a real JupyterLab."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_lab import last_reply, send
from tests.faults.upstream import reply

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.lab import Notebook
    from tests.faults.upstream import ScriptedUpstream


def show_box(notebook: Notebook, more: str = "") -> Locator:
    """Show a chat box in which one was asked and answered, then two."""
    notebook.run(f"box = wb.Chat().widget()\ndisplay(box)\n{more}")
    box = notebook.page.locator(".wb-chat").first
    box.locator(".wb-title", has_text="New chat").wait_for()
    return box


def talk(box: Locator, upstream: ScriptedUpstream, *turns: tuple[str, str]) -> None:
    for number, (question, answer) in enumerate(turns):
        upstream.script(reply([answer]))
        send(box, question)
        box.locator(".wb-message[data-role=assistant][data-status=complete]").nth(number).wait_for()


def said(box: Locator) -> list[str]:
    return box.locator(".wb-message > .wb-body").all_inner_texts()


def until_said(box: Locator, *texts: str) -> None:
    """Wait until these and no other messages are on screen."""
    box.page.wait_for_function(
        """([box, texts]) => {
          const said = [...box.querySelectorAll(".wb-message > .wb-body")].map((body) => body.innerText.trim());
          return JSON.stringify(said) === texts;
        }""",
        arg=[box.element_handle(), json.dumps(list(texts), ensure_ascii=False, separators=(",", ":"))],
    )


def pager(box: Locator) -> Locator:
    return box.locator(".wb-pager:visible")


# --- Branches ---------------------------------------------------------------------------------------------------


def test_an_edited_question_makes_a_branch_and_both_are_paged_by_keyboard(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    box = show_box(notebook)
    talk(box, lab_upstream, ("one?", "1"), ("two?", "2"), ("three?", "3"))
    keys = notebook.page.keyboard
    box.locator(".wb-message[data-role=user]").nth(1).get_by_role("button", name="Edit this question").press("Enter")
    assert box.locator(".wb-input").input_value() == "two?"
    lab_upstream.script(reply(["II"]))
    box.locator(".wb-input").press("Control+a")
    keys.type("II?")
    keys.press("Enter")
    until_said(box, "one?", "1", "II?", "II")
    last_reply(box, "complete")

    assert pager(box).inner_text().split()[0] == "2/2"
    assert notebook.value("[m.content for m in box.chat.messages]") == "['one?', '1', 'II?', 'II']"
    back = box.get_by_role("button", name="Previous branch")
    back.press("Enter")
    until_said(box, "one?", "1", "two?", "2", "three?", "3")
    assert pager(box).inner_text().split()[0] == "1/2"
    keys.press("Tab")  # still among the buttons of the pager
    keys.press("Enter")
    until_said(box, "one?", "1", "II?", "II")
    assert notebook.value("box.chat.messages[2].content, box.chat_id == box.chat.id") == "('II?', True)"


def test_arrow_up_edits_the_last_question_and_escape_gives_the_draft_back(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    box = show_box(notebook)
    talk(box, lab_upstream, ("one?", "1"))
    field = box.locator(".wb-input")
    field.press("ArrowUp")
    assert field.input_value() == "one?"
    field.press("Escape")
    assert field.input_value() == ""
    field.fill("a draft")
    box.locator(".wb-message[data-role=user]").hover()
    box.get_by_role("button", name="Edit this question").click()
    assert field.input_value() == "one?"
    box.get_by_role("button", name="Cancel").click()

    assert field.input_value() == "a draft"
    assert said(box) == ["one?", "1"]


def test_another_reply_is_a_branch_at_the_reply(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    box = show_box(notebook)
    talk(box, lab_upstream, ("one?", "1"))
    lab_upstream.script(reply(["I think 1"]))
    box.get_by_role("button", name="Retry").click()
    until_said(box, "one?", "I think 1")

    assert box.locator(".wb-message[data-role=assistant] .wb-pager").inner_text().split()[0] == "2/2"
    assert (
        notebook.value(
            "len(wb.sql('SELECT 1 FROM messages m WHERE chat_id = (SELECT forked_from FROM chats WHERE id = "
            "\\'' + box.chat_id + '\\')'))"
        )
        == "2"
    )


def test_an_edit_that_is_refused_comes_back_into_the_input(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    box = show_box(notebook)
    talk(box, lab_upstream, ("one?", "1"))
    notebook.outputs(notebook.run("engine = box._runtime.engine; engine.settings.__dict__['model'] = 'claude-2'"))
    box.locator(".wb-input").press("ArrowUp")
    box.locator(".wb-input").fill("I?")
    box.locator(".wb-input").press("Enter")
    box.locator(".wb-notice", has_text="retired").wait_for()
    notebook.outputs(notebook.run("engine.settings.__dict__['model'] = 'claude-sonnet-5-5'"))

    assert box.locator(".wb-input").input_value() == "I?"
    assert box.locator(".wb-editing").is_visible()
    assert said(box) == ["one?", "1"]
    lab_upstream.script(reply(["I"]))
    box.locator(".wb-input").press("Enter")
    until_said(box, "I?", "I")


def test_two_views_of_a_box_show_the_same_branch(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    box = show_box(notebook, "display(box)")
    other = notebook.page.locator(".wb-chat").nth(1)
    other.locator(".wb-title", has_text="New chat").wait_for()
    talk(box, lab_upstream, ("one?", "1"))
    lab_upstream.script(reply("I II", pause_after=1))
    box.locator(".wb-input").press("ArrowUp")
    box.locator(".wb-input").fill("I?")
    box.locator(".wb-input").press("Enter")
    for view in (box, other):
        until_said(view, "I?", "I")
    lab_upstream.release()
    for view in (box, other):
        until_said(view, "I?", "I II")
    other.get_by_role("button", name="Previous branch").click()
    for view in (box, other):
        until_said(view, "one?", "1")


def test_a_reply_cut_at_its_bound_is_gone_on_with(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    lab_upstream.script(reply("one two", stop_reason="max_tokens"), reply("three"))
    box = show_box(notebook)
    send(box, "count")
    box.get_by_role("button", name="Continue").click()
    until_said(box, "count", "one two", "Continue where you stopped.", "three")

    assert box.get_by_role("button", name="Continue").count() == 0


def test_a_refusal_is_said_in_words(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    lab_upstream.script(reply("No", stop_reason="refusal"))
    box = show_box(notebook)
    send(box, "?")

    last_reply(box, "complete").get_by_text("Claude declined to go on with this.").wait_for()


# --- The list of chats ------------------------------------------------------------------------------------------


def test_a_chat_is_resumed_from_the_list_after_the_page_was_opened_anew(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply(["Because of scattering."]))
    notebook.outputs(notebook.run("wb.Chat().ask('Why is the sky blue?', show=False)"))
    box = show_box(notebook)
    notebook.save_and_reload()
    box = notebook.page.locator(".wb-chat")
    box.locator(".wb-title", has_text="New chat").wait_for()
    box.get_by_role("button", name="Chats", exact=True).click()
    box.get_by_role("searchbox", name="Search chats").fill("SCATTERING")
    box.locator(".wb-item").filter(has_text="Prime").wait_for(state="detached")
    box.get_by_role("button", name="Why is the sky blue?").first.click()
    until_said(box, "Why is the sky blue?", "Because of scattering.")
    lab_upstream.script(reply(["In the evening."]))
    send(box, "And red?")
    until_said(box, "Why is the sky blue?", "Because of scattering.", "And red?", "In the evening.")

    assert len(lab_upstream.last.body["messages"]) == 3
    assert notebook.value("box.chat.title") == "'Why is the sky blue?'"


def test_the_list_says_at_what_time_a_chat_was_used_today(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    box = show_box(notebook)
    talk(box, lab_upstream, ("one?", "1"))
    box.get_by_role("button", name="Chats", exact=True).click()
    facts = box.locator(".wb-item .wb-facts").first.inner_text()

    assert re.fullmatch(r"(yesterday )?\d{1,2}:\d\d\s[AP]M · \$[\d.]+", facts)  # yesterday: this ran at midnight


def test_a_new_chat_is_begun_while_a_reply_is_written_which_goes_on(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply("one two three", pause_after=1), reply(["elsewhere"]))
    box = show_box(notebook)
    send(box, "a long reply")
    until_said(box, "a long reply", "one")
    box.get_by_role("button", name="New chat").click()
    box.locator(".wb-title", has_text="New chat").wait_for()
    send(box, "meanwhile")
    until_said(box, "meanwhile", "elsewhere")
    last_reply(box, "complete")
    box.get_by_role("button", name="Chats", exact=True).click()
    box.get_by_role("button", name="a long reply").first.click()
    until_said(box, "a long reply", "one")
    assert box.locator(".wb-stop").is_visible()
    lab_upstream.release()

    until_said(box, "a long reply", "one two three")
    last_reply(box, "complete")
    assert notebook.value("[m.content for m in box.chat.messages]") == "['a long reply', 'one two three']"


def test_a_chat_is_renamed_and_deleted_from_the_list_by_keyboard(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    box = show_box(notebook)
    talk(box, lab_upstream, ("a chat to go", "1"))
    keys = notebook.page.keyboard
    box.get_by_role("button", name="Chats", exact=True).press("Enter")
    box.get_by_role("button", name="Rename a chat to go").press("Enter")
    keys.type("To be deleted")
    keys.press("Enter")
    box.locator(".wb-title", has_text="To be deleted").wait_for()
    box.get_by_role("button", name="Delete To be deleted").press("Enter")
    box.get_by_role("alert").filter(has_text="gone for good").wait_for()
    keys.press("Tab")
    keys.press("Enter")
    box.locator(".wb-title", has_text="New chat").wait_for()
    keys.press("Escape")

    assert box.locator(".wb-desk").is_hidden()
    assert box.get_by_role("button", name="Chats", exact=True).evaluate("button => button === document.activeElement")
    assert notebook.value("'To be deleted' in set(wb.chats()['title'])") == "False"
    assert notebook.page.locator(".jp-Notebook-cell").count() > 0  # its shortcuts did not see the keys


# --- The model, the system prompt, exports ----------------------------------------------------------------------


def test_a_new_chat_is_given_a_model_and_a_system_prompt(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    box = show_box(notebook)
    talk(box, lab_upstream, ("one?", "1"))
    box.get_by_role("button", name="New chat").click()
    box.locator(".wb-title", has_text="New chat").wait_for()
    box.get_by_role("button", name="About this chat").click()
    box.get_by_label("Model").select_option("claude-haiku-5-5")
    box.get_by_label("System prompt").fill("Be terse.")
    box.get_by_role("button", name="Use for this chat").click()
    box.locator(".wb-model", has_text="claude-haiku-5-5").wait_for()
    talk(box, lab_upstream, ("two?", "2"))

    assert (lab_upstream.last.body["model"], lab_upstream.last.body["system"]) == ("claude-haiku-5-5", "Be terse.")
    box.get_by_role("button", name="About this chat").click()
    box.locator(".wb-fact", has_text="Be terse.").wait_for()
    assert box.get_by_label("Model").count() == 0


@pytest.mark.parametrize(("name", "ending"), [("Markdown", "md"), ("Notebook", "ipynb")])
def test_a_chat_is_downloaded_as_python_has_it(
    notebook: Notebook, lab_upstream: ScriptedUpstream, name: str, ending: str
) -> None:
    box = show_box(notebook)
    talk(box, lab_upstream, ("Größe?", "```python\nx = 1\n```"))
    box.get_by_role("button", name="About this chat").click()
    with notebook.page.expect_download() as downloading:
        box.get_by_role("button", name=name, exact=True).click()
    text = downloading.value.path().read_text(encoding="utf-8")

    assert downloading.value.suggested_filename == f"Größe.{ending}"
    exported = "box.chat.to_markdown()" if ending == "md" else "__import__('json').dumps(box.chat.to_notebook())"
    whole = json.loads(
        notebook.value(f"print_ = __import__('json').dumps({exported}); print_")[1:-1].encode().decode("unicode_escape")
    )
    assert text == whole if ending == "md" else json.loads(text) == json.loads(whole)
