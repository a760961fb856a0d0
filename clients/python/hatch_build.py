"""Generates `llmspell.v1` from the contract, at install and at build alike.

The proto package equals the import path, so nothing is rewritten. Run as a script it only
generates (`make proto`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROTOS = HERE.parent.parent / "protos"


def generate() -> None:
    """Write the Python modules, their type stubs and the gRPC stubs beside `llmspell/v1`.

    An sdist carries them already and has no `protos` folder; then there is nothing to do.
    """
    if not PROTOS.is_dir():
        return
    import grpc_tools  # noqa: PLC0415  (an installation from an sdist does not have it)
    from grpc_tools import protoc  # noqa: PLC0415

    included = Path(grpc_tools.__file__).parent / "_proto"
    files = sorted(str(path) for path in PROTOS.rglob("*.proto"))
    outputs = [f"--{kind}_out={HERE}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{included}", *outputs, *files]) != 0:
        sys.exit("protoc failed")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script where hatchling is not installed
    pass
else:

    class ContractHook(BuildHookInterface):  # type: ignore[type-arg]
        """Generates before hatchling collects files."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
            """Called by hatchling before every build, editable ones included."""
            generate()


if __name__ == "__main__":
    generate()
