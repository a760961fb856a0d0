"""The audit log's entries and the chain that they make: bytes, hashes, and whether it is whole.

An entry is kept as the bytes over which its hash goes, together with the hash of the entry before:
`blake3(domain, previous hash, sequence, body)`. What a request named is not in those bytes, only
a salted digest of it; so it can be erased with its tenant, and the chain stays whole.

The same code verifies the store and an export, line by line.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
from blake3 import blake3

HASH_BYTES = 32
FIRST_PREVIOUS = bytes(HASH_BYTES)
"""What stands for the hash of an entry before the first."""

_DOMAIN = b"llmspell audit 1\0"
_SALT_BYTES = 16
_U64 = struct.Struct(">Q")

Kind = Literal["call", "intent", "outcome", "gap", "start", "stop"]
Decision = Literal["", "allowed", "denied", "filtered"]
Fault = Literal["missing", "altered", "unlinked", "truncated", "resource", "head"]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an entry says; its body is this as JSON, fields in this order."""

    time_ns: int
    kind: Kind
    gateway: str = ""
    request_id: str = ""
    principal: str = ""
    tenant: str = ""
    method: str = ""
    peer: str = ""
    decision: Decision = ""
    reason: str = ""
    elapsed_us: int = 0
    calls: int = 1
    resource_digest: str = ""
    """Of the salt and what the request named, hexadecimal; empty: it named nothing."""


class Named(msgspec.Struct, frozen=True):
    """What a request named, and the salt of its digest."""

    resource: str = ""
    salt: bytes = b""

    @property
    def digest(self) -> str:
        """As an entry has it."""
        return blake3(self.salt + self.resource.encode()).hexdigest(length=_SALT_BYTES)

    def packed(self) -> bytes:
        """As the store keeps it; empty: there is nothing, or it was erased."""
        return self.salt + self.resource.encode() if self.salt else b""

    @classmethod
    def unpacked(cls, stored: bytes) -> Named:
        """From what the store keeps."""
        return cls(stored[_SALT_BYTES:].decode(), stored[:_SALT_BYTES]) if stored else cls()

    @classmethod
    def new(cls, resource: str) -> Named:
        """With a new salt; of nothing nothing."""
        return cls(resource, secrets.token_bytes(_SALT_BYTES)) if resource else cls()


@dataclass(frozen=True, slots=True)
class Link:
    """An entry in its place."""

    sequence: int
    previous: bytes
    hash: bytes
    body: bytes

    def packed(self) -> bytes:
        """As the store keeps it."""
        return self.previous + self.hash + self.body

    @classmethod
    def unpacked(cls, sequence: int, stored: bytes) -> Link:
        """From what the store keeps."""
        previous, rest = stored[:HASH_BYTES], stored[HASH_BYTES:]
        return cls(sequence, previous, rest[:HASH_BYTES], rest[HASH_BYTES:])

    @property
    def entry(self) -> Entry:
        """What it says.

        Raises:
            msgspec.DecodeError: it is none.
        """
        return msgspec.json.decode(self.body, type=Entry)


@dataclass(frozen=True, slots=True)
class Head:
    """A place in the chain: nothing before it can change without being found out."""

    sequence: int = 0
    hash: bytes = FIRST_PREVIOUS

    def tag(self, key: bytes) -> bytes:
        """What proves that whoever holds the key has written it."""
        return blake3(_U64.pack(self.sequence) + self.hash, key=key).digest()


class Finding(NamedTuple):
    """What is wrong first."""

    fault: Fault
    sequence: int


class Line(msgspec.Struct, frozen=True):
    """A line of an export. Binary fields are hexadecimal."""

    sequence: int
    previous: str
    hash: str
    entry: msgspec.Raw
    """The bytes under the hash, as they are."""
    resource: str = ""
    salt: str = ""


def link(head: Head, entry: Entry) -> Link:
    """The entry behind a head."""
    body = msgspec.json.encode(entry)
    sequence = head.sequence + 1
    return Link(sequence, head.hash, hash_of(head.hash, sequence, body), body)


def hash_of(previous: bytes, sequence: int, body: bytes) -> bytes:
    """The hash of an entry."""
    return blake3(_DOMAIN + previous + _U64.pack(sequence) + body).digest()


class Walk:
    """Goes along a chain and says where it breaks."""

    def __init__(self, start: Head | None = None) -> None:
        """`start`: the head before the first entry; None: the first may be any (an excerpt)."""
        self.head = start or Head()
        self._begun = start is not None
        self.count = 0
        """Entries that were whole."""

    def take(self, each: Link, named: Named | None) -> Finding | None:
        """Look at the next entry; None: it is whole.

        Args:
            each: The entry in its place.
            named: What is kept of what it named; None: its note is gone.
        """
        found = self._link(each) or _resource(each, named)
        if found is None:
            self.head, self._begun = Head(each.sequence, each.hash), True
            self.count += 1
        return found

    def _link(self, each: Link) -> Finding | None:
        if self._begun:
            expected = self.head.sequence + 1
            if each.sequence > expected:
                return Finding("missing", expected)
            if each.sequence < expected or each.previous != self.head.hash:
                return Finding("unlinked", each.sequence)
        if each.hash != hash_of(each.previous, each.sequence, each.body):
            return Finding("altered", each.sequence)
        return None

    def end(self, noted: Head) -> Finding | None:
        """Look whether a head that was noted earlier is one that was passed, or is the last."""
        if noted.sequence > self.head.sequence:
            return Finding("truncated", self.head.sequence + 1)
        if noted.sequence == self.head.sequence and noted.hash != self.head.hash:
            return Finding("altered", noted.sequence)
        return None


def _resource(each: Link, named: Named | None) -> Finding | None:
    try:
        digest = each.entry.resource_digest
    except msgspec.DecodeError:
        return Finding("altered", each.sequence)
    if named is None or (named.salt and named.digest != digest):
        return Finding("resource", each.sequence)
    return None


def written_line(each: Link, named: Named) -> bytes:
    """An entry as a line of an export."""
    line = Line(
        each.sequence,
        each.previous.hex(),
        each.hash.hex(),
        msgspec.Raw(each.body),
        named.resource,
        named.salt.hex(),
    )
    return msgspec.json.encode(line) + b"\n"


def read_line(line: bytes) -> tuple[Link, Named]:
    """An entry from a line of an export.

    Raises:
        ValueError: it is none.
    """
    try:
        read = msgspec.json.decode(line, type=Line)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    previous, hashed = bytes.fromhex(read.previous), bytes.fromhex(read.hash)
    named = Named(read.resource, bytes.fromhex(read.salt))
    return Link(read.sequence, previous, hashed, bytes(read.entry)), named


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of verifying."""

    finding: Finding | None
    count: int
    """Entries that were whole."""
    head: Head
    is_excerpt: bool = False
    """Whether entries of others lie between: then each was verified, and not how they follow."""


def verify_lines(lines: Iterable[bytes], noted: Head | None, *, excerpt: bool = False) -> Verdict:
    """Verify an export.

    Args:
        lines: Its lines.
        noted: A head that was noted elsewhere; None: there is none.
        excerpt: Whether it is one tenant's, in which other entries are left out.

    An export that begins at a later entry is verified from there on.
    """
    walk, first = Walk(), True
    for line in lines:
        try:
            each, named = read_line(line)
        except ValueError:
            return Verdict(Finding("altered", walk.head.sequence + 1), walk.count, walk.head)
        if first and each.sequence == 1:
            walk = Walk(Head())
        elif excerpt and each.sequence > walk.head.sequence:
            walk = _from_here(walk)
        first = False
        found = walk.take(each, named)
        found = found or (_noted(noted, walk.head) if noted else None)
        if found is not None:
            return Verdict(found, walk.count, walk.head, excerpt)
    return Verdict(walk.end(noted) if noted else None, walk.count, walk.head, excerpt)


def _from_here(walk: Walk) -> Walk:
    anew = Walk()
    anew.head, anew.count = walk.head, walk.count
    return anew


def _noted(noted: Head, head: Head) -> Finding | None:
    if noted.sequence == head.sequence and noted.hash != head.hash:
        return Finding("altered", noted.sequence)
    return None


def lines_of(links: Iterable[tuple[Link, Named]]) -> Iterator[bytes]:
    """An export's lines."""
    return (written_line(each, named) for each, named in links)
