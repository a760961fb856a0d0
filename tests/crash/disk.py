"""What a disk may hold after the power went.

A disk keeps what was flushed. Of what was written since then any part may have arrived, in any
order, and of any write any sectors of 512 bytes. Of names that were made, changed or removed since
their folder was flushed any may have arrived: a file by its new name, its old one, or by none.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tests.crash.recorder import Record

SECTOR_BYTES = 512
DROP_ALL = 0.25
DROP = 0.5
TORN = 0.5


@dataclass
class File:
    """One file, as far as it is flushed, and what was written to it since."""

    content: bytearray = field(default_factory=bytearray)
    pending: list[Record] = field(default_factory=list)

    def apply(self, record: Record) -> None:
        """Take the next thing that happened."""
        if record.kind == "S":
            for write in self.pending:
                _write(self.content, write.offset, write.data)
            self.pending.clear()
        elif record.kind == "D":
            _write(self.content, record.offset, record.data)
        elif record.kind == "T":
            del self.content[record.offset :]
        else:
            self.pending.append(record)

    def after_power_cut(self, rng: random.Random) -> bytes:
        """What may be read after the power went now."""
        if not self.pending:
            return bytes(self.content)
        content = bytearray(self.content)
        writes = [] if rng.random() < DROP_ALL else rng.sample(self.pending, len(self.pending))
        for write in writes:
            if rng.random() < DROP:
                continue
            if rng.random() < TORN:
                _write_torn(content, write, rng)
            else:
                _write(content, write.offset, write.data)
        return bytes(content)


Tree = dict[str, int]
"""A name and the file that has it; 0 is a folder."""


@dataclass(frozen=True, slots=True)
class Naming:
    """A name that was made, changed or removed."""

    kind: str
    names: tuple[str, ...]
    file: int

    @property
    def folders(self) -> set[str]:
        """Whose flush keeps it."""
        return {_folder_of(name) for name in self.names}

    def apply(self, tree: Tree) -> None:
        """Change the names."""
        if self.kind in "UR":
            tree.pop(self.names[0], None)
        if self.kind != "U":
            tree[self.names[-1]] = self.file


@dataclass
class Disk:
    """All files under a folder, and their names."""

    files: dict[int, File] = field(default_factory=dict)
    """By numbers of their own, from 1: an inode is used again, and a name may be there still."""
    numbers: dict[int, int] = field(default_factory=dict)
    """Of the file that has an inode now."""
    now: Tree = field(default_factory=dict)
    """What the process sees."""
    kept: Tree = field(default_factory=dict)
    """What was flushed."""
    pending: list[Naming] = field(default_factory=list)

    def apply(self, record: Record) -> None:
        """Take the next thing that happened."""
        if record.kind in "CMRU":
            self._name(record)
        elif record.kind == "Y":
            self._keep(record.data.decode())
        else:
            self.files[self.numbers[record.file]].apply(record)

    def _name(self, record: Record) -> None:
        names = tuple(record.data.decode().split("\0"))
        if names == ("",):
            return  # the folder itself
        file = self.now.get(names[0], 0) if record.kind == "R" else 0
        if record.kind == "C":
            file = self.numbers[record.file] = len(self.files) + 1
            self.files[file] = File()
        naming = Naming(record.kind, names, file)
        naming.apply(self.now)
        self.pending.append(naming)

    def _keep(self, folder: str) -> None:
        """Names in a folder that was flushed stay; the folder's own is its parent's."""
        left = []
        for naming in self.pending:
            if folder in naming.folders:
                naming.apply(self.kept)
            else:
                left.append(naming)
        self.pending = left

    def after_power_cut(self, rng: random.Random) -> dict[str, bytes | None]:
        """Names and contents that may be found; None is a folder."""
        tree = dict(self.kept)
        drop = 1.0 if rng.random() < DROP_ALL else DROP
        for naming in self.pending:
            if rng.random() >= drop:
                naming.apply(tree)
        return {
            name: self.files[file].after_power_cut(rng) if file else None
            for name, file in sorted(tree.items())
            if _is_reached(name, tree)
        }


def _is_reached(name: str, tree: Tree) -> bool:
    """Whether all folders above a name are there."""
    folder = _folder_of(name)
    return not folder or (folder in tree and _is_reached(folder, tree))


def _folder_of(name: str) -> str:
    folder = str(PurePosixPath(name).parent)
    return "" if folder == "." else folder


def _write(content: bytearray, offset: int, data: bytes) -> None:
    end = offset + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[offset:end] = data


def _write_torn(content: bytearray, write: Record, rng: random.Random) -> None:
    for start in range(0, len(write.data), SECTOR_BYTES):
        if rng.random() < DROP:
            _write(content, write.offset + start, write.data[start : start + SECTOR_BYTES])
