"""A process dies in the middle of reading a store: what it saw must not be kept for ever (T17)."""

import random
import signal
import subprocess
import sys

import numpy as np
import pytest

from services.common.clock import FakeClock
from services.common.store import Store
from services.state.model import Encoding, Value, Write
from services.vector.engines.embedded import EmbeddedVectorStorage, open_store
from services.vector.model import Metric, NewRecord
from tests.crash import recorder
from tests.state_engines import embedded_items

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

TENANTS = ("acme", "globex")
TIMES, ROWS, ROW_BYTES = 30, 65, 16_000
LIVE_BYTES = len(TENANTS) * ROWS * ROW_BYTES
READERS = {
    # What mdb_copy, mdb_stat or a backup tool does beside the process that serves.
    "tool": (
        "import lmdb; env = lmdb.open(sys.argv[1], readonly=True); held = env.begin(); held.stat()"
    ),
    "service": (
        "from tests.crash.test_stale_readers import KINDS; "
        "store = KINDS[sys.argv[2]].store_of(pathlib.Path(sys.argv[1])); "
        "held = store.read(); held.__enter__().revision()"
    ),
}


def fatal(message):
    """No commit may fail here."""
    raise AssertionError(message)


class Vectors:
    """Rewrites records."""

    @staticmethod
    def store_of(folder):
        """The store as the process opens it."""
        return open_store(folder, on_fatal=fatal)

    @classmethod
    async def opened(cls, folder):
        """The engine, with a collection for each tenant."""
        engine = EmbeddedVectorStorage(cls.store_of(folder), FakeClock())
        for tenant in TENANTS:
            if not (await engine.list_collections(tenant, None, limit=1)).collections:
                await engine.create_collection(
                    tenant, "global", "c", dimension=ROW_BYTES // 4, metric=Metric.COSINE
                )
        return engine

    @staticmethod
    async def rewrite(engine, tenant, version):
        """Write all of a tenant's records again."""
        vectors = np.random.default_rng(version).normal(size=(ROWS, ROW_BYTES // 4))
        numbered = enumerate(vectors.astype(np.float32))
        records = [NewRecord(record_id=f"{n}", vector=vector) for n, vector in numbered]
        await engine.upsert(tenant, "global", "c", records)

    @staticmethod
    def file_bytes(engine):
        """Size of the file."""
        return engine._core.store.size_bytes()


class States:
    """Rewrites items."""

    @classmethod
    def store_of(cls, folder):
        """The store as the process opens it."""
        return embedded_items(folder, FakeClock(), on_fatal=fatal)._engine

    @classmethod
    async def opened(cls, folder):
        """The engine."""
        return embedded_items(folder, FakeClock(), on_fatal=fatal, changes_kept=1000)

    @staticmethod
    async def rewrite(engine, tenant, version):
        """Write all of a tenant's items again."""
        content = random.Random(version).randbytes(ROW_BYTES)  # which nothing makes smaller
        value = Value(Encoding.RAW, content)
        writes = [Write("global", f"{n}", value) for n in range(ROWS)]
        await engine.batch(tenant, [], writes)

    @staticmethod
    def file_bytes(engine):
        """Size of the file."""
        return engine._engine.size_bytes()


KINDS = {"vector": Vectors, "state": States}


def die_reading(reader, folder, kind):
    """A process that is killed in the middle of a read transaction."""
    code = (
        f"import pathlib, sys, time; {READERS[reader]}; "
        "print('reading', flush=True); time.sleep(99)"
    )
    command = [sys.executable, "-c", code, str(folder), kind]
    with subprocess.Popen(command, cwd=recorder.ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"reading\n"
        process.send_signal(signal.SIGKILL)


async def grown(kind, folder, reader):
    """The file's size after a reader died and all was written again so many times."""
    engine = await KINDS[kind].opened(folder)
    for tenant in TENANTS:
        await KINDS[kind].rewrite(engine, tenant, 0)
    if reader == "service":  # it has the folder to itself
        await engine.close()
    die_reading(reader, folder, kind)
    if reader == "service":
        engine = await KINDS[kind].opened(folder)
    for version in range(1, TIMES + 1):
        for tenant in TENANTS:
            await KINDS[kind].rewrite(engine, tenant, version)
    size = KINDS[kind].file_bytes(engine)
    await engine.close()
    sys.stdout.write(f"{kind}, {reader}: {size / 2**20:.1f} MiB for {LIVE_BYTES / 2**20:.1f}\n")
    return size


@pytest.mark.parametrize("kind", KINDS)
async def test_without_looking_for_the_dead_it_grows(tmp_path, monkeypatch, kind):
    """The same thirty rewrites take more than ten times their size where nobody looks."""
    monkeypatch.setattr(Store, "_forget_dead_readers", lambda self: None)
    assert await grown(kind, tmp_path, "tool") > 10 * LIVE_BYTES


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
async def test_the_file_does_not_grow_for_a_dead_reader(tmp_path, reached, kind, reader):
    """Rewritten thirty times, two megabytes take at most four times their size."""
    size = await grown(kind, tmp_path, reader)
    reached(
        "T17",
        f"{kind}: {TIMES} rewrites after a {reader} died reading",
        "at most 4 x live data",
        f"{size / LIVE_BYTES:.1f} x",
        "no reader_check",
    )
    assert size <= 4 * LIVE_BYTES
