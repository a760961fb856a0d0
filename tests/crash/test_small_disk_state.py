"""The state process on a real disk that is full, a tmpfs of 8 MiB (T5).

Items, artifacts and backups are refused as RESOURCE_EXHAUSTED and leave nothing half done; reads
and deletes go on; with room again so do writes, within a second; nothing that was acknowledged is
lost, over a kill too.
"""

import time

import grpc
import pytest
from llmspell.v1 import artifact_pb2, artifact_pb2_grpc, backup_pb2, backup_pb2_grpc, state_pb2_grpc

from tests.crash.damaged_tenants import refusal_of
from tests.crash.nursery import Nursery, channel_to
from tests.crash.small_disk import fill, room_of, small_disk
from tests.crash.state_clients import TENANTS, caller
from tests.crash.test_full_disk_state import BACK_S_MAX, Items, until_written
from tests.crash.test_full_disk_state import fill as fill_with_items

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

BALLAST_BYTES = 7 * 1024**2 // 2
CHUNK = b"\xa5" * 65536


@pytest.fixture
def nursery():
    """Where processes come from."""
    made = Nursery()
    yield made
    made.close()


class Whole:
    """A tenant's items, artifacts and backups over one channel."""

    def __init__(self, channel, tenant):
        self.items = Items(state_pb2_grpc.StateServiceStub(channel), tenant)
        self._metadata = caller(tenant)
        self.reach(channel)

    def reach(self, channel):
        """Go on over another channel."""
        self.items._stub = state_pb2_grpc.StateServiceStub(channel)
        self._artifacts = artifact_pb2_grpc.ArtifactServiceStub(channel)
        self._backups = backup_pb2_grpc.BackupServiceStub(channel)

    def upload(self, chunks, *, stop=False):
        """Store an artifact by stream; `stop`: go away before its end."""

        def requests():
            header = artifact_pb2.ArtifactHeader(scope="global", name="big")
            yield artifact_pb2.StoreArtifactRequest(header=header)
            for _ in range(chunks):
                yield artifact_pb2.StoreArtifactRequest(chunk=CHUNK)
            if stop:
                time.sleep(0.2)
                call.cancel()

        call = self._artifacts.StoreArtifact(requests(), metadata=self._metadata, timeout=20)
        return list(call)

    def artifacts(self):
        """How many there are."""
        request = artifact_pb2.ListArtifactsRequest(scope="global")
        return len(self._artifacts.ListArtifacts(request, metadata=self._metadata).artifacts)

    def backup(self):
        """Make one."""
        request = backup_pb2.CreateBackupRequest()
        answer = self._backups.CreateBackup(request, metadata=self._metadata, timeout=20)
        return answer.backup.backup_id

    def backups(self):
        """Those that there are; each is whole."""
        found = self._backups.ListBackups(
            backup_pb2.ListBackupsRequest(), metadata=self._metadata
        ).backups
        for each in found:
            request = backup_pb2.VerifyBackupRequest(backup_id=each.backup_id)
            assert self._backups.VerifyBackup(request, metadata=self._metadata).valid
        return [each.backup_id for each in found]


def files_in(folder):
    """All files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def refused(disk, tenants):
    """Nothing more is taken, and what is refused leaves no file behind."""
    before = {name: files_in(disk / name) for name in ("blobs", "incoming", "backups")}
    for each in tenants:
        assert refusal_of(lambda: each.items.write(30_000))[0] == "RESOURCE_EXHAUSTED"  # noqa: B023
        assert refusal_of(lambda: each.upload(40))[0] == "RESOURCE_EXHAUSTED"  # noqa: B023
        assert refusal_of(each.backup)[0] == "RESOURCE_EXHAUSTED"
        assert each.artifacts() == 0
        assert each.backups() == []
    after = {name: files_in(disk / name) for name in before}
    assert after == before
    assert not after["incoming"]


def test_a_full_tmpfs_loses_nothing(nursery, tmp_path, reached):
    """Items, uploads and backups are refused, reads and deletes are not; back within a second."""
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(BALLAST_BYTES))
        with nursery.started(disk) as up, channel_to(up) as channel:
            tenants = [Whole(channel, tenant) for tenant in TENANTS]
            fill_with_items([each.items for each in tenants])
            refused(disk, tenants)
            written = sum(len(each.items.held) for each in tenants)
            _goes_on(tenants)
            fill(ballast)  # whoever else writes there takes the last byte
            assert room_of(disk) == 0
            refused(disk, tenants)
            for each in tenants:
                each.items.check()
            ballast.unlink()
            back_s = until_written(tenants[1].items)
            _interrupted(disk, tenants[0])
            assert not nursery.ended(up), up.words
        with nursery.started(disk) as up, channel_to(up) as channel:
            for each in tenants:
                each.reach(channel)
                each.items.check()
                assert each.artifacts() == 0
                assert each.backups() == []
            tenants[0].upload(4)
            assert tenants[0].artifacts() == 1
            made = tenants[0].backup()
            assert tenants[0].backups() == [made]
    reached(
        "T5",
        f"state: a tmpfs of 8 MiB, full after {written} items",
        "items, uploads, backups refused; 0 lost, back < 1 s",
        f"RESOURCE_EXHAUSTED, nothing half done, 0 lost, back after {back_s:.2f} s",
    )
    assert written >= 10, "too little was written for a verdict"
    assert back_s < BACK_S_MAX


def cut_short(nursery, folder, flaw=""):
    """A backup for which the disk has room in part, and an upload that is left; what stays."""
    with small_disk(folder / "disk") as disk:
        data = folder / "data"
        with (
            nursery.started(data, f"state.backups={disk}", flaw=flaw) as up,
            channel_to(up) as channel,
        ):
            tenant = Whole(channel, TENANTS[0])
            for number in range(60):  # of 100 KB that nothing makes smaller
                tenant.items.write(number)
            code, _ = refusal_of(tenant.backup)
            stays = [path for path in files_in(disk) if path.name != "LOCK"]
            listed = tenant.backups()
            with pytest.raises(grpc.RpcError):
                tenant.upload(3, stop=True)
            time.sleep(0.5)
            stays += files_in(data / "incoming")
            fill(disk / "ballast")
            tenant.items.check()
            (disk / "ballast").unlink()
            for number in range(5, 60):
                tenant.items.delete(number)
            made = tenant.backup()
            assert tenant.backups() == [made]
    return code, listed, stays


def test_a_backup_for_which_there_is_room_in_part_leaves_nothing(nursery, tmp_path, reached):
    """It is refused, none is listed, its files are gone; one that has room is made."""
    assert cut_short(nursery, tmp_path) == ("RESOURCE_EXHAUSTED", [], [])
    reached(
        "T5",
        "state: a backup of 6 MB onto 4 MB",
        "refused, no half backup",
        "RESOURCE_EXHAUSTED, nothing stays",
        "backups and uploads that stay in part",
    )


@pytest.mark.parametrize("flaw", ["half_backups", "half_uploads"])
def test_what_stays_in_part_is_seen(nursery, tmp_path, flaw):
    """Teeth: files of the backup, or of the upload, that was not kept."""
    _, _, stays = cut_short(nursery, tmp_path, flaw)
    assert stays


def _goes_on(tenants):
    """Reads and deletes."""
    for each in tenants:
        each.items.check()
        each.items.delete(min(each.items.held))
        each.items.check()


def _interrupted(disk, tenant):
    """An upload whose client goes away leaves nothing."""
    before = files_in(disk / "blobs")
    with pytest.raises(grpc.RpcError):
        tenant.upload(3, stop=True)
    deadline = time.monotonic() + 5
    while files_in(disk / "incoming"):
        assert time.monotonic() < deadline, "an upload that was interrupted stays"
        time.sleep(0.01)
    assert files_in(disk / "blobs") == before
    assert tenant.artifacts() == 0
