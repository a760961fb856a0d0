"""QuotaService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from llmspell._contract import Call
from llmspell._quota_types import Quota, QuotaUsage
from llmspell.v1 import quota_pb2 as pb


def get_quota_usage() -> Call[QuotaUsage]:
    """What the caller's tenant may take, and has taken."""
    return Call(pb.GetQuotaUsageRequest(), _usage)


def _usage(answer: pb.GetQuotaUsageResponse) -> QuotaUsage:
    quotas = [Quota(each.name, each.limit, each.used, each.refused_count) for each in answer.quotas]
    return QuotaUsage(quotas, answer.weight, answer.gateway_count)
