"""Tokens and money of the asyncio client; `_blocking_usage` says more."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from llmspell import _quotas, _usage
from llmspell import types as t
from llmspell._awaiting import AsyncCaller
from llmspell._workflows import Source


class AsyncUsageCalls(AsyncCaller):
    """What was spent, what may be spent, what something would cost."""

    async def get_usage(
        self,
        *,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        group_by: Iterable[t.UsageGroup] = (),
    ) -> t.UsageReport:
        """What models took, grouped.

        Args:
            start_time: From this day of UTC on; None: the last 30 days.
            end_time: Before this time; None: now.
            group_by: Such as `["day", "model"]`; none: all in one. Runs are told of for 30 days.
        """
        return await self._unary(_usage.get_usage(start_time, end_time, group_by))

    async def get_tenant_usage(self) -> t.TenantUsage:
        """What the tenant has and may have: limits, vectors, money of this month."""
        return await self._unary(_usage.get_tenant_usage())

    async def set_budget(
        self,
        subject: str = "tenant",
        *,
        period: t.BudgetPeriod = "month",
        limit_usd: float = 0.0,
        limit_tokens: int = 0,
    ) -> t.Budget:
        """Set a budget or change it; calls of models that it has no room for are refused.

        Args:
            subject: `tenant`, or `agent:NAME`.
            period: It counts from the begin of it on.
            limit_usd: US dollars; 0: no limit of money.
            limit_tokens: Tokens, read and written; 0: no limit of tokens.
        """
        return await self._unary(_usage.set_budget(subject, period, limit_usd, limit_tokens))

    async def list_budgets(self) -> list[t.Budget]:
        """All budgets, with what is spent of them."""
        return await self._unary(_usage.list_budgets())

    async def delete_budget(
        self, subject: str = "tenant", *, period: t.BudgetPeriod = "month"
    ) -> bool:
        """Remove a budget; whether it was there."""
        return await self._unary(_usage.delete_budget(subject, period))

    async def estimate_agent(self, agent: str | t.AgentSpec, text: str = "") -> t.CostEstimate:
        """What one execution of an agent would cost, without doing it.

        Args:
            agent: Name of a registered one, or a description of one.
            text: What it would be asked.
        """
        return await self._unary(_usage.estimate_agent(agent, text))

    async def estimate_workflow(self, workflow: Source) -> t.CostEstimate:
        """What one run of a workflow would cost, without running it.

        Args:
            workflow: Name of a registered one, or one as `execute_workflow` takes it.
        """
        return await self._unary(_usage.estimate_workflow(workflow))

    async def estimate_ingestion(
        self, texts: Iterable[str] = (), *, characters: int = 0, model: str = ""
    ) -> t.CostEstimate:
        """What embedding texts would cost, without doing it.

        Args:
            texts: They, or
            characters: how many characters there are of them.
            model: As `provider/model`; empty: the deployment's.
        """
        return await self._unary(_usage.estimate_ingestion(texts, characters, model))

    async def get_quota_usage(self) -> t.QuotaUsage:
        """What the tenant may take at the public door, and what it has taken of it."""
        return await self._unary(_quotas.get_quota_usage())
