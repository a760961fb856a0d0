"""TemplateService: a request into a run of a template, what it returned into an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.duration_pb2 import Duration
from llmspell.v1 import template_pb2, template_pb2_grpc

from services.common.context import current_context
from services.common.errors import Reason, ServiceError, field_invalid
from services.common.limits import TEMPLATE_SECONDS
from services.common.values import fill_map, map_to_python, to_value
from services.runtime.money.messages import spent_message
from services.runtime.templates.catalogue import Catalogue
from services.runtime.templates.estimate import PriceOf, estimate
from services.runtime.templates.executing import Executed, Executing
from services.runtime.templates.model import Parameter, Template

CheckSession = Callable[[str], Awaitable[None]]


class TemplateServicer(template_pb2_grpc.TemplateServiceServicer):
    """Answers from the templates of this deployment, for callers of the door and scripts alike."""

    def __init__(
        self,
        catalogue: Catalogue,
        executing: Executing,
        check_session: CheckSession,
        price_of: PriceOf,
    ) -> None:
        self._catalogue = catalogue
        self._executing = executing
        self._check_session = check_session
        self._price_of = price_of

    async def ListTemplates(  # noqa: N802  (the contract's name)
        self, request: template_pb2.ListTemplatesRequest, context: object
    ) -> template_pb2.ListTemplatesResponse:
        """All that fit, without their scripts."""
        del context
        fitting = [
            _message(template)
            for template in self._catalogue.templates.values()
            if template.fits(request.category, request.query)
        ]
        return template_pb2.ListTemplatesResponse(templates=fitting)

    async def GetTemplate(  # noqa: N802
        self, request: template_pb2.GetTemplateRequest, context: object
    ) -> template_pb2.GetTemplateResponse:
        """One, with its script."""
        del context
        template = self._catalogue.find(request.id)
        message = _message(template)
        message.source = template.source
        return template_pb2.GetTemplateResponse(template=message)

    async def ExecuteTemplate(  # noqa: N802
        self, request: template_pb2.ExecuteTemplateRequest, context: object
    ) -> template_pb2.ExecuteTemplateResponse:
        """Execute one."""
        del context
        template = self._catalogue.find(request.id)
        given = map_to_python(request.parameters.fields, "parameters")
        if request.session_id:
            given.setdefault("session_id", request.session_id)
        accepted = template.accept(given)
        if accepted.get("session_id"):
            await self._check_session(accepted["session_id"])
        done = await self._executing.execute(
            template, accepted, current_context(), timeout_s=_timeout_s(request)
        )
        return _answer(template, done)

    async def EstimateTemplate(  # noqa: N802
        self, request: template_pb2.EstimateTemplateRequest, context: object
    ) -> template_pb2.EstimateTemplateResponse:
        """What one would cost."""
        del context
        template = self._catalogue.find(request.id)
        given = map_to_python(request.parameters.fields, "parameters")
        told = estimate(template, template.accept(given), self._price_of)
        return template_pb2.EstimateTemplateResponse(
            estimated_tokens=told.tokens,
            estimated_cost_usd=told.cost_usd,
            estimated_duration=_duration(told.seconds),
            confidence=told.confidence,
        )


def _timeout_s(request: template_pb2.ExecuteTemplateRequest) -> float:
    if not request.HasField("timeout"):
        return TEMPLATE_SECONDS
    seconds = float(request.timeout.ToMicroseconds() / 1e6)
    if not 0 < seconds <= TEMPLATE_SECONDS:
        raise field_invalid("timeout", f"must be above 0 and at most {TEMPLATE_SECONDS:g} seconds")
    return seconds


def _message(template: Template) -> template_pb2.Template:
    head = template.head
    return template_pb2.Template(
        id=head.id,
        name=head.name,
        description=head.description,
        category=head.category,
        version=head.version,
        author=head.author,
        requires=head.requires,
        tags=head.tags,
        parameters=map(_parameter, template.parameters),
        result_schema=head.result_schema,
    )


def _parameter(parameter: Parameter) -> template_pb2.TemplateParameter:
    return template_pb2.TemplateParameter(
        name=parameter.name,
        description=parameter.description,
        param_type=parameter.type,
        required=parameter.required,
        default=to_value(parameter.default),
        min=parameter.min,
        max=parameter.max,
        min_length=parameter.min_length,
        max_length=parameter.max_length,
        pattern=parameter.pattern,
        allowed_values=[to_value(value) for value in parameter.allowed],
    )


def _answer(template: Template, done: Executed) -> template_pb2.ExecuteTemplateResponse:
    try:
        return template_pb2.ExecuteTemplateResponse(
            result_type=done.result_type,
            result=to_value(done.result),
            artifacts=map(_artifact, done.artifacts),
            spent=spent_message(done.tally.spent),
            agents_invoked=done.tally.agents,
            elapsed=_duration(done.elapsed_s),
            template_version=template.head.version,
        )
    except (TypeError, ValueError, RecursionError):
        text = f"What the template {template.head.id} returned cannot be told."
        raise ServiceError(Reason.TOOL_FAILED, text, template=template.head.id) from None


def _artifact(told: dict[str, Any]) -> template_pb2.TemplateArtifact:
    artifact = template_pb2.TemplateArtifact(
        filename=str(told.get("filename", "")),
        content=str(told.get("content", "")),
        mime_type=str(told.get("mime_type", "text/plain")),
    )
    metadata = told.get("metadata")
    if isinstance(metadata, dict):
        fill_map(artifact.metadata.fields, metadata)
    return artifact


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration
