"""A change record has the request id of the call that made it, where one did."""

import pytest

from services.state.layout.items import ChangeKind, change_key, pack_change, unpack_change
from services.state.own_events import own_event


@pytest.mark.parametrize("cause", ["", "r-1", "0123456789abcdef" * 4])
def test_a_record_comes_back_with_its_cause(cause):
    """With one and, as records of old are, without."""
    stored = pack_change(ChangeKind.SET, 7, "global", "k", cause)
    change = unpack_change(change_key("acme", 3, 0), stored)
    assert (change.scope, change.key, change.correlation_id) == ("global", "k", cause)
    assert own_event(change).correlation_id == cause
