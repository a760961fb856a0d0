"""A tenant of a real state process with everything that can be damaged, and what it must find."""

from __future__ import annotations

import random
from typing import Any

import grpc
from llmspell.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    backup_pb2,
    backup_pb2_grpc,
    process_pb2,
    process_pb2_grpc,
    state_pb2,
    state_pb2_grpc,
)

from services.common.status import DETAILS_KEY, from_trailer
from tests.crash.state_clients import caller

TENANTS = ("acme", "globex")
KEYS, ARTIFACTS = 60, 2
ARTIFACT_BYTES = 700_000


def content(tenant: str, key: int, version: int) -> str:
    """Another one for each."""
    return f"{tenant} {key} {version} " * 12


def artifact_bytes(tenant: str, number: int) -> bytes:
    """Bytes that nothing makes smaller, read in two pieces."""
    return random.Random(f"{tenant} {number}").randbytes(ARTIFACT_BYTES)


class Tenant:
    """One of them, over a channel."""

    def __init__(self, channel: Any, name: str) -> None:
        self.name = name
        self._metadata = caller(name)
        self._state = state_pb2_grpc.StateServiceStub(channel)
        self._artifacts = artifact_pb2_grpc.ArtifactServiceStub(channel)
        self._backups = backup_pb2_grpc.BackupServiceStub(channel)
        self._process = process_pb2_grpc.ProcessServiceStub(channel)

    def call(self, method: Any, request: Any) -> Any:
        """Call it."""
        return method(request, metadata=self._metadata, timeout=20)

    def write(self, version: int) -> None:
        """All items again."""
        for first in range(0, KEYS, 20):
            request = state_pb2.BatchStateRequest()
            for key in range(first, first + 20):
                request.writes.add(scope="global", key=f"{key}").set.text = content(
                    self.name, key, version
                )
            self.call(self._state.BatchState, request)

    def bump(self) -> None:
        """One item more or less at the end: whichever header page is read, all else is there."""
        request = state_pb2.IncrementStateRequest(scope="global", key="n", int_delta=1)
        self.call(self._state.IncrementState, request)

    def get(self, key: int) -> str:
        """What is answered: the text, or the code of a refusal."""
        request = state_pb2.GetStateRequest(scope="global", key=f"{key}")
        try:
            answer = self.call(self._state.GetState, request)
        except grpc.RpcError as error:
            return error.code().name
        return answer.item.value.text

    def get_all(self) -> list[str]:
        """The same of every item."""
        return [self.get(key) for key in range(KEYS)]

    def write_more(self) -> set[str]:
        """Write other items, some of them again, and remove some; the codes of all answers."""
        codes = set()
        for turn in range(3):
            for first in range(KEYS, 2 * KEYS, 20):
                request = state_pb2.BatchStateRequest()
                for key in range(first, first + 20):
                    write = request.writes.add(scope="global", key=f"{key}")
                    if (key + turn) % 3:
                        write.set.text = f"{turn}" * 300
                    else:
                        write.delete = True
                try:
                    self.call(self._state.BatchState, request)
                    codes.add("OK")
                except grpc.RpcError as error:
                    codes.add(error.code().name)
        return codes

    def list_items(self) -> str:
        """What listing all of them answers: its code."""
        request = state_pb2.ListStateRequest(scope="global", page_size=1000)
        try:
            self.call(self._state.ListState, request)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    def put_artifact(self, number: int) -> str:
        """Store one; its digest."""
        header = artifact_pb2.ArtifactHeader(scope="global", name=f"a{number}")
        request = artifact_pb2.PutArtifactRequest(
            header=header, content=artifact_bytes(self.name, number)
        )
        return self.call(self._artifacts.PutArtifact, request).artifact.digest

    def read_artifact(self, number: int) -> bytes:
        """All of it."""
        choice = artifact_pb2.ArtifactChoice(scope="global", name=f"a{number}", version=1)
        request = artifact_pb2.ReadArtifactRequest(artifact=choice)
        return b"".join(each.chunk for each in self.call(self._artifacts.ReadArtifact, request))

    def backup(self) -> str:
        """Make one; its id."""
        request = backup_pb2.CreateBackupRequest()
        return self.call(self._backups.CreateBackup, request).backup.backup_id

    def delete_backup(self, backup_id: str) -> None:
        """Let go of one."""
        request = backup_pb2.DeleteBackupRequest(backup_id=backup_id)
        self.call(self._backups.DeleteBackup, request)

    def verify(self, backup_id: str) -> Any:
        """What verifying one tells."""
        request = backup_pb2.VerifyBackupRequest(backup_id=backup_id)
        return self.call(self._backups.VerifyBackup, request)

    def restore(self, backup_id: str) -> None:
        """Go back to one."""
        request = backup_pb2.RestoreBackupRequest(backup_id=backup_id, skip_safety_backup=True)
        self.call(self._backups.RestoreBackup, request)

    def damages(self) -> dict[str, str]:
        """What the health answer names."""
        answer = self.call(self._process.GetProcessStatus, process_pb2.GetProcessStatusRequest())
        (own,) = answer.processes
        assert own.status == process_pb2.SERVING_STATUS_SERVING
        assert own.damage_count == len(own.damages)
        return {each.name: each.why for each in own.damages}

    def check_all(self, version: int) -> None:
        """Every item and artifact is what was written."""
        assert [self.get(key) for key in range(KEYS)] == [
            content(self.name, key, version) for key in range(KEYS)
        ]
        for number in range(ARTIFACTS):
            assert self.read_artifact(number) == artifact_bytes(self.name, number)


def refusal_of(work: Any) -> tuple[str, dict[str, str]]:
    """Code and metadata of the error that a call ends with; it must end with one."""
    try:
        work()
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        known = from_trailer(error.code(), error.details(), trailers.get(DETAILS_KEY))
        return error.code().name, known.metadata
    raise AssertionError("it was answered")


def tenants_on(channel: Any) -> list[Tenant]:
    """Both."""
    return [Tenant(channel, name) for name in TENANTS]
