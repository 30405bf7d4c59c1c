"""Thousands of requests with random faults, disconnects and kills against one server: ``python -m tests.soak``.

Every answer must be whole: a documented status, or a stream with exactly one last event. In the end the ledger must hold
together, no hold may be open, and no budget overspent. The server is killed now and then in the first half; in the second
it must not grow: its memory after 1,000 requests is compared with that at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import httpx2

from tests.faults.frames import Usage
from tests.faults.upstream import FAULTS, ScriptedUpstream, fault, reply
from tests.server.process import ROOT, ServerProcess

if TYPE_CHECKING:
    from tests.faults.upstream import Reply, Request

CLIENTS = 16
KILLS = 8
EACH, WINDOW, EVERY = 100, 600, 0.1
"""Memory is read every so many seconds, also in the middle of a request, and compared as the median over so many requests:
DuckDB takes 100 MB and more for the second in which it writes its journal into the file, and a few readings in between
are with it or without it as it happens."""
ORGS = ("free", "rich", "poor")
BUDGETS = {"rich": Decimal(1000), "poor": Decimal("0.05")}
STATUSES = {200, 400, 402, 409, 502, 503, 504}
LEAVES = 0.1
"""The part of the clients that leave in the middle, and of those that send a request again."""
SPENT = """
SELECT u.org_id, SUM(u.cost_usd),
       COALESCE(SUM(GREATEST(u.cost_usd - h.amount_usd, 0)) FILTER (WHERE u.web_searches > 0), 0),
       COUNT(*) FILTER (WHERE u.cost_usd > h.amount_usd AND u.web_searches = 0)
FROM usage u JOIN holds h ON h.id = u.id GROUP BY 1
"""
"""One of the faults bills for two web searches that nobody asked for, and for reading what they found. That is in the ledger
and counts, but no hold can foresee it: judged is everything but what such a turn cost beyond its hold, and no other turn
may cost more than was held for it."""
MINUTES = {"hang", "stall", "stall_in_frame", "slow", "bad_chunk", "429_retry_after_hour"}
"""Faults that only a client that leaves, or a minute, ends."""


class Figures(NamedTuple):
    """What came of it."""

    answers: Counter[str]
    kills: int
    after_1000: list[float]
    """MB the server had from then on, over ``WINDOW`` requests."""
    at_end: list[float]
    """The same over the last."""
    open_holds: int
    unasked_usd: Decimal
    """Billed beyond holds for searches that nobody asked for."""
    overspent: list[str]
    check: str


class Soak:
    """Runs the requests; the upstream draws the faults."""

    def __init__(self, folder: Path, requests: int, seed: int) -> None:
        self.store = folder / "store.duckdb"
        self.requests = requests
        self.random = random.Random(seed)
        self.answers: Counter[str] = Counter()
        self.chats: dict[str, list[str]] = {org: [] for org in ORGS}
        self._counting = threading.Lock()
        self._alive = threading.Event()
        self._kinds = {
            phase: sorted(n for n, f in FAULTS.items() if f.phase == phase and n not in MINUTES)
            for phase in ("before", "mid", "odd")
        }

    def run(self) -> Figures:
        with ScriptedUpstream(keep=10) as upstream:
            upstream.default = self._reply
            environment = {"ANTHROPIC_API_KEY": "sk-ant-x", "ANTHROPIC_BASE_URL": upstream.url}
            half, memory = self.requests // 2, list[tuple[int, float]]()
            for n in range(KILLS):
                self._life(environment, half // KILLS, kill=True, first=n == 0)
            self._life(environment, half, kill=False, memory=memory)
        first = min(1000, half // 2)
        return self._figures(
            [mb for done, mb in memory if first <= done < first + WINDOW],
            [mb for done, mb in memory if half - WINDOW <= done],
        )

    def _life(
        self,
        environment: dict[str, str],
        requests: int,
        *,
        kill: bool,
        first: bool = False,
        memory: list[tuple[int, float]] | None = None,
    ) -> None:
        with ServerProcess(self.store, **environment) as server, ThreadPoolExecutor(CLIENTS) as clients:
            self._alive.set()
            if first:
                self._give_budgets()
            for done in range(0, requests, EACH):
                asked = [clients.submit(self._request, server.url) for _ in range(min(EACH, requests - done))]
                while wait(asked, EVERY if memory is not None else None).not_done:
                    if memory is not None:
                        memory.append((done, _rss(server.process.pid)))
                for each in asked:
                    each.result()
            if kill:
                late = [clients.submit(self._request, server.url) for _ in range(CLIENTS)]
                time.sleep(self.random.random() * 0.3)
                self._alive.clear()
                server.signal(signal.SIGKILL)
                for each in late:
                    each.result()
            else:
                server.signal(signal.SIGTERM)
                assert server.ended() == 0

    def _give_budgets(self) -> None:
        """With the command that people use, while the server runs."""
        for org, usd in BUDGETS.items():
            command = [sys.executable, "-m", "workbench", "orgs", "add", org, "--budget-usd", str(usd)]
            subprocess.run(command, env=self._environment(), check=True, capture_output=True)

    def _environment(self) -> dict[str, str]:
        return os.environ | {"WORKBENCH_STORE": str(self.store), "PYTHONPATH": str(ROOT)}

    def _reply(self, request: Request) -> Reply:
        draw = self.random.random()
        phase = "odd" if draw < 0.3 else "mid" if draw < 0.5 else "before" if draw < 0.6 else None
        if phase is None:
            tokens = min(self.random.randrange(1, 400), request.body["max_tokens"])
            return reply("So it is", usage=Usage(20, output_tokens=tokens))
        return fault(self.random.choice(self._kinds[phase]), size=100_000, retry_after=0.01)

    def _request(self, url: str) -> None:
        draw, org = self.random.random(), self.random.choice(ORGS)
        body = {"message": "What is it? " * self.random.randrange(1, 20), "max_tokens": 400}
        if self.chats[org] and draw < 0.5:
            body["chat_id"] = self.random.choice(self.chats[org][-20:])
        headers = {"x-org-id": org, "idempotency-key": f"{self.random.random()}"}
        try:
            with httpx2.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client:
                send = self._stream if draw < 0.7 else self._whole
                told = send(client, body)
                if self.random.random() < LEAVES:
                    send(client, body)
        except httpx2.TransportError:
            if self._alive.is_set():
                raise
            told = "cut by a kill"
        with self._counting:
            self.answers[told] += 1

    def _whole(self, client: httpx2.Client, body: dict) -> str:
        if self.random.random() < LEAVES:
            return self._leave(client, "/chat", body)
        answer = client.post("/chat", json=body)
        return self._judged(answer, client, answer.read())

    def _stream(self, client: httpx2.Client, body: dict) -> str:
        if self.random.random() < LEAVES:
            return self._leave(client, "/chat/stream", body)
        answer = client.post("/chat/stream", json=body)
        if answer.status_code != 200:
            return self._judged(answer, client, answer.read())
        events = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: ")]
        assert [event["done"] for event in events] == [False] * (len(events) - 1) + [True], answer.text
        self.chats[client.headers["x-org-id"]].append(events[0]["chat_id"])
        return "stream broken, and said so" if "error" in events[-1] else "stream"

    def _leave(self, client: httpx2.Client, path: str, body: dict) -> str:
        with suppress(httpx2.TimeoutException):
            client.post(path, json=body, timeout=self.random.random() * 0.2)
        return "client left"

    def _judged(self, answer: httpx2.Response, client: httpx2.Client, content: bytes) -> str:
        told = json.loads(content)
        assert answer.status_code in STATUSES, content
        if answer.status_code == 200:
            self.chats[client.headers["x-org-id"]].append(told["chat_id"])
            return "reply"
        assert {"error", "message", "type", "retryable", "request_id"} <= set(told), content
        return f"{answer.status_code} {told['type']}"

    def _figures(self, after_1000: list[float], at_end: list[float]) -> Figures:
        command = [sys.executable, "-m", "workbench", "store", "check"]
        check = subprocess.run(command, check=False, env=self._environment(), capture_output=True, text=True)
        with duckdb.connect(str(self.store)) as connection:
            run = connection.execute
            ((open_holds,),) = run("SELECT COUNT(*) FROM holds WHERE state = 'open'").fetchall()
            spent = run(SPENT).fetchall()
        overspent = [
            f"{org}: {usd} with {unasked} for searches beyond their holds, {beyond} other turns beyond their holds"
            for org, usd, unasked, beyond in spent
            if beyond or usd - unasked > BUDGETS.get(org, usd)
        ]
        return Figures(
            self.answers,
            KILLS,
            after_1000,
            at_end,
            open_holds,
            sum(unasked for _, _, unasked, _ in spent),
            overspent,
            "clean" if check.returncode == 0 else check.stdout,
        )


def _rss(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _told(samples: list[float]) -> str:
    return f"{median(samples):.0f} MB ({min(samples):.0f} to {max(samples):.0f})"


def main() -> int:
    """Print the figures; 1 if one of them is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        figures = Soak(Path(folder), arguments.requests, arguments.seed).run()
    for told, count in figures.answers.most_common():
        print(f"{count:6} {told}")
    grown = median(figures.at_end) / median(figures.after_1000)
    print(
        f"{sum(figures.answers.values())} requests and {figures.kills} kills in {time.monotonic() - begun:.0f} s; memory "
        f"{_told(figures.after_1000)}, at the end {_told(figures.at_end)}: {grown:.3f}; open holds "
        f"{figures.open_holds}; billed unasked {figures.unasked_usd} USD; overspent {figures.overspent or 'nobody'}; check {figures.check}"
    )
    good = not figures.open_holds and not figures.overspent and figures.check == "clean" and grown <= 1.1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
