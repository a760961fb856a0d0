"""Finds tools, decides who may execute them, and executes them where they belong."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from services.common.clock import SystemClock
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError, field_invalid
from services.common.policy import operation_refusal
from services.common.tracing import span
from services.runtime.claims import Claim, Memory
from services.runtime.frames import FrameError, Kind
from services.runtime.pool import WorkerPool
from services.runtime.toolbox.model import Level, Need, Outcome
from services.runtime.toolbox.receipt import Noted
from services.runtime.tools.entry import Entry, HostCall
from services.runtime.tools.folders import NO_FOLDER, Folders
from services.runtime.tools.last_word import outcome_of
from services.runtime.tools.network import Network
from services.runtime.tools.process import Lines, describe_tools, execute_in_jail
from services.runtime.tools.receipts import Receipts, Slip

log = logging.getLogger(__name__)

WALL_SECONDS_MAX = 300.0
_DESCRIBE_SECONDS = 30.0
_ORPHAN_MARGIN_S = 3.0
"""After its time a process that has outlived its runtime has ended itself."""
_EXECUTE = "ToolService/ExecuteTool"
PERMISSIONS = {Level.RESTRICTED: "tool.restricted", Level.PRIVILEGED: "tool.privileged"}
"""What a caller must hold beside `tool.execute`."""

NO_NETWORK = Network(None)
"""Of tools that need none."""
SettingsOf = Callable[[str, str], Mapping[str, Any]]
"""Tool and tenant → what the operator tells that tool: no other tool's keys, no other tenant's."""


class Ways(Protocol):
    """A deployment's network, as executions are given it."""

    def lines(self, tool: str, tenant: str) -> AbstractContextManager[Lines]:
        """The ways out of one execution."""
        ...


class Toolbox:
    """Every tool of this runtime."""

    def __init__(
        self,
        pool: WorkerPool,
        folders: Folders,
        inner: Sequence[Entry],
        *,
        network: Ways,
        settings: SettingsOf,
        off: frozenset[str] = frozenset(),
        receipts: Receipts | None = None,
    ) -> None:
        """Make it.

        Args:
            pool: Of tools' processes.
            folders: Of the tenants.
            inner: Tools that run here.
            network: Makes tools' connections.
            settings: What the operator tells tools.
            off: Names of tools that this deployment does not offer.
            receipts: Of executions that may outlive this process; None: there are none.
        """
        self._pool = pool
        self._folders = folders
        self._inner = inner
        self._network = network
        self._settings = settings
        self._off = off
        self.receipts = receipts if receipts is not None else Receipts(None, SystemClock())
        self._loading: asyncio.Task[dict[str, Entry]] | None = None

    async def close(self) -> None:
        """End what goes on."""
        await self.receipts.close()
        await self._pool.close()

    async def entries(self) -> dict[str, Entry]:
        """Every tool by name, in order."""
        if self._loading is None or (self._loading.done() and self._loading.exception()):
            self._loading = asyncio.create_task(self._load())
        return await asyncio.shield(self._loading)

    async def _load(self) -> dict[str, Entry]:
        told = await describe_tools(self._pool, timeout_s=_DESCRIBE_SECONDS)
        known = [*map(Entry.of, told), *self._inner]
        return {
            entry.name: entry
            for entry in sorted(known, key=lambda entry: entry.name)
            if entry.name not in self._off
        }

    async def purge_files(self, tenant: str) -> tuple[int, int]:
        """Erase a tenant's folder; tells how many files and folders went, and how many are left.

        Raises:
            ServiceError: INTERNAL where something cannot be removed; asking again goes on.
        """
        await asyncio.to_thread(self.receipts.erase, tenant)
        try:
            removed = await asyncio.to_thread(self._folders.erase, tenant)
            return removed, await asyncio.to_thread(self._folders.left, tenant)
        except OSError as error:
            log.exception("the files of a tenant cannot be removed")
            text = f"Some files of the tenant cannot be removed: {error.strerror}."
            raise ServiceError(Reason.INTERNAL, text) from None

    async def find(self, name: str) -> Entry:
        """A tool by its name or an old one.

        Raises:
            ServiceError: TOOL_NOT_FOUND, with the nearest name.
        """
        entries = await self.entries()
        if (named := _named(entries, name)) is not None:
            return named
        near = difflib.get_close_matches(name[:100], entries, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ServiceError(
            Reason.TOOL_NOT_FOUND, f"Tool {name[:100]!r} not found.{hint}", tool=name[:100]
        )

    def changes_nothing(self, name: object) -> bool:
        """Whether all that a tool does stays in its process: it has neither files nor network.

        False where tools are not known yet.
        """
        loading = self._loading
        if loading is None or not loading.done() or loading.cancelled() or loading.exception():
            return False
        named = _named(loading.result(), name)
        if named is None or named.body is not None:
            return False
        return not {Need.FILES, Need.NETWORK} & named.needs

    def memory_of(self, name: object) -> Memory:
        """Who knows of an execution once this process is lost; NONE where no tool is known yet."""
        if self.changes_nothing(name):
            return Memory.NEEDLESS
        loading = self._loading
        if loading is None or not loading.done() or loading.cancelled() or loading.exception():
            return Memory.NONE
        named = _named(loading.result(), name)
        if named is None:
            return Memory.NONE
        if named.body is not None:
            return Memory.REQUEST_IDS
        return Memory.RECEIPT if self.receipts.are_kept else Memory.NONE

    async def execute(
        self,
        name: str,
        arguments: Mapping[str, Any],
        context: CallContext,
        *,
        timeout_s: float | None = None,
        session_id: str = "",
        claim: Claim | None = None,
    ) -> Outcome:
        """Execute a tool for a caller; with a `claim` once, though its runtime were lost.

        Raises:
            ServiceError: TOOL_NOT_FOUND, PERMISSION_DENIED, NOT_IMPLEMENTED, FIELD_INVALID,
                FIELD_REQUIRED, and what `execute_in_jail` raises.
        """
        entry = await self.find(name)
        _decide(context, entry)
        if entry.unavailable:
            raise ServiceError(Reason.NOT_IMPLEMENTED, entry.unavailable, tool=entry.name)
        accepted = entry.rules.accept(arguments)
        wall_s = _wall_s(entry, timeout_s)
        if entry.body is not None:
            request_id = claim.request_id if claim is not None else ""
            call = HostCall(
                context=context, timeout_s=wall_s, session_id=session_id, request_id=request_id
            )
            with _executing(entry):
                return await _in_time(entry, accepted, call)
        if claim is None or not claim.receipt:
            return await self._jailed(entry, accepted, context, wall_s)
        met = await self.receipts.meet(context.tenant, claim, wait_s=wall_s + _ORPHAN_MARGIN_S)
        with self.receipts.telling(claim):
            if isinstance(met, Noted):
                return _as_noted(entry, met, claim)
            try:
                return await self._jailed(
                    entry, accepted, context, wall_s, slip=met, is_left=claim.is_left
                )
            finally:
                met.close()

    async def _jailed(
        self,
        entry: Entry,
        accepted: Mapping[str, Any],
        context: CallContext,
        wall_s: float,
        *,
        slip: Slip | None = None,
        is_left: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        network = self._network if Need.NETWORK in entry.needs else NO_NETWORK
        has_files = Need.FILES in entry.needs
        folder = await self._folders.open(context.tenant) if has_files else NO_FOLDER
        with _executing(entry), network.lines(entry.name, context.tenant) as lines:
            return await execute_in_jail(
                self._pool,
                entry,
                accepted,
                tenant=context.tenant,
                folder=folder,
                settings=self._settings(entry.name, context.tenant),
                wall_s=wall_s,
                lines=lines,
                slip=slip,
                is_left=is_left,
            )


def _executing(entry: Entry) -> AbstractContextManager[object]:
    """The span of an execution, by OpenTelemetry's names; its arguments are not told."""
    told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": entry.name}
    return span(f"execute_tool {entry.name}", told)


def _named(entries: Mapping[str, Entry], name: object) -> Entry | None:
    """The tool of this name, or of this old one."""
    if not isinstance(name, str):
        return None
    old = (entry for entry in entries.values() if name in entry.old_names)
    return entries.get(name) or next(old, None)


def _as_noted(entry: Entry, noted: Noted, claim: Claim) -> Outcome:
    """What came of an execution whose runtime was lost."""
    try:
        return outcome_of(entry, Kind(noted.kind), noted.data)
    except (FrameError, ValueError):
        log.warning("a receipt of %s is not one", entry.name)
        raise claim.unknown from None


def _decide(context: CallContext, entry: Entry) -> None:
    needed = PERMISSIONS.get(entry.level)
    held = context.permissions
    if needed is not None and needed not in held and "*" not in held:
        raise ServiceError(
            Reason.PERMISSION_DENIED,
            f"This key may not do that: {entry.name} is {entry.level} and needs the permission "
            f"{needed}.",
            permission=needed,
            tool=entry.name,
        )
    if needed is not None and (refused := operation_refusal(context.policy, _EXECUTE, needed)):
        raise refused


def _wall_s(entry: Entry, asked: float | None) -> float:
    if asked is None:
        return entry.limits.wall_s
    if not 0 < asked <= WALL_SECONDS_MAX:
        raise field_invalid("timeout", f"must be above 0 and at most {WALL_SECONDS_MAX:g} seconds")
    return asked


async def _in_time(entry: Entry, arguments: dict[str, Any], call: HostCall) -> Outcome:
    assert entry.body is not None
    try:
        async with asyncio.timeout(call.timeout_s):
            return await entry.body(arguments, call)
    except TimeoutError:
        raise ServiceError(
            Reason.TOOL_TIME_LIMIT,
            f"The tool {entry.name} took longer than {call.timeout_s:g} s and was ended.",
            tool=entry.name,
            limit=call.timeout_s,
        ) from None
