"""Files beside the state process's store are damaged while it serves: named, refused, healed (T4).

Bytes of artifacts, manifests and chunks of backups. What is damaged is answered as DATA_LOSS with
its name, and the health answer has it; the other tenant is served. An artifact is healed from a
backup as it is read, or by storing it again, a backup's file by the next backup.
"""

import json
import random
from contextlib import contextmanager

import grpc
import pytest

from tests.crash import scale
from tests.crash.conftest import seed_of
from tests.crash.damaged_tenants import (
    ARTIFACTS,
    KEYS,
    artifact_bytes,
    content,
    refusal_of,
    tenants_on,
)
from tests.crash.damages import flip, flip_one, garbage, old_copy, swap, truncate, zero
from tests.crash.nursery import Nursery, channel_to

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]

TIMES = scale.count(3, 40)
SWEPT = "state.backup_sweep_s=3600"
"""Not while a file is elsewhere for a moment."""
DAMAGES = (truncate, flip, flip_one, zero, garbage, swap, old_copy)


class World:
    """A process with two tenants, and where its files are."""

    def __init__(self, up, tenants, folder):
        self.up, self.tenants, self.folder = up, tenants, folder
        self.digests = {}
        self.backups = {}

    def blob(self, tenant, number):
        """The file of an artifact."""
        digest = self.digests[tenant, number]
        return self.folder / "blobs" / tenant / digest[:2] / digest

    def manifest(self, tenant):
        """Of the tenant's newest backup."""
        return self.folder / "backups/tenants" / tenant / f"{self.backups[tenant][-1]}.json"

    def chunks(self, tenant, backup_id):
        """The files with records and with bytes of artifacts that a backup consists of."""
        top = self.folder / "backups/tenants" / tenant
        manifest = json.loads((top / f"{backup_id}.json").read_bytes().splitlines()[0])
        (part,) = manifest["tenants"]
        owners = [*part["databases"], *part["blobs"]]
        names = {chunk["name"] for owner in owners for chunk in owner["chunks"]}
        return [top / "chunks" / name[:2] / name for name in sorted(names)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Items, artifacts and two backups of each of two tenants."""
    folder, nursery = tmp_path_factory.mktemp("world") / "data", Nursery()
    with nursery.started(folder, SWEPT, plain=True) as up, channel_to(up) as channel:
        made = World(up, tenants_on(channel), folder)
        for tenant in made.tenants:
            tenant.write(0)
            for number in range(ARTIFACTS):
                made.digests[tenant.name, number] = tenant.put_artifact(number)
            first = tenant.backup()
            tenant.write(1)
            made.backups[tenant.name] = (first, tenant.backup())
            for number in range(ARTIFACTS, 2 * ARTIFACTS):  # no backup has these
                made.digests[tenant.name, number] = tenant.put_artifact(number)
        yield made
        assert not nursery.ended(up), up.words
    nursery.close()


@contextmanager
def damaged(path, damage, rng, old):
    """Another file under this name; in the end the one that was there."""
    whole = path.read_bytes()
    other = bytes(damage(bytearray(whole), rng, old))
    while other == whole:  # two pages may have been the same one
        other = bytes(damage(bytearray(whole), rng, old))
    path.write_bytes(other)
    try:
        yield
    finally:
        path.write_bytes(whole)


def chances(damage):
    """A source of chance for each time; which seed it was is told if it fails."""
    seed = seed_of("LLMSPELL_CRASH_SEED")
    for number in range(TIMES):
        try:
            yield random.Random(f"{seed} {damage.__name__} {number}")
        except BaseException as error:
            error.add_note(f"LLMSPELL_CRASH_SEED={seed}, number {number}")
            raise


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bytes_of_an_artifact_are_never_given_out(world, reached, damage):
    """DATA_LOSS that names the digest, in the health answer too; stored again, it is whole."""
    for rng in chances(damage):
        mine, other = rng.sample(world.tenants, 2)
        number, sound = rng.sample(range(ARTIFACTS, 2 * ARTIFACTS), 2)
        digest = world.digests[mine.name, number]
        old = world.blob(mine.name, sound).read_bytes()
        with damaged(world.blob(mine.name, number), damage, rng, old):
            refusal = refusal_of(lambda: mine.read_artifact(number))  # noqa: B023
            assert refusal == ("DATA_LOSS", {"digest": digest})
            assert list(other.damages()) == [f"artifact {digest}"]
            assert other.read_artifact(number) == artifact_bytes(other.name, number)
            assert mine.read_artifact(sound) == artifact_bytes(mine.name, sound)
            assert mine.get(7) == content(mine.name, 7, 1)
            assert mine.put_artifact(number) == digest
            assert mine.read_artifact(number) == artifact_bytes(mine.name, number)
            assert not other.damages()
    _tell(reached, "artifacts", damage, "named, healed by storing them again")


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bytes_that_a_backup_has_are_healed_as_they_are_read(world, reached, damage):
    """From the newest backup that has them, in the middle of a read too: nobody notices."""
    for rng in chances(damage):
        mine, other = rng.sample(world.tenants, 2)
        number, sound = rng.sample(range(ARTIFACTS), 2)
        path, old = world.blob(mine.name, number), world.blob(mine.name, sound).read_bytes()
        with damaged(path, damage, rng, old):
            assert mine.read_artifact(number) == artifact_bytes(mine.name, number)
            assert mine.read_artifact(number) == artifact_bytes(mine.name, number)
            assert not mine.damages()
            assert other.read_artifact(number) == artifact_bytes(other.name, number)
    _tell(reached, "artifacts in backups", damage, "healed as they are read")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_is_refused_whole(world, reached, damage):
    """Verify and restore name the file and change nothing; the health answer has it."""
    for rng in chances(damage):
        mine, other = rng.sample(world.tenants, 2)
        first, last = world.backups[mine.name]
        old = world.manifest(mine.name).with_name(f"{first}.json").read_bytes()
        with damaged(world.manifest(mine.name), damage, rng, old):
            _refused(mine, other, last, f"tenants/{mine.name}/{last}.json")
            assert mine.verify(first).valid
        assert mine.verify(last).valid
        assert not mine.damages()
    _tell(reached, "manifests", damage, "refused whole, named")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_chunk_of_a_backup_is_refused_whole(world, reached, damage):
    """As its manifest; and the next backup writes the file anew, which heals the one before."""
    lasts = {}
    for rng in chances(damage):
        mine, other = rng.sample(world.tenants, 2)
        last = lasts[mine.name] = lasts.get(mine.name) or mine.backup()
        path, old = rng.sample(world.chunks(mine.name, last), 2)
        name = f"{path.relative_to(world.folder / 'backups')}"
        with damaged(path, damage, rng, old.read_bytes()):
            _refused(mine, other, last, name)
            new = mine.backup()
            assert mine.verify(new).valid
            assert mine.verify(last).valid
            assert not mine.damages()
        mine.delete_backup(new)
    for tenant in world.tenants:
        if tenant.name in lasts:  # what a backup has is healed, and other tests want it damaged
            tenant.delete_backup(lasts[tenant.name])
    _tell(reached, "chunks", damage, "refused whole, named, healed")


def _refused(mine, other, backup_id, name):
    """It is damaged, nothing was restored of it, and others notice nothing but its name."""
    verified = mine.verify(backup_id)
    assert (verified.valid, [each.file for each in verified.damages]) == (False, [name])
    assert refusal_of(lambda: mine.restore(backup_id)) == ("DATA_LOSS", {"file": name})
    assert [mine.get(key) for key in range(KEYS)] == [
        content(mine.name, key, 1) for key in range(KEYS)
    ]
    assert f"backup {name}" in other.damages()
    assert other.get(7) == content(other.name, 7, 1)


def _tell(reached, what, damage, asked):
    reached(
        "T4",
        f"state process: {TIMES} {what}, {damage.__name__}",
        f"{asked}; others served",
        f"{TIMES} of {TIMES}; 0 wrong, 0 crashes",
        "a reader that believes its files" if damage is flip_one else "",
    )


def test_a_process_that_believes_its_files_is_seen(tmp_path):
    """Teeth: it gives out bytes that nobody stored, and calls a damaged backup a good one."""
    folder, nursery = tmp_path / "data", Nursery()
    flaw = "believes_files"
    with nursery.started(folder, flaw=flaw) as up, channel_to(up) as channel:
        made = World(up, tenants_on(channel), folder)
        mine = made.tenants[0]
        made.digests[mine.name, 0] = mine.put_artifact(0)
        mine.write(0)
        last = mine.backup()
        wrong = fooled = False
        for number in range(20):
            rng = random.Random(number)
            with damaged(made.blob(mine.name, 0), flip_one, rng, b""):
                wrong |= mine.read_artifact(0) != artifact_bytes(mine.name, 0)
            with damaged(rng.choice(made.chunks(mine.name, last)), flip_one, rng, b""):
                fooled |= _says_valid(mine, last)
        assert wrong
        assert fooled
    nursery.close()


def _says_valid(tenant, backup_id):
    try:
        return tenant.verify(backup_id).valid
    except grpc.RpcError:
        return False


@pytest.mark.parametrize("how", ["gone", "a folder", "not ours to read"])
def test_an_artifact_whose_file_cannot_be_read_is_named(world, how):
    """Its file is gone, or cannot be read as one: DATA_LOSS as well."""
    mine, other = world.tenants
    path = world.blob(mine.name, ARTIFACTS)
    whole = path.read_bytes()
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how != "gone":
        path.write_bytes(whole)
        path.chmod(0)
    refusal = refusal_of(lambda: mine.read_artifact(ARTIFACTS))
    assert refusal == ("DATA_LOSS", {"digest": world.digests[mine.name, ARTIFACTS]})
    assert other.read_artifact(0) == artifact_bytes(other.name, 0)
    if how == "a folder":
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(whole)
    assert mine.put_artifact(ARTIFACTS) == world.digests[mine.name, ARTIFACTS]
    assert not mine.damages()


def test_a_backup_of_which_a_file_is_gone(world):
    """Without its manifest there is none; without a chunk it is refused by the chunk's name."""
    mine, other = world.tenants
    last = world.backups[mine.name][-1]
    with moved(world.manifest(mine.name)):
        assert refusal_of(lambda: mine.verify(last))[0] == "NOT_FOUND"
        assert refusal_of(lambda: mine.restore(last))[0] == "NOT_FOUND"
        assert other.verify(world.backups[other.name][-1]).valid
    path = world.chunks(mine.name, last)[0]
    with moved(path):
        _refused(mine, other, last, f"{path.relative_to(world.folder / 'backups')}")
    for each in (world.manifest(mine.name), path):
        each.chmod(0)  # it is not ours to read
        _refused(mine, other, last, f"{each.relative_to(world.folder / 'backups')}")
        each.chmod(0o600)
    assert mine.verify(last).valid
    assert not mine.damages()


@contextmanager
def moved(path):
    """It is not there."""
    aside = path.with_name("aside")
    path.replace(aside)
    try:
        yield
    finally:
        aside.replace(path)
