"""The server as a process of its own: its log, its signals, its exit code."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx2

from tests.server.live import PATIENCE, UNLIMITED

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from functools import partial
import server.main, workbench.engine
from workbench.settings import settings
given = json.loads(sys.argv[1])
drain = {"drain_seconds": given.pop("drain_seconds")} if "drain_seconds" in given else {}
workbench.engine.CHECKPOINT_SECONDS = given.pop("checkpoint_seconds", workbench.engine.CHECKPOINT_SECONDS)
app = {name: given.pop(name) for name in ("ping_seconds", "stall_seconds") if name in given}
server.main.create_app = partial(server.main.create_app, **app)
workbench.engine.Claude = partial(workbench.engine.Claude, **given)
s = settings()
sys.exit(server.main.serve(s, s.host, s.port, **drain))
"""
"""The server with other times than people have."""


class ServerProcess:
    """Runs the server until the end of the block; its log lines are read as they come.

    Args:
        store: Where its store is, or is to be.
        seconds: What is to take other times than usual: ``drain_seconds``, ``checkpoint_seconds``, ``ping_seconds``,
            ``stall_seconds``, and of the connection to the upstream ``pause`` and ``read_timeout``.
        files: How many it may have open.
        environment: Its settings.
    """

    def __init__(
        self, store: Path, *, seconds: Mapping[str, float] | None = None, files: int | None = None, **environment: str
    ) -> None:
        ours = {"WORKBENCH_STORE": str(store), "PORT": "0", "PYTHONPATH": str(ROOT)} | UNLIMITED | environment
        program = ["-c", PROGRAM, json.dumps(seconds)] if seconds else ["-m", "server"]
        limited = [] if files is None else ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
        self.process = subprocess.Popen(
            [*limited, sys.executable, *program],
            cwd=store.parent,
            env=os.environ | ours,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._new: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        self.url = f"http://127.0.0.1:{self.logged('Server running')['port']}"
        self.client = httpx2.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()
        self.process.kill()
        self.ended()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            self._new.put(line)
        self._new.put(None)
        self.process.stderr.close()

    def logged(self, message: str) -> dict[str, Any]:
        """The next log line with this message."""
        while (line := self._new.get(timeout=PATIENCE)) is not None:
            if (entry := json.loads(line))["message"] == message:
                return entry
        raise AssertionError(f"it ended without saying {message!r}: {self.lines}")

    def errors(self) -> list[str]:
        """The latest of what it logged as going wrong."""
        self._reader.join(0.2)  # it may still be reading them
        return [line for line in self.lines if json.loads(line)["level"] in ("warning", "error")][-5:]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code
