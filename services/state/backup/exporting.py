"""A tenant as an archive in an open form: a tar of lines of JSON. The same state, the same bytes.

`manifest.json` comes first and names the other files with their digests; then there is a file for
each database that has records of the tenant (`items.jsonl` and so on): a record a line, in the
order of keys.
"""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
from blake3 import blake3

from services.common.errors import ServiceError, field_invalid
from services.common.store import View
from services.state import areas
from services.state.areas import Records
from services.state.backup.lines import UnfitError
from services.state.backup.making import rested
from services.state.layout import tenant_prefix

FORMAT = 1
MANIFEST = "manifest.json"
_LINE_BYTES_MAX = 16 * 1024**2
_PIECE_BYTES = 1024**2


class ExportedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of an archive."""

    name: str
    lines: int
    blake3: str
    """Of the file, hexadecimal."""


class Exported(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `manifest.json` says."""

    format: int
    tenant: str
    files: list[ExportedFile]


def export_tenant(
    view: View, tenant: str, target: Path, stop: threading.Event, *, in_clear: bool
) -> None:
    """Write the archive of a tenant, as a view has it, to a file.

    Args:
        view: What is exported.
        tenant: Whose.
        target: The file.
        stop: Give up where it is set.
        in_clear: Write values that are marked as sensitive too.

    Raises:
        ServiceError: RECORD_CORRUPT, SERVICE_UNAVAILABLE where `stop` is set.
        OSError: it cannot be written.
    """
    parts: list[tuple[ExportedFile, Path]] = []
    prefix = tenant_prefix(tenant)
    try:
        for records in filter(lambda each: each.is_exported, areas.KEPT):
            path = target.with_name(f"{target.name}.{records.database}")
            file = _write_lines(
                rested(view.scan(records.database, prefix), stop),
                records,
                path,
                strip=len(prefix),
                in_clear=in_clear,
            )
            parts.append((file, path))
        _write_tar(tenant, [(file, path) for file, path in parts if file.lines], target)
    finally:
        for _, path in parts:
            path.unlink(missing_ok=True)


def _write_lines(
    rows: Iterator[tuple[bytes, bytes]],
    records: Records,
    path: Path,
    *,
    strip: int,
    in_clear: bool,
) -> ExportedFile:
    digest, count = blake3(), 0
    with path.open("wb") as file:
        for key, value in rows:
            own = key[strip:]
            withheld = None if in_clear else records.withhold(own, value)
            line = (withheld or records.write(own, value)) + b"\n"
            digest.update(line)
            file.write(line)
            count += 1
    return ExportedFile(f"{records.database}.jsonl", count, digest.hexdigest())


def _write_tar(tenant: str, parts: list[tuple[ExportedFile, Path]], target: Path) -> None:
    manifest = Exported(FORMAT, tenant, [file for file, _ in parts])
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(_member(MANIFEST, len(content)), io.BytesIO(content))
        for file, path in parts:
            with path.open("rb") as source:
                tar.addfile(_member(file.name, path.stat().st_size), source)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    return member


class Archive:
    """An archive that came from outside: nothing in it is taken as said."""

    def __init__(self, path: Path) -> None:
        """Open it and read its manifest.

        Raises:
            ServiceError: FIELD_INVALID that names the file.
        """
        try:
            self._tar = tarfile.open(path, "r:")  # noqa: SIM115  (closed by `close`)
        except (tarfile.TarError, OSError) as error:
            raise field_invalid("archive", f"must be a tar: {error}") from None
        try:
            self._members = self._list()
            self.manifest = self._manifest()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._tar.close()

    def records(self, records: Records) -> Iterator[tuple[bytes, bytes]]:
        """Keys without the tenant, and values of a database, checked line by line.

        Raises:
            ServiceError: FIELD_INVALID that names file and line.
        """
        name = f"{records.database}.jsonl"
        told = next((file for file in self.manifest.files if file.name == name), None)
        if told is None:
            return
        digest, last, count = blake3(), None, 0
        for count, line in enumerate(self._lines(name), 1):
            digest.update(line)
            found = _read_line(records, line, f"{name} line {count}")
            if found is None:
                continue
            own, value = found
            if last is not None and own <= last:
                raise field_invalid(f"{name} line {count}", "must come after the line before it")
            last = own
            yield own, value
        if (count, digest.hexdigest()) != (told.lines, told.blake3):
            raise field_invalid(name, f"has {count} lines, or others than {MANIFEST} says")

    def _lines(self, name: str) -> Iterator[bytes]:
        source = self._open(name)
        left = self._members[name].size
        while line := source.readline(_LINE_BYTES_MAX):
            left -= len(line)
            yield line
        if left:
            raise field_invalid(name, "ends before its end")

    def _open(self, name: str) -> IO[bytes]:
        source = self._tar.extractfile(self._members[name])
        assert source is not None, "members are files"
        return source

    def _list(self) -> dict[str, tarfile.TarInfo]:
        known = {MANIFEST, *(f"{each.database}.jsonl" for each in areas.KEPT if each.is_exported)}
        members: dict[str, tarfile.TarInfo] = {}
        try:
            for member in self._tar:
                if member.name not in known or not member.isreg():
                    raise field_invalid(f"archive: {member.name[:64]}", "is no file of an export")
                if member.name in members:
                    raise field_invalid(f"archive: {member.name}", "must be there once")
                members[member.name] = member
        except (tarfile.TarError, OSError) as error:
            raise field_invalid("archive", f"must be a whole tar: {error}") from None
        return members

    def _manifest(self) -> Exported:
        if MANIFEST not in self._members:
            raise field_invalid("archive", f"must have a {MANIFEST}")
        content = self._open(MANIFEST).read(_PIECE_BYTES)
        try:
            manifest = msgspec.json.decode(content, type=Exported)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise field_invalid(MANIFEST, f"cannot be read: {error}") from None
        if manifest.format > FORMAT:
            raise field_invalid(MANIFEST, f"has format {manifest.format}; this is up to {FORMAT}")
        told = {file.name for file in manifest.files}
        for name in told ^ (self._members.keys() - {MANIFEST}):
            where = "is missing" if name in told else f"is not named in {MANIFEST}"
            raise field_invalid(f"archive: {name}", where)
        return manifest


def _read_line(records: Records, line: bytes, place: str) -> tuple[bytes, bytes] | None:
    try:
        return records.read(line)
    except UnfitError as error:
        raise field_invalid(place, str(error)) from None
    except ServiceError as error:
        raise field_invalid(place, f"is unfit: {error.message.rstrip('.')}") from None
