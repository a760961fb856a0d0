"""file-operations: each operation with real files, and what it refuses."""

import asyncio
import os

import pytest
import pytest_asyncio

from services.common.errors import Reason, ServiceError
from services.runtime.tools.folders import FileLimits
from services.runtime.worker.sandbox import NOBODY
from tests.unit.runtime.tooling import caller, open_toolbox, tenant_folder

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
def files(toolbox):
    """Executes one operation."""

    async def execute(operation, *, tenant="acme", **arguments):
        arguments["operation"] = operation
        return await toolbox.execute("file-operations", arguments, caller(tenant))

    return execute


async def refusal(call):
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value


async def test_what_is_written_is_read(files):
    """Text comes back as text, other bytes as bytes, under old parameter names as well."""
    done = await files("write", path="a.txt", content="grüße")
    assert (done.message, done.result["size"]) == ("Wrote 7 bytes to a.txt", 7)
    assert (await files("read", path="a.txt")).result["input"] == "grüße"
    await files("write", path="b", input=b"\xff\0")
    assert (await files("read", path="b")).result["input"] == b"\xff\0"
    part = await files("read", path="a.txt", offset=1, length=1)
    assert (part.result["input"], part.result["file_size"]) == ("r", 7)


async def test_append_adds_to_the_end(files):
    """Appending makes the file where there is none."""
    for line in ("one\n", "two\n"):
        done = await files("append", path="log", input=line)
        assert done.result["appended_size"] == 4
    assert (await files("read", path="log")).result["input"] == "one\ntwo\n"


async def test_folders_are_made_listed_and_removed(files):
    """A folder within a folder; a list in order; nothing is removed by mistake."""
    await files("create_dir", path="d/e/f", recursive=True)
    await files("write", path="d/b", input="2")
    await files("write", path="d/a", input="1")
    listed = (await files("list_dir", path="d")).result
    assert [(entry["path"], entry["type"]) for entry in listed["entries"]] == [
        ("d/a", "file"),
        ("d/b", "file"),
        ("d/e", "directory"),
    ]
    deep = (await files("list_dir", path="d", recursive=True)).result
    assert deep["count"] == 4
    page = (await files("list_dir", path="d", offset=1, limit=1)).result
    assert ([e["name"] for e in page["entries"]], page["count"]) == (["b"], 3)
    assert page["truncated"]
    error = await refusal(files("delete", path="d"))
    assert error.reason == Reason.FIELD_INVALID
    assert (await files("delete", path="d", recursive=True)).result["removed"] == 5
    assert (await files("exists", path="d")).result == {"path": "d", "exists": False}
    assert (await files("exists", path="d")).message == "Path d does not exist"


async def test_files_and_folders_are_copied_and_moved(files):
    """A folder is copied whole, and a move keeps what it moved."""
    await files("create_dir", path="from/in", recursive=True)
    await files("write", path="from/in/x", input="x")
    await files("copy", source_path="from", target_path="copy")
    await files("move", source_path="copy/in/x", target_path="moved")
    await files("copy", source_path="moved", target_path="again")
    assert (await files("read", path="again")).result["input"] == "x"
    assert (await files("exists", path="copy/in/x")).result["exists"] is False
    assert (await files("exists", path="from/in/x")).result["exists"] is True
    kept = await refusal(files("move", path="moved", target_path="again", overwrite=False))
    assert kept.reason == Reason.FILE_EXISTS
    into_itself = await refusal(files("move", source_path="from", target_path="from/in/deeper"))
    assert into_itself.reason == Reason.FIELD_INVALID
    done = await files("copy", source_path="from", target_path="from/in/deeper")
    assert done.result["size"] == 1
    assert (await refusal(files("copy", path="from", target_path="moved"))).reason == (
        Reason.FILE_EXISTS
    )


async def test_metadata_is_the_files(files):
    """Kind, size and times; a file that is not there is named."""
    await files("write", path="m", input="123")
    told = (await files("metadata", path="m")).result
    assert (told["type"], told["size"], told["readonly"]) == ("file", 3, False)
    assert told["modified"] > 1_700_000_000
    error = await refusal(files("metadata", path="none"))
    assert (error.reason, error.metadata["field"]) == (Reason.FILE_NOT_FOUND, "path")


@pytest.mark.parametrize(
    "path", ["../x", "/tmp/x", "a/../../x", ".llmspell/x", "./.llmspell", "a\0b", ""]
)
async def test_a_write_outside_answers_that_it_failed(files, path):
    """A write that is refused is an answer, as scripts of old expect, and says what kind."""
    done = await files("write", path=path, input="x")
    assert done.failure.code in ("PATH_REFUSED", "FIELD_INVALID")
    kind = "security_violation" if done.failure.code == "PATH_REFUSED" else "validation_error"
    assert done.failure.details["error_type"] == kind


@pytest.mark.parametrize(
    ("operation", "arguments", "reason"),
    [
        ("read", {}, Reason.FIELD_REQUIRED),
        ("read", {"path": "none"}, Reason.FILE_NOT_FOUND),
        ("read", {"path": "."}, Reason.PATH_REFUSED),
        ("read", {"path": "x" * 300}, Reason.LIMIT_EXCEEDED),
        ("read", {"path": "/".join("x" * 40)}, Reason.LIMIT_EXCEEDED),
        ("read", {"path": b"\xff"}, Reason.FIELD_INVALID),
        ("append", {"path": "x", "input": {"a": 1}}, Reason.FIELD_INVALID),
        ("append", {"path": "x"}, Reason.FIELD_REQUIRED),
        ("delete", {"path": "."}, Reason.PATH_REFUSED),
        ("delete", {"path": ".llmspell", "recursive": True}, Reason.PATH_REFUSED),
        ("create_dir", {"path": "no/parent"}, Reason.FILE_NOT_FOUND),
        ("move", {"path": "a.txt"}, Reason.FIELD_REQUIRED),
        ("shout", {"path": "a.txt"}, Reason.FIELD_INVALID),
    ],
)
async def test_what_is_refused_says_why(files, operation, arguments, reason):
    """A wrong argument or path is refused with its reason."""
    assert (await refusal(files(operation, **arguments))).reason == reason


async def test_names_that_are_no_text_are_listed_and_removed(files, place):
    """A name that is no UTF-8 does not break a list, and goes with its folder."""
    await files("create_dir", path="odd", tenant="odd")
    odd = os.fsencode(tenant_folder(place, "odd") / "odd") + b"/\xff\xfe"
    os.mkdir(odd)  # noqa: PTH102 - bytes
    if os.geteuid() == 0:
        os.chown(odd, NOBODY, NOBODY)
    listed = (await files("list_dir", path="odd", tenant="odd")).result["entries"]
    assert listed[0]["path"] == "odd/��"
    assert (await files("list_dir", recursive=True, tenant="odd")).result["count"] == 2
    assert (await files("delete", path="odd", recursive=True, tenant="odd")).result["removed"] == 2


async def test_writers_at_once_leave_one_whole_file(files):
    """Of several writes of one file one stays, whole; appends at once are all there."""
    texts = [str(number) * 200_000 for number in range(6)]
    await asyncio.gather(*(files("write", path="one", input=text) for text in texts))
    assert (await files("read", path="one")).result["input"] in texts
    await asyncio.gather(*(files("append", path="all", input=text) for text in texts))
    size = (await files("metadata", path="all")).result["size"]
    assert size == sum(map(len, texts))


async def test_a_full_folder_refuses_and_still_reads_and_removes(tmp_path):
    """The limits of bytes and of files are kept exactly by tools that count, and named."""
    async with open_toolbox(tmp_path, limits=FileLimits(bytes_max=1000, files_max=4)) as toolbox:

        async def files(operation, **arguments):
            arguments["operation"] = operation
            return await toolbox.execute("file-operations", arguments, caller())

        await files("write", path="a", input="x" * 900)
        done = await files("write", path="b", input="x" * 101)
        assert (done.failure.code, done.failure.details["limit"]) == (
            "FILES_FULL",
            "runtime.tenant_files_bytes",
        )
        assert (await files("exists", path="b")).result["exists"] is False
        error = await refusal(files("append", path="a", input="x" * 101))
        assert error.reason == Reason.FILES_FULL
        assert (await files("metadata", path="a")).result["size"] == 900
        usage = (await files("usage")).result
        assert usage == {
            "bytes_used": 900, "bytes_left": 100, "files_used": 1, "files_left": 3
        }  # fmt: skip
        await files("create_dir", path="x/y/z", recursive=True)
        error = await refusal(files("create_dir", path="w"))
        assert error.metadata["limit"] == "runtime.tenant_files_count"
        await files("delete", path="x", recursive=True)
        await files("delete", path="a")
        await files("write", path="b", input="x" * 1000)
