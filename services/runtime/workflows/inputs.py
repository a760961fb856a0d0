"""What a workflow must be given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.common.errors import field_invalid
from services.runtime.agents.schemas import Schema
from services.runtime.workflows.model import Workflow


def check_inputs(workflow: Workflow, inputs: Mapping[str, Any]) -> None:
    """Refuse inputs that are missing, or do not fit their schema.

    Raises:
        ServiceError: FIELD_INVALID naming the input.
    """
    for name, schema in workflow.input_schemas.items():
        if name not in inputs:
            raise field_invalid(f"inputs.{name}", f"must be given to {workflow.name}")
        fault = Schema(schema, f"input_schemas.{name}").fault(inputs[name]) if schema else ""
        if fault:
            raise field_invalid(f"inputs.{name}", f"does not fit: {fault}")
