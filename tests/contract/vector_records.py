"""What a VectorStorage promises of records that are written, read and removed."""

from __future__ import annotations

import math

from services.common.clock import FakeClock
from services.common.errors import Reason
from services.vector.model import (
    Condition,
    Equals,
    Exists,
    Mask,
    MetadataChange,
    Metric,
    NewRecord,
    Range,
)
from services.vector.storage import VectorStorage
from tests.contract.vector_cases import (
    OTHER,
    PLACE,
    all_ids,
    hits,
    ids,
    make,
    query,
    record,
    refused,
)


async def a_record_comes_back_as_written(storage: VectorStorage, clock: FakeClock) -> None:
    """All parts and all kinds of metadata survive; the mask leaves out what is not asked for."""
    await make(storage)
    metadata = {
        "null": None,
        "yes": True,
        "int": -(2**63),
        "float": 3.0,
        "text": "Zürich",
        "bytes": b"\0\xff",
        "list": [1, "a", [2.5]],
        "map": {"deep": {"er": 1}},
    }
    asked = record("a", 3, 4, metadata=metadata, text="body", event_time_ns=-5, ttl_ns=10**9)
    written = await storage.upsert(*PLACE, [asked])
    everything = Mask(vector=True)
    [found], revision = await storage.get(*PLACE, ["a"], mask=everything)
    assert found.metadata == metadata
    assert isinstance(found.metadata["float"], float)
    assert found.vector is not None
    assert found.vector.tolist() == [3, 4]
    assert (found.text, found.event_time_ns) == ("body", -5)
    assert found.expire_time_ns == clock.now_ns() + 10**9
    assert found.ingest_time_ns == clock.now_ns()
    assert (found.revision, revision) == (written.revision, written.revision)
    [bare], _ = await storage.get(*PLACE, ["a"], mask=Mask(metadata=False, text=False))
    assert (bare.vector, bare.metadata, bare.text) == (None, {}, "")
    [hit] = await hits(storage, query(1, 0, mask=everything))
    assert hit.record.vector is not None
    assert hit.record.vector.tolist() == [3, 4]
    assert hit.record.metadata == metadata


async def the_last_of_an_id_counts(storage: VectorStorage, clock: FakeClock) -> None:
    """Twice in a batch: the last; in a later batch: replaced whole. Ids are answered in order."""
    await make(storage)
    written = await storage.upsert(
        *PLACE, [record("a", 1, 0, text="old"), record("b", 1, 1), record("a", 0, 1)]
    )
    assert written.record_ids == ["a", "b", "a"]
    [found], _ = await storage.get(*PLACE, ["a"], mask=Mask(vector=True))
    assert (found.vector.tolist(), found.text) == ([0, 1], "")
    await storage.upsert(*PLACE, [record("a", -1, 0, metadata={"n": 1})])
    [found], _ = await storage.get(*PLACE, ["a"], mask=Mask(vector=True))
    assert (found.vector.tolist(), found.metadata) == ([-1, 0], {"n": 1})
    assert (await storage.get_collection(*PLACE))[0].record_count == 2
    assert await ids(storage, query(-1, 0)) == ["a", "b"]


async def missing_ids_are_made(storage: VectorStorage, clock: FakeClock) -> None:
    """An empty id is filled; two of them differ."""
    await make(storage)
    written = await storage.upsert(*PLACE, [record("", 1, 0), record("", 1, 0)])
    assert len(set(written.record_ids)) == 2
    assert sorted(written.record_ids) == await all_ids(storage)


async def get_keeps_the_order_and_leaves_out_what_is_absent(
    storage: VectorStorage, clock: FakeClock
) -> None:
    """Records come in the order of the ids; ids that are not there are left out."""
    await make(storage)
    await storage.upsert(*PLACE, [record(name, 1, 0) for name in "abc"])
    found, _ = await storage.get(*PLACE, ["c", "theirs", "a", "zz"])
    assert [each.record_id for each in found] == ["c", "a"]


async def lists_are_in_order_of_id(storage: VectorStorage, clock: FakeClock) -> None:
    """By code point, page by page, with a filter too."""
    await make(storage)
    names = [f"r{n}" for n in range(20)] + ["Z", "ä", "z", "😀", "r1#0"]
    await storage.upsert(
        *PLACE, [record(name, 1, n, metadata={"even": n % 2 == 0}) for n, name in enumerate(names)]
    )
    assert await all_ids(storage) == sorted(names)
    even = Condition("even", Equals(value=True))
    assert await all_ids(storage, even, limit=3) == sorted(names[::2])


async def a_bad_batch_writes_nothing(storage: VectorStorage, clock: FakeClock) -> None:
    """Each rule names the record and the limit, and nothing of the batch stays."""
    await make(storage)
    good = record("good", 1, 0)
    bad: list[tuple[NewRecord, Reason, dict[str, object]]] = [
        (record("x", 1, 0, 0), Reason.DIMENSION_MISMATCH, {"expected": 2, "got": 3}),
        (record("x", 1, math.nan), Reason.VECTOR_NOT_FINITE, {"position": 1}),
        (record("x", -math.inf, 1), Reason.VECTOR_NOT_FINITE, {"position": 0}),
        (record("x", 0, 0), Reason.VECTOR_ZERO, {"field": "records[1].vector"}),
        (record("x", 1e30, 0), Reason.FIELD_INVALID, {"field": "records[1].vector"}),
        (record("x" * 257, 1, 0), Reason.LIMIT_EXCEEDED, {"limit": 256, "got": 257}),
        (record("x\n", 1, 0), Reason.FIELD_INVALID, {"field": "records[1].record_id"}),
        (record("x", 1, 0, text="ä" * 32769), Reason.LIMIT_EXCEEDED, {"limit": 65536}),
        (record("x", 1, 0, ttl_ns=0), Reason.FIELD_INVALID, {"field": "records[1].ttl"}),
        (record("x", 1, 0, ttl_ns=10**19), Reason.LIMIT_EXCEEDED, {"field": "records[1].ttl"}),
        (record("x", 1, 0, metadata={"a": "x" * 16384}), Reason.LIMIT_EXCEEDED, {"limit": 16384}),
        (
            record("x", 1, 0, metadata={str(n): 1 for n in range(65)}),
            Reason.LIMIT_EXCEEDED,
            {"limit": 64},
        ),
        (record("x", 1, 0, metadata={"a": [math.inf]}), Reason.FIELD_INVALID, {}),
        (record("x", 1, 0, metadata={"a": 2**63}), Reason.FIELD_INVALID, {}),
    ]
    before = (await storage.stats("acme", None)).revision
    for wrong, reason, metadata in bad:
        with refused(reason, **metadata):
            await storage.upsert(*PLACE, [good, wrong])
    assert await all_ids(storage) == []
    assert (await storage.stats("acme", None)).revision == before
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.upsert("acme", "global", "none", [good])


async def a_document_is_replaced_in_one_step(storage: VectorStorage, clock: FakeClock) -> None:
    """Records with the prefix go, the new ones come; a longer name is another document."""
    await make(storage)
    names = ["doc#0", "doc#1", "doc#2", "doc2#0", "Doc#0"]
    await storage.upsert(*PLACE, [record(name, 1, 0, text="old") for name in names])
    written = await storage.upsert(
        *PLACE, [record("doc#0", 0, 1, text="new")], replace_prefixes=["doc#"]
    )
    assert written.replaced_count == 3
    assert await all_ids(storage) == ["Doc#0", "doc#0", "doc2#0"]
    assert await ids(storage, query(0, 1, limit=1)) == ["doc#0"]
    removed = await storage.delete_prefixes(*PLACE, ["doc", "none"])
    assert removed.count == 2
    assert await all_ids(storage) == ["Doc#0"]


async def deletes_count_what_was_there(storage: VectorStorage, clock: FakeClock) -> None:
    """Removing twice, an absent id or from an absent collection counts 0 and takes no revision."""
    await make(storage)
    await storage.upsert(*PLACE, [record(name, 1, 0) for name in "abc"])
    removed = await storage.delete(*PLACE, ["a", "a", "none", "b"])
    assert removed.count == 2
    again = await storage.delete(*PLACE, ["a", "theirs"])
    assert (again.count, again.revision) == (0, removed.revision)
    absent = await storage.delete("acme", "global", "none", ["a"])
    assert (absent.count, absent.revision) == (0, removed.revision)
    assert await ids(storage, query(1, 0)) == ["c"]


async def a_scope_goes_alone(storage: VectorStorage, clock: FakeClock) -> None:
    """Deleting a scope removes its collections, not those of a longer name or another tenant."""
    for tenant in ("acme", "globex"):
        for scope in ("user:a", "user:ab", "global"):
            await storage.create_collection(tenant, scope, "c", dimension=2, metric=Metric.L2)
            await storage.upsert(tenant, scope, "c", [record("r", 1, 0)])
    assert (await storage.delete_scope("acme", "user:a")).count == 1
    page = await storage.list_collections("acme", None, limit=9)
    assert [each.scope for each in page.collections] == ["global", "user:ab"]
    assert (await storage.stats("globex", None)).record_count == 3


async def a_purge_takes_one_tenant(storage: VectorStorage, clock: FakeClock) -> None:
    """Everything of one tenant goes, nothing of the one whose name begins alike."""
    for tenant in ("acme", "acme2"):
        await storage.create_collection(tenant, "global", "c", dimension=2, metric=Metric.L2)
        await storage.upsert(
            tenant, "global", "c", [record("a", 1, 0, ttl_ns=9), record("b", 1, 0)]
        )
    assert (await storage.purge("acme")).count == 2
    assert (await storage.purge("acme")).count == 0
    assert (await storage.stats("acme", None)).collection_count == 0
    assert (await storage.stats("acme2", None)).record_count == 2


async def stats_count_a_scope_or_a_tenant(storage: VectorStorage, clock: FakeClock) -> None:
    """Collections, records and stored bytes of what is asked for."""
    await make(storage)
    await storage.create_collection("acme", "user:a", "c", dimension=2, metric=Metric.L2)
    await storage.upsert(*PLACE, [record("a", 1, 0, text="abc"), record("b", 1, 0)])
    whole = await storage.stats("acme", None)
    assert (whole.collection_count, whole.record_count) == (2, 2)
    # Two vectors of 8 bytes, two empty maps of 1, a text of 3.
    assert whole.stored_bytes == 21
    part = await storage.stats("acme", "user:a")
    assert (part.collection_count, part.record_count, part.stored_bytes) == (1, 0, 0)
    await storage.upsert(*PLACE, [record("a", 1, 0)])
    assert (await storage.stats("acme", None)).stored_bytes == 18


async def revisions_rise_by_one_a_change(storage: VectorStorage, clock: FakeClock) -> None:
    """Every change takes the next revision; reading takes none and answers with the last."""
    _, made = await storage.create_collection(*PLACE, dimension=2, metric=Metric.L2)
    first = (await storage.upsert(*PLACE, [record("a", 1, 0), record("b", 1, 0)])).revision
    second = (await storage.upsert(*PLACE, [record("a", 1, 0)])).revision
    nothing = (await storage.upsert(*PLACE, [])).revision
    third = (await storage.delete(*PLACE, ["a"])).revision
    assert [first, second, nothing, third] == [made + 1, made + 2, made + 2, made + 3]
    [result] = await storage.search(*PLACE, query(1, 0))
    assert result.revision == third
    assert (await storage.get(*PLACE, ["b"]))[1] == third
    assert (await storage.list_records(*PLACE, limit=1)).revision == third
    assert (await storage.stats("acme", None)).revision == third


async def lists_can_begin_with_a_prefix(storage: VectorStorage, clock: FakeClock) -> None:
    """Only ids that begin so, in order, from a place on; a prefix is text, not a pattern."""
    await make(storage)
    names = ["doc#0", "doc#1", "doc#10", "doc2#0", "do", "Doc#0", "doc#é"]
    await storage.upsert(*PLACE, [record(name, 1, 0) for name in names])
    await storage.upsert(*OTHER, [record("doc#theirs", 1, 0)])

    async def begin(prefix: str, after: str = "") -> list[str]:
        page = await storage.list_records(*PLACE, limit=99, prefix=prefix, after=after)
        assert page.cursor is None
        return [each.record_id for each in page.records]

    assert await begin("doc#") == ["doc#0", "doc#1", "doc#10", "doc#é"]
    assert await begin("doc#", after="doc#1") == ["doc#10", "doc#é"]
    assert await begin("doc#", after="a") == ["doc#0", "doc#1", "doc#10", "doc#é"]
    assert await begin("doc#", after="e") == []
    assert await begin("d.c") == []


async def records_that_match_are_removed(storage: VectorStorage, clock: FakeClock) -> None:
    """All that match a filter go in one step; expired ones and another tenant's do not count."""
    await make(storage)
    await storage.upsert(*OTHER, [record("low", 1, 0, metadata={"n": 0})])
    rows = [record(str(n), 1, 0, metadata={"n": n}) for n in range(6)]
    await storage.upsert(*PLACE, [*rows, record("old", 1, 0, metadata={"n": 0}, ttl_ns=1)])
    clock.advance(1.0)
    low = Condition("n", Range(lt=3))
    removed = await storage.delete(*PLACE, where=low)
    assert removed.count == 3
    assert await all_ids(storage) == ["3", "4", "5"]
    again = await storage.delete(*PLACE, where=low)
    assert (again.count, again.revision) == (0, removed.revision)
    with refused(Reason.FILTER_INVALID):
        await storage.delete(*PLACE, where=Condition("n", Range()))
    assert len((await storage.get(*OTHER, ["low", "theirs"]))[0]) == 2


async def metadata_change_and_nothing_else(storage: VectorStorage, clock: FakeClock) -> None:
    """Fields are set and removed by id; vector, text and times stay; one revision for all."""
    await make(storage)
    old = {"keep": [1, {"x": 2}], "drop": 1, "n": 1}
    rows = [
        record(name, 3, 4, metadata=old, text="body", event_time_ns=-7, ttl_ns=10**12)
        for name in "ab"
    ]
    await storage.upsert(*PLACE, [*rows, record("c", 1, 0, metadata={"n": 9})])
    before = (await storage.get(*PLACE, ["a", "b"], mask=Mask(vector=True)))[0]
    clock.advance(5.0)
    change = MetadataChange(set={"n": 2.5, "new": None}, remove=("drop", "none"))
    done = await storage.update_metadata(*PLACE, change, record_ids=["a", "b", "a", "zz"])
    found, revision = await storage.get(*PLACE, ["a", "b", "c"], mask=Mask(vector=True))
    assert (done.count, done.revision, revision) == (2, before[0].revision + 1, done.revision)
    for was, now in zip(before, found[:2], strict=True):
        assert now.metadata == {"keep": [1, {"x": 2}], "n": 2.5, "new": None}
        assert now.vector.tolist() == was.vector.tolist()
        assert (now.text, now.event_time_ns) == (was.text, was.event_time_ns)
        assert now.expire_time_ns == was.expire_time_ns
        assert (now.revision, now.ingest_time_ns) == (done.revision, clock.now_ns())
    assert found[2].metadata == {"n": 9}
    assert "".join(await ids(storage, query(1, 0, filter=Condition("n", Equals(2.5))))) == "ab"
    assert await ids(storage, query(1, 0, filter=Condition("n", Equals(1)))) == []
    only = MetadataChange(set={"only": 1}, replace=True)
    await storage.update_metadata(*PLACE, only, record_ids=["a"])
    assert (await storage.get(*PLACE, ["a"]))[0][0].metadata == {"only": 1}


async def metadata_change_where_a_filter_matches(storage: VectorStorage, clock: FakeClock) -> None:
    """Matches alone are changed; expired ones and another tenant's are not; none: no revision."""
    await make(storage)
    rows = [record(str(n), 1, n, metadata={"n": n}) for n in range(5)]
    await storage.upsert(*PLACE, [*rows, record("old", 1, 0, metadata={"n": 1}, ttl_ns=1)])
    clock.advance(1.0)
    change, low = MetadataChange(set={"low": True}), Condition("n", Range(lte=1))
    done = await storage.update_metadata(*PLACE, change, where=low)
    assert done.count == 2
    assert await all_ids(storage, Condition("low", Exists(present=True))) == ["0", "1"]
    none = await storage.update_metadata(*PLACE, change, where=Condition("n", Equals(99)))
    assert (none.count, none.revision) == (0, done.revision)
    assert (await storage.get(*OTHER, ["theirs"]))[0][0].metadata == {"n": 1}


async def bad_changes_of_metadata_change_nothing(storage: VectorStorage, clock: FakeClock) -> None:
    """Too large, too many, contradictory or empty: refused as a whole."""
    await make(storage)
    full = {str(n): n for n in range(64)}
    await storage.upsert(
        *PLACE, [record("a", 1, 0, metadata={"n": 1}), record("full", 1, 0, metadata=full)]
    )
    before = (await storage.stats("acme", None)).revision
    bad: list[tuple[MetadataChange, Reason]] = [
        (MetadataChange(), Reason.FIELD_REQUIRED),
        (MetadataChange(set={"new": 1}), Reason.LIMIT_EXCEEDED),
        (MetadataChange(set={"0": "x" * 16384}), Reason.LIMIT_EXCEEDED),
        (MetadataChange(set={"0": math.nan}), Reason.FIELD_INVALID),
        (MetadataChange(set={"0": 2**63}), Reason.FIELD_INVALID),
        (MetadataChange(set={"0": 1}, remove=("0",)), Reason.FIELD_INVALID),
        (MetadataChange(remove=tuple(map(str, range(65)))), Reason.LIMIT_EXCEEDED),
    ]
    for change, reason in bad:
        with refused(reason):
            await storage.update_metadata(*PLACE, change, record_ids=["a", "full"])
    with refused(Reason.FILTER_INVALID):
        await storage.update_metadata(
            *PLACE, MetadataChange(set={"x": 1}), where=Condition("n", Range())
        )
    with refused(Reason.COLLECTION_NOT_FOUND):
        await storage.update_metadata(
            "acme", "global", "none", MetadataChange(set={"x": 1}), record_ids=["a"]
        )
    assert (await storage.stats("acme", None)).revision == before
    assert (await storage.get(*PLACE, ["a"]))[0][0].metadata == {"n": 1}
