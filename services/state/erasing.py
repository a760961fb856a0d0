"""Erases a tenant: everything that any database, file or backup has of it, looked at again.

The order is that of what depends on what, and the last step writes the data file anew: LMDB leaves
what was removed in pages that are free, key names in the clear even where values are sealed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common.erasure import Erased
from services.common.scopes import SYSTEM_TENANT, TENANTS_SCOPE
from services.common.store import View
from services.state.backup.service import Backups
from services.state.layout import (
    ARTIFACTS,
    CHECKPOINTS,
    EVENTS,
    ITEMS,
    JOURNAL,
    JOURNALS,
    KEYS,
    MIGRATIONS,
    REQUESTS,
    SCHEMAS,
    SESSIONS,
    STAGED,
    tenant_prefix,
)
from services.state.layout.items import ChangeKind
from services.state.model import Changed
from services.state.step import Keeper

Purge = Callable[[str], Awaitable[object]]
"""Erases what a tenant has of one kind."""

_KINDS = {
    "items": (ITEMS,),
    "sessions": (SESSIONS,),
    "checkpoints": (CHECKPOINTS,),
    "artifacts": (ARTIFACTS,),
    "events": (EVENTS,),
    "journals of runs": (JOURNALS,),
    "calls in journals": (JOURNAL,),
    "requests that were remembered": (REQUESTS,),
    "schemas": (SCHEMAS,),
    "migrations": (MIGRATIONS, STAGED),
    "data keys": (KEYS,),
}
_COPIES = "before-schema-*"
_FILE = "the data file, written anew"


@dataclass(frozen=True, slots=True)
class Parts:
    """What has something of a tenant, beside items."""

    purges: Sequence[Purge]
    destroy_keys: Purge
    backups: Backups
    data: Path | None
    """The folder of the data file; None: there is none."""


class Eraser:
    """Erases tenants of one keeper."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        items: Callable[[str], Awaitable[Changed]],
        requests: Purge,
        parts: Parts | None = None,
    ) -> None:
        """`items`, `requests`: erase these. Without `parts` there is nothing else."""
        self._keeper = keeper
        self._items = items
        self._requests = requests
        self._parts = parts

    async def erase(self, tenant: str, *, rewrite: bool) -> tuple[Changed, list[Erased]]:
        """Erase a tenant, and look again. Repeating it goes on where it was cut off.

        Raises:
            ServiceError: STORAGE_FULL, BACKUP_CORRUPT; what was erased before stays so.
        """
        parts = self._parts
        before = self._counts(tenant)
        backups = (0, 0) if parts is None else await parts.backups.forgetting.counts(tenant)
        files = self._blob_files(tenant)
        for purge in () if parts is None else parts.purges:
            await purge(tenant)
        changed = await self._items(tenant)
        await self._requests(tenant)
        if parts is not None:
            await parts.destroy_keys(tenant)
        if rewrite:
            await self._forget_system_changes(tenant)
        rewritten = await self._keeper.engine.rewrite() if rewrite else True
        after = self._counts(tenant)
        found = [Erased(what, before[what], after[what]) for what in _KINDS]
        found.append(Erased("files of artifacts", files, self._blob_files(tenant)))
        if parts is not None:
            own, all_ = await parts.backups.forgetting.counts(tenant)
            found += [
                Erased("backups of its own", backups[0], own),
                Erased("parts in backups of all tenants", backups[1], all_),
            ]
        if rewrite:
            found += [_file(is_new=rewritten), *self._copies()]
        return changed, found

    async def _forget_system_changes(self, tenant: str) -> None:
        """What the system did for a tenant is named in its changes, down to names of agents."""
        await self._keeper.step(
            lambda step: step.change(ChangeKind.DELETE, SYSTEM_TENANT, TENANTS_SCOPE, tenant)
        )
        await self._keeper.purge_changes(SYSTEM_TENANT)

    def _counts(self, tenant: str) -> Mapping[str, int]:
        prefix = tenant_prefix(tenant)
        with self._keeper.engine.read() as view:
            return {what: _count(view, names, prefix) for what, names in _KINDS.items()}

    def _blob_files(self, tenant: str) -> int:
        folder = None if self._parts is None else self._parts.data
        if folder is None:
            return 0
        return sum(each.is_file() for each in (folder / "blobs" / tenant).rglob("*"))

    def _copies(self) -> Iterable[Erased]:
        """Copies of the data file from before an upgrade; they are the operator's to remove."""
        folder = None if self._parts is None else self._parts.data
        copies = [] if folder is None else [each.name for each in folder.glob(_COPIES)]
        if copies:
            note = f"remove {', '.join(copies)}: they may have something of it"
            yield Erased("copies of the data file", 0, len(copies), note)


def _file(*, is_new: bool) -> Erased:
    note = "" if is_new else "it is too large to be written anew while others wait; compact it"
    return Erased(_FILE, 1, 0 if is_new else 1, note)


def _count(view: View, databases: Iterable[str], prefix: bytes) -> int:
    return sum(1 for name in databases for _ in view.keys(name, prefix))
