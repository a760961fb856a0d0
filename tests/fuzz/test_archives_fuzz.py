"""Archives that somebody changed: refused by name, or taken in exactly; never half, never INTERNAL.

The changes are of three kinds: any bytes of the tar, any value in any line (with a manifest that
fits again), and whole lines or files that go, come twice or change places.
"""

import asyncio
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.common.clock import SystemClock
from services.common.errors import Reason, ServiceError
from services.state import areas
from services.state.backup.lines import is_withheld
from services.state.event_reading import Query
from services.state.layout import artifacts as artifacts_layout
from services.state.patterns import Pattern
from services.state.servicers import artifact_messages, migration_messages, session_messages
from services.state.session_model import SessionFilter
from tests.state_world import FullWorld, packed, unpacked

REFUSALS = {Reason.FIELD_INVALID}
HUGE = [2**31, 2**53, 2**62, 2**63, 2**64, -1, 0, 1.5, -0.0]
words = st.text(max_size=8) | st.sampled_from(
    ["session:x", "global", "c1", "a\0b", "..", "\u0301", "active", "*", "a.b", "x" * 300, "AA=="]
)
scalars = st.none() | st.booleans() | st.integers(-3, 300) | st.sampled_from(HUGE) | words
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
numbers = st.integers(0, 10**6)


@cache
def original():
    """An archive with something of everything."""

    async def make():
        with tempfile.TemporaryDirectory() as folder:
            world = FullWorld("memory", Path(folder), clock=SystemClock())
            await world.furnish("a")
            archive = await world.exported("a")
            await world.close()
            return archive

    return asyncio.run(make())


def places_in(value, path=()):
    """Where something stands in a line, at any depth."""
    yield path
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for name, each in inner:
        yield from places_in(each, (*path, name))


def changed_line(text, place, value):
    """A line with another value at one of its places, or without what was there."""
    line = json.loads(text)
    *path, last = list(places_in(line))[1:][place % (len(list(places_in(line))) - 1)]
    target = line
    for name in path:
        target = target[name]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(line).encode()


async def refusal(call):
    """Why it is refused, which is one of few reasons; None where it is not."""
    try:
        await call
    except ServiceError as error:
        return error if error.reason in REFUSALS else pytest.fail(repr(error))
    return None


async def outcome(archive):
    """Import it into an empty tenant: the refusal, or what there is then."""
    with tempfile.TemporaryDirectory() as folder:
        world = FullWorld("memory", Path(folder), clock=SystemClock())
        try:
            error = await refusal(world.taken_in("c", archive))
            if error is not None:
                assert not any(world.state("c").values())
                assert not list(Path(folder).glob("backups/tenants/c/chunks/*/*"))
                assert not list(Path(folder).glob("backups/aside/*"))
                return error, None
            await read_all(world)
            return None, await world.exported("c")
        finally:
            await world.close()


async def read_all(world):
    """Whoever reads what came is answered."""
    page = await world.sessions.list("c", limit=100, wanted=SessionFilter())
    for session in page.sessions:
        session_messages.write_session(session)
        for checkpoint in await world.sessions.list_checkpoints("c", session.session_id):
            session_messages.write_checkpoint(checkpoint)
    await world.events.list(Query("c", Pattern("*")), after=0, limit=100)
    for versions in await world.schemas.list("c", limit=100):
        migration_messages.write_schema(versions)
    for journal in (await world.journals.list("c", after="", limit=100)).journals:
        await world.journals.read("c", journal.session, 1, 100)
    with world.keeper.engine.read() as view:
        for _, stored in view.scan("artifacts", b"c\0"):
            artifact_messages.write_artifact(artifacts_layout.unpack_artifact(stored))


def check(archive):
    """Refused, or what is exported again says the same, line by line."""
    with mock.patch.object(os, "fsync", return_value=None):
        error, again = asyncio.run(outcome(archive))
    if again is None:
        return error
    files, told = unpacked(archive), unpacked(again)
    for records, form in areas.EXPORTED:
        came = [form.read(line) for line in files.get(records.file, b"").splitlines()]
        kept = [form.read(line) for line in told.get(records.file, b"").splitlines()]
        assert [line for line in came if not is_withheld(line)] == kept, records.file
    return None


@given(numbers, numbers, numbers, values | st.just(...))
@example(0, 0, 0, ...)
@settings(max_examples=120)
def test_any_value_in_any_line(file, number, place, value):
    """Whatever stands in a line: refused with file, line and field, or kept as it stands."""
    files = unpacked(original())
    del files["manifest.json"]
    names = [name for name in files if name.endswith(".jsonl")]
    name = names[file % len(names)]
    lines = files[name].splitlines()
    lines[number % len(lines)] = changed_line(lines[number % len(lines)], place, value)
    files[name] = b"".join(line + b"\n" for line in lines)
    error = check(packed(files))
    if error is not None:
        assert error.metadata["file"].endswith((".jsonl", *files))


@given(st.lists(st.tuples(st.sampled_from("dst"), numbers, numbers), min_size=1, max_size=3))
@settings(max_examples=60)
def test_lines_that_go_or_come(steps):
    """Lines and files that are gone, are there twice, or stand elsewhere."""
    files = unpacked(original())
    del files["manifest.json"]
    for what, file, number in steps:
        names = sorted(files)
        name = names[file % len(names)]
        lines = files[name].splitlines(keepends=True) or [b""]
        at = number % len(lines)
        if what == "d":
            del lines[at]
        elif what == "t":
            lines.insert(at, lines[at])
        else:
            lines.append(lines.pop(at))
        files[name] = b"".join(lines)
        if not files[name]:
            del files[name]
        if not files:
            return
    check(packed(files))


@given(st.lists(st.tuples(numbers, st.binary(min_size=1, max_size=4)), min_size=1, max_size=4))
@settings(max_examples=60)
def test_any_bytes_of_the_tar(changes):
    """Bytes written over anywhere, headers and padding included."""
    archive = bytearray(original())
    for place, content in changes:
        at = place % len(archive)
        archive[at : at + len(content)] = content
    check(bytes(archive))


@given(st.binary(max_size=2000))
@settings(max_examples=30)
def test_any_bytes_at_all(content):
    """What is no archive."""
    assert check(content) is not None
