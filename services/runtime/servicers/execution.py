"""ExecutionService: news of what goes on, and what its caller gives it."""

from __future__ import annotations

from llmspell.v1 import execution_pb2, execution_pb2_grpc

from services.common.errors import field_invalid, required
from services.common.limits import EXECUTION_GATHER_SECONDS_MAX
from services.runtime.callers import Callers, wait_for_news
from services.runtime.executions import Executions


class ExecutionServicer(execution_pb2_grpc.ExecutionServiceServicer):
    """For clients and scripts alike; each finds its own only."""

    def __init__(self, executions: Executions, callers: Callers) -> None:
        self._executions = executions
        self._callers = callers

    async def ContinueExecution(  # noqa: N802  (the contract's name)
        self, request: execution_pb2.ContinueExecutionRequest, context: object
    ) -> execution_pb2.ContinueExecutionResponse:
        """Take results of callbacks, and wait for news."""
        execution_id, owner = _id(request.execution_id), self._callers.owner()
        wait_s = wait_for_news(request.wait if request.HasField("wait") else None, context)
        self._executions.answer(execution_id, owner, request.results)
        progress = await self._executions.progress(
            execution_id,
            owner,
            wait_s=wait_s,
            with_events=request.with_events,
            gather_s=_gather_s(request),
        )
        return execution_pb2.ContinueExecutionResponse(progress=progress)

    async def CancelExecution(  # noqa: N802
        self, request: execution_pb2.CancelExecutionRequest, context: object
    ) -> execution_pb2.CancelExecutionResponse:
        """End one."""
        del context
        owner = self._callers.owner()
        cancelled = self._executions.cancel(_id(request.execution_id), owner)
        return execution_pb2.CancelExecutionResponse(cancelled=cancelled)


def _gather_s(request: execution_pb2.ContinueExecutionRequest) -> float:
    seconds = request.gather.ToMicroseconds() / 1e6
    if seconds < 0:
        raise field_invalid("gather", "must not be negative")
    return float(min(seconds, EXECUTION_GATHER_SECONDS_MAX))


def _id(execution_id: str) -> str:
    if not execution_id:
        raise required("execution_id")
    return execution_id
