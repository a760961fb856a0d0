"""The sealed context: whole, fresh and ours, or refused."""

import pytest

from services.common.clock import FakeClock
from services.common.context import (
    KEY_BYTES,
    CallContext,
    Seal,
    derive_key,
    is_tenant_id,
    new_request_id,
    read_key,
)
from services.common.errors import Reason, ServiceError
from services.common.limits import CONTEXT_DEPTH_MAX
from services.common.scopes import SYSTEM_TENANT

KEY = bytes(range(KEY_BYTES))
CALLER = CallContext(
    tenant="acme", principal="k1", permissions=("state.read",), request_id="r1", any_tenant=False
)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def seal(clock):
    return Seal(KEY, clock)


def refused(seal, sealed):
    with pytest.raises(ServiceError) as caught:
        seal.open(sealed)
    assert caught.value.reason == Reason.CONTEXT_INVALID
    return caught.value


def test_a_context_comes_out_as_it_went_in(seal):
    """Everything that is known of a caller survives the seal; depth grows by one."""
    opened = seal.open(seal.seal(CALLER, lifetime_s=10))
    assert opened.tenant == "acme"
    assert opened.principal == "k1"
    assert opened.permissions == ("state.read",)
    assert opened.request_id == "r1"
    assert not opened.any_tenant
    assert opened.depth == 1


def test_every_changed_bit_is_refused(seal):
    """No bit of a sealed context may change, be it of the tag or of the body."""
    sealed = seal.seal(CALLER, lifetime_s=10)
    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 1 << (position % 8)
        refused(seal, bytes(damaged))


def test_every_shorter_form_is_refused(seal):
    """A context that was cut off anywhere, or goes on, is refused."""
    sealed = seal.seal(CALLER, lifetime_s=10)
    for length in range(len(sealed)):
        refused(seal, sealed[:length])
    refused(seal, sealed + b" ")


def test_another_key_is_refused(seal, clock):
    """A context sealed with another key is a forgery."""
    refused(seal, Seal(bytes(KEY_BYTES), clock).seal(CALLER, lifetime_s=10))


def test_it_ends_at_its_time(seal, clock):
    """A context is good until its last nanosecond, and not in the next."""
    sealed = seal.seal(CALLER, lifetime_s=10)
    clock.advance(10 - 1e-6)
    seal.open(sealed)
    clock.advance(1e-6)
    refused(seal, sealed)


def test_loops_end(seal):
    """A call that comes round and round is refused after a few doors."""
    context = CALLER
    for _ in range(CONTEXT_DEPTH_MAX):
        context = seal.open(seal.seal(context, lifetime_s=10))
    refused(seal, seal.seal(context, lifetime_s=10))


def test_the_refusals_do_not_tell_why(seal, clock):
    """Forged, damaged and expired get the same words."""
    expired = seal.seal(CALLER, lifetime_s=-1)
    forged = Seal(bytes(KEY_BYTES), clock).seal(CALLER, lifetime_s=1)
    words = {refused(seal, sealed).message for sealed in (b"", b"x" * 50, expired, forged)}
    assert len(words) == 1


def test_a_sealed_body_that_is_no_context_is_refused(seal):
    """Even with our tag, a body of another shape is refused and not raised as something else."""
    for body in (b"", b"null", b"[]", b"{}", b'{"tenant":1}', b"\xff"):
        refused(seal, seal._tag(body) + body)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(clock, length):
    """The key is 32 bytes and nothing else."""
    with pytest.raises(ValueError, match="32 bytes"):
        Seal(bytes(length), clock)


def test_derived_keys_differ():
    """Each purpose has its own key, none of them the key that it came from."""
    keys = {KEY, derive_key(KEY, "page tokens"), derive_key(KEY, "other")}
    assert len(keys) == 3
    assert derive_key(KEY, "other") == derive_key(KEY, "other")


def test_who_may_act_for_whom():
    """A tenant's caller acts for its tenant only; the operator for all."""
    assert CALLER.may_act_for("acme")
    assert not CALLER.may_act_for("globex")
    operator = CallContext(tenant="", principal="operator", permissions=("*",), any_tenant=True)
    assert operator.may_act_for("globex")
    assert operator.acting_for("globex").tenant == "globex"


def test_request_ids_are_new_each_time():
    """Two request ids are never the same, and are plain text."""
    ids = {new_request_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(text.isalnum() and text.isascii() for text in ids)


@pytest.mark.parametrize("text", ["a", "acme", "a-b_c", "0", "a" * 63])
def test_tenant_ids(text):
    """Lower-case letters, digits, `_` and `-`, at most 63."""
    assert is_tenant_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        SYSTEM_TENANT,
        "_",
        "-a",
        "Acme",
        "a" * 64,
        "a b",
        "a\n",
        "a\x00b",
        "a/b",
        "a:b",
        "..",
        "acmé",
        "acme\u0661",
        "аcme",  # noqa: RUF001  (Cyrillic, on purpose)
    ],
)
def test_no_tenant_ids(text):
    """The system's own id, what looks like another one, and what could split a key are none."""
    assert not is_tenant_id(text)


def test_the_key_is_read_from_its_file(tmp_path):
    """64 hexadecimal digits, with or without a line end."""
    file = tmp_path / "key"
    file.write_text(KEY.hex() + "\n")
    assert read_key(file) == KEY


@pytest.mark.parametrize("content", [b"", b"ab", b"zz" * 32, b"ab" * 33, b"\xff" * 64])
def test_a_bad_key_file_is_named_but_not_shown(tmp_path, content):
    """The error names the file; nothing of what is in it is shown."""
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ServiceError) as caught:
        read_key(file)
    assert caught.value.reason == Reason.CONFIG_INVALID
    assert str(file) in caught.value.message
    if len(content) > 2:
        assert content.decode("latin-1") not in caught.value.message


def test_a_missing_key_file_is_named(tmp_path):
    """Which file, and what to do."""
    with pytest.raises(ServiceError, match=r"none.*openssl"):
        read_key(tmp_path / "none")
