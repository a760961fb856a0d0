"""Does every line of the door's checklist name tests that exist?"""

import ast
import re

import pytest

from tests.house import tree

PAGE = tree.text("docs/guide/checklist.md")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "`tests/" in line]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
LINES = {
    "message size", "field limits", "deadlines", "streams", "connections", "admission", "errors",
    "reflection", "identity", "ids and scopes", "paths", "enumeration", "row filters", "API keys",
    "JWT", "TLS", "quotas, rate", "audit", "logs", "at rest", "decompression", "supply chain",
    "containers", "a backend that fails", "all of it at once",
}  # fmt: skip


def test_every_line_is_there_and_names_a_test():
    """No line of the list is left out, and none stands without a test."""
    assert {row.split("|")[1].strip() for row in ROWS} == LINES


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[f"{p}::{n}" for p, n in NAMED])
def test_each_named_test_exists(path, name):
    """A test that is renamed or removed takes its line with it."""
    defined = ast.walk(ast.parse(tree.text(path)))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {each.name for each in defined if isinstance(each, functions)}
