"""What becomes of a call that a script makes.

The worker is hostile from its first byte: it says a method, a tenant and a tree, and nothing else
that it says counts. Whose data it is, and what it may, belong to the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from google.protobuf import message_factory
from google.protobuf.message import EncodeError

from services.common.access import METHODS, Method, decide
from services.common.context import CallContext, is_tenant_id
from services.common.errors import Reason, ServiceError, field_invalid, reason_name
from services.common.limits import DEADLINE_SECONDS_MAX
from services.common.redaction import redact_field, redact_text
from services.common.relay import Relay
from services.common.status import status_code
from services.common.tenants import TenantRecord, tenant_not_found
from services.runtime import marshal
from services.runtime.runs import Call, Reply


class LooksUp(Protocol):
    """Knows which tenants there are; `common.tenants.Tenants` does."""

    async def get(self, tenant_id: str) -> TenantRecord | None:
        """The tenant, None where there is none."""


class Bridge:
    """Answers the calls of one run."""

    def __init__(
        self, relay: Relay, tenants: LooksUp, context: CallContext, *, timeout_s: float
    ) -> None:
        """`timeout_s`: how long one call may take. The run's end cancels it sooner."""
        self._relay = relay
        self._tenants = tenants
        self._context = context
        self._timeout_s = min(timeout_s, DEADLINE_SECONDS_MAX)

    async def __call__(self, call: Call) -> Reply:
        """The answer to a call; a failure is an answer too."""
        try:
            return Reply(ok=True, tree=await self._answer(call))
        except ServiceError as error:
            return Reply(ok=False, tree=error_tree(error))

    async def _answer(self, call: Call) -> Any:
        method = METHODS.get(f"/{call.method}")
        if method is None or method.streams or not self._relay.routes(method):
            raise ServiceError(Reason.NOT_IMPLEMENTED, f"Scripts cannot call {call.method[:100]}.")
        context = self._acting_for(call.tenant)
        decide(context, method)
        if await self._tenants.get(context.tenant) is None:  # a run may outlive its tenant
            raise tenant_not_found(context.tenant)
        request = _request(method, call.args)
        answer = await self._relay.call(method, request, context, timeout_s=self._timeout_s)
        return marshal.read(_message_class(method.descriptor.output_type).FromString(answer))

    def _acting_for(self, tenant: str | None) -> CallContext:
        """The run's context, for another tenant where the caller may act for it.

        The refusal is the same whether or not that tenant exists.
        """
        if tenant is None or tenant == self._context.tenant:
            return self._context
        if not self._context.may_act_for(tenant) or not is_tenant_id(tenant):
            raise ServiceError(
                Reason.PERMISSION_DENIED, "This key may not act for the tenant that was named."
            )
        return self._context.acting_for(tenant)


def error_tree(error: ServiceError) -> Mapping[str, Any]:
    """An error as scripts see it: code, reason, message, metadata; no credential is told.

    What comes over the wire is clean already (`common.status`); what is refused here is not.
    """
    return {
        "code": status_code(error.reason).name,
        "reason": reason_name(error.reason),
        "message": redact_text(error.message),
        "metadata": {name: redact_field(name, told) for name, told in error.metadata.items()},
    }


def _request(method: Method, args: Any) -> bytes:
    request = _message_class(method.descriptor.input_type)()
    try:
        marshal.fill(request, args)
        data: bytes = request.SerializeToString()
    except UnicodeEncodeError:
        raise field_invalid("the argument", "holds text that is not UTF-8") from None
    except (EncodeError, RecursionError):  # protobuf writes 100 levels of messages
        raise field_invalid("the argument", "is nested too deep") from None
    return data


def _message_class(descriptor: Any) -> Any:
    return message_factory.GetMessageClass(descriptor)
