"""Events through the four processes: apart, gapless over a kill, each once and in order."""

import json
import re
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from llmspell import Client, InvalidArgument, Unavailable
from llmspell.types import NewEvent

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "events.md"


@pytest.fixture
def connect(deployment):
    """A client for a tenant."""
    opened = []

    def connect(tenant, up=deployment):
        opened.append(Client(up.address, up.keys[tenant]))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


def test_tenants_are_apart(connect):
    """A tenant's subscription to everything sees its own events and none of another's."""
    acme, globex = connect("acme"), connect("globex")
    start, before = globex.poll_events().sequence, globex.event_stats().published_count
    with closing(globex.subscribe_events(progress=True)) as told:
        assert next(told).events == []
        acme.publish_event("secret.told", {"cats": "fly"})
        acme.set_state("secret-key", 1)
        globex.publish_event("mine", [1, 2.5], correlation_id="c", source="s", ttl_s=60)
        event = next(one for each in told for one in each.events)
    assert (event.type, event.data) == ("mine", [1, 2.5])
    assert (event.correlation_id, event.source, event.own) == ("c", "s", False)
    assert (event.expire_time - event.time).total_seconds() == 60
    listed = globex.list_events(after=start)
    assert [(one.type, one.data) for one in listed] == [("mine", [1, 2.5])]
    assert globex.event_stats().published_count == before + 1
    assert globex.poll_events("secret.*", after=start).events == []


def test_own_changes_and_published_events_in_order(connect):
    """What was set and what was published comes in the order in which it happened."""
    acme = connect("acme")
    start = acme.poll_events().sequence
    acme.publish_event("story.begins")
    revision = acme.set_state("story", 1, scope="session:story")
    acme.publish_event("story.ends")
    events = list(acme.list_events(after=start))
    assert [event.type for event in events] == ["story.begins", "state.set", "story.ends"]
    assert events[1].data == {"scope": "session:story", "key": "story", "revision": revision}
    with closing(acme.events("story.*", after=start)) as told:
        assert [next(told).type for _ in range(2)] == ["story.begins", "story.ends"]
    polled = acme.poll_events("story.ends", after=events[0].sequence, wait_s=5)
    assert [event.sequence for event in polled.events] == [events[2].sequence]


def test_bad_input_is_refused(connect):
    """A bad pattern, an own type, a sequence of the future: one clear error each."""
    acme = connect("acme")
    for call, error, reason in [
        (lambda: list(acme.list_events("a b")), InvalidArgument, "PATTERN_INVALID"),
        (lambda: acme.publish_event("state.set"), InvalidArgument, "FIELD_INVALID"),
        (lambda: acme.publish_events([]), InvalidArgument, "FIELD_REQUIRED"),
        (lambda: next(acme.events(after=2**60)), InvalidArgument, "REVISION_FUTURE"),
        (lambda: acme.poll_events(after=0, wait_s=21), InvalidArgument, "LIMIT_EXCEEDED"),
    ]:
        with pytest.raises(error) as info:
            call()
        assert info.value.reason == reason


def test_no_event_is_lost_over_a_kill(fresh_deployment):
    """State is killed while a publisher publishes: a subscriber sees all that was acknowledged.

    Each event comes once and in order, though the subscriber's stream broke with the process.
    """
    up = fresh_deployment
    acknowledged: list[int] = []
    stop = threading.Event()

    def publish() -> None:
        with Client(up.address, up.keys["acme"]) as client:
            number = 0
            while not stop.is_set():
                try:
                    batch = [NewEvent("count", number + each) for each in range(50)]
                    acknowledged.extend(client.publish_events(batch))
                except Unavailable:
                    time.sleep(0.05)
                number += 50

    seen: list[tuple[int, int]] = []
    with Client(up.address, up.keys["acme"]) as client:
        told = client.subscribe_events("count", progress=True)
        next(told)
        publisher = threading.Thread(target=publish)
        publisher.start()
        killer = threading.Timer(0.6, up.kill, ["state"])
        killer.start()
        until = time.monotonic() + 6
        for each in told:
            seen += [(event.sequence, event.data) for event in each.events]
            if time.monotonic() > until:
                stop.set()
            if stop.is_set() and not publisher.is_alive() and seen[-1][0] >= acknowledged[-1]:
                break
        publisher.join()
        told.close()
    sequences = [sequence for sequence, _ in seen]
    assert len(acknowledged) > 100
    assert sequences == sorted(set(sequences))
    assert set(acknowledged) <= set(sequences)
    numbers = [number for _, number in seen]
    assert numbers == sorted(set(numbers))


def test_the_python_of_the_page_runs(deployment, monkeypatch):
    """The guide's example runs as it stands, and its own asserts hold."""
    for name, value in deployment.environment(deployment.tenant("events-page")).items():
        monkeypatch.setenv(name, value)
    (block,) = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    exec(compile(block, str(PAGE), "exec"), {})


def test_the_command_line(deployment):
    """What is published is listed and tailed, as the tenant whose key it is."""
    tenant = deployment.tenant("events-cli")
    told = deployment.cli_json("event", "publish", "cli.a", '{"n": 1}', tenant=tenant)
    deployment.cli("event", "publish", "cli.b", "words", tenant=tenant)
    listed = deployment.cli_json("event", "list", "cli.*", tenant=tenant)
    assert [(one["type"], one["data"]) for one in listed] == [
        ("cli.a", {"n": 1}),
        ("cli.b", "words"),
    ]
    assert listed[0]["sequence"] == told["sequence"]
    tail = ("event", "tail", "--after", "0", "--limit", "2")
    done = deployment.cli(*tail, tenant=tenant)
    assert [line.split(" ", 1)[1] for line in done.stdout.splitlines()] == [
        'cli.a {"n": 1}',
        'cli.b "words"',
    ]
    lines = deployment.cli(*tail, "--json", tenant=tenant).stdout.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["cli.a", "cli.b"]
    assert "cli.a" not in deployment.cli("event", "list", tenant="globex").stdout


SCRIPT = """
local id = Event.subscribe("lua.*")
assert(Event.receive(id, 0) == nil)
assert(Event.publish("lua.one", {list = {1, 2}}, {correlation_id = "c", ttl_seconds = 60}))
Event.publish("other", 1)
Event:publish("lua.two")
State.set("lua-key", 1)
local one, two = Event.receive(id), Event:receive(id, 100)
assert(one.event_type == "lua.one" and one.data.list[2] == 2 and one.metadata.correlation_id == "c")
assert(two.event_type == "lua.two" and two.data == nil and two.sequence > one.sequence)
assert(Event.receive(id, 20) == nil)
local own = Event.subscribe("state.*", {after = one.sequence})
assert(Event.receive(own).data.key == "lua-key")
assert(#Event.list_subscriptions() == 2 and Event.list_subscriptions()[1].pattern == "lua.*")
assert(Event.get_stats().bridge_stats.subscriptions_by_language.lua == 2)
assert(Event.get_stats().event_bus_stats.events_processed >= 3)
assert(Event.unsubscribe(id) and not Event.unsubscribe(id))
local ok, failure = pcall(Event.receive, id)
assert(not ok and failure.metadata.field == "subscription_id")
ok, failure = pcall(Event.subscribe, "a b")
assert(not ok and failure.reason == "PATTERN_INVALID")
ok, failure = pcall(Event.publish, "state.set", 1)
assert(not ok and failure.reason == "FIELD_INVALID")
return "done"
"""


def test_scripts_have_events(deployment, tmp_path):
    """A script publishes, subscribes and receives; another tenant's script sees none of it."""
    file = tmp_path / "events.lua"
    file.write_text(SCRIPT)
    done = deployment.cli("run", str(file), tenant="acme")
    assert done.returncode == 0, done.stderr
    file.write_text('local id = Event.subscribe("lua.*", {after = 0}) return Event.receive(id, 0)')
    assert deployment.cli_json("run", str(file), tenant="globex")["result"] is None
