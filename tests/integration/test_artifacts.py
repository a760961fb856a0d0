"""Artifacts through the four processes: apart, whole, and gone with their tenant."""

import asyncio
import io
import itertools
import os

import pytest
from blake3 import blake3
from llmspell import AsyncClient, Client, InvalidArgument, NotFound

SCOPE = "session:artifacts"
LARGE = os.urandom(3 * 1024 * 1024 + 17)


@pytest.fixture
def connect(deployment):
    """A client for a tenant."""
    opened = []

    def connect(tenant):
        opened.append(Client(deployment.address, deployment.keys[deployment.tenant(tenant)]))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


def test_two_tenants_have_the_same(connect):
    """One name and the same bytes in two tenants: neither finds, reads or deletes the other's."""
    acme, globex = connect("acme"), connect("globex")
    mine = acme.put_artifact("plan", LARGE, scope=SCOPE, tags=["x"], metadata={"n": 1})
    assert (mine.digest, mine.size_bytes) == (blake3(LARGE).hexdigest(), len(LARGE))
    assert (mine.tags, mine.metadata) == (("x",), {"n": 1})
    for which in ({"name": "plan"}, {"digest": mine.digest}, {"sequence": mine.sequence}):
        with pytest.raises(NotFound) as caught:
            globex.get_artifact(scope=SCOPE, **which)
        assert caught.value.reason == "ARTIFACT_NOT_FOUND"
    assert list(globex.list_artifacts(scope=SCOPE)) == []
    theirs = globex.put_artifact("plan", LARGE, scope=SCOPE)
    assert theirs.version == 1
    assert globex.delete_artifact("plan", scope=SCOPE, all_versions=True) == 1
    assert b"".join(acme.read_artifact("plan", scope=SCOPE)) == LARGE
    assert acme.get_artifact(digest=mine.digest, scope=SCOPE) == mine


def test_every_kind_of_content(connect, tmp_path):
    """Bytes, a path, an open file and pieces of any size are stored alike, and come back."""
    acme = connect("acme")
    file = tmp_path / "large"
    file.write_bytes(LARGE)
    pieces = [LARGE[start : start + 1_500_000] for start in range(0, len(LARGE), 1_500_000)]
    for content in (LARGE, memoryview(LARGE), file, io.BytesIO(LARGE), iter(pieces)):
        stored = acme.put_artifact("kinds", content, scope=SCOPE)
        assert stored.digest == blake3(LARGE).hexdigest()
    seen = []
    target = tmp_path / "again"
    acme.download_artifact("kinds", target, scope=SCOPE, progress=lambda *at: seen.append(at))
    assert target.read_bytes() == LARGE
    assert seen[-1] == (len(LARGE), len(LARGE))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "large"]
    part = acme.read_artifact("kinds", scope=SCOPE, offset=262_140, length=1_048_600)
    assert b"".join(part) == LARGE[262_140 : 262_140 + 1_048_600]
    assert acme.fetch_artifact("kinds", scope=SCOPE, offset=9, length=4) == LARGE[9:13]
    versions = [each.version for each in acme.list_artifact_versions("kinds", scope=SCOPE)]
    assert versions == [1, 2, 3, 4, 5]


def test_awaiting_client(deployment, tmp_path):
    """The asyncio client does the same, with pieces that are awaited."""

    async def pieces():
        for start in range(0, len(LARGE), 700_000):
            yield LARGE[start : start + 700_000]

    async def work():
        async with AsyncClient(deployment.address, deployment.keys["acme"]) as acme:
            for content in (pieces(), LARGE, b"", io.BytesIO(LARGE)):
                await acme.put_artifact("awaited", content, scope=SCOPE)
            read = [piece async for piece in acme.read_artifact("awaited", scope=SCOPE, version=1)]
            listed = [
                each.size_bytes
                async for each in acme.list_artifacts(scope=SCOPE, name_pattern="await*")
            ]
            await acme.download_artifact("awaited", tmp_path / "x", scope=SCOPE)
            deleted = await acme.delete_artifact("awaited", scope=SCOPE, all_versions=True)
            return b"".join(read), listed, deleted

    size = len(LARGE)
    assert asyncio.run(work()) == (LARGE, [size, size, 0, size], 4)
    assert (tmp_path / "x").read_bytes() == LARGE


def test_an_upload_that_breaks_off(connect, deployment):
    """Pieces that end in an error leave neither an artifact nor a file."""
    acme = connect("broken-off")

    def pieces():
        yield from itertools.repeat(LARGE[:1_000_000], 3)
        raise RuntimeError("the source has gone")

    with pytest.raises(RuntimeError, match="the source has gone"):
        acme.put_artifact("never", pieces(), scope=SCOPE)
    with pytest.raises(InvalidArgument) as caught:
        acme.put_artifact("never", LARGE, scope=SCOPE, digest="00" * 32)
    assert caught.value.reason == "DIGEST_MISMATCH"
    assert list(acme.list_artifacts(scope=SCOPE)) == []
    data = deployment.data / "state"
    assert not (data / "blobs" / "broken-off").exists() or not [
        path for path in (data / "blobs" / "broken-off").rglob("*") if path.is_file()
    ]


def test_a_tenants_end_takes_its_bytes(connect, deployment):
    """With its tenant an artifact's file is gone from the disk."""
    connect("short-lived").put_artifact("mine", LARGE)
    folder = deployment.data / "state" / "blobs" / "short-lived"
    assert [path for path in folder.rglob("*") if path.is_file()]
    done = deployment.cli("tenant", "delete", "short-lived", "--yes")
    assert done.returncode == 0, done.stderr
    assert not folder.exists()
