"""The clients of a server under load: a program that reads jobs as lines of JSON and answers each with a line of figures.

It looks at no more than it must, so that it takes a fraction of the CPU time of what it measures: where the first token
is, when something came, how many tokens there were, and where an answer ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter
from typing import Any

END_OF_CHUNKS = b"\r\n0\r\n\r\n"


class Client(asyncio.Protocol):
    """One connection, which asks again as long as there is something to ask."""

    def __init__(self, job: dict[str, Any], left: list[int], figures: dict[str, list[float]]) -> None:
        self.request = job["request"].encode()
        self.token = job["token"].encode()
        self.left = left
        self.figures = figures
        self.done = asyncio.get_running_loop().create_future()
        self.statuses: list[int] = []
        self.tokens = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def ask(self) -> None:
        """Send the next request, if one is left."""
        if self.left[0] <= 0:
            self.transport.close()
            self.done.set_result(None)
            return
        self.left[0] -= 1
        self.received = bytearray()
        self.begun = self.latest = perf_counter()
        self.gap, self.first = 0.0, 0.0
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        self.received += data
        if self.first:
            self.gap = max(self.gap, now - self.latest)
        elif self.token in self.received:
            self.first = now - self.begun
        self.latest = now
        if self._whole():
            self._note(now)
            self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError(f"the connection ended early: {bytes(self.received)!r}"))

    def _whole(self) -> bool:
        if self.received.endswith(END_OF_CHUNKS):
            return True
        head, end, _body = bytes(self.received[:2000]).partition(b"\r\n\r\n")
        _, announced, rest = head.lower().partition(b"content-length:")
        return bool(end and announced) and len(self.received) - len(head) - 4 >= int(rest.split(b"\r\n")[0])

    def _note(self, now: float) -> None:
        self.statuses.append(int(self.received[9:12]))
        self.tokens += self.received.count(self.token)
        self.figures["whole"].append(now - self.begun)
        self.figures["ttft"].append(self.first)
        self.figures["gap"].append(self.gap)


async def work(job: dict[str, Any]) -> dict[str, Any]:
    """Ask ``count`` times, ``at_once`` at the same time; connections are there before the clock starts."""
    left, figures = [job["count"]], {"whole": [], "ttft": [], "gap": []}
    clients = [Client(job, left, figures) for _ in range(job["at_once"])]
    loop = asyncio.get_running_loop()
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", job["port"])
    begun = perf_counter()
    for client in clients:
        client.ask()
    await asyncio.gather(*(client.done for client in clients))
    statuses = sorted({status for client in clients for status in client.statuses})
    tokens = sum(client.tokens for client in clients)
    return {"seconds": perf_counter() - begun, "statuses": statuses, "tokens": tokens, **figures}


if __name__ == "__main__":
    print(flush=True)
    for line in sys.stdin:
        print(json.dumps(asyncio.run(work(json.loads(line)))), flush=True)
