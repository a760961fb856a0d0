"""video-processor: what a film is, pictures of it, and its sound."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

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
    parameters,
)

FILE_BYTES_MAX = 1024 * MIB
_PROBE_SECONDS = 30.0
_MAKE_SECONDS = 110.0
_PICTURES = {"png": "png", "jpg": "jpg", "jpeg": "jpg", "webp": "webp", "bmp": "bmp"}
_SOUNDS = {"wav": "wav", "mp3": "mp3", "ogg": "ogg", "flac": "flac", "m4a": "m4a"}


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    path = source_of(arguments)
    size = ffmpeg.checked_source(desk, path, FILE_BYTES_MAX)
    operation = arguments["operation"]
    result = _OPERATIONS[operation](arguments, desk, path, size)
    return Outcome(operation=operation, message=f"{operation} of {path}", result=result)


def _streams(known: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first of pictures and the first of sound; each may be empty."""
    found: dict[str, dict[str, Any]] = {"video": {}, "audio": {}}
    for stream in reversed(known.get("streams", [])):
        attached = stream.get("disposition", {}).get("attached_pic")
        if stream.get("codec_type") in found and not attached:
            found[stream["codec_type"]] = stream
    return found["video"], found["audio"]


def _film(desk: Desk, path: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    known = ffmpeg.probe(desk, path, wall_s=_PROBE_SECONDS)
    video, audio = _streams(known)
    if not video:
        raise failed(f"{path} is no film: it has no pictures.", path=path)
    return known.get("format", {}), video, audio


def _detect(arguments: Arguments, desk: Desk, path: str, size: int) -> dict[str, Any]:
    del arguments, size
    try:
        known, _, _ = _film(desk, path)
    except ToolError as error:
        if error.reason != "TOOL_FAILED":
            raise
        return unreadable(path)
    return {"file_path": path, "format": known.get("format_name", ""), "supported": True}


def _metadata(arguments: Arguments, desk: Desk, path: str, size: int) -> dict[str, Any]:
    del arguments
    known, video, audio = _film(desk, path)
    told: dict[str, Any] = {
        "format": known.get("format_name"),
        "duration_seconds": _number(known.get("duration")),
        "resolution": {"width": video.get("width", 0), "height": video.get("height", 0)},
        "fps": _rate(video.get("avg_frame_rate")),
        "video_bitrate": _whole(video.get("bit_rate") or known.get("bit_rate")),
        "audio_bitrate": _whole(audio.get("bit_rate")),
        "audio_channels": audio.get("channels"),
        "file_size": size,
        "video_codec": video.get("codec_name"),
        "audio_codec": audio.get("codec_name"),
    }
    return {name: value for name, value in told.items() if value is not None}


def _number(text: str | None) -> float | None:
    return round(float(text), 3) if text and text != "N/A" else None


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _rate(text: str | None) -> float | None:
    if not text or text.endswith("/0"):
        return None
    return round(float(Fraction(text)), 3)


def _thumbnail(arguments: Arguments, desk: Desk, path: str, size: int) -> dict[str, Any]:
    del size
    target, kind = _target(arguments, _PICTURES)
    known, _, _ = _film(desk, path)
    moment = arguments["timestamp_seconds"]
    length = _number(known.get("duration"))
    if length is not None and moment > length:
        raise field_invalid("timestamp_seconds", f"must be at most the film's {length} s")
    scale = f"scale='min({arguments['max_width']},iw)':-2"
    options = ("-ss", str(moment), "-an", "-frames:v", "1", "-vf", scale)
    made = ffmpeg.make(desk, path, target, options, kind, wall_s=_MAKE_SECONDS)
    return {"output_path": target, "timestamp_seconds": moment, "file_size": made}


def _extract_audio(arguments: Arguments, desk: Desk, path: str, size: int) -> dict[str, Any]:
    del size
    target, kind = _target(arguments, _SOUNDS)
    options = ("-vn", "-map", "0:a:0")
    made = ffmpeg.make(desk, path, target, options, kind, wall_s=_MAKE_SECONDS)
    return {"output_path": target, "format": kind, "file_size": made}


def _target(arguments: Arguments, known: dict[str, str]) -> tuple[str, str]:
    target = target_of(arguments)
    kind = known.get(ending_of(target))
    if kind is None:
        raise field_invalid("target_path", f"must end in one of {', '.join(known)}")
    return target, kind


_OPERATIONS: dict[str, Callable[[Arguments, Desk, str, int], dict[str, Any]]] = {
    "detect": _detect,
    "metadata": _metadata,
    "thumbnail": _thumbnail,
    "extract_audio": _extract_audio,
}

TOOLS = (
    Tool(
        name="video-processor",
        description="Tells what a film is; takes a picture or the sound out of it.",
        category="media",
        level=Level.SAFE,
        needs=frozenset({Need.FILES, Need.PROGRAMS}),
        limits=ToolLimits(wall_s=150.0, cpu_s=120, memory_bytes=1536 * MIB, file_bytes=1024 * MIB),
        synonyms={
            "input": "file_path",
            "path": "file_path",
            "output_path": "target_path",
            "timestamp": "timestamp_seconds",
        },
        parameters=parameters(
            (),
            operation={
                "enum": list(_OPERATIONS),
                "default": "metadata",
                "description": "What to do.",
            },
            file_path={"type": "string", "description": "The film."},
            source_path={"type": "string", "description": "The same."},
            target_path={"type": "string", "description": "Where what is made goes."},
            timestamp_seconds={
                "type": "number",
                "minimum": 0,
                "default": 0,
                "description": "thumbnail: of which moment.",
            },
            max_width={
                "type": "integer",
                "minimum": 16,
                "maximum": 4096,
                "default": 640,
                "description": "thumbnail: pixels at most.",
            },
        ),
        result={
            "type": "object",
            "properties": {
                "file_path": {"description": "The file.", "type": "string"},
                "format": {"description": "Its format.", "type": "string"},
                "supported": {"description": "Whether it can be read.", "type": "boolean"},
                "duration_seconds": {"description": "How long it is.", "type": "number"},
                "resolution": {"description": "`width` and `height` in pixels.", "type": "object"},
                "fps": {"description": "Pictures a second.", "type": "number"},
                "video_bitrate": {
                    "description": "Bits a second of the picture.",
                    "type": "integer",
                },
                "audio_bitrate": {"description": "Bits a second of the sound.", "type": "integer"},
                "audio_channels": {"description": "Channels of the sound.", "type": "integer"},
                "file_size": {"description": "Bytes.", "type": "integer"},
                "video_codec": {"description": "How the picture is coded.", "type": "string"},
                "audio_codec": {"description": "How the sound is coded.", "type": "string"},
                "output_path": {"description": "What was made.", "type": "string"},
                "timestamp_seconds": {
                    "description": "The moment of the picture.",
                    "type": "number",
                },
            },
        },
        notes="Needs ffmpeg. Films up to 1 GiB.",
        run=_run,
        unavailable=ffmpeg.missing,
    ),
)
