"""What holds of sessions and checkpoints after every commit."""

from __future__ import annotations

from collections import Counter, defaultdict

from services.state.layout import (
    CHECKPOINT_ARTIFACTS,
    CHECKPOINT_ITEMS,
    CHECKPOINTS,
    SESSION_DUE,
    SESSION_ENDS,
    SESSION_ORDER,
    SESSIONS,
)
from services.state.layout import sessions as layout
from services.state.layout.artifacts import unpack_artifact
from services.state.layout.items import ChangeKind, unpack_item
from services.state.layout.sessions import Due

OF_THE_RECORD = {kind for kind in ChangeKind if kind.name.startswith(("SESSION_", "CHECKPOINT_"))}
"""Changes that write a session's record."""


def check_sessions(view, changes, kept):
    """Records, both indexes, checkpoints with their items, notes of ends, and the feed agree."""
    sessions = {
        layout.split_session_key(place): layout.unpack_session(stored)
        for place, stored in view.scan(SESSIONS, b"")
    }
    revision = view.revision()
    for (_, session_id), session in sessions.items():
        assert session.session_id == session_id
        assert session.revision <= revision
    erased = check_indexes(view, sessions)
    check_checkpoints(view, sessions, erased)
    check_told(sessions, changes, kept)
    for place, stored in view.scan(SESSION_ENDS, b""):
        assert layout.unpack_end(place, stored).revision <= revision


def check_indexes(view, sessions):
    """The order and what is due are those of the records; sessions that are still to be erased."""
    order = {
        layout.order_key(tenant, session.create_time_ns, session_id)
        for (tenant, session_id), session in sessions.items()
    }
    assert set(view.keys(SESSION_ORDER, b"")) == order, "an order of other sessions"
    entries = [layout.split_due_key(place) for place in view.keys(SESSION_DUE, b"")]
    due = {
        layout.split_due_key(place)
        for (tenant, _), session in sessions.items()
        for place in layout.due_keys(tenant, session)
    }
    assert {each for each in entries if each[0] is not Due.ERASE} == due, "due for no session"
    return {each[2:] for each in entries if each[0] is Due.ERASE}


def check_checkpoints(view, sessions, erased):
    """Each has the items it counts; each session has those it counts, nobody else has any."""
    checkpoints, counts = {}, Counter()
    for place, stored in view.scan(CHECKPOINTS, b""):
        tenant, session_id, checkpoint_id = place.decode().split("\0")
        checkpoint = layout.unpack_checkpoint(stored)
        assert checkpoint.checkpoint_id == checkpoint_id
        assert checkpoint.revision <= view.revision()
        checkpoints[tenant, session_id, checkpoint_id] = checkpoint
        counts[tenant, session_id] += 1
    for owner in set(counts) - set(sessions):
        assert owner in erased, f"checkpoints of no session: {owner}"
    for owner, session in sessions.items():
        assert session.checkpoint_count == counts[owner], f"checkpoints of {owner}"
    held, artifacts = held_items(view), held_artifacts(view)
    for place in set(held) | set(artifacts) | set(checkpoints):
        if place[:2] in erased and place[:2] not in sessions:
            continue
        assert place in checkpoints, f"items of no checkpoint: {place}"
        checkpoint = checkpoints[place]
        wanted = (checkpoint.item_count, checkpoint.size_bytes)
        assert held.get(place, (0, 0)) == wanted, f"half a checkpoint: {place}"
        assert artifacts[place] == checkpoint.artifact_count, f"half a checkpoint: {place}"


def held_items(view):
    """How many items each checkpoint has, and their bytes; each can be read."""
    held = defaultdict(lambda: (0, 0))
    for place, stored in view.scan(CHECKPOINT_ITEMS, b""):
        tenant, session_id, checkpoint_id, key = place.decode().split("\0")
        unpack_item(key, stored)
        count, size = held[tenant, session_id, checkpoint_id]
        held[tenant, session_id, checkpoint_id] = count + 1, size + len(key.encode()) + len(stored)
    return dict(held)


def held_artifacts(view):
    """How many artifacts each checkpoint has; each can be read, and is what its key says."""
    held = Counter()
    for place, stored in view.scan(CHECKPOINT_ARTIFACTS, b""):
        known = layout.split_checkpoint_artifact_key(place)
        artifact = unpack_artifact(stored)
        assert (artifact.sequence, artifact.digest) == known
        head = place[: -len(b"\0") - 8 - len(known.digest)]
        held[tuple(head.decode().split("\0"))] += 1
    return held


def check_told(sessions, changes, kept):
    """The last change of each session is the one that wrote its record, or its removal."""
    last = {}
    for change in changes:
        owner = change.tenant, change.scope.removeprefix("session:")
        if change.kind in OF_THE_RECORD:
            last[owner] = change
        elif change.kind is ChangeKind.PURGE and not change.scope:
            last = {other: each for other, each in last.items() if other[0] != change.tenant}
    for owner, session in sessions.items():
        if session.revision > kept[owner[0]].compacted_revision:
            assert owner in last, f"a session without its change record: {owner}"
    for owner, change in last.items():
        if change.kind is ChangeKind.SESSION_DELETE:
            assert owner not in sessions, f"a session that its change record says has gone: {owner}"
        else:
            assert owner in sessions, f"a change record without its session: {owner}"
            assert sessions[owner].revision == change.revision, f"another change of {owner}"
