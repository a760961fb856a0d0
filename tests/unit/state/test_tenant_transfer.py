"""Exports and imports of a tenant: the same state, the same bytes; all or nothing."""

import asyncio
import io
import json
import tarfile

import msgspec
import pytest
from blake3 import blake3

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state.backup.transfer import Transfer
from services.state.model import Encoding, Value
from tests.contract.backup_suite import SCOPE, World
from tests.state_engines import embedded_keeper, memory_keeper
from tests.state_world import contents, fill


@pytest.fixture(params=["embedded", "memory"])
async def world(request, tmp_path):
    clock = FakeClock()
    embedded = request.param == "embedded"
    keeper = embedded_keeper(tmp_path / "state", clock) if embedded else memory_keeper(clock)
    world = World(keeper, clock, tmp_path / "backups")
    await world.put("a", "raw", b"\0\xff")
    await world.put("a", "ends", b"1", ttl_ns=10**15)
    await world.items.set("a", "global", "json", Value(Encoding.JSON, b'{"a": [1,  2.50]}'))
    await world.items.set("a", "user:e", "téxt", Value(Encoding.TEXT, "ü\n".encode()))
    await world.put("b", "other")
    yield world
    await world.backups.close()
    await world.items.close()


async def exported(world, tenant, **options):
    transfer = Transfer(world.backups)
    with transfer.aside() as path:
        await transfer.export_tenant(tenant, path, **options)
        return contents(path)


async def taken_in(world, tenant, archive, *, replace=False, dry_run=False):
    transfer = Transfer(world.backups)
    with transfer.aside() as path:
        fill(path, archive)
        return await transfer.import_tenant(tenant, path, replace=replace, dry_run=dry_run)


def packed(files):
    """A tar of these files, with a manifest that fits unless one is given."""
    manifest = {
        "format": 1,
        "tenant": "a",
        "files": [
            {"name": name, "lines": content.count(b"\n"), "blake3": blake3(content).hexdigest()}
            for name, content in files.items()
            if name != "manifest.json"
        ],
    }
    files = {"manifest.json": json.dumps(manifest).encode()} | files
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


async def test_a_round_trip_is_byte_for_byte(world):
    """An export into another tenant is the same records; its export has the same lines."""
    first = await exported(world, "a")
    assert await exported(world, "a") == first
    done = await taken_in(world, "c", first)
    assert sum(delta.added for delta in done.tenants[0].databases) == 4
    strip = {
        name: {key.replace(b"c\0", b"a\0"): value for key, value in found.items()}
        for name, found in world.state("c").items()
    }
    assert strip == world.state("a")
    assert (await exported(world, "c")).replace(b'"tenant": "c"', b'"tenant": "a"') == first
    assert len(world.state("b")["items"]) == 1


async def test_a_restored_backup_exports_the_same(world):
    """What a backup brings back is what it was, byte for byte by export."""
    first = await exported(world, "a")
    made = await world.backups.create("a")
    await world.put("a", "new")
    await world.items.delete("a", SCOPE, "raw")
    assert await exported(world, "a") != first
    await world.backups.restore("a", made.backup_id, any_tenant=False)
    assert await exported(world, "a") == first


async def test_what_is_there_is_kept_unless_replaced(world):
    """A tenant with data refuses an import; replaced, it can be had back."""
    archive = await exported(world, "a")
    before = world.state("b")
    error = await world.refusal(taken_in(world, "b", archive))
    assert error.reason == Reason.TENANT_NOT_EMPTY
    told = await taken_in(world, "b", archive, replace=True, dry_run=True)
    assert world.state("b") == before
    done = await taken_in(world, "b", archive, replace=True)
    assert done.tenants == told.tenants
    assert len(world.state("b")["items"]) == 4
    await world.backups.restore("b", done.safety_backup_id, any_tenant=False)
    assert world.state("b") == before


async def test_what_comes_meanwhile_is_not_lost(world):
    """A tenant that has data by the time that all lines were checked refuses the import too."""
    archive = await exported(world, "a")
    transfer = Transfer(world.backups)
    taken_in_thread = transfer._taken_in

    def late(*arguments):
        manifest = taken_in_thread(*arguments)
        asyncio.run_coroutine_threadsafe(world.put("c", "mine"), loop).result()
        return manifest

    loop = asyncio.get_running_loop()
    transfer._taken_in = late
    with transfer.aside() as path:
        fill(path, archive)
        call = transfer.import_tenant("c", path, replace=False, dry_run=False)
        assert (await world.refusal(call)).reason == Reason.TENANT_NOT_EMPTY
    assert len(world.state("c")["items"]) == 1
    await world.put("c", "more")
    assert not list(world.root.glob("tenants/c/chunks/*/*"))


async def test_revisions_go_on_from_the_highest(world):
    """An item that came with revision 900 is older than the next write."""
    line = {"scope": "global", "key": "k", "revision": 900, "text": "x"}
    times = {"create_time_ns": 1, "update_time_ns": 1}
    content = msgspec.json.encode(line | times) + b"\n"
    done = await taken_in(world, "c", packed({"items.jsonl": content}))
    assert done.revision > 900
    found = await world.items.get("c", "global", "k")
    assert found.item.revision == 900


GOOD = {"scope": "global", "key": "k", "revision": 1, "create_time_ns": 1, "update_time_ns": 1}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"json": "{"}, "must be JSON"),
        ({}, "json must be there, or text or raw"),
        ({"json": "1", "text": "1"}, "one of them only"),
        ({"text": 1}, "text"),
        ({"text": "x", "colour": "red"}, "colour"),
        ({"text": "x", "scope": "nowhere:"}, "scope"),
        ({"text": "x", "key": ""}, "key"),
        ({"text": "x", "key": "a\0b"}, "key"),
        ({"text": "x", "revision": 0}, "revision"),
        ({"text": "x", "expire_time_ns": -1}, "expire_time_ns"),
        ({"text": "x" * (1024**2 + 1)}, "value"),
        ({"raw": "not base64!"}, "raw"),
    ],
)
async def test_a_bad_line_is_named(world, changes, why):
    """File, line and rule are told; nothing of the archive is there."""
    good = msgspec.json.encode(GOOD | {"key": "a", "text": "x"})
    archive = packed({"items.jsonl": good + b"\n" + msgspec.json.encode(GOOD | changes) + b"\n"})
    error = await world.refusal(taken_in(world, "c", archive))
    assert error.reason == Reason.FIELD_INVALID
    assert (error.metadata["file"], error.metadata["line"]) == ("items.jsonl", "2")
    assert error.metadata["field"].startswith("items.jsonl line 2")
    assert why in error.message
    assert world.state("c")["items"] == {}


NAMED = b'{"format":%d,"tenant":"","files":[]}'


def line(**changes):
    return msgspec.json.encode(GOOD | {"text": "x"} | changes) + b"\n"


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ({"items.jsonl": line(key="b") + line(key="a")}, "items.jsonl line 2"),
        ({"items.jsonl": line() + line()}, "items.jsonl line 2"),
        ({"items.jsonl": b"nonsense\n"}, "items.jsonl line 1"),
        ({"items.jsonl": b"\xff\n"}, "items.jsonl line 1"),
        ({"items.jsonl": line(), "manifest.json": b"{}"}, "manifest.json"),
        ({"../etc/passwd": b"x"}, "archive: '../etc/passwd'"),
        ({"items.jsonl": line(), "manifest.json": NAMED % 9}, "manifest.json"),
        ({"items.jsonl": line(), "manifest.json": NAMED % 1}, "archive: items.jsonl"),
    ],
)
async def test_a_bad_archive_is_named(world, files, field):
    """What does not belong, is out of order or has another digest is refused whole."""
    error = await world.refusal(taken_in(world, "c", packed(files)))
    assert (error.reason, error.metadata["field"]) == (Reason.FIELD_INVALID, field)
    assert world.state("c")["items"] == {}


async def test_an_archive_that_was_changed_or_cut(world):
    """A line that is missing, and an end that is, wherever it was cut."""
    archive = await exported(world, "a")
    end = len(archive.rstrip(b"\0"))  # what follows is padding
    for length in [0, 100, 600, end // 3, end // 2, end - 1]:
        with pytest.raises(ServiceError) as info:
            await taken_in(world, "c", archive[:length])
        assert info.value.reason == Reason.FIELD_INVALID
    changed = archive.replace(b'"raw":"AP8="', b'"raw":"AP4="')
    assert changed != archive
    assert "manifest.json" in (await world.refusal(taken_in(world, "c", changed))).message
    assert world.state("c")["items"] == {}


async def test_sensitive_values_leave_on_request_only(world):
    """Without the flag an export has no word of them, and its import leaves them out."""
    secret = Value(Encoding.TEXT, b"the kettle", is_sensitive=True)
    await world.items.set("a", "global", "hidden", secret)
    await world.items.set("a", "global", "json", Value(Encoding.JSON, b"2"))
    withheld = await exported(world, "a")
    assert b"kettle" not in withheld
    assert b"hidden" in withheld
    await taken_in(world, "c", withheld)
    assert (await world.items.get("c", "global", "hidden")).item is None
    clear = await exported(world, "a", in_clear=True)
    assert b"kettle" in clear
    await taken_in(world, "c", clear, replace=True)
    found = await world.items.get("c", "global", "hidden")
    assert found.item.value == secret
