"""The files of the project, as house tests see them."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@cache
def tracked() -> tuple[Path, ...]:
    """Files that belong to the project: in git, or about to be; what git ignores does not count."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    if listed.returncode:  # an archive without git
        skipped = {".venv", "__pycache__"}
        files = [path for path in ROOT.rglob("*") if not skipped & set(path.parts)]
        return tuple(path for path in files if path.is_file())
    found = [ROOT / name for name in sorted(set(listed.stdout.split("\0"))) if name]
    return tuple(path for path in found if path.is_file())


def python(*folders: str) -> list[Path]:
    """Our Python files under these folders."""
    return [
        path
        for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).as_posix().startswith(folders)
    ]


def sources() -> list[Path]:
    """Our Python files that are not tests."""
    return python("services/", "clients/", "docs/", "examples/")


@cache
def parsed(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text("utf-8"))


def module_name(path: Path) -> str:
    """The dotted name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[2:] if parts[:2] == ("clients", "python") else parts
    return ".".join(parts).removesuffix(".__init__")


def short(path: Path) -> str:
    """The path as a failure should show it."""
    return path.relative_to(ROOT).as_posix()


def text(name: str) -> str:
    """The content of a file of the project."""
    return (ROOT / name).read_text("utf-8")
