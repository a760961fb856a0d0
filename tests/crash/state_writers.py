"""Writers over the real engine whose operations are known beforehand, for power cuts and faults.

A writer has so many operations, does the n-th of them, and says what is there after 0, 1, 2, … of
them. So whoever knows how many were acknowledged knows what must be found; an operation that was
not is there whole or not at all. An operation that was refused can be asked for again.
"""

from __future__ import annotations

import asyncio
import errno
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state import collector
from services.state.artifact_model import Choice, Draft, Query
from services.state.artifacts import Artifacts
from services.state.backup.blobs import BlobCare
from services.state.backup.folder import BackupFolder
from services.state.backup.service import Backups
from services.state.blob_format import Checksums
from services.state.engines.blobs import FolderBlobs
from services.state.event_model import NewEvent
from services.state.event_reading import Query as EventQuery
from services.state.events import Events
from services.state.items import Items
from services.state.journal import Journals
from services.state.journal_model import Entry
from services.state.layout import CHECKPOINT_ARTIFACTS, CHECKPOINT_ITEMS
from services.state.layout.artifacts import unpack_artifact
from services.state.layout.items import unpack_item
from services.state.migrations.migrations import Migrations, Order
from services.state.migrations.model import Family, Rename, Schema, Status
from services.state.migrations.schemas import Schemas
from services.state.model import Encoding, Value, Write
from services.state.patterns import Pattern
from services.state.session_model import AUTOSAVE, NewSession
from services.state.session_model import Status as SessionStatus
from services.state.sessions import Sessions
from tests.crash.artifact_invariants import check_blobs
from tests.crash.state_invariants import check_state
from tests.state_engines import embedded_keeper

SIZES = (0, 10, 200, 3000, 20_000)
MIGRATED_ITEMS = 30
MIGRATED_SCOPE = "custom:orders"
WAIT_S = 20


class Areas:
    """All that the state process keeps, opened as it does."""

    def __init__(self, folder: Path, clock: FakeClock, **settings: Any) -> None:
        """`settings`: see `embedded_keeper`."""
        self.keeper = embedded_keeper(folder, clock, **settings)
        collector._PAUSE_S = 0
        self.blobs = FolderBlobs(folder, Checksums())
        self.items, self.events = Items(self.keeper), Events(self.keeper)
        self.artifacts, self.journals = Artifacts(self.keeper, self.blobs), Journals(self.keeper)
        erased = self.artifacts.delete_scope, self.journals.delete_scope
        self.sessions = Sessions(self.keeper, also_erase=erased)
        keeps = self.artifacts.collector
        care = BlobCare(self.blobs, keeps.pins)
        self.backups = Backups(self.keeper, BackupFolder(folder / "backups"), care=care)
        self.backups.recover()
        self.schemas = Schemas(self.keeper)
        self.migrations = Migrations(self.keeper, items_at_once=MIGRATED_ITEMS // 2)

    async def recover(self) -> None:
        """Do what the process does after its start: go on with what was cut off, and tidy up."""
        self.migrations.resume()
        while await self.sessions.sweep():
            pass
        await self.artifacts.tidy_up()
        while await self.artifacts.sweep():
            pass

    def check(self) -> None:
        """Every record and every blob."""
        with self.keeper.engine.read() as view:
            check_state(view)
            check_blobs(view, self.blobs, tidy=False)

    def check_tidy(self) -> None:
        """No file is there that nobody needs."""
        with self.keeper.engine.read() as view:
            check_blobs(view, self.blobs, tidy=True)

    async def close(self) -> None:
        """As the process ends."""
        await self.migrations.close()
        await self.backups.close()
        await self.artifacts.close()
        await self.items.close()


class Writer:
    """One who writes, one operation after the other."""

    tenant = "acme"

    def __init__(self, seed: int, number: int, operations: int) -> None:
        self.number, self.operations = number, operations
        self.tenant = ("acme", "globex")[number % 2]
        self.rng = random.Random(f"{seed} {type(self).__name__} {number}")
        self.states: list[Any] = []
        """What there is after 0, 1, 2, … operations."""

    async def do(self, areas: Areas, number: int) -> None:
        """The n-th operation."""
        raise NotImplementedError

    async def found(self, areas: Areas) -> Any:
        """What there is."""
        raise NotImplementedError

    async def check(self, areas: Areas, done: int, most: int) -> None:
        """What there is, is what so many operations left."""
        found = await self.found(areas)
        name = f"{type(self).__name__} {self.number}"
        allowed = self.states[done : most + 1]
        assert found in allowed, f"{name}: {done} were acknowledged; {_short(found, allowed[0])}"


class SessionWriter(Writer):
    """A session from its beginning to its end, and then the next one.

    It has items and an artifact, then others; its first checkpoint brings back the first ones.
    """

    STEPS = 13

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.scripts = [
            {key: self._content() for key in self.rng.sample("abcdefgh", 5)}
            for _ in range(2 * (self.operations // self.STEPS + 1))
        ]
        self.states = [self._state(done) for done in range(self.operations + 1)]

    def _content(self) -> bytes:
        return b"%d " % self.number + self.rng.randbytes(self.rng.choice(SIZES))

    def _name(self, number: int) -> str:
        return f"s{self.number}-{number // self.STEPS}"

    def _texts(self, number: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """First and second contents: the second one removes what it does not have."""
        begin = 2 * (number // self.STEPS)
        return self.scripts[begin], self.scripts[begin + 1]

    def _state(self, done: int) -> dict[str, Any]:
        """Status, items and artifacts, and those of each checkpoint."""
        step, name = done % self.STEPS, self._name(done)
        if not step:
            return {}
        first, second = self._texts(done)
        items = [first, second][step in {5, 6, 7}] if step >= 2 else {}
        files = {6: {"f1", "f2"}, 7: {"f2"}}.get(step, {"f1"} if step >= 3 else set())
        checkpoints = {"c1": (first, {"f1"})} if step >= 4 else {}
        if step >= 8:
            checkpoints["c2"] = (second, {"f2"})
        if step >= 9:
            checkpoints[AUTOSAVE] = (first, {"f1"})
        status = {10: SessionStatus.SUSPENDED, 12: SessionStatus.COMPLETED}.get(
            step, SessionStatus.ACTIVE
        )
        return {name: (status, items, files, checkpoints)}

    async def do(self, areas: Areas, number: int) -> None:
        """See Writer."""
        name, sessions, tenant = self._name(number), areas.sessions, self.tenant
        first, second = self._texts(number)
        scope = f"session:{name}"
        new = NewSession(session_id=name, timeout_ns=0, auto_save_ns=0)
        gone = Choice(scope=scope, name="f1", version=1)
        store, items = areas.artifacts.store, areas.items.batch
        await [
            lambda: sessions.create(tenant, new),
            lambda: items(tenant, [], _writes(scope, {}, first)),
            lambda: store(tenant, Draft(scope=scope, name="f1"), [_bytes(self.number)]),
            lambda: sessions.create_checkpoint(tenant, name, "first"),
            lambda: items(tenant, [], _writes(scope, first, second)),
            lambda: store(tenant, Draft(scope=scope, name="f2"), [b"of %d" % number]),
            lambda: areas.artifacts.delete(tenant, gone),
            lambda: sessions.restore_checkpoint(tenant, name, "c1", keep_present=True),
            lambda: sessions.save(tenant, name),
            lambda: sessions.move(tenant, name, SessionStatus.SUSPENDED),
            lambda: sessions.move(tenant, name, SessionStatus.ACTIVE),
            lambda: sessions.move(tenant, name, SessionStatus.COMPLETED),
            lambda: sessions.delete(tenant, name),
        ][number % self.STEPS]()

    async def found(self, areas: Areas) -> Any:
        """See Writer. What a deleted session had must have gone."""
        there = {}
        for number in range(0, self.operations, self.STEPS):
            name = self._name(number)
            scope = f"session:{name}"
            items = await _contents(areas, self.tenant, scope)
            page = await areas.artifacts.list(self.tenant, Query(scope=scope), limit=100)
            files = {each.name for each in page.artifacts}
            try:
                session, _ = await areas.sessions.get(self.tenant, name)
            except ServiceError as error:
                assert error.reason is Reason.SESSION_NOT_FOUND  # noqa: PT017
                assert not items, f"items of {name}, which is gone"
                assert not files, f"artifacts of {name}, which is gone"
                continue
            there[name] = (session.status, items, files, self._checkpoints(areas, name))
        return there

    def _checkpoints(self, areas: Areas, name: str) -> dict[str, tuple[dict[str, bytes], set[str]]]:
        """The items and the names of the artifacts of each checkpoint."""
        prefix = f"{self.tenant}\0{name}\0".encode()
        items: dict[str, dict[str, bytes]] = defaultdict(dict)
        files: dict[str, set[str]] = defaultdict(set)
        with areas.keeper.engine.read() as view:
            for place, stored in view.scan(CHECKPOINT_ITEMS, prefix):
                checkpoint_id, key = place[len(prefix) :].decode().split("\0")
                value = unpack_item(key, stored).value
                assert value is not None
                items[checkpoint_id][key] = value.content
            for place, stored in view.scan(CHECKPOINT_ARTIFACTS, prefix):
                checkpoint_id = place[len(prefix) :].split(b"\0")[0].decode()
                files[checkpoint_id].add(unpack_artifact(stored).name)
        return {each: (items[each], files[each]) for each in {*items, *files}}


class ArtifactWriter(Writer):
    """Versions of some names; contents that others store too."""

    CONTENTS = 6

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.scope = f"custom:art{self.number}"
        self.states = [{}]
        self.newest: dict[str, int] = {}
        self.script: list[tuple[str, int, int]] = []
        for number in range(self.operations):
            state = dict(self.states[-1])
            name = f"n{self.rng.randrange(2)}"
            versions = [version for other, version in state if other == name]
            if number % 3 == 2 and versions:
                version, content = min(versions), -1
                del state[name, version]
                if len(versions) == 1:
                    del self.newest[name]
            else:
                version, content = self.newest.get(name, 0) + 1, self.rng.randrange(self.CONTENTS)
                self.newest[name] = version
                state[name, version] = blake3(_bytes(content)).digest()
            self.script.append((name, version, content))
            self.states.append(state)

    async def do(self, areas: Areas, number: int) -> None:
        """See Writer."""
        name, version, content = self.script[number]
        if content < 0:
            choice = Choice(scope=self.scope, name=name, version=version)
            await areas.artifacts.delete(self.tenant, choice)
            await areas.artifacts.sweep()
            return
        pieces = [_bytes(content)[:700], _bytes(content)[700:]]
        stored = await areas.artifacts.store(
            self.tenant, Draft(scope=self.scope, name=name), pieces
        )
        assert stored.artifact.version == version

    async def found(self, areas: Areas) -> Any:
        """See Writer."""
        page = await areas.artifacts.list(self.tenant, Query(scope=self.scope), limit=1000)
        return {(each.name, each.version): each.digest for each in page.artifacts}


class EventWriter(Writer):
    """Batches of numbered events."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.states = [list(range(self._before(done))) for done in range(self.operations + 1)]

    def _before(self, number: int) -> int:
        return sum(each % 4 + 1 for each in range(number))

    async def do(self, areas: Areas, number: int) -> None:
        """See Writer."""
        numbers = range(self._before(number), self._before(number + 1))
        events = [NewEvent(f"work.w{self.number}", json.dumps(each)) for each in numbers]
        await areas.events.publish(self.tenant, events)

    async def found(self, areas: Areas) -> Any:
        """See Writer."""
        query = EventQuery(self.tenant, Pattern(f"work.w{self.number}"))
        found: list[int] = []
        after = 0
        while True:
            reading, compacted = await areas.events.list(query, after=after, limit=1000)
            assert not compacted
            found += [json.loads(each.json) for each in reading.events]
            if reading.complete:
                return found
            after = reading.position.sequence


class JournalWriter(Writer):
    """Calls of a session; each operation repeats the last one of the one before."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        calls = [self.rng.randbytes(self.rng.choice(SIZES)) for _ in range(2 * self.operations)]
        self.states = [calls[: 2 * done] for done in range(self.operations + 1)]

    async def do(self, areas: Areas, number: int) -> None:
        """See Writer."""
        calls = self.states[number + 1]
        first = max(0, 2 * number - 1)
        entries = [
            Entry(sequence + 1, "m", calls[sequence], b"", "", "", 1, 2, "c")
            for sequence in range(first, len(calls))
        ]
        await areas.journals.append(self.tenant, f"j{self.number}", entries)

    async def found(self, areas: Areas) -> Any:
        """See Writer."""
        entries = await areas.journals.read(self.tenant, f"j{self.number}", 1, 10**6)
        return [each.request for each in entries]


class MigrationWriter(Writer):
    """A tenant's items, which each operation takes to the next version, in slices."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.tenant = f"migrated{self.number}"
        self.states = [{}, *(_form(version) for version in range(self.operations))]

    async def do(self, areas: Areas, number: int) -> None:
        """See Writer."""
        if not number:
            writes = _writes(MIGRATED_SCOPE, {}, _form(0), Encoding.JSON)
            await areas.items.batch(self.tenant, [], writes)
            await self._put(areas, number)
            return
        await self._put(areas, number)
        versions = await areas.schemas.get(self.tenant, "orders")
        if versions.family.current != f"1.{number}.0":
            order = Order(schema="orders", backup=False)
            begun = await areas.migrations.start(self.tenant, order)
            ended = await areas.migrations.get(self.tenant, begun.migration_id, wait_s=WAIT_S)
            if ended.status is not Status.COMPLETED:
                failure = ended.errors[0]
                if failure.reason == Reason.INTERNAL:  # what is said of it then, the log knows
                    raise OSError(errno.EIO, failure.message)
                raise ServiceError(failure.reason, failure.message)

    async def _put(self, areas: Areas, version: int) -> None:
        steps = (Rename(f"f{version - 1}", f"f{version}"),) if version else ()
        family = Family("orders", MIGRATED_SCOPE, "", "")
        await areas.schemas.put(self.tenant, family, Schema(f"1.{version}.0", (), steps, 0))

    async def found(self, areas: Areas) -> Any:
        """See Writer; one that was cut off comes to its end first."""
        for each in await areas.migrations.list(self.tenant, limit=1):
            await areas.migrations.get(self.tenant, each.migration_id, wait_s=WAIT_S)
        return await _contents(areas, self.tenant, MIGRATED_SCOPE)


class BackupWriter(Writer):
    """Backups of one tenant, with all that it has at that moment."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.states = list(range(self.operations + 1))

    async def do(self, areas: Areas, number: int) -> None:
        """See Writer; one whose last name could not be flushed is refused, and there."""
        if await self.found(areas) <= number:
            await areas.backups.create(self.tenant)

    async def found(self, areas: Areas) -> Any:
        """See Writer; each of them is whole."""
        listed = await areas.backups.listed(self.tenant, any_tenant=False)
        for owner, each in listed:
            assert owner == self.tenant
            verified = await areas.backups.verify(self.tenant, each.backup_id, any_tenant=False)
            assert not verified.damages, verified.damages
        return len(listed)


def writers(seed: int, *, operations: int, each: int) -> list[Writer]:
    """Some of every kind; every other one of another tenant."""
    kinds = (SessionWriter, ArtifactWriter, EventWriter, JournalWriter)
    made: list[Writer] = [
        kind(seed, number, operations) for kind in kinds for number in range(each)
    ]
    made.append(MigrationWriter(seed, 0, max(2, operations // 6)))
    made.append(BackupWriter(seed, 0, max(2, operations // 8)))
    return made


async def check_all(areas: Areas, made: Sequence[Writer], done: Sequence[int], most: int) -> None:
    """What each writer's operations left; at most so many more of them than were acknowledged."""
    await asyncio.gather(
        *(each.check(areas, count, count + most) for each, count in zip(made, done, strict=True))
    )


def _writes(
    scope: str, before: dict[str, bytes], after: dict[str, bytes], kind: Encoding = Encoding.RAW
) -> list[Write]:
    gone = [Write(scope, key, None) for key in before if key not in after]
    return gone + [Write(scope, key, Value(kind, content)) for key, content in after.items()]


async def _contents(areas: Areas, tenant: str, scope: str) -> dict[str, bytes]:
    page = await areas.items.list(tenant, scope, limit=1000)
    assert page.after is None
    return {item.key: item.value.content for item in page.items if item.value is not None}


def _form(version: int) -> dict[str, bytes]:
    return {
        f"o{number:02d}": json.dumps({f"f{version}": number}, separators=(",", ":")).encode()
        for number in range(MIGRATED_ITEMS)
    }


def _bytes(number: int) -> bytes:
    """The contents of artifacts: small ones, and one of more than a page of a few kilobytes."""
    return random.Random(f"content {number}").randbytes((20, 900, 5000, 12_000, 40_000, 0)[number])


def _short(found: Any, wanted: Any) -> str:
    return f"{str(found)[:400]} is there, {str(wanted)[:400]} was to be"
