"""What items promise over every engine. Each function takes empty items and the clock it uses."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state.items import Items
from services.state.model import (
    Changed,
    Check,
    Condition,
    Encoding,
    Item,
    Once,
    Precondition,
    Value,
    Write,
)

ACME = "acme"
GLOBEX = "globex"
SECOND_NS = 10**9
ABSENT = Precondition(Condition.ABSENT)
PRESENT = Precondition(Condition.PRESENT)


def text(content: str) -> Value:
    """A text value."""
    return Value(Encoding.TEXT, content.encode())


def json(content: str) -> Value:
    """A JSON value."""
    return Value(Encoding.JSON, content.encode())


def at(revision: int) -> Precondition:
    """That an item has this revision."""
    return Precondition(Condition.REVISION, revision)


async def item(engine: Items, tenant: str, scope: str, key: str) -> Item:
    """An item that must be there."""
    found = (await engine.get(tenant, scope, key)).item
    assert found is not None
    return found


async def gone(engine: Items, tenant: str, scope: str, key: str) -> bool:
    """Whether an item is absent."""
    return (await engine.get(tenant, scope, key)).item is None


async def keys(engine: Items, tenant: str, scope: str, prefix: str = "") -> list[str]:
    """All keys of a scope, page by page."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await engine.list(tenant, scope, limit=2, prefix=prefix, after=after)
        found += [entry.key for entry in page.items]
        after = page.after
    return found


class Refused:
    """A block that must raise a reason, with metadata."""

    def __init__(self, reason: Reason, **metadata: object) -> None:
        self._raises = pytest.raises(ServiceError)
        self._reason = reason
        self._metadata = {name: str(value) for name, value in metadata.items()}

    def __enter__(self):
        self._info = self._raises.__enter__()

    def __exit__(self, *exc_info):
        swallowed = self._raises.__exit__(*exc_info)
        error = self._info.value
        assert Reason.Name(error.reason) == Reason.Name(self._reason)
        assert self._metadata.items() <= error.metadata.items()
        return swallowed


async def set_then_get(engine: Items, clock: FakeClock) -> None:
    """An item reads back byte for byte, with its revision and times."""
    for value in (text("grüß dich"), json('{"a": 1.0}'), Value(Encoding.RAW, bytes(range(256)))):
        changed = await engine.set(ACME, "global", "k", value)
        found = await engine.get(ACME, "global", "k")
        assert found.revision == changed.revision == await engine.revision()
        assert found.item is not None
        assert found.item.value == value
        assert found.item.revision == changed.revision
        assert found.item.update_time_ns == clock.now_ns()
        assert found.item.expire_time_ns is None


async def empty_values(engine: Items, clock: FakeClock) -> None:
    """A value of no bytes is a value."""
    await engine.set(ACME, "global", "k", Value(Encoding.RAW, b""))
    assert (await item(engine, ACME, "global", "k")).value == Value(Encoding.RAW, b"")


async def absent_item(engine: Items, clock: FakeClock) -> None:
    """What was never written is absent, at revision 0."""
    found = await engine.get(ACME, "global", "k")
    assert found.item is None
    assert found.revision == 0


async def create_time_stays(engine: Items, clock: FakeClock) -> None:
    """Writing again keeps the first time, until the item was absent."""
    first = clock.now_ns()
    await engine.set(ACME, "global", "k", text("1"))
    clock.advance(5)
    await engine.set(ACME, "global", "k", text("2"))
    again = await item(engine, ACME, "global", "k")
    assert (again.create_time_ns, again.update_time_ns) == (first, clock.now_ns())
    await engine.delete(ACME, "global", "k")
    await engine.set(ACME, "global", "k", text("3"))
    assert (await item(engine, ACME, "global", "k")).create_time_ns == clock.now_ns()


async def revisions_rise_by_one(engine: Items, clock: FakeClock) -> None:
    """Each call that changes something takes the next revision, whosever it is."""
    one = await engine.set(ACME, "global", "k", text("1"))
    two = await engine.increment(GLOBEX, "user:u", "n", 1)
    three = await engine.delete(ACME, "global", "k")
    assert [one.revision, two.revision, three.revision] == [1, 2, 3]


async def delete_counts(engine: Items, clock: FakeClock) -> None:
    """Removing what is there counts 1; what is not there counts 0 and takes no revision."""
    await engine.set(ACME, "global", "k", text("1"))
    first = await engine.delete(ACME, "global", "k")
    second = await engine.delete(ACME, "global", "k")
    assert (first.deleted_count, first.revision) == (1, 2)
    assert (second.deleted_count, second.revision) == (0, 2)
    assert await gone(engine, ACME, "global", "k")


async def tenants_are_apart(engine: Items, clock: FakeClock) -> None:
    """A tenant whose name begins with another's sees and removes nothing of it."""
    await engine.set("acme", "global", "k", text("acme's"))
    await engine.set("acme2", "global", "k", text("acme2's"))
    await engine.set("acme2", "global", "other", text("acme2's"))
    assert (await item(engine, "acme", "global", "k")).value == text("acme's")
    assert await keys(engine, "acme", "global") == ["k"]
    assert await gone(engine, "acme", "global", "other")
    assert (await engine.delete("acme", "global", "other")).deleted_count == 0
    await engine.purge("acme")
    assert await keys(engine, "acme2", "global") == ["k", "other"]


async def scopes_are_apart(engine: Items, clock: FakeClock) -> None:
    """A scope whose name begins with another's is another scope."""
    await engine.set(ACME, "session:a", "k", text("a"))
    await engine.set(ACME, "session:ab", "k", text("ab"))
    await engine.set(ACME, "session:ab", "bk", text("ab"))
    assert await keys(engine, ACME, "session:a") == ["k"]
    assert (await item(engine, ACME, "session:a", "k")).value == text("a")
    await engine.delete(ACME, "session:a", "k")
    assert await keys(engine, ACME, "session:ab") == ["bk", "k"]
    assert await keys(engine, ACME, "global") == []


async def lists_in_byte_order(engine: Items, clock: FakeClock) -> None:
    """Keys come in order of their UTF-8 bytes, page by page, by prefix, with nothing left out."""
    names = ["a", "a b", "a/1", "a/10", "a/2", "b", "z", "é", "中", "\U0001f600", "Z", "~"]
    for name in names:
        await engine.set(ACME, "global", name, text(name))
        await engine.set(GLOBEX, "global", f"x{name}", text(name))
    assert await keys(engine, ACME, "global") == sorted(names, key=str.encode)
    assert await keys(engine, ACME, "global", "a/1") == ["a/1", "a/10"]
    assert await keys(engine, ACME, "global", "none") == []


async def lists_values_or_keys(engine: Items, clock: FakeClock) -> None:
    """A page has the values, or leaves them out where only keys are asked for."""
    await engine.set(ACME, "global", "k", text("v"), ttl_ns=SECOND_NS)
    full = await engine.list(ACME, "global", limit=10)
    bare = await engine.list(ACME, "global", limit=10, keys_only=True)
    assert [entry.value for entry in full.items] == [text("v")]
    assert [entry.value for entry in bare.items] == [None]
    assert bare.items[0].revision == full.items[0].revision == full.revision
    assert bare.items[0].expire_time_ns == clock.now_ns() + SECOND_NS


async def page_after_a_lost_key(engine: Items, clock: FakeClock) -> None:
    """A cursor goes on behind its key even when that key has gone."""
    for name in "abcd":
        await engine.set(ACME, "global", name, text(name))
    page = await engine.list(ACME, "global", limit=2)
    assert page.after == "b"
    await engine.delete(ACME, "global", "b")
    rest = await engine.list(ACME, "global", limit=2, after="b")
    assert [entry.key for entry in rest.items] == ["c", "d"]


async def list_limit(engine: Items, clock: FakeClock) -> None:
    """A limit that is not positive is refused; one that is too large is cut."""
    for limit in (0, -1):
        with Refused(Reason.FIELD_INVALID, field="limit"):
            await engine.list(ACME, "global", limit=limit)
    assert (await engine.list(ACME, "global", limit=10**9)).items == []


async def expired_is_absent(engine: Items, clock: FakeClock) -> None:
    """From its expire time on an item is absent for every call, swept or not."""
    await engine.set(ACME, "global", "k", json("5"), ttl_ns=10 * SECOND_NS)
    await engine.set(ACME, "global", "stays", json("5"), ttl_ns=11 * SECOND_NS)
    clock.advance(9.999)
    assert not await gone(engine, ACME, "global", "k")
    clock.advance(0.001)
    assert await gone(engine, ACME, "global", "k")
    assert await keys(engine, ACME, "global") == ["stays"]
    assert (await engine.delete(ACME, "global", "k")).deleted_count == 0
    with Refused(Reason.REVISION_MISMATCH, key="k", revision=0):
        await engine.set(ACME, "global", "k", text("x"), precondition=PRESENT)
    assert (await engine.increment(ACME, "global", "k", 1)).number == 1


async def written_again_after_expiry(engine: Items, clock: FakeClock) -> None:
    """An expired item that is written again is new, and no sweep takes it for the old one."""
    await engine.set(ACME, "global", "k", text("1"), ttl_ns=SECOND_NS)
    clock.advance(2)
    await engine.set(ACME, "global", "k", text("2"), precondition=ABSENT)
    assert (await item(engine, ACME, "global", "k")).create_time_ns == clock.now_ns()
    assert await engine.sweep() == 0
    assert (await item(engine, ACME, "global", "k")).value == text("2")


async def set_replaces_the_ttl(engine: Items, clock: FakeClock) -> None:
    """Writing again sets the time to live anew, or ends it."""
    await engine.set(ACME, "global", "k", text("1"), ttl_ns=SECOND_NS)
    await engine.set(ACME, "global", "k", text("2"), ttl_ns=5 * SECOND_NS)
    clock.advance(2)
    await engine.set(ACME, "global", "k", text("3"))
    clock.advance(10**6)
    assert await engine.sweep() == 0
    assert (await item(engine, ACME, "global", "k")).value == text("3")


async def sweep_in_slices(engine: Items, clock: FakeClock) -> None:
    """A sweep removes at most its limit, the earliest first, and takes one revision for them."""
    for number in range(5):
        ttl_ns = (number + 1) * SECOND_NS
        await engine.set(ACME, "global", f"k{number}", text("x"), ttl_ns=ttl_ns)
        await engine.set(GLOBEX, "global", f"k{number}", text("x"))
    clock.advance(4)
    assert await engine.sweep(3) == 3
    assert await engine.revision() == 11
    assert await engine.sweep(3) == 1
    assert await engine.sweep(3) == 0
    assert await engine.revision() == 12
    assert await keys(engine, ACME, "global") == ["k4"]
    assert len(await keys(engine, GLOBEX, "global")) == 5


async def clock_set_back(engine: Items, clock: FakeClock) -> None:
    """A wall clock that is set back brings nothing back, and lets nothing live longer."""
    await engine.set(ACME, "global", "old", text("x"), ttl_ns=10 * SECOND_NS)
    clock.advance(10)
    assert await gone(engine, ACME, "global", "old")
    clock.advance(-86_400)
    assert await gone(engine, ACME, "global", "old")
    await engine.set(ACME, "global", "new", text("x"), ttl_ns=10 * SECOND_NS)
    clock.advance(9)
    assert not await gone(engine, ACME, "global", "new")
    clock.advance(1)
    assert await gone(engine, ACME, "global", "new")


async def increments(engine: Items, clock: FakeClock) -> None:
    """An absent item counts as 0; ints stay ints, a float on either side makes a float."""
    assert (await engine.increment(ACME, "global", "n", 5)).number == 5
    counted = await engine.increment(ACME, "global", "n", -7)
    assert (counted.number, counted.revision) == (-2, 2)
    assert (await item(engine, ACME, "global", "n")).value == json("-2")
    counted = await engine.increment(ACME, "global", "n", 0.5)
    assert (counted.number, type(counted.number)) == (-1.5, float)
    counted = await engine.increment(ACME, "global", "n", 1)
    assert (counted.number, type(counted.number)) == (-0.5, float)
    assert (await engine.increment(GLOBEX, "global", "n", 1)).number == 1


async def increment_keeps_ttl(engine: Items, clock: FakeClock) -> None:
    """An increment changes neither the end nor the first time of an item."""
    first = clock.now_ns()
    await engine.set(ACME, "global", "n", json("1"), ttl_ns=10 * SECOND_NS)
    clock.advance(3)
    await engine.increment(ACME, "global", "n", 1)
    counted = await item(engine, ACME, "global", "n")
    assert counted.expire_time_ns == first + 10 * SECOND_NS
    assert (counted.create_time_ns, counted.update_time_ns) == (first, clock.now_ns())


async def increment_of_no_number(engine: Items, clock: FakeClock) -> None:
    """What is not a number, or leaves its range, is refused and stays as it was."""
    most = 2**63 - 1
    for value, delta in (
        (json('"5"'), 1),
        (json("true"), 1),
        (json("null"), 1),
        (json("[1]"), 1),
        (text("5"), 1),
        (Value(Encoding.RAW, b"5"), 1),
        (json(str(most)), 1),
        (json(str(-most - 1)), -1),
        (json("18446744073709551616"), 1),
        (json("1.7e308"), 1.7e308),
    ):
        changed = await engine.set(ACME, "global", "n", value)
        with Refused(Reason.VALUE_NOT_NUMBER, key="n"):
            await engine.increment(ACME, "global", "n", delta)
        assert (await item(engine, ACME, "global", "n")).value == value
        assert await engine.revision() == changed.revision


async def increment_by_no_number(engine: Items, clock: FakeClock) -> None:
    """A delta that is not finite, or has more than 64 bits, is refused."""
    for delta in (math.nan, math.inf, -math.inf, 2**63):
        with Refused(Reason.FIELD_INVALID, field="delta"):
            await engine.increment(ACME, "global", "n", delta)
    assert await engine.revision() == 0


async def preconditions(engine: Items, clock: FakeClock) -> None:
    """A write happens only where its precondition holds, and says what it found instead."""
    with Refused(Reason.REVISION_MISMATCH, key="k", revision=0):
        await engine.set(ACME, "global", "k", text("1"), precondition=PRESENT)
    with Refused(Reason.REVISION_MISMATCH, key="k", revision=0):
        await engine.set(ACME, "global", "k", text("1"), precondition=at(0))
    await engine.set(ACME, "global", "k", text("1"), precondition=ABSENT)
    with Refused(Reason.REVISION_MISMATCH, key="k", revision=1):
        await engine.set(ACME, "global", "k", text("2"), precondition=ABSENT)
    with Refused(Reason.REVISION_MISMATCH, key="k", revision=1):
        await engine.delete(ACME, "global", "k", precondition=at(2))
    await engine.set(ACME, "global", "k", text("2"), precondition=at(1))
    await engine.set(ACME, "global", "k", text("3"), precondition=PRESENT)
    assert (await engine.delete(ACME, "global", "k", precondition=at(3))).deleted_count == 1
    assert await engine.revision() == 4


async def delete_with_precondition_of_absent(engine: Items, clock: FakeClock) -> None:
    """A removal of what is not there is refused where it had to be there."""
    with Refused(Reason.REVISION_MISMATCH, key="k", revision=0):
        await engine.delete(ACME, "global", "k", precondition=PRESENT)
    assert (await engine.delete(ACME, "global", "k", precondition=ABSENT)).deleted_count == 0


async def batch_shares_a_revision(engine: Items, clock: FakeClock) -> None:
    """Writes of a batch happen together, at one revision, across scopes."""
    await engine.set(ACME, "global", "old", text("x"))
    changed = await engine.batch(
        ACME,
        [Check("global", "old", at(1)), Check("user:u", "b", ABSENT)],
        [
            Write("global", "a", text("1")),
            Write("user:u", "b", text("2"), 10 * SECOND_NS),
            Write("global", "old", None),
            Write("global", "never", None),
        ],
    )
    assert (changed.revision, changed.deleted_count) == (2, 1)
    assert (await item(engine, ACME, "global", "a")).revision == 2
    ended = (await item(engine, ACME, "user:u", "b")).expire_time_ns
    assert ended == clock.now_ns() + 10 * SECOND_NS
    assert await gone(engine, ACME, "global", "old")
    assert await keys(engine, GLOBEX, "global") == []


async def batch_is_all_or_nothing(engine: Items, clock: FakeClock) -> None:
    """Where one check fails nothing is written, and the first that failed is named."""
    await engine.set(ACME, "global", "k", text("1"))
    with Refused(Reason.REVISION_MISMATCH, key="k", revision=1):
        await engine.batch(
            ACME,
            [
                Check("global", "none", ABSENT),
                Check("global", "k", at(7)),
                Check("global", "x", PRESENT),
            ],
            [Write("global", "a", text("1")), Write("global", "k", None)],
        )
    assert await keys(engine, ACME, "global") == ["k"]
    assert await engine.revision() == 1


async def batch_increments(engine: Items, clock: FakeClock) -> None:
    """Additions of a batch happen with its writes, in order, exactly, and their sums are told."""
    await engine.set(ACME, "global", "n", json("0.1"), ttl_ns=10 * SECOND_NS)
    await engine.set(GLOBEX, "global", "n", json("7"))
    changed = await engine.batch(
        ACME,
        [Check("global", "n", PRESENT), Check("global", "made", ABSENT)],
        [
            Write("global", "n", None, delta=Decimal("0.2")),
            Write("global", "made", None, delta=2),
            Write("global", "made", None, delta=3),
            Write("global", "put", json("1")),
            Write("global", "put", None, delta=0.5),
            Write("user:u", "gone", None),
        ],
    )
    assert changed == Changed(3, 0, (Decimal("0.3"), 2, 5, 1.5))
    kept = await item(engine, ACME, "global", "n")
    assert (kept.value, kept.revision) == (json("0.3"), 3)
    assert kept.expire_time_ns == clock.now_ns() + 10 * SECOND_NS
    assert (await item(engine, ACME, "global", "made")).value == json("5")
    assert (await item(engine, GLOBEX, "global", "n")).value == json("7")


async def batch_with_a_sum_that_fails(engine: Items, clock: FakeClock) -> None:
    """Where one number cannot be added to, or a check fails, nothing of the batch is done."""
    await engine.set(ACME, "global", "word", text("x"))
    add = [Write("global", "n", None, delta=1), Write("global", "k", text("1"))]
    with Refused(Reason.VALUE_NOT_NUMBER, key="word"):
        await engine.batch(ACME, [], [*add, Write("global", "word", None, delta=1)])
    with Refused(Reason.VALUE_NOT_NUMBER, key="k"):
        await engine.batch(ACME, [], [*add, Write("global", "k", None, delta=1)])
    with Refused(Reason.VALUE_NOT_NUMBER, key="n"):
        most = Write("global", "n", json(str(2**63 - 1)))
        await engine.batch(ACME, [], [most, Write("global", "n", None, delta=1)])
    with Refused(Reason.REVISION_MISMATCH, key="n"):
        await engine.batch(ACME, [Check("global", "n", PRESENT)], add)
    with Refused(Reason.FIELD_INVALID, field="writes[1].increment"):
        await engine.batch(ACME, [], [add[0], Write("global", "n", None, delta=math.nan)])
    for key in ("n", "k"):
        assert (await engine.get(ACME, "global", key)).item is None
    assert await engine.revision() == 1


async def batch_adds_once(engine: Items, clock: FakeClock) -> None:
    """A batch that is repeated by its request id adds nothing again, and tells the same sums."""
    once = Once("r", b"d")
    add = [Write("global", "n", None, delta=Decimal("0.1")), Write("global", "m", None, delta=1)]
    first = await engine.batch(ACME, [], add, once=once)
    assert await engine.batch(ACME, [], add, once=once) == first
    assert first.sums == (Decimal("0.1"), 1)
    assert (await engine.batch(GLOBEX, [], add, once=once)).sums == first.sums
    assert (await item(engine, ACME, "global", "m")).value == json("1")


async def batch_in_order(engine: Items, clock: FakeClock) -> None:
    """Of several writes to one key the last one stays; a removal sees those before it."""
    changed = await engine.batch(
        ACME,
        [],
        [
            Write("global", "k", text("1"), SECOND_NS),
            Write("global", "k", text("2")),
            Write("global", "x", text("1")),
            Write("global", "x", None),
            Write("global", "y", None),
            Write("global", "y", text("1")),
        ],
    )
    assert (changed.revision, changed.deleted_count) == (1, 1)
    clock.advance(5)
    assert (await item(engine, ACME, "global", "k")).value == text("2")
    assert await keys(engine, ACME, "global") == ["k", "y"]
    assert await engine.sweep() == 0


async def batch_checks_come_first(engine: Items, clock: FakeClock) -> None:
    """Checks look at what was there before the batch's own writes."""
    await engine.batch(ACME, [Check("global", "k", ABSENT)], [Write("global", "k", text("1"))])
    assert not await gone(engine, ACME, "global", "k")


async def batch_without_change(engine: Items, clock: FakeClock) -> None:
    """Checks alone, or removals of what is not there, take no revision."""
    await engine.set(ACME, "global", "k", text("1"))
    assert (await engine.batch(ACME, [Check("global", "k", PRESENT)], [])).revision == 1
    changed = await engine.batch(ACME, [], [Write("global", "none", None)])
    assert (changed.revision, changed.deleted_count) == (1, 0)


async def batch_limits(engine: Items, clock: FakeClock) -> None:
    """An empty batch, 257 operations, or more than 4 MiB of values are refused whole."""
    with Refused(Reason.FIELD_REQUIRED, field="writes"):
        await engine.batch(ACME, [], [])
    many = [Write("global", f"k{number}", text("x")) for number in range(257)]
    with Refused(Reason.LIMIT_EXCEEDED, limit=256, got=257):
        await engine.batch(ACME, [], many)
    large = Value(Encoding.RAW, bytes(1024 * 1024))
    with Refused(Reason.LIMIT_EXCEEDED, limit=4 * 1024 * 1024):
        await engine.batch(ACME, [], [Write("global", f"k{number}", large) for number in range(5)])
    with Refused(Reason.FIELD_INVALID, field="writes[1].key"):
        await engine.batch(ACME, [], [many[0], Write("global", "a\nb", text("x"))])
    with Refused(Reason.FIELD_REQUIRED, field="checks[0].key"):
        await engine.batch(ACME, [Check("global", "", ABSENT)], [many[0]])
    assert await engine.revision() == 0
    assert (await engine.batch(ACME, [], many[:256])).revision == 1


async def names(engine: Items, clock: FakeClock) -> None:
    """Tenants, scopes and keys that are empty, too long, or hold control characters are refused."""
    value = text("x")
    for key in ("", "a\0b", "\x7f", "a\x85", "\ud800", "k" * 257, "é" * 129):
        for call in (
            engine.get(ACME, "global", key),
            engine.set(ACME, "global", key, value),
            engine.delete(ACME, "global", key),
            engine.increment(ACME, "global", key, 1),
        ):
            with pytest.raises(ServiceError):
                await call
    for tenant, scope in (("", "global"), ("a\0b", "global"), (ACME, ""), (ACME, "user:a\0")):
        for call in (
            engine.get(tenant, scope, "k"),
            engine.set(tenant, scope, "k", value),
            engine.delete(tenant, scope, "k"),
            engine.increment(tenant, scope, "k", 1),
            engine.list(tenant, scope, limit=1),
            engine.batch(tenant, [], [Write(scope, "k", value)]),
        ):
            with pytest.raises(ServiceError):
                await call
    with Refused(Reason.FIELD_REQUIRED, field="tenant"):
        await engine.purge("")
    with Refused(Reason.LIMIT_EXCEEDED, field="key", got=257, limit=256):
        await engine.set(ACME, "global", "k" * 257, value)
    with Refused(Reason.FIELD_INVALID, field="prefix"):
        await engine.list(ACME, "global", limit=1, prefix="a\0")
    assert await engine.revision() == 0


async def longest_names(engine: Items, clock: FakeClock) -> None:
    """The longest tenant, scope and key that are allowed work together, with a time to live."""
    tenant, scope, key = "t" * 63, "workflow:" + "s" * 96, "é" * 128
    await engine.set(tenant, scope, key, text("x"), ttl_ns=SECOND_NS)
    assert await keys(engine, tenant, scope) == [key]
    clock.advance(1)
    assert await engine.sweep() == 1


async def value_and_ttl_limits(engine: Items, clock: FakeClock) -> None:
    """A value of 1 MiB is kept and one byte more is refused; so are times to live out of range."""
    most = 1024 * 1024
    with Refused(Reason.LIMIT_EXCEEDED, field="value", got=most + 1, limit=most):
        await engine.set(ACME, "global", "k", Value(Encoding.RAW, bytes(most + 1)))
    for ttl_ns in (0, -1):
        with Refused(Reason.FIELD_INVALID, field="ttl"):
            await engine.set(ACME, "global", "k", text("x"), ttl_ns=ttl_ns)
    with Refused(Reason.LIMIT_EXCEEDED, field="ttl"):
        await engine.set(ACME, "global", "k", text("x"), ttl_ns=200 * 365 * 86_400 * SECOND_NS)
    assert await engine.revision() == 0
    large = Value(Encoding.RAW, b"\xff" * most)
    await engine.set(ACME, "global", "k", large, ttl_ns=100 * 365 * 86_400 * SECOND_NS)
    assert (await item(engine, ACME, "global", "k")).value == large


async def large_values_page(engine: Items, clock: FakeClock) -> None:
    """A scope of large values is listed in pages that a message can carry."""
    for number in range(12):
        value = Value(Encoding.RAW, bytes(1024 * 1024))
        await engine.set(ACME, "global", f"k{number:02}", value)
    found, after = [], ""
    while after is not None:
        page = await engine.list(ACME, "global", limit=100, after=after)
        assert sum(len(entry.value.content) for entry in page.items) <= 5 * 1024 * 1024
        found += [entry.key for entry in page.items]
        after = page.after
    assert found == [f"k{number:02}" for number in range(12)]


async def purge_erases_one_tenant(engine: Items, clock: FakeClock) -> None:
    """A purge removes all scopes of its tenant, counts what was seen, and touches no other."""
    await engine.set(ACME, "global", "k", text("x"))
    await engine.set(ACME, "user:u", "k", text("x"), ttl_ns=100 * SECOND_NS)
    await engine.set(ACME, "user:u", "ended", text("x"), ttl_ns=SECOND_NS)
    await engine.set(GLOBEX, "global", "k", text("x"), ttl_ns=100 * SECOND_NS)
    clock.advance(2)
    changed = await engine.purge(ACME)
    assert (changed.deleted_count, changed.revision) == (2, 5)
    assert await keys(engine, ACME, "global") == await keys(engine, ACME, "user:u") == []
    assert await keys(engine, GLOBEX, "global") == ["k"]
    again = await engine.purge(ACME)
    assert (again.deleted_count, again.revision) == (0, 5)
    clock.advance(100)
    assert await engine.sweep() == 1


async def ready_until_closed(engine: Items, clock: FakeClock) -> None:
    """An engine is ready from the start, and may be closed twice."""
    assert await engine.ready()
    await engine.close()
    await engine.close()


CLAIMS = (
    set_then_get,
    empty_values,
    absent_item,
    create_time_stays,
    revisions_rise_by_one,
    delete_counts,
    tenants_are_apart,
    scopes_are_apart,
    lists_in_byte_order,
    lists_values_or_keys,
    page_after_a_lost_key,
    list_limit,
    expired_is_absent,
    written_again_after_expiry,
    set_replaces_the_ttl,
    sweep_in_slices,
    clock_set_back,
    increments,
    increment_keeps_ttl,
    increment_of_no_number,
    increment_by_no_number,
    preconditions,
    delete_with_precondition_of_absent,
    batch_shares_a_revision,
    batch_is_all_or_nothing,
    batch_increments,
    batch_with_a_sum_that_fails,
    batch_adds_once,
    batch_in_order,
    batch_checks_come_first,
    batch_without_change,
    batch_limits,
    names,
    longest_names,
    value_and_ttl_limits,
    large_values_page,
    purge_erases_one_tenant,
    ready_until_closed,
)
