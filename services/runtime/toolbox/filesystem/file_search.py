"""file-search: finds text in files, line by line, in time that grows with the files only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import re2

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.folder import Folder, Found
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
    limit_exceeded,
    parameters,
)
from services.runtime.toolbox.paths import not_found, shown

MATCHES_MAX = 1000
FILES_MAX = 50_000
BYTES_MAX = 512 * MIB
PATTERN_BYTES_MAX = 4096
_LINE_BYTES_SHOWN = 500
_LINE_BYTES_MAX = MIB
_SKIPPED_TOLD = 100
_EXTENSIONS = [
    "txt",
    "md",
    "rs",
    "py",
    "js",
    "ts",
    "java",
    "cpp",
    "c",
    "h",
    "json",
    "xml",
    "yaml",
    "yml",
    "toml",
    "ini",
    "cfg",
    "conf",
    "log",
    "lua",
    "csv",
    "html",
    "css",
    "sh",
]
_DIRS = (".git", "node_modules", "target", "__pycache__", ".venv")
_PATTERN_MEMORY = 8 * MIB


@dataclass(slots=True)
class _Search:
    pattern: Any
    context: int
    most_of_file: int
    largest: int
    matches: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    skipped_count: int = 0
    files: int = 0
    size: int = 0

    @property
    def is_over(self) -> bool:
        """Whether enough was found or read."""
        full = len(self.matches) >= MATCHES_MAX
        return full or self.files >= FILES_MAX or self.size >= BYTES_MAX

    def skip(self, path: str, reason: str) -> None:
        """A file is left out."""
        self.skipped_count += 1
        if len(self.skipped) < _SKIPPED_TOLD:
            self.skipped.append({"file_path": shown(path), "reason": reason})

    def file(self, folder: Folder, found: Found) -> None:
        """Search one file."""
        if found.size_bytes > self.largest:
            self.skip(found.path, f"larger than {self.largest} bytes")
            return
        try:
            with folder.file(found.path) as file:
                if b"\0" in file.read(8192):
                    self.skip(found.path, "not text")
                    return
                file.seek(0)
                self.files += 1
                self.size += found.size_bytes
                self._lines(file, shown(found.path))
        except ToolError as error:
            self.skip(found.path, error.message)

    def _lines(self, file: BinaryIO, path: str) -> None:
        before: deque[str] = deque(maxlen=self.context)
        waiting: list[tuple[dict[str, Any], int]] = []
        count = 0
        for number, line in enumerate(_lines_of(file), 1):
            waiting = [_with_context(match, left, line) for match, left in waiting]
            waiting = [(match, left) for match, left in waiting if left]
            is_full = count >= self.most_of_file or len(self.matches) >= MATCHES_MAX
            if is_full and not waiting:
                return
            hit = None if is_full else self.pattern.search(line)
            if hit:
                count += 1
                match = _match(path, number, line, hit, list(before))
                self.matches.append(match)
                if self.context:
                    waiting.append((match, self.context))
            if self.context:
                before.append(_shown_line(line))


def _lines_of(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LINE_BYTES_MAX):
        yield line.rstrip(b"\r\n")


def _with_context(match: dict[str, Any], left: int, line: bytes) -> tuple[dict[str, Any], int]:
    match["context_after"].append(_shown_line(line))
    return match, left - 1


def _match(path: str, number: int, line: bytes, hit: Any, before: list[str]) -> dict[str, Any]:
    return {
        "file_path": path,
        "line_number": number,
        "column_number": len(line[: hit.start()].decode("utf-8", "replace")) + 1,
        "line_content": _shown_line(line),
        "matched_text": _shown_line(hit.group()),
        "context_before": before,
        "context_after": [],
    }


def _shown_line(line: bytes) -> str:
    text = line[:_LINE_BYTES_SHOWN].decode("utf-8", "replace")
    return text + "…" if len(line) > _LINE_BYTES_SHOWN else text


def _compiled(arguments: Arguments) -> Any:
    """The pattern, on bytes that are UTF-8."""
    pattern: str = arguments["pattern"]
    if not pattern:
        raise field_invalid("pattern", "must not be empty")
    if len(pattern.encode()) > PATTERN_BYTES_MAX:
        raise limit_exceeded("pattern", len(pattern.encode()), PATTERN_BYTES_MAX, "bytes")
    options = re2.Options()
    options.case_sensitive = arguments["case_sensitive"]
    options.literal = not arguments["use_regex"]
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as error:
        raise field_invalid("pattern", f"is no regular expression of RE2: {error}") from None


def _run(arguments: Arguments, desk: Desk) -> Outcome:
    search = _Search(
        pattern=_compiled(arguments),
        context=arguments["context_lines"],
        most_of_file=arguments.get("max_matches_per_file", MATCHES_MAX),
        largest=arguments["max_file_size"],
    )
    truncated = False
    for found in _files(arguments, desk.folder, search):
        if search.is_over:
            truncated = True
            break
        search.file(desk.folder, found)
    matches = search.matches
    truncated = truncated or len(matches) >= MATCHES_MAX
    summary = {
        "total_matches": len(matches),
        "files_searched": search.files,
        "files_skipped": search.skipped_count,
        "has_matches": bool(matches),
        "truncated": truncated,
    }
    result = {"matches": matches, "summary": summary, "skipped_files": search.skipped}
    message = f"Found {len(matches)} matches in {search.files} files"
    return Outcome(operation="search", message=message, result=result)


def _files(arguments: Arguments, folder: Folder, search: _Search) -> Iterator[Found]:
    """Which files are looked at."""
    path = arguments["path"]
    known = folder.stat(path)
    if known is None:
        raise not_found(path, "path")
    if not known.st_mode & 0o040000:
        yield Found.of(path, known)
        return
    wanted = _endings(arguments["include_extensions"])
    unwanted = _endings(arguments["exclude_extensions"])
    left_out = frozenset(arguments["exclude_dirs"])
    depth = arguments["max_depth"] if arguments["recursive"] else 1
    entries = folder.walk(path, depth_max=depth, enter=lambda each: each.name not in left_out)
    for found in entries:
        if found.kind != "file":
            continue
        ending = found.name.rsplit(".", 1)[-1].lower() if "." in found.name else ""
        if (wanted and ending not in wanted) or ending in unwanted:
            search.skip(found.path, "its ending is left out")
            continue
        yield found


def _endings(names: list[str]) -> frozenset[str]:
    return frozenset(name.lower().lstrip(".") for name in names)


def _list_of_text(description: str, default: list[str]) -> dict[str, Any]:
    return {
        "type": "array",
        "items": {"type": "string"},
        "default": default,
        "description": description,
    }


TOOLS = (
    Tool(
        name="file-search",
        description="Finds text or a regular expression in the tenant's files.",
        category="filesystem",
        level=Level.RESTRICTED,
        needs=frozenset({Need.FILES}),
        limits=ToolLimits(cpu_s=20),
        synonyms={"query": "pattern", "input": "pattern", "regex": "use_regex"},
        parameters=parameters(
            ("pattern",),
            pattern={"type": "string", "description": "What to find in a line."},
            path={"type": "string", "default": ".", "description": "File or folder to look in."},
            recursive={"type": "boolean", "default": True, "description": "Folders within too."},
            case_sensitive={
                "type": "boolean",
                "default": True,
                "description": "Whether `a` is not `A`.",
            },
            use_regex={
                "type": "boolean",
                "default": False,
                "description": "Whether `pattern` is a regular expression, in RE2's syntax.",
            },
            context_lines={
                "type": "integer",
                "minimum": 0,
                "maximum": 20,
                "default": 2,
                "description": "Lines before and after a match that come with it.",
            },
            include_extensions=_list_of_text(
                "Endings of files to look in; an empty list means all.", _EXTENSIONS
            ),
            exclude_extensions=_list_of_text("Endings of files to leave out.", []),
            exclude_dirs=_list_of_text("Names of folders to leave out.", list(_DIRS)),
            max_file_size={
                "type": "integer",
                "minimum": 1,
                "maximum": 100 * MIB,
                "default": 10 * MIB,
                "description": "Larger files are left out; bytes.",
            },
            max_matches_per_file={
                "type": "integer",
                "minimum": 1,
                "maximum": MATCHES_MAX,
                "description": "Most matches of one file.",
            },
            max_depth={
                "type": "integer",
                "minimum": 1,
                "maximum": 32,
                "default": 20,
                "description": "Levels of folders.",
            },
        ),
        result={
            "type": "object",
            "properties": {
                "matches": {
                    "description": "Place, line, text and lines around of each.",
                    "type": "array",
                },
                "summary": {
                    "description": "Counts of matches and files; `truncated`.",
                    "type": "object",
                },
                "skipped_files": {
                    "description": "Files that were not read, and why.",
                    "type": "array",
                },
            },
            "required": ["matches", "summary", "skipped_files"],
        },
        notes="At most 1000 matches, one for each line; `summary.truncated` tells that more may be "
        "there. Lines are shown up to 500 bytes, columns count characters from 1.",
        run=_run,
    ),
)
