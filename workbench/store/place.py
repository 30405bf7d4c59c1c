"""Where the processes of a user find the one that owns a store's file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from workbench.errors import StoreError

try:
    import fcntl
except ImportError:  # Windows: DuckDB's own lock has to do
    fcntl = None  # type: ignore[assignment]

UNIX = fcntl is not None
FOLDER = Path("/tmp")
"""Not what the environment says, which differs between a service and a notebook of the same user."""


def program() -> str:
    """What this process is called in the errors of others."""
    name = sys.argv[0] if sys.argv else ""
    name = sys.executable if name in ("", "-c", "-m") else name
    return os.fsencode(name).decode(errors="replace")  # names of files are bytes, and need be no text


class Place(NamedTuple):
    """A file, and the names under which its owner is found."""

    path: str
    """Of the file itself, links resolved."""
    stem: str

    @classmethod
    def of(cls, path: str) -> Place:
        """Return the place of a file; the folder of the sockets is made.

        Raises:
            StoreError: that folder belongs to somebody else.
        """
        real = os.path.realpath(path)
        # a hash, since a socket's path has at most about 100 bytes
        return cls(real, str(_folder() / hashlib.sha256(os.fsencode(real)).hexdigest()[:32]))

    @property
    def socket(self) -> Path:
        return Path(f"{self.stem}.sock")

    @property
    def address(self) -> Path:
        """Holds the port and the token, where there are no unix sockets."""
        return Path(f"{self.stem}.port")

    @property
    def lock(self) -> Path:
        """Held by the owner as long as it lives; its text says who that is."""
        return Path(f"{self.stem}.lock")

    def identity(self) -> tuple[int, int]:
        """What tells this file from another one that has taken its name."""
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self.path)
            return found.st_dev, found.st_ino
        return 0, 0

    def holder(self) -> tuple[str, int | None]:
        """The program that holds the lock, and its PID."""
        with contextlib.suppress(OSError, ValueError):
            pid, name = self.lock.read_text(encoding="utf-8").split(" ", 1)
            return name, int(pid)
        return "another process", None


class Lock:
    """Kept by the owner. DuckDB's own lock is dropped when anything else in its process closes the file; this is not."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._descriptor = -1

    def take(self) -> bool:
        """Whether nobody else holds it; then it is held until released, or until this process ends.

        Raises:
            OSError: its file cannot be made or written.
        """
        if fcntl is None:
            return True
        descriptor = os.open(self._place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino != self._place.lock.stat().st_ino:
                raise FileNotFoundError  # whoever held it removed it just now: the next one takes another file
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()} {program()}".encode())
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, (BlockingIOError, FileNotFoundError)):
                return False
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let the next one have it."""
        if self._descriptor >= 0:
            self._place.lock.unlink(missing_ok=True)
            self.forget()

    def forget(self) -> None:
        """In a forked child: close its share, which would outlive the owner."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _folder() -> Path:
    """The folder of the sockets: the same for all processes of a user, whatever their environments say."""
    folder = FOLDER / f"workbench-{os.getuid()}" if UNIX else Path(tempfile.gettempdir(), "workbench")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if UNIX and (not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077):
        raise StoreError(
            f"{folder} is not a folder of yours alone, so the store cannot be shared through it; remove it"
        )
    return folder
