"""process-executor: real programs in the jail, and what they cannot do there."""

import time

import pytest
import pytest_asyncio

from services.common.errors import Reason
from tests.unit.runtime.tooling import caller, open_toolbox, put, refusal, tenant_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of the tenants; beside them a file that is nobody's to read."""
    place = tmp_path_factory.mktemp("tenants")
    (place / "beside").write_text("not yours")
    put(place, "theirs.txt", b"globex", tenant="globex")
    return place


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program(place):
    """Runs a program in acme's folder."""
    put(place, "words.txt", b"pear\napple\napple\nfig\n")
    put(place, "in/deep.txt", b"needle\n")
    async with open_toolbox(place) as toolbox:

        async def execute(executable, *arguments, **more):
            asked = {"executable": executable, "arguments": list(arguments), **more}
            return (await toolbox.execute("process-executor", asked, caller())).result

        yield execute


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (["echo", "a", "$HOME", "`id`", "*"], "a $HOME `id` *\n"),
        (["cat", "in/deep.txt"], "needle\n"),
        (["head", "-n1", "words.txt"], "pear\n"),
        (["tail", "-n1", "words.txt"], "fig\n"),
        (["wc", "-l", "words.txt"], "4 words.txt\n"),
        (["grep", "-rn", "need", "."], "./in/deep.txt:1:needle\n"),
        (["find", ".", "-name", "deep*"], "./in/deep.txt\n"),
        (["sort", "-u", "words.txt"], "apple\nfig\npear\n"),
        (["uniq", "words.txt"], "pear\napple\nfig\n"),
        (["ls", "-l", "in/deep.txt"], None),
        (["uname"], "Linux\n"),
        (["date", "-d@0", "+%Y"], "1970\n"),
        (["test", "-f", "words.txt"], ""),
        (["which", "grep"], "/usr/bin/grep\n"),
    ],
)
async def test_each_program_runs(program, command, output):
    """Without a shell, in the tenant's folder."""
    done = await program(*command)
    assert (done["exit_code"], done["stderr"], done["success"]) == (0, "", True)
    assert output is None or done["stdout"] == output


async def test_where_it_runs_and_what_it_is_told(program, place):
    """The folder, the environment, an exit code that is not 0."""
    done = await program("pwd", working_directory="in")
    assert done["stdout"].strip() == str(tenant_folder(place) / "in")
    year = await program("date", "-d@0", "+%H", environment={"TZ": "Asia/Tokyo"})
    assert year["stdout"] == "09\n"
    assert (await program("grep", "nothing", "words.txt"))["exit_code"] == 1


@pytest.mark.parametrize("name", ["rm", "sh", "/bin/sh", "curl", "../bin/ls", "./ls", "find ."])
async def test_no_other_program_runs(program, name):
    """A program that is not on the list is refused by name."""
    assert (await refusal(program(name))).reason == Reason.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"environment": {"LD_PRELOAD": "x"}}, Reason.FIELD_INVALID),
        ({"working_directory": "../"}, Reason.PATH_REFUSED),
        ({"working_directory": "words.txt"}, Reason.FILE_NOT_FOUND),
        ({"timeout_seconds": 60}, Reason.FIELD_INVALID),
    ],
)
async def test_wrong_arguments_are_refused(program, asked, reason):
    """Each with its reason."""
    assert (await refusal(program("ls", **asked))).reason == reason
    assert (await refusal(program("echo", "a\0b"))).reason == Reason.FIELD_INVALID
    assert (await refusal(program("echo", "x" * 70_000))).reason == Reason.LIMIT_EXCEEDED


async def test_nothing_outside_the_folder_is_read(program, place):
    """Absolute paths, upward paths, another tenant's folder whose path is known, /proc."""
    theirs = tenant_folder(place, "globex") / "theirs.txt"
    for path in ("/etc/passwd", "../../beside", str(theirs), "/proc/1/environ", "/proc/self/maps"):
        done = await program("cat", path)
        assert (done["exit_code"], done["stdout"]) == (1, ""), path
    listed = await program("ls", "..")
    assert (listed["exit_code"], listed["stdout"]) == (2, "")
    found = await program("find", "/", "-maxdepth", "2", "-name", "passwd")
    assert "passwd" not in found["stdout"]


@pytest.mark.parametrize(
    "command",
    [
        ["find", ".", "-name", "words.txt", "-exec", "/bin/echo", "ran", ";"],
        ["find", ".", "-name", "words.txt", "-execdir", "/bin/sh", "-c", "echo ran", ";"],
        ["find", ".", "-name", "words.txt", "-ok", "/bin/echo", "ran", ";"],
    ],
)
async def test_a_program_starts_no_other(program, command):
    """What would run another program cannot: there are no forks."""
    assert "ran" not in (await program(*command))["stdout"]


async def test_sort_starts_no_compressor(program, place):
    """Its option to run any program on what it spills runs none."""
    put(place, "many.txt", b"".join(b"%d\n" % (n * 7919 % 100_003) for n in range(100_000)))
    done = await program("sort", "-S", "50k", "-T", ".", "--compress-program=/bin/cat", "many.txt")
    assert done["exit_code"] != 0 or "1\n" in done["stdout"]
    assert done["stderr"] == "" or "fork" in done["stderr"] or "create" in done["stderr"]


async def test_what_a_program_writes_stays_in_the_folder(program, place):
    """Options that write work within the folder, and nowhere else; no link can be made."""
    assert (await program("sort", "-o", "sorted.txt", "words.txt"))["exit_code"] == 0
    assert (tenant_folder(place) / "sorted.txt").read_bytes() == b"apple\napple\nfig\npear\n"
    for target in ("../../evil", "/tmp/evil", "/dev/shm/evil"):
        assert (await program("sort", "-o", target, "words.txt"))["exit_code"] == 2
        assert (await program("find", ".", "-fprintf", target, "x"))["exit_code"] == 1
    await program("find", "in", "-delete")
    assert not (tenant_folder(place) / "in").exists()
    assert (place / "beside").exists()
    put(place, "in/deep.txt", b"needle\n")


async def test_limits_of_time_and_output(program, place):
    """A program that waits is ended in time; one that talks is cut."""
    begin = time.monotonic()
    done = await program("tail", "-f", "words.txt", timeout_seconds=0.5)
    assert (done["timed_out"], done["success"]) == (True, False)
    assert time.monotonic() - begin < 5
    put(place, "long.txt", b"x" * (2 << 20))
    cut = await program("cat", "long.txt")
    assert (cut["truncated"], len(cut["stdout"])) == (True, 900 * 1024)


async def test_a_program_that_takes_the_tools_own_name_breaks_nothing(place):
    """A file called like the folder for what is not finished gives way to it."""
    put(place, ".llmspell", b"in the way", tenant="odd")
    async with open_toolbox(place) as toolbox:
        asked = {"operation": "write", "path": "fine", "input": "x"}
        done = await toolbox.execute("file-operations", asked, caller("odd"))
    assert done.failure is None
