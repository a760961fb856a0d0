"""Workflows of the asyncio client; `_blocking_workflows` says more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from llmspell import _workflows
from llmspell import types as t
from llmspell._awaiting_executions import AsyncExecutionCalls
from llmspell._executions import Functions, Progress
from llmspell.v1 import workflow_pb2 as pb


class AsyncWorkflowCalls(AsyncExecutionCalls):
    """Steps in a row, side by side, by condition, or again and again."""

    async def execute_workflow(
        self,
        workflow: str | t.WorkflowForm | pb.Workflow,
        inputs: Mapping[str, Any] | None = None,
        *,
        functions: Mapping[str, t.WorkflowFunction] | None = None,
        on_event: Callable[[t.ExecutionEvent], object] | None = None,
        session_id: str = "",
        executes_tools: bool = False,
        request_id: str = "",
    ) -> t.WorkflowResult:
        """Run a workflow to its end. One that failed is a result whose `success` is false.

        Args:
            workflow: Name of a registered one, or one as `docs/guide/workflows.md` describes it;
                functions may stand in it.
            inputs: By name.
            functions: What its steps and conditions name: called with the step's arguments as one
                mapping, and awaited where that gives something to await.
            on_event: Told of each event as it comes.
            session_id: Session whose run this is.
            executes_tools: Whether tools are functions too, of the tool's name, so that this
                program executes them.
            request_id: Names the run: the same one again goes on with the same run.

        Raises:
            InvalidArgument: WORKFLOW_INVALID, with `step` and `field` in its metadata.
            NotFound: WORKFLOW_NOT_FOUND.
        """
        begun = _workflows.execute(
            workflow,
            inputs,
            functions=functions,
            session_id=session_id,
            executes_tools=executes_tools,
            request_id=request_id,
        )
        again = begun.begin(with_events=on_event is not None)
        progress = await self._begun(again)
        return await self._ended(
            progress, Functions(begun.functions), _workflows.read_progress, on_event, again=again
        )

    async def stream_workflow(
        self,
        workflow: str | t.WorkflowForm | pb.Workflow,
        inputs: Mapping[str, Any] | None = None,
        *,
        functions: Mapping[str, t.WorkflowFunction] | None = None,
        session_id: str = "",
        executes_tools: bool = False,
        request_id: str = "",
    ) -> AsyncGenerator[t.ExecutionEvent | t.WorkflowResult, None]:
        """Run a workflow; its events as they happen, `WorkflowResult` last.

        It begins with the first event that is taken; leaving the loop early ends it. Arguments are
        those of `execute_workflow`.
        """
        begun = _workflows.execute(
            workflow,
            inputs,
            functions=functions,
            session_id=session_id,
            executes_tools=executes_tools,
            request_id=request_id,
        )
        news: AsyncGenerator[Progress[t.WorkflowResult], None]
        if begun.functions or executes_tools:
            again = begun.begin(with_events=True)
            first = await self._begun(again)
            news = self._followed(
                first,
                Functions(begun.functions),
                _workflows.read_progress,
                with_events=True,
                again=again,
            )
        else:
            news = self._stream(begun.stream())
        async with aclosing(news) as all_news:
            async for progress in all_news:
                for event in progress.events:
                    yield event
                if progress.output is not None:
                    yield progress.output

    async def validate_workflow(
        self,
        workflow: t.WorkflowForm | pb.Workflow,
        *,
        functions: Iterable[str] | None = None,
    ) -> list[t.WorkflowProblem]:
        """What is wrong with a workflow, without running it; nothing: it can run.

        Args:
            workflow: It.
            functions: Names of functions that are there; None: any may be named.
        """
        problems: list[t.WorkflowProblem] = await self._unary(
            _workflows.validate(workflow, functions)
        )
        return problems

    async def create_workflow(
        self, workflow: t.WorkflowForm | pb.Workflow, *, replace: bool = False
    ) -> t.RegisteredWorkflow:
        """Register a workflow under its name.

        Args:
            workflow: It; without functions that stand in it.
            replace: Whether one of the name is replaced.

        Raises:
            AlreadyExists: WORKFLOW_EXISTS.
            InvalidArgument: WORKFLOW_INVALID.
        """
        return await self._unary(_workflows.create(workflow, replace=replace))

    async def get_workflow(self, name: str) -> t.RegisteredWorkflow:
        """A registered workflow; NotFound where there is none."""
        return await self._unary(_workflows.get(name))

    def list_workflows(self) -> AsyncIterator[t.RegisteredWorkflow]:
        """Registered workflows in order of name; pages come as they are needed."""
        return self._entries(_workflows.list_workflows())

    async def delete_workflow(self, name: str) -> bool:
        """Remove a registered workflow; whether it was there."""
        return await self._unary(_workflows.delete(name))

    async def get_workflow_run(self, execution_id: str) -> t.WorkflowRun:
        """What is known of a run; NotFound where nothing is kept of it."""
        return await self._unary(_workflows.get_run(execution_id))

    def list_workflow_runs(
        self, *, name: str = "", statuses: Iterable[t.WorkflowStatus] = ()
    ) -> AsyncIterator[t.WorkflowRun]:
        """Runs, the newest first, without their steps; pages come as they are needed.

        Args:
            name: Only those of workflows of this name.
            statuses: Only those that are so.
        """
        return self._entries(_workflows.list_runs(name, statuses))

    async def cancel_workflow_run(self, execution_id: str) -> bool:
        """End a run that goes on; whether it did."""
        return await self._unary(_workflows.cancel_run(execution_id))

    async def resume_workflow_run(
        self,
        execution_id: str,
        *,
        functions: Mapping[str, t.WorkflowFunction] | None = None,
        on_event: Callable[[t.ExecutionEvent], object] | None = None,
    ) -> t.WorkflowResult:
        """Go on with a run that was lost with its process, to its end.

        Args:
            execution_id: Which.
            functions: What its steps and conditions name.
            on_event: Told of each event as it comes, from the second news on.

        Raises:
            FailedPrecondition: WORKFLOW_NOT_RESUMABLE where it has ended or goes on.
        """
        progress = await self._unary(_workflows.resume_run(execution_id))
        return await self._ended(
            progress, Functions(functions or {}), _workflows.read_progress, on_event
        )

    async def delete_workflow_run(self, execution_id: str) -> bool:
        """Erase what is kept of a run that has ended; whether it was there."""
        return await self._unary(_workflows.delete_run(execution_id))
