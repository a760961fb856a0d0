"""Tenants' folders from the host's side: their names, their size, their end."""

import os
from pathlib import Path

import pytest

from services.runtime.toolbox.folder import WORK
from services.runtime.tools.folders import FileLimits, Folders, Usage, measure


def test_a_tenants_folder_has_a_name_that_nobody_can_guess(tmp_path):
    """It stays the same after a restart, and is not derived from the tenant's name."""
    path = Path(Folders(tmp_path).path("acme"))
    assert Folders(tmp_path).path("acme") == str(path)
    assert (len(path.name), path.parent) == (32, tmp_path / "acme")
    assert Path(Folders(tmp_path / "other").path("acme")).name != path.name


def deep_tree(path, depth):
    """A tree deeper than any path or stack."""
    here = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def test_erasing_removes_what_is_too_deep_for_any_path(tmp_path):
    """A tree of 3 000 levels goes, the neighbour's files stay, and the folder is new after it."""
    folders = Folders(tmp_path)
    path, neighbour = folders.path("acme"), Path(folders.path("globex"))
    (neighbour / "kept").touch()
    deep_tree(path, 3000)
    assert folders.erase("acme") == 3001
    assert [entry.name for entry in tmp_path.iterdir()] == ["globex"]
    assert [entry.name for entry in neighbour.iterdir()] == ["kept"]
    assert folders.path("acme") != path
    assert folders.erase("nobody") == 0


def test_erasing_ends_what_an_interrupted_deletion_began(tmp_path):
    """What was moved out of reach and not yet removed goes with the next deletion."""
    folders = Folders(tmp_path)
    folders.path("acme")
    (tmp_path / ".erased-1" / "x").mkdir(parents=True)
    folders.erase("acme")
    assert not list(tmp_path.iterdir())


def test_measuring_ends(tmp_path):
    """Bytes and files are counted; what is too deep or too much ends the count above the limit."""
    limits = FileLimits(bytes_max=100, files_max=50)
    (tmp_path / "a").write_bytes(b"x" * 10)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "link").symlink_to("/usr")
    assert measure(str(tmp_path), limits) == Usage(10 + len("/usr"), 3)
    deep_tree(tmp_path / "b", 60)
    assert measure(str(tmp_path), limits).files_used > limits.files_max
    for number in range(200):
        (tmp_path / f"f{number}").touch()
    assert measure(str(tmp_path), limits).files_used < 200


@pytest.mark.parametrize("tenant", ["../x", "", "A", "a/b", ".erased-1"])
def test_a_name_that_is_no_tenants_has_no_folder(tmp_path, tenant):
    """Nothing but a tenant's id becomes a path."""
    with pytest.raises(AssertionError):
        Folders(tmp_path).path(tenant)


def test_measuring_clears_what_ended_processes_left(tmp_path):
    """A draft that is far older than the newest one goes; a young one stays."""
    work = tmp_path / WORK
    (work / "draft-old").mkdir(parents=True)
    (work / "draft-old" / "x").touch()
    os.utime(work / "draft-old", (1000, 1000))
    (work / "draft-new").touch()
    measure(str(tmp_path), FileLimits())
    assert [entry.name for entry in work.iterdir()] == ["draft-new"]
