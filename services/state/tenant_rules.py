"""How long things of a tenant are kept, by its operator's word; from this process's own store."""

from __future__ import annotations

import msgspec

from services.common.clock import Clock
from services.common.scopes import SYSTEM_TENANT, TENANTS_SCOPE
from services.common.tenants import CACHE_S, TenantRecord, TenantRetention
from services.state.engine import Engine
from services.state.layout import ITEMS
from services.state.layout.items import item_key, unpack_item

_REMEMBERED_MAX = 10_000
_DEFAULT = TenantRetention()


class TenantRules:
    """Looked up in the store, at most a second old."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._known: dict[str, tuple[float, TenantRecord | None]] = {}

    async def get(self, tenant_id: str) -> TenantRecord | None:
        """A tenant that takes calls, as `common.tenants.Tenants` gives it."""
        record = self._record(tenant_id)
        return record if record is not None and record.open else None

    def retention(self, tenant: str) -> TenantRetention:
        """How long a tenant's things are kept; of one that is not there, as by default."""
        record = self._record(tenant)
        return _DEFAULT if record is None else record.retention

    def _record(self, tenant: str) -> TenantRecord | None:
        now = self._clock.monotonic()
        known = self._known.get(tenant)
        if known is not None and now - known[0] < CACHE_S:
            return known[1]
        if len(self._known) >= _REMEMBERED_MAX:
            self._known.clear()
        found = self._read(tenant)
        self._known[tenant] = (now, found)
        return found

    def events_ns(self, tenant: str, most_ns: int) -> int:
        """How long an event that is published now is kept, in nanoseconds."""
        return _less(self.retention(tenant).events_s * 1e9, most_ns)

    def backup_days(self, tenant: str, most_days: float) -> float:
        """How old a backup may become; 0: as old as it likes."""
        asked = self.retention(tenant).backups_s / 86_400
        return min(asked, most_days) if asked and most_days else asked or most_days

    def _read(self, tenant: str) -> TenantRecord | None:
        place = item_key(SYSTEM_TENANT, TENANTS_SCOPE, tenant)
        with self._engine.read() as view:
            stored = view.get(ITEMS, place)
        value = None if stored is None else unpack_item(tenant, stored).value
        return None if value is None else msgspec.json.decode(value.content, type=TenantRecord)


def _less(asked: float, most: int) -> int:
    return min(round(asked), most) if asked else most
