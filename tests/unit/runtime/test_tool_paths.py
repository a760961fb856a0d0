"""The tenant's folder against an attacker: links, races, fullness; each layer without the other."""

import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
import pytest_asyncio

from services.common.errors import Reason
from services.runtime.toolbox import folder as folders
from services.runtime.toolbox.folder import Folder
from services.runtime.toolbox.model import ToolError
from tests.unit.runtime.tooling import caller, open_toolbox, put, refusal, tenant_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")

ZYGOTES = ("tests.unit.runtime.tool_zygote", "tests.unit.runtime.unlandlocked_tool_zygote")


@pytest.fixture(scope="module")
def place():
    """Tenants' folders, which anybody may walk to; beside them files that anybody may read."""
    place = Path(tempfile.mkdtemp())  # not pytest's, which nobody else may walk to
    place.chmod(0o755)
    for name in ("beside", "linked"):
        (place / name).write_text("not yours")
        (place / name).chmod(0o666)
    put(place, "theirs", b"globex", tenant="globex")
    put(place, "inside/note", b"mine")
    root = tenant_folder(place)
    (root / "soft").symlink_to(place / "beside")
    (root / "up").symlink_to("../..")
    (root / "own").symlink_to("inside/note")
    os.link(place / "linked", root / "hard")
    os.mkfifo(root / "pipe")
    yield place
    shutil.rmtree(place)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ZYGOTES, ids=["all", "paths"])
async def obey(place, request):
    """Executes what a stranger says; with all layers, and without Landlock."""
    async with open_toolbox(place, zygote=request.param) as toolbox:

        async def execute(source, tool="obey-with-files"):
            return (await toolbox.execute(tool, {"source": source}, caller())).result

        yield execute


READS = ["folder.read(PATH)", "list(folder.names(PATH))", "folder.stat(PATH)"]
WRITES = [
    "folder.write(PATH, b'x')",
    "folder.write(PATH, b'x', append=True)",
    "folder.make_folder(PATH + '/new', parents=True)",
    "folder.copy('inside/note', PATH)",
    "folder.move('inside/note', PATH)",
    "folder.copy(PATH, 'stolen')",
    "folder.move(PATH, 'stolen')",
    "folder.remove(PATH, recursive=True)",
]
OUTSIDE = [
    "soft",
    "up/beside",
    "own",
    "hard",
    "pipe",
    "../../beside",
    "/etc/hostname",
    ".llmspell/x",
]


@pytest.mark.parametrize("path", OUTSIDE)
async def test_no_operation_follows_a_path_that_leads_outside(obey, place, path):
    """Links of every kind, devices, upward and absolute paths: refused by each operation."""
    for each in READS + WRITES:
        call = each.replace("PATH", repr(path)).replace("folder.", "desk.folder.")
        error = await refusal(obey(call))
        known = (Reason.PATH_REFUSED, Reason.FILE_NOT_FOUND, Reason.FILE_EXISTS)
        assert error.reason in known, (each, error)
    assert (place / "beside").read_text() == "not yours"
    assert (tenant_folder(place) / "inside/note").read_bytes() == b"mine"
    assert not (tenant_folder(place) / "stolen").exists()


async def test_a_link_that_comes_and_goes_is_never_followed(obey, place):
    """Someone swaps a folder for a link to another one, as fast as they can, while tools read."""
    root = tenant_folder(place)
    (place / "elsewhere").mkdir(exist_ok=True)
    (place / "elsewhere/note").write_text("not yours")
    (place / "elsewhere").chmod(0o755)
    (place / "elsewhere/note").chmod(0o644)
    put(place, "real/note", b"mine")
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            (root / "swapped").unlink(missing_ok=True)
            os.rename(root / "real", root / "swapped")  # noqa: PTH104
            os.rename(root / "swapped", root / "real")  # noqa: PTH104
            (root / "swapped").symlink_to(place / "elsewhere")

    swapper = threading.Thread(target=swap)
    swapper.start()
    source = (
        "seen = set()\n"
        "for _ in range(3000):\n"
        "    try: seen.add(desk.folder.read('swapped/note').decode())\n"
        "    except Exception as error: seen.add(getattr(error, 'reason', repr(error)))\n"
        "result = sorted(seen)"
    )
    try:
        seen = await obey(source)
    finally:
        stop.set()
        swapper.join()
        (root / "swapped").unlink(missing_ok=True)
    assert set(seen) <= {"mine", "FILE_NOT_FOUND", "PATH_REFUSED"}
    assert "PATH_REFUSED" in seen


async def test_the_kernel_holds_without_the_paths(place):
    """Python itself, in a stranger's hands, reads and writes nothing of another tenant's."""
    theirs = tenant_folder(place, "globex")
    async with open_toolbox(place, zygote=ZYGOTES[0]) as toolbox:
        for tool in ("obey-with-files", "obey-with-programs"):
            for act in (
                f"open('{theirs}/theirs').read()",
                f"open('{theirs}/new', 'w')",
                f"os.listdir('{theirs}')",
                f"os.unlink('{theirs}/theirs')",
                f"os.rename('{theirs}/theirs', 'stolen')",
                f"os.truncate('{theirs}/theirs', 0)",
                f"os.listdir('{place}')",
                f"os.listdir('{theirs.parent}')",
                "open('/proc/self/maps').read()",
                "os.listdir('/proc/self/fd')",
            ):
                source = (
                    "os.fchdir(desk.folder.descriptor)\n"
                    f"try: result = repr({act})\n"
                    "except OSError as error: result = error.errno"
                )
                asked = {"source": source}
                said = (await toolbox.execute(tool, asked, caller())).result
                assert said in (1, 2, 13, 18), (act, said)
    assert (theirs / "theirs").read_bytes() == b"globex"


@pytest.mark.parametrize(
    "act",
    [
        "os.truncate('sparse', 1 << 40)",
        "os.pwrite(os.open('sparse', os.O_RDWR), b'x', 1 << 40)",
        "os.posix_fallocate(os.open('sparse', os.O_RDWR), 0, 1 << 30)",
    ],
)
async def test_a_file_that_only_seems_large_is_refused(obey, act):
    """Holes count as bytes: no file is larger than an execution may write."""
    source = (
        "desk.folder.write('sparse', b'x'); os.fchdir(desk.folder.descriptor)\n"
        f"try: result = repr({act})\nexcept OSError as error: result = error.errno"
    )
    assert await obey(source) in (1, 27)


async def test_a_folder_of_too_many_entries_is_refused(tmp_path, monkeypatch):
    """What is listed is bounded, before it is sorted."""
    monkeypatch.setattr(folders, "ENTRIES_MAX", 10)
    for number in range(11):
        (tmp_path / str(number)).touch()
    descriptor = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(ToolError) as caught:
            list(Folder(descriptor).names("."))
        assert caught.value.reason == "LIMIT_EXCEEDED"
    finally:
        os.close(descriptor)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one mebibyte."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a file system of its own needs the right to mount one")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_is_told_and_leaves_nothing(small_disk):
    """FILES_FULL names the disk; nothing half written stays; removing makes room again."""
    async with open_toolbox(small_disk) as toolbox:

        async def files(operation, **arguments):
            arguments["operation"] = operation
            return await toolbox.execute("file-operations", arguments, caller())

        await files("write", path="a", input="x" * 700_000)
        done = await files("write", path="b", input="x" * 700_000)
        assert (done.failure.code, done.failure.details["limit"]) == ("FILES_FULL", "disk")
        error = await refusal(files("append", path="a", input="x" * 700_000))
        assert (error.reason, error.metadata["limit"]) == (Reason.FILES_FULL, "disk")
        error = await refusal(files("copy", source_path="a", target_path="c"))
        assert error.reason == Reason.FILES_FULL
        listed = (await files("list_dir")).result["entries"]
        assert [(entry["name"], entry["size"]) for entry in listed] == [("a", 700_000)]
        assert not list((tenant_folder(small_disk) / ".llmspell").iterdir())
        await files("delete", path="a")
        assert (await files("write", path="b", input="x" * 700_000)).failure is None
