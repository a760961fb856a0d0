"""Files that are wanted for a while: read from anywhere, unreadable to others."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Reason, ServiceError
from services.state.backup.aside import Aside
from services.state.backup.desk import Desk, full_told

CONTENT = os.urandom(700_000) + b"the kettle" * 1000


def test_it_is_covered_on_the_disk(tmp_path):
    """What is in the file is not what was written, and differs each time; what is read is."""
    aside = Aside(tmp_path / "x")
    on_disk = set()
    for _ in range(2):
        with aside.writing() as file:
            for begin in range(0, len(CONTENT), 9999):
                file.write(CONTENT[begin : begin + 9999])
        on_disk.add((tmp_path / "x").read_bytes())
        with aside.reading() as file:
            assert file.read() == CONTENT
    assert len(on_disk) == 2
    assert not any(b"kettle" in each for each in on_disk)
    assert aside.size == len(CONTENT)
    aside.remove()
    aside.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_full_disk_is_told(size):
    """Wherever it is found: while it is written, or with what was still to be written."""
    aside = Aside(Path("/dev/full"))

    def write():
        with aside.writing() as file:
            file.write(b"x" * size)

    with pytest.raises(ServiceError) as info:
        write()
    assert info.value.reason == Reason.STORAGE_FULL


def test_room_is_left_for_the_store(tmp_path, monkeypatch):
    """Where little is left on the disk an archive is refused before it takes that too."""
    aside = Aside(tmp_path / "x")
    monkeypatch.setattr("services.state.backup.aside._ROOM_BYTES", 2**60)

    def write():
        with aside.writing() as file:
            file.write(b"x" * 1_000_000)

    with pytest.raises(ServiceError) as info:
        write()
    assert info.value.reason == Reason.STORAGE_FULL
    assert aside.size == 0


def test_a_full_disk_on_the_desk(tmp_path):
    """What SQLite says of a full disk is told as all say it."""
    desk = Desk(tmp_path / "desk")
    desk._base.execute("PRAGMA max_page_count = 10")

    def fill():
        with full_told():
            for number in range(1000):
                desk.put("shelf", b"%d" % number, bytes(1000))

    with pytest.raises(ServiceError) as info:
        fill()
    assert info.value.reason == Reason.STORAGE_FULL
    desk.close()


@given(st.lists(st.tuples(st.integers(0, len(CONTENT) + 10), st.integers(0, 300_000)), max_size=5))
def test_it_is_read_from_anywhere(tmp_path_factory, places):
    """Each part, whatever was read before it, and lines too."""
    aside = Aside(tmp_path_factory.mktemp("aside") / "x")
    with aside.writing() as file:
        file.write(CONTENT)
    with aside.reading() as file:
        for place, size in places:
            file.seek(place)
            assert file.read(size) == CONTENT[place : place + size]
            assert file.tell() == min(place + size, max(place, len(CONTENT)))
            line = file.readline()
            assert line == CONTENT[file.tell() - len(line) : file.tell()]
