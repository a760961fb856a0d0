"""The state engine's data file is damaged in every way: refused or right, never wrong (T4).

Each damaged copy is opened and read in a child process, as the state process does: all of it is
read aside before it is used, since LMDB believes its pages. It may refuse to open; a read may be
refused as RECORD_CORRUPT; what is answered must be what was once written under that key.
"""

import asyncio
import random
import shutil
from collections import Counter

import pytest

from services.common.clock import FakeClock
from services.common.damage import Damages
from services.common.errors import Reason, ServiceError
from services.state.file_care import FileCare
from services.state.model import Encoding, Value
from tests.crash import scale
from tests.crash.broken import no_checksum
from tests.crash.conftest import seed_of
from tests.crash.damages import flip, garbage, old_page, swap, truncate, zero
from tests.crash.images import check_in_child
from tests.state_engines import embedded_items

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]

TIMES = scale.count(5, 40)
TENANTS, KEYS = ("acme", "globex"), 200
REFUSALS = {Reason.RECORD_CORRUPT, Reason.STORE_NOT_WRITABLE}


def content(tenant, key, version):
    """Another one for each."""
    return f"{tenant} {key} {version} ".encode() * 8


async def fill(folder, version):
    """All items of both tenants."""
    items = embedded_items(folder, FakeClock(), sync=False)
    for tenant in TENANTS:
        for key in range(KEYS):
            value = Value(Encoding.RAW, content(tenant, key, version))
            await items.set(tenant, "global", f"{key}", value)
    await items.close()


DAMAGES = [truncate, flip, zero, garbage, swap, old_page]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder, and its file before and after all was written again."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    asyncio.run(fill(folder, 0))
    old = (folder / "data.mdb").read_bytes()
    asyncio.run(fill(folder, 1))
    return folder, old, (folder / "data.mdb").read_bytes()


async def look(folder):
    """Read each item of both tenants, as a process does that starts over the file."""
    FileCare(folder, Damages()).before()
    items = embedded_items(folder, FakeClock())
    for tenant in TENANTS:
        for key in range(KEYS):
            try:
                found = await items.get(tenant, "global", f"{key}")
            except ServiceError as error:
                if error.reason not in REFUSALS:
                    raise
                continue
            if found.item is not None:
                once = [content(tenant, key, version) for version in (0, 1)]
                assert found.item.value.content in once, "a value that nobody wrote"
    await items.close()


def check(folder, _):
    """Refused or right."""
    try:
        asyncio.run(look(folder))
    except ServiceError as error:
        if error.reason not in REFUSALS:
            raise


def check_without_checksums(folder, lines):
    """As a store that believes what it reads."""
    no_checksum("")
    check(folder, lines)


def troubles(files, damage, folder, seed, checking=check):
    """What was wrong after each damage of a kind."""
    whole, old, data = files
    found = []
    for number in range(TIMES):
        copy = folder / f"{damage.__name__}{number}"
        shutil.copytree(whole, copy)
        rng = random.Random(f"{seed} {damage.__name__} {number}")
        (copy / "data.mdb").write_bytes(damage(bytearray(data), rng, old))
        trouble = check_in_child(copy, [], checking)
        found += [trouble] if trouble else []
        shutil.rmtree(copy)
    return found


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_gives_no_wrong_value(files, tmp_path, reached, damage):
    """Whatever happened to the file, no value is answered that was not written there."""
    seed = seed_of("LLMSPELL_CRASH_SEED")
    found = troubles(files, damage, tmp_path, seed)
    crashes = sum(each.startswith("killed by") for each in found)
    reached(
        "T4",
        f"state: {TIMES} files, {damage.__name__}",
        "0 wrong values, 0 crashes",
        f"{len(found) - crashes} wrong, {crashes} crashes",
        "no checksum" if damage is flip else "",
    )
    assert not found, f"LLMSPELL_CRASH_SEED={seed}: {Counter(found)}"


def test_a_store_that_believes_what_it_reads_is_seen(files, tmp_path):
    """Without checksums flipped bits come out as values."""
    found = troubles(files, flip, tmp_path, 1, check_without_checksums)
    assert any("a value that nobody wrote" in each for each in found), found
