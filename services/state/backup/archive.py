"""An archive that came from outside: nothing in it is taken as said.

Whatever is wrong with it is told as FIELD_INVALID that names the file, the line and the field.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3

from services.common.errors import Reason, ServiceError, field_invalid
from services.common.limits import ARTIFACT_BYTES_MAX
from services.state import areas
from services.state.areas import Records
from services.state.backup.aside import Aside
from services.state.backup.census import Census
from services.state.backup.desk import Desk
from services.state.backup.exporting import (
    BLOBS,
    FORMAT,
    MANIFEST,
    Exported,
    ExportedBlobs,
    ExportedFile,
)
from services.state.backup.lines import Form, UnfitError, is_withheld, revision_of
from services.state.backup.lines import check as require
from services.state.layout import ITEMS

_LINE_BYTES_MAX = 16 * 1024**2
_MANIFEST_BYTES_MAX = 1024**2
_PIECE_BYTES = 1024**2
_BLOB = re.compile(re.escape(BLOBS) + "[0-9a-f]{64}", re.ASCII)
_NO_TAR = (tarfile.TarError, OSError, ValueError, LookupError, OverflowError, RecursionError)
"""What the standard library raises on what is no tar."""


class _Place(NamedTuple):
    begin: int
    size: int


class Archive:
    """Reads in order; used by one thread."""

    def __init__(self, archive: Aside, desk: Path) -> None:
        """Look at what there is, and read the manifest.

        Args:
            archive: The file.
            desk: A path for what is to be compared; whoever calls removes the file.

        Raises:
            ServiceError: FIELD_INVALID that names the file.
        """
        self.revision = 0
        """The highest that any line named so far."""
        self._file = archive.reading()
        self._desk = Desk(desk)
        self._census = Census(self._desk)
        self._places: dict[str, _Place] = {}
        try:
            self._list(archive.size)
            self.manifest = self._read_manifest()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        self._desk.close()
        self._file.close()

    def records(self, records: Records) -> Iterator[tuple[bytes, bytes]]:
        """Keys without the tenant, and values of a database, checked line by line.

        Databases must be asked for in the order of `areas.KEPT`.

        Raises:
            ServiceError: FIELD_INVALID that names file, line and field.
        """
        if records.form is None:
            yield from self._census.derived(records.database)
            return
        name = records.file
        told = next((file for file in self.manifest.files if file.name == name), None)
        left_out = self._left_out(name, records.form) if told else frozenset()
        yield from self._records(records, records.form, told, left_out)

    def blobs(self) -> Iterator[tuple[bytes, Iterator[bytes]]]:
        """Digest and bytes of each blob. That they go together is known once all were read.

        Raises:
            ServiceError: FIELD_INVALID that names the file.
        """
        for digest, begin, size in self._desk.files():
            yield digest, self._blob(digest, begin, size)

    def _blob(self, digest: bytes, begin: int, size: int) -> Iterator[bytes]:
        found = blake3()
        for offset in range(begin, begin + size, _PIECE_BYTES):
            self._file.seek(offset)
            piece = self._file.read(min(_PIECE_BYTES, begin + size - offset))
            found.update(piece)
            yield piece
        if found.digest() != digest:
            raise field_invalid(f"{BLOBS}{digest.hex()}", "has other bytes than its name says")

    def _records(
        self,
        records: Records,
        form: Form[Any],
        told: ExportedFile | None,
        left_out: frozenset[str],
    ) -> Iterator[tuple[bytes, bytes]]:
        name = records.file
        check = self._census.checks.get(records.database)
        digest, last, number = blake3(), None, 0
        for number, line in enumerate(self._lines(name) if told else (), 1):
            digest.update(line)
            with _named(name, number):
                found = form.read(line)
                if form.group is not None and form.group(found) in left_out:
                    continue
                record = None if is_withheld(found) else form.record(found)
                if record is not None:
                    in_order = last is None or record[0] > last
                    last = record[0]
                    require(in_order, "", "must come after the line before it")
                value = check.see(found, record, number) if check else None
            if record is not None:
                self.revision = max(self.revision, revision_of(found))
                yield record[0], value or record[1]
        if told and (number, digest.hexdigest()) != (told.lines, told.blake3):
            raise field_invalid(name, f"has {number} lines, or others than {MANIFEST} says")
        with _named(name, number):
            if check:
                check.end()

    def _left_out(self, name: str, form: Form[Any]) -> frozenset[str]:
        """Groups of which something was withheld."""
        group, found = form.group, set()
        if group is not None:
            for number, text in enumerate(self._lines(name), 1):
                with _named(name, number):
                    line = form.read(text)
                    if is_withheld(line):
                        found.add(group(line))
        return frozenset(found)

    def _lines(self, name: str) -> Iterator[bytes]:
        begin, left = self._places[name]
        self._file.seek(begin)
        while left:
            line = self._file.readline(min(left, _LINE_BYTES_MAX))
            if not line:
                raise field_invalid(name, "ends before its end")
            left -= len(line)
            yield line

    def _list(self, end: int) -> None:
        known = {MANIFEST, *(records.file for records, _ in areas.EXPORTED)}
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as opened:
                tar: Any = opened
                while (member := tar.next()) is not None:
                    self._note(member, known, end)
                    tar.members.clear()  # one for each would stay
        except _NO_TAR as error:
            raise field_invalid("archive", f"must be a whole tar: {error}") from None

    def _note(self, member: tarfile.TarInfo, known: set[str], end: int) -> None:
        name = member.name
        shown = f"archive: {name[:96]!r}"
        place = _Place(member.offset_data, member.size)
        is_blob = bool(_BLOB.fullmatch(name))
        if not (is_blob or name in known) or not member.isreg() or member.issparse():
            raise field_invalid(shown, "is no file of an export")
        if place.size < 0 or place.begin + place.size > end:
            raise field_invalid(shown, "ends before its end")
        if is_blob:
            if place.size > ARTIFACT_BYTES_MAX:
                raise field_invalid(shown, f"must have {ARTIFACT_BYTES_MAX} bytes at most")
            is_new = self._desk.put_file(bytes.fromhex(name.removeprefix(BLOBS)), *place)
        else:
            is_new = name not in self._places
            self._places[name] = place
        if not is_new:
            raise field_invalid(shown, "must be there once")

    def _read_manifest(self) -> Exported:
        if MANIFEST not in self._places:
            raise field_invalid("archive", f"must have a {MANIFEST}")
        begin, size = self._places[MANIFEST]
        if size > _MANIFEST_BYTES_MAX:
            raise field_invalid(MANIFEST, f"must have {_MANIFEST_BYTES_MAX} bytes at most")
        self._file.seek(begin)
        try:
            manifest = msgspec.json.decode(self._file.read(size), type=Exported)
        except (ValueError, RecursionError) as error:
            raise field_invalid(MANIFEST, f"cannot be read: {error}") from None
        self._check_format(manifest)
        self._check_files(manifest)
        return manifest

    def _check_format(self, manifest: Exported) -> None:
        if not 1 <= manifest.format <= FORMAT:
            raise field_invalid(MANIFEST, f"has format {manifest.format}; this is up to {FORMAT}")
        others = self._places.keys() - {MANIFEST, f"{ITEMS}.jsonl"}
        if manifest.format == 1 and others:
            raise field_invalid(
                f"archive: {min(others)}",
                "is of format 1, of which only items.jsonl is read; export anew with this release",
            )

    def _check_files(self, manifest: Exported) -> None:
        told = {file.name for file in manifest.files}
        if len(told) != len(manifest.files):
            raise field_invalid(MANIFEST, "names a file twice")
        for name in sorted(told ^ (self._places.keys() - {MANIFEST})):
            where = "is missing" if name in told else f"is not named in {MANIFEST}"
            raise field_invalid(f"archive: {name[:96]}", where)
        found = ExportedBlobs(*self._desk.sizes())
        if found != manifest.blobs:
            raise field_invalid(
                MANIFEST,
                f"names {manifest.blobs.count} files of {manifest.blobs.bytes} bytes in {BLOBS}; "
                f"there are {found.count} of {found.bytes}",
            )


@contextmanager
def _named(file: str, number: int) -> Iterator[None]:
    """Tell what is wrong with a line as an error that names file, line and field."""
    try:
        yield
    except UnfitError as error:
        where, line = error.file or file, error.number or (0 if error.file else number)
        place = f"{where} line {line}" if line else where
        field = f"{place}, {error.field}" if error.field else place
        raise ServiceError(
            Reason.FIELD_INVALID,
            f"{field} {error}.",
            field=field,
            rule=str(error),
            file=where,
            line=line,
            line_field=error.field,
        ) from None
