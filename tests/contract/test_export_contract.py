"""Exports of all that a tenant has, and imports of them, over every engine; two tenants."""

import json

import pytest
from blake3 import blake3

from services.common.errors import Reason
from services.state.artifact_model import Choice
from services.state.engine import ENGINES
from services.state.event_model import NewEvent
from services.state.journal_model import Entry
from services.state.migrations.model import Custom, Family, Schema
from services.state.model import Encoding, Value
from services.state.session_model import NewSession
from services.state.session_step import SessionStep
from tests.state_world import BYTES, FullWorld, packed, unpacked


def named(name):
    """An artifact by its name."""
    return Choice(scope="session:one", name=name)


SECRET = "sk-abcdefghijklmnopqrstuvwxyz012345"


@pytest.fixture(params=sorted(ENGINES))
async def world(request, tmp_path):
    world = FullWorld(request.param, tmp_path)
    await world.furnish("a")
    await world.furnish("b")
    yield world
    await world.close()


@pytest.fixture
async def bare(tmp_path):
    world = FullWorld("memory", tmp_path)
    yield world
    await world.close()


def as_of(state, tenant, other):
    """What a tenant has, as if it were another one's."""
    old, new = f"{tenant}\0".encode(), f"{other}\0".encode()
    return {
        name: {key.replace(old, new): value for key, value in found.items()}
        for name, found in state.items()
    }


async def test_all_of_a_tenant_comes_back(world):
    """Each record and index entry of each area is what it was, byte for byte; so are the blobs."""
    archive = await world.exported("a")
    assert await world.exported("a") == archive
    other = world.state("b")
    await world.taken_in("c", archive)
    assert as_of(world.state("c"), "c", "a") == world.state("a")
    again = await world.exported("c")
    assert again.replace(b'"tenant": "c"', b'"tenant": "a"') == archive
    for name, expected in (("large", BYTES), ("again", BYTES), ("many", b"three")):
        read = world.artifacts.read("c", named(name))
        assert b"".join([piece async for _, piece in read]) == expected
    assert world.state("b") == other


async def test_what_came_goes_on(world):
    """Versions, sequences, calls, checkpoints and events of an import go on where they were."""
    await world.taken_in("c", await world.exported("a"))
    for tenant in ("a", "c"):
        await world.store(tenant, "many", b"four")
        await world.sessions.create_checkpoint(tenant, "one", "more")
        await world.journals.append(tenant, "one", [Entry(3, "m", b"", b"", "", "", 1, 1, "")])
    stored = [await world.artifacts.get(tenant, named("many")) for tenant in ("a", "c")]
    assert (stored[0].version, stored[0].sequence) == (stored[1].version, stored[1].sequence)
    stats = [await world.events.stats(tenant) for tenant in ("a", "c")]
    assert (stats[0].kept, stats[0].kept_bytes, stats[0].published) == (
        stats[1].kept, stats[1].kept_bytes, stats[1].published
    )  # fmt: skip
    restored = await world.sessions.restore_checkpoint("c", "one", "c1", keep_present=False)
    assert restored.changed_count > 0
    read = world.artifacts.read("c", named("old"))
    assert b"".join([piece async for _, piece in read]) == b"only a checkpoint has it"
    found = await world.items.get("c", "session:one", "step")
    assert found.item.value.content == "ü".encode()


async def test_bytes_are_stored_once_and_go_with_the_last(world):
    """What two artifacts share is one file in the archive and one blob; it goes with the second."""
    archive = await world.exported("a")
    digest = blake3(BYTES)
    assert sum(name.startswith("blobs/") for name in unpacked(archive)) == 6
    await world.taken_in("c", archive)
    collector = world.artifacts.collector
    blobs = collector.blobs
    for name in ("large", "again"):
        blobs.open("c", digest.digest()).close()
        await world.artifacts.delete("c", named(name), all_versions=True)
        while await world.artifacts.sweep():
            pass
    with pytest.raises(FileNotFoundError):
        blobs.open("c", digest.digest())
    blobs.open("a", digest.digest()).close()


async def furnish_secrets(world, tenant):
    """Secrets by mark, by name and by form, in each area."""
    marked = Value(Encoding.TEXT, b"the kettle", is_sensitive=True)
    await world.items.set(tenant, "session:s", "marked", marked)
    await world.items.set(tenant, "session:s", "api_key", Value(Encoding.TEXT, b"the kettle"))
    document = Value(Encoding.JSON, b'{"user": "ann", "password": "the kettle"}')
    await world.items.set(tenant, "session:s", "document", document)
    await world.items.set(tenant, "session:s", "plain", Value(Encoding.JSON, b"1"))
    new = NewSession(session_id="s", description=f"with {SECRET}", metadata={"token": "the kettle"})
    await world.sessions.create(tenant, new)
    await world.sessions.create_checkpoint(tenant, "s", f"after {SECRET}")
    await world.events.publish(tenant, [NewEvent("x", f'{{"note": "{SECRET}"}}', f"c {SECRET}")])
    calls = [
        Entry(1, "m", b"fine", b"fine", "", "", 1, 2, ""),
        Entry(2, "m", f"\x0a\x04{SECRET}".encode(), b"", "", "", 3, 4, ""),
    ]
    await world.journals.append(tenant, "s", calls)
    await world.store(tenant, "n", b"x", description=SECRET, metadata={"pwd": "the kettle"})
    family = Family("calls", "custom:calls", "", "")
    await world.schemas.put(tenant, family, Schema("1.0.0", (), (), 0))
    script = f"api_key = '{SECRET}'"
    await world.schemas.put(tenant, family, Schema("1.1.0", (), (Custom("f", script),), 0))


async def test_no_secret_leaves_unasked(world):
    """Marked values and what looks like a credential: in no line of any area, unless asked for."""
    await furnish_secrets(world, "a")
    for name, content in unpacked(await world.exported("a", in_clear=False)).items():
        assert SECRET.encode() not in content, name
        assert b"the kettle" not in content, name
    files = unpacked(await world.exported("a", in_clear=True))
    for area in ("items", "checkpoint_items", "sessions", "artifacts"):
        assert b"the kettle" in files[f"{area}.jsonl"]
    for area in ("sessions", "checkpoints", "artifacts", "schemas"):
        assert SECRET.encode() in files[f"{area}.jsonl"]


async def test_an_export_without_secrets_is_taken_in(world):
    """Items, journals and schemas of which something is missing stay out, all else comes."""
    await furnish_secrets(world, "a")
    await world.taken_in("c", await world.exported("a", in_clear=False))
    there = {
        (scope, key)
        for scope, key in [("session:s", each) for each in ("marked", "api_key", "document")]
        if (await world.items.get("c", scope, key)).item is not None
    }
    assert not there
    assert (await world.items.get("c", "session:s", "plain")).item is not None
    session, _ = await world.sessions.get("c", "s")
    assert session.metadata == {"token": "[REDACTED]"}
    assert (await world.journals.get("c", "s")).count == 0
    assert (await world.journals.get("c", "one")).count == 2
    assert [each.family.name for each in await world.schemas.list("c", limit=9)] == ["orders"]
    await world.sessions.restore_checkpoint("c", "s", "c1", keep_present=False)


async def test_what_is_being_erased_stays_out(world):
    """Of a session that was deleted, and is not erased yet, nothing is in an export."""
    await world.keeper.step(lambda step: SessionStep(step, "a").delete("one"))
    files = unpacked(await world.exported("a"))
    for name, content in files.items():
        assert b'"session:one"' not in content, name
        assert b'"session_id":"one"' not in content, name
    assert not any(name.startswith("checkpoint") for name in files)
    await world.taken_in("c", packed({k: v for k, v in files.items() if k != "manifest.json"}))


DIGEST = blake3(b"one").hexdigest()


@pytest.mark.parametrize(
    ("change", "file", "why"),
    [
        (lambda files: files.pop(f"blobs/{DIGEST}"), "artifacts.jsonl", "has no bytes"),
        (
            lambda files: files.update({f"blobs/{DIGEST}": b"ono"}),
            f"blobs/{DIGEST}",
            "other bytes",
        ),
        (
            lambda files: files.update({f"blobs/{DIGEST}": b"longer"}),
            "artifacts.jsonl",
            "size_bytes",
        ),
        (
            lambda files: files.update({f"blobs/{blake3(b'x').hexdigest()}": b"x"}),
            f"blobs/{blake3(b'x').hexdigest()}",
            "no artifact names",
        ),
        (lambda files: files.update({f"blobs/{DIGEST[:-1]}": b"x"}), "archive", "no file"),
        (lambda files: files.pop("artifact_names.jsonl"), "artifacts.jsonl", "has no line"),
        (lambda files: files.pop("artifact_scopes.jsonl"), "artifacts.jsonl", "has no line"),
        (lambda files: files.pop("checkpoints.jsonl"), "sessions.jsonl", "checkpoint_count"),
        (lambda files: files.pop("checkpoint_items.jsonl"), "checkpoints.jsonl", "item_count"),
        (lambda files: files.pop("checkpoint_artifacts.jsonl"), "checkpoints.jsonl", "artifact_co"),
        (lambda files: files.pop("sessions.jsonl"), "checkpoints.jsonl", "no session"),
        (lambda files: files.pop("event_logs.jsonl"), "event_logs.jsonl", "must have a line"),
    ],
)
async def test_lines_must_go_together(bare, change, file, why):
    """What names something that is not there, or is named by nothing, refuses the whole archive."""
    await bare.furnish("a")
    files = unpacked(await bare.exported("a"))
    del files["manifest.json"]
    change(files)
    error = await bare.refusal(bare.taken_in("c", packed(files)))
    assert error.reason == Reason.FIELD_INVALID
    assert error.metadata["field"].startswith(file)
    assert why in error.message
    assert not any(bare.state("c").values())
    assert not list(bare.root.glob("tenants/c/chunks/*/*"))


FIELD = {"path": "p", "type": "any"}
VERSION = {"version": "1.0.0", "fields": [], "transforms": [], "create_time_ns": 1}
GOOD = {
    "sessions": {"session_id": "s", "status": "active", "create_time_ns": 1, "update_time_ns": 1}
    | {"timeout_ns": 0, "retention_ns": 0, "auto_save_ns": 0, "revision": 5},
    "events": {"revision": 3, "time_ns": 1, "end_ns": 2, "published_before": 0}
    | {"events": [{"type": "a.b", "json": "1"}]},
    "journal": {"session_id": "s", "sequence": 1, "method": "m", "request": "", "answer": ""}
    | {"start_time_ns": 1, "end_time_ns": 2},
    "schemas": {"name": "n", "schema": {"scope_pattern": "global", "key_prefix": ""}}
    | {"schema": {"scope_pattern": "global", "key_prefix": "", "current": "1.0.0"}},
    "artifacts": {"scope": "global", "name": "n", "version": 1, "sequence": 1, "digest": DIGEST}
    | {"size_bytes": 3, "stored_bytes": 3, "create_time_ns": 1, "revision": 1},
    "checkpoints": {"session_id": "s", "checkpoint_id": "c1", "name": "", "create_time_ns": 1}
    | {"revision": 1, "item_count": 0, "size_bytes": 0},
    "event_logs": {"compacted_sequence": 0, "published": 1},
}


@pytest.mark.parametrize(
    ("area", "changes", "field"),
    [
        ("sessions", {"session_id": "../x"}, "session_id"),
        ("sessions", {"status": "asleep"}, "status"),
        ("sessions", {"status": "completed"}, "end_time_ns"),
        ("sessions", {"end_time_ns": 5}, "end_time_ns"),
        ("sessions", {"expire_time_ns": 5}, "expire_time_ns"),
        ("sessions", {"delete_time_ns": 5}, "delete_time_ns"),
        ("sessions", {"auto_save_time_ns": 5}, "auto_save_time_ns"),
        ("sessions", {"tags": ["a", "a"]}, "tags"),
        ("sessions", {"tags": ["x" * 129]}, "tags[0]"),
        ("sessions", {"name": "x" * 257}, "name"),
        ("sessions", {"metadata": {"x": "y" * 20_000}}, "metadata"),
        ("sessions", {"metadata_msgpack": "xw=="}, "metadata_msgpack"),
        ("sessions", {"revision": 2**42 + 1}, "revision"),
        ("sessions", {"timeout_ns": -1}, "timeout_ns"),
        ("sessions", {"create_time_ns": 2**63}, "create_time_ns"),
        ("sessions", {"checkpoint_count": 1}, "checkpoint_count"),
        ("events", {"events": []}, "events"),
        ("events", {"events": [{"type": "a b", "json": "1"}]}, "events[0].type"),
        ("events", {"events": [{"type": "state.set", "json": "1"}]}, "events[0].type"),
        ("events", {"events": [{"type": "a", "json": "{"}]}, "events[0].json"),
        ("events", {"end_ns": 0}, "end_ns"),
        ("journal", {"sequence": 2}, "sequence"),
        ("journal", {"answer": None}, "answer"),
        ("journal", {"failure_reason": "X"}, "answer"),
        ("journal", {"method": ""}, "method"),
        ("journal", {"end_time_ns": 0}, "end_time"),
        ("journal", {"request": None}, "request"),
        ("schemas", {"name": "a/b"}, "name"),
        ("schemas", {}, "current"),
        ("schemas", {"schema": None, "version": VERSION | {"version": "1"}}, "version"),
        (
            "schemas",
            {"schema": None, "version": VERSION | {"fields": [FIELD | {"colour": "red"}]}},
            "version.fields.0.colour",
        ),
        ("artifacts", {"digest": "abc"}, "digest"),
        ("artifacts", {}, "digest"),
        ("artifacts", {"name": "a\u0301"}, "name"),
        ("artifacts", {"version": 0}, "version"),
        ("artifacts", {"scope": ""}, "scope"),
        ("checkpoints", {}, "session_id"),
        ("event_logs", {"published": -1}, "published"),
        ("event_logs", {"compacted_sequence": 2**63}, "compacted_sequence"),
    ],
)
async def test_a_bad_line_of_any_area_is_named(bare, area, changes, field):
    """File, line and field are told, and nothing is written."""
    line = json.dumps(GOOD[area] | changes).encode() + b"\n"
    error = await bare.refusal(bare.taken_in("c", packed({f"{area}.jsonl": line})))
    assert error.reason == Reason.FIELD_INVALID
    told = (error.metadata["file"], error.metadata["line"], error.metadata["line_field"])
    assert told == (f"{area}.jsonl", "1", field)
    assert not any(bare.state("c").values())


@pytest.mark.parametrize("checkpoint_id", ["c2", "c0", "c01", "mine"])
async def test_a_checkpoint_that_the_session_never_made(bare, checkpoint_id):
    """The next one would take its id."""
    session = GOOD["sessions"] | {"checkpoint_count": 1, "checkpoints_made": 1}
    checkpoint = GOOD["checkpoints"] | {"checkpoint_id": checkpoint_id}
    lines = {"sessions.jsonl": session, "checkpoints.jsonl": checkpoint}
    archive = packed({name: json.dumps(line).encode() + b"\n" for name, line in lines.items()})
    error = await bare.refusal(bare.taken_in("c", archive))
    assert error.metadata["line_field"] == "checkpoint_id"
    assert not any(bare.state("c").values())


async def test_the_older_format(world):
    """Items of an archive of format 1 are taken in; its other files are refused in words."""
    files = unpacked(await world.exported("a"))
    old = packed({"items.jsonl": files["items.jsonl"]}, version=1)
    await world.taken_in("c", old)
    assert len(world.state("c")["items"]) == len(world.state("a")["items"])
    error = await world.refusal(
        world.taken_in("d", packed({"sessions.jsonl": b'{"key":"","value":""}\n'}, version=1))
    )
    assert "format 1" in error.message
