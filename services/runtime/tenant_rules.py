"""What the operator says of tenants, as this process was told last."""

from __future__ import annotations

from services.common.limits import RUN_JOURNAL_SECONDS
from services.common.tenants import Tenants


class TenantRules:
    """Asked within calls, whose door has looked the tenant up."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    def runs(self, tenant: str) -> int:
        """How many runs it may have at the same time; 0: as many as every tenant."""
        record = self._tenants.known(tenant)
        return 0 if record is None else record.limits.concurrent_runs

    def journals_s(self, tenant: str) -> float:
        """How long journals are kept of its runs that belong to no session, in seconds."""
        record = self._tenants.known(tenant)
        asked = 0.0 if record is None else record.retention.runs_s
        return min(asked or RUN_JOURNAL_SECONDS, RUN_JOURNAL_SECONDS)
