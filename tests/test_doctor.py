"""What ``workbench doctor`` finds, and that looking changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import duckdb
import pytest
from typer.testing import CliRunner

from tests.faults.upstream import ScriptedUpstream, Usage, fault, reply
from workbench import runtime
from workbench.cli import app, doctor

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

KEY = "sk-ant-" + "abcdefgh" * 3 + "WXYZ"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="workbench")


def finding(name: str, *arguments: str) -> tuple[int, str, str]:
    """The exit code of the command, and the state and text of one line."""
    result = run("doctor", "--json", *arguments)
    (check,) = [check for check in json.loads(result.stdout)["checks"] if check["name"] == name]
    return result.exit_code, check["state"], f"{check['detail']} → {check['mend']}"


def test_a_store_that_another_of_ours_has_open_is_shared(no_key: Path) -> None:
    hold = "import asyncio; from workbench.store import Store; s = asyncio.run(Store.open('store.duckdb')); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], cwd=no_key, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        _, state, text = finding("store")
        other.communicate("\n")

    assert state == "ok"
    assert f"(PID {other.pid})" in text


def test_without_a_key_it_says_who_answers_and_all_is_well(no_key: Path) -> None:
    code, state, text = finding("Claude")

    assert (code, state) == (0, "ok")
    assert text.startswith("the embedded model answers, not Claude")


def test_a_store_that_is_not_there_is_not_made(no_key: Path) -> None:
    code, state, text = finding(
        "store",
    )

    assert (code, state) == (0, "ok")
    assert text.startswith(f"{no_key / 'store.duckdb'} is not there yet")
    assert [path.name for path in no_key.iterdir()] == [".env"]


def test_the_key_and_the_password_of_a_url_are_masked(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://ada:geheim@proxy.example:8443/anthropic?token=geheim")

    output = run("doctor").output + run("doctor", "--json").output

    assert "claude-sonnet-5-5 at https://proxy.example:8443/anthropic, with the key sk-ant-…WXYZ" in output
    assert "abcdefgh" not in output and "geheim" not in output


def test_a_store_in_postgresql_is_named_without_its_password(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORE", "postgresql://ada:geheim@db.example/ledger")

    code, state, text = finding("store")

    assert (code, state) == (0, "ok")
    assert text.startswith("postgresql://ada:***@db.example/ledger; whether it answers was not asked")


def test_people_get_a_sign_a_word_and_what_to_do(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ENV", "production")

    result = run("doctor")

    assert result.exit_code == 1
    assert "✗ fail  Claude          Claude API not configured. Please set ANTHROPIC_API_KEY." in result.stdout
    assert result.stdout.splitlines()[-1].startswith("1 broken")


def test_a_setting_that_does_not_fit_is_named(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "many")

    code, state, text = finding("settings")

    assert (code, state) == (1, "fail")
    assert "PORT" in text


def test_without_online_nobody_is_asked(scripted: ScriptedUpstream) -> None:
    assert run("doctor").exit_code == 0
    assert scripted.requests == []


def test_online_asks_for_one_token_and_leaves_the_ledger_alone(scripted: ScriptedUpstream, no_key: Path) -> None:
    scripted.script(reply("Hi", usage=Usage(uncached_input_tokens=8, output_tokens=1)))

    code, state, text = finding("answer", "--online")

    assert (code, state) == (0, "ok")
    assert "(8 in + 1 out tokens, $0.000026, not in the ledger)" in text
    assert [request.body["max_tokens"] for request in scripted.requests] == [1]
    assert not (no_key / "store.duckdb").exists()


def test_online_asks_no_server_for_the_embedded_model(
    scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_MODEL", "local")

    code, state, text = finding("answer", "--online")

    assert (code, state) == (0, "ok")
    assert text.startswith("nobody to ask online: CLAUDE_MODEL is local")
    assert scripted.requests == []


def test_online_reports_a_key_that_is_not_accepted(scripted: ScriptedUpstream) -> None:
    scripted.script(fault("401"))

    code, state, text = finding("answer", "--online")

    assert (code, state) == (1, "fail")
    assert "does not accept the key (401); check ANTHROPIC_API_KEY" in text


def test_a_store_is_counted_and_not_touched(scripted: ScriptedUpstream, no_key: Path) -> None:
    scripted.script(reply("Four"))
    run("ask", "2+2?")
    runtime.close()
    before = (no_key / "store.duckdb").read_bytes()

    code, state, text = finding("store")

    assert (code, state) == (0, "ok")
    assert " MB; chats: 1, calls: 1, schema: " in text
    assert (no_key / "store.duckdb").read_bytes() == before


def test_a_store_in_use_is_no_failure_and_names_who_has_it(no_key: Path) -> None:
    hold = "import duckdb; c = duckdb.connect('store.duckdb'); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=no_key
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        code, state, text = finding("store")
        other.communicate(b"\n")

    assert (code, state) == (0, "warn")
    assert f"(PID {other.pid})" in text


def test_a_file_that_is_no_store_fails(no_key: Path) -> None:
    (no_key / "store.duckdb").write_text("not a database, but long enough to be taken for the head of one " * 200)

    code, state, text = finding("store")

    assert (code, state) == (1, "fail")
    assert "is not a workbench store; set WORKBENCH_STORE to another file" in text


def test_a_pipe_is_no_store_and_nobody_waits_for_it(no_key: Path) -> None:
    os.mkfifo(no_key / "store.duckdb")

    code, state, text = finding("store")

    assert (code, state) == (1, "fail")
    assert "is not a workbench store; set WORKBENCH_STORE to another file" in text


def test_somebody_elses_database_fails(no_key: Path) -> None:
    duckdb.connect(str(no_key / "store.duckdb")).close()

    assert finding("store")[:2] == (1, "fail")


def test_a_store_of_a_newer_workbench_says_to_update(scripted: ScriptedUpstream, no_key: Path) -> None:
    run("chats")
    runtime.close()
    with duckdb.connect(str(no_key / "store.duckdb")) as store:
        store.execute("INSERT INTO schema_version VALUES (999, 'later', now())")

    code, state, text = finding("store")

    assert (code, state) == (1, "fail")
    assert "pip install -U claude-workbench" in text


@pytest.mark.parametrize(("free", "state"), [(600_000_000, "ok"), (400_000_000, "warn"), (10_000_000, "fail")])
def test_a_disk_that_fills_up_is_told(free: int, state: str, no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - free, free))

    assert finding("store disk")[:2] == (int(state == "fail"), state)


def test_a_missing_extra_is_a_warning_with_its_command(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "fastapi" else installed(name))

    code, state, text = finding("extra server")

    assert (code, state) == (0, "warn")
    assert text == 'fastapi is missing; `workbench serve` needs them → pip install "claude-workbench[server]"'


def test_a_package_that_is_too_old_is_a_failure(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "1.5" if name == "duckdb" else installed(name))

    code, state, text = finding("workbench")

    assert (code, state) == (1, "fail")
    assert "duckdb is 1.5 and has to be <3,>=2.0" in text


def test_weights_that_are_missing_are_told_and_not_fetched(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_key / "cache"))

    code, state, text = finding("local weights")

    assert (code, state) == (0, "warn")
    assert "fetched on first use (93 MB)" in text
    assert not (no_key / "cache").exists()


@pytest.mark.parametrize(
    ("key", "model", "expected"), [("", "", (1, "fail")), (KEY, "", (0, "warn")), (KEY, "local", (1, "fail"))]
)
def test_a_missing_engine_fails_only_if_it_is_needed(
    key: str, model: str, expected: tuple[int, str], no_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    monkeypatch.setenv("CLAUDE_MODEL", model)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)

    code, state, text = finding("local engine")

    assert (code, state) == expected
    assert 'pip install "claude-workbench[local]"' in text


def test_a_jupyter_without_a_kernel_is_told(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyter_client.kernelspec.NATIVE_KERNEL_NAME", "none")
    monkeypatch.setattr("jupyter_client.kernelspec.jupyter_path", lambda *places: [str(no_key)])

    code, state, text = finding("notebooks")

    assert (code, state) == (0, "warn")
    assert 'there is no kernel python3 → pip install "claude-workbench[lab]"' in text


def test_a_kernel_of_another_python_is_told(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = no_key / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["/elsewhere/python"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(no_key))

    code, state, text = finding("notebooks")

    assert (code, state) == (0, "warn")
    assert "/elsewhere/python, another Python than this one" in text
