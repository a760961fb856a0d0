"""What the client adds to calls of state: watches that go on over connections that end."""

import time
from contextlib import aclosing, closing

import grpc
import pytest
from llmspell import FailedPrecondition, Unavailable
from llmspell import types as t
from llmspell._state import Watch


def test_watch_goes_on_over_a_lost_connection(client, deployment):
    """Each change comes once though the connection ends after each of them."""
    for key in ("k1", "other", "k2", "k3"):
        client.set_state(key, key)
    with closing(client.watch_state("k", after=0, values=True)) as watch:
        seen = [next(watch) for _ in range(3)]
    assert [told.changes[0].key for told in seen] == ["k1", "k2", "k3"]
    assert [told.revision for told in seen] == [1, 3, 4]
    assert seen[0].changes[0].item.value == "k1"
    assert (seen[0].changes[0].kind, seen[0].changes[0].scope) == ("set", "global")
    assert deployment.calls["WatchState"] == 3
    assert [request.after_revision for request in deployment.requests[-3:]] == [0, 1, 3]


def test_watch_tells_where_it_is(client):
    """With progress the first message comes before any change."""
    client.set_state("k", 1)
    with closing(client.watch_state(progress=True)) as watch:
        told = next(watch)
    assert (told.changes, told.revision) == ([], 1)


def test_watch_that_never_began_fails(client, deployment):
    """Where nothing answers from the start, the caller hears so."""
    deployment.fail_next("WatchState", 9, grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(Unavailable):
        next(client.watch_state())


def test_watch_that_cannot_go_on_fails(client, deployment):
    """A refusal is not tried again."""
    deployment.fail_next("WatchState", 1, grpc.StatusCode.FAILED_PRECONDITION, "REVISION_COMPACTED")
    with pytest.raises(FailedPrecondition) as info:
        next(client.watch_state(after=3))
    assert info.value.reason == "REVISION_COMPACTED"
    assert deployment.calls["WatchState"] == 1


def test_watch_is_given_up_after_half_a_minute():
    """A watch whose server stays away ends with the error, and pauses longer each time."""
    watch = Watch("", None, after=None, values=False)
    lost = Unavailable("gone")
    changes = type("Changes", (), {"revision": 1})
    watch.note(changes)
    now = time.monotonic()
    assert [watch.pause_s(lost, now + each) for each in (0, 1, 2)] == [0.1, 0.2, 0.4]
    watch.note(changes)
    assert watch.pause_s(lost, now + 100) == 0.1
    with pytest.raises(Unavailable):
        watch.pause_s(lost, now + 131)


async def test_watch_of_the_asyncio_client(async_client, deployment):
    """The asyncio client watches alike."""
    for key in ("k1", "k2"):
        await async_client.set_state(key, key)
    async with aclosing(async_client.watch_state("k", after=0)) as watch:
        seen = [await anext(watch) for _ in range(2)]
    assert [told.changes[0].key for told in seen] == ["k1", "k2"]
    assert seen[0].changes[0].item is None


def test_a_sensitive_value(client, deployment):
    """The mark travels with the value, there and back, also in a batch."""
    client.set_state("pin", "1234", sensitive=True)
    client.set_state("plain", 1)
    marks = {key: client.get_state(key).sensitive for key in ("pin", "plain")}
    assert marks == {"pin": True, "plain": False}
    client.batch([t.SetItem("plain", 1), t.SetItem("marked", 1, sensitive=True)])
    assert [write.set.sensitive for write in deployment.requests[-1].writes] == [False, True]
