"""What becomes of a call that a script makes.

The worker is hostile from its first byte: it says a method, a tenant and a tree, and nothing else
that it says counts. Whose data it is, and what it may, belong to the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf import message_factory
from google.protobuf.message import EncodeError, Message

from services.common.access import METHODS, Method, decide
from services.common.context import CallContext, is_tenant_id, set_context
from services.common.errors import (
    Reason,
    ServiceError,
    field_invalid,
    reason_name,
    reason_named,
)
from services.common.limits import DEADLINE_SECONDS_MAX
from services.common.redaction import redact_field, redact_text
from services.common.relay import Relay
from services.common.scope_guard import guarded
from services.common.standing import LooksUp, refusal
from services.common.status import status_code
from services.common.tenants import tenant_not_found
from services.common.tracing import span
from services.runtime import marshal
from services.runtime.claims import Claim, set_claim
from services.runtime.runs import Call, Reply

Handler = Callable[[Any, None], Awaitable[Message]]
"""A unary method of a servicer."""
Own = Mapping[str, Handler]
"""Methods that this process answers itself, by path."""


class Bridge:
    """Answers the calls of one run."""

    def __init__(
        self,
        relay: Relay,
        tenants: LooksUp | None,
        context: CallContext,
        *,
        timeout_s: float,
        own: Own | None = None,
    ) -> None:
        """Answer for one run.

        Args:
            relay: To the other processes.
            tenants: Which there are; None: the caller's has been looked up for this call.
            context: Of the run.
            timeout_s: How long one call may take. The run's end cancels it sooner.
            own: What this process answers itself.
        """
        self._own = own or {}
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
        if method is None or method.streams or not self._answers(method):
            raise ServiceError(Reason.NOT_IMPLEMENTED, f"Scripts cannot call {call.method[:100]}.")
        context = self._acting_for(call.tenant)
        decide(context, method)
        await self._check_tenant(context, method)
        request = _request(method, call.args)
        with span(f"call {method.path[1:]}", kind="client"):
            if method.path in self._own:
                context = guarded(context, method, request)
                return marshal.read(await self._here(method, request, context, call.claim))
            data = request.SerializeToString()
            answer = await self._relay.call(method, data, context, timeout_s=self._timeout_s)
        return marshal.read(_message_class(method.descriptor.output_type).FromString(answer))

    async def _check_tenant(self, context: CallContext, method: Method) -> None:
        """The tenant still is and takes calls: a run may outlive it.

        Raises:
            ServiceError: TENANT_NOT_FOUND, TENANT_SUSPENDED, TENANT_FROZEN.
        """
        if self._tenants is None:
            return
        record = await self._tenants.get(context.tenant)
        if record is None:
            raise tenant_not_found(context.tenant)
        if why := refusal(record, context, method):
            raise why

    def _answers(self, method: Method) -> bool:
        return method.path in self._own or self._relay.routes(method)

    async def _here(
        self, method: Method, request: Message, context: CallContext, claim: Claim | None
    ) -> Message:
        """What a servicer of this process answers, as it would answer at the door."""
        served = asyncio.create_task(_serve(self._own[method.path], request, context, claim))
        try:
            async with asyncio.timeout(self._timeout_s):
                return await served
        except TimeoutError:
            raise ServiceError(
                Reason.DEADLINE_EXCEEDED, f"The call took longer than {self._timeout_s:g} s."
            ) from None

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


def error_from(tree: Any) -> ServiceError:
    """The error that was told so."""
    reason = reason_named(str(tree.get("reason", "")), Reason.INTERNAL)
    metadata = {str(name): told for name, told in tree.get("metadata", {}).items()}
    return ServiceError(reason, str(tree.get("message", "")), **metadata)


async def _serve(
    handler: Handler, request: Message, context: CallContext, claim: Claim | None
) -> Message:
    """In a task of its own, so that the context it sets is seen by this call only."""
    set_context(context)
    set_claim(claim)
    return await handler(request, None)


def own_methods(service: str, servicer: object) -> Own:
    """The unary methods of a servicer of this process, for `Bridge`."""
    return {
        method.path: getattr(servicer, method.descriptor.name)
        for method in METHODS.values()
        if method.service == service and not method.streams
    }


def _request(method: Method, args: Any) -> Message:
    request: Message = _message_class(method.descriptor.input_type)()
    try:
        marshal.fill(request, args)
        request.SerializeToString()
    except UnicodeEncodeError:
        raise field_invalid("the argument", "holds text that is not UTF-8") from None
    except (EncodeError, RecursionError):  # protobuf writes 100 levels of messages
        raise field_invalid("the argument", "is nested too deep") from None
    return request


def _message_class(descriptor: Any) -> Any:
    return message_factory.GetMessageClass(descriptor)
