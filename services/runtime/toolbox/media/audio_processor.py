"""audio-processor: what a sound file is, and other formats of it."""

from __future__ import annotations

import wave
from typing import Any

from tinytag import TinyTag, TinyTagException

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.media import ffmpeg
from services.runtime.toolbox.media.paths import ending_of, source_of, target_of, unreadable
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    ToolLimits,
    failed,
    field_invalid,
    not_implemented,
    parameters,
)
from services.runtime.toolbox.texts import ENCODINGS

FILE_BYTES_MAX = 500 * MIB
_CONVERT_SECONDS = 110.0
_FORMATS = ("wav", "mp3", "ogg", "opus", "flac", "m4a", "aiff", "wma")
_MADE = {"wav": "wav", "mp3": "mp3", "ogg": "ogg", "opus": "opus", "flac": "flac", "m4a": "m4a"}
_COPIED_FRAMES = 1 << 16
_TEXT_LENGTH_MAX = 1000
assert ENCODINGS  # loaded before the jail


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation = arguments["operation"]
    path = source_of(arguments)
    if operation == "convert":
        return _convert(arguments, desk, path)
    size = ffmpeg.checked_source(desk, path, FILE_BYTES_MAX)
    if operation == "detect":
        return _detect(desk, path)
    return Outcome(operation=operation, message=f"Read {path}", result=_metadata(desk, path, size))


def _detect(desk: Desk, path: str) -> Outcome:
    try:
        _tags(desk, path)
    except ToolError as error:
        if error.reason != "TOOL_FAILED":
            raise
        result = unreadable(path)
    else:
        result = {"file_path": path, "format": ending_of(path), "supported": True}
    return Outcome(operation="detect", message=f"{path} is {result['format']}", result=result)


def _tags(desk: Desk, path: str) -> TinyTag:
    if ending_of(path) not in _FORMATS:
        raise failed(f"{path} has none of the endings {', '.join(_FORMATS)}.", path=path)
    with desk.folder.file(path, field="file_path") as file:
        try:
            tags = TinyTag.get(filename=path, file_obj=file)
        except (ToolError, MemoryError):
            raise
        except (TinyTagException, Exception) as error:  # noqa: BLE001 - broken files raise anything
            raise failed(f"{path} cannot be read as sound: {error}.", path=path) from None
    if not tags.duration and not tags.samplerate:
        raise failed(f"{path} cannot be read as sound: it says nothing of itself.", path=path)
    return tags


def _metadata(desk: Desk, path: str, size: int) -> dict[str, Any]:
    tags = _tags(desk, path)
    told = {
        "format": ending_of(path),
        "duration_seconds": tags.duration and round(tags.duration, 3),
        "sample_rate": tags.samplerate,
        "channels": tags.channels,
        "bit_rate": tags.bitrate and round(tags.bitrate * 1000),
        "bit_depth": tags.bitdepth,
        "title": tags.title,
        "artist": tags.artist,
        "album": tags.album,
        "genre": tags.genre,
        "year": tags.year,
        "file_size": size,
    }
    return {name: _plain(value) for name, value in told.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_TEXT_LENGTH_MAX].encode("utf-8", "replace").decode()
    return value


def _convert(arguments: Arguments, desk: Desk, path: str) -> Outcome:
    target = target_of(arguments)
    kind = (arguments.get("target_format") or ending_of(target)).lower()
    if kind not in _MADE:
        raise field_invalid("target_format", f"must be one of {', '.join(_MADE)}")
    ffmpeg.checked_source(desk, path, FILE_BYTES_MAX)
    if kind == "wav" and ending_of(path) == "wav":
        size = _copy_wav(desk, path, target)
    elif ffmpeg.FFMPEG is None:
        text = f"audio-processor makes {kind} of {ending_of(path)} only where ffmpeg is installed."
        raise not_implemented(text)
    else:
        sound_only = ("-vn", "-map", "0:a:0")
        size = ffmpeg.make(desk, path, target, sound_only, _MADE[kind], wall_s=_CONVERT_SECONDS)
    result = {"source_path": path, "target_path": target, "format": kind, "file_size": size}
    return Outcome(operation="convert", message=f"Converted {path} to {target}", result=result)


def _copy_wav(desk: Desk, path: str, target: str) -> int:
    """The samples as they are, under a plain header."""
    with (
        desk.folder.file(path, field="file_path") as file,
        desk.folder.replacing(target, field="target_path") as made,
    ):
        try:
            with wave.open(file, "rb") as source, wave.open(made, "wb") as copy:
                copy.setparams(source.getparams())
                while frames := source.readframes(_COPIED_FRAMES):
                    copy.writeframes(frames)
        except (wave.Error, EOFError) as error:
            raise failed(f"{path} cannot be read as wav: {error}.", path=path) from None
        return made.seek(0, 2)


TOOLS = (
    Tool(
        name="audio-processor",
        description="Tells what a sound file is, and converts it.",
        category="media",
        level=Level.SAFE,
        needs=frozenset({Need.FILES, Need.PROGRAMS}),
        limits=ToolLimits(wall_s=120.0, cpu_s=100, memory_bytes=1024 * MIB, file_bytes=1024 * MIB),
        synonyms={"input": "file_path", "path": "file_path", "output_path": "target_path"},
        parameters=parameters(
            (),
            operation={
                "enum": ["detect", "metadata", "convert"],
                "default": "metadata",
                "description": "What to do.",
            },
            file_path={"type": "string", "description": "The sound."},
            source_path={"type": "string", "description": "The same."},
            target_path={"type": "string", "description": "convert: where the result goes."},
            target_format={
                "type": "string",
                "description": f"convert: one of {', '.join(_MADE)}; else the target's ending.",
            },
        ),
        result={
            "type": "object",
            "properties": {
                "file_path": {"description": "The file.", "type": "string"},
                "format": {"description": "Its format.", "type": "string"},
                "supported": {"description": "Whether it can be read.", "type": "boolean"},
                "duration_seconds": {"description": "How long it is.", "type": "number"},
                "sample_rate": {"description": "Samples a second.", "type": "integer"},
                "channels": {"description": "Channels.", "type": "integer"},
                "bit_rate": {"description": "Bits a second.", "type": "integer"},
                "bit_depth": {"description": "Bits of a sample.", "type": "integer"},
                "title": {
                    "description": "As its tags say, like those that follow.",
                    "type": "string",
                },
                "artist": {"description": "Artist.", "type": "string"},
                "album": {"description": "Album.", "type": "string"},
                "genre": {"description": "Genre.", "type": "string"},
                "year": {"description": "Year.", "type": "string"},
                "file_size": {"description": "Bytes.", "type": "integer"},
                "source_path": {"description": "What was converted.", "type": "string"},
                "target_path": {"description": "What was made.", "type": "string"},
            },
        },
        notes="Reads wav, mp3, ogg, opus, flac, m4a, aiff and wma up to 500 MiB. wav becomes wav "
        "everywhere; every other conversion needs ffmpeg, and is NOT_IMPLEMENTED without it.",
        run=_run,
    ),
)
