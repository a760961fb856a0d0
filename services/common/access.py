"""Who may call what, read from the contract. The default is no."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha import reflection_pb2
from llmspell.v1 import (
    agent_pb2,
    artifact_pb2,
    audit_pb2,
    backup_pb2,
    event_pb2,
    execution_pb2,
    identity_pb2,
    journal_pb2,
    migration_pb2,
    options_pb2,
    policy_pb2,
    process_pb2,
    provider_pb2,
    quota_pb2,
    rag_pb2,
    run_pb2,
    script_pb2,
    session_pb2,
    state_pb2,
    template_pb2,
    tenant_pb2,
    tool_pb2,
    usage_pb2,
    vault_pb2,
    vector_admin_pb2,
    vector_pb2,
    workflow_pb2,
)

from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.policy import operation_refusal

FILES = (
    agent_pb2,
    artifact_pb2,
    audit_pb2,
    backup_pb2,
    event_pb2,
    execution_pb2,
    identity_pb2,
    journal_pb2,
    migration_pb2,
    policy_pb2,
    process_pb2,
    provider_pb2,
    quota_pb2,
    rag_pb2,
    run_pb2,
    script_pb2,
    session_pb2,
    state_pb2,
    template_pb2,
    tenant_pb2,
    tool_pb2,
    usage_pb2,
    vault_pb2,
    vector_admin_pb2,
    vector_pb2,
    workflow_pb2,
)
"""The files of the contract that hold services."""

_PACKAGE = "/llmspell.v1."
OPEN_PREFIX = "/grpc.health.v1.Health/"
"""Answered without a credential: whether a process is alive."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the contract, as a door needs it."""

    path: str
    """As on the wire: `/llmspell.v1.StateService/GetState`."""
    service: str
    """`llmspell.v1.StateService`."""
    permission: str
    """What the caller must hold; empty where the contract says nothing: then nobody may."""
    tenantless: bool
    """Whether it makes sense without a tenant."""
    streams: bool
    """Whether its answer is a stream."""
    request_streams: bool
    """Whether its request is a stream; its answer then is one too."""
    descriptor: MethodDescriptor
    """The whole of it."""


def contract_methods() -> Iterator[Method]:
    """Every method of the contract."""
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for descriptor in service.methods:
                yield _method(service.full_name, descriptor)


def _method(service: str, descriptor: MethodDescriptor) -> Method:
    options = descriptor.GetOptions()
    access: options_pb2.Access = options.Extensions[cast("Any", options_pb2.access)]
    return Method(
        path=f"/{service}/{descriptor.name}",
        service=service,
        permission=access.permission,
        tenantless=access.tenantless,
        streams=descriptor.server_streaming,
        request_streams=descriptor.client_streaming,
        descriptor=descriptor,
    )


METHODS = {method.path: method for method in contract_methods()}

REFLECTION = replace(
    _method(
        "grpc.reflection.v1alpha.ServerReflection",
        reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].methods[0],
    ),
    permission="self.read",
    tenantless=True,
)
"""What the contract says, to whoever may ask who it is itself; where a setting offers it at all."""


def decide(context: CallContext, method: Method) -> None:
    """Let the call through, or say why not.

    Raises:
        ServiceError: PERMISSION_DENIED, POLICY_DENIED or TENANT_REQUIRED.
    """
    held = context.permissions
    if not method.permission or ("*" not in held and method.permission not in held):
        raise ServiceError(
            Reason.PERMISSION_DENIED,
            f"This key may not do that: {method.descriptor.name} needs the permission "
            f"{method.permission or 'of nobody'}.",
            permission=method.permission,
        )
    if context.policy:
        short = method.path.removeprefix(_PACKAGE)
        if refused := operation_refusal(context.policy, short, method.permission):
            raise refused
    if not context.tenant and not method.tenantless:
        raise ServiceError(
            Reason.TENANT_REQUIRED,
            "This key may act for any tenant; name one (--tenant, or metadata llmspell-tenant).",
        )
