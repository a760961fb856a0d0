"""archive-handler: real archives of each kind, and archives that mean harm."""

import gzip
import io
import stat
import tarfile
import zipfile

import pytest
import pytest_asyncio

from services.common.errors import Reason
from services.runtime.tools.folders import FileLimits
from tests.unit.runtime.tooling import caller, open_toolbox, put, refusal, tenant_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of the tenants."""
    return tmp_path_factory.mktemp("tenants")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolbox(place):
    """The real tools."""
    async with open_toolbox(place) as toolbox:
        yield toolbox


@pytest.fixture(scope="module")
def archive(toolbox):
    """Executes one operation on archives."""

    async def execute(operation, **arguments):
        arguments["operation"] = operation
        return (await toolbox.execute("archive-handler", arguments, caller())).result

    return execute


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
async def test_what_goes_in_comes_out(archive, place, ending):
    """Files and folders survive each kind of archive, and are listed in it."""
    put(place, "in/a.txt", b"a" * 5000)
    put(place, "in/deep/b", b"\0\xff")
    name = f"all-{ending}.{ending}"
    made = await archive("create", path=name, input=["in"])
    assert (made["archived_files"], made["total_size"]) == (2, 5002)
    listed = await archive("list", path=name)
    names = {entry["name"]: entry["is_dir"] for entry in listed["files"]}
    assert names == {"in/a.txt": False, "in/deep": True, "in/deep/b": False}
    done = await archive("extract", path=name, target_path=f"out/{ending}")
    assert done == {"extracted_files": 2, "total_size": 5002, "output_dir": f"out/{ending}"}
    out = tenant_folder(place) / "out" / ending / "in"
    assert ((out / "a.txt").read_bytes(), (out / "deep/b").read_bytes()) == (
        b"a" * 5000,
        b"\0\xff",
    )


async def test_gzip_holds_one_file(archive, place):
    """A gzip file becomes a folder with the one file; several files are refused."""
    put(place, "notes.txt", b"hello")
    await archive("create", path="notes.txt.gz", input="notes.txt")
    assert (await archive("list", path="notes.txt.gz"))["files"][0]["name"] == "notes.txt"
    await archive("extract", path="notes.txt.gz", target_path="unpacked")
    assert (tenant_folder(place) / "unpacked/notes.txt").read_bytes() == b"hello"
    error = await refusal(archive("create", path="x.gz", input=["notes.txt", "notes.txt.gz"]))
    assert error.reason == Reason.FIELD_INVALID


def tar_of(*members):
    """A tar file of (name, type, link, data)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, kind, link, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(data)
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(name, data=b"x", mode=0):
    """A zip file of one member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        made.writestr(info, data)
    return out.getvalue()


FINE = ("fine.txt", tarfile.REGTYPE, "", b"fine")
EVIL = {
    "upward.tar": tar_of(FINE, ("../evil", tarfile.REGTYPE, "", b"x")),
    "inner.tar": tar_of(FINE, ("a/../../evil", tarfile.REGTYPE, "", b"x")),
    "absolute.tar": tar_of(FINE, ("/evil", tarfile.REGTYPE, "", b"x")),
    "soft.tar": tar_of(FINE, ("link", tarfile.SYMTYPE, "/etc", b"")),
    "soft-then-file.tar": tar_of(
        FINE, ("d", tarfile.SYMTYPE, "..", b""), ("d/evil", tarfile.REGTYPE, "", b"x")
    ),
    "hard.tar": tar_of(FINE, ("link", tarfile.LNKTYPE, "fine.txt", b"")),
    "device.tar": tar_of(FINE, ("null", tarfile.CHRTYPE, "", b"")),
    "pipe.tar": tar_of(FINE, ("pipe", tarfile.FIFOTYPE, "", b"")),
    "newline.tar": tar_of(FINE, ("a\nb", tarfile.REGTYPE, "", b"x")),
    "backslash.zip": zip_of("..\\evil"),
    "upward.zip": zip_of("../evil"),
    "absolute.zip": zip_of("/evil"),
    "link.zip": zip_of("link", b"/etc/passwd", stat.S_IFLNK | 0o777),
    "own.zip": zip_of(".llmspell/x"),
}


@pytest.mark.parametrize("name", sorted(EVIL))
async def test_an_archive_that_leads_outside_is_refused_whole(archive, place, name):
    """A member that leads outside, links or devices: nothing is extracted at all."""
    put(place, name, EVIL[name])
    target = "." if name == "own.zip" else f"to-{name}"
    error = await refusal(archive("extract", path=name, target_path=target))
    assert error.reason == Reason.PATH_REFUSED
    root = tenant_folder(place)
    assert not (root / f"to-{name}").exists()
    assert not list((root / ".llmspell").iterdir())
    assert not [path for path in place.rglob("*") if path.name == "evil"]


async def test_bombs_are_refused(archive, place):
    """What unpacks to far more than it is, or says so, is refused before it fills anything."""
    put(place, "bomb.gz", gzip.compress(bytes(60 << 20)))
    ratio = await refusal(archive("extract", path="bomb.gz"))
    assert (ratio.reason, ratio.metadata["field"]) == (Reason.LIMIT_EXCEEDED, "path (unpacked)")
    put(place, "big.zip", zip_of("big", bytes(101 << 20)))
    big = await refusal(archive("extract", path="big.zip"))
    assert big.reason == Reason.LIMIT_EXCEEDED
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as made:
        for number in range(10_001):
            made.writestr(str(number), b"")
    put(place, "many.zip", many.getvalue())
    assert (await refusal(archive("list", path="many.zip"))).reason == Reason.LIMIT_EXCEEDED
    put(place, "deep.tar", tar_of(("d/" * 40 + "f", tarfile.REGTYPE, "", b"")))
    assert (await refusal(archive("extract", path="deep.tar"))).reason == Reason.LIMIT_EXCEEDED
    for name in ("bomb", "big", "deep"):
        assert not (tenant_folder(place) / name).exists()


@pytest.mark.parametrize("name", ["cut.zip", "cut.tar", "cut.tar.gz", "cut.gz", "cut.tar.xz"])
async def test_what_is_no_archive_is_told(archive, place, name):
    """Bytes that are no such archive, and one that is cut off, are refused by name."""
    put(place, name, b"this is no archive at all" * 100)
    assert (await refusal(archive("extract", path=name))).reason == Reason.TOOL_FAILED
    whole = zip_of("a", b"x" * 1000)
    put(place, "half.zip", whole[: len(whole) // 2])
    assert (await refusal(archive("list", path="half.zip"))).reason == Reason.TOOL_FAILED


async def test_nothing_that_is_there_is_replaced(archive, place):
    """Extracting into a folder adds to it, and refuses where a name is taken."""
    put(place, "kept/other", b"1")
    put(place, "some.zip", zip_of("new", b"2"))
    await archive("extract", path="some.zip", target_path="kept")
    root = tenant_folder(place)
    assert sorted(path.name for path in (root / "kept").iterdir()) == ["new", "other"]
    error = await refusal(archive("extract", path="some.zip", target_path="kept"))
    assert error.reason == Reason.FILE_EXISTS


@pytest.mark.parametrize(
    ("operation", "arguments", "reason"),
    [
        ("create", {"path": "x.zip"}, Reason.FIELD_REQUIRED),
        ("create", {"path": "x.rar", "input": ["a"]}, Reason.FIELD_INVALID),
        ("create", {"path": "x.zip", "input": ["nothing"]}, Reason.FILE_NOT_FOUND),
        ("create", {"path": "x.zip", "input": ["../x"]}, Reason.PATH_REFUSED),
        ("extract", {"path": "nothing.zip"}, Reason.FILE_NOT_FOUND),
        ("extract", {"path": "../x.zip"}, Reason.PATH_REFUSED),
    ],
)
async def test_wrong_arguments_are_refused(archive, operation, arguments, reason):
    """Each with its reason; no archive is left behind."""
    assert (await refusal(archive(operation, **arguments))).reason == reason


async def test_a_full_folder_stops_an_extraction(tmp_path):
    """FILES_FULL, and nothing of it is there."""
    async with open_toolbox(tmp_path, limits=FileLimits(bytes_max=10_000)) as toolbox:
        put(tmp_path, "some.zip", zip_of("new", bytes(20_000)))
        put(tmp_path, "some.tar.gz", gzip.compress(tar_of(("x", tarfile.REGTYPE, "", bytes(9900)))))
        for name in ("some.zip", "some.tar.gz"):
            arguments = {"operation": "extract", "path": name, "target_path": "out"}
            error = await refusal(toolbox.execute("archive-handler", arguments, caller()))
            assert error.reason == Reason.FILES_FULL
            assert not (tenant_folder(tmp_path) / "out").exists()
