"""Chats as Markdown and as notebooks."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import nbformat

from workbench.attachments import attach
from workbench.exports import as_markdown, as_notebook, file_name, shown
from workbench.turns import ChatInfo, Message, Reply, Usage

CHAT = ChatInfo(id="c1", title="Squares", system="Be terse.\n\nUse Python.")
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
CODE = "So:\n\n```python\nfor n in range(3):\n\n    print(n ** 2)\n```\n\nIn a shell:\n\n```sh\npython it.py\n```\n"


def question(text: str, seq: int = 1) -> Message:
    return Message(id=f"m{seq}", chat_id="c1", seq=seq, role="user", content=text, created_at=NOON)


def answer(text: str, seq: int = 2, **more: Any) -> Message:
    values = {"model": "claude-sonnet-5-5", **more}
    return Message(id=f"m{seq}", chat_id="c1", seq=seq, role="assistant", content=text, created_at=NOON, **values)


def test_markdown_has_every_message_as_it_was_written() -> None:
    text = as_markdown(
        CHAT, [question("Squares?"), answer(CODE), answer("Hal", 3, status="interrupted", model="local")], {}
    )

    assert text == (
        "# Squares\n\nSystem prompt:\n\n> Be terse.\n>\n> Use Python.\n\n## You\n\nSquares?\n\n"
        f"## Claude (claude-sonnet-5-5)\n\n{CODE}\n## The embedded model, interrupted\n\nHal\n"
    )


def test_a_notebook_runs_the_python_of_replies_and_nothing_else() -> None:
    document = as_notebook(CHAT, [question("```python\nquestion\n```"), answer(CODE)], {})
    nbformat.validate(nbformat.from_dict(document))

    assert [(cell["cell_type"], cell["source"]) for cell in document["cells"]][1:] == [
        ("markdown", "## You"),
        ("markdown", "```python\nquestion\n```"),
        ("markdown", "## Claude (claude-sonnet-5-5)"),
        ("markdown", "So:"),
        ("code", "for n in range(3):\n\n    print(n ** 2)"),
        ("markdown", "In a shell:\n\n```sh\npython it.py\n```"),
    ]


def test_python_is_told_as_the_chat_box_tells_it() -> None:
    python = [
        "python",
        "Python3",
        "ipython",
        "py",
        "python,ignore",
        'python title="a"',
        "python:a.py",
        "{python}",
        "{.py}",
    ]
    others = ["", "sql", "pycon", "pythonic", "rust,no_run", "{r}"]
    text = "\n\n".join(f"```{language}\n{n}\n```" for n, language in enumerate([*python, *others]))
    cells = as_notebook(CHAT, [answer(text)], {})["cells"]

    assert [cell["source"] for cell in cells if cell["cell_type"] == "code"] == [str(n) for n in range(len(python))]


def test_what_was_attached_and_what_a_reply_cost_are_in_both() -> None:
    blocks = [*attach("my_list", [1, 2]).blocks, {"type": "text", "text": "Why?"}]
    asked = Message(id="m1", chat_id="c1", seq=1, role="user", content="Why?", blocks=blocks, created_at=NOON)
    used = Reply(
        text="",
        usage=Usage(uncached_input_tokens=1000, output_tokens=50),
        cost_usd=Decimal("0.0025"),
        chat_id="c1",
        message_id="m2",
        request_id="r1",
        model="claude-sonnet-5-5",
        status="complete",
        stop_reason="end_turn",
        ttft_ms=100,
        duration_ms=1200,
        created_at=NOON,
    )
    lines = [
        "*Attached: my\\_list: list of 2 items*",
        "*claude-sonnet-5-5 · 1,000 in + 50 out tokens · \\$0.0025 · 1.2 s*",
    ]
    said = [asked, answer("So.")]

    text = as_markdown(CHAT, said, {"m2": used})
    assert text.endswith(f"## You\n\n{lines[0]}\n\nWhy?\n\n## Claude (claude-sonnet-5-5)\n\nSo.\n\n{lines[1]}\n")
    cells = as_notebook(CHAT, said, {"m2": used})["cells"][1:]
    assert [cell["source"] for cell in cells] == [
        *(f"## You\n\n{lines[0]}", "Why?", "## Claude (claude-sonnet-5-5)", "So.", lines[1]),
    ]


def test_code_within_a_list_or_without_a_language_stays_where_it_is() -> None:
    text = "- one\n\n  ```python\n  x = 1\n  ```\n\n```\nplain\n```"
    cells = as_notebook(CHAT, [answer(text)], {})["cells"]

    assert [cell["source"] for cell in cells[2:]] == [text]


def test_a_notebook_is_cut_where_markdown_ends_lines_and_nowhere_else() -> None:
    said = "one\u2028two\x0cthree\rfour\r\nfive\n\n```python\n1 + 1\n```\nafter"
    _, _, *cells = as_notebook(CHAT, [answer(said)], {})["cells"]

    told = [("markdown", "one\u2028two\x0cthree\nfour\nfive"), ("code", "1 + 1"), ("markdown", "after")]
    assert [(cell["cell_type"], cell["source"]) for cell in cells] == told


def test_a_question_asked_again_is_exported_once() -> None:
    again = [question("hi"), answer("Hel", status="failed"), question("hi", 3), answer("Hello", 4)]

    assert [(m.seq, m.content) for m in shown(again)] == [(1, "hi"), (4, "Hello")]


def test_a_file_can_be_called_so_anywhere() -> None:
    assert file_name(ChatInfo(id="c1", title="../etc/passwd: Größe?"), "md") == "etc-passwd-Größe.md"
    assert file_name(ChatInfo(id="c1", title="???"), "ipynb") == "chat.ipynb"
    assert len(file_name(ChatInfo(id="c1", title="x" * 500), "md")) == 63
