"""services.common.store and the folder it lives in."""

import asyncio
import errno
import os
import struct
import subprocess
import sys
import threading

import lmdb
import pytest

from services.common import datafile, failpoints
from services.common import store as store_module
from services.common.errors import Reason, ServiceError
from services.common.store import Schema, Store, exit_on_fatal

SCHEMA = Schema(kind="test", version=1, databases=("one", "two"), migrations={})


def opened(path, *, schema=SCHEMA, fatal=pytest.fail):
    return Store(path, schema, on_fatal=fatal)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "parent" / "store"


@pytest.fixture
def store(path):
    store = opened(path)
    yield store
    store.close()


def refusal(path, **kwargs):
    """The reason and words for which a folder is refused."""
    with pytest.raises(ServiceError) as info:
        opened(path, **kwargs)
    return info.value.reason, info.value.message


def put(database, key, value):
    return lambda txn: txn.put(database, key, value)


def hold_writer(store):
    """Keep the writer busy until the event is set, so that what follows waits together."""
    begun, go = threading.Event(), threading.Event()

    def operation(txn):
        begun.set()
        assert go.wait(10)

    task = asyncio.ensure_future(store.write(operation))
    return task, begun, go


async def test_write_then_read(store):
    """A value is read back; what was never written is None."""
    await store.write(put("one", b"k", b"v"))
    with store.read() as view:
        assert view.get("one", b"k") == b"v"
        assert view.get("two", b"k") is None
        assert view.has("one", b"k")
        assert not view.has("one", b"other")
        assert view.count("one") == 1


async def test_reopened_store_has_it_all(path):
    """What was acknowledged is there after closing and opening again."""
    store = opened(path)
    await store.write(put("one", b"k", b"v"))
    store.close()
    store = opened(path)
    with store.read() as view:
        assert view.get("one", b"k") == b"v"
    store.close()


async def test_view_does_not_change(store):
    """A view that is open sees nothing of what is written after it was opened."""
    await store.write(put("one", b"k", b"old"))
    with store.read() as view:
        await store.write(put("one", b"k", b"new"))
        assert view.get("one", b"k") == b"old"
    with store.read() as view:
        assert view.get("one", b"k") == b"new"


async def test_scan(store):
    """Scans come in key order, by prefix, behind a key, with or without values."""

    def fill(txn):
        for key in (b"a", b"b1", b"b2", b"b3", b"c"):
            txn.put("one", key, key.upper())

    await store.write(fill)
    with store.read() as view:
        assert list(view.keys("one", b"")) == [b"a", b"b1", b"b2", b"b3", b"c"]
        assert list(view.scan("one", b"b")) == [(b"b1", b"B1"), (b"b2", b"B2"), (b"b3", b"B3")]
        assert list(view.keys("one", b"b", after=b"b1")) == [b"b2", b"b3"]
        assert list(view.keys("one", b"b", after=b"b3")) == []
        assert list(view.keys("one", b"b", after=b"a")) == [b"b1", b"b2", b"b3"]
        assert list(view.keys("one", b"x")) == []
        assert list(view.keys("two", b"")) == []


async def test_delete(store):
    """Deletion says whether there was something, and deletion by prefix how much."""
    for key in (b"a", b"b1", b"b2"):
        await store.write(put("one", key, b"v"))
    assert await store.write(lambda txn: txn.delete("one", b"a"))
    assert not await store.write(lambda txn: txn.delete("one", b"a"))
    assert await store.write(lambda txn: txn.delete_prefix("one", b"b")) == 2
    with store.read() as view:
        assert view.count("one") == 0


async def test_revision(store):
    """Revisions rise by one, and an operation that fails takes none."""

    def fails(txn):
        txn.next_revision()
        raise KeyError("no")

    assert await store.write(lambda txn: txn.next_revision()) == 1
    with pytest.raises(KeyError):
        await store.write(fails)
    assert await store.write(lambda txn: txn.next_revision()) == 2
    with store.read() as view:
        assert view.revision() == 2


async def test_failed_operation_leaves_nothing(store):
    """Of operations that share a commit, one that fails leaves nothing and harms no other."""

    def fails(txn):
        txn.put("one", b"half", b"x")
        raise ServiceError(Reason.REVISION_MISMATCH, "No.")

    held, begun, go = hold_writer(store)
    await asyncio.to_thread(begun.wait)
    tasks = [
        asyncio.ensure_future(store.write(operation))
        for operation in (put("one", b"a", b"1"), fails, put("one", b"b", b"2"))
    ]
    await asyncio.sleep(0)
    go.set()
    await held
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] is results[2] is None
    assert results[1].reason == Reason.REVISION_MISMATCH
    with store.read() as view:
        assert list(view.keys("one", b"")) == [b"a", b"b"]


@pytest.fixture
def commits(monkeypatch):
    """Counts the commits of the store."""
    counted = []
    monkeypatch.setattr(
        failpoints, "hit", lambda name: counted.append(name) if "before" in name else None
    )
    return counted


async def test_waiting_writes_share_a_commit(store, commits):
    """All that wait while the writer is busy are kept with one commit."""
    held, begun, go = hold_writer(store)
    await asyncio.to_thread(begun.wait)
    tasks = [asyncio.ensure_future(store.write(put("one", b"%d" % n, b"v"))) for n in range(100)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(held, *tasks)
    assert len(commits) == 1
    with store.read() as view:
        assert view.count("one") == 100


async def test_group_is_bounded(store, commits, monkeypatch):
    """A commit takes no more once it holds many bytes, or many operations."""
    monkeypatch.setattr(store_module, "GROUP_BYTES_MAX", 1000)
    monkeypatch.setattr(store_module, "GROUP_MAX", 4)
    held, begun, go = hold_writer(store)
    await asyncio.to_thread(begun.wait)
    sizes = [1, 1, 1, 1, 1, 1, 1, 999, 1, 999]
    tasks = [
        asyncio.ensure_future(store.write(put("one", b"%d" % n, bytes(size))))
        for n, size in enumerate(sizes)
    ]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(held, *tasks)
    assert len(commits) == 4  # held 0 1 2 | 3 4 5 6 | 7 | 8 9, where 7 alone is enough
    with store.read() as view:
        assert view.count("one") == len(sizes)


async def test_caller_that_left(store):
    """A caller that stops waiting disturbs nobody; its write may have happened."""
    held, begun, go = hold_writer(store)
    await asyncio.to_thread(begun.wait)
    left = asyncio.ensure_future(store.write(put("one", b"left", b"v")))
    stays = asyncio.ensure_future(store.write(put("one", b"stays", b"v")))
    await asyncio.sleep(0)
    left.cancel()
    go.set()
    await asyncio.gather(held, stays)
    with store.read() as view:
        assert view.has("one", b"stays")


def test_loop_that_closed(path):
    """A loop that closed while its write waited does not stop the writer."""
    store = opened(path)
    begun, go = threading.Event(), threading.Event()

    def operation(txn):
        begun.set()
        assert go.wait(10)

    async def leave():
        task = asyncio.ensure_future(store.write(operation))
        await asyncio.to_thread(begun.wait)
        task.cancel()

    asyncio.run(leave())
    go.set()
    asyncio.run(store.write(put("one", b"k", b"v")))
    store.close()


async def test_close_finishes_what_waits(path):
    """Writes that wait when the store closes are kept; later calls are refused."""
    store = opened(path)
    held, begun, go = hold_writer(store)
    await asyncio.to_thread(begun.wait)
    waiting = asyncio.ensure_future(store.write(put("one", b"k", b"v")))
    await asyncio.sleep(0)
    join = store._thread.join
    store._thread.join = lambda: (go.set(), join())  # closing has begun, the writer has not ended
    await asyncio.gather(held, waiting, asyncio.to_thread(store.close))
    assert not store.is_open
    with pytest.raises(ServiceError) as info:
        await store.write(put("one", b"late", b"v"))
    assert info.value.reason == Reason.SERVICE_UNAVAILABLE
    with pytest.raises(ServiceError) as info, store.read():
        pass
    assert info.value.reason == Reason.SERVICE_UNAVAILABLE
    store.close()
    store = opened(path)
    with store.read() as view:
        assert list(view.keys("one", b"")) == [b"k"]
    store.close()


def bits_flipped(path, needle):
    """Flip one bit in the stored bytes that begin with `needle`; how often they were found."""
    file = path / "data.mdb"
    content = bytearray(file.read_bytes())
    count = content.count(needle)
    place = content.find(needle)
    while place >= 0:
        content[place + 3] ^= 0x10
        place = content.find(needle, place + 1)
    file.write_bytes(content)
    return count


@pytest.mark.parametrize("part", ["value", "key"])
async def test_flipped_bit_is_not_returned(path, part):
    """A value or key that changed on disk is an error, never wrong data; others are still read."""
    store = opened(path)
    needle = b"needle-in-the-file"
    key, value = (b"k", needle) if part == "value" else (needle, b"v")
    await store.write(put("one", key, value))
    await store.write(put("one", b"z", b"sound"))
    store.close()
    assert bits_flipped(path, needle) > 0
    store = opened(path)
    with store.read() as view, pytest.raises(ServiceError) as info:
        list(view.scan("one", b""))
    assert info.value.reason == Reason.RECORD_CORRUPT
    with store.read() as view:
        assert view.get("one", b"z") == b"sound"
    store.close()


async def test_value_moved_to_another_key(store):
    """A checksum belongs to its key: bytes that end up under another key are refused."""
    await store.write(put("one", b"a", b"v"))

    def move(txn):
        database = txn._databases["one"]
        txn._txn.put(b"b", txn._txn.get(b"a", db=database), db=database)
        txn._txn.put(b"c", b"x", db=database)

    await store.write(move)
    with store.read() as view:
        for key in (b"b", b"c"):
            with pytest.raises(ServiceError) as info:
                view.get("one", key)
            assert info.value.reason == Reason.RECORD_CORRUPT
            assert info.value.metadata == {"database": "one", "key": key.hex()}


async def filled(path, count=200):
    store = opened(path)
    for number in range(count):
        await store.write(put("one", b"%05d" % number, bytes(1000)))
    store.close()
    return path / "data.mdb"


async def test_truncated_file(path):
    """A file that has lost its end is refused at opening, instead of killing the process later."""
    file = await filled(path)
    os.truncate(file, file.stat().st_size // 2)
    reason, message = refusal(path)
    assert reason == Reason.RECORD_CORRUPT
    assert "its end is missing" in message


@pytest.mark.parametrize("damage", ["emptied", "zeroed", "garbage", "removed"])
async def test_lost_header(path, damage):
    """A file that was a store and has lost its header, or is gone, is refused and not made anew."""
    file = await filled(path, 3)
    if damage == "removed":
        file.unlink()
    elif damage == "emptied":
        os.truncate(file, 0)
    else:
        head = bytes(8192) if damage == "zeroed" else os.urandom(8192)
        file.write_bytes(head + file.read_bytes()[8192:])
    reason, message = refusal(path)
    assert reason == Reason.RECORD_CORRUPT
    assert "Restore it from a backup" in message


@pytest.mark.parametrize("size", [0, 4096, 8192])
def test_creation_that_was_cut_short(path, size):
    """A file that never saw a commit is begun again: there was nothing in it to lose."""
    path.mkdir(parents=True)
    (path / "data.mdb").write_bytes(bytes(size))
    store = opened(path)
    store.close()
    assert (path / "LOCK").read_bytes() == b"created\n"


def test_large_unknown_file(path):
    """A large file without a header is left alone, whatever the folder says."""
    path.mkdir(parents=True)
    (path / "data.mdb").write_bytes(bytes(1024 * 1024))
    assert refusal(path)[0] == Reason.RECORD_CORRUPT
    assert (path / "data.mdb").stat().st_size == 1024 * 1024


async def test_page_that_makes_no_sense(path):
    """A page of garbage below the root is RECORD_CORRUPT, not another exception."""
    file = await filled(path)
    content = bytearray(file.read_bytes())
    for page in range(2, len(content) // 4096):
        flags = struct.unpack_from("<H", content, page * 4096 + 10)[0]
        if flags & 0x02 and content.find(b"00150", page * 4096, (page + 1) * 4096) > 0:
            struct.pack_into("<H", content, page * 4096 + 10, 0x04)  # a leaf that says overflow
    file.write_bytes(content)
    store = opened(path)
    with pytest.raises(ServiceError) as info, store.read() as view:
        view.get("one", b"00150")
    assert info.value.reason == Reason.RECORD_CORRUPT
    store.close()


def test_folder_in_use(path, store):
    """A folder that is open is refused, and the first owner goes on."""
    reason, message = refusal(path)
    assert reason == Reason.STORE_LOCKED
    assert str(path) in message
    with store.read() as view:
        assert view.revision() == 0


def test_folder_in_use_by_another_process(path):
    """A folder that another process holds is refused, until that process ends."""
    code = (
        "import sys, pathlib, services.common.store as s;"
        "store = s.Store(pathlib.Path(sys.argv[1]), s.Schema('test', 1, ('one', 'two'), {}),"
        " on_fatal=print); print('open', flush=True); sys.stdin.read(); store.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"open\n"
        assert refusal(path)[0] == Reason.STORE_LOCKED
        other.stdin.close()
        other.wait()
    opened(path).close()


@pytest.mark.parametrize("place", ["a file", "below a file", "/proc/llmspell", "data is a folder"])
def test_folder_that_cannot_be_written(tmp_path, place):
    """A place where no store can be made is refused with its path."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "data.mdb").mkdir(parents=True)
    path = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "store",
        "/proc/llmspell": tmp_path.__class__("/proc/llmspell"),
        "data is a folder": tmp_path / "folder",
    }[place]
    reason, message = refusal(path)
    assert reason == Reason.STORE_NOT_WRITABLE
    assert str(path) in message
    assert refusal(path)[0] == reason  # and the folder was let go


def version(number, migrations):
    return Schema(
        kind="test", version=number, databases=("one", "two", "three"), migrations=migrations
    )


async def test_newer_schema(path):
    """A store that a newer release wrote is refused, and left as it was."""
    opened(path, schema=version(3, {})).close()
    before = (path / "data.mdb").read_bytes()
    with pytest.raises(ServiceError) as info:
        opened(path, schema=version(2, {}))
    assert info.value.reason == Reason.SCHEMA_TOO_NEW
    assert info.value.metadata == {"found": "3", "supported": "2"}
    assert (path / "data.mdb").read_bytes() == before
    opened(path, schema=version(3, {})).close()


async def test_migration(path):
    """Each step from an older schema runs once, in order, in one transaction with its record."""
    store = opened(path)
    await store.write(put("one", b"k", b"1"))
    store.close()

    def second(txn):
        txn.put("three", b"k", txn.get("one", b"k") + b"2")

    def third(txn):
        txn.put("three", b"k", txn.get("three", b"k") + b"3")

    for _ in range(2):
        store = opened(path, schema=version(3, {1: second, 2: third}))
        with store.read() as view:
            assert view.get("three", b"k") == b"123"
        store.close()
    assert refusal(path)[0] == Reason.SCHEMA_TOO_NEW


async def test_migration_that_fails(path):
    """A step that fails leaves the version before it, and its next run finishes."""
    opened(path).close()

    def good(txn):
        txn.put("three", b"first", b"x")

    def bad(txn):
        txn.put("three", b"half", b"x")
        raise RuntimeError("power")

    with pytest.raises(RuntimeError):
        opened(path, schema=version(3, {1: good, 2: bad}))
    assert refusal(path)[0] == Reason.SCHEMA_TOO_NEW  # version 2 now, half of nothing
    store = opened(path, schema=version(3, {2: lambda txn: txn.put("three", b"second", b"x")}))
    with store.read() as view:
        assert list(view.keys("three", b"")) == [b"first", b"second"]
    store.close()


def test_store_of_another_kind(path):
    """A folder that holds another kind of store is refused."""
    opened(path).close()
    reason, message = refusal(path, schema=Schema("vector", 1, ("one",), {}))
    assert reason == Reason.STORE_NOT_WRITABLE
    assert "holds a test store, not a vector store" in message


@pytest.mark.parametrize("point", ["store.before_commit", "store.after_commit"])
async def test_failed_flush_ends_it(path, monkeypatch, point):
    """After a commit that may not be on disk the process is told to end; no write follows."""
    told = []
    store = opened(path, fatal=told.append)
    await store.write(put("one", b"before", b"v"))

    def hit(name):
        if name == point:
            raise OSError(errno.EIO, "disk")

    monkeypatch.setattr(failpoints, "hit", hit)
    with pytest.raises(ServiceError) as info:
        await store.write(put("one", b"k", b"v"))
    assert info.value.reason == Reason.INTERNAL
    assert len(told) == 1
    assert "disk" in told[0]
    assert not store.is_open
    monkeypatch.undo()
    with pytest.raises(ServiceError):
        await store.write(put("one", b"k2", b"v"))
    store.close()


@pytest.mark.parametrize(
    "error", [lmdb.DiskError("x"), lmdb.MapFullError("x"), OSError(errno.ENOSPC, "No space left")]
)
async def test_full_disk_is_not_fatal(store, monkeypatch, error):
    """Where the disk is full the write is refused and the store goes on."""

    def fails(txn):
        raise error

    monkeypatch.setattr(failpoints, "hit", lambda name: fails(None) if "before" in name else None)
    with pytest.raises(ServiceError) as info:
        await store.write(put("one", b"k", b"v"))
    assert info.value.reason == Reason.STORAGE_FULL
    monkeypatch.undo()
    with store.read() as view:
        assert not view.has("one", b"k")
    await store.write(put("one", b"k", b"v"))


async def test_full_map_is_not_fatal(path, monkeypatch):
    """Where the map is full the write is refused, and deletes and smaller writes go on."""
    monkeypatch.setattr(datafile, "MAP_BYTES", 512 * 1024)
    store = opened(path)
    await store.write(put("one", b"k", b"v"))
    with pytest.raises(ServiceError) as info:
        await store.write(put("one", b"large", bytes(1024 * 1024)))
    assert info.value.reason == Reason.STORAGE_FULL
    assert await store.write(lambda txn: txn.delete("one", b"k"))
    await store.write(put("one", b"small", b"v"))
    store.close()


def test_no_room_to_begin(path, monkeypatch):
    """A store that cannot even be created for want of room says so."""
    monkeypatch.setattr(datafile, "MAP_BYTES", 8192)
    assert refusal(path)[0] == Reason.STORAGE_FULL


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (lmdb.ReadonlyError("x"), Reason.STORE_NOT_WRITABLE),
        (OSError(errno.EACCES, "x"), Reason.STORE_NOT_WRITABLE),
        (lmdb.Error("x: Input/output error"), Reason.STORE_NOT_WRITABLE),
        (lmdb.MemoryError("x"), Reason.STORE_NOT_WRITABLE),
        (lmdb.CorruptedError("x"), Reason.RECORD_CORRUPT),
    ],
)
def test_lmdb_that_refuses(path, monkeypatch, error, reason):
    """What LMDB itself finds wrong at opening becomes a reason, and the folder is let go."""

    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(datafile.lmdb, "open", refuse)
    assert refusal(path)[0] == reason
    monkeypatch.undo()
    opened(path).close()


def test_folder_that_cannot_be_flushed(path, monkeypatch):
    """A new store whose name may not be on disk is refused; the parent may be another's."""

    def fail(folder):
        raise PermissionError(errno.EACCES, "no", str(folder))

    flush = datafile._flush
    monkeypatch.setattr(datafile, "_flush", fail)
    assert refusal(path)[0] == Reason.STORE_NOT_WRITABLE
    monkeypatch.setattr(
        datafile, "_flush", lambda folder: flush(folder) if folder == path else fail(folder)
    )
    opened(path).close()


async def test_file_of_another_lmdb(path):
    """A file of a format that this LMDB does not know is refused."""
    file = await filled(path, 3)
    content = bytearray(file.read_bytes())
    for page in (0, 4096):
        struct.pack_into("<I", content, page + 20, 999)
    file.write_bytes(content)
    assert refusal(path)[0] == Reason.RECORD_CORRUPT


def test_full_disk_for_real(tmp_path):
    """Where the file may not grow writes are refused, reads and deletes go on, nothing is lost."""
    code = """
import asyncio, pathlib, resource, signal, sys
from services.common.errors import Reason, ServiceError
from services.common.store import Schema, Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(pathlib.Path(sys.argv[1]), Schema('test', 1, ('one',), {}), on_fatal=print)
async def main():
    for n in range(20):
        await store.write(lambda t: t.put('one', b'%d' % n, bytes(5000)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (store.size_bytes(), resource.RLIM_INFINITY))
    try:
        await store.write(lambda t: t.put('one', b'large', bytes(10**6)))
    except ServiceError as error:
        assert error.reason == Reason.STORAGE_FULL, error
    else:
        raise AssertionError
    with store.read() as view:
        assert view.count('one') == 20 and view.get('one', b'7') == bytes(5000)
    assert await store.write(lambda t: t.delete('one', b'7'))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.write(lambda t: t.put('one', b'large', bytes(10**6)))
asyncio.run(main())
store.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "store"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_append_keeps_what_put_keeps(store):
    """In any order of keys, over keys that are there, and for the last of several collections."""

    def write(txn):
        for key in (b"b1", b"b2", b"a1", b"b3", b"b2", b"a2"):
            txn.append("one", key, key * 300)
        txn.append("one", b"b3", b"again")

    await store.write(write)
    with store.read() as view:
        found = dict(view.scan("one", b""))
    assert found == {key: key * 300 for key in (b"a1", b"a2", b"b1", b"b2")} | {b"b3": b"again"}


CUT_SHORT = """
import asyncio, os, pathlib, resource, signal, sys
from services.common.errors import Reason, ServiceError
from services.common.store import Schema, Store, exit_on_fatal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, room = pathlib.Path(sys.argv[1]), int(sys.argv[2])
store = Store(folder, Schema('test', 1, ('one',), {}), on_fatal=exit_on_fatal)
async def main():
    await store.write(lambda t: t.put('one', b'first', bytes(5000)))
    if room:
        limit = store.size_bytes() + room
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    kept = 0
    for n in range(60):
        try:
            await store.write(lambda t: t.put('one', b'%d' % n, os.urandom(10**6)))
            kept += 1
        except ServiceError as error:
            assert error.reason == Reason.STORAGE_FULL, error
    assert kept < 60
    with store.read() as view:
        assert view.count('one') == kept + 1 and view.get('one', b'first') == bytes(5000)
    assert await store.write(lambda t: t.delete('one', b'first'))
asyncio.run(main())
store.close()
"""


def cut_short(folder, room):
    command = [sys.executable, "-c", CUT_SHORT, folder, str(room)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("room", [300_001, 1_000_003, 2_500_000])
def test_a_write_cut_short_by_a_limit_is_a_full_disk(tmp_path, room):
    """LMDB calls it an I/O error; the process lives, and reads and deletes go on."""
    cut_short(tmp_path / "store", room)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_write_cut_short_by_a_small_disk_is_a_full_disk(tmp_path):
    """A real file system without room: refused, and the process lives (found by hand)."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount")
    try:
        cut_short(disk / "store", 0)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_exit_on_fatal_ends_the_process(tmp_path):
    """A failed flush in a real process ends it at once with 74, and nothing is answered."""
    code = """
import asyncio, pathlib, sys
from services.common.store import Schema, Store, exit_on_fatal
store = Store(pathlib.Path(sys.argv[1]), Schema('test', 1, ('one',), {}), on_fatal=exit_on_fatal)
asyncio.run(store.write(lambda txn: txn.put('one', b'k', b'v')))
print('answered')
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "store"],
        env={**os.environ, "LLMSPELL_FAILPOINTS": "store.before_commit=fail"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 74
    assert done.stdout == ""
    assert done.stderr.startswith("fatal: commit failed: ")
    assert exit_on_fatal.__module__ == "services.common.store"


def test_process_that_forgot_to_close(tmp_path):
    """A process that fails with a store open ends all the same, with what it had answered kept."""
    code = """
import asyncio, pathlib, sys
from services.common.store import Schema, Store
store = Store(pathlib.Path(sys.argv[1]), Schema('test', 1, ('one', 'two'), {}), on_fatal=print)
asyncio.run(store.write(lambda txn: txn.put('one', b'k', b'v')))
raise SystemExit(3)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "store"], check=False, timeout=60)
    assert done.returncode == 3
    store = opened(tmp_path / "store")
    with store.read() as view:
        assert view.get("one", b"k") == b"v"
    store.close()


def test_folder_is_private(path, store):
    """The folder and its files are for their owner only."""
    assert path.stat().st_mode & 0o777 == 0o700
    for file in path.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    assert store.size_bytes() > 0
