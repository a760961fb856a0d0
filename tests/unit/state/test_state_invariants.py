"""What the crash tests look at after every restart sees each kind of break."""

import shutil

import pytest
from blake3 import blake3

from services.common.clock import FakeClock
from services.state.artifact_model import Choice, Draft
from services.state.artifacts import Artifacts
from services.state.blob_format import Checksums, Damaged
from services.state.engines.blobs import FolderBlobs
from services.state.event_model import NewEvent
from services.state.events import Events
from services.state.items import Items
from services.state.journal import Journals
from services.state.journal_model import Entry
from services.state.layout import (
    ARTIFACT_DIGESTS,
    ARTIFACT_NAMES,
    ARTIFACT_ORDER,
    ARTIFACT_SCOPES,
    ARTIFACTS,
    BLOB_REFS,
    BLOB_TOMBS,
    CHANGES,
    CHECKPOINT_ITEMS,
    CHECKPOINTS,
    EVENT_ENDS,
    EVENT_LOGS,
    EVENTS,
    EXPIRY,
    ITEMS,
    JOURNAL,
    JOURNALS,
    REQUEST_TIMES,
    RESTORES,
    SCHEMAS,
    SESSION_DUE,
    SESSION_ORDER,
    SESSIONS,
    STAGED,
    TENANTS,
)
from services.state.layout import artifacts as artifact_layout
from services.state.layout import journals as journal_layout
from services.state.layout import sessions as session_layout
from services.state.layout.items import pack_item
from services.state.migrations.migrations import Migrations, Order
from services.state.migrations.model import Family, Rename, Schema
from services.state.migrations.schemas import Schemas
from services.state.model import Encoding, Item, Once, Value, Write
from services.state.session_model import NewSession, Status
from services.state.sessions import Sessions
from tests.crash.artifact_invariants import check_blobs
from tests.crash.state_invariants import check_state
from tests.state_engines import memory_keeper

SCOPE = "session:s"


class World:
    """A store with something of everything."""

    def __init__(self, folder):
        self.folder = folder
        self.keeper = memory_keeper(FakeClock())
        blobs = FolderBlobs(folder, Checksums())
        self.items, self.sessions = Items(self.keeper), Sessions(self.keeper)
        self.artifacts = Artifacts(self.keeper, blobs)
        self.journals = Journals(self.keeper)
        self.events = Events(self.keeper)

    async def fill(self, tenant):
        await self.fill_items(tenant)
        await self.fill_sessions(tenant)
        await self.fill_artifacts(tenant)
        await self.fill_logs(tenant)
        await self.migrate(tenant)

    async def fill_items(self, tenant):
        writes = [Write(SCOPE, f"k{n}", Value(Encoding.TEXT, b"x" * n)) for n in range(9)]
        await self.items.batch(tenant, [], writes)
        value = Value(Encoding.TEXT, b"ends")
        await self.items.set(tenant, SCOPE, "ends", value, ttl_ns=10**15)
        once = Once("r1", b"digest")
        await self.items.increment(tenant, "global", "n", 1, once=once)
        await self.items.delete(tenant, SCOPE, "k3")

    async def fill_sessions(self, tenant):
        for name in ("s", "t", "u"):
            await self.sessions.create(tenant, NewSession(session_id=name))
        await self.sessions.save(tenant, "s")
        await self.sessions.create_checkpoint(tenant, "s", "first")
        await self.items.delete(tenant, SCOPE, "k4")
        await self.sessions.restore_checkpoint(tenant, "s", "c1", keep_present=True)
        await self.sessions.move(tenant, "t", Status.COMPLETED)
        await self.sessions.delete(tenant, "u")

    async def fill_artifacts(self, tenant):
        for number in range(4):
            draft = Draft(scope=SCOPE, name=f"report{number % 2}")
            await self.artifacts.store(tenant, draft, [b"content %d" % (number // 2)])
        await self.artifacts.store(tenant, Draft(scope=SCOPE, name="gone"), [b"gone"])
        gone = Choice(scope=SCOPE, name="gone", version=1)
        await self.artifacts.delete(tenant, gone)

    async def fill_logs(self, tenant):
        for number in range(3):
            await self.events.publish(tenant, [NewEvent("work.done", "{}")] * (number + 1))
        for number in (1, 3):
            entries = [Entry(n, "m", b"q", b"a", "", "", 1, 2, "c") for n in (number, number + 1)]
            await self.journals.append(tenant, "s", entries)

    async def migrate(self, tenant):
        schemas, migrations = Schemas(self.keeper), Migrations(self.keeper)
        value = Value(Encoding.JSON, b'{"a":1}')
        await self.items.set(tenant, "custom:orders", "o1", value)
        family = Family("orders", "custom:orders", "", "")
        await schemas.put(tenant, family, Schema("1.0.0", (), (), 0))
        await schemas.put(tenant, family, Schema("1.1.0", (), (Rename("a", "b"),), 0))
        begun = await migrations.start(tenant, Order(schema="orders", backup=False))
        await migrations.get(tenant, begun.migration_id, wait_s=20)
        await migrations.close()

    async def put(self, database, key, value):
        await self.keeper.engine.write(lambda txn: txn.put(database, key, value))

    async def rewrite(self, database, change):
        """Change the value of a database's first record."""
        with self.keeper.engine.read() as view:
            key, stored = next(view.scan(database, b""))
        await self.put(database, key, change(stored))

    async def drop(self, database, which=0):
        """Remove a record."""
        with self.keeper.engine.read() as view:
            key = list(view.keys(database, b""))[which]
        await self.keeper.engine.write(lambda txn: txn.delete(database, key))

    def check(self, *, tidy=True):
        with self.keeper.engine.read() as view:
            check_state(view)
            return check_blobs(view, FolderBlobs(self.folder, Checksums()), tidy=tidy)

    def a_file(self):
        """Of a blob that is needed."""
        digest = blake3(b"content 1").digest()
        return FolderBlobs(self.folder, Checksums()).place("acme", digest)


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path)
    await made.fill("acme")
    await made.fill("globex")
    return made


async def test_what_is_whole_is_taken_for_whole(world):
    """A store with something of everything has nothing wrong, swept or not."""
    assert world.check() == 4
    await world.artifacts.sweep()
    assert world.check() == 4


@pytest.mark.parametrize(
    "database",
    [
        ITEMS,
        EXPIRY,
        CHANGES,
        TENANTS,
        SESSIONS,
        SESSION_ORDER,
        SESSION_DUE,
        CHECKPOINTS,
        CHECKPOINT_ITEMS,
        ARTIFACTS,
        ARTIFACT_NAMES,
        ARTIFACT_ORDER,
        ARTIFACT_DIGESTS,
        ARTIFACT_SCOPES,
        BLOB_REFS,
        BLOB_TOMBS,
        EVENTS,
        EVENT_ENDS,
        EVENT_LOGS,
        JOURNAL,
        JOURNALS,
        REQUEST_TIMES,
        SCHEMAS,
    ],
)
@pytest.mark.parametrize("which", [0, -1])
async def test_a_missing_record_is_seen(world, database, which):
    """Whichever database lost one, its first or its last."""
    await world.drop(database, which)
    with pytest.raises((AssertionError, KeyError)):
        world.check()


AN_ITEM = Item(
    key="o1",
    value=Value(Encoding.JSON, b"{}"),
    revision=1,
    create_time_ns=1,
    update_time_ns=1,
)
EXTRA = [
    (SESSION_ORDER, session_layout.order_key("acme", 1, "nobody"), b""),
    (SESSION_DUE, session_layout.due_key(session_layout.Due.EXPIRE, 9, "acme", "s"), b""),
    (EXPIRY, b"\0" * 8 + b"acme\0session:s\0k1", b""),
    (ARTIFACT_ORDER, artifact_layout.order_key("acme", SCOPE, 99), b"report0\0" + bytes(8)),
    (ARTIFACT_DIGESTS, artifact_layout.digest_key("acme", bytes(32), SCOPE, 1), b""),
    (ARTIFACT_NAMES, artifact_layout.name_key("acme", SCOPE, "none"), bytes(16)),
    (BLOB_REFS, artifact_layout.blob_key("acme", bytes(32)), artifact_layout.pack_number(1)),
    (EVENT_ENDS, bytes(8) + b"acme\0" + bytes(8), b""),
    (RESTORES, b"acme", b"{}"),
    (
        STAGED,
        b"nobody\0custom:orders\0o1",
        pack_item(AN_ITEM),
    ),
]


@pytest.mark.parametrize(("database", "key", "value"), EXTRA)
async def test_a_record_of_nothing_is_seen(world, database, key, value):
    """Entries of indexes without a record, references of nobody, a restore that did not end."""
    await world.put(database, key, value)
    with pytest.raises(AssertionError):
        world.check()


CHANGED = [
    (BLOB_REFS, lambda _: artifact_layout.pack_number(7), "references"),
    (ARTIFACT_NAMES, lambda _: artifact_layout.pack_name(2, 7), "versions of"),
    (ARTIFACT_NAMES, lambda _: artifact_layout.pack_name(1, 2), "given again"),
    (ARTIFACT_SCOPES, lambda _: artifact_layout.pack_number(1), "given again"),
    (EVENTS, lambda stored: stored[:24] + bytes(4) + stored[28:], "half a batch"),
    (EVENT_LOGS, lambda stored: stored[:8] + bytes(8) + stored[16:], "the log of"),
    (EVENT_LOGS, lambda stored: stored[:24] + bytes(8), "does not count"),
    (JOURNALS, lambda _: journal_layout.pack_journal(
        journal_layout.unpack_journal(b"\x97\xa1s\x05\0\0\0\0\xa0")), "a gap in"),
]  # fmt: skip


@pytest.mark.parametrize(("database", "change", "words"), CHANGED)
async def test_a_wrong_count_is_seen(world, database, change, words):
    """References, versions, sequences, events and calls that are counted wrong."""
    await world.rewrite(database, change)
    with pytest.raises(AssertionError, match=words):
        world.check()


async def test_a_broken_blob_is_seen(world):
    """Bytes that are missing, changed, cut, or another's."""
    place = world.a_file()
    content = place.read_bytes()
    for broken in (b"", content[:-1], content.replace(b"content", b"CONTENT")):
        place.write_bytes(broken)
        with pytest.raises(Damaged):
            world.check()
    place.unlink()
    with pytest.raises(AssertionError, match="1 blobs are missing"):
        world.check()


async def test_a_file_of_nobody_is_seen(world):
    """Once a start has tidied up, a file without a record is one too many."""
    place = world.a_file()
    shutil.copy(place, place.with_name(place.name[:2] + bytes(31).hex()))
    assert world.check(tidy=False) == 4
    with pytest.raises(AssertionError, match="1 files of nobody"):
        world.check()
    await world.artifacts.tidy_up()
    world.check()
