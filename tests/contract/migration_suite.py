"""What migrations promise over every engine. Each function takes a stage of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state.items import Items
from services.state.layout import MIGRATIONS, SCHEMAS, STAGED
from services.state.layout.items import ChangeKind
from services.state.migrations import passes
from services.state.migrations.migrations import Migrations, Order
from services.state.migrations.model import (
    Convert,
    Copy,
    Custom,
    Default,
    Family,
    Field,
    FieldType,
    Merge,
    Migration,
    Remove,
    Rename,
    Schema,
    Split,
    Status,
    Transform,
    Validation,
)
from services.state.migrations.schemas import Schemas
from services.state.model import Encoding, Value
from services.state.step import Keeper, changes_after

ACME, GLOBEX = "acme", "globex"
SCOPE = "custom:orders"
SECOND_NS = 10**9
SECOND = (
    Field("id", FieldType.STRING, required=True),
    Field("total", FieldType.INTEGER, required=True),
    Field("currency", FieldType.STRING, required=True),
)
STEPS = (Rename("amount", "total"), Default("currency", '"EUR"'), Remove("old"))
FIRST = (
    Field("id", FieldType.STRING, required=True),
    Field("amount", FieldType.INTEGER),
    Field("old", FieldType.ANY),
)


@dataclass
class Stage:
    """One store and all that works on it."""

    keeper: Keeper
    items: Items
    schemas: Schemas
    clock: FakeClock
    make: Callable[..., Migrations]
    """Migrations; keywords as those of `Migrations`."""

    async def put(self, key: str, content: object, *, tenant: str = ACME, **kwargs) -> None:
        """Write an item."""
        text = content if isinstance(content, str) else json.dumps(content)
        scope = kwargs.pop("scope", SCOPE)
        value = Value(Encoding.JSON, text.encode())
        await self.items.set(tenant, scope, key, value, **kwargs)

    async def all(self, *, tenant: str = ACME, scope: str = SCOPE) -> dict[str, object]:
        """All items of a scope."""
        page = await self.items.list(tenant, scope, limit=1000)
        return {each.key: json.loads(each.value.content) for each in page.items}

    async def orders(self, count: int, *, tenant: str = ACME) -> None:
        """Items at the first version, and both versions of their schema."""
        for number in range(count):
            content = {"id": f"o{number}", "amount": number, "old": [1]}
            await self.put(f"k{number:03d}", content, tenant=tenant)
        await self.versions(FIRST, SECOND, STEPS, tenant=tenant)

    async def versions(self, first, second, steps, *, tenant: str = ACME, **family) -> None:
        """A schema `orders` with two versions."""
        whose = Family("orders", family.get("pattern", SCOPE), family.get("prefix", ""), "")
        await self.schemas.put(tenant, whose, Schema("1.0.0", tuple(first), (), 0))
        await self.schemas.put(tenant, whose, Schema("1.1.0", tuple(second), tuple(steps), 0))

    async def migrated(self, migrations: Migrations, *, tenant: str = ACME, **order) -> Migration:
        """A migration that has ended."""
        begun = await migrations.start(tenant, Order(schema="orders", **order))
        ended = await migrations.get(tenant, begun.migration_id, wait_s=20)
        assert not ended.running
        return ended

    async def one(self, content: object, *steps: Transform, fields=(), **order) -> Migration:
        """The end of a migration of one item."""
        await self.put("k", content)
        await self.versions((), fields, steps)
        return await self.migrated(self.make(), **order)

    async def forgets_what_was_ready(self) -> None:
        """It goes right after the end is told; a test's own limit ends a wait in vain."""
        while self.count(STAGED):  # noqa: ASYNC110  (there is nothing to be told by)
            await asyncio.sleep(0.01)

    def count(self, database: str) -> int:
        """Entries of a database."""
        with self.keeper.engine.read() as view:
            return view.count(database)


def new(number: int) -> dict[str, object]:
    """An order at the second version."""
    return {"id": f"o{number}", "total": number, "currency": "EUR"}


async def items_get_their_new_form(stage: Stage) -> None:
    """All items of the schema, of one tenant, and nothing beside them."""
    await stage.orders(600)
    await stage.put("k1", {"amount": 1}, scope="custom:other")
    await stage.orders(2, tenant=GLOBEX)
    before = await stage.all(tenant=GLOBEX)
    ended = await stage.migrated(stage.make())
    assert (ended.status, ended.items_done, ended.items_total) == (Status.COMPLETED, 600, 600)
    assert await stage.all() == {f"k{number:03d}": new(number) for number in range(600)}
    assert await stage.all(scope="custom:other") == {"k1": {"amount": 1}}
    assert await stage.all(tenant=GLOBEX) == before
    assert (await stage.schemas.get(ACME, "orders")).family.current == "1.1.0"
    assert (await stage.schemas.get(GLOBEX, "orders")).family.current == "1.0.0"


async def times_stay_and_the_revision_is_new(stage: Stage) -> None:
    """An item keeps its create time and its end; all items have one new revision."""
    await stage.orders(1)
    await stage.put("t", {"id": "t", "amount": 5}, ttl_ns=60 * SECOND_NS)
    old = {each: (await stage.items.get(ACME, SCOPE, each)).item for each in ("k000", "t")}
    stage.clock.advance(5)
    ended = await stage.migrated(stage.make())
    for key, before in old.items():
        after = (await stage.items.get(ACME, SCOPE, key)).item
        assert after.create_time_ns == before.create_time_ns
        assert after.expire_time_ns == before.expire_time_ns
        assert after.update_time_ns == before.update_time_ns + 5 * SECOND_NS
        assert after.revision == ended.revision > before.revision


async def one_unfit_item_stops_all(stage: Stage) -> None:
    """The item, its field and the rule are named, and no item has changed."""
    await stage.orders(300)
    await stage.put("k150", {"id": 7, "amount": 1})
    before = await stage.all()
    for migrations in (stage.make(), stage.make(items_at_once=0)):
        ended = await stage.migrated(migrations)
        assert ended.status is Status.FAILED
        (failure,) = ended.errors
        assert (failure.reason, failure.key, failure.path) == (
            Reason.MIGRATION_INVALID,
            "k150",
            "id",
        )
        assert failure.rule == "must be of type string"
        assert await stage.all() == before
        await stage.forgets_what_was_ready()
    assert (await stage.schemas.get(ACME, "orders")).family.current == "1.0.0"


async def a_large_set_is_made_ready_first(stage: Stage) -> None:
    """In slices too all items get their new form at one revision, and nothing is left over."""
    passes.STAGED_AT_A_TIME = 50
    await stage.orders(220)
    ended = await stage.migrated(stage.make(items_at_once=100))
    assert (ended.status, ended.staged, ended.items_done) == (Status.COMPLETED, True, 220)
    assert await stage.all() == {f"k{number:03d}": new(number) for number in range(220)}
    found = await stage.items.list(ACME, SCOPE, limit=1000)
    assert {each.revision for each in found.items} == {ended.revision}
    await asyncio.sleep(0.05)
    await stage.forgets_what_was_ready()


async def writes_meanwhile_are_not_lost(stage: Stage) -> None:
    """What is written, added, removed or ends while results are made ready, is so afterwards."""
    passes.STAGED_AT_A_TIME = 20
    await stage.orders(100)
    await stage.put("t", {"id": "t", "amount": 5}, ttl_ns=60 * SECOND_NS)
    migrations = stage.make(items_at_once=0)
    begun = await migrations.start(ACME, Order(schema="orders", backup=False))
    while (found := await migrations.get(ACME, begun.migration_id)).items_done < 60:
        assert found.running
        await asyncio.sleep(0)
    await stage.put("k001", {"id": "changed", "amount": 77})
    await stage.items.delete(ACME, SCOPE, "k002")
    await stage.put("k003b", {"id": "added", "amount": 3})
    stage.clock.advance(61)
    ended = await migrations.get(ACME, begun.migration_id, wait_s=20)
    assert ended.status is Status.COMPLETED
    expected = {f"k{number:03d}": new(number) for number in range(100) if number != 2}
    expected["k001"] = {"id": "changed", "total": 77, "currency": "EUR"}
    expected["k003b"] = {"id": "added", "total": 3, "currency": "EUR"}
    assert await stage.all() == expected


async def fields_that_no_schema_knows_stay(stage: Stage) -> None:
    """They are kept, with all their digits, unless validation is strict."""
    text = '{"id":"a","amount":1,"x":0.12345678901234567890123,"y":123456789012345678901234567890}'
    await stage.put("k", text)
    await stage.put("l", {"id": "b", "amount": 2})
    await stage.versions(FIRST, SECOND, STEPS)
    ended = await stage.migrated(stage.make(), validation=Validation.STRICT)
    assert (ended.errors[0].path, ended.errors[0].rule) == ("x", "is not a field of the schema")
    await stage.migrated(stage.make())
    found = (await stage.items.get(ACME, SCOPE, "k")).item.value.content
    assert b'"x":0.12345678901234567890123' in found
    assert b'"y":123456789012345678901234567890' in found


async def transforms_do_what_they_say(stage: Stage) -> None:
    """Copy, rename, convert, default, remove, split and merge, at the top and inside objects."""
    before = {"name": "Ada King Lovelace", "n": "12", "a": {"b": 1.0, "c": "x"}, "p": "q", "r": "s"}
    ended = await stage.one(
        before,
        Split("name", ("first", "rest"), " "),
        Convert("n", FieldType.INTEGER),
        Convert("a.b", FieldType.INTEGER),
        Rename("a.c", "moved.to.here"),
        Merge(("p", "r"), "pr", "-"),
        Copy("n", "again"),
        Default("flag", "false"),
        Remove("a.nothing"),
        Convert("flag", FieldType.STRING),
        Convert("again", FieldType.ARRAY),
    )
    assert ended.errors == ()
    assert await stage.all() == {
        "k": {
            "first": "Ada",
            "rest": "King Lovelace",
            "n": 12,
            "a": {"b": 1},
            "moved": {"to": {"here": "x"}},
            "pr": "q-s",
            "again": [12],
            "flag": "false",
        }
    }


async def several_versions_are_gone_through(stage: Stage) -> None:
    """Each one's transforms are done in order, and each one's defaults are put."""
    await stage.orders(3)
    family = Family("orders", SCOPE, "", "")
    fields = (*SECOND, Field("lines", FieldType.ARRAY, default_json="[]"))
    third = Schema("2.0.0", fields, (Rename("total", "sum"), Rename("sum", "total")), 0)
    await stage.schemas.put(ACME, family, third)
    plan = await stage.make().plan(ACME, Order(schema="orders"), samples=1)
    assert (plan.from_version, plan.versions, plan.items) == ("1.0.0", ("1.1.0", "2.0.0"), 3)
    assert json.loads(plan.samples[0].after) == new(0) | {"lines": []}
    ended = await stage.migrated(stage.make(), validation=Validation.STRICT)
    assert ended.status is Status.COMPLETED
    assert (await stage.all())["k002"] == new(2) | {"lines": []}


async def a_trial_changes_nothing(stage: Stage) -> None:
    """It looks at every item, tells what a migration would, and leaves all as it is."""
    await stage.orders(30)
    before = await stage.all()
    ended = await stage.migrated(stage.make(), dry_run=True)
    assert (ended.status, ended.items_done, ended.revision) == (Status.COMPLETED, 30, 0)
    assert await stage.all() == before
    assert (await stage.schemas.get(ACME, "orders")).family.current == "1.0.0"
    await stage.put("k010", "[]")
    ended = await stage.migrated(stage.make(), dry_run=True)
    assert (ended.status, ended.errors[0].key) == (Status.FAILED, "k010")


async def what_is_cancelled_leaves_no_trace(stage: Stage) -> None:
    """A migration that is cancelled while it makes results ready changes no item."""
    passes.STAGED_AT_A_TIME = 5
    await stage.orders(100)
    before = await stage.all()
    migrations = stage.make(items_at_once=0)
    begun = await migrations.start(ACME, Order(schema="orders"))
    with pytest.raises(ServiceError) as info:
        await migrations.start(ACME, Order(schema="orders"))
    assert info.value.reason == Reason.MIGRATION_RUNNING
    ended = await migrations.cancel(ACME, begun.migration_id)
    assert ended.status is Status.ROLLED_BACK
    await asyncio.sleep(0.2)
    assert await stage.all() == before
    await stage.forgets_what_was_ready()
    assert (await migrations.cancel(ACME, begun.migration_id)) == ended


async def one_that_was_cut_off_goes_on(stage: Stage) -> None:
    """After a stop in the middle the next start ends it, and counts no item twice."""
    passes.STAGED_AT_A_TIME = 10
    await stage.orders(100)
    first = stage.make(items_at_once=0)
    begun = await first.start(ACME, Order(schema="orders", backup=False))
    while (found := await first.get(ACME, begun.migration_id)).items_done < 30:
        assert found.running
        await asyncio.sleep(0)
    await first.close()
    assert (await stage.all())["k000"] == {"id": "o0", "amount": 0, "old": [1]}
    second = stage.make(items_at_once=0)
    second.resume()
    ended = await second.get(ACME, begun.migration_id, wait_s=20)
    assert (ended.status, ended.items_done) == (Status.COMPLETED, 100)
    assert await stage.all() == {f"k{number:03d}": new(number) for number in range(100)}


async def a_backup_comes_first(stage: Stage) -> None:
    """It is made before anything changes, and named; where it fails, nothing is changed."""
    await stage.orders(2)
    seen = []

    async def backup(tenant: str) -> str:
        seen.append((tenant, (await stage.all())["k000"]))
        return "b1"

    async def fails(tenant: str) -> str:
        raise ServiceError(Reason.STORAGE_FULL, "The disk is full; nothing was written.")

    ended = await stage.migrated(stage.make(backup=fails))
    assert (ended.status, ended.errors[0].reason) == (Status.FAILED, Reason.STORAGE_FULL)
    assert (await stage.migrated(stage.make(backup=backup))).backup_id == "b1"
    assert seen == [(ACME, {"id": "o0", "amount": 0, "old": [1]})]
    again = await stage.make().start(ACME, Order(schema="orders"))
    assert (again.migration_id, again.status) == ("", Status.COMPLETED)


async def watchers_are_told_once_a_scope(stage: Stage) -> None:
    """One record for each scope, all of one revision, says that its items have another form."""
    for scope in ("session:a", "session:b"):
        await stage.put("x1", {"id": "1"}, scope=scope)
        await stage.put("y1", {"id": "1"}, scope=scope)
    steps = [Default("new", "1")]
    await stage.versions((), (), steps, pattern="session:*", prefix="x")
    ended = await stage.migrated(stage.make())
    with stage.keeper.engine.read() as view:
        told = [each for each in changes_after(view, ACME, 0) if each.kind is ChangeKind.MIGRATED]
    assert [(each.scope, each.key, each.revision) for each in told] == [
        ("session:a", "x", ended.revision),
        ("session:b", "x", ended.revision),
    ]
    assert await stage.all(scope="session:a") == {"x1": {"id": "1", "new": 1}, "y1": {"id": "1"}}


async def what_no_transform_may_do(stage: Stage) -> None:
    """A target that is there, a value without counterpart, text that is none: each has its rule."""
    rules = {
        "is there already": (Rename("a", "b"),),
        "has a string, of which no integer can be made": (Convert("a", FieldType.INTEGER),),
        "must be an object": (Default("a.x", "1"),),
        "must be text to be split": (Split("n", ("x", "y"), ","),),
    }
    await stage.put("k", {"a": "x1", "b": 2, "n": 3})
    family = Family("orders", SCOPE, "", "")
    await stage.schemas.put(ACME, family, Schema("1.0.0", (), (), 0))
    for rule, steps in rules.items():
        await stage.schemas.put(ACME, family, Schema("1.1.0", (), steps, 0))
        ended = await stage.migrated(stage.make())
        assert ended.errors[0].rule == rule
    await stage.items.set(ACME, SCOPE, "k", Value(Encoding.TEXT, b"{}"))
    ended = await stage.migrated(stage.make())
    assert ended.errors[0].rule == "must be a JSON object"


async def custom_transforms_need_a_runner(stage: Stage) -> None:
    """Without one they are refused by name; with one their result is taken and checked."""
    lua = Custom("double", "return function(item) item.n = item.n * 2 return item end")

    def runner(name: str, source: str, document: bytes) -> bytes:
        return json.dumps({"n": json.loads(document)["n"] * 2}).encode()

    await stage.put("k", {"n": 4})
    await stage.versions((), (), (lua,))
    with pytest.raises(ServiceError) as info:
        await stage.make().start(ACME, Order(schema="orders"))
    assert info.value.reason == Reason.NOT_IMPLEMENTED
    assert info.value.metadata["transform"] == "double"
    await stage.migrated(stage.make(custom=runner))
    assert await stage.all() == {"k": {"n": 8}}


async def what_is_not_there_is_said(stage: Stage) -> None:
    """Schemas, versions and migrations that are not there, for one tenant or the other."""
    await stage.orders(1)
    migrations = stage.make()
    begun = await migrations.start(ACME, Order(schema="orders"))
    await migrations.get(ACME, begun.migration_id, wait_s=20)
    calls: list[tuple[Awaitable[object], Reason]] = [
        (migrations.get(GLOBEX, begun.migration_id), Reason.MIGRATION_NOT_FOUND),
        (migrations.cancel(GLOBEX, begun.migration_id), Reason.MIGRATION_NOT_FOUND),
        (migrations.start(GLOBEX, Order(schema="orders")), Reason.SCHEMA_NOT_FOUND),
        (
            migrations.plan(ACME, Order(schema="orders", to_version="9.0.0")),
            Reason.SCHEMA_NOT_FOUND,
        ),
        (migrations.start(ACME, Order(schema="orders", to_version="1.0.0")), Reason.FIELD_INVALID),
        (stage.schemas.get(GLOBEX, "orders"), Reason.SCHEMA_NOT_FOUND),
    ]
    for call, reason in calls:
        with pytest.raises(ServiceError) as info:
            await call
        assert info.value.reason == reason
    assert await migrations.list(GLOBEX, limit=10) == []
    assert [each.migration_id for each in await migrations.list(ACME, limit=10)] == [
        begun.migration_id
    ]


async def schemas_refuse_what_makes_no_sense(stage: Stage) -> None:
    """Overlapping schemas, versions out of order, changed current ones, senseless transforms."""
    await stage.orders(0)
    family = Family("orders", SCOPE, "", "")

    async def refused(whose: Family, schema: Schema, reason: Reason) -> None:
        with pytest.raises(ServiceError) as info:
            await stage.schemas.put(ACME, whose, schema)
        assert info.value.reason == reason

    other = Family("other", "custom:*", "k", "")
    await refused(other, Schema("1.0.0", (), (), 0), Reason.FIELD_INVALID)
    await refused(family, Schema("1.0.5", (), (), 0), Reason.FIELD_INVALID)
    await refused(family, Schema("1.x", (), (), 0), Reason.FIELD_INVALID)
    senseless = (Rename("a", "a"), Split("a", ("b",), ","), Default("a", "{"), Remove("a..b"))
    for transform in senseless:
        await refused(family, Schema("2.0.0", (), (transform,), 0), Reason.TRANSFORM_INVALID)
    await stage.migrated(stage.make())
    await refused(family, Schema("1.1.0", (), (), 0), Reason.FIELD_INVALID)
    with pytest.raises(ServiceError):
        await stage.schemas.delete(ACME, "orders", "1.1.0")
    assert await stage.schemas.delete(ACME, "orders", "1.0.0") == 1
    assert await stage.schemas.delete(ACME, "orders") == 1
    assert await stage.schemas.list(ACME, limit=10) == []


async def a_purge_takes_all_of_one_tenant(stage: Stage) -> None:
    """Its schemas and migrations are gone, one that runs ends; another tenant's stay."""
    passes.STAGED_AT_A_TIME = 5
    await stage.orders(100)
    await stage.orders(1, tenant=GLOBEX)
    migrations = stage.make(items_at_once=0)
    await migrations.start(ACME, Order(schema="orders"))
    await migrations.purge(ACME)
    await asyncio.sleep(0.2)
    assert (stage.count(MIGRATIONS), stage.count(STAGED), stage.count(SCHEMAS)) == (0, 0, 3)


CLAIMS = (
    items_get_their_new_form,
    times_stay_and_the_revision_is_new,
    one_unfit_item_stops_all,
    a_large_set_is_made_ready_first,
    writes_meanwhile_are_not_lost,
    fields_that_no_schema_knows_stay,
    transforms_do_what_they_say,
    several_versions_are_gone_through,
    a_trial_changes_nothing,
    what_is_cancelled_leaves_no_trace,
    one_that_was_cut_off_goes_on,
    a_backup_comes_first,
    watchers_are_told_once_a_scope,
    what_no_transform_may_do,
    custom_transforms_need_a_runner,
    what_is_not_there_is_said,
    schemas_refuse_what_makes_no_sense,
    a_purge_takes_all_of_one_tenant,
)
