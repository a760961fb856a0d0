"""Do the pages say what the code does?"""

import ast
import re

import msgspec
import pytest
from llmspell.v1.errors_pb2 import Reason

from docs import generate
from services.common import config, limits
from services.common.access import METHODS
from services.common.status import status_code
from services.runtime.worker import vm
from tests.house import tree

REFERENCE = tree.ROOT / "docs" / "reference"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def page(name):
    """A reference page's text."""
    return (REFERENCE / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("path", generate.pages(), ids=tree.short)
def test_generated_pages_are_current(path):
    """What `make docs` would write is what is there."""
    assert path.read_text("utf-8") == generate.pages()[path], "run `make docs`"


def test_every_method_is_on_the_page():
    """docs/reference/rpc.md has every RPC, with its permission."""
    text = page("rpc")
    for method in METHODS.values():
        section = text.partition(f"\n### {method.descriptor.name}\n")[2].partition("\n###")[0]
        assert f"Permission `{method.permission}`" in section, method.path


def test_everything_in_the_contract_has_a_comment():
    """No field, method or value of the contract is left without words."""
    for line in page("rpc").splitlines():
        assert not re.fullmatch(r"\| `\w+` \| [^|]+ \|  \||- `\w+`: ", line), line


def test_every_reason_is_on_the_page():
    """docs/reference/errors.md has every reason with its status and what it means."""
    text = page("errors")
    for name, number in Reason.items():
        if number:
            row = rf"\| `{name}` \| {status_code(number).name} \| \S.+ \|"
            assert re.search(row, text), name


def test_every_setting_is_on_the_page_and_in_the_example():
    """docs/reference/config.md and llmspell.toml.example have every key."""
    text, example = page("config"), tree.text("llmspell.toml.example")
    assert example == config.example()
    for table, key, _, default, meaning in config.describe():
        assert f"`{table}.{key}`" in text
        assert f"# {key} = {config.toml_text(default)}\n" in example.partition(f"[{table}]")[2]
        assert meaning, f"{table}.{key} has no docstring"


def test_the_example_is_a_configuration(tmp_path):
    """With every line of the example in force the settings are the defaults."""
    text = tree.text("llmspell.toml.example")
    keys = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    file = tmp_path / "llmspell.toml"
    file.write_text(keys)
    assert config.load_settings(file, {}) == config.load_settings(None, {})
    assert keys != text


def test_every_limit_is_on_the_page():
    """docs/reference/limits.md has every number of limits.py."""
    text = page("limits")
    for name in vars(limits):
        if name.isupper() and name != "MIB":
            assert f"`{name}`" in text, name


def test_every_command_is_on_the_page():
    """docs/reference/cli.md has every command of the program."""
    text = page("cli")
    assert text.count("\n## llmspell ") >= len(generate.commands())
    for name, command in generate.commands():
        assert f"\n## {name}\n" in text
        assert command.help, f"{name} says nothing of itself"


WALK = b"""
local names = {}
for name, value in pairs(_G) do
  if type(value) ~= "table" or name == "_G" then
    names[#names + 1] = "_G." .. name
  else
    names[#names + 1] = name
    if name ~= "ARGS" and name ~= "arg" then
      for member in pairs(value) do names[#names + 1] = name .. "." .. member end
    end
  end
end
return names
"""


def lua_names():
    """Everything that a script can reach by name, asked in the real VM."""
    said = []

    def callback(operation, data):
        said.append((operation, data))
        return 0

    _, prepare, go = vm.build(callback)
    numbers = (1024, 2**20, 64, 10_000)
    prepare(WALK, b"walk", msgspec.msgpack.encode({}), False, *numbers, b"", 1, 2, b"")  # noqa: FBT003
    go()
    (operation, result) = said[-1]
    assert operation == b"r", result
    return msgspec.json.decode(result)


def test_every_lua_name_is_on_the_page():
    """docs/reference/lua.md has every global and every function that a script can reach."""
    text = page("lua")
    names = lua_names()
    assert "RAG.search" in names
    for name in names:
        table, _, member = name.partition(".")
        row = next((line for line in text.splitlines() if line.startswith(f"| `{table}` |")), "")
        assert f"`{name}" in text or f"`{member}`" in row, f"a script can reach {name}"


def test_every_limit_is_used():
    """A number in limits.py that nothing reads limits nothing."""
    read = _attributes_and_names("services/")
    assert [name for name in vars(limits) if name.isupper() and name not in read] == []


def test_every_setting_is_used():
    """A setting that nothing reads sets nothing."""
    read = _attributes_and_names("services/")
    assert [f"{t}.{key}" for t, key, *_ in config.describe() if key not in read] == []


def test_every_reason_is_raised():
    """A reason that nothing raises is a promise of nothing."""
    read = _attributes_and_names("services/", "clients/")
    text = "".join(path.read_text("utf-8") for path in tree.python("services/", "clients/"))
    unused = [
        n for n, number in Reason.items() if number and n not in read and f'"{n}"' not in text
    ]
    assert unused == []


def _attributes_and_names(*folders):
    read = set()
    for path in tree.python(*folders):
        if path.name == "limits.py":
            continue
        for node in ast.walk(tree.parsed(path)):
            if isinstance(node, ast.Attribute):
                read.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                read.add(node.id)
    return read


def _markdown():
    return [path for path in tree.tracked() if path.suffix == ".md"]


@pytest.mark.parametrize("path", _markdown(), ids=tree.short)
def test_links_lead_somewhere(path):
    """Every link to a file of the project leads to one, and its anchor to a heading."""
    if tree.short(path).startswith("examples/documents/"):
        return
    for target in LINK.findall(path.read_text("utf-8")):
        name, _, anchor = target.partition("#")
        if "://" in name:
            continue
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{tree.short(path)}: {target}"
        if anchor:
            assert anchor in _anchors(file), f"{tree.short(path)}: {target}"


def _anchors(file):
    headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
