"""file-watcher: real changes by another tool, and what it refuses."""

import asyncio

import pytest
import pytest_asyncio

from services.common.errors import Reason
from tests.unit.runtime.tooling import caller, open_toolbox, put, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watch(tmp_path_factory):
    """Watches while files are written, again and again until the watch has ended."""
    place = tmp_path_factory.mktemp("tenants")
    put(place, "in/kept.txt", b"x")
    put(place, "out.txt", b"x")
    async with open_toolbox(place) as toolbox:

        async def execute(*writes, tenant="acme", **arguments):
            asked = {"operation": "watch", "timeout_ms": 8000, **arguments}
            watching = asyncio.create_task(toolbox.execute("file-watcher", asked, caller()))
            while writes and not watching.done():
                for path in writes:
                    order = {"operation": "write", "path": path, "input": "y"}
                    await toolbox.execute("file-operations", order, caller(tenant))
                await asyncio.sleep(0.1)
            return (await watching).result

        yield execute


async def test_a_change_is_told(watch):
    """The path from the tenant's folder on, and what became of it."""
    told = await watch("in/new.txt", input=["in"])
    assert {event["path"] for event in told["events"]} == {"in/new.txt"}
    assert told["events"][0]["type"] in ("created", "modified")
    assert told["timed_out"] is False


async def test_only_what_fits_is_told(watch):
    """A pattern of names; other folders; what the tools themselves make on the way."""
    told = await watch("in/a.txt", "in/b.log", pattern="*.log")
    assert {event["path"] for event in told["events"]} == {"in/b.log"}
    told = await watch("out.txt", input="in", timeout_ms=700)
    assert told == {"events": [], "event_count": 0, "timed_out": True}


async def test_another_tenants_changes_are_not_told(watch):
    """Whatever they are."""
    told = await watch("in/a.txt", tenant="globex", timeout_ms=700)
    assert told["event_count"] == 0


async def test_limits_are_told(watch):
    """As they are."""
    assert await watch(operation="config") == {
        "max_events": 1000,
        "default_timeout": 290,
        "default_debounce_ms": 100,
        "max_paths": 100,
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"input": []}, Reason.FIELD_REQUIRED),
        ({"input": ["nothing"]}, Reason.FILE_NOT_FOUND),
        ({"input": "/etc"}, Reason.PATH_REFUSED),
        ({"input": "../"}, Reason.PATH_REFUSED),
        ({"input": ["."] * 101}, Reason.LIMIT_EXCEEDED),
        ({"timeout_ms": 10**9}, Reason.FIELD_INVALID),
    ],
)
async def test_wrong_arguments_are_refused(watch, arguments, reason):
    """Each with its reason."""
    assert (await refusal(watch(**arguments))).reason == reason
