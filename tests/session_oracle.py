"""Sessions, their items, artifacts and checkpoints over plain dictionaries, for property tests.

Deliberately plain: a checkpoint is a copy, a restore puts the copy back, and nothing refers to
anything.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from services.common.errors import Reason, ServiceError
from services.state.session_model import AUTOSAVE, Status
from services.state.session_rules import ENDED, MOVES

TEN_MINUTES_NS = 600 * 10**9


@dataclass(frozen=True)
class Made:
    """One artifact."""

    sequence: int
    name: str
    version: int
    content: bytes


@dataclass
class Scope:
    """What a session has."""

    items: dict[str, tuple[bytes, int | None]] = field(default_factory=dict)
    """Content and end by key."""
    artifacts: list[Made] = field(default_factory=list)
    last_sequence: int = 0
    newest: dict[str, int] = field(default_factory=dict)
    """The highest version that a name had since it last had none."""

    def alive(self, now_ns: int) -> dict[str, tuple[bytes, int | None]]:
        """The items that are seen."""
        return {
            key: (content, end)
            for key, (content, end) in self.items.items()
            if end is None or end > now_ns
        }

    def keep(self, artifacts: list[Made]) -> None:
        """Have these artifacts; a name without any is forgotten."""
        self.artifacts = artifacts
        names = {each.name for each in artifacts}
        self.newest = {name: best for name, best in self.newest.items() if name in names}

    def add(self, made: Made) -> None:
        """Have one more."""
        self.artifacts.append(made)
        self.artifacts.sort(key=lambda each: each.sequence)
        self.newest[made.name] = max(self.newest.get(made.name, 0), made.version)
        self.last_sequence = max(self.last_sequence, made.sequence)


@dataclass
class Life:
    """One session."""

    retention_ns: int
    auto_save_ns: int
    due_ns: int | None
    status: Status = Status.ACTIVE
    delete_ns: int | None = None
    made: int = 0
    checkpoints: dict[str, tuple[dict, list[Made]]] = field(default_factory=dict)


class MemorySessions:
    """Sessions by tenant and id; what they have by the same."""

    def __init__(self, clock) -> None:
        self.clock = clock
        self.lives: dict[tuple[str, str], Life] = {}
        self.scopes: dict[tuple[str, str], Scope] = {}
        self.requests: dict[tuple[str, str], tuple] = {}

    def once(self, tenant, once, run):
        """What a request answers, or what it answered within the last ten minutes."""
        if once is None:
            return run()
        made = self.requests.get((tenant, once.request_id))
        if made is not None and made[0] + TEN_MINUTES_NS > self.clock.now_ns():
            if made[1] != once.digest:
                raise ServiceError(Reason.REQUEST_ID_REUSED, "")
            return made[2]
        answer = run()
        self.requests[tenant, once.request_id] = self.clock.now_ns(), once.digest, answer
        return answer

    def scope(self, owner) -> Scope:
        """What somebody has, or would have."""
        return self.scopes.setdefault(owner, Scope())

    def create(self, owner, retention_ns, auto_save_ns):
        """Begin a session."""
        if self._seen(owner) is not None:
            raise ServiceError(Reason.SESSION_EXISTS, "")
        if owner in self.lives:
            self._erase(owner)
        due_ns = self.clock.now_ns() + auto_save_ns if auto_save_ns else None
        self.lives[owner] = Life(retention_ns, auto_save_ns, due_ns)

    def move(self, owner, to):
        """Take a session to another status."""
        life = self._get(owner)
        if (life.status, to) not in MOVES:
            raise ServiceError(Reason.SESSION_TRANSITION_ILLEGAL, "")
        now_ns, life.status = self.clock.now_ns(), to
        life.due_ns = None
        if to is Status.ACTIVE and life.auto_save_ns:
            life.due_ns = now_ns + life.auto_save_ns
        elif to is Status.ARCHIVED:
            life.delete_ns = None
        elif to in ENDED and life.retention_ns:
            life.delete_ns = now_ns + life.retention_ns

    def delete(self, owner):
        """Remove a session, and what is in its scope in any case; whether it was seen."""
        seen = self._seen(owner) is not None
        self._erase(owner)
        return seen

    def set(self, owner, key, content, end_ns):
        """Write an item."""
        self.scope(owner).items[key] = (content, end_ns)

    def unset(self, owner, key):
        """Remove an item."""
        self.scope(owner).items.pop(key, None)

    def store(self, owner, name, content, keep_versions):
        """Add a version; name, version and sequence."""
        scope = self.scope(owner)
        version = scope.newest.get(name, 0) + 1
        if keep_versions:
            there = sorted(each.version for each in scope.artifacts if each.name == name)
            doomed = there[: max(0, len(there) + 1 - keep_versions)]
            scope.keep(
                [
                    each
                    for each in scope.artifacts
                    if each.name != name or each.version not in doomed
                ]
            )
        made = Made(scope.last_sequence + 1, name, version, content)
        scope.add(made)
        return made

    def unstore(self, owner, name, version):
        """Remove a version, or all where it is 0; how many."""
        scope = self.scope(owner)
        left = [
            each
            for each in scope.artifacts
            if each.name != name or version not in {0, each.version}
        ]
        removed = len(scope.artifacts) - len(left)
        scope.keep(left)
        return removed

    def save(self, owner):
        """Take the checkpoint that saving takes."""
        self._take(owner, self._going_on(owner), AUTOSAVE)
        return AUTOSAVE

    def checkpoint(self, owner):
        """Take a checkpoint; its id."""
        life = self._going_on(owner)
        life.made += 1
        self._take(owner, life, f"c{life.made}")
        return f"c{life.made}"

    def restore(self, owner, checkpoint_id, keep_present):
        """Put a checkpoint back; items and artifacts changed, and the checkpoint of before."""
        life = self._going_on(owner)
        if checkpoint_id not in life.checkpoints:
            raise ServiceError(Reason.CHECKPOINT_NOT_FOUND, "")
        items, artifacts = copy.deepcopy(life.checkpoints[checkpoint_id])
        before = self.checkpoint(owner) if keep_present else None
        scope, now_ns = self.scope(owner), self.clock.now_ns()
        there, items = scope.alive(now_ns), Scope(items=items).alive(now_ns)
        changed = sum(there.get(key) != item for key, item in items.items())
        changed += len(there.keys() - items.keys())
        scope.items = items
        kept = [each for each in scope.artifacts if each in artifacts]
        added = [each for each in artifacts if each not in kept]
        changed_artifacts = len(scope.artifacts) - len(kept) + len(added)
        scope.keep(kept)
        for each in added:
            scope.add(each)
        return changed, changed_artifacts, before

    def delete_checkpoint(self, owner, checkpoint_id):
        """Remove a checkpoint; whether it was there."""
        return self._get(owner).checkpoints.pop(checkpoint_id, None) is not None

    def sweep(self):
        """What time has made due."""
        now_ns = self.clock.now_ns()
        for owner, life in list(self.lives.items()):
            if life.delete_ns is not None and life.delete_ns <= now_ns:
                self._erase(owner)
            elif life.due_ns is not None and life.due_ns <= now_ns:
                life.due_ns = now_ns + life.auto_save_ns
                self._save_if_changed(owner, life)

    def purge(self, tenant):
        """Erase all of a tenant."""
        for kept in (self.lives, self.scopes, self.requests):
            for owner in [owner for owner in kept if owner[0] == tenant]:
                del kept[owner]

    def contents(self):
        """Every tenant and content that an artifact or a checkpoint has."""
        held = [(owner, scope.artifacts) for owner, scope in self.scopes.items()]
        for owner, life in self.lives.items():
            held += [(owner, artifacts) for _, artifacts in life.checkpoints.values()]
        return {(owner[0], each.content) for owner, artifacts in held for each in artifacts}

    def told(self, owner):
        """What a caller sees of a session: status and checkpoints; None where there is none."""
        life = self._seen(owner)
        if life is None:
            return None
        found = {
            checkpoint_id: (len(items), len(artifacts))
            for checkpoint_id, (items, artifacts) in life.checkpoints.items()
        }
        return life.status, found

    def _take(self, owner, life, checkpoint_id):
        scope = self.scope(owner)
        kept = scope.alive(self.clock.now_ns()), scope.artifacts
        life.checkpoints[checkpoint_id] = copy.deepcopy(kept)

    def _save_if_changed(self, owner, life):
        scope = self.scope(owner)
        now = scope.alive(self.clock.now_ns()), scope.artifacts
        if now != life.checkpoints.get(AUTOSAVE, ({}, [])):
            self._take(owner, life, AUTOSAVE)

    def _going_on(self, owner):
        life = self._get(owner)
        if life.status in ENDED:
            raise ServiceError(Reason.SESSION_ENDED, "")
        return life

    def _get(self, owner):
        life = self._seen(owner)
        if life is None:
            raise ServiceError(Reason.SESSION_NOT_FOUND, "")
        return life

    def _seen(self, owner):
        life = self.lives.get(owner)
        over = life is None or (
            life.delete_ns is not None and life.delete_ns <= self.clock.now_ns()
        )
        return None if over else life

    def _erase(self, owner):
        self.lives.pop(owner, None)
        self.scopes.pop(owner, None)
