"""archive-handler: makes, lists and extracts zip, tar and gzip archives."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.filesystem.archives import (
    FORMATS,
    Counter,
    Member,
    Reader,
    Writer,
    format_of,
    reading,
)
from services.runtime.toolbox.folder import Folder
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    ToolLimits,
    field_invalid,
    field_required,
    parameters,
)
from services.runtime.toolbox.paths import exists, not_found

_FILE_BYTES_MAX = 1024 * MIB


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation = arguments["operation"]
    do = {"extract": _extract, "create": _create, "list": _list}[operation]
    message, result = do(arguments, desk.folder)
    return Outcome(operation=operation, message=message, result=result)


def _list(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    path = arguments["path"]
    kind = format_of(path, arguments.get("format"))
    with folder.file(path) as file:
        counter = Counter(os.fstat(file.fileno()).st_size)
        with reading(kind, file, path) as reader:
            files = [_listed(member, counter) for member in reader.members()]
    result = {"format": kind, "files": files, "file_count": len(files)}
    return f"{path} holds {len(files)} entries", result


def _listed(member: Member, counter: Counter) -> dict[str, Any]:
    told: dict[str, Any] = {"name": counter.accept(member), "is_dir": member.is_folder}
    if member.size >= 0:
        told["size"] = member.size
    if member.stored is not None:
        told["compressed_size"] = member.stored
    return told


def _extract(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    path = arguments["path"]
    kind = format_of(path, arguments.get("format"))
    target = arguments.get("target_path") or _without_ending(path)
    with folder.file(path) as file, folder.drafting() as (draft, name):
        counter = Counter(os.fstat(file.fileno()).st_size)
        with reading(kind, file, path) as reader:
            count = _unpack(reader, draft, counter)
        _publish(folder, draft, name, target)
    result = {"extracted_files": count, "total_size": counter.total, "output_dir": target}
    return f"Extracted {count} files to {target}", result


def _unpack(reader: Reader, draft: Folder, counter: Counter) -> int:
    count = 0
    for member in reader.members():
        path = counter.accept(member)
        if path == ".":
            continue
        above = path if member.is_folder else str(PurePosixPath(path).parent)
        if above != ".":
            draft.make_folder(above, parents=True)
        if not member.is_folder:
            with reader.data(member) as source, draft.replacing(path, overwrite=False) as made:
                counter.copy(source, made, path)
            count += 1
    return count


def _publish(folder: Folder, draft: Folder, name: str, target: str) -> None:
    """As a whole where the target is not there, else entry by entry, where none is in the way."""
    plain = str(PurePosixPath(target))
    if plain != "." and folder.stat(target, field="target_path") is None:
        above = str(PurePosixPath(target).parent)
        if above != ".":
            folder.make_folder(above, parents=True, field="target_path")
        folder.publish(name, target, field="target_path")
        return
    entries = [entry.name for entry in draft.names(".")]
    places = {entry: entry if plain == "." else f"{plain}/{entry}" for entry in entries}
    for place in places.values():
        if folder.stat(place, field="target_path") is not None:
            raise exists(place, "target_path")
    for entry, place in places.items():
        folder.publish(name, place, inner=entry, field="target_path")


def _without_ending(path: str) -> str:
    """Where an archive goes if nobody says: a folder with its name."""
    plain = PurePosixPath(path)
    name = plain.name
    for ending in (".gz", ".bz2", ".xz", ".tar", ".tgz", ".zip"):
        name = name.removesuffix(ending)
    if not name or name == plain.name:
        raise field_required("target_path")
    return str(plain.parent / name)


def _create(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    path, level = arguments["path"], arguments["compression_level"]
    kind = format_of(path, arguments.get("format"))
    named = arguments.get("input")
    if not named:
        raise ToolError("FIELD_REQUIRED", "input must name files.", field="input")
    sources = [named] if isinstance(named, str) else named
    counter = Counter(0)
    with folder.replacing(path) as file, Writer(kind, file, level) as writer:
        if writer.holds_one and len(sources) > 1:
            raise field_invalid("input", "must be one file: gz holds no more; tar.gz does")
        count = sum(_add(folder, source, writer, counter) for source in sources)
    result = {
        "archive_path": path,
        "archived_files": count,
        "total_size": counter.total,
        "compression_level": level,
    }
    return f"Archived {count} files in {path}", result


def _add(folder: Folder, source: str, writer: Writer, counter: Counter) -> int:
    """Add a file, or a folder and all in it; tells how many files."""
    found = folder.stat(source, field="input")
    if found is None:
        raise not_found(source, "input")
    if not found.st_mode & 0o040000:
        return _add_file(folder, str(PurePosixPath(source)), writer, counter)
    if writer.holds_one:
        raise field_invalid("input", "must be a file: gz holds no folder; tar.gz does")
    count = 0
    for entry in folder.walk(source, field="input"):
        if entry.kind == "directory":
            counter.accept(Member(entry.path, is_folder=True, size=0))
            writer.add(entry.path, 0, entry.modify_time, None, counter)
        elif entry.kind == "file":
            count += _add_file(folder, entry.path, writer, counter)
    return count


def _add_file(folder: Folder, path: str, writer: Writer, counter: Counter) -> int:
    with folder.file(path, field="input") as file:
        known = os.fstat(file.fileno())
        counter.accept(Member(path, is_folder=False, size=known.st_size))
        writer.add(path, known.st_size, known.st_mtime, file, counter)
    return 1


TOOLS = (
    Tool(
        name="archive-handler",
        description="Makes, lists and extracts zip, tar and gzip archives.",
        category="filesystem",
        level=Level.RESTRICTED,
        needs=frozenset({Need.FILES}),
        limits=ToolLimits(wall_s=120.0, cpu_s=90, file_bytes=_FILE_BYTES_MAX),
        synonyms={
            "archive_path": "path",
            "archive": "path",
            "files": "input",
            "output_dir": "target_path",
            "destination": "target_path",
        },
        parameters=parameters(
            ("operation", "path"),
            operation={"enum": ["extract", "create", "list"], "description": "What to do."},
            path={"type": "string", "description": "The archive."},
            input={
                "type": ["array", "string"],
                "items": {"type": "string"},
                "description": "create: files and folders that go in, each with all it holds.",
            },
            target_path={
                "type": "string",
                "description": "extract: the folder to extract to, made where it is not there; "
                "without it one named like the archive.",
            },
            format={
                "enum": list(FORMATS),
                "description": "What the archive is; without it the ending of its name says so.",
            },
            compression_level={
                "type": "integer",
                "minimum": 0,
                "maximum": 9,
                "default": 6,
                "description": "create: 0 stores, 9 is smallest.",
            },
        ),
        result={
            "type": "object",
            "properties": {
                "extracted_files": {"description": "Files that were written.", "type": "integer"},
                "total_size": {"description": "Their bytes together.", "type": "integer"},
                "output_dir": {"description": "Where they are.", "type": "string"},
                "archive_path": {"description": "The archive that was made.", "type": "string"},
                "archived_files": {"description": "Files in it.", "type": "integer"},
                "compression_level": {"description": "How hard it was pressed.", "type": "integer"},
                "format": {"description": "Kind of archive.", "enum": list(FORMATS)},
                "files": {
                    "description": "Its members.",
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            "size": {"type": "integer"},
                            "compressed_size": {"type": "integer"},
                            "is_dir": {"type": "boolean"},
                        },
                        "required": ["name", "is_dir"],
                    },
                },
                "file_count": {"description": "How many those are.", "type": "integer"},
            },
        },
        notes="At most 10 000 members of 100 MiB, 1 GiB together, 32 folders deep, and 200 times "
        "the archive's size. Absolute names, `..`, links and devices are refused, and then nothing "
        "is extracted. A file that is there already is never replaced.",
        run=_run,
    ),
)
