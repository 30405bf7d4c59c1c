"""The command line: in this process where that is enough, in one of its own where signals, pipes or terminals count."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from typer.testing import CliRunner

from tests.faults.upstream import ScriptedUpstream, Usage, fault, reply, words
from workbench.cli import app, lab, serve, tables
from workbench.store.shared import SharedFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

ROOT = Path(__file__).parents[1]
ESC, BELL, CSI = "\x1b", "\x07", "\x9b"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="workbench")


# In this process ----------------------------------------------------------------------------------------------------


def test_ask_prints_the_reply_on_stdout_and_what_it_used_on_stderr(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four it is", usage=Usage(uncached_input_tokens=100_000, output_tokens=10_000)))

    result = run("ask", "What is 2+2?")

    assert (result.exit_code, result.stdout) == (0, "Four it is\n")
    assert "claude-sonnet-5-5 · 100,000 in + 10,000 out tokens · $0.30" in result.stderr


def test_quiet_leaves_out_what_it_used(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four"))

    assert run("ask", "-q", "hi").output == "Four\n"


def test_without_streaming_the_text_is_the_same(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four it is"))

    assert run("ask", "--no-stream", "hi").stdout == "Four it is\n"


def test_ask_as_json_has_the_keys_of_the_server(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four", usage=Usage(uncached_input_tokens=100_000, output_tokens=10_000)))

    answer = json.loads(run("ask", "--json", "hi").output)

    assert (answer["reply"], answer["cost_usd"], answer["model"]) == ("Four", "0.3", "claude-sonnet-5-5")
    assert (answer["status"], answer["stop_reason"]) == ("complete", "end_turn")
    assert answer["usage"]["total_tokens"] == 110_000
    assert answer["created_at"].endswith("Z")
    assert {"chat_id", "message_id", "request_id"} < set(answer)


def test_continue_sends_what_was_said_before(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four"), reply("Six"))
    run("ask", "2+2?")

    run("ask", "--continue", "3+3?")

    assert [said(message) for message in scripted.last.body["messages"]] == ["2+2?", "Four", "3+3?"]


def test_continue_without_a_chat_says_how_to_begin_one(scripted: ScriptedUpstream) -> None:
    result = run("ask", "--continue", "hi")

    assert (result.exit_code, scripted.requests) == (2, [])
    assert result.stderr == 'Error: there is no chat to go on with; begin one: workbench ask "What is 2+2?"\n'


def test_a_chat_is_found_by_the_end_of_its_id(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four"), reply("Blue"), reply("Six"))
    first = json.loads(run("ask", "--json", "2+2?").output)["chat_id"]
    run("ask", "What colour?")

    run("ask", "--chat", first[-8:], "3+3?")

    assert [said(message) for message in scripted.last.body["messages"]] == ["2+2?", "Four", "3+3?"]


def test_an_end_that_several_ids_share_is_refused(scripted: ScriptedUpstream) -> None:
    ids: list[str] = []
    while len({id[-1] for id in ids}) == len(ids):  # 17 chats at most: an id ends in one of 16 characters
        scripted.script(reply("Four"))
        ids.append(json.loads(run("ask", "--json", "2+2?").output)["chat_id"])

    result = run("ask", "--chat", ids[-1][-1], "3+3?")

    assert result.exit_code == 2
    assert f"2 chats have an id that ends in '{ids[-1][-1]}'; give more of it" in result.stderr


def test_system_model_and_max_tokens_are_sent(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four"))

    run("ask", "--system", "Be terse.", "--model", "claude-haiku-5-5", "--max-tokens", "7", "hi")

    sent = scripted.last.body
    assert (sent["model"], sent["max_tokens"]) == ("claude-haiku-5-5", 7)
    assert "Be terse." in json.dumps(sent["system"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ask", ""), "the message is empty; write something to ask"),
        (("ask", "--chat", "a", "--continue", "hi"), "--chat and --continue both name a chat; give one of them"),
        (("ask", "--system", "s", "-c", "hi"), "a chat keeps its system prompt; --system is for a new chat"),
        (("usage", "--by", "colour"), "usage cannot be summed by 'colour'"),
        (("usage", "--since", "soon"), "'soon' is no time"),
        (("lab", "nowhere"), "nowhere is neither a folder nor a notebook"),
        (("ask", "--max-tokens", "0", "hi"), "Input should be greater than or equal to 1"),
        (("bogus",), "No such command 'bogus'"),
    ],
)
def test_wrong_usage_ends_with_2_and_asks_nobody(
    arguments: tuple[str, ...], sentence: str, scripted: ScriptedUpstream
) -> None:
    result = run(*arguments)

    assert (result.exit_code, result.stdout, scripted.requests) == (2, "", [])
    assert sentence in result.stderr


def test_an_unknown_chat_ends_with_1(scripted: ScriptedUpstream) -> None:
    result = run("ask", "--chat", "0123456789ab", "hi")

    assert (result.exit_code, scripted.requests) == (1, [])
    assert result.stderr == "Error: no chat '0123456789ab'; `workbench chats` lists the chats there are\n"


def test_an_unknown_model_ends_with_1(scripted: ScriptedUpstream) -> None:
    scripted.script(fault("404"))

    result = run("ask", "--model", "claude-nope", "hi")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: Claude knows no model 'claude-nope' at this address (404); check the model's name" in result.stderr


def test_a_retired_model_names_its_successor(scripted: ScriptedUpstream) -> None:
    result = run("ask", "--model", "claude-3-opus-20240229", "hi")

    assert result.exit_code == 1
    assert result.stderr == "Error: model 'claude-3-opus-20240229' is retired; use 'claude-opus-5-5', its successor\n"


def test_a_claude_model_without_a_key_ends_with_1(no_key: Path) -> None:
    result = run("ask", "--model", "claude-haiku-5-5", "hi")

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: Claude API not configured. Please set ANTHROPIC_API_KEY. Put it in the environment or into .env, or name "
        "the model `local`: the embedded one needs no key.\n"
    )


def test_a_missing_model_package_says_what_to_install(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (no_key / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.setenv("WORKBENCH_LOCAL_GGUF", str(no_key / "tiny.gguf"))
    monkeypatch.setitem(sys.modules, "xllamacpp", None)

    result = run("ask", "hi")

    assert result.exit_code == 1
    assert "the embedded model needs xllamacpp" in result.stderr
    assert 'run `pip install "claude-workbench[local]"`' in result.stderr


def test_a_store_that_is_no_database_ends_with_1(no_key: Path) -> None:
    (no_key / "notes.txt").write_text("not a database, but long enough to be read as the head of one " * 200)

    result = run("--store", "notes.txt", "chats")

    assert result.exit_code == 1
    assert f"Error: {no_key / 'notes.txt'} is not a workbench store; set WORKBENCH_STORE" in result.stderr


def test_a_store_held_by_another_program_names_it(no_key: Path) -> None:
    hold = "import duckdb; c = duckdb.connect('store.duckdb'); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=no_key
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        result = run("chats")
        other.communicate(b"\n")

    assert result.exit_code == 1
    assert f"(PID {other.pid})" in result.stderr


def test_a_failure_in_mid_reply_keeps_what_came(scripted: ScriptedUpstream) -> None:
    scripted.script(fault("overloaded", "Hello brave new world", after=2))

    result = run("ask", "hi")

    assert (result.exit_code, result.stdout) == (1, "Hello brave\n")
    footer, error = result.stderr.splitlines()
    assert footer.startswith("failed · claude-sonnet-5-5")
    assert error == "Error: Claude is overloaded; ask again in a minute"


def test_a_defect_is_one_sentence_and_says_how_to_see_more(
    scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_print_chats", lambda rows: 1 / 0)
    scripted.script(reply("Four"))
    run("ask", "hi")

    result = run("chats")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: this is a defect, please report it: ZeroDivisionError: division by zero "
        "(`workbench --traceback chats …` shows where it happened)\n"
    )


def test_traceback_lets_an_error_through(scripted: ScriptedUpstream) -> None:
    assert isinstance(run("--traceback", "ask", "").exception, ValueError)


def test_store_is_a_path_of_the_folder_one_is_in(
    scripted: ScriptedUpstream, no_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (no_key / "sub").mkdir()
    monkeypatch.chdir(no_key / "sub")
    scripted.script(reply("Four"))

    run("--store", "mine.duckdb", "ask", "hi")

    assert (no_key / "sub" / "mine.duckdb").exists()


# The ledger ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def three_calls(scripted: ScriptedUpstream) -> None:
    """$0.30, $0.03 and a model nobody knows the price of."""
    large = Usage(uncached_input_tokens=60_000, cache_read_tokens=0, output_tokens=18_000)
    small = Usage(uncached_input_tokens=5_000, output_tokens=2_000)
    scripted.script(reply("Four", usage=large), reply("Six", usage=small), reply("Eight", usage=small))
    run("ask", "What is 2+2?")
    run("ask", "What is 3+3?")
    run("ask", "--model", "unheard-of", "What is 4+4?")


@pytest.mark.usefixtures("three_calls")
def test_usage_adds_up_calls_tokens_and_cost_and_marks_unknown_prices() -> None:
    result = run("usage", "--by", "model")

    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["model", "calls", "input", "cached", "output", "cost"]
    assert lines[2] == ["claude-sonnet-5-5", "2", "65,000", "0", "20,000", "$0.33"]
    assert lines[3] == ["unheard-of", "1", "5,000", "0", "2,000", "unknown*"]
    assert lines[5] == ["total", "3", "70,000", "0", "22,000", "$0.33*"]
    assert " ".join(lines[6]) == "* without 1 call whose price is not known"


@pytest.mark.usefixtures("three_calls")
def test_usage_by_call_is_one_row_per_call() -> None:
    rows = json.loads(run("usage", "--by", "call", "--json").output)

    assert [(row["model"], row["cost_usd"]) for row in rows] == [
        ("claude-sonnet-5-5", "0.3"),
        ("claude-sonnet-5-5", "0.03"),
        ("unheard-of", None),
    ]
    assert rows[0]["started_at"].endswith("Z")


@pytest.mark.usefixtures("three_calls")
def test_an_hour_is_a_time_in_utc_like_any_other() -> None:
    first_call, *_ = json.loads(run("usage", "--by", "call", "--json").output)
    first_hour, *_ = json.loads(run("usage", "--by", "hour", "--json").output)

    assert first_hour["hour"] == f"{first_call['started_at'][:13]}:00:00.000Z"


@pytest.mark.usefixtures("three_calls")
def test_usage_as_csv_has_the_rows_of_the_json() -> None:
    head, *lines = run("usage", "--by", "model", "--csv").output.splitlines()

    assert head.split(",") == [*json.loads(run("usage", "--by", "model", "--json").output)[0]]
    assert lines == [
        "claude-sonnet-5-5,2,65000,65000,0,0,20000,0.33,0",
        "unheard-of,1,5000,5000,0,0,2000,,1",
    ]


@pytest.mark.usefixtures("three_calls")
def test_a_table_of_single_calls_ends_with_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_CALLS", 1)

    output = run("usage", "--by", "call").stdout

    assert "unheard-of" in output and "claude-sonnet-5-5" not in output
    assert "70,000" in output  # the total is of all calls
    assert "The newest 1 of 3 calls; --json and --csv have all of them." in output


def test_usage_before_the_first_call_says_how_to_make_one(no_key: Path) -> None:
    result = run("usage")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == 'No calls yet; make one: workbench ask "What is 2+2?"\n'


def test_usage_is_that_of_the_org_that_was_asked_for(no_key: Path) -> None:
    run("demo-data", "--until", "2026-11-20")

    assert json.loads(run("usage", "--org", "synthetic-demo", "--by", "month", "--json").stdout)[0]["calls"] > 0
    assert [
        line.split()[0] for line in run("usage", "--org", "synthetic-demo", "--by", "month").stdout.splitlines()[2:6]
    ] == [
        "2026-08",
        "2026-09",
        "2026-10",
        "2026-11",
    ]
    assert json.loads(run("usage", "--by", "month", "--json").stdout) == []
    assert run("usage", "--org", "acme").stderr == "No calls of the org 'acme'.\n"
    assert run("usage", "--org", "acme", "--since", "2026-11-01").stderr == "No calls of the org 'acme' in that time.\n"


def test_usage_before_the_first_call_is_an_empty_list_for_programs(no_key: Path) -> None:
    assert json.loads(run("usage", "--json").stdout) == []


@pytest.mark.usefixtures("three_calls")
def test_chats_lists_the_newest_first() -> None:
    lines = run("chats").stdout.splitlines()

    assert lines[0].split() == ["id", "used", "last", "title", "turns", "tokens", "cost"]
    assert [line[28:40] for line in lines[2:]] == ["What is 4+4?", "What is 3+3?", "What is 2+2?"]
    assert lines[2].split()[-3:] == ["1", "7,000", "unknown"]


@pytest.mark.usefixtures("three_calls")
def test_chats_can_be_searched_and_say_when_there_are_more() -> None:
    assert [chat["title"] for chat in json.loads(run("chats", "--search", "six", "--json").output)] == ["What is 3+3?"]
    assert "The newest 2; --limit shows more." in run("chats", "--limit", "2").stderr
    assert "shows more" not in run("chats", "--limit", "3").output
    assert run("chats", "--search", "nine").stderr == "No chat holds 'nine'.\n"


def test_titles_cannot_send_codes_to_the_terminal(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four"))
    run("ask", f"{ESC}]0;owned{BELL}{CSI}31mWhat?")

    assert "]0;owned31mWhat?" in run("chats").stdout


# Server, notebooks, demo --------------------------------------------------------------------------------------------


def test_serve_hands_over_to_the_server_with_the_settings(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str, int]] = []

    def serving(settings: Any, host: str, port: int) -> int:
        calls.append((settings.env, host, port))
        return 3

    monkeypatch.setattr(serve, "import_module", lambda name: SimpleNamespace(serve=serving))

    assert run("serve").exit_code == 3
    assert run("serve", "--host", "::1", "--port", "0").exit_code == 3
    assert calls == [("development", "127.0.0.1", 3000), ("development", "::1", 0)]


def test_serve_without_its_packages_says_what_to_install(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")

    monkeypatch.setattr(serve, "import_module", missing)

    result = run("serve")

    assert result.exit_code == 1
    assert result.stderr == (
        'Error: the server needs fastapi, which is not installed; run: pip install "claude-workbench[server]"\n'
    )


@pytest.fixture
def jupyter(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands this process would have become; two notebooks are in notebooks/."""
    (no_key / "notebooks").mkdir()
    for name in ("02 two.ipynb", "01 one.ipynb"):
        (no_key / "notebooks" / name).touch()
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, arguments, environment: commands.append(arguments))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return commands


def test_lab_opens_the_first_notebook_of_notebooks(jupyter: list[list[str]], no_key: Path) -> None:
    assert run("lab").exit_code == 0

    assert jupyter[0][:3] == [sys.executable, "-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={no_key / 'notebooks'}" in jupyter[0]
    assert "--LabApp.default_url=/lab/tree/01%20one.ipynb" in jupyter[0]
    assert "--allow-root" not in jupyter[0]


@pytest.mark.parametrize("place", [(), ("notebooks/02 two.ipynb",)])
def test_lab_passes_on_what_follows(place: tuple[str, ...], jupyter: list[list[str]]) -> None:
    run("lab", *place, "--port=8889", "--no-browser")

    assert jupyter[0][-2:] == ["--port=8889", "--no-browser"]
    assert f"--LabApp.default_url=/lab/tree/{'02%20two' if place else '01%20one'}.ipynb" in jupyter[0]


def test_lab_leaves_out_what_the_user_sets(jupyter: list[list[str]]) -> None:
    run("lab", "--LabApp.default_url=/lab/tree/02%20two.ipynb")

    assert [part for part in jupyter[0] if "default_url" in part] == ["--LabApp.default_url=/lab/tree/02%20two.ipynb"]


def test_lab_allows_root_to_root_only(jupyter: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    run("lab")

    assert "--allow-root" in jupyter[0]


def test_lab_prefers_the_kernel_of_this_environment(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = no_key / ".local/share/jupyter/kernels/python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["/elsewhere/python"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("HOME", str(no_key))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    ask = "from jupyter_client.kernelspec import *; print(KernelSpecManager().get_kernel_spec('python3').argv[0])"

    def kernel(environment: dict[str, str]) -> str:
        return subprocess.check_output([sys.executable, "-c", ask], env=environment, text=True).strip()

    assert kernel(dict(os.environ)) == "/elsewhere/python"
    assert kernel(lab.environment()) != "/elsewhere/python"


def test_lab_without_jupyterlab_says_what_to_install(jupyter: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "find_spec", lambda name: None)

    result = run("lab")

    assert (result.exit_code, jupyter) == (1, [])
    assert result.stderr == 'Error: JupyterLab is not installed; run: pip install "claude-workbench[lab]"\n'


def test_demo_shows_three_turns_then_what_they_used_and_where_they_are(
    scripted: ScriptedUpstream, no_key: Path
) -> None:
    small = Usage(uncached_input_tokens=5_000, output_tokens=2_000)
    scripted.script(*(reply(text, usage=small) for text in ("Four", "2+2", "Because")))

    result = run("demo")

    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0:8] == ["> What is 2+2?", "Four", "", "> What was my question?", "2+2", "", "> Can you explain why?", "Because"]  # fmt: skip
    assert next(line.split() for line in lines if line.startswith("total")) == [
        "total",
        "15,000",
        "0",
        "6,000",
        "$0.09",
    ]
    assert f"Kept in {no_key / 'store.duckdb'}" in lines
    assert [said(message) for message in scripted.last.body["messages"]][1:4:2] == ["Four", "2+2"]


def test_demo_names_commands_that_work_where_workbench_is_on_no_path(
    scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    scripted.script(reply("Four"), reply("2+2"), reply("Because"))

    shown = next(line for line in run("demo").stdout.splitlines() if line.endswith("all chats"))

    command = shown.removesuffix("all chats").split()
    assert subprocess.run([*command, "--help"], check=False, timeout=60).returncode == 0


# In a process of its own --------------------------------------------------------------------------------------------


class Command(subprocess.Popen[bytes]):
    """``workbench …`` in a process and a folder of its own."""

    def __init__(
        self, folder: Path, url: str, *arguments: str, environment: dict[str, str] | None = None, **more: Any
    ) -> None:
        environment = (
            os.environ
            | (environment or {})
            | {
                "ANTHROPIC_API_KEY": "sk-ant-test",
                "ANTHROPIC_BASE_URL": url,
                "PYTHONPATH": str(ROOT),
                "WORKBENCH_STORE": str(folder / "store.duckdb"),
            }
        )
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        line = [sys.executable, "-m", "workbench", *arguments]
        super().__init__(line, cwd=folder, env=environment, **(pipes | more))

    def read_until(self, text: bytes) -> None:
        """Wait until the output ends like this."""
        assert self.stdout is not None
        seen = b""
        while not seen.endswith(text):
            piece = os.read(self.stdout.fileno(), 1)
            assert piece, f"ended after {seen!r}: {self.stderr.read().decode() if self.stderr else ''}"
            seen += piece

    def results(self, input: bytes | None = None) -> tuple[int, str, str]:
        stdout, stderr = self.communicate(input)
        return self.returncode, stdout.decode() if stdout else "", stderr.decode() if stderr else ""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".env").touch()
    for name in ("CLAUDE_MODEL", "CLAUDE_MAX_TOKENS", "APP_ENV", "WORKBENCH_LOCAL_GGUF"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


def recorded(folder: Path) -> list[tuple[str, str]]:
    """Status and text of the replies in the store, and of their usage."""
    with duckdb.connect(str(folder / "store.duckdb"), read_only=True) as store:
        return store.execute(
            "SELECT u.status, m.content FROM usage u JOIN messages m ON m.id = u.message_id ORDER BY u.started_at"
        ).fetchall()


def test_interrupt_keeps_what_came_and_ends_with_130(folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Hello brave new world", pause_after=2))
    with Command(folder, upstream.url, "ask", "hi") as command:
        command.read_until(b"Hello brave")
        command.send_signal(signal.SIGINT)
        code, _, stderr = command.results()

    assert code == 130
    assert stderr.startswith("interrupted · claude-sonnet-5-5") and len(stderr.splitlines()) == 1
    assert recorded(folder) == [("interrupted", "Hello brave")]


def test_interrupt_before_anything_came_is_recorded_too(folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Hello", pause_before=True))
    with Command(folder, upstream.url, "ask", "hi") as command:
        upstream.wait_for(lambda upstream: upstream.paused == 1, timeout=60)
        command.send_signal(signal.SIGINT)
        code, stdout, stderr = command.results()

    assert (code, stdout) == (130, "")
    assert stderr == "interrupted before anything came\n"
    assert recorded(folder) == [("interrupted", "")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_ledger_is_closed_changes_nothing(number: signal.Signals, folder: Path) -> None:
    script = (
        "import os, sys, workbench.cli, workbench.runtime\n"
        "number = int(sys.argv.pop())\n"
        "ends = iter([number])\n"
        "workbench.runtime.close = lambda: [os.kill(os.getpid(), number) for number in ends]\n"
        "sys.argv.append('--version')\n"
        "workbench.cli.main()"
    )
    line = [sys.executable, "-c", script, str(int(number))]
    ended = subprocess.run(
        line, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_terminated_command_records_its_turn(folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Hello brave new world", pause_after=2))
    with Command(folder, upstream.url, "ask", "hi") as command:
        command.read_until(b"Hello brave")
        command.send_signal(signal.SIGTERM)
        code, _, stderr = command.results()

    assert (code, stderr) == (143, "")
    assert recorded(folder) == [("interrupted", "Hello brave")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_owner_that_a_signal_ends_records_its_turn_and_hands_over(
    number: signal.Signals, folder: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script(reply("Hello brave new world", pause_after=2))
    with Command(folder, upstream.url, "ask", "hi") as command:
        await asyncio.to_thread(command.read_until, b"Hello brave")
        client = await asyncio.to_thread(SharedFile, str(folder / "store.duckdb"))
        asked = client.owner
        command.send_signal(number)
        code, _, _ = await asyncio.to_thread(command.results)
    left = await client.rows("SELECT u.status, m.content FROM usage u JOIN messages m ON m.id = u.message_id")
    owner = client.owner
    client.close()

    assert (asked[1], code, owner[1]) == (command.pid, 128 + number, os.getpid())
    assert left == [("interrupted", "Hello brave")]


def test_a_closed_pipe_ends_quietly_and_stops_claude(folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply(words(100_000), delay=0.001))
    with Command(folder, upstream.url, "ask", "hi") as command:
        command.read_until(b"alpha bravo")
        assert command.stdout is not None and command.stderr is not None
        command.stdout.close()
        stderr = command.stderr.read()
        command.wait()

    assert (command.returncode, stderr) == (1, b"")
    ((status, text),) = recorded(folder)
    assert status == "interrupted" and text.startswith("alpha bravo")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that only Linux has")
def test_an_output_that_cannot_be_written_is_one_sentence(folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Hello"))
    with Path("/dev/full").open("wb") as full, Command(folder, upstream.url, "ask", "hi", stdout=full) as command:
        code, _, stderr = command.results()

    assert (code, stderr) == (1, "Error: input or output failed: No space left on device\n")


def test_a_full_disk_is_one_sentence(folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Hello"))
    with Command(folder, upstream.url, "ask", "hi") as command:
        command.results()

    # as on a full disk, no file can grow
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    with Command(folder, upstream.url, "ask", "hi", preexec_fn=full) as command:
        code, stdout, stderr = command.results()

    assert (code, stdout, len(upstream.requests)) == (1, "", 1)
    assert stderr.startswith(f"Error: the store {folder / 'store.duckdb'} cannot be written, its disk is full; free")


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="a call that only Linux has")
def test_a_disk_that_fills_in_mid_reply_ends_in_sentences_too(folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Hello brave new world", pause_after=2))
    with Command(folder, upstream.url, "ask", "-q", "hi") as command:
        command.read_until(b"Hello brave")
        resource.prlimit(command.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        upstream.release()
        code, stdout, stderr = command.results()

    assert (code, stdout) == (1, " new world\n")
    full = f"the store {folder / 'store.duckdb'} cannot be written, its disk is full; free some space and go on, "
    assert stderr.splitlines() == [
        f"Error: {full}what was saved is safe",
        f"Not every turn could be saved at the end, the next start records those as lost: {full}what was saved is safe",
    ]


def test_piped_text_is_put_before_the_question(folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("A list"))
    with Command(folder, upstream.url, "ask", "What is this?", stdin=subprocess.PIPE) as command:
        code, stdout, _ = command.results("1\n2 ½\n".encode())

    assert (code, stdout) == (0, "A list\n")
    assert said(upstream.last.body["messages"][0]) == "1\n2 ½\n\nWhat is this?"


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_a_closed_input_asks_nothing(arguments: tuple[str, ...], folder: Path, upstream: ScriptedUpstream) -> None:
    def closed() -> None:
        os.close(0)

    with Command(folder, upstream.url, "ask", *arguments, stdin=None, preexec_fn=closed) as command:
        code, _, stderr = command.results()

    assert (code, stderr) == (2, 'Error: there is nothing to ask; try: workbench ask "What is 2+2?"\n')


@pytest.mark.parametrize("columns", ["0", "wide"])
def test_a_width_that_is_none_hides_nothing(
    columns: str, scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.script(reply("Four"))
    run("ask", "What is 2+2?")
    monkeypatch.setenv("COLUMNS", columns)

    assert "What is 2+2?" in run("chats").stdout


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_piped_text_alone_is_the_question(arguments: tuple[str, ...], folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("Four"))
    with Command(folder, upstream.url, "ask", *arguments, stdin=subprocess.PIPE) as command:
        command.results(b"What is 2+2?\n")

    assert said(upstream.last.body["messages"][0]) == "What is 2+2?"


def test_input_that_is_no_text_is_refused(folder: Path, upstream: ScriptedUpstream) -> None:
    with Command(folder, upstream.url, "ask", stdin=subprocess.PIPE) as command:
        code, _, stderr = command.results(b"caf\xe9")

    assert (code, upstream.requests) == (2, [])
    assert stderr == "Error: the input is not UTF-8 text (byte 3); convert it, for example with iconv\n"


HOSTILE = f"a{ESC}[2J{ESC}]0;owned{BELL}b\r{CSI}31mc\td\n\x00e\x7f"


def test_a_reply_cannot_send_codes_to_the_terminal(folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply([*HOSTILE]))
    ours, theirs = pty.openpty()
    with Command(folder, upstream.url, "ask", "-q", "hi", stdout=theirs) as command:
        os.close(theirs)
        seen = read_all(ours)

    assert command.returncode == 0
    assert seen.replace(b"\r\n", b"\n") == b"a[2J]0;ownedb31mc\td\ne\n"


def test_a_reply_reaches_a_pipe_as_it_is(folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply([*HOSTILE]))
    with Command(folder, upstream.url, "ask", "-q", "hi") as command:
        _, stdout, _ = command.results()

    assert stdout == HOSTILE + "\n"


def test_a_terminal_that_lacks_a_letter_gets_the_rest(folder: Path, upstream: ScriptedUpstream) -> None:
    upstream.script(reply("½ of it"))
    with Command(folder, upstream.url, "ask", "-q", "hi", environment={"PYTHONIOENCODING": "ascii"}) as command:
        assert command.results() == (0, "? of it\n", "")


def test_help_and_version_load_nothing_heavy(folder: Path) -> None:
    program = (
        "import sys\n"
        "from workbench.cli import main\n"
        "for sys.argv in (['workbench', '--help'], ['workbench', 'ask', '--help'], ['workbench', '--version']):\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code\n"
        "heavy = {'anthropic', 'pandas', 'matplotlib', 'duckdb', 'pyarrow', 'IPython', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    output = subprocess.check_output(
        [sys.executable, "-c", program], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )

    assert output.splitlines()[-1] == b"[]"


def test_help_shows_examples_as_they_are_typed() -> None:
    assert '\n    workbench ask --continue "And 3+3?"\n' in run("ask", "--help").stdout


@pytest.mark.parametrize("group", [(), ("orgs",), ("users",), ("keys",), ("store",), ("prompts",), ("experiments",)])
def test_lists_of_commands_say_what_each_does_to_the_end(group: tuple[str, ...]) -> None:
    commands = run(*group, "--help").stdout.split("Commands:")[1]
    assert "..." not in commands
    assert max(map(len, commands.splitlines())) <= 78  # in a terminal of 80 two are left free


def test_shells_can_complete_commands(folder: Path) -> None:
    asked = {"_WORKBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "workbench us", "COMP_CWORD": "1"}
    with Command(folder, "", environment=asked) as command:
        assert command.results()[1] == "usage\nusers\n"


def said(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def read_all(terminal: int) -> bytes:
    """What a terminal was sent, until nobody holds its other end."""
    seen = b""
    try:
        while piece := os.read(terminal, 4096):
            seen += piece
    except OSError:  # how Linux says that it is the end
        pass
    os.close(terminal)
    return seen
