"""What a process has found damaged since it started, by name, for its health answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from services.common.errors import Reason, ServiceError

NAMES_MAX = 100
"""So many are told by name; all are counted."""

_KINDS: Mapping[Reason, str] = {
    Reason.RECORD_CORRUPT: "record",
    Reason.ARTIFACT_CORRUPT: "artifact",
    Reason.BACKUP_CORRUPT: "backup",
}


class Damages:
    """Names of damaged things. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, str] = {}

    def note(self, name: str, why: str) -> None:
        """Remember a thing; once, however often it is met."""
        with self._lock:
            self._found[name] = why

    def note_error(self, error: ServiceError) -> None:
        """Remember what an error tells of, unless that is no damage, or another process's."""
        kind = _KINDS.get(error.reason)
        if kind is not None and not error.is_passed_on:
            self.note(name_of(kind, *error.metadata.values()), error.message)

    def healed(self, name: str) -> None:
        """Forget a thing that is whole again."""
        with self._lock:
            self._found.pop(name, None)

    def told(self) -> list[tuple[str, str]]:
        """Name and what is wrong, of the first `NAMES_MAX`."""
        with self._lock:
            return list(self._found.items())[:NAMES_MAX]

    def __len__(self) -> int:
        return len(self._found)


def name_of(kind: str, *parts: str) -> str:
    """How a damaged thing is named, as `artifact DIGEST`; see `FoundDamage` in the contract."""
    return " ".join((kind, *parts))
