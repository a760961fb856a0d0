"""file-converter: real files in several encodings, and what cannot be converted."""

import pytest
import pytest_asyncio

from services.common.errors import Reason
from tests.unit.runtime.tooling import caller, open_toolbox, put, refusal, tenant_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of the tenants."""
    return tmp_path_factory.mktemp("tenants")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def convert(place):
    """Executes a conversion."""
    async with open_toolbox(place) as toolbox:

        async def execute(operation, **arguments):
            arguments["operation"] = operation
            return (await toolbox.execute("file-converter", arguments, caller())).result

        yield execute


TEXT = "Die Größe der Bäume überrascht müde Wanderer; ihr Glück währt länger als gedacht.\n" * 5


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig", "cp1252"])
async def test_an_encoding_is_detected(convert, place, encoding):
    """Marks, UTF-8 and an old encoding of Western Europe are told from the bytes."""
    put(place, "some.txt", TEXT.encode(encoding))
    done = await convert("encoding", path="some.txt", target_path=f"{encoding}.txt")
    assert (tenant_folder(place) / f"{encoding}.txt").read_bytes() == TEXT.encode()
    assert done["to_encoding"] == "utf-8"


async def test_an_encoding_that_is_named_is_used(convert, place):
    """In place, from one named encoding to another."""
    put(place, "jp.txt", "日本語".encode("shift_jis"))
    done = await convert("encoding", path="jp.txt", from_encoding="shift-jis", to_encoding="euc-jp")
    assert (tenant_folder(place) / "jp.txt").read_bytes() == "日本語".encode("euc-jp")
    assert (done["input_path"], done["output_path"]) == ("jp.txt", "jp.txt")


@pytest.mark.parametrize(
    ("ending", "expected"),
    [("lf", b"a\nb\nc\n"), ("windows", b"a\r\nb\r\nc\r\n"), ("cr", b"a\rb\rc\r")],
)
async def test_ends_of_lines(convert, place, ending, expected):
    """Mixed ends become one kind."""
    put(place, "ends.txt", b"a\r\nb\rc\n")
    await convert("line_endings", path="ends.txt", line_ending=ending)
    assert (tenant_folder(place) / "ends.txt").read_bytes() == expected


async def test_indentation(convert, place):
    """Tabs become spaces and back, at the begin of lines only."""
    put(place, "tabs.txt", b"\ta\tb\r\n  \tc\n")
    await convert("indentation", path="tabs.txt", tab_size=4)
    assert (tenant_folder(place) / "tabs.txt").read_bytes() == b"    a\tb\r\n    c\n"
    await convert("indentation", path="tabs.txt", tab_size=2, convert_to_spaces=False)
    assert (tenant_folder(place) / "tabs.txt").read_bytes() == b"\t\ta\tb\r\n\t\tc\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"operation": "encoding", "path": "bytes"}, Reason.TOOL_FAILED),
        ({"operation": "encoding", "path": "jp", "to_encoding": "ascii"}, Reason.TOOL_FAILED),
        ({"operation": "encoding", "path": "jp", "to_encoding": "rot13"}, Reason.FIELD_INVALID),
        ({"operation": "encoding", "path": "jp", "from_encoding": "zip"}, Reason.FIELD_INVALID),
        ({"operation": "encoding", "path": "jp", "from_encoding": "utf-16"}, Reason.TOOL_FAILED),
        ({"operation": "encoding", "path": "none"}, Reason.FILE_NOT_FOUND),
        ({"operation": "encoding", "path": "../x"}, Reason.PATH_REFUSED),
        ({"operation": "line_endings", "path": "jp", "line_ending": "x"}, Reason.FIELD_INVALID),
        ({"operation": "shout", "path": "jp"}, Reason.FIELD_INVALID),
    ],
)
async def test_what_is_refused_leaves_the_file(convert, place, arguments, reason):
    """Each with its reason, and the file is what it was."""
    put(place, "bytes", bytes(range(256)) * 20)
    put(place, "jp", "日本語".encode())
    assert (await refusal(convert(**arguments))).reason == reason
    assert (tenant_folder(place) / "jp").read_bytes() == "日本語".encode()
