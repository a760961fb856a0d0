"""A state process's parts over one store, and a tenant that has something in each area."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from blake3 import blake3

from services.common.clock import FakeClock
from services.state.artifact_model import Choice, Draft
from services.state.artifacts import Artifacts
from services.state.backup.aside import Aside
from services.state.backup.blobs import BlobCare
from services.state.backup.model import Restored
from services.state.backup.transfer import Transfer
from services.state.blob_seal import BlobSeal
from services.state.blobs import open_blobs
from services.state.engine import open_engine
from services.state.event_model import NewEvent
from services.state.events import Events
from services.state.journal import Journals
from services.state.journal_model import Entry
from services.state.keyring import Keyring
from services.state.migrations.model import Default, Family, Field, FieldType, Rename, Schema
from services.state.migrations.schemas import Schemas
from services.state.model import Encoding, Value
from services.state.session_model import NewSession, Status
from services.state.sessions import Sessions
from services.state.step import Keeper
from tests.contract.backup_suite import World

BYTES = bytes(range(256)) * 3000


class FullWorld(World):
    """Every area of one store, and exports of it."""

    def __init__(
        self,
        engine: str,
        folder: Path,
        *,
        clock: FakeClock | None = None,
        ring: Keyring | None = None,
        seal: type[BlobSeal] | None = None,
    ) -> None:
        """`ring`: encrypts the store; `seal`: then its blobs too."""
        clock = clock or FakeClock()
        store = open_engine(engine, folder / "state", on_fatal=pytest.fail, cipher=ring)
        keeper = Keeper(store, clock=clock)
        sealing = None
        if seal is not None and ring is not None:
            sealing = seal(store, ring, asyncio.get_running_loop())
        self.artifacts = Artifacts(keeper, open_blobs(engine, folder / "state", sealing=sealing))
        collector = self.artifacts.collector
        care = BlobCare(collector.blobs, collector.pins)
        super().__init__(keeper, clock, folder / "backups", care=care, ring=ring)
        self.sessions = Sessions(keeper)
        self.events = Events(keeper)
        self.journals = Journals(keeper)
        self.schemas = Schemas(keeper)

    async def close(self) -> None:
        """Let go of the store."""
        await self.backups.close()
        await self.artifacts.close()
        await self.items.close()

    async def store(self, tenant: str, name: str, content: bytes, **draft: object) -> None:
        """Store an artifact."""
        fields = {"scope": "session:one", "name": name} | draft
        await self.artifacts.store(tenant, Draft(**fields), [content])

    async def furnish(self, tenant: str) -> None:
        """Something of everything that a tenant can have."""
        await self.put(tenant, "raw", b"\0\xff")
        await self.put(tenant, "ends", b"1", ttl_ns=10**15)
        await self.items.set(tenant, "global", "json", Value(Encoding.JSON, b'{"a": [1,  2.50]}'))
        await self.items.set(tenant, "session:one", "step", Value(Encoding.TEXT, "ü".encode()))
        metadata = {"n": 1, "f": 2.0, "list": [None, {"x": "y"}]}
        new = NewSession(session_id="one", name="One", tags=("a", "b"), metadata=metadata)
        await self.sessions.create(tenant, new)
        await self.store(tenant, "old", b"only a checkpoint has it")
        await self.sessions.create_checkpoint(tenant, "one", "first")
        old = Choice(scope="session:one", name="old")
        await self.artifacts.delete(tenant, old, all_versions=True)
        await self.items.set(tenant, "session:one", "step", Value(Encoding.RAW, b"2" * 3000))
        await self.sessions.save(tenant, "one")
        await self.sessions.create(tenant, NewSession(session_id="two", parent="one"))
        await self.sessions.move(tenant, "two", Status.FAILED, reason="no luck")
        await self.events.publish(tenant, [NewEvent("a.b", '{"n": 1}'), NewEvent("a.c", "2")])
        await self.events.publish(tenant, [NewEvent("a.b", '"é"', "c1", "here", 10**14)])
        calls = [
            Entry(1, "S/Get", b"\x08\x01", b"answer" * 400, "", "", 10, 20, "c1"),
            Entry(2, "S/Set", b"", None, "ITEM_NOT_FOUND", "No.", 30, 31, ""),
        ]
        await self.journals.append(tenant, "one", calls)
        await self._furnish_artifacts(tenant)
        await self._furnish_schemas(tenant)

    async def _furnish_artifacts(self, tenant: str) -> None:
        await self.store(tenant, "large", BYTES, tags=("t",), metadata={"b": b"\xff", "n": -1})
        await self.store(tenant, "again", BYTES, artifact_type="log", description="same bytes")
        for content in (b"one", b"two", b"three"):
            await self.store(tenant, "many", content, created_by="ann")
        await self.store(tenant, "none", b"", scope="global", parent_digest=blake3(BYTES).digest())
        gone = Draft(scope="user:u", name="gone")
        await self.artifacts.store(tenant, gone, [b"gone"])
        await self.artifacts.delete_scope(tenant, "user:u")

    async def _furnish_schemas(self, tenant: str) -> None:
        family = Family("orders", "custom:orders", "o/", "")
        first = (Field("amount", FieldType.INTEGER, default_json="3"),)
        steps = (Rename("amount", "total"), Default("currency", '"EUR"'))
        await self.schemas.put(tenant, family, Schema("1.0.0", first, (), 0))
        await self.schemas.put(tenant, family, Schema("1.1.0", (), steps, 0))

    async def exported(self, tenant: str, *, in_clear: bool = True) -> bytes:
        """An archive of a tenant."""
        transfer = Transfer(self.backups)
        with transfer.aside() as aside:
            await transfer.export_tenant(tenant, aside, in_clear=in_clear)
            return contents(aside)

    async def taken_in(
        self, tenant: str, archive: bytes, *, replace: bool = False, dry_run: bool = False
    ) -> Restored:
        """Import an archive."""
        transfer = Transfer(self.backups)
        with transfer.aside() as aside:
            fill(aside, archive)
            return await transfer.import_tenant(tenant, aside, replace=replace, dry_run=dry_run)


def contents(aside: Aside) -> bytes:
    """All bytes of a file that was put aside."""
    with aside.reading() as file:
        return file.read()


def fill(aside: Aside, content: bytes) -> None:
    """Put a file aside."""
    with aside.writing() as file:
        file.write(content)


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The files of an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {}
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            files[member.name] = content.read()
        return files


def packed(files: Mapping[str, bytes], *, version: int = 2) -> bytes:
    """A tar of these files, with a manifest that fits unless one is given."""
    lines = [name for name in files if name.endswith(".jsonl")]
    blobs = [content for name, content in files.items() if name.startswith("blobs/")]
    told: list[dict[str, object]] = [
        {
            "name": name,
            "lines": len(files[name].splitlines()),
            "blake3": blake3(files[name]).hexdigest(),
        }
        for name in lines
    ]
    manifest: dict[str, object] = {"format": version, "tenant": "a", "files": told}
    if version > 1:
        manifest["blobs"] = {"count": len(blobs), "bytes": sum(map(len, blobs))}
    everything = {"manifest.json": json.dumps(manifest).encode()} | dict(files)
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in everything.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()
