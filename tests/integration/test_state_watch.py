"""Watches through the four processes: apart, gapless over a kill, and quick to end."""

import threading
from contextlib import closing

import pytest
from llmspell import Client, FailedPrecondition, InvalidArgument, NotFound


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


def test_watch_is_apart(connect):
    """A tenant's watch of all scopes sees its own changes and none of another's."""
    acme, globex = connect("acme"), connect("globex")
    with closing(globex.watch_state("watched", values=True, progress=True)) as watch:
        after = next(watch).revision
        acme.set_state("watched-1", "a secret", scope="session:s")
        globex.set_state("watched-2", "mine", scope="session:s")
        told = next(told for told in watch if told.changes)
    assert [(change.key, change.item.value) for change in told.changes] == [("watched-2", "mine")]
    with closing(acme.watch_state("watched", after=after)) as watch:
        assert [change.key for change in next(watch).changes] == ["watched-1"]


def test_watch_from_the_future(connect):
    """A revision that does not exist yet is refused through all processes with its reason."""
    acme = connect("acme")
    with pytest.raises(InvalidArgument) as info:
        next(acme.watch_state(after=10**12))
    assert info.value.reason == "REVISION_FUTURE"
    assert info.value.metadata["revision"] == str(10**12)


def test_watch_and_a_purge(deployment, connect):
    """A watch from before all was erased is told so, or that its place or tenant is gone."""
    deployment.tenant("umbrella-watch")
    with Client(deployment.address, deployment.keys["umbrella-watch"]) as client:
        before = client.set_state("k", 1)
        with closing(client.watch_state("other")) as watch:
            end = ("tenant", "delete", "umbrella-watch", "--yes")
            waiting = threading.Timer(0.5, lambda: deployment.cli_json(*end))
            waiting.start()
            try:
                told = next(watch)
                assert told.changes[-1].kind == "purge"
                assert told.revision >= before
            except (FailedPrecondition, NotFound) as error:  # any of them is right
                assert error.reason in {"REVISION_COMPACTED", "TENANT_NOT_FOUND"}  # noqa: PT017
            waiting.join()


def test_cli_watch(deployment):
    """The command prints changes after a revision, one a line."""
    first = deployment.cli_json("state", "set", "cli-watched", "1", tenant="acme")["revision"]
    deployment.cli("state", "delete", "cli-watched", tenant="acme")
    done = deployment.cli(
        "state", "watch", "cli-watched", "--after", str(first - 1), "--limit", "2", tenant="acme"
    )
    assert done.stdout.splitlines()[0].split()[1:] == ["set", "global", "cli-watched"]
    assert done.stdout.splitlines()[1].split()[1:] == ["delete", "global", "cli-watched"]


def test_watch_over_a_kill(fresh_deployment, connect):
    """Each acknowledged write is seen in order though the state process is killed twice."""
    acme = connect("acme", fresh_deployment)
    seen, wanted = [], 60
    begun = threading.Event()

    def follow():
        with closing(acme.watch_state("n/", values=True, progress=True)) as watch:
            for told in watch:
                begun.set()
                seen.extend(change.key for change in told.changes)
                if len(seen) >= wanted:
                    return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    assert begun.wait(10)
    writer = connect("acme", fresh_deployment)
    for number in range(wanted):
        if number in {20, 40}:
            fresh_deployment.kill("state")
        writer.set_state(f"n/{number:02}", number)
    follower.join(30)
    assert list(dict.fromkeys(seen)) == [f"n/{number:02}" for number in range(wanted)]
