"""Whether the lines of an archive go together, and what follows from them.

One line being right says little: a checkpoint needs its session, an artifact its bytes, a call the
call before it. Each database has a check here that sees its lines in order; what is not in an
archive, because it follows from other lines, is made here too.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from services.common.limits import ARTIFACT_VERSIONS_MAX
from services.state.backup.artifact_lines import (
    ArtifactLine,
    ArtifactNameLine,
    ArtifactScopeLine,
    CheckpointArtifactLine,
)
from services.state.backup.desk import Desk
from services.state.backup.event_lines import EventsLine
from services.state.backup.item_lines import CheckpointItemLine
from services.state.backup.journal_lines import CallLine
from services.state.backup.lines import Record, UnfitError, check
from services.state.backup.schema_census import SchemaCheck
from services.state.backup.session_lines import CheckpointLine, SessionLine
from services.state.journal import grown
from services.state.journal_model import Journal
from services.state.layout import (
    ARTIFACT_DIGESTS,
    ARTIFACT_NAMES,
    ARTIFACT_ORDER,
    ARTIFACT_SCOPES,
    ARTIFACTS,
    BLOB_REFS,
    CHECKPOINT_ARTIFACTS,
    CHECKPOINT_ITEMS,
    CHECKPOINTS,
    EVENT_LOGS,
    EVENTS,
    JOURNAL,
    JOURNALS,
    SCHEMAS,
    SESSIONS,
    artifacts,
    events,
    journals,
)
from services.state.session_model import AUTOSAVE

_NUMBER = struct.Struct(">Q")
_COUNTED = re.compile("c([1-9][0-9]{0,15})", re.ASCII)
_NAMED = "named "
"""Before the name of a shelf: what a line of its own was seen for."""


class Check(Protocol):
    """Sees the lines of one database in order."""

    def see(self, line: Any, record: Record | None, number: int) -> bytes | None:
        """A line with its record, which is None where it was withheld.

        Returns:
            The value that is kept; None: the record's.

        Raises:
            UnfitError: it does not go with what was seen before.
        """

    def end(self) -> None:
        """There are no more.

        Raises:
            UnfitError: something is missing.
        """


class Census:
    """The checks of one archive, and what follows from its lines."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        sessions = _Sessions()
        published = _Events()
        self._calls = _Calls()
        self.checks: Mapping[str, Check] = {
            SESSIONS: sessions,
            CHECKPOINTS: _Checkpoints(sessions),
            CHECKPOINT_ITEMS: _CheckpointItems(sessions),
            CHECKPOINT_ARTIFACTS: _CheckpointArtifacts(sessions, desk),
            EVENTS: published,
            EVENT_LOGS: _EventLog(published),
            ARTIFACTS: _Artifacts(desk),
            ARTIFACT_NAMES: _ArtifactNames(desk),
            ARTIFACT_SCOPES: _ArtifactScopes(desk),
            JOURNAL: self._calls,
            SCHEMAS: SchemaCheck(),
        }
        self._derived: Mapping[str, Callable[[], Iterator[Record]]] = {
            ARTIFACT_ORDER: lambda: desk.entries(ARTIFACT_ORDER),
            ARTIFACT_DIGESTS: lambda: desk.entries(ARTIFACT_DIGESTS),
            BLOB_REFS: self._blob_refs,
            JOURNALS: self._journals,
        }

    def derived(self, database: str) -> Iterator[Record]:
        """Records that follow from lines that were seen."""
        return self._derived[database]()

    def _blob_refs(self) -> Iterator[Record]:
        for digest, count in self._desk.counts(BLOB_REFS):
            yield digest, artifacts.pack_number(count)

    def _journals(self) -> Iterator[Record]:
        for session, journal in self._calls.journals.items():
            yield session.encode(), journals.pack_journal(journal)


class _Sessions:
    def __init__(self) -> None:
        self.checkpoints: dict[str, list[int]] = {}
        """Session → its line, how many checkpoints it names, how many were seen."""
        self.made: dict[str, int] = {}
        """Session → how many checkpoints it ever had; the next one's id is counted from it."""
        self.items: dict[tuple[str, str], list[int]] = {}
        """Session and checkpoint → its line, how many items it names, how many were seen."""
        self.artifacts: dict[tuple[str, str], list[int]] = {}
        """Likewise its artifacts."""

    def see(self, line: SessionLine, record: Record | None, number: int) -> None:
        del record
        self.checkpoints[line.session_id] = [number, line.checkpoint_count, 0]
        self.made[line.session_id] = line.checkpoints_made

    def end(self) -> None:
        pass


class _Checkpoints:
    def __init__(self, sessions: _Sessions) -> None:
        self._sessions = sessions

    def see(self, line: CheckpointLine, record: Record | None, number: int) -> None:
        del record
        session = self._sessions.checkpoints.get(line.session_id)
        if session is None:
            raise UnfitError("is that of no session in sessions.jsonl", "session_id")
        session[2] += 1
        if line.checkpoint_id != AUTOSAVE:
            found = _COUNTED.fullmatch(line.checkpoint_id)
            most = self._sessions.made[line.session_id]
            fits = found is not None and int(found[1]) <= most
            check(
                fits, "checkpoint_id", f"must be {AUTOSAVE}, or c1 to c{most} as the session says"
            )
        place = (line.session_id, line.checkpoint_id)
        self._sessions.items[place] = [number, line.item_count, 0]
        if line.artifact_count:
            self._sessions.artifacts[place] = [number, line.artifact_count, 0]

    def end(self) -> None:
        for number, told, seen in self._sessions.checkpoints.values():
            if told != seen:
                why = f"is {told}, and checkpoints.jsonl has {seen} of the session"
                raise UnfitError(why, "checkpoint_count", number=number, file="sessions.jsonl")


class _CheckpointItems:
    def __init__(self, sessions: _Sessions) -> None:
        self._sessions = sessions

    def see(self, line: CheckpointItemLine, record: Record | None, number: int) -> None:
        del record, number
        _count_part(self._sessions.items, (line.session_id, line.checkpoint_id))

    def end(self) -> None:
        _check_parts(self._sessions.items, "item_count", "checkpoint_items.jsonl")


class _CheckpointArtifacts:
    """Sees the last of what names bytes."""

    def __init__(self, sessions: _Sessions, desk: Desk) -> None:
        self._sessions = sessions
        self._desk = desk

    def see(self, line: CheckpointArtifactLine, record: Record | None, number: int) -> None:
        del record
        _count_part(self._sessions.artifacts, (line.session_id, line.checkpoint_id))
        _check_bytes(self._desk, line.artifact)
        self._desk.count(BLOB_REFS, bytes.fromhex(line.digest), 0, number)

    def end(self) -> None:
        _check_parts(self._sessions.artifacts, "artifact_count", "checkpoint_artifacts.jsonl")
        for digest, _, _ in self._desk.files():
            if not self._desk.counted(BLOB_REFS, digest)[0]:
                raise UnfitError("has bytes that no artifact names", file=f"blobs/{digest.hex()}")


def _count_part(parts: dict[tuple[str, str], list[int]], place: tuple[str, str]) -> None:
    checkpoint = parts.get(place)
    if checkpoint is None:
        raise UnfitError("is that of no checkpoint in checkpoints.jsonl", "checkpoint_id")
    checkpoint[2] += 1


def _check_parts(parts: dict[tuple[str, str], list[int]], field: str, file: str) -> None:
    for number, told, seen in parts.values():
        if told != seen:
            why = f"is {told}, and {file} has {seen} of the checkpoint"
            raise UnfitError(why, field, number=number, file="checkpoints.jsonl")


class _Events:
    def __init__(self) -> None:
        self.count = self.size = self.published = 0

    def see(self, line: EventsLine, record: Record | None, number: int) -> None:
        del number
        assert record is not None, "events are never withheld"
        fits = line.published_before >= self.published
        check(fits, "published_before", f"must be {self.published} or more")
        self.published = line.published_before + len(line.events)
        self.count += len(line.events)
        self.size += len(record[1])

    def end(self) -> None:
        pass


class _EventLog:
    def __init__(self, published: _Events) -> None:
        self._events = published
        self._seen = False

    def see(self, line: Any, record: Record | None, number: int) -> bytes:
        del number
        assert record is not None, "the log is never withheld"
        self._seen = True
        before = self._events.published
        check(line.published >= before, "published", f"must be {before} or more")
        log = events.Log(
            line.compacted_sequence, self._events.count, self._events.size, line.published
        )
        return events.pack_log(log)

    def end(self) -> None:
        if self._events.count and not self._seen:
            raise UnfitError("must have a line, since events.jsonl has", number=1)


class _Calls:
    def __init__(self) -> None:
        self.journals: dict[str, Journal] = {}

    def see(self, line: CallLine, record: Record | None, number: int) -> None:
        del number
        assert record is not None, "a journal of which a call was withheld is left out"
        journal = self.journals.get(line.session_id) or Journal(line.session_id)
        following = journal.count + 1
        check(line.sequence == following, "sequence", f"must be {following}: none is missing")
        entry = journals.unpack_entry(record[1])
        self.journals[line.session_id] = grown(journal, [entry])

    def end(self) -> None:
        pass


class _Artifacts:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def see(self, line: ArtifactLine, record: Record | None, number: int) -> None:
        del record
        desk, scope, digest = self._desk, line.scope, bytes.fromhex(line.digest)
        _check_bytes(desk, line)
        place = _NUMBER.pack(line.sequence)
        order = scope.encode() + b"\0" + place
        is_new = desk.put(ARTIFACT_ORDER, order, artifacts.pack_order(line.name, line.version))
        check(is_new, "sequence", "must be another one for each artifact of a scope")
        desk.put(ARTIFACT_DIGESTS, digest + order, b"")
        name = f"{scope}\0{line.name}".encode()
        desk.count(ARTIFACT_NAMES, name, line.version, number)
        desk.count(ARTIFACT_SCOPES, scope.encode(), line.sequence, number)
        desk.count(BLOB_REFS, digest, 0, number)

    def end(self) -> None:
        pass


def _check_bytes(desk: Desk, line: ArtifactLine) -> None:
    file = desk.file(bytes.fromhex(line.digest))
    check(file, "digest", f"has no bytes: there is no blobs/{line.digest}")
    assert file is not None
    check(file[1] == line.size_bytes, "size_bytes", f"is not that of its bytes: {file[1]}")


class _ArtifactNames:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def see(self, line: ArtifactNameLine, record: Record | None, number: int) -> None:
        assert record is not None, "names are never withheld"
        count, highest = self._desk.counted(ARTIFACT_NAMES, record[0])
        check(line.count == count, "count", f"is not how many artifacts.jsonl has: {count}")
        check(count, "name", "is that of no artifact in artifacts.jsonl")
        check(count <= ARTIFACT_VERSIONS_MAX, "count", f"must be {ARTIFACT_VERSIONS_MAX} at most")
        newest = line.newest_version
        check(newest >= highest, "newest_version", f"must be {highest} or more")
        self._desk.count(_NAMED + ARTIFACT_NAMES, record[0], 0, number)

    def end(self) -> None:
        _check_named(self._desk, ARTIFACT_NAMES, "name")


class _ArtifactScopes:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def see(self, line: ArtifactScopeLine, record: Record | None, number: int) -> None:
        assert record is not None, "scopes are never withheld"
        highest = self._desk.counted(ARTIFACT_SCOPES, record[0])[1]
        check(line.last_sequence >= highest, "last_sequence", f"must be {highest} or more")
        self._desk.count(_NAMED + ARTIFACT_SCOPES, record[0], 0, number)

    def end(self) -> None:
        _check_named(self._desk, ARTIFACT_SCOPES, "scope")


def _check_named(desk: Desk, shelf: str, field: str) -> None:
    missing = desk.missing(shelf, _NAMED + shelf)
    if missing is not None:
        why = f"has no line in {shelf}.jsonl"
        raise UnfitError(why, field, number=missing[1], file="artifacts.jsonl")
