"""PolicyService: policies as data, and what they would decide. The operator's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

from llmspell.v1 import policy_pb2 as pb
from llmspell.v1 import policy_pb2_grpc

from services.common.access import METHODS, Method
from services.common.clock import Clock
from services.common.context import CallContext, current_context, is_tenant_id
from services.common.errors import (
    Reason,
    ServiceError,
    field_invalid,
    limit_exceeded,
    required,
)
from services.common.limits import (
    DISPLAY_NAME_BYTES_MAX,
    POLICY_BYTES_MAX,
    POLICY_RULES_MAX,
    TENANT_ID_LENGTH_MAX,
)
from services.common.paging import page_size
from services.common.policy import (
    ANY,
    Policy,
    Sessions,
    check_dimension,
    checked_operations,
    checked_scopes,
    limits_scopes,
    operation_refusal,
    refusal,
    scope_rule,
)
from services.common.scopes import parse_scope
from services.common.tenants import tenant_not_found
from services.gateway.policies import (
    Policies,
    PolicyRecord,
    applying,
    places_of,
    policy_not_found,
)
from services.gateway.registry import Registry
from services.gateway.roles import ROLES, checked_roles, permissions_of
from services.gateway.row_filters import checked_row_filter

_KEY = re.compile(r"key:[a-z0-9]{1,32}", re.ASCII)
_CROSS = "CROSS_SESSION_"
_PACKAGE = "/llmspell.v1."


class PolicyServicer(policy_pb2_grpc.PolicyServiceServicer):
    """Translates between messages and what is kept."""

    def __init__(self, policies: Policies, registry: Registry, clock: Clock) -> None:
        self._policies = policies
        self._registry = registry
        self._clock = clock

    async def SetPolicy(  # noqa: N802  (the contract's name)
        self, request: pb.SetPolicyRequest, context: object
    ) -> pb.SetPolicyResponse:
        """Make a policy, or a new version of it."""
        del context
        record = self._read(request.policy)
        await self._check_subject(record)
        expected = request.expected_version if request.HasField("expected_version") else None
        kept = await self._policies.put(record, expected=expected)
        return pb.SetPolicyResponse(policy=_write(kept))

    async def GetPolicy(  # noqa: N802
        self, request: pb.GetPolicyRequest, context: object
    ) -> pb.GetPolicyResponse:
        """A policy, or an earlier version."""
        del context
        tenant, subject = _place(request.tenant_id, request.subject)
        record = await self._policies.get(tenant, subject, request.version)
        return pb.GetPolicyResponse(policy=_write(record))

    async def ListPolicies(  # noqa: N802
        self, request: pb.ListPoliciesRequest, context: object
    ) -> pb.ListPoliciesResponse:
        """A page of policies; a token is the place after which the next page begins."""
        del context
        await self._policies.look()
        tenant = _tenant(request.tenant_id) if request.tenant_id else ""
        size = page_size(request.page_size)
        found = [
            record for record in self._policies.listed(tenant) if record.place > request.page_token
        ]
        more = found[size - 1].place if len(found) > size else ""
        return pb.ListPoliciesResponse(policies=map(_write, found[:size]), next_page_token=more)

    async def ListPolicyVersions(  # noqa: N802
        self, request: pb.ListPolicyVersionsRequest, context: object
    ) -> pb.ListPolicyVersionsResponse:
        """A page of versions."""
        del context
        tenant, subject = _place(request.tenant_id, request.subject)
        size = page_size(request.page_size)
        found, token = await self._policies.versions(tenant, subject, size, request.page_token)
        if not found and not request.page_token:
            raise policy_not_found(tenant, subject)
        return pb.ListPolicyVersionsResponse(policies=map(_write, found), next_page_token=token)

    async def DeletePolicy(  # noqa: N802
        self, request: pb.DeletePolicyRequest, context: object
    ) -> pb.DeletePolicyResponse:
        """End a policy."""
        del context
        tenant, subject = _place(request.tenant_id, request.subject)
        author = current_context().principal
        ended = await self._policies.delete(tenant, subject, author)
        return pb.DeletePolicyResponse(deleted_count=int(ended))

    async def TestPolicy(  # noqa: N802
        self, request: pb.TestPolicyRequest, context: object
    ) -> pb.TestPolicyResponse:
        """What would be decided of a call."""
        del context
        await self._policies.look()
        method = _method(request.method)
        caller = await self._caller(request)
        records = self._policies.records(caller.tenant, caller.roles, caller.principal)
        if request.HasField("candidate"):
            records = _with_candidate(records, self._read(request.candidate), caller)
        found = applying(records)
        answer = pb.TestPolicyResponse(policies=[record.name for record in records])
        row_filter = found.row_filter(caller.row_filter)
        if row_filter:
            answer.row_filter.MergeFromString(row_filter)
        refused = _refused(request, method, caller, found.policy)
        if refused is not None:
            answer.decision, answer.reason = pb.POLICY_DECISION_DENY, refused.message
        elif row_filter or limits_scopes(found.policy):
            answer.decision = pb.POLICY_DECISION_ALLOW_WITH_FILTERS
        else:
            answer.decision = pb.POLICY_DECISION_ALLOW
        return answer

    async def _check_subject(self, record: PolicyRecord) -> None:
        """A policy about nobody would be a mistake that nothing shows.

        Raises:
            ServiceError: TENANT_NOT_FOUND; FIELD_INVALID where the key is none of the tenant's.
        """
        if record.tenant != ANY and await self._registry.get(record.tenant) is None:
            raise tenant_not_found(record.tenant)
        key_id = record.subject.removeprefix("key:")
        if key_id != record.subject:
            key = await self._registry.key(key_id)
            if key is None or key.tenant_id != record.tenant:
                raise field_invalid("policy.subject", "must be a key of policy.tenant_id")

    async def _caller(self, request: pb.TestPolicyRequest) -> CallContext:
        """Whoever would call.

        Raises:
            ServiceError: FIELD_INVALID where the key is none of the tenant's.
        """
        tenant = _tenant(request.tenant_id)
        if not request.key_id:
            roles = checked_roles(request.roles)
            return CallContext(
                tenant=tenant, principal="", permissions=permissions_of(roles), roles=roles
            )
        key = await self._registry.key(request.key_id)
        if key is None or key.tenant_id != tenant:
            raise field_invalid("key_id", "is no key of this tenant")
        return CallContext(
            tenant=tenant,
            principal=key.key_id,
            permissions=permissions_of(key.roles, key.scopes),
            roles=key.roles,
            row_filter=key.row_filter,
        )

    def _read(self, message: pb.Policy) -> PolicyRecord:
        """A policy that is to be kept, each part checked.

        Raises:
            ServiceError: FIELD_REQUIRED, FIELD_INVALID, LIMIT_EXCEEDED, FILTER_INVALID.
        """
        tenant, subject = _place(message.tenant_id, message.subject, "policy.")
        if not message.allow:
            raise required("policy.allow")
        for field in ("allow", "deny", "scopes", "denied_scopes"):
            count = len(getattr(message, field))
            if count > POLICY_RULES_MAX:
                raise limit_exceeded(f"policy.{field}", count, POLICY_RULES_MAX)
        size = len(message.description.encode())
        if size > DISPLAY_NAME_BYTES_MAX:
            raise limit_exceeded("policy.description", size, DISPLAY_NAME_BYTES_MAX, "bytes")
        record = PolicyRecord(
            tenant,
            subject,
            0,
            self._clock.now_ns(),
            current_context().principal,
            allow=checked_operations("policy.allow", message.allow),
            deny=checked_operations("policy.deny", message.deny),
            scopes=checked_scopes("policy.scopes", message.scopes),
            denied_scopes=checked_scopes("policy.denied_scopes", message.denied_scopes),
            row_filter=checked_row_filter(message),
            max_dimension=message.max_dimension,
            sessions=_sessions(message.cross_session),
            description=message.description,
        )
        if record.size > POLICY_BYTES_MAX:
            raise limit_exceeded("policy", record.size, POLICY_BYTES_MAX, "bytes")
        return record


def _refused(
    request: pb.TestPolicyRequest, method: Method, caller: CallContext, rules: Policy
) -> ServiceError | None:
    """Why the call would be refused; None where it would not."""
    if method.permission not in caller.permissions:
        return ServiceError(
            Reason.PERMISSION_DENIED,
            f"No role of the caller gives the permission {method.permission}.",
        )
    short = method.path.removeprefix(_PACKAGE)
    if refused := operation_refusal(rules, short, method.permission):
        return refused
    for scope in request.scopes:
        if found := scope_rule(rules, str(parse_scope(scope))):
            return refusal(*found)
    try:
        check_dimension(rules, request.dimension)
    except ServiceError as error:
        return error
    return None


def _with_candidate(
    records: Iterable[PolicyRecord], candidate: PolicyRecord, caller: CallContext
) -> list[PolicyRecord]:
    """What would apply if that policy were there; nothing else where it is about others."""
    places = places_of(caller.tenant, caller.roles, caller.principal)
    by_place = {record.place: record for record in records}
    if candidate.place in places:
        by_place[candidate.place] = candidate
    return [by_place[place] for place in places if place in by_place]


def _method(name: str) -> Method:
    if not name:
        raise required("method")
    method = METHODS.get(_PACKAGE + name)
    if method is None:
        raise field_invalid("method", "must be a method such as StateService/GetState")
    return method


def _place(tenant: str, subject: str, before: str = "") -> tuple[str, str]:
    """Tenant and subject of a policy.

    Raises:
        ServiceError: FIELD_REQUIRED, FIELD_INVALID.
    """
    if not subject:
        raise required(f"{before}subject")
    role = subject.removeprefix("role:")
    if subject != ANY and not _KEY.fullmatch(subject) and (role == subject or role not in ROLES):
        raise field_invalid(
            f"{before}subject", f"must be *, key:ID, or role:ROLE with ROLE of {', '.join(ROLES)}"
        )
    return _tenant(tenant, before), subject


def _tenant(tenant: str, before: str = "") -> str:
    if not tenant:
        raise required(f"{before}tenant_id")
    if tenant != ANY and not is_tenant_id(tenant):
        raise field_invalid(
            f"{before}tenant_id",
            f"must be *, or a tenant's id of at most {TENANT_ID_LENGTH_MAX} characters",
        )
    return tenant


def _sessions(number: int) -> Sessions:
    names = {0: "all"} | {
        value.number: value.name.removeprefix(_CROSS).lower()
        for value in pb.CrossSession.DESCRIPTOR.values
        if value.number
    }
    if number not in names:
        raise field_invalid("policy.cross_session", "must be ALL, READ or OWN")
    return cast("Sessions", names[number])


def _write(record: PolicyRecord) -> pb.Policy:
    message = pb.Policy(
        tenant_id=record.tenant,
        subject=record.subject,
        allow=record.allow,
        deny=record.deny,
        scopes=record.scopes,
        denied_scopes=record.denied_scopes,
        max_dimension=record.max_dimension,
        cross_session=_CROSS + record.sessions.upper(),
        description=record.description,
        version=record.version,
        author=record.author,
        deleted=record.deleted,
    )
    if record.row_filter:
        message.row_filter.MergeFromString(record.row_filter)
    message.create_time.FromNanoseconds(record.create_ns)
    return message
