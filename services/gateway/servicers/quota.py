"""QuotaService: what the gateway counts for a tenant."""

from __future__ import annotations

from llmspell.v1 import quota_pb2, quota_pb2_grpc

from services.common.context import current_tenant
from services.gateway.quotas import Quotas


class QuotaServicer(quota_pb2_grpc.QuotaServiceServicer):
    """Tells what this gateway's accounts say."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    async def GetQuotaUsage(  # noqa: N802  (the contract's name)
        self, request: quota_pb2.GetQuotaUsageRequest, context: object
    ) -> quota_pb2.GetQuotaUsageResponse:
        """The tenant's own, or that which the operator names."""
        del request, context
        tenant = current_tenant()
        told = [
            quota_pb2.Quota(
                name=use.name, limit=use.limit, used=use.used, refused_count=use.refused
            )
            for use in await self._quotas.usage(tenant)
        ]
        return quota_pb2.GetQuotaUsageResponse(
            quotas=told, weight=self._quotas.weight(tenant), gateway_count=self._quotas.gateways
        )
