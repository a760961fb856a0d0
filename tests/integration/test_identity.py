"""Credentials against the four processes: scopes, ends, rotation, tokens, grants, and streams."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from llmspell import Client, InvalidArgument, PermissionDenied, Unauthenticated
from llmspell.errors import NotFound

WITHIN_S = 8
"""A second for what is remembered and half a one for the next look, on a machine that is busy."""


@pytest.fixture(scope="module")
def operator(deployment):
    deployment.tenant("keys")
    with Client(deployment.address, deployment.operator_key) as client:
        yield client


def client(deployment, key, **more):
    return Client(deployment.address, key, **more)


def eventually_refused(call):
    """The refusal that comes within the time that is promised; other answers may come before."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        try:
            call()
        except Unauthenticated as error:
            return error
        time.sleep(0.05)
    raise AssertionError("it was never refused")


def test_scopes_narrow_a_key(deployment, operator):
    """It has what is named, of what its roles give, and may ask who it is."""
    made = operator.create_key("keys", roles=["writer"], scopes=["state.read", "vector.read"])
    assert made.api_key.scopes == ("state.read", "vector.read")
    with client(deployment, made.key) as narrow:
        assert narrow.who_am_i().permissions == ("self.read", "state.read", "vector.read")
        assert list(narrow.list_state(prefix="nothing")) == []
        with pytest.raises(PermissionDenied):
            narrow.set_state("x", 1)
    for scopes in (["state.write"], ["no.such"], ["*"], ["STATE.READ"], [""]):
        with pytest.raises(InvalidArgument, match="scopes"):
            operator.create_key("keys", roles=["reader"], scopes=scopes)


def test_a_key_ends_when_it_was_said_to(deployment, operator):
    """Good before, refused after, though it was remembered as good a moment ago."""
    end = datetime.now(UTC) + timedelta(seconds=2)
    made = operator.create_key("keys", expire_time=end)
    with client(deployment, made.key) as short:
        assert abs((short.who_am_i().expire_time - end).total_seconds()) < 1e-3
        while datetime.now(UTC) < end:
            last = datetime.now(UTC)
            try:
                short.who_am_i()
            except Unauthenticated:
                assert datetime.now(UTC) >= end
        assert last < end
        with pytest.raises(Unauthenticated, match="expired"):
            short.who_am_i()
    with pytest.raises(InvalidArgument, match="expire_time"):
        operator.create_key("keys", expire_time=datetime.now(UTC) - timedelta(seconds=1))


def test_rotation_overlaps(deployment, operator):
    """Both secrets are good for a while, under one id; then the new one alone."""
    first = operator.create_key("keys", roles=["reader"])
    second = operator.rotate_key(first.api_key.key_id, overlap_s=2)
    assert second.api_key.key_id == first.api_key.key_id
    assert second.key != first.key
    for key in (first.key, second.key):
        with client(deployment, key) as each:
            assert each.who_am_i().principal == first.api_key.key_id
    with client(deployment, first.key) as old, client(deployment, second.key) as new:
        eventually_refused(old.who_am_i)
        assert new.who_am_i().tenant_id == "keys"
    third = operator.rotate_key(first.api_key.key_id, overlap_s=0)
    with client(deployment, second.key) as old, client(deployment, third.key) as new:
        eventually_refused(old.who_am_i)
        assert new.who_am_i().tenant_id == "keys"
    with pytest.raises(NotFound):
        operator.rotate_key("nosuchkey")


def test_the_last_use_is_kept(deployment, operator):
    """In the background, within some seconds; a key that was never used has none."""
    made = operator.create_key("keys")
    operator.create_key("keys", display_name="unused")
    with client(deployment, made.key) as used:
        used.who_am_i()
    deadline = time.monotonic() + 15
    found = {}
    while time.monotonic() < deadline and found.get(made.api_key.key_id) is None:
        found = {key.key_id: key.last_use_time for key in operator.list_keys("keys")}
        time.sleep(0.2)
    assert abs((datetime.now(UTC) - found[made.api_key.key_id]).total_seconds()) < 60
    unused = [key for key in operator.list_keys("keys") if key.display_name == "unused"]
    assert [key.last_use_time for key in unused] == [None]


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_stream_ends_with_its_key(deployment, operator, how):
    """Within two seconds or so, with CREDENTIAL_INVALID; another key's goes on."""
    end = datetime.now(UTC) + timedelta(seconds=3) if how == "expired" else None
    made, other = operator.create_key("keys", expire_time=end), operator.create_key("keys")
    ended, changes = [], []

    def watch(key, into):
        try:
            with client(deployment, key, timeout_s=60) as watching:
                changes.extend(watching.watch_state(prefix=f"{how}-"))
        except Unauthenticated as error:
            into.append(error.reason)
        except Exception as error:  # noqa: BLE001  (of the one that goes on until the test ends)
            into.append(type(error).__name__)

    goes_on = []
    threads = [
        threading.Thread(target=watch, args=each, daemon=True)
        for each in ((made.key, ended), (other.key, goes_on))
    ]
    for thread in threads:
        thread.start()
    time.sleep(1)
    assert not ended
    if how == "revoked":
        operator.revoke_key(made.api_key.key_id)
    threads[0].join(WITHIN_S)
    assert ended == ["CREDENTIAL_INVALID"]
    assert not goes_on
    operator.revoke_key(other.api_key.key_id)
    threads[1].join(WITHIN_S)
    assert goes_on == ["CREDENTIAL_INVALID"]


def test_tokens(deployment, operator):
    """A token does what its key may, narrower where it was asked for, at every process."""
    made = operator.create_key("keys", roles=["writer"])
    with client(deployment, made.key) as full:
        full.set_state("greeting", "hello")
        token = full.exchange_token(scopes=["state.read"], lifetime_s=60)
        assert token.permissions == ("self.read", "state.read")
        here = full.exchange_token(scopes=["state.read"], audience=["state"]).token
        with pytest.raises(InvalidArgument, match="audience"):
            full.exchange_token(audience=["nobody"])
        with pytest.raises(InvalidArgument, match="scopes"):
            full.exchange_token(scopes=["tenant.admin"])
        with pytest.raises(InvalidArgument, match="lifetime"):
            full.exchange_token(lifetime_s=301)
    left = (token.expire_time - datetime.now(UTC)).total_seconds()
    assert 0 < left <= 60
    inner = deployment.inner_address("state")
    for address, text in (
        (deployment.address, token.token),
        (inner, token.token),
        (inner, here),
    ):
        with Client(address, text) as bearer:
            assert bearer.get_state("greeting").value == "hello"
            with pytest.raises(PermissionDenied):
                bearer.set_state("greeting", "changed")
    for address, text in (
        (deployment.address, here),
        (inner, made.key),
        (inner, token.token[:-2] + "AA"),
    ):
        with Client(address, text) as bearer, pytest.raises(Unauthenticated):
            bearer.get_state("greeting")
    with Client(deployment.inner_address("vector"), here) as bearer, pytest.raises(Unauthenticated):
        bearer.stats()
    operator.revoke_key(made.api_key.key_id)
    with Client(deployment.address, token.token) as bearer:
        eventually_refused(lambda: bearer.get_state("greeting"))


def test_a_token_and_its_streams_end(deployment, operator):
    """At a process that was called directly, by themselves."""
    with client(deployment, operator.create_key("keys").key) as full:
        text = full.exchange_token(lifetime_s=2).token
    with Client(deployment.inner_address("state"), text, timeout_s=30) as bearer:
        assert list(bearer.list_state(prefix="nothing")) == []
        with pytest.raises(Unauthenticated, match="expired"):
            list(bearer.watch_state(prefix="nothing"))
        with pytest.raises(Unauthenticated, match="expired"):
            bearer.get_state("greeting")


def test_the_operator_sees_no_data_until_it_is_let_in(deployment, operator):
    """Then what the grant says, of that tenant, until it ends."""
    name = deployment.tenant("let-in")  # no other test has let the operator in there
    with client(deployment, deployment.keys[name]) as tenant:
        tenant.set_state("secret", 42)
    with client(deployment, deployment.operator_key, tenant=name) as acting:
        for call in (
            lambda: acting.get_state("secret"),
            lambda: list(acting.run("return 1")),
            lambda: b"".join(acting.export_tenant()),
        ):
            with pytest.raises(PermissionDenied) as caught:
                call()
            assert caught.value.reason == "GRANT_REQUIRED"
        grant = operator.grant_access(name, reason="ticket 4711", duration_s=60)
        assert acting.get_state("secret").value == 42
        with pytest.raises(PermissionDenied):
            acting.set_state("secret", 1)
        shown = [each for each in operator.list_grants(name) if each.grant_id == grant.grant_id]
        assert [(each.reason, each.ended) for each in shown] == [("ticket 4711", False)]
        assert operator.end_grant(name, grant.grant_id) == 1
        with pytest.raises(PermissionDenied):
            acting.get_state("secret")
        assert next(iter(operator.list_grants(name))).ended
    with pytest.raises(InvalidArgument, match="reason"):
        operator.grant_access(name, reason=" ")
    with pytest.raises(NotFound):
        operator.grant_access("nobody", reason="x")


def test_the_operators_key_is_not_exchanged(deployment, operator):
    """It would outlive the grants that it needs."""
    operator.grant_access("keys", reason="to try", duration_s=60)
    with (
        client(deployment, deployment.operator_key, tenant="keys") as acting,
        pytest.raises(PermissionDenied),
    ):
        acting.exchange_token()
