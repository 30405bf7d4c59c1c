"""`workbench prompts`, and prompts as files, as whoever reviews them in git meets them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import workbench as wb
from tests.test_prompts import NOON
from workbench.cli import app
from workbench.cli.prompts import save
from workbench.errors import PromptError
from workbench.prompts import files
from workbench.prompts.versions import Prompt
from workbench.runtime import runtime
from workbench.store.backend import Statement

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

    from tests.faults.upstream import ScriptedUpstream

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)


def run(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="workbench", input=input)


def done(*arguments: str, input: str | None = None) -> str:
    result = run("prompts", *arguments, input=input)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def as_json(*arguments: str) -> Any:
    return json.loads(done(*arguments, "--json"))


@pytest.fixture
def support(no_key: Path) -> Path:
    """A folder, and a prompt of two versions, the first in production."""
    done("save", "support", "-", "--note", "first", input="You help {{customer}}.\n")
    done("save", "support", "-", "--note", "warmer", "--effort", "low", input="You gladly help {{customer}}.\n")
    return no_key


# Versions and labels ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("support")
def test_versions_are_saved_shown_and_compared() -> None:
    assert done("show", "support") == "You help {{customer}}.\n"
    assert done("show", "support@2", "--var", "customer=Ada=Bob") == "You gladly help Ada=Bob.\n"
    assert as_json("show", "support@2")["effort"] == "low"
    assert [(row["version"], row["labels"], row["note"]) for row in as_json("history", "support")] == [
        (2, None, "warmer"),
        (1, "production", "first"),
    ]
    assert [(row["name"], row["latest"], row["production"]) for row in as_json("list")] == [("support", 2, 1)]
    assert [row["version"] for row in as_json("search", "GLADLY")] == [2]
    assert "You{+ gladly+} help {{customer}}." in done("diff", "support")
    assert as_json("diff", "support", "1", "2")["calls"] == 0
    assert "warmer" in done("history", "support")
    assert "support" in done("list", "--search", "gladly")


@pytest.mark.usefixtures("support")
def test_labels_are_moved_protected_and_rolled_back() -> None:
    assert as_json("label", "support", "production", "2", "--note", "tried")["labels"] == ["production"]
    assert as_json("rollback", "support")["version"] == 1
    done("protect", "support")
    refused = run("prompts", "label", "support", "production", "2")
    forced = as_json("label", "support", "production", "v2", "--force")
    done("protect", "support", "--off")

    assert (refused.exit_code, "is protected" in refused.stderr) == (1, True)
    assert forced["version"] == 2
    assert [(row["label"], row["version"], row["protected"]) for row in as_json("labels", "support")] == [
        ("production", 2, False)
    ]
    assert [(row["from_version"], row["version"], row["undid"]) for row in as_json("labels", "support", "--moves")] == [
        (1, 2, None),
        (2, 1, 2),
        (1, 2, None),
        (None, 1, None),
    ]
    assert "production" in done("labels")
    assert "tried" in done("labels", "support", "--moves")


def test_without_an_input_there_is_no_text_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as it is where whoever started us closed it
    with pytest.raises(wb.InvalidRequest, match="no input to read the text from; name a file"):
        save("support", "-")


@pytest.mark.usefixtures("support")
def test_orgs_have_prompts_of_their_own() -> None:
    assert as_json("list", "--org", "acme") == []
    done("save", "support", "-", "--org", "acme", input="Ours")
    assert done("show", "support", "--org", "acme") == "Ours\n"


@pytest.mark.usefixtures("support")
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("show", "other"), 1, "no prompt 'other'; there are: support"),
        (("show", "support", "--var", "customer"), 2, "a variable is given as NAME=VALUE, not 'customer'"),
        (("show", "support", "--var", "x=1"), 1, "is missing 'customer' and does not know 'x'"),
        (("label", "support", "production", "new"), 1, "'new' is no version; give its number"),
        (("rollback", "support"), 1, "where it has always been, at version 1"),
        (("labels", "--moves"), 2, "name it"),
        (("save", "support", "no-such-file"), 1, "no-such-file failed: No such file or directory"),
        (("push", "--dir", "nowhere"), 2, "there is no nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(arguments: tuple[str, ...], code: int, told: str) -> None:
    result = run("prompts", *arguments)
    assert (result.exit_code, told in result.stderr) == (code, True), result.stderr


def test_a_question_is_asked_with_a_prompt(scripted: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help {{customer}}.")
    asked = run("ask", "hi", "--prompt", "support@production", "--var", "customer=Ada", "--json")

    assert json.loads(asked.stdout)["prompt"] == "support@1"
    assert scripted.last.body["system"] == "You help Ada."


@pytest.mark.usefixtures("support")
def test_the_shell_completes_names_of_prompts() -> None:
    from workbench.cli.prompts import _names

    assert (_names("sup"), _names("x")) == (["support"], [])


# Files --------------------------------------------------------------------------------------------------------------


@given(TEXTS, st.none() | TEXTS, st.none() | TEXTS)
def test_any_version_is_read_from_its_file_as_it_is(text: str, note: str | None, model: str | None) -> None:
    kept = Prompt(
        name="p", version=7, text=text, variables=(), sha256="", note=note, author=None, model=model, effort=None,
        created_at=NOON,
    )  # fmt: skip
    file = files.read("p", files.written(kept))

    assert file.is_version(kept)
    assert (file.version, file.note) == (7, note)


def test_line_ends_that_git_wrote_are_turned_back() -> None:
    written = "+++\nversion = 3\n+++\nBe brief.\n+++\nBe kind.\n"

    assert files.read("p", written) == files.read("p", written.replace("\n", "\r\n"))
    assert files.read("p", written) == files.read("p", f"\ufeff{written}")  # and the mark that an editor may have put
    assert files.read("p", written).text == "Be brief.\n+++\nBe kind."
    assert files.read("p", "only text\n") == files.PromptFile(name="p", text="only text")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("+++\nversion = 3\nHi", "no other"),
        ("+++\nversion 3\n+++\nHi", "is no TOML"),
        ("+++\nversoin = 3\n+++\nHi", "has a key 'versoin'"),
        ("+++\nversion = true\n+++\nHi", "is of type bool, not int"),
        ("+++\nversion = 0\n+++\nHi", "version in p.md is no number of a version"),
        (f"+++\nversion = {2**31}\n+++\nHi", "is no number of a version"),
        (f"+++\nversion = {'1' * 5000}\n+++\nHi", "is no TOML"),
        ("+++\nnote = 3\n+++\nHi", "note in p.md is of type int, not str"),
    ],
)
def test_a_head_that_cannot_be_read_is_refused(content: str, told: str) -> None:
    with pytest.raises(PromptError, match=told):
        files.read("p", content)


def test_prompts_are_pulled_changed_and_pushed(support: Path) -> None:
    assert [(row["did"], row["version"]) for row in as_json("pull")] == [("written", 2)]
    path = support / "prompts" / "support.md"
    assert path.read_text() == '+++\nversion = 2\nnote = "warmer"\neffort = "low"\n+++\nYou gladly help {{customer}}.\n'
    assert [row["did"] for row in as_json("pull")] == ["same"]
    assert [row["did"] for row in as_json("push")] == ["same"]

    path.write_text(path.read_text().replace("gladly", "swiftly"))
    (support / "prompts" / "tone.md").write_text("Be kind.\n")
    assert [(row["name"], row["did"], row["version"]) for row in as_json("push", "--note", "reviewed")] == [
        ("support", "saved", 3),
        ("tone", "saved", 1),
    ]
    newest = wb.prompts.get("support@3")
    assert (newest.text, newest.note, newest.effort) == ("You swiftly help {{customer}}.", "reviewed", "low")
    assert path.read_text().startswith('+++\nversion = 3\nnote = "reviewed"\n')
    assert wb.prompts.get("support").version == 1  # a push moves no label
    assert [row["did"] for row in as_json("push")] == ["same", "same"]


def test_a_note_of_the_old_text_is_not_that_of_the_new(support: Path) -> None:
    done("pull")
    path = support / "prompts" / "support.md"
    path.write_text(path.read_text().replace("gladly", "swiftly"))
    done("push")
    path.write_text(path.read_text().replace("version = 3\n", 'version = 3\nnote = "own"\n').replace("swiftly", "now"))
    done("push")

    assert [row["note"] for row in as_json("history", "support")] == ["own", None, "warmer", "first"]


def test_what_others_saved_since_is_not_passed_over(support: Path) -> None:
    done("pull")
    path = support / "prompts" / "support.md"
    path.write_text(path.read_text().replace("gladly", "swiftly"))
    wb.prompts.save("support", "Theirs")

    refused = run("prompts", "push")
    not_pulled = run("prompts", "pull")
    assert (refused.exit_code, not_pulled.exit_code) == (1, 1)
    assert "was made of version 2 and the store has support@3; pull, or push with --force" in refused.stderr
    assert "has changes that were not pushed" in not_pulled.stderr
    assert wb.prompts.get("support@latest").version == 3
    assert [row["version"] for row in as_json("push", "--force")] == [4]
    assert wb.prompts.get("support@latest").text == "You swiftly help {{customer}}."


def test_a_file_that_was_only_left_behind_is_pulled_anew_and_pushes_nothing(support: Path) -> None:
    done("pull")
    wb.prompts.save("support", "Theirs")

    assert [(row["did"], row["version"]) for row in as_json("push")] == [("same", 2)]
    assert [(row["did"], row["version"]) for row in as_json("pull", "support")] == [("written", 3)]
    path = support / "prompts" / "support.md"
    path.write_text("mine")
    assert [row["did"] for row in as_json("pull", "--force")] == ["written"]
    assert "Theirs" in path.read_text()


def test_a_new_file_of_a_prompt_that_there_is_already_is_refused(support: Path) -> None:
    (support / "prompts").mkdir()
    (support / "prompts" / "support.md").write_text("Mine\n")
    refused = run("prompts", "push")

    assert refused.exit_code == 1
    assert "was made of none of its versions and the store has support@2" in refused.stderr


def test_one_file_that_cannot_be_read_stops_the_push_before_anything_is_saved(support: Path) -> None:
    done("pull")
    path = support / "prompts" / "support.md"
    path.write_text(path.read_text().replace("gladly", "swiftly"))
    (support / "prompts" / "tone.md").write_text("+++\nbroken\n")

    assert run("prompts", "push").exit_code == 1
    assert wb.prompts.get("support@latest").version == 2


@pytest.mark.parametrize("head", ['effort = "extreme"', 'model = "claude-sonnet-4-20250514"', f'note = "{"x" * 2001}"'])
def test_what_cannot_be_kept_of_one_file_stops_the_push_before_another_is_saved(support: Path, head: str) -> None:
    folder = support / "prompts"
    folder.mkdir()
    (folder / "brief.md").write_text("Be brief.\n")
    (folder / "kind.md").write_text(f"+++\n{head}\n+++\nBe kind.\n")

    assert run("prompts", "push").exit_code == 1
    assert list(wb.prompts.list().name) == ["support"]


def test_a_version_whose_model_was_retired_since_stops_no_push(support: Path) -> None:
    wb.prompts.save("brief", "Be brief.", model="a-model")
    runtime().run(
        runtime().engine.store.backend.write(
            [Statement("UPDATE prompt_versions SET model = $1 WHERE name = $2", ("claude-sonnet-4-20250514", "brief"))]
        )
    )
    done("pull")
    (support / "prompts" / "kind.md").write_text("Be kind.\n")

    assert [row["did"] for row in as_json("push")] == ["same", "saved", "same"]


@pytest.mark.parametrize("left", [b"+++\n<<<<<<< ours\nversion = 1\n+++\nMine\n", b"+++\nversion = 1\n+++\n\xff\n"])
def test_a_file_that_cannot_be_read_keeps_no_other_from_being_pulled(support: Path, left: bytes) -> None:
    wb.prompts.save("brief", "Be brief.")
    folder = support / "prompts"
    folder.mkdir()
    (folder / "brief.md").write_bytes(left)
    refused = run("prompts", "pull")

    assert refused.exit_code == 1
    assert "mend it, or pull with --force to drop it" in refused.stderr
    assert (folder / "brief.md").read_bytes() == left
    assert "You gladly help" in (folder / "support.md").read_text()
    assert [row["did"] for row in as_json("pull", "--force")] == ["written", "same"]
    assert (folder / "brief.md").read_text().endswith("Be brief.\n")
