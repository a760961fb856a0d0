"""Is every function that scripts have called by a script that the tests run?"""

import json
import re

import pytest

from tests.house import tree
from tests.house.test_reference import lua_names

SCRIPTS = tree.ROOT / "tests" / "scripts"
SURFACE = json.loads((SCRIPTS / "surface.json").read_text("utf-8"))


@pytest.mark.parametrize("name", SURFACE)
def test_every_function_of_the_list_is_called(name):
    """In the script of its global, by its name, directly or through pcall."""
    rows, owner = SURFACE[name], name.partition(" ")[0]
    text = (SCRIPTS / rows["file"]).read_text("utf-8")
    for function in rows["functions"]:
        path = re.escape(f"{owner}.{function}").replace(r"\.", "[.:]")
        assert re.search(rf"\b{path}\b\s*[,(){{\"'}}]", text), f"{owner}.{function} is not called"
    for method in rows.get("methods", ()):
        assert re.search(rf"[:.]{method}\b\s*[,(){{]", text), f"{owner}: :{method} is not called"


def test_every_function_that_scripts_have_is_on_the_list():
    """A new function needs a line there, and so a call in a script."""
    listed = {
        f"{name.partition(' ')[0]}.{function}"
        for name, rows in SURFACE.items()
        for function in rows["functions"]
    }
    owners = {name.partition(".")[0] for name in listed}
    tables = {"Replay.modes", "Replay.schedules", "JSON.null"}
    reachable = {name for name in lua_names() if name.partition(".")[0] in owners} - tables
    assert reachable - owners <= listed
    plain = {name for name in listed if name.count(".") == 1}
    assert plain <= reachable, plain - reachable
