"""Prices before sending, and variables that go with a message: the built bundle with a fake model in place of Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.test_page import violations
from tests.browser.test_renderer import (  # noqa: F401  # fixtures
    NARROWEST,
    end,
    open_page,
    page,
    receive,
    sent,
    settle,
    shared_page,
    show,
    start,
    type_and_send,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

VARIABLES = [
    {"name": "conf", "kind": "dict", "size": "3 items"},
    {"name": "df", "kind": "DataFrame", "size": "1,000 × 3"},
    {"name": "prices", "kind": "array", "size": "12"},
]
COUNTS = [
    {"what": "input", "tokens": 100, "cost_usd": "0.0002"},
    {"what": "input from cache", "tokens": 1000, "cost_usd": "0.0001"},
    {"what": "written to cache, 5 min", "tokens": 200, "cost_usd": "0.0005"},
    {"what": "written to cache, 1 h", "tokens": 0, "cost_usd": "0"},
    {"what": "output", "tokens": 50, "cost_usd": None},
]
SUMMARY = "summary of df: 1,000 rows × 3 columns; first 5 rows and statistics of each column"

TOLD = {"message_id": "u1", "role": "user", "status": "complete", "text": "why?", "attachments": ["the plan"]}


def last(page: Page, kind: str) -> dict[str, Any]:  # noqa: F811
    """Wait until the page has asked for something new; return what it asked."""
    page.wait_for_function("(kind) => model.of(kind).some(({ seen }) => !seen)", arg=kind)
    return page.evaluate("(kind) => Object.assign(model.of(kind).at(-1), { seen: true })", kind)


def price(page: Page, **more: Any) -> None:  # noqa: F811
    """Answer the last question for an estimate."""
    told = {
        "input_tokens": 1240,
        "cached_tokens": 0,
        "reply_tokens": 300,
        "input_usd": "0.0025",
        "cost_usd": "0.0055",
        "local": False,
        "context_window": 200_000,
    }
    page.wait_for_function("() => model.of('estimate').length > 0")
    receive(page, t="estimate", c=last(page, "estimate")["c"], **(told | more))


def line(page: Page) -> str:  # noqa: F811
    estimate = page.locator(".wb-estimate")
    return estimate.locator("> :first-child").inner_text() if estimate.is_visible() else ""


def offer(page: Page) -> None:  # noqa: F811
    receive(page, t="variables", c=last(page, "variables")["c"], items=VARIABLES)


def hand_over(page: Page) -> None:  # noqa: F811
    """Answer the last question for a variable."""
    asked = last(page, "attach")
    told = {"name": asked["name"], "kind": "DataFrame", "summary": SUMMARY, "text": f"{SUMMARY}\n0 | 1", "tokens": 420}
    receive(page, t="attached", c=asked["c"], attachment="id-1", cost_usd="0.00084", **told)


def attach(page: Page) -> None:  # noqa: F811
    """Type @d, choose df, and get it."""
    page.locator(".wb-input").press_sequentially("@d")
    offer(page)
    page.keyboard.press("Enter")
    hand_over(page)


# --- Before sending ---------------------------------------------------------------------------------------------


def test_while_somebody_types_the_tokens_and_the_price_are_shown_as_an_estimate(page: Page) -> None:  # noqa: F811
    show(page)
    assert "Enter to send" in page.locator(".wb-hint").inner_text()
    page.fill(".wb-input", "why?")
    price(page)

    assert line(page) == "about 1,240 tokens · about $0.0055"
    assert not page.locator(".wb-hint").is_visible()
    assert sent(page, "estimate")[-1]["text"] == "why?"
    described = page.locator(".wb-input").get_attribute("aria-describedby")
    assert "a reply of 300 tokens" in page.locator(f"#{described}").text_content()
    page.fill(".wb-input", "")
    settle(page)
    assert line(page) == ""


def test_a_prompt_that_is_chosen_meanwhile_is_reckoned_in(page: Page) -> None:  # noqa: F811
    show(page)
    page.fill(".wb-input", "why?")
    price(page)
    page.evaluate("model.receive({ ...wb.SNAP, next_prompt: 'support@2' })")
    price(page, input_tokens=1900)

    assert line(page).startswith("about 1,900 tokens")


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"cached_tokens": 1000}, "about 1,240 tokens (1,000 from cache) · about $0.0055"),
        ({"cost_usd": None, "input_usd": None}, "about 1,240 tokens · price unknown"),
        ({"cost_usd": "0", "local": True}, "about 1,240 tokens · free"),
        ({"context_window": 1500}, "about 1,240 tokens · about $0.0055 · more than fits the context"),
    ],
)
def test_what_is_special_about_an_estimate_is_said(page: Page, told: dict[str, Any], shown: str) -> None:  # noqa: F811
    show(page)
    page.fill(".wb-input", "why?")
    price(page, **told)

    assert line(page) == shown


def test_a_kernel_that_does_not_answer_leaves_no_stale_price_and_does_not_disturb_the_input(page: Page) -> None:  # noqa: F811
    show(page)
    page.fill(".wb-input", "why?")
    price(page)
    page.evaluate("model.autoAck = false")
    page.fill(".wb-input", "why is that?")
    page.locator(".wb-estimate").wait_for(state="hidden")
    page.wait_for_timeout(2300)  # after 2 s a message that waits for its ack would say "not connected"

    assert page.locator(".wb-input").is_enabled()
    assert page.locator(".wb-chat").get_attribute("data-link") == "ready"
    assert page.locator(".wb-status").inner_text() == ""


def test_while_a_reply_runs_nothing_is_estimated_and_after_it_what_was_written_meanwhile(page: Page) -> None:  # noqa: F811
    show(page)
    type_and_send(page, "hi")
    start(page)
    page.fill(".wb-input", "and then?")
    page.wait_for_timeout(300)
    assert [q["text"] for q in sent(page, "estimate")] == []
    end(page)
    price(page)

    assert sent(page, "estimate")[-1]["text"] == "and then?"
    assert line(page).startswith("about 1,240 tokens")


# --- Afterwards -------------------------------------------------------------------------------------------------


def test_behind_the_footer_is_what_was_billed_and_the_keyboard_reaches_it(page: Page) -> None:  # noqa: F811
    show(page)
    start(page)
    end(page, counts=COUNTS, context={"used": 24_350, "window": 200_000}, budget_left_usd="0.42")
    summary = page.locator(".wb-footer summary")
    assert summary.inner_text() == "claude-sonnet-5-5 · 12 in · 34 out · $0.0004 · 1.2 s"
    summary.focus()
    page.keyboard.press("Enter")
    rows = page.locator(".wb-counts tbody tr")
    rows.first.wait_for()

    assert rows.all_inner_texts() == [
        "input\t100\t$0.0002",
        "input from cache\t1,000\t$0.0001",
        "written to cache, 5 min\t200\t$0.0005",
        "written to cache, 1 h\t0\t$0",
        "output\t50\tunknown",
    ]
    assert page.locator(".wb-context").inner_text() == "12 % of 200k context"
    assert page.locator(".wb-budget").inner_text() == "$0.42 left"


@pytest.mark.parametrize("width", [320, 480, 900])
def test_what_a_reply_cost_takes_two_lines_at_most_and_is_whole_where_it_opens(
    width: int,
    open_page: Callable[..., Page],  # noqa: F811
) -> None:
    page = open_page(width=width)  # noqa: F811
    line = "claude-sonnet-5-5 · 11,412 in + 286 out tokens · 9,200 from cache · $0.0091 · 1.5 s"
    reply = {"message_id": "m", "role": "assistant", "status": "complete", "text": "Yes."}
    show(page, snap={"messages": [{**reply, "footer": line, "counts": COUNTS}]})
    summary = page.locator(".wb-footer summary")
    short = "11,412 in + 286 out tokens · $0.0091"

    assert (summary.inner_text(), summary.text_content()) == (line if width == 900 else short, line)
    top, bottom = page.evaluate(
        "() => [document.querySelector('.wb-body').getBoundingClientRect().bottom,"
        " document.querySelector('.wb-actions').getBoundingClientRect().bottom]"
    )
    assert bottom - top < (64 if width == 320 else 40)
    assert summary.bounding_box()["y"] >= top + 8
    summary.click()
    assert summary.inner_text() == line


def test_the_context_is_told_in_tokens_where_nobody_knows_how_large_it_is(page: Page) -> None:  # noqa: F811
    show(page, snap={"context": {"used": 1650, "window": None}})

    assert page.locator(".wb-context").inner_text() == "1,650 tokens of context"


def test_a_budget_that_is_nearly_used_is_a_note_that_can_be_hidden(page: Page) -> None:  # noqa: F811
    note = "84% of your org's budget of $0.50 of this month is used; it begins anew on 1 December 2026, 00:00 UTC"
    show(page, snap={"budget_left_usd": "0.08", "budget_note": note})
    assert note in page.locator(".wb-notice").inner_text()
    page.get_by_role("button", name="Hide").click()

    page.locator(".wb-notice").wait_for(state="hidden")


# --- Attachments ------------------------------------------------------------------------------------------------


def test_a_variable_is_chosen_with_the_keyboard_shown_with_its_price_and_sent(page: Page) -> None:  # noqa: F811
    show(page)
    page.locator(".wb-input").press_sequentially("compare @")
    offer(page)
    options = page.get_by_role("option")
    assert options.all_inner_texts() == ["conf\ndict · 3 items", "df\nDataFrame · 1,000 × 3", "prices\narray · 12"]
    page.keyboard.press("ArrowDown")
    active = page.locator(".wb-input").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    page.keyboard.press("Enter")
    assert page.locator(".wb-chip").inner_text().startswith("df · reading…")
    page.keyboard.type(" by month")
    page.keyboard.press("Enter")  # what is sent is shown first
    assert sent(page, "send") == []
    hand_over(page)
    assert page.locator(".wb-chip-open").inner_text() == "df · DataFrame · about 420 tokens · about $0.0008"
    price(page)
    assert sent(page, "estimate")[-1]["attachments"] == ["id-1"]
    page.keyboard.press("Enter")
    settle(page)

    (message,) = sent(page, "send")
    assert (message["text"], message["attachments"]) == ("compare df by month", ["id-1"])
    assert page.locator(".wb-message[data-pending] .wb-attached").inner_text() == SUMMARY
    assert not page.locator(".wb-chips").is_visible()


def test_what_goes_wrong_with_variables_is_said_and_keeps_nobody_from_sending(page: Page) -> None:  # noqa: F811
    show(page)
    page.locator(".wb-input").press_sequentially("why? @d")
    wrong = {"turn": None, "error": "Chat failed", "message": "no such luck", "type": "x", "retryable": True}
    asked = last(page, "variables")["c"]
    receive(page, t="err", c=asked, **wrong)
    assert page.locator(".wb-options-note").inner_text() == "no such luck"
    receive(page, t="variables", c=asked, items=VARIABLES)
    page.keyboard.press("Enter")
    receive(page, t="err", c=last(page, "attach")["c"], **wrong)
    assert page.locator(".wb-chip").inner_text().startswith("not attached: no such luck")
    page.keyboard.press("Enter")
    settle(page)

    (message,) = sent(page, "send")
    assert (message["text"], message.get("attachments")) == ("why? df", None)


def test_after_variables_could_not_be_read_the_next_key_asks_for_them_again(page: Page) -> None:  # noqa: F811
    show(page)
    page.locator(".wb-input").press_sequentially("why? @d")
    asked = last(page, "variables")["c"]
    receive(page, t="err", c=asked, turn=None, error="Chat failed", message="no such luck", type="x", retryable=True)
    page.keyboard.press("f")
    receive(page, t="variables", c=last(page, "variables")["c"], items=VARIABLES)

    page.locator(".wb-option").first.wait_for()


def test_a_chip_opens_to_what_is_sent_and_can_be_removed(page: Page) -> None:  # noqa: F811
    show(page)
    attach(page)
    chip = page.locator(".wb-chip-open")
    chip.press("Enter")
    assert chip.get_attribute("aria-expanded") == "true"
    assert page.get_by_role("region", name="What is sent of df").inner_text() == f"{SUMMARY}\n0 | 1"
    page.get_by_role("button", name="Remove df").press("Enter")
    settle(page)

    assert page.locator(".wb-chip").count() == 0 and not page.locator(".wb-preview").is_visible()
    assert page.evaluate("document.activeElement.className") == "wb-input"


def test_the_chip_of_a_picture_opens_to_the_picture(page: Page) -> None:  # noqa: F811
    show(page)
    page.locator(".wb-input").press_sequentially("@p")
    offer(page)
    page.keyboard.press("Enter")
    told = {"name": "prices", "kind": "Figure", "summary": "prices: figure of 1 × 1 pixels", "text": "", "tokens": 1}
    gif = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    asked = last(page, "attach")["c"]
    receive(page, t="attached", c=asked, attachment="id-1", cost_usd="0", image=gif, **told)
    page.locator(".wb-chip-open").click()

    picture = page.get_by_role("img", name="prices: figure of 1 × 1 pixels")
    assert (picture.get_attribute("src"), page.locator(".wb-preview").inner_text()) == (gif, "")


def test_in_a_low_box_a_preview_gives_way_to_the_input(open_page: Callable[..., Page]) -> None:  # noqa: F811
    page = open_page({"height": "260px"})  # noqa: F811
    show(page)
    attach(page)
    page.locator(".wb-chip-open").click()
    page.evaluate("document.querySelector('.wb-preview').textContent = 'line\\n'.repeat(100)")
    box, foot = page.locator(".wb-chat").bounding_box(), page.locator(".wb-foot").bounding_box()

    assert foot["y"] + foot["height"] <= box["y"] + box["height"]
    assert page.locator(".wb-input").bounding_box()["height"] >= 22


def test_the_button_opens_the_list_and_escape_closes_it_without_stopping_anything(page: Page) -> None:  # noqa: F811
    show(page)
    page.get_by_role("button", name="Attach a variable").click()
    offer(page)
    assert page.get_by_role("listbox").is_visible()
    page.keyboard.press("Escape")

    assert not page.get_by_role("listbox").is_visible()
    assert sent(page, "stop") == []


@pytest.mark.parametrize(
    ("items", "typed", "said"),
    [([], "@", "Nothing to attach."), (VARIABLES, "@zz", "No variable of that name"), (None, "@", "asking the kernel")],
)
def test_an_empty_list_says_why(page: Page, items: list[Any] | None, typed: str, said: str) -> None:  # noqa: F811
    show(page)
    page.locator(".wb-input").press_sequentially(typed)
    if items is not None:
        receive(page, t="variables", c=last(page, "variables")["c"], items=items)

    assert page.locator(".wb-options-note").inner_text().startswith(said)


def test_an_address_with_an_at_sign_opens_no_list(page: Page) -> None:  # noqa: F811
    show(page)
    page.locator(".wb-input").press_sequentially("ada@example")

    assert sent(page, "variables") == []


def test_what_cannot_be_read_is_said_in_its_chip_and_not_sent(page: Page) -> None:  # noqa: F811
    show(page)
    page.locator(".wb-input").press_sequentially("@d")
    offer(page)
    page.keyboard.press("Enter")
    error = "df could not be read (ValueError); attach a copy of it"
    receive(page, t="attached", c=last(page, "attach")["c"], name="df", error=error)
    page.keyboard.type(" why?")
    page.keyboard.press("Enter")
    settle(page)

    assert page.locator(".wb-chip").count() == 0
    assert "attachments" not in sent(page, "send")[0]


def test_a_refused_message_gives_its_attachments_back(page: Page) -> None:  # noqa: F811
    show(page)
    attach(page)
    page.keyboard.press("Enter")
    settle(page)
    receive(page, t="err", turn=None, c=sent(page, "send")[0]["c"], error="Budget exceeded", message="no", type="x")

    assert page.locator(".wb-input").input_value() == "df"
    assert page.locator(".wb-chip-open").inner_text().startswith("df · DataFrame")


def test_an_edited_question_takes_along_what_is_attached_and_gives_it_back_when_refused(page: Page) -> None:  # noqa: F811
    show(page, snap={"messages": [TOLD]})
    page.press(".wb-input", "ArrowUp")
    page.keyboard.type(" ")
    attach(page)
    page.keyboard.press("Enter")
    settle(page)
    asked = sent(page, "edit")[0]
    shown = page.locator("[data-role=user]").inner_text()
    receive(page, t="err", turn=None, c=asked["c"], error="Budget exceeded", message="no", type="x")

    assert (asked["text"], asked["attachments"]) == ("why? df", ["id-1"])
    assert "the plan" in shown and SUMMARY in shown
    assert page.locator(".wb-input").input_value() == "why? df"
    assert page.locator(".wb-chip").count() == 1


def test_while_a_question_is_edited_the_price_is_asked_of_what_is_sent_in_its_place(page: Page) -> None:  # noqa: F811
    show(page, snap={"messages": [TOLD]})
    page.press(".wb-input", "ArrowUp")
    price(page)
    page.keyboard.press("Escape")
    page.keyboard.type("why?")
    price(page)

    assert [(asked["text"], asked["edit_of"]) for asked in sent(page, "estimate")] == [("why?", "u1"), ("why?", None)]


def test_each_chat_has_its_own_attachments_and_prices(page: Page) -> None:  # noqa: F811
    show(page)
    attach(page)
    price(page)
    page.wait_for_selector(".wb-estimate > *")
    receive(page, **page.evaluate("() => ({ ...wb.SNAP, chat_id: 'c2' })"))
    assert (page.locator(".wb-chip").count(), line(page), page.locator(".wb-input").input_value()) == (0, "", "")

    receive(page, **page.evaluate("() => wb.SNAP"))
    assert (page.locator(".wb-chip").count(), page.locator(".wb-input").input_value()) == (1, "df")


def test_going_on_with_a_reply_leaves_the_draft_and_its_attachments(page: Page) -> None:  # noqa: F811
    cut = {"message_id": "a1", "role": "assistant", "status": "complete", "text": "One", "stop_reason": "max_tokens"}
    show(page, snap={"messages": [TOLD, cut]})
    attach(page)
    page.click(".wb-continue")
    settle(page)

    assert "attachments" not in sent(page, "send")[0]
    assert page.locator(".wb-chip").count() == 1


def test_attachments_outlive_a_view_that_is_drawn_anew(page: Page) -> None:  # noqa: F811
    show(page)
    attach(page)
    page.evaluate("model.close()")
    show(page)

    assert page.locator(".wb-chip-open").last.inner_text().startswith("df · DataFrame")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROWEST, 900])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(
    open_page: Callable[..., Page],  # noqa: F811
    scheme: str,
    width: int,
) -> None:
    page = open_page({"height": "640px"}, width=width, color_scheme=scheme)  # noqa: F811
    page.evaluate(
        """(scheme) => {
          document.documentElement.lang = "en";
          document.title = "Chat";
          document.body.style.background = scheme === "dark" ? "#111" : "#fff";
        }""",
        scheme,
    )
    asked = {"message_id": "u", "role": "user", "status": "complete", "text": "why?", "attachments": [SUMMARY]}
    show(page, snap={"messages": [asked], "budget_note": "84% of it is used", "budget_left_usd": "0.08"})
    start(page)
    end(page, counts=COUNTS, context={"used": 190_000, "window": 200_000}, budget_note="84% of it is used")
    page.locator(".wb-footer summary").click()
    attach(page)
    page.locator(".wb-chip-open").click()
    page.locator(".wb-input").press_sequentially(" and @")
    price(page)
    offer(page)
    outside = ["region", "landmark-one-main", "page-has-heading-one"]  # of the page around the box, which is empty here

    assert [found for found in violations(page) if found.partition(":")[0] not in outside] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
