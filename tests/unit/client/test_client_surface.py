"""What the client shows: names, signatures, the whole contract, and a quick import."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import llmspell
import pytest
from llmspell import AsyncClient, Client, errors, types
from llmspell._contract import METHODS

OPERATORS_OWN = {
    "AppendAudit",
    "ListEndedSessions",
    "ConfigureVectorTenant",
    "UnloadVectors",
    "PurgeState",
    "PurgeVectors",
    "PurgeFiles",
    "PurgeUsage",
}
"""Called by the gateway when a tenant goes; not by users."""


def public_methods(kind):
    """Public methods by name."""
    return {
        name: method
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_public_names():
    """`llmspell.__all__` is sorted, and each of its names is there and documented."""
    assert list(llmspell.__all__) == sorted(llmspell.__all__)
    assert dir(llmspell) == llmspell.__all__
    for name in llmspell.__all__:
        assert inspect.getdoc(getattr(llmspell, name)), name


def test_public_names_are_these():
    """A name that comes or goes is meant to."""
    assert set(llmspell.__all__) - set(errors.__all__) == {
        "AsyncClient",
        "CheckItem",
        "Client",
        "DeleteItem",
        "Document",
        "IncrementItem",
        "Record",
        "RunLimits",
        "RunLog",
        "RunMetrics",
        "RunOutput",
        "RunResult",
        "RunStarted",
        "SchemaField",
        "SetItem",
    }
    assert set(errors.__all__) <= set(llmspell.__all__)


def test_type_checkers_see_the_same_names():
    """What is loaded lazily is declared for type checkers under the same names."""
    tree = ast.parse(Path(llmspell.__file__).read_text("utf-8"))
    declared = {
        alias.name
        for block in tree.body
        if isinstance(block, ast.If)
        for statement in block.body
        for alias in statement.names
    }
    assert declared == set(llmspell.__all__)


def test_modules_name_what_they_define():
    """`__all__` of errors and types holds every public name of theirs."""
    for module in (errors, types):
        defined = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        }
        assert defined - {"from_rpc"} <= set(module.__all__)


def test_unknown_name_is_an_attribute_error():
    """A wrong name fails as it does in any module."""
    with pytest.raises(AttributeError, match="Clint"):
        _ = llmspell.Clint


def test_both_clients_have_the_same_methods():
    """The asyncio client takes the same arguments and answers the same, awaited."""
    blocking, awaited = public_methods(Client), public_methods(AsyncClient)
    assert blocking.keys() == awaited.keys()
    for name, method in blocking.items():
        here, there = inspect.signature(method), inspect.signature(awaited[name])
        assert here.parameters == there.parameters, name


def test_every_method_of_the_contract_has_a_path():
    """Each RPC's request is built somewhere in the client."""
    folder = Path(llmspell.__file__).parent
    sources = "".join(path.read_text("utf-8") for path in folder.glob("_*.py"))
    missing = {
        method.name for method in METHODS.values() if f"{method.name}Request(" not in sources
    }
    assert missing == OPERATORS_OWN


def test_each_request_belongs_to_one_method():
    """The path of a call follows from its request; the contract shares no request."""
    assert len({method.path for method in METHODS.values()}) == len(METHODS)


def loaded_by(statement):
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return set(done.stdout.split())


def test_import_is_quick():
    """`import llmspell` loads neither grpc nor protobuf; the contract's messages load no grpc."""
    assert not {"grpc", "google"} & loaded_by("import llmspell")
    assert "grpc" not in loaded_by("import llmspell.v1.errors_pb2")


def test_client_imports_nothing_of_the_services():
    """The client's distribution stands alone."""
    loaded = loaded_by("from llmspell import Client, AsyncClient, Document")
    assert not {"services", "numpy", "typer", "rich"} & loaded
