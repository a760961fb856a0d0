"""ffmpeg and ffprobe, where they are installed: in the jail, on files of the tenant's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.folder import Folder
from services.runtime.toolbox.model import failed, limit_exceeded, not_implemented
from services.runtime.toolbox.paths import WORK, checked_path
from services.runtime.toolbox.programs import Ended, find_program, run_program

FFMPEG, FFPROBE = find_program("ffmpeg"), find_program("ffprobe")
"""Looked up before the jail."""
_QUIET = ("-hide_banner", "-v", "error", "-nostdin")
_OUTPUT_BYTES = 512 * 1024
_REASON_LENGTH_MAX = 500


def missing() -> str:
    """Why nothing here works, or nothing."""
    return "" if FFMPEG and FFPROBE else "ffmpeg is not installed on this machine."


def checked_source(desk: Desk, path: str, most_bytes: int) -> int:
    """A file's size in bytes.

    Raises:
        ToolError: as `Folder.file`; LIMIT_EXCEEDED.
    """
    with desk.folder.file(path, field="file_path") as file:
        size = os.fstat(file.fileno()).st_size
    if size > most_bytes:
        raise limit_exceeded("file_path", size, most_bytes, "bytes")
    return size


def probe(desk: Desk, path: str, *, wall_s: float) -> dict[str, Any]:
    """What ffprobe says of a file: `format` and `streams`.

    Raises:
        ToolError: TOOL_FAILED where it is neither sound nor film; NOT_IMPLEMENTED.
    """
    if FFPROBE is None:
        raise not_implemented(missing())
    shown = ("-show_format", "-show_streams", "-of", "json")
    command = [FFPROBE, *_QUIET[:3], "-protocol_whitelist", "file", *shown, _url(path)]
    ended = _run(desk.folder, command, wall_s, path)
    known: dict[str, Any] = json.loads(ended.stdout)
    return known


def make(
    desk: Desk, source: str, target: str, options: Sequence[str], ending: str, *, wall_s: float
) -> int:
    """Let ffmpeg make `target` of `source`, whole or not at all; tells its size in bytes.

    Args:
        desk: Of the tool.
        source: File that is read.
        target: File that is made or replaced.
        options: Between the two.
        ending: Such as `mp3`; says what is made.
        wall_s: Seconds on the clock.

    Raises:
        ToolError: TOOL_FAILED, FILES_FULL, NOT_IMPLEMENTED.
    """
    if FFMPEG is None:
        raise not_implemented(missing())
    folder = desk.folder
    with folder.drafting() as (draft, name):
        made = f"made.{ending}"
        inputs = ("-protocol_whitelist", "file", "-i", _url(source))
        output = f"file:{WORK}/{name}/{made}"
        threads = ("-threads", "2", "-y")
        command = [FFMPEG, *_QUIET, *inputs, "-map_metadata", "0", *options, *threads, output]
        _run(folder, command, wall_s, source)
        known = draft.stat(made)
        if known is None:
            raise failed(f"ffmpeg made nothing of {source}.", path=source)
        if folder.room:
            folder.room.take(known.st_size, 1, "target_path")
        folder.publish(name, target, inner=made, field="target_path", overwrite=True)
        return known.st_size


def _url(path: str) -> str:
    return f"file:{checked_path(path, 'file_path')}"


def _run(folder: Folder, command: list[str], wall_s: float, path: str) -> Ended:
    work = folder.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        ended = run_program(command, folder=work, wall_s=wall_s, output_bytes=_OUTPUT_BYTES)
    finally:
        os.close(work)
    if ended.timed_out:
        raise failed(f"ffmpeg took longer than {wall_s:g} s.", path=path)
    if ended.exit_code:
        said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1] if said else f"it ended with {ended.exit_code}"
        raise failed(f"{path} cannot be processed: {reason[-_REASON_LENGTH_MAX:]}", path=path)
    return ended
