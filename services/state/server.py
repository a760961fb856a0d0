"""The state process: its parts, in the order in which they are made."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from pathlib import Path

import grpc
from llmspell.v1 import (
    artifact_pb2_grpc,
    backup_pb2_grpc,
    event_pb2_grpc,
    journal_pb2_grpc,
    migration_pb2_grpc,
    process_pb2_grpc,
    session_pb2_grpc,
    state_pb2_grpc,
    vault_pb2_grpc,
)

from services.common.clock import Clock, SystemClock
from services.common.context import Seal, derive_key, read_key
from services.common.damage import Damages
from services.common.door import Door, SealedContext
from services.common.expiry import sweep_forever
from services.common.paging import PageTokens
from services.common.process import SERVICE as PROCESS_SERVICE
from services.common.process import ProcessServicer
from services.common.server import Parts
from services.common.settings import Settings, StateSettings
from services.common.telemetry import Counts
from services.state.artifacts import Artifacts
from services.state.backup.blobs import BlobCare
from services.state.backup.folder import BackupFolder
from services.state.backup.healing import Healer
from services.state.backup.retention import Retention
from services.state.backup.service import Backups
from services.state.blob_seal import BlobSeal
from services.state.blobs import open_blobs
from services.state.engine import open_engine
from services.state.event_step import KeptEvents
from services.state.events import Events
from services.state.file_care import FileCare
from services.state.journal import Journals
from services.state.keyring import Keyring
from services.state.master_key import MasterKeys, read_master_keys
from services.state.migrations.migrations import Migrations
from services.state.migrations.schemas import Schemas
from services.state.servicers.artifact import ArtifactServicer
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
from services.state.vault import Vault

STATE_SERVICE = "llmspell.v1.StateService"
SESSION_SERVICE = "llmspell.v1.SessionService"
ARTIFACT_SERVICE = "llmspell.v1.ArtifactService"
BACKUP_SERVICE = "llmspell.v1.BackupService"
JOURNAL_SERVICE = "llmspell.v1.JournalService"
EVENT_SERVICE = "llmspell.v1.EventService"
MIGRATION_SERVICE = "llmspell.v1.MigrationService"
VAULT_SERVICE = "llmspell.v1.VaultService"

SERVICES = (
    STATE_SERVICE,
    SESSION_SERVICE,
    ARTIFACT_SERVICE,
    BACKUP_SERVICE,
    EVENT_SERVICE,
    JOURNAL_SERVICE,
    MIGRATION_SERVICE,
    VAULT_SERVICE,
    PROCESS_SERVICE,
)

log = logging.getLogger(__name__)


async def build(settings: Settings) -> Parts:
    """Open the store, which recovers by itself, and prepare to serve."""
    mine = settings.state
    clock, counts = SystemClock(), Counts()
    key = read_key(Path(settings.deployment.context_key_file))
    file = await asyncio.to_thread(_looked_at, mine, counts.damages)
    ring = _keyring(mine, clock)
    keeper = Keeper(open_engine(mine.engine, Path(mine.data), cipher=ring), clock=clock)
    parts = StateParts.over(keeper)
    seal = BlobSeal(keeper.engine, ring, asyncio.get_running_loop())
    blobs = open_blobs(mine.engine, Path(mine.data), sealing=seal)
    artifacts = Artifacts(keeper, blobs, damages=counts.damages)
    backups = _backups(mine, keeper, ring, artifacts, counts.damages)
    journals = Journals(keeper)
    events = Events(keeper, requests=parts.requests, kept=_kept_events(mine))
    sessions = Sessions(keeper, also_erase=(artifacts.delete_scope, journals.delete_scope))
    ends = SessionEnds(keeper)
    migrations = _migrations(keeper, backups)
    vault = Vault(keeper, ring, read_masters=lambda: _masters(mine))
    swept = (parts.items, sessions, ends, vault, parts.requests, events, artifacts)

    def register(server: grpc.aio.Server) -> None:
        tokens = PageTokens(derive_key(key, "state pages"))
        areas = (migrations, artifacts, backups, events, journals, sessions, ends)
        purges = [area.purge for area in areas]
        state = StateServicer(parts, tokens, purges=purges, destroy_keys=vault.destroy)
        state_pb2_grpc.add_StateServiceServicer_to_server(state, server)
        session = SessionServicer(sessions, ends, PageTokens(derive_key(key, "session pages")))
        session_pb2_grpc.add_SessionServiceServicer_to_server(session, server)
        artifact = ArtifactServicer(artifacts, PageTokens(derive_key(key, "artifact pages")))
        artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(artifact, server)
        backup = BackupServicer(backups, PageTokens(derive_key(key, "backup pages")))
        backup_pb2_grpc.add_BackupServiceServicer_to_server(backup, server)
        event = EventServicer(events, PageTokens(derive_key(key, "event pages")))
        journal = JournalServicer(journals, PageTokens(derive_key(key, "journal pages")))
        journal_pb2_grpc.add_JournalServiceServicer_to_server(journal, server)
        event_pb2_grpc.add_EventServiceServicer_to_server(event, server)
        pages = PageTokens(derive_key(key, "migration pages"))
        migration = MigrationServicer(Schemas(keeper), migrations, pages)
        migration_pb2_grpc.add_MigrationServiceServicer_to_server(migration, server)
        vault_pb2_grpc.add_VaultServiceServicer_to_server(VaultServicer(vault), server)
        process = ProcessServicer("state", counts, clock)
        process_pb2_grpc.add_ProcessServiceServicer_to_server(process, server)

    who, guard = SealedContext(Seal(key, clock)), backups.check_open
    door = Door(who, counts, calls_at_once=mine.calls_at_once, guard=guard)

    async def close() -> None:
        await migrations.close()
        await backups.close()
        await artifacts.close()
        await parts.items.close()

    return Parts(
        listen=mine.listen,
        door=door,
        register=register,
        services=SERVICES,
        reflection=mine.reflection,
        background=(
            *(partial(sweep_forever, each, mine.sweep_interval_s) for each in swept),
            file.beside,
            artifacts.tidy_up,
            parts.watches.run,
            migrations.run,
            events.subscriptions.run,
            lambda: backups.care(mine.backup_sweep_s),
        ),
        close=close,
    )


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
