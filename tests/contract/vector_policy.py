"""What a VectorStorage promises to a caller who may not see every record."""

from __future__ import annotations

from services.common.clock import FakeClock
from services.common.errors import Reason
from services.vector.model import Condition, Equals, Exists, MetadataChange
from services.vector.storage import VectorStorage
from tests.contract.vector_cases import OTHER, PLACE, all_ids, make, record, refused

MINE = Condition("owner", Equals("me"))


async def two_owners(storage: VectorStorage) -> None:
    """Records of two owners, in both tenants."""
    await make(storage)
    rows = [
        record(f"{owner}#{n}", 1, n, metadata={"owner": owner, "n": n})
        for owner in ("me", "you")
        for n in range(2)
    ]
    for place in (PLACE, OTHER):
        await storage.upsert(*place, rows)


async def what_a_policy_hides_cannot_be_read(storage: VectorStorage, clock: FakeClock) -> None:
    """By id it is left out, as if it were not there."""
    await two_owners(storage)
    found, _ = await storage.get(*PLACE, ["you#0", "me#1", "me#0"], row_filter=MINE)
    assert [each.record_id for each in found] == ["me#1", "me#0"]


async def what_a_policy_hides_cannot_be_written(storage: VectorStorage, clock: FakeClock) -> None:
    """Neither by writing what cannot be seen then, nor over what cannot be seen now."""
    await two_owners(storage)
    mine = record("me#2", 1, 0, metadata={"owner": "me"})
    before = (await storage.stats("acme", None)).revision
    bad = [
        ([mine, record("x", 1, 0)], ()),
        ([mine, record("you#0", 1, 0, metadata={"owner": "me"})], ()),
        ([mine], ("you#",)),
        ([], ("me#", "you#")),
    ]
    for rows, prefixes in bad:
        with refused(Reason.PERMISSION_DENIED, permission="row_filter"):
            await storage.upsert(*PLACE, rows, replace_prefixes=prefixes, row_filter=MINE)
    assert await all_ids(storage) == ["me#0", "me#1", "you#0", "you#1"]
    assert (await storage.stats("acme", None)).revision == before
    written = await storage.upsert(*PLACE, [mine], replace_prefixes=("me#",), row_filter=MINE)
    assert written.replaced_count == 2
    assert await all_ids(storage) == ["me#2", "you#0", "you#1"]


async def what_a_policy_hides_cannot_be_changed(storage: VectorStorage, clock: FakeClock) -> None:
    """It counts as not there, by id and by filter; and nothing can be changed out of sight."""
    await two_owners(storage)
    change = MetadataChange(set={"seen": 1})
    for chosen in ({"record_ids": ["me#0", "you#0"]}, {"where": Condition("n", Equals(0))}):
        done = await storage.update_metadata(*PLACE, change, row_filter=MINE, **chosen)
        assert done.count == 1
    assert await all_ids(storage, Condition("seen", Exists(present=True))) == ["me#0"]
    before = (await storage.stats("acme", None)).revision
    for leaving in (
        MetadataChange(set={"owner": "you"}),
        MetadataChange(remove=("owner",)),
        MetadataChange(replace=True),
    ):
        with refused(Reason.PERMISSION_DENIED, permission="row_filter"):
            await storage.update_metadata(
                *PLACE, leaving, record_ids=["me#0", "me#1"], row_filter=MINE
            )
    assert (await storage.stats("acme", None)).revision == before


async def what_a_policy_hides_cannot_be_removed(storage: VectorStorage, clock: FakeClock) -> None:
    """By id, by filter or by prefix: it stays, and does not count."""
    await two_owners(storage)
    removed = await storage.delete(*PLACE, ["me#0", "you#0"], row_filter=MINE)
    assert removed.count == 1
    every = Condition("n", Exists(present=True))
    assert (await storage.delete(*PLACE, where=every, row_filter=MINE)).count == 1
    none = await storage.delete_prefixes(*PLACE, ["you#", "me#"], row_filter=MINE)
    assert (none.count, none.revision) == (0, removed.revision + 1)
    assert await all_ids(storage) == ["you#0", "you#1"]
    assert (await storage.stats("globex", None)).record_count == 5
