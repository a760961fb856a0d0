"""Do the pages say what the code does?"""

import ast
import re

import pytest
from llmspell.v1.errors_pb2 import Reason

from docs import generate
from services.common import config, limits
from services.common.access import METHODS
from services.common.status import status_code
from tests.house import tree

REFERENCE = tree.ROOT / "docs" / "reference"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
LUA_GLOBAL = re.compile(
    r"^(?:env|kit\.env)\.([A-Za-z_]\w*)\s*=|^function (?:env|kit\.env)\.(\w+)", re.MULTILINE
)
LUA_MEMBER = re.compile(r"^function ([A-Z]\w*)\.(\w+)", re.MULTILINE)


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


def test_every_lua_global_is_on_the_page():
    """docs/reference/lua.md has every global, and every function of the capitalised tables."""
    text = page("lua")
    found = 0
    for path in tree.tracked():
        if path.suffix == ".lua" and "services/runtime/worker/lua" in tree.short(path):
            source = path.read_text("utf-8")
            names = {first or second for first, second in LUA_GLOBAL.findall(source)}
            members = {f"{table}.{name}" for table, name in LUA_MEMBER.findall(source)}
            for name in names | members:
                assert f"`{name}" in text, f"{tree.short(path)} offers {name}"
            found += len(names | members)
    assert found


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
