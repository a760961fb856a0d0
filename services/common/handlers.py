"""The methods that a process serves, for calls that do not come by gRPC's own way.

Calls on a trunk and calls by HTTP reach the same handlers as any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

from services.common.access import METHODS


class Handlers:
    """What was added to a server."""

    def __init__(self) -> None:
        self._generic: list[grpc.GenericRpcHandler] = []
        self._found: dict[str, grpc.RpcMethodHandler[Any, Any] | None] = {}

    def learn(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Know these methods too."""
        self._generic.extend(handlers)

    def find(self, path: str) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method of the contract; None where it is not served here."""
        if path not in self._found and path in METHODS:  # a stranger's paths are not kept
            details = _Details(path)
            found = (each.service(details) for each in self._generic)
            self._found[path] = next((one for one in found if one is not None), None)
        return self._found.get(path)


class _Details(grpc.HandlerCallDetails):
    """What a handler is found by."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()
