"""What a role may do: no more than it says."""

import pytest

from services.common.access import METHODS
from services.common.errors import Reason, ServiceError
from services.gateway.roles import ROLES, checked_roles, permissions_of
from services.runtime.tools.toolbox import PERMISSIONS

KNOWN = {method.permission for method in METHODS.values()}


def test_roles_grow():
    """A writer may all that a reader may, an admin all that a writer may."""
    assert ROLES["reader"] < ROLES["writer"] < ROLES["admin"]


def test_a_reader_changes_nothing():
    """No method that writes is open to a reader, and scripts are not either."""
    assert all(permission.endswith(".read") for permission in ROLES["reader"])


@pytest.mark.parametrize("role", ROLES)
def test_no_role_is_the_operator(role):
    """Tenants, purges and the processes themselves are the operator's alone."""
    assert not ROLES[role] & {"*", "tenant.admin", "tenant.purge", "process.read", "vault.operate"}


def test_every_permission_of_a_role_is_asked_somewhere():
    """A role holds nothing that neither the contract nor a tool's level knows."""
    assert set().union(*ROLES.values()) <= KNOWN | set(PERMISSIONS.values())


def test_every_permission_is_somebodys():
    """What no role holds is on this short list, on purpose."""
    assert KNOWN - ROLES["admin"] == {
        "tenant.admin",
        "tenant.purge",
        "session.ends",
        "process.read",
        "provider.admin",
        "vault.operate",
        "audit.append",
        "audit.verify",
        "policy.admin",
    }


def test_roles_add_up():
    """Two roles allow what either allows; a role that is not known any more allows nothing."""
    assert set(permissions_of(["reader", "writer"])) == ROLES["writer"]
    assert permissions_of(["emperor"]) == ()
    assert permissions_of([]) == ()


def test_named_roles():
    """Doubles count once; no name means admin."""
    assert checked_roles(["reader", "reader", "admin"]) == ("reader", "admin")
    assert checked_roles([]) == ("admin",)


@pytest.mark.parametrize("role", ["", "Reader", "operator", "*", "reader "])
def test_an_unknown_role_is_refused(role):
    """Named, with those that are known."""
    with pytest.raises(ServiceError) as caught:
        checked_roles(["reader", role])
    assert caught.value.reason == Reason.FIELD_INVALID
    assert "reader, writer, admin" in caught.value.message
