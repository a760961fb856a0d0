"""UsageService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, cast, get_args

from llmspell import _workflows
from llmspell._agent_forms import to_ref
from llmspell._agent_types import AgentSpec
from llmspell._contract import Call
from llmspell._executions import read_spent
from llmspell._tenants import read_limits
from llmspell._usage_types import (
    Budget,
    BudgetPeriod,
    CostEstimate,
    TenantUsage,
    UsageGroup,
    UsageReport,
    UsageRow,
)
from llmspell._values import from_timestamp, to_timestamp
from llmspell.errors import InvalidArgument
from llmspell.v1 import usage_pb2 as pb
from llmspell.v1 import workflow_pb2

_GROUP, _PERIOD = "USAGE_GROUP_", "BUDGET_PERIOD_"


def get_usage(
    start_time: datetime | None, end_time: datetime | None, group_by: Iterable[UsageGroup]
) -> Call[UsageReport]:
    """What was spent."""
    request = pb.GetUsageRequest(
        start_time=to_timestamp(start_time, "start_time"),
        end_time=to_timestamp(end_time, "end_time"),
        group_by=[
            _number(pb.UsageGroup, _GROUP, each, "group_by", UsageGroup) for each in group_by
        ],
    )
    return Call(request, _report)


def get_tenant_usage() -> Call[TenantUsage]:
    """What the tenant has and may have."""
    return Call(pb.GetTenantUsageRequest(), _tenant_usage)


def _tenant_usage(answer: pb.GetTenantUsageResponse) -> TenantUsage:
    return TenantUsage(
        tenant_id=answer.tenant_id,
        limits=read_limits(answer.limits),
        record_count=answer.record_count,
        stored_bytes=answer.stored_bytes,
        collection_count=answer.collection_count,
        search_count=answer.search_count,
        month=read_spent(answer.month),
    )


def set_budget(
    subject: str, period: BudgetPeriod, limit_usd: float, limit_tokens: int
) -> Call[Budget]:
    """Set or change one."""
    budget = pb.Budget(
        subject=subject,
        period=_period(period),
        limit_usd=limit_usd,
        limit_tokens=limit_tokens,
    )
    return Call(pb.SetBudgetRequest(budget=budget), lambda answer: _budget(answer.budget))


def list_budgets() -> Call[list[Budget]]:
    """All of them."""
    return Call(pb.ListBudgetsRequest(), lambda answer: [_budget(each) for each in answer.budgets])


def delete_budget(subject: str, period: BudgetPeriod) -> Call[bool]:
    """Remove one; whether it was there."""
    request = pb.DeleteBudgetRequest(subject=subject, period=_period(period))
    return Call(request, lambda answer: answer.deleted)


def estimate_agent(agent: str | AgentSpec, text: str) -> Call[CostEstimate]:
    """One execution of an agent."""
    request = pb.EstimateCostRequest()
    request.agent.agent.CopyFrom(to_ref(agent, {}))
    request.agent.input.text = text
    return Call(request, _estimate)


def estimate_workflow(workflow: _workflows.Source) -> Call[CostEstimate]:
    """One run of a workflow."""
    asked = workflow_pb2.ExecuteWorkflowRequest()
    if isinstance(workflow, str):
        asked.name = workflow
    else:
        asked.workflow.CopyFrom(_workflows.definition_of(workflow)[0])
    return Call(pb.EstimateCostRequest(workflow=asked), _estimate)


def estimate_ingestion(texts: Iterable[str], characters: int, model: str) -> Call[CostEstimate]:
    """An ingestion."""
    asked = pb.IngestionEstimate(model=model, texts=texts, characters=characters)
    return Call(pb.EstimateCostRequest(ingestion=asked), _estimate)


def _report(answer: pb.GetUsageResponse) -> UsageReport:
    rows = [UsageRow(tuple(row.keys), read_spent(row.spent)) for row in answer.rows]
    return UsageReport(rows, read_spent(answer.total))


def _budget(message: pb.Budget) -> Budget:
    period = pb.BudgetPeriod.Name(message.period).removeprefix(_PERIOD).lower()
    return Budget(
        subject=message.subject,
        period=cast("BudgetPeriod", period),
        limit_usd=message.limit_usd,
        limit_tokens=message.limit_tokens,
        spent_usd=message.spent_usd,
        spent_tokens=message.spent_tokens,
        reserved_usd=message.reserved_usd,
        reserved_tokens=message.reserved_tokens,
        period_end_time=from_timestamp(message, "period_end_time"),
    )


def _estimate(answer: pb.EstimateCostResponse) -> CostEstimate:
    return CostEstimate(
        likely=read_spent(answer.likely),
        most=read_spent(answer.most),
        confidence=answer.confidence,
        notes=tuple(answer.notes),
    )


def _group(group: UsageGroup) -> Any:
    return _number(pb.UsageGroup, _GROUP, group, "group_by", UsageGroup)


def _period(period: BudgetPeriod) -> Any:
    return _number(pb.BudgetPeriod, _PERIOD, period, "period", BudgetPeriod)


def _number(kind: Any, prefix: str, name: str, field: str, known: Any) -> Any:
    if name not in get_args(known):
        raise InvalidArgument(f"{field} must be of {', '.join(get_args(known))}, not {name!r}.")
    return kind.Value(prefix + name.upper())
