"""Files as lines, as elements of a JSON array, or as rows of CSV: as a stream, however large, and gzipped or not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sqlite3
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from workbench.errors import InvalidRequest
from workbench.ledger.imports.values import Malformed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONGEST = 256 * 2**20
"""Bytes of one line or element; a longer one is skipped, or a missing quote would have all of a file in memory."""
CHUNK = 2**20
ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".db", ".zip")
"""Of files that are looked at in a folder."""
UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, sqlite3.Error)
"""What a damaged file, archive or database raises; RuntimeError: an archive with a password."""
SQLITE = b"SQLite format 3\x00"
_CONVERSATIONS = re.compile(r"(.*/)?conversations[^/]*\.json")


def files_at(path: Path) -> list[Path]:
    """Return the file, or those beneath the folder that may hold something; what is nearer to the top comes first.

    Raises:
        InvalidRequest: there is nothing of that name.
    """
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        raise InvalidRequest(f"there is no file or folder {str(path)!r}")
    found = [Path(folder) / name for folder, _, names in os.walk(path) for name in names if name.endswith(ENDINGS)]
    # a pipe would be waited for, and a link may lead nowhere
    return sorted(filter(os.path.isfile, found), key=lambda file: (len(file.parts), file))


class Source:
    """One file. It can be read from its beginning as often as need be; ``done`` tells how far, in bytes of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.size = path.stat().st_size
        except OSError:  # gone since the folder was listed: to open it will say so
            self.size = 0
        self.done = 0
        self._raw: IO[bytes] | None = None

    def open(self) -> IO[bytes]:
        """Open what is in the file, unpacked."""
        self.close()
        raw = self._raw = self.path.open("rb")
        begin = raw.read(4)
        raw.seek(0)
        if begin == b"PK\x03\x04":
            return self._member(raw)
        return gzip.GzipFile(fileobj=raw) if begin.startswith(b"\x1f\x8b") else raw  # type: ignore[return-value]

    def _member(self, raw: IO[bytes]) -> IO[bytes]:
        try:
            archive = zipfile.ZipFile(raw)
            names = [name for name in sorted(archive.namelist()) if _CONVERSATIONS.fullmatch(name)]
            if len(names) == 1:
                return archive.open(names[0])
        except BaseException:
            self.close()
            raise
        self.close()
        raise InvalidRequest(
            f"{self.path} holds {len(names)} files named like conversations.json; unpack it and give the folder"
        )

    def close(self) -> None:
        """Let go of the file."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def head(self, size: int = 2**16) -> bytes:
        """Return the first bytes of what is in it, of a damaged file as many as can be read."""
        stream, read = self.open(), b""
        try:
            while len(read) < size and (piece := stream.read(256)):
                read += piece
        except UNREADABLE:
            if not read:
                raise
        finally:
            self.close()
        return read

    def lines(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield the lines that are not empty with their numbers, None for one that is too long to be read."""
        stream = self.open()
        try:
            number = 0
            while line := stream.readline(LONGEST):
                number += 1
                self._look()
                if len(line) == LONGEST and not line.endswith(b"\n"):
                    while (rest := stream.readline(LONGEST)) and not rest.endswith(b"\n"):
                        pass
                    yield number, None
                elif line := line.removeprefix(b"\xef\xbb\xbf").strip():
                    yield number, line
        finally:
            self.close()

    def elements(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield the objects in a JSON array, each with the line it begins on; one that has no end comes as None."""
        stream = self.open()
        try:
            yield from _elements(self, stream)
        finally:
            self.close()

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
        """Yield the rows of CSV by the names in its first one, each with its line; None for one that cannot be read."""
        csv.field_size_limit(LONGEST)
        lines = io.TextIOWrapper(self.open(), encoding="utf-8-sig", errors="replace", newline="")
        try:
            reader = csv.DictReader(_bounded(lines))
            while True:
                line = max(2, reader.line_num + 1)  # the names are read with the first row
                try:
                    row = next(reader, None)
                except csv.Error:
                    yield line, None
                    continue
                if row is None:
                    return
                self._look()
                yield line, row
        finally:
            lines.close()
            self.close()

    def _look(self) -> None:
        if self._raw is not None and not self._raw.closed:
            self.done = min(self._raw.tell(), self.size)


def _bounded(lines: IO[str]) -> Iterator[str]:
    """The lines of CSV, one that is too long as an empty row, which nothing can be read from."""
    while line := lines.readline(LONGEST):
        if len(line) == LONGEST and not line.endswith("\n"):
            while (rest := lines.readline(LONGEST)) and not rest.endswith("\n"):
                pass
            line = ",\n"
        yield line


_OUTSIDE = re.compile(rb'[{}\[\]"]')
_INSIDE = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
"""The rest of a string; after it is its quote, or half an escape at the end of what has been read."""


def _elements(source: Source, stream: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Find where each object of the array begins and ends by its brackets, so that a broken one spoils no other."""
    buffer, at, counted, line = bytearray(), 0, 0, 1
    depth, begun, quoted = 0, -1, False
    while chunk := stream.read(CHUNK):
        source._look()
        buffer += chunk
        while True:
            if quoted:
                found = _INSIDE.match(buffer, at)
                at = found.end() if found else at
                if buffer[at : at + 1] != b'"':
                    break
                at, quoted = at + 1, False
            found = _OUTSIDE.search(buffer, at)
            if found is None:
                at = len(buffer)
                break
            at = found.end()
            if found[0] == b'"':
                quoted = True
            elif found[0] in b"{[":
                depth += 1
                if depth == 2:
                    begun = found.start()
            else:
                depth -= 1
                if depth == 1 and begun >= 0:
                    line += buffer.count(b"\n", counted, begun)
                    counted = begun
                    yield line, bytes(buffer[begun:at])
                    begun = -1
                if depth <= 0:
                    return
        kept = begun if begun >= 0 else at
        line += buffer.count(b"\n", counted, kept)
        del buffer[:kept]
        at, counted = at - kept, 0
        begun = 0 if begun >= 0 else -1
        if len(buffer) > LONGEST:
            break
    if depth:
        yield line, None


def parsed(text: bytes | None) -> Any:
    """Return what a line or an element says.

    Raises:
        Malformed: it is no JSON, too long or too deep.
    """
    if text is None:
        raise Malformed(f"has no end, or is longer than {LONGEST // 2**20} MB")
    try:
        return json.loads(text)
    except RecursionError:
        raise Malformed("is nested too deep") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"is no JSON: {error.msg} (at character {error.pos + 1})") from None
    except ValueError:  # no UTF-8; or a number of thousands of digits
        raise Malformed("is no JSON: what it holds is no text, or a number too long") from None
