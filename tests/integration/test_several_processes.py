"""Several gateways and runtimes: restarted one by one under load, and killed; who notices?

`LLMSPELL_CLUSTER=3` has three of each, and restarts or kills every process of the cluster.
"""

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc
import pytest
from llmspell import LLMSpellError

from tests.integration.cluster import clustered

EACH = int(os.environ.get("LLMSPELL_CLUSTER", "2"))
TENANTS = ("acme", "globex")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The processes, which the tests end and start again."""
    with clustered(tmp_path_factory.mktemp("cluster"), gateways=EACH, runtimes=EACH) as up:
        yield up


@dataclass
class Load:
    """Callers that do not stop, of two tenants, and what became of their calls."""

    cluster: object
    done: Counter = field(default_factory=Counter)
    failed: list = field(default_factory=list)
    """(what, code or what was wrong)."""
    stop: threading.Event = field(default_factory=threading.Event)
    threads: list = field(default_factory=list)

    def __enter__(self):
        for tenant in TENANTS:
            for what in (self.write, self.run):
                thread = threading.Thread(target=self.call, args=(tenant, what), daemon=True)
                self.threads.append(thread)
                thread.start()
        self.until_done(2)
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a call never ended"

    def until_done(self, more):
        """Wait until each kind of call was answered so many times more."""
        before, deadline = Counter(self.done), time.monotonic() + 60
        kinds = [(tenant, what) for tenant in TENANTS for what in ("write", "run")]
        while any(self.done[kind] - before[kind] < more for kind in kinds):
            assert time.monotonic() < deadline, (self.done, self.failed[:3])
            time.sleep(0.02)

    def call(self, tenant, what):
        """One after the other, each checked."""
        with self.cluster.client(tenant) as client:
            number = 0
            while not self.stop.is_set():
                number += 1
                try:
                    what(client, tenant, number)
                except LLMSpellError as error:
                    self.failed.append((what.__name__, tenant, error.reason, str(error)))
                except (AssertionError, grpc.RpcError) as error:
                    self.failed.append((what.__name__, tenant, "wrong", repr(error)))
                else:
                    self.done[tenant, what.__name__] += 1

    def write(self, client, tenant, number):
        """State through the gateway alone."""
        client.set_state(f"key{number % 7}", {"of": tenant, "number": number})
        found = client.get_state(f"key{number % 7}")
        assert found.value == {"of": tenant, "number": number}, found

    def run(self, client, tenant, number):
        """A script, which calls state from a runtime."""
        source = f'State.set("of", "{tenant}"); return State.get("of")'
        *_, result = client.run(source, journal=number % 2 == 0)
        assert result.value == tenant, result


def test_restarting_one_after_the_other_fails_no_call(cluster):
    """SIGTERM and a new start of every gateway and runtime: no call of any tenant fails."""
    with Load(cluster) as load:
        for name in ("runtime", "gateway"):
            for process in cluster.processes[name]:
                process.restart()
                load.until_done(1)
    assert load.failed == [], Counter((each[0], *each[2:]) for each in load.failed)


def test_restarting_a_store_costs_time_and_no_call(cluster):
    """Calls wait for the state process to be back."""
    with Load(cluster) as load:
        cluster.processes["state"][0].restart()
        load.until_done(2)
    assert load.failed == [], Counter((each[0], *each[2:]) for each in load.failed)


@pytest.mark.parametrize("name", ["runtime", "gateway", "state"])
def test_a_kill_fails_only_calls_in_flight_and_so_that_they_may_be_repeated(cluster, name):
    """At most the one call of each caller, as UNAVAILABLE; the next ones are answered."""
    with Load(cluster) as load:
        process = cluster.processes[name][0]
        process.kill()
        if name == "state":
            process.start()
        load.until_done(2)
        callers = len(load.threads)
        assert len(load.failed) <= callers, load.failed
        for _, _, reason, text in load.failed:  # of a script's own call in the script's words
            assert "SERVICE_UNAVAILABLE" in reason + text or reason == "RUN_JOURNAL_LOST", text
        known = len(load.failed)
        if name != "state":
            process.start()
        process.wait()
        load.until_done(2)
        assert len(load.failed) == known, load.failed[known:]
