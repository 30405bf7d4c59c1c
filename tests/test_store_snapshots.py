"""Copies of the file of a store: whole or not at all, and made without letting go of it."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.test_store import ADA, EVE, MANY, a_chat, a_turn, child, keep, outcome, own_file, rows, two_turns
from tests.test_store_copies import everything, filled, left, unsettle
from workbench.errors import StoreBusy, StoreCorrupt, StoreError
from workbench.store import Store, copies, duckdb_file
from workbench.store.backend import Statement
from workbench.store.check import check
from workbench.store.duckdb_file import DuckDBFile
from workbench.store.shared import SharedFile


@pytest.fixture
def store(file_store: Store) -> Store:
    return file_store


OPEN = "asyncio.run(Store.open(sys.argv[1])).close()"


async def reopened(path: Path) -> dict[str, list[str]]:
    other = await Store.open(str(path))
    assert [f.name for f in await check(other.backend) if not f.ok] == []
    held = await everything(other.backend)
    other.close()
    return held


# Snapshots ----------------------------------------------------------------------------------------------------------


async def test_a_snapshot_holds_what_the_store_holds(store: Store, tmp_path: Path) -> None:
    await two_turns(store)
    await two_turns(store, EVE)

    await copies.snapshot(store.backend, tmp_path / "deep" / "copy.duckdb")

    assert await reopened(tmp_path / "deep" / "copy.duckdb") == await everything(store.backend)
    assert left(tmp_path / "deep") == ["copy.duckdb"]


async def test_after_a_snapshot_the_file_still_has_one_owner(store: Store, path: str, tmp_path: Path) -> None:
    for name in ("one", "two"):  # closing any descriptor of the file would end its lock
        await copies.snapshot(store.backend, tmp_path / name)
        probe = "import duckdb, sys; duckdb.connect(sys.argv[1])"
        _, error, code = await asyncio.to_thread(outcome, probe, path)

        assert (code, "Could not set lock on file" in error) == (1, True)


async def test_the_file_is_free_once_a_store_that_made_a_snapshot_is_closed(
    store: Store, path: str, tmp_path: Path
) -> None:
    await copies.snapshot(store.backend, tmp_path / "copy")
    store.close()

    assert await asyncio.to_thread(outcome, OPEN, path) == ("", "", 0)


async def test_a_snapshot_in_the_midst_of_turns_holds_whole_transactions(store: Store, tmp_path: Path) -> None:
    turns = [asyncio.create_task(keep(store, a_turn(a_chat()))) for _ in range(30)]
    for n in range(5):
        await copies.snapshot(store.backend, tmp_path / f"{n}.duckdb")
    await asyncio.gather(*turns)

    for n in range(5):
        backend = DuckDBFile(str(tmp_path / f"{n}.duckdb"))
        assert [f.name for f in await check(backend) if not f.ok] == []
        backend.close()


async def a_query_in_the_way(store: Store, seconds: float) -> asyncio.Task[Any]:
    reading = asyncio.create_task(store.read_only(f"SELECT SUM(a.i * b.i * c.i) FROM {MANY}", seconds=seconds))
    while not own_file(store)._cursors:
        await asyncio.sleep(0.001)
    return reading


async def test_a_snapshot_waits_for_a_query_and_no_turn_waits_for_the_snapshot(store: Store, tmp_path: Path) -> None:
    reading = await a_query_in_the_way(store, seconds=100)
    copying = asyncio.create_task(copies.snapshot(store.backend, tmp_path / "copy"))
    await asyncio.sleep(0.1)
    await keep(store, a_turn(a_chat()))
    waited = not copying.done() and not reading.done()
    reading.cancel()
    await copying

    assert waited
    assert await reopened(tmp_path / "copy") == await everything(store.backend)


async def test_a_snapshot_that_waits_too_long_says_for_what(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_file, "QUERY_PATIENCE", 0.1)
    reading = await a_query_in_the_way(store, seconds=100)
    for operation in (copies.snapshot(store.backend, tmp_path / "copy"), store.backend.vacuum()):
        with pytest.raises(StoreBusy, match=r"a long query of .* keeps its journal in use; try again after it"):
            await operation
    reading.cancel()

    assert left(tmp_path) == []


async def test_a_snapshot_overwrites_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("mine")

    with pytest.raises(StoreError, match="copy exists already; choose another name"):
        await copies.snapshot(store.backend, tmp_path / "copy")
    assert ((tmp_path / "copy").read_text(), left(tmp_path)) == ("mine", ["copy"])


NO_ROOM = """
from pathlib import Path
from workbench.store import copies
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main():
    store = await Store.open(sys.argv[1])
    await two_turns(store)
    await store.backend.vacuum()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    with pytest.raises(StoreError) as caught:
        await copies.snapshot(store.backend, Path(sys.argv[2]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(caught.value)
    await two_turns(store)
    store.close()
asyncio.run(main())
"""


async def test_a_snapshot_without_room_leaves_no_file_and_the_store_working(path: str, tmp_path: Path) -> None:
    out, error, code = await asyncio.to_thread(outcome, NO_ROOM, path, str(tmp_path / "copy"))

    assert (error, code) == ("", 0)
    assert "cannot be written (File too large)" in out
    assert left(tmp_path) == []
    assert rows(path, "SELECT COUNT(*) FROM usage") == [(4,)]


async def test_a_store_in_memory_says_that_it_has_no_file(tmp_path: Path) -> None:
    store = await Store.open(":memory:")
    with pytest.raises(StoreError, match="a store in memory has no file"):
        await copies.snapshot(store.backend, tmp_path / "copy")
    store.close()
    assert left(tmp_path) == []


# Backup and restore -------------------------------------------------------------------------------------------------


async def test_a_backup_comes_back_and_the_store_in_its_place_is_kept(store: Store, path: str, tmp_path: Path) -> None:
    await two_turns(store)
    before = await everything(store.backend)
    assert await copies.backup(store.backend, tmp_path / "backup") == []
    await two_turns(store, EVE)
    after = await everything(store.backend)
    store.close()

    aside = await copies.restore(tmp_path / "backup", Path(path), force=True)

    assert aside is not None
    assert await reopened(Path(path)) == before
    assert await reopened(aside) == after
    assert left(tmp_path) == ["backup"]


async def test_a_backup_whose_rows_break_a_rule_is_kept_and_said_to(store: Store, tmp_path: Path) -> None:
    await two_turns(store)
    await unsettle(store)

    broken = await copies.backup(store.backend, tmp_path / "backup")

    assert copies.sentence(broken) == "not so: input tokens are the sum of their parts (2)"
    assert left(tmp_path) == ["backup"]


async def test_a_backup_that_breaks_a_rule_is_restored_only_by_force(store: Store, tmp_path: Path) -> None:
    await two_turns(store)
    await unsettle(store)
    await copies.backup(store.backend, tmp_path / "backup")

    with pytest.raises(StoreError, match="does not hold together: not so: input tokens are the sum"):
        await copies.restore(tmp_path / "backup", tmp_path / "new")
    assert left(tmp_path) == ["backup"]

    assert await copies.restore(tmp_path / "backup", tmp_path / "new", force=True) is None
    assert rows(str(tmp_path / "new"), "SELECT COUNT(*) FROM usage") == [(2,)]


async def test_restoring_overwrites_no_store_unless_forced(store: Store, path: str, tmp_path: Path) -> None:
    await copies.backup(store.backend, tmp_path / "backup")
    await two_turns(store)
    store.close()

    with pytest.raises(StoreError, match="with --force it is moved aside"):
        await copies.restore(tmp_path / "backup", Path(path))
    assert rows(path, "SELECT COUNT(*) FROM usage") == [(2,)]


async def test_a_store_in_use_is_not_restored_over(path: str, tmp_path: Path) -> None:
    made = await Store.open(path)
    await copies.backup(made.backend, tmp_path / "backup")
    made.close()
    holds_it = "store = asyncio.run(Store.open(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    with child(holds_it, path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StoreBusy, match=f"PID {process.pid}"):
            await copies.restore(tmp_path / "backup", Path(path), force=True)
        process.communicate()

    assert left(tmp_path) == ["backup"]
    assert await reopened(Path(path))


@pytest.mark.parametrize("content", [b"", b"not a store at all" * 1000])
async def test_what_is_no_store_is_not_restored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "backup").write_bytes(content)

    with pytest.raises(StoreError):
        await copies.restore(tmp_path / "backup", tmp_path / "new")
    assert left(tmp_path) == ["backup"]
    assert (tmp_path / "backup").read_bytes() == content


async def test_a_damaged_store_with_its_journal_is_moved_aside(store: Store, path: str, tmp_path: Path) -> None:
    await two_turns(store)
    await copies.backup(store.backend, tmp_path / "backup")
    store.close()
    Path(path).write_bytes(b"\0" * 50_000)
    Path(f"{path}.wal").write_bytes(b"journal")

    aside = await copies.restore(tmp_path / "backup", Path(path), force=True)

    assert aside is not None
    assert (aside.read_bytes(), Path(f"{aside}.wal").read_bytes()) == (b"\0" * 50_000, b"journal")
    assert len((await reopened(Path(path)))["usage"]) == 2


async def test_a_store_is_not_a_backup_of_itself(store: Store, path: str) -> None:
    store.close()
    with pytest.raises(StoreError, match="is the store itself"):
        await copies.restore(Path(path), Path(path), force=True)


async def test_letting_go_of_the_old_file_leaves_the_new_ones_journal_alone(
    store: Store, path: str, tmp_path: Path
) -> None:
    await two_turns(store)
    store.close()
    async with copies._held(Path(path)):
        Path(path).rename(tmp_path / "aside")
        Path(f"{path}.wal").write_bytes(b"of whoever opened the new one")

    assert Path(f"{path}.wal").read_bytes() == b"of whoever opened the new one"


# Vacuum -------------------------------------------------------------------------------------------------------------


async def emptied(store: Store) -> int:
    """Have many chats, and delete them; return the bytes of the file."""
    letters = random.Random(1)
    chats = [a_chat() for _ in range(4)]
    for chat in chats:
        text = letters.randbytes(1_000_000).hex()
        await keep(store, a_turn(chat, text, text))
    for chat in chats:
        await store.delete_chat(ADA, chat.id)
    await store.backend.vacuum()
    assert isinstance(store.backend, SharedFile)
    return os.path.getsize(store.backend.path)


async def test_compacting_gives_the_space_of_deleted_chats_back_and_keeps_the_rest(store: Store, path: str) -> None:
    await filled(store)
    before = await emptied(store)
    held = await everything(store.backend)
    store.close()

    copies.compact(Path(path))

    assert os.path.getsize(path) < before / 2
    backend = DuckDBFile(path)
    assert await everything(backend) == held
    await backend.write([])
    with pytest.raises(StoreError):  # keys and checks came along
        await backend.write([Statement("INSERT INTO orgs SELECT * FROM orgs")])
    with pytest.raises(StoreError):
        await backend.write([Statement("UPDATE holds SET state = 'odd'")])
    backend.close()
    assert left(Path(path).parent) == []


async def test_space_freed_while_in_use_is_used_again(store: Store, path: str) -> None:
    before = await emptied(store)

    for _ in range(3):
        assert await emptied(store) < before * 1.5


async def test_compacting_brings_an_older_file_into_todays_form(store: Store, path: str) -> None:
    await two_turns(store)
    store.close()
    old = f"{path}.old"
    with duckdb.connect(path) as connection:
        connection.execute(f"ATTACH '{old}' AS old (STORAGE_VERSION 'v1.5.0')")
        connection.execute(f'COPY FROM DATABASE "{Path(path).stem}" TO old')
    form = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = current_database()"

    opened = await Store.open(old)
    assert await opened.backend.rows(form) == [("v1.5.0+",)]  # it can be used as it is
    await keep(opened, a_turn(a_chat()))
    opened.close()
    copies.compact(Path(old))

    opened = await Store.open(old)
    assert await opened.backend.rows(form) == [("v2.0.0+",)]
    assert await opened.backend.rows("SELECT COUNT(*) FROM messages") == [(6,)]
    opened.close()


async def test_a_store_in_use_is_not_compacted(store: Store, path: str) -> None:
    script = "from pathlib import Path\nfrom workbench.store import copies\ncopies.compact(Path(sys.argv[1]))"
    _, error, code = await asyncio.to_thread(outcome, script, path)

    assert (code, f"(PID {os.getpid()})" in error) == (1, True)


def test_a_pipe_is_not_compacted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(StoreCorrupt, match="is not a workbench store"):
        copies.compact(tmp_path / "pipe")
