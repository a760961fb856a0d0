"""file-search: real files, each option, and what it refuses."""

import pytest
import pytest_asyncio

from services.common.errors import Reason
from tests.unit.runtime.tooling import caller, open_toolbox, put, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES = {
    "a.txt": b"one\ntwo needle\nthree\nfour\nNeedle five\n",
    "src/b.py": "näh needle\n".encode(),
    "src/deep/c.csv": b"x needle x\n",
    "src/node_modules/d.csv": b"needle\n",
    "e.bin": b"needle",
    "zeros.txt": b"needle\0",
    "big.txt": b"needle " * 2000,
    "latin.txt": b"\xfc needle\r\n",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def search(tmp_path_factory):
    """Executes a search among the files above."""
    place = tmp_path_factory.mktemp("tenants")
    for name, data in FILES.items():
        put(place, name, data)
    async with open_toolbox(place) as toolbox:

        async def execute(**arguments):
            return (await toolbox.execute("file-search", arguments, caller())).result

        yield execute


async def test_matches_tell_where_they_are(search):
    """File, line, column in characters, the lines around; what was left out and why."""
    found = await search(pattern="needle", context_lines=1)
    where = {m["file_path"]: (m["line_number"], m["column_number"]) for m in found["matches"]}
    assert where == {
        "a.txt": (2, 5),
        "big.txt": (1, 1),
        "latin.txt": (1, 3),
        "src/b.py": (1, 5),
        "src/deep/c.csv": (1, 3),
    }
    first = found["matches"][0]
    assert (first["line_content"], first["matched_text"]) == ("two needle", "needle")
    assert (first["context_before"], first["context_after"]) == (["one"], ["three"])
    reasons = {each["file_path"]: each["reason"] for each in found["skipped_files"]}
    assert reasons == {"e.bin": "its ending is left out", "zeros.txt": "not text"}
    assert found["summary"] == {
        "total_matches": 5,
        "files_searched": 5,
        "files_skipped": 2,
        "has_matches": True,
        "truncated": False,
    }


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        ({"pattern": "NEEDLE", "case_sensitive": False, "path": "a.txt"}, ["a.txt", "a.txt"]),
        ({"pattern": "n.*dle", "use_regex": True, "path": "src"}, ["src/b.py", "src/deep/c.csv"]),
        ({"pattern": "n.*dle"}, []),
        ({"pattern": "needle", "recursive": False}, ["a.txt", "big.txt", "latin.txt"]),
        ({"pattern": "needle", "path": "src", "max_depth": 1}, ["src/b.py"]),
        ({"pattern": "needle", "include_extensions": [".PY"]}, ["src/b.py"]),
        ({"pattern": "needle", "include_extensions": [], "max_file_size": 8}, ["e.bin"]),
        (
            {"pattern": "needle", "exclude_extensions": ["txt", "csv"], "exclude_dirs": []},
            ["src/b.py"],
        ),
        ({"pattern": "e", "path": "a.txt", "max_matches_per_file": 1}, ["a.txt"]),
        ({"pattern": "^näh", "use_regex": True}, ["src/b.py"]),
    ],
)
async def test_options_choose(search, arguments, paths):
    """Each option decides what is found."""
    found = await search(**arguments)
    assert [match["file_path"] for match in found["matches"]] == paths


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"pattern": ""}, Reason.FIELD_INVALID),
        ({"pattern": "(", "use_regex": True}, Reason.FIELD_INVALID),
        ({"pattern": r"(a)\1", "use_regex": True}, Reason.FIELD_INVALID),
        ({"pattern": "x" * 5000}, Reason.LIMIT_EXCEEDED),
        ({"pattern": "x", "path": "../"}, Reason.PATH_REFUSED),
        ({"pattern": "x", "path": "none"}, Reason.FILE_NOT_FOUND),
        ({"pattern": "x", "context_lines": -1}, Reason.FIELD_INVALID),
        ({}, Reason.FIELD_REQUIRED),
    ],
)
async def test_what_is_refused_says_why(search, arguments, reason):
    """A pattern that RE2 does not know and a path outside are refused."""
    assert (await refusal(search(**arguments))).reason == reason


async def test_a_hostile_pattern_takes_no_longer(search):
    """What makes other engines run for ever is linear here."""
    found = await search(pattern="(n+)+$|(e|ee)+x", use_regex=True)
    assert found["summary"]["truncated"] is False
