"""The chat box in each of the states in which people see it: for pictures, and for what must hold in all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.upstream import Usage, fault, reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator

    from tests.browser.lab import Notebook
    from tests.faults.upstream import ScriptedUpstream

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

PREPARE = """import workbench as wb
import pandas as pd
orders = pd.DataFrame({"region": ["north", "south", "west"] * 400, "amount": [12.5, 80.0, 31.9] * 400})"""

ASKED = {
    # what was asked: tokens of the prompt and of the reply, days ago
    "Plan a week in Lisbon with two children": (900, 2400, 0),
    "Explain the cache discount in one table": (3200, 650, 0),
    "Review this SQL: which index would help?": (5400, 1800, 1),
    "Why is the sky blue, and the sunset red?": (300, 510, 3),
    "Summarise the minutes of Monday and list who promised to do what by when": (8800, 900, 6),
    "Unit tests for the importer": (6100, 3900, 12),
    "Names for a small bakery": (210, 460, 400),
}

AGE = """from datetime import UTC, datetime, timedelta
from workbench.runtime import runtime
from workbench.store.backend import Statement
for question, days in {asked}.items():
    chat = wb.Chat()
    chat.ask(question, show=False)
    at = datetime.now(UTC) - timedelta(days=days, minutes=5)
    aged = Statement("UPDATE chats SET created_at = $2, updated_at = $2 WHERE id = $1", (chat.id, at))
    runtime().run(runtime().engine.store.backend.write([aged]))"""

QUESTION = "How do I read a CSV file with pandas?"
ANSWER = """Use `read_csv`; it returns a `DataFrame`:

```python
import pandas as pd

orders = pd.read_csv("orders.csv", parse_dates=["day"])
orders.groupby("region")["amount"].sum()  # one row per region
```

| argument | what it does | default |
|---|---|--:|
| `sep` | another separator, such as `";"` | `","` |
| `usecols` | only these columns | all |
| `chunksize` | an iterator of small tables | none |

A file of several gigabytes is better read in parts: pass `chunksize`, and **add up** what each part gives."""
SHORT = "pandas is a Python library for **tables**: it reads, cleans, groups and plots them."
PROMPTS = """for text in (
    "You answer questions of {{customer}} about {{product}}. Be friendly.",
    "You answer questions of {{customer}} about {{product}}. Be friendly and brief: two sentences are enough, "
    "and a link to the manual says the rest.",
):
    version = wb.prompts.save("support", text, note="says who asks")
wb.prompts.label("support", "production", 2)
wb.prompts.save("greeting", "Greet whoever writes.")"""
BILLED = Usage(uncached_input_tokens=412, cache_read_tokens=9200, cache_write_5m_tokens=1800, output_tokens=286)


def show_box(notebook: Notebook) -> Locator:
    """Show the box of a new chat."""
    notebook.run("box = wb.Chat().widget()\nbox")
    box = notebook.page.locator(".wb-chat")
    box.locator(".wb-title", has_text="New chat").wait_for()
    return box


def ask(box: Locator, text: str, status: str = "complete") -> Locator:
    """Ask, and wait for a reply of this status."""
    replies = box.locator(".wb-message[data-role=assistant]")
    answer = replies.nth(replies.count())
    box.locator(".wb-input").fill(text)
    box.locator(".wb-input").press("Enter")
    answer.and_(box.page.locator(f"[data-status={status}]")).wait_for()
    return answer


def _begun(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    upstream.script(reply(SHORT, usage=Usage(uncached_input_tokens=61, output_tokens=58)))
    box = show_box(notebook)
    ask(box, "What is pandas, in one sentence?")
    return box


def empty(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    return show_box(notebook)


def typing(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """A question is being written, with a table that goes with it; both are priced."""
    box = _begun(notebook, upstream)
    box.locator(".wb-input").press_sequentially("Which region sold most? @ord")
    box.get_by_role("option", name="orders").wait_for()
    box.locator(".wb-input").press("Enter")
    box.locator(".wb-chip[data-kind=ready]").wait_for()
    box.locator(".wb-estimate").wait_for()
    return box


def streaming(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    box = _begun(notebook, upstream)
    upstream.script(reply(ANSWER, usage=BILLED, pause_after=52))
    ask(box, QUESTION, "streaming").get_by_text("what it does").wait_for()
    return box


def code(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """A reply with code and a table, complete."""
    upstream.script(reply(ANSWER, usage=BILLED))
    box = show_box(notebook)
    ask(box, QUESTION)
    return box


def error(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """A reply broke off and can be asked for again."""
    box = _begun(notebook, upstream)
    upstream.script(fault("overloaded", ANSWER, after=22))
    ask(box, QUESTION, "failed").get_by_role("button", name="Retry").wait_for()
    return box


def branch(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """The second of two branches."""
    box = _begun(notebook, upstream)
    upstream.script(reply(SHORT), reply("Nine words: **labelled tables in Python, read, grouped, joined, plotted.**"))
    ask(box, "And in ten words?")
    box.locator(".wb-input").press("ArrowUp")
    box.locator(".wb-input").fill("And in nine words?")
    box.locator(".wb-input").press("Enter")
    box.locator(".wb-pager:visible").wait_for()
    box.locator(".wb-message[data-role=assistant][data-status=complete]", has_text="Nine").wait_for()
    return box


def chats(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """The list of chats, over the one that is shown."""
    used = [Usage(uncached_input_tokens=inputs, output_tokens=outputs) for inputs, outputs, _ in ASKED.values()]
    upstream.script(*(reply("…", usage=usage) for usage in used))
    asked = {question: days for question, (_, _, days) in ASKED.items()}
    notebook.outputs(notebook.run(AGE.replace("{asked}", repr(asked))))
    box = _begun(notebook, upstream)
    box.get_by_role("button", name="Chats", exact=True).click()
    box.locator(".wb-item").nth(7).wait_for()
    return box


def thumbs(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """One reply was liked, and of another one it is asked why it was not."""
    box = _begun(notebook, upstream)
    box.get_by_role("button", name="Good reply").click()
    upstream.script(reply(ANSWER[:300], usage=BILLED))
    ask(box, QUESTION).get_by_role("button", name="Bad reply").click()
    box.locator(".wb-why input").fill("It is cut off in the middle of the code.")
    return box


def prompt(notebook: Notebook, upstream: ScriptedUpstream) -> Locator:
    """A prompt is being chosen for a new chat; one of its variables is missing."""
    notebook.outputs(notebook.run(PROMPTS))
    box = show_box(notebook)
    box.get_by_role("button", name="About this chat").click()
    box.get_by_role("combobox", name="Prompt").select_option("support")
    box.get_by_role("textbox", name="customer").fill("Ada Lovelace")
    box.get_by_role("button", name="Use for this chat").click()
    box.get_by_text("Fill in product.").wait_for()
    return box


STATES: dict[str, Callable[[Notebook, ScriptedUpstream], Locator]] = {
    # the list first: it shows whatever was asked before
    made.__name__: made
    for made in (chats, empty, typing, streaming, code, error, branch, thumbs, prompt)
}


def set_theme(notebook: Notebook, theme: str) -> None:
    """Have JupyterLab in its light or dark theme."""
    notebook.page.evaluate("(theme) => jupyterapp.commands.execute('apputils:change-theme', { theme })", THEMES[theme])
    notebook.page.locator(f"body[data-jp-theme-name='{THEMES[theme]}']").wait_for(state="attached")
    notebook.page.locator("#jupyterlab-splash").wait_for(state="detached")  # it lies over everything for a moment


def set_width(box: Locator, width: int) -> None:
    """Have the box so many CSS pixels wide."""
    box.evaluate("(box, width) => (box.style.width = `${width}px`)", width)
    box.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
