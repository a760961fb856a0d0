"""UsageService: a tenant's accounts and budgets, and what something would cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from google.protobuf.message import Message
from llmspell.v1 import (
    agent_pb2,
    execution_pb2,
    tenant_pb2,
    usage_pb2,
    usage_pb2_grpc,
    vector_pb2,
    workflow_pb2,
)

from services.common.access import METHODS, decide
from services.common.clock import Clock
from services.common.context import current_context, current_tenant
from services.common.erasure import Erased, erasure_messages
from services.common.errors import field_invalid, limit_exceeded, required
from services.common.limits import (
    BUDGET_TOKENS_MAX,
    BUDGET_USD_MAX,
    BUDGETS_PER_TENANT_MAX,
    DEADLINE_SECONDS_DEFAULT,
    ESTIMATE_TEXTS_MAX,
)
from services.common.scopes import parse_scope
from services.common.standing import LooksUp
from services.common.tenants import TenantLimits
from services.runtime.bridge import Handler
from services.runtime.money.estimates import Estimator, Guess, of_ingestion
from services.runtime.money.ledger import Ledger
from services.runtime.money.model import NANO, Price, to_nano
from services.runtime.money.periods import Period, window_end
from services.runtime.money.prices import Prices
from services.runtime.money.reports import Group, Sum, read_usage, spent_of
from services.runtime.money.shelf import Calls
from services.runtime.money.tally import TENANT, BudgetKey, Tally

_GROUPS: Mapping[int, Group] = {
    usage_pb2.USAGE_GROUP_DAY: Group.DAY,
    usage_pb2.USAGE_GROUP_MODEL: Group.MODEL,
    usage_pb2.USAGE_GROUP_AGENT: Group.AGENT,
    usage_pb2.USAGE_GROUP_RUN: Group.RUN,
    usage_pb2.USAGE_GROUP_MONTH: Group.MONTH,
}
_PERIODS: Mapping[int, Period] = {
    usage_pb2.BUDGET_PERIOD_UNSPECIFIED: Period.MONTH,
    usage_pb2.BUDGET_PERIOD_MONTH: Period.MONTH,
    usage_pb2.BUDGET_PERIOD_DAY: Period.DAY,
    usage_pb2.BUDGET_PERIOD_TOTAL: Period.TOTAL,
}
_PERIOD_NUMBERS = {
    Period.MONTH: usage_pb2.BUDGET_PERIOD_MONTH,
    Period.DAY: usage_pb2.BUDGET_PERIOD_DAY,
    Period.TOTAL: usage_pb2.BUDGET_PERIOD_TOTAL,
}
_DAYS = 30
_NOTES_MAX = 20
_VECTOR_STATS = "/llmspell.v1.VectorService/GetVectorStats"
_GET_AGENT = "/llmspell.v1.AgentService/GetAgent"
_GET_WORKFLOW = "/llmspell.v1.WorkflowService/GetWorkflow"


class UsageServicer(usage_pb2_grpc.UsageServiceServicer):
    """Answers from one ledger."""

    def __init__(
        self,
        ledger: Ledger,
        prices: Prices,
        clock: Clock,
        *,
        own: Mapping[str, Handler],
        embedding_model: str,
        calls: Calls,
        tenants: LooksUp | None = None,
    ) -> None:
        """Answer from a ledger.

        Args:
            ledger: It.
            prices: Of models.
            clock: What time it is.
            own: Finds agents and workflows.
            embedding_model: The deployment's.
            calls: To the vector process.
            tenants: What each of them may have; None: what it likes.
        """
        self._calls = calls
        self._tenants = tenants
        self._ledger = ledger
        self._prices = prices
        self._clock = clock
        self._own = own
        self._embedding_model = embedding_model

    async def GetUsage(  # noqa: N802  (the contract's name)
        self, request: usage_pb2.GetUsageRequest, context: object
    ) -> usage_pb2.GetUsageResponse:
        """What was spent."""
        del context
        first, last = self._days(request)
        groups = [_group(number) for number in request.group_by]
        shelf = await self._ledger.written(current_tenant())
        sums, total = await read_usage(shelf, first, last, groups)
        rows = [usage_pb2.UsageRow(keys=keys, spent=_spent(one)) for keys, one in sums.items()]
        return usage_pb2.GetUsageResponse(rows=rows, total=_spent(total))

    async def GetTenantUsage(  # noqa: N802
        self, request: usage_pb2.GetTenantUsageRequest, context: object
    ) -> usage_pb2.GetTenantUsageResponse:
        """What the tenant has and may have."""
        del request, context
        tenant = current_tenant()
        record = None if self._tenants is None else await self._tenants.get(tenant)
        limits = TenantLimits() if record is None else record.limits
        now = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)
        first, last = now.replace(day=1).date().isoformat(), now.date().isoformat()
        shelf = await self._ledger.written(tenant)
        _, total = await read_usage(shelf, first, last, [])
        raw = await self._calls.call(
            METHODS[_VECTOR_STATS], b"", current_context(), timeout_s=DEADLINE_SECONDS_DEFAULT
        )
        stats = vector_pb2.GetVectorStatsResponse.FromString(raw)
        return usage_pb2.GetTenantUsageResponse(
            tenant_id=tenant,
            limits=tenant_pb2.TenantLimits(**msgspec.structs.asdict(limits)),
            record_count=stats.record_count,
            stored_bytes=stats.stored_bytes + stats.history_bytes,
            collection_count=stats.collection_count,
            search_count=stats.search_count,
            month=_spent(total),
        )

    async def SetBudget(  # noqa: N802
        self, request: usage_pb2.SetBudgetRequest, context: object
    ) -> usage_pb2.SetBudgetResponse:
        """Set one."""
        del context
        asked, tenant = request.budget, current_tenant()
        key = _key(asked.subject, asked.period, "budget.")
        nano, tokens = _limits(asked)
        there = await self._ledger.budgets(tenant)
        if len(there) >= BUDGETS_PER_TENANT_MAX and all(one.budget != key for one in there):
            raise limit_exceeded("budgets", len(there) + 1, BUDGETS_PER_TENANT_MAX)
        tally = await self._ledger.set_budget(tenant, key, nano=nano, tokens=tokens)
        return usage_pb2.SetBudgetResponse(budget=await self._budget(tenant, tally))

    async def ListBudgets(  # noqa: N802
        self, request: usage_pb2.ListBudgetsRequest, context: object
    ) -> usage_pb2.ListBudgetsResponse:
        """All of them."""
        del request, context
        tenant = current_tenant()
        tallies = await self._ledger.budgets(tenant)
        budgets = [await self._budget(tenant, tally) for tally in tallies]
        return usage_pb2.ListBudgetsResponse(budgets=budgets)

    async def DeleteBudget(  # noqa: N802
        self, request: usage_pb2.DeleteBudgetRequest, context: object
    ) -> usage_pb2.DeleteBudgetResponse:
        """Remove one."""
        del context
        key = _key(request.subject, request.period, "")
        deleted = await self._ledger.delete_budget(current_tenant(), key)
        return usage_pb2.DeleteBudgetResponse(deleted=deleted)

    async def PurgeUsage(  # noqa: N802
        self, request: usage_pb2.PurgeUsageRequest, context: object
    ) -> usage_pb2.PurgeUsageResponse:
        """Erase what the tenant has."""
        del request, context
        removed, left = await self._ledger.purge(current_tenant())
        erased = Erased("usage and budgets", removed, left)
        return usage_pb2.PurgeUsageResponse(
            deleted_count=removed, erasures=erasure_messages([erased])
        )

    async def EstimateCost(  # noqa: N802
        self, request: usage_pb2.EstimateCostRequest, context: object
    ) -> usage_pb2.EstimateCostResponse:
        """What something would cost."""
        del context
        match request.WhichOneof("what"):
            case "agent":
                asked = request.agent
                estimator = await self._estimator()
                told = str(asked.context) if asked.HasField("context") else ""
                text = asked.input.text + told
                guess = await estimator.of_agent(asked.agent, text, asked.limits)
            case "workflow":
                estimator = await self._estimator()
                guess = await estimator.of_workflow(await self._workflow_of(request.workflow))
            case "ingestion":
                guess = self._ingestion(request.ingestion)
            case _:
                raise required("agent, workflow or ingestion")
        return _estimate(guess)

    def _days(self, request: usage_pb2.GetUsageRequest) -> tuple[str, str]:
        end = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)
        if request.HasField("end_time"):
            # Before this time: a day that begins then is not in it.
            end = _datetime(request.end_time, "end_time") - timedelta(microseconds=1)
        start = end - timedelta(days=_DAYS - 1)
        if request.HasField("start_time"):
            start = _datetime(request.start_time, "start_time")
        if start > end:
            raise field_invalid("start_time", "must be before end_time")
        return start.date().isoformat(), end.date().isoformat()

    async def _budget(self, tenant: str, tally: Tally) -> usage_pb2.Budget:
        spent = await spent_of(await self._ledger.written(tenant), tally)
        taken, purse = tally.purse.taken, tally.purse
        budget = usage_pb2.Budget(
            subject=tally.budget.subject,
            period=_PERIOD_NUMBERS[tally.budget.period],
            limit_usd=purse.limit_nano / NANO,
            limit_tokens=purse.limit_tokens,
            spent_usd=spent.nano / NANO,
            spent_tokens=spent.tokens,
            reserved_usd=max(taken.nano - spent.nano, 0) / NANO,
            reserved_tokens=max(taken.tokens - spent.tokens, 0),
        )
        end = window_end(tally.budget.period, tally.day)
        if end is not None:
            budget.period_end_time.FromDatetime(end)
        return budget

    async def _estimator(self) -> Estimator:
        typical = await self._typical_outputs()
        return Estimator(
            self._price_of,
            agent=self._agent,
            workflow=self._workflow,
            typical_output=lambda model, agent: _typical(typical, model, agent),
        )

    async def _typical_outputs(self) -> Mapping[tuple[str, ...], int]:
        """Tokens written a call of late, by model and agent and by model alone."""
        first, last = self._days(usage_pb2.GetUsageRequest())
        shelf = await self._ledger.written(current_tenant())
        typical: dict[tuple[str, ...], int] = {}
        for groups in ([Group.MODEL], [Group.MODEL, Group.AGENT]):
            sums, _ = await read_usage(shelf, first, last, groups)
            for keys, one in sums.items():
                typical[keys] = max(math.ceil(one.output_tokens / max(one.calls, 1)), 1)
        return typical

    def _price_of(self, model: str) -> Price | None:
        provider, slash, name = model.partition("/")
        return self._prices.of(provider, name) if slash else self._prices.of("openai", model)

    async def _agent(self, name: str) -> agent_pb2.AgentSpec:
        answer: Any = await self._found(_GET_AGENT, agent_pb2.GetAgentRequest(name=name))
        return answer.agent.spec  # type: ignore[no-any-return]

    async def _workflow(self, name: str) -> workflow_pb2.Workflow:
        request = workflow_pb2.GetWorkflowRequest(name=name)
        answer: Any = await self._found(_GET_WORKFLOW, request)
        return answer.workflow.workflow  # type: ignore[no-any-return]

    async def _found(self, path: str, request: Message) -> Message:
        decide(current_context(), METHODS[path])
        return await self._own[path](request, None)

    async def _workflow_of(
        self, request: workflow_pb2.ExecuteWorkflowRequest
    ) -> workflow_pb2.Workflow:
        if request.WhichOneof("source") == "name":
            return await self._workflow(request.name)
        return request.workflow

    def _ingestion(self, asked: usage_pb2.IngestionEstimate) -> Guess:
        if len(asked.texts) > ESTIMATE_TEXTS_MAX:
            raise limit_exceeded("ingestion.texts", len(asked.texts), ESTIMATE_TEXTS_MAX)
        if asked.characters < 0:
            raise field_invalid("ingestion.characters", "must not be negative")
        model = asked.model or self._embedding_model
        return of_ingestion(asked.texts, asked.characters, model, self._price_of(model))


def _typical(typical: Mapping[tuple[str, ...], int], model: str, agent: str) -> int | None:
    full = model if "/" in model else f"openai/{model}"
    return typical.get((full, agent), typical.get((full,)))


def _group(number: int) -> Group:
    if number not in _GROUPS:
        known = ", ".join(group.value for group in Group)
        raise field_invalid("group_by", f"must be of {known}")
    return _GROUPS[number]


def _key(subject: str, period: int, field: str) -> BudgetKey:
    if not subject:
        raise required(f"{field}subject")
    if subject != TENANT and parse_scope(subject).kind != "agent":
        raise field_invalid(f"{field}subject", "must be tenant or agent:NAME")
    if period not in _PERIODS:
        raise field_invalid(f"{field}period", "must be day, month or total")
    return BudgetKey(subject, _PERIODS[period])


def _limits(budget: usage_pb2.Budget) -> tuple[int, int]:
    """(billionths of a dollar, tokens)."""
    usd, tokens = budget.limit_usd, budget.limit_tokens
    if not 0 <= usd <= BUDGET_USD_MAX:
        raise field_invalid("budget.limit_usd", f"must be 0 to {BUDGET_USD_MAX}")
    if not 0 <= tokens <= BUDGET_TOKENS_MAX:
        raise field_invalid("budget.limit_tokens", f"must be 0 to {BUDGET_TOKENS_MAX}")
    nano = to_nano(usd)
    if usd and not nano:
        raise field_invalid("budget.limit_usd", "must be at least a billionth of a US dollar")
    if not nano and not tokens:
        raise required("budget.limit_usd or budget.limit_tokens")
    return nano, tokens


def _datetime(stamp: Any, field: str) -> datetime:
    try:
        return stamp.ToDatetime(tzinfo=UTC)  # type: ignore[no-any-return]
    except (ValueError, OverflowError):
        raise field_invalid(field, "is no time") from None


def _spent(one: Sum) -> execution_pb2.Spent:
    return execution_pb2.Spent(
        input_tokens=one.input_tokens,
        output_tokens=one.output_tokens,
        cached_tokens=one.cached_tokens,
        cost_usd=one.nano / NANO,
        estimated=one.estimated_calls > 0,
        model_calls=min(one.calls, 2**31 - 1),
    )


def _estimate(guess: Guess) -> usage_pb2.EstimateCostResponse:
    most_calls = min(guess.calls_most, 2**31 - 1)
    return usage_pb2.EstimateCostResponse(
        likely=execution_pb2.Spent(
            input_tokens=_int64(guess.likely_input),
            output_tokens=_int64(guess.likely_output),
            cost_usd=guess.likely_nano / NANO,
            estimated=True,
            model_calls=min(guess.calls, most_calls),
        ),
        most=execution_pb2.Spent(
            input_tokens=_int64(guess.most_input),
            output_tokens=_int64(guess.most_output),
            cost_usd=guess.most_nano / NANO,
            estimated=guess.unpriced,
            model_calls=most_calls,
        ),
        confidence=guess.confidence,
        notes=_notes(tuple(guess.notes)),
    )


def _int64(number: int) -> int:
    return min(number, 2**63 - 1)


def _notes(notes: Sequence[str]) -> Sequence[str]:
    return notes[:_NOTES_MAX]
