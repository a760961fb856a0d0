"""What the client knows of the contract's methods, read from the descriptors.

Each RPC has a request message of its own, so the request alone tells the path, the answer's type
and whether the call may be repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import uuid4

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

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

T = TypeVar("T")
_FILES = (
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
_REPEATABLE = (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC."""

    service: str
    """`llmspell.v1.StateService`."""
    name: str
    """`GetState`."""
    response: type[Message]
    """The answer's message class."""
    repeatable: bool
    """Whether doing it twice is the same as doing it once, by itself or by its request id."""
    numbered: bool
    """Whether its requests have an id under which they are done once."""

    @property
    def path(self) -> str:
        """As on the wire."""
        return f"/{self.service}/{self.name}"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request that is ready to be sent, and how to read its answer."""

    request: Message
    """What to send."""
    read: Callable[[Any], T]
    """From the answer's message to what the caller gets."""
    timeout_s: float | None = None
    """Seconds until it is given up; None: the client's."""


@dataclass(frozen=True, slots=True)
class Exchange(Generic[T]):
    """Requests that are sent one after the other, and how to read the answer to each."""

    kind: type[Message]
    """The requests' message class."""
    requests: Iterator[Any]
    """What to send; the next one is made when there is room for it."""
    read: Callable[[Any], T]
    """From an answer's message to what the caller gets."""


@dataclass(frozen=True, slots=True)
class AwaitedExchange(Generic[T]):
    """As Exchange, where requests have to be awaited."""

    kind: type[Message]
    """The requests' message class."""
    requests: AsyncIterator[Any]
    """What to send; the next one is made when there is room for it."""
    read: Callable[[Any], T]
    """From an answer's message to what the caller gets."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list."""

    entries: list[T]
    """In the service's order."""
    next_token: str
    """Empty at the end."""


def method_of(request: Message) -> Method:
    """The method whose request this is."""
    return METHODS[request.DESCRIPTOR.full_name]


def method_of_kind(kind: type[Message]) -> Method:
    """The method whose requests are of this class."""
    return METHODS[kind.DESCRIPTOR.full_name]


def numbered(method: Method, request: Any) -> Any:
    """The request, with an id of its own where its method takes one and the caller gave none."""
    if method.numbered and not request.request_id:
        request.request_id = uuid4().hex
    return request


def watched(requests: Iterator[Any], broken: list[BaseException]) -> Iterator[Any]:
    """The requests; where making one fails, that is noted, since gRPC would swallow it."""
    try:
        yield from requests
    except Exception as error:
        broken.append(error)
        raise


def next_page(call: Call[Page[T]], token: str) -> Call[Page[T]]:
    """The call for the page that follows."""
    request: Any = type(call.request)()
    request.CopyFrom(call.request)
    request.page_token = token
    return Call(request, call.read, call.timeout_s)


def _methods() -> Iterator[tuple[str, Method]]:
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for descriptor in service.methods:
                yield descriptor.input_type.full_name, _method(service.full_name, descriptor)


def _method(service: str, descriptor: MethodDescriptor) -> Method:
    numbered = "request_id" in descriptor.input_type.fields_by_name
    return Method(
        service=service,
        name=descriptor.name,
        response=GetMessageClass(descriptor.output_type),
        repeatable=numbered or descriptor.GetOptions().idempotency_level in _REPEATABLE,
        numbered=numbered,
    )


METHODS: dict[str, Method] = dict(_methods())
"""By full name of the request."""
