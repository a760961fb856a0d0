"""Workflows of the blocking client."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

from llmspell import _workflows
from llmspell import types as t
from llmspell._blocking_executions import ExecutionCalls
from llmspell._executions import Functions, Progress
from llmspell.v1 import workflow_pb2 as pb


class WorkflowCalls(ExecutionCalls):
    """Steps in a row, side by side, by condition, or again and again."""

    def execute_workflow(
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
                mapping, and in other threads where several are due at once.
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
        progress = self._begun(again)
        return self._ended(
            progress, Functions(begun.functions), _workflows.read_progress, on_event, again=again
        )

    def stream_workflow(
        self,
        workflow: str | t.WorkflowForm | pb.Workflow,
        inputs: Mapping[str, Any] | None = None,
        *,
        functions: Mapping[str, t.WorkflowFunction] | None = None,
        session_id: str = "",
        executes_tools: bool = False,
        request_id: str = "",
    ) -> Generator[t.ExecutionEvent | t.WorkflowResult, None, None]:
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
        news: Iterator[Progress[t.WorkflowResult]]
        if begun.functions or executes_tools:
            again = begun.begin(with_events=True)
            first = self._begun(again)
            news = self._followed(
                first,
                Functions(begun.functions),
                _workflows.read_progress,
                with_events=True,
                again=again,
            )
        else:
            news = self._stream(begun.stream())
        for progress in news:
            yield from progress.events
            if progress.output is not None:
                yield progress.output

    def validate_workflow(
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
        problems: list[t.WorkflowProblem] = self._unary(_workflows.validate(workflow, functions))
        return problems

    def create_workflow(
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
        return self._unary(_workflows.create(workflow, replace=replace))

    def get_workflow(self, name: str) -> t.RegisteredWorkflow:
        """A registered workflow; NotFound where there is none."""
        return self._unary(_workflows.get(name))

    def list_workflows(self) -> Iterator[t.RegisteredWorkflow]:
        """Registered workflows in order of name; pages come as they are needed."""
        return self._entries(_workflows.list_workflows())

    def delete_workflow(self, name: str) -> bool:
        """Remove a registered workflow; whether it was there."""
        return self._unary(_workflows.delete(name))

    def get_workflow_run(self, execution_id: str) -> t.WorkflowRun:
        """What is known of a run; NotFound where nothing is kept of it."""
        return self._unary(_workflows.get_run(execution_id))

    def list_workflow_runs(
        self, *, name: str = "", statuses: Iterable[t.WorkflowStatus] = ()
    ) -> Iterator[t.WorkflowRun]:
        """Runs, the newest first, without their steps; pages come as they are needed.

        Args:
            name: Only those of workflows of this name.
            statuses: Only those that are so.
        """
        return self._entries(_workflows.list_runs(name, statuses))

    def cancel_workflow_run(self, execution_id: str) -> bool:
        """End a run that goes on; whether it did."""
        return self._unary(_workflows.cancel_run(execution_id))

    def resume_workflow_run(
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
        progress = self._unary(_workflows.resume_run(execution_id))
        return self._ended(progress, Functions(functions or {}), _workflows.read_progress, on_event)

    def delete_workflow_run(self, execution_id: str) -> bool:
        """Erase what is kept of a run that has ended; whether it was there."""
        return self._unary(_workflows.delete_run(execution_id))
