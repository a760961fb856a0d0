"""services.state.layout."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.limits import SCOPE_BYTES_MAX, STATE_KEY_BYTES_MAX, TENANT_ID_LENGTH_MAX
from services.state.layout import SCHEMA, tenant_prefix
from services.state.layout import items as layout
from services.state.layout.items import ChangeKind
from services.state.model import Encoding, Item, Value

names = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=1)
moments = st.integers(0, 2**63 - 2)
items = st.builds(
    Item,
    key=st.just("k"),
    value=st.builds(Value, st.sampled_from(Encoding), st.binary()),
    revision=st.integers(1, 2**64 - 1),
    create_time_ns=moments,
    update_time_ns=moments,
    expire_time_ns=st.none() | moments,
)


@given(items)
def test_item_reads_back(item):
    """Every item that can be written reads back equal."""
    assert layout.unpack_item("k", layout.pack_item(item)) == item


@given(names, names, names)
def test_key_reads_back(tenant, scope, key):
    """A stored key gives back its three parts."""
    stored = layout.item_key(tenant, scope, key)
    assert layout.split_item_key(stored) == (tenant, scope, key)
    assert stored.startswith(tenant_prefix(tenant))
    assert layout.split_expiry_key(layout.expiry_key(7, stored)) == (7, stored)


@given(names, names)
def test_no_tenant_is_the_beginning_of_another(one, other):
    """Ranges of two tenants never overlap."""
    stored = layout.item_key(other, "global", "k")
    assert stored.startswith(tenant_prefix(one)) == (one == other)


def test_layout_is_what_it_was():
    """The bytes on disk are those of schema 2; a change here needs a migration."""
    item = Item(
        key="k",
        value=Value(Encoding.TEXT, b"hi"),
        revision=3,
        create_time_ns=1,
        update_time_ns=2,
        expire_time_ns=None,
    )
    assert SCHEMA.version == 2
    assert layout.pack_item(item).hex() == (
        "020000000000000003000000000000000100000000000000027fffffffffffffff6869"
    )
    assert layout.item_key("acme", "user:u", "k") == b"acme\0user:u\0k"
    assert layout.expiry_key(5, b"acme\0user:u\0k").hex() == "0000000000000005" + (
        b"acme\0user:u\0k".hex()
    )
    place = layout.change_key("acme", 3, 1)
    assert place.hex() == b"acme\0".hex() + "000000000000000300000001"
    stored = layout.pack_change(ChangeKind.DELETE, 7, "user:u", "k")
    assert stored == b"\x02" + (7).to_bytes(8, "big") + b"user:u\0k"
    change = layout.unpack_change(place, stored)
    assert change == layout.Change(3, 1, ChangeKind.DELETE, 7, "acme", "user:u", "k")


def test_longest_key_fits_lmdb():
    """The limits leave every key within the 511 bytes that LMDB allows."""
    place = b"\0" * (TENANT_ID_LENGTH_MAX + SCOPE_BYTES_MAX + STATE_KEY_BYTES_MAX + 2)
    assert len(layout.expiry_key(0, place)) <= 511


def test_nul_is_never_part_of_a_name():
    """A NUL that got so far is a bug of ours, and stops."""
    for parts in (("a\0", "b", "c"), ("a", "b\0", "c"), ("a", "b", "c\0")):
        with pytest.raises(AssertionError):
            layout.item_key(*parts)
    with pytest.raises(AssertionError):
        tenant_prefix("a\0")
