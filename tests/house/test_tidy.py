"""Is the tree as a reader should find it?"""

import ast
import re
import statistics

import pytest

from tests.house import tree

LINES_MAX = 500
FUNCTION_LINES_MAX = 70
FUNCTION_LINES_MEDIAN_MAX = 10
FILE_BYTES_MAX = 512 * 1024
TEXT = {
    "", ".c", ".example", ".in", ".json", ".lock", ".lua", ".md", ".proto", ".py", ".rst", ".toml",
    ".txt", ".yaml", ".html", ".typed",
}  # fmt: skip
# Written in two parts, so that this file does not contain them.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
MACHINE = re.compile(
    r"/ho" r"me/[a-z]|/Us" r"ers/[A-Za-z]|/ro" r"ot/|/wo" r"rk/|"
    r"--(extra-)?index-" r"url|\bartifact(ory|s)\.[a-z]+\.[a-z]+|//[^/\s]*pkg\.dev|"
    r"BEGIN [A-Z ]*PRIVATE " r"KEY"
)  # fmt: skip
DATA_FOLDERS = ("examples/documents/", "tests/data/")

texts = [path for path in tree.tracked() if path.suffix in TEXT or path.name.startswith(".")]
written = [path for path in texts if not tree.short(path).startswith(DATA_FOLDERS)]


def functions(path):
    """Every function of a file with its length, its nested ones counted in."""
    for node in ast.walk(tree.parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node, node.end_lineno - node.lineno + 1


def test_nothing_is_left_unfinished():
    """No note to do something later stands in the tree."""
    for path in written:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            assert not UNFINISHED.search(line), f"{tree.short(path)}:{number}: {line.strip()}"


def test_no_machine_or_registry_is_named():
    """No path of anybody's machine, no registry's address and no private key is in the tree."""
    for path in written:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            assert not MACHINE.search(line), f"{tree.short(path)}:{number}: {line.strip()[:200]}"


def test_text_is_clean():
    """UTF-8, Unix line ends, one newline at the end, no trailing blanks."""
    for path in written:
        raw = path.read_bytes()
        name = tree.short(path)
        assert b"\r" not in raw, name
        assert raw.endswith(b"\n") or not raw, f"{name} does not end in a newline"
        assert not raw.endswith(b"\n\n"), f"{name} ends in blank lines"
        for number, line in enumerate(raw.decode("utf-8").splitlines(), 1):
            assert line == line.rstrip(), f"{name}:{number} has trailing blanks"


def test_no_file_is_large():
    """A repository is for text; data over half a megabyte belongs elsewhere."""
    for path in tree.tracked():
        assert path.stat().st_size <= FILE_BYTES_MAX, tree.short(path)


@pytest.mark.parametrize("path", tree.python("services/", "clients/", "docs/"), ids=tree.short)
def test_modules_are_short(path):
    """A module that passes 500 lines owns two things."""
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= LINES_MAX, f"{tree.short(path)} has {lines} lines"


def test_functions_are_short():
    """No function is over 70 lines, and half of them are at most 10."""
    lengths = []
    for path in tree.python("services/", "clients/"):
        for node, length in functions(path):
            assert length <= FUNCTION_LINES_MAX, f"{tree.short(path)}:{node.lineno} {node.name}"
            lengths.append(length)
    assert statistics.median(lengths) <= FUNCTION_LINES_MEDIAN_MAX


def test_test_files_have_names_of_their_own():
    """Two test files of one name would hide each other in a report."""
    names = [path.name for path in tree.python("tests/") if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", tree.python("tests/"), ids=tree.short)
def test_every_test_states_its_claim(path):
    """Each test has a docstring that begins with a sentence."""
    for node, _ in functions(path):
        if node.name.startswith("test_"):
            claim = (ast.get_docstring(node) or "").split("\n\n")[0]
            assert claim.endswith("."), f"{tree.short(path)}:{node.lineno} {node.name}: {claim!r}"


@pytest.mark.parametrize("path", tree.python("services/"), ids=tree.short)
def test_only_the_command_line_prints(path):
    """A service speaks through its log; print is the command line's."""
    if tree.short(path).startswith("services/gateway/cli/"):
        return
    for node in ast.walk(tree.parsed(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{tree.short(path)}:{node.lineno}"


def test_no_name_says_nothing():
    """No module is called utils, helpers, manager, base or misc."""
    empty = {"utils", "util", "helpers", "helper", "base", "misc", "common_utils"}
    for path in tree.python("services/", "clients/", "tests/"):
        assert path.stem not in empty, tree.short(path)


def test_pages_named_in_code_exist():
    """A reader of this tree can open every page that a comment sends them to.

    What stands in quotation marks is a file's name that the code itself uses.
    """
    names = {path.name for path in tree.tracked()}
    absent = []
    for path in tree.tracked():
        if path.suffix in {".py", ".lua", ".proto", ".toml", ".yaml"}:
            ours = re.sub(r"https?://\S+", "", path.read_text("utf-8"))
            ours = re.sub(r'"[^"\n]*\.md"', "", ours)
            for page in re.findall(r"(?<!\*)\b[\w/.-]+\.md\b", ours):
                exists = (tree.ROOT / page).exists() if "/" in page else page in names
                absent += [] if exists else [f"{tree.short(path)}: {page}"]
    assert absent == []


def test_decisions_named_in_code_exist():
    """A decision that code or a page leans on, as in ADR 1, is written down."""
    written_down = {path.name[:4] for path in (tree.ROOT / "docs/adr").glob("*.md")}
    absent = [
        f"{tree.short(path)}: ADR {number}"
        for path in written
        for number in re.findall(r"\bADR (\d+)", path.read_text("utf-8"))
        if f"{int(number):04}" not in written_down
    ]
    assert absent == []
