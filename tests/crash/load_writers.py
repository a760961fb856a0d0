"""Writers of every area that never stop, and know what each of their answers left, by revision.

An answer names the revision at which its change was made, so what a writer's part of the store was
at any revision is known afterwards, and nothing about it is open once all calls were answered. A
journal's answer names none: there the revisions before and after the call say what can be.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import random
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from blake3 import blake3

from services.common.errors import ServiceError
from services.state.artifact_model import Choice, Draft
from services.state.event_model import NewEvent
from services.state.journal_model import Entry
from services.state.layout.events import split_sequence
from services.state.model import Encoding, Value, Write
from services.state.session_model import NewSession, Status
from tests.state_world import FullWorld

TENANTS = ("a", "b")
T = TypeVar("T")
Lines = Mapping[str, list[dict[str, Any]]]
"""File → its lines, of an export."""


class Writer(Generic[T]):
    """One area of one tenant, a call at a time."""

    def __init__(self, world: FullWorld, tenant: str, number: int, seed: int, nothing: T) -> None:
        """`nothing`: what it has before its first call."""
        self.world, self.tenant, self.number = world, tenant, number
        self.rng = random.Random(f"{seed} {tenant} {number}")
        self.known = nothing
        self._revisions = [0]
        self._states = [nothing]

    @property
    def answers(self) -> int:
        """How many calls were answered."""
        return len(self._revisions) - 1

    async def run(self, stop: asyncio.Event) -> None:
        """Write until told to stop; the last call is answered."""
        while not stop.is_set():
            await self.write()
            await asyncio.sleep(0)

    async def write(self) -> None:
        """The next call."""
        raise NotImplementedError

    def found(self, lines: Lines) -> T:
        """What an export has of this writer's."""
        raise NotImplementedError

    def kept(self, revision: int, after: T) -> None:
        """A call was answered: at this revision there is what is given."""
        assert revision >= self._revisions[-1], "revisions never go back"
        self.known = after
        self._revisions.append(revision)
        self._states.append(after)

    def at(self, revision: int) -> T:
        """What there was at a revision."""
        return self._states[bisect.bisect_right(self._revisions, revision) - 1]

    def check(self, lines: Lines, revision: int) -> None:
        """Compare an export with what there was at a revision.

        Raises:
            AssertionError: it is something else.
        """
        name = f"{type(self).__name__} of {self.tenant}"
        assert self.found(lines) == self.at(revision), f"{name} at revision {revision}"


Items = dict[str, tuple[str, int]]
"""Key → value and revision."""


class ItemWriter(Writer[Items]):
    """Items, batches, increments, deletions."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, {})
        self.scope = f"custom:w{self.number}"

    async def write(self) -> None:
        """See Writer."""
        act = self.rng.choice((self._set, self._batch, self._batch, self._delete, self._add))
        await act()

    def _text(self) -> str:
        return f"{self.answers} " + "x" * self.rng.choice((0, 20, 900, 9000))

    async def _set(self) -> None:
        key, text = f"k{self.rng.randrange(40)}", self._text()
        value = Value(Encoding.TEXT, text.encode())
        done = await self.world.items.set(self.tenant, self.scope, key, value)
        self.kept(done.revision, {**self.known, key: (text, done.revision)})

    async def _batch(self) -> None:
        after, writes, new = dict(self.known), [], {}
        for key in self.rng.sample([f"k{n}" for n in range(40)], self.rng.randint(2, 9)):
            text = None if self.rng.random() < 0.3 else self._text()
            value = None if text is None else Value(Encoding.TEXT, text.encode())
            writes.append(Write(self.scope, key, value))
            after.pop(key, None)
            if text is not None:
                new[key] = text
        done = await self.world.items.batch(self.tenant, [], writes)
        after |= {key: (text, done.revision) for key, text in new.items()}
        self.kept(done.revision, after)

    async def _delete(self) -> None:
        key = f"k{self.rng.randrange(40)}"
        done = await self.world.items.delete(self.tenant, self.scope, key)
        self.kept(done.revision, {k: each for k, each in self.known.items() if k != key})

    async def _add(self) -> None:
        done = await self.world.items.increment(self.tenant, self.scope, "n", 1)
        after = {**self.known, "n": (str(done.number), done.revision)}
        self.kept(done.revision, after)

    def found(self, lines: Lines) -> Items:
        """See Writer."""
        return {
            line["key"]: (line.get("text") or line.get("json") or "", line["revision"])
            for line in lines.get("items", [])
            if line["scope"] == self.scope
        }


Sessions = dict[str, tuple[str, dict[str, str], dict[str, dict[str, str]]]]
"""Session → status, items, checkpoint → items."""


class SessionWriter(Writer[Sessions]):
    """Sessions with items; checkpoints taken and restored; moves."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, {})

    async def write(self) -> None:
        """See Writer."""
        live = [name for name, each in self.known.items() if each[0] == "active"]
        if not live or (len(live) < 3 and self.rng.random() < 0.1):
            return await self._create()
        acts = (self._fill, self._fill, self._fill, self._checkpoint, self._restore, self._save)
        act = self._end if self.rng.random() < 0.02 else self.rng.choice(acts)
        return await act(self.rng.choice(live))

    async def _create(self) -> None:
        name = f"s{self.number}-{len(self.known)}"
        new = NewSession(session_id=name, auto_save_ns=0, metadata={"n": len(self.known)})
        done = await self.world.sessions.create(self.tenant, new)
        self.kept(done.revision, {**self.known, name: ("active", {}, {})})

    async def _fill(self, name: str) -> None:
        _, texts, checkpoints = self.known[name]
        new = {f"k{self.rng.randrange(9)}": f"{self.answers} " + "y" * 300 for _ in range(3)}
        scope = f"session:{name}"
        writes = [Write(scope, key, Value(Encoding.TEXT, t.encode())) for key, t in new.items()]
        done = await self.world.items.batch(self.tenant, [], writes)
        self.kept(done.revision, {**self.known, name: ("active", texts | new, checkpoints)})

    async def _checkpoint(self, name: str) -> None:
        if len(self.known[name][2]) > 8:
            await self._end(name)
            return
        done = await self.world.sessions.create_checkpoint(self.tenant, name)
        self._taken(name, done.session.revision, done.checkpoint.checkpoint_id)

    async def _save(self, name: str) -> None:
        done = await self.world.sessions.save(self.tenant, name)
        self._taken(name, done.session.revision, done.checkpoint.checkpoint_id)

    def _taken(self, name: str, revision: int, checkpoint_id: str) -> None:
        _, texts, checkpoints = self.known[name]
        after = ("active", texts, {**checkpoints, checkpoint_id: texts})
        self.kept(revision, {**self.known, name: after})

    async def _restore(self, name: str) -> None:
        checkpoints = self.known[name][2]
        if not checkpoints:
            await self._checkpoint(name)
            return
        chosen = self.rng.choice(sorted(checkpoints))
        done = await self.world.sessions.restore_checkpoint(self.tenant, name, chosen)
        after = ("active", checkpoints[chosen], checkpoints)
        self.kept(done.session.revision, {**self.known, name: after})

    async def _end(self, name: str) -> None:
        done = await self.world.sessions.move(self.tenant, name, Status.COMPLETED)
        self.kept(done.revision, {**self.known, name: ("completed", *self.known[name][1:])})

    def found(self, lines: Lines) -> Sessions:
        """See Writer."""
        mine = f"s{self.number}-"
        return {
            line["session_id"]: (
                line["status"],
                _texts(lines, "items", scope=f"session:{line['session_id']}"),
                {
                    each["checkpoint_id"]: _texts(
                        lines,
                        "checkpoint_items",
                        session_id=line["session_id"],
                        checkpoint_id=each["checkpoint_id"],
                    )
                    for each in lines.get("checkpoints", [])
                    if each["session_id"] == line["session_id"]
                },
            )
            for line in lines.get("sessions", [])
            if line["session_id"].startswith(mine)
        }


Artifacts = dict[str, dict[int, str]]
"""Name → version → digest."""


class ArtifactWriter(Writer[Artifacts]):
    """Artifacts, some of the same bytes; versions and deletions."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, {})
        self.scope = f"custom:art{self.number}"

    async def write(self) -> None:
        """See Writer."""
        if self.known and self.rng.random() < 0.3:
            name = self.rng.choice(sorted(self.known))
            choice = Choice(scope=self.scope, name=name)
            done = await self.world.artifacts.delete(self.tenant, choice, all_versions=True)
            left = {key: each for key, each in self.known.items() if key != name}
            return self.kept(done.revision, left)
        name, content = f"n{self.rng.randrange(6)}", self._content()
        draft = Draft(scope=self.scope, name=name, tags=("t",))
        done = await self.world.artifacts.store(self.tenant, draft, [content])
        assert done.artifact.digest == blake3(content).digest()
        versions = {**self.known.get(name, {}), done.artifact.version: done.artifact.digest.hex()}
        return self.kept(done.revision, {**self.known, name: versions})

    def _content(self) -> bytes:
        number = self.rng.randrange(30)
        return random.Random(number).randbytes(self.rng.choice((0, 10, 4000, 300_000)))

    def found(self, lines: Lines) -> Artifacts:
        """See Writer."""
        found: Artifacts = {}
        for line in lines.get("artifacts", []):
            if line["scope"] == self.scope:
                found.setdefault(line["name"], {})[line["version"]] = line["digest"]
        return found


class EventWriter(Writer[tuple[int, ...]]):
    """Events with numbers that follow each other."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, ())

    async def write(self) -> None:
        """See Writer."""
        begin = len(self.known)
        numbers = tuple(range(begin, begin + self.rng.choice((1, 2, 20))))
        events = [NewEvent(f"work.c{self.number}", json.dumps(number)) for number in numbers]
        done = await self.world.events.publish(self.tenant, events)
        self.kept(split_sequence(done.first_sequence)[0], self.known + numbers)

    def found(self, lines: Lines) -> tuple[int, ...]:
        """See Writer."""
        events = [event for line in lines.get("events", []) for event in line["events"]]
        mine = [each for each in events if each["type"] == f"work.c{self.number}"]
        return tuple(json.loads(each["json"]) for each in mine)


class JournalWriter(Writer[int]):
    """Calls at the end of a journal. Which revision an answer took is between two."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, 0)
        self.session = f"j{self.number}"
        self._begun = [0]

    async def write(self) -> None:
        """See Writer."""
        before = self._revision()
        count = self.rng.randint(1, 4)
        calls = [
            Entry(self.known + n + 1, "m", b"%d" % (self.known + n), b"z" * 300, "", "", 1, 2, "")
            for n in range(count)
        ]
        journal = await self.world.journals.append(self.tenant, self.session, calls)
        self._begun.append(before)
        self.kept(self._revision(), journal.count)

    def _revision(self) -> int:
        with self.world.keeper.engine.read() as view:
            return view.revision()

    def found(self, lines: Lines) -> int:
        """See Writer."""
        calls = [line for line in lines.get("journal", []) if line["session_id"] == self.session]
        assert [line["sequence"] for line in calls] == list(range(1, len(calls) + 1))
        return len(calls)

    def check(self, lines: Lines, revision: int) -> None:
        """See Writer."""
        most = self._states[bisect.bisect_left(self._begun, revision) - 1]
        assert self.at(revision) <= self.found(lines) <= max(most, self.at(revision))


def _texts(lines: Lines, file: str, **place: str) -> dict[str, str]:
    return {
        line["key"]: line["text"]
        for line in lines.get(file, [])
        if all(line[name] == value for name, value in place.items())
    }


AREAS = (ItemWriter, SessionWriter, ArtifactWriter, EventWriter, JournalWriter)


def writers_of(world: FullWorld, seed: int, *, each: int = 1) -> list[Writer[Any]]:
    """So many of each area, of each tenant."""
    numbers = range(each)
    return [kind(world, t, number, seed) for t in TENANTS for number in numbers for kind in AREAS]


async def swept(world: FullWorld, stop: asyncio.Event) -> None:
    """Collect what artifacts have let go of, while writers write."""
    while not stop.is_set():
        try:
            await world.artifacts.sweep()
        except ServiceError:
            return
        await asyncio.sleep(0.01)
