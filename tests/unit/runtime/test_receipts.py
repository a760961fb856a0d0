"""What a receipt says, whatever is in it and whoever has it: nothing is done twice."""

import asyncio
import os

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.limits import FRAME_BYTES_MAX, TOOL_RECEIPT_SECONDS
from services.runtime.frames import Kind
from services.runtime.toolbox.receipt import HEAD_BYTES, UNDONE, Noted, Receipt
from services.runtime.tools import receipts as module
from services.runtime.tools.receipts import Receipts, Slip
from tests.unit.runtime.receipt_parts import claim_of

NOW_NS = 1_800_000_000 * 10**9


@pytest.fixture
def place(tmp_path):
    return Receipts(tmp_path, FakeClock(NOW_NS))


def lost(name, **more):
    """The same execution after its runtime was lost."""
    return claim_of(name, begun_ns=NOW_NS, **more)


async def meet(place, claim, *, tenant="acme", wait_s=0.05):
    return await place.meet(tenant, claim, wait_s=wait_s)


async def unknown(place, claim):
    """Whether nobody knows."""
    with pytest.raises(ServiceError) as caught:
        await meet(place, claim)
    return caught.value.reason == Reason.WORKFLOW_STEP_UNKNOWN


async def written(place, *notes, begins=True):
    """A receipt on which a process has noted this, and which it has let go; its name."""
    name = place.new_name()
    slip = await meet(place, claim_of(name))
    receipt = Receipt(slip.descriptor, FRAME_BYTES_MAX)
    if begins:
        receipt.begin()
    for kind, data in notes:
        receipt.note(kind, data)
    slip.close()
    return name


def path_of(place, name):
    return place._path("acme", name.partition(".")[2])


async def test_who_holds_it_is_waited_for(place):
    """As long as its process lives it goes on; what that notes meanwhile is what is told."""
    name = place.new_name()
    slip = await meet(place, claim_of(name))
    theirs = os.dup(slip.descriptor)  # as the tool's process has it
    slip.close()
    waiting = asyncio.create_task(meet(place, lost(name), wait_s=10))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    receipt = Receipt(theirs, FRAME_BYTES_MAX)
    receipt.begin()
    receipt.note(Kind.RESULT, b"\x01")
    await asyncio.sleep(0.1)
    assert not waiting.done()
    os.close(theirs)
    assert await waiting == Noted(has_begun=True, kind=Kind.RESULT, data=b"\x01")


async def test_who_holds_it_for_too_long_is_not_known(place):
    """Its process does not end; it is not done beside it."""
    name = place.new_name()
    slip = await meet(place, claim_of(name))
    assert await unknown(place, lost(name, may_repeat=True))
    slip.close()


async def test_what_never_began_is_begun(place):
    """A receipt that is missing or empty: nobody has done anything."""
    for name in (place.new_name(), await written(place, begins=False)):
        slip = await meet(place, lost(name))
        assert isinstance(slip, Slip)
        slip.close()


async def test_a_missing_one_says_nothing_elsewhere(place, tmp_path, monkeypatch):
    """On another machine, after its restart, or long after: then nobody knows."""
    name, empty = place.new_name(), await written(place, begins=False)
    other = Receipts(tmp_path / "other", FakeClock(NOW_NS))
    assert await unknown(other, lost(name))
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(module, "_BOOT", tmp_path / "boot")
    restarted = Receipts(tmp_path, FakeClock(NOW_NS))
    assert await unknown(restarted, lost(name))
    assert await unknown(restarted, lost(empty))
    monkeypatch.undo()
    late = Receipts(tmp_path, FakeClock(NOW_NS + TOOL_RECEIPT_SECONDS * 10**9))
    assert await unknown(late, lost(name))
    again = Receipts(tmp_path, FakeClock(NOW_NS))
    (await meet(again, lost(name))).close()


async def test_a_whole_one_is_true_everywhere_on_its_disk(place, tmp_path, monkeypatch):
    """What was noted was done, whatever became of the machine."""
    name = await written(place, (Kind.RESULT, b"yes"))
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(module, "_BOOT", tmp_path / "boot")
    restarted = Receipts(tmp_path, FakeClock(NOW_NS))
    assert (await meet(restarted, lost(name))).data == b"yes"


async def test_who_began_and_said_nothing_is_not_known(place):
    """Its process was ended; its author may let it be done again."""
    name = await written(place)
    assert await unknown(place, lost(name))
    slip = await meet(place, lost(name, may_repeat=True))
    assert os.fstat(slip.descriptor).st_size == 0
    slip.close()


async def test_who_could_not_begin_without_its_host_is_begun_anew(place):
    """It says so itself, and the slip is empty again."""
    name = await written(place, (UNDONE, b""))
    slip = await meet(place, lost(name))
    assert os.fstat(slip.descriptor).st_size == 0
    slip.close()


async def test_a_torn_one_is_not_known(place):
    """However much of it is there, and whichever byte is another."""
    name = await written(place, (Kind.RESULT, b"all of it"))
    path = path_of(place, name)
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        assert await unknown(place, lost(name)), length
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        assert await unknown(place, lost(name)), at
    path.write_bytes(whole + b"more")
    assert await unknown(place, lost(name))
    path.write_bytes(whole)
    assert (await meet(place, lost(name))).data == b"all of it"


async def test_one_is_as_large_as_a_frame_and_no_larger(place):
    """A longer one is not written, and not read where a stranger has written it."""
    largest = b"x" * FRAME_BYTES_MAX
    name = await written(place, (Kind.RESULT, largest))
    assert (await meet(place, lost(name))).data == largest
    name = await written(place, (Kind.RESULT, largest + b"x"))
    assert await unknown(place, lost(name))
    path_of(place, name).write_bytes(b"b" * (HEAD_BYTES + FRAME_BYTES_MAX + 100))
    assert await unknown(place, lost(name))


async def test_two_processes_do_not_begin_the_same(place, tmp_path):
    """One was slow, and another has taken its run over: whoever comes second does nothing."""
    name = place.new_name()
    other = Receipts(tmp_path, FakeClock(NOW_NS))
    slip = await meet(other, lost(name))
    assert await unknown(place, claim_of(name))
    slip.close()
    assert await unknown(place, claim_of(name))


async def test_each_tenants_are_its_own(place):
    """The same name of another tenant is another receipt; erasing one's leaves the other's."""
    name = await written(place, (Kind.RESULT, b"mine"))
    slip = await meet(place, lost(name), tenant="globex")
    assert isinstance(slip, Slip)
    slip.close()
    place.erase("globex")
    assert (await meet(place, lost(name))).data == b"mine"
    place.erase("acme")
    assert not path_of(place, name).exists()


async def test_what_is_kept_elsewhere_is_forgotten_and_what_is_old_is_swept(place, tmp_path):
    """None stays for ever."""
    one, two, three = [await written(place) for _ in range(3)]
    place.forget("acme", [one, one])
    os.utime(path_of(place, two), (1, 1))
    os.utime(path_of(place, three), (NOW_NS / 1e9, NOW_NS / 1e9))
    place.sweep()
    assert [path_of(place, name).exists() for name in (one, two, three)] == [False, False, True]
    assert (tmp_path / ".receipts" / "store").exists()


async def test_without_a_folder_there_are_none():
    """Nothing is named, so nothing is asked for."""
    none = Receipts(None, FakeClock(NOW_NS))
    assert not none.are_kept
    assert none.new_name() == ""
    none.sweep()
    none.erase("acme")


async def test_two_processes_have_the_same_place(tmp_path):
    """Of one folder, at any time; another folder is another place."""
    first, second = (Receipts(tmp_path, FakeClock(NOW_NS)) for _ in range(2))
    other = Receipts(tmp_path / "other", FakeClock(NOW_NS))
    machines = [one.new_name().partition(".")[0] for one in (first, second, other)]
    assert machines[0] == machines[1] != machines[2]
