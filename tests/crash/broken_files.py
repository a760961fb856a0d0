"""Flaws of what the state process does with files; see `tests.crash.broken`."""

from __future__ import annotations

import lz4.block

from services.state import artifacts, file_care, step
from services.state.backup import chunks
from services.state.backup.folder import BackupFolder
from services.state.blob_format import Checksums
from services.state.engines.blobs import FolderUpload
from services.state.file_care import FileCare


def half_backups(_: str) -> None:
    """What a backup that was refused has written stays."""
    BackupFolder.remove_unnamed = lambda _self: 0


def half_uploads(_: str) -> None:
    """What an upload that was cut off has written stays."""
    FolderUpload.discard = lambda _self: None


def no_look(_: str) -> None:
    """The data file is used as it is found."""
    FileCare.before = lambda _self: None


def believes_files(_: str) -> None:
    """Bytes of artifacts and of backups are given out as they are read."""
    Checksums.open_chunk = lambda _self, _tenant, _context, sealed: sealed[16:]
    artifacts._read = lambda reader, offset, length, *_, **__: reader.read(offset, length)

    def read_chunk(_name, stored, _key):
        _, flags, size = chunks._HEADER.unpack_from(stored)
        body = stored[chunks._HEADER.size : -chunks._DIGEST_BYTES]
        is_packed = flags & chunks._COMPRESSED
        return lz4.block.decompress(body, uncompressed_size=size) if is_packed else body

    chunks.read_chunk = read_chunk


def reads_beside(_: str) -> None:
    """No flaw, but a file of any size is read while it is served, as a large one is."""
    file_care.BEFORE_BYTES_MAX = -1


def reads_all(_: str) -> None:
    """A file of any size is read before it is used."""
    file_care.BEFORE_BYTES_MAX = 2**62


def new_time(_: str) -> None:
    """Each start believes the clock, and knows of no time before it."""
    step._last_moment = lambda _engine: 0


FILE_FLAWS = {
    flaw.__name__: flaw
    for flaw in (
        believes_files,
        half_backups,
        half_uploads,
        new_time,
        no_look,
        reads_all,
        reads_beside,
    )
}
