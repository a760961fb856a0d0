"""code-search: programs of seven languages, read in a jailed process."""

import pytest
import pytest_asyncio

from services.common.errors import ServiceError, reason_name
from tests.unit.runtime.tooling import caller, open_toolbox, tenant_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROGRAMS = {
    "app/tea.py": """\
# pour is only a word here
class Kettle:
    def pour(self, cup):
        return fill(cup)


def fill(cup):
    text = "pour"
    return cup


def drink():
    Kettle().pour(fill(1))
""",
    "app/tea.go": """\
package tea

type Kettle struct{ Level int }

const Hot = 95

func (k *Kettle) Pour() int { return k.Level }

func Fill() Kettle { return Kettle{} }
""",
    "app/tea.ts": """\
interface Cup { volume(): number }
type Size = number
enum Kind { Green }
export class Kettle { pour(cup: Cup): void {} }
const fill = (cup: Cup) => cup
const level = 3
""",
    "app/tea.js": "function pour() {}\nconst fill = function () {}\n",
    "app/tea.rs": """\
struct Kettle { level: u32 }
trait Pour { fn pour(&self); }
impl Kettle { fn fill(&self) {} }
const HOT: u32 = 95;
macro_rules! tea { () => {} }
""",
    "app/Tea.java": "class Tea { Tea() {} void pour(int cup) {} interface Cup {} }\n",
    "app/tea.c": """\
#define HOT 95
struct kettle { int level; };
typedef struct kettle kettle_t;
static int *pour(struct kettle *k) { return &k->level; }
""",
    "app/broken.py": "def whole():\n    pass\n\nclass Half(:\n  def (\n",
    "node_modules/lib.js": "function hidden() {}\n",
    "notes.txt": "def not_a_program(): pass\n",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolbox(tmp_path_factory):
    """The tools, and acme's folder with the programs."""
    root = tmp_path_factory.mktemp("tenants")
    folder = tenant_folder(root)
    for path, text in PROGRAMS.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    (folder / "large.py").write_text("x = 1\n" * 200_000)
    async with open_toolbox(root) as opened:
        yield opened


@pytest.fixture
def search(toolbox):
    """What is found, for a tenant."""

    async def search(tenant="acme", **arguments):
        return (await toolbox.execute("code-search", arguments, caller(tenant))).result

    return search


def places(found):
    """Path, line and name of each."""
    return [(each["path"], each["line"], each.get("name")) for each in found["matches"]]


DEFINITIONS = {
    "tea.py": "class Kettle, method Kettle.pour, function fill, function drink",
    "tea.go": "type Kettle, constant Hot, method Kettle.Pour, function Fill",
    "tea.ts": "interface Cup, method Cup.volume, type Size, enum Kind, class Kettle, "
    "method Kettle.pour, function fill",
    "tea.js": "function pour, function fill",
    "tea.rs": "struct Kettle, interface Pour, method Pour.pour, method Kettle.fill, constant HOT, "
    "macro tea",
    "Tea.java": "class Tea, method Tea.Tea, method Tea.pour, interface Tea.Cup",
    "tea.c": "macro HOT, struct kettle, type kettle_t, function pour",
    "broken.py": "function whole, class Half",
}


@pytest.mark.parametrize(("file", "expected"), DEFINITIONS.items())
async def test_definitions_of_a_file(search, file, expected):
    """Each with its kind and what it is in; a broken program is read as far as it goes."""
    found = await search(path=f"app/{file}")
    told = [
        f"{each['kind']} {'.'.join(filter(None, (each['container'], each['name'])))}"
        for each in found["matches"]
    ]
    assert ", ".join(told) == expected
    assert (found["files_searched"], found["truncated"]) == (1, False)


async def test_definitions_by_name_and_kind(search):
    """Across files in order of path; large ones and folders of libraries are passed over."""
    found = await search(query="pour")
    assert [path for path, _, _ in places(found)] == [
        "app/Tea.java", "app/tea.c", "app/tea.js", "app/tea.py", "app/tea.rs", "app/tea.ts",
    ]  # fmt: skip
    assert (found["files_searched"], found["files_skipped"]) == (8, 1)
    found = await search(input="P*R", case_sensitive=False, kinds=["method"], languages=["go"])
    assert places(found) == [("app/tea.go", 7, "Pour")]
    (kettle,) = (await search(input="Kettle", languages=["python"]))["matches"]
    assert (kettle["line"], kettle["column"], kettle["end_line"]) == (2, 7, 4)
    assert kettle["text"] == "class Kettle:"
    assert (await search(input="hidden"))["matches"] == []


async def test_uses_of_a_name(search):
    """Definitions and uses are told apart; comments and strings are neither."""
    found = await search(operation="references", name="pour", path="app/tea.py", context_lines=1)
    assert [(each["line"], each["kind"]) for each in found["matches"]] == [
        (3, "definition"), (13, "reference"),
    ]  # fmt: skip
    assert found["matches"][1]["context_before"] == ["def drink():"]
    assert found["matches"][1]["context_after"] == [""]


async def test_text_and_expressions(search):
    """A text is taken as it is; an expression is RE2's; the limit is said to be reached."""
    found = await search(operation="text", input="Kettle().", path="app")
    assert places(found) == [("app/tea.py", 13, None)]
    found = await search(operation="text", pattern=r"fn \w+\(", use_regex=True)
    assert [line for _, line, _ in places(found)] == [2, 3]
    found = await search(operation="text", input="kettle", case_sensitive=False, limit=2)
    assert (found["count"], found["truncated"]) == (2, True)


async def test_folders_are_apart(search):
    """Another tenant has no programs, whatever it asks for."""
    found = await search(tenant="globex")
    assert (found["count"], found["files_searched"]) == (0, 0)
    with pytest.raises(ServiceError) as caught:
        await search(tenant="globex", path="app/tea.py")
    assert reason_name(caught.value.reason) == "FILE_NOT_FOUND"


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({"operation": "references"}, "FIELD_REQUIRED", "input"),
        ({"operation": "text", "input": " "}, "FIELD_REQUIRED", "input"),
        ({"operation": "text", "input": "(", "use_regex": True}, "FIELD_INVALID", "input"),
        ({"languages": ["cobol"]}, "FIELD_INVALID", "languages.0"),
        ({"path": "../acme"}, "PATH_REFUSED", "path"),
        ({"path": "nowhere"}, "FILE_NOT_FOUND", "path"),
        ({"limit": 0}, "FIELD_INVALID", "limit"),
    ],
)
async def test_what_is_wrong_is_named(search, arguments, reason, field):
    """The reason and the parameter."""
    with pytest.raises(ServiceError) as caught:
        await search(**arguments)
    assert reason_name(caught.value.reason) == reason
    assert caught.value.metadata["field"] == field


async def test_a_deep_program_is_read(toolbox, search, tmp_path):
    """Nesting does not end the process: there is no recursion."""
    deep = "(" * 50_000 + "a" + ")" * 50_000
    (tenant_folder(toolbox._folders._root, "deep") / "deep.py").write_text(f"def f():\n  {deep}\n")
    found = await search(tenant="deep", operation="references", input="a")
    assert found["files_searched"] == 1
