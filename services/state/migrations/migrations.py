"""Migrations of all tenants. Each runs in the background; its record says how far it has come.

All of a schema's items get their new form, or none does. One that was cut off goes on by itself
when the process starts again. One tenant has one that runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from services.common import failpoints
from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.common.limits import (
    MIGRATION_BYTES_AT_ONCE_MAX,
    MIGRATION_ITEMS_AT_ONCE_MAX,
    MIGRATION_SAMPLES_MAX,
    MIGRATION_WAIT_SECONDS_MAX,
    MIGRATIONS_KEPT_MAX,
)
from services.common.view import View
from services.state import rules as state_rules
from services.state.layout import MIGRATIONS, SCHEMAS, STAGED, tenant_prefix
from services.state.layout import migrations as layout
from services.state.layout.items import ChangeKind
from services.state.migrations import passes, rules
from services.state.migrations.model import Custom, Failure, Migration, Schema, Status, Validation
from services.state.migrations.plans import Plan, Sample, take_samples
from services.state.migrations.schemas import Versions, check_idle, read_versions
from services.state.migrations.transformer import Transformer
from services.state.migrations.transforms import CustomTransform
from services.state.step import Keeper, Step

log = logging.getLogger(__name__)

MakeBackup = Callable[[str], Awaitable[str]]
"""Backs a tenant up; the backup's id."""

_CLEARED_AT_A_TIME = 5_000
_AGAIN_S = 1.0
_DECODER = msgspec.json.Decoder(Migration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked of a migration."""

    schema: str
    to_version: str = ""
    """Empty: the latest."""
    validation: Validation = Validation.BASIC
    dry_run: bool = False
    backup: bool = True


class Migrations:
    """Migrations of all tenants."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        backup: MakeBackup | None = None,
        custom: CustomTransform | None = None,
        items_at_once: int = MIGRATION_ITEMS_AT_ONCE_MAX,
        bytes_at_once: int = MIGRATION_BYTES_AT_ONCE_MAX,
    ) -> None:
        """Nothing runs before `resume` or `start`.

        Args:
            keeper: Of the items.
            backup: Makes one first; None: there are none, and each migration says so.
            custom: Runs transforms in Lua; None: they are refused.
            items_at_once: With more items, or
            bytes_at_once: more bytes, results are made ready in slices first.
        """
        self._keeper = keeper
        self._backup = backup
        self._custom = custom
        self._items_at_once = items_at_once
        self._bytes_at_once = bytes_at_once
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: dict[tuple[str, str], int] = {}

    async def run(self) -> None:
        """Go on with what was cut off, and stay."""
        self.resume()
        await asyncio.Event().wait()

    def resume(self) -> None:
        """Go on with migrations that were cut off, be it while their traces were removed."""
        traces: set[str] = set()
        with self._keeper.engine.read() as view:
            for key, stored in view.scan(MIGRATIONS, b""):
                tenant, migration_id = layout.split_migration_key(key)
                if _DECODER.decode(stored).running:
                    self._begin(self._carry_out(tenant, migration_id))
                    traces.discard(tenant)
                elif next(view.keys(STAGED, tenant_prefix(tenant)), None):
                    traces.add(tenant)
        for tenant in traces:
            self._begin(self._clear(tenant))

    async def plan(self, tenant: str, order: Order, *, samples: int = 3) -> Plan:
        """What a migration would do; nothing is changed.

        Raises:
            ServiceError: SCHEMA_NOT_FOUND, FIELD_INVALID, NOT_IMPLEMENTED.
        """
        if samples > MIGRATION_SAMPLES_MAX:
            raise limit_exceeded("sample_count", samples, MIGRATION_SAMPLES_MAX)
        rules.check_place(tenant, order.schema)
        with self._keeper.engine.read() as view:
            versions = read_versions(view, tenant, order.schema)
        steps = self._steps(versions, order.to_version)
        selection = passes.Selection.of(tenant, versions.family)
        count, size = await self._measure(selection)
        return Plan(
            schema=order.schema,
            from_version=versions.family.current,
            to_version=steps[-1].version if steps else versions.family.current,
            versions=tuple(step.version for step in steps),
            items=count,
            size_bytes=size,
            staged=self._is_large(count, size),
            samples=self._samples(versions, steps, order, selection, samples),
        )

    async def start(self, tenant: str, order: Order) -> Migration:
        """Begin a migration; it goes on in the background.

        Where the items are at that version already, the answer has no id, and nothing runs.

        Raises:
            ServiceError: SCHEMA_NOT_FOUND, FIELD_INVALID, MIGRATION_RUNNING, NOT_IMPLEMENTED.
        """
        rules.check_place(tenant, order.schema)
        migration = await self._keeper.step(lambda step: self._start(step, tenant, order))
        if migration.migration_id:
            failpoints.hit("migrations.started")
            self._begin(self._carry_out(tenant, migration.migration_id))
        return migration

    async def get(self, tenant: str, migration_id: str, *, wait_s: float = 0.0) -> Migration:
        """How far a migration has come; after `wait_s` seconds, or sooner where it has ended.

        Raises:
            ServiceError: MIGRATION_NOT_FOUND; FIELD_INVALID, LIMIT_EXCEEDED (wait).
        """
        state_rules.check_place(tenant, "global")
        state_rules.check_wait(wait_s, MIGRATION_WAIT_SECONDS_MAX)
        with self._keeper.feed.line(tenant) as line, suppress(TimeoutError):
            async with asyncio.timeout(wait_s if wait_s > 0 else None):
                while True:
                    line.clear()
                    found = self._read(tenant, migration_id)
                    if wait_s <= 0 or not found.running:
                        return found
                    await line.wait()
        return self._read(tenant, migration_id)

    async def list(self, tenant: str, *, limit: int, before: str = "") -> Sequence[Migration]:
        """Up to `limit` migrations, the newest first, begun before one."""
        state_rules.check_place(tenant, "global")
        behind = layout.migration_key(tenant, before) if before else b""
        found: list[Migration] = []
        with self._keeper.engine.read() as view:
            for _, stored in view.back(MIGRATIONS, tenant_prefix(tenant), before=behind):
                if len(found) == limit:
                    break
                found.append(self._live(tenant, _DECODER.decode(stored)))
        return found

    async def cancel(self, tenant: str, migration_id: str) -> Migration:
        """End a migration without a trace in any item; one that has ended stays as it is.

        Raises:
            ServiceError: MIGRATION_NOT_FOUND.
        """
        state_rules.check_place(tenant, "global")
        return await self._keeper.step(
            lambda step: _end(step, tenant, migration_id, Status.ROLLED_BACK)
        )

    async def purge(self, tenant: str) -> None:
        """Erase a tenant's schemas and migrations; one that runs ends."""
        for database in (MIGRATIONS, SCHEMAS):
            await self._keeper.step(
                lambda step, database=database: step.txn.delete_prefix(  # type: ignore[misc]
                    database, tenant_prefix(tenant)
                )
            )
        await self._clear(tenant)

    async def close(self) -> None:
        """Stop what runs; it goes on at the next start. Safe to call twice."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _steps(self, versions: Versions, to_version: str) -> tuple[Schema, ...]:
        """The versions to go through; none where the items are there already."""
        current, name = versions.family.current, versions.family.name
        wanted = to_version or versions.latest
        rules.check_version(wanted, "to_version")
        versions.schema(wanted)
        if rules.order(wanted) < rules.order(current):
            rule = f"must not be below {current}: there is no way back but a backup"
            raise field_invalid("to_version", rule)
        steps = tuple(
            each
            for each in versions.after_current()
            if rules.order(each.version) <= rules.order(wanted)
        )
        for step in steps:
            for transform in step.transforms:
                if isinstance(transform, Custom) and self._custom is None:
                    raise _no_custom(name, step.version, transform.name)
        return steps

    def _start(self, step: Step, tenant: str, order: Order) -> Migration:
        versions = read_versions(step.txn, tenant, order.schema)
        steps = self._steps(versions, order.to_version)
        current = versions.family.current
        migration = Migration(
            migration_id=f"m{step.now_ns:016x}" if steps else "",
            schema=order.schema,
            from_version=current,
            to_version=steps[-1].version if steps else current,
            versions=tuple(each.version for each in steps),
            validation=order.validation,
            dry_run=order.dry_run,
            status=Status.RUNNING if steps else Status.COMPLETED,
            backup=order.backup and not order.dry_run and self._backup is not None,
            warnings=self._warnings(order),
            create_time_ns=step.now_ns,
        )
        if steps:
            check_idle(step.txn, tenant)
            step.change(ChangeKind.MIGRATION, tenant, "", migration.migration_id)
            passes.write_migration(step.txn, tenant, migration)
            _forget_old(step, tenant)
        return migration

    def _warnings(self, order: Order) -> tuple[str, ...]:
        if order.dry_run:
            return ("This was a trial; nothing was changed.",)
        if self._backup is None and order.backup:
            return ("No backup was made: this deployment makes none.",)
        return () if order.backup else ("No backup was made, as was asked.",)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, tenant: str, migration_id: str) -> None:
        """All of a migration; how it ends is in its record."""
        try:
            await self._try(tenant, migration_id)
        except ServiceError as error:
            await self._fail(tenant, migration_id, _failure(error))
        except Exception:
            log.exception("a migration failed", extra={"migration": migration_id})
            reason = Reason.INTERNAL
            await self._fail(tenant, migration_id, Failure(reason, "The migration failed."))
        finally:
            self._done.pop((tenant, migration_id), None)

    async def _try(self, tenant: str, migration_id: str) -> None:
        migration: Migration | None = self._read(tenant, migration_id)
        assert migration is not None, "it was begun"
        if migration.running and migration.backup and self._backup is not None:
            backup_id = await self._backup(tenant)
            migration = await self._note(tenant, migration_id, backup=False, backup_id=backup_id)
        if migration is not None and migration.running and not migration.measured:
            migration = await self._prepare(tenant, migration)
        if migration is None or not migration.running:
            return
        work = self._work(tenant, migration)
        if migration.staged or migration.dry_run:
            await self._stage(work)
        failpoints.hit("migrations.before_final")
        grows = not migration.dry_run
        await self._keeper.step(lambda step: passes.put_all(step, work), grows=grows)
        failpoints.hit("migrations.after_final")
        await self._clear(tenant)

    async def _prepare(self, tenant: str, migration: Migration) -> Migration | None:
        """Count, and take away what an earlier one may have left."""
        await self._clear(tenant)
        with self._keeper.engine.read() as view:
            family = read_versions(view, tenant, migration.schema).family
        count, size = await self._count(passes.Selection.of(tenant, family))
        staged = self._is_large(count, size) and not migration.dry_run
        return await self._note(
            tenant, migration.migration_id, measured=True, items_total=count, staged=staged
        )

    async def _stage(self, work: passes.Work) -> None:
        """Slice after slice until all are ready."""
        while True:
            failpoints.hit("migrations.before_slice")
            migration = await self._keeper.step(lambda step: passes.stage(step, work), grows=True)
            failpoints.hit("migrations.after_slice")
            if migration is None or migration.ready:
                return
            await asyncio.sleep(0)  # an engine in memory lets nobody else have a turn

    def _work(self, tenant: str, migration: Migration) -> passes.Work:
        with self._keeper.engine.read() as view:
            versions = read_versions(view, tenant, migration.schema)
        place = (tenant, migration.migration_id)
        return passes.Work(
            tenant,
            migration.migration_id,
            versions.family,
            Transformer(
                versions.schema(migration.from_version),
                [versions.schema(version) for version in migration.versions],
                migration.validation,
                custom=self._custom,
            ),
            lambda done: self._done.__setitem__(place, done),
        )

    async def _note(self, tenant: str, migration_id: str, **values: object) -> Migration | None:
        def note(step: Step) -> Migration | None:
            migration = passes.read_migration(step.txn, tenant, migration_id)
            if migration is None or not migration.running:
                return None
            changed = msgspec.structs.replace(migration, **values)
            return passes.write_migration(step.txn, tenant, changed)

        return await self._keeper.step(note)

    async def _fail(self, tenant: str, migration_id: str, failure: Failure) -> None:
        """Say that it failed; where even that fails, try again until it can be said."""
        while self._keeper.engine.is_open:
            try:
                await self._keeper.step(
                    lambda step: _end(step, tenant, migration_id, Status.FAILED, failure)
                )
                await self._clear(tenant)
            except ServiceError as error:
                if error.reason == Reason.MIGRATION_NOT_FOUND:
                    return
                log.warning("a migration's end cannot be kept", extra={"why": error.message})
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _clear(self, tenant: str) -> None:
        await self._keeper.repeat(
            lambda step: passes.clear_staged(step, tenant, _CLEARED_AT_A_TIME)
        )

    async def _count(self, selection: passes.Selection) -> tuple[int, int]:
        """As `_measure`; where the whole store is small, values need not be read for it."""
        with self._keeper.engine.read() as view:
            used = view.used_bytes()
        if selection.inner or used > self._bytes_at_once:
            return await self._measure(selection)
        return await passes.count_keys(self._keeper.engine.read, selection), used

    async def _measure(self, selection: passes.Selection) -> tuple[int, int]:
        return await passes.measure(self._keeper.engine.read, selection, self._keeper.time.now_ns)

    def _is_large(self, count: int, size: int) -> bool:
        return count > self._items_at_once or size > self._bytes_at_once

    def _read(self, tenant: str, migration_id: str) -> Migration:
        with self._keeper.engine.read() as view:
            found = _known(view, tenant, migration_id)
        return self._live(tenant, found)

    def _live(self, tenant: str, migration: Migration) -> Migration:
        """With what is done inside a transaction that has not ended."""
        done = self._done.get((tenant, migration.migration_id), 0)
        if not migration.running or not done or migration.staged:
            return migration
        return msgspec.structs.replace(migration, items_done=done)

    def _samples(
        self,
        versions: Versions,
        steps: Sequence[Schema],
        order: Order,
        selection: passes.Selection,
        count: int,
    ) -> Sequence[Sample]:
        if not steps or not count:
            return []
        first = versions.schema(versions.family.current)
        transformer = Transformer(first, steps, order.validation, custom=self._custom)
        with self._keeper.engine.read() as view:
            part, _ = selection.read(view, b"", count)
        return take_samples(transformer, part, self._keeper.time.now_ns())


def _known(view: View, tenant: str, migration_id: str) -> Migration:
    found = passes.read_migration(view, tenant, migration_id) if migration_id else None
    if found is None:
        raise ServiceError(
            Reason.MIGRATION_NOT_FOUND,
            f"There is no migration {migration_id[:64]!r}.",
            migration_id=migration_id[:64],
        )
    return found


def _end(
    step: Step, tenant: str, migration_id: str, status: Status, *failures: Failure
) -> Migration:
    migration = _known(step.txn, tenant, migration_id)
    if not migration.running:
        return migration
    step.change(ChangeKind.MIGRATION, tenant, "", migration_id)
    ended = msgspec.structs.replace(
        migration, status=status, errors=failures, end_time_ns=step.now_ns
    )
    return passes.write_migration(step.txn, tenant, ended)


def _forget_old(step: Step, tenant: str) -> None:
    keys = list(step.txn.keys(MIGRATIONS, tenant_prefix(tenant)))
    for key in keys[:-MIGRATIONS_KEPT_MAX]:
        step.txn.delete(MIGRATIONS, key)


def _failure(error: ServiceError) -> Failure:
    told = error.metadata
    return Failure(
        reason=int(error.reason),
        message=error.message,
        scope=told.get("scope", ""),
        key=told.get("key", ""),
        path=told.get("field", ""),
        rule=told.get("rule", ""),
    )


def _no_custom(schema: str, version: str, name: str) -> ServiceError:
    return ServiceError(
        Reason.NOT_IMPLEMENTED,
        f"The transform {name!r} of schema {schema!r} {version} is written in Lua, and this "
        "deployment runs none.",
        transform=name,
        schema=schema,
        version=version,
    )
