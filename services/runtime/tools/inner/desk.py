"""What a tool that runs in the runtime can reach: methods of other processes, as its caller."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.protobuf import message_factory

from services.common.access import METHODS, Method, decide
from services.common.context import CallContext
from services.common.errors import ServiceError, field_invalid
from services.runtime import marshal
from services.runtime.toolbox.model import Arguments, Outcome, Tool, described
from services.runtime.tools.entry import Entry, HostCall

_PACKAGE = "/llmspell.v1."
NO_RENAMES: Mapping[str, str] = {}


class Asks(Protocol):
    """Passes a call on to the process that owns it; `common.relay.Relay` does."""

    async def call(
        self, method: Method, request: bytes, context: CallContext, *, timeout_s: float
    ) -> bytes:
        """One unary call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What this deployment gives the tools that run here."""

    relay: Asks
    """To the other processes."""
    data: str = ""
    """Folder whose disk the system monitor tells of; empty: it tells of none."""
    environment: Sequence[str] = ()
    """Names of variables that may be read; `*` and `?` as in file names."""
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)
    """The variables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerDesk:
    """Given to the body of a tool that runs here."""

    call: HostCall
    """Who calls, and how long it may take."""
    surroundings: Surroundings
    """What this deployment gives."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def ask(
        self, name: str, tree: Mapping[str, Any], renames: Mapping[str, str] = NO_RENAMES
    ) -> dict[str, Any]:
        """The answer of a method, both ways as plain trees.

        Args:
            name: Such as `RagService/ChunkText`.
            tree: The request's fields.
            renames: Field of the request → parameter of the tool, for refusals.

        Raises:
            ServiceError: PERMISSION_DENIED where the caller may not, and what the method says.
        """
        method = METHODS[f"{_PACKAGE}{name}"]
        decide(self.call.context, method)
        try:
            request = message_factory.GetMessageClass(method.descriptor.input_type)()
            marshal.fill(request, tree)
            self._identify(request)
            answer = await self.surroundings.relay.call(
                method,
                request.SerializeToString(),
                self.call.context,
                timeout_s=self.call.timeout_s,
            )
        except ServiceError as error:
            raise _renamed(error, renames) from None
        kind = message_factory.GetMessageClass(method.descriptor.output_type)
        told: dict[str, Any] = marshal.read(kind.FromString(answer))
        return told

    def _identify(self, request: Any) -> None:
        """Under an id of its own, the same when the tool is executed again."""
        if self.call.request_id and "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = f"{self.call.request_id}.{next(self._numbers)}"


def _renamed(error: ServiceError, renames: Mapping[str, str]) -> ServiceError:
    """A refusal in the words of the tool's parameters."""
    named = error.metadata.get("field", "")
    for theirs, ours in renames.items():
        if named == theirs or named.startswith((f"{theirs}.", f"{theirs}[")):
            told = ours + named.removeprefix(theirs)
            metadata = {**error.metadata, "field": told}
            return ServiceError(error.reason, error.message.replace(named, told), **metadata)
    return error


def entry_of(tool: Tool, surroundings: Surroundings) -> Entry:
    """A tool whose body runs here."""
    return Entry.of(described(tool), functools.partial(_execute, tool, surroundings))


async def _execute(
    tool: Tool, surroundings: Surroundings, arguments: Arguments, call: HostCall
) -> Outcome:
    outcome: Outcome = await tool.run(arguments, InnerDesk(call=call, surroundings=surroundings))
    return outcome


def text_of(arguments: Arguments, name: str) -> str:
    """An argument that must have more than white space in it.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    text: str = arguments[name]
    if not text.strip():
        raise field_invalid(name, "must not be blank")
    return text
