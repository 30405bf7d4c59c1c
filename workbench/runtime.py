"""The background event loop on which notebooks and scripts run the engine.

A notebook's own loop stands still while a cell runs, and a client's connections belong to one loop. So the engine lives
on a thread with a loop of its own; whoever asks from elsewhere hands a coroutine over and waits. One engine and one store
for the whole process.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workbench import local  # first: what stops the embedded model at exit must be registered before, to run after us
from workbench.errors import ConfigurationError, WorkbenchError
from workbench.settings import settings
from workbench.turns import LOCAL_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from workbench.engine import Engine
    from workbench.settings import Settings

log = logging.getLogger("workbench.runtime")

T = TypeVar("T")

INTERRUPT_SECONDS = 0.5
"""A signal that comes just before a thread begins to wait does not wake it; it is noticed after so long at the latest."""
LAST_WORDS = 10.0
"""Seconds that live turns have to be recorded when the process ends."""


# what the engine logs is for servers: here the footers and the errors say it; whoever configures logging still gets it
logging.getLogger("workbench.engine").addHandler(logging.NullHandler())


class Running(Generic[T]):
    """A coroutine on the loop. ``ended`` is done after its last line, also when it was cancelled."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> None:
        self.ended: Future[T] = Future()
        self._loop = loop
        self._task: asyncio.Task[T] | None = None
        loop.call_soon_threadsafe(self._begin, coroutine)

    def cancel(self) -> None:
        """Ask it to end; whatever it records on its way out is recorded before ``ended``."""
        if not self.ended.done():
            self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())

    def wait(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait until it has ended, however it did; ``meanwhile`` is called every half second."""
        while not (_forked or wait_for([self.ended], INTERRUPT_SECONDS).done):
            meanwhile()  # in a forked child it never ends: its thread is the parent's

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._task = self._loop.create_task(coroutine)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.ended.cancel()
            self.ended.set_running_or_notify_cancel()  # wakes those who wait
        elif error := task.exception():
            self.ended.set_exception(error)
        else:
            self.ended.set_result(task.result())


class Runtime:
    """The loop, its thread and the engine on it. Safe to use from any thread but its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="workbench", daemon=True)
        self._thread.start()
        self._opening = threading.Lock()
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine, its store opened on first use.

        Raises:
            ConfigurationError: this process was forked from the one the runtime is of.
            StoreError: the store cannot be opened; the next use tries again.
        """
        refuse_forked()
        with self._opening:
            if self._engine is None:
                self._engine = self.run(_open(self.settings))
            return self._engine

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Running[T]:
        """Run a coroutine on the loop."""
        return Running(self._loop, coroutine)

    def run(self, coroutine: Coroutine[Any, Any, T], meanwhile: Callable[[], object] = lambda: None) -> T:
        """Return what a coroutine returns. An interrupt, or another error of the wait, ends it in an orderly way first.

        ``meanwhile`` is called every half second, in the thread that waits.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("the engine's own loop cannot wait for itself; await the coroutine instead")
        running = self.start(coroutine)
        try:
            running.wait(meanwhile)
        except BaseException:  # raised by a signal's handler, or by `meanwhile`: nobody reads what goes on asking
            running.cancel()
            running.wait()
            raise
        return running.ended.result()

    def make_ready(self, model: str) -> None:
        """Fetch and start the embedded model, if that is the one.

        Here and not on the loop: an interrupt reaches only the thread that waits for the download.
        """
        if model == LOCAL_MODEL:
            local.embedded_model(self.settings.local_gguf)

    def close(self) -> None:
        """End live turns, which are recorded as interrupted, and let go of the store."""
        if self._loop.is_closed():
            return
        ending = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
        try:
            ending.result(LAST_WORDS)
        finally:
            if self._engine is not None:
                self._engine.store.close()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _close(self) -> None:
        turns = asyncio.all_tasks() - {asyncio.current_task()}
        for task in turns:
            task.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        if self._engine is not None:
            await self._engine.aclose()


async def _open(settings: Settings) -> Engine:
    # on use: duckdb and the rest take 0.3 s
    from workbench.engine import Engine
    from workbench.store import Store

    # the store closes itself at exit too: turns must have been recorded before that, and what is registered last runs first
    atexit.unregister(end)
    atexit.register(end)
    return Engine(settings, await Store.open(settings.store))


_runtime: Runtime | None = None
_lock = threading.Lock()
_forked = False


def runtime() -> Runtime:
    """Return the runtime of this process, made on first use and closed at exit.

    Raises:
        ConfigurationError: a setting does not fit, or the process was forked from one that uses the workbench.
    """
    global _runtime
    refuse_forked()
    with _lock:
        if _runtime is None:
            _runtime = Runtime(settings())
        return _runtime


def refuse_forked() -> None:
    """Raise ConfigurationError in a process that was forked from one that uses the workbench."""
    if _forked:
        raise ConfigurationError(
            "the workbench is in use in the process this one was forked from and cannot be used here; "
            "start processes with the 'spawn' method, or ask in the parent process"
        )


def close() -> None:
    """Close the runtime, if there is one; the next use makes another, with the settings of that moment."""
    global _runtime
    with _lock:
        old, _runtime = _runtime, None
    settings.cache_clear()
    if old is not None:
        old.close()


@atexit.register
def end() -> None:
    """Close the runtime for the last time; what could not be saved is said in the log."""
    try:
        close()
    except (WorkbenchError, TimeoutError) as error:
        log.error("Not every turn could be saved at the end, the next start records those as lost: %s", error)


def _forget() -> None:
    """In a forked child: the loop's thread is the parent's, and a store opened here would be the parent's memory."""
    global _runtime, _lock, _forked
    _forked = _forked or _runtime is not None
    _runtime, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
