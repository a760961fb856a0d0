"""Generates and builds the clients of other languages: `python -m tests.clients.build`.

Their sources are copied into the environment's folder and built there, so that the tree stays as
it is and a second build has little to do. Tools come from the Go and npm registries, pinned by
go.sum and package-lock.json.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import google.rpc

ROOT = Path(__file__).parents[2]
SERVICES = ("state", "vector", "script")
"""Of the contract, that the clients use; the files that these lean on come with them."""
_TIMEOUT_S = 600


class BuildError(Exception):
    """A tool has failed, or is not there."""


def go() -> Path:
    """The folder of the Go client, ready for `go test`.

    Raises:
        BuildError: with what the tool said.
    """
    folder = _copied("go", needs=("go",))
    _run(folder, "go", "mod", "download")
    _generate(folder, ROOT, *(f"protos/llmspell/v1/{name}.proto" for name in _files()))
    _run(folder, "go", "test", "-c", "-o", "client.test", ".")
    return folder


def typescript() -> Path:
    """The folder of the TypeScript client, ready for `node --test build`.

    Raises:
        BuildError: with what the tool said.
    """
    folder = _copied("typescript", needs=("node", "npm"))
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".lock"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        _run(folder, "npm", "ci", "--no-fund", "--no-audit")
        shutil.copyfile(lock, installed)
    _generate(folder, ROOT, *(f"protos/llmspell/v1/{name}.proto" for name in _files()))
    details = folder / "details" / "google" / "rpc"
    details.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(google.rpc.__path__[0]) / "error_details.proto", details)
    _generate(folder, folder / "details")
    _run(folder, "node_modules/.bin/tsc")
    return folder


def _files() -> tuple[str, ...]:
    return (*SERVICES, "types", "options")


def _copied(name: str, *, needs: tuple[str, ...]) -> Path:
    for tool in needs:
        if shutil.which(tool) is None:
            raise BuildError(f"there is no {tool} here")
    folder = Path(sys.prefix) / "clients" / name
    shutil.copytree(Path(__file__).parent / name, folder, dirs_exist_ok=True)
    return folder


def _generate(folder: Path, source: Path, *paths: str) -> None:
    chosen = [part for path in paths for part in ("--path", str(source / path))]
    buf = str(Path(sys.executable).parent / "buf")
    _run(folder, buf, "generate", str(source), "--template", "buf.gen.yaml", *chosen)


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
        env={**os.environ, "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"},
    )
    if done.returncode:
        raise BuildError(f"{' '.join(command[:3])}: {(done.stderr or done.stdout)[-2000:]}")


def main() -> int:
    """Build each; say what could not be."""
    for build in (go, typescript):
        try:
            print(f"{build.__name__}: {build()}")
        except BuildError as error:
            print(f"{build.__name__}: not built, its tests will be skipped: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
