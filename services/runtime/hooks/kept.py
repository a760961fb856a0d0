"""Answers that are kept and given again, each to the caller it was first given to only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Any

import msgspec

from services.common.limits import HOOK_KEPT_BYTES_MAX, HOOK_KEPT_MAX, HOOK_TENANTS_MAX
from services.runtime.runs import Reply

_Tenant = OrderedDict[Hashable, tuple[float, bytes]]


class KeptAnswers:
    """Those of all tenants, each tenant's apart: nobody's flood lets go of another's."""

    def __init__(
        self, *, entries_max: int = HOOK_KEPT_MAX, now: Callable[[], float] = monotonic
    ) -> None:
        """`entries_max`: of each tenant; the least lately used are let go beyond it."""
        self._entries_max = entries_max
        self._now = now
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()

    def get(self, tenant: str, key: Hashable) -> Reply | None:
        """What was kept and has not ended; a copy of its own."""
        kept = self._tenants.get(tenant)
        entry = kept.get(key) if kept is not None else None
        if kept is None or entry is None or entry[0] <= self._now():
            return None
        self._tenants.move_to_end(tenant)
        kept.move_to_end(key)
        tree: Any = msgspec.msgpack.decode(entry[1])
        return Reply(ok=True, tree=tree)

    def put(self, tenant: str, key: Hashable, reply: Reply, ttl_s: float) -> None:
        """Keep an answer; not a refusal, and not one that is too large."""
        if not reply.ok:
            return
        data = msgspec.msgpack.encode(reply.tree)
        if len(data) > HOOK_KEPT_BYTES_MAX:
            return
        kept = self._tenants.setdefault(tenant, OrderedDict())
        kept[key] = self._now() + ttl_s, data
        kept.move_to_end(key)
        while len(kept) > self._entries_max:
            kept.popitem(last=False)
        self._tenants.move_to_end(tenant)
        while len(self._tenants) > HOOK_TENANTS_MAX:
            self._tenants.popitem(last=False)

    def count(self, tenant: str) -> int:
        """How many are kept of a tenant."""
        return len(self._tenants.get(tenant, ()))
