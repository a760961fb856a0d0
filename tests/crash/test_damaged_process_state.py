"""The real state process over a damaged data file: it never crashes, and says what it found (T4).

It reads the file in a process of its own before it uses it. So it either refuses to start, in words
that name the file, or it serves; what is damaged is then refused as DATA_LOSS and named in the
health answer; whatever else it answers was once written there, and stays so when it writes.
"""

import os
import random
import shutil
import time

import pytest

from tests.crash import scale
from tests.crash.conftest import seed_of
from tests.crash.damaged_tenants import ARTIFACTS, KEYS, TENANTS, content, tenants_on
from tests.crash.damages import flip, flip_one, garbage, old_copy, old_page, swap, truncate, zero
from tests.crash.nursery import NOBODY, Nursery, channel_to

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]

TIMES = scale.count(2, 40)
DAMAGES = (truncate, flip, flip_one, zero, garbage, swap, old_page, old_copy)
AS_BEFORE = {old_page, old_copy}
"""After these a key may be answered as it was: nothing in the file tells that it is another one."""
EXIT_CANNOT_START = 78


@pytest.fixture(scope="module")
def nursery():
    """Where processes come from."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, nursery):
    """A folder with all of two tenants, its file, and that before all was written again."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    with nursery.started(folder) as up, channel_to(up) as channel:
        tenants = tenants_on(channel)
        for tenant in tenants:
            tenant.write(0)
            tenant.bump()
        old = (folder / "data.mdb").read_bytes()
        for tenant in tenants:
            tenant.write(1)
        for _ in range(3):
            for tenant in tenants:
                tenant.bump()
    return folder, old, (folder / "data.mdb").read_bytes()


class Seen:
    """What the damaged copies of one kind have led to."""

    def __init__(self):
        self.refused = self.served = self.named = 0

    def look(self, nursery, up, *, as_before):
        """Ask a process for everything."""
        if up.code is not None:
            assert up.code == EXIT_CANNOT_START, f"it ended with {up.code}: {up.words}"
            assert '"reason": "RECORD_CORRUPT"' in up.words, up.words
            assert "data.mdb is damaged" in up.words or '"database": "' in up.words, up.words
            self.refused += 1
            return
        self.served += 1
        with channel_to(up) as channel:
            tenants = tenants_on(channel)
            found = [self.ask(tenant) for tenant in tenants]
            for tenant in tenants:
                assert tenant.write_more() <= {"OK", "DATA_LOSS"}
            assert found == [tenant.get_all() for tenant in tenants]
            assert not nursery.ended(up), f"it ended with {up.code}: {up.words}"
            named = tenants[0].damages()
            if not as_before:  # a record whose key is another one now has a name there too
                lost = {"DATA_LOSS", "NOT_FOUND"} & {answer for each in found for answer in each}
                assert named or not lost, "a damage that the health answer does not name"
            self.named += bool(named)

    def ask(self, tenant):
        """What is answered for a tenant's keys: what was written, or that it is lost."""
        found = tenant.get_all()
        for key, answer in enumerate(found):
            once = {content(tenant.name, key, version) for version in (0, 1)}
            assert answer in once | {"NOT_FOUND", "DATA_LOSS"}, (tenant.name, key, answer)
        assert tenant.list_items() in {"OK", "DATA_LOSS"}
        return found

    def __str__(self):
        return f"{self.refused} refused at the start, {self.served} served, {self.named} named"


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_process_outlives_a_damaged_file(nursery, whole, tmp_path, reached, damage):
    """It refuses to start or serves; no wrong value, no crash, and damage has a name."""
    folder, old, data = whole
    seed, seen = seed_of("LLMSPELL_CRASH_SEED"), Seen()
    for number in range(TIMES):
        copy = tmp_path / f"{number}" / "data"
        shutil.copytree(folder, copy)
        rng = random.Random(f"{seed} {damage.__name__} {number}")
        (copy / "data.mdb").write_bytes(damage(bytearray(data), rng, old))
        try:
            with nursery.started(copy) as up:
                seen.look(nursery, up, as_before=damage in AS_BEFORE)
        except BaseException as error:
            error.add_note(f"LLMSPELL_CRASH_SEED={seed}, number {number}")
            raise
        shutil.rmtree(copy.parent)
    reached(
        "T4",
        f"state process: {TIMES} data files, {damage.__name__}",
        "0 crashes, 0 wrong values, named",
        f"0, 0; {seen}",
        "no checksum; no look before" if damage is flip else "",
    )


def test_without_a_look_before_it_dies_and_that_is_seen(nursery, whole, tmp_path):
    """Teeth: a page of zeros ends a process that uses the file as it finds it."""
    folder, _, data = whole

    def look_at_all():
        for number in range(40):
            copy = shutil.copytree(folder, tmp_path / f"{number}" / "data")
            damaged = zero(bytearray(data), random.Random(number), b"")
            (copy / "data.mdb").write_bytes(damaged)
            with nursery.started(copy, flaw="no_look") as up:
                Seen().look(nursery, up, as_before=False)

    with pytest.raises(AssertionError, match=r"UNAVAILABLE|it ended with"):
        look_at_all()


def test_a_lock_that_is_gone_changes_nothing(nursery, whole, tmp_path):
    """Without LOCK and lock.mdb everything is there."""
    copy = shutil.copytree(whole[0], tmp_path / "data")
    for name in ("LOCK", "lock.mdb"):
        (copy / name).unlink()
    with nursery.started(copy) as up, channel_to(up) as channel:
        for tenant in tenants_on(channel):
            assert [tenant.get(key) for key in range(KEYS)] == [
                content(tenant.name, key, 1) for key in range(KEYS)
            ]
            assert not tenant.damages()


def test_a_data_file_that_is_gone_is_no_new_store(nursery, whole, tmp_path):
    """The lock file remembers that there was one; it refuses to start, and makes none."""
    copy = shutil.copytree(whole[0], tmp_path / "data")
    (copy / "data.mdb").unlink()
    with nursery.started(copy) as up:
        assert (up.code, "it is missing" in up.words) == (EXIT_CANNOT_START, True)
    assert not (copy / "data.mdb").exists()


@pytest.mark.parametrize("name", ["", "data.mdb", "LOCK", "lock.mdb"])
@pytest.mark.parametrize("how", ["mode", "owner"])
def test_what_it_may_not_read_is_refused_in_words(nursery, whole, tmp_path, name, how):
    """It says so; that a file is damaged, which it cannot know, it does not say."""
    copy = shutil.copytree(whole[0], tmp_path / "data")
    path = copy / name
    if how == "mode":
        path.chmod(0)
    elif os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else")
    else:
        path.chmod(0o700)
        os.chown(path, NOBODY, NOBODY)
    with nursery.started(copy, plain=True) as up:
        assert up.code == EXIT_CANNOT_START, up.words
        assert "cannot be used" in up.words
        assert "Permission denied" in up.words
    path.chmod(0o700)
    os.chown(path, os.geteuid(), -1)
    with nursery.started(copy, plain=True) as up:
        assert up.serves, up.words


@pytest.mark.parametrize("flaw", ["", "reads_beside"])
def test_one_damaged_value_is_named_and_all_else_is_served(nursery, whole, tmp_path, flaw):
    """A bit of one value: found at the start, or beside where the file is large; 119 are right."""
    copy = shutil.copytree(whole[0], tmp_path / "data")
    data, needle = bytearray(whole[2]), content("acme", 7, 1).encode()
    at = data.find(needle)
    while at >= 0:  # it is in pages that are free, too
        data[at + 3] ^= 1
        at = data.find(needle, at + 1)
    (copy / "data.mdb").write_bytes(data)
    with nursery.started(copy, flaw=flaw) as up, channel_to(up) as channel:
        acme, globex = tenants_on(channel)
        deadline = time.monotonic() + (20 if flaw else 0)
        while not (found := acme.damages()) and time.monotonic() < deadline:
            time.sleep(0.02)
        (name,) = found
        kind, database, key = name.split()
        assert (kind, database) == ("record", "items")
        assert bytes.fromhex(key).startswith(b"acme\0")
        assert bytes.fromhex(key).endswith(b"7")
        found = {tenant.name: [tenant.get(key) for key in range(KEYS)] for tenant in (acme, globex)}
    for tenant in TENANTS:
        for number, answer in enumerate(found[tenant]):
            is_damaged = (tenant, number) == ("acme", 7)
            assert answer == ("DATA_LOSS" if is_damaged else content(tenant, number, 1))


def test_the_way_back_that_the_guide_tells(nursery, tmp_path):
    """A file that is refused is moved away with its lock; backups bring all of it back."""
    folder = tmp_path / "data"
    backups = {}
    with nursery.started(folder) as up, channel_to(up) as channel:
        for tenant in tenants_on(channel):
            tenant.write(1)
            for number in range(ARTIFACTS):
                tenant.put_artifact(number)
            backups[tenant.name] = tenant.backup()
    (folder / "data.mdb").write_bytes((folder / "data.mdb").read_bytes()[:20_000])
    with nursery.started(folder) as up:
        assert up.code == EXIT_CANNOT_START
        assert "its end is missing" in up.words
    for name in ("data.mdb", "LOCK"):
        (folder / name).rename(folder / f"{name}.damaged")
    with nursery.started(folder) as up, channel_to(up) as channel:
        for tenant in tenants_on(channel):
            assert tenant.get(7) == "NOT_FOUND"
            tenant.restore(backups[tenant.name])
        for tenant in tenants_on(channel):
            tenant.check_all(1)
            assert not tenant.damages()
