"""What must hold in every state of the chat box, in a real JupyterLab: for everybody, in both themes, at any width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import SECONDS
from tests.browser.states import (
    ANSWER,
    BILLED,
    PREPARE,  # noqa: F401  # for the notebook of this module
    PROMPTS,
    QUESTION,
    STATES,
    THEMES,
    ask,
    branch,
    code,
    empty,
    error,
    set_theme,
    set_width,
    show_box,
    typing,
)
from tests.browser.test_renderer import drag_its_corner
from tests.faults.upstream import fault, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from tests.browser.lab import Notebook
    from tests.faults.upstream import ScriptedUpstream

WIDTHS = (320, 480, 900)


@pytest.fixture
def notebook(notebook: Notebook, lab_upstream: ScriptedUpstream) -> Iterator[Notebook]:
    """As of other modules, and the next test finds no reply being written, and the light theme."""
    yield notebook
    lab_upstream.release(1000)
    notebook.page.wait_for_function("!document.querySelector('.wb-stop')?.checkVisibility()")
    set_theme(notebook, "light")


# --- What people open in these states ---------------------------------------------------------------------------


def waiting(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """Nothing has come yet."""
    upstream.script(reply("Hello", pause_before=True))
    box = show_box(notebook)
    box.locator(".wb-input").fill(QUESTION)
    box.locator(".wb-input").press("Enter")
    box.locator(".wb-waiting", has_text="thinking…").wait_for()
    upstream.wait_for(lambda u: u.paused, SECONDS)  # or the next test would be asked
    return box


def stopped(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    upstream.script(reply(ANSWER, pause_after=40))
    box = show_box(notebook)
    ask(box, QUESTION, "streaming").get_by_text("another separator").wait_for()
    box.locator(".wb-input").press("Escape")
    box.get_by_text("Stopped before its end.").wait_for()
    return box


def cut(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """At its upper bound of tokens."""
    upstream.script(reply(ANSWER, stop_reason="max_tokens"))
    box = show_box(notebook)
    ask(box, QUESTION).get_by_role("button", name="Continue").wait_for()
    return box


def refused(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """Before anything came."""
    upstream.script(fault("401"))
    box = show_box(notebook)
    ask(box, QUESTION, "failed")
    return box


def editing(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    box = branch(notebook, upstream)
    box.locator(".wb-input").press("ArrowUp")
    box.locator(".wb-editing").wait_for()
    box.locator(".wb-message[data-role=user]").last.hover()
    return box


def choosing(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """A variable from the list."""
    box = empty(notebook, upstream)
    box.get_by_role("button", name="Attach").click()
    box.get_by_role("option", name="orders").wait_for()
    return box


def previewing(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """What is sent of a variable."""
    box = typing(notebook, upstream)
    box.locator(".wb-chip-open").click()
    box.locator(".wb-preview").wait_for()
    return box


def counting(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """What a reply was billed for."""
    box = code(notebook, upstream)
    box.locator(".wb-counts summary").click()
    box.get_by_role("columnheader", name="Billed as").wait_for()
    return box


def listing(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    box = code(notebook, upstream)
    box.get_by_role("button", name="Chats", exact=True).click()
    return box


def renaming(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    box = listing(notebook, upstream)
    box.get_by_role("button", name="Rename").first.click()
    box.get_by_label("Title").wait_for()
    return box


def deleting(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    box = listing(notebook, upstream)
    box.get_by_role("button", name="Delete").first.click()
    box.get_by_role("alert").filter(has_text="gone for good").wait_for()
    return box


def reading_about(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    box = error(notebook, upstream)
    box.get_by_role("button", name="About this chat").click()
    box.locator(".wb-fact").first.wait_for()
    return box


def setting_up(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """The model and the system prompt of a new chat."""
    box = empty(notebook, upstream)
    box.get_by_role("button", name="About this chat").click()
    box.get_by_label("Model").wait_for()
    return box


def changing(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """The prompt of a chat that has begun."""
    notebook.outputs(notebook.run(PROMPTS))
    notebook.run("box = wb.Chat(prompt='support@1', variables={'customer': 'Ada', 'product': 'tea'}).widget()\nbox")
    box = notebook.page.locator(".wb-chat")
    upstream.script(reply(ANSWER))
    ask(box, QUESTION)
    box.locator(".wb-prompt").click()
    box.get_by_role("combobox", name="Version").select_option("latest")
    box.get_by_text("and a link to the manual").last.wait_for()  # what is shown is what is sent
    box.get_by_role("button", name="Use from the next turn on").click()
    box.locator(".wb-prompt", has_text="→").click()
    box.get_by_role("combobox", name="Version").wait_for()
    box.get_by_text("and a link to the manual").last.wait_for()
    return box


OPENED = [
    waiting,
    stopped,
    cut,
    refused,
    editing,
    choosing,
    previewing,
    counting,
    renaming,
    deleting,
    reading_about,
    setting_up,
    changing,
]
EVERY = STATES | {made.__name__: made for made in OPENED}


# --- What must hold ---------------------------------------------------------------------------------------------


def violations(box: Locator) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe  # reads half a megabyte, and only these tests need it

    found = Axe().run(box.page, context=".wb-chat", options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{v['id']}: {node['html'][:150]}" for v in found for node in v["nodes"]]


CLIPPED = """
(box) => {
  const { left, right } = box.getBoundingClientRect();
  const scrolls = "pre, input, .wb-table, .wb-preview, .wb-math-display, .wb-bar, .wb-hidden, .wb-hidden *";
  return [...box.querySelectorAll("*")].filter((element) => {
    const seen = element.getBoundingClientRect();
    if (seen.width === 0 || element.closest(scrolls)) return false;
    const { overflowX, textOverflow } = getComputedStyle(element);
    const cut = element.clientWidth > 0 && element.scrollWidth > element.clientWidth && overflowX !== "visible";
    const told = textOverflow === "ellipsis" && element.closest("[title]")?.title.includes(element.textContent);
    return seen.left < left || seen.right > right || (cut && !told);
  }).map((element) => `${element.className}: ${element.textContent.slice(0, 60)}`);
}
"""


@pytest.mark.parametrize("state", EVERY)
def test_axe_finds_nothing_and_nothing_is_clipped(
    state: str, notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    box = EVERY[state](notebook, lab_upstream)
    found = {}
    for width in WIDTHS:
        set_width(box, width)
        found[width] = box.evaluate(CLIPPED)
    for theme in THEMES:
        set_theme(notebook, theme)
        found[theme] = violations(box)

    assert found == {place: [] for place in (*WIDTHS, *THEMES)}


PLACES = """
(box) => {
  const { left: x, top: y } = box.getBoundingClientRect();
  const places = [".wb-message:last-of-type .wb-body", ".wb-message:last-of-type .wb-footer", ".wb-composer", ".wb-foot"].map((place) => {
    const { top, bottom } = box.querySelector(place).getBoundingClientRect();
    return [Math.round(top - y), Math.round(bottom - top)];
  });
  const said = document.createRange();
  said.selectNodeContents(box.querySelector(".wb-message:last-of-type :is(.wb-footer:not(:has(summary)), summary)"));
  const lines = new Set([...said.getClientRects()].filter(({ width }) => width > 0).map(({ left, top }) => top));
  const begins = [...lines].map((line) => Math.min(...[...said.getClientRects()].filter(({ top }) => top === line).map(({ left }) => left)));
  return [...places, begins.map((left) => Math.round(left - x))];
}
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_jumps_when_a_turn_ends(width: int, notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    lab_upstream.script(reply([ANSWER], usage=BILLED), reply([ANSWER, " "], usage=BILLED, pause_after=1))
    box = show_box(notebook)
    set_width(box, width)
    ask(box, QUESTION)
    answer = ask(box, QUESTION, "streaming")
    answer.get_by_text("what each part gives.").wait_for()
    answer.locator(".wb-footer", has_text="from cache").wait_for()
    before = box.evaluate(PLACES)
    lab_upstream.release()
    answer.and_(box.page.locator("[data-status=complete]")).wait_for()

    assert box.evaluate(PLACES) == before


def test_what_changes_a_chat_is_shown_where_the_pointer_or_the_focus_is(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    row = listing(notebook, lab_upstream).locator(".wb-item").first
    row.wait_for()
    seen = row.locator(".wb-facts, .wb-tool")
    opacities = "(all) => all.map((each) => Number(getComputedStyle(each).opacity))"
    assert seen.evaluate_all(opacities) == [1, 0, 0]
    row.hover()
    assert seen.evaluate_all(opacities) == [0, 1, 1]
    notebook.page.mouse.move(0, 0)
    assert seen.evaluate_all(opacities) == [1, 0, 0]
    row.locator("button").last.focus()
    assert seen.evaluate_all(opacities) == [0, 1, 1]


def test_a_box_whose_height_was_dragged_stays_as_high_and_so_is_another_view_of_it(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    box = code(notebook, lab_upstream)
    box.scroll_into_view_if_needed()
    drag_its_corner(box, -100)
    assert box.evaluate("(box) => box.offsetHeight") == 380
    lab_upstream.script(reply(ANSWER))
    ask(box, QUESTION)
    notebook.run("box")
    views = notebook.page.locator(".wb-chat")
    views.nth(1).wait_for()

    assert views.evaluate_all("(all) => all.map((each) => each.offsetHeight)") == [380, 380]
    assert notebook.value("box.height") == "'480px'"
