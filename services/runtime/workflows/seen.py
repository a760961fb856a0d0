"""A run as GetWorkflowRun tells it: what is kept, and what has happened since where it goes on."""

from __future__ import annotations

from dataclasses import replace

from llmspell.v1 import workflow_pb2

from services.common.redaction import redact
from services.common.values import fill_map
from services.runtime.workflows.life import Active
from services.runtime.workflows.messages import output_message
from services.runtime.workflows.past import Past


def run_message(past: Past, active: Active | None, *, goes_on: bool) -> workflow_pb2.WorkflowRun:
    """What is known of a run; `active`: it is in this process."""
    result = past.result(goes_on=goes_on)
    if active is not None and active.steps is not None and past.end is None:
        steps = tuple(active.steps.results.values())
        result = replace(result, steps=steps, spent=active.steps.spent)
    output = output_message(result)
    record = past.record
    message = workflow_pb2.WorkflowRun(
        execution_id=record.execution_id,
        status=output.status,
        session_id=record.session_id,
        output=output,
        resumed_count=past.lease.resumed_count,
    )
    message.workflow.ParseFromString(record.workflow)
    fill_map(message.inputs.fields, redact(record.inputs))
    message.start_time.FromNanoseconds(record.start_ns)
    if past.end is not None:
        message.end_time.FromNanoseconds(past.end.end_ns)
    return message
