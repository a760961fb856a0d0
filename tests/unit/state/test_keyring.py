"""Values sealed under a data key for each tenant, and what is refused."""

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.view import META, Slice
from services.state.engines.embedded import open_store
from services.state.file_key import CHUNK_BYTES_MORE, FileKey, Nonces
from services.state.items import Items
from services.state.keyring import Keyring, read_master
from services.state.layout import DATABASES, INDEXES, ITEMS, KEYS, SEALED
from services.state.layout import vault as layout
from services.state.layout.items import item_key
from services.state.model import Encoding, Value
from tests.state_engines import embedded_keeper, memory_keeper, sealing_ring

SECRET = b"the kettle stands in the cupboard above the sink"
OTHER = b"the spare key lies under the third stone"
TENANTS = ("acme", "globex")


def value(content):
    return Value(Encoding.TEXT, content)


def place(tenant):
    return item_key(tenant, "global", "where")


async def fill(items):
    """The same key in two tenants, with contents of their own."""
    for tenant, content in zip(TENANTS, (SECRET, OTHER), strict=True):
        await items.set(tenant, "global", "where", value(content))


async def contents(items):
    found = [await items.get(tenant, "global", "where") for tenant in TENANTS]
    return [one.item.value.content if one.item else None for one in found]


def refused(error, reason):
    assert error.value.reason == reason
    return error.value


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def ring(clock):
    return sealing_ring(clock)


@pytest.fixture
async def keeper(tmp_path, clock, ring):
    keeper = embedded_keeper(tmp_path, clock, cipher=ring)
    yield keeper
    keeper.engine.close()


@pytest.fixture
def items(keeper):
    return Items(keeper)


def stored(keeper, database, key):
    """What lies in the file under a key."""
    with keeper.engine.read() as view:
        return dict(view.stored(database, key))[key]


async def plant(keeper, database, key, content):
    """Put bytes into the file as somebody would who has it in an editor."""

    def operation(txn):
        txn._txn.put(key, content, db=txn._databases[database])

    await keeper.engine.write(operation)


def test_each_database_is_sealed_or_an_index():
    """Whoever adds a database says whether it holds content; none is both."""
    assert set(DATABASES) == SEALED | INDEXES
    assert not SEALED & INDEXES


async def test_values_come_back_and_are_not_in_the_file(tmp_path, items):
    """Two tenants read what they wrote; neither value is anywhere in the data file."""
    await fill(items)
    assert await contents(items) == [SECRET, OTHER]
    data = (tmp_path / "data.mdb").read_bytes()
    assert SECRET not in data
    assert OTHER not in data
    assert b"where" in data, "names of keys are not sealed"


async def test_without_a_master_key_values_are_in_the_file(tmp_path, clock):
    """The test above can fail: without a master key the same bytes are found."""
    items = Items(embedded_keeper(tmp_path, clock))
    await fill(items)
    data = (tmp_path / "data.mdb").read_bytes()
    assert SECRET in data
    assert OTHER in data
    await items.close()


async def test_tenants_have_keys_of_their_own(keeper, items, ring):
    """Each tenant's first value makes its first key; the keys differ."""
    await fill(items)
    await fill(items)
    with keeper.engine.read() as view:
        found = list(ring.versions(view))
        wrapped = {view.get(KEYS, layout.version_key(name.encode(), 1)) for name in TENANTS}
    assert [(each.tenant, each.number) for each in found] == [("acme", 1), ("globex", 1)]
    assert len(wrapped) == 2


async def test_a_key_that_was_given_up_is_not_used(keeper, items):
    """A first write that fails leaves no key; the next one makes another, which opens."""

    def failing(txn):
        txn.put(ITEMS, place("acme"), b"x" * 40)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await keeper.engine.write(failing)
    with keeper.engine.read() as view:
        assert not view.count(KEYS)
    await fill(items)
    assert await contents(items) == [SECRET, OTHER]


@pytest.mark.parametrize("bit", [0, 3, 8, 39, 40, 130, 200, -1])
async def test_a_flipped_bit_is_refused(keeper, items, bit):
    """Whichever part it falls on (kind, version, nonce, text, tag), it is never other data."""
    await fill(items)
    sealed = bytearray(stored(keeper, ITEMS, place("acme")))
    sealed[bit // 8] ^= 1 << (bit % 8)
    await plant(keeper, ITEMS, place("acme"), bytes(sealed))
    with pytest.raises(ServiceError) as error:
        await items.get("acme", "global", "where")
    assert refused(error, Reason.RECORD_CORRUPT).metadata["key"] == place("acme").hex()
    assert (await items.get("globex", "global", "where")).item.value.content == OTHER


@pytest.mark.parametrize("length", [0, 1, 4, 5, 16, 17, 32])
async def test_a_value_cut_short_is_refused(keeper, items, length):
    """At any length."""
    await fill(items)
    await plant(keeper, ITEMS, place("acme"), stored(keeper, ITEMS, place("acme"))[:length])
    with pytest.raises(ServiceError) as error:
        await items.get("acme", "global", "where")
    refused(error, Reason.RECORD_CORRUPT)


async def test_values_that_changed_places_are_refused(keeper, items):
    """A sealed value is bound to its key: neither another key's nor another tenant's opens."""
    await fill(items)
    await items.set("acme", "global", "elsewhere", value(SECRET))
    elsewhere = stored(keeper, ITEMS, item_key("acme", "global", "elsewhere"))
    for other in (elsewhere, stored(keeper, ITEMS, place("globex"))):
        await plant(keeper, ITEMS, place("acme"), other)
        with pytest.raises(ServiceError) as error:
            await items.get("acme", "global", "where")
        refused(error, Reason.RECORD_CORRUPT)


async def test_another_tenants_key_does_not_open_a_value(keeper, items):
    """A wrapped key is bound to its tenant: moved under another name it does not unwrap."""
    await fill(items)
    key = layout.version_key(b"globex", 1)
    with keeper.engine.read() as view:
        theirs = view.get(KEYS, key)
    await keeper.engine.write(lambda txn: txn.put(KEYS, layout.version_key(b"acme", 1), theirs))
    with pytest.raises(ServiceError) as error:
        await items.get("acme", "global", "where")
    refused(error, Reason.RECORD_CORRUPT)


async def test_a_value_under_a_destroyed_key_is_refused(keeper, items, ring):
    """At once, although the key was in use a moment ago; the other tenant's is untouched."""
    await fill(items)
    assert await contents(items) == [SECRET, OTHER]
    await keeper.engine.write(lambda txn: ring.destroy(txn, "acme"))
    with pytest.raises(ServiceError) as error:
        await items.get("acme", "global", "where")
    assert "no longer there" in refused(error, Reason.RECORD_CORRUPT).message
    assert (await items.get("globex", "global", "where")).item.value.content == OTHER


async def test_a_plain_value_is_refused_where_all_are_sealed(keeper, items):
    """Whoever can write to the file cannot plant a value that has only a checksum."""
    await fill(items)
    planted = layout.pack_plain(place("acme"), b"x" * 40)
    await plant(keeper, ITEMS, place("acme"), planted)
    with pytest.raises(ServiceError) as error:
        await items.get("acme", "global", "where")
    refused(error, Reason.RECORD_CORRUPT)


@pytest.mark.parametrize(
    ("ring", "reason"),
    [
        (lambda _: Keyring(), Reason.MASTER_KEY_MISSING),
        (lambda clock: sealing_ring(clock, current=2), Reason.MASTER_KEY_WRONG),
        (lambda clock: sealing_ring(clock, current=2, previous=3), Reason.MASTER_KEY_WRONG),
    ],
)
async def test_start_is_refused_without_the_right_key(tmp_path, clock, ring, reason):
    """Before anything is touched: the file's bytes are what they were; the right key opens it."""
    items = Items(embedded_keeper(tmp_path, clock, cipher=sealing_ring(clock)))
    await fill(items)
    await items.close()
    before = (tmp_path / "data.mdb").read_bytes()
    with pytest.raises(ServiceError) as error:
        open_store(tmp_path, cipher=ring(clock))
    refused(error, reason)
    assert (tmp_path / "data.mdb").read_bytes() == before
    again = Items(embedded_keeper(tmp_path, clock, cipher=sealing_ring(clock)))
    assert await contents(again) == [SECRET, OTHER]
    await again.close()


async def test_a_forged_note_is_refused(tmp_path, clock):
    """What the store notes of its master key only a holder of that key can write."""
    keeper = embedded_keeper(tmp_path, clock, cipher=sealing_ring(clock))

    def forge(txn):
        import msgspec

        record = msgspec.structs.replace(read_master(txn), plain_left=True)
        txn.put(META, b"master", msgspec.msgpack.encode(record))

    await keeper.engine.write(forge)
    keeper.engine.close()
    with pytest.raises(ServiceError) as error:
        open_store(tmp_path, cipher=sealing_ring(clock))
    refused(error, Reason.RECORD_CORRUPT)


async def test_memory_seals_too(clock):
    """The memory engine keeps values as the embedded one does."""
    keeper = memory_keeper(clock, cipher=sealing_ring(clock))
    items = Items(keeper)
    await fill(items)
    assert await contents(items) == [SECRET, OTHER]
    assert SECRET not in stored(keeper, ITEMS, place("acme"))


def test_nonces_do_not_come_twice():
    """Not within a beginning, nor where the next one is drawn."""
    nonces = Nonces(limit=10)
    taken = [nonces.take() for _ in range(1000)]
    assert len(set(taken)) == 1000
    assert {len(each) for each in taken} == {12}
    assert len({each[:8] for each in taken}) == 100


def test_a_files_chunks_keep_their_places():
    """A chunk opens at its place with its key, and nowhere else; no bit of it can be changed."""
    key = FileKey()
    sealed = key.seal_chunk(b"items 1", SECRET)
    assert len(sealed) == len(SECRET) + CHUNK_BYTES_MORE
    assert SECRET not in sealed
    assert FileKey(key.raw).open_chunk(b"items 1", sealed) == SECRET
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for place, content, one in (
        (b"items 2", sealed, key),
        (b"items 1", flipped, key),
        (b"items 1", b"", key),
        (b"items 1", sealed, FileKey()),
    ):
        with pytest.raises(ServiceError) as error:
            one.open_chunk(place, content)
        refused(error, Reason.RECORD_CORRUPT)


def test_a_files_key_is_wrapped_by_the_master_key(clock):
    """Its holder opens it, after a rotation too while the key before is given; nobody else."""
    key = FileKey()
    wrapped = sealing_ring(clock).wrap_file_key(key)
    assert key.raw not in wrapped
    for ring in (sealing_ring(clock), sealing_ring(clock, current=2, previous=1)):
        assert ring.unwrap_file_key(wrapped).raw == key.raw
    for ring, reason in (
        (sealing_ring(clock, current=2), Reason.MASTER_KEY_WRONG),
        (Keyring(), Reason.MASTER_KEY_MISSING),
    ):
        with pytest.raises(ServiceError) as error:
            ring.unwrap_file_key(wrapped)
        refused(error, reason)
    with pytest.raises(ServiceError) as error:
        sealing_ring(clock).unwrap_file_key(wrapped[:-1] + bytes([wrapped[-1] ^ 1]))
    refused(error, Reason.RECORD_CORRUPT)
    with pytest.raises(ServiceError) as error:
        Keyring().wrap_file_key(key)
    refused(error, Reason.MASTER_KEY_MISSING)


async def test_slices_are_sealed_too(keeper, clock):
    """What is written and read many at once lies in the file as one value does."""
    pairs = [(item_key("acme", "global", f"k{n}"), SECRET + b"%d" % n) for n in range(5)]
    records = Slice([key for key, _ in pairs], [each for _, each in pairs])
    await keeper.engine.write(lambda txn: txn.put_slice(ITEMS, records))
    assert layout.sealed_version(stored(keeper, ITEMS, pairs[0][0])) == 1
    with keeper.engine.read() as view:
        assert view.slice(ITEMS, b"acme\0", limit=10).values == [each for _, each in pairs]
    await plant(keeper, ITEMS, pairs[1][0], stored(keeper, ITEMS, pairs[2][0]))
    with keeper.engine.read() as view, pytest.raises(ServiceError) as error:
        view.slice(ITEMS, b"acme\0", limit=10)
    assert refused(error, Reason.RECORD_CORRUPT).metadata["key"] == pairs[1][0].hex()


async def test_slices_without_a_master_key(clock):
    """With a checksum each, as single values have; a changed bit is named by its key."""
    keeper = memory_keeper(clock, cipher=Keyring())
    pairs = [(item_key("acme", "global", f"k{n}"), SECRET + b"%d" % n) for n in range(5)]
    records = Slice([key for key, _ in pairs], [each for _, each in pairs])
    await keeper.engine.write(lambda txn: txn.put_slice(ITEMS, records))
    with keeper.engine.read() as view:
        assert view.get(ITEMS, pairs[0][0]) == pairs[0][1]
        assert view.slice(ITEMS, b"acme\0", limit=10).values == [each for _, each in pairs]
    planted = bytearray(stored(keeper, ITEMS, pairs[1][0]))
    for byte in (0, 2, -1):
        changed = bytearray(planted)
        changed[byte] ^= 2
        await plant(keeper, ITEMS, pairs[1][0], bytes(changed))
        with keeper.engine.read() as view, pytest.raises(ServiceError) as error:
            view.slice(ITEMS, b"acme\0", limit=10)
        assert refused(error, Reason.RECORD_CORRUPT).metadata["key"] == pairs[1][0].hex()
