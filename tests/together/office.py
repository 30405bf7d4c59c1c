"""Two notebooks, the server and the commands of `workbench store`, at work on one file until they are told to stop."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import count, cycle, groupby, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import httpx2
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop

from tests.conftest import VARIABLES
from tests.faults.upstream import ScriptedUpstream, reply, words
from tests.server.live import PATIENCE, events
from tests.server.process import ROOT, ServerProcess
from tests.together.analyst import LONG
from tests.together.diary import Diary, Entry, entries
from workbench.store import Store
from workbench.store.flight import FlightClient, OwnerGone, Sender
from workbench.store.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from tests.faults.upstream import Reply, Request

PAUSE_BETWEEN_COMMANDS = 2.0
PAUSE_BETWEEN_KILLS = 1.0
"""From when everybody is at work again."""


class Killed(Exception):
    """The process is gone, as was intended."""


class Worker:
    """Drives one process, and starts it again when it is killed."""

    def __init__(self, office: Office, name: str) -> None:
        self.office = office
        self.name = name
        self.diary = Diary(office.diaries, name)
        self.at_work = threading.Event()
        self.error: BaseException | None = None
        self._killed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    process: subprocess.Popen[Any] | None = None

    def running(self) -> AbstractContextManager[None]:
        """Keep the process running in the block; after an orderly end of that, end it in an orderly way."""
        return nullcontext()

    def step(self) -> None:
        """Have it do one thing; raise Killed when it is no longer there."""
        raise NotImplementedError

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        if self._thread.is_alive():
            self._thread.join()

    def kill(self) -> None:
        self._killed = True
        self.at_work.clear()
        assert self.process
        self.process.send_signal(signal.SIGKILL)

    def _run(self) -> None:
        try:
            while not self.office.over.is_set():
                self._until_killed()
        except BaseException as error:
            self.error = error
            self.office.over.set()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of what outlives single processes."""

    def _until_killed(self) -> None:
        self._killed = False
        try:
            with self.running():
                while not self.office.over.is_set():
                    self.step()
                    if not self._killed:
                        self.at_work.set()
        except Killed:
            if not self._killed:
                raise AssertionError(f"{self.name} died by itself") from None


class Notebook(Worker):
    """An analyst's: every step is a cell."""

    def __init__(self, office: Office, name: str) -> None:
        super().__init__(office, name)
        self._starts = count(1)

    @contextmanager
    def running(self) -> Iterator[None]:
        # sockets, since somebody else may take a port before the kernel does
        connection = self.office.sockets / f"{self.name[-1]}-{next(self._starts)}.json"
        self._manager = manager = KernelManager(transport="ipc", connection_file=str(connection))
        office = self.office
        with ExitStack() as stack:
            log = stack.enter_context((office.folder / f"{self.name}.log").open("a"))
            manager.start_kernel(env=office.environment, cwd=str(office.folder), stdout=log, stderr=log)
            stack.callback(lambda: manager.shutdown_kernel(now=self._killed))
            self.process = manager.provisioner.process
            self._client = manager.client()
            self._client.start_channels()
            stack.callback(self._client.stop_channels)
            self._client.wait_for_ready(timeout=PATIENCE)
            self._cell("from tests.together.analyst import Analyst")
            self._cell(f"analyst = Analyst({self.name!r}, {str(office.diaries)!r}, {office.shared_chat!r})")
            yield

    def step(self) -> None:
        self._cell("analyst.work()")

    def close(self) -> None:
        ensure_event_loop().close()  # the one that jupyter_client has made for this thread

    def _cell(self, code: str) -> None:
        asked = self._client.execute(code)
        while (answer := self._answer())["parent_header"].get("msg_id") != asked:
            pass
        if answer["content"]["status"] != "ok":
            raise AssertionError(f"{self.name}: " + "\n".join(answer["content"]["traceback"]))

    def _answer(self) -> dict[str, Any]:
        while True:
            try:
                return self._client.get_shell_msg(timeout=0.2)
            except queue.Empty:
                if not self._manager.is_alive():
                    raise Killed from None


class Service(Worker):
    """The server; every step is a client that asks twice at the same time."""

    def __init__(self, office: Office, name: str) -> None:
        super().__init__(office, name)
        self._questions = count(1)
        self._chat: str | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        with ServerProcess(self.office.store, **self.office.ours) as self._server:
            self.process = self._server.process
            if not self.office.shared_chat:
                self._post("What is this chat for?")
            yield
            self._server.signal(signal.SIGTERM)
            assert self._server.ended() == 0, self._server.lines[-20:]

    def step(self) -> None:
        try:
            n = next(self._questions)
            self._stream(f"{self.name} streams {n}")
            if n % 5 == 0:
                self._chat = None
        except httpx2.TransportError:
            if not self._killed:
                raise
            raise Killed from None

    def _stream(self, question: str) -> None:
        body = {"message": question} | ({"chat_id": self._chat} if self._chat else {})
        with (
            self.diary.entry("stream over HTTP", question=question) as entry,
            self._server.client.stream("POST", "/chat/stream", json=body) as answer,
        ):
            assert answer.status_code == 200, (answer.read(), self._server.errors())
            first, *rest = self._asking_meanwhile(events(answer))
            assert rest[-1]["done"] and "error" not in rest[-1], (rest[-1], self._server.errors())
            assert "".join(event["token"] for event in rest) == rest[-1]["fullText"]
            entry |= _told(rest[-1], rest[-1]["fullText"])
        self._chat = first["chat_id"]

    def _asking_meanwhile(self, told: Any) -> list[dict[str, Any]]:
        first = next(told)
        self._post(f"{self.name} posts {next(self._questions)}")
        return [first, *told]

    def _post(self, question: str) -> None:
        with self.diary.entry("post", question=question) as entry:
            chat_id = self.office.shared_chat
            answer = self._server.client.post("/chat", json={"message": question, "chat_id": chat_id})
            assert answer.status_code == 200, (answer.text, self._server.errors())
            entry |= _told(answer.json(), answer.json()["reply"])
        self.office.shared_chat = entry["chat_id"]


class Commands(Worker):
    """Somebody who looks after the store."""

    def __init__(self, office: Office, name: str) -> None:
        super().__init__(office, name)
        self._commands = cycle(["info", "snapshot", "check"])  # of the first at least is known what is usual
        self._snapshots = count(1)

    def step(self) -> None:
        command = next(self._commands)
        file = [f"snapshot-{next(self._snapshots)}.duckdb"] if command == "snapshot" else []
        with self.diary.entry(f"workbench store {command}", file="".join(file)):
            self._run_command(command, *file)
        self.office.over.wait(PAUSE_BETWEEN_COMMANDS)

    def _run_command(self, *arguments: str) -> None:
        self.process = self.office.command(*arguments)
        told, complaint = self.process.communicate()
        if self._killed:
            raise Killed
        assert self.process.returncode == 0, (arguments, told, complaint)


def _told(said: dict[str, Any], text: str) -> Entry:
    return {
        "chat_id": said["chat_id"],
        "message_id": said["message_id"],
        "text": text,
        "status": "complete",
        "input_tokens": said["usage"]["input_tokens"],
        "output_tokens": said["usage"]["output_tokens"],
        "cost_usd": said["cost_usd"],
    }


class Stall(NamedTuple):
    """By how much longer than usual something took."""

    seconds: float
    who: str
    what: str


class Kill(NamedTuple):
    """Who was killed while owning the file, when, and when somebody else answered for it."""

    who: str
    at: float
    taken_over: float

    def met(self, entry: Entry) -> bool:
        """Whether it was done, by a survivor, while nobody answered."""
        return entry["who"] != self.who and entry["begun"] < self.taken_over and self.at < entry["ended"]


class Row(NamedTuple):
    """A message, as it is kept."""

    id: str
    role: str
    content: str
    status: str


class Call(NamedTuple):
    """What one turn used, as it is kept."""

    message_id: str
    status: str
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal


class Kept(NamedTuple):
    """What a store holds."""

    messages: dict[str, list[Row]]
    """By chat, in their order."""
    calls: list[Call]

    def questions(self) -> dict[str, str]:
        """The message before each reply, by the reply's id."""
        return {
            reply.id: before.content
            for rows in self.messages.values()
            for before, reply in pairwise(rows)
            if (before.role, reply.role) == ("user", "assistant")
        }


class Office:
    """Runs everybody, kills who owns the file if asked to, and has what they wrote down and what was kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store.duckdb"
        self.diaries = folder / "diaries"
        self.diaries.mkdir()
        (folder / ".env").touch()
        self.over = threading.Event()
        self.shared_chat: str | None = None
        self.kills: list[Kill] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # a short path: a socket's has at most about 100 bytes
        self.sockets = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="wb-")))
        upstream = self._stack.enter_context(ScriptedUpstream())
        upstream.default = _answer
        self.ours = {
            "WORKBENCH_STORE": str(self.store),
            "ANTHROPIC_API_KEY": "sk-ant-test",
            "ANTHROPIC_BASE_URL": upstream.url,
            "PYTHONPATH": str(ROOT),
            "IPYTHONDIR": str(self.folder / "ipython"),
        }
        theirs = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        self.environment = theirs | self.ours
        self.workers = [
            Service(self, "server"),
            Notebook(self, "notebook-1"),
            Notebook(self, "notebook-2"),
            Commands(self, "commands"),
        ]
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        for worker in self.workers:
            worker.join()
        self._stack.close()

    def work(self, seconds: float, *, killing: bool = False) -> None:
        """Let everybody work for so long, counted from when all have begun."""
        for worker in self.workers:
            worker.start()
            if isinstance(worker, Service):  # the first to own the file
                self._all_at_work([worker])
        self._all_at_work(self.workers)
        until = time.monotonic() + seconds
        while killing and self._to_be_killed(until) and not self.over.wait(PAUSE_BETWEEN_KILLS):
            self._kill_owner()
            self._all_at_work(self.workers)
        self.over.wait(max(0.0, until - time.monotonic()))
        self.over.set()
        for worker in self.workers:
            worker.join()

    def _to_be_killed(self, until: float) -> bool:
        """Whether it is not yet time, or no notebook or not the server was hit."""
        kinds = {kill.who[:8] for kill in self.kills} - {"commands"}
        return time.monotonic() < until or len(kinds) < 2

    def _all_at_work(self, workers: list[Worker]) -> None:
        while not self.over.is_set() and not all(worker.at_work.wait(0.1) for worker in workers):
            pass

    def _kill_owner(self) -> None:
        pid = self._owner()
        victims = [worker for worker in self.workers if worker.process and worker.process.pid == pid]
        if not victims:  # it has just ended, or begun to
            return
        at = time.monotonic()
        victims[0].kill()
        while self._owner() in (None, pid) and not self.over.is_set():
            time.sleep(0.01)
        self.kills.append(Kill(victims[0].name, at, time.monotonic()))

    def _owner(self) -> int | None:
        """The PID that `workbench store info` would show; asking this way, we never own the file ourselves."""
        try:
            client = FlightClient(Place.of(str(self.store)), Sender())
        except OwnerGone:
            return None
        client.close()
        assert client.greeting
        return client.greeting.pid

    # What came of it ------------------------------------------------------------------------------------------------

    @property
    def errors(self) -> list[BaseException]:
        return [worker.error for worker in self.workers if worker.error]

    @property
    def done(self) -> list[Entry]:
        return [entry for entry in entries(self.diaries) if "ended" in entry]

    @property
    def cut_off(self) -> list[Entry]:
        return [entry for entry in entries(self.diaries) if "ended" not in entry]

    def usual(self, what: str) -> float:
        """How many seconds this took when nobody was killed; half of the times it was less."""
        return median(_seconds(entry) for entry in self.done if entry["what"] == what and not self._met_a_kill(entry))

    def stalls(self) -> list[Stall]:
        """What met a kill, and how much longer than usual it took; the longest first."""
        met = [entry for entry in self.done if self._met_a_kill(entry)]
        known = {entry["what"] for entry in self.done if not self._met_a_kill(entry)}
        usual = {what: self.usual(what) for what in known}
        stalls = [Stall(_seconds(e) - usual[e["what"]], e["who"], e["what"]) for e in met if e["what"] in usual]
        return sorted(stalls, reverse=True)

    def _met_a_kill(self, entry: Entry) -> bool:
        return any(kill.met(entry) for kill in self.kills)

    def command(self, *arguments: str, store: Path | None = None) -> subprocess.Popen[str]:
        """Start `workbench store …`."""
        return subprocess.Popen(
            [sys.executable, "-m", "workbench", "store", *arguments],
            cwd=self.folder,
            env=self.environment | {"WORKBENCH_STORE": str(store or self.store)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def checked(self, store: Path) -> int:
        """What `workbench store check` ends with."""
        with self.command("check", store=store) as process:
            print(*process.communicate())
        return process.returncode

    def kept(self, path: Path) -> Kept:
        """Look into a store, when nobody uses it any more."""

        async def look() -> Kept:
            store = await Store.open(str(path))
            try:
                said = await store.backend.rows(
                    "SELECT chat_id, id, role, content, status FROM messages ORDER BY chat_id, seq"
                )
                calls = await store.backend.rows(
                    "SELECT message_id, status, input_tokens, output_tokens, cost_usd FROM usage"
                )
            finally:
                store.close()
            chats = groupby(said, key=lambda row: row[0])
            return Kept({chat: [Row(*row[1:]) for row in rows] for chat, rows in chats}, [Call(*row) for row in calls])

        return asyncio.run(look())


def _seconds(entry: Entry) -> float:
    return entry["ended"] - entry["begun"]


def _answer(request: Request) -> Reply:
    """Name the question, so that replies cannot be mistaken for one another."""
    long = LONG in request.prompt
    return reply(f"{request.prompt} and is told {words(40 if long else 6)}", delay=0.06 if long else 0.005)
