"""Journals of sessions.

| database | key | value |
|---|---|---|
| journal | tenant NUL session NUL sequence | whether it is packed, the call |
| journals | tenant NUL session | what is known of the journal |
"""

from __future__ import annotations

import struct

import lz4.frame
import msgspec

from services.state.journal_model import Entry, Journal
from services.state.layout import tenant_prefix

_U64 = struct.Struct(">Q")
_PLAIN, _PACKED = b"\0", b"\1"
_PACK_BYTES_MIN = 512
_PACK_SHARE = 0.9
_encode = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(Entry).decode
_decode_journal = msgspec.msgpack.Decoder(Journal).decode


def entry_key(tenant: str, session: str, sequence: int) -> bytes:
    """Key in `journal`."""
    return entries_prefix(tenant, session) + _U64.pack(sequence)


def entries_prefix(tenant: str, session: str) -> bytes:
    """What the keys of a session's calls begin with."""
    return journal_key(tenant, session) + b"\0"


def split_entry_key(own: bytes) -> tuple[str, int]:
    """Session and sequence, from a key in `journal` without its tenant."""
    head, place = own[: -_U64.size - 1], own[-_U64.size :]
    return head.decode(), _U64.unpack(place)[0]


def journal_key(tenant: str, session: str) -> bytes:
    """Key in `journals`."""
    assert "\0" not in session, "NUL separates the parts of a key"
    return tenant_prefix(tenant) + session.encode()


def pack_entry(entry: Entry) -> bytes:
    """Value in `journal`, compressed where that pays."""
    plain = _encode(entry)
    if len(plain) >= _PACK_BYTES_MIN:
        packed = bytes(lz4.frame.compress(plain))
        if len(packed) < _PACK_SHARE * len(plain):
            return _PACKED + packed
    return _PLAIN + plain


def unpack_entry(stored: bytes) -> Entry:
    """A call from its value."""
    body = stored[1:]
    return _decode_entry(lz4.frame.decompress(body) if stored[:1] == _PACKED else body)


def pack_journal(journal: Journal) -> bytes:
    """Value in `journals`."""
    return _encode(journal)


def unpack_journal(stored: bytes) -> Journal:
    """A journal from its value."""
    return _decode_journal(stored)
