"""The audit log when processes are killed and the disk is full.

It is whole, and in nobody's way but where something would be changed without it.
"""

from __future__ import annotations

import threading
import time

import pytest
from llmspell import Client, LLMSpellError
from llmspell.errors import ResourceExhausted, Unavailable

from tests.crash.small_disk import fill, small_disk
from tests.integration.deployment import deployed

WAIT_S = 20


def patient(call, *args, **kwargs):
    """As soon as processes are back."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return call(*args, **kwargs)
        except (Unavailable, ResourceExhausted):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def awaited_starts(operator):
    """The gateway's last start, and what came before: it had not ended."""
    deadline = time.monotonic() + WAIT_S
    while True:
        ends = [entry.kind for entry in operator.list_audit() if entry.kind in {"start", "stop"}]
        if len(ends) > 1 or time.monotonic() > deadline:
            return ends[:2]
        time.sleep(0.2)


@pytest.fixture(scope="module")
def crashing(tmp_path_factory):
    """A deployment whose gateway dies between a change and its outcome once a file is there."""
    folder = tmp_path_factory.mktemp("audit-crash")
    now = folder / "now"
    points = {"LLMSPELL_FAILPOINTS": f"audit.changed=crash:{now}"}
    with deployed(folder, variables=points) as up:
        yield up, now


def test_killed_between_change_and_audit(crashing):
    """The change is there, its intent is in the log, no outcome is; and the chain is whole."""
    up, now = crashing
    with Client(up.address, up.operator_key) as operator:
        before = operator.verify_audit()
        now.touch()
        with pytest.raises(LLMSpellError):
            operator.create_key("acme", display_name="lost")
        now.unlink()
        entries = patient(lambda: list(operator.list_audit(method="TenantService/CreateApiKey")))
        lost = [entry for entry in entries if entry.sequence > before.head.sequence]
        assert [(entry.kind, entry.tenant_id) for entry in lost] == [("intent", "acme")]
        names = [key.display_name for key in patient(lambda: list(operator.list_keys("acme")))]
        assert "lost" in names
        assert patient(operator.verify_audit, before.head).fault is None
        assert awaited_starts(operator) == ["start", "start"]


def test_state_killed_under_writes(crashing):
    """Nothing that was answered is missing: each change that a caller saw done has its outcome."""
    up, _ = crashing
    done, stop = [], threading.Event()

    def change():
        with Client(up.address, up.operator_key) as operator:
            while not stop.is_set():
                try:
                    done.append(operator.create_key("acme").api_key.key_id)
                except LLMSpellError:
                    time.sleep(0.05)

    worker = threading.Thread(target=change)
    worker.start()
    try:
        for _ in range(3):
            count, deadline = len(done), time.monotonic() + WAIT_S
            while len(done) < count + 5 and time.monotonic() < deadline:
                time.sleep(0.02)
            up.kill("state")
    finally:
        time.sleep(0.5)
        stop.set()
        worker.join()
    assert len(done) >= 10
    with Client(up.address, up.operator_key) as operator:
        assert patient(operator.verify_audit).fault is None
        entries = list(operator.list_audit(method="TenantService/CreateApiKey"))
    outcomes = sum(entry.kind == "outcome" and not entry.reason for entry in entries)
    assert outcomes >= len(done)


def test_full_disk(tmp_path):
    """Changes are refused and say why; what only reads goes on; with room all goes on, whole."""
    with small_disk(tmp_path / "disk") as disk:
        (tmp_path / "data").mkdir()
        (disk / "state").mkdir(mode=0o700)
        (tmp_path / "data" / "state").symlink_to(disk / "state")
        with (
            deployed(tmp_path) as up,
            Client(up.address, up.operator_key) as operator,
            Client(up.address, up.keys["acme"]) as acme,
        ):
            acme.set_state("a", 1)
            fill(disk / "filler")
            refused = set()
            for _ in range(50):
                try:
                    operator.create_key("globex")
                except LLMSpellError as error:
                    refused.add(error.reason)
            assert refused
            assert refused <= {"AUDIT_UNAVAILABLE", "STORAGE_FULL"}
            assert acme.get_state("a").value == 1
            (disk / "filler").unlink()
            patient(operator.create_key, "globex")
            check = patient(operator.verify_audit)
            assert check.fault is None
