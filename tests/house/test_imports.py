"""Does every module import only what its room allows?"""

import ast
import subprocess
import sys
import tomllib

import pytest

from services.gateway.cli import commands
from tests.house import tree

CONTRACTS = tomllib.loads(tree.text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
ENGINES = next(one["source_modules"] for one in CONTRACTS if one["id"] == "engines")
ENGINES_MAY_USE = {
    "audit_chain",
    "clock",
    "correlation",
    "damage",
    "datafile",
    "errors",
    "expiry",
    "failpoints",
    "filecheck",
    "lifetime",
    "limits",
    "redaction",
    "run_entries",
    "scopes",
    "store",
    "tracing",
    "view",
}
WORKER = ("services/runtime/worker/", "services/runtime/frames.py")
WORKER_MAY_USE = sys.stdlib_module_names | {"lupa"}


def imported(path):
    """Full names of what a file imports, wherever in it; under TYPE_CHECKING too."""
    for node in ast.walk(tree.parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{tree.short(path)} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_import_contracts_hold():
    """The contracts in pyproject.toml hold."""
    lint = "from importlinter.cli import lint_imports_command as main; main()"
    done = subprocess.run(
        [sys.executable, "-c", lint, "--no-cache", "--no-logo"],
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_workers_import_the_standard_library_and_lupa():
    """A worker runs strangers' code, so nothing else is in its memory."""
    for path in tree.python(*WORKER):
        for name in imported(path):
            ours = name.startswith(("services.runtime.worker", "services.runtime.frames"))
            assert ours or name.split(".")[0] in WORKER_MAY_USE, f"{tree.short(path)}: {name}"


def test_a_fresh_worker_has_loaded_no_grpc():
    """What the zygote loads, seen from inside: no grpc, no protobuf, no service."""
    code = (
        "import sys, services.runtime.worker.__main__\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('grpc', 'google', 'llmspell')"
        " or m.startswith('services.') and not m.startswith('services.runtime')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_engines_use_the_shared_vocabulary_only():
    """Of services.common an engine sees what holds for every process, and nothing of the wire."""
    roots = tuple(module.replace(".", "/") for module in ENGINES)
    found = tree.python(*(f"{root}{end}" for root in roots for end in ("/", ".py")))
    assert len(found) >= len(ENGINES)
    for path in found:
        for name in imported(path):
            if name.startswith("services.common"):
                module = name.split(".")[2]
                assert module in ENGINES_MAY_USE, f"{tree.short(path)}: {name}"


def test_every_module_is_used():
    """No module is left that nothing imports, runs or names."""
    files = tree.sources()
    used = {name for path in [*files, *tree.python("tests/")] for name in imported(path)}
    used |= {f"services.gateway.cli.{module}" for module in commands.modules()}
    named = "\n".join(
        path.read_text("utf-8", "replace")
        for path in tree.tracked()
        if path.suffix in {".toml", ".yaml", ".md"}
        or path.name in {"Makefile", "run", "Dockerfile"}
    )
    for path in files:
        name = tree.module_name(path)
        if path.name in {"__init__.py", "__main__.py"} or tree.short(path).startswith("examples/"):
            continue
        direct = name in used or any(one.startswith(f"{name}.") for one in used)
        referenced = direct or name in named or tree.short(path) in named
        assert referenced, f"{name} is not referenced"


@pytest.mark.parametrize("path", tree.python("services/"), ids=tree.short)
def test_services_do_not_read_the_wall_clock(path):
    """Time comes from a Clock, so that tests own it; the command line may show a person's."""
    if path.name == "clock.py" or "/cli/" in tree.short(path):
        return
    for node in ast.walk(tree.parsed(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            call = f"{node.value.id}.{node.attr}"
            assert call not in {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow"}, (
                f"{tree.short(path)}:{node.lineno} uses {call}"
            )


def test_the_vector_process_can_load_all_its_libraries():
    """Onnxruntime crashes where usearch was loaded before grpc; the process has them in order."""
    code = "import services.vector.__main__, onnxruntime"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree.ROOT, check=False)
    assert done.returncode == 0
