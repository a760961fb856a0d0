"""Sessions: moves, items, artifacts, checkpoints taken and restored, ends that come by themselves.

A session that a kill left half deleted is gone from the first step on; what it had goes soon after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmspell.v1 import artifact_pb2, session_pb2, state_pb2

from tests.crash.ledgers.artifacts import content, digest
from tests.crash.ledgers.items import Ending, listed
from tests.crash.ledgers.ledger import Ledger, Stubs, Work, answered

ACTIVE, SUSPENDED, COMPLETED, FAILED, ARCHIVED = range(1, 6)
MOVES = {
    ACTIVE: (("Suspend", SUSPENDED), ("Complete", COMPLETED), ("Fail", FAILED)),
    SUSPENDED: (("Resume", ACTIVE), ("Complete", COMPLETED), ("Resume", ACTIVE)),
    COMPLETED: (("Archive", ARCHIVED),),
    FAILED: (("Archive", ARCHIVED),),
}
KEYS = ("a", "b", "c", "d", "e")
SIZES = (0, 40, 900, 6000)
SESSIONS_MAX = 3
CHECKPOINTS_MAX = 5
TIMEOUTS_S = (0.3, 1.0)
ERASED_S_MAX = 10
AUTOSAVE = "autosave"

Texts = Mapping[str, str]
Files = Mapping[str, int]
"""Names of artifacts, each with one version, and the numbers of their contents."""


@dataclass(frozen=True, slots=True)
class Known:
    """One session, as it was last known."""

    status: int
    texts: Texts
    files: Files
    checkpoints: Mapping[str, tuple[Texts, Files]]
    made: int = 0

    @property
    def summary(self) -> tuple[int, Texts, dict[str, str], dict[str, int]]:
        """What of it can be seen without a restore."""
        digests = {name: digest(number) for name, number in self.files.items()}
        counts = {key: len(texts) for key, (texts, _) in self.checkpoints.items()}
        return self.status, self.texts, digests, counts

    def taken(self, checkpoint_id: str) -> Known:
        """With one more checkpoint."""
        kept = {**self.checkpoints, checkpoint_id: (self.texts, self.files)}
        return replace(self, checkpoints=kept)

    def restored(self, checkpoint_id: str) -> Known:
        """With what a checkpoint has."""
        texts, files = self.checkpoints[checkpoint_id]
        return replace(self, texts=texts, files=files)


Sessions = dict[str, Known]


class SessionLedger(Ledger[Sessions]):
    """A few sessions of one client."""

    weight = 4

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, {})
        self.made = self.made_to_end = self.attached = 0
        self.endings: dict[str, Ending] = {}
        self.saving = ""
        """A session of which nobody knows whether it was saved."""

    def works(self) -> list[Work]:
        """See Ledger."""
        if not self._with(ACTIVE, SUSPENDED):
            return [self.create if len(self.known) < SESSIONS_MAX else self.delete]
        works: list[Work] = [
            self.write,
            self.write,
            self.attach,
            self.detach,
            self.save,
            self.checkpoint,
            self.checkpoint,
        ]
        works += [self.restore, self.restore, self.move, self.drop_checkpoint, self.expire]
        if len(self.known) < SESSIONS_MAX:
            works.append(self.create)
        else:
            works += [self.delete] * 2
        return works

    def _with(self, *statuses: int) -> list[str]:
        return [name for name, each in self.known.items() if each.status in statuses]

    def _after(self, name: str, known: Known) -> Sessions:
        return {**self.known, name: known}

    async def create(self, stubs: Stubs) -> None:
        """A new one, without times of its own."""
        self.made += 1
        name = f"c{self.number}-{self.made}"
        request = session_pb2.CreateSessionRequest(session_id=name, name=f"of {self.number}.")
        request.timeout.FromNanoseconds(0)
        request.auto_save.FromNanoseconds(0)
        after = self._after(name, Known(ACTIVE, {}, {}, {}))
        await self.ask(stubs.sessions.CreateSession, request, after)

    async def write(self, stubs: Stubs) -> None:
        """Items of a session."""
        name = self.rng.choice(self._with(ACTIVE, SUSPENDED))
        request, texts = state_pb2.BatchStateRequest(), dict(self.known[name].texts)
        for key in self.rng.sample(KEYS, self.rng.randint(1, 4)):
            write = request.writes.add(scope=f"session:{name}", key=key)
            if self.rng.random() < 0.3:
                write.delete = True
                texts.pop(key, None)
            else:
                texts[key] = write.set.text = f"{self.answers} " + "y" * self.rng.choice(SIZES)
        after = self._after(name, replace(self.known[name], texts=texts))
        await self.ask(stubs.state.BatchState, request, after)

    async def attach(self, stubs: Stubs) -> None:
        """An artifact, of a name of its own."""
        name, number = self.rng.choice(self._with(ACTIVE, SUSPENDED)), self.rng.randrange(3)
        before = self.known[name]
        self.attached += 1
        file = f"f{self.attached}"
        header = artifact_pb2.ArtifactHeader(scope=f"session:{name}", name=file)
        request = artifact_pb2.PutArtifactRequest(header=header, content=content(number))
        after = self._after(name, replace(before, files={**before.files, file: number}))
        await self.ask(stubs.artifacts.PutArtifact, request, after)

    async def detach(self, stubs: Stubs) -> None:
        """One goes; checkpoints that have it keep it."""
        choices = [
            (name, file)
            for name in self._with(ACTIVE, SUSPENDED)
            for file in self.known[name].files
        ]
        if not choices:
            await self.attach(stubs)
            return
        name, file = self.rng.choice(choices)
        before = self.known[name]
        left = {key: number for key, number in before.files.items() if key != file}
        choice = artifact_pb2.ArtifactChoice(scope=f"session:{name}", name=file)
        request = artifact_pb2.DeleteArtifactRequest(artifact=choice, all_versions=True)
        after = self._after(name, replace(before, files=left))
        await self.ask(stubs.artifacts.DeleteArtifact, request, after)

    async def save(self, stubs: Stubs) -> None:
        """The checkpoint that saving takes."""
        name = self.rng.choice(self._with(ACTIVE, SUSPENDED))
        self.saving = name
        await self.ask(
            stubs.sessions.SaveSession,
            session_pb2.SaveSessionRequest(session_id=name),
            self._after(name, self.known[name].taken(AUTOSAVE)),
        )
        self.saving = ""

    async def checkpoint(self, stubs: Stubs) -> None:
        """One that stays."""
        name = self.rng.choice(self._with(ACTIVE, SUSPENDED))
        before = self.known[name]
        if len(before.checkpoints) >= CHECKPOINTS_MAX:
            await self.drop_checkpoint(stubs)
            return
        number = before.made + 1
        answer = await self.ask(
            stubs.sessions.CreateCheckpoint,
            session_pb2.CreateCheckpointRequest(session_id=name, name="by a client"),
            self._after(name, replace(before.taken(f"c{number}"), made=number)),
        )
        assert answer.checkpoint.checkpoint_id == f"c{number}"
        assert answer.checkpoint.item_count == len(before.texts)

    async def restore(self, stubs: Stubs) -> None:
        """Exactly the items of a checkpoint are there afterwards, whatever there was."""
        choices = [
            (name, each)
            for name in self._with(ACTIVE, SUSPENDED)
            for each in self.known[name].checkpoints
        ]
        if not choices:
            await self.checkpoint(stubs)
            return
        name, checkpoint_id = self.rng.choice(choices)
        before = self.known[name]
        keep = self.rng.random() < 0.5 and len(before.checkpoints) < CHECKPOINTS_MAX
        after = before.restored(checkpoint_id)
        if keep:
            number = before.made + 1
            kept = before.taken(f"c{number}").checkpoints
            after = replace(after, checkpoints=kept, made=number)
        request = session_pb2.RestoreCheckpointRequest(
            session_id=name, checkpoint_id=checkpoint_id, keep_present=keep
        )
        await self.ask(stubs.sessions.RestoreCheckpoint, request, self._after(name, after))
        if self.reads:
            texts, files, _ = await self._contents(stubs, name)
            assert texts == after.texts, f"{name} is not what {checkpoint_id} was"
            assert files == after.summary[2], f"artifacts of {name} are not those of then"

    async def drop_checkpoint(self, stubs: Stubs) -> None:
        """One goes."""
        choices = [
            (name, each)
            for name in self._with(ACTIVE, SUSPENDED)
            for each in self.known[name].checkpoints
        ]
        if not choices:
            await self.write(stubs)
            return
        name, checkpoint_id = self.rng.choice(choices)
        before = self.known[name]
        left = {key: each for key, each in before.checkpoints.items() if key != checkpoint_id}
        request = session_pb2.DeleteCheckpointRequest(session_id=name, checkpoint_id=checkpoint_id)
        after = self._after(name, replace(before, checkpoints=left))
        await self.ask(stubs.sessions.DeleteCheckpoint, request, after)

    async def move(self, stubs: Stubs) -> None:
        """To another status."""
        name = self.rng.choice([each for each in self.known if self.known[each].status in MOVES])
        verb, status = self.rng.choice(MOVES[self.known[name].status])
        after = self._after(name, replace(self.known[name], status=status))
        request = getattr(session_pb2, f"{verb}SessionRequest")(session_id=name)
        answer = await self.ask(getattr(stubs.sessions, f"{verb}Session"), request, after)
        assert answer.session.status == status

    async def delete(self, stubs: Stubs) -> None:
        """One goes with all that it has."""
        name = self.rng.choice(list(self.known))
        after = {key: each for key, each in self.known.items() if key != name}
        request = session_pb2.DeleteSessionRequest(session_id=name)
        await self.ask(stubs.sessions.DeleteSession, request, after)

    async def expire(self, stubs: Stubs) -> None:
        """A session that is completed by itself."""
        self.made_to_end += 1
        name, ttl_s = f"e{self.number}-{self.made_to_end}", self.rng.choice(TIMEOUTS_S)
        request = session_pb2.CreateSessionRequest(session_id=name, name="ends by itself")
        request.timeout.FromNanoseconds(int(ttl_s * 1e9))
        self.endings[name] = ending = Ending(ttl_s, time.time())
        await self.ask(stubs.sessions.CreateSession, request)
        ending.answered = time.time()

    async def check(self, stubs: Stubs) -> None:
        """See Ledger."""
        found = await self._found(stubs)
        candidates = [self.known] if self.maybe is None else [self.known, self.maybe]
        fitting = [each for each in candidates if found == _summaries(each)]
        words = f"client {self.number} after {self.answers} answers, sessions: {found}"
        assert fitting, f"{words}, but {_summaries(self.known)}"
        self.known, self.maybe = fitting[-1], None
        if self.saving in self._with(ACTIVE, SUSPENDED):
            name, self.saving = self.saving, ""  # of both one cannot tell which it was
            after = self._after(name, self.known[name].taken(AUTOSAVE))
            request = session_pb2.SaveSessionRequest(session_id=name)
            await self.ask(stubs.sessions.SaveSession, request, after)
        await self._check_erased(stubs)
        await self._check_endings(stubs)

    async def _found(self, stubs: Stubs) -> dict[str, Any]:
        """All of its sessions, as `Known.summary`."""
        request = session_pb2.ListSessionsRequest(
            name_contains=f"of {self.number}.", page_size=1000
        )
        page = await stubs.sessions.ListSessions(request, metadata=self.metadata)
        assert not page.next_page_token
        found = {}
        for each in page.sessions:
            contents = await self._contents(stubs, each.session_id)
            assert each.checkpoint_count == len(contents[2])
            found[each.session_id] = (each.status, *contents)
        return found

    async def _contents(self, stubs: Stubs, name: str) -> tuple[Any, ...]:
        """Items, digests of artifacts, and how many items each checkpoint has."""
        scope = f"session:{name}"
        texts = await listed(stubs, self.metadata, scope)
        artifacts = artifact_pb2.ListArtifactsRequest(scope=scope, page_size=100)
        page = await answered(
            stubs.artifacts.ListArtifacts(artifacts, metadata=self.metadata, timeout=20)
        )
        checkpoints = session_pb2.ListCheckpointsRequest(session_id=name)
        answer = await answered(
            stubs.sessions.ListCheckpoints(checkpoints, metadata=self.metadata, timeout=20)
        )
        digests = {each.name: each.digest for each in page.artifacts}
        return texts, digests, {one.checkpoint_id: one.item_count for one in answer.checkpoints}

    async def _check_erased(self, stubs: Stubs) -> None:
        """What the last deleted session had goes, by the sweep where the call did not live to."""
        names = {f"c{self.number}-{n}" for n in range(max(1, self.made - 3), self.made + 1)}
        deadline = time.monotonic() + ERASED_S_MAX
        for name in names - set(self.known):
            while await listed(stubs, self.metadata, f"session:{name}"):
                assert time.monotonic() < deadline, f"items of {name}, which is gone, stay"
                await asyncio.sleep(0.02)

    async def _check_endings(self, stubs: Stubs) -> None:
        """Those that end by themselves have, at their time and not before."""
        for name, ending in list(self.endings.items()):
            if ending.answered is None:
                continue
            before = time.time()
            request = session_pb2.GetSessionRequest(session_id=name)
            answer = await answered(stubs.sessions.GetSession(request, metadata=self.metadata))
            if answer.session.status == ACTIVE:
                assert before <= ending.answered + ending.ttl_s, f"{name} lives on"
            else:
                assert answer.session.status == COMPLETED
                assert time.time() >= ending.sent + ending.ttl_s, f"{name} ended early"
                assert answer.session.end_reason == "expired"
                del self.endings[name]


def _summaries(sessions: Sessions) -> dict[str, Any]:
    return {name: each.summary for name, each in sessions.items()}
