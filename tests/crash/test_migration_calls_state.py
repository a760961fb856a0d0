"""A migration killed before, in the middle of, and after each of its calls on the disk (T11).

Three versions, a backup first, results made ready in slices. Each call that it makes on the disk
(write, flush, rename, mapping) is the last one once, and once half done; whatever comes after one
comes before the next. Also a store's own change of format, and a release that is older than the
store.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys

import lmdb
import pytest

from services.common.view import META, seal_value
from tests.crash import recorder, scale
from tests.crash.migration_walk import FLAW
from tests.crash.nursery import Nursery

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]

STORY = "tests.crash.migration_walk"
STEP = scale.count(16, 1)
EXIT_CANNOT_START = 78


@pytest.fixture
def walk(faults_library, tmp_path):
    """A function that kills the migration at one call after the other; what came of it."""

    def run(kill, step, flaw=""):
        switch, folder = tmp_path / "switch", tmp_path / "disk"
        folder.mkdir()
        first = random.randint(1, step)
        done = subprocess.run(
            [sys.executable, "-m", "tests.crash.faults", STORY, f"{first}", f"{step}", kill],
            cwd=recorder.ROOT,
            env=recorder.faulty(faults_library, switch, folder) | {FLAW: flaw},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("kill", ["KILL", "TORN"])
def test_old_or_new_at_every_call(walk, reached, kill):
    """All old or all new, a backup before the first change, and the next start ends it."""
    outcome = walk(kill, STEP)
    points = outcome["points"]
    reached(
        "T11",
        f"state: a migration {'killed at' if kill == 'KILL' else 'cut in'} each of {points} calls",
        "old or new; next start ends it; backup first",
        f"{len(outcome['bad'])} bad of {points}",
        "a migration in parts; one without its backup",
    )
    assert points >= 50 // STEP, outcome
    assert outcome["exits"]["-9"] == points
    assert not outcome["bad"], "\n".join(outcome["bad"][:3])


@pytest.mark.parametrize("flaw", ["in_parts", "no_backup"])
def test_a_migration_that_is_broken_is_seen(walk, flaw):
    """Teeth: items of both versions at once; items made ready before there is a backup."""
    assert walk("KILL", 14, flaw)["bad"]


def digest_of(folder):
    """Of every file but locks."""
    return {
        path.name: hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in {"LOCK", "lock.mdb"}
    }


def test_an_older_release_refuses_newer_data_and_changes_nothing(tmp_path, reached):
    """Exit code 78, words that name both versions; not a byte is another one."""
    folder, nursery = tmp_path / "data", Nursery()
    with nursery.started(folder) as up:
        assert up.serves
    with lmdb.open(str(folder), max_dbs=64) as env, env.begin(write=True) as txn:
        meta = env.open_db(META.encode(), txn=txn)
        txn.put(b"schema", seal_value(b"schema", b"state 9"), db=meta)
        txn.drop(env.open_db(b"staged", txn=txn))  # the newer release has other databases
    before = digest_of(folder)
    with nursery.started(folder) as up:
        assert up.code == EXIT_CANNOT_START, up.words
        assert "SCHEMA_TOO_NEW" in up.words
        assert "schema 9; this one reads up to 2" in up.words
    assert digest_of(folder) == before
    nursery.close()
    reached("T11", "state: a store of a newer release", "refused, unchanged", "exit 78, unchanged")


def older(folder):
    """Make of a store what the release before had written; what its items hold."""
    with lmdb.open(str(folder), max_dbs=64) as env, env.begin(write=True) as txn:
        items = env.open_db(b"items", txn=txn)
        found = dict(txn.cursor(db=items))
        for key, stored in found.items():
            txn.put(key, stored[1:], db=items)  # without the byte that says how it is kept
        meta = env.open_db(META.encode(), txn=txn)
        txn.put(b"schema", seal_value(b"schema", b"state 1"), db=meta)
    return found


def written(folder):
    """Version, and what items hold."""
    with lmdb.open(str(folder), max_dbs=64, readonly=True) as env, env.begin() as txn:
        meta = env.open_db(META.encode(), txn=txn, create=False)
        items = env.open_db(b"items", txn=txn, create=False)
        return txn.get(b"schema", db=meta)[4:], dict(txn.cursor(db=items))


OPEN = (
    "import sys, pathlib; from services.state.engines.embedded import open_store; "
    "open_store(pathlib.Path(sys.argv[1])).close()"
)


def test_a_store_of_an_older_release_killed_at_each_call(faults_library, tmp_path, reached):
    """Its format is the old one or the new one, and a copy of the old one is there before."""
    import asyncio

    from tests.crash.faults import Switch
    from tests.crash.migration_walk import Told

    async def fill():
        told = Told(tmp_path / "whole")
        await told.prepare()
        await told.close()

    asyncio.run(fill())
    whole = tmp_path / "whole" / "state"
    new = older(whole)
    old = {key: stored[1:] for key, stored in new.items()}
    point, points = random.randint(1, STEP), 0
    while True:
        folder = shutil.copytree(whole, tmp_path / f"{point}")
        environment = recorder.faulty(faults_library, tmp_path / "switch", folder)
        Switch(tmp_path / "switch").arm(point, -2, ("write", "flush", "rename", "map"))
        command = [sys.executable, "-c", OPEN, str(folder)]
        done = subprocess.run(command, cwd=recorder.ROOT, env=environment, check=False)
        assert written(folder) in ((b"state 1", old), (b"state 2", new))
        if written(folder)[0] == b"state 2":
            assert written(folder / "before-schema-2") == (b"state 1", old)
        again = subprocess.run(command, cwd=recorder.ROOT, env=os.environ, check=False)
        assert (again.returncode, written(folder)) == (0, (b"state 2", new))
        assert written(folder / "before-schema-2") == (b"state 1", old)
        shutil.rmtree(folder)
        if done.returncode == 0:
            break
        point, points = point + STEP, points + 1
    reached(
        "T11",
        f"state: a store's own change of format, cut in each of {points} calls",
        "old or new, a copy first",
        f"{points} of {points}",
    )
    assert points >= 10 // STEP
