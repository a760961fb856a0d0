"""What copying, moving, clearing and request ids promise over every engine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal

import pytest

from services.common import failpoints
from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state.items import Items
from services.state.model import Address, Encoding, Once, Value, Write
from services.state.requests import Requests
from services.state.step import Keeper
from services.state.transfers import Transfers
from tests.contract.state_suite import (
    ABSENT,
    ACME,
    GLOBEX,
    SECOND_NS,
    Refused,
    at,
    gone,
    item,
    json,
    keys,
    text,
)

ONE = Once("one", b"digest")
TEN_MINUTES = 600


@dataclass
class Stage:
    """The parts of a state process that these claims are about."""

    keeper: Keeper
    items: Items
    transfers: Transfers
    requests: Requests
    clock: FakeClock


def here(key, scope="global"):
    """Where an item is."""
    return Address(scope, key)


async def fill(stage, scope, *names, tenant=ACME):
    """Items whose value is their key."""
    await stage.items.batch(tenant, [], [Write(scope, name, text(name)) for name in names])


async def copies_value_and_end(stage: Stage) -> None:
    """A copy has the value's bytes, its encoding and its end; the source stays."""
    ends = stage.clock.now_ns() + 10 * SECOND_NS
    for value in (json('{"a": 1.0}'), Value(Encoding.RAW, bytes(range(256)) * 40), text("")):
        await stage.items.set(ACME, "session:s", "k", value, ttl_ns=ends - stage.clock.now_ns())
        stage.clock.advance(1)
        changed = await stage.transfers.copy(ACME, here("k", "session:s"), here("c", "user:u"))
        copy = await item(stage.items, ACME, "user:u", "c")
        assert (copy.value, copy.expire_time_ns) == (value, ends)
        assert (copy.revision, copy.update_time_ns) == (changed.revision, stage.clock.now_ns())
        assert (await item(stage.items, ACME, "session:s", "k")).value == value
    stage.clock.advance(10)
    assert await gone(stage.items, ACME, "user:u", "c")


async def moves(stage: Stage) -> None:
    """A moved item is at its new place only, at one revision; what was there is written over."""
    await fill(stage, "global", "a", "b")
    changed = await stage.transfers.copy(ACME, here("a"), here("b"), move=True)
    assert (changed.revision, changed.deleted_count) == (2, 1)
    assert (await item(stage.items, ACME, "global", "b")).value == text("a")
    assert await keys(stage.items, ACME, "global") == ["b"]
    assert await stage.items.revision() == 2


async def copy_of_nothing(stage: Stage) -> None:
    """What is absent, has ended, or is another tenant's, cannot be copied or moved."""
    await fill(stage, "global", "k", tenant=GLOBEX)
    await stage.items.set(ACME, "global", "ended", text("x"), ttl_ns=SECOND_NS)
    stage.clock.advance(2)
    for key in ("k", "ended", "none"):
        for move in (False, True):
            with Refused(Reason.ITEM_NOT_FOUND, key=key, scope="global"):
                await stage.transfers.copy(ACME, here(key), here("to"), move=move)
    with Refused(Reason.FIELD_INVALID, field="key"):
        await stage.transfers.copy(GLOBEX, here("k"), here("k"), move=True)
    assert await keys(stage.items, GLOBEX, "global") == ["k"]


async def copy_under_a_condition(stage: Stage) -> None:
    """A condition is of the target; where it does not hold nothing is copied or moved."""
    await fill(stage, "global", "a", "b")
    with Refused(Reason.REVISION_MISMATCH, key="b", revision=1):
        await stage.transfers.copy(ACME, here("a"), here("b"), move=True, precondition=ABSENT)
    assert (await item(stage.items, ACME, "global", "b")).value == text("b")
    assert await keys(stage.items, ACME, "global") == ["a", "b"]
    await stage.transfers.copy(ACME, here("a"), here("b"), precondition=at(1))
    await stage.transfers.copy(ACME, here("a"), here("c"), precondition=ABSENT)
    assert await keys(stage.items, ACME, "global") == ["a", "b", "c"]


async def copies_a_scope(stage: Stage) -> None:
    """A scope's items come under their keys at one revision, those with the prefix, no others."""
    await fill(stage, "session:a", "x/1", "x/2", "y")
    await fill(stage, "session:ab", "x/9")
    await fill(stage, "user:u", "x/1", "mine")
    done = await stage.transfers.copy_scope(ACME, "session:a", "user:u", prefix="x/")
    assert (done.count, done.revision) == (2, 4)
    assert await keys(stage.items, ACME, "user:u") == ["mine", "x/1", "x/2"]
    assert await keys(stage.items, ACME, "session:a") == ["x/1", "x/2", "y"]
    again = await stage.transfers.copy_scope(ACME, "session:none", "user:u")
    assert (again.count, again.revision) == (0, 4)
    with Refused(Reason.FIELD_INVALID, field="scope"):
        await stage.transfers.copy_scope(ACME, "user:u", "user:u")


async def moves_a_scope(stage: Stage) -> None:
    """A moved scope is empty behind, another tenant's of the same name is untouched."""
    await fill(stage, "session:a", "k1", "k2")
    await fill(stage, "session:a", "k1", tenant=GLOBEX)
    done = await stage.transfers.copy_scope(ACME, "session:a", "user:u", move=True)
    assert (done.count, done.revision) == (2, 3)
    assert await keys(stage.items, ACME, "session:a") == []
    assert await keys(stage.items, ACME, "user:u") == ["k1", "k2"]
    assert await keys(stage.items, GLOBEX, "session:a") == ["k1"]
    assert await keys(stage.items, GLOBEX, "user:u") == []


async def scope_all_or_nothing(stage: Stage) -> None:
    """Where the last item cannot be written, or something breaks between two, none is."""
    await fill(stage, "session:a", "k1", "k2", "k3")
    await fill(stage, "user:u", "k3")
    with Refused(Reason.REVISION_MISMATCH, key="k3"):
        await stage.transfers.copy_scope(
            ACME, "session:a", "user:u", move=True, precondition=ABSENT
        )
    failpoints._ACTIONS["transfer.between_items"] = "fail"
    try:
        for call in (
            stage.transfers.copy_scope(ACME, "session:a", "hook:h", move=True),
            stage.transfers.clear(ACME, "session:a"),
        ):
            with pytest.raises(OSError, match="failpoint"):
                await call
    finally:
        del failpoints._ACTIONS["transfer.between_items"]
    assert await keys(stage.items, ACME, "session:a") == ["k1", "k2", "k3"]
    assert await keys(stage.items, ACME, "user:u") == ["k3"]
    assert await keys(stage.items, ACME, "hook:h") == []
    assert await stage.items.revision() == 2


async def clears(stage: Stage) -> None:
    """Clearing removes a scope, or a prefix of it, at one revision, and counts what was seen."""
    await fill(stage, "session:a", "x/1", "x/2", "y")
    await fill(stage, "session:ab", "x/1")
    await fill(stage, "session:a", "x/1", tenant=GLOBEX)
    await stage.items.set(ACME, "session:a", "x/ended", text("x"), ttl_ns=SECOND_NS)
    stage.clock.advance(2)
    done = await stage.transfers.clear(ACME, "session:a", prefix="x/")
    assert (done.count, done.revision, done.more) == (2, 5, False)
    assert await keys(stage.items, ACME, "session:a") == ["y"]
    again = await stage.transfers.clear(ACME, "session:a", prefix="x/")
    assert (again.count, again.revision) == (0, 5)
    assert await keys(stage.items, ACME, "session:ab") == ["x/1"]
    assert await keys(stage.items, GLOBEX, "session:a") == ["x/1"]


async def too_many_at_once(stage: Stage) -> None:
    """More items, or more bytes, than one call takes are refused whole; clearing goes in parts."""
    few = Transfers(stage.keeper, items_max=3, bytes_max=10)
    await fill(stage, "session:a", "k1", "k2", "k3", "k4")
    for call in (
        few.copy_scope(ACME, "session:a", "user:u"),
        few.copy_scope(ACME, "session:a", "user:u", move=True),
        few.clear(ACME, "session:a"),
    ):
        with Refused(Reason.LIMIT_EXCEEDED, field="items", limit=3):
            await call
    assert await keys(stage.items, ACME, "session:a") == ["k1", "k2", "k3", "k4"]
    first = await few.clear(ACME, "session:a", in_parts=True)
    last = await few.clear(ACME, "session:a", in_parts=True)
    assert [(first.count, first.more), (last.count, last.more)] == [(3, True), (1, False)]
    await stage.items.set(ACME, "session:a", "k", text("x" * 11))
    with Refused(Reason.LIMIT_EXCEEDED, field="bytes", limit=10):
        await few.copy_scope(ACME, "session:a", "user:u")
    assert (await few.clear(ACME, "session:a")).count == 1


async def repeated_write(stage: Stage) -> None:
    """Each kind of write, repeated under its id, changes nothing and answers as it did."""
    await fill(stage, "global", "k", "m")
    await fill(stage, "session:a", "x")
    items, transfers = stage.items, stage.transfers

    def calls(number):
        once = [Once(f"{number}-{each}", b"d") for each in range(9)]
        return [
            lambda: items.set(ACME, "global", "k", text("1"), precondition=at(1), once=once[0]),
            lambda: items.delete(ACME, "global", "k", once=once[1]),
            lambda: items.increment(ACME, "global", "n", 2, once=once[2]),
            lambda: items.increment(ACME, "global", "d", Decimal("0.10"), once=once[3]),
            lambda: items.increment(ACME, "global", "f", 0.5, once=once[4]),
            lambda: items.batch(ACME, [], [Write("global", "m", None)], once=once[5]),
            lambda: transfers.copy(ACME, here("n"), here("moved"), move=True, once=once[6]),
            lambda: transfers.copy_scope(ACME, "session:a", "user:u", move=True, once=once[7]),
            lambda: transfers.clear(ACME, "user:u", once=once[8]),
        ]

    for call in calls(0):
        first = await call()
        revision = await items.revision()
        again = await call()
        assert (again, type(again)) == (first, type(first))
        assert await items.revision() == revision
    assert (await items.increment(ACME, "global", "d", Decimal("0.20"))).number == Decimal("0.30")


async def repeated_after_others(stage: Stage) -> None:
    """A repeated write does not undo what others wrote after it, and removals count as they did."""
    await stage.items.set(ACME, "global", "k", text("mine"), once=ONE)
    await stage.items.set(ACME, "global", "k", text("theirs"))
    assert (await stage.items.set(ACME, "global", "k", text("mine"), once=ONE)).revision == 1
    assert (await item(stage.items, ACME, "global", "k")).value == text("theirs")
    two = Once("two", b"digest")
    assert (await stage.items.delete(ACME, "global", "k", once=two)).deleted_count == 1
    assert (await stage.items.delete(ACME, "global", "k", once=two)).deleted_count == 1


async def repeated_at_once(stage: Stage) -> None:
    """Of many copies of one write that come together, one counts."""
    answers = await asyncio.gather(
        *(stage.items.increment(ACME, "global", "n", 1, once=ONE) for _ in range(20))
    )
    assert {answer.number for answer in answers} == {1}
    assert (await item(stage.items, ACME, "global", "n")).value == json("1")


async def id_of_another_write(stage: Stage) -> None:
    """An id that named another write is refused; another tenant's same id is another one."""
    await stage.items.increment(ACME, "global", "n", 1, once=ONE)
    other = Once("one", b"another digest")
    with Refused(Reason.REQUEST_ID_REUSED, request_id="one"):
        await stage.items.increment(ACME, "global", "n", 1, once=other)
    assert (await stage.items.increment(GLOBEX, "global", "n", 5, once=other)).number == 5
    for request_id, reason in (
        ("i" * 65, Reason.LIMIT_EXCEEDED),
        ("a\0b", Reason.FIELD_INVALID),
        ("\ud800", Reason.FIELD_INVALID),
    ):
        with Refused(reason, field="request_id"):
            await stage.items.set(ACME, "global", "k", text("x"), once=Once(request_id, b"d"))
    assert await gone(stage.items, ACME, "global", "k")


async def refused_is_not_remembered(stage: Stage) -> None:
    """A write that was refused is tried again under its id."""
    with Refused(Reason.REVISION_MISMATCH):
        await stage.items.set(ACME, "global", "k", text("x"), precondition=at(1), once=ONE)
    await fill(stage, "global", "k")
    changed = await stage.items.set(ACME, "global", "k", text("x"), precondition=at(1), once=ONE)
    assert changed.revision == 2


async def remembered_for_ten_minutes(stage: Stage) -> None:
    """An id is known for ten minutes, not longer, swept or not; the sweep leaves nothing."""
    await stage.items.increment(ACME, "global", "n", 1, once=ONE)
    stage.clock.advance(TEN_MINUTES - 1)
    assert await stage.requests.sweep() == 0
    assert (await stage.items.increment(ACME, "global", "n", 1, once=ONE)).number == 1
    stage.clock.advance(1)
    assert (await stage.items.increment(ACME, "global", "n", 1, once=ONE)).number == 2
    assert await stage.requests.sweep() == 0
    assert (await stage.items.increment(ACME, "global", "n", 1, once=ONE)).number == 2
    stage.clock.advance(TEN_MINUTES)
    revision = await stage.items.revision()
    assert await stage.requests.sweep() == 1
    assert remembered(stage) == []
    assert await stage.items.revision() == revision


async def requests_of_a_purged_tenant(stage: Stage) -> None:
    """A purge leaves no id and no answer of the tenant, and another's stay."""
    few = Requests(stage.keeper, slice_size=2)
    for number in range(5):
        once = Once(f"id{number}", b"digest")
        for tenant in (ACME, "acme2"):
            await stage.items.increment(tenant, "global", "n", 1, once=once)
    await few.purge(ACME)
    assert {place.partition(b"\0")[0] for place in remembered(stage)} == {b"acme2"}
    again = await stage.items.increment("acme2", "global", "n", 1, once=Once("id4", b"digest"))
    assert again.number == 5


def remembered(stage):
    """Keys of all that is remembered; that its index agrees is checked."""
    with stage.keeper.engine.read() as view:
        places = list(view.keys("requests", b""))
        assert sorted(entry[8:] for entry in view.keys("request_times", b"")) == places
    return places


async def resolves(stage: Stage) -> None:
    """The first scope that has an item answers; one that has ended is passed over."""
    scopes = ["agent:a", "workflow:w", "session:s", "global"]
    for scope in reversed(scopes):
        assert (await stage.items.resolve(ACME, scopes, "k")).scope in {"", "global", *scopes}
        await stage.items.set(ACME, scope, "k", text(scope), ttl_ns=None)
        found = await stage.items.resolve(ACME, scopes, "k")
        assert (found.scope, found.item.value) == (scope, text(scope))
    await stage.items.set(ACME, "agent:a", "k", text("x"), ttl_ns=SECOND_NS)
    stage.clock.advance(2)
    assert (await stage.items.resolve(ACME, scopes, "k")).scope == "workflow:w"
    nothing = await stage.items.resolve(GLOBEX, scopes, "k")
    assert (nothing.item, nothing.scope, nothing.revision) == (None, "", 5)


async def decimals(stage: Stage) -> None:
    """Decimals add without loss and stay JSON numbers; zeros at the end stay."""
    for delta, total in (("0.1", "0.1"), ("0.2", "0.3"), ("0.20", "0.50"), ("-0.50", "0.00")):
        counted = await stage.items.increment(ACME, "global", "n", Decimal(delta))
        assert str(counted.number) == total
        assert (await item(stage.items, ACME, "global", "n")).value == json(total)
    await stage.items.set(ACME, "global", "n", json("9007199254740993"))
    counted = await stage.items.increment(ACME, "global", "n", Decimal("0.5"))
    assert counted.number == Decimal("9007199254740993.5")


async def decimals_never_round(stage: Stage) -> None:
    """A sum that would have to be rounded, or leaves the range, is refused; the item stays."""
    for before, delta in (
        ("1e33", "0.1"),
        ("1" * 35, "1"),
        ("9e300", "9e300"),
        ("1e-301", "1"),
        ('"1"', "1"),
        ("true", "1"),
    ):
        await stage.items.set(ACME, "global", "n", json(before))
        with Refused(Reason.VALUE_NOT_NUMBER, key="n"):
            await stage.items.increment(ACME, "global", "n", Decimal(delta))
        assert (await item(stage.items, ACME, "global", "n")).value == json(before)


async def increment_under_a_condition(stage: Stage) -> None:
    """An increment may ask for a revision, and adds nothing where it is another."""
    await stage.items.increment(ACME, "global", "n", 1, precondition=ABSENT)
    await stage.items.increment(ACME, "global", "n", 1, precondition=at(1))
    with Refused(Reason.REVISION_MISMATCH, key="n", revision=2):
        await stage.items.increment(ACME, "global", "n", 1, precondition=at(1))
    assert (await item(stage.items, ACME, "global", "n")).value == json("2")


async def keys_are_normal(stage: Stage) -> None:
    """A key in either of Unicode's forms is one key, in writing, reading, listing and watching."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    await stage.items.set(ACME, "global", apart, text("x"))
    assert (await item(stage.items, ACME, "global", composed)).key == composed
    assert await keys(stage.items, ACME, "global", apart) == [composed]
    await stage.items.batch(ACME, [], [Write("global", composed, text("y"))])
    assert (await item(stage.items, ACME, "global", apart)).value == text("y")
    assert (await stage.items.resolve(ACME, ["global"], apart)).scope == "global"
    await stage.transfers.copy(ACME, here(apart), here(apart, "user:u"), move=True)
    assert await keys(stage.items, ACME, "user:u") == [composed]
    assert (await stage.transfers.clear(ACME, "user:u", prefix=apart)).count == 1


async def keys_have_rules(stage: Stage) -> None:
    """What the rules forbid is refused wherever a key is given, before anything is written."""
    bad = ("a/../b", "..", "a\\b", "a//b", "__a", "$$a", "a\tb", "", "k" * 257)
    for key in bad:
        for call in (
            stage.items.get(ACME, "global", key),
            stage.items.set(ACME, "global", key, text("x")),
            stage.items.batch(ACME, [], [Write("global", key, text("x"))]),
            stage.items.increment(ACME, "global", key, 1),
            stage.transfers.copy(ACME, here("a"), here(key)),
            stage.transfers.copy(ACME, here(key), here("a")),
        ):
            with pytest.raises(ServiceError):
                await call
    for prefix in bad[:-2]:
        with Refused(Reason.FIELD_INVALID, field="prefix"):
            await stage.items.list(ACME, "global", limit=1, prefix=prefix)
    for key in ("_a", "$a", "a__b", "a.b", "a/b", ".a", "a$$"):
        await stage.items.set(ACME, "global", key, text("x"))
    assert await stage.items.revision() == 7


async def large_values_pack(stage: Stage) -> None:
    """Values that lz4 makes smaller read back byte for byte, and fill pages by their real size."""
    value = Value(Encoding.RAW, b"abc" * 349_525)
    for number in range(9):
        await stage.items.set(ACME, "global", f"k{number}", value)
    page = await stage.items.list(ACME, "global", limit=100)
    assert len(page.items) <= 5
    assert {entry.value for entry in page.items} == {value}
    bare = await stage.items.list(ACME, "global", limit=100, keys_only=True)
    assert [entry.value for entry in bare.items] == [None] * 9
    with stage.keeper.engine.read() as view:
        assert sum(len(stored) for _, stored in view.scan("items", b"")) < 100_000


CLAIMS = (
    copies_value_and_end,
    moves,
    copy_of_nothing,
    copy_under_a_condition,
    copies_a_scope,
    moves_a_scope,
    scope_all_or_nothing,
    clears,
    too_many_at_once,
    repeated_write,
    repeated_after_others,
    repeated_at_once,
    id_of_another_write,
    refused_is_not_remembered,
    remembered_for_ten_minutes,
    requests_of_a_purged_tenant,
    resolves,
    decimals,
    decimals_never_round,
    increment_under_a_condition,
    keys_are_normal,
    keys_have_rules,
    large_values_pack,
)
