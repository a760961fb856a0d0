"""The state process: its parts, in the order in which they are made."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
from llmspell.v1 import (
    artifact_pb2_grpc,
    audit_pb2_grpc,
    backup_pb2_grpc,
    event_pb2_grpc,
    journal_pb2_grpc,
    migration_pb2_grpc,
    process_pb2_grpc,
    session_pb2_grpc,
    state_pb2_grpc,
    vault_pb2_grpc,
)

from services.common.bearers import inner_door
from services.common.clock import Clock, SystemClock
from services.common.context import Seal, derive_key, read_key
from services.common.damage import Damages
from services.common.door import Arrival
from services.common.expiry import sweep_forever
from services.common.paging import PageTokens
from services.common.process import SERVICE as PROCESS_SERVICE
from services.common.process import ProcessServicer
from services.common.server import Parts
from services.common.settings import Settings, StateSettings
from services.common.standing import Standing
from services.common.store import Store
from services.common.store_measures import add_store_metrics
from services.common.tls import process_tls
from services.common.vitals import Vitals
from services.state.artifacts import Artifacts
from services.state.audit import AuditLog
from services.state.backup.blobs import BlobCare
from services.state.backup.folder import BackupFolder
from services.state.backup.healing import Healer
from services.state.backup.retention import Retention
from services.state.backup.service import Backups
from services.state.blob_seal import BlobSeal
from services.state.blobs import open_blobs
from services.state.engine import open_engine
from services.state.erasing import Eraser
from services.state.erasing import Parts as ErasedParts
from services.state.event_step import KeptEvents
from services.state.events import Events
from services.state.file_care import FileCare
from services.state.journal import Journals
from services.state.keyring import Keyring
from services.state.master_key import MasterKeys, read_master_keys
from services.state.migrations.migrations import Migrations
from services.state.migrations.schemas import Schemas
from services.state.servicers.artifact import ArtifactServicer
from services.state.servicers.audit import AuditServicer
from services.state.servicers.backup import BackupServicer
from services.state.servicers.event import EventServicer
from services.state.servicers.journal import JournalServicer
from services.state.servicers.migration import MigrationServicer
from services.state.servicers.session import SessionServicer
from services.state.servicers.state import StateParts, StateServicer
from services.state.servicers.vault import VaultServicer
from services.state.session_ends import SessionEnds
from services.state.sessions import Sessions
from services.state.step import Keeper
from services.state.tenant_rules import TenantRules
from services.state.vault import Vault

STATE_SERVICE = "llmspell.v1.StateService"
SESSION_SERVICE = "llmspell.v1.SessionService"
ARTIFACT_SERVICE = "llmspell.v1.ArtifactService"
BACKUP_SERVICE = "llmspell.v1.BackupService"
JOURNAL_SERVICE = "llmspell.v1.JournalService"
EVENT_SERVICE = "llmspell.v1.EventService"
MIGRATION_SERVICE = "llmspell.v1.MigrationService"
VAULT_SERVICE = "llmspell.v1.VaultService"
AUDIT_SERVICE = "llmspell.v1.AuditService"

SERVICES = (
    STATE_SERVICE,
    SESSION_SERVICE,
    ARTIFACT_SERVICE,
    BACKUP_SERVICE,
    EVENT_SERVICE,
    JOURNAL_SERVICE,
    MIGRATION_SERVICE,
    VAULT_SERVICE,
    AUDIT_SERVICE,
    PROCESS_SERVICE,
)

log = logging.getLogger(__name__)


async def build(settings: Settings) -> Parts:
    """Open the store, which recovers by itself, and prepare to serve."""
    mine = settings.state
    clock, vitals = SystemClock(), Vitals("state", tls=process_tls(settings, "state"))
    counts = vitals.counts
    key = read_key(Path(settings.deployment.context_key_file))
    file = await asyncio.to_thread(_looked_at, mine, counts.damages)
    ring = _keyring(mine, clock)
    keeper = Keeper(open_engine(mine.engine, Path(mine.data), cipher=ring), clock=clock)
    parts = StateParts.over(keeper)
    if isinstance(keeper.engine, Store):
        add_store_metrics(vitals.metrics, keeper.engine)
    seal = BlobSeal(keeper.engine, ring, asyncio.get_running_loop())
    blobs = open_blobs(mine.engine, Path(mine.data), sealing=seal)
    artifacts = Artifacts(keeper, blobs, damages=counts.damages)
    backups = _backups(mine, keeper, ring, artifacts, counts.damages)
    journals = Journals(keeper)
    told = TenantRules(keeper.engine, clock)
    backups.days_of = told.backup_days
    kept, requests = _kept_events(mine), parts.requests
    events = Events(keeper, requests=requests, kept=kept, age_of=told.events_ns)
    sessions = Sessions(keeper, also_erase=(artifacts.delete_scope, journals.delete_scope))
    ends = SessionEnds(keeper)
    migrations = _migrations(keeper, backups)
    vault = Vault(keeper, ring, read_masters=lambda: _masters(mine))
    audit = AuditLog(keeper, key=key)
    swept = (parts.items, sessions, ends, vault, parts.requests, events, artifacts, journals)

    data = None if mine.engine == "memory" else Path(mine.data)
    ended = (sessions, ends, migrations, vault, audit)
    owners = _Owners(parts, artifacts, backups, journals, events, *ended, data)

    def register(server: grpc.aio.Server) -> None:
        _register(server, owners, keeper, key)
        process = ProcessServicer(vitals, clock)
        process_pb2_grpc.add_ProcessServiceServicer_to_server(process, server)

    async def gate(arrival: Arrival) -> None:
        backups.check_open(arrival.caller, arrival)

    most, standing = mine.calls_at_once, Standing(told)
    door = inner_door(
        vitals, key, clock, "state", calls_at_once=most, gates=(gate,), standing=standing
    )

    async def close() -> None:
        for part in (standing, migrations, backups, artifacts, parts.items):
            await part.close()

    return Parts(
        listen=mine.listen,
        door=door,
        register=register,
        services=SERVICES,
        reflection=mine.reflection,
        trunk=Seal(key, clock),
        background=(
            *(partial(sweep_forever, each, mine.sweep_interval_s) for each in swept),
            file.beside,
            artifacts.tidy_up,
            parts.watches.run,
            migrations.run,
            events.subscriptions.run,
            ends.run,
            lambda: backups.care(mine.backup_sweep_s),
        ),
        close=close,
        vitals=vitals,
        metrics_listen=mine.metrics_listen,
    )


@dataclass(frozen=True, slots=True)
class _Owners:
    """Who answers for what."""

    state: StateParts
    artifacts: Artifacts
    backups: Backups
    journals: Journals
    events: Events
    sessions: Sessions
    ends: SessionEnds
    migrations: Migrations
    vault: Vault
    audit: AuditLog
    data: Path | None
    """The folder of the data file."""

    @property
    def eraser(self) -> Eraser:
        """What empties a tenant."""
        areas = (self.migrations, self.artifacts, self.backups, self.events, self.journals)
        purges = [area.purge for area in (*areas, self.sessions, self.ends, self.audit)]
        parts = ErasedParts(purges, self.vault.destroy, self.backups, self.data)
        return self.state.eraser(parts)


def _register(server: grpc.aio.Server, owners: _Owners, keeper: Keeper, key: bytes) -> None:
    """Add the servicers of the contract's services."""

    def pages(what: str) -> PageTokens:
        return PageTokens(derive_key(key, f"{what} pages"))

    state = StateServicer(owners.state, pages("state"), owners.eraser)
    state_pb2_grpc.add_StateServiceServicer_to_server(state, server)
    session = SessionServicer(owners.sessions, owners.ends, pages("session"))
    session_pb2_grpc.add_SessionServiceServicer_to_server(session, server)
    artifact = ArtifactServicer(owners.artifacts, pages("artifact"))
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(artifact, server)
    backup = BackupServicer(owners.backups, pages("backup"))
    backup_pb2_grpc.add_BackupServiceServicer_to_server(backup, server)
    event = EventServicer(owners.events, pages("event"))
    event_pb2_grpc.add_EventServiceServicer_to_server(event, server)
    journal = JournalServicer(owners.journals, pages("journal"))
    journal_pb2_grpc.add_JournalServiceServicer_to_server(journal, server)
    migration = MigrationServicer(Schemas(keeper), owners.migrations, pages("migration"))
    migration_pb2_grpc.add_MigrationServiceServicer_to_server(migration, server)
    vault_pb2_grpc.add_VaultServiceServicer_to_server(VaultServicer(owners.vault), server)
    audit = AuditServicer(owners.audit, pages("audit"))
    audit_pb2_grpc.add_AuditServiceServicer_to_server(audit, server)


def _looked_at(mine: StateSettings, damages: Damages) -> FileCare:
    """The care of the data file, which has looked at it."""
    care = FileCare(Path(mine.data), damages)
    if mine.engine != "memory":
        care.before()
    return care


def _backups(
    mine: StateSettings, keeper: Keeper, ring: Keyring, artifacts: Artifacts, damages: Damages
) -> Backups:
    """The folder of backups; tenants whose restore was cut off are refused until it has ended."""
    place = Path(mine.backups) if mine.backups else Path(mine.data) / "backups"
    folder = BackupFolder(place, damages)
    retention = Retention(mine.backups_kept, mine.backup_days, mine.backup_bytes)
    collector = artifacts.collector
    care = BlobCare(collector.blobs, collector.pins, damages)
    backups = Backups(keeper, folder, retention=retention, ring=ring, care=care)
    backups.recover()
    artifacts.heal = Healer(backups).heal
    return backups


def _migrations(keeper: Keeper, backups: Backups) -> Migrations:
    """Each of them makes a backup first, unless its caller wants none."""

    async def make(tenant: str) -> str:
        return (await backups.create(tenant)).backup_id

    return Migrations(keeper, backup=make)


def _masters(mine: StateSettings) -> MasterKeys:
    return read_master_keys(mine.master_key_file, mine.previous_master_key_file, os.environ)


def _keyring(mine: StateSettings, clock: Clock) -> Keyring:
    """How values are kept; the log says whether they are encrypted."""
    ring = Keyring(_masters(mine), clock=clock)
    if ring.masters.current is None:
        log.warning("what tenants keep is not encrypted: no master key is given")
    else:
        key_id = ring.masters.current.key_id.hex()
        log.info("what tenants keep is encrypted", extra={"master_key_id": key_id})
    return ring


def _kept_events(settings: StateSettings) -> KeptEvents:
    return KeptEvents(
        count_max=settings.events_kept,
        bytes_max=settings.events_kept_bytes,
        age_ns=int(settings.events_kept_s * 1e9),
    )
