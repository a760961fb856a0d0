"""Blobs as files: what is damaged is never given out, what is left over goes."""

import os

import pytest
from blake3 import blake3

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state.artifact_model import Choice, Draft
from services.state.artifacts import Artifacts
from services.state.blob_format import Checksums
from services.state.engines.blobs import FolderBlobs
from tests.state_engines import embedded_keeper

CONTENT = os.urandom(600_000)
OTHER = os.urandom(600_000)


@pytest.fixture
async def kept(tmp_path):
    """Artifacts over files, and their blobs."""
    keeper = embedded_keeper(tmp_path, FakeClock())
    blobs = FolderBlobs(tmp_path, Checksums())
    artifacts = Artifacts(keeper, blobs)
    yield artifacts, blobs
    await artifacts.close()
    keeper.engine.close()


async def put(artifacts, name, content):
    return await artifacts.store("acme", Draft(scope="global", name=name), [content])


async def read(artifacts, name):
    choice = Choice(scope="global", name=name)
    return b"".join([piece async for _, piece in artifacts.read("acme", choice)])


def flip(position):
    def damage(file, other):
        raw = bytearray(file.read_bytes())
        raw[position] ^= 1
        file.write_bytes(raw)

    return damage


def cut(count):
    def damage(file, other):
        file.write_bytes(file.read_bytes()[:-count])

    return damage


DAMAGES = {
    "first byte": flip(0),
    "file id": flip(10),
    "first frame": flip(100),
    "last frame": flip(590_000),
    "footer": flip(-20),
    "end": flip(-1),
    "cut by one": cut(1),
    "cut in half": cut(300_000),
    "emptied": lambda file, other: file.write_bytes(b""),
    "missing": lambda file, other: file.unlink(),
    "another's": lambda file, other: file.write_bytes(other.read_bytes()),
    "longer": lambda file, other: file.write_bytes(file.read_bytes() + b"x"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_bytes_are_not_given_out(kept, damage):
    """Whatever happened to the file, its digest is named, no byte is wrong, and a store heals."""
    artifacts, blobs = kept
    await put(artifacts, "a", CONTENT)
    await put(artifacts, "b", OTHER)
    digest, other = blake3(CONTENT).digest(), blake3(OTHER).digest()
    DAMAGES[damage](blobs.place("acme", digest), blobs.place("acme", other))
    with pytest.raises(ServiceError) as caught:
        await read(artifacts, "a")
    assert caught.value.reason == Reason.ARTIFACT_CORRUPT
    assert caught.value.metadata == {"digest": digest.hex()}
    assert await read(artifacts, "b") == OTHER
    await put(artifacts, "again", CONTENT)
    assert await read(artifacts, "a") == CONTENT


async def test_leftovers_of_a_crash_go(kept, tmp_path):
    """A file without a record is removed, one with a record stays, `incoming` begins empty."""
    artifacts, blobs = kept
    await put(artifacts, "a", CONTENT)
    upload = blobs.begin("acme")
    upload.write(OTHER)
    upload.finish()
    upload.publish()
    left = blobs.begin("acme")
    left.write(OTHER)
    assert len(list(blobs.incoming.iterdir())) == 1
    FolderBlobs(tmp_path, Checksums())
    assert list(blobs.incoming.iterdir()) == []
    left.discard()
    collector = artifacts.collector
    assert await collector.sweep_orphans() == 1
    assert not blobs.place("acme", blake3(OTHER).digest()).exists()
    assert await read(artifacts, "a") == CONTENT


async def test_a_full_disk_keeps_nothing(kept, monkeypatch):
    """Where there is no room, the store says STORAGE_FULL and leaves no file; reads go on."""
    artifacts, blobs = kept
    await put(artifacts, "a", CONTENT)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("services.state.blob_format.BlobWriter.write", full)
        with pytest.raises(ServiceError) as caught:
            await put(artifacts, "b", OTHER)
    assert caught.value.reason == Reason.STORAGE_FULL
    assert list(blobs.incoming.iterdir()) == []
    assert await read(artifacts, "a") == CONTENT


@pytest.mark.parametrize("piece_bytes", [1, 1000, 256 * 1024 - 1, 256 * 1024, 10**6])
def test_frames_are_the_same_however_bytes_come(tmp_path, piece_bytes):
    """What is stored says nothing of the pieces in which it came, and every range reads back."""
    blobs = FolderBlobs(tmp_path, Checksums())
    content = OTHER if piece_bytes > 1 else OTHER[:3000]
    upload = blobs.begin("acme")
    for start in range(0, len(content), piece_bytes):
        upload.write(content[start : start + piece_bytes])
    blob = upload.finish()
    upload.publish()
    assert (blob.digest, blob.size_bytes) == (blake3(content).digest(), len(content))
    reader = blobs.open("acme", blob.digest)
    edge = 256 * 1024
    for first, last in [
        (0, len(content)),
        (1, edge),
        (edge - 1, edge + 1),
        (edge, 2 * edge),
        (5, 6),
    ]:
        assert reader.read(first, last - first) == content[first:last]
    reader.close()


def test_what_shrinks_is_packed_behind_what_does_not(tmp_path):
    """After bytes that lz4 makes no smaller, samples find those that it does."""
    blobs = FolderBlobs(tmp_path, Checksums())
    upload = blobs.begin("acme")
    text = b"the same words again and again, " * 40_000
    upload.write(os.urandom(4 * 256 * 1024) + text)
    blob = upload.finish()
    upload.discard()
    assert blob.stored_bytes < 4 * 256 * 1024 + len(text) // 10
