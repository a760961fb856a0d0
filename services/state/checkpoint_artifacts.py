"""The artifacts of checkpoints, inside a step.

A checkpoint has a copy of each record that its session's scope had, and holds its bytes: they stay
while a checkpoint has them, whatever becomes of the artifact. An artifact never changes, so that
sequence and digest say which it is; both stand in the key, and so what a checkpoint holds can be
let go of even where a record is damaged.
"""

from __future__ import annotations

import itertools

from services.common import limits
from services.common.errors import limit_exceeded
from services.state.artifact_step import ArtifactStep
from services.state.layout import ARTIFACTS, CHECKPOINT_ARTIFACTS
from services.state.layout import artifacts as artifact_layout
from services.state.layout import sessions as layout
from services.state.layout.sessions import Held
from services.state.step import Step


class CheckpointArtifacts:
    """One transaction's artifacts in the checkpoints of one session."""

    def __init__(self, step: Step, tenant: str, session_id: str) -> None:
        self._txn = step.txn
        self._artifacts = ArtifactStep(step)
        self._tenant = tenant
        self._id = session_id
        self._scope = f"session:{session_id}"

    def take(self, checkpoint_id: str) -> int:
        """Copy the records that there are, in place of what the checkpoint had; how many.

        Raises:
            ServiceError: LIMIT_EXCEEDED, RECORD_CORRUPT.
        """
        now = self._present(limits.CHECKPOINT_ARTIFACTS_MAX)
        size, size_max = sum(map(len, now.values())), limits.CHECKPOINT_BYTES_MAX
        if size > size_max:
            raise limit_exceeded("records of the session's artifacts", size, size_max, "bytes")
        there = self._kept(checkpoint_id)
        for held in now.keys() - there:
            place = layout.checkpoint_artifact_key(self._tenant, self._id, checkpoint_id, held)
            self._txn.put(CHECKPOINT_ARTIFACTS, place, now[held])
            self._artifacts.hold(self._tenant, held.digest)
        for held in there - now.keys():
            self._let_go(
                layout.checkpoint_artifact_key(self._tenant, self._id, checkpoint_id, held)
            )
        return len(now)

    def put_back(self, checkpoint_id: str) -> int:
        """Make the artifacts those of a checkpoint; how many were added or removed for it.

        Raises:
            ServiceError: LIMIT_EXCEEDED, RECORD_CORRUPT, ARTIFACT_CORRUPT.
        """
        self._present(limits.RESTORE_ARTIFACTS_MAX)
        rows = self._txn.scan(CHECKPOINT_ARTIFACTS, self._prefix(checkpoint_id))
        wanted = [artifact_layout.unpack_artifact(stored) for _, stored in rows]
        return self._artifacts.restore(self._tenant, self._scope, wanted)

    def drop(self, checkpoint_id: str) -> None:
        """Let go of all that a checkpoint has."""
        for place in list(self._txn.keys(CHECKPOINT_ARTIFACTS, self._prefix(checkpoint_id))):
            self._let_go(place)

    def drop_some(self, limit: int) -> int:
        """Let go of up to `limit` artifacts that checkpoints of the session have; how many."""
        prefix = layout.checkpoint_items_prefix(self._tenant, self._id)
        doomed = list(itertools.islice(self._txn.keys(CHECKPOINT_ARTIFACTS, prefix), limit))
        for place in doomed:
            self._let_go(place)
        return len(doomed)

    def differ(self, checkpoint_id: str) -> bool:
        """Whether the artifacts are others than a checkpoint has.

        Raises:
            ServiceError: LIMIT_EXCEEDED, RECORD_CORRUPT.
        """
        now = self._present(limits.CHECKPOINT_ARTIFACTS_MAX)
        return now.keys() != self._kept(checkpoint_id)

    def _let_go(self, place: bytes) -> None:
        self._txn.delete(CHECKPOINT_ARTIFACTS, place)
        self._artifacts.release(self._tenant, layout.split_checkpoint_artifact_key(place).digest)

    def _present(self, most: int) -> dict[Held, bytes]:
        """The artifacts that there are, with what is stored of each."""
        prefix = artifact_layout.scope_prefix(self._tenant, self._scope)
        found: dict[Held, bytes] = {}
        for _, stored in itertools.islice(self._txn.scan(ARTIFACTS, prefix), most + 1):
            artifact = artifact_layout.unpack_artifact(stored)
            found[Held(artifact.sequence, artifact.digest)] = stored
        if len(found) > most:
            raise limit_exceeded("the session's artifacts", len(found), most)
        return found

    def _kept(self, checkpoint_id: str) -> set[Held]:
        places = self._txn.keys(CHECKPOINT_ARTIFACTS, self._prefix(checkpoint_id))
        return set(map(layout.split_checkpoint_artifact_key, places))

    def _prefix(self, checkpoint_id: str) -> bytes:
        return layout.checkpoint_artifact_key(self._tenant, self._id, checkpoint_id)
