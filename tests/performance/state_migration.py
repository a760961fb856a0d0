"""How quick a migration is, beside loops that do the same work without this project.

200 000 items of about 300 bytes: decode, rename, default, remove, encode, put, one flush. Four
figures of one run:

- `migration`: the whole of it, as `Migrations` does it, from its begin to its record's end;
- `sealed`: a loop over py-lmdb that also reads and writes header and checksum, as our items have;
- `bare`: the same without both: what `measurements` call attainable with typed structures;
- `codec`: decoding and encoding alone, nothing read or written.

Run it with `python -m tests.performance.state_migration [COUNT]`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import msgspec
from isal.isal_zlib import crc32
from msgspec import UNSET, Raw, UnsetType

from services.common.clock import SystemClock
from services.common.view import Slice
from services.state.engine import open_engine
from services.state.layout import ITEMS
from services.state.layout import items as layout
from services.state.migrations.migrations import Migrations, Order
from services.state.migrations.model import (
    Default,
    Family,
    Field,
    FieldType,
    Remove,
    Rename,
    Schema,
    Status,
)
from services.state.migrations.schemas import Schemas
from services.state.model import Encoding, Item, Value
from services.state.step import Keeper
from tests.performance.report import Report

COUNT = 200_000
TARGET_PER_S = 483_000
SHARE_MIN = 0.9
ROUNDS = 3
_AT_A_TIME = 256
_HEADER = struct.Struct(">BQQQQ")
_SUM = struct.Struct("<I")
_NEVER = 2**63 - 1

FIELDS = (
    ("id", FieldType.STRING, str),
    ("customer", FieldType.STRING, str),
    ("amount", FieldType.INTEGER, int),
    ("state", FieldType.STRING, str),
    ("note", FieldType.STRING, str),
    ("tags", FieldType.ANY, Raw),
    ("address", FieldType.ANY, Raw),
    ("legacy", FieldType.ANY, Raw),
    ("active", FieldType.BOOLEAN, bool),
)


@dataclass(frozen=True)
class Rate:
    """Items a second."""

    wall: float
    """As it was; other processes had their share of the machine."""
    processor: float
    """A second of processor time: what an idle core would give, but for the disk."""


class Watch:
    """Both clocks from now on."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def rate(self, count: int) -> Rate:
        """So many items since then."""
        wall_s, processor_s = (
            time.perf_counter() - self._wall,
            time.process_time() - self._processor,
        )
        return Rate(count / wall_s, count / processor_s)


def documents(count: int) -> Iterator[bytes]:
    """Orders of about 300 bytes."""
    for number in range(count):
        order = {
            "id": f"order-{number:08d}",
            "customer": f"customer-{number % 977:05d}",
            "amount": number * 7 % 100_000,
            "state": "open" if number % 3 else "paid",
            "note": "x" * 90,
            "tags": ["a", "b", "c"],
            "address": {"street": "Main Street 1", "city": "Berlin", "zip": "10115"},
            "legacy": "y" * 20,
            "active": True,
        }
        yield json.dumps(order, separators=(",", ":")).encode()


def key(number: int) -> bytes:
    """An item's place."""
    return layout.item_key("acme", "custom:orders", f"order-{number:08d}")


def schemas() -> tuple[Schema, Schema]:
    """Before and after: one field renamed, one put, one removed."""
    first = tuple(Field(name, kind, required=True) for name, kind, _ in FIELDS)
    kept = {field.path: field for field in first if field.path not in {"amount", "legacy"}}
    second = (
        *kept.values(),
        Field("total", FieldType.INTEGER, required=True),
        Field("currency", FieldType.STRING, required=True),
    )
    steps = (Rename("amount", "total"), Default("currency", '"EUR"'), Remove("legacy"))
    return Schema("1.0.0", first, (), 0), Schema("1.1.0", second, steps, 0)


def structures() -> tuple[type, type]:
    """What a loop of one's own would read and write."""
    read: list[Any] = [(f"f{number}", kind) for number, (_, _, kind) in enumerate(FIELDS)]
    read.append(("f9", str, "EUR"))
    names = [name for name, _, _ in FIELDS]
    before = {f"f{number}": name for number, name in enumerate([*names, "currency"])}
    after = before | {"f2": "total", "f7": "(removed)"}
    written = [(name, kind | UnsetType, UNSET) for name, kind, *_ in read]
    settings: Any = {"kw_only": True, "gc": False, "forbid_unknown_fields": True}
    return (
        msgspec.defstruct("Before", read, rename=before, **settings),
        msgspec.defstruct("After", written, rename=after, **settings),
    )


def codec(count: int) -> Rate:
    """Decoded and encoded only."""
    before, after = structures()
    decode, encode = msgspec.json.Decoder(before).decode, msgspec.json.Encoder().encode
    contents = list(documents(count))
    watch = Watch()
    for content in contents:
        document = decode(content)
        document.f7 = UNSET
        document.__class__ = after
        encode(document)
    return watch.rate(count)


def loop(count: int, folder: Path, *, sealed: bool) -> Rate:
    """A loop over py-lmdb in one transaction, the flush included."""
    before, after = structures()
    decode, encode = msgspec.json.Decoder(before).decode, msgspec.json.Encoder().encode
    env = lmdb.open(str(folder), map_size=4 << 30, max_dbs=1)
    items = env.open_db(b"items")
    with env.begin(write=True, db=items) as txn:
        for number, content in enumerate(documents(count)):
            place = key(number)
            txn.put(place, _seal(place, content, 5, 6) if sealed else content, append=True)
    watch, last = Watch(), b""
    with env.begin(write=True, db=items) as txn:
        while part := _after(txn, last):
            made = []
            for place, stored in part:
                content, create = _open(place, stored) if sealed else (stored, 0)
                document = decode(content)
                document.f7 = UNSET
                document.__class__ = after
                content = encode(document)
                made.append((place, _seal(place, content, 9, create) if sealed else content))
            with txn.cursor() as cursor:
                cursor.putmulti(made)
            last = part[-1][0]
    rate = watch.rate(count)
    env.close()
    return rate


def _after(txn: Any, last: bytes) -> list[tuple[bytes, bytes]]:
    with txn.cursor() as cursor:
        found = cursor.set_range(last + b"\0")
        return list(itertools.islice(cursor.iternext(), _AT_A_TIME)) if found else []


def _seal(place: bytes, content: bytes, revision: int, create: int) -> bytes:
    value = _HEADER.pack(1, revision, create, 10, _NEVER) + content
    return _SUM.pack(crc32(value, crc32(place))) + value


def _open(place: bytes, stored: bytes) -> tuple[bytes, int]:
    value = stored[4:]
    assert stored[:4] == _SUM.pack(crc32(value, crc32(place)))
    _, _, create, _, ends = _HEADER.unpack_from(value)
    assert ends == _NEVER
    return value[_HEADER.size :], create


async def migration(count: int, folder: Path) -> Rate:
    """A whole migration."""
    keeper = Keeper(open_engine("embedded", folder), clock=SystemClock())
    await _fill(keeper, count)
    first, second = schemas()
    for schema in (first, second):
        await Schemas(keeper).put("acme", Family("orders", "custom:orders", "", ""), schema)
    migrations = Migrations(keeper)
    watch = Watch()
    ended = await migrations.start("acme", Order(schema="orders", backup=False))
    while ended.running:
        ended = await migrations.get("acme", ended.migration_id, wait_s=30)
    rate = watch.rate(count)
    assert (ended.status, ended.items_done) == (Status.COMPLETED, count), ended
    await migrations.close()
    keeper.engine.close()
    return rate


async def _fill(keeper: Keeper, count: int) -> None:
    numbered = enumerate(documents(count))
    while part := list(itertools.islice(numbered, 20_000)):
        keys = [key(number) for number, _ in part]
        values = [
            layout.pack_item(
                Item(
                    key="",
                    value=Value(Encoding.JSON, content),
                    revision=1,
                    create_time_ns=1,
                    update_time_ns=1,
                )
            )
            for _, content in part
        ]
        records = Slice(keys, values)
        await keeper.step(lambda step, records=records: step.txn.put_slice(ITEMS, records))


def run(count: int = COUNT) -> list[dict[str, Rate]]:
    """Several rounds of each, one after the other in each round."""
    rounds = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="llmspell-bench-") as name:
            folder = Path(name)
            rounds.append(
                {
                    "codec": codec(count),
                    "bare": loop(count, folder / "bare", sealed=False),
                    "sealed": loop(count, folder / "sealed", sealed=True),
                    "migration": asyncio.run(migration(count, folder / "state")),
                }
            )
    return rounds


def middle(rounds: list[dict[str, Rate]], what: str) -> Rate:
    """The median of the rounds."""
    return Rate(
        statistics.median(each[what].wall for each in rounds),
        statistics.median(each[what].processor for each in rounds),
    )


def share(rounds: list[dict[str, Rate]], of: str) -> float:
    """The median of what the migration reaches of another in the same round, by processor time."""
    return statistics.median(each["migration"].processor / each[of].processor for each in rounds)


def bench(report: Report, count: int = COUNT) -> None:
    """Print the lines."""
    rounds = run(count)
    ours, bare, sealed = (middle(rounds, what) for what in ("migration", "bare", "sealed"))
    of_bare, of_sealed = share(rounds, "bare"), share(rounds, "sealed")
    report.asked(
        f"migration of {count:,} items of 300 bytes",
        f"{ours.processor:,.0f} items a processor second ({ours.wall:,.0f}/s as it was) beside "
        f"{bare.processor:,.0f} ({bare.wall:,.0f}) of a bare loop without header and checksum: "
        f"{of_bare:.2f}",
        f"{TARGET_PER_S:,}, or 0.9 of the loop",
        ours.processor >= TARGET_PER_S or of_bare >= SHARE_MIN,
    )
    report.line(
        "the same beside a loop with our header and checksum",
        f"{sealed.processor:,.0f} ({sealed.wall:,.0f}): {of_sealed:.2f}; "
        f"decoding and encoding alone {middle(rounds, 'codec').processor:,.0f}",
    )


def main() -> None:
    """Print these lines alone."""
    bench(Report(), int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)


if __name__ == "__main__":
    main()
