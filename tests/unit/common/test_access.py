"""Who may call what: nobody, unless the contract names a permission and the caller holds it."""

import dataclasses

import pytest

from services.common.access import METHODS, decide
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError

GET = METHODS["/llmspell.v1.StateService/GetState"]
WHO = METHODS["/llmspell.v1.TenantService/WhoAmI"]


def caller(*permissions, tenant="acme"):
    return CallContext(tenant=tenant, principal="k", permissions=permissions)


def refusal(context, method):
    with pytest.raises(ServiceError) as caught:
        decide(context, method)
    return caught.value


def test_the_permission_lets_through():
    """Who holds the method's permission may call it."""
    decide(caller("state.read"), GET)
    decide(caller("x", "state.read"), GET)


@pytest.mark.parametrize(
    "held",
    [(), ("state.write",), ("state",), ("state.read ",), ("State.Read",), ("",), ("state.*",)],
)
def test_anything_else_is_refused(held):
    """Permissions are compared whole; nothing is a pattern."""
    assert refusal(caller(*held), GET).reason == Reason.PERMISSION_DENIED


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_refuses_who_holds_nothing(method):
    """There is no method that needs no permission."""
    assert refusal(caller(), method).reason == Reason.PERMISSION_DENIED


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_who_may_do_everything_still_needs_a_tenant(method):
    """Without a tenant only the methods that say so can be called."""
    everything = caller("*", tenant="")
    if method.tenantless:
        decide(everything, method)
    else:
        assert refusal(everything, method).reason == Reason.TENANT_REQUIRED


@pytest.mark.parametrize("held", ["*", "", "state.read"])
def test_a_method_without_permission_is_nobodys(held):
    """Where the contract forgot the option, even the operator is refused."""
    forgotten = dataclasses.replace(GET, permission="")
    assert refusal(caller(held), forgotten).reason == Reason.PERMISSION_DENIED


def test_permission_is_asked_before_the_tenant():
    """Who may not call a method does not learn that it also lacks a tenant."""
    assert refusal(caller(tenant=""), GET).reason == Reason.PERMISSION_DENIED


def test_paths_are_those_of_the_wire():
    """A method is found by the path that gRPC gives, streams are known as such."""
    assert WHO.service == "llmspell.v1.TenantService"
    assert all(path == method.path for path, method in METHODS.items())
    streams = {method.descriptor.name for method in METHODS.values() if method.streams}
    assert streams >= {"RunScript", "ImportVectors", "ImportDocuments", "WatchState"}
    sent = {method.descriptor.name for method in METHODS.values() if method.request_streams}
    assert sent >= {"ImportVectors", "ImportDocuments"}
    assert sent <= streams
