"""The built bundle in a real browser, with a fake model in place of the kernel."""

from __future__ import annotations

import json
import random
import re
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.browser.attacks import ATTACKS, PWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Locator, Page

STATIC = Path(__file__).parents[2] / "workbench" / "notebook" / "static"
HARNESS = (Path(__file__).parent / "renderer" / "harness.js").read_text()
NARROWEST = 320


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page of its own with the bundle loaded."""
    pages = []

    def open_page(traits: dict[str, Any] | None = None, **options: Any) -> Page:
        pages.append(new_page(browser, traits or {}, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()
        assert page.failures == []


@pytest.fixture(scope="module")
def shared_page(browser: Browser) -> Iterator[Page]:
    page = new_page(browser, {})
    yield page
    page.context.close()


@pytest.fixture
def page(shared_page: Page) -> Iterator[Page]:
    """A page with the bundle loaded and nothing shown yet."""
    yield shared_page
    assert shared_page.failures == []
    shared_page.evaluate("wb.clear()")


def new_page(browser: Browser, traits: dict[str, Any], width: int = 800, **options: Any) -> Page:
    """Open a page whose exceptions are kept in `failures` and whose requests are aborted and kept in `requested`."""
    context = browser.new_context(viewport={"width": width, "height": 700}, **options)
    page = context.new_page()
    page.failures = []
    page.requested = []
    page.on("pageerror", lambda error: page.failures.append(str(error)))
    page.route("**/*", lambda route: route.abort())
    context.on("request", lambda request: page.requested.append(request.url))
    load(page, traits)
    return page


def load(page: Page, traits: dict[str, Any]) -> None:
    page.evaluate(
        HARNESS,
        {"source": (STATIC / "chat.js").read_text(), "css": (STATIC / "chat.css").read_text(), "traits": traits},
    )
    page.requested[:] = [url for url in page.requested if not url.startswith("blob:")]  # the bundle itself


def show(page: Page, **options: Any) -> None:
    page.evaluate("(options) => { wb.show(options) }", options)
    settle(page)


def settle(page: Page) -> None:
    """Wait until everything received so far is on the screen."""
    page.evaluate("wb.frame()")


def receive(page: Page, **message: Any) -> None:
    page.evaluate("(message) => model.receive(message)", message)
    settle(page)


def sent(page: Page, kind: str) -> list[dict[str, Any]]:
    return page.evaluate("(kind) => model.of(kind)", kind)


def type_and_send(page: Page, text: str) -> None:
    page.fill(".wb-input", text)
    page.press(".wb-input", "Enter")
    settle(page)


def start(page: Page, text: str = "hi") -> None:
    page.evaluate("(text) => { window.turn = wb.start(model, text) }", text)
    settle(page)


def delta(page: Page, text: str, kind: str = "text") -> None:
    page.evaluate("([text, kind]) => turn.delta(text, kind)", [text, kind])
    settle(page)


def end(page: Page, **more: Any) -> None:
    page.evaluate("(more) => turn.end(more)", more)
    settle(page)


def stop_the_clock(page: Page) -> None:
    """Let time pass only when a test says so: an installed clock alone goes on with the real one."""
    page.clock.install(time=0)
    page.clock.pause_at(1000)


def visible(page: Page, selector: str) -> bool:
    return page.locator(selector).is_visible()


# --- Markdown ---------------------------------------------------------------------------------------------------

FRAGMENTS = [
    "# Heading\n",
    "## Heading *two*\n\n",
    "Setext one\n==========\n",
    "Setext two\n---\n\n",
    "plain words on a line\n",
    "a paragraph\nof two lines\n\n",
    "- one\n- two\n",
    "- one\n  - nested\n    - deeper\n- two\n\n",
    "* loose\n\n* list\n\n",
    "1. first\n2. second\n   continued\n",
    "3. third\n\n   with a paragraph\n\n",
    "- [ ] to do\n- [x] done\n\n",
    "1. a\n   - b\n     1. c\n\n",
    "| a | b |\n|---|--:|\n| 1 | 2 |\n",
    "| x |\n|:-:|\n| `y` |\n| z |\n\n",
    "```python\ndef f():\n    return 1\n```\n",
    "```\nno language\n\nwith a gap\n```\n\n",
    "~~~sql\nSELECT 1;\n~~~\n\n",
    "~~~\n```\ninner\n```\n~~~\n",
    "````md\n```\nnested fence\n```\n````\n",
    "> a quote\n> over two lines\n",
    "> quote\n>\n> - with a list\n\n",
    "> lazy\ncontinuation\n\n",
    "    indented code\n    more\n\n",
    "<div>raw **html**</div>\n",
    "<b>inline</b> html and <br> a break\n\n",
    "<!-- a comment -->\n\n",
    "[ref]: https://example.org 'Title'\n\n",
    "see [ref] and [text][ref]\n",
    "* * *\n",
    "---\n\n",
    "an `unclosed backtick\n",
    "some **bold** and _em_ and ~~gone~~\n",
    "https://example.org/bare and <https://example.org/angle>\n\n",
    "a [link](https://example.org \"t\") and ![image](https://example.org/i.png)\n",
    "hard  \nbreak\\\nhere\n\n",
    "$$\nx^2\n- y\n$$\n\n",
    "so $a_1$ and \\(b\\) for $5 and $6\n",
    "\\[\n# c\n= d\n\\]\n",
    "$$ left open\n- so\n\n",
    "\n",
    "\n\n",
]  # fmt: skip

# What a reader sees, whichever way it was built: no tail box, no colours, one space for many.
NORMALISED = """
(body) => {
  const copy = body.cloneNode(true);
  for (const tail of copy.querySelectorAll(".wb-tail, pre code span")) tail.replaceWith(...tail.childNodes);
  return copy.innerHTML.replace(/\\s+/g, " ").replaceAll("> <", "><").trim();
}
"""

FUZZ = """
([documents, cuts]) => {
  // paint when told to, not 60 times a second
  let due = [];
  window.requestAnimationFrame = (callback) => due.push(callback);
  const paint = () => due.splice(0).forEach((callback) => callback());
  const normalised = NORMALISED;
  return documents.map((source, n) => {
    const streamed = wb.show({ attached: false }); // no layout: only the DOM is compared
    const turn = wb.start(streamed);
    const sizes = cuts[n];
    for (let at = 0, i = 0; at < source.length; i++) {
      const size = sizes[i % sizes.length];
      turn.delta(source.slice(at, at + size));
      at += size;
      paint();
    }
    const before = normalised(wb.body(streamed));
    turn.end();
    paint();
    const after = normalised(wb.body(streamed));
    const whole = wb.show({ attached: false, snap: { messages: [{ message_id: "m", role: "assistant", status: "complete", text: source }] } });
    paint();
    const oneShot = normalised(wb.body(whole));
    for (const model of [streamed, whole]) { model.close(); model.el.remove(); }
    return { before, after, oneShot };
  });
}
""".replace("NORMALISED", NORMALISED)


def test_markdown_in_pieces_looks_like_markdown_at_once(open_page: Callable[..., Page]) -> None:
    page = open_page()
    rng = random.Random(20261123)
    documents = ["".join(rng.choices(FRAGMENTS, k=rng.randint(3, 12))) + "end." for _ in range(2000)]
    # a quarter arrives in small pieces, as models write; the rest in what a batch may hold
    cuts = [[rng.randint(1, rng.choice((6, 40, 40, 40))) for _ in range(n)] for n in rng.choices((7, 19, 31), k=2000)]

    rendered = page.evaluate(FUZZ, [documents, cuts])

    unlike = [(d, r) for d, r in zip(documents, rendered, strict=True) if r["before"] != r["oneShot"]]
    # a reference used before its definition is the one thing that must change afterwards; below a line of text what
    # looks like a definition is a use
    assert [(d, r) for d, r in unlike if not re.search(r"\[ref\](?!:)|[^\n]\n\[ref\]:", d)] == []
    assert len(unlike) < len(documents) * 0.05
    assert [d for d, r in zip(documents, rendered, strict=True) if r["after"] != r["oneShot"]] == []
    assert len({r["oneShot"] for r in rendered}) > 1950  # it did render something


def one_message(page: Page, text: str) -> None:
    show(page, snap={"messages": [{"message_id": "m", "role": "assistant", "status": "complete", "text": text}]})


def test_closed_code_is_highlighted_and_copied_whole(page: Page) -> None:
    one_message(page, "```python\ndef f():\n    return '<b>'\n```\n\nand\n\n```nonsense\nx\n```")

    assert page.locator(".wb-code").nth(0).locator(".hljs-keyword").all_text_contents() == ["def", "return"]
    assert page.locator(".wb-code").nth(1).locator("[class^=hljs]").count() == 0
    assert page.locator(".wb-code-lang").all_text_contents() == ["python", "nonsense"]

    page.evaluate("navigator.clipboard ??= {}; navigator.clipboard.writeText = async (t) => { window.copied = t }")
    page.locator(".wb-copy").first.click()
    assert page.evaluate("copied") == "def f():\n    return '<b>'"
    assert page.locator(".wb-copy").first.text_content() == "Copied"


IN_NOTEBOOK = {"widget_manager": {"context": {"model": {"cells": [], "sharedModel": {"cells": []}}}}}


def test_code_that_is_python_or_unnamed_can_be_inserted_and_no_other(page: Page) -> None:
    python = ["python", "Python3", "py", "ipython", "", "python,ignore", 'python title="a"', "python:a.py", "{python}"]
    others = ["sql", "bash", "pycon", "pythonic", "rust,no_run", "{r}", "r:a.R", "língua", "x" * 25, "=html"]
    languages = [*python, *others]
    text = "\n\n".join(f"```{language}\ncode of {language}\n```" for language in languages)
    snap = {"messages": [{"message_id": "m", "role": "assistant", "status": "complete", "text": text}]}
    show(page, snap=snap, **IN_NOTEBOOK)
    heads = page.locator(".wb-code-head:has(.wb-insert) .wb-code-lang").all_text_contents()
    assert heads == ["python", "Python3", "py", "ipython", "text", *["python"] * 4]
    assert page.get_by_role("button", name="Copy").count() == len(languages) + 1  # and the whole reply

    one_message(page, text)  # where no notebook can be reached
    assert page.locator(".wb-chat").nth(1).locator(".wb-insert").count() == 0


def test_code_is_inserted_once_whole_and_the_button_says_so(open_page: Callable[..., Page]) -> None:
    page = open_page()
    stop_the_clock(page)
    page.evaluate("(options) => { wb.show(options) }", IN_NOTEBOOK)
    page.evaluate(
        """() => {
          window.inserted = [];
          model.widget_manager.context.model.sharedModel.insertCell = (at, { source }) => inserted.push(source);
        }"""
    )
    page.evaluate("window.turn = wb.start(model)")
    page.evaluate("turn.delta('```python\\n%%bash\\nrm -r ')")
    page.clock.run_for(100)
    insert = page.get_by_role("button", name="Insert below")
    assert insert.is_disabled()
    page.evaluate("turn.delta('</script>\\n```\\n\\nDone.\\n')")
    page.clock.run_for(100)
    insert.dblclick()
    page.clock.run_for(1000)  # nobody here says the widget's id, which is waited for
    said = page.locator(".wb-insert")
    assert (page.evaluate("inserted"), said.text_content()) == (["%%bash\nrm -r </script>"], "Inserted")
    assert said.evaluate("button => button === document.activeElement")
    said.press("Enter")
    page.clock.run_for(3000)
    assert (len(page.evaluate("inserted")), said.text_content()) == (2, "Insert below")


def test_closed_code_is_highlighted_as_soon_as_something_follows(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "```python\nimport os\n```\n\nT")
    assert page.locator(".wb-code .hljs-keyword").all_text_contents() == ["import"]


def test_open_code_is_not_highlighted_yet(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "```python\ndef f():\n")
    assert page.locator(".hljs-keyword").count() == 0
    delta(page, "    pass\n```\n\nDone.\n")
    assert page.locator(".hljs-keyword").count() == 2


def test_finished_blocks_are_left_alone(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "First paragraph.\n\nSecond paragraph.\n\n")
    page.evaluate("window.first = document.querySelector('.wb-md p')")
    delta(page, "Third *paragraph*.")
    end(page)
    assert page.evaluate("first === document.querySelector('.wb-md p') && first.isConnected")


def test_what_is_still_written_grows_where_it_is(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "Some **bold** wor")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.wb-md strong'))")
    delta(page, "ds, and `co")
    delta(page, "de` too.")
    assert page.inner_text(".wb-md") == "Some bold words, and code too."
    assert page.evaluate("getSelection().toString()") == "bold"

    delta(page, "\n\n```text\n" + "wide " * 100 + "\n")
    page.evaluate("() => { document.querySelector('.wb-md pre').scrollLeft = 50 }")
    delta(page, "and more\n")
    assert page.evaluate("document.querySelector('.wb-md pre').scrollLeft") == 50
    assert page.locator(".wb-md pre").text_content().endswith("wide \nand more\n")


def test_a_block_stays_where_it_is_when_it_ends(page: Page) -> None:
    show(page)
    start(page)
    places = """
    (selector) => [...document.querySelectorAll(selector)].map(
      (e) => e.getBoundingClientRect().y + document.querySelector(".wb-log").scrollTop)
    """
    for block in ["- one\n- two\n  - three", "1. a\n\n2. b", "> quote\n>\n> - list", "| a |\n|---|\n| 1 |", "## Head"]:
        delta(page, f"{block}\n\nW")
        tail = page.evaluate(places, ".wb-tail *")
        assert len(tail) > 1
        delta(page, "ords.\n\nMore.\n")  # what was open is finished
        assert set(tail) <= set(page.evaluate(places, ".wb-md > :not(.wb-tail), .wb-md > :not(.wb-tail) *"))
        delta(page, "\n")


def test_tables_keep_their_alignment_and_links_open_elsewhere(page: Page) -> None:
    one_message(
        page, "| a | n |\n|---|--:|\n| x | 1 |\n\n[link](https://example.org/x) ![pic](https://example.org/y.png)"
    )
    assert page.locator(".wb-table td").nth(1).evaluate("td => getComputedStyle(td).textAlign") == "right"
    links = page.locator(".wb-md a").evaluate_all("all => all.map(a => [a.textContent, a.href, a.target, a.rel])")
    assert links == [
        ["link", "https://example.org/x", "_blank", "noopener noreferrer"],
        ["[image: pic]", "https://example.org/y.png", "_blank", "noopener noreferrer"],
    ]


# --- Hostile output ---------------------------------------------------------------------------------------------

STREAM_CHARACTERS = """
([attack]) => {
  const model = wb.show();
  const turn = wb.start(model);
  for (const character of attack) {
    turn.delta(character);
    due.splice(0).forEach((callback) => callback());
  }
  return turn;
}
"""

FOREIGN = """
() => {
  const tags = new Set("P BR HR H1 H2 H3 H4 H5 H6 STRONG EM DEL A CODE PRE BLOCKQUOTE UL OL LI TABLE THEAD TBODY TR TH TD DIV SPAN BUTTON".split(" "));
  const names = new Set(["href", "target", "rel", "title", "align", "start", "data-lang", "data-tex", "tabindex", "class", "type"]);
  const classes = /^(wb-tail|wb-plain|wb-table|wb-code|wb-code-head|wb-code-lang|wb-copy|wb-tex|hljs-[\\w-]+|[a-z]+_|language-\\w+)$/;
  const found = [];
  for (const element of document.querySelectorAll(".wb-md *")) {
    if (!tags.has(element.tagName)) found.push(element.tagName);
    for (const { name, value } of element.attributes) {
      if (!names.has(name)) found.push(`${element.tagName} ${name}=${value}`);
      if (name === "href" && !/^(https?|mailto):/i.test(value)) found.push(value);
      if (name === "title" && value !== element.href) found.push(`title=${value}`);
    }
    for (const name of element.classList) if (!classes.test(name)) found.push(`class ${name}`);
  }
  for (const button of document.querySelectorAll(".wb-md button")) if (!button.closest(".wb-code-head")) found.push("button");
  return found;
}
"""


# Where an element is, and whether it could be over what is not its own.
ESCAPES = """
() => {
  const found = [];
  const log = document.querySelector(".wb-log").getBoundingClientRect();
  for (const element of document.querySelectorAll(".wb-md, .wb-md *")) {
    const { position, zIndex, float, animationName, transform } = getComputedStyle(element);
    if (!["static", "relative"].includes(position) || zIndex !== "auto") found.push(`${element.tagName} ${position} ${zIndex}`);
    if (animationName !== "none" || transform !== "none" || float !== "none") found.push(`${element.tagName} moves`);
  }
  const { left, top } = document.getElementById("outside").getBoundingClientRect();
  if (document.elementFromPoint(left + 1, top + 1)?.id !== "outside") found.push("something is over the page");
  for (const name of ["body", "#outside", ".wb-chat", ".wb-input", ".wb-send"])
    found.push(JSON.stringify([name, [...getComputedStyle(document.querySelector(name))].map((key) => getComputedStyle(document.querySelector(name))[key])]));
  found.push(JSON.stringify([document.querySelector(".wb-chat").offsetHeight, document.documentElement.scrollWidth, typeof document.getElementById]));
  return found;
}
"""


def test_hostile_replies_run_nothing_load_nothing_and_stay_in_the_box(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.evaluate("() => { window.due = []; window.requestAnimationFrame = (callback) => due.push(callback) }")
    page.evaluate("() => document.body.insertAdjacentHTML('afterbegin', '<p id=outside>Outside</p>')")
    paint = "due.splice(0).forEach((callback) => callback())"
    page.evaluate(f"() => {{ wb.show(); {paint} }}")
    untouched = page.evaluate(ESCAPES)
    page.evaluate("() => { model.close(); model.el.remove() }")
    found = {}
    for name, attack in ATTACKS.items():
        page.evaluate(f"(attack) => {{ const turn = ({STREAM_CHARACTERS})(attack); window.turn = turn }}", [attack])
        streamed = page.evaluate(FOREIGN)
        page.evaluate(f"() => {{ turn.end(); {paint} }}")
        ended = page.evaluate(FOREIGN) + [what for what in page.evaluate(ESCAPES) if what not in untouched]
        page.evaluate(
            "() => document.querySelectorAll('.wb-md a').forEach((a) => a.dispatchEvent(new Event('mouseover')))"
        )
        page.evaluate("() => { model.close(); model.el.remove() }")
        page.evaluate(
            f"(text) => {{ const m = {{ message_id: 'm', role: 'assistant', status: 'complete', text }};"
            f" wb.show({{ snap: {{ messages: [m] }} }}); {paint} }}",
            attack,
        )
        whole = page.evaluate(FOREIGN) + [what for what in page.evaluate(ESCAPES) if what not in untouched]
        page.evaluate("() => { model.close(); model.el.remove() }")
        found[name] = streamed + ended + whole
    page.wait_for_timeout(300)  # what was set off would have asked for its address by now

    assert {name: what for name, what in found.items() if what} == {}
    assert page.evaluate("typeof window.__pwn") == "undefined"
    assert page.requested == []
    assert page.url == "about:blank"


def test_a_link_that_names_another_place_than_it_leads_to_says_where(page: Page) -> None:
    one_message(
        page,
        "[https://bank.example](https://evil.example/x) [bank.example/login](https://evil.example) "
        "[https://b\u0430nk.example](https://b\u0430nk.example/) [\u202emoc.knab](https://evil.example) "
        "[the bank](https://evil.example) [bank.example](https://www.bank.example/a) https://bank.example/y",
    )
    assert page.locator(".wb-md a").all_inner_texts() == [
        "https://bank.example (evil.example)",
        "bank.example/login (evil.example)",
        "https://b\u0430nk.example (xn--bnk-6cd.example)",
        "\u202emoc.knab (evil.example)",
        "the bank",
        "bank.example",
        "https://bank.example/y",
    ]


@pytest.mark.parametrize("at_once", [False, True], ids=["in pieces", "at once"])
def test_a_line_of_a_megabyte_keeps_the_page_alive(page: Page, at_once: bool) -> None:
    show(page)
    longest = page.evaluate(
        """async (atOnce) => {
          const text = "lorem ipsum <b>&amp; **x** ".repeat(40_000).slice(0, 1_000_000);
          const gaps = [];
          let last = performance.now();
          let going = true;
          const probe = () => { const now = performance.now(); gaps.push(now - last); last = now; if (going) requestAnimationFrame(probe); };
          requestAnimationFrame(probe);
          const turn = wb.start(model);
          const size = atOnce ? text.length : 16_000;
          for (let at = 0; at < text.length; at += size) { turn.delta(text.slice(at, at + size)); await wb.frame(); }
          turn.end();
          await wb.frame();
          await wb.frame();
          going = false;
          return Math.max(...gaps);
        }""",
        at_once,
    )
    assert longest < 1000  # 30 to 90 ms, measured on two cores
    assert page.locator(".wb-md").evaluate("e => e.textContent.length") == 1_000_000
    assert page.locator(".wb-md strong").count() == 0


def test_hostile_names_stay_text_everywhere_else(page: Page) -> None:
    hostile = f'<img src=x onerror="{PWN}">'
    messages = [
        {"message_id": hostile, "role": "user", "status": "complete", "text": hostile},
        {"message_id": "m", "role": "assistant", "status": "failed", "text": "x", "footer": hostile},
    ]
    show(page, snap={"title": hostile, "model": hostile, "messages": messages})
    receive(page, t="err", turn=None, error=hostile, message=hostile, type="x", retryable=False)
    assert page.locator(".wb-chat img").count() == 0
    assert page.locator(".wb-message[data-role=user] .wb-body").text_content() == hostile
    assert page.evaluate("typeof window.__pwn") == "undefined"


@pytest.mark.parametrize(
    "text",
    ["x" * 60_000, "[" * 8_000, "> " * 6_000 + "x", "*a " * 6_000, "[" * 400 + "x" + "](https://a.example)" * 400, "\n".join("  " * n + "- x" for n in range(150)), "$" * 8_000, "```\n" + "long line " * 5_000, "|a" * 4_000],
    ids=["one word", "brackets", "nested quotes", "stars", "nested links", "nested lists", "dollars", "open code", "pipes"],
)  # fmt: skip
def test_pathological_text_neither_hangs_nor_widens_the_chat(page: Page, text: str) -> None:
    show(page)
    seconds = page.evaluate(
        """async (text) => {
          const began = performance.now();
          window.turn = wb.start(model);
          for (let at = 0; at < text.length; at += 4000) { turn.delta(text.slice(at, at + 4000)); await wb.frame(); }
          turn.end();
          await wb.frame();
          return (performance.now() - began) / 1000;
        }""",
        text,
    )
    assert seconds < 10
    assert page.locator(".wb-message[data-role=assistant]").get_attribute("data-status") == "complete"
    assert (
        page.evaluate("document.querySelector('.wb-log').scrollWidth - document.querySelector('.wb-log').clientWidth")
        == 0
    )


def test_raw_html_is_shown_as_it_was_written(page: Page) -> None:
    one_message(page, "<div>\n<b>bold</b>\n</div>\n\nand <u>inline</u>, a | b<br>c")
    assert " ".join(page.inner_text(".wb-md").split()) == "<div> <b>bold</b> </div> and <u>inline</u>, a | b c"


# --- Protocol ---------------------------------------------------------------------------------------------------


def test_it_says_hello_and_shows_the_snapshot(page: Page) -> None:
    show(
        page,
        snap={
            "messages": [
                {"message_id": "u", "role": "user", "status": "complete", "text": "two\nlines"},
                {
                    "message_id": "a",
                    "role": "assistant",
                    "status": "complete",
                    "text": "**yes**",
                    "footer": "12 in · 3 out",
                },
            ],
            "cost_usd": "0.01234",
        },
    )
    [hello] = sent(page, "hello")
    assert hello["have"] == {}
    assert hello["c"]
    assert page.locator(".wb-title").text_content() == "Prime numbers"
    assert page.locator(".wb-model").text_content() == "claude-sonnet-5-5"
    assert page.locator(".wb-cost").text_content() == "$0.01"
    assert page.locator(".wb-message").evaluate_all("all => all.map(m => [m.dataset.role, m.dataset.status])") == [
        ["user", "complete"],
        ["assistant", "complete"],
    ]
    assert page.locator(".wb-md strong").text_content() == "yes"
    assert page.locator(".wb-message[data-role=user] .wb-body").text_content() == "two\nlines"


def test_the_badge_says_that_the_model_is_the_embedded_one(page: Page) -> None:
    show(page, snap={"local": True, "model": "local"})
    assert page.locator(".wb-model").text_content() == "embedded demonstration model"


def test_no_message_has_an_id_at_its_top(page: Page) -> None:
    show(page)
    type_and_send(page, "hi")
    page.click(".wb-stop")
    messages = page.evaluate("model.sent")
    assert [m["t"] for m in messages] == ["hello", "send", "stop"]
    assert all("id" not in m and m["c"] for m in messages)
    assert len({m["c"] for m in messages}) == 3


def test_a_turn_from_send_to_footer(page: Page) -> None:
    show(page)
    type_and_send(page, "hi")
    assert sent(page, "send")[0]["text"] == "hi"
    assert page.input_value(".wb-input") == ""
    start(page)
    assert page.locator(".wb-message[data-role=user]").count() == 1
    reply = page.locator(".wb-message[data-role=assistant]")
    assert reply.get_attribute("data-status") == "streaming"
    assert reply.locator(".wb-state").text_content() == "thinking…"
    delta(page, "let me see", "think")
    assert reply.locator(".wb-state").text_content() == "thinking…"
    delta(page, "Hello ")
    delta(page, "there")
    assert reply.locator(".wb-body").inner_text() == "Hello there"
    assert not reply.locator(".wb-state").text_content()
    receive(
        page,
        t="usage",
        turn=page.evaluate("turn.turn"),
        input_tokens=1204,
        output_tokens=2,
        cost_usd="0.003",
    )
    assert reply.locator(".wb-footer").text_content() == "claude-sonnet-5-5 · 1,204 in + 2 out tokens · $0.0030"
    assert page.locator(".wb-cost").text_content() == "$0.0030"
    end(page)
    assert reply.get_attribute("data-status") == "complete"
    assert reply.locator(".wb-footer").text_content() == "claude-sonnet-5-5 · 12 in · 34 out · $0.0004 · 1.2 s"
    assert page.locator(".wb-cost").text_content() == "$0.0004"
    assert len(sent(page, "hello")) == 1
    assert visible(page, ".wb-send")
    assert not visible(page, ".wb-stop")


def test_stop_is_there_from_the_moment_of_send(page: Page) -> None:
    show(page, autoAck=False)
    type_and_send(page, "hi")
    assert visible(page, ".wb-stop")
    assert not visible(page, ".wb-send")
    page.press(".wb-input", "Escape")
    settle(page)
    assert [m["turn"] for m in sent(page, "stop")] == [None]
    start(page)
    assert [m["turn"] for m in sent(page, "stop")] == [None, page.evaluate("turn.turn")]
    end(page, status="interrupted")
    assert page.locator(".wb-message[data-role=assistant]").get_attribute("data-status") == "interrupted"
    assert visible(page, ".wb-retry")


def test_escape_stops_the_running_turn_once(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "Hel")
    page.focus(".wb-input")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert [m["turn"] for m in sent(page, "stop")] == [page.evaluate("turn.turn")]


def test_a_turn_stopped_before_it_began_gives_the_text_back(page: Page) -> None:
    show(page)
    type_and_send(page, "hi")
    page.click(".wb-stop")
    receive(page, t="err", turn=None, error="Stopped", message="stopped", type="stopped", retryable=True)
    assert page.input_value(".wb-input") == "hi"
    assert not visible(page, ".wb-notice")
    assert page.locator(".wb-message").count() == 0


def test_a_missing_batch_is_fetched_by_hello(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "one ")
    page.evaluate("() => { turn.delta('lost', 'text', 3); turn.delta('too', 'text', 4) }")
    settle(page)
    [_, hello] = sent(page, "hello")
    assert list(hello["have"].values()) == [1]
    body = page.locator(".wb-message[data-role=assistant] .wb-body")
    assert body.inner_text() == "one"
    turn = page.evaluate("turn.turn")
    page.evaluate(
        "(live) => model.receive({ ...wb.SNAP, messages: [{ message_id: 'u-' + live.turn, role: 'user', status: 'complete', text: 'hi' }], live })",
        {"turn": turn, "message_id": f"m-{turn}", "seq": 4, "text": "one two three "},
    )
    page.evaluate("turn.delta('four', 'text', 5)")
    settle(page)
    assert body.inner_text() == "one two three four"
    assert visible(page, ".wb-stop")


def test_a_reply_of_another_length_is_fetched_by_hello(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "Hello 😀")
    end(page, len=7)
    assert len(sent(page, "hello")) == 1
    start(page)
    delta(page, "Hello")
    end(page, len=9)
    assert len(sent(page, "hello")) == 2


def test_a_snapshot_that_does_not_come_is_asked_for_again(open_page: Callable[..., Page]) -> None:
    page = open_page()
    stop_the_clock(page)
    show_now = "() => { wb.show({ snap: null }) }"
    page.evaluate(show_now)
    page.clock.run_for(2900)
    assert len(sent(page, "hello")) == 1
    page.clock.run_for(200)
    assert len(sent(page, "hello")) == 2


def test_no_ack_means_a_busy_kernel_then_a_lost_one(open_page: Callable[..., Page]) -> None:
    page = open_page()
    stop_the_clock(page)
    page.evaluate("() => { wb.show({ autoAck: false }) }")
    page.clock.run_for(50)
    page.fill(".wb-input", "hello?")
    page.press(".wb-input", "Enter")
    page.clock.run_for(350)
    assert "kernel busy" not in page.inner_text(".wb-chat")
    page.clock.run_for(100)
    assert "kernel busy - queued" in page.inner_text(".wb-chat")
    assert page.is_enabled(".wb-input")
    page.clock.run_for(1600)
    assert "not connected - run the cell again" in page.inner_text(".wb-notice")
    assert page.is_disabled(".wb-input")
    assert page.input_value(".wb-input") == "hello?"
    page.evaluate("() => model.receive({ t: 'ack', c: model.of('send')[0].c })")
    page.clock.run_for(50)
    assert page.is_enabled(".wb-input")
    assert page.input_value(".wb-input") == ""  # it was delivered after all
    assert not visible(page, ".wb-notice")
    assert page.evaluate("document.activeElement.className") == "wb-input"


def test_an_edit_that_was_delivered_after_all_gives_the_draft_back(open_page: Callable[..., Page]) -> None:
    page = open_page()
    stop_the_clock(page)
    question = {"message_id": "u1", "role": "user", "status": "complete", "text": "one?"}
    page.evaluate("(messages) => { wb.show({ snap: { messages }, autoAck: false }) }", [question])
    page.clock.run_for(50)
    page.fill(".wb-input", "a draft")
    page.click(".wb-edit")
    page.press(".wb-input", "Enter")
    page.clock.run_for(2100)
    assert (visible(page, ".wb-editing"), page.input_value(".wb-input")) == (True, "one?")
    page.evaluate("() => model.receive({ t: 'ack', c: model.of('edit')[0].c })")
    page.clock.run_for(50)
    assert (visible(page, ".wb-editing"), page.input_value(".wb-input")) == (False, "a draft")


def test_a_draft_is_kept_while_not_connected(open_page: Callable[..., Page]) -> None:
    page = open_page()
    stop_the_clock(page)
    page.evaluate("() => { wb.show({ snap: null, autoAck: false }) }")
    page.fill(".wb-input", "half a thou")
    page.clock.run_for(2100)
    assert page.is_disabled(".wb-input")
    assert page.input_value(".wb-input") == "half a thou"
    page.evaluate("() => { model.autoAck = true; }")
    page.click(".wb-notice button")
    page.clock.run_for(50)
    assert page.is_enabled(".wb-input")
    assert page.input_value(".wb-input") == "half a thou"


def test_a_refused_turn_gives_the_text_back_and_says_why(page: Page) -> None:
    show(page)
    type_and_send(page, "expensive")
    message = "org 'acme' has $0.0100 left this month and this turn may cost $0.1000; shorten it or raise the budget"
    receive(page, t="err", turn=None, error="Budget Exceeded", message=message, type="budget_exceeded", retryable=False)
    assert message in page.inner_text(".wb-notice")
    assert page.input_value(".wb-input") == "expensive"
    assert page.locator(".wb-message").count() == 0
    assert visible(page, ".wb-send")
    page.click(".wb-notice button")
    settle(page)
    assert not visible(page, ".wb-notice")


def test_a_failed_reply_is_kept_and_can_be_retried(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "Hel")
    turn = page.evaluate("turn.turn")
    receive(
        page,
        t="err",
        turn=turn,
        error="Stream failed",
        message="Claude is overloaded",
        type="upstream_overloaded",
        retryable=True,
        retry_after=0.01,
    )
    end(page, status="failed")
    reply = page.locator(".wb-message[data-role=assistant]")
    assert reply.get_attribute("data-status") == "failed"
    assert "Claude is overloaded (retry after 1 s)" in reply.inner_text()
    assert "Hel" in reply.inner_text()
    page.click(".wb-retry")
    settle(page)
    assert [m["message_id"] for m in sent(page, "retry")] == [f"m-{turn}"]
    assert visible(page, ".wb-stop")
    receive(page, t="start", turn="again", message_id="m2", user_message_id=f"u-{turn}", text="hi", model="m")
    assert page.locator(".wb-message").evaluate_all("all => all.map(m => [m.dataset.role, m.dataset.status])") == [
        ["user", "complete"],
        ["assistant", "streaming"],
    ]


@pytest.mark.parametrize("begun", [False, True])
def test_without_prompts_there_is_no_picker(begun: bool, page: Page) -> None:
    page.evaluate("(desk) => { window.assets = { 'desk.js': desk } }", (STATIC / "desk.js").read_text())
    show(page)
    page.get_by_role("button", name="About this chat").click()
    page.wait_for_function("() => model.of('about').length > 0")
    told = {"model": None, "system": None, "open": not begun, "default": "m", "models": [], "prompts": []}
    receive(page, t="about", c=sent(page, "about")[0]["c"], prompt=None, next_prompt=None, variables={}, **told)
    page.get_by_role("group", name="Export").wait_for()
    fields = page.locator(".wb-desk").locator("select, input, textarea, .wb-picker")

    assert fields.evaluate_all("fields => fields.map(({ localName }) => localName)") == (
        [] if begun else ["select", "textarea"]
    )
    assert not visible(page, ".wb-prompt")


def test_a_thumb_that_is_not_kept_is_released_and_what_was_written_stays(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "Hello")
    end(page)
    up, down = page.get_by_role("button", name="Good reply"), page.get_by_role("button", name="Bad reply")
    up.click()
    settle(page)
    pressed = [up.get_attribute("aria-pressed")]
    receive(page, t="err", turn=None, c=sent(page, "feedback")[0]["c"], message="the store is busy; ask again")
    pressed.append(up.get_attribute("aria-pressed"))
    said = page.inner_text(".wb-notice")
    down.click()
    receive(page, t="done", c=sent(page, "feedback")[1]["c"])
    why = page.get_by_role("textbox", name="What was wrong?")
    why.fill("too short")
    why.press("Enter")
    assert why.count() == 0
    receive(page, t="err", turn=None, c=sent(page, "feedback")[2]["c"], message="the store is busy; ask again")
    kept = why.input_value()
    why.press("Escape")

    assert pressed == ["true", "false"]
    assert "the store is busy; ask again" in said
    assert [(m["score"], m["comment"]) for m in sent(page, "feedback")] == [(1, None), (-1, None), (-1, "too short")]
    assert (kept, why.count(), down.get_attribute("aria-pressed")) == ("too short", 0, "true")
    assert sent(page, "stop") == []


def test_only_replies_that_ended_well_have_thumbs(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "Hel")
    assert not visible(page, ".wb-thumbs")
    end(page, status="interrupted")
    assert not visible(page, ".wb-thumbs")


def test_retry_waits_until_the_upstream_may_be_asked_again(open_page: Callable[..., Page]) -> None:
    page = open_page()
    stop_the_clock(page)
    page.evaluate("wb.show()")
    page.evaluate("() => { window.turn = wb.start(model, 'hi') }")
    failed = {"error": "Stream failed", "message": "m", "type": "upstream_overloaded", "retryable": True}
    page.evaluate("(more) => model.receive({ t: 'err', turn: turn.turn, ...more })", failed | {"retry_after": 11.2})
    page.evaluate("turn.end({ status: 'failed' })")
    page.clock.run_for(100)
    assert "m (retry after 12 s)" in page.inner_text(".wb-state[data-kind=error]")
    assert page.locator(".wb-retry").is_disabled()
    page.clock.run_for(11_000)
    assert page.locator(".wb-retry").is_disabled()
    page.clock.run_for(300)
    assert page.locator(".wb-retry").is_enabled()


def test_two_views_show_the_same_turn(page: Page) -> None:
    page.evaluate("() => { window.a = wb.show(); window.b = wb.show(); a.send = b.send = () => {} }")
    page.evaluate(
        "() => { for (const m of [a, b]) { const turn = wb.start(m, 'from elsewhere', 'same'); turn.delta('yes'); turn.end() } }"
    )
    settle(page)
    assert page.locator(".wb-message[data-role=user] .wb-body").all_text_contents() == ["from elsewhere"] * 2
    assert page.locator(".wb-message[data-role=assistant] .wb-body").all_inner_texts() == ["yes"] * 2


def test_another_protocol_version_is_said_and_nothing_is_sent(open_page: Callable[..., Page]) -> None:
    page = open_page(traits={"protocol": 2})
    show(page)
    assert "different versions" in page.inner_text(".wb-notice")
    assert page.is_disabled(".wb-input")


# --- Keys, drafts, scrolling ------------------------------------------------------------------------------------


def test_enter_sends_and_shift_enter_begins_a_line(page: Page) -> None:
    show(page)
    page.focus(".wb-input")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert sent(page, "send") == []
    page.keyboard.press("Enter")
    assert [m["text"] for m in sent(page, "send")] == ["one\ntwo"]


def test_arrows_go_through_what_was_asked_and_back_to_the_draft(page: Page) -> None:
    asked = {"u1": "one?", "u2": "two?\nplease"}
    show(page, snap={"messages": [{"message_id": id, "role": "user", "text": text} for id, text in asked.items()]})
    field, seen = page.locator(".wb-input"), []
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowDown", "ArrowDown"):
        field.press(key)  # the second one only goes to the first line of the question
        seen.append(field.input_value())
    assert seen == ["two?\nplease", "two?\nplease", "one?", "one?", "two?\nplease", ""]
    assert not visible(page, ".wb-editing")
    field.fill("a draft")
    field.press("ArrowUp")
    assert field.input_value() == "a draft"


def test_the_question_that_is_edited_is_marked_and_named_until_it_is_sent_or_not(page: Page) -> None:
    asked = {"u1": "one?", "u2": "two?\nplease"}
    show(page, snap={"messages": [{"message_id": id, "role": "user", "text": text} for id, text in asked.items()]})
    field, seen = page.locator(".wb-input"), []
    marked = page.locator(".wb-message[aria-current=true]")
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "Escape", "ArrowUp", "Enter"):
        field.press(key)
        settle(page)
        named = page.locator(".wb-editing [role=status]").text_content()
        seen.append((marked.locator(".wb-body").all_text_contents(), named.partition(":")[0]))
        assert marked.evaluate_all("all => all.every((e) => getComputedStyle(e).outlineStyle === 'solid')")
    first, second, none = (["one?"], "Editing “one?”"), (["two?\nplease"], "Editing “two? please”"), ([], "")
    assert seen == [second, second, first, none, second, none]
    assert sent(page, "edit")[0]["message_id"] == "u2"


def test_nothing_is_sent_empty_or_while_composing_or_twice(page: Page) -> None:
    show(page)
    page.fill(".wb-input", "  \n ")
    page.press(".wb-input", "Enter")
    page.fill(".wb-input", "にほん")
    page.evaluate(
        "() => document.querySelector('.wb-input').dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, isComposing: true }))"
    )
    assert sent(page, "send") == []
    page.press(".wb-input", "Enter")
    page.fill(".wb-input", "second")
    page.press(".wb-input", "Enter")
    assert [m["text"] for m in sent(page, "send")] == ["にほん"]
    assert page.input_value(".wb-input") == "second"


def test_a_new_chat_may_be_begun_unless_a_text_is_on_its_way(page: Page) -> None:
    show(page)
    new, seen = page.get_by_role("button", name="New chat"), []
    type_and_send(page, "hi")
    seen.append(new.is_disabled())
    start(page)
    seen.append(new.is_disabled())
    end(page)
    seen.append(new.is_disabled())
    assert seen == [True, False, False]


def test_keys_do_not_reach_jupyterlab(page: Page) -> None:
    show(page)
    page.evaluate(
        "() => { window.keys = []; for (const type of ['keydown', 'keypress', 'keyup']) document.addEventListener(type, (e) => keys.push(e.key)) }"
    )
    page.focus(".wb-input")
    for key in ["a", "Escape", "Shift+Enter", "Enter", "Control+Enter"]:
        page.keyboard.press(key)
    page.focus(".wb-log")
    page.keyboard.press("d")
    assert page.evaluate("keys") == []
    assert page.locator(".wb-chat").get_attribute("data-lm-suppress-shortcuts") == "true"


def test_draft_caret_and_focus_survive_a_new_view(page: Page) -> None:
    show(page)
    page.focus(".wb-input")
    page.keyboard.type("half a thought")
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    page.evaluate("() => { model.el.remove(); model.close() }")
    show(page)
    assert page.evaluate("(({ value, selectionStart }) => [value, selectionStart])(document.activeElement)") == [
        "half a thought",
        6,
    ]


def test_drafts_of_two_chats_are_apart_and_a_chat_left_long_ago_takes_no_focus(page: Page) -> None:
    show(page)
    page.fill(".wb-input", "for chat one")
    page.evaluate("() => { model.el.remove(); model.close(); __workbenchDrafts.get('c1').goneAt -= 60000 }")
    show(page, traits={"chat_id": "c2", "protocol": 1}, snap={"chat_id": "c2"})
    assert page.input_value(".wb-input") == ""
    page.evaluate("() => { model.el.remove(); model.close() }")
    show(page)
    assert page.input_value(".wb-input") == "for chat one"
    assert page.evaluate("document.activeElement === document.body")


def test_it_follows_the_text_only_while_the_reader_is_at_the_bottom(page: Page) -> None:
    show(page)
    start(page)
    delta(page, "line\n\n" * 80)
    bottom = "(({ scrollTop, scrollHeight, clientHeight }) => scrollHeight - scrollTop - clientHeight)(document.querySelector('.wb-log'))"
    assert page.evaluate(bottom) < 2
    delta(page, "line\n\n" * 20)
    assert page.evaluate(bottom) < 2
    assert not visible(page, ".wb-jump")
    page.evaluate("document.querySelector('.wb-log').scrollTop = 100")
    settle(page)
    delta(page, "line\n\n" * 20)
    assert page.evaluate("document.querySelector('.wb-log').scrollTop") == 100
    page.click(".wb-jump")
    settle(page)
    assert page.evaluate(bottom) < 2


LONG_CHAT = """
(count) => {
  const entry = (n) => ({ message_id: `m${n}`, role: n % 2 ? "user" : "assistant", status: "complete", text: `message ${n} ` + "word ".repeat((n * 7919) % 90) });
  const range = (from, to) => Array.from({ length: to - from }, (_, i) => entry(from + i));
  wb.show({ snap: { messages: range(count - 99, count + 1), earlier: count - 100 } });
  const send = model.send;
  model.send = (message) => {
    send.call(model, message);
    if (message.t !== "older") return;
    const before = Number(message.before.slice(1));
    const from = Math.max(1, before - 400);
    setTimeout(() => model.receive({ t: "older", before: message.before, earlier: from - 1, messages: range(from, before) }), 5);
  };
}
"""

# Scrolls up by less than a screen at a time; returns what was seen on the way, and how far what is read ever jumped.
SCROLL_UP = """
async () => {
  const log = document.querySelector(".wb-log");
  const bodies = () => [...document.querySelectorAll(".wb-message .wb-body")];
  const read = () => {
    const top = log.getBoundingClientRect().top;
    const body = bodies().find((b) => b.getBoundingClientRect().top >= top);
    return [body?.textContent.split(" ")[1], body?.getBoundingClientRect().top];
  };
  const seen = new Set();
  let most = 0, jump = 0, still = 0;
  while (still < 20) {
    const [name, at] = read();
    const step = Math.min(400, log.scrollTop);
    still = step === 0 ? still + 1 : 0;
    log.scrollTop -= step;
    await new Promise(requestAnimationFrame);
    const same = bodies().find((b) => b.textContent.split(" ")[1] === name);
    if (same) jump = Math.max(jump, Math.abs(same.getBoundingClientRect().top - at - step));
    else jump = Infinity;
    for (const body of bodies()) seen.add(Number(body.textContent.split(" ")[1]));
    most = Math.max(most, document.querySelectorAll("article").length);
  }
  return { seen: seen.size, most, jump, first: bodies()[0].textContent.split(" ")[1] };
}
"""


def test_a_long_chat_is_read_to_its_beginning_without_a_jump(page: Page) -> None:
    page.evaluate(LONG_CHAT, 1000)
    settle(page)
    assert page.locator("article").count() == 60
    assert "message 1000 " in page.locator("article").last.inner_text()

    read = page.evaluate(SCROLL_UP)
    assert (read["seen"], read["first"]) == (1000, "1")
    assert read["most"] <= 80
    assert read["jump"] < 2
    assert not visible(page, ".wb-earlier")
    assert len(sent(page, "older")) == 3


def test_the_latest_message_is_one_press_away_and_what_comes_below_is_not_pushed_up(page: Page) -> None:
    page.evaluate(LONG_CHAT, 160)
    settle(page)
    page.evaluate(SCROLL_UP)
    start(page, "a new question")
    delta(page, "a new reply")
    assert "message 1 " in page.locator("article").first.inner_text()
    assert page.locator("article", has_text="a new reply").count() == 0
    page.click(".wb-jump")
    settle(page)
    assert page.locator("article").last.locator(".wb-body").inner_text() == "a new reply"
    delta(page, " goes on")
    assert page.locator("article").last.locator(".wb-body").inner_text() == "a new reply goes on"
    assert page.locator("article").count() == 60


# A snapshot of a chat that parts at message 101: of its first branch, `m`, or of the second, `b`, with so many messages.
PARTING = """
([branch, count]) => {
  const entry = (n) => ({
    message_id: `${branch}${n}`, role: n % 2 ? "user" : "assistant", status: "complete",
    text: `message ${n} ` + (n < 101 || branch === "m" ? "word ".repeat((n * 7919) % 90) : "otherwise"),
    ...(n === 101 && { branch: { index: branch === "m" ? 0 : 1, count: 2 } }),
  });
  const from = Math.max(1, count - 99);
  const messages = Array.from({ length: count + 1 - from }, (_, i) => entry(from + i));
  return { ...wb.SNAP, chat_id: `chat-${branch}`, messages, earlier: from - 1 };
}
"""


@pytest.mark.parametrize("count", [110, 160, 190])
def test_paging_in_a_long_chat_leaves_what_is_read_and_the_focus_where_they_are(count: int, page: Page) -> None:
    show(page)
    receive(page, **page.evaluate(PARTING, ["m", 160]))
    page.evaluate(
        "async () => { document.querySelector('.wb-log').scrollTop = 0; await wb.frame(); await wb.frame(); }"
    )
    question = page.locator("article", has_text="message 101 ")
    question.evaluate("e => e.scrollIntoView()")
    settle(page)
    for branch, index, button in [("b", 1, ".wb-forth"), ("m", 0, ".wb-back")]:
        question.locator(button).focus()
        page.keyboard.press("Enter")
        at = question.bounding_box()["y"]
        asked = sent(page, "branch")[-1]
        receive(page, **page.evaluate(PARTING, [branch, count if branch == "b" else 160]))
        receive(page, t="done", c=asked["c"])

        assert asked["index"] == index
        assert page.locator("article").count() <= 60
        assert ("otherwise" in question.inner_text()) == (branch == "b")
        assert abs(question.bounding_box()["y"] - at) < 2
        assert question.evaluate("e => e.contains(document.activeElement)")


def test_reading_down_again_ends_at_the_last_message(page: Page) -> None:
    page.evaluate(LONG_CHAT, 160)
    settle(page)
    page.evaluate(SCROLL_UP)
    last = page.evaluate(
        """async () => {
          const log = document.querySelector(".wb-log");
          for (let n = 0; n < 100; n++) { log.scrollTop += 400; await wb.frame(); }
          return [...document.querySelectorAll("article")].at(-1).innerText;
        }"""
    )
    assert "message 160 " in last
    assert not visible(page, ".wb-jump")


def test_scrolling_down_moves_no_message_that_stays(page: Page) -> None:
    page.evaluate(LONG_CHAT, 160)
    settle(page)
    page.evaluate(SCROLL_UP)
    came = page.evaluate(
        """async () => {
          const log = document.querySelector(".wb-log");
          const there = new WeakSet(log.querySelectorAll("article"));
          let fresh = 0, moved = 0;
          const note = (node) => (there.has(node) ? moved++ : fresh++, there.add(node));
          const observer = new MutationObserver((all) => all.forEach(({ addedNodes }) => addedNodes.forEach(note)));
          observer.observe(log, { childList: true });
          for (let n = 0; n < 100; n++) { log.scrollTop += 400; await wb.frame(); }
          return { fresh, moved };
        }"""
    )
    assert came == {"fresh": 100, "moved": 0}


def test_focus_stays_inside_when_the_button_under_it_goes(page: Page) -> None:
    show(page)
    type_and_send(page, "hi")
    start(page)
    page.focus(".wb-stop")
    end(page)
    assert page.evaluate("document.activeElement.className") == "wb-input"


def test_a_closed_view_listens_no_more(page: Page) -> None:
    show(page)
    page.evaluate("() => model.close()")
    receive(page, t="start", turn="t", message_id="m", user_message_id="u", text="x", model="m")
    assert page.locator(".wb-message").count() == 0


# --- Looks ------------------------------------------------------------------------------------------------------

CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => ((c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    if (!element) return [255, 255, 255];
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, background(element.parentElement));
  };
  const weak = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.querySelector(".wb-chat"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest(".wb-hidden, :disabled")) continue;
    texts++;
    const ground = background(element);
    const [one, other] = [luminance(over(rgba(getComputedStyle(element).color), ground)), luminance(ground)].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) weak.push([walker.currentNode.data.trim().slice(0, 30), element.className, ratio.toFixed(2)]);
  }
  return { weak, texts, ground: luminance(background(document.querySelector(".wb-chat"))) };
}
"""

EVERYTHING = """# Heading

Text with `code`, **bold**, [a link](https://example.org) and a list:

1. one
   - two

> quoted

| a | b |
|---|--:|
| x | 1 |

```python
@cache
def f(x: int = 1) -> str:  # why
    return f"{x}" + 'text' + len(None)
```

```diff
- old
+ new
```

```sql
SELECT count(*) AS n FROM t WHERE a = 'x' -- all
```

```typescript
const x: number = /re/.exec(y) ?? 42; class A extends B {}
```

```html
<p class="x">&amp;</p>
```
"""


def test_every_text_has_contrast(open_page: Callable[..., Page], subtests: pytest.Subtests) -> None:
    page = open_page()
    messages = [
        {"message_id": "u", "role": "user", "status": "complete", "text": "question"},
        {"message_id": "a", "role": "assistant", "status": "failed", "text": EVERYTHING, "footer": "12 in"},
    ]
    show(page, snap={"local": True, "messages": messages})
    receive(page, t="err", turn=None, error="Budget Exceeded", message="shorten it", type="x", retryable=False)
    page.fill(".wb-input", "a draft")

    # first where only the system decides, then in JupyterLab, whose choice wins, with the colours of its two themes
    themes = {"light": ("white", "rgba(0,0,0,.87)"), "dark": ("#111", "#fff")}
    for host in ["system", "jupyterlab"]:
        for scheme, (ground, text) in themes.items():
            system = scheme if host == "system" else {"light": "dark", "dark": "light"}[scheme]
            page.emulate_media(color_scheme=system)
            if host == "jupyterlab":
                page.evaluate(
                    "([light, style]) => { document.body.dataset.jpThemeLight = light; document.body.style = style }",
                    [json.dumps(scheme == "light"), f"--jp-layout-color0: {ground}; --jp-content-font-color1: {text}"],
                )
            measured = page.evaluate(CONTRAST)
            with subtests.test(host=host, scheme=scheme):
                assert measured["weak"] == []
                assert measured["texts"] > 60
                assert (measured["ground"] < 0.5) == (scheme == "dark")


def test_it_fits_a_narrow_page(open_page: Callable[..., Page]) -> None:
    page = open_page(width=NARROWEST)
    page.evaluate("document.body.style.margin = 0")
    messages = [
        {"message_id": "u", "role": "user", "status": "complete", "text": "averyveryverylongword" * 10},
        {
            "message_id": "a",
            "role": "assistant",
            "status": "failed",
            "text": EVERYTHING,
            "footer": "12 in · 34 out · $0.0004",
        },
    ]
    show(page, snap={"local": True, "title": "A rather long title for a chat", "messages": messages})
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROWEST
    outside = """
    all => all.filter((e) => e.checkVisibility() && !e.closest("pre, .wb-table, .wb-hidden"))
      .filter((e) => e.getBoundingClientRect().right > 320).map((e) => e.className)
    """
    assert page.locator(".wb-chat *").evaluate_all(outside) == []
    for hook in [".wb-input", ".wb-send", ".wb-retry", ".wb-cost"]:
        assert visible(page, hook)


@pytest.mark.parametrize("width", [700, 900, 1600])
def test_questions_replies_and_the_input_are_one_column_in_the_middle(
    width: int, open_page: Callable[..., Page]
) -> None:
    page = open_page(width=width)
    messages = [
        {"message_id": "u", "role": "user", "status": "complete", "text": "why? " * 200},
        {"message_id": "a", "role": "assistant", "status": "complete", "text": "because " * 200},
    ]
    show(page, snap={"messages": messages})
    edges = page.evaluate(
        "() => ['.wb-chat', '[data-role=user]', '[data-role=assistant]', '.wb-composer'].map((each) => {"
        " const { left, right } = document.querySelector(each).getBoundingClientRect(); return [left, right] })"
    )
    box, question, reply, composer = edges

    assert question[1] == reply[1] == composer[1]
    assert reply[0] == composer[0] == box[0] + box[1] - composer[1]
    assert reply[1] - reply[0] <= 760


def test_headings_are_apart_from_the_text_and_near_to_what_they_head(page: Page) -> None:
    one_message(page, "# One\n\ntext\n\n## Two\n\ntext\n\n### Three\n\ntext\n\n- item\n- item\n\ntext")
    sizes, gaps = page.evaluate(
        """() => {
          const blocks = [...document.querySelectorAll(".wb-md :is(h1, h2, h3, p, ul)")];
          const places = blocks.map((each) => each.getBoundingClientRect());
          return [
            blocks.slice(0, 6).map((each) => parseFloat(getComputedStyle(each).fontSize)),
            places.slice(1).map(({ top }, n) => Math.round(top - places[n].bottom)),
          ];
        }"""
    )

    assert sizes == [21, 14, 18.2, 14, 15.96, 14]
    assert gaps == [8, 20, 8, 20, 8, 10, 10]


def test_a_line_of_code_that_goes_on_has_a_shade_at_its_end(page: Page) -> None:
    one_message(page, f"```text\n\n{'x' * 300}\n```")
    code = page.locator(".wb-code pre")

    def at_the_end() -> list[int]:  # of the empty line, from what is left of a shade to the edge
        picture = Image.open(BytesIO(code.screenshot())).convert("L")
        return [picture.getpixel((picture.width - x, 10)) for x in (30, 2)]

    ground, edge = at_the_end()
    assert edge < ground - 20
    code.evaluate("(pre) => (pre.scrollLeft = pre.scrollWidth)")
    assert at_the_end() == [ground, ground]


def test_what_a_chat_cost_is_told_once_something_was_said(page: Page) -> None:
    show(page)
    assert page.locator(".wb-cost").inner_text() == ""
    start(page)
    end(page, chat_cost_usd="0")
    assert page.locator(".wb-cost").inner_text() == "$0"


def test_its_height_can_be_dragged_and_the_next_view_of_it_is_as_high(page: Page) -> None:
    long = {"message_id": "a", "role": "assistant", "status": "complete", "text": "line\n\n" * 60}
    show(page, snap={"messages": [long]})
    drag_its_corner(page.locator(".wb-chat"), -100)
    settle(page)

    log = page.locator(".wb-log")
    assert page.evaluate("[document.querySelector('.wb-chat').offsetHeight, model.get('height')]") == [380, "380px"]
    assert log.evaluate("(log) => log.scrollHeight - log.scrollTop - log.clientHeight") < 1
    drag_its_corner(page.locator(".wb-chat"), -300)
    assert page.evaluate("document.querySelector('.wb-chat').offsetHeight") == 260
    page.evaluate("() => { model.set('height', '500px') }")
    assert page.evaluate("document.querySelector('.wb-chat').offsetHeight") == 500


def drag_its_corner(box: Locator, down: int) -> None:
    """Drag the lower right corner of a box so many pixels down with the mouse."""
    place = box.bounding_box()
    x, y = place["x"] + place["width"] - 5, place["y"] + place["height"] - 5
    box.page.mouse.move(x, y)
    box.page.mouse.down()
    box.page.mouse.move(x, y + down, steps=5)
    box.page.mouse.up()


def test_height_follows_its_trait_and_nothing_moves_for_those_who_ask(open_page: Callable[..., Page]) -> None:
    page = open_page(traits={"height": "300px"}, reduced_motion="reduce")
    show(page)
    assert page.evaluate("document.querySelector('.wb-chat').offsetHeight") == 300
    page.evaluate("() => { model.traits.height = 'red; display: none'; model.emit('change:height') }")
    assert page.evaluate("document.querySelector('.wb-chat').offsetHeight") == 480
    start(page)
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.wb-message .wb-state'), '::before').animationName")
        == "none"
    )


def test_screen_readers_are_told_a_reply_once(page: Page) -> None:
    show(page)
    start(page)
    log = page.locator("[role=log]")
    assert log.get_attribute("aria-live") == "polite"
    reply = page.locator(".wb-message[data-role=assistant]")
    assert reply.get_attribute("aria-busy") == "true"
    end(page)
    assert reply.get_attribute("aria-busy") is None
