"""What the server adds to the upstream, in CPU time, speed, delay and memory, against other servers in the same run.

Every server is a process of its own and stays, idle, while the others are measured; upstream and clients are processes
too. Ours is started as people start it, with all it does switched on: keys, limits, budgets and a DuckDB file as its
store. Counted is the CPU time of the server's process, all threads included, so other work on the machine does not
count; the rounds are interleaved and figures are medians of them.

Saturation: 16 at once, without delay. ``each``: replies of 200 tokens, every token written by itself, as Claude does;
``burst``: the same, 32 kB at a time; ``long``: 2000 tokens, 32 kB at a time. Paced: 40 tokens, 20 ms apart, all streams
begun at once.

LiteLLM's proxy is measured where it is: ``BENCH_LITELLM`` names the program, or it is on the path. It has two ways to
Claude: its own, which reads every event and writes one of its own as ours does, and one that passes the bytes on.

Why ours misses what it misses. A token costs it little: one read of the upstream is split, decoded, folded and written
again in one piece. Most is paid once a turn, and most of that for what the others do not do at all. Of the CPU time of a
turn of 200 tokens, 16 at once (py-spy and the threads' own counts)

- more than four tenths are DuckDB's: two transactions that write to four tables, with what was asked before the upstream is
  called and what was billed before the last event is sent. A statement takes it 0.5 to 1 ms, whether it writes one row or
  sixteen, so rows of turns that end together go together, and one stream alone has to pay for all of it: that is the
  delay to its first token, and it is why a single stream costs more CPU time a turn than sixteen;
- an eighth is the way to the upstream, through the SDK, httpx2 and aiohttp; a tenth is writing to sockets;
- a twelfth is FastAPI's and Starlette's way from the request to the route, and half as much the log;
- a tenth is the tokens themselves.

When 256 streams begin in the same moment, one process begins their turns one after the other: the last first token comes
twice as late as the middle one, whatever a turn costs, so that p99 over p50 is about 2, in some runs above and in others
below.

So the longer a reply, the less of it is the turn; but against a pass-through that neither reads nor keeps anything no
reply is long enough: it sends 32 kB on for what one event costs to read. The memory of an idle server is, apart from
Python's, FastAPI's and our own, a quarter each that of the SDK, of DuckDB, and of Arrow with its Flight server, by which
notebooks share the store of a running server: without any one of the three it would still be above its target.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

    Figures = dict[str, Any]

ROOT = Path(__file__).parents[2]
ROUNDS = 5
TOKENS, AT_ONCE, REPLIES = 200, 16, 128
STREAMS, PACED_ROUNDS = 256, 5
SLOW = 8  # times fewer replies are asked of a server that would take minutes
PATIENCE = 120.0
KEY = "sk-bench"
MASTER_KEY = "sk-1f0d2c3b4a59687786957463524130fe"  # of a proxy on loopback, for as long as it is measured
MODEL = "claude-sonnet-5-5"
EACH = f"[[tokens={TOKENS} delay=0.000000001]]"
BURST = f"[[tokens={TOKENS}]]"
LONG = "[[tokens=2000]]"
WHOLE = "[[tokens=100]]"
PACED = "[[tokens=40 delay=0.02]]"
SINGLE = "[[tokens=3 delay=0.02]]"

DIRECT, BYTES, NAIVE, OURS = "direct", "aiohttp pass-through", "FastAPI + SDK", "workbench"
LITELLM, LITELLM_BYTES = "LiteLLM proxy", "LiteLLM proxy, bytes"
OF_CLAUDE = (DIRECT, BYTES, LITELLM_BYTES)
"""Those that are asked, and answer, as Claude."""


class Busy(NamedTuple):
    """What a server did while it answered."""

    cpu: float
    """Seconds of CPU time."""
    memory: float
    """The most MB it had."""
    figures: Figures


@dataclass
class Server:
    """A running server, and how it is asked."""

    name: str
    process: psutil.Process
    port: int
    start_cpu: float
    idle_memory: float
    key: str = KEY

    @property
    def token(self) -> str:
        """What is in an event with a token, and in no other."""
        if self.name in OF_CLAUDE:
            return "content_block_delta"
        return {OURS: '"done":false}', NAIVE: '"done": false}', LITELLM: '"content":"'}[self.name]

    def request(self, message: str, path: str = "/chat/stream", key: str | None = None) -> str:
        """The bytes of a request for a reply."""
        body: dict[str, Any] = {"message": message}
        if self.name in (*OF_CLAUDE, LITELLM):
            path = "/v1/messages" if self.name in OF_CLAUDE else "/v1/chat/completions"
            messages = [{"role": "user", "content": message}]
            body = {"model": MODEL, "max_tokens": 4096, "messages": messages, "stream": True}
        content = json.dumps(body)
        lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"authorization: Bearer {key or self.key}"]
        lines += ["anthropic-version: 2023-06-01", "content-type: application/json", f"content-length: {len(content)}"]
        return "\r\n".join([*lines, "", content])


class Programs:
    """Starts processes and ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, command: list[str], **more: Any) -> subprocess.Popen[str]:
        """Start a program that ends with this one."""
        process = subprocess.Popen(command, cwd=ROOT, text=True, **more)
        self._stack.callback(self._end, process)
        return process

    def serve(self, name: str, command: list[str], port: int, environment: dict[str, str] | None = None) -> Server:
        """Start a server, and wait until it answers."""
        log = (self.folder / f"{name}.log").open("w")
        self._stack.enter_context(log)
        process = self.start(command, env=os.environ | (environment or {}), stdout=log, stderr=log)
        begun = time.monotonic()
        while not _answers(port, "/readyz" if name == OURS else "/"):
            if process.poll() is not None or time.monotonic() > begun + PATIENCE:
                raise SystemExit(f"{name} does not start: {Path(log.name).read_text()[-2000:]}")
            time.sleep(0.05)
        time.sleep(1)  # what it does after it said that it is ready belongs to its start
        seen = psutil.Process(process.pid)
        return Server(name, seen, port, _cpu(seen), _memory(seen))

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Clients:
    """The program that asks."""

    def __init__(self, programs: Programs) -> None:
        command = [sys.executable, "-m", "tests.bench.load"]
        process = programs.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin and process.stdout
        self._jobs: IO[str] = process.stdin
        self._figures: IO[str] = process.stdout
        self._figures.readline()

    def ask(self, server: Server, request: str, count: int, at_once: int, status: int = 200) -> Busy:
        """Have a server answer so many requests."""
        job = {"port": server.port, "request": request, "token": server.token, "count": count, "at_once": at_once}
        before = _cpu(server.process)
        self._jobs.write(json.dumps(job) + "\n")
        self._jobs.flush()
        memory = self._watch(server) if at_once == STREAMS else 0.0
        figures = json.loads(self._figures.readline())
        if figures["statuses"] != [status]:
            raise SystemExit(f"{server.name} answered with {figures['statuses']}, not {status}")
        return Busy(_cpu(server.process) - before, memory, figures)

    def _watch(self, server: Server) -> float:
        """The memory when all streams are open, half of their time later."""
        time.sleep(0.6)
        return _memory(server.process)


def _answers(port: int, path: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.settimeout(10)
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
            return connection.recv(12)[9:] != b"503"
    except OSError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _memory(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


# The servers --------------------------------------------------------------------------------------------------------


def upstream(programs: Programs) -> tuple[Server, str]:
    """Start the scripted upstream; return it with its URL."""
    command = [sys.executable, "-m", "tests.faults.upstream", "--keep", "10"]
    process = programs.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    url = process.stdout.readline().strip()
    return Server(DIRECT, psutil.Process(process.pid), int(url.rpartition(":")[2]), 0, 0), url


def compared(programs: Programs, name: str, module: str, url: str) -> Server:
    """Start one of the servers ours is compared with."""
    port = _free_port()
    return programs.serve(name, [sys.executable, "-m", f"tests.bench.servers.{module}", str(port), url], port)


def litellm(programs: Programs, url: str) -> list[Server]:
    """Start LiteLLM's proxy, if it is installed; its two ways count as two servers."""
    program = os.environ.get("BENCH_LITELLM") or shutil.which("litellm")
    if program is None:
        print(f"  {LITELLM}: not installed; BENCH_LITELLM names its program")
        return []
    port, config = _free_port(), programs.folder / "litellm.json"
    upstream = {"model": f"anthropic/{MODEL}", "api_base": url, "api_key": KEY}
    models = [{"model_name": MODEL, "litellm_params": upstream}]
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": MASTER_KEY}}))  # it is YAML
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    server = programs.serve(LITELLM, command, port)
    server.key = MASTER_KEY
    return [server, replace(server, name=LITELLM_BYTES)]


def ours(programs: Programs, url: str) -> tuple[Server, str]:
    """Start our server with an org that has a budget, a user and a key; return it with the key of an org that has to wait."""
    port = _free_port()
    environment = {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": url,
        "APP_ENV": "production",
        "PORT": str(port),
        "WORKBENCH_AUTH": "keys",
        "WORKBENCH_MAX_STREAMS_PER_ORG": "1000",
        "WORKBENCH_STORE": str(programs.folder / "store.duckdb"),
    }

    def workbench(*arguments: str) -> dict[str, str]:
        command = [sys.executable, "-m", "workbench", *arguments, "--json"]
        told = subprocess.check_output(command, cwd=ROOT, env=os.environ | environment, text=True)
        found: dict[str, str] = json.loads(told)
        return found

    often = ("--rate-per-minute", "1000000", "--burst", "1000000")
    org = workbench("orgs", "add", "--budget-usd", "10000", "--period", "day", *often)["org_id"]
    user = workbench("users", "add", org)["user_id"]
    key = workbench("keys", "create", org, "--user", user)["key"]
    waiting = workbench("orgs", "add", "--rate-per-minute", "0.001", "--burst", "1")["org_id"]
    refused = workbench("keys", "create", waiting)["key"]
    server = programs.serve(OURS, [sys.executable, "-m", "server"], port, environment)
    server.key = key
    return server, refused


# Figures ------------------------------------------------------------------------------------------------------------


def interleaved(
    clients: Clients,
    servers: Sequence[Server],
    message: str,
    count: int,
    at_once: int,
    rounds: int,
    path: str = "/chat/stream",
) -> dict[str, list[Busy]]:
    """Let every server answer the same in every round."""
    done: dict[str, list[Busy]] = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            asked = max(at_once, count // SLOW) if server.name == LITELLM else count
            done[server.name].append(clients.ask(server, server.request(message, path), asked, at_once))
    return done


def per_token(rounds: list[Busy]) -> float:
    """Microseconds of CPU time a token."""
    return median(busy.cpu / busy.figures["tokens"] * 1e6 for busy in rounds)


def tokens_a_second(rounds: list[Busy]) -> float:
    return median(busy.figures["tokens"] / busy.figures["seconds"] for busy in rounds)


def ttft(rounds: list[Busy], percent: int = 50) -> float:
    """Milliseconds to the first token."""
    return median(quantiles(busy.figures["ttft"], n=100)[percent - 1] for busy in rounds) * 1e3


class Table:
    """Figures with their targets."""

    def __init__(self) -> None:
        print(f"  {'':58}{'figure':>10}{'target':>10}")

    def row(self, what: str, figure: float, most: float | None = None, least: float | None = None) -> None:
        target = f"≤ {most:g}" if most is not None else f"≥ {least:g}" if least is not None else ""
        met = (most is None or figure <= most) and (least is None or figure >= least)
        print(f"  {what:58}{figure:10.3g}{target:>10}{'' if not target else '  met' if met else '  missed'}")


def saturation(clients: Clients, servers: list[Server], table: Table) -> None:
    for pace, message, replies in (("each", EACH, REPLIES), ("burst", BURST, REPLIES), ("long", LONG, 2 * AT_ONCE)):
        asked = [server for server in servers if pace == "burst" or server.name != LITELLM]
        done = interleaved(clients, asked, message, replies, AT_ONCE, ROUNDS)
        for name, rounds in done.items():
            print(f"    {pace:6}{name:24}{per_token(rounds):8.1f} µs/token{tokens_a_second(rounds):10,.0f} tokens/s")
        ours = per_token(done[OURS])
        table.row(f"{pace}: CPU per token, of {NAIVE}", ours / per_token(done[NAIVE]), most=0.25)
        for name in (LITELLM, LITELLM_BYTES):
            if name in done:
                table.row(f"{pace}: CPU per token, of {name}", ours / per_token(done[name]), most=0.10)
        speed = tokens_a_second(done[OURS]) / tokens_a_second(done[BYTES])
        table.row(f"{pace}: tokens/s, of {BYTES}", speed, least=0.7)
        table.row(f"{pace}: the same by CPU time", per_token(done[BYTES]) / ours, least=0.7)


def delay(clients: Clients, servers: list[Server], table: Table) -> None:
    done = interleaved(clients, servers, SINGLE, 20, 1, ROUNDS)
    for name, rounds in done.items():
        print(f"    {name:30}{ttft(rounds):8.2f} ms to the first token, one stream at a time")
    table.row("ms to the first token over direct, one stream", ttft(done[OURS]) - ttft(done[DIRECT]), most=6)


def many(clients: Clients, servers: list[Server], table: Table) -> None:
    before = _memory(servers[-1].process)
    done = interleaved(clients, servers, PACED, STREAMS, STREAMS, PACED_ROUNDS)
    for name, rounds in done.items():
        low, high = ttft(rounds), ttft(rounds, 99)
        print(f"    {name:30}{low:8.1f} ms to the first token, p99 {high:8.1f}; {per_token(rounds):6.1f} µs/token")
    spread = median(ttft([busy], 99) / ttft([busy]) for busy in done[OURS])
    table.row(f"p99/p50 to the first token, {STREAMS} at once", spread, most=2)
    table.row("MB of idle memory", servers[-1].idle_memory, most=130)
    grown = max(busy.memory for busy in done[OURS]) - before
    table.row(f"MB a stream, {STREAMS} open, at most", grown / STREAMS, most=0.1)


def requests(clients: Clients, naive: Server, server: Server, refused: str, table: Table) -> None:
    done = interleaved(clients, [naive, server], WHOLE, 96, AT_ONCE, ROUNDS, "/chat")
    for name, rounds in done.items():
        cpu = median(busy.cpu / 96 * 1e3 for busy in rounds)
        speed = median(96 / busy.figures["seconds"] for busy in rounds)
        print(f"    {name:30}{speed:8.0f} whole replies/s, {cpu:6.2f} ms CPU each")
    clients.ask(server, server.request(SINGLE, key=refused), 1, 1)  # the one its limit allows
    busy = [clients.ask(server, server.request("hi", "/chat", refused), 400, 1, 429).cpu for _ in range(ROUNDS)]
    bare = [clients.ask(server, server.request("hi", "/none"), 400, 1, 404).cpu for _ in range(ROUNDS)]
    table.row("µs CPU of key and limits a request", (median(busy) - median(bare)) / 400 * 1e6)


def main() -> None:
    """Print the figures of all, then ours with their targets."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as name, Programs(Path(name)) as programs:
        direct, url = upstream(programs)
        server, refused = ours(programs, url)
        naive = compared(programs, NAIVE, "naive", url)
        bytes_only = compared(programs, BYTES, "pass_through", url)
        proxies = litellm(programs, url)
        clients = Clients(programs)
        servers = [direct, bytes_only, naive, *proxies, server]
        interleaved(clients, servers, BURST, AT_ONCE, AT_ONCE, 1)  # connections, tables, first looks
        table = Table()
        saturation(clients, servers, table)
        delay(clients, servers, table)
        many(clients, [direct, bytes_only, naive, server], table)
        requests(clients, naive, server, refused, table)
        for each in [bytes_only, naive, *proxies[:1], server]:
            print(f"    {each.name:30}{each.start_cpu:8.2f} CPU s to start, {each.idle_memory:6.0f} MB idle")
        table.row("CPU s to start", server.start_cpu)


if __name__ == "__main__":
    main()
