"""TemplateService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llmspell._contract import Call
from llmspell._template_types import (
    Template,
    TemplateArtifact,
    TemplateEstimate,
    TemplateParameter,
    TemplateResult,
)
from llmspell._values import from_duration, from_fields, from_value, to_duration, to_map
from llmspell.v1 import template_pb2 as pb

EXECUTION_TIMEOUT_S = 300.0
"""The most that a template may take."""
_MARGIN_S = 5.0
_OPTIONAL = ("min", "max", "min_length", "max_length")


def list_templates(category: str, query: str) -> Call[list[Template]]:
    """All that fit."""
    return Call(
        pb.ListTemplatesRequest(category=category, query=query),
        lambda answer: [_template(each) for each in answer.templates],
    )


def get_template(template_id: str) -> Call[Template]:
    """One template."""
    return Call(pb.GetTemplateRequest(id=template_id), lambda answer: _template(answer.template))


def execute(
    template_id: str, parameters: Mapping[str, Any], session_id: str, execution_s: float | None
) -> Call[TemplateResult]:
    """Execute one."""
    request = pb.ExecuteTemplateRequest(
        id=template_id,
        parameters=to_map(parameters, "parameters"),
        session_id=session_id,
        timeout=to_duration(execution_s, "execution_s"),
    )
    timeout_s = EXECUTION_TIMEOUT_S
    if execution_s is not None:
        timeout_s = min(timeout_s, max(execution_s, 0.0) + _MARGIN_S)
    return Call(request, _result, timeout_s=timeout_s)


def estimate(template_id: str, parameters: Mapping[str, Any]) -> Call[TemplateEstimate]:
    """What one would cost."""
    request = pb.EstimateTemplateRequest(
        id=template_id, parameters=to_map(parameters, "parameters")
    )
    return Call(request, _estimate)


def _template(message: pb.Template) -> Template:
    return Template(
        id=message.id,
        name=message.name,
        description=message.description,
        category=message.category,
        version=message.version,
        author=message.author,
        requires=tuple(message.requires),
        tags=tuple(message.tags),
        parameters=tuple(_parameter(each) for each in message.parameters),
        result_schema=json.loads(message.result_schema),
        source=message.source,
    )


def _parameter(message: pb.TemplateParameter) -> TemplateParameter:
    known = {name: getattr(message, name) for name in _OPTIONAL if message.HasField(name)}
    return TemplateParameter(
        name=message.name,
        description=message.description,
        param_type=message.param_type,
        required=message.required,
        default=from_value(message.default),
        pattern=message.pattern,
        allowed_values=tuple(from_value(each) for each in message.allowed_values),
        **known,
    )


def _result(answer: pb.ExecuteTemplateResponse) -> TemplateResult:
    artifacts = (
        TemplateArtifact(
            filename=each.filename,
            content=each.content,
            mime_type=each.mime_type,
            metadata=from_fields(each.metadata.fields),
        )
        for each in answer.artifacts
    )
    return TemplateResult(
        result_type=answer.result_type,
        result=from_value(answer.result),
        artifacts=tuple(artifacts),
        tokens=answer.spent.input_tokens + answer.spent.output_tokens,
        cost_usd=answer.spent.cost_usd,
        agents_invoked=answer.agents_invoked,
        elapsed_s=from_duration(answer, "elapsed") or 0.0,
        template_version=answer.template_version,
    )


def _estimate(answer: pb.EstimateTemplateResponse) -> TemplateEstimate:
    return TemplateEstimate(
        tokens=answer.estimated_tokens,
        cost_usd=answer.estimated_cost_usd,
        duration_s=from_duration(answer, "estimated_duration") or 0.0,
        confidence=answer.confidence,
    )
