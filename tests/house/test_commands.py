"""Do the commands that the pages name exist, and are the lock files whole?"""

import re
import shlex
import stat
import subprocess
import tomllib

import pytest

from docs import generate
from services.common.context import read_key
from services.gateway.keys import OPERATOR_ID, read_credential
from tests.house import tree

LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-bench.lock",
    "requirements-local-model.lock",
)
NAMED = re.compile(r"(?:^|`)make ([a-z][a-z-]*)", re.MULTILINE)
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)


def targets():
    """The Makefile's targets that a person calls."""
    return set(re.findall(r"^([a-z-]+):.* ## ", tree.text("Makefile"), re.MULTILINE))


def pins(lock):
    """Names and versions of a lock file."""
    return dict(PIN.findall(tree.text(lock)))


@pytest.mark.parametrize(
    "path", [path for path in tree.tracked() if path.suffix == ".md"], ids=tree.short
)
def test_commands_in_pages_exist(path):
    """Every `make …` that a page tells to type is a target with a line of help."""
    if not tree.short(path).startswith("examples/documents/"):
        assert set(NAMED.findall(path.read_text("utf-8"))) <= targets()


def test_readme_names_the_two_commands():
    """The README's first commands are `make run` and `make test`."""
    named = NAMED.findall(tree.text("README.md"))
    assert named[:2] == ["run", "test"]


def test_help_is_first_and_complete():
    """`make` alone prints every target."""
    done = subprocess.run(["make"], cwd=tree.ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"make ([a-z-]+)", done.stdout)) == targets()


def test_ci_runs_what_check_runs():
    """`.ci/run` and `make check` run the same targets in the same order."""
    check = re.search(r"^check: ([a-z -]+) ##", tree.text("Makefile"), re.MULTILINE)
    looped = re.search(r"^for target in ([a-z -]+);", tree.text(".ci/run"), re.MULTILINE)
    assert check
    assert looped
    assert looped[1].split() == ["install-dev", *check[1].split()]


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_have_hashes_and_no_address(lock):
    """Each pin has a sha256; no line names a server."""
    text = tree.text(lock)
    assert "://" not in text
    for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_locks_agree():
    """The lock for tests has every pin of the lock for running, at the same version."""
    runtime, dev = pins(LOCKS[0]), pins(LOCKS[1])
    assert runtime.items() <= dev.items()


@pytest.mark.parametrize("name", ["pyproject.toml", "clients/python/pyproject.toml"])
def test_dependencies_are_locked_and_have_reasons(name):
    """Every dependency is pinned in a lock file and says in one comment what it is for."""
    project = tomllib.loads(tree.text(name))["project"]
    extras = project.get("optional-dependencies", {})
    for wanted in [*project["dependencies"], *(one for many in extras.values() for one in many)]:
        bare = re.match(r"[A-Za-z0-9._-]+", wanted)
        assert bare
        assert bare[0] == "llmspell" or bare[0].lower() in pins(LOCKS[1]), wanted
        assert re.search(rf'"{re.escape(wanted)}", *# \w.+', tree.text(name)), wanted


def test_nothing_heavy_is_installed():
    """No CUDA, no torch: the local model runs on the processor by onnxruntime."""
    heavy = [name for name in pins(LOCKS[1]) if re.match(r"nvidia|torch|triton|tensorflow", name)]
    assert heavy == []


def llmspell_lines():
    """Each `llmspell …` that a page's shell block tells to type, with its page."""
    for path in tree.tracked():
        if path.suffix != ".md" or tree.short(path).startswith("examples/documents/"):
            continue
        for block in re.findall(
            r"^```sh\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL
        ):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0].removeprefix(".venv/bin/") == "llmspell":
                    yield tree.short(path), words[1:]


def test_llmspell_commands_in_pages_exist():
    """Every `llmspell …` of a page is a command that has the options it is given."""
    known = dict(generate.commands())
    seen = set()
    runs = {name.split()[2] for name in known if name.startswith("llmspell run ")}
    for page, words in llmspell_lines():
        if words[0] == "run" and words[1] not in runs:  # `run FILE` is `run script FILE`
            words.insert(1, "script")
        names = [name for name in known if words[: name.count(" ")] == name.split()[1:]]
        assert names, f"{page}: llmspell {' '.join(words)}"
        options = {one for option in known[names[0]].params for one in option.opts}
        ours = words[: words.index("--")] if "--" in words else words
        given = {word.partition("=")[0] for word in ours if re.match(r"--?[a-z]", word)}
        assert given <= options, f"{page}: llmspell {' '.join(words)}"
        seen.add(names[0])
    assert len(seen) > 10


def test_secrets_are_made_once_and_kept(tmp_path):
    """`make secrets` writes two keys that the processes read, and leaves them at a second call."""
    make = ["make", "--silent", "--file", str(tree.ROOT / "Makefile"), "secrets"]
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    folder = tmp_path / "secrets"
    before = {file.name: file.read_text() for file in folder.iterdir()}
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == before
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(read_key(folder / "context_key")) == 32
    credential = read_credential(before["operator_key"].strip())
    assert credential is not None
    assert credential.key_id == OPERATOR_ID
