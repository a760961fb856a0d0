"""Agents asked over gRPC as any client asks: stubs of the contract and a key."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from llmspell.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    execution_pb2,
    execution_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
)

from services.common.values import map_to_python, to_value

MODEL = "wire/scripted-model"


class RefusedError(Exception):
    """What a call was refused with."""

    def __init__(self, error: grpc.RpcError) -> None:
        super().__init__(error.details())
        self.code = error.code().name
        self.message = error.details()
        self.reason, self.metadata = "", {}
        trailers = dict(error.trailing_metadata() or ())
        status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
        info = error_details_pb2.ErrorInfo()
        for detail in status.details:
            if detail.Unpack(info):
                self.reason, self.metadata = info.reason, dict(info.metadata)


class Asking:
    """One tenant's key, and the calls that it makes."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self.metadata = (("authorization", f"Bearer {key}"),)
        self.agents = agent_pb2_grpc.AgentServiceStub(channel)
        self.executions = execution_pb2_grpc.ExecutionServiceStub(channel)
        self.sessions = session_pb2_grpc.SessionServiceStub(channel)

    def call(self, method: Any, request: Any, timeout_s: float = 60) -> Any:
        """The answer of a unary method.

        Raises:
            RefusedError: where it is none.
        """
        try:
            return method(request, metadata=self.metadata, timeout=timeout_s)
        except grpc.RpcError as error:
            raise RefusedError(error) from None

    def execute(self, agent: Any = None, text: str = "hello", **more: Any) -> Any:
        """Progress of an agent; `agent` as in `request_of`."""
        timeout_s = more.pop("timeout_s", 60)
        request = request_of(agent, text, **more)
        return self.call(self.agents.ExecuteAgent, request, timeout_s).progress

    def answer(self, agent: Any = None, text: str = "hello", **more: Any) -> Any:
        """What an agent has come to."""
        progress = self.execute(agent, text, **more)
        assert progress.done, progress
        return progress.agent

    def stream(self, agent: Any = None, text: str = "hello", **more: Any) -> Any:
        """The running call, and so its progress piece by piece."""
        request = agent_pb2.StreamAgentRequest(execute=request_of(agent, text, **more))
        return self.agents.StreamAgent(request, metadata=self.metadata, timeout=60)

    def go_on(self, execution_id: str, results: dict[str, Any] | None = None, **more: Any) -> Any:
        """Progress after these results of callbacks."""
        request = execution_pb2.ContinueExecutionRequest(execution_id=execution_id, **more)
        for callback_id, value in (results or {}).items():
            result = request.results.add(callback_id=callback_id)
            if isinstance(value, execution_pb2.ExecutionFailure):
                result.failure.CopyFrom(value)
            else:
                result.value.CopyFrom(to_value(value))
        return self.call(self.executions.ContinueExecution, request).progress

    def session(self) -> str:
        """A new session's id."""
        made = self.call(self.sessions.CreateSession, session_pb2.CreateSessionRequest())
        return made.session.session_id


def request_of(agent: Any, text: str, **more: Any) -> agent_pb2.ExecuteAgentRequest:
    """A request; `agent`: a name, a spec, or fields of one that asks the scripted server."""
    given = {"text": text} | more.pop("input", {})
    return agent_pb2.ExecuteAgentRequest(agent=ref(agent), input=given, **more)


def ref(agent: Any) -> agent_pb2.AgentRef:
    """A reference to an agent."""
    if isinstance(agent, str):
        return agent_pb2.AgentRef(name=agent)
    if isinstance(agent, agent_pb2.AgentSpec):
        return agent_pb2.AgentRef(spec=agent)
    return agent_pb2.AgentRef(spec={"name": "clerk", "model": MODEL} | (agent or {}))


def seconds(number: float) -> Duration:
    """A duration."""
    made = Duration()
    made.FromMicroseconds(round(number * 1e6))
    return made


def plain(fields: Any) -> Any:
    """A map of values as a dictionary."""
    return map_to_python(fields.fields, "")


@contextmanager
def asking(address: str, **keys: str):
    """One `Asking` for each tenant, over one channel."""
    with grpc.insecure_channel(address) as channel:
        yield {tenant: Asking(channel, key) for tenant, key in keys.items()}
