"""services.state.own_events: what changes are called."""

import pytest

from services.state.layout.items import Change, ChangeKind
from services.state.own_events import OWN_EVENTS, own_event
from services.state.patterns import check_type


@pytest.mark.parametrize("kind", ChangeKind)
def test_every_change_is_an_event(kind):
    """No kind of change is without a type of its own; its event names what changed."""
    event = own_event(Change(3, 1, kind, 7, "acme", "session:s", "k"))
    check_type(event.type, "type")
    assert list(OWN_EVENTS.values()).count(event.type) == 1
    assert event.json == '{"scope":"session:s","key":"k","revision":3}'
    assert (event.own, event.time_ns, event.sequence) == (True, 7, 3 << 20 | 1)


def test_types_are_these():
    """What subscribers ask for does not change its name."""
    assert OWN_EVENTS[ChangeKind.SET] == "state.set"
    assert OWN_EVENTS[ChangeKind.SESSION_COMPLETE] == "session.completed"
    assert OWN_EVENTS[ChangeKind.SESSION_SUSPEND] == "session.suspended"
    assert OWN_EVENTS[ChangeKind.ARTIFACT_STORED] == "artifact.stored"
    assert OWN_EVENTS[ChangeKind.CHECKPOINT_RESTORE] == "checkpoint.restored"
