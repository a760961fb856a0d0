"""The look at a store's file before it is used: what is wrong is told, and where."""

import lmdb
import pytest

from services.common.filecheck import FileReport, check_file, report_of
from services.common.view import seal_value

PAGE = 4096


@pytest.fixture
def folder(tmp_path):
    """A file with two databases of some pages each."""
    with lmdb.open(str(tmp_path), max_dbs=2, map_size=1 << 24) as env:
        for name in (b"plain", b"sealed"):
            database = env.open_db(name)
            with env.begin(write=True, db=database) as txn:
                for number in range(200):
                    key = f"{number:04d}".encode()
                    value = seal_value(key, b"x" * 100)
                    txn.put(key, value if name == b"plain" else b"\0" + value)
                if name == b"sealed":
                    txn.put(b"9", b"\1anything that is sealed with a key")
    return tmp_path


def changed(folder, change):
    """Other bytes in the file."""
    data = bytearray((folder / "data.mdb").read_bytes())
    change(data)
    (folder / "data.mdb").write_bytes(data)


def page_with(data, needle):
    """Where the first page with some bytes begins."""
    return data.index(needle) // PAGE * PAGE


def test_a_whole_file_is_read_to_its_end(folder):
    """All records of all databases."""
    assert check_file(folder, ["sealed"]) == FileReport(record_count=401)


def test_a_damaged_record_is_told_by_database_and_key(folder):
    """Its value is another one; the file may be used."""

    def change(data):
        data[data.index(b"0007" + seal_value(b"0007", b"x" * 100)) + 20] ^= 1

    changed(folder, change)
    found = check_file(folder, ["sealed"])
    assert (found.broken, found.records) == ("", [("plain", b"0007".hex())])


def test_a_key_out_of_its_order_is_a_reason_not_to_use_it(folder):
    """Writes beside it would lose others."""

    def change(data):
        data[data.index(b"0150" + seal_value(b"0150", b"x" * 100))] = ord("9")

    changed(folder, change)
    assert "out of order" in check_file(folder, ["sealed"]).broken


def test_pages_that_changed_places_are_a_reason_not_to_use_it(folder):
    """Keys would not be found where they are looked for."""

    def change(data):
        one, two = page_with(data, b"0010"), page_with(data, b"0120")
        assert one != two
        data[one : one + PAGE], data[two : two + PAGE] = (
            data[two : two + PAGE],
            data[one : one + PAGE],
        )

    changed(folder, change)
    assert "should be" in check_file(folder, ["sealed"]).broken


def test_a_page_that_lmdb_refuses_is_a_gap(folder):
    """The rest of the database is read from both ends."""

    def change(data):
        at = page_with(data, b"0060")
        data[at + 10 : at + 12] = b"\xff\xff"

    changed(folder, change)
    found = check_file(folder, ["sealed"])
    assert (found.broken, found.gaps) == ("", ["plain"])


def test_a_page_that_kills_its_reader_is_a_reason_not_to_use_it(folder):
    """The reader is another process, and its end is told."""

    def change(data):
        at = page_with(data, b"0060")
        data[at : at + PAGE] = bytes(PAGE)

    changed(folder, change)
    assert "ends a process" in check_file(folder, ["sealed"]).broken


def test_a_reader_that_fails_for_another_reason_says_nothing_of_the_file(folder):
    """No memory, say, or no right to read it."""
    with pytest.raises(OSError, match="No module"):
        report_of(1, b"", b"Traceback\nNo module named lmdb")
    (folder / "lock.mdb").unlink()
    (folder / "lock.mdb").mkdir()
    with pytest.raises(OSError, match="directory"):
        check_file(folder, ["sealed"])
