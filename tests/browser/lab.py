"""A real JupyterLab on loopback, and a notebook in it as a browser sees it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import nbformat

if TYPE_CHECKING:
    from types import FrameType

    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
SECONDS = 60
"""How long anything may take on a machine that does much else."""

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}


class JupyterLab:
    """A JupyterLab server with private settings, ended with everything it started.

    Args:
        folder: Where its notebooks, settings and the store are.
        theme: Its theme, as its menu calls it.
        environment: Further variables for its kernels.
    """

    def __init__(self, folder: Path, *, theme: str = "JupyterLab Light", **environment: str) -> None:
        self.folder = folder
        self.notebooks = folder / "notebooks"
        self._environment = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
            "IPYTHONDIR": str(folder / "ipython"),
            "PYTHONPATH": str(ROOT),  # the kernels start in the notebooks' folder
            "WORKBENCH_STORE": str(folder / "store.duckdb"),
            **environment,
        }
        self.notebooks.mkdir()
        for name, values in {**SETTINGS, "apputils-extension/themes": {"theme": theme}}.items():
            path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))

    def __enter__(self) -> Self:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = (self.folder / "lab.log").open("w")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"),
                *("--allow-root", "--IdentityProvider.token=", "--ServerApp.password="),
                *("--ServerApp.disable_check_xsrf=True", "--LabApp.expose_app_in_browser=True"),
                *("--LabApp.news_url=None", f"--ServerApp.root_dir={self.notebooks}"),
            ],
            env=self._environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if threading.current_thread() is threading.main_thread():
            # a run that is told to end leaves no server behind
            self._on_sigterm = signal.signal(signal.SIGTERM, self._told_to_end)
        self._wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def _told_to_end(self, number: int, _: FrameType | None) -> None:
        self._end()
        sys.exit(128 + number)

    def _end(self) -> None:
        try:
            self._process.terminate()  # it ends its kernels first
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/api/status", timeout=5):
                    return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._end()
                    log = (self.folder / "lab.log").read_text()[-3000:]
                    raise RuntimeError(f"JupyterLab did not start ({error}):\n{log}") from error
                time.sleep(0.1)

    def new_notebook(self, name: str, *cells: str) -> str:
        """Write a notebook; return its name."""
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}  # or JupyterLab asks for one
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel}
        )
        nbformat.write(notebook, self.notebooks / name)
        return name


class Notebook:
    """A notebook open in a browser, its kernel running."""

    def __init__(self, lab: JupyterLab, browser: Browser, name: str, **options: Any) -> None:
        self.lab = lab
        self.url = f"{lab.url}/doc/workspaces/auto-{Path(name).stem}/tree/{name}?reset"
        self.requested: list[str] = []
        """What was requested from anywhere but the server."""
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        context.route(lambda url: not url.startswith((lab.url, "data:", "blob:")), lambda route: route.abort())
        context.on("request", lambda request: self._note(request.url))
        self.page: Page = context.new_page()
        self.page.set_default_timeout(SECONDS * 1000)
        self.page.goto(self.url)
        self.wait_until_ready()

    def _note(self, url: str) -> None:
        if not url.startswith((self.lab.url, "data:", "blob:")):
            self.requested.append(url)

    def wait_until_ready(self) -> None:
        """Wait for the kernel, and let cells be there although they are out of sight."""
        self.page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
            " && jupyterapp.shell.currentWidget.content.widgets.length > 0"
        )
        self.page.evaluate(
            "() => { const c = jupyterapp.shell.currentWidget.content;"
            " c.notebookConfig = {...c.notebookConfig, windowingMode: 'none'} }"
        )

    def run(self, code: str) -> int:
        """Append a cell and run it; return its number without waiting for its end."""
        return self.page.evaluate(
            """async (source) => {
              const notebook = jupyterapp.shell.currentWidget.content;
              const { sharedModel } = notebook.model;
              sharedModel.insertCell(sharedModel.cells.length, { cell_type: "code", source });
              const at = sharedModel.cells.length - 1;
              notebook.activeCellIndex = at;
              notebook.deselectAll();
              jupyterapp.commands.execute("notebook:run-cell");
              return at;
            }""",
            code,
        )

    def outputs(self, cell: int) -> list[dict[str, Any]]:
        """Wait until a cell has ended; return its outputs."""
        self.page.wait_for_function(
            """(at) => {
              const cell = jupyterapp.shell.currentWidget.content.model.sharedModel.cells[at];
              return cell.execution_count !== null && cell.executionState === "idle";
            }""",
            arg=cell,
        )
        return self.page.evaluate(
            "(at) => jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells[at].outputs", cell
        )

    def value(self, code: str) -> str:
        """Run a cell; return what its last line is, as text."""
        outputs = self.outputs(self.run(code))
        assert [o["output_type"] for o in outputs] == ["execute_result"], outputs
        return "".join(outputs[0]["data"]["text/plain"])

    def clear(self) -> None:
        """Take all cells away but an empty one."""
        self.page.evaluate(
            """async () => {
              await jupyterapp.commands.execute("notebook:select-all");
              await jupyterapp.commands.execute("notebook:delete-cell");
            }"""
        )

    @property
    def running(self) -> bool:
        """Whether a cell runs. The kernel's own status tells nothing: a message to a widget makes it busy and idle too."""
        return self.page.locator(".jp-InputPrompt", has_text="[*]:").count() > 0

    def interrupt(self) -> None:
        self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()")

    def settle(self) -> None:
        """Interrupt what still runs, and wait for its end."""
        if self.running:
            self.interrupt()
        self.wait_until_done()

    def wait_until_done(self) -> None:
        """Wait until no cell runs."""
        self.page.wait_for_function("!document.querySelector('.jp-Notebook').innerText.includes('[*]:')")

    def restart(self) -> None:
        self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")

    def close(self) -> None:
        """Close the page and end the kernel."""
        self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.context.close()

    def save_and_reload(self) -> None:
        self.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
        self.page.reload()
        self.wait_until_ready()
