"""What artifacts promise over every engine. Each function takes empty artifacts and their clock."""

from __future__ import annotations

import asyncio
import os

import pytest
from blake3 import blake3

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.limits import ARTIFACT_BYTES_MAX
from services.state.artifact_model import Artifact, Choice, Draft, Query
from services.state.artifacts import Artifacts

ACME = "acme"
GLOBEX = "globex"
SCOPE = "session:s1"
LARGE = os.urandom(700_000) + b"again and again " * 40_000


async def put(
    artifacts: Artifacts, name: str, content: bytes, *, tenant: str = ACME, **draft
) -> Artifact:
    """Store bytes."""
    draft = {"scope": SCOPE} | draft
    return (await artifacts.store(tenant, Draft(name=name, **draft), [content])).artifact


def named(name: str = "", **choice) -> Choice:
    """A choice in the usual scope."""
    return Choice(**({"scope": SCOPE, "name": name} | choice))


async def content(artifacts: Artifacts, choice: Choice, *, tenant: str = ACME, **part) -> bytes:
    """All bytes of an artifact."""
    return b"".join([piece async for _, piece in artifacts.read(tenant, choice, **part)])


async def found(artifacts: Artifacts, *, limit: int = 100, **query) -> list[str]:
    """Names and versions that a query lists, page by page."""
    names: list[str] = []
    after = None
    while True:
        asked = Query(**({"scope": SCOPE} | query))
        page = await artifacts.list(ACME, asked, limit=limit, after=after)
        names += [f"{each.name}@{each.version}" for each in page.artifacts]
        after = page.after
        if after is None:
            return names


async def refused(reason: Reason, work) -> ServiceError:
    """The error of a call that must fail."""
    with pytest.raises(ServiceError) as caught:
        await work
    assert caught.value.reason == reason
    return caught.value


async def stores_and_reads(artifacts: Artifacts, clock: FakeClock) -> None:
    """What was stored is read, whole and in every part, under the digest of blake3."""
    stored = await put(artifacts, "report", LARGE, tags=("a", "b"), metadata={"n": 1, "x": b"\0"})
    assert stored.digest == blake3(LARGE).digest()
    assert (stored.version, stored.sequence, stored.size_bytes) == (1, 1, len(LARGE))
    assert stored.stored_bytes < len(LARGE)
    assert stored.create_time_ns == clock.now_ns()
    assert await artifacts.get(ACME, named("report")) == stored
    assert await content(artifacts, named("report")) == LARGE
    for offset, length in ((0, 1), (262_143, 2), (699_999, 300_000), (len(LARGE), 5)):
        part = await content(artifacts, named("report"), offset=offset, length=length)
        assert part == LARGE[offset : offset + length]


async def keeps_sizes_around_a_frame(artifacts: Artifacts, clock: FakeClock) -> None:
    """Nothing, a byte, and sizes around those of a frame and of compression come back."""
    del clock
    for size in (0, 1, 10_240, 10_241, 262_143, 262_144, 262_145, 524_288):
        written = bytes(size)
        await put(artifacts, f"of {size}", written)
        assert await content(artifacts, named(f"of {size}")) == written


async def counts_versions(artifacts: Artifacts, clock: FakeClock) -> None:
    """Each store adds a version, none changes, and none that was deleted comes again."""
    del clock
    for text in (b"one", b"two", b"three"):
        await put(artifacts, "report", text)
    assert await content(artifacts, named("report")) == b"three"
    assert await content(artifacts, named("report", version=1)) == b"one"
    assert (await artifacts.delete(ACME, named("report", version=3))).deleted_count == 1
    assert await content(artifacts, named("report")) == b"two"
    assert (await put(artifacts, "report", b"four")).version == 4
    page = await artifacts.versions(ACME, SCOPE, "report", limit=2)
    assert [each.version for each in page.artifacts] == [1, 2]
    assert page.after is not None
    page = await artifacts.versions(ACME, SCOPE, "report", limit=2, after=page.after)
    assert [each.version for each in page.artifacts] == [4]
    assert page.after is None


async def keeps_as_many_versions_as_asked(artifacts: Artifacts, clock: FakeClock) -> None:
    """`keep_versions` removes the oldest ones, of this name only."""
    del clock
    await put(artifacts, "other", b"stays")
    for number in range(5):
        await put(artifacts, "log", b"%d" % number, keep_versions=2)
    assert await found(artifacts) == ["other@1", "log@4", "log@5"]
    assert (await put(artifacts, "log", b"x", keep_versions=1)).version == 6
    assert await found(artifacts, name_pattern="log") == ["log@6"]


async def finds_by_each_choice(artifacts: Artifacts, clock: FakeClock) -> None:
    """Name, digest and sequence find an artifact; what does not fit together finds none."""
    del clock
    first = await put(artifacts, "a", b"same")
    second = await put(artifacts, "b", b"same")
    other = await put(artifacts, "a", b"other")
    assert await artifacts.get(ACME, named(digest=first.digest)) == second
    assert await artifacts.get(ACME, named(sequence=1)) == first
    assert await artifacts.get(ACME, named(sequence=3, digest=other.digest)) == other
    for choice in (
        named("c"),
        named("a", version=3),
        named("a", digest=first.digest),
        named(sequence=2, digest=other.digest),
        named(sequence=9),
        named(digest=bytes(32)),
        named("a", scope="session:s2"),
    ):
        await refused(Reason.ARTIFACT_NOT_FOUND, artifacts.get(ACME, choice))
    await refused(Reason.FIELD_REQUIRED, artifacts.get(ACME, named()))
    await refused(Reason.FIELD_REQUIRED, artifacts.get(ACME, named(version=1)))


async def lists_what_matches(artifacts: Artifacts, clock: FakeClock) -> None:
    """Every filter filters, and pages of any size give the same list."""
    await put(artifacts, "notes.rst", b"12345", artifact_type="user_input", tags=("x", "y"))
    clock.advance(10)
    await put(artifacts, "notes.txt", b"123", artifact_type="tool_result", tags=("x",))
    clock.advance(10)
    await put(artifacts, "plot.png", b"1", artifact_type="tool_result")
    middle = clock.now_ns() - 10 * 10**9
    await put(artifacts, "notes.rst", b"")
    everything = ["notes.rst@1", "notes.txt@1", "plot.png@1", "notes.rst@2"]
    for limit in (1, 2, 3, 100):
        assert await found(artifacts, limit=limit) == everything
        assert await found(artifacts, limit=limit, newest_first=True) == everything[::-1]
    assert await found(artifacts, artifact_type="tool_result") == everything[1:3]
    assert await found(artifacts, name_pattern="notes.*") == [*everything[:2], everything[3]]
    assert await found(artifacts, name_pattern="?lot*g") == everything[2:3]
    assert await found(artifacts, tags=("y", "x")) == everything[:1]
    assert await found(artifacts, created_after_ns=middle) == everything[1:]
    assert await found(artifacts, created_before_ns=middle) == everything[:1]
    assert await found(artifacts, size_bytes_min=3) == everything[:2]
    assert await found(artifacts, size_bytes_max=1) == everything[2:]
    assert await found(artifacts, newest_only=True) == everything[1:]
    assert await found(artifacts, scope="global") == []


async def pages_are_stable(artifacts: Artifacts, clock: FakeClock) -> None:
    """Stores and removals between two pages repeat nothing and skip nothing that stays."""
    del clock
    for number in range(6):
        await put(artifacts, f"n{number}", b"x")
    page = await artifacts.list(ACME, Query(scope=SCOPE), limit=3)
    await artifacts.delete(ACME, named("n2", version=1))
    await put(artifacts, "n9", b"x")
    page = await artifacts.list(ACME, Query(scope=SCOPE), limit=10, after=page.after)
    assert [each.name for each in page.artifacts] == ["n3", "n4", "n5", "n9"]


async def keeps_equal_bytes_once(artifacts: Artifacts, clock: FakeClock) -> None:
    """The bytes stay as long as one artifact has them, and are gone with the last."""
    del clock
    for name in ("a", "b"):
        await put(artifacts, name, LARGE)
    await artifacts.delete(ACME, named("a", version=1))
    assert await artifacts.sweep() == 0
    assert await content(artifacts, named("b")) == LARGE
    await artifacts.delete(ACME, named("b"), all_versions=True)
    assert await artifacts.sweep() == 1
    assert await artifacts.sweep() == 0
    assert list(blobs_of(artifacts)) == []


async def says_which_to_delete(artifacts: Artifacts, clock: FakeClock) -> None:
    """A name alone is not enough; what is not there counts 0."""
    del clock
    await put(artifacts, "a", b"1")
    await put(artifacts, "a", b"2")
    await refused(Reason.FIELD_REQUIRED, artifacts.delete(ACME, named("a")))
    assert (await artifacts.delete(ACME, named("b"), all_versions=True)).deleted_count == 0
    assert (await artifacts.delete(ACME, named("a", version=9))).deleted_count == 0
    assert (await artifacts.delete(ACME, named("a"), all_versions=True)).deleted_count == 2


async def keeps_tenants_apart(artifacts: Artifacts, clock: FakeClock) -> None:
    """One name and the same bytes in two tenants are two artifacts with bytes of their own."""
    del clock
    mine = await put(artifacts, "secret", LARGE)
    for choice in (named("secret"), named(digest=mine.digest), named(sequence=1)):
        await refused(Reason.ARTIFACT_NOT_FOUND, artifacts.get(GLOBEX, choice))
    await put(artifacts, "secret", LARGE, tenant=GLOBEX)
    assert len(list(blobs_of(artifacts))) == 2
    assert await artifacts.purge(ACME) == 1
    await refused(Reason.ARTIFACT_NOT_FOUND, artifacts.get(ACME, named("secret")))
    assert await content(artifacts, named("secret"), tenant=GLOBEX) == LARGE
    assert [tenant for tenant, _ in blobs_of(artifacts)] == [GLOBEX]


async def ends_a_scope(artifacts: Artifacts, clock: FakeClock) -> None:
    """All of a scope goes, nothing of another."""
    del clock
    for number in range(7):
        await put(artifacts, f"n{number}", b"%d" % number)
    await put(artifacts, "kept", b"1", scope="session:s11")
    assert await artifacts.delete_scope(ACME, SCOPE) == 7
    assert await found(artifacts) == []
    assert await found(artifacts, scope="session:s11") == ["kept@1"]
    await artifacts.sweep()
    assert await content(artifacts, named("kept", scope="session:s11")) == b"1"
    assert (await put(artifacts, "n0", b"")).sequence == 1


async def refuses_what_was_not_announced(artifacts: Artifacts, clock: FakeClock) -> None:
    """Another digest or size than announced stores nothing; the right ones do."""
    del clock
    digest = blake3(b"right").digest()
    wrong = put(artifacts, "a", b"wrong", expected_digest=digest)
    error = await refused(Reason.DIGEST_MISMATCH, wrong)
    assert error.metadata["expected"] == digest.hex()
    await refused(Reason.DIGEST_MISMATCH, put(artifacts, "a", b"x", expected_size_bytes=2))
    assert list(blobs_of(artifacts)) == []
    assert await found(artifacts) == []
    await put(artifacts, "a", b"right", expected_digest=digest, expected_size_bytes=5)


async def refuses_what_cannot_be_kept(artifacts: Artifacts, clock: FakeClock) -> None:
    """Names, tags, metadata and sizes beyond their limits are refused before anything is kept."""
    del clock
    for reason, draft in (
        (Reason.FIELD_REQUIRED, {"name": ""}),
        (Reason.LIMIT_EXCEEDED, {"name": "n" * 257}),
        (Reason.FIELD_INVALID, {"name": "a\0b"}),
        (Reason.FIELD_INVALID, {"name": "e\u0301"}),
        (Reason.FIELD_INVALID, {"name": "\ud800"}),
        (Reason.LIMIT_EXCEEDED, {"tags": tuple(map(str, range(33)))}),
        (Reason.FIELD_INVALID, {"tags": ("a", "a")}),
        (Reason.FIELD_REQUIRED, {"tags": ("",)}),
        (Reason.LIMIT_EXCEEDED, {"metadata": {"x": "y" * 16_384}}),
        (Reason.LIMIT_EXCEEDED, {"description": "y" * 4097}),
        (Reason.FIELD_INVALID, {"parent_digest": b"short"}),
        (Reason.LIMIT_EXCEEDED, {"expected_size_bytes": ARTIFACT_BYTES_MAX + 1}),
        (Reason.FIELD_INVALID, {"keep_versions": 10_001}),
    ):
        await refused(reason, put(artifacts, content=b"x", **({"name": "a"} | draft)))
    await refused(Reason.FIELD_INVALID, content(artifacts, await _one(artifacts), offset=2))
    assert await found(artifacts) == ["one@1"]


async def forgets_what_breaks_off(artifacts: Artifacts, clock: FakeClock) -> None:
    """Bytes that end in an error, or whose sender goes away, leave nothing."""
    del clock

    async def broken():
        yield LARGE
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await artifacts.store(ACME, Draft(scope=SCOPE, name="a"), broken())
    began = asyncio.Event()

    async def endless():
        while True:
            yield LARGE
            began.set()

    task = asyncio.create_task(artifacts.store(ACME, Draft(scope=SCOPE, name="a"), endless()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await found(artifacts) == []
    assert list(blobs_of(artifacts)) == []


async def stores_while_it_deletes(artifacts: Artifacts, clock: FakeClock) -> None:
    """Equal bytes that are stored, deleted and collected at once are there where one has them."""
    del clock

    async def come_and_go(name: str) -> None:
        for turn in range(6):
            await put(artifacts, name, LARGE)
            assert await content(artifacts, named(name)) == LARGE
            if turn < 5:
                await artifacts.delete(ACME, named(name), all_versions=True)
            await artifacts.sweep()

    await asyncio.gather(*(come_and_go(name) for name in "abc"))
    for name in "abc":
        assert await content(artifacts, named(name)) == LARGE
    assert len(list(blobs_of(artifacts))) == 1


def blobs_of(keeper: Artifacts):
    """Tenant and digest of all blobs that are there."""
    return (key for some in keeper.collector.blobs.stored() for key in some)


async def _one(artifacts: Artifacts) -> Choice:
    await put(artifacts, "one", b"1")
    return named("one")


CLAIMS = (
    stores_and_reads,
    keeps_sizes_around_a_frame,
    counts_versions,
    keeps_as_many_versions_as_asked,
    finds_by_each_choice,
    lists_what_matches,
    pages_are_stable,
    keeps_equal_bytes_once,
    says_which_to_delete,
    keeps_tenants_apart,
    ends_a_scope,
    refuses_what_was_not_announced,
    refuses_what_cannot_be_kept,
    forgets_what_breaks_off,
    stores_while_it_deletes,
)
