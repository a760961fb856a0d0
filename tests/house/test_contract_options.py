"""Does the contract say of every method who may call it and whether it may be repeated?"""

import re

from llmspell.v1 import errors_pb2, options_pb2

from services.common.access import FILES, METHODS
from services.gateway.roles import DEFAULT_ROLE, ROLES
from services.gateway.server import OWNERS, POLICY_SERVICE, TENANT_SERVICE
from services.runtime.tools.toolbox import PERMISSIONS
from tests.house import tree

PROCESS_SERVICE = "llmspell.v1.ProcessService"
OPERATOR_ONLY = {
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


def test_every_file_with_a_service_is_known():
    """A service in a new .proto file is not forgotten by the doors."""
    declared = {
        path.stem
        for path in (tree.ROOT / "protos/llmspell/v1").glob("*.proto")
        if "\nservice " in path.read_text("utf-8")
    }
    assert declared == {
        file.DESCRIPTOR.name.split("/")[-1].removesuffix(".proto") for file in FILES
    }


def test_every_method_names_a_permission():
    """A method without the access option would be nobody's; none is."""
    assert [path for path, method in METHODS.items() if not method.permission] == []


def test_every_permission_is_some_roles_or_the_operators():
    """A permission misspelt in the contract, or by a level of tools, would lock everyone out."""
    known = set.union(*(set(held) for held in ROLES.values())) | OPERATOR_ONLY
    assert {method.permission for method in METHODS.values()} | set(PERMISSIONS.values()) == known


def test_every_method_says_whether_it_may_be_repeated():
    """Idempotency is set on each method, unknown included, so that it was thought about."""
    silent = [
        path
        for path, method in METHODS.items()
        if not method.descriptor.GetOptions().HasField("idempotency_level")
    ]
    assert silent == []


def test_every_reason_has_a_status():
    """A reason without a status could not travel."""
    for value in errors_pb2.DESCRIPTOR.enum_types_by_name["Reason"].values:
        assert value.GetOptions().Extensions[options_pb2.status_code], value.name


NAME_TENANTS = {TENANT_SERVICE, POLICY_SERVICE, "llmspell.v1.IdentityService"}
"""The operator's."""


def test_every_service_has_an_owner():
    """The gateway routes each service to one process, or serves it itself."""
    own = {*NAME_TENANTS, PROCESS_SERVICE, "llmspell.v1.QuotaService"}
    assert set(OWNERS) | own == {method.service for method in METHODS.values()}


def test_request_and_answer_are_a_methods_own():
    """Each method has its own two messages, named after it, so that both may grow."""
    for path, method in METHODS.items():
        name = method.descriptor.name
        assert method.descriptor.input_type.name == f"{name}Request", path
        assert method.descriptor.output_type.name == f"{name}Response", path


def test_only_the_operators_services_name_a_tenant():
    """Elsewhere a request has no field in which another tenant could be named."""
    for path, method in METHODS.items():
        names = {field.name for field in method.descriptor.input_type.fields}
        assert "tenant_id" not in names or method.service in NAME_TENANTS, path


def test_the_guide_tells_what_each_role_may():
    """The table of roles in docs/guide/operate.md is the code's; the rest is the operator's."""
    page, before = tree.text("docs/guide/operate.md"), set()
    for name, held in ROLES.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert set(re.findall(r"`(\w+\.\w+)`", row)) == held - before
        assert ("default" in row) == (name == DEFAULT_ROLE)
        before = before | held
    row = next(line for line in page.splitlines() if line.startswith("| the operator's key"))
    assert set(re.findall(r"`(\w+\.\w+)`", row)) == OPERATOR_ONLY
