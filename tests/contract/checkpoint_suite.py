"""What checkpoints promise of artifacts over every engine. Each function takes a shop."""

from __future__ import annotations

import itertools

import pytest

from services.common import limits
from services.common.errors import Reason
from services.state.artifact_model import Choice, Draft, Query
from services.state.blob_format import BlobKey
from services.state.layout.items import ChangeKind
from services.state.session_model import AUTOSAVE, Status
from tests.contract.session_suite import SECOND_NS, Shop
from tests.contract.state_suite import ACME, GLOBEX, Refused


async def put(shop: Shop, name: str, content: bytes, *, tenant: str = ACME, **draft) -> BlobKey:
    """Store bytes in session `s`; which blob they are."""
    draft = {"scope": "session:s"} | draft
    stored = await shop.artifacts.store(tenant, Draft(name=name, **draft), [content])
    return BlobKey(tenant, stored.artifact.digest)


async def drop(shop: Shop, name: str) -> None:
    """Delete all versions of a name."""
    await shop.artifacts.delete(ACME, Choice(scope="session:s", name=name), all_versions=True)


async def records(shop: Shop, tenant: str = ACME) -> list:
    """Everything that is known of the artifacts of session `s`, in order of sequence."""
    query = Query(scope="session:s")
    return list((await shop.artifacts.list(tenant, query, limit=1000)).artifacts)


async def contents(shop: Shop, tenant: str = ACME) -> dict[str, bytes]:
    """The bytes of each artifact of session `s`, verified."""
    found = {}
    for artifact in await records(shop, tenant):
        choice = Choice(scope="session:s", sequence=artifact.sequence)
        pieces = [piece async for _, piece in shop.artifacts.read(tenant, choice)]
        found[f"{artifact.name}@{artifact.version}"] = b"".join(pieces)
    return found


async def collected(shop: Shop, *, orphans: int = 0) -> set[BlobKey]:
    """Which blobs there are once the collector has done all that it can; it finds no orphans."""
    while await shop.artifacts.sweep():
        pass
    collector = shop.artifacts.collector
    assert await collector.sweep_orphans() == orphans
    return set(itertools.chain.from_iterable(collector.blobs.stored()))


async def checkpoints_bring_artifacts_back(shop: Shop) -> None:
    """A restore makes names, versions and all that is known of artifacts what they were."""
    await shop.create(session_id="s")
    await shop.create(GLOBEX, session_id="s")
    await put(shop, "plan", b"one", tags=("a",), metadata={"n": 1}, description="first")
    await put(shop, "plan", b"two")
    await put(shop, "gone", b"will go")
    theirs = await put(shop, "plan", b"theirs", tenant=GLOBEX)
    before, bytes_before = await records(shop), await contents(shop)
    made = await shop.sessions.create_checkpoint(ACME, "s")
    assert (made.checkpoint.artifact_count, made.checkpoint.item_count) == (3, 0)

    await drop(shop, "gone")
    await put(shop, "plan", b"three", keep_versions=1)
    await put(shop, "later", b"later")
    await collected(shop)
    restored = await shop.sessions.restore_checkpoint(ACME, "s", "c1")
    assert restored.changed_artifact_count == 5  # plan@1, plan@2, gone back; plan@3, later away
    assert await records(shop) == before
    assert await contents(shop) == bytes_before
    assert (await put(shop, "plan", b"four")).digest
    assert max(each.sequence for each in await records(shop)) == 6
    assert await contents(shop, GLOBEX) == {"plan@1": b"theirs"}
    assert theirs in await collected(shop)


async def versions_go_on_after_a_restore(shop: Shop) -> None:
    """The version after a restore is one that the name did not have, as long as it had any."""
    await shop.create(session_id="s")
    await put(shop, "plan", b"one")
    await shop.sessions.create_checkpoint(ACME, "s")
    await put(shop, "plan", b"two")
    await shop.sessions.restore_checkpoint(ACME, "s", "c1")
    await put(shop, "plan", b"three")
    assert await contents(shop) == {"plan@1": b"one", "plan@3": b"three"}
    await drop(shop, "plan")
    await put(shop, "plan", b"another")
    await shop.sessions.restore_checkpoint(ACME, "s", "c1")
    assert await contents(shop) == {"plan@1": b"one"}


async def nothing_to_restore_changes_nothing(shop: Shop) -> None:
    """Restoring what is there changes no artifact and tells of none."""
    await shop.create(session_id="s")
    await put(shop, "plan", b"one")
    made = await shop.sessions.create_checkpoint(ACME, "s")
    restored = await shop.sessions.restore_checkpoint(ACME, "s", "c1")
    assert restored.changed_artifact_count == 0
    assert shop.kinds(after=made.session.revision) == [ChangeKind.CHECKPOINT_RESTORE]
    await drop(shop, "plan")
    deleted = (await shop.items.get(ACME, "global", "k")).revision
    await shop.sessions.restore_checkpoint(ACME, "s", "c1")
    kinds = shop.kinds(after=deleted)
    assert sorted(kinds) == sorted([ChangeKind.ARTIFACTS_RESTORED, ChangeKind.CHECKPOINT_RESTORE])


async def checkpoints_hold_bytes(shop: Shop) -> None:
    """Bytes stay while a checkpoint has them, and go with the last one that does."""
    await shop.create(session_id="s")
    kept = await put(shop, "kept", b"kept")
    await shop.sessions.create_checkpoint(ACME, "s")
    await shop.sessions.create_checkpoint(ACME, "s")
    await drop(shop, "kept")
    theirs = await put(shop, "kept", b"kept", tenant=GLOBEX)
    assert await collected(shop) == {kept, theirs}
    await shop.sessions.delete_checkpoint(ACME, "s", "c1")
    assert await collected(shop) == {kept, theirs}
    await shop.sessions.restore_checkpoint(ACME, "s", "c2")
    assert await contents(shop) == {"kept@1": b"kept"}
    await shop.sessions.delete_checkpoint(ACME, "s", "c2")
    assert await contents(shop) == {"kept@1": b"kept"}
    await drop(shop, "kept")
    assert await collected(shop) == {theirs}


async def saving_lets_go_of_what_went(shop: Shop) -> None:
    """The checkpoint that saving takes holds what there is, and nothing that there was before."""
    await shop.create(session_id="s")
    old = await put(shop, "old", b"old")
    same = await put(shop, "same", b"same")
    await shop.sessions.save(ACME, "s")
    await drop(shop, "old")
    new = await put(shop, "new", b"new")
    assert await collected(shop) == {old, same, new}
    saved = await shop.sessions.save(ACME, "s")
    assert saved.checkpoint.artifact_count == 2
    assert await collected(shop) == {same, new}
    await shop.sessions.save(ACME, "s")
    await drop(shop, "same")
    await drop(shop, "new")
    await shop.sessions.restore_checkpoint(ACME, "s", AUTOSAVE)
    assert await contents(shop) == {"same@1": b"same", "new@1": b"new"}


async def the_present_is_kept_with_its_artifacts(shop: Shop) -> None:
    """Where a restore keeps the present, that checkpoint brings its artifacts back too."""
    await shop.create(session_id="s")
    await put(shop, "one", b"one")
    await shop.sessions.create_checkpoint(ACME, "s")
    await drop(shop, "one")
    await put(shop, "two", b"two")
    restored = await shop.sessions.restore_checkpoint(ACME, "s", "c1", keep_present=True)
    assert restored.before is not None
    assert restored.before.artifact_count == 1
    await collected(shop)
    assert await contents(shop) == {"one@1": b"one"}
    await shop.sessions.restore_checkpoint(ACME, "s", restored.before.checkpoint_id)
    assert await contents(shop) == {"two@1": b"two"}


async def a_session_is_saved_for_its_artifacts(shop: Shop) -> None:
    """A session of which an artifact alone was added, or removed, is saved by itself."""
    await shop.create(session_id="s", auto_save_ns=60 * SECOND_NS)
    await put(shop, "plan", b"one")
    shop.clock.advance(60)
    await shop.sweep()
    (saved,) = await shop.sessions.list_checkpoints(ACME, "s")
    assert saved.artifact_count == 1
    revision = (await shop.get("s")).revision
    shop.clock.advance(60)
    await shop.sweep()
    assert (await shop.get("s")).revision == revision
    await drop(shop, "plan")
    await put(shop, "other", b"one")
    shop.clock.advance(60)
    await shop.sweep()
    assert (await shop.get("s")).revision > revision
    await drop(shop, "other")
    shop.clock.advance(60)
    await shop.sweep()
    (saved,) = await shop.sessions.list_checkpoints(ACME, "s")
    assert saved.artifact_count == 0
    assert await collected(shop) == set()


async def a_deleted_session_lets_go_of_bytes(shop: Shop) -> None:
    """With a session its artifacts and what its checkpoints held are gone, and no other's."""
    await shop.create(session_id="s")
    await shop.create(session_id="s2")
    for number in range(5):
        await put(shop, f"n{number}", b"%d" % number)
        await shop.sessions.create_checkpoint(ACME, "s")
    other = await put(shop, "n", b"0", scope="session:s2")
    mine = await put(shop, "only in s2", b"s2", scope="session:s2")
    await shop.sessions.create_checkpoint(ACME, "s2")
    rows = shop.rows()
    assert rows["checkpoint_artifacts"] == 5 + 4 + 3 + 2 + 1 + 2
    await shop.sessions.delete(ACME, "s")
    assert await collected(shop) == {other, mine}
    assert shop.rows()["checkpoint_artifacts"] == 2
    await shop.sessions.delete(ACME, "s2")
    assert await collected(shop) == set()
    assert shop.rows().keys() <= {"meta", "session_ends", "keys"}


async def a_session_that_is_over_lets_go(shop: Shop) -> None:
    """A session whose retention is over goes with what its checkpoints held."""
    await shop.create(session_id="s", retention_ns=60 * SECOND_NS)
    await put(shop, "plan", b"one")
    await shop.sessions.create_checkpoint(ACME, "s")
    await drop(shop, "plan")
    await shop.sessions.move(ACME, "s", Status.COMPLETED)
    assert len(await collected(shop)) == 1
    shop.clock.advance(61)
    while await shop.sweep():
        pass
    assert await collected(shop) == set()


async def a_purged_tenant_keeps_no_bytes(shop: Shop) -> None:
    """Of a tenant that is erased no checkpoint holds anything; the other's stay."""
    for tenant in (ACME, GLOBEX):
        await shop.create(tenant, session_id="s")
        await put(shop, "plan", b"one", tenant=tenant)
        await shop.sessions.create_checkpoint(tenant, "s")
    await shop.artifacts.purge(ACME)
    await shop.sessions.purge(ACME)
    assert [key.tenant for key in await collected(shop)] == [GLOBEX]
    await shop.sessions.restore_checkpoint(GLOBEX, "s", "c1")
    assert await contents(shop, GLOBEX) == {"plan@1": b"one"}


async def too_many_artifacts_for_a_checkpoint(shop: Shop) -> None:
    """A session with one artifact too many is told so, and nothing of it has changed."""
    await shop.create(session_id="s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "CHECKPOINT_ARTIFACTS_MAX", 3)
        for number in range(3):
            await put(shop, f"n{number}", b"same")
        await shop.sessions.create_checkpoint(ACME, "s")
        await put(shop, "n3", b"same")
        before = await shop.get("s")
        with Refused(Reason.LIMIT_EXCEEDED, limit=3, got=4):
            await shop.sessions.create_checkpoint(ACME, "s")
        assert await shop.get("s") == before
        patch.setattr(limits, "RESTORE_ARTIFACTS_MAX", 3)
        with Refused(Reason.LIMIT_EXCEEDED, limit=3, got=4):
            await shop.sessions.restore_checkpoint(ACME, "s", "c1")
        assert len(await records(shop)) == 4
        await drop(shop, "n0")
        await shop.sessions.restore_checkpoint(ACME, "s", "c1")
        assert len(await records(shop)) == 3


CLAIMS = (
    checkpoints_bring_artifacts_back,
    versions_go_on_after_a_restore,
    nothing_to_restore_changes_nothing,
    checkpoints_hold_bytes,
    saving_lets_go_of_what_went,
    the_present_is_kept_with_its_artifacts,
    a_session_is_saved_for_its_artifacts,
    a_deleted_session_lets_go_of_bytes,
    a_session_that_is_over_lets_go,
    a_purged_tenant_keeps_no_bytes,
    too_many_artifacts_for_a_checkpoint,
)
