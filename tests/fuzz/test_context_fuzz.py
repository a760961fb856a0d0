"""Any bytes at all where a sealed context should be: refused, and never anything else."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.clock import FakeClock
from services.common.context import CallContext, Seal
from services.common.errors import Reason, ServiceError

SEAL = Seal(bytes(range(32)), FakeClock())
GOOD = SEAL.seal(
    CallContext(tenant="acme", principal="k", permissions=("state.read",)), lifetime_s=10
)


def refused(sealed):
    with pytest.raises(ServiceError) as caught:
        SEAL.open(sealed)
    assert caught.value.reason == Reason.CONTEXT_INVALID


@given(st.binary(max_size=400))
@settings(max_examples=1000)
def test_any_bytes_are_refused(sealed):
    """Nobody makes a context without the key."""
    refused(sealed)


@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.binary(max_size=20))
@settings(max_examples=1000)
def test_any_change_of_a_good_one_is_refused(start, end, middle):
    """Cut, overwritten or lengthened anywhere."""
    sealed = GOOD[:start] + middle + GOOD[end:]
    if sealed == GOOD:
        SEAL.open(sealed)
    else:
        refused(sealed)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=1000)
def test_any_body_under_our_own_tag_is_a_context_or_refused(body):
    """Should another program seal with our key, what is no context is refused and no crash."""
    with contextlib.suppress(ServiceError):
        assert isinstance(SEAL.open(SEAL._tag(body) + body), CallContext)


tenants = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=63)


@given(
    st.builds(
        CallContext,
        tenant=tenants,
        principal=st.text(max_size=50),
        permissions=st.lists(st.text(max_size=20)).map(tuple),
        any_tenant=st.booleans(),
        request_id=st.text(max_size=64),
        depth=st.integers(0, 3),
    )
)
@settings(max_examples=300)
def test_every_context_comes_out_as_it_went_in(context):
    """Whatever the texts in it."""
    opened = SEAL.open(SEAL.seal(context, lifetime_s=10))
    assert opened.acting_for(context.tenant) == opened
    for name in ("tenant", "principal", "permissions", "any_tenant", "request_id"):
        assert getattr(opened, name) == getattr(context, name)
