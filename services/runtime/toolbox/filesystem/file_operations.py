"""file-operations: read, write, list, copy, move and remove what is in the tenant's folder."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from typing import Any

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.folder import Folder, Found
from services.runtime.toolbox.model import (
    MIB,
    Arguments,
    Failure,
    Level,
    Need,
    Outcome,
    Tool,
    ToolError,
    ToolLimits,
    field_invalid,
    field_required,
    limit_exceeded,
    parameters,
    required,
)
from services.runtime.toolbox.paths import files_full, not_found, shown

ANSWER_BYTES_MAX = 1_900_000
"""Of a file's bytes in one answer, which must fit into a frame."""
FILE_BYTES_MAX = 1024 * MIB
LISTED_MAX = 10_000
LISTED_DEFAULT = 1_000


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    operation = arguments["operation"]
    do = _OPERATIONS[operation]
    try:
        message, result = do(arguments, desk.folder)
    except ToolError as error:
        if operation != "write":
            raise
        return Outcome(operation=operation, failure=_failure(error))
    return Outcome(operation=operation, message=message, result=result)


def _failure(error: ToolError) -> Failure:
    """A write that failed is an answer, as it always was; what is refused for ever says so."""
    kinds = {"PATH_REFUSED": "security_violation", "FIELD_REQUIRED": "validation_error"}
    kinds |= {"FIELD_INVALID": "validation_error", "LIMIT_EXCEEDED": "validation_error"}
    kind = kinds.get(error.reason, "execution_error")
    details = {**error.metadata, "error_type": kind, "reason": error.reason}
    return Failure(message=error.message, code=error.reason, details=details)


def _path(arguments: Arguments, name: str = "path") -> str:
    path: str = required(arguments, name)
    return path


def _data(arguments: Arguments) -> bytes:
    data = arguments.get("input")
    if data is None:
        raise field_required("input")
    if isinstance(data, bytes):
        return data
    if not isinstance(data, (str, int, float)):
        raise field_invalid("input", "must be text or bytes")
    return str(data).encode()


def _read(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    path, offset = _path(arguments), arguments["offset"]
    with folder.file(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = arguments.get("length", max(size - offset, 0))
        if length > ANSWER_BYTES_MAX:
            text = "bytes; read a part of it with offset and length"
            raise limit_exceeded(path, length, ANSWER_BYTES_MAX, text)
        file.seek(offset)
        data = file.read(length)
    content = text_or_bytes(data)
    result = {"input": content, "size": len(data), "file_size": size, "path": path}
    return f"Read {len(data)} bytes from {path}", result


def text_or_bytes(data: bytes) -> str | bytes:
    """Text where the bytes are UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _write(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    path, data = _path(arguments), _data(arguments)
    with folder.replacing(path, overwrite=arguments["overwrite"]) as file:
        file.write(data)
    return f"Wrote {len(data)} bytes to {path}", {"path": path, "size": len(data)}


def _append(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    path, data = _path(arguments), _data(arguments)
    folder.write(path, data, append=True)
    return f"Appended {len(data)} bytes to {path}", {"path": path, "appended_size": len(data)}


def _delete(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    path = _path(arguments)
    found = folder.stat(path)
    if found is None:
        raise not_found(path, "path")
    removed = folder.remove(path, recursive=arguments["recursive"])
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "file"
    return f"Deleted {kind}: {path}", {"path": path, "removed": removed}


def _create_dir(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    path, recursive = _path(arguments), arguments["recursive"]
    made = folder.make_folder(path, parents=recursive)
    result = {"path": path, "recursive": recursive, "created": made}
    return f"Created directory: {path}", result


def _list_dir(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    path = arguments.get("path", ".")
    found = folder.walk(path) if arguments["recursive"] else folder.entries(path)
    begin, most = arguments["offset"], arguments["limit"]
    entries = [entry_of(entry) for entry in itertools.islice(found, begin, begin + most)]
    more = sum(1 for _ in found)
    count = begin + len(entries) + more if entries else more
    result = {"entries": entries, "count": count, "truncated": more > 0}
    return f"Found {count} entries in {path}", result


def entry_of(found: Found) -> dict[str, Any]:
    """An entry of a folder, as callers see it."""
    return {
        "name": shown(found.name),
        "path": shown(found.path),
        "type": found.kind,
        "size": found.size_bytes,
        "modified": round(found.modify_time, 3),
    }


def _copy(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    source, target = _two_paths(arguments)
    size = folder.copy(source, target, overwrite=arguments["overwrite"])
    return f"Copied {source} to {target}", {"source": source, "target": target, "size": size}


def _move(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    source, target = _two_paths(arguments)
    folder.move(source, target, overwrite=arguments["overwrite"])
    return f"Moved {source} to {target}", {"source": source, "target": target}


def _two_paths(arguments: Arguments) -> tuple[str, str]:
    source = arguments.get("source_path") or _path(arguments)
    return source, _path(arguments, "target_path")


def _metadata(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    path = _path(arguments)
    found = folder.stat(path)
    if found is None:
        raise not_found(path, "path")
    result = {
        "path": path,
        "type": "directory" if stat.S_ISDIR(found.st_mode) else "file",
        "size": found.st_size,
        "readonly": not found.st_mode & stat.S_IWUSR,
        "created": round(found.st_ctime, 3),
        "modified": round(found.st_mtime, 3),
        "accessed": round(found.st_atime, 3),
    }
    return f"Retrieved metadata for {path}", result


def _exists(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    path = _path(arguments)
    is_there = folder.stat(path) is not None
    words = "exists" if is_there else "does not exist"
    return f"Path {path} {words}", {"path": path, "exists": is_there}


def _usage(arguments: Arguments, folder: Folder) -> tuple[str, Any]:
    del arguments
    size = count = 0
    for found in folder.walk():
        count += 1
        size += found.size_bytes if found.kind == "file" else 0
    room = folder.room
    if room is None:
        raise files_full("path", "disk")
    result = {
        "bytes_used": size,
        "bytes_left": room.bytes_left,
        "files_used": count,
        "files_left": room.files_left,
    }
    return f"{count} files and folders with {size} bytes", result


_OPERATIONS: dict[str, Callable[[Arguments, Folder], tuple[str, Any]]] = {
    "read": _read,
    "write": _write,
    "append": _append,
    "delete": _delete,
    "create_dir": _create_dir,
    "list_dir": _list_dir,
    "copy": _copy,
    "move": _move,
    "metadata": _metadata,
    "exists": _exists,
    "usage": _usage,
}

TOOLS = (
    Tool(
        name="file-operations",
        description="Reads, writes, lists, copies, moves and removes files of the tenant's folder.",
        category="filesystem",
        level=Level.PRIVILEGED,
        needs=frozenset({Need.FILES}),
        limits=ToolLimits(file_bytes=FILE_BYTES_MAX),
        synonyms={
            "content": "input",
            "data": "input",
            "text": "input",
            "file_path": "path",
            "source": "source_path",
            "from": "source_path",
            "destination": "target_path",
            "target": "target_path",
            "to": "target_path",
        },
        parameters=parameters(
            ("operation",),
            operation={"enum": list(_OPERATIONS), "description": "What to do."},
            path={
                "type": "string",
                "description": "File or folder, from the tenant's folder on, without `..`.",
            },
            input={"description": "Text or bytes to write or to append."},
            source_path={"type": "string", "description": "What to copy or to move."},
            target_path={"type": "string", "description": "Where it goes, with its new name."},
            recursive={
                "type": "boolean",
                "default": False,
                "description": "delete: all that a folder holds. create_dir: the folders above it. "
                "list_dir: all folders within.",
            },
            overwrite={
                "type": "boolean",
                "default": True,
                "description": "Whether write, copy and move may replace a file.",
            },
            offset={
                "type": "integer",
                "minimum": 0,
                "default": 0,
                "description": "read: first byte. list_dir: entries to leave out.",
            },
            length={
                "type": "integer",
                "minimum": 0,
                "maximum": ANSWER_BYTES_MAX,
                "description": "read: most bytes.",
            },
            limit={
                "type": "integer",
                "minimum": 1,
                "maximum": LISTED_MAX,
                "default": LISTED_DEFAULT,
                "description": "list_dir: most entries.",
            },
        ),
        result={
            "type": "object",
            "properties": {
                "path": {"description": "File or folder.", "type": "string"},
                "input": {"description": "read: text where it is UTF-8, bytes where it is not."},
                "size": {
                    "description": "Bytes that were read, written, or that it has.",
                    "type": "integer",
                },
                "file_size": {"description": "read: bytes of the whole file.", "type": "integer"},
                "appended_size": {
                    "description": "append: bytes that were added.",
                    "type": "integer",
                },
                "removed": {
                    "description": "delete: files and folders that are gone.",
                    "type": "integer",
                },
                "recursive": {
                    "description": "create_dir: whether folders above were made too.",
                    "type": "boolean",
                },
                "created": {
                    "description": "metadata: when it was made; create_dir: how many were.",
                    "type": "number",
                },
                "entries": {
                    "description": "list_dir: `name`, `path`, `type`, `size`, `modified` of each.",
                    "type": "array",
                },
                "count": {"description": "How many entries are told.", "type": "integer"},
                "truncated": {"description": "Whether there is more.", "type": "boolean"},
                "source": {"description": "What was copied or moved.", "type": "string"},
                "target": {"description": "Where it is now.", "type": "string"},
                "type": {
                    "description": "What it is.",
                    "enum": ["file", "directory", "symlink", "other"],
                },
                "readonly": {"description": "Whether it may not be written.", "type": "boolean"},
                "modified": {"description": "When it changed.", "type": "number"},
                "accessed": {"description": "When it was read.", "type": "number"},
                "exists": {"description": "Whether it is there.", "type": "boolean"},
                "bytes_used": {"description": "usage: bytes of all files.", "type": "integer"},
                "bytes_left": {
                    "description": "usage: bytes that there is room for.",
                    "type": "integer",
                },
                "files_used": {"description": "usage: files and folders.", "type": "integer"},
                "files_left": {
                    "description": "usage: how many more there may be.",
                    "type": "integer",
                },
            },
        },
        notes="Times are seconds since 1970. A write is all there or not at all; one that fails "
        "answers with `success` false, everything else that fails is an error. `usage` tells what "
        "the tenant's files take and what is left.",
        run=_run,
    ),
)
