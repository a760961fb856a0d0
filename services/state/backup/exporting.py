"""A tenant as an archive in an open form: a tar of lines of JSON. The same state, the same bytes.

`manifest.json` comes first and names the files of lines with their digests; then there is a file
for each database that has records of the tenant (`items.jsonl` and so on): a record a line, in the
order of keys. Behind them are the bytes of artifacts, each as a file `blobs/DIGEST`, in order of
digest.
"""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from blake3 import blake3

from services.common.store import View
from services.state import areas
from services.state.areas import Records
from services.state.backup.aside import Aside
from services.state.backup.blobs import BlobCare
from services.state.backup.lines import Form
from services.state.backup.making import check_going, erased_sessions, rested
from services.state.blob_format import BlobKey, BlobReader
from services.state.layout import tenant_prefix

FORMAT = 2
"""1 had lines for items only, and no artifacts."""
MANIFEST = "manifest.json"
BLOBS = "blobs/"

Row = tuple[bytes, bytes]


class ExportedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of lines."""

    name: str
    lines: int
    blake3: str
    """Of the file, hexadecimal."""


class ExportedBlobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bytes of artifacts; each file's name is its blake3."""

    count: int = 0
    bytes: int = 0


class Exported(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `manifest.json` says."""

    format: int
    tenant: str
    files: list[ExportedFile]
    blobs: ExportedBlobs = ExportedBlobs()


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is exported, and how."""

    tenant: str
    in_clear: bool
    """Write what is marked as sensitive, and what looks like a credential, too."""
    care: BlobCare | None
    """Has the bytes of artifacts; they are held meanwhile."""
    forms: Mapping[str, Form[Any]]
    """Database → how its lines look, where that is another way than usual."""


def export_tenant(view: View, export: Export, target: Aside, stop: threading.Event) -> None:
    """Write the archive of a tenant, as a view has it, to a file.

    Raises:
        ServiceError: RECORD_CORRUPT, ARTIFACT_CORRUPT, SERVICE_UNAVAILABLE where `stop` is set.
        OSError: it cannot be written.
    """
    parts: list[tuple[ExportedFile, Aside]] = []
    digests: set[str] = set()
    try:
        for records, usual in areas.EXPORTED:
            part = target.beside(records.database)
            parts.append((ExportedFile(records.file, 0, ""), part))
            form = export.forms.get(records.database, usual)
            lines = _lines(_rows(view, records, export.tenant, stop), form, export, digests)
            parts[-1] = (_write_lines(lines, records.file, part), part)
        keys = [BlobKey(export.tenant, bytes.fromhex(digest)) for digest in sorted(digests)]
        _write_tar(export, [each for each in parts if each[0].lines], keys, target, stop)
    finally:
        for _, part in parts:
            part.remove()


def _lines(
    rows: Iterator[Row], form: Form[Any], export: Export, digests: set[str]
) -> Iterator[bytes]:
    for own, stored in rows:
        line = form.tell(own, stored)
        if hasattr(line, "digest"):
            digests.add(line.digest)
        yield form.write(line, in_clear=export.in_clear)


def _rows(view: View, records: Records, tenant: str, stop: threading.Event) -> Iterator[Row]:
    """Keys without the tenant, and values; what is being erased is passed over."""
    prefix = tenant_prefix(tenant)
    erased = {session.encode() for session in erased_sessions(view, tenant)}
    session_of = records.session_of if erased else None
    for key, value in rested(view.scan(records.database, prefix), stop):
        own = key[len(prefix) :]
        if session_of is None or session_of(own) not in erased:
            yield own, value


def _write_lines(lines: Iterator[bytes], name: str, part: Aside) -> ExportedFile:
    digest, count = blake3(), 0
    with part.writing() as file:
        for line in lines:
            digest.update(line + b"\n")
            file.write(line + b"\n")
            count += 1
    return ExportedFile(name, count, digest.hexdigest())


def _write_tar(
    export: Export,
    parts: list[tuple[ExportedFile, Aside]],
    keys: list[BlobKey],
    target: Aside,
    stop: threading.Event,
) -> None:
    sizes = [_size_of(export, key) for key in keys]
    blobs = ExportedBlobs(len(sizes), sum(sizes))
    manifest = Exported(FORMAT, export.tenant, [file for file, _ in parts], blobs)
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    with (
        target.writing() as archive,
        tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as opened,
    ):
        tar: Any = opened
        tar.addfile(_member(MANIFEST, len(content)), io.BytesIO(content))
        for file, part in parts:
            with part.reading() as source:
                tar.addfile(_member(file.name, part.size), source)
        for key in keys:
            with _care(export).reading(key) as reader:
                member = _member(f"{BLOBS}{key.digest.hex()}", reader.size_bytes)
                tar.addfile(member, _Reading(reader, stop))
            tar.members.clear()  # one for each would stay


def _size_of(export: Export, key: BlobKey) -> int:
    with _care(export).reading(key) as reader:
        size: int = reader.size_bytes
        return size


def _care(export: Export) -> BlobCare:
    assert export.care is not None, "who has artifacts cares for their bytes"
    return export.care


class _Reading:
    """A blob as a file that is read from its beginning on, a frame at a time."""

    def __init__(self, reader: BlobReader, stop: threading.Event) -> None:
        self._pieces = reader.pieces()
        self._stop = stop
        self._left = b""

    def read(self, size: int) -> bytes:
        """Some of the next bytes; none at the end."""
        if not self._left:
            check_going(self._stop)
            self._left = bytes(next(self._pieces, b""))
        content, self._left = self._left[:size], self._left[size:]
        return content


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    return member
