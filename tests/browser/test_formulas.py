"""Formulas in replies: what is one, how it is drawn, and what hostile TeX cannot do."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.browser.test_renderer import STATIC, delta, end, new_page, one_message, show, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def shared_page(browser: Browser) -> Iterator[Page]:
    page = new_page(browser, {})
    page.evaluate("(math) => { window.assets = { 'math.js': math } }", (STATIC / "math.js").read_text())
    yield page
    page.context.close()


@pytest.fixture
def page(shared_page: Page) -> Iterator[Page]:
    """A page whose kernel hands out what draws formulas."""
    yield shared_page
    assert shared_page.failures == []
    assert [url for url in shared_page.requested if not url.startswith("blob:")] == []
    shared_page.evaluate("wb.clear()")


def drawn(page: Page, text: str) -> list[str]:
    """Show a reply that surely has a formula; return the text of its formulas but that one, spaces left out."""
    one_message(page, text + "\n\nand $w$")
    page.locator(".wb-math").last.wait_for()
    return ["".join(formula.split()) for formula in page.locator(".wb-math math").all_text_contents()][:-1]


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("where $x^2$ is", ["x2"]),
        ("where \\(x+1\\) is", ["x+1"]),
        ("$$\na = b\n$$", ["a=b"]),
        ("\\[\na = b\n\\]", ["a=b"]),
        ("so\n$$a = b$$\nand", ["a=b"]),
        ("in a line \\[ y \\] and $$z$$.", ["y", "z"]),
        ("- item $a_1$\n- other\n  $$\n  c\n  $$", ["a1", "c"]),
        ("| $a$ | b |\n|---|---|\n| 1 | $c$ |", ["a", "c"]),
        ("**bold $k$**, ($m$), $n$-th", ["k", "m", "n"]),
        ("$$\n- a\n+ b\n= c\n$$", ["−a+b=c"]),
    ],
)  # fmt: skip
def test_formulas_are_drawn(page: Page, text: str, formulas: list[str]) -> None:
    assert drawn(page, text) == formulas


@pytest.mark.parametrize(
    "text",
    [
        "it costs $5 and $6",
        "from $5-$10, or $1,000.50 and US$20",
        "It costs $5. The other one costs 6$.",
        "echo $HOME and $PATH, or $HOME/$USER",
        "a \\$5 fee and a \\$6 fee",
        "`$x$` and ``\\(y\\)``",
        "```\n$$\nx\n$$\n```",
        "    $x$ indented",
        "a $ alone, $ twice $ three",
        "$5",
        "nothing: $$ $$ and \\(\\)",
        "$$\nnever closed",
        "$$\nended by a blank line\n\n$$ x",
    ],
)
def test_money_code_and_what_is_not_closed_are_no_formulas(page: Page, text: str) -> None:
    assert drawn(page, text) == []
    shown = page.inner_text(".wb-md")
    assert shown.count("$") == text.count("$")


def test_a_display_formula_stands_by_itself_and_scrolls_when_it_is_wide(page: Page) -> None:
    one_message(page, "$$\n" + "+".join("abcdefghij" * 20) + "\n$$")
    page.locator(".wb-math-display").wait_for()
    box = page.locator(".wb-math-display").evaluate("e => [e.scrollWidth > e.clientWidth, getComputedStyle(e).display]")
    assert box == [True, "block"]
    assert page.evaluate("(e => e.scrollWidth - e.clientWidth)(document.querySelector('.wb-log'))") == 0


def test_a_formula_is_drawn_when_it_is_closed_while_the_reply_streams(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "First $$\\frac{a}{b}")
    assert page.locator(".wb-math").count() == 0
    delta(page, "$$ then\n\n\\[\n\\sum_{i} i\n- 1")
    page.locator(".wb-math mfrac").wait_for()
    assert page.locator(".wb-math").count() == 1
    assert page.locator(".wb-md ul").count() == 0
    delta(page, "\n\\]\n\nEnd.")
    page.locator(".wb-math munder, .wb-math msub").first.wait_for()
    end(page)
    assert page.locator(".wb-math").count() == 2


def test_a_reply_that_streamed_has_no_more_formulas_than_one_at_once(page: Page) -> None:
    text = ("$a$ " * 300 + "\n\n") * 2
    one_message(page, text + "end.")
    page.locator(".wb-math").last.wait_for()
    assert page.locator(".wb-math").count() == 500

    show(page)
    start(page)
    delta(page, text)
    delta(page, "end.\n")
    assert (
        page.evaluate("wb.body(model).querySelectorAll('.wb-math').length") == 600
    )  # bounded by what is read in one go
    end(page)
    assert page.evaluate("wb.body(model).querySelectorAll('.wb-math').length") == 500


def test_it_is_asked_for_once_and_only_when_there_is_a_formula(browser: Browser) -> None:
    page = new_page(browser, {})
    try:
        show(page, snap={"messages": [{"message_id": "m", "role": "assistant", "status": "complete", "text": "$5 no"}]})
        assert page.evaluate("model.of('asset')") == []
        one_message(page, "$x$ and $y$")
        assert [m["name"] for m in page.evaluate("model.of('asset')")] == ["math.js"]
        # until it comes, and if it never does, the TeX is there
        assert page.locator("code.wb-tex").all_text_contents() == ["x", "y"]
        assert page.locator(".wb-tex").first.is_visible()
        page.evaluate(
            "(math) => model.receive({ t: 'asset', name: 'math.js' }, [new TextEncoder().encode(math)])",
            (STATIC / "math.js").read_text(),
        )
        page.locator(".wb-math").nth(1).wait_for()
        one_message(page, "$z$")
        page.locator(".wb-math", has_text="z").wait_for()
        assert page.evaluate("model.of('asset')") == []
        assert page.failures == []
    finally:
        page.context.close()


@pytest.mark.parametrize("asked", [False, True])
def test_it_is_asked_for_by_a_view_that_is_there(asked: bool, browser: Browser) -> None:
    page = new_page(browser, {})
    try:
        show(page)
        page.evaluate("window.stays = model")
        one_message(page, "$x$" if asked else "no formula")  # nobody answers
        page.evaluate("(math) => { window.assets = { 'math.js': math } }", (STATIC / "math.js").read_text())
        page.evaluate("() => { model.close(); model.el.remove() }")
        message = {"message_id": "m", "role": "assistant", "status": "complete", "text": "$z$"}
        page.evaluate("(messages) => stays.receive({ ...wb.SNAP, messages })", [message])

        page.locator(".wb-math", has_text="z").wait_for()
        assert page.failures == []
    finally:
        page.context.close()


# --- Hostile TeX ------------------------------------------------------------------------------------------------

HOSTILE = {
    "link": "\\href{javascript:window.__pwn=1}{x} \\url{https://evil.example/u}",
    "image": "\\includegraphics[width=9em]{https://evil.example/i.png}",
    "attributes": "\\htmlData{onclick=window.__pwn=1}{x} \\htmlId{model}{x} \\htmlClass{wb-stop}{x} \\htmlStyle{position:fixed}{x}",
    "temml's attributes": "\\class{wb-stop}{x} \\id{model}{x} \\style{position:fixed;inset:0}{x} \\data{a=b}{x}",
    "huge rule": "\\rule{100000em}{100000em}",
    "far away": "\\kern-1000em x \\raisebox{-1000em}{y} \\mathllap{z} \\hspace{-1000em} w",
    "colour": "\\color{red;position:fixed}{x} \\colorbox{url(https://evil.example/c)}{x} \\textcolor{\"onload=window.__pwn=1}{x}",
    "markup in text": "\\text{<img src=x onerror=window.__pwn=1>} \\text{</mtext><script>window.__pwn=1</script>}",
    "annotation": "\\text{<annotation-xml encoding='text/html'><img src=x onerror=window.__pwn=1></annotation-xml>}",
    "macro bomb": "\\def\\a{xx}\\def\\b{\\a\\a\\a\\a\\a\\a}\\def\\c{\\b\\b\\b\\b\\b\\b}\\def\\d{\\c\\c\\c\\c\\c\\c}\\def\\e{\\d\\d\\d\\d\\d\\d}\\e\\e\\e\\e",
    "endless macro": "\\def\\x{\\x\\x}\\x",
    "deep": "\\sqrt{" * 300 + "x" + "}" * 300,
    "deep and open": "{" * 1500,
    "global macro": "\\gdef\\sum{\\text{gone}} \\global\\def\\frac{x}",
}  # fmt: skip

FOREIGN_MATH = """
() => {
  const found = [];
  for (const element of document.querySelectorAll(".wb-math *")) {
    if (element.namespaceURI !== "http://www.w3.org/1998/Math/MathML") found.push(element.tagName);
    for (const { name, value } of element.attributes) {
      if (/^(on|href|src|id$|name$|style$|data)/.test(name)) found.push(`${name}=${value}`);
      if (name === "class" && !value.split(" ").every((each) => each.startsWith("tml-"))) found.push(value);
    }
    const { right, bottom, left, top } = element.getBoundingClientRect();
    if (right - left > 1000 || bottom - top > 1000) found.push(`${element.tagName} ${right - left} by ${bottom - top}`);
  }
  return found;
}
"""


@pytest.mark.parametrize("tex", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_tex_does_nothing(page: Page, tex: str) -> None:
    requested = len(page.requested)
    seconds = page.evaluate(
        """async (text) => {
          const began = performance.now();
          wb.show({ snap: { messages: [{ message_id: "m", role: "assistant", status: "complete", text }] } });
          await wb.frame();
          return (performance.now() - began) / 1000;
        }""",
        f"Look: ${tex}$ and\n\n$$\n{tex}\n$$\n\nand $w$",
    )
    page.locator(".wb-math", has_text="w").last.wait_for()

    assert page.evaluate(FOREIGN_MATH) == []
    assert page.evaluate("typeof window.__pwn") == "undefined"
    assert [url for url in page.requested[requested:] if not url.startswith("blob:")] == []
    assert page.locator(".wb-math a, .wb-math img, .wb-math script, .wb-math svg").count() == 0
    assert seconds < 5


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("tex", ["\\frac{n_{empty}}{n}", "\\dfrac{1}{n}", "\\frac{n}{1+\\frac{2}{7}}"])
def test_the_bar_of_a_fraction_strikes_nothing_through(browser: Browser, tex: str, scale: int) -> None:
    page = new_page(browser, {}, device_scale_factor=scale)
    page.evaluate("(math) => { window.assets = { 'math.js': math } }", (STATIC / "math.js").read_text())
    one_message(page, f"${tex}$")
    picture = Image.open(BytesIO(page.locator(".wb-math mfrac").first.screenshot())).convert("L")
    page.context.close()
    rows = [sum(255 - picture.getpixel((x, y)) for x in range(picture.width)) for y in range(picture.height)]
    bar = [y for y, ink in enumerate(rows) if ink == max(rows)]

    assert len(bar) == scale
    assert rows[bar[0] - 1] == rows[bar[-1] + 1] == 0  # nothing but ground above and below it


def test_a_macro_ends_with_its_formula(page: Page) -> None:
    assert drawn(page, "$\\gdef\\z{gone}\\z$ and $\\z$") == ["gone"]
    assert page.locator("code.wb-tex").all_text_contents() == ["\\z"]
