"""The list of free pages is held against the trees of a file."""

import mmap

import lmdb
import pytest

from services.common.filecheck import check_file
from services.common.pagecheck import PageCheck, UnsafeError
from services.common.view import seal_value

PAGE = 4096


@pytest.fixture
def folder(tmp_path):
    """A file with two trees, large values, and pages that are free."""
    with lmdb.open(str(tmp_path), max_dbs=2, map_size=1 << 26) as env:
        for name in (b"one", b"two"):
            database = env.open_db(name)
            for turn in range(4):
                with env.begin(write=True, db=database) as txn:
                    for number in range(400):
                        key = f"{number:04d}".encode()
                        size = 9000 if number % 50 == 0 else 100 + turn
                        txn.put(key, seal_value(key, b"x" * size))
                    for number in range(0, 400, 3):
                        txn.delete(f"{number:04d}".encode())
    return tmp_path


def looked_at(folder):
    """The check, after its run, and the root of its list of free pages."""
    with (
        lmdb.open(str(folder), readonly=True, max_dbs=2, map_size=1 << 26) as env,
        env.begin() as txn,
        (folder / "data.mdb").open("rb") as file,
    ):
        pages = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        check = PageCheck(pages, PAGE)
        root = check._databases(txn.id())[0]
        assert check.run(txn.id())
        return check, root


def test_every_page_of_a_whole_file_is_in_use_or_free(folder):
    """But for the two header pages; and it is told where a commit's header is no more."""
    owner = looked_at(folder)[0]._owner
    assert owner.count(0) == 2
    assert owner.count(2) > 5
    assert not check_file(folder, []).broken
    with (folder / "data.mdb").open("rb") as file:
        pages = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        assert not PageCheck(pages, PAGE).run(10**6)


def test_a_page_that_is_free_and_in_use_is_a_reason_not_to_use_it(folder):
    """The next write would go over what is in it; nothing in any record tells."""
    check, root = looked_at(folder)
    owner, data = check._owner, bytearray((folder / "data.mdb").read_bytes())
    used = max(n for n in range(len(owner)) if owner[n] == 1).to_bytes(8, "little")
    begin = root * PAGE + 16
    page = data[begin : begin + PAGE - 16]
    for free in (n for n in range(len(owner)) if owner[n] == 2):
        page = page.replace(free.to_bytes(8, "little"), used)
    assert page != data[begin : begin + PAGE - 16]
    data[begin : begin + PAGE - 16] = page
    (folder / "data.mdb").write_bytes(data)
    with pytest.raises(UnsafeError, match="in use"):
        looked_at(folder)
    assert "in use" in check_file(folder, []).broken


def test_a_page_elsewhere_is_a_reason_not_to_use_it(folder):
    """LMDB takes a page's word for where it is, and would free another one."""
    check, root = looked_at(folder)
    data = bytearray((folder / "data.mdb").read_bytes())
    used = [n for n in range(len(check._owner)) if check._owner[n] == 1 and n != root]
    leaf = next(n for n in used if data[n * PAGE + 10] == 2)
    data[leaf * PAGE] ^= 1
    (folder / "data.mdb").write_bytes(data)
    with pytest.raises(UnsafeError, match="where page"):
        looked_at(folder)


def test_a_key_that_its_branch_does_not_lead_to_is_a_reason_not_to_use_it(folder):
    """It would not be found, until a write sets the branch right: then it would be back."""
    data = bytearray((folder / "data.mdb").read_bytes())
    database = lmdb.open(str(folder), readonly=True, max_dbs=2, map_size=1 << 26, lock=False)
    with database as env, env.begin(db=env.open_db(b"one")) as txn:
        keys = [key for key, _ in txn.cursor()]
    places = [at for at in range(0, len(data), PAGE) if data[at + 10] & 0xF == 1]
    misled = 0
    for page in places:
        second = int.from_bytes(data[page + 18 : page + 20], "little")
        key = page + second + 8
        changed = bytearray(data)
        changed[key : key + 4] = b"%04d" % (int(data[key : key + 4]) - 2)
        (folder / "data.mdb").write_bytes(changed)
        with lmdb.open(str(folder), readonly=True, max_dbs=2, map_size=1 << 26, lock=False) as env:
            one = env.open_db(b"one")
            with env.begin(db=one) as txn:
                if all(txn.get(each) for each in keys):
                    continue  # a page that is not in use, or of the other tree
        misled += 1
        assert "would not be found" in check_file(folder, []).broken
    assert misled
