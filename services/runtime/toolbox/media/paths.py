"""What the tools for pictures, sound and films have in common: from where, and to where."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from services.runtime.toolbox.model import Arguments, field_required


def source_of(arguments: Arguments) -> str:
    """The file that is looked at, by either of its names.

    Raises:
        ToolError: FIELD_REQUIRED.
    """
    path = arguments.get("file_path") or arguments.get("source_path")
    if not path:
        raise field_required("file_path")
    return str(path)


def target_of(arguments: Arguments) -> str:
    """The file that is made.

    Raises:
        ToolError: FIELD_REQUIRED.
    """
    path = arguments.get("target_path")
    if not path:
        raise field_required("target_path")
    return str(path)


def ending_of(path: str) -> str:
    """What follows the last dot of a name, such as `mp3`; may be empty."""
    return PurePosixPath(path).suffix.lstrip(".").lower()


def unreadable(path: str) -> dict[str, Any]:
    """What `detect` tells of a file that is none of the tool's."""
    return {"file_path": path, "format": ending_of(path) or "unknown", "supported": False}
